// SPDX-License-Identifier: GPL-2.0
/*
 * Nodes and edges: opening, closing, permissions, the shape of the graph.
 *
 * Everything here runs under qblk_control_mutex.  A node's children exist
 * before it does, so the graph has no cycles, qblk_nodes lists children before
 * parents, and a node's depths are final once it is open.  Walks are loops
 * over a list, since a backing chain is too deep for the stack.
 */
#include "core.h"

#include <linux/ctype.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

DEFINE_MUTEX(qblk_control_mutex);	/* the shape of the graph */
EXPORT_SYMBOL_GPL(qblk_control_mutex);

LIST_HEAD(qblk_nodes);
u32 qblk_graph_gen;

/* Number of the next generated name */
static u32 next_block;

/* Common options; the index of a discard word */
enum { DISCARD_IGNORE, DISCARD_UNMAP };

struct node_opts {
	bool read_only;
	u32 discard;
	u32 detect_zeroes;
};

static const char *const discard_words[] = { "ignore", "unmap", NULL };

/* By enum qblk_detect_zeroes */
const char *const qblk_detect_zeroes_words[] = { "off", "on", "unmap", NULL };

const struct qblk_opt_desc qblk_node_opts[] = {
	{
		.name = "read-only",
		.type = QBLK_OPT_BOOL,
		.offset = offsetof(struct node_opts, read_only),
		.help = "refuse writes",
	}, {
		.name = "discard",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct node_opts, discard),
		.choices = discard_words,
		.def = DISCARD_UNMAP,
		.help = "pass discards on (unmap) or drop them (ignore)",
	}, {
		.name = "detect-zeroes",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct node_opts, detect_zeroes),
		.choices = qblk_detect_zeroes_words,
		.def = QBLK_DETECT_ZEROES_OFF,
		.help = "make writes of zeroes (on) that may free space (unmap) from data that is all zero",
	},
	{}
};

/**
 * qblk_walk_add - list a node in a walk, once
 * @list: of the walk
 * @node: the node
 */
void qblk_walk_add(struct list_head *list, struct qblk_node *node)
{
	lockdep_assert_held(&qblk_control_mutex);
	if (list_empty(&node->walk))
		list_add_tail(&node->walk, list);
}

/**
 * qblk_walk_below - list a node and all that can be reached from it
 * @list: empty
 * @node: root of the subtree
 *
 * One walk at a time; qblk_walk_end() ends it.
 */
void qblk_walk_below(struct list_head *list, struct qblk_node *node)
{
	struct qblk_child *child;

	qblk_walk_add(list, node);
	list_for_each_entry(node, list, walk) {
		list_for_each_entry(child, &node->children, parent_entry)
			qblk_walk_add(list, child->node);
	}
}

/**
 * qblk_walk_end - forget a walk
 * @list: of the walk, empty afterwards
 */
void qblk_walk_end(struct list_head *list)
{
	while (!list_empty(list))
		list_del_init(list->next);
}

static void node_release(struct kref *ref)
{
	struct qblk_node *node = container_of(ref, struct qblk_node, ref);

	qblk_flat_free(node);
	kfree(node->priv);
	kfree(node->label);
	kfree(node);
}

u64 qblk_node_length(const struct qblk_node *node)
{
	if (node->drv->getlength)
		return node->drv->getlength(node);
	return READ_ONCE(node->length);
}
EXPORT_SYMBOL_GPL(qblk_node_length);

struct qblk_node *qblk_node_find(const char *name)
{
	struct qblk_node *node;

	lockdep_assert_held(&qblk_control_mutex);
	list_for_each_entry(node, &qblk_nodes, entry) {
		if (!strcmp(node->name, name))
			return node;
	}
	return NULL;
}
EXPORT_SYMBOL_GPL(qblk_node_find);

void qblk_event_corrupted(const struct qblk_node *node, bool fatal, s64 offset,
			  s64 bytes, const char *msg)
{
	/*
	 * Not rate-limited: drivers report an open image once, twice at most,
	 * and one of many images that break together must not go unnamed.
	 */
	pr_err("qblk: node '%s': image is corrupt%s: %s (offset %lld, %lld bytes)\n",
	       node->name, fatal ? ", no more writes" : "", msg, offset, bytes);
	qblk_netlink_event_corrupted(node, fatal, offset, bytes, msg);
}
EXPORT_SYMBOL_GPL(qblk_event_corrupted);

/* Permissions */

static const char *perm_name(u32 perms)
{
	if (perms & QBLK_PERM_WRITE)
		return "write";
	if (perms & QBLK_PERM_RESIZE)
		return "resize";
	if (perms & QBLK_PERM_WRITE_UNCHANGED)
		return "write unchanged";
	return "consistent read";
}

/* QEMU's rule: what one edge uses every other one has to share */
static int perm_conflict(const struct qblk_child *user,
			 const struct qblk_child *other, struct qblk_err *err)
{
	u32 bad = user->perm & ~other->shared_perm;

	if (!bad)
		return 0;
	qblk_err_set(err,
		     "permission conflict on node '%s': '%s' is required by %s (uses it as '%s') and unshared by %s (uses it as '%s')",
		     user->node->name, perm_name(bad), user->desc, user->name,
		     other->desc, other->name);
	return -EBUSY;
}

static int perm_check(const struct qblk_child *new, struct qblk_err *err)
{
	const struct qblk_child *old;
	int ret;

	if (new->node->read_only &&
	    (new->perm & (QBLK_PERM_WRITE | QBLK_PERM_RESIZE))) {
		qblk_err_set(err,
			     "node '%s' is read-only, %s would write to it",
			     new->node->name, new->desc);
		return -EPERM;
	}
	list_for_each_entry(old, &new->node->parents, node_entry) {
		ret = perm_conflict(new, old, err);
		if (!ret)
			ret = perm_conflict(old, new, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* Edges */

static bool is_reachable(struct qblk_node *from, const struct qblk_node *to)
{
	const struct qblk_node *node;
	bool found = false;
	LIST_HEAD(list);

	qblk_walk_below(&list, from);
	list_for_each_entry(node, &list, walk) {
		if (node == to)
			found = true;
	}
	qblk_walk_end(&list);
	return found;
}

/*
 * Depths of @parent with @child.  They bound what is done per level: SRCU
 * slots of a mapping, recursion of a flush, steps of a walk.
 */
static int depth_check(struct qblk_node *parent, const struct qblk_child *child,
		       struct qblk_err *err)
{
	const struct qblk_node *node = child->node;
	bool cow = child->role & QBLK_CHILD_COW;
	unsigned int chain = max(parent->chain_depth, node->chain_depth + cow);
	unsigned int nest = max(parent->nest_depth, node->nest_depth + !cow);
	unsigned int track = max(parent->track_depth,
				 node->track_depth + parent->tracked);

	if (chain > QBLK_MAX_CHAIN) {
		qblk_err_set(err, "%s: backing chain is longer than %u",
			     child->desc, QBLK_MAX_CHAIN);
		return -ELOOP;
	}
	if (nest > QBLK_MAX_NEST || track > QBLK_MAX_TRACKS) {
		qblk_err_set(err,
			     "%s: formats are nested too deep (at most %u levels, %u of them writable)",
			     child->desc, QBLK_MAX_NEST, QBLK_MAX_TRACKS);
		return -ELOOP;
	}
	parent->chain_depth = chain;
	parent->nest_depth = nest;
	parent->track_depth = track;
	return 0;
}

static int edge_check_parent(struct qblk_node *parent,
			     const struct qblk_child *child,
			     struct qblk_err *err)
{
	if (!parent)
		return 0;
	if (is_reachable(child->node, parent)) {
		qblk_err_set(err, "%s: node '%s' as '%s' would make a cycle",
			     child->desc, child->node->name, child->name);
		return -ELOOP;
	}
	return depth_check(parent, child, err);
}

/* Where a node keeps the edge of a name, NULL if it is one of several */
static struct qblk_child **child_slot(struct qblk_node *parent,
				      const char *name)
{
	if (!strcmp(name, "file"))
		return &parent->file;
	if (!strcmp(name, "backing"))
		return &parent->backing;
	if (!strcmp(name, "data-file"))
		return &parent->data_file;
	return NULL;
}

static void edge_link(struct qblk_child *child)
{
	struct qblk_node *parent = child->parent;
	struct qblk_child **slot;

	kref_get(&child->node->ref);
	list_add_tail(&child->node_entry, &child->node->parents);
	qblk_graph_gen++;
	if (!parent)
		return;
	list_add_tail(&child->parent_entry, &parent->children);
	slot = child_slot(parent, child->name);
	if (slot)
		*slot = child;
}

struct qblk_child *qblk_child_attach(struct qblk_node *parent,
				     struct qblk_node *node, const char *name,
				     u32 role, u32 perm, u32 shared_perm,
				     const char *desc, struct qblk_err *err)
{
	struct qblk_child *child;
	int ret;

	lockdep_assert_held(&qblk_control_mutex);
	child = kzalloc(sizeof(*child), GFP_KERNEL);
	if (!child)
		return ERR_PTR(-ENOMEM);
	child->node = node;
	child->parent = parent;
	child->role = role;
	child->perm = perm;
	child->shared_perm = shared_perm;
	strscpy(child->name, name, sizeof(child->name));
	strscpy(child->desc, desc, sizeof(child->desc));
	INIT_LIST_HEAD(&child->parent_entry);

	ret = perm_check(child, err);
	if (!ret)
		ret = edge_check_parent(parent, child, err);
	if (ret) {
		kfree(child);
		return ERR_PTR(ret);
	}
	edge_link(child);
	return child;
}
EXPORT_SYMBOL_GPL(qblk_child_attach);

void qblk_child_detach(struct qblk_child *child)
{
	struct qblk_node *parent = child->parent;
	struct qblk_child **slot;

	lockdep_assert_held(&qblk_control_mutex);
	list_del(&child->node_entry);
	list_del(&child->parent_entry);
	slot = parent ? child_slot(parent, child->name) : NULL;
	if (slot)
		*slot = NULL;
	qblk_graph_gen++;
	kref_put(&child->node->ref, node_release);
	kfree(child);
}
EXPORT_SYMBOL_GPL(qblk_child_detach);

/* Default permissions of QEMU for the edges of formats and filters. */
static u32 default_perm(const struct qblk_node *node, bool cow)
{
	u32 perm = QBLK_PERM_CONSISTENT_READ;

	if (cow || node->read_only)
		return perm;
	return perm | QBLK_PERM_WRITE | QBLK_PERM_RESIZE;
}

/* With a data file, the file has metadata alone. */
static u32 default_role(const struct qblk_node *node, const char *name,
			bool data_file)
{
	if (!strcmp(name, "backing"))
		return QBLK_CHILD_COW;
	if (!strcmp(name, "data-file"))
		return QBLK_CHILD_DATA;
	if (data_file)
		return QBLK_CHILD_METADATA | QBLK_CHILD_PRIMARY;
	if (node->drv->flags & QBLK_DRV_FILTER)
		return QBLK_CHILD_FILTERED | QBLK_CHILD_PRIMARY;
	if (node->drv == &qblk_drv_raw)
		return QBLK_CHILD_DATA | QBLK_CHILD_PRIMARY;
	return QBLK_CHILD_DATA | QBLK_CHILD_METADATA | QBLK_CHILD_PRIMARY;
}

/* Can a driver have a child of this name? */
static bool child_fits(const struct qblk_driver *drv, const char *name)
{
	if (drv->flags & QBLK_DRV_PROTOCOL)
		return false;
	if (!strcmp(name, "backing"))
		return drv->flags & QBLK_DRV_BACKING;
	if (!strcmp(name, "data-file"))
		return drv->flags & QBLK_DRV_DATA_FILE;
	return !strcmp(name, "file");
}

static bool is_given(const struct qblk_node_params *p, const char *name)
{
	unsigned int i;

	for (i = 0; i < p->nr_children; i++)
		if (!strcmp(p->children[i].name, name))
			return true;
	return false;
}

static int node_check_child(const struct qblk_node *node,
			    const struct qblk_child_ref *ref,
			    struct qblk_err *err)
{
	bool cow = !strcmp(ref->name, "backing");

	if (!child_fits(node->drv, ref->name)) {
		qblk_err_set(err, "node '%s': driver '%s' has no child '%.31s'",
			     node->name, node->drv->name, ref->name);
		return -EINVAL;
	}
	if (!cow && !node->read_only && ref->node->read_only) {
		qblk_err_set(err,
			     "node '%s' cannot be writable, its %s '%s' is read-only",
			     node->name, ref->name, ref->node->name);
		return -EPERM;
	}
	return 0;
}

/* Neither twice, nor once and left out */
static int node_check_once(const struct qblk_node *node, const char *name,
			   struct qblk_err *err)
{
	bool found = node->no_backing && !strcmp(name, "backing");
	const struct qblk_child *child;

	list_for_each_entry(child, &node->children, parent_entry)
		found |= !strcmp(child->name, name);
	if (!found)
		return 0;
	qblk_err_set(err, "node '%s': child '%.31s' is given twice", node->name,
		     name);
	return -EINVAL;
}

/* "backing": null of QEMU, true of nodes that cannot have one, too */
static int node_leave_out(struct qblk_node *node, const char *name,
			  struct qblk_err *err)
{
	if (strcmp(name, "backing")) {
		qblk_err_set(err, "node '%s': child '%.31s' cannot be left out",
			     node->name, name);
		return -EINVAL;
	}
	node->no_backing = true;
	return 0;
}

static int node_attach_one(struct qblk_node *node,
			   const struct qblk_child_ref *ref, bool data_file,
			   struct qblk_err *err)
{
	bool cow = !strcmp(ref->name, "backing");
	char desc[sizeof_field(struct qblk_child, desc)];
	struct qblk_child *child;
	int ret;

	ret = node_check_once(node, ref->name, err);
	if (ret)
		return ret;
	if (!ref->node)
		return node_leave_out(node, ref->name, err);
	ret = node_check_child(node, ref, err);
	if (ret)
		return ret;
	snprintf(desc, sizeof(desc), "node '%s'", node->name);
	child = qblk_child_attach(node, ref->node, ref->name,
				  default_role(node, ref->name, data_file),
				  default_perm(node, cow),
				  QBLK_PERM_CONSISTENT_READ |
				  QBLK_PERM_WRITE_UNCHANGED, desc, err);
	return PTR_ERR_OR_ZERO(child);
}

static int node_attach_children(struct qblk_node *node,
				const struct qblk_node_params *p,
				struct qblk_err *err)
{
	bool data_file = is_given(p, "data-file");
	unsigned int i;
	int ret;

	node->track_depth = node->tracked;
	for (i = 0; i < p->nr_children; i++) {
		ret = node_attach_one(node, &p->children[i], data_file, err);
		if (ret)
			return ret;
	}
	if (!node->file && !qblk_node_is_leaf(node)) {
		qblk_err_set(err, "node '%s': driver '%s' needs a child 'file'",
			     node->name, node->drv->name);
		return -EINVAL;
	}
	return 0;
}

static void node_detach_children(struct qblk_node *node)
{
	struct qblk_child *child, *next;

	list_for_each_entry_safe(child, next, &node->children, parent_entry)
		qblk_child_detach(child);
}

/* Opening */

static bool node_name_valid(const char *name)
{
	size_t i;

	if (!isalpha(name[0]))
		return false;
	for (i = 0; name[i]; i++) {
		if (!isascii(name[i]) ||
		    (!isalnum(name[i]) && !strchr("._-", name[i])))
			return false;
	}
	return i < QBLK_NODE_NAME_LEN;
}

static int node_set_name(struct qblk_node *node, const char *name,
			 struct qblk_err *err)
{
	if (!name) {
		/* user's names do not start like this, so it is unique */
		snprintf(node->name, sizeof(node->name), "#block%03u",
			 next_block++);
		return 0;
	}
	if (!node_name_valid(name)) {
		qblk_err_set(err,
			     "'%.64s' is not a node name: a letter, then letters, digits, '.', '_' and '-', at most %u in all",
			     name, QBLK_NODE_NAME_LEN - 1);
		return -EINVAL;
	}
	if (qblk_node_find(name)) {
		qblk_err_set(err, "node '%s' exists already", name);
		return -EEXIST;
	}
	strscpy(node->name, name, sizeof(node->name));
	return 0;
}

static struct qblk_node *node_alloc(struct qblk_driver *drv,
				    const struct qblk_node_params *p)
{
	struct qblk_node *node = kzalloc(sizeof(*node), GFP_KERNEL);

	if (!node)
		return NULL;
	kref_init(&node->ref);
	INIT_LIST_HEAD(&node->children);
	INIT_LIST_HEAD(&node->parents);
	INIT_LIST_HEAD(&node->entry);
	INIT_LIST_HEAD(&node->walk);
	node->drv = drv;
	node->implicit = p->implicit;
	if (drv->instance_size) {
		node->priv = kzalloc(drv->instance_size, GFP_KERNEL);
		if (!node->priv)
			goto err_put;
	}
	if (p->label) {
		node->label = kstrdup(p->label, GFP_KERNEL);
		if (!node->label)
			goto err_put;
	}
	return node;

err_put:
	kref_put(&node->ref, node_release);
	return NULL;
}

static int node_set_common(struct qblk_node *node, const struct node_opts *o,
			   struct qblk_err *err)
{
	node->read_only = o->read_only;
	node->discard_unmap = o->discard == DISCARD_UNMAP;
	node->detect_zeroes = o->detect_zeroes;
	if (node->detect_zeroes != QBLK_DETECT_ZEROES_UNMAP ||
	    node->discard_unmap)
		return 0;
	qblk_err_set(err,
		     "node '%s': option 'detect-zeroes': 'unmap' is not allowed without discard=unmap",
		     node->name);
	return -EINVAL;
}

/* Common options, then the driver's into @drv_opts, then nothing may be left */
static int node_parse_opts(struct qblk_node *node,
			   const struct qblk_node_params *p, void *drv_opts,
			   struct qblk_err *err)
{
	char who[QBLK_NODE_NAME_LEN + 8];
	struct node_opts common;
	int ret;

	snprintf(who, sizeof(who), "node '%s'", node->name);
	ret = qblk_opts_parse(qblk_node_opts, p->opts, p->nr_opts, &common,
			      who, err);
	if (!ret)
		ret = qblk_opts_parse(node->drv->opts, p->opts, p->nr_opts,
				      drv_opts, who, err);
	if (!ret)
		ret = qblk_opts_unused(p->opts, p->nr_opts, who, err);
	return ret ?: node_set_common(node, &common, err);
}

static int node_take_file(struct qblk_node *node,
			  const struct qblk_node_params *p,
			  struct qblk_err *err)
{
	bool needs = node->drv->flags & QBLK_DRV_NEEDS_FD;

	if (needs != !!p->file) {
		qblk_err_set(err, "node '%s': driver '%s' %s", node->name,
			     node->drv->name, needs ? "needs an open file" :
			     "takes no open file");
		return -EINVAL;
	}
	if (p->file)
		node->fd_file = get_file(p->file);
	return 0;
}

static void node_put_file(struct qblk_node *node)
{
	if (node->fd_file)
		fput(node->fd_file);
	node->fd_file = NULL;
}

static int node_track_init(struct qblk_node *node)
{
	int ret;

	if (!(node->drv->flags & QBLK_DRV_REMAPS) || node->read_only)
		return 0;
	ret = init_srcu_struct(&node->io_srcu);
	if (!ret)
		node->tracked = true;
	return ret;
}

static void node_track_exit(struct qblk_node *node)
{
	if (!node->tracked)
		return;
	/* completions may be past their last use, not past srcu_up_read() */
	qblk_node_io_sync(node);
	cleanup_srcu_struct(&node->io_srcu);
	node->tracked = false;
}

static void drv_close(struct qblk_node *node)
{
	unsigned int noio = memalloc_noio_save();

	node->drv->close(node);
	memalloc_noio_restore(noio);
}

/* What a leaf needs besides its driver, once it has its limits */
static int node_leaf_init(struct qblk_node *node)
{
	int ret;

	if (!qblk_node_is_leaf(node))
		return 0;
	ret = qblk_bounce_init(node);
	if (ret)
		return ret;
	ret = qblk_serialising_init(node);
	if (ret)
		qblk_bounce_exit(node);
	return ret;
}

static void node_leaf_exit(struct qblk_node *node)
{
	if (!qblk_node_is_leaf(node))
		return;
	qblk_serialising_exit(node);
	qblk_bounce_exit(node);
}

static int node_drv_open(struct qblk_node *node, const void *drv_opts,
			 struct qblk_err *err)
{
	unsigned int noio = memalloc_noio_save();
	int ret;

	ret = node->drv->open(node, drv_opts, err);
	memalloc_noio_restore(noio);
	if (ret) {
		qblk_err_set(err, "node '%s': driver '%s' could not open it",
			     node->name, node->drv->name);
		return ret;
	}
	ret = qblk_limits_refresh(node, err);
	if (!ret)
		ret = node_leaf_init(node);
	if (ret) {
		drv_close(node);
		return ret;
	}
	qblk_serialising_update(node);
	return 0;
}

/* @node has name, driver, options: give it a file and children, and open it */
static int node_bring_up(struct qblk_node *node,
			 const struct qblk_node_params *p,
			 const void *drv_opts, struct qblk_err *err)
{
	int ret;

	ret = node_take_file(node, p, err);
	if (ret)
		return ret;
	ret = node_track_init(node);
	if (ret)
		goto err_file;
	ret = node_attach_children(node, p, err);
	if (ret)
		goto err_children;
	ret = node_drv_open(node, drv_opts, err);
	if (ret)
		goto err_children;
	return 0;

err_children:
	node_detach_children(node);
	node_track_exit(node);
err_file:
	node_put_file(node);
	return ret;
}

static int node_open(struct qblk_node *node, const struct qblk_node_params *p,
		     struct qblk_err *err)
{
	void *drv_opts;
	int ret;

	ret = node_set_name(node, p->name, err);
	if (ret)
		return ret;
	drv_opts = kzalloc(max_t(size_t, node->drv->opts_size, 1), GFP_KERNEL);
	if (!drv_opts)
		return -ENOMEM;
	ret = node_parse_opts(node, p, drv_opts, err);
	if (!ret)
		ret = node_bring_up(node, p, drv_opts, err);
	kfree(drv_opts);
	return ret;
}

struct qblk_node *qblk_node_open(const struct qblk_node_params *p,
				 struct qblk_err *err)
{
	struct qblk_driver *drv;
	struct qblk_node *node;
	int ret;

	lockdep_assert_held(&qblk_control_mutex);
	drv = qblk_driver_get(p->driver, err);
	if (IS_ERR(drv))
		return ERR_CAST(drv);
	node = node_alloc(drv, p);
	if (!node) {
		ret = -ENOMEM;
		goto err_driver;
	}
	ret = node_open(node, p, err);
	if (ret)
		goto err_node;
	list_add_tail(&node->entry, &qblk_nodes);
	qblk_debugfs_add(node);
	qblk_graph_gen++;
	return node;

err_node:
	kref_put(&node->ref, node_release);
err_driver:
	qblk_driver_put(drv);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_GPL(qblk_node_open);

/* Closing */

/* Nobody uses @node, and its metadata is written back */
static void node_close(struct qblk_node *node)
{
	const struct qblk_driver *drv = node->drv;

	qblk_debugfs_del(node);
	list_del_init(&node->entry);
	drv_close(node);
	/* after the driver, whose own work may wait for I/O through it */
	node_track_exit(node);
	node_leaf_exit(node);
	node_detach_children(node);
	node_put_file(node);
	qblk_graph_gen++;
	kref_put(&node->ref, node_release);
	qblk_driver_put(drv);
}

static int node_inactivate(struct qblk_node *node, struct qblk_err *err)
{
	unsigned int noio = memalloc_noio_save();
	int ret = 0;

	if (node->drv->inactivate)
		ret = node->drv->inactivate(node, err);
	if (!ret)
		ret = qblk_node_flush(node);
	memalloc_noio_restore(noio);
	if (ret)
		qblk_err_set(err, "node '%s': writing it back failed",
			     node->name);
	return ret;
}

static int node_check_unused(const struct qblk_node *node,
			     struct qblk_err *err)
{
	const struct qblk_child *edge;
	char users[128] = "";
	size_t n = 0;

	if (list_empty(&node->parents))
		return 0;
	list_for_each_entry(edge, &node->parents, node_entry)
		n += scnprintf(users + n, sizeof(users) - n, "%s%s",
			       n ? ", " : "", edge->desc);
	qblk_err_set(err, "node '%s' is in use by %s", node->name, users);
	return -EBUSY;
}

int qblk_node_del(struct qblk_node *node, bool force, struct qblk_err *err)
{
	int ret;

	lockdep_assert_held(&qblk_control_mutex);
	ret = node_check_unused(node, err);
	if (ret)
		return ret;
	ret = node_inactivate(node, err);
	if (ret && !force)
		return ret;
	if (ret)
		pr_err("qblk: node '%s': closed although writing it back failed: %d\n",
		       node->name, ret);
	node_close(node);
	return 0;
}
EXPORT_SYMBOL_GPL(qblk_node_del);

/*
 * The list has children before parents, so one pass from its end meets every
 * node after all of its parents.
 */
void qblk_node_reap(void)
{
	struct qblk_node *node, *prev;

	lockdep_assert_held(&qblk_control_mutex);
	list_for_each_entry_safe_reverse(node, prev, &qblk_nodes, entry) {
		if (node->implicit && list_empty(&node->parents))
			qblk_node_del(node, true, NULL);
	}
}
EXPORT_SYMBOL_GPL(qblk_node_reap);
