// SPDX-License-Identifier: GPL-2.0
#include "decode.h"

#include "libqblk.h"

#include <string.h>

static const char *const option_types[] = {
	[QBLK_OPTION_TYPE_BOOL] = "bool",
	[QBLK_OPTION_TYPE_NUMBER] = "number",
	[QBLK_OPTION_TYPE_SIZE] = "size",
	[QBLK_OPTION_TYPE_ENUM] = "enum",
	[QBLK_OPTION_TYPE_STRING] = "string",
	NULL
};

static const char *const driver_flags[] = {
	"format", "filter", "protocol", "needs-fd", "backing", "data-file",
	NULL
};

static const char *const export_states[] = {
	[QBLK_EXPORT_STATE_LIVE] = "live",
	[QBLK_EXPORT_STATE_GOING] = "going",
	NULL
};

static const struct qblk_attr module_attrs[] = {
	{ QBLK_A_MODULE_VERSION, QBLK_KIND_STRING, "version" },
	{}
};

const struct qblk_set qblk_set_module = { .attrs = module_attrs };

static const struct qblk_attr option_desc_attrs[] = {
	{ QBLK_A_OPTION_DESC_NAME, QBLK_KIND_STRING, "name" },
	{ QBLK_A_OPTION_DESC_TYPE, QBLK_KIND_ENUM, "type",
	  .words = option_types },
	{ QBLK_A_OPTION_DESC_REQUIRED, QBLK_KIND_FLAG, "required" },
	{ QBLK_A_OPTION_DESC_DEFAULT, QBLK_KIND_STRING, "default" },
	{ QBLK_A_OPTION_DESC_CHOICE, QBLK_KIND_STRINGS, "choices" },
	{ QBLK_A_OPTION_DESC_MIN_VALUE, QBLK_KIND_U64, "min" },
	{ QBLK_A_OPTION_DESC_MAX_VALUE, QBLK_KIND_U64, "max" },
	{ QBLK_A_OPTION_DESC_HELP, QBLK_KIND_STRING, "help" },
	{}
};

static const struct qblk_set option_desc_set = { .attrs = option_desc_attrs };

static const struct qblk_attr driver_attrs[] = {
	{ QBLK_A_DRIVER_NAME, QBLK_KIND_STRING, "name" },
	{ QBLK_A_DRIVER_FLAGS, QBLK_KIND_FLAGS, "flags",
	  .words = driver_flags },
	{ QBLK_A_DRIVER_OPTION, QBLK_KIND_NESTS, "options",
	  .set = &option_desc_set },
	{}
};

const struct qblk_set qblk_set_driver = { .attrs = driver_attrs };

static const struct qblk_attr limits_attrs[] = {
	{ QBLK_A_LIMITS_REQUEST_ALIGNMENT, QBLK_KIND_U32, "request-alignment" },
	{ QBLK_A_LIMITS_LOGICAL_BLOCK_SIZE, QBLK_KIND_U32,
	  "logical-block-size" },
	{ QBLK_A_LIMITS_PHYSICAL_BLOCK_SIZE, QBLK_KIND_U32,
	  "physical-block-size" },
	{ QBLK_A_LIMITS_IO_MIN, QBLK_KIND_U32, "io-min" },
	{ QBLK_A_LIMITS_IO_OPT, QBLK_KIND_U32, "io-opt" },
	{ QBLK_A_LIMITS_MAX_TRANSFER, QBLK_KIND_U64, "max-transfer" },
	{ QBLK_A_LIMITS_PDISCARD_ALIGNMENT, QBLK_KIND_U32,
	  "pdiscard-alignment" },
	{ QBLK_A_LIMITS_CAN_DISCARD, QBLK_KIND_FLAG, "can-discard" },
	{ QBLK_A_LIMITS_CAN_WRITE_ZEROES, QBLK_KIND_FLAG, "can-write-zeroes" },
	{ QBLK_A_LIMITS_FUA, QBLK_KIND_FLAG, "fua" },
	{ QBLK_A_LIMITS_ROTATIONAL, QBLK_KIND_FLAG, "rotational" },
	{}
};

static const struct qblk_set limits_set = { .attrs = limits_attrs };

static const struct qblk_attr node_attrs[] = {
	{ QBLK_A_NODE_NAME, QBLK_KIND_STRING, "node-name" },
	{ QBLK_A_NODE_DRIVER, QBLK_KIND_STRING, "driver" },
	{ QBLK_A_NODE_LABEL, QBLK_KIND_STRING, "image" },
	{ QBLK_A_NODE_LENGTH, QBLK_KIND_U64, "length" },
	{ QBLK_A_NODE_READ_ONLY, QBLK_KIND_FLAG, "read-only" },
	{ QBLK_A_NODE_IMPLICIT, QBLK_KIND_FLAG, "implicit" },
	{ QBLK_A_NODE_DISCARD, QBLK_KIND_FLAG, "discard" },
	{ QBLK_A_NODE_DETECT_ZEROES, QBLK_KIND_STRING, "detect-zeroes" },
	{ QBLK_A_NODE_CHILD, QBLK_KIND_EDGES, "children" },
	{ QBLK_A_NODE_USED_BY, QBLK_KIND_STRINGS, "used-by" },
	{ QBLK_A_NODE_LIMITS, QBLK_KIND_NEST, "limits", .set = &limits_set },
	{ QBLK_A_NODE_INFO, QBLK_KIND_FACTS, "info" },
	{}
};

const struct qblk_set qblk_set_node = { .attrs = node_attrs };

static const struct qblk_attr node_name_attrs[] = {
	{ QBLK_A_NODE_NAME, QBLK_KIND_STRING, "node-name" },
	{}
};

static const struct qblk_set node_name_set = { .attrs = node_name_attrs };

static const struct qblk_attr graph_attrs[] = {
	{ QBLK_A_GRAPH_NODE, QBLK_KIND_NESTS, "nodes", .set = &node_name_set },
	{ QBLK_A_GRAPH_WARNING, QBLK_KIND_STRINGS, "warnings" },
	{}
};

const struct qblk_set qblk_set_graph = { .attrs = graph_attrs };

static const struct qblk_attr export_attrs[] = {
	{ QBLK_A_EXPORT_DISK, QBLK_KIND_STRING, "disk" },
	{ QBLK_A_EXPORT_NAME, QBLK_KIND_STRING, "name" },
	{ QBLK_A_EXPORT_INDEX, QBLK_KIND_U32, "index" },
	{ QBLK_A_EXPORT_DEV_MAJOR, QBLK_KIND_U32, "major" },
	{ QBLK_A_EXPORT_DEV_MINOR, QBLK_KIND_U32, "minor" },
	{ QBLK_A_EXPORT_ROOT, QBLK_KIND_STRING, "root" },
	{ QBLK_A_EXPORT_SIZE, QBLK_KIND_U64, "size" },
	{ QBLK_A_EXPORT_LOGICAL_BLOCK_SIZE, QBLK_KIND_U32,
	  "logical-block-size" },
	{ QBLK_A_EXPORT_READ_ONLY, QBLK_KIND_FLAG, "read-only" },
	{ QBLK_A_EXPORT_QUEUES, QBLK_KIND_U32, "queues" },
	{ QBLK_A_EXPORT_OPENERS, QBLK_KIND_U32, "openers" },
	{ QBLK_A_EXPORT_STATE, QBLK_KIND_ENUM, "state",
	  .words = export_states },
	{ QBLK_A_EXPORT_TIER1, QBLK_KIND_U64, "tier1" },
	{ QBLK_A_EXPORT_TIER2, QBLK_KIND_U64, "tier2" },
	{ QBLK_A_EXPORT_WARNING, QBLK_KIND_STRINGS, "warnings" },
	{}
};

const struct qblk_set qblk_set_export = { .attrs = export_attrs };

static const struct qblk_attr probe_attrs[] = {
	{ QBLK_A_PROBE_FORMAT, QBLK_KIND_STRING, "format" },
	{ QBLK_A_PROBE_GUESS, QBLK_KIND_FLAG, "guess" },
	{ QBLK_A_PROBE_VIRTUAL_SIZE, QBLK_KIND_U64, "virtual-size" },
	{ QBLK_A_PROBE_BACKING_FILE, QBLK_KIND_STRING, "backing-file" },
	{ QBLK_A_PROBE_BACKING_FORMAT, QBLK_KIND_STRING, "backing-format" },
	{ QBLK_A_PROBE_DATA_FILE, QBLK_KIND_STRING, "data-file" },
	{}
};

const struct qblk_set qblk_set_probe = { .attrs = probe_attrs };

static struct json_object *decode_u64(const struct nlattr *attr)
{
	return json_object_new_uint64(nla_get_u64(attr));
}

static struct json_object *decode_bool(const struct nlattr *attr)
{
	return json_object_new_boolean(nla_get_u8(attr));
}

static struct json_object *decode_text(const struct nlattr *attr)
{
	const char *text = nla_data(attr);

	return json_object_new_string_len(text, strnlen(text, nla_len(attr)));
}

static struct json_object *decode_enum(const struct nlattr *attr,
				       const char *const *words)
{
	uint32_t value = nla_get_u32(attr);
	uint32_t i;

	for (i = 0; words[i]; i++)
		if (i == value)
			return json_object_new_string(words[i]);
	return json_object_new_int64(value);
}

static struct json_object *decode_flags(const struct nlattr *attr,
					const char *const *words)
{
	struct json_object *array = json_object_new_array();
	uint32_t value = nla_get_u32(attr);
	unsigned int i;

	for (i = 0; words[i]; i++)
		if (value & (1U << i))
			json_object_array_add(array,
					      json_object_new_string(words[i]));
	return array;
}

/* { key, value } becomes a member of @obj. */
static void decode_fact(struct json_object *obj, const struct nlattr *nest)
{
	struct nlattr *tb[QBLK_A_INFO_MAX + 1];
	struct json_object *value = NULL;

	if (nla_parse_nested(tb, QBLK_A_INFO_MAX, (struct nlattr *)nest,
			     NULL) < 0 || !tb[QBLK_A_INFO_KEY])
		return;
	if (tb[QBLK_A_INFO_TEXT])
		value = decode_text(tb[QBLK_A_INFO_TEXT]);
	else if (tb[QBLK_A_INFO_NUMBER])
		value = decode_u64(tb[QBLK_A_INFO_NUMBER]);
	else if (tb[QBLK_A_INFO_TRUTH])
		value = decode_bool(tb[QBLK_A_INFO_TRUTH]);
	json_object_object_add(obj, nla_get_string(tb[QBLK_A_INFO_KEY]), value);
}

static void decode_edge(struct json_object *obj, const struct nlattr *nest)
{
	struct nlattr *tb[QBLK_A_CHILD_MAX + 1];

	if (nla_parse_nested(tb, QBLK_A_CHILD_MAX, (struct nlattr *)nest,
			     NULL) < 0)
		return;
	if (tb[QBLK_A_CHILD_NAME] && tb[QBLK_A_CHILD_NODE])
		json_object_object_add(obj,
				       nla_get_string(tb[QBLK_A_CHILD_NAME]),
				       decode_text(tb[QBLK_A_CHILD_NODE]));
}

/* The value of an attribute, or one element of a repeated one */
static struct json_object *decode_one(const struct qblk_attr *desc,
				      const struct nlattr *attr)
{
	switch (desc->kind) {
	case QBLK_KIND_STRING:
	case QBLK_KIND_STRINGS:
		return decode_text(attr);
	case QBLK_KIND_U32:
		return json_object_new_int64(nla_get_u32(attr));
	case QBLK_KIND_U64:
		return decode_u64(attr);
	case QBLK_KIND_FLAG:
		return json_object_new_boolean(1);
	case QBLK_KIND_ENUM:
		return decode_enum(attr, desc->words);
	case QBLK_KIND_FLAGS:
		return decode_flags(attr, desc->words);
	case QBLK_KIND_NEST:
	case QBLK_KIND_NESTS:
		return qblk_decode(desc->set, nla_data(attr), nla_len(attr));
	case QBLK_KIND_FACTS:
	case QBLK_KIND_EDGES:
		break;
	}
	return NULL;
}

/* What stands for an attribute that is absent, and collects a repeated one */
static struct json_object *decode_empty(enum qblk_kind kind)
{
	switch (kind) {
	case QBLK_KIND_FLAG:
		return json_object_new_boolean(0);
	case QBLK_KIND_STRINGS:
	case QBLK_KIND_NESTS:
		return json_object_new_array();
	case QBLK_KIND_FACTS:
	case QBLK_KIND_EDGES:
		return json_object_new_object();
	default:
		return NULL;
	}
}

static void decode_into(struct json_object *obj, const struct qblk_attr *desc,
			const struct nlattr *attr)
{
	struct json_object *all = NULL;

	json_object_object_get_ex(obj, desc->key, &all);
	switch (desc->kind) {
	case QBLK_KIND_STRINGS:
	case QBLK_KIND_NESTS:
		json_object_array_add(all, decode_one(desc, attr));
		break;
	case QBLK_KIND_FACTS:
		decode_fact(all, attr);
		break;
	case QBLK_KIND_EDGES:
		decode_edge(all, attr);
		break;
	default:
		json_object_object_add(obj, desc->key, decode_one(desc, attr));
	}
}

struct json_object *qblk_decode(const struct qblk_set *set,
				const struct nlattr *head, int len)
{
	struct json_object *obj = json_object_new_object();
	const struct qblk_attr *desc;
	const struct nlattr *attr;
	int rem;

	if (!obj)
		return NULL;
	for (desc = set->attrs; desc->key; desc++) {
		json_object_object_add(obj, desc->key,
				       decode_empty(desc->kind));
		nla_for_each_attr(attr, (struct nlattr *)head, len, rem)
			if (nla_type(attr) == desc->type)
				decode_into(obj, desc, attr);
	}
	return obj;
}

struct json_object *qblk_get(struct json_object *obj, const char *key)
{
	struct json_object *value = NULL;

	if (obj)
		json_object_object_get_ex(obj, key, &value);
	return value;
}

const char *qblk_get_elem(struct json_object *array, size_t i)
{
	return json_object_get_string(json_object_array_get_idx(array, i));
}

const char *qblk_get_str(struct json_object *obj, const char *key)
{
	struct json_object *value = qblk_get(obj, key);

	return value ? json_object_get_string(value) : NULL;
}

uint64_t qblk_get_u64(struct json_object *obj, const char *key)
{
	return json_object_get_uint64(qblk_get(obj, key));
}

bool qblk_get_bool(struct json_object *obj, const char *key)
{
	return json_object_get_boolean(qblk_get(obj, key));
}
