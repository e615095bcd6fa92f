// SPDX-License-Identifier: GPL-2.0
/*
 * What happens when the image contradicts itself, and writes of single header
 * fields.
 */
#include <linux/kernel.h>
#include <linux/stdarg.h>
#include <asm/byteorder.h>

#include "qcow2.h"

/**
 * qcow2_header_write - write a field of the header in place
 * @s: image
 * @field: its offset
 * @buf: its bytes, as they go to disk
 * @len: how many
 *
 * The sector around it is read, changed and written, which is atomic on any
 * disk; fields that belong together are neighbours.  No flush.
 */
int qcow2_header_write(struct qcow2_state *s, u32 field, const void *buf,
		       size_t len)
{
	int ret;

	mutex_lock(&s->header_lock);
	ret = qblk_pwrite(s->file, field, len, buf, 0);
	mutex_unlock(&s->header_lock);
	return ret;
}

/**
 * qcow2_header_features - change incompatible features
 * @s: image
 * @set: bits to set
 * @clear: bits to clear
 *
 * In memory a bit is set from when it may be set on disk, until it has been
 * cleared there.  Version 2 has no place for them: only this attach remembers.
 * No flush.
 *
 * Return: 0 or an error of the child.
 */
int qcow2_header_features(struct qcow2_state *s, u64 set, u64 clear)
{
	u64 features;
	__be64 field;
	int ret = 0;

	mutex_lock(&s->header_lock);
	features = (s->hdr.incompatible_features | set) & ~clear;
	field = cpu_to_be64(features);
	s->hdr.incompatible_features |= set;
	if (s->hdr.version >= 3)
		ret = qblk_pwrite(s->file, offsetof(struct qcow2_disk_header,
						    incompatible_features),
				  sizeof(field), &field, 0);
	if (!ret)
		s->hdr.incompatible_features = features;
	mutex_unlock(&s->header_lock);
	return ret;
}

static void qcow2_set_corrupt_bit(struct qcow2_state *s)
{
	int ret = qcow2_header_features(s, QCOW2_INCOMPAT_CORRUPT, 0);

	if (ret)
		pr_err_ratelimited("qblk: %s: cannot set the corrupt bit: %d\n",
				   s->node->name, ret);
}

/**
 * qcow2_corrupt - report broken metadata; qcow2_signal_corruption() of QEMU
 * @s: image
 * @fatal: stop writing to the image
 * @offset: host offset concerned, or -1
 * @bytes: length, or -1
 * @fmt: what is wrong
 *
 * A fatal corruption of a writable image sets the corrupt bit, and every later
 * write fails; reads go on, where the metadata lets them.  Only the first
 * report becomes an event.  Context: process, with or without lock.
 *
 * Return: -EIO, for the caller to pass on.
 */
int qcow2_corrupt(struct qcow2_state *s, bool fatal, s64 offset, s64 bytes,
		  const char *fmt, ...)
{
	char msg[128];
	va_list args;

	fatal = fatal && !s->node->read_only;
	if (fatal && !xchg(&s->corrupt, true))
		qcow2_set_corrupt_bit(s);
	else if (s->corrupt_reported)
		return -EIO;
	if (xchg(&s->corrupt_reported, true) && !fatal)
		return -EIO;

	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	qblk_event_corrupted(s->node, fatal, offset, bytes, msg);
	return -EIO;
}
