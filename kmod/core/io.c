// SPDX-License-Identifier: GPL-2.0
/*
 * The blocking calls: what tier 1 could not do, and all I/O of drivers.
 *
 * Reads map and then read, piece by piece, so a backing chain costs no stack.
 * Writes go down by recursion through ->pwritev(), whose depth QBLK_MAX_NEST
 * bounds.  On a leaf, what is not aligned for it goes through a bounce buffer.
 *
 * Forward progress: the only allocation here is the bounce buffer, from a
 * mempool of the leaf.  Who holds one waits for nothing but the device below
 * the leaf, and a disk of this module below it has leaves with pools of their
 * own.
 */
#include "core.h"

#include <linux/export.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

/* Zeroes to be written where a driver has nothing better */
#define ZERO_BVECS	64
#define ZERO_CHUNK	(ZERO_BVECS * PAGE_SIZE)

static struct bio_vec zero_bvecs[ZERO_BVECS];

/* Pages of a vmalloc buffer in one call */
#define VMALLOC_BVECS	16

/**
 * qblk_zeroes_init - point the zero vector at the zero page
 */
void qblk_zeroes_init(void)
{
	unsigned int i;

	for (i = 0; i < ZERO_BVECS; i++) {
		zero_bvecs[i].bv_page = ZERO_PAGE(0);
		zero_bvecs[i].bv_len = PAGE_SIZE;
	}
}

/*
 * Compound, since a file system may take references to the pages of a direct
 * I/O one by one.
 */
static void *bounce_alloc(gfp_t gfp, void *data)
{
	return alloc_pages(gfp | __GFP_COMP, QBLK_BOUNCE_ORDER);
}

static void bounce_free(void *page, void *data)
{
	__free_pages(page, QBLK_BOUNCE_ORDER);
}

/**
 * qblk_bounce_init - set a leaf's bounce buffers up
 * @leaf: the leaf
 */
int qblk_bounce_init(struct qblk_node *leaf)
{
	leaf->bounce = mempool_create(1, bounce_alloc, bounce_free, NULL);
	return leaf->bounce ? 0 : -ENOMEM;
}

/**
 * qblk_bounce_exit - undo qblk_bounce_init()
 * @leaf: no I/O is in flight
 */
void qblk_bounce_exit(struct qblk_node *leaf)
{
	mempool_destroy(leaf->bounce);
	leaf->bounce = NULL;
}

static struct iov_iter sub_iter(const struct iov_iter *iter, size_t bytes)
{
	struct iov_iter sub = *iter;

	iov_iter_truncate(&sub, bytes);
	return sub;
}

static bool range_valid(u64 offset, u64 bytes)
{
	u64 end;

	return !check_add_overflow(offset, bytes, &end) && end <= LLONG_MAX;
}

/* Leaves: aligned I/O */

/*
 * How much of a request can go to the leaf from where the memory is: whole
 * blocks, in pieces of memory the leaf takes.  0 when it needs a bounce buffer.
 */
static size_t direct_len(const struct qblk_node *leaf, u64 offset, u64 bytes,
			 const struct iov_iter *iter)
{
	const struct qblk_limits *lim = &leaf->limits;
	u64 align = lim->request_alignment;
	struct iov_iter sub;
	u64 n;

	n = min_not_zero(min_t(u64, bytes, QBLK_MAX_PIECE), lim->max_transfer);
	n = round_down(n, align);
	if ((offset & (align - 1)) || !n)
		return 0;
	sub = sub_iter(iter, n);
	if (!iov_iter_is_aligned(&sub, lim->dma_alignment, align - 1))
		return 0;
	return n;
}

/* Bytes of a bounce buffer that one call of the leaf's driver may use */
static u64 bounce_len(const struct qblk_node *leaf)
{
	u64 align = leaf->limits.request_alignment;
	u64 max = min_not_zero(leaf->limits.max_transfer,
			       (u64)QBLK_BOUNCE_SIZE);

	return clamp_t(u64, round_down(max, align), align, QBLK_BOUNCE_SIZE);
}

/* Read or write part of a bounce buffer */
static int bounce_rw(struct qblk_node *leaf, unsigned int dir,
		     struct page *page, u64 start, size_t skip, size_t bytes,
		     unsigned int flags)
{
	struct bio_vec bv = {
		.bv_page = page,
		.bv_offset = skip,
		.bv_len = bytes,
	};
	struct iov_iter iter;

	iov_iter_bvec(&iter, dir, &bv, 1, bytes);
	if (dir == ITER_SOURCE)
		return leaf->drv->pwritev(leaf, start + skip, bytes, &iter,
					  flags);
	return leaf->drv->preadv(leaf, start + skip, bytes, &iter, flags);
}

/* Leaves: reading */

/*
 * Read up to a bounce buffer's worth.  Return: bytes read, or an error.
 */
static ssize_t leaf_read_bounced(struct qblk_node *leaf, u64 offset, u64 bytes,
				 struct iov_iter *iter)
{
	u64 align = leaf->limits.request_alignment;
	u64 start = round_down(offset, align);
	u64 end = min(round_up(offset + bytes, align),
		      start + bounce_len(leaf));
	size_t n = min(bytes, end - offset);
	struct page *page = mempool_alloc(leaf->bounce, GFP_NOIO);
	int ret;

	ret = bounce_rw(leaf, ITER_DEST, page, start, 0, end - start, 0);
	if (!ret && copy_to_iter(page_address(page) + (offset - start), n,
				 iter) != n)
		ret = -EIO;
	mempool_free(page, leaf->bounce);
	return ret ?: n;
}

static ssize_t leaf_read_direct(struct qblk_node *leaf, u64 offset, size_t n,
				struct iov_iter *iter)
{
	struct iov_iter sub = sub_iter(iter, n);
	int ret;

	ret = leaf->drv->preadv(leaf, offset, n, &sub, 0);
	if (ret)
		return ret;
	iov_iter_advance(iter, n);
	return n;
}

/* The range is inside the leaf, as qblk_map() answered */
static int leaf_read(struct qblk_node *leaf, u64 offset, u64 bytes,
		     struct iov_iter *iter)
{
	ssize_t n;

	while (bytes) {
		n = direct_len(leaf, offset, bytes, iter);
		if (n)
			n = leaf_read_direct(leaf, offset, n, iter);
		else
			n = leaf_read_bounced(leaf, offset, bytes, iter);
		if (n < 0)
			return n;
		offset += n;
		bytes -= n;
	}
	return 0;
}

int qblk_mapping_read(const struct qblk_mapping *m, struct iov_iter *iter)
{
	struct iov_iter sub;
	int ret;

	switch (m->type) {
	case QBLK_MAP_DATA:
		return leaf_read(m->node, m->offset, m->bytes, iter);
	case QBLK_MAP_ENCODED:
		if (!m->node->drv->preadv)
			return -EIO;
		sub = sub_iter(iter, m->bytes);
		ret = m->node->drv->preadv(m->node, m->offset, m->bytes, &sub,
					   0);
		if (!ret)
			iov_iter_advance(iter, m->bytes);
		return ret;
	default:
		return iov_iter_zero(m->bytes, iter) == m->bytes ? 0 : -EIO;
	}
}
EXPORT_SYMBOL_GPL(qblk_mapping_read);

int qblk_node_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		     struct iov_iter *iter)
{
	struct qblk_mapping m;
	int ret;

	if (!range_valid(offset, bytes))
		return -EIO;
	while (bytes) {
		ret = qblk_map(node, offset, min_t(u64, bytes, QBLK_MAX_PIECE),
			       QBLK_MAP_MAY_SLEEP, &m);
		/* a driver that may sleep has no reason to ask for a worker */
		if (WARN_ON_ONCE(ret == -EAGAIN))
			ret = -EIO;
		if (ret)
			return ret;
		ret = qblk_mapping_read(&m, iter);
		qblk_tracks_release(&m.tracks);
		if (ret)
			return ret;
		offset += m.bytes;
		bytes -= m.bytes;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(qblk_node_preadv);

int qblk_preadv(struct qblk_child *child, u64 offset, u64 bytes,
		struct iov_iter *iter, unsigned int flags)
{
	return qblk_node_preadv(child->node, offset, bytes, iter);
}
EXPORT_SYMBOL_GPL(qblk_preadv);

/* Leaves: writing */

/* A bounce buffer's worth of a write: blocks [start, end), data [from, to) */
struct window {
	u64 start;
	u64 end;
	u64 from;
	u64 to;
};

static struct window window_of(const struct qblk_node *leaf, u64 offset,
			       u64 bytes)
{
	u64 align = leaf->limits.request_alignment;
	struct window w = { .from = offset };

	w.start = round_down(offset, align);
	w.end = min(round_up(offset + bytes, align),
		    w.start + bounce_len(leaf));
	w.to = min(offset + bytes, w.end);
	return w;
}

/* Fill one block of the buffer with what the leaf holds */
static int rmw_read_block(struct qblk_node *leaf, struct page *page,
			  const struct window *w, u64 block)
{
	u32 align = leaf->limits.request_alignment;
	size_t skip = block - w->start;

	if (block >= qblk_node_length(leaf)) {
		memset(page_address(page) + skip, 0, align);
		return 0;
	}
	return bounce_rw(leaf, ITER_DEST, page, w->start, skip, align, 0);
}

/* The blocks at the ends that the data covers only in part */
static int rmw_read(struct qblk_node *leaf, struct page *page,
		    const struct window *w)
{
	u64 last = w->end - leaf->limits.request_alignment;
	int ret;

	if (w->from != w->start) {
		ret = rmw_read_block(leaf, page, w, w->start);
		if (ret || last == w->start)
			return ret;
	}
	if (w->to != w->end)
		return rmw_read_block(leaf, page, w, last);
	return 0;
}

/* Return: bytes written, or an error. */
static ssize_t leaf_write_bounced(struct qblk_node *leaf, u64 offset,
				  u64 bytes, struct iov_iter *iter,
				  unsigned int flags)
{
	struct window w = window_of(leaf, offset, bytes);
	bool rmw = w.from != w.start || w.to != w.end;
	size_t n = w.to - w.from;
	struct qblk_tracked t;
	struct page *page;
	int ret = 0;

	/* wait first, allocate then: an older write may need the buffer */
	qblk_tracked_begin(leaf, &t, w.start, w.end, rmw);
	page = mempool_alloc(leaf->bounce, GFP_NOIO);
	if (rmw)
		ret = rmw_read(leaf, page, &w);
	if (!ret && copy_from_iter(page_address(page) + (w.from - w.start), n,
				   iter) != n)
		ret = -EIO;
	if (!ret)
		ret = bounce_rw(leaf, ITER_SOURCE, page, w.start, 0,
				w.end - w.start, flags);
	mempool_free(page, leaf->bounce);
	qblk_tracked_end(&t);
	return ret ?: n;
}

static ssize_t leaf_write_direct(struct qblk_node *leaf, u64 offset, size_t n,
				 struct iov_iter *iter, unsigned int flags)
{
	struct iov_iter sub = sub_iter(iter, n);
	struct qblk_tracked t;
	int ret;

	qblk_tracked_begin(leaf, &t, offset, offset + n, false);
	ret = leaf->drv->pwritev(leaf, offset, n, &sub, flags);
	qblk_tracked_end(&t);
	if (ret)
		return ret;
	iov_iter_advance(iter, n);
	return n;
}

static int leaf_write(struct qblk_node *leaf, u64 offset, u64 bytes,
		      struct iov_iter *iter, unsigned int flags)
{
	ssize_t n;

	while (bytes) {
		n = direct_len(leaf, offset, bytes, iter);
		if (n)
			n = leaf_write_direct(leaf, offset, n, iter, flags);
		else
			n = leaf_write_bounced(leaf, offset, bytes, iter,
					       flags);
		if (n < 0)
			return n;
		offset += n;
		bytes -= n;
	}
	return 0;
}

/* Writes: any node */

/* May @child's parent change @bytes at @offset of its node? */
static int write_check(const struct qblk_child *child, u64 offset, u64 bytes)
{
	const struct qblk_node *node = child->node;

	if (READ_ONCE(node->dead))
		return -EIO;
	if (node->read_only || !(child->perm & (QBLK_PERM_WRITE |
						QBLK_PERM_WRITE_UNCHANGED)))
		return -EPERM;
	return range_valid(offset, bytes) ? 0 : -EIO;
}

/* Growing, or the range ends inside the node? */
static int write_check_end(const struct qblk_node *node, u64 offset, u64 bytes)
{
	if (node->limits.can_grow || offset + bytes <= qblk_node_length(node))
		return 0;
	return -ENOSPC;
}

static int write_check_range(const struct qblk_child *child, u64 offset,
			     u64 bytes)
{
	return write_check(child, offset, bytes) ?:
	       write_check_end(child->node, offset, bytes);
}

static int node_write(struct qblk_node *node, u64 offset, u64 bytes,
		      struct iov_iter *iter, unsigned int flags)
{
	struct iov_iter sub;
	int ret;

	if (!node->drv->pwritev)
		return -EPERM;
	if (qblk_node_is_leaf(node))
		return leaf_write(node, offset, bytes, iter, flags);
	sub = sub_iter(iter, bytes);
	ret = node->drv->pwritev(node, offset, bytes, &sub, flags);
	if (!ret)
		iov_iter_advance(iter, bytes);
	return ret;
}

/* Zeroes */

static int write_zero_data(struct qblk_node *node, u64 offset, u64 bytes)
{
	struct iov_iter iter;
	size_t n;
	int ret;

	while (bytes) {
		n = min_t(u64, bytes, ZERO_CHUNK);
		iov_iter_bvec(&iter, ITER_SOURCE, zero_bvecs, ZERO_BVECS, n);
		ret = node_write(node, offset, n, &iter, 0);
		if (ret)
			return ret;
		offset += n;
		bytes -= n;
	}
	return 0;
}

/* Ask the driver, piece by piece; write zeroes where it does not want to */
static int zero_pieces(struct qblk_node *node, u64 offset, u64 bytes,
		       unsigned int flags)
{
	u64 max = round_down(node->limits.max_pwrite_zeroes,
			     (u64)node->limits.request_alignment);
	struct qblk_tracked t;
	u64 n;
	int ret;

	for (; bytes; offset += n, bytes -= n) {
		n = min_not_zero(bytes, max);
		ret = -EOPNOTSUPP;
		if (node->drv->pwrite_zeroes) {
			qblk_tracked_begin(node, &t, offset, offset + n, false);
			ret = node->drv->pwrite_zeroes(node, offset, n, flags);
			qblk_tracked_end(&t);
		}
		if (ret == -EOPNOTSUPP && !(flags & QBLK_REQ_NO_FALLBACK))
			ret = write_zero_data(node, offset, n);
		if (ret)
			return ret;
	}
	return 0;
}

/* A leaf takes whole blocks; what is left at the ends is written */
static int zero_leaf(struct qblk_node *leaf, u64 offset, u64 bytes,
		     unsigned int flags)
{
	u64 align = leaf->limits.request_alignment;
	u64 end = offset + bytes;
	u64 first = min(round_up(offset, align), end);
	u64 last = max(round_down(end, align), first);
	int ret;

	if ((flags & QBLK_REQ_NO_FALLBACK) && (first != offset || last != end))
		return -EOPNOTSUPP;
	ret = write_zero_data(leaf, offset, first - offset);
	if (!ret)
		ret = zero_pieces(leaf, first, last - first, flags);
	if (!ret)
		ret = write_zero_data(leaf, last, end - last);
	return ret;
}

/* The range was checked. */
static int node_write_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			     unsigned int flags)
{
	bool flush = flags & QBLK_REQ_FUA;
	int ret;

	flags &= ~QBLK_REQ_FUA;
	if (!node->discard_unmap)
		flags &= ~QBLK_REQ_MAY_UNMAP;
	if (qblk_node_is_leaf(node))
		ret = zero_leaf(node, offset, bytes, flags);
	else
		ret = zero_pieces(node, offset, bytes, flags);
	/* once, at the end, for all the pieces */
	if (!ret && flush)
		ret = qblk_node_flush(node);
	return ret;
}

int qblk_pwrite_zeroes(struct qblk_child *child, u64 offset, u64 bytes,
		       unsigned int flags)
{
	struct qblk_node *node = child->node;
	int ret;

	ret = write_check_range(child, offset, bytes);
	if (ret || !bytes)
		return ret;
	return node_write_zeroes(node, offset, bytes, flags);
}
EXPORT_SYMBOL_GPL(qblk_pwrite_zeroes);

/* Data */

/*
 * Copying is what every kind of iterator can do, and most data is not zero in
 * its first bytes.  Memory that changes meanwhile may be written either way.
 * Not inlined: writes recurse.
 */
static noinline_for_stack bool iter_is_zero(const struct iov_iter *iter,
					    u64 bytes)
{
	struct iov_iter sub = *iter;
	u8 buf[256];
	size_t n;

	for (; bytes; bytes -= n) {
		n = copy_from_iter(buf, min_t(u64, bytes, sizeof(buf)), &sub);
		if (!n || memchr_inv(buf, 0, n))
			return false;
	}
	return true;
}

static bool write_is_zero(const struct qblk_node *node,
			  const struct iov_iter *iter, u64 bytes)
{
	return node->detect_zeroes && node->drv->pwrite_zeroes &&
	       iter_is_zero(iter, bytes);
}

/* Data that is all zero, and the node has detect-zeroes */
static int node_write_detected(struct qblk_node *node, u64 offset, u64 bytes,
			       struct iov_iter *iter, unsigned int flags)
{
	int ret;

	if (node->detect_zeroes == QBLK_DETECT_ZEROES_UNMAP)
		flags |= QBLK_REQ_MAY_UNMAP;
	ret = node_write_zeroes(node, offset, bytes, flags);
	if (!ret)
		iov_iter_advance(iter, bytes);
	return ret;
}

int qblk_pwritev(struct qblk_child *child, u64 offset, u64 bytes,
		 struct iov_iter *iter, unsigned int flags)
{
	struct qblk_node *node = child->node;
	bool flush = (flags & QBLK_REQ_FUA) && !node->limits.fua;
	int ret;

	ret = write_check_range(child, offset, bytes);
	if (ret || !bytes)
		return ret;
	if (write_is_zero(node, iter, bytes))
		return node_write_detected(node, offset, bytes, iter, flags);
	if (flush)
		flags &= ~QBLK_REQ_FUA;
	ret = node_write(node, offset, bytes, iter, flags);
	if (!ret && flush)
		ret = qblk_node_flush(node);
	return ret;
}
EXPORT_SYMBOL_GPL(qblk_pwritev);

int qblk_start_pwritev(struct qblk_child *child, struct qblk_io *io)
{
	struct qblk_node *node = child->node;

	if (!node->drv->start_pwritev || node->detect_zeroes ||
	    io->opf & REQ_FUA ||
	    write_check_range(child, io->offset, io->iter.bi_size))
		return -EAGAIN;
	return node->drv->start_pwritev(node, io);
}
EXPORT_SYMBOL_GPL(qblk_start_pwritev);

int qblk_start_append(struct qblk_child *child, struct qblk_append_io *io)
{
	struct qblk_node *leaf = child->node;
	u64 bytes = iov_iter_count(&io->iter);
	int ret;

	if (!leaf->drv->append || leaf->detect_zeroes ||
	    write_check_range(child, io->offset, bytes) ||
	    direct_len(leaf, io->offset, bytes, &io->iter) != bytes)
		return -EAGAIN;
	qblk_tracked_begin(leaf, &io->tracked, io->offset, io->offset + bytes,
			   false);
	ret = leaf->drv->append(leaf, io);
	if (ret)
		qblk_tracked_end(&io->tracked);
	return ret;
}
EXPORT_SYMBOL_GPL(qblk_start_append);

void qblk_append_written(struct qblk_append_io *io, int ret)
{
	qblk_tracked_end(&io->tracked);
	io->written(io, ret);
}
EXPORT_SYMBOL_GPL(qblk_append_written);

/* Discard */

static int discard_pieces(struct qblk_node *node, u64 offset, u64 bytes,
			  u64 max)
{
	struct qblk_tracked t;
	u64 n;
	int ret;

	for (; bytes; offset += n, bytes -= n) {
		n = min_not_zero(bytes, max);
		qblk_tracked_begin(node, &t, offset, offset + n, false);
		ret = node->drv->pdiscard(node, offset, n);
		qblk_tracked_end(&t);
		if (ret)
			return ret == -EOPNOTSUPP ? 0 : ret;
	}
	return 0;
}

/* The granularity of a discard need not be a power of two */
static u64 discard_down(u64 val, u32 align)
{
	u32 rest;

	div_u64_rem(val, align, &rest);
	return val - rest;
}

/* The last cluster of a format counts as a whole even where the disk ends */
static u64 discard_end(const struct qblk_node *node, u64 end, u32 align)
{
	u64 len = qblk_node_length(node);

	if (end >= len && !qblk_node_is_leaf(node))
		return len;
	return discard_down(min(end, len), align);
}

int qblk_pdiscard(struct qblk_child *child, u64 offset, u64 bytes)
{
	struct qblk_node *node = child->node;
	u32 align = max3(node->limits.pdiscard_alignment,
			 node->limits.request_alignment, 1U);
	u64 first, last;
	int ret;

	ret = write_check(child, offset, bytes);
	if (ret || !node->discard_unmap || !node->drv->pdiscard)
		return ret;
	first = discard_down(offset + align - 1, align);
	last = discard_end(node, offset + bytes, align);
	if (first >= last)
		return 0;
	return discard_pieces(node, first, last - first,
			      discard_down(node->limits.max_pdiscard, align));
}
EXPORT_SYMBOL_GPL(qblk_pdiscard);

/* Flush */

/**
 * qblk_node_flush - write a node's metadata back and make the leaves stable
 * @node: the node
 *
 * Recursion: along edges that write, so QBLK_MAX_NEST deep, never down a
 * backing chain.  All of the children are flushed even if one fails.
 *
 * Context: process with memalloc_noio in force, may sleep.
 */
int qblk_node_flush(struct qblk_node *node)
{
	struct qblk_child *child;
	int ret = 0, ret2;

	if (node->read_only)
		return 0;
	if (READ_ONCE(node->dead))
		return -EIO;
	if (node->drv->flush_to_os)
		ret = node->drv->flush_to_os(node);
	if (ret)
		return ret;
	list_for_each_entry(child, &node->children, parent_entry) {
		if (!(child->perm & (QBLK_PERM_WRITE |
				     QBLK_PERM_WRITE_UNCHANGED)))
			continue;
		ret2 = qblk_node_flush(child->node);
		ret = ret ?: ret2;
	}
	if (!ret && node->drv->flush_to_disk)
		ret = node->drv->flush_to_disk(node);
	return ret;
}

int qblk_flush(struct qblk_child *child)
{
	return qblk_node_flush(child->node);
}
EXPORT_SYMBOL_GPL(qblk_flush);

/* Kernel buffers */

/*
 * Describe the start of a buffer.  What is not vmalloc memory is contiguous.
 * Return: bytes described.
 */
static size_t buf_to_bvecs(void *buf, u64 bytes, struct bio_vec *bv,
			   unsigned int *nr)
{
	size_t done = 0, n;
	unsigned int skip;

	if (!is_vmalloc_addr(buf)) {
		bv->bv_page = virt_to_page(buf);
		bv->bv_offset = offset_in_page(buf);
		bv->bv_len = min_t(u64, bytes, QBLK_MAX_PIECE);
		*nr = 1;
		return bv->bv_len;
	}
	for (*nr = 0; *nr < VMALLOC_BVECS && done < bytes; (*nr)++, bv++) {
		skip = offset_in_page(buf + done);
		n = min_t(u64, bytes - done, PAGE_SIZE - skip);
		bv->bv_page = vmalloc_to_page(buf + done);
		bv->bv_offset = skip;
		bv->bv_len = n;
		done += n;
	}
	return done;
}

int qblk_pread(struct qblk_child *child, u64 offset, u64 bytes, void *buf)
{
	struct bio_vec bv[VMALLOC_BVECS];
	struct iov_iter iter;
	unsigned int nr;
	size_t n;
	int ret;

	for (; bytes; offset += n, bytes -= n, buf += n) {
		n = buf_to_bvecs(buf, bytes, bv, &nr);
		iov_iter_bvec(&iter, ITER_DEST, bv, nr, n);
		ret = qblk_preadv(child, offset, n, &iter, 0);
		if (ret)
			return ret;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(qblk_pread);

int qblk_pwrite(struct qblk_child *child, u64 offset, u64 bytes,
		const void *buf, unsigned int flags)
{
	struct bio_vec bv[VMALLOC_BVECS];
	struct iov_iter iter;
	unsigned int nr;
	size_t n;
	int ret;

	for (; bytes; offset += n, bytes -= n, buf += n) {
		n = buf_to_bvecs((void *)buf, bytes, bv, &nr);
		iov_iter_bvec(&iter, ITER_SOURCE, bv, nr, n);
		ret = qblk_pwritev(child, offset, n, &iter, flags);
		if (ret)
			return ret;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(qblk_pwrite);
