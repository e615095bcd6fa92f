// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <stdio.h>
#include <string.h>

struct show_opts {
	bool json;
};

const struct arg_row show_rows[] = {
	{ 'J', "json", NULL, ARG_FLAG, offsetof(struct show_opts, json),
	  "print JSON" },
	{}
};

static void print_text(const char *key, const char *text)
{
	if (!text)
		return;
	printf("  %-22s ", key);
	print_safe(stdout, text);
	putchar('\n');
}

static void print_bytes(const char *key, uint64_t bytes)
{
	char size[32];

	format_size(size, sizeof(size), bytes);
	printf("  %-22s %s (%llu bytes)\n", key, size,
	       (unsigned long long)bytes);
}

static void print_disk(struct json_object *disk)
{
	static const char *const keys[] = {
		"name", "read-only", "logical-block-size", "queues", "openers",
		"state", "tier1", "tier2",
	};
	size_t i;

	printf("/dev/%s\n", qblk_get_str(disk, "disk"));
	print_bytes("size", qblk_get_u64(disk, "size"));
	for (i = 0; i < ARRAY_SIZE(keys); i++)
		print_member(2, keys[i], qblk_get(disk, keys[i]));
}

static void print_data_file(struct json_object *data)
{
	const char *image = qblk_get_str(data, "image");

	print_text("data file", image ? image : qblk_get_str(data, "node-name"));
	print_text("data file driver", qblk_get_str(data, "driver"));
	print_text("data file node", qblk_get_str(data, "node-name"));
	print_bytes("data file size", qblk_get_u64(data, "length"));
}

static void print_layer(struct json_object *layer, size_t depth)
{
	struct json_object *data = qblk_get(layer, "data-file");
	struct json_object *file = qblk_get(layer, "file");
	const char *image = layer_image(layer);

	printf("\nlayer %zu: ", depth);
	print_safe(stdout, image ? image : qblk_get_str(layer, "node-name"));
	putchar('\n');
	print_text("format", qblk_get_str(layer, "driver"));
	print_text("node", qblk_get_str(layer, "node-name"));
	print_bytes("virtual size", qblk_get_u64(layer, "length"));
	print_member(2, "read-only", qblk_get(layer, "read-only"));
	print_member(2, "discard", qblk_get(layer, "discard"));
	print_text("detect-zeroes", qblk_get_str(layer, "detect-zeroes"));
	if (file) {
		print_text("file driver", qblk_get_str(file, "driver"));
		print_text("file node", qblk_get_str(file, "node-name"));
		print_bytes("file size", qblk_get_u64(file, "length"));
		print_member(2, NULL, qblk_get(file, "info"));
	}
	if (data)
		print_data_file(data);
	print_member(2, NULL, qblk_get(layer, "info"));
}

static struct json_object *describe(struct qblk_sock *sock, const char *text,
				    struct qblk_error *err)
{
	struct json_object *disk, *nodes;

	disk = find_disk(sock, text, err);
	if (!disk)
		return NULL;
	nodes = qblk_nodes(sock, err);
	if (!nodes) {
		json_object_put(disk);
		return NULL;
	}
	json_object_object_add(disk, "layers",
			       find_layers(nodes, qblk_get_str(disk, "root")));
	json_object_put(nodes);
	return disk;
}

int cmd_show(const struct command *cmd, const void *opts, int argc, char **argv)
{
	const struct show_opts *o = opts;
	struct json_object *disk, *layers;
	struct qblk_error err = {};
	struct qblk_sock *sock;
	size_t i;

	(void)argc;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, argv[0], &err);
	disk = describe(sock, argv[0], &err);
	qblk_close(sock);
	if (!disk)
		return fail(cmd, argv[0], &err);
	if (o->json) {
		print_json(disk);
	} else {
		print_disk(disk);
		layers = qblk_get(disk, "layers");
		for (i = 0; i < json_object_array_length(layers); i++)
			print_layer(json_object_array_get_idx(layers, i), i);
	}
	json_object_put(disk);
	return STATUS_OK;
}
