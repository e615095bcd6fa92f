// SPDX-License-Identifier: GPL-2.0
/*
 * An image and its backing files: opened and locked from the top down, defined
 * for the kernel from the bottom up.
 *
 * Headers are read by the kernel.  What they say is not trusted: a backing file
 * is opened by whoever runs qblkctl, for reading only, and an image is never
 * taken to be raw because nothing else fits, since whoever can write to a raw
 * image can write the header of another format into it.
 */
#include "qblkctl.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/**
 * struct image - a layer
 * @path: as it was opened; its directory is where a relative name in its header
 *	starts, as in QEMU, even if it is a link to somewhere else
 * @real: without links; labels it
 * @fd: open and locked, -1 once the graph has it
 * @st: which file it is
 * @header: from qblk_probe()
 */
struct image {
	char *path;
	char *real;
	int fd;
	struct stat st;
	struct json_object *header;
};

static void image_free(struct image *img)
{
	free(img->path);
	free(img->real);
	if (img->fd >= 0)
		close(img->fd);
	json_object_put(img->header);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int refuse_loop(const struct image *imgs, int nr, struct qblk_error *err)
{
	int i;

	for (i = 0; i < nr; i++)
		if (same_file(&imgs[i].st, &imgs[nr].st))
			return qblk_error_set(err, ELOOP,
					      "the backing chain is a loop: %s comes twice",
					      imgs[nr].real);
	return 0;
}

/* Opens and locks image number @nr; those below the top for reading. */
static int image_open(struct chain *c, struct image *imgs, int nr,
		      struct qblk_error *err)
{
	bool read_only = c->read_only || nr;
	struct image *img = &imgs[nr];
	int ret;

	img->fd = qblk_image_open(img->path, read_only, err);
	if (img->fd < 0)
		return img->fd;
	img->real = realpath(img->path, NULL);
	if (!img->real || fstat(img->fd, &img->st))
		return qblk_error_set(err, errno, "%s: %s", img->path,
				      strerror(errno));
	/* First, since a loop would be a conflict with our own lock, too. */
	ret = refuse_loop(imgs, nr, err);
	if (ret)
		return ret;
	ret = qblk_image_lock(img->fd, img->path, read_only, err);
	if (ret == -EBUSY)
		c->graph->busy = strdup(img->path);
	return ret;
}

static int top_header(struct chain *c, struct image *img,
		      struct qblk_error *err)
{
	img->header = qblk_probe(c->sock, img->fd, c->format, c->offset, err);
	if (!img->header)
		return -err->code;
	if (!qblk_get_bool(img->header, "guess"))
		return 0;
	return qblk_error_set(err, EINVAL,
			      "%s: the format is not recognised; if the image is raw, say so with -f raw",
			      img->path);
}

static int backing_header(struct chain *c, struct image *img,
			  const struct image *above, struct qblk_error *err)
{
	const char *format = qblk_get_str(above->header, "backing-format");
	struct qblk_error why = {};

	img->header = qblk_probe(c->sock, img->fd, format, 0, &why);
	if (img->header)
		return 0;
	/* "Not found" is about the driver here, as the file is open. */
	return qblk_error_set(err, why.code == ENOENT ? EOPNOTSUPP : why.code,
			      "backing file %s (%s according to %s): %s",
			      img->path, format, above->path, why.text);
}

/*
 * Looking for a format that no header names would let whoever can write to a
 * raw backing file decide which one it is: a qcow2 header in there, and with it
 * the name of any file of this host.  So say how to name it.  The names are not
 * part of the command since they come from an image, and a shell reads more
 * into them than that.
 */
static int check_backing_format(const struct image *img, const char *path,
				struct qblk_error *err)
{
	if (qblk_get_str(img->header, "backing-format"))
		return 0;
	return qblk_error_set(err, EINVAL,
			      "the header of %s does not tell the format of its backing file %s, and it is not guessed; write it down with: qemu-img rebase -u -F FORMAT -b BACKING-FILE IMAGE",
			      img->path, path);
}

/* "json:{...}", "nbd://host": QEMU has a protocol up to the first colon. */
static bool has_protocol(const char *name)
{
	size_t len = strcspn(name, ":/");

	return name[len] == ':';
}

/* The path of the backing file, in *@path, or NULL without one */
static int backing_path(const struct chain *c, const struct image *img,
			char **path, struct qblk_error *err)
{
	const char *name = qblk_get_str(img->header, "backing-file");
	char dir[PATH_MAX];

	*path = NULL;
	if (!name || !*name || c->no_backing)
		return 0;
	if (!strncmp(name, "file:", 5) && strncmp(name, "file://", 7))
		name += 5;
	if (has_protocol(name))
		return qblk_error_set(err, EOPNOTSUPP,
				      "the backing file '%s' of %s is not a path; build the graph with --image-opts",
				      name, img->path);
	if (name[0] == '/') {
		*path = strdup(name);
	} else {
		snprintf(dir, sizeof(dir), "%s", img->path);
		if (asprintf(path, "%s/%s", c->backing_dir ? c->backing_dir :
			     dirname(dir), name) < 0)
			*path = NULL;
	}
	return *path ? 0 : qblk_error_nomem(err);
}

/*
 * Opens the images below the last one of *@nr until one has no backing file.
 * Counts them in *@nr, one that failed half way included.
 */
static int open_backing(struct chain *c, struct image *imgs, int *nr,
			struct qblk_error *err)
{
	struct image *img;
	char *path;
	int ret;

	for (;;) {
		ret = backing_path(c, &imgs[*nr - 1], &path, err);
		if (ret || !path)
			return ret;
		ret = check_backing_format(&imgs[*nr - 1], path, err);
		if (!ret && *nr == QBLK_MAX_CHAIN)
			ret = qblk_error_set(err, ELOOP,
					     "the backing chain has more than %d images",
					     QBLK_MAX_CHAIN);
		if (ret) {
			free(path);
			return ret;
		}
		img = &imgs[(*nr)++];
		img->path = path;
		img->fd = -1;
		ret = image_open(c, imgs, *nr - 1, err);
		if (!ret)
			ret = backing_header(c, img, img - 1, err);
		if (ret)
			return ret;
	}
}

/* Opens the image at the top and all below it. */
static int open_all(struct chain *c, struct image *imgs, int *nr,
		    const char *path, struct qblk_error *err)
{
	int ret;

	*nr = 1;
	imgs[0].fd = -1;
	imgs[0].path = strdup(path);
	if (!imgs[0].path)
		return qblk_error_nomem(err);
	ret = image_open(c, imgs, 0, err);
	if (!ret)
		ret = top_header(c, &imgs[0], err);
	if (!ret)
		ret = open_backing(c, imgs, nr, err);
	return ret;
}

static int common_options(const struct chain *c, struct qblk_def *def, bool top,
			  struct qblk_error *err)
{
	int ret = 0;

	if (!top || c->read_only)
		ret = qblk_def_option(def, "read-only", "on", err);
	if (!ret && top && c->discard)
		ret = qblk_def_option(def, "discard", c->discard, err);
	return ret;
}

/*
 * One more node on top of the graph, with the node before as its file.  Adding
 * a node moves the others, so pointers to them do not last.
 */
static int add_above(struct chain *c, const char *driver, const char *label,
		     bool top, struct qblk_error *err)
{
	int index = qblk_graph_add(c->graph, driver, label, -1, err);
	int ret;

	if (index < 0)
		return index;
	ret = common_options(c, &c->graph->defs[index], top, err);
	if (!ret)
		ret = qblk_def_child(&c->graph->defs[index], "file", NULL,
				     index - 1, err);
	return ret ? ret : index;
}

static int add_offset(struct chain *c, int index, struct qblk_error *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)c->offset);
	return qblk_def_option(&c->graph->defs[index], "offset", text, err);
}

/* @backing is the index of the layer below, or -1; returns that of this one */
static int add_layer(struct chain *c, struct image *img, bool top, int backing,
		     struct qblk_error *err)
{
	const char *format = qblk_get_str(img->header, "format");
	bool shift = top && c->offset;
	int fd = img->fd;
	int index, ret;

	img->fd = -1;
	index = qblk_graph_add(c->graph, qblk_image_driver(fd), img->real, fd,
			       err);
	if (index < 0)
		return index;
	ret = common_options(c, &c->graph->defs[index], top, err);
	/* raw has an offset of its own, other formats get a raw below. */
	if (!ret && shift && strcmp(format, "raw")) {
		index = add_above(c, "raw", img->real, top, err);
		ret = index < 0 ? index : add_offset(c, index, err);
		shift = false;
	}
	if (ret)
		return ret;
	index = add_above(c, format, img->real, top, err);
	if (index < 0)
		return index;
	if (shift)
		ret = add_offset(c, index, err);
	if (!ret && backing >= 0)
		ret = qblk_def_child(&c->graph->defs[index], "backing", NULL,
				     backing, err);
	return ret ? ret : index;
}

/*
 * Defines images @first and those below it, from the bottom up.  Returns the
 * index of the node of @first.
 */
static int add_layers(struct chain *c, struct image *imgs, int nr, int first,
		      struct qblk_error *err)
{
	int backing = -1;
	int i;

	for (i = nr - 1; i >= first; i--) {
		backing = add_layer(c, &imgs[i], !i, backing, err);
		if (backing < 0)
			return backing;
	}
	return backing;
}

static void free_images(struct image *imgs, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		image_free(&imgs[i]);
	free(imgs);
}

int chain_build(struct chain *c, const char *path, struct qblk_error *err)
{
	struct image *imgs = calloc(QBLK_MAX_CHAIN, sizeof(*imgs));
	int nr = 0;
	int ret;

	if (!imgs)
		return qblk_error_nomem(err);
	ret = open_all(c, imgs, &nr, path, err);
	if (!ret)
		ret = add_layers(c, imgs, nr, 0, err);
	free_images(imgs, nr);
	return ret < 0 ? ret : 0;
}

/* 1, 0, or a negative errno */
static int can_have_backing(struct qblk_sock *sock, const char *name,
			    struct qblk_error *err)
{
	struct json_object *driver = qblk_driver(sock, name, err);
	struct json_object *flags = qblk_get(driver, "flags");
	bool found = false;
	size_t i;

	if (!driver) {
		if (err->code == ENOENT)
			err->code = EOPNOTSUPP;
		return -err->code;
	}
	for (i = 0; flags && i < json_object_array_length(flags); i++)
		found |= !strcmp(qblk_get_elem(flags, i), "backing");
	json_object_put(driver);
	return found;
}

static const char *find_option(const struct qblk_def *def, const char *key)
{
	size_t i;

	for (i = 0; i < def->nr_options; i++)
		if (!strcmp(def->options[i].key, key))
			return def->options[i].value;
	return NULL;
}

static bool has_file(const struct qblk_def *def)
{
	size_t i;

	for (i = 0; i < def->nr_children; i++)
		if (!strcmp(def->children[i].name, "file"))
			return true;
	return false;
}

/*
 * The definition with the open file of a node, and where in it the node's data
 * starts; NULL if that is not part of the graph, or a driver stands between.
 */
static const struct qblk_def *find_file(const struct qblk_graph *g,
					const struct qblk_def *def,
					uint64_t *offset)
{
	const struct qblk_def *next;
	uint64_t add;
	const char *text;
	size_t i;

	*offset = 0;
	while (def->fd < 0) {
		next = NULL;
		for (i = 0; i < def->nr_children; i++)
			if (!strcmp(def->children[i].name, "file") &&
			    !def->children[i].node)
				next = &g->defs[def->children[i].index];
		if (!next || (next->fd < 0 && strcmp(next->driver, "raw")))
			return NULL;
		def = next;
		text = def->fd < 0 ? find_option(def, "offset") : NULL;
		if (!text)
			continue;
		if (parse_number(text, true, &add))
			return NULL;
		*offset += add;
	}
	return def;
}

/* The header of @def, as an image that has nothing to be opened any more */
static int image_of_def(struct chain *c, struct image *img,
			const struct qblk_def *def, struct qblk_error *err)
{
	const struct qblk_def *file;
	uint64_t offset;

	file = find_file(c->graph, def, &offset);
	if (!file)
		return qblk_error_set(err, EINVAL,
				      "%s node%s%s: where its file is cannot be told, so neither can its backing file; give backing=NODE, or \"backing\": null",
				      def->driver, def->name ? " " : "",
				      def->name ? def->name : "");
	img->path = strdup(file->filename ? file->filename : file->label);
	img->real = strdup(file->label);
	if (!img->path || !img->real)
		return qblk_error_nomem(err);
	if (fstat(file->fd, &img->st))
		return qblk_error_set(err, errno, "%s: %s", img->path,
				      strerror(errno));
	img->header = qblk_probe(c->sock, file->fd, def->driver, offset, err);
	return img->header ? 0 : -err->code;
}

/*
 * An image without its backing file reads as zeroes where it has no data, and a
 * write copies these zeroes up: so it is left out only where there is none, or
 * where the user says so.
 */
int chain_backing(void *arg, const struct qblk_def *def, int *index,
		  struct qblk_error *err)
{
	struct chain *c = arg;
	struct image *imgs;
	int nr = 1;
	int ret;

	*index = -1;
	if (c->no_backing)
		return 0;
	ret = can_have_backing(c->sock, def->driver, err);
	/* The kernel says best that a node has no file at all. */
	if (ret <= 0 || !has_file(def))
		return ret < 0 ? ret : 0;
	imgs = calloc(QBLK_MAX_CHAIN, sizeof(*imgs));
	if (!imgs)
		return qblk_error_nomem(err);
	imgs[0].fd = -1;
	ret = image_of_def(c, &imgs[0], def, err);
	if (!ret)
		ret = open_backing(c, imgs, &nr, err);
	if (!ret && nr > 1) {
		*index = add_layers(c, imgs, nr, 1, err);
		ret = *index < 0 ? *index : 0;
	}
	free_images(imgs, nr);
	return ret;
}
