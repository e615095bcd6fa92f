// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "memleaf.h"

/* Slices the smallest cache may hold */
#define CACHE_MAX	16

/* Slices in the file */
#define CACHE_NR	256

/**
 * struct cache_ctx - a cache on a leaf
 * @test: case
 * @leaf: each slice starts with its number
 * @c: the cache
 * @size: bytes in a slice
 * @lock: stands for that of the image
 */
struct cache_ctx {
	struct kunit *test;
	struct memleaf *leaf;
	struct qcow2_cache c;
	u32 size;
	struct mutex lock;	/* whoever changes slices */
};

static const struct cache_size {
	const char *desc;
	u32 slice_bits;
	u32 align;
} cache_sizes[] = {
	{ "512 byte slices", 9, 512 },
	{ "4 KiB slices", 12, 512 },
	{ "4 KiB slices, 4 KiB blocks", 12, 4096 },
	{ "512 byte slices, 4 KiB blocks", 9, 4096 },
	{ "16 KiB slices", 14, 512 },
};

KUNIT_ARRAY_PARAM_DESC(cache_size, cache_sizes, desc);

static void cache_exit(void *private)
{
	qcow2_cache_exit(private);
}

static struct cache_ctx *cache_create(struct kunit *test)
{
	const struct cache_size *size = test->param_value ?: &cache_sizes[1];
	struct cache_ctx *x = kunit_kzalloc(test, sizeof(*x), GFP_KERNEL);
	u64 bytes = (u64)CACHE_NR << size->slice_bits;
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, x);
	x->test = test;
	x->size = 1U << size->slice_bits;
	mutex_init(&x->lock);
	x->leaf = memleaf_alloc(test, bytes, bytes);
	x->leaf->limits.request_alignment = size->align;
	for (i = 0; i < CACHE_NR; i++)
		put_unaligned_be64(i, x->leaf->data + (u64)i * x->size);
	memleaf_open(x->leaf, "kunit-file", false);
	KUNIT_ASSERT_EQ(test, 0, qcow2_cache_init(&x->c, &x->leaf->edge,
						  size->slice_bits,
						  CACHE_MAX * x->size));
	KUNIT_ASSERT_EQ(test, CACHE_MAX, x->c.max);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, cache_exit,
							   &x->c));
	return x;
}

static u64 cache_word(const struct qcow2_slice *slice, unsigned int word)
{
	return get_unaligned_be64(slice->data + word * 8);
}

static u64 cache_disk_word(const struct cache_ctx *x, u32 nr,
			   unsigned int word)
{
	return get_unaligned_be64(x->leaf->data + (u64)nr * x->size + word * 8);
}

/* A slice with a reference; it has to be the right one */
static struct qcow2_slice *cache_get(struct cache_ctx *x, u32 nr)
{
	struct qcow2_slice *slice = qcow2_cache_get(&x->c, (u64)nr * x->size);

	KUNIT_ASSERT_FALSE(x->test, IS_ERR(slice));
	KUNIT_ASSERT_EQ(x->test, nr, cache_word(slice, 0));
	return slice;
}

static void cache_touch(struct cache_ctx *x, u32 nr)
{
	qcow2_cache_put(cache_get(x, nr));
}

static bool cache_has(struct cache_ctx *x, u32 nr)
{
	bool has;

	rcu_read_lock();
	has = qcow2_cache_peek(&x->c, (u64)nr * x->size);
	rcu_read_unlock();
	return has;
}

/* Change a slice's second word */
static void cache_change(struct cache_ctx *x, u32 nr, u64 value)
{
	struct qcow2_slice *slice = cache_get(x, nr);

	put_unaligned_be64(value, slice->data + 8);
	qcow2_cache_mark_dirty(&x->c, slice);
	qcow2_cache_put(slice);
}

static void cache_lookup(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *a, *b;

	KUNIT_EXPECT_FALSE(test, cache_has(x, 3));
	a = cache_get(x, 3);
	b = cache_get(x, 3);
	KUNIT_EXPECT_PTR_EQ(test, a, b);
	KUNIT_EXPECT_TRUE(test, cache_has(x, 3));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 2));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 4));
	qcow2_cache_put(a);
	qcow2_cache_put(b);
	KUNIT_EXPECT_EQ(test, 1, x->c.nr);
	KUNIT_EXPECT_EQ(test, 1, x->leaf->count[MEMLEAF_READ]);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&x->c.hits));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&x->c.misses));
}

/* The file may end inside of a table: the rest is zeroes. */
static void cache_past_the_end(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *slice;
	u32 i;

	x->leaf->length = 10 * x->size + 8;
	cache_touch(x, 10);
	slice = qcow2_cache_get(&x->c, 11ULL * x->size);
	KUNIT_ASSERT_FALSE(test, IS_ERR(slice));
	for (i = 0; i < x->size; i += 512)
		KUNIT_EXPECT_NULL(test, memchr_inv(qcow2_slice_at(slice, i), 0,
						   512));
	qcow2_cache_put(slice);
}

#define CACHE_LARGE	(128U << 10)

/* Each 4 KiB of a large slice is where it should be, on disk and in memory. */
static void cache_chunks(struct kunit *test)
{
	struct memleaf *leaf = memleaf_alloc(test, 4 * CACHE_LARGE,
					     4 * CACHE_LARGE);
	struct qcow2_slice *slice;
	struct qcow2_cache c;
	u32 i;

	for (i = 0; i < 4 * CACHE_LARGE; i += 4096)
		put_unaligned_be64(i, leaf->data + i);
	memleaf_open(leaf, "kunit-file", false);
	KUNIT_ASSERT_EQ(test, 0, qcow2_cache_init(&c, &leaf->edge, 17, 0));
	KUNIT_EXPECT_EQ(test, 32, c.chunks);
	KUNIT_EXPECT_EQ(test, 2, c.max);
	slice = qcow2_cache_get(&c, CACHE_LARGE);
	if (IS_ERR(slice)) {
		KUNIT_FAIL(test, "no slice");
		goto out;
	}
	for (i = 0; i < CACHE_LARGE; i += 4096) {
		KUNIT_EXPECT_EQ(test, CACHE_LARGE + i,
				get_unaligned_be64(qcow2_slice_at(slice, i)));
		put_unaligned_be64(~i, qcow2_slice_at(slice, i + 4088));
	}
	qcow2_cache_mark_dirty(&c, slice);
	qcow2_cache_put(slice);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&c));
	for (i = 0; i < CACHE_LARGE; i += 4096)
		KUNIT_EXPECT_EQ(test, (u64)~i,
				get_unaligned_be64(leaf->data + CACHE_LARGE +
						   i + 4088));
	KUNIT_EXPECT_EQ(test, 0, get_unaligned_be64(leaf->data +
						    2 * CACHE_LARGE + 4088));
	KUNIT_EXPECT_EQ(test, 32, c.reclaim.scan(&c.reclaim, 64));
out:
	qcow2_cache_exit(&c);
}

static void cache_limit(struct kunit *test)
{
	static const struct {
		u32 slice_bits;
		u64 bytes;
		unsigned int max;
	} cases[] = {
		{ 9, 0, 16 },
		{ 12, 16 << 12, 16 },
		{ 12, 17 << 12, 17 },
		{ 12, (18 << 12) - 1, 17 },
		{ 9, 32 << 20, 65536 },
		{ 9, U64_MAX, INT_MAX },
		{ 14, 0, 4 },
		{ 16, 20 << 16, 20 },
		{ 21, 0, 2 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct qcow2_cache c;

		KUNIT_EXPECT_EQ(test, 0,
				qcow2_cache_init(&c, NULL, cases[i].slice_bits,
						 cases[i].bytes));
		KUNIT_EXPECT_EQ(test, cases[i].max, c.max);
		qcow2_cache_exit(&c);
	}
}

static void cache_bounded(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	u32 i;

	for (i = 0; i < CACHE_NR; i++) {
		cache_touch(x, i);
		KUNIT_ASSERT_LE(test, x->c.nr, CACHE_MAX);
	}
	KUNIT_EXPECT_EQ(test, CACHE_MAX, x->c.nr);
	KUNIT_EXPECT_EQ(test, CACHE_NR - CACHE_MAX, x->c.evicted);
	KUNIT_EXPECT_EQ(test, CACHE_NR, x->leaf->count[MEMLEAF_READ]);
}

static void cache_second_chance(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	u32 i;

	for (i = 0; i < CACHE_MAX; i++)
		cache_touch(x, i);
	cache_touch(x, 0);
	KUNIT_EXPECT_TRUE(test, cache_has(x, 2));
	cache_touch(x, CACHE_MAX);
	cache_touch(x, CACHE_MAX + 1);
	/* 0 and 2 were used again: 1 and 3 went instead */
	KUNIT_EXPECT_TRUE(test, cache_has(x, 0));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 1));
	KUNIT_EXPECT_TRUE(test, cache_has(x, 2));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 3));
	KUNIT_EXPECT_TRUE(test, cache_has(x, CACHE_MAX));

	/* a second chance is not a third */
	for (i = 0; i < 3 * CACHE_MAX; i++)
		cache_touch(x, 100 + i);
	KUNIT_EXPECT_FALSE(test, cache_has(x, 0));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 2));
}

/* What was not used since the last run goes, if it is clean and not in use. */
static void cache_clean_unused(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *held;
	u32 i;

	for (i = 0; i < 10; i++)
		cache_touch(x, i);
	cache_change(x, 4, 1004);
	held = cache_get(x, 5);
	qcow2_cache_clean_unused(&x->c);
	KUNIT_EXPECT_EQ(test, 10, x->c.nr);
	/* each kind of use; and 10 is new */
	cache_touch(x, 1);
	KUNIT_EXPECT_TRUE(test, cache_has(x, 7));
	cache_touch(x, 10);
	qcow2_cache_clean_unused(&x->c);
	KUNIT_EXPECT_EQ(test, 5, x->c.nr);
	KUNIT_EXPECT_EQ(test, 6, x->c.cleaned);
	KUNIT_EXPECT_EQ(test, 0, x->c.evicted);
	qcow2_cache_put(held);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	qcow2_cache_clean_unused(&x->c);
	KUNIT_EXPECT_EQ(test, 0, x->c.nr);
	KUNIT_EXPECT_EQ(test, 11, x->c.cleaned);
	KUNIT_EXPECT_EQ(test, 1004, cache_disk_word(x, 4, 1));
	cache_touch(x, 4);
	KUNIT_EXPECT_EQ(test, 1, x->c.nr);
}

static void cache_expect_reserve(struct cache_ctx *x, bool there)
{
	struct qcow2_slice *slice = qcow2_cache_reserve(&x->c);

	KUNIT_EXPECT_EQ(x->test, there, !!slice);
	if (!slice)
		return;
	kfree(slice->data);
	kfree(slice);
}

static unsigned long cache_shrink(struct cache_ctx *x, unsigned long nr)
{
	return x->c.reclaim.scan(&x->c.reclaim, nr);
}

/* Memory is wanted: what is clean and not in use goes, in the order of use. */
static void cache_reclaim(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_reclaim *r = &x->c.reclaim;
	struct qcow2_slice *held;
	u32 i;

	KUNIT_EXPECT_EQ(test, 0, r->count(r));
	KUNIT_EXPECT_EQ(test, 0, cache_shrink(x, 128));
	for (i = 0; i < 10; i++)
		cache_touch(x, i);
	cache_change(x, 4, 1004);
	held = cache_get(x, 5);
	cache_touch(x, 0);
	KUNIT_EXPECT_EQ(test, 9, r->count(r));
	/* 0 has its second chance */
	KUNIT_EXPECT_EQ(test, 2, cache_shrink(x, 3));
	KUNIT_EXPECT_TRUE(test, cache_has(x, 0));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 1));
	KUNIT_EXPECT_FALSE(test, cache_has(x, 2));
	KUNIT_EXPECT_EQ(test, 7, r->count(r));
	KUNIT_EXPECT_EQ(test, 6, cache_shrink(x, 128));
	KUNIT_EXPECT_EQ(test, 2, x->c.nr);
	KUNIT_EXPECT_EQ(test, 8, x->c.shrunk);
	KUNIT_EXPECT_EQ(test, 0, cache_shrink(x, 128));
	qcow2_cache_put(held);
	KUNIT_EXPECT_EQ(test, 1, cache_shrink(x, 128));
	KUNIT_EXPECT_EQ(test, 0, r->count(r));
	KUNIT_EXPECT_EQ(test, 1, qcow2_cache_nr_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 1, r->count(r));
	KUNIT_EXPECT_EQ(test, 1, cache_shrink(x, 128));
	KUNIT_EXPECT_EQ(test, 1004, cache_disk_word(x, 4, 1));
	/* memory for one more there still is */
	cache_expect_reserve(x, true);
}

/* More than are looked at without a break */
static void cache_clean_many(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	u32 i;

	x->c.max = CACHE_NR;
	for (i = 0; i < CACHE_NR; i++)
		cache_touch(x, i);
	qcow2_cache_clean_unused(&x->c);
	KUNIT_EXPECT_EQ(test, CACHE_NR, x->c.nr);
	for (i = 0; i < CACHE_NR; i += 2)
		cache_touch(x, i);
	qcow2_cache_clean_unused(&x->c);
	KUNIT_EXPECT_EQ(test, CACHE_NR / 2, x->c.nr);
	qcow2_cache_clean_unused(&x->c);
	KUNIT_EXPECT_EQ(test, 0, x->c.nr);
	KUNIT_EXPECT_EQ(test, CACHE_NR, x->c.cleaned);
}

/* What is clean is found among many that are dirty, and was used before. */
static void cache_reclaim_dirty(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_reclaim *r = &x->c.reclaim;
	u32 i;

	for (i = 0; i < 12; i++)
		cache_change(x, i, 1000 + i);
	for (; i < 15; i++)
		cache_touch(x, i);
	KUNIT_EXPECT_EQ(test, 3, r->count(r));
	KUNIT_EXPECT_EQ(test, 3, cache_shrink(x, 3));
	KUNIT_EXPECT_EQ(test, 12, x->c.nr);
	KUNIT_EXPECT_EQ(test, 0, cache_shrink(x, 128));
	cache_expect_reserve(x, true);
	cache_expect_reserve(x, false);
}

static void cache_in_use_stays(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *slices[CACHE_MAX + 4];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(slices); i++)
		slices[i] = cache_get(x, i);
	KUNIT_EXPECT_EQ(test, ARRAY_SIZE(slices), x->c.nr);
	for (i = 0; i < ARRAY_SIZE(slices); i++) {
		KUNIT_EXPECT_EQ(test, i, cache_word(slices[i], 0));
		qcow2_cache_put(slices[i]);
	}
	cache_touch(x, 100);
	KUNIT_EXPECT_EQ(test, CACHE_MAX, x->c.nr);
}

static void cache_dirty_stays(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	u32 i;

	for (i = 0; i < 2 * CACHE_MAX; i++)
		cache_change(x, 2 * i, 1000 + i);
	KUNIT_EXPECT_EQ(test, 2 * CACHE_MAX, qcow2_cache_nr_dirty(&x->c));
	cache_change(x, 0, 1000);
	KUNIT_EXPECT_EQ(test, 2 * CACHE_MAX, qcow2_cache_nr_dirty(&x->c));
	for (i = 100; i < CACHE_NR; i++)
		cache_touch(x, i);
	for (i = 0; i < 2 * CACHE_MAX; i++)
		KUNIT_EXPECT_TRUE(test, cache_has(x, 2 * i));
	KUNIT_EXPECT_EQ(test, 0, x->leaf->count[MEMLEAF_WRITE]);

	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_nr_dirty(&x->c));
	for (i = 0; i < 2 * CACHE_MAX; i++)
		KUNIT_EXPECT_EQ(test, 1000 + i, cache_disk_word(x, 2 * i, 1));
	/* clean, they can go */
	for (i = 100; i < CACHE_NR; i++)
		cache_touch(x, i);
	KUNIT_EXPECT_EQ(test, CACHE_MAX, x->c.nr);
	/* and come back with what was written */
	for (i = 0; i < 2 * CACHE_MAX; i++) {
		struct qcow2_slice *slice = cache_get(x, 2 * i);

		KUNIT_EXPECT_EQ(test, 1000 + i, cache_word(slice, 1));
		qcow2_cache_put(slice);
	}
}

/* What the cache writes is what the leaf gets, if it is whole blocks. */
static void cache_log_start(struct cache_ctx *x)
{
	if (x->size < x->leaf->limits.request_alignment)
		kunit_skip(x->test, "slices are smaller than blocks");
	if (x->c.chunks > 1)
		kunit_skip(x->test, "slices are large");
	memleaf_log_start(x->leaf);
}

static void cache_expect_write(struct cache_ctx *x, unsigned int index,
			       u32 first, u32 nr)
{
	const struct memleaf_op *op = &x->leaf->log[index];

	KUNIT_ASSERT_GT(x->test, x->leaf->log_nr, index);
	KUNIT_EXPECT_EQ(x->test, MEMLEAF_WRITE, op->type);
	KUNIT_EXPECT_EQ(x->test, (u64)first * x->size, op->offset);
	KUNIT_EXPECT_EQ(x->test, (u64)nr * x->size, op->bytes);
}

/* In the order of offsets, whatever the order of changes; adjacent as one */
static void cache_write_order(struct kunit *test)
{
	static const u32 order[] = { 7, 5, 100, 3, 4, 9, 1, 6 };
	struct cache_ctx *x = cache_create(test);
	int i;

	for (i = 0; i < ARRAY_SIZE(order); i++)
		cache_change(x, order[i], i);
	cache_log_start(x);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	cache_expect_write(x, 0, 1, 1);
	cache_expect_write(x, 1, 3, 5);
	cache_expect_write(x, 2, 9, 1);
	cache_expect_write(x, 3, 100, 1);
	KUNIT_EXPECT_EQ(test, 4, x->leaf->log_nr);
	for (i = 0; i < ARRAY_SIZE(order); i++)
		KUNIT_EXPECT_EQ(test, i, cache_disk_word(x, order[i], 1));
	/* nothing is left to be written */
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 4, x->leaf->log_nr);
}

static void cache_write_many(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	u32 i;

	for (i = 0; i < 40; i++)
		cache_change(x, 39 - i, i);
	cache_log_start(x);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	cache_expect_write(x, 0, 0, 16);
	cache_expect_write(x, 1, 16, 16);
	cache_expect_write(x, 2, 32, 8);
	KUNIT_EXPECT_EQ(test, 3, x->leaf->log_nr);
	for (i = 0; i < 40; i++)
		KUNIT_EXPECT_EQ(test, i, cache_disk_word(x, 39 - i, 1));
}

static void cache_failed_read(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *slice;

	memleaf_fail(x->leaf, BIT(MEMLEAF_READ), 0, 1, -ETIMEDOUT);
	slice = qcow2_cache_get(&x->c, 0);
	KUNIT_EXPECT_PTR_EQ(test, ERR_PTR(-ETIMEDOUT), slice);
	KUNIT_EXPECT_EQ(test, 0, x->c.nr);
	KUNIT_EXPECT_FALSE(test, cache_has(x, 0));
	cache_touch(x, 0);
	KUNIT_EXPECT_EQ(test, 1, x->c.nr);
	KUNIT_EXPECT_EQ(test, 2, x->leaf->count[MEMLEAF_READ]);
}

static void cache_failed_write(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	u32 i;

	for (i = 0; i < 3; i++)
		cache_change(x, 16 * i, 1000 + i);
	memleaf_fail(x->leaf, BIT(MEMLEAF_WRITE), 1, 1, -ENOSPC);
	KUNIT_EXPECT_EQ(test, -ENOSPC, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 2, qcow2_cache_nr_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 1000, cache_disk_word(x, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, cache_disk_word(x, 16, 1));

	/* what stayed dirty stays in memory, and is written next time */
	for (i = 100; i < CACHE_NR; i++)
		cache_touch(x, i);
	KUNIT_EXPECT_TRUE(test, cache_has(x, 16));
	KUNIT_EXPECT_TRUE(test, cache_has(x, 32));
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_nr_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 1001, cache_disk_word(x, 16, 1));
	KUNIT_EXPECT_EQ(test, 1002, cache_disk_word(x, 32, 1));
}

static void cache_drop(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *held = cache_get(x, 5);
	u32 i;

	for (i = 0; i < 10; i++)
		cache_change(x, i, 1000 + i);
	/* slices 3 to 6, one of them in use */
	qcow2_cache_drop(&x->c, 3ULL * x->size, 4ULL * x->size);
	KUNIT_EXPECT_EQ(test, 6, x->c.nr);
	KUNIT_EXPECT_EQ(test, 6, qcow2_cache_nr_dirty(&x->c));
	for (i = 0; i < 10; i++)
		KUNIT_EXPECT_EQ(test, i < 3 || i > 6, cache_has(x, i));
	KUNIT_EXPECT_EQ(test, 1005, cache_word(held, 1));
	qcow2_cache_put(held);

	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	for (i = 0; i < 10; i++)
		KUNIT_EXPECT_EQ(test, i < 3 || i > 6 ? 1000 + i : 0,
				cache_disk_word(x, i, 1));
	/* nothing there: nothing happens */
	qcow2_cache_drop(&x->c, 3ULL * x->size, 4ULL * x->size);
	KUNIT_EXPECT_EQ(test, 6, x->c.nr);
}

/* A table that is dirty or in use is no free cluster: all of it stays. */
static void cache_claim(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *held;
	u32 i;

	for (i = 0; i < 10; i++)
		cache_touch(x, i);
	cache_change(x, 6, 1006);
	KUNIT_EXPECT_EQ(test, -EBUSY, qcow2_cache_claim(&x->c, 3ULL * x->size,
							4ULL * x->size));
	KUNIT_EXPECT_EQ(test, 10, x->c.nr);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 1006, cache_disk_word(x, 6, 1));

	held = cache_get(x, 5);
	KUNIT_EXPECT_EQ(test, -EBUSY, qcow2_cache_claim(&x->c, 3ULL * x->size,
							4ULL * x->size));
	KUNIT_EXPECT_EQ(test, 10, x->c.nr);
	qcow2_cache_put(held);

	/* what lies beside does not matter */
	cache_change(x, 2, 1002);
	cache_change(x, 7, 1007);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_claim(&x->c, 3ULL * x->size,
						   4ULL * x->size));
	for (i = 0; i < 10; i++)
		KUNIT_EXPECT_EQ(test, i < 3 || i > 6, cache_has(x, i));
	KUNIT_EXPECT_EQ(test, 2, qcow2_cache_nr_dirty(&x->c));
}

/* A slice that was dropped cannot make the one in its place dirty. */
static void cache_dirty_after_drop(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *held = cache_get(x, 5);

	qcow2_cache_drop(&x->c, 5ULL * x->size, x->size);
	cache_touch(x, 5);
	put_unaligned_be64(1005, held->data + 8);
	qcow2_cache_mark_dirty(&x->c, held);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_nr_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 0, cache_disk_word(x, 5, 1));
	cache_change(x, 5, 2005);
	qcow2_cache_mark_dirty(&x->c, held);
	KUNIT_EXPECT_EQ(test, 1, qcow2_cache_nr_dirty(&x->c));
	qcow2_cache_put(held);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_nr_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 2005, cache_disk_word(x, 5, 1));
}

/* Without memory: the spare one, then those that are clean and not in use */
static void cache_no_memory(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct qcow2_slice *held;
	u32 i;

	for (i = 0; i < 4; i++)
		cache_touch(x, i);
	cache_change(x, 1, 1001);
	held = cache_get(x, 2);
	cache_expect_reserve(x, true);
	KUNIT_EXPECT_EQ(test, 4, x->c.nr);
	cache_expect_reserve(x, true);
	cache_expect_reserve(x, true);
	KUNIT_EXPECT_EQ(test, 2, x->c.nr);
	cache_expect_reserve(x, false);
	KUNIT_EXPECT_TRUE(test, cache_has(x, 1));
	KUNIT_EXPECT_TRUE(test, cache_has(x, 2));
	qcow2_cache_put(held);
	cache_expect_reserve(x, true);
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	KUNIT_EXPECT_EQ(test, 1001, cache_disk_word(x, 1, 1));
	cache_expect_reserve(x, true);
	KUNIT_EXPECT_EQ(test, 0, x->c.nr);
	/* with memory, there is a spare one again */
	cache_touch(x, 1);
	cache_expect_reserve(x, true);
	KUNIT_EXPECT_EQ(test, 1, x->c.nr);
}

/* Threads */

/**
 * struct cache_thread - a thread that gets a slice
 * @t: the thread
 * @x: the cache
 * @nr: the slice
 * @slice: what it got, with a reference
 * @seed: for threads that do more
 */
struct cache_thread {
	struct memleaf_thread t;
	struct cache_ctx *x;
	u32 nr;
	struct qcow2_slice *slice;
	u32 seed;
};

static int cache_thread_get(struct memleaf_thread *t)
{
	struct cache_thread *ct = container_of(t, struct cache_thread, t);
	struct cache_ctx *x = ct->x;

	ct->slice = qcow2_cache_get(&x->c, (u64)ct->nr * x->size);
	return PTR_ERR_OR_ZERO(ct->slice);
}

static void cache_threads_start(struct cache_ctx *x, struct cache_thread *ct,
				unsigned int nr,
				int (*fn)(struct memleaf_thread *t))
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		ct[i].t.fn = fn;
		ct[i].x = x;
		ct[i].seed = i + 1;
		memleaf_thread_start(x->test, &ct[i].t);
	}
}

/* Wait until @nr lookups have found the slice that is being read */
static void cache_wait_hits(struct cache_ctx *x, unsigned int nr)
{
	int i;

	for (i = 0; i < 1000 && atomic64_read(&x->c.hits) < nr; i++)
		msleep(20);
	KUNIT_EXPECT_EQ(x->test, nr, atomic64_read(&x->c.hits));
}

#define CACHE_THREADS	4

static struct cache_thread *cache_threads_alloc(struct kunit *test)
{
	struct cache_thread *ct;

	ct = kunit_kcalloc(test, CACHE_THREADS, sizeof(*ct), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ct);
	return ct;
}

/* Threads that want the same slice at once: one read for all of them */
static void cache_shared_read(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct cache_thread *ct = cache_threads_alloc(test);
	int i;

	memleaf_hold(x->leaf, BIT(MEMLEAF_READ));
	cache_threads_start(x, ct, CACHE_THREADS, cache_thread_get);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(x->leaf, 1));
	cache_wait_hits(x, CACHE_THREADS - 1);
	KUNIT_EXPECT_FALSE(test, cache_has(x, 0));
	memleaf_release(x->leaf);
	for (i = 0; i < CACHE_THREADS; i++) {
		wait_for_completion(&ct[i].t.done);
		KUNIT_EXPECT_EQ(test, 0, ct[i].t.ret);
		KUNIT_EXPECT_PTR_EQ(test, ct[0].slice, ct[i].slice);
	}
	for (i = 0; i < CACHE_THREADS; i++)
		if (!ct[i].t.ret)
			qcow2_cache_put(ct[i].slice);
	KUNIT_EXPECT_EQ(test, 1, x->leaf->count[MEMLEAF_READ]);
	KUNIT_EXPECT_EQ(test, 1, x->c.nr);
	KUNIT_EXPECT_TRUE(test, cache_has(x, 0));
}

static void cache_shared_failure(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct cache_thread *ct = cache_threads_alloc(test);
	int i;

	memleaf_hold(x->leaf, BIT(MEMLEAF_READ));
	memleaf_fail(x->leaf, BIT(MEMLEAF_READ), 0, 1, -EIO);
	cache_threads_start(x, ct, CACHE_THREADS, cache_thread_get);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(x->leaf, 1));
	cache_wait_hits(x, CACHE_THREADS - 1);
	memleaf_release(x->leaf);
	for (i = 0; i < CACHE_THREADS; i++) {
		wait_for_completion(&ct[i].t.done);
		KUNIT_EXPECT_EQ(test, -EIO, ct[i].t.ret);
	}
	KUNIT_EXPECT_EQ(test, 0, x->c.nr);
	cache_touch(x, 0);
}

/* The table is freed while a lookup reads it in: with and without an error */
static void cache_drop_while_reading(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct cache_thread *ct = cache_threads_alloc(test);
	int error;

	for (error = 0; error >= -EIO; error -= EIO) {
		atomic64_set(&x->c.hits, 0);
		memleaf_hold(x->leaf, BIT(MEMLEAF_READ));
		memleaf_fail(x->leaf, BIT(MEMLEAF_READ), 0, !!error, error);
		cache_threads_start(x, ct, 2, cache_thread_get);
		KUNIT_EXPECT_TRUE(test, memleaf_wait_held(x->leaf, 1));
		cache_wait_hits(x, 1);
		qcow2_cache_drop(&x->c, 0, x->size);
		KUNIT_EXPECT_EQ(test, 0, x->c.nr);
		memleaf_release(x->leaf);
		wait_for_completion(&ct[0].t.done);
		wait_for_completion(&ct[1].t.done);
		KUNIT_EXPECT_EQ(test, error, ct[0].t.ret);
		KUNIT_EXPECT_EQ(test, error, ct[1].t.ret);
		if (!error) {
			qcow2_cache_put(ct[0].slice);
			qcow2_cache_put(ct[1].slice);
		}
		KUNIT_EXPECT_EQ(test, 0, x->c.nr);
		KUNIT_EXPECT_FALSE(test, cache_has(x, 0));
	}
	/* read anew */
	cache_touch(x, 0);
	KUNIT_EXPECT_EQ(test, 3, x->leaf->count[MEMLEAF_READ]);
}

/* What a thread does to a slice: look, or count a change under the lock */
static int cache_thread_step(struct cache_ctx *x, struct rnd_state *rnd)
{
	u32 nr = memleaf_random(rnd, 3 * CACHE_MAX);
	struct qcow2_slice *slice;
	int ret = 0;

	slice = qcow2_cache_get(&x->c, (u64)nr * x->size);
	if (IS_ERR(slice))
		return PTR_ERR(slice);
	if (cache_word(slice, 0) != nr)
		ret = -EBADMSG;
	mutex_lock(&x->lock);
	if (!memleaf_random(rnd, 4)) {
		put_unaligned_be64(cache_word(slice, 1) + 1, slice->data + 8);
		qcow2_cache_mark_dirty(&x->c, slice);
	}
	if (!ret && qcow2_cache_nr_dirty(&x->c) > CACHE_MAX / 2)
		ret = qcow2_cache_write_dirty(&x->c);
	mutex_unlock(&x->lock);
	qcow2_cache_put(slice);
	return ret;
}

static int cache_thread_mixed(struct memleaf_thread *t)
{
	struct cache_thread *ct = container_of(t, struct cache_thread, t);
	struct rnd_state rnd;
	int i, ret = 0;

	prandom_seed_state(&rnd, ct->seed);
	for (i = 0; i < 400 && !ret; i++)
		ret = cache_thread_step(ct->x, &rnd);
	return ret;
}

/* What the threads do, done again by one: how often is a slice changed? */
static void cache_count_changes(u32 seed, u32 *changes)
{
	struct rnd_state rnd;
	u32 nr;
	int i;

	prandom_seed_state(&rnd, seed);
	for (i = 0; i < 400; i++) {
		nr = memleaf_random(&rnd, 3 * CACHE_MAX);
		if (!memleaf_random(&rnd, 4))
			changes[nr]++;
	}
}

static void cache_concurrent(struct kunit *test)
{
	struct cache_ctx *x = cache_create(test);
	struct cache_thread *ct = cache_threads_alloc(test);
	u32 changes[3 * CACHE_MAX] = {};
	int i;

	cache_threads_start(x, ct, CACHE_THREADS, cache_thread_mixed);
	for (i = 0; i < CACHE_THREADS; i++) {
		wait_for_completion(&ct[i].t.done);
		KUNIT_EXPECT_EQ(test, 0, ct[i].t.ret);
		cache_count_changes(ct[i].seed, changes);
	}
	KUNIT_EXPECT_EQ(test, 0, qcow2_cache_write_dirty(&x->c));
	for (i = 0; i < ARRAY_SIZE(changes); i++)
		KUNIT_EXPECT_EQ(test, changes[i], cache_disk_word(x, i, 1));
	KUNIT_EXPECT_LE(test, x->c.nr, 3 * CACHE_MAX);
}

static struct kunit_case cache_kunit_cases[] = {
	KUNIT_CASE_PARAM(cache_lookup, cache_size_gen_params),
	KUNIT_CASE_PARAM(cache_past_the_end, cache_size_gen_params),
	KUNIT_CASE(cache_chunks),
	KUNIT_CASE(cache_limit),
	KUNIT_CASE(cache_bounded),
	KUNIT_CASE(cache_second_chance),
	KUNIT_CASE(cache_clean_unused),
	KUNIT_CASE(cache_clean_many),
	KUNIT_CASE(cache_reclaim),
	KUNIT_CASE(cache_reclaim_dirty),
	KUNIT_CASE(cache_in_use_stays),
	KUNIT_CASE_PARAM(cache_dirty_stays, cache_size_gen_params),
	KUNIT_CASE_PARAM(cache_write_order, cache_size_gen_params),
	KUNIT_CASE_PARAM(cache_write_many, cache_size_gen_params),
	KUNIT_CASE(cache_failed_read),
	KUNIT_CASE(cache_failed_write),
	KUNIT_CASE_PARAM(cache_drop, cache_size_gen_params),
	KUNIT_CASE_PARAM(cache_claim, cache_size_gen_params),
	KUNIT_CASE(cache_dirty_after_drop),
	KUNIT_CASE(cache_no_memory),
	KUNIT_CASE(cache_shared_read),
	KUNIT_CASE(cache_shared_failure),
	KUNIT_CASE(cache_drop_while_reading),
	KUNIT_CASE_PARAM(cache_concurrent, cache_size_gen_params),
	{}
};

static struct kunit_suite cache_kunit_suite = {
	.name = "qblk_qcow2_cache",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = cache_kunit_cases,
};

kunit_test_suite(cache_kunit_suite);
