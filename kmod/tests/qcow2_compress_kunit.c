// SPDX-License-Identifier: GPL-2.0
/*
 * Compressed clusters: where they are, how they are read, and how their host
 * clusters, which they share, lose references.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/string.h>

#include "../format/qcow2/qcow2.h"
#include "image.h"

/* "qblk kunit " over and over, 4096 bytes of it, as raw deflate */
static const u8 compress_deflate[] = {
	0xed, 0xc6, 0xb1, 0x09, 0x00, 0x20, 0x0c, 0x00, 0xb0, 0x57, 0x7a, 0x9b,
	0x9b, 0x54, 0x84, 0x82, 0xfe, 0xdf, 0x3f, 0x4a, 0x32, 0xa5, 0xd6, 0xc9,
	0xc8, 0x7f, 0xf7, 0x8b, 0x52, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0xd5,
	0x99, 0x6d,
};

/* 4096 times 0x5a: a Zstandard frame of one run-length block */
static const u8 compress_zstd[] = {
	0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f, 0x03, 0x80, 0x00, 0x5a,
};

/* The first cluster after header, refcounts and L1 table */
#define COMPRESS_HOST	(4 * 4096)

static const char compress_text[] = "qblk kunit ";

static const struct image_cfg compress_cfg = {
	.desc = "compressed",
	.version = 3, .cluster_bits = 12, .refcount_order = 4,
	.size = 256 << 10, .backing = 256 << 10,
};

static const struct image_cfg compress_v2_cfg = {
	.desc = "compressed, version 2",
	.version = 2, .cluster_bits = 12, .refcount_order = 4,
	.size = 256 << 10,
};

/* 4096 bytes in three different forms */
enum compress_form {
	COMPRESS_DEFLATE,
	COMPRESS_STORED,
	COMPRESS_ZSTD,
};

/* Put one at @host, any byte.  Return: bytes it takes. */
static u32 compress_put(struct image *img, u64 host, enum compress_form form)
{
	u8 *p = img->leaf->data + host;

	switch (form) {
	case COMPRESS_DEFLATE:
		memcpy(p, compress_deflate, sizeof(compress_deflate));
		return sizeof(compress_deflate);
	case COMPRESS_ZSTD:
		memcpy(p, compress_zstd, sizeof(compress_zstd));
		return sizeof(compress_zstd);
	default:
		/* the last block, stored: length and its complement */
		p[0] = 1;
		put_unaligned_le16(4096, p + 1);
		put_unaligned_le16(~4096, p + 3);
		image_fill(p + 5, 0, 4096, 77);
		return 5 + 4096;
	}
}

static void compress_model(u8 *model, enum compress_form form)
{
	u32 i;

	switch (form) {
	case COMPRESS_DEFLATE:
		for (i = 0; i < 4096; i++)
			model[i] = compress_text[i % strlen(compress_text)];
		break;
	case COMPRESS_ZSTD:
		memset(model, 0x5a, 4096);
		break;
	default:
		image_fill(model, 0, 4096, 77);
		break;
	}
}

static u64 compress_entry(u64 host, u32 sectors)
{
	return QCOW2_OFLAG_COMPRESSED | (u64)(sectors - 1) << (70 - 12) | host;
}

/* A guest cluster in compressed form at @host; references are not counted */
static void compress_add(struct image *img, u64 guest, u64 host,
			 enum compress_form form)
{
	u32 bytes = compress_put(img, host, form);
	u32 sectors = (host + bytes - 1) / 512 - host / 512 + 1;

	image_set_l2(img, guest, compress_entry(host, sectors));
	compress_model(img->model + guest, form);
}

/*
 * Guest clusters 0 and 1 share a host cluster, guest cluster 3 starts in it and
 * ends in the next one.
 */
static struct image *compress_create(struct kunit *test,
				     const struct image_cfg *cfg)
{
	struct image *img = image_create(test, cfg, 1 << 20);
	u64 host = image_add_cluster(img);
	u64 next = image_add_cluster(img);

	KUNIT_ASSERT_EQ(test, COMPRESS_HOST, host);
	KUNIT_ASSERT_EQ(test, host + img->cs, next);
	compress_add(img, 0, host + 3, COMPRESS_DEFLATE);
	compress_add(img, img->cs, host + 500, COMPRESS_DEFLATE);
	compress_add(img, 3 * img->cs, host + 1000, COMPRESS_STORED);
	image_ref(img, host / img->cs);
	image_ref(img, host / img->cs);
	image_expect_clean(img);
	return img;
}

static void compress_read(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);

	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	image_expect_data(img, 100, 50);
	image_expect_data(img, 4000, 5000);
	image_expect_data(img, 3 * 4096 + 511, 2);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Without sleeping it cannot be told; and it is never overwritten in place. */
static void compress_map(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);
	struct qblk_mapping m;

	image_open(img);
	image_expect_data(img, 0, 512);
	KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, 512, 16384, 0, &m));
	qblk_tracks_release(&m.tracks);
	KUNIT_EXPECT_EQ(test, QBLK_MAP_ENCODED, m.type);
	KUNIT_EXPECT_PTR_EQ(test, img->node, m.node);
	KUNIT_EXPECT_EQ(test, 512, m.offset);
	/* all that lies together, to the end of the question */
	KUNIT_EXPECT_EQ(test, 8192 - 512, m.bytes);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			qblk_map(img->node, 0, 4096, QBLK_MAP_WRITE, &m));
}

static void compress_overwrite(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);

	image_open(img);
	/* all of one, the middle of the next, the end of one and beyond */
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 4096, 1));
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 5000, 100, 2));
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 4 * 4096 - 5, 10, 3));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

static void compress_discard(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);

	image_open(img);
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, 4096));
	KUNIT_ASSERT_EQ(test, 0, image_zero(img, 4096, 4096, 0));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_zero(img, 12288 + 512, 512, 0));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);

	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, img->cfg->size));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

static void compress_version_2(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_v2_cfg);

	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 5000, 100, 2));
	KUNIT_ASSERT_EQ(test, 0, image_discard(img, 0, 4096));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

static void compress_use_zstd(struct image *img)
{
	u8 *data = img->leaf->data;

	put_unaligned_be64(QCOW2_INCOMPAT_COMPRESSION, data + 72);
	put_unaligned_be32(112, data + 100);
	data[104] = QCOW2_COMPRESSION_ZSTD;
}

static void compress_read_zstd(struct kunit *test)
{
	struct image *img = image_create(test, &compress_cfg, 1 << 20);
	u64 host = image_add_cluster(img);

	compress_use_zstd(img);
	compress_add(img, 4096, host + 511, COMPRESS_ZSTD);
	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 5000, 100, 2));
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* As QEMU does: frames follow each other, and one may hold nothing. */
static void compress_zstd_frames(struct kunit *test)
{
	static const u8 empty[] = {
		0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00,
	};
	struct image *img = image_create(test, &compress_cfg, 1 << 20);
	u64 host = image_add_cluster(img);
	u8 *p = img->leaf->data + host;

	compress_use_zstd(img);
	memcpy(p, empty, sizeof(empty));
	memcpy(p + sizeof(empty), empty, sizeof(empty));
	compress_put(img, host + 2 * sizeof(empty), COMPRESS_ZSTD);
	image_set_l2(img, 4096, compress_entry(host, 1));
	compress_model(img->model + 4096, COMPRESS_ZSTD);
	image_open(img);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));

	/* empty ones up to the end of the sector, and no cluster */
	for (p = img->leaf->data + host; p < img->leaf->data + host + 504;
	     p += sizeof(empty))
		memcpy(p, empty, sizeof(empty));
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 4096, 512,
					       img->scratch));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* Small reads of one cluster decompress it once, large ones leave it alone. */
static void compress_cached(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);
	struct qcow2_state *s;
	unsigned int i, reads;

	image_open(img);
	s = img->node->priv;
	image_expect_data(img, 0, 512);
	reads = img->leaf->count[MEMLEAF_READ];
	for (i = 0; i < 8; i++)
		image_expect_data(img, i * 512, 512);
	image_expect_data(img, 0, 4096);
	KUNIT_EXPECT_EQ(test, reads, img->leaf->count[MEMLEAF_READ]);
	KUNIT_EXPECT_EQ(test, 1, s->zcache.nr);
	KUNIT_EXPECT_EQ(test, 9, atomic64_read(&s->zcache.hits));

	image_expect_data(img, 4096, 4096);
	KUNIT_EXPECT_EQ(test, 1, s->zcache.nr);

	/* Without memory for it, all the same */
	s->zcache.max = 0;
	qcow2_zcache_shrink(&s->zcache, ULONG_MAX);
	image_expect_data(img, 100, 50);
	KUNIT_EXPECT_EQ(test, 0, s->zcache.nr);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* What is read from the middle is kept the second time only. */
static void compress_part(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);
	struct qcow2_state *s;

	image_open(img);
	s = img->node->priv;
	image_expect_data(img, 512, 512);
	image_expect_data(img, 4096 + 3584, 512);
	KUNIT_EXPECT_EQ(test, 0, s->zcache.nr);
	image_expect_data(img, 2048, 512);
	KUNIT_EXPECT_EQ(test, 1, s->zcache.nr);
	image_expect_data(img, 1024, 3072);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&s->zcache.hits));
	/* A part is there or not, whatever follows it. */
	memset(img->leaf->data + COMPRESS_HOST + 1000 + 5 + 2048, 0xff, 4096);
	image_expect_data(img, 3 * 4096 + 512, 512);
	KUNIT_EXPECT_EQ(test, 1, s->zcache.nr);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

static void compress_part_zstd(struct kunit *test)
{
	struct image *img = image_create(test, &compress_cfg, 1 << 20);
	u64 host = image_add_cluster(img);
	struct qcow2_state *s;

	compress_use_zstd(img);
	compress_add(img, 4096, host, COMPRESS_ZSTD);
	image_open(img);
	s = img->node->priv;
	image_expect_data(img, 4096 + 512, 512);
	KUNIT_EXPECT_EQ(test, 0, s->zcache.nr);
	image_expect_data(img, 4096 + 512, 512);
	KUNIT_EXPECT_EQ(test, 1, s->zcache.nr);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* Nothing is left of what was overwritten once its place is free. */
static void compress_cache_dropped(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);
	struct qcow2_state *s;

	image_open(img);
	s = img->node->priv;
	image_expect_data(img, 0, 512);
	image_expect_data(img, 3 * 4096, 512);
	KUNIT_EXPECT_EQ(test, 2, s->zcache.nr);
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 3 * 4096, 4096, 1));
	KUNIT_ASSERT_EQ(test, 0, image_write(img, 0, 512, 1));
	KUNIT_ASSERT_EQ(test, 0, qblk_flush(&img->edge));
	flush_work(&s->free_work);
	KUNIT_EXPECT_EQ(test, 0, s->zcache.nr);
	image_expect_data(img, 0, img->cfg->size);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

/* Guest clusters of the run */
#define COMPRESS_RUN	60

/* A run long enough for several CPUs, from and to the middle of clusters */
static void compress_run(struct kunit *test)
{
	struct image *img = image_create(test, &compress_cfg, 1 << 20);
	u64 bytes = COMPRESS_RUN * 4096, host = 0;
	struct qcow2_state *s;
	struct qblk_mapping m;
	u32 i;

	for (i = 0; i < COMPRESS_RUN; i++) {
		host = image_add_cluster(img);
		/* a stored one goes on in the next cluster */
		image_add_cluster(img);
		compress_add(img, i * 4096, host + i,
			     i % 3 ? COMPRESS_DEFLATE : COMPRESS_STORED);
	}
	image_open(img);
	s = img->node->priv;
	image_expect_data(img, 0, img->cfg->size);
	image_expect_data(img, 4095, bytes - 4096);
	image_expect_data(img, 1, bytes - 2);
	KUNIT_ASSERT_EQ(test, 0, qblk_map(img->node, 100, bytes, 0, &m));
	qblk_tracks_release(&m.tracks);
	KUNIT_EXPECT_EQ(test, QBLK_MAP_ENCODED, m.type);
	KUNIT_EXPECT_EQ(test, bytes - 100, m.bytes);

	/* One that is broken and not kept: the read fails, and nobody hangs. */
	qcow2_zcache_shrink(&s->zcache, ULONG_MAX);
	memset(img->leaf->data + host + i - 1, 0xff, 100);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 0, bytes,
					       img->scratch));
	memleaf_fail(img->leaf, BIT(MEMLEAF_READ), 20, 1, -EIO);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 0, bytes - 4096,
					       img->scratch));
	image_expect_data(img, 0, bytes - 4096);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/*
 * An entry can claim almost twice the size of a cluster: the data is what it
 * says, the rest is not looked at.
 */
static void compress_longest(struct kunit *test)
{
	struct image *img = image_create(test, &compress_cfg, 1 << 20);
	u64 host = image_add_cluster(img);
	int i;

	for (i = 0; i < 2; i++)
		KUNIT_ASSERT_EQ(test, host + (i + 1) * 4096ULL,
				image_add_cluster(img));
	memset(img->leaf->data + host, 0xff, 3 * 4096);
	compress_add(img, 0, host, COMPRESS_DEFLATE);
	image_set_l2(img, 0, compress_entry(host, 16));
	image_open(img);
	image_expect_data(img, 0, 8192);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));

	compress_use_zstd(img);
	compress_add(img, 0, host + 1, COMPRESS_ZSTD);
	image_set_l2(img, 0, compress_entry(host + 1, 16));
	image_open(img);
	image_expect_data(img, 0, 8192);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* The file ends inside the last sector. */
static void compress_at_the_end(struct kunit *test)
{
	struct image *img = image_create(test, &compress_cfg, 1 << 20);
	u64 host;

	/* the L2 table comes first */
	image_set_l2(img, 0, 0);
	host = image_add_cluster(img);
	compress_add(img, 0, host + 100, COMPRESS_DEFLATE);
	img->leaf->length = host + 100 + sizeof(compress_deflate);
	image_open(img);
	image_expect_data(img, 0, 4096);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* An image inside of an image */

/* More than there are workspaces: one per CPU, and one per cluster size */
#define COMPRESS_THREADS	32

/**
 * struct compress_thread - a thread that reads from an image
 * @t: the thread
 * @edge: of the image
 * @data: what it read
 */
struct compress_thread {
	struct memleaf_thread t;
	struct qblk_child *edge;
	u8 data[512];
};

static int compress_thread_fn(struct memleaf_thread *t)
{
	struct compress_thread *ct = container_of(t, struct compress_thread, t);

	return qblk_pread(ct->edge, 0, sizeof(ct->data), ct->data);
}

/* Make cluster 0 of @inner what @outer has at COMPRESS_HOST, compressed. */
static void compress_nest(struct image *inner, const struct image *outer)
{
	u64 host = image_add_cluster(inner);
	u8 *p = inner->leaf->data + host;

	KUNIT_ASSERT_EQ(inner->test, host + inner->cs,
			image_add_cluster(inner));
	compress_put(inner, host, COMPRESS_STORED);
	memcpy(p + 5, outer->leaf->data + COMPRESS_HOST, 4096);
	image_set_l2(inner, COMPRESS_HOST, compress_entry(host, 9));
}

static struct qblk_node *compress_open_on(struct kunit *test, const char *name,
					  struct qblk_node *file)
{
	struct qblk_child_ref child = { .name = "file", .node = file };
	struct qblk_node_params p = {
		.driver = "qcow2",
		.name = name,
		.children = &child,
		.nr_children = 1,
	};
	struct qblk_err err = {};
	struct qblk_node *node = memleaf_node_open(test, &p, &err);

	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR(node), "%s", err.msg);
	return node;
}

/* The outer image, written to the inner one, but for the compressed cluster */
static struct image *compress_create_inner(struct image *outer)
{
	static const struct image_cfg cfg = {
		.desc = "inner",
		.version = 3, .cluster_bits = 12, .refcount_order = 4,
		.size = 256 << 10,
	};
	struct image *inner;

	/* The leaf of the outer one has the name. */
	KUNIT_ASSERT_EQ(outer->test, 0, memleaf_node_close(outer->test,
							   outer->leaf->node));
	inner = image_create(outer->test, &cfg, 1 << 20);
	image_open(inner);
	KUNIT_ASSERT_EQ(outer->test, 0,
			qblk_pwrite(&inner->edge, 0, COMPRESS_HOST,
				    outer->leaf->data, 0));
	KUNIT_ASSERT_EQ(outer->test, 0,
			qblk_pwrite(&inner->edge, COMPRESS_HOST + 4096,
				    64 << 10,
				    outer->leaf->data + COMPRESS_HOST + 4096,
				    0));
	KUNIT_ASSERT_EQ(outer->test, 0, image_close(inner));
	inner->next = inner->leaf->length / inner->cs;
	compress_nest(inner, outer);
	return inner;
}

/* Wait until so many lookups have found their slice */
static void compress_wait_hits(struct kunit *test, struct qcow2_cache *c,
			       s64 hits)
{
	int i;

	for (i = 0; i < 1000 && atomic64_read(&c->hits) < hits; i++)
		msleep(20);
	KUNIT_EXPECT_LE(test, hits, atomic64_read(&c->hits));
}

/*
 * Compressed clusters of an image whose file is an image with compressed
 * clusters: all reads of the outer one are at the same place before the first
 * of the inner one gets on.
 */
static void compress_nested(struct kunit *test)
{
	struct image *outer = compress_create(test, &compress_v2_cfg);
	struct image *inner = compress_create_inner(outer);
	struct qcow2_state *s, *outer_state;
	struct compress_thread *ct;
	struct qblk_child edge;
	struct qblk_node *node;
	s64 hits;
	int i;

	ct = kunit_kcalloc(test, COMPRESS_THREADS, sizeof(*ct), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ct);
	node = compress_open_on(test, "kunit-inner", inner->leaf->node);
	s = node->priv;
	memleaf_edge_init(&edge, compress_open_on(test, "kunit-outer", node));
	/* every reader of the outer one is to read the inner one */
	outer_state = edge.node->priv;
	outer_state->zcache.max = 0;
	/* the outer L2 table is in memory, the inner one is not */
	KUNIT_ASSERT_EQ(test, 0, qblk_pread(&edge, 8192, 512, ct[0].data));
	qcow2_cache_drop(&s->l2_cache, 0, 1 << 20);

	hits = atomic64_read(&s->l2_cache.hits);
	memleaf_hold(inner->leaf, BIT(MEMLEAF_READ));
	for (i = 0; i < COMPRESS_THREADS; i++) {
		ct[i].t.fn = compress_thread_fn;
		ct[i].edge = &edge;
		memleaf_thread_start(test, &ct[i].t);
	}
	KUNIT_EXPECT_TRUE(test, memleaf_wait_held(inner->leaf, 1));
	/* one reads it, the others wait for that */
	compress_wait_hits(test, &s->l2_cache, hits + COMPRESS_THREADS - 1);
	memleaf_release(inner->leaf);
	for (i = 0; i < COMPRESS_THREADS; i++) {
		wait_for_completion(&ct[i].t.done);
		KUNIT_EXPECT_EQ(test, 0, ct[i].t.ret);
		KUNIT_EXPECT_MEMEQ(test, outer->model, ct[i].data, 512);
	}
}

/* Data that is no compressed data, or too little of it */
static void compress_broken(struct kunit *test)
{
	struct image *img = compress_create(test, &compress_cfg);
	u64 host = COMPRESS_HOST;
	int zstd;

	for (zstd = 0; zstd <= 1; zstd++) {
		/* of no block type there is */
		memset(img->leaf->data + host + 3, 0xff, 100);
		image_open(img);
		KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 0, 512,
						       img->scratch));
		KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 4095, 1,
						       img->scratch));
		/* copy on write cannot make something up either */
		KUNIT_EXPECT_EQ(test, -EIO, image_write(img, 100, 100, 1));
		if (!zstd)
			image_expect_data(img, 4096, 3 * 4096);
		KUNIT_ASSERT_EQ(test, 0, image_close(img));

		/* too short */
		compress_put(img, host + 3, COMPRESS_STORED);
		put_unaligned_le16(100, img->leaf->data + host + 4);
		put_unaligned_le16(~100, img->leaf->data + host + 6);
		image_open(img);
		KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 0, 512,
						       img->scratch));
		KUNIT_ASSERT_EQ(test, 0, image_close(img));
		compress_use_zstd(img);
	}
	/* when all of it is replaced, nothing has to be read */
	image_open(img);
	KUNIT_EXPECT_EQ(test, 0, image_write(img, 0, 4096, 1));
	image_expect_data(img, 0, 4096);
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
}

/* Offsets far outside of the file: as if there were zeroes */
static void compress_outside(struct kunit *test)
{
	struct image *img = image_create(test, &compress_cfg, 1 << 20);

	image_set_l2(img, 0, compress_entry((1ULL << 58) - 1, 16));
	image_set_l2(img, 4096, compress_entry(1 << 20, 1));
	image_open(img);
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 0, 512,
					       img->scratch));
	KUNIT_EXPECT_EQ(test, -EIO, qblk_pread(&img->edge, 4096, 512,
					       img->scratch));
	/* there are no references to drop: reported, and that is all */
	KUNIT_EXPECT_EQ(test, 0, image_discard(img, 0, 8192));
	KUNIT_EXPECT_EQ(test, 0, qblk_flush(&img->edge));
	KUNIT_ASSERT_EQ(test, 0, image_close(img));
	image_expect_clean(img);
}

static struct kunit_case compress_kunit_cases[] = {
	KUNIT_CASE(compress_read),
	KUNIT_CASE(compress_map),
	KUNIT_CASE(compress_overwrite),
	KUNIT_CASE(compress_discard),
	KUNIT_CASE(compress_version_2),
	KUNIT_CASE(compress_read_zstd),
	KUNIT_CASE(compress_zstd_frames),
	KUNIT_CASE(compress_cached),
	KUNIT_CASE(compress_part),
	KUNIT_CASE(compress_part_zstd),
	KUNIT_CASE(compress_cache_dropped),
	KUNIT_CASE(compress_run),
	KUNIT_CASE(compress_longest),
	KUNIT_CASE(compress_at_the_end),
	KUNIT_CASE(compress_nested),
	KUNIT_CASE(compress_broken),
	KUNIT_CASE(compress_outside),
	{}
};

static struct kunit_suite compress_kunit_suite = {
	.name = "qblk_qcow2_compress",
	.suite_init = memleaf_suite_init,
	.suite_exit = memleaf_suite_exit,
	.test_cases = compress_kunit_cases,
};

kunit_test_suite(compress_kunit_suite);
