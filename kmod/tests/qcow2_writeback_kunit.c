// SPDX-License-Identifier: GPL-2.0
/* When metadata is written back although nobody asked for it */
#include <kunit/test.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

/* An L2 table takes a cluster and covers 32 KiB. */
#define WRITEBACK_TABLES	32
#define WRITEBACK_TABLE_BYTES	(32 << 10)

static const struct image_cfg writeback_cfg = {
	.desc = "many L2 tables",
	.version = 3, .cluster_bits = 9, .refcount_order = 4,
	.size = WRITEBACK_TABLES * WRITEBACK_TABLE_BYTES,
};

/* Dirty a cluster of each table.  Return: most slices that were dirty. */
static unsigned int writeback_dirty_all(struct image *img, u32 cluster)
{
	struct qcow2_state *s = img->node->priv;
	unsigned int most = 0;
	u32 i;

	for (i = 0; i < WRITEBACK_TABLES; i++) {
		KUNIT_ASSERT_EQ(img->test, 0,
				image_write(img, i * WRITEBACK_TABLE_BYTES +
						 cluster * img->cs,
					    img->cs, 1 + cluster));
		most = max(most, qcow2_cache_nr_dirty(&s->l2_cache));
	}
	return most;
}

/* An image with all its L2 tables, which are clean */
static struct image *writeback_open(struct kunit *test, const char *l2_cache)
{
	struct image *img = image_create(test, &writeback_cfg, 4 << 20);

	img->l2_cache = l2_cache;
	image_open(img);
	writeback_dirty_all(img, 0);
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	return img;
}

static void writeback_close(struct image *img)
{
	struct qcow2_state *s = img->node->priv;

	KUNIT_EXPECT_EQ(img->test, 0, qblk_flush(&img->edge));
	KUNIT_EXPECT_EQ(img->test, 0, qcow2_cache_nr_dirty(&s->l2_cache));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(img->test, 0, image_close(img));
	image_expect_clean(img);
}

/* Where there is room for all tables, they wait for a flush. */
static void writeback_waits(struct kunit *test)
{
	struct image *img = writeback_open(test, "1M");
	unsigned int flushes = img->leaf->count[MEMLEAF_FLUSH];

	KUNIT_EXPECT_EQ(test, WRITEBACK_TABLES, writeback_dirty_all(img, 1));
	KUNIT_EXPECT_EQ(test, flushes, img->leaf->count[MEMLEAF_FLUSH]);
	writeback_close(img);
}

/* Where they make room for each other, half of them stay clean. */
static void writeback_limited(struct kunit *test)
{
	struct image *img = writeback_open(test, NULL);
	struct qcow2_state *s = img->node->priv;
	unsigned int flushes = img->leaf->count[MEMLEAF_FLUSH];

	KUNIT_EXPECT_LT(test, s->l2_cache.max, WRITEBACK_TABLES);
	KUNIT_EXPECT_EQ(test, s->l2_cache.max / 2 + 1,
			writeback_dirty_all(img, 1));
	KUNIT_EXPECT_LT(test, flushes, img->leaf->count[MEMLEAF_FLUSH]);
	writeback_close(img);
}

/* Their number is limited all the same. */
static void writeback_much(struct kunit *test)
{
	struct image *img = writeback_open(test, "1M");
	struct qcow2_state *s = img->node->priv;

	KUNIT_EXPECT_EQ(test, WRITEBACK_TABLES, s->l2_cache.max_dirty);
	s->l2_cache.max_dirty = 20;
	KUNIT_EXPECT_EQ(test, 21, writeback_dirty_all(img, 1));
	writeback_close(img);
}

static struct kunit_case writeback_kunit_cases[] = {
	KUNIT_CASE(writeback_waits),
	KUNIT_CASE(writeback_limited),
	KUNIT_CASE(writeback_much),
	{}
};

static struct kunit_suite writeback_kunit_suite = {
	.name = "qblk_qcow2_writeback",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = writeback_kunit_cases,
};

kunit_test_suite(writeback_kunit_suite);
