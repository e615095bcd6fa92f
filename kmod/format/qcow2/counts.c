// SPDX-License-Identifier: GPL-2.0
/*
 * A number for each cluster of an image.
 *
 * Clusters that nothing refers to are most of what a file can have, so numbers
 * come in chunks, and a chunk comes with its first number.  Chunks are laid out
 * like pieces of refcount blocks: those of references can be compared with
 * what is on disk, and written there, as they are.
 *
 * Whoever made the image decides how many chunks there are, so they are taken
 * from a budget.
 */
#include <linux/kernel.h>
#include <linux/slab.h>

#include "check.h"

/**
 * qcow2_counts_init - all numbers are 0
 * @c: numbers
 * @order: log2 of their bits
 * @chunk_bits: log2 of the bytes of a chunk
 * @left: bytes that chunks may take, counted down
 */
void qcow2_counts_init(struct qcow2_counts *c, u32 order, u32 chunk_bits,
		       u64 *left)
{
	xa_init(&c->chunks);
	c->order = order;
	c->chunk_bits = chunk_bits;
	c->left = left;
}

/**
 * qcow2_counts_exit - free all chunks
 * @c: numbers
 */
void qcow2_counts_exit(struct qcow2_counts *c)
{
	unsigned long index;
	void *chunk;

	xa_for_each(&c->chunks, index, chunk)
		kfree(chunk);
	xa_destroy(&c->chunks);
}

static u32 qcow2_counts_index(const struct qcow2_counts *c, u64 cluster)
{
	return cluster & ((1ULL << qcow2_counts_bits(c)) - 1);
}

/**
 * qcow2_counts_get - the number for a cluster
 * @c: numbers
 * @cluster: which
 */
u64 qcow2_counts_get(struct qcow2_counts *c, u64 cluster)
{
	const void *chunk = xa_load(&c->chunks,
				    cluster >> qcow2_counts_bits(c));

	if (!chunk)
		return 0;
	return qcow2_refcount_get(chunk, c->order,
				  qcow2_counts_index(c, cluster));
}

/* The memory for it is not worth killing anybody. */
static void *qcow2_counts_new_chunk(struct qcow2_counts *c, u64 index)
{
	u64 bytes = 1ULL << c->chunk_bits;
	void *chunk;
	int ret;

	if ((u64)(unsigned long)index != index || *c->left < bytes)
		return ERR_PTR(-EFBIG);
	chunk = kzalloc(bytes, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!chunk)
		return ERR_PTR(-ENOMEM);
	ret = xa_insert(&c->chunks, index, chunk, GFP_KERNEL);
	if (ret) {
		kfree(chunk);
		return ERR_PTR(ret);
	}
	*c->left -= bytes;
	return chunk;
}

/**
 * qcow2_counts_add - add to the number for a cluster
 * @c: numbers
 * @cluster: which
 * @nr: how much
 *
 * Return: 0; -EOVERFLOW when it does not fit, and the number is the largest
 * there is; -EFBIG when the budget is used up; -ENOMEM.
 */
int qcow2_counts_add(struct qcow2_counts *c, u64 cluster, u64 nr)
{
	u64 index = cluster >> qcow2_counts_bits(c);
	u64 max = qcow2_refcount_max(c->order);
	u32 at = qcow2_counts_index(c, cluster);
	void *chunk = xa_load(&c->chunks, index);
	u64 value;

	if (!chunk)
		chunk = qcow2_counts_new_chunk(c, index);
	if (IS_ERR(chunk))
		return PTR_ERR(chunk);
	value = qcow2_refcount_get(chunk, c->order, at);
	qcow2_refcount_set(chunk, c->order, at,
			   nr <= max - value ? value + nr : max);
	return nr <= max - value ? 0 : -EOVERFLOW;
}

/**
 * qcow2_counts_drop - take one from the number for a cluster
 * @c: numbers
 * @cluster: which; its number is not 0
 */
void qcow2_counts_drop(struct qcow2_counts *c, u64 cluster)
{
	void *chunk = xa_load(&c->chunks, cluster >> qcow2_counts_bits(c));
	u32 at = qcow2_counts_index(c, cluster);

	if (!WARN_ON_ONCE(!chunk))
		qcow2_refcount_set(chunk, c->order, at,
				   qcow2_refcount_get(chunk, c->order, at) - 1);
}

/**
 * qcow2_counts_next - find a cluster whose number is not 0
 * @c: numbers
 * @cluster: from this one on; gets the one found
 *
 * Return: false if there is none.
 */
bool qcow2_counts_next(struct qcow2_counts *c, u64 *cluster)
{
	unsigned long index = *cluster >> qcow2_counts_bits(c);
	u32 from = qcow2_counts_index(c, *cluster);
	u32 nr = 1U << qcow2_counts_bits(c);
	unsigned long first = index;
	const void *chunk;
	u32 i;

	xa_for_each_start(&c->chunks, index, chunk, first) {
		for (i = index == first ? from : 0; i < nr; i++) {
			if (!qcow2_refcount_get(chunk, c->order, i))
				continue;
			*cluster = ((u64)index << qcow2_counts_bits(c)) + i;
			return true;
		}
	}
	return false;
}

/**
 * qcow2_counts_end - the first cluster from which on all numbers are 0
 * @c: numbers
 */
u64 qcow2_counts_end(struct qcow2_counts *c)
{
	u32 nr = 1U << qcow2_counts_bits(c);
	unsigned long index;
	const void *chunk;
	u64 end = 0;
	u32 i;

	xa_for_each(&c->chunks, index, chunk) {
		if (!memchr_inv(chunk, 0, 1UL << c->chunk_bits))
			continue;
		for (i = nr; !qcow2_refcount_get(chunk, c->order, i - 1); i--)
			;
		end = ((u64)index << qcow2_counts_bits(c)) + i;
	}
	return end;
}
