/* SPDX-License-Identifier: GPL-2.0 */
/*
 * qcow2 in memory.
 *
 * Locks, outermost first:
 *
 *   wb_mutex     one write-back at a time
 *   lock         all metadata: whoever changes an L1, L2 or refcount table
 *		  entry, in memory or on disk, or looks at refcounts, holds it;
 *		  held across metadata I/O, dropped during data I/O
 *   header_lock  read-modify-write of header fields
 *   xa_lock of a cache: which slices are in memory; taken by reclaim, hence
 *		  nothing is allocated under it
 *
 * Looking an offset up takes none of them, see l2.c.
 *
 * Crash ordering is argued in writeback.c.
 */
#ifndef _QBLK_QCOW2_H
#define _QBLK_QCOW2_H

#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mempool.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/seqlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <qblk/driver.h>

#include "codec.h"
#include "reclaim.h"

/* Memory for what there is a reserve for: not worth much of an effort */
#define QCOW2_GFP_TRY	(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN)

/* What copy on write has in one piece: QEMU's clusters, if nobody says more */
#define QCOW2_PIECE_BYTES	(64U << 10)

/* Attempts without memory before a request fails */
#define QCOW2_NOMEM_TRIES	8

/* Copied at once on copy on write, if not merged with the data */
#define QCOW2_COW_BYTES		(32U << 10)

/* Records of freed clusters, a few MiB of them */
#define QCOW2_MAX_FREES		65536

/*
 * A slice is the unit metadata is cached in: 4 KiB, or a smaller cluster, unless
 * l2-cache-entry-size says otherwise.  Its memory comes in chunks of 4 KiB.
 */
#define QCOW2_CHUNK_BITS	12

/**
 * struct qcow2_slice - a piece of an L2 table or refcount block in memory
 * @rcu: frees it after the lookups that may still see it
 * @ref: one of the cache, one per user
 * @flags: QCOW2_SLICE_*
 * @seq: for extended L2 entries, whose halves change together
 * @chunks: pieces of memory it has
 * @key: host offset >> slice_bits
 * @lru: in the cache's list
 * @data: the first chunk, or all of a smaller slice; big endian as on disk
 * @more: the other chunks
 */
struct qcow2_slice {
	struct rcu_head rcu;
	refcount_t ref;
	unsigned long flags;
	seqcount_t seq;
	u32 chunks;
	unsigned long key;
	struct list_head lru;
	void *data;
	void *more[];
};

#define QCOW2_SLICE_READING	0	/* being read in, wait on the bit */
#define QCOW2_SLICE_UPTODATE	1
#define QCOW2_SLICE_DIRTY	2	/* changes under lock */
#define QCOW2_SLICE_REFERENCED	3	/* second chance */
#define QCOW2_SLICE_IDLE	4	/* not used since the last clean run */

/**
 * struct qcow2_cache - slices of one kind of table
 * @file: where the tables are
 * @slices: by key; XA_MARK_0 marks the dirty ones.  Its lock also covers
 *	@lru and the numbers of slices
 * @lru: eviction order
 * @slice_bits: log2 of the bytes in a slice
 * @chunks: pieces of memory in a slice, a power of two
 * @nr: slices in memory
 * @nr_dirty: of these, dirty
 * @max: clean slices are evicted above this many
 * @max_dirty: those above this many are written back
 * @hits: lookups that found their slice, worker only
 * @misses: lookups that read from disk
 * @evicted: slices that went because of @max
 * @cleaned: slices that went because nobody used them
 * @shrunk: slices that went because the system wanted memory
 * @spare: for when there is no memory; NULL while it is in use
 * @reclaim: lets memory be taken; listed by the owner of the cache
 */
struct qcow2_cache {
	struct qblk_child *file;
	struct xarray slices;
	struct list_head lru;
	unsigned int slice_bits;
	unsigned int chunks;
	unsigned int nr;
	unsigned int nr_dirty;
	unsigned int max;
	unsigned int max_dirty;
	atomic64_t hits;
	atomic64_t misses;
	unsigned long evicted;
	unsigned long cleaned;
	unsigned long shrunk;
	struct qcow2_slice *spare;
	struct qcow2_reclaim reclaim;
};

#define QCOW2_CACHE_DIRTY	XA_MARK_0

/**
 * struct qcow2_zcluster - a cluster that was decompressed
 * @ref: one of the cache, one per user
 * @flags: private to the cache
 * @key: host offset of the compressed bytes
 * @len: their number
 * @lru: in the cache's list
 * @data: the cluster
 */
struct qcow2_zcluster {
	refcount_t ref;
	unsigned long flags;
	unsigned long key;
	u32 len;
	struct list_head lru;
	void *data;
};

#define QCOW2_ZASKED_BITS	6

/**
 * struct qcow2_zcache - clusters that were decompressed
 * @clusters: by key; its lock also covers @lru and @nr
 * @lru: the one not used for the longest time first
 * @cluster_bits: log2 of the cluster size
 * @nr: clusters in memory
 * @max: there are no more than these
 * @hits: reads that found their cluster
 * @misses: reads that decompressed it
 * @asked: host offsets of some that parts were read of
 * @reclaim: gives clusters back
 */
struct qcow2_zcache {
	struct xarray clusters;
	struct list_head lru;
	u32 cluster_bits;
	unsigned int nr;
	unsigned int max;
	atomic64_t hits;
	atomic64_t misses;
	unsigned long asked[1 << QCOW2_ZASKED_BITS];
	struct qcow2_reclaim reclaim;
};

/**
 * struct qcow2_range - bytes in the file
 * @start: host offset of the first
 * @end: host offset past the last
 */
struct qcow2_range {
	u64 start;
	u64 end;
};

/**
 * struct qcow2_filter - which clusters may be tables of a kind; a Bloom filter
 * @bits: bits are only ever set
 * @order: log2 of their number
 */
struct qcow2_filter {
	unsigned long *bits;
	u32 order;
};

/**
 * enum qcow2_discard_type - why clusters are freed; QEMU's
 * @QCOW2_DISCARD_NEVER: their contents stay in the file
 * @QCOW2_DISCARD_ALWAYS: the file is told to drop them
 * @QCOW2_DISCARD_REQUEST: the guest discarded them
 * @QCOW2_DISCARD_SNAPSHOT: a snapshot was deleted
 * @QCOW2_DISCARD_OTHER: anything else, such as a cluster copied on write
 * @QCOW2_DISCARD_MAX: number of types
 */
enum qcow2_discard_type {
	QCOW2_DISCARD_NEVER,
	QCOW2_DISCARD_ALWAYS,
	QCOW2_DISCARD_REQUEST,
	QCOW2_DISCARD_SNAPSHOT,
	QCOW2_DISCARD_OTHER,
	QCOW2_DISCARD_MAX,
};

/**
 * enum qcow2_overlap - metadata that is not to be overwritten, bit numbers
 * @QCOW2_OL_MAIN_HEADER: the header
 * @QCOW2_OL_ACTIVE_L1: L1 table
 * @QCOW2_OL_ACTIVE_L2: L2 tables of the active L1 table
 * @QCOW2_OL_REFCOUNT_BLOCK: refcount blocks
 * @QCOW2_OL_REFCOUNT_TABLE: refcount table
 * @QCOW2_OL_SNAPSHOT_TABLE: snapshot table
 * @QCOW2_OL_INACTIVE_L1: L1 tables of snapshots
 * @QCOW2_OL_INACTIVE_L2: L2 tables of snapshots; reads their L1 tables
 * @QCOW2_OL_BITMAP_DIRECTORY: directory of the persistent bitmaps
 * @QCOW2_OL_MAX: number of kinds
 */
enum qcow2_overlap {
	QCOW2_OL_MAIN_HEADER,
	QCOW2_OL_ACTIVE_L1,
	QCOW2_OL_ACTIVE_L2,
	QCOW2_OL_REFCOUNT_BLOCK,
	QCOW2_OL_REFCOUNT_TABLE,
	QCOW2_OL_SNAPSHOT_TABLE,
	QCOW2_OL_INACTIVE_L1,
	QCOW2_OL_INACTIVE_L2,
	QCOW2_OL_BITMAP_DIRECTORY,
	QCOW2_OL_MAX,
};

/**
 * struct qcow2_free - clusters that lost a reference
 * @entry: in one of the lists of &struct qcow2_state
 * @offset: host offset of the first cluster
 * @nr: clusters, each loses one reference
 * @discard: pass the discard down when the last reference goes
 */
struct qcow2_free {
	struct list_head entry;
	u64 offset;
	u64 nr;
	bool discard;
};

/**
 * struct qcow2_snapshot - an entry of the snapshot table
 * @entry: its fields
 * @id: NUL-terminated; @name is in the same memory
 * @name: NUL-terminated
 */
struct qcow2_snapshot {
	struct qcow2_snapshot_entry entry;
	char *id;
	char *name;
};

/**
 * struct qcow2_alloc - an allocation in flight
 * @entry: in &qcow2_state.allocs
 * @slice: pinned, holds the L2 entries
 * @index: of the first entry in @slice
 * @nr: clusters
 * @guest: offset of the first cluster, as the guest sees it
 * @host: offset of the first cluster in the file
 * @from: guest offset where the write begins, copied data included
 * @to: guest offset where it ends
 * @reuse: the clusters are not new: they hold zeroes or other subclusters, or
 *	are those of a data file
 * @fresh: the clusters lie past the end of a file that grows, so what is not
 *	written reads as zeroes
 * @frees: records for what the entries point to now, allocated up front so
 *	that the L2 update cannot fail
 */
struct qcow2_alloc {
	struct list_head entry;
	struct qcow2_slice *slice;
	unsigned int index;
	unsigned int nr;
	u64 guest;
	u64 host;
	u64 from;
	u64 to;
	bool reuse;
	bool fresh;
	struct list_head frees;
};

/**
 * struct qcow2_state - an open image; BDRVQcow2State of QEMU
 * @node: its node
 * @file: where metadata is, and data unless there is a data file
 * @data: where data is: @file, or the data file
 * @hdr: header as read, with fields kept current that can change
 * @exts: header extensions
 * @cluster_bits: log2 of the cluster size
 * @cluster_size: bytes
 * @sc_bits: log2 of the subcluster size, that of clusters without subclusters
 * @virt_bits: log2 of a 32nd of a cluster, which a bit in an L2 entry is for
 * @l2e_bits: log2 of the bytes of an L2 entry
 * @l2_bits: log2 of the entries in an L2 table
 * @refblock_bits: log2 of the entries in a refcount block
 * @refcount_order: log2 of the bits of a refcount
 * @ref_slice_bits: log2 of the bytes in a slice of a refcount block
 * @l2_slice_bits: log2 of the bytes in a slice of an L2 table
 * @lock: see above
 * @header_lock: see above
 * @wb_mutex: see above
 * @l1: L1 table, host byte order; read without a lock
 * @reftable: refcount table, host byte order
 * @reftable_size: entries
 * @reftable_offset: host offset; like @reftable_size read without a lock
 * @snapshots: the snapshot table; does not change while the image is open
 * @nr_snapshots: its entries
 * @snapshots_bytes: its length on disk
 * @loaded: the snapshot that is shown instead of the disk, or NULL
 * @l2_filter: where L2 tables are; only in writable images
 * @ref_filter: where refcount blocks are, likewise
 * @use_lazy_refcounts: refcounts may be written late, under the dirty bit
 * @refcounts_late: the dirty bit is stable, so they may; changed under @lock
 * @discard_passthrough: is the file told of clusters freed for this reason?
 * @discard_no_unref: discarded clusters keep their place, as zero clusters
 * @overlap_check: kinds of metadata writes are checked against, BIT() of
 *	&enum qcow2_overlap
 * @inactive_l1: where L1 tables of snapshots are, in order; these lists do not
 *	change while the image is open
 * @nr_inactive_l1: how many ranges
 * @inactive_l2: host offsets of L2 tables of snapshots, in order
 * @nr_inactive_l2: how many
 * @l2_cache: L2 slices
 * @ref_cache: refcount block slices
 * @l2_cache_size: bytes @l2_cache may use
 * @ref_cache_size: bytes @ref_cache may use
 * @clean_interval: seconds between runs of @clean_work, 0 for none
 * @clean_work: lets go of slices nobody uses
 * @free_cluster_index: no cluster before this one is free
 * @need_barrier: an L2 entry in memory points to a cluster whose data or
 *	refcount may not be stable yet
 * @corrupt: fatal corruption found: no more writes
 * @corrupt_reported: the first report is enough
 * @allocs: allocations in flight
 * @alloc_wait: woken when one ends
 * @frees_new: clusters dropped by L2 entries that are not stable yet
 * @frees_stable: clusters no stable metadata refers to any more
 * @nr_frees: records from qcow2_free_commit() until their clusters are free;
 *	like @frees_done changed under @lock
 * @max_frees: a discard waits while there are more
 * @frees_done: records whose clusters became free
 * @free_work: lets go of @frees_stable
 * @wq: for @free_work and @wb_work, of a writable image.  Its own, since the
 *	work of an image may wait for that of the image in its file
 * @lock_key: lock class of the mutexes, which nest in those of other images
 * @free_key: lock class of @free_work, likewise
 * @wb_work: write-back some time after clusters were freed
 * @zcache: clusters that were decompressed
 * @zread_key: lock class of the work that helps a read, likewise
 * @inbuf: buffers for compressed bytes
 * @free_pool: records of freed clusters
 * @cow_pool: buffers of qcow2_cow_bytes() for copy on write
 * @buf: for tables, used under @lock
 * @buf_bytes: its size
 */
struct qcow2_state {
	struct qblk_node *node;
	struct qblk_child *file;
	struct qblk_child *data;
	struct qcow2_header hdr;
	struct qcow2_exts exts;
	u32 cluster_bits;
	u32 cluster_size;
	u32 sc_bits;
	u32 virt_bits;
	u32 l2e_bits;
	u32 l2_bits;
	u32 refblock_bits;
	u32 refcount_order;
	u32 ref_slice_bits;
	u32 l2_slice_bits;
	struct mutex lock;		/* metadata */
	struct mutex header_lock;	/* fields of the header on disk */
	struct mutex wb_mutex;		/* write-back */
	u64 *l1;
	u64 *reftable;
	u32 reftable_size;
	u64 reftable_offset;
	struct qcow2_snapshot *snapshots;
	u32 nr_snapshots;
	u64 snapshots_bytes;
	const struct qcow2_snapshot *loaded;
	struct qcow2_filter l2_filter;
	struct qcow2_filter ref_filter;
	bool use_lazy_refcounts;
	bool refcounts_late;
	bool discard_passthrough[QCOW2_DISCARD_MAX];
	bool discard_no_unref;
	u32 overlap_check;
	struct qcow2_range *inactive_l1;
	u32 nr_inactive_l1;
	u64 *inactive_l2;
	u32 nr_inactive_l2;
	struct qcow2_cache l2_cache;
	struct qcow2_cache ref_cache;
	u64 l2_cache_size;
	u64 ref_cache_size;
	u32 clean_interval;
	struct delayed_work clean_work;
	u64 free_cluster_index;
	bool need_barrier;
	bool corrupt;
	bool corrupt_reported;
	struct list_head allocs;
	wait_queue_head_t alloc_wait;
	struct list_head frees_new;
	struct list_head frees_stable;
	unsigned long nr_frees;
	unsigned long max_frees;
	unsigned long frees_done;
	struct workqueue_struct *wq;
	struct lock_class_key lock_key;
	struct lock_class_key free_key;
	struct work_struct free_work;
	struct delayed_work wb_work;
	struct qcow2_zcache zcache;
	struct lock_class_key zread_key;
	mempool_t *inbuf;
	mempool_t *free_pool;
	mempool_t *cow_pool;
	void *buf;
	u32 buf_bytes;
};

/**
 * struct qcow2_opts - options, parsed
 * @cache_size: bytes of both caches, or %QBLK_OPT_UNSET
 * @l2_cache_size: bytes, or %QBLK_OPT_UNSET
 * @l2_cache_entry_size: bytes of a slice of an L2 table, or %QBLK_OPT_UNSET
 * @refcount_cache_size: bytes, or %QBLK_OPT_UNSET
 * @cache_clean_interval: see &qcow2_state.clean_interval
 * @lazy_refcounts: -1 for what the image says
 * @pass_discard_request: -1 for what the node does with discards
 * @pass_discard_snapshot: see &qcow2_state.discard_passthrough
 * @pass_discard_other: likewise
 * @discard_no_unref: see &qcow2_state.discard_no_unref
 * @overlap_check: index of the template, U32_MAX for not given
 * @overlap_template: the same under its other name
 * @overlap: by &enum qcow2_overlap, -1 for what the template says
 * @load_snapshot: id or name of the snapshot to show, or NULL
 * @snapshot_id: its id, or NULL
 * @snapshot_name: its name, or NULL
 */
struct qcow2_opts {
	u64 cache_size;
	u64 l2_cache_size;
	u64 l2_cache_entry_size;
	u64 refcount_cache_size;
	u64 cache_clean_interval;
	s32 lazy_refcounts;
	s32 pass_discard_request;
	bool pass_discard_snapshot;
	bool pass_discard_other;
	bool discard_no_unref;
	u32 overlap_check;
	u32 overlap_template;
	s32 overlap[QCOW2_OL_MAX];
	const char *load_snapshot;
	const char *snapshot_id;
	const char *snapshot_name;
};

static inline bool qcow2_has_data_file(const struct qcow2_state *s)
{
	return s->hdr.incompatible_features & QCOW2_INCOMPAT_DATA_FILE;
}

/* Does the data file hold just what the disk shows? */
static inline bool qcow2_data_file_is_raw(const struct qcow2_state *s)
{
	return s->hdr.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

static inline bool qcow2_has_subclusters(const struct qcow2_state *s)
{
	return s->hdr.incompatible_features & QCOW2_INCOMPAT_EXTL2;
}

/* Is there a host cluster for an L2 entry? */
static inline bool qcow2_has_host(const struct qcow2_state *s,
				  const struct qcow2_l2e *e)
{
	return qcow2_l2e_has_host(s->hdr.incompatible_features, e);
}

static inline u64 qcow2_offset_in_cluster(const struct qcow2_state *s, u64 off)
{
	return off & (s->cluster_size - 1);
}

/* Which 32nd of its cluster an offset is in, with and without subclusters */
static inline u32 qcow2_sc_index(const struct qcow2_state *s, u64 off)
{
	return qcow2_offset_in_cluster(s, off) >> s->virt_bits;
}

static inline u64 qcow2_start_of_cluster(const struct qcow2_state *s, u64 off)
{
	return off & ~((u64)s->cluster_size - 1);
}

static inline u32 qcow2_cow_bytes(const struct qcow2_state *s)
{
	return min(s->cluster_size, QCOW2_COW_BYTES);
}

/* Where byte @pos of a slice is, and what follows it up to the next 4 KiB */
static inline void *qcow2_slice_at(const struct qcow2_slice *slice, u32 pos)
{
	u32 chunk = pos >> QCOW2_CHUNK_BITS;
	void *data = likely(!chunk) ? slice->data : slice->more[chunk - 1];

	return data + (pos & (BIT(QCOW2_CHUNK_BITS) - 1));
}

/* Entries in a slice of an L2 table, log2 */
static inline u32 qcow2_slice_l2_bits(const struct qcow2_state *s)
{
	return s->l2_slice_bits - s->l2e_bits;
}

/* cache.c */
int qcow2_cache_init(struct qcow2_cache *c, struct qblk_child *file,
		     u32 slice_bits, u64 bytes);
void qcow2_cache_exit(struct qcow2_cache *c);
void qcow2_cache_clean_unused(struct qcow2_cache *c);
struct qcow2_slice *qcow2_cache_reserve(struct qcow2_cache *c);
struct qcow2_slice *qcow2_cache_peek(struct qcow2_cache *c, u64 offset);
struct qcow2_slice *qcow2_cache_get(struct qcow2_cache *c, u64 offset);
void qcow2_cache_put(struct qcow2_slice *slice);
void qcow2_cache_mark_dirty(struct qcow2_cache *c, struct qcow2_slice *slice);
void qcow2_cache_drop(struct qcow2_cache *c, u64 offset, u64 bytes);
int qcow2_cache_claim(struct qcow2_cache *c, u64 offset, u64 bytes);
int qcow2_cache_write_dirty(struct qcow2_cache *c);
unsigned int qcow2_cache_nr_dirty(struct qcow2_cache *c);

/* l2.c */
int qcow2_map(struct qblk_node *node, u64 offset, u64 bytes,
	      unsigned int flags, struct qblk_extent *ext);
u64 qcow2_l2_run(const struct qcow2_state *s, const struct qcow2_slice *slice,
		 unsigned int index, const struct qcow2_l2e *first, u64 offset,
		 u64 bytes, bool in_place);
int qcow2_l2_lookup(struct qcow2_state *s, u64 offset, struct qcow2_l2e *e);
int qcow2_l2_get_writable(struct qcow2_state *s, u64 offset,
			  struct qcow2_slice **slicep, unsigned int *index);
void qcow2_l2_set(struct qcow2_state *s, struct qcow2_slice *slice,
		  unsigned int index, const struct qcow2_l2e *e);
struct qcow2_l2e qcow2_l2_entry(const struct qcow2_state *s,
				const struct qcow2_slice *slice,
				unsigned int index);
int qcow2_l2_check(struct qcow2_state *s, u64 guest,
		   const struct qcow2_l2e *e);

/* refcount.c */
u64 qcow2_end_cluster(const struct qcow2_state *s);
int qcow2_reftable_switch(struct qcow2_state *s, u64 offset, u32 clusters);
int qcow2_refcount_read(struct qcow2_state *s, u64 cluster, u64 *value);
int qcow2_refcount_dec(struct qcow2_state *s, u64 cluster);
int qcow2_alloc_clusters(struct qcow2_state *s, u64 nr, u64 *offset,
			 u64 *got);
void qcow2_free_now(struct qcow2_state *s, u64 offset, u64 nr);
int qcow2_claim_table(struct qcow2_state *s, struct qcow2_cache *c, u64 offset,
		      u64 bytes);
int qcow2_write_be64_block(struct qcow2_state *s, const u64 *table, u32 size,
			   u64 table_offset, u32 index, u64 value);

/* free.c */
int qcow2_free_prepare(struct qcow2_state *s, const struct qcow2_l2e *e,
		       enum qcow2_discard_type type, struct list_head *list);
void qcow2_free_commit(struct qcow2_state *s, struct list_head *list);
void qcow2_free_records(struct qcow2_state *s, struct list_head *list);
void qcow2_free_deferred(struct qcow2_state *s, u64 offset, u64 nr);
void qcow2_free_work_fn(struct work_struct *work);
bool qcow2_free_retry(struct qcow2_state *s, int error, unsigned long done,
		      unsigned int *tries);
int qcow2_free_throttle(struct qcow2_state *s);
bool qcow2_free_pending(struct qcow2_state *s);

/**
 * struct qcow2_vec - what step 2 of an allocating write writes
 * @host: where
 * @iter: over it: @bv, or the guest's data alone
 * @bv: vector, or NULL; pages of its own, the zero page, and the guest's data
 * @nr: used
 * @data: index of the guest's data in it
 * @data_nr: segments of that
 */
struct qcow2_vec {
	u64 host;
	struct iov_iter iter;
	struct bio_vec *bv;
	unsigned int nr;
	unsigned int data;
	unsigned int data_nr;
};

/* cow.c */
int qcow2_vec_init(struct qcow2_state *s, const struct qcow2_alloc *a,
		   u64 offset, u64 bytes, const struct iov_iter *data,
		   struct qcow2_vec *v);
int qcow2_vec_write(struct qcow2_state *s, struct qcow2_vec *v);
void qcow2_vec_exit(struct qcow2_vec *v);
int qcow2_write_clusters(struct qcow2_state *s, const struct qcow2_alloc *a,
			 u64 offset, u64 bytes, struct iov_iter *iter);

/* write.c */
int qcow2_start_pwritev(struct qblk_node *node, struct qblk_io *io);
int qcow2_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
		  struct iov_iter *iter, unsigned int flags);
void qcow2_wait_for_alloc(struct qcow2_state *s);
struct qcow2_alloc *qcow2_find_alloc(struct qcow2_state *s, u64 guest,
				     u64 bytes);

/* zero.c */
int qcow2_pdiscard(struct qblk_node *node, u64 offset, u64 bytes);
int qcow2_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			unsigned int flags);
int qcow2_range_is_zero(struct qcow2_state *s, u64 offset, u64 bytes,
			bool *zero);

/* writeback.c */
int qcow2_writeback(struct qcow2_state *s);
int qcow2_flush_to_os(struct qblk_node *node);
int qcow2_inactivate(struct qblk_node *node, struct qblk_err *err);
void qcow2_wb_work_fn(struct work_struct *work);
int qcow2_balance(struct qcow2_state *s);

/* zcache.c */
void qcow2_zcache_init(struct qcow2_zcache *c, u32 cluster_bits);
void qcow2_zcache_exit(struct qcow2_zcache *c);
struct qcow2_zcluster *qcow2_zcache_get(struct qcow2_zcache *c, u64 host,
					u32 len, bool *fill);
bool qcow2_zcache_again(struct qcow2_zcache *c, u64 host);
void qcow2_zcache_filled(struct qcow2_zcache *c, struct qcow2_zcluster *zc,
			 int ret);
void qcow2_zcache_put(struct qcow2_zcluster *zc);
void qcow2_zcache_drop(struct qcow2_zcache *c, u64 offset, u64 bytes);
unsigned long qcow2_zcache_shrink(struct qcow2_zcache *c, unsigned long nr);

/* reclaim.c */
void qcow2_clean_work_fn(struct work_struct *work);
void qcow2_reclaim_start(struct qcow2_state *s);
void qcow2_reclaim_stop(struct qcow2_state *s);

/* compress.c */
int qcow2_decompress(struct qcow2_state *s, const u8 *src, u32 len, void *dst);
int qcow2_decompress_iter(struct qcow2_state *s, const u8 *src, u32 len,
			  u32 skip, u64 bytes, struct iov_iter *iter);
int qcow2_zpool_reserve(u32 cluster_size);
void qcow2_zpool_exit(void);

/* zread.c */
int qcow2_zread_init(void);
void qcow2_zread_exit(void);
int qcow2_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		 struct iov_iter *iter, unsigned int flags);
int qcow2_inbuf_init(struct qcow2_state *s);
void qcow2_inbuf_exit(struct qcow2_state *s);

/* corrupt.c */
__printf(5, 6)
int qcow2_corrupt(struct qcow2_state *s, bool fatal, s64 offset, s64 bytes,
		  const char *fmt, ...);
int qcow2_header_write(struct qcow2_state *s, u32 field, const void *buf,
		       size_t len);
int qcow2_header_features(struct qcow2_state *s, u64 set, u64 clear);

/* dirty.c */
int qcow2_mark_dirty(struct qcow2_state *s);
int qcow2_mark_clean(struct qcow2_state *s);
int qcow2_settle_refcounts(struct qcow2_state *s);
int qcow2_open_dirty(struct qcow2_state *s, struct qblk_err *err);

/* snapshot.c */
int qcow2_read_snapshots(struct qcow2_state *s, struct qblk_err *err);
void qcow2_free_snapshots(struct qcow2_state *s);
int qcow2_load_snapshot(struct qcow2_state *s, const struct qcow2_opts *o,
			struct qblk_err *err);
void qcow2_snapshots_info(const struct qcow2_state *s, struct qblk_info *info);

/* bitmap.c */
int qcow2_check_bitmaps(struct qcow2_state *s, struct qblk_err *err);

/* overlap.c */
int qcow2_filters_init(struct qcow2_state *s);
void qcow2_filters_exit(struct qcow2_state *s);
int qcow2_inactive_init(struct qcow2_state *s, struct qblk_err *err);
void qcow2_inactive_exit(struct qcow2_state *s);
void qcow2_filter_add(struct qcow2_filter *f, u64 cluster);
bool qcow2_may_be_table(const struct qcow2_state *s, u64 offset, u64 bytes);
bool qcow2_is_metadata(const struct qcow2_state *s, u64 offset, u64 bytes);
int qcow2_check_write(struct qcow2_state *s, u64 offset, u64 bytes);
bool qcow2_l2_misplaced(const struct qcow2_state *s, u64 offset);
bool qcow2_block_misplaced(const struct qcow2_state *s, u64 offset);

/* pieces.c */
struct page *qcow2_piece_get(void);
void qcow2_piece_put(struct page *page);
void qcow2_pieces_start(void);
void qcow2_pieces_stop(void);
void qcow2_pieces_init(void);
void qcow2_pieces_exit(void);

/* opts.c */
u64 qcow2_all_l2_bytes(const struct qcow2_state *s);
extern const struct qblk_opt_desc qcow2_opt_table[];
int qcow2_opts_apply(struct qcow2_state *s, const struct qcow2_opts *opts,
		     struct qblk_err *err);
void qcow2_opts_info(const struct qcow2_state *s, struct qblk_info *info);

/* open.c */
extern struct qblk_driver qblk_drv_qcow2;
int qcow2_init(void);
int qcow2_autoclear(struct qcow2_state *s, struct qblk_err *err);
void qcow2_exit(void);

#endif /* _QBLK_QCOW2_H */
