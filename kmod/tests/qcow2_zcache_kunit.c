// SPDX-License-Identifier: GPL-2.0
/* The cache of decompressed clusters */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "memleaf.h"

/* The cache holds 8 of these. */
#define ZC_BITS		19
#define ZC_SIZE		BIT(ZC_BITS)
#define ZC_MAX		8

/* Of any compressed cluster here, unless said */
#define ZC_LEN		1000

static void zc_exit(void *private)
{
	qcow2_zcache_exit(private);
}

static struct qcow2_zcache *zc_create(struct kunit *test)
{
	struct qcow2_zcache *c = kunit_kzalloc(test, sizeof(*c), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, c);
	qcow2_zcache_init(c, ZC_BITS);
	KUNIT_ASSERT_EQ(test, ZC_MAX, c->max);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, zc_exit, c));
	return c;
}

/* A cluster that is not there; the caller has a reference and fills it. */
static struct qcow2_zcluster *zc_new(struct kunit *test, struct qcow2_zcache *c,
				     u64 host)
{
	bool fill = false;
	struct qcow2_zcluster *zc = qcow2_zcache_get(c, host, ZC_LEN, &fill);

	KUNIT_ASSERT_NOT_NULL(test, zc);
	KUNIT_ASSERT_TRUE(test, fill);
	memset(zc->data, host & 0xff, ZC_SIZE);
	return zc;
}

static void zc_add(struct kunit *test, struct qcow2_zcache *c, u64 host)
{
	struct qcow2_zcluster *zc = zc_new(test, c, host);

	qcow2_zcache_filled(c, zc, 0);
	qcow2_zcache_put(zc);
}

static bool zc_has(struct qcow2_zcache *c, u64 host)
{
	struct qcow2_zcluster *zc = qcow2_zcache_get(c, host, ZC_LEN, NULL);
	bool good = zc && *(u8 *)zc->data == (host & 0xff);

	if (zc)
		qcow2_zcache_put(zc);
	return good;
}

static void zc_found(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	bool fill = false;
	struct qcow2_zcluster *zc;

	zc_add(test, c, 77);
	zc = qcow2_zcache_get(c, 77, ZC_LEN, &fill);
	KUNIT_ASSERT_NOT_NULL(test, zc);
	KUNIT_EXPECT_FALSE(test, fill);
	KUNIT_EXPECT_EQ(test, 77, *(u8 *)zc->data);
	qcow2_zcache_put(zc);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&c->hits));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&c->misses));
	/* who only looks finds nothing, and leaves nothing */
	KUNIT_EXPECT_NULL(test, qcow2_zcache_get(c, 78, ZC_LEN, NULL));
	KUNIT_EXPECT_EQ(test, 1, c->nr);
}

/* Entries may name the same first byte and different lengths. */
static void zc_other_length(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	bool fill = false;

	zc_add(test, c, 77);
	KUNIT_EXPECT_NULL(test, qcow2_zcache_get(c, 77, ZC_LEN + 1, &fill));
	KUNIT_EXPECT_FALSE(test, fill);
	KUNIT_EXPECT_TRUE(test, zc_has(c, 77));
}

static void zc_bounded(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	u64 i;

	for (i = 0; i < ZC_MAX; i++)
		zc_add(test, c, i * ZC_LEN);
	/* the first one is used again: the second one goes */
	KUNIT_EXPECT_TRUE(test, zc_has(c, 0));
	zc_add(test, c, ZC_MAX * ZC_LEN);
	KUNIT_EXPECT_EQ(test, ZC_MAX, c->nr);
	KUNIT_EXPECT_TRUE(test, zc_has(c, 0));
	KUNIT_EXPECT_FALSE(test, zc_has(c, ZC_LEN));
	for (i = 2; i <= ZC_MAX; i++)
		KUNIT_EXPECT_TRUE(test, zc_has(c, i * ZC_LEN));
}

/* Who uses a cluster keeps it, and one that is filled is used. */
static void zc_all_in_use(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	struct qcow2_zcluster *zc[ZC_MAX];
	bool fill = false;
	u64 i;

	for (i = 0; i < ZC_MAX; i++)
		zc[i] = zc_new(test, c, i * ZC_LEN);
	KUNIT_EXPECT_NULL(test, qcow2_zcache_get(c, 1 << 20, ZC_LEN, &fill));
	KUNIT_EXPECT_FALSE(test, fill);
	KUNIT_EXPECT_EQ(test, 0, qcow2_zcache_shrink(c, 3));
	for (i = 0; i < ZC_MAX; i++)
		qcow2_zcache_filled(c, zc[i], 0);
	KUNIT_EXPECT_EQ(test, 0, qcow2_zcache_shrink(c, 3));
	for (i = 0; i < ZC_MAX; i++)
		qcow2_zcache_put(zc[i]);
	zc_add(test, c, 1 << 20);
	KUNIT_EXPECT_EQ(test, ZC_MAX, c->nr);
}

static void zc_shrink(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	u64 i;

	for (i = 0; i < 5; i++)
		zc_add(test, c, i * ZC_LEN);
	KUNIT_EXPECT_EQ(test, 2, qcow2_zcache_shrink(c, 2));
	KUNIT_EXPECT_EQ(test, 3, c->nr);
	KUNIT_EXPECT_FALSE(test, zc_has(c, 0));
	KUNIT_EXPECT_TRUE(test, zc_has(c, 2 * ZC_LEN));
	/* in pages, and never less than a cluster */
	KUNIT_EXPECT_EQ(test, 3 * ZC_SIZE / PAGE_SIZE,
			c->reclaim.count(&c->reclaim));
	KUNIT_EXPECT_EQ(test, ZC_SIZE / PAGE_SIZE,
			c->reclaim.scan(&c->reclaim, 1));
	KUNIT_EXPECT_EQ(test, 2, qcow2_zcache_shrink(c, ULONG_MAX));
	KUNIT_EXPECT_EQ(test, 0, c->reclaim.count(&c->reclaim));
	KUNIT_EXPECT_EQ(test, 0, c->nr);
}

/* What could not be decompressed is not there for the next one either. */
static void zc_failed(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	struct qcow2_zcluster *zc = zc_new(test, c, 5);

	qcow2_zcache_filled(c, zc, -EIO);
	qcow2_zcache_put(zc);
	KUNIT_EXPECT_EQ(test, 0, c->nr);
	KUNIT_EXPECT_FALSE(test, zc_has(c, 5));
}

/* All that has a byte in the range goes, nothing else. */
static void zc_drop(struct kunit *test)
{
	u64 from = 16 * (u64)ZC_SIZE, len = ZC_SIZE;
	struct qcow2_zcache *c = zc_create(test);

	zc_add(test, c, from - ZC_LEN);		/* ends before it */
	zc_add(test, c, from - ZC_LEN + 1);	/* its last byte */
	zc_add(test, c, from + 5);
	zc_add(test, c, from + len - 1);
	zc_add(test, c, from + len);
	qcow2_zcache_drop(c, from, len);
	KUNIT_EXPECT_EQ(test, 2, c->nr);
	KUNIT_EXPECT_TRUE(test, zc_has(c, from - ZC_LEN));
	KUNIT_EXPECT_TRUE(test, zc_has(c, from + len));
	/* at the beginning of the file there is nothing before it */
	zc_add(test, c, 3);
	qcow2_zcache_drop(c, 0, ZC_SIZE);
	KUNIT_EXPECT_FALSE(test, zc_has(c, 3));
}

/* Its user does not notice that a cluster is dropped, filled or not. */
static void zc_drop_in_use(struct kunit *test)
{
	struct qcow2_zcache *c = zc_create(test);
	struct qcow2_zcluster *zc = zc_new(test, c, 7);
	int ret;

	for (ret = 0; ret >= -1; ret--) {
		qcow2_zcache_drop(c, 0, ZC_SIZE);
		KUNIT_EXPECT_EQ(test, 0, c->nr);
		qcow2_zcache_filled(c, zc, ret);
		KUNIT_EXPECT_EQ(test, 7, *(u8 *)zc->data);
		KUNIT_EXPECT_FALSE(test, zc_has(c, 7));
		qcow2_zcache_put(zc);
		zc = zc_new(test, c, 7);
	}
	/* another one has its place by now, and stays */
	qcow2_zcache_filled(c, zc, 0);
	qcow2_zcache_put(zc);
	KUNIT_EXPECT_TRUE(test, zc_has(c, 7));
}

/**
 * struct zc_waiter - somebody who wants a cluster that is being filled
 * @t: thread
 * @c: cache
 */
struct zc_waiter {
	struct memleaf_thread t;
	struct qcow2_zcache *c;
};

static int zc_waiter_fn(struct memleaf_thread *t)
{
	struct zc_waiter *w = container_of(t, struct zc_waiter, t);
	bool fill = false;
	struct qcow2_zcluster *zc = qcow2_zcache_get(w->c, 9, ZC_LEN, &fill);

	if (!zc || fill)
		return -EIO;
	qcow2_zcache_put(zc);
	return 0;
}

static int zc_wait_for(struct kunit *test, int result)
{
	struct qcow2_zcache *c = zc_create(test);
	struct qcow2_zcluster *zc = zc_new(test, c, 9);
	struct zc_waiter w = { .t.fn = zc_waiter_fn, .c = c };
	int i;

	memleaf_thread_start(test, &w.t);
	/* its reference says that it is there */
	for (i = 0; i < 1000 && refcount_read(&zc->ref) < 3; i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, 3, refcount_read(&zc->ref));
	KUNIT_EXPECT_FALSE(test, completion_done(&w.t.done));
	qcow2_zcache_filled(c, zc, result);
	wait_for_completion(&w.t.done);
	qcow2_zcache_put(zc);
	return w.t.ret;
}

static void zc_wait(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 0, zc_wait_for(test, 0));
	KUNIT_EXPECT_EQ(test, -EIO, zc_wait_for(test, -EIO));
}

static struct kunit_case zc_kunit_cases[] = {
	KUNIT_CASE(zc_found),
	KUNIT_CASE(zc_other_length),
	KUNIT_CASE(zc_bounded),
	KUNIT_CASE(zc_all_in_use),
	KUNIT_CASE(zc_shrink),
	KUNIT_CASE(zc_failed),
	KUNIT_CASE(zc_drop),
	KUNIT_CASE(zc_drop_in_use),
	KUNIT_CASE(zc_wait),
	{}
};

static struct kunit_suite zc_kunit_suite = {
	.name = "qblk_qcow2_zcache",
	.test_cases = zc_kunit_cases,
};

kunit_test_suite(zc_kunit_suite);
