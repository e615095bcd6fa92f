// SPDX-License-Identifier: GPL-2.0
/*
 * Letting go of clusters.
 *
 * A cluster that an L2 entry, an L1 entry or the header no longer points to
 * goes through three stages:
 *
 *   frees_new     the change is in memory only.  After a crash the old
 *		   metadata is back, so the cluster must keep its contents and
 *		   its refcount.
 *   frees_stable  write-back and a flush have made the change stable.  I/O
 *		   that looked the cluster up before may still be in flight to
 *		   it, reads included.
 *   gone          after qblk_node_io_sync() no I/O is left that could have
 *		   found it; the discard for it has completed; only then is its
 *		   refcount decremented in memory, which is what makes it
 *		   allocatable.
 *
 * So a late read never returns another file's data, a late write or discard
 * never hits a new table, and after any crash refcount >= references.
 */
#include <linux/kernel.h>
#include <linux/mempool.h>

#include "qcow2.h"

/* Write-back is not waited for longer than this once clusters were freed. */
#define QCOW2_FREE_DELAY	HZ

/*
 * With lock held nothing may be waited for: memory may come back only with
 * write-back, ours included.  So this takes what is there, the reserve last.
 * When that is used up the caller makes do with fewer clusters, for one of
 * which the reserve is enough, or lets go of lock and waits for records to come
 * back: qcow2_free_retry().
 */
static int qcow2_free_add(struct qcow2_state *s, u64 offset, u64 nr,
			  bool discard, struct list_head *list)
{
	struct qcow2_free *f = NULL;

	if (!list_empty(list))
		f = list_last_entry(list, struct qcow2_free, entry);
	if (!f || f->discard != discard ||
	    f->offset + (f->nr << s->cluster_bits) != offset) {
		f = mempool_alloc(s->free_pool, GFP_NOWAIT | __GFP_NOWARN);
		if (!f)
			return -ENOMEM;
		f->offset = offset;
		f->nr = 0;
		f->discard = discard;
		list_add_tail(&f->entry, list);
	}
	f->nr += nr;
	return 0;
}

/**
 * qcow2_free_prepare - note what an L2 entry points to
 * @s: image
 * @e: checked L2 entry that is going to be replaced
 * @type: says whether a discard is passed down when the last reference goes
 * @list: gets the record, adjacent clusters share one
 *
 * Before the entry changes, so that nothing can fail afterwards.
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_free_prepare(struct qcow2_state *s, const struct qcow2_l2e *e,
		       enum qcow2_discard_type type, struct list_head *list)
{
	bool discard = s->discard_passthrough[type];
	u64 offset, last;
	u32 bytes;

	if (e->entry & QCOW2_OFLAG_COMPRESSED) {
		/* One reference for each host cluster it touches. */
		qcow2_compressed_extent(e->entry, s->cluster_bits, &offset,
					&bytes);
		last = (offset + bytes - 1) >> s->cluster_bits;
		offset = qcow2_start_of_cluster(s, offset);
		return qcow2_free_add(s, offset,
				      last - (offset >> s->cluster_bits) + 1,
				      discard, list);
	}
	/* Nobody counts the clusters of a data file. */
	if (qcow2_has_data_file(s) || !qcow2_has_host(s, e))
		return 0;
	return qcow2_free_add(s, e->entry & QCOW2_L2E_OFFSET_MASK, 1, discard,
			      list);
}

/**
 * qcow2_free_records - forget records without freeing what they name
 * @s: image
 * @list: of records
 */
void qcow2_free_records(struct qcow2_state *s, struct list_head *list)
{
	struct qcow2_free *f, *next;

	list_for_each_entry_safe(f, next, list, entry) {
		list_del(&f->entry);
		mempool_free(f, s->free_pool);
	}
}

/**
 * qcow2_free_commit - the entries that pointed to the clusters have changed
 * @s: image
 * @list: from qcow2_free_prepare(), empty afterwards
 *
 * Context: lock held, since before the entries changed.
 */
void qcow2_free_commit(struct qcow2_state *s, struct list_head *list)
{
	struct qcow2_free *f;

	lockdep_assert_held(&s->lock);
	if (list_empty(list))
		return;
	list_for_each_entry(f, list, entry)
		WRITE_ONCE(s->nr_frees, s->nr_frees + 1);
	list_splice_tail_init(list, &s->frees_new);
	queue_delayed_work(s->wq, &s->wb_work, QCOW2_FREE_DELAY);
}

/**
 * qcow2_free_deferred - let go of a table that was replaced
 * @s: image
 * @offset: its host offset
 * @nr: its clusters
 *
 * Without memory for the record they leak: the replacement is done.
 * Context: lock held.
 */
void qcow2_free_deferred(struct qcow2_state *s, u64 offset, u64 nr)
{
	LIST_HEAD(list);

	if (qcow2_free_add(s, offset, nr,
			   s->discard_passthrough[QCOW2_DISCARD_OTHER], &list))
		pr_warn_ratelimited("qblk: %s: no memory, %llu clusters leaked\n",
				    s->node->name, nr);
	qcow2_free_commit(s, &list);
}

/* How many clusters from @cluster on are alike: last reference or not. */
static u64 qcow2_free_run(struct qcow2_state *s, u64 cluster, u64 max,
			  bool *last)
{
	u64 value, n;

	for (n = 0; n < max; n++) {
		if (qcow2_refcount_read(s, cluster + n, &value))
			break;
		if (!n)
			*last = value == 1;
		else if (*last != (value == 1))
			break;
	}
	return n;
}

static void qcow2_free_one_run(struct qcow2_state *s, struct qcow2_free *f)
{
	u64 cluster = f->offset >> s->cluster_bits;
	bool last = false;
	u64 n;

	mutex_lock(&s->lock);
	n = qcow2_free_run(s, cluster, f->nr, &last);
	if (n && last && qcow2_is_metadata(s, f->offset, n << s->cluster_bits)) {
		qcow2_corrupt(s, true, f->offset, n << s->cluster_bits,
			      "preventing invalid discard of metadata");
		n = 0;
	}
	mutex_unlock(&s->lock);
	if (!n) {
		/* Unreadable refcounts, or not to be freed: the rest leaks. */
		f->nr = 0;
		return;
	}
	/*
	 * Nobody else can raise or drop the last reference meanwhile: there is
	 * one worker per image, and the cluster is not reachable.
	 */
	if (last && f->discard)
		qblk_pdiscard(s->file, f->offset, n << s->cluster_bits);

	mutex_lock(&s->lock);
	qcow2_free_now(s, f->offset, n);
	mutex_unlock(&s->lock);
	f->offset += n << s->cluster_bits;
	f->nr -= n;
}

static void qcow2_free_record(struct qcow2_state *s, struct qcow2_free *f)
{
	qcow2_zcache_drop(&s->zcache, f->offset, f->nr << s->cluster_bits);
	while (f->nr)
		qcow2_free_one_run(s, f);
	list_del(&f->entry);
	mempool_free(f, s->free_pool);

	mutex_lock(&s->lock);
	WRITE_ONCE(s->nr_frees, s->nr_frees - 1);
	WRITE_ONCE(s->frees_done, s->frees_done + 1);
	mutex_unlock(&s->lock);
}

/**
 * qcow2_free_work_fn - take frees_stable to its end
 * @work: &qcow2_state.free_work
 *
 * Waits for I/O in flight, so it must not be waited for by a request that is
 * inside qblk_node_io_begin().
 */
void qcow2_free_work_fn(struct work_struct *work)
{
	struct qcow2_state *s = container_of(work, struct qcow2_state,
					     free_work);
	unsigned int flags = qblk_io_enter();
	struct qcow2_free *f, *next;
	LIST_HEAD(list);

	mutex_lock(&s->lock);
	list_splice_init(&s->frees_stable, &list);
	mutex_unlock(&s->lock);
	if (!list_empty(&list))
		qblk_node_io_sync(s->node);
	list_for_each_entry_safe(f, next, &list, entry)
		qcow2_free_record(s, f);
	qblk_io_leave(flags);
}

/**
 * qcow2_free_pending - are there clusters on their way out?
 * @s: image
 *
 * Wherever they are: also those that write-back or the worker has taken out of
 * the lists.
 */
bool qcow2_free_pending(struct qcow2_state *s)
{
	return READ_ONCE(s->nr_frees);
}

static int qcow2_free_hurry(struct qcow2_state *s)
{
	int ret = qcow2_writeback(s);

	/* Who wrote back before has queued the work by now: wb_mutex. */
	if (!ret)
		flush_work(&s->free_work);
	return ret;
}

static bool qcow2_free_changed(struct qcow2_state *s, unsigned long done)
{
	bool changed;

	mutex_lock(&s->lock);
	changed = s->frees_done != done;
	mutex_unlock(&s->lock);
	return changed;
}

/**
 * qcow2_free_retry - an operation failed: could it work now?
 * @s: image
 * @error: it failed with
 * @done: &qcow2_state.frees_done before it began
 * @tries: it has failed like this so many times before, counted on
 *
 * When the child is full, what is on its way out is hurried.  The same brings
 * records back, and makes slices clean whose memory can be used again.
 * Context: process, no lock held, not inside qblk_node_io_begin().
 *
 * Return: true if it is worth trying again.
 */
bool qcow2_free_retry(struct qcow2_state *s, int error, unsigned long done,
		      unsigned int *tries)
{
	switch (error) {
	case -ENOSPC:
		if ((*tries)++)
			return false;
		if (qcow2_free_changed(s, done))
			return true;
		return qcow2_free_pending(s) && !qcow2_free_hurry(s);
	case -ENOMEM:
		/* Others may take what has come back. */
		return (*tries)++ < QCOW2_NOMEM_TRIES && !qcow2_free_hurry(s);
	default:
		return false;
	}
}

/**
 * qcow2_free_throttle - keep the number of records within bounds
 * @s: image
 *
 * For whoever is about to free many clusters.  Context: as
 * qcow2_free_retry().
 *
 * Return: 0 or the error of the write-back.
 */
int qcow2_free_throttle(struct qcow2_state *s)
{
	if (likely(READ_ONCE(s->nr_frees) <= s->max_frees))
		return 0;
	return qcow2_free_hurry(s);
}
