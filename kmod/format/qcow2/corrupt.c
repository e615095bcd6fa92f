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

/* Version 2 has no place for the bit: only this attach remembers. */
static void qcow2_set_corrupt_bit(struct qcow2_state *s)
{
	__be64 features;
	int ret;

	s->hdr.incompatible_features |= QCOW2_INCOMPAT_CORRUPT;
	if (s->hdr.version < 3)
		return;
	features = cpu_to_be64(s->hdr.incompatible_features);
	ret = qcow2_header_write(s, offsetof(struct qcow2_disk_header,
					     incompatible_features),
				 &features, sizeof(features));
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
