// SPDX-License-Identifier: GPL-2.0
/*
 * Internal snapshots: the table of them, and showing one of them instead of
 * the disk as it is now.
 *
 * A node of a writable image leaves its snapshots alone: what they share has a
 * refcount above 1 and no COPIED bit, and is copied before it is changed.  The
 * table is read once; nobody but us may change it while the image is open.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/time.h>

#include "qcow2.h"

/* Snapshots whose names are told: with all, a node is too large for a dump. */
#define QCOW2_SNAPSHOTS_SHOWN	16

/* What of an entry is read before its length is known */
#define QCOW2_SNAPSHOT_HEAD	(sizeof(struct qcow2_disk_snapshot) + \
				 sizeof(struct qcow2_disk_snapshot_extra))

/* And the most there can be */
#define QCOW2_SNAPSHOT_BYTES	(sizeof(struct qcow2_disk_snapshot) + \
				 QCOW2_MAX_SNAPSHOT_EXTRA + 2 * U16_MAX)

static int qcow2_snapshot_read(struct qcow2_state *s, u32 nr, u64 offset,
			       u32 bytes, u8 *buf, struct qblk_err *err)
{
	int ret = qblk_pread(s->file, s->hdr.snapshots_offset + offset, bytes,
			     buf);

	if (ret)
		qblk_err_set(err,
			     "node '%s': cannot read snapshot table entry %u: error %d",
			     s->node->name, nr, ret);
	return ret;
}

/* Id and name, each ended by a NUL, or by one that it has inside */
static int qcow2_snapshot_keep(struct qcow2_snapshot *sn, const u8 *buf)
{
	const struct qcow2_snapshot_entry *e = &sn->entry;

	sn->id = kvmalloc(e->id_size + e->name_size + 2, GFP_KERNEL);
	if (!sn->id)
		return -ENOMEM;
	sn->name = sn->id + e->id_size + 1;
	memcpy(sn->id, buf + qcow2_snapshot_id(e), e->id_size);
	sn->id[e->id_size] = '\0';
	memcpy(sn->name, buf + qcow2_snapshot_name(e), e->name_size);
	sn->name[e->name_size] = '\0';
	return 0;
}

/* The entry at *@offset, which moves to its end */
static int qcow2_read_snapshot(struct qcow2_state *s, u32 nr, u64 *offset,
			       u8 *buf, struct qblk_err *err)
{
	struct qcow2_snapshot *sn = &s->snapshots[nr];
	const char *who = s->node->name;
	int bytes, ret;

	ret = qcow2_snapshot_read(s, nr, *offset, QCOW2_SNAPSHOT_HEAD, buf,
				  err);
	if (ret)
		return ret;
	bytes = qcow2_snapshot_parse(buf, QCOW2_SNAPSHOT_HEAD, nr, &sn->entry,
				     who, err);
	if (bytes < 0)
		return bytes;
	if (*offset + bytes > QCOW2_MAX_SNAPSHOTS_BYTES) {
		qblk_err_set(err,
			     "node '%s': snapshot table is too big: entry %u ends at byte %llu, of at most %u",
			     who, nr, *offset + bytes,
			     QCOW2_MAX_SNAPSHOTS_BYTES);
		return -EFBIG;
	}
	ret = qcow2_snapshot_read(s, nr, *offset, bytes, buf, err);
	if (ret)
		return ret;
	*offset += bytes;
	return qcow2_snapshot_keep(sn, buf);
}

/**
 * qcow2_read_snapshots - read the snapshot table
 * @s: image, its header checked
 * @err: gets the sentence on failure
 *
 * The limits are QEMU's.  Context: process, during open.
 *
 * Return: 0, or a negative errno, after which qcow2_free_snapshots() is still
 * to be called.
 */
int qcow2_read_snapshots(struct qcow2_state *s, struct qblk_err *err)
{
	u32 nr = s->hdr.nb_snapshots;
	u64 offset = 0;
	int ret = 0;
	u8 *buf;

	if (!nr)
		return 0;
	buf = kvmalloc(QCOW2_SNAPSHOT_BYTES, GFP_KERNEL);
	s->snapshots = kvcalloc(nr, sizeof(*s->snapshots), GFP_KERNEL);
	if (!buf || !s->snapshots)
		ret = -ENOMEM;
	while (!ret && s->nr_snapshots < nr) {
		offset = round_up(offset, 8);
		/* Counted first: half of it may have been read. */
		ret = qcow2_read_snapshot(s, s->nr_snapshots++, &offset, buf,
					  err);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	kvfree(buf);
	s->snapshots_bytes = offset;
	return ret;
}

/**
 * qcow2_free_snapshots - undo qcow2_read_snapshots(), as far as it got
 * @s: image
 */
void qcow2_free_snapshots(struct qcow2_state *s)
{
	u32 i;

	for (i = 0; i < s->nr_snapshots; i++)
		kvfree(s->snapshots[i].id);
	kvfree(s->snapshots);
}

static struct qcow2_snapshot *qcow2_find_snapshot(struct qcow2_state *s,
						  const char *id,
						  const char *name)
{
	struct qcow2_snapshot *sn = s->snapshots;
	u32 i;

	for (i = 0; i < s->nr_snapshots; i++, sn++)
		if ((!id || !strcmp(id, sn->id)) &&
		    (!name || !strcmp(name, sn->name)))
			return sn;
	return NULL;
}

/* An id, or else a name, as QEMU tells them apart */
static struct qcow2_snapshot *qcow2_choose_snapshot(struct qcow2_state *s,
						    const struct qcow2_opts *o)
{
	if (!o->load_snapshot)
		return qcow2_find_snapshot(s, o->snapshot_id, o->snapshot_name);
	return qcow2_find_snapshot(s, o->load_snapshot, NULL) ?:
	       qcow2_find_snapshot(s, NULL, o->load_snapshot);
}

static void qcow2_no_snapshot(const struct qcow2_state *s,
			      const struct qcow2_opts *o, struct qblk_err *err)
{
	const char *who = s->node->name;
	u32 nr = s->nr_snapshots;

	if (o->load_snapshot)
		qblk_err_set(err,
			     "node '%s': option 'load-snapshot': none of the image's %u snapshots has the id or name '%s'",
			     who, nr, o->load_snapshot);
	else if (o->snapshot_id && o->snapshot_name)
		qblk_err_set(err,
			     "node '%s': options 'load-snapshot.id' and 'load-snapshot.name': none of the image's %u snapshots has the id '%s' and the name '%s'",
			     who, nr, o->snapshot_id, o->snapshot_name);
	else
		qblk_err_set(err,
			     "node '%s': option 'load-snapshot.%s': none of the image's %u snapshots has the %s '%s'",
			     who, o->snapshot_id ? "id" : "name", nr,
			     o->snapshot_id ? "id" : "name",
			     o->snapshot_id ?: o->snapshot_name);
}

static int qcow2_check_load_options(const struct qcow2_state *s,
				    const struct qcow2_opts *o,
				    struct qblk_err *err)
{
	if (o->load_snapshot && (o->snapshot_id || o->snapshot_name)) {
		qblk_err_set(err,
			     "node '%s': option 'load-snapshot' excludes 'load-snapshot.id' and 'load-snapshot.name'",
			     s->node->name);
		return -EINVAL;
	}
	if (!s->node->read_only) {
		qblk_err_set(err,
			     "node '%s': option 'load-snapshot' needs read-only=on: a snapshot cannot be written to",
			     s->node->name);
		return -EROFS;
	}
	return 0;
}

/*
 * How long the disk was.  An entry without that is from a time when an image
 * with snapshots could not be resized.
 */
static int qcow2_snapshot_size(const struct qcow2_state *s,
			       const struct qcow2_snapshot *sn,
			       const char *who, u64 *size, struct qblk_err *err)
{
	const struct qcow2_snapshot_entry *e = &sn->entry;
	u64 needed;

	*size = round_down(e->has_disk_size ? e->disk_size : s->hdr.size, 512);
	needed = qcow2_l1_entries(*size, s->cluster_bits, s->l2_bits);
	if (*size <= S64_MAX && needed <= e->l1_size)
		return 0;
	qblk_err_set(err,
		     "%s: snapshot L1 table is too small: %u entries, %llu needed for %llu bytes",
		     who, e->l1_size, needed, *size);
	return -EINVAL;
}

/**
 * qcow2_load_snapshot - show a snapshot, if an option says so
 * @s: image, its snapshot table read, its L1 table not
 * @o: options
 * @err: gets the sentence on failure
 *
 * From here on the header in memory has the snapshot's L1 table.  The node is
 * read-only, so this never gets to the disk.
 *
 * Return: 0; -ENOENT when there is no such snapshot; -EROFS for a writable
 * node; -EINVAL or -EFBIG for a snapshot that cannot be right.
 */
int qcow2_load_snapshot(struct qcow2_state *s, const struct qcow2_opts *o,
			struct qblk_err *err)
{
	struct qcow2_snapshot *sn;
	char who[96];
	u64 size;
	int ret;

	if (!o->load_snapshot && !o->snapshot_id && !o->snapshot_name)
		return 0;
	ret = qcow2_check_load_options(s, o, err);
	if (ret)
		return ret;
	sn = qcow2_choose_snapshot(s, o);
	if (!sn) {
		qcow2_no_snapshot(s, o, err);
		return -ENOENT;
	}
	snprintf(who, sizeof(who), "node '%s': snapshot '%.32s'",
		 s->node->name, sn->id);
	ret = qcow2_snapshot_l1_check(&s->hdr, &sn->entry, who, err);
	if (!ret)
		ret = qcow2_snapshot_size(s, sn, who, &size, err);
	if (ret)
		return ret;
	s->hdr.l1_table_offset = sn->entry.l1_table_offset;
	s->hdr.l1_size = sn->entry.l1_size;
	s->node->length = size;
	s->loaded = sn;
	return 0;
}

/* One line: id, name, size and date */
static void qcow2_snapshot_text(const struct qcow2_snapshot *sn, char *buf,
				size_t len)
{
	const struct qcow2_snapshot_entry *e = &sn->entry;
	char size[40] = "";
	struct tm tm;

	time64_to_tm(e->date_sec, 0, &tm);
	if (e->has_disk_size)
		snprintf(size, sizeof(size), ", %llu bytes", e->disk_size);
	snprintf(buf, len,
		 "id %.32s, name %.64s%s, %04ld-%02d-%02d %02d:%02d:%02d UTC",
		 sn->id, sn->name, size, tm.tm_year + 1900, tm.tm_mon + 1,
		 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/**
 * qcow2_snapshots_info - tell about the snapshots
 * @s: image
 * @info: who listens
 */
void qcow2_snapshots_info(const struct qcow2_state *s, struct qblk_info *info)
{
	char key[24], text[224];
	u32 i;

	qblk_info_u64(info, "snapshots", s->nr_snapshots);
	if (s->loaded) {
		qcow2_snapshot_text(s->loaded, text, sizeof(text));
		qblk_info_str(info, "loaded-snapshot", text);
		return;
	}
	for (i = 0; i < min(s->nr_snapshots, QCOW2_SNAPSHOTS_SHOWN); i++) {
		snprintf(key, sizeof(key), "snapshot.%u", i);
		qcow2_snapshot_text(&s->snapshots[i], text, sizeof(text));
		qblk_info_str(info, key, text);
	}
}
