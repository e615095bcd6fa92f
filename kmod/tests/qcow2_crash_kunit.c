// SPDX-License-Identifier: GPL-2.0
/*
 * Power cuts: the file's writes and flushes are logged while the image is used,
 * and then the file is looked at as it could have been found after a cut at any
 * of them.  What was written since the last flush may be there or not, write by
 * write.  Whatever is found has to be consistent but for leaks, and every
 * sector has to hold what it held at the last flush of the disk that completed,
 * or what was written to it since.
 */
#include <kunit/test.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

#define KB	1024ULL

#define CRASH_EVENTS	400

/* Sector 0 of an event: a flush has none */
#define CRASH_FLUSH	U32_MAX

/**
 * struct crash_event - what happened to the disk
 * @begin: length of the file's log when it began
 * @end: length of the log when it had completed
 * @sector: the first, or CRASH_FLUSH
 * @nr: how many sectors
 * @seed: what they hold now, 0 for zeroes
 */
struct crash_event {
	u32 begin;
	u32 end;
	u32 sector;
	u32 nr;
	u32 seed;
};

/**
 * struct crash - a disk with a past
 * @test: case
 * @img: the image
 * @check: for looking at it
 * @sectors: of the disk
 * @now: pattern in each sector, as used
 * @base: pattern in each sector when the disk was last flushed
 * @events: what happened
 * @nr: how many events
 * @flushed: events before this one are stable
 * @stable: the file as far as it has been flushed
 * @work: the file as it could be found
 * @walks: states looked at
 * @errors: an operation may fail, once
 */
struct crash {
	struct kunit *test;
	struct image *img;
	struct image_check check;
	u32 sectors;
	u32 *now;
	u32 *base;
	struct crash_event events[CRASH_EVENTS];
	unsigned int nr;
	unsigned int flushed;
	u8 *stable;
	u8 *work;
	unsigned int walks;
	bool errors;
};

/* Using the disk */

static void crash_event(struct crash *c, u32 begin, u32 sector, u32 nr,
			u32 seed)
{
	struct crash_event *e = &c->events[c->nr];

	KUNIT_ASSERT_LT(c->test, c->nr, CRASH_EVENTS);
	*e = (struct crash_event) {
		.begin = begin,
		.end = c->img->leaf->log_nr,
		.sector = sector,
		.nr = nr,
		.seed = seed,
	};
	c->nr++;
	if (sector != CRASH_FLUSH)
		memset32(c->now + sector, seed, nr);
}

/* What fails works when it is tried again. */
static bool crash_again(struct crash *c, int ret)
{
	if (ret == -EIO && c->errors)
		return true;
	KUNIT_ASSERT_EQ(c->test, 0, ret);
	return false;
}

static void crash_write(struct crash *c, u32 sector, u32 nr, u32 seed)
{
	u32 begin = c->img->leaf->log_nr;
	int ret;

	c->img->start = seed & 1;
	do {
		ret = image_write(c->img, sector * 512ULL, nr * 512ULL, seed);
	} while (crash_again(c, ret));
	crash_event(c, begin, sector, nr, seed);
}

static void crash_zero(struct crash *c, u32 sector, u32 nr,
		       unsigned int flags)
{
	u32 begin = c->img->leaf->log_nr;
	int ret;

	do {
		ret = image_zero(c->img, sector * 512ULL, nr * 512ULL, flags);
	} while (crash_again(c, ret));
	crash_event(c, begin, sector, nr, 0);
}

static void crash_discard(struct crash *c, u32 sector, u32 nr)
{
	u64 offset = sector * 512ULL, bytes = nr * 512ULL;
	u32 begin = c->img->leaf->log_nr;
	int ret;

	do {
		ret = image_discard(c->img, offset, bytes);
	} while (crash_again(c, ret));
	image_discard_range(c->img, &offset, &bytes);
	if (bytes)
		crash_event(c, begin, offset / 512, bytes / 512, 0);
}

static void crash_flush(struct crash *c)
{
	u32 begin = c->img->leaf->log_nr;
	int ret;

	do {
		ret = qblk_flush(&c->img->edge);
	} while (crash_again(c, ret));
	crash_event(c, begin, CRASH_FLUSH, 0, 0);
}

/* Let freed clusters become usable: that is where reuse could come too early. */
static void crash_settle(struct crash *c)
{
	struct qcow2_state *s = c->img->node->priv;

	flush_work(&s->free_work);
}

static void crash_random_op(struct crash *c, struct rnd_state *rnd, u32 seed)
{
	u32 per_cluster = c->img->cs / 512;
	u32 nr = 1 + memleaf_random(rnd, 3 * per_cluster + 4);
	u32 sector = memleaf_random(rnd, c->sectors);

	if (!memleaf_random(rnd, 3)) {
		sector = round_down(sector, per_cluster);
		nr = round_up(nr, per_cluster);
	}
	nr = min(nr, c->sectors - sector);
	if (c->errors && !memleaf_random(rnd, 3))
		memleaf_fail(c->img->leaf, 1 + memleaf_random(rnd, 31),
			     memleaf_random(rnd, 6), 1, -EIO);
	switch (memleaf_random(rnd, 12)) {
	case 0:
		crash_zero(c, sector, nr, 0);
		break;
	case 1:
		crash_zero(c, sector, nr, QBLK_REQ_MAY_UNMAP);
		break;
	case 2:
	case 3:
		crash_discard(c, sector, nr);
		break;
	case 4:
	case 5:
		crash_flush(c);
		if (memleaf_random(rnd, 2))
			crash_settle(c);
		break;
	default:
		crash_write(c, sector, nr, seed);
		break;
	}
}

/* Looking at what was left */

static bool crash_sector_is(const u8 *data, u64 offset, u32 seed)
{
	return get_unaligned_le32(data) == image_word(offset, seed) &&
	       get_unaligned_le32(data + 508) == image_word(offset + 508, seed);
}

/* May @sector hold what it does, after @nr operations of the log? */
static bool crash_sector_ok(struct crash *c, u32 sector, u32 nr)
{
	u64 offset = sector * 512ULL;
	const u8 *data = image_lookup(c->img, c->work, offset);
	unsigned int i;

	if (crash_sector_is(data, offset, c->base[sector]))
		return true;
	for (i = c->flushed; i < c->nr; i++) {
		const struct crash_event *e = &c->events[i];

		if (e->begin >= nr)
			break;
		if (e->sector <= sector && sector - e->sector < e->nr &&
		    crash_sector_is(data, offset, e->seed))
			return true;
	}
	return false;
}

/* Move what is stable with the disk's flushes that completed by then. */
static void crash_advance(struct crash *c, u32 nr)
{
	unsigned int i, end = c->flushed;

	for (i = c->flushed; i < c->nr && c->events[i].end <= nr; i++)
		if (c->events[i].sector == CRASH_FLUSH)
			end = i;
	for (; c->flushed < end; c->flushed++) {
		const struct crash_event *e = &c->events[c->flushed];

		if (e->sector != CRASH_FLUSH)
			memset32(c->base + e->sector, e->seed, e->nr);
	}
}

/* The state in @work, found after @nr operations of the log */
static bool crash_look(struct crash *c, u32 nr, const char *what, u32 which)
{
	u32 sector;

	c->walks++;
	if (!image_check(&c->check, c->work)) {
		KUNIT_FAIL(c->test, "cut after operation %u, %s %u: %s", nr,
			   what, which, c->check.why);
		return false;
	}
	for (sector = 0; sector < c->sectors; sector++) {
		if (crash_sector_ok(c, sector, nr))
			continue;
		KUNIT_FAIL(c->test, "cut after operation %u, %s %u: sector %u",
			   nr, what, which, sector);
		return false;
	}
	return true;
}

/* Bring the ranges that operations @first to @end touch back to @stable. */
static void crash_reset(struct crash *c, u32 first, u32 end)
{
	const struct memleaf_op *log = c->img->leaf->log;

	for (; first < end; first++)
		if (log[first].type != MEMLEAF_READ)
			memcpy(c->work + log[first].offset,
			       c->stable + log[first].offset,
			       log[first].bytes);
}

static void crash_apply(struct crash *c, u32 first, u32 end, u32 except)
{
	const struct memleaf_op *log = c->img->leaf->log;

	for (; first < end; first++)
		if (first != except)
			memleaf_apply(c->work, &log[first], log[first].bytes);
}

static bool crash_changes(const struct memleaf_op *op)
{
	return op->type != MEMLEAF_READ && op->type != MEMLEAF_FLUSH;
}

/*
 * A cut after operation @last, which is not stable, nor are those from @first
 * on: all of them done, each of them missing, the last one alone, the last one
 * in half.
 */
static bool crash_variants(struct crash *c, u32 first, u32 last)
{
	const struct memleaf_op *op = &c->img->leaf->log[last];
	u32 nr = last + 1, drop;
	bool ok;

	crash_advance(c, nr);
	crash_apply(c, last, nr, U32_MAX);
	ok = crash_look(c, nr, "all done", 0);
	for (drop = first; ok && drop < last; drop++) {
		if (!crash_changes(&c->img->leaf->log[drop]))
			continue;
		crash_reset(c, first, nr);
		crash_apply(c, first, nr, drop);
		ok = crash_look(c, nr, "without", drop);
	}
	if (ok && first < last) {
		crash_reset(c, first, nr);
		crash_apply(c, last, nr, U32_MAX);
		ok = crash_look(c, nr, "nothing but", last);
	}
	if (ok && op->bytes > 512) {
		crash_reset(c, first, nr);
		crash_apply(c, first, last, U32_MAX);
		memleaf_apply(c->work, op, round_down(op->bytes / 2, 512));
		ok = crash_look(c, nr, "half of", last);
	}
	crash_reset(c, first, nr);
	crash_apply(c, first, nr, U32_MAX);
	return ok;
}

/* Every cut */
static void crash_replay(struct crash *c)
{
	struct memleaf *leaf = c->img->leaf;
	u32 i, first = 0;

	memcpy(c->stable, leaf->log_base, leaf->capacity);
	memcpy(c->work, leaf->log_base, leaf->capacity);
	for (i = 0; i < leaf->log_nr; i++) {
		if (leaf->log[i].type == MEMLEAF_FLUSH) {
			for (; first <= i; first++)
				memleaf_apply(c->stable, &leaf->log[first],
					      leaf->log[first].bytes);
			crash_advance(c, i + 1);
			if (!crash_look(c, i + 1, "flushed", 0))
				return;
		}
		if (crash_changes(&leaf->log[i]) &&
		    !crash_variants(c, first, i))
			return;
	}
	kunit_info(c->test, "%u operations of the file, %u states\n",
		   leaf->log_nr, c->walks);
}

/* Cases */

static struct crash *crash_create(struct kunit *test,
				  const struct image_cfg *cfg, u64 capacity)
{
	struct crash *c = memleaf_valloc(test, sizeof(*c));

	c->test = test;
	c->img = image_create(test, cfg, capacity);
	c->sectors = cfg->size / 512;
	c->now = memleaf_valloc(test, c->sectors * sizeof(*c->now));
	c->base = memleaf_valloc(test, c->sectors * sizeof(*c->base));
	c->stable = memleaf_valloc(test, c->img->leaf->capacity);
	c->work = memleaf_valloc(test, c->img->leaf->capacity);
	image_check_init(&c->check, c->img);
	if (cfg->backing)
		memset32(c->now, IMAGE_BACKING_SEED,
			 min(cfg->backing, cfg->size) / 512);
	image_open(c->img);
	return c;
}

/* What was done until now is the past, and not looked at. */
static void crash_start(struct crash *c)
{
	KUNIT_ASSERT_EQ(c->test, 0, qblk_flush(&c->img->edge));
	crash_settle(c);
	memcpy(c->base, c->now, c->sectors * sizeof(*c->base));
	c->nr = 0;
	memleaf_log_start(c->img->leaf);
}

/* The node is closed, and all states are looked at. */
static void crash_finish(struct crash *c)
{
	struct memleaf *leaf = c->img->leaf;

	KUNIT_ASSERT_EQ(c->test, 0, image_close(c->img));
	c->check.nr = DIV_ROUND_UP_ULL(leaf->length, c->img->cs);
	crash_replay(c);
	KUNIT_EXPECT_EQ(c->test, 0, memcmp(c->work, leaf->data, leaf->length));
}

static const struct image_cfg crash_cfgs[] = {
	{
		.desc = "512 byte clusters",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 40 * KB,
	}, {
		.desc = "512 byte clusters, 1 bit refcounts",
		.version = 3, .cluster_bits = 9, .refcount_order = 0,
		.size = 40 * KB,
	}, {
		.desc = "512 byte clusters, 64 bit refcounts",
		.version = 3, .cluster_bits = 9, .refcount_order = 6,
		.size = 40 * KB,
	}, {
		.desc = "512 byte clusters, 4 KiB blocks",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 40 * KB, .align = 4096,
	}, {
		.desc = "512 byte clusters, version 2",
		.version = 2, .cluster_bits = 9, .refcount_order = 4,
		.size = 40 * KB,
	}, {
		.desc = "2 KiB clusters, backing file",
		.version = 3, .cluster_bits = 11, .refcount_order = 3,
		.size = 64 * KB, .backing = 32 * KB,
	}, {
		.desc = "2 KiB clusters, backing file, version 2",
		.version = 2, .cluster_bits = 11, .refcount_order = 4,
		.size = 64 * KB, .backing = 32 * KB,
	}, {
		.desc = "2 KiB clusters, a disk that cannot grow",
		.version = 3, .cluster_bits = 11, .refcount_order = 4,
		.size = 64 * KB, .fixed = 128 * KB,
	}, {
		.desc = "8 KiB clusters",
		.version = 3, .cluster_bits = 13, .refcount_order = 5,
		.size = 128 * KB,
	}, {
		.desc = "512 byte clusters, lazy refcounts",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 40 * KB, .lazy = true,
	}, {
		.desc = "2 KiB clusters, backing file, lazy refcounts",
		.version = 3, .cluster_bits = 11, .refcount_order = 3,
		.size = 64 * KB, .backing = 32 * KB, .lazy = true,
	},
};

KUNIT_ARRAY_PARAM_DESC(crash_cfg, crash_cfgs, desc);

/* Many operations on an empty image */
static struct crash *crash_run(struct kunit *test, u32 seed, bool errors)
{
	const struct image_cfg *cfg = test->param_value;
	struct crash *c = crash_create(test, cfg, 4 * cfg->size + 16 * KB);
	struct rnd_state rnd;
	int i;

	prandom_seed_state(&rnd, seed);
	crash_start(c);
	c->errors = errors;
	for (i = 0; i < 120; i++)
		crash_random_op(c, &rnd, 1 + i);
	memleaf_fail(c->img->leaf, 0, 0, 0, 0);
	return c;
}

static void crash_random(struct kunit *test)
{
	struct crash *c = crash_run(test, 7, false);

	crash_finish(c);
	image_expect_clean(c->img);
}

/* As above, while the file fails now and then: something may leak. */
static void crash_with_errors(struct kunit *test)
{
	crash_finish(crash_run(test, 9, true));
}

/* Everything there is belongs to a snapshot as well. */
static const struct image_cfg crash_snapshot_cfgs[] = {
	{
		.desc = "512 byte clusters",
		.version = 3, .cluster_bits = 9, .refcount_order = 4,
		.size = 24 * KB,
	}, {
		.desc = "2 KiB clusters, 2 bit refcounts, version 3",
		.version = 3, .cluster_bits = 11, .refcount_order = 1,
		.size = 64 * KB,
	}, {
		.desc = "2 KiB clusters, version 2",
		.version = 2, .cluster_bits = 11, .refcount_order = 4,
		.size = 64 * KB,
	}, {
		.desc = "2 KiB clusters, lazy refcounts",
		.version = 3, .cluster_bits = 11, .refcount_order = 4,
		.size = 64 * KB, .lazy = true,
	},
};

KUNIT_ARRAY_PARAM_DESC(crash_snapshot, crash_snapshot_cfgs, desc);

static void crash_with_snapshot(struct kunit *test)
{
	const struct image_cfg *cfg = test->param_value;
	struct crash *c = crash_create(test, cfg, 4 * cfg->size + 16 * KB);
	struct rnd_state rnd;
	int i;

	prandom_seed_state(&rnd, 11);
	for (i = 0; i < 30; i++)
		crash_random_op(c, &rnd, 1000 + i);
	KUNIT_ASSERT_EQ(test, 0, image_close(c->img));
	image_add_snapshot(c->img);
	image_open(c->img);
	crash_start(c);
	for (i = 0; i < 40; i++)
		crash_random_op(c, &rnd, 1 + i);
	crash_finish(c);
	image_expect_clean(c->img);
}

/* Around the move of the refcount table to a larger place */
static const struct image_cfg crash_growth_cfg = {
	.desc = "growth",
	.version = 3, .cluster_bits = 9, .refcount_order = 6,
	.size = 2304 * KB,
};

static void crash_reftable_growth(struct kunit *test)
{
	struct crash *c = crash_create(test, &crash_growth_cfg,
				       2700 * KB);
	u8 *header = c->img->leaf->data;
	u32 sector, before;

	/* a table of one cluster has room for 64 blocks of 64 clusters */
	for (sector = 0; c->img->leaf->length < 64 * 64 * 512 - 32 * KB;
	     sector += 16)
		crash_write(c, sector, 16, 1);
	for (; c->img->leaf->length < 64 * 64 * 512 - 1024; sector++)
		crash_write(c, sector, 1, 1);
	before = get_unaligned_be32(header + 56);
	crash_start(c);
	for (; get_unaligned_be32(header + 56) == before; sector++)
		crash_write(c, sector, 1, 2);
	crash_write(c, sector, 1, 3);
	crash_flush(c);
	crash_settle(c);
	crash_write(c, sector + 1, 2, 4);
	crash_write(c, 3, 1, 5);
	crash_finish(c);
	image_expect_clean(c->img);
}

static struct kunit_case crash_kunit_cases[] = {
	KUNIT_CASE_PARAM_ATTR(crash_random, crash_cfg_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM_ATTR(crash_with_errors, crash_cfg_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM_ATTR(crash_with_snapshot, crash_snapshot_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_SLOW(crash_reftable_growth),
	{}
};

static struct kunit_suite crash_kunit_suite = {
	.name = "qblk_qcow2_crash",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = crash_kunit_cases,
};

kunit_test_suite(crash_kunit_suite);
