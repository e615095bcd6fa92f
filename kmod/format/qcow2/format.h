/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The qcow2 format on disk, as QEMU's docs/interop/qcow2.txt describes it.
 * Everything is big endian.
 */
#ifndef _QBLK_QCOW2_FORMAT_H
#define _QBLK_QCOW2_FORMAT_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/types.h>

#define QCOW2_MAGIC			0x514649fbU	/* "QFI\xfb" */

#define QCOW2_MIN_CLUSTER_BITS		9
#define QCOW2_MAX_CLUSTER_BITS		21
#define QCOW2_EXTL2_MIN_CLUSTER_BITS	14	/* subclusters of a sector */
#define QCOW2_MAX_REFCOUNT_ORDER	6

/* QEMU's bounds on tables that are kept in memory, bytes. */
#define QCOW2_MAX_L1_BYTES		(32U << 20)
#define QCOW2_MAX_REFTABLE_BYTES	(8U << 20)
#define QCOW2_MAX_SNAPSHOTS		65536U
#define QCOW2_MAX_SNAPSHOT_EXTRA	1024U
#define QCOW2_MAX_SNAPSHOTS_BYTES	(64U << 20)
#define QCOW2_MAX_BITMAPS		65535U
#define QCOW2_MAX_BITMAP_DIR_BYTES	(1024ULL * QCOW2_MAX_BITMAPS)
#define QCOW2_MAX_BITMAP_TABLE		0x8000000U
#define QCOW2_MAX_BITMAP_BYTES		0x20000000ULL
#define QCOW2_MAX_BITMAP_NAME		1023U
#define QCOW2_MIN_BITMAP_GRANULARITY	9
#define QCOW2_MAX_BITMAP_GRANULARITY	31
#define QCOW2_MAX_BACKING_NAME		1023U
#define QCOW2_MAX_DATA_FILE_NAME	4095U	/* no path is longer */
#define QCOW2_MAX_FORMAT_NAME		15U

/* Host offsets have 56 bits. */
#define QCOW2_MAX_HOST_OFFSET		BIT_ULL(56)

/**
 * struct qcow2_disk_header - first bytes of the image
 *
 * Version 2 ends before @incompatible_features.
 */
struct qcow2_disk_header {
	__be32 magic;
	__be32 version;
	__be64 backing_file_offset;
	__be32 backing_file_size;
	__be32 cluster_bits;
	__be64 size;
	__be32 crypt_method;
	__be32 l1_size;
	__be64 l1_table_offset;
	__be64 refcount_table_offset;
	__be32 refcount_table_clusters;
	__be32 nb_snapshots;
	__be64 snapshots_offset;
	/* version 3 */
	__be64 incompatible_features;
	__be64 compatible_features;
	__be64 autoclear_features;
	__be32 refcount_order;
	__be32 header_length;
	/* when header_length says so */
	u8 compression_type;
	u8 padding[7];
} __packed;

#define QCOW2_V2_HEADER_LENGTH		72U
#define QCOW2_V3_MIN_HEADER_LENGTH	104U

static_assert(sizeof(struct qcow2_disk_header) == 112);
static_assert(offsetof(struct qcow2_disk_header, incompatible_features) ==
	      QCOW2_V2_HEADER_LENGTH);
static_assert(offsetof(struct qcow2_disk_header, compression_type) ==
	      QCOW2_V3_MIN_HEADER_LENGTH);

#define QCOW2_INCOMPAT_DIRTY		BIT_ULL(0)
#define QCOW2_INCOMPAT_CORRUPT		BIT_ULL(1)
#define QCOW2_INCOMPAT_DATA_FILE	BIT_ULL(2)
#define QCOW2_INCOMPAT_COMPRESSION	BIT_ULL(3)
#define QCOW2_INCOMPAT_EXTL2		BIT_ULL(4)
#define QCOW2_INCOMPAT_MASK		GENMASK_ULL(4, 0)

#define QCOW2_COMPAT_LAZY_REFCOUNTS	BIT_ULL(0)

#define QCOW2_AUTOCLEAR_BITMAPS		BIT_ULL(0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW	BIT_ULL(1)

#define QCOW2_CRYPT_NONE		0
#define QCOW2_CRYPT_AES			1
#define QCOW2_CRYPT_LUKS		2

#define QCOW2_COMPRESSION_ZLIB		0
#define QCOW2_COMPRESSION_ZSTD		1

/**
 * struct qcow2_disk_ext - head of a header extension
 *
 * Followed by @len bytes, padded to 8.
 */
struct qcow2_disk_ext {
	__be32 magic;
	__be32 len;
} __packed;

#define QCOW2_EXT_END			0x00000000U
#define QCOW2_EXT_BACKING_FORMAT	0xe2792acaU
#define QCOW2_EXT_FEATURE_TABLE		0x6803f857U
#define QCOW2_EXT_CRYPTO		0x0537be77U
#define QCOW2_EXT_BITMAPS		0x23852875U
#define QCOW2_EXT_DATA_FILE		0x44415441U

/**
 * struct qcow2_disk_feature - a row of the feature name table
 */
struct qcow2_disk_feature {
	u8 type;	/* 0 incompatible, 1 compatible, 2 autoclear */
	u8 bit;
	char name[46];
} __packed;

static_assert(sizeof(struct qcow2_disk_feature) == 48);

/**
 * struct qcow2_disk_bitmaps - the bitmaps extension
 */
struct qcow2_disk_bitmaps {
	__be32 nb_bitmaps;
	__be32 reserved;
	__be64 directory_size;
	__be64 directory_offset;
} __packed;

static_assert(sizeof(struct qcow2_disk_bitmaps) == 24);

/**
 * struct qcow2_disk_snapshot - head of an entry of the snapshot table
 *
 * Followed by extra data, id and name; the next entry starts at a multiple of 8
 * bytes.
 */
struct qcow2_disk_snapshot {
	__be64 l1_table_offset;
	__be32 l1_size;
	__be16 id_size;
	__be16 name_size;
	__be32 date_sec;
	__be32 date_nsec;
	__be64 vm_clock_nsec;
	__be32 vm_state_size;
	__be32 extra_data_size;
} __packed;

static_assert(sizeof(struct qcow2_disk_snapshot) == 40);

/**
 * struct qcow2_disk_snapshot_extra - extra data; there may be less, or more
 */
struct qcow2_disk_snapshot_extra {
	__be64 vm_state_size_large;
	__be64 disk_size;
	__be64 icount;
} __packed;

static_assert(sizeof(struct qcow2_disk_snapshot_extra) == 24);

/**
 * struct qcow2_disk_bitmap - head of an entry of the bitmap directory
 *
 * Followed by extra data and name; the next entry starts at a multiple of 8
 * bytes.
 */
struct qcow2_disk_bitmap {
	__be64 table_offset;
	__be32 table_size;
	__be32 flags;
	u8 type;
	u8 granularity_bits;
	__be16 name_size;
	__be32 extra_data_size;
} __packed;

static_assert(sizeof(struct qcow2_disk_bitmap) == 24);

#define QCOW2_BITMAP_IN_USE		BIT(0)
#define QCOW2_BITMAP_AUTO		BIT(1)

#define QCOW2_BITMAP_DIRTY_TRACKING	1

/* Entries of a bitmap's table */
#define QCOW2_BITMAP_ALL_ONES		BIT_ULL(0)
#define QCOW2_BITMAP_OFFSET_MASK	GENMASK_ULL(55, 9)
#define QCOW2_BITMAP_RESERVED_MASK	(GENMASK_ULL(63, 56) | GENMASK_ULL(8, 1))

/* L1 and L2 entries */
#define QCOW2_OFLAG_COPIED		BIT_ULL(63)
#define QCOW2_OFLAG_COMPRESSED		BIT_ULL(62)
#define QCOW2_OFLAG_ZERO		BIT_ULL(0)
#define QCOW2_L1E_OFFSET_MASK		GENMASK_ULL(55, 9)
#define QCOW2_L1E_RESERVED_MASK		(GENMASK_ULL(62, 56) | GENMASK_ULL(8, 0))
#define QCOW2_L2E_OFFSET_MASK		GENMASK_ULL(55, 9)
#define QCOW2_L2E_RESERVED_MASK		(GENMASK_ULL(61, 56) | GENMASK_ULL(8, 1))
/* Second half of an extended L2 entry: alloc bits below, zero bits above */
#define QCOW2_SUBCLUSTERS		32U
#define QCOW2_SC_ALL			U32_MAX

#define QCOW2_COMPRESSED_SECTOR		512U

/* Refcount table entries */
#define QCOW2_REFT_OFFSET_MASK		GENMASK_ULL(63, 9)

#endif /* _QBLK_QCOW2_FORMAT_H */
