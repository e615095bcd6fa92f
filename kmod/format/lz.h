/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What decoders of Lempel and Ziv's kind have in common.
 */
#ifndef _QBLK_LZ_H
#define _QBLK_LZ_H

#include <linux/compiler.h>
#include <linux/string.h>
#include <linux/types.h>

/* Bytes beyond its end that a copy may write */
#define QBLK_LZ_SLACK	7

/**
 * qblk_lz_literals - copy what is somewhere else
 * @out: where to
 * @from: where from; it may be before @out, but by eight bytes at least
 * @len: bytes
 *
 * Up to QBLK_LZ_SLACK bytes beyond the end are read and written, eight if there
 * are none to be copied.  Mostly there are few.
 */
static __always_inline void qblk_lz_literals(u8 *out, const u8 *from,
					     size_t len)
{
	size_t i;

	put_unaligned(get_unaligned((const u64 *)from), (u64 *)out);
	if (likely(len <= 8))
		return;
	for (i = 8; i < len; i += 8)
		put_unaligned(get_unaligned((const u64 *)(from + i)),
			      (u64 *)(out + i));
}

/**
 * qblk_lz_copy - repeat what was output before
 * @out: where
 * @dist: how far back it is, at least 1 and no further than the output goes
 * @len: bytes, at least 1; more than @dist when it repeats what it makes itself
 *
 * Up to QBLK_LZ_SLACK bytes beyond the end are written.
 */
static __always_inline void qblk_lz_copy(u8 *out, size_t dist, size_t len)
{
	const u8 *from = out - dist;
	u8 *end = out + len;

	if (likely(dist >= 8)) {
		qblk_lz_literals(out, from, len);
		return;
	}
	if (dist == 1) {
		memset(out, *from, len);
		return;
	}
	do {
		*out++ = *from++;
	} while (out < end);
}

#endif /* _QBLK_LZ_H */
