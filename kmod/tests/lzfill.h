/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Data for the suites of decompression: each kind compresses in its own way.
 */
#ifndef _QBLK_TESTS_LZFILL_H
#define _QBLK_TESTS_LZFILL_H

#include <linux/prandom.h>
#include <linux/types.h>

enum lzfill_kind {
	LZFILL_RANDOM,
	LZFILL_ZEROES,
	LZFILL_PERIODS,
	LZFILL_WORDS,
	LZFILL_SKEWED,
	LZFILL_KINDS
};

void lzfill(enum lzfill_kind kind, u8 *buf, u32 len, struct rnd_state *rnd);

#endif /* _QBLK_TESTS_LZFILL_H */
