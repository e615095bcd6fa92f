// SPDX-License-Identifier: GPL-2.0
/*
 * Discard and write-zeroes, decided as QEMU decides them.
 */
#include <linux/bitops.h>
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

/*
 * Does what is at an offset read as zeroes?  Return: how many bytes it is true
 * of, not 0 and no more than @bytes, which is not 0 either; a negative errno.
 */
static s64 qcow2_extent_is_zero(struct qcow2_state *s, u64 offset, u64 bytes,
				bool *zero)
{
	u64 size = s->node->length;
	struct qblk_mapping m;
	int ret;

	*zero = true;
	if (offset >= size)
		return bytes;
	bytes = min(bytes, size - offset);
	ret = qblk_map(s->node, offset, bytes, QBLK_MAP_MAY_SLEEP, &m);
	if (ret)
		return ret;
	qblk_tracks_release(&m.tracks);
	*zero = m.type == QBLK_MAP_ZERO;
	return m.bytes;
}

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
	s64 len;

	*zero = true;
	for (; bytes && *zero; offset += len, bytes -= len) {
		len = qcow2_extent_is_zero(s, offset, bytes, zero);
		if (len < 0)
			return len;
	}
	return 0;
}

/* Zeroes without a host cluster */
static const struct qcow2_l2e qcow2_zero_plain = { .zero = QCOW2_SC_ALL };

/*
 * What was discarded reads as zeroes, so that old data neither of the backing
 * file nor of a freed cluster shows through.  Version 2 has no zero clusters;
 * with a backing file it does not get here.
 */
static struct qcow2_l2e qcow2_discarded_entry(const struct qcow2_state *s,
					      const struct qcow2_l2e *e)
{
	bool host = qcow2_has_host(s, e);
	struct qcow2_l2e new = qcow2_zero_plain;

	if (s->hdr.version < 3)
		return (struct qcow2_l2e){};
	if (!s->node->backing && !host && !(e->entry & QCOW2_OFLAG_COMPRESSED))
		return *e;
	if (host && s->discard_no_unref)
		new.entry = e->entry;
	return new;
}

static struct qcow2_l2e qcow2_zeroed_entry(const struct qcow2_state *s,
					   const struct qcow2_l2e *e,
					   enum qcow2_zero_mode mode)
{
	struct qcow2_l2e new = qcow2_zero_plain;

	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return new;
	if (!qcow2_has_host(s, e))
		return s->node->backing ? new : *e;
	if (mode == QCOW2_MODE_ZERO || s->discard_no_unref)
		new.entry = e->entry;
	return new;
}

/* Some subclusters of a cluster; the last one with data takes it along. */
static struct qcow2_l2e qcow2_zero_subclusters(const struct qcow2_state *s,
					       const struct qcow2_l2e *e,
					       enum qcow2_zero_mode mode,
					       u32 mask)
{
	bool host = qcow2_has_host(s, e);
	struct qcow2_l2e new = *e;

	if (e->entry & QCOW2_OFLAG_COMPRESSED || (!host && !s->node->backing))
		return new;
	new.zero |= mask;
	new.alloc &= ~mask;
	if (host && !new.alloc && mode != QCOW2_MODE_ZERO &&
	    !s->discard_no_unref)
		new.entry = 0;
	return new;
}

/* The entry after the operation on the subclusters of @mask */
static struct qcow2_l2e qcow2_zero_entry(const struct qcow2_state *s,
					 const struct qcow2_l2e *e,
					 enum qcow2_zero_mode mode, u32 mask)
{
	if (mask != QCOW2_SC_ALL)
		return qcow2_zero_subclusters(s, e, mode, mask);
	if (mode == QCOW2_MODE_DISCARD)
		return qcow2_discarded_entry(s, e);
	return qcow2_zeroed_entry(s, e, mode);
}

static bool qcow2_l2e_equal(const struct qcow2_l2e *a,
			    const struct qcow2_l2e *b)
{
	return a->entry == b->entry && a->alloc == b->alloc &&
	       a->zero == b->zero;
}

/* Does a whole L2 table's range stay as it is because there is no table? */
static bool qcow2_zero_skips_hole(const struct qcow2_state *s, u64 offset)
{
	u64 index = offset >> (s->cluster_bits + s->l2_bits);

	return !(s->l1[index] & QCOW2_L1E_OFFSET_MASK) && !s->node->backing;
}

/**
 * struct qcow2_zero - a step of a discard or write-zeroes
 * @offset: guest offset, at a subcluster
 * @nr: clusters, one if they are not whole
 * @mask: which subclusters of each
 * @mode: operation
 */
struct qcow2_zero {
	u64 offset;
	u64 nr;
	u32 mask;
	enum qcow2_zero_mode mode;
};

/* Bytes of a step; the subclusters of a mask are adjacent. */
static u64 qcow2_zero_bytes(const struct qcow2_state *s,
			    const struct qcow2_zero *z)
{
	return (z->nr * hweight32(z->mask)) << s->virt_bits;
}

/* Return: for how many clusters there are records, or an error */
static int qcow2_zero_prepare(struct qcow2_state *s, struct qcow2_slice *slice,
			      unsigned int index, const struct qcow2_zero *z,
			      struct list_head *frees)
{
	unsigned int i;
	int ret;

	for (i = 0; i < z->nr; i++) {
		struct qcow2_l2e e = qcow2_l2_entry(s, slice, index + i);
		struct qcow2_l2e new = qcow2_zero_entry(s, &e, z->mode,
							z->mask);

		ret = qcow2_l2_check(s, z->offset + ((u64)i << s->cluster_bits),
				     &e);
		if (ret)
			return ret;
		if (new.entry != e.entry)
			ret = qcow2_free_prepare(s, &e, QCOW2_DISCARD_REQUEST,
						 frees);
		if (ret)
			return i ?: ret;
	}
	return i;
}

static void qcow2_zero_apply(struct qcow2_state *s, struct qcow2_slice *slice,
			     unsigned int index, unsigned int nr,
			     const struct qcow2_zero *z)
{
	for (; nr; nr--, index++) {
		struct qcow2_l2e e = qcow2_l2_entry(s, slice, index);
		struct qcow2_l2e new = qcow2_zero_entry(s, &e, z->mode,
							z->mask);

		if (!qcow2_l2e_equal(&new, &e))
			qcow2_l2_set(s, slice, index, &new);
	}
}

/* A part of a compressed cluster cannot be zeroes, unless it may be data. */
static bool qcow2_zero_impossible(const struct qcow2_state *s,
				  const struct qcow2_slice *slice,
				  unsigned int index,
				  const struct qcow2_zero *z)
{
	struct qcow2_l2e e = qcow2_l2_entry(s, slice, index);

	return z->mode != QCOW2_MODE_DISCARD && z->mask != QCOW2_SC_ALL &&
	       e.entry & QCOW2_OFLAG_COMPRESSED;
}

/*
 * All of the clusters are within one slice.  Context: lock held.  Return: how
 * many were done, or an error.
 */
static int qcow2_zero_slice(struct qcow2_state *s, const struct qcow2_zero *z)
{
	struct qcow2_slice *slice;
	unsigned int index;
	LIST_HEAD(frees);
	int ret;

	ret = qcow2_l2_get_writable(s, z->offset, &slice, &index);
	if (ret)
		return ret;
	if (qcow2_zero_impossible(s, slice, index, z)) {
		qcow2_cache_put(slice);
		return -EOPNOTSUPP;
	}
	/* Nothing can fail between the first change and the last. */
	ret = qcow2_zero_prepare(s, slice, index, z, &frees);
	if (ret < 0) {
		qcow2_free_records(s, &frees);
	} else {
		qcow2_zero_apply(s, slice, index, ret, z);
		qcow2_free_commit(s, &frees);
	}
	qcow2_cache_put(slice);
	return ret;
}

/*
 * Zeroes in place.  Clusters that stay where they are, those of a data file and
 * with discard-no-unref, may be written to as soon as the step is over, so
 * unlike free.c's they cannot be discarded later.  They are made zeroes before
 * their entries change: cut in between, the disk shows zeroes, which is what
 * the step is about.  A raw data file has to hold what the disk shows; for the
 * others it is a matter of space.
 */

/* Is the step, which passes discards on, to zero the contents of @e's cluster? */
static bool qcow2_zero_in_place(const struct qcow2_state *s,
				const struct qcow2_l2e *e,
				const struct qcow2_zero *z)
{
	struct qcow2_l2e new;

	if (!(e->entry & QCOW2_OFLAG_COPIED) || !qcow2_has_host(s, e))
		return false;
	if (qcow2_has_data_file(s))
		return true;
	new = qcow2_zero_entry(s, e, z->mode, z->mask);
	return new.entry && e->alloc & z->mask;
}

/*
 * The first clusters of a step that are alike in this, which shortens it to
 * them.  *found: they are zeroed, at *host.  Clusters are checked as for any
 * write: the entry may lead to metadata.  Return: 0 or -EIO.
 */
static int qcow2_zero_find_host(struct qcow2_state *s, struct qcow2_zero *z,
				const struct qcow2_slice *slice,
				unsigned int index, u64 *host, bool *found)
{
	struct qcow2_l2e first = qcow2_l2_entry(s, slice, index);
	u64 start = first.entry & QCOW2_L2E_OFFSET_MASK;
	int ret;
	u64 i;

	ret = qcow2_l2_check(s, z->offset, &first);
	if (ret)
		return ret;
	*found = qcow2_zero_in_place(s, &first, z);
	for (i = 1; i < z->nr; i++) {
		struct qcow2_l2e e = qcow2_l2_entry(s, slice, index + i);

		if (qcow2_zero_in_place(s, &e, z) != *found ||
		    (*found && (e.entry & QCOW2_L2E_OFFSET_MASK) !=
			       start + (i << s->cluster_bits)))
			break;
	}
	z->nr = i;
	*host = start + qcow2_offset_in_cluster(s, z->offset);
	if (*found && !qcow2_has_data_file(s))
		ret = qcow2_check_write(s, *host, qcow2_zero_bytes(s, z));
	return ret;
}

/* Context: as qcow2_zero_find_host(), lock held */
static int qcow2_zero_host(struct qcow2_state *s, struct qcow2_zero *z,
			   u64 *host, bool *found)
{
	struct qcow2_slice *slice;
	unsigned int index;
	int ret;

	if (qcow2_data_file_is_raw(s)) {
		*found = true;
		*host = z->offset;
		return 0;
	}
	*found = false;
	if (z->mode == QCOW2_MODE_ZERO ||
	    !s->discard_passthrough[QCOW2_DISCARD_REQUEST] ||
	    (!qcow2_has_data_file(s) && !s->discard_no_unref &&
	     z->mask == QCOW2_SC_ALL))
		return 0;
	ret = qcow2_l2_get_writable(s, z->offset, &slice, &index);
	if (ret)
		return ret;
	ret = qcow2_zero_find_host(s, z, slice, index, host, found);
	qcow2_cache_put(slice);
	return ret;
}

/* Past the end of the disk a raw data file has nothing that matters. */
static int qcow2_zero_data(struct qcow2_state *s, const struct qcow2_zero *z,
			   u64 host)
{
	u64 bytes = min(qcow2_zero_bytes(s, z), s->node->length - z->offset);
	bool raw = qcow2_data_file_is_raw(s);
	unsigned int flags = 0;
	int ret;

	if (z->mode != QCOW2_MODE_ZERO)
		flags |= QBLK_REQ_MAY_UNMAP;
	if (!raw)
		flags |= QBLK_REQ_NO_FALLBACK;
	ret = qblk_pwrite_zeroes(s->data, host, bytes, flags);
	return raw ? ret : 0;
}

/*
 * Context: lock held, dropped meanwhile.  Others see the clusters as an
 * allocation in flight, so that no write gets to them before the entries have
 * changed.
 */
static int qcow2_zero_contents(struct qcow2_state *s, struct qcow2_zero *z,
			       struct qcow2_alloc *a)
{
	bool found;
	u64 host;
	int ret;

	ret = qcow2_zero_host(s, z, &host, &found);
	if (ret || !found)
		return ret;
	a->guest = qcow2_start_of_cluster(s, z->offset);
	a->nr = z->nr;
	list_add_tail(&a->entry, &s->allocs);
	mutex_unlock(&s->lock);
	ret = qcow2_zero_data(s, z, host);
	mutex_lock(&s->lock);
	list_del(&a->entry);
	wake_up_all(&s->alloc_wait);
	return ret ?: s->corrupt ? -EIO : 0;
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

/* Context: lock held, may be dropped.  z->nr: at most, then done. */
static int qcow2_zero_step(struct qcow2_state *s, struct qcow2_zero *z)
{
	struct qcow2_alloc a;
	u64 max = z->nr;
	bool hole;
	int ret;

	/*
	 * Wait for allocations in flight: they were issued before and must not
	 * undo this by linking their clusters afterwards.
	 */
	for (;;) {
		z->nr = qcow2_zero_step_size(s, z->offset, max, &hole);
		if (!qcow2_find_alloc(s,
				      qcow2_start_of_cluster(s, z->offset),
				      z->nr << s->cluster_bits))
			break;
		qcow2_wait_for_alloc(s);
	}
	if (s->corrupt)
		return -EIO;
	if (hole && !qcow2_data_file_is_raw(s))
		return 0;
	ret = qcow2_zero_contents(s, z, &a);
	if (ret || hole)
		return ret;
	ret = qcow2_zero_slice(s, z);
	if (ret < 0)
		return ret;
	z->nr = ret;
	return 0;
}

static int qcow2_zero_some(struct qcow2_state *s, struct qcow2_zero *z)
{
	int ret;

	ret = qcow2_balance(s);
	if (!ret)
		ret = qcow2_free_throttle(s);
	if (ret)
		return ret;
	mutex_lock(&s->lock);
	ret = qcow2_zero_step(s, z);
	mutex_unlock(&s->lock);
	return ret;
}

/* The first part of a range that one step can be about */
static void qcow2_zero_first(const struct qcow2_state *s, u64 offset, u64 bytes,
			     struct qcow2_zero *z)
{
	u64 skip = qcow2_offset_in_cluster(s, offset);
	u64 end = min(skip + bytes, (u64)s->cluster_size);

	z->offset = offset;
	z->nr = 1;
	z->mask = QCOW2_SC_ALL;
	if (!skip && bytes >= s->cluster_size)
		z->nr = bytes >> s->cluster_bits;
	else
		z->mask = qcow2_sc_mask(skip >> s->virt_bits,
					(end - 1) >> s->virt_bits);
}

/* @offset and @bytes are at subclusters. */
static int qcow2_zero_range(struct qcow2_state *s, u64 offset, u64 bytes,
			    enum qcow2_zero_mode mode)
{
	struct qcow2_zero z = { .mode = mode };
	unsigned int tries = 0;

	while (bytes) {
		unsigned long freed = READ_ONCE(s->frees_done);
		u64 done;
		int ret;

		qcow2_zero_first(s, offset, bytes, &z);
		ret = qcow2_zero_some(s, &z);
		/* It may take a new L2 table. */
		if (ret && qcow2_free_retry(s, ret, freed, &tries))
			continue;
		if (ret)
			return ret;
		tries = 0;
		done = qcow2_zero_bytes(s, &z);
		offset += done;
		bytes -= done;
		cond_resched();
	}
	return 0;
}

/* The last cluster of the disk may be partial. */
static u64 qcow2_round_end(const struct qcow2_state *s, u64 end)
{
	if (end == s->node->length)
		return round_up(end, (u64)s->cluster_size);
	return round_down(end, BIT_ULL(s->sc_bits));
}

/* ->pdiscard(), see driver.h */
int qcow2_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	struct qcow2_state *s = node->priv;
	u64 start = round_up(offset, BIT_ULL(s->sc_bits));
	u64 end = qcow2_round_end(s, offset + bytes);

	/* Without a zero flag the backing file would show through. */
	if (s->hdr.version < 3 && node->backing)
		return -EOPNOTSUPP;
	if (start >= end)
		return 0;
	return qcow2_zero_range(s, start, end - start, QCOW2_MODE_DISCARD);
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

/*
 * Whole subclusters.  Where one of them is a part of a compressed cluster, data
 * has to be written.
 */
static int qcow2_zero_whole(struct qblk_node *node, u64 offset, u64 bytes,
			    enum qcow2_zero_mode mode, unsigned int flags)
{
	struct qcow2_state *s = node->priv;
	u64 n;
	int ret = 0;

	for (; !ret && bytes; offset += n, bytes -= n) {
		n = s->cluster_size - qcow2_offset_in_cluster(s, offset);
		if (n == s->cluster_size && bytes >= n)
			n = round_down(bytes, (u64)s->cluster_size);
		n = min(n, bytes);
		ret = qcow2_zero_range(s, offset, n, mode);
		if (ret == -EOPNOTSUPP)
			ret = qcow2_zero_partial(node, offset,
						 min(n, node->length - offset),
						 flags);
	}
	return ret;
}

/* ->pwrite_zeroes(), see driver.h */
int qcow2_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			unsigned int flags)
{
	enum qcow2_zero_mode mode = flags & QBLK_REQ_MAY_UNMAP ?
				    QCOW2_MODE_ZERO_UNMAP : QCOW2_MODE_ZERO;
	struct qcow2_state *s = node->priv;
	u64 start = round_up(offset, BIT_ULL(s->sc_bits));
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
		ret = qcow2_zero_whole(node, start, end - start, mode, flags);
	if (!ret && offset + bytes > end)
		ret = qcow2_zero_partial(node, end, offset + bytes - end,
					 flags);
	return ret;
}
