// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RETRY_MS	50
#define RETRIES		(2000 / RETRY_MS)

struct detach_opts {
	bool all;
	bool lazy;
	bool force;
};

const struct arg_row detach_rows[] = {
	{ 0, "all", NULL, ARG_FLAG, offsetof(struct detach_opts, all),
	  "remove all disks" },
	{ 0, "lazy", NULL, ARG_FLAG, offsetof(struct detach_opts, lazy),
	  "remove a disk in use when it is closed" },
	{ 0, "force", NULL, ARG_FLAG, offsetof(struct detach_opts, force),
	  "remove a disk in use now; its I/O fails" },
	{}
};

/*
 * udev opens a disk for a moment after somebody closed it.  As long as nobody
 * else has it open, try again.
 */
static int detach_disk(struct qblk_sock *sock, const char *disk,
		       enum qblk_detach_mode mode, struct qblk_error *err)
{
	const struct timespec t = { .tv_nsec = RETRY_MS * 1000000L };
	struct holders h = {};
	size_t len;
	int i, ret;

	for (i = 0; i < RETRIES; i++) {
		ret = qblk_export_del(sock, disk, mode, err);
		if (ret != -EBUSY || mode != QBLK_DETACH_MODE_SYNC)
			return ret;
		find_disk_holders(&h, disk);
		if (h.nr)
			break;
		nanosleep(&t, NULL);
	}
	len = strlen(err->text);
	if (h.nr)
		snprintf(err->text + len, sizeof(err->text) - len, ": %s",
			 h.text);
	return ret;
}

static int detach_one(const struct command *cmd, struct qblk_sock *sock,
		      const char *text, enum qblk_detach_mode mode)
{
	struct qblk_error err = {};
	struct json_object *disk;
	int ret;

	disk = find_disk(sock, text, &err);
	if (!disk)
		return fail(cmd, text, &err);
	ret = detach_disk(sock, qblk_get_str(disk, "disk"), mode, &err);
	json_object_put(disk);
	return ret ? fail(cmd, text, &err) : STATUS_OK;
}

static int detach_all(const struct command *cmd, struct qblk_sock *sock,
		      enum qblk_detach_mode mode)
{
	struct json_object *disks, *disk;
	struct qblk_error err = {};
	int status = STATUS_OK;
	size_t i;
	int ret;

	disks = qblk_exports(sock, &err);
	if (!disks)
		return fail(cmd, NULL, &err);
	/* The last one first: it may stand on an earlier one. */
	for (i = json_object_array_length(disks); i-- > 0;) {
		disk = json_object_array_get_idx(disks, i);
		ret = detach_one(cmd, sock, qblk_get_str(disk, "disk"), mode);
		if (!status)
			status = ret;
	}
	json_object_put(disks);
	return status;
}

int cmd_detach(const struct command *cmd, const void *opts, int argc,
	       char **argv)
{
	enum qblk_detach_mode mode = QBLK_DETACH_MODE_SYNC;
	const struct detach_opts *o = opts;
	struct qblk_error err = {};
	struct qblk_sock *sock;
	int status = STATUS_OK;
	int i, ret;

	if (!argc == !o->all)
		return usage_error(cmd, "a device, a name or --all is needed");
	if (o->lazy && o->force)
		return usage_error(cmd, "--lazy and --force exclude each other");
	if (o->lazy)
		mode = QBLK_DETACH_MODE_LAZY;
	if (o->force)
		mode = QBLK_DETACH_MODE_FORCE;
	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, argc ? argv[0] : NULL, &err);
	if (o->all)
		status = detach_all(cmd, sock, mode);
	for (i = 0; i < argc; i++) {
		ret = detach_one(cmd, sock, argv[i], mode);
		if (!status)
			status = ret;
	}
	qblk_close(sock);
	return status;
}
