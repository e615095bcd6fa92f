// SPDX-License-Identifier: GPL-2.0
/*
 * The header of a qcow2 image and its extensions: pure functions of bytes,
 * without I/O, locks or allocation.
 */
#include <linux/kernel.h>
#include <linux/overflow.h>
#include <linux/string.h>

#include "codec.h"

/**
 * qcow2_header_parse - bring a header into host byte order
 * @buf: first bytes of the image
 * @len: how many; those missing are taken to be zero
 * @h: result
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * Only what is needed to understand the other fields is checked here; the rest
 * is qcow2_header_check()'s.
 *
 * Return: 0, -EINVAL if this is no qcow2 image, -EOPNOTSUPP for a version
 * other than 2 and 3.
 */
int qcow2_header_parse(const u8 *buf, size_t len, struct qcow2_header *h,
		       const char *who, struct qblk_err *err)
{
	struct qcow2_disk_header d = {};

	memcpy(&d, buf, min(len, sizeof(d)));
	if (be32_to_cpu(d.magic) != QCOW2_MAGIC) {
		qblk_err_set(err,
			     "%s: image is not in qcow2 format, its magic is 0x%08x",
			     who, be32_to_cpu(d.magic));
		return -EINVAL;
	}
	*h = (struct qcow2_header) {
		.version = be32_to_cpu(d.version),
		.backing_file_offset = be64_to_cpu(d.backing_file_offset),
		.backing_file_size = be32_to_cpu(d.backing_file_size),
		.cluster_bits = be32_to_cpu(d.cluster_bits),
		.size = be64_to_cpu(d.size),
		.crypt_method = be32_to_cpu(d.crypt_method),
		.l1_size = be32_to_cpu(d.l1_size),
		.l1_table_offset = be64_to_cpu(d.l1_table_offset),
		.refcount_table_offset = be64_to_cpu(d.refcount_table_offset),
		.refcount_table_clusters =
			be32_to_cpu(d.refcount_table_clusters),
		.nb_snapshots = be32_to_cpu(d.nb_snapshots),
		.snapshots_offset = be64_to_cpu(d.snapshots_offset),
		.refcount_order = 4,
		.header_length = QCOW2_V2_HEADER_LENGTH,
	};
	if (h->version != 2 && h->version != 3) {
		qblk_err_set(err, "%s: unsupported qcow2 version %u", who,
			     h->version);
		return -EOPNOTSUPP;
	}
	if (h->version == 2)
		return 0;
	h->incompatible_features = be64_to_cpu(d.incompatible_features);
	h->compatible_features = be64_to_cpu(d.compatible_features);
	h->autoclear_features = be64_to_cpu(d.autoclear_features);
	h->refcount_order = be32_to_cpu(d.refcount_order);
	h->header_length = be32_to_cpu(d.header_length);
	if (h->header_length > QCOW2_V3_MIN_HEADER_LENGTH)
		h->compression_type = d.compression_type;
	return 0;
}

/**
 * qcow2_l1_entries - L1 entries a virtual size needs
 * @size: bytes
 * @cluster_bits: log2 of the cluster size
 * @l2_bits: log2 of the entries in an L2 table
 */
u64 qcow2_l1_entries(u64 size, u32 cluster_bits, u32 l2_bits)
{
	u32 shift = cluster_bits + l2_bits;

	return (size >> shift) + !!(size & ((1ULL << shift) - 1));
}

/**
 * qcow2_check_table - is a table where a table can be?
 * @h: header, its cluster size checked
 * @offset: host offset of the table
 * @entries: in there
 * @entry_size: bytes of each
 * @max_bytes: most bytes it may have
 * @name: of the table, for messages
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * It has to start at a cluster and end below the largest offset.
 *
 * Return: 0, -EFBIG or -EINVAL.
 */
int qcow2_check_table(const struct qcow2_header *h, u64 offset, u64 entries,
		      u32 entry_size, u64 max_bytes, const char *name,
		      const char *who, struct qblk_err *err)
{
	u64 bytes, end;

	if (check_mul_overflow(entries, (u64)entry_size, &bytes) ||
	    bytes > max_bytes) {
		qblk_err_set(err, "%s: %s too large: %llu entries of %u bytes",
			     who, name, entries, entry_size);
		return -EFBIG;
	}
	if (offset & ((1ULL << h->cluster_bits) - 1) ||
	    check_add_overflow(offset, bytes, &end) ||
	    end > QCOW2_MAX_HOST_OFFSET) {
		qblk_err_set(err, "%s: %s offset invalid: 0x%llx", who, name,
			     offset);
		return -EINVAL;
	}
	return 0;
}

/**
 * qcow2_check_fields - are fields within their bounds?
 * @c: the fields
 * @nr: how many
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * Return: 0, or the error of the first field that is not.
 */
int qcow2_check_fields(const struct qcow2_field_check *c, size_t nr,
		       const char *who, struct qblk_err *err)
{
	for (; nr; nr--, c++) {
		if (c->value >= c->min && c->value <= c->max)
			continue;
		qblk_err_set(err, "%s: %s %llu is not within %llu and %llu",
			     who, c->name, c->value, c->min, c->max);
		return c->error;
	}
	return 0;
}

static int qcow2_check_compression(const struct qcow2_header *h,
				   const char *who, struct qblk_err *err)
{
	bool bit = h->incompatible_features & QCOW2_INCOMPAT_COMPRESSION;
	bool zlib = h->compression_type == QCOW2_COMPRESSION_ZLIB;

	if (h->compression_type > QCOW2_COMPRESSION_ZSTD) {
		qblk_err_set(err, "%s: unknown compression type: %u", who,
			     h->compression_type);
		return -EOPNOTSUPP;
	}
	if (bit == zlib) {
		qblk_err_set(err,
			     "%s: compression type incompatible feature bit must%s be set, the compression type is %u",
			     who, bit ? " not" : "", h->compression_type);
		return -EINVAL;
	}
	return 0;
}

static int qcow2_check_tables(const struct qcow2_header *h, const char *who,
			      struct qblk_err *err)
{
	u64 needed;
	int ret;

	ret = qcow2_check_table(h, h->refcount_table_offset,
				h->refcount_table_clusters,
				1U << h->cluster_bits,
				QCOW2_MAX_REFTABLE_BYTES,
				"reference count table", who, err);
	if (ret)
		return ret;
	ret = qcow2_check_table(h, h->snapshots_offset, h->nb_snapshots, 40,
				40ULL * QCOW2_MAX_SNAPSHOTS, "snapshot table",
				who, err);
	if (ret)
		return ret;
	ret = qcow2_check_table(h, h->l1_table_offset, h->l1_size, 8,
				QCOW2_MAX_L1_BYTES, "active L1 table", who, err);
	if (ret)
		return ret;
	needed = qcow2_l1_entries(h->size, h->cluster_bits,
				  h->cluster_bits - qcow2_l2e_bits(h));
	if (needed > INT_MAX) {
		qblk_err_set(err, "%s: image is too big: %llu bytes", who,
			     h->size);
		return -EFBIG;
	}
	if (h->l1_size < needed) {
		qblk_err_set(err,
			     "%s: L1 table is too small: %u entries, %llu needed for %llu bytes",
			     who, h->l1_size, needed, h->size);
		return -EINVAL;
	}
	if (h->l1_size && !h->l1_table_offset) {
		qblk_err_set(err, "%s: active L1 table offset invalid: 0x0",
			     who);
		return -EINVAL;
	}
	return 0;
}

/* The fields on which the meaning of the others rests. */
static int qcow2_check_geometry(const struct qcow2_header *h, const char *who,
				struct qblk_err *err)
{
	const struct qcow2_field_check checks[] = {
		{ "cluster_bits", h->cluster_bits,
		  h->incompatible_features & QCOW2_INCOMPAT_EXTL2 ?
		  QCOW2_EXTL2_MIN_CLUSTER_BITS : QCOW2_MIN_CLUSTER_BITS,
		  QCOW2_MAX_CLUSTER_BITS, -EINVAL },
		{ "refcount_order", h->refcount_order, 0,
		  QCOW2_MAX_REFCOUNT_ORDER, -EINVAL },
		{ "header_length", h->header_length,
		  h->version == 2 ? QCOW2_V2_HEADER_LENGTH :
				    QCOW2_V3_MIN_HEADER_LENGTH,
		  U32_MAX, -EINVAL },
		{ "encryption method", h->crypt_method, 0, QCOW2_CRYPT_LUKS,
		  -EINVAL },
		{ "refcount_table_clusters", h->refcount_table_clusters, 1,
		  U32_MAX, -EINVAL },
		{ "nb_snapshots", h->nb_snapshots, 0, QCOW2_MAX_SNAPSHOTS,
		  -EFBIG },
	};

	return qcow2_check_fields(checks, ARRAY_SIZE(checks), who, err);
}

static int qcow2_check_offsets(const struct qcow2_header *h, const char *who,
			       struct qblk_err *err)
{
	u64 cs = 1ULL << h->cluster_bits;
	const struct qcow2_field_check checks[] = {
		{ "header_length", h->header_length, 0, cs, -EINVAL },
		{ "backing_file_offset", h->backing_file_offset, 0, cs,
		  -EINVAL },
		{ "refcount_table_offset", h->refcount_table_offset, cs,
		  QCOW2_MAX_HOST_OFFSET, -EINVAL },
		{ "size", h->size, 0, S64_MAX & ~511ULL, -EFBIG },
	};

	return qcow2_check_fields(checks, ARRAY_SIZE(checks), who, err);
}

/**
 * qcow2_header_check - is a header one QEMU would open?
 * @h: from qcow2_header_parse()
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * The limits are those of QEMU's qcow2_do_open().
 *
 * Return: 0, -EINVAL, -EFBIG, or -EOPNOTSUPP.
 */
int qcow2_header_check(const struct qcow2_header *h, const char *who,
		       struct qblk_err *err)
{
	int ret;

	ret = qcow2_check_geometry(h, who, err);
	if (!ret)
		ret = qcow2_check_offsets(h, who, err);
	if (!ret)
		ret = qcow2_check_compression(h, who, err);
	if (!ret)
		ret = qcow2_check_tables(h, who, err);
	return ret;
}

/**
 * qcow2_header_area - how many bytes hold header, extensions and backing name
 * @h: checked header
 */
size_t qcow2_header_area(const struct qcow2_header *h)
{
	return 1UL << h->cluster_bits;
}

static int qcow2_parse_backing_name(const struct qcow2_header *h,
				    const u8 *buf, size_t len,
				    struct qcow2_exts *x, const char *who,
				    struct qblk_err *err)
{
	u64 cs = 1ULL << h->cluster_bits;

	if (!h->backing_file_offset)
		return 0;
	if (h->backing_file_size > QCOW2_MAX_BACKING_NAME ||
	    h->backing_file_size > cs - h->backing_file_offset ||
	    h->backing_file_offset + h->backing_file_size > len) {
		qblk_err_set(err,
			     "%s: backing file name too long: %u bytes at 0x%llx",
			     who, h->backing_file_size, h->backing_file_offset);
		return -EINVAL;
	}
	memcpy(x->backing_file, buf + h->backing_file_offset,
	       h->backing_file_size);
	if (strlen(x->backing_file) != h->backing_file_size) {
		qblk_err_set(err,
			     "%s: backing file name of %u bytes at 0x%llx contains a NUL byte",
			     who, h->backing_file_size, h->backing_file_offset);
		return -EINVAL;
	}
	return 0;
}

static int qcow2_check_bitmap_fields(const struct qcow2_header *h,
				     const struct qcow2_disk_bitmaps *d,
				     const char *who, struct qblk_err *err)
{
	u64 offset = be64_to_cpu(d->directory_offset);
	const struct qcow2_field_check checks[] = {
		{ "bitmaps extension: reserved field",
		  be32_to_cpu(d->reserved), 0, 0, -EINVAL },
		{ "bitmaps extension: nb_bitmaps",
		  be32_to_cpu(d->nb_bitmaps), 1, QCOW2_MAX_BITMAPS, -EINVAL },
		{ "bitmaps extension: bitmap_directory_size",
		  be64_to_cpu(d->directory_size), 1,
		  QCOW2_MAX_BITMAP_DIR_BYTES, -EINVAL },
	};

	if (offset & ((1ULL << h->cluster_bits) - 1)) {
		qblk_err_set(err,
			     "%s: bitmaps extension: bitmap_directory_offset 0x%llx is not at a cluster",
			     who, offset);
		return -EINVAL;
	}
	return qcow2_check_fields(checks, ARRAY_SIZE(checks), who, err);
}

/* What it says counts only with its autoclear bit; its length always does. */
static int qcow2_parse_bitmaps(const struct qcow2_header *h, const u8 *data,
			       u32 len, struct qcow2_exts *x, const char *who,
			       struct qblk_err *err)
{
	struct qcow2_disk_bitmaps d;

	x->has_bitmaps = true;
	if (len != sizeof(d)) {
		qblk_err_set(err,
			     "%s: bitmaps extension has a length of %u bytes, not of %zu",
			     who, len, sizeof(d));
		return -EINVAL;
	}
	if (!(h->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	memcpy(&d, data, sizeof(d));
	x->nb_bitmaps = be32_to_cpu(d.nb_bitmaps);
	x->bitmaps_bytes = be64_to_cpu(d.directory_size);
	x->bitmaps_offset = be64_to_cpu(d.directory_offset);
	return qcow2_check_bitmap_fields(h, &d, who, err);
}

static int qcow2_parse_ext(const struct qcow2_header *h, u32 magic,
			   const u8 *data, u32 len, struct qcow2_exts *x,
			   const char *who, struct qblk_err *err)
{
	switch (magic) {
	case QCOW2_EXT_BACKING_FORMAT:
		if (len > QCOW2_MAX_FORMAT_NAME) {
			qblk_err_set(err,
				     "%s: backing format name too long: %u bytes",
				     who, len);
			return -EINVAL;
		}
		memcpy(x->backing_format, data, len);
		x->backing_format[len] = '\0';
		break;
	case QCOW2_EXT_BITMAPS:
		return qcow2_parse_bitmaps(h, data, len, x, who, err);
	case QCOW2_EXT_CRYPTO:
		if (h->crypt_method != QCOW2_CRYPT_LUKS) {
			qblk_err_set(err,
				     "%s: crypto header extension with encryption method %u, not %u (LUKS)",
				     who, h->crypt_method, QCOW2_CRYPT_LUKS);
			return -EINVAL;
		}
		break;
	case QCOW2_EXT_DATA_FILE:
		if (len > QCOW2_MAX_DATA_FILE_NAME) {
			qblk_err_set(err,
				     "%s: data file name too long: %u bytes",
				     who, len);
			return -EINVAL;
		}
		/* A NUL byte ends it, as in QEMU. */
		memcpy(x->data_file, data, len);
		x->data_file[len] = '\0';
		break;
	default:
		/* Unknown ones are kept: the header is never rewritten. */
		break;
	}
	return 0;
}

/* The extension area ends where the backing file name starts. */
static size_t qcow2_exts_end(const struct qcow2_header *h, size_t len)
{
	if (h->backing_file_offset)
		return min_t(u64, h->backing_file_offset, len);
	return min_t(u64, 1ULL << h->cluster_bits, len);
}

/**
 * qcow2_exts_parse - read the header extensions and the backing file name
 * @h: checked header
 * @buf: first qcow2_header_area() bytes of the image
 * @len: bytes in @buf; those missing are taken not to exist
 * @x: result
 * @who: node for messages
 * @err: gets the sentence on failure
 *
 * Return: 0 or -EINVAL.
 */
int qcow2_exts_parse(const struct qcow2_header *h, const u8 *buf, size_t len,
		     struct qcow2_exts *x, const char *who,
		     struct qblk_err *err)
{
	size_t all = qcow2_exts_end(h, qcow2_header_area(h));
	size_t end = qcow2_exts_end(h, len);
	size_t pos = h->header_length;
	u32 magic, ext_len;
	int ret;

	memset(x, 0, sizeof(*x));
	while (pos < all) {
		if (all - pos < sizeof(struct qcow2_disk_ext)) {
			qblk_err_set(err,
				     "%s: header extension at %zu too large: %zu bytes are left",
				     who, pos, all - pos);
			return -EINVAL;
		}
		if (pos + sizeof(struct qcow2_disk_ext) > end)
			break;
		magic = get_unaligned_be32(buf + pos);
		ext_len = get_unaligned_be32(buf + pos + 4);
		pos += sizeof(struct qcow2_disk_ext);
		/* QEMU wants room for what the last one says, too. */
		if (ext_len > (magic == QCOW2_EXT_END ? all : end) - pos) {
			qblk_err_set(err,
				     "%s: header extension 0x%08x too large: %u bytes",
				     who, magic, ext_len);
			return -EINVAL;
		}
		if (magic == QCOW2_EXT_END)
			break;
		ret = qcow2_parse_ext(h, magic, buf + pos, ext_len, x, who,
				      err);
		if (ret)
			return ret;
		pos += round_up((size_t)ext_len, 8);
	}
	return qcow2_parse_backing_name(h, buf, len, x, who, err);
}

static void qcow2_feature_append(const u8 *table, u32 len, u64 *unknown,
				 char *out, size_t size)
{
	const struct qcow2_disk_feature *f = (const void *)table;

	for (; len >= sizeof(*f); len -= sizeof(*f), f++) {
		size_t used = strlen(out);

		if (f->type != 0 || f->bit > 63 || !f->name[0] ||
		    !(*unknown & BIT_ULL(f->bit)))
			continue;
		*unknown &= ~BIT_ULL(f->bit);
		snprintf(out + used, size - used, "%s%.46s", used ? ", " : "",
			 f->name);
	}
}

/**
 * qcow2_feature_names - put incompatible features into words
 * @h: header
 * @buf: first bytes of the image
 * @len: how many
 * @unknown: bits to name
 * @out: gets names from the feature name table, and the rest as a number
 * @size: of @out
 */
void qcow2_feature_names(const struct qcow2_header *h, const u8 *buf,
			 size_t len, u64 unknown, char *out, size_t size)
{
	size_t end = qcow2_exts_end(h, len);
	size_t pos = h->header_length;
	size_t used;

	out[0] = '\0';
	while (pos < end && end - pos >= sizeof(struct qcow2_disk_ext)) {
		u32 magic = get_unaligned_be32(buf + pos);
		u32 ext_len = get_unaligned_be32(buf + pos + 4);

		pos += sizeof(struct qcow2_disk_ext);
		if (magic == QCOW2_EXT_END || ext_len > end - pos)
			break;
		if (magic == QCOW2_EXT_FEATURE_TABLE)
			qcow2_feature_append(buf + pos, ext_len, &unknown, out,
					     size);
		pos += round_up((size_t)ext_len, 8);
	}
	used = strlen(out);
	if (unknown)
		snprintf(out + used, size - used,
			 "%sunknown incompatible feature: %llx",
			 used ? ", " : "", unknown);
}
