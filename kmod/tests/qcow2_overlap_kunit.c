// SPDX-License-Identifier: GPL-2.0
/*
 * Where overlap.c sees metadata, cluster by cluster, is where the bytes of the
 * image have it.
 */
#include <kunit/test.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

#define OVERLAP_CS		4096U
#define OVERLAP_CAPACITY	(2U << 20)
#define OVERLAP_CLUSTERS	(OVERLAP_CAPACITY / OVERLAP_CS)

/* Three L2 tables, if all are there */
static const struct image_cfg overlap_cfg = {
	.desc = "overlap",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 6 << 20,
};

/* What each cluster holds: BIT() of enum qcow2_overlap */
struct overlap_map {
	u32 kinds[OVERLAP_CLUSTERS];
};

static u64 overlap_be64(const struct image *img, u64 offset)
{
	return get_unaligned_be64(img->leaf->data + offset);
}

static void overlap_mark(struct image *img, struct overlap_map *map,
			 u64 offset, enum qcow2_overlap kind)
{
	u64 cluster = (offset & QCOW2_L1E_OFFSET_MASK) / OVERLAP_CS;

	KUNIT_ASSERT_LT(img->test, cluster, (u64)OVERLAP_CLUSTERS);
	map->kinds[cluster] |= BIT(kind);
}

/* A table, and the clusters its entries lead to */
static void overlap_mark_table(struct image *img, struct overlap_map *map,
			       u64 table, u32 entries, enum qcow2_overlap kind,
			       enum qcow2_overlap below)
{
	u32 i;

	overlap_mark(img, map, table, kind);
	for (i = 0; i < entries; i++)
		if (overlap_be64(img, table + i * 8))
			overlap_mark(img, map, overlap_be64(img, table + i * 8),
				     below);
}

/* Read from the bytes, and without the code under test */
static void overlap_read(struct image *img, struct overlap_map *map)
{
	u64 table = overlap_be64(img, 64);

	memset(map, 0, sizeof(*map));
	overlap_mark(img, map, 0, QCOW2_OL_MAIN_HEADER);
	overlap_mark_table(img, map, img->l1_offset, img->l1_size,
			   QCOW2_OL_ACTIVE_L1, QCOW2_OL_ACTIVE_L2);
	overlap_mark_table(img, map, overlap_be64(img, 48), OVERLAP_CS / 8,
			   QCOW2_OL_REFCOUNT_TABLE, QCOW2_OL_REFCOUNT_BLOCK);
	overlap_mark(img, map, table, QCOW2_OL_SNAPSHOT_TABLE);
	overlap_mark_table(img, map, overlap_be64(img, table), img->l1_size,
			   QCOW2_OL_INACTIVE_L1, QCOW2_OL_INACTIVE_L2);
	overlap_mark(img, map, overlap_be64(img, 128),
		     QCOW2_OL_BITMAP_DIRECTORY);
}

/* One bitmap, of one bit for the whole disk */
static void overlap_add_bitmap(struct image *img)
{
	u64 directory = image_add_cluster(img);
	u64 table = image_add_cluster(img);
	u8 *header = img->leaf->data;
	u8 *entry = header + directory;

	put_unaligned_be64(QCOW2_AUTOCLEAR_BITMAPS, header + 88);
	put_unaligned_be32(QCOW2_EXT_BITMAPS, header + 104);
	put_unaligned_be32(24, header + 108);
	put_unaligned_be32(1, header + 112);
	put_unaligned_be64(32, header + 120);
	put_unaligned_be64(directory, header + 128);
	put_unaligned_be64(table, entry);
	put_unaligned_be32(1, entry + 8);
	entry[16] = QCOW2_BITMAP_DIRTY_TRACKING;
	entry[17] = 24;
	put_unaligned_be16(1, entry + 18);
	entry[24] = 'b';
}

/* Metadata of all kinds; the disk has an L2 table that the snapshot has not. */
static struct image *overlap_create(struct kunit *test, const char *check)
{
	struct image *img = image_create(test, &overlap_cfg, OVERLAP_CAPACITY);

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 8 * OVERLAP_CS, 1));
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 2 << 20, OVERLAP_CS, 2));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_add_snapshot(img);
	overlap_add_bitmap(img);
	img->overlap_check = check;
	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, OVERLAP_CS, 3));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	return img;
}

static bool overlap_found(struct qcow2_state *s, u64 offset, u64 bytes)
{
	bool found;

	mutex_lock(&s->lock);
	found = qcow2_is_metadata(s, offset, bytes);
	mutex_unlock(&s->lock);
	return found;
}

/* Each cluster of each of @kinds, which the image is protected with */
static void overlap_expect(struct image *img, const struct overlap_map *map,
			   u32 kinds)
{
	struct qcow2_state *s = img->node->priv;
	u32 kind, i, doubts = 0;

	KUNIT_ASSERT_EQ(img->test, kinds, s->overlap_check);
	for (kind = 0; kind <= QCOW2_OL_MAX; kind++) {
		u32 mask = kind == QCOW2_OL_MAX ? kinds : BIT(kind);

		if (!(kinds & mask))
			continue;
		s->overlap_check = mask;
		for (i = 0; i < OVERLAP_CLUSTERS; i++) {
			u64 offset = (u64)i * OVERLAP_CS + 512;
			bool is = map->kinds[i] & mask;
			bool may = qcow2_may_be_table(s, offset, 512);

			KUNIT_EXPECT_EQ_MSG(img->test, is,
					    overlap_found(s, offset, 512),
					    "kind %u, cluster %u", kind, i);
			KUNIT_EXPECT_TRUE_MSG(img->test, may || !is,
					      "kind %u, cluster %u", kind, i);
			doubts += may && !is;
		}
	}
	s->overlap_check = kinds;
	/* Filters are right in all but a few clusters. */
	KUNIT_EXPECT_LT(img->test, doubts, OVERLAP_CLUSTERS / 16);
}

#define OVERLAP_ALL	(BIT(QCOW2_OL_MAX) - 1)

static void overlap_clusters(struct kunit *test)
{
	struct overlap_map *map = memleaf_valloc(test, sizeof(*map));
	struct image *img = overlap_create(test, "all");
	u32 seen = 0, i;

	overlap_read(img, map);
	for (i = 0; i < OVERLAP_CLUSTERS; i++)
		seen |= map->kinds[i];
	KUNIT_EXPECT_EQ(test, (u32)OVERLAP_ALL, seen);
	overlap_expect(img, map, OVERLAP_ALL);
	/* A third L2 table */
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 4 << 20, OVERLAP_CS, 4));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	overlap_read(img, map);
	overlap_expect(img, map, OVERLAP_ALL);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* Without the option: all but the L2 tables of snapshots */
static void overlap_default(struct kunit *test)
{
	struct overlap_map *map = memleaf_valloc(test, sizeof(*map));
	struct image *img = overlap_create(test, NULL);

	overlap_read(img, map);
	overlap_expect(img, map, OVERLAP_ALL & ~BIT(QCOW2_OL_INACTIVE_L2));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static void overlap_ranges(struct kunit *test)
{
	struct overlap_map *map = memleaf_valloc(test, sizeof(*map));
	struct image *img = overlap_create(test, "all");
	struct qcow2_state *s = img->node->priv;
	struct rnd_state rnd;
	int i, found = 0;

	overlap_read(img, map);
	prandom_seed_state(&rnd, 4);
	for (i = 0; i < 5000; i++) {
		u64 offset = memleaf_random(&rnd, OVERLAP_CAPACITY);
		u64 bytes = 1 + memleaf_random(&rnd, 6 * OVERLAP_CS);
		u64 first = offset / OVERLAP_CS;
		u64 last = (offset + bytes - 1) / OVERLAP_CS;
		bool is = false;

		for (; first <= last && first < OVERLAP_CLUSTERS; first++)
			is |= map->kinds[first];
		KUNIT_ASSERT_EQ_MSG(test, is, overlap_found(s, offset, bytes),
				    "%llu+%llu", offset, bytes);
		KUNIT_ASSERT_TRUE(test,
				  !is || qcow2_may_be_table(s, offset, bytes));
		found += is;
	}
	KUNIT_EXPECT_GT(test, found, 0);
	KUNIT_EXPECT_LT(test, found, 5000);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* L1 tables of snapshots, in clusters; they may overlap and lead nowhere. */
static const struct {
	u64 offset;
	u32 entries;
} overlap_l1s[] = {
	{ 90 * OVERLAP_CS, 512 },
	{ 80 * OVERLAP_CS, 1024 },
	{ 81 * OVERLAP_CS, 513 },
	{ 83 * OVERLAP_CS, 1 },
	{ 100 * OVERLAP_CS, 0 },
	{ 80 * OVERLAP_CS, 1 },
	{ U64_MAX - OVERLAP_CS + 1, 1024 },
	{ 89 * OVERLAP_CS + 4088, 1 },
};

static bool overlap_is_l1(u64 cluster)
{
	u64 offset = cluster * OVERLAP_CS;
	int i;

	for (i = 0; i < ARRAY_SIZE(overlap_l1s) - 2; i++)
		if (overlap_l1s[i].entries &&
		    overlap_l1s[i].offset < offset + OVERLAP_CS &&
		    offset < overlap_l1s[i].offset + overlap_l1s[i].entries * 8)
			return true;
	return cluster == 89;
}

static void overlap_inactive(struct kunit *test)
{
	struct image *img = image_create(test, &overlap_cfg, OVERLAP_CAPACITY);
	u64 table = image_add_cluster(img);
	struct qcow2_state *s;
	u8 *entry;
	u64 i;

	for (i = 0; i < ARRAY_SIZE(overlap_l1s); i++) {
		entry = img->leaf->data + table + 40 * i;
		put_unaligned_be64(overlap_l1s[i].offset, entry);
		put_unaligned_be32(overlap_l1s[i].entries, entry + 8);
	}
	put_unaligned_be32(ARRAY_SIZE(overlap_l1s), img->leaf->data + 60);
	put_unaligned_be64(table, img->leaf->data + 64);
	image_open(img);
	s = img->node->priv;
	s->overlap_check = BIT(QCOW2_OL_INACTIVE_L1);
	for (i = 0; i < 120; i++) {
		KUNIT_EXPECT_EQ_MSG(test, overlap_is_l1(i),
				    overlap_found(s, i * OVERLAP_CS, 1),
				    "cluster %llu", i);
		KUNIT_EXPECT_EQ_MSG(test, overlap_is_l1(i),
				    qcow2_may_be_table(s, i * OVERLAP_CS, 1),
				    "cluster %llu", i);
	}
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static void overlap_none(struct kunit *test)
{
	struct image *img = overlap_create(test, "none");
	struct qcow2_state *s = img->node->priv;
	u64 i;

	for (i = 0; i < OVERLAP_CLUSTERS; i++) {
		KUNIT_EXPECT_FALSE(test, overlap_found(s, i * OVERLAP_CS, 1));
		KUNIT_EXPECT_FALSE(test,
				   qcow2_may_be_table(s, i * OVERLAP_CS, 1));
	}
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static struct kunit_case overlap_kunit_cases[] = {
	KUNIT_CASE(overlap_clusters),
	KUNIT_CASE(overlap_default),
	KUNIT_CASE(overlap_ranges),
	KUNIT_CASE(overlap_inactive),
	KUNIT_CASE(overlap_none),
	{}
};

static struct kunit_suite overlap_kunit_suite = {
	.name = "qblk_qcow2_overlap",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = overlap_kunit_cases,
};

kunit_test_suite(overlap_kunit_suite);
