// SPDX-License-Identifier: GPL-2.0
/*
 * The file protocol: kiocbs to a regular file.
 *
 * Direct I/O where the file system has it and says how it has to be aligned:
 * then there is one copy of the data in memory, not two, and an I/O that does
 * not have to wait (IOCB_NOWAIT) goes out from whoever submits it.  Buffered
 * I/O otherwise, always from a worker.  The two are never mixed on one node: a
 * page written back could undo a direct write next to the bytes it was read
 * for.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/stat.h>
#include <linux/uio.h>

#include <qblk/builtin.h>
#include <qblk/driver.h>
#include <qblk/iter.h>

#include "append.h"

enum { DIRECT_AUTO, DIRECT_ON, DIRECT_OFF };

struct file_opts {
	u32 direct;
};

/**
 * struct file_node - a file node
 * @direct: I/O goes past the page cache
 * @aio: the file system can refuse instead of waiting
 * @no_punch: holes cannot be punched, as was found out
 * @no_zero_range: ranges cannot be zeroed, as was found out
 * @wb_err: what failed writes of pages looked like when the file was opened
 * @append: direct writes that make the file longer
 * @align: of offsets and lengths of direct I/O
 * @mem_align: of memory for direct I/O
 */
struct file_node {
	bool direct;
	bool aio;
	bool no_punch;
	bool no_zero_range;
	errseq_t wb_err;
	struct qblk_append append;
	u32 align;
	u32 mem_align;
};

static const char *const direct_words[] = { "auto", "on", "off", NULL };

static const struct qblk_opt_desc file_opt_table[] = {
	{
		.name = "cache.direct",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct file_opts, direct),
		.choices = direct_words,
		.def = DIRECT_AUTO,
		.help = "bypass the page cache (auto: if possible)",
	},
	{}
};

/* Opening */

static int file_refuse(struct qblk_node *node, int ret, const char *why,
		       struct qblk_err *err)
{
	qblk_err_set(err, "node '%s': the file %s", node->name, why);
	return ret;
}

static int file_check_write(struct qblk_node *node, struct qblk_err *err)
{
	struct file *file = node->fd_file;
	struct inode *inode = file_inode(file);

	if (!(file->f_mode & FMODE_WRITE) || !file->f_op->write_iter)
		return file_refuse(node, -EBADF, "is not open for writing",
				   err);
	if ((file->f_flags & O_APPEND) || IS_APPEND(inode))
		return file_refuse(node, -EPERM, "is append-only", err);
	if (IS_IMMUTABLE(inode))
		return file_refuse(node, -EPERM, "is immutable", err);
	return 0;
}

static int file_check(struct qblk_node *node, struct qblk_err *err)
{
	struct file *file = node->fd_file;
	struct inode *inode = file_inode(file);

	if (!S_ISREG(inode->i_mode))
		return file_refuse(node, -EINVAL, "is not a regular file",
				   err);
	if (IS_SWAPFILE(inode))
		return file_refuse(node, -ETXTBSY, "is in use as swap space",
				   err);
	if (!(file->f_mode & FMODE_READ) || !file->f_op->read_iter)
		return file_refuse(node, -EBADF, "is not open for reading",
				   err);
	return node->read_only ? 0 : file_check_write(node, err);
}

/* Ask the file system, or else take what its device wants */
static void file_get_dio_align(struct file *file, u32 *align, u32 *mem_align)
{
	struct block_device *bdev = file_inode(file)->i_sb->s_bdev;
	struct kstat stat;

	*align = 0;
	*mem_align = 0;
	if (!vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN,
			 AT_STATX_SYNC_AS_STAT) &&
	    (stat.result_mask & STATX_DIOALIGN)) {
		*align = stat.dio_offset_align;
		*mem_align = stat.dio_mem_align;
	} else if (bdev) {
		*align = bdev_logical_block_size(bdev);
		*mem_align = *align;
	}
}

static bool align_usable(u32 align)
{
	return is_power_of_2(align) && align <= PAGE_SIZE;
}

/*
 * Padding makes the last write to a file end with a whole block of direct I/O.
 * Up to a sector that is as good: disks end at a sector, and formats do not
 * care.  A file that ends inside of a larger block must not become longer.
 *
 * Return: why direct I/O cannot be used, or NULL.
 */
static const char *file_try_direct(struct qblk_node *node)
{
	struct file_node *f = node->priv;
	struct file *file = node->fd_file;

	if (!(file->f_mode & FMODE_CAN_ODIRECT))
		return "does not support direct I/O";
	file_get_dio_align(file, &f->align, &f->mem_align);
	if (!align_usable(f->align) || !align_usable(f->mem_align))
		return "is on a file system of unknown alignment";
	f->align = max_t(u32, f->align, SECTOR_SIZE);
	if (!node->read_only && f->align > SECTOR_SIZE &&
	    (i_size_read(file_inode(file)) & (f->align - 1)))
		return "does not end at a block of direct I/O";
	return NULL;
}

static int file_open(struct qblk_node *node, const void *opts,
		     struct qblk_err *err)
{
	const struct file_opts *o = opts;
	struct file_node *f = node->priv;
	const char *why;
	int ret;

	f->wb_err = filemap_sample_wb_err(node->fd_file->f_mapping);
	ret = file_check(node, err);
	if (ret || o->direct == DIRECT_OFF)
		return ret;
	why = file_try_direct(node);
	if (why && o->direct == DIRECT_ON) {
		qblk_err_set(err,
			     "node '%s': option 'cache.direct': 'on' is not possible, the file %s",
			     node->name, why);
		return -EINVAL;
	}
	f->direct = !why;
	f->aio = f->direct && (node->fd_file->f_mode & FMODE_NOWAIT);
	if (!f->direct || node->read_only)
		return 0;
	return qblk_append_init(&f->append, node);
}

static void file_close(struct qblk_node *node)
{
	struct file_node *f = node->priv;

	qblk_append_exit(&f->append);
}

static u64 file_getlength(const struct qblk_node *node)
{
	return i_size_read(file_inode(node->fd_file));
}

/* Asynchronous I/O */

/* Fewer bytes than asked for: past the end of the file, or do it again */
static blk_status_t file_short(struct qblk_io *io, long done)
{
	struct iov_iter iter;

	if (op_is_write(io->opf) ||
	    io->offset + done < qblk_node_length(io->leaf))
		return BLK_STS_AGAIN;
	qblk_io_iter(io, ITER_DEST, &iter);
	iov_iter_advance(&iter, done);
	iov_iter_zero(iov_iter_count(&iter), &iter);
	return BLK_STS_OK;
}

static void file_io_done(struct qblk_io *io, long ret)
{
	blk_status_t status = BLK_STS_OK;

	if (ret < 0)
		status = errno_to_blk_status(ret);
	else if (ret < io->iter.bi_size)
		status = file_short(io, ret);
	io->end_io(io, status);
}

/*
 * The file system may still look at the kiocb, and at the vector, when the I/O
 * has completed but the call that submitted it has not returned.  So both hold
 * a reference, and the last one reports.
 */
static void file_io_put(struct qblk_io *io)
{
	if (!refcount_dec_and_test(&io->iocb_ref))
		return;
	if (op_is_write(io->opf))
		kiocb_end_write(&io->iocb);
	file_io_done(io, io->iocb_ret);
}

static void file_io_complete(struct kiocb *iocb, long ret)
{
	struct qblk_io *io = container_of(iocb, struct qblk_io, iocb);

	io->iocb_ret = ret;
	file_io_put(io);
}

/* kiocb_start_write() for one who must not wait until the file system thaws */
static bool file_start_write_nowait(struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	/* ended in another context; as kiocb_start_write() */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	return true;
}

static ssize_t file_call(struct kiocb *iocb, struct iov_iter *iter, bool write)
{
	const struct file_operations *fop = iocb->ki_filp->f_op;

	return write ? fop->write_iter(iocb, iter) :
		       fop->read_iter(iocb, iter);
}

static void file_init_iocb(struct kiocb *iocb, struct qblk_io *io, bool write)
{
	memset(iocb, 0, sizeof(*iocb));
	iocb->ki_filp = io->leaf->fd_file;
	iocb->ki_pos = io->offset;
	iocb->ki_complete = file_io_complete;
	iocb->ki_ioprio = io->src->bi_ioprio;
	iocb->ki_flags = IOCB_DIRECT | IOCB_NOWAIT;
	if (write)
		iocb->ki_flags |= IOCB_WRITE;
	if (io->opf & REQ_FUA)
		iocb->ki_flags |= IOCB_DSYNC;
}

/*
 * What fails at once is left to the blocking path: it is not bound by
 * IOCB_NOWAIT, and its error is the one to report.
 */
static int file_submit(struct qblk_node *node, struct qblk_io *io)
{
	struct file_node *f = node->priv;
	bool write = op_is_write(io->opf);
	struct iov_iter iter;
	unsigned int noio;
	ssize_t ret;

	if (!f->aio)
		return -EAGAIN;
	qblk_io_iter(io, write ? ITER_SOURCE : ITER_DEST, &iter);
	if (!iov_iter_is_aligned(&iter, f->mem_align - 1, f->align - 1))
		return -EAGAIN;
	if (write && !file_start_write_nowait(node->fd_file))
		return -EAGAIN;
	file_init_iocb(&io->iocb, io, write);
	refcount_set(&io->iocb_ref, 2);

	noio = memalloc_noio_save();
	ret = file_call(&io->iocb, &iter, write);
	memalloc_noio_restore(noio);
	if (ret == -EIOCBQUEUED) {
		file_io_put(io);
		return 0;
	}
	if (write)
		kiocb_end_write(&io->iocb);
	if (ret < 0)
		return -EAGAIN;
	file_io_done(io, ret);
	return 0;
}

/* Blocking I/O */

static void file_init_sync(struct qblk_node *node, struct kiocb *iocb, u64 pos,
			   unsigned int flags)
{
	struct file_node *f = node->priv;

	init_sync_kiocb(iocb, node->fd_file);
	iocb->ki_pos = pos;
	iocb->ki_flags &= IOCB_DSYNC | IOCB_SYNC;
	if (f->direct)
		iocb->ki_flags |= IOCB_DIRECT;
	if (flags & QBLK_REQ_FUA)
		iocb->ki_flags |= IOCB_DSYNC;
}

static int file_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		       struct iov_iter *iter, unsigned int flags)
{
	struct kiocb iocb;
	ssize_t ret;

	file_init_sync(node, &iocb, offset, 0);
	while (iov_iter_count(iter)) {
		ret = 0;
		if (iocb.ki_pos < file_getlength(node))
			ret = file_call(&iocb, iter, false);
		if (ret < 0)
			return ret;
		if (ret)
			continue;
		/* at the end of the file, or the file system is stuck */
		if (iocb.ki_pos < file_getlength(node))
			return -EIO;
		iov_iter_zero(iov_iter_count(iter), iter);
	}
	return 0;
}

static int file_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
			struct iov_iter *iter, unsigned int flags)
{
	struct file *file = node->fd_file;
	struct kiocb iocb;
	ssize_t ret = 0;

	file_init_sync(node, &iocb, offset, flags);
	iocb.ki_flags |= IOCB_WRITE;
	file_start_write(file);
	while (iov_iter_count(iter)) {
		ret = file_call(&iocb, iter, true);
		if (!ret)
			ret = -EIO;
		if (ret < 0)
			break;
	}
	file_end_write(file);
	return ret < 0 ? ret : 0;
}

/* What goes through the page cache is joined there. */
static int file_append(struct qblk_node *node, struct qblk_append_io *io)
{
	struct file_node *f = node->priv;

	return f->append.wq ? qblk_append_start(&f->append, io) : -EAGAIN;
}

/* Try a mode of fallocate() that the file system may turn out not to have */
static int file_fallocate(struct qblk_node *node, int mode, u64 offset,
			  u64 bytes, bool *missing)
{
	int ret;

	if (READ_ONCE(*missing))
		return -EOPNOTSUPP;
	ret = vfs_fallocate(node->fd_file, mode, offset, bytes);
	if (ret == -EOPNOTSUPP)
		WRITE_ONCE(*missing, true);
	return ret;
}

static int file_punch(struct qblk_node *node, u64 offset, u64 bytes)
{
	struct file_node *f = node->priv;

	return file_fallocate(node, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      offset, bytes, &f->no_punch);
}

/* A hole does not make a file longer; what lies past the end is not punched */
static int file_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			      unsigned int flags)
{
	struct file_node *f = node->priv;
	int ret;

	if ((flags & QBLK_REQ_MAY_UNMAP) &&
	    offset + bytes <= file_getlength(node)) {
		ret = file_punch(node, offset, bytes);
		if (ret != -EOPNOTSUPP)
			return ret;
	}
	return file_fallocate(node, FALLOC_FL_ZERO_RANGE, offset, bytes,
			      &f->no_zero_range);
}

static int file_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	return file_punch(node, offset, bytes);
}

/*
 * Pages whose write failed are clean afterwards, and their data is lost, so no
 * later flush of a buffered file may succeed.  vfs_fsync() tells one caller of
 * it, be that another flush, a write with FUA or whoever handed the file over;
 * the mark taken when the file was opened tells every one.
 */
static int file_flush_to_disk(struct qblk_node *node)
{
	struct file_node *f = node->priv;
	int ret;

	/* changes of the size included, timestamps not */
	ret = vfs_fsync(node->fd_file, 1);
	if (!ret && !f->direct)
		ret = filemap_check_wb_err(node->fd_file->f_mapping,
					   f->wb_err);
	return ret;
}

static void file_refresh_limits(struct qblk_node *node,
				struct qblk_limits *lim)
{
	struct file_node *f = node->priv;
	struct inode *inode = file_inode(node->fd_file);
	struct block_device *bdev = inode->i_sb->s_bdev;
	u32 block = i_blocksize(inode);

	/*
	 * The logical block size stays that of a sector, whatever direct I/O
	 * wants: the image in the file was made without knowing where it would
	 * be stored, and its partition table counts in sectors.
	 */
	lim->request_alignment = f->direct ? f->align : 1;
	lim->dma_alignment = f->direct ? f->mem_align - 1 : 0;
	if (is_power_of_2(block) && block >= SECTOR_SIZE && block <= PAGE_SIZE)
		lim->physical_block_size = block;
	lim->pdiscard_alignment = lim->physical_block_size;
	lim->can_discard = node->fd_file->f_op->fallocate;
	lim->can_write_zeroes = node->fd_file->f_op->fallocate;
	lim->fua = true;
	lim->rotational = bdev && !bdev_nonrot(bdev);
	lim->submit_sleeps = true;
	lim->can_grow = true;
	/* direct I/O sends the pages of whoever is above */
	lim->stable_writes = f->direct &&
			     mapping_stable_writes(node->fd_file->f_mapping);
}

static void file_get_specific_info(struct qblk_node *node,
				   struct qblk_info *info)
{
	struct file_node *f = node->priv;

	qblk_info_bool(info, "cache.direct", f->direct);
	qblk_info_bool(info, "aio", f->aio);
	if (f->direct)
		qblk_info_u64(info, "request-alignment", f->align);
}

struct qblk_driver qblk_drv_file = {
	.name = "file",
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_PROTOCOL | QBLK_DRV_NEEDS_FD,
	.instance_size = sizeof(struct file_node),
	.opts = file_opt_table,
	.opts_size = sizeof(struct file_opts),
	.open = file_open,
	.close = file_close,
	.submit = file_submit,
	.preadv = file_preadv,
	.pwritev = file_pwritev,
	.append = file_append,
	.pwrite_zeroes = file_pwrite_zeroes,
	.pdiscard = file_pdiscard,
	.flush_to_disk = file_flush_to_disk,
	.getlength = file_getlength,
	.refresh_limits = file_refresh_limits,
	.get_specific_info = file_get_specific_info,
};
