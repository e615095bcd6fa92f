// SPDX-License-Identifier: GPL-2.0
/*
 * The header and its extensions: what is accepted is within the bounds that
 * the rest of the driver relies on, and what is refused is explained.
 */
#include "fuzz.h"

#include "../../../kmod/format/qcow2/codec.h"

static void expect_text(const char *text, size_t size)
{
	EXPECT(memchr(text, 0, size));
}

static void expect_explained(int ret, const struct qblk_err *err)
{
	expect_text(err->msg, sizeof(err->msg));
	EXPECT(ret <= 0);
	EXPECT(!ret == !err->msg[0]);
}

static void expect_table(const struct qcow2_header *h, u64 offset, u64 bytes)
{
	EXPECT(!(offset & ((1ULL << h->cluster_bits) - 1)));
	EXPECT(offset <= QCOW2_MAX_HOST_OFFSET);
	EXPECT(bytes <= QCOW2_MAX_HOST_OFFSET - offset);
}

static void expect_good_header(const struct qcow2_header *h)
{
	u64 cs;

	EXPECT(h->version == 2 || h->version == 3);
	EXPECT(h->cluster_bits >= QCOW2_MIN_CLUSTER_BITS);
	EXPECT(h->cluster_bits <= QCOW2_MAX_CLUSTER_BITS);
	cs = 1ULL << h->cluster_bits;
	EXPECT(h->refcount_order <= QCOW2_MAX_REFCOUNT_ORDER);
	EXPECT(h->size <= S64_MAX);
	EXPECT(h->l1_size <= QCOW2_MAX_L1_BYTES / 8);
	expect_table(h, h->l1_table_offset, 8ULL * h->l1_size);
	EXPECT(h->refcount_table_clusters >= 1);
	EXPECT(h->refcount_table_clusters * cs <= QCOW2_MAX_REFTABLE_BYTES);
	expect_table(h, h->refcount_table_offset,
		     h->refcount_table_clusters * cs);
	EXPECT(h->refcount_table_offset);
	EXPECT(h->nb_snapshots <= QCOW2_MAX_SNAPSHOTS);
	expect_table(h, h->snapshots_offset, 40ULL * h->nb_snapshots);
	EXPECT(h->header_length <= cs);
	EXPECT(h->backing_file_offset <= cs);
	/* Every guest offset has an L1 entry. */
	EXPECT(!h->size || h->l1_size);
	EXPECT(qcow2_header_area(h) == cs);
}

static void extensions(const struct qcow2_header *h, const u8 *data,
		       size_t size)
{
	struct qblk_err err = {};
	struct qcow2_exts x;
	char names[128];
	int ret;

	ret = qcow2_exts_parse(h, data, size, &x, "fuzz", &err);
	expect_explained(ret, &err);
	if (ret)
		return;
	expect_text(x.backing_file, sizeof(x.backing_file));
	expect_text(x.backing_format, sizeof(x.backing_format));
	EXPECT(h->backing_file_offset || !x.backing_file[0]);
	qcow2_feature_names(h, data, size, h->incompatible_features, names,
			    sizeof(names));
	expect_text(names, sizeof(names));
	EXPECT(!h->incompatible_features || names[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qblk_err err = {};
	struct qcow2_header h;
	int ret;

	ret = qcow2_header_parse(data, size, &h, "fuzz", &err);
	expect_explained(ret, &err);
	if (ret)
		return 0;
	ret = qcow2_header_check(&h, "fuzz", &err);
	expect_explained(ret, &err);
	if (ret)
		return 0;
	expect_good_header(&h);
	/* An area shorter than a cluster is that of a short file. */
	extensions(&h, data, min_t(size_t, size, qcow2_header_area(&h)));
	return 0;
}
