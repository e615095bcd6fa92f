// SPDX-License-Identifier: GPL-2.0
/*
 * What libzstd compresses is what we decompress.  The first bytes say how it is
 * compressed and how much of it is wanted, the others are the data.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "fuzz.h"

#include "../../../kmod/format/unzstd.h"

struct header {
	u8 level;
	u8 how;
	u8 extras;
	u8 times;
	u8 split;
	u8 need[3];
};

/* header.how: bits; with a window of 1 KiB, blocks are not larger */
#define HOW_SMALL_WINDOW	BIT(0)
#define HOW_CHECKSUM		BIT(1)
#define HOW_SIZE		BIT(2)
#define HOW_TWO_FRAMES		BIT(3)
#define HOW_HUFFMAN		BIT(4)
#define HOW_SMALL_BLOCKS	BIT(5)
#define HOW_LONG		BIT(6)

/* header.extras: bits, what comes before each frame; and behind all of them */
#define EXTRA_SKIPPABLE		BIT(0)
#define EXTRA_EMPTY		BIT(1)
#define EXTRA_GARBAGE		BIT(2)

/* More than a block */
#define MAX_SIZE	(160 << 10)
#define MAX_PACKED	(2 * MAX_SIZE)

static const u8 skippable[] = {
	0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 0x28, 0xb5, 0x2f,
};

struct packed {
	size_t len;
	u8 bytes[MAX_PACKED];
};

static void set(ZSTD_CCtx *ctx, ZSTD_cParameter param, int value)
{
	EXPECT(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, param, value)));
}

static ZSTD_CCtx *compressor(const struct header *h)
{
	static const int levels[] = { 1, 3, 9, 19, -1, -20, 5, 13 };
	static ZSTD_CCtx *ctx;

	if (!ctx)
		ctx = ZSTD_createCCtx();
	EXPECT(ctx);
	ZSTD_CCtx_reset(ctx, ZSTD_reset_session_and_parameters);
	set(ctx, ZSTD_c_compressionLevel,
	    levels[h->level % ARRAY_SIZE(levels)]);
	if (h->how & HOW_SMALL_WINDOW)
		set(ctx, ZSTD_c_windowLog, 10);
	set(ctx, ZSTD_c_checksumFlag, !!(h->how & HOW_CHECKSUM));
	set(ctx, ZSTD_c_contentSizeFlag, !!(h->how & HOW_SIZE));
	if (h->how & HOW_HUFFMAN)
		set(ctx, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
	if (h->how & HOW_SMALL_BLOCKS)
		set(ctx, ZSTD_c_targetCBlockSize, ZSTD_TARGETCBLOCKSIZE_MIN);
	if (h->how & HOW_LONG)
		set(ctx, ZSTD_c_enableLongDistanceMatching, 1);
	return ctx;
}

static void pack(struct packed *p, ZSTD_CCtx *ctx, const void *src, size_t len)
{
	size_t n = ZSTD_compress2(ctx, p->bytes + p->len, MAX_PACKED - p->len,
				  src, len);

	EXPECT(!ZSTD_isError(n));
	p->len += n;
}

static void pack_frame(struct packed *p, const struct header *h,
		       const u8 *src, size_t len)
{
	ZSTD_CCtx *ctx = compressor(h);

	if (h->extras & EXTRA_SKIPPABLE) {
		memcpy(p->bytes + p->len, skippable, sizeof(skippable));
		p->len += sizeof(skippable);
	}
	if (h->extras & EXTRA_EMPTY)
		pack(p, ctx, NULL, 0);
	pack(p, ctx, src, len);
}

static void pack_all(struct packed *p, const struct header *h, const u8 *src,
		     size_t len)
{
	size_t first = len;

	if (h->how & HOW_TWO_FRAMES)
		first = len * h->split / 256;
	p->len = 0;
	if (first)
		pack_frame(p, h, src, first);
	if (first < len)
		pack_frame(p, h, src + first, len - first);
}

/*
 * The same again and again, each time a little different.  Mostly not often: to
 * compress much takes long.
 */
static size_t make_plain(u8 *plain, const struct header *h, const u8 *data,
			 size_t len)
{
	size_t times = h->times < 240 ? 1 + h->times % 4 : MAX_SIZE, at, i;

	times = min_t(size_t, times, MAX_SIZE / len);
	for (i = 0; i < times; i++) {
		memcpy(plain + i * len, data, len);
		for (at = i; at < len; at += 1 + h->times * (i + 1))
			plain[i * len + at] += i;
	}
	return times * len;
}

/* Memory and bytes as in the kernel: as long as they may be used. */
static int unpack(const u8 *plain, size_t size, size_t need, const u8 *packed,
		  size_t len)
{
	static struct qblk_unzstd z;
	u8 *src = malloc(len), *dst = malloc(need);
	int ret;

	EXPECT((src || !len) && dst);
	memcpy(src, packed, len);
	memset(&z, 0xa5, sizeof(z));
	ret = qblk_unzstd(&z, dst, size, need, src, len);
	EXPECT(ret == 0 || ret == -EIO);
	EXPECT(ret || !memcmp(dst, plain, need));
	free(src);
	free(dst);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static u8 plain[MAX_SIZE];
	static struct packed p;
	struct header h;
	size_t len, need;

	if (size <= sizeof(h) || size > MAX_SIZE)
		return 0;
	memcpy(&h, data, sizeof(h));
	len = make_plain(plain, &h, data + sizeof(h), size - sizeof(h));
	need = 1 + (h.need[0] | h.need[1] << 8 | h.need[2] << 16) % len;
	pack_all(&p, &h, plain, len);
	EXPECT(unpack(plain, len, len, p.bytes, p.len - 1) == -EIO);
	if (h.extras & EXTRA_GARBAGE) {
		memset(p.bytes + p.len, h.split, h.times);
		p.len += h.times;
	}
	EXPECT(!unpack(plain, len, len, p.bytes, p.len));
	EXPECT(!unpack(plain, len, need, p.bytes, p.len));
	/* Neither more than there is nor less */
	EXPECT(unpack(plain, len + 1, len + 1, p.bytes,
		      p.len - (h.extras & EXTRA_GARBAGE ? h.times : 0)) == -EIO);
	if (len > 1)
		EXPECT(unpack(plain, len - 1, len - 1, p.bytes, p.len) == -EIO ||
		       h.how & HOW_TWO_FRAMES);
	return 0;
}
