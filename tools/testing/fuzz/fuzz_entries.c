// SPDX-License-Identifier: GPL-2.0
/*
 * Entries of L2 tables and refcount blocks.  The first bytes choose the
 * cluster size, the width of a refcount and an index, the others are a table.
 */
#include "fuzz.h"

#include "../../../kmod/format/qcow2/codec.h"

#define TABLE_BYTES	4096U

static void subclusters(const struct qcow2_l2e *e)
{
	u32 sc, i, run;

	for (sc = 0; sc < 32; sc += run) {
		enum qcow2_sc_kind kind = qcow2_sc_kind(e, sc);

		run = qcow2_sc_run(e, sc);
		EXPECT(run >= 1 && run <= 32 - sc);
		for (i = sc; i < sc + run; i++)
			EXPECT(qcow2_sc_kind(e, i) == kind);
		EXPECT(sc + run == 32 || qcow2_sc_kind(e, sc + run) != kind);
		EXPECT(hweight32(qcow2_sc_mask(sc, sc + run - 1)) == run);
	}
}

static void entry(u32 version, u64 features, u32 cluster_bits, u64 word,
		  u64 bitmap)
{
	struct qcow2_l2e e = qcow2_l2e_decode(features, word, bitmap);
	bool extended = features & QCOW2_INCOMPAT_EXTL2;
	bool packed = word & QCOW2_OFLAG_COMPRESSED;
	u64 again;

	/* In a compressed cluster nothing is a flag. */
	EXPECT(qcow2_l2e_encode(features, &e, &again) == word);
	EXPECT(again == (extended ? bitmap : 0));
	EXPECT(!(qcow2_l2e_has_host(features, &e) && packed));
	subclusters(&e);
	if (qcow2_l2e_error(version, features, cluster_bits, 0, &e) ||
	    packed)
		return;
	EXPECT(!(e.alloc & e.zero));
	EXPECT(!e.alloc || qcow2_l2e_has_host(features, &e));
	EXPECT(!(e.entry & QCOW2_L2E_OFFSET_MASK &
		 (BIT_ULL(cluster_bits) - 1)));
	EXPECT(version > 2 || !e.zero);
}

static void compressed(u64 entry, u32 cluster_bits)
{
	u64 offset;
	u32 bytes;

	qcow2_compressed_extent(entry, cluster_bits, &offset, &bytes);
	EXPECT(offset < 1ULL << (62 - (cluster_bits - 8)));
	EXPECT(bytes >= 1);
	EXPECT(bytes <= (1U << (cluster_bits + 1)));
	EXPECT(!((offset + bytes) & (QCOW2_COMPRESSED_SECTOR - 1)));
}

static void refcounts(u8 *block, u32 order, u32 index, u64 value)
{
	u8 before[TABLE_BYTES];
	u32 bits = 1U << order, nr = TABLE_BYTES * 8 / bits, other;
	u64 old;

	memcpy(before, block, sizeof(before));
	index %= nr;
	other = (index + 1) % nr;
	old = qcow2_refcount_get(block, order, other);
	value &= qcow2_refcount_max(order);
	EXPECT(qcow2_refcount_get(block, order, index) <=
	       qcow2_refcount_max(order));
	qcow2_refcount_set(block, order, index, value);
	EXPECT(qcow2_refcount_get(block, order, index) == value);
	EXPECT(qcow2_refcount_get(block, order, other) == old);
	/* Nothing changed but that one. */
	qcow2_refcount_set(block, order, index,
			   qcow2_refcount_get(before, order, index));
	EXPECT(!memcmp(before, block, sizeof(before)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	u64 table[TABLE_BYTES / 8] = {};
	u32 cluster_bits, order, index, i;
	u64 features;

	if (size < 16)
		return 0;
	cluster_bits = QCOW2_MIN_CLUSTER_BITS +
		       data[0] % (QCOW2_MAX_CLUSTER_BITS -
				  QCOW2_MIN_CLUSTER_BITS + 1);
	order = data[1] % (QCOW2_MAX_REFCOUNT_ORDER + 1);
	index = get_unaligned_be32(data + 4);
	memcpy(table, data + 8, min_t(size_t, size - 8, sizeof(table)));
	features = (data[2] & 1 ? QCOW2_INCOMPAT_EXTL2 : 0) |
		   (data[2] & 2 ? QCOW2_INCOMPAT_DATA_FILE : 0);
	for (i = 0; i + 1 < ARRAY_SIZE(table) && 8 * i < size; i += 2)
		entry(2 + data[3] % 2, features, cluster_bits,
		      be64_to_cpu(table[i]), be64_to_cpu(table[i + 1]));
	compressed(table[0], cluster_bits);
	refcounts((u8 *)table, order, index, table[1]);
	return 0;
}
