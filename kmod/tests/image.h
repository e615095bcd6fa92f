/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whole qcow2 images in memory: made by hand, used through the driver, and
 * read back and checked by hand, without help of the code under test.
 */
#ifndef _QBLK_TESTS_IMAGE_H
#define _QBLK_TESTS_IMAGE_H

#include <linux/prandom.h>

#include "memleaf.h"

#define IMAGE_SECTOR	512U

/* Pattern in the backing file */
#define IMAGE_BACKING_SEED	0x0bac

/**
 * struct image_cfg - what an image looks like
 * @desc: in words
 * @version: 2 or 3
 * @cluster_bits: log2 of the cluster size
 * @refcount_order: log2 of the bits of a refcount
 * @size: virtual bytes
 * @align: blocks of the leaf, 0 for 512
 * @fixed: bytes of a leaf that cannot grow, 0 for one that can
 * @backing: bytes of a backing file, 0 for none
 * @extl2: extended L2 entries
 * @data_file: data is in a file of its own
 * @raw: which holds just what the disk shows
 * @lazy: lazy refcounts
 */
struct image_cfg {
	const char *desc;
	u32 version;
	u32 cluster_bits;
	u32 refcount_order;
	u64 size;
	u32 align;
	u64 fixed;
	u64 backing;
	bool extl2;
	bool data_file;
	bool raw;
	bool lazy;
};

/**
 * struct image - an image and what it should hold
 * @test: case it belongs to
 * @cfg: what it looks like
 * @cs: cluster size
 * @l2e: bytes of an L2 entry
 * @unit: smallest part of a cluster that can be discarded: subcluster, cluster
 * @l1_size: entries of the L1 table
 * @l1_offset: where it is
 * @next: first cluster not used by what was made by hand
 * @snap_l1: host offset of a snapshot's L1 table, 0 for no snapshot
 * @leaf: the file
 * @data: the data file or NULL
 * @back: the backing file or NULL
 * @node: its node, while open
 * @edge: an edge to the node
 * @start: writes are started with ->start_pwritev()
 * @l2_cache: option l2-cache-size when it is opened, NULL for the smallest
 * @overlap_check: the option when it is opened, NULL for the default
 * @model: what the disk should hold
 * @scratch: a buffer of the disk's size
 * @plain: the disk, for its compressed clusters, or NULL if it has none
 */
struct image {
	struct kunit *test;
	const struct image_cfg *cfg;
	u32 cs;
	u32 l2e;
	u32 unit;
	u32 l1_size;
	u64 l1_offset;
	u64 next;
	u64 snap_l1;
	struct memleaf *leaf;
	struct memleaf *data;
	struct memleaf *back;
	struct qblk_node *node;
	struct qblk_child edge;
	bool start;
	const char *l2_cache;
	const char *overlap_check;
	u8 *model;
	u8 *scratch;
	const u8 *plain;
};

/**
 * struct image_check - a look at the bytes of an image
 * @image: made by image_create()
 * @data: contents to look at
 * @refs: number of references found, by cluster
 * @nr: clusters in @refs
 * @leaks: clusters whose refcount is larger than their references
 * @dirty: the dirty bit is set, so refcounts mean nothing
 * @why: what is wrong
 */
struct image_check {
	const struct image *image;
	const u8 *data;
	u16 *refs;
	u64 nr;
	u64 leaks;
	bool dirty;
	char why[96];
};

struct image *image_create(struct kunit *test, const struct image_cfg *cfg,
			   u64 capacity);
int image_try_open(struct image *img, struct qblk_err *err);
void image_open(struct image *img);
int image_close(struct image *img);
void image_add_snapshot(struct image *img);
u64 image_add_cluster(struct image *img);
void image_ref(struct image *img, u64 cluster);
void image_set_dirty(struct image *img);
void image_set_l2(struct image *img, u64 guest, u64 entry);

void image_check_init(struct image_check *c, const struct image *img);
bool image_check(struct image_check *c, const u8 *data);
const u8 *image_lookup(const struct image *img, const u8 *data, u64 guest);
bool image_snapshot_is(struct image *img, const u8 *model);
void image_expect_clean(struct image *img);
void image_expect_consistent(struct image *img);

/* Four bytes of the pattern @seed at a multiple of four; 0 stands for zeroes */
static inline u32 image_word(u64 offset, u32 seed)
{
	return seed ? (u32)(offset >> 2) * 0x9e3779b1U ^ seed * 0x85ebca6bU : 0;
}

/* I/O through the node, and the same on the model */
int image_pwrite(struct image *img, u64 offset, u64 bytes, void *buf);
int image_write(struct image *img, u64 offset, u64 bytes, u32 seed);
int image_zero(struct image *img, u64 offset, u64 bytes, unsigned int flags);
int image_discard(struct image *img, u64 offset, u64 bytes);
void image_discard_range(const struct image *img, u64 *offset, u64 *bytes);
void image_expect_data(struct image *img, u64 offset, u64 bytes);
void image_fill(u8 *buf, u64 offset, u64 bytes, u32 seed);

/* Refcounts, byte by byte */
u64 refcount_model_get(const u8 *block, u32 order, u32 index);
void refcount_model_set(u8 *block, u32 order, u32 index, u64 value);

#endif /* _QBLK_TESTS_IMAGE_H */
