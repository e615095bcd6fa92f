/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_COMPAT_QUEUE_H
#define _QBLK_COMPAT_QUEUE_H

#include <linux/version.h>

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/sched.h>

/*
 * A plug remembers the time since 6.9 (da4c8c3d0975, "block: cache current nsec
 * time in struct blk_plug").  PF_BLOCK_TS says so, and the scheduler, which
 * then makes the task's plug forget it, takes for granted that there is one.
 */
static inline void qblk_plug_forget_time(struct blk_plug *plug)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	if (plug)
		plug->cur_ktime = 0;
	current->flags &= ~PF_BLOCK_TS;
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
/*
 * blk_mode_t came with 6.5 (05bdb9965305, "block: replace fmode_t with a
 * block-specific type for block open flags"), and with it ->open(gendisk) and
 * ->release(gendisk) (d32e2bf83791, ae220766d87c).
 */
#define blk_mode_t fmode_t

#define QBLK_COMPAT_DISK_OPS(open_fn, release_fn)			\
static int open_fn##_compat(struct block_device *bdev, fmode_t mode)	\
{									\
	return open_fn(bdev->bd_disk, mode);				\
}									\
									\
static void release_fn##_compat(struct gendisk *disk, fmode_t mode)	\
{									\
	release_fn(disk);						\
}									\
static_assert(true)

#define QBLK_COMPAT_DISK_OP(fn)		fn##_compat
#else
#define QBLK_COMPAT_DISK_OPS(open_fn, release_fn)			\
	static_assert(sizeof(&(open_fn)) == sizeof(&(release_fn)))
#define QBLK_COMPAT_DISK_OP(fn)		fn
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
/*
 * blk_mq_alloc_disk() takes the limits since 6.9 (27e32cd23fed, "block: pass a
 * queue_limits argument to blk_mq_alloc_disk"), and the features are part of
 * them since 6.11 (1122c0c1cc71, "block: move cache control settings out of
 * queue->flags").  Here is the part of 6.12's structure that is used, under
 * its name, and what moves it into the queue of an older kernel.
 */
typedef unsigned int __bitwise blk_features_t;

#define BLK_FEAT_WRITE_CACHE	((__force blk_features_t)(1u << 0))
#define BLK_FEAT_FUA		((__force blk_features_t)(1u << 1))
#define BLK_FEAT_ROTATIONAL	((__force blk_features_t)(1u << 2))
#define BLK_FEAT_STABLE_WRITES	((__force blk_features_t)(1u << 5))

struct qblk_compat_queue_limits {
	blk_features_t		features;
	unsigned int		max_hw_sectors;
	unsigned int		max_segment_size;
	unsigned int		physical_block_size;
	unsigned int		logical_block_size;
	unsigned int		io_min;
	unsigned int		io_opt;
	unsigned int		max_hw_discard_sectors;
	unsigned int		max_write_zeroes_sectors;
	unsigned int		discard_granularity;
	unsigned int		dma_alignment;
	unsigned short		max_segments;
};

static inline void
qblk_compat_set_features(struct request_queue *q, blk_features_t features)
{
	blk_queue_write_cache(q, features & BLK_FEAT_WRITE_CACHE,
			      features & BLK_FEAT_FUA);
	if (!(features & BLK_FEAT_ROTATIONAL))
		blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	if (features & BLK_FEAT_STABLE_WRITES)
		blk_queue_flag_set(QUEUE_FLAG_STABLE_WRITES, q);
}

/* Nobody uses the queue yet */
static inline void
qblk_compat_set_limits(struct request_queue *q,
		       const struct qblk_compat_queue_limits *lim)
{
	blk_queue_logical_block_size(q, lim->logical_block_size);
	blk_queue_physical_block_size(q, lim->physical_block_size);
	blk_queue_io_min(q, lim->io_min);
	blk_queue_io_opt(q, lim->io_opt);
	blk_queue_max_hw_sectors(q, lim->max_hw_sectors);
	blk_queue_max_segments(q, lim->max_segments);
	blk_queue_max_segment_size(q, lim->max_segment_size);
	blk_queue_dma_alignment(q, lim->dma_alignment);
	blk_queue_max_discard_sectors(q, lim->max_hw_discard_sectors);
	q->limits.discard_granularity = lim->discard_granularity;
	blk_queue_max_write_zeroes_sectors(q, lim->max_write_zeroes_sectors);
	qblk_compat_set_features(q, lim->features);
}

static inline struct gendisk *
qblk_compat_alloc_disk(struct blk_mq_tag_set *set,
		       const struct qblk_compat_queue_limits *lim, void *data,
		       struct lock_class_key *key)
{
	struct gendisk *disk = __blk_mq_alloc_disk(set, data, key);

	if (!IS_ERR(disk))
		qblk_compat_set_limits(disk->queue, lim);
	return disk;
}

#undef blk_mq_alloc_disk
#define blk_mq_alloc_disk(set, lim, data)				\
({									\
	static struct lock_class_key __key;				\
									\
	qblk_compat_alloc_disk(set, lim, data, &__key);			\
})

#define queue_limits qblk_compat_queue_limits
#endif

#endif /* _QBLK_COMPAT_QUEUE_H */
