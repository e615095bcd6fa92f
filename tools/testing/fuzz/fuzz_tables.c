// SPDX-License-Identifier: GPL-2.0
/*
 * The snapshot table and the bitmap directory.  The first bytes choose the
 * cluster size and which of both it is, the others are the table.
 */
#include "fuzz.h"

#include "../../../kmod/format/qcow2/codec.h"

static void snapshots(const struct qcow2_header *h, const u8 *data, size_t size)
{
	u32 nr;

	for (nr = 0; size; nr++) {
		struct qcow2_snapshot_entry e;
		struct qblk_err err = {};
		int ret = qcow2_snapshot_parse(data, size, nr, &e, "fuzz", &err);
		size_t step;

		EXPECT((ret < 0) == !!err.msg[0]);
		if (ret < 0)
			return;
		EXPECT(e.extra_size <= QCOW2_MAX_SNAPSHOT_EXTRA);
		EXPECT((u32)ret == qcow2_snapshot_name(&e) + e.name_size);
		EXPECT(!e.has_disk_size || e.extra_size >= 16);
		if (!qcow2_snapshot_l1_check(h, &e, "fuzz", &err)) {
			EXPECT(e.l1_size <= QCOW2_MAX_L1_BYTES / 8);
			EXPECT(!(e.l1_table_offset &
				 ((1ULL << h->cluster_bits) - 1)));
			EXPECT(e.l1_table_offset <= QCOW2_MAX_HOST_OFFSET);
		} else {
			EXPECT(err.msg[0]);
		}
		step = min_t(size_t, size, round_up((size_t)ret, 8));
		data += step;
		size -= step;
	}
}

static void bitmaps(const struct qcow2_header *h, const u8 *data, size_t size)
{
	u32 nr;

	for (nr = 0; size; nr++) {
		struct qcow2_bitmap_entry e;
		struct qblk_err err = {};
		int ret = qcow2_bitmap_parse(h, data, size, nr, &e, "fuzz", &err);

		EXPECT((ret < 0) == !!err.msg[0]);
		if (ret < 0)
			return;
		/* It moves on, within the directory. */
		EXPECT(ret > 0 && (size_t)ret <= size);
		EXPECT(e.name >= data && e.name + e.name_size <= data + ret);
		EXPECT(e.table_size);
		EXPECT(!(e.table_offset & ((1ULL << h->cluster_bits) - 1)));
		if (!(e.flags & QCOW2_BITMAP_IN_USE))
			EXPECT(qcow2_bitmap_entries(h, &e) <= e.table_size);
		qcow2_bitmap_table_valid(h, e.table_offset);
		data += ret;
		size -= ret;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_header h = { .version = 3 };

	if (size < 4)
		return 0;
	h.cluster_bits = QCOW2_MIN_CLUSTER_BITS +
			 data[0] % (QCOW2_MAX_CLUSTER_BITS -
				    QCOW2_MIN_CLUSTER_BITS + 1);
	h.size = (u64)data[2] << (data[3] % 55);
	if (data[1] & 1)
		bitmaps(&h, data + 4, size - 4);
	else
		snapshots(&h, data + 4, size - 4);
	return 0;
}
