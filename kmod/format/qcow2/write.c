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
 * only for I/O, or has handed its data to the leaf, which does not wait for any
 * of us; so there is no cycle.
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
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include <qblk/iter.h>

#include "qcow2.h"

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

/**
 * struct qcow2_started - a write that does not wait
 * @append: its data on the way to the end of the file
 * @s: image
 * @plan: an allocation
 * @v: what is written
 * @ret: what became of it
 * @io: of who started it
 */
struct qcow2_started {
	struct qblk_append_io append;
	struct qcow2_state *s;
	struct qcow2_plan plan;
	struct qcow2_vec v;
	int ret;
	struct qblk_io *io;
};

/* Whatever went wrong is for the blocking way to find out again, and to mend. */
static void qcow2_started_end(struct qcow2_started *w, int ret)
{
	struct qblk_io *io = w->io;

	kfree(w);
	io->end_io(io, ret ? BLK_STS_AGAIN : BLK_STS_OK);
}

/* Step 3, from the leaf's worker */
static void qcow2_append_written(struct qblk_append_io *append, int ret)
{
	struct qcow2_started *w = container_of(append, struct qcow2_started,
					       append);

	qcow2_vec_exit(&w->v);
	qcow2_end_alloc(w->s, &w->plan.alloc, ret);
	w->ret = ret;
}

static void qcow2_append_end_io(struct qblk_append_io *append)
{
	struct qcow2_started *w = container_of(append, struct qcow2_started,
					       append);

	qcow2_started_end(w, w->ret);
}

/* Return: -EIOCBQUEUED: the two above do the rest, or have done it. */
static int qcow2_start_alloc(struct qcow2_started *w, struct iov_iter *iter)
{
	struct qcow2_alloc *a = &w->plan.alloc;
	struct qcow2_state *s = w->s;
	int ret;

	ret = qcow2_vec_init(s, a, w->io->offset, w->plan.bytes, iter, &w->v);
	if (ret)
		goto out_end;
	w->append.offset = w->v.host;
	w->append.iter = w->v.iter;
	w->append.written = qcow2_append_written;
	w->append.end_io = qcow2_append_end_io;
	if (!qblk_start_append(s->data, &w->append))
		return -EIOCBQUEUED;
	ret = qcow2_vec_write(s, &w->v);
	qcow2_vec_exit(&w->v);
	if (!ret)
		iov_iter_advance(iter, w->plan.bytes);
out_end:
	qcow2_end_alloc(s, a, ret);
	return ret;
}

/*
 * An append calls its owner, who takes lock, from the worker that others in the
 * queue need, too.  So nobody who has lock may wait for one of these.  Metadata
 * is written with lock held, and that waits for writes to the same blocks of
 * the leaf; those of clusters that are no smaller are metadata's alone.
 */
static bool qcow2_may_append(const struct qcow2_state *s)
{
	return s->cluster_size >= s->data->node->limits.request_alignment;
}

/**
 * qcow2_start_pwritev - ->start_pwritev(), see driver.h
 * @node: image
 * @io: the write
 *
 * What allocates clusters at the end of the file is handed on to be joined with
 * others, see protocol/append.c; the rest is done on the spot.
 */
int qcow2_start_pwritev(struct qblk_node *node, struct qblk_io *io)
{
	struct qcow2_state *s = node->priv;
	struct qcow2_started *w;
	struct iov_iter iter;
	int ret;

	if (!qcow2_may_append(s) || qcow2_balance(s))
		return -EAGAIN;
	w = kmalloc(sizeof(*w), QCOW2_GFP_TRY);
	if (!w)
		return -EAGAIN;
	w->s = s;
	w->io = io;
	mutex_lock(&s->lock);
	ret = qcow2_plan_write(s, io->offset, io->iter.bi_size, &w->plan);
	mutex_unlock(&s->lock);
	if (ret) {
		kfree(w);
		return -EAGAIN;
	}
	qblk_io_iter(io, ITER_SOURCE, &iter);
	if (!w->plan.in_place && w->plan.bytes == io->iter.bi_size) {
		ret = qcow2_start_alloc(w, &iter);
		if (ret == -EIOCBQUEUED)
			return 0;
	} else {
		ret = qcow2_write_planned(s, io->offset, &w->plan, &iter);
	}
	if (!ret)
		ret = qcow2_pwritev(node, io->offset + w->plan.bytes,
				    iov_iter_count(&iter), &iter, 0);
	qcow2_started_end(w, ret);
	return 0;
}
