// SPDX-License-Identifier: GPL-2.0
/*
 * Queue limits of a disk, from the limits of its graph.
 *
 * Nothing here is about what the graph could not do: its blocking calls pad,
 * split and emulate.  The limits say what it does well.
 */
#include "export_priv.h"

#include <linux/log2.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/sizes.h>

#include <qblk/driver.h>

/*
 * Long enough that a leaf sees runs, short enough that a request does not keep
 * its pages under I/O for long.
 */
#define QBLK_MAX_TRANSFER	SZ_2M

/* Linux does not address blocks larger than a page on 6.1 and 6.12 */
#define QBLK_MAX_LBS		((u32)min_t(unsigned long, SZ_4K, PAGE_SIZE))

/*
 * Without a wish, the blocks the graph suggests, but smaller ones where those
 * would cut off the end of the image.  A wish below what the graph suggests
 * only costs read-modify-write.
 */
static int qblk_pick_lbs(const struct qblk_export_params *p, u64 size, u32 *lbs,
			 struct qblk_err *err)
{
	u32 wish = p->logical_block_size;

	if (!wish) {
		*lbs = clamp_t(u32, p->node->limits.logical_block_size,
			       SECTOR_SIZE, QBLK_MAX_LBS);
		while (*lbs > SECTOR_SIZE && size & (*lbs - 1))
			*lbs >>= 1;
		return 0;
	}
	if (!is_power_of_2(wish) || wish < SECTOR_SIZE || wish > QBLK_MAX_LBS) {
		qblk_err_set(err,
			     "logical block size %u: it has to be a power of two from %u to %u",
			     wish, SECTOR_SIZE, QBLK_MAX_LBS);
		return -EINVAL;
	}
	if (size & (wish - 1)) {
		qblk_err_set(err,
			     "logical block size %u: the size of node '%s', %llu bytes, is not a multiple of it",
			     wish, p->node->name, size);
		return -EINVAL;
	}
	*lbs = wish;
	return 0;
}

/* A length in bytes, 0 for any, as sectors that a bio can have */
static unsigned int qblk_max_sectors(u64 bytes)
{
	if (!bytes)
		return UINT_MAX >> SECTOR_SHIFT;
	return min_t(u64, bytes, UINT_MAX) >> SECTOR_SHIFT;
}

/* The block layer wants to send a page in one request at least */
static unsigned int qblk_max_hw_sectors(u64 max_transfer)
{
	u64 bytes = min_not_zero(max_transfer, (u64)QBLK_MAX_TRANSFER);

	return max_t(u64, bytes, PAGE_SIZE) >> SECTOR_SHIFT;
}

static void qblk_limits_size(const struct qblk_limits *l, u32 lbs,
			     struct queue_limits *lim)
{
	u32 pbs = max(l->physical_block_size, lbs);

	lim->logical_block_size = lbs;
	lim->physical_block_size = pbs;
	lim->io_min = max(l->io_min, pbs);
	lim->io_opt = round_down(l->io_opt, pbs);
	lim->dma_alignment = min_t(u32, l->dma_alignment, PAGE_SIZE - 1);
	lim->max_hw_sectors = qblk_max_hw_sectors(l->max_transfer);
	/* nothing is mapped for DMA here */
	lim->max_segments = USHRT_MAX;
	lim->max_segment_size = UINT_MAX;
}

static void qblk_limits_discard(const struct qblk_limits *l, u32 lbs,
				struct queue_limits *lim)
{
	if (l->can_discard) {
		lim->max_hw_discard_sectors = qblk_max_sectors(l->max_pdiscard);
		lim->discard_granularity = max(l->pdiscard_alignment, lbs);
	}
	if (l->can_write_zeroes)
		lim->max_write_zeroes_sectors =
			qblk_max_sectors(l->max_pwrite_zeroes);
}

/*
 * A volatile cache always: metadata waits in memory for a flush even where
 * the leaves have none.
 */
static blk_features_t qblk_features(const struct qblk_limits *l)
{
	blk_features_t features = BLK_FEAT_WRITE_CACHE;

	if (l->fua)
		features |= BLK_FEAT_FUA;
	if (l->rotational)
		features |= BLK_FEAT_ROTATIONAL;
	/* they checksum pages, and those are ours */
	if (l->stable_writes)
		features |= BLK_FEAT_STABLE_WRITES;
	return features;
}

/**
 * qblk_export_limits - work out the limits of a disk
 * @p: what was asked for
 * @exp: the disk, with its size, access mode and slaves
 * @lim: result
 * @err: gets the sentence on failure
 *
 * Return: 0, or -EINVAL for a block size that does not fit.
 */
int qblk_export_limits(const struct qblk_export_params *p,
		       const struct qblk_export *exp, struct queue_limits *lim,
		       struct qblk_err *err)
{
	const struct qblk_limits *l = &p->node->limits;
	u32 lbs;
	int ret;

	ret = qblk_pick_lbs(p, exp->size, &lbs, err);
	if (ret)
		return ret;
	memset(lim, 0, sizeof(*lim));
	qblk_limits_size(l, lbs, lim);
	if (!exp->read_only)
		qblk_limits_discard(l, lbs, lim);
	lim->features = qblk_features(l);
	return 0;
}
