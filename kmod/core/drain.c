// SPDX-License-Identifier: GPL-2.0
/*
 * Drain: stop I/O into a subtree.
 *
 * Disks are frozen first, since freezing waits for their requests and those
 * need the nodes below to run; then the drivers stop what they do on their
 * own; then the I/O either of them left in flight is waited for.
 *
 * The graph above the subtree stays as it is between begin and end.
 */
#include "core.h"

#include <linux/export.h>

#include <qblk/export.h>

/* Every node from which @node can be reached, @node included */
static void walk_above(struct list_head *list, struct qblk_node *node)
{
	struct qblk_child *child;

	qblk_walk_add(list, node);
	list_for_each_entry(node, list, walk) {
		list_for_each_entry(child, &node->parents, node_entry) {
			if (child->parent)
				qblk_walk_add(list, child->parent);
		}
	}
}

static void exports_call(struct qblk_node *node,
			 void (*fn)(struct qblk_child *child))
{
	struct qblk_child *child;
	LIST_HEAD(list);

	walk_above(&list, node);
	list_for_each_entry(node, &list, walk) {
		list_for_each_entry(child, &node->parents, node_entry) {
			if (!child->parent)
				fn(child);
		}
	}
	qblk_walk_end(&list);
}

void qblk_drain_begin(struct qblk_node *node)
{
	struct qblk_node *n;
	LIST_HEAD(list);

	lockdep_assert_held(&qblk_control_mutex);
	exports_call(node, qblk_export_freeze);
	qblk_walk_below(&list, node);
	list_for_each_entry(n, &list, walk) {
		if (!n->drained++ && n->drv->drain_begin)
			n->drv->drain_begin(n);
	}
	list_for_each_entry(n, &list, walk) {
		if (n->tracked)
			qblk_node_io_sync(n);
	}
	qblk_walk_end(&list);
}
EXPORT_SYMBOL_GPL(qblk_drain_begin);

void qblk_drain_end(struct qblk_node *node)
{
	struct qblk_node *n;
	LIST_HEAD(list);

	lockdep_assert_held(&qblk_control_mutex);
	qblk_walk_below(&list, node);
	list_for_each_entry(n, &list, walk) {
		if (!--n->drained && n->drv->drain_end)
			n->drv->drain_end(n);
	}
	qblk_walk_end(&list);
	exports_call(node, qblk_export_unfreeze);
}
EXPORT_SYMBOL_GPL(qblk_drain_end);
