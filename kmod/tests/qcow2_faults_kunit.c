// SPDX-License-Identifier: GPL-2.0
/*
 * Every fault: a short workload is repeated from the same image, and each time
 * another operation of the file fails, from the first to the one after the
 * last.  It fails once, or from then on and the image is given up, or from then
 * on until somebody puts it right; or the file system has a bit more room each
 * time before it is full.
 *
 * No request may succeed whose data is gone later, none may fail that had no
 * fault below it, and what is found in the end has to be consistent but for
 * leaks.
 */
#include <kunit/test.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

#define KB	1024ULL

#define FAULTS_ANY	(BIT(MEMLEAF_NR_TYPES) - 1)
#define FAULTS_WRITE	(BIT(MEMLEAF_WRITE) | BIT(MEMLEAF_ZERO))

/* More than any workload has operations: somebody does not come to an end. */
#define FAULTS_MAX	3000

/*
 * Of how many operations one fails.  All of them, one after the other, take many
 * minutes: tools/testing/kunit/run has them with QBLK_CHECK_FULL.
 */
static unsigned int faults_step_width = 8;
module_param_named(faults_step, faults_step_width, uint, 0400);
MODULE_PARM_DESC(faults_step, "qblk_qcow2_faults: of how many operations one fails");

/* In how many of the runs the image is used again afterwards */
#define FAULTS_REUSE	8

/* Which version of a sector: that of the image in the beginning */
#define FAULTS_BASE	BIT_ULL(0)

enum faults_op_type {
	FAULTS_OP_WRITE,
	FAULTS_OP_ZERO,
	FAULTS_OP_UNMAP,
	FAULTS_OP_DISCARD,
	FAULTS_OP_FLUSH,
};

/**
 * struct faults_op - a step of a workload
 * @type: what
 * @cluster: first cluster, from the end of the disk if negative
 * @sector: and sector from there on
 * @clusters: length
 * @sectors: and more sectors
 */
struct faults_op {
	enum faults_op_type type;
	int cluster;
	unsigned int sector;
	unsigned int clusters;
	unsigned int sectors;
};

/* What there is before */
static const struct faults_op faults_before[] = {
	{ FAULTS_OP_WRITE, 0, 0, 8, 0 },
	{ FAULTS_OP_ZERO, 2, 0, 1, 0 },
	{ FAULTS_OP_UNMAP, 3, 0, 1, 0 },
	{ FAULTS_OP_WRITE, 10, 1, 0, 2 },
	{ FAULTS_OP_FLUSH },
	{ FAULTS_OP_DISCARD, 6, 0, 1, 0 },
};

static const struct faults_op faults_steps[] = {
	/* in place, or copied for a snapshot */
	{ FAULTS_OP_WRITE, 0, 1, 1, 0 },
	/* parts of new clusters, of a compressed one in some images */
	{ FAULTS_OP_WRITE, 12, 1, 0, 1 },
	{ FAULTS_OP_WRITE, 9, 2, 0, 1 },
	{ FAULTS_OP_ZERO, 1, 0, 1, 1 },
	{ FAULTS_OP_FLUSH },
	/* zero clusters, with and without a place */
	{ FAULTS_OP_WRITE, 2, 1, 1, 1 },
	{ FAULTS_OP_DISCARD, 4, 0, 2, 0 },
	{ FAULTS_OP_WRITE, -8, 1, 7, 0 },
	{ FAULTS_OP_FLUSH },
	/* what was freed is used again */
	{ FAULTS_OP_WRITE, 14, 0, 4, 0 },
	{ FAULTS_OP_UNMAP, 0, 0, 3, 0 },
	{ FAULTS_OP_WRITE, 0, 1, 0, 1 },
	{ FAULTS_OP_DISCARD, 14, 0, 3, 0 },
	{ FAULTS_OP_FLUSH },
	{ FAULTS_OP_WRITE, 3, 0, 4, 0 },
	{ FAULTS_OP_WRITE, 20, 1, 5, 0 },
	{ FAULTS_OP_ZERO, 20, 2, 2, 0 },
	{ FAULTS_OP_FLUSH },
};

/**
 * struct faults_cfg - an image and what is done to it
 * @desc: in words
 * @image: what it looks like
 * @snapshot: all that is there before belongs to a snapshot as well
 * @compressed: some clusters are compressed
 * @fill: length of the file before, reached by writing to the disk
 * @blocks: in the end there are that many refcount blocks, or more
 */
struct faults_cfg {
	const char *desc;
	struct image_cfg image;
	bool snapshot;
	bool compressed;
	u64 fill;
	u32 blocks;
};

static const struct faults_cfg faults_cfgs[] = {
	{
		.desc = "raw data file",
		.image = {
			.version = 3, .cluster_bits = 11, .refcount_order = 4,
			.size = 64 * KB, .data_file = true, .raw = true,
		},
	}, {
		.desc = "data file, subclusters, backing file",
		.image = {
			.version = 3, .cluster_bits = 14, .refcount_order = 4,
			.size = 448 * KB, .backing = 300 * KB, .extl2 = true,
			.data_file = true,
		},
	}, {
		.desc = "subclusters, backing file, snapshot",
		.image = {
			.version = 3, .cluster_bits = 14, .refcount_order = 4,
			.size = 448 * KB, .backing = 300 * KB, .extl2 = true,
		},
		.snapshot = true,
	}, {
		.desc = "512 byte clusters, snapshot",
		.image = {
			.version = 3, .cluster_bits = 9, .refcount_order = 4,
			.size = 40 * KB,
		},
		.snapshot = true,
	}, {
		.desc = "2 KiB clusters, a disk that cannot grow",
		.image = {
			.version = 3, .cluster_bits = 11, .refcount_order = 0,
			.size = 64 * KB, .fixed = 96 * KB,
		},
	}, {
		.desc = "2 KiB clusters, short backing file",
		.image = {
			.version = 3, .cluster_bits = 11, .refcount_order = 3,
			.size = 64 * KB, .backing = 45 * KB,
		},
	}, {
		.desc = "512 byte clusters, 4 KiB blocks, version 2",
		.image = {
			.version = 2, .cluster_bits = 9, .refcount_order = 4,
			.size = 40 * KB, .align = 4096,
		},
	}, {
		/* L2 tables and refcount blocks have to be made */
		.desc = "512 byte clusters, 64 bit refcounts",
		.image = {
			.version = 3, .cluster_bits = 9, .refcount_order = 6,
			.size = 48 * KB,
		},
		.fill = 52 * 512, .blocks = 2,
	}, {
		.desc = "4 KiB clusters, compressed, backing file",
		.image = {
			.version = 3, .cluster_bits = 12, .refcount_order = 4,
			.size = 128 * KB, .backing = 128 * KB,
		},
		.compressed = true,
	},
};

KUNIT_ARRAY_PARAM_DESC(faults_cfg, faults_cfgs, desc);

enum faults_mode {
	FAULTS_ONCE,
	FAULTS_FOREVER,
	FAULTS_CURED,
	FAULTS_FULL,
};

static const char * const faults_modes[] = {
	[FAULTS_ONCE] = "once",
	[FAULTS_FOREVER] = "for ever",
	[FAULTS_CURED] = "until cured",
	[FAULTS_FULL] = "full",
};

/**
 * struct faults_copy - a leaf as it was
 * @leaf: the leaf
 * @data: all of it
 * @length: what it showed
 * @capacity: what it could grow to
 */
struct faults_copy {
	struct memleaf *leaf;
	u8 *data;
	u64 length;
	u64 capacity;
};

/**
 * struct faults - an image to be used again and again
 * @test: case
 * @cfg: what it is
 * @img: the image
 * @check: for looking at it
 * @base: what the disk held in the beginning
 * @copies: the leaves in the beginning
 * @sectors: of the disk
 * @now: for each sector, which versions it may show, %FAULTS_BASE or BIT_ULL()
 *	of a step
 * @stable: likewise, should the image be given up now
 * @victim: the leaf that fails
 * @mode: how
 * @types: what of it
 * @error: with this
 * @nr: which of its operations
 * @failed: requests that failed
 * @runs: how often the image was used
 * @ok: nothing was found yet
 */
struct faults {
	struct kunit *test;
	const struct faults_cfg *cfg;
	struct image *img;
	struct image_check check;
	u8 *base;
	struct faults_copy copies[2];
	u32 sectors;
	u64 *now;
	u64 *stable;
	struct memleaf *victim;
	enum faults_mode mode;
	unsigned int types;
	int error;
	unsigned int nr;
	unsigned int failed;
	unsigned int runs;
	bool ok;
};

#define faults_complain(f, fmt, ...) do {				\
	struct faults *_f = (f);					\
									\
	_f->ok = false;							\
	KUNIT_FAIL(_f->test, "%s, error %d, operation %u of the %s: " fmt, \
		   faults_modes[_f->mode], _f->error, _f->nr,		\
		   _f->victim == _f->img->data ? "data file" : "file",	\
		   ##__VA_ARGS__);					\
} while (0)

/* Using the disk */

static void faults_op_range(const struct faults *f, const struct faults_op *op,
			    u64 *offset, u64 *bytes)
{
	u64 cs = f->img->cs;

	*offset = op->cluster * cs + op->sector * 512ULL;
	if (op->cluster < 0)
		*offset += f->img->cfg->size;
	*bytes = op->clusters * cs + op->sectors * 512ULL;
}

static int faults_op_do(struct faults *f, const struct faults_op *op,
			u64 offset, u64 bytes, u32 seed)
{
	switch (op->type) {
	case FAULTS_OP_WRITE:
		return image_write(f->img, offset, bytes, seed);
	case FAULTS_OP_ZERO:
		return image_zero(f->img, offset, bytes, 0);
	case FAULTS_OP_UNMAP:
		return image_zero(f->img, offset, bytes, QBLK_REQ_MAY_UNMAP);
	case FAULTS_OP_DISCARD:
		return image_discard(f->img, offset, bytes);
	default:
		return qblk_flush(&f->img->edge);
	}
}

/* Freed clusters become usable, always at the same time. */
static void faults_settle(struct faults *f)
{
	struct qcow2_state *s = f->img->node->priv;

	flush_work(&s->free_work);
}

static bool faults_error_ok(const struct faults *f, int ret)
{
	if (!ret)
		return true;
	if (f->mode == FAULTS_ONCE && f->failed)
		return false;
	return ret == f->error;
}

static void faults_flushed(struct faults *f)
{
	memcpy(f->stable, f->now, f->sectors * sizeof(*f->now));
}

/* What failed is there, or not, or in part; so it is before a flush. */
static void faults_changed(struct faults *f, u64 offset, u64 bytes, u64 version,
			   bool worked)
{
	u32 sector = offset / 512, end = (offset + bytes) / 512;

	for (; sector < end; sector++) {
		f->stable[sector] |= version;
		f->now[sector] = version | (worked ? 0 : f->now[sector]);
	}
}

static void faults_step(struct faults *f, const struct faults_op *op, u32 step)
{
	u64 offset, bytes;
	int ret;

	faults_op_range(f, op, &offset, &bytes);
	ret = faults_op_do(f, op, offset, bytes, step);
	if (!faults_error_ok(f, ret))
		faults_complain(f, "step %u gave %d", step, ret);
	f->failed += !!ret;
	if (op->type == FAULTS_OP_FLUSH) {
		if (!ret)
			faults_flushed(f);
		else if (f->mode == FAULTS_FULL)
			faults_complain(f, "flush %u wants space", step);
		faults_settle(f);
		return;
	}
	if (op->type == FAULTS_OP_DISCARD)
		image_discard_range(f->img, &offset, &bytes);
	faults_changed(f, offset, bytes, BIT_ULL(step), !ret);
}

static const struct faults_op *faults_plan(const struct faults *f, u32 *nr)
{
	*nr = ARRAY_SIZE(faults_steps);
	return faults_steps;
}

/* Looking at it */

static bool faults_same(const u8 *a, const u8 *b)
{
	return !memcmp(a, b, 4) && !memcmp(a + 508, b + 508, 4);
}

/* Is @data what step @step left there, or what was there before (0)? */
static bool faults_sector_is(const struct faults *f, const u8 *data, u64 offset,
			     u32 step)
{
	u32 nr, seed = 0;
	const struct faults_op *ops = faults_plan(f, &nr);

	if (!step)
		return faults_same(data, f->base + offset);
	if (ops[step - 1].type == FAULTS_OP_WRITE)
		seed = step;
	return get_unaligned_le32(data) == image_word(offset, seed) &&
	       get_unaligned_le32(data + 508) == image_word(offset + 508, seed);
}

static bool faults_sector_ok(const struct faults *f, const u8 *data, u32 sector,
			     u64 versions)
{
	u32 step;

	for (step = 0; versions >> step; step++)
		if (versions & BIT_ULL(step) &&
		    faults_sector_is(f, data, sector * 512ULL, step))
			return true;
	return false;
}

static void faults_expect_read(struct faults *f)
{
	struct image *img = f->img;
	u32 sector;
	int ret;

	ret = qblk_pread(&img->edge, 0, img->cfg->size, img->scratch);
	if (ret)
		faults_complain(f, "cannot be read: %d", ret);
	for (sector = 0; f->ok && sector < f->sectors; sector++)
		if (!faults_sector_ok(f, img->scratch + sector * 512ULL, sector,
				      f->now[sector]))
			faults_complain(f, "sector %u reads none of 0x%llx",
					sector, f->now[sector]);
}

static void faults_expect_file(struct faults *f, const u64 *versions)
{
	struct image *img = f->img;
	const u8 *p;
	u32 sector;
	u64 pos;

	f->check.nr = DIV_ROUND_UP_ULL(img->leaf->length, img->cs);
	if (!image_check(&f->check, img->leaf->data)) {
		faults_complain(f, "%s", f->check.why);
		return;
	}
	for (sector = 0; f->ok && sector < f->sectors; sector++) {
		pos = sector * 512ULL;
		p = image_lookup(img, img->leaf->data, pos);
		if (!faults_sector_ok(f, p, sector, versions[sector]))
			faults_complain(f, "sector %u holds none of 0x%llx",
					sector, versions[sector]);
		if (f->ok && img->cfg->raw &&
		    !faults_sector_ok(f, img->data->data + pos, sector,
				      versions[sector]))
			faults_complain(f, "raw sector %u lost", sector);
	}
	if (f->ok && img->snap_l1 && !image_snapshot_is(img, f->base))
		faults_complain(f, "snapshot has changed");
}

/* One run */

static void faults_restore(struct faults *f)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(f->copies); i++) {
		const struct faults_copy *c = &f->copies[i];

		if (!c->leaf)
			continue;
		memleaf_fail(c->leaf, 0, 0, 0, 0);
		memcpy(c->leaf->data, c->data, c->capacity);
		c->leaf->length = c->length;
		c->leaf->capacity = c->capacity;
	}
	memset64(f->now, FAULTS_BASE, f->sectors);
	faults_flushed(f);
	f->failed = 0;
	f->ok = true;
}

/* What a file has more each time: a part of a cluster, which is in vain */
static u64 faults_room(const struct faults *f)
{
	return max(512U, f->img->cs / 2);
}

static void faults_arm(struct faults *f)
{
	struct memleaf *leaf = f->victim;

	if (f->mode == FAULTS_FULL)
		leaf->capacity = min(leaf->length + f->nr * faults_room(f),
				     leaf->capacity);
	else
		memleaf_fail(leaf, f->types, f->nr,
			     f->mode == FAULTS_ONCE ? 1 : UINT_MAX, f->error);
}

/* Has something failed, be it that nobody had to be told?  Ends what fails. */
static bool faults_disarm(struct faults *f)
{
	struct memleaf *leaf = f->victim;
	bool fired = leaf->fail_nr != (f->mode == FAULTS_ONCE ? 1 : UINT_MAX);

	if (f->mode == FAULTS_FULL)
		fired = f->failed;
	memleaf_fail(leaf, 0, 0, 0, 0);
	leaf->capacity = f->copies[leaf == f->img->data].capacity;
	return fired;
}

/* Write-back fails once, or not at all. */
static void faults_close(struct faults *f)
{
	int ret = image_close(f->img);

	if (ret && faults_error_ok(f, ret) && f->mode == FAULTS_ONCE)
		ret = image_close(f->img);
	if (ret)
		faults_complain(f, "close gave %d", ret);
	else
		faults_flushed(f);
}

static void faults_give_up(struct faults *f)
{
	if (image_close(f->img))
		memleaf_node_abandon(f->test, f->img->node);
	else
		faults_flushed(f);
}

static void faults_cure(struct faults *f)
{
	int ret;

	ret = qblk_flush(&f->img->edge);
	if (ret)
		faults_complain(f, "flush after the cure gave %d", ret);
	faults_expect_read(f);
	faults_close(f);
}

/* All of the disk can be written, whatever happened. */
static void faults_reuse(struct faults *f)
{
	struct image *img = f->img;
	int ret;

	image_open(img);
	ret = image_write(img, 0, img->cfg->size, 63);
	if (ret)
		faults_complain(f, "cannot be written afterwards: %d", ret);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(f->test, 0, image_close(img));
	image_expect_consistent(img);
}

/* Return: whether something has failed. */
static bool faults_run(struct faults *f)
{
	u32 i, nr;
	const struct faults_op *ops = faults_plan(f, &nr);
	bool fired;

	faults_restore(f);
	image_open(f->img);
	faults_arm(f);
	for (i = 0; i < nr && f->ok; i++)
		faults_step(f, &ops[i], i + 1);
	KUNIT_EXPECT_FALSE(f->test,
			   ((struct qcow2_state *)f->img->node->priv)->corrupt);
	if (f->mode == FAULTS_FOREVER) {
		faults_give_up(f);
		fired = faults_disarm(f);
	} else if (f->mode == FAULTS_CURED) {
		fired = faults_disarm(f);
		faults_cure(f);
	} else {
		faults_close(f);
		fired = faults_disarm(f);
	}
	if (f->ok)
		faults_expect_file(f, f->stable);
	f->runs++;
	return fired;
}

/* One operation after the other fails, until there is none left to fail */
static void faults_sweep(struct faults *f, struct memleaf *victim,
			 enum faults_mode mode, unsigned int types, int error)
{
	u32 width = max(faults_step_width, 1U);
	u32 first = get_random_u32() % width;
	bool fired = true;

	f->victim = victim;
	f->mode = mode;
	f->types = types;
	f->error = error;
	for (f->nr = first; fired; f->nr += width) {
		fired = faults_run(f);
		if (f->ok && f->nr / width % FAULTS_REUSE == 0 &&
		    !f->cfg->image.fixed)
			faults_reuse(f);
		if (!f->ok)
			return;
		KUNIT_ASSERT_LT(f->test, f->nr, FAULTS_MAX);
	}
	KUNIT_EXPECT_EQ(f->test, 0, f->failed);
	kunit_info(f->test, "%s, error %d: one of %u of %u operations",
		   faults_modes[mode], error, width, f->nr - width);
}

/* The image in the beginning */

static void faults_base_op(struct faults *f, const struct faults_op *op)
{
	u64 offset, bytes;

	faults_op_range(f, op, &offset, &bytes);
	KUNIT_ASSERT_EQ(f->test, 0, faults_op_do(f, op, offset, bytes, 900));
}

/* The file is as long as it should be, with no new L2 table at the end. */
static void faults_base_fill(struct faults *f, u64 cluster)
{
	struct image *img = f->img;
	u64 pos = cluster * img->cs;
	u64 n;

	for (; img->leaf->length < f->cfg->fill; pos += n) {
		n = img->leaf->length + 32 * img->cs < f->cfg->fill ?
		    16 * img->cs : img->cs;
		KUNIT_ASSERT_EQ(f->test, 0, image_write(img, pos, n, 900));
	}
	KUNIT_ASSERT_LE(f->test, pos, round_down(img->cfg->size - 8 * img->cs,
						 64 * 512));
}

/* A cluster as one stored block of a deflate stream */
static void faults_base_compressed(struct faults *f, u64 guest)
{
	struct image *img = f->img;
	u64 sectors = img->cs / 512;
	u64 host, next;
	u8 *p;

	/* two in a row: at the end of the file */
	img->next = DIV_ROUND_UP_ULL(img->leaf->length, img->cs);
	host = image_add_cluster(img);
	next = image_add_cluster(img);
	KUNIT_ASSERT_EQ(f->test, host + img->cs, next);
	p = img->leaf->data + host;
	p[0] = 1;
	put_unaligned_le16(img->cs, p + 1);
	put_unaligned_le16(~img->cs, p + 3);
	image_fill(p + 5, guest, img->cs, 901);
	memcpy(img->model + guest, p + 5, img->cs);
	image_set_l2(img, guest, QCOW2_OFLAG_COMPRESSED | host |
		     sectors << (70 - img->cfg->cluster_bits));
}

static void faults_base_make(struct faults *f)
{
	struct image *img = f->img;
	u32 i;

	image_open(img);
	for (i = 0; i < ARRAY_SIZE(faults_before); i++)
		faults_base_op(f, &faults_before[i]);
	if (f->cfg->fill)
		faults_base_fill(f, 26);
	KUNIT_ASSERT_EQ(f->test, 0, image_close(img));
	if (f->cfg->snapshot)
		image_add_snapshot(img);
	if (f->cfg->compressed) {
		faults_base_compressed(f, 9 * img->cs);
		faults_base_compressed(f, 15 * img->cs);
	}
	image_expect_clean(img);
	memcpy(f->base, img->model, img->cfg->size);
	img->plain = f->base;
}

static void faults_copy(struct faults *f, struct faults_copy *copy,
			struct memleaf *leaf)
{
	copy->leaf = leaf;
	copy->data = memleaf_valloc(f->test, leaf->capacity);
	copy->length = leaf->length;
	copy->capacity = leaf->capacity;
	memcpy(copy->data, leaf->data, leaf->capacity);
}

static struct faults *faults_create(struct kunit *test)
{
	struct faults *f = memleaf_valloc(test, sizeof(*f));
	const struct image_cfg *cfg;

	f->test = test;
	f->cfg = test->param_value;
	cfg = &f->cfg->image;
	f->img = image_create(test, cfg, 3 * cfg->size + 32 * KB);
	f->sectors = cfg->size / 512;
	f->base = memleaf_valloc(test, cfg->size);
	f->now = memleaf_valloc(test, f->sectors * sizeof(*f->now));
	f->stable = memleaf_valloc(test, f->sectors * sizeof(*f->stable));
	image_check_init(&f->check, f->img);
	faults_base_make(f);
	faults_copy(f, &f->copies[0], f->img->leaf);
	if (f->img->data)
		faults_copy(f, &f->copies[1], f->img->data);
	return f;
}

static void faults_leaf(struct faults *f, struct memleaf *leaf)
{
	faults_sweep(f, leaf, FAULTS_ONCE, FAULTS_ANY, -EIO);
	faults_sweep(f, leaf, FAULTS_FOREVER, FAULTS_ANY, -EIO);
	faults_sweep(f, leaf, FAULTS_CURED, FAULTS_WRITE, -ENOSPC);
	if (!f->cfg->image.fixed)
		faults_sweep(f, leaf, FAULTS_FULL, 0, -ENOSPC);
}

/* The last run was left alone: has it done what it is there for? */
static void faults_expect_blocks(struct faults *f)
{
	const u8 *data = f->img->leaf->data;
	u64 table = get_unaligned_be64(data + 48);

	if (f->ok && f->cfg->blocks)
		KUNIT_EXPECT_NE(f->test, 0,
				get_unaligned_be64(data + table +
						   (f->cfg->blocks - 1) * 8));
}

static void faults_all(struct kunit *test)
{
	struct faults *f = faults_create(test);

	faults_leaf(f, f->img->leaf);
	faults_expect_blocks(f);
	if (f->img->data)
		faults_leaf(f, f->img->data);
	kunit_info(test, "%u runs\n", f->runs);
}

static struct kunit_case faults_kunit_cases[] = {
	KUNIT_CASE_PARAM_ATTR(faults_all, faults_cfg_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite faults_kunit_suite = {
	.name = "qblk_qcow2_faults",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = faults_kunit_cases,
};

kunit_test_suite(faults_kunit_suite);
