// SPDX-License-Identifier: GPL-2.0
/*
 * Opening and locking image files the way QEMU does.
 *
 * For every permission it uses, a process holds a read lock on byte 100 + i of
 * the image, and for every permission it does not share, on byte 200 + i.  It
 * has a conflict with another process if that one holds a lock on byte 200 + i
 * of a permission used here, or on byte 100 + i of one not shared here.
 *
 * They are locks of the open file description: the kernel module keeps that
 * open, and so they end when the image is detached.
 */
#include "libqblk.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define LOCK_USED	100
#define LOCK_UNSHARED	200

/* Bits of BLK_PERM_* */
#define PERM_READ	0x1U
#define PERM_WRITE	0x2U
#define PERM_RESIZE	0x8U

static const char *const perm_names[] = {
	"consistent read", "write", "write unchanged", "resize",
};

static int open_failed(const char *path, bool read_only, int code,
		       struct qblk_error *err)
{
	const char *hint = "";

	if (!read_only && (code == EROFS || code == EACCES))
		hint = "; it may be possible to attach it read-only";
	return qblk_error_set(err, code, "%s: %s%s", path, strerror(code),
			      hint);
}

int qblk_image_open(const char *path, bool read_only, struct qblk_error *err)
{
	struct stat st;
	int fd;

	/* First, so as not to wait for the other end of a FIFO. */
	if (stat(path, &st))
		return open_failed(path, read_only, errno, err);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return qblk_error_set(err, EINVAL,
				      "%s: neither a regular file nor a block device",
				      path);
	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return open_failed(path, read_only, errno, err);
	return fd;
}

const char *qblk_image_driver(int fd)
{
	struct stat st;

	if (!fstat(fd, &st) && S_ISBLK(st.st_mode))
		return "host_device";
	return "file";
}

static int lock_bytes(int fd, off_t base, unsigned int perms, const char *path,
		      struct qblk_error *err)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(perm_names); i++) {
		struct flock lock = {
			.l_type = F_RDLCK,
			.l_whence = SEEK_SET,
			.l_start = base + i,
			.l_len = 1,
		};

		if (!(perms & (1U << i)) || !fcntl(fd, F_OFD_SETLK, &lock))
			continue;
		return qblk_error_set(err, errno == EAGAIN ? EBUSY : errno,
				      "%s: failed to lock byte %d: %s", path,
				      (int)(base + i), strerror(errno));
	}
	return 0;
}

static int test_bytes(int fd, off_t base, unsigned int perms, const char *path,
		      struct qblk_error *err)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(perm_names); i++) {
		struct flock lock = {
			.l_type = F_WRLCK,
			.l_whence = SEEK_SET,
			.l_start = base + i,
			.l_len = 1,
		};

		if (!(perms & (1U << i)))
			continue;
		if (fcntl(fd, F_OFD_GETLK, &lock))
			return qblk_error_set(err, errno,
					      "%s: failed to test byte %d: %s",
					      path, (int)(base + i),
					      strerror(errno));
		if (lock.l_type != F_UNLCK)
			return qblk_error_set(err, EBUSY,
					      "Failed to get %s\"%s\" lock; Is another process using the image [%s]?",
					      base == LOCK_USED ? "shared " : "",
					      perm_names[i], path);
	}
	return 0;
}

int qblk_image_lock(int fd, const char *path, bool read_only,
		    struct qblk_error *err)
{
	unsigned int unshared = PERM_WRITE | PERM_RESIZE;
	unsigned int used = PERM_READ;
	int ret;

	if (!read_only)
		used |= PERM_WRITE | PERM_RESIZE;
	ret = lock_bytes(fd, LOCK_USED, used, path, err);
	if (!ret)
		ret = lock_bytes(fd, LOCK_UNSHARED, unshared, path, err);
	if (!ret)
		ret = test_bytes(fd, LOCK_UNSHARED, used, path, err);
	if (!ret)
		ret = test_bytes(fd, LOCK_USED, unshared, path, err);
	return ret;
}
