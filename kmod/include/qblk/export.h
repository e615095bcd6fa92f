/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks: what the control plane asks of export/.  Drivers do not include this.
 */
#ifndef _QBLK_EXPORT_H
#define _QBLK_EXPORT_H

#include <linux/blkdev.h>
#include <linux/types.h>

#include <qblk/node.h>

struct qblk_export;

#define QBLK_EXPORT_NAME_LEN	32	/* the user's name of a disk */

/* How qblk_export_del() treats a disk in use. */
enum qblk_del_mode {
	QBLK_DEL_SYNC,		/* -EBUSY when open */
	QBLK_DEL_LAZY,		/* goes away on last close */
	QBLK_DEL_FORCE,		/* fails outstanding and new I/O */
};

/**
 * struct qblk_export_params - a disk to make
 * @node: root of its graph
 * @name: the user's name, unique among disks, or NULL for the disk's own
 * @read_only: no writes, whatever @node allows
 * @partscan: scan partitions before qblk_export_add() returns
 * @logical_block_size: bytes, or 0 for what the graph suggests
 * @nr_queues: hardware queues, or 0 for one per CPU
 * @queue_depth: requests per queue, or 0 for the default
 */
struct qblk_export_params {
	struct qblk_node *node;
	const char *name;
	bool read_only;
	bool partscan;
	u32 logical_block_size;
	u32 nr_queues;
	u32 queue_depth;
};

/**
 * struct qblk_export_info - a snapshot of a disk, for dumps
 * @disk_name: ``qblkN``
 * @name: the user's name
 * @node_name: root of its graph
 * @index: N
 * @devt: device number of the whole disk
 * @size: bytes
 * @logical_block_size: bytes
 * @read_only: no writes
 * @openers: how often it is open
 * @deleting: lazy or forced removal under way
 * @nr_queues: hardware queues
 * @tier1: pieces of I/O that went straight to a leaf, or were zero-filled
 * @tier2: trips of requests to a worker
 */
struct qblk_export_info {
	char disk_name[DISK_NAME_LEN];
	char name[QBLK_EXPORT_NAME_LEN];
	char node_name[QBLK_NODE_NAME_LEN];
	u32 index;
	dev_t devt;
	u64 size;
	u32 logical_block_size;
	bool read_only;
	u32 openers;
	bool deleting;
	u32 nr_queues;
	u64 tier1;
	u64 tier2;
};

/**
 * qblk_export_add - make a disk
 * @p: what it is made of
 * @info: filled on success
 * @err: gets the sentence on failure
 *
 * When it returns the disk has its size, limits and (unless told not to) its
 * partitions.  Context: process, qblk_control_mutex held.
 *
 * Return: 0; -EEXIST for a name in use; -EINVAL; -EBUSY for a permission
 * conflict; -EPERM for writes to a read-only node; -ENOMEM.  The node stays,
 * also an implicit one.
 */
int qblk_export_add(const struct qblk_export_params *p,
		    struct qblk_export_info *info, struct qblk_err *err);

/**
 * qblk_export_get - look up a disk to remove it
 * @name: the user's name, or ``qblkN``
 * @root: the node it has to show, or NULL for any
 * @own: gets the user's name, %QBLK_EXPORT_NAME_LEN bytes
 * @err: gets the sentence on failure
 *
 * Context: process; without qblk_control_mutex, which a removal that is to be
 * forced may have.
 *
 * Return: the disk, to be given to qblk_export_del() or qblk_export_put(); or
 * ERR_PTR(-ENOENT), also if it shows another node.
 */
struct qblk_export *qblk_export_get(const char *name, const char *root,
				    char *own, struct qblk_err *err);

/**
 * qblk_export_put - undo qblk_export_get()
 * @exp: the disk
 */
void qblk_export_put(struct qblk_export *exp);

/**
 * qblk_export_del - remove a disk
 * @exp: from qblk_export_get(), which this undoes
 * @mode: see &enum qblk_del_mode
 * @err: gets the sentence on failure
 *
 * Synchronous with %QBLK_DEL_SYNC and %QBLK_DEL_FORCE, and with %QBLK_DEL_LAZY
 * when the disk is not open: when it returns, everything is on disk, the
 * graph's implicit nodes are closed and the disk's name is free.  Until then
 * the name is in use.  A %QBLK_DEL_FORCE returns when the leaves have given
 * back what they have in flight, and logs what could not be written back.
 *
 * With %QBLK_DEL_SYNC a disk that is open and not claimed (mounted, ...) gets a
 * moment to be closed, since udev looks at disks when it likes.
 *
 * %QBLK_DEL_FORCE takes a removal over that is under way, or helps it to an
 * end: what the disk has still to do fails.
 *
 * Context: process; takes qblk_control_mutex itself, since the wait for I/O
 * must not hold up other disks.
 *
 * Return: 0; -EBUSY when open (%QBLK_DEL_SYNC) or already going; the error of
 * the last flush (%QBLK_DEL_SYNC: the disk stays); -EINTR.
 */
int qblk_export_del(struct qblk_export *exp, enum qblk_del_mode mode,
		    struct qblk_err *err);

/**
 * qblk_event_export_gone - tell listeners that a disk is gone
 * @info: what it was
 *
 * Process context.
 */
void qblk_event_export_gone(const struct qblk_export_info *info);

/**
 * qblk_export_next - iterate over disks in the order of their index
 * @index: smallest index wanted
 * @info: filled on success
 *
 * Context: qblk_control_mutex held.
 *
 * Return: true, or false when there is no further disk.
 */
bool qblk_export_next(u32 index, struct qblk_export_info *info);

/**
 * qblk_export_find - look up a disk
 * @name: the user's name, or ``qblkN``
 * @info: filled on success
 *
 * Context: qblk_control_mutex held.
 *
 * Return: 0 or -ENOENT.
 */
int qblk_export_find(const char *name, struct qblk_export_info *info);

/**
 * qblk_export_freeze - hold back new requests and wait for those in flight
 * @child: edge of the disk (&qblk_child.parent is NULL)
 *
 * For qblk_drain_begin(); nests with qblk_export_unfreeze().  In between, no
 * memory may be allocated that could wait for this disk: memalloc_noio_save()
 * first.
 */
void qblk_export_freeze(struct qblk_child *child);

/**
 * qblk_export_unfreeze - undo qblk_export_freeze()
 * @child: edge of the disk
 */
void qblk_export_unfreeze(struct qblk_child *child);

int qblk_export_init(void);
void qblk_export_exit(void);

#endif /* _QBLK_EXPORT_H */
