// SPDX-License-Identifier: GPL-2.0
/* Disks as the rest of the system sees them. */
#include "qblkctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS		10
#define NODE_TRIES	(2000 / STEP_MS)
#define UDEV_TRIES	(5000 / STEP_MS)

static struct json_object *find_by_number(struct json_object *disks, dev_t dev)
{
	struct json_object *disk;
	size_t i;

	for (i = 0; i < json_object_array_length(disks); i++) {
		disk = json_object_array_get_idx(disks, i);
		if (qblk_get_u64(disk, "major") == major(dev) &&
		    qblk_get_u64(disk, "minor") == minor(dev))
			return json_object_get(disk);
	}
	return NULL;
}

/* Is it a partition?  Then say of which disk. */
static int refuse_partition(const char *text, dev_t dev, struct qblk_error *err)
{
	char path[64], target[512];
	char *slash;
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition",
		 major(dev), minor(dev));
	if (access(path, F_OK))
		return 0;
	*strrchr(path, '/') = 0;
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return 0;
	target[len] = 0;
	/* .../qblk0/qblk0p1 */
	slash = strrchr(target, '/');
	if (slash)
		*slash = 0;
	slash = strrchr(target, '/');
	return qblk_error_set(err, EINVAL, "%s is a partition of /dev/%s", text,
			      slash ? slash + 1 : target);
}

static struct json_object *find_by_path(struct qblk_sock *sock,
					const char *text,
					struct qblk_error *err)
{
	struct json_object *disks, *disk;
	struct stat st;

	if (stat(text, &st)) {
		qblk_error_set(err, errno, "%s: %s", text, strerror(errno));
		return NULL;
	}
	if (!S_ISBLK(st.st_mode)) {
		qblk_error_set(err, ENODEV, "%s is not a block device", text);
		return NULL;
	}
	disks = qblk_exports(sock, err);
	if (!disks)
		return NULL;
	disk = find_by_number(disks, st.st_rdev);
	json_object_put(disks);
	if (!disk && !refuse_partition(text, st.st_rdev, err))
		qblk_error_set(err, ENODEV, "%s is not a qblk disk", text);
	return disk;
}

struct json_object *find_disk(struct qblk_sock *sock, const char *text,
			      struct qblk_error *err)
{
	if (strchr(text, '/'))
		return find_by_path(sock, text, err);
	return qblk_export(sock, text, err);
}

static int read_number(const char *path, dev_t *dev)
{
	unsigned int maj, min;
	FILE *f = fopen(path, "re");
	int n;

	if (!f)
		return -errno;
	n = fscanf(f, "%u:%u", &maj, &min);
	fclose(f);
	if (n != 2)
		return -EINVAL;
	*dev = makedev(maj, min);
	return 0;
}

static void add_device(struct json_object *devices, const char *dir,
		       const char *name)
{
	char path[600];
	dev_t dev = 0;

	snprintf(path, sizeof(path), "%s/dev", dir);
	if (!read_number(path, &dev))
		json_object_object_add(devices, name,
				       json_object_new_uint64(dev));
}

struct json_object *disk_devices(const char *disk)
{
	struct json_object *devices = json_object_new_object();
	char base[64], dir[512];
	struct dirent *entry;
	DIR *d;

	snprintf(base, sizeof(base), "/sys/block/%s", disk);
	add_device(devices, base, disk);
	d = opendir(base);
	if (!d)
		return devices;
	while ((entry = readdir(d))) {
		snprintf(dir, sizeof(dir), "%s/%s", base, entry->d_name);
		if (!strncmp(entry->d_name, disk, strlen(disk)))
			add_device(devices, dir, entry->d_name);
	}
	closedir(d);
	return devices;
}

static void nap(void)
{
	const struct timespec t = { .tv_nsec = STEP_MS * 1000000L };

	nanosleep(&t, NULL);
}

static bool node_exists(const char *name, dev_t dev)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "/dev/%s", name);
	return !stat(path, &st) && S_ISBLK(st.st_mode) && st.st_rdev == dev;
}

uint64_t time_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

/*
 * udev writes "I:" with the time when it began with a new device, and writes it
 * when it has finished.  Device numbers come back: what is older than the disk
 * is about one that had the number before, and is there until udev gets to
 * know that it went.
 */
static bool udev_has_seen(dev_t dev, uint64_t since)
{
	char path[64], line[512];
	unsigned long long usec;
	bool seen = false;
	FILE *f;

	snprintf(path, sizeof(path), "/run/udev/data/b%u:%u", major(dev),
		 minor(dev));
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!seen && fgets(line, sizeof(line), f))
		seen = sscanf(line, "I:%llu", &usec) == 1 && usec >= since;
	fclose(f);
	return seen;
}

void wait_for_disk(const char *disk, uint64_t since)
{
	struct json_object *devices = disk_devices(disk);
	bool udev = !access("/run/udev/control", F_OK);
	int node_tries = 0, udev_tries = 0;

	json_object_object_foreach(devices, name, value) {
		dev_t dev = json_object_get_uint64(value);

		while (!node_exists(name, dev) && node_tries++ < NODE_TRIES)
			nap();
		while (udev && !udev_has_seen(dev, since) &&
		       udev_tries++ < UDEV_TRIES)
			nap();
	}
	json_object_put(devices);
}
