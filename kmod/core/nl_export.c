// SPDX-License-Identifier: GPL-2.0
/* export-add, export-del, export-get. */
#include "netlink_priv.h"

#include "core.h"
#include "nl_gen.h"

#include <qblk/export.h>
#include <qblk/node.h>

#include <linux/kdev_t.h>
#include <linux/list.h>
#include <linux/skbuff.h>
#include <net/genetlink.h>
#include <net/netlink.h>

static_assert(QBLK_EXPORT_NAME_LEN > QBLK_MAX_NAME_LEN);

/* Bytes of the description of a disk: three names and a dozen numbers. */
#define QBLK_NL_EXPORT_SIZE	512

static_assert((int)QBLK_DEL_SYNC == QBLK_DETACH_MODE_SYNC);
static_assert((int)QBLK_DEL_LAZY == QBLK_DETACH_MODE_LAZY);
static_assert((int)QBLK_DEL_FORCE == QBLK_DETACH_MODE_FORCE);

static int qblk_nl_put_export(struct sk_buff *skb, const void *obj)
{
	const struct qblk_export_info *e = obj;
	const struct {
		int type;
		u32 value;
	} numbers[] = {
		{ QBLK_A_EXPORT_INDEX, e->index },
		{ QBLK_A_EXPORT_DEV_MAJOR, MAJOR(e->devt) },
		{ QBLK_A_EXPORT_DEV_MINOR, MINOR(e->devt) },
		{ QBLK_A_EXPORT_LOGICAL_BLOCK_SIZE, e->logical_block_size },
		{ QBLK_A_EXPORT_QUEUES, e->nr_queues },
		{ QBLK_A_EXPORT_OPENERS, e->openers },
		{ QBLK_A_EXPORT_STATE, e->deleting ? QBLK_EXPORT_STATE_GOING :
						     QBLK_EXPORT_STATE_LIVE },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		if (nla_put_u32(skb, numbers[i].type, numbers[i].value))
			return -EMSGSIZE;
	if (nla_put_string(skb, QBLK_A_EXPORT_NAME, e->name) ||
	    nla_put_string(skb, QBLK_A_EXPORT_DISK, e->disk_name) ||
	    nla_put_string(skb, QBLK_A_EXPORT_ROOT, e->node_name) ||
	    (e->read_only && nla_put_flag(skb, QBLK_A_EXPORT_READ_ONLY)) ||
	    nla_put_u64_64bit(skb, QBLK_A_EXPORT_SIZE, e->size,
			      QBLK_A_EXPORT_PAD) ||
	    nla_put_u64_64bit(skb, QBLK_A_EXPORT_TIER1, e->tier1,
			      QBLK_A_EXPORT_PAD) ||
	    nla_put_u64_64bit(skb, QBLK_A_EXPORT_TIER2, e->tier2,
			      QBLK_A_EXPORT_PAD))
		return -EMSGSIZE;
	return 0;
}

/* The node the disk will show: the one named, else the last one defined. */
static struct qblk_node *qblk_nl_export_root(struct qblk_nl_ctx *ctx,
					     const struct qblk_nl_nodes *set)
{
	const char *name;
	struct qblk_node *node;

	name = qblk_nl_text(ctx->info->attrs[QBLK_A_EXPORT_ROOT]);
	if (!name) {
		if (set->nr)
			return set->nodes[set->nr - 1];
		qblk_err_set(&ctx->err,
			     "a disk needs a root node or node definitions");
		return ERR_PTR(-EINVAL);
	}
	node = qblk_node_find(name);
	if (!node) {
		qblk_err_set(&ctx->err, "root: there is no node '%s'", name);
		return ERR_PTR(-ENOENT);
	}
	return node;
}

/* What is not below the root would be closed at once: say so instead. */
static int qblk_nl_export_all_used(struct qblk_nl_ctx *ctx,
				   const struct qblk_nl_nodes *set,
				   const struct qblk_node *root)
{
	u32 i;

	for (i = 0; i < set->nr; i++) {
		if (set->nodes[i] == root ||
		    !list_empty(&set->nodes[i]->parents))
			continue;
		qblk_err_set(&ctx->err,
			     "definition %u (%s) is not part of the disk's graph",
			     i, set->nodes[i]->drv->name);
		return -EINVAL;
	}
	return 0;
}

static u32 qblk_nl_u32(const struct nlattr *attr)
{
	return attr ? nla_get_u32(attr) : 0;
}

static int qblk_nl_export_make(struct qblk_nl_ctx *ctx,
			       const struct qblk_nl_nodes *set)
{
	struct nlattr **attrs = ctx->info->attrs;
	struct qblk_export_params p = {
		.name = qblk_nl_text(attrs[QBLK_A_EXPORT_NAME]),
		.read_only = attrs[QBLK_A_EXPORT_READ_ONLY],
		.partscan = !attrs[QBLK_A_EXPORT_NO_PARTSCAN],
		.logical_block_size =
			qblk_nl_u32(attrs[QBLK_A_EXPORT_LOGICAL_BLOCK_SIZE]),
		.nr_queues = qblk_nl_u32(attrs[QBLK_A_EXPORT_QUEUES]),
		.queue_depth = qblk_nl_u32(attrs[QBLK_A_EXPORT_QUEUE_DEPTH]),
	};
	struct qblk_export_info e = {};
	int ret;

	p.node = qblk_nl_export_root(ctx, set);
	if (IS_ERR(p.node))
		return PTR_ERR(p.node);
	ret = qblk_nl_export_all_used(ctx, set, p.node);
	if (ret)
		return ret;
	ret = qblk_nl_reply_new(ctx, QBLK_NL_EXPORT_SIZE +
				     QBLK_NL_WARNINGS_SIZE);
	if (!ret)
		ret = qblk_nl_put_warnings(ctx, QBLK_A_EXPORT_WARNING);
	if (ret)
		return ret;
	ret = qblk_export_add(&p, &e, &ctx->err);
	if (ret)
		return ret;
	qblk_nl_event(QBLK_CMD_EXPORT_ADD_NTF, qblk_nl_put_export, &e);
	return qblk_nl_put_export(ctx->reply, &e);
}

static int qblk_nl_export_add(struct qblk_nl_ctx *ctx)
{
	struct qblk_nl_nodes set = { .implicit = true };
	int ret;

	ret = qblk_nl_nodes_open(ctx, QBLK_A_EXPORT_NODE, &set);
	if (ret)
		return ret;
	ret = qblk_nl_export_make(ctx, &set);
	if (ret)
		qblk_nl_nodes_undo(&set);
	qblk_nl_nodes_free(&set);
	return ret;
}

int qblk_nl_export_add_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_export_add, true);
}

static const char *qblk_nl_export_name(struct qblk_nl_ctx *ctx)
{
	if (!GENL_REQ_ATTR_CHECK(ctx->info, QBLK_A_EXPORT_NAME))
		return nla_data(ctx->info->attrs[QBLK_A_EXPORT_NAME]);
	qblk_err_set(&ctx->err, "the name of a disk is missing");
	return NULL;
}

/* Not under qblk_control_mutex: waiting for I/O must not hold up others. */
static int qblk_nl_export_del(struct qblk_nl_ctx *ctx)
{
	struct nlattr **attrs = ctx->info->attrs;
	const char *name = qblk_nl_export_name(ctx);
	char own[QBLK_EXPORT_NAME_LEN];
	struct qblk_export *exp;
	int ret;

	if (!name)
		return -EINVAL;
	exp = qblk_export_get(name, qblk_nl_text(attrs[QBLK_A_EXPORT_ROOT]),
			      own, &ctx->err);
	if (IS_ERR(exp))
		return PTR_ERR(exp);
	ret = qblk_nl_reply_new(ctx, nla_total_size(QBLK_EXPORT_NAME_LEN));
	if (!ret)
		ret = nla_put_string(ctx->reply, QBLK_A_EXPORT_NAME, own);
	if (ret) {
		qblk_export_put(exp);
		return ret;
	}
	return qblk_export_del(exp, qblk_nl_u32(attrs[QBLK_A_EXPORT_MODE]),
			       &ctx->err);
}

void qblk_event_export_gone(const struct qblk_export_info *info)
{
	qblk_nl_event(QBLK_CMD_EXPORT_DEL_NTF, qblk_nl_put_export, info);
}

int qblk_nl_export_del_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_export_del, false);
}

static int qblk_nl_export_get(struct qblk_nl_ctx *ctx)
{
	const char *name = qblk_nl_export_name(ctx);
	struct qblk_export_info e = {};
	int ret;

	if (!name)
		return -EINVAL;
	ret = qblk_export_find(name, &e);
	if (ret)
		qblk_err_set(&ctx->err, "there is no disk '%s'", name);
	if (!ret)
		ret = qblk_nl_reply_new(ctx, QBLK_NL_EXPORT_SIZE);
	if (!ret)
		ret = qblk_nl_put_export(ctx->reply, &e);
	return ret;
}

int qblk_nl_export_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_export_get, true);
}

static int qblk_nl_export_step(struct sk_buff *skb, u32 *pos)
{
	struct qblk_export_info e = {};

	if (!qblk_export_next(*pos, &e))
		return -ENOENT;
	if (qblk_nl_put_export(skb, &e))
		return -EMSGSIZE;
	*pos = e.index + 1;
	return 0;
}

int qblk_nl_export_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return qblk_nl_dump(skb, cb, QBLK_CMD_EXPORT_GET, qblk_nl_export_step);
}
