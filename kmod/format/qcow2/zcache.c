// SPDX-License-Identifier: GPL-2.0
/*
 * Clusters that were decompressed, for reads of less than a cluster: the next
 * one mostly wants what is beside it.
 *
 * A cluster is known by the host offset and the length of its compressed bytes.
 * These do not change while an L2 entry points to them, and what no entry
 * points to any more is forgotten before its place is given to something else:
 * free.c calls qcow2_zcache_drop() after qblk_node_io_sync(), when no read is
 * left that found the old entry and could put the cluster here once more.
 *
 * Forward progress: who fills a cluster waits for the file, for a buffer of
 * compressed bytes and for a workspace, and nobody who has one of these waits
 * for a cluster.  Without memory a read does without the cache.
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait_bit.h>

#include "qcow2.h"

/* Bounds the memory of an image; two of the largest clusters. */
#define QCOW2_ZCACHE_BYTES	(4U << 20)

#define QCOW2_ZCLUSTER_FILLING	0	/* wait on the bit */
#define QCOW2_ZCLUSTER_UPTODATE	1

static void qcow2_zcluster_free(struct qcow2_zcluster *zc)
{
	if (zc)
		kvfree(zc->data);
	kfree(zc);
}

/**
 * qcow2_zcache_put - drop a reference to a cluster
 * @zc: from qcow2_zcache_get()
 */
void qcow2_zcache_put(struct qcow2_zcluster *zc)
{
	if (refcount_dec_and_test(&zc->ref))
		qcow2_zcluster_free(zc);
}

/* The cache's reference stays with the caller. */
static void qcow2_zcache_unlink(struct qcow2_zcache *c,
				struct qcow2_zcluster *zc)
	__must_hold(&c->clusters.xa_lock)
{
	__xa_erase(&c->clusters, zc->key);
	list_del(&zc->lru);
	c->nr--;
}

/* The one that was not used for the longest time, if none is in use */
static struct qcow2_zcluster *qcow2_zcache_evict(struct qcow2_zcache *c)
{
	struct qcow2_zcluster *zc, *found = NULL;

	xa_lock(&c->clusters);
	list_for_each_entry(zc, &c->lru, lru)
		if (refcount_dec_if_one(&zc->ref)) {
			qcow2_zcache_unlink(c, zc);
			found = zc;
			break;
		}
	xa_unlock(&c->clusters);
	return found;
}

/**
 * qcow2_zcache_shrink - give memory back
 * @c: cache
 * @nr: clusters at most
 *
 * Context: any that may take a spinlock; memory reclaim.
 *
 * Return: clusters freed.
 */
unsigned long qcow2_zcache_shrink(struct qcow2_zcache *c, unsigned long nr)
{
	struct qcow2_zcluster *zc;
	unsigned long done;

	for (done = 0; done < nr; done++) {
		zc = qcow2_zcache_evict(c);
		if (!zc)
			break;
		qcow2_zcluster_free(zc);
	}
	return done;
}

/* Pages or so a cluster stands for under memory pressure */
static unsigned long qcow2_zcache_weight(const struct qcow2_zcache *c)
{
	return max(1UL, BIT(c->cluster_bits) / PAGE_SIZE);
}

static unsigned long qcow2_zcache_reclaim_count(struct qcow2_reclaim *r)
{
	struct qcow2_zcache *c = container_of(r, struct qcow2_zcache, reclaim);

	return READ_ONCE(c->nr) * qcow2_zcache_weight(c);
}

static unsigned long qcow2_zcache_reclaim_scan(struct qcow2_reclaim *r,
					       unsigned long nr)
{
	struct qcow2_zcache *c = container_of(r, struct qcow2_zcache, reclaim);
	unsigned long weight = qcow2_zcache_weight(c);

	return qcow2_zcache_shrink(c, DIV_ROUND_UP(nr, weight)) * weight;
}

/**
 * qcow2_zcache_init - an empty cache
 * @c: cache
 * @cluster_bits: log2 of the cluster size
 */
void qcow2_zcache_init(struct qcow2_zcache *c, u32 cluster_bits)
{
	xa_init(&c->clusters);
	INIT_LIST_HEAD(&c->lru);
	c->cluster_bits = cluster_bits;
	c->nr = 0;
	c->max = QCOW2_ZCACHE_BYTES >> cluster_bits;
	atomic64_set(&c->hits, 0);
	atomic64_set(&c->misses, 0);
	memset(c->asked, 0, sizeof(c->asked));
	c->reclaim.count = qcow2_zcache_reclaim_count;
	c->reclaim.scan = qcow2_zcache_reclaim_scan;
}

/**
 * qcow2_zcache_exit - free all clusters
 * @c: cache nobody uses any more
 */
void qcow2_zcache_exit(struct qcow2_zcache *c)
{
	qcow2_zcache_shrink(c, ULONG_MAX);
	xa_destroy(&c->clusters);
}

static struct qcow2_zcluster *qcow2_zcluster_alloc(const struct qcow2_zcache *c)
{
	struct qcow2_zcluster *zc = kmalloc(sizeof(*zc), QCOW2_GFP_TRY);

	if (!zc)
		return NULL;
	zc->data = kvmalloc(1U << c->cluster_bits, QCOW2_GFP_TRY);
	if (zc->data)
		return zc;
	kfree(zc);
	return NULL;
}

/* With references for the cache and the caller, to be filled */
static struct qcow2_zcluster *qcow2_zcluster_new(struct qcow2_zcache *c,
						 unsigned long key, u32 len)
{
	struct qcow2_zcluster *zc;

	if (READ_ONCE(c->nr) < c->max)
		zc = qcow2_zcluster_alloc(c);
	else
		zc = qcow2_zcache_evict(c);
	if (!zc)
		return NULL;
	zc->key = key;
	zc->len = len;
	zc->flags = BIT(QCOW2_ZCLUSTER_FILLING);
	refcount_set(&zc->ref, 2);
	return zc;
}

/* -EBUSY: somebody else was faster. -ENOSPC: others took the last places. */
static int qcow2_zcache_insert(struct qcow2_zcache *c,
			       struct qcow2_zcluster *zc)
{
	int ret = -ENOSPC;

	xa_lock(&c->clusters);
	if (c->nr < c->max)
		ret = __xa_insert(&c->clusters, zc->key, zc, QCOW2_GFP_TRY);
	if (!ret) {
		list_add_tail(&zc->lru, &c->lru);
		c->nr++;
	}
	xa_unlock(&c->clusters);
	return ret;
}

static struct qcow2_zcluster *qcow2_zcache_find(struct qcow2_zcache *c,
						unsigned long key)
{
	struct qcow2_zcluster *zc;

	xa_lock(&c->clusters);
	zc = xa_load(&c->clusters, key);
	if (zc) {
		refcount_inc(&zc->ref);
		list_move_tail(&zc->lru, &c->lru);
	}
	xa_unlock(&c->clusters);
	return zc;
}

static struct qcow2_zcluster *qcow2_zcache_wait(struct qcow2_zcache *c,
						struct qcow2_zcluster *zc,
						u32 len)
{
	wait_on_bit(&zc->flags, QCOW2_ZCLUSTER_FILLING, TASK_UNINTERRUPTIBLE);
	/* Other bytes from the same place on are another cluster. */
	if (zc->len == len &&
	    test_bit_acquire(QCOW2_ZCLUSTER_UPTODATE, &zc->flags)) {
		atomic64_inc(&c->hits);
		return zc;
	}
	qcow2_zcache_put(zc);
	return NULL;
}

/**
 * qcow2_zcache_get - find a cluster, or a place for it
 * @c: cache
 * @host: offset of the compressed bytes
 * @len: their number
 * @fill: set when the caller is the one to fill the cluster, and to call
 *	qcow2_zcache_filled() then.  NULL: only look
 *
 * Context: process.
 *
 * Return: the cluster with a reference, or NULL: it is to be read without the
 * cache.
 */
struct qcow2_zcluster *qcow2_zcache_get(struct qcow2_zcache *c, u64 host,
					u32 len, bool *fill)
{
	struct qcow2_zcluster *zc;
	unsigned long key = host;
	int ret;

	if (key != host)
		return NULL;
	do {
		zc = qcow2_zcache_find(c, key);
		if (zc)
			return qcow2_zcache_wait(c, zc, len);
		if (!fill)
			return NULL;
		zc = qcow2_zcluster_new(c, key, len);
		if (!zc)
			return NULL;
		ret = qcow2_zcache_insert(c, zc);
		if (ret)
			qcow2_zcluster_free(zc);
	} while (ret == -EBUSY);
	if (ret)
		return NULL;
	atomic64_inc(&c->misses);
	*fill = true;
	return zc;
}

/**
 * qcow2_zcache_again - was a cluster asked for before, not long ago?
 * @c: cache
 * @host: offset of the compressed bytes
 *
 * Remembers it.  Others may be remembered instead at any time, so this is a
 * hint, and needs no lock.  Context: any.
 */
bool qcow2_zcache_again(struct qcow2_zcache *c, u64 host)
{
	unsigned long key = host;
	unsigned long *asked = &c->asked[hash_long(key, QCOW2_ZASKED_BITS)];

	if (READ_ONCE(*asked) == key)
		return true;
	WRITE_ONCE(*asked, key);
	return false;
}

/**
 * qcow2_zcache_filled - a cluster is there, or will not be
 * @c: cache
 * @zc: cluster from qcow2_zcache_get() that was to be filled
 * @ret: 0, or why it could not be
 */
void qcow2_zcache_filled(struct qcow2_zcache *c, struct qcow2_zcluster *zc,
			 int ret)
{
	if (!ret) {
		smp_mb__before_atomic(); /* pairs with test_bit_acquire() */
		set_bit(QCOW2_ZCLUSTER_UPTODATE, &zc->flags);
	} else {
		xa_lock(&c->clusters);
		/* Dropped meanwhile?  Then the reference is gone as well. */
		if (xa_load(&c->clusters, zc->key) == zc) {
			qcow2_zcache_unlink(c, zc);
			refcount_dec(&zc->ref);
		}
		xa_unlock(&c->clusters);
	}
	clear_and_wake_up_bit(QCOW2_ZCLUSTER_FILLING, &zc->flags);
}

/**
 * qcow2_zcache_drop - host clusters are going to be free
 * @c: cache
 * @offset: host offset of the first
 * @bytes: length, more than 0
 *
 * Forgets whatever has a byte there.  That may be more than lost its reference:
 * it will be decompressed again.  Context: process, no read is in flight that
 * found an entry from before.
 */
void qcow2_zcache_drop(struct qcow2_zcache *c, u64 offset, u64 bytes)
{
	/* The longest compressed cluster that can reach into the range */
	u64 before = min(offset, 2ULL << c->cluster_bits);
	unsigned long last = min_t(u64, offset + bytes - 1, ULONG_MAX);
	struct qcow2_zcluster *zc, *next;
	LIST_HEAD(dropped);
	unsigned long key;

	if (likely(!READ_ONCE(c->nr)) || offset - before > ULONG_MAX)
		return;
	xa_lock(&c->clusters);
	xa_for_each_range(&c->clusters, key, zc, offset - before, last) {
		if (zc->key + (u64)zc->len <= offset)
			continue;
		qcow2_zcache_unlink(c, zc);
		list_add(&zc->lru, &dropped);
	}
	xa_unlock(&c->clusters);
	/* Without the lock: memory of this size may need to sleep to be freed. */
	list_for_each_entry_safe(zc, next, &dropped, lru)
		qcow2_zcache_put(zc);
}
