// SPDX-License-Identifier: GPL-2.0
/* Who keeps a disk or an image busy. */
#include "qblkctl.h"

#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Holders that are named; of more, only their number is told. */
#define MAX_NAMED	8

/**
 * typedef file_match - is this the file?
 * @st: a file a process has open
 * @arg: what is looked for
 */
typedef bool (*file_match)(const struct stat *st, const void *arg);

__printf(2, 3)
static void add_holder(struct holders *h, const char *fmt, ...)
{
	const char *separator = h->len ? "; " : "";
	va_list args;
	char text[300];

	if (++h->nr > MAX_NAMED)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(h->text + h->len, sizeof(h->text) - h->len, "%s%s", separator,
		 text);
	h->len = strlen(h->text);
}

static const char *device_name(struct json_object *devices, dev_t dev)
{
	json_object_object_foreach(devices, name, value)
		if (json_object_get_uint64(value) == dev)
			return name;
	return NULL;
}

static const char *device_at(struct json_object *devices, const char *path)
{
	struct stat st;

	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return NULL;
	return device_name(devices, st.st_rdev);
}

/**
 * struct mounts - a search for mounts
 * @h: gets them
 * @devices: see disk_devices()
 * @seen: mount namespaces that have been looked at, and mounts that have been
 *	found: a namespace begins as a copy of another one
 */
struct mounts {
	struct holders *h;
	struct json_object *devices;
	struct json_object *seen;
};

static bool seen_before(struct mounts *m, const char *key)
{
	if (json_object_object_get_ex(m->seen, key, NULL))
		return true;
	json_object_object_add(m->seen, key, NULL);
	return false;
}

static void read_comm(const char *pid, char *buf, size_t len)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f || !fgets(buf, len, f))
		snprintf(buf, len, "process");
	buf[strcspn(buf, "\n")] = 0;
	if (f)
		fclose(f);
}

/*
 * "36 35 98:0 /root /mnt rw,noatime - btrfs /dev/qblk0 rw", as process @pid or,
 * if that is NULL, this one sees it
 */
static void add_mount(struct mounts *m, const char *line, const char *pid)
{
	const char *rest = strstr(line, " - ");
	char where[256], source[256] = "", key[300], comm[64];
	unsigned int maj, min;
	const char *name;

	if (sscanf(line, "%*d %*d %u:%u %*s %255s", &maj, &min, where) != 3)
		return;
	name = device_name(m->devices, makedev(maj, min));
	/* Some file systems have numbers of their own. */
	if (!name && rest && sscanf(rest, " - %*s %255s", source) == 1)
		name = device_at(m->devices, source);
	if (!name)
		return;
	snprintf(key, sizeof(key), "%s %s", name, where);
	if (seen_before(m, key))
		return;
	if (!pid) {
		add_holder(m->h, "%s is mounted on %s", name, where);
		return;
	}
	read_comm(pid, comm, sizeof(comm));
	add_holder(m->h,
		   "%s is mounted on %s in the mount namespace of %s (process %s)",
		   name, where, comm, pid);
}

static void read_mounts(struct mounts *m, const char *pid)
{
	char path[300];
	char *line = NULL;
	size_t size = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/mountinfo", pid ? pid : "self");
	f = fopen(path, "re");
	if (!f)
		return;
	while (getline(&line, &size, f) > 0)
		add_mount(m, line, pid);
	free(line);
	fclose(f);
}

/* Is the mount namespace of a process one that is still to be looked at? */
static bool new_namespace(struct mounts *m, const char *pid)
{
	char path[300], name[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", pid);
	len = readlink(path, name, sizeof(name) - 1);
	if (len < 0)
		return false;
	name[len] = 0;
	return !seen_before(m, name);
}

/* One process tells for all in its namespace. */
static void find_mounts(struct holders *h, struct json_object *devices)
{
	struct mounts m = {
		.h = h,
		.devices = devices,
		.seen = json_object_new_object(),
	};
	struct dirent *entry;
	DIR *d;

	new_namespace(&m, "self");
	read_mounts(&m, NULL);
	d = opendir("/proc");
	while (d && (entry = readdir(d)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    new_namespace(&m, entry->d_name))
			read_mounts(&m, entry->d_name);
	if (d)
		closedir(d);
	json_object_put(m.seen);
}

static void find_swaps(struct holders *h, struct json_object *devices)
{
	FILE *f = fopen("/proc/swaps", "re");
	char *line = NULL;
	const char *name;
	char path[256];
	size_t size = 0;

	if (!f)
		return;
	while (getline(&line, &size, f) > 0) {
		if (sscanf(line, "%255s", path) != 1)
			continue;
		name = device_at(devices, path);
		if (name)
			add_holder(h, "%s is used for swapping", name);
	}
	free(line);
	fclose(f);
}

/* Devices made of this one: device mapper, md, ... */
static void find_stacked(struct holders *h, dev_t dev, const char *name)
{
	struct dirent *entry;
	char dir[64];
	DIR *d;

	snprintf(dir, sizeof(dir), "/sys/dev/block/%u:%u/holders", major(dev),
		 minor(dev));
	d = opendir(dir);
	if (!d)
		return;
	while ((entry = readdir(d)))
		if (entry->d_name[0] != '.')
			add_holder(h, "%s is part of %s", name, entry->d_name);
	closedir(d);
}

/* Loop devices on this one: the kernel has it open, and no process. */
static void find_loops(struct holders *h, struct json_object *devices)
{
	char path[300], backing[256];
	struct dirent *entry;
	const char *name;
	DIR *d;
	FILE *f;

	d = opendir("/sys/block");
	if (!d)
		return;
	while ((entry = readdir(d))) {
		if (strncmp(entry->d_name, "loop", 4))
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file",
			 entry->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		name = NULL;
		if (fscanf(f, "%255s", backing) == 1)
			name = device_at(devices, backing);
		if (name)
			add_holder(h, "%s is used by %s", name, entry->d_name);
		fclose(f);
	}
	closedir(d);
}

/* @links: "fd", or "map_files" for what is mapped, be it open or not */
static bool has_file(const char *pid, const char *links, file_match match,
		     const void *arg)
{
	struct dirent *entry;
	bool found = false;
	char dir[300];
	struct stat st;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%s/%s", pid, links);
	d = opendir(dir);
	if (!d)
		return false;
	while (!found && (entry = readdir(d)))
		found = entry->d_name[0] != '.' &&
			!fstatat(dirfd(d), entry->d_name, &st, 0) &&
			match(&st, arg);
	closedir(d);
	return found;
}

/* udev looks at every new or closed device, and goes away by itself. */
static bool is_udev(const char *comm)
{
	return !strcmp(comm, "(udev-worker)") ||
	       !strcmp(comm, "systemd-udevd") || !strcmp(comm, "udevd");
}

static void find_processes(struct holders *h, file_match match, const void *arg)
{
	struct dirent *entry;
	const char *how;
	char comm[64];
	DIR *d;

	d = opendir("/proc");
	if (!d)
		return;
	while ((entry = readdir(d))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    atoi(entry->d_name) == getpid())
			continue;
		how = NULL;
		if (has_file(entry->d_name, "fd", match, arg))
			how = "opened";
		else if (has_file(entry->d_name, "map_files", match, arg))
			how = "mapped";
		if (!how)
			continue;
		read_comm(entry->d_name, comm, sizeof(comm));
		if (!is_udev(comm))
			add_holder(h, "%s by %s (process %s)", how, comm,
				   entry->d_name);
	}
	closedir(d);
}

static void finish(struct holders *h)
{
	if (h->nr > MAX_NAMED && h->len < sizeof(h->text) - 32)
		snprintf(h->text + h->len, sizeof(h->text) - h->len,
			 "; and %u more", h->nr - MAX_NAMED);
}

static bool match_device(const struct stat *st, const void *arg)
{
	return S_ISBLK(st->st_mode) &&
	       device_name((struct json_object *)arg, st->st_rdev);
}

void find_disk_holders(struct holders *h, const char *disk)
{
	struct json_object *devices = disk_devices(disk);

	memset(h, 0, sizeof(*h));
	find_mounts(h, devices);
	find_swaps(h, devices);
	json_object_object_foreach(devices, name, value)
		find_stacked(h, json_object_get_uint64(value), name);
	find_loops(h, devices);
	find_processes(h, match_device, devices);
	finish(h);
	json_object_put(devices);
}

/* The same file or, through whatever path, the same block device */
static bool match_image(const struct stat *st, const void *arg)
{
	const struct stat *image = arg;

	if (S_ISBLK(image->st_mode))
		return S_ISBLK(st->st_mode) && st->st_rdev == image->st_rdev;
	return st->st_dev == image->st_dev && st->st_ino == image->st_ino;
}

static bool is_image(const char *path, const struct stat *image)
{
	struct stat st;

	return path && !stat(path, &st) && match_image(&st, image);
}

static void add_disk(struct holders *h, struct json_object *disk,
		     struct json_object *nodes, const struct stat *image)
{
	struct json_object *layers, *layer;
	size_t i;

	layers = find_layers(nodes, qblk_get_str(disk, "root"));
	for (i = 0; i < json_object_array_length(layers); i++) {
		layer = json_object_array_get_idx(layers, i);
		if (!is_image(layer_image(layer), image) &&
		    !is_image(qblk_get_str(qblk_get(layer, "data-file"),
					   "image"), image))
			continue;
		add_holder(h, "attached as /dev/%s",
			   qblk_get_str(disk, "disk"));
		break;
	}
	json_object_put(layers);
}

/* The kernel has the file open itself: no process shows it. */
static void find_disks(struct holders *h, struct qblk_sock *sock,
		       const struct stat *image)
{
	struct qblk_error ignored = {};
	struct json_object *disks = qblk_exports(sock, &ignored);
	struct json_object *nodes = qblk_nodes(sock, &ignored);
	size_t i;

	for (i = 0; disks && nodes && i < json_object_array_length(disks); i++)
		add_disk(h, json_object_array_get_idx(disks, i), nodes, image);
	json_object_put(disks);
	json_object_put(nodes);
}

void explain_busy(struct qblk_sock *sock, const char *path,
		  struct qblk_error *err)
{
	size_t len = strlen(err->text);
	struct holders h = {};
	struct stat st;

	if (!path || stat(path, &st))
		return;
	find_disks(&h, sock, &st);
	find_processes(&h, match_image, &st);
	finish(&h);
	if (h.nr)
		snprintf(err->text + len, sizeof(err->text) - len, " (%s)",
			 h.text);
}
