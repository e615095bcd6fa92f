// SPDX-License-Identifier: GPL-2.0
/* Children of a format: a data file, and a backing file left out. */
#include <kunit/test.h>

#include "../core/core.h"
#include "memfmt.h"

#define CHILDREN_BYTES	65536U

/**
 * struct children_ctx - a format and the leaves it may use
 * @fmt: the format
 * @file: its metadata
 * @data: its data
 */
struct children_ctx {
	struct memfmt *fmt;
	struct memleaf *file;
	struct memleaf *data;
};

static struct memleaf *children_leaf(struct kunit *test)
{
	return memleaf_alloc(test, CHILDREN_BYTES, CHILDREN_BYTES);
}

static void children_init(struct kunit *test, struct children_ctx *x)
{
	x->fmt = memfmt_alloc(test, CHILDREN_BYTES);
	x->file = children_leaf(test);
	x->data = children_leaf(test);
}

static void children_open(struct children_ctx *x, bool read_only)
{
	memleaf_open(x->file, "file", false);
	memleaf_open(x->data, "data", false);
	x->fmt->data_file = x->data->node;
	memfmt_open(x->fmt, MEMFMT_DRIVER, read_only, x->file->node, NULL);
}

/* Roles and permissions are QEMU's. */
static void children_data_file(struct kunit *test)
{
	const u32 write = QBLK_PERM_WRITE | QBLK_PERM_RESIZE;
	struct children_ctx x;
	struct qblk_node *node;

	children_init(test, &x);
	children_open(&x, false);
	node = x.fmt->node;
	KUNIT_ASSERT_NOT_NULL(test, node->data_file);
	KUNIT_EXPECT_PTR_EQ(test, x.data->node, node->data_file->node);
	KUNIT_EXPECT_EQ(test, QBLK_CHILD_DATA, node->data_file->role);
	KUNIT_EXPECT_EQ(test, QBLK_CHILD_METADATA | QBLK_CHILD_PRIMARY,
			node->file->role);
	KUNIT_EXPECT_EQ(test, QBLK_PERM_CONSISTENT_READ | write,
			node->data_file->perm);
	KUNIT_EXPECT_EQ(test, QBLK_PERM_CONSISTENT_READ | write,
			node->file->perm);
	KUNIT_EXPECT_EQ(test, 0, node->data_file->shared_perm & write);
}

static void children_no_data_file(struct kunit *test)
{
	struct children_ctx x;

	children_init(test, &x);
	memleaf_open(x.file, "file", false);
	memfmt_open(x.fmt, MEMFMT_DRIVER, false, x.file->node, NULL);
	KUNIT_EXPECT_NULL(test, x.fmt->node->data_file);
	KUNIT_EXPECT_EQ(test, QBLK_CHILD_DATA | QBLK_CHILD_METADATA |
			QBLK_CHILD_PRIMARY, x.fmt->node->file->role);
}

static void children_read_only(struct kunit *test)
{
	struct children_ctx x;

	children_init(test, &x);
	memleaf_open(x.file, "file", false);
	memleaf_open(x.data, "data", true);
	x.fmt->data_file = x.data->node;
	/* A disk that cannot write its data is none that can write. */
	KUNIT_EXPECT_EQ(test, -EPERM,
			memfmt_try_open(x.fmt, MEMFMT_DRIVER, false,
					x.file->node, NULL));
	memfmt_open(x.fmt, MEMFMT_DRIVER, true, x.file->node, NULL);
	KUNIT_EXPECT_EQ(test, QBLK_PERM_CONSISTENT_READ,
			x.fmt->node->data_file->perm);
}

static void children_refused(struct kunit *test)
{
	struct children_ctx x;

	children_init(test, &x);
	memleaf_open(x.file, "file", false);
	x.fmt->data_file = x.file->node;
	/* A driver that knows no such child; two edges that write to one node */
	KUNIT_EXPECT_EQ(test, -EINVAL,
			memfmt_try_open(x.fmt, MEMFMT_REMAP_DRIVER, false,
					x.file->node, NULL));
	KUNIT_EXPECT_EQ(test, -EBUSY,
			memfmt_try_open(x.fmt, MEMFMT_DRIVER, false,
					x.file->node, NULL));
	KUNIT_EXPECT_TRUE(test, list_empty(&x.file->node->parents));
}

/* Requests go to the data file: what its device likes is what counts. */
static void children_limits(struct kunit *test)
{
	struct qblk_limits *lim;
	struct children_ctx x;

	children_init(test, &x);
	x.file->limits.request_alignment = 4096;
	x.file->limits.physical_block_size = 8192;
	x.file->limits.dma_alignment = 4095;
	x.file->limits.io_opt = 1 << 20;
	x.file->limits.rotational = true;
	x.file->limits.stable_writes = true;
	x.data->limits.physical_block_size = 4096;
	x.data->limits.dma_alignment = 511;
	x.data->limits.io_opt = 65536;
	children_open(&x, false);
	lim = &x.fmt->node->limits;
	KUNIT_EXPECT_EQ(test, 4096, lim->physical_block_size);
	KUNIT_EXPECT_EQ(test, 511, lim->dma_alignment);
	KUNIT_EXPECT_EQ(test, 65536, lim->io_opt);
	KUNIT_EXPECT_FALSE(test, lim->rotational);
	KUNIT_EXPECT_FALSE(test, lim->stable_writes);
}

/* A flush makes both stable, and tells of either's failure. */
static void children_flush(struct kunit *test)
{
	struct children_ctx x;

	children_init(test, &x);
	children_open(&x, false);
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&x.fmt->edge));
	KUNIT_EXPECT_EQ(test, 1, x.file->count[MEMLEAF_FLUSH]);
	KUNIT_EXPECT_EQ(test, 1, x.data->count[MEMLEAF_FLUSH]);
	memleaf_fail(x.data, BIT(MEMLEAF_FLUSH), 0, 1, -EIO);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_flush(&x.fmt->edge));
	memleaf_fail(x.file, BIT(MEMLEAF_FLUSH), 0, 1, -ENOSPC);
	KUNIT_EXPECT_EQ(test, -ENOSPC, qblk_flush(&x.fmt->edge));
	KUNIT_EXPECT_EQ(test, 3, x.data->count[MEMLEAF_FLUSH]);
}

static void children_left_out(struct kunit *test)
{
	struct children_ctx x;

	children_init(test, &x);
	memleaf_open(x.file, "file", false);
	memleaf_open(x.data, "data", false);
	x.fmt->no_backing = true;
	memfmt_open(x.fmt, MEMFMT_DRIVER, false, x.file->node, NULL);
	KUNIT_EXPECT_TRUE(test, x.fmt->node->no_backing);
	KUNIT_EXPECT_NULL(test, x.fmt->node->backing);

	/* The default is that nothing was said. */
	x.fmt = memfmt_alloc(test, CHILDREN_BYTES);
	memfmt_open(x.fmt, MEMFMT_DRIVER, false, x.data->node, NULL);
	KUNIT_EXPECT_FALSE(test, x.fmt->node->no_backing);
}

static struct kunit_case children_kunit_cases[] = {
	KUNIT_CASE(children_data_file),
	KUNIT_CASE(children_no_data_file),
	KUNIT_CASE(children_read_only),
	KUNIT_CASE(children_refused),
	KUNIT_CASE(children_limits),
	KUNIT_CASE(children_flush),
	KUNIT_CASE(children_left_out),
	{}
};

static struct kunit_suite children_kunit_suite = {
	.name = "qblk_children",
	.suite_init = memfmt_suite_init,
	.suite_exit = memfmt_suite_exit,
	.test_cases = children_kunit_cases,
};

kunit_test_suite(children_kunit_suite);
