// SPDX-License-Identifier: GPL-2.0
/*
 * Deflate data, against zlib.  The first two bytes say how much output is
 * wanted; input and output are as long as they may be used, so that every byte
 * beyond is found by the sanitizer.
 */
#include <zlib.h>

#include "fuzz.h"

#include "../../../kmod/format/inflate.h"

/*
 * Whether zlib makes all that is wanted, whatever follows it.  *known: a block
 * whose code has no end of the block is data to the kernel's zlib, as to us.
 */
static bool zlib_makes(u8 *dst, size_t len, const u8 *src, size_t src_len,
		       bool *known)
{
	z_stream strm = {};

	EXPECT(inflateInit2(&strm, -MAX_WBITS) == Z_OK);
	strm.next_in = (u8 *)src;
	strm.avail_in = src_len;
	strm.next_out = dst;
	strm.avail_out = len;
	inflate(&strm, Z_FINISH);
	*known = !strm.msg || !strstr(strm.msg, "missing end-of-block");
	inflateEnd(&strm);
	return !strm.avail_out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct qblk_inflate z;
	u8 *src, *dst, *expected;
	size_t len;
	bool known;
	int ret;

	if (size < 2)
		return 0;
	len = 1 + data[0] + 256 * data[1];
	size -= 2;
	src = malloc(size);
	dst = malloc(len);
	expected = malloc(len);
	EXPECT((src || !size) && dst && expected);
	memcpy(src, data + 2, size);

	ret = qblk_inflate(&z, dst, len, src, size);
	EXPECT(ret == 0 || ret == -EIO);
	EXPECT(!ret == zlib_makes(expected, len, src, size, &known) || !known);
	if (!ret && known)
		EXPECT(!memcmp(dst, expected, len));
	free(src);
	free(dst);
	free(expected);
	return 0;
}
