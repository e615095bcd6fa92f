// SPDX-License-Identifier: GPL-2.0
/* Writes to the end of a leaf: which are joined, and how they end. */
#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <qblk/req.h>

#include "memleaf.h"

#define APPEND_UNIT	SZ_64K
#define APPEND_NR	24
#define APPEND_BEGIN	SZ_4K

/**
 * struct append_io - a write of a case
 * @io: the write
 * @c: the case
 * @bv: its data: pages of the case's buffer
 * @ret: how it ended
 * @others: how many had been written then
 * @done: it has
 */
struct append_io {
	struct qblk_append_io io;
	struct append_case *c;
	struct bio_vec bv;
	int ret;
	int others;
	struct completion done;
};

/**
 * struct append_case - a leaf with writes to its end
 * @leaf: the leaf, APPEND_BEGIN bytes long
 * @ios: the writes
 * @pages: what each of them writes
 * @written: how many were told that they are written
 */
struct append_case {
	struct memleaf *leaf;
	struct append_io ios[APPEND_NR];
	u8 *pages;
	atomic_t written;
};

static void append_free(void *pages)
{
	free_pages_exact(pages, APPEND_NR * APPEND_UNIT);
}

static struct append_case *append_create_max(struct kunit *test, u64 capacity,
					     u64 max)
{
	struct append_case *c = kunit_kzalloc(test, sizeof(*c), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, c);
	c->pages = alloc_pages_exact(APPEND_NR * APPEND_UNIT, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, c->pages);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, append_free,
							   c->pages));
	for (i = 0; i < APPEND_NR; i++)
		memset(c->pages + i * APPEND_UNIT, i + 1, APPEND_UNIT);
	c->leaf = memleaf_alloc(test, APPEND_BEGIN, capacity);
	c->leaf->limits.max_transfer = max;
	memleaf_open(c->leaf, "kunit-append", false);
	memleaf_log_start(c->leaf);
	return c;
}

static struct append_case *append_create(struct kunit *test, u64 capacity)
{
	return append_create_max(test, capacity, 0);
}

static void append_written(struct qblk_append_io *io, int ret)
{
	struct append_io *aio = container_of(io, struct append_io, io);

	aio->ret = ret;
	atomic_inc(&aio->c->written);
}

static void append_end_io(struct qblk_append_io *io)
{
	struct append_io *aio = container_of(io, struct append_io, io);

	aio->others = atomic_read(&aio->c->written);
	complete(&aio->done);
}

static int append_start_at(struct append_case *c, unsigned int nr, u64 offset,
			   u64 bytes)
{
	struct append_io *aio = &c->ios[nr];

	bvec_set_page(&aio->bv, virt_to_page(c->pages + nr * APPEND_UNIT),
		      bytes, 0);
	iov_iter_bvec(&aio->io.iter, ITER_SOURCE, &aio->bv, 1, bytes);
	aio->io.offset = offset;
	aio->c = c;
	aio->io.written = append_written;
	aio->io.end_io = append_end_io;
	init_completion(&aio->done);
	return qblk_start_append(&c->leaf->edge, &aio->io);
}

static void append_start(struct kunit *test, struct append_case *c,
			 unsigned int nr)
{
	KUNIT_ASSERT_EQ(test, 0,
			append_start_at(c, nr, APPEND_BEGIN + nr * APPEND_UNIT,
					APPEND_UNIT));
}

/* The first one is on its way when the others arrive. */
static void append_start_all(struct kunit *test, struct append_case *c,
			     unsigned int nr)
{
	unsigned int i;

	memleaf_hold(c->leaf, BIT(MEMLEAF_WRITE));
	append_start(test, c, 0);
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(c->leaf, 1));
	for (i = 1; i < nr; i++)
		append_start(test, c, i);
}

static void append_expect(struct kunit *test, struct append_case *c,
			  unsigned int nr, int ret)
{
	wait_for_completion(&c->ios[nr].done);
	KUNIT_EXPECT_EQ(test, ret, c->ios[nr].ret);
	if (ret)
		return;
	KUNIT_EXPECT_MEMEQ(test, c->leaf->data + APPEND_BEGIN +
			   nr * APPEND_UNIT, c->pages + nr * APPEND_UNIT,
			   APPEND_UNIT);
}

static void append_expect_all(struct kunit *test, struct append_case *c,
			      unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		append_expect(test, c, i, 0);
}

/* The writes that succeeded, as numbers of units */
static void append_expect_log(struct kunit *test, struct append_case *c,
			      const unsigned int *units, unsigned int nr)
{
	unsigned int i;

	KUNIT_ASSERT_EQ(test, nr, c->leaf->log_nr);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_EQ(test, units[i] * APPEND_UNIT,
				c->leaf->log[i].bytes);
}

static void append_joined(struct kunit *test)
{
	static const unsigned int units[] = { 1, 4, 1 };
	struct append_case *c = append_create(test, SZ_2M);
	unsigned int i;

	append_start_all(test, c, 5);
	memleaf_release(c->leaf);
	append_expect_all(test, c, 5);
	/* None ends before all that were joined are written. */
	KUNIT_EXPECT_EQ(test, 1, c->ios[0].others);
	for (i = 1; i < 5; i++)
		KUNIT_EXPECT_EQ(test, 5, c->ios[i].others);
	/* after a pause, by itself */
	append_start(test, c, 5);
	append_expect(test, c, 5, 0);
	append_expect_log(test, c, units, ARRAY_SIZE(units));
	KUNIT_EXPECT_EQ(test, APPEND_BEGIN + 6 * APPEND_UNIT, c->leaf->length);
}

/* No more than a MiB at a time */
static void append_much(struct kunit *test)
{
	static const unsigned int units[] = { 1, 16, 7 };
	struct append_case *c = append_create(test, SZ_2M);

	append_start_all(test, c, APPEND_NR);
	memleaf_release(c->leaf);
	append_expect_all(test, c, APPEND_NR);
	append_expect_log(test, c, units, ARRAY_SIZE(units));
}

/* No more than the leaf takes */
static void append_limited(struct kunit *test)
{
	static const unsigned int units[] = { 1, 3, 3, 1 };
	struct append_case *c = append_create_max(test, SZ_2M,
						  3 * APPEND_UNIT + 512);

	append_start_all(test, c, 8);
	memleaf_release(c->leaf);
	append_expect_all(test, c, 8);
	append_expect_log(test, c, units, ARRAY_SIZE(units));
}

/* What fails together is tried one by one. */
static void append_error(struct kunit *test)
{
	static const unsigned int units[] = { 1, 1, 1, 1 };
	struct append_case *c = append_create(test, SZ_2M);

	append_start_all(test, c, 4);
	memleaf_fail(c->leaf, BIT(MEMLEAF_WRITE), 1, 1, -EIO);
	memleaf_release(c->leaf);
	append_expect_all(test, c, 4);
	append_expect_log(test, c, units, ARRAY_SIZE(units));
}

static void append_error_of_one(struct kunit *test)
{
	struct append_case *c = append_create(test, SZ_2M);

	append_start_all(test, c, 4);
	/* all three of the second write, and then the first */
	memleaf_fail(c->leaf, BIT(MEMLEAF_WRITE), 1, 2, -EIO);
	memleaf_release(c->leaf);
	append_expect(test, c, 0, 0);
	append_expect(test, c, 1, -EIO);
	append_expect(test, c, 2, 0);
	append_expect(test, c, 3, 0);
}

/* There is space for two of three. */
static void append_no_space(struct kunit *test)
{
	struct append_case *c = append_create(test, APPEND_BEGIN +
					      3 * APPEND_UNIT);

	append_start_all(test, c, 4);
	memleaf_release(c->leaf);
	append_expect(test, c, 0, 0);
	append_expect(test, c, 1, 0);
	append_expect(test, c, 2, 0);
	append_expect(test, c, 3, -ENOSPC);
	KUNIT_EXPECT_EQ(test, c->leaf->capacity, c->leaf->length);
}

/* What is not for the queue */
static void append_elsewhere(struct kunit *test)
{
	static const struct {
		u64 offset;
		u64 bytes;
	} ios[] = {
		{ 0, SZ_4K },				/* inside */
		{ APPEND_BEGIN + SZ_4K, SZ_4K },	/* behind a gap */
		{ APPEND_BEGIN + 512, 512 },
		{ APPEND_BEGIN, 700 },			/* not blocks */
		{ LLONG_MAX - 511, SZ_4K },		/* nowhere */
	};
	struct append_case *c = append_create(test, SZ_2M);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ios); i++)
		KUNIT_EXPECT_EQ(test, -EAGAIN,
				append_start_at(c, i, ios[i].offset,
						ios[i].bytes));
	c->leaf->edge.perm = QBLK_PERM_CONSISTENT_READ;
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			append_start_at(c, 0, APPEND_BEGIN, SZ_4K));
	KUNIT_EXPECT_EQ(test, 0, c->leaf->log_nr);
}

/* The end is where queued writes will end, not where the leaf does now. */
static void append_overtaken(struct kunit *test)
{
	struct append_case *c = append_create(test, SZ_2M);

	append_start_all(test, c, 2);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			append_start_at(c, 2, APPEND_BEGIN, APPEND_UNIT));
	append_start(test, c, 2);
	memleaf_release(c->leaf);
	append_expect_all(test, c, 3);
}

static struct kunit_case append_cases[] = {
	KUNIT_CASE(append_joined),
	KUNIT_CASE(append_much),
	KUNIT_CASE(append_limited),
	KUNIT_CASE(append_error),
	KUNIT_CASE(append_error_of_one),
	KUNIT_CASE(append_no_space),
	KUNIT_CASE(append_elsewhere),
	KUNIT_CASE(append_overtaken),
	{}
};

static struct kunit_suite append_suite = {
	.name = "qblk_append",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = append_cases,
};

kunit_test_suite(append_suite);
