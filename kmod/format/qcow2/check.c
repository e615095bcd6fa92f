// SPDX-License-Identifier: GPL-2.0
/*
 * Check of an image: everything that refers to a cluster is counted, and the
 * counts are compared with the refcounts.  Nothing is written, nothing is
 * printed.
 *
 * The image may have been made by somebody who means harm.  Memory is bounded
 * by a budget.  Time is bounded by the length of the file: each L2 table, each
 * refcount block is read once, however many entries point to it (of L1 tables
 * of snapshots and of bitmap tables there may be many in the same place; so
 * whoever waits can kill it).  Clusters past the end of the file are no
 * reference, so an offset that is made up costs nothing.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "check.h"

/*
 * Most memory for counts: with refcounts of 16 bits enough for 512M clusters in
 * use, 32 TiB of 64 KiB each.  Never more than a quarter of what there is.
 */
#define QCOW2_CHECK_MEMORY	((u64)SZ_1G)

/**
 * qcow2_check_alloc - prepare a check
 * @s: image, its tables read, not in use
 * @bitmaps: count what bitmaps refer to
 *
 * Return: the check, for qcow2_check_free(), or NULL without memory.
 */
struct qcow2_check *qcow2_check_alloc(struct qcow2_state *s, bool bitmaps)
{
	struct qcow2_check *c = kzalloc(sizeof(*c), GFP_KERNEL);

	if (!c)
		return NULL;
	c->s = s;
	c->bitmaps = bitmaps;
	c->file_bytes = qblk_node_length(s->file->node);
	c->left = min(QCOW2_CHECK_MEMORY,
		      (u64)totalram_pages() << PAGE_SHIFT >> 2);
	qcow2_counts_init(&c->refs, s->refcount_order, s->ref_slice_bits,
			  &c->left);
	qcow2_counts_init(&c->tables, 6, QCOW2_CHUNK_BITS, &c->left);
	qcow2_counts_init(&c->active, 0, QCOW2_CHUNK_BITS, &c->left);
	c->buf = kvmalloc(QCOW2_CHECK_BUF, GFP_KERNEL);
	if (c->buf)
		return c;
	kfree(c);
	return NULL;
}

/**
 * qcow2_check_free - free a check
 * @c: from qcow2_check_alloc()
 */
void qcow2_check_free(struct qcow2_check *c)
{
	qcow2_counts_exit(&c->refs);
	qcow2_counts_exit(&c->tables);
	qcow2_counts_exit(&c->active);
	kvfree(c->blocks);
	kvfree(c->buf);
	kfree(c);
}

/**
 * qcow2_check_pause - between two pieces of work
 *
 * Return: 0, or -EINTR when nobody waits for the result any more.
 */
int qcow2_check_pause(void)
{
	cond_resched();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/**
 * qcow2_check_read - read a piece of a table
 * @c: check
 * @offset: host offset
 * @bytes: length
 * @buf: for it
 *
 * What cannot be read is noted, and is zeroes.
 *
 * Return: 0, -EINTR or -ENOMEM.
 */
int qcow2_check_read(struct qcow2_check *c, u64 offset, u64 bytes, void *buf)
{
	int ret = qcow2_check_pause();

	if (ret)
		return ret;
	ret = qblk_pread(c->s->file, offset, bytes, buf);
	if (!ret || ret == -ENOMEM)
		return ret;
	c->res.errors++;
	memset(buf, 0, bytes);
	return 0;
}

/**
 * qcow2_check_inside - is a range in the file?
 * @c: check
 * @offset: host offset
 * @bytes: length, not 0
 *
 * Its last cluster may end outside: the file does not have to.
 */
bool qcow2_check_inside(const struct qcow2_check *c, u64 offset, u64 bytes)
{
	u64 end;

	return !check_add_overflow(offset, bytes, &end) &&
	       (end <= c->file_bytes ||
		end - c->file_bytes < c->s->cluster_size);
}

/**
 * qcow2_check_ref - count references
 * @c: check
 * @offset: host offset
 * @bytes: length; 0 for no reference at all
 * @nr: references to each cluster that the range touches
 *
 * Of what lies outside of the file nothing is counted.
 *
 * Return: 0, -EINTR, -EFBIG or -ENOMEM.
 */
int qcow2_check_ref(struct qcow2_check *c, u64 offset, u64 bytes, u64 nr)
{
	u64 cluster = offset >> c->s->cluster_bits;
	int ret = 0;
	u64 last;

	if (!bytes)
		return 0;
	if (!qcow2_check_inside(c, offset, bytes)) {
		c->res.broken++;
		return 0;
	}
	last = (offset + bytes - 1) >> c->s->cluster_bits;
	for (; !ret && cluster <= last; cluster++) {
		ret = qcow2_counts_add(&c->refs, cluster, nr);
		if (ret == -EOVERFLOW) {
			c->res.overflows++;
			c->res.overflow = cluster << c->s->cluster_bits;
			ret = 0;
		}
	}
	return ret;
}

/* Is a range in the file, and refers nothing to it? */
static bool qcow2_check_unused(struct qcow2_check *c, u64 offset, u64 bytes)
{
	u64 cluster = offset >> c->s->cluster_bits;

	if (!bytes || qcow2_offset_in_cluster(c->s, offset) ||
	    !qcow2_check_inside(c, offset, bytes))
		return false;
	for (; cluster <= (offset + bytes - 1) >> c->s->cluster_bits; cluster++)
		if (qcow2_counts_get(&c->refs, cluster))
			return false;
	return true;
}

/*
 * The refcount table and its blocks.  They come last: where something else is,
 * or another of them, they are no use, and no reference to what is there.
 */
static int qcow2_check_refcount_tables(struct qcow2_check *c)
{
	struct qcow2_state *s = c->s;
	u64 bytes = s->reftable_size * 8ULL;
	int ret = 0;
	u64 entry;
	u32 i;

	c->blocks = kvcalloc(max(s->reftable_size, 1U), 8, GFP_KERNEL);
	if (!c->blocks)
		return -ENOMEM;
	c->table_alone = qcow2_check_unused(c, s->reftable_offset, bytes);
	if (c->table_alone)
		ret = qcow2_check_ref(c, s->reftable_offset, bytes, 1);
	else
		c->res.corruptions++;
	for (i = 0; !ret && i < s->reftable_size; i++) {
		entry = s->reftable[i];
		if (!entry)
			continue;
		if (entry & ~QCOW2_REFT_OFFSET_MASK ||
		    !qcow2_check_unused(c, entry, s->cluster_size)) {
			c->res.corruptions++;
			continue;
		}
		c->blocks[i] = entry;
		ret = qcow2_check_ref(c, entry, s->cluster_size, 1);
	}
	return ret;
}

static int qcow2_check_snapshots(struct qcow2_check *c)
{
	struct qcow2_state *s = c->s;
	int ret;
	u32 i;

	ret = qcow2_check_ref(c, s->hdr.snapshots_offset, s->snapshots_bytes,
			      1);
	for (i = 0; !ret && i < s->nr_snapshots; i++) {
		const struct qcow2_snapshot_entry *e = &s->snapshots[i].entry;

		if (qcow2_snapshot_l1_check(&s->hdr, e, s->node->name, NULL))
			c->res.broken++;
		else
			ret = qcow2_check_l1(c, e->l1_table_offset, e->l1_size,
					     false);
	}
	return ret;
}

static int qcow2_check_references(struct qcow2_check *c)
{
	struct qcow2_state *s = c->s;
	int ret;

	ret = qcow2_check_ref(c, 0, s->cluster_size, 1);
	if (!ret)
		ret = qcow2_check_l1(c, s->hdr.l1_table_offset, s->hdr.l1_size,
				     true);
	if (!ret)
		ret = qcow2_check_snapshots(c);
	if (!ret)
		ret = qcow2_check_l2_tables(c);
	if (!ret && c->bitmaps && s->exts.nb_bitmaps)
		ret = qcow2_check_bitmap_refs(c);
	if (!ret)
		ret = qcow2_check_refcount_tables(c);
	return ret;
}

static void qcow2_compare_numbers(struct qcow2_check *c, const void *chunk,
				  const void *disk)
{
	u32 nr = 1U << qcow2_counts_bits(&c->refs);
	u64 refs, refcount;
	u32 i;

	for (i = 0; i < nr; i++) {
		refs = chunk ? qcow2_refcount_get(chunk, c->refs.order, i) : 0;
		refcount = disk ? qcow2_refcount_get(disk, c->refs.order, i) :
				  0;
		c->res.leaks += refcount > refs;
		c->res.corruptions += refcount < refs;
	}
}

static int qcow2_compare_block(struct qcow2_check *c, u64 offset, u32 block)
{
	struct qcow2_state *s = c->s;
	u32 bytes = 1U << s->ref_slice_bits;
	u64 nr = s->cluster_size / bytes;
	const void *chunk;
	int ret = 0;
	u64 i;

	for (i = 0; !ret && i < nr; i++) {
		chunk = qcow2_counts_chunk(&c->refs, block * nr + i);
		ret = qcow2_check_read(c, offset + i * bytes, bytes, c->buf);
		if (!ret && (chunk ? !!memcmp(chunk, c->buf, bytes) :
				     !!memchr_inv(c->buf, 0, bytes)))
			qcow2_compare_numbers(c, chunk, c->buf);
	}
	return ret;
}

static bool qcow2_has_block(const struct qcow2_check *c, u64 block)
{
	return block < c->s->reftable_size && c->blocks[block];
}

static int qcow2_compare_refcounts(struct qcow2_check *c)
{
	struct qcow2_state *s = c->s;
	unsigned long index;
	int ret = 0;
	void *chunk;
	u32 i;

	for (i = 0; !ret && i < s->reftable_size; i++)
		if (c->blocks[i])
			ret = qcow2_compare_block(c, c->blocks[i], i);
	xa_for_each(&c->refs.chunks, index, chunk) {
		u64 block = (u64)index >> (s->cluster_bits - s->ref_slice_bits);

		if (!ret && !qcow2_has_block(c, block))
			qcow2_compare_numbers(c, chunk, NULL);
		if (!ret)
			ret = qcow2_check_pause();
	}
	return ret;
}

/**
 * qcow2_check - check an image
 * @c: from qcow2_check_alloc()
 *
 * What is wrong is in &qcow2_check.res.  Context: process, may take long.
 *
 * Return: 0 when all was looked at; -EFBIG when there is more to count than
 * memory is given for; -ENOMEM; -EINTR.
 */
int qcow2_check(struct qcow2_check *c)
{
	int ret = qcow2_check_references(c);

	if (!ret)
		ret = qcow2_compare_refcounts(c);
	if (!ret)
		ret = qcow2_check_copied(c, false);
	return ret;
}
