// SPDX-License-Identifier: GPL-2.0
/*
 * Write-back of metadata.
 *
 * Order on disk, and which line guarantees it.  Refcount blocks hold, at any
 * time, no less than what any metadata on disk refers to (refcount.c), so they
 * may be written whenever it suits.  An L2 slice may be written when
 *
 *   - the refcounts of the clusters it newly points to are stable, or the dirty
 *     bit, which says that they are not (dirty.c), and
 *   - so is the data in them: otherwise a power cut could show what the cluster
 *     held in its earlier life, or lose what was copied on write.
 *
 * Both hold after refcount blocks were written and the child was flushed, in
 * this order, with lock held: an L2 entry changes in memory only after the
 * data write to its cluster completed, so that flush covers the data of all
 * entries that are dirty now.  L2 tables and refcount blocks that are new
 * are made reachable at once, with flushes of their own (l2.c, refcount.c).
 *
 * The flush after the L2 slices belongs to whoever asked for durability; the
 * core flushes the child after ->flush_to_os().  Only when clusters are
 * waiting to be freed a flush is issued here, since they must not be reused
 * before the slices that dropped them are stable.
 */
#include <linux/kernel.h>

#include "qcow2.h"

/* Make stable what was written so far, of data and metadata. */
static int qcow2_barrier(struct qcow2_state *s)
{
	int ret = 0;

	if (qcow2_has_data_file(s))
		ret = qblk_flush(s->data);
	return ret ?: qblk_flush(s->file);
}

/* @late: refcounts may stay in memory, if they are lazy */
static int qcow2_write_l2(struct qcow2_state *s, bool late)
{
	int ret;

	ret = late ? qcow2_settle_refcounts(s) :
		     qcow2_cache_write_dirty(&s->ref_cache);
	if (ret || !qcow2_cache_nr_dirty(&s->l2_cache))
		return ret;
	if (s->need_barrier) {
		ret = qcow2_barrier(s);
		if (ret)
			return ret;
		s->need_barrier = false;
	}
	ret = qcow2_cache_write_dirty(&s->l2_cache);
	if (ret)
		/* What stayed dirty still wants its order. */
		s->need_barrier = true;
	return ret;
}

/* Give back what could not be made stable. */
static void qcow2_frees_return(struct qcow2_state *s, struct list_head *frees)
{
	mutex_lock(&s->lock);
	list_splice(frees, &s->frees_new);
	mutex_unlock(&s->lock);
}

static int qcow2_frees_stabilise(struct qcow2_state *s,
				 struct list_head *frees)
{
	int ret;

	if (list_empty(frees))
		return 0;
	ret = qblk_flush(s->file);
	if (ret) {
		qcow2_frees_return(s, frees);
		return ret;
	}
	mutex_lock(&s->lock);
	list_splice_tail(frees, &s->frees_stable);
	mutex_unlock(&s->lock);
	queue_work(s->wq, &s->free_work);
	return 0;
}

static int qcow2_write_metadata(struct qcow2_state *s, bool late)
{
	LIST_HEAD(frees);
	int ret;

	mutex_lock(&s->wb_mutex);
	mutex_lock(&s->lock);
	list_splice_init(&s->frees_new, &frees);
	ret = qcow2_write_l2(s, late);
	mutex_unlock(&s->lock);
	if (!ret)
		ret = qcow2_frees_stabilise(s, &frees);
	else
		qcow2_frees_return(s, &frees);
	mutex_unlock(&s->wb_mutex);
	return ret;
}

/**
 * qcow2_writeback - write all dirty metadata in an order a crash survives
 * @s: image
 *
 * Lazy refcounts too: whoever calls this wants clean slices.
 * Context: process, GFP_NOIO in scope, lock not held.
 *
 * Return: 0, or the first error; what was not written stays dirty.
 */
int qcow2_writeback(struct qcow2_state *s)
{
	return qcow2_write_metadata(s, false);
}

/**
 * qcow2_balance - keep dirty metadata within limits
 * @s: image
 *
 * Those of the caches: dirty slices cannot be evicted for others.
 *
 * For whoever is about to dirty some.  Context: process, lock not held.
 *
 * Return: 0 or the error of the write-back.
 */
int qcow2_balance(struct qcow2_state *s)
{
	if (likely(qcow2_cache_nr_dirty(&s->l2_cache) <= s->l2_cache.max_dirty &&
		   qcow2_cache_nr_dirty(&s->ref_cache) <=
		   s->ref_cache.max_dirty))
		return 0;
	return qcow2_writeback(s);
}

/* ->flush_to_os(), see driver.h */
int qcow2_flush_to_os(struct qblk_node *node)
{
	return qcow2_write_metadata(node->priv, true);
}

/**
 * qcow2_wb_work_fn - make freed clusters usable without waiting for a flush
 * @work: &qcow2_state.wb_work
 */
void qcow2_wb_work_fn(struct work_struct *work)
{
	struct qcow2_state *s = container_of(to_delayed_work(work),
					     struct qcow2_state, wb_work);
	unsigned int flags = qblk_io_enter();
	int ret;

	ret = qcow2_write_metadata(s, true);
	if (ret)
		pr_err_ratelimited("qblk: %s: metadata write-back failed: %d\n",
				   s->node->name, ret);
	qblk_io_leave(flags);
}

static bool qcow2_all_clean(struct qcow2_state *s)
{
	return !qcow2_free_pending(s) &&
	       !qcow2_cache_nr_dirty(&s->l2_cache) &&
	       !qcow2_cache_nr_dirty(&s->ref_cache);
}

/*
 * Rounds of write-back until all is clean.  The first writes what is dirty and
 * lets go of what was freed, which dirties refcounts; the second writes these.
 * Nothing adds to it from outside, so a third finds nothing to do; what is not
 * clean after it never will be.
 */
#define QCOW2_CLEAN_ROUNDS	3

static int qcow2_clean(struct qcow2_state *s)
{
	int round, ret;

	for (round = 0; round < QCOW2_CLEAN_ROUNDS; round++) {
		ret = qcow2_writeback(s);
		if (ret)
			return ret;
		flush_work(&s->free_work);
		if (qcow2_all_clean(s))
			return 0;
	}
	return -EIO;
}

/* ->inactivate(), see driver.h */
int qcow2_inactivate(struct qblk_node *node, struct qblk_err *err)
{
	struct qcow2_state *s = node->priv;
	int ret;

	if (node->read_only)
		return 0;
	ret = qcow2_clean(s);
	if (ret)
		goto err_write;
	cancel_delayed_work_sync(&s->wb_work);
	ret = qcow2_barrier(s);
	if (!ret)
		ret = qcow2_mark_clean(s);
	if (ret)
		goto err_write;
	return 0;

err_write:
	qblk_err_set(err, "node '%s': cannot write metadata back: error %d",
		     node->name, ret);
	return ret;
}
