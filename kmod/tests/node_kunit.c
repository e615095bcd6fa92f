// SPDX-License-Identifier: GPL-2.0
/* Edges: who may use a node together with whom. */
#include <kunit/test.h>
#include <linux/err.h>
#include <linux/mutex.h>
#include <linux/string.h>

#include "../core/core.h"

/**
 * struct node_ctx - a node and its users
 * @node: the node, of the null driver
 * @err: why the last one was refused
 */
struct node_ctx {
	struct qblk_node *node;
	struct qblk_err err;
};

/* Returns with qblk_control_mutex held */
static void node_begin(struct kunit *test, struct node_ctx *x, bool read_only)
{
	struct qblk_opt opts[] = {
		{ .key = "read-only", .value = read_only ? "on" : "off" },
	};
	const struct qblk_node_params p = {
		.driver = "null",
		.opts = opts,
		.nr_opts = ARRAY_SIZE(opts),
	};

	memset(x, 0, sizeof(*x));
	mutex_lock(&qblk_control_mutex);
	x->node = qblk_node_open(&p, &x->err);
	if (IS_ERR(x->node))
		mutex_unlock(&qblk_control_mutex);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR(x->node), "%s", x->err.msg);
}

static void node_end(struct kunit *test, struct node_ctx *x)
{
	KUNIT_EXPECT_EQ(test, 0, qblk_node_del(x->node, false, NULL));
	mutex_unlock(&qblk_control_mutex);
}

static struct qblk_child *node_use(struct node_ctx *x, u32 perm, u32 shared,
				   const char *who)
{
	memset(&x->err, 0, sizeof(x->err));
	return qblk_child_attach(NULL, x->node, "root", QBLK_CHILD_DATA, perm,
				 shared, who, &x->err);
}

static void node_expect_refused(struct kunit *test, struct node_ctx *x,
				u32 perm, u32 shared, int why)
{
	struct qblk_child *edge = node_use(x, perm, shared, "other");

	KUNIT_EXPECT_EQ(test, why, PTR_ERR_OR_ZERO(edge));
	KUNIT_EXPECT_NOT_NULL(test, strstr(x->err.msg, x->node->name));
	KUNIT_EXPECT_NOT_NULL(test, strstr(x->err.msg, "other"));
	if (!IS_ERR(edge))
		qblk_child_detach(edge);
}

/* What one uses and another one does not share: the node is busy */
static void node_conflict(struct kunit *test)
{
	const u32 rd = QBLK_PERM_CONSISTENT_READ, wr = rd | QBLK_PERM_WRITE;
	struct qblk_child *edge, *second;
	struct node_ctx x;

	node_begin(test, &x, false);
	edge = node_use(&x, wr, rd, "first");
	if (IS_ERR(edge)) {
		KUNIT_FAIL(test, "no edge: %s", x.err.msg);
	} else {
		/* The other one writes, or does not want others to. */
		node_expect_refused(test, &x, wr, QBLK_PERM_ALL, -EBUSY);
		node_expect_refused(test, &x, rd, rd, -EBUSY);
		second = node_use(&x, rd, QBLK_PERM_ALL, "other");
		KUNIT_EXPECT_EQ(test, 0, PTR_ERR_OR_ZERO(second));
		if (!IS_ERR(second))
			qblk_child_detach(second);
		KUNIT_EXPECT_EQ(test, -EBUSY,
				qblk_node_del(x.node, false, NULL));
		qblk_child_detach(edge);
	}
	node_end(test, &x);
}

/* A node that refuses writes is not busy: waiting would not help */
static void node_read_only(struct kunit *test)
{
	const u32 rd = QBLK_PERM_CONSISTENT_READ;
	struct node_ctx x;

	node_begin(test, &x, true);
	node_expect_refused(test, &x, rd | QBLK_PERM_WRITE, QBLK_PERM_ALL,
			    -EPERM);
	node_expect_refused(test, &x, rd | QBLK_PERM_RESIZE, QBLK_PERM_ALL,
			    -EPERM);
	node_end(test, &x);
}

static struct kunit_case node_cases[] = {
	KUNIT_CASE(node_conflict),
	KUNIT_CASE(node_read_only),
	{}
};

static struct kunit_suite node_suite = {
	.name = "qblk_node",
	.test_cases = node_cases,
};

kunit_test_suite(node_suite);
