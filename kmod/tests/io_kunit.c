// SPDX-License-Identifier: GPL-2.0
/*
 * The blocking calls.  That a leaf only sees what it can take is checked by the
 * leaf itself, see memleaf.h.
 */
#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/string.h>
#include <linux/uio.h>

#include "../core/core.h"
#include "memfmt.h"

#define KB	1024ULL

#define IO_LENGTH	(128 * KB)

/**
 * struct io_cfg - what a leaf can do
 * @desc: in words
 * @align: its blocks
 * @dma: mask for addresses
 * @max_transfer: longest request
 * @zeroes: it writes zeroes
 */
struct io_cfg {
	const char *desc;
	u32 align;
	u32 dma;
	u32 max_transfer;
	bool zeroes;
};

static const struct io_cfg io_cfgs[] = {
	{ "bytes", 1, 0, 0, true },
	{ "512 byte blocks", 512, 511, 0, true },
	{ "512 byte blocks, any address", 512, 0, 0, false },
	{ "4 KiB blocks", 4096, 511, 0, true },
	{ "4 KiB blocks, aligned addresses", 4096, 4095, 0, false },
	{ "4 KiB blocks, 8 KiB requests", 4096, 3, 8 << 10, true },
	{ "4 KiB blocks, 32 KiB requests", 4096, 3, 32 << 10, true },
	{ "512 byte blocks, 17 KiB requests", 512, 3, 17 << 10, false },
	{ "16 KiB blocks", 16384, 511, 0, true },
};

KUNIT_ARRAY_PARAM_DESC(io_cfg, io_cfgs, desc);

/**
 * struct io_ctx - a leaf and what it should hold
 * @test: case
 * @leaf: the leaf
 * @model: its contents
 * @buf: for data, larger than the leaf
 */
struct io_ctx {
	struct kunit *test;
	struct memleaf *leaf;
	u8 *model;
	u8 *buf;
};

static struct io_ctx *io_create(struct kunit *test, u64 length, u64 capacity)
{
	const struct io_cfg *cfg = test->param_value;
	struct io_ctx *x = kunit_kzalloc(test, sizeof(*x), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, x);
	x->test = test;
	x->leaf = memleaf_alloc(test, length, capacity);
	x->leaf->limits.can_grow = capacity > length;
	if (cfg) {
		x->leaf->limits.request_alignment = cfg->align;
		x->leaf->limits.dma_alignment = cfg->dma;
		x->leaf->limits.max_transfer = cfg->max_transfer;
		x->leaf->limits.can_write_zeroes = cfg->zeroes;
		x->leaf->limits.pdiscard_alignment = cfg->align;
	}
	x->model = memleaf_valloc(test, capacity);
	x->buf = memleaf_valloc(test, capacity + PAGE_SIZE);
	return x;
}

static struct io_ctx *io_open(struct kunit *test)
{
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);

	memleaf_open(x->leaf, "kunit-file", false);
	return x;
}

static void io_fill(u8 *buf, u64 bytes, struct rnd_state *rnd)
{
	prandom_bytes_state(rnd, buf, bytes);
}

static void io_expect_model(struct io_ctx *x)
{
	KUNIT_EXPECT_EQ(x->test, 0, memcmp(x->leaf->data, x->model,
					   x->leaf->length));
}

/* Any bytes, from and to any address; now and then zeroes */
static void io_random_op(struct io_ctx *x, struct rnd_state *rnd)
{
	u64 offset = memleaf_random(rnd, IO_LENGTH);
	u64 bytes = 1 + memleaf_random(rnd, 40 * KB);
	u8 *buf = x->buf;

	bytes = min(bytes, IO_LENGTH - offset);
	if (memleaf_random(rnd, 2)) {
		offset = round_down(offset, 512);
		bytes = min(round_up(bytes, 512), IO_LENGTH - offset);
	}
	if (memleaf_random(rnd, 2))
		buf += memleaf_random(rnd, PAGE_SIZE);
	switch (memleaf_random(rnd, 5)) {
	case 0:
		KUNIT_ASSERT_EQ(x->test, 0,
				qblk_pwrite_zeroes(&x->leaf->edge, offset,
						   bytes, 0));
		memset(x->model + offset, 0, bytes);
		break;
	case 1:
	case 2:
		memset(buf, 0x5a, bytes);
		KUNIT_ASSERT_EQ(x->test, 0, qblk_pread(&x->leaf->edge, offset,
						       bytes, buf));
		KUNIT_ASSERT_EQ(x->test, 0, memcmp(x->model + offset, buf,
						   bytes));
		break;
	default:
		io_fill(buf, bytes, rnd);
		KUNIT_ASSERT_EQ(x->test, 0, qblk_pwrite(&x->leaf->edge, offset,
							bytes, buf, 0));
		memcpy(x->model + offset, buf, bytes);
		break;
	}
}

static void io_random(struct kunit *test)
{
	struct io_ctx *x = io_open(test);
	struct rnd_state rnd;
	int i;

	prandom_seed_state(&rnd, 3);
	io_fill(x->leaf->data, IO_LENGTH, &rnd);
	memcpy(x->model, x->leaf->data, IO_LENGTH);
	for (i = 0; i < 100; i++)
		io_random_op(x, &rnd);
	io_expect_model(x);
}

/* Vectors of odd pieces; the iterator is where it has to be afterwards */
static void io_vectors(struct kunit *test)
{
	struct io_ctx *x = io_open(test);
	u8 *page = (u8 *)kunit_kzalloc(test, 4 * PAGE_SIZE, GFP_KERNEL);
	struct bio_vec bv[4];
	struct iov_iter iter;
	struct rnd_state rnd;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, page);
	prandom_seed_state(&rnd, 4);
	io_fill(page, 4 * PAGE_SIZE, &rnd);
	for (i = 0; i < ARRAY_SIZE(bv); i++)
		bvec_set_page(&bv[i], virt_to_page(page + i * PAGE_SIZE),
			      1000 + 512 * i, 24 * i);
	iov_iter_bvec(&iter, ITER_SOURCE, bv, ARRAY_SIZE(bv), 4000 + 512 * 6);
	KUNIT_ASSERT_EQ(test, 0, qblk_pwritev(&x->leaf->edge, 300, 7000, &iter,
					      0));
	KUNIT_EXPECT_EQ(test, 72, iov_iter_count(&iter));
	iov_iter_bvec(&iter, ITER_SOURCE, bv, ARRAY_SIZE(bv), 7000);
	KUNIT_ASSERT_EQ(test, 7000, copy_from_iter(x->model + 300, 7000,
						   &iter));
	io_expect_model(x);

	memset(page, 0, 4 * PAGE_SIZE);
	iov_iter_bvec(&iter, ITER_DEST, bv, ARRAY_SIZE(bv), 4000 + 512 * 6);
	KUNIT_ASSERT_EQ(test, 0, qblk_preadv(&x->leaf->edge, 300, 7000, &iter,
					     0));
	KUNIT_EXPECT_EQ(test, 72, iov_iter_count(&iter));
	iov_iter_bvec(&iter, ITER_SOURCE, bv, ARRAY_SIZE(bv), 7000);
	KUNIT_ASSERT_EQ(test, 7000, copy_from_iter(x->buf, 7000, &iter));
	KUNIT_EXPECT_EQ(test, 0, memcmp(x->model + 300, x->buf, 7000));
}

/* What the leaf gets: no read for whole blocks, one read for each part of one */
static void io_read_modify_write(struct kunit *test)
{
	static const struct {
		u64 offset, bytes;
		unsigned int reads, writes;
	} cases[] = {
		{ 4096, 4096, 0, 1 },
		{ 4096, 3 * 4096, 0, 1 },
		{ 4096, 512, 1, 1 },
		{ 4608, 512, 1, 1 },
		{ 4608, 3584, 1, 1 },
		{ 4608, 4096, 2, 1 },
		{ 4000, 200, 2, 1 },
		{ 4608, 3584 + 4096, 1, 1 },
		{ 4096, 4096 + 1, 1, 2 },
	};
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *leaf = x->leaf;
	int i;

	leaf->limits.request_alignment = 4096;
	memleaf_open(leaf, "kunit-file", false);
	memset(x->buf, 0xa5, IO_LENGTH);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(leaf->count, 0, sizeof(leaf->count));
		memset(leaf->data, i, IO_LENGTH);
		memset(x->model, i, IO_LENGTH);
		memset(x->model + cases[i].offset, 0xa5, cases[i].bytes);
		KUNIT_ASSERT_EQ(test, 0, qblk_pwrite(&leaf->edge,
						     cases[i].offset,
						     cases[i].bytes, x->buf,
						     0));
		KUNIT_EXPECT_EQ_MSG(test, cases[i].reads,
				    leaf->count[MEMLEAF_READ], "case %d", i);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].writes,
				    leaf->count[MEMLEAF_WRITE], "case %d", i);
		io_expect_model(x);
	}
}

/* A part of a block that cannot be read is not written either. */
static void io_rmw_read_error(struct kunit *test)
{
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *leaf = x->leaf;

	leaf->limits.request_alignment = 4096;
	memleaf_open(leaf, "kunit-file", false);
	memset(x->buf, 0xa5, IO_LENGTH);
	/* the block at the start, then that at the end */
	memleaf_fail(leaf, BIT(MEMLEAF_READ), 0, 1, -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, qblk_pwrite(&leaf->edge, 512, 8192,
						      x->buf, 0));
	memleaf_fail(leaf, BIT(MEMLEAF_READ), 1, 1, -ENODATA);
	KUNIT_EXPECT_EQ(test, -ENODATA, qblk_pwrite(&leaf->edge, 512, 8192,
						    x->buf, 0));
	KUNIT_EXPECT_EQ(test, 0, leaf->count[MEMLEAF_WRITE]);
	io_expect_model(x);
	/* and the blocks are not kept from others */
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&leaf->edge, 512, 8192, x->buf,
					     0));
}

static void io_error(struct kunit *test)
{
	struct io_ctx *x = io_open(test);
	struct qblk_child *edge = &x->leaf->edge;

	memleaf_fail(x->leaf, BIT(MEMLEAF_READ), 0, 1, -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, -ETIMEDOUT, qblk_pread(edge, 100, 8192, x->buf));
	memleaf_fail(x->leaf, BIT(MEMLEAF_WRITE) | BIT(MEMLEAF_READ), 0, 1,
		     -ENOSPC);
	KUNIT_EXPECT_EQ(test, -ENOSPC, qblk_pwrite(edge, 100, 8192, x->buf,
						   0));
	memleaf_fail(x->leaf, BIT(MEMLEAF_WRITE) | BIT(MEMLEAF_ZERO), 0, 1,
		     -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, qblk_pwrite_zeroes(edge, 0, 65536,
							     0));
	memleaf_fail(x->leaf, BIT(MEMLEAF_FLUSH), 0, 1, -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, -ETIMEDOUT, qblk_flush(edge));
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(edge));
}

/* A file that ends inside of a block */
static void io_past_the_end(struct kunit *test)
{
	const struct io_cfg *cfg = test->param_value;
	u64 length = 50 * KB + 77;
	struct io_ctx *x = io_create(test, length, IO_LENGTH);
	struct qblk_child *edge = &x->leaf->edge;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 5);
	io_fill(x->leaf->data, length, &rnd);
	memcpy(x->model, x->leaf->data, length);
	memleaf_open(x->leaf, "kunit-file", false);

	memset(x->buf, 0x5a, 32 * KB);
	KUNIT_ASSERT_EQ(test, 0, qblk_pread(edge, 40 * KB, 32 * KB, x->buf));
	KUNIT_EXPECT_EQ(test, 0, memcmp(x->model + 40 * KB, x->buf, 32 * KB));
	memset(x->buf, 0x5a, 4096);
	KUNIT_ASSERT_EQ(test, 0, qblk_pread(edge, 1ULL << 50, 4096, x->buf));
	KUNIT_EXPECT_NULL(test, memchr_inv(x->buf, 0, 4096));

	/* the file grows: to the end of what is written, in blocks */
	memset(x->buf, 0xa5, 100);
	memset(x->model + 50 * KB + 50, 0xa5, 100);
	KUNIT_ASSERT_EQ(test, 0, qblk_pwrite(edge, 50 * KB + 50, 100, x->buf,
					     0));
	KUNIT_EXPECT_EQ(test, round_up(50 * KB + 150, cfg->align),
			x->leaf->length);
	io_expect_model(x);
	/* leaving a hole */
	memset(x->model + 90 * KB + 10, 0xa5, 100);
	KUNIT_ASSERT_EQ(test, 0, qblk_pwrite(edge, 90 * KB + 10, 100, x->buf,
					     0));
	io_expect_model(x);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(edge, 100 * KB, 4096, 0));
	KUNIT_EXPECT_GE(test, x->leaf->length, 104 * KB);
	io_expect_model(x);
}

static void io_ranges(struct kunit *test)
{
	struct io_ctx *x = io_open(test);
	struct qblk_child *edge = &x->leaf->edge;

	/* past the end of what cannot grow */
	KUNIT_EXPECT_EQ(test, -ENOSPC, qblk_pwrite(edge, IO_LENGTH, 512,
						   x->buf, 0));
	KUNIT_EXPECT_EQ(test, -ENOSPC, qblk_pwrite(edge, IO_LENGTH - 512, 1024,
						   x->buf, 0));
	KUNIT_EXPECT_EQ(test, -ENOSPC, qblk_pwrite_zeroes(edge, IO_LENGTH - 512,
							  1024, 0));
	/* what no file can have */
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pwrite(edge, U64_MAX - 511, 1024,
						x->buf, 0));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pwrite(edge, 1ULL << 63, 512, x->buf,
						0));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pwrite_zeroes(edge, 512, U64_MAX, 0));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pdiscard(edge, 512, U64_MAX));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(edge, U64_MAX - 511, 1024,
					       x->buf));
	/* nothing at all */
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(edge, 100, 0, x->buf, 0));
	KUNIT_EXPECT_EQ(test, 0, qblk_pread(edge, 100, 0, x->buf));
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(edge, 100, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, qblk_pdiscard(edge, 100, 0));
	KUNIT_EXPECT_EQ(test, 0, x->leaf->count[MEMLEAF_WRITE]);
	KUNIT_EXPECT_EQ(test, 0, x->leaf->count[MEMLEAF_ZERO]);
	KUNIT_EXPECT_EQ(test, 0, x->leaf->count[MEMLEAF_DISCARD]);
}

static void io_permissions(struct kunit *test)
{
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *rw = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	struct qblk_child *edge = &x->leaf->edge;

	memleaf_open(x->leaf, "kunit-ro", true);
	memleaf_open(rw, "kunit-rw", false);
	KUNIT_EXPECT_EQ(test, 0, qblk_pread(edge, 0, 512, x->buf));
	KUNIT_EXPECT_EQ(test, -EPERM, qblk_pwrite(edge, 0, 512, x->buf, 0));
	KUNIT_EXPECT_EQ(test, -EPERM, qblk_pwrite_zeroes(edge, 0, 512, 0));
	KUNIT_EXPECT_EQ(test, -EPERM, qblk_pdiscard(edge, 0, 512));
	/* there is nothing to be flushed */
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(edge));
	KUNIT_EXPECT_EQ(test, 0, x->leaf->count[MEMLEAF_FLUSH]);

	rw->edge.perm = QBLK_PERM_CONSISTENT_READ;
	KUNIT_EXPECT_EQ(test, -EPERM, qblk_pwrite(&rw->edge, 0, 512, x->buf,
						  0));
	rw->edge.perm |= QBLK_PERM_WRITE_UNCHANGED;
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&rw->edge, 0, 512, x->buf, 0));

	rw->node->dead = true;
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&rw->edge, 0, 512, x->buf));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pwrite(&rw->edge, 0, 512, x->buf, 0));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pwrite_zeroes(&rw->edge, 0, 512, 0));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pdiscard(&rw->edge, 0, 512));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_flush(&rw->edge));
	rw->node->dead = false;
}

/* Zeroes */

static void io_zeroes_fallback(struct kunit *test)
{
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	struct qblk_child *edge = &x->leaf->edge;

	x->leaf->limits.can_write_zeroes = false;
	memset(x->leaf->data, 0xff, IO_LENGTH);
	memset(x->model, 0xff, IO_LENGTH);
	memleaf_open(x->leaf, "kunit-file", false);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			qblk_pwrite_zeroes(edge, 0, IO_LENGTH,
					   QBLK_REQ_NO_FALLBACK));
	io_expect_model(x);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(edge, 1000, 100000, 0));
	memset(x->model + 1000, 0, 100000);
	io_expect_model(x);
}

/* Data that is all zero, up to its last byte */
static void io_detect_zeroes(struct kunit *test)
{
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *leaf = x->leaf;
	unsigned int nr = 0;

	memset(leaf->data, 0xff, IO_LENGTH);
	memset(x->model, 0xff, IO_LENGTH);
	memleaf_open(leaf, "kunit-file", false);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&leaf->edge, 0, 4096, x->buf, 0));
	KUNIT_EXPECT_EQ(test, 0, leaf->count[MEMLEAF_ZERO]);
	leaf->node->detect_zeroes = QBLK_DETECT_ZEROES_ON;
	memleaf_log_start(leaf);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&leaf->edge, 4096, 8192, x->buf,
					     0));
	KUNIT_EXPECT_EQ(test, MEMLEAF_ZERO, leaf->log[nr].type);
	KUNIT_EXPECT_EQ(test, 8192, leaf->log[nr].bytes);
	KUNIT_EXPECT_EQ(test, 0, leaf->log[nr++].flags);
	leaf->node->detect_zeroes = QBLK_DETECT_ZEROES_UNMAP;
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&leaf->edge, 12288, 512, x->buf,
					     0));
	KUNIT_EXPECT_EQ(test, MEMLEAF_ZERO, leaf->log[nr].type);
	KUNIT_EXPECT_EQ(test, QBLK_REQ_MAY_UNMAP, leaf->log[nr++].flags);
	memset(x->model, 0, 12288 + 512);

	x->buf[4095] = 1;
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&leaf->edge, 16384, 4096, x->buf,
					     0));
	KUNIT_EXPECT_EQ(test, MEMLEAF_WRITE, leaf->log[nr++].type);
	memcpy(x->model + 16384, x->buf, 4096);
	KUNIT_EXPECT_EQ(test, nr, leaf->log_nr);
	/* parts of blocks */
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&leaf->edge, 20001, 3000, x->buf,
					     0));
	memset(x->model + 20001, 0, 3000);
	io_expect_model(x);
}

/* Parts of blocks are written, or refused if that is not wanted. */
static void io_zeroes_unaligned(struct kunit *test)
{
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *leaf = x->leaf;

	leaf->limits.request_alignment = 4096;
	leaf->limits.max_pwrite_zeroes = 20 * KB;
	memset(leaf->data, 0xff, IO_LENGTH);
	memset(x->model, 0xff, IO_LENGTH);
	memleaf_open(leaf, "kunit-file", false);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			qblk_pwrite_zeroes(&leaf->edge, 512, 8192,
					   QBLK_REQ_NO_FALLBACK));
	io_expect_model(x);
	/* within one block, then ends of blocks and 15 blocks in three pieces */
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(&leaf->edge, 10, 20, 0));
	memset(x->model + 10, 0, 20);
	KUNIT_EXPECT_EQ(test, 0, leaf->count[MEMLEAF_ZERO]);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(&leaf->edge, 4095,
						    15 * 4096 + 2, 0));
	memset(x->model + 4095, 0, 15 * 4096 + 2);
	KUNIT_EXPECT_EQ(test, 3, leaf->count[MEMLEAF_ZERO]);
	io_expect_model(x);
	KUNIT_EXPECT_EQ(test, 0,
			qblk_pwrite_zeroes(&leaf->edge, 65536, 8192,
					   QBLK_REQ_NO_FALLBACK));
	KUNIT_EXPECT_EQ(test, 4, leaf->count[MEMLEAF_ZERO]);
}

static struct qblk_node *io_open_ignoring(struct kunit *test,
					  struct memleaf *leaf)
{
	struct qblk_opt opt = { .key = "discard", .value = "ignore" };
	struct qblk_child_ref file = { .name = "file", .node = leaf->node };
	struct qblk_node_params p = {
		.driver = "raw",
		.opts = &opt,
		.nr_opts = 1,
		.children = &file,
		.nr_children = 1,
	};

	return memleaf_node_open(test, &p, NULL);
}

/* With discard=ignore zeroes may not free space either. */
static void io_may_unmap(struct kunit *test)
{
	struct io_ctx *x = io_open(test);
	struct qblk_node *raw = io_open_ignoring(test, x->leaf);
	struct qblk_child edge;

	KUNIT_ASSERT_FALSE(test, IS_ERR(raw));
	memleaf_edge_init(&edge, raw);
	memleaf_log_start(x->leaf);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(&x->leaf->edge, 0, 4096,
						    QBLK_REQ_MAY_UNMAP));
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(&edge, 0, 4096,
						    QBLK_REQ_MAY_UNMAP));
	KUNIT_EXPECT_EQ(test, 0, qblk_pdiscard(&edge, 0, 4096));
	KUNIT_ASSERT_EQ(test, 2, x->leaf->log_nr);
	KUNIT_EXPECT_EQ(test, QBLK_REQ_MAY_UNMAP, x->leaf->log[0].flags);
	KUNIT_EXPECT_EQ(test, 0, x->leaf->log[1].flags);
}

/* Discard */

static void io_discard(struct kunit *test)
{
	static const struct {
		u64 offset, bytes, first, last;
	} cases[] = {
		{ 0, 8192, 0, 8192 },
		{ 512, 8192, 4096, 8192 },
		{ 1, 4096, 0, 0 },
		{ 4096, 4095, 0, 0 },
		{ 4095, 4097, 4096, 8192 },
		{ 4097, 8190, 0, 0 },
		{ 120 * KB, 1 << 20, 120 * KB, 128 * KB },
		{ 200 * KB, 1 << 20, 0, 0 },
	};
	struct io_ctx *x = io_create(test, IO_LENGTH, IO_LENGTH);
	int i;

	x->leaf->limits.pdiscard_alignment = 4096;
	memleaf_open(x->leaf, "kunit-file", false);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 first = cases[i].first;

		memset(x->leaf->data, 0xff, IO_LENGTH);
		memset(x->model, 0xff, IO_LENGTH);
		memset(x->model + first, MEMLEAF_DISCARDED,
		       cases[i].last - first);
		KUNIT_EXPECT_EQ(test, 0, qblk_pdiscard(&x->leaf->edge,
						       cases[i].offset,
						       cases[i].bytes));
		io_expect_model(x);
	}
	memleaf_fail(x->leaf, BIT(MEMLEAF_DISCARD), 0, 1, -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, qblk_pdiscard(&x->leaf->edge, 0,
							8192));
	/* who cannot has taken the hint all the same */
	memleaf_fail(x->leaf, BIT(MEMLEAF_DISCARD), 0, 1, -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, 0, qblk_pdiscard(&x->leaf->edge, 0, 8192));
}

/* Granularity that is no power of two, and a longest discard */
static void io_discard_pieces(struct kunit *test)
{
	struct io_ctx *x = io_create(test, 96 * KB, 96 * KB);

	x->leaf->limits.pdiscard_alignment = 3 * 4096;
	x->leaf->limits.max_pdiscard = 25000;
	memleaf_open(x->leaf, "kunit-file", false);
	memset(x->model, 0, 96 * KB);
	memset(x->model + 3 * 4096, MEMLEAF_DISCARDED, 15 * 4096);
	KUNIT_EXPECT_EQ(test, 0, qblk_pdiscard(&x->leaf->edge, 4096,
					       19 * 4096));
	io_expect_model(x);
	KUNIT_EXPECT_EQ(test, 3, x->leaf->count[MEMLEAF_DISCARD]);
}

/* Flush */

static void io_fua_leaf(struct kunit *test)
{
	struct memleaf *with = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *without = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	u8 *buf = memleaf_valloc(test, IO_LENGTH);
	unsigned int i;

	with->limits.fua = true;
	memleaf_open(with, "kunit-with", false);
	memleaf_open(without, "kunit-without", false);
	memleaf_log_start(with);
	memleaf_log_start(without);

	/* all pieces, also those through a buffer */
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&with->edge, 100, 70000, buf,
					     QBLK_REQ_FUA));
	KUNIT_EXPECT_EQ(test, 0, with->count[MEMLEAF_FLUSH]);
	for (i = 0; i < with->log_nr; i++)
		if (with->log[i].type == MEMLEAF_WRITE)
			KUNIT_EXPECT_EQ(test, QBLK_REQ_FUA, with->log[i].flags);

	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&without->edge, 0, 4096, buf,
					     QBLK_REQ_FUA));
	KUNIT_ASSERT_EQ(test, 2, without->log_nr);
	KUNIT_EXPECT_EQ(test, MEMLEAF_WRITE, without->log[0].type);
	KUNIT_EXPECT_EQ(test, MEMLEAF_FLUSH, without->log[1].type);

	/* zeroes: one flush, at the end */
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite_zeroes(&without->edge, 100, 9000,
						    QBLK_REQ_FUA));
	KUNIT_EXPECT_EQ(test, 2, without->count[MEMLEAF_FLUSH]);
	KUNIT_EXPECT_EQ(test, MEMLEAF_FLUSH,
			without->log[without->log_nr - 1].type);

	/* a write is not stable if the flush was not */
	memleaf_fail(without, BIT(MEMLEAF_FLUSH), 0, 2, -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, qblk_pwrite(&without->edge, 0, 4096,
						      buf, QBLK_REQ_FUA));
	KUNIT_EXPECT_EQ(test, -EREMOTEIO,
			qblk_pwrite_zeroes(&without->edge, 0, 4096,
					   QBLK_REQ_FUA));
}

/* A format's metadata is part of it, whatever the leaf can do. */
static void io_fua_format(struct kunit *test)
{
	struct memleaf *leaf = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	struct memfmt *fmt = memfmt_alloc(test, 64 * KB);
	u8 *buf = memleaf_valloc(test, 4096);

	leaf->limits.fua = true;
	memleaf_open(leaf, "kunit-file", false);
	memfmt_set(fmt, 0, 16, QBLK_MAP_DATA, 0);
	fmt->leaf = leaf;
	memfmt_open(fmt, MEMFMT_DRIVER, false, leaf->node, NULL);
	KUNIT_EXPECT_EQ(test, 0, qblk_pwrite(&fmt->edge, 0, 4096, buf,
					     QBLK_REQ_FUA));
	KUNIT_EXPECT_EQ(test, 1, fmt->flushes);
	/* the format first */
	KUNIT_EXPECT_EQ(test, 0, fmt->leaf_flushes);
	KUNIT_EXPECT_EQ(test, 1, leaf->count[MEMLEAF_FLUSH]);
}

static void io_flush_graph(struct kunit *test)
{
	struct memleaf *leaf = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *base = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	struct memfmt *low = memfmt_alloc(test, 64 * KB);
	struct memfmt *top = memfmt_alloc(test, 64 * KB);

	memleaf_open(leaf, "kunit-file", false);
	memleaf_open(base, "kunit-base", false);
	memfmt_open(low, MEMFMT_DRIVER, false, leaf->node, NULL);
	memfmt_open(top, MEMFMT_DRIVER, false, low->node, base->node);
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&top->edge));
	KUNIT_EXPECT_EQ(test, 1, top->flushes);
	KUNIT_EXPECT_EQ(test, 1, low->flushes);
	KUNIT_EXPECT_EQ(test, 1, leaf->count[MEMLEAF_FLUSH]);
	/* a backing file is not written through here */
	KUNIT_EXPECT_EQ(test, 0, base->count[MEMLEAF_FLUSH]);

	/* what could not be written need not be made stable */
	low->flush_error = -EREMOTEIO;
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, qblk_flush(&top->edge));
	KUNIT_EXPECT_EQ(test, 1, leaf->count[MEMLEAF_FLUSH]);
	low->flush_error = 0;
	memleaf_fail(leaf, BIT(MEMLEAF_FLUSH), 0, 1, -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, -ETIMEDOUT, qblk_flush(&top->edge));
}

/* Through a format: pieces of all kinds in one read */
static void io_read_format(struct kunit *test)
{
	struct memleaf *leaf = memleaf_alloc(test, IO_LENGTH, IO_LENGTH);
	struct memleaf *base = memleaf_alloc(test, 22 * KB, 24 * KB);
	struct memfmt *fmt = memfmt_alloc(test, 40 * KB);
	u8 *model = memleaf_valloc(test, 40 * KB);
	u8 *buf = memleaf_valloc(test, 40 * KB);
	struct rnd_state rnd;
	u64 i;

	prandom_seed_state(&rnd, 6);
	io_fill(leaf->data, IO_LENGTH, &rnd);
	io_fill(base->data, 22 * KB, &rnd);
	memcpy(model, base->data, 22 * KB);
	memfmt_set(fmt, 1, 2, QBLK_MAP_DATA, 64 * KB);
	memcpy(model + 4096, leaf->data + 64 * KB, 8192);
	memfmt_set(fmt, 3, 1, QBLK_MAP_ZERO, 0);
	memset(model + 12288, 0, 4096);
	memfmt_set(fmt, 7, 1, QBLK_MAP_ENCODED, 32 * KB);
	for (i = 0; i < 4096; i++)
		model[28 * KB + i] = ~leaf->data[32 * KB + i];
	memleaf_open(leaf, "kunit-file", false);
	memleaf_open(base, "kunit-base", true);
	memfmt_open(fmt, MEMFMT_REMAP_DRIVER, false, leaf->node, base->node);

	KUNIT_ASSERT_EQ(test, 0, qblk_pread(&fmt->edge, 0, 40 * KB, buf));
	KUNIT_EXPECT_EQ(test, 0, memcmp(model, buf, 40 * KB));
	for (i = 0; i < 100; i++) {
		u32 offset = memleaf_random(&rnd, 40 * KB - 1);
		u32 bytes = 1 + memleaf_random(&rnd, 40 * KB - offset);

		KUNIT_ASSERT_EQ(test, 0, qblk_pread(&fmt->edge, offset, bytes,
						    buf));
		KUNIT_EXPECT_EQ(test, 0, memcmp(model + offset, buf, bytes));
	}
	memleaf_fail(base, BIT(MEMLEAF_READ), 0, 1, -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, qblk_pread(&fmt->edge, 0, 40 * KB,
						     buf));
	fmt->map_error = -EIO;
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&fmt->edge, 0, 512, buf));
	/* nothing is held after any of this */
	qblk_node_io_sync(fmt->node);
}

/* Blocks of the limit's size are opened, larger ones are not. */
static void io_block_size(struct kunit *test)
{
	static const struct {
		u32 align;
		int ret;
	} cases[] = {
		{ 1, 0 },
		{ QBLK_BOUNCE_SIZE, 0 },
		{ 2 * QBLK_BOUNCE_SIZE, -EINVAL },
		{ 0, -EINVAL },
		{ 1536, -EINVAL },
	};
	struct qblk_err err = {};
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct memleaf *leaf = memleaf_alloc(test, IO_LENGTH,
						     IO_LENGTH);

		leaf->limits.request_alignment = cases[i].align;
		ret = memleaf_try_open(leaf, NULL, false, &err);
		KUNIT_EXPECT_EQ(test, cases[i].ret, ret);
		KUNIT_EXPECT_EQ(test, !ret, !err.msg[0]);
		err.msg[0] = '\0';
	}
}

static struct kunit_case io_kunit_cases[] = {
	KUNIT_CASE_PARAM(io_random, io_cfg_gen_params),
	KUNIT_CASE_PARAM(io_vectors, io_cfg_gen_params),
	KUNIT_CASE_PARAM(io_past_the_end, io_cfg_gen_params),
	KUNIT_CASE(io_read_modify_write),
	KUNIT_CASE(io_rmw_read_error),
	KUNIT_CASE(io_error),
	KUNIT_CASE(io_ranges),
	KUNIT_CASE(io_permissions),
	KUNIT_CASE(io_zeroes_fallback),
	KUNIT_CASE(io_detect_zeroes),
	KUNIT_CASE(io_zeroes_unaligned),
	KUNIT_CASE(io_may_unmap),
	KUNIT_CASE(io_discard),
	KUNIT_CASE(io_discard_pieces),
	KUNIT_CASE(io_fua_leaf),
	KUNIT_CASE(io_fua_format),
	KUNIT_CASE(io_flush_graph),
	KUNIT_CASE(io_read_format),
	KUNIT_CASE(io_block_size),
	{}
};

static struct kunit_suite io_kunit_suite = {
	.name = "qblk_io",
	.suite_init = memfmt_suite_init,
	.suite_exit = memfmt_suite_exit,
	.test_cases = io_kunit_cases,
};

kunit_test_suite(io_kunit_suite);
