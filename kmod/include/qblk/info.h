/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_INFO_H
#define _QBLK_INFO_H

#include <linux/types.h>

/**
 * struct qblk_info - a sink for facts about a node
 * @emit_str: takes a string fact
 * @emit_u64: takes a number
 * @emit_bool: takes a truth value
 * @private: the sink's
 *
 * Keys are QEMU's (``compat``, ``refcount-bits``, ...); ``-`` between words.
 * A driver states facts through qblk_info_str() and friends and does not know
 * whether netlink, debugfs or a test listens.
 */
struct qblk_info {
	void (*emit_str)(struct qblk_info *info, const char *key,
			 const char *value);
	void (*emit_u64)(struct qblk_info *info, const char *key, u64 value);
	void (*emit_bool)(struct qblk_info *info, const char *key, bool value);
	void *private;
};

static inline void qblk_info_str(struct qblk_info *info, const char *key,
				 const char *value)
{
	info->emit_str(info, key, value);
}

static inline void qblk_info_u64(struct qblk_info *info, const char *key,
				 u64 value)
{
	info->emit_u64(info, key, value);
}

static inline void qblk_info_bool(struct qblk_info *info, const char *key,
				  bool value)
{
	info->emit_bool(info, key, value);
}

#endif /* _QBLK_INFO_H */
