// SPDX-License-Identifier: GPL-2.0
/* Definitions of nodes. */
#include "libqblk.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A copy that may be NULL because @text is; fails only for lack of memory. */
static int copy_text(char **to, const char *text)
{
	*to = text ? strdup(text) : NULL;
	return text && !*to ? -1 : 0;
}

int qblk_graph_add(struct qblk_graph *g, const char *driver, const char *label,
		   int fd, struct qblk_error *err)
{
	struct qblk_def *defs;
	struct qblk_def *def;

	defs = reallocarray(g->defs, g->nr + 1, sizeof(*defs));
	if (!defs) {
		if (fd >= 0)
			close(fd);
		return qblk_error_nomem(err);
	}
	g->defs = defs;
	def = &defs[g->nr++];
	memset(def, 0, sizeof(*def));
	def->fd = fd;
	if (copy_text(&def->driver, driver) || copy_text(&def->label, label))
		return qblk_error_nomem(err);
	return g->nr - 1;
}

int qblk_def_option(struct qblk_def *def, const char *key, const char *value,
		    struct qblk_error *err)
{
	struct qblk_option *o;

	o = reallocarray(def->options, def->nr_options + 1, sizeof(*o));
	if (!o)
		return qblk_error_nomem(err);
	def->options = o;
	o += def->nr_options++;
	memset(o, 0, sizeof(*o));
	if (copy_text(&o->key, key) || copy_text(&o->value, value))
		return qblk_error_nomem(err);
	return 0;
}

int qblk_def_child(struct qblk_def *def, const char *name, const char *node,
		   uint32_t index, struct qblk_error *err)
{
	struct qblk_child *c;

	c = reallocarray(def->children, def->nr_children + 1, sizeof(*c));
	if (!c)
		return qblk_error_nomem(err);
	def->children = c;
	c += def->nr_children++;
	memset(c, 0, sizeof(*c));
	c->index = index;
	if (copy_text(&c->name, name) || copy_text(&c->node, node))
		return qblk_error_nomem(err);
	return 0;
}

void qblk_def_free(struct qblk_def *def)
{
	size_t i;

	for (i = 0; i < def->nr_options; i++) {
		free(def->options[i].key);
		free(def->options[i].value);
	}
	for (i = 0; i < def->nr_children; i++) {
		free(def->children[i].name);
		free(def->children[i].node);
	}
	free(def->options);
	free(def->children);
	free(def->driver);
	free(def->name);
	free(def->label);
	free(def->filename);
	if (def->fd >= 0)
		close(def->fd);
}

void qblk_graph_free(struct qblk_graph *g)
{
	size_t i;

	for (i = 0; i < g->nr; i++)
		qblk_def_free(&g->defs[i]);
	free(g->defs);
	free(g->busy);
	memset(g, 0, sizeof(*g));
}
