/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The driver interface: struct qblk_driver is QEMU's BlockDriver.  Hooks carry
 * QEMU's names without bdrv_ and co_; where one differs, its comment says how.
 *
 * Units: bytes.  Unless said otherwise a hook runs in process context with
 * memalloc_noio in force and may sleep.
 */
#ifndef _QBLK_DRIVER_H
#define _QBLK_DRIVER_H

#include <linux/bits.h>
#include <linux/blk_types.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/types.h>

#include <qblk/err.h>
#include <qblk/info.h>
#include <qblk/node.h>
#include <qblk/option.h>
#include <qblk/req.h>

#define QBLK_DRV_FORMAT		BIT(0)	/* a format: ``file`` child */
#define QBLK_DRV_FILTER		BIT(1)	/* does not change data */
#define QBLK_DRV_PROTOCOL	BIT(2)	/* a leaf: has ->submit() */
#define QBLK_DRV_NEEDS_FD	BIT(3)	/* wants &qblk_node_params.file */
#define QBLK_DRV_BACKING	BIT(4)	/* can have a ``backing`` child */
#define QBLK_DRV_REMAPS		BIT(5)	/* frees host offsets under I/O */
#define QBLK_DRV_DATA_FILE	BIT(6)	/* can have a ``data-file`` child */

/**
 * struct qblk_probe - what an image's header says of it
 * @format: driver name, set by the core
 * @want: in: bytes given; out: with -ENODATA, bytes needed (at most 2 MiB)
 * @virtual_size: bytes
 * @backing_file: name in the header, empty for none; not NUL-free text is
 *	refused by the driver
 * @backing_format: format named in the header, empty for none
 * @data_file: name of the data file the image needs, empty for none
 */
struct qblk_probe {
	char format[QBLK_NODE_NAME_LEN];
	u32 want;
	u64 virtual_size;
	char backing_file[1024];
	char backing_format[16];
	char data_file[4096];
};

/**
 * struct qblk_driver - a format, filter or protocol
 * @name: QEMU's format_name
 * @owner: module, pinned by every node
 * @flags: QBLK_DRV_*
 * @instance_size: bytes of &qblk_node.priv
 * @opts: option table or NULL
 * @opts_size: bytes of the structure the table's offsets point into
 * @entry: the registry's
 */
struct qblk_driver {
	const char *name;
	struct module *owner;
	unsigned int flags;
	size_t instance_size;
	const struct qblk_opt_desc *opts;
	size_t opts_size;
	struct list_head entry;

	/**
	 * @open: bring the node up: read and check the image, set
	 * &qblk_node.length.  The children are attached, the common options
	 * applied (&qblk_node.read_only).  On error undo everything: ->close()
	 * is not called.  Called under qblk_control_mutex.
	 */
	int (*open)(struct qblk_node *node, const void *opts,
		    struct qblk_err *err);

	/**
	 * @close: no I/O is in flight and ->inactivate() has run.  Frees
	 * everything.  Children are still attached.
	 */
	void (*close)(struct qblk_node *node);

	/**
	 * @inactivate: write all metadata back and leave the image clean, as
	 * bdrv_inactivate; the node may be closed or written to again
	 * afterwards.  May fail, then close loses what could not be written.
	 */
	int (*inactivate)(struct qblk_node *node, struct qblk_err *err);

	/**
	 * @probe: is this header ours?  Pure function of the bytes.  Return
	 * 0..100 as QEMU's bdrv_probe, -ENODATA to be called again with
	 * &qblk_probe.want bytes, or, for ours but broken or of an unknown
	 * version, an error with its sentence in @err.
	 */
	int (*probe)(const u8 *buf, size_t len, struct qblk_probe *p,
		     struct qblk_err *err);

	/**
	 * @map: where is the data?  The kernel's own hook; it also is
	 * bdrv_co_block_status.  Without %QBLK_MAP_MAY_SLEEP: any context,
	 * takes no sleeping lock, allocates nothing, returns -EAGAIN when the
	 * metadata is not in memory.  With %QBLK_MAP_WRITE: only
	 * %QBLK_MAP_DATA that may be overwritten in place, else -EAGAIN.
	 * The caller holds qblk_node_io_begin() on a tracked node.  Leaves
	 * have none.
	 */
	int (*map)(struct qblk_node *node, u64 offset, u64 bytes,
		   unsigned int flags, struct qblk_extent *ext);

	/**
	 * @submit: leaf, asynchronous read or write (bdrv_aio_preadv,
	 * bdrv_aio_pwritev).  The range is aligned and inside the leaf.
	 * Any context unless &qblk_limits.submit_sleeps.  Return 0, and
	 * io->end_io() will be called, or -EAGAIN, and the caller uses
	 * ->preadv() or ->pwritev() from a worker.
	 */
	int (*submit)(struct qblk_node *node, struct qblk_io *io);

	/**
	 * @preadv: leaf: read, aligned; the last block may reach past the end,
	 * where it reads as zeroes.  Others: read a range that ->map() called
	 * %QBLK_MAP_ENCODED (one such extent).  Advances @iter by @bytes.
	 * Ordinary reads of formats and filters go through ->map(), which is
	 * where this differs from QEMU.
	 */
	int (*preadv)(struct qblk_node *node, u64 offset, u64 bytes,
		      struct iov_iter *iter, unsigned int flags);

	/**
	 * @pwritev: write; allocates as needed.  Advances @iter.  Leaf:
	 * aligned, and inside the leaf unless &qblk_limits.can_grow.  Others:
	 * any byte range.
	 */
	int (*pwritev)(struct qblk_node *node, u64 offset, u64 bytes,
		       struct iov_iter *iter, unsigned int flags);

	/**
	 * @start_pwritev: not leaves: ->pwritev() that may return before all is
	 * done; any byte range.  Process context, may sleep.  Return 0, and
	 * io->end_io() will be called once, perhaps before this returns, or
	 * -EAGAIN.  Both -EAGAIN and BLK_STS_AGAIN mean that ->pwritev() has
	 * to do it, which tells errors.
	 */
	int (*start_pwritev)(struct qblk_node *node, struct qblk_io *io);

	/**
	 * @append: leaf: start a write at its end.  Aligned.  Return 0, and
	 * qblk_append_written() and then @io->end_io() will be called from a
	 * worker, or -EAGAIN: it is not at the end.  Progress must not depend
	 * on memory.
	 */
	int (*append)(struct qblk_node *node, struct qblk_append_io *io);

	/**
	 * @pwrite_zeroes: -EOPNOTSUPP makes the core write zeroes (unless
	 * %QBLK_REQ_NO_FALLBACK).  Any byte range that is a multiple of
	 * request_alignment.
	 */
	int (*pwrite_zeroes)(struct qblk_node *node, u64 offset, u64 bytes,
			     unsigned int flags);

	/** @pdiscard: a hint; -EOPNOTSUPP counts as success. */
	int (*pdiscard)(struct qblk_node *node, u64 offset, u64 bytes);

	/**
	 * @flush_to_os: write metadata to the children, in an order a crash
	 * survives.  The core flushes the children afterwards.
	 */
	int (*flush_to_os)(struct qblk_node *node);

	/** @flush_to_disk: leaf: make all completed writes stable. */
	int (*flush_to_disk)(struct qblk_node *node);

	/** @getlength: size in bytes, any context; absent: &qblk_node.length */
	u64 (*getlength)(const struct qblk_node *node);

	/**
	 * @refresh_limits: adjust @lim, which arrives folded from the
	 * children (or with the defaults, on a leaf).
	 */
	void (*refresh_limits)(struct qblk_node *node,
			       struct qblk_limits *lim);

	/**
	 * @get_specific_info: facts for ``qblkctl show`` and debugfs; may
	 * sleep.  Between ->open() and ->close(), with or without
	 * qblk_control_mutex, and during I/O.
	 */
	void (*get_specific_info)(struct qblk_node *node,
				  struct qblk_info *info);

	/** @drain_begin: stop what the node does on its own, and wait */
	void (*drain_begin)(struct qblk_node *node);

	/** @drain_end: go on */
	void (*drain_end)(struct qblk_node *node);

	/** @get_bdev: leaf: the block device under it, for holders */
	struct block_device *(*get_bdev)(const struct qblk_node *node);
};

/**
 * qblk_register_driver - make a driver known
 * @drv: static table; @name, @owner, @open, @close set
 *
 * Return: 0, -EEXIST for a name in use, -EINVAL for a table without what its
 * flags promise.  A module of its own carries
 * MODULE_ALIAS("qblk-driver-<name>").
 */
int qblk_register_driver(struct qblk_driver *drv);

/**
 * qblk_unregister_driver - undo qblk_register_driver()
 * @drv: the driver; no node uses it, since nodes pin the module
 */
void qblk_unregister_driver(struct qblk_driver *drv);

#endif /* _QBLK_DRIVER_H */
