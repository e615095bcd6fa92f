/* SPDX-License-Identifier: GPL-2.0 */
/* Attributes of the kernel to JSON, driven by tables. */
#ifndef _QBLK_DECODE_H
#define _QBLK_DECODE_H

#include <json-c/json.h>
#include <netlink/attr.h>

struct qblk_set;

/**
 * enum qblk_kind - how an attribute becomes JSON
 * @QBLK_KIND_STRING: string
 * @QBLK_KIND_U32: number
 * @QBLK_KIND_U64: number
 * @QBLK_KIND_FLAG: true or false; false when absent
 * @QBLK_KIND_ENUM: string, one of &qblk_attr.words
 * @QBLK_KIND_FLAGS: array of the words whose bits are set
 * @QBLK_KIND_STRINGS: array of strings, from a repeated attribute
 * @QBLK_KIND_NEST: object
 * @QBLK_KIND_NESTS: array of objects, from a repeated attribute
 * @QBLK_KIND_FACTS: object, from a repeated attribute of key and value
 * @QBLK_KIND_EDGES: object of child names and node names
 */
enum qblk_kind {
	QBLK_KIND_STRING,
	QBLK_KIND_U32,
	QBLK_KIND_U64,
	QBLK_KIND_FLAG,
	QBLK_KIND_ENUM,
	QBLK_KIND_FLAGS,
	QBLK_KIND_STRINGS,
	QBLK_KIND_NEST,
	QBLK_KIND_NESTS,
	QBLK_KIND_FACTS,
	QBLK_KIND_EDGES,
};

/**
 * struct qblk_attr - an attribute
 * @type: number on the wire
 * @kind: see &enum qblk_kind
 * @key: name in JSON
 * @set: of a nest
 * @words: of an enum or of flags, NULL-terminated
 */
struct qblk_attr {
	int type;
	enum qblk_kind kind;
	const char *key;
	const struct qblk_set *set;
	const char *const *words;
};

/**
 * struct qblk_set - an attribute set
 * @attrs: the attributes, in the order wanted in JSON, ended by one without
 *	a key
 */
struct qblk_set {
	const struct qblk_attr *attrs;
};

extern const struct qblk_set qblk_set_module;
extern const struct qblk_set qblk_set_driver;
extern const struct qblk_set qblk_set_node;
extern const struct qblk_set qblk_set_graph;
extern const struct qblk_set qblk_set_export;
extern const struct qblk_set qblk_set_probe;

/**
 * qblk_decode - turn attributes into an object
 * @set: what they are
 * @head: the first one
 * @len: bytes
 *
 * Attributes that are not in the set are left out: a newer kernel knows more.
 *
 * Return: an object, or NULL for no memory.
 */
struct json_object *qblk_decode(const struct qblk_set *set,
				const struct nlattr *head, int len);

#endif /* _QBLK_DECODE_H */
