// SPDX-License-Identifier: GPL-2.0
/*
 * Literals in a Huffman code: RFC 8878, 4.2.
 */
#include <linux/string.h>

#include "unzstd_int.h"

/*
 * Bits that tables are looked up with if that is enough, and literals for one
 * look at the input then, and otherwise.  They take up to 55 of 56 bits.
 */
#define UNZSTD_HUF_SHORT	9
#define UNZSTD_HUF_MANY		6
#define UNZSTD_HUF_FEW		5

/* Fewest literals that come in four streams: of 5, three would have 6. */
#define UNZSTD_HUF_MIN_FOUR	6

/* The codes' weights; a code of as many bits as may be has the smallest but 0. */
static const u32 unzstd_weight_base[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
static const u8 unzstd_weight_extra[ARRAY_SIZE(unzstd_weight_base)];

static const struct unzstd_kind unzstd_weight_kind = {
	.symbols = ARRAY_SIZE(unzstd_weight_base),
	.log = QBLK_UNZSTD_WEIGHT_LOG,
	.base = unzstd_weight_base,
	.extra = unzstd_weight_extra,
};

/* The weight that a state means, then the next state, if in->left is not below 0 */
static u8 unzstd_weight(struct qblk_unzstd *z, struct unzstd_bits *in,
			u32 *state)
{
	const struct qblk_unzstd_entry *entry = &z->weights[*state];

	*state = unzstd_next(entry->code) +
		 unzstd_number(in, unzstd_state_bits(entry->code));
	return unzstd_base(entry->symbol);
}

/*
 * Two states take turns.  When there is no next state for one, the other's
 * weight is the last.  Return: how many there are, -EIO.
 */
static int unzstd_weights_coded(struct qblk_unzstd *z, const u8 *src, u32 len)
{
	struct unzstd_bits in;
	u32 nr, log, state[2];
	int ret;

	ret = unzstd_fse_read(z, &unzstd_weight_kind, z->weights, &log, src,
			      len);
	if (ret < 0 || unzstd_bits_init(&in, src + ret, len - ret))
		return -EIO;
	state[0] = unzstd_number(&in, log);
	state[1] = unzstd_number(&in, log);
	for (nr = 0; nr < ARRAY_SIZE(z->weight) - 2 && in.left >= 0;) {
		z->weight[nr] = unzstd_weight(z, &in, &state[nr % 2]);
		nr++;
		if (in.left < 0) {
			z->weight[nr] = unzstd_weight(z, &in, &state[nr % 2]);
			return nr + 1;
		}
	}
	return -EIO;
}

/* Two in a byte */
static int unzstd_weights_plain(struct qblk_unzstd *z, u32 nr, const u8 *src)
{
	u32 i;

	for (i = 0; i < nr; i++)
		z->weight[i] = i % 2 ? src[i / 2] & 15 : src[i / 2] >> 4;
	return nr;
}

/*
 * The last one is not said: it makes the sum a power of two.
 * Return: bits of the longest code, -EIO.
 */
static int unzstd_weights_check(struct qblk_unzstd *z, u32 nr)
{
	u32 i, rest, bits, sum = 0, ones = 0;

	for (i = 0; i < nr; i++) {
		if (z->weight[i] > QBLK_UNZSTD_HUF_LOG)
			return -EIO;
		sum += BIT(z->weight[i]) >> 1;
		ones += z->weight[i] == 1;
	}
	if (!sum)
		return -EIO;
	bits = __fls(sum) + 1;
	rest = BIT(bits) - sum;
	if (bits > QBLK_UNZSTD_HUF_LOG || rest & (rest - 1))
		return -EIO;
	z->weight[nr] = __fls(rest) + 1;
	ones += rest == 1;
	/* The longest codes come in pairs: the sum is even, so is their number. */
	return ones ? bits : -EIO;
}

/*
 * Entries hold the literal and, below it, the bits of its code.  The codes with
 * the lowest weight come first, and of one weight in the order of literals.  A
 * code of fewer bits than the table is looked up with has more entries.
 */
static void unzstd_huf_build(struct qblk_unzstd *z, u32 nr, u32 bits, u32 width)
{
	u32 first[QBLK_UNZSTD_HUF_LOG + 2] = {}, i, n, weight;

	for (i = 0; i < nr; i++)
		first[z->weight[i] + 1]++;
	first[1] = 0;
	for (weight = 1; weight <= bits; weight++)
		first[weight + 1] = first[weight] +
				    (first[weight + 1] <<
				     (weight - 1 + width - bits));
	for (i = 0; i < nr; i++) {
		weight = z->weight[i];
		if (!weight)
			continue;
		n = BIT(weight - 1 + width - bits);
		memset16(z->huf + first[weight], i << 8 | (bits + 1 - weight),
			 n);
		first[weight] += n;
	}
}

/**
 * unzstd_huf_read - make the table of a block's literals
 * @z: gets it
 * @width: bits that it is looked up with
 * @src: description, and what follows it
 * @len: bytes of both
 *
 * Return: bytes of the description, or -EIO.
 */
int unzstd_huf_read(struct qblk_unzstd *z, u32 *width, const u8 *src, u32 len)
{
	u32 bytes;
	int nr, bits;

	if (!len)
		return -EIO;
	bytes = src[0] < 128 ? src[0] : (src[0] - 127 + 1) / 2;
	if (bytes >= len)
		return -EIO;
	if (src[0] < 128)
		nr = unzstd_weights_coded(z, src + 1, bytes);
	else
		nr = unzstd_weights_plain(z, src[0] - 127, src + 1);
	if (nr < 0)
		return nr;
	bits = unzstd_weights_check(z, nr);
	if (bits < 0)
		return bits;
	*width = bits <= UNZSTD_HUF_SHORT ? UNZSTD_HUF_SHORT :
					    QBLK_UNZSTD_HUF_LOG;
	unzstd_huf_build(z, nr + 1, bits, *width);
	return 1 + bytes;
}

/**
 * struct unzstd_stream - literals that are coded one after the other
 * @in: the codes
 * @out: next literal
 * @end: of them
 */
struct unzstd_stream {
	struct unzstd_bits in;
	u8 *out;
	u8 *end;
};

/* How many times @nr literals there are for sure, of @width bits at most */
static u32 unzstd_stream_batches(const struct unzstd_stream *t, u32 nr,
				 u32 width)
{
	return min_t(u32, (u32)(t->end - t->out) / nr,
		     (u32)t->in.left / (nr * width));
}

/* All the rest, and no bit may be left. */
static int unzstd_stream_finish(const u16 *huf, u32 width,
				struct unzstd_stream *t)
{
	u32 entry;

	while (t->out < t->end) {
		if (t->in.left < 0)
			return -EIO;
		entry = huf[unzstd_peek(t->in.base, t->in.left) >>
			    (64 - width)];
		*t->out++ = entry >> 8;
		t->in.left -= (u8)entry;
	}
	return t->in.left ? -EIO : 0;
}

/**
 * struct unzstd_place - where in a stream we are, for what has no time to count
 * @next: eight bytes, whose highest bits come next
 * @bits: of these, but for those that were taken, from the highest bit on.  Below
 *	what is left of them a one moves up with each bit that is taken.
 */
struct unzstd_place {
	const u8 *next;
	u64 bits;
};

static __always_inline void unzstd_place_fill(struct unzstd_place *p)
{
	u32 taken = __ffs64(p->bits);

	p->next -= taken / 8;
	p->bits = (get_unaligned_le64(p->next) | 1) << taken % 8;
}

static __always_inline void
unzstd_place_init(struct unzstd_place *p, const struct unzstd_bits *in)
{
	p->next = in->base + in->left / 8 - 7;
	p->bits = BIT_ULL(8 - in->left % 8);
	unzstd_place_fill(p);
}

static __always_inline s32 unzstd_place_left(const struct unzstd_place *p,
					     const u8 *base)
{
	return 8 * (s32)(p->next + 8 - base) - __ffs64(p->bits);
}

static __always_inline void unzstd_huf_step(const u16 *huf, u32 width,
					    u64 *bits, u8 *out)
{
	u32 entry = huf[*bits >> (64 - width)];

	*bits <<= entry & 63;
	*out = entry >> 8;
}

/* Literals of one look at the input; there are @nr for sure. */
static __always_inline void unzstd_huf_batch(const u16 *huf, u32 width, u32 nr,
					     struct unzstd_place *p, u8 *out)
{
	u64 bits = p->bits;

	unzstd_huf_step(huf, width, &bits, out);
	unzstd_huf_step(huf, width, &bits, out + 1);
	unzstd_huf_step(huf, width, &bits, out + 2);
	unzstd_huf_step(huf, width, &bits, out + 3);
	unzstd_huf_step(huf, width, &bits, out + 4);
	if (nr == UNZSTD_HUF_MANY)
		unzstd_huf_step(huf, width, &bits, out + 5);
	p->bits = bits;
	unzstd_place_fill(p);
}

/*
 * Two streams at a time, which do not wait for each other, as far as it is safe
 * not to look.
 */
static __always_inline void unzstd_stream_pair(const u16 *huf, u32 width,
					       u32 nr, struct unzstd_stream *t,
					       struct unzstd_stream *u)
{
	struct unzstd_place p, q;
	ptrdiff_t apart = u->out - t->out;
	u8 *out = t->out;
	u32 n;

	unzstd_place_init(&p, &t->in);
	unzstd_place_init(&q, &u->in);
	while ((n = min(unzstd_stream_batches(t, nr, width),
			unzstd_stream_batches(u, nr, width)))) {
		do {
			unzstd_huf_batch(huf, width, nr, &p, out);
			unzstd_huf_batch(huf, width, nr, &q, out + apart);
			out += nr;
		} while (--n);
		t->in.left = unzstd_place_left(&p, t->in.base);
		u->in.left = unzstd_place_left(&q, u->in.base);
		t->out = out;
		u->out = out + apart;
	}
}

/* The compiler makes two functions of one. */
static noinline void unzstd_stream_pair_short(const u16 *huf,
					      struct unzstd_stream *t,
					      struct unzstd_stream *u)
{
	unzstd_stream_pair(huf, UNZSTD_HUF_SHORT, UNZSTD_HUF_MANY, t, u);
}

static noinline void unzstd_stream_pair_long(const u16 *huf,
					     struct unzstd_stream *t,
					     struct unzstd_stream *u)
{
	unzstd_stream_pair(huf, QBLK_UNZSTD_HUF_LOG, UNZSTD_HUF_FEW, t, u);
}

static int unzstd_streams_out(const u16 *huf, u32 width,
			      struct unzstd_stream *t)
{
	u32 i;
	int ret = 0;

	for (i = 0; i < 4; i += 2)
		if (width == UNZSTD_HUF_SHORT)
			unzstd_stream_pair_short(huf, &t[i], &t[i + 1]);
		else
			unzstd_stream_pair_long(huf, &t[i], &t[i + 1]);
	for (i = 0; i < 4 && !ret; i++)
		ret = unzstd_stream_finish(huf, width, &t[i]);
	return ret;
}

/* 4.2.2: sizes of all but the last stream, then the streams */
static int unzstd_streams(struct qblk_unzstd *z, u32 width, u32 nr,
			  const u8 *src, u32 len)
{
	u32 each = DIV_ROUND_UP(nr, 4), i, bytes;
	struct unzstd_stream t[4];
	const u8 *in = src + 6;

	if (len < 6 || nr < UNZSTD_HUF_MIN_FOUR)
		return -EIO;
	len -= 6;
	for (i = 0; i < 4; i++) {
		bytes = i < 3 ? get_unaligned_le16(src + 2 * i) : len;
		if (bytes > len || unzstd_bits_init(&t[i].in, in, bytes))
			return -EIO;
		in += bytes;
		len -= bytes;
		t[i].out = z->literals + i * each;
		t[i].end = z->literals + (i < 3 ? (i + 1) * each : nr);
	}
	return unzstd_streams_out(z->huf, width, t);
}

/**
 * unzstd_huf_literals - decode a block's literals into z->literals
 * @z: memory and table
 * @width: bits that the table is looked up with
 * @nr: of literals, QBLK_UNZSTD_BLOCK at most
 * @four: they come in four streams, not in one
 * @src: coded
 * @len: bytes of it, all of which belongs to the literals
 *
 * Return: 0 or -EIO.
 */
int unzstd_huf_literals(struct qblk_unzstd *z, u32 width, u32 nr, bool four,
			const u8 *src, u32 len)
{
	struct unzstd_stream t = {
		.out = z->literals,
		.end = z->literals + nr,
	};

	if (four)
		return unzstd_streams(z, width, nr, src, len);
	if (unzstd_bits_init(&t.in, src, len))
		return -EIO;
	return unzstd_stream_finish(z->huf, width, &t);
}
