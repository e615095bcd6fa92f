// SPDX-License-Identifier: GPL-2.0
/*
 * Whole images: what was written is what is read, and after the node was
 * closed every cluster has as many references as its refcount says.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

#define KB	1024ULL
#define MB	(1024 * KB)

static const struct image_cfg image_cfgs[] = {
	{
		.desc = "512 byte clusters, 16 bit refcounts",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 128 * KB,
	}, {
		.desc = "512 byte clusters, 1 bit refcounts",
		.version = 3, .cluster_bits = 9, .refcount_order = 0,
		.size = 128 * KB,
	}, {
		.desc = "512 byte clusters, 64 bit refcounts",
		.version = 3, .cluster_bits = 9, .refcount_order = 6,
		.size = 128 * KB,
	}, {
		.desc = "512 byte clusters, 4 KiB blocks",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 96 * KB, .align = 4096,
	}, {
		.desc = "512 byte clusters, version 2",
		.version = 2, .cluster_bits = 9, .refcount_order = 4,
		.size = 128 * KB,
	}, {
		.desc = "4 KiB clusters, 2 bit refcounts",
		.version = 3, .cluster_bits = 12, .refcount_order = 1,
		.size = 512 * KB,
	}, {
		.desc = "4 KiB clusters, 4 bit refcounts, 4 KiB blocks",
		.version = 3, .cluster_bits = 12, .refcount_order = 2,
		.size = 512 * KB, .align = 4096,
	}, {
		.desc = "4 KiB clusters, short backing file",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 512 * KB, .backing = 200 * KB + 700,
	}, {
		.desc = "4 KiB clusters, long backing file, version 2",
		.version = 2, .cluster_bits = 12, .refcount_order = 4,
		.size = 512 * KB, .backing = 600 * KB,
	}, {
		.desc = "64 KiB clusters, 16 bit refcounts",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB,
	}, {
		.desc = "64 KiB clusters, 32 bit refcounts, partial last cluster",
		.version = 3, .cluster_bits = 16, .refcount_order = 5,
		.size = 1 * MB - 3 * 512,
	}, {
		.desc = "64 KiB clusters, short backing file, partial last cluster",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB - 3 * 512, .backing = 500 * KB + 1,
	}, {
		.desc = "64 KiB clusters, a disk that cannot grow",
		.version = 3, .cluster_bits = 16, .refcount_order = 3,
		.size = 1 * MB, .fixed = 3 * MB,
	}, {
		.desc = "2 MiB clusters",
		.version = 3, .cluster_bits = 21, .refcount_order = 4,
		.size = 6 * MB,
	}, {
		.desc = "subclusters of 512 bytes",
		.version = 3, .cluster_bits = 14, .refcount_order = 4,
		.size = 512 * KB, .extl2 = true,
	}, {
		.desc = "subclusters of 512 bytes, 4 KiB blocks, short backing file",
		.version = 3, .cluster_bits = 14, .refcount_order = 4,
		.size = 512 * KB, .align = 4096, .backing = 200 * KB + 700,
		.extl2 = true,
	}, {
		.desc = "subclusters of 2 KiB, backing file, partial last cluster",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB - 3 * 512, .backing = 1 * MB,
		.extl2 = true,
	}, {
		.desc = "subclusters of 64 KiB",
		.version = 3, .cluster_bits = 21, .refcount_order = 3,
		.size = 6 * MB, .extl2 = true,
	}, {
		.desc = "data file, short backing file",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 512 * KB, .backing = 200 * KB + 700, .data_file = true,
	}, {
		.desc = "raw data file, 4 KiB blocks, partial last cluster",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB - 3 * 512, .align = 4096, .data_file = true,
		.raw = true,
	}, {
		.desc = "data file, subclusters",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB, .data_file = true, .extl2 = true,
	},
};

KUNIT_ARRAY_PARAM_DESC(image_cfg, image_cfgs, desc);

static u64 image_capacity(const struct image_cfg *cfg)
{
	return 3 * cfg->size + (16ULL << cfg->cluster_bits);
}

static const struct memleaf *image_leaf(const struct image *img,
					const struct qblk_node *node)
{
	if (node == img->leaf->node)
		return img->leaf;
	return img->data && node == img->data->node ? img->data : img->back;
}

/* Where tier 1 would read: the bytes there have to be the right ones. */
static void image_expect_map(struct image *img, u64 offset, u64 bytes)
{
	const struct memleaf *leaf;
	struct qblk_mapping m;
	const u8 *data;

	for (; bytes; offset += m.bytes, bytes -= m.bytes) {
		int ret = qblk_map(img->node, offset, bytes, 0, &m);

		if (ret == -EAGAIN)
			return;
		KUNIT_ASSERT_EQ(img->test, 0, ret);
		qblk_tracks_release(&m.tracks);
		KUNIT_ASSERT_NE(img->test, 0, m.bytes);
		KUNIT_ASSERT_LE(img->test, m.bytes, bytes);
		data = NULL;
		if (m.type == QBLK_MAP_DATA) {
			leaf = image_leaf(img, m.node);
			data = leaf->data + m.offset;
		}
		if (data ? memcmp(data, img->model + offset, m.bytes) :
			   !!memchr_inv(img->model + offset, 0, m.bytes))
			KUNIT_FAIL(img->test,
				   "wrong mapping of %llu bytes at 0x%llx",
				   m.bytes, offset);
	}
}

/* A range of the disk: at most @max bytes, now and then of whole sectors */
static void image_random_range(struct image *img, struct rnd_state *rnd,
			       u32 max, u64 *offset, u64 *bytes)
{
	u64 size = img->cfg->size;

	*bytes = 1 + memleaf_random(rnd, max);
	*offset = memleaf_random(rnd, size);
	if (memleaf_random(rnd, 2)) {
		*bytes = round_up(*bytes, IMAGE_SECTOR);
		*offset = round_down(*offset, IMAGE_SECTOR);
	}
	*bytes = min(*bytes, size - *offset);
}

static int image_random_op(struct image *img, struct rnd_state *rnd, u32 seed)
{
	u32 max = clamp(4 * img->cs, 8192U, 192U << 10);
	u64 offset, bytes;

	image_random_range(img, rnd, max, &offset, &bytes);
	switch (memleaf_random(rnd, 10)) {
	case 0:
		return image_zero(img, offset, bytes, 0);
	case 1:
		return image_zero(img, offset, bytes, QBLK_REQ_MAY_UNMAP);
	case 2:
		return image_discard(img, offset, bytes);
	case 3:
		return qblk_flush(&img->edge);
	case 4:
		image_expect_data(img, offset, bytes);
		return 0;
	case 5:
		offset = round_down(offset, IMAGE_SECTOR);
		image_expect_map(img, offset, round_down(bytes, IMAGE_SECTOR));
		return 0;
	default:
		return image_write(img, offset, bytes, seed);
	}
}

static void image_random_ops(struct image *img, u32 seed, unsigned int nr)
{
	struct rnd_state rnd;
	unsigned int i;

	prandom_seed_state(&rnd, seed);
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ_MSG(img->test, 0,
				    image_random_op(img, &rnd, seed + i),
				    "operation %u", i);
}

/* The data file by itself shows what the disk does. */
static void image_expect_raw(struct image *img)
{
	u64 length = img->data->length;
	u64 past = length - min(length, img->cfg->size);

	/* the last block of the file is written as a whole */
	KUNIT_EXPECT_LT(img->test, past, max(img->cfg->align, 1U));
	KUNIT_EXPECT_NULL(img->test, memchr_inv(img->data->data +
						img->cfg->size, 0, past));
	length -= past;
	KUNIT_EXPECT_MEMEQ(img->test, img->model, img->data->data, length);
	KUNIT_EXPECT_NULL(img->test, memchr_inv(img->model + length, 0,
						img->cfg->size - length));
}

static void image_random(struct kunit *test)
{
	const struct image_cfg *cfg = test->param_value;
	struct image *img = image_create(test, cfg, image_capacity(cfg));
	int round;

	for (round = 0; round < 4; round++) {
		image_open(img);
		img->start = round & 1;
		image_expect_data(img, 0, cfg->size);
		image_random_ops(img, 1000 * round + 1, 60);
		image_expect_data(img, 0, cfg->size);
		KUNIT_ASSERT_EQ(test, 0, image_close(img));
		image_expect_clean(img);
		if (cfg->raw)
			image_expect_raw(img);
	}
}

/* Who only looks changes nothing. */
static void image_untouched(struct kunit *test)
{
	const struct image_cfg *cfg = test->param_value;
	struct image *img = image_create(test, cfg, image_capacity(cfg));

	image_open(img);
	image_expect_data(img, 0, cfg->size);
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&img->edge));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	KUNIT_EXPECT_EQ(test, 0, img->leaf->count[MEMLEAF_WRITE]);
	KUNIT_EXPECT_EQ(test, 0, img->leaf->count[MEMLEAF_ZERO]);
	KUNIT_EXPECT_EQ(test, 0, img->leaf->count[MEMLEAF_DISCARD]);
	image_expect_clean(img);
}

/* Written from the start to the end, all of it discarded, written again */
static void image_sequential(struct kunit *test)
{
	const struct image_cfg *cfg = test->param_value;
	struct image *img = image_create(test, cfg, image_capacity(cfg));
	u32 step = max(img->cs / 2, 16U << 10);
	u64 pos, n;
	int round;

	image_open(img);
	for (round = 1; round <= 2; round++) {
		for (pos = 0; pos < cfg->size; pos += n) {
			n = min_t(u64, step, cfg->size - pos);
			KUNIT_ASSERT_EQ(test, 0,
					image_write(img, pos, n, round));
		}
		image_expect_data(img, 0, cfg->size);
		KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, cfg->size));
		image_expect_data(img, 0, cfg->size);
		KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	}
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Refcounts of 64 bits in clusters of 512 bytes soon outgrow their table. */
static const struct image_cfg image_growth_cfg = {
	.desc = "growth",
	.version = 3, .cluster_bits = 9, .refcount_order = 6,
	.size = 2304 * KB,
};

static void image_reftable_growth(struct kunit *test)
{
	const struct image_cfg *cfg = &image_growth_cfg;
	struct image *img = image_create(test, cfg, 2 * cfg->size);
	u64 pos;

	image_open(img);
	for (pos = 0; pos < cfg->size; pos += 32 * KB)
		KUNIT_ASSERT_EQ(test, 0, image_write(img, pos, 32 * KB, 1));
	image_random_ops(img, 5, 50);
	image_expect_data(img, 0, cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	/* it lies elsewhere and is larger */
	KUNIT_EXPECT_GT(test, get_unaligned_be64(img->leaf->data + 48), 512);
	KUNIT_EXPECT_GT(test, get_unaligned_be32(img->leaf->data + 56), 1);
	image_expect_clean(img);

	image_open(img);
	image_expect_data(img, 0, cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* Snapshots */

static const struct image_cfg image_snapshot_cfgs[] = {
	{
		.desc = "512 byte clusters",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 64 * KB,
	}, {
		.desc = "512 byte clusters, version 2",
		.version = 2, .cluster_bits = 9, .refcount_order = 4,
		.size = 64 * KB,
	}, {
		.desc = "4 KiB clusters, 2 bit refcounts",
		.version = 3, .cluster_bits = 12, .refcount_order = 1,
		.size = 256 * KB,
	}, {
		.desc = "64 KiB clusters, backing file",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB, .backing = 300 * KB,
	}, {
		.desc = "subclusters of 512 bytes, backing file",
		.version = 3, .cluster_bits = 14, .refcount_order = 4,
		.size = 512 * KB, .backing = 300 * KB, .extl2 = true,
	},
};

KUNIT_ARRAY_PARAM_DESC(image_snapshot, image_snapshot_cfgs, desc);

static void image_snapshot(struct kunit *test)
{
	const struct image_cfg *cfg = test->param_value;
	struct image *img = image_create(test, cfg, image_capacity(cfg));
	u8 *model = memleaf_valloc(test, cfg->size);

	image_open(img);
	image_random_ops(img, 1, 40);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_add_snapshot(img);
	memcpy(model, img->model, cfg->size);
	image_expect_clean(img);

	image_open(img);
	image_expect_data(img, 0, cfg->size);
	image_random_ops(img, 2, 80);
	image_expect_data(img, 0, cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
	KUNIT_EXPECT_TRUE(test, image_snapshot_is(img, model));
}

/* No space */

static const struct image_cfg image_full_cfgs[] = {
	{
		.desc = "512 byte clusters",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 128 * KB, .fixed = 64 * KB,
	}, {
		.desc = "64 KiB clusters",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 2 * MB, .fixed = 1 * MB,
	},
};

KUNIT_ARRAY_PARAM_DESC(image_full, image_full_cfgs, desc);

/* Until nothing goes; @pos is where */
static void image_write_until_full(struct image *img, u64 *pos, u32 seed)
{
	int ret = 0;

	for (*pos = 0; *pos < img->cfg->size; *pos += img->cs) {
		ret = image_write(img, *pos, img->cs, seed);
		if (ret)
			break;
	}
	KUNIT_EXPECT_EQ(img->test, -ENOSPC, ret);
}

static void image_full(struct kunit *test)
{
	const struct image_cfg *cfg = test->param_value;
	struct image *img = image_create(test, cfg, 0);
	u64 pos, again;

	image_open(img);
	image_write_until_full(img, &pos, 1);
	KUNIT_EXPECT_GT(test, pos, cfg->fixed / 2);
	image_expect_data(img, 0, cfg->size);
	/* in place still goes */
	KUNIT_EXPECT_EQ(test, 0, image_write(img, 0, pos, 2));

	/* freed clusters are there for the next write, without a flush */
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, 4 * img->cs));
	KUNIT_EXPECT_EQ(test, 0, image_write(img, pos, 3 * img->cs, 3));
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, cfg->size));
	image_write_until_full(img, &again, 4);
	KUNIT_EXPECT_GE(test, again, pos);
	image_expect_data(img, 0, cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Errors of the file */

static const struct image_cfg image_fail_cfg = {
	.desc = "errors",
	.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 96 * KB,
	.backing = 30 * KB,
};

/* Each type of operation fails at each of the first so many */
#define IMAGE_FAIL_POINTS	16

static const struct {
	const char *name;
	unsigned int types;
} image_fail_types[] = {
	{ "read", BIT(MEMLEAF_READ) },
	{ "write", BIT(MEMLEAF_WRITE) | BIT(MEMLEAF_ZERO) },
	{ "flush", BIT(MEMLEAF_FLUSH) },
};

static const u8 image_fails[ARRAY_SIZE(image_fail_types) * IMAGE_FAIL_POINTS];

static const void *image_fail_gen_params(const void *prev, char *desc)
{
	const u8 *next = prev ? (const u8 *)prev + 1 : image_fails;
	size_t i = next - image_fails;

	if (i >= ARRAY_SIZE(image_fails))
		return NULL;
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s %zu",
		 image_fail_types[i / IMAGE_FAIL_POINTS].name,
		 i % IMAGE_FAIL_POINTS);
	return next;
}

/* The parameter of the case: from which operation on, how many fail? */
static void image_fail_arm(struct image *img, unsigned int nr)
{
	size_t i = (const u8 *)img->test->param_value - image_fails;

	memleaf_fail(img->leaf, image_fail_types[i / IMAGE_FAIL_POINTS].types,
		     i % IMAGE_FAIL_POINTS, nr, -EIO);
}

/* A bit of everything; @step from 0 on.  Return: as the operation. */
static int image_fail_step(struct image *img, unsigned int step)
{
	u64 table = (u64)img->cs * img->cs / 8;

	switch (step) {
	case 0: /* new clusters, the head copied from the backing file */
		return image_write(img, 700, 3000, 10);
	case 1: /* in place */
		return image_write(img, 20 * KB + 100, 300, 11);
	case 2: /* a new L2 table */
		return image_write(img, 2 * table + 100, 5000, 12);
	case 3:
		return image_zero(img, 18 * KB, 3 * KB + 5, 0);
	case 4:
		return image_discard(img, 24 * KB, 4 * KB);
	case 5:
		return qblk_flush(&img->edge);
	case 6: /* into allocated zero clusters */
		return image_write(img, 19 * KB, 200, 13);
	case 7:
		return image_zero(img, 10 * KB, 20 * KB, QBLK_REQ_MAY_UNMAP);
	case 8:
		return image_write(img, 4 * KB, 40 * KB, 14);
	case 9:
		return qblk_flush(&img->edge);
	default:
		return -ENOENT;
	}
}

static struct image *image_fail_create(struct kunit *test, bool start)
{
	struct image *img = image_create(test, &image_fail_cfg, 512 * KB);

	img->start = start;
	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 16 * KB, 16 * KB, 1));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_open(img);
	return img;
}

/* One failure: the operation says so, and works when it is tried again. */
static void image_run_fail_once(struct kunit *test, bool start)
{
	struct image *img = image_fail_create(test, start);
	unsigned int step;
	int ret;

	image_fail_arm(img, 1);
	for (step = 0; step < 10; step++) {
		ret = image_fail_step(img, step);
		if (ret) {
			KUNIT_EXPECT_EQ(test, -EIO, ret);
			ret = image_fail_step(img, step);
		}
		KUNIT_ASSERT_EQ_MSG(test, 0, ret, "step %u", step);
	}
	image_fail_arm(img, 0);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_consistent(img);
	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* The file goes away for good, and comes back as it was left. */
static void image_run_fail_forever(struct kunit *test, bool start)
{
	struct image *img = image_fail_create(test, start);
	unsigned int step;

	image_fail_arm(img, UINT_MAX);
	for (step = 0; step < 10; step++)
		image_fail_step(img, step);
	if (image_close(img))
		memleaf_node_abandon(test, img->node);
	image_expect_consistent(img);
	image_fail_arm(img, 0);
	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static void image_fail_once(struct kunit *test)
{
	image_run_fail_once(test, false);
}

static void image_fail_forever(struct kunit *test)
{
	image_run_fail_forever(test, false);
}

/* What fails in a leaf's worker is tried once more. */
static void image_fail_once_start(struct kunit *test)
{
	image_run_fail_once(test, true);
}

static void image_fail_forever_start(struct kunit *test)
{
	image_run_fail_forever(test, true);
}

/* Threads that write next to each other */

#define IMAGE_THREADS	4

static const struct image_cfg image_thread_cfgs[] = {
	{
		.desc = "512 byte clusters, 4 KiB blocks",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 64 * KB, .align = 4096,
	}, {
		.desc = "4 KiB clusters",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 256 * KB,
	}, {
		.desc = "64 KiB clusters, backing file",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 1 * MB, .backing = 700 * KB,
	},
};

KUNIT_ARRAY_PARAM_DESC(image_thread, image_thread_cfgs, desc);

/**
 * struct image_thread - a thread with parts of the disk for itself
 * @t: the thread
 * @img: the image
 * @nr: of the first half of the disk, its sectors are those that leave this
 *	rest; of the second half, its clusters
 * @buf: a cluster
 */
struct image_thread {
	struct memleaf_thread t;
	struct image *img;
	u32 nr;
	u8 *buf;
};

static int image_thread_write(struct image_thread *it, u64 pos, u64 bytes,
			      u32 seed)
{
	struct image *img = it->img;

	image_fill(it->buf, pos, bytes, seed);
	memcpy(img->model + pos, it->buf, bytes);
	return image_pwrite(img, pos, bytes, it->buf);
}

static int image_thread_sector(struct image_thread *it, struct rnd_state *rnd,
			       u32 seed)
{
	struct image *img = it->img;
	u32 rows = img->cfg->size / 2 / IMAGE_SECTOR / IMAGE_THREADS;
	u64 pos = (memleaf_random(rnd, rows) * IMAGE_THREADS + it->nr) *
		  IMAGE_SECTOR;

	switch (memleaf_random(rnd, 6)) {
	case 0:
		memset(img->model + pos, 0, IMAGE_SECTOR);
		return qblk_pwrite_zeroes(&img->edge, pos, IMAGE_SECTOR, 0);
	case 1:
		return qblk_flush(&img->edge);
	default:
		return image_thread_write(it, pos, IMAGE_SECTOR, seed);
	}
}

static int image_thread_cluster(struct image_thread *it, struct rnd_state *rnd,
				u32 seed)
{
	struct image *img = it->img;
	u32 rows = img->cfg->size / 2 / img->cs / IMAGE_THREADS;
	u64 pos = img->cfg->size / 2 +
		  (memleaf_random(rnd, rows) * IMAGE_THREADS + it->nr) *
		  (u64)img->cs;

	switch (memleaf_random(rnd, 5)) {
	case 0:
		memset(img->model + pos, 0, img->cs);
		return qblk_pdiscard(&img->edge, pos, img->cs);
	case 1:
		memset(img->model + pos, 0, img->cs);
		return qblk_pwrite_zeroes(&img->edge, pos, img->cs,
					  QBLK_REQ_MAY_UNMAP);
	case 2:
		if (qblk_pread(&img->edge, pos, img->cs, it->buf))
			return -EIO;
		return memcmp(it->buf, img->model + pos, img->cs) ? -EBADMSG :
								    0;
	default:
		return image_thread_write(it, pos, img->cs, seed);
	}
}

static int image_thread_fn(struct memleaf_thread *t)
{
	struct image_thread *it = container_of(t, struct image_thread, t);
	struct rnd_state rnd;
	int i, ret = 0;

	prandom_seed_state(&rnd, 1 + it->nr);
	for (i = 0; i < 100 && !ret; i++) {
		u32 seed = 1 + i * IMAGE_THREADS + it->nr;

		if (memleaf_random(&rnd, 2))
			ret = image_thread_sector(it, &rnd, seed);
		else
			ret = image_thread_cluster(it, &rnd, seed);
	}
	return ret;
}

static void image_run_threads(struct kunit *test, bool start)
{
	const struct image_cfg *cfg = test->param_value;
	struct image *img = image_create(test, cfg, 2 * image_capacity(cfg));
	struct image_thread *it;
	int i;

	it = kunit_kcalloc(test, IMAGE_THREADS, sizeof(*it), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, it);
	image_open(img);
	img->start = start;
	for (i = 0; i < IMAGE_THREADS; i++) {
		it[i].t.fn = image_thread_fn;
		it[i].img = img;
		it[i].nr = i;
		it[i].buf = memleaf_valloc(test, img->cs);
	}
	for (i = 0; i < IMAGE_THREADS; i++)
		memleaf_thread_start(test, &it[i].t);
	for (i = 0; i < IMAGE_THREADS; i++) {
		wait_for_completion(&it[i].t.done);
		KUNIT_EXPECT_EQ(test, 0, it[i].t.ret);
	}
	image_expect_data(img, 0, cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

static void image_concurrent(struct kunit *test)
{
	image_run_threads(test, false);
}

/* What appends ends in a worker. */
static void image_concurrent_start(struct kunit *test)
{
	image_run_threads(test, true);
}

/* Copy on write */

static const struct image_cfg image_cow_cfg = {
	.desc = "copy on write",
	.version = 3, .cluster_bits = 16, .refcount_order = 4,
	.size = 1 * MB, .backing = 1 * MB,
};

/* What of a cluster is written, and how often it is looked at below */
static const struct image_cow_part {
	const char *desc;
	u64 offset;
	u64 bytes;
	unsigned int reads;
} image_cow_parts[] = {
	{ "a page in the middle", 20 * KB, 4 * KB, 1 },
	{ "bytes in the middle", 20 * KB + 7, 100, 1 },
	{ "the beginning", 0, 4 * KB, 1 },
	{ "the end", 60 * KB, 4 * KB, 1 },
	{ "more than half, in the middle", 8 * KB, 40 * KB, 2 },
	{ "all", 0, 64 * KB, 0 },
};

KUNIT_ARRAY_PARAM_DESC(image_cow_part, image_cow_parts, desc);

/* One write, and no more reads than it takes */
static void image_cow_once(struct kunit *test)
{
	const struct image_cow_part *part = test->param_value;
	struct image *img = image_create(test, &image_cow_cfg, 4 * MB);
	unsigned int reads, writes;
	int i;

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 64 * KB, 1));
	for (i = 1; i < 5; i++) {
		img->start = i & 1;
		reads = img->back->count[MEMLEAF_READ];
		writes = img->leaf->count[MEMLEAF_WRITE];
		KUNIT_ASSERT_EQ(test, 0,
				image_write(img, i * 64 * KB + part->offset,
					    part->bytes, 2));
		KUNIT_EXPECT_EQ(test, reads + part->reads,
				img->back->count[MEMLEAF_READ]);
		KUNIT_EXPECT_EQ(test, writes + 1,
				img->leaf->count[MEMLEAF_WRITE]);
	}
	image_expect_data(img, 0, image_cow_cfg.size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* What has to wait for what */

static const struct image_cfg image_order_cfg = {
	.desc = "order",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 256 * KB,
};

/**
 * struct image_op - an operation of a thread
 * @t: the thread
 * @img: the image
 * @offset: where
 * @bytes: how much; 0 for a flush
 * @seed: pattern to write, 0 for a discard
 */
struct image_op {
	struct memleaf_thread t;
	struct image *img;
	u64 offset;
	u64 bytes;
	u32 seed;
};

static int image_op_fn(struct memleaf_thread *t)
{
	struct image_op *op = container_of(t, struct image_op, t);
	u8 *buf;
	int ret;

	if (!op->bytes)
		return qblk_flush(&op->img->edge);
	if (!op->seed)
		return qblk_pdiscard(&op->img->edge, op->offset, op->bytes);
	buf = kvmalloc(op->bytes, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	image_fill(buf, op->offset, op->bytes, op->seed);
	ret = qblk_pwrite(&op->img->edge, op->offset, op->bytes, buf, 0);
	kvfree(buf);
	return ret;
}

static void image_op_start(struct image *img, struct image_op *op)
{
	op->t.fn = image_op_fn;
	op->img = img;
	memleaf_thread_start(img->test, &op->t);
}

static void image_op_expect_waiting(struct image_op *op)
{
	KUNIT_EXPECT_EQ(op->img->test, 0,
			wait_for_completion_timeout(&op->t.done, HZ / 20));
}

static void image_op_expect_done(struct image_op *op)
{
	wait_for_completion(&op->t.done);
	KUNIT_EXPECT_EQ(op->img->test, 0, op->t.ret);
}

/* An image with its first L2 table, so that the next write is one of data */
static struct image *image_order_create(struct kunit *test)
{
	struct image *img = image_create(test, &image_order_cfg, 1 * MB);

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 128 * KB, 512, 1));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	return img;
}

/* A cluster is allocated once, whoever else wants to write to it meanwhile. */
static void image_alloc_write_waits(struct kunit *test)
{
	struct image *img = image_order_create(test);
	struct image_op first = { .offset = 512, .bytes = 512, .seed = 2 };
	struct image_op same = { .offset = 2048, .bytes = 512, .seed = 3 };
	struct image_op next = { .offset = 4096, .bytes = 512, .seed = 4 };

	memleaf_hold(img->leaf, BIT(MEMLEAF_WRITE));
	image_op_start(img, &first);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(img->leaf, 1));
	image_op_start(img, &same);
	image_op_expect_waiting(&same);
	/* another cluster is no matter of it */
	image_op_start(img, &next);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(img->leaf, 2));
	memleaf_release(img->leaf);
	image_op_expect_done(&first);
	image_op_expect_done(&same);
	image_op_expect_done(&next);
	image_fill(img->model + 512, 512, 512, 2);
	image_fill(img->model + 2048, 2048, 512, 3);
	image_fill(img->model + 4096, 4096, 512, 4);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* A discard comes after the writes before it, not in the middle of one. */
static void image_alloc_discard_waits(struct kunit *test)
{
	struct image *img = image_order_create(test);
	struct image_op write = { .offset = 4096, .bytes = 4096, .seed = 2 };
	struct image_op discard = { .offset = 0, .bytes = 16384 };

	memleaf_hold(img->leaf, BIT(MEMLEAF_WRITE));
	image_op_start(img, &write);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(img->leaf, 1));
	image_op_start(img, &discard);
	image_op_expect_waiting(&discard);
	memleaf_release(img->leaf);
	image_op_expect_done(&write);
	image_op_expect_done(&discard);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Of two slices in one L2 table */
static const struct image_cfg image_slices_cfg = {
	.desc = "two slices",
	.version = 3, .cluster_bits = 13, .refcount_order = 4,
	.size = 8 * MB,
};

/* A discard does not wait for a write it has not come to yet. */
static void image_alloc_discard_goes_on(struct kunit *test)
{
	struct image *img = image_create(test, &image_slices_cfg, 1 * MB);
	struct image_op write = { .offset = 5 * MB, .bytes = 8192, .seed = 2 };
	struct image_op discard = { .offset = 0, .bytes = 8 * MB };
	int i;

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 8192, 1));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	memleaf_hold(img->leaf, BIT(MEMLEAF_WRITE));
	image_op_start(img, &write);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(img->leaf, 1));
	image_op_start(img, &discard);
	image_op_expect_waiting(&discard);
	memset(img->model, 0, 8192);
	for (i = 0; i < 100; i++) {
		KUNIT_ASSERT_EQ(test, 0, qblk_pread(&img->edge, 0, 8192,
						    img->scratch));
		if (!memchr_inv(img->scratch, 0, 8192))
			break;
		msleep(20);
	}
	image_expect_data(img, 0, 8192);
	memleaf_release(img->leaf);
	image_op_expect_done(&write);
	image_op_expect_done(&discard);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Who reads sees the old contents until the new ones are all there. */
static void image_alloc_read(struct kunit *test)
{
	struct image *img = image_order_create(test);
	struct image_op write = { .offset = 512, .bytes = 512, .seed = 2 };

	memleaf_hold(img->leaf, BIT(MEMLEAF_WRITE));
	image_op_start(img, &write);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(img->leaf, 1));
	image_expect_data(img, 0, img->cfg->size);
	memleaf_release(img->leaf);
	image_op_expect_done(&write);
	image_fill(img->model + 512, 512, 512, 2);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* A freed cluster stays as it is as long as I/O to it is in flight. */
static void image_freed_in_flight(struct kunit *test)
{
	struct image *img = image_order_create(test);
	struct memleaf *leaf = img->leaf;
	struct qcow2_state *s = img->node->priv;
	struct qblk_mapping m, other;
	u64 pos;

	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 4096, 2));
	KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, 0, 4096,
					  QBLK_MAP_MAY_SLEEP, &m));
	KUNIT_ASSERT_EQ(test, QBLK_MAP_DATA, m.type);
	memcpy(img->scratch, leaf->data + m.offset, 4096);
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, 4096));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	for (pos = 8192; pos < 65536; pos += 4096) {
		KUNIT_ASSERT_EQ(test, 0, qblk_pwrite(&img->edge, pos, 4096,
						     img->model, 0));
		KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, pos, 4096,
						  QBLK_MAP_MAY_SLEEP, &other));
		qblk_tracks_release(&other.tracks);
		KUNIT_EXPECT_NE(test, m.offset, other.offset);
	}
	KUNIT_EXPECT_EQ(test, 0, memcmp(img->scratch, leaf->data + m.offset,
					4096));
	KUNIT_EXPECT_EQ(test, 0, leaf->count[MEMLEAF_DISCARD]);

	/* when it has ended, the cluster is let go of, and used again */
	qblk_tracks_release(&m.tracks);
	flush_work(&s->free_work);
	KUNIT_EXPECT_EQ(test, 1, leaf->count[MEMLEAF_DISCARD]);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 65536, 4096, 3));
	KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, 65536, 4096,
					  QBLK_MAP_MAY_SLEEP, &other));
	qblk_tracks_release(&other.tracks);
	KUNIT_EXPECT_EQ(test, m.offset, other.offset);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Nor is it used again before what dropped it is stable. */
static void image_freed_not_stable(struct kunit *test)
{
	struct image *img = image_order_create(test);
	struct qblk_mapping m;
	u64 pos, freed;

	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 4096, 2));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, 0, 4096,
					  QBLK_MAP_MAY_SLEEP, &m));
	qblk_tracks_release(&m.tracks);
	freed = m.offset;
	/* no L2 table gets written while flushes fail */
	memleaf_fail(img->leaf, BIT(MEMLEAF_FLUSH), 0, UINT_MAX, -EIO);
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, 4096));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_flush(&img->edge));
	for (pos = 8192; pos < 65536; pos += 4096) {
		KUNIT_ASSERT_EQ(test, 0, image_write(img, pos, 4096, 3));
		KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, pos, 4096,
						  QBLK_MAP_MAY_SLEEP, &m));
		qblk_tracks_release(&m.tracks);
		KUNIT_EXPECT_NE(test, freed, m.offset);
	}
	KUNIT_EXPECT_EQ(test, 0, img->leaf->count[MEMLEAF_DISCARD]);
	memleaf_fail(img->leaf, 0, 0, 0, 0);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/*
 * No space but what is being freed, which write-back has in its hands: a write
 * waits for it.
 */
static void image_full_in_transit(struct kunit *test)
{
	struct image *img = image_create(test, &image_full_cfgs[1], 0);
	struct image_op flush = {};
	struct image_op write = { .bytes = img->cs, .seed = 3 };
	u64 pos;

	image_open(img);
	image_write_until_full(img, &pos, 1);
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, img->cs));
	memleaf_hold(img->leaf, BIT(MEMLEAF_FLUSH));
	image_op_start(img, &flush);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(img->leaf, 1));
	write.offset = pos;
	image_op_start(img, &write);
	image_op_expect_waiting(&write);
	memleaf_release(img->leaf);
	image_op_expect_done(&flush);
	image_op_expect_done(&write);
	image_fill(img->model + pos, pos, img->cs, 3);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Clusters that lie far apart: a discard does not collect all of them. */
static void image_discard_bounded(struct kunit *test)
{
	const struct image_cfg *cfg = &image_cfgs[0];
	struct image *img = image_create(test, cfg, image_capacity(cfg));
	struct qcow2_state *s;
	u64 pos;
	int odd;

	image_open(img);
	s = img->node->priv;
	for (odd = 0; odd <= 1; odd++)
		for (pos = odd * img->cs; pos < cfg->size; pos += 2 * img->cs)
			KUNIT_ASSERT_EQ(test, 0, image_write(img, pos, img->cs,
							     1));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	s->max_frees = 8;
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, cfg->size));
	/* those of one slice, and what the others may leave */
	KUNIT_EXPECT_LE(test, s->nr_frees, 8 + img->cs / 8);
	image_expect_data(img, 0, cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* The file of an image is in an image: locks and work nest. */
static void image_nested(struct kunit *test)
{
	struct image *outer = image_create(test, &image_order_cfg, 1 * MB);
	static const struct image_cfg inner_cfg = {
		.desc = "inner",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 1 * MB,
	};
	struct qblk_child_ref file = { .name = "file" };
	struct qblk_node_params p = {
		.driver = "qcow2",
		.name = "kunit-outer",
		.children = &file,
		.nr_children = 1,
	};
	struct qblk_err err = {};
	struct image *inner;
	int round;
	u64 pos;

	/* its leaf has the name of the other one's */
	KUNIT_ASSERT_EQ(test, 0, memleaf_node_close(test, outer->leaf->node));
	inner = image_create(test, &inner_cfg, 3 * MB);
	image_open(inner);
	KUNIT_ASSERT_EQ(test, 0, qblk_pwrite(&inner->edge, 0,
					     outer->leaf->length,
					     outer->leaf->data, 0));
	file.node = inner->node;
	outer->node = memleaf_node_open(test, &p, &err);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR(outer->node), "%s", err.msg);
	memleaf_edge_init(&outer->edge, outer->node);
	for (round = 1; round <= 2; round++) {
		for (pos = 100; pos < 250 * KB; pos += 12 * KB)
			KUNIT_ASSERT_EQ(test, 0, image_write(outer, pos, 5000,
							     round));
		KUNIT_ASSERT_EQ(test, 0, image_discard(outer, 0, 64 * KB));
		KUNIT_ASSERT_EQ(test, 0, image_zero(outer, 64 * KB, 64 * KB,
						    QBLK_REQ_MAY_UNMAP));
		KUNIT_ASSERT_EQ(test, 0, qblk_flush(&outer->edge));
	}
	image_expect_data(outer, 0, outer->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(outer));
	KUNIT_ASSERT_EQ(test, 0, image_close(inner));
	image_expect_clean(inner);
}

static struct kunit_case image_kunit_cases[] = {
	KUNIT_CASE_PARAM(image_untouched, image_cfg_gen_params),
	KUNIT_CASE_PARAM(image_sequential, image_cfg_gen_params),
	KUNIT_CASE_PARAM(image_random, image_cfg_gen_params),
	KUNIT_CASE(image_reftable_growth),
	KUNIT_CASE_PARAM(image_snapshot, image_snapshot_gen_params),
	KUNIT_CASE_PARAM(image_full, image_full_gen_params),
	KUNIT_CASE(image_full_in_transit),
	KUNIT_CASE(image_discard_bounded),
	KUNIT_CASE(image_alloc_write_waits),
	KUNIT_CASE(image_alloc_discard_waits),
	KUNIT_CASE(image_alloc_discard_goes_on),
	KUNIT_CASE(image_alloc_read),
	KUNIT_CASE(image_freed_in_flight),
	KUNIT_CASE(image_freed_not_stable),
	KUNIT_CASE(image_nested),
	KUNIT_CASE_PARAM(image_concurrent, image_thread_gen_params),
	KUNIT_CASE_PARAM(image_concurrent_start, image_thread_gen_params),
	KUNIT_CASE_PARAM(image_cow_once, image_cow_part_gen_params),
	KUNIT_CASE_PARAM(image_fail_once, image_fail_gen_params),
	KUNIT_CASE_PARAM(image_fail_forever, image_fail_gen_params),
	KUNIT_CASE_PARAM(image_fail_once_start, image_fail_gen_params),
	KUNIT_CASE_PARAM(image_fail_forever_start, image_fail_gen_params),
	{}
};

static struct kunit_suite image_kunit_suite = {
	.name = "qblk_qcow2_image",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = image_kunit_cases,
};

kunit_test_suite(image_kunit_suite);
