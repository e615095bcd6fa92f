// SPDX-License-Identifier: GPL-2.0
#include "qblkctl.h"

#include <ctype.h>
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void format_size(char *buf, size_t len, uint64_t bytes)
{
	static const char suffixes[] = "BKMGTPE";
	unsigned int i = 0;
	uint64_t whole = bytes;
	uint64_t tenths = 0;

	while (whole >= 1024) {
		/* Of the last step only, rounded down: 1.9K is not 2K. */
		tenths = whole % 1024 * 10 / 1024;
		whole /= 1024;
		i++;
	}
	if (tenths)
		snprintf(buf, len, "%ju.%ju%c", whole, tenths,
			 suffixes[i]);
	else
		snprintf(buf, len, "%ju%c", whole, suffixes[i]);
}

void print_safe(FILE *f, const char *text)
{
	for (; *text; text++)
		putc(iscntrl((unsigned char)*text) ? '?' : *text, f);
}

void print_json(struct json_object *obj)
{
	puts(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}

static const char *value_text(struct json_object *value)
{
	if (json_object_is_type(value, json_type_boolean))
		return json_object_get_boolean(value) ? "yes" : "no";
	return json_object_get_string(value);
}

void print_member(int indent, const char *key, struct json_object *value)
{
	size_t i, n;

	if (!value)
		return;
	if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, name, member)
			print_member(indent, name, member);
		return;
	}
	if (!json_object_is_type(value, json_type_array)) {
		printf("%*s%-22s ", indent, "", key);
		print_safe(stdout, value_text(value));
		putchar('\n');
		return;
	}
	n = json_object_array_length(value);
	for (i = 0; i < n; i++)
		print_member(indent, key, json_object_array_get_idx(value, i));
}

/* Headings as the user wrote them to columns; > 0 or a status */
static int choose(const struct command *cmd, const struct table *t,
		  const struct column **to)
{
	char *copy, *rest, *name;
	int nr = 0;
	size_t i;

	copy = strdup(t->chosen);
	if (!copy)
		return 0;
	rest = copy;
	while ((name = strsep(&rest, ","))) {
		for (i = 0; i < t->nr; i++)
			if (!strcasecmp(name, t->columns[i].name))
				break;
		if (i == t->nr || nr == (int)t->nr) {
			usage_error(cmd, i == t->nr ? "unknown column '%s'" :
				    "too many columns at '%s'", name);
			free(copy);
			return 0;
		}
		to[nr++] = &t->columns[i];
	}
	free(copy);
	return nr;
}

static int choose_usual(const struct table *t, const struct column **to)
{
	int nr = 0;
	size_t i;

	for (i = 0; i < t->nr; i++)
		if (t->json || t->columns[i].is_default)
			to[nr++] = &t->columns[i];
	return nr;
}

static int add_columns(struct libscols_table *tb, const struct column **cols,
		       int nr)
{
	struct libscols_column *cl;
	bool right;
	int i, type;

	for (i = 0; i < nr; i++) {
		right = cols[i]->kind == COLUMN_NUMBER ||
			cols[i]->kind == COLUMN_SIZE;
		cl = scols_table_new_column(tb, cols[i]->name, 0,
					    right ? SCOLS_FL_RIGHT : 0);
		if (!cl)
			return -ENOMEM;
		type = right ? SCOLS_JSON_NUMBER : SCOLS_JSON_STRING;
		if (cols[i]->kind == COLUMN_BOOL)
			type = SCOLS_JSON_BOOLEAN;
		scols_column_set_json_type(cl, type);
	}
	return 0;
}

static int set_cell(struct libscols_line *ln, int i, const struct column *col,
		    struct json_object *row, bool bytes)
{
	struct json_object *value = qblk_get(row, col->key);
	char buf[32];

	if (!value)
		return 0;
	switch (col->kind) {
	case COLUMN_BOOL:
		return scols_line_set_data(ln, i,
					   json_object_get_boolean(value) ?
					   "1" : "0");
	case COLUMN_SIZE:
		if (bytes)
			break;
		format_size(buf, sizeof(buf), json_object_get_uint64(value));
		return scols_line_set_data(ln, i, buf);
	default:
		break;
	}
	return scols_line_set_data(ln, i, json_object_get_string(value));
}

static int add_lines(struct libscols_table *tb, const struct table *t,
		     const struct column **cols, int nr,
		     struct json_object *rows)
{
	struct libscols_line *ln;
	size_t i;
	int c;

	for (i = 0; i < json_object_array_length(rows); i++) {
		ln = scols_table_new_line(tb, NULL);
		if (!ln)
			return -ENOMEM;
		for (c = 0; c < nr; c++)
			if (set_cell(ln, c, cols[c],
				     json_object_array_get_idx(rows, i),
				     t->bytes || t->json))
				return -ENOMEM;
	}
	return 0;
}

int table_print(const struct command *cmd, const struct table *t,
		struct json_object *rows)
{
	const struct column *cols[32];
	struct qblk_error err = {};
	struct libscols_table *tb;
	int nr, ret;

	nr = t->chosen ? choose(cmd, t, cols) : choose_usual(t, cols);
	if (!nr)
		return STATUS_USAGE;
	scols_init_debug(0);
	tb = scols_new_table();
	if (!tb) {
		qblk_error_nomem(&err);
		return fail(cmd, NULL, &err);
	}
	scols_table_set_name(tb, t->name);
	scols_table_enable_json(tb, t->json);
	scols_table_enable_noheadings(tb, t->no_headings);
	ret = add_columns(tb, cols, nr);
	if (!ret)
		ret = add_lines(tb, t, cols, nr, rows);
	if (!ret)
		ret = scols_print_table(tb);
	scols_unref_table(tb);
	if (!ret)
		return STATUS_OK;
	qblk_error_set(&err, -ret, "printing the table failed: %s",
		       strerror(-ret));
	return fail(cmd, NULL, &err);
}
