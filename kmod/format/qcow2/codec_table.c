// SPDX-License-Identifier: GPL-2.0
/*
 * The snapshot table and the bitmap directory: pure functions of bytes, without
 * I/O, locks or allocation.
 */
#include <linux/kernel.h>
#include <linux/overflow.h>
#include <linux/string.h>

#include "codec.h"

/* A member of the extra data counts if all of it is there. */
static bool qcow2_extra_u64(const u8 *buf, size_t len, u32 extra_size,
			    size_t at, u64 *to)
{
	at += sizeof(struct qcow2_disk_snapshot);
	if (at + 8 > sizeof(struct qcow2_disk_snapshot) + extra_size ||
	    at + 8 > len)
		return false;
	*to = get_unaligned_be64(buf + at);
	return true;
}

static void qcow2_snapshot_extra(const u8 *buf, size_t len,
				 struct qcow2_snapshot_entry *e)
{
	const u32 size = e->extra_size;

	qcow2_extra_u64(buf, len, size,
			offsetof(struct qcow2_disk_snapshot_extra,
				 vm_state_size_large), &e->vm_state_size);
	e->has_disk_size =
		qcow2_extra_u64(buf, len, size,
				offsetof(struct qcow2_disk_snapshot_extra,
					 disk_size), &e->disk_size);
	qcow2_extra_u64(buf, len, size,
			offsetof(struct qcow2_disk_snapshot_extra, icount),
			&e->icount);
}

/**
 * qcow2_snapshot_parse - bring an entry of the snapshot table into host order
 * @buf: where the entry starts
 * @len: bytes in @buf
 * @nr: index of the entry, for messages
 * @e: result; extra data that is not in @buf is taken not to exist
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * Called with the head first, then with all the bytes it says there are.
 * Where id and name are in @buf say qcow2_snapshot_id() and
 * qcow2_snapshot_name().
 *
 * Return: bytes of the entry, without the padding that follows it; -EINVAL if
 * @len does not even hold the head, -EFBIG for too much extra data.
 */
int qcow2_snapshot_parse(const u8 *buf, size_t len, u32 nr,
			 struct qcow2_snapshot_entry *e, const char *who,
			 struct qblk_err *err)
{
	struct qcow2_disk_snapshot d;

	if (len < sizeof(d)) {
		qblk_err_set(err,
			     "%s: snapshot table entry %u: %zu bytes are too few",
			     who, nr, len);
		return -EINVAL;
	}
	memcpy(&d, buf, sizeof(d));
	*e = (struct qcow2_snapshot_entry) {
		.l1_table_offset = be64_to_cpu(d.l1_table_offset),
		.l1_size = be32_to_cpu(d.l1_size),
		.extra_size = be32_to_cpu(d.extra_data_size),
		.id_size = be16_to_cpu(d.id_size),
		.name_size = be16_to_cpu(d.name_size),
		.date_sec = be32_to_cpu(d.date_sec),
		.date_nsec = be32_to_cpu(d.date_nsec),
		.vm_clock_nsec = be64_to_cpu(d.vm_clock_nsec),
		.vm_state_size = be32_to_cpu(d.vm_state_size),
		.icount = U64_MAX,
	};
	if (e->extra_size > QCOW2_MAX_SNAPSHOT_EXTRA) {
		qblk_err_set(err,
			     "%s: snapshot table entry %u: extra_data_size %u is larger than %u",
			     who, nr, e->extra_size, QCOW2_MAX_SNAPSHOT_EXTRA);
		return -EFBIG;
	}
	qcow2_snapshot_extra(buf, len, e);
	return sizeof(d) + e->extra_size + e->id_size + e->name_size;
}

/**
 * qcow2_snapshot_l1_check - can the L1 table of a snapshot be used?
 * @h: checked header
 * @e: from qcow2_snapshot_parse()
 * @who: node and snapshot for messages
 * @err: gets the sentence on failure
 *
 * QEMU looks at it when it uses the snapshot, not before.
 *
 * Return: 0, -EFBIG or -EINVAL.
 */
int qcow2_snapshot_l1_check(const struct qcow2_header *h,
			    const struct qcow2_snapshot_entry *e,
			    const char *who, struct qblk_err *err)
{
	int ret;

	ret = qcow2_check_table(h, e->l1_table_offset, e->l1_size, 8,
				QCOW2_MAX_L1_BYTES, "snapshot L1 table", who,
				err);
	if (!ret && e->l1_size && !e->l1_table_offset) {
		qblk_err_set(err, "%s: snapshot L1 table offset invalid: 0x0",
			     who);
		ret = -EINVAL;
	}
	return ret;
}

static int qcow2_bitmap_check(const struct qcow2_header *h,
			      const struct qcow2_bitmap_entry *e,
			      const char *who, struct qblk_err *err)
{
	u64 bytes = (u64)e->table_size << h->cluster_bits;
	u64 size = round_down(h->size, 512);
	const struct qcow2_field_check checks[] = {
		{ "extra_data_size", e->extra_size, 0, 0, -EINVAL },
		{ "bitmap_table_size", e->table_size, 1,
		  QCOW2_MAX_BITMAP_TABLE, -EINVAL },
		{ "bitmap_table_offset", e->table_offset, 1, U64_MAX, -EINVAL },
		{ "granularity_bits", e->granularity_bits,
		  QCOW2_MIN_BITMAP_GRANULARITY, QCOW2_MAX_BITMAP_GRANULARITY,
		  -EINVAL },
		{ "flags", e->flags, 0,
		  QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO, -EINVAL },
		{ "name_size", e->name_size, 1, QCOW2_MAX_BITMAP_NAME,
		  -EINVAL },
		{ "type", e->type, QCOW2_BITMAP_DIRTY_TRACKING,
		  QCOW2_BITMAP_DIRTY_TRACKING, -EINVAL },
		{ "size of the bitmap in bytes", bytes, 0,
		  QCOW2_MAX_BITMAP_BYTES, -EINVAL },
	};
	int ret = qcow2_check_fields(checks, ARRAY_SIZE(checks), who, err);

	if (ret)
		return ret;
	if (e->table_offset & ((1ULL << h->cluster_bits) - 1)) {
		qblk_err_set(err,
			     "%s: bitmap_table_offset 0x%llx is not at a cluster",
			     who, e->table_offset);
		return -EINVAL;
	}
	if (e->flags & QCOW2_BITMAP_IN_USE)
		return 0;
	/* 2^29 bytes of 8 bits of 2^31 bytes each: no overflow. */
	if (size > bytes * 8 << e->granularity_bits) {
		qblk_err_set(err,
			     "%s: bitmap_table_size %u covers %llu bytes of %llu",
			     who, e->table_size,
			     bytes * 8 << e->granularity_bits, size);
		return -EINVAL;
	}
	return 0;
}

/**
 * qcow2_bitmap_parse - bring an entry of the bitmap directory into host order
 * @h: checked header
 * @buf: where the entry starts
 * @len: bytes to the end of the directory
 * @nr: index of the entry, for messages
 * @e: result; its name points into @buf
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * Return: bytes of the entry, with padding, at most @len; -EINVAL for one that
 * QEMU would not accept.
 */
int qcow2_bitmap_parse(const struct qcow2_header *h, const u8 *buf, size_t len,
		       u32 nr, struct qcow2_bitmap_entry *e, const char *who,
		       struct qblk_err *err)
{
	struct qcow2_disk_bitmap d;
	char name[64];
	u64 bytes;
	int ret;

	if (len < sizeof(d))
		goto err_cut;
	memcpy(&d, buf, sizeof(d));
	*e = (struct qcow2_bitmap_entry) {
		.table_offset = be64_to_cpu(d.table_offset),
		.table_size = be32_to_cpu(d.table_size),
		.flags = be32_to_cpu(d.flags),
		.type = d.type,
		.granularity_bits = d.granularity_bits,
		.name_size = be16_to_cpu(d.name_size),
		.extra_size = be32_to_cpu(d.extra_data_size),
		.name = buf + sizeof(d),
	};
	bytes = round_up(sizeof(d) + (u64)e->name_size + e->extra_size, 8);
	if (bytes > len)
		goto err_cut;
	snprintf(name, sizeof(name), "%s: bitmap directory entry %u", who, nr);
	ret = qcow2_bitmap_check(h, e, name, err);
	return ret ?: (int)bytes;

err_cut:
	qblk_err_set(err,
		     "%s: broken bitmap directory: entry %u does not fit into the %zu bytes left of bitmap_directory_size",
		     who, nr, len);
	return -EINVAL;
}

/**
 * qcow2_bitmap_entries - entries a bitmap's table must have
 * @h: checked header
 * @e: from qcow2_bitmap_parse()
 */
u64 qcow2_bitmap_entries(const struct qcow2_header *h,
			 const struct qcow2_bitmap_entry *e)
{
	u64 size = round_down(h->size, 512);
	u64 bits = (size >> e->granularity_bits) +
		   !!(size & ((1ULL << e->granularity_bits) - 1));
	u64 bytes = (bits >> 3) + !!(bits & 7);

	return (bytes >> h->cluster_bits) +
	       !!(bytes & ((1ULL << h->cluster_bits) - 1));
}

/**
 * qcow2_bitmap_table_valid - does an entry of a bitmap table make sense?
 * @h: checked header
 * @entry: in host byte order
 */
bool qcow2_bitmap_table_valid(const struct qcow2_header *h, u64 entry)
{
	u64 offset = entry & QCOW2_BITMAP_OFFSET_MASK;

	if (entry & QCOW2_BITMAP_RESERVED_MASK)
		return false;
	if (offset & ((1ULL << h->cluster_bits) - 1))
		return false;
	return !offset || !(entry & QCOW2_BITMAP_ALL_ONES);
}
