/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_UTIL_H
#define _QBLK_UTIL_H

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

#endif /* _QBLK_UTIL_H */
