/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_COMPAT_UNALIGNED_H
#define _QBLK_COMPAT_UNALIGNED_H

#include <linux/version.h>

/* <asm/unaligned.h> became <linux/unaligned.h> in 6.12. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#include <asm/unaligned.h>
#else
#include <linux/unaligned.h>
#endif

#endif /* _QBLK_COMPAT_UNALIGNED_H */
