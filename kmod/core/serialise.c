// SPDX-License-Identifier: GPL-2.0
/*
 * Tracked writes: QEMU's BdrvTrackedRequest, where it matters.
 *
 * A write that does not cover whole blocks of a leaf reads the blocks at its
 * ends, changes them and writes them back.  Another write to the same block in
 * between would be lost.  So the blocking writes to a leaf are listed in order
 * of arrival; a read-modify-write is serialising: it waits for every older
 * write that overlaps it, and a younger one that overlaps it waits for it.
 * Nobody ever waits for a younger one, which is why there is no deadlock.
 * Writes that overlap without a serialising one among them do not wait: their
 * order is their senders' business, as on any disk.
 *
 * Tier 1 sends whole blocks without being listed.  That is right as long as no
 * read-modify-write touches a block that holds a disk's data, only metadata of
 * a format, which never shares a block with data.  A leaf whose blocks are
 * larger than those of a disk above is ``strict``: then qblk_map() sends every
 * write to it the blocking way, where it is listed.
 */
#include "core.h"

#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

/**
 * struct qblk_serialising - writes in flight on a leaf
 * @lock: protects @writes
 * @writes: &struct qblk_tracked, oldest first
 * @wait: those who wait for an older one
 * @strict: data may share a block with a read-modify-write
 */
struct qblk_serialising {
	spinlock_t lock;	/* protects writes */
	struct list_head writes;
	wait_queue_head_t wait;
	bool strict;
};

/**
 * qblk_serialising_init - prepare a leaf
 * @leaf: opened, with its limits
 *
 * A leaf of bytes, and one that is not written, needs nothing.
 *
 * Return: 0 or -ENOMEM.
 */
int qblk_serialising_init(struct qblk_node *leaf)
{
	struct qblk_serialising *ser;

	if (leaf->read_only || leaf->limits.request_alignment <= 1)
		return 0;
	ser = kzalloc(sizeof(*ser), GFP_KERNEL);
	if (!ser)
		return -ENOMEM;
	spin_lock_init(&ser->lock);
	INIT_LIST_HEAD(&ser->writes);
	init_waitqueue_head(&ser->wait);
	/* a disk right on the leaf offers blocks of this size */
	ser->strict = leaf->limits.logical_block_size <
		      leaf->limits.request_alignment;
	leaf->serialising = ser;
	return 0;
}

/**
 * qblk_serialising_exit - undo qblk_serialising_init()
 * @leaf: no write is in flight
 */
void qblk_serialising_exit(struct qblk_node *leaf)
{
	kfree(leaf->serialising);
	leaf->serialising = NULL;
}

/**
 * qblk_serialising_update - a node got its limits: what may it send below?
 * @parent: the node
 *
 * Context: qblk_control_mutex held; no I/O comes from @parent yet.  What other
 * parents of the leaf send is drained, so that nothing of tier 1 is in flight
 * unlisted when the rule changes.
 */
void qblk_serialising_update(struct qblk_node *parent)
{
	u32 block = min(parent->limits.request_alignment,
			parent->limits.logical_block_size);
	struct qblk_child *child;
	struct qblk_node *leaf;

	list_for_each_entry(child, &parent->children, parent_entry) {
		leaf = child->node;
		if (!(child->perm & QBLK_PERM_WRITE) || !leaf->serialising)
			continue;
		if (leaf->serialising->strict ||
		    leaf->limits.request_alignment <= SECTOR_SIZE ||
		    block >= leaf->limits.request_alignment)
			continue;
		qblk_drain_begin(leaf);
		leaf->serialising->strict = true;
		qblk_drain_end(leaf);
	}
}

/**
 * qblk_serialising_strict - must every write to a leaf be listed?
 * @leaf: the leaf
 *
 * Any context.
 */
bool qblk_serialising_strict(const struct qblk_node *leaf)
{
	return leaf->serialising && leaf->serialising->strict;
}

/* Is there an older write that @t has to wait for? */
static bool tracked_blocked(const struct qblk_tracked *t)
{
	struct qblk_tracked *old;
	bool blocked = false;

	spin_lock(&t->ser->lock);
	list_for_each_entry(old, &t->ser->writes, entry) {
		if (old == t)
			break;
		if ((old->serialising || t->serialising) &&
		    old->start < t->end && t->start < old->end) {
			blocked = true;
			break;
		}
	}
	spin_unlock(&t->ser->lock);
	return blocked;
}

/**
 * qblk_tracked_begin - list a write, and wait until it may start
 * @leaf: where it goes
 * @t: storage until qblk_tracked_end()
 * @start: first byte, of whole blocks if @serialising
 * @end: byte after the last
 * @serialising: nothing may overlap it
 *
 * Context: process, may sleep for as long as an older write takes.  The caller
 * holds no buffer an older write could wait for.
 */
void qblk_tracked_begin(const struct qblk_node *leaf, struct qblk_tracked *t,
			u64 start, u64 end, bool serialising)
{
	struct qblk_serialising *ser = leaf->serialising;

	t->ser = ser;
	if (!ser)
		return;
	t->start = start;
	t->end = end;
	t->serialising = serialising;
	spin_lock(&ser->lock);
	list_add_tail(&t->entry, &ser->writes);
	spin_unlock(&ser->lock);
	wait_event(ser->wait, !tracked_blocked(t));
}

/**
 * qblk_tracked_end - the write has completed
 * @t: from qblk_tracked_begin()
 */
void qblk_tracked_end(struct qblk_tracked *t)
{
	struct qblk_serialising *ser = t->ser;

	if (!ser)
		return;
	spin_lock(&ser->lock);
	list_del(&t->entry);
	spin_unlock(&ser->lock);
	/* has the barrier between the removal and the look at the queue */
	if (wq_has_sleeper(&ser->wait))
		wake_up_all(&ser->wait);
}
