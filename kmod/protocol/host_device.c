// SPDX-License-Identifier: GPL-2.0
/*
 * The host_device protocol: bios to a block device.
 *
 * The device is claimed, so that nobody mounts it or puts it into a RAID while
 * it is open here.  Writable nodes claim it for themselves.  Read-only ones
 * share one claim, since overlays of several disks may use one backing device;
 * a writable claim and that one exclude each other.
 *
 * I/O goes past the page cache of the device: what is in there at open is
 * written and dropped, and dropped again at close.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/fs.h>

#include <qblk/builtin.h>
#include <qblk/driver.h>

/* What a piece of I/O passes on of the flags of the bio above */
#define HD_OPF_MASK	((__force blk_opf_t)REQ_OP_MASK | REQ_FAILFAST_MASK | \
			 REQ_SYNC | REQ_META | REQ_PRIO | REQ_FUA |	\
			 REQ_IDLE | REQ_RAHEAD | REQ_BACKGROUND | REQ_SWAP)

/**
 * struct host_device - a host_device node
 * @b: the claimed device
 */
struct host_device {
	struct qblk_bdev b;
};

/* Token of the claim that all read-only nodes share */
static char read_only_holder;

static struct block_device *hd_bdev(const struct qblk_node *node)
{
	const struct host_device *hd = node->priv;

	return hd->b.bdev;
}

static int hd_claim(struct qblk_node *node, dev_t dev, struct qblk_err *err)
{
	struct host_device *hd = node->priv;
	void *holder = node->read_only ? (void *)&read_only_holder : node;
	int ret;

	ret = qblk_bdev_open(&hd->b, dev, !node->read_only, holder);
	if (ret == -EBUSY)
		qblk_err_set(err,
			     "node '%s': block device %u:%u is in use (mounted, or claimed by another user)",
			     node->name, MAJOR(dev), MINOR(dev));
	else if (ret)
		qblk_err_set(err,
			     "node '%s': block device %u:%u cannot be opened",
			     node->name, MAJOR(dev), MINOR(dev));
	return ret;
}

static int hd_check(struct qblk_node *node, struct qblk_err *err)
{
	struct block_device *bdev = hd_bdev(node);

	if (!node->read_only && bdev_read_only(bdev)) {
		qblk_err_set(err, "node '%s': %pg is write-protected",
			     node->name, bdev);
		return -EROFS;
	}
	if (bdev_is_zoned(bdev)) {
		qblk_err_set(err,
			     "node '%s': %pg is a zoned device, which is not supported",
			     node->name, bdev);
		return -EINVAL;
	}
	return 0;
}

static int hd_check_fd(struct qblk_node *node, struct qblk_err *err)
{
	struct file *file = node->fd_file;

	if (!S_ISBLK(file_inode(file)->i_mode)) {
		qblk_err_set(err, "node '%s': the file is not a block device",
			     node->name);
		return -ENOTBLK;
	}
	if (!(file->f_mode & FMODE_READ) ||
	    (!node->read_only && !(file->f_mode & FMODE_WRITE))) {
		qblk_err_set(err, "node '%s': the file is not open for %s",
			     node->name, node->read_only ? "reading" :
			     "reading and writing");
		return -EBADF;
	}
	return 0;
}

static int hd_open(struct qblk_node *node, const void *opts,
		   struct qblk_err *err)
{
	struct host_device *hd = node->priv;
	int ret;

	ret = hd_check_fd(node, err);
	if (ret)
		return ret;
	ret = hd_claim(node, file_inode(node->fd_file)->i_rdev, err);
	if (ret)
		return ret;
	ret = hd_check(node, err);
	if (!ret)
		ret = sync_blockdev(hd->b.bdev);
	if (ret) {
		qblk_bdev_close(&hd->b);
		return ret;
	}
	invalidate_bdev(hd->b.bdev);
	return 0;
}

static void hd_close(struct qblk_node *node)
{
	struct host_device *hd = node->priv;

	invalidate_bdev(hd->b.bdev);
	qblk_bdev_close(&hd->b);
}

static u64 hd_getlength(const struct qblk_node *node)
{
	return bdev_nr_bytes(hd_bdev(node));
}

static void hd_end_io(struct bio *bio)
{
	struct qblk_io *io = container_of(bio, struct qblk_io, bio);
	blk_status_t status = bio->bi_status;

	bio_uninit(bio);
	io->end_io(io, status);
}

/*
 * A device that can refuse instead of waiting (REQ_NOWAIT) does so by
 * completing with BLK_STS_AGAIN, which is what the submitter expects.
 */
static int hd_submit(struct qblk_node *node, struct qblk_io *io)
{
	struct block_device *bdev = hd_bdev(node);
	blk_opf_t mask = HD_OPF_MASK;

	if (io->opf & REQ_NOWAIT) {
		/* one that can only wait is left to the worker */
		if (!bdev_nowait(bdev))
			return -EAGAIN;
		mask |= REQ_NOWAIT;
	}
	if (bio_init_clone(bdev, &io->bio, io->src, GFP_NOWAIT))
		return -EAGAIN;
	io->bio.bi_iter = io->iter;
	io->bio.bi_iter.bi_sector = io->offset >> SECTOR_SHIFT;
	io->bio.bi_opf = io->opf & mask;
	io->bio.bi_end_io = hd_end_io;
	submit_bio_noacct(&io->bio);
	return 0;
}

/*
 * One bio over the caller's vector, however long: the block layer splits it
 * where the device wants, and the pieces are in flight together.
 */
static int hd_rw(struct qblk_node *node, blk_opf_t opf, u64 offset, u64 bytes,
		 struct iov_iter *iter)
{
	struct bio bio;
	int ret;

	bio_init(&bio, hd_bdev(node), (struct bio_vec *)iter->bvec, 0, opf);
	bio_set_flag(&bio, BIO_CLONED);
	bio.bi_iter.bi_sector = offset >> SECTOR_SHIFT;
	bio.bi_iter.bi_size = bytes;
	bio.bi_iter.bi_bvec_done = iter->iov_offset;
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	if (!ret)
		iov_iter_advance(iter, bytes);
	return ret;
}

static int hd_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		     struct iov_iter *iter, unsigned int flags)
{
	return hd_rw(node, REQ_OP_READ, offset, bytes, iter);
}

static int hd_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
		      struct iov_iter *iter, unsigned int flags)
{
	blk_opf_t opf = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;

	if (flags & QBLK_REQ_FUA)
		opf |= REQ_FUA;
	return hd_rw(node, opf, offset, bytes, iter);
}

/*
 * A request without data, in pieces of at most @max bytes.  The bio is on the
 * stack: blkdev_issue_zeroout() and its like take theirs from a pool that file
 * systems use as well, and those bios may be waiting for this one.
 */
static int hd_no_data(struct qblk_node *node, blk_opf_t opf, u64 offset,
		      u64 bytes, u64 max)
{
	struct bio bio;
	u64 n;
	int ret;

	for (; bytes; offset += n, bytes -= n) {
		n = min(bytes, max);
		bio_init(&bio, hd_bdev(node), NULL, 0, opf);
		bio.bi_iter.bi_sector = offset >> SECTOR_SHIFT;
		bio.bi_iter.bi_size = n;
		ret = submit_bio_wait(&bio);
		bio_uninit(&bio);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/* What one bio can say, in whole blocks of the device; 0 for nothing */
static u64 hd_max_no_data(struct qblk_node *node, unsigned int sectors)
{
	u64 max = min_t(u64, (u64)sectors << SECTOR_SHIFT, UINT_MAX);

	return round_down(max, (u64)bdev_logical_block_size(hd_bdev(node)));
}

static int hd_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			    unsigned int flags)
{
	unsigned int sectors = bdev_write_zeroes_sectors(hd_bdev(node));
	u64 max = hd_max_no_data(node, sectors);
	blk_opf_t opf = REQ_OP_WRITE_ZEROES;

	if (!max)
		return -EOPNOTSUPP;
	if (!(flags & QBLK_REQ_MAY_UNMAP))
		opf |= REQ_NOUNMAP;
	return hd_no_data(node, opf, offset, bytes, max);
}

static int hd_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	unsigned int sectors = bdev_max_discard_sectors(hd_bdev(node));
	u64 max = hd_max_no_data(node, sectors);

	if (!max)
		return -EOPNOTSUPP;
	return hd_no_data(node, REQ_OP_DISCARD, offset, bytes, max);
}

static int hd_flush_to_disk(struct qblk_node *node)
{
	return blkdev_issue_flush(hd_bdev(node));
}

static void hd_refresh_limits(struct qblk_node *node, struct qblk_limits *lim)
{
	struct block_device *bdev = hd_bdev(node);

	lim->request_alignment = bdev_logical_block_size(bdev);
	lim->logical_block_size = bdev_logical_block_size(bdev);
	lim->physical_block_size = bdev_physical_block_size(bdev);
	lim->dma_alignment = bdev_dma_alignment(bdev);
	lim->io_min = bdev_io_min(bdev);
	lim->io_opt = bdev_io_opt(bdev);
	lim->can_discard = bdev_max_discard_sectors(bdev);
	lim->max_pdiscard = (u64)bdev_max_discard_sectors(bdev) << SECTOR_SHIFT;
	lim->pdiscard_alignment = bdev_discard_granularity(bdev);
	lim->can_write_zeroes = bdev_write_zeroes_sectors(bdev);
	lim->fua = bdev_fua(bdev);
	lim->rotational = !bdev_nonrot(bdev);
	lim->stable_writes = bdev_stable_writes(bdev);
}

static void hd_get_specific_info(struct qblk_node *node,
				 struct qblk_info *info)
{
	char name[BDEVNAME_SIZE + 8];

	snprintf(name, sizeof(name), "%pg", hd_bdev(node));
	qblk_info_str(info, "device", name);
}

struct qblk_driver qblk_drv_host_device = {
	.name = "host_device",
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_PROTOCOL | QBLK_DRV_NEEDS_FD,
	.instance_size = sizeof(struct host_device),
	.open = hd_open,
	.close = hd_close,
	.submit = hd_submit,
	.preadv = hd_preadv,
	.pwritev = hd_pwritev,
	.pwrite_zeroes = hd_pwrite_zeroes,
	.pdiscard = hd_pdiscard,
	.flush_to_disk = hd_flush_to_disk,
	.getlength = hd_getlength,
	.refresh_limits = hd_refresh_limits,
	.get_specific_info = hd_get_specific_info,
	.get_bdev = hd_bdev,
};
