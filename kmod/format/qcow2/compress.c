// SPDX-License-Identifier: GPL-2.0
/*
 * Decompression of clusters; zread.c has the I/O.
 *
 * Workspaces are kept in a pool shared by all images.  It holds at least one
 * that is large enough for every open image, so that a read makes progress when
 * no memory is to be had; up to one per CPU are made on demand.  No I/O is done
 * and nothing is waited for with a workspace: it might be a read below that
 * needs one.
 */
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uio.h>

#include "../inflate.h"
#include "../unzstd.h"
#include "qcow2.h"

/**
 * struct qcow2_zws - what one decompression needs
 * @entry: in the pool
 * @size: largest cluster @out can hold
 * @inflate: tables
 * @unzstd: likewise, and literals
 * @out: the cluster, when it has no other place
 */
struct qcow2_zws {
	struct list_head entry;
	u32 size;
	struct qblk_inflate *inflate;
	struct qblk_unzstd *unzstd;
	u8 *out;
};

static struct {
	spinlock_t lock;	/* covers the other members */
	struct list_head idle;
	unsigned int nr;	/* idle or in use */
	u32 largest;		/* size of the largest that exists */
	wait_queue_head_t wait;
} qcow2_zpool = {
	.lock = __SPIN_LOCK_UNLOCKED(qcow2_zpool.lock),
	.idle = LIST_HEAD_INIT(qcow2_zpool.idle),
	.wait = __WAIT_QUEUE_HEAD_INITIALIZER(qcow2_zpool.wait),
};

static void qcow2_zws_free(struct qcow2_zws *w)
{
	if (!w)
		return;
	kvfree(w->inflate);
	kvfree(w->unzstd);
	kvfree(w->out);
	kfree(w);
}

static struct qcow2_zws *qcow2_zws_alloc(u32 size, gfp_t gfp)
{
	struct qcow2_zws *w = kzalloc(sizeof(*w), gfp);

	if (!w)
		return NULL;
	w->size = size;
	w->inflate = kvmalloc(sizeof(*w->inflate), gfp);
	w->unzstd = kvmalloc(sizeof(*w->unzstd), gfp);
	w->out = kvmalloc(size, gfp);
	if (w->inflate && w->unzstd && w->out)
		return w;
	qcow2_zws_free(w);
	return NULL;
}

static void qcow2_zpool_put(struct qcow2_zws *w)
{
	spin_lock(&qcow2_zpool.lock);
	list_add(&w->entry, &qcow2_zpool.idle);
	spin_unlock(&qcow2_zpool.lock);
	wake_up(&qcow2_zpool.wait);
}

/**
 * qcow2_zpool_reserve - have a workspace for clusters of a size
 * @cluster_size: bytes
 *
 * Kept until the module goes.  Context: process.
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_zpool_reserve(u32 cluster_size)
{
	struct qcow2_zws *w;

	if (READ_ONCE(qcow2_zpool.largest) >= cluster_size)
		return 0;
	w = qcow2_zws_alloc(cluster_size, GFP_KERNEL);
	if (!w)
		return -ENOMEM;
	spin_lock(&qcow2_zpool.lock);
	qcow2_zpool.nr++;
	qcow2_zpool.largest = max(qcow2_zpool.largest, cluster_size);
	spin_unlock(&qcow2_zpool.lock);
	qcow2_zpool_put(w);
	return 0;
}

/**
 * qcow2_zpool_exit - free all workspaces
 *
 * No image is open any more.
 */
void qcow2_zpool_exit(void)
{
	struct qcow2_zws *w, *next;

	list_for_each_entry_safe(w, next, &qcow2_zpool.idle, entry)
		qcow2_zws_free(w);
	INIT_LIST_HEAD(&qcow2_zpool.idle);
	qcow2_zpool.nr = 0;
	qcow2_zpool.largest = 0;
}

static struct qcow2_zws *qcow2_zpool_find(u32 size)
{
	struct qcow2_zws *w;

	list_for_each_entry(w, &qcow2_zpool.idle, entry)
		if (w->size >= size) {
			list_del(&w->entry);
			return w;
		}
	return NULL;
}

static struct qcow2_zws *qcow2_zpool_try_get(u32 size)
{
	struct qcow2_zws *w;

	spin_lock(&qcow2_zpool.lock);
	w = qcow2_zpool_find(size);
	spin_unlock(&qcow2_zpool.lock);
	return w;
}

/* One more, if there are fewer than CPUs and memory is easy to get. */
static struct qcow2_zws *qcow2_zpool_grow(u32 size)
{
	struct qcow2_zws *w;

	spin_lock(&qcow2_zpool.lock);
	if (qcow2_zpool.nr >= num_online_cpus()) {
		spin_unlock(&qcow2_zpool.lock);
		return NULL;
	}
	qcow2_zpool.nr++;
	spin_unlock(&qcow2_zpool.lock);

	w = qcow2_zws_alloc(size, GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN);
	if (!w) {
		spin_lock(&qcow2_zpool.lock);
		qcow2_zpool.nr--;
		spin_unlock(&qcow2_zpool.lock);
	}
	return w;
}

/* Waiting is safe: whoever has a workspace gives it back after computing. */
static struct qcow2_zws *qcow2_zpool_get(u32 size)
{
	struct qcow2_zws *w = qcow2_zpool_try_get(size);

	if (!w)
		w = qcow2_zpool_grow(size);
	if (!w)
		wait_event(qcow2_zpool.wait, (w = qcow2_zpool_try_get(size)));
	return w;
}

/*
 * The first @need bytes of the cluster.  The input goes on to the end of its
 * sector, so what counts is that the output is complete.  QEMU writes raw deflate
 * with a window of 4 KiB; a larger one is as good.  Of zstd it writes one frame;
 * several are as good.
 */
static int qcow2_decompress_ws(struct qcow2_state *s, struct qcow2_zws *w,
			       const u8 *src, u32 len, u8 *dst, u32 need)
{
	if (s->hdr.compression_type == QCOW2_COMPRESSION_ZSTD)
		return qblk_unzstd(w->unzstd, dst, s->cluster_size, need, src,
				   len);
	return qblk_inflate(w->inflate, dst, need, src, len);
}

/**
 * qcow2_decompress - decompress a cluster
 * @s: image
 * @src: compressed bytes
 * @len: their number, or more
 * @dst: a cluster's worth of memory
 *
 * Context: process.
 *
 * Return: 0, or -EIO when the bytes do not make a cluster.
 */
int qcow2_decompress(struct qcow2_state *s, const u8 *src, u32 len, void *dst)
{
	struct qcow2_zws *w = qcow2_zpool_get(s->cluster_size);
	int ret = qcow2_decompress_ws(s, w, src, len, dst, s->cluster_size);

	qcow2_zpool_put(w);
	return ret;
}

/**
 * qcow2_decompress_iter - decompress part of a cluster
 * @s: image
 * @src: compressed bytes
 * @len: their number, or more
 * @skip: where in the cluster the part begins
 * @bytes: length of the part
 * @iter: gets it
 *
 * Without memory for the cluster: that of the workspace is used.  What follows
 * the part may not even be looked at.  Context and return: as
 * qcow2_decompress().
 */
int qcow2_decompress_iter(struct qcow2_state *s, const u8 *src, u32 len,
			  u32 skip, u64 bytes, struct iov_iter *iter)
{
	struct qcow2_zws *w = qcow2_zpool_get(s->cluster_size);
	int ret = qcow2_decompress_ws(s, w, src, len, w->out, skip + bytes);

	if (!ret && copy_to_iter(w->out + skip, bytes, iter) != bytes)
		ret = -EIO;
	qcow2_zpool_put(w);
	return ret;
}
