/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_COMPAT_SRCU_H
#define _QBLK_COMPAT_SRCU_H

#include <linux/srcu.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
/*
 * srcu_down_read() and srcu_up_read() came with 6.3: the read side without
 * lockdep's notion of an owner, so that it may end in another context.
 */
static inline int srcu_down_read(struct srcu_struct *ssp)
{
	return __srcu_read_lock(ssp);
}

static inline void srcu_up_read(struct srcu_struct *ssp, int idx)
{
	__srcu_read_unlock(ssp, idx);
}
#endif

#endif /* _QBLK_COMPAT_SRCU_H */
