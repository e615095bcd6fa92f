// SPDX-License-Identifier: GPL-2.0
/*
 * Deflate: what zlib compresses comes back, and what is broken is taken for
 * broken by both.
 */
#include <kunit/test.h>
#include <linux/ktime.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/zlib.h>

#include "../format/inflate.h"
#include "lzfill.h"
#include "memleaf.h"

/* Without zlib there is nothing to compare with. */
#if IS_REACHABLE(CONFIG_ZLIB_DEFLATE) && IS_REACHABLE(CONFIG_ZLIB_INFLATE)

#define INFLATE_BYTES	(64 << 10)
/* More than deflate makes of bytes that do not compress */
#define INFLATE_ROOM	(INFLATE_BYTES + 4096)
/* Beyond what is wanted, to find out that it is left alone */
#define INFLATE_GUARD	64

/**
 * struct inflate_bench - what a case works with
 * @z: tables
 * @plain: data
 * @packed: compressed
 * @packed_len: bytes of it
 * @out: what is made of it
 * @expected: what zlib makes of it
 * @deflate: workspace of zlib
 * @inflate: workspace of zlib
 * @rnd: random numbers
 */
struct inflate_bench {
	struct qblk_inflate *z;
	u8 *plain;
	u8 *packed;
	u32 packed_len;
	u8 *out;
	u8 *expected;
	void *deflate;
	void *inflate;
	struct rnd_state rnd;
};

static void *inflate_buffer(struct kunit *test, size_t bytes)
{
	void *p = kunit_kmalloc(test, bytes, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	return p;
}

static int inflate_test_init(struct kunit *test)
{
	struct inflate_bench *b = inflate_buffer(test, sizeof(*b));

	b->z = inflate_buffer(test, sizeof(*b->z));
	b->plain = inflate_buffer(test, INFLATE_BYTES);
	b->packed = inflate_buffer(test, INFLATE_ROOM);
	b->out = inflate_buffer(test, INFLATE_BYTES + INFLATE_GUARD);
	b->expected = inflate_buffer(test, INFLATE_BYTES);
	b->deflate = inflate_buffer(test,
				    zlib_deflate_workspacesize(MAX_WBITS, 8));
	b->inflate = inflate_buffer(test, zlib_inflate_workspacesize());
	prandom_seed_state(&b->rnd, 60);
	test->priv = b;
	return 0;
}

static u32 inflate_random(struct inflate_bench *b, u32 below)
{
	return memleaf_random(&b->rnd, below);
}

static void inflate_fill(struct inflate_bench *b, enum lzfill_kind kind)
{
	lzfill(kind, b->plain, INFLATE_BYTES, &b->rnd);
}

/* zlib */

static void inflate_pack(struct kunit *test, struct inflate_bench *b, int level,
			 int window, int strategy)
{
	struct z_stream_s strm = {
		.workspace = b->deflate,
		.next_in = b->plain,
		.avail_in = INFLATE_BYTES,
		.next_out = b->packed,
		.avail_out = INFLATE_ROOM,
	};

	KUNIT_ASSERT_EQ(test, Z_OK,
			zlib_deflateInit2(&strm, level, Z_DEFLATED, -window, 8,
					  strategy));
	KUNIT_ASSERT_EQ(test, Z_STREAM_END, zlib_deflate(&strm, Z_FINISH));
	zlib_deflateEnd(&strm);
	b->packed_len = INFLATE_ROOM - strm.avail_out;
}

/* Whether all that is wanted is made, even if something is wrong after it */
static int inflate_by_zlib(struct inflate_bench *b, u32 want, u32 len)
{
	struct z_stream_s strm = {
		.workspace = b->inflate,
		.next_in = b->packed,
		.avail_in = len,
		.next_out = b->expected,
		.avail_out = want,
	};

	zlib_inflateInit2(&strm, -MAX_WBITS);
	zlib_inflate(&strm, Z_FINISH);
	zlib_inflateEnd(&strm);
	return strm.avail_out ? -EIO : 0;
}

/* Both say the same, and nothing is written where it should not be. */
static int inflate_compare(struct kunit *test, struct inflate_bench *b,
			   u32 want, u32 len)
{
	int ret, expected = inflate_by_zlib(b, want, len);

	memset(b->out + want, 0xa5, INFLATE_GUARD);
	ret = qblk_inflate(b->z, b->out, want, b->packed, len);
	KUNIT_EXPECT_EQ(test, expected, ret);
	if (!ret)
		KUNIT_EXPECT_MEMEQ(test, b->out, b->expected, want);
	KUNIT_EXPECT_PTR_EQ(test, NULL,
			    memchr_inv(b->out + want, 0xa5, INFLATE_GUARD));
	return ret;
}

/* Cases */

static void inflate_back(struct kunit *test, struct inflate_bench *b, int level,
			 int window, int strategy)
{
	inflate_pack(test, b, level, window, strategy);
	memset(b->out, 0xa5, INFLATE_BYTES);
	KUNIT_EXPECT_EQ(test, 0, inflate_compare(test, b, INFLATE_BYTES,
						 b->packed_len));
	KUNIT_EXPECT_MEMEQ(test, b->plain, b->out, INFLATE_BYTES);
	cond_resched();
}

static void inflate_round_trip(struct kunit *test)
{
	static const int strategies[] = {
		Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY,
	};
	struct inflate_bench *b = test->priv;
	u32 fill, level, i;

	for (fill = 0; fill < LZFILL_KINDS; fill++) {
		inflate_fill(b, fill);
		for (i = 0; i < ARRAY_SIZE(strategies); i++)
			for (level = 0; level <= 9; level += 3)
				inflate_back(test, b, level, i ? 15 : 12,
					     strategies[i]);
	}
}

/* A part is made without what follows it; one byte too little is too little. */
static void inflate_parts(struct kunit *test)
{
	struct inflate_bench *b = test->priv;
	u32 i;

	inflate_fill(b, LZFILL_WORDS);
	inflate_pack(test, b, 6, 12, Z_DEFAULT_STRATEGY);
	for (i = 0; i < 80; i++) {
		inflate_compare(test, b, 1 + i, b->packed_len);
		inflate_compare(test, b, INFLATE_BYTES - i, b->packed_len);
		inflate_compare(test, b, 1 + i, i);
		inflate_compare(test, b, INFLATE_BYTES, b->packed_len - i);
		inflate_compare(test, b, 1 + inflate_random(b, INFLATE_BYTES),
				inflate_random(b, b->packed_len));
		cond_resched();
	}
}

static void inflate_mutations(struct kunit *test)
{
	struct inflate_bench *b = test->priv;
	u32 fill, i, n, at, bit, len;
	int good = 0, bad = 0;

	for (fill = LZFILL_ZEROES; fill < LZFILL_KINDS; fill++) {
		inflate_fill(b, fill);
		inflate_pack(test, b, 6, 12,
			     fill == LZFILL_WORDS ? Z_HUFFMAN_ONLY :
						    Z_DEFAULT_STRATEGY);
		for (i = 0; i < 150; i++) {
			/* mostly the first block's header */
			len = i % 4 ? min(b->packed_len, 200U) : b->packed_len;
			at = inflate_random(b, len);
			bit = 1 << inflate_random(b, 8);
			b->packed[at] ^= bit;
			n = 1 + inflate_random(b, INFLATE_BYTES);
			if (inflate_compare(test, b, n, b->packed_len))
				bad++;
			else
				good++;
			b->packed[at] ^= bit;
			cond_resched();
		}
	}
	KUNIT_EXPECT_GT(test, good, 30);
	KUNIT_EXPECT_GT(test, bad, 30);
}

/* Anything at all, as the start of a block of each kind */
static void inflate_garbage(struct kunit *test)
{
	struct inflate_bench *b = test->priv;
	u32 i;

	for (i = 0; i < 2000; i++) {
		prandom_bytes_state(&b->rnd, b->packed, 256);
		if (i % 4)
			b->packed[0] = (b->packed[0] & ~7) | (i % 4) << 1;
		inflate_compare(test, b, 1 + inflate_random(b, 1000),
				inflate_random(b, 256));
	}
}

static u64 inflate_time(struct inflate_bench *b,
			int (*inflate)(struct inflate_bench *b))
{
	u64 begin = ktime_get_ns();
	int i;

	/* long enough for any clock */
	for (i = 0; i < 4; i++)
		inflate(b);
	return ktime_get_ns() - begin;
}

static int inflate_all_by_zlib(struct inflate_bench *b)
{
	return inflate_by_zlib(b, 1, b->packed_len);
}

static int inflate_all(struct inflate_bench *b)
{
	return qblk_inflate(b->z, b->out, 1, b->packed, b->packed_len);
}

/*
 * Blocks of ten bits that hold nothing: 1, 2 and 7 bits.  To make tables for
 * each took a hundred times as long as zlib takes.
 */
static void inflate_empty_blocks(struct kunit *test)
{
	struct inflate_bench *b = test->priv;
	u64 zlib, ours;
	u32 i;

	b->packed_len = INFLATE_BYTES;
	memset(b->packed, 0, b->packed_len);
	for (i = 0; i < b->packed_len * 8 - 10; i += 10)
		b->packed[(i + 1) / 8] |= 1 << (i + 1) % 8;
	KUNIT_EXPECT_EQ(test, -EIO, inflate_compare(test, b, 1,
						    b->packed_len));
	zlib = inflate_time(b, inflate_all_by_zlib);
	ours = inflate_time(b, inflate_all);
	kunit_info(test, "%llu us, zlib %llu us", ours / 1000, zlib / 1000);
	KUNIT_EXPECT_LT(test, ours, 20 * zlib + 100 * NSEC_PER_MSEC);
}

static struct kunit_case inflate_kunit_cases[] = {
	KUNIT_CASE(inflate_round_trip),
	KUNIT_CASE(inflate_parts),
	KUNIT_CASE(inflate_mutations),
	KUNIT_CASE(inflate_garbage),
	KUNIT_CASE(inflate_empty_blocks),
	{}
};

static struct kunit_suite inflate_kunit_suite = {
	.name = "qblk_inflate",
	.init = inflate_test_init,
	.test_cases = inflate_kunit_cases,
};

kunit_test_suite(inflate_kunit_suite);

#endif
