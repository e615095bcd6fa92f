// SPDX-License-Identifier: GPL-2.0
/*
 * The raw format: a file as it is, or a part of it.
 *
 * Its length is exact in bytes, also where a file ends inside a sector: a disk
 * shows whole blocks of it, a format on top sees all of it.
 */
#include <linux/blk_types.h>
#include <linux/log2.h>
#include <linux/overflow.h>

#include <qblk/builtin.h>
#include <qblk/driver.h>

struct raw_opts {
	u64 offset;
	u64 size;
};

/**
 * struct raw - a raw node
 * @offset: of the disk in the file
 * @size: of the disk, 0 for all that follows @offset
 */
struct raw {
	u64 offset;
	u64 size;
};

static const struct qblk_opt_desc raw_opt_table[] = {
	{
		.name = "offset",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct raw_opts, offset),
		.max = LLONG_MAX,
		.multiple = SECTOR_SIZE,
		.help = "offset in the file where the disk starts",
	}, {
		.name = "size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct raw_opts, size),
		.max = LLONG_MAX,
		.multiple = SECTOR_SIZE,
		.help = "size of the disk, 0 for all that follows",
	},
	{}
};

static int raw_check(struct qblk_node *node, const struct raw_opts *o,
		     struct qblk_err *err)
{
	u64 len = qblk_node_length(node->file->node);
	u64 end;

	if (o->offset > len) {
		qblk_err_set(err,
			     "node '%s': offset (%llu) cannot be greater than size of the containing file (%llu)",
			     node->name, o->offset, len);
		return -EINVAL;
	}
	if (check_add_overflow(o->offset, o->size, &end) || end > len) {
		qblk_err_set(err,
			     "node '%s': the sum of offset (%llu) and size (%llu) has to be smaller or equal to the actual size of the containing file (%llu)",
			     node->name, o->offset, o->size, len);
		return -EINVAL;
	}
	return 0;
}

static int raw_open(struct qblk_node *node, const void *opts,
		    struct qblk_err *err)
{
	const struct raw_opts *o = opts;
	struct raw *r = node->priv;
	int ret;

	ret = raw_check(node, o, err);
	if (ret)
		return ret;
	r->offset = o->offset;
	r->size = o->size;
	return 0;
}

static void raw_close(struct qblk_node *node)
{
}

/*
 * Anything could be a raw image, so a header never says that one is: only the
 * user does.  QEMU guesses raw last, and a guest that writes another format's
 * header into its disk then chooses the host's files.  The lowest score makes
 * every other driver that knows the header win.
 */
static int raw_probe(const u8 *buf, size_t len, struct qblk_probe *p,
		     struct qblk_err *err)
{
	return 1;
}

static u64 raw_getlength(const struct qblk_node *node)
{
	const struct raw *r = node->priv;
	u64 len;

	if (r->size)
		return r->size;
	len = qblk_node_length(node->file->node);
	return len > r->offset ? len - r->offset : 0;
}

static int raw_map(struct qblk_node *node, u64 offset, u64 bytes,
		   unsigned int flags, struct qblk_extent *ext)
{
	const struct raw *r = node->priv;

	ext->type = QBLK_MAP_DATA;
	ext->child = node->file;
	ext->offset = r->offset + offset;
	ext->bytes = bytes;
	return 0;
}

static int raw_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
		       struct iov_iter *iter, unsigned int flags)
{
	const struct raw *r = node->priv;

	return qblk_pwritev(node->file, r->offset + offset, bytes, iter,
			    flags);
}

static int raw_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			     unsigned int flags)
{
	const struct raw *r = node->priv;

	return qblk_pwrite_zeroes(node->file, r->offset + offset, bytes,
				  flags);
}

static int raw_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	const struct raw *r = node->priv;

	return qblk_pdiscard(node->file, r->offset + offset, bytes);
}

/* The largest power of two up to @max that divides @offset and @size */
static u32 raw_block_size(u64 offset, u64 size, u32 max)
{
	u64 bits = offset | size | max;

	return bits & -bits;
}

static void raw_refresh_limits(struct qblk_node *node,
			       struct qblk_limits *lim)
{
	const struct qblk_limits *child = &node->file->node->limits;
	const struct raw *r = node->priv;
	u32 block = raw_block_size(r->offset, r->size,
				   lim->logical_block_size);

	/* the disk may be cut out of the file at any sector */
	if (block < lim->logical_block_size)
		lim->logical_block_size = SECTOR_SIZE;
	if (lim->request_alignment > SECTOR_SIZE)
		lim->request_alignment =
			raw_block_size(r->offset, r->size,
				       lim->request_alignment);
	lim->fua = child->fua;
	lim->can_grow = child->can_grow && !r->size;
}

static void raw_get_specific_info(struct qblk_node *node,
				  struct qblk_info *info)
{
	const struct raw *r = node->priv;

	if (r->offset)
		qblk_info_u64(info, "offset", r->offset);
	if (r->size)
		qblk_info_u64(info, "size", r->size);
}

struct qblk_driver qblk_drv_raw = {
	.name = "raw",
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_FORMAT,
	.instance_size = sizeof(struct raw),
	.opts = raw_opt_table,
	.opts_size = sizeof(struct raw_opts),
	.open = raw_open,
	.close = raw_close,
	.probe = raw_probe,
	.map = raw_map,
	.pwritev = raw_pwritev,
	.pwrite_zeroes = raw_pwrite_zeroes,
	.pdiscard = raw_pdiscard,
	.getlength = raw_getlength,
	.refresh_limits = raw_refresh_limits,
	.get_specific_info = raw_get_specific_info,
};
