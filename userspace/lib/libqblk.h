/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libqblk: talk to the qblk kernel module.
 *
 * Objects come back as JSON with the names of the netlink specification
 * (Documentation/netlink/specs/qblk.yaml); they are owned by the caller.
 */
#ifndef _LIBQBLK_H
#define _LIBQBLK_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/qblk.h>

/* Longest backing chain; the kernel has the same bound. */
#define QBLK_MAX_CHAIN	200

#define QBLK_ERROR_LEN	1024

#ifndef __printf
#define __printf(fmt, args)	__attribute__((__format__(printf, fmt, args)))
#endif

/**
 * struct qblk_error - why something failed
 * @code: errno, positive
 * @text: one sentence without a newline
 */
struct qblk_error {
	int code;
	char text[QBLK_ERROR_LEN];
};

/**
 * qblk_error_set - explain a failure, over what was there before
 * @err: where to
 * @code: errno, positive
 * @fmt: sentence without a newline
 *
 * Return: -@code, so that callers can return the call.
 */
__printf(3, 4)
int qblk_error_set(struct qblk_error *err, int code, const char *fmt, ...);

/**
 * qblk_error_nomem - explain that memory is used up
 * @err: where to
 *
 * Return: -ENOMEM.
 */
int qblk_error_nomem(struct qblk_error *err);

/*
 * Transport.
 */

struct qblk_sock;

/**
 * qblk_open - connect to the kernel module, which is loaded if need be
 * @err: gets the reason on failure
 *
 * Return: the connection or NULL; EOPNOTSUPP when there is no module.
 */
struct qblk_sock *qblk_open(struct qblk_error *err);

/**
 * qblk_close - undo qblk_open()
 * @sock: the connection or NULL
 */
void qblk_close(struct qblk_sock *sock);

/*
 * Graphs: definitions of nodes, children before parents.
 */

/**
 * struct qblk_option - an option of a node
 * @key: QEMU's name
 * @value: text
 */
struct qblk_option {
	char *key;
	char *value;
};

/* A backing file that is left out although the header may name one */
#define QBLK_NO_CHILD	UINT32_MAX

/**
 * struct qblk_child - a child of a node
 * @name: what the node calls it, such as ``file``
 * @node: name of a node that exists, or NULL
 * @index: else the position of the child in the graph, or %QBLK_NO_CHILD
 */
struct qblk_child {
	char *name;
	char *node;
	uint32_t index;
};

/**
 * struct qblk_def - a node to be opened
 * @driver: driver
 * @name: node name or NULL
 * @label: path for display or NULL
 * @filename: what qblk_graph_build() opened, as it was given, or NULL
 * @fd: open file or -1, closed with the graph
 * @options: options
 * @nr_options: number of @options
 * @children: children
 * @nr_children: number of @children
 */
struct qblk_def {
	char *driver;
	char *name;
	char *label;
	char *filename;
	int fd;
	struct qblk_option *options;
	size_t nr_options;
	struct qblk_child *children;
	size_t nr_children;
};

/**
 * struct qblk_graph - nodes to be opened in one step
 * @defs: children before parents; the last one is the root
 * @nr: number of @defs
 * @busy: path of an image that could not be locked, or NULL
 */
struct qblk_graph {
	struct qblk_def *defs;
	size_t nr;
	char *busy;
};

/**
 * qblk_graph_add - append a definition
 * @g: the graph
 * @driver: driver, or NULL to be set later
 * @label: path for display or NULL
 * @fd: open file or -1; taken over, also on failure
 * @err: gets the reason on failure
 *
 * Return: its index or a negative errno.
 */
int qblk_graph_add(struct qblk_graph *g, const char *driver, const char *label,
		   int fd, struct qblk_error *err);

int qblk_def_option(struct qblk_def *def, const char *key, const char *value,
		    struct qblk_error *err);
int qblk_def_child(struct qblk_def *def, const char *name, const char *node,
		   uint32_t index, struct qblk_error *err);

/**
 * qblk_def_free - close and free what a definition holds, not itself
 * @def: the definition
 */
void qblk_def_free(struct qblk_def *def);

/**
 * qblk_graph_free - close and free what a graph holds
 * @g: the graph, empty afterwards
 */
void qblk_graph_free(struct qblk_graph *g);

/**
 * qblk_parse_options - read a graph in QEMU's syntax
 * @text: JSON, or ``driver=qcow2,file.driver=file,file.filename=/a``
 * @err: gets the reason on failure
 *
 * Return: a JSON object or NULL.
 */
struct json_object *qblk_parse_options(const char *text,
				       struct qblk_error *err);

/**
 * typedef qblk_header_fn - define the children a header names
 * @arg: the caller's
 * @def: the node, complete but for children that were not mentioned; not yet in
 *	the graph
 * @err: gets the reason on failure
 *
 * Return: 0 or a negative errno.
 */
typedef int (*qblk_header_fn)(void *arg, struct qblk_def *def,
			      struct qblk_error *err);

/**
 * qblk_graph_build - turn a parsed graph into definitions
 * @g: gets the definitions
 * @tree: from qblk_parse_options()
 * @read_only: open everything for reading
 * @header: called for every node defined, or NULL
 * @arg: for @header
 * @err: gets the reason on failure
 *
 * Files named by ``filename`` are opened and locked here.
 *
 * Return: 0 or a negative errno.
 */
int qblk_graph_build(struct qblk_graph *g, struct json_object *tree,
		     bool read_only, qblk_header_fn header, void *arg,
		     struct qblk_error *err);

/*
 * Image files.
 */

/**
 * qblk_image_open - open a file or a block device
 * @path: which
 * @read_only: for reading only
 * @err: gets the reason on failure
 *
 * Return: a descriptor, of an open file description of its own, or a negative
 * errno.
 */
int qblk_image_open(const char *path, bool read_only, struct qblk_error *err);

/**
 * qblk_image_driver - protocol driver for an open image
 * @fd: from qblk_image_open()
 *
 * Return: ``file`` or ``host_device``.
 */
const char *qblk_image_driver(int fd);

/**
 * qblk_image_lock - take QEMU's locks
 * @fd: from qblk_image_open()
 * @path: for messages
 * @read_only: the image is not going to be written to
 * @err: gets the reason on failure
 *
 * The locks belong to the open file description, so they last as long as the
 * kernel module uses it.
 *
 * Return: 0; -EBUSY when another process uses the image; a negative errno.
 */
int qblk_image_lock(int fd, const char *path, bool read_only,
		    struct qblk_error *err);

/*
 * Commands.  They return 0, or an object; a negative errno or NULL on failure.
 */

/**
 * struct qblk_export_params - a disk to be made
 * @name: the user's name or NULL
 * @root: name of an existing node, or NULL for the last one of the graph
 * @read_only: no writes
 * @no_partscan: do not look for partitions
 * @logical_block_size: bytes or 0
 * @queues: hardware queues or 0
 * @queue_depth: requests per queue or 0
 */
struct qblk_export_params {
	const char *name;
	const char *root;
	bool read_only;
	bool no_partscan;
	uint32_t logical_block_size;
	uint32_t queues;
	uint32_t queue_depth;
};

struct json_object *qblk_version(struct qblk_sock *s, struct qblk_error *err);
struct json_object *qblk_drivers(struct qblk_sock *s, struct qblk_error *err);
struct json_object *qblk_driver(struct qblk_sock *s, const char *name,
				struct qblk_error *err);
struct json_object *qblk_nodes(struct qblk_sock *s, struct qblk_error *err);
struct json_object *qblk_node(struct qblk_sock *s, const char *name,
			      struct qblk_error *err);
struct json_object *qblk_exports(struct qblk_sock *s, struct qblk_error *err);
struct json_object *qblk_export(struct qblk_sock *s, const char *name,
				struct qblk_error *err);

/* ``nodes`` with their names, in the order of their definitions; ``warnings`` */
struct json_object *qblk_node_add(struct qblk_sock *s,
				  const struct qblk_graph *g,
				  struct qblk_error *err);
int qblk_node_del(struct qblk_sock *s, const char *name,
		  struct qblk_error *err);
struct json_object *qblk_export_add(struct qblk_sock *s,
				    const struct qblk_graph *g,
				    const struct qblk_export_params *p,
				    struct qblk_error *err);

/**
 * qblk_export_del - remove a disk
 * @s: connection
 * @name: its name, or ``qblkN``
 * @root: remove it only if it shows this node, or NULL
 * @mode: how to treat a disk in use
 * @err: gets the reason on failure
 *
 * Return: 0; -ENOENT, also when it shows another node; a negative errno.
 */
int qblk_export_del(struct qblk_sock *s, const char *name, const char *root,
		    enum qblk_detach_mode mode, struct qblk_error *err);

/**
 * qblk_probe - what the header of an image says
 * @s: connection
 * @fd: the image, open for reading
 * @format: the only format to consider, or NULL
 * @offset: where the image starts in the file
 * @err: gets the reason on failure
 *
 * Return: an object with ``format``, ``guess`` (nobody knows the header, so it
 * may be raw), ``virtual-size``, ``backing-file``, ``backing-format`` and ``data-file``.
 */
struct json_object *qblk_probe(struct qblk_sock *s, int fd, const char *format,
			       uint64_t offset, struct qblk_error *err);

/*
 * Members of an object; absent ones are NULL, 0 and false.
 */
const char *qblk_get_str(struct json_object *obj, const char *key);
uint64_t qblk_get_u64(struct json_object *obj, const char *key);
bool qblk_get_bool(struct json_object *obj, const char *key);
struct json_object *qblk_get(struct json_object *obj, const char *key);

/* An element of an array of strings */
const char *qblk_get_elem(struct json_object *array, size_t i);

#endif /* _LIBQBLK_H */
