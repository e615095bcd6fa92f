// SPDX-License-Identifier: GPL-2.0
/*
 * Disks: making them, opening them, finding them.
 *
 * Locks, outermost first: qblk_control_mutex, disk->open_mutex of any block
 * device, qblk_export.lock.  Making a disk scans its partitions, which opens
 * it, so ->open() and ->release() run under the control mutex of their own
 * task or of nobody's; they never take it.  Nor does the I/O path, which that
 * scan uses, and which freezing waits for.
 *
 * Lifetime: the gendisk holds a reference to its struct qblk_export, because a
 * disk removed by force may still be open, and the block layer calls
 * ->release() of it.  The export holds a reference to the module, because the
 * last use of the gendisk comes after the block layer has dropped the one of
 * the open.
 */
#include "export_priv.h"

#include <linux/ctype.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include <qblk/driver.h>
#include <qblk/err.h>

#define QBLK_DEFAULT_DEPTH	128U

/*
 * Workers per disk that may run at a time.  Each is one blocking request, so
 * this is what an image with a cold cache or much to allocate has in flight.
 */
#define QBLK_MAX_WORKERS	64

/*
 * All disks by index.  They are entered and taken out under qblk_control_mutex
 * and the array's lock, which alone is enough to find one; the index stays
 * reserved, with no entry, until the gendisk is freed.
 */
static DEFINE_XARRAY_ALLOC(qblk_exports);

static void qblk_export_free(struct qblk_export *exp)
{
	if (exp->wq)
		destroy_workqueue(exp->wq);
	xa_erase(&qblk_exports, exp->index);
	free_percpu(exp->stats);
	kfree(exp->slaves);
	kfree(exp->image);
	kfree(exp->format);
	kfree(exp->chain);
	kfree(exp);
	/*
	 * With the last disk this may let the module go while this function
	 * returns.  As in rbd, the window is of a few instructions, and every
	 * other place to do it has a larger one.
	 */
	module_put(THIS_MODULE);
}

void qblk_export_put(struct qblk_export *exp)
{
	if (refcount_dec_and_test(&exp->refs))
		qblk_export_free(exp);
}

static int qblk_disk_open(struct gendisk *disk, blk_mode_t mode)
{
	struct qblk_export *exp = disk->private_data;
	int ret = -ENXIO;

	spin_lock(&exp->lock);
	if (exp->removal == QBLK_REMOVAL_NONE) {
		exp->openers++;
		ret = 0;
	}
	spin_unlock(&exp->lock);
	return ret;
}

/* The page cache has been written back: that comes before the last release */
static void qblk_disk_release(struct gendisk *disk)
{
	struct qblk_export *exp = disk->private_data;

	qblk_export_last_close(exp);
}

static void qblk_disk_free(struct gendisk *disk)
{
	struct qblk_export *exp = disk->private_data;

	complete(&exp->freed);
	qblk_export_put(exp);
}

QBLK_COMPAT_DISK_OPS(qblk_disk_open, qblk_disk_release);

static const struct block_device_operations qblk_disk_fops = {
	.owner		= THIS_MODULE,
	.open		= QBLK_COMPAT_DISK_OP(qblk_disk_open),
	.release	= QBLK_COMPAT_DISK_OP(qblk_disk_release),
	.free_disk	= qblk_disk_free,
};

/* ``qblk`` and a number: a name that some disk has or will have */
static bool qblk_is_disk_name(const char *name)
{
	if (strncmp(name, "qblk", 4) || !name[4])
		return false;
	for (name += 4; *name; name++)
		if (!isdigit(*name))
			return false;
	return true;
}

static bool qblk_name_has_good_chars(const char *name)
{
	/* isalnum() alone also takes the letters of Latin-1 */
	for (; *name; name++)
		if (!(isascii(*name) && isalnum(*name)) &&
		    !strchr("._-", *name))
			return false;
	return true;
}

static bool qblk_export_is_called(const struct qblk_export *exp,
				  const char *name)
{
	return !strcmp(exp->name, name) || !strcmp(exp->disk->disk_name, name);
}

static struct qblk_export *qblk_export_lookup(const char *name)
{
	struct qblk_export *exp;
	unsigned long idx;

	lockdep_assert_held(&qblk_control_mutex);
	xa_for_each(&qblk_exports, idx, exp)
		if (qblk_export_is_called(exp, name))
			return exp;
	return NULL;
}

/*
 * A name is in use until everything behind the disk is closed, since the disk
 * is found until then.
 */
static int qblk_export_check_name(const struct qblk_export *exp,
				  const char *name, struct qblk_err *err)
{
	if (!*name || strlen(name) >= QBLK_EXPORT_NAME_LEN ||
	    !qblk_name_has_good_chars(name)) {
		qblk_err_set(err,
			     "disk name '%.64s': up to %d letters, digits, '.', '_' and '-' are allowed",
			     name, QBLK_EXPORT_NAME_LEN - 1);
		return -EINVAL;
	}
	if (qblk_is_disk_name(name) && strcmp(name, exp->name)) {
		qblk_err_set(err,
			     "disk name '%s': names of this form belong to the devices, and this one will be %s",
			     name, exp->name);
		return -EINVAL;
	}
	if (qblk_export_lookup(name)) {
		qblk_err_set(err, "disk name '%s' is in use", name);
		return -EEXIST;
	}
	return 0;
}

static int qblk_export_set_name(struct qblk_export *exp, const char *name,
				struct qblk_err *err)
{
	int ret;

	/* the disk's own, unless the user has another */
	snprintf(exp->name, sizeof(exp->name), "qblk%u", exp->index);
	if (!name)
		return 0;
	ret = qblk_export_check_name(exp, name, err);
	if (!ret)
		strscpy(exp->name, name, sizeof(exp->name));
	return ret;
}

/* On success the module is pinned and the index reserved */
static struct qblk_export *qblk_export_alloc(void)
{
	struct qblk_export *exp;
	int ret;

	exp = kzalloc(sizeof(*exp), GFP_KERNEL);
	if (!exp)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&exp->lock);
	init_waitqueue_head(&exp->closed);
	init_completion(&exp->freed);
	INIT_WORK(&exp->del_work, qblk_export_lazy_work);
	refcount_set(&exp->refs, 1);
	ret = xa_alloc(&qblk_exports, &exp->index, NULL, xa_limit_31b,
		       GFP_KERNEL);
	if (ret) {
		kfree(exp);
		return ERR_PTR(ret);
	}
	__module_get(THIS_MODULE);
	return exp;
}

static int qblk_export_alloc_parts(struct qblk_export *exp)
{
	exp->stats = alloc_percpu(struct qblk_export_stats);
	exp->wq = alloc_workqueue("qblk%u", WQ_MEM_RECLAIM | WQ_UNBOUND,
				  QBLK_MAX_WORKERS, exp->index);
	return exp->stats && exp->wq ? 0 : -ENOMEM;
}

static int qblk_export_attach(struct qblk_export *exp, struct qblk_node *node,
			      struct qblk_err *err)
{
	u32 perm = QBLK_PERM_CONSISTENT_READ;
	struct qblk_child *root;
	char desc[sizeof("disk qblk4294967295")];

	if (!exp->read_only)
		perm |= QBLK_PERM_WRITE;
	snprintf(desc, sizeof(desc), "disk qblk%u", exp->index);
	root = qblk_child_attach(NULL, node, "root",
				 QBLK_CHILD_DATA | QBLK_CHILD_PRIMARY, perm,
				 QBLK_PERM_CONSISTENT_READ |
				 QBLK_PERM_WRITE_UNCHANGED, desc, err);
	if (IS_ERR(root))
		return PTR_ERR(root);
	exp->root = root;
	strscpy(exp->root_name, node->name, sizeof(exp->root_name));
	return 0;
}

static void qblk_export_detach(struct qblk_export *exp)
{
	struct qblk_child *root = exp->root;

	/* no longer found by a drain, which there is nothing to freeze for */
	exp->root = NULL;
	if (root)
		qblk_child_detach(root);
}

static void qblk_export_sum_stats(const struct qblk_export *exp,
				  struct qblk_export_info *info)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		info->tier1 += per_cpu_ptr(exp->stats, cpu)->tier1;
		info->tier2 += per_cpu_ptr(exp->stats, cpu)->tier2;
	}
}

/* Under qblk_control_mutex, which keeps the edge */
static void qblk_export_fill_info(struct qblk_export *exp,
				  struct qblk_export_info *info)
{
	struct gendisk *disk = exp->disk;

	memset(info, 0, sizeof(*info));
	strscpy(info->disk_name, disk->disk_name, sizeof(info->disk_name));
	strscpy(info->name, exp->name, sizeof(info->name));
	strscpy(info->node_name, exp->root->node->name,
		sizeof(info->node_name));
	info->index = exp->index;
	info->devt = disk_devt(disk);
	info->size = exp->size;
	info->logical_block_size = queue_logical_block_size(disk->queue);
	info->read_only = exp->read_only;
	info->nr_queues = exp->tags.nr_hw_queues;
	spin_lock(&exp->lock);
	info->openers = exp->openers;
	info->deleting = exp->removal != QBLK_REMOVAL_NONE;
	spin_unlock(&exp->lock);
	qblk_export_sum_stats(exp, info);
}

/**
 * qblk_export_forget - the disk has no I/O any more: give its graph back
 * @exp: the disk
 * @info: gets what there was
 *
 * Closes what only this disk used, and frees the disk's name.
 */
void qblk_export_forget(struct qblk_export *exp, struct qblk_export_info *info)
{
	mutex_lock(&qblk_control_mutex);
	qblk_export_fill_info(exp, info);
	qblk_export_detach(exp);
	qblk_node_reap();
	/* an allocating array keeps an index that is set to NULL */
	xa_store(&qblk_exports, exp->index, NULL, GFP_KERNEL);
	mutex_unlock(&qblk_control_mutex);
}

/*
 * No default scheduler, as for other disks that stand on disks: what a
 * scheduler can do is done below.
 */
static int qblk_export_alloc_tags(struct qblk_export *exp,
				  const struct qblk_export_params *p)
{
	struct blk_mq_tag_set *set = &exp->tags;

	set->ops = &qblk_mq_ops;
	set->nr_hw_queues = p->nr_queues ? p->nr_queues : num_online_cpus();
	set->queue_depth = p->queue_depth ? p->queue_depth : QBLK_DEFAULT_DEPTH;
	set->numa_node = NUMA_NO_NODE;
	set->cmd_size = qblk_rq_size;
	set->flags = BLK_MQ_F_SHOULD_MERGE | BLK_MQ_F_STACKING |
		     BLK_MQ_F_NO_SCHED_BY_DEFAULT;
	if (exp->may_sleep)
		set->flags |= BLK_MQ_F_BLOCKING;
	set->driver_data = exp;
	return blk_mq_alloc_tag_set(set);
}

static int qblk_export_check_queues(const struct qblk_export_params *p,
				    struct qblk_err *err)
{
	if (p->nr_queues > nr_cpu_ids) {
		qblk_err_set(err, "%u queues: there are only %u CPUs",
			     p->nr_queues, nr_cpu_ids);
		return -EINVAL;
	}
	if (p->queue_depth > BLK_MQ_MAX_DEPTH) {
		qblk_err_set(err, "queue depth %u: at most %d are possible",
			     p->queue_depth, BLK_MQ_MAX_DEPTH);
		return -EINVAL;
	}
	return 0;
}

static void qblk_export_setup_disk(struct qblk_export *exp, bool partscan)
{
	struct gendisk *disk = exp->disk;

	/* no major: numbers come from the extended range and do not run out */
	disk->fops = &qblk_disk_fops;
	disk->private_data = exp;
	snprintf(disk->disk_name, sizeof(disk->disk_name), "qblk%u",
		 exp->index);
	if (!partscan)
		set_bit(GD_SUPPRESS_PART_SCAN, &disk->state);
	set_disk_ro(disk, exp->read_only);
	set_capacity(disk, exp->size >> SECTOR_SHIFT);
}

static int qblk_export_alloc_disk(struct qblk_export *exp,
				  const struct qblk_export_params *p,
				  struct qblk_err *err)
{
	struct queue_limits lim;
	struct gendisk *disk;
	int ret;

	ret = qblk_export_limits(p, exp, &lim, err);
	if (ret)
		return ret;
	exp->small_blocks = lim.logical_block_size <
			    p->node->limits.logical_block_size;
	/* submit_bio() may, whatever it is given */
	exp->may_sleep = p->node->limits.submit_sleeps || exp->nr_slaves;
	ret = qblk_export_alloc_tags(exp, p);
	if (ret)
		return ret;
	disk = blk_mq_alloc_disk(&exp->tags, &lim, exp);
	if (IS_ERR(disk)) {
		blk_mq_free_tag_set(&exp->tags);
		return PTR_ERR(disk);
	}
	exp->disk = disk;
	qblk_export_setup_disk(exp, p->partscan);
	return 0;
}

/*
 * Scans the partitions, that is, reads; the disk is listed before, since from
 * then on it can be opened.
 */
static int qblk_export_add_disk(struct qblk_export *exp)
{
	int ret;

	ret = xa_err(xa_store(&qblk_exports, exp->index, exp, GFP_KERNEL));
	if (ret)
		return ret;
	ret = device_add_disk(NULL, exp->disk, qblk_disk_groups);
	if (ret)
		xa_store(&qblk_exports, exp->index, NULL, GFP_KERNEL);
	else
		qblk_export_link_slaves(exp);
	return ret;
}

static int qblk_export_make_disk(struct qblk_export *exp,
				 const struct qblk_export_params *p,
				 struct qblk_err *err)
{
	int ret;

	ret = qblk_export_describe(exp);
	if (!ret)
		ret = qblk_export_find_slaves(exp);
	if (!ret)
		ret = qblk_export_alloc_disk(exp, p, err);
	if (ret)
		return ret;
	ret = qblk_export_add_disk(exp);
	if (ret) {
		/* a disk that was never added does not call ->free_disk() */
		put_disk(exp->disk);
		blk_mq_free_tag_set(&exp->tags);
	}
	return ret;
}

static int qblk_export_make(struct qblk_export *exp,
			    const struct qblk_export_params *p,
			    struct qblk_err *err)
{
	int ret;

	exp->size = round_down(qblk_node_length(p->node), SECTOR_SIZE);
	exp->read_only = p->read_only;
	ret = qblk_export_check_queues(p, err);
	if (!ret)
		ret = qblk_export_set_name(exp, p->name, err);
	if (!ret)
		ret = qblk_export_alloc_parts(exp);
	if (!ret)
		ret = qblk_export_attach(exp, p->node, err);
	if (ret)
		return ret;
	ret = qblk_export_make_disk(exp, p, err);
	if (ret)
		qblk_export_detach(exp);
	return ret;
}

int qblk_export_add(const struct qblk_export_params *p,
		    struct qblk_export_info *info, struct qblk_err *err)
{
	struct qblk_export *exp;
	int ret;

	lockdep_assert_held(&qblk_control_mutex);
	exp = qblk_export_alloc();
	if (IS_ERR(exp)) {
		ret = PTR_ERR(exp);
		goto err;
	}
	ret = qblk_export_make(exp, p, err);
	if (ret) {
		qblk_export_put(exp);
		goto err;
	}
	qblk_export_fill_info(exp, info);
	return 0;
err:
	qblk_err_set(err, "making a disk on node '%s' failed: %pe",
		     p->node->name, ERR_PTR(ret));
	return ret;
}

bool qblk_export_next(u32 index, struct qblk_export_info *info)
{
	unsigned long idx = index;
	struct qblk_export *exp;

	lockdep_assert_held(&qblk_control_mutex);
	exp = xa_find(&qblk_exports, &idx, ULONG_MAX, XA_PRESENT);
	if (!exp)
		return false;
	qblk_export_fill_info(exp, info);
	return true;
}

/* A disk is listed only as long as its gendisk, which has a reference, is there */
struct qblk_export *qblk_export_get(const char *name, const char *root,
				    char *own, struct qblk_err *err)
{
	struct qblk_export *exp, *found = ERR_PTR(-ENOENT);
	unsigned long idx;

	xa_lock(&qblk_exports);
	xa_for_each(&qblk_exports, idx, exp) {
		if (!qblk_export_is_called(exp, name))
			continue;
		if (root && strcmp(root, exp->root_name)) {
			qblk_err_set(err,
				     "disk '%s' is another one: it shows node '%s', not '%s'",
				     name, exp->root_name, root);
			break;
		}
		refcount_inc(&exp->refs);
		strscpy(own, exp->name, QBLK_EXPORT_NAME_LEN);
		found = exp;
		break;
	}
	xa_unlock(&qblk_exports);
	if (IS_ERR(found))
		qblk_err_set(err, "there is no disk '%s'", name);
	return found;
}

int qblk_export_find(const char *name, struct qblk_export_info *info)
{
	struct qblk_export *exp = qblk_export_lookup(name);

	if (!exp)
		return -ENOENT;
	qblk_export_fill_info(exp, info);
	return 0;
}

/*
 * A disk that is just being made or has been unmade has no requests, and is
 * not found.
 */
static struct qblk_export *qblk_export_of(const struct qblk_child *child)
{
	struct qblk_export *exp;
	unsigned long idx;

	lockdep_assert_held(&qblk_control_mutex);
	xa_for_each(&qblk_exports, idx, exp)
		if (exp->root == child)
			return exp;
	return NULL;
}

/*
 * A request gives its queue reference back after its last piece, whichever
 * tier that took, has ended; so freezing waits for workers, too.  A queue that
 * is being deleted is frozen for good, and one more level does no harm.
 */
void qblk_export_freeze(struct qblk_child *child)
{
	struct qblk_export *exp = qblk_export_of(child);

	if (exp)
		blk_mq_freeze_queue(exp->disk->queue);
}

void qblk_export_unfreeze(struct qblk_child *child)
{
	struct qblk_export *exp = qblk_export_of(child);

	if (exp)
		blk_mq_unfreeze_queue(exp->disk->queue);
}

int qblk_export_init(void)
{
	int ret;

	ret = qblk_queue_init();
	if (ret)
		return ret;
	ret = qblk_remove_init();
	if (ret)
		qblk_queue_exit();
	return ret;
}

/* No disk is left: each holds a reference to the module */
void qblk_export_exit(void)
{
	qblk_remove_exit();
	qblk_queue_exit();
}
