/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_ERR_H
#define _QBLK_ERR_H

#include <linux/compiler_attributes.h>

/* Longest sentence an operation can hand back to its caller, with NUL. */
#define QBLK_ERR_LEN	512

/* All that an operation can tell its caller when it succeeds, with NUL. */
#define QBLK_WARNINGS_LEN	1024

/**
 * struct qblk_err - the sentence that explains a failure to the user
 * @msg: empty, or one sentence without a newline
 * @warnings: QBLK_WARNINGS_LEN bytes for sentences that the user should see
 *	although nothing failed, each ended by a newline; NULL if nobody listens
 *
 * Lives on the stack or in the request of whoever started the control
 * operation; netlink sends it in full in front of the error code.  The errno
 * is still the return value: @msg only says which node, option and value it
 * was about.
 */
struct qblk_err {
	char msg[QBLK_ERR_LEN];
	char *warnings;
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

/**
 * qblk_err_warn - tell the user something although nothing failed
 * @err: where to, or NULL for the log alone
 * @fmt: sentence without a newline, at most QBLK_ERR_LEN bytes
 *
 * The sentence is logged as well.  One that does not fit any more is only
 * logged.  Any context.
 */
__printf(2, 3)
void qblk_err_warn(struct qblk_err *err, const char *fmt, ...);

#endif /* _QBLK_ERR_H */
