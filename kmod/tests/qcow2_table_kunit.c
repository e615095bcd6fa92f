// SPDX-License-Identifier: GPL-2.0
/*
 * The parsers of the snapshot table and of the bitmap directory, on bytes made
 * by hand.
 */
#include <kunit/test.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "../format/qcow2/codec.h"
#include "memleaf.h"

#define TABLE_BYTES	4096U

/* 4 MiB in clusters of 4 KiB */
static const struct qcow2_header table_header = {
	.version = 3,
	.cluster_bits = 12,
	.size = 4 << 20,
};

/* A buffer of @len bytes that ends where KASAN looks. */
static u8 *table_copy(struct kunit *test, const u8 *bytes, size_t len)
{
	u8 *buf = kunit_kmalloc(test, max_t(size_t, len, 1), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	memcpy(buf, bytes, len);
	return buf;
}

static void table_expect_refused(struct kunit *test, int error, int ret,
				 const struct qblk_err *err, const char *what)
{
	KUNIT_EXPECT_EQ_MSG(test, error, ret, "%s", what);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(err->msg, "node 'img'"), "%s",
				  err->msg);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(err->msg, what), "%s, not %s",
				  err->msg, what);
}

/* Snapshots */

#define SNAP_EXTRA	24U
#define SNAP_ID		2U
#define SNAP_NAME	5U
#define SNAP_BYTES	(40 + SNAP_EXTRA + SNAP_ID + SNAP_NAME)

/* An entry with all the extra data there can be */
static void snap_make(u8 *buf)
{
	memset(buf, 0xee, SNAP_BYTES);
	put_unaligned_be64(0x50000, buf);
	put_unaligned_be32(7, buf + 8);
	put_unaligned_be16(SNAP_ID, buf + 12);
	put_unaligned_be16(SNAP_NAME, buf + 14);
	put_unaligned_be32(1700000000, buf + 16);
	put_unaligned_be32(123, buf + 20);
	put_unaligned_be64(4567, buf + 24);
	put_unaligned_be32(89, buf + 32);
	put_unaligned_be32(SNAP_EXTRA, buf + 36);
	put_unaligned_be64(5ULL << 32, buf + 40);
	put_unaligned_be64(3 << 20, buf + 48);
	put_unaligned_be64(77, buf + 56);
	memcpy(buf + 64, "12first", 7);
}

static int snap_parse(struct kunit *test, const u8 *bytes, size_t len,
		      struct qcow2_snapshot_entry *e, struct qblk_err *err)
{
	err->msg[0] = '\0';
	return qcow2_snapshot_parse(table_copy(test, bytes, len), len, 3, e,
				    "node 'img'", err);
}

static void table_snapshot(struct kunit *test)
{
	struct qcow2_snapshot_entry e;
	struct qblk_err err;
	u8 buf[SNAP_BYTES];

	snap_make(buf);
	KUNIT_ASSERT_EQ(test, (int)SNAP_BYTES,
			snap_parse(test, buf, sizeof(buf), &e, &err));
	KUNIT_EXPECT_EQ(test, 0x50000, e.l1_table_offset);
	KUNIT_EXPECT_EQ(test, 7, e.l1_size);
	KUNIT_EXPECT_EQ(test, SNAP_EXTRA, e.extra_size);
	KUNIT_EXPECT_EQ(test, SNAP_ID, e.id_size);
	KUNIT_EXPECT_EQ(test, SNAP_NAME, e.name_size);
	KUNIT_EXPECT_EQ(test, 1700000000, e.date_sec);
	KUNIT_EXPECT_EQ(test, 123, e.date_nsec);
	KUNIT_EXPECT_EQ(test, 4567, e.vm_clock_nsec);
	KUNIT_EXPECT_EQ(test, 5ULL << 32, e.vm_state_size);
	KUNIT_EXPECT_TRUE(test, e.has_disk_size);
	KUNIT_EXPECT_EQ(test, 3 << 20, e.disk_size);
	KUNIT_EXPECT_EQ(test, 77, e.icount);
	KUNIT_EXPECT_MEMEQ(test, "12", buf + qcow2_snapshot_id(&e), 2);
	KUNIT_EXPECT_MEMEQ(test, "first", buf + qcow2_snapshot_name(&e), 5);
}

/* A member of the extra data counts if the entry, and the buffer, have all. */
static void snap_expect_extra(struct kunit *test, const u8 *buf, size_t len,
			      size_t extra)
{
	struct qcow2_snapshot_entry e;
	struct qblk_err err;

	KUNIT_ASSERT_LT(test, 0, snap_parse(test, buf, len, &e, &err));
	KUNIT_EXPECT_EQ(test, extra >= 8 ? 5ULL << 32 : 89, e.vm_state_size);
	KUNIT_EXPECT_EQ(test, extra >= 16, e.has_disk_size);
	KUNIT_EXPECT_EQ(test, extra >= 16 ? 3 << 20 : 0, e.disk_size);
	KUNIT_EXPECT_EQ(test, extra >= 24 ? 77 : U64_MAX, e.icount);
}

static void table_snapshot_extra(struct kunit *test)
{
	u8 buf[SNAP_BYTES];
	u32 n;

	for (n = 0; n <= SNAP_EXTRA; n++) {
		snap_make(buf);
		snap_expect_extra(test, buf, 40 + n, n);
		put_unaligned_be32(n, buf + 36);
		snap_expect_extra(test, buf, sizeof(buf), n);
	}
}

/* The longest entry there is, of which the head is all that is there. */
static void table_snapshot_head(struct kunit *test)
{
	struct qcow2_snapshot_entry e;
	struct qblk_err err;
	u8 buf[SNAP_BYTES];

	snap_make(buf);
	put_unaligned_be32(1024, buf + 36);
	put_unaligned_be32(U32_MAX, buf + 12);
	KUNIT_EXPECT_EQ(test, 40 + 1024 + 2 * 65535,
			snap_parse(test, buf, 40, &e, &err));
	KUNIT_EXPECT_EQ(test, 40 + 1024, qcow2_snapshot_id(&e));
	KUNIT_EXPECT_EQ(test, 40 + 1024 + 65535, qcow2_snapshot_name(&e));
}

static void table_snapshot_bad(struct kunit *test)
{
	static const u32 sizes[] = { 1025, BIT(31), U32_MAX };
	struct qcow2_snapshot_entry e;
	struct qblk_err err;
	u8 buf[SNAP_BYTES];
	size_t len;
	int i, ret;

	snap_make(buf);
	for (len = 0; len < 40; len++) {
		ret = snap_parse(test, buf, len, &e, &err);
		table_expect_refused(test, -EINVAL, ret, &err, "entry 3");
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		char what[40];

		snprintf(what, sizeof(what), "extra_data_size %u is",
			 sizes[i]);
		put_unaligned_be32(sizes[i], buf + 36);
		ret = snap_parse(test, buf, sizeof(buf), &e, &err);
		table_expect_refused(test, -EFBIG, ret, &err, what);
	}
}

static void table_snapshot_l1(struct kunit *test)
{
	static const struct {
		u64 offset;
		u32 size;
		int ret;
		const char *what;
	} l1[] = {
		{ 0x50000, 0, 0 },
		{ 0, 0, 0 },
		{ 0x50000, 4 << 20, 0 },
		{ (1ULL << 56) - 4096, 512, 0 },
		{ 0, 1, -EINVAL, "offset invalid: 0x0" },
		{ 0x50200, 1, -EINVAL, "0x50200" },
		{ 0x50000, (4 << 20) + 1, -EFBIG, "4194305 entries" },
		{ 0x50000, U32_MAX, -EFBIG, "4294967295 entries" },
		{ (1ULL << 56) - 4096, 513, -EINVAL, "0xfffffffffff000" },
		{ 1ULL << 56, 1, -EINVAL, "0x100000000000000" },
		{ U64_MAX - 4095, 1024, -EINVAL, "0xfffffffffffff000" },
	};
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(l1); i++) {
		struct qcow2_snapshot_entry e = {
			.l1_table_offset = l1[i].offset,
			.l1_size = l1[i].size,
		};
		struct qblk_err err = {};

		ret = qcow2_snapshot_l1_check(&table_header, &e, "node 'img'",
					      &err);
		if (l1[i].ret)
			table_expect_refused(test, l1[i].ret, ret, &err,
					     l1[i].what);
		else
			KUNIT_EXPECT_EQ_MSG(test, 0, ret, "%s", err.msg);
	}
}

/* Bitmaps */

#define BITMAP_NAME	"dirty"
#define BITMAP_BYTES	32U

/* 64 KiB a bit: one entry in the table, with room for 2 GiB */
static void table_make_bitmap(u8 *buf)
{
	memset(buf, 0, BITMAP_BYTES);
	put_unaligned_be64(0x60000, buf);
	put_unaligned_be32(1, buf + 8);
	put_unaligned_be32(QCOW2_BITMAP_AUTO, buf + 12);
	buf[16] = QCOW2_BITMAP_DIRTY_TRACKING;
	buf[17] = 16;
	put_unaligned_be16(strlen(BITMAP_NAME), buf + 18);
	memcpy(buf + 24, BITMAP_NAME, strlen(BITMAP_NAME));
}

static int table_parse_bitmap(const u8 *buf, size_t len,
			      struct qcow2_bitmap_entry *e,
			      struct qblk_err *err)
{
	err->msg[0] = '\0';
	return qcow2_bitmap_parse(&table_header, buf, len, 4, e, "node 'img'",
				  err);
}

static void table_bitmap(struct kunit *test)
{
	struct qcow2_bitmap_entry e;
	struct qblk_err err;
	u8 buf[BITMAP_BYTES];
	int ret;

	table_make_bitmap(buf);
	ret = table_parse_bitmap(buf, sizeof(buf), &e, &err);
	KUNIT_ASSERT_EQ_MSG(test, (int)BITMAP_BYTES, ret, "%s", err.msg);
	KUNIT_EXPECT_EQ(test, 0x60000, e.table_offset);
	KUNIT_EXPECT_EQ(test, 1, e.table_size);
	KUNIT_EXPECT_EQ(test, (u32)QCOW2_BITMAP_AUTO, e.flags);
	KUNIT_EXPECT_EQ(test, 0, e.extra_size);
	KUNIT_EXPECT_EQ(test, QCOW2_BITMAP_DIRTY_TRACKING, e.type);
	KUNIT_EXPECT_EQ(test, 16, e.granularity_bits);
	KUNIT_EXPECT_EQ(test, strlen(BITMAP_NAME), e.name_size);
	KUNIT_EXPECT_PTR_EQ(test, (const u8 *)buf + 24, e.name);
	KUNIT_EXPECT_EQ(test, 1, qcow2_bitmap_entries(&table_header, &e));
}

static void table_bitmap_cut(struct kunit *test)
{
	struct qcow2_bitmap_entry e;
	struct qblk_err err;
	u8 buf[BITMAP_BYTES];
	size_t len;
	int ret;

	table_make_bitmap(buf);
	for (len = 0; len < BITMAP_BYTES; len++) {
		ret = table_parse_bitmap(table_copy(test, buf, len), len, &e,
					 &err);
		table_expect_refused(test, -EINVAL, ret, &err, "entry 4");
	}
}

/* Fields that are changed in an entry, in host order */
struct bitmap_field {
	u8 at;
	u8 size;
	u64 value;
};

static void table_put_field(u8 *buf, const struct bitmap_field *f)
{
	int i;

	for (i = 0; i < f->size; i++)
		buf[f->at + i] = f->value >> (8 * (f->size - 1 - i));
}

static const struct bitmap_case {
	const char *desc;	/* part of the sentence, if it is not good */
	bool good;
	struct bitmap_field set[3];
} bitmap_cases[] = {
	{ "bitmap_table_offset 0 is", false, { { 0, 8, 0 } } },
	{ "bitmap_table_offset 0x60200", false, { { 0, 8, 0x60200 } } },
	{ "bitmap_table_offset, largest", true,
	  { { 0, 8, 0xfffffffffffff000 } } },
	{ "bitmap_table_size 0", false, { { 8, 4, 0 } } },
	{ "bitmap_table_size 134217729", false, { { 8, 4, 0x8000001 } } },
	{ "size of the bitmap in bytes 536875008", false,
	  { { 8, 4, 131073 } } },
	{ "bitmap_table_size, largest", true, { { 8, 4, 131072 } } },
	{ "flags 4", false, { { 12, 4, 4 } } },
	{ "flags 2147483648", false, { { 12, 4, BIT(31) } } },
	{ "flags, all", true, { { 12, 4, 3 } } },
	{ "type 0", false, { { 16, 1, 0 } } },
	{ "type 2", false, { { 16, 1, 2 } } },
	{ "granularity_bits 8", false, { { 17, 1, 8 } } },
	{ "granularity_bits 32", false, { { 17, 1, 32 } } },
	{ "granularity_bits 255", false, { { 17, 1, 255 } } },
	{ "granularity_bits, smallest", true, { { 17, 1, 9 } } },
	{ "granularity_bits, largest", true, { { 17, 1, 31 } } },
	{ "name_size 0", false, { { 18, 2, 0 } } },
	{ "name_size 1024", false, { { 18, 2, 1024 } } },
	{ "name_size, largest", true, { { 18, 2, 1023 } } },
	{ "entry 4 does not fit", false, { { 18, 2, 65535 } } },
	{ "extra_data_size 1", false, { { 20, 4, 1 } } },
	{ "entry 4 does not fit into", false, { { 20, 4, U32_MAX } } },
};

KUNIT_ARRAY_PARAM_DESC(bitmap_case, bitmap_cases, desc);

static void table_bitmap_fields(struct kunit *test)
{
	const struct bitmap_case *c = test->param_value;
	u8 *buf = kunit_kzalloc(test, TABLE_BYTES, GFP_KERNEL);
	struct qcow2_bitmap_entry e;
	struct qblk_err err;
	int i, ret;

	KUNIT_ASSERT_NOT_NULL(test, buf);
	table_make_bitmap(buf);
	for (i = 0; i < ARRAY_SIZE(c->set); i++)
		table_put_field(buf, &c->set[i]);
	ret = table_parse_bitmap(buf, TABLE_BYTES, &e, &err);
	if (c->good)
		KUNIT_EXPECT_LT_MSG(test, 0, ret, "%s", err.msg);
	else
		table_expect_refused(test, -EINVAL, ret, &err, c->desc);
}

/* A table has to have room for the disk, unless its bitmap is of no use. */
static void table_bitmap_covers(struct kunit *test)
{
	struct qcow2_header h = table_header;
	struct qcow2_bitmap_entry e;
	struct qblk_err err = {};
	u8 buf[BITMAP_BYTES];
	int ret;

	table_make_bitmap(buf);
	/* a cluster of bits for 64 KiB each */
	h.size = 4096ULL * 8 << 16;
	KUNIT_EXPECT_LT(test, 0, qcow2_bitmap_parse(&h, buf, sizeof(buf), 4, &e,
						    "node 'img'", &err));
	KUNIT_EXPECT_EQ(test, 1, qcow2_bitmap_entries(&h, &e));
	/* QEMU counts sectors. */
	h.size += 511;
	KUNIT_EXPECT_LT(test, 0, qcow2_bitmap_parse(&h, buf, sizeof(buf), 4, &e,
						    "node 'img'", &err));
	KUNIT_EXPECT_EQ(test, 1, qcow2_bitmap_entries(&h, &e));
	h.size++;
	KUNIT_EXPECT_EQ(test, 2, qcow2_bitmap_entries(&h, &e));
	ret = qcow2_bitmap_parse(&h, buf, sizeof(buf), 4, &e, "node 'img'",
				 &err);
	table_expect_refused(test, -EINVAL, ret, &err, "bitmap_table_size 1");
	put_unaligned_be32(QCOW2_BITMAP_IN_USE, buf + 12);
	KUNIT_EXPECT_LT(test, 0, qcow2_bitmap_parse(&h, buf, sizeof(buf), 4, &e,
						    "node 'img'", &err));
	h.size = S64_MAX;
	KUNIT_EXPECT_EQ(test, (1ULL << 32), qcow2_bitmap_entries(&h, &e));
}

static void table_bitmap_entry(struct kunit *test)
{
	static const u64 good[] = { 0, 1, 0x1000, 0xfffffffffff000 };
	static const u64 bad[] = {
		2, 0x100, 0x200, 0x1001, 0x1200, 1ULL << 56, 1ULL << 63,
		U64_MAX,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(good); i++)
		KUNIT_EXPECT_TRUE_MSG(test,
				      qcow2_bitmap_table_valid(&table_header,
							       good[i]),
				      "%llx", good[i]);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_FALSE_MSG(test,
				       qcow2_bitmap_table_valid(&table_header,
								bad[i]),
				       "%llx", bad[i]);
}

/* Any bytes: what is accepted lies within them, what is not has a sentence. */
static void table_random(struct kunit *test)
{
	struct qcow2_snapshot_entry sn;
	struct qcow2_bitmap_entry bm;
	struct rnd_state rnd;
	struct qblk_err err;
	u8 buf[BITMAP_BYTES];
	int i, ret, good = 0;

	prandom_seed_state(&rnd, 20);
	for (i = 0; i < 5000; i++) {
		u32 len = memleaf_random(&rnd, sizeof(buf) + 1);
		u32 n;

		table_make_bitmap(buf);
		for (n = memleaf_random(&rnd, 4); n; n--)
			buf[memleaf_random(&rnd, sizeof(buf))] =
				prandom_u32_state(&rnd);
		if (memleaf_random(&rnd, 4))
			len = sizeof(buf);
		ret = table_parse_bitmap(buf, len, &bm, &err);
		if (ret > 0) {
			good++;
			KUNIT_ASSERT_LE(test, (u32)ret, len);
			KUNIT_ASSERT_TRUE(test, bm.name + bm.name_size <=
						buf + len);
		} else {
			KUNIT_ASSERT_EQ(test, -EINVAL, ret);
			KUNIT_ASSERT_NE(test, 0, err.msg[0]);
		}
		err.msg[0] = '\0';
		ret = qcow2_snapshot_parse(buf, len, 3, &sn, "node 'img'",
					   &err);
		KUNIT_ASSERT_TRUE(test, ret >= 40 || err.msg[0]);
	}
	KUNIT_EXPECT_GT(test, good, 500);
	KUNIT_EXPECT_LT(test, good, 4500);
}

static struct kunit_case table_kunit_cases[] = {
	KUNIT_CASE(table_snapshot),
	KUNIT_CASE(table_snapshot_extra),
	KUNIT_CASE(table_snapshot_head),
	KUNIT_CASE(table_snapshot_bad),
	KUNIT_CASE(table_snapshot_l1),
	KUNIT_CASE(table_bitmap),
	KUNIT_CASE(table_bitmap_cut),
	KUNIT_CASE_PARAM(table_bitmap_fields, bitmap_case_gen_params),
	KUNIT_CASE(table_bitmap_covers),
	KUNIT_CASE(table_bitmap_entry),
	KUNIT_CASE(table_random),
	{}
};

static struct kunit_suite table_kunit_suite = {
	.name = "qblk_qcow2_table",
	.test_cases = table_kunit_cases,
};

kunit_test_suite(table_kunit_suite);
