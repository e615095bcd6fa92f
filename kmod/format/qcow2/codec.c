// SPDX-License-Identifier: GPL-2.0
/*
 * Reading and writing the structures of a qcow2 image: pure functions of
 * bytes, without I/O, locks or allocation.
 */
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/overflow.h>
#include <linux/string.h>

#include "qcow2.h"

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
		qblk_err_set(err, "%s: image is not in qcow2 format", who);
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

/* A table has to start at a cluster and end below the largest offset. */
static int qcow2_check_table(const struct qcow2_header *h, u64 offset,
			     u64 entries, u32 entry_size, u64 max_bytes,
			     const char *name, const char *who,
			     struct qblk_err *err)
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

/*
 * One field, one bound, one sentence: the checks QEMU makes at open that do
 * not need other fields than the one they are about.
 */
struct qcow2_field_check {
	const char *name;
	u64 value;
	u64 min;
	u64 max;
	int error;
};

static int qcow2_check_fields(const struct qcow2_field_check *c, size_t nr,
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
			     "%s: compression type incompatible feature bit must%s be set",
			     who, bit ? " not" : "");
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
				  h->cluster_bits - 3);
	if (needed > INT_MAX) {
		qblk_err_set(err, "%s: image is too big: %llu bytes", who,
			     h->size);
		return -EFBIG;
	}
	if (h->l1_size < needed) {
		qblk_err_set(err,
			     "%s: L1 table is too small: %u entries, %llu needed",
			     who, h->l1_size, needed);
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
		{ "cluster_bits", h->cluster_bits, QCOW2_MIN_CLUSTER_BITS,
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
		qblk_err_set(err, "%s: backing file name too long: %u bytes",
			     who, h->backing_file_size);
		return -EINVAL;
	}
	memcpy(x->backing_file, buf + h->backing_file_offset,
	       h->backing_file_size);
	if (strlen(x->backing_file) != h->backing_file_size) {
		qblk_err_set(err, "%s: backing file name contains a NUL byte",
			     who);
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
static int qcow2_check_bitmaps(const struct qcow2_header *h, const u8 *data,
			       u32 len, const char *who, struct qblk_err *err)
{
	struct qcow2_disk_bitmaps d;

	if (len != sizeof(d)) {
		qblk_err_set(err,
			     "%s: bitmaps extension has a length of %u bytes, not of %zu",
			     who, len, sizeof(d));
		return -EINVAL;
	}
	if (!(h->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	memcpy(&d, data, sizeof(d));
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
		x->has_bitmaps = true;
		return qcow2_check_bitmaps(h, data, len, who, err);
	case QCOW2_EXT_CRYPTO:
		if (h->crypt_method != QCOW2_CRYPT_LUKS) {
			qblk_err_set(err,
				     "%s: crypto header extension with encryption method %u, not %u (LUKS)",
				     who, h->crypt_method, QCOW2_CRYPT_LUKS);
			return -EINVAL;
		}
		break;
	case QCOW2_EXT_DATA_FILE:
		x->has_data_file = true;
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
	size_t end = qcow2_exts_end(h, len);
	size_t pos = h->header_length;
	u32 magic, ext_len;
	int ret;

	memset(x, 0, sizeof(*x));
	while (pos < end && end - pos >= sizeof(struct qcow2_disk_ext)) {
		magic = get_unaligned_be32(buf + pos);
		ext_len = get_unaligned_be32(buf + pos + 4);
		if (magic == QCOW2_EXT_END)
			break;
		pos += sizeof(struct qcow2_disk_ext);
		if (ext_len > end - pos) {
			qblk_err_set(err,
				     "%s: header extension 0x%08x too large: %u bytes",
				     who, magic, ext_len);
			return -EINVAL;
		}
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

		if (f->type != 0 || f->bit > 63 ||
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

/**
 * qcow2_cluster_type - what an L2 entry says
 * @entry: in host byte order
 */
enum qcow2_cluster_type qcow2_cluster_type(u64 entry)
{
	if (entry & QCOW2_OFLAG_COMPRESSED)
		return QCOW2_COMPRESSED;
	if (entry & QCOW2_OFLAG_ZERO)
		return entry & QCOW2_L2E_OFFSET_MASK ? QCOW2_ZERO_ALLOC :
						       QCOW2_ZERO_PLAIN;
	if (entry & QCOW2_L2E_OFFSET_MASK)
		return QCOW2_NORMAL;
	return QCOW2_UNALLOCATED;
}

static bool qcow2_continues(u64 first, u64 next, u64 distance, bool in_place)
{
	enum qcow2_cluster_type type = qcow2_cluster_type(first);
	enum qcow2_cluster_type next_type = qcow2_cluster_type(next);

	switch (type) {
	case QCOW2_NORMAL:
		if (next_type != QCOW2_NORMAL)
			return false;
		if (in_place && !(next & QCOW2_OFLAG_COPIED))
			return false;
		return (next & QCOW2_L2E_OFFSET_MASK) ==
		       (first & QCOW2_L2E_OFFSET_MASK) + distance;
	case QCOW2_ZERO_PLAIN:
	case QCOW2_ZERO_ALLOC:
		return next_type == QCOW2_ZERO_PLAIN ||
		       next_type == QCOW2_ZERO_ALLOC;
	case QCOW2_UNALLOCATED:
		return next_type == QCOW2_UNALLOCATED;
	default:
		return false;
	}
}

/**
 * qcow2_count_run - clusters that one mapping answer can cover
 * @first: the first entry, host byte order
 * @l2: the entries in their table, @first among them; another CPU may change
 *	them meanwhile, so @first is not read again
 * @nr: how many, not 0
 * @cluster_bits: log2 of the cluster size
 * @in_place: only clusters that may be overwritten
 *
 * Return: at least 1: the clusters from the first one on that are of the same
 * kind and, with data, adjacent in the file.
 */
unsigned int qcow2_count_run(u64 first, const __be64 *l2, unsigned int nr,
			     u32 cluster_bits, bool in_place)
{
	unsigned int i;

	for (i = 1; i < nr; i++) {
		u64 next = be64_to_cpu(READ_ONCE(l2[i]));

		if (!qcow2_continues(first, next, (u64)i << cluster_bits,
				     in_place))
			break;
	}
	return i;
}

/**
 * qcow2_compressed_extent - where a compressed cluster is
 * @entry: L2 entry
 * @cluster_bits: log2 of the cluster size
 * @offset: host offset, any byte
 * @bytes: upper bound of the length: to the end of its last 512-byte sector
 */
void qcow2_compressed_extent(u64 entry, u32 cluster_bits, u64 *offset,
			     u32 *bytes)
{
	u32 shift = 62 - (cluster_bits - 8);
	u64 sectors = (entry >> shift) & ((1ULL << (cluster_bits - 8)) - 1);

	*offset = entry & ((1ULL << shift) - 1);
	*bytes = (sectors + 1) * QCOW2_COMPRESSED_SECTOR -
		 (*offset & (QCOW2_COMPRESSED_SECTOR - 1));
}

/**
 * qcow2_refcount_max - largest refcount of a width
 * @order: log2 of the bits
 */
u64 qcow2_refcount_max(u32 order)
{
	return order == 6 ? U64_MAX : (1ULL << (1U << order)) - 1;
}

/**
 * qcow2_refcount_get - read an entry of a refcount block
 * @block: the block, or a slice of it
 * @order: log2 of the bits of an entry
 * @index: entry
 */
u64 qcow2_refcount_get(const void *block, u32 order, u32 index)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		u32 bits = 1U << order;
		u32 per_byte = 8U >> order;
		u8 byte = ((const u8 *)block)[index / per_byte];

		return (byte >> (index % per_byte * bits)) & ((1U << bits) - 1);
	}
	case 3:
		return ((const u8 *)block)[index];
	case 4:
		return be16_to_cpu(((const __be16 *)block)[index]);
	case 5:
		return be32_to_cpu(((const __be32 *)block)[index]);
	default:
		return be64_to_cpu(((const __be64 *)block)[index]);
	}
}

/**
 * qcow2_refcount_set - change an entry of a refcount block
 * @block: the block, or a slice of it
 * @order: log2 of the bits of an entry
 * @index: entry
 * @value: at most qcow2_refcount_max()
 */
void qcow2_refcount_set(void *block, u32 order, u32 index, u64 value)
{
	switch (order) {
	case 0:
	case 1:
	case 2: {
		u32 bits = 1U << order;
		u32 per_byte = 8U >> order;
		u8 *byte = (u8 *)block + index / per_byte;
		u32 shift = index % per_byte * bits;
		u8 mask = ((1U << bits) - 1) << shift;

		*byte = (*byte & ~mask) | ((value << shift) & mask);
		break;
	}
	case 3:
		((u8 *)block)[index] = value;
		break;
	case 4:
		((__be16 *)block)[index] = cpu_to_be16(value);
		break;
	case 5:
		((__be32 *)block)[index] = cpu_to_be32(value);
		break;
	default:
		((__be64 *)block)[index] = cpu_to_be64(value);
		break;
	}
}
