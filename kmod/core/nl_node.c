// SPDX-License-Identifier: GPL-2.0
/* node-add, node-del, node-get, and the node definitions of export-add. */
#include "netlink_priv.h"

#include "core.h"
#include "nl_gen.h"

#include <qblk/driver.h>
#include <qblk/info.h>
#include <qblk/node.h>
#include <qblk/option.h>

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/sizes.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include <net/netlink.h>

/* Options and children of one node: far more than any driver has. */
#define QBLK_NL_MAX_ROWS	256

/* Facts about a node are asked for again with more room, up to this. */
#define QBLK_NL_NODE_SIZE	SZ_8K
#define QBLK_NL_NODE_SIZE_MAX	SZ_1M

/*
 * Users of a node that a dump names: with all of them, a node may need more
 * room than a message of a dump has, and there would be no dump at all.
 */
#define QBLK_NL_DUMP_USERS	64

static_assert(QBLK_NODE_NAME_LEN > QBLK_MAX_NAME_LEN);

/* Reply of node-add: a nest with a name. */
#define QBLK_NL_NAME_SIZE	(2 * NLA_HDRLEN + QBLK_NODE_NAME_LEN)

/**
 * struct qblk_nl_def - the definition of a node, read from a message
 * @p: what is handed to qblk_node_open(); texts point into the message
 * @who: the node in messages
 * @opts: storage of &qblk_node_params.opts
 * @children: storage of &qblk_node_params.children
 */
struct qblk_nl_def {
	struct qblk_node_params p;
	char who[64];
	struct qblk_opt *opts;
	struct qblk_child_ref *children;
};

static unsigned int qblk_nl_count(const struct nlattr *nest, int type)
{
	const struct nlattr *attr;
	unsigned int nr = 0;
	int rem;

	nla_for_each_nested(attr, nest, rem)
		nr += nla_type(attr) == type;
	return nr;
}

static int qblk_nl_parse_option(struct qblk_nl_ctx *ctx,
				const struct qblk_nl_def *def,
				const struct nlattr *nest, struct qblk_opt *opt)
{
	struct nlattr *tb[QBLK_A_OPTION_MAX + 1];
	int ret;

	ret = nla_parse_nested(tb, QBLK_A_OPTION_MAX, nest,
			       qblk_option_nl_policy, ctx->info->extack);
	if (ret)
		return ret;
	if (!tb[QBLK_A_OPTION_KEY] || !tb[QBLK_A_OPTION_VALUE]) {
		qblk_err_set(&ctx->err, "%s: an option needs a key and a value",
			     def->who);
		return -EINVAL;
	}
	opt->key = nla_data(tb[QBLK_A_OPTION_KEY]);
	opt->value = nla_data(tb[QBLK_A_OPTION_VALUE]);
	return 0;
}

static int qblk_nl_parse_options(struct qblk_nl_ctx *ctx,
				 struct qblk_nl_def *def,
				 const struct nlattr *nest)
{
	const struct nlattr *attr;
	unsigned int nr = qblk_nl_count(nest, QBLK_A_NODE_OPTION);
	int rem, ret;

	if (nr > QBLK_NL_MAX_ROWS) {
		qblk_err_set(&ctx->err, "%s: %u options are too many",
			     def->who, nr);
		return -E2BIG;
	}
	def->opts = kcalloc(nr, sizeof(*def->opts), GFP_KERNEL);
	if (!def->opts)
		return -ENOMEM;
	nla_for_each_nested(attr, nest, rem) {
		if (nla_type(attr) != QBLK_A_NODE_OPTION)
			continue;
		ret = qblk_nl_parse_option(ctx, def, attr,
					   &def->opts[def->p.nr_opts]);
		if (ret)
			return ret;
		def->p.nr_opts++;
	}
	def->p.opts = def->opts;
	return 0;
}

/* A child is an existing node, or one defined earlier in the message. */
static struct qblk_node *qblk_nl_find_child(struct qblk_nl_ctx *ctx,
					    const struct qblk_nl_def *def,
					    struct nlattr **tb,
					    const struct qblk_nl_nodes *set)
{
	struct qblk_node *node;
	const char *name;
	u32 index;

	if (tb[QBLK_A_CHILD_INDEX]) {
		index = nla_get_u32(tb[QBLK_A_CHILD_INDEX]);
		if (index < set->nr)
			return set->nodes[index];
		qblk_err_set(&ctx->err,
			     "%s: child '%s' is definition %u, which does not precede it",
			     def->who, qblk_nl_text(tb[QBLK_A_CHILD_NAME]),
			     index);
		return NULL;
	}
	name = nla_data(tb[QBLK_A_CHILD_NODE]);
	node = qblk_node_find(name);
	if (!node)
		qblk_err_set(&ctx->err, "%s: child '%s': there is no node '%s'",
			     def->who, qblk_nl_text(tb[QBLK_A_CHILD_NAME]),
			     name);
	return node;
}

static int qblk_nl_parse_child(struct qblk_nl_ctx *ctx,
			       const struct qblk_nl_def *def,
			       const struct nlattr *nest,
			       const struct qblk_nl_nodes *set,
			       struct qblk_child_ref *ref)
{
	struct nlattr *tb[QBLK_A_CHILD_MAX + 1];
	int ret;

	ret = nla_parse_nested(tb, QBLK_A_CHILD_MAX, nest, qblk_child_nl_policy,
			       ctx->info->extack);
	if (ret)
		return ret;
	if (!tb[QBLK_A_CHILD_NAME] ||
	    !!tb[QBLK_A_CHILD_NODE] + !!tb[QBLK_A_CHILD_INDEX] +
	    !!tb[QBLK_A_CHILD_NONE] != 1) {
		qblk_err_set(&ctx->err,
			     "%s: a child needs a name, and a node, an index or none",
			     def->who);
		return -EINVAL;
	}
	ref->name = nla_data(tb[QBLK_A_CHILD_NAME]);
	if (tb[QBLK_A_CHILD_NONE])
		return 0;
	ref->node = qblk_nl_find_child(ctx, def, tb, set);
	return ref->node ? 0 : -ENOENT;
}

static int qblk_nl_parse_children(struct qblk_nl_ctx *ctx,
				  struct qblk_nl_def *def,
				  const struct nlattr *nest,
				  const struct qblk_nl_nodes *set)
{
	const struct nlattr *attr;
	unsigned int nr = qblk_nl_count(nest, QBLK_A_NODE_CHILD);
	int rem, ret;

	if (nr > QBLK_NL_MAX_ROWS) {
		qblk_err_set(&ctx->err, "%s: %u children are too many",
			     def->who, nr);
		return -E2BIG;
	}
	def->children = kcalloc(nr, sizeof(*def->children), GFP_KERNEL);
	if (!def->children)
		return -ENOMEM;
	nla_for_each_nested(attr, nest, rem) {
		if (nla_type(attr) != QBLK_A_NODE_CHILD)
			continue;
		ret = qblk_nl_parse_child(ctx, def, attr, set,
					  &def->children[def->p.nr_children]);
		if (ret)
			return ret;
		def->p.nr_children++;
	}
	def->p.children = def->children;
	return 0;
}

static int qblk_nl_parse_fd(struct qblk_nl_ctx *ctx, struct qblk_nl_def *def,
			    const struct nlattr *attr)
{
	if (!attr)
		return 0;
	/* doit() runs in the task that sends: this is its table of files. */
	def->p.file = fget(nla_get_s32(attr));
	if (!def->p.file) {
		qblk_err_set(&ctx->err, "%s: %d is not an open file descriptor",
			     def->who, nla_get_s32(attr));
		return -EBADF;
	}
	return 0;
}

static int qblk_nl_def_parse(struct qblk_nl_ctx *ctx, const struct nlattr *nest,
			     const struct qblk_nl_nodes *set,
			     struct qblk_nl_def *def)
{
	struct nlattr *tb[ARRAY_SIZE(qblk_node_def_nl_policy)];
	int ret;

	ret = nla_parse_nested(tb, ARRAY_SIZE(tb) - 1, nest,
			       qblk_node_def_nl_policy, ctx->info->extack);
	if (ret)
		return ret;
	def->p.driver = qblk_nl_text(tb[QBLK_A_NODE_DRIVER]);
	def->p.name = qblk_nl_text(tb[QBLK_A_NODE_NAME]);
	def->p.label = qblk_nl_text(tb[QBLK_A_NODE_LABEL]);
	def->p.implicit = set->implicit;
	if (def->p.name)
		snprintf(def->who, sizeof(def->who), "node '%s'", def->p.name);
	else
		snprintf(def->who, sizeof(def->who), "definition %u", set->nr);
	if (!def->p.driver) {
		qblk_err_set(&ctx->err, "%s: a driver is missing", def->who);
		NL_SET_ERR_ATTR_MISS(ctx->info->extack, (struct nlattr *)nest,
				     QBLK_A_NODE_DRIVER);
		return -EINVAL;
	}
	ret = qblk_nl_parse_options(ctx, def, nest);
	if (!ret)
		ret = qblk_nl_parse_children(ctx, def, nest, set);
	if (!ret)
		ret = qblk_nl_parse_fd(ctx, def, tb[QBLK_A_NODE_FD]);
	return ret;
}

static int qblk_nl_node_open(struct qblk_nl_ctx *ctx, const struct nlattr *nest,
			     struct qblk_nl_nodes *set)
{
	struct qblk_nl_def *def;
	struct qblk_node *node;
	int ret;

	def = kzalloc(sizeof(*def), GFP_KERNEL);
	if (!def)
		return -ENOMEM;
	ret = qblk_nl_def_parse(ctx, nest, set, def);
	if (ret)
		goto out;
	node = qblk_node_open(&def->p, &ctx->err);
	ret = PTR_ERR_OR_ZERO(node);
	if (!ret)
		set->nodes[set->nr++] = node;
out:
	if (def->p.file)
		fput(def->p.file);
	kfree(def->children);
	kfree(def->opts);
	kfree(def);
	return ret;
}

int qblk_nl_nodes_open(struct qblk_nl_ctx *ctx, int attrtype,
		       struct qblk_nl_nodes *set)
{
	const struct nlattr *attr;
	unsigned int nr = 0;
	int rem, ret;

	set->nr = 0;
	nlmsg_for_each_attr(attr, ctx->info->nlhdr, GENL_HDRLEN, rem)
		nr += nla_type(attr) == attrtype;
	if (nr > QBLK_MAX_NODES) {
		qblk_err_set(&ctx->err, "%u nodes in one message are too many",
			     nr);
		return -E2BIG;
	}
	set->nodes = kcalloc(nr, sizeof(*set->nodes), GFP_KERNEL);
	if (!set->nodes)
		return -ENOMEM;
	nlmsg_for_each_attr(attr, ctx->info->nlhdr, GENL_HDRLEN, rem) {
		if (nla_type(attr) != attrtype)
			continue;
		ret = qblk_nl_node_open(ctx, attr, set);
		if (ret) {
			qblk_nl_nodes_undo(set);
			qblk_nl_nodes_free(set);
			return ret;
		}
	}
	return 0;
}

void qblk_nl_nodes_undo(struct qblk_nl_nodes *set)
{
	/* Nobody but the rest of the message can be using them yet. */
	if (set->implicit) {
		qblk_node_reap();
		return;
	}
	while (set->nr)
		qblk_node_del(set->nodes[--set->nr], true, NULL);
}

void qblk_nl_nodes_free(struct qblk_nl_nodes *set)
{
	kfree(set->nodes);
	set->nodes = NULL;
}

static int qblk_nl_put_name(struct sk_buff *skb, const struct qblk_node *node)
{
	struct nlattr *nest;

	nest = nla_nest_start(skb, QBLK_A_GRAPH_NODE);
	if (!nest || nla_put_string(skb, QBLK_A_NODE_NAME, node->name))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int qblk_nl_node_add(struct qblk_nl_ctx *ctx)
{
	struct qblk_nl_nodes set = { .implicit = false };
	u32 i;
	int ret;

	if (GENL_REQ_ATTR_CHECK(ctx->info, QBLK_A_GRAPH_NODE)) {
		qblk_err_set(&ctx->err, "a node definition is missing");
		return -EINVAL;
	}
	ret = qblk_nl_nodes_open(ctx, QBLK_A_GRAPH_NODE, &set);
	if (ret)
		return ret;
	ret = qblk_nl_reply_new(ctx, set.nr * QBLK_NL_NAME_SIZE +
				     QBLK_NL_WARNINGS_SIZE);
	for (i = 0; i < set.nr && !ret; i++)
		ret = qblk_nl_put_name(ctx->reply, set.nodes[i]);
	if (!ret)
		ret = qblk_nl_put_warnings(ctx, QBLK_A_GRAPH_WARNING);
	if (ret)
		qblk_nl_nodes_undo(&set);
	qblk_nl_nodes_free(&set);
	return ret;
}

int qblk_nl_node_add_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_node_add, true);
}

static struct qblk_node *qblk_nl_node_named(struct qblk_nl_ctx *ctx)
{
	struct qblk_node *node;
	const char *name;

	if (GENL_REQ_ATTR_CHECK(ctx->info, QBLK_A_NODE_NAME)) {
		qblk_err_set(&ctx->err, "the name of a node is missing");
		return ERR_PTR(-EINVAL);
	}
	name = nla_data(ctx->info->attrs[QBLK_A_NODE_NAME]);
	node = qblk_node_find(name);
	if (!node) {
		qblk_err_set(&ctx->err, "there is no node '%s'", name);
		return ERR_PTR(-ENOENT);
	}
	return node;
}

static int qblk_nl_node_del(struct qblk_nl_ctx *ctx)
{
	struct qblk_node *node = qblk_nl_node_named(ctx);
	int ret;

	if (IS_ERR(node))
		return PTR_ERR(node);
	ret = qblk_nl_reply_new(ctx, nla_total_size(QBLK_NODE_NAME_LEN));
	if (!ret)
		ret = nla_put_string(ctx->reply, QBLK_A_NODE_NAME, node->name);
	if (!ret)
		ret = qblk_node_del(node, false, &ctx->err);
	return ret;
}

int qblk_nl_node_del_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_node_del, true);
}

static int qblk_nl_put_child(struct sk_buff *skb,
			     const struct qblk_child *child)
{
	struct nlattr *nest;

	nest = nla_nest_start(skb, QBLK_A_NODE_CHILD);
	if (!nest || nla_put_string(skb, QBLK_A_CHILD_NAME, child->name) ||
	    nla_put_string(skb, QBLK_A_CHILD_NODE, child->node->name))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int qblk_nl_put_edges(struct sk_buff *skb, const struct qblk_node *node,
			     unsigned int max_users)
{
	const struct qblk_child *edge;
	unsigned int nr = 0;

	list_for_each_entry(edge, &node->children, parent_entry)
		if (qblk_nl_put_child(skb, edge))
			return -EMSGSIZE;
	list_for_each_entry(edge, &node->parents, node_entry) {
		if (nr++ == max_users)
			break;
		if (nla_put_string(skb, QBLK_A_NODE_USED_BY, edge->desc))
			return -EMSGSIZE;
	}
	return 0;
}

static int qblk_nl_put_limits(struct sk_buff *skb,
			      const struct qblk_limits *lim)
{
	const struct {
		int type;
		u32 value;
	} numbers[] = {
		{ QBLK_A_LIMITS_REQUEST_ALIGNMENT, lim->request_alignment },
		{ QBLK_A_LIMITS_LOGICAL_BLOCK_SIZE, lim->logical_block_size },
		{ QBLK_A_LIMITS_PHYSICAL_BLOCK_SIZE, lim->physical_block_size },
		{ QBLK_A_LIMITS_IO_MIN, lim->io_min },
		{ QBLK_A_LIMITS_IO_OPT, lim->io_opt },
		{ QBLK_A_LIMITS_PDISCARD_ALIGNMENT, lim->pdiscard_alignment },
	};
	const struct {
		int type;
		bool set;
	} flags[] = {
		{ QBLK_A_LIMITS_CAN_DISCARD, lim->can_discard },
		{ QBLK_A_LIMITS_CAN_WRITE_ZEROES, lim->can_write_zeroes },
		{ QBLK_A_LIMITS_FUA, lim->fua },
		{ QBLK_A_LIMITS_ROTATIONAL, lim->rotational },
	};
	struct nlattr *nest;
	unsigned int i;

	nest = nla_nest_start(skb, QBLK_A_NODE_LIMITS);
	if (!nest)
		return -EMSGSIZE;
	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].value &&
		    nla_put_u32(skb, numbers[i].type, numbers[i].value))
			return -EMSGSIZE;
	for (i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].set && nla_put_flag(skb, flags[i].type))
			return -EMSGSIZE;
	if (lim->max_transfer &&
	    nla_put_u64_64bit(skb, QBLK_A_LIMITS_MAX_TRANSFER,
			      lim->max_transfer, QBLK_A_LIMITS_PAD))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/**
 * struct qblk_nl_info - a sink of facts that writes attributes
 * @sink: what the driver sees
 * @skb: where to
 * @ret: -EMSGSIZE once it is full
 */
struct qblk_nl_info {
	struct qblk_info sink;
	struct sk_buff *skb;
	int ret;
};

static struct nlattr *qblk_nl_info_start(struct qblk_nl_info *to,
					 const char *key)
{
	struct nlattr *nest;

	if (to->ret)
		return NULL;
	nest = nla_nest_start(to->skb, QBLK_A_NODE_INFO);
	if (nest && !nla_put_string(to->skb, QBLK_A_INFO_KEY, key))
		return nest;
	to->ret = -EMSGSIZE;
	return NULL;
}

static void qblk_nl_info_end(struct qblk_nl_info *to, struct nlattr *nest,
			     int ret)
{
	if (ret)
		to->ret = ret;
	else
		nla_nest_end(to->skb, nest);
}

static void qblk_nl_emit_str(struct qblk_info *info, const char *key,
			     const char *value)
{
	struct qblk_nl_info *to = container_of(info, struct qblk_nl_info, sink);
	struct nlattr *nest = qblk_nl_info_start(to, key);

	if (nest)
		qblk_nl_info_end(to, nest, nla_put_string(to->skb,
							  QBLK_A_INFO_TEXT,
							  value));
}

static void qblk_nl_emit_u64(struct qblk_info *info, const char *key, u64 value)
{
	struct qblk_nl_info *to = container_of(info, struct qblk_nl_info, sink);
	struct nlattr *nest = qblk_nl_info_start(to, key);

	if (nest)
		qblk_nl_info_end(to, nest,
				 nla_put_u64_64bit(to->skb, QBLK_A_INFO_NUMBER,
						   value, QBLK_A_INFO_PAD));
}

static void qblk_nl_emit_bool(struct qblk_info *info, const char *key,
			      bool value)
{
	struct qblk_nl_info *to = container_of(info, struct qblk_nl_info, sink);
	struct nlattr *nest = qblk_nl_info_start(to, key);

	if (nest)
		qblk_nl_info_end(to, nest, nla_put_u8(to->skb,
						      QBLK_A_INFO_TRUTH,
						      value));
}

static int qblk_nl_put_info(struct sk_buff *skb, struct qblk_node *node)
{
	struct qblk_nl_info to = {
		.sink = {
			.emit_str = qblk_nl_emit_str,
			.emit_u64 = qblk_nl_emit_u64,
			.emit_bool = qblk_nl_emit_bool,
		},
		.skb = skb,
	};

	if (node->drv->get_specific_info)
		node->drv->get_specific_info(node, &to.sink);
	return to.ret;
}

static int qblk_nl_put_node(struct sk_buff *skb, struct qblk_node *node,
			    unsigned int max_users)
{
	if (nla_put_string(skb, QBLK_A_NODE_DRIVER, node->drv->name) ||
	    nla_put_string(skb, QBLK_A_NODE_NAME, node->name) ||
	    (node->label &&
	     nla_put_string(skb, QBLK_A_NODE_LABEL, node->label)) ||
	    (node->read_only && nla_put_flag(skb, QBLK_A_NODE_READ_ONLY)) ||
	    (node->implicit && nla_put_flag(skb, QBLK_A_NODE_IMPLICIT)) ||
	    (node->discard_unmap && nla_put_flag(skb, QBLK_A_NODE_DISCARD)) ||
	    nla_put_string(skb, QBLK_A_NODE_DETECT_ZEROES,
			   qblk_detect_zeroes_words[node->detect_zeroes]) ||
	    nla_put_u64_64bit(skb, QBLK_A_NODE_LENGTH, qblk_node_length(node),
			      QBLK_A_NODE_PAD) ||
	    qblk_nl_put_edges(skb, node, max_users) ||
	    qblk_nl_put_limits(skb, &node->limits) ||
	    qblk_nl_put_info(skb, node))
		return -EMSGSIZE;
	return 0;
}

static int qblk_nl_node_get(struct qblk_nl_ctx *ctx)
{
	struct qblk_node *node = qblk_nl_node_named(ctx);
	size_t size = QBLK_NL_NODE_SIZE;
	int ret;

	if (IS_ERR(node))
		return PTR_ERR(node);
	for (;;) {
		ret = qblk_nl_reply_new(ctx, size);
		if (!ret)
			ret = qblk_nl_put_node(ctx->reply, node, UINT_MAX);
		size *= 2;
		if (ret != -EMSGSIZE || size > QBLK_NL_NODE_SIZE_MAX)
			return ret;
		qblk_nl_reply_drop(ctx);
	}
}

int qblk_nl_node_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_node_get, true);
}

static int qblk_nl_node_step(struct sk_buff *skb, u32 *pos)
{
	struct qblk_node *node;
	u32 i = 0;

	list_for_each_entry(node, &qblk_nodes, entry) {
		if (i++ < *pos)
			continue;
		if (qblk_nl_put_node(skb, node, QBLK_NL_DUMP_USERS))
			return -EMSGSIZE;
		*pos = i;
		return 0;
	}
	return -ENOENT;
}

int qblk_nl_node_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return qblk_nl_dump(skb, cb, QBLK_CMD_NODE_GET, qblk_nl_node_step);
}
