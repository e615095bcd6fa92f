// SPDX-License-Identifier: GPL-2.0
/*
 * Zstandard data, against libzstd.  The first six bytes say how much output
 * there is, and how much of it is wanted; input and output are as long as they
 * may be used, so that every byte beyond is found by the sanitizer.
 */
#include <zstd.h>

#include "fuzz.h"

#include "../../../kmod/format/unzstd.h"

#define HEADER		6
#define MAX_SIZE	(256 << 10)
/* Of the header: the size is rather what libzstd makes, if it makes any. */
#define FIT		BIT(23)

static u32 number(const uint8_t *data)
{
	return data[0] | data[1] << 8 | data[2] << 16;
}

/*
 * Frames until @len bytes are made, or an error, or the end: each for itself, as
 * a kernel without a decoder of its own would.  Returns how many were made.
 */
static size_t libzstd_makes(u8 *dst, size_t len, const u8 *src, size_t src_len)
{
	static ZSTD_DCtx *ctx;
	size_t in = 0, out = 0;

	if (!ctx)
		ctx = ZSTD_createDCtx();
	EXPECT(ctx);
	while (out < len && in < src_len) {
		size_t frame = ZSTD_findFrameCompressedSize(src + in,
							    src_len - in);
		size_t n;

		if (ZSTD_isError(frame))
			break;
		n = ZSTD_decompressDCtx(ctx, dst + out, len - out, src + in,
					frame);
		if (ZSTD_isError(n))
			break;
		in += frame;
		out += n;
	}
	return out;
}

/*
 * Memory holds anything before the first call, and what that one left before
 * the next.
 */
static int unzstd(u8 **dst, size_t size, size_t need, const u8 *src,
		  size_t src_len)
{
	static struct qblk_unzstd z;
	int ret;

	if (need == size)
		memset(&z, 0xa5, sizeof(z));
	*dst = malloc(need);
	EXPECT(*dst);
	ret = qblk_unzstd(&z, *dst, size, need, src, src_len);
	EXPECT(ret == 0 || ret == -EIO);
	return ret;
}

/* We refuse some malformed data that libzstd takes, but take none it refuses. */
static void check(const u8 *expected, size_t made, size_t size, size_t need,
		  const u8 *src, size_t src_len)
{
	u8 *whole, *part;
	int ret, ret_part;

	ret = unzstd(&whole, size, size, src, src_len);
	ret_part = unzstd(&part, size, need, src, src_len);
	if (!ret) {
		EXPECT(made == size);
		EXPECT(!memcmp(whole, expected, size));
		EXPECT(!ret_part);
	}
	if (!ret_part && made >= need)
		EXPECT(!memcmp(part, expected, need));
	free(whole);
	free(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static u8 expected[MAX_SIZE];
	size_t made = 0, len, need;
	u8 *src;

	if (size < HEADER)
		return 0;
	size -= HEADER;
	src = malloc(size);
	EXPECT(src || !size);
	memcpy(src, data + HEADER, size);

	if (number(data) & FIT)
		made = libzstd_makes(expected, MAX_SIZE, src, size);
	len = made ?: 1 + number(data) % MAX_SIZE;
	made = libzstd_makes(expected, len, src, size);
	need = 1 + number(data + 3) % len;
	check(expected, made, len, need, src, size);
	free(src);
	return 0;
}
