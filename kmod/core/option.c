// SPDX-License-Identifier: GPL-2.0
#include <qblk/option.h>

#include <linux/ctype.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/overflow.h>
#include <linux/string.h>

#include <qblk/err.h>

/* Everything an error message about one option needs */
struct opt_ctx {
	const struct qblk_opt_desc *desc;
	const char *value;
	const char *who;
	struct qblk_err *err;
};

static int opt_bad(const struct opt_ctx *c, const char *what)
{
	qblk_err_set(c->err, "%s: option '%s': '%s' is not %s", c->who,
		     c->desc->name, c->value, what);
	return -EINVAL;
}

static int parse_bool(const struct opt_ctx *c, bool *out)
{
	static const char *const yes[] = { "on", "yes", "true", "1" };
	static const char *const no[] = { "off", "no", "false", "0" };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!strcmp(c->value, yes[i])) {
			*out = true;
			return 0;
		}
		if (!strcmp(c->value, no[i])) {
			*out = false;
			return 0;
		}
	}
	return opt_bad(c, "on or off");
}

static int parse_tristate(const struct opt_ctx *c, s32 *out)
{
	bool on;
	int ret = parse_bool(c, &on);

	if (!ret)
		*out = on;
	return ret;
}

static int check_number(const struct opt_ctx *c, u64 val)
{
	const struct qblk_opt_desc *d = c->desc;

	if (val < d->min) {
		qblk_err_set(c->err,
			     "%s: option '%s': %s is below the smallest value, %llu",
			     c->who, d->name, c->value, d->min);
		return -ERANGE;
	}
	if (d->max && val > d->max) {
		qblk_err_set(c->err,
			     "%s: option '%s': %s is above the largest value, %llu",
			     c->who, d->name, c->value, d->max);
		return -ERANGE;
	}
	if (d->multiple && val % d->multiple) {
		qblk_err_set(c->err,
			     "%s: option '%s': %s is not a multiple of %llu",
			     c->who, d->name, c->value, d->multiple);
		return -EINVAL;
	}
	return 0;
}

static int parse_u64(const struct opt_ctx *c, u64 *out)
{
	u64 val;
	int ret;

	/* kstrtoull() takes a sign and a newline; an option has neither */
	if (!isdigit(c->value[0]) || strchr(c->value, '\n'))
		return opt_bad(c, "a number");
	ret = kstrtoull(c->value, strncasecmp(c->value, "0x", 2) ? 10 : 16,
			&val);
	if (ret == -ERANGE) {
		qblk_err_set(c->err, "%s: option '%s': %s does not fit 64 bits",
			     c->who, c->desc->name, c->value);
		return -ERANGE;
	}
	if (ret)
		return opt_bad(c, "a number");
	ret = check_number(c, val);
	if (!ret)
		*out = val;
	return ret;
}

/* Bits to shift by for a suffix, -EINVAL for none known */
static int size_shift(const char *suffix)
{
	static const char letters[] = "bkmgtpe";
	const char *p;

	if (!*suffix)
		return 0;
	p = strchr(letters, tolower(*suffix));
	if (!p || suffix[1])
		return -EINVAL;
	return (p - letters) * 10;
}

static int parse_size(const struct opt_ctx *c, u64 *out)
{
	bool hex = !strncasecmp(c->value, "0x", 2);
	const char *p = hex ? c->value + 2 : c->value;
	u64 val = 0, digit;
	int shift, ret;

	if (!(hex ? isxdigit(*p) : isdigit(*p)))
		return opt_bad(c, "a size");
	for (; hex ? isxdigit(*p) : isdigit(*p); p++) {
		digit = hex_to_bin(*p);
		if (check_mul_overflow(val, hex ? 16ULL : 10ULL, &val) ||
		    check_add_overflow(val, digit, &val))
			goto err_range;
	}
	/* "0x1e" is a number: letters after hexadecimal digits are ambiguous */
	shift = hex && *p ? -EINVAL : size_shift(p);
	if (shift < 0)
		return opt_bad(c, "a size");
	if (val > U64_MAX >> shift)
		goto err_range;
	ret = check_number(c, val << shift);
	if (!ret)
		*out = val << shift;
	return ret;

err_range:
	qblk_err_set(c->err, "%s: option '%s': %s does not fit 64 bits",
		     c->who, c->desc->name, c->value);
	return -ERANGE;
}

static void list_choices(const char *const *choices, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (; *choices; choices++)
		n += scnprintf(buf + n, size - n, "%s%s", n ? ", " : "",
			       *choices);
}

static int parse_enum(const struct opt_ctx *c, u32 *out)
{
	char words[128];
	u32 i;

	for (i = 0; c->desc->choices[i]; i++) {
		if (!strcmp(c->value, c->desc->choices[i])) {
			*out = i;
			return 0;
		}
	}
	list_choices(c->desc->choices, words, sizeof(words));
	qblk_err_set(c->err, "%s: option '%s': '%s' is none of %s", c->who,
		     c->desc->name, c->value, words);
	return -EINVAL;
}

static int parse_one(const struct opt_ctx *c, void *out)
{
	void *field = out + c->desc->offset;

	switch (c->desc->type) {
	case QBLK_OPT_BOOL:
		return parse_bool(c, field);
	case QBLK_OPT_U64:
		return parse_u64(c, field);
	case QBLK_OPT_SIZE:
		return parse_size(c, field);
	case QBLK_OPT_ENUM:
		return parse_enum(c, field);
	case QBLK_OPT_TRISTATE:
		return parse_tristate(c, field);
	case QBLK_OPT_STRING:
		*(const char **)field = c->value;
		return 0;
	}
	return -EINVAL;
}

static void store_default(const struct qblk_opt_desc *d, void *out)
{
	void *field = out + d->offset;

	switch (d->type) {
	case QBLK_OPT_BOOL:
		*(bool *)field = d->def;
		break;
	case QBLK_OPT_U64:
	case QBLK_OPT_SIZE:
		*(u64 *)field = d->def;
		break;
	case QBLK_OPT_ENUM:
		*(u32 *)field = d->def;
		break;
	case QBLK_OPT_TRISTATE:
		*(s32 *)field = -1;
		break;
	case QBLK_OPT_STRING:
		*(const char **)field = NULL;
		break;
	}
}

/* The one place where @d is given, NULL for none, ERR_PTR for two */
static struct qblk_opt *find_opt(const struct qblk_opt_desc *d,
				 struct qblk_opt *opts, unsigned int nr,
				 const char *who, struct qblk_err *err)
{
	struct qblk_opt *found = NULL;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (strcmp(opts[i].key, d->name))
			continue;
		if (found) {
			qblk_err_set(err, "%s: option '%s' is given twice", who,
				     d->name);
			return ERR_PTR(-EINVAL);
		}
		found = &opts[i];
	}
	return found;
}

static int parse_row(const struct qblk_opt_desc *d, struct qblk_opt *opts,
		     unsigned int nr, void *out, const char *who,
		     struct qblk_err *err)
{
	struct opt_ctx c = { .desc = d, .who = who, .err = err };
	struct qblk_opt *opt = find_opt(d, opts, nr, who, err);

	if (IS_ERR(opt))
		return PTR_ERR(opt);
	if (!opt && d->required) {
		qblk_err_set(err, "%s: option '%s' is missing", who, d->name);
		return -EINVAL;
	}
	if (!opt) {
		store_default(d, out);
		return 0;
	}
	opt->used = true;
	c.value = opt->value;
	return parse_one(&c, out);
}

int qblk_opts_parse(const struct qblk_opt_desc *table, struct qblk_opt *opts,
		    unsigned int nr, void *out, const char *who,
		    struct qblk_err *err)
{
	int ret;

	for (; table && table->name; table++) {
		ret = parse_row(table, opts, nr, out, who, err);
		if (ret)
			return ret;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(qblk_opts_parse);

int qblk_opts_unused(const struct qblk_opt *opts, unsigned int nr,
		     const char *who, struct qblk_err *err)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (opts[i].used)
			continue;
		qblk_err_set(err, "%s: option '%s' is not known", who,
			     opts[i].key);
		return -EINVAL;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(qblk_opts_unused);
