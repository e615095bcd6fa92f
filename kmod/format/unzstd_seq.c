// SPDX-License-Identifier: GPL-2.0
/*
 * Sequences: so many literals, and so much of what there was before.  RFC 8878,
 * 3.1.1.4 and 3.1.1.5.
 */
#include <linux/string.h>

#include "lz.h"
#include "unzstd_int.h"

/**
 * struct unzstd_seqs - sequences of a block
 * @in: their bits
 * @nr: of those that were not decoded yet
 * @state: of each table
 */
struct unzstd_seqs {
	struct unzstd_bits in;
	u32 nr;
	u32 state[QBLK_UNZSTD_TABLES];
};

static const u64 unzstd_masks[] = {
	0, 0x1, 0x3, 0x7, 0xf, 0x1f, 0x3f, 0x7f, 0xff, 0x1ff, 0x3ff, 0x7ff,
	0xfff, 0x1fff, 0x3fff, 0x7fff, 0xffff, 0x1ffff, 0x3ffff, 0x7ffff,
	0xfffff, 0x1fffff, 0x3fffff, 0x7fffff, 0xffffff, 0x1ffffff, 0x3ffffff,
	0x7ffffff, 0xfffffff, 0x1fffffff, 0x3fffffff, 0x7fffffff,
};

/* The lowest @nr bits, which are taken away */
static __always_inline u64 unzstd_low(u64 *bits, u32 nr)
{
	u64 low = *bits & unzstd_masks[nr];

	*bits >>= nr;
	return low;
}

/* Further back than any output goes */
#define UNZSTD_NO_OFFSET	U32_MAX

/*
 * One of the last three offsets again; which one depends on whether there are
 * literals.
 */
static u32 unzstd_repeat(struct unzstd_offsets *offsets, u32 value,
			 u32 literals)
{
	u32 which = value - 1 + !literals;
	u32 offset;

	if (which < 3)
		offset = offsets->last[which];
	else
		offset = offsets->last[0] - 1 ?: UNZSTD_NO_OFFSET;
	if (which > 1)
		offsets->last[2] = offsets->last[1];
	if (which > 0)
		offsets->last[1] = offsets->last[0];
	offsets->last[0] = offset;
	return offset;
}

/* The offset that a value means, which is now the last one */
static __always_inline u64 unzstd_offset(struct unzstd_offsets *offsets,
					 u64 value, u64 literals)
{
	s64 offset = value - 3;

	if (unlikely(offset <= 0))
		return unzstd_repeat(offsets, value, literals);
	offsets->last[2] = offsets->last[1];
	offsets->last[1] = offsets->last[0];
	offsets->last[0] = offset;
	return offset;
}

/*
 * A match that ends at the end of the output, or before.  It may be the one that
 * makes all of a cluster: only its last bytes are copied byte by byte.
 */
static void unzstd_match_out(struct unzstd_state *s, u32 offset, u32 len)
{
	u32 fast;

	if (len > QBLK_LZ_SLACK) {
		fast = len - QBLK_LZ_SLACK;
		qblk_lz_copy(s->out, offset, fast);
		s->out += fast;
		len -= fast;
	}
	for (; len; len--, s->out++)
		*s->out = *(s->out - offset);
}

/**
 * unzstd_literals_out - output literals of the block
 * @s: state
 * @len: how many
 *
 * Return: 0, 1 when there is no room for all of them, and need not be, -EIO when
 * there has to be.
 */
int unzstd_literals_out(struct unzstd_state *s, u32 len)
{
	u32 room = min_t(size_t, len, s->end - s->out);

	memcpy(s->out, s->lit, room);
	s->out += room;
	s->lit += room;
	return unzstd_room(s, room, len);
}

/* A sequence anywhere.  Return: as unzstd_literals_out(). */
static noinline int unzstd_seq_out(struct unzstd_state *s, u32 literals,
				   u32 match, u32 offset)
{
	u32 room;
	int ret;

	if (literals > s->lit_end - s->lit)
		return -EIO;
	ret = unzstd_literals_out(s, literals);
	if (ret)
		return ret;
	if (offset > s->out - s->frame)
		return -EIO;
	room = min_t(size_t, match, s->end - s->out);
	unzstd_match_out(s, offset, room);
	return unzstd_room(s, room, match);
}

static __always_inline u32 unzstd_value_low(u64 *bits, u32 symbol)
{
	return unzstd_base(symbol) + unzstd_low(bits, unzstd_extra_bits(symbol));
}

static u32 unzstd_value(struct unzstd_bits *in, u32 symbol)
{
	return unzstd_base(symbol) +
	       unzstd_number(in, unzstd_extra_bits(symbol));
}

static u32 unzstd_step(struct unzstd_bits *in, u32 code)
{
	return unzstd_next(code) + unzstd_number(in, unzstd_state_bits(code));
}

/* Any sequence.  There are no states behind the last one. */
static int unzstd_seq_one(struct unzstd_state *s, struct unzstd_seqs *q)
{
	struct qblk_unzstd *z = s->z;
	struct qblk_unzstd_entry litlen, offset, match;
	u32 literals, len, value;

	litlen = z->fse[q->state[QBLK_UNZSTD_LITLEN]];
	offset = z->fse[q->state[QBLK_UNZSTD_OFFSET]];
	match = z->fse[q->state[QBLK_UNZSTD_MATCH]];
	value = offset.symbol + 1 +
		unzstd_number(&q->in, unzstd_take(offset.code) -
				      unzstd_state_bits(offset.code));
	len = unzstd_value(&q->in, match.symbol);
	literals = unzstd_value(&q->in, litlen.symbol);
	if (--q->nr) {
		q->state[QBLK_UNZSTD_LITLEN] = unzstd_step(&q->in, litlen.code);
		q->state[QBLK_UNZSTD_MATCH] = unzstd_step(&q->in, match.code);
		q->state[QBLK_UNZSTD_OFFSET] = unzstd_step(&q->in, offset.code);
	}
	if (q->in.left < 0)
		return -EIO;
	return unzstd_seq_out(s, literals, len,
			      unzstd_offset(&s->offsets, value, literals));
}

/* The next 57 bits at least, from the lowest on, when @left come before them */
static __always_inline u64 unzstd_look(const u8 *base, u32 left)
{
	return get_unaligned_le64(base + left / 8) >> (left & 7);
}

/*
 * The next state.  Left to itself, the compiler puts this off until the state is
 * used, and has to keep in memory what it needs for that.
 */
static __always_inline u64 unzstd_take_state(u64 *bits, u32 code)
{
	u64 state = unzstd_next(code) +
			      unzstd_low(bits, unzstd_state_bits(code));

	OPTIMIZER_HIDE_VAR(state);
	return state;
}

/* Up to here there is room for more than what is output, and literals for it. */
static const u8 *unzstd_safe_end(const struct unzstd_state *s)
{
	size_t literals = s->z->literals + QBLK_UNZSTD_BLOCK - s->lit;
	size_t room = s->end - s->out;

	return s->out + min(room, literals) - (QBLK_LZ_SLACK + 1);
}

/*
 * All sequences but the last one, after which there are no states.  Near the end
 * of the output with care.
 *
 * What the bits of a sequence mean is read from the last one on: the states come
 * after the values.  States and an offset have 57 bits at most.
 *
 * What each round needs is held in variables of its own.  Where the literals end
 * is not among it: what is taken behind them is old, but lies in z->literals, as
 * no more is taken than a block makes.  unzstd_seq_out(), which is the way of the
 * last sequence, sees that there were too few.
 */
static int unzstd_seqs_fast(struct unzstd_state *s, struct unzstd_seqs *q)
{
	const u8 *lit = s->lit, *frame = s->frame;
	const u8 *safe = unzstd_safe_end(s);
	struct unzstd_offsets offsets = s->offsets;
	const struct qblk_unzstd *z = s->z;
	struct qblk_unzstd_entry l, o, m;
	u64 litlen_state = q->state[QBLK_UNZSTD_LITLEN];
	u64 offset_state = q->state[QBLK_UNZSTD_OFFSET];
	u64 match_state = q->state[QBLK_UNZSTD_MATCH];
	u8 *out = s->out, *match, *end;
	const u8 *base = q->in.base;
	u64 literals, len, offset, mask;
	s32 left = q->in.left;
	u32 nr = q->nr - 1;
	u32 take;
	int ret = 0;
	u64 bits;

	for (; nr; nr--) {
		l = z->fse[litlen_state];
		o = z->fse[offset_state];
		m = z->fse[match_state];
		take = l.code + o.code + m.code;
		left -= (u8)(take >> UNZSTD_TAKE_SHIFT);
		if (unlikely(left < 0))
			return -EIO;
		literals = l.symbol;
		len = m.symbol;
		mask = o.symbol;
		OPTIMIZER_HIDE_VAR(literals);
		OPTIMIZER_HIDE_VAR(len);
		OPTIMIZER_HIDE_VAR(mask);
		bits = unzstd_look(base, left);
		offset_state = unzstd_take_state(&bits, o.code);
		match_state = unzstd_take_state(&bits, m.code);
		litlen_state = unzstd_take_state(&bits, l.code);
		if (unlikely((literals | len) >> UNZSTD_EXTRA_SHIFT)) {
			u32 more = left + (u8)take;

			bits = unzstd_look(base, more);
			more += unzstd_extra_bits(literals) +
				unzstd_extra_bits(len);
			literals = unzstd_value_low(&bits, literals);
			len = unzstd_value_low(&bits, len);
			bits = unzstd_look(base, more);
		}
		offset = unzstd_offset(&offsets, (bits & mask) + mask + 1,
				       literals);
		match = out + literals;
		end = match + len;
		if (unlikely(end > safe)) {
			s->out = out;
			s->lit = lit;
			ret = unzstd_seq_out(s, literals, len, offset);
			out = s->out;
			lit = s->lit;
			if (ret)
				break;
			continue;
		}
		if (unlikely((size_t)(match - frame) < offset))
			return -EIO;
		qblk_lz_literals(out, lit, literals);
		lit += literals;
		qblk_lz_copy(match, offset, len);
		out = end;
	}
	q->nr = nr + 1;
	q->in.left = left;
	q->state[QBLK_UNZSTD_LITLEN] = litlen_state;
	q->state[QBLK_UNZSTD_OFFSET] = offset_state;
	q->state[QBLK_UNZSTD_MATCH] = match_state;
	s->offsets = offsets;
	s->out = out;
	s->lit = lit;
	return ret;
}

/* Eight bytes from any bit on that is left, and as many to be written? */
static bool unzstd_seqs_can_be_fast(const struct unzstd_state *s,
				    const struct unzstd_seqs *q)
{
	return s->in_end - (q->in.base + q->in.left / 8) >= 8 &&
	       s->end - s->out > QBLK_LZ_SLACK;
}

static int unzstd_seqs_init(const struct unzstd_state *s, struct unzstd_seqs *q,
			    u32 nr, const u8 *src, u32 len)
{
	u32 table;

	if (unzstd_bits_init(&q->in, src, len))
		return -EIO;
	q->nr = nr;
	for (table = 0; table < QBLK_UNZSTD_TABLES; table++)
		q->state[table] = table * QBLK_UNZSTD_STATES +
				  unzstd_number(&q->in, s->log[table]);
	return q->in.left < 0 ? -EIO : 0;
}

/**
 * unzstd_sequences - do what sequences say
 * @s: state with the block's literals and tables
 * @nr: of sequences, at least 1
 * @src: their bits, all of which belong to them
 * @len: bytes
 *
 * Return: 0 to go on, 1 when all that is wanted was made, -EIO.
 */
int unzstd_sequences(struct unzstd_state *s, u32 nr, const u8 *src, u32 len)
{
	struct unzstd_seqs q;
	int ret = unzstd_seqs_init(s, &q, nr, src, len);

	while (!ret && q.nr) {
		if (unzstd_seqs_can_be_fast(s, &q))
			ret = unzstd_seqs_fast(s, &q);
		if (!ret)
			ret = unzstd_seq_one(s, &q);
	}
	if (!ret && q.in.left)
		return -EIO;
	return ret;
}
