// SPDX-License-Identifier: GPL-2.0
/*
 * A parsed graph becomes definitions.
 *
 * QEMU knows from its schema which members of an object are children and which
 * are groups of options.  Here a member is a child if it is an object with a
 * driver or a file name, or if it has one of the names children have.
 */
#include "libqblk.h"

#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_KEY		256

/**
 * struct builder - where the definitions go
 * @g: the graph
 * @depth: nesting so far
 * @header: see qblk_graph_build(), or NULL
 * @arg: for @header
 * @err: gets the reason on failure
 */
struct builder {
	struct qblk_graph *g;
	unsigned int depth;
	qblk_header_fn header;
	void *arg;
	struct qblk_error *err;
};

/**
 * struct node - the node being read
 * @def: its definition, before it is appended to the graph
 * @filename: file to be opened, or NULL
 * @read_only: as given or inherited
 * @auto_read_only: open it for reading if it cannot be opened for writing
 * @locking: take QEMU's locks
 */
struct node {
	struct qblk_def def;
	const char *filename;
	bool read_only;
	bool auto_read_only;
	bool locking;
};

static int build_node(struct builder *b, struct json_object *tree,
		      bool read_only);

static bool is_child_name(const char *key)
{
	static const char *const names[] = {
		"file", "backing", "data-file", "log", "test", "image",
		"source", "target",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(key, names[i]))
			return true;
	return !strncmp(key, "children.", 9);
}

static bool is_node(struct json_object *value)
{
	return qblk_get(value, "driver") || qblk_get(value, "filename");
}

static const char *scalar_text(struct json_object *value)
{
	if (json_object_is_type(value, json_type_boolean))
		return json_object_get_boolean(value) ? "on" : "off";
	return json_object_get_string(value);
}

static int parse_bool(const char *key, const char *text, bool *to,
		      struct qblk_error *err)
{
	static const char *const words[] = {
		"off", "on", "no", "yes", "false", "true", "0", "1",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i]))
			continue;
		*to = i & 1;
		return 0;
	}
	return qblk_error_set(err, EINVAL, "%s: '%s' is neither on nor off",
			      key, text);
}

static int set_text(char **to, const char *text, struct qblk_error *err)
{
	free(*to);
	*to = strdup(text);
	return *to ? 0 : qblk_error_nomem(err);
}

/* What is not an option for the kernel; > 0 if @key is none of them. */
static int take_own(struct builder *b, struct node *n, const char *key,
		    const char *text)
{
	if (!strcmp(key, "driver"))
		return set_text(&n->def.driver, text, b->err);
	if (!strcmp(key, "node-name"))
		return set_text(&n->def.name, text, b->err);
	if (!strcmp(key, "filename")) {
		n->filename = text;
		return 0;
	}
	if (!strcmp(key, "read-only"))
		return parse_bool(key, text, &n->read_only, b->err);
	if (!strcmp(key, "auto-read-only"))
		return parse_bool(key, text, &n->auto_read_only, b->err);
	if (!strcmp(key, "locking")) {
		if (!strcmp(text, "auto"))
			return 0;
		return parse_bool(key, text, &n->locking, b->err);
	}
	return 1;
}

static int take_scalar(struct builder *b, struct node *n, const char *key,
		       struct json_object *value)
{
	const char *text;
	int ret;

	if (!value) {
		if (!strcmp(key, "backing"))
			return qblk_def_child(&n->def, key, NULL,
					      QBLK_NO_CHILD, b->err);
		return qblk_error_set(b->err, EINVAL, "'%s' is null", key);
	}
	text = scalar_text(value);
	/* An empty name means the same. */
	if (!*text && !strcmp(key, "backing"))
		return qblk_def_child(&n->def, key, NULL, QBLK_NO_CHILD,
				      b->err);
	ret = take_own(b, n, key, text);
	if (ret <= 0)
		return ret;
	if (is_child_name(key))
		return qblk_def_child(&n->def, key, text, 0, b->err);
	return qblk_def_option(&n->def, key, text, b->err);
}

static int take_child(struct builder *b, struct node *n, const char *key,
		      struct json_object *value)
{
	bool read_only = n->read_only || !strcmp(key, "backing");
	int index;

	index = build_node(b, value, read_only);
	if (index < 0)
		return index;
	return qblk_def_child(&n->def, key, NULL, index, b->err);
}

static int take_member(struct builder *b, struct node *n, const char *key,
		       struct json_object *value);

/* A group of options, or a list: members get dotted names. */
static int take_group(struct builder *b, struct node *n, const char *prefix,
		      struct json_object *value)
{
	char key[MAX_KEY];
	size_t i;
	int ret;

	if (json_object_is_type(value, json_type_array)) {
		for (i = 0; i < json_object_array_length(value); i++) {
			snprintf(key, sizeof(key), "%s.%zu", prefix, i);
			ret = take_member(b, n, key,
					  json_object_array_get_idx(value, i));
			if (ret)
				return ret;
		}
		return 0;
	}
	json_object_object_foreach(value, name, member) {
		snprintf(key, sizeof(key), "%s.%s", prefix, name);
		ret = take_member(b, n, key, member);
		if (ret)
			return ret;
	}
	return 0;
}

static int take_member(struct builder *b, struct node *n, const char *key,
		       struct json_object *value)
{
	if (strlen(key) > MAX_KEY / 2)
		return qblk_error_set(b->err, EINVAL,
				      "the option name '%.40s...' is too long",
				      key);
	if (json_object_is_type(value, json_type_object) &&
	    (is_node(value) || is_child_name(key)))
		return take_child(b, n, key, value);
	if (json_object_is_type(value, json_type_object) ||
	    json_object_is_type(value, json_type_array))
		return take_group(b, n, key, value);
	return take_scalar(b, n, key, value);
}

static int open_file(struct builder *b, struct node *n)
{
	char *path;
	int ret;

	ret = qblk_image_open(n->filename, n->read_only, b->err);
	if (ret < 0 && !n->read_only && n->auto_read_only &&
	    (ret == -EACCES || ret == -EROFS)) {
		n->read_only = true;
		ret = qblk_image_open(n->filename, true, b->err);
	}
	if (ret < 0)
		return ret;
	n->def.fd = ret;
	path = realpath(n->filename, NULL);
	ret = set_text(&n->def.label, path ? path : n->filename, b->err);
	free(path);
	if (!ret)
		ret = set_text(&n->def.filename, n->filename, b->err);
	if (!ret && n->locking)
		ret = qblk_image_lock(n->def.fd, n->filename, n->read_only,
				      b->err);
	if (ret == -EBUSY)
		b->g->busy = strdup(n->filename);
	if (!ret && !n->def.driver)
		ret = set_text(&n->def.driver, qblk_image_driver(n->def.fd),
			       b->err);
	return ret;
}

/* The options that say how a node and all below it are opened come first. */
static int take_read_only(struct builder *b, struct node *n,
			  struct json_object *tree)
{
	struct json_object *value = qblk_get(tree, "read-only");

	if (!value)
		return 0;
	return parse_bool("read-only", scalar_text(value), &n->read_only,
			  b->err);
}

static int read_node(struct builder *b, struct node *n,
		     struct json_object *tree)
{
	int ret;

	ret = take_read_only(b, n, tree);
	if (ret)
		return ret;
	json_object_object_foreach(tree, key, value) {
		ret = take_member(b, n, key, value);
		if (ret)
			return ret;
	}
	if (n->filename)
		ret = open_file(b, n);
	if (!ret && !n->def.driver)
		ret = qblk_error_set(b->err, EINVAL, "a driver is missing");
	if (!ret && n->read_only)
		ret = qblk_def_option(&n->def, "read-only", "on", b->err);
	return ret;
}

/* Hands the node over to the graph. */
static int append_node(struct builder *b, struct node *n)
{
	int index;

	index = qblk_graph_add(b->g, NULL, NULL, -1, b->err);
	if (index < 0)
		return index;
	b->g->defs[index] = n->def;
	memset(&n->def, 0, sizeof(n->def));
	n->def.fd = -1;
	return index;
}

static int build_node(struct builder *b, struct json_object *tree,
		      bool read_only)
{
	struct node n = {
		.def = { .fd = -1 },
		.read_only = read_only,
		.locking = true,
	};
	int ret;

	if (b->depth > QBLK_MAX_CHAIN)
		return qblk_error_set(b->err, ELOOP,
				      "the graph is deeper than %d nodes",
				      QBLK_MAX_CHAIN);
	b->depth++;
	ret = read_node(b, &n, tree);
	b->depth--;
	if (!ret && b->header)
		ret = b->header(b->arg, &n.def, b->err);
	if (!ret)
		ret = append_node(b, &n);
	qblk_def_free(&n.def);
	return ret;
}

int qblk_graph_build(struct qblk_graph *g, struct json_object *tree,
		     bool read_only, qblk_header_fn header, void *arg,
		     struct qblk_error *err)
{
	struct builder b = {
		.g = g,
		.header = header,
		.arg = arg,
		.err = err,
	};
	int ret;

	ret = build_node(&b, tree, read_only);
	return ret < 0 ? ret : 0;
}
