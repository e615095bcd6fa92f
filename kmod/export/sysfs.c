// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/block/qblkN/qblk/
 *
 * What is shown is written down when the disk is made: removing an attribute
 * waits for its readers, so a reader must not wait for the control mutex.
 */
#include "export_priv.h"

#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/slab.h>
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

/* Whole lines only, without the last newline */
static char *qblk_describe_chain(const struct qblk_node *node)
{
	char *buf, *chain;
	size_t len = 0;
	int n;

	buf = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!buf)
		return NULL;
	for (; node; node = qblk_node_below(node)) {
		n = snprintf(buf + len, PAGE_SIZE - len, "%s\n",
			     qblk_node_image(node));
		if (n >= PAGE_SIZE - len)
			break;
		len += n;
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

	exp->image = kstrdup(qblk_node_image(node), GFP_KERNEL);
	exp->format = kstrdup(node->drv->name, GFP_KERNEL);
	exp->chain = qblk_describe_chain(node);
	return exp->image && exp->format && exp->chain ? 0 : -ENOMEM;
}
