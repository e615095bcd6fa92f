// SPDX-License-Identifier: GPL-2.0
/*
 * Images that contradict themselves: what is wrong fails with -EIO, a fatal
 * contradiction sets the corrupt bit and ends writing, the rest can be read,
 * and the node can be closed.
 */
#include <kunit/test.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

#define CORRUPT_CS	4096

#define CORRUPT_CAPACITY	(2 << 20)

/* A region that stays intact, under an L2 table of its own */
#define CORRUPT_INTACT	(2 << 20)

static const struct image_cfg corrupt_cfg = {
	.desc = "corrupt",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 4 << 20,
};

static const struct image_cfg corrupt_v2_cfg = {
	.desc = "corrupt, version 2",
	.version = 2, .cluster_bits = 12, .refcount_order = 4,
	.size = 4 << 20,
};

static const struct image_cfg corrupt_extl2_cfg = {
	.desc = "corrupt, subclusters",
	.version = 3, .cluster_bits = 14, .refcount_order = 4,
	.size = 4 << 20, .extl2 = true,
};

/* Room for one more L2 table */
static const struct image_cfg corrupt_large_cfg = {
	.desc = "corrupt, three L2 tables",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 6 << 20,
};

/* Data at 0 and at CORRUPT_INTACT */
static struct image *corrupt_create(struct kunit *test,
				    const struct image_cfg *cfg)
{
	struct image *img = image_create(test, cfg, CORRUPT_CAPACITY);

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 8 * CORRUPT_CS, 1));
	KUNIT_ASSERT_EQ(test, 0, image_write(img, CORRUPT_INTACT,
					     8 * CORRUPT_CS, 2));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
	return img;
}

static u64 corrupt_l1_entry(const struct image *img, unsigned int index)
{
	return get_unaligned_be64(img->leaf->data + img->l1_offset + index * 8);
}

static u64 corrupt_l2_entry(const struct image *img, unsigned int index)
{
	u64 table = corrupt_l1_entry(img, 0) & QCOW2_L1E_OFFSET_MASK;

	return get_unaligned_be64(img->leaf->data + table + index * 8);
}

/* Set the refcount of @nr clusters from @first on */
static void corrupt_refcounts(struct image *img, u64 first, u64 nr, u64 value)
{
	for (; nr; nr--, first++)
		refcount_model_set(img->leaf->data + 2 * CORRUPT_CS, 4, first,
				   value);
}

static bool corrupt_bit(const struct image *img)
{
	return get_unaligned_be64(img->leaf->data + 72) &
	       QCOW2_INCOMPAT_CORRUPT;
}

/* No more writes, and the intact part is there to be read. */
static void corrupt_expect_fatal(struct image *img)
{
	struct kunit *test = img->test;

	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, CORRUPT_INTACT, 512, 9));
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, CORRUPT_INTACT + (1 << 20),
						512, 9));
	KUNIT_EXPECT_EQ(test, -EIO, image_zero(img, CORRUPT_INTACT, CORRUPT_CS,
					       0));
	KUNIT_EXPECT_EQ(test, -EIO, image_discard(img, CORRUPT_INTACT,
						  CORRUPT_CS));
	image_expect_data(img, CORRUPT_INTACT, 8 * CORRUPT_CS);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	KUNIT_EXPECT_EQ(test, img->cfg->version >= 3, corrupt_bit(img));
}

static void corrupt_expect_refused(struct image *img, int error,
				   const char *what)
{
	struct qblk_child_ref file = { .name = "file", .node = img->leaf->node };
	struct qblk_node_params p = {
		.driver = "qcow2",
		.children = &file,
		.nr_children = 1,
	};
	struct qblk_err err = {};
	struct qblk_node *node = memleaf_node_open(img->test, &p, &err);

	KUNIT_EXPECT_PTR_EQ(img->test, ERR_PTR(error), node);
	KUNIT_EXPECT_NOT_NULL_MSG(img->test, strstr(err.msg, what), "%s",
				  err.msg);
}

static void corrupt_data_offset(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	image_set_l2(img, CORRUPT_CS, corrupt_l2_entry(img, 1) + 512);
	image_open(img);
	image_expect_data(img, 0, CORRUPT_CS);
	KUNIT_EXPECT_FALSE(test, corrupt_bit(img));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, CORRUPT_CS, 512,
					       img->scratch));
	image_expect_data(img, 2 * CORRUPT_CS, 6 * CORRUPT_CS);
	corrupt_expect_fatal(img);
	/* With the bit set it can no longer be opened for writing. */
	corrupt_expect_refused(img, -EACCES, "corrupt");
}

/* Found by a write first */
static void corrupt_data_offset_write(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	image_set_l2(img, CORRUPT_CS, corrupt_l2_entry(img, 1) + 512);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, CORRUPT_CS, 512, 9));
	corrupt_expect_fatal(img);
}

static void corrupt_zero_offset(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	image_set_l2(img, CORRUPT_CS, (corrupt_l2_entry(img, 1) + 512) |
				      QCOW2_OFLAG_ZERO);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_discard(img, 0, 8 * CORRUPT_CS));
	corrupt_expect_fatal(img);
}

/* A discarded subcluster is zeroed where it is: not if that is metadata. */
static void corrupt_discard_metadata(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_extl2_cfg);
	u64 entry = corrupt_l1_entry(img, 0);

	image_set_l2(img, img->cs, img->l1_offset | QCOW2_OFLAG_COPIED);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_discard(img, img->cs, img->unit));
	KUNIT_EXPECT_EQ(test, entry, corrupt_l1_entry(img, 0));
	corrupt_expect_fatal(img);
}

static void corrupt_zero_in_v2(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_v2_cfg);

	image_set_l2(img, CORRUPT_CS, QCOW2_OFLAG_ZERO);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, CORRUPT_CS, 512,
					       img->scratch));
	corrupt_expect_fatal(img);
}

static void corrupt_l2_offset(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	put_unaligned_be64(corrupt_l1_entry(img, 0) + 512,
			   img->leaf->data + img->l1_offset);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 0, 512,
					       img->scratch));
	corrupt_expect_fatal(img);
}

static void corrupt_l2_offset_write(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	put_unaligned_be64(corrupt_l1_entry(img, 0) + 512,
			   img->leaf->data + img->l1_offset);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 0, 512, 9));
	corrupt_expect_fatal(img);
}

static void corrupt_refblock_offset(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	put_unaligned_be64(2 * CORRUPT_CS + 512, img->leaf->data + CORRUPT_CS);
	image_open(img);
	image_expect_data(img, 0, 8 * CORRUPT_CS);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 1 << 20, 512, 9));
	corrupt_expect_fatal(img);
}

/* What looks free is not: header, refcount table, L1 table */
static const struct corrupt_table {
	const char *desc;
	u64 cluster;
} corrupt_tables[] = {
	{ "header", 0 },
	{ "refcount table", 1 },
	{ "refcount block", 2 },
	{ "L1 table", 3 },
};

KUNIT_ARRAY_PARAM_DESC(corrupt_table, corrupt_tables, desc);

static void corrupt_free_table(struct kunit *test)
{
	const struct corrupt_table *table = test->param_value;
	struct image *img = corrupt_create(test, &corrupt_cfg);

	corrupt_refcounts(img, table->cluster, 1, 0);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 1 << 20, 512, 9));
	corrupt_expect_fatal(img);
}

/* An L2 table that looks free is not made a table again, least while dirty. */
static void corrupt_free_l2(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_large_cfg);
	u64 l2 = corrupt_l1_entry(img, 0) & QCOW2_L1E_OFFSET_MASK;

	corrupt_refcounts(img, l2 / CORRUPT_CS, 1, 0);
	image_open(img);
	KUNIT_EXPECT_EQ(test, 0, image_discard(img, 0, CORRUPT_CS));
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 4 << 20, CORRUPT_CS, 9));
	image_expect_data(img, 0, 8 * CORRUPT_CS);
	corrupt_expect_fatal(img);
	KUNIT_EXPECT_EQ(test, 0, corrupt_l1_entry(img, 2));
}

/* All of the refcount table leads to one block, in which nothing is free. */
static void corrupt_endless_table(struct image *img)
{
	int i;

	corrupt_refcounts(img, 0, CORRUPT_CS / 2, 1);
	for (i = 0; i < CORRUPT_CS; i += 8)
		put_unaligned_be64(2 * CORRUPT_CS,
				   img->leaf->data + CORRUPT_CS + i);
}

/*
 * A refcount table that names a full block over and over: the search for a free
 * cluster ends soon after the end of the file.
 */
static void corrupt_endless_refcounts(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	struct qcow2_state *s;
	u64 last;

	corrupt_endless_table(img);
	image_open(img);
	s = img->node->priv;
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 1 << 20, 512, 9));
	last = s->free_cluster_index;
	KUNIT_EXPECT_LT(test, last, (1ULL << 30) / CORRUPT_CS + 8192);
	corrupt_expect_fatal(img);
}

/* A disk that cannot grow: refcounts past its end are not looked at. */
static void corrupt_refcounts_outside(struct kunit *test)
{
	static const struct image_cfg cfg = {
		.desc = "fixed",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 4 << 20, .fixed = 64 << 10,
	};
	struct image *img = image_create(test, &cfg, 0);
	struct qcow2_state *s;

	corrupt_endless_table(img);
	image_open(img);
	s = img->node->priv;
	KUNIT_EXPECT_EQ(test, -ENOSPC, image_write(img, 0, 512, 9));
	KUNIT_EXPECT_LE(test, s->free_cluster_index, CORRUPT_CS / 2);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	KUNIT_EXPECT_FALSE(test, corrupt_bit(img));
}

/* Metadata that an L2 entry calls data */
static const struct corrupt_target {
	const char *desc;
	u64 cluster;	/* 0 for the first L2 table, 4 for a snapshot table */
	u64 flags;
} corrupt_targets[] = {
	{ "refcount table", 1, 0 },
	{ "refcount table, zero cluster", 1, QCOW2_OFLAG_ZERO },
	{ "refcount block", 2, 0 },
	{ "refcount block, zero cluster", 2, QCOW2_OFLAG_ZERO },
	{ "L1 table", 3, 0 },
	{ "L1 table, zero cluster", 3, QCOW2_OFLAG_ZERO },
	{ "L2 table", 0, 0 },
	{ "L2 table, zero cluster", 0, QCOW2_OFLAG_ZERO },
	{ "snapshot table", 4, 0 },
	{ "snapshot table, zero cluster", 4, QCOW2_OFLAG_ZERO },
};

KUNIT_ARRAY_PARAM_DESC(corrupt_target, corrupt_targets, desc);

static u64 corrupt_add_snapshot(struct image *img)
{
	u64 table;

	img->next = img->leaf->length / CORRUPT_CS;
	table = image_add_cluster(img);
	put_unaligned_be32(1, img->leaf->data + 60);
	put_unaligned_be64(table, img->leaf->data + 64);
	return table;
}

/* Let the second cluster of the disk be metadata.  Return: where that is. */
static u64 corrupt_aim(struct image *img, const struct corrupt_target *target)
{
	u64 host = target->cluster * CORRUPT_CS;

	if (target->cluster == 4)
		host = corrupt_add_snapshot(img);
	else if (!target->cluster)
		host = corrupt_l1_entry(img, 0) & QCOW2_L1E_OFFSET_MASK;
	image_set_l2(img, CORRUPT_CS, host | QCOW2_OFLAG_COPIED |
				      target->flags);
	return host;
}

static void corrupt_write_on_table(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u64 host = corrupt_aim(img, test->param_value);
	u8 *saved = memleaf_valloc(test, CORRUPT_CS);
	struct qblk_mapping m;

	memcpy(saved, img->leaf->data + host, CORRUPT_CS);
	image_open(img);
	image_expect_data(img, 0, CORRUPT_CS);
	KUNIT_EXPECT_EQ(test, -EAGAIN, qblk_map(img->node, CORRUPT_CS, 512,
						QBLK_MAP_WRITE, &m));
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, CORRUPT_CS, 512, 9));
	KUNIT_EXPECT_MEMEQ(test, saved, img->leaf->data + host, CORRUPT_CS);
	corrupt_expect_fatal(img);
	KUNIT_EXPECT_MEMEQ(test, saved, img->leaf->data + host, CORRUPT_CS);
}

static void corrupt_discard_table(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u64 host = corrupt_aim(img, test->param_value);
	struct qcow2_state *s;

	image_open(img);
	s = img->node->priv;
	KUNIT_EXPECT_EQ(test, 0, image_discard(img, CORRUPT_CS, CORRUPT_CS));
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&img->edge));
	flush_work(&s->free_work);
	KUNIT_EXPECT_EQ(test, 0, img->leaf->count[MEMLEAF_DISCARD]);
	KUNIT_EXPECT_EQ(test, 1,
			refcount_model_get(img->leaf->data + 2 * CORRUPT_CS, 4,
					   host / CORRUPT_CS));
	corrupt_expect_fatal(img);
}

/* An L2 table where other metadata is */
static void corrupt_l2_on_table(struct kunit *test)
{
	const struct corrupt_table *table = test->param_value;
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u8 *saved = memleaf_valloc(test, CORRUPT_CS);

	if (!table->cluster)
		kunit_skip(test, "offset 0 is no table");
	put_unaligned_be64(table->cluster * CORRUPT_CS | QCOW2_OFLAG_COPIED,
			   img->leaf->data + img->l1_offset);
	memcpy(saved, img->leaf->data + table->cluster * CORRUPT_CS,
	       CORRUPT_CS);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 1 << 20, CORRUPT_CS, 9));
	corrupt_expect_fatal(img);
	KUNIT_EXPECT_MEMEQ(test, saved,
			   img->leaf->data + table->cluster * CORRUPT_CS,
			   CORRUPT_CS);
}

/* A refcount block where the L1 table is, or an L2 table */
static void corrupt_refblock_on_table(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u64 l2 = corrupt_l1_entry(img, 0) & QCOW2_L1E_OFFSET_MASK;

	put_unaligned_be64(3 * CORRUPT_CS, img->leaf->data + CORRUPT_CS);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 1 << 20, CORRUPT_CS, 9));
	corrupt_expect_fatal(img);

	put_unaligned_be64(0, img->leaf->data + 72);
	put_unaligned_be64(l2, img->leaf->data + CORRUPT_CS);
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 1 << 20, CORRUPT_CS, 9));
	image_expect_data(img, 0, 8 * CORRUPT_CS);
	corrupt_expect_fatal(img);
}

/* A cluster in use without a refcount: reported when it is freed, not fatal */
static void corrupt_refcount_0(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u64 host = corrupt_l2_entry(img, 0) & QCOW2_L2E_OFFSET_MASK;

	corrupt_refcounts(img, host / CORRUPT_CS, 8, 0);
	image_open(img);
	KUNIT_EXPECT_EQ(test, 0, image_discard(img, 0, 8 * CORRUPT_CS));
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&img->edge));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_EXPECT_EQ(test, 0, image_write(img, 0, 8 * CORRUPT_CS, 3));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	KUNIT_EXPECT_FALSE(test, corrupt_bit(img));
	image_expect_clean(img);
}

/* Tables past the end of the file read as zeroes: nothing is allocated. */
static void corrupt_table_outside(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	static const u64 offsets[] = { 16 << 20, 1ULL << 50, (1ULL << 56) - 4096 };
	int i;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		put_unaligned_be64(offsets[i] | QCOW2_OFLAG_COPIED,
				   img->leaf->data + img->l1_offset);
		memset(img->model, 0, 8 * CORRUPT_CS);
		image_open(img);
		image_expect_data(img, 0, 8 * CORRUPT_CS);
		image_expect_data(img, CORRUPT_INTACT, 8 * CORRUPT_CS);
		KUNIT_ASSERT_EQ(test, 0, image_close(img));
	}
}

/* Data past the end of the file: zeroes, and a file that can grow grows. */
static void corrupt_data_outside(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);

	image_set_l2(img, CORRUPT_CS, QCOW2_OFLAG_COPIED | 1ULL << 50);
	image_set_l2(img, 2 * CORRUPT_CS, QCOW2_OFLAG_COPIED |
					  GENMASK_ULL(55, 12));
	memset(img->model + CORRUPT_CS, 0, 2 * CORRUPT_CS);
	image_open(img);
	image_expect_data(img, 0, 8 * CORRUPT_CS);
	KUNIT_EXPECT_EQ(test, -ENOSPC, image_write(img, CORRUPT_CS, 512, 9));
	KUNIT_EXPECT_EQ(test, 0, image_discard(img, CORRUPT_CS,
					       2 * CORRUPT_CS));
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&img->edge));
	image_expect_data(img, 0, 8 * CORRUPT_CS);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* A bit of everything, whatever comes of it */
static void corrupt_exercise(struct image *img, struct rnd_state *rnd)
{
	u64 pos;
	int i;

	for (i = 0; i < 20; i++) {
		pos = memleaf_random(rnd, 16) * 4096ULL;
		if (memleaf_random(rnd, 2))
			pos += CORRUPT_INTACT;
		qblk_pread(&img->edge, pos, 4096, img->scratch);
		image_discard(img, pos, 16384);
		image_write(img, pos, 512, 1);
		image_zero(img, pos, 16384, QBLK_REQ_MAY_UNMAP);
	}
	qblk_flush(&img->edge);
}

static const struct corrupt_random {
	const char *desc;
	u64 mask;
} corrupt_randoms[] = {
	{ "any bits", U64_MAX },
	{ "no compressed clusters", ~QCOW2_OFLAG_COMPRESSED },
	{ "aligned offsets", ~(QCOW2_OFLAG_COMPRESSED | 0xffe) },
	{ "offsets inside the file", (3ULL << 62) | GENMASK_ULL(19, 12) | 1 },
	{ "zero or copied", (1ULL << 63) | GENMASK_ULL(16, 12) | 1 },
};

KUNIT_ARRAY_PARAM_DESC(corrupt_random, corrupt_randoms, desc);

/*
 * Any bytes instead of the tables: nothing but errors may come of it.  The
 * header stays, the checks of its fields are the codec's.
 */
static void corrupt_random_tables(struct kunit *test)
{
	const struct corrupt_random *c = test->param_value;
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u64 l2 = corrupt_l1_entry(img, 0) & QCOW2_L1E_OFFSET_MASK;
	u64 tables[] = { CORRUPT_CS, 2 * CORRUPT_CS, 3 * CORRUPT_CS, l2 };
	u8 *data = img->leaf->data;
	u8 *good = memleaf_valloc(test, CORRUPT_CAPACITY);
	u64 length = img->leaf->length;
	struct rnd_state rnd;
	int round, i;

	prandom_seed_state(&rnd, 42);
	memcpy(good, data, CORRUPT_CAPACITY);
	for (round = 0; round < 16; round++) {
		u8 *p = data + tables[round % ARRAY_SIZE(tables)];

		for (i = 0; i < CORRUPT_CS; i += 4)
			put_unaligned_be32(prandom_u32_state(&rnd), p + i);
		for (i = 0; i < CORRUPT_CS; i += 8)
			put_unaligned_be64(get_unaligned_be64(p + i) & c->mask,
					   p + i);
		image_open(img);
		corrupt_exercise(img, &rnd);
		if (image_close(img))
			memleaf_node_abandon(test, img->node);
		memcpy(data, good, CORRUPT_CAPACITY);
		img->leaf->length = length;
	}
}

/* Two L1 entries share a table, and each says that it is its own. */
static void corrupt_shared_l2(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	struct rnd_state rnd;

	put_unaligned_be64(corrupt_l1_entry(img, 0),
			   img->leaf->data + img->l1_offset + 8);
	prandom_seed_state(&rnd, 7);
	image_open(img);
	corrupt_exercise(img, &rnd);
	corrupt_exercise(img, &rnd);
	if (image_close(img))
		memleaf_node_abandon(test, img->node);
}

/* Snapshot table: what is too long, and how long it is */
static void corrupt_snapshot_table(struct kunit *test)
{
	struct image *img = corrupt_create(test, &corrupt_cfg);
	u8 *p = img->leaf->data + corrupt_add_snapshot(img);
	struct qcow2_state *s;

	put_unaligned_be32(1025, p + 36);
	corrupt_expect_refused(img, -EFBIG, "extra_data_size 1025");

	/* a second entry, at a multiple of 8; names, and extra data */
	put_unaligned_be32(1024, p + 36);
	put_unaligned_be16(1, p + 12);
	put_unaligned_be16(10, p + 14);
	put_unaligned_be16(3, p + 1080 + 12);
	put_unaligned_be32(2, img->leaf->data + 60);
	image_open(img);
	s = img->node->priv;
	KUNIT_EXPECT_EQ(test, 1080 + 40 + 3, s->snapshots_bytes);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));

	memleaf_fail(img->leaf, BIT(MEMLEAF_READ), 4, 1, -EIO);
	corrupt_expect_refused(img, -EIO, "snapshot table entry 0");
}

static struct kunit_case corrupt_kunit_cases[] = {
	KUNIT_CASE(corrupt_data_offset),
	KUNIT_CASE(corrupt_data_offset_write),
	KUNIT_CASE(corrupt_zero_offset),
	KUNIT_CASE(corrupt_discard_metadata),
	KUNIT_CASE(corrupt_zero_in_v2),
	KUNIT_CASE(corrupt_l2_offset),
	KUNIT_CASE(corrupt_l2_offset_write),
	KUNIT_CASE(corrupt_refblock_offset),
	KUNIT_CASE_PARAM(corrupt_free_table, corrupt_table_gen_params),
	KUNIT_CASE(corrupt_free_l2),
	KUNIT_CASE_PARAM(corrupt_write_on_table, corrupt_target_gen_params),
	KUNIT_CASE_PARAM(corrupt_discard_table, corrupt_target_gen_params),
	KUNIT_CASE_PARAM(corrupt_l2_on_table, corrupt_table_gen_params),
	KUNIT_CASE(corrupt_refblock_on_table),
	KUNIT_CASE(corrupt_shared_l2),
	KUNIT_CASE(corrupt_snapshot_table),
	KUNIT_CASE(corrupt_endless_refcounts),
	KUNIT_CASE(corrupt_refcounts_outside),
	KUNIT_CASE(corrupt_refcount_0),
	KUNIT_CASE(corrupt_table_outside),
	KUNIT_CASE(corrupt_data_outside),
	KUNIT_CASE_PARAM(corrupt_random_tables, corrupt_random_gen_params),
	{}
};

static struct kunit_suite corrupt_kunit_suite = {
	.name = "qblk_qcow2_corrupt",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = corrupt_kunit_cases,
};

kunit_test_suite(corrupt_kunit_suite);
