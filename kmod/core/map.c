// SPDX-License-Identifier: GPL-2.0
/*
 * The mapping walk: from an offset in a node to the leaf that holds it.
 *
 * A loop, not a recursion: a backing chain may be 200 deep and this runs on
 * whatever stack submitted the bio.  The shape of the graph does not change
 * under I/O (see node.h), so child pointers are followed without a lock.
 */
#include "core.h"

#include <linux/export.h>
#include <linux/minmax.h>

/* Begin and end pair up across functions, which sparse cannot follow. */
int qblk_node_io_begin(struct qblk_node *node) __acquires(&node->io_srcu)
{
	return srcu_down_read(&node->io_srcu);
}
EXPORT_SYMBOL_GPL(qblk_node_io_begin);

void qblk_node_io_end(struct qblk_node *node, int idx)
	__releases(&node->io_srcu)
{
	srcu_up_read(&node->io_srcu, idx);
}
EXPORT_SYMBOL_GPL(qblk_node_io_end);

void qblk_node_io_sync(struct qblk_node *node)
{
	synchronize_srcu(&node->io_srcu);
}
EXPORT_SYMBOL_GPL(qblk_node_io_sync);

void qblk_tracks_release(struct qblk_tracks *tracks)
{
	while (tracks->nr) {
		tracks->nr--;
		qblk_node_io_end(tracks->slot[tracks->nr].node,
				 tracks->slot[tracks->nr].idx);
	}
}
EXPORT_SYMBOL_GPL(qblk_tracks_release);

/* Opening checked that no path has more tracked nodes than slots */
static int tracks_add(struct qblk_tracks *tracks, struct qblk_node *node)
{
	if (!node->tracked)
		return 0;
	if (WARN_ON_ONCE(tracks->nr == QBLK_MAX_TRACKS))
		return -EIO;
	tracks->slot[tracks->nr].node = node;
	tracks->slot[tracks->nr].idx = qblk_node_io_begin(node);
	tracks->nr++;
	return 0;
}

/**
 * struct walk - state of one walk
 * @node: in which @bytes at @offset are looked for
 * @offset: bytes
 * @bytes: not 0
 * @flags: QBLK_MAP_*
 * @flat: the first node below which the chain is known as flat.c knows it, when
 *	the walk is to find out more: it looks for a block around what was asked
 * @start: of that block in @flat
 * @skip: from there to what was asked
 * @asked: bytes that were
 * @mixed: something on the way below @flat may move
 * @plain: flat.c was asked already, or is not to be
 */
struct walk {
	struct qblk_node *node;
	u64 offset;
	u64 bytes;
	unsigned int flags;
	struct qblk_node *flat;
	u64 start;
	u32 skip;
	u32 asked;
	bool mixed;
	bool plain;
};

static int walk_found(const struct walk *w, enum qblk_map_type type,
		      struct qblk_mapping *m)
{
	m->type = type;
	m->node = w->node;
	m->offset = w->offset;
	m->bytes = w->bytes;
	return 0;
}

/*
 * A leaf.  Tier 1 sends what is found here as it is, so without MAY_SLEEP only
 * whole blocks are answered: a piece that ends inside a block is cut before it
 * and comes back as a piece of its own, which needs padding.
 */
static int walk_leaf(struct walk *w, struct qblk_mapping *m)
{
	u64 align = w->node->limits.request_alignment;

	if (!(w->flags & QBLK_MAP_MAY_SLEEP)) {
		w->bytes = round_down(w->bytes, align);
		if ((w->offset & (align - 1)) || !w->bytes)
			return -EAGAIN;
		if ((w->flags & QBLK_MAP_WRITE) &&
		    qblk_serialising_strict(w->node))
			return -EAGAIN;
	}
	return walk_found(w, QBLK_MAP_DATA, m);
}

/* A driver must not answer about nothing, nor about more than was asked */
static bool extent_sane(const struct walk *w, const struct qblk_extent *ext)
{
	return ext->bytes && ext->bytes <= w->bytes &&
	       (ext->type != QBLK_MAP_DATA || ext->child);
}

/*
 * One step down.  Return: 0 when @m is the answer, 1 to go on, or an error.
 */
static int walk_step(struct walk *w, const struct qblk_extent *ext,
		     struct qblk_mapping *m)
{
	w->bytes = ext->bytes;
	if (ext->type == QBLK_MAP_DATA) {
		w->node = ext->child->node;
		w->offset = ext->offset;
		return 1;
	}
	if (w->flags & QBLK_MAP_WRITE)
		return -EAGAIN;
	if (ext->type == QBLK_MAP_UNALLOCATED && w->node->backing) {
		w->node = w->node->backing->node;
		return 1;
	}
	return walk_found(w, ext->type == QBLK_MAP_ENCODED ?
			  QBLK_MAP_ENCODED : QBLK_MAP_ZERO, m);
}

static int walk_node(struct walk *w, struct qblk_mapping *m)
{
	struct qblk_extent ext = {};
	int ret;

	ret = tracks_add(&m->tracks, w->node);
	if (ret)
		return ret;
	ret = w->node->drv->map(w->node, w->offset, w->bytes, w->flags, &ext);
	if (ret)
		return ret;
	if (WARN_ON_ONCE(!extent_sane(w, &ext)))
		return -EIO;
	return walk_step(w, &ext, m);
}

/* From here on, look for all of the block around what was asked. */
static void walk_widen(struct walk *w)
{
	w->flat = w->node;
	w->skip = w->offset & (QBLK_FLAT_BLOCK - 1);
	w->asked = w->bytes;
	w->start = w->offset - w->skip;
	w->offset = w->start;
	w->bytes = min(QBLK_FLAT_BLOCK, qblk_node_length(w->node) - w->start);
}

/*
 * At a node that may know where the walk ends.  What it does not know is found
 * out without sleeping, which reports no error: what was not asked may be
 * broken.  Return: the walk goes on elsewhere.
 */
static bool walk_flat(struct walk *w)
{
	struct qblk_flat_where where;

	/* Longer than a block: a walk takes no longer than what it finds. */
	if ((w->offset & (QBLK_FLAT_BLOCK - 1)) + w->bytes > QBLK_FLAT_BLOCK)
		return false;
	switch (qblk_flat_find(w->node, w->offset, &where)) {
	case QBLK_FLAT_KNOWN:
		w->node = where.node;
		w->offset = where.offset;
		return true;
	case QBLK_FLAT_UNKNOWN:
		if (!(w->flags & QBLK_MAP_MAY_SLEEP))
			walk_widen(w);
		return false;
	default:
		return false;
	}
}

/*
 * A node ends where its length says, whatever the one above believes: past it,
 * reads give zeroes (a short backing file, a file shorter than its last
 * cluster), and a write is more than an overwrite in place.
 */
static int walk_visit(struct walk *w, struct qblk_mapping *m)
{
	bool write = w->flags & QBLK_MAP_WRITE;
	u64 len = qblk_node_length(w->node);

	if (READ_ONCE(w->node->dead))
		return -EIO;
	if (write && w->node->read_only)
		return -EPERM;
	/* The worker looks at the data, see qblk_pwritev(). */
	if (write && w->node->detect_zeroes && !(w->flags & QBLK_MAP_MAY_SLEEP))
		return -EAGAIN;
	if (w->offset >= len)
		return write ? -EAGAIN : walk_found(w, QBLK_MAP_ZERO, m);
	w->bytes = min(w->bytes, len - w->offset);
	if (qblk_node_is_leaf(w->node))
		return walk_leaf(w, m);
	if (!w->plain && qblk_flat_applies(w->node)) {
		w->plain = true;
		if (walk_flat(w))
			return 1;
	}
	if (w->flat && !w->node->read_only)
		w->mixed = true;
	return walk_node(w, m);
}

static int walk_run(struct walk *w, struct qblk_mapping *m)
{
	int ret;

	m->tracks.nr = 0;
	do {
		ret = walk_visit(w, m);
	} while (ret > 0);
	if (ret)
		qblk_tracks_release(&m->tracks);
	return ret;
}

/*
 * The walk found something about the block.  Return: @m is the answer, cut to
 * what was asked.
 */
static bool walk_learn(const struct walk *w, struct qblk_mapping *m)
{
	u64 end = min(w->start + QBLK_FLAT_BLOCK, qblk_node_length(w->flat));
	struct qblk_flat_where where = {};
	bool whole = !w->mixed && m->bytes == end - w->start;

	if (whole)
		where = (struct qblk_flat_where){ m->node, m->offset };
	qblk_flat_learn(w->flat, w->start, &where);
	if (!whole)
		return false;
	m->offset += w->skip;
	m->bytes = w->asked;
	return true;
}

int qblk_map(struct qblk_node *root, u64 offset, u64 bytes, unsigned int flags,
	     struct qblk_mapping *m)
{
	struct walk w = {
		.node = root,
		.offset = offset,
		.bytes = bytes,
		.flags = flags,
	};
	int ret;

	ret = walk_run(&w, m);
	if (likely(!w.flat) || (!ret && walk_learn(&w, m)))
		return ret;
	/* What was asked for is to be found by itself. */
	if (!ret)
		qblk_tracks_release(&m->tracks);
	w = (struct walk){
		.node = root,
		.offset = offset,
		.bytes = bytes,
		.flags = flags,
		.plain = true,
	};
	return walk_run(&w, m);
}
EXPORT_SYMBOL_GPL(qblk_map);
