/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_ITER_H
#define _QBLK_ITER_H

#include <linux/bvec.h>
#include <linux/minmax.h>
#include <linux/uio.h>

#include <qblk/req.h>

/**
 * qblk_iter_bvecs - what the first bytes of an iterator consist of
 * @iter: over bvecs; left where it is
 * @bytes: how many, no more than it has
 * @bv: result, or NULL to count only
 *
 * Return: number of bvecs, each as long as it is in @iter.  Any context.
 */
static inline unsigned int qblk_iter_bvecs(const struct iov_iter *iter,
					   size_t bytes, struct bio_vec *bv)
{
	const struct bio_vec *from = iter->bvec;
	size_t skip = iter->iov_offset, n;
	unsigned int nr;

	for (nr = 0; bytes; nr++, from++, skip = 0, bytes -= n) {
		n = min(bytes, from->bv_len - skip);
		if (bv)
			bvec_set_page(&bv[nr], from->bv_page, n,
				      from->bv_offset + skip);
	}
	return nr;
}

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

#endif /* _QBLK_ITER_H */
