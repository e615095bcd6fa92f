// SPDX-License-Identifier: GPL-2.0
/*
 * Zstandard: what the kernel's zstd compresses comes back, and what it takes for
 * broken is taken for broken.  Ours may refuse more, but not less.
 */
#include <kunit/test.h>
#include <linux/ktime.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/zstd.h>

#include "../format/unzstd.h"
#include "lzfill.h"
#include "memleaf.h"

/* Without zstd there is nothing to compare with. */
#if IS_REACHABLE(CONFIG_ZSTD_COMPRESS) && IS_REACHABLE(CONFIG_ZSTD_DECOMPRESS)

/* More than the largest block makes */
#define UNZSTD_BYTES		(132 << 10)
/* More than zstd makes of bytes that do not compress, in blocks of 1 KiB */
#define UNZSTD_ROOM		(UNZSTD_BYTES + 4096)
/* Beyond what is wanted, to find out that it is left alone */
#define UNZSTD_GUARD		64
/* What is compressed to be broken: a few blocks of 1 KiB */
#define UNZSTD_BROKEN		(6 << 10)
#define UNZSTD_HOSTILE		(64 << 10)

#define UNZSTD_MAX_LEVEL	19

/* The smallest window, of 1 KiB, which makes blocks as small */
#define UNZSTD_SMALL_WINDOW	10

/* Bits of a frame's first byte behind the magic number */
#define UNZSTD_SINGLE		BIT(5)

/* Header of a block; what its size means depends on the type. */
#define UNZSTD_LAST		1
#define UNZSTD_RAW		0
#define UNZSTD_RLE		2
#define UNZSTD_CODED		4
#define UNZSTD_RESERVED		6
#define UNZSTD_BLOCK(type, size)	((type) | (size) << 3)

/* Ways of the tables of lengths of literals, of offsets, of lengths of matches */
#define UNZSTD_FIXED		0
#define UNZSTD_ONE		1
#define UNZSTD_DESCRIBED	2
#define UNZSTD_AGAIN		3
#define UNZSTD_MODES(l, o, m)	((l) << 6 | (o) << 4 | (m) << 2)

static const u8 unzstd_magic[] = { 0x28, 0xb5, 0x2f, 0xfd };

/* A window of 128 KiB, and nothing is said about the content */
static const u8 unzstd_header[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38 };

/**
 * struct unzstd_how - how something is compressed
 * @level: of zstd
 * @window_log: of the window; 0 for the level's
 * @sized: say how much it is
 * @checksum: have one
 */
struct unzstd_how {
	int level;
	u32 window_log;
	bool sized;
	bool checksum;
};

/**
 * struct unzstd_bench - what a case works with
 * @z: tables
 * @plain: data
 * @packed: compressed
 * @packed_len: bytes of it
 * @out: what is made of it
 * @expected: what zstd makes of it
 * @cctx: workspace of zstd
 * @cctx_len: bytes of it
 * @dctx: workspace of zstd
 * @rnd: random numbers
 */
struct unzstd_bench {
	struct qblk_unzstd *z;
	u8 *plain;
	u8 *packed;
	u32 packed_len;
	u8 *out;
	u8 *expected;
	void *cctx;
	size_t cctx_len;
	void *dctx;
	struct rnd_state rnd;
};

static int unzstd_test_init(struct kunit *test)
{
	zstd_parameters largest = zstd_get_params(UNZSTD_MAX_LEVEL,
						  UNZSTD_BYTES);
	struct unzstd_bench *b = memleaf_valloc(test, sizeof(*b));

	b->z = memleaf_valloc(test, sizeof(*b->z));
	memset(b->z, 0xa5, sizeof(*b->z));
	b->plain = memleaf_valloc(test, UNZSTD_BYTES);
	b->packed = memleaf_valloc(test, UNZSTD_ROOM);
	b->out = memleaf_valloc(test, UNZSTD_BYTES + UNZSTD_GUARD);
	b->expected = memleaf_valloc(test, UNZSTD_BYTES);
	b->cctx_len = zstd_cctx_workspace_bound(&largest.cParams);
	b->cctx = memleaf_valloc(test, b->cctx_len);
	b->dctx = memleaf_valloc(test, zstd_dctx_workspace_bound());
	prandom_seed_state(&b->rnd, 61);
	test->priv = b;
	return 0;
}

static u32 unzstd_random(struct unzstd_bench *b, u32 below)
{
	return memleaf_random(&b->rnd, below);
}

static void unzstd_fill(struct unzstd_bench *b, enum lzfill_kind kind)
{
	lzfill(kind, b->plain, UNZSTD_BYTES, &b->rnd);
}

/* Compressed data */

static void unzstd_add(struct unzstd_bench *b, const void *bytes, u32 len)
{
	memcpy(b->packed + b->packed_len, bytes, len);
	b->packed_len += len;
}

static void unzstd_add_block(struct unzstd_bench *b, u32 header,
			     const void *bytes, u32 len)
{
	u8 le[] = { header, header >> 8, header >> 16 };

	unzstd_add(b, le, sizeof(le));
	unzstd_add(b, bytes, len);
}

/* A frame of @len bytes of the data */
static void unzstd_add_packed(struct kunit *test, u32 from, u32 len,
			      const struct unzstd_how *how)
{
	struct unzstd_bench *b = test->priv;
	zstd_parameters params = zstd_get_params(how->level, UNZSTD_BYTES);
	zstd_cctx *ctx = zstd_init_cctx(b->cctx, b->cctx_len);
	size_t n;

	KUNIT_ASSERT_NOT_NULL(test, ctx);
	if (how->window_log)
		params.cParams.windowLog = how->window_log;
	params.fParams.contentSizeFlag = how->sized;
	params.fParams.checksumFlag = how->checksum;
	n = zstd_compress_cctx(ctx, b->packed + b->packed_len,
			       UNZSTD_ROOM - b->packed_len, b->plain + from,
			       len, &params);
	KUNIT_ASSERT_FALSE(test, zstd_is_error(n));
	b->packed_len += n;
}

/* The first @len bytes of the data, and nothing else */
static void unzstd_pack(struct kunit *test, u32 len,
			const struct unzstd_how *how)
{
	struct unzstd_bench *b = test->priv;

	b->packed_len = 0;
	unzstd_add_packed(test, 0, len, how);
}

/* Frames until there is enough, and no frame may make more. */
static int unzstd_by_kernel(struct unzstd_bench *b, u32 size, u32 len)
{
	zstd_dctx *ctx = zstd_init_dctx(b->dctx, zstd_dctx_workspace_bound());
	size_t in = 0, out = 0, frame, n;

	while (out < size) {
		frame = zstd_find_frame_compressed_size(b->packed + in,
							len - in);
		if (zstd_is_error(frame))
			return -EIO;
		n = zstd_decompress_dctx(ctx, b->expected + out, size - out,
					 b->packed + in, frame);
		if (zstd_is_error(n))
			return -EIO;
		in += frame;
		out += n;
	}
	return 0;
}

/*
 * Nothing is read beyond the input, which has memory of its own for that, nor
 * written beyond what is wanted.
 */
static int unzstd_ours(struct kunit *test, u32 size, u32 need, u32 len)
{
	struct unzstd_bench *b = test->priv;
	u8 *src = kmemdup(b->packed, len, GFP_KERNEL);
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, src);
	memset(b->out, 0xa5, need + UNZSTD_GUARD);
	ret = qblk_unzstd(b->z, b->out, size, need, src, len);
	KUNIT_EXPECT_PTR_EQ(test, NULL,
			    memchr_inv(b->out + need, 0xa5, UNZSTD_GUARD));
	kfree(src);
	return ret;
}

/* What is good for ours as a whole is so for zstd, and is the same. */
static int unzstd_compare(struct kunit *test, u32 size, u32 need, u32 len)
{
	struct unzstd_bench *b = test->priv;
	int expected = unzstd_by_kernel(b, size, len);
	int ret = unzstd_ours(test, size, need, len);

	if (!ret && need == size)
		KUNIT_EXPECT_EQ(test, 0, expected);
	if (!ret && !expected)
		KUNIT_EXPECT_MEMEQ(test, b->expected, b->out, need);
	cond_resched();
	return ret;
}

/* Cases */

/* The data comes back, or the first @need bytes of it. */
static void unzstd_back(struct kunit *test, u32 size, u32 need, u32 len)
{
	struct unzstd_bench *b = test->priv;

	KUNIT_EXPECT_EQ(test, 0, unzstd_ours(test, size, need, len));
	KUNIT_EXPECT_MEMEQ(test, b->plain, b->out, need);
	cond_resched();
}

static void unzstd_round_trip_by(struct kunit *test, int level, u32 window_log)
{
	struct unzstd_bench *b = test->priv;
	struct unzstd_how how = {
		.level = level,
		.window_log = window_log,
		.sized = unzstd_random(b, 2),
		.checksum = unzstd_random(b, 2),
	};

	unzstd_pack(test, UNZSTD_BYTES, &how);
	unzstd_back(test, UNZSTD_BYTES, UNZSTD_BYTES, b->packed_len);
}

static void unzstd_round_trip(struct kunit *test)
{
	static const int levels[] = { 1, 3, 9, UNZSTD_MAX_LEVEL };
	struct unzstd_bench *b = test->priv;
	u32 fill, i;

	for (fill = 0; fill < LZFILL_KINDS; fill++) {
		unzstd_fill(b, fill);
		for (i = 0; i < ARRAY_SIZE(levels); i++) {
			unzstd_round_trip_by(test, levels[i], 0);
			unzstd_round_trip_by(test, levels[i],
					     UNZSTD_SMALL_WINDOW);
		}
	}
}

/* Of short data literals and sequences are said in other ways. */
static void unzstd_short(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	struct unzstd_how how = { .level = 3 };
	u32 fill, len;

	for (fill = 0; fill < LZFILL_KINDS; fill++) {
		unzstd_fill(b, fill);
		for (len = 1; len < 1200; len += 1 + len / 8) {
			how.sized = unzstd_random(b, 2);
			unzstd_pack(test, len, &how);
			unzstd_back(test, len, len, b->packed_len);
		}
	}
}

/* A part is made; of what is cut only what is there. */
static void unzstd_parts_of(struct kunit *test, const struct unzstd_how *how)
{
	struct unzstd_bench *b = test->priv;
	u32 i, need, len;

	unzstd_pack(test, UNZSTD_BYTES, how);
	for (i = 0; i < 40; i++) {
		len = b->packed_len;
		unzstd_back(test, UNZSTD_BYTES, i, len);
		unzstd_back(test, UNZSTD_BYTES, UNZSTD_BYTES - 1 - i, len);
		need = 1 + unzstd_random(b, UNZSTD_BYTES - 1);
		unzstd_back(test, UNZSTD_BYTES, need, len);
		KUNIT_EXPECT_EQ(test, -EIO, unzstd_ours(test, UNZSTD_BYTES,
							UNZSTD_BYTES,
							len - 1 - i));
		len = unzstd_random(b, b->packed_len);
		KUNIT_EXPECT_EQ(test, -EIO,
				unzstd_ours(test, UNZSTD_BYTES, UNZSTD_BYTES,
					    len));
		if (!unzstd_ours(test, UNZSTD_BYTES, need, len))
			KUNIT_EXPECT_MEMEQ(test, b->plain, b->out, need);
	}
}

static void unzstd_parts(struct kunit *test)
{
	static const struct unzstd_how hows[] = {
		{ 3, 0 }, { 9, UNZSTD_SMALL_WINDOW, true, true },
	};
	u32 i;

	unzstd_fill(test->priv, LZFILL_WORDS);
	for (i = 0; i < ARRAY_SIZE(hows); i++)
		unzstd_parts_of(test, &hows[i]);
}

/* The first block is enough for what it makes, whatever follows it. */
static void unzstd_first_block(struct kunit *test)
{
	static const struct unzstd_how how = { 3, UNZSTD_SMALL_WINDOW };
	struct unzstd_bench *b = test->priv;
	u32 at = sizeof(unzstd_header);
	u32 header;

	unzstd_fill(b, LZFILL_WORDS);
	unzstd_pack(test, UNZSTD_BYTES, &how);
	header = get_unaligned_le32(b->packed + at);
	/* one that is coded has all of its bytes */
	KUNIT_ASSERT_EQ(test, UNZSTD_CODED, header & 7);
	at += 3 + (header >> 3 & 0x1fffff);
	unzstd_back(test, UNZSTD_BYTES, 1024, at);
	KUNIT_EXPECT_EQ(test, -EIO, unzstd_ours(test, UNZSTD_BYTES, 1025, at));
	KUNIT_EXPECT_EQ(test, -EIO, unzstd_ours(test, UNZSTD_BYTES, 1, at - 1));
}

/* Frames of @first bytes and of the rest, between some that make nothing */
static void unzstd_frames_of(struct kunit *test, u32 first)
{
	/* four bytes of size, and as many bytes of anything */
	static const u8 skip_0[] = { 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0 };
	static const u8 skip_3[] = { 0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0,
				     0x28, 0xb5, 0x2f };
	static const struct unzstd_how how = { 3, 0, true, true };
	static const struct unzstd_how tiny = { 1, UNZSTD_SMALL_WINDOW };
	struct unzstd_bench *b = test->priv;

	b->packed_len = 0;
	unzstd_add(b, skip_3, sizeof(skip_3));
	unzstd_add(b, skip_0, sizeof(skip_0));
	unzstd_add_packed(test, 0, first, &how);
	unzstd_add_packed(test, 0, 0, &how);
	unzstd_add_packed(test, 0, 0, &tiny);
	unzstd_add(b, skip_3, sizeof(skip_3));
	unzstd_add_packed(test, first, UNZSTD_BROKEN - first, &tiny);
}

static void unzstd_frames(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	u32 i, first, len, size = UNZSTD_BROKEN;

	unzstd_fill(b, LZFILL_WORDS);
	for (i = 0; i < 20; i++) {
		first = i ? unzstd_random(b, size) : 0;
		unzstd_frames_of(test, first);
		len = b->packed_len;
		KUNIT_EXPECT_EQ(test, 0, unzstd_compare(test, size, size, len));
		unzstd_back(test, size, size, len);
		unzstd_back(test, size, first, len);
		unzstd_back(test, size, first + 1, len);
		unzstd_back(test, size, size - 1, len);
		/* less than there is, and more */
		KUNIT_EXPECT_EQ(test, -EIO, unzstd_compare(test, size - 1,
							   size - 1, len));
		KUNIT_EXPECT_EQ(test, -EIO, unzstd_compare(test, size + 1,
							   size + 1, len));
		prandom_bytes_state(&b->rnd, b->packed + len, 100);
		unzstd_back(test, size, size, len + 100);
	}
}

/* Only who wants all can find out. */
static void unzstd_wrong_end(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	u32 len = b->packed_len;

	KUNIT_EXPECT_EQ(test, -EIO,
			unzstd_compare(test, UNZSTD_BYTES, UNZSTD_BYTES, len));
	unzstd_back(test, UNZSTD_BYTES, UNZSTD_BYTES / 2, len);
}

static void unzstd_checksum(struct kunit *test)
{
	static const struct unzstd_how how = { 3, 0, false, true };
	struct unzstd_bench *b = test->priv;
	u32 bit;

	unzstd_fill(b, LZFILL_PERIODS);
	unzstd_pack(test, UNZSTD_BYTES, &how);
	unzstd_back(test, UNZSTD_BYTES, UNZSTD_BYTES, b->packed_len);
	for (bit = 0; bit < 32; bit++) {
		b->packed[b->packed_len - 4 + bit / 8] ^= 1 << bit % 8;
		unzstd_wrong_end(test);
		b->packed[b->packed_len - 4 + bit / 8] ^= 1 << bit % 8;
	}
}

static void unzstd_content_size(struct kunit *test)
{
	struct unzstd_how how = { 3, 0, true, false };
	struct unzstd_bench *b = test->priv;
	u8 *size;

	unzstd_fill(b, LZFILL_PERIODS);
	for (; how.window_log <= UNZSTD_SMALL_WINDOW;
	     how.window_log += UNZSTD_SMALL_WINDOW) {
		unzstd_pack(test, UNZSTD_BYTES, &how);
		/* behind the flags, and the window if there is one */
		size = b->packed + (b->packed[4] & UNZSTD_SINGLE ? 5 : 6);
		KUNIT_ASSERT_EQ(test, UNZSTD_BYTES, get_unaligned_le32(size));
		put_unaligned_le32(UNZSTD_BYTES - 1, size);
		unzstd_wrong_end(test);
		put_unaligned_le32(UNZSTD_BYTES + 1, size);
		unzstd_wrong_end(test);
	}
}

/* Bits that are wrong, mostly in the first block's header */
static bool unzstd_mutate(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	u32 size = UNZSTD_BROKEN;
	u32 len = b->packed_len;
	u32 at, bit;
	int ret;

	at = unzstd_random(b, unzstd_random(b, 2) ? min(len, 100U) : len);
	bit = 1 << unzstd_random(b, 8);
	b->packed[at] ^= bit;
	ret = unzstd_compare(test, size, size, len);
	if (!ret)
		KUNIT_EXPECT_EQ(test, 0, unzstd_compare(test, size, size / 2,
							len));
	else
		unzstd_compare(test, size, unzstd_random(b, size), len);
	b->packed[at] ^= bit;
	return !ret;
}

static void unzstd_mutations(struct kunit *test)
{
	static const struct unzstd_how hows[] = {
		{ 3, 0 }, { 9, UNZSTD_SMALL_WINDOW },
		{ UNZSTD_MAX_LEVEL, UNZSTD_SMALL_WINDOW },
	};
	struct unzstd_bench *b = test->priv;
	u32 fill, i, n, good = 0, bad = 0;

	for (fill = LZFILL_ZEROES; fill < LZFILL_KINDS; fill++) {
		unzstd_fill(b, fill);
		for (i = 0; i < ARRAY_SIZE(hows); i++) {
			unzstd_pack(test, UNZSTD_BROKEN, &hows[i]);
			for (n = 0; n < 200; n++)
				if (unzstd_mutate(test))
					good++;
				else
					bad++;
		}
	}
	kunit_info(test, "%u good, %u bad", good, bad);
	KUNIT_EXPECT_GT(test, good, 100);
	KUNIT_EXPECT_GT(test, bad, 100);
}

/* Anything at all, as a block of each type */
static void unzstd_garbage(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	u32 i, size, need, good = 0, bad = 0;
	u8 bytes[256];

	for (i = 0; i < 4000; i++) {
		size = 1 + unzstd_random(b, sizeof(bytes));
		need = i & 4 ? size : 1 + unzstd_random(b, size);
		prandom_bytes_state(&b->rnd, bytes, sizeof(bytes));
		b->packed_len = 0;
		unzstd_add(b, unzstd_header, sizeof(unzstd_header));
		unzstd_add_block(b, UNZSTD_BLOCK(i % 4 * 2, size) |
				    (i & 8 ? UNZSTD_LAST : 0),
				 bytes, sizeof(bytes));
		if (unzstd_compare(test, size, need,
				   unzstd_random(b, b->packed_len)))
			bad++;
		else
			good++;
	}
	kunit_info(test, "%u good, %u bad", good, bad);
	KUNIT_EXPECT_GT(test, good, 100);
	KUNIT_EXPECT_GT(test, bad, 100);
}

/* Frames made by hand */

/**
 * struct unzstd_special - such a frame
 * @desc: what is special
 * @ret: what is to become of it
 * @out: what it makes, or would make
 * @bytes: of it, without the magic number
 * @len: of these
 */
struct unzstd_special {
	const char *desc;
	int ret;
	const char *out;
	const u8 *bytes;
	u32 len;
};

#define UNZSTD_SPECIAL(text, returns, makes, ...)		\
{								\
	.desc = (text),						\
	.ret = (returns),					\
	.out = (makes),						\
	.bytes = (const u8[]){ __VA_ARGS__ },			\
	.len = sizeof((const u8[]){ __VA_ARGS__ }),		\
}

/*
 * One block with the literal a and one sequence, whose symbols of literals'
 * length, offset and match's length, and bits, are these; @extra goes to its
 * modes.
 */
#define UNZSTD_SEQUENCE(text, returns, makes, extra, litlen, offset, match, bits) \
	UNZSTD_SPECIAL(text, returns, makes, 0, 0,			\
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 8), 0, 0, \
		       1 << 3, 'a', 1,					\
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE,		\
				    UNZSTD_ONE) | (extra),		\
		       litlen, offset, match, bits)

/*
 * Headers are either of two bytes: the flag of a single segment, and its size; no
 * flag, and a window of 1 KiB.  Those of blocks are of three bytes.  Literals are
 * 5 bits of number and 3 of type in one byte, and 1 is one sequence.
 *
 * With one symbol for each table there are three bytes of symbols.  Literals'
 * length 1 and matches' length 0, which is 3, have no extra bits, those of an
 * offset as many as its symbol.  They are in the last byte, below the one that is
 * the highest.
 */
static const struct unzstd_special unzstd_specials[] = {
	UNZSTD_SPECIAL("raw block", 0, "hello", 0x20, 5,
		       UNZSTD_BLOCK(UNZSTD_RAW | UNZSTD_LAST, 5), 0, 0,
		       'h', 'e', 'l', 'l', 'o'),
	UNZSTD_SPECIAL("RLE block", 0, "xxxxxxx", 0x20, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("RLE literals and no sequence", 0, "xxxxxxx", 0x20, 7,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3), 0, 0,
		       7 << 3 | 1, 'x', 0),
	UNZSTD_SPECIAL("RLE literals without a byte", -EIO, "xxxxxxx", 0x20, 7,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 1), 0, 0,
		       7 << 3 | 1),
	UNZSTD_SPECIAL("more raw literals than bytes", -EIO, "abc", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3), 0, 0,
		       3 << 3, 'a', 'b', 'c', 0),
	UNZSTD_SPECIAL("a byte behind no sequence", -EIO, "x", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 4), 0, 0,
		       1 << 3 | 1, 'x', 0, 0),
	UNZSTD_SPECIAL("reserved block", -EIO, "hello", 0x20, 5,
		       UNZSTD_BLOCK(UNZSTD_RESERVED | UNZSTD_LAST, 5), 0, 0,
		       'h', 'e', 'l', 'l', 'o'),
	UNZSTD_SPECIAL("block over the window", -EIO, "xxxxxxx", 0x20, 5,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("unused bit", 0, "xxxxxxx", 0x30, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("reserved bit", -EIO, "xxxxxxx", 0x28, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("dictionary 0, which is none", 0, "xxxxxxx", 0x21, 0, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("dictionary in one byte", -EIO, "xxxxxxx", 0x21, 1, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("dictionary in two bytes", -EIO, "xxxxxxx",
		       0x22, 0, 1, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("dictionary in four bytes", -EIO, "xxxxxxx",
		       0x23, 0, 0, 0, 1, 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("largest window", 0, "xxxxxxx", 0, (31 - 10) << 3 | 7,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SPECIAL("window over the maximum", -EIO, "xxxxxxx",
		       0, (32 - 10) << 3,
		       UNZSTD_BLOCK(UNZSTD_RLE | UNZSTD_LAST, 7), 0, 0, 'x'),
	UNZSTD_SEQUENCE("offset 4 - 3", 0, "aaaa",
			0, 1, 2, 0, BIT(2) | 0),
	UNZSTD_SEQUENCE("offset beyond the frame's start", -EIO, "aaaa",
			0, 1, 2, 0, BIT(2) | 1),
	UNZSTD_SPECIAL("offset into the frame before", -EIO, "helloaaaa", 0x20, 5,
		       UNZSTD_BLOCK(UNZSTD_RAW | UNZSTD_LAST, 5), 0, 0,
		       'h', 'e', 'l', 'l', 'o',
		       0x28, 0xb5, 0x2f, 0xfd, 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 8), 0, 0,
		       1 << 3, 'a', 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE),
		       1, 2, 0, BIT(2) | 1),
	UNZSTD_SEQUENCE("bits left over", -EIO, "aaaa",
			0, 1, 2, 0, BIT(3) | 0),
	UNZSTD_SEQUENCE("bits missing", -EIO, "aaaa",
			0, 1, 2, 0, BIT(1) | 0),
	UNZSTD_SEQUENCE("bits without an end", -EIO, "aaaa",
			0, 1, 0, 0, 0),
	UNZSTD_SEQUENCE("more literals than there are", -EIO, "aaaaa",
			0, 2, 2, 0, BIT(2) | 0),
	UNZSTD_SEQUENCE("literals' length unknown", -EIO, "aaaa",
			0, 36, 2, 0, BIT(2) | 0),
	UNZSTD_SEQUENCE("match's length unknown", -EIO, "aaaa",
			0, 1, 2, 53, BIT(2) | 0),
	UNZSTD_SEQUENCE("reserved bit of the modes", -EIO, "aaaa",
			1, 1, 2, 0, BIT(2) | 0),
	/* without literals they count from the second one on: 4, 8, 1 - 1 */
	UNZSTD_SPECIAL("second last offset", 0, "abcdabc", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_RAW, 4), 0, 0, 'a', 'b', 'c', 'd',
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 7), 0, 0,
		       0, 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE),
		       0, 0, 0, 1),
	UNZSTD_SPECIAL("third last offset, beyond the start", -EIO, "abcdabc",
		       0, 0,
		       UNZSTD_BLOCK(UNZSTD_RAW, 4), 0, 0, 'a', 'b', 'c', 'd',
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 7), 0, 0,
		       0, 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE),
		       0, 1, 0, BIT(1) | 0),
	UNZSTD_SPECIAL("offset 0", -EIO, "abcdabc", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_RAW, 4), 0, 0, 'a', 'b', 'c', 'd',
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 7), 0, 0,
		       0, 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE),
		       0, 1, 0, BIT(1) | 1),
	UNZSTD_SPECIAL("tables again", 0, "aaaabbbb", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED, 8), 0, 0, 1 << 3, 'a', 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE),
		       1, 2, 0, BIT(2) | 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 5), 0, 0,
		       1 << 3, 'b', 1,
		       UNZSTD_MODES(UNZSTD_AGAIN, UNZSTD_AGAIN, UNZSTD_AGAIN),
		       BIT(2) | 0),
	UNZSTD_SPECIAL("table of literals' lengths from nowhere", -EIO, "aaaa",
		       0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 7), 0, 0,
		       1 << 3, 'a', 1,
		       UNZSTD_MODES(UNZSTD_AGAIN, UNZSTD_ONE, UNZSTD_ONE),
		       2, 0, BIT(2) | 0),
	UNZSTD_SPECIAL("table of offsets from nowhere", -EIO, "aaaa", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 7), 0, 0,
		       1 << 3, 'a', 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_AGAIN, UNZSTD_ONE),
		       1, 0, BIT(2) | 0),
	UNZSTD_SPECIAL("table of matches' lengths from nowhere", -EIO, "aaaa",
		       0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 7), 0, 0,
		       1 << 3, 'a', 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_AGAIN),
		       1, 2, BIT(2) | 0),
	/* the table of another frame is none */
	UNZSTD_SPECIAL("tables of the frame before", -EIO, "aaaabbbb", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 8), 0, 0,
		       1 << 3, 'a', 1,
		       UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE),
		       1, 2, 0, BIT(2) | 0,
		       0x28, 0xb5, 0x2f, 0xfd, 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 5), 0, 0,
		       1 << 3, 'b', 1,
		       UNZSTD_MODES(UNZSTD_AGAIN, UNZSTD_AGAIN, UNZSTD_AGAIN),
		       BIT(2) | 0),
	/*
	 * Four bits of type and streams, ten of literals, ten of bytes; a
	 * description of 'a' weights, all 0 but the last one, and the last one
	 * that is not said: codes of one bit.
	 */
	UNZSTD_SPECIAL("coded literals, then treeless ones", 0, "\2\1\1\2", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED, 3 + 2 + 1 + 1), 0, 0,
		       2 << 4 | 2, (3 << 14 | 2 << 4) >> 8, 3 >> 2,
		       127 + 2, 0x01, BIT(2) | 2, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3 + 1 + 1),
		       0, 0,
		       2 << 4 | 3, (1 << 14 | 2 << 4) >> 8, 1 >> 2,
		       BIT(2) | 1, 0),
	UNZSTD_SPECIAL("treeless literals in the first block", -EIO, "\1\2", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3 + 1 + 1),
		       0, 0,
		       2 << 4 | 3, (1 << 14 | 2 << 4) >> 8, 1 >> 2,
		       BIT(2) | 1, 0),
	UNZSTD_SPECIAL("treeless literals in the next frame", -EIO, "\2\1\1\2",
		       0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3 + 2 + 1 + 1),
		       0, 0,
		       2 << 4 | 2, (3 << 14 | 2 << 4) >> 8, 3 >> 2,
		       127 + 2, 0x01, BIT(2) | 2, 0,
		       0x28, 0xb5, 0x2f, 0xfd, 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3 + 1 + 1),
		       0, 0,
		       2 << 4 | 3, (1 << 14 | 2 << 4) >> 8, 1 >> 2,
		       BIT(2) | 1, 0),
	UNZSTD_SPECIAL("a code of one literal", -EIO, "\1\1", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3 + 2 + 1 + 1),
		       0, 0,
		       2 << 4 | 2, (3 << 14 | 2 << 4) >> 8, 3 >> 2,
		       127 + 2, 0x00, BIT(2) | 0, 0),
	/* sizes of three streams, then one of 1 literal each, the last of none */
	UNZSTD_SPECIAL("four streams of three literals", -EIO, "\1\1\1", 0, 0,
		       UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 3 + 12 + 1),
		       0, 0,
		       (3 << 4 | 1 << 2 | 2) & 0xff,
		       (12 << 14 | 3 << 4) >> 8 & 0xff, 12 >> 2,
		       127 + 2, 0x01, 1, 0, 1, 0, 1, 0,
		       BIT(1) | 0, BIT(1) | 0, BIT(1) | 0, BIT(0), 0),
};

static void unzstd_special(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	const struct unzstd_special *s;
	u32 i, size;

	for (i = 0; i < ARRAY_SIZE(unzstd_specials); i++) {
		s = &unzstd_specials[i];
		size = strlen(s->out);
		b->packed_len = 0;
		unzstd_add(b, unzstd_magic, sizeof(unzstd_magic));
		unzstd_add(b, s->bytes, s->len);
		KUNIT_EXPECT_EQ_MSG(test, s->ret,
				    unzstd_compare(test, size, size,
						   b->packed_len),
				    "%s", s->desc);
		if (!s->ret)
			KUNIT_EXPECT_MEMEQ_MSG(test, s->out, b->out, size,
					       "%s", s->desc);
	}
}

/* Matches of three bytes, @nr of them, behind @first bytes */
static int unzstd_matches(struct kunit *test, u32 first, u32 nr)
{
	const u8 bytes[] = {
		/* no literals; a number, in three bytes or in two */
		0, 255, nr - 0x7f00, (nr - 0x7f00) >> 8,
		UNZSTD_MODES(UNZSTD_ONE, UNZSTD_ONE, UNZSTD_ONE), 0, 0, 0,
		1,
		/* behind the frame, for the fast loop to have it */
		0, 0, 0, 0, 0, 0, 0, 0,
	};
	struct unzstd_bench *b = test->priv;
	u32 size = first + 3 * nr;

	b->packed_len = 0;
	unzstd_add(b, unzstd_header, sizeof(unzstd_header));
	unzstd_add_block(b, UNZSTD_BLOCK(UNZSTD_RAW, first), "abcdefgh", first);
	unzstd_add_block(b, UNZSTD_BLOCK(UNZSTD_CODED | UNZSTD_LAST, 9), bytes,
			 sizeof(bytes));
	return unzstd_compare(test, size, size, b->packed_len);
}

/*
 * The first match is from 4 bytes back.  A block makes 128 KiB at most; less than
 * 0x7f00 matches are not said in three bytes.
 */
static void unzstd_many_matches(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 0, unzstd_matches(test, 4, 0x7f00));
	KUNIT_EXPECT_EQ(test, 0, unzstd_matches(test, 8, 40000));
	KUNIT_EXPECT_EQ(test, 0, unzstd_matches(test, 8, (128 << 10) / 3));
	KUNIT_EXPECT_EQ(test, -EIO, unzstd_matches(test, 8,
						   (128 << 10) / 3 + 1));
	KUNIT_EXPECT_EQ(test, -EIO, unzstd_matches(test, 3, 40000));
}

/* Time */

/**
 * struct unzstd_block - what there is many of
 * @desc: what it is
 * @makes: bytes
 * @bytes: without the header
 * @len: of these
 */
struct unzstd_block {
	const char *desc;
	u32 makes;
	u8 bytes[24];
	u32 len;
};

/* Matches are of three bytes, from 4 or 1 back. */
static const struct unzstd_block unzstd_tiny[] = {
	/* a raw one */
	{ .desc = "empty" },
	/* no literals, one sequence of the first states: 6, 5, 6 bits */
	{ .desc = "known tables", .makes = 3, .len = 6,
	  .bytes = { 0, 1, UNZSTD_MODES(UNZSTD_FIXED, UNZSTD_FIXED,
					UNZSTD_FIXED), 0, 0, 1 << 1 } },
	{ .desc = "tables", .makes = 4, .len = 23, .bytes = {
		/* one literal in eight bytes */
		1 << 4 | 2, 8 << 14 >> 8 & 0xff, 8 >> 2,
		/* eleven weights, 11 to 1, and another 1: codes up to 11 bits */
		127 + 11, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10,
		/* its code of one bit */
		BIT(1) | 1,
		1, UNZSTD_MODES(UNZSTD_DESCRIBED, UNZSTD_DESCRIBED,
				UNZSTD_DESCRIBED),
		/* 512, 256 and 512 states of the first symbol */
		0xf4, 0x3f, 0xf3, 0x1f, 0xf4, 0x3f,
		/* the first states: 9, 8 and 9 bits */
		0, 0, 0, 1 << 2,
	} },
};

/* Return: bytes that it all makes */
static u32 unzstd_add_tiny(struct unzstd_bench *b,
			   const struct unzstd_block *t)
{
	u32 type = t->len ? UNZSTD_CODED : UNZSTD_RAW;
	u32 i, nr = UNZSTD_HOSTILE / (3 + t->len);

	b->packed_len = 0;
	unzstd_add(b, unzstd_header, sizeof(unzstd_header));
	unzstd_add_block(b, UNZSTD_BLOCK(UNZSTD_RAW, 4), "abcd", 4);
	for (i = 1; i < nr; i++)
		unzstd_add_block(b, UNZSTD_BLOCK(type, t->len), t->bytes,
				 t->len);
	unzstd_add_block(b, UNZSTD_BLOCK(type | UNZSTD_LAST, t->len), t->bytes,
			 t->len);
	return 4 + nr * t->makes;
}

/* Many that take few bytes take no longer than with zstd, about. */
static void unzstd_tiny_blocks(struct kunit *test)
{
	struct unzstd_bench *b = test->priv;
	u64 begin, middle, end;
	u32 i, size;

	for (i = 0; i < ARRAY_SIZE(unzstd_tiny); i++) {
		size = unzstd_add_tiny(b, &unzstd_tiny[i]);
		KUNIT_EXPECT_EQ_MSG(test, 0,
				    unzstd_compare(test, size, size,
						   b->packed_len),
				    "%s", unzstd_tiny[i].desc);
		begin = ktime_get_ns();
		unzstd_by_kernel(b, size, b->packed_len);
		middle = ktime_get_ns();
		qblk_unzstd(b->z, b->out, size, size, b->packed, b->packed_len);
		end = ktime_get_ns();
		kunit_info(test, "%s: %llu us, zstd %llu us",
			   unzstd_tiny[i].desc, (end - middle) / 1000,
			   (middle - begin) / 1000);
		KUNIT_EXPECT_LT(test, end - middle,
				10 * (middle - begin) + 50 * NSEC_PER_MSEC);
	}
}

static struct kunit_case unzstd_kunit_cases[] = {
	KUNIT_CASE(unzstd_round_trip),
	KUNIT_CASE(unzstd_short),
	KUNIT_CASE(unzstd_parts),
	KUNIT_CASE(unzstd_first_block),
	KUNIT_CASE(unzstd_frames),
	KUNIT_CASE(unzstd_checksum),
	KUNIT_CASE(unzstd_content_size),
	KUNIT_CASE(unzstd_mutations),
	KUNIT_CASE(unzstd_garbage),
	KUNIT_CASE(unzstd_special),
	KUNIT_CASE(unzstd_many_matches),
	KUNIT_CASE(unzstd_tiny_blocks),
	{}
};

static struct kunit_suite unzstd_kunit_suite = {
	.name = "qblk_unzstd",
	.init = unzstd_test_init,
	.test_cases = unzstd_kunit_cases,
};

kunit_test_suite(unzstd_kunit_suite);

#endif
