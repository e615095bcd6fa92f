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
 * struct data_file - where the data of a layer is, unless in its image
 * @path: as it was opened, or NULL for none
 * @real: without links; labels it
 * @fd: open and locked, -1 once the graph has it
 */
struct data_file {
	char *path;
	char *real;
	int fd;
};

/**
 * struct image - a layer
 * @path: as it was opened; its directory is where a relative name in its header
 *	starts, as in QEMU, even if it is a link to somewhere else
 * @real: without links; labels it
 * @fd: open and locked, -1 once the graph has it
 * @st: which file it is
 * @header: from qblk_probe()
 * @data: its data file
 */
struct image {
	char *path;
	char *real;
	int fd;
	struct stat st;
	struct json_object *header;
	struct data_file data;
};

static void image_init(struct image *img, char *path)
{
	img->path = path;
	img->fd = -1;
	img->data.fd = -1;
}

static void image_free(struct image *img)
{
	free(img->path);
	free(img->real);
	if (img->fd >= 0)
		close(img->fd);
	json_object_put(img->header);
	free(img->data.path);
	free(img->data.real);
	if (img->data.fd >= 0)
		close(img->data.fd);
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

/*
 * The path of a file that a header names, in *@path.  @start is where relative
 * names begin, NULL for the directory of the image.
 */
static int named_path(const struct image *img, const char *what,
		      const char *name, const char *start, char **path,
		      struct qblk_error *err)
{
	char dir[PATH_MAX];

	if (!strncmp(name, "file:", 5) && strncmp(name, "file://", 7))
		name += 5;
	if (has_protocol(name))
		return qblk_error_set(err, EOPNOTSUPP,
				      "the %s '%s' of %s is not a path; build the graph with --image-opts",
				      what, name, img->path);
	if (name[0] == '/') {
		*path = strdup(name);
	} else {
		snprintf(dir, sizeof(dir), "%s", img->path);
		if (asprintf(path, "%s/%s", start ? start : dirname(dir),
			     name) < 0)
			*path = NULL;
	}
	return *path ? 0 : qblk_error_nomem(err);
}

/* The path of the backing file, in *@path, or NULL without one */
static int backing_path(const struct chain *c, const struct image *img,
			char **path, struct qblk_error *err)
{
	const char *name = qblk_get_str(img->header, "backing-file");

	*path = NULL;
	if (!name || !*name || c->no_backing)
		return 0;
	return named_path(img, "backing file", name, c->backing_dir, path, err);
}

/* QEMU would take both, and write metadata over data. */
static int refuse_same(const struct image *imgs, int nr, const char *path,
		       int fd, struct qblk_error *err)
{
	struct stat st;
	int i;

	if (fstat(fd, &st))
		return qblk_error_set(err, errno, "%s: %s", path,
				      strerror(errno));
	for (i = 0; i <= nr; i++)
		if (same_file(&imgs[i].st, &st))
			return qblk_error_set(err, EINVAL,
					      "the data file of %s is %s, which is an image of the chain",
					      imgs[nr].path, imgs[i].real);
	return 0;
}

/* Opens and locks the data file of image number @nr, its path known */
static int data_file_open(struct chain *c, struct image *imgs, int nr,
			  bool read_only, struct qblk_error *err)
{
	struct data_file *data = &imgs[nr].data;
	struct qblk_error why = {};
	int ret;

	data->fd = qblk_image_open(data->path, read_only, &why);
	if (data->fd < 0)
		return qblk_error_set(err, why.code, "data file of %s: %s",
				      imgs[nr].path, why.text);
	data->real = realpath(data->path, NULL);
	if (!data->real)
		return qblk_error_set(err, errno, "%s: %s", data->path,
				      strerror(errno));
	ret = refuse_same(imgs, nr, data->path, data->fd, err);
	if (!ret)
		ret = qblk_image_lock(data->fd, data->path, read_only, err);
	if (ret == -EBUSY)
		c->graph->busy = strdup(data->path);
	return ret;
}

/*
 * The data file of image number @nr: @given, or the one its header names.  With
 * neither it is up to the kernel to say that the image needs one.
 */
static int open_data(struct chain *c, struct image *imgs, int nr,
		     const char *given, bool read_only, struct qblk_error *err)
{
	struct image *img = &imgs[nr];
	const char *name = qblk_get_str(img->header, "data-file");
	int ret = 0;

	if (given) {
		img->data.path = strdup(given);
		if (!img->data.path)
			return qblk_error_nomem(err);
	} else if (name && *name) {
		ret = named_path(img, "data file", name, NULL, &img->data.path,
				 err);
	}
	if (ret || !img->data.path)
		return ret;
	return data_file_open(c, imgs, nr, read_only, err);
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
		image_init(img, path);
		ret = image_open(c, imgs, *nr - 1, err);
		if (!ret)
			ret = backing_header(c, img, img - 1, err);
		if (!ret)
			ret = open_data(c, imgs, *nr - 1, NULL, true, err);
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
	image_init(&imgs[0], strdup(path));
	if (!imgs[0].path)
		return qblk_error_nomem(err);
	ret = image_open(c, imgs, 0, err);
	if (!ret)
		ret = top_header(c, &imgs[0], err);
	if (!ret)
		ret = open_data(c, imgs, 0, c->data_file, c->read_only, err);
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
	if (!ret && top && c->detect_zeroes)
		ret = qblk_def_option(&c->graph->defs[index], "detect-zeroes",
				      c->detect_zeroes, err);
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

/* snapshot.id=ID,snapshot.name=NAME, of which one may be missing */
static int add_snapshot_params(const struct chain *c, struct qblk_def *def,
			       struct qblk_error *err)
{
	struct json_object *tree = qblk_parse_options(c->snapshot, err);
	const char *name;
	char key[64];
	int ret = 0;

	if (!tree)
		return -err->code;
	json_object_object_foreach(qblk_get(tree, "snapshot"), member, value) {
		name = json_object_get_string(value);
		if (strcmp(member, "id") && strcmp(member, "name"))
			ret = qblk_error_set(err, EINVAL,
					     "--load-snapshot: 'snapshot.%s' is neither snapshot.id nor snapshot.name",
					     member);
		snprintf(key, sizeof(key), "load-snapshot.%s", member);
		if (!ret)
			ret = qblk_def_option(def, key, name, err);
		if (ret)
			break;
	}
	if (!ret && json_object_object_length(tree) > 1)
		ret = qblk_error_set(err, EINVAL,
				     "--load-snapshot: '%s' has more than snapshot.id and snapshot.name",
				     c->snapshot);
	json_object_put(tree);
	return ret;
}

/* The forms are those of qemu-img convert -l. */
static int add_snapshot(const struct chain *c, struct qblk_def *def,
			struct qblk_error *err)
{
	if (!c->snapshot)
		return 0;
	if (!strncmp(c->snapshot, "snapshot.", 9))
		return add_snapshot_params(c, def, err);
	return qblk_def_option(def, "load-snapshot", c->snapshot, err);
}

/* A leaf; takes the file over and returns the index. */
static int add_leaf(struct chain *c, int *fd, const char *label, bool top,
		    struct qblk_error *err)
{
	int index, ret;

	index = qblk_graph_add(c->graph, qblk_image_driver(*fd), label, *fd,
			       err);
	*fd = -1;
	if (index < 0)
		return index;
	ret = common_options(c, &c->graph->defs[index], top, err);
	return ret ? ret : index;
}

/* Images below a layer and beside its file; @data and @backing are -1 if not */
static int add_children(struct chain *c, int index, const struct image *img,
			int data, int backing, struct qblk_error *err)
{
	struct qblk_def *def = &c->graph->defs[index];
	const char *name = qblk_get_str(img->header, "backing-file");
	int ret = 0;

	if (data >= 0)
		ret = qblk_def_child(def, "data-file", NULL, data, err);
	if (ret)
		return ret;
	if (backing >= 0)
		ret = qblk_def_child(def, "backing", NULL, backing, err);
	else if (name && *name)
		ret = qblk_def_child(def, "backing", NULL, QBLK_NO_CHILD, err);
	return ret;
}

/* @backing is the index of the layer below, or -1; returns that of this one */
static int add_layer(struct chain *c, struct image *img, bool top, int backing,
		     struct qblk_error *err)
{
	const char *format = qblk_get_str(img->header, "format");
	bool shift = top && c->offset;
	int index, ret = 0;
	int data = -1;

	if (img->data.fd >= 0) {
		data = add_leaf(c, &img->data.fd, img->data.real, top, err);
		if (data < 0)
			return data;
	}
	index = add_leaf(c, &img->fd, img->real, top, err);
	if (index < 0)
		return index;
	/* raw has an offset of its own, other formats get a raw below. */
	if (shift && strcmp(format, "raw")) {
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
	if (!ret && top)
		ret = add_snapshot(c, &c->graph->defs[index], err);
	if (!ret)
		ret = add_children(c, index, img, data, backing, err);
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

/**
 * struct wanted - children that are looked for in the header of a node
 * @backing: the backing file
 * @data: the data file
 */
struct wanted {
	bool backing;
	bool data;
};

static bool has_child(const struct qblk_def *def, const char *name)
{
	size_t i;

	for (i = 0; i < def->nr_children; i++)
		if (!strcmp(def->children[i].name, name))
			return true;
	return false;
}

/* What the driver can have and the user did not mention */
static int find_wanted(struct qblk_sock *sock, const struct qblk_def *def,
		       struct wanted *w, struct qblk_error *err)
{
	struct json_object *driver = qblk_driver(sock, def->driver, err);
	struct json_object *flags = qblk_get(driver, "flags");
	const char *flag;
	size_t i;

	if (!driver) {
		if (err->code == ENOENT)
			err->code = EOPNOTSUPP;
		return -err->code;
	}
	for (i = 0; flags && i < json_object_array_length(flags); i++) {
		flag = qblk_get_elem(flags, i);
		w->backing |= !strcmp(flag, "backing");
		w->data |= !strcmp(flag, "data-file");
	}
	json_object_put(driver);
	w->backing &= !has_child(def, "backing");
	w->data &= !has_child(def, "data-file");
	return 0;
}

static const char *find_option(const struct qblk_def *def, const char *key)
{
	size_t i;

	for (i = 0; i < def->nr_options; i++)
		if (!strcmp(def->options[i].key, key))
			return def->options[i].value;
	return NULL;
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
			const struct qblk_def *def,
			const struct qblk_def *file, uint64_t offset,
			struct qblk_error *err)
{
	image_init(img, strdup(file->filename ? file->filename : file->label));
	img->real = strdup(file->label);
	if (!img->path || !img->real)
		return qblk_error_nomem(err);
	if (fstat(file->fd, &img->st))
		return qblk_error_set(err, errno, "%s: %s", img->path,
				      strerror(errno));
	img->header = qblk_probe(c->sock, file->fd, def->driver, offset, err);
	return img->header ? 0 : -err->code;
}

static bool is_read_only(const struct qblk_def *def)
{
	const char *text = find_option(def, "read-only");

	return text && !strcmp(text, "on");
}

static int find_data(struct chain *c, struct image *imgs, struct qblk_def *def,
		     struct qblk_error *err)
{
	bool read_only = is_read_only(def);
	int index, ret;

	ret = open_data(c, imgs, 0, NULL, read_only, err);
	if (ret || imgs[0].data.fd < 0)
		return ret;
	index = add_leaf(c, &imgs[0].data.fd, imgs[0].data.real, !read_only,
			 err);
	if (index < 0)
		return index;
	return qblk_def_child(def, "data-file", NULL, index, err);
}

static int find_backing(struct chain *c, struct image *imgs, int *nr,
			struct qblk_def *def, struct qblk_error *err)
{
	int index, ret;

	ret = open_backing(c, imgs, nr, err);
	if (ret || *nr == 1)
		return ret;
	index = add_layers(c, imgs, *nr, 1, err);
	if (index < 0)
		return index;
	return qblk_def_child(def, "backing", NULL, index, err);
}

static int find_children(struct chain *c, struct qblk_def *def,
			 const struct qblk_def *file, uint64_t offset,
			 const struct wanted *w, struct qblk_error *err)
{
	struct image *imgs = calloc(QBLK_MAX_CHAIN, sizeof(*imgs));
	int nr = 1;
	int ret;

	if (!imgs)
		return qblk_error_nomem(err);
	ret = image_of_def(c, &imgs[0], def, file, offset, err);
	if (!ret && w->data)
		ret = find_data(c, imgs, def, err);
	if (!ret && w->backing)
		ret = find_backing(c, imgs, &nr, def, err);
	free_images(imgs, nr);
	return ret;
}

/*
 * An image without its backing file reads as zeroes where it has no data, and a
 * write copies these zeroes up: so it is left out only where there is none, or
 * where the user says so.  Without its data file, the kernel refuses it.
 */
int chain_header(void *arg, struct qblk_def *def, struct qblk_error *err)
{
	const struct qblk_def *file;
	struct wanted w = {};
	struct chain *c = arg;
	uint64_t offset;
	int ret;

	ret = find_wanted(c->sock, def, &w, err);
	if (!ret && w.backing && c->no_backing) {
		ret = qblk_def_child(def, "backing", NULL, QBLK_NO_CHILD, err);
		w.backing = false;
	}
	/* The kernel says best that a node has no file at all. */
	if (ret || !(w.backing || w.data) || !has_child(def, "file"))
		return ret;
	file = find_file(c->graph, def, &offset);
	if (file)
		return find_children(c, def, file, offset, &w, err);
	if (!w.backing)
		return 0;
	return qblk_error_set(err, EINVAL,
			      "%s node%s%s: where its file is cannot be told, so neither can its backing file; give backing=NODE, or \"backing\": null",
			      def->driver, def->name ? " " : "",
			      def->name ? def->name : "");
}
