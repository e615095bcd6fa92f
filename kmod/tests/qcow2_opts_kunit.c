// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"

/**
 * struct opts_ctx - an image as far as options care, and its options
 * @node: the node
 * @s: its image: 64 KiB clusters, version 3
 * @o: options, parsed
 * @err: sentence of the failure
 */
struct opts_ctx {
	struct qblk_node node;
	struct qcow2_state s;
	struct qcow2_opts o;
	struct qblk_err err;
};

static struct opts_ctx *opts_create(struct kunit *test, u64 length,
				    u32 cluster_bits)
{
	struct opts_ctx *x = kunit_kzalloc(test, sizeof(*x), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, x);
	strscpy(x->node.name, "opts0", sizeof(x->node.name));
	x->node.length = length;
	x->s.node = &x->node;
	x->s.hdr.version = 3;
	x->s.cluster_bits = cluster_bits;
	x->s.cluster_size = 1U << cluster_bits;
	x->s.l2e_bits = 3;
	return x;
}

/* Parse and apply at most three options; text may be NULL */
static int opts_apply(struct opts_ctx *x, const char *all, const char *l2,
		      const char *ref)
{
	static const char *const keys[] = {
		"cache-size", "l2-cache-size", "refcount-cache-size",
	};
	const char *const values[] = { all, l2, ref };
	struct qblk_opt opts[ARRAY_SIZE(keys)];
	unsigned int i, nr = 0;
	int ret;

	x->err = (struct qblk_err){};
	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (values[i])
			opts[nr++] = (struct qblk_opt){
				.key = keys[i], .value = values[i],
			};
	ret = qblk_opts_parse(qcow2_opt_table, opts, nr, &x->o, "node 'opts0'",
			      &x->err);
	return ret ?: qcow2_opts_apply(&x->s, &x->o, &x->err);
}

static const struct opts_case {
	const char *desc;
	u64 length;
	u32 cluster_bits;
	const char *all;
	const char *l2;
	const char *ref;
	u64 l2_bytes;
	u64 ref_bytes;
} opts_cases[] = {
	/* 1 GiB has 16384 clusters of 64 KiB, with 8 bytes for each */
	{ "all that the disk needs", SZ_1G, 16, NULL, NULL, NULL,
	  128 * SZ_1K, 256 * SZ_1K },
	{ "a table for a part of its range", 1ULL << 30 | 512, 16, NULL, NULL,
	  NULL, 192 * SZ_1K, 256 * SZ_1K },
	{ "32 MiB of a large disk", 1ULL << 40, 16, NULL, NULL, NULL,
	  32 * SZ_1M, 256 * SZ_1K },
	{ "clusters of 512 bytes", SZ_1G, 9, NULL, NULL, NULL,
	  16 * SZ_1M, 2048 },
	{ "clusters of 2 MiB", SZ_1G, 21, NULL, NULL, NULL,
	  2 * SZ_1M, 8 * SZ_1M },
	{ "no disk at all", 0, 16, NULL, NULL, NULL, 0, 256 * SZ_1K },
	{ "L2 given", 1ULL << 40, 16, NULL, "1M", NULL,
	  SZ_1M, 256 * SZ_1K },
	{ "more than the disk needs", SZ_1G, 16, NULL, "64M", NULL,
	  128 * SZ_1K, 256 * SZ_1K },
	{ "refcounts given", 1ULL << 40, 16, NULL, NULL, "1M",
	  32 * SZ_1M, SZ_1M },
	{ "both given", 1ULL << 40, 16, NULL, "4M", "3M",
	  4 * SZ_1M, 3 * SZ_1M },
	{ "refcounts have a minimum", 1ULL << 40, 16, NULL, "0", "0",
	  0, 256 * SZ_1K },
	{ "enough for all of the disk", SZ_1G, 16, "1M", NULL, NULL,
	  128 * SZ_1K, 896 * SZ_1K },
	{ "just enough", SZ_1G, 16, "384K", NULL, NULL,
	  128 * SZ_1K, 256 * SZ_1K },
	{ "not enough: L2 gets the rest", SZ_1G, 16, "320K", NULL, NULL,
	  64 * SZ_1K, 256 * SZ_1K },
	{ "nothing left for L2", SZ_1G, 16, "64K", NULL, NULL,
	  0, 256 * SZ_1K },
	{ "all and L2", 1ULL << 40, 16, "8M", "5M", NULL,
	  5 * SZ_1M, 3 * SZ_1M },
	{ "all and L2, the same", 1ULL << 40, 16, "8M", "8M", NULL,
	  8 * SZ_1M, 256 * SZ_1K },
	{ "all, and L2 above the need", SZ_1G, 16, "8M", "5M", NULL,
	  128 * SZ_1K, 8 * SZ_1M - 128 * SZ_1K },
	{ "all and refcounts", 1ULL << 40, 16, "8M", NULL, "3M",
	  5 * SZ_1M, 3 * SZ_1M },
	{ "all and refcounts, the same", 1ULL << 40, 16, "8M", NULL, "8M",
	  0, 8 * SZ_1M },
};

KUNIT_ARRAY_PARAM_DESC(opts, opts_cases, desc);

static void opts_cache_sizes(struct kunit *test)
{
	const struct opts_case *oc = test->param_value;
	struct opts_ctx *x = opts_create(test, oc->length, oc->cluster_bits);

	KUNIT_ASSERT_EQ(test, 0, opts_apply(x, oc->all, oc->l2, oc->ref));
	KUNIT_EXPECT_EQ(test, oc->l2_bytes, x->s.l2_cache_size);
	KUNIT_EXPECT_EQ(test, oc->ref_bytes, x->s.ref_cache_size);
}

/* An extended entry takes 16 bytes. */
static void opts_extended_l2(struct kunit *test)
{
	struct opts_ctx *x = opts_create(test, SZ_1G, 16);

	x->s.l2e_bits = 4;
	KUNIT_ASSERT_EQ(test, 0, opts_apply(x, NULL, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 256 * SZ_1K, x->s.l2_cache_size);
}

static void opts_expect_refused(struct kunit *test, const char *all,
				const char *l2, const char *ref, int error,
				const char *text)
{
	struct opts_ctx *x = opts_create(test, SZ_1G, 16);

	KUNIT_EXPECT_EQ(test, error, opts_apply(x, all, l2, ref));
	KUNIT_EXPECT_STREQ(test, text, x->err.msg);
}

static void opts_cache_conflicts(struct kunit *test)
{
	opts_expect_refused(test, "8M", "4M", "4M", -EINVAL,
			    "node 'opts0': options 'cache-size' (8388608), 'l2-cache-size' (4194304) and 'refcount-cache-size' (4194304) may not be set at the same time");
	opts_expect_refused(test, "8M", "8388609", NULL, -EINVAL,
			    "node 'opts0': option 'l2-cache-size': 8388609 may not exceed 'cache-size', 8388608");
	opts_expect_refused(test, "0", NULL, "1", -EINVAL,
			    "node 'opts0': option 'refcount-cache-size': 1 may not exceed 'cache-size', 0");
	opts_expect_refused(test, "513G", NULL, NULL, -ERANGE,
			    "node 'opts0': option 'cache-size': 513G is above the largest value, 549755813888");
}

static void opts_entry_size(struct kunit *test)
{
	static const u64 wrong[] = { 0, 256, 4097, 131072 };
	struct opts_ctx *x = opts_create(test, SZ_1G, 16);
	char text[QBLK_ERR_LEN];
	int i;

	KUNIT_ASSERT_EQ(test, 0, opts_apply(x, NULL, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 12, x->s.l2_slice_bits);
	for (i = 9; i <= 16; i++) {
		x->o.l2_cache_entry_size = BIT(i);
		KUNIT_EXPECT_EQ(test, 0, qcow2_opts_apply(&x->s, &x->o,
							  &x->err));
		KUNIT_EXPECT_EQ(test, i, x->s.l2_slice_bits);
	}
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		x->o.l2_cache_entry_size = wrong[i];
		x->err.msg[0] = 0;
		KUNIT_EXPECT_EQ(test, -EINVAL, qcow2_opts_apply(&x->s, &x->o,
								&x->err));
		snprintf(text, sizeof(text),
			 "node 'opts0': option 'l2-cache-entry-size': %llu is not a power of two between 512 and the cluster size, 65536",
			 wrong[i]);
		KUNIT_EXPECT_STREQ(test, text, x->err.msg);
	}
	x = opts_create(test, SZ_1G, 9);
	KUNIT_ASSERT_EQ(test, 0, opts_apply(x, NULL, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 9, x->s.l2_slice_bits);
}

static void opts_clean_interval(struct kunit *test)
{
	struct opts_ctx *x = opts_create(test, SZ_1G, 16);

	KUNIT_ASSERT_EQ(test, 0, opts_apply(x, NULL, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 600, x->s.clean_interval);
	x->o.cache_clean_interval = 0;
	KUNIT_ASSERT_EQ(test, 0, qcow2_opts_apply(&x->s, &x->o, &x->err));
	KUNIT_EXPECT_EQ(test, 0, x->s.clean_interval);
	x->o.cache_clean_interval = U32_MAX;
	KUNIT_ASSERT_EQ(test, 0, qcow2_opts_apply(&x->s, &x->o, &x->err));
	KUNIT_EXPECT_EQ(test, U32_MAX, x->s.clean_interval);
}

static struct kunit_case opts_kunit_cases[] = {
	KUNIT_CASE_PARAM(opts_cache_sizes, opts_gen_params),
	KUNIT_CASE(opts_extended_l2),
	KUNIT_CASE(opts_cache_conflicts),
	KUNIT_CASE(opts_entry_size),
	KUNIT_CASE(opts_clean_interval),
	{}
};

static struct kunit_suite opts_kunit_suite = {
	.name = "qblk_qcow2_opts",
	.test_cases = opts_kunit_cases,
};

kunit_test_suite(opts_kunit_suite);
