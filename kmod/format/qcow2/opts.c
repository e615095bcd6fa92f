// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2: runtime options, with QEMU's names and defaults.
 */
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/sizes.h>

#include "qcow2.h"

#define QCOW2_DEFAULT_L2_CACHE		(32ULL * SZ_1M)
#define QCOW2_MIN_REF_CACHE		4	/* clusters */
#define QCOW2_MIN_ENTRY_SIZE		512U
#define QCOW2_MAX_CACHE			(512ULL * SZ_1G)
#define QCOW2_DEFAULT_CLEAN_INTERVAL	600	/* seconds */

/* Templates of overlap-check, each with all of the one before it */
enum qcow2_overlap_template {
	QCOW2_OVERLAP_NONE,
	QCOW2_OVERLAP_CONSTANT,
	QCOW2_OVERLAP_CACHED,
	QCOW2_OVERLAP_ALL,
};

static const char *const qcow2_overlap_words[] = {
	"none", "constant", "cached", "all", NULL
};

/* What is checked at no cost: it does not move, or it is in memory. */
#define QCOW2_OL_CONSTANT	(BIT(QCOW2_OL_MAIN_HEADER) | \
				 BIT(QCOW2_OL_ACTIVE_L1) | \
				 BIT(QCOW2_OL_REFCOUNT_TABLE) | \
				 BIT(QCOW2_OL_SNAPSHOT_TABLE) | \
				 BIT(QCOW2_OL_BITMAP_DIRECTORY))
#define QCOW2_OL_CACHED		(QCOW2_OL_CONSTANT | \
				 BIT(QCOW2_OL_ACTIVE_L2) | \
				 BIT(QCOW2_OL_REFCOUNT_BLOCK) | \
				 BIT(QCOW2_OL_INACTIVE_L1))
#define QCOW2_OL_ALL		(QCOW2_OL_CACHED | BIT(QCOW2_OL_INACTIVE_L2))

static const u32 qcow2_overlap_masks[] = {
	[QCOW2_OVERLAP_NONE] = 0,
	[QCOW2_OVERLAP_CONSTANT] = QCOW2_OL_CONSTANT,
	[QCOW2_OVERLAP_CACHED] = QCOW2_OL_CACHED,
	[QCOW2_OVERLAP_ALL] = QCOW2_OL_ALL,
};

static const char *const qcow2_overlap_kinds[] = {
	[QCOW2_OL_MAIN_HEADER] = "main-header",
	[QCOW2_OL_ACTIVE_L1] = "active-l1",
	[QCOW2_OL_ACTIVE_L2] = "active-l2",
	[QCOW2_OL_REFCOUNT_BLOCK] = "refcount-block",
	[QCOW2_OL_REFCOUNT_TABLE] = "refcount-table",
	[QCOW2_OL_SNAPSHOT_TABLE] = "snapshot-table",
	[QCOW2_OL_INACTIVE_L1] = "inactive-l1",
	[QCOW2_OL_INACTIVE_L2] = "inactive-l2",
	[QCOW2_OL_BITMAP_DIRECTORY] = "bitmap-directory",
};

#define QCOW2_OPT_OVERLAP(_name, _kind, _help)				\
	{								\
		.name = "overlap-check." _name,				\
		.type = QBLK_OPT_TRISTATE,				\
		.offset = offsetof(struct qcow2_opts, overlap[_kind]),	\
		.help = _help,						\
	}

const struct qblk_opt_desc qcow2_opt_table[] = {
	{
		.name = "cache-size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct qcow2_opts, cache_size),
		.max = QCOW2_MAX_CACHE,
		.def = QBLK_OPT_UNSET,
		.help = "most memory for L2 tables and refcount blocks together",
	}, {
		.name = "l2-cache-size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct qcow2_opts, l2_cache_size),
		.max = QCOW2_MAX_CACHE,
		.def = QBLK_OPT_UNSET,
		.help = "most memory for L2 tables (default: 32M)",
	}, {
		.name = "l2-cache-entry-size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct qcow2_opts, l2_cache_entry_size),
		.max = QCOW2_MAX_CACHE,
		.def = QBLK_OPT_UNSET,
		.help = "bytes of L2 tables read and written at once (default: 4K, or a smaller cluster)",
	}, {
		.name = "refcount-cache-size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct qcow2_opts, refcount_cache_size),
		.max = QCOW2_MAX_CACHE,
		.def = QBLK_OPT_UNSET,
		.help = "most memory for refcount blocks (default: 4 clusters)",
	}, {
		.name = "cache-clean-interval",
		.type = QBLK_OPT_U64,
		.offset = offsetof(struct qcow2_opts, cache_clean_interval),
		.max = U32_MAX,
		.def = QCOW2_DEFAULT_CLEAN_INTERVAL,
		.help = "seconds after which unused metadata leaves the memory (0: never)",
	}, {
		.name = "lazy-refcounts",
		.type = QBLK_OPT_TRISTATE,
		.offset = offsetof(struct qcow2_opts, lazy_refcounts),
		.help = "write refcounts late (default: what the image says)",
	}, {
		.name = "pass-discard-request",
		.type = QBLK_OPT_TRISTATE,
		.offset = offsetof(struct qcow2_opts, pass_discard_request),
		.help = "pass discards of the disk on to the file (default: on with discard=unmap)",
	}, {
		.name = "pass-discard-snapshot",
		.type = QBLK_OPT_BOOL,
		.offset = offsetof(struct qcow2_opts, pass_discard_snapshot),
		.def = true,
		.help = "discard in the file what deleting a snapshot frees",
	}, {
		.name = "pass-discard-other",
		.type = QBLK_OPT_BOOL,
		.offset = offsetof(struct qcow2_opts, pass_discard_other),
		.help = "discard in the file whatever else is freed",
	}, {
		.name = "discard-no-unref",
		.type = QBLK_OPT_BOOL,
		.offset = offsetof(struct qcow2_opts, discard_no_unref),
		.help = "discarded clusters keep their place in the image",
	}, {
		.name = "load-snapshot",
		.type = QBLK_OPT_STRING,
		.offset = offsetof(struct qcow2_opts, load_snapshot),
		.help = "show the internal snapshot with this id or name",
	}, {
		.name = "load-snapshot.id",
		.type = QBLK_OPT_STRING,
		.offset = offsetof(struct qcow2_opts, snapshot_id),
		.help = "show the internal snapshot with this id",
	}, {
		.name = "load-snapshot.name",
		.type = QBLK_OPT_STRING,
		.offset = offsetof(struct qcow2_opts, snapshot_name),
		.help = "show the internal snapshot with this name",
	}, {
		.name = "overlap-check",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct qcow2_opts, overlap_check),
		.choices = qcow2_overlap_words,
		.def = QBLK_OPT_UNSET,
		.help = "metadata protected from being overwritten (default: cached)",
	}, {
		.name = "overlap-check.template",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct qcow2_opts, overlap_template),
		.choices = qcow2_overlap_words,
		.def = QBLK_OPT_UNSET,
		.help = "the same",
	},
	QCOW2_OPT_OVERLAP("main-header", QCOW2_OL_MAIN_HEADER,
			  "protect the header"),
	QCOW2_OPT_OVERLAP("active-l1", QCOW2_OL_ACTIVE_L1,
			  "protect the L1 table"),
	QCOW2_OPT_OVERLAP("active-l2", QCOW2_OL_ACTIVE_L2,
			  "protect L2 tables"),
	QCOW2_OPT_OVERLAP("refcount-table", QCOW2_OL_REFCOUNT_TABLE,
			  "protect the refcount table"),
	QCOW2_OPT_OVERLAP("refcount-block", QCOW2_OL_REFCOUNT_BLOCK,
			  "protect refcount blocks"),
	QCOW2_OPT_OVERLAP("snapshot-table", QCOW2_OL_SNAPSHOT_TABLE,
			  "protect the snapshot table"),
	QCOW2_OPT_OVERLAP("inactive-l1", QCOW2_OL_INACTIVE_L1,
			  "protect L1 tables of snapshots"),
	QCOW2_OPT_OVERLAP("inactive-l2", QCOW2_OL_INACTIVE_L2,
			  "protect L2 tables of snapshots"),
	QCOW2_OPT_OVERLAP("bitmap-directory", QCOW2_OL_BITMAP_DIRECTORY,
			  "protect the directory of bitmaps"),
	{}
};

/**
 * qcow2_all_l2_bytes - size of all L2 tables the disk can have
 * @s: image, its header read
 *
 * Return: bytes, whole clusters.
 */
u64 qcow2_all_l2_bytes(const struct qcow2_state *s)
{
	u64 entries = (s->node->length + s->cluster_size - 1) >>
		      s->cluster_bits;

	return round_up(entries << s->l2e_bits, (u64)s->cluster_size);
}

static int qcow2_check_cache_sizes(const struct qcow2_state *s,
				   const struct qcow2_opts *opts,
				   struct qblk_err *err)
{
	bool l2_set = opts->l2_cache_size != QBLK_OPT_UNSET;
	bool ref_set = opts->refcount_cache_size != QBLK_OPT_UNSET;
	const char *who = s->node->name;
	u64 all = opts->cache_size;

	if (all == QBLK_OPT_UNSET)
		return 0;
	if (l2_set && ref_set)
		qblk_err_set(err,
			     "node '%s': options 'cache-size' (%llu), 'l2-cache-size' (%llu) and 'refcount-cache-size' (%llu) may not be set at the same time",
			     who, all, opts->l2_cache_size,
			     opts->refcount_cache_size);
	else if (l2_set && opts->l2_cache_size > all)
		qblk_err_set(err,
			     "node '%s': option 'l2-cache-size': %llu may not exceed 'cache-size', %llu",
			     who, opts->l2_cache_size, all);
	else if (ref_set && opts->refcount_cache_size > all)
		qblk_err_set(err,
			     "node '%s': option 'refcount-cache-size': %llu may not exceed 'cache-size', %llu",
			     who, opts->refcount_cache_size, all);
	else
		return 0;
	return -EINVAL;
}

/* As QEMU does: L2 tables get as much as the disk can need, if there is */
static void qcow2_split_cache_size(struct qcow2_state *s,
				   const struct qcow2_opts *opts, u64 most)
{
	u64 least = QCOW2_MIN_REF_CACHE * (u64)s->cluster_size;
	u64 all = opts->cache_size;

	if (opts->refcount_cache_size != QBLK_OPT_UNSET)
		s->l2_cache_size = all - s->ref_cache_size;
	else if (opts->l2_cache_size == QBLK_OPT_UNSET)
		s->l2_cache_size = min(most, all - min(all, least));
	s->ref_cache_size = all - s->l2_cache_size;
}

static int qcow2_apply_cache_sizes(struct qcow2_state *s,
				   const struct qcow2_opts *opts,
				   struct qblk_err *err)
{
	u64 most = qcow2_all_l2_bytes(s);
	int ret;

	ret = qcow2_check_cache_sizes(s, opts, err);
	if (ret)
		return ret;
	s->l2_cache_size = opts->l2_cache_size;
	if (s->l2_cache_size == QBLK_OPT_UNSET)
		s->l2_cache_size = QCOW2_DEFAULT_L2_CACHE;
	s->l2_cache_size = min(s->l2_cache_size, most);
	s->ref_cache_size = opts->refcount_cache_size;
	if (s->ref_cache_size == QBLK_OPT_UNSET)
		s->ref_cache_size = 0;
	if (opts->cache_size != QBLK_OPT_UNSET)
		qcow2_split_cache_size(s, opts, most);
	s->ref_cache_size = max(s->ref_cache_size,
				QCOW2_MIN_REF_CACHE * (u64)s->cluster_size);
	s->clean_interval = opts->cache_clean_interval;
	return 0;
}

static int qcow2_apply_entry_size(struct qcow2_state *s,
				  const struct qcow2_opts *opts,
				  struct qblk_err *err)
{
	u64 size = opts->l2_cache_entry_size;

	if (size == QBLK_OPT_UNSET)
		size = min_t(u32, BIT(QCOW2_CHUNK_BITS), s->cluster_size);
	if (size < QCOW2_MIN_ENTRY_SIZE || size > s->cluster_size ||
	    !is_power_of_2(size)) {
		qblk_err_set(err,
			     "node '%s': option 'l2-cache-entry-size': %llu is not a power of two between %u and the cluster size, %u",
			     s->node->name, size, QCOW2_MIN_ENTRY_SIZE,
			     s->cluster_size);
		return -EINVAL;
	}
	s->l2_slice_bits = ilog2(size);
	return 0;
}

static int qcow2_apply_lazy(struct qcow2_state *s,
			    const struct qcow2_opts *opts,
			    struct qblk_err *err)
{
	s->use_lazy_refcounts = s->hdr.compatible_features &
				QCOW2_COMPAT_LAZY_REFCOUNTS;
	if (opts->lazy_refcounts >= 0)
		s->use_lazy_refcounts = opts->lazy_refcounts;
	if (!s->use_lazy_refcounts || s->hdr.version >= 3)
		return 0;
	qblk_err_set(err,
		     "node '%s': option 'lazy-refcounts': Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level",
		     s->node->name);
	return -EINVAL;
}

static int qcow2_apply_discard(struct qcow2_state *s,
			       const struct qcow2_opts *opts,
			       struct qblk_err *err)
{
	bool *pass = s->discard_passthrough;

	pass[QCOW2_DISCARD_NEVER] = false;
	pass[QCOW2_DISCARD_ALWAYS] = true;
	pass[QCOW2_DISCARD_REQUEST] = opts->pass_discard_request >= 0 ?
				      opts->pass_discard_request :
				      s->node->discard_unmap;
	pass[QCOW2_DISCARD_SNAPSHOT] = opts->pass_discard_snapshot;
	pass[QCOW2_DISCARD_OTHER] = opts->pass_discard_other;
	s->discard_no_unref = opts->discard_no_unref;
	if (!s->discard_no_unref || s->hdr.version >= 3)
		return 0;
	qblk_err_set(err,
		     "node '%s': option 'discard-no-unref': an image of version 2 has no zero clusters that keep their place",
		     s->node->name);
	return -EINVAL;
}

static int qcow2_apply_overlap(struct qcow2_state *s,
			       const struct qcow2_opts *opts,
			       struct qblk_err *err)
{
	u32 word = QCOW2_OVERLAP_CACHED;
	int i;

	if (opts->overlap_check != U32_MAX)
		word = opts->overlap_check;
	else if (opts->overlap_template != U32_MAX)
		word = opts->overlap_template;
	if (opts->overlap_template != U32_MAX &&
	    opts->overlap_template != word) {
		qblk_err_set(err,
			     "node '%s': options 'overlap-check' (%s) and 'overlap-check.template' (%s) contradict each other",
			     s->node->name, qcow2_overlap_words[word],
			     qcow2_overlap_words[opts->overlap_template]);
		return -EINVAL;
	}
	s->overlap_check = qcow2_overlap_masks[word];
	for (i = 0; i < QCOW2_OL_MAX; i++) {
		if (opts->overlap[i] < 0)
			continue;
		if (opts->overlap[i])
			s->overlap_check |= BIT(i);
		else
			s->overlap_check &= ~BIT(i);
	}
	return 0;
}

/**
 * qcow2_opts_apply - what the options mean for this image
 * @s: image, its header read and its geometry known
 * @opts: options
 * @err: gets the sentence on failure
 *
 * Return: 0 or -EINVAL.
 */
int qcow2_opts_apply(struct qcow2_state *s, const struct qcow2_opts *opts,
		     struct qblk_err *err)
{
	return qcow2_apply_cache_sizes(s, opts, err) ?:
	       qcow2_apply_entry_size(s, opts, err) ?:
	       qcow2_apply_lazy(s, opts, err) ?:
	       qcow2_apply_discard(s, opts, err) ?:
	       qcow2_apply_overlap(s, opts, err);
}

/* The template, or what is protected, by name */
static const char *qcow2_overlap_text(u32 mask, char *buf, size_t size)
{
	size_t n = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(qcow2_overlap_masks); i++)
		if (mask == qcow2_overlap_masks[i])
			return qcow2_overlap_words[i];
	for (i = 0; i < QCOW2_OL_MAX; i++)
		if (mask & BIT(i))
			n += scnprintf(buf + n, size - n, "%s%s", n ? "," : "",
				       qcow2_overlap_kinds[i]);
	return buf;
}

/**
 * qcow2_opts_info - tell what is in effect
 * @s: image
 * @info: whom
 */
void qcow2_opts_info(const struct qcow2_state *s, struct qblk_info *info)
{
	char overlap[160];

	qblk_info_u64(info, "l2-cache-entry-size", BIT(s->l2_slice_bits));
	qblk_info_u64(info, "cache-clean-interval", s->clean_interval);
	qblk_info_bool(info, "lazy-refcounts", s->use_lazy_refcounts);
	qblk_info_bool(info, "pass-discard-request",
		       s->discard_passthrough[QCOW2_DISCARD_REQUEST]);
	qblk_info_bool(info, "pass-discard-snapshot",
		       s->discard_passthrough[QCOW2_DISCARD_SNAPSHOT]);
	qblk_info_bool(info, "pass-discard-other",
		       s->discard_passthrough[QCOW2_DISCARD_OTHER]);
	qblk_info_bool(info, "discard-no-unref", s->discard_no_unref);
	qblk_info_str(info, "overlap-check",
		      qcow2_overlap_text(s->overlap_check, overlap,
					 sizeof(overlap)));
}
