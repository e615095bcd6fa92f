/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_COMPAT_BDEV_H
#define _QBLK_COMPAT_BDEV_H

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/version.h>

/**
 * struct qblk_bdev - a claimed block device
 * @bdev: the device
 * @file: the open file that holds it
 * @mode: how it was opened
 */
struct qblk_bdev {
	struct block_device *bdev;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	struct file *file;
#else
	fmode_t mode;
#endif
};

/**
 * qblk_bdev_open - claim a block device
 * @b: filled on success
 * @dev: its number
 * @write: for reading and writing, not only for reading
 * @holder: token of the claim; a device is claimed by one token at a time
 *
 * bdev_file_open_by_dev() came with 6.9; before 6.5 the holder said through
 * %FMODE_EXCL that it is one.
 *
 * Return: 0, -EBUSY when claimed by another holder, or what the device says.
 */
static inline int qblk_bdev_open(struct qblk_bdev *b, dev_t dev, bool write,
				 void *holder)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	b->file = bdev_file_open_by_dev(dev, BLK_OPEN_READ |
					(write ? BLK_OPEN_WRITE : 0),
					holder, NULL);
	if (IS_ERR(b->file))
		return PTR_ERR(b->file);
	b->bdev = file_bdev(b->file);
#else
	b->mode = FMODE_READ | (write ? FMODE_WRITE : 0) | FMODE_EXCL;
	b->bdev = blkdev_get_by_dev(dev, b->mode, holder);
	if (IS_ERR(b->bdev))
		return PTR_ERR(b->bdev);
#endif
	return 0;
}

/**
 * qblk_bdev_close - undo qblk_bdev_open()
 * @b: the device
 */
static inline void qblk_bdev_close(struct qblk_bdev *b)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	bdev_fput(b->file);
#else
	blkdev_put(b->bdev, b->mode);
#endif
	b->bdev = NULL;
}

#endif /* _QBLK_COMPAT_BDEV_H */
