// SPDX-License-Identifier: GPL-2.0
/* One function per command of the netlink family. */
#include "libqblk.h"

#include "transport.h"

#include <errno.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <string.h>

/* Attributes of a command without definitions: a few names and numbers */
#define SMALL_PAYLOAD	(8 << 10)

/* A name of the user that the kernel's policy would refuse less clearly */
static int check_text(const char *what, const char *text, size_t max,
		      struct qblk_error *err)
{
	if (text && strlen(text) > max)
		return qblk_error_set(err, EINVAL,
				      "%s '%.40s...' is longer than %zu bytes",
				      what, text, max);
	return 0;
}

/*
 * Every function that puts attributes returns 0 or what libnl returned; the
 * message is large enough unless a nest is longer than 64 KiB.
 */
static int put_text(struct nl_msg *msg, int type, const char *text)
{
	return text ? nla_put_string(msg, type, text) : 0;
}

static int put_u32(struct nl_msg *msg, int type, uint32_t value)
{
	return value ? nla_put_u32(msg, type, value) : 0;
}

static int put_flag(struct nl_msg *msg, int type, bool set)
{
	return set ? nla_put_flag(msg, type) : 0;
}

static struct nlattr *nest_start(struct nl_msg *msg, int type)
{
	return nla_nest_start(msg, type | NLA_F_NESTED);
}

static int put_option(struct nl_msg *msg, const struct qblk_option *o)
{
	struct nlattr *nest = nest_start(msg, QBLK_A_NODE_OPTION);

	if (!nest || put_text(msg, QBLK_A_OPTION_KEY, o->key) ||
	    put_text(msg, QBLK_A_OPTION_VALUE, o->value))
		return -1;
	return nla_nest_end(msg, nest);
}

static int put_child_node(struct nl_msg *msg, const struct qblk_child *c)
{
	if (c->node)
		return put_text(msg, QBLK_A_CHILD_NODE, c->node);
	if (c->index == QBLK_NO_CHILD)
		return nla_put_flag(msg, QBLK_A_CHILD_NONE);
	return nla_put_u32(msg, QBLK_A_CHILD_INDEX, c->index);
}

static int put_child(struct nl_msg *msg, const struct qblk_child *c)
{
	struct nlattr *nest = nest_start(msg, QBLK_A_NODE_CHILD);

	if (!nest || put_text(msg, QBLK_A_CHILD_NAME, c->name))
		return -1;
	if (put_child_node(msg, c))
		return -1;
	return nla_nest_end(msg, nest);
}

static int put_def(struct nl_msg *msg, int type, const struct qblk_def *def)
{
	struct nlattr *nest = nest_start(msg, type);
	size_t i;

	if (!nest || put_text(msg, QBLK_A_NODE_DRIVER, def->driver) ||
	    put_text(msg, QBLK_A_NODE_NAME, def->name) ||
	    put_text(msg, QBLK_A_NODE_LABEL, def->label))
		return -1;
	if (def->fd >= 0 && nla_put_s32(msg, QBLK_A_NODE_FD, def->fd))
		return -1;
	for (i = 0; i < def->nr_options; i++)
		if (put_option(msg, &def->options[i]))
			return -1;
	for (i = 0; i < def->nr_children; i++)
		if (put_child(msg, &def->children[i]))
			return -1;
	return nla_nest_end(msg, nest);
}

static size_t text_size(const char *text)
{
	return text ? nla_total_size(strlen(text) + 1) : 0;
}

static size_t def_size(const struct qblk_def *def)
{
	size_t size = nla_total_size(0) + nla_total_size(sizeof(int32_t));
	size_t i;

	size += text_size(def->driver) + text_size(def->name) +
		text_size(def->label);
	for (i = 0; i < def->nr_options; i++)
		size += nla_total_size(0) + text_size(def->options[i].key) +
			text_size(def->options[i].value);
	for (i = 0; i < def->nr_children; i++)
		size += nla_total_size(0) + text_size(def->children[i].name) +
			text_size(def->children[i].node) +
			nla_total_size(sizeof(uint32_t));
	return size;
}

static size_t graph_size(const struct qblk_graph *g)
{
	size_t size = 0;
	size_t i;

	for (i = 0; i < g->nr; i++)
		size += def_size(&g->defs[i]);
	return size;
}

static int check_def(const struct qblk_def *def, struct qblk_error *err)
{
	size_t i;
	int ret;

	if (!def->driver)
		return qblk_error_set(err, EINVAL, "node '%s' has no driver",
				      def->name ? def->name : "");
	ret = check_text("driver name", def->driver, QBLK_MAX_DRIVER_LEN, err);
	if (!ret)
		ret = check_text("node name", def->name, QBLK_MAX_NAME_LEN,
				 err);
	if (!ret)
		ret = check_text("path", def->label, QBLK_MAX_TEXT_LEN, err);
	for (i = 0; i < def->nr_options && !ret; i++) {
		ret = check_text("option", def->options[i].key,
				 QBLK_MAX_KEY_LEN, err);
		if (!ret)
			ret = check_text("value", def->options[i].value,
					 QBLK_MAX_TEXT_LEN, err);
	}
	for (i = 0; i < def->nr_children && !ret; i++) {
		ret = check_text("child name", def->children[i].name,
				 QBLK_MAX_NAME_LEN, err);
		if (!ret)
			ret = check_text("node name", def->children[i].node,
					 QBLK_MAX_NAME_LEN, err);
	}
	return ret;
}

static int put_graph(struct nl_msg *msg, int type, const struct qblk_graph *g,
		     struct qblk_error *err)
{
	size_t i;

	for (i = 0; i < g->nr; i++) {
		if (check_def(&g->defs[i], err))
			return -err->code;
		if (put_def(msg, type, &g->defs[i]))
			return qblk_error_set(err, EMSGSIZE,
					      "the definition of a %s node is larger than 64 KiB",
					      g->defs[i].driver);
	}
	return 0;
}

/* A request whose only attribute is a name */
static struct json_object *call_name(struct qblk_sock *s, uint8_t cmd, int type,
				     const char *name,
				     const struct qblk_set *set,
				     struct qblk_error *err)
{
	struct nl_msg *msg;

	/* The driver's limit is the same. */
	if (check_text("name", name, QBLK_MAX_NAME_LEN, err))
		return NULL;
	msg = qblk_msg_new(s, cmd, SMALL_PAYLOAD, err);
	if (msg)
		put_text(msg, type, name);
	return qblk_call(s, msg, set, err);
}

struct json_object *qblk_version(struct qblk_sock *s, struct qblk_error *err)
{
	return qblk_call(s, qblk_msg_new(s, QBLK_CMD_VERSION_GET, 0, err),
			 &qblk_set_module, err);
}

struct json_object *qblk_drivers(struct qblk_sock *s, struct qblk_error *err)
{
	return qblk_dump(s, QBLK_CMD_DRIVER_GET, &qblk_set_driver, err);
}

struct json_object *qblk_driver(struct qblk_sock *s, const char *name,
				struct qblk_error *err)
{
	return call_name(s, QBLK_CMD_DRIVER_GET, QBLK_A_DRIVER_NAME, name,
			 &qblk_set_driver, err);
}

struct json_object *qblk_nodes(struct qblk_sock *s, struct qblk_error *err)
{
	return qblk_dump(s, QBLK_CMD_NODE_GET, &qblk_set_node, err);
}

struct json_object *qblk_node(struct qblk_sock *s, const char *name,
			      struct qblk_error *err)
{
	return call_name(s, QBLK_CMD_NODE_GET, QBLK_A_NODE_NAME, name,
			 &qblk_set_node, err);
}

struct json_object *qblk_exports(struct qblk_sock *s, struct qblk_error *err)
{
	return qblk_dump(s, QBLK_CMD_EXPORT_GET, &qblk_set_export, err);
}

struct json_object *qblk_export(struct qblk_sock *s, const char *name,
				struct qblk_error *err)
{
	return call_name(s, QBLK_CMD_EXPORT_GET, QBLK_A_EXPORT_NAME, name,
			 &qblk_set_export, err);
}

struct json_object *qblk_node_add(struct qblk_sock *s,
				  const struct qblk_graph *g,
				  struct qblk_error *err)
{
	struct nl_msg *msg;

	msg = qblk_msg_new(s, QBLK_CMD_NODE_ADD, graph_size(g), err);
	if (!msg)
		return NULL;
	if (put_graph(msg, QBLK_A_GRAPH_NODE, g, err)) {
		nlmsg_free(msg);
		return NULL;
	}
	return qblk_call(s, msg, &qblk_set_graph, err);
}

int qblk_node_del(struct qblk_sock *s, const char *name, struct qblk_error *err)
{
	struct json_object *reply;

	reply = call_name(s, QBLK_CMD_NODE_DEL, QBLK_A_NODE_NAME, name,
			  &qblk_set_node, err);
	if (!reply)
		return -err->code;
	json_object_put(reply);
	return 0;
}

struct json_object *qblk_export_add(struct qblk_sock *s,
				    const struct qblk_graph *g,
				    const struct qblk_export_params *p,
				    struct qblk_error *err)
{
	struct nl_msg *msg;

	if (check_text("disk name", p->name, QBLK_MAX_NAME_LEN, err) ||
	    check_text("node name", p->root, QBLK_MAX_NAME_LEN, err))
		return NULL;
	msg = qblk_msg_new(s, QBLK_CMD_EXPORT_ADD,
			   graph_size(g) + SMALL_PAYLOAD, err);
	if (!msg)
		return NULL;
	if (put_graph(msg, QBLK_A_EXPORT_NODE, g, err)) {
		nlmsg_free(msg);
		return NULL;
	}
	put_text(msg, QBLK_A_EXPORT_NAME, p->name);
	put_text(msg, QBLK_A_EXPORT_ROOT, p->root);
	put_flag(msg, QBLK_A_EXPORT_READ_ONLY, p->read_only);
	put_flag(msg, QBLK_A_EXPORT_NO_PARTSCAN, p->no_partscan);
	put_u32(msg, QBLK_A_EXPORT_LOGICAL_BLOCK_SIZE, p->logical_block_size);
	put_u32(msg, QBLK_A_EXPORT_QUEUES, p->queues);
	put_u32(msg, QBLK_A_EXPORT_QUEUE_DEPTH, p->queue_depth);
	return qblk_call(s, msg, &qblk_set_export, err);
}

int qblk_export_del(struct qblk_sock *s, const char *name, const char *root,
		    enum qblk_detach_mode mode, struct qblk_error *err)
{
	struct json_object *reply;
	struct nl_msg *msg;

	if (check_text("disk name", name, QBLK_MAX_NAME_LEN, err))
		return -err->code;
	msg = qblk_msg_new(s, QBLK_CMD_EXPORT_DEL, SMALL_PAYLOAD, err);
	if (msg) {
		put_text(msg, QBLK_A_EXPORT_NAME, name);
		put_text(msg, QBLK_A_EXPORT_ROOT, root);
		put_u32(msg, QBLK_A_EXPORT_MODE, mode);
	}
	reply = qblk_call(s, msg, &qblk_set_export, err);
	if (!reply)
		return -err->code;
	json_object_put(reply);
	return 0;
}

struct json_object *qblk_probe(struct qblk_sock *s, int fd, const char *format,
			       uint64_t offset, struct qblk_error *err)
{
	struct nl_msg *msg;

	if (check_text("format", format, QBLK_MAX_DRIVER_LEN, err))
		return NULL;
	msg = qblk_msg_new(s, QBLK_CMD_PROBE, SMALL_PAYLOAD, err);
	if (msg) {
		nla_put_s32(msg, QBLK_A_PROBE_FD, fd);
		put_text(msg, QBLK_A_PROBE_FORMAT, format);
		if (offset)
			nla_put_u64(msg, QBLK_A_PROBE_OFFSET, offset);
	}
	return qblk_call(s, msg, &qblk_set_probe, err);
}
