// SPDX-License-Identifier: GPL-2.0
/* The command table, and what all commands share: options, help, errors. */
#include "qblkctl.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_ROWS	32

static const struct command node_commands[] = {
	{
		.name = "node add",
		.args = "OPTIONS|JSON",
		.min_args = 1,
		.max_args = 1,
		.summary = "open a node and the nodes below it",
		.help = "OPTIONS are QEMU's, such as\n"
			"  driver=qcow2,node-name=n,file.filename=/a.qcow2\n"
			"The names of the nodes are printed, the one asked for last.\n",
		.rows = node_add_rows,
		.run = cmd_node_add,
	}, {
		.name = "node del",
		.args = "NODE",
		.min_args = 1,
		.max_args = 1,
		.summary = "close a node that nothing uses",
		.run = cmd_node_del,
	}, {
		.name = "node list",
		.args = "",
		.summary = "list nodes",
		.rows = node_list_rows,
		.run = cmd_node_list,
	}, {
		.name = "node show",
		.args = "NODE",
		.min_args = 1,
		.max_args = 1,
		.summary = "show a node",
		.rows = node_show_rows,
		.run = cmd_node_show,
	},
	{}
};

static const struct command commands[] = {
	{
		.name = "attach",
		.args = "IMAGE | --image-opts OPTIONS|JSON | --node NODE",
		.max_args = 1,
		.summary = "make a disk of an image and print its device",
		.help = "IMAGE is a file or a block device.  Its format is recognised unless it\n"
			"is given; raw is never assumed.  Backing files are found through the headers.\n"
			"The device and its partitions can be used when the command returns.\n",
		.rows = attach_rows,
		.run = cmd_attach,
	}, {
		.name = "detach",
		.args = "DEVICE|NAME... | --all",
		.max_args = INT_MAX,
		.summary = "remove disks; everything is on disk afterwards",
		.rows = detach_rows,
		.run = cmd_detach,
	}, {
		.name = "list",
		.args = "",
		.summary = "list disks",
		.rows = list_rows,
		.run = cmd_list,
	}, {
		.name = "show",
		.args = "DEVICE|NAME",
		.min_args = 1,
		.max_args = 1,
		.summary = "show a disk, its image and its backing files",
		.rows = show_rows,
		.run = cmd_show,
	}, {
		.name = "drivers",
		.args = "[DRIVER]",
		.max_args = 1,
		.summary = "list drivers and their options",
		.rows = drivers_rows,
		.run = cmd_drivers,
	}, {
		.name = "node",
		.args = "add|del|list|show",
		.summary = "work on single nodes of the graph",
		.group = node_commands,
	}, {
		.name = "version",
		.args = "",
		.summary = "show the versions of qblkctl and of the module",
		.run = cmd_version,
	},
	{}
};

void print_warnings(const struct command *cmd, struct json_object *reply)
{
	struct json_object *all = qblk_get(reply, "warnings");
	size_t i;

	for (i = 0; all && i < json_object_array_length(all); i++) {
		fprintf(stderr, "qblkctl: %s: warning: ", cmd->name);
		print_safe(stderr, qblk_get_elem(all, i));
		putc('\n', stderr);
	}
}

int fail(const struct command *cmd, const char *subject,
	 const struct qblk_error *err)
{
	const char *text = err->text;
	size_t len;

	fprintf(stderr, "qblkctl: %s: ", cmd->name);
	if (subject) {
		len = strlen(subject);
		/* Some messages name the file themselves. */
		if (strncmp(text, subject, len) || text[len] != ':')
			fprintf(stderr, "%s: ", subject);
	}
	print_safe(stderr, text);
	putc('\n', stderr);

	switch (err->code) {
	case EOPNOTSUPP:
		return STATUS_NOT_SUPPORTED;
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return STATUS_NOT_FOUND;
	case EBUSY:
	case EEXIST:
		return STATUS_BUSY;
	default:
		return STATUS_FAILED;
	}
}

int usage_error(const struct command *cmd, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "qblkctl: %s: ", cmd->name);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nTry 'qblkctl %s --help'.\n", cmd->name);
	return STATUS_USAGE;
}

static void print_row(const struct arg_row *row)
{
	char left[64];
	int len = 0;

	if (row->letter)
		len = snprintf(left, sizeof(left), "-%c, ", row->letter);
	else
		len = snprintf(left, sizeof(left), "    ");
	len += snprintf(left + len, sizeof(left) - len, "--%s", row->name);
	if (row->value)
		snprintf(left + len, sizeof(left) - len, " %s", row->value);
	printf("  %-30s %s\n", left, row->help);
}

static const struct arg_row help_row = {
	.letter = 'h',
	.name = "help",
	.help = "show this help",
};

static void print_help(const struct command *cmd)
{
	const struct command *sub;
	const struct arg_row *row;

	if (cmd->group) {
		printf("Usage: qblkctl %s COMMAND ...\n\n%s\n\nCommands:\n",
		       cmd->name, cmd->summary);
		for (sub = cmd->group; sub->name; sub++)
			printf("  %-12s %s\n", sub->name, sub->summary);
		printf("\nSee 'qblkctl %s COMMAND --help'.\n", cmd->name);
		return;
	}
	printf("Usage: qblkctl %s [OPTION]... %s\n\n%s\n", cmd->name, cmd->args,
	       cmd->summary);
	if (cmd->help)
		printf("\n%s", cmd->help);
	printf("\nOptions:\n");
	for (row = cmd->rows; row && row->name; row++)
		print_row(row);
	print_row(&help_row);
}

static void print_main_help(void)
{
	const struct command *cmd;

	printf("Usage: qblkctl COMMAND [OPTION]... [ARGUMENT]...\n\n"
	       "Attach QEMU disk images as block devices.\n\nCommands:\n");
	for (cmd = commands; cmd->name; cmd++)
		printf("  %-12s %s\n", cmd->name, cmd->summary);
	printf("\nOptions:\n");
	print_row(&help_row);
	printf("  %-30s %s\n", "-V, --version", "show the version");
	printf("\nSee 'qblkctl COMMAND --help' and qblkctl(8).\n");
}

int parse_number(const char *text, bool suffixes, uint64_t *to)
{
	static const char letters[] = "bkmgtpe";
	bool hex = !strncasecmp(text, "0x", 2);
	unsigned long long value;
	unsigned int shift = 0;
	const char *letter;
	char *end;

	/* strtoull() would take a sign, and "0x" alone for 0. */
	if (hex ? !isxdigit((unsigned char)text[2]) :
		  !isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, hex ? 16 : 10);
	if (errno)
		return -ERANGE;
	/* As in the kernel: letters after hexadecimal digits are ambiguous. */
	if (suffixes && *end && !hex) {
		letter = strchr(letters, tolower((unsigned char)*end));
		if (!letter)
			return -EINVAL;
		shift = 10 * (letter - letters);
		end++;
	}
	if (*end)
		return -EINVAL;
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*to = value << shift;
	return 0;
}

static int store(const struct command *cmd, const struct arg_row *row,
		 const char *text, void *opts)
{
	void *to = (char *)opts + row->offset;

	switch (row->kind) {
	case ARG_FLAG:
		*(bool *)to = true;
		return 0;
	case ARG_TEXT:
		*(const char **)to = text;
		return 0;
	case ARG_NUMBER:
	case ARG_SIZE:
		if (!parse_number(text, row->kind == ARG_SIZE, to))
			return 0;
		return usage_error(cmd, "--%s: '%s' is not a %s", row->name,
				   text, row->kind == ARG_SIZE ?
				   "size, such as 65536 or 64K" : "number");
	}
	return 0;
}

/* The tables of getopt_long(); a row's value is its index + 256. */
static void make_getopt(const struct command *cmd, struct option *longs,
			char *shorts)
{
	const struct arg_row *row;
	int i;

	*shorts++ = 'h';
	for (i = 0, row = cmd->rows; row && row->name; row++, i++) {
		longs[i].name = row->name;
		longs[i].has_arg = row->value ? required_argument : no_argument;
		longs[i].flag = NULL;
		longs[i].val = i + 256;
		if (!row->letter)
			continue;
		*shorts++ = row->letter;
		if (row->value)
			*shorts++ = ':';
	}
	*shorts = 0;
	longs[i] = (struct option){ "help", no_argument, NULL, 'h' };
	longs[i + 1] = (struct option){};
}

static const struct arg_row *find_row(const struct command *cmd, int c)
{
	const struct arg_row *row;

	if (c >= 256)
		return &cmd->rows[c - 256];
	for (row = cmd->rows; row && row->name; row++)
		if (row->letter == c)
			return row;
	return NULL;
}

static int run_command(const struct command *cmd, int argc, char **argv)
{
	uint64_t opts[MAX_OPTS_SIZE / sizeof(uint64_t)] = {};
	struct option longs[MAX_ROWS + 2];
	char shorts[2 * MAX_ROWS + 2];
	const struct arg_row *row;
	char name[64];
	int c, ret;

	/* getopt_long() puts argv[0] in front of its messages. */
	snprintf(name, sizeof(name), "qblkctl: %s", cmd->name);
	argv[0] = name;
	make_getopt(cmd, longs, shorts);
	optind = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (c == 'h') {
			print_help(cmd);
			return STATUS_OK;
		}
		row = find_row(cmd, c);
		if (!row) {
			fprintf(stderr, "Try 'qblkctl %s --help'.\n",
				cmd->name);
			return STATUS_USAGE;
		}
		ret = store(cmd, row, optarg, opts);
		if (ret)
			return ret;
	}
	argc -= optind;
	argv += optind;
	if (argc < cmd->min_args)
		return usage_error(cmd, "an argument is missing: %s",
				   cmd->args);
	if (argc > cmd->max_args)
		return usage_error(cmd, "unexpected argument '%s'",
				   argv[cmd->max_args]);
	return cmd->run(cmd, opts, argc, argv);
}

static const struct command *find_command(const struct command *table,
					  const char *prefix, const char *name)
{
	size_t skip = prefix ? strlen(prefix) + 1 : 0;

	for (; table->name; table++)
		if (!strcmp(table->name + skip, name))
			return table;
	return NULL;
}

static bool is_help(const char *text)
{
	return !strcmp(text, "-h") || !strcmp(text, "--help");
}

static int run_group(const struct command *group, int argc, char **argv)
{
	const struct command *cmd;

	if (argc < 2)
		return usage_error(group, "a command is missing: %s",
				   group->args);
	if (is_help(argv[1])) {
		print_help(group);
		return STATUS_OK;
	}
	cmd = find_command(group->group, group->name, argv[1]);
	if (!cmd)
		return usage_error(group, "unknown command '%s'", argv[1]);
	return run_command(cmd, argc - 1, argv + 1);
}

static int run(int argc, char **argv)
{
	const struct command *cmd;

	if (argc < 2) {
		fprintf(stderr, "qblkctl: a command is missing\n"
			"Try 'qblkctl --help'.\n");
		return STATUS_USAGE;
	}
	if (is_help(argv[1]) || !strcmp(argv[1], "help")) {
		print_main_help();
		return STATUS_OK;
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		printf("qblkctl %s\n", QBLK_VERSION);
		return STATUS_OK;
	}
	cmd = find_command(commands, NULL, argv[1]);
	if (!cmd) {
		fprintf(stderr, "qblkctl: unknown command '%s'\n"
			"Try 'qblkctl --help'.\n", argv[1]);
		return STATUS_USAGE;
	}
	if (cmd->group)
		return run_group(cmd, argc - 1, argv + 1);
	return run_command(cmd, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int ret = run(argc, argv);

	/* Output that could not be written is a failure, too. */
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "qblkctl: cannot write the output: %s\n",
			strerror(errno));
		return ret ? ret : STATUS_FAILED;
	}
	return ret;
}
