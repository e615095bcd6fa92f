// SPDX-License-Identifier: GPL-2.0
#include "memleaf.h"

#include <linux/bvec.h>
#include <linux/kasan-checks.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

/* The leaf a node is being opened for; under qblk_control_mutex */
static struct memleaf *memleaf_opening;

static struct memleaf *memleaf_of(const struct qblk_node *node)
{
	return *(struct memleaf **)node->priv;
}

/* The driver */

static int memleaf_drv_open(struct qblk_node *node, const void *opts,
			    struct qblk_err *err)
{
	struct memleaf **priv = node->priv;

	if (!memleaf_opening) {
		qblk_err_set(err, "node '%s': only for tests", node->name);
		return -EINVAL;
	}
	*priv = memleaf_opening;
	return qblk_append_init(&memleaf_opening->append, node);
}

static void memleaf_drv_close(struct qblk_node *node)
{
	qblk_append_exit(&memleaf_of(node)->append);
}

static u64 memleaf_getlength(const struct qblk_node *node)
{
	return READ_ONCE(memleaf_of(node)->length);
}

static void memleaf_refresh_limits(struct qblk_node *node,
				   struct qblk_limits *lim)
{
	*lim = memleaf_of(node)->limits;
}

/* Asynchronous I/O is the business of export/, which has no suite. */
static int memleaf_submit(struct qblk_node *node, struct qblk_io *io)
{
	return -EAGAIN;
}

/* An operation begins: on success with the lock held */
static int memleaf_enter(struct memleaf *leaf, enum memleaf_type type)
{
	mutex_lock(&leaf->lock);
	leaf->count[type]++;
	if (leaf->hold & BIT(type)) {
		WRITE_ONCE(leaf->held, leaf->held + 1);
		wake_up_all(&leaf->wait);
		mutex_unlock(&leaf->lock);
		wait_event(leaf->wait, !(READ_ONCE(leaf->hold) & BIT(type)));
		mutex_lock(&leaf->lock);
		WRITE_ONCE(leaf->held, leaf->held - 1);
	}
	if (!(leaf->fail_types & BIT(type)) || !leaf->fail_nr)
		return 0;
	if (leaf->fail_skip) {
		leaf->fail_skip--;
		return 0;
	}
	leaf->fail_nr--;
	mutex_unlock(&leaf->lock);
	return leaf->fail_error;
}

static void memleaf_record(struct memleaf *leaf, enum memleaf_type type,
			   u64 offset, u64 bytes, unsigned int flags)
{
	struct memleaf_op *op;

	if (!leaf->log)
		return;
	if (leaf->log_nr == MEMLEAF_LOG_MAX) {
		KUNIT_FAIL(leaf->test, "log is full");
		return;
	}
	op = &leaf->log[leaf->log_nr++];
	op->type = type;
	op->offset = offset;
	op->bytes = bytes;
	op->flags = flags;
	op->data = NULL;
	if (type != MEMLEAF_WRITE)
		return;
	op->data = kvmalloc(bytes, GFP_KERNEL);
	if (op->data)
		memcpy(op->data, leaf->data + offset, bytes);
	else
		KUNIT_FAIL(leaf->test, "no memory for the log");
}

/* Whole blocks? */
static void memleaf_check_range(struct memleaf *leaf, u64 offset, u64 bytes)
{
	u32 align = leaf->limits.request_alignment;

	KUNIT_EXPECT_TRUE_MSG(leaf->test, bytes && IS_ALIGNED(offset, align) &&
			      IS_ALIGNED(bytes, align),
			      "%llu bytes at %llu are not blocks of %u", bytes,
			      offset, align);
}

/*
 * The memory of an I/O belongs to who wants it.  Asked for, since not every
 * compiler has memcpy() checked.
 */
static void memleaf_check_memory(u64 bytes, const struct iov_iter *iter,
				 bool write)
{
	struct bvec_iter bi = {
		.bi_size = bytes,
		.bi_bvec_done = iter->iov_offset,
	};
	struct bio_vec bv;

	for_each_bvec(bv, iter->bvec, bi, bi) {
		if (write)
			kasan_check_write(bvec_virt(&bv), bv.bv_len);
		else
			kasan_check_read(bvec_virt(&bv), bv.bv_len);
	}
}

static void memleaf_check_iter(struct memleaf *leaf, u64 bytes,
			       const struct iov_iter *iter)
{
	const struct qblk_limits *lim = &leaf->limits;

	KUNIT_EXPECT_GE(leaf->test, iov_iter_count(iter), bytes);
	KUNIT_EXPECT_TRUE(leaf->test,
			  iov_iter_is_aligned(iter, lim->dma_alignment,
					      lim->request_alignment - 1));
	memleaf_check_memory(bytes, iter, iov_iter_rw(iter) == READ);
	if (!lim->max_transfer || bytes <= lim->max_transfer || leaf->too_long)
		return;
	/* once is enough */
	leaf->too_long = true;
	KUNIT_FAIL(leaf->test, "%llu bytes are more than %llu", bytes,
		   lim->max_transfer);
}

static int memleaf_preadv(struct qblk_node *node, u64 offset, u64 bytes,
			  struct iov_iter *iter, unsigned int flags)
{
	struct memleaf *leaf = memleaf_of(node);
	u64 align = leaf->limits.request_alignment;
	u64 n = 0;
	int ret;

	memleaf_check_range(leaf, offset, bytes);
	memleaf_check_iter(leaf, bytes, iter);
	ret = memleaf_enter(leaf, MEMLEAF_READ);
	if (ret)
		return ret;
	KUNIT_EXPECT_LE(leaf->test, offset + bytes,
			round_up(leaf->length, align));
	if (offset < leaf->length)
		n = min(bytes, leaf->length - offset);
	if (copy_to_iter(leaf->data + offset, n, iter) != n ||
	    iov_iter_zero(bytes - n, iter) != bytes - n)
		ret = -EFAULT;
	memleaf_record(leaf, MEMLEAF_READ, offset, bytes, flags);
	mutex_unlock(&leaf->lock);
	return ret;
}

/* Make room for a write.  Context: lock held. */
static int memleaf_extend(struct memleaf *leaf, u64 offset, u64 bytes)
{
	u64 align = leaf->limits.request_alignment;
	u64 end = offset + bytes;

	if (end <= leaf->length)
		return 0;
	if (!leaf->limits.can_grow) {
		KUNIT_EXPECT_LE(leaf->test, end, round_up(leaf->length, align));
		return end > leaf->capacity ? -EIO : 0;
	}
	if (end > leaf->capacity)
		return -ENOSPC;
	WRITE_ONCE(leaf->length, end);
	return 0;
}

static int memleaf_pwritev(struct qblk_node *node, u64 offset, u64 bytes,
			   struct iov_iter *iter, unsigned int flags)
{
	struct memleaf *leaf = memleaf_of(node);
	int ret;

	memleaf_check_range(leaf, offset, bytes);
	memleaf_check_iter(leaf, bytes, iter);
	ret = memleaf_enter(leaf, MEMLEAF_WRITE);
	if (ret)
		return ret;
	KUNIT_EXPECT_FALSE(leaf->test, node->read_only);
	if (!leaf->limits.fua)
		KUNIT_EXPECT_FALSE(leaf->test, flags & QBLK_REQ_FUA);
	ret = memleaf_extend(leaf, offset, bytes);
	if (!ret && copy_from_iter(leaf->data + offset, bytes, iter) != bytes)
		ret = -EFAULT;
	if (!ret)
		memleaf_record(leaf, MEMLEAF_WRITE, offset, bytes, flags);
	mutex_unlock(&leaf->lock);
	return ret;
}

static int memleaf_append(struct qblk_node *node, struct qblk_append_io *io)
{
	return qblk_append_start(&memleaf_of(node)->append, io);
}

static int memleaf_pwrite_zeroes(struct qblk_node *node, u64 offset, u64 bytes,
				 unsigned int flags)
{
	struct memleaf *leaf = memleaf_of(node);
	int ret;

	memleaf_check_range(leaf, offset, bytes);
	if (leaf->limits.max_pwrite_zeroes)
		KUNIT_EXPECT_LE(leaf->test, bytes,
				leaf->limits.max_pwrite_zeroes);
	if (!leaf->limits.can_write_zeroes)
		return -EOPNOTSUPP;
	ret = memleaf_enter(leaf, MEMLEAF_ZERO);
	if (ret)
		return ret;
	ret = memleaf_extend(leaf, offset, bytes);
	if (!ret) {
		memset(leaf->data + offset, 0, bytes);
		memleaf_record(leaf, MEMLEAF_ZERO, offset, bytes, flags);
	}
	mutex_unlock(&leaf->lock);
	return ret;
}

static int memleaf_pdiscard(struct qblk_node *node, u64 offset, u64 bytes)
{
	struct memleaf *leaf = memleaf_of(node);
	int ret;

	memleaf_check_range(leaf, offset, bytes);
	if (leaf->limits.max_pdiscard)
		KUNIT_EXPECT_LE(leaf->test, bytes, leaf->limits.max_pdiscard);
	if (!leaf->limits.can_discard)
		return -EOPNOTSUPP;
	ret = memleaf_enter(leaf, MEMLEAF_DISCARD);
	if (ret)
		return ret;
	KUNIT_EXPECT_LE(leaf->test, offset + bytes, leaf->length);
	if (offset + bytes <= leaf->capacity)
		memset(leaf->data + offset, MEMLEAF_DISCARDED, bytes);
	memleaf_record(leaf, MEMLEAF_DISCARD, offset, bytes, 0);
	mutex_unlock(&leaf->lock);
	return 0;
}

static int memleaf_flush_to_disk(struct qblk_node *node)
{
	struct memleaf *leaf = memleaf_of(node);
	int ret;

	ret = memleaf_enter(leaf, MEMLEAF_FLUSH);
	if (ret)
		return ret;
	memleaf_record(leaf, MEMLEAF_FLUSH, 0, 0, 0);
	mutex_unlock(&leaf->lock);
	return 0;
}

static struct qblk_driver memleaf_driver = {
	.name = MEMLEAF_DRIVER,
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_PROTOCOL,
	.instance_size = sizeof(struct memleaf *),
	.open = memleaf_drv_open,
	.close = memleaf_drv_close,
	.submit = memleaf_submit,
	.preadv = memleaf_preadv,
	.pwritev = memleaf_pwritev,
	.append = memleaf_append,
	.pwrite_zeroes = memleaf_pwrite_zeroes,
	.pdiscard = memleaf_pdiscard,
	.flush_to_disk = memleaf_flush_to_disk,
	.getlength = memleaf_getlength,
	.refresh_limits = memleaf_refresh_limits,
};

/**
 * memleaf_suite_init - make the driver known
 * @suite: one that uses leaves
 */
int memleaf_suite_init(struct kunit_suite *suite)
{
	return qblk_register_driver(&memleaf_driver);
}

/**
 * memleaf_suite_exit - undo memleaf_suite_init()
 * @suite: the same
 */
void memleaf_suite_exit(struct kunit_suite *suite)
{
	qblk_unregister_driver(&memleaf_driver);
}

/* Nodes and buffers of a case */

static void memleaf_vfree(void *buf)
{
	vfree(buf);
}

void *memleaf_valloc(struct kunit *test, size_t bytes)
{
	void *buf = vzalloc(bytes);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, memleaf_vfree,
							   buf));
	return buf;
}

static void memleaf_free_log(void *private)
{
	struct memleaf *leaf = private;
	unsigned int i;

	mutex_lock(&leaf->lock);
	for (i = 0; i < leaf->log_nr; i++)
		kvfree(leaf->log[i].data);
	leaf->log_nr = 0;
	leaf->log = NULL;
	mutex_unlock(&leaf->lock);
}

/**
 * memleaf_alloc - a leaf, zeroed, not opened yet
 * @test: case it belongs to
 * @length: bytes it shows
 * @capacity: bytes it can grow to
 *
 * It has blocks of 512 bytes and can grow, discard and write zeroes.
 */
struct memleaf *memleaf_alloc(struct kunit *test, u64 length, u64 capacity)
{
	struct memleaf *leaf = kunit_kzalloc(test, sizeof(*leaf), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, leaf);
	leaf->test = test;
	leaf->limits = (struct qblk_limits) {
		.request_alignment = 512,
		.dma_alignment = 511,
		.logical_block_size = 512,
		.physical_block_size = 512,
		.pdiscard_alignment = 512,
		.can_discard = true,
		.can_write_zeroes = true,
		.can_grow = true,
	};
	leaf->data = memleaf_valloc(test, capacity);
	leaf->capacity = capacity;
	leaf->length = length;
	mutex_init(&leaf->lock);
	init_waitqueue_head(&leaf->wait);
	return leaf;
}

static void memleaf_node_del(void *private)
{
	mutex_lock(&qblk_control_mutex);
	qblk_node_del(private, true, NULL);
	mutex_unlock(&qblk_control_mutex);
}

/**
 * memleaf_node_open - open a node to be closed with the case
 * @test: the case
 * @p: what to open
 * @err: gets the sentence on failure
 *
 * Return: the node or an ERR_PTR.
 */
struct qblk_node *memleaf_node_open(struct kunit *test,
				    const struct qblk_node_params *p,
				    struct qblk_err *err)
{
	struct qblk_node *node;

	mutex_lock(&qblk_control_mutex);
	node = qblk_node_open(p, err);
	mutex_unlock(&qblk_control_mutex);
	if (!IS_ERR(node))
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test,
							  memleaf_node_del,
							  node));
	return node;
}

/**
 * memleaf_node_close - close a node before the case ends
 * @test: the case
 * @node: from memleaf_node_open()
 *
 * Return: what qblk_node_del() says; on failure the node stays.
 */
int memleaf_node_close(struct kunit *test, struct qblk_node *node)
{
	int ret;

	mutex_lock(&qblk_control_mutex);
	ret = qblk_node_del(node, false, NULL);
	mutex_unlock(&qblk_control_mutex);
	if (!ret)
		kunit_remove_action(test, memleaf_node_del, node);
	return ret;
}

/**
 * memleaf_node_abandon - close a node even if it cannot be written back
 * @test: the case
 * @node: from memleaf_node_open()
 */
void memleaf_node_abandon(struct kunit *test, struct qblk_node *node)
{
	kunit_release_action(test, memleaf_node_del, node);
}

/**
 * memleaf_edge_init - an edge for calls of the I/O functions
 * @edge: the edge, which the graph does not know
 * @node: where it leads
 */
void memleaf_edge_init(struct qblk_child *edge, struct qblk_node *node)
{
	*edge = (struct qblk_child) {
		.node = node,
		.name = "root",
		.desc = "a test",
		.perm = QBLK_PERM_ALL,
		.shared_perm = QBLK_PERM_ALL,
	};
}

/**
 * memleaf_try_open - open the node of a leaf
 * @leaf: the leaf
 * @name: of the node, or NULL
 * @read_only: no writes
 * @err: gets the sentence on failure
 *
 * Return: 0 or a negative errno.
 */
int memleaf_try_open(struct memleaf *leaf, const char *name, bool read_only,
		     struct qblk_err *err)
{
	struct qblk_opt opts[] = {
		{ .key = "read-only", .value = read_only ? "on" : "off" },
	};
	struct qblk_node_params p = {
		.driver = MEMLEAF_DRIVER,
		.name = name,
		.opts = opts,
		.nr_opts = ARRAY_SIZE(opts),
	};
	struct qblk_node *node;

	/* suites run one after the other */
	WRITE_ONCE(memleaf_opening, leaf);
	node = memleaf_node_open(leaf->test, &p, err);
	WRITE_ONCE(memleaf_opening, NULL);
	if (IS_ERR(node))
		return PTR_ERR(node);
	leaf->node = node;
	memleaf_edge_init(&leaf->edge, node);
	return 0;
}

/**
 * memleaf_open - memleaf_try_open() that is fatal for the case if it fails
 * @leaf: the leaf
 * @name: of the node
 * @read_only: no writes
 */
void memleaf_open(struct memleaf *leaf, const char *name, bool read_only)
{
	struct qblk_err err = {};

	KUNIT_ASSERT_EQ_MSG(leaf->test, 0,
			    memleaf_try_open(leaf, name, read_only, &err),
			    "%s", err.msg);
}

/* Steering a leaf */

/**
 * memleaf_fail - let operations fail
 * @leaf: the leaf
 * @types: mask of types
 * @skip: operations of these types to let pass first
 * @nr: operations to fail then, 0 for none at all
 * @error: with this
 */
void memleaf_fail(struct memleaf *leaf, unsigned int types, unsigned int skip,
		  unsigned int nr, int error)
{
	mutex_lock(&leaf->lock);
	leaf->fail_types = types;
	leaf->fail_skip = skip;
	leaf->fail_nr = nr;
	leaf->fail_error = error;
	mutex_unlock(&leaf->lock);
}

/**
 * memleaf_hold - let operations stall from now on
 * @leaf: the leaf
 * @types: mask of types
 */
void memleaf_hold(struct memleaf *leaf, unsigned int types)
{
	mutex_lock(&leaf->lock);
	WRITE_ONCE(leaf->hold, types);
	mutex_unlock(&leaf->lock);
}

/**
 * memleaf_wait_held - wait until operations have stalled
 * @leaf: the leaf
 * @nr: how many
 *
 * Return: false if that takes too long.
 */
bool memleaf_wait_held(struct memleaf *leaf, unsigned int nr)
{
	return wait_event_timeout(leaf->wait, READ_ONCE(leaf->held) >= nr,
				  30 * HZ);
}

/**
 * memleaf_release - let stalled operations go on
 * @leaf: the leaf
 */
void memleaf_release(struct memleaf *leaf)
{
	memleaf_hold(leaf, 0);
	wake_up_all(&leaf->wait);
}

/**
 * memleaf_log_start - log operations from now on, and what they write
 * @leaf: the leaf
 */
void memleaf_log_start(struct memleaf *leaf)
{
	struct kunit *test = leaf->test;
	struct memleaf_op *log;
	u8 *base;

	log = memleaf_valloc(test, MEMLEAF_LOG_MAX * sizeof(*log));
	base = memleaf_valloc(test, leaf->capacity);
	mutex_lock(&leaf->lock);
	memcpy(base, leaf->data, leaf->capacity);
	leaf->log_base = base;
	leaf->log = log;
	mutex_unlock(&leaf->lock);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   memleaf_free_log,
							   leaf));
}

/**
 * memleaf_apply - repeat a logged operation
 * @image: contents to change
 * @op: the operation
 * @bytes: how much of it is done
 */
void memleaf_apply(u8 *image, const struct memleaf_op *op, u64 bytes)
{
	switch (op->type) {
	case MEMLEAF_WRITE:
		memcpy(image + op->offset, op->data, bytes);
		break;
	case MEMLEAF_ZERO:
		memset(image + op->offset, 0, bytes);
		break;
	case MEMLEAF_DISCARD:
		memset(image + op->offset, MEMLEAF_DISCARDED, bytes);
		break;
	default:
		break;
	}
}

/* Threads */

static int memleaf_thread_fn(void *private)
{
	struct memleaf_thread *t = private;

	memalloc_noio_save();
	t->ret = t->fn(t);
	kthread_complete_and_exit(&t->done, 0);
}

/**
 * memleaf_thread_start - start a thread
 * @test: case, which waits for &memleaf_thread.done before it ends
 * @t: with &memleaf_thread.fn set
 */
void memleaf_thread_start(struct kunit *test, struct memleaf_thread *t)
{
	struct task_struct *task;

	init_completion(&t->done);
	task = kthread_run(memleaf_thread_fn, t, "qblk-kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
}
