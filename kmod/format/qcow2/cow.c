// SPDX-License-Identifier: GPL-2.0
/*
 * Copy on write: step 2 of an allocating write (write.c).
 *
 * What the guest writes and what the rest of the clusters held before goes out
 * with one write, if there is memory for it and it is not too much; piece by
 * piece otherwise, through a buffer that is always there.
 */
#include <linux/bvec.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include <qblk/iter.h>

#include "qcow2.h"

/* Parts to be filled up to this size are written together with the data. */
#define QCOW2_MERGE_BYTES	(128U << 10)

/* Data up to this size between them is read with them, and thrown away. */
#define QCOW2_OVERLAY_BYTES	(16U << 10)

/**
 * struct qcow2_part - a part of new clusters that the guest did not write
 * @guest: guest offset
 * @bytes: length, may be 0
 * @fill: it has to be written: it is not a hole already
 * @zero: with zeroes
 */
struct qcow2_part {
	u64 guest;
	u64 bytes;
	bool fill;
	bool zero;
};

/**
 * struct qcow2_parts - what an allocating write fills besides the data
 * @head: before it
 * @tail: after it
 * @old: what both and what is between them hold, when that is one thing; until
 *	qcow2_parts_exit(), it stays where it is.  Otherwise no bytes.
 */
struct qcow2_parts {
	struct qcow2_part head;
	struct qcow2_part tail;
	struct qblk_mapping old;
};

static void qcow2_vec_add_zeroes(struct qcow2_vec *v, u64 bytes)
{
	for (; bytes; bytes -= v->bv[v->nr++].bv_len)
		bvec_set_page(&v->bv[v->nr], ZERO_PAGE(0),
			      min_t(u64, bytes, PAGE_SIZE), 0);
}

/*
 * As few as possible: each is allocated, added to bios and freed by itself.
 * But no more than one page is worth looking for.  What lists of each CPU have
 * is torn to pieces and joined again by many requests at a time, so that a
 * cluster's worth from the zone is had for less.
 */
static struct page *qcow2_vec_alloc(u64 bytes, u32 *len)
{
	int order = min(ilog2(DIV_ROUND_UP_ULL(bytes, PAGE_SIZE)),
			get_order(QCOW2_PIECE_BYTES));
	struct page *page = NULL;

	*len = min_t(u64, bytes, QCOW2_PIECE_BYTES);
	if (*len == QCOW2_PIECE_BYTES)
		page = qcow2_piece_get();
	for (; !page && order > 0; order--) {
		page = alloc_pages((QCOW2_GFP_TRY & ~__GFP_RECLAIM) |
				   __GFP_NOMEMALLOC | __GFP_COMP, order);
		*len = min_t(u64, bytes, PAGE_SIZE << order);
	}
	if (page)
		return page;
	*len = min_t(u64, bytes, PAGE_SIZE);
	return alloc_page(QCOW2_GFP_TRY);
}

static int qcow2_vec_add_pages(struct qcow2_vec *v, u64 bytes)
{
	u32 len;

	for (; bytes; bytes -= len) {
		struct page *page = qcow2_vec_alloc(bytes, &len);

		if (!page)
			return -ENOMEM;
		bvec_set_page(&v->bv[v->nr++], page, len, 0);
	}
	return 0;
}

/* What the disk holds; zeroes past its end */
static int qcow2_read_old(struct qcow2_state *s, u64 guest, u64 bytes,
			  struct iov_iter *iter)
{
	u64 size = s->node->length;
	u64 inside = guest < size ? min(bytes, size - guest) : 0;
	int ret;

	ret = qblk_node_preadv(s->node, guest, inside, iter);
	if (!ret && iov_iter_zero(bytes - inside, iter) != bytes - inside)
		ret = -EIO;
	return ret;
}

/*
 * Read what a part held before into new pages at the end of the vector: from
 * @old, if that has any bytes.
 */
static int qcow2_vec_add_old(struct qcow2_state *s, struct qcow2_vec *v,
			     const struct qcow2_part *part,
			     const struct qblk_mapping *old)
{
	unsigned int first = v->nr;
	struct iov_iter iter;
	int ret;

	ret = qcow2_vec_add_pages(v, part->bytes);
	if (ret)
		return ret;
	iov_iter_bvec(&iter, ITER_DEST, v->bv + first, v->nr - first,
		      part->bytes);
	if (old && old->bytes)
		return qblk_mapping_read(old, &iter);
	return qcow2_read_old(s, part->guest, part->bytes, &iter);
}

static int qcow2_vec_add_part(struct qcow2_state *s, struct qcow2_vec *v,
			      const struct qcow2_part *part)
{
	if (!part->fill)
		return 0;
	if (!part->zero)
		return qcow2_vec_add_old(s, v, part, NULL);
	qcow2_vec_add_zeroes(v, part->bytes);
	return 0;
}

static unsigned int qcow2_part_segs(const struct qcow2_part *part)
{
	return part->fill ? DIV_ROUND_UP_ULL(part->bytes, PAGE_SIZE) : 0;
}

/**
 * qcow2_vec_exit - undo qcow2_vec_init()
 * @v: whether it was written or not
 */
void qcow2_vec_exit(struct qcow2_vec *v)
{
	unsigned int i;

	for (i = 0; i < v->nr; i++) {
		/* the guest's */
		if (i >= v->data && i < v->data + v->data_nr)
			continue;
		if (v->bv[i].bv_page == ZERO_PAGE(0))
			continue;
		if (v->bv[i].bv_len == QCOW2_PIECE_BYTES)
			qcow2_piece_put(v->bv[i].bv_page);
		else
			__free_pages(v->bv[i].bv_page,
				     get_order(v->bv[i].bv_len));
	}
	kvfree(v->bv);
}

/* Over what was read for the vector, @pos bytes from its beginning */
static int qcow2_vec_overlay(struct qcow2_vec *v, u64 pos, struct iov_iter data,
			     u64 bytes)
{
	struct bio_vec *bv;
	u64 n;

	for (bv = v->bv; bytes; bv++) {
		n = pos < bv->bv_len ? min(bytes, bv->bv_len - pos) : 0;
		if (copy_from_iter(page_address(bv->bv_page) + pos, n,
				   &data) != n)
			return -EIO;
		pos -= min_t(u64, pos, bv->bv_len);
		bytes -= n;
	}
	return 0;
}

/* Is one read, of what is overwritten as well, better than two? */
static bool qcow2_worth_overlay(const struct qcow2_parts *p, u64 bytes)
{
	return p->head.fill && !p->head.zero &&
	       p->tail.fill && !p->tail.zero &&
	       bytes <= QCOW2_OVERLAY_BYTES;
}

/*
 * Where the copied data ends.  Past the end of the disk nothing has to be
 * filled, and a raw data file is as long as the disk.
 */
static u64 qcow2_fill_end(const struct qcow2_state *s,
			  const struct qcow2_alloc *a)
{
	if (qcow2_has_data_file(s))
		return min(a->to, s->node->length);
	return a->to;
}

/* Read all, from where it was found if it was, and copy the data over it */
static int qcow2_vec_overlaid(struct qcow2_state *s, struct qcow2_vec *v,
			      const struct qcow2_parts *p,
			      const struct iov_iter *data, u64 bytes)
{
	const struct qcow2_part all = {
		.guest = p->head.guest,
		.bytes = p->head.bytes + bytes + p->tail.bytes,
		.fill = true,
	};
	int ret;

	v->bv = kvmalloc_array(qcow2_part_segs(&all), sizeof(*v->bv),
			       QCOW2_GFP_TRY);
	if (!v->bv)
		return -ENOMEM;
	ret = qcow2_vec_add_old(s, v, &all, &p->old);
	return ret ?: qcow2_vec_overlay(v, p->head.bytes, *data, bytes);
}

/* Head, data and tail */
static int qcow2_vec_merged(struct qcow2_state *s, struct qcow2_vec *v,
			    const struct qcow2_parts *p,
			    const struct iov_iter *data, u64 bytes)
{
	int ret;

	v->data_nr = qblk_iter_bvecs(data, bytes, NULL);
	v->bv = kvmalloc_array(qcow2_part_segs(&p->head) + v->data_nr +
			       qcow2_part_segs(&p->tail), sizeof(*v->bv),
			       QCOW2_GFP_TRY);
	if (!v->bv)
		return -ENOMEM;
	v->data = UINT_MAX;
	ret = qcow2_vec_add_part(s, v, &p->head);
	if (ret)
		return ret;
	v->data = v->nr;
	v->nr += qblk_iter_bvecs(data, bytes, v->bv + v->nr);
	return qcow2_vec_add_part(s, v, &p->tail);
}

static int qcow2_vec_build(struct qcow2_state *s, struct qcow2_vec *v,
			   const struct qcow2_parts *p,
			   const struct iov_iter *data, u64 bytes)
{
	u64 before = p->head.fill ? p->head.bytes : 0;
	u64 len = before + bytes + (p->tail.fill ? p->tail.bytes : 0);
	int ret;

	if (p->head.bytes + p->tail.bytes > QCOW2_MERGE_BYTES)
		return -ENOMEM;
	if (qcow2_worth_overlay(p, bytes))
		ret = qcow2_vec_overlaid(s, v, p, data, bytes);
	else
		ret = qcow2_vec_merged(s, v, p, data, bytes);
	if (ret) {
		qcow2_vec_exit(v);
		return ret;
	}
	v->host -= before;
	iov_iter_bvec(&v->iter, ITER_SOURCE, v->bv, v->nr, len);
	return 0;
}

/* One look tells of both, as a rule: it sees what is between them, too. */
static int qcow2_parts_look(struct qcow2_state *s, struct qcow2_parts *p)
{
	u64 all = p->tail.guest + p->tail.bytes - p->head.guest;
	int ret;

	if (!p->head.bytes || !p->tail.bytes ||
	    p->tail.guest + p->tail.bytes > s->node->length)
		return 0;
	ret = qblk_map(s->node, p->head.guest, all, QBLK_MAP_MAY_SLEEP,
		       &p->old);
	if (!ret && p->old.bytes != all) {
		qblk_tracks_release(&p->old.tracks);
		p->old.bytes = 0;
	}
	return ret;
}

static int qcow2_parts_are_zero(struct qcow2_state *s, struct qcow2_parts *p)
{
	int ret = qcow2_parts_look(s, p);

	if (ret)
		return ret;
	if (p->old.bytes) {
		p->head.zero = p->old.type == QBLK_MAP_ZERO;
		p->tail.zero = p->head.zero;
		return 0;
	}
	return qcow2_range_is_zero(s, p->head.guest, p->head.bytes,
				   &p->head.zero) ?:
	       qcow2_range_is_zero(s, p->tail.guest, p->tail.bytes,
				   &p->tail.zero);
}

/* For qcow2_parts_exit() on success */
static int qcow2_parts_init(struct qcow2_state *s, const struct qcow2_alloc *a,
			    u64 offset, u64 bytes, struct qcow2_parts *p)
{
	u64 end = offset + bytes;
	int ret;

	p->head = (struct qcow2_part){ a->from, offset - a->from };
	p->tail = (struct qcow2_part){ end, qcow2_fill_end(s, a) - end };
	p->old.bytes = 0;
	ret = qcow2_parts_are_zero(s, p);
	p->head.fill = p->head.bytes && !(p->head.zero && a->fresh);
	p->tail.fill = p->tail.bytes && !(p->tail.zero && a->fresh);
	return ret;
}

static void qcow2_parts_exit(struct qcow2_parts *p)
{
	if (p->old.bytes)
		qblk_tracks_release(&p->old.tracks);
}

static int qcow2_vec_of_parts(struct qcow2_state *s,
			      const struct qcow2_alloc *a,
			      const struct qcow2_parts *p, u64 offset,
			      u64 bytes, const struct iov_iter *data,
			      struct qcow2_vec *v)
{
	*v = (struct qcow2_vec) {
		.host = a->host + (offset - a->guest),
		.iter = *data,
	};
	iov_iter_truncate(&v->iter, bytes);
	if (!p->head.fill && !p->tail.fill)
		return 0;
	return qcow2_vec_build(s, v, p, data, bytes);
}

/**
 * qcow2_vec_init - what step 2 of an allocating write writes, all at once
 * @s: image
 * @a: the allocation
 * @offset: guest offset of the data
 * @bytes: length of it
 * @data: over it; left where it is, what it names is used
 * @v: result, for qcow2_vec_exit() on success
 *
 * Reads what the clusters held before.  Context: process, no lock held.
 *
 * Return: 0; -ENOMEM: too much to be written at once, qcow2_write_clusters()
 * has other means; or what reading failed with.
 */
int qcow2_vec_init(struct qcow2_state *s, const struct qcow2_alloc *a,
		   u64 offset, u64 bytes, const struct iov_iter *data,
		   struct qcow2_vec *v)
{
	struct qcow2_parts p;
	int ret;

	ret = qcow2_parts_init(s, a, offset, bytes, &p);
	if (ret)
		return ret;
	ret = qcow2_vec_of_parts(s, a, &p, offset, bytes, data, v);
	qcow2_parts_exit(&p);
	return ret;
}

/**
 * qcow2_vec_write - write it
 * @s: image
 * @v: from qcow2_vec_init()
 */
int qcow2_vec_write(struct qcow2_state *s, struct qcow2_vec *v)
{
	return qblk_pwritev(s->data, v->host, iov_iter_count(&v->iter),
			    &v->iter, 0);
}

/*
 * Copy a part piece by piece.  Waiting for the buffer is safe: whoever has it
 * waits for I/O to other nodes, which have their own, and for write-back of
 * metadata at most, which needs none.
 */
static int qcow2_copy_part(struct qcow2_state *s, u64 host,
			   const struct qcow2_part *part)
{
	void *buf = mempool_alloc(s->cow_pool, GFP_NOIO);
	struct iov_iter iter;
	struct bio_vec bv;
	int ret = 0;
	u64 pos, n;

	for (pos = 0; !ret && pos < part->bytes; pos += n) {
		n = min_t(u64, part->bytes - pos, qcow2_cow_bytes(s));
		bvec_set_page(&bv, virt_to_page(buf), n, offset_in_page(buf));
		iov_iter_bvec(&iter, ITER_DEST, &bv, 1, n);
		ret = qcow2_read_old(s, part->guest + pos, n, &iter);
		if (!ret)
			ret = qblk_pwrite(s->data, host + pos, n, buf, 0);
	}
	mempool_free(buf, s->cow_pool);
	return ret;
}

static int qcow2_fill_part(struct qcow2_state *s, u64 host,
			   const struct qcow2_part *part)
{
	if (!part->fill || !part->bytes)
		return 0;
	if (part->zero)
		return qblk_pwrite_zeroes(s->data, host, part->bytes, 0);
	return qcow2_copy_part(s, host, part);
}

/* One after the other */
static int qcow2_write_parts(struct qcow2_state *s, u64 host, u64 bytes,
			     const struct qcow2_parts *p, struct iov_iter *iter)
{
	int ret;

	ret = qcow2_fill_part(s, host - p->head.bytes, &p->head);
	if (!ret)
		ret = qblk_pwritev(s->data, host, bytes, iter, 0);
	if (!ret)
		ret = qcow2_fill_part(s, host + bytes, &p->tail);
	return ret;
}

/**
 * qcow2_write_clusters - step 2: write guest data and the rest of the clusters
 * @s: image
 * @a: the allocation
 * @offset: guest offset of the data
 * @bytes: length of it
 * @iter: over it, advanced
 *
 * Context: process, no lock held.
 */
int qcow2_write_clusters(struct qcow2_state *s, const struct qcow2_alloc *a,
			 u64 offset, u64 bytes, struct iov_iter *iter)
{
	struct qcow2_parts p;
	struct qcow2_vec v;
	int ret;

	ret = qcow2_parts_init(s, a, offset, bytes, &p);
	if (ret)
		return ret;
	ret = qcow2_vec_of_parts(s, a, &p, offset, bytes, iter, &v);
	qcow2_parts_exit(&p);
	if (ret == -ENOMEM)
		return qcow2_write_parts(s, a->host + (offset - a->guest),
					 bytes, &p, iter);
	if (ret)
		return ret;
	ret = qcow2_vec_write(s, &v);
	qcow2_vec_exit(&v);
	if (!ret)
		iov_iter_advance(iter, bytes);
	return ret;
}
