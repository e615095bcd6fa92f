// SPDX-License-Identifier: GPL-2.0
#include <kunit/test.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include <qblk/err.h>
#include <qblk/option.h>

struct option_values {
	bool flag;
	u64 number;
	u64 size;
	u32 word;
	const char *text;
	u64 bounded;
	s32 tri;
	u32 other;
	u64 unset;
};

static const char *const option_words[] = { "ignore", "unmap", NULL };

static const struct qblk_opt_desc option_table[] = {
	{
		.name = "flag",
		.type = QBLK_OPT_BOOL,
		.offset = offsetof(struct option_values, flag),
		.def = true,
	}, {
		.name = "number",
		.type = QBLK_OPT_U64,
		.offset = offsetof(struct option_values, number),
		.def = 7,
	}, {
		.name = "size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct option_values, size),
		.def = 65536,
	}, {
		.name = "word",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct option_values, word),
		.choices = option_words,
		.def = 1,
	}, {
		.name = "text",
		.type = QBLK_OPT_STRING,
		.offset = offsetof(struct option_values, text),
	}, {
		.name = "bounded",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct option_values, bounded),
		.min = 1024,
		.max = 65536,
		.multiple = 512,
		.def = 4096,
	}, {
		.name = "tri",
		.type = QBLK_OPT_TRISTATE,
		.offset = offsetof(struct option_values, tri),
	}, {
		.name = "other",
		.type = QBLK_OPT_ENUM,
		.offset = offsetof(struct option_values, other),
		.choices = option_words,
		.def = QBLK_OPT_UNSET,
	}, {
		.name = "unset",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct option_values, unset),
		.max = S64_MAX,
		.def = QBLK_OPT_UNSET,
	},
	{}
};

static const struct qblk_opt_desc option_required_table[] = {
	{
		.name = "size",
		.type = QBLK_OPT_SIZE,
		.offset = offsetof(struct option_values, size),
		.required = true,
	},
	{}
};

/**
 * struct option_case - an option, and what has to become of it
 * @desc: in words
 * @key: option
 * @value: text
 * @ret: result
 * @number: value, if @ret is 0
 */
struct option_case {
	const char *desc;
	const char *key;
	const char *value;
	int ret;
	u64 number;
};

static const struct option_case option_cases[] = {
	{ "bool on", "flag", "on", 0, 1 },
	{ "bool yes", "flag", "yes", 0, 1 },
	{ "bool true", "flag", "true", 0, 1 },
	{ "bool 1", "flag", "1", 0, 1 },
	{ "bool off", "flag", "off", 0, 0 },
	{ "bool no", "flag", "no", 0, 0 },
	{ "bool false", "flag", "false", 0, 0 },
	{ "bool 0", "flag", "0", 0, 0 },
	{ "bool empty", "flag", "", -EINVAL },
	{ "bool upper case", "flag", "ON", -EINVAL },
	{ "bool trailing space", "flag", "on ", -EINVAL },
	{ "bool number", "flag", "2", -EINVAL },

	{ "u64 0", "number", "0", 0, 0 },
	{ "u64 decimal", "number", "1234567890123", 0, 1234567890123ULL },
	{ "u64 largest", "number", "18446744073709551615", 0, U64_MAX },
	{ "u64 too large", "number", "18446744073709551616", -ERANGE },
	{ "u64 hexadecimal", "number", "0x1aF", 0, 0x1af },
	{ "u64 upper case X", "number", "0X10", 0, 16 },
	{ "u64 largest hexadecimal", "number", "0xffffffffffffffff", 0, U64_MAX },
	{ "u64 hexadecimal too large", "number", "0x10000000000000000", -ERANGE },
	{ "u64 leading zero is decimal", "number", "010", 0, 10 },
	{ "u64 empty", "number", "", -EINVAL },
	{ "u64 only 0x", "number", "0x", -EINVAL },
	{ "u64 word", "number", "many", -EINVAL },
	{ "u64 plus", "number", "+1", -EINVAL },
	{ "u64 minus", "number", "-1", -EINVAL },
	{ "u64 leading space", "number", " 1", -EINVAL },
	{ "u64 trailing space", "number", "1 ", -EINVAL },
	{ "u64 newline", "number", "1\n", -EINVAL },
	{ "u64 suffix", "number", "1K", -EINVAL },
	{ "u64 fraction", "number", "1.5", -EINVAL },

	{ "size 0", "size", "0", 0, 0 },
	{ "size bytes", "size", "1000", 0, 1000 },
	{ "size b", "size", "1000b", 0, 1000 },
	{ "size B", "size", "1000B", 0, 1000 },
	{ "size k", "size", "3k", 0, 3ULL << 10 },
	{ "size K", "size", "3K", 0, 3ULL << 10 },
	{ "size M", "size", "3M", 0, 3ULL << 20 },
	{ "size g", "size", "3g", 0, 3ULL << 30 },
	{ "size T", "size", "3T", 0, 3ULL << 40 },
	{ "size P", "size", "3P", 0, 3ULL << 50 },
	{ "size E", "size", "15E", 0, 15ULL << 60 },
	{ "size E too large", "size", "16E", -ERANGE },
	{ "size T too large", "size", "16777216T", -ERANGE },
	{ "size T largest", "size", "16777215T", 0, 16777215ULL << 40 },
	{ "size digits too large", "size", "18446744073709551616", -ERANGE },
	{ "size digits much too large", "size",
	  "99999999999999999999999999999999999999", -ERANGE },
	{ "size hexadecimal", "size", "0x1e", 0, 0x1e },
	{ "size hexadecimal too large", "size", "0x1ffffffffffffffff", -ERANGE },
	{ "size hexadecimal with suffix", "size", "0x10M", -EINVAL },
	{ "size hexadecimal empty", "size", "0x", -EINVAL },
	{ "size only a suffix", "size", "K", -EINVAL },
	{ "size empty", "size", "", -EINVAL },
	{ "size two suffixes", "size", "1KB", -EINVAL },
	{ "size unknown suffix", "size", "1Z", -EINVAL },
	{ "size suffix apart", "size", "1 K", -EINVAL },
	{ "size fraction", "size", "1.5G", -EINVAL },
	{ "size minus", "size", "-1K", -EINVAL },
	{ "size newline", "size", "1K\n", -EINVAL },

	{ "enum first", "word", "ignore", 0, 0 },
	{ "enum second", "word", "unmap", 0, 1 },
	{ "enum unknown", "word", "drop", -EINVAL },
	{ "enum prefix", "word", "un", -EINVAL },
	{ "enum empty", "word", "", -EINVAL },
	{ "enum upper case", "word", "Unmap", -EINVAL },

	{ "tristate on", "tri", "on", 0, 1 },
	{ "tristate off", "tri", "off", 0, 0 },
	{ "tristate unknown", "tri", "-1", -EINVAL },

	{ "no default, enum", "other", "unmap", 0, 1 },
	{ "no default, size", "unset", "0", 0, 0 },
	{ "no default, size of it", "unset", "18446744073709551615", -ERANGE },

	{ "bounds smallest", "bounded", "1024", 0, 1024 },
	{ "bounds largest", "bounded", "64K", 0, 65536 },
	{ "bounds too small", "bounded", "512", -ERANGE },
	{ "bounds too large", "bounded", "66048", -ERANGE },
	{ "bounds no multiple", "bounded", "1025", -EINVAL },
};

KUNIT_ARRAY_PARAM_DESC(option, option_cases, desc);

static u64 option_number(const struct option_values *v, const char *key)
{
	if (!strcmp(key, "flag"))
		return v->flag;
	if (!strcmp(key, "number"))
		return v->number;
	if (!strcmp(key, "size"))
		return v->size;
	if (!strcmp(key, "word"))
		return v->word;
	if (!strcmp(key, "tri"))
		return v->tri;
	if (!strcmp(key, "other"))
		return v->other;
	if (!strcmp(key, "unset"))
		return v->unset;
	return v->bounded;
}

/* Where a message has to say what it is about */
static void option_expect_named(struct kunit *test, const struct qblk_err *err,
				const char *key, const char *value)
{
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(err->msg, "node 'disk0'"),
				  "%s", err->msg);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(err->msg, key), "%s", err->msg);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(err->msg, value), "%s",
				  err->msg);
}

static void option_text(struct kunit *test)
{
	const struct option_case *c = test->param_value;
	struct qblk_opt opt = { .key = c->key, .value = c->value };
	struct option_values v = {};
	struct qblk_err err = {};
	int ret;

	ret = qblk_opts_parse(option_table, &opt, 1, &v, "node 'disk0'", &err);
	KUNIT_EXPECT_EQ(test, c->ret, ret);
	KUNIT_EXPECT_TRUE(test, opt.used);
	if (!c->ret) {
		KUNIT_EXPECT_EQ(test, c->number, option_number(&v, c->key));
		KUNIT_EXPECT_STREQ(test, "", err.msg);
		return;
	}
	option_expect_named(test, &err, c->key, c->value);
}

static void option_defaults(struct kunit *test)
{
	struct option_values v;

	memset(&v, 0x5a, sizeof(v));
	KUNIT_ASSERT_EQ(test, 0, qblk_opts_parse(option_table, NULL, 0, &v,
						 "node 'disk0'", NULL));
	KUNIT_EXPECT_TRUE(test, v.flag);
	KUNIT_EXPECT_EQ(test, 7, v.number);
	KUNIT_EXPECT_EQ(test, 65536, v.size);
	KUNIT_EXPECT_EQ(test, 1, v.word);
	KUNIT_EXPECT_NULL(test, v.text);
	KUNIT_EXPECT_EQ(test, 4096, v.bounded);
	KUNIT_EXPECT_EQ(test, -1, v.tri);
	KUNIT_EXPECT_EQ(test, U32_MAX, v.other);
	KUNIT_EXPECT_EQ(test, U64_MAX, v.unset);
}

static void option_string(struct kunit *test)
{
	struct qblk_opt opt = { .key = "text", .value = "a 'b' = ,c" };
	struct option_values v = {};

	KUNIT_ASSERT_EQ(test, 0, qblk_opts_parse(option_table, &opt, 1, &v,
						 "node 'disk0'", NULL));
	KUNIT_EXPECT_PTR_EQ(test, opt.value, v.text);

	opt.value = "";
	KUNIT_ASSERT_EQ(test, 0, qblk_opts_parse(option_table, &opt, 1, &v,
						 "node 'disk0'", NULL));
	KUNIT_EXPECT_STREQ(test, "", v.text);
}

/* All types at once, in another order than the table's */
static void option_many(struct kunit *test)
{
	struct qblk_opt opts[] = {
		{ .key = "word", .value = "ignore" },
		{ .key = "bounded", .value = "2K" },
		{ .key = "text", .value = "x" },
		{ .key = "flag", .value = "off" },
		{ .key = "size", .value = "1M" },
		{ .key = "number", .value = "9" },
	};
	struct option_values v = {};
	struct qblk_err err = {};

	KUNIT_ASSERT_EQ(test, 0,
			qblk_opts_parse(option_table, opts, ARRAY_SIZE(opts),
					&v, "node 'disk0'", &err));
	KUNIT_EXPECT_EQ(test, 0, v.word);
	KUNIT_EXPECT_EQ(test, 2048, v.bounded);
	KUNIT_EXPECT_STREQ(test, "x", v.text);
	KUNIT_EXPECT_FALSE(test, v.flag);
	KUNIT_EXPECT_EQ(test, 1 << 20, v.size);
	KUNIT_EXPECT_EQ(test, 9, v.number);
	KUNIT_EXPECT_EQ(test, 0, qblk_opts_unused(opts, ARRAY_SIZE(opts),
						  "node 'disk0'", &err));
}

static void option_required(struct kunit *test)
{
	struct qblk_opt opt = { .key = "size", .value = "1K" };
	struct option_values v = {};
	struct qblk_err err = {};

	KUNIT_EXPECT_EQ(test, -EINVAL,
			qblk_opts_parse(option_required_table, NULL, 0, &v,
					"node 'disk0'", &err));
	option_expect_named(test, &err, "'size'", "missing");
	KUNIT_EXPECT_EQ(test, 0, qblk_opts_parse(option_required_table, &opt, 1,
						 &v, "node 'disk0'", NULL));
	KUNIT_EXPECT_EQ(test, 1024, v.size);
}

static void option_duplicate(struct kunit *test)
{
	struct qblk_opt opts[] = {
		{ .key = "size", .value = "1K" },
		{ .key = "number", .value = "1" },
		{ .key = "size", .value = "1K" },
	};
	struct option_values v = {};
	struct qblk_err err = {};

	KUNIT_EXPECT_EQ(test, -EINVAL,
			qblk_opts_parse(option_table, opts, ARRAY_SIZE(opts),
					&v, "node 'disk0'", &err));
	option_expect_named(test, &err, "'size'", "twice");
}

/* Two tables share a list, and what neither of them knows is refused. */
static void option_unused(struct kunit *test)
{
	struct qblk_opt opts[] = {
		{ .key = "size", .value = "1K" },
		{ .key = "sise", .value = "1K" },
		{ .key = "number", .value = "1" },
	};
	struct option_values v = {};
	struct qblk_err err = {};

	KUNIT_ASSERT_EQ(test, 0,
			qblk_opts_parse(option_required_table, opts,
					ARRAY_SIZE(opts), &v, "node 'disk0'",
					&err));
	KUNIT_EXPECT_TRUE(test, opts[0].used);
	KUNIT_EXPECT_FALSE(test, opts[1].used);
	KUNIT_EXPECT_FALSE(test, opts[2].used);
	KUNIT_ASSERT_EQ(test, 0,
			qblk_opts_parse(option_table, opts, ARRAY_SIZE(opts),
					&v, "node 'disk0'", &err));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			qblk_opts_unused(opts, ARRAY_SIZE(opts),
					 "node 'disk0'", &err));
	option_expect_named(test, &err, "'sise'", "not known");
}

static void option_no_table(struct kunit *test)
{
	struct qblk_opt opt = { .key = "size", .value = "1K" };

	KUNIT_EXPECT_EQ(test, 0, qblk_opts_parse(NULL, &opt, 1, NULL,
						 "node 'disk0'", NULL));
	KUNIT_EXPECT_FALSE(test, opt.used);
}

/* Each kind of message, word for word */
static void option_messages(struct kunit *test)
{
	static const struct {
		const char *key, *value, *msg;
	} cases[] = {
		{ "flag", "maybe",
		  "node 'disk0': option 'flag': 'maybe' is not on or off" },
		{ "number", "x1",
		  "node 'disk0': option 'number': 'x1' is not a number" },
		{ "size", "1Q",
		  "node 'disk0': option 'size': '1Q' is not a size" },
		{ "word", "keep",
		  "node 'disk0': option 'word': 'keep' is none of ignore, unmap" },
		{ "bounded", "1",
		  "node 'disk0': option 'bounded': 1 is below the smallest value, 1024" },
		{ "bounded", "1M",
		  "node 'disk0': option 'bounded': 1M is above the largest value, 65536" },
		{ "bounded", "1030",
		  "node 'disk0': option 'bounded': 1030 is not a multiple of 512" },
		{ "size", "16E",
		  "node 'disk0': option 'size': 16E does not fit 64 bits" },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct qblk_opt opt = {
			.key = cases[i].key,
			.value = cases[i].value,
		};
		struct option_values v;
		struct qblk_err err = {};

		KUNIT_EXPECT_GT(test, 0,
				qblk_opts_parse(option_table, &opt, 1, &v,
						"node 'disk0'", &err));
		KUNIT_EXPECT_STREQ(test, cases[i].msg, err.msg);
	}
}

/* A value longer than any message must not end up outside of it. */
static void option_long_value(struct kunit *test)
{
	struct option_values v = {};
	struct qblk_opt opt = { .key = "size" };
	struct qblk_err *err;
	char *value;

	err = kunit_kzalloc(test, sizeof(*err), GFP_KERNEL);
	value = kunit_kzalloc(test, 4096, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, err);
	KUNIT_ASSERT_NOT_NULL(test, value);
	memset(value, 'x', 4095);
	opt.value = value;
	KUNIT_EXPECT_EQ(test, -EINVAL, qblk_opts_parse(option_table, &opt, 1,
						       &v, "node 'disk0'",
						       err));
	KUNIT_EXPECT_EQ(test, sizeof(err->msg) - 1, strlen(err->msg));
	option_expect_named(test, err, "'size'", "xxx");
}

/* The first sentence wins, and nobody has to want one. */
static void option_first_sentence(struct kunit *test)
{
	struct qblk_err err = {};

	qblk_err_set(&err, "one %d", 1);
	qblk_err_set(&err, "two");
	KUNIT_EXPECT_STREQ(test, "one 1", err.msg);
	qblk_err_set(NULL, "three");
}

static struct kunit_case option_kunit_cases[] = {
	KUNIT_CASE_PARAM(option_text, option_gen_params),
	KUNIT_CASE(option_defaults),
	KUNIT_CASE(option_string),
	KUNIT_CASE(option_many),
	KUNIT_CASE(option_required),
	KUNIT_CASE(option_duplicate),
	KUNIT_CASE(option_unused),
	KUNIT_CASE(option_no_table),
	KUNIT_CASE(option_messages),
	KUNIT_CASE(option_long_value),
	KUNIT_CASE(option_first_sentence),
	{}
};

static struct kunit_suite option_kunit_suite = {
	.name = "qblk_option",
	.test_cases = option_kunit_cases,
};

kunit_test_suite(option_kunit_suite);
