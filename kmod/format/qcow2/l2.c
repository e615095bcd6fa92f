// SPDX-License-Identifier: GPL-2.0
/*
 * From guest offsets to host offsets: L1 and L2 tables.
 *
 * Why a lookup needs no lock.  L1 and L2 entries are 8 bytes, read and written
 * with single accesses; the two halves of an extended L2 entry are kept
 * together by the sequence counter of their slice.  So a lookup sees an entry
 * as it was at some time since the lookup began.  What that entry pointed to
 * then stays in place until the I/O ends: the caller entered
 * qblk_node_io_begin() before the lookup, and a cluster (data, or an L2 table
 * itself) is handed out again only after qblk_node_io_sync() that began after
 * the entry was changed, see free.c.  The memory of a slice stays until the end
 * of the RCU section.
 */
#include <linux/kernel.h>
#include <linux/preempt.h>

#include "qcow2.h"

static u64 qcow2_l1_index(const struct qcow2_state *s, u64 offset)
{
	return offset >> (s->cluster_bits + s->l2_bits);
}

/* Index of the entry for @offset in its slice */
static unsigned int qcow2_slice_index(const struct qcow2_state *s, u64 offset)
{
	return (offset >> s->cluster_bits) &
	       ((1U << qcow2_slice_l2_bits(s)) - 1);
}

/* Host offset of the slice with the entry for @offset */
static u64 qcow2_slice_offset(const struct qcow2_state *s, u64 l2_offset,
			      u64 offset)
{
	u64 entry = (offset >> s->cluster_bits) & ((1U << s->l2_bits) - 1);

	return l2_offset + round_down(entry << s->l2e_bits,
				      1U << s->l2_slice_bits);
}

/* Both halves as they were at one time: see qcow2_l2_store_extended(). */
static struct qcow2_l2e qcow2_l2_load_extended(const struct qcow2_slice *slice,
					       unsigned int index)
{
	const __be64 *l2 = qcow2_slice_at(slice, index * 16);
	unsigned int seq;
	u64 entry, bitmap;

	do {
		seq = read_seqcount_begin(&slice->seq);
		entry = be64_to_cpu(READ_ONCE(l2[0]));
		bitmap = be64_to_cpu(READ_ONCE(l2[1]));
	} while (read_seqcount_retry(&slice->seq, seq));
	return qcow2_l2e_decode(QCOW2_INCOMPAT_EXTL2, entry, bitmap);
}

/**
 * qcow2_l2_entry - read an L2 entry
 * @s: image
 * @slice: of the table
 * @index: in @slice
 *
 * Context: any.
 */
struct qcow2_l2e qcow2_l2_entry(const struct qcow2_state *s,
				const struct qcow2_slice *slice,
				unsigned int index)
{
	const __be64 *l2;

	if (qcow2_has_subclusters(s))
		return qcow2_l2_load_extended(slice, index);
	l2 = qcow2_slice_at(slice, index * 8);
	return qcow2_l2e_decode(s->hdr.incompatible_features,
				be64_to_cpu(READ_ONCE(*l2)), 0);
}

/*
 * A lookup must not see the bitmaps of one time with the offset of another: it
 * would take what a cluster held in its earlier life for a subcluster.
 */
static void qcow2_l2_store_extended(struct qcow2_slice *slice,
				    unsigned int index, u64 entry, u64 bitmap)
{
	__be64 *l2 = qcow2_slice_at(slice, index * 16);

	preempt_disable();	/* who reads meanwhile spins */
	write_seqcount_begin(&slice->seq);
	WRITE_ONCE(l2[0], cpu_to_be64(entry));
	WRITE_ONCE(l2[1], cpu_to_be64(bitmap));
	write_seqcount_end(&slice->seq);
	preempt_enable();
}

/**
 * qcow2_l2_set - change an L2 entry in memory
 * @s: image
 * @slice: of the table, with a reference
 * @index: in @slice
 * @e: new value
 *
 * Context: lock held.
 */
void qcow2_l2_set(struct qcow2_state *s, struct qcow2_slice *slice,
		  unsigned int index, const struct qcow2_l2e *e)
{
	u64 entry, bitmap;
	__be64 *l2;

	lockdep_assert_held(&s->lock);
	entry = qcow2_l2e_encode(s->hdr.incompatible_features, e, &bitmap);
	if (qcow2_has_subclusters(s)) {
		qcow2_l2_store_extended(slice, index, entry, bitmap);
	} else {
		l2 = qcow2_slice_at(slice, index * 8);
		WRITE_ONCE(*l2, cpu_to_be64(entry));
	}
	qcow2_cache_mark_dirty(&s->l2_cache, slice);
}

static enum qcow2_l2e_error qcow2_l2_entry_error(const struct qcow2_state *s,
						 u64 guest,
						 const struct qcow2_l2e *e)
{
	return qcow2_l2e_error(s->hdr.version, s->hdr.incompatible_features,
			       s->cluster_bits,
			       qcow2_start_of_cluster(s, guest), e);
}

static const char *const qcow2_l2e_errors[] = {
	[QCOW2_L2E_ZERO_V2] = "zero cluster entry found in pre-v3 image",
	[QCOW2_L2E_UNALIGNED] = "data cluster offset unaligned",
	[QCOW2_L2E_BITMAP] = "invalid subcluster bitmap",
	[QCOW2_L2E_COMPRESSED_DATA_FILE] =
		"compressed cluster entry found in image with external data file",
	[QCOW2_L2E_NOT_GUEST] =
		"external data file host cluster offset does not match guest offset",
};

/**
 * qcow2_l2_check - does an L2 entry make sense?
 * @s: image
 * @guest: offset it is for
 * @e: entry
 *
 * Context: process.
 *
 * Return: 0, or -EIO after the corruption was reported.
 */
int qcow2_l2_check(struct qcow2_state *s, u64 guest, const struct qcow2_l2e *e)
{
	enum qcow2_l2e_error error = qcow2_l2_entry_error(s, guest, e);

	if (error == QCOW2_L2E_GOOD)
		return 0;
	return qcow2_corrupt(s, true, -1, -1,
			     "%s (guest offset %#llx, entry %#llx, bitmap %#x %#x)",
			     qcow2_l2e_errors[error], guest, e->entry,
			     e->zero, e->alloc);
}

static int qcow2_l1_check(struct qcow2_state *s, u64 index, u64 l2_offset)
{
	if (!qcow2_offset_in_cluster(s, l2_offset))
		return 0;
	return qcow2_corrupt(s, true, -1, -1,
			     "L2 table offset %#llx unaligned (L1 index: %#llx)",
			     l2_offset, index);
}

/* No L2 table: nothing is allocated in all of its range. */
static void qcow2_map_hole(const struct qcow2_state *s, u64 offset, u64 bytes,
			   struct qblk_extent *ext)
{
	u64 span = 1ULL << (s->cluster_bits + s->l2_bits);

	ext->type = QBLK_MAP_UNALLOCATED;
	ext->bytes = min(bytes, span - (offset & (span - 1)));
}

static const enum qblk_map_type qcow2_map_types[] = {
	[QCOW2_SC_UNALLOCATED] = QBLK_MAP_UNALLOCATED,
	[QCOW2_SC_ZERO] = QBLK_MAP_ZERO,
	[QCOW2_SC_NORMAL] = QBLK_MAP_DATA,
	[QCOW2_SC_COMPRESSED] = QBLK_MAP_ENCODED,
};

/* Does @next, @distance bytes on, go on with what the run began with? */
static bool qcow2_run_continues(const struct qcow2_l2e *first,
				const struct qcow2_l2e *next, u64 distance,
				enum qcow2_sc_kind kind, bool in_place)
{
	if (qcow2_sc_kind(next, 0) != kind)
		return false;
	if (kind != QCOW2_SC_NORMAL)
		return true;
	if (in_place && !(next->entry & QCOW2_OFLAG_COPIED))
		return false;
	return (next->entry & QCOW2_L2E_OFFSET_MASK) ==
	       (first->entry & QCOW2_L2E_OFFSET_MASK) + distance;
}

/**
 * qcow2_l2_run - how far a mapping answer reaches
 * @s: image
 * @slice: of the L2 table
 * @index: of the entry for @offset
 * @first: that entry, valid; another CPU may change those in @slice meanwhile
 * @offset: guest offset
 * @bytes: at most this many
 * @in_place: only clusters that may be overwritten
 *
 * Return: bytes from @offset on that are of the same kind and, with data,
 * adjacent in the file; at least 1.
 */
u64 qcow2_l2_run(const struct qcow2_state *s, const struct qcow2_slice *slice,
		 unsigned int index, const struct qcow2_l2e *first, u64 offset,
		 u64 bytes, bool in_place)
{
	u32 bits = s->virt_bits;
	unsigned int left = (1U << qcow2_slice_l2_bits(s)) - index;
	u64 start = qcow2_start_of_cluster(s, offset);
	u32 sc = qcow2_sc_index(s, offset);
	enum qcow2_sc_kind kind = qcow2_sc_kind(first, sc);
	unsigned int nr = 0;
	u32 end = sc + qcow2_sc_run(first, sc);
	u64 found;

	for (;;) {
		struct qcow2_l2e next;

		found = start + ((u64)nr << s->cluster_bits) +
			((u64)end << bits) - offset;
		if (end < QCOW2_SUBCLUSTERS || found >= bytes || ++nr == left)
			break;
		next = qcow2_l2_entry(s, slice, index + nr);
		if (qcow2_l2_entry_error(s, start + ((u64)nr << s->cluster_bits),
					 &next) != QCOW2_L2E_GOOD ||
		    !qcow2_run_continues(first, &next,
					 (u64)nr << s->cluster_bits, kind,
					 in_place))
			break;
		end = qcow2_sc_run(&next, 0);
	}
	return min(found, bytes);
}

/* What a write may go over in place: data of this image alone */
static bool qcow2_may_overwrite(const struct qcow2_l2e *e,
				enum qcow2_sc_kind kind)
{
	return kind == QCOW2_SC_NORMAL && e->entry & QCOW2_OFLAG_COPIED;
}

static int qcow2_map_slice(struct qcow2_state *s, struct qcow2_slice *slice,
			   u64 offset, u64 bytes, unsigned int flags,
			   struct qblk_extent *ext)
{
	unsigned int index = qcow2_slice_index(s, offset);
	struct qcow2_l2e e = qcow2_l2_entry(s, slice, index);
	enum qcow2_sc_kind kind = qcow2_sc_kind(&e, qcow2_sc_index(s, offset));
	bool write = flags & QBLK_MAP_WRITE;

	if (qcow2_l2_entry_error(s, offset, &e) != QCOW2_L2E_GOOD) {
		if (!(flags & QBLK_MAP_MAY_SLEEP))
			return -EAGAIN;
		return qcow2_l2_check(s, offset, &e);
	}
	if (write && !qcow2_may_overwrite(&e, kind))
		return -EAGAIN;

	ext->type = qcow2_map_types[kind];
	ext->bytes = qcow2_l2_run(s, slice, index, &e, offset, bytes, write);
	if (kind == QCOW2_SC_NORMAL) {
		ext->child = s->data;
		ext->offset = (e.entry & QCOW2_L2E_OFFSET_MASK) +
			      qcow2_offset_in_cluster(s, offset);
	}
	/* The worker finds out, and reports it. */
	if (write && !qcow2_has_data_file(s) &&
	    qcow2_may_be_table(s, ext->offset, ext->bytes))
		return -EAGAIN;
	return 0;
}

/*
 * For who does not hold lock.  Without memory a clean slice makes room for
 * another; if those in memory are all dirty, they become clean.  Unlike
 * qcow2_free_retry() this does not wait for clusters to become free: who reads
 * may hold back just that, by I/O in flight.
 */
static struct qcow2_slice *qcow2_l2_get_to_read(struct qcow2_state *s,
						u64 offset)
{
	struct qcow2_slice *slice;
	unsigned int tries = 0;

	lockdep_assert_not_held(&s->lock);
	do {
		slice = qcow2_cache_get(&s->l2_cache, offset);
	} while (slice == ERR_PTR(-ENOMEM) && tries++ < QCOW2_NOMEM_TRIES &&
		 !s->node->read_only && !qcow2_writeback(s));
	return slice;
}

static int qcow2_map_sleeping(struct qcow2_state *s, u64 l2_offset, u64 offset,
			      u64 bytes, unsigned int flags,
			      struct qblk_extent *ext)
{
	struct qcow2_slice *slice;
	int ret;

	ret = qcow2_l1_check(s, qcow2_l1_index(s, offset), l2_offset);
	if (ret)
		return ret;
	slice = qcow2_l2_get_to_read(s, qcow2_slice_offset(s, l2_offset,
							   offset));
	if (IS_ERR(slice))
		return PTR_ERR(slice);
	ret = qcow2_map_slice(s, slice, offset, bytes, flags, ext);
	qcow2_cache_put(slice);
	return ret;
}

/* ->map(), see driver.h */
int qcow2_map(struct qblk_node *node, u64 offset, u64 bytes,
	      unsigned int flags, struct qblk_extent *ext)
{
	struct qcow2_state *s = node->priv;
	u64 index = qcow2_l1_index(s, offset);
	struct qcow2_slice *slice;
	int ret = -EAGAIN;
	u64 l2_offset;

	if (index >= s->hdr.l1_size ||
	    (flags & QBLK_MAP_WRITE && READ_ONCE(s->corrupt)))
		return -EIO;
	l2_offset = READ_ONCE(s->l1[index]) & QCOW2_L1E_OFFSET_MASK;
	if (!l2_offset) {
		if (flags & QBLK_MAP_WRITE)
			return -EAGAIN;
		qcow2_map_hole(s, offset, bytes, ext);
		return 0;
	}
	if (flags & QBLK_MAP_MAY_SLEEP)
		return qcow2_map_sleeping(s, l2_offset, offset, bytes, flags,
					  ext);
	if (qcow2_offset_in_cluster(s, l2_offset))
		return -EAGAIN;	/* the worker reports it */

	rcu_read_lock();
	slice = qcow2_cache_peek(&s->l2_cache,
				 qcow2_slice_offset(s, l2_offset, offset));
	if (slice)
		ret = qcow2_map_slice(s, slice, offset, bytes, flags, ext);
	rcu_read_unlock();
	return ret;
}

/**
 * qcow2_l2_lookup - the L2 entry for a guest offset
 * @s: image
 * @offset: guest offset
 * @e: result, checked; unallocated without an L2 table
 *
 * Context: process, lock not held.  Return: 0 or a negative errno.
 */
int qcow2_l2_lookup(struct qcow2_state *s, u64 offset, struct qcow2_l2e *e)
{
	u64 index = qcow2_l1_index(s, offset);
	struct qcow2_slice *slice;
	u64 l2_offset;
	int ret;

	*e = (struct qcow2_l2e){};
	if (index >= s->hdr.l1_size)
		return -EIO;
	l2_offset = READ_ONCE(s->l1[index]) & QCOW2_L1E_OFFSET_MASK;
	if (!l2_offset)
		return 0;
	ret = qcow2_l1_check(s, index, l2_offset);
	if (ret)
		return ret;
	slice = qcow2_l2_get_to_read(s, qcow2_slice_offset(s, l2_offset,
							   offset));
	if (IS_ERR(slice))
		return PTR_ERR(slice);
	*e = qcow2_l2_entry(s, slice, qcow2_slice_index(s, offset));
	qcow2_cache_put(slice);
	return qcow2_l2_check(s, offset, e);
}

/* A private copy of a table that a snapshot shares */
static int qcow2_l2_copy(struct qcow2_state *s, u64 from, u64 to)
{
	u32 step = s->buf_bytes;
	int ret = 0;
	u32 pos;

	/*
	 * The shared table has no dirty slices: it is never changed.  The
	 * buffer, of a power of two like the cluster, divides it.
	 */
	for (pos = 0; !ret && pos < s->cluster_size; pos += step) {
		ret = qblk_pread(s->file, from + pos, step, s->buf);
		if (!ret)
			ret = qblk_pwrite(s->file, to + pos, step, s->buf, 0);
	}
	return ret;
}

/*
 * Give an L1 entry an L2 table of its own: empty, or a copy of the shared one.
 *
 * Order: the table's contents and its refcount (or the dirty bit, see dirty.c)
 * are stable before the L1 entry that makes them reachable is written.  Cut
 * before that, a cluster leaks; cut after it, the table is complete.  The L1
 * entry itself becomes stable with the next flush: until then entries of the new
 * table are not reachable, and their data was not promised to anybody.  The old
 * table loses its reference only after that flush (qcow2_free_deferred()).
 */
static int qcow2_l2_create(struct qcow2_state *s, u64 index, u64 old)
{
	u64 offset, got, entry;
	int ret;

	ret = qcow2_alloc_clusters(s, 1, &offset, &got);
	if (ret)
		return ret;
	ret = qcow2_claim_table(s, &s->l2_cache, offset, s->cluster_size);
	if (ret)
		return ret;	/* in use: it keeps the reference */
	if (old)
		ret = qcow2_l2_copy(s, old, offset);
	else
		ret = qblk_pwrite_zeroes(s->file, offset, s->cluster_size, 0);
	if (!ret)
		ret = qcow2_settle_refcounts(s);
	if (!ret)
		ret = qblk_flush(s->file);
	if (ret) {
		qcow2_free_now(s, offset, 1);
		return ret;
	}
	entry = offset | QCOW2_OFLAG_COPIED;
	qcow2_filter_add(&s->l2_filter, offset >> s->cluster_bits);
	ret = qcow2_write_be64_block(s, s->l1, s->hdr.l1_size,
				     s->hdr.l1_table_offset, index, entry);
	if (ret)
		/*
		 * It may have reached the disk all the same: the cluster has
		 * to stay allocated, which is a leak.
		 */
		return ret;
	WRITE_ONCE(s->l1[index], entry);
	if (old)
		qcow2_free_deferred(s, old, 1);
	return 0;
}

/**
 * qcow2_l2_get_writable - the L2 entry for an offset, in order to change it
 * @s: image
 * @offset: guest offset
 * @slicep: slice with the entry, with a reference
 * @index: of the entry in the slice
 *
 * Allocates the table if there is none, copies it if it is shared.
 * Context: process, lock held.  Return: 0 or a negative errno.
 */
int qcow2_l2_get_writable(struct qcow2_state *s, u64 offset,
			  struct qcow2_slice **slicep, unsigned int *index)
{
	u64 l1_index = qcow2_l1_index(s, offset);
	struct qcow2_slice *slice;
	u64 entry, l2_offset;
	int ret;

	lockdep_assert_held(&s->lock);
	if (l1_index >= s->hdr.l1_size)
		return -EIO;
	entry = s->l1[l1_index];
	l2_offset = entry & QCOW2_L1E_OFFSET_MASK;
	ret = qcow2_l1_check(s, l1_index, l2_offset);
	if (ret)
		return ret;
	if (!l2_offset || !(entry & QCOW2_OFLAG_COPIED)) {
		ret = qcow2_l2_create(s, l1_index, l2_offset);
		if (ret)
			return ret;
		l2_offset = s->l1[l1_index] & QCOW2_L1E_OFFSET_MASK;
	}
	if (qcow2_l2_misplaced(s, l2_offset))
		return qcow2_corrupt(s, true, l2_offset, s->cluster_size,
				     "L2 table on other metadata (L1 index: %#llx)",
				     l1_index);
	slice = qcow2_cache_get(&s->l2_cache,
				qcow2_slice_offset(s, l2_offset, offset));
	if (IS_ERR(slice))
		return PTR_ERR(slice);
	*slicep = slice;
	*index = qcow2_slice_index(s, offset);
	return 0;
}
