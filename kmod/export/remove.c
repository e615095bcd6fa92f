// SPDX-License-Identifier: GPL-2.0
/*
 * Removing disks.
 *
 * One thread at a time removes a disk: the one that moved its state to
 * QBLK_REMOVAL_RUNNING.  From then on the disk cannot be opened, so with no
 * opener left there is no I/O either: the block layer has written the page
 * cache back and emptied it before it called the last ->release().
 *
 * A removal that takes too long can be forced by another thread.  That one
 * makes what the disk still has to do fail, so that the first thread comes to
 * its end, and then removes the disk if the first one has not done so.
 *
 * qblk_control_mutex is held for looking at the graph and for giving it back,
 * and not while waiting for I/O or inside del_gendisk(), which takes
 * disk->open_mutex and waits for readers of sysfs attributes.
 */
#include "export_priv.h"

#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include <qblk/driver.h>
#include <qblk/err.h>
#include <qblk/req.h>

/*
 * After a partition table was written, or a file system unmounted, udev opens
 * the disk to see what is on it now.  Who detaches right then should not be
 * told that the disk is busy.
 */
#define QBLK_CLOSE_GRACE	(2 * HZ)

/* How long somebody who walks over all block devices may look at this one */
#define QBLK_FREE_GRACE		HZ

/* How often somebody in a hurry looks whether the control mutex is free */
#define QBLK_HURRY_STEP		(HZ / 20)

static struct workqueue_struct *qblk_remove_wq;

/*
 * Mounted, used for swapping, part of another device: not just a short look.
 * Under @lock and with openers, which keep the gendisk.
 */
static bool qblk_export_is_claimed(const struct qblk_export *exp)
{
	/* also set for the whole disk when a partition is claimed */
	return READ_ONCE(exp->disk->part0->bd_holder);
}

/*
 * Return: 0 and the removal is ours; -EALREADY when it is somebody's; -EBUSY
 * when the disk is open, with @claimed set.
 */
static int qblk_export_try_claim(struct qblk_export *exp, bool *claimed)
{
	int ret = 0;

	spin_lock(&exp->lock);
	if (exp->removal != QBLK_REMOVAL_NONE)
		ret = -EALREADY;
	else if (exp->openers)
		ret = -EBUSY;
	else
		exp->removal = QBLK_REMOVAL_RUNNING;
	if (ret == -EBUSY)
		*claimed = qblk_export_is_claimed(exp);
	spin_unlock(&exp->lock);
	return ret;
}

static int qblk_export_claim(struct qblk_export *exp, struct qblk_err *err)
{
	long left = QBLK_CLOSE_GRACE;
	bool claimed;
	int ret;

	for (;;) {
		ret = qblk_export_try_claim(exp, &claimed);
		if (ret != -EBUSY || left <= 0 || claimed)
			break;
		left = wait_event_killable_timeout(exp->closed,
						   !READ_ONCE(exp->openers),
						   left);
	}
	if (ret == -EBUSY)
		qblk_err_set(err, "disk qblk%u is in use: %s", exp->index,
			     claimed ?
			     "mounted, swapped on, or part of another device" :
			     "a process has it open");
	return ret;
}

/* Return: 0 and the removal is ours; 1 when it is the last close's; -EALREADY */
static int qblk_export_claim_lazy(struct qblk_export *exp)
{
	int ret = 0;

	spin_lock(&exp->lock);
	if (exp->removal != QBLK_REMOVAL_NONE) {
		ret = -EALREADY;
	} else if (exp->openers) {
		exp->removal = QBLK_REMOVAL_LAZY;
		ret = 1;
	} else {
		exp->removal = QBLK_REMOVAL_RUNNING;
	}
	spin_unlock(&exp->lock);
	return ret;
}

/*
 * Force: take the removal, from a lazy one that waits as well.  Returns what
 * the state was: QBLK_REMOVAL_RUNNING when it is somebody's, and
 * QBLK_REMOVAL_DONE when there is nothing to be removed any more.
 */
static enum qblk_removal qblk_export_claim_force(struct qblk_export *exp)
{
	enum qblk_removal was;

	spin_lock(&exp->lock);
	was = exp->removal;
	if (was != QBLK_REMOVAL_DONE)
		exp->removal = QBLK_REMOVAL_RUNNING;
	spin_unlock(&exp->lock);
	return was;
}

/* The removal that was ours has come to its end, or has failed */
static void qblk_export_release(struct qblk_export *exp,
				enum qblk_removal removal)
{
	spin_lock(&exp->lock);
	exp->removal = removal;
	spin_unlock(&exp->lock);
	wake_up_all(&exp->closed);
}

/**
 * qblk_export_last_close - an opener is gone
 * @exp: the disk, kept by the caller's reference to the gendisk
 *
 * Under disk->open_mutex, so the removal of a lazy disk is left to a work.
 */
void qblk_export_last_close(struct qblk_export *exp)
{
	bool closed, remove = false;

	spin_lock(&exp->lock);
	closed = !--exp->openers;
	if (closed && exp->removal == QBLK_REMOVAL_LAZY) {
		exp->removal = QBLK_REMOVAL_RUNNING;
		remove = true;
	}
	spin_unlock(&exp->lock);
	if (remove)
		queue_work(qblk_remove_wq, &exp->del_work);
	else if (closed)
		wake_up_all(&exp->closed);
}

static int qblk_node_inactivate(struct qblk_node *node, struct qblk_err *err)
{
	int ret;

	if (!node->drv->inactivate)
		return 0;
	ret = node->drv->inactivate(node, err);
	if (ret)
		qblk_err_set(err, "node '%s': closing the image failed: %pe",
			     node->name, ERR_PTR(ret));
	return ret;
}

static void qblk_export_set_settling(struct qblk_export *exp,
				     struct qblk_nodes *nodes)
{
	spin_lock(&exp->lock);
	exp->settling = nodes;
	spin_unlock(&exp->lock);
}

/* Write the images that go with the disk back, and mark them clean */
static int qblk_export_inactivate(struct qblk_export *exp, struct qblk_err *err)
{
	struct qblk_nodes nodes = {};
	unsigned int i;
	int ret;

	ret = qblk_nodes_going(&nodes, exp->root);
	qblk_export_set_settling(exp, &nodes);
	for (i = 0; !ret && i < nodes.nr; i++)
		ret = qblk_node_inactivate(nodes.node[i], err);
	if (!ret)
		ret = qblk_flush(exp->root);
	qblk_export_set_settling(exp, NULL);
	qblk_nodes_free(&nodes);
	return ret;
}

/**
 * struct qblk_settle - a call of qblk_export_settle()
 * @work: does it
 * @exp: the disk
 * @err: gets the sentence on failure
 * @ret: result
 */
struct qblk_settle {
	struct work_struct work;
	struct qblk_export *exp;
	struct qblk_err *err;
	int ret;
};

/*
 * Under the control mutex, since nothing else keeps the graph: a drain does not
 * know of calls that do not come through the queue.
 */
static void qblk_settle_work(struct work_struct *work)
{
	struct qblk_settle *s = container_of(work, struct qblk_settle, work);
	unsigned int flags = qblk_io_enter();

	mutex_lock(&qblk_control_mutex);
	s->ret = qblk_export_inactivate(s->exp, s->err);
	mutex_unlock(&qblk_control_mutex);
	qblk_io_leave(flags);
}

/*
 * Everything to disk, while the disk could still stay if that fails.
 * qblk_node_reap() would do it, too, but too late to say so.
 *
 * A worker does it: who removes a disk may be killed while waiting, and a file
 * system gives up a buffered write of a task that is to die.  Not one of
 * qblk_remove_wq, whose workers wait here.
 */
static int qblk_export_settle(struct qblk_export *exp, struct qblk_err *err)
{
	struct qblk_settle s = { .exp = exp, .err = err };
	int ret;

	INIT_WORK_ONSTACK(&s.work, qblk_settle_work);
	queue_work(system_unbound_wq, &s.work);
	flush_work(&s.work);
	destroy_work_on_stack(&s.work);
	ret = s.ret;
	if (ret)
		qblk_err_set(err, "disk %s: writing back failed: %pe",
			     exp->disk->disk_name, ERR_PTR(ret));
	return ret;
}

/*
 * The same with the bulk of the work, a flush like any other, done before the
 * control mutex is taken, so that it does not hold up other disks.  It does
 * nothing when the user has turned off the write cache in sysfs.
 */
static int qblk_export_flush(struct qblk_export *exp, struct qblk_err *err)
{
	int ret;

	ret = blkdev_issue_flush(exp->disk->part0);
	if (ret) {
		qblk_err_set(err, "disk %s: flushing failed: %pe",
			     exp->disk->disk_name, ERR_PTR(ret));
		return ret;
	}
	return qblk_export_settle(exp, err);
}

/* For a removal that does not depend on it */
static void qblk_export_warn(struct qblk_export *exp,
			     const struct qblk_err *err)
{
	pr_warn("%s: removed all the same: %s\n", exp->disk->disk_name,
		err->msg);
}

/*
 * del_gendisk() returns when the last request has completed; the workers that
 * completed them may still be about to return.
 */
static void qblk_export_del_disk(struct qblk_export *exp)
{
	qblk_export_unlink_slaves(exp);
	del_gendisk(exp->disk);
	destroy_workqueue(exp->wq);
	exp->wq = NULL;
	blk_mq_free_tag_set(&exp->tags);
}

/*
 * Give the graph back, then the gendisk.  Unless it is open, only somebody who
 * walks over all devices can have a reference to it now, for a moment; waiting
 * for that makes the index, and the module, free when this returns.
 *
 * Drops the caller's reference.
 */
static void qblk_export_finish(struct qblk_export *exp)
{
	struct qblk_export_info info;
	bool open;

	qblk_export_forget(exp, &info);
	spin_lock(&exp->lock);
	open = exp->openers;
	spin_unlock(&exp->lock);
	put_disk(exp->disk);
	if (!open)
		wait_for_completion_timeout(&exp->freed, QBLK_FREE_GRACE);
	qblk_event_export_gone(&info);
	qblk_export_release(exp, QBLK_REMOVAL_DONE);
	qblk_export_put(exp);
}

static void qblk_nodes_set_dead(struct qblk_nodes *nodes, bool dead)
{
	unsigned int i;

	for (i = 0; i < nodes->nr; i++)
		WRITE_ONCE(nodes->node[i]->dead, dead);
}

/*
 * Fail what the nodes still have to do, so that workers in the middle of
 * something long come back.  Nodes that others use, too, are left alone.
 * Should there be no memory for the whole list, its begin will do.
 */
static void qblk_export_kill_nodes(struct qblk_export *exp)
{
	struct qblk_nodes nodes = {};

	lockdep_assert_held(&qblk_control_mutex);
	if (exp->closing)
		return;
	qblk_nodes_going(&nodes, exp->root);
	qblk_nodes_set_dead(&nodes, true);
	qblk_nodes_free(&nodes);
}

/*
 * The same for the nodes of qblk_export_inactivate(), whose thread has the
 * control mutex, and keeps it until they have written everything back.
 */
static bool qblk_export_kill_settling(struct qblk_export *exp)
{
	bool settling;

	spin_lock(&exp->lock);
	settling = exp->settling;
	if (settling)
		qblk_nodes_set_dead(exp->settling, true);
	spin_unlock(&exp->lock);
	return settling;
}

/*
 * The workers are gone, the images are still to be left clean.  All below, in
 * case one of them has got another user meanwhile: none of them was killed by
 * anybody else, since to that one it would have been in use.
 */
static void qblk_export_revive_nodes(struct qblk_export *exp)
{
	struct qblk_nodes nodes = {};

	qblk_nodes_below(&nodes, exp->root->node);
	qblk_nodes_set_dead(&nodes, false);
	qblk_nodes_free(&nodes);
}

/*
 * The disk is gone.  If it was forced on the way, the images have not got what
 * is in memory yet: they get it now, as far as the leaves take it, since the
 * disk goes by force, not the data.  That, too, can be forced to an end.
 */
static void qblk_export_close(struct qblk_export *exp)
{
	struct qblk_err err = {};
	bool dead;

	mutex_lock(&qblk_control_mutex);
	exp->closing = true;
	dead = READ_ONCE(exp->dead);
	if (dead)
		qblk_export_revive_nodes(exp);
	mutex_unlock(&qblk_control_mutex);
	if (dead && qblk_export_settle(exp, &err))
		qblk_export_warn(exp, &err);
}

/* The part of a removal that cannot fail; drops the caller's reference */
static void qblk_export_remove(struct qblk_export *exp)
{
	qblk_export_del_disk(exp);
	qblk_export_close(exp);
	qblk_export_finish(exp);
}

static int qblk_export_del_sync(struct qblk_export *exp, struct qblk_err *err)
{
	int ret;

	ret = qblk_export_claim(exp, err);
	if (ret)
		goto out_put;
	ret = qblk_export_flush(exp, err);
	if (ret) {
		qblk_export_release(exp, QBLK_REMOVAL_NONE);
		goto out_put;
	}
	qblk_export_remove(exp);
	return 0;
out_put:
	qblk_export_put(exp);
	return ret;
}

/* Drops the caller's reference */
static void qblk_export_del_closed(struct qblk_export *exp)
{
	struct qblk_err err = {};

	if (qblk_export_flush(exp, &err))
		qblk_export_warn(exp, &err);
	qblk_export_remove(exp);
}

/* Nobody else removes the disk, so the gendisk's reference is there to copy */
void qblk_export_lazy_work(struct work_struct *work)
{
	struct qblk_export *exp = container_of(work, struct qblk_export,
					       del_work);

	refcount_inc(&exp->refs);
	qblk_export_del_closed(exp);
}

static int qblk_export_del_lazy(struct qblk_export *exp)
{
	int ret;

	ret = qblk_export_claim_lazy(exp);
	if (ret) {
		qblk_export_put(exp);
		return min(ret, 0);
	}
	qblk_export_del_closed(exp);
	return 0;
}

/*
 * Make the removal that another thread runs come to its end: what it waits for
 * fails.  The control mutex is not waited for, since that may be what the other
 * thread has while it waits.
 *
 * If it was to leave the disk in case of a failure, the removal can be had
 * afterwards; else the disk is gone.  Who is killed while waiting leaves a disk
 * whose I/O fails, and that can still be forced.
 *
 * Return: 0 or -EINTR.
 */
static int qblk_export_hurry(struct qblk_export *exp)
{
	while (!qblk_export_kill_settling(exp)) {
		if (mutex_trylock(&qblk_control_mutex)) {
			qblk_export_kill_nodes(exp);
			mutex_unlock(&qblk_control_mutex);
			break;
		}
		schedule_timeout_killable(QBLK_HURRY_STEP);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	if (wait_event_killable(exp->closed, READ_ONCE(exp->removal) !=
				QBLK_REMOVAL_RUNNING))
		return -EINTR;
	return 0;
}

/* Returns QBLK_REMOVAL_RUNNING if the caller is killed before it is the one */
static enum qblk_removal qblk_export_take_over(struct qblk_export *exp)
{
	enum qblk_removal was;

	do {
		was = qblk_export_claim_force(exp);
	} while (was == QBLK_REMOVAL_RUNNING && !qblk_export_hurry(exp));
	return was;
}

/*
 * New requests fail, and so does what workers have not begun.  What leaves
 * have in flight is waited for: the pages of a request belong to the leaf
 * until it gives them back, and a bio that another driver has cannot be taken
 * from it.  So this ends when the leaves answer, and not before.
 */
static int qblk_export_del_force(struct qblk_export *exp)
{
	enum qblk_removal was;

	WRITE_ONCE(exp->dead, true);
	was = qblk_export_take_over(exp);
	if (was == QBLK_REMOVAL_RUNNING || was == QBLK_REMOVAL_DONE) {
		qblk_export_put(exp);
		return was == QBLK_REMOVAL_DONE ? 0 : -EINTR;
	}
	mutex_lock(&qblk_control_mutex);
	qblk_export_kill_nodes(exp);
	mutex_unlock(&qblk_control_mutex);
	blk_mark_disk_dead(exp->disk);
	qblk_export_remove(exp);
	return 0;
}

int qblk_export_del(struct qblk_export *exp, enum qblk_del_mode mode,
		    struct qblk_err *err)
{
	u32 index = exp->index;
	int ret;

	switch (mode) {
	case QBLK_DEL_LAZY:
		ret = qblk_export_del_lazy(exp);
		break;
	case QBLK_DEL_FORCE:
		ret = qblk_export_del_force(exp);
		break;
	default:
		ret = qblk_export_del_sync(exp, err);
		break;
	}
	if (ret != -EALREADY)
		return ret;
	qblk_err_set(err, "disk qblk%u is being removed already", index);
	return -EBUSY;
}

int qblk_remove_init(void)
{
	qblk_remove_wq = alloc_workqueue("qblk_remove", WQ_UNBOUND, 0);
	return qblk_remove_wq ? 0 : -ENOMEM;
}

void qblk_remove_exit(void)
{
	destroy_workqueue(qblk_remove_wq);
}
