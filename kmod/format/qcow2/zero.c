// SPDX-License-Identifier: GPL-2.0
/*
 * Discard and write-zeroes, decided as QEMU decides them.
 */
#include <linux/bvec.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/uio.h>

#include "qcow2.h"

/* Clusters changed before lock is given to others */
#define QCOW2_ZERO_BATCH	512ULL

enum qcow2_zero_mode {
	QCOW2_MODE_DISCARD,
	QCOW2_MODE_ZERO,
	QCOW2_MODE_ZERO_UNMAP,
};

/**
 * qcow2_range_is_zero - does a range read as zeroes, all layers considered?
 * @s: image
 * @offset: guest offset
 * @bytes: length; what lies past the end reads as zeroes
 * @zero: result
 *
 * Answers from metadata alone.  Context: process, lock not held.
 *
 * Return: 0 or a negative errno.
 */
int qcow2_range_is_zero(struct qcow2_state *s, u64 offset, u64 bytes,
			bool *zero)
{
	u64 size = s->node->length;

	*zero = true;
	bytes = offset < size ? min(bytes, size - offset) : 0;
	while (bytes && *zero) {
		struct qblk_mapping m;
		int ret;

		ret = qblk_map(s->node, offset, bytes, QBLK_MAP_MAY_SLEEP, &m);
		if (ret)
			return ret;
		qblk_tracks_release(&m.tracks);
		*zero = m.type == QBLK_MAP_ZERO;
		offset += m.bytes;
		bytes -= m.bytes;
	}
	return 0;
}

static u64 qcow2_discarded_entry(const struct qcow2_state *s, u64 entry)
{
	/*
	 * What was discarded reads as zeroes, so that old data neither of the
	 * backing file nor of a freed cluster shows through.  Version 2 has no
	 * zero clusters; with a backing file it does not get here.
	 */
	if (s->hdr.version < 3)
		return 0;
	if (!s->node->backing && qcow2_cluster_type(entry) == QCOW2_UNALLOCATED)
		return entry;
	return QCOW2_OFLAG_ZERO;
}

static u64 qcow2_zeroed_entry(const struct qcow2_state *s, u64 entry,
			      enum qcow2_zero_mode mode)
{
	switch (qcow2_cluster_type(entry)) {
	case QCOW2_UNALLOCATED:
		return s->node->backing ? QCOW2_OFLAG_ZERO : entry;
	case QCOW2_COMPRESSED:
		return QCOW2_OFLAG_ZERO;
	default:
		if (mode == QCOW2_MODE_ZERO_UNMAP)
			return QCOW2_OFLAG_ZERO;
		return entry | QCOW2_OFLAG_ZERO;
	}
}

/* The entry after the operation */
static u64 qcow2_zero_entry(const struct qcow2_state *s, u64 entry,
			    enum qcow2_zero_mode mode)
{
	if (mode == QCOW2_MODE_DISCARD)
		return qcow2_discarded_entry(s, entry);
	return qcow2_zeroed_entry(s, entry, mode);
}

/* Does a whole L2 table's range stay as it is because there is no table? */
static bool qcow2_zero_skips_hole(const struct qcow2_state *s, u64 offset)
{
	u64 index = offset >> (s->cluster_bits + s->l2_bits);

	return !(s->l1[index] & QCOW2_L1E_OFFSET_MASK) && !s->node->backing;
}

/* Return: for how many clusters there are records, or an error */
static int qcow2_zero_prepare(struct qcow2_state *s, struct qcow2_slice *slice,
			      unsigned int index, unsigned int nr, u64 guest,
			      enum qcow2_zero_mode mode,
			      struct list_head *frees)
{
	bool discard = s->node->discard_unmap;
	unsigned int i;
	int ret;

	for (i = 0; i < nr; i++, guest += s->cluster_size) {
		u64 entry = qcow2_l2_entry(slice, index + i);
		u64 new = qcow2_zero_entry(s, entry, mode);

		ret = qcow2_l2_check(s, guest, entry);
		if (ret)
			return ret;
		if (new != entry && !(new & QCOW2_L2E_OFFSET_MASK))
			ret = qcow2_free_prepare(s, entry, discard, frees);
		if (ret)
			return i ?: ret;
	}
	return nr;
}

static void qcow2_zero_apply(struct qcow2_state *s, struct qcow2_slice *slice,
			     unsigned int index, unsigned int nr,
			     enum qcow2_zero_mode mode)
{
	for (; nr; nr--, index++) {
		u64 entry = qcow2_l2_entry(slice, index);
		u64 new = qcow2_zero_entry(s, entry, mode);

		if (new != entry)
			qcow2_l2_set(s, slice, index, new);
	}
}

/*
 * All of the clusters are within one slice.  Context: lock held.  Return: how
 * many were done, or an error.
 */
static int qcow2_zero_slice(struct qcow2_state *s, u64 offset, unsigned int nr,
			    enum qcow2_zero_mode mode)
{
	struct qcow2_slice *slice;
	unsigned int index;
	LIST_HEAD(frees);
	int ret;

	ret = qcow2_l2_get_writable(s, offset, &slice, &index);
	if (ret)
		return ret;
	/* Nothing can fail between the first change and the last. */
	ret = qcow2_zero_prepare(s, slice, index, nr, offset, mode, &frees);
	if (ret < 0) {
		qcow2_free_records(s, &frees);
	} else {
		qcow2_zero_apply(s, slice, index, ret, mode);
		qcow2_free_commit(s, &frees);
	}
	qcow2_cache_put(slice);
	return ret;
}

/* How many of the clusters are done in one step; *hole: nothing to do */
static u64 qcow2_zero_step_size(const struct qcow2_state *s, u64 offset,
				u64 nr, bool *hole)
{
	u64 cluster = offset >> s->cluster_bits;
	u32 bits = qcow2_slice_l2_bits(s);

	*hole = qcow2_zero_skips_hole(s, offset);
	if (*hole)
		bits = s->l2_bits;
	else
		nr = min(nr, QCOW2_ZERO_BATCH);
	return min(nr, (1ULL << bits) - (cluster & ((1ULL << bits) - 1)));
}

/* Context: lock held, may be dropped.  Clusters done in @done. */
static int qcow2_zero_step(struct qcow2_state *s, u64 offset, u64 nr,
			   enum qcow2_zero_mode mode, u64 *done)
{
	bool hole;
	int ret;

	/*
	 * Wait for allocations in flight: they were issued before and must not
	 * undo this by linking their clusters afterwards.
	 */
	for (;;) {
		*done = qcow2_zero_step_size(s, offset, nr, &hole);
		if (!qcow2_find_alloc(s, offset, *done << s->cluster_bits))
			break;
		qcow2_wait_for_alloc(s);
	}
	if (s->corrupt)
		return -EIO;
	if (hole)
		return 0;
	ret = qcow2_zero_slice(s, offset, *done, mode);
	if (ret < 0)
		return ret;
	*done = ret;
	return 0;
}

static int qcow2_zero_some(struct qcow2_state *s, u64 offset, u64 nr,
			   enum qcow2_zero_mode mode, u64 *done)
{
	int ret;

	ret = qcow2_balance(s);
	if (!ret)
		ret = qcow2_free_throttle(s);
	if (ret)
		return ret;
	mutex_lock(&s->lock);
	ret = qcow2_zero_step(s, offset, nr, mode, done);
	mutex_unlock(&s->lock);
	return ret;
}

/* @offset is at a cluster, @nr whole clusters. */
static int qcow2_zero_clusters(struct qcow2_state *s, u64 offset, u64 nr,
			       enum qcow2_zero_mode mode)
{
	unsigned int tries = 0;

	while (nr) {
		unsigned long freed = READ_ONCE(s->frees_done);
		u64 done;
		int ret;

		ret = qcow2_zero_some(s, offset, nr, mode, &done);
		/* It may take a new L2 table. */
		if (ret && qcow2_free_retry(s, ret, freed, &tries))
			continue;
		if (ret)
			return ret;
		tries = 0;
		nr -= done;
		offset += done << s->cluster_bits;
		cond_resched();
	}
	return 0;
}

/* The last cluster of the disk may be partial. */
static u64 qcow2_round_end(const struct qcow2_state *s, u64 end)
{
	if (end == s->node->length)
		return round_up(end, (u64)s->cluster_size);
	return qcow2_start_of_cluster(s, end);
}

/* ->pdiscard(), see driver.h */
int qcow2_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	struct qcow2_state *s = node->priv;
	u64 start = round_up(offset, (u64)s->cluster_size);
	u64 end = qcow2_round_end(s, offset + bytes);

	/* Without a zero flag the backing file would show through. */
	if (s->hdr.version < 3 && node->backing)
		return -EOPNOTSUPP;
	if (start >= end)
		return 0;
	return qcow2_zero_clusters(s, start, (end - start) >> s->cluster_bits,
				   QCOW2_MODE_DISCARD);
}

static int qcow2_write_zero_data(struct qblk_node *node, u64 offset, u64 bytes)
{
	struct bio_vec bv[16];
	struct iov_iter iter;
	int i, ret = 0;
	u64 n;

	for (i = 0; i < ARRAY_SIZE(bv); i++)
		bvec_set_page(&bv[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	for (; bytes && !ret; bytes -= n, offset += n) {
		n = min_t(u64, bytes, ARRAY_SIZE(bv) * PAGE_SIZE);
		iov_iter_bvec(&iter, ITER_SOURCE, bv, ARRAY_SIZE(bv), n);
		ret = qcow2_pwritev(node, offset, n, &iter, 0);
	}
	return ret;
}

/*
 * A part of a cluster: nothing to do where it reads as zeroes already (a write
 * in flight to the rest of the cluster keeps it so), data otherwise.
 */
static int qcow2_zero_partial(struct qblk_node *node, u64 offset, u64 bytes,
			      unsigned int flags)
{
	struct qcow2_state *s = node->priv;
	bool zero;
	int ret;

	if (!bytes)
		return 0;
	ret = qcow2_range_is_zero(s, offset, bytes, &zero);
	if (ret || zero)
		return ret;
	if (flags & QBLK_REQ_NO_FALLBACK)
		return -EOPNOTSUPP;
	return qcow2_write_zero_data(node, offset, bytes);
}

/* ->pwrite_zeroes(), see driver.h */
int qcow2_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			unsigned int flags)
{
	enum qcow2_zero_mode mode = flags & QBLK_REQ_MAY_UNMAP ?
				    QCOW2_MODE_ZERO_UNMAP : QCOW2_MODE_ZERO;
	struct qcow2_state *s = node->priv;
	u64 start = round_up(offset, (u64)s->cluster_size);
	u64 end = qcow2_round_end(s, offset + bytes);
	int ret;

	if (s->hdr.version < 3) {
		/* No zero clusters, but unallocated ones without backing. */
		if (node->backing)
			return -EOPNOTSUPP;
		mode = QCOW2_MODE_DISCARD;
	}
	if (start >= end)
		return qcow2_zero_partial(node, offset, bytes, flags);
	ret = qcow2_zero_partial(node, offset, start - offset, flags);
	if (!ret)
		ret = qcow2_zero_clusters(s, start,
					  (end - start) >> s->cluster_bits,
					  mode);
	if (!ret && offset + bytes > end)
		ret = qcow2_zero_partial(node, end, offset + bytes - end,
					 flags);
	return ret;
}
