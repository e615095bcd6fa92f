// SPDX-License-Identifier: GPL-2.0
/* Walks through read-only chains whose ends are kept, see core/flat.c. */
#include <kunit/test.h>
#include <linux/sizes.h>

#include "../core/core.h"
#include "memfmt.h"

#define FLAT_LENGTH	SZ_256K
#define FLAT_BLOCKS	(SZ_64K / MEMFMT_BLOCK)

/* top, which is writable, on upper on lower on base, which have a file each */
struct flat_chain {
	struct memleaf *leaf[4];
	struct memfmt *fmt[4];
};

enum { TOP, UPPER, LOWER, BASE };

static void flat_alloc(struct kunit *test, struct flat_chain *c)
{
	int i;

	for (i = TOP; i <= BASE; i++) {
		c->leaf[i] = memleaf_alloc(test, FLAT_LENGTH, FLAT_LENGTH);
		c->leaf[i]->limits.can_grow = false;
		c->fmt[i] = memfmt_alloc(test, FLAT_LENGTH);
	}
}

static void flat_open(struct flat_chain *c, bool writable)
{
	struct qblk_node *below = NULL;
	char name[] = "kunit-0";
	int i;

	for (i = BASE; i >= TOP; i--) {
		bool read_only = i && !(writable && i == LOWER);

		name[6] = '0' + i;
		memleaf_open(c->leaf[i], name, read_only);
		memfmt_open(c->fmt[i], MEMFMT_REMAP_DRIVER, read_only,
			    c->leaf[i]->node, below);
		below = c->fmt[i]->node;
	}
}

/* Maps; returns how often the nodes below the top were asked. */
static unsigned int flat_map(struct kunit *test, struct flat_chain *c,
			     u64 offset, u64 bytes, unsigned int flags,
			     struct qblk_mapping *m)
{
	unsigned int before = 0, after = 0;
	int i;

	for (i = UPPER; i <= BASE; i++)
		before += c->fmt[i]->maps;
	KUNIT_ASSERT_EQ(test, 0, qblk_map(c->fmt[TOP]->node, offset, bytes,
					  flags, m));
	qblk_tracks_release(&m->tracks);
	for (i = UPPER; i <= BASE; i++)
		after += c->fmt[i]->maps;
	return after - before;
}

/* The same answer each time; asked: how often nodes are, at last */
static void flat_expect(struct kunit *test, struct flat_chain *c, u64 offset,
			u64 bytes, const struct qblk_mapping *want,
			unsigned int asked)
{
	struct qblk_mapping m;
	unsigned int n;
	int i;

	for (i = 0; i < 3; i++) {
		n = flat_map(test, c, offset, bytes, 0, &m);
		KUNIT_EXPECT_EQ(test, want->type, m.type);
		KUNIT_EXPECT_EQ(test, want->bytes, m.bytes);
		KUNIT_EXPECT_PTR_EQ(test, want->node, m.node);
		KUNIT_EXPECT_EQ(test, want->offset, m.offset);
	}
	KUNIT_EXPECT_EQ(test, asked, n);
}

/* What is found for a part of a block holds for each other one. */
static void flat_data(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_mapping want = { .type = QBLK_MAP_DATA };

	flat_alloc(test, &c);
	memfmt_set(c.fmt[BASE], FLAT_BLOCKS, FLAT_BLOCKS, QBLK_MAP_DATA,
		   SZ_128K);
	flat_open(&c, false);
	want.node = c.leaf[BASE]->node;
	want.offset = SZ_128K + SZ_8K;
	want.bytes = SZ_4K;
	flat_expect(test, &c, SZ_64K + SZ_8K, SZ_4K, &want, 0);
	want.offset = SZ_128K;
	want.bytes = SZ_64K;
	flat_expect(test, &c, SZ_64K, SZ_64K, &want, 0);
	want.offset += 512;
	want.bytes = 1024;
	flat_expect(test, &c, SZ_64K + 512, 1024, &want, 0);
	/* across its end, all are asked */
	want.offset = SZ_128K + SZ_32K;
	want.bytes = SZ_32K;
	flat_expect(test, &c, SZ_64K + SZ_32K, SZ_64K, &want, 3);
}

/* Who is asked is the one that says so. */
static void flat_types(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_mapping want = { .type = QBLK_MAP_ENCODED };

	flat_alloc(test, &c);
	memfmt_set(c.fmt[LOWER], 0, FLAT_BLOCKS, QBLK_MAP_ZERO, 0);
	memfmt_set(c.fmt[UPPER], FLAT_BLOCKS, FLAT_BLOCKS, QBLK_MAP_ZERO, 0);
	memfmt_set(c.fmt[LOWER], 2 * FLAT_BLOCKS, FLAT_BLOCKS,
		   QBLK_MAP_ENCODED, 0);
	flat_open(&c, false);
	/* encoded blocks are answered one by one: a mixed block */
	want.node = c.fmt[LOWER]->node;
	want.offset = SZ_128K + SZ_4K;
	want.bytes = SZ_4K;
	flat_expect(test, &c, SZ_128K + SZ_4K, SZ_8K, &want, 2);

	want.type = QBLK_MAP_ZERO;
	want.offset = SZ_4K;
	flat_expect(test, &c, SZ_4K, SZ_4K, &want, 1);
	want.node = c.fmt[UPPER]->node;
	want.offset = SZ_64K + SZ_4K;
	flat_expect(test, &c, SZ_64K + SZ_4K, SZ_4K, &want, 1);
	/* nobody has it */
	want.node = c.fmt[BASE]->node;
	want.offset = SZ_128K + SZ_64K;
	flat_expect(test, &c, SZ_128K + SZ_64K, SZ_4K, &want, 1);
}

/* One part is higher up than the rest. */
static void flat_mixed(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_mapping want = {
		.type = QBLK_MAP_DATA,
		.bytes = SZ_4K,
	};

	flat_alloc(test, &c);
	memfmt_set(c.fmt[BASE], 0, FLAT_BLOCKS, QBLK_MAP_DATA, 0);
	memfmt_set(c.fmt[LOWER], 1, 1, QBLK_MAP_DATA, 0);
	flat_open(&c, false);
	want.node = c.leaf[BASE]->node;
	flat_expect(test, &c, 0, SZ_8K, &want, 3);
	want.node = c.leaf[LOWER]->node;
	flat_expect(test, &c, SZ_4K, SZ_8K, &want, 2);
}

/* Below one that is writable nothing is kept. */
static void flat_writable(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_mapping want = {
		.type = QBLK_MAP_DATA,
		.bytes = SZ_4K,
	};

	flat_alloc(test, &c);
	memfmt_set(c.fmt[BASE], 0, FLAT_BLOCKS, QBLK_MAP_DATA, 0);
	flat_open(&c, true);
	want.node = c.leaf[BASE]->node;
	flat_expect(test, &c, 0, SZ_4K, &want, 3);
	memfmt_set(c.fmt[LOWER], 0, 1, QBLK_MAP_DATA, SZ_8K);
	want.node = c.leaf[LOWER]->node;
	want.offset = SZ_8K;
	flat_expect(test, &c, 0, SZ_4K, &want, 2);
}

/* Metadata that is not in memory: found out when it is */
static void flat_not_cached(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_mapping m;

	flat_alloc(test, &c);
	memfmt_set(c.fmt[BASE], 0, FLAT_BLOCKS, QBLK_MAP_DATA, 0);
	flat_open(&c, false);
	c.fmt[BASE]->not_cached = true;
	KUNIT_EXPECT_EQ(test, -EAGAIN, qblk_map(c.fmt[TOP]->node, 0, SZ_4K, 0,
						&m));
	KUNIT_EXPECT_EQ(test, 0, m.tracks.nr);
	KUNIT_EXPECT_EQ(test, 3, flat_map(test, &c, 0, SZ_4K,
					  QBLK_MAP_MAY_SLEEP, &m));
	c.fmt[BASE]->not_cached = false;
	KUNIT_EXPECT_EQ(test, 3, flat_map(test, &c, 0, SZ_4K, 0, &m));
	/* known now, to whoever asks */
	c.fmt[BASE]->not_cached = true;
	KUNIT_EXPECT_EQ(test, 0, flat_map(test, &c, SZ_4K, SZ_4K, 0, &m));
	KUNIT_EXPECT_EQ(test, 0, flat_map(test, &c, SZ_4K, SZ_4K,
					  QBLK_MAP_MAY_SLEEP, &m));
	KUNIT_EXPECT_PTR_EQ(test, c.leaf[BASE]->node, m.node);
}

/* Errors are not kept, and what ends short is not a block. */
static void flat_errors(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_mapping want = {
		.type = QBLK_MAP_DATA,
		.bytes = SZ_4K,
	};
	struct qblk_mapping m;

	flat_alloc(test, &c);
	c.fmt[UPPER]->length = FLAT_LENGTH - SZ_4K;
	memfmt_set(c.fmt[BASE], 0, 4 * FLAT_BLOCKS, QBLK_MAP_DATA, 0);
	flat_open(&c, false);
	c.fmt[LOWER]->map_error = -EIO;
	KUNIT_EXPECT_EQ(test, -EIO, qblk_map(c.fmt[TOP]->node, 0, SZ_4K, 0,
					     &m));
	c.fmt[LOWER]->map_error = 0;
	want.node = c.leaf[BASE]->node;
	flat_expect(test, &c, 0, SZ_4K, &want, 0);
	/* a leaf that is gone is noticed */
	c.leaf[BASE]->node->dead = true;
	KUNIT_EXPECT_EQ(test, -EIO, qblk_map(c.fmt[TOP]->node, 0, SZ_4K, 0,
					     &m));
	c.leaf[BASE]->node->dead = false;
	/* the last block, as far as the chain goes, and past it */
	want.offset = FLAT_LENGTH - SZ_8K;
	flat_expect(test, &c, FLAT_LENGTH - SZ_8K, SZ_8K, &want, 0);
	want.type = QBLK_MAP_ZERO;
	want.node = c.fmt[UPPER]->node;
	want.offset = FLAT_LENGTH - SZ_4K;
	flat_expect(test, &c, FLAT_LENGTH - SZ_4K, SZ_4K, &want, 0);
}

/* Blocks that share an entry: far apart, each is found as what it is. */
static void flat_shared_entry(struct kunit *test)
{
	struct flat_chain c;
	struct qblk_flat_where a = {}, b = {}, got;
	struct qblk_node *node;
	u64 far = 1ULL << 40;

	flat_alloc(test, &c);
	flat_open(&c, false);
	node = c.fmt[UPPER]->node;
	a.node = c.leaf[BASE]->node;
	b.node = c.leaf[LOWER]->node;
	b.offset = SZ_64K;
	KUNIT_EXPECT_EQ(test, QBLK_FLAT_UNKNOWN, qblk_flat_find(node, 0, &got));
	qblk_flat_learn(node, 0, &a);
	KUNIT_EXPECT_EQ(test, QBLK_FLAT_KNOWN, qblk_flat_find(node, 5, &got));
	KUNIT_EXPECT_PTR_EQ(test, a.node, got.node);
	KUNIT_EXPECT_EQ(test, 5, got.offset);
	KUNIT_EXPECT_EQ(test, QBLK_FLAT_UNKNOWN,
			qblk_flat_find(node, far, &got));
	qblk_flat_learn(node, far, &b);
	KUNIT_EXPECT_EQ(test, QBLK_FLAT_UNKNOWN, qblk_flat_find(node, 0, &got));
	KUNIT_EXPECT_EQ(test, QBLK_FLAT_KNOWN,
			qblk_flat_find(node, far + 7, &got));
	KUNIT_EXPECT_PTR_EQ(test, b.node, got.node);
	KUNIT_EXPECT_EQ(test, SZ_64K + 7, got.offset);
}

#define FLAT_ROUNDS	20000

/* Learns one of two blocks of one entry after the other. */
static int flat_learn_fn(struct memleaf_thread *t)
{
	struct flat_chain *c = t->private;
	struct qblk_flat_where where[2] = {
		{ .node = c->leaf[BASE]->node, .offset = 0 },
		{ .node = c->leaf[LOWER]->node, .offset = SZ_64K },
	};
	int i;

	for (i = 0; i < FLAT_ROUNDS; i++)
		qblk_flat_learn(c->fmt[UPPER]->node, (u64)(i & 1) << 40,
				&where[i & 1]);
	return 0;
}

/* The members of an entry are those of one block, whoever changes it. */
static void flat_race(struct kunit *test)
{
	struct flat_chain c;
	struct memleaf_thread learn = { .fn = flat_learn_fn, .private = &c };
	struct qblk_flat_where got;
	unsigned int wrong = 0;

	flat_alloc(test, &c);
	flat_open(&c, false);
	memleaf_thread_start(test, &learn);
	while (!try_wait_for_completion(&learn.done)) {
		if (qblk_flat_find(c.fmt[UPPER]->node, 0, &got) ==
		    QBLK_FLAT_KNOWN)
			wrong += got.node != c.leaf[BASE]->node || got.offset;
		if (qblk_flat_find(c.fmt[UPPER]->node, 1ULL << 40, &got) ==
		    QBLK_FLAT_KNOWN)
			wrong += got.node != c.leaf[LOWER]->node ||
				 got.offset != SZ_64K;
		cond_resched();
	}
	KUNIT_EXPECT_EQ(test, 0, wrong);
}

static struct kunit_case flat_kunit_cases[] = {
	KUNIT_CASE(flat_data),
	KUNIT_CASE(flat_types),
	KUNIT_CASE(flat_mixed),
	KUNIT_CASE(flat_writable),
	KUNIT_CASE(flat_not_cached),
	KUNIT_CASE(flat_errors),
	KUNIT_CASE(flat_shared_entry),
	KUNIT_CASE(flat_race),
	{}
};

static struct kunit_suite flat_kunit_suite = {
	.name = "qblk_flat",
	.suite_init = memfmt_suite_init,
	.suite_exit = memfmt_suite_exit,
	.test_cases = flat_kunit_cases,
};

kunit_test_suite(flat_kunit_suite);
