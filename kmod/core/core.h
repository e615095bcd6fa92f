/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of core/ share; drivers and export/ do not see it. */
#ifndef _QBLK_CORE_H
#define _QBLK_CORE_H

#include <linux/bits.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/types.h>

#include <qblk/builtin.h>
#include <qblk/driver.h>

/* Longest path over edges other than ``backing``: recursion in flushes */
#define QBLK_MAX_NEST		8

/* Size of a bounce buffer, and so the largest request_alignment of a leaf */
#define QBLK_BOUNCE_ORDER	2
#define QBLK_BOUNCE_SIZE	(PAGE_SIZE << QBLK_BOUNCE_ORDER)

/* Bytes a driver gets in one call at most; fits every 32-bit counter */
#define QBLK_MAX_PIECE		BIT(30)

/* All nodes, children before parents; under qblk_control_mutex */
extern struct list_head qblk_nodes;

/* Changes with the graph, for dumps; under qblk_control_mutex */
extern u32 qblk_graph_gen;

/* driver.c */
struct qblk_driver *qblk_driver_get(const char *name, struct qblk_err *err);
void qblk_driver_put(const struct qblk_driver *drv);
int qblk_driver_for_each(int (*fn)(const struct qblk_driver *drv, void *priv),
			 void *priv);
int qblk_driver_probe(const u8 *buf, size_t len, struct qblk_probe *p,
		      struct qblk_err *err);
bool qblk_driver_name_valid(const char *name);

/* node.c */
extern const struct qblk_opt_desc qblk_node_opts[];
extern const char *const qblk_detect_zeroes_words[];
void qblk_walk_add(struct list_head *list, struct qblk_node *node);
void qblk_walk_below(struct list_head *list, struct qblk_node *node);
void qblk_walk_end(struct list_head *list);

/* limits.c */
int qblk_limits_refresh(struct qblk_node *node, struct qblk_err *err);

/* io.c */
int qblk_node_flush(struct qblk_node *node);
int qblk_bounce_init(struct qblk_node *leaf);
void qblk_bounce_exit(struct qblk_node *leaf);
void qblk_zeroes_init(void);

/* flat.c */
#define QBLK_FLAT_BITS		16
#define QBLK_FLAT_BLOCK		BIT_ULL(QBLK_FLAT_BITS)

/* What is known of a block; mixed: that it has to be walked */
enum qblk_flat_known { QBLK_FLAT_UNKNOWN, QBLK_FLAT_MIXED, QBLK_FLAT_KNOWN };

/**
 * struct qblk_flat_where - a place further down
 * @node: a leaf, or what answers for the rest of the chain
 * @offset: in @node
 */
struct qblk_flat_where {
	struct qblk_node *node;
	u64 offset;
};

bool qblk_flat_applies(const struct qblk_node *node);
enum qblk_flat_known qblk_flat_find(const struct qblk_node *node, u64 offset,
				    struct qblk_flat_where *where);
void qblk_flat_learn(struct qblk_node *node, u64 start,
		     const struct qblk_flat_where *where);
void qblk_flat_free(struct qblk_node *node);

/* serialise.c */

int qblk_serialising_init(struct qblk_node *leaf);
void qblk_serialising_exit(struct qblk_node *leaf);
void qblk_serialising_update(struct qblk_node *parent);
bool qblk_serialising_strict(const struct qblk_node *leaf);
void qblk_tracked_begin(const struct qblk_node *leaf, struct qblk_tracked *t,
			u64 start, u64 end, bool serialising);
void qblk_tracked_end(struct qblk_tracked *t);

/* debugfs.c */
void qblk_debugfs_init(void);
void qblk_debugfs_exit(void);
void qblk_debugfs_add(struct qblk_node *node);
void qblk_debugfs_del(struct qblk_node *node);

/* netlink.c */
int qblk_netlink_init(void);
void qblk_netlink_exit(void);
void qblk_netlink_event_corrupted(const struct qblk_node *node, bool fatal,
				  s64 offset, s64 bytes, const char *msg);

static inline bool qblk_node_is_leaf(const struct qblk_node *node)
{
	return node->drv->flags & QBLK_DRV_PROTOCOL;
}

#endif /* _QBLK_CORE_H */
