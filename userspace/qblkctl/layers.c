// SPDX-License-Identifier: GPL-2.0
/* The graph below a disk, seen as a chain of images. */
#include "qblkctl.h"

#include <string.h>

static struct json_object *find_node(struct json_object *nodes,
				     const char *name)
{
	struct json_object *node;
	size_t i;

	for (i = 0; name && i < json_object_array_length(nodes); i++) {
		node = json_object_array_get_idx(nodes, i);
		if (!strcmp(qblk_get_str(node, "node-name"), name))
			return node;
	}
	return NULL;
}

static struct json_object *child_of(struct json_object *nodes,
				    struct json_object *node, const char *name)
{
	return find_node(nodes, qblk_get_str(qblk_get(node, "children"), name));
}

/*
 * Follow "file" to the leaf.  On the way, @below is set to the backing file of
 * what a filter on top shows, and @data to its data file.
 */
static struct json_object *find_leaf(struct json_object *nodes,
				     struct json_object *node,
				     struct json_object **below,
				     struct json_object **data)
{
	struct json_object *next = node;

	while (next) {
		node = next;
		if (!*below)
			*below = child_of(nodes, node, "backing");
		if (!*data)
			*data = child_of(nodes, node, "data-file");
		next = child_of(nodes, node, "file");
	}
	return node;
}

struct json_object *find_layers(struct json_object *nodes, const char *root)
{
	struct json_object *layers = json_object_new_array();
	struct json_object *node = find_node(nodes, root);
	struct json_object *layer, *leaf, *below, *data, *ignored;
	int depth;

	/* The kernel has no longer ones, but the dump may be inconsistent. */
	for (depth = 0; layers && node && depth <= QBLK_MAX_CHAIN; depth++) {
		below = NULL;
		data = NULL;
		ignored = NULL;
		leaf = find_leaf(nodes, node, &below, &data);
		data = find_leaf(nodes, data, &ignored, &ignored);
		layer = NULL;
		if (json_object_deep_copy(node, &layer, NULL))
			break;
		if (leaf != node)
			json_object_object_add(layer, "file",
					       json_object_get(leaf));
		if (data)
			json_object_object_add(layer, "data-file",
					       json_object_get(data));
		json_object_array_add(layers, layer);
		node = below;
	}
	return layers;
}

const char *layer_image(struct json_object *layer)
{
	const char *image = qblk_get_str(qblk_get(layer, "file"), "image");

	return image ? image : qblk_get_str(layer, "image");
}
