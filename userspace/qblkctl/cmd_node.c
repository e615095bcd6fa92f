// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <stdio.h>
#include <string.h>

struct node_opts {
	const char *columns;
	bool json;
	bool no_headings;
	bool bytes;
	bool read_only;
};

const struct arg_row node_add_rows[] = {
	{ 'r', "read-only", NULL, ARG_FLAG,
	  offsetof(struct node_opts, read_only), "refuse writes" },
	{}
};

const struct arg_row node_list_rows[] = {
	{ 'J', "json", NULL, ARG_FLAG, offsetof(struct node_opts, json),
	  "print JSON" },
	{ 'o', "output", "COLUMNS", ARG_TEXT,
	  offsetof(struct node_opts, columns), "columns to print" },
	{ 'n', "noheadings", NULL, ARG_FLAG,
	  offsetof(struct node_opts, no_headings), "do not print headings" },
	{ 'b', "bytes", NULL, ARG_FLAG, offsetof(struct node_opts, bytes),
	  "print sizes in bytes" },
	{}
};

const struct arg_row node_show_rows[] = {
	{ 'J', "json", NULL, ARG_FLAG, offsetof(struct node_opts, json),
	  "print JSON" },
	{}
};

static const struct column columns[] = {
	{ "NODE", "node-name", COLUMN_TEXT, true, "name" },
	{ "DRIVER", "driver", COLUMN_TEXT, true, "driver" },
	{ "LENGTH", "length", COLUMN_SIZE, true, "size" },
	{ "RO", "read-only", COLUMN_BOOL, true, "refuses writes" },
	{ "CHILDREN", "children-text", COLUMN_TEXT, true, "nodes below" },
	{ "USED-BY", "used-by-text", COLUMN_TEXT, true, "nodes above" },
	{ "IMAGE", "image", COLUMN_TEXT, true, "path" },
};

static int parse(struct qblk_sock *sock, const char *text, bool read_only,
		 struct qblk_graph *g, struct qblk_error *err)
{
	struct json_object *tree = qblk_parse_options(text, err);
	struct chain c = { .sock = sock, .graph = g };
	int ret;

	if (!tree)
		return -err->code;
	ret = qblk_graph_build(g, tree, read_only, chain_header, &c, err);
	json_object_put(tree);
	return ret;
}

int cmd_node_add(const struct command *cmd, const void *opts, int argc,
		 char **argv)
{
	struct json_object *reply = NULL;
	const struct node_opts *o = opts;
	struct json_object *names;
	struct qblk_graph g = {};
	struct qblk_error err = {};
	struct qblk_sock *sock;
	size_t i;

	(void)argc;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, NULL, &err);
	if (!parse(sock, argv[0], o->read_only, &g, &err))
		reply = qblk_node_add(sock, &g, &err);
	explain_busy(sock, g.busy, &err);
	qblk_graph_free(&g);
	qblk_close(sock);
	if (!reply)
		return fail(cmd, NULL, &err);
	print_warnings(cmd, reply);
	names = qblk_get(reply, "nodes");
	for (i = 0; i < json_object_array_length(names); i++)
		puts(qblk_get_str(json_object_array_get_idx(names, i),
				  "node-name"));
	json_object_put(reply);
	return STATUS_OK;
}

int cmd_node_del(const struct command *cmd, const void *opts, int argc,
		 char **argv)
{
	struct qblk_error err = {};
	struct qblk_sock *sock;
	int ret;

	(void)opts;
	(void)argc;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, argv[0], &err);
	ret = qblk_node_del(sock, argv[0], &err);
	qblk_close(sock);
	return ret ? fail(cmd, argv[0], &err) : STATUS_OK;
}

/* Arrays and objects as text, for the cells of a table */
static void complete_row(struct json_object *node)
{
	struct json_object *used_by = qblk_get(node, "used-by");
	char text[512] = "";
	size_t i, len = 0;

	json_object_object_foreach(qblk_get(node, "children"), name, value)
		if (len < sizeof(text))
			len += snprintf(text + len, sizeof(text) - len,
					"%s%s=%s", len ? "," : "", name,
					json_object_get_string(value));
	json_object_object_add(node, "children-text",
			       json_object_new_string(text));
	text[0] = 0;
	for (i = 0, len = 0; i < json_object_array_length(used_by); i++)
		if (len < sizeof(text))
			len += snprintf(text + len, sizeof(text) - len, "%s%s",
					len ? "," : "",
					qblk_get_elem(used_by, i));
	json_object_object_add(node, "used-by-text",
			       json_object_new_string(text));
}

static int print_table(const struct command *cmd, const struct node_opts *o,
		       struct json_object *nodes)
{
	const struct table t = {
		.name = "nodes",
		.columns = columns,
		.nr = ARRAY_SIZE(columns),
		.chosen = o->columns,
		.no_headings = o->no_headings,
		.bytes = o->bytes,
	};
	size_t i;

	for (i = 0; i < json_object_array_length(nodes); i++)
		complete_row(json_object_array_get_idx(nodes, i));
	return table_print(cmd, &t, nodes);
}

int cmd_node_list(const struct command *cmd, const void *opts, int argc,
		  char **argv)
{
	const struct node_opts *o = opts;
	struct json_object *nodes, *obj;
	struct qblk_error err = {};
	struct qblk_sock *sock;
	int ret = STATUS_OK;

	(void)argc;
	(void)argv;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, NULL, &err);
	nodes = qblk_nodes(sock, &err);
	qblk_close(sock);
	if (!nodes)
		return fail(cmd, NULL, &err);
	if (o->json) {
		obj = json_object_new_object();
		json_object_object_add(obj, "nodes", json_object_get(nodes));
		print_json(obj);
		json_object_put(obj);
	} else {
		ret = print_table(cmd, o, nodes);
	}
	json_object_put(nodes);
	return ret;
}

int cmd_node_show(const struct command *cmd, const void *opts, int argc,
		  char **argv)
{
	const struct node_opts *o = opts;
	struct qblk_error err = {};
	struct json_object *node;
	struct qblk_sock *sock;

	(void)argc;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, argv[0], &err);
	node = qblk_node(sock, argv[0], &err);
	qblk_close(sock);
	if (!node)
		return fail(cmd, argv[0], &err);
	if (o->json)
		print_json(node);
	else
		print_member(0, NULL, node);
	json_object_put(node);
	return STATUS_OK;
}
