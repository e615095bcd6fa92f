// SPDX-License-Identifier: GPL-2.0
/*
 * COPIED flags of the disk's tables: set if and only if the cluster has one
 * reference, so that a write need not look it up.  Those of snapshots' own
 * tables mean nothing.
 *
 * A flag is only changed in a cluster that is nothing but this table.
 */
#include <linux/kernel.h>

#include "check.h"

static bool qcow2_flag_wrong(struct qcow2_check *c, u64 entry, u64 offset)
{
	u64 refs = qcow2_counts_get(&c->refs, offset >> c->s->cluster_bits);

	return (refs == 1) != !!(entry & QCOW2_OFLAG_COPIED);
}

static bool qcow2_l1_flag_wrong(struct qcow2_check *c, u64 entry)
{
	u64 offset = entry & QCOW2_L1E_OFFSET_MASK;

	/* Broken ones are left alone. */
	return offset && !qcow2_offset_in_cluster(c->s, offset) &&
	       qcow2_check_inside(c, offset, c->s->cluster_size) &&
	       qcow2_flag_wrong(c, entry, offset);
}

static bool qcow2_l2_flag_wrong(struct qcow2_check *c, u64 entry)
{
	u64 offset = entry & QCOW2_L2E_OFFSET_MASK;

	if (entry & QCOW2_OFLAG_COMPRESSED)
		return false;
	/* The clusters of a data file belong to this disk alone. */
	if (qcow2_has_data_file(c->s))
		return offset && !(entry & QCOW2_OFLAG_COPIED);
	return offset && !qcow2_offset_in_cluster(c->s, offset) &&
	       qcow2_check_inside(c, offset, c->s->cluster_size) &&
	       qcow2_flag_wrong(c, entry, offset);
}

static void qcow2_note_shared(struct qcow2_check *c, u64 offset)
{
	c->res.shared++;
	c->res.share = offset;
}

/* @index is the first entry of a sector of the table. */
static int qcow2_fix_l1_sector(struct qcow2_check *c, u32 index, bool fix)
{
	struct qcow2_state *s = c->s;
	u32 end = min(index + 64, s->hdr.l1_size);
	u32 wrong = 0;
	u32 i;

	for (i = index; i < end; i++) {
		if (!qcow2_l1_flag_wrong(c, s->l1[i]))
			continue;
		wrong++;
		if (fix)
			s->l1[i] ^= QCOW2_OFLAG_COPIED;
	}
	c->res.copied += wrong;
	if (!wrong || !fix)
		return 0;
	return qcow2_write_be64_block(s, s->l1, s->hdr.l1_size,
				      s->hdr.l1_table_offset, index,
				      s->l1[index]);
}

static bool qcow2_l1_alone(struct qcow2_check *c)
{
	const struct qcow2_header *h = &c->s->hdr;
	u64 first = h->l1_table_offset >> h->cluster_bits;
	u64 last = (h->l1_table_offset + h->l1_size * 8ULL - 1) >>
		   h->cluster_bits;

	for (; first <= last; first++)
		if (qcow2_counts_get(&c->refs, first) != 1)
			return false;
	return true;
}

static int qcow2_fix_l1(struct qcow2_check *c, bool fix)
{
	u64 before = c->res.copied;
	int ret = 0;
	u32 i;

	for (i = 0; !ret && i < c->s->hdr.l1_size; i += 64) {
		ret = qcow2_fix_l1_sector(c, i, fix);
		if (!ret)
			ret = qcow2_check_pause();
	}
	if (c->res.copied != before && !qcow2_l1_alone(c))
		qcow2_note_shared(c, c->s->hdr.l1_table_offset);
	return ret;
}

static int qcow2_fix_l2_piece(struct qcow2_check *c, u64 offset, u32 bytes,
			      bool fix)
{
	u32 words = 1U << (c->s->l2e_bits - 3);
	__be64 *buf = c->buf;
	u32 wrong = 0;
	int ret;
	u32 i;

	ret = qcow2_check_read(c, offset, bytes, buf);
	for (i = 0; !ret && i < bytes / 8; i += words) {
		if (!qcow2_l2_flag_wrong(c, be64_to_cpu(buf[i])))
			continue;
		wrong++;
		buf[i] ^= cpu_to_be64(QCOW2_OFLAG_COPIED);
	}
	c->res.copied += wrong;
	if (ret || !wrong || !fix)
		return ret;
	return qblk_pwrite(c->s->file, offset, bytes, buf, 0);
}

static int qcow2_fix_l2(struct qcow2_check *c, u64 cluster, bool fix)
{
	u32 step = min(c->s->cluster_size, QCOW2_CHECK_BUF);
	u64 offset = cluster << c->s->cluster_bits;
	u64 before = c->res.copied;
	int ret = 0;
	u32 pos;

	for (pos = 0; !ret && pos < c->s->cluster_size; pos += step)
		ret = qcow2_fix_l2_piece(c, offset + pos, step, fix);
	if (c->res.copied != before &&
	    qcow2_counts_get(&c->refs, cluster) !=
	    qcow2_counts_get(&c->tables, cluster))
		qcow2_note_shared(c, offset);
	return ret;
}

/**
 * qcow2_check_copied - look for COPIED flags that contradict the references
 * @c: check, references counted
 * @fix: correct them, also in memory; a look without this has found no table
 *	whose cluster is something else as well.  No flush
 *
 * Context: lock held if @fix.  Return: 0 or a negative errno.
 */
int qcow2_check_copied(struct qcow2_check *c, bool fix)
{
	u64 cluster;
	int ret;

	ret = qcow2_fix_l1(c, fix);
	for (cluster = 0; !ret && qcow2_counts_next(&c->active, &cluster);
	     cluster++)
		ret = qcow2_fix_l2(c, cluster, fix);
	return ret;
}
