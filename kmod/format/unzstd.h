/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zstandard data that lies in memory as a whole.
 */
#ifndef _QBLK_UNZSTD_H
#define _QBLK_UNZSTD_H

#include <linux/bits.h>
#include <linux/types.h>

/* Most bits that a state of each table has: RFC 8878, 3.1.1.3.2.1 and 4.2.1.2 */
#define QBLK_UNZSTD_LITLEN_LOG	9
#define QBLK_UNZSTD_OFFSET_LOG	8
#define QBLK_UNZSTD_MATCH_LOG	9
#define QBLK_UNZSTD_WEIGHT_LOG	6

/* ... and of tables that come without a description */
#define QBLK_UNZSTD_FIXED_LOG	6

/* Bits of the longest code of a literal, 4.2.1 */
#define QBLK_UNZSTD_HUF_LOG	11

/* Most that a block makes, 3.1.1.2.4, and most of it that can be literals */
#define QBLK_UNZSTD_BLOCK	(128 << 10)

/* Beyond the literals that copying eight bytes at once reads */
#define QBLK_UNZSTD_SLACK	8

/*
 * Tables of a block: of literals' lengths, of offsets, of matches' lengths.  Their
 * states are numbered together: for the compiler, they lie in one array.
 */
enum {
	QBLK_UNZSTD_LITLEN,
	QBLK_UNZSTD_OFFSET,
	QBLK_UNZSTD_MATCH,
	QBLK_UNZSTD_TABLES
};

#define QBLK_UNZSTD_STATES	BIT(QBLK_UNZSTD_LITLEN_LOG)

/**
 * struct qblk_unzstd_entry - entry of such a table, for one state
 * @code: in its bytes, from the lowest on: bits of the next state; these and the
 *	extra bits of the symbol together; two bytes that are added to the former
 * @symbol: what it means: base, and from bit 24 on the number of extra bits; of
 *	offsets as many ones as there are extra bits, the base being one more
 */
struct qblk_unzstd_entry {
	u32 code;
	u32 symbol;
};

/**
 * struct qblk_unzstd_symbol - a symbol while a table is made
 * @entry: of its next state
 * @step: what is added to that entry's code for the one after it
 * @first: how many states there are until something else is the next: @others
 * @others: code of the first of the rest
 */
struct qblk_unzstd_symbol {
	struct qblk_unzstd_entry entry;
	u32 step;
	u32 first;
	u32 others;
};

/**
 * struct qblk_unzstd - what qblk_unzstd() needs memory for
 * @fse: tables of a block
 * @fixed: those that a block need not describe
 * @weights: table for the weights of literals
 * @weight: of each literal
 * @huf: literals by what the input begins with
 * @symbol: of the table that is made
 * @norm: how likely each symbol is
 * @symbols: of each state
 * @literals: of a block
 *
 * Need not be initialized, and holds nothing from one call to the next.
 */
struct qblk_unzstd {
	struct qblk_unzstd_entry fse[QBLK_UNZSTD_TABLES * QBLK_UNZSTD_STATES];
	struct qblk_unzstd_entry
		fixed[QBLK_UNZSTD_TABLES][1 << QBLK_UNZSTD_FIXED_LOG];
	struct qblk_unzstd_entry weights[1 << QBLK_UNZSTD_WEIGHT_LOG];
	u8 weight[256];
	u16 huf[1 << QBLK_UNZSTD_HUF_LOG];
	struct qblk_unzstd_symbol symbol[64];
	s16 norm[64];
	u8 symbols[1 << QBLK_UNZSTD_LITLEN_LOG];
	u8 literals[QBLK_UNZSTD_BLOCK + QBLK_UNZSTD_SLACK];
};

int qblk_unzstd(struct qblk_unzstd *z, u8 *dst, size_t size, size_t need,
		const u8 *src, size_t src_len);

#endif /* _QBLK_UNZSTD_H */
