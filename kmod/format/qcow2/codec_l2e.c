// SPDX-License-Identifier: GPL-2.0
/*
 * L2 entries: pure functions of numbers, without I/O, locks or allocation.
 *
 * Images with extended L2 entries say for each of the 32 subclusters of a
 * cluster whether it is allocated or zero; the others say it for the cluster as
 * a whole.  In memory an entry always has the two bitmaps, with all bits alike
 * in images without subclusters, so one set of rules does for both.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>

#include "codec.h"

/**
 * qcow2_l2e_decode - bring an L2 entry into its form in memory
 * @features: incompatible features of the image
 * @entry: host byte order
 * @bitmap: second half of an extended entry, else ignored
 */
struct qcow2_l2e qcow2_l2e_decode(u64 features, u64 entry, u64 bitmap)
{
	struct qcow2_l2e e = { .entry = entry };

	if (features & QCOW2_INCOMPAT_EXTL2) {
		e.alloc = lower_32_bits(bitmap);
		e.zero = upper_32_bits(bitmap);
		return e;
	}
	if (entry & QCOW2_OFLAG_COMPRESSED)
		return e;
	if (entry & QCOW2_OFLAG_ZERO) {
		e.entry &= ~QCOW2_OFLAG_ZERO;
		e.zero = QCOW2_SC_ALL;
	} else if (qcow2_l2e_has_host(features, &e)) {
		e.alloc = QCOW2_SC_ALL;
	}
	return e;
}

/**
 * qcow2_l2e_encode - what to write for an entry; undoes qcow2_l2e_decode()
 * @features: incompatible features of the image
 * @e: entry
 * @bitmap: gets the second half of an extended entry, else 0
 *
 * Return: the first half.
 */
u64 qcow2_l2e_encode(u64 features, const struct qcow2_l2e *e, u64 *bitmap)
{
	*bitmap = 0;
	if (features & QCOW2_INCOMPAT_EXTL2) {
		*bitmap = (u64)e->zero << 32 | e->alloc;
		return e->entry;
	}
	return e->entry | (e->zero ? QCOW2_OFLAG_ZERO : 0);
}

/**
 * qcow2_l2e_has_host - is there a host cluster of its own for this one?
 * @features: incompatible features of the image
 * @e: entry
 *
 * The first cluster of a data file is at offset 0; there the flag tells.
 */
bool qcow2_l2e_has_host(u64 features, const struct qcow2_l2e *e)
{
	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return false;
	return e->entry & QCOW2_L2E_OFFSET_MASK ||
	       (features & QCOW2_INCOMPAT_DATA_FILE &&
		e->entry & QCOW2_OFLAG_COPIED);
}

/**
 * qcow2_sc_kind - what an entry says of a subcluster
 * @e: entry
 * @sc: subcluster, 0 to 31
 */
enum qcow2_sc_kind qcow2_sc_kind(const struct qcow2_l2e *e, u32 sc)
{
	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return QCOW2_SC_COMPRESSED;
	if (e->zero & BIT(sc))
		return QCOW2_SC_ZERO;
	if (e->alloc & BIT(sc))
		return QCOW2_SC_NORMAL;
	return QCOW2_SC_UNALLOCATED;
}

/**
 * qcow2_sc_run - how many subclusters of a cluster are of the same kind
 * @e: entry
 * @sc: the first of them, 0 to 31
 */
u32 qcow2_sc_run(const struct qcow2_l2e *e, u32 sc)
{
	u32 same = 0;

	switch (qcow2_sc_kind(e, sc)) {
	case QCOW2_SC_COMPRESSED:
		same = QCOW2_SC_ALL;
		break;
	case QCOW2_SC_ZERO:
		same = e->zero;
		break;
	case QCOW2_SC_NORMAL:
		same = e->alloc & ~e->zero;
		break;
	case QCOW2_SC_UNALLOCATED:
		same = ~(e->alloc | e->zero);
		break;
	}
	/* Zeroes come in from the left, so the bit after the last is clear. */
	return __ffs64(~((u64)same >> sc));
}

/**
 * qcow2_sc_mask - bits of the subclusters that a part of a cluster touches
 * @from: subcluster the part starts in, 0 to 31
 * @last: the one it ends in, at least @from
 */
u32 qcow2_sc_mask(u32 from, u32 last)
{
	return GENMASK(last, from);
}

/**
 * qcow2_l2e_error - what is wrong with an entry?
 * @version: of the image
 * @features: incompatible features of the image
 * @cluster_bits: log2 of the cluster size
 * @guest: offset of the cluster that the entry is for
 * @e: entry
 *
 * Return: %QCOW2_L2E_GOOD if nothing is.
 */
enum qcow2_l2e_error qcow2_l2e_error(u32 version, u64 features,
				     u32 cluster_bits, u64 guest,
				     const struct qcow2_l2e *e)
{
	u64 host = e->entry & QCOW2_L2E_OFFSET_MASK;
	bool data_file = features & QCOW2_INCOMPAT_DATA_FILE;

	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return data_file ? QCOW2_L2E_COMPRESSED_DATA_FILE :
				   QCOW2_L2E_GOOD;
	if (e->zero && version < 3)
		return QCOW2_L2E_ZERO_V2;
	if (e->alloc & e->zero ||
	    (e->alloc && !qcow2_l2e_has_host(features, e)))
		return QCOW2_L2E_BITMAP;
	if (host & (BIT_ULL(cluster_bits) - 1))
		return QCOW2_L2E_UNALIGNED;
	if (data_file && qcow2_l2e_has_host(features, e) && host != guest)
		return QCOW2_L2E_NOT_GUEST;
	return QCOW2_L2E_GOOD;
}

/**
 * qcow2_compressed_extent - where a compressed cluster is
 * @entry: L2 entry
 * @cluster_bits: log2 of the cluster size
 * @offset: host offset, any byte
 * @bytes: upper bound of the length: to the end of its last 512-byte sector
 */
void qcow2_compressed_extent(u64 entry, u32 cluster_bits, u64 *offset,
			     u32 *bytes)
{
	u32 shift = 62 - (cluster_bits - 8);
	u64 sectors = (entry >> shift) & ((1ULL << (cluster_bits - 8)) - 1);

	*offset = entry & ((1ULL << shift) - 1);
	*bytes = (sectors + 1) * QCOW2_COMPRESSED_SECTOR -
		 (*offset & (QCOW2_COMPRESSED_SECTOR - 1));
}
