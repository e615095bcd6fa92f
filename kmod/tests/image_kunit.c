// SPDX-License-Identifier: GPL-2.0
#include "image.h"

#include <linux/math.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/stdarg.h>
#include <linux/string.h>

#include "../format/qcow2/format.h"

/* Numbers on disk */

static u64 image_be64(const u8 *data, u64 offset)
{
	return get_unaligned_be64(data + offset);
}

static u32 image_be32(const u8 *data, u64 offset)
{
	return get_unaligned_be32(data + offset);
}

static void image_put64(struct image *img, u64 offset, u64 value)
{
	put_unaligned_be64(value, img->leaf->data + offset);
}

static void image_put32(struct image *img, u64 offset, u32 value)
{
	put_unaligned_be32(value, img->leaf->data + offset);
}

/* Where an entry is: as the format's text says */
static u8 refcount_model_place(u32 order, u32 index, u64 *byte, u32 *shift)
{
	u32 bits = 1U << order;

	*byte = (u64)index * bits / 8;
	*shift = index * bits % 8;
	return bits < 8 ? (1U << bits) - 1 : 0xff;
}

/**
 * refcount_model_get - read a refcount byte by byte
 * @block: refcount block
 * @order: log2 of the bits of an entry
 * @index: entry
 */
u64 refcount_model_get(const u8 *block, u32 order, u32 index)
{
	u64 value = 0, byte;
	u32 shift, n;
	u8 mask = refcount_model_place(order, index, &byte, &shift);

	for (n = 1; n <= 1U << order; n += 8)
		value = value << 8 | (block[byte++] >> shift & mask);
	return value;
}

/**
 * refcount_model_set - change a refcount byte by byte
 * @block: refcount block
 * @order: log2 of the bits of an entry
 * @index: entry
 * @value: new value
 */
void refcount_model_set(u8 *block, u32 order, u32 index, u64 value)
{
	u32 bits = 1U << order;
	u64 byte;
	u32 shift;
	u8 mask = refcount_model_place(order, index, &byte, &shift);

	for (bits = max(bits, 8U); bits; bits -= 8, byte++) {
		block[byte] &= ~(mask << shift);
		block[byte] |= (value >> (bits - 8) & mask) << shift;
	}
}

/* Making an image */

static u8 *image_refblock(struct image *img, u64 cluster, u32 *index)
{
	u32 bits = img->cfg->cluster_bits + 3 - img->cfg->refcount_order;
	u64 table = image_be64(img->leaf->data, 48);
	u64 block = image_be64(img->leaf->data, table + (cluster >> bits) * 8);

	KUNIT_ASSERT_NE_MSG(img->test, 0, block,
			    "cluster %llu has no refcount block", cluster);
	*index = cluster & ((1ULL << bits) - 1);
	return img->leaf->data + block;
}

static u64 image_refcount(struct image *img, u64 cluster)
{
	u32 index;
	u8 *block = image_refblock(img, cluster, &index);

	return refcount_model_get(block, img->cfg->refcount_order, index);
}

/**
 * image_ref - count another reference by hand
 * @img: image, closed
 * @cluster: which is referred to
 */
void image_ref(struct image *img, u64 cluster)
{
	u32 order = img->cfg->refcount_order;
	u32 index;
	u8 *block = image_refblock(img, cluster, &index);

	refcount_model_set(block, order, index,
			   refcount_model_get(block, order, index) + 1);
}

/**
 * image_add_cluster - allocate a cluster by hand
 * @img: image, closed
 *
 * Return: its host offset; it has one reference and is zeroed.
 */
u64 image_add_cluster(struct image *img)
{
	struct memleaf *leaf = img->leaf;
	u64 offset;

	while (image_refcount(img, img->next))
		img->next++;
	image_ref(img, img->next);
	offset = img->next++ * img->cs;
	KUNIT_ASSERT_LE(img->test, offset + img->cs, leaf->capacity);
	leaf->length = max(leaf->length, offset + img->cs);
	memset(leaf->data + offset, 0, img->cs);
	return offset;
}

/**
 * image_set_l2 - set an L2 entry by hand
 * @img: image, closed
 * @guest: offset of the guest cluster
 * @entry: the entry; references are the caller's business
 */
void image_set_l2(struct image *img, u64 guest, u64 entry)
{
	u64 cluster = guest / img->cs;
	u32 per_table = img->cs / img->l2e;
	u64 l1e = img->l1_offset + cluster / per_table * 8;
	u64 table = image_be64(img->leaf->data, l1e) & QCOW2_L1E_OFFSET_MASK;

	if (!table) {
		table = image_add_cluster(img);
		image_put64(img, l1e, table | QCOW2_OFLAG_COPIED);
	}
	image_put64(img, table + cluster % per_table * img->l2e, entry);
}

/**
 * image_set_dirty - as if the image had not been closed
 * @img: image of version 3, closed
 */
void image_set_dirty(struct image *img)
{
	image_put64(img, 72, image_be64(img->leaf->data, 72) |
			     QCOW2_INCOMPAT_DIRTY);
}

static u64 image_features(const struct image_cfg *cfg)
{
	return (cfg->extl2 ? QCOW2_INCOMPAT_EXTL2 : 0) |
	       (cfg->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0);
}

static void image_put_header(struct image *img)
{
	const struct image_cfg *cfg = img->cfg;

	image_put32(img, 0, QCOW2_MAGIC);
	image_put32(img, 4, cfg->version);
	image_put32(img, 20, cfg->cluster_bits);
	image_put64(img, 24, cfg->size);
	image_put32(img, 36, img->l1_size);
	image_put64(img, 40, img->l1_offset);
	image_put64(img, 48, img->cs);
	image_put32(img, 56, 1);
	if (cfg->version == 2)
		return;
	image_put64(img, 72, image_features(cfg));
	if (cfg->lazy)
		image_put64(img, 80, QCOW2_COMPAT_LAZY_REFCOUNTS);
	if (cfg->raw)
		image_put64(img, 88, QCOW2_AUTOCLEAR_DATA_FILE_RAW);
	image_put32(img, 96, cfg->refcount_order);
	image_put32(img, 100, 104);
}

/* Header, refcount table, refcount block, L1 table */
static void image_format(struct image *img)
{
	const struct image_cfg *cfg = img->cfg;
	u64 table = (u64)img->cs * img->cs / img->l2e;
	u64 i;

	img->l1_size = (cfg->size + table - 1) / table;
	img->l1_offset = 3ULL * img->cs;
	img->next = 3 + DIV_ROUND_UP_ULL(img->l1_size * 8ULL, img->cs);
	KUNIT_ASSERT_LE(img->test, img->next * img->cs, img->leaf->capacity);
	image_put_header(img);
	image_put64(img, img->cs, 2ULL * img->cs);
	for (i = 0; i < img->next; i++)
		image_ref(img, i);
	img->leaf->length = cfg->fixed ?: img->next * img->cs;
}

static void image_add_backing(struct image *img)
{
	u64 length = img->cfg->backing;
	struct memleaf *back;

	back = memleaf_alloc(img->test, length, round_up(length, 4096));
	image_fill(back->data, 0, length, IMAGE_BACKING_SEED);
	memcpy(img->model, back->data, min(length, img->cfg->size));
	img->back = back;
	memleaf_open(back, "kunit-back", true);
}

static void image_add_data_file(struct image *img, u64 capacity)
{
	img->data = memleaf_alloc(img->test, 0, capacity);
	img->data->limits.can_grow = true;
	if (img->cfg->align)
		img->data->limits.request_alignment = img->cfg->align;
	memleaf_open(img->data, "kunit-data", false);
}

/**
 * image_create - make an empty image, and open the leaves
 * @test: case it belongs to
 * @cfg: what it looks like
 * @capacity: bytes the file can grow to
 */
struct image *image_create(struct kunit *test, const struct image_cfg *cfg,
			   u64 capacity)
{
	struct image *img = kunit_kzalloc(test, sizeof(*img), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, img);
	img->test = test;
	img->cfg = cfg;
	img->cs = 1U << cfg->cluster_bits;
	img->l2e = cfg->extl2 ? 16 : 8;
	img->unit = cfg->extl2 ? img->cs / 32 : img->cs;
	img->leaf = memleaf_alloc(test, 0, cfg->fixed ?: capacity);
	img->leaf->limits.can_grow = !cfg->fixed;
	if (cfg->align)
		img->leaf->limits.request_alignment = cfg->align;
	img->model = memleaf_valloc(test, cfg->size);
	img->scratch = memleaf_valloc(test, cfg->size);
	image_format(img);
	memleaf_open(img->leaf, "kunit-file", false);
	if (cfg->data_file)
		image_add_data_file(img, round_up(cfg->size, img->cs));
	if (cfg->backing)
		image_add_backing(img);
	return img;
}

/**
 * image_try_open - open the node of an image, if the driver wants it
 * @img: image, closed
 * @err: gets the sentence on failure
 *
 * With the smallest caches, so that slices come and go, unless it says more.
 *
 * Return: 0, or a negative errno, and it is still closed.
 */
int image_try_open(struct image *img, struct qblk_err *err)
{
	struct qblk_opt opts[] = {
		{ .key = "l2-cache-size", .value = img->l2_cache ?: "4096" },
		{ .key = "refcount-cache-size", .value = "4K" },
		{ .key = "overlap-check", .value = img->overlap_check },
	};
	struct qblk_child_ref children[] = {
		{ .name = "file", .node = img->leaf->node },
		{}, {},
	};
	struct qblk_node_params p = {
		.driver = "qcow2",
		.name = "kunit-img",
		.opts = opts,
		.nr_opts = img->overlap_check ? 3 : 2,
		.children = children,
		.nr_children = 1,
	};
	struct qblk_node *node;

	if (img->data)
		children[p.nr_children++] = (struct qblk_child_ref){
			.name = "data-file", .node = img->data->node,
		};
	if (img->back)
		children[p.nr_children++] = (struct qblk_child_ref){
			.name = "backing", .node = img->back->node,
		};
	node = memleaf_node_open(img->test, &p, err);
	if (IS_ERR(node))
		return PTR_ERR(node);
	img->node = node;
	memleaf_edge_init(&img->edge, node);
	return 0;
}

/**
 * image_open - open the node of an image
 * @img: image, closed, that the driver has to want
 */
void image_open(struct image *img)
{
	struct qblk_err err = {};

	KUNIT_ASSERT_EQ_MSG(img->test, 0, image_try_open(img, &err), "%s",
			    err.msg);
}

/**
 * image_close - write everything back and close the node
 * @img: image, open
 *
 * Return: 0, or an error, and it is still open.
 */
int image_close(struct image *img)
{
	int ret = memleaf_node_close(img->test, img->node);

	if (!ret)
		img->node = NULL;
	return ret;
}

static void image_share_entry(struct image *img, u64 where)
{
	u64 entry = image_be64(img->leaf->data, where);

	if (!(entry & QCOW2_L2E_OFFSET_MASK))
		return;
	KUNIT_ASSERT_FALSE(img->test, entry & QCOW2_OFLAG_COMPRESSED);
	image_ref(img, (entry & QCOW2_L2E_OFFSET_MASK) / img->cs);
	image_put64(img, where, entry & ~QCOW2_OFLAG_COPIED);
}

/**
 * image_add_snapshot - let an internal snapshot share everything there is
 * @img: image, closed, with refcounts of two bits or more
 */
void image_add_snapshot(struct image *img)
{
	u8 *data = img->leaf->data;
	u64 table = image_add_cluster(img);
	u64 i, j, l2;

	/* one cluster is enough for the L1 table of any image here */
	KUNIT_ASSERT_LE(img->test, img->l1_size * 8, img->cs);
	img->snap_l1 = image_add_cluster(img);
	for (i = 0; i < img->l1_size; i++) {
		l2 = image_be64(data, img->l1_offset + i * 8) &
		     QCOW2_L1E_OFFSET_MASK;
		for (j = 0; l2 && j < img->cs; j += img->l2e)
			image_share_entry(img, l2 + j);
		image_share_entry(img, img->l1_offset + i * 8);
	}
	memcpy(data + img->snap_l1, data + img->l1_offset, img->l1_size * 8);
	image_put64(img, table, img->snap_l1);
	image_put32(img, table + 8, img->l1_size);
	image_put32(img, 60, 1);
	image_put64(img, 64, table);
}

/* Checking an image */

/**
 * image_check_init - prepare to look at an image
 * @c: to be prepared
 * @img: the image
 */
void image_check_init(struct image_check *c, const struct image *img)
{
	*c = (struct image_check) {
		.image = img,
		.nr = img->leaf->capacity / img->cs,
	};
	c->refs = memleaf_valloc(img->test, c->nr * sizeof(*c->refs));
}

static __printf(2, 3) bool check_bad(struct image_check *c, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, args);
	va_end(args);
	return false;
}

/* A reference to @nr clusters at @offset */
static bool check_ref(struct image_check *c, u64 offset, u64 nr,
		      const char *what)
{
	u64 first = offset / c->image->cs;

	if (offset % c->image->cs || first + nr > c->nr)
		return check_bad(c, "%s at 0x%llx", what, offset);
	while (nr--)
		c->refs[first + nr]++;
	return true;
}

static u64 check_refcount(const struct image_check *c, u64 cluster)
{
	const struct image_cfg *cfg = c->image->cfg;
	u32 bits = cfg->cluster_bits + 3 - cfg->refcount_order;
	u64 table = image_be64(c->data, 48);
	u64 size = (u64)image_be32(c->data, 56) * c->image->cs / 8;
	u64 block;

	if (cluster >> bits >= size)
		return 0;
	block = image_be64(c->data, table + (cluster >> bits) * 8);
	if (!block)
		return 0;
	return refcount_model_get(c->data + block, cfg->refcount_order,
				  cluster & ((1ULL << bits) - 1));
}

/* Of the active tables: QEMU takes a wrong flag for corruption. */
static bool check_copied(struct image_check *c, u64 entry, const char *what)
{
	u64 offset = entry & QCOW2_L2E_OFFSET_MASK;
	u64 refcount = check_refcount(c, offset / c->image->cs);
	bool copied = entry & QCOW2_OFLAG_COPIED;
	bool alone = refcount == 1;

	if (c->dirty || copied == alone)
		return true;
	return check_bad(c, "%s entry 0x%llx, refcount %llu", what, entry,
			 refcount);
}

static bool check_compressed(struct image_check *c, u64 entry)
{
	u32 shift = 62 - (c->image->cfg->cluster_bits - 8);
	u64 offset = entry & ((1ULL << shift) - 1);
	u64 sectors = (entry & ~(3ULL << 62)) >> shift;
	u64 first = offset / c->image->cs;
	u64 last = (offset / 512 + sectors) * 512 / c->image->cs;

	if (entry & QCOW2_OFLAG_COPIED)
		return check_bad(c, "compressed entry 0x%llx", entry);
	return check_ref(c, first * c->image->cs, last - first + 1,
			 "compressed cluster");
}

/* Subclusters are data or zeroes or neither; data needs a cluster. */
static bool check_bitmap(struct image_check *c, u64 entry, u64 bitmap)
{
	u64 offset = entry & QCOW2_L2E_OFFSET_MASK;

	if (entry & QCOW2_OFLAG_ZERO || (bitmap >> 32 & bitmap) ||
	    ((u32)bitmap && !offset && !c->image->data) ||
	    (bitmap && entry & QCOW2_OFLAG_COMPRESSED))
		return check_bad(c, "L2 entry 0x%llx, bitmap 0x%llx", entry,
				 bitmap);
	return true;
}

/* In a data file clusters are where the guest has them, and not counted. */
static bool check_data_file(struct image_check *c, u64 entry, u64 guest)
{
	u64 offset = entry & QCOW2_L2E_OFFSET_MASK;

	if (entry & QCOW2_OFLAG_COMPRESSED || offset != guest ||
	    !(entry & QCOW2_OFLAG_COPIED))
		return check_bad(c, "L2 entry 0x%llx for 0x%llx", entry, guest);
	return true;
}

static bool check_l2_entry(struct image_check *c, u64 where, u64 guest,
			   bool active)
{
	u64 entry = image_be64(c->data, where);
	u64 offset = entry & QCOW2_L2E_OFFSET_MASK;

	if (c->image->cfg->extl2 &&
	    !check_bitmap(c, entry, image_be64(c->data, where + 8)))
		return false;
	if (entry & QCOW2_OFLAG_COMPRESSED)
		return check_compressed(c, entry);
	if (entry & QCOW2_OFLAG_ZERO && c->image->cfg->version < 3)
		return check_bad(c, "zero cluster in version 2");
	if (!offset && !(entry & ~QCOW2_OFLAG_ZERO))
		return true;
	if (c->image->data)
		return check_data_file(c, entry, guest);
	if (!offset)
		return check_bad(c, "L2 entry 0x%llx", entry);
	return check_ref(c, offset, 1, "data cluster") &&
	       (!active || check_copied(c, entry, "L2"));
}

static bool check_l1(struct image_check *c, u64 l1, bool active)
{
	const struct image *img = c->image;
	u64 i, j, entry, l2;

	if (!check_ref(c, l1, DIV_ROUND_UP_ULL(img->l1_size * 8ULL, img->cs),
		       "L1 table"))
		return false;
	for (i = 0; i < img->l1_size; i++) {
		entry = image_be64(c->data, l1 + i * 8);
		if (!entry)
			continue;
		l2 = entry & QCOW2_L1E_OFFSET_MASK;
		if (!check_ref(c, l2, 1, "L2 table") ||
		    (active && !check_copied(c, entry, "L1")))
			return false;
		for (j = 0; j < img->cs; j += img->l2e)
			if (!check_l2_entry(c, l2 + j,
					    (i * img->cs + j) / img->l2e * img->cs,
					    active))
				return false;
	}
	return true;
}

static bool check_refcount_structures(struct image_check *c)
{
	u64 table = image_be64(c->data, 48);
	u32 clusters = image_be32(c->data, 56);
	u64 i, block;

	if (!table || !check_ref(c, table, clusters, "refcount table"))
		return check_bad(c, "refcount table at 0x%llx", table);
	for (i = 0; i < (u64)clusters * c->image->cs / 8; i++) {
		block = image_be64(c->data, table + i * 8);
		if (block && !check_ref(c, block, 1, "refcount block"))
			return false;
	}
	return true;
}

static bool check_header(struct image_check *c)
{
	const struct image *img = c->image;
	u64 features = image_features(img->cfg);
	u64 found = image_be64(c->data, 72);

	c->dirty = img->cfg->lazy && found & QCOW2_INCOMPAT_DIRTY;
	if (c->dirty)
		features |= QCOW2_INCOMPAT_DIRTY;
	if (image_be32(c->data, 0) != QCOW2_MAGIC ||
	    image_be32(c->data, 36) != img->l1_size ||
	    image_be64(c->data, 40) != img->l1_offset)
		return check_bad(c, "header");
	if (img->cfg->version >= 3 && found != features)
		return check_bad(c, "incompatible features 0x%llx", found);
	return check_ref(c, 0, 1, "header");
}

/* Without a snapshot nothing is shared: what was reused was free. */
static bool check_alone(struct image_check *c)
{
	u64 i;

	for (i = 0; i < c->nr; i++)
		if (c->refs[i] > 1 && !c->image->snap_l1)
			return check_bad(c, "cluster %llu: dirty, %u references",
					 i, c->refs[i]);
	return true;
}

static bool check_refcounts(struct image_check *c)
{
	u64 i, refcount;

	c->leaks = 0;
	if (c->dirty)
		return check_alone(c);
	for (i = 0; i < c->nr; i++) {
		refcount = check_refcount(c, i);
		if (refcount < c->refs[i])
			return check_bad(c, "cluster %llu: refcount %llu, %u references",
					 i, refcount, c->refs[i]);
		c->leaks += refcount > c->refs[i];
	}
	return true;
}

/**
 * image_check - are the structures of an image consistent?
 * @c: from image_check_init()
 * @data: its contents
 *
 * Return: false if something is wrong, which is then in &image_check.why;
 * leaked clusters are only counted.
 */
bool image_check(struct image_check *c, const u8 *data)
{
	const struct image *img = c->image;

	c->data = data;
	c->why[0] = '\0';
	memset(c->refs, 0, c->nr * sizeof(*c->refs));
	if (!check_header(c) || !check_refcount_structures(c) ||
	    !check_l1(c, img->l1_offset, true))
		return false;
	if (img->snap_l1 &&
	    (!check_ref(c, image_be64(data, 64), 1, "snapshot table") ||
	     !check_l1(c, img->snap_l1, false)))
		return false;
	return check_refcounts(c);
}

static const u8 *image_backing(const struct image *img, u64 guest)
{
	if (img->back && guest < img->cfg->backing)
		return img->back->data + guest;
	return page_address(ZERO_PAGE(0));
}

/**
 * image_lookup - where a sector is
 * @img: an image
 * @data: contents, found consistent
 * @guest: offset of the sector
 *
 * Return: its bytes.
 */
const u8 *image_lookup(const struct image *img, const u8 *data, u64 guest)
{
	u64 cluster = guest / img->cs;
	u32 per_table = img->cs / img->l2e;
	u32 sc = guest % img->cs / img->unit;
	const u8 *clusters = img->data ? img->data->data : data;
	u64 l2, entry, bitmap = 1;

	l2 = image_be64(data, img->l1_offset + cluster / per_table * 8) &
	     QCOW2_L1E_OFFSET_MASK;
	if (!l2)
		return image_backing(img, guest);
	l2 += cluster % per_table * img->l2e;
	entry = image_be64(data, l2);
	if (entry & QCOW2_OFLAG_COMPRESSED)
		return img->plain + guest;
	if (img->cfg->extl2)
		bitmap = image_be64(data, l2 + 8);
	if (entry & QCOW2_OFLAG_ZERO || bitmap & BIT_ULL(32 + sc))
		return page_address(ZERO_PAGE(0));
	if (entry && bitmap & BIT_ULL(sc))
		return clusters + (entry & QCOW2_L2E_OFFSET_MASK) +
		       guest % img->cs;
	return image_backing(img, guest);
}

/**
 * image_snapshot_is - has the snapshot the contents that it should have?
 * @img: the image, closed
 * @model: what the disk held when the snapshot was taken
 *
 * Found through the snapshot's L1 table.
 */
bool image_snapshot_is(struct image *img, const u8 *model)
{
	u64 pos, l1 = img->l1_offset;
	bool same = true;

	img->l1_offset = img->snap_l1;
	for (pos = 0; same && pos < img->cfg->size; pos += IMAGE_SECTOR)
		same = !memcmp(model + pos,
			       image_lookup(img, img->leaf->data, pos),
			       IMAGE_SECTOR);
	img->l1_offset = l1;
	return same;
}

/**
 * image_expect_consistent - check a closed image; leaks are allowed
 * @img: the image
 */
void image_expect_consistent(struct image *img)
{
	struct image_check c;

	image_check_init(&c, img);
	KUNIT_EXPECT_TRUE_MSG(img->test, image_check(&c, img->leaf->data),
			      "%s", c.why);
}

/**
 * image_expect_clean - check a closed image; every cluster has to be accounted for
 * @img: the image
 */
void image_expect_clean(struct image *img)
{
	struct image_check c;

	image_check_init(&c, img);
	KUNIT_EXPECT_TRUE_MSG(img->test, image_check(&c, img->leaf->data),
			      "%s", c.why);
	KUNIT_EXPECT_EQ(img->test, 0, c.leaks);
}

/* I/O */

/**
 * image_fill - bytes that tell where they belong and who wrote them
 * @buf: buffer
 * @offset: guest offset of its first byte
 * @bytes: its length
 * @seed: who, not 0
 */
void image_fill(u8 *buf, u64 offset, u64 bytes, u32 seed)
{
	u32 word = 0;
	u64 i;

	for (i = 0; i < bytes; i++, offset++) {
		if (!i || !(offset & 3))
			word = image_word(offset, seed);
		buf[i] = word >> (offset & 3) * 8;
	}
}

/**
 * struct image_io - a write that was started
 * @io: what the image works on
 * @bio: what that points to
 * @status: how it ended
 * @done: it has
 */
struct image_io {
	struct qblk_io io;
	struct bio bio;
	blk_status_t status;
	struct completion done;
};

static void image_end_io(struct qblk_io *io, blk_status_t status)
{
	struct image_io *iio = io->private;

	iio->status = status;
	complete(&iio->done);
}

/* The pages of a buffer, one by one */
static void image_bio_init(struct bio *bio, struct bio_vec *bv, void *buf,
			   u64 bytes)
{
	unsigned int nr;
	u64 n;

	bio_init(bio, NULL, bv, 0, REQ_OP_WRITE);
	bio->bi_iter.bi_size = bytes;
	for (nr = 0; bytes; nr++, bytes -= n, buf += n) {
		n = min_t(u64, bytes, PAGE_SIZE - offset_in_page(buf));
		bvec_set_page(&bv[nr], vmalloc_to_page(buf), n,
			      offset_in_page(buf));
	}
	bio->bi_vcnt = nr;
}

static int image_start_io(struct image *img, u64 offset, struct image_io *iio)
{
	iio->io.leaf = img->node;
	iio->io.offset = offset;
	iio->io.src = &iio->bio;
	iio->io.iter = iio->bio.bi_iter;
	iio->io.opf = REQ_OP_WRITE;
	iio->io.end_io = image_end_io;
	iio->io.private = iio;
	init_completion(&iio->done);
	return qblk_start_pwritev(&img->edge, &iio->io);
}

/* As the front end does it.  Return: -EAGAIN: it has to be done otherwise. */
static int image_start_write(struct image *img, u64 offset, u64 bytes,
			     void *buf)
{
	struct image_io *iio = kzalloc(sizeof(*iio), GFP_KERNEL);
	struct bio_vec *bv = kvmalloc_array(DIV_ROUND_UP(bytes, PAGE_SIZE) + 1,
					    sizeof(*bv), GFP_KERNEL);
	int ret = -EAGAIN;

	if (!iio || !bv)
		goto out_free;
	image_bio_init(&iio->bio, bv, buf, bytes);
	ret = image_start_io(img, offset, iio);
	if (ret)
		goto out_uninit;
	wait_for_completion(&iio->done);
	ret = blk_status_to_errno(iio->status);
out_uninit:
	bio_uninit(&iio->bio);
out_free:
	kvfree(bv);
	kfree(iio);
	return ret;
}

/**
 * image_pwrite - write
 * @img: image, open
 * @offset: where
 * @bytes: how much
 * @buf: from vmalloc()
 */
int image_pwrite(struct image *img, u64 offset, u64 bytes, void *buf)
{
	int ret = -EAGAIN;

	if (img->start)
		ret = image_start_write(img, offset, bytes, buf);
	return ret == -EAGAIN ? qblk_pwrite(&img->edge, offset, bytes, buf, 0) :
				ret;
}

/**
 * image_write - write a pattern
 * @img: image, open
 * @offset: where
 * @bytes: how much
 * @seed: of the pattern
 *
 * Return: what qblk_pwrite() says; the model changes only with success.
 */
int image_write(struct image *img, u64 offset, u64 bytes, u32 seed)
{
	int ret;

	image_fill(img->scratch, offset, bytes, seed);
	ret = image_pwrite(img, offset, bytes, img->scratch);
	if (!ret)
		memcpy(img->model + offset, img->scratch, bytes);
	return ret;
}

/**
 * image_zero - write zeroes
 * @img: image, open
 * @offset: where
 * @bytes: how much
 * @flags: QBLK_REQ_*
 */
int image_zero(struct image *img, u64 offset, u64 bytes, unsigned int flags)
{
	int ret = qblk_pwrite_zeroes(&img->edge, offset, bytes, flags);

	if (!ret)
		memset(img->model + offset, 0, bytes);
	return ret;
}

/**
 * image_discard_range - which part of a discard has an effect
 * @img: image, open
 * @offset: where it starts
 * @bytes: its length; 0 for no effect
 */
void image_discard_range(const struct image *img, u64 *offset, u64 *bytes)
{
	u64 end = *offset + *bytes;

	*offset = round_up(*offset, img->unit);
	/* the last cluster goes as a whole, also where the disk ends in it */
	if (end != img->cfg->size)
		end = round_down(end, img->unit);
	*bytes = end > *offset ? end - *offset : 0;
	if (img->cfg->version < 3 && img->back)
		*bytes = 0;
}

/**
 * image_discard - discard
 * @img: image, open
 * @offset: where
 * @bytes: how much
 */
int image_discard(struct image *img, u64 offset, u64 bytes)
{
	int ret = qblk_pdiscard(&img->edge, offset, bytes);

	image_discard_range(img, &offset, &bytes);
	if (!ret)
		memset(img->model + offset, 0, bytes);
	return ret;
}

/**
 * image_expect_data - compare with the model
 * @img: image, open
 * @offset: where
 * @bytes: how much
 */
void image_expect_data(struct image *img, u64 offset, u64 bytes)
{
	u64 i;

	memset(img->scratch, 0x5a, bytes);
	KUNIT_ASSERT_EQ(img->test, 0, qblk_pread(&img->edge, offset, bytes,
						 img->scratch));
	if (!memcmp(img->scratch, img->model + offset, bytes))
		return;
	for (i = 0; img->scratch[i] == img->model[offset + i]; i++)
		;
	KUNIT_FAIL(img->test, "byte at 0x%llx is 0x%02x, should be 0x%02x",
		   offset + i, img->scratch[i], img->model[offset + i]);
}
