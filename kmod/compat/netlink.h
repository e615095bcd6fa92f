/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Macros without includes: only the netlink handlers, which include what they
 * need, expand them.
 */
#ifndef _QBLK_COMPAT_NETLINK_H
#define _QBLK_COMPAT_NETLINK_H

#include <linux/version.h>

/*
 * qblk_extack_set(extack, sentence, constant): explain a failure in an extended
 * ACK.  Formatted messages came with 6.2 and hold 79 characters; the macro that
 * makes them may not do the cutting, because it would log that.  Before 6.2 the
 * ACK kept a pointer, so that only a text with static storage can be used.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define qblk_extack_set(extack, sentence, constant) do {	\
	struct netlink_ext_ack *__ack = (extack);		\
								\
	(void)(sentence);					\
	if (__ack)						\
		__ack->_msg = (constant);			\
} while (0)
#else
#define qblk_extack_set(extack, sentence, constant) do {	\
	(void)(constant);					\
	NL_SET_ERR_MSG_FMT(extack, "%.*s",			\
			   NETLINK_MAX_FMTMSG_LEN - 1, sentence);	\
} while (0)
#endif

#endif /* _QBLK_COMPAT_NETLINK_H */
