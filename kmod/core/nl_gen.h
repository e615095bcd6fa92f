/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/qblk.yaml */
/* YNL-GEN kernel header */

#ifndef _LINUX_QBLK_GEN_H
#define _LINUX_QBLK_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/qblk.h>

/* Common nested types */
extern const struct nla_policy qblk_child_nl_policy[QBLK_A_CHILD_NONE + 1];
extern const struct nla_policy qblk_node_def_nl_policy[QBLK_A_NODE_CHILD + 1];
extern const struct nla_policy qblk_option_nl_policy[QBLK_A_OPTION_VALUE + 1];

extern const struct nla_policy qblk_version_get_nl_policy[QBLK_A_MODULE_PAD + 1];

extern const struct nla_policy qblk_driver_get_nl_policy[QBLK_A_DRIVER_NAME + 1];

extern const struct nla_policy qblk_node_add_nl_policy[QBLK_A_GRAPH_NODE + 1];

extern const struct nla_policy qblk_node_del_nl_policy[QBLK_A_NODE_NAME + 1];

extern const struct nla_policy qblk_node_get_nl_policy[QBLK_A_NODE_NAME + 1];

extern const struct nla_policy qblk_export_add_nl_policy[QBLK_A_EXPORT_QUEUE_DEPTH + 1];

extern const struct nla_policy qblk_export_del_nl_policy[QBLK_A_EXPORT_MODE + 1];

extern const struct nla_policy qblk_export_get_nl_policy[QBLK_A_EXPORT_NAME + 1];

extern const struct nla_policy qblk_probe_nl_policy[QBLK_A_PROBE_OFFSET + 1];

/* Ops table for qblk */
extern const struct genl_ops qblk_nl_ops[9];

int qblk_nl_version_get_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_driver_get_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_driver_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int qblk_nl_node_add_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_node_del_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_node_get_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_node_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int qblk_nl_export_add_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_export_del_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_export_get_doit(struct sk_buff *skb, struct genl_info *info);
int qblk_nl_export_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int qblk_nl_probe_doit(struct sk_buff *skb, struct genl_info *info);

enum {
	QBLK_NLGRP_MONITOR,
};

#endif /* _LINUX_QBLK_GEN_H */
