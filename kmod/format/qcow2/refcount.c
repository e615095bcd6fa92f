// SPDX-License-Identifier: GPL-2.0
/*
 * Refcounts: reading, changing, allocating clusters, and growth of the
 * structures that hold them.
 *
 * All under qcow2_state.lock.  A refcount of 0 in memory means that the cluster
 * may be allocated at once: references are taken away only when nothing,
 * neither stable metadata nor I/O in flight, leads to the cluster any more
 * (free.c).  Refcount blocks may therefore be written at any time: cut before
 * the L2 entry that uses a new cluster, it leaks, and cut after a reference
 * was dropped, nothing stable refers to the cluster.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "qcow2.h"

/*
 * Bytes that allocations in flight may be ahead of the end of the file, if two
 * refcount blocks do not reach further: more than requests in flight can cover.
 */
#define QCOW2_MAX_AHEAD		((u64)SZ_1G)

static u64 qcow2_block_index(const struct qcow2_state *s, u64 cluster)
{
	return cluster >> s->refblock_bits;
}

/* Entries in a slice of a refcount block, log2 */
static u32 qcow2_slice_ref_bits(const struct qcow2_state *s)
{
	return s->ref_slice_bits + 3 - s->refcount_order;
}

/* Index of a cluster's entry in its slice */
static u32 qcow2_ref_index(const struct qcow2_state *s, u64 cluster)
{
	return cluster & ((1ULL << qcow2_slice_ref_bits(s)) - 1);
}

/* NULL when there is no refcount block: all its refcounts are 0. */
static struct qcow2_slice *qcow2_ref_slice(struct qcow2_state *s, u64 cluster)
{
	u64 block = qcow2_block_index(s, cluster);
	u64 offset, entry;

	lockdep_assert_held(&s->lock);
	if (block >= s->reftable_size)
		return NULL;
	offset = s->reftable[block] & QCOW2_REFT_OFFSET_MASK;
	if (!offset)
		return NULL;
	if (qcow2_offset_in_cluster(s, offset) ||
	    offset >= QCOW2_MAX_HOST_OFFSET)
		return ERR_PTR(qcow2_corrupt(s, true, -1, -1,
					     "refcount block offset %#llx unaligned (reftable index: %#llx)",
					     offset, block));
	if (qcow2_block_misplaced(s, offset))
		return ERR_PTR(qcow2_corrupt(s, true, offset, s->cluster_size,
					     "refcount block on other metadata (reftable index: %#llx)",
					     block));
	entry = cluster & ((1ULL << s->refblock_bits) - 1);
	offset += (entry >> qcow2_slice_ref_bits(s)) << s->ref_slice_bits;
	return qcow2_cache_get(&s->ref_cache, offset);
}

/**
 * qcow2_refcount_read - how many references a cluster has
 * @s: image
 * @cluster: host offset >> cluster_bits
 * @value: result
 *
 * Context: lock held.  Return: 0 or a negative errno.
 */
int qcow2_refcount_read(struct qcow2_state *s, u64 cluster, u64 *value)
{
	struct qcow2_slice *slice = qcow2_ref_slice(s, cluster);

	*value = 0;
	if (IS_ERR(slice))
		return PTR_ERR(slice);
	if (!slice)
		return 0;
	*value = qcow2_refcount_get(slice->data, s->refcount_order,
				    qcow2_ref_index(s, cluster));
	qcow2_cache_put(slice);
	return 0;
}

static void qcow2_ref_store(struct qcow2_state *s, struct qcow2_slice *slice,
			    u64 cluster, u64 value)
{
	qcow2_refcount_set(slice->data, s->refcount_order,
			   qcow2_ref_index(s, cluster), value);
	qcow2_cache_mark_dirty(&s->ref_cache, slice);
}

/**
 * qcow2_refcount_dec - take one reference away
 * @s: image
 * @cluster: host offset >> cluster_bits
 *
 * Context: lock held.  Return: 0; -EIO when there was none, or the block
 * cannot be read.
 */
int qcow2_refcount_dec(struct qcow2_state *s, u64 cluster)
{
	struct qcow2_slice *slice = qcow2_ref_slice(s, cluster);
	u64 value = 0;
	int ret = 0;

	if (IS_ERR(slice))
		return PTR_ERR(slice);
	if (slice)
		value = qcow2_refcount_get(slice->data, s->refcount_order,
					   qcow2_ref_index(s, cluster));
	if (value)
		qcow2_ref_store(s, slice, cluster, value - 1);
	else
		ret = qcow2_corrupt(s, false, cluster << s->cluster_bits,
				    s->cluster_size,
				    "cluster in use has refcount 0");
	if (slice)
		qcow2_cache_put(slice);
	if (value == 1 && cluster < s->free_cluster_index)
		s->free_cluster_index = cluster;
	return ret;
}

/**
 * qcow2_free_now - give clusters back that never became reachable
 * @s: image
 * @offset: host offset of the first
 * @nr: how many
 *
 * For allocations that failed.  An error leaves them leaked.
 * Context: lock held.
 */
void qcow2_free_now(struct qcow2_state *s, u64 offset, u64 nr)
{
	u64 cluster = offset >> s->cluster_bits;

	for (; nr; nr--, cluster++)
		if (qcow2_refcount_dec(s, cluster))
			return;
}

/**
 * qcow2_write_be64_block - write the block of a table around an entry
 * @s: image
 * @table: L1 or refcount table, host byte order, not changed
 * @size: its entries
 * @table_offset: its host offset
 * @index: entry to write
 * @value: what to write for it
 *
 * Whole blocks of the child's alignment go out, so no read is needed; what lies
 * behind the last entry is not used by the format.  No flush.  Context: lock
 * held.
 */
int qcow2_write_be64_block(struct qcow2_state *s, const u64 *table, u32 size,
			   u64 table_offset, u32 index, u64 value)
{
	u32 align = s->file->node->limits.request_alignment;
	u32 bytes = min(max(512U, align), s->buf_bytes);
	u32 nr = bytes / 8;
	u32 first = round_down(index, nr);
	__be64 *buf = s->buf;
	u32 i;

	memset(buf, 0, bytes);
	for (i = 0; i < nr && first + i < size; i++)
		buf[i] = cpu_to_be64(first + i == index ? value :
							  table[first + i]);
	return qblk_pwrite(s->file, table_offset + first * 8ULL, bytes, buf, 0);
}

/* First free entry of a slice from @cluster on, and how many follow. */
static bool qcow2_scan_slice(const struct qcow2_state *s,
			     const struct qcow2_slice *slice, u64 *cluster,
			     u64 max, u64 *got)
{
	u32 end = 1U << qcow2_slice_ref_bits(s);
	u32 i = qcow2_ref_index(s, *cluster);
	u32 n = 0;

	for (; i < end; i++, (*cluster)++)
		if (!qcow2_refcount_get(slice->data, s->refcount_order, i))
			break;
	while (n < max && i + n < end &&
	       !qcow2_refcount_get(slice->data, s->refcount_order, i + n))
		n++;
	*got = n;
	return n;
}

/**
 * qcow2_end_cluster - host clusters there can be
 * @s: image
 *
 * Return: the format's limit, or the child's size.
 */
u64 qcow2_end_cluster(const struct qcow2_state *s)
{
	u64 end = QCOW2_MAX_HOST_OFFSET >> s->cluster_bits;

	if (!s->file->node->limits.can_grow)
		end = min(end, qblk_node_length(s->file->node) >>
			       s->cluster_bits);
	return end;
}

/*
 * Clusters in use past the end of a file that grows: those of allocations in
 * flight, or that a crash left.  There are never more of them than this.
 */
static u64 qcow2_max_ahead(const struct qcow2_state *s)
{
	return max(2ULL << s->refblock_bits,
		   QCOW2_MAX_AHEAD >> s->cluster_bits);
}

/*
 * May the search for a free cluster go on to this one?  A refcount table made
 * up by somebody can lead it through more clusters than there is time for,
 * while others wait for lock.
 */
static int qcow2_scan_allowed(struct qcow2_state *s, u64 cluster)
{
	u64 used = qblk_node_length(s->file->node) >> s->cluster_bits;

	if (READ_ONCE(s->node->dead))
		return -EIO;
	if (cluster >= qcow2_end_cluster(s))
		return -ENOSPC;
	if (cluster > used && cluster - used > qcow2_max_ahead(s))
		return qcow2_corrupt(s, true, cluster << s->cluster_bits, -1,
				     "clusters far past the end of the file have refcounts");
	cond_resched();
	return 0;
}

/*
 * First free cluster from the hint on, and how many follow, within one slice.
 * 0 in @got: the cluster is free, but has no refcount block yet.
 */
static int qcow2_find_free(struct qcow2_state *s, u64 max, u64 *clusterp,
			   u64 *got)
{
	u64 cluster = s->free_cluster_index;
	bool found = false;
	int ret = 0;

	*got = 0;
	while (!found) {
		struct qcow2_slice *slice;

		ret = qcow2_scan_allowed(s, cluster);
		if (ret)
			break;
		slice = qcow2_ref_slice(s, cluster);
		if (IS_ERR(slice))
			return PTR_ERR(slice);
		if (!slice)
			break;
		found = qcow2_scan_slice(s, slice, &cluster, max, got);
		qcow2_cache_put(slice);
	}
	/* What was found in use stays so until it is freed: not again. */
	s->free_cluster_index = cluster;
	*clusterp = cluster;
	return ret;
}

/* Shorten an allocation to what fits on a child that cannot grow. */
static int qcow2_fit(const struct qcow2_state *s, u64 cluster, u64 *nr)
{
	u64 end = qcow2_end_cluster(s);

	if (cluster >= end)
		return -ENOSPC;
	*nr = min(*nr, end - cluster);
	return 0;
}

static int qcow2_take(struct qcow2_state *s, u64 cluster, u64 nr)
{
	struct qcow2_slice *slice;
	u64 i;
	int ret;

	ret = qcow2_check_write(s, cluster << s->cluster_bits,
				nr << s->cluster_bits);
	if (ret)
		return ret;
	slice = qcow2_ref_slice(s, cluster);
	if (IS_ERR_OR_NULL(slice))
		return slice ? PTR_ERR(slice) : -EIO;
	for (i = 0; i < nr; i++)
		qcow2_ref_store(s, slice, cluster + i, 1);
	qcow2_cache_put(slice);
	return 0;
}

/**
 * qcow2_claim_table - clusters that looked free become a table
 * @s: image
 * @c: cache of such tables
 * @offset: host offset
 * @bytes: length
 *
 * Context: lock held.  Return: 0; -EIO when they hold a table in use.
 */
int qcow2_claim_table(struct qcow2_state *s, struct qcow2_cache *c, u64 offset,
		      u64 bytes)
{
	lockdep_assert_held(&s->lock);
	if (!qcow2_cache_claim(c, offset, bytes))
		return 0;
	return qcow2_corrupt(s, true, offset, bytes,
			     "cluster of a table in use has refcount 0");
}

/* Contents of a new refcount block, with its own reference */
static int qcow2_refblock_init(struct qcow2_state *s, u64 cluster)
{
	u64 offset = cluster << s->cluster_bits;
	struct qcow2_slice *slice;
	u32 entry, index;
	int ret;

	ret = qblk_pwrite_zeroes(s->file, offset, s->cluster_size, 0);
	if (ret)
		return ret;
	entry = cluster & ((1ULL << s->refblock_bits) - 1);
	index = entry >> qcow2_slice_ref_bits(s);
	slice = qcow2_cache_get(&s->ref_cache,
				offset + ((u64)index << s->ref_slice_bits));
	if (IS_ERR(slice))
		return PTR_ERR(slice);
	qcow2_ref_store(s, slice, cluster, 1);
	qcow2_cache_put(slice);
	return 0;
}

/*
 * Make the refcount block for @cluster, which is the first free cluster and
 * has none: so the block itself goes there, and its first reference is its
 * own.
 *
 * Order: the block and its refcount are stable before the refcount table points
 * to it.  The entry is written before any L2 entry that relies on the block:
 * write-back flushes in between.
 */
static int qcow2_refblock_create(struct qcow2_state *s, u64 cluster)
{
	u64 block = qcow2_block_index(s, cluster);
	u64 offset = cluster << s->cluster_bits;
	u64 nr = 1;
	int ret;

	ret = qcow2_fit(s, cluster, &nr);
	if (ret)
		return ret;
	ret = qcow2_check_write(s, offset, s->cluster_size);
	if (ret)
		return ret;
	ret = qcow2_claim_table(s, &s->ref_cache, offset, s->cluster_size);
	if (ret)
		return ret;
	ret = qcow2_refblock_init(s, cluster);
	if (!ret)
		ret = qcow2_cache_write_dirty(&s->ref_cache);
	if (!ret)
		ret = qblk_flush(s->file);
	qcow2_filter_add(&s->ref_filter, cluster);
	if (!ret)
		ret = qcow2_write_be64_block(s, s->reftable, s->reftable_size,
					     s->reftable_offset, block, offset);
	if (ret) {
		/*
		 * Not reachable for us, so the slices must not stay; should
		 * the table entry have made it to the disk, the block there
		 * describes itself and nothing else.
		 */
		qcow2_cache_drop(&s->ref_cache, offset, s->cluster_size);
		return ret;
	}
	s->reftable[block] = offset;
	return 0;
}

/**
 * struct qcow2_growth - a larger refcount table
 * @table: its entries, host byte order
 * @size: how many
 * @clusters: it takes on disk
 * @start: first cluster of the area: blocks first, then the table
 * @blocks: new refcount blocks that describe the area
 */
struct qcow2_growth {
	u64 *table;
	u32 size;
	u32 clusters;
	u64 start;
	u32 blocks;
};

/* Clusters of the area: its blocks describe themselves and the table. */
static void qcow2_growth_size(const struct qcow2_state *s,
			      struct qcow2_growth *g)
{
	u64 per_block = 1ULL << s->refblock_bits;
	u64 entries;

	g->start = (u64)s->reftable_size << s->refblock_bits;
	g->blocks = 1;
	g->clusters = 1;
	do {
		g->blocks = (g->blocks + g->clusters + per_block - 1) >>
			    s->refblock_bits;
		entries = (u64)s->reftable_size + s->reftable_size / 2 +
			  g->blocks;
		g->clusters = (entries * 8 + s->cluster_size - 1) >>
			      s->cluster_bits;
	} while ((u64)g->blocks * per_block < g->blocks + g->clusters);
	g->size = g->clusters << (s->cluster_bits - 3);
}

static int qcow2_growth_write_blocks(struct qcow2_state *s,
				     const struct qcow2_growth *g)
{
	u64 used = (u64)g->blocks + g->clusters;
	void *buf = kvzalloc(s->cluster_size, GFP_NOIO);
	u64 done = 0;
	u32 b, i;
	int ret = 0;

	if (!buf)
		return -ENOMEM;
	for (b = 0; !ret && b < g->blocks; b++) {
		memset(buf, 0, s->cluster_size);
		for (i = 0; i < (1U << s->refblock_bits) && done < used; i++)
			qcow2_refcount_set(buf, s->refcount_order, i,
					   !!++done);
		ret = qblk_pwrite(s->file,
				  (g->start + b) << s->cluster_bits,
				  s->cluster_size, buf, 0);
	}
	kvfree(buf);
	return ret;
}

static int qcow2_growth_write_table(struct qcow2_state *s,
				    struct qcow2_growth *g)
{
	u64 offset = (g->start + g->blocks) << s->cluster_bits;
	__be64 *buf = kvmalloc_array(g->size, 8, GFP_NOIO);
	int ret;
	u32 i;

	if (!buf)
		return -ENOMEM;
	memcpy(g->table, s->reftable, s->reftable_size * 8ULL);
	for (i = 0; i < g->blocks; i++)
		g->table[s->reftable_size + i] =
			(g->start + i) << s->cluster_bits;
	for (i = 0; i < g->size; i++)
		buf[i] = cpu_to_be64(g->table[i]);
	ret = qblk_pwrite(s->file, offset, g->size * 8ULL, buf, 0);
	kvfree(buf);
	return ret;
}

/**
 * qcow2_reftable_switch - have the header point to another refcount table
 * @s: image
 * @offset: host offset of the table, which is stable
 * @clusters: it takes
 *
 * Both fields with one write: they are neighbours in the first sector.
 *
 * Return: 0, and it is stable; or an error of the child, and the header may
 * point to either.
 */
int qcow2_reftable_switch(struct qcow2_state *s, u64 offset, u32 clusters)
{
	struct {
		__be64 offset;
		__be32 clusters;
	} __packed field = {
		.offset = cpu_to_be64(offset),
		.clusters = cpu_to_be32(clusters),
	};
	int ret;

	ret = qcow2_header_write(s, offsetof(struct qcow2_disk_header,
					     refcount_table_offset),
				 &field, sizeof(field));
	if (!ret)
		ret = qblk_flush(s->file);
	return ret;
}

static void qcow2_growth_apply(struct qcow2_state *s,
			       const struct qcow2_growth *g)
{
	u64 offset = (g->start + g->blocks) << s->cluster_bits;
	u32 i;

	for (i = 0; i < g->blocks; i++)
		qcow2_filter_add(&s->ref_filter, g->start + i);
	kvfree(s->reftable);
	s->reftable = g->table;
	WRITE_ONCE(s->reftable_size, g->size);
	WRITE_ONCE(s->reftable_offset, offset);
	s->hdr.refcount_table_offset = offset;
	s->hdr.refcount_table_clusters = g->clusters;
}

/*
 * Grow the refcount table, which covers no free cluster any more.
 *
 * The area for the new table starts where the old one's reach ends, with
 * refcount blocks that describe the area.  Order: all of the area is stable
 * before the header points to it, the header is stable before anything relies
 * on it; the old table is let go of after that.  Cut before the header: nobody
 * knows of the area, which lies in clusters without refcounts.
 */
static int qcow2_reftable_grow(struct qcow2_state *s)
{
	u64 old_clusters = s->hdr.refcount_table_clusters;
	u64 old_offset = s->reftable_offset;
	struct qcow2_growth g;
	u64 fit;
	int ret;

	qcow2_growth_size(s, &g);
	if (g.size * 8ULL > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	fit = (u64)g.blocks + g.clusters;
	ret = qcow2_fit(s, g.start, &fit);
	if (ret)
		return ret;
	if (fit < (u64)g.blocks + g.clusters)
		return -ENOSPC;
	ret = qcow2_check_write(s, g.start << s->cluster_bits,
				fit << s->cluster_bits);
	if (!ret)
		ret = qcow2_claim_table(s, &s->ref_cache,
					g.start << s->cluster_bits,
					(u64)g.blocks << s->cluster_bits);
	if (ret)
		return ret;
	g.table = kvcalloc(g.size, 8, GFP_NOIO);
	if (!g.table)
		return -ENOMEM;

	ret = qcow2_growth_write_blocks(s, &g);
	if (!ret)
		ret = qcow2_growth_write_table(s, &g);
	if (!ret)
		ret = qblk_flush(s->file);
	if (!ret &&
	    qcow2_reftable_switch(s, (g.start + g.blocks) << s->cluster_bits,
				  g.clusters))
		/*
		 * The header may point to either table now, so neither can be
		 * changed any more without the other.
		 */
		ret = qcow2_corrupt(s, true, 0, -1,
				    "cannot switch to a larger refcount table");
	if (ret) {
		kvfree(g.table);
		return ret;
	}
	qcow2_growth_apply(s, &g);
	qcow2_free_deferred(s, old_offset, old_clusters);
	return 0;
}

/**
 * qcow2_alloc_clusters - allocate adjacent clusters
 * @s: image
 * @nr: at most this many
 * @offset: host offset of the first
 * @got: how many, at least 1
 *
 * Each has refcount 1 in memory.  Blocks and tables for the refcounts are made
 * as needed, after which the search starts again, since they may have taken
 * what was found.  Context: process, lock held.
 *
 * Return: 0; -ENOSPC when the child cannot grow and has no room; -EFBIG at the
 * format's limits; an error of the child.
 */
int qcow2_alloc_clusters(struct qcow2_state *s, u64 nr, u64 *offset, u64 *got)
{
	u64 cluster;
	int ret;

	lockdep_assert_held(&s->lock);
	for (;;) {
		ret = qcow2_find_free(s, nr, &cluster, got);
		if (ret)
			return ret;
		if (*got)
			break;
		if (qcow2_block_index(s, cluster) >= s->reftable_size)
			ret = qcow2_reftable_grow(s);
		else
			ret = qcow2_refblock_create(s, cluster);
		if (ret)
			return ret;
	}
	ret = qcow2_fit(s, cluster, got);
	if (!ret)
		ret = qcow2_take(s, cluster, *got);
	if (ret)
		return ret;
	*offset = cluster << s->cluster_bits;
	s->free_cluster_index = cluster + *got;
	return 0;
}
