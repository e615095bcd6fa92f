/* SPDX-License-Identifier: GPL-2.0 */
/* Requests and their answers. */
#ifndef _QBLK_TRANSPORT_H
#define _QBLK_TRANSPORT_H

#include <json-c/json.h>
#include <netlink/msg.h>

#include "decode.h"
#include "libqblk.h"

/**
 * qblk_msg_new - start a request
 * @sock: connection
 * @cmd: QBLK_CMD_*
 * @payload: bytes of attributes at most
 * @err: gets the reason on failure
 *
 * Return: the message or NULL.
 */
struct nl_msg *qblk_msg_new(struct qblk_sock *sock, uint8_t cmd, size_t payload,
			    struct qblk_error *err);

/**
 * qblk_call - send a request and wait until it is answered
 * @sock: connection
 * @msg: the request, consumed; NULL passes a failure of qblk_msg_new() on
 * @set: attributes of the reply
 * @err: gets the kernel's sentence on failure
 *
 * Return: the reply or NULL.
 */
struct json_object *qblk_call(struct qblk_sock *sock, struct nl_msg *msg,
			      const struct qblk_set *set,
			      struct qblk_error *err);

/**
 * qblk_dump - fetch all objects of a kind
 * @sock: connection
 * @cmd: QBLK_CMD_*
 * @set: attributes of an object
 * @err: gets the kernel's sentence on failure
 *
 * A dump during which something changed is started over.
 *
 * Return: an array or NULL.
 */
struct json_object *qblk_dump(struct qblk_sock *sock, uint8_t cmd,
			      const struct qblk_set *set,
			      struct qblk_error *err);

#endif /* _QBLK_TRANSPORT_H */
