/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_ERR_H
#define _QBLK_ERR_H

#include <linux/compiler_attributes.h>

/* Longest sentence an operation can hand back to its caller, with NUL. */
#define QBLK_ERR_LEN	512

/**
 * struct qblk_err - the sentence that explains a failure to the user
 * @msg: empty, or one sentence without a newline
 *
 * Lives on the stack or in the request of whoever started the control
 * operation; netlink sends it in full in front of the error code.  The errno
 * is still the return value: @msg only says which node, option and value it
 * was about.
 */
struct qblk_err {
	char msg[QBLK_ERR_LEN];
};

/**
 * qblk_err_set - explain a failure
 * @err: where to, or NULL to drop the text
 * @fmt: sentence without a newline
 *
 * The first sentence wins: the innermost function knows most.  Any context.
 */
__printf(2, 3)
void qblk_err_set(struct qblk_err *err, const char *fmt, ...);

#endif /* _QBLK_ERR_H */
