// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

/* Refcounts */

#define CODEC_BLOCK	512U

static const struct codec_order {
	const char *desc;
	u32 order;
	u64 max;
} codec_orders[] = {
	{ "1 bit", 0, 1 },
	{ "2 bits", 1, 3 },
	{ "4 bits", 2, 15 },
	{ "8 bits", 3, 255 },
	{ "16 bits", 4, 65535 },
	{ "32 bits", 5, U32_MAX },
	{ "64 bits", 6, U64_MAX },
};

KUNIT_ARRAY_PARAM_DESC(codec_order, codec_orders, desc);

static void codec_expect_same(struct kunit *test, const u8 *block,
			      const u8 *model)
{
	KUNIT_ASSERT_MEMEQ(test, model, block, CODEC_BLOCK);
}

static u64 codec_random64(struct rnd_state *rnd)
{
	return (u64)prandom_u32_state(rnd) << 32 | prandom_u32_state(rnd);
}

/* Every entry takes its smallest and largest value, and no other changes. */
static void codec_refcount_each(struct kunit *test)
{
	const struct codec_order *o = test->param_value;
	u32 nr = CODEC_BLOCK * 8 >> o->order;
	u8 *block = kunit_kzalloc(test, CODEC_BLOCK, GFP_KERNEL);
	u8 *model = kunit_kzalloc(test, CODEC_BLOCK, GFP_KERNEL);
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, block);
	KUNIT_ASSERT_NOT_NULL(test, model);
	KUNIT_EXPECT_EQ(test, o->max, qcow2_refcount_max(o->order));
	for (i = 0; i < nr; i++) {
		memset(block, 0, CODEC_BLOCK);
		memset(model, 0, CODEC_BLOCK);
		qcow2_refcount_set(block, o->order, i, o->max);
		refcount_model_set(model, o->order, i, o->max);
		codec_expect_same(test, block, model);
		KUNIT_ASSERT_EQ(test, o->max,
				qcow2_refcount_get(block, o->order, i));

		memset(block, 0xff, CODEC_BLOCK);
		memset(model, 0xff, CODEC_BLOCK);
		qcow2_refcount_set(block, o->order, i, 0);
		refcount_model_set(model, o->order, i, 0);
		codec_expect_same(test, block, model);
		KUNIT_ASSERT_EQ(test, 0,
				qcow2_refcount_get(block, o->order, i));
	}
}

static void codec_refcount_random(struct kunit *test)
{
	const struct codec_order *o = test->param_value;
	u32 nr = CODEC_BLOCK * 8 >> o->order;
	u8 *block = kunit_kzalloc(test, CODEC_BLOCK, GFP_KERNEL);
	u8 *model = kunit_kzalloc(test, CODEC_BLOCK, GFP_KERNEL);
	struct rnd_state rnd;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, block);
	KUNIT_ASSERT_NOT_NULL(test, model);
	prandom_seed_state(&rnd, 1 + o->order);
	for (i = 0; i < 1000; i++) {
		u32 index = memleaf_random(&rnd, nr);
		u64 value = codec_random64(&rnd) & o->max;

		qcow2_refcount_set(block, o->order, index, value);
		refcount_model_set(model, o->order, index, value);
		codec_expect_same(test, block, model);
		index = memleaf_random(&rnd, nr);
		KUNIT_ASSERT_EQ(test,
				refcount_model_get(model, o->order, index),
				qcow2_refcount_get(block, o->order, index));
	}
}

/* A few entries at places known from the text of the format */
static void codec_refcount_layout(struct kunit *test)
{
	static const u8 block[] = {
		0x81, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07,
	};

	KUNIT_EXPECT_EQ(test, 1, qcow2_refcount_get(block, 0, 0));
	KUNIT_EXPECT_EQ(test, 0, qcow2_refcount_get(block, 0, 1));
	KUNIT_EXPECT_EQ(test, 1, qcow2_refcount_get(block, 0, 7));
	KUNIT_EXPECT_EQ(test, 1, qcow2_refcount_get(block, 0, 9));
	KUNIT_EXPECT_EQ(test, 2, qcow2_refcount_get(block, 1, 3));
	KUNIT_EXPECT_EQ(test, 8, qcow2_refcount_get(block, 2, 1));
	KUNIT_EXPECT_EQ(test, 2, qcow2_refcount_get(block, 3, 1));
	KUNIT_EXPECT_EQ(test, 0x8102, qcow2_refcount_get(block, 4, 0));
	KUNIT_EXPECT_EQ(test, 7, qcow2_refcount_get(block, 5, 1));
	KUNIT_EXPECT_EQ(test, 0x8102000000000007ULL,
			qcow2_refcount_get(block, 6, 0));
}

/* L1 and L2 entries */

static void codec_expect_extent(struct kunit *test, u32 cluster_bits,
				u64 offset, u64 sectors)
{
	u64 entry = QCOW2_OFLAG_COMPRESSED | sectors << (70 - cluster_bits) |
		    offset;
	u64 got = 0;
	u32 bytes = 0;

	qcow2_compressed_extent(entry, cluster_bits, &got, &bytes);
	KUNIT_EXPECT_EQ(test, offset, got);
	KUNIT_EXPECT_EQ(test, (sectors + 1) * 512 - offset % 512, bytes);
}

static void codec_compressed(struct kunit *test)
{
	u32 bits;
	int i;

	for (bits = 9; bits <= 21; bits++) {
		u64 offset_max = (1ULL << (70 - bits)) - 1;
		u64 offsets[] = { 0, 1, 511, 512, 513, 65536, offset_max };
		u64 sectors_max = (1ULL << (bits - 8)) - 1;

		for (i = 0; i < ARRAY_SIZE(offsets); i++) {
			codec_expect_extent(test, bits, offsets[i], 0);
			codec_expect_extent(test, bits, offsets[i], 1);
			codec_expect_extent(test, bits, offsets[i],
					    sectors_max);
		}
	}
}

/* Worked out by hand for the usual cluster size: 54 bits of offset, 8 of length */
static void codec_compressed_64k(struct kunit *test)
{
	u64 offset;
	u32 bytes;

	qcow2_compressed_extent(0x4140000000050123ULL, 16, &offset, &bytes);
	KUNIT_EXPECT_EQ(test, 0x50123, offset);
	KUNIT_EXPECT_EQ(test, 6 * 512 - 0x123, bytes);
}

static void codec_l1_entries(struct kunit *test)
{
	static const struct {
		u64 size;
		u32 cluster_bits;
		u64 entries;
	} cases[] = {
		{ 0, 16, 0 },
		{ 512, 16, 1 },
		{ 512ULL << 20, 16, 1 },
		{ (512ULL << 20) + 1, 16, 2 },
		{ 1ULL << 40, 16, 2048 },
		{ 32768, 9, 1 },
		{ 32769, 9, 2 },
		{ U64_MAX, 9, 1ULL << 49 },
		{ S64_MAX, 21, 1ULL << 24 },
		{ 1ULL << 39, 21, 1 },
		{ (1ULL << 39) + 512, 21, 2 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, cases[i].entries,
				    qcow2_l1_entries(cases[i].size,
						     cases[i].cluster_bits,
						     cases[i].cluster_bits - 3),
				    "size %llu, %u bits", cases[i].size,
				    cases[i].cluster_bits);
}

/* Header */

static void codec_disk_header(struct qcow2_disk_header *d, u32 version)
{
	*d = (struct qcow2_disk_header) {
		.magic = cpu_to_be32(QCOW2_MAGIC),
		.version = cpu_to_be32(version),
		.backing_file_offset = cpu_to_be64(0x1112131415161718ULL),
		.backing_file_size = cpu_to_be32(0x21222324),
		.cluster_bits = cpu_to_be32(0x31323334),
		.size = cpu_to_be64(0x4142434445464748ULL),
		.crypt_method = cpu_to_be32(0x51525354),
		.l1_size = cpu_to_be32(0x61626364),
		.l1_table_offset = cpu_to_be64(0x7172737475767778ULL),
		.refcount_table_offset = cpu_to_be64(0x8182838485868788ULL),
		.refcount_table_clusters = cpu_to_be32(0x91929394),
		.nb_snapshots = cpu_to_be32(0xa1a2a3a4),
		.snapshots_offset = cpu_to_be64(0xb1b2b3b4b5b6b7b8ULL),
		.incompatible_features = cpu_to_be64(0xc1c2c3c4c5c6c7c8ULL),
		.compatible_features = cpu_to_be64(0xd1d2d3d4d5d6d7d8ULL),
		.autoclear_features = cpu_to_be64(0xe1e2e3e4e5e6e7e8ULL),
		.refcount_order = cpu_to_be32(6),
		.header_length = cpu_to_be32(112),
		.compression_type = 1,
	};
}

static void codec_expect_common(struct kunit *test,
				const struct qcow2_header *h)
{
	KUNIT_EXPECT_EQ(test, 0x1112131415161718ULL, h->backing_file_offset);
	KUNIT_EXPECT_EQ(test, 0x21222324, h->backing_file_size);
	KUNIT_EXPECT_EQ(test, 0x31323334, h->cluster_bits);
	KUNIT_EXPECT_EQ(test, 0x4142434445464748ULL, h->size);
	KUNIT_EXPECT_EQ(test, 0x51525354, h->crypt_method);
	KUNIT_EXPECT_EQ(test, 0x61626364, h->l1_size);
	KUNIT_EXPECT_EQ(test, 0x7172737475767778ULL, h->l1_table_offset);
	KUNIT_EXPECT_EQ(test, 0x8182838485868788ULL, h->refcount_table_offset);
	KUNIT_EXPECT_EQ(test, 0x91929394, h->refcount_table_clusters);
	KUNIT_EXPECT_EQ(test, 0xa1a2a3a4, h->nb_snapshots);
	KUNIT_EXPECT_EQ(test, 0xb1b2b3b4b5b6b7b8ULL, h->snapshots_offset);
}

static int codec_parse(const struct qcow2_disk_header *d, size_t len,
		       struct qcow2_header *h, struct qblk_err *err)
{
	return qcow2_header_parse((const u8 *)d, len, h, "node 'img'", err);
}

static void codec_parse_v3(struct kunit *test)
{
	struct qcow2_disk_header d;
	struct qcow2_header h;

	codec_disk_header(&d, 3);
	KUNIT_ASSERT_EQ(test, 0, codec_parse(&d, sizeof(d), &h, NULL));
	KUNIT_EXPECT_EQ(test, 3, h.version);
	codec_expect_common(test, &h);
	KUNIT_EXPECT_EQ(test, 0xc1c2c3c4c5c6c7c8ULL, h.incompatible_features);
	KUNIT_EXPECT_EQ(test, 0xd1d2d3d4d5d6d7d8ULL, h.compatible_features);
	KUNIT_EXPECT_EQ(test, 0xe1e2e3e4e5e6e7e8ULL, h.autoclear_features);
	KUNIT_EXPECT_EQ(test, 6, h.refcount_order);
	KUNIT_EXPECT_EQ(test, 112, h.header_length);
	KUNIT_EXPECT_EQ(test, 1, h.compression_type);
}

/* Version 2 ends before the features, whatever follows there. */
static void codec_parse_v2(struct kunit *test)
{
	struct qcow2_disk_header d;
	struct qcow2_header h;

	codec_disk_header(&d, 2);
	KUNIT_ASSERT_EQ(test, 0, codec_parse(&d, sizeof(d), &h, NULL));
	KUNIT_EXPECT_EQ(test, 2, h.version);
	codec_expect_common(test, &h);
	KUNIT_EXPECT_EQ(test, 0, h.incompatible_features);
	KUNIT_EXPECT_EQ(test, 0, h.compatible_features);
	KUNIT_EXPECT_EQ(test, 0, h.autoclear_features);
	KUNIT_EXPECT_EQ(test, 4, h.refcount_order);
	KUNIT_EXPECT_EQ(test, 72, h.header_length);
	KUNIT_EXPECT_EQ(test, 0, h.compression_type);
}

/* The byte counts only if the header says that it is that long. */
static void codec_parse_compression_type(struct kunit *test)
{
	struct qcow2_disk_header d;
	struct qcow2_header h;

	codec_disk_header(&d, 3);
	d.header_length = cpu_to_be32(104);
	KUNIT_ASSERT_EQ(test, 0, codec_parse(&d, sizeof(d), &h, NULL));
	KUNIT_EXPECT_EQ(test, 0, h.compression_type);
	d.header_length = cpu_to_be32(105);
	KUNIT_ASSERT_EQ(test, 0, codec_parse(&d, sizeof(d), &h, NULL));
	KUNIT_EXPECT_EQ(test, 1, h.compression_type);
}

/* What a short file does not have is zero. */
static void codec_parse_short(struct kunit *test)
{
	struct qcow2_disk_header d;
	struct qcow2_header h;

	codec_disk_header(&d, 2);
	KUNIT_ASSERT_EQ(test, 0, codec_parse(&d, 24, &h, NULL));
	KUNIT_EXPECT_EQ(test, 0x31323334, h.cluster_bits);
	KUNIT_EXPECT_EQ(test, 0, h.size);
	KUNIT_EXPECT_EQ(test, 0, h.l1_size);
	KUNIT_EXPECT_EQ(test, -EINVAL, codec_parse(&d, 3, &h, NULL));
	KUNIT_EXPECT_EQ(test, -EINVAL, codec_parse(&d, 0, &h, NULL));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, codec_parse(&d, 7, &h, NULL));
}

static void codec_parse_bad(struct kunit *test)
{
	static const u32 versions[] = { 0, 1, 4, U32_MAX };
	struct qcow2_disk_header d;
	struct qcow2_header h;
	struct qblk_err err;
	int i;

	for (i = 0; i < ARRAY_SIZE(versions); i++) {
		codec_disk_header(&d, versions[i]);
		err.msg[0] = '\0';
		KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
				codec_parse(&d, sizeof(d), &h, &err));
		KUNIT_EXPECT_NOT_NULL(test, strstr(err.msg, "node 'img'"));
		KUNIT_EXPECT_NOT_NULL(test, strstr(err.msg, "version"));
	}
	codec_disk_header(&d, 3);
	d.magic = cpu_to_be32(QCOW2_MAGIC + 1);
	err.msg[0] = '\0';
	KUNIT_EXPECT_EQ(test, -EINVAL, codec_parse(&d, sizeof(d), &h, &err));
	KUNIT_EXPECT_STREQ(test,
			   "node 'img': image is not in qcow2 format, its magic is 0x514649fc",
			   err.msg);
}

/* Header check: a good one, with some fields changed */

struct codec_set {
	size_t size;
	size_t at;
	u64 value;
};

#define SET8(field, value)	{ 1, offsetof(struct qcow2_header, field), value }
#define SET32(field, value)	{ 4, offsetof(struct qcow2_header, field), value }
#define SET64(field, value)	{ 8, offsetof(struct qcow2_header, field), value }

static const struct codec_check {
	const char *desc;
	int ret;
	struct codec_set set[5];
} codec_checks[] = {
	/* refused: geometry */
	{ "cluster_bits 0", -EINVAL, { SET32(cluster_bits, 0) } },
	{ "cluster_bits 8", -EINVAL, { SET32(cluster_bits, 8) } },
	{ "cluster_bits 22", -EINVAL, { SET32(cluster_bits, 22) } },
	{ "cluster_bits 64", -EINVAL, { SET32(cluster_bits, 64) } },
	{ "cluster_bits largest", -EINVAL, { SET32(cluster_bits, U32_MAX) } },
	{ "refcount_order 7", -EINVAL, { SET32(refcount_order, 7) } },
	{ "refcount_order largest", -EINVAL, { SET32(refcount_order, U32_MAX) } },
	{ "header_length 103", -EINVAL, { SET32(header_length, 103) } },
	{ "header_length of version 2", -EINVAL, { SET32(header_length, 72) } },
	{ "header_length 0", -EINVAL, { SET32(header_length, 0) } },
	{ "header_length above cluster", -EINVAL,
	  { SET32(header_length, 65537) } },
	{ "header_length largest", -EINVAL, { SET32(header_length, U32_MAX) } },
	{ "crypt_method 3", -EINVAL, { SET32(crypt_method, 3) } },
	{ "crypt_method largest", -EINVAL, { SET32(crypt_method, U32_MAX) } },
	/* refused: backing file name */
	{ "backing_file_offset above cluster", -EINVAL,
	  { SET64(backing_file_offset, 65537) } },
	{ "backing_file_offset largest", -EINVAL,
	  { SET64(backing_file_offset, U64_MAX) } },
	/* refused: size */
	{ "size negative", -EFBIG, { SET64(size, 1ULL << 63) } },
	{ "size largest", -EFBIG, { SET64(size, U64_MAX) } },
	{ "size past the last sector", -EFBIG, { SET64(size, S64_MAX) } },
	{ "size needs too many L1 entries", -EFBIG,
	  { SET32(cluster_bits, 9), SET64(size, 1ULL << 62) } },
	/* refused: refcount table */
	{ "refcount_table_clusters 0", -EINVAL,
	  { SET32(refcount_table_clusters, 0) } },
	{ "refcount_table_clusters too many", -EFBIG,
	  { SET32(refcount_table_clusters, 129) } },
	{ "refcount_table_clusters largest", -EFBIG,
	  { SET32(refcount_table_clusters, U32_MAX) } },
	{ "refcount_table_offset 0", -EINVAL,
	  { SET64(refcount_table_offset, 0) } },
	{ "refcount_table_offset unaligned", -EINVAL,
	  { SET64(refcount_table_offset, 65536 + 512) } },
	{ "refcount_table_offset too large", -EINVAL,
	  { SET64(refcount_table_offset, 1ULL << 56) } },
	{ "refcount table ends too far", -EINVAL,
	  { SET64(refcount_table_offset, (1ULL << 56) - 65536),
	    SET32(refcount_table_clusters, 2) } },
	{ "refcount_table_offset overflows", -EINVAL,
	  { SET64(refcount_table_offset, U64_MAX - 65535) } },
	/* refused: snapshot table */
	{ "nb_snapshots too many", -EFBIG, { SET32(nb_snapshots, 65537) } },
	{ "nb_snapshots largest", -EFBIG, { SET32(nb_snapshots, U32_MAX) } },
	{ "snapshots_offset unaligned", -EINVAL,
	  { SET32(nb_snapshots, 1), SET64(snapshots_offset, 4096) } },
	{ "snapshots_offset too large", -EINVAL,
	  { SET32(nb_snapshots, 1), SET64(snapshots_offset, 1ULL << 56) } },
	{ "snapshots_offset overflows", -EINVAL,
	  { SET32(nb_snapshots, 65536),
	    SET64(snapshots_offset, U64_MAX - 65535) } },
	/* refused: L1 table */
	{ "l1_size too small", -EINVAL, { SET32(l1_size, 1) } },
	{ "l1_size 0", -EINVAL, { SET32(l1_size, 0) } },
	{ "l1_size too large", -EFBIG, { SET32(l1_size, (4U << 20) + 1) } },
	{ "l1_size largest", -EFBIG, { SET32(l1_size, U32_MAX) } },
	{ "l1_table_offset 0", -EINVAL, { SET64(l1_table_offset, 0) } },
	{ "l1_table_offset unaligned", -EINVAL,
	  { SET64(l1_table_offset, 3 * 65536 + 8) } },
	{ "l1_table_offset too large", -EINVAL,
	  { SET64(l1_table_offset, 1ULL << 56) } },
	{ "l1_table_offset overflows", -EINVAL,
	  { SET32(l1_size, 4U << 20),
	    SET64(l1_table_offset, U64_MAX - 65535) } },
	/* refused: compression */
	{ "compression_type 2", -EOPNOTSUPP, { SET8(compression_type, 2) } },
	{ "compression_type 2 with its bit", -EOPNOTSUPP,
	  { SET8(compression_type, 2),
	    SET64(incompatible_features, QCOW2_INCOMPAT_COMPRESSION) } },
	{ "zstd without its bit", -EINVAL, { SET8(compression_type, 1) } },
	{ "zlib with the bit", -EINVAL,
	  { SET64(incompatible_features, QCOW2_INCOMPAT_COMPRESSION) } },

	/* accepted */
	{ "as it is", 0, {} },
	{ "version 2", 0, { SET32(version, 2), SET32(header_length, 72) } },
	{ "512 byte clusters", 0,
	  { SET32(cluster_bits, 9), SET32(l1_size, 32768) } },
	{ "512 byte clusters, largest size", 0,
	  { SET32(cluster_bits, 9), SET32(l1_size, 4U << 20),
	    SET64(size, 128ULL << 30), SET32(refcount_table_clusters, 16384) } },
	{ "2 MiB clusters", 0,
	  { SET32(cluster_bits, 21), SET64(l1_table_offset, 3ULL << 21),
	    SET64(refcount_table_offset, 1ULL << 21) } },
	{ "2 MiB clusters, largest size", 0,
	  { SET32(cluster_bits, 21), SET64(l1_table_offset, 3ULL << 21),
	    SET64(refcount_table_offset, 1ULL << 21), SET32(l1_size, 4U << 20),
	    SET64(size, 1ULL << 61) } },
	{ "refcount_order 0", 0, { SET32(refcount_order, 0) } },
	{ "refcount_order 6", 0, { SET32(refcount_order, 6) } },
	{ "shortest header", 0, { SET32(header_length, 104) } },
	{ "header of a whole cluster", 0,
	  { SET32(cluster_bits, 9), SET32(l1_size, 32768),
	    SET32(header_length, 512) } },
	{ "backing name in the header", 0, { SET64(backing_file_offset, 112) } },
	{ "backing name at the end of the cluster", 0,
	  { SET64(backing_file_offset, 65536) } },
	{ "no size", 0, { SET64(size, 0) } },
	{ "no size, no L1 table", 0,
	  { SET64(size, 0), SET32(l1_size, 0), SET64(l1_table_offset, 0) } },
	{ "size of no whole sector", 0, { SET64(size, (1ULL << 30) - 1) } },
	{ "more L1 entries than needed", 0, { SET32(l1_size, 4U << 20) } },
	{ "largest refcount table", 0, { SET32(refcount_table_clusters, 128) } },
	{ "refcount table ends at the limit", 0,
	  { SET64(refcount_table_offset, (1ULL << 56) - 65536) } },
	{ "L1 table ends at the limit", 0,
	  { SET32(l1_size, 8192), SET64(l1_table_offset, (1ULL << 56) - 65536) } },
	{ "most snapshots", 0,
	  { SET32(nb_snapshots, 65536), SET64(snapshots_offset, 65536 * 9) } },
	{ "zstd", 0,
	  { SET8(compression_type, 1),
	    SET64(incompatible_features, QCOW2_INCOMPAT_COMPRESSION) } },
	{ "AES", 0, { SET32(crypt_method, 1) } },
	{ "LUKS", 0, { SET32(crypt_method, 2) } },
};

#undef SET8
#undef SET32
#undef SET64

KUNIT_ARRAY_PARAM_DESC(codec_check, codec_checks, desc);

static void codec_apply(struct qcow2_header *h, const struct codec_set *set)
{
	void *field = (void *)h + set->at;

	if (set->size == 8)
		*(u64 *)field = set->value;
	else if (set->size == 4)
		*(u32 *)field = set->value;
	else if (set->size == 1)
		*(u8 *)field = set->value;
}

static void codec_header_check(struct kunit *test)
{
	const struct codec_check *c = test->param_value;
	struct qcow2_header h = {
		.version = 3,
		.cluster_bits = 16,
		.size = 1ULL << 30,
		.l1_size = 2,
		.l1_table_offset = 3 * 65536,
		.refcount_table_offset = 65536,
		.refcount_table_clusters = 1,
		.refcount_order = 4,
		.header_length = 112,
	};
	struct qblk_err err = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(c->set); i++)
		codec_apply(&h, &c->set[i]);
	KUNIT_EXPECT_EQ_MSG(test, c->ret,
			    qcow2_header_check(&h, "node 'img'", &err), "%s",
			    err.msg);
	if (c->ret)
		KUNIT_EXPECT_EQ_MSG(test, 0,
				    strncmp(err.msg, "node 'img': ", 12), "%s",
				    err.msg);
	else
		KUNIT_EXPECT_EQ(test, (size_t)1 << h.cluster_bits,
				qcow2_header_area(&h));
}

/* Header extensions: in an area of one cluster of 4096 bytes */

#define CODEC_AREA	4096U
#define CODEC_EXTS	112U

struct codec_area {
	struct qcow2_header h;
	struct qcow2_exts x;
	struct qblk_err err;
	u8 buf[CODEC_AREA];
	size_t pos;
};

static struct codec_area *codec_area_alloc(struct kunit *test)
{
	struct codec_area *a = kunit_kzalloc(test, sizeof(*a), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, a);
	a->h.version = 3;
	a->h.cluster_bits = 12;
	a->h.header_length = CODEC_EXTS;
	a->pos = CODEC_EXTS;
	return a;
}

static void codec_ext(struct codec_area *a, u32 magic, const void *data,
		      u32 len)
{
	put_unaligned_be32(magic, a->buf + a->pos);
	put_unaligned_be32(len, a->buf + a->pos + 4);
	memcpy(a->buf + a->pos + 8, data, len);
	a->pos += 8 + round_up(len, 8);
}

static void codec_backing(struct codec_area *a, u64 offset, const char *name,
			  u32 len)
{
	a->h.backing_file_offset = offset;
	a->h.backing_file_size = len;
	memcpy(a->buf + offset, name, len);
}

static int codec_exts_parse(struct codec_area *a)
{
	a->err.msg[0] = '\0';
	return qcow2_exts_parse(&a->h, a->buf, sizeof(a->buf), &a->x,
				"node 'img'", &a->err);
}

static void codec_expect_refused(struct kunit *test, struct codec_area *a,
				 const char *what)
{
	KUNIT_EXPECT_EQ(test, -EINVAL, codec_exts_parse(a));
	KUNIT_EXPECT_EQ(test, 0, strncmp(a->err.msg, "node 'img': ", 12));
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(a->err.msg, what), "%s",
				  a->err.msg);
}

/* Not looked at without the autoclear bit */
static const u8 codec_no_bitmaps[24];

static void codec_exts_none(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
	KUNIT_EXPECT_STREQ(test, "", a->x.backing_format);
	KUNIT_EXPECT_STREQ(test, "", a->x.backing_file);
	KUNIT_EXPECT_FALSE(test, a->x.has_bitmaps);
	KUNIT_EXPECT_STREQ(test, "", a->x.data_file);
}

static void codec_exts_all(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	codec_ext(a, 0x12345678, "unknown", 7);
	codec_ext(a, QCOW2_EXT_BACKING_FORMAT, "qcow2", 5);
	codec_ext(a, QCOW2_EXT_BITMAPS, codec_no_bitmaps, 24);
	codec_ext(a, QCOW2_EXT_DATA_FILE, "data.raw", 8);
	codec_ext(a, QCOW2_EXT_END, "", 0);
	codec_backing(a, a->pos, "base.qcow2", 10);
	KUNIT_ASSERT_EQ_MSG(test, 0, codec_exts_parse(a), "%s", a->err.msg);
	KUNIT_EXPECT_STREQ(test, "qcow2", a->x.backing_format);
	KUNIT_EXPECT_STREQ(test, "base.qcow2", a->x.backing_file);
	KUNIT_EXPECT_TRUE(test, a->x.has_bitmaps);
	KUNIT_EXPECT_STREQ(test, "data.raw", a->x.data_file);
}

static void codec_exts_end(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	codec_ext(a, QCOW2_EXT_END, "", 0);
	codec_ext(a, QCOW2_EXT_BITMAPS, codec_no_bitmaps, 24);
	KUNIT_ASSERT_EQ(test, 0, codec_exts_parse(a));
	KUNIT_EXPECT_FALSE(test, a->x.has_bitmaps);
}

/* The name of the backing file ends the extensions also without an END. */
static void codec_exts_end_at_backing(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	codec_ext(a, QCOW2_EXT_BITMAPS, codec_no_bitmaps, 24);
	codec_backing(a, a->pos, "\xe2\x79\x2a\xca\xff\xff", 6);
	KUNIT_ASSERT_EQ_MSG(test, 0, codec_exts_parse(a), "%s", a->err.msg);
	KUNIT_EXPECT_TRUE(test, a->x.has_bitmaps);
	KUNIT_EXPECT_STREQ(test, "", a->x.backing_format);
}

static void codec_exts_backing_format(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	codec_ext(a, QCOW2_EXT_BACKING_FORMAT, "123456789012345", 15);
	KUNIT_ASSERT_EQ(test, 0, codec_exts_parse(a));
	KUNIT_EXPECT_STREQ(test, "123456789012345", a->x.backing_format);

	a->pos = CODEC_EXTS;
	codec_ext(a, QCOW2_EXT_BACKING_FORMAT, "1234567890123456", 16);
	codec_expect_refused(test, a, "16");
}

/* 4096 bytes at cluster 16, of three bitmaps */
static void codec_bitmaps(struct codec_area *a)
{
	u8 data[24] = {};

	put_unaligned_be32(3, data);
	put_unaligned_be64(4096, data + 8);
	put_unaligned_be64(16 * 4096, data + 16);
	a->pos = CODEC_EXTS;
	codec_ext(a, QCOW2_EXT_BITMAPS, data, sizeof(data));
	a->h.autoclear_features = QCOW2_AUTOCLEAR_BITMAPS;
}

static void codec_exts_bitmaps(struct kunit *test)
{
	static const struct {
		u32 at;
		u64 value;
		const char *what;
	} bad[] = {
		{ 0, 0, "nb_bitmaps 0" },
		{ 0, 65536ULL << 32, "nb_bitmaps 65536" },
		{ 0, 3ULL << 32 | 7, "reserved field 7" },
		{ 8, 0, "bitmap_directory_size 0" },
		{ 8, 1024ULL * 65535 + 1, "bitmap_directory_size 67107841" },
		{ 16, 16 * 4096 + 8, "bitmap_directory_offset 0x10008" },
	};
	struct codec_area *a = codec_area_alloc(test);
	u32 len;
	int i;

	codec_bitmaps(a);
	KUNIT_EXPECT_EQ_MSG(test, 0, codec_exts_parse(a), "%s", a->err.msg);
	put_unaligned_be64(65535ULL << 32, a->buf + CODEC_EXTS + 8);
	put_unaligned_be64(1024ULL * 65535, a->buf + CODEC_EXTS + 16);
	KUNIT_EXPECT_EQ_MSG(test, 0, codec_exts_parse(a), "%s", a->err.msg);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		codec_bitmaps(a);
		put_unaligned_be64(bad[i].value,
				   a->buf + CODEC_EXTS + 8 + bad[i].at);
		codec_expect_refused(test, a, bad[i].what);
		/* Stale bitmaps do no harm. */
		a->h.autoclear_features = 0;
		KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
	}
	for (len = 16; len <= 32; len += 16) {
		codec_bitmaps(a);
		put_unaligned_be32(len, a->buf + CODEC_EXTS + 4);
		codec_expect_refused(test, a, "bitmaps extension");
		a->h.autoclear_features = 0;
		codec_expect_refused(test, a, "bitmaps extension");
	}
}

static void codec_exts_crypto(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	codec_ext(a, QCOW2_EXT_CRYPTO, codec_no_bitmaps, 16);
	codec_expect_refused(test, a, "encryption method 0");
	a->h.crypt_method = QCOW2_CRYPT_AES;
	codec_expect_refused(test, a, "encryption method 1");
	a->h.crypt_method = QCOW2_CRYPT_LUKS;
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
}

/* Longer than what is left: of the cluster, and before the backing name */
static void codec_exts_overrun(struct kunit *test)
{
	static const u32 lens[] = {
		CODEC_AREA - CODEC_EXTS - 7, S32_MAX, U32_MAX - 7, U32_MAX,
	};
	struct codec_area *a = codec_area_alloc(test);
	int i;

	put_unaligned_be32(0x12345678, a->buf + CODEC_EXTS);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		put_unaligned_be32(lens[i], a->buf + CODEC_EXTS + 4);
		codec_expect_refused(test, a, "0x12345678");
	}
	put_unaligned_be32(CODEC_AREA - CODEC_EXTS - 8,
			   a->buf + CODEC_EXTS + 4);
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));

	put_unaligned_be32(16, a->buf + CODEC_EXTS + 4);
	codec_backing(a, CODEC_EXTS + 16, "base", 4);
	codec_expect_refused(test, a, "0x12345678");
}

/* Less than the head of an extension is left. */
static void codec_exts_no_room(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);

	a->h.header_length = CODEC_AREA - 4;
	codec_expect_refused(test, a, "at 4092 too large: 4 bytes");
	a->h.header_length = CODEC_AREA - 8;
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
	a->h.header_length = CODEC_AREA;
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
	/* The end has a length, which nothing else looks at. */
	a->h.header_length = CODEC_AREA - 16;
	put_unaligned_be32(8, a->buf + CODEC_AREA - 12);
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
	put_unaligned_be32(9, a->buf + CODEC_AREA - 12);
	codec_expect_refused(test, a, "0x00000000 too large: 9 bytes");
}

static void codec_exts_backing_name(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);
	char *name = kunit_kzalloc(test, 2048, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, name);
	memset(name, 'n', 2047);
	codec_backing(a, 1024, name, 1023);
	KUNIT_ASSERT_EQ(test, 0, codec_exts_parse(a));
	KUNIT_EXPECT_EQ(test, 1023, strlen(a->x.backing_file));

	codec_backing(a, 1024, name, 1024);
	codec_expect_refused(test, a, "1024");
	a->h.backing_file_size = U32_MAX;
	codec_expect_refused(test, a, "too long");

	/* ends with the cluster, and one byte past it */
	codec_backing(a, CODEC_AREA - 100, name, 100);
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
	a->h.backing_file_size = 101;
	codec_expect_refused(test, a, "101");

	codec_backing(a, 1024, "ba\0se", 5);
	codec_expect_refused(test, a, "NUL");
	codec_backing(a, 1024, "base\0", 5);
	codec_expect_refused(test, a, "NUL");

	/* at the end of the cluster there is room for an empty name */
	a->h.backing_file_offset = CODEC_AREA;
	a->h.backing_file_size = 0;
	KUNIT_EXPECT_EQ(test, 0, codec_exts_parse(a));
}

/* A file shorter than its first cluster */
static void codec_exts_short_file(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);
	u8 *buf = kunit_kzalloc(test, CODEC_EXTS + 12, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	codec_ext(a, QCOW2_EXT_BACKING_FORMAT, "qcow2", 5);
	memcpy(buf, a->buf, CODEC_EXTS + 12);
	KUNIT_EXPECT_EQ(test, -EINVAL,
			qcow2_exts_parse(&a->h, buf, CODEC_EXTS + 12, &a->x,
					 "node 'img'", &a->err));
	KUNIT_EXPECT_EQ(test, 0,
			qcow2_exts_parse(&a->h, buf, CODEC_EXTS, &a->x,
					 "node 'img'", NULL));
	a->h.backing_file_offset = CODEC_EXTS;
	a->h.backing_file_size = 13;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			qcow2_exts_parse(&a->h, buf, CODEC_EXTS + 12, &a->x,
					 "node 'img'", NULL));
}

/* Feature names */

static void codec_feature(struct qcow2_disk_feature *f, u8 type, u8 bit,
			  const char *name)
{
	f->type = type;
	f->bit = bit;
	strscpy_pad(f->name, name, sizeof(f->name));
}

static struct codec_area *codec_features_alloc(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);
	struct qcow2_disk_feature f[6];

	codec_feature(&f[0], 0, 40, "forty");
	codec_feature(&f[1], 1, 41, "compatible");
	codec_feature(&f[2], 0, 200, "out of range");
	codec_feature(&f[3], 0, 63, "last");
	/* a name that fills its field */
	codec_feature(&f[4], 0, 42, "");
	memset(f[4].name, 'x', sizeof(f[4].name));
	codec_feature(&f[5], 0, 43, "");
	codec_ext(a, 0x12345678, "unknown", 7);
	codec_ext(a, QCOW2_EXT_FEATURE_TABLE, f, sizeof(f));
	return a;
}

static void codec_expect_features(struct kunit *test, u64 unknown,
				  const char *text)
{
	struct codec_area *a = codec_features_alloc(test);
	char out[128];

	qcow2_feature_names(&a->h, a->buf, sizeof(a->buf), unknown, out,
			    sizeof(out));
	KUNIT_EXPECT_STREQ(test, text, out);
}

static void codec_feature_names(struct kunit *test)
{
	codec_expect_features(test, BIT_ULL(40), "forty");
	codec_expect_features(test, BIT_ULL(40) | BIT_ULL(63), "forty, last");
	codec_expect_features(test, BIT_ULL(41),
			      "unknown incompatible feature: 20000000000");
	codec_expect_features(test, BIT_ULL(40) | BIT_ULL(5),
			      "forty, unknown incompatible feature: 20");
	codec_expect_features(test, BIT_ULL(42),
			      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	codec_expect_features(test, BIT_ULL(43),
			      "unknown incompatible feature: 80000000000");
	codec_expect_features(test, 0, "");
}

/* The text is cut where the buffer ends. */
static void codec_feature_names_cut(struct kunit *test)
{
	struct codec_area *a = codec_features_alloc(test);
	char out[9];
	size_t size;

	for (size = 1; size <= sizeof(out); size++) {
		memset(out, '#', sizeof(out));
		qcow2_feature_names(&a->h, a->buf, sizeof(a->buf), U64_MAX,
				    out, size);
		KUNIT_EXPECT_EQ(test, size - 1, strnlen(out, sizeof(out)));
		KUNIT_EXPECT_EQ(test, 0, strncmp(out, "forty, last", size - 1));
	}
}

/* A table that is no whole number of rows, or longer than the area */
static void codec_feature_names_broken(struct kunit *test)
{
	struct codec_area *a = codec_area_alloc(test);
	struct qcow2_disk_feature f;
	char out[64];

	codec_feature(&f, 0, 40, "forty");
	codec_ext(a, QCOW2_EXT_FEATURE_TABLE, &f, sizeof(f) - 1);
	qcow2_feature_names(&a->h, a->buf, sizeof(a->buf), BIT_ULL(40), out,
			    sizeof(out));
	KUNIT_EXPECT_STREQ(test, "unknown incompatible feature: 10000000000",
			   out);

	put_unaligned_be32(U32_MAX, a->buf + CODEC_EXTS + 4);
	qcow2_feature_names(&a->h, a->buf, sizeof(a->buf), BIT_ULL(40), out,
			    sizeof(out));
	KUNIT_EXPECT_STREQ(test, "unknown incompatible feature: 10000000000",
			   out);
}

static struct kunit_case codec_kunit_cases[] = {
	KUNIT_CASE_PARAM(codec_refcount_each, codec_order_gen_params),
	KUNIT_CASE_PARAM(codec_refcount_random, codec_order_gen_params),
	KUNIT_CASE(codec_refcount_layout),
	KUNIT_CASE(codec_compressed),
	KUNIT_CASE(codec_compressed_64k),
	KUNIT_CASE(codec_l1_entries),
	KUNIT_CASE(codec_parse_v3),
	KUNIT_CASE(codec_parse_v2),
	KUNIT_CASE(codec_parse_compression_type),
	KUNIT_CASE(codec_parse_short),
	KUNIT_CASE(codec_parse_bad),
	KUNIT_CASE_PARAM(codec_header_check, codec_check_gen_params),
	KUNIT_CASE(codec_exts_none),
	KUNIT_CASE(codec_exts_all),
	KUNIT_CASE(codec_exts_end),
	KUNIT_CASE(codec_exts_end_at_backing),
	KUNIT_CASE(codec_exts_backing_format),
	KUNIT_CASE(codec_exts_bitmaps),
	KUNIT_CASE(codec_exts_crypto),
	KUNIT_CASE(codec_exts_overrun),
	KUNIT_CASE(codec_exts_no_room),
	KUNIT_CASE(codec_exts_backing_name),
	KUNIT_CASE(codec_exts_short_file),
	KUNIT_CASE(codec_feature_names),
	KUNIT_CASE(codec_feature_names_cut),
	KUNIT_CASE(codec_feature_names_broken),
	{}
};

static struct kunit_suite codec_kunit_suite = {
	.name = "qblk_qcow2_codec",
	.test_cases = codec_kunit_cases,
};

kunit_test_suite(codec_kunit_suite);
