// SPDX-License-Identifier: GPL-2.0
/*
 * What happens when the image contradicts itself, and writes of single header
 * fields.
 *
 * A broken image can count clusters of metadata as free, or call them data.
 * Before a cluster is written that is not a table, or becomes one, it is made
 * sure that it holds no metadata: neither the header, the L1 table, the
 * refcount table or the snapshot table, which are few, nor an L2 table or a
 * refcount block in use.  Of these there are many.  Which they are is what the
 * L1 table and the refcount table say, in memory; a Bloom filter over each
 * spares the search through them for all but one in some hundred clusters that
 * hold none.  Filters take what is added to them and lose nothing, so there is
 * no allocation that could fail, and looking takes no lock; entries of tables
 * that were let go of only make the search through the table a bit less rare.
 */
#include <linux/bitops.h>
#include <linux/hash.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/stdarg.h>
#include <asm/byteorder.h>

#include "qcow2.h"

/**
 * qcow2_header_write - write a field of the header in place
 * @s: image
 * @field: its offset
 * @buf: its bytes, as they go to disk
 * @len: how many
 *
 * The sector around it is read, changed and written, which is atomic on any
 * disk; fields that belong together are neighbours.  No flush.
 */
int qcow2_header_write(struct qcow2_state *s, u32 field, const void *buf,
		       size_t len)
{
	int ret;

	mutex_lock(&s->header_lock);
	ret = qblk_pwrite(s->file, field, len, buf, 0);
	mutex_unlock(&s->header_lock);
	return ret;
}

/* Version 2 has no place for the bit: only this attach remembers. */
static void qcow2_set_corrupt_bit(struct qcow2_state *s)
{
	__be64 features;
	int ret;

	s->hdr.incompatible_features |= QCOW2_INCOMPAT_CORRUPT;
	if (s->hdr.version < 3)
		return;
	features = cpu_to_be64(s->hdr.incompatible_features);
	ret = qcow2_header_write(s, offsetof(struct qcow2_disk_header,
					     incompatible_features),
				 &features, sizeof(features));
	if (ret)
		pr_err_ratelimited("qblk: %s: cannot set the corrupt bit: %d\n",
				   s->node->name, ret);
}

/**
 * qcow2_corrupt - report broken metadata; qcow2_signal_corruption() of QEMU
 * @s: image
 * @fatal: stop writing to the image
 * @offset: host offset concerned, or -1
 * @bytes: length, or -1
 * @fmt: what is wrong
 *
 * A fatal corruption of a writable image sets the corrupt bit, and every later
 * write fails; reads go on, where the metadata lets them.  Only the first
 * report becomes an event.  Context: process, with or without lock.
 *
 * Return: -EIO, for the caller to pass on.
 */
int qcow2_corrupt(struct qcow2_state *s, bool fatal, s64 offset, s64 bytes,
		  const char *fmt, ...)
{
	char msg[128];
	va_list args;

	fatal = fatal && !s->node->read_only;
	if (fatal && !xchg(&s->corrupt, true))
		qcow2_set_corrupt_bit(s);
	else if (s->corrupt_reported)
		return -EIO;
	if (xchg(&s->corrupt_reported, true) && !fatal)
		return -EIO;

	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	qblk_event_corrupted(s->node, fatal, offset, bytes, msg);
	return -EIO;
}

/* Filters */

/* Bits for each entry that a table has room for, two of which are set */
#define QCOW2_FILTER_BITS	32ULL

#define QCOW2_FILTER_MIN_ORDER	15

static int qcow2_filter_init(struct qcow2_filter *f, u32 entries)
{
	u32 order = order_base_2(entries * QCOW2_FILTER_BITS);

	f->order = max_t(u32, order, QCOW2_FILTER_MIN_ORDER);
	f->bits = kvzalloc(BIT_ULL(f->order) / 8, GFP_KERNEL);
	return f->bits ? 0 : -ENOMEM;
}

/* Two numbers of @order bits, from different bits of one hash */
static u64 qcow2_filter_bit(const struct qcow2_filter *f, u64 cluster, int nr)
{
	u64 hash = cluster * GOLDEN_RATIO_64;

	return hash << nr * f->order >> (64 - f->order);
}

/**
 * qcow2_filter_add - a cluster becomes a table of a kind
 * @f: filter of the kind
 * @cluster: host offset >> cluster_bits
 *
 * Before anything refers to it.
 */
void qcow2_filter_add(struct qcow2_filter *f, u64 cluster)
{
	set_bit(qcow2_filter_bit(f, cluster, 0), f->bits);
	set_bit(qcow2_filter_bit(f, cluster, 1), f->bits);
}

/* False: it is no such table.  True: it may be one. */
static bool qcow2_filter_has(const struct qcow2_filter *f, u64 cluster)
{
	return test_bit(qcow2_filter_bit(f, cluster, 0), f->bits) &&
	       test_bit(qcow2_filter_bit(f, cluster, 1), f->bits);
}

static int qcow2_filter_fill(const struct qcow2_state *s,
			     struct qcow2_filter *f, const u64 *table,
			     u32 size, u64 mask)
{
	int ret = qcow2_filter_init(f, size);
	u32 i;

	for (i = 0; !ret && i < size; i++)
		if (table[i] & mask)
			qcow2_filter_add(f, (table[i] & mask) >>
					    s->cluster_bits);
	return ret;
}

/**
 * qcow2_filters_init - take down where L2 tables and refcount blocks are
 * @s: image, its L1 and refcount table read
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_filters_init(struct qcow2_state *s)
{
	return qcow2_filter_fill(s, &s->l2_filter, s->l1, s->hdr.l1_size,
				 QCOW2_L1E_OFFSET_MASK) ?:
	       qcow2_filter_fill(s, &s->ref_filter, s->reftable,
				 s->reftable_size, QCOW2_REFT_OFFSET_MASK);
}

/**
 * qcow2_filters_exit - undo qcow2_filters_init(), as far as it got
 * @s: image
 */
void qcow2_filters_exit(struct qcow2_state *s)
{
	kvfree(s->l2_filter.bits);
	kvfree(s->ref_filter.bits);
}

/* Where metadata is */

/* Tables that exist once; any context */
static bool qcow2_overlaps_tables(const struct qcow2_state *s, u64 offset,
				  u64 bytes)
{
	const struct {
		u64 offset;
		u64 bytes;
	} tables[] = {
		{ 0, s->cluster_size },
		{ s->hdr.l1_table_offset, s->hdr.l1_size * 8ULL },
		{ READ_ONCE(s->reftable_offset),
		  READ_ONCE(s->reftable_size) * 8ULL },
		{ s->hdr.snapshots_offset, s->snapshots_bytes },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		if (tables[i].bytes &&
		    offset < tables[i].offset + tables[i].bytes &&
		    tables[i].offset < offset + bytes)
			return true;
	return false;
}

/**
 * qcow2_may_be_table - can data be written without a closer look?
 * @s: writable image
 * @offset: host offset
 * @bytes: length, not 0
 *
 * For tier 1: takes no lock and costs some ten instructions for each cluster.
 * It may miss a cluster that becomes a table meanwhile, which was free then: in
 * an image that also calls it data, so that nothing is lost that was not before.
 *
 * Return: true if qcow2_check_write() has to decide.
 */
bool qcow2_may_be_table(const struct qcow2_state *s, u64 offset, u64 bytes)
{
	u64 last = (offset + bytes - 1) >> s->cluster_bits;
	u64 cluster;

	if (qcow2_overlaps_tables(s, qcow2_start_of_cluster(s, offset), bytes +
				  qcow2_offset_in_cluster(s, offset)))
		return true;
	for (cluster = offset >> s->cluster_bits; cluster <= last; cluster++)
		if (qcow2_filter_has(&s->l2_filter, cluster) ||
		    qcow2_filter_has(&s->ref_filter, cluster))
			return true;
	return false;
}

/* Does an entry of a table refer to the cluster?  Not 0. */
static bool qcow2_table_has(const u64 *table, u32 size, u64 mask, u32 bits,
			    u64 cluster)
{
	u32 i;

	for (i = 0; i < size; i++)
		if ((table[i] & mask) >> bits == cluster)
			return true;
	return false;
}

static bool qcow2_is_l2(const struct qcow2_state *s, u64 cluster)
{
	return qcow2_filter_has(&s->l2_filter, cluster) &&
	       qcow2_table_has(s->l1, s->hdr.l1_size, QCOW2_L1E_OFFSET_MASK,
			       s->cluster_bits, cluster);
}

static bool qcow2_is_refblock(const struct qcow2_state *s, u64 cluster)
{
	return qcow2_filter_has(&s->ref_filter, cluster) &&
	       qcow2_table_has(s->reftable, s->reftable_size,
			       QCOW2_REFT_OFFSET_MASK, s->cluster_bits,
			       cluster);
}

/**
 * qcow2_is_metadata - is there metadata in a range?
 * @s: writable image
 * @offset: host offset
 * @bytes: length, not 0
 *
 * Context: lock held.
 */
bool qcow2_is_metadata(const struct qcow2_state *s, u64 offset, u64 bytes)
{
	u64 last = (offset + bytes - 1) >> s->cluster_bits;
	u64 cluster = offset >> s->cluster_bits;

	lockdep_assert_held(&s->lock);
	if (!qcow2_may_be_table(s, offset, bytes))
		return false;
	if (qcow2_overlaps_tables(s, cluster << s->cluster_bits,
				  (last - cluster + 1) << s->cluster_bits))
		return true;
	for (; cluster <= last; cluster++)
		if (qcow2_is_l2(s, cluster) || qcow2_is_refblock(s, cluster))
			return true;
	return false;
}

/**
 * qcow2_check_write - a range is going to hold data, or a new table
 * @s: image
 * @offset: host offset
 * @bytes: length, not 0
 *
 * The overlap check of QEMU.  Context: lock held.
 *
 * Return: 0; -EIO when it holds metadata, which is fatal.
 */
int qcow2_check_write(struct qcow2_state *s, u64 offset, u64 bytes)
{
	if (likely(!qcow2_is_metadata(s, offset, bytes)))
		return 0;
	return qcow2_corrupt(s, true, offset, bytes,
			     "preventing invalid write on metadata");
}

/**
 * qcow2_l2_misplaced - is an L2 table where other metadata is?
 * @s: image
 * @offset: its host offset
 *
 * Context: lock held.
 */
bool qcow2_l2_misplaced(const struct qcow2_state *s, u64 offset)
{
	return qcow2_overlaps_tables(s, offset, s->cluster_size) ||
	       qcow2_is_refblock(s, offset >> s->cluster_bits);
}

/**
 * qcow2_block_misplaced - is a refcount block where other metadata is?
 * @s: image
 * @offset: its host offset
 *
 * Context: lock held.
 */
bool qcow2_block_misplaced(const struct qcow2_state *s, u64 offset)
{
	return qcow2_overlaps_tables(s, offset, s->cluster_size) ||
	       qcow2_is_l2(s, offset >> s->cluster_bits);
}
