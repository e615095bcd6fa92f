/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_IO_ITER_H
#define _QBLK_IO_ITER_H

#include <linux/bvec.h>
#include <linux/minmax.h>
#include <linux/uio.h>

#include <qblk/req.h>

/**
 * qblk_io_iter - iterator over the pages of an asynchronous I/O
 * @io: the I/O
 * @dir: %ITER_DEST for a read, %ITER_SOURCE for a write
 * @iter: result, uses the vector of @io->src
 */
static inline void qblk_io_iter(const struct qblk_io *io, unsigned int dir,
				struct iov_iter *iter)
{
	const struct bio_vec *bv = __bvec_iter_bvec(io->src->bi_io_vec,
						    io->iter);
	unsigned int skip = io->iter.bi_bvec_done;
	size_t left = io->iter.bi_size + skip;
	unsigned int nr;

	/* bi_vcnt of a clone is 0, so the entries are counted */
	for (nr = 0; left; nr++)
		left -= min_t(size_t, left, bv[nr].bv_len);
	iov_iter_bvec(iter, dir, bv, nr, io->iter.bi_size + skip);
	iov_iter_advance(iter, skip);
}

#endif /* _QBLK_IO_ITER_H */
