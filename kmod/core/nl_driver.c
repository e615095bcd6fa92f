// SPDX-License-Identifier: GPL-2.0
/* driver-get: drivers and the options they understand. */
#include "netlink_priv.h"

#include "core.h"
#include "nl_gen.h"

#include <qblk/driver.h>
#include <qblk/option.h>

#include <linux/kernel.h>
#include <linux/sizes.h>
#include <linux/skbuff.h>
#include <net/genetlink.h>
#include <net/netlink.h>

/* Bytes of the description of a driver; tables are short. */
#define QBLK_NL_DRIVER_SIZE	SZ_16K

static u32 qblk_nl_option_type(enum qblk_opt_type type)
{
	switch (type) {
	case QBLK_OPT_BOOL:
	case QBLK_OPT_TRISTATE:
		return QBLK_OPTION_TYPE_BOOL;
	case QBLK_OPT_U64:
		return QBLK_OPTION_TYPE_NUMBER;
	case QBLK_OPT_SIZE:
		return QBLK_OPTION_TYPE_SIZE;
	case QBLK_OPT_ENUM:
		return QBLK_OPTION_TYPE_ENUM;
	case QBLK_OPT_STRING:
		break;
	}
	return QBLK_OPTION_TYPE_STRING;
}

static int qblk_nl_put_default(struct sk_buff *skb,
			       const struct qblk_opt_desc *desc)
{
	char number[24];
	const char *text = number;

	if (desc->def == QBLK_OPT_UNSET)
		return 0;
	switch (desc->type) {
	case QBLK_OPT_BOOL:
		text = desc->def ? "on" : "off";
		break;
	case QBLK_OPT_U64:
	case QBLK_OPT_SIZE:
		snprintf(number, sizeof(number), "%llu", desc->def);
		break;
	case QBLK_OPT_ENUM:
		text = desc->choices[desc->def];
		break;
	case QBLK_OPT_TRISTATE:
	case QBLK_OPT_STRING:
		return 0;
	}
	return nla_put_string(skb, QBLK_A_OPTION_DESC_DEFAULT, text);
}

static int qblk_nl_put_range(struct sk_buff *skb,
			     const struct qblk_opt_desc *desc)
{
	if (desc->type != QBLK_OPT_U64 && desc->type != QBLK_OPT_SIZE)
		return 0;
	if (desc->min && nla_put_u64_64bit(skb, QBLK_A_OPTION_DESC_MIN_VALUE,
					   desc->min, QBLK_A_OPTION_DESC_PAD))
		return -EMSGSIZE;
	if (desc->max && nla_put_u64_64bit(skb, QBLK_A_OPTION_DESC_MAX_VALUE,
					   desc->max, QBLK_A_OPTION_DESC_PAD))
		return -EMSGSIZE;
	return 0;
}

static int qblk_nl_put_choices(struct sk_buff *skb,
			       const struct qblk_opt_desc *desc)
{
	const char *const *word;

	if (desc->type != QBLK_OPT_ENUM)
		return 0;
	for (word = desc->choices; *word; word++)
		if (nla_put_string(skb, QBLK_A_OPTION_DESC_CHOICE, *word))
			return -EMSGSIZE;
	return 0;
}

static int qblk_nl_put_option(struct sk_buff *skb,
			      const struct qblk_opt_desc *desc)
{
	struct nlattr *nest;

	nest = nla_nest_start(skb, QBLK_A_DRIVER_OPTION);
	if (!nest)
		return -EMSGSIZE;
	if (nla_put_string(skb, QBLK_A_OPTION_DESC_NAME, desc->name) ||
	    nla_put_u32(skb, QBLK_A_OPTION_DESC_TYPE,
			qblk_nl_option_type(desc->type)) ||
	    (desc->required ?
	     nla_put_flag(skb, QBLK_A_OPTION_DESC_REQUIRED) :
	     qblk_nl_put_default(skb, desc)) ||
	    qblk_nl_put_choices(skb, desc) ||
	    qblk_nl_put_range(skb, desc) ||
	    (desc->help && nla_put_string(skb, QBLK_A_OPTION_DESC_HELP,
					  desc->help)))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static u32 qblk_nl_driver_flags(const struct qblk_driver *drv)
{
	static const struct {
		unsigned int flag;
		u32 wire;
	} map[] = {
		{ QBLK_DRV_FORMAT,	QBLK_DRIVER_FLAGS_FORMAT },
		{ QBLK_DRV_FILTER,	QBLK_DRIVER_FLAGS_FILTER },
		{ QBLK_DRV_PROTOCOL,	QBLK_DRIVER_FLAGS_PROTOCOL },
		{ QBLK_DRV_NEEDS_FD,	QBLK_DRIVER_FLAGS_NEEDS_FD },
		{ QBLK_DRV_BACKING,	QBLK_DRIVER_FLAGS_BACKING },
		{ QBLK_DRV_DATA_FILE,	QBLK_DRIVER_FLAGS_DATA_FILE },
	};
	u32 flags = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(map); i++)
		if (drv->flags & map[i].flag)
			flags |= map[i].wire;
	return flags;
}

static int qblk_nl_put_table(struct sk_buff *skb,
			     const struct qblk_opt_desc *desc)
{
	for (; desc && desc->name; desc++)
		if (qblk_nl_put_option(skb, desc))
			return -EMSGSIZE;
	return 0;
}

static int qblk_nl_put_driver(struct sk_buff *skb,
			      const struct qblk_driver *drv)
{
	if (nla_put_string(skb, QBLK_A_DRIVER_NAME, drv->name) ||
	    nla_put_u32(skb, QBLK_A_DRIVER_FLAGS, qblk_nl_driver_flags(drv)))
		return -EMSGSIZE;
	return qblk_nl_put_table(skb, drv->opts) ?:
	       qblk_nl_put_table(skb, qblk_node_opts);
}

static int qblk_nl_driver_get(struct qblk_nl_ctx *ctx)
{
	struct qblk_driver *drv;
	int ret;

	if (GENL_REQ_ATTR_CHECK(ctx->info, QBLK_A_DRIVER_NAME)) {
		qblk_err_set(&ctx->err, "the name of a driver is missing");
		return -EINVAL;
	}
	drv = qblk_driver_get(nla_data(ctx->info->attrs[QBLK_A_DRIVER_NAME]),
			      &ctx->err);
	if (IS_ERR(drv))
		return PTR_ERR(drv);
	ret = qblk_nl_reply_new(ctx, QBLK_NL_DRIVER_SIZE);
	if (!ret)
		ret = qblk_nl_put_driver(ctx->reply, drv);
	qblk_driver_put(drv);
	return ret;
}

int qblk_nl_driver_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_driver_get, false);
}

/* Position in the registry, counted down while walking. */
struct qblk_nl_driver_walk {
	struct sk_buff *skb;
	u32 skip;
};

static int qblk_nl_driver_visit(const struct qblk_driver *drv, void *priv)
{
	struct qblk_nl_driver_walk *walk = priv;

	if (walk->skip) {
		walk->skip--;
		return 0;
	}
	return qblk_nl_put_driver(walk->skb, drv) ?: 1;
}

static int qblk_nl_driver_step(struct sk_buff *skb, u32 *pos)
{
	struct qblk_nl_driver_walk walk = { .skb = skb, .skip = *pos };
	int ret;

	ret = qblk_driver_for_each(qblk_nl_driver_visit, &walk);
	if (!ret)
		return -ENOENT;
	if (ret < 0)
		return ret;
	++*pos;
	return 0;
}

int qblk_nl_driver_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return qblk_nl_dump(skb, cb, QBLK_CMD_DRIVER_GET, qblk_nl_driver_step);
}
