/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Nodes and edges of the block graph.
 *
 * Locking: the shape of the graph (lists, parents, children, names) changes
 * only under qblk_control_mutex, and an edge only while the subtree is drained,
 * so I/O follows child pointers without a lock.
 */
#ifndef _QBLK_NODE_H
#define _QBLK_NODE_H

#include <linux/bits.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/srcu.h>
#include <linux/types.h>

struct dentry;
struct file;
struct qblk_driver;
struct qblk_err;
struct qblk_flat;
struct qblk_opt;

#define QBLK_NODE_NAME_LEN	32	/* with NUL, QEMU's limit */
#define QBLK_CHILD_NAME_LEN	32

/* Longest backing chain and deepest nesting of formats that can be opened. */
#define QBLK_MAX_CHAIN		200

extern struct mutex qblk_control_mutex;

/* Roles of a child, BDRV_CHILD_* of QEMU */
#define QBLK_CHILD_DATA		BIT(0)
#define QBLK_CHILD_METADATA	BIT(1)
#define QBLK_CHILD_FILTERED	BIT(2)
#define QBLK_CHILD_COW		BIT(3)
#define QBLK_CHILD_PRIMARY	BIT(4)

/* Permissions of an edge, BLK_PERM_* of QEMU */
#define QBLK_PERM_CONSISTENT_READ	BIT(0)
#define QBLK_PERM_WRITE			BIT(1)
#define QBLK_PERM_WRITE_UNCHANGED	BIT(2)
#define QBLK_PERM_RESIZE		BIT(3)
#define QBLK_PERM_ALL			0xfU

/**
 * enum qblk_detect_zeroes - what becomes of writes that are all zero
 * @QBLK_DETECT_ZEROES_OFF: nothing
 * @QBLK_DETECT_ZEROES_ON: they become writes of zeroes
 * @QBLK_DETECT_ZEROES_UNMAP: which may free the space
 */
enum qblk_detect_zeroes {
	QBLK_DETECT_ZEROES_OFF,
	QBLK_DETECT_ZEROES_ON,
	QBLK_DETECT_ZEROES_UNMAP,
};

/**
 * struct qblk_limits - what a node can do; BlockLimits of QEMU
 * @request_alignment: offsets and lengths of data I/O, bytes, power of two;
 *	1 for none.  qblk_preadv() and friends pad to it.
 * @dma_alignment: mask for memory addresses of data
 * @logical_block_size: smallest block a disk on this node should offer, bytes
 * @physical_block_size: bytes
 * @io_min: bytes, 0 for unknown
 * @io_opt: bytes, 0 for unknown
 * @max_transfer: longest data request, bytes, 0 for any
 * @pdiscard_alignment: granularity of discards, bytes, 0 for none
 * @max_pdiscard: longest discard, bytes, 0 for any
 * @max_pwrite_zeroes: longest write of zeroes, bytes, 0 for any
 * @can_discard: ->pdiscard() does something
 * @can_write_zeroes: ->pwrite_zeroes() is better than writing zeroes
 * @fua: ->submit() and ->pwritev() honour FUA
 * @rotational: as the queue flag
 * @stable_writes: memory must not change while it is written
 * @submit_sleeps: ->submit() may sleep for memory
 * @can_grow: a write past the end makes the node longer
 *
 * Folded from the leaves to the root when a node is opened.
 */
struct qblk_limits {
	u32 request_alignment;
	u32 dma_alignment;
	u32 logical_block_size;
	u32 physical_block_size;
	u32 io_min;
	u32 io_opt;
	u64 max_transfer;
	u32 pdiscard_alignment;
	u64 max_pdiscard;
	u64 max_pwrite_zeroes;
	bool can_discard;
	bool can_write_zeroes;
	bool fua;
	bool rotational;
	bool stable_writes;
	bool submit_sleeps;
	bool can_grow;
};

/**
 * struct qblk_child - an edge: a parent's use of a node; BdrvChild of QEMU
 * @node: the node used
 * @parent: the node that uses it, NULL for the edge of an export
 * @name: ``file``, ``backing``, ...; ``root`` for the edge of an export
 * @desc: the parent in messages: ``disk qblk0``, ``node fmt0``
 * @role: QBLK_CHILD_*
 * @perm: permissions used
 * @shared_perm: permissions others may use meanwhile
 * @frozen: the edge may not be changed
 * @parent_entry: in the parent's children
 * @node_entry: in the node's parents
 */
struct qblk_child {
	struct qblk_node *node;
	struct qblk_node *parent;
	char name[QBLK_CHILD_NAME_LEN];
	char desc[64];
	u32 role;
	u32 perm;
	u32 shared_perm;
	bool frozen;
	struct list_head parent_entry;
	struct list_head node_entry;
};

/**
 * struct qblk_node - an opened driver; BlockDriverState of QEMU
 * @drv: its driver, pinned
 * @priv: the driver's &qblk_driver.instance_size bytes, zeroed before open
 * @name: unique
 * @label: path or description of the image as the user gave it, for display
 *	only, never opened; may be NULL
 * @read_only: no write is accepted
 * @discard_unmap: discards are passed on (discard=unmap)
 * @detect_zeroes: what becomes of writes that are all zero
 * @implicit: goes away with its last parent
 * @no_backing: the user left the backing file out, whatever the header says
 * @length: bytes, for drivers without ->getlength()
 * @limits: folded limits
 * @file: the edge named ``file`` or NULL
 * @backing: the edge named ``backing`` or NULL
 * @data_file: the edge named ``data-file`` or NULL
 * @fd_file: the open file handed over for a protocol node, or NULL; released
 *	after ->close()
 * @ref: references beside the control path's: each edge holds one
 * @children: edges to the nodes below
 * @parents: edges that use this node
 * @entry: in the list of all nodes
 * @io_srcu: I/O in flight; only with @tracked
 * @tracked: host offsets may be freed under I/O
 * @dead: forced away: every request fails with -EIO
 * @serialising: requests that overlap must wait, see core/serialise.c
 * @bounce: buffers for unaligned I/O, on leaves
 * @flat: where walks through the chain end, see core/flat.c; or NULL
 * @debugfs: directory with what the driver tells, or an ERR_PTR
 * @walk: in the list of a walk over the graph
 * @drained: nesting of qblk_drain_begin()
 * @chain_depth: most ``backing`` edges on a path below
 * @nest_depth: most other edges on a path below
 * @track_depth: most tracked nodes on a path, this node included
 */
struct qblk_node {
	const struct qblk_driver *drv;
	void *priv;
	char name[QBLK_NODE_NAME_LEN];
	char *label;
	bool read_only;
	bool discard_unmap;
	enum qblk_detect_zeroes detect_zeroes;
	bool implicit;
	bool no_backing;
	bool tracked;
	bool dead;
	u64 length;
	struct qblk_limits limits;
	struct qblk_child *file;
	struct qblk_child *backing;
	struct qblk_child *data_file;
	struct file *fd_file;
	struct kref ref;
	struct list_head children;
	struct list_head parents;
	struct list_head entry;
	struct srcu_struct io_srcu;
	struct qblk_serialising *serialising;
	mempool_t *bounce;
	struct qblk_flat *flat;
	struct dentry *debugfs;
	struct list_head walk;
	unsigned int drained;
	unsigned int chain_depth;
	unsigned int nest_depth;
	unsigned int track_depth;
};

/**
 * struct qblk_child_ref - a child named by whoever opens a node
 * @name: ``file``, ``backing``, ...
 * @node: the node to use, or NULL: ``backing`` is left out on purpose
 */
struct qblk_child_ref {
	const char *name;
	struct qblk_node *node;
};

/**
 * struct qblk_node_params - what a node is opened from
 * @driver: driver name
 * @name: node name, or NULL for a generated ``#blockN``
 * @label: path for display, or NULL
 * @opts: options, driver's and common ones (read-only, discard, detect-zeroes)
 * @nr_opts: number of @opts
 * @children: child nodes
 * @nr_children: number of @children
 * @file: the open file of a protocol node, or NULL; a reference is taken
 * @implicit: see &qblk_node.implicit
 */
struct qblk_node_params {
	const char *driver;
	const char *name;
	const char *label;
	struct qblk_opt *opts;
	unsigned int nr_opts;
	const struct qblk_child_ref *children;
	unsigned int nr_children;
	struct file *file;
	bool implicit;
};

/**
 * qblk_node_open - open a node and add it to the graph
 * @p: what to open
 * @err: gets the sentence on failure
 *
 * Context: process, qblk_control_mutex held.  May load a module and read the
 * image.  An implicit node without a parent is closed by qblk_node_reap().
 *
 * Return: the node, owned by the graph, or an ERR_PTR: -ENOENT for an unknown
 * driver, -EEXIST for a name in use, -EINVAL, -EBUSY, or what ->open() says.
 */
struct qblk_node *qblk_node_open(const struct qblk_node_params *p,
				 struct qblk_err *err);

/**
 * qblk_node_find - look up a node by name
 * @name: its name
 *
 * Context: qblk_control_mutex held, which keeps the node.
 */
struct qblk_node *qblk_node_find(const char *name);

/**
 * qblk_node_del - flush, close and free a node nobody uses
 * @node: the node
 * @force: close it even if the flush fails
 * @err: gets the sentence on failure
 *
 * Context: process, qblk_control_mutex held.
 *
 * Return: 0; -EBUSY with the parents named; the error of the flush, and the
 * node stays.
 */
int qblk_node_del(struct qblk_node *node, bool force, struct qblk_err *err);

/**
 * qblk_node_reap - close implicit nodes that have no parent (any more)
 *
 * Parents first, so a whole chain goes.  Context: qblk_control_mutex held.
 */
void qblk_node_reap(void);

/**
 * qblk_child_attach - add an edge
 * @parent: the node that will use @node, or NULL for an export
 * @node: the node to use
 * @name: of the edge
 * @role: QBLK_CHILD_*
 * @perm: QBLK_PERM_* used
 * @shared_perm: QBLK_PERM_* others may use
 * @desc: the parent in messages
 * @err: gets the sentence on failure
 *
 * Context: qblk_control_mutex held.
 *
 * Return: the edge, or an ERR_PTR: -EBUSY for a permission conflict, -EPERM
 * for a write to a read-only node, -ELOOP for a cycle, -ENOMEM.
 */
struct qblk_child *qblk_child_attach(struct qblk_node *parent,
				     struct qblk_node *node, const char *name,
				     u32 role, u32 perm, u32 shared_perm,
				     const char *desc, struct qblk_err *err);

/**
 * qblk_child_detach - remove an edge; no I/O may be using it
 * @child: the edge, freed
 *
 * Context: qblk_control_mutex held.
 */
void qblk_child_detach(struct qblk_child *child);

/**
 * qblk_node_length - size of what a node shows, in bytes
 * @node: the node
 *
 * Any context; the length of a file grows as it is written.
 */
u64 qblk_node_length(const struct qblk_node *node);

/**
 * qblk_drain_begin - stop I/O from above into a subtree and wait for it
 * @node: root of the subtree
 *
 * Freezes the queue of every export above @node, tells the drivers
 * (->drain_begin()), and waits until no I/O is in flight in it.  Nests.
 * Context: process, qblk_control_mutex held.  Never from a worker an I/O above
 * depends on.
 */
void qblk_drain_begin(struct qblk_node *node);

/**
 * qblk_drain_end - undo one qblk_drain_begin()
 * @node: root of the subtree
 */
void qblk_drain_end(struct qblk_node *node);

/**
 * qblk_event_corrupted - tell listeners that an image is broken
 * @node: the node
 * @fatal: the node refuses writes from now on
 * @offset: host offset concerned, or -1
 * @bytes: length, or -1
 * @msg: what is wrong, one sentence
 *
 * Logs, and sends the multicast event.  Process context.
 */
void qblk_event_corrupted(const struct qblk_node *node, bool fatal, s64 offset,
			  s64 bytes, const char *msg);

#endif /* _QBLK_NODE_H */
