// SPDX-License-Identifier: GPL-2.0
/*
 * The null protocol: a disk of zeroes that forgets what is written to it.
 *
 * QEMU's null drivers leave the buffer of a read untouched unless read-zeroes
 * is set.  In the kernel that would show the reader whatever the page held
 * before, so reads give zeroes either way; the option is accepted so that
 * QEMU's command lines work.
 */
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/sizes.h>

#include <qblk/builtin.h>
#include <qblk/driver.h>
#include <qblk/iter.h>

struct null_opts {
	u64 size;
	bool read_zeroes;
	u64 latency_ns;
};

/**
 * struct null - a null node
 * @latency_ns: how long an asynchronous I/O takes, 0 for none
 */
struct null {
	u64 latency_ns;
};

static const struct qblk_opt_desc null_opt_table[] = {
	{
		.name = "size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct null_opts, size),
		.def = SZ_1G,
		.max = LLONG_MAX,
		.multiple = SECTOR_SIZE,
		.help = "size of the disk",
	}, {
		.name = "read-zeroes",
		.type = QBLK_OPT_BOOL,
		.offset = offsetof(struct null_opts, read_zeroes),
		.help = "reads give zeroes, which they do anyway",
	}, {
		.name = "latency-ns",
		.type = QBLK_OPT_U64,
		.offset = offsetof(struct null_opts, latency_ns),
		.max = 10ULL * NSEC_PER_SEC,
		.help = "nanoseconds a request takes",
	},
	{}
};

static int null_open(struct qblk_node *node, const void *opts,
		     struct qblk_err *err)
{
	const struct null_opts *o = opts;
	struct null *n = node->priv;

	node->length = o->size;
	n->latency_ns = o->latency_ns;
	return 0;
}

static void null_close(struct qblk_node *node)
{
}

static enum hrtimer_restart null_timer(struct hrtimer *timer)
{
	struct qblk_io *io = container_of(timer, struct qblk_io, timer);

	io->end_io(io, BLK_STS_OK);
	return HRTIMER_NORESTART;
}

static int null_submit(struct qblk_node *node, struct qblk_io *io)
{
	struct null *n = node->priv;
	struct iov_iter iter;

	if (!op_is_write(io->opf)) {
		qblk_io_iter(io, ITER_DEST, &iter);
		iov_iter_zero(iov_iter_count(&iter), &iter);
	}
	if (!n->latency_ns) {
		io->end_io(io, BLK_STS_OK);
		return 0;
	}
	hrtimer_init(&io->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	io->timer.function = null_timer;
	hrtimer_start(&io->timer, ns_to_ktime(n->latency_ns),
		      HRTIMER_MODE_REL_SOFT);
	return 0;
}

static int null_preadv(struct qblk_node *node, u64 offset, u64 bytes,
		       struct iov_iter *iter, unsigned int flags)
{
	return iov_iter_zero(bytes, iter) == bytes ? 0 : -EIO;
}

static int null_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
			struct iov_iter *iter, unsigned int flags)
{
	iov_iter_advance(iter, bytes);
	return 0;
}

static int null_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
			      unsigned int flags)
{
	return 0;
}

static int null_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	return 0;
}

static int null_flush_to_disk(struct qblk_node *node)
{
	return 0;
}

static void null_refresh_limits(struct qblk_node *node,
				struct qblk_limits *lim)
{
	lim->dma_alignment = 0;
	lim->pdiscard_alignment = SECTOR_SIZE;
	lim->can_discard = true;
	lim->can_write_zeroes = true;
	lim->fua = true;
}

static void null_get_specific_info(struct qblk_node *node,
				   struct qblk_info *info)
{
	struct null *n = node->priv;

	qblk_info_u64(info, "latency-ns", n->latency_ns);
}

struct qblk_driver qblk_drv_null = {
	.name = "null",
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_PROTOCOL,
	.instance_size = sizeof(struct null),
	.opts = null_opt_table,
	.opts_size = sizeof(struct null_opts),
	.open = null_open,
	.close = null_close,
	.submit = null_submit,
	.preadv = null_preadv,
	.pwritev = null_pwritev,
	.pwrite_zeroes = null_pwrite_zeroes,
	.pdiscard = null_pdiscard,
	.flush_to_disk = null_flush_to_disk,
	.refresh_limits = null_refresh_limits,
	.get_specific_info = null_get_specific_info,
};
