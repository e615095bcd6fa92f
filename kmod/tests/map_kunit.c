// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/delay.h>

#include "../core/core.h"
#include "memfmt.h"

#define KB	1024ULL

static struct memleaf *map_leaf(struct kunit *test, const char *name,
				u64 length, bool read_only)
{
	struct memleaf *leaf = memleaf_alloc(test, length, round_up(length,
								    4096));

	leaf->limits.can_grow = false;
	memleaf_open(leaf, name, read_only);
	return leaf;
}

/* Map, and say what has to come out of it; nothing stays held */
static void map_expect(struct kunit *test, struct qblk_node *root, u64 offset,
		       u64 bytes, unsigned int flags,
		       const struct qblk_mapping *want)
{
	struct qblk_mapping m = {};

	KUNIT_ASSERT_EQ(test, 0, qblk_map(root, offset, bytes, flags, &m));
	qblk_tracks_release(&m.tracks);
	KUNIT_EXPECT_EQ(test, want->type, m.type);
	KUNIT_EXPECT_EQ(test, want->bytes, m.bytes);
	if (m.type == QBLK_MAP_ZERO)
		return;
	KUNIT_EXPECT_PTR_EQ(test, want->node, m.node);
	KUNIT_EXPECT_EQ(test, want->offset, m.offset);
}

static void map_expect_data(struct kunit *test, struct qblk_node *root,
			    u64 offset, u64 bytes, unsigned int flags,
			    struct qblk_node *node, u64 where, u64 len)
{
	const struct qblk_mapping want = {
		.type = QBLK_MAP_DATA,
		.node = node,
		.offset = where,
		.bytes = len,
	};

	map_expect(test, root, offset, bytes, flags, &want);
}

static void map_expect_zero(struct kunit *test, struct qblk_node *root,
			    u64 offset, u64 bytes, unsigned int flags, u64 len)
{
	const struct qblk_mapping want = {
		.type = QBLK_MAP_ZERO,
		.bytes = len,
	};

	map_expect(test, root, offset, bytes, flags, &want);
}

static void map_expect_error(struct kunit *test, struct qblk_node *root,
			     u64 offset, u64 bytes, unsigned int flags, int ret)
{
	struct qblk_mapping m;

	KUNIT_EXPECT_EQ(test, ret, qblk_map(root, offset, bytes, flags, &m));
	KUNIT_EXPECT_EQ(test, 0, m.tracks.nr);
}

static void map_of_leaf(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct qblk_node *n = leaf->node;

	map_expect_data(test, n, 0, 4096, 0, n, 0, 4096);
	map_expect_data(test, n, 512, 4096, QBLK_MAP_WRITE, n, 512, 4096);
	/* cut at the end, and nothing beyond */
	map_expect_data(test, n, 60 * KB, 8 * KB, 0, n, 60 * KB, 4 * KB);
	map_expect_zero(test, n, 64 * KB, 4096, 0, 4096);
	map_expect_zero(test, n, 1ULL << 62, 4096, 0, 4096);
	map_expect_error(test, n, 64 * KB, 512, QBLK_MAP_WRITE, -EAGAIN);
	/* the data has to be looked at */
	n->detect_zeroes = QBLK_DETECT_ZEROES_ON;
	map_expect_error(test, n, 512, 4096, QBLK_MAP_WRITE, -EAGAIN);
	map_expect_data(test, n, 512, 4096, 0, n, 512, 4096);
	map_expect_data(test, n, 512, 4096, QBLK_MAP_WRITE |
			QBLK_MAP_MAY_SLEEP, n, 512, 4096);
	n->detect_zeroes = QBLK_DETECT_ZEROES_OFF;
	KUNIT_EXPECT_EQ(test, 0, leaf->count[MEMLEAF_READ]);
}

/* Tier 1 gets whole blocks; the rest is for who can pad. */
static void map_alignment(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB + 100,
					false);
	struct qblk_node *n = leaf->node;

	map_expect_data(test, n, 0, 1000, 0, n, 0, 512);
	map_expect_error(test, n, 0, 500, 0, -EAGAIN);
	map_expect_error(test, n, 100, 4096, 0, -EAGAIN);
	map_expect_data(test, n, 100, 4096, QBLK_MAP_MAY_SLEEP, n, 100, 4096);
	map_expect_data(test, n, 0, 500, QBLK_MAP_MAY_SLEEP, n, 0, 500);
	/* the block the file ends in */
	map_expect_data(test, n, 63 * KB, 4096, 0, n, 63 * KB, 1024);
	map_expect_error(test, n, 64 * KB, 512, 0, -EAGAIN);
	map_expect_data(test, n, 64 * KB, 512, QBLK_MAP_MAY_SLEEP, n, 64 * KB,
			100);
	map_expect_zero(test, n, 64 * KB + 100, 412, 0, 412);
}

static void map_states(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct memleaf *ro = map_leaf(test, "kunit-ro", 64 * KB, true);

	map_expect_data(test, ro->node, 0, 512, 0, ro->node, 0, 512);
	map_expect_error(test, ro->node, 0, 512, QBLK_MAP_WRITE, -EPERM);
	leaf->node->dead = true;
	map_expect_error(test, leaf->node, 0, 512, 0, -EIO);
	map_expect_error(test, leaf->node, 0, 512, QBLK_MAP_WRITE, -EIO);
	leaf->node->dead = false;
}

/* One of each type, twice as large as a block */
static void map_types(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct memfmt *fmt = memfmt_alloc(test, 32 * KB);
	struct qblk_mapping encoded = {
		.type = QBLK_MAP_ENCODED,
		.bytes = 4096,
		.offset = 24 * KB,
	};

	memfmt_set(fmt, 0, 2, QBLK_MAP_DATA, 32 * KB);
	memfmt_set(fmt, 2, 2, QBLK_MAP_ZERO, 0);
	memfmt_set(fmt, 4, 2, QBLK_MAP_UNALLOCATED, 0);
	memfmt_set(fmt, 6, 2, QBLK_MAP_ENCODED, 48 * KB);
	memfmt_open(fmt, MEMFMT_DRIVER, false, leaf->node, NULL);
	encoded.node = fmt->node;

	map_expect_data(test, fmt->node, 0, 32 * KB, 0, leaf->node, 32 * KB,
			8 * KB);
	map_expect_data(test, fmt->node, 4608, 512, 0, leaf->node,
			36 * KB + 512, 512);
	map_expect_zero(test, fmt->node, 8 * KB, 32 * KB, 0, 8 * KB);
	map_expect_zero(test, fmt->node, 16 * KB, 32 * KB, 0, 8 * KB);
	map_expect(test, fmt->node, 24 * KB, 32 * KB, 0, &encoded);
	/* bytes ENCODED are those of the node, so no block is too small */
	encoded.offset += 100;
	encoded.bytes = 7;
	map_expect(test, fmt->node, 24 * KB + 100, 7, 0, &encoded);

	map_expect_data(test, fmt->node, 0, 32 * KB, QBLK_MAP_WRITE,
			leaf->node, 32 * KB, 8 * KB);
	map_expect_error(test, fmt->node, 8 * KB, 512, QBLK_MAP_WRITE, -EAGAIN);
	map_expect_error(test, fmt->node, 16 * KB, 512, QBLK_MAP_WRITE,
			 -EAGAIN);
	map_expect_error(test, fmt->node, 24 * KB, 512, QBLK_MAP_WRITE,
			 -EAGAIN);
}

static void map_errors(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct memfmt *fmt = memfmt_alloc(test, 32 * KB);

	memfmt_set(fmt, 0, 8, QBLK_MAP_DATA, 0);
	memfmt_open(fmt, MEMFMT_REMAP_DRIVER, false, leaf->node, NULL);
	fmt->not_cached = true;
	map_expect_error(test, fmt->node, 0, 512, 0, -EAGAIN);
	map_expect_data(test, fmt->node, 0, 512, QBLK_MAP_MAY_SLEEP,
			leaf->node, 0, 512);
	fmt->map_error = -EIO;
	map_expect_error(test, fmt->node, 0, 512, QBLK_MAP_MAY_SLEEP, -EIO);
	/* nothing is held after a failure */
	qblk_node_io_sync(fmt->node);
}

/* Where a data block leads past the end of its file */
static void map_short_file(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 10 * KB, false);
	struct memfmt *fmt = memfmt_alloc(test, 32 * KB);

	memfmt_set(fmt, 0, 8, QBLK_MAP_DATA, 0);
	memfmt_open(fmt, MEMFMT_DRIVER, false, leaf->node, NULL);
	map_expect_data(test, fmt->node, 8 * KB, 8 * KB, 0, leaf->node, 8 * KB,
			2 * KB);
	map_expect_zero(test, fmt->node, 10 * KB, 8 * KB, 0, 8 * KB);
	map_expect_error(test, fmt->node, 10 * KB, 512, QBLK_MAP_WRITE,
			 -EAGAIN);
}

/* Backing chain: top (48K) on middle (20K + 512) on base (40K) */
static void map_backing(struct kunit *test)
{
	struct memleaf *file = map_leaf(test, "kunit-file", 64 * KB, false);
	struct memleaf *mid_file = map_leaf(test, "kunit-mid", 64 * KB, true);
	struct memleaf *base = map_leaf(test, "kunit-base", 40 * KB, true);
	struct memfmt *top = memfmt_alloc(test, 48 * KB);
	struct memfmt *mid = memfmt_alloc(test, 20 * KB + 512);

	memfmt_set(top, 1, 1, QBLK_MAP_DATA, 4096);
	memfmt_set(top, 2, 1, QBLK_MAP_ZERO, 0);
	memfmt_set(mid, 0, 1, QBLK_MAP_ZERO, 0);
	memfmt_set(mid, 3, 1, QBLK_MAP_DATA, 32 * KB);
	memfmt_open(mid, MEMFMT_REMAP_DRIVER, true, mid_file->node,
		    base->node);
	memfmt_open(top, MEMFMT_REMAP_DRIVER, false, file->node, mid->node);
	KUNIT_EXPECT_TRUE(test, top->node->tracked);
	KUNIT_EXPECT_FALSE(test, mid->node->tracked);

	map_expect_zero(test, top->node, 0, 48 * KB, 0, 4096);
	map_expect_data(test, top->node, 4096, 48 * KB - 4096, 0, file->node,
			4096, 4096);
	map_expect_zero(test, top->node, 8 * KB, 40 * KB, 0, 4096);
	map_expect_data(test, top->node, 12 * KB, 36 * KB, 0, mid_file->node,
			32 * KB, 4096);
	/* down to the base, as far as the middle reaches */
	map_expect_data(test, top->node, 16 * KB, 32 * KB, 0, base->node,
			16 * KB, 4096 + 512);
	map_expect_data(test, top->node, 20 * KB, 1024, 0, base->node, 20 * KB,
			512);
	/* past the middle's end the base has no say */
	map_expect_zero(test, top->node, 20 * KB + 512, 4096, 0, 4096);
	map_expect_zero(test, top->node, 44 * KB, 4096, 0, 4096);
	/* never into a backing file */
	map_expect_error(test, top->node, 12 * KB, 512, QBLK_MAP_WRITE,
			 -EAGAIN);
}

/* The base is longer than what is on top of it. */
static void map_long_backing(struct kunit *test)
{
	struct memleaf *file = map_leaf(test, "kunit-file", 64 * KB, false);
	struct memleaf *base = map_leaf(test, "kunit-base", 40 * KB, true);
	struct memfmt *top = memfmt_alloc(test, 8 * KB);

	memfmt_open(top, MEMFMT_DRIVER, false, file->node, base->node);
	map_expect_data(test, top->node, 4096, 32 * KB, 0, base->node, 4096,
			4096);
	map_expect_zero(test, top->node, 8 * KB, 512, 0, 512);
}

/* raw moves the offset, and cuts. */
static void map_raw(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct qblk_opt opts[] = {
		{ .key = "offset", .value = "8K" },
		{ .key = "size", .value = "16K" },
	};
	struct qblk_child_ref file = { .name = "file", .node = leaf->node };
	struct qblk_node_params p = {
		.driver = "raw",
		.opts = opts,
		.nr_opts = ARRAY_SIZE(opts),
		.children = &file,
		.nr_children = 1,
	};
	struct qblk_node *raw = memleaf_node_open(test, &p, NULL);

	KUNIT_ASSERT_FALSE(test, IS_ERR(raw));
	map_expect_data(test, raw, 0, 4096, 0, leaf->node, 8 * KB, 4096);
	map_expect_data(test, raw, 12 * KB, 8 * KB, QBLK_MAP_WRITE, leaf->node,
			20 * KB, 4096);
	map_expect_zero(test, raw, 16 * KB, 4096, 0, 4096);
}

static int map_sync_fn(struct memleaf_thread *t)
{
	qblk_node_io_sync(t->private);
	return 0;
}

/* A mapping keeps its place from being reused until it is released. */
static void map_tracks(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct memfmt *low = memfmt_alloc(test, 32 * KB);
	struct memfmt *top = memfmt_alloc(test, 32 * KB);
	struct memleaf_thread sync = { .fn = map_sync_fn };
	struct qblk_mapping m;

	memfmt_set(low, 0, 8, QBLK_MAP_DATA, 0);
	memfmt_set(top, 0, 8, QBLK_MAP_DATA, 0);
	memfmt_open(low, MEMFMT_REMAP_DRIVER, false, leaf->node, NULL);
	memfmt_open(top, MEMFMT_REMAP_DRIVER, false, low->node, NULL);
	KUNIT_ASSERT_EQ(test, 0, qblk_map(top->node, 0, 512, 0, &m));
	KUNIT_EXPECT_EQ(test, 2, m.tracks.nr);

	sync.private = low->node;
	memleaf_thread_start(test, &sync);
	KUNIT_EXPECT_EQ(test, 0, wait_for_completion_timeout(&sync.done,
							     HZ / 10));
	qblk_tracks_release(&m.tracks);
	KUNIT_EXPECT_EQ(test, 0, m.tracks.nr);
	wait_for_completion(&sync.done);
	/* again has no effect */
	qblk_tracks_release(&m.tracks);
	qblk_node_io_sync(top->node);
}

/* Deeper than the slots of a mapping go cannot be opened. */
static void map_tracks_limit(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, false);
	struct qblk_node *below = leaf->node;
	struct memfmt *fmt;
	struct qblk_mapping m;
	int i;

	for (i = 0; i < QBLK_MAX_TRACKS; i++) {
		fmt = memfmt_alloc(test, 32 * KB);
		memfmt_set(fmt, 0, 8, QBLK_MAP_DATA, 0);
		memfmt_open(fmt, MEMFMT_REMAP_DRIVER, false, below, NULL);
		below = fmt->node;
	}
	KUNIT_ASSERT_EQ(test, 0, qblk_map(below, 0, 512, 0, &m));
	KUNIT_EXPECT_EQ(test, QBLK_MAX_TRACKS, m.tracks.nr);
	qblk_tracks_release(&m.tracks);
	fmt = memfmt_alloc(test, 32 * KB);
	KUNIT_EXPECT_EQ(test, -ELOOP, memfmt_try_open(fmt, MEMFMT_REMAP_DRIVER,
						      false, below, NULL));
}

/* The longest chain that can be opened, walked from its top to the base */
static void map_long_chain(struct kunit *test)
{
	struct memleaf *file = map_leaf(test, "kunit-file", 64 * KB, true);
	struct memleaf *base = map_leaf(test, "kunit-base", 32 * KB, true);
	struct qblk_node *below = base->node;
	struct memfmt *fmt;
	int i;

	for (i = 0; i < QBLK_MAX_CHAIN; i++) {
		fmt = memfmt_alloc(test, 32 * KB);
		memfmt_open(fmt, MEMFMT_REMAP_DRIVER, true, file->node, below);
		below = fmt->node;
	}
	map_expect_data(test, below, 4096, 8 * KB, 0, base->node, 4096, 8 * KB);
	fmt = memfmt_alloc(test, 32 * KB);
	KUNIT_EXPECT_EQ(test, -ELOOP, memfmt_try_open(fmt, MEMFMT_DRIVER, true,
						      file->node, below));
}

/* Formats that are data of formats: they are walked by recursion in a flush. */
static void map_nesting(struct kunit *test)
{
	struct memleaf *leaf = map_leaf(test, "kunit-file", 64 * KB, true);
	struct qblk_node *below = leaf->node;
	struct memfmt *fmt;
	int i;

	for (i = 0; i < QBLK_MAX_NEST; i++) {
		fmt = memfmt_alloc(test, 32 * KB);
		memfmt_set(fmt, 0, 8, QBLK_MAP_DATA, 0);
		memfmt_open(fmt, MEMFMT_DRIVER, true, below, NULL);
		below = fmt->node;
	}
	map_expect_data(test, below, 512, 4096, 0, leaf->node, 512, 4096);
	fmt = memfmt_alloc(test, 32 * KB);
	KUNIT_EXPECT_EQ(test, -ELOOP, memfmt_try_open(fmt, MEMFMT_DRIVER, true,
						      below, NULL));
}

/* Blocks larger than a disk's: writes have to be listed, so not from here. */
static void map_strict(struct kunit *test)
{
	struct memleaf *leaf = memleaf_alloc(test, 64 * KB, 64 * KB);
	struct memfmt *fmt = memfmt_alloc(test, 32 * KB);

	leaf->limits.request_alignment = 4096;
	leaf->limits.logical_block_size = 4096;
	memleaf_open(leaf, "kunit-file", false);
	map_expect_data(test, leaf->node, 4096, 4096, QBLK_MAP_WRITE,
			leaf->node, 4096, 4096);

	memfmt_set(fmt, 0, 8, QBLK_MAP_DATA, 0);
	memfmt_open(fmt, MEMFMT_DRIVER, false, leaf->node, NULL);
	map_expect_error(test, fmt->node, 4096, 4096, QBLK_MAP_WRITE, -EAGAIN);
	map_expect_error(test, leaf->node, 4096, 4096, QBLK_MAP_WRITE,
			 -EAGAIN);
	map_expect_data(test, fmt->node, 4096, 4096, 0, leaf->node, 4096,
			4096);
	map_expect_data(test, fmt->node, 4096, 4096,
			QBLK_MAP_WRITE | QBLK_MAP_MAY_SLEEP, leaf->node, 4096,
			4096);
}

static struct kunit_case map_kunit_cases[] = {
	KUNIT_CASE(map_of_leaf),
	KUNIT_CASE(map_alignment),
	KUNIT_CASE(map_states),
	KUNIT_CASE(map_types),
	KUNIT_CASE(map_errors),
	KUNIT_CASE(map_short_file),
	KUNIT_CASE(map_backing),
	KUNIT_CASE(map_long_backing),
	KUNIT_CASE(map_raw),
	KUNIT_CASE(map_tracks),
	KUNIT_CASE(map_tracks_limit),
	KUNIT_CASE(map_long_chain),
	KUNIT_CASE(map_nesting),
	KUNIT_CASE(map_strict),
	{}
};

static struct kunit_suite map_kunit_suite = {
	.name = "qblk_map",
	.suite_init = memfmt_suite_init,
	.suite_exit = memfmt_suite_exit,
	.test_cases = map_kunit_cases,
};

kunit_test_suite(map_kunit_suite);
