// SPDX-License-Identifier: GPL-2.0
/*
 * Limits: folded from the leaves to the root, as QEMU's bdrv_refresh_limits().
 */
#include "core.h"

#include <linux/blkdev.h>
#include <linux/log2.h>
#include <linux/minmax.h>

static const struct qblk_limits leaf_defaults = {
	.request_alignment	= SECTOR_SIZE,
	.dma_alignment		= SECTOR_SIZE - 1,
	.logical_block_size	= SECTOR_SIZE,
	.physical_block_size	= SECTOR_SIZE,
};

/* Start of a fold: neutral for every operation below */
static const struct qblk_limits fold_start = {
	.request_alignment	= 1,
	.logical_block_size	= SECTOR_SIZE,
	.physical_block_size	= SECTOR_SIZE,
	.can_discard		= true,
	.can_write_zeroes	= true,
	.fua			= true,
};

/*
 * What also a backing file has a say in.  Its alignment and its maxima do not
 * count: it is only read, and the leaf under it is known when a request goes
 * there.  A child that has metadata alone, beside a data file, counts for
 * nothing: no request goes there, and what a driver does with it on its own
 * uses buffers that are padded and split for that leaf.
 */
static void fold_any(struct qblk_limits *lim, const struct qblk_limits *c)
{
	lim->dma_alignment = max(lim->dma_alignment, c->dma_alignment);
	lim->rotational |= c->rotational;
	lim->submit_sleeps |= c->submit_sleeps;
}

static void fold_data(struct qblk_limits *lim, const struct qblk_limits *c)
{
	lim->request_alignment = max(lim->request_alignment,
				     c->request_alignment);
	lim->logical_block_size = max(lim->logical_block_size,
				      c->logical_block_size);
	lim->physical_block_size = max(lim->physical_block_size,
				       c->physical_block_size);
	lim->io_min = max(lim->io_min, c->io_min);
	lim->io_opt = max(lim->io_opt, c->io_opt);
	lim->max_transfer = min_not_zero(lim->max_transfer, c->max_transfer);
	lim->pdiscard_alignment = max(lim->pdiscard_alignment,
				      c->pdiscard_alignment);
	lim->max_pdiscard = min_not_zero(lim->max_pdiscard, c->max_pdiscard);
	lim->max_pwrite_zeroes = min_not_zero(lim->max_pwrite_zeroes,
					      c->max_pwrite_zeroes);
	lim->can_discard &= c->can_discard;
	lim->can_write_zeroes &= c->can_write_zeroes;
	lim->fua &= c->fua;
	lim->stable_writes |= c->stable_writes;
}

static void fold_children(const struct qblk_node *node,
			  struct qblk_limits *lim)
{
	const struct qblk_child *child;

	*lim = fold_start;
	list_for_each_entry(child, &node->children, parent_entry) {
		if (!(child->role & (QBLK_CHILD_DATA | QBLK_CHILD_FILTERED |
				     QBLK_CHILD_COW)))
			continue;
		fold_any(lim, &child->node->limits);
		if (!(child->role & QBLK_CHILD_COW))
			fold_data(lim, &child->node->limits);
	}
	/*
	 * FUA of a write to a format covers the metadata that makes the data
	 * reachable, which the children know nothing of: a format that can do
	 * that says so in ->refresh_limits().
	 */
	if (node->drv->flags & QBLK_DRV_FORMAT)
		lim->fua = false;
}

static bool limits_sane(const struct qblk_node *node,
			const struct qblk_limits *lim)
{
	if (!is_power_of_2(lim->request_alignment) ||
	    !is_power_of_2(lim->logical_block_size) ||
	    !is_power_of_2(lim->physical_block_size) ||
	    !is_power_of_2((u64)lim->dma_alignment + 1))
		return false;
	if (qblk_node_is_leaf(node) &&
	    lim->request_alignment > QBLK_BOUNCE_SIZE)
		return false;
	return lim->logical_block_size >= SECTOR_SIZE &&
	       lim->dma_alignment < QBLK_BOUNCE_SIZE;
}

/**
 * qblk_limits_refresh - work out what a node can do
 * @node: opened, its children have their limits
 * @err: gets the sentence on failure
 *
 * Context: qblk_control_mutex held, no I/O to @node yet.
 *
 * Return: 0, or -EINVAL for blocks this module cannot pad to.
 */
int qblk_limits_refresh(struct qblk_node *node, struct qblk_err *err)
{
	struct qblk_limits lim = leaf_defaults;

	if (!qblk_node_is_leaf(node))
		fold_children(node, &lim);
	if (node->drv->refresh_limits)
		node->drv->refresh_limits(node, &lim);
	if (!limits_sane(node, &lim)) {
		qblk_err_set(err,
			     "node '%s': blocks of %u bytes (logical %u) are not supported",
			     node->name, lim.request_alignment,
			     lim.logical_block_size);
		return -EINVAL;
	}
	lim.physical_block_size = max(lim.physical_block_size,
				      lim.logical_block_size);
	if (node->read_only) {
		lim.can_discard = false;
		lim.can_write_zeroes = false;
		lim.can_grow = false;
	}
	if (!node->discard_unmap)
		lim.can_discard = false;
	node->limits = lim;
	return 0;
}
