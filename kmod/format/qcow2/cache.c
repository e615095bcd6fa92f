// SPDX-License-Identifier: GPL-2.0
/*
 * Metadata cache: slices of L2 tables and refcount blocks, by host offset.
 *
 * Lookups take no lock: the xarray is walked under RCU, and a slice is freed
 * after a grace period.  A lookup that only wants to read entries does so
 * inside its RCU section (qcow2_cache_peek()); whoever sleeps or changes
 * entries takes a reference (qcow2_cache_get()).
 *
 * Slices change, become dirty and are written under qcow2_state.lock.  A dirty
 * slice is never evicted, and is cleaned only after its write has succeeded,
 * so what is read back from disk after an eviction is never stale.
 */
#include <linux/bvec.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>

#include "qcow2.h"

/* Slices looked at under the lock of a cache without a break */
#define QCOW2_SCAN_BATCH	64

/* Chunks read or written with one request */
#define QCOW2_IO_CHUNKS		16U

/* Slices the smallest cache holds, if they are not larger than 4 KiB */
#define QCOW2_MIN_SLICES	16U

static void **qcow2_slice_chunk(struct qcow2_slice *slice, unsigned int chunk)
{
	return chunk ? &slice->more[chunk - 1] : &slice->data;
}

static void qcow2_slice_free(struct qcow2_slice *slice)
{
	unsigned int i;

	if (!slice)
		return;
	for (i = 0; i < slice->chunks; i++)
		kfree(*qcow2_slice_chunk(slice, i));
	kfree(slice);
}

static void qcow2_slice_free_rcu(struct rcu_head *rcu)
{
	qcow2_slice_free(container_of(rcu, struct qcow2_slice, rcu));
}

static u32 qcow2_chunk_bytes(const struct qcow2_cache *c)
{
	return BIT(min_t(u32, c->slice_bits, QCOW2_CHUNK_BITS));
}

static struct qcow2_slice *qcow2_slice_alloc(const struct qcow2_cache *c,
					     gfp_t gfp)
{
	struct qcow2_slice *slice;
	void **chunk;

	slice = kmalloc(struct_size(slice, more, c->chunks - 1), gfp);
	if (!slice)
		return NULL;
	seqcount_init(&slice->seq);
	for (slice->chunks = 0; slice->chunks < c->chunks; slice->chunks++) {
		chunk = qcow2_slice_chunk(slice, slice->chunks);
		/* Of a power of two, hence aligned and within one page. */
		*chunk = kmalloc(qcow2_chunk_bytes(c), gfp);
		if (!*chunk) {
			qcow2_slice_free(slice);
			return NULL;
		}
	}
	return slice;
}

/**
 * qcow2_cache_put - drop a reference to a slice
 * @slice: from qcow2_cache_get()
 */
void qcow2_cache_put(struct qcow2_slice *slice)
{
	if (refcount_dec_and_test(&slice->ref))
		call_rcu(&slice->rcu, qcow2_slice_free_rcu);
}

/* The cache's reference stays with the caller. */
static void qcow2_cache_unlink(struct qcow2_cache *c,
			       struct qcow2_slice *slice)
	__must_hold(&c->slices.xa_lock)
{
	__xa_erase(&c->slices, slice->key);
	list_del(&slice->lru);
	c->nr--;
	if (test_and_clear_bit(QCOW2_SLICE_DIRTY, &slice->flags))
		c->nr_dirty--;
}

/*
 * Take a slice out if it is clean and nobody uses it.  It has no reference left
 * then, but lookups may still see it.
 */
static bool qcow2_cache_take(struct qcow2_cache *c, struct qcow2_slice *slice)
	__must_hold(&c->slices.xa_lock)
{
	if (test_bit(QCOW2_SLICE_DIRTY, &slice->flags) ||
	    !refcount_dec_if_one(&slice->ref))
		return false;
	qcow2_cache_unlink(c, slice);
	return true;
}

/*
 * Evicted now, or given its second chance (NULL)?  The list is not empty.
 */
static struct qcow2_slice *qcow2_cache_evict_one(struct qcow2_cache *c)
	__must_hold(&c->slices.xa_lock)
{
	struct qcow2_slice *slice =
		list_first_entry(&c->lru, struct qcow2_slice, lru);

	if (!test_and_clear_bit(QCOW2_SLICE_REFERENCED, &slice->flags) &&
	    qcow2_cache_take(c, slice))
		return slice;
	list_move_tail(&slice->lru, &c->lru);
	return NULL;
}

/* Of the list, which is not empty */
static bool qcow2_cache_first_is_dirty(struct qcow2_cache *c)
	__must_hold(&c->slices.xa_lock)
{
	return test_bit(QCOW2_SLICE_DIRTY,
			&list_first_entry(&c->lru, struct qcow2_slice,
					  lru)->flags);
}

/* Pages or so a slice stands for under memory pressure */
static unsigned long qcow2_cache_weight(const struct qcow2_cache *c)
{
	return max(1UL, BIT(c->slice_bits) / PAGE_SIZE);
}

static unsigned long qcow2_cache_reclaim_count(struct qcow2_reclaim *r)
{
	struct qcow2_cache *c = container_of(r, struct qcow2_cache, reclaim);
	unsigned long nr;

	xa_lock(&c->slices);
	nr = c->nr - c->nr_dirty;
	xa_unlock(&c->slices);
	return nr * qcow2_cache_weight(c);
}

static unsigned long qcow2_cache_reclaim_scan(struct qcow2_reclaim *r,
					      unsigned long nr)
{
	struct qcow2_cache *c = container_of(r, struct qcow2_cache, reclaim);
	unsigned long weight = qcow2_cache_weight(c);
	struct qcow2_slice *slice;
	unsigned long freed = 0;
	unsigned int look;

	xa_lock(&c->slices);
	nr = DIV_ROUND_UP(nr, weight);
	/* Dirty ones, which were not counted, are passed over. */
	for (look = 2 * c->nr; look && nr && c->nr > c->nr_dirty; look--) {
		nr -= !qcow2_cache_first_is_dirty(c);
		slice = qcow2_cache_evict_one(c);
		if (!slice)
			continue;
		freed++;
		call_rcu(&slice->rcu, qcow2_slice_free_rcu);
	}
	c->shrunk += freed;
	xa_unlock(&c->slices);
	return freed * weight;
}

/**
 * qcow2_cache_init - an empty cache
 * @c: cache
 * @file: where the tables are
 * @slice_bits: log2 of the bytes in a slice
 * @bytes: memory for slices; at least 64 KiB or 2 of them are allowed, or 16 if
 *	they are small
 *
 * Return: 0 or -ENOMEM; qcow2_cache_exit() has to follow in any case.
 */
int qcow2_cache_init(struct qcow2_cache *c, struct qblk_child *file,
		     u32 slice_bits, u64 bytes)
{
	c->file = file;
	xa_init(&c->slices);
	INIT_LIST_HEAD(&c->lru);
	c->slice_bits = slice_bits;
	c->chunks = BIT(slice_bits - min_t(u32, slice_bits, QCOW2_CHUNK_BITS));
	c->nr = 0;
	c->nr_dirty = 0;
	c->max = clamp_t(u64, bytes >> slice_bits,
			 max(QCOW2_MIN_SLICES / c->chunks, 2U), INT_MAX);
	c->max_dirty = c->max / 2;
	atomic64_set(&c->hits, 0);
	atomic64_set(&c->misses, 0);
	c->evicted = 0;
	c->cleaned = 0;
	c->shrunk = 0;
	c->reclaim.count = qcow2_cache_reclaim_count;
	c->reclaim.scan = qcow2_cache_reclaim_scan;
	c->spare = qcow2_slice_alloc(c, GFP_KERNEL);
	return c->spare ? 0 : -ENOMEM;
}

/**
 * qcow2_cache_exit - free all slices, dirty or not
 * @c: cache nobody uses any more
 */
void qcow2_cache_exit(struct qcow2_cache *c)
{
	struct qcow2_slice *slice;
	unsigned long key;

	xa_for_each(&c->slices, key, slice) {
		xa_lock(&c->slices);
		qcow2_cache_unlink(c, slice);
		xa_unlock(&c->slices);
		qcow2_cache_put(slice);
	}
	xa_destroy(&c->slices);
	qcow2_slice_free(c->spare);
	c->spare = NULL;
}

/*
 * Down to the limit, if there is enough that is clean and unused: the limit
 * gives way to dirty slices, whose number qcow2_balance() keeps down.
 */
static void qcow2_cache_evict(struct qcow2_cache *c)
{
	struct qcow2_slice *slice;
	unsigned int scan;

	xa_lock(&c->slices);
	for (scan = 2 * c->nr; scan && c->nr > c->max; scan--) {
		slice = qcow2_cache_evict_one(c);
		if (!slice)
			continue;
		c->evicted++;
		call_rcu(&slice->rcu, qcow2_slice_free_rcu);
	}
	xa_unlock(&c->slices);
}

/* From @key on.  Return: are there more? */
static bool qcow2_cache_clean_some(struct qcow2_cache *c, unsigned long *key)
{
	unsigned int nr = QCOW2_SCAN_BATCH;
	struct qcow2_slice *slice;

	xa_lock(&c->slices);
	xa_for_each_start(&c->slices, *key, slice, *key) {
		if (!nr--)
			break;
		if (!test_and_set_bit(QCOW2_SLICE_IDLE, &slice->flags) ||
		    !qcow2_cache_take(c, slice))
			continue;
		c->cleaned++;
		call_rcu(&slice->rcu, qcow2_slice_free_rcu);
	}
	xa_unlock(&c->slices);
	return slice;
}

/**
 * qcow2_cache_clean_unused - let go of what was not used since the last run
 * @c: cache
 *
 * Clean slices nobody has a reference to.  In the order of their offsets, so
 * that a run sees each of them once.  Context: process, may sleep.
 */
void qcow2_cache_clean_unused(struct qcow2_cache *c)
{
	unsigned long key = 0;

	while (qcow2_cache_clean_some(c, &key))
		cond_resched();
}

/**
 * qcow2_cache_reserve - a slice's memory when there is no memory
 * @c: cache
 *
 * The spare one, or that of a clean slice which nobody uses: as long as there
 * is one of these in the cache, metadata can be read.  If all are dirty, the
 * caller lets go of qcow2_state.lock and writes back (qcow2_free_retry()).
 * Context: process.
 *
 * Return: a slice that belongs to the caller alone, or NULL.
 */
struct qcow2_slice *qcow2_cache_reserve(struct qcow2_cache *c)
{
	struct qcow2_slice *slice = xchg(&c->spare, NULL);
	unsigned int scan;

	if (slice)
		return slice;
	xa_lock(&c->slices);
	for (scan = 2 * c->nr; scan && !slice && c->nr > c->nr_dirty; scan--)
		slice = qcow2_cache_evict_one(c);
	xa_unlock(&c->slices);
	/* Lookups may still read its entries. */
	if (slice)
		synchronize_rcu();
	return slice;
}

/* Have a spare slice again. */
static void qcow2_cache_refill(struct qcow2_cache *c)
{
	struct qcow2_slice *slice;

	if (likely(READ_ONCE(c->spare)))
		return;
	slice = qcow2_slice_alloc(c, QCOW2_GFP_TRY);
	if (slice && cmpxchg(&c->spare, NULL, slice))
		qcow2_slice_free(slice);
}

/* A slice with one reference for the cache and one for the caller */
static struct qcow2_slice *qcow2_slice_new(struct qcow2_cache *c,
					   unsigned long key)
{
	struct qcow2_slice *slice = qcow2_slice_alloc(c, QCOW2_GFP_TRY);

	if (!slice)
		slice = qcow2_cache_reserve(c);
	if (!slice)
		return NULL;
	slice->key = key;
	slice->flags = BIT(QCOW2_SLICE_READING);
	refcount_set(&slice->ref, 2);
	return slice;
}

static void qcow2_slice_touch(struct qcow2_slice *slice)
{
	unsigned long used = READ_ONCE(slice->flags) &
			     (BIT(QCOW2_SLICE_REFERENCED) |
			      BIT(QCOW2_SLICE_IDLE));

	/* Look first: a write by every reader would bounce the line. */
	if (likely(used == BIT(QCOW2_SLICE_REFERENCED)))
		return;
	set_bit(QCOW2_SLICE_REFERENCED, &slice->flags);
	clear_bit(QCOW2_SLICE_IDLE, &slice->flags);
}

/**
 * qcow2_cache_peek - find a slice without sleeping
 * @c: cache
 * @offset: host offset of the slice
 *
 * Context: any, inside an RCU read-side section, in which the slice may be
 * used; entries are read with READ_ONCE().
 *
 * Return: the slice, or NULL when it is not in memory.
 */
struct qcow2_slice *qcow2_cache_peek(struct qcow2_cache *c, u64 offset)
{
	struct qcow2_slice *slice;

	slice = xa_load(&c->slices, offset >> c->slice_bits);
	if (!slice || !test_bit_acquire(QCOW2_SLICE_UPTODATE, &slice->flags))
		return NULL;
	qcow2_slice_touch(slice);
	return slice;
}

/* -EBUSY: somebody else was faster. */
static int qcow2_cache_insert(struct qcow2_cache *c, struct qcow2_slice *slice)
{
	int ret;

	xa_lock(&c->slices);
	ret = __xa_insert(&c->slices, slice->key, slice, GFP_NOIO);
	if (!ret) {
		list_add_tail(&slice->lru, &c->lru);
		c->nr++;
	}
	xa_unlock(&c->slices);
	return ret;
}

/*
 * Read or write slices that are adjacent in the file.  A large one takes several
 * requests; a crash between them is like one within a write: what has to be whole
 * is an entry, and that lies within a sector.
 */
static int qcow2_cache_rw(struct qcow2_cache *c, struct qcow2_slice **slices,
			  unsigned int nr, unsigned int dir)
{
	u64 offset = (u64)slices[0]->key << c->slice_bits;
	struct bio_vec bvecs[QCOW2_IO_CHUNKS];
	u32 bytes = qcow2_chunk_bytes(c);
	unsigned int pos, i, some;
	struct iov_iter iter;
	int ret = 0;

	for (pos = 0; !ret && pos < nr * c->chunks; pos += some) {
		some = min(nr * c->chunks - pos, QCOW2_IO_CHUNKS);
		for (i = 0; i < some; i++) {
			struct qcow2_slice *s = slices[(pos + i) / c->chunks];
			void *data = *qcow2_slice_chunk(s, (pos + i) %
							   c->chunks);

			bvec_set_page(&bvecs[i], virt_to_page(data), bytes,
				      offset_in_page(data));
		}
		iov_iter_bvec(&iter, dir, bvecs, some, some * bytes);
		if (dir == ITER_SOURCE)
			ret = qblk_pwritev(c->file, offset + (u64)pos * bytes,
					   some * bytes, &iter, 0);
		else
			ret = qblk_preadv(c->file, offset + (u64)pos * bytes,
					  some * bytes, &iter, 0);
	}
	return ret;
}

/* Read in a slice that is in the cache already, so that others wait for it. */
static int qcow2_cache_fill(struct qcow2_cache *c, struct qcow2_slice *slice)
{
	int ret;

	ret = qcow2_cache_rw(c, &slice, 1, ITER_DEST);
	if (!ret) {
		smp_mb__before_atomic(); /* pairs with test_bit_acquire() */
		set_bit(QCOW2_SLICE_UPTODATE, &slice->flags);
	} else {
		xa_lock(&c->slices);
		/* Dropped meanwhile?  Then the reference is gone as well. */
		if (xa_load(&c->slices, slice->key) == slice) {
			qcow2_cache_unlink(c, slice);
			refcount_dec(&slice->ref);
		}
		xa_unlock(&c->slices);
	}
	clear_and_wake_up_bit(QCOW2_SLICE_READING, &slice->flags);
	return ret;
}

static struct qcow2_slice *qcow2_cache_find(struct qcow2_cache *c,
					    unsigned long key)
{
	struct qcow2_slice *slice;

	rcu_read_lock();
	slice = xa_load(&c->slices, key);
	if (slice && !refcount_inc_not_zero(&slice->ref))
		slice = NULL;
	rcu_read_unlock();
	return slice;
}

static struct qcow2_slice *qcow2_cache_wait(struct qcow2_slice *slice)
{
	wait_on_bit(&slice->flags, QCOW2_SLICE_READING, TASK_UNINTERRUPTIBLE);
	if (test_bit_acquire(QCOW2_SLICE_UPTODATE, &slice->flags)) {
		qcow2_slice_touch(slice);
		return slice;
	}
	qcow2_cache_put(slice);
	return ERR_PTR(-EIO);
}

/**
 * qcow2_cache_get - find a slice, read it in if need be
 * @c: cache
 * @offset: host offset of the slice, a multiple of its size
 *
 * Context: process, GFP_NOIO in scope.
 *
 * Return: the slice with a reference, or an ERR_PTR.
 */
struct qcow2_slice *qcow2_cache_get(struct qcow2_cache *c, u64 offset)
{
	unsigned long key = offset >> c->slice_bits;
	struct qcow2_slice *slice;
	int ret;

	if ((u64)key != offset >> c->slice_bits)
		return ERR_PTR(-EFBIG);
	do {
		slice = qcow2_cache_find(c, key);
		if (slice) {
			atomic64_inc(&c->hits);
			return qcow2_cache_wait(slice);
		}
		slice = qcow2_slice_new(c, key);
		if (!slice)
			return ERR_PTR(-ENOMEM);
		ret = qcow2_cache_insert(c, slice);
		if (ret)
			qcow2_slice_free(slice);
	} while (ret == -EBUSY);
	if (ret)
		return ERR_PTR(ret);

	atomic64_inc(&c->misses);
	ret = qcow2_cache_fill(c, slice);
	if (ret) {
		qcow2_cache_put(slice);
		return ERR_PTR(ret);
	}
	qcow2_cache_evict(c);
	qcow2_cache_refill(c);
	return slice;
}

/**
 * qcow2_cache_mark_dirty - entries of a slice were changed
 * @c: cache
 * @slice: with a reference
 *
 * Of a slice that was dropped meanwhile the change is lost.  Context: process,
 * qcow2_state.lock held, in which the change was made.
 */
void qcow2_cache_mark_dirty(struct qcow2_cache *c, struct qcow2_slice *slice)
{
	if (test_bit(QCOW2_SLICE_DIRTY, &slice->flags))
		return;
	xa_lock(&c->slices);
	/* The mark belongs to the key: once dropped, it is another slice's. */
	if (xa_load(&c->slices, slice->key) == slice &&
	    !test_and_set_bit(QCOW2_SLICE_DIRTY, &slice->flags)) {
		__xa_set_mark(&c->slices, slice->key, QCOW2_CACHE_DIRTY);
		c->nr_dirty++;
	}
	xa_unlock(&c->slices);
}

/**
 * qcow2_cache_nr_dirty - slices that wait for write-back
 * @c: cache
 */
unsigned int qcow2_cache_nr_dirty(struct qcow2_cache *c)
{
	return READ_ONCE(c->nr_dirty);
}

static bool qcow2_cache_range_busy(struct qcow2_cache *c, unsigned long key,
				   unsigned long last)
	__must_hold(&c->slices.xa_lock)
{
	struct qcow2_slice *slice;

	xa_for_each_range(&c->slices, key, slice, key, last)
		if (test_bit(QCOW2_SLICE_DIRTY, &slice->flags) ||
		    refcount_read(&slice->ref) > 1)
			return true;
	return false;
}

static void qcow2_cache_unlink_range(struct qcow2_cache *c, unsigned long key,
				     unsigned long last)
	__must_hold(&c->slices.xa_lock)
{
	struct qcow2_slice *slice;

	xa_for_each_range(&c->slices, key, slice, key, last) {
		qcow2_cache_unlink(c, slice);
		qcow2_cache_put(slice);
	}
}

/**
 * qcow2_cache_drop - forget the slices of a table, dirty or not
 * @c: cache
 * @offset: host offset of the table
 * @bytes: its length
 *
 * For a table that did not come to be.  Context: qcow2_state.lock held.
 */
void qcow2_cache_drop(struct qcow2_cache *c, u64 offset, u64 bytes)
{
	unsigned long last = (offset + bytes - 1) >> c->slice_bits;

	xa_lock(&c->slices);
	qcow2_cache_unlink_range(c, offset >> c->slice_bits, last);
	xa_unlock(&c->slices);
}

/**
 * qcow2_cache_claim - clusters that were free are going to be a table
 * @c: cache
 * @offset: host offset of the table
 * @bytes: its length
 *
 * They may have been a table before, whose slices must not be found any more.
 * These are clean, since the table was let go of only after write-back, and
 * nobody uses them, since qblk_node_io_sync() waited for the last lookup.  One
 * that is dirty or in use belongs to a table which the image counts as free;
 * nothing is forgotten then.  Context: qcow2_state.lock held.
 *
 * Return: 0 or -EBUSY.
 */
int qcow2_cache_claim(struct qcow2_cache *c, u64 offset, u64 bytes)
{
	unsigned long last = (offset + bytes - 1) >> c->slice_bits;
	unsigned long key = offset >> c->slice_bits;
	bool busy;

	/*
	 * A lookup may take a reference after the check, but it only reads:
	 * who changes slices has qcow2_state.lock.
	 */
	xa_lock(&c->slices);
	busy = qcow2_cache_range_busy(c, key, last);
	if (!busy)
		qcow2_cache_unlink_range(c, key, last);
	xa_unlock(&c->slices);
	return busy ? -EBUSY : 0;
}

/* Adjacent dirty slices from @key on; they stay, since the caller has lock. */
static unsigned int qcow2_cache_gather(struct qcow2_cache *c,
				       unsigned long key,
				       struct qcow2_slice **batch)
{
	unsigned int max = max(QCOW2_IO_CHUNKS / c->chunks, 1U);
	unsigned int nr;

	for (nr = 0; nr < max; nr++, key++) {
		if (!xa_get_mark(&c->slices, key, QCOW2_CACHE_DIRTY))
			break;
		batch[nr] = xa_load(&c->slices, key);
	}
	return nr;
}

static void qcow2_cache_clean(struct qcow2_cache *c,
			      struct qcow2_slice **batch, unsigned int nr)
{
	xa_lock(&c->slices);
	for (; nr; nr--, batch++) {
		clear_bit(QCOW2_SLICE_DIRTY, &(*batch)->flags);
		__xa_clear_mark(&c->slices, (*batch)->key, QCOW2_CACHE_DIRTY);
		c->nr_dirty--;
	}
	xa_unlock(&c->slices);
}

/**
 * qcow2_cache_write_dirty - write all dirty slices, without a flush
 * @c: cache
 *
 * In the order of their offsets, adjacent ones together.  What could not be
 * written stays dirty.  Context: process, qcow2_state.lock held, so that
 * nothing changes under the write.
 *
 * Return: 0 or the first error.
 */
int qcow2_cache_write_dirty(struct qcow2_cache *c)
{
	struct qcow2_slice *batch[QCOW2_IO_CHUNKS];
	unsigned long key = 0;

	while (xa_find(&c->slices, &key, ULONG_MAX, QCOW2_CACHE_DIRTY)) {
		unsigned int nr;
		int ret;

		nr = qcow2_cache_gather(c, key, batch);
		ret = qcow2_cache_rw(c, batch, nr, ITER_SOURCE);
		if (ret)
			return ret;
		qcow2_cache_clean(c, batch, nr);
	}
	return 0;
}
