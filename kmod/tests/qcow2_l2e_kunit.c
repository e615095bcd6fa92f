// SPDX-License-Identifier: GPL-2.0
/*
 * L2 entries, standard and extended.
 */
#include <kunit/test.h>
#include <linux/prandom.h>

#include "../format/qcow2/qcow2.h"

#define C	QCOW2_OFLAG_COPIED
#define Z	QCOW2_OFLAG_ZERO
#define COMPR	QCOW2_OFLAG_COMPRESSED
#define ALL	QCOW2_SC_ALL
#define EXTL2	QCOW2_INCOMPAT_EXTL2
#define DATA	QCOW2_INCOMPAT_DATA_FILE

/* What an entry on disk means */
static const struct l2e_case {
	const char *desc;
	u64 features;
	u64 entry;
	u64 bitmap;
	bool host;
	u32 alloc;
	u32 zero;
} l2e_cases[] = {
	{ "unallocated", 0, 0, 0, false, 0, 0 },
	{ "unallocated, with a flag", 0, C, 0, false, 0, 0 },
	{ "zero", 0, Z, 0, false, 0, ALL },
	{ "zero, with a flag", 0, C | Z, 0, false, 0, ALL },
	{ "data", 0, C | 0x50000, 0, true, ALL, 0 },
	{ "shared data", 0, 0x50000, 0, true, ALL, 0 },
	{ "lowest offset", 0, 0x200, 0, true, ALL, 0 },
	{ "highest offset", 0, BIT_ULL(55), 0, true, ALL, 0 },
	{ "reserved bit", 0, BIT_ULL(56), 0, false, 0, 0 },
	{ "zero with a cluster", 0, C | Z | 0x50000, 0, true, 0, ALL },
	{ "compressed", 0, COMPR | 0x50000, 0, false, 0, 0 },
	{ "compressed, odd offset", 0, COMPR | 0x50001, 0, false, 0, 0 },
	{ "the bitmap is not there", 0, 0x50000, ~0ULL, true, ALL, 0 },
	{ "data file, first cluster", DATA, C, 0, true, ALL, 0 },
	{ "data file, first cluster zero", DATA, C | Z, 0, true, 0, ALL },
	{ "data file, unallocated", DATA, 0, 0, false, 0, 0 },
	{ "extended, unallocated", EXTL2, 0, 0, false, 0, 0 },
	{ "extended, some zero", EXTL2, 0, 5ULL << 32, false, 0, 5 },
	{ "extended, data and zero", EXTL2, C | 0x50000, 0xa0000000cULL, true,
	  0xc, 0xa },
	{ "extended, empty cluster", EXTL2, C | 0x50000, 0, true, 0, 0 },
	{ "extended, compressed", EXTL2, COMPR | 0x50000, 0, false, 0, 0 },
	{ "extended, data file", EXTL2 | DATA, C, 1, true, 1, 0 },
};

KUNIT_ARRAY_PARAM_DESC(l2e_case, l2e_cases, desc);

static void l2e_decode(struct kunit *test)
{
	const struct l2e_case *c = test->param_value;
	struct qcow2_l2e e = qcow2_l2e_decode(c->features, c->entry,
					      c->bitmap);
	u64 bitmap;

	KUNIT_EXPECT_EQ(test, c->alloc, e.alloc);
	KUNIT_EXPECT_EQ(test, c->zero, e.zero);
	KUNIT_EXPECT_EQ(test, c->host, qcow2_l2e_has_host(c->features, &e));
	KUNIT_EXPECT_EQ(test, c->entry,
			qcow2_l2e_encode(c->features, &e, &bitmap));
	KUNIT_EXPECT_EQ(test, c->features & EXTL2 ? c->bitmap : 0, bitmap);
}

/* Of any bitmaps: the run is as long as one bit after the other says. */
static void l2e_run(struct kunit *test)
{
	struct rnd_state rnd;
	u32 i, sc, n;

	prandom_seed_state(&rnd, 1);
	for (i = 0; i < 3000; i++) {
		struct qcow2_l2e e = {
			.entry = C | 0x50000,
			.alloc = prandom_u32_state(&rnd) |
				 (i & 1 ? prandom_u32_state(&rnd) : 0),
		};

		e.zero = prandom_u32_state(&rnd) & ~e.alloc;
		if (i % 7 == 0)
			e.alloc = i & 1 ? ALL : 0;
		if (i % 5 == 0)
			e.entry = COMPR;
		sc = prandom_u32_state(&rnd) % 32;
		for (n = 1; sc + n < 32; n++)
			if (qcow2_sc_kind(&e, sc + n) != qcow2_sc_kind(&e, sc))
				break;
		KUNIT_ASSERT_EQ_MSG(test, n, qcow2_sc_run(&e, sc),
				    "alloc %#x, zero %#x, from %u", e.alloc,
				    e.zero, sc);
	}
}

static void l2e_mask(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, ALL, qcow2_sc_mask(0, 31));
	KUNIT_EXPECT_EQ(test, 1U, qcow2_sc_mask(0, 0));
	KUNIT_EXPECT_EQ(test, 0x80000000U, qcow2_sc_mask(31, 31));
	KUNIT_EXPECT_EQ(test, 0x3cU, qcow2_sc_mask(2, 5));
}

static const struct l2e_bad {
	const char *desc;
	u32 version;
	u64 features;
	u64 entry;
	u64 bitmap;
	enum qcow2_l2e_error error;
} l2e_bads[] = {
	{ "data", 2, 0, C | 0x50000, 0, QCOW2_L2E_GOOD },
	{ "zero", 3, 0, Z, 0, QCOW2_L2E_GOOD },
	{ "zero, version 2", 2, 0, Z, 0, QCOW2_L2E_ZERO_V2 },
	{ "zero with a cluster, version 2", 2, 0, C | Z | 0x50000, 0,
	  QCOW2_L2E_ZERO_V2 },
	{ "unaligned", 3, 0, C | 0x50200, 0, QCOW2_L2E_UNALIGNED },
	{ "unaligned zero", 3, 0, C | Z | 0x50200, 0, QCOW2_L2E_UNALIGNED },
	{ "compressed is anywhere", 3, 0, COMPR | 0x50201, 0, QCOW2_L2E_GOOD },
	{ "data and zero at once", 3, EXTL2, C | 0x50000, 0x300000002ULL,
	  QCOW2_L2E_BITMAP },
	{ "data without a cluster", 3, EXTL2, 0, 1, QCOW2_L2E_BITMAP },
	{ "extended, all well", 3, EXTL2, C | 0x50000, 0x300000004ULL,
	  QCOW2_L2E_GOOD },
	{ "data file, where the guest is", 3, DATA, C | 0x40000, 0,
	  QCOW2_L2E_GOOD },
	{ "data file, elsewhere", 3, DATA, C | 0x50000, 0,
	  QCOW2_L2E_NOT_GUEST },
	{ "data file, unallocated", 3, DATA, 0, 0, QCOW2_L2E_GOOD },
	{ "data file, compressed", 3, DATA, COMPR | 0x40000, 0,
	  QCOW2_L2E_COMPRESSED_DATA_FILE },
};

KUNIT_ARRAY_PARAM_DESC(l2e_bad, l2e_bads, desc);

/* Entries for the guest cluster at 0x40000, of 64 KiB */
static void l2e_error(struct kunit *test)
{
	const struct l2e_bad *c = test->param_value;
	struct qcow2_l2e e = qcow2_l2e_decode(c->features, c->entry,
					      c->bitmap);

	KUNIT_EXPECT_EQ(test, c->error,
			qcow2_l2e_error(c->version, c->features, 16, 0x40000,
					&e));
}

/* Runs over entries; clusters of 64 KiB, subclusters of 2 KiB */
#define CLUSTER	0x10000ULL
#define SUB	0x800ULL

static const struct l2e_run_case {
	const char *desc;
	u64 entries[5];
	unsigned int nr;
	bool in_place;
	unsigned int run;
} l2e_runs[] = {
	{ "one entry", { C | 0x50000, C | 0x60000 }, 1, false, 1 },
	{ "adjacent", { C | 0x50000, C | 0x60000, C | 0x70000 }, 3, false, 3 },
	{ "adjacent, in place",
	  { C | 0x50000, C | 0x60000, C | 0x70000 }, 3, true, 3 },
	{ "gap", { C | 0x50000, C | 0x60000, C | 0x80000 }, 3, false, 2 },
	{ "backwards", { C | 0x60000, C | 0x50000 }, 2, false, 1 },
	{ "same twice", { C | 0x50000, C | 0x50000 }, 2, false, 1 },
	{ "shared goes on reading",
	  { C | 0x50000, 0x60000, C | 0x70000 }, 3, false, 3 },
	{ "shared ends in place",
	  { C | 0x50000, 0x60000, C | 0x70000 }, 3, true, 1 },
	{ "data then unallocated", { C | 0x50000, 0 }, 2, false, 1 },
	{ "data then zero", { C | 0x50000, Z }, 2, false, 1 },
	{ "data then allocated zero",
	  { C | 0x50000, C | Z | 0x60000 }, 2, false, 1 },
	{ "data then compressed", { C | 0x50000, COMPR | 0x60000 }, 2, false, 1 },
	{ "data then unaligned", { C | 0x50000, C | 0x60200 }, 2, false, 1 },
	{ "unallocated", { 0, 0, 0, 0 }, 4, false, 4 },
	{ "unallocated then zero", { 0, 0, Z }, 3, false, 2 },
	{ "unallocated then data", { 0, C | 0x50000 }, 2, false, 1 },
	{ "zeroes of all kinds",
	  { Z, C | Z | 0x90000, Z | 0x50000, Z, 0 }, 5, false, 4 },
	{ "allocated zero first",
	  { C | Z | 0x90000, Z, C | 0xa0000 }, 3, false, 2 },
	{ "zero then unallocated", { Z, 0 }, 2, false, 1 },
	{ "compressed, wherever",
	  { COMPR | 0x50000, COMPR | 0x90000, C | 0x50000 }, 3, false, 2 },
};

KUNIT_ARRAY_PARAM_DESC(l2e_run_case, l2e_runs, desc);

static void l2e_state_init(struct qcow2_state *s, struct qcow2_slice *slice,
			   void *data, u64 features)
{
	s->hdr.version = 3;
	s->hdr.incompatible_features = features;
	s->cluster_bits = 16;
	s->cluster_size = 1U << 16;
	s->virt_bits = 11;
	s->l2e_bits = features & EXTL2 ? 4 : 3;
	s->l2_slice_bits = 9;
	seqcount_init(&slice->seq);
	slice->data = data;
}

static void l2e_runs_standard(struct kunit *test)
{
	const struct l2e_run_case *c = test->param_value;
	struct qcow2_state *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	struct qcow2_slice slice = {};
	struct qcow2_l2e first;
	__be64 l2[64] = {};
	int i;

	KUNIT_ASSERT_NOT_NULL(test, s);
	l2e_state_init(s, &slice, l2, 0);
	for (i = 0; i < ARRAY_SIZE(c->entries); i++)
		l2[i] = cpu_to_be64(c->entries[i]);
	first = qcow2_l2_entry(s, &slice, 0);
	/* the first entry is not looked at again */
	l2[0] = cpu_to_be64(C | 0xbad0000);
	KUNIT_EXPECT_EQ(test, c->run * CLUSTER - 100,
			qcow2_l2_run(s, &slice, 0, &first, 100,
				     c->nr * CLUSTER - 100, c->in_place));
}

/* Entry and bitmap of each cluster */
static const struct l2e_ext_run {
	const char *desc;
	u64 entries[3][2];
	bool in_place;
	u64 from;
	u64 run;
} l2e_ext_runs[] = {
	{ "data ends in its cluster", { { C | 0x50000, 0xff } }, false,
	  SUB / 2, 8 * SUB - SUB / 2 },
	{ "unallocated ends at data", { { C | 0x50000, 0xff00 } }, false, 0,
	  8 * SUB },
	{ "zero ends at unallocated", { { C | 0x50000, 0xfULL << 36 } }, false,
	  4 * SUB, 4 * SUB },
	{ "data goes on in the next cluster",
	  { { C | 0x50000, 0xff000000 }, { C | 0x60000, 0xff } }, false,
	  24 * SUB, 16 * SUB },
	{ "not where it lies elsewhere",
	  { { C | 0x50000, 0xff000000 }, { C | 0x80000, 0xff } }, false,
	  24 * SUB, 8 * SUB },
	{ "nor in place where it is shared",
	  { { C | 0x50000, 0xff000000 }, { 0x60000, 0xff } }, true, 24 * SUB,
	  8 * SUB },
	{ "unallocated goes on, with and without a cluster",
	  { { 0, 0 }, { C | 0x60000, 0 }, { 0, 1ULL << 33 } }, false, 0,
	  2 * CLUSTER + SUB },
	{ "a contradiction ends it",
	  { { C | 0x50000, ALL }, { C | 0x60000, 0x100000001 } }, false, 0,
	  CLUSTER },
};

KUNIT_ARRAY_PARAM_DESC(l2e_ext_run, l2e_ext_runs, desc);

static void l2e_runs_extended(struct kunit *test)
{
	const struct l2e_ext_run *c = test->param_value;
	struct qcow2_state *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	struct qcow2_slice slice = {};
	struct qcow2_l2e first;
	__be64 l2[64] = {};
	int i;

	KUNIT_ASSERT_NOT_NULL(test, s);
	l2e_state_init(s, &slice, l2, EXTL2);
	for (i = 0; i < ARRAY_SIZE(c->entries); i++) {
		l2[2 * i] = cpu_to_be64(c->entries[i][0]);
		l2[2 * i + 1] = cpu_to_be64(c->entries[i][1]);
	}
	first = qcow2_l2_entry(s, &slice, 0);
	KUNIT_EXPECT_EQ(test, c->run,
			qcow2_l2_run(s, &slice, 0, &first, c->from,
				     3 * CLUSTER - c->from, c->in_place));
}

static struct kunit_case l2e_kunit_cases[] = {
	KUNIT_CASE_PARAM(l2e_runs_standard, l2e_run_case_gen_params),
	KUNIT_CASE_PARAM(l2e_runs_extended, l2e_ext_run_gen_params),
	KUNIT_CASE_PARAM(l2e_decode, l2e_case_gen_params),
	KUNIT_CASE(l2e_run),
	KUNIT_CASE(l2e_mask),
	KUNIT_CASE_PARAM(l2e_error, l2e_bad_gen_params),
	{}
};

static struct kunit_suite l2e_kunit_suite = {
	.name = "qblk_qcow2_l2e",
	.test_cases = l2e_kunit_cases,
};

kunit_test_suite(l2e_kunit_suite);
