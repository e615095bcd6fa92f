// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <stdio.h>

struct list_opts {
	const char *columns;
	bool json;
	bool no_headings;
	bool bytes;
};

const struct arg_row list_rows[] = {
	{ 'J', "json", NULL, ARG_FLAG, offsetof(struct list_opts, json),
	  "print JSON" },
	{ 'o', "output", "COLUMNS", ARG_TEXT,
	  offsetof(struct list_opts, columns),
	  "columns to print, see qblkctl(8)" },
	{ 'n', "noheadings", NULL, ARG_FLAG,
	  offsetof(struct list_opts, no_headings), "do not print headings" },
	{ 'b', "bytes", NULL, ARG_FLAG, offsetof(struct list_opts, bytes),
	  "print sizes in bytes" },
	{}
};

static const struct column columns[] = {
	{ "DEVICE", "device", COLUMN_TEXT, true, "path of the device" },
	{ "NAME", "name", COLUMN_TEXT, true, "name of the disk" },
	{ "SIZE", "size", COLUMN_SIZE, true, "size of the disk" },
	{ "RO", "read-only", COLUMN_BOOL, true, "refuses writes" },
	{ "FORMAT", "format", COLUMN_TEXT, true, "driver at the top" },
	{ "IMAGE", "image", COLUMN_TEXT, true, "path of the image" },
	{ "BACKING", "backing", COLUMN_TEXT, false,
	  "path of the backing file" },
	{ "DATA-FILE", "data-file", COLUMN_TEXT, false,
	  "path of the data file" },
	{ "LAYERS", "layers", COLUMN_NUMBER, false, "images in the chain" },
	{ "NODE", "root", COLUMN_TEXT, false, "node at the top" },
	{ "MAJ:MIN", "maj:min", COLUMN_TEXT, false, "device number" },
	{ "LOG-SEC", "logical-block-size", COLUMN_NUMBER, false,
	  "logical block size" },
	{ "QUEUES", "queues", COLUMN_NUMBER, false, "hardware queues" },
	{ "OPEN", "openers", COLUMN_NUMBER, false, "how often it is open" },
	{ "STATE", "state", COLUMN_TEXT, false, "live, or going" },
	{ "TIER1", "tier1", COLUMN_NUMBER, false,
	  "pieces of I/O that went straight to a file or device" },
	{ "TIER2", "tier2", COLUMN_NUMBER, false,
	  "requests that took a worker" },
};

static void add_text(struct json_object *obj, const char *key, const char *text)
{
	if (text)
		json_object_object_add(obj, key, json_object_new_string(text));
}

/* What the table shows and the object of the disk does not have */
static void complete_row(struct json_object *disk, struct json_object *nodes)
{
	struct json_object *layers;
	char text[64];
	size_t nr;

	snprintf(text, sizeof(text), "/dev/%s", qblk_get_str(disk, "disk"));
	add_text(disk, "device", text);
	snprintf(text, sizeof(text), "%u:%u",
		 (unsigned int)qblk_get_u64(disk, "major"),
		 (unsigned int)qblk_get_u64(disk, "minor"));
	add_text(disk, "maj:min", text);

	layers = find_layers(nodes, qblk_get_str(disk, "root"));
	nr = json_object_array_length(layers);
	json_object_object_add(disk, "layers", json_object_new_int64(nr));
	if (nr) {
		struct json_object *top = json_object_array_get_idx(layers, 0);

		add_text(disk, "format", qblk_get_str(top, "driver"));
		add_text(disk, "image", layer_image(top));
		add_text(disk, "data-file",
			 qblk_get_str(qblk_get(top, "data-file"), "image"));
	}
	if (nr > 1)
		add_text(disk, "backing",
			 layer_image(json_object_array_get_idx(layers, 1)));
	json_object_put(layers);
}

int cmd_list(const struct command *cmd, const void *opts, int argc, char **argv)
{
	const struct list_opts *o = opts;
	const struct table t = {
		.name = "disks",
		.columns = columns,
		.nr = ARRAY_SIZE(columns),
		.chosen = o->columns,
		.json = o->json,
		.no_headings = o->no_headings,
		.bytes = o->bytes,
	};
	struct json_object *disks, *nodes = NULL;
	struct qblk_error err = {};
	struct qblk_sock *sock;
	size_t i;
	int ret;

	(void)argc;
	(void)argv;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, NULL, &err);
	disks = qblk_exports(sock, &err);
	if (disks)
		nodes = qblk_nodes(sock, &err);
	qblk_close(sock);
	if (nodes) {
		for (i = 0; i < json_object_array_length(disks); i++)
			complete_row(json_object_array_get_idx(disks, i),
				     nodes);
		ret = table_print(cmd, &t, disks);
	} else {
		ret = fail(cmd, NULL, &err);
	}
	json_object_put(disks);
	json_object_put(nodes);
	return ret;
}
