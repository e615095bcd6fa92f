/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Raw deflate data that lies in memory as a whole.
 */
#ifndef _QBLK_INFLATE_H
#define _QBLK_INFLATE_H

#include <linux/types.h>

/* Bits that the first table of a code is looked up with, at most */
#define QBLK_INFLATE_LITLEN_BITS	11
#define QBLK_INFLATE_DIST_BITS		8
#define QBLK_INFLATE_PRECODE_BITS	7

/* Symbols of literals and lengths, and of distances, that can have a code */
#define QBLK_INFLATE_LITLENS		288
#define QBLK_INFLATE_DISTS		32

/* Longest codes of these in blocks that come without codes of their own */
#define QBLK_INFLATE_FIXED_LITLEN_BITS	9
#define QBLK_INFLATE_FIXED_DIST_BITS	5

/**
 * struct qblk_inflate - what qblk_inflate() needs memory for
 * @litlen: literals and lengths: the first table, and those that codes longer
 *	than it go on in.  A complete code of 288 symbols of 15 bits at most
 *	takes 2,342 entries, as zlib's examples/enough.c counts them.
 * @dist: distances; a complete code of 32 symbols takes 402 entries
 * @fixed_litlen: the same for blocks that come without codes of their own
 * @fixed_dist: likewise
 * @precode: the code that the lengths of the others are coded in
 * @lens: bits of each symbol's code, 0 for none
 * @sorted: symbols by the length of their codes
 *
 * Need not be initialized, and holds nothing from one call to the next.
 */
struct qblk_inflate {
	u32 litlen[2342];
	u32 dist[402];
	u32 fixed_litlen[1 << QBLK_INFLATE_FIXED_LITLEN_BITS];
	u32 fixed_dist[1 << QBLK_INFLATE_FIXED_DIST_BITS];
	u32 precode[1 << QBLK_INFLATE_PRECODE_BITS];
	u8 lens[QBLK_INFLATE_LITLENS + QBLK_INFLATE_DISTS];
	u16 sorted[QBLK_INFLATE_LITLENS];
};

int qblk_inflate(struct qblk_inflate *z, u8 *dst, size_t dst_len, const u8 *src,
		 size_t src_len);

#endif /* _QBLK_INFLATE_H */
