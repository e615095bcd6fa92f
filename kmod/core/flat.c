// SPDX-License-Identifier: GPL-2.0
/*
 * Where a walk through a read-only chain ends: what was found once is not
 * looked for again, level by level.
 *
 * What is kept.  For a block of a node, the node in which the walk ends and the
 * offset there: the leaf with its data, or the node that calls it zero or
 * encoded.  The walk goes on from there, so whatever that node or leaf checks
 * is checked each time.  A block in which parts lie in different places is
 * known as mixed, and walked.
 *
 * Why it never becomes wrong.  All nodes that are skipped are read-only and not
 * tracked: for as long as they are open, none of their offsets moves.  The
 * edges below a node are made when it is opened and go when it is closed, and
 * with it goes what is kept for it.  So nothing is invalidated, and whoever
 * makes a node writable under those above, or changes an edge, will have to
 * call qblk_flat_free() for those above it while they are drained.
 *
 * Lookups take no lock.  A chunk, once it is there, stays until the node is
 * closed; its entries change under the lock of the cache and the sequence
 * counter of the chunk, so a lookup sees the members of an entry as they were
 * put in together.
 *
 * Memory: a chunk is made when a block in it is first walked, without waiting
 * for memory and without being missed.  Blocks share entries, so all chunks of
 * a node take QBLK_FLAT_CHUNKS pages at most.  Only the first such node that a
 * walk meets keeps something: of a chain, the topmost that is read-only.
 */
#include "core.h"

#include <linux/seqlock.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#define QBLK_FLAT_CHUNK_BITS	7
#define QBLK_FLAT_CHUNKS	256

/**
 * struct qblk_flat_entry - what is known of a block
 * @tag: number of the block plus 1, or 0
 * @node: where the walk goes on, NULL for a mixed block
 * @offset: there
 */
struct qblk_flat_entry {
	u64 tag;
	struct qblk_node *node;
	u64 offset;
};

/**
 * struct qblk_flat_chunk - entries of neighbours
 * @seq: of @entry, counts under &qblk_flat.lock
 * @entry: by the low bits of the number of a block
 */
struct qblk_flat_chunk {
	seqcount_spinlock_t seq;
	struct qblk_flat_entry entry[1 << QBLK_FLAT_CHUNK_BITS];
};

/**
 * struct qblk_flat - what is known of the blocks of a node
 * @lock: taken by who changes entries
 * @chunk: by the bits above, as far as they are there
 */
struct qblk_flat {
	spinlock_t lock;	/* of the entries */
	struct qblk_flat_chunk *chunk[QBLK_FLAT_CHUNKS];
};

/**
 * qblk_flat_applies - does a node keep where walks end?
 * @node: not a leaf
 *
 * With one level below there is nothing to save.
 */
bool qblk_flat_applies(const struct qblk_node *node)
{
	return node->read_only && node->chain_depth > 1;
}

static struct qblk_flat_chunk **flat_slot(struct qblk_flat *flat, u64 block)
{
	return &flat->chunk[(block >> QBLK_FLAT_CHUNK_BITS) %
			    QBLK_FLAT_CHUNKS];
}

static struct qblk_flat_entry *flat_entry(struct qblk_flat_chunk *chunk,
					  u64 block)
{
	return &chunk->entry[block % ARRAY_SIZE(chunk->entry)];
}

/**
 * qblk_flat_find - what is known of the block around an offset
 * @node: qblk_flat_applies() to it
 * @offset: in @node
 * @where: gets the node in which the walk goes on, and where there
 *
 * Context: any.
 */
enum qblk_flat_known qblk_flat_find(const struct qblk_node *node, u64 offset,
				    struct qblk_flat_where *where)
{
	/* What it and its chunks hold was there before the pointers to them. */
	struct qblk_flat *flat = READ_ONCE(node->flat);
	u64 block = offset >> QBLK_FLAT_BITS;
	struct qblk_flat_chunk *chunk;
	struct qblk_flat_entry e;
	unsigned int seq;

	if (!flat)
		return QBLK_FLAT_UNKNOWN;
	chunk = READ_ONCE(*flat_slot(flat, block));
	if (!chunk)
		return QBLK_FLAT_UNKNOWN;
	do {
		seq = read_seqcount_begin(&chunk->seq);
		e = *flat_entry(chunk, block);
	} while (read_seqcount_retry(&chunk->seq, seq));
	if (e.tag != block + 1)
		return QBLK_FLAT_UNKNOWN;
	if (!e.node)
		return QBLK_FLAT_MIXED;
	where->node = e.node;
	where->offset = e.offset + (offset & (QBLK_FLAT_BLOCK - 1));
	return QBLK_FLAT_KNOWN;
}

/* Others may be as fast, and one of them stays. */
static struct qblk_flat *flat_get(struct qblk_node *node)
{
	struct qblk_flat *flat = READ_ONCE(node->flat);
	struct qblk_flat *old;

	if (flat)
		return flat;
	flat = kzalloc(sizeof(*flat), GFP_NOWAIT | __GFP_NOWARN);
	if (!flat)
		return NULL;
	spin_lock_init(&flat->lock);
	old = cmpxchg(&node->flat, NULL, flat);
	if (!old)
		return flat;
	kfree(flat);
	return old;
}

/* With lock held; lookups may find the chunk as soon as it is stored. */
static struct qblk_flat_chunk *flat_chunk_get(struct qblk_flat *flat, u64 block)
{
	struct qblk_flat_chunk **slot = flat_slot(flat, block);
	struct qblk_flat_chunk *chunk = *slot;

	if (chunk)
		return chunk;
	chunk = kzalloc(sizeof(*chunk), GFP_NOWAIT | __GFP_NOWARN);
	if (!chunk)
		return NULL;
	seqcount_spinlock_init(&chunk->seq, &flat->lock);
	smp_store_release(slot, chunk); /* pairs with qblk_flat_find() */
	return chunk;
}

/**
 * qblk_flat_learn - keep where the walk through a block ends
 * @node: qblk_flat_applies() to it
 * @start: offset in @node, a multiple of QBLK_FLAT_BLOCK
 * @where: the place of @start, or a NULL node: the block is mixed
 *
 * Without memory nothing is kept.  Context: any but interrupts.
 */
void qblk_flat_learn(struct qblk_node *node, u64 start,
		     const struct qblk_flat_where *where)
{
	struct qblk_flat *flat = flat_get(node);
	u64 block = start >> QBLK_FLAT_BITS;
	struct qblk_flat_chunk *chunk;
	struct qblk_flat_entry *e;

	if (!flat)
		return;
	spin_lock(&flat->lock);
	chunk = flat_chunk_get(flat, block);
	if (!chunk)
		goto out_unlock;
	write_seqcount_begin(&chunk->seq);
	e = flat_entry(chunk, block);
	e->tag = block + 1;
	e->node = where->node;
	e->offset = where->offset;
	write_seqcount_end(&chunk->seq);
out_unlock:
	spin_unlock(&flat->lock);
}

/**
 * qblk_flat_free - forget all that is kept for a node
 * @node: through which no walk goes any more
 */
void qblk_flat_free(struct qblk_node *node)
{
	struct qblk_flat *flat = node->flat;
	unsigned int i;

	if (!flat)
		return;
	for (i = 0; i < ARRAY_SIZE(flat->chunk); i++)
		kfree(flat->chunk[i]);
	kfree(flat);
	node->flat = NULL;
}
