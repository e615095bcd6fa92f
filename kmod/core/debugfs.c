// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/qblk/nodes/NODE/info: what a driver tells about a node, a
 * line for each fact, as for qblkctl show but without a way through netlink.
 *
 * The directory exists while the node is in the graph: debugfs_remove() waits
 * for whoever is reading, before the driver closes.  So a reader needs no lock,
 * and must not take qblk_control_mutex, under which it is waited for.
 */
#include "core.h"

#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include <qblk/info.h>

static struct dentry *debugfs_root;
static struct dentry *debugfs_nodes;

static void debugfs_emit_str(struct qblk_info *info, const char *key,
			     const char *value)
{
	struct seq_file *m = info->private;

	seq_printf(m, "%s: ", key);
	/* Names come from images: one fact stays one line. */
	seq_escape(m, value, "\n\\");
	seq_putc(m, '\n');
}

static void debugfs_emit_u64(struct qblk_info *info, const char *key, u64 value)
{
	seq_printf(info->private, "%s: %llu\n", key, value);
}

static void debugfs_emit_bool(struct qblk_info *info, const char *key,
			      bool value)
{
	seq_printf(info->private, "%s: %s\n", key, value ? "on" : "off");
}

static int qblk_node_info_show(struct seq_file *m, void *unused)
{
	struct qblk_node *node = m->private;
	struct qblk_info info = {
		.emit_str = debugfs_emit_str,
		.emit_u64 = debugfs_emit_u64,
		.emit_bool = debugfs_emit_bool,
		.private = m,
	};

	qblk_info_str(&info, "driver", node->drv->name);
	qblk_info_bool(&info, "read-only", node->read_only);
	qblk_info_str(&info, "discard", node->discard_unmap ? "unmap" : "ignore");
	qblk_info_str(&info, "detect-zeroes",
		      qblk_detect_zeroes_words[node->detect_zeroes]);
	qblk_info_u64(&info, "length", qblk_node_length(node));
	if (node->drv->get_specific_info)
		node->drv->get_specific_info(node, &info);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(qblk_node_info);

/**
 * qblk_debugfs_add - show a node
 * @node: open
 *
 * Without debugfs, or memory for it, the node has no directory, and that is
 * all.  Context: qblk_control_mutex held.
 */
void qblk_debugfs_add(struct qblk_node *node)
{
	node->debugfs = debugfs_create_dir(node->name, debugfs_nodes);
	debugfs_create_file("info", 0400, node->debugfs, node,
			    &qblk_node_info_fops);
}

/**
 * qblk_debugfs_del - undo qblk_debugfs_add(), wait for readers
 * @node: still open
 *
 * Context: qblk_control_mutex held.
 */
void qblk_debugfs_del(struct qblk_node *node)
{
	debugfs_remove(node->debugfs);
}

/**
 * qblk_debugfs_init - make the directories
 */
void qblk_debugfs_init(void)
{
	debugfs_root = debugfs_create_dir("qblk", NULL);
	debugfs_nodes = debugfs_create_dir("nodes", debugfs_root);
}

/**
 * qblk_debugfs_exit - undo qblk_debugfs_init(), there are no nodes
 */
void qblk_debugfs_exit(void)
{
	debugfs_remove(debugfs_root);
}
