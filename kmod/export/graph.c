// SPDX-License-Identifier: GPL-2.0
/*
 * What a disk has to know of its graph as a whole.  All under
 * qblk_control_mutex, so that the graph stands still.
 */
#include "export_priv.h"

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include <qblk/driver.h>

/* A few hundred nodes at most, and only when disks come and go */
static bool qblk_nodes_have(const struct qblk_nodes *nodes,
			    const struct qblk_node *node)
{
	unsigned int i;

	for (i = 0; i < nodes->nr; i++)
		if (nodes->node[i] == node)
			return true;
	return false;
}

static int qblk_nodes_grow(struct qblk_nodes *nodes)
{
	unsigned int max = nodes->max ? nodes->max * 2 : 8;
	struct qblk_node **node;

	node = krealloc_array(nodes->node, max, sizeof(*node), GFP_KERNEL);
	if (!node)
		return -ENOMEM;
	nodes->node = node;
	nodes->max = max;
	return 0;
}

static int qblk_nodes_add(struct qblk_nodes *nodes, struct qblk_node *node)
{
	int ret;

	if (qblk_nodes_have(nodes, node))
		return 0;
	if (nodes->nr == nodes->max) {
		ret = qblk_nodes_grow(nodes);
		if (ret)
			return ret;
	}
	nodes->node[nodes->nr++] = node;
	return 0;
}

void qblk_nodes_free(struct qblk_nodes *nodes)
{
	kfree(nodes->node);
}

/**
 * qblk_nodes_below - all nodes that can be reached
 * @nodes: result, to be freed by qblk_nodes_free() also on failure
 * @root: where to start, part of the result
 *
 * Return: 0 or -ENOMEM.
 */
int qblk_nodes_below(struct qblk_nodes *nodes, struct qblk_node *root)
{
	const struct qblk_child *child;
	unsigned int i;
	int ret;

	lockdep_assert_held(&qblk_control_mutex);
	ret = qblk_nodes_add(nodes, root);
	for (i = 0; !ret && i < nodes->nr; i++) {
		list_for_each_entry(child, &nodes->node[i]->children,
				    parent_entry) {
			ret = qblk_nodes_add(nodes, child->node);
			if (ret)
				break;
		}
	}
	return ret;
}

/* Goes with @root, as far as its parents are known: those in @nodes go */
static bool qblk_node_goes(const struct qblk_nodes *nodes,
			   const struct qblk_child *root,
			   const struct qblk_node *node)
{
	const struct qblk_child *edge;

	if (!node->implicit)
		return false;
	list_for_each_entry(edge, &node->parents, node_entry) {
		if (edge == root)
			continue;
		if (!edge->parent || !qblk_nodes_have(nodes, edge->parent))
			return false;
	}
	return true;
}

/**
 * qblk_nodes_going - the nodes that qblk_node_reap() will close
 * @nodes: result, to be freed by qblk_nodes_free() also on failure
 * @root: edge that will be detached
 *
 * A node is added when its last parent is, so parents precede children.
 *
 * Return: 0 or -ENOMEM, with @nodes incomplete.
 */
int qblk_nodes_going(struct qblk_nodes *nodes, struct qblk_child *root)
{
	const struct qblk_child *child;
	unsigned int i;
	int ret = 0;

	lockdep_assert_held(&qblk_control_mutex);
	if (qblk_node_goes(nodes, root, root->node))
		ret = qblk_nodes_add(nodes, root->node);
	for (i = 0; !ret && i < nodes->nr; i++) {
		list_for_each_entry(child, &nodes->node[i]->children,
				    parent_entry) {
			if (!qblk_node_goes(nodes, root, child->node))
				continue;
			ret = qblk_nodes_add(nodes, child->node);
			if (ret)
				break;
		}
	}
	return ret;
}

static bool qblk_export_has_slave(const struct qblk_export *exp,
				  const struct block_device *bdev)
{
	unsigned int i;

	for (i = 0; i < exp->nr_slaves; i++)
		if (exp->slaves[i] == bdev)
			return true;
	return false;
}

static void qblk_export_add_slave(struct qblk_export *exp,
				  const struct qblk_node *node)
{
	struct block_device *bdev;

	if (!node->drv->get_bdev)
		return;
	bdev = node->drv->get_bdev(node);
	if (bdev && !qblk_export_has_slave(exp, bdev))
		exp->slaves[exp->nr_slaves++] = bdev;
}

/**
 * qblk_export_find_slaves - find the block devices under a disk
 * @exp: the disk, its edge attached
 *
 * Fills &qblk_export.slaves.  Nodes of the graph keep them open.
 *
 * Return: 0 or -ENOMEM.
 */
int qblk_export_find_slaves(struct qblk_export *exp)
{
	struct qblk_nodes nodes = {};
	unsigned int i;
	int ret;

	ret = qblk_nodes_below(&nodes, exp->root->node);
	if (ret)
		goto out;
	exp->slaves = kcalloc(nodes.nr, sizeof(*exp->slaves), GFP_KERNEL);
	if (!exp->slaves) {
		ret = -ENOMEM;
		goto out;
	}
	for (i = 0; i < nodes.nr; i++)
		qblk_export_add_slave(exp, nodes.node[i]);
out:
	qblk_nodes_free(&nodes);
	return ret;
}

/**
 * qblk_export_link_slaves - show in sysfs what a disk stands on
 * @exp: the disk, added
 *
 * A link that cannot be made is missing from lsblk and nowhere else.
 */
void qblk_export_link_slaves(struct qblk_export *exp)
{
	unsigned int i, nr = 0;
	int ret;

	for (i = 0; i < exp->nr_slaves; i++) {
		ret = bd_link_disk_holder(exp->slaves[i], exp->disk);
		if (!ret)
			exp->slaves[nr++] = exp->slaves[i];
		else
			pr_warn("%s: no link to the disk below: %pe\n",
				exp->disk->disk_name, ERR_PTR(ret));
	}
	exp->nr_slaves = nr;
}

/**
 * qblk_export_unlink_slaves - undo qblk_export_link_slaves()
 * @exp: the disk, not yet deleted
 */
void qblk_export_unlink_slaves(struct qblk_export *exp)
{
	while (exp->nr_slaves)
		bd_unlink_disk_holder(exp->slaves[--exp->nr_slaves], exp->disk);
}
