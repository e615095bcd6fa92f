// SPDX-License-Identifier: GPL-2.0
/*
 * Reading compressed clusters, by several CPUs where there are several.
 *
 * The compressed bytes are read into a buffer of the image, and only then a
 * workspace is taken to decompress them.  Each image has a pool of buffers of
 * its own that holds at least one.  The read may go to another image, of whose
 * pool the same holds; images do not contain themselves, so there is an end to
 * it, and a buffer comes back.
 *
 * A read of many clusters asks for help: work items that take one cluster after
 * the other, as the reader itself does.  When none is left, the reader cancels
 * the work that has not begun and waits for the rest.  So help that does not
 * come in time is not waited for, and help that came waits, like the reader,
 * for the file, a buffer and a workspace only.  The clusters stay in place for
 * all of them: the reader is inside qblk_node_io_begin() until they are done.
 */
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/workqueue.h>

#include "qcow2.h"

/* So much is worth another CPU. */
#define QCOW2_ZREAD_SHARE	SZ_64K
#define QCOW2_ZREAD_HELPERS	15

/* Of all images.  Helpers are cancelled by workers that reclaim waits for. */
static struct workqueue_struct *qcow2_zread_wq;

/**
 * struct qcow2_zread - a read of compressed clusters
 * @s: image
 * @offset: guest offset
 * @bytes: length
 * @iter: destination, of which everybody has a copy
 * @nr: clusters
 * @next: the first of these that nobody has taken
 * @ret: an error, if there was one
 */
struct qcow2_zread {
	struct qcow2_state *s;
	u64 offset;
	u64 bytes;
	const struct iov_iter *iter;
	unsigned int nr;
	atomic_t next;
	int ret;
};

/**
 * struct qcow2_zhelper - a CPU more
 * @work: what it does
 * @read: for whom
 */
struct qcow2_zhelper {
	struct work_struct work;
	struct qcow2_zread *read;
};

/**
 * qcow2_zread_init - get ready for reads of compressed clusters
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_zread_init(void)
{
	qcow2_zread_wq = alloc_workqueue("qblk_decompress",
					 WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return qcow2_zread_wq ? 0 : -ENOMEM;
}

/**
 * qcow2_zread_exit - undo qcow2_zread_init(); no image is open
 */
void qcow2_zread_exit(void)
{
	destroy_workqueue(qcow2_zread_wq);
}

static void *qcow2_inbuf_alloc(gfp_t gfp, void *data)
{
	const struct qcow2_state *s = data;

	return kvmalloc(2UL * s->cluster_size, gfp);
}

static void qcow2_inbuf_free(void *buf, void *data)
{
	kvfree(buf);
}

/**
 * qcow2_inbuf_init - have a buffer for compressed bytes
 * @s: image, its cluster size known
 *
 * The format can name up to two clusters of them.
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_inbuf_init(struct qcow2_state *s)
{
	s->inbuf = mempool_create(1, qcow2_inbuf_alloc, qcow2_inbuf_free, s);
	return s->inbuf ? 0 : -ENOMEM;
}

/**
 * qcow2_inbuf_exit - undo qcow2_inbuf_init(), if it was done
 * @s: image nobody reads from
 */
void qcow2_inbuf_exit(struct qcow2_state *s)
{
	mempool_destroy(s->inbuf);
	s->inbuf = NULL;
}

/* A whole cluster to memory of the cache; without that, a part to @iter */
static int qcow2_read_encoded(struct qcow2_state *s, u64 host, u32 len,
			      void *dst, u32 skip, u64 bytes,
			      struct iov_iter *iter)
{
	u8 *src = mempool_alloc(s->inbuf, GFP_NOIO);
	int ret;

	/* A file may end inside the last sector: the rest reads as zeroes. */
	ret = qblk_pread(s->file, host, len, src);
	if (!ret && dst)
		ret = qcow2_decompress(s, src, len, dst);
	else if (!ret)
		ret = qcow2_decompress_iter(s, src, len, skip, bytes, iter);
	mempool_free(src, s->inbuf);
	return ret;
}

/*
 * Is the whole of a cluster worth decompressing, and keeping?  One that is read
 * as a whole is not likely to be asked for again soon: it makes no other leave
 * the cache.  A part costs only what lies before it, so all of it is for who
 * begins at its beginning, or comes back.
 */
static bool qcow2_zread_keeps(struct qcow2_state *s, u64 host, u32 skip,
			      u64 bytes)
{
	if (bytes == s->cluster_size)
		return false;
	return !skip || qcow2_zcache_again(&s->zcache, host);
}

/* Part of a compressed cluster */
static int qcow2_read_compressed(struct qcow2_state *s, u64 entry, u32 skip,
				 u64 bytes, struct iov_iter *iter)
{
	struct qcow2_zcluster *zc;
	bool fill = false;
	int ret = 0;
	u64 host;
	u32 len;

	qcow2_compressed_extent(entry, s->cluster_bits, &host, &len);
	zc = qcow2_zcache_get(&s->zcache, host, len,
			      qcow2_zread_keeps(s, host, skip, bytes) ?
			      &fill : NULL);
	if (!zc)
		return qcow2_read_encoded(s, host, len, NULL, skip, bytes,
					  iter);
	if (fill) {
		ret = qcow2_read_encoded(s, host, len, zc->data, 0, 0, NULL);
		qcow2_zcache_filled(&s->zcache, zc, ret);
	}
	if (!ret && copy_to_iter(zc->data + skip, bytes, iter) != bytes)
		ret = -EIO;
	qcow2_zcache_put(zc);
	return ret;
}

/* A range within one cluster */
static int qcow2_zread_one(struct qcow2_state *s, u64 offset, u64 bytes,
			   struct iov_iter *iter)
{
	struct qcow2_l2e e;
	int ret;

	ret = qcow2_l2_lookup(s, offset, &e);
	if (ret)
		return ret;
	/* Overwritten since it was mapped: the new contents are as good. */
	if (!(e.entry & QCOW2_OFLAG_COMPRESSED))
		return qblk_node_preadv(s->node, offset, bytes, iter);
	return qcow2_read_compressed(s, e.entry,
				     qcow2_offset_in_cluster(s, offset), bytes,
				     iter);
}

/* The part of the read that lies in the @i'th of its clusters */
static int qcow2_zread_part(const struct qcow2_zread *r, unsigned int i)
{
	u32 skip = qcow2_offset_in_cluster(r->s, r->offset);
	u64 end = ((i + 1ULL) << r->s->cluster_bits) - skip;
	u64 begin = i ? end - r->s->cluster_size : 0;
	struct iov_iter iter = *r->iter;

	end = min(end, r->bytes);
	iov_iter_advance(&iter, begin);
	iov_iter_truncate(&iter, end - begin);
	return qcow2_zread_one(r->s, r->offset + begin, end - begin, &iter);
}

static void qcow2_zread_run(struct qcow2_zread *r)
{
	unsigned int i;
	int ret;

	while (!READ_ONCE(r->ret)) {
		i = atomic_fetch_inc(&r->next);
		if (i >= r->nr)
			break;
		ret = qcow2_zread_part(r, i);
		if (ret)
			WRITE_ONCE(r->ret, ret);
	}
}

static void qcow2_zhelper_fn(struct work_struct *work)
{
	struct qcow2_zhelper *h = container_of(work, struct qcow2_zhelper,
					       work);
	unsigned int flags = qblk_io_enter();

	qcow2_zread_run(h->read);
	qblk_io_leave(flags);
}

/*
 * Lock class of the image: helpers of an image may be waited for by one of an
 * image that is in it.
 */
static void qcow2_zhelper_start(struct qcow2_zhelper *h, struct qcow2_zread *r)
{
	h->read = r;
	INIT_WORK(&h->work, qcow2_zhelper_fn);
	lockdep_init_map(&h->work.lockdep_map, "qcow2_zhelper",
			 &r->s->zread_key, 0);
	queue_work(qcow2_zread_wq, &h->work);
}

/* How many helpers are worth it */
static unsigned int qcow2_zread_helpers(const struct qcow2_zread *r)
{
	u64 shares = min_t(u64, r->bytes / QCOW2_ZREAD_SHARE, r->nr);

	shares = min_t(u64, shares, num_online_cpus());
	return shares ? min_t(u64, shares - 1, QCOW2_ZREAD_HELPERS) : 0;
}

static void qcow2_zread_helped(struct qcow2_zread *r, unsigned int nr)
{
	struct qcow2_zhelper *h;
	unsigned int i;

	h = kmalloc_array(nr, sizeof(*h), QCOW2_GFP_TRY);
	if (!h)
		nr = 0;
	for (i = 0; i < nr; i++)
		qcow2_zhelper_start(&h[i], r);
	qcow2_zread_run(r);
	for (i = 0; i < nr; i++)
		cancel_work_sync(&h[i].work);
	kfree(h);
}

/*
 * ->preadv(), see driver.h: a range ->map() called encoded, one or more
 * clusters.
 */
int qcow2_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		 struct iov_iter *iter, unsigned int flags)
{
	struct qcow2_zread r = {
		.s = node->priv,
		.offset = offset,
		.bytes = bytes,
		.iter = iter,
		.next = ATOMIC_INIT(0),
	};
	unsigned int helpers;

	r.nr = ((offset + bytes - 1) >> r.s->cluster_bits) -
	       (offset >> r.s->cluster_bits) + 1;
	helpers = qcow2_zread_helpers(&r);
	if (helpers)
		qcow2_zread_helped(&r, helpers);
	else
		qcow2_zread_run(&r);
	if (!r.ret)
		iov_iter_advance(iter, bytes);
	return r.ret;
}
