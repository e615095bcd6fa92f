/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the files of the Zstandard decoder: unzstd.c has frames and blocks,
 * unzstd_huf.c literals, unzstd_fse.c tables of sequences, unzstd_seq.c what is
 * done with them.  Numbers in comments are of sections of RFC 8878.
 */
#ifndef _QBLK_UNZSTD_INT_H
#define _QBLK_UNZSTD_INT_H

#include <linux/bitops.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/kernel.h>

#include "unzstd.h"

/**
 * struct unzstd_bits - bits that are read from the last one on
 * @base: first byte; the eight before it belong to the input, too
 * @left: bits that were not read yet; negative when more than there are were
 */
struct unzstd_bits {
	const u8 *base;
	s32 left;
};

/*
 * What comes next, from the highest bit on: 57 bits at least, those beyond the
 * beginning being anything.  No more than that were read yet.
 *
 * Eight bytes before the place that was read to are looked at.  No stream of
 * bits has fewer before it: there is the header of the frame, six bytes, and
 * that of a block, three.
 */
static __always_inline u64 unzstd_peek(const u8 *base, s32 left)
{
	return get_unaligned_le64(base + ((u32)left + 7) / 8 - 8) <<
	       (-left & 7);
}

/* A number of @nr bits, 31 at most; in->left tells whether they were there. */
static inline u32 unzstd_number(struct unzstd_bits *in, u32 nr)
{
	u64 bits = in->left >= 0 ? unzstd_peek(in->base, in->left) : 0;

	in->left -= nr;
	return bits >> 1 >> (63 - nr);
}

/* The highest bit that is set is the last one, and no part of it. */
static inline int unzstd_bits_init(struct unzstd_bits *in, const u8 *src,
				   u32 len)
{
	if (!len || !src[len - 1])
		return -EIO;
	in->base = src;
	in->left = 8 * (len - 1) + __fls(src[len - 1]);
	return 0;
}

/* struct qblk_unzstd_entry */

#define UNZSTD_TAKE_SHIFT	8	/* in @code */
#define UNZSTD_NEXT_SHIFT	16
#define UNZSTD_EXTRA_SHIFT	24	/* in @symbol */

static __always_inline u32 unzstd_state_bits(u32 code)
{
	return (u8)code;
}

static __always_inline u32 unzstd_take(u32 code)
{
	return (u8)(code >> UNZSTD_TAKE_SHIFT);
}

static __always_inline u32 unzstd_next(u32 code)
{
	return code >> UNZSTD_NEXT_SHIFT;
}

static __always_inline u32 unzstd_extra_bits(u32 symbol)
{
	return symbol >> UNZSTD_EXTRA_SHIFT;
}

static __always_inline u32 unzstd_base(u32 symbol)
{
	return symbol & (BIT(UNZSTD_EXTRA_SHIFT) - 1);
}

/**
 * struct unzstd_kind - what a table decodes
 * @first: number of the first state
 * @symbols: number of them
 * @log: most bits of a state
 * @base: value of each symbol; NULL for powers of two
 * @extra: bits to be added; NULL for as many as the symbol's number
 * @fixed: how likely symbols are without a description
 * @fixed_symbols: number of those
 * @fixed_log: bits of a state then
 */
struct unzstd_kind {
	u16 first;
	u8 symbols;
	u8 log;
	const u32 *base;
	const u8 *extra;
	const s8 *fixed;
	u8 fixed_symbols;
	u8 fixed_log;
};

/* The last three, 3.1.1.5 */
struct unzstd_offsets {
	u32 last[3];
};

/**
 * struct unzstd_state - input, output and what is between them
 * @in: input
 * @in_end: of it
 * @frame: where the frame's output begins
 * @out: next byte of it
 * @end: of what is wanted of it
 * @partial: what follows @end is not
 * @z: memory
 * @log: bits of a first state of each table
 * @tables: which of them this frame has had
 * @fixed: which of z->fixed are made
 * @huf: bits that z->huf is looked up with; 0: it is not of this frame
 * @offsets: that can be had again
 * @lit: literals of the block that were not output yet
 * @lit_end: of them
 */
struct unzstd_state {
	const u8 *in;
	const u8 *in_end;
	u8 *frame;
	u8 *out;
	u8 *end;
	bool partial;
	struct qblk_unzstd *z;
	u32 log[QBLK_UNZSTD_TABLES];
	u32 tables;
	u32 fixed;
	u32 huf;
	struct unzstd_offsets offsets;
	const u8 *lit;
	const u8 *lit_end;
};

/*
 * After there was room for @room of @len bytes.  Return: 0 if that is all, 1 if
 * more than that is not wanted, -EIO if there is too much.
 */
static inline int unzstd_room(const struct unzstd_state *s, u32 room, u32 len)
{
	if (room == len)
		return 0;
	return s->partial ? 1 : -EIO;
}

int unzstd_fse_read(struct qblk_unzstd *z, const struct unzstd_kind *kind,
		    struct qblk_unzstd_entry *entries, u32 *log, const u8 *src,
		    u32 len);
int unzstd_fse_tables(struct unzstd_state *s, u8 modes, const u8 *src,
		      u32 len);
int unzstd_huf_read(struct qblk_unzstd *z, u32 *width, const u8 *src, u32 len);
int unzstd_huf_literals(struct qblk_unzstd *z, u32 width, u32 nr, bool four,
			const u8 *src, u32 len);
int unzstd_sequences(struct unzstd_state *s, u32 nr, const u8 *src, u32 len);
int unzstd_literals_out(struct unzstd_state *s, u32 len);

#endif /* _QBLK_UNZSTD_INT_H */
