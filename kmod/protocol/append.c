// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that make a file longer, joined.
 *
 * Such a write has the inode to itself and changes the journal several times:
 * for the blocks, for the size, and so that a crash in between leaves no blocks
 * past the end.  On ext4 that is a fifth of what copying a cluster into an image
 * costs.  A format that allocates one cluster after the other makes many of
 * them, each where the one before ends; here they queue up, and those that are
 * there become one.
 *
 * Nobody waits for company: the work is queued with the first write, behind
 * what else workers have to do, and takes what it finds.  Under load that is
 * much, since more come while some are written.
 *
 * Forward progress: the work's queue has a rescuer, and is each leaf's own,
 * since a file may be on a disk whose image is another file.  It waits for the
 * file system below alone.  The vector of a joined write is allocated without
 * waiting; without one, each is written by itself.
 */
#include <linux/bvec.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <qblk/driver.h>
#include <qblk/iter.h>
#include <qblk/node.h>
#include <qblk/req.h>

#include "append.h"

/* What devices commonly take at once */
#define APPEND_MAX_BYTES	((u64)SZ_1M)
#define APPEND_MAX_BVECS	256

/**
 * struct append_batch - what is written together
 * @list: &struct qblk_append_io
 * @nr: how many
 * @bytes: length of all
 * @segs: bvecs of all
 */
struct append_batch {
	struct list_head list;
	unsigned int nr;
	size_t bytes;
	unsigned int segs;
};

static unsigned int append_bvecs(const struct qblk_append_io *io,
				 struct bio_vec *bv)
{
	return qblk_iter_bvecs(&io->iter, iov_iter_count(&io->iter), bv);
}

/* Take the first of the queue, and what can be joined with it */
static void append_take(struct qblk_append *ap, struct append_batch *b)
{
	u64 max = min_not_zero(ap->node->limits.max_transfer, APPEND_MAX_BYTES);
	struct qblk_append_io *io, *tmp;
	unsigned int segs;
	u64 bytes;

	INIT_LIST_HEAD(&b->list);
	b->nr = 0;
	b->bytes = 0;
	b->segs = 0;
	spin_lock(&ap->lock);
	list_for_each_entry_safe(io, tmp, &ap->queue, entry) {
		bytes = b->bytes + iov_iter_count(&io->iter);
		segs = b->segs + append_bvecs(io, NULL);
		if (b->bytes && (bytes > max || segs > APPEND_MAX_BVECS))
			break;
		b->bytes = bytes;
		b->segs = segs;
		list_move_tail(&io->entry, &b->list);
		b->nr++;
	}
	spin_unlock(&ap->lock);
}

static int append_pwritev(struct qblk_append *ap, u64 offset,
			  struct iov_iter *iter)
{
	return ap->node->drv->pwritev(ap->node, offset, iov_iter_count(iter),
				      iter, 0);
}

/* All with one write; if that fails, nothing has ended. */
static int append_write_joined(struct qblk_append *ap, struct append_batch *b)
{
	struct qblk_append_io *io;
	struct iov_iter iter;
	unsigned int nr = 0;
	struct bio_vec *bv;
	int ret;

	bv = kmalloc_array(b->segs, sizeof(*bv), GFP_NOWAIT | __GFP_NOWARN);
	if (!bv)
		return -ENOMEM;
	list_for_each_entry(io, &b->list, entry)
		nr += append_bvecs(io, bv + nr);
	io = list_first_entry(&b->list, struct qblk_append_io, entry);
	iov_iter_bvec(&iter, ITER_SOURCE, bv, nr, b->bytes);
	ret = append_pwritev(ap, io->offset, &iter);
	kfree(bv);
	if (ret)
		return ret;
	list_for_each_entry(io, &b->list, entry)
		qblk_append_written(io, 0);
	return 0;
}

/* An error may be that of one alone: there may be space for some. */
static void append_write(struct qblk_append *ap, struct append_batch *b)
{
	struct qblk_append_io *io;

	if (!list_is_singular(&b->list) && !append_write_joined(ap, b))
		return;
	list_for_each_entry(io, &b->list, entry)
		qblk_append_written(io, append_pwritev(ap, io->offset,
						       &io->iter));
}

/*
 * Requests end one right after the other, with nothing in between that sleeps:
 * whoever submitted them is woken once, and finds all of them.
 */
static void append_end(struct qblk_append *ap, struct append_batch *b)
{
	struct qblk_append_io *io, *tmp;

	spin_lock(&ap->lock);
	ap->nr -= b->nr;
	spin_unlock(&ap->lock);
	list_for_each_entry_safe(io, tmp, &b->list, entry)
		io->end_io(io);
}

static void append_work(struct work_struct *work)
{
	struct qblk_append *ap = container_of(work, struct qblk_append, work);
	unsigned int flags = qblk_io_enter();
	struct append_batch b;

	for (append_take(ap, &b); b.bytes; append_take(ap, &b)) {
		append_write(ap, &b);
		append_end(ap, &b);
		cond_resched();
	}
	qblk_io_leave(flags);
}

/**
 * qblk_append_start - queue a write to the end of a leaf
 * @ap: the leaf's
 * @io: the write, not empty
 *
 * As &qblk_driver.append.  Where the leaf ends is asked for only when nothing
 * is queued; should somebody else have made it longer since, then what follows
 * is written inside of it, which is as good.
 *
 * Return: 0 or -EAGAIN.
 */
int qblk_append_start(struct qblk_append *ap, struct qblk_append_io *io)
{
	bool fits;

	spin_lock(&ap->lock);
	fits = io->offset == (ap->nr ? ap->tail : qblk_node_length(ap->node));
	if (fits) {
		ap->tail = io->offset + iov_iter_count(&io->iter);
		ap->nr++;
		list_add_tail(&io->entry, &ap->queue);
	}
	spin_unlock(&ap->lock);
	if (!fits)
		return -EAGAIN;
	queue_work(ap->wq, &ap->work);
	return 0;
}

/**
 * qblk_append_init - prepare
 * @ap: zeroed
 * @node: the leaf
 *
 * Return: 0 or -ENOMEM.
 */
int qblk_append_init(struct qblk_append *ap, struct qblk_node *node)
{
	ap->node = node;
	spin_lock_init(&ap->lock);
	INIT_LIST_HEAD(&ap->queue);
	INIT_WORK(&ap->work, append_work);
	ap->wq = alloc_workqueue("qblk-append/%.10s",
				 WQ_MEM_RECLAIM | WQ_UNBOUND, 1, node->name);
	return ap->wq ? 0 : -ENOMEM;
}

/**
 * qblk_append_exit - undo qblk_append_init()
 * @ap: all writes have ended; zeroed is good enough
 *
 * May sleep: the work outlasts the last write by the moment it takes to find
 * no more.
 */
void qblk_append_exit(struct qblk_append *ap)
{
	if (ap->wq)
		destroy_workqueue(ap->wq);
	ap->wq = NULL;
}
