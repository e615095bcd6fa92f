// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/mm.h>

#include "../format/qcow2/qcow2.h"

/**
 * struct reclaim_fake - a cache of numbers
 * @r: what is listed
 * @nr: things in it
 * @keep: of these, cannot go now
 * @asked: sum of what scans were asked for
 */
struct reclaim_fake {
	struct qcow2_reclaim r;
	unsigned long nr;
	unsigned long keep;
	unsigned long asked;
};

static unsigned long reclaim_fake_count(struct qcow2_reclaim *r)
{
	return container_of(r, struct reclaim_fake, r)->nr;
}

static unsigned long reclaim_fake_scan(struct qcow2_reclaim *r,
				       unsigned long nr)
{
	struct reclaim_fake *f = container_of(r, struct reclaim_fake, r);
	unsigned long freed = min(nr, f->nr - f->keep);

	f->asked += nr;
	f->nr -= freed;
	return freed;
}

static void reclaim_fake_del(void *r)
{
	qcow2_reclaim_del(r);
}

static struct reclaim_fake *reclaim_fake(struct kunit *test, unsigned long nr)
{
	struct reclaim_fake *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->r.count = reclaim_fake_count;
	f->r.scan = reclaim_fake_scan;
	f->nr = nr;
	qcow2_reclaim_add(&f->r);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, reclaim_fake_del,
						  &f->r));
	return f;
}

static void reclaim_expect(struct kunit *test, unsigned long nr,
			   unsigned long scanned, unsigned long freed)
{
	unsigned long seen = ULONG_MAX;

	KUNIT_EXPECT_EQ(test, freed, qcow2_reclaim_scan(nr, &seen));
	KUNIT_EXPECT_EQ(test, scanned, seen);
}

/* No image is open, so there is nothing to take. */
static void reclaim_nothing(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 0, qcow2_reclaim_count());
	reclaim_expect(test, 128, 0, 0);
}

static void reclaim_turns(struct kunit *test)
{
	struct reclaim_fake *a = reclaim_fake(test, 300);
	struct reclaim_fake *b = reclaim_fake(test, 50);
	struct reclaim_fake *c = reclaim_fake(test, 0);

	KUNIT_EXPECT_EQ(test, 350, qcow2_reclaim_count());
	/* one, then the other and what is missing of the first */
	reclaim_expect(test, 100, 100, 100);
	KUNIT_EXPECT_EQ(test, 200, a->nr);
	KUNIT_EXPECT_EQ(test, 50, b->nr);
	reclaim_expect(test, 100, 100, 100);
	KUNIT_EXPECT_EQ(test, 150, a->nr);
	KUNIT_EXPECT_EQ(test, 0, b->nr);
	/* what cannot go is looked at all the same */
	a->keep = 120;
	reclaim_expect(test, 100, 100, 30);
	reclaim_expect(test, 1000, 120, 0);
	KUNIT_EXPECT_EQ(test, 370, a->asked);
	KUNIT_EXPECT_EQ(test, 0, c->asked);
	KUNIT_EXPECT_EQ(test, 120, qcow2_reclaim_count());
}

static void reclaim_listed(struct kunit *test)
{
	struct reclaim_fake *a = reclaim_fake(test, 10);
	struct reclaim_fake *b = reclaim_fake(test, 20);

	qcow2_reclaim_del(&a->r);
	KUNIT_EXPECT_EQ(test, 20, qcow2_reclaim_count());
	reclaim_expect(test, 100, 20, 20);
	KUNIT_EXPECT_EQ(test, 10, a->nr);
	KUNIT_EXPECT_EQ(test, 0, b->nr);
	qcow2_reclaim_add(&a->r);
	reclaim_expect(test, 100, 10, 10);
}

/* Pieces: there is no image but what the case makes believe. */

#define PIECE_ORDER	get_order(QCOW2_PIECE_BYTES)
#define PIECE_WEIGHT	BIT(PIECE_ORDER)
#define PIECES		40

static void piece_free(struct kunit *test, struct page *page)
{
	KUNIT_ASSERT_NOT_NULL(test, page);
	__free_pages(page, PIECE_ORDER);
}

static void piece_put_new(struct kunit *test)
{
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_COMP, PIECE_ORDER);

	KUNIT_ASSERT_NOT_NULL(test, page);
	qcow2_piece_put(page);
}

static void pieces_kept(struct kunit *test)
{
	struct page *page;
	int i;

	KUNIT_EXPECT_PTR_EQ(test, NULL, qcow2_piece_get());
	qcow2_pieces_start();
	for (i = 0; i < PIECES; i++)
		piece_put_new(test);
	KUNIT_EXPECT_EQ(test, 32 * PIECE_WEIGHT, qcow2_reclaim_count());

	/* what was used last comes first */
	page = qcow2_piece_get();
	KUNIT_ASSERT_NOT_NULL(test, page);
	qcow2_piece_put(page);
	KUNIT_EXPECT_PTR_EQ(test, page, qcow2_piece_get());
	piece_free(test, page);
	KUNIT_EXPECT_EQ(test, 31 * PIECE_WEIGHT, qcow2_reclaim_count());

	qcow2_pieces_stop();
	KUNIT_EXPECT_EQ(test, 0, qcow2_reclaim_count());
	KUNIT_EXPECT_PTR_EQ(test, NULL, qcow2_piece_get());
}

/* With an image that is left, they stay; after the last one none is kept. */
static void pieces_users(struct kunit *test)
{
	qcow2_pieces_start();
	qcow2_pieces_start();
	piece_put_new(test);
	qcow2_pieces_stop();
	KUNIT_EXPECT_EQ(test, PIECE_WEIGHT, qcow2_reclaim_count());
	qcow2_pieces_stop();
	KUNIT_EXPECT_EQ(test, 0, qcow2_reclaim_count());
	piece_put_new(test);
	KUNIT_EXPECT_EQ(test, 0, qcow2_reclaim_count());
}

static void pieces_reclaimed(struct kunit *test)
{
	int i;

	qcow2_pieces_start();
	for (i = 0; i < 4; i++)
		piece_put_new(test);
	reclaim_expect(test, 1, 1, PIECE_WEIGHT);
	reclaim_expect(test, 2 * PIECE_WEIGHT, 2 * PIECE_WEIGHT,
		       2 * PIECE_WEIGHT);
	reclaim_expect(test, 1000, PIECE_WEIGHT, PIECE_WEIGHT);
	KUNIT_EXPECT_PTR_EQ(test, NULL, qcow2_piece_get());
	qcow2_pieces_stop();
}

static struct kunit_case reclaim_kunit_cases[] = {
	KUNIT_CASE(reclaim_nothing),
	KUNIT_CASE(reclaim_turns),
	KUNIT_CASE(reclaim_listed),
	KUNIT_CASE(pieces_kept),
	KUNIT_CASE(pieces_users),
	KUNIT_CASE(pieces_reclaimed),
	{}
};

static struct kunit_suite reclaim_kunit_suite = {
	.name = "qblk_qcow2_reclaim",
	.test_cases = reclaim_kunit_cases,
};

kunit_test_suite(reclaim_kunit_suite);
