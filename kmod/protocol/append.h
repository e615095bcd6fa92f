/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_APPEND_H
#define _QBLK_APPEND_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/uio.h>
#include <linux/workqueue.h>

#include <qblk/req.h>

struct qblk_node;

/**
 * struct qblk_append - writes to the end of a leaf, see append.c
 * @node: the leaf
 * @lock: protects @queue, @nr and @tail
 * @queue: &struct qblk_append_io; each begins where the one before it ends
 * @nr: queued or being written
 * @tail: where the last of these ends
 * @wq: runs @work
 * @work: writes what is queued
 */
struct qblk_append {
	struct qblk_node *node;
	spinlock_t lock;	/* protects queue, nr and tail */
	struct list_head queue;
	unsigned int nr;
	u64 tail;
	struct workqueue_struct *wq;
	struct work_struct work;
};

int qblk_append_init(struct qblk_append *ap, struct qblk_node *node);
void qblk_append_exit(struct qblk_append *ap);
int qblk_append_start(struct qblk_append *ap, struct qblk_append_io *io);

#endif /* _QBLK_APPEND_H */
