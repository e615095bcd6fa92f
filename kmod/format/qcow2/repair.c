// SPDX-License-Identifier: GPL-2.0
/*
 * Makes refcounts, and COPIED flags, agree with the references counted.
 *
 * Refcount blocks that are where nothing else is are corrected in place.  For
 * clusters in use without such a block a new one is made, in a free cluster.
 * The refcount table is moved when it is too small, or where something else is.
 *
 * Order: only while the dirty bit is set, so whoever finds the image after a
 * crash in here counts again, and believes neither blocks nor table.  The table
 * on disk may meanwhile point to blocks written in part; but what it is itself,
 * a header pointing to clusters that hold one, is true at any time: a new table
 * is stable before the header is switched to it.  COPIED flags are corrected
 * after that; they are not believed before they were compared either.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "check.h"

/**
 * struct qcow2_rebuild - refcounts being rebuilt
 * @c: check with the references, to which those of new tables are added
 * @table: refcount table, host byte order
 * @size: its entries
 * @offset: its host offset
 * @clusters: it takes
 * @moved: it is not where the header says
 * @hint: no cluster before this one is free
 */
struct qcow2_rebuild {
	struct qcow2_check *c;
	u64 *table;
	u32 size;
	u64 offset;
	u32 clusters;
	bool moved;
	u64 hint;
};

/* How many from @cluster on are free, @nr at most */
static u64 qcow2_count_free(struct qcow2_rebuild *r, u64 cluster, u64 nr)
{
	u64 i;

	for (i = 0; i < nr; i++)
		if (qcow2_counts_get(&r->c->refs, cluster + i))
			break;
	return i;
}

/* The first @nr clusters in a row that nothing refers to become a table. */
static int qcow2_rebuild_alloc(struct qcow2_rebuild *r, u64 nr, u64 *offset)
{
	u64 end = qcow2_end_cluster(r->c->s);
	u64 cluster = r->hint;
	u64 free, i;
	int ret = 0;

	for (; !ret; cluster += free + 1) {
		if (nr > end || cluster > end - nr)
			return -ENOSPC;
		free = qcow2_count_free(r, cluster, nr);
		if (free == nr)
			break;
		if (!(cluster & 1023))
			ret = qcow2_check_pause();
	}
	for (i = 0; !ret && i < nr; i++)
		ret = qcow2_counts_add(&r->c->refs, cluster + i, 1);
	if (cluster == r->hint || nr == 1)
		r->hint = cluster + nr;
	*offset = cluster << r->c->s->cluster_bits;
	return ret;
}

/* Nothing refers to where the table was. */
static void qcow2_rebuild_drop(struct qcow2_rebuild *r)
{
	u64 cluster = r->offset >> r->c->s->cluster_bits;
	u32 i;

	for (i = 0; i < r->clusters; i++)
		qcow2_counts_drop(&r->c->refs, cluster + i);
}

static int qcow2_rebuild_begin(struct qcow2_rebuild *r)
{
	struct qcow2_state *s = r->c->s;

	r->size = s->reftable_size;
	r->offset = s->reftable_offset;
	r->clusters = s->hdr.refcount_table_clusters;
	r->table = kvcalloc(max(r->size, 1U), 8, GFP_KERNEL);
	if (!r->table)
		return -ENOMEM;
	memcpy(r->table, r->c->blocks, r->size * 8ULL);
	return 0;
}

/* Blocks for what is in use, as far as the table reaches */
static int qcow2_add_blocks(struct qcow2_rebuild *r, bool *added)
{
	u32 bits = r->c->s->refblock_bits;
	u64 cluster = 0;
	int ret = 0;
	u64 block;

	*added = false;
	while (!ret && qcow2_counts_next(&r->c->refs, &cluster)) {
		block = cluster >> bits;
		if (block >= r->size)
			break;
		if (!r->table[block]) {
			ret = qcow2_rebuild_alloc(r, 1, &r->table[block]);
			*added = true;
		}
		cluster = (block + 1) << bits;
		if (!ret)
			ret = qcow2_check_pause();
	}
	return ret;
}

/*
 * A table elsewhere, of at least @entries.  It has room to spare, for itself
 * and for the blocks it needs.
 */
static int qcow2_move_table(struct qcow2_rebuild *r, u64 entries)
{
	struct qcow2_state *s = r->c->s;
	const u64 most = QCOW2_MAX_REFTABLE_BYTES / 8;
	u64 clusters, offset, size;
	u64 *table;
	int ret;

	if (entries > most)
		return -EFBIG;
	entries = min(entries + entries / 2 + 1, most);
	clusters = (entries * 8 + s->cluster_size - 1) >> s->cluster_bits;
	size = clusters << (s->cluster_bits - 3);
	table = kvcalloc(size, 8, GFP_KERNEL);
	if (!table)
		return -ENOMEM;
	ret = qcow2_rebuild_alloc(r, clusters, &offset);
	if (ret) {
		kvfree(table);
		return ret;
	}
	if (r->moved || r->c->table_alone)
		qcow2_rebuild_drop(r);
	memcpy(table, r->table, r->size * 8ULL);
	kvfree(r->table);
	r->table = table;
	r->size = size;
	r->offset = offset;
	r->clusters = clusters;
	r->moved = true;
	return 0;
}

/*
 * Until there is a block for all that is in use, new blocks and the table
 * included.  A table that is moved is larger than before, so this ends.
 */
static int qcow2_rebuild_plan(struct qcow2_rebuild *r)
{
	u32 bits = r->c->s->refblock_bits;
	u64 needed;
	bool added;
	int ret;

	if (!r->c->table_alone) {
		ret = qcow2_move_table(r, r->size);
		if (ret)
			return ret;
	}
	for (;;) {
		ret = qcow2_add_blocks(r, &added);
		if (ret)
			return ret;
		if (added)
			continue;
		needed = ((qcow2_counts_end(&r->c->refs) - 1) >> bits) + 1;
		if (needed <= r->size)
			return 0;
		ret = qcow2_move_table(r, needed);
		if (ret)
			return ret;
	}
}

static bool qcow2_block_kept(const struct qcow2_rebuild *r, u32 block)
{
	return block < r->c->s->reftable_size && r->c->blocks[block];
}

static int qcow2_write_slice(struct qcow2_rebuild *r, u32 block, u32 index,
			     bool kept)
{
	struct qcow2_check *c = r->c;
	u32 bits = c->s->ref_slice_bits;
	u32 per_block = 1U << (c->s->cluster_bits - bits);
	u64 offset = r->table[block] + ((u64)index << bits);
	const void *chunk;

	chunk = qcow2_counts_chunk(&c->refs, (u64)block * per_block + index);
	if (!kept)
		return chunk ? qblk_pwrite(c->s->file, offset, 1U << bits,
					   chunk, 0) : 0;
	/* Most are right. */
	if (!qblk_pread(c->s->file, offset, 1U << bits, c->buf) &&
	    (chunk ? !memcmp(chunk, c->buf, 1U << bits) :
		     !memchr_inv(c->buf, 0, 1U << bits)))
		return 0;
	if (!chunk)
		memset(c->buf, 0, 1U << bits);
	return qblk_pwrite(c->s->file, offset, 1U << bits, chunk ?: c->buf, 0);
}

static int qcow2_write_blocks(struct qcow2_rebuild *r)
{
	struct qcow2_state *s = r->c->s;
	u32 slices = 1U << (s->cluster_bits - s->ref_slice_bits);
	int ret = 0;
	bool kept;
	u32 b, i;

	for (b = 0; !ret && b < r->size; b++) {
		if (!r->table[b])
			continue;
		kept = qcow2_block_kept(r, b);
		if (!kept)
			ret = qblk_pwrite_zeroes(s->file, r->table[b],
						 s->cluster_size, 0);
		for (i = 0; !ret && i < slices; i++)
			ret = qcow2_write_slice(r, b, i, kept);
		if (!ret)
			ret = qcow2_check_pause();
	}
	return ret;
}

/* Where it is, only what has changed; elsewhere all of it. */
static int qcow2_write_reftable(struct qcow2_rebuild *r)
{
	struct qcow2_state *s = r->c->s;
	int ret = 0;
	u32 i, nr;

	for (i = 0; !ret && i < r->size; i += 64) {
		nr = min(r->size - i, 64U);
		if (!r->moved && !memcmp(r->table + i, s->reftable + i, nr * 8))
			continue;
		ret = qcow2_write_be64_block(s, r->table, r->size, r->offset, i,
					     r->table[i]);
	}
	return ret;
}

/* The table in memory follows the one on disk. */
static void qcow2_rebuild_apply(struct qcow2_rebuild *r)
{
	struct qcow2_state *s = r->c->s;
	u32 i;

	for (i = 0; i < r->size; i++)
		if (r->table[i])
			qcow2_filter_add(&s->ref_filter,
					 r->table[i] >> s->cluster_bits);
	kvfree(s->reftable);
	s->reftable = r->table;
	WRITE_ONCE(s->reftable_size, r->size);
	WRITE_ONCE(s->reftable_offset, r->offset);
	s->hdr.refcount_table_offset = r->offset;
	s->hdr.refcount_table_clusters = r->clusters;
	r->table = NULL;
}

static int qcow2_rebuild_write(struct qcow2_rebuild *r)
{
	struct qcow2_state *s = r->c->s;
	int ret;

	ret = qcow2_write_blocks(r);
	if (!ret)
		ret = qcow2_write_reftable(r);
	if (!ret)
		ret = qblk_flush(s->file);
	if (!ret && r->moved)
		ret = qcow2_reftable_switch(s, r->offset, r->clusters);
	return ret;
}

/**
 * qcow2_repair - write what a check has counted
 * @c: check that is through, without errors, overflows or shared tables
 *
 * The refcounts of the image are right afterwards, and stable.  After an error
 * they are not, nor is what is in memory: the dirty bit has to stay.
 * Context: process, lock held, image not in use.
 *
 * Return: 0; -ENOSPC without room for new tables; -EFBIG when the refcount
 * table would be too large, or memory is used up; -ENOMEM; -EINTR; an error of
 * the child.
 */
int qcow2_repair(struct qcow2_check *c)
{
	struct qcow2_rebuild r = { .c = c };
	int ret;

	lockdep_assert_held(&c->s->lock);
	ret = qcow2_rebuild_begin(&r);
	if (!ret)
		ret = qcow2_rebuild_plan(&r);
	if (!ret)
		ret = qcow2_rebuild_write(&r);
	if (!ret) {
		qcow2_rebuild_apply(&r);
		c->res.copied = 0;
		ret = qcow2_check_copied(c, true);
	}
	if (!ret)
		ret = qblk_flush(c->s->file);
	kvfree(r.table);
	return ret;
}
