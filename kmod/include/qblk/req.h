/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests: the mapping walk of tier 1 and the blocking calls of tier 2.
 *
 * Units: every offset and length is in bytes.
 */
#ifndef _QBLK_REQ_H
#define _QBLK_REQ_H

#include <linux/bio.h>
#include <linux/bits.h>
#include <linux/blk_types.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/types.h>
#include <linux/uio.h>

struct qblk_child;
struct qblk_node;
struct qblk_serialising;

/**
 * enum qblk_map_type - what ->map() found at an offset
 * @QBLK_MAP_DATA: bytes of a child, at &qblk_extent.offset
 * @QBLK_MAP_ZERO: reads as zeroes
 * @QBLK_MAP_UNALLOCATED: not in this layer: same offset of ``backing``, or
 *	zeroes without one and past its end
 * @QBLK_MAP_ENCODED: data that only ->preadv() of this node can produce
 *	(compressed, encrypted)
 */
enum qblk_map_type {
	QBLK_MAP_DATA,
	QBLK_MAP_ZERO,
	QBLK_MAP_UNALLOCATED,
	QBLK_MAP_ENCODED,
};

/* Flags of ->map() and qblk_map() */
#define QBLK_MAP_WRITE		BIT(0)	/* in-place overwrite wanted */
#define QBLK_MAP_MAY_SLEEP	BIT(1)	/* metadata may be read in */

/**
 * struct qblk_extent - one answer of ->map()
 * @type: see &enum qblk_map_type
 * @child: with %QBLK_MAP_DATA, where the data is
 * @offset: with %QBLK_MAP_DATA, offset in @child
 * @bytes: length of the extent from the offset asked for; never 0, never more
 *	than was asked for; as long as the driver can tell without more work
 */
struct qblk_extent {
	enum qblk_map_type type;
	struct qblk_child *child;
	u64 offset;
	u64 bytes;
};

/*
 * Nodes whose mapping may change under I/O (%QBLK_DRV_REMAPS and writable) on
 * one path from the root to a leaf; opening a deeper nesting is refused.
 * Backing files are read-only and do not count.
 */
#define QBLK_MAX_TRACKS		3

/**
 * struct qblk_tracks - what keeps resolved host offsets from being reused
 * @nr: used slots
 * @slot: node, and index of its io_srcu
 *
 * Taken before the metadata is looked at, dropped when the I/O to the place
 * found there has completed: a cluster freed meanwhile becomes allocatable
 * only after a grace period of the node's io_srcu.
 */
struct qblk_tracks {
	unsigned int nr;
	struct {
		struct qblk_node *node;
		int idx;
	} slot[QBLK_MAX_TRACKS];
};

/**
 * struct qblk_mapping - one answer of qblk_map()
 * @type: %QBLK_MAP_DATA (@node is a leaf), %QBLK_MAP_ZERO, or
 *	%QBLK_MAP_ENCODED (call ->preadv() of @node)
 * @node: see @type
 * @offset: offset in @node
 * @bytes: length, never 0
 * @tracks: to be released when the I/O is complete
 */
struct qblk_mapping {
	enum qblk_map_type type;
	struct qblk_node *node;
	u64 offset;
	u64 bytes;
	struct qblk_tracks tracks;
};

/**
 * qblk_map - walk the graph to where the data is
 * @root: node the offset is in
 * @offset: where
 * @bytes: how much, not 0
 * @flags: QBLK_MAP_*
 * @m: result; on success the caller owns @m->tracks
 *
 * Iterates through filters, formats and backing chains without recursion.  With
 * %QBLK_MAP_WRITE only in-place writes are answered, never a backing node.
 * Any context without %QBLK_MAP_MAY_SLEEP (no allocation, no lock that
 * sleeps), process context with it.
 *
 * Return: 0; -EAGAIN when it cannot be told without sleeping, or, with
 * %QBLK_MAP_WRITE, when more than an in-place write is needed; -EIO for broken
 * metadata.  Nothing is held on failure.
 */
int qblk_map(struct qblk_node *root, u64 offset, u64 bytes, unsigned int flags,
	     struct qblk_mapping *m);

/**
 * qblk_tracks_release - the I/O to a mapping has completed
 * @tracks: of the mapping; empty afterwards
 *
 * Any context, not necessarily the task that mapped.
 */
void qblk_tracks_release(struct qblk_tracks *tracks);

/**
 * struct qblk_io - one asynchronous piece of I/O
 * @leaf: protocol node; with &qblk_driver.start_pwritev the format
 * @offset: in @leaf
 * @src: bio that owns the pages; stays valid until @end_io
 * @iter: the piece of @src, @iter.bi_size bytes; bi_sector is not used
 * @opf: REQ_OP_READ or REQ_OP_WRITE with REQ_FUA, REQ_SYNC, REQ_META, ...
 * @end_io: called exactly once for an accepted I/O, from any context;
 *	BLK_STS_AGAIN asks the submitter to do the piece again the blocking way
 * @tracks: released by the submitter's @end_io
 * @private: the submitter's
 * @bio: for leaves that send bios
 * @iocb: for leaves that send kiocbs
 * @iocb_ref: the submission and the completion of @iocb
 * @iocb_ret: result of @iocb
 * @timer: for leaves that only wait
 *
 * Embedded in the front end's request, so the hot path allocates nothing.
 */
struct qblk_io {
	struct qblk_node *leaf;
	u64 offset;
	struct bio *src;
	struct bvec_iter iter;
	blk_opf_t opf;
	void (*end_io)(struct qblk_io *io, blk_status_t status);
	struct qblk_tracks tracks;
	void *private;
	union {
		struct bio bio;
		struct {
			struct kiocb iocb;
			refcount_t iocb_ref;
			long iocb_ret;
		};
		struct hrtimer timer;
	};
};

/* Flags of the blocking write calls */
#define QBLK_REQ_FUA		BIT(0)	/* stable when it returns */
#define QBLK_REQ_MAY_UNMAP	BIT(1)	/* zeroes may free space */
#define QBLK_REQ_NO_FALLBACK	BIT(2)	/* -EOPNOTSUPP, not slow */

/*
 * The blocking calls.  Process context with memalloc_noio in force, may sleep;
 * no spinlock held.  They check the range against the child, zero-fill reads
 * past its end, pad to its request_alignment (read-modify-write, serialised
 * against overlapping writes), split to its limits, and emulate what it lacks
 * (zeroes, FUA).  @iter is an ITER_SOURCE or ITER_DEST bvec iterator with at
 * least @bytes left; it is advanced by @bytes on success, undefined on error.
 *
 * Return: 0; -EIO and what the driver below returns; -EPERM for a write to a
 * read-only node; -ENOSPC when the place under it is full, which includes a
 * write past the end of a node that cannot grow.
 */
int qblk_preadv(struct qblk_child *child, u64 offset, u64 bytes,
		struct iov_iter *iter, unsigned int flags);
int qblk_pwritev(struct qblk_child *child, u64 offset, u64 bytes,
		 struct iov_iter *iter, unsigned int flags);
int qblk_pwrite_zeroes(struct qblk_child *child, u64 offset, u64 bytes,
		       unsigned int flags);

/**
 * qblk_start_pwritev - start a write that may end later
 * @child: edge to the node
 * @io: the write, any byte range, with &qblk_io.leaf the node
 *
 * Zeroes are not detected and FUA is not emulated here: both are left to
 * qblk_pwritev().  Context: as that.
 *
 * Return: 0, and @io->end_io() is called, perhaps before this returns; or
 * -EAGAIN: qblk_pwritev() has to do it, as after %BLK_STS_AGAIN.
 */
int qblk_start_pwritev(struct qblk_child *child, struct qblk_io *io);

/**
 * struct qblk_tracked - a write in flight on a leaf
 * @ser: where it is listed, NULL when the leaf does not track
 * @entry: in the order of arrival
 * @start: first byte
 * @end: byte after the last
 * @serialising: read-modify-write: nothing may overlap it
 */
struct qblk_tracked {
	struct qblk_serialising *ser;
	struct list_head entry;
	u64 start;
	u64 end;
	bool serialising;
};

/**
 * struct qblk_append_io - a write to the end of a leaf that does not wait
 * @offset: in the leaf
 * @iter: an ITER_SOURCE bvec iterator over all of it; what it names stays
 *	until @written
 * @written: called once, from a worker, may sleep; @ret is 0 or what the write
 *	failed with
 * @end_io: called once, after @written of all that was written together; does
 *	not sleep, and @io is its owner's again
 * @tracked: lists it at the leaf
 * @entry: for the leaf
 */
struct qblk_append_io {
	u64 offset;
	struct iov_iter iter;
	void (*written)(struct qblk_append_io *io, int ret);
	void (*end_io)(struct qblk_append_io *io);
	struct qblk_tracked tracked;
	struct list_head entry;
};

/**
 * qblk_start_append - start a write that makes a leaf longer
 * @child: edge to the leaf
 * @io: with the first four fields set
 *
 * Leaves that can join writes which lie side by side; see protocol/append.c.
 * Until @io->end_io(), its owner holds nothing that somebody who writes to the
 * leaf waits for.  Context: as qblk_pwritev().
 *
 * Return: 0, or -EAGAIN: qblk_pwritev() has to do it.
 */
int qblk_start_append(struct qblk_child *child, struct qblk_append_io *io);

/**
 * qblk_append_written - an append has been written, or has failed
 * @io: accepted by &qblk_driver.append
 * @ret: 0 or a negative errno
 *
 * For leaves, which call @io->end_io() afterwards.  Who waits for @io may go on
 * before its owner learns of it.
 */
void qblk_append_written(struct qblk_append_io *io, int ret);

/**
 * qblk_pdiscard - the range is no longer needed
 * @child: edge to the node
 * @offset: where
 * @bytes: how much
 *
 * A hint: unaligned ends are dropped, a driver without discard and a node with
 * discard=ignore succeed without doing anything.
 *
 * Return: 0 or a negative errno from the driver.
 */
int qblk_pdiscard(struct qblk_child *child, u64 offset, u64 bytes);

/**
 * qblk_flush - everything written before is stable afterwards
 * @child: edge to the node
 *
 * Metadata of the nodes below first, then the leaves.  A read-only node has
 * nothing to flush and succeeds.
 */
int qblk_flush(struct qblk_child *child);

/**
 * qblk_pread - read into kernel memory
 * @child: edge to the node
 * @offset: where
 * @bytes: how much
 * @buf: from kmalloc(), the page allocator or vmalloc()
 */
int qblk_pread(struct qblk_child *child, u64 offset, u64 bytes, void *buf);

/**
 * qblk_pwrite - write from kernel memory
 * @child: edge to the node
 * @offset: where
 * @bytes: how much
 * @buf: from kmalloc(), the page allocator or vmalloc()
 * @flags: QBLK_REQ_*
 */
int qblk_pwrite(struct qblk_child *child, u64 offset, u64 bytes,
		const void *buf, unsigned int flags);

/**
 * qblk_mapping_read - read what was found
 * @m: from qblk_map() with %QBLK_MAP_MAY_SLEEP, @m->tracks not released yet
 * @iter: destination, advanced
 *
 * Context: process.
 *
 * Return: 0 or a negative errno.
 */
int qblk_mapping_read(const struct qblk_mapping *m, struct iov_iter *iter);

/**
 * qblk_node_preadv - read what a node and its backing chain hold
 * @node: the node itself, not an edge: for copy-on-write
 * @offset: where
 * @bytes: how much
 * @iter: destination, advanced
 *
 * As qblk_preadv(), which is this on the child's node.
 */
int qblk_node_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		     struct iov_iter *iter);

/**
 * qblk_node_io_begin - keep host offsets found from now on from being reused
 * @node: node with an io_srcu
 *
 * Return: cookie for qblk_node_io_end().  Any context.
 */
int qblk_node_io_begin(struct qblk_node *node);

/**
 * qblk_node_io_end - see qblk_node_io_begin()
 * @node: the node
 * @idx: the cookie; the end may come from another context than the begin
 */
void qblk_node_io_end(struct qblk_node *node, int idx);

/**
 * qblk_node_io_sync - wait until all I/O begun before this call has ended
 * @node: node with an io_srcu
 *
 * May sleep for as long as the slowest I/O; never from a path such an I/O
 * waits for.
 */
void qblk_node_io_sync(struct qblk_node *node);

/**
 * qblk_io_enter - become a task that does I/O for a disk
 *
 * For workers: allocations do not start I/O, which could come back here, and
 * buffered writes to a file are not throttled for the dirty pages that wait
 * for this very task (PF_LOCAL_THROTTLE, as in the loop driver).
 *
 * Return: cookie for qblk_io_leave().
 */
static inline unsigned int qblk_io_enter(void)
{
	unsigned int flags = current->flags;

	current->flags |= PF_LOCAL_THROTTLE | PF_MEMALLOC_NOIO;
	return flags;
}

/**
 * qblk_io_leave - undo qblk_io_enter()
 * @flags: the cookie
 */
static inline void qblk_io_leave(unsigned int flags)
{
	current_restore_flags(flags, PF_LOCAL_THROTTLE | PF_MEMALLOC_NOIO);
}

#endif /* _QBLK_REQ_H */
