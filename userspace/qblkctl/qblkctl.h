/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLKCTL_H
#define _QBLKCTL_H

#include <libqblk.h>
#include <util.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Exit status */
enum status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_NOT_SUPPORTED = 3,
	STATUS_NOT_FOUND = 4,
	STATUS_BUSY = 5,
};

/**
 * enum arg_kind - what the value of an option is stored as
 * @ARG_FLAG: bool, no value
 * @ARG_TEXT: const char *
 * @ARG_NUMBER: uint64_t
 * @ARG_SIZE: uint64_t, the text has an optional suffix B, K, M, G, T, P or E
 */
enum arg_kind {
	ARG_FLAG,
	ARG_TEXT,
	ARG_NUMBER,
	ARG_SIZE,
};

/**
 * struct arg_row - an option of a command
 * @letter: short form, or 0
 * @name: long form
 * @value: what the value is called in the help, NULL for a flag
 * @kind: see &enum arg_kind
 * @offset: of the value in the structure handed to &command.run
 * @help: one line
 */
struct arg_row {
	char letter;
	const char *name;
	const char *value;
	enum arg_kind kind;
	size_t offset;
	const char *help;
};

/**
 * struct command - a row of the command table
 * @name: name
 * @args: arguments in the usage line
 * @min_args: least number of arguments
 * @max_args: largest number of arguments
 * @summary: one line
 * @help: further paragraphs, or NULL
 * @rows: options, ended by one without a name; or NULL
 * @run: does it; @opts is zeroed and filled from @rows
 * @group: subcommands, ended by one without a name, instead of @run
 */
struct command {
	const char *name;
	const char *args;
	int min_args;
	int max_args;
	const char *summary;
	const char *help;
	const struct arg_row *rows;
	int (*run)(const struct command *cmd, const void *opts, int argc,
		   char **argv);
	const struct command *group;
};

/* Bytes of the largest structure of options */
#define MAX_OPTS_SIZE	256

int cmd_attach(const struct command *cmd, const void *opts, int argc,
	       char **argv);
int cmd_detach(const struct command *cmd, const void *opts, int argc,
	       char **argv);
int cmd_list(const struct command *cmd, const void *opts, int argc,
	     char **argv);
int cmd_show(const struct command *cmd, const void *opts, int argc,
	     char **argv);
int cmd_drivers(const struct command *cmd, const void *opts, int argc,
		char **argv);
int cmd_version(const struct command *cmd, const void *opts, int argc,
		char **argv);
int cmd_node_add(const struct command *cmd, const void *opts, int argc,
		 char **argv);
int cmd_node_del(const struct command *cmd, const void *opts, int argc,
		 char **argv);
int cmd_node_list(const struct command *cmd, const void *opts, int argc,
		  char **argv);
int cmd_node_show(const struct command *cmd, const void *opts, int argc,
		  char **argv);

extern const struct arg_row attach_rows[];
extern const struct arg_row detach_rows[];
extern const struct arg_row list_rows[];
extern const struct arg_row show_rows[];
extern const struct arg_row drivers_rows[];
extern const struct arg_row node_add_rows[];
extern const struct arg_row node_list_rows[];
extern const struct arg_row node_show_rows[];

/* main.c */

/**
 * fail - report a failure on stderr
 * @cmd: the command
 * @subject: what it was about, or NULL
 * @err: why
 *
 * Return: the exit status that fits.
 */
int fail(const struct command *cmd, const char *subject,
	 const struct qblk_error *err);

/**
 * print_warnings - tell on stderr what the kernel said although it worked
 * @cmd: the command
 * @reply: its ``warnings`` are printed
 */
void print_warnings(const struct command *cmd, struct json_object *reply);

/**
 * usage_error - report a wrong use of a command on stderr
 * @cmd: the command
 * @fmt: sentence
 *
 * Return: STATUS_USAGE.
 */
__printf(2, 3)
int usage_error(const struct command *cmd, const char *fmt, ...);

/**
 * parse_number - read a number
 * @text: decimal, or hexadecimal with 0x; nothing else may follow
 * @suffixes: but, after a decimal number, one of B, K, M, G, T, P and E
 * @to: gets it
 *
 * Return: 0, -EINVAL or -ERANGE.
 */
int parse_number(const char *text, bool suffixes, uint64_t *to);

/* output.c */

/**
 * enum column_kind - how a member of an object is shown in a table
 * @COLUMN_TEXT: as it is
 * @COLUMN_NUMBER: as it is, to the right
 * @COLUMN_SIZE: bytes, with a suffix unless bytes are asked for
 * @COLUMN_BOOL: 0 or 1
 */
enum column_kind {
	COLUMN_TEXT,
	COLUMN_NUMBER,
	COLUMN_SIZE,
	COLUMN_BOOL,
};

/**
 * struct column - a column of a table
 * @name: heading
 * @key: member of an object
 * @kind: see &enum column_kind
 * @is_default: shown unless columns are chosen
 * @help: one line
 */
struct column {
	const char *name;
	const char *key;
	enum column_kind kind;
	bool is_default;
	const char *help;
};

/**
 * struct table - how to print a table
 * @name: of the array in JSON
 * @columns: all columns
 * @nr: number of @columns
 * @chosen: comma-separated headings, or NULL for the usual ones
 * @json: print JSON; all columns unless some are chosen
 * @no_headings: leave the headings out
 * @bytes: print sizes in bytes
 */
struct table {
	const char *name;
	const struct column *columns;
	size_t nr;
	const char *chosen;
	bool json;
	bool no_headings;
	bool bytes;
};

/**
 * table_print - print an array of objects
 * @cmd: the command, for messages
 * @t: how
 * @rows: the array
 *
 * Return: exit status.
 */
int table_print(const struct command *cmd, const struct table *t,
		struct json_object *rows);

/**
 * print_safe - print text that may come from an image
 * @f: where to
 * @text: the text; control characters come out as ``?``
 */
void print_safe(FILE *f, const char *text);

/**
 * print_json - print an object, indented
 * @obj: the object
 */
void print_json(struct json_object *obj);

/**
 * print_member - print ``key: value``
 * @indent: columns to the left
 * @key: key
 * @value: value; nothing is printed for NULL
 */
void print_member(int indent, const char *key, struct json_object *value);

/**
 * format_size - bytes as a short text, such as 1.5G
 * @buf: where to
 * @len: bytes in @buf
 * @bytes: the number
 */
void format_size(char *buf, size_t len, uint64_t bytes);

/* device.c */

/**
 * find_disk - the disk a user means
 * @sock: connection
 * @text: ``/dev/qblkN``, ``qblkN``, a link to it, or its name
 * @err: gets the reason on failure
 *
 * Return: the object of the disk or NULL.
 */
struct json_object *find_disk(struct qblk_sock *sock, const char *text,
			      struct qblk_error *err);

/**
 * time_usec - the time that udev writes down, CLOCK_MONOTONIC
 *
 * Return: microseconds.
 */
uint64_t time_usec(void);

/**
 * wait_for_disk - wait until a disk and its partitions can be used
 * @disk: ``qblkN``
 * @since: time_usec() from before it was made
 *
 * That is until the device nodes exist and udev, if it runs, has seen them.
 */
void wait_for_disk(const char *disk, uint64_t since);

/**
 * disk_devices - a disk and its partitions
 * @disk: ``qblkN``
 *
 * Return: an object of device names and numbers (dev_t).
 */
struct json_object *disk_devices(const char *disk);

/* holders.c */

/**
 * struct holders - who uses something
 * @text: ``mounted on /mnt; opened by vi (123)``
 * @len: bytes in @text
 * @nr: how many there are, udev not counted
 */
struct holders {
	char text[512];
	size_t len;
	unsigned int nr;
};

/**
 * find_disk_holders - who uses a disk
 * @h: gets them
 * @disk: ``qblkN``
 */
void find_disk_holders(struct holders *h, const char *disk);

/**
 * explain_busy - add who uses an image to a message
 * @sock: connection
 * @path: of the image, or NULL to do nothing
 * @err: says that it is busy
 */
void explain_busy(struct qblk_sock *sock, const char *path,
		  struct qblk_error *err);

/* chain.c */

/**
 * struct chain - an image and what it is based on
 * @sock: connection
 * @graph: gets the nodes
 * @format: of the image, or NULL to look at its header
 * @backing_dir: where relative names are looked up, or NULL for the directory
 *	of the image that has them
 * @data_file: data file of the image, or NULL for the one its header names
 * @no_backing: leave backing files out
 * @read_only: open the image for reading
 * @discard: discard= of all nodes of the image, or NULL
 * @detect_zeroes: detect-zeroes= of the image's format, or NULL
 * @snapshot: internal snapshot of the image to show, or NULL: an id, a name, or
 *	``snapshot.id=ID,snapshot.name=NAME``
 * @offset: where the image starts in its file
 */
struct chain {
	struct qblk_sock *sock;
	struct qblk_graph *graph;
	const char *format;
	const char *backing_dir;
	const char *data_file;
	bool no_backing;
	bool read_only;
	const char *discard;
	const char *detect_zeroes;
	const char *snapshot;
	uint64_t offset;
};

/**
 * chain_build - open an image and its backing files
 * @c: what to do
 * @path: the image
 * @err: gets the reason on failure
 *
 * Return: 0 or a negative errno.
 */
int chain_build(struct chain *c, const char *path, struct qblk_error *err);

/**
 * chain_header - define the files a header names, in a graph of options
 * @arg: a &struct chain
 * @def: the node, its other children defined; gets what is missing: the backing
 *	file and all below it, and the data file
 * @err: gets the reason on failure
 *
 * For qblk_graph_build().
 */
int chain_header(void *arg, struct qblk_def *def, struct qblk_error *err);

/* layers.c */

/**
 * find_layers - the backing chain of a node
 * @nodes: all nodes
 * @root: name of the node
 *
 * Return: an array of nodes; the node that holds a layer's data is its member
 * ``file``, beside which there may be a ``data-file``.
 */
struct json_object *find_layers(struct json_object *nodes, const char *root);

/**
 * layer_image - path or description of a layer's image
 * @layer: from find_layers()
 */
const char *layer_image(struct json_object *layer);

#endif /* _QBLKCTL_H */
