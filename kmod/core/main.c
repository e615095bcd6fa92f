// SPDX-License-Identifier: GPL-2.0
#include "core.h"

#include <linux/init.h>
#include <linux/module.h>
#include <net/genetlink.h>

#include <qblk/export.h>

static struct qblk_driver *const builtin_drivers[] = {
	&qblk_drv_file,
	&qblk_drv_host_device,
	&qblk_drv_null,
	&qblk_drv_raw,
	&qblk_drv_qcow2,
};

static void unregister_builtin(unsigned int nr)
{
	while (nr--)
		qblk_unregister_driver(builtin_drivers[nr]);
}

static int __init register_builtin(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(builtin_drivers); i++) {
		ret = qblk_register_driver(builtin_drivers[i]);
		if (ret) {
			unregister_builtin(i);
			return ret;
		}
	}
	return 0;
}

/* Netlink last: with it come the users of everything else */
static int __init qblk_init(void)
{
	int ret;

	qblk_zeroes_init();
	qblk_debugfs_init();
	ret = qcow2_init();
	if (ret)
		goto err_debugfs;
	ret = register_builtin();
	if (ret)
		goto err_qcow2;
	ret = qblk_export_init();
	if (ret)
		goto err_drivers;
	ret = qblk_netlink_init();
	if (ret)
		goto err_export;
	return 0;

err_export:
	qblk_export_exit();
err_drivers:
	unregister_builtin(ARRAY_SIZE(builtin_drivers));
err_qcow2:
	qcow2_exit();
err_debugfs:
	qblk_debugfs_exit();
	return ret;
}

/* Every node pins the module, so there is none left here */
static void __exit qblk_exit(void)
{
	qblk_netlink_exit();
	qblk_export_exit();
	unregister_builtin(ARRAY_SIZE(builtin_drivers));
	qcow2_exit();
	qblk_debugfs_exit();
}

module_init(qblk_init);
module_exit(qblk_exit);

MODULE_DESCRIPTION("QEMU disk images as block devices");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1");
MODULE_ALIAS_GENL_FAMILY("qblk");
