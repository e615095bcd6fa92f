// SPDX-License-Identifier: GPL-2.0
/*
 * Persistent bitmaps: the images QEMU would refuse because of them are refused.
 *
 * They are neither used nor kept up to date.  An image that is attached for
 * writing loses the autoclear bit that vouches for them (open.c), and with it
 * QEMU's trust in them; their clusters are referred to by nothing from then on,
 * which is a leak until somebody repairs it.  A read-only attach leaves them as
 * they are.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "qcow2.h"

/*
 * Most bytes of bitmap tables that are looked at.  QEMU has no such limit, but
 * keeps the bitmaps in memory, where these would be hundreds of GiB.
 */
#define QCOW2_MAX_BITMAP_TABLES		(64ULL << 20)

/**
 * struct qcow2_bitmap_dir - the bitmap directory being checked
 * @s: image
 * @data: its bytes
 * @bitmaps: its entries
 * @nr: how many of them
 * @tables: bytes of tables looked at so far
 * @block: a piece of a table
 * @err: gets the sentence on failure
 */
struct qcow2_bitmap_dir {
	struct qcow2_state *s;
	u8 *data;
	struct qcow2_bitmap_entry *bitmaps;
	u32 nr;
	u64 tables;
	__be64 *block;
	struct qblk_err *err;
};

static int qcow2_read_bitmap_dir(struct qcow2_bitmap_dir *d)
{
	struct qcow2_state *s = d->s;
	u64 end = s->exts.bitmaps_offset + s->exts.bitmaps_bytes;
	int ret;

	/* Past the end there are zeroes, which are no entry. */
	if (end < s->exts.bitmaps_offset ||
	    end > round_up(qblk_node_length(s->file->node), s->cluster_size)) {
		qblk_err_set(d->err,
			     "node '%s': bitmaps extension: the directory of %llu bytes at %#llx lies past the end of the image file",
			     s->node->name, s->exts.bitmaps_bytes,
			     s->exts.bitmaps_offset);
		return -EINVAL;
	}
	d->data = kvmalloc(s->exts.bitmaps_bytes, GFP_KERNEL);
	d->bitmaps = kvcalloc(s->exts.nb_bitmaps, sizeof(*d->bitmaps),
			      GFP_KERNEL);
	d->block = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!d->data || !d->bitmaps || !d->block)
		return -ENOMEM;
	ret = qblk_pread(s->file, s->exts.bitmaps_offset, s->exts.bitmaps_bytes,
			 d->data);
	if (ret)
		qblk_err_set(d->err,
			     "node '%s': cannot read the bitmap directory: error %d",
			     s->node->name, ret);
	return ret;
}

static int qcow2_parse_bitmap_dir(struct qcow2_bitmap_dir *d)
{
	struct qcow2_state *s = d->s;
	u32 nr = s->exts.nb_bitmaps;
	u64 left = s->exts.bitmaps_bytes;
	const u8 *pos = d->data;
	int bytes;

	for (; left && d->nr < nr; d->nr++, pos += bytes, left -= bytes) {
		bytes = qcow2_bitmap_parse(&s->hdr, pos, left, d->nr,
					   &d->bitmaps[d->nr], s->node->name,
					   d->err);
		if (bytes < 0)
			return bytes;
	}
	if (!left && d->nr == nr)
		return 0;
	qblk_err_set(d->err,
		     "node '%s': bitmaps extension: nb_bitmaps is %u, but there are %s in the directory",
		     s->node->name, nr, left ? "more" : "fewer");
	return -EINVAL;
}

/* As strings: QEMU ends a name at a NUL inside. */
static int qcow2_bitmap_order(const void *a, const void *b)
{
	const struct qcow2_bitmap_entry *x = a, *y = b;
	int diff = strncmp(x->name, y->name, min(x->name_size, y->name_size));

	if (diff || x->name_size == y->name_size)
		return diff;
	if (strnlen(x->name, x->name_size) == strnlen(y->name, y->name_size))
		return 0;
	return x->name_size < y->name_size ? -1 : 1;
}

static int qcow2_check_bitmap_names(struct qcow2_bitmap_dir *d)
{
	const struct qcow2_bitmap_entry *b = d->bitmaps;
	u32 i;

	sort(d->bitmaps, d->nr, sizeof(*b), qcow2_bitmap_order, NULL);
	for (i = 1; i < d->nr; i++) {
		if (qcow2_bitmap_order(&b[i - 1], &b[i]))
			continue;
		qblk_err_set(d->err,
			     "node '%s': bitmap directory: two bitmaps have the name '%.*s'",
			     d->s->node->name, (int)min_t(u16, b[i].name_size,
							  64), b[i].name);
		return -EINVAL;
	}
	return 0;
}

static int qcow2_check_bitmap_block(struct qcow2_bitmap_dir *d,
				    const struct qcow2_bitmap_entry *b,
				    u64 first, u32 nr)
{
	struct qcow2_state *s = d->s;
	int ret;
	u32 i;

	ret = qblk_pread(s->file, b->table_offset + first * 8, nr * 8,
			 d->block);
	if (ret) {
		qblk_err_set(d->err,
			     "node '%s': cannot read the table of bitmap '%.*s' at bitmap_table_offset %#llx: error %d",
			     s->node->name, min_t(int, b->name_size, 64),
			     b->name, b->table_offset, ret);
		return ret;
	}
	for (i = 0; i < nr; i++) {
		u64 entry = be64_to_cpu(d->block[i]);

		if (qcow2_bitmap_table_valid(&s->hdr, entry))
			continue;
		qblk_err_set(d->err,
			     "node '%s': bitmap '%.*s': entry %llu of its table is invalid: %#llx",
			     s->node->name, min_t(int, b->name_size, 64),
			     b->name, first + i, entry);
		return -EINVAL;
	}
	return 0;
}

static int qcow2_check_bitmap_size(struct qcow2_bitmap_dir *d,
				   const struct qcow2_bitmap_entry *b)
{
	u64 entries = qcow2_bitmap_entries(&d->s->hdr, b);

	if (b->table_size != entries) {
		qblk_err_set(d->err,
			     "node '%s': bitmap '%.*s': bitmap_table_size is %u, %llu needed",
			     d->s->node->name, min_t(int, b->name_size, 64),
			     b->name, b->table_size, entries);
		return -EINVAL;
	}
	d->tables += entries * 8;
	if (d->tables > QCOW2_MAX_BITMAP_TABLES) {
		qblk_err_set(d->err,
			     "node '%s': the tables of the image's %u bitmaps have more than %llu bytes",
			     d->s->node->name, d->nr, QCOW2_MAX_BITMAP_TABLES);
		return -EFBIG;
	}
	return 0;
}

static int qcow2_check_bitmap_table(struct qcow2_bitmap_dir *d,
				    const struct qcow2_bitmap_entry *b)
{
	const u32 most = PAGE_SIZE / 8;
	u32 first, nr;
	int ret;

	/* Nobody relies on what is in one that was not closed. */
	if (b->flags & QCOW2_BITMAP_IN_USE)
		return 0;
	ret = qcow2_check_bitmap_size(d, b);
	for (first = 0; !ret && first < b->table_size; first += nr) {
		nr = min(b->table_size - first, most);
		ret = qcow2_check_bitmap_block(d, b, first, nr);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	return ret;
}

/**
 * qcow2_check_bitmaps - is the bitmap directory one QEMU would accept?
 * @s: image, its header and extensions read
 * @err: gets the sentence on failure
 *
 * Only with the autoclear bit: without it, nobody looks at them.
 * Context: process, during open.
 *
 * Return: 0, -EINVAL, -EFBIG, -ENOMEM or an error of the child.
 */
int qcow2_check_bitmaps(struct qcow2_state *s, struct qblk_err *err)
{
	struct qcow2_bitmap_dir d = { .s = s, .err = err };
	int ret;
	u32 i;

	if (!s->exts.nb_bitmaps)
		return 0;
	ret = qcow2_read_bitmap_dir(&d);
	if (!ret)
		ret = qcow2_parse_bitmap_dir(&d);
	if (!ret)
		ret = qcow2_check_bitmap_names(&d);
	for (i = 0; !ret && i < d.nr; i++)
		ret = qcow2_check_bitmap_table(&d, &d.bitmaps[i]);
	kvfree(d.data);
	kvfree(d.bitmaps);
	kfree(d.block);
	return ret;
}
