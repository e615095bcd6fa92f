// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that copy on write has used, kept for the next time.
 *
 * A cluster's worth of pages costs little to find, but the kernel clears what it
 * hands out (init_on_alloc, which distributions turn on), and that takes as long
 * as to copy the cluster, which then fills all of it.
 *
 * Shared by all images.  What is kept goes when the system wants memory, and
 * with the last image.  It is no reserve: there may be none.
 */
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/spinlock.h>

#include "qcow2.h"

/* As many as a disk has in flight under load, 2 MiB */
#define QCOW2_MAX_PIECES	32

static struct {
	spinlock_t lock;	/* covers the other members but @reclaim */
	struct list_head idle;	/* by their first page's lru */
	unsigned int nr;
	unsigned int users;
	struct qcow2_reclaim reclaim;
} qcow2_pieces = {
	.lock = __SPIN_LOCK_UNLOCKED(qcow2_pieces.lock),
	.idle = LIST_HEAD_INIT(qcow2_pieces.idle),
};

static struct page *qcow2_piece_take(void)
	__must_hold(&qcow2_pieces.lock)
{
	struct page *page = list_first_entry_or_null(&qcow2_pieces.idle,
						     struct page, lru);

	if (page) {
		list_del(&page->lru);
		qcow2_pieces.nr--;
	}
	return page;
}

/**
 * qcow2_piece_get - a piece that was used before
 *
 * It holds anything.  Context: process.
 *
 * Return: the first of its pages, QCOW2_PIECE_BYTES together, or NULL.
 */
struct page *qcow2_piece_get(void)
{
	struct page *page;

	spin_lock(&qcow2_pieces.lock);
	page = qcow2_piece_take();
	spin_unlock(&qcow2_pieces.lock);
	return page;
}

/**
 * qcow2_piece_put - a piece is not used any more
 * @page: its first page, of an allocation of QCOW2_PIECE_BYTES
 *
 * Context: process.
 */
void qcow2_piece_put(struct page *page)
{
	bool keep;

	spin_lock(&qcow2_pieces.lock);
	keep = qcow2_pieces.users && qcow2_pieces.nr < QCOW2_MAX_PIECES;
	if (keep) {
		list_add(&page->lru, &qcow2_pieces.idle);
		qcow2_pieces.nr++;
	}
	spin_unlock(&qcow2_pieces.lock);
	if (!keep)
		__free_pages(page, get_order(QCOW2_PIECE_BYTES));
}

/* Free up to so many.  Return: how many there were. */
static unsigned int qcow2_pieces_free(unsigned int nr)
{
	struct page *page;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		page = qcow2_piece_get();
		if (!page)
			break;
		__free_pages(page, get_order(QCOW2_PIECE_BYTES));
	}
	return i;
}

static unsigned long qcow2_pieces_count(struct qcow2_reclaim *r)
{
	return READ_ONCE(qcow2_pieces.nr) << get_order(QCOW2_PIECE_BYTES);
}

static unsigned long qcow2_pieces_scan(struct qcow2_reclaim *r,
				       unsigned long nr)
{
	unsigned int order = get_order(QCOW2_PIECE_BYTES);

	return (unsigned long)qcow2_pieces_free(DIV_ROUND_UP(nr, 1UL << order))
	       << order;
}

/**
 * qcow2_pieces_start - an image may use pieces
 */
void qcow2_pieces_start(void)
{
	spin_lock(&qcow2_pieces.lock);
	qcow2_pieces.users++;
	spin_unlock(&qcow2_pieces.lock);
}

/**
 * qcow2_pieces_stop - an image keeps no pieces any more
 *
 * What is still in flight is freed when it ends.  Context: process.
 */
void qcow2_pieces_stop(void)
{
	bool last;

	spin_lock(&qcow2_pieces.lock);
	last = !--qcow2_pieces.users;
	spin_unlock(&qcow2_pieces.lock);
	if (last)
		qcow2_pieces_free(UINT_MAX);
}

/**
 * qcow2_pieces_init - let memory be taken from what is kept
 */
void qcow2_pieces_init(void)
{
	qcow2_pieces.reclaim.count = qcow2_pieces_count;
	qcow2_pieces.reclaim.scan = qcow2_pieces_scan;
	qcow2_reclaim_add(&qcow2_pieces.reclaim);
}

/**
 * qcow2_pieces_exit - undo qcow2_pieces_init(), no image is open
 */
void qcow2_pieces_exit(void)
{
	qcow2_reclaim_del(&qcow2_pieces.reclaim);
}
