// SPDX-License-Identifier: GPL-2.0
/*
 * The generic netlink family: what all commands share, and events.
 *
 * The family runs its commands in parallel; qblk_control_mutex orders them.
 * It lives in the initial network namespace only, and every command needs
 * CAP_SYS_ADMIN in the initial user namespace, both of the sender and of
 * whoever opened the socket, whatever the flags of the generated table say:
 * GENL_ADMIN_PERM would ask for CAP_NET_ADMIN.
 */
#include "netlink_priv.h"

#include "core.h"
#include "nl_gen.h"

#include <qblk/err.h>
#include <qblk/export.h>
#include <qblk/node.h>

#include <linux/capability.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netlink.h>
#include <linux/sizes.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <net/genetlink.h>
#include <net/netlink.h>

/* Room for the largest object of a dump, a label of 4 KiB included. */
#define QBLK_NL_DUMP_SIZE	SZ_16K

/**
 * struct qblk_nl_pos - where a dump is, in &netlink_callback.ctx
 * @next: position of the object that comes next
 */
struct qblk_nl_pos {
	u32 next;
};

static struct genl_family qblk_nl_family;

/* For failures nobody put a sentence to, and where only constants can go. */
static const struct {
	int err;
	const char *text;
} qblk_nl_texts[] = {
	{ -EPERM,	"not permitted" },
	{ -ENOENT,	"no such disk, node or driver" },
	{ -EIO,		"input/output error" },
	{ -ENXIO,	"no such device" },
	{ -E2BIG,	"too many of something in one request" },
	{ -EBADF,	"not an open file descriptor" },
	{ -ENOMEM,	"the kernel is out of memory" },
	{ -EACCES,	"access denied" },
	{ -ENOTBLK,	"not a block device" },
	{ -EBUSY,	"in use" },
	{ -EEXIST,	"exists already" },
	{ -ENODEV,	"no such device" },
	{ -EINVAL,	"invalid request or image" },
	{ -ETXTBSY,	"in use as a program or for swapping" },
	{ -EFBIG,	"too large" },
	{ -ENOSPC,	"no space left" },
	{ -EROFS,	"read-only" },
	{ -ERANGE,	"out of range" },
	{ -ELOOP,	"the graph would have a cycle" },
	{ -ENODATA,	"the image is cut off" },
	{ -EMSGSIZE,	"too large for a netlink message" },
	{ -EUCLEAN,	"the image is corrupt" },
	{ -EOPNOTSUPP,	"not supported" },
	{ -ENOMEDIUM,	"the disk is gone" },
	{ -ECANCELED,	"interrupted by a signal" },
};

static const char *qblk_nl_errtext(int err)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(qblk_nl_texts); i++)
		if (qblk_nl_texts[i].err == err)
			return qblk_nl_texts[i].text;
	return "the operation failed";
}

/* The sentence goes out before the kernel sends NLMSG_ERROR. */
static void qblk_nl_send_error(u32 portid, u32 seq, const char *text)
{
	struct sk_buff *msg;
	void *hdr;

	msg = genlmsg_new(nla_total_size(strlen(text) + 1), GFP_KERNEL);
	if (!msg)
		return;
	hdr = genlmsg_put(msg, portid, seq, &qblk_nl_family, 0, QBLK_CMD_ERROR);
	if (!hdr || nla_put_string(msg, QBLK_A_ERROR_TEXT, text)) {
		nlmsg_free(msg);
		return;
	}
	genlmsg_end(msg, hdr);
	genlmsg_unicast(&init_net, msg, portid);
}

static void qblk_nl_fail(struct qblk_nl_ctx *ctx, int err)
{
	struct genl_info *info = ctx->info;

	qblk_err_set(&ctx->err, "%s", qblk_nl_errtext(err));
	qblk_nl_send_error(info->snd_portid, info->snd_seq, ctx->err.msg);
	qblk_extack_set(info->extack, ctx->err.msg, qblk_nl_errtext(err));
}

static int qblk_nl_call(struct sk_buff *skb, struct qblk_nl_ctx *ctx,
			qblk_nl_handler handler, bool locked)
{
	int ret;

	if (!netlink_capable(skb, CAP_SYS_ADMIN)) {
		qblk_err_set(&ctx->err, "qblk needs CAP_SYS_ADMIN");
		return -EPERM;
	}
	if (!locked)
		return handler(ctx);
	if (mutex_lock_killable(&qblk_control_mutex))
		return -EINTR;
	ret = handler(ctx);
	mutex_unlock(&qblk_control_mutex);
	return ret;
}

/*
 * Netlink does not acknowledge -EINTR, which to it says that a dump has begun:
 * the sender would wait for ever.  The other one is not for user space at all.
 */
static int qblk_nl_code(int err)
{
	return err == -EINTR || err == -ERESTARTSYS ? -ECANCELED : err;
}

int qblk_nl_run(struct sk_buff *skb, struct genl_info *info,
		qblk_nl_handler handler, bool locked)
{
	struct qblk_nl_ctx *ctx;
	int ret;

	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL);
	if (!ctx) {
		GENL_SET_ERR_MSG(info, "the kernel is out of memory");
		return -ENOMEM;
	}
	ctx->info = info;
	ctx->err.warnings = ctx->warnings;
	ret = qblk_nl_code(qblk_nl_call(skb, ctx, handler, locked));
	if (ret) {
		qblk_nl_fail(ctx, ret);
		qblk_nl_reply_drop(ctx);
	} else if (ctx->reply) {
		genlmsg_end(ctx->reply, ctx->hdr);
		/* What was asked for is done; a full socket changes nothing. */
		genlmsg_reply(ctx->reply, info);
	}
	kfree(ctx);
	return ret;
}

int qblk_nl_reply_new(struct qblk_nl_ctx *ctx, size_t payload)
{
	ctx->reply = genlmsg_new(payload, GFP_KERNEL);
	if (!ctx->reply)
		return -ENOMEM;
	ctx->hdr = genlmsg_put_reply(ctx->reply, ctx->info, &qblk_nl_family, 0,
				     ctx->info->genlhdr->cmd);
	return ctx->hdr ? 0 : -EMSGSIZE;
}

void qblk_nl_reply_drop(struct qblk_nl_ctx *ctx)
{
	nlmsg_free(ctx->reply);
	ctx->reply = NULL;
}

int qblk_nl_put_warnings(struct qblk_nl_ctx *ctx, int attrtype)
{
	char *rest = ctx->warnings;
	const char *line;

	for (;;) {
		line = strsep(&rest, "\n");
		if (!line || !*line)
			return 0;
		if (nla_put_string(ctx->reply, attrtype, line))
			return -EMSGSIZE;
	}
}

const char *qblk_nl_text(const struct nlattr *attr)
{
	return attr ? nla_data(attr) : NULL;
}

static int qblk_nl_version(struct qblk_nl_ctx *ctx)
{
	const char *version = THIS_MODULE->version ?: "unknown";
	int ret;

	ret = qblk_nl_reply_new(ctx, nla_total_size(strlen(version) + 1));
	if (ret)
		return ret;
	return nla_put_string(ctx->reply, QBLK_A_MODULE_VERSION, version);
}

int qblk_nl_version_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_version, false);
}

static int qblk_nl_dump_refuse(struct netlink_callback *cb, int err,
			       const char *text)
{
	qblk_nl_send_error(NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
			   text);
	qblk_extack_set(cb->extack, text, text);
	return err;
}

static int qblk_nl_dump_start(struct netlink_callback *cb)
{
	BUILD_BUG_ON(sizeof(struct qblk_nl_pos) > sizeof(cb->ctx));

	if (!netlink_capable(cb->skb, CAP_SYS_ADMIN))
		return qblk_nl_dump_refuse(cb, -EPERM,
					   "qblk needs CAP_SYS_ADMIN");
	if (nlmsg_attrlen(cb->nlh, GENL_HDRLEN) > 0)
		return qblk_nl_dump_refuse(cb, -EINVAL,
					   "a dump takes no attributes");
	cb->min_dump_alloc = QBLK_NL_DUMP_SIZE;
	return 0;
}

static int qblk_nl_dump_step(struct sk_buff *skb, struct netlink_callback *cb,
			     u8 cmd, qblk_nl_step step)
{
	struct qblk_nl_pos *pos = (void *)cb->ctx;
	void *hdr;
	int ret;

	hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
			  &qblk_nl_family, NLM_F_MULTI, cmd);
	if (!hdr)
		return -EMSGSIZE;
	ret = step(skb, &pos->next);
	if (ret) {
		genlmsg_cancel(skb, hdr);
		return ret;
	}
	genl_dump_check_consistent(cb, hdr);
	genlmsg_end(skb, hdr);
	return 0;
}

int qblk_nl_dump(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd,
		 qblk_nl_step step)
{
	int ret;

	if (mutex_lock_killable(&qblk_control_mutex))
		return -ECANCELED;
	/* 0 would mean that nobody counts. */
	cb->seq = qblk_graph_gen ?: 1;
	do {
		ret = qblk_nl_dump_step(skb, cb, cmd, step);
	} while (!ret);
	mutex_unlock(&qblk_control_mutex);

	if (ret == -ENOENT)
		return skb->len;
	/* Full: the rest goes into the next message. */
	if (ret == -EMSGSIZE && skb->len)
		return skb->len;
	return ret;
}

void qblk_nl_event(u8 cmd, int (*fill)(struct sk_buff *skb, const void *obj),
		   const void *obj)
{
	struct sk_buff *msg;
	void *hdr;

	if (!genl_has_listeners(&qblk_nl_family, &init_net, QBLK_NLGRP_MONITOR))
		return;
	msg = genlmsg_new(QBLK_NL_DUMP_SIZE, GFP_KERNEL);
	if (!msg)
		return;
	hdr = genlmsg_put(msg, 0, 0, &qblk_nl_family, 0, cmd);
	if (!hdr || fill(msg, obj)) {
		nlmsg_free(msg);
		return;
	}
	genlmsg_end(msg, hdr);
	genlmsg_multicast(&qblk_nl_family, msg, 0, QBLK_NLGRP_MONITOR,
			  GFP_KERNEL);
}

/* What qblk_netlink_event_corrupted() was told. */
struct qblk_nl_corruption {
	const struct qblk_node *node;
	bool fatal;
	s64 offset;
	s64 bytes;
	const char *text;
};

static int qblk_nl_put_corruption(struct sk_buff *skb, const void *obj)
{
	const struct qblk_nl_corruption *c = obj;

	if (nla_put_string(skb, QBLK_A_CORRUPTION_NODE, c->node->name) ||
	    (c->node->label && nla_put_string(skb, QBLK_A_CORRUPTION_LABEL,
					      c->node->label)) ||
	    (c->fatal && nla_put_flag(skb, QBLK_A_CORRUPTION_FATAL)) ||
	    (c->offset >= 0 && nla_put_s64(skb, QBLK_A_CORRUPTION_OFFSET,
					   c->offset, QBLK_A_CORRUPTION_PAD)) ||
	    (c->bytes >= 0 && nla_put_s64(skb, QBLK_A_CORRUPTION_BYTES,
					  c->bytes, QBLK_A_CORRUPTION_PAD)) ||
	    nla_put_string(skb, QBLK_A_CORRUPTION_TEXT, c->text))
		return -EMSGSIZE;
	return 0;
}

void qblk_netlink_event_corrupted(const struct qblk_node *node, bool fatal,
				  s64 offset, s64 bytes, const char *msg)
{
	const struct qblk_nl_corruption c = {
		.node = node,
		.fatal = fatal,
		.offset = offset,
		.bytes = bytes,
		.text = msg,
	};

	qblk_nl_event(QBLK_CMD_IMAGE_CORRUPTED_NTF, qblk_nl_put_corruption, &c);
}

static const struct genl_multicast_group qblk_nl_groups[] = {
	[QBLK_NLGRP_MONITOR] = {
		.name = QBLK_MCGRP_MONITOR,
		.flags = GENL_MCAST_CAP_SYS_ADMIN,
	},
};

/* The generated table, with the check of permissions of dumps added. */
static struct genl_ops qblk_nl_family_ops[ARRAY_SIZE(qblk_nl_ops)];

static struct genl_family qblk_nl_family __ro_after_init = {
	.name = QBLK_FAMILY_NAME,
	.version = QBLK_FAMILY_VERSION,
	.netnsok = false,
	.parallel_ops = true,
	.module = THIS_MODULE,
	.ops = qblk_nl_family_ops,
	.n_ops = ARRAY_SIZE(qblk_nl_family_ops),
	.mcgrps = qblk_nl_groups,
	.n_mcgrps = ARRAY_SIZE(qblk_nl_groups),
};

int __init qblk_netlink_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(qblk_nl_ops); i++) {
		qblk_nl_family_ops[i] = qblk_nl_ops[i];
		if (qblk_nl_ops[i].dumpit)
			qblk_nl_family_ops[i].start = qblk_nl_dump_start;
	}
	return genl_register_family(&qblk_nl_family);
}

void qblk_netlink_exit(void)
{
	genl_unregister_family(&qblk_nl_family);
}

MODULE_ALIAS_GENL_FAMILY(QBLK_FAMILY_NAME);
