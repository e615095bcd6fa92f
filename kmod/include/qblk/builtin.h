/* SPDX-License-Identifier: GPL-2.0 */
/* The drivers that are part of qblk.ko. */
#ifndef _QBLK_BUILTIN_H
#define _QBLK_BUILTIN_H

struct qblk_driver;

extern struct qblk_driver qblk_drv_file;
extern struct qblk_driver qblk_drv_host_device;
extern struct qblk_driver qblk_drv_null;
extern struct qblk_driver qblk_drv_raw;
extern struct qblk_driver qblk_drv_qcow2;

/* What qcow2 keeps for all images */
int qcow2_init(void);
void qcow2_exit(void);

#endif /* _QBLK_BUILTIN_H */
