// SPDX-License-Identifier: GPL-2.0
/*
 * Writing: in place where the cluster is ours alone, into new clusters
 * otherwise.
 *
 * An allocating write goes like this:
 *
 *   1. with lock held: allocate clusters (their refcounts are 1 in memory) and
 *      enter the allocation in qcow2_state.allocs
 *   2. without it: write the data, together with what the rest of the clusters
 *      held before (copy on write)
 *   3. with lock held: change the L2 entries in memory, note what they pointed
 *      to for free.c, remove the allocation
 *
 * A lookup meanwhile finds the old contents, which is right for a write that
 * has not completed.  Another write to the same clusters waits: it would copy
 * data that is about to change, or allocate a second time.  Who waits holds no
 * allocation and no lock, and who is waited for is already running and waits
 * only for I/O, so there is no cycle.
 *
 * Cut at any time before the L2 slice is on disk, the old contents are there
 * and the new clusters leak; the slice is written after a flush that follows
 * step 2 (writeback.c).
 *
 * With subclusters, clusters are allocated as a whole but filled only as far as
 * the write goes, to the ends of its subclusters; the bitmaps say which have
 * data.  More of them are filled later in the same way, without step 1's
 * allocation.  The same goes for a data file, where each cluster has its place.
 */
#include <linux/bvec.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "qcow2.h"

/* Parts to be filled up to this size are written together with the data. */
#define QCOW2_MERGE_BYTES	(128U << 10)

/* Data up to this size between them is read with them, and thrown away. */
#define QCOW2_OVERLAY_BYTES	(16U << 10)

/**
 * struct qcow2_plan - how a part of a write is done
 * @bytes: length of the part
 * @host: in place: where; the caller is inside qblk_node_io_begin()
 * @io_idx: cookie for qblk_node_io_end()
 * @in_place: no allocation
 * @alloc: otherwise
 */
struct qcow2_plan {
	u64 bytes;
	u64 host;
	int io_idx;
	bool in_place;
	struct qcow2_alloc alloc;
};

/**
 * qcow2_find_alloc - is an allocation in flight in a range?
 * @s: image
 * @guest: guest offset
 * @bytes: length
 *
 * Context: lock held.
 */
struct qcow2_alloc *qcow2_find_alloc(struct qcow2_state *s, u64 guest,
				     u64 bytes)
{
	struct qcow2_alloc *a;

	lockdep_assert_held(&s->lock);
	list_for_each_entry(a, &s->allocs, entry)
		if (guest < a->guest + ((u64)a->nr << s->cluster_bits) &&
		    a->guest < guest + bytes)
			return a;
	return NULL;
}

/**
 * qcow2_wait_for_alloc - wait until some allocation in flight has ended
 * @s: image
 *
 * Drops lock while waiting; what was looked up before has to be looked up
 * again.
 */
void qcow2_wait_for_alloc(struct qcow2_state *s)
{
	DEFINE_WAIT(wait);

	prepare_to_wait(&s->alloc_wait, &wait, TASK_UNINTERRUPTIBLE);
	mutex_unlock(&s->lock);
	schedule();
	finish_wait(&s->alloc_wait, &wait);
	mutex_lock(&s->lock);
}

/* Is there a host cluster which only this L2 entry refers to? */
static bool qcow2_is_private(const struct qcow2_state *s,
			     const struct qcow2_l2e *e)
{
	return e->entry & QCOW2_OFLAG_COPIED && qcow2_has_host(s, e);
}

/*
 * Does the entry after @nr others belong to the same allocation?  In a data
 * file any does: the place of each cluster is given.
 */
static bool qcow2_alloc_continues(const struct qcow2_state *s,
				  const struct qcow2_alloc *a,
				  const struct qcow2_l2e *first,
				  const struct qcow2_l2e *e, unsigned int nr)
{
	if (qcow2_has_data_file(s))
		return true;
	if (!a->reuse)
		return !qcow2_is_private(s, e);
	return qcow2_is_private(s, e) &&
	       (e->entry & QCOW2_L2E_OFFSET_MASK) ==
	       (first->entry & QCOW2_L2E_OFFSET_MASK) +
	       ((u64)nr << s->cluster_bits);
}

/* How many clusters from the alloc's first on can be allocated in one go */
static unsigned int qcow2_alloc_run(struct qcow2_state *s,
				    struct qcow2_alloc *a,
				    const struct qcow2_l2e *first,
				    unsigned int max)
{
	unsigned int n;

	for (n = 1; n < max; n++) {
		struct qcow2_l2e e = qcow2_l2_entry(s, a->slice, a->index + n);
		u64 guest = a->guest + ((u64)n << s->cluster_bits);

		if (qcow2_find_alloc(s, guest, s->cluster_size) ||
		    qcow2_l2_check(s, guest, &e) ||
		    !qcow2_alloc_continues(s, a, first, &e, n))
			break;
	}
	return n;
}

/* Without memory for all records, fewer clusters */
static int qcow2_alloc_frees(struct qcow2_state *s, struct qcow2_alloc *a)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < a->nr; i++) {
		struct qcow2_l2e e = qcow2_l2_entry(s, a->slice, a->index + i);

		ret = qcow2_free_prepare(s, &e, QCOW2_DISCARD_NEVER,
					 &a->frees);
		if (ret)
			break;
	}
	if (!i)
		return ret;
	qcow2_free_now(s, a->host + ((u64)i << s->cluster_bits), a->nr - i);
	a->nr = i;
	return 0;
}

/* Clusters that are not written to yet, for the alloc */
static int qcow2_alloc_host(struct qcow2_state *s, struct qcow2_alloc *a)
{
	u64 got;
	int ret;

	ret = qcow2_alloc_clusters(s, a->nr, &a->host, &got);
	if (ret)
		return ret;
	a->nr = got;
	ret = qcow2_alloc_frees(s, a);
	if (ret)
		qcow2_free_now(s, a->host, a->nr);
	return ret;
}

/* Where the alloc's clusters go */
static int qcow2_alloc_place(struct qcow2_state *s, struct qcow2_alloc *a,
			     const struct qcow2_l2e *first)
{
	struct qblk_node *data = s->data->node;
	int ret = 0;

	if (qcow2_has_data_file(s)) {
		a->reuse = true;
		a->host = a->guest;
	} else if (a->reuse) {
		a->host = first->entry & QCOW2_L2E_OFFSET_MASK;
		ret = qcow2_check_write(s, a->host,
					(u64)a->nr << s->cluster_bits);
	} else {
		ret = qcow2_alloc_host(s, a);
	}
	a->fresh = !ret && data->limits.can_grow &&
		   a->host >= qblk_node_length(data);
	return ret;
}

/*
 * Where in the first cluster the write begins, copied data included: what the
 * bitmaps name as data afterwards has to be in the new cluster.  Zero and
 * unallocated subclusters before the first with data stay what they are.
 */
static u64 qcow2_alloc_from(const struct qcow2_state *s,
			    const struct qcow2_l2e *e, u64 skip)
{
	u64 from = round_down(skip, BIT_ULL(s->sc_bits));

	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return 0;
	if (!qcow2_is_private(s, e) && e->alloc)
		return min(from, (u64)__ffs(e->alloc) << s->virt_bits);
	return from;
}

/* And where in the last cluster it ends */
static u64 qcow2_alloc_to(const struct qcow2_state *s,
			  const struct qcow2_l2e *e, u64 end)
{
	u64 to = round_up(end, BIT_ULL(s->sc_bits));

	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return s->cluster_size;
	if (!qcow2_is_private(s, e))
		return !e->alloc ? to :
		       max(to, (u64)(__fls(e->alloc) + 1) << s->virt_bits);
	/* What is data already needs no copy, and may be written meanwhile. */
	if (e->alloc & BIT((end - 1) >> s->virt_bits))
		return end;
	return to;
}

/* The part of the alloc's clusters that a write fills, copied data included */
static void qcow2_alloc_range(const struct qcow2_state *s,
			      struct qcow2_alloc *a, u64 offset, u64 bytes)
{
	u64 last_guest = a->guest + ((u64)(a->nr - 1) << s->cluster_bits);
	struct qcow2_l2e first = qcow2_l2_entry(s, a->slice, a->index);
	struct qcow2_l2e last = qcow2_l2_entry(s, a->slice,
					       a->index + a->nr - 1);

	a->from = a->guest + qcow2_alloc_from(s, &first, offset - a->guest);
	a->to = last_guest + qcow2_alloc_to(s, &last,
					    offset + bytes - last_guest);
}

/* Plan an allocation of at most @max clusters; the slice is pinned. */
static int qcow2_plan_alloc(struct qcow2_state *s, struct qcow2_alloc *a,
			    unsigned int max)
{
	struct qcow2_l2e first = qcow2_l2_entry(s, a->slice, a->index);
	int ret;

	INIT_LIST_HEAD(&a->frees);
	a->reuse = qcow2_is_private(s, &first);
	a->nr = qcow2_alloc_run(s, a, &first, max);
	ret = qcow2_alloc_place(s, a, &first);
	if (!ret)
		list_add_tail(&a->entry, &s->allocs);
	return ret;
}

static int qcow2_plan_in_place(struct qcow2_state *s, u64 offset, u64 bytes,
			       const struct qcow2_slice *slice,
			       unsigned int index, const struct qcow2_l2e *e,
			       struct qcow2_plan *p)
{
	int ret = 0;

	p->in_place = true;
	p->host = (e->entry & QCOW2_L2E_OFFSET_MASK) +
		  qcow2_offset_in_cluster(s, offset);
	p->bytes = qcow2_l2_run(s, slice, index, e, offset, bytes, true);
	if (!qcow2_has_data_file(s))
		ret = qcow2_check_write(s, p->host, p->bytes);
	if (ret)
		return ret;
	/* The entry cannot change before lock is dropped. */
	p->io_idx = qblk_node_io_begin(s->node);
	return 0;
}

/* The entry of the first cluster is @e, of the alloc's slice. */
static int qcow2_plan_entry(struct qcow2_state *s, u64 offset, u64 bytes,
			    const struct qcow2_l2e *e, struct qcow2_plan *p)
{
	u64 skip = qcow2_offset_in_cluster(s, offset);
	struct qcow2_alloc *a = &p->alloc;
	unsigned int max;
	int ret;

	p->in_place = false;
	if (qcow2_is_private(s, e) &&
	    qcow2_sc_kind(e, qcow2_sc_index(s, offset)) == QCOW2_SC_NORMAL) {
		ret = qcow2_plan_in_place(s, offset, bytes, a->slice, a->index,
					  e, p);
		qcow2_cache_put(a->slice);
		return ret;
	}
	max = min_t(u64, (1U << qcow2_slice_l2_bits(s)) - a->index,
		    (skip + bytes + s->cluster_size - 1) >> s->cluster_bits);
	a->guest = offset - skip;
	ret = qcow2_plan_alloc(s, a, max);
	if (ret) {
		qcow2_cache_put(a->slice);
		return ret;
	}
	p->bytes = min(bytes, ((u64)a->nr << s->cluster_bits) - skip);
	qcow2_alloc_range(s, a, offset, p->bytes);
	return 0;
}

/*
 * Decide what to do with the first part of a write.  Context: lock held, may be
 * dropped and taken again.
 */
static int qcow2_plan_write(struct qcow2_state *s, u64 offset, u64 bytes,
			    struct qcow2_plan *p)
{
	struct qcow2_alloc *a = &p->alloc;
	struct qcow2_l2e e;
	int ret;

	while (qcow2_find_alloc(s, qcow2_start_of_cluster(s, offset),
				s->cluster_size))
		qcow2_wait_for_alloc(s);
	if (s->corrupt)
		return -EIO;
	ret = qcow2_l2_get_writable(s, offset, &a->slice, &a->index);
	if (ret)
		return ret;
	e = qcow2_l2_entry(s, a->slice, a->index);
	ret = qcow2_l2_check(s, offset, &e);
	if (!ret)
		return qcow2_plan_entry(s, offset, bytes, &e, p);
	qcow2_cache_put(a->slice);
	return ret;
}

/* The entry of the alloc's cluster @nr, as it is after the write */
static struct qcow2_l2e qcow2_linked_entry(const struct qcow2_state *s,
					   const struct qcow2_alloc *a,
					   unsigned int nr)
{
	struct qcow2_l2e e = qcow2_l2_entry(s, a->slice, a->index + nr);
	u64 pos = (u64)nr << s->cluster_bits;
	u64 guest = a->guest + pos;
	u64 from = max(a->from, guest);
	u64 last = min(a->to, guest + s->cluster_size) - 1;
	u32 mask = qcow2_sc_mask(qcow2_sc_index(s, from),
				 qcow2_sc_index(s, last));

	e.entry = (a->host + pos) | QCOW2_OFLAG_COPIED;
	e.alloc |= mask;
	e.zero &= ~mask;
	return e;
}

/* Step 3: cannot fail, the slice is pinned and the records are there. */
static void qcow2_link(struct qcow2_state *s, struct qcow2_alloc *a)
{
	unsigned int i;

	for (i = 0; i < a->nr; i++) {
		struct qcow2_l2e e = qcow2_linked_entry(s, a, i);

		qcow2_l2_set(s, a->slice, a->index + i, &e);
	}
	s->need_barrier = true;
	qcow2_free_commit(s, &a->frees);
}

static void qcow2_end_alloc(struct qcow2_state *s, struct qcow2_alloc *a,
			    int error)
{
	mutex_lock(&s->lock);
	list_del(&a->entry);
	if (!error) {
		qcow2_link(s, a);
	} else {
		qcow2_free_records(s, &a->frees);
		if (!a->reuse)
			qcow2_free_now(s, a->host, a->nr);
	}
	mutex_unlock(&s->lock);
	wake_up_all(&s->alloc_wait);
	qcow2_cache_put(a->slice);
}

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

static int qcow2_part_init(struct qcow2_state *s, const struct qcow2_alloc *a,
			   u64 guest, u64 bytes, struct qcow2_part *part)
{
	int ret;

	*part = (struct qcow2_part){ .guest = guest, .bytes = bytes };
	if (!bytes)
		return 0;
	ret = qcow2_range_is_zero(s, guest, bytes, &part->zero);
	part->fill = !(part->zero && a->fresh);
	return ret;
}

/**
 * struct qcow2_vec - a write under construction
 * @bv: segments
 * @nr: used
 */
struct qcow2_vec {
	struct bio_vec *bv;
	unsigned int nr;
};

static void qcow2_vec_add_zeroes(struct qcow2_vec *v, u64 bytes)
{
	for (; bytes; bytes -= v->bv[v->nr++].bv_len)
		bvec_set_page(&v->bv[v->nr], ZERO_PAGE(0),
			      min_t(u64, bytes, PAGE_SIZE), 0);
}

static void qcow2_vec_add_iter(struct qcow2_vec *v, const struct iov_iter *iter,
			       u64 bytes)
{
	struct bvec_iter bi = {
		.bi_size = bytes,
		.bi_bvec_done = iter->iov_offset,
	};
	struct bio_vec bv;

	for_each_bvec(bv, iter->bvec, bi, bi)
		v->bv[v->nr++] = bv;
}

/*
 * As few as possible: each is allocated, added to bios and freed by itself.
 * But no more than one page is worth looking for.
 */
static struct page *qcow2_vec_alloc(u64 bytes, u32 *len)
{
	int order = min(ilog2(DIV_ROUND_UP_ULL(bytes, PAGE_SIZE)),
			PAGE_ALLOC_COSTLY_ORDER);
	struct page *page = NULL;

	for (; !page && order > 0; order--) {
		page = alloc_pages((QCOW2_GFP_TRY & ~__GFP_DIRECT_RECLAIM) |
				   __GFP_COMP, order);
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

static void qcow2_vec_free(struct qcow2_vec *v, unsigned int first,
			   unsigned int nr)
{
	for (; nr; nr--, first++)
		if (v->bv[first].bv_page != ZERO_PAGE(0))
			__free_pages(v->bv[first].bv_page,
				     get_order(v->bv[first].bv_len));
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

/* Read what a part held before into new pages at the end of the vector. */
static int qcow2_vec_add_old(struct qcow2_state *s, struct qcow2_vec *v,
			     const struct qcow2_part *part)
{
	unsigned int first = v->nr;
	struct iov_iter iter;
	int ret;

	ret = qcow2_vec_add_pages(v, part->bytes);
	if (ret)
		return ret;
	iov_iter_bvec(&iter, ITER_DEST, v->bv + first, v->nr - first,
		      part->bytes);
	return qcow2_read_old(s, part->guest, part->bytes, &iter);
}

static int qcow2_vec_add_part(struct qcow2_state *s, struct qcow2_vec *v,
			      const struct qcow2_part *part)
{
	if (!part->fill)
		return 0;
	if (!part->zero)
		return qcow2_vec_add_old(s, v, part);
	qcow2_vec_add_zeroes(v, part->bytes);
	return 0;
}

static unsigned int qcow2_part_segs(const struct qcow2_part *part)
{
	return part->fill ? DIV_ROUND_UP_ULL(part->bytes, PAGE_SIZE) : 0;
}

static unsigned int qcow2_iter_segs(const struct iov_iter *iter, u64 bytes)
{
	struct bvec_iter bi = {
		.bi_size = bytes,
		.bi_bvec_done = iter->iov_offset,
	};
	unsigned int nr = 0;
	struct bio_vec bv;

	for_each_bvec(bv, iter->bvec, bi, bi)
		nr++;
	return nr;
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

/* @len bytes, of which @bytes are the guest's */
static int qcow2_vec_write(struct qcow2_state *s, const struct qcow2_vec *v,
			   u64 host, u64 len, struct iov_iter *data, u64 bytes)
{
	struct iov_iter iter;
	int ret;

	iov_iter_bvec(&iter, ITER_SOURCE, v->bv, v->nr, len);
	ret = qblk_pwritev(s->data, host, len, &iter, 0);
	if (!ret)
		iov_iter_advance(data, bytes);
	return ret;
}

/* Is one read, of what is overwritten as well, better than two? */
static bool qcow2_worth_overlay(const struct qcow2_part *head,
				const struct qcow2_part *tail, u64 bytes)
{
	return head->bytes && head->fill && !head->zero &&
	       tail->bytes && tail->fill && !tail->zero &&
	       bytes <= QCOW2_OVERLAY_BYTES;
}

/* Read all, copy the data over it, write all; otherwise as below */
static int qcow2_write_overlaid(struct qcow2_state *s, u64 host,
				const struct qcow2_part *head,
				const struct qcow2_part *tail,
				struct iov_iter *data, u64 bytes)
{
	const struct qcow2_part all = {
		.guest = head->guest,
		.bytes = head->bytes + bytes + tail->bytes,
		.fill = true,
	};
	struct qcow2_vec v = {};
	int ret;

	v.bv = kvmalloc_array(qcow2_part_segs(&all), sizeof(*v.bv),
			      QCOW2_GFP_TRY);
	if (!v.bv)
		return -ENOMEM;
	ret = qcow2_vec_add_old(s, &v, &all);
	if (!ret)
		ret = qcow2_vec_overlay(&v, head->bytes, *data, bytes);
	if (!ret)
		ret = qcow2_vec_write(s, &v, host - head->bytes, all.bytes,
				      data, bytes);
	qcow2_vec_free(&v, 0, v.nr);
	kvfree(v.bv);
	return ret;
}

/* Head, data and tail with one write; -ENOMEM, and nothing was done */
static int qcow2_write_merged(struct qcow2_state *s, u64 host,
			      const struct qcow2_part *head,
			      const struct qcow2_part *tail,
			      struct iov_iter *data, u64 bytes)
{
	unsigned int data_segs = qcow2_iter_segs(data, bytes);
	unsigned int segs = qcow2_part_segs(head) + data_segs +
			    qcow2_part_segs(tail);
	u64 len = bytes;
	struct qcow2_vec v = {};
	unsigned int first, after;
	int ret;

	v.bv = kvmalloc_array(segs, sizeof(*v.bv), QCOW2_GFP_TRY);
	if (!v.bv)
		return -ENOMEM;
	ret = qcow2_vec_add_part(s, &v, head);
	first = v.nr;
	after = v.nr;
	if (ret)
		goto out_free;
	qcow2_vec_add_iter(&v, data, bytes);
	after = v.nr;
	ret = qcow2_vec_add_part(s, &v, tail);
	if (ret)
		goto out_free;

	if (head->fill) {
		len += head->bytes;
		host -= head->bytes;
	}
	if (tail->fill)
		len += tail->bytes;
	ret = qcow2_vec_write(s, &v, host, len, data, bytes);
out_free:
	qcow2_vec_free(&v, 0, first);
	qcow2_vec_free(&v, after, v.nr - after);
	kvfree(v.bv);
	return ret;
}

/*
 * Copy a part piece by piece.  Waiting for the buffer is safe: whoever has it
 * waits for I/O to other nodes alone, which have their own.
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

/* Step 2: write guest data and the rest of the clusters. */
static int qcow2_write_clusters(struct qcow2_state *s, struct qcow2_alloc *a,
				u64 offset, u64 bytes, struct iov_iter *iter)
{
	u64 host = a->host + (offset - a->guest);
	struct qcow2_part head, tail;
	int ret;

	ret = qcow2_part_init(s, a, a->from, offset - a->from, &head);
	if (!ret)
		ret = qcow2_part_init(s, a, offset + bytes,
				      qcow2_fill_end(s, a) - offset - bytes,
				      &tail);
	if (ret)
		return ret;
	if (!head.fill && !tail.fill)
		return qblk_pwritev(s->data, host, bytes, iter, 0);
	if (head.bytes + tail.bytes <= QCOW2_MERGE_BYTES) {
		ret = qcow2_worth_overlay(&head, &tail, bytes) ?
			qcow2_write_overlaid(s, host, &head, &tail, iter,
					     bytes) :
			qcow2_write_merged(s, host, &head, &tail, iter, bytes);
		if (ret != -ENOMEM)
			return ret;
	}

	ret = qcow2_fill_part(s, host - head.bytes, &head);
	if (!ret)
		ret = qblk_pwritev(s->data, host, bytes, iter, 0);
	if (!ret)
		ret = qcow2_fill_part(s, host + bytes, &tail);
	return ret;
}

static int qcow2_write_planned(struct qcow2_state *s, u64 offset,
			       struct qcow2_plan *p, struct iov_iter *iter)
{
	int ret;

	if (p->in_place) {
		ret = qblk_pwritev(s->data, p->host, p->bytes, iter, 0);
		qblk_node_io_end(s->node, p->io_idx);
		return ret;
	}
	ret = qcow2_write_clusters(s, &p->alloc, offset, p->bytes, iter);
	qcow2_end_alloc(s, &p->alloc, ret);
	return ret;
}

static int qcow2_write_some(struct qcow2_state *s, u64 offset, u64 bytes,
			    struct iov_iter *iter, u64 *done)
{
	struct qcow2_plan p;
	int ret;

	ret = qcow2_balance(s);
	if (ret)
		return ret;
	mutex_lock(&s->lock);
	ret = qcow2_plan_write(s, offset, bytes, &p);
	mutex_unlock(&s->lock);
	if (ret)
		return ret;
	*done = p.bytes;
	return qcow2_write_planned(s, offset, &p, iter);
}

/* ->pwritev(), see driver.h; the core emulates FUA with a flush. */
int qcow2_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
		  struct iov_iter *iter, unsigned int flags)
{
	struct qcow2_state *s = node->priv;
	unsigned int tries = 0;

	while (bytes) {
		unsigned long freed = READ_ONCE(s->frees_done);
		struct iov_iter part = *iter;
		u64 done;
		int ret;

		ret = qcow2_write_some(s, offset, bytes, &part, &done);
		if (ret && qcow2_free_retry(s, ret, freed, &tries))
			continue;
		if (ret)
			return ret;
		tries = 0;
		iov_iter_advance(iter, done);
		offset += done;
		bytes -= done;
	}
	return 0;
}
