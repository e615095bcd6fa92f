// SPDX-License-Identifier: GPL-2.0
#include "lzfill.h"

#include <linux/bitops.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include "memleaf.h"

static void lzfill_random(u8 *buf, u32 len, struct rnd_state *rnd)
{
	prandom_bytes_state(rnd, buf, len);
}

static void lzfill_zeroes(u8 *buf, u32 len, struct rnd_state *rnd)
{
	memset(buf, 0, len);
}

/* What repeats is this long. */
static void lzfill_periods(u8 *buf, u32 len, struct rnd_state *rnd)
{
	u32 i, period = 1;

	for (i = 0; i < len; i++) {
		if (i % 512 < 16)
			period = 1 + i / 512 % 16;
		buf[i] = i % 512 < 16 ? i / 7 : buf[i - period];
	}
}

/* Words, some of them far back */
static void lzfill_words(u8 *buf, u32 len, struct rnd_state *rnd)
{
	u32 i, n, from;

	lzfill_random(buf, len, rnd);
	for (i = 256; i < len; i += n) {
		n = 1 + memleaf_random(rnd, 300);
		n = min(n, len - i);
		from = memleaf_random(rnd, i);
		if (memleaf_random(rnd, 4))
			memmove(buf + i, buf + from, min(n, i - from));
	}
}

/* Few symbols, each half as often as the one before: the longest codes */
static void lzfill_skewed(u8 *buf, u32 len, struct rnd_state *rnd)
{
	u32 i;

	for (i = 0; i < len; i++)
		buf[i] = ffs(prandom_u32_state(rnd)) * 7;
}

static void (*const lzfills[LZFILL_KINDS])(u8 *buf, u32 len,
					   struct rnd_state *rnd) = {
	[LZFILL_RANDOM] = lzfill_random,
	[LZFILL_ZEROES] = lzfill_zeroes,
	[LZFILL_PERIODS] = lzfill_periods,
	[LZFILL_WORDS] = lzfill_words,
	[LZFILL_SKEWED] = lzfill_skewed,
};

/**
 * lzfill - make data of a kind
 * @kind: which
 * @buf: gets it
 * @len: bytes
 * @rnd: random numbers
 */
void lzfill(enum lzfill_kind kind, u8 *buf, u32 len, struct rnd_state *rnd)
{
	lzfills[kind](buf, len, rnd);
}
