// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/**
 * struct attach_opts - options of the command
 * @format: of the image, or NULL
 * @name: of the disk, or NULL
 * @image_opts: graph in QEMU's syntax, instead of an image
 * @node: existing node, instead of an image
 * @backing_dir: where backing files are
 * @data_file: data file of the image, or NULL
 * @discard: ``unmap``, ``ignore`` or NULL
 * @detect_zeroes: ``off``, ``on``, ``unmap`` or NULL
 * @snapshot: internal snapshot to show, or NULL
 * @offset: of the image in its file, bytes
 * @sector: logical block size, bytes, or 0
 * @queues: hardware queues, or 0
 * @read_only: no writes
 * @no_backing: leave backing files out
 * @no_partscan: do not look for partitions
 */
struct attach_opts {
	const char *format;
	const char *name;
	const char *image_opts;
	const char *node;
	const char *backing_dir;
	const char *data_file;
	const char *discard;
	const char *detect_zeroes;
	const char *snapshot;
	uint64_t offset;
	uint64_t sector;
	uint64_t queues;
	bool read_only;
	bool no_backing;
	bool no_partscan;
};

static_assert(sizeof(struct attach_opts) <= MAX_OPTS_SIZE);

#define AT(member)	offsetof(struct attach_opts, member)

const struct arg_row attach_rows[] = {
	{ 'f', "format", "FORMAT", ARG_TEXT, AT(format),
	  "format of the image, such as qcow2 or raw" },
	{ 'r', "read-only", NULL, ARG_FLAG, AT(read_only),
	  "refuse writes" },
	{ 'l', "load-snapshot", "SNAPSHOT", ARG_TEXT, AT(snapshot),
	  "show an internal snapshot, read-only: its id or name" },
	{ 0, "name", "NAME", ARG_TEXT, AT(name),
	  "name of the disk (default: that of the device)" },
	{ 0, "image-opts", "OPTIONS", ARG_TEXT, AT(image_opts),
	  "build the graph from QEMU options or JSON" },
	{ 0, "node", "NODE", ARG_TEXT, AT(node),
	  "show an existing node" },
	{ 0, "no-backing", NULL, ARG_FLAG, AT(no_backing),
	  "leave backing files out" },
	{ 0, "backing-dir", "DIR", ARG_TEXT, AT(backing_dir),
	  "where relative names of backing files start" },
	{ 0, "data-file", "FILE", ARG_TEXT, AT(data_file),
	  "where the data is (default: what the header names)" },
	{ 'o', "offset", "SIZE", ARG_SIZE, AT(offset),
	  "where the image starts in its file" },
	{ 's', "sector-size", "SIZE", ARG_SIZE, AT(sector),
	  "logical block size of the disk" },
	{ 0, "no-partscan", NULL, ARG_FLAG, AT(no_partscan),
	  "do not look for partitions" },
	{ 0, "discard", "unmap|ignore", ARG_TEXT, AT(discard),
	  "pass discards on (default) or drop them" },
	{ 0, "detect-zeroes", "off|on|unmap", ARG_TEXT, AT(detect_zeroes),
	  "what becomes of writes that are all zero" },
	{ 0, "queues", "N", ARG_NUMBER, AT(queues),
	  "hardware queues (default: one per CPU)" },
	{}
};

/* An option that needs an image, given without one */
static const char *misplaced_option(const struct attach_opts *o)
{
	if (o->format)
		return "--format";
	if (o->node && o->backing_dir)
		return "--backing-dir";
	if (o->node && o->no_backing)
		return "--no-backing";
	if (o->data_file)
		return "--data-file";
	if (o->offset)
		return "--offset";
	if (o->discard)
		return "--discard";
	if (o->detect_zeroes)
		return "--detect-zeroes";
	if (o->snapshot)
		return "--load-snapshot";
	return NULL;
}

static int check_usage(const struct command *cmd, const struct attach_opts *o,
		       int argc)
{
	const char *option = misplaced_option(o);

	if (argc + !!o->image_opts + !!o->node != 1)
		return usage_error(cmd, "one image, --image-opts or --node is needed");
	if (!argc && option)
		return usage_error(cmd, "%s needs an image", option);
	if (o->no_backing && o->backing_dir)
		return usage_error(cmd, "--no-backing and --backing-dir exclude each other");
	if (o->discard && strcmp(o->discard, "unmap") &&
	    strcmp(o->discard, "ignore"))
		return usage_error(cmd, "--discard: '%s' is neither unmap nor ignore",
				   o->discard);
	if (o->offset % 512)
		return usage_error(cmd, "--offset: not a multiple of 512");
	if (o->sector && (o->sector < 512 || o->sector > 4096 ||
			  o->sector & (o->sector - 1)))
		return usage_error(cmd, "--sector-size: not 512, 1024, 2048 or 4096");
	if (o->queues > 4096)
		return usage_error(cmd, "--queues: more than 4096");
	return 0;
}

/* Is the format one the kernel has a driver for?  Not so is an exit status. */
static int check_format(struct qblk_sock *sock, const char *format,
			struct qblk_error *err)
{
	struct json_object *driver;

	if (!format)
		return 0;
	driver = qblk_driver(sock, format, err);
	if (!driver) {
		if (err->code == ENOENT)
			err->code = EOPNOTSUPP;
		return -err->code;
	}
	json_object_put(driver);
	return 0;
}

/* "Not found" that is about a driver is "not supported". */
static void check_drivers(struct qblk_sock *sock, const struct qblk_graph *g,
			  struct qblk_error *err)
{
	struct qblk_error why = {};
	size_t i;

	for (i = 0; err->code == ENOENT && i < g->nr; i++)
		if (check_format(sock, g->defs[i].driver, &why) == -EOPNOTSUPP)
			err->code = EOPNOTSUPP;
}

static int graph_of_image(struct qblk_sock *sock, struct qblk_graph *g,
			  const struct attach_opts *o, const char *path,
			  struct qblk_error *err)
{
	struct chain c = {
		.sock = sock,
		.graph = g,
		.format = o->format,
		.backing_dir = o->backing_dir,
		.data_file = o->data_file,
		.no_backing = o->no_backing,
		.read_only = o->read_only || o->snapshot,
		.discard = o->discard,
		.detect_zeroes = o->detect_zeroes,
		.snapshot = o->snapshot,
		.offset = o->offset,
	};
	int ret;

	ret = check_format(sock, o->format, err);
	if (!ret)
		ret = chain_build(&c, path, err);
	return ret;
}

static int graph_of_options(struct qblk_sock *sock, struct qblk_graph *g,
			    const struct attach_opts *o, struct qblk_error *err)
{
	struct json_object *tree = qblk_parse_options(o->image_opts, err);
	struct chain c = {
		.sock = sock,
		.graph = g,
		.backing_dir = o->backing_dir,
		.no_backing = o->no_backing,
	};
	int ret;

	if (!tree)
		return -err->code;
	ret = qblk_graph_build(g, tree, o->read_only, chain_header, &c, err);
	json_object_put(tree);
	return ret;
}

/* A disk on a node opened for reading is read-only without being told. */
static bool root_is_read_only(const struct qblk_graph *g)
{
	const struct qblk_def *root;
	size_t i;

	if (!g->nr)
		return false;
	root = &g->defs[g->nr - 1];
	for (i = 0; i < root->nr_options; i++)
		if (!strcmp(root->options[i].key, "read-only"))
			return !strcmp(root->options[i].value, "on");
	return false;
}

static struct json_object *attach(struct qblk_sock *sock,
				  const struct attach_opts *o, const char *path,
				  struct qblk_error *err)
{
	struct qblk_export_params p = {
		.name = o->name,
		.root = o->node,
		.read_only = o->read_only,
		.no_partscan = o->no_partscan,
		.logical_block_size = o->sector,
		.queues = o->queues,
	};
	struct json_object *disk = NULL;
	struct qblk_graph g = {};
	int ret = 0;

	if (path)
		ret = graph_of_image(sock, &g, o, path, err);
	else if (o->image_opts)
		ret = graph_of_options(sock, &g, o, err);
	explain_busy(sock, g.busy, err);
	p.read_only |= root_is_read_only(&g);
	if (!ret) {
		disk = qblk_export_add(sock, &g, &p, err);
		if (!disk)
			check_drivers(sock, &g, err);
	}
	qblk_graph_free(&g);
	return disk;
}

int cmd_attach(const struct command *cmd, const void *opts, int argc,
	       char **argv)
{
	const char *path = argc ? argv[0] : NULL;
	const struct attach_opts *o = opts;
	struct qblk_error err = {};
	struct json_object *disk;
	struct qblk_sock *sock;
	const char *name;
	uint64_t since;
	int ret;

	ret = check_usage(cmd, o, argc);
	if (ret)
		return ret;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, path, &err);
	since = time_usec();
	disk = attach(sock, o, path, &err);
	qblk_close(sock);
	if (!disk)
		return fail(cmd, path ? path : o->node, &err);
	print_warnings(cmd, disk);
	name = qblk_get_str(disk, "disk");
	wait_for_disk(name, since);
	printf("/dev/%s\n", name);
	json_object_put(disk);
	return STATUS_OK;
}
