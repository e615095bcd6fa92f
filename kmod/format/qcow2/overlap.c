// SPDX-License-Identifier: GPL-2.0
/*
 * Where metadata is, and that nothing else is written there.
 *
 * A broken image can count clusters of metadata as free, or call them data.
 * Before a cluster is written that is not a table, or becomes one, it is made
 * sure that it holds no metadata of the kinds that option overlap-check names.
 * What there is once (header, L1 table, refcount table, snapshot table, bitmap
 * directory) is compared with one by one.
 *
 * Of L2 tables and refcount blocks there are many.  Which they are is what the
 * L1 table and the refcount table say, in memory; a Bloom filter over each
 * spares the search through them for all but one in some hundred clusters that
 * hold none.  Filters take what is added to them and lose nothing, so there is
 * no allocation that could fail, and looking takes no lock; entries of tables
 * that were let go of only make the search through the table a bit less rare.
 *
 * The tables of snapshots do not change while the image is open: sorted lists,
 * made at open, which are searched without a lock.
 */
#include <linux/bitops.h>
#include <linux/hash.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "qcow2.h"

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

/* Tables of snapshots */

/*
 * Most entries of L1 tables of snapshots that are looked at, once each: a
 * million L2 tables.  QEMU has no such limit, but reads them for every write.
 */
#define QCOW2_MAX_INACTIVE_L2	BIT_ULL(20)

/* Entries read at once */
#define QCOW2_INACTIVE_BATCH	512U

static int qcow2_order_ranges(const void *a, const void *b)
{
	const struct qcow2_range *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return 0;
}

static int qcow2_order_offsets(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	if (*x != *y)
		return *x < *y ? -1 : 1;
	return 0;
}

/* Join what touches, so that the ends are in order as the starts are. */
static u32 qcow2_join_ranges(struct qcow2_range *r, u32 nr)
{
	u32 last = 0;
	u32 i;

	if (!nr)
		return 0;
	sort(r, nr, sizeof(*r), qcow2_order_ranges, NULL);
	for (i = 1; i < nr; i++) {
		if (r[i].start <= r[last].end)
			r[last].end = max(r[last].end, r[i].end);
		else
			r[++last] = r[i];
	}
	return last + 1;
}

static int qcow2_list_inactive_l1(struct qcow2_state *s)
{
	struct qcow2_range *r;
	u64 end;
	u32 i;

	r = kvcalloc(s->nr_snapshots, sizeof(*r), GFP_KERNEL);
	if (!r)
		return -ENOMEM;
	s->inactive_l1 = r;
	for (i = 0; i < s->nr_snapshots; i++) {
		const struct qcow2_snapshot_entry *e = &s->snapshots[i].entry;

		/* One that ends nowhere is refused when it is used. */
		if (!e->l1_size ||
		    check_add_overflow(e->l1_table_offset, e->l1_size * 8ULL,
				       &end))
			continue;
		r->start = e->l1_table_offset;
		r->end = end;
		r++;
	}
	s->nr_inactive_l1 = qcow2_join_ranges(s->inactive_l1,
					      r - s->inactive_l1);
	return 0;
}

static int qcow2_add_inactive_l2(struct qcow2_state *s, u64 offset, u32 nr,
				 __be64 *buf)
{
	u64 l2;
	u32 i;
	int ret;

	ret = qblk_pread(s->file, offset, nr * 8, buf);
	for (i = 0; !ret && i < nr; i++) {
		l2 = be64_to_cpu(buf[i]) & QCOW2_L1E_OFFSET_MASK;
		if (l2)
			s->inactive_l2[s->nr_inactive_l2++] =
				qcow2_start_of_cluster(s, l2);
	}
	return ret;
}

static int qcow2_read_inactive_l2(struct qcow2_state *s, struct qblk_err *err)
{
	__be64 *buf = kmalloc_array(QCOW2_INACTIVE_BATCH, 8, GFP_KERNEL);
	const struct qcow2_range *r = s->inactive_l1;
	int ret = buf ? 0 : -ENOMEM;
	u64 pos, nr;
	u32 i;

	for (i = 0; i < s->nr_inactive_l1; i++, r++)
		for (pos = r->start; !ret && r->end - pos >= 8; pos += nr * 8) {
			nr = min_t(u64, (r->end - pos) / 8,
				   QCOW2_INACTIVE_BATCH);
			ret = qcow2_add_inactive_l2(s, pos, nr, buf);
			cond_resched();
		}
	kfree(buf);
	if (ret)
		qblk_err_set(err,
			     "node '%s': option 'overlap-check': cannot read the L1 tables of snapshots: error %d",
			     s->node->name, ret);
	return ret;
}

static int qcow2_list_inactive_l2(struct qcow2_state *s, struct qblk_err *err)
{
	u64 entries = 0;
	int ret;
	u32 i;

	for (i = 0; i < s->nr_inactive_l1; i++)
		entries += (s->inactive_l1[i].end - s->inactive_l1[i].start) /
			   8;
	if (entries > QCOW2_MAX_INACTIVE_L2) {
		qblk_err_set(err,
			     "node '%s': option 'overlap-check.inactive-l2': the L1 tables of snapshots have %llu entries, more than %llu",
			     s->node->name, entries, QCOW2_MAX_INACTIVE_L2);
		return -EFBIG;
	}
	s->inactive_l2 = kvcalloc(entries, sizeof(u64), GFP_KERNEL);
	if (!s->inactive_l2)
		return -ENOMEM;
	ret = qcow2_read_inactive_l2(s, err);
	if (!ret)
		sort(s->inactive_l2, s->nr_inactive_l2, sizeof(u64),
		     qcow2_order_offsets, NULL);
	return ret;
}

/**
 * qcow2_inactive_init - take down where the tables of snapshots are
 * @s: image, its snapshot table read
 * @err: gets the sentence on failure
 *
 * Only of those that overlap-check protects, in a writable image.
 *
 * Return: 0, -ENOMEM, -EFBIG or an error of the child; qcow2_inactive_exit() is
 * to be called in any case.
 */
int qcow2_inactive_init(struct qcow2_state *s, struct qblk_err *err)
{
	u32 kinds = s->overlap_check & (BIT(QCOW2_OL_INACTIVE_L1) |
					BIT(QCOW2_OL_INACTIVE_L2));
	int ret;

	if (!kinds || !s->nr_snapshots)
		return 0;
	ret = qcow2_list_inactive_l1(s);
	if (!ret && s->nr_inactive_l1 && kinds & BIT(QCOW2_OL_INACTIVE_L2))
		ret = qcow2_list_inactive_l2(s, err);
	return ret;
}

/**
 * qcow2_inactive_exit - undo qcow2_inactive_init(), as far as it got
 * @s: image
 */
void qcow2_inactive_exit(struct qcow2_state *s)
{
	kvfree(s->inactive_l1);
	kvfree(s->inactive_l2);
}

/* Is there an L1 table of a snapshot in a range?  Any context. */
static bool qcow2_has_inactive_l1(const struct qcow2_state *s, u64 offset,
				  u64 bytes)
{
	u32 low = 0, high = s->nr_inactive_l1;

	/* The first one that ends after the start of the range */
	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (s->inactive_l1[mid].end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->nr_inactive_l1 &&
	       s->inactive_l1[low].start < offset + bytes;
}

/* An L2 table of a snapshot?  @offset is at a cluster.  Any context. */
static bool qcow2_has_inactive_l2(const struct qcow2_state *s, u64 offset,
				  u64 bytes)
{
	u32 low = 0, high = s->nr_inactive_l2;

	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (s->inactive_l2[mid] < offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low < s->nr_inactive_l2 && s->inactive_l2[low] < offset + bytes;
}

/* Where metadata is */

static const char *const qcow2_overlap_names[] = {
	[QCOW2_OL_MAIN_HEADER] = "qcow2_header",
	[QCOW2_OL_ACTIVE_L1] = "active L1 table",
	[QCOW2_OL_ACTIVE_L2] = "active L2 table",
	[QCOW2_OL_REFCOUNT_BLOCK] = "refcount block",
	[QCOW2_OL_REFCOUNT_TABLE] = "refcount table",
	[QCOW2_OL_SNAPSHOT_TABLE] = "snapshot table",
	[QCOW2_OL_INACTIVE_L1] = "inactive L1 table",
	[QCOW2_OL_INACTIVE_L2] = "inactive L2 table",
	[QCOW2_OL_BITMAP_DIRECTORY] = "bitmap directory",
};

static_assert(ARRAY_SIZE(qcow2_overlap_names) == QCOW2_OL_MAX);

/**
 * struct qcow2_target - where something may be written
 * @kinds: that are protected
 * @offset: bytes
 * @bytes: not 0
 */
struct qcow2_target {
	u32 kinds;
	u64 offset;
	u64 bytes;
};

/* Is there something of a kind at @offset?  Of none there are no bytes. */
static __always_inline bool qcow2_target_hits(const struct qcow2_target *t,
					      enum qcow2_overlap kind,
					      u64 offset, u64 bytes)
{
	return t->kinds & BIT(kind) && bytes &&
	       t->offset < offset + bytes && offset < t->offset + t->bytes;
}

/*
 * Tables that do not come and go; any context.  Returns the kind, QCOW2_OL_MAX
 * for none.  Each overwrite asks: what is known is looked at where it is.
 */
static enum qcow2_overlap qcow2_fixed_overlap(const struct qcow2_state *s,
					      u32 kinds, u64 offset, u64 bytes)
{
	const struct qcow2_target t = { kinds, offset, bytes };

	if (qcow2_target_hits(&t, QCOW2_OL_MAIN_HEADER, 0, s->cluster_size))
		return QCOW2_OL_MAIN_HEADER;
	if (qcow2_target_hits(&t, QCOW2_OL_ACTIVE_L1, s->hdr.l1_table_offset,
			      s->hdr.l1_size * 8ULL))
		return QCOW2_OL_ACTIVE_L1;
	if (qcow2_target_hits(&t, QCOW2_OL_REFCOUNT_TABLE,
			      READ_ONCE(s->reftable_offset),
			      READ_ONCE(s->reftable_size) * 8ULL))
		return QCOW2_OL_REFCOUNT_TABLE;
	if (qcow2_target_hits(&t, QCOW2_OL_SNAPSHOT_TABLE,
			      s->hdr.snapshots_offset, s->snapshots_bytes))
		return QCOW2_OL_SNAPSHOT_TABLE;
	if (s->exts.nb_bitmaps &&
	    qcow2_target_hits(&t, QCOW2_OL_BITMAP_DIRECTORY,
			      s->exts.bitmaps_offset, s->exts.bitmaps_bytes))
		return QCOW2_OL_BITMAP_DIRECTORY;
	if (kinds & BIT(QCOW2_OL_INACTIVE_L1) &&
	    qcow2_has_inactive_l1(s, offset, bytes))
		return QCOW2_OL_INACTIVE_L1;
	if (kinds & BIT(QCOW2_OL_INACTIVE_L2) &&
	    qcow2_has_inactive_l2(s, offset, bytes))
		return QCOW2_OL_INACTIVE_L2;
	return QCOW2_OL_MAX;
}

/* May there be an L2 table or a refcount block?  Any context. */
static bool qcow2_filtered(const struct qcow2_state *s, u32 kinds, u64 cluster)
{
	return (kinds & BIT(QCOW2_OL_ACTIVE_L2) &&
		qcow2_filter_has(&s->l2_filter, cluster)) ||
	       (kinds & BIT(QCOW2_OL_REFCOUNT_BLOCK) &&
		qcow2_filter_has(&s->ref_filter, cluster));
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
	u64 cluster = offset >> s->cluster_bits;

	if (qcow2_fixed_overlap(s, s->overlap_check,
				cluster << s->cluster_bits,
				(last - cluster + 1) << s->cluster_bits) !=
	    QCOW2_OL_MAX)
		return true;
	for (; cluster <= last; cluster++)
		if (qcow2_filtered(s, s->overlap_check, cluster))
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

/*
 * What metadata, of the kinds in @kinds that are protected, is in a range?
 * QCOW2_OL_MAX for none.  Context: lock held.
 */
static enum qcow2_overlap qcow2_find_overlap(const struct qcow2_state *s,
					     u32 kinds, u64 offset, u64 bytes)
{
	u64 last = (offset + bytes - 1) >> s->cluster_bits;
	u64 cluster = offset >> s->cluster_bits;
	enum qcow2_overlap kind;

	lockdep_assert_held(&s->lock);
	kinds &= s->overlap_check;
	kind = qcow2_fixed_overlap(s, kinds, cluster << s->cluster_bits,
				   (last - cluster + 1) << s->cluster_bits);
	if (kind != QCOW2_OL_MAX)
		return kind;
	for (; cluster <= last; cluster++) {
		if (kinds & BIT(QCOW2_OL_ACTIVE_L2) && qcow2_is_l2(s, cluster))
			return QCOW2_OL_ACTIVE_L2;
		if (kinds & BIT(QCOW2_OL_REFCOUNT_BLOCK) &&
		    qcow2_is_refblock(s, cluster))
			return QCOW2_OL_REFCOUNT_BLOCK;
	}
	return QCOW2_OL_MAX;
}

/**
 * qcow2_is_metadata - is there protected metadata in a range?
 * @s: writable image
 * @offset: host offset
 * @bytes: length, not 0
 *
 * Context: lock held.
 */
bool qcow2_is_metadata(const struct qcow2_state *s, u64 offset, u64 bytes)
{
	return qcow2_find_overlap(s, U32_MAX, offset, bytes) != QCOW2_OL_MAX;
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
	enum qcow2_overlap kind = qcow2_find_overlap(s, U32_MAX, offset, bytes);

	if (likely(kind == QCOW2_OL_MAX))
		return 0;
	return qcow2_corrupt(s, true, offset, bytes,
			     "preventing invalid write on metadata (overlaps with %s)",
			     qcow2_overlap_names[kind]);
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
	return qcow2_find_overlap(s, U32_MAX & ~BIT(QCOW2_OL_ACTIVE_L2),
				  offset, s->cluster_size) != QCOW2_OL_MAX;
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
	return qcow2_find_overlap(s, U32_MAX & ~BIT(QCOW2_OL_REFCOUNT_BLOCK),
				  offset, s->cluster_size) != QCOW2_OL_MAX;
}
