// SPDX-License-Identifier: GPL-2.0
/*
 * Entries of L2 tables and refcount blocks: pure functions of bytes, without
 * I/O, locks or allocation.
 */
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/math64.h>

#include "codec.h"

/**
 * qcow2_refcount_max - largest refcount of a width
 * @order: log2 of the bits
 */
u64 qcow2_refcount_max(u32 order)
{
	return order == 6 ? U64_MAX : (1ULL << (1U << order)) - 1;
}

/**
 * qcow2_refcount_get - read an entry of a refcount block
 * @block: the block, or a slice of it
 * @order: log2 of the bits of an entry
 * @index: entry
 */
u64 qcow2_refcount_get(const void *block, u32 order, u32 index)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		u32 bits = 1U << order;
		u32 per_byte = 8U >> order;
		u8 byte = ((const u8 *)block)[index / per_byte];

		return (byte >> (index % per_byte * bits)) & ((1U << bits) - 1);
	}
	case 3:
		return ((const u8 *)block)[index];
	case 4:
		return be16_to_cpu(((const __be16 *)block)[index]);
	case 5:
		return be32_to_cpu(((const __be32 *)block)[index]);
	default:
		return be64_to_cpu(((const __be64 *)block)[index]);
	}
}

/**
 * qcow2_refcount_set - change an entry of a refcount block
 * @block: the block, or a slice of it
 * @order: log2 of the bits of an entry
 * @index: entry
 * @value: at most qcow2_refcount_max()
 */
void qcow2_refcount_set(void *block, u32 order, u32 index, u64 value)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		u32 bits = 1U << order;
		u32 per_byte = 8U >> order;
		u8 *byte = (u8 *)block + index / per_byte;
		u32 shift = index % per_byte * bits;
		u8 mask = ((1U << bits) - 1) << shift;

		*byte = (*byte & ~mask) | ((value << shift) & mask);
		break;
	}
	case 3:
		((u8 *)block)[index] = value;
		break;
	case 4:
		((__be16 *)block)[index] = cpu_to_be16(value);
		break;
	case 5:
		((__be32 *)block)[index] = cpu_to_be32(value);
		break;
	default:
		((__be64 *)block)[index] = cpu_to_be64(value);
		break;
	}
}
