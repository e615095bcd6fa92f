/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading and writing the structures of a qcow2 image: pure functions of
 * bytes, without I/O, locks or allocation, which anybody can call on anything.
 * They need nothing of the kernel but its types, so a fuzzer in userspace can
 * have them as well.
 */
#ifndef _QBLK_QCOW2_CODEC_H
#define _QBLK_QCOW2_CODEC_H

#include <linux/types.h>

#include <qblk/err.h>

#include "format.h"

/**
 * struct qcow2_header - the header in host byte order
 *
 * Version 2 images get the values version 3 would have.
 */
struct qcow2_header {
	u32 version;
	u64 backing_file_offset;
	u32 backing_file_size;
	u32 cluster_bits;
	u64 size;
	u32 crypt_method;
	u32 l1_size;
	u64 l1_table_offset;
	u64 refcount_table_offset;
	u32 refcount_table_clusters;
	u32 nb_snapshots;
	u64 snapshots_offset;
	u64 incompatible_features;
	u64 compatible_features;
	u64 autoclear_features;
	u32 refcount_order;
	u32 header_length;
	u8 compression_type;
};

/**
 * struct qcow2_exts - what the header extensions say
 * @backing_format: empty for none
 * @backing_file: empty for none
 * @has_bitmaps: there is a bitmaps extension
 * @nb_bitmaps: number of bitmaps, 0 unless their autoclear bit is set
 * @bitmaps_bytes: length of the bitmap directory
 * @bitmaps_offset: where it is
 * @data_file: name of the data file, empty for none
 */
struct qcow2_exts {
	char backing_format[QCOW2_MAX_FORMAT_NAME + 1];
	char backing_file[QCOW2_MAX_BACKING_NAME + 1];
	char data_file[QCOW2_MAX_DATA_FILE_NAME + 1];
	bool has_bitmaps;
	u32 nb_bitmaps;
	u64 bitmaps_bytes;
	u64 bitmaps_offset;
};

/**
 * struct qcow2_snapshot_entry - an entry of the snapshot table in host order
 * @l1_table_offset: host offset of its L1 table
 * @l1_size: entries in there
 * @extra_size: bytes of extra data between the head and the id
 * @id_size: bytes of the id
 * @name_size: bytes of the name
 * @date_sec: when it was taken, seconds since 1970
 * @date_nsec: and nanoseconds
 * @vm_clock_nsec: how long the guest had run
 * @vm_state_size: bytes of machine state
 * @disk_size: virtual size of the disk then; with @has_disk_size
 * @icount: instructions executed, U64_MAX for unknown
 * @has_disk_size: the entry has @disk_size
 */
struct qcow2_snapshot_entry {
	u64 l1_table_offset;
	u32 l1_size;
	u32 extra_size;
	u16 id_size;
	u16 name_size;
	u32 date_sec;
	u32 date_nsec;
	u64 vm_clock_nsec;
	u64 vm_state_size;
	u64 disk_size;
	u64 icount;
	bool has_disk_size;
};

/**
 * struct qcow2_bitmap_entry - an entry of the bitmap directory in host order
 * @table_offset: host offset of its table
 * @table_size: entries in there
 * @flags: QCOW2_BITMAP_*
 * @extra_size: bytes of extra data, none in a valid entry
 * @type: QCOW2_BITMAP_DIRTY_TRACKING
 * @granularity_bits: log2 of the bytes that a bit stands for
 * @name_size: bytes of the name
 * @name: inside the bytes parsed, not NUL-terminated
 */
struct qcow2_bitmap_entry {
	u64 table_offset;
	u32 table_size;
	u32 flags;
	u32 extra_size;
	u8 type;
	u8 granularity_bits;
	u16 name_size;
	const u8 *name;
};

/**
 * struct qcow2_field_check - one field, one bound, one sentence
 * @name: of the field
 * @value: what it says
 * @min: smallest good value
 * @max: largest good value
 * @error: for others
 *
 * For the checks QEMU makes at open that do not need other fields than the one
 * they are about.
 */
struct qcow2_field_check {
	const char *name;
	u64 value;
	u64 min;
	u64 max;
	int error;
};

/**
 * struct qcow2_l2e - an L2 entry, see codec_l2e.c
 * @entry: offset, %QCOW2_OFLAG_COPIED and %QCOW2_OFLAG_COMPRESSED
 * @alloc: subclusters with data, as bits
 * @zero: subclusters that read as zeroes, likewise
 */
struct qcow2_l2e {
	u64 entry;
	u32 alloc;
	u32 zero;
};

/**
 * enum qcow2_sc_kind - what a subcluster holds; QEMU's QCow2SubclusterType
 *
 * Without the distinction whether there is room for it already, for which see
 * qcow2_l2e_has_host().
 */
enum qcow2_sc_kind {
	QCOW2_SC_UNALLOCATED,
	QCOW2_SC_ZERO,
	QCOW2_SC_NORMAL,
	QCOW2_SC_COMPRESSED,
};

/**
 * enum qcow2_l2e_error - what can be wrong with an L2 entry
 * @QCOW2_L2E_GOOD: nothing
 * @QCOW2_L2E_ZERO_V2: a zero cluster in an image of version 2
 * @QCOW2_L2E_UNALIGNED: data not at a cluster
 * @QCOW2_L2E_BITMAP: subclusters that contradict each other
 * @QCOW2_L2E_COMPRESSED_DATA_FILE: compressed, though there is a data file
 * @QCOW2_L2E_NOT_GUEST: not where it has to be in a data file
 */
enum qcow2_l2e_error {
	QCOW2_L2E_GOOD,
	QCOW2_L2E_ZERO_V2,
	QCOW2_L2E_UNALIGNED,
	QCOW2_L2E_BITMAP,
	QCOW2_L2E_COMPRESSED_DATA_FILE,
	QCOW2_L2E_NOT_GUEST,
};

/* log2 of the bytes of an L2 entry */
static inline u32 qcow2_l2e_bits(const struct qcow2_header *h)
{
	return h->incompatible_features & QCOW2_INCOMPAT_EXTL2 ? 4 : 3;
}

/* codec_header.c */
int qcow2_header_parse(const u8 *buf, size_t len, struct qcow2_header *h,
		       const char *who, struct qblk_err *err);
int qcow2_header_check(const struct qcow2_header *h, const char *who,
		       struct qblk_err *err);
int qcow2_exts_parse(const struct qcow2_header *h, const u8 *buf, size_t len,
		     struct qcow2_exts *x, const char *who,
		     struct qblk_err *err);
void qcow2_feature_names(const struct qcow2_header *h, const u8 *buf,
			 size_t len, u64 unknown, char *out, size_t size);
size_t qcow2_header_area(const struct qcow2_header *h);
u64 qcow2_l1_entries(u64 size, u32 cluster_bits, u32 l2_bits);
int qcow2_check_fields(const struct qcow2_field_check *c, size_t nr,
		       const char *who, struct qblk_err *err);
int qcow2_check_table(const struct qcow2_header *h, u64 offset, u64 entries,
		      u32 entry_size, u64 max_bytes, const char *name,
		      const char *who, struct qblk_err *err);

/* codec_table.c */
int qcow2_snapshot_parse(const u8 *buf, size_t len, u32 nr,
			 struct qcow2_snapshot_entry *e, const char *who,
			 struct qblk_err *err);
int qcow2_snapshot_l1_check(const struct qcow2_header *h,
			    const struct qcow2_snapshot_entry *e,
			    const char *who, struct qblk_err *err);
int qcow2_bitmap_parse(const struct qcow2_header *h, const u8 *buf, size_t len,
		       u32 nr, struct qcow2_bitmap_entry *e, const char *who,
		       struct qblk_err *err);
u64 qcow2_bitmap_entries(const struct qcow2_header *h,
			 const struct qcow2_bitmap_entry *e);
bool qcow2_bitmap_table_valid(const struct qcow2_header *h, u64 entry);

/* Where id and name are in the bytes of an entry of the snapshot table */
static inline u32 qcow2_snapshot_id(const struct qcow2_snapshot_entry *e)
{
	return sizeof(struct qcow2_disk_snapshot) + e->extra_size;
}

static inline u32 qcow2_snapshot_name(const struct qcow2_snapshot_entry *e)
{
	return qcow2_snapshot_id(e) + e->id_size;
}

/* codec_l2e.c */
struct qcow2_l2e qcow2_l2e_decode(u64 features, u64 entry, u64 bitmap);
u64 qcow2_l2e_encode(u64 features, const struct qcow2_l2e *e, u64 *bitmap);
bool qcow2_l2e_has_host(u64 features, const struct qcow2_l2e *e);
enum qcow2_sc_kind qcow2_sc_kind(const struct qcow2_l2e *e, u32 sc);
u32 qcow2_sc_run(const struct qcow2_l2e *e, u32 sc);
u32 qcow2_sc_mask(u32 from, u32 last);
enum qcow2_l2e_error qcow2_l2e_error(u32 version, u64 features,
				     u32 cluster_bits, u64 guest,
				     const struct qcow2_l2e *e);
void qcow2_compressed_extent(u64 entry, u32 cluster_bits, u64 *offset,
			     u32 *bytes);

/* codec.c */
u64 qcow2_refcount_get(const void *block, u32 order, u32 index);
void qcow2_refcount_set(void *block, u32 order, u32 index, u64 value);
u64 qcow2_refcount_max(u32 order);

#endif /* _QBLK_QCOW2_CODEC_H */
