// SPDX-License-Identifier: GPL-2.0
/*
 * The dirty bit, and lazy refcounts under its protection.
 *
 * With lazy refcounts a flush of the disk does not write refcount blocks: they
 * are written when their cache is half full, when memory is short, and when the
 * image is closed.  After a crash refcounts on disk may then be too low, and a
 * cluster in use may look free, or too high.  Nobody is misled by that:
 *
 *   - The dirty bit is stable before the first table on disk can refer to a
 *     cluster whose refcount is in memory only.  It is an incompatible feature:
 *     whoever opens the image for writing rebuilds the refcounts from the
 *     tables before anything is allocated, or refuses.  Reading needs none.
 *   - The rebuild counts what tables on disk refer to.  So all that has to hold
 *     is that these refer to nothing that was given away, and this does not
 *     rest on refcounts on disk: a cluster becomes free in memory only after
 *     the change that dropped it is stable (free.c), dirty bit or not.  Data is
 *     stable before an L2 entry points to it, also as without the bit.
 *   - The refcount table itself is written in the same order as always: each
 *     block it points to is complete, if out of date (refcount.c).
 *   - The bit goes only after all refcounts are stable.
 */
#include <linux/kernel.h>

#include "check.h"

/**
 * qcow2_mark_dirty - refcounts on disk are not to be trusted from now on
 * @s: image of version 3
 *
 * Context: process, lock held.
 *
 * Return: 0, and the bit is stable; or an error of the child.
 */
int qcow2_mark_dirty(struct qcow2_state *s)
{
	int ret;

	lockdep_assert_held(&s->lock);
	if (s->refcounts_late)
		return 0;
	ret = qcow2_header_features(s, QCOW2_INCOMPAT_DIRTY, 0);
	if (!ret)
		ret = qblk_flush(s->file);
	s->refcounts_late = !ret;
	return ret;
}

/**
 * qcow2_mark_clean - refcounts on disk are right
 * @s: image, all of its metadata written and stable
 *
 * An image with corruption stays dirty: its refcounts are not believed, and
 * somebody has to repair it anyway.  Context: process, lock not held.
 *
 * Return: 0, and the bit is gone for good; or an error of the child.
 */
int qcow2_mark_clean(struct qcow2_state *s)
{
	int ret = 0;

	mutex_lock(&s->lock);
	if (s->hdr.incompatible_features & QCOW2_INCOMPAT_DIRTY &&
	    !READ_ONCE(s->corrupt)) {
		/* What is written after this has to set it again. */
		s->refcounts_late = false;
		ret = qcow2_header_features(s, 0, QCOW2_INCOMPAT_DIRTY);
		if (!ret)
			ret = qblk_flush(s->file);
	}
	mutex_unlock(&s->lock);
	return ret;
}

/**
 * qcow2_settle_refcounts - tables are going to refer to new clusters
 * @s: image
 *
 * Either refcounts are written, to become stable with the next flush, or it is
 * known to everybody that they are not.  Context: process, lock held.
 *
 * Return: 0 or an error of the child.
 */
int qcow2_settle_refcounts(struct qcow2_state *s)
{
	lockdep_assert_held(&s->lock);
	if (!s->use_lazy_refcounts)
		return qcow2_cache_write_dirty(&s->ref_cache);
	if (!qcow2_cache_nr_dirty(&s->ref_cache))
		return 0;
	return qcow2_mark_dirty(s);
}

/* What keeps an image from being repaired, in words; NULL for nothing */
static const char *qcow2_unrepairable(const struct qcow2_check *c, char *buf,
				      size_t size)
{
	const struct qcow2_check_result *r = &c->res;

	if (r->errors)
		snprintf(buf, size, "%llu pieces of its tables cannot be read",
			 r->errors);
	else if (r->overflows)
		snprintf(buf, size,
			 "the cluster at %#llx has more references than %u bits can count",
			 r->overflow, 1U << c->s->refcount_order);
	else if (r->shared)
		snprintf(buf, size,
			 "the table at %#llx overlaps with something else",
			 r->share);
	else
		return NULL;
	return buf;
}

static const char *qcow2_repair_error(int error, char *buf, size_t size)
{
	switch (error) {
	case -ENOMEM:
		return "there is not enough memory";
	case -EFBIG:
		return "it has more clusters than can be counted";
	case -ENOSPC:
		return "there is no room for refcount blocks";
	case -EINTR:
		return "interrupted";
	default:
		snprintf(buf, size, "error %d", error);
		return buf;
	}
}

static int qcow2_rebuild(struct qcow2_state *s, struct qcow2_check *c,
			 struct qblk_err *err)
{
	const char *why;
	char buf[96];
	int ret;

	ret = qcow2_check(c);
	why = qcow2_unrepairable(c, buf, sizeof(buf));
	if (!ret && why)
		ret = -EUCLEAN;
	/* Before anything is written where bitmaps are */
	if (!ret)
		ret = qcow2_autoclear(s, err);
	if (!ret) {
		mutex_lock(&s->lock);
		ret = qcow2_repair(c);
		mutex_unlock(&s->lock);
	}
	if (!ret)
		ret = qcow2_mark_clean(s);
	if (ret)
		qblk_err_set(err,
			     "node '%s': image was not closed cleanly (dirty bit), and its refcounts cannot be rebuilt: %s; repair it with qemu-img check -r all, or attach it read-only",
			     s->node->name, ret == -EUCLEAN && why ? why :
			     qcow2_repair_error(ret, buf, sizeof(buf)));
	return ret;
}

static void qcow2_tell_repaired(const struct qcow2_check *c,
				struct qblk_err *err)
{
	const struct qcow2_check_result *r = &c->res;
	const char *who = c->s->node->name;

	pr_info("qblk: %s: image was not closed cleanly: %llu refcounts were too low, %llu too high, %llu flags wrong\n",
		who, r->corruptions, r->leaks, r->copied);
	if (r->broken)
		qblk_err_warn(err,
			      "node '%s': image was not closed cleanly: its refcounts were rebuilt, but %llu entries of its tables make no sense; qemu-img check tells which",
			      who, r->broken);
}

/**
 * qcow2_open_dirty - rebuild the refcounts of an image that was not closed
 * @s: image, all of it read, not in use
 * @err: gets the sentence on failure
 *
 * QEMU does the same, and like there a read-only image stays as it is, and
 * entries of tables that make no sense keep nobody from using the rest.  What
 * bitmaps refer to is free afterwards: a writable image loses them (bitmap.c).
 * Context: process, during open.
 *
 * Return: 0; -EUCLEAN when the image is broken in a way that makes allocation
 * unsafe; an error of the check, of the repair, or of the child.
 */
int qcow2_open_dirty(struct qcow2_state *s, struct qblk_err *err)
{
	struct qcow2_check *c;
	int ret;

	if (s->node->read_only ||
	    !(s->hdr.incompatible_features & QCOW2_INCOMPAT_DIRTY))
		return 0;
	c = qcow2_check_alloc(s, false);
	if (!c)
		return -ENOMEM;
	ret = qcow2_rebuild(s, c, err);
	if (!ret) {
		s->exts.nb_bitmaps = 0;
		qcow2_tell_repaired(c, err);
	}
	qcow2_check_free(c);
	return ret;
}
