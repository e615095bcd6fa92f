// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <stdio.h>

int cmd_version(const struct command *cmd, const void *opts, int argc,
		char **argv)
{
	struct json_object *module = NULL;
	struct qblk_error err = {};
	struct qblk_sock *sock;

	(void)opts;
	(void)argc;
	(void)argv;
	printf("qblkctl %s\n", QBLK_VERSION);
	sock = qblk_open(&err);
	if (sock)
		module = qblk_version(sock, &err);
	qblk_close(sock);
	if (!module)
		return fail(cmd, NULL, &err);
	printf("module %s\n", qblk_get_str(module, "version"));
	json_object_put(module);
	return STATUS_OK;
}
