// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "../core/core.h"
#include "memfmt.h"

#define KB	1024ULL

#define SERIAL_BLOCK	4096U
#define SERIAL_NR	16	/* blocks in the leaf */
#define SERIAL_THREADS	4

/* Long enough for who does not wait, short enough for a case that waits */
#define SERIAL_SOON	(30 * HZ)
#define SERIAL_NEVER	(HZ / 20)

static struct memleaf *serial_leaf(struct kunit *test)
{
	struct memleaf *leaf = memleaf_alloc(test, SERIAL_NR * SERIAL_BLOCK,
					     SERIAL_NR * SERIAL_BLOCK);

	leaf->limits.request_alignment = SERIAL_BLOCK;
	leaf->limits.can_grow = false;
	memleaf_open(leaf, "kunit-file", false);
	KUNIT_ASSERT_NOT_NULL(test, leaf->node->serialising);
	return leaf;
}

/**
 * struct serial_write - a write of a thread
 * @t: the thread
 * @leaf: where
 * @start: first byte
 * @end: byte after the last
 * @serialising: it is a read-modify-write
 * @started: it got through
 * @finish: to be completed for it to end
 */
struct serial_write {
	struct memleaf_thread t;
	struct memleaf *leaf;
	u64 start;
	u64 end;
	bool serialising;
	struct completion started;
	struct completion finish;
};

static int serial_write_fn(struct memleaf_thread *t)
{
	struct serial_write *w = container_of(t, struct serial_write, t);
	struct qblk_tracked tracked;

	qblk_tracked_begin(w->leaf->node, &tracked, w->start, w->end,
			   w->serialising);
	complete(&w->started);
	wait_for_completion(&w->finish);
	qblk_tracked_end(&tracked);
	return 0;
}

static void serial_start(struct kunit *test, struct memleaf *leaf,
			 struct serial_write *w)
{
	w->t.fn = serial_write_fn;
	w->leaf = leaf;
	init_completion(&w->started);
	init_completion(&w->finish);
	memleaf_thread_start(test, &w->t);
}

/* Let it end, whether it has started or will do so then */
static void serial_end(struct serial_write *w)
{
	complete(&w->finish);
	wait_for_completion(&w->t.done);
}

static void serial_expect_started(struct kunit *test, struct serial_write *w)
{
	KUNIT_EXPECT_NE(test, 0, wait_for_completion_timeout(&w->started,
							     SERIAL_SOON));
}

static void serial_expect_waiting(struct kunit *test, struct serial_write *w)
{
	KUNIT_EXPECT_EQ(test, 0, wait_for_completion_timeout(&w->started,
							     SERIAL_NEVER));
}

static const struct serial_pair {
	const char *desc;
	struct {
		u64 start, end;
		bool serialising;
	} old, young;
	bool waits;
} serial_pairs[] = {
	{ "two writes", { 0, 8192, false }, { 4096, 12288, false }, false },
	{ "the same write", { 0, 8192, false }, { 0, 8192, false }, false },
	{ "serialising after write",
	  { 0, 8192, false }, { 4096, 12288, true }, true },
	{ "write after serialising",
	  { 0, 8192, true }, { 4096, 12288, false }, true },
	{ "two serialising", { 0, 8192, true }, { 4096, 12288, true }, true },
	{ "the same serialising", { 0, 4096, true }, { 0, 4096, true }, true },
	{ "one byte in common at the end",
	  { 0, 4097, false }, { 4096, 8192, true }, true },
	{ "one byte in common at the start",
	  { 4096, 8192, true }, { 0, 4097, false }, true },
	{ "inside", { 0, 65536, true }, { 8192, 12288, false }, true },
	{ "around", { 8192, 12288, true }, { 0, 65536, false }, true },
	{ "adjacent after", { 0, 4096, true }, { 4096, 8192, true }, false },
	{ "adjacent before", { 4096, 8192, true }, { 0, 4096, true }, false },
	{ "far away", { 0, 4096, true }, { 61440, 65536, true }, false },
};

KUNIT_ARRAY_PARAM_DESC(serial_pair, serial_pairs, desc);

static void serial_two(struct kunit *test)
{
	const struct serial_pair *p = test->param_value;
	struct memleaf *leaf = serial_leaf(test);
	struct serial_write old = {
		.start = p->old.start,
		.end = p->old.end,
		.serialising = p->old.serialising,
	};
	struct serial_write young = {
		.start = p->young.start,
		.end = p->young.end,
		.serialising = p->young.serialising,
	};

	serial_start(test, leaf, &old);
	serial_expect_started(test, &old);
	serial_start(test, leaf, &young);
	if (p->waits)
		serial_expect_waiting(test, &young);
	else
		serial_expect_started(test, &young);
	serial_end(&old);
	if (p->waits)
		serial_expect_started(test, &young);
	serial_end(&young);
}

/* A write is listed while it waits: three in a row go in order of arrival. */
static void serial_order(struct kunit *test)
{
	struct memleaf *leaf = serial_leaf(test);
	struct serial_write a = { .start = 0, .end = 8192 };
	struct serial_write b = {
		.start = 4096, .end = 12288, .serialising = true,
	};
	struct serial_write c = { .start = 8192, .end = 16384 };
	struct serial_write d = { .start = 12288, .end = 16384 };

	serial_start(test, leaf, &a);
	serial_expect_started(test, &a);
	serial_start(test, leaf, &b);
	serial_expect_waiting(test, &b);
	/* does not meet the first, but the one that waits for it */
	serial_start(test, leaf, &c);
	serial_expect_waiting(test, &c);
	/* meets only one that it may run along with */
	serial_start(test, leaf, &d);
	serial_expect_started(test, &d);

	serial_end(&a);
	serial_expect_started(test, &b);
	serial_expect_waiting(test, &c);
	serial_end(&b);
	serial_expect_started(test, &c);
	serial_end(&d);
	serial_end(&c);
}

/* Who waits for two goes when both have ended. */
static void serial_waits_for_all(struct kunit *test)
{
	struct memleaf *leaf = serial_leaf(test);
	struct serial_write a = { .start = 0, .end = 4096 };
	struct serial_write b = { .start = 4096, .end = 8192 };
	struct serial_write c = {
		.start = 0, .end = 8192, .serialising = true,
	};

	serial_start(test, leaf, &a);
	serial_expect_started(test, &a);
	serial_start(test, leaf, &b);
	serial_expect_started(test, &b);
	serial_start(test, leaf, &c);
	serial_expect_waiting(test, &c);
	serial_end(&b);
	serial_expect_waiting(test, &c);
	serial_end(&a);
	serial_expect_started(test, &c);
	serial_end(&c);
}

/**
 * struct serial_stress - a thread among many
 * @t: the thread
 * @leaf: where
 * @users: writes to each block, for all threads; a large number for one that
 *	has to be alone
 * @nr: of the thread
 */
struct serial_stress {
	struct memleaf_thread t;
	struct memleaf *leaf;
	atomic_t *users;
	u32 nr;
};

#define SERIAL_ALONE	1000

static int serial_stress_step(struct serial_stress *s, struct rnd_state *rnd)
{
	u32 first = memleaf_random(rnd, SERIAL_NR);
	u32 nr = 1 + memleaf_random(rnd, SERIAL_NR - first);
	bool alone = memleaf_random(rnd, 2);
	int add = alone ? SERIAL_ALONE : 1;
	struct qblk_tracked t;
	int ret = 0;
	u32 i;

	qblk_tracked_begin(s->leaf->node, &t, (u64)first * SERIAL_BLOCK,
			   (u64)(first + nr) * SERIAL_BLOCK, alone);
	for (i = first; i < first + nr; i++) {
		int users = atomic_add_return(add, &s->users[i]);

		if (alone ? users != SERIAL_ALONE : users >= SERIAL_ALONE)
			ret = -EBADMSG;
	}
	cond_resched();
	for (i = first; i < first + nr; i++)
		atomic_sub(add, &s->users[i]);
	qblk_tracked_end(&t);
	return ret;
}

static int serial_stress_fn(struct memleaf_thread *t)
{
	struct serial_stress *s = container_of(t, struct serial_stress, t);
	struct rnd_state rnd;
	int i, ret = 0;

	prandom_seed_state(&rnd, 1 + s->nr);
	for (i = 0; i < 500 && !ret; i++)
		ret = serial_stress_step(s, &rnd);
	return ret;
}

/* Nobody gets stuck, and nobody who has to be alone is not. */
static void serial_many(struct kunit *test)
{
	struct memleaf *leaf = serial_leaf(test);
	struct serial_stress *s;
	atomic_t *users;
	int i;

	s = kunit_kcalloc(test, SERIAL_THREADS, sizeof(*s), GFP_KERNEL);
	users = kunit_kcalloc(test, SERIAL_NR, sizeof(*users), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s);
	KUNIT_ASSERT_NOT_NULL(test, users);
	for (i = 0; i < SERIAL_THREADS; i++) {
		s[i].t.fn = serial_stress_fn;
		s[i].leaf = leaf;
		s[i].users = users;
		s[i].nr = i;
		memleaf_thread_start(test, &s[i].t);
	}
	for (i = 0; i < SERIAL_THREADS; i++) {
		wait_for_completion(&s[i].t.done);
		KUNIT_EXPECT_EQ(test, 0, s[i].t.ret);
	}
}

/* Each thread counts in sectors of its own, which share blocks. */
static int serial_sectors_fn(struct memleaf_thread *t)
{
	struct serial_stress *s = container_of(t, struct serial_stress, t);
	u8 buf[512];
	struct rnd_state rnd;
	int i, ret = 0;

	prandom_seed_state(&rnd, 1 + s->nr);
	for (i = 1; i <= 100 && !ret; i++) {
		u64 pos = (memleaf_random(&rnd, 16) * SERIAL_THREADS + s->nr) *
			  512ULL;

		ret = qblk_pread(&s->leaf->edge, pos, 512, buf);
		buf[0]++;
		if (!ret)
			ret = qblk_pwrite(&s->leaf->edge, pos, 512, buf, 0);
	}
	return ret;
}

static u32 serial_count(const struct memleaf *leaf, u32 nr)
{
	u32 i, sum = 0;

	for (i = nr; i < 16 * SERIAL_THREADS; i += SERIAL_THREADS)
		sum += leaf->data[i * 512];
	return sum;
}

/* No update of a part of a block is lost to an update of another part. */
static void serial_shared_blocks(struct kunit *test)
{
	struct memleaf *leaf = serial_leaf(test);
	struct serial_stress *s;
	int i;

	s = kunit_kcalloc(test, SERIAL_THREADS, sizeof(*s), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s);
	for (i = 0; i < SERIAL_THREADS; i++) {
		s[i].t.fn = serial_sectors_fn;
		s[i].leaf = leaf;
		s[i].nr = i;
		memleaf_thread_start(test, &s[i].t);
	}
	for (i = 0; i < SERIAL_THREADS; i++) {
		wait_for_completion(&s[i].t.done);
		KUNIT_EXPECT_EQ(test, 0, s[i].t.ret);
	}
	for (i = 0; i < SERIAL_THREADS; i++)
		KUNIT_EXPECT_EQ(test, 100, serial_count(leaf, i));
}

static int serial_part_fn(struct memleaf_thread *t)
{
	struct serial_write *w = container_of(t, struct serial_write, t);
	u8 buf[512];

	memset(buf, 0xa5, sizeof(buf));
	return qblk_pwrite(&w->leaf->edge, w->start, sizeof(buf), buf, 0);
}

/* A whole block waits for a part of it that was read and is not written yet. */
static void serial_whole_block(struct kunit *test)
{
	struct memleaf *leaf = serial_leaf(test);
	struct serial_write part = {
		.t = { .fn = serial_part_fn },
		.leaf = leaf,
		.start = 512,
	};
	struct serial_write whole = { .start = 0, .end = SERIAL_BLOCK };

	memleaf_hold(leaf, BIT(MEMLEAF_WRITE));
	memleaf_thread_start(test, &part.t);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(leaf, 1));
	serial_start(test, leaf, &whole);
	serial_expect_waiting(test, &whole);
	memleaf_release(leaf);
	wait_for_completion(&part.t.done);
	KUNIT_EXPECT_EQ(test, 0, part.t.ret);
	serial_expect_started(test, &whole);
	serial_end(&whole);
	KUNIT_EXPECT_NULL(test, memchr_inv(leaf->data, 0, 512));
	KUNIT_EXPECT_NULL(test, memchr_inv(leaf->data + 512, 0xa5, 512));
}

/* Which leaves list at all, and which list everything */
static void serial_strict(struct kunit *test)
{
	struct memleaf *bytes = memleaf_alloc(test, 64 * KB, 64 * KB);
	struct memleaf *ro = memleaf_alloc(test, 64 * KB, 64 * KB);
	struct memleaf *small = memleaf_alloc(test, 64 * KB, 64 * KB);
	struct memleaf *large = memleaf_alloc(test, 64 * KB, 64 * KB);
	struct memleaf *below = memleaf_alloc(test, 64 * KB, 64 * KB);
	struct memfmt *on_small = memfmt_alloc(test, 32 * KB);
	struct memfmt *on_large = memfmt_alloc(test, 32 * KB);

	bytes->limits.request_alignment = 1;
	memleaf_open(bytes, "kunit-bytes", false);
	KUNIT_EXPECT_NULL(test, bytes->node->serialising);
	KUNIT_EXPECT_FALSE(test, qblk_serialising_strict(bytes->node));
	memleaf_open(ro, "kunit-ro", true);
	KUNIT_EXPECT_NULL(test, ro->node->serialising);

	memleaf_open(small, "kunit-small", false);
	KUNIT_EXPECT_FALSE(test, qblk_serialising_strict(small->node));
	memfmt_open(on_small, MEMFMT_DRIVER, false, small->node, NULL);
	KUNIT_EXPECT_FALSE(test, qblk_serialising_strict(small->node));

	large->limits.request_alignment = 4096;
	large->limits.logical_block_size = 4096;
	memleaf_open(large, "kunit-large", false);
	KUNIT_EXPECT_FALSE(test, qblk_serialising_strict(large->node));
	memfmt_open(on_large, MEMFMT_DRIVER, false, large->node, NULL);
	KUNIT_EXPECT_TRUE(test, qblk_serialising_strict(large->node));

	/* a disk right on it would have smaller blocks */
	below->limits.request_alignment = 4096;
	memleaf_open(below, "kunit-below", false);
	KUNIT_EXPECT_TRUE(test, qblk_serialising_strict(below->node));
}

static struct kunit_case serial_kunit_cases[] = {
	KUNIT_CASE_PARAM(serial_two, serial_pair_gen_params),
	KUNIT_CASE(serial_order),
	KUNIT_CASE(serial_waits_for_all),
	KUNIT_CASE(serial_many),
	KUNIT_CASE(serial_shared_blocks),
	KUNIT_CASE(serial_whole_block),
	KUNIT_CASE(serial_strict),
	{}
};

static struct kunit_suite serial_kunit_suite = {
	.name = "qblk_serialising",
	.suite_init = memfmt_suite_init,
	.suite_exit = memfmt_suite_exit,
	.test_cases = serial_kunit_cases,
};

kunit_test_suite(serial_kunit_suite);
