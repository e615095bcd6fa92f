// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/qblk.yaml */
/* YNL-GEN kernel source */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "nl_gen.h"

#include <uapi/linux/qblk.h>

/* Common nested types */
const struct nla_policy qblk_child_nl_policy[QBLK_A_CHILD_NONE + 1] = {
	[QBLK_A_CHILD_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_CHILD_NODE] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_CHILD_INDEX] = NLA_POLICY_MAX(NLA_U32, QBLK_MAX_NODES),
	[QBLK_A_CHILD_NONE] = { .type = NLA_FLAG, },
};

const struct nla_policy qblk_node_def_nl_policy[QBLK_A_NODE_CHILD + 1] = {
	[QBLK_A_NODE_DRIVER] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_DRIVER_LEN, },
	[QBLK_A_NODE_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_NODE_LABEL] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_TEXT_LEN, },
	[QBLK_A_NODE_FD] = NLA_POLICY_MIN(NLA_S32, 0),
	[QBLK_A_NODE_OPTION] = NLA_POLICY_NESTED(qblk_option_nl_policy),
	[QBLK_A_NODE_CHILD] = NLA_POLICY_NESTED(qblk_child_nl_policy),
};

const struct nla_policy qblk_option_nl_policy[QBLK_A_OPTION_VALUE + 1] = {
	[QBLK_A_OPTION_KEY] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_KEY_LEN, },
	[QBLK_A_OPTION_VALUE] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_TEXT_LEN, },
};

/* QBLK_CMD_VERSION_GET - do */
const struct nla_policy qblk_version_get_nl_policy[QBLK_A_MODULE_PAD + 1] = {
};

/* QBLK_CMD_DRIVER_GET - do */
const struct nla_policy qblk_driver_get_nl_policy[QBLK_A_DRIVER_NAME + 1] = {
	[QBLK_A_DRIVER_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_DRIVER_LEN, },
};

/* QBLK_CMD_NODE_ADD - do */
const struct nla_policy qblk_node_add_nl_policy[QBLK_A_GRAPH_NODE + 1] = {
	[QBLK_A_GRAPH_NODE] = NLA_POLICY_NESTED(qblk_node_def_nl_policy),
};

/* QBLK_CMD_NODE_DEL - do */
const struct nla_policy qblk_node_del_nl_policy[QBLK_A_NODE_NAME + 1] = {
	[QBLK_A_NODE_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
};

/* QBLK_CMD_NODE_GET - do */
const struct nla_policy qblk_node_get_nl_policy[QBLK_A_NODE_NAME + 1] = {
	[QBLK_A_NODE_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
};

/* QBLK_CMD_EXPORT_ADD - do */
const struct nla_policy qblk_export_add_nl_policy[QBLK_A_EXPORT_QUEUE_DEPTH + 1] = {
	[QBLK_A_EXPORT_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_EXPORT_ROOT] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_EXPORT_NODE] = NLA_POLICY_NESTED(qblk_node_def_nl_policy),
	[QBLK_A_EXPORT_READ_ONLY] = { .type = NLA_FLAG, },
	[QBLK_A_EXPORT_NO_PARTSCAN] = { .type = NLA_FLAG, },
	[QBLK_A_EXPORT_LOGICAL_BLOCK_SIZE] = NLA_POLICY_RANGE(NLA_U32, 512, 16384),
	[QBLK_A_EXPORT_QUEUES] = NLA_POLICY_RANGE(NLA_U32, 1, 4096),
	[QBLK_A_EXPORT_QUEUE_DEPTH] = NLA_POLICY_RANGE(NLA_U32, 1, 10240),
};

/* QBLK_CMD_EXPORT_DEL - do */
const struct nla_policy qblk_export_del_nl_policy[QBLK_A_EXPORT_MODE + 1] = {
	[QBLK_A_EXPORT_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_EXPORT_ROOT] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
	[QBLK_A_EXPORT_MODE] = NLA_POLICY_MAX(NLA_U32, 2),
};

/* QBLK_CMD_EXPORT_GET - do */
const struct nla_policy qblk_export_get_nl_policy[QBLK_A_EXPORT_NAME + 1] = {
	[QBLK_A_EXPORT_NAME] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_NAME_LEN, },
};

/* QBLK_CMD_PROBE - do */
const struct nla_policy qblk_probe_nl_policy[QBLK_A_PROBE_OFFSET + 1] = {
	[QBLK_A_PROBE_FD] = NLA_POLICY_MIN(NLA_S32, 0),
	[QBLK_A_PROBE_FORMAT] = { .type = NLA_NUL_STRING, .len = QBLK_MAX_DRIVER_LEN, },
	[QBLK_A_PROBE_OFFSET] = { .type = NLA_U64, },
};

/* Ops table for qblk */
const struct genl_ops qblk_nl_ops[9] = {
	{
		.cmd		= QBLK_CMD_VERSION_GET,
		.doit		= qblk_nl_version_get_doit,
		.policy		= qblk_version_get_nl_policy,
		.maxattr	= QBLK_A_MODULE_PAD,
	},
	{
		.cmd		= QBLK_CMD_DRIVER_GET,
		.doit		= qblk_nl_driver_get_doit,
		.dumpit		= qblk_nl_driver_get_dumpit,
		.policy		= qblk_driver_get_nl_policy,
		.maxattr	= QBLK_A_DRIVER_NAME,
	},
	{
		.cmd		= QBLK_CMD_NODE_ADD,
		.doit		= qblk_nl_node_add_doit,
		.policy		= qblk_node_add_nl_policy,
		.maxattr	= QBLK_A_GRAPH_NODE,
	},
	{
		.cmd		= QBLK_CMD_NODE_DEL,
		.doit		= qblk_nl_node_del_doit,
		.policy		= qblk_node_del_nl_policy,
		.maxattr	= QBLK_A_NODE_NAME,
	},
	{
		.cmd		= QBLK_CMD_NODE_GET,
		.doit		= qblk_nl_node_get_doit,
		.dumpit		= qblk_nl_node_get_dumpit,
		.policy		= qblk_node_get_nl_policy,
		.maxattr	= QBLK_A_NODE_NAME,
	},
	{
		.cmd		= QBLK_CMD_EXPORT_ADD,
		.doit		= qblk_nl_export_add_doit,
		.policy		= qblk_export_add_nl_policy,
		.maxattr	= QBLK_A_EXPORT_QUEUE_DEPTH,
	},
	{
		.cmd		= QBLK_CMD_EXPORT_DEL,
		.doit		= qblk_nl_export_del_doit,
		.policy		= qblk_export_del_nl_policy,
		.maxattr	= QBLK_A_EXPORT_MODE,
	},
	{
		.cmd		= QBLK_CMD_EXPORT_GET,
		.doit		= qblk_nl_export_get_doit,
		.dumpit		= qblk_nl_export_get_dumpit,
		.policy		= qblk_export_get_nl_policy,
		.maxattr	= QBLK_A_EXPORT_NAME,
	},
	{
		.cmd		= QBLK_CMD_PROBE,
		.doit		= qblk_nl_probe_doit,
		.policy		= qblk_probe_nl_policy,
		.maxattr	= QBLK_A_PROBE_OFFSET,
	},
};

static const struct genl_multicast_group qblk_nl_mcgrps[] = {
	[QBLK_NLGRP_MONITOR] = { "monitor", },
};
