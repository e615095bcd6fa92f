// SPDX-License-Identifier: GPL-2.0
/*
 * Counting of references, and the rebuild of refcounts when a dirty image is
 * opened.  What comes of it is looked at by hand (image_kunit.c).
 */
#include <kunit/test.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "../format/qcow2/check.h"
#include "image.h"

#define KB	1024ULL

/* Numbers */

static void counts_all_widths(struct kunit *test)
{
	struct qcow2_counts c;
	u64 left, cluster;
	u32 order;

	for (order = 0; order <= QCOW2_MAX_REFCOUNT_ORDER; order++) {
		left = 1024;
		qcow2_counts_init(&c, order, 9, &left);
		KUNIT_EXPECT_EQ(test, 0, qcow2_counts_end(&c));
		KUNIT_EXPECT_EQ(test, 0, qcow2_counts_add(&c, 5, 1));
		KUNIT_EXPECT_EQ(test, 0, qcow2_counts_add(&c, 1ULL << 40, 1));
		KUNIT_EXPECT_EQ(test, 0, left);
		KUNIT_EXPECT_EQ(test, -EFBIG,
				qcow2_counts_add(&c, 1ULL << 20, 1));
		KUNIT_EXPECT_EQ(test, 0, qcow2_counts_add(&c, 6, 1));
		KUNIT_EXPECT_EQ(test, -EOVERFLOW,
				qcow2_counts_add(&c, 6, U64_MAX));
		KUNIT_EXPECT_EQ(test, qcow2_refcount_max(order),
				qcow2_counts_get(&c, 6));
		qcow2_counts_drop(&c, 5);
		cluster = 0;
		KUNIT_EXPECT_TRUE(test, qcow2_counts_next(&c, &cluster));
		KUNIT_EXPECT_EQ(test, 6, cluster++);
		KUNIT_EXPECT_TRUE(test, qcow2_counts_next(&c, &cluster));
		KUNIT_EXPECT_EQ(test, 1ULL << 40, cluster++);
		KUNIT_EXPECT_FALSE(test, qcow2_counts_next(&c, &cluster));
		KUNIT_EXPECT_EQ(test, (1ULL << 40) + 1, qcow2_counts_end(&c));
		qcow2_counts_exit(&c);
	}
}

/* Images */

static u64 check_get(const struct image *img, u64 at)
{
	return get_unaligned_be64(img->leaf->data + at);
}

static void check_put(struct image *img, u64 at, u64 value)
{
	put_unaligned_be64(value, img->leaf->data + at);
}

/* Where the entry of a refcount block is, in the first table */
static u64 check_reft(const struct image *img, u32 index)
{
	return check_get(img, 48) + index * 8ULL;
}

static void check_use(struct image *img, struct rnd_state *rnd, u32 seed)
{
	u64 size = img->cfg->size;
	int i;

	for (i = 0; i < 24; i++) {
		u64 bytes = 512 * (1 + memleaf_random(rnd, size / 8 / 512));
		u64 at = 512 * memleaf_random(rnd, (size - bytes) / 512);

		if (i % 6 == 4)
			KUNIT_ASSERT_EQ(img->test, 0,
					image_discard(img, at, bytes));
		else if (i % 6 == 5)
			KUNIT_ASSERT_EQ(img->test, 0,
					image_zero(img, at, bytes, 0));
		else
			KUNIT_ASSERT_EQ(img->test, 0,
					image_write(img, at, bytes, seed + i));
	}
}

/* An image with a past, closed; with a snapshot if refcounts can count it */
static struct image *check_create(struct kunit *test,
				  const struct image_cfg *cfg)
{
	struct image *img = image_create(test, cfg, 3 * cfg->size + 8 *
					 (1ULL << cfg->cluster_bits) + SZ_64K);
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 5);
	image_open(img);
	check_use(img, &rnd, 1);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	if (cfg->refcount_order && !cfg->data_file) {
		image_add_snapshot(img);
		image_open(img);
		check_use(img, &rnd, 100);
		KUNIT_ASSERT_EQ(test, 0, image_close(img));
	}
	image_expect_clean(img);
	return img;
}

/* Open it, dirty, and find that all is well; then use it. */
static void check_expect_repair(struct image *img)
{
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 6);
	image_set_dirty(img);
	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(img->test, 0, image_close(img));
	image_expect_clean(img);
	image_open(img);
	check_use(img, &rnd, 200);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(img->test, 0, image_close(img));
	image_expect_clean(img);
}

static const struct image_cfg check_cfgs[] = {
	{
		.desc = "512 byte clusters, 1 bit",
		.version = 3, .cluster_bits = 9, .refcount_order = 0,
		.size = 256 * KB,
	}, {
		.desc = "512 byte clusters, 2 bits",
		.version = 3, .cluster_bits = 9, .refcount_order = 1,
		.size = 256 * KB,
	}, {
		.desc = "1 KiB clusters, 4 bits",
		.version = 3, .cluster_bits = 10, .refcount_order = 2,
		.size = 256 * KB,
	}, {
		.desc = "4 KiB clusters, 8 bits",
		.version = 3, .cluster_bits = 12, .refcount_order = 3,
		.size = 512 * KB,
	}, {
		.desc = "64 KiB clusters, 16 bits",
		.version = 3, .cluster_bits = 16, .refcount_order = 4,
		.size = 2048 * KB,
	}, {
		.desc = "512 byte clusters, 32 bits, 4 KiB blocks",
		.version = 3, .cluster_bits = 9, .refcount_order = 5,
		.size = 256 * KB, .align = 4096,
	}, {
		.desc = "512 byte clusters, 64 bits",
		.version = 3, .cluster_bits = 9, .refcount_order = 6,
		.size = 256 * KB,
	}, {
		/* 64 bits: fewer to a block, and so less to look at */
		.desc = "2 MiB clusters, 64 bits",
		.version = 3, .cluster_bits = 21, .refcount_order = 6,
		.size = 8192 * KB,
	}, {
		.desc = "16 KiB clusters with subclusters",
		.version = 3, .cluster_bits = 14, .refcount_order = 4,
		.size = 512 * KB, .extl2 = true,
	}, {
		.desc = "data file",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 512 * KB, .data_file = true,
	},
};

KUNIT_ARRAY_PARAM_DESC(check_cfg, check_cfgs, desc);

/* For cases with many repairs */
static const struct image_cfg check_cut_cfgs[] = {
	{
		.desc = "512 byte clusters, 64 bits",
		.version = 3, .cluster_bits = 9, .refcount_order = 6,
		.size = 64 * KB,
	}, {
		.desc = "4 KiB clusters, 2 bits",
		.version = 3, .cluster_bits = 12, .refcount_order = 1,
		.size = 128 * KB,
	}, {
		.desc = "1 KiB clusters, 1 bit",
		.version = 3, .cluster_bits = 10, .refcount_order = 0,
		.size = 64 * KB,
	},
};

KUNIT_ARRAY_PARAM_DESC(check_cut, check_cut_cfgs, desc);

static struct qcow2_check_result check_open_image(struct image *img)
{
	struct qcow2_check *c = qcow2_check_alloc(img->node->priv, true);
	struct qcow2_check_result res;

	KUNIT_ASSERT_NOT_NULL(img->test, c);
	KUNIT_EXPECT_EQ(img->test, 0, qcow2_check(c));
	res = c->res;
	qcow2_check_free(c);
	return res;
}

/* What a check of the image, as it is in the file, says */
static struct qcow2_check_result check_image(struct image *img)
{
	struct qcow2_check_result res;

	image_open(img);
	res = check_open_image(img);
	KUNIT_ASSERT_EQ(img->test, 0, image_close(img));
	return res;
}

static void check_finds_nothing(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);
	struct qcow2_check_result res = check_image(img), none = {};

	KUNIT_EXPECT_EQ(test, 0, memcmp(&res, &none, sizeof(res)));
}

/* Refcounts of the first block, 0 for those at random */
static void check_lose_refcounts(struct image *img)
{
	u8 *block = img->leaf->data + check_get(img, check_reft(img, 0));
	u32 order = img->cfg->refcount_order;
	u32 nr = min_t(u64, img->cs * 8ULL >> order,
		       img->leaf->length / img->cs);
	struct rnd_state rnd;
	u32 i;

	prandom_seed_state(&rnd, 8);
	for (i = 0; i < nr; i++)
		if (memleaf_random(&rnd, 2))
			refcount_model_set(block, order, i, 0);
}

static void check_repairs_lost_refcounts(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);

	check_lose_refcounts(img);
	check_expect_repair(img);
}

static void check_repairs_leaks(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);

	memset(img->leaf->data + check_get(img, check_reft(img, 0)), 0xff,
	       img->cs);
	check_expect_repair(img);
}

static void check_repairs_missing_block(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);

	check_put(img, check_reft(img, 0), 0);
	check_expect_repair(img);
}

/* Entries of the refcount table that cannot be right, and the table itself */
static void check_repairs_structures(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);
	u64 block = check_get(img, check_reft(img, 0));
	u64 entries[] = {
		block + 512 + 1, 1ULL << 50, img->l1_offset, block | 2,
		check_get(img, 48), U64_MAX,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		check_put(img, check_reft(img, 0), entries[i]);
		check_expect_repair(img);
	}
	/* one block for everything */
	block = check_get(img, check_reft(img, 0));
	for (i = 0; i < img->cs / 8; i++)
		check_put(img, check_reft(img, i), block);
	check_expect_repair(img);
	/* the table where the L1 table is */
	check_put(img, 48, img->l1_offset);
	put_unaligned_be32(1, img->leaf->data + 56);
	check_expect_repair(img);
}

static void check_repairs_flags(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);
	u64 l2, at;
	u32 i;

	for (i = 0; i < img->l1_size; i++) {
		l2 = check_get(img, img->l1_offset + i * 8);
		/* a data file has clusters at 0, which the flag alone tells */
		for (at = l2 & QCOW2_L1E_OFFSET_MASK; l2 && !img->data &&
		     at < (l2 & QCOW2_L1E_OFFSET_MASK) + img->cs;
		     at += img->l2e)
			if (check_get(img, at) & QCOW2_L2E_OFFSET_MASK)
				check_put(img, at, check_get(img, at) ^
						   QCOW2_OFLAG_COPIED);
		if (l2)
			check_put(img, img->l1_offset + i * 8,
				  l2 ^ QCOW2_OFLAG_COPIED);
	}
	KUNIT_EXPECT_NE(test, 0, check_image(img).copied);
	check_expect_repair(img);
}

/* Whatever write or flush fails: the dirty bit stays, the next one works. */
static void check_repair_is_cut(struct kunit *test)
{
	struct image *img = check_create(test, test->param_value);
	u8 *before = memleaf_valloc(test, img->leaf->capacity);
	u64 length = img->leaf->length;
	struct qblk_err err;
	unsigned int skip;
	int ret = -EIO;

	check_lose_refcounts(img);
	check_put(img, check_reft(img, 0), img->l1_offset);
	image_set_dirty(img);
	memcpy(before, img->leaf->data, img->leaf->capacity);
	for (skip = 0; ret && skip < 400; skip++) {
		memcpy(img->leaf->data, before, img->leaf->capacity);
		img->leaf->length = length;
		memleaf_fail(img->leaf, BIT(MEMLEAF_WRITE) | BIT(MEMLEAF_ZERO) |
			     BIT(MEMLEAF_FLUSH), skip, 1, -EIO);
		err = (struct qblk_err){};
		ret = image_try_open(img, &err);
		memleaf_fail(img->leaf, 0, 0, 0, 0);
		if (ret)
			image_open(img);
		image_expect_data(img, 0, img->cfg->size);
		KUNIT_ASSERT_EQ(test, 0, image_close(img));
		image_expect_clean(img);
	}
	KUNIT_EXPECT_GT(test, skip, 4);
	KUNIT_EXPECT_EQ(test, 0, ret);
}

/* A table of one cluster has room for 64 blocks of 64 clusters. */
static const struct image_cfg check_growth_cfg = {
	.desc = "growth",
	.version = 3, .cluster_bits = 9, .refcount_order = 6,
	.size = 2304 * KB,
};

static void check_table_grows(struct kunit *test)
{
	struct image *img = image_create(test, &check_growth_cfg, 4096 * KB);
	u64 at;

	image_open(img);
	for (at = 0; at < img->cfg->size; at += 8 * KB)
		KUNIT_ASSERT_EQ(test, 0, image_write(img, at, 8 * KB, 1));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
	KUNIT_EXPECT_GT(test, get_unaligned_be32(img->leaf->data + 56), 1);
	put_unaligned_be32(1, img->leaf->data + 56);
	check_expect_repair(img);
	KUNIT_EXPECT_GT(test, get_unaligned_be32(img->leaf->data + 56), 1);
}

static const struct image_cfg check_plain_cfg = {
	.desc = "plain",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 4096 * KB,
};

static const struct image_cfg check_bit_cfg = {
	.desc = "1 bit",
	.version = 3, .cluster_bits = 12, .refcount_order = 0,
	.size = 4096 * KB,
};

static struct image *check_small(struct kunit *test,
				 const struct image_cfg *cfg)
{
	struct image *img = image_create(test, cfg, 512 * KB);

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 16 * KB, 1));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	return img;
}

static u64 check_l2(const struct image *img)
{
	return check_get(img, img->l1_offset) & QCOW2_L1E_OFFSET_MASK;
}

/* Each is counted, and nothing else */
static void check_counts(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);
	struct qcow2_check_result res;
	u64 l2 = check_l2(img), free, used;

	free = image_add_cluster(img);
	used = check_get(img, l2) & QCOW2_L2E_OFFSET_MASK;
	/* a leak, a reference too many, and two entries that are no good */
	image_set_l2(img, 8 * img->cs, used);
	image_set_l2(img, 9 * img->cs, (free + 512) | QCOW2_OFLAG_COPIED);
	image_set_l2(img, 10 * img->cs, (1ULL << 50) | QCOW2_OFLAG_COPIED);
	res = check_image(img);
	KUNIT_EXPECT_EQ(test, 1, res.leaks);
	KUNIT_EXPECT_EQ(test, 1, res.corruptions);
	KUNIT_EXPECT_EQ(test, 2, res.broken);
	/* the flag of the first of the two entries */
	KUNIT_EXPECT_EQ(test, 1, res.copied);
	KUNIT_EXPECT_EQ(test, 0, res.errors + res.overflows + res.shared);
}

/* Compressed clusters count in each host cluster that they touch. */
static void check_counts_compressed(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);
	u32 shift = 62 - (img->cfg->cluster_bits - 8);
	u64 first, second;

	first = image_add_cluster(img);
	second = image_add_cluster(img);
	KUNIT_ASSERT_EQ(test, first + img->cs, second);
	image_set_l2(img, 8 * img->cs, QCOW2_OFLAG_COMPRESSED | first |
				       2ULL << shift);
	image_set_l2(img, 9 * img->cs, QCOW2_OFLAG_COMPRESSED |
				       (second - 700) | 2ULL << shift);
	image_ref(img, first / img->cs);
	KUNIT_EXPECT_EQ(test, 0, check_image(img).corruptions);
	KUNIT_EXPECT_EQ(test, 0, check_image(img).leaks);
	image_expect_clean(img);
	check_lose_refcounts(img);
	image_set_dirty(img);
	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

static void check_counts_read_errors(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);

	image_open(img);
	memleaf_fail(img->leaf, BIT(MEMLEAF_READ), 0, 1000, -EIO);
	KUNIT_EXPECT_NE(test, 0, check_open_image(img).errors);
	memleaf_fail(img->leaf, 0, 0, 0, 0);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static void check_has_a_budget(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);
	struct qcow2_check *c;

	image_open(img);
	c = qcow2_check_alloc(img->node->priv, true);
	KUNIT_ASSERT_NOT_NULL(test, c);
	c->left = 8 * KB;
	KUNIT_EXPECT_EQ(test, -EFBIG, qcow2_check(c));
	qcow2_check_free(c);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* Refused with a sentence that says why, and nothing was written. */
static void check_expect_refused(struct image *img, const char *why)
{
	struct qblk_err err = {};
	int ret;

	image_set_dirty(img);
	memleaf_log_start(img->leaf);
	ret = image_try_open(img, &err);
	KUNIT_EXPECT_NE(img->test, 0, ret);
	KUNIT_EXPECT_NOT_NULL_MSG(img->test, strstr(err.msg, why), "%s",
				  err.msg);
	if (!ret)
		KUNIT_ASSERT_EQ(img->test, 0, image_close(img));
	while (img->leaf->log_nr--)
		KUNIT_EXPECT_EQ(img->test, MEMLEAF_READ,
				img->leaf->log[img->leaf->log_nr].type);
	img->leaf->log_nr = 0;
}

static void check_refuses_overflow(struct kunit *test)
{
	struct image *img = check_small(test, &check_bit_cfg);

	image_set_l2(img, 8 * img->cs, check_get(img, check_l2(img)));
	check_expect_refused(img, "more references than 1 bits");
}

static void check_refuses_overlap(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);

	check_put(img, check_l2(img), check_get(img, img->l1_offset));
	check_expect_refused(img, "overlaps with something else");
}

static void check_refuses_read_errors(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);

	/* header, its extensions, L1 table, refcount table, L1 table */
	memleaf_fail(img->leaf, BIT(MEMLEAF_READ), 4, 1, -EIO);
	check_expect_refused(img, "cannot be read");
	memleaf_fail(img->leaf, 0, 0, 0, 0);
}

/* All entries of the L1 table lead to one L2 table, and those in it to it. */
static void check_loops_end(struct kunit *test)
{
	struct image *img = check_small(test, &check_plain_cfg);
	u64 l2 = check_l2(img);
	u32 i;

	for (i = 0; i < img->l1_size; i++)
		check_put(img, img->l1_offset + i * 8, l2);
	for (i = 0; i < img->cs; i += 8)
		check_put(img, l2 + i, l2);
	image_set_dirty(img);
	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static const struct image_cfg check_fixed_cfg = {
	.desc = "a disk that is full",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 64 * KB, .fixed = 6 * 4096,
};

static void check_refuses_without_room(struct kunit *test)
{
	struct image *img = image_create(test, &check_fixed_cfg, 0);
	u64 block = check_get(img, check_reft(img, 0));

	image_open(img);
	/* header, refcount table, refcount block, L1 table, L2 table, data */
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 4096, 1));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	/* where the block was is free, and enough */
	check_put(img, check_reft(img, 0), img->l1_offset);
	image_set_dirty(img);
	image_open(img);
	image_expect_data(img, 0, 4096);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
	/* now it is not */
	check_put(img, check_reft(img, 0), img->l1_offset);
	image_set_l2(img, 4096, block);
	check_expect_refused(img, "no room for refcount blocks");
}

static struct kunit_case check_kunit_cases[] = {
	KUNIT_CASE(counts_all_widths),
	KUNIT_CASE_PARAM(check_finds_nothing, check_cfg_gen_params),
	KUNIT_CASE_PARAM(check_repairs_lost_refcounts, check_cfg_gen_params),
	KUNIT_CASE_PARAM(check_repairs_leaks, check_cfg_gen_params),
	KUNIT_CASE_PARAM(check_repairs_missing_block, check_cfg_gen_params),
	KUNIT_CASE_PARAM_ATTR(check_repairs_structures, check_cut_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE_PARAM(check_repairs_flags, check_cfg_gen_params),
	KUNIT_CASE_PARAM(check_repair_is_cut, check_cut_gen_params),
	KUNIT_CASE(check_table_grows),
	KUNIT_CASE(check_counts),
	KUNIT_CASE(check_counts_compressed),
	KUNIT_CASE(check_counts_read_errors),
	KUNIT_CASE(check_has_a_budget),
	KUNIT_CASE(check_refuses_overflow),
	KUNIT_CASE(check_refuses_overlap),
	KUNIT_CASE(check_refuses_read_errors),
	KUNIT_CASE(check_refuses_without_room),
	KUNIT_CASE(check_loops_end),
	{}
};

static struct kunit_suite check_kunit_suite = {
	.name = "qblk_qcow2_check",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = check_kunit_cases,
};

kunit_test_suite(check_kunit_suite);
