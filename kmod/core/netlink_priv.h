/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the netlink handlers: core/netlink.c and core/nl_*.c. */
#ifndef _QBLK_NETLINK_PRIV_H
#define _QBLK_NETLINK_PRIV_H

#include <linux/types.h>

#include <qblk/err.h>

struct genl_info;
struct netlink_callback;
struct nlattr;
struct qblk_node;
struct sk_buff;

/**
 * struct qblk_nl_ctx - a request being served
 * @info: the request
 * @err: the sentence, if it fails
 * @warnings: of @err
 * @reply: the answer, if there is one; sent on success, freed on failure
 * @hdr: its header
 */
struct qblk_nl_ctx {
	struct genl_info *info;
	struct qblk_err err;
	char warnings[QBLK_WARNINGS_LEN];
	struct sk_buff *reply;
	void *hdr;
};

/**
 * typedef qblk_nl_handler - serve a request
 * @ctx: the request
 *
 * Return: 0, or a negative errno with, if possible, &qblk_nl_ctx.err set.
 */
typedef int (*qblk_nl_handler)(struct qblk_nl_ctx *ctx);

/**
 * qblk_nl_run - frame of every ->doit()
 * @skb: the request
 * @info: the request
 * @handler: what is special to the command
 * @locked: call @handler with qblk_control_mutex held
 *
 * Checks the capability, and answers: with the reply of the handler, or with
 * the sentence of its failure.
 *
 * Return: what ->doit() returns.
 */
int qblk_nl_run(struct sk_buff *skb, struct genl_info *info,
		qblk_nl_handler handler, bool locked);

/**
 * qblk_nl_reply_new - start the answer to a request
 * @ctx: the request
 * @payload: bytes of attributes
 *
 * Called before the effect of a command, so that the answer to something that
 * has happened does not fail.
 *
 * Return: 0, -ENOMEM or -EMSGSIZE.
 */
int qblk_nl_reply_new(struct qblk_nl_ctx *ctx, size_t payload);

/* Bytes that qblk_nl_put_warnings() may need: shorter ones need a header each */
#define QBLK_NL_WARNINGS_SIZE	(2 * QBLK_WARNINGS_LEN)

/**
 * qblk_nl_put_warnings - put what the user should know into the answer
 * @ctx: the request
 * @attrtype: attribute that takes a sentence
 *
 * Return: 0 or -EMSGSIZE.
 */
int qblk_nl_put_warnings(struct qblk_nl_ctx *ctx, int attrtype);

/**
 * qblk_nl_reply_drop - forget the answer, to start a larger one
 * @ctx: the request
 */
void qblk_nl_reply_drop(struct qblk_nl_ctx *ctx);

/**
 * typedef qblk_nl_step - put one object into a dump
 * @skb: message to put it into
 * @pos: position: in, at least this; out, the one after the object put
 *
 * Return: 0, -ENOENT when there is no further object, -EMSGSIZE.
 */
typedef int (*qblk_nl_step)(struct sk_buff *skb, u32 *pos);

/**
 * qblk_nl_dump - frame of every ->dumpit()
 * @skb: where to
 * @cb: the dump
 * @cmd: command of its messages
 * @step: what is special to it, called with qblk_control_mutex held
 *
 * Return: what ->dumpit() returns.
 */
int qblk_nl_dump(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd,
		 qblk_nl_step step);

/**
 * struct qblk_nl_nodes - nodes opened for one request
 * @nodes: in the order of their definitions
 * @nr: number of @nodes
 * @implicit: they go away with their last parent
 */
struct qblk_nl_nodes {
	struct qblk_node **nodes;
	u32 nr;
	bool implicit;
};

/**
 * qblk_nl_nodes_open - open the nodes a request defines, all or none
 * @ctx: the request
 * @attrtype: attribute that holds a definition
 * @set: @implicit is set; the rest is filled, also with no definition at all
 *
 * On success to be followed by qblk_nl_nodes_free(), before that by
 * qblk_nl_nodes_undo() if something else fails.
 *
 * Return: 0 or a negative errno; nothing is left open on failure.
 */
int qblk_nl_nodes_open(struct qblk_nl_ctx *ctx, int attrtype,
		       struct qblk_nl_nodes *set);

/**
 * qblk_nl_nodes_undo - close what qblk_nl_nodes_open() opened
 * @set: the nodes
 */
void qblk_nl_nodes_undo(struct qblk_nl_nodes *set);

/**
 * qblk_nl_nodes_free - free the memory of a set; the nodes stay
 * @set: the nodes
 */
void qblk_nl_nodes_free(struct qblk_nl_nodes *set);

/**
 * qblk_nl_text - the text of an attribute that may be absent
 * @attr: the attribute, or NULL; the policy made sure of the NUL
 *
 * Return: the text, inside the message, or NULL.
 */
const char *qblk_nl_text(const struct nlattr *attr);

/**
 * qblk_nl_event - send a message to the listeners
 * @cmd: command of the message
 * @fill: puts the attributes
 * @obj: for @fill
 */
void qblk_nl_event(u8 cmd, int (*fill)(struct sk_buff *skb, const void *obj),
		   const void *obj);

#endif /* _QBLK_NETLINK_PRIV_H */
