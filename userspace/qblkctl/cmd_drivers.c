// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <stdio.h>
#include <string.h>

struct drivers_opts {
	bool json;
	bool verbose;
	bool no_headings;
};

const struct arg_row drivers_rows[] = {
	{ 'J', "json", NULL, ARG_FLAG, offsetof(struct drivers_opts, json),
	  "print JSON, options included" },
	{ 'v', "verbose", NULL, ARG_FLAG,
	  offsetof(struct drivers_opts, verbose), "print options as well" },
	{ 'n', "noheadings", NULL, ARG_FLAG,
	  offsetof(struct drivers_opts, no_headings), "do not print headings" },
	{}
};

static const struct column columns[] = {
	{ "DRIVER", "name", COLUMN_TEXT, true, "name" },
	{ "KIND", "kind", COLUMN_TEXT, true, "format, filter or protocol" },
	{ "OPTIONS", "nr-options", COLUMN_NUMBER, true, "how many it has" },
};

static bool has_flag(struct json_object *driver, const char *flag)
{
	struct json_object *flags = qblk_get(driver, "flags");
	size_t i;

	for (i = 0; i < json_object_array_length(flags); i++)
		if (!strcmp(qblk_get_elem(flags, i), flag))
			return true;
	return false;
}

static const char *kind_of(struct json_object *driver)
{
	if (has_flag(driver, "protocol"))
		return "protocol";
	return has_flag(driver, "filter") ? "filter" : "format";
}

static void complete_row(struct json_object *driver)
{
	size_t nr = json_object_array_length(qblk_get(driver, "options"));

	json_object_object_add(driver, "kind",
			       json_object_new_string(kind_of(driver)));
	json_object_object_add(driver, "nr-options",
			       json_object_new_int64(nr));
}

static void print_option(struct json_object *option)
{
	struct json_object *choices = qblk_get(option, "choices");
	const char *def = qblk_get_str(option, "default");
	const char *help = qblk_get_str(option, "help");
	char left[128];
	size_t i, len;

	len = snprintf(left, sizeof(left), "%s=", qblk_get_str(option, "name"));
	if (!json_object_array_length(choices))
		len += snprintf(left + len, sizeof(left) - len, "%s",
				qblk_get_str(option, "type"));
	for (i = 0; i < json_object_array_length(choices); i++)
		if (len < sizeof(left))
			len += snprintf(left + len, sizeof(left) - len, "%s%s",
					i ? "|" : "",
					qblk_get_elem(choices, i));
	printf("  %-38s %s", left, help ? help : "");
	if (qblk_get_bool(option, "required"))
		printf(" (required)");
	else if (def)
		printf(" (default %s)", def);
	putchar('\n');
}

static void print_driver(struct json_object *driver)
{
	struct json_object *options = qblk_get(driver, "options");
	size_t i;

	printf("%s (%s)\n", qblk_get_str(driver, "name"), kind_of(driver));
	for (i = 0; i < json_object_array_length(options); i++)
		print_option(json_object_array_get_idx(options, i));
}

static struct json_object *fetch(struct qblk_sock *sock, const char *name,
				 struct qblk_error *err)
{
	struct json_object *driver, *drivers;

	if (!name)
		return qblk_drivers(sock, err);
	driver = qblk_driver(sock, name, err);
	if (!driver)
		return NULL;
	drivers = json_object_new_array();
	json_object_array_add(drivers, driver);
	return drivers;
}

static int print_table(const struct command *cmd, const struct drivers_opts *o,
		       struct json_object *drivers)
{
	const struct table t = {
		.name = "drivers",
		.columns = columns,
		.nr = ARRAY_SIZE(columns),
		.no_headings = o->no_headings,
	};
	size_t i;

	for (i = 0; i < json_object_array_length(drivers); i++)
		complete_row(json_object_array_get_idx(drivers, i));
	return table_print(cmd, &t, drivers);
}

/* { "drivers": [ ... ] }, as the tables of other commands look */
static int print_as_json(struct json_object *drivers)
{
	struct json_object *obj = json_object_new_object();

	json_object_object_add(obj, "drivers", json_object_get(drivers));
	print_json(obj);
	json_object_put(obj);
	return STATUS_OK;
}

int cmd_drivers(const struct command *cmd, const void *opts, int argc,
		char **argv)
{
	const char *name = argc ? argv[0] : NULL;
	const struct drivers_opts *o = opts;
	struct json_object *drivers;
	struct qblk_error err = {};
	struct qblk_sock *sock;
	int ret = STATUS_OK;
	size_t i;

	sock = qblk_open(&err);
	if (!sock)
		return fail(cmd, name, &err);
	drivers = fetch(sock, name, &err);
	qblk_close(sock);
	if (!drivers)
		return fail(cmd, name, &err);
	if (o->json)
		ret = print_as_json(drivers);
	else if (!o->verbose && !name)
		ret = print_table(cmd, o, drivers);
	else
		for (i = 0; i < json_object_array_length(drivers); i++)
			print_driver(json_object_array_get_idx(drivers, i));
	json_object_put(drivers);
	return ret;
}
