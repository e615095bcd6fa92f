/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the suites share: a protocol driver whose nodes live in memory, and
 * opening of nodes that are closed with the case.
 *
 * The leaf counts what reaches it, logs it, fails or stalls it when told to,
 * and complains when the core breaks the contract of ->preadv() and friends.
 */
#ifndef _QBLK_TESTS_MEMLEAF_H
#define _QBLK_TESTS_MEMLEAF_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/types.h>
#include <linux/wait.h>

#include <qblk/driver.h>

#include "../protocol/append.h"

#define MEMLEAF_DRIVER	"kunit-mem"

/* What a discarded sector holds afterwards: nobody should read it. */
#define MEMLEAF_DISCARDED	0xdd

/* Operations a log has room for */
#define MEMLEAF_LOG_MAX		4096

enum memleaf_type {
	MEMLEAF_READ,
	MEMLEAF_WRITE,
	MEMLEAF_ZERO,
	MEMLEAF_DISCARD,
	MEMLEAF_FLUSH,
	MEMLEAF_NR_TYPES,
};

/**
 * struct memleaf_op - an operation that succeeded, in the log
 * @type: what
 * @offset: where
 * @bytes: how much
 * @flags: QBLK_REQ_*
 * @data: what was written
 */
struct memleaf_op {
	enum memleaf_type type;
	u64 offset;
	u64 bytes;
	unsigned int flags;
	void *data;
};

/**
 * struct memleaf - a leaf in memory
 * @test: case it belongs to
 * @node: its node, while open
 * @edge: an edge of the case to the node, not part of the graph
 * @append: writes to its end
 * @limits: what ->refresh_limits() says; to be changed before it is opened
 * @data: contents
 * @capacity: bytes in @data; a write past it is out of space
 * @length: bytes it shows
 * @lock: covers the contents, and the members that follow
 * @count: operations that were tried, by type
 * @fail_types: mask of types to fail
 * @fail_skip: operations of these types to let pass first
 * @fail_nr: operations to fail then
 * @fail_error: with this
 * @hold: mask of types that stall
 * @held: operations stalled now
 * @wait: for changes of @hold and @held
 * @too_long: a request above the limit was complained about
 * @log: operations since memleaf_log_start(), or NULL
 * @log_nr: how many
 * @log_base: contents when the log began
 */
struct memleaf {
	struct kunit *test;
	struct qblk_node *node;
	struct qblk_child edge;
	struct qblk_append append;
	struct qblk_limits limits;
	u8 *data;
	u64 capacity;
	u64 length;
	struct mutex lock;	/* covers the contents and what follows */
	unsigned int count[MEMLEAF_NR_TYPES];
	unsigned int fail_types;
	unsigned int fail_skip;
	unsigned int fail_nr;
	int fail_error;
	unsigned int hold;
	unsigned int held;
	wait_queue_head_t wait;
	bool too_long;
	struct memleaf_op *log;
	unsigned int log_nr;
	u8 *log_base;
};

/* For the suite_init and suite_exit of suites that use leaves */
int memleaf_suite_init(struct kunit_suite *suite);
void memleaf_suite_exit(struct kunit_suite *suite);

struct memleaf *memleaf_alloc(struct kunit *test, u64 length, u64 capacity);
int memleaf_try_open(struct memleaf *leaf, const char *name, bool read_only,
		     struct qblk_err *err);
void memleaf_open(struct memleaf *leaf, const char *name, bool read_only);
void memleaf_fail(struct memleaf *leaf, unsigned int types, unsigned int skip,
		  unsigned int nr, int error);
void memleaf_hold(struct memleaf *leaf, unsigned int types);
bool memleaf_wait_held(struct memleaf *leaf, unsigned int nr);
void memleaf_release(struct memleaf *leaf);
void memleaf_log_start(struct memleaf *leaf);
void memleaf_apply(u8 *image, const struct memleaf_op *op, u64 bytes);

/* Big buffers that go with the case; zeroed; fatal when there is no memory */
void *memleaf_valloc(struct kunit *test, size_t bytes);

/* Open a node to be closed with the case; an ERR_PTR on failure */
struct qblk_node *memleaf_node_open(struct kunit *test,
				    const struct qblk_node_params *p,
				    struct qblk_err *err);
int memleaf_node_close(struct kunit *test, struct qblk_node *node);
void memleaf_node_abandon(struct kunit *test, struct qblk_node *node);
void memleaf_edge_init(struct qblk_child *edge, struct qblk_node *node);

/**
 * struct memleaf_thread - a thread of a case
 * @fn: what it does; its result ends up in @ret
 * @private: for @fn
 * @ret: result, once @done
 * @done: @fn has returned
 */
struct memleaf_thread {
	int (*fn)(struct memleaf_thread *t);
	void *private;
	int ret;
	struct completion done;
};

void memleaf_thread_start(struct kunit *test, struct memleaf_thread *t);

/* Random number below @limit, not 0 */
static inline u32 memleaf_random(struct rnd_state *rnd, u32 limit)
{
	return ((u64)prandom_u32_state(rnd) * limit) >> 32;
}

#endif /* _QBLK_TESTS_MEMLEAF_H */
