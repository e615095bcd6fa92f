// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RETRY_MS	50

/* How long a disk that nobody seems to use is tried again, as in the kernel */
#define PATIENCE_USEC	2000000

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

/**
 * struct victim - a disk to be removed
 * @text: what the user calls it
 * @name: what the kernel calls it
 * @root: the node it shows, so that no other disk goes that has got its name
 *	meanwhile; or NULL
 */
struct victim {
	const char *text;
	const char *name;
	const char *root;
};

static void victim_of_disk(struct victim *v, const char *text,
			   struct json_object *disk)
{
	v->name = qblk_get_str(disk, "disk");
	v->root = qblk_get_str(disk, "root");
	v->text = text ? text : v->name;
}

/* The name may be the user's, and devices go by that of the device. */
static void find_holders(struct holders *h, struct qblk_sock *sock,
			 const char *name)
{
	struct qblk_error ignored;
	struct json_object *disk = qblk_export(sock, name, &ignored);

	find_disk_holders(h, disk ? qblk_get_str(disk, "disk") : name);
	json_object_put(disk);
}

/*
 * udev opens a disk for a moment after somebody closed it.  The kernel waits
 * for that, unless the disk is claimed, which it may be for a moment, too.  As
 * long as nobody else is to be found, try again.
 */
static int detach_disk(struct qblk_sock *sock, const struct victim *v,
		       enum qblk_detach_mode mode, struct qblk_error *err)
{
	const struct timespec t = { .tv_nsec = RETRY_MS * 1000000L };
	uint64_t end = time_usec() + PATIENCE_USEC;
	struct holders h = {};
	size_t len;
	int ret;

	for (;;) {
		ret = qblk_export_del(sock, v->name, v->root, mode, err);
		if (ret != -EBUSY || mode != QBLK_DETACH_MODE_SYNC)
			return ret;
		find_holders(&h, sock, v->name);
		if (h.nr || time_usec() >= end)
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
	struct victim v = { .text = text, .name = text };
	struct json_object *disk = NULL;
	struct qblk_error err = {};
	int ret;

	/* A name needs no look-up before, and so nothing can change after. */
	if (strchr(text, '/')) {
		disk = find_disk(sock, text, &err);
		if (!disk)
			return fail(cmd, text, &err);
		victim_of_disk(&v, text, disk);
	}
	ret = detach_disk(sock, &v, mode, &err);
	json_object_put(disk);
	return ret ? fail(cmd, text, &err) : STATUS_OK;
}

/* How many disks went that nothing stands on, or -1 with @err set */
static int detach_free(struct qblk_sock *sock, struct qblk_error *err)
{
	struct json_object *disks = qblk_exports(sock, err);
	struct qblk_error ignored;
	struct victim v;
	int nr = 0;
	size_t i;

	if (!disks)
		return -1;
	/* The last one first: it is likely to stand on an earlier one. */
	for (i = json_object_array_length(disks); i-- > 0;) {
		victim_of_disk(&v, NULL, json_object_array_get_idx(disks, i));
		nr += !qblk_export_del(sock, v.name, v.root,
				       QBLK_DETACH_MODE_SYNC, &ignored);
	}
	json_object_put(disks);
	return nr;
}

static int detach_rest(const struct command *cmd, struct qblk_sock *sock,
		       enum qblk_detach_mode mode)
{
	struct qblk_error err = {};
	struct json_object *disks = qblk_exports(sock, &err);
	int status = STATUS_OK;
	struct victim v;
	size_t i;
	int ret;

	if (!disks)
		return fail(cmd, NULL, &err);
	for (i = json_object_array_length(disks); i-- > 0;) {
		victim_of_disk(&v, NULL, json_object_array_get_idx(disks, i));
		ret = detach_disk(sock, &v, mode, &err);
		/* Gone by itself is gone. */
		if (!ret || ret == -ENOENT)
			continue;
		ret = fail(cmd, v.text, &err);
		if (!status)
			status = ret;
	}
	json_object_put(disks);
	return status;
}

/*
 * Disks may stand on disks, in ways only the kernel knows (a loop device, a
 * file system in between).  Those that nothing stands on can go; so what is
 * left when none can is in use by something else.
 */
static int detach_all(const struct command *cmd, struct qblk_sock *sock,
		      enum qblk_detach_mode mode)
{
	struct qblk_error err = {};
	int nr;

	do {
		nr = detach_free(sock, &err);
	} while (nr > 0);
	if (nr < 0)
		return fail(cmd, NULL, &err);
	return detach_rest(cmd, sock, mode);
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
