/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counting what refers to each cluster, and making refcounts agree with it.
 */
#ifndef _QBLK_QCOW2_CHECK_H
#define _QBLK_QCOW2_CHECK_H

#include <linux/types.h>
#include <linux/xarray.h>

#include "qcow2.h"

/**
 * struct qcow2_counts - a number for each cluster, most of them 0
 * @chunks: pieces as refcount blocks have them on disk, by their index
 * @order: log2 of the bits of a number
 * @chunk_bits: log2 of the bytes of a chunk
 * @left: bytes that chunks may still take; others may draw on it as well
 */
struct qcow2_counts {
	struct xarray chunks;
	u32 order;
	u32 chunk_bits;
	u64 *left;
};

/**
 * struct qcow2_check_result - what a check found
 * @leaks: clusters whose refcount is larger than their references
 * @corruptions: clusters whose refcount is smaller
 * @copied: COPIED flags that contradict the references
 * @broken: entries of tables that make no sense; nobody can tell what they
 *	should be, so they stay as they are
 * @errors: tables, or pieces of them, that could not be read
 * @overflows: clusters with more references than a refcount can count
 * @overflow: host offset of the last of these
 * @shared: tables with wrong flags whose clusters are something else as well
 * @share: host offset of the last of these
 */
struct qcow2_check_result {
	u64 leaks;
	u64 corruptions;
	u64 copied;
	u64 broken;
	u64 errors;
	u64 overflows;
	u64 overflow;
	u64 shared;
	u64 share;
};

/**
 * struct qcow2_check - a check under way
 * @s: image, not in use
 * @bitmaps: bitmaps are references; otherwise they are about to be dropped
 * @res: what was found
 * @refs: references to each cluster, as wide as refcounts
 * @tables: of these, those of L1 entries
 * @active: 1 for L2 tables of the active L1 table
 * @table_alone: the refcount table is where nothing else is
 * @blocks: refcount blocks that are where nothing else is, by their index; 0
 *	for those that are not, and are no references either
 * @file_bytes: length of the file
 * @left: bytes of memory that may still be used
 * @buf: a piece of a table
 */
struct qcow2_check {
	struct qcow2_state *s;
	bool bitmaps;
	struct qcow2_check_result res;
	struct qcow2_counts refs;
	struct qcow2_counts tables;
	struct qcow2_counts active;
	bool table_alone;
	u64 *blocks;
	u64 file_bytes;
	u64 left;
	void *buf;
};

#define QCOW2_CHECK_BUF		(32U << 10)

/* counts.c */
void qcow2_counts_init(struct qcow2_counts *c, u32 order, u32 chunk_bits,
		       u64 *left);
void qcow2_counts_exit(struct qcow2_counts *c);
u64 qcow2_counts_get(struct qcow2_counts *c, u64 cluster);
int qcow2_counts_add(struct qcow2_counts *c, u64 cluster, u64 nr);
void qcow2_counts_drop(struct qcow2_counts *c, u64 cluster);
bool qcow2_counts_next(struct qcow2_counts *c, u64 *cluster);
u64 qcow2_counts_end(struct qcow2_counts *c);

/* Of which numbers a chunk is */
static inline const void *qcow2_counts_chunk(struct qcow2_counts *c, u64 index)
{
	return xa_load(&c->chunks, index);
}

/* log2 of the numbers in a chunk */
static inline u32 qcow2_counts_bits(const struct qcow2_counts *c)
{
	return c->chunk_bits + 3 - c->order;
}

/* check.c */
struct qcow2_check *qcow2_check_alloc(struct qcow2_state *s, bool bitmaps);
void qcow2_check_free(struct qcow2_check *c);
int qcow2_check(struct qcow2_check *c);
int qcow2_check_pause(void);
int qcow2_check_read(struct qcow2_check *c, u64 offset, u64 bytes, void *buf);
bool qcow2_check_inside(const struct qcow2_check *c, u64 offset, u64 bytes);
int qcow2_check_ref(struct qcow2_check *c, u64 offset, u64 bytes, u64 nr);

/* check_tables.c */
int qcow2_check_l1(struct qcow2_check *c, u64 offset, u32 size, bool active);
int qcow2_check_l2_tables(struct qcow2_check *c);
int qcow2_check_bitmap_refs(struct qcow2_check *c);

/* check_copied.c */
int qcow2_check_copied(struct qcow2_check *c, bool fix);

/* repair.c */
int qcow2_repair(struct qcow2_check *c);

#endif /* _QBLK_QCOW2_CHECK_H */
