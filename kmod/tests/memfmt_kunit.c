// SPDX-License-Identifier: GPL-2.0
#include "memfmt.h"

#include <linux/slab.h>
#include <linux/uio.h>

/* The format a node is being opened for; under qblk_control_mutex */
static struct memfmt *memfmt_opening;

static struct memfmt *memfmt_of(const struct qblk_node *node)
{
	return *(struct memfmt **)node->priv;
}

static int memfmt_drv_open(struct qblk_node *node, const void *opts,
			   struct qblk_err *err)
{
	struct memfmt **priv = node->priv;

	if (!memfmt_opening) {
		qblk_err_set(err, "node '%s': only for tests", node->name);
		return -EINVAL;
	}
	*priv = memfmt_opening;
	node->length = memfmt_opening->length;
	return 0;
}

static void memfmt_drv_close(struct qblk_node *node)
{
}

/* Blocks from @block on that one answer covers */
static unsigned int memfmt_run(const struct memfmt_block *block,
			       unsigned int max)
{
	unsigned int n;

	for (n = 1; n < max; n++) {
		if (block[n].type != block->type ||
		    block->type == QBLK_MAP_ENCODED)
			break;
		if (block->type == QBLK_MAP_DATA &&
		    block[n].offset != block->offset + n * MEMFMT_BLOCK)
			break;
	}
	return n;
}

static int memfmt_map(struct qblk_node *node, u64 offset, u64 bytes,
		      unsigned int flags, struct qblk_extent *ext)
{
	struct memfmt *fmt = memfmt_of(node);
	const struct memfmt_block *block = &fmt->blocks[offset / MEMFMT_BLOCK];
	u64 skip = offset % MEMFMT_BLOCK;
	u64 run;

	fmt->maps++;
	KUNIT_EXPECT_NE(fmt->test, 0, bytes);
	KUNIT_EXPECT_LE(fmt->test, offset + bytes, fmt->length);
	if (fmt->map_error)
		return fmt->map_error;
	if (fmt->not_cached && !(flags & QBLK_MAP_MAY_SLEEP))
		return -EAGAIN;
	if (flags & QBLK_MAP_WRITE && block->type != QBLK_MAP_DATA)
		return -EAGAIN;
	run = memfmt_run(block, DIV_ROUND_UP_ULL(skip + bytes, MEMFMT_BLOCK));
	ext->type = block->type;
	ext->child = node->file;
	ext->offset = block->offset + skip;
	ext->bytes = min(bytes, run * MEMFMT_BLOCK - skip);
	return 0;
}

/* One encoded block, or part of it */
static int memfmt_preadv(struct qblk_node *node, u64 offset, u64 bytes,
			 struct iov_iter *iter, unsigned int flags)
{
	struct memfmt *fmt = memfmt_of(node);
	const struct memfmt_block *block = &fmt->blocks[offset / MEMFMT_BLOCK];
	u64 skip = offset % MEMFMT_BLOCK;
	u8 *buf;
	u64 i;
	int ret;

	KUNIT_EXPECT_EQ(fmt->test, QBLK_MAP_ENCODED, block->type);
	KUNIT_EXPECT_LE(fmt->test, skip + bytes, MEMFMT_BLOCK);
	buf = kmalloc(bytes, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	ret = qblk_pread(node->file, block->offset + skip, bytes, buf);
	for (i = 0; i < bytes; i++)
		buf[i] = ~buf[i];
	if (!ret && copy_to_iter(buf, bytes, iter) != bytes)
		ret = -EFAULT;
	kfree(buf);
	return ret;
}

/* In place, nothing else */
static int memfmt_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
			  struct iov_iter *iter, unsigned int flags)
{
	struct memfmt *fmt = memfmt_of(node);

	KUNIT_EXPECT_FALSE(fmt->test, flags & QBLK_REQ_FUA);
	while (bytes) {
		const struct memfmt_block *block =
			&fmt->blocks[offset / MEMFMT_BLOCK];
		u64 skip = offset % MEMFMT_BLOCK;
		u64 n = min(bytes, MEMFMT_BLOCK - skip);
		int ret;

		if (block->type != QBLK_MAP_DATA)
			return -EIO;
		ret = qblk_pwritev(node->file, block->offset + skip, n, iter,
				   flags);
		if (ret)
			return ret;
		offset += n;
		bytes -= n;
	}
	return 0;
}

static int memfmt_flush_to_os(struct qblk_node *node)
{
	struct memfmt *fmt = memfmt_of(node);

	fmt->flushes++;
	if (fmt->leaf)
		fmt->leaf_flushes = fmt->leaf->count[MEMLEAF_FLUSH];
	return fmt->flush_error;
}

/* Any byte can be written, whatever the blocks of the file. */
static void memfmt_refresh_limits(struct qblk_node *node,
				  struct qblk_limits *lim)
{
	lim->request_alignment = 1;
	lim->logical_block_size = 512;
	lim->can_grow = false;
}

static struct qblk_driver memfmt_driver = {
	.name = MEMFMT_DRIVER,
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_FORMAT | QBLK_DRV_BACKING | QBLK_DRV_DATA_FILE,
	.instance_size = sizeof(struct memfmt *),
	.open = memfmt_drv_open,
	.close = memfmt_drv_close,
	.map = memfmt_map,
	.preadv = memfmt_preadv,
	.pwritev = memfmt_pwritev,
	.flush_to_os = memfmt_flush_to_os,
	.refresh_limits = memfmt_refresh_limits,
};

static struct qblk_driver memfmt_remap_driver = {
	.name = MEMFMT_REMAP_DRIVER,
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_FORMAT | QBLK_DRV_BACKING | QBLK_DRV_REMAPS,
	.instance_size = sizeof(struct memfmt *),
	.open = memfmt_drv_open,
	.close = memfmt_drv_close,
	.map = memfmt_map,
	.preadv = memfmt_preadv,
	.pwritev = memfmt_pwritev,
	.flush_to_os = memfmt_flush_to_os,
	.refresh_limits = memfmt_refresh_limits,
};

/**
 * memfmt_suite_init - make the drivers known, and that of the leaves
 * @suite: one that uses formats
 */
int memfmt_suite_init(struct kunit_suite *suite)
{
	int ret;

	ret = memleaf_suite_init(suite);
	if (ret)
		return ret;
	ret = qblk_register_driver(&memfmt_driver);
	if (ret)
		goto err_leaf;
	ret = qblk_register_driver(&memfmt_remap_driver);
	if (ret)
		goto err_fmt;
	return 0;

err_fmt:
	qblk_unregister_driver(&memfmt_driver);
err_leaf:
	memleaf_suite_exit(suite);
	return ret;
}

/**
 * memfmt_suite_exit - undo memfmt_suite_init()
 * @suite: the same
 */
void memfmt_suite_exit(struct kunit_suite *suite)
{
	qblk_unregister_driver(&memfmt_remap_driver);
	qblk_unregister_driver(&memfmt_driver);
	memleaf_suite_exit(suite);
}

/**
 * memfmt_alloc - a format, with nothing allocated, not opened yet
 * @test: case it belongs to
 * @length: bytes it shows
 */
struct memfmt *memfmt_alloc(struct kunit *test, u64 length)
{
	struct memfmt *fmt = kunit_kzalloc(test, sizeof(*fmt), GFP_KERNEL);
	unsigned int nr = DIV_ROUND_UP_ULL(length, MEMFMT_BLOCK);

	KUNIT_ASSERT_NOT_NULL(test, fmt);
	fmt->test = test;
	fmt->length = length;
	fmt->blocks = kunit_kcalloc(test, nr, sizeof(*fmt->blocks), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fmt->blocks);
	memfmt_set(fmt, 0, nr, QBLK_MAP_UNALLOCATED, 0);
	return fmt;
}

/**
 * memfmt_set - say where blocks are
 * @fmt: the format
 * @block: first block
 * @nr: how many
 * @type: of all of them
 * @offset: of the first; they are adjacent
 */
void memfmt_set(struct memfmt *fmt, unsigned int block, unsigned int nr,
		enum qblk_map_type type, u64 offset)
{
	for (; nr; nr--, block++, offset += MEMFMT_BLOCK) {
		fmt->blocks[block].type = type;
		fmt->blocks[block].offset = offset;
	}
}

/**
 * memfmt_try_open - open the node of a format
 * @fmt: the format
 * @driver: MEMFMT_DRIVER or MEMFMT_REMAP_DRIVER
 * @read_only: no writes
 * @file: where data is
 * @backing: what is below, or NULL
 *
 * Return: 0 or a negative errno.
 */
int memfmt_try_open(struct memfmt *fmt, const char *driver, bool read_only,
		    struct qblk_node *file, struct qblk_node *backing)
{
	struct qblk_opt opts[] = {
		{ .key = "read-only", .value = read_only ? "on" : "off" },
	};
	struct qblk_child_ref children[3] = {
		{ .name = "file", .node = file },
	};
	struct qblk_node_params p = {
		.driver = driver,
		.opts = opts,
		.nr_opts = ARRAY_SIZE(opts),
		.children = children,
		.nr_children = 1,
	};
	struct qblk_node *node;

	if (backing || fmt->no_backing)
		children[p.nr_children++] = (struct qblk_child_ref) {
			.name = "backing", .node = backing,
		};
	if (fmt->data_file)
		children[p.nr_children++] = (struct qblk_child_ref) {
			.name = "data-file", .node = fmt->data_file,
		};

	/* suites run one after the other */
	WRITE_ONCE(memfmt_opening, fmt);
	node = memleaf_node_open(fmt->test, &p, NULL);
	WRITE_ONCE(memfmt_opening, NULL);
	if (IS_ERR(node))
		return PTR_ERR(node);
	fmt->node = node;
	memleaf_edge_init(&fmt->edge, node);
	return 0;
}

/**
 * memfmt_open - memfmt_try_open() that is fatal for the case if it fails
 * @fmt: the format
 * @driver: MEMFMT_DRIVER or MEMFMT_REMAP_DRIVER
 * @read_only: no writes
 * @file: where data is
 * @backing: what is below, or NULL
 */
void memfmt_open(struct memfmt *fmt, const char *driver, bool read_only,
		 struct qblk_node *file, struct qblk_node *backing)
{
	KUNIT_ASSERT_EQ(fmt->test, 0, memfmt_try_open(fmt, driver, read_only,
						      file, backing));
}
