// SPDX-License-Identifier: GPL-2.0
/*
 * Generic netlink through libnl.
 *
 * A request that fails is answered with a QBLK_CMD_ERROR that has the whole
 * sentence, and then with NLMSG_ERROR, whose extended ACK libnl does not look
 * at: what it says is only used when there is no sentence, which is so when
 * the request did not get as far as qblk.
 */
#include "transport.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* A request with 400 nodes whose labels are long paths. */
#define SOCKET_BUFFER	(4 << 20)

/* Something changed during each of so many dumps: take the last one. */
#define DUMP_TRIES	10

struct qblk_sock {
	struct nl_sock *nl;
	int family;
};

/**
 * struct call - a request under way
 * @seq: its sequence number
 * @set: attributes of replies
 * @result: array of the replies
 * @done: the last message has come
 * @interrupted: a dump was not consistent
 * @code: errno, positive
 * @text: the kernel's sentence, from QBLK_CMD_ERROR
 * @ack: the kernel's sentence, from the extended ACK
 */
struct call {
	uint32_t seq;
	const struct qblk_set *set;
	struct json_object *result;
	bool done;
	bool interrupted;
	int code;
	char text[QBLK_ERROR_LEN];
	char ack[QBLK_ERROR_LEN];
};

static int on_valid(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	struct genlmsghdr *hdr = genlmsg_hdr(nlh);
	struct call *call = arg;
	struct json_object *obj;
	struct nlattr *text;

	if (nlh->nlmsg_seq != call->seq)
		return NL_SKIP;
	if (hdr->cmd == QBLK_CMD_ERROR) {
		text = genlmsg_attrdata(hdr, 0);
		text = nla_find(text, genlmsg_attrlen(hdr, 0),
				QBLK_A_ERROR_TEXT);
		if (text)
			nla_strlcpy(call->text, text, sizeof(call->text));
		return NL_OK;
	}
	obj = qblk_decode(call->set, genlmsg_attrdata(hdr, 0),
			  genlmsg_attrlen(hdr, 0));
	if (!obj || json_object_array_add(call->result, obj))
		call->code = ENOMEM;
	return NL_OK;
}

static int on_ack(struct nl_msg *msg, void *arg)
{
	struct call *call = arg;

	if (nlmsg_hdr(msg)->nlmsg_seq != call->seq)
		return NL_SKIP;
	call->done = true;
	return NL_STOP;
}

/* The end of a dump carries its error. */
static int on_finish(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	struct call *call = arg;
	int code;

	if (nlh->nlmsg_seq != call->seq)
		return NL_SKIP;
	if (nlmsg_datalen(nlh) >= (int)sizeof(code)) {
		memcpy(&code, nlmsg_data(nlh), sizeof(code));
		if (code < 0)
			call->code = -code;
	}
	call->done = true;
	return NL_STOP;
}

static int on_interrupted(struct nl_msg *msg, void *arg)
{
	struct call *call = arg;

	(void)msg;
	call->interrupted = true;
	return NL_OK;
}

static int on_error(struct sockaddr_nl *who, struct nlmsgerr *e, void *arg)
{
	/* The message the error came in starts before it. */
	struct nlmsghdr *nlh = (struct nlmsghdr *)((char *)e - NLMSG_HDRLEN);
	size_t skip = sizeof(*e);
	struct call *call = arg;
	struct nlattr *text;

	(void)who;
	if (nlh->nlmsg_seq != call->seq)
		return NL_SKIP;
	call->done = true;
	call->code = -e->error;
	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return NL_STOP;
	/* Unless capped, a copy of the request precedes the attributes. */
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(e->msg.nlmsg_len) - sizeof(e->msg);
	if (nlh->nlmsg_len < NLMSG_HDRLEN + skip)
		return NL_STOP;
	text = nla_find((struct nlattr *)((char *)e + skip),
			nlh->nlmsg_len - NLMSG_HDRLEN - skip,
			NLMSGERR_ATTR_MSG);
	if (text)
		nla_strlcpy(call->ack, text, sizeof(call->ack));
	return NL_STOP;
}

static void set_option(int fd, int level, int option, int value)
{
	/* Without them answers are less complete, but right. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* Beyond the system's limit with CAP_NET_ADMIN, else up to it */
static void set_buffer(int fd, int force, int option)
{
	int size = SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)))
		set_option(fd, SOL_SOCKET, option, size);
}

static int sock_connect(struct qblk_sock *sock, struct qblk_error *err)
{
	int fd, ret;

	sock->nl = nl_socket_alloc();
	if (!sock->nl)
		return qblk_error_nomem(err);
	nl_socket_disable_seq_check(sock->nl);
	ret = genl_connect(sock->nl);
	if (ret)
		return qblk_error_set(err, EIO, "generic netlink: %s",
				      nl_geterror(ret));
	nl_socket_enable_msg_peek(sock->nl);
	fd = nl_socket_get_fd(sock->nl);
	set_option(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set_option(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);

	sock->family = genl_ctrl_resolve(sock->nl, QBLK_FAMILY_NAME);
	if (sock->family < 0)
		return qblk_error_set(err, EOPNOTSUPP,
				      "the qblk kernel module is not loaded and could not be loaded");
	return 0;
}

struct qblk_sock *qblk_open(struct qblk_error *err)
{
	struct qblk_sock *sock = calloc(1, sizeof(*sock));

	if (!sock) {
		qblk_error_nomem(err);
		return NULL;
	}
	if (sock_connect(sock, err)) {
		qblk_close(sock);
		return NULL;
	}
	return sock;
}

void qblk_close(struct qblk_sock *sock)
{
	if (!sock)
		return;
	nl_socket_free(sock->nl);
	free(sock);
}

struct nl_msg *qblk_msg_new(struct qblk_sock *sock, uint8_t cmd, size_t payload,
			    struct qblk_error *err)
{
	struct nl_msg *msg;

	msg = nlmsg_alloc_size(NLMSG_HDRLEN + GENL_HDRLEN + payload);
	if (msg && genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, sock->family, 0,
			       0, cmd, QBLK_FAMILY_VERSION))
		return msg;
	nlmsg_free(msg);
	qblk_error_nomem(err);
	return NULL;
}

static struct nl_cb *call_cb(struct call *call)
{
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);

	if (!cb)
		return NULL;
	nl_cb_set(cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, NULL, NULL);
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, call);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_ack, call);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_finish, call);
	nl_cb_set(cb, NL_CB_DUMP_INTR, NL_CB_CUSTOM, on_interrupted, call);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, call);
	return cb;
}

static int call_failed(const struct call *call, struct qblk_error *err)
{
	const char *text = call->text;

	if (!*text)
		text = call->ack;
	if (!*text)
		text = strerror(call->code);
	return qblk_error_set(err, call->code, "%s", text);
}

static int transact(struct qblk_sock *sock, struct nl_msg *msg,
		    struct call *call, struct qblk_error *err)
{
	struct nl_cb *cb = call_cb(call);
	int ret;

	if (!cb)
		return qblk_error_nomem(err);
	ret = nl_send_auto(sock->nl, msg);
	if (ret < 0) {
		nl_cb_put(cb);
		return qblk_error_set(err, EIO,
				      "cannot send to the kernel: %s",
				      nl_geterror(ret));
	}
	call->seq = nlmsg_hdr(msg)->nlmsg_seq;
	while (!call->done) {
		ret = nl_recvmsgs(sock->nl, cb);
		if (ret < 0 && !call->done && ret != -NLE_INTR) {
			nl_cb_put(cb);
			return qblk_error_set(err, EIO,
					      "no answer from the kernel: %s",
					      nl_geterror(ret));
		}
	}
	nl_cb_put(cb);
	return call->code ? call_failed(call, err) : 0;
}

struct json_object *qblk_call(struct qblk_sock *sock, struct nl_msg *msg,
			      const struct qblk_set *set,
			      struct qblk_error *err)
{
	struct call call = { .set = set };
	struct json_object *reply = NULL;

	if (!msg)
		return NULL;
	call.result = json_object_new_array();
	if (!call.result) {
		qblk_error_nomem(err);
	} else if (!transact(sock, msg, &call, err)) {
		reply = json_object_array_get_idx(call.result, 0);
		if (!reply)
			qblk_error_set(err, EPROTO,
				       "the kernel did not answer the request");
	}
	json_object_get(reply);
	json_object_put(call.result);
	nlmsg_free(msg);
	return reply;
}

static int dump_once(struct qblk_sock *sock, uint8_t cmd, struct call *call,
		     struct qblk_error *err)
{
	struct nl_msg *msg = qblk_msg_new(sock, cmd, 0, err);
	int ret;

	if (!msg)
		return -err->code;
	nlmsg_hdr(msg)->nlmsg_flags |= NLM_F_DUMP;
	ret = transact(sock, msg, call, err);
	nlmsg_free(msg);
	return ret;
}

struct json_object *qblk_dump(struct qblk_sock *sock, uint8_t cmd,
			      const struct qblk_set *set,
			      struct qblk_error *err)
{
	int i;

	for (i = 1;; i++) {
		struct call call = { .set = set };

		call.result = json_object_new_array();
		if (!call.result) {
			qblk_error_nomem(err);
			return NULL;
		}
		if (dump_once(sock, cmd, &call, err)) {
			json_object_put(call.result);
			return NULL;
		}
		if (!call.interrupted || i == DUMP_TRIES)
			return call.result;
		json_object_put(call.result);
	}
}
