// SPDX-License-Identifier: GPL-2.0
/*
 * Decompression of raw deflate data (RFC 1951).
 *
 * The kernel's zlib_inflate() can be given its input in pieces and keeps a
 * window for that.  Compressed clusters of images are in memory as a whole, and
 * so is what becomes of them: it is the window.  With nothing to remember from
 * one call to the next, a table that decides more at once, and several literals
 * for each look at the input, this takes a third less; see
 * Documentation/performance.rst.
 *
 * Nothing is trusted.  Input is only read below its end, output is only written
 * below its end and copied from nowhere before its start, and whatever the
 * codes are, tables do not outgrow their arrays.  Each step takes input or makes
 * output, so that there is an end to it.
 */
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "inflate.h"
#include "lz.h"

/*
 * Entries of tables: how many bits to take from the input and what they say.
 * Extra bits of a length or distance, which follow its code, are taken together
 * with it.
 */
#define INFLATE_TAKE		GENMASK(5, 0)	/* bits to take */
#define INFLATE_VALUE_SHIFT	8		/* literal, base, or start of it */
#define INFLATE_VALUE		GENMASK(22, 8)
#define INFLATE_CODE_SHIFT	23		/* bits of the code, extra ones not */
#define INFLATE_CODE		GENMASK(26, 23)
#define INFLATE_END		BIT(28)		/* of the block */
#define INFLATE_SUBTABLE	BIT(29)		/* the code goes on */
#define INFLATE_OTHER		BIT(30)		/* one of these, or no code */
#define INFLATE_LITERAL		BIT(31)

#define INFLATE_MAX_CODE	15

/* Bits that each bit of a code's length adds to an entry */
#define INFLATE_ONE_BIT		(BIT(INFLATE_CODE_SHIFT) | 1)

/* Longest match */
#define INFLATE_MAX_MATCH	258

/* What is left for the fast loop to have no need to look */
#define INFLATE_FAST_IN		16
#define INFLATE_FAST_OUT	(5 + INFLATE_MAX_MATCH + QBLK_LZ_SLACK)

/**
 * struct inflate_bits - input
 * @bits: what comes next, from the lowest bit on; above @nr it is as in the
 *	bytes at @next, or zero
 * @nr: how many bits count; negative when more than there is were taken
 * @next: first byte that does not count in @nr
 * @end: of the input
 */
struct inflate_bits {
	u64 bits;
	int nr;
	const u8 *next;
	const u8 *end;
};

/**
 * struct inflate_table - a table, made
 * @entries: the first table, and what it goes on in
 * @mask: of the bits that the first table is looked up with
 */
struct inflate_table {
	const u32 *entries;
	u32 mask;
};

/**
 * struct inflate_state - input, output and what is between them
 * @in: input
 * @start: of the output
 * @out: next byte of it
 * @end: of what is wanted of it
 * @z: memory
 * @litlen: of the block
 * @dist: of the block
 * @fixed_litlen: made with the first block that needs it; a hostile input has
 *	millions of them, ten bits each
 * @fixed_dist: likewise
 */
struct inflate_state {
	struct inflate_bits in;
	u8 *start;
	u8 *out;
	u8 *end;
	struct qblk_inflate *z;
	struct inflate_table litlen;
	struct inflate_table dist;
	struct inflate_table fixed_litlen;
	struct inflate_table fixed_dist;
};

/* Input */

/*
 * At least 56 bits afterwards; there are eight bytes.  Of in->nr only the lowest
 * byte counts.
 */
static __always_inline void inflate_fill(struct inflate_bits *in)
{
	in->bits |= get_unaligned_le64(in->next) << (in->nr & 63);
	in->next += 7 - (in->nr >> 3 & 7);
	in->nr |= 56;
}

/* At least 56 bits afterwards, or all there are. */
static void inflate_fill_last(struct inflate_bits *in)
{
	while (in->nr < 56 && in->next < in->end) {
		in->bits |= (u64)*in->next++ << in->nr;
		in->nr += 8;
	}
}

static __always_inline void inflate_take(struct inflate_bits *in, u32 nr)
{
	in->bits >>= nr;
	in->nr -= nr;
}

/* A number of @nr bits, 16 at most.  Return: -EIO at the end of the input. */
static int inflate_number(struct inflate_bits *in, u32 nr)
{
	u32 number;

	inflate_fill_last(in);
	if (in->nr < (int)nr)
		return -EIO;
	number = in->bits & (BIT(nr) - 1);
	inflate_take(in, nr);
	return number;
}

/* Take an entry's bits; but for the lowest byte, in->nr is garbage afterwards. */
static __always_inline void inflate_take_entry(struct inflate_bits *in,
					       u32 entry)
{
	in->bits >>= entry & INFLATE_TAKE;
	in->nr -= entry;
}

/* Base and extra bits of a length or distance */
static __always_inline u32 inflate_value(const struct inflate_bits *in,
					 u32 entry)
{
	u64 extra = in->bits & (BIT_ULL(entry & INFLATE_TAKE) - 1);

	extra >>= (entry & INFLATE_CODE) >> INFLATE_CODE_SHIFT;
	return ((entry & INFLATE_VALUE) >> INFLATE_VALUE_SHIFT) + extra;
}

/* Entry for what comes next in a second table; that of the first is taken. */
static __always_inline u32 inflate_subtable(const struct inflate_bits *in,
					    const u32 *table, u32 entry)
{
	u32 bits = (entry & INFLATE_CODE) >> INFLATE_CODE_SHIFT;

	return table[((entry & INFLATE_VALUE) >> INFLATE_VALUE_SHIFT) +
		     (in->bits & (BIT(bits) - 1))];
}

/* Tables */

/* Entries of symbols, without the bits of their codes: RFC 1951, 3.2.5 */

#define INFLATE_EXTRA(base, extra)	((base) << INFLATE_VALUE_SHIFT | (extra))

static const u32 inflate_lengths[] = {
	INFLATE_EXTRA(3, 0), INFLATE_EXTRA(4, 0), INFLATE_EXTRA(5, 0),
	INFLATE_EXTRA(6, 0), INFLATE_EXTRA(7, 0), INFLATE_EXTRA(8, 0),
	INFLATE_EXTRA(9, 0), INFLATE_EXTRA(10, 0), INFLATE_EXTRA(11, 1),
	INFLATE_EXTRA(13, 1), INFLATE_EXTRA(15, 1), INFLATE_EXTRA(17, 1),
	INFLATE_EXTRA(19, 2), INFLATE_EXTRA(23, 2), INFLATE_EXTRA(27, 2),
	INFLATE_EXTRA(31, 2), INFLATE_EXTRA(35, 3), INFLATE_EXTRA(43, 3),
	INFLATE_EXTRA(51, 3), INFLATE_EXTRA(59, 3), INFLATE_EXTRA(67, 4),
	INFLATE_EXTRA(83, 4), INFLATE_EXTRA(99, 4), INFLATE_EXTRA(115, 4),
	INFLATE_EXTRA(131, 5), INFLATE_EXTRA(163, 5), INFLATE_EXTRA(195, 5),
	INFLATE_EXTRA(227, 5), INFLATE_EXTRA(258, 0),
};

static u32 inflate_litlen_entry(u32 symbol)
{
	if (symbol < 256)
		return INFLATE_LITERAL | symbol << INFLATE_VALUE_SHIFT;
	if (symbol == 256)
		return INFLATE_OTHER | INFLATE_END;
	symbol -= 257;
	if (symbol < ARRAY_SIZE(inflate_lengths))
		return inflate_lengths[symbol];
	return INFLATE_OTHER;
}

/* Two for each power of two: bases 1 to 24577, with 0 to 13 extra bits */
static u32 inflate_dist_entry(u32 symbol)
{
	u32 extra = symbol / 2 - 1;

	if (symbol < 4)
		return INFLATE_EXTRA(symbol + 1, 0);
	if (symbol < 30)
		return INFLATE_EXTRA(((2 + symbol % 2) << extra) + 1, extra);
	return INFLATE_OTHER;
}

static u32 inflate_precode_entry(u32 symbol)
{
	return symbol << INFLATE_VALUE_SHIFT;
}

/**
 * struct inflate_code - a Huffman code that a table is to be made of
 * @table: the table
 * @size: entries there is room for
 * @bits: that the first table is looked up with, at most; then no more than the
 *	longest code has
 * @entry: what becomes of a symbol
 * @lens: bits of each symbol's code
 * @nr: number of symbols
 * @count: symbols of each length that are not in the table yet
 * @used: entries that are taken
 * @sub: second table that codes are added to
 * @sub_bits: that it is looked up with
 * @root: its index in the first one
 */
struct inflate_code {
	u32 *table;
	u32 size;
	u32 bits;
	u32 (*entry)(u32 symbol);
	const u8 *lens;
	u32 nr;
	u16 count[INFLATE_MAX_CODE + 1];
	u32 used;
	u32 *sub;
	u32 sub_bits;
	u32 root;
};

/*
 * Some codes too many cannot be told apart; with some too few, there is input
 * that means nothing.  The latter is right for one code of one bit, and for
 * none: of distances, when there are only literals.
 */
static int inflate_check_code(const struct inflate_code *c)
{
	int left = 1;
	u32 len;

	for (len = 1; len <= INFLATE_MAX_CODE; len++) {
		left = 2 * left - c->count[len];
		if (left < 0)
			return -EIO;
	}
	if (!left)
		return 0;
	if (c->count[0] + c->count[1] != c->nr)
		return -EIO;
	memset32(c->table, INFLATE_OTHER, 1 << c->bits);
	return 0;
}

/* A table for short codes is small: there may be one for each few bytes. */
static void inflate_fit(struct inflate_code *c)
{
	u32 longest = INFLATE_MAX_CODE;

	while (longest > 1 && !c->count[longest])
		longest--;
	c->bits = min(c->bits, longest);
}

static void inflate_sort(struct inflate_code *c, u16 *sorted)
{
	u16 place[INFLATE_MAX_CODE + 1];
	u32 i;

	for (i = 0; i < c->nr; i++)
		c->count[c->lens[i]]++;
	place[0] = 0;
	for (i = 1; i <= INFLATE_MAX_CODE; i++)
		place[i] = place[i - 1] + c->count[i - 1];
	for (i = 0; i < c->nr; i++)
		sorted[place[c->lens[i]]++] = i;
}

/*
 * Bits of a second table whose shortest code has @len bits: codes come in
 * order, so what it takes to use up its share follows from how many are left.
 */
static u32 inflate_subtable_bits(const struct inflate_code *c, u32 len)
{
	u32 bits = len - c->bits;
	int left = 1 << bits;

	for (;;) {
		left -= c->count[len];
		if (left <= 0 || len == INFLATE_MAX_CODE)
			return bits;
		left *= 2;
		bits++;
		len++;
	}
}

/* Codes are read from their highest bit on, input from its lowest. */
static u32 inflate_next_code(u32 code, u32 len)
{
	u32 bit = 1 << (len - 1);

	while (code & bit)
		bit >>= 1;
	return bit ? (code & (bit - 1)) | bit : 0;
}

/* All places of a table whose index ends in a code */
static void inflate_spread(u32 *table, u32 bits, u32 code, u32 len, u32 entry)
{
	u32 i;

	entry += len * INFLATE_ONE_BIT;
	for (i = code; i < 1 << bits; i += 1 << len)
		table[i] = entry;
}

/* Begin the second table of the codes that end in @root. */
static int inflate_new_subtable(struct inflate_code *c, u32 root, u32 len)
{
	u32 bits = inflate_subtable_bits(c, len);

	if (c->size - c->used < 1 << bits)
		return -EIO;
	c->table[root] = INFLATE_OTHER | INFLATE_SUBTABLE |
			 c->used << INFLATE_VALUE_SHIFT |
			 bits << INFLATE_CODE_SHIFT | c->bits;
	c->root = root;
	c->sub = c->table + c->used;
	c->sub_bits = bits;
	c->used += 1 << bits;
	return 0;
}

static int inflate_add(struct inflate_code *c, u32 code, u32 len, u32 entry)
{
	u32 root = code & ((1 << c->bits) - 1);
	int ret;

	if (len <= c->bits) {
		inflate_spread(c->table, c->bits, code, len, entry);
		return 0;
	}
	if (!c->sub || c->root != root) {
		ret = inflate_new_subtable(c, root, len);
		if (ret)
			return ret;
	}
	inflate_spread(c->sub, c->sub_bits, code >> c->bits, len - c->bits,
		       entry);
	return 0;
}

static int inflate_build(struct inflate_code *c, u16 *sorted,
			 struct inflate_table *t)
{
	u32 code = 0, len;
	int ret;

	inflate_sort(c, sorted);
	inflate_fit(c);
	ret = inflate_check_code(c);
	sorted += c->count[0];
	c->used = 1 << c->bits;
	for (len = 1; len <= INFLATE_MAX_CODE; len++)
		for (; !ret && c->count[len]; c->count[len]--) {
			ret = inflate_add(c, code, len, c->entry(*sorted++));
			code = inflate_next_code(code, len);
		}
	*t = (struct inflate_table){ c->table, (1 << c->bits) - 1 };
	return ret;
}

/* Of @nr symbols */
static int inflate_build_litlen(struct inflate_state *s, u32 nr)
{
	struct inflate_code c = {
		.table = s->z->litlen,
		.size = ARRAY_SIZE(s->z->litlen),
		.bits = QBLK_INFLATE_LITLEN_BITS,
		.entry = inflate_litlen_entry,
		.lens = s->z->lens,
		.nr = nr,
	};

	return inflate_build(&c, s->z->sorted, &s->litlen);
}

/* The lengths of @nr codes follow those of @litlens others. */
static int inflate_build_dist(struct inflate_state *s, u32 litlens, u32 nr)
{
	struct inflate_code c = {
		.table = s->z->dist,
		.size = ARRAY_SIZE(s->z->dist),
		.bits = QBLK_INFLATE_DIST_BITS,
		.entry = inflate_dist_entry,
		.lens = s->z->lens + litlens,
		.nr = nr,
	};

	return inflate_build(&c, s->z->sorted, &s->dist);
}

static int inflate_build_fixed(struct inflate_state *s)
{
	struct qblk_inflate *z = s->z;
	struct inflate_code litlen = {
		.table = z->fixed_litlen,
		.size = ARRAY_SIZE(z->fixed_litlen),
		.bits = QBLK_INFLATE_FIXED_LITLEN_BITS,
		.entry = inflate_litlen_entry,
		.lens = z->lens,
		.nr = QBLK_INFLATE_LITLENS,
	};
	struct inflate_code dist = {
		.table = z->fixed_dist,
		.size = ARRAY_SIZE(z->fixed_dist),
		.bits = QBLK_INFLATE_FIXED_DIST_BITS,
		.entry = inflate_dist_entry,
		.lens = z->lens + QBLK_INFLATE_LITLENS,
		.nr = QBLK_INFLATE_DISTS,
	};

	memset(z->lens, 8, 144);
	memset(z->lens + 144, 9, 256 - 144);
	memset(z->lens + 256, 7, 280 - 256);
	memset(z->lens + 280, 8, QBLK_INFLATE_LITLENS - 280);
	memset(z->lens + QBLK_INFLATE_LITLENS, 5, QBLK_INFLATE_DISTS);
	return inflate_build(&litlen, z->sorted, &s->fixed_litlen) ?:
	       inflate_build(&dist, z->sorted, &s->fixed_dist);
}

static int inflate_fixed(struct inflate_state *s)
{
	int ret = 0;

	if (!s->fixed_litlen.entries)
		ret = inflate_build_fixed(s);
	s->litlen = s->fixed_litlen;
	s->dist = s->fixed_dist;
	return ret;
}

static int inflate_precode(struct inflate_state *s, struct inflate_table *t)
{
	static const u8 order[] = {
		16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1,
		15,
	};
	struct qblk_inflate *z = s->z;
	struct inflate_code c = {
		.table = z->precode,
		.size = ARRAY_SIZE(z->precode),
		.bits = QBLK_INFLATE_PRECODE_BITS,
		.entry = inflate_precode_entry,
		.lens = z->lens,
		.nr = ARRAY_SIZE(order),
	};
	int nr = inflate_number(&s->in, 4);
	int i, len;

	if (nr < 0)
		return nr;
	memset(z->lens, 0, ARRAY_SIZE(order));
	for (i = 0; i < nr + 4; i++) {
		len = inflate_number(&s->in, 3);
		if (len < 0)
			return len;
		z->lens[order[i]] = len;
	}
	return inflate_build(&c, z->sorted, t);
}

/*
 * One step of the lengths of codes, the first @nr of which are known.
 * Return: how many it makes known, -EIO when it makes no sense.
 */
static int inflate_lens_step(struct inflate_state *s,
			     const struct inflate_table *precode, int nr,
			     int total)
{
	static const struct {
		u8 bits;	/* of the number that follows */
		u8 least;	/* what is added to it */
	} repeats[] = { { 2, 3 }, { 3, 3 }, { 7, 11 } };
	struct qblk_inflate *z = s->z;
	u32 entry, symbol;
	int times;

	inflate_fill_last(&s->in);
	entry = precode->entries[s->in.bits & precode->mask];
	symbol = (entry & INFLATE_VALUE) >> INFLATE_VALUE_SHIFT;
	inflate_take(&s->in, entry & INFLATE_TAKE);
	if (entry & INFLATE_OTHER || s->in.nr < 0)
		return -EIO;
	if (symbol < 16) {
		z->lens[nr] = symbol;
		return 1;
	}
	times = inflate_number(&s->in, repeats[symbol - 16].bits);
	if (times < 0 || (symbol == 16 && !nr))
		return -EIO;
	times += repeats[symbol - 16].least;
	if (times > total - nr)
		return -EIO;
	memset(z->lens + nr, symbol == 16 ? z->lens[nr - 1] : 0, times);
	return times;
}

static int inflate_dynamic(struct inflate_state *s)
{
	int litlens = inflate_number(&s->in, 5);
	int dists = inflate_number(&s->in, 5);
	struct inflate_table precode;
	int ret, nr;

	if (litlens < 0 || dists < 0)
		return -EIO;
	litlens += 257;
	dists += 1;
	if (litlens > 286 || dists > 30)
		return -EIO;
	ret = inflate_precode(s, &precode);
	if (ret)
		return ret;
	for (nr = 0; nr < litlens + dists; nr += ret) {
		ret = inflate_lens_step(s, &precode, nr, litlens + dists);
		if (ret < 0)
			return ret;
	}
	return inflate_build_litlen(s, litlens) ?:
	       inflate_build_dist(s, litlens, dists);
}

/* Output */

/* A literal that the first table decides, if @entry is one; then the next entry */
static __always_inline bool inflate_literal(struct inflate_bits *in, u32 *entry,
					    u8 **out, const u32 *litlen,
					    u32 mask)
{
	if (!(*entry & INFLATE_LITERAL))
		return false;
	*(*out)++ = *entry >> INFLATE_VALUE_SHIFT;
	inflate_take_entry(in, *entry);
	*entry = litlen[in->bits & mask];
	return true;
}

/*
 * As long as there is enough input and room.  What is taken after a fill has 56
 * bits at most: five literals that the first table decides take 55; a length and
 * its distance, second tables and extra bits included, 48.
 *
 * Return: 1 at the end of the block, 0 to go on with care, -EIO.
 */
static int inflate_fast(struct inflate_state *s)
{
	const u32 *litlen = s->litlen.entries, *dists = s->dist.entries;
	u32 mask = s->litlen.mask, dist_mask = s->dist.mask;
	struct inflate_bits in = s->in;
	u8 *out = s->out;
	u32 entry, len, dist;
	int ret = 0;

	while (in.end - in.next >= INFLATE_FAST_IN &&
	       s->end - out >= INFLATE_FAST_OUT) {
		inflate_fill(&in);
		entry = litlen[in.bits & mask];
		if (inflate_literal(&in, &entry, &out, litlen, mask) &&
		    inflate_literal(&in, &entry, &out, litlen, mask) &&
		    inflate_literal(&in, &entry, &out, litlen, mask) &&
		    inflate_literal(&in, &entry, &out, litlen, mask) &&
		    inflate_literal(&in, &entry, &out, litlen, mask))
			continue;
		inflate_fill(&in);
		if (entry & INFLATE_SUBTABLE) {
			inflate_take_entry(&in, entry);
			entry = inflate_subtable(&in, litlen, entry);
		}
		len = inflate_value(&in, entry);
		inflate_take_entry(&in, entry);
		if (entry & INFLATE_LITERAL) {
			*out++ = entry >> INFLATE_VALUE_SHIFT;
			continue;
		}
		if (entry & INFLATE_OTHER) {
			ret = entry & INFLATE_END ? 1 : -EIO;
			break;
		}
		entry = dists[in.bits & dist_mask];
		if (entry & INFLATE_SUBTABLE) {
			inflate_take_entry(&in, entry);
			entry = inflate_subtable(&in, dists, entry);
		}
		dist = inflate_value(&in, entry);
		inflate_take_entry(&in, entry);
		if (entry & INFLATE_OTHER || dist > out - s->start) {
			ret = -EIO;
			break;
		}
		qblk_lz_copy(out, dist, len);
		out += len;
	}
	in.nr &= U8_MAX;
	s->in = in;
	s->out = out;
	return ret;
}

/* Entry of the next symbol, whose bits are to be taken by inflate_take() */
static u32 inflate_lookup(struct inflate_bits *in,
			  const struct inflate_table *t)
{
	u32 entry = t->entries[in->bits & t->mask];

	if (entry & INFLATE_SUBTABLE) {
		inflate_take(in, entry & INFLATE_TAKE);
		entry = inflate_subtable(in, t->entries, entry);
	}
	return entry;
}

/* The distance, and near the end of the output byte by byte, no further. */
static int inflate_match(struct inflate_state *s, u32 len)
{
	u32 entry, dist;

	entry = inflate_lookup(&s->in, &s->dist);
	dist = inflate_value(&s->in, entry);
	inflate_take(&s->in, entry & INFLATE_TAKE);
	if (entry & INFLATE_OTHER || s->in.nr < 0 || dist > s->out - s->start)
		return -EIO;
	len = min_t(size_t, len, s->end - s->out);
	for (; len; len--, s->out++)
		*s->out = *(s->out - dist);
	return 0;
}

/* Return: 1 at the end of the block, 0 to go on, -EIO. */
static int inflate_symbol(struct inflate_state *s)
{
	u32 entry, len;

	inflate_fill_last(&s->in);
	entry = inflate_lookup(&s->in, &s->litlen);
	len = inflate_value(&s->in, entry);
	inflate_take(&s->in, entry & INFLATE_TAKE);
	if (s->in.nr < 0)
		return -EIO;
	if (entry & INFLATE_LITERAL) {
		*s->out++ = entry >> INFLATE_VALUE_SHIFT;
		return 0;
	}
	if (entry & INFLATE_OTHER)
		return entry & INFLATE_END ? 1 : -EIO;
	return inflate_match(s, len);
}

/* The symbols of a block, up to the end of it or of the output */
static int inflate_coded(struct inflate_state *s)
{
	int ret = 0;

	while (!ret && s->out < s->end) {
		ret = inflate_fast(s);
		if (!ret)
			ret = inflate_symbol(s);
	}
	return min(ret, 0);
}

/* A block that is not compressed starts at a byte. */
static int inflate_stored(struct inflate_state *s)
{
	struct inflate_bits *in = &s->in;
	u32 len;

	in->next -= in->nr / 8;
	in->bits = 0;
	in->nr = 0;
	if (in->end - in->next < 4)
		return -EIO;
	len = get_unaligned_le16(in->next);
	if (len + get_unaligned_le16(in->next + 2) != U16_MAX)
		return -EIO;
	in->next += 4;
	len = min_t(size_t, len, s->end - s->out);
	if (in->end - in->next < len)
		return -EIO;
	memcpy(s->out, in->next, len);
	in->next += len;
	s->out += len;
	return 0;
}

static int inflate_block(struct inflate_state *s, int type)
{
	int ret;

	switch (type) {
	case 0:
		return inflate_stored(s);
	case 1:
		ret = inflate_fixed(s);
		break;
	case 2:
		ret = inflate_dynamic(s);
		break;
	default:
		return -EIO;
	}
	return ret ?: inflate_coded(s);
}

/**
 * qblk_inflate - decompress raw deflate data
 * @z: memory for tables
 * @dst: gets the output
 * @dst_len: bytes that are wanted
 * @src: input; what follows the end of the data is not looked at
 * @src_len: bytes of it
 *
 * The data may make more than is wanted: what does not matter for that is not
 * looked at either.  Context: process, may sleep; @src and @dst do not overlap.
 *
 * Return: 0, or -EIO when the input does not make @dst_len bytes; then @dst holds
 * anything.
 */
int qblk_inflate(struct qblk_inflate *z, u8 *dst, size_t dst_len, const u8 *src,
		 size_t src_len)
{
	struct inflate_state s = {
		.in = { .next = src, .end = src + src_len },
		.start = dst,
		.out = dst,
		.end = dst + dst_len,
		.z = z,
	};
	int header = 0, ret = 0;

	while (!ret && s.out < s.end && !(header & 1)) {
		cond_resched();
		header = inflate_number(&s.in, 3);
		ret = header < 0 ? header : inflate_block(&s, header >> 1);
	}
	return ret ?: (s.out == s.end ? 0 : -EIO);
}
