/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sources are written for Linux 6.12; what 6.1 lacks is emulated here, and
 * only here.  Every object is compiled with -include of this file.  Each shim
 * names the upstream commit or release that brought the interface.
 */
#ifndef _QBLK_COMPAT_H
#define _QBLK_COMPAT_H

#include <linux/version.h>

#include "srcu.h"
#include "bdev.h"
#include "queue.h"
#include "shrinker.h"
#include "netlink.h"
#include "unaligned.h"

#endif /* _QBLK_COMPAT_H */
