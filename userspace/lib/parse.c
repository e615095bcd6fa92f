// SPDX-License-Identifier: GPL-2.0
/* QEMU's option strings: key=value,key=value, dots nest, ",," is a comma. */
#include "libqblk.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Longest dotted key; 200 times "backing." and more */
#define MAX_KEY		4096

/* Depth of JSON: every layer of a chain is an object in an object. */
#define MAX_DEPTH	(2 * QBLK_MAX_CHAIN + 16)

/* Characters of a key and of a value are copied here; neither is longer. */
struct parser {
	const char *pos;
	char *key;
	char *value;
};

static bool is_key_char(char c)
{
	return isalnum((unsigned char)c) || strchr("-_.", c);
}

static int parse_key(struct parser *p, struct qblk_error *err)
{
	size_t len = 0;

	while (p->pos[len] && is_key_char(p->pos[len]))
		len++;
	if (!len || p->pos[0] == '.' || p->pos[len - 1] == '.')
		return qblk_error_set(err, EINVAL,
				      "an option name is expected at '%.40s'",
				      p->pos);
	if (p->pos[len] != '=')
		return qblk_error_set(err, EINVAL,
				      "'=' is expected after '%.*s'", (int)len,
				      p->pos);
	if (len > MAX_KEY)
		return qblk_error_set(err, EINVAL,
				      "the option name '%.40s...' is too long",
				      p->pos);
	memcpy(p->key, p->pos, len);
	p->key[len] = 0;
	p->pos += len + 1;
	return 0;
}

static void parse_value(struct parser *p)
{
	char *to = p->value;

	while (*p->pos) {
		if (*p->pos == ',') {
			p->pos++;
			if (*p->pos != ',')
				break;
		}
		*to++ = *p->pos++;
	}
	*to = 0;
}

/*
 * Options that are given both by themselves and with members: these stay one
 * dotted option, so that both forms can be used together.
 */
static bool is_flat(const char *key)
{
	return !strncmp(key, "overlap-check.", strlen("overlap-check."));
}

/* The object that holds the last part of a dotted key; made if need be. */
static struct json_object *descend(struct json_object *tree, char **key,
				   struct qblk_error *err)
{
	struct json_object *next;
	char *dot;

	while ((dot = strchr(*key, '.')) && !is_flat(*key)) {
		*dot = 0;
		next = qblk_get(tree, *key);
		if (!next) {
			next = json_object_new_object();
			json_object_object_add(tree, *key, next);
		}
		if (!json_object_is_type(next, json_type_object)) {
			qblk_error_set(err, EINVAL,
				       "'%s' is given both as a value and with members",
				       *key);
			return NULL;
		}
		tree = next;
		*key = dot + 1;
	}
	return tree;
}

static int parse_pair(struct parser *p, struct json_object *tree,
		      struct qblk_error *err)
{
	char *key = p->key;
	int ret;

	ret = parse_key(p, err);
	if (ret)
		return ret;
	parse_value(p);
	tree = descend(tree, &key, err);
	if (!tree)
		return -err->code;
	if (json_object_is_type(qblk_get(tree, key), json_type_object))
		return qblk_error_set(err, EINVAL,
				      "'%s' is given both as a value and with members",
				      key);
	/* As in QEMU, the last one counts. */
	if (json_object_object_add(tree, key, json_object_new_string(p->value)))
		return qblk_error_nomem(err);
	return 0;
}

static struct json_object *parse_pairs(const char *text, struct qblk_error *err)
{
	struct parser p = {
		.pos = text,
		.key = malloc(strlen(text) + 1),
		.value = malloc(strlen(text) + 1),
	};
	struct json_object *tree = json_object_new_object();
	int ret = 0;

	if (!p.key || !p.value || !tree)
		ret = qblk_error_nomem(err);
	do {
		if (!ret)
			ret = parse_pair(&p, tree, err);
	} while (!ret && *p.pos);
	free(p.key);
	free(p.value);
	if (!ret)
		return tree;
	json_object_put(tree);
	return NULL;
}

static struct json_object *parse_json(const char *text, struct qblk_error *err)
{
	struct json_tokener *tok = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *tree;

	if (!tok) {
		qblk_error_nomem(err);
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	/* With the NUL, which ends a number. */
	tree = json_tokener_parse_ex(tok, text, strlen(text) + 1);
	if (json_object_is_type(tree, json_type_object)) {
		json_tokener_free(tok);
		return tree;
	}
	qblk_error_set(err, EINVAL, "JSON: %s at byte %zu",
		       json_tokener_error_desc(json_tokener_get_error(tok)),
		       json_tokener_get_parse_end(tok));
	json_object_put(tree);
	json_tokener_free(tok);
	return NULL;
}

struct json_object *qblk_parse_options(const char *text, struct qblk_error *err)
{
	const char *start = text + strspn(text, " \t\n");

	return *start == '{' ? parse_json(start, err) : parse_pairs(start, err);
}
