/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of export/ share. */
#ifndef _QBLK_EXPORT_PRIV_H
#define _QBLK_EXPORT_PRIV_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/percpu.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <qblk/export.h>
#include <qblk/node.h>

struct qblk_err;

/**
 * enum qblk_removal - how far the removal of a disk is
 * @QBLK_REMOVAL_NONE: not begun
 * @QBLK_REMOVAL_LAZY: begins with the last close; no new opens
 * @QBLK_REMOVAL_RUNNING: under way, by one thread; no new opens
 * @QBLK_REMOVAL_DONE: over
 */
enum qblk_removal {
	QBLK_REMOVAL_NONE,
	QBLK_REMOVAL_LAZY,
	QBLK_REMOVAL_RUNNING,
	QBLK_REMOVAL_DONE,
};

/* Per CPU, so that counting costs no shared cache line */
struct qblk_export_stats {
	u64 tier1;
	u64 tier2;
};

/**
 * struct qblk_nodes - some nodes of a graph, each once
 * @node: the nodes
 * @nr: how many
 * @max: room for
 */
struct qblk_nodes {
	struct qblk_node **node;
	unsigned int nr;
	unsigned int max;
};

/**
 * struct qblk_export - a disk
 * @root: edge to its graph; changes only under qblk_control_mutex and with the
 *	queue frozen, or dead
 * @disk: its gendisk, whose queue's data this is
 * @wq: runs what may block
 * @stats: counters
 * @dead: removed by force: every request fails
 * @read_only: writes fail
 * @may_sleep: in ->queue_rq(), since a leaf's ->submit() may
 * @small_blocks: the disk has smaller blocks than the graph: writes read,
 *	modify and write back blocks that hold other data, so all of them go the
 *	blocking way, where that is serialised
 * @size: bytes; the gendisk of a disk removed by force has none
 * @index: N of ``qblkN``
 * @name: the user's name
 * @root_name: of the node that @root leads to
 * @tags: hardware queues
 * @lock: @removal, @openers and @settling; taken under disk->open_mutex
 * @removal: see &enum qblk_removal
 * @openers: successful opens not yet released
 * @closed: woken when @openers falls to zero, and when @removal is no longer
 *	%QBLK_REMOVAL_RUNNING
 * @closing: the nodes are being left clean, and may not be killed any more but
 *	through @settling; under qblk_control_mutex
 * @settling: nodes that are being written back under qblk_control_mutex
 * @del_work: removal of a lazy disk
 * @slaves: block devices under it, linked as such in sysfs
 * @nr_slaves: number of @slaves
 * @image: for sysfs, as are the two below
 * @format: name of the root's driver
 * @chain: the backing chain, a line per layer
 * @freed: completed when the gendisk has been freed
 * @refs: one for the gendisk (or its maker, before it is added), one for
 *	whoever removes it
 */
struct qblk_export {
	struct qblk_child *root;
	struct gendisk *disk;
	struct workqueue_struct *wq;
	struct qblk_export_stats __percpu *stats;
	bool dead;
	bool read_only;
	bool may_sleep;
	bool small_blocks;

	u64 size;
	u32 index;
	char name[QBLK_EXPORT_NAME_LEN];
	char root_name[QBLK_NODE_NAME_LEN];
	struct blk_mq_tag_set tags;

	spinlock_t lock; /* removal, openers and settling */
	enum qblk_removal removal;
	unsigned int openers;
	wait_queue_head_t closed;
	bool closing;
	struct qblk_nodes *settling;
	struct work_struct del_work;

	struct block_device **slaves;
	unsigned int nr_slaves;
	char *image;
	char *format;
	char *chain;

	struct completion freed;
	refcount_t refs;
};

/* disk.c */
void qblk_export_forget(struct qblk_export *exp, struct qblk_export_info *info);

/* remove.c */
int qblk_remove_init(void);
void qblk_remove_exit(void);
void qblk_export_lazy_work(struct work_struct *work);
void qblk_export_last_close(struct qblk_export *exp);

/* queue.c */
extern const struct blk_mq_ops qblk_mq_ops;
extern const unsigned int qblk_rq_size;
int qblk_queue_init(void);
void qblk_queue_exit(void);

/* limits.c */
int qblk_export_limits(const struct qblk_export_params *p,
		       const struct qblk_export *exp, struct queue_limits *lim,
		       struct qblk_err *err);

/* graph.c */
int qblk_nodes_below(struct qblk_nodes *nodes, struct qblk_node *root);
int qblk_nodes_going(struct qblk_nodes *nodes, struct qblk_child *root);
void qblk_nodes_free(struct qblk_nodes *nodes);
int qblk_export_find_slaves(struct qblk_export *exp);
void qblk_export_link_slaves(struct qblk_export *exp);
void qblk_export_unlink_slaves(struct qblk_export *exp);

/* sysfs.c */
extern const struct attribute_group *qblk_disk_groups[];
int qblk_export_describe(struct qblk_export *exp);

#endif /* _QBLK_EXPORT_PRIV_H */
