/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A format without metadata on disk: a case says what is where.
 */
#ifndef _QBLK_TESTS_MEMFMT_H
#define _QBLK_TESTS_MEMFMT_H

#include "memleaf.h"

#define MEMFMT_DRIVER		"kunit-fmt"	/* keeps its places */
#define MEMFMT_REMAP_DRIVER	"kunit-remap"	/* may reuse them under I/O */

#define MEMFMT_BLOCK		4096U

/**
 * struct memfmt_block - where a block is
 * @type: as in &struct qblk_extent
 * @offset: in ``file``, of data and encoded blocks
 */
struct memfmt_block {
	enum qblk_map_type type;
	u64 offset;
};

/**
 * struct memfmt - a format node of a case
 * @test: the case
 * @node: its node, while open
 * @edge: an edge of the case to the node, not part of the graph
 * @length: bytes it shows
 * @blocks: what is where; encoded blocks have all bits inverted
 * @not_cached: ->map() gives -EAGAIN unless it may sleep
 * @map_error: ->map() gives this
 * @flush_error: ->flush_to_os() gives this
 * @maps: calls of ->map()
 * @flushes: calls of ->flush_to_os()
 * @leaf_flushes: flushes of @leaf seen by the last ->flush_to_os()
 * @leaf: the file, for @leaf_flushes, or NULL
 * @data_file: child of that name, or NULL; to be set before it is opened
 * @no_backing: the backing file is left out explicitly; likewise
 */
struct memfmt {
	struct kunit *test;
	struct qblk_node *node;
	struct qblk_child edge;
	u64 length;
	struct memfmt_block *blocks;
	bool not_cached;
	int map_error;
	int flush_error;
	unsigned int maps;
	unsigned int flushes;
	unsigned int leaf_flushes;
	const struct memleaf *leaf;
	struct qblk_node *data_file;
	bool no_backing;
};

/* For suites that use formats; includes the leaves */
int memfmt_suite_init(struct kunit_suite *suite);
void memfmt_suite_exit(struct kunit_suite *suite);

struct memfmt *memfmt_alloc(struct kunit *test, u64 length);
void memfmt_set(struct memfmt *fmt, unsigned int block, unsigned int nr,
		enum qblk_map_type type, u64 offset);
int memfmt_try_open(struct memfmt *fmt, const char *driver, bool read_only,
		    struct qblk_node *file, struct qblk_node *backing);
void memfmt_open(struct memfmt *fmt, const char *driver, bool read_only,
		 struct qblk_node *file, struct qblk_node *backing);

#endif /* _QBLK_TESTS_MEMFMT_H */
