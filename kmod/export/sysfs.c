// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/block/qblkN/qblk/
 *
 * What is shown is written down when the disk is made: removing an attribute
 * waits for its readers, so a reader must not wait for the control mutex.
 *
 * Paths are shown as in /proc/mounts: what would break a line, or a terminal,
 * is \ooo, and so is the backslash itself.
 */
#include "export_priv.h"

#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string_helpers.h>
#include <linux/sysfs.h>

#include <qblk/driver.h>

static struct qblk_export *qblk_dev_export(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

static ssize_t name_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%s\n", qblk_dev_export(dev)->name);
}
static DEVICE_ATTR_RO(name);

static ssize_t image_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%s\n", qblk_dev_export(dev)->image);
}
static DEVICE_ATTR_RO(image);

static ssize_t format_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%s\n", qblk_dev_export(dev)->format);
}
static DEVICE_ATTR_RO(format);

static ssize_t backing_chain_show(struct device *dev,
				  struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", qblk_dev_export(dev)->chain);
}
static DEVICE_ATTR_RO(backing_chain);

static struct attribute *qblk_disk_attrs[] = {
	&dev_attr_name.attr,
	&dev_attr_image.attr,
	&dev_attr_format.attr,
	&dev_attr_backing_chain.attr,
	NULL
};

static const struct attribute_group qblk_disk_group = {
	.name	= "qblk",
	.attrs	= qblk_disk_attrs,
};

const struct attribute_group *qblk_disk_groups[] = {
	&qblk_disk_group,
	NULL
};

/* The path of the image behind a node, or what comes closest */
static const char *qblk_node_image(const struct qblk_node *node)
{
	const struct qblk_node *n = node;

	while (n->file)
		n = n->file->node;
	if (n->label)
		return n->label;
	return node->label ? node->label : node->name;
}

/* The layer below: filters may stand between a format and its overlay */
static const struct qblk_node *qblk_node_below(const struct qblk_node *node)
{
	while (!node->backing) {
		if (!node->file)
			return NULL;
		node = node->file->node;
	}
	return node->backing->node;
}

/* Returns the bytes it takes, of which @size are written; no NUL */
static size_t qblk_escape(const char *text, char *to, size_t size)
{
	static const char special[] =
		"\001\002\003\004\005\006\007\010\011\012\013\014\015\016\017\020"
		"\021\022\023\024\025\026\027\030\031\032\033\034\035\036\037\177\\";

	return string_escape_mem(text, strlen(text), to, size, ESCAPE_OCTAL,
				 special);
}

static char *qblk_describe_image(const struct qblk_node *node)
{
	const char *image = qblk_node_image(node);
	size_t len = qblk_escape(image, NULL, 0);
	char *text;

	text = kzalloc(len + 1, GFP_KERNEL);
	if (text)
		qblk_escape(image, text, len);
	return text;
}

/* Whole lines only, without the last newline */
static char *qblk_describe_chain(const struct qblk_node *node)
{
	char *buf, *chain;
	size_t len = 0;
	size_t n;

	buf = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!buf)
		return NULL;
	for (; node; node = qblk_node_below(node)) {
		n = qblk_escape(qblk_node_image(node), buf + len,
				PAGE_SIZE - len);
		if (n >= PAGE_SIZE - len)
			break;
		len += n;
		buf[len++] = '\n';
	}
	chain = kstrndup(buf, len ? len - 1 : 0, GFP_KERNEL);
	kfree(buf);
	return chain;
}

/**
 * qblk_export_describe - write down what sysfs will show
 * @exp: the disk, its edge attached
 *
 * Context: qblk_control_mutex held.
 *
 * Return: 0 or -ENOMEM.
 */
int qblk_export_describe(struct qblk_export *exp)
{
	const struct qblk_node *node = exp->root->node;

	exp->image = qblk_describe_image(node);
	exp->format = kstrdup(node->drv->name, GFP_KERNEL);
	exp->chain = qblk_describe_chain(node);
	return exp->image && exp->format && exp->chain ? 0 : -ENOMEM;
}
