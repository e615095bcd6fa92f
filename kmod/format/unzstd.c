// SPDX-License-Identifier: GPL-2.0
/*
 * Decompression of Zstandard data (RFC 8878): frames, blocks and what literals
 * come as.
 *
 * The kernel's zstd_decompress_dctx() makes whole frames.  Here a part of a
 * cluster takes what makes that part, and all of it less, too: the bits of a
 * sequence are looked at once, and the fields of tables lie side by side; see
 * Documentation/performance.rst.
 *
 * Nothing is trusted.  Input is only read inside, output is only written below
 * its end and copied from nowhere before the start of its frame, and whatever
 * descriptions say, tables do not outgrow their arrays.  Each step takes input,
 * so that there is an end to it.
 */
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/xxhash.h>

#include "unzstd_int.h"

#define UNZSTD_MAGIC		0xfd2fb528U
#define UNZSTD_SKIP_MAGIC	0x184d2a50U	/* and the next 15 */

#define UNZSTD_MIN_WINDOW_LOG	10
#define UNZSTD_MAX_WINDOW_LOG	31

/* Bits of a frame's first byte behind the magic number, 3.1.1.1.1 */
#define UNZSTD_SIZE_SHIFT	6
#define UNZSTD_SINGLE		BIT(5)
#define UNZSTD_RESERVED		BIT(3)
#define UNZSTD_CHECKSUM		BIT(2)
#define UNZSTD_DICTIONARY	GENMASK(1, 0)

/**
 * struct unzstd_frame - header of a frame
 * @block_max: most that a block may have, and make
 * @size: of the output; U64_MAX when it is not known
 * @checksum: there is one at the end
 */
struct unzstd_frame {
	u32 block_max;
	u64 size;
	bool checksum;
};

/* The rest of the input */
static size_t unzstd_rest(const struct unzstd_state *s)
{
	return s->in_end - s->in;
}

/* A little-endian number of up to eight bytes */
static u64 unzstd_le(const u8 *src, u32 nr)
{
	u64 value = 0;
	u32 i;

	for (i = 0; i < nr; i++)
		value |= (u64)src[i] << 8 * i;
	return value;
}

/* One at the beginning of the input */
static int unzstd_bytes(struct unzstd_state *s, u32 nr, u64 *value)
{
	if (unzstd_rest(s) < nr)
		return -EIO;
	*value = unzstd_le(s->in, nr);
	s->in += nr;
	return 0;
}

/* Literals, 3.1.1.3.1 */

/**
 * struct unzstd_literals - header of a block's literals
 * @type: what they come as, one of unzstd_literals_types
 * @bytes: of the header
 * @nr: of literals
 * @coded: bytes of them when coded
 * @four: they come in four streams
 */
struct unzstd_literals {
	u32 type;
	u32 bytes;
	u32 nr;
	u32 coded;
	bool four;
};

static int unzstd_literals_plain(struct unzstd_state *s,
				 const struct unzstd_literals *l,
				 const u8 *src, u32 len)
{
	if (l->nr > len)
		return -EIO;
	memcpy(s->z->literals, src, l->nr);
	return l->nr;
}

static int unzstd_literals_rle(struct unzstd_state *s,
			       const struct unzstd_literals *l, const u8 *src,
			       u32 len)
{
	if (!len)
		return -EIO;
	memset(s->z->literals, src[0], l->nr);
	return 1;
}

static int unzstd_literals_again(struct unzstd_state *s,
				 const struct unzstd_literals *l,
				 const u8 *src, u32 len)
{
	if (!s->huf || !l->nr || l->coded > len)
		return -EIO;
	return unzstd_huf_literals(s->z, s->huf, l->nr, l->four, src,
				   l->coded) ?: l->coded;
}

static int unzstd_literals_coded(struct unzstd_state *s,
				 const struct unzstd_literals *l,
				 const u8 *src, u32 len)
{
	int ret;

	if (!l->nr || l->coded > len)
		return -EIO;
	ret = unzstd_huf_read(s->z, &s->huf, src, l->coded);
	if (ret < 0)
		return ret;
	return unzstd_huf_literals(s->z, s->huf, l->nr, l->four, src + ret,
				   l->coded - ret) ?: l->coded;
}

static int (*const unzstd_literals_types[])(struct unzstd_state *s,
					    const struct unzstd_literals *l,
					    const u8 *src, u32 len) = {
	unzstd_literals_plain,
	unzstd_literals_rle,
	unzstd_literals_coded,
	unzstd_literals_again,
};

/* Bytes of the header, and bits of each number in it, 3.1.1.3.1.1 */
static int unzstd_literals_header(const u8 *src, u32 len,
				  struct unzstd_literals *l)
{
	static const struct {
		u8 bytes;
		u8 shift;
		u8 bits;
	} plain[] = {
		{ 1, 3, 5 }, { 2, 4, 12 }, { 1, 3, 5 }, { 3, 4, 20 },
	}, coded[] = {
		{ 3, 4, 10 }, { 3, 4, 10 }, { 4, 4, 14 }, { 5, 4, 18 },
	}, *f;
	u64 header;

	if (!len)
		return -EIO;
	l->type = src[0] & 3;
	f = (l->type < 2 ? plain : coded) + (src[0] >> 2 & 3);
	if (f->bytes > len)
		return -EIO;
	header = unzstd_le(src, f->bytes);
	l->bytes = f->bytes;
	l->nr = header >> f->shift & (BIT(f->bits) - 1);
	l->coded = header >> (f->shift + f->bits);
	l->four = f != coded;
	return 0;
}

/* Return: bytes of all about literals, -EIO. */
static int unzstd_literals(struct unzstd_state *s, u32 block_max,
			   const u8 *src, u32 len)
{
	struct unzstd_literals l;
	int ret;

	ret = unzstd_literals_header(src, len, &l);
	if (ret)
		return ret;
	if (l.nr > block_max)
		return -EIO;
	ret = unzstd_literals_types[l.type](s, &l, src + l.bytes,
					    len - l.bytes);
	if (ret < 0)
		return ret;
	s->lit = s->z->literals;
	s->lit_end = s->lit + l.nr;
	return l.bytes + ret;
}

/* Blocks */

/* Number of sequences, 3.1.1.3.2.  Return: bytes of it, -EIO. */
static int unzstd_seqs_number(const u8 *src, u32 len, u32 *nr)
{
	if (!len)
		return -EIO;
	if (src[0] < 128) {
		*nr = src[0];
		return 1;
	}
	if (src[0] < 255) {
		if (len < 2)
			return -EIO;
		*nr = (src[0] - 128) << 8 | src[1];
		return 2;
	}
	if (len < 3)
		return -EIO;
	*nr = get_unaligned_le16(src + 1) + 0x7f00;
	return 3;
}

/* All of @src but what literals took.  Return: as unzstd_sequences(). */
static int unzstd_block_seqs(struct unzstd_state *s, const u8 *src, u32 len)
{
	u32 nr, done;
	int ret;

	ret = unzstd_seqs_number(src, len, &nr);
	if (ret < 0)
		return ret;
	done = ret;
	if (!nr)
		return done == len ? 0 : -EIO;
	if (done == len)
		return -EIO;
	ret = unzstd_fse_tables(s, src[done], src + done + 1, len - done - 1);
	if (ret < 0)
		return ret;
	done += 1 + ret;
	return unzstd_sequences(s, nr, src + done, len - done);
}

/* What a block makes is checked by whoever calls these.  Return: likewise. */

static int unzstd_block_plain(struct unzstd_state *s, u32 block_max, u32 size)
{
	if (size > unzstd_rest(s))
		return -EIO;
	s->lit = s->in;
	s->in += size;
	return unzstd_literals_out(s, size);
}

static int unzstd_block_rle(struct unzstd_state *s, u32 block_max, u32 size)
{
	u32 room = min_t(size_t, size, s->end - s->out);

	if (!unzstd_rest(s))
		return -EIO;
	memset(s->out, *s->in++, room);
	s->out += room;
	return unzstd_room(s, room, size);
}

static int unzstd_block_coded(struct unzstd_state *s, u32 block_max, u32 size)
{
	const u8 *src = s->in;
	int ret;

	if (size > unzstd_rest(s))
		return -EIO;
	s->in += size;
	ret = unzstd_literals(s, block_max, src, size);
	if (ret < 0)
		return ret;
	ret = unzstd_block_seqs(s, src + ret, size - ret);
	return ret ?: unzstd_literals_out(s, s->lit_end - s->lit);
}

static int unzstd_block_reserved(struct unzstd_state *s, u32 block_max,
				 u32 size)
{
	return -EIO;
}

static int (*const unzstd_blocks[])(struct unzstd_state *s, u32 block_max,
				    u32 size) = {
	unzstd_block_plain,
	unzstd_block_rle,
	unzstd_block_coded,
	unzstd_block_reserved,
};

/* 3.1.1.2.  Return: as unzstd_sequences(). */
static int unzstd_block(struct unzstd_state *s, u32 block_max, bool *last)
{
	u8 *begin = s->out;
	u64 header;
	int ret;

	cond_resched();
	if (unzstd_bytes(s, 3, &header))
		return -EIO;
	*last = header & 1;
	if (header >> 3 > block_max)
		return -EIO;
	ret = unzstd_blocks[header >> 1 & 3](s, block_max, header >> 3);
	if (ret >= 0 && s->out - begin > block_max)
		return -EIO;
	if (!ret && s->partial && s->out == s->end)
		return 1;
	return ret;
}

/* Frames */

/* 3.1.1.1.2 */
static int unzstd_window(struct unzstd_state *s, u64 *size)
{
	u64 window;
	u32 log;

	if (unzstd_bytes(s, 1, &window))
		return -EIO;
	log = (window >> 3) + UNZSTD_MIN_WINDOW_LOG;
	if (log > UNZSTD_MAX_WINDOW_LOG)
		return -EIO;
	*size = BIT_ULL(log) + (BIT_ULL(log) >> 3) * (window & 7);
	return 0;
}

/* 3.1.1.1.  There is nobody to get a dictionary from. */
static int unzstd_frame_header(struct unzstd_state *s, struct unzstd_frame *f)
{
	static const u8 dictionary_bytes[] = { 0, 1, 2, 4 };
	static const u8 size_bytes[] = { 0, 2, 4, 8 };
	u64 flags, window = 0, dictionary;
	u32 bytes;

	if (unzstd_bytes(s, 1, &flags) || flags & UNZSTD_RESERVED)
		return -EIO;
	if (!(flags & UNZSTD_SINGLE) && unzstd_window(s, &window))
		return -EIO;
	if (unzstd_bytes(s, dictionary_bytes[flags & UNZSTD_DICTIONARY],
			 &dictionary) || dictionary)
		return -EIO;
	bytes = size_bytes[flags >> UNZSTD_SIZE_SHIFT];
	if (!bytes && flags & UNZSTD_SINGLE)
		bytes = 1;
	if (unzstd_bytes(s, bytes, &f->size))
		return -EIO;
	if (!bytes)
		f->size = U64_MAX;
	if (bytes == 2)
		f->size += 256;
	if (flags & UNZSTD_SINGLE)
		window = f->size;
	f->block_max = min_t(u64, window, QBLK_UNZSTD_BLOCK);
	f->checksum = flags & UNZSTD_CHECKSUM;
	return 0;
}

/* What a frame ends with */
static int unzstd_frame_check(struct unzstd_state *s,
			      const struct unzstd_frame *f)
{
	size_t made = s->out - s->frame;
	u64 sum;

	if (f->size != U64_MAX && f->size != made)
		return -EIO;
	if (!f->checksum)
		return 0;
	if (unzstd_bytes(s, 4, &sum) || sum != (u32)xxh64(s->frame, made, 0))
		return -EIO;
	return 0;
}

/* 3.1.1.  Return: as unzstd_sequences(). */
static int unzstd_frame(struct unzstd_state *s)
{
	struct unzstd_frame f;
	bool last = false;
	int ret;

	ret = unzstd_frame_header(s, &f);
	s->frame = s->out;
	s->huf = 0;
	s->tables = 0;
	s->offsets = (struct unzstd_offsets){ { 1, 4, 8 } };
	while (!ret && !last)
		ret = unzstd_block(s, f.block_max, &last);
	return ret ?: unzstd_frame_check(s, &f);
}

/* 3.1.2 */
static int unzstd_skip(struct unzstd_state *s)
{
	u64 size;

	if (unzstd_bytes(s, 4, &size) || size > unzstd_rest(s))
		return -EIO;
	s->in += size;
	return 0;
}

/**
 * qblk_unzstd - decompress Zstandard data
 * @z: memory for tables and literals
 * @dst: gets the output
 * @size: bytes that the data makes
 * @need: the first that are wanted, at most @size; all that is written to
 * @src: frames, and what does not matter behind the one that makes the last byte
 * @src_len: bytes of it
 *
 * When less is wanted than there is, what does not matter for that is not looked
 * at, and checksums are not.  Context: process, may sleep; @src and @dst do not
 * overlap.
 *
 * Return: 0, or -EIO when the input does not make @size bytes, as far as was
 * looked; then @dst holds anything.
 */
int qblk_unzstd(struct qblk_unzstd *z, u8 *dst, size_t size, size_t need,
		const u8 *src, size_t src_len)
{
	struct unzstd_state s = {
		.in = src,
		.in_end = src + src_len,
		.out = dst,
		.end = dst + need,
		.partial = need < size,
		.z = z,
	};
	u64 magic;
	int ret = 0;

	while (!ret && s.out < s.end) {
		if (unzstd_bytes(&s, 4, &magic))
			return -EIO;
		if (magic == UNZSTD_MAGIC)
			ret = unzstd_frame(&s);
		else if (magic >> 4 == UNZSTD_SKIP_MAGIC >> 4)
			ret = unzstd_skip(&s);
		else
			return -EIO;
	}
	return min(ret, 0);
}
