// SPDX-License-Identifier: GPL-2.0
/*
 * References from L1, L2 and bitmap tables.
 *
 * Snapshots share L2 tables.  L1 tables are looked at first, and note how many
 * of their entries point to each L2 table.  Then each L2 table is read once,
 * in the order of the file, and what it refers to is counted that many times.
 */
#include <linux/kernel.h>
#include <linux/mm.h>

#include "check.h"

static int qcow2_check_l1_entry(struct qcow2_check *c, u64 entry, bool active)
{
	u64 offset = entry & QCOW2_L1E_OFFSET_MASK;
	struct qcow2_state *s = c->s;
	u64 cluster = offset >> s->cluster_bits;
	int ret;

	if (entry & QCOW2_L1E_RESERVED_MASK)
		c->res.broken++;
	if (!offset)
		return 0;
	if (qcow2_offset_in_cluster(s, offset) ||
	    !qcow2_check_inside(c, offset, s->cluster_size)) {
		c->res.broken++;
		return 0;
	}
	ret = qcow2_check_ref(c, offset, s->cluster_size, 1);
	if (!ret)
		ret = qcow2_counts_add(&c->tables, cluster, 1);
	if (!ret && active && !qcow2_counts_get(&c->active, cluster))
		ret = qcow2_counts_add(&c->active, cluster, 1);
	return ret;
}

/**
 * qcow2_check_l1 - count an L1 table and the L2 tables it refers to
 * @c: check
 * @offset: host offset
 * @size: entries
 * @active: it is the disk's, not a snapshot's
 *
 * Return: 0 or a negative errno.
 */
int qcow2_check_l1(struct qcow2_check *c, u64 offset, u32 size, bool active)
{
	const u32 most = QCOW2_CHECK_BUF / 8;
	const __be64 *buf = c->buf;
	u32 first, nr, i;
	int ret;

	ret = qcow2_check_ref(c, offset, size * 8ULL, 1);
	if (!qcow2_check_inside(c, offset, size * 8ULL))
		return ret;
	for (first = 0; !ret && first < size; first += nr) {
		nr = min(size - first, most);
		ret = qcow2_check_read(c, offset + first * 8ULL, nr * 8,
				       c->buf);
		for (i = 0; !ret && i < nr; i++)
			ret = qcow2_check_l1_entry(c, be64_to_cpu(buf[i]),
						   active);
	}
	return ret;
}

static int qcow2_check_compressed(struct qcow2_check *c,
				  const struct qcow2_l2e *e, u64 nr)
{
	u64 offset;
	u32 bytes;

	/* There may be something there all the same. */
	if (qcow2_has_data_file(c->s) || e->entry & QCOW2_OFLAG_COPIED ||
	    e->alloc || e->zero)
		c->res.broken++;
	qcow2_compressed_extent(e->entry, c->s->cluster_bits, &offset, &bytes);
	return qcow2_check_ref(c, offset, bytes, nr);
}

static int qcow2_check_l2_entry(struct qcow2_check *c,
				const struct qcow2_l2e *e, u64 nr)
{
	struct qcow2_state *s = c->s;
	u64 offset = e->entry & QCOW2_L2E_OFFSET_MASK;

	if (e->entry & QCOW2_OFLAG_COMPRESSED)
		return qcow2_check_compressed(c, e, nr);
	/* Where it belongs in a data file is not known here. */
	if (e->entry & QCOW2_L2E_RESERVED_MASK ||
	    qcow2_l2e_error(s->hdr.version, s->hdr.incompatible_features,
			    s->cluster_bits, offset, e) != QCOW2_L2E_GOOD)
		c->res.broken++;
	if (qcow2_has_data_file(s) || !offset ||
	    qcow2_offset_in_cluster(s, offset))
		return 0;
	return qcow2_check_ref(c, offset, s->cluster_size, nr);
}

static int qcow2_check_l2_table(struct qcow2_check *c, u64 table, u64 nr)
{
	struct qcow2_state *s = c->s;
	u32 step = min(s->cluster_size, QCOW2_CHECK_BUF);
	u32 words = 1U << (s->l2e_bits - 3);
	const __be64 *buf = c->buf;
	struct qcow2_l2e e;
	int ret = 0;
	u32 pos, i;

	for (pos = 0; !ret && pos < s->cluster_size; pos += step) {
		ret = qcow2_check_read(c, table + pos, step, c->buf);
		for (i = 0; !ret && i < step / 8; i += words) {
			e = qcow2_l2e_decode(s->hdr.incompatible_features,
					     be64_to_cpu(buf[i]),
					     be64_to_cpu(buf[i + words - 1]));
			ret = qcow2_check_l2_entry(c, &e, nr);
		}
	}
	return ret;
}

/**
 * qcow2_check_l2_tables - count what L2 tables refer to
 * @c: check, all L1 tables looked at
 *
 * Return: 0 or a negative errno.
 */
int qcow2_check_l2_tables(struct qcow2_check *c)
{
	u64 cluster;
	int ret = 0;

	for (cluster = 0; !ret && qcow2_counts_next(&c->tables, &cluster);
	     cluster++)
		ret = qcow2_check_l2_table(c, cluster << c->s->cluster_bits,
					   qcow2_counts_get(&c->tables,
							    cluster));
	return ret;
}

static int qcow2_check_bitmap(struct qcow2_check *c,
			      const struct qcow2_bitmap_entry *b)
{
	const u32 most = QCOW2_CHECK_BUF / 8;
	const __be64 *buf = c->buf;
	u32 first, nr, i;
	u64 entry;
	int ret;

	ret = qcow2_check_ref(c, b->table_offset, b->table_size * 8ULL, 1);
	if (!qcow2_check_inside(c, b->table_offset, b->table_size * 8ULL))
		return ret;
	for (first = 0; !ret && first < b->table_size; first += nr) {
		nr = min(b->table_size - first, most);
		ret = qcow2_check_read(c, b->table_offset + first * 8ULL,
				       nr * 8, c->buf);
		for (i = 0; !ret && i < nr; i++) {
			entry = be64_to_cpu(buf[i]);
			if (!qcow2_bitmap_table_valid(&c->s->hdr, entry))
				c->res.broken++;
			else if (entry & QCOW2_BITMAP_OFFSET_MASK)
				ret = qcow2_check_ref(c, entry,
						      c->s->cluster_size, 1);
		}
	}
	return ret;
}

/**
 * qcow2_check_bitmap_refs - count the bitmap directory and its bitmaps
 * @c: check
 *
 * Return: 0 or a negative errno.
 */
int qcow2_check_bitmap_refs(struct qcow2_check *c)
{
	const struct qcow2_exts *x = &c->s->exts;
	struct qcow2_bitmap_entry b;
	u64 left = x->bitmaps_bytes;
	int bytes = 0;
	int ret;
	u8 *dir;
	u32 i;

	ret = qcow2_check_ref(c, x->bitmaps_offset, left, 1);
	if (ret || !qcow2_check_inside(c, x->bitmaps_offset, left))
		return ret;
	dir = kvmalloc(left, GFP_KERNEL);
	if (!dir)
		return -ENOMEM;
	ret = qcow2_check_read(c, x->bitmaps_offset, left, dir);
	for (i = 0; !ret && i < x->nb_bitmaps; i++, left -= bytes) {
		bytes = qcow2_bitmap_parse(&c->s->hdr,
					   dir + x->bitmaps_bytes - left, left,
					   i, &b, c->s->node->name, NULL);
		if (bytes < 0) {
			/* Where the next one starts, nobody knows. */
			c->res.broken++;
			break;
		}
		ret = qcow2_check_bitmap(c, &b);
	}
	kvfree(dir);
	return ret;
}
