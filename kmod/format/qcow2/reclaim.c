// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that caches use longer than anybody needs it.
 *
 * Under memory pressure: a shrinker takes clean slices and decompressed clusters
 * nobody uses from all open images, see reclaim.h for its rules.  It runs
 * wherever memory is allocated, that is also under qcow2_state.lock.  Of locks
 * it takes the xa_lock of a cache, and the mutex of the list if nobody has it:
 * who has it allocates nothing and does no I/O, and another CPU that wants
 * memory goes elsewhere instead of waiting.  An image is in the list from the
 * end of its open to the begin of its close, and qcow2_reclaim_del() waits, by
 * the mutex, for a scan that is looking at it.
 *
 * cache-clean-interval: a run each so many seconds lets go of the slices that
 * were not used since the one before.  It takes no lock but those of the caches
 * and neither allocates nor does I/O, so that closing an image, which cancels
 * the work and waits for a run, waits for nothing else.
 */
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "qcow2.h"

/*
 * Of all images, since those that are only read have no queue of their own.
 * With a rescuer, because work that has one may close an image.
 */
static struct workqueue_struct *qcow2_clean_wq;

static struct shrinker *qcow2_shrinker;

static DEFINE_MUTEX(qcow2_reclaim_mutex);	/* the list */
static LIST_HEAD(qcow2_reclaim_list);
static unsigned int qcow2_reclaim_nr;

/**
 * qcow2_reclaim_add - let memory be taken from a cache
 * @r: of the cache
 */
void qcow2_reclaim_add(struct qcow2_reclaim *r)
{
	mutex_lock(&qcow2_reclaim_mutex);
	list_add_tail(&r->entry, &qcow2_reclaim_list);
	qcow2_reclaim_nr++;
	mutex_unlock(&qcow2_reclaim_mutex);
}

/**
 * qcow2_reclaim_del - undo qcow2_reclaim_add()
 * @r: of the cache; its functions do not run any more
 */
void qcow2_reclaim_del(struct qcow2_reclaim *r)
{
	mutex_lock(&qcow2_reclaim_mutex);
	list_del(&r->entry);
	qcow2_reclaim_nr--;
	mutex_unlock(&qcow2_reclaim_mutex);
}

/**
 * qcow2_reclaim_count - how much might be given back now
 *
 * Context: process, also in reclaim.
 *
 * Return: how much; 0 if somebody is at it already.
 */
unsigned long qcow2_reclaim_count(void)
{
	unsigned long nr = 0;
	struct qcow2_reclaim *r;

	if (!mutex_trylock(&qcow2_reclaim_mutex))
		return 0;
	list_for_each_entry(r, &qcow2_reclaim_list, entry)
		nr += r->count(r);
	mutex_unlock(&qcow2_reclaim_mutex);
	return nr;
}

/**
 * qcow2_reclaim_scan - give memory back
 * @nr: how much to look at
 * @scanned: how much was looked at
 *
 * Caches take turns, so that a busy one does not have to give all the time.
 * Context: process, also in reclaim.
 *
 * Return: how much was given back.
 */
unsigned long qcow2_reclaim_scan(unsigned long nr, unsigned long *scanned)
{
	unsigned long left = nr, some, freed = 0;
	struct qcow2_reclaim *r;
	unsigned int turns;

	*scanned = 0;
	if (!mutex_trylock(&qcow2_reclaim_mutex))
		return 0;
	for (turns = qcow2_reclaim_nr; turns && left; turns--) {
		r = list_first_entry(&qcow2_reclaim_list, struct qcow2_reclaim,
				     entry);
		list_move_tail(&r->entry, &qcow2_reclaim_list);
		some = min(left, r->count(r));
		if (!some)
			continue;
		freed += r->scan(r, some);
		left -= some;
	}
	mutex_unlock(&qcow2_reclaim_mutex);
	*scanned = nr - left;
	return freed;
}

static unsigned long qcow2_shrink_count(struct shrinker *shrinker,
					struct shrink_control *sc)
{
	return qcow2_reclaim_count();
}

static unsigned long qcow2_shrink_scan(struct shrinker *shrinker,
				       struct shrink_control *sc)
{
	unsigned long freed;

	freed = qcow2_reclaim_scan(sc->nr_to_scan, &sc->nr_scanned);
	return sc->nr_scanned ? freed : SHRINK_STOP;
}

static void qcow2_clean_queue(struct qcow2_state *s)
{
	if (s->clean_interval)
		queue_delayed_work(qcow2_clean_wq, &s->clean_work,
				   s->clean_interval * (unsigned long)HZ);
}

/**
 * qcow2_clean_work_fn - let go of unused metadata
 * @work: &qcow2_state.clean_work
 */
void qcow2_clean_work_fn(struct work_struct *work)
{
	struct qcow2_state *s = container_of(to_delayed_work(work),
					     struct qcow2_state, clean_work);

	qcow2_cache_clean_unused(&s->l2_cache);
	qcow2_cache_clean_unused(&s->ref_cache);
	qcow2_clean_queue(s);
}

/**
 * qcow2_reclaim_start - have metadata of an image leave the memory
 * @s: image, open
 */
void qcow2_reclaim_start(struct qcow2_state *s)
{
	qcow2_reclaim_add(&s->l2_cache.reclaim);
	qcow2_reclaim_add(&s->ref_cache.reclaim);
	qcow2_reclaim_add(&s->zcache.reclaim);
	qcow2_pieces_start();
	qcow2_clean_queue(s);
}

/**
 * qcow2_reclaim_stop - undo qcow2_reclaim_start()
 * @s: image; nobody but who has I/O in flight looks at its caches any more
 */
void qcow2_reclaim_stop(struct qcow2_state *s)
{
	cancel_delayed_work_sync(&s->clean_work);
	qcow2_pieces_stop();
	qcow2_reclaim_del(&s->zcache.reclaim);
	qcow2_reclaim_del(&s->ref_cache.reclaim);
	qcow2_reclaim_del(&s->l2_cache.reclaim);
}

/**
 * qcow2_reclaim_init - set up what all images share
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_reclaim_init(void)
{
	qcow2_clean_wq = alloc_workqueue("qblk-clean",
					 WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!qcow2_clean_wq)
		return -ENOMEM;
	qcow2_shrinker = qblk_shrinker_new("qblk-qcow2", qcow2_shrink_count,
					   qcow2_shrink_scan);
	if (qcow2_shrinker)
		return 0;
	destroy_workqueue(qcow2_clean_wq);
	return -ENOMEM;
}

/**
 * qcow2_reclaim_exit - undo qcow2_reclaim_init(), no image is open
 */
void qcow2_reclaim_exit(void)
{
	qblk_shrinker_free(qcow2_shrinker);
	destroy_workqueue(qcow2_clean_wq);
}
