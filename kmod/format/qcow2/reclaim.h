/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Caches that give memory back when the system asks for it.
 *
 * A cache embeds a struct qcow2_reclaim, sets its two functions, calls
 * qcow2_reclaim_add() once it can be looked at and qcow2_reclaim_del() before
 * it goes away.  In between, the functions are called
 *
 *   - by whoever allocates memory, in the middle of anything this module does,
 *     so they take no lock that is held over I/O or over an allocation that may
 *     reclaim (GFP_NOIO may): in practice, one spinlock of the cache;
 *   - in process context, one caller at a time, with the mutex of the list of
 *     caches held, so that qcow2_reclaim_del() waits for them.  They may sleep
 *     as vfree() does, but not for I/O, nor for who might want memory.
 *
 * The unit is about a page: a cache with larger objects counts each as many.
 */
#ifndef _QBLK_QCOW2_RECLAIM_H
#define _QBLK_QCOW2_RECLAIM_H

#include <linux/list.h>

/**
 * struct qcow2_reclaim - a cache that gives memory back
 * @entry: in the list of them
 * @count: how much might be given back now
 * @scan: look at about @nr, give back what nobody used lately; how much was it?
 */
struct qcow2_reclaim {
	struct list_head entry;
	unsigned long (*count)(struct qcow2_reclaim *r);
	unsigned long (*scan)(struct qcow2_reclaim *r, unsigned long nr);
};

void qcow2_reclaim_add(struct qcow2_reclaim *r);
void qcow2_reclaim_del(struct qcow2_reclaim *r);
unsigned long qcow2_reclaim_count(void);
unsigned long qcow2_reclaim_scan(unsigned long nr, unsigned long *scanned);
int qcow2_reclaim_init(void);
void qcow2_reclaim_exit(void);

#endif /* _QBLK_QCOW2_RECLAIM_H */
