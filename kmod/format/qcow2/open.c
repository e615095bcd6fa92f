// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2: opening, closing, and what it tells about itself.
 *
 * The kernel reads all of the header and changes single fields of it in place,
 * so unknown fields and extensions stay as they are.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "qcow2.h"

/* Of tables written or copied at once */
#define QCOW2_BUF_BYTES			((u32)SZ_16K)

/* Records of freed clusters there always are; one is enough for progress. */
#define QCOW2_FREE_RESERVE		16

/* Dirty L2 tables that may wait for a flush, if that is of use */
#define QCOW2_MAX_DIRTY_L2		((u32)SZ_4M)

static int qcow2_check_crypt(const struct qcow2_state *s, struct qblk_err *err)
{
	if (s->hdr.crypt_method == QCOW2_CRYPT_NONE)
		return 0;
	qblk_err_set(err, "node '%s': the image uses %s encryption, which is not supported",
		     s->node->name,
		     s->hdr.crypt_method == QCOW2_CRYPT_AES ? "AES" : "LUKS");
	return -EOPNOTSUPP;
}

static int qcow2_check_data_file(const struct qcow2_state *s,
				 struct qblk_err *err)
{
	const char *name = s->exts.data_file;
	bool given = s->node->data_file;

	if (qcow2_has_data_file(s) == given)
		return 0;
	if (given)
		qblk_err_set(err,
			     "node '%s': 'data-file' can only be set for images with an external data file",
			     s->node->name);
	else if (*name)
		qblk_err_set(err,
			     "node '%s': 'data-file' is required for this image, whose header names '%.255s'",
			     s->node->name, name);
	else
		qblk_err_set(err,
			     "node '%s': 'data-file' is required for this image",
			     s->node->name);
	return -EINVAL;
}

/*
 * Without its backing file an image reads as zeroes where it has no data, and a
 * write copies these zeroes up: whoever wants that says so.
 */
static int qcow2_check_backing(const struct qcow2_state *s,
			       struct qblk_err *err)
{
	const char *name = s->exts.backing_file;

	if (!*name || s->node->backing || s->node->no_backing)
		return 0;
	qblk_err_set(err,
		     "node '%s': 'backing' is missing, the header names '%.255s'; it has to be left out explicitly",
		     s->node->name, name);
	return -EINVAL;
}

/* What the incompatible and autoclear bits mean for this attach */
static int qcow2_check_features(struct qcow2_state *s, const u8 *area,
				size_t len, struct qblk_err *err)
{
	u64 unknown = s->hdr.incompatible_features & ~QCOW2_INCOMPAT_MASK;
	bool writable = !s->node->read_only;
	char names[256];

	if (unknown) {
		qcow2_feature_names(&s->hdr, area, len, unknown, names,
				    sizeof(names));
		qblk_err_set(err, "node '%s': unsupported qcow2 feature(s): %s",
			     s->node->name, names);
		return -EOPNOTSUPP;
	}
	if (writable && s->hdr.incompatible_features & QCOW2_INCOMPAT_CORRUPT) {
		qblk_err_set(err,
			     "node '%s': image is corrupt; cannot be opened read/write (repair it with qemu-img check -r all, or attach it read-only)",
			     s->node->name);
		return -EACCES;
	}
	if (s->hdr.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW &&
	    !(s->hdr.incompatible_features & QCOW2_INCOMPAT_DATA_FILE)) {
		qblk_err_set(err, "node '%s': data-file-raw requires a data file",
			     s->node->name);
		return -EINVAL;
	}
	return qcow2_check_crypt(s, err);
}

static void qcow2_set_geometry(struct qcow2_state *s)
{
	s->cluster_bits = s->hdr.cluster_bits;
	s->cluster_size = 1U << s->cluster_bits;
	s->l2e_bits = qcow2_l2e_bits(&s->hdr);
	s->l2_bits = s->cluster_bits - s->l2e_bits;
	s->virt_bits = s->cluster_bits - ilog2(QCOW2_SUBCLUSTERS);
	s->sc_bits = qcow2_has_subclusters(s) ? s->virt_bits : s->cluster_bits;
	s->refcount_order = s->hdr.refcount_order;
	s->refblock_bits = s->cluster_bits + 3 - s->refcount_order;
	s->ref_slice_bits = min_t(u32, s->cluster_bits, QCOW2_CHUNK_BITS);
	s->reftable_offset = s->hdr.refcount_table_offset;
	s->reftable_size = s->hdr.refcount_table_clusters <<
			   (s->cluster_bits - 3);
	/* QEMU counts the disk in sectors and forgets the rest. */
	s->node->length = round_down(s->hdr.size, 512);
}

static int qcow2_read_header(struct qcow2_state *s, struct qblk_err *err)
{
	const char *who = s->node->name;
	u8 buf[sizeof(struct qcow2_disk_header)];
	size_t len;
	u8 *area;
	int ret;

	ret = qblk_pread(s->file, 0, sizeof(buf), buf);
	if (ret) {
		qblk_err_set(err, "node '%s': cannot read the header: error %d",
			     who, ret);
		return ret;
	}
	ret = qcow2_header_parse(buf, sizeof(buf), &s->hdr, who, err);
	if (!ret)
		ret = qcow2_header_check(&s->hdr, who, err);
	if (ret)
		return ret;

	len = qcow2_header_area(&s->hdr);
	area = kvmalloc(len, GFP_KERNEL);
	if (!area)
		return -ENOMEM;
	ret = qblk_pread(s->file, 0, len, area);
	if (ret)
		qblk_err_set(err, "node '%s': cannot read the header: error %d",
			     who, ret);
	else
		ret = qcow2_exts_parse(&s->hdr, area, len, &s->exts, who, err);
	if (!ret)
		ret = qcow2_check_features(s, area, len, err);
	if (!ret)
		ret = qcow2_check_data_file(s, err);
	if (!ret)
		ret = qcow2_check_backing(s, err);
	kvfree(area);
	return ret;
}

/* Read a table of big-endian numbers and turn it round in place. */
static u64 *qcow2_read_table(struct qcow2_state *s, u64 offset, u32 entries,
			     const char *name, struct qblk_err *err)
{
	u64 bytes = entries * 8ULL;
	u64 *table;
	u32 i;
	int ret;

	if (bytes && offset >= qblk_node_length(s->file->node)) {
		qblk_err_set(err,
			     "node '%s': the %s at %#llx lies past the end of the image file",
			     s->node->name, name, offset);
		return ERR_PTR(-EINVAL);
	}
	table = kvzalloc(max(bytes, 8ULL), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = bytes ? qblk_pread(s->file, offset, bytes, table) : 0;
	if (ret) {
		qblk_err_set(err, "node '%s': cannot read the %s: error %d",
			     s->node->name, name, ret);
		kvfree(table);
		return ERR_PTR(ret);
	}
	for (i = 0; i < entries; i++)
		table[i] = be64_to_cpu((__force __be64)table[i]);
	return table;
}

static int qcow2_read_tables(struct qcow2_state *s, struct qblk_err *err)
{
	u64 *table;

	table = qcow2_read_table(s, s->hdr.l1_table_offset, s->hdr.l1_size,
				 "L1 table", err);
	if (IS_ERR(table))
		return PTR_ERR(table);
	s->l1 = table;
	if (s->node->read_only)
		return 0;
	table = qcow2_read_table(s, s->reftable_offset, s->reftable_size,
				 "refcount table", err);
	if (IS_ERR(table))
		return PTR_ERR(table);
	s->reftable = table;
	return qcow2_filters_init(s) ?: qcow2_inactive_init(s, err);
}

/**
 * qcow2_autoclear - declare stale what is not kept up to date
 * @s: image, its bitmaps checked
 * @err: gets the sentence on failure
 *
 * Autoclear bits stand for structures that whoever does not maintain them has
 * to declare stale: dirty bitmaps no longer describe a disk we write to.  A raw
 * data file does stay what it is.
 *
 * Return: 0, and it is stable; or an error of the child.
 */
int qcow2_autoclear(struct qcow2_state *s, struct qblk_err *err)
{
	u64 kept = s->hdr.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
	__be64 field = cpu_to_be64(kept);
	int ret;

	if (s->node->read_only || s->hdr.autoclear_features == kept)
		return 0;
	ret = qcow2_header_write(s, offsetof(struct qcow2_disk_header,
					     autoclear_features),
				 &field, sizeof(field));
	if (!ret)
		ret = qblk_flush(s->file);
	if (ret) {
		qblk_err_set(err,
			     "node '%s': cannot clear the autoclear feature bits: error %d",
			     s->node->name, ret);
		return ret;
	}
	if (s->exts.nb_bitmaps)
		qblk_err_warn(err,
			      "node '%s': the image's %u persistent bitmaps are not kept up to date: they are inconsistent from now on, and qemu-img check -r leaks frees what they use",
			      s->node->name, s->exts.nb_bitmaps);
	s->hdr.autoclear_features = kept;
	return 0;
}

/*
 * Lock classes of its own for each image: the file of an image may be in
 * another image, whose locks are then taken inside of its locks.  The graph has
 * no cycles, so nor has the order.
 */
static void qcow2_init_locks(struct qcow2_state *s)
{
	lockdep_register_key(&s->lock_key);
	lockdep_register_key(&s->free_key);
	lockdep_register_key(&s->zread_key);
	mutex_init(&s->wb_mutex);
	lockdep_set_class_and_subclass(&s->wb_mutex, &s->lock_key, 0);
	mutex_init(&s->lock);
	lockdep_set_class_and_subclass(&s->lock, &s->lock_key, 1);
	mutex_init(&s->header_lock);
	lockdep_set_class_and_subclass(&s->header_lock, &s->lock_key, 2);
	INIT_WORK(&s->free_work, qcow2_free_work_fn);
	lockdep_init_map(&s->free_work.lockdep_map, "qcow2_free_work",
			 &s->free_key, 0);
	INIT_DELAYED_WORK(&s->wb_work, qcow2_wb_work_fn);
	INIT_DELAYED_WORK(&s->clean_work, qcow2_clean_work_fn);
}

static void qcow2_exit_locks(struct qcow2_state *s)
{
	lockdep_unregister_key(&s->zread_key);
	lockdep_unregister_key(&s->free_key);
	lockdep_unregister_key(&s->lock_key);
}

static void qcow2_init_state(struct qcow2_state *s, struct qblk_node *node)
{
	s->node = node;
	s->file = node->file;
	s->data = node->data_file ?: node->file;
	qcow2_init_locks(s);
	INIT_LIST_HEAD(&s->allocs);
	init_waitqueue_head(&s->alloc_wait);
	INIT_LIST_HEAD(&s->frees_new);
	INIT_LIST_HEAD(&s->frees_stable);
	s->max_frees = QCOW2_MAX_FREES;
}

/*
 * What a write needs so that it makes progress when there is no memory: the
 * kernel may be waiting for it to get some.
 */
static int qcow2_init_reserves(struct qcow2_state *s)
{
	u32 align = s->file->node->limits.request_alignment;

	if (s->node->read_only)
		return 0;
	s->buf_bytes = min(max(QCOW2_BUF_BYTES, align), s->cluster_size);
	s->wq = alloc_workqueue("qblk/%.16s", WQ_MEM_RECLAIM | WQ_UNBOUND, 0,
				s->node->name);
	s->buf = kmalloc(s->buf_bytes, GFP_KERNEL);
	s->free_pool = mempool_create_kmalloc_pool(QCOW2_FREE_RESERVE,
						   sizeof(struct qcow2_free));
	s->cow_pool = mempool_create_kmalloc_pool(1, qcow2_cow_bytes(s));
	return s->wq && s->buf && s->free_pool && s->cow_pool ? 0 : -ENOMEM;
}

/*
 * Where all L2 tables have room, none is evicted for another, and to write some
 * of them early has no use: each of these writes wants a flush before it.  What
 * is dirty can only be given back to the system by writing it, though.
 */
static void qcow2_init_max_dirty(struct qcow2_state *s)
{
	struct qcow2_cache *c = &s->l2_cache;

	if (s->l2_cache_size < qcow2_all_l2_bytes(s))
		return;
	c->max_dirty = clamp_t(u32, QCOW2_MAX_DIRTY_L2 >> c->slice_bits,
			       c->max / 2, c->max);
}

/* What does not come from the image, once the header is known */
static int qcow2_init_resources(struct qcow2_state *s)
{
	int l2, ref;

	/* All three: qcow2_free_state() undoes them, whether they failed or not. */
	qcow2_zcache_init(&s->zcache, s->cluster_bits);
	l2 = qcow2_cache_init(&s->l2_cache, s->file, s->l2_slice_bits,
			      s->l2_cache_size);
	ref = qcow2_cache_init(&s->ref_cache, s->file, s->ref_slice_bits,
			       s->ref_cache_size);
	qcow2_init_max_dirty(s);
	return l2 ?: ref ?: qcow2_zpool_reserve(s->cluster_size) ?:
	       qcow2_inbuf_init(s) ?: qcow2_init_reserves(s);
}

/* Everything but what is on disk; also when only some of it was set up */
static void qcow2_free_state(struct qcow2_state *s)
{
	if (s->wq)
		destroy_workqueue(s->wq);
	qcow2_cache_exit(&s->l2_cache);
	qcow2_cache_exit(&s->ref_cache);
	qcow2_zcache_exit(&s->zcache);
	qcow2_inbuf_exit(s);
	mempool_destroy(s->free_pool);
	mempool_destroy(s->cow_pool);
	kfree(s->buf);
	qcow2_filters_exit(s);
	qcow2_inactive_exit(s);
	qcow2_free_snapshots(s);
	kvfree(s->l1);
	kvfree(s->reftable);
}

static int qcow2_open(struct qblk_node *node, const void *optp,
		      struct qblk_err *err)
{
	const struct qcow2_opts *opts = optp;
	struct qcow2_state *s = node->priv;
	int ret;

	qcow2_init_state(s, node);
	ret = qcow2_read_header(s, err);
	if (ret)
		goto err_locks;
	qcow2_set_geometry(s);
	ret = qcow2_opts_apply(s, opts, err);
	if (ret)
		goto err_locks;
	ret = qcow2_init_resources(s);
	if (!ret)
		ret = qcow2_read_snapshots(s, err);
	if (!ret)
		ret = qcow2_load_snapshot(s, opts, err);
	if (!ret)
		ret = qcow2_read_tables(s, err);
	if (!ret)
		ret = qcow2_check_bitmaps(s, err);
	if (!ret)
		ret = qcow2_open_dirty(s, err);
	if (!ret)
		ret = qcow2_autoclear(s, err);
	if (ret)
		goto err_state;
	qcow2_reclaim_start(s);
	return 0;

err_state:
	qcow2_free_state(s);
err_locks:
	qcow2_exit_locks(s);
	return ret;
}

static void qcow2_close(struct qblk_node *node)
{
	struct qcow2_state *s = node->priv;

	qcow2_reclaim_stop(s);
	cancel_delayed_work_sync(&s->wb_work);
	cancel_work_sync(&s->free_work);
	/* After a failed inactivate: what is left leaks on disk. */
	qcow2_free_records(s, &s->frees_new);
	qcow2_free_records(s, &s->frees_stable);
	qcow2_free_state(s);
	qcow2_exit_locks(s);
}

static void qcow2_probe_found(const struct qcow2_header *h,
			      const struct qcow2_exts *x, struct qblk_probe *p)
{
	p->virtual_size = round_down(h->size, 512);
	strscpy(p->backing_file, x->backing_file, sizeof(p->backing_file));
	strscpy(p->backing_format, x->backing_format,
		sizeof(p->backing_format));
	/* Without the feature bit, the extension means nothing. */
	if (h->incompatible_features & QCOW2_INCOMPAT_DATA_FILE)
		strscpy(p->data_file, x->data_file, sizeof(p->data_file));
}

static int qcow2_probe(const u8 *buf, size_t len, struct qblk_probe *p,
		       struct qblk_err *err)
{
	struct qcow2_header h;
	struct qcow2_exts *x;
	size_t area;
	int ret;

	if (len < sizeof(u32) ||
	    get_unaligned_be32(buf) != QCOW2_MAGIC)
		return 0;
	ret = qcow2_header_parse(buf, len, &h, "probe", err);
	if (!ret)
		ret = qcow2_header_check(&h, "probe", err);
	if (ret)
		return ret;
	area = qcow2_header_area(&h);
	if (len < area && p->want < area) {
		p->want = area;
		return -ENODATA;
	}
	x = kmalloc(sizeof(*x), GFP_KERNEL);
	if (!x)
		return -ENOMEM;
	ret = qcow2_exts_parse(&h, buf, len, x, "probe", err);
	if (!ret)
		qcow2_probe_found(&h, x, p);
	kfree(x);
	return ret ?: 100;
}

static void qcow2_refresh_limits(struct qblk_node *node,
				 struct qblk_limits *lim)
{
	struct qcow2_state *s = node->priv;

	lim->request_alignment = 1;
	lim->logical_block_size = 512;
	lim->pdiscard_alignment = BIT(s->sc_bits);
	lim->max_pdiscard = 0;
	lim->max_pwrite_zeroes = 0;
	lim->max_transfer = 0;
	lim->can_discard = true;
	lim->can_write_zeroes = true;
	/* A write is reachable only with its L2 entry: FUA means a flush. */
	lim->fua = false;
	lim->can_grow = false;
}

static void qcow2_drain_begin(struct qblk_node *node)
{
	struct qcow2_state *s = node->priv;

	cancel_delayed_work_sync(&s->wb_work);
	flush_work(&s->free_work);
}

static void qcow2_drain_end(struct qblk_node *node)
{
	struct qcow2_state *s = node->priv;

	if (!node->read_only)
		queue_delayed_work(s->wq, &s->wb_work, HZ);
}

static void qcow2_cache_info(struct qblk_info *info, struct qcow2_cache *c,
			     const char *const keys[8])
{
	qblk_info_u64(info, keys[0], (u64)c->max << c->slice_bits);
	qblk_info_u64(info, keys[1], (u64)READ_ONCE(c->nr) << c->slice_bits);
	qblk_info_u64(info, keys[2],
		      (u64)READ_ONCE(c->nr_dirty) << c->slice_bits);
	qblk_info_u64(info, keys[3], atomic64_read(&c->hits));
	qblk_info_u64(info, keys[4], atomic64_read(&c->misses));
	qblk_info_u64(info, keys[5], READ_ONCE(c->evicted));
	qblk_info_u64(info, keys[6], READ_ONCE(c->cleaned));
	qblk_info_u64(info, keys[7], READ_ONCE(c->shrunk));
}

/* An image without compressed clusters is not told of them. */
static void qcow2_zcache_info(struct qblk_info *info, struct qcow2_zcache *c)
{
	if (!atomic64_read(&c->misses))
		return;
	qblk_info_u64(info, "decompressed-size",
		      (u64)c->max << c->cluster_bits);
	qblk_info_u64(info, "decompressed-used",
		      (u64)READ_ONCE(c->nr) << c->cluster_bits);
	qblk_info_u64(info, "decompressed-hits", atomic64_read(&c->hits));
	qblk_info_u64(info, "decompressed-misses", atomic64_read(&c->misses));
}

static void qcow2_data_file_info(const struct qcow2_state *s,
				 struct qblk_info *info)
{
	if (s->exts.data_file[0])
		qblk_info_str(info, "data-file", s->exts.data_file);
	qblk_info_bool(info, "data-file-raw", qcow2_data_file_is_raw(s));
}

static void qcow2_get_specific_info(struct qblk_node *node,
				    struct qblk_info *info)
{
	static const char *const l2_keys[] = {
		"l2-cache-size", "l2-cache-used", "l2-cache-dirty",
		"l2-cache-hits", "l2-cache-misses", "l2-cache-evicted",
		"l2-cache-cleaned", "l2-cache-shrunk",
	};
	static const char *const ref_keys[] = {
		"refcount-cache-size", "refcount-cache-used",
		"refcount-cache-dirty", "refcount-cache-hits",
		"refcount-cache-misses", "refcount-cache-evicted",
		"refcount-cache-cleaned", "refcount-cache-shrunk",
	};
	struct qcow2_state *s = node->priv;
	const struct qcow2_header *h = &s->hdr;

	qblk_info_str(info, "compat", h->version == 2 ? "0.10" : "1.1");
	qblk_info_u64(info, "cluster-size", s->cluster_size);
	qblk_info_u64(info, "refcount-bits", 1U << s->refcount_order);
	qblk_info_str(info, "compression-type",
		      h->compression_type ? "zstd" : "zlib");
	qblk_info_bool(info, "corrupt", READ_ONCE(s->corrupt) ||
		       h->incompatible_features & QCOW2_INCOMPAT_CORRUPT);
	qblk_info_bool(info, "dirty",
		       h->incompatible_features & QCOW2_INCOMPAT_DIRTY);
	qblk_info_bool(info, "extended-l2", qcow2_has_subclusters(s));
	qcow2_snapshots_info(s, info);
	if (s->exts.backing_file[0])
		qblk_info_str(info, "backing-filename", s->exts.backing_file);
	if (s->exts.backing_format[0])
		qblk_info_str(info, "backing-filename-format",
			      s->exts.backing_format);
	qcow2_opts_info(s, info);
	if (qcow2_has_data_file(s))
		qcow2_data_file_info(s, info);
	qcow2_cache_info(info, &s->l2_cache, l2_keys);
	qcow2_zcache_info(info, &s->zcache);
	if (node->read_only)
		return;
	qcow2_cache_info(info, &s->ref_cache, ref_keys);
	qblk_info_u64(info, "frees-pending", READ_ONCE(s->nr_frees));
}

struct qblk_driver qblk_drv_qcow2 = {
	.name = "qcow2",
	.owner = THIS_MODULE,
	.flags = QBLK_DRV_FORMAT | QBLK_DRV_BACKING | QBLK_DRV_REMAPS |
		 QBLK_DRV_DATA_FILE,
	.instance_size = sizeof(struct qcow2_state),
	.opts = qcow2_opt_table,
	.opts_size = sizeof(struct qcow2_opts),
	.open = qcow2_open,
	.close = qcow2_close,
	.inactivate = qcow2_inactivate,
	.probe = qcow2_probe,
	.map = qcow2_map,
	.preadv = qcow2_preadv,
	.pwritev = qcow2_pwritev,
	.start_pwritev = qcow2_start_pwritev,
	.pwrite_zeroes = qcow2_pwrite_zeroes,
	.pdiscard = qcow2_pdiscard,
	.flush_to_os = qcow2_flush_to_os,
	.refresh_limits = qcow2_refresh_limits,
	.get_specific_info = qcow2_get_specific_info,
	.drain_begin = qcow2_drain_begin,
	.drain_end = qcow2_drain_end,
};

/**
 * qcow2_init - set up what all images share
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_init(void)
{
	int ret = qcow2_zread_init();

	if (ret)
		return ret;
	ret = qcow2_reclaim_init();
	if (ret)
		goto err_zread;
	qcow2_pieces_init();
	return 0;

err_zread:
	qcow2_zread_exit();
	return ret;
}

/**
 * qcow2_exit - free what all images share, none is open
 */
void qcow2_exit(void)
{
	qcow2_zread_exit();
	qcow2_zpool_exit();
	qcow2_pieces_exit();
	qcow2_reclaim_exit();
	/* Slices are freed after an RCU grace period, by code of ours. */
	rcu_barrier();
}
