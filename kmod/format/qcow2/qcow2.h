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
 *   xa_lock of a cache: which slices are in memory
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
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <qblk/driver.h>

#include "format.h"

/* Memory for what there is a reserve for: not worth much of an effort */
#define QCOW2_GFP_TRY	(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN)

/* Copied at once on copy on write, if not merged with the data */
#define QCOW2_COW_BYTES		(32U << 10)

/* Records of freed clusters, a few MiB of them */
#define QCOW2_MAX_FREES		65536

/* A slice is the unit metadata is cached in: 4 KiB, or a smaller cluster. */
#define QCOW2_MAX_SLICE_BITS	12

/**
 * struct qcow2_header - the header in host byte order
 *
 * Version 2 images get the values version 3 would have.
 */
struct qcow2_header {
	u32 version;
	u64 backing_file_offset;
	u32 backing_file_size;
	u32 cluster_bits;
	u64 size;
	u32 crypt_method;
	u32 l1_size;
	u64 l1_table_offset;
	u64 refcount_table_offset;
	u32 refcount_table_clusters;
	u32 nb_snapshots;
	u64 snapshots_offset;
	u64 incompatible_features;
	u64 compatible_features;
	u64 autoclear_features;
	u32 refcount_order;
	u32 header_length;
	u8 compression_type;
};

/**
 * struct qcow2_exts - what the header extensions say
 * @backing_format: empty for none
 * @backing_file: empty for none
 * @has_bitmaps: there is a bitmaps extension
 * @has_data_file: there is a data file name
 */
struct qcow2_exts {
	char backing_format[QCOW2_MAX_FORMAT_NAME + 1];
	char backing_file[QCOW2_MAX_BACKING_NAME + 1];
	bool has_bitmaps;
	bool has_data_file;
};

/**
 * enum qcow2_cluster_type - what an L2 entry says; QEMU's QCow2ClusterType
 */
enum qcow2_cluster_type {
	QCOW2_UNALLOCATED,
	QCOW2_ZERO_PLAIN,
	QCOW2_ZERO_ALLOC,
	QCOW2_NORMAL,
	QCOW2_COMPRESSED,
};

/**
 * struct qcow2_slice - a piece of an L2 table or refcount block in memory
 * @rcu: frees it after the lookups that may still see it
 * @ref: one of the cache, one per user
 * @flags: QCOW2_SLICE_*
 * @key: host offset >> slice_bits
 * @lru: in the cache's list
 * @data: 1 << slice_bits bytes, big endian as on disk
 */
struct qcow2_slice {
	struct rcu_head rcu;
	refcount_t ref;
	unsigned long flags;
	unsigned long key;
	struct list_head lru;
	void *data;
};

#define QCOW2_SLICE_READING	0	/* being read in, wait on the bit */
#define QCOW2_SLICE_UPTODATE	1
#define QCOW2_SLICE_DIRTY	2	/* changes under lock */
#define QCOW2_SLICE_REFERENCED	3	/* second chance */

/**
 * struct qcow2_cache - slices of one kind of table
 * @file: where the tables are
 * @slices: by key; XA_MARK_0 marks the dirty ones.  Its lock also covers
 *	@lru, @nr and @nr_dirty
 * @lru: eviction order
 * @slice_bits: log2 of the bytes in a slice
 * @nr: slices in memory
 * @nr_dirty: of these, dirty
 * @max: clean slices are evicted above this many
 * @hits: lookups that found their slice, worker only
 * @misses: lookups that read from disk
 * @spare: for when there is no memory; NULL while it is in use
 */
struct qcow2_cache {
	struct qblk_child *file;
	struct xarray slices;
	struct list_head lru;
	unsigned int slice_bits;
	unsigned int nr;
	unsigned int nr_dirty;
	unsigned int max;
	atomic64_t hits;
	atomic64_t misses;
	struct qcow2_slice *spare;
};

#define QCOW2_CACHE_DIRTY	XA_MARK_0

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
 * struct qcow2_alloc - an allocation in flight
 * @entry: in &qcow2_state.allocs
 * @slice: pinned, holds the L2 entries
 * @index: of the first entry in @slice
 * @nr: clusters
 * @guest: offset of the first cluster, as the guest sees it
 * @host: offset of the first cluster in the file
 * @reuse: the clusters were allocated before (zero clusters)
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
	bool reuse;
	bool fresh;
	struct list_head frees;
};

/**
 * struct qcow2_state - an open image; BDRVQcow2State of QEMU
 * @node: its node
 * @file: where metadata and data are
 * @hdr: header as read, with fields kept current that can change
 * @exts: header extensions
 * @cluster_bits: log2 of the cluster size
 * @cluster_size: bytes
 * @l2_bits: log2 of the entries in an L2 table
 * @refblock_bits: log2 of the entries in a refcount block
 * @refcount_order: log2 of the bits of a refcount
 * @slice_bits: log2 of the bytes in a slice
 * @lock: see above
 * @header_lock: see above
 * @wb_mutex: see above
 * @l1: L1 table, host byte order; read without a lock
 * @reftable: refcount table, host byte order
 * @reftable_size: entries
 * @reftable_offset: host offset; like @reftable_size read without a lock
 * @snapshots_bytes: length of the snapshot table
 * @l2_filter: where L2 tables are; only in writable images
 * @ref_filter: where refcount blocks are, likewise
 * @l2_cache: L2 slices
 * @ref_cache: refcount block slices
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
 * @inbuf: buffers for compressed bytes
 * @free_pool: records of freed clusters
 * @cow_pool: buffers of qcow2_cow_bytes() for copy on write
 * @buf: for tables, used under @lock
 * @buf_bytes: its size
 */
struct qcow2_state {
	struct qblk_node *node;
	struct qblk_child *file;
	struct qcow2_header hdr;
	struct qcow2_exts exts;
	u32 cluster_bits;
	u32 cluster_size;
	u32 l2_bits;
	u32 refblock_bits;
	u32 refcount_order;
	u32 slice_bits;
	struct mutex lock;		/* metadata */
	struct mutex header_lock;	/* fields of the header on disk */
	struct mutex wb_mutex;		/* write-back */
	u64 *l1;
	u64 *reftable;
	u32 reftable_size;
	u64 reftable_offset;
	u64 snapshots_bytes;
	struct qcow2_filter l2_filter;
	struct qcow2_filter ref_filter;
	struct qcow2_cache l2_cache;
	struct qcow2_cache ref_cache;
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
	mempool_t *inbuf;
	mempool_t *free_pool;
	mempool_t *cow_pool;
	void *buf;
	u32 buf_bytes;
};

/**
 * struct qcow2_opts - options, parsed
 * @l2_cache_size: bytes
 * @refcount_cache_size: bytes
 */
struct qcow2_opts {
	u64 l2_cache_size;
	u64 refcount_cache_size;
};

static inline u64 qcow2_offset_in_cluster(const struct qcow2_state *s, u64 off)
{
	return off & (s->cluster_size - 1);
}

static inline u64 qcow2_start_of_cluster(const struct qcow2_state *s, u64 off)
{
	return off & ~((u64)s->cluster_size - 1);
}

static inline u32 qcow2_cow_bytes(const struct qcow2_state *s)
{
	return min(s->cluster_size, QCOW2_COW_BYTES);
}

/* Entries in a slice of an L2 table, log2 */
static inline u32 qcow2_slice_l2_bits(const struct qcow2_state *s)
{
	return s->slice_bits - 3;
}

/* codec.c: pure functions of bytes */
int qcow2_header_parse(const u8 *buf, size_t len, struct qcow2_header *h,
		       const char *who, struct qblk_err *err);
int qcow2_header_check(const struct qcow2_header *h, const char *who,
		       struct qblk_err *err);
int qcow2_exts_parse(const struct qcow2_header *h, const u8 *buf, size_t len,
		     struct qcow2_exts *x, const char *who,
		     struct qblk_err *err);
void qcow2_feature_names(const struct qcow2_header *h, const u8 *buf,
			 size_t len, u64 unknown, char *out, size_t size);
size_t qcow2_header_area(const struct qcow2_header *h);
enum qcow2_cluster_type qcow2_cluster_type(u64 entry);
unsigned int qcow2_count_run(u64 first, const __be64 *l2, unsigned int nr,
			     u32 cluster_bits, bool in_place);
void qcow2_compressed_extent(u64 entry, u32 cluster_bits, u64 *offset,
			     u32 *bytes);
u64 qcow2_refcount_get(const void *block, u32 order, u32 index);
void qcow2_refcount_set(void *block, u32 order, u32 index, u64 value);
u64 qcow2_refcount_max(u32 order);
u64 qcow2_l1_entries(u64 size, u32 cluster_bits, u32 l2_bits);

/* cache.c */
int qcow2_cache_init(struct qcow2_cache *c, struct qblk_child *file,
		     u32 slice_bits, u64 bytes);
void qcow2_cache_exit(struct qcow2_cache *c);
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
int qcow2_l2_lookup(struct qcow2_state *s, u64 offset, u64 *entry);
int qcow2_l2_get_writable(struct qcow2_state *s, u64 offset,
			  struct qcow2_slice **slicep, unsigned int *index);
void qcow2_l2_set(struct qcow2_state *s, struct qcow2_slice *slice,
		  unsigned int index, u64 entry);
u64 qcow2_l2_entry(const struct qcow2_slice *slice, unsigned int index);
int qcow2_l2_check(struct qcow2_state *s, u64 guest, u64 entry);

/* refcount.c */
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
int qcow2_free_prepare(struct qcow2_state *s, u64 entry, bool discard,
		       struct list_head *list);
void qcow2_free_commit(struct qcow2_state *s, struct list_head *list);
void qcow2_free_records(struct qcow2_state *s, struct list_head *list);
void qcow2_free_deferred(struct qcow2_state *s, u64 offset, u64 nr);
void qcow2_free_work_fn(struct work_struct *work);
bool qcow2_free_retry(struct qcow2_state *s, int error, unsigned long done,
		      unsigned int *tries);
int qcow2_free_throttle(struct qcow2_state *s);
bool qcow2_free_pending(struct qcow2_state *s);

/* write.c */
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

/* compress.c */
int qcow2_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		 struct iov_iter *iter, unsigned int flags);
int qcow2_inbuf_init(struct qcow2_state *s);
void qcow2_inbuf_exit(struct qcow2_state *s);
int qcow2_zpool_reserve(u32 cluster_size);
void qcow2_zpool_exit(void);

/* corrupt.c */
__printf(5, 6)
int qcow2_corrupt(struct qcow2_state *s, bool fatal, s64 offset, s64 bytes,
		  const char *fmt, ...);
int qcow2_header_write(struct qcow2_state *s, u32 field, const void *buf,
		       size_t len);
int qcow2_filters_init(struct qcow2_state *s);
void qcow2_filters_exit(struct qcow2_state *s);
void qcow2_filter_add(struct qcow2_filter *f, u64 cluster);
bool qcow2_may_be_table(const struct qcow2_state *s, u64 offset, u64 bytes);
bool qcow2_is_metadata(const struct qcow2_state *s, u64 offset, u64 bytes);
int qcow2_check_write(struct qcow2_state *s, u64 offset, u64 bytes);
bool qcow2_l2_misplaced(const struct qcow2_state *s, u64 offset);
bool qcow2_block_misplaced(const struct qcow2_state *s, u64 offset);

/* open.c */
extern struct qblk_driver qblk_drv_qcow2;
void qcow2_exit(void);

#endif /* _QBLK_QCOW2_H */
