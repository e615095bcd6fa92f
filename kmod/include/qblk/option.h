/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_OPTION_H
#define _QBLK_OPTION_H

#include <linux/limits.h>
#include <linux/types.h>

struct qblk_err;

/**
 * enum qblk_opt_type - how the text of an option becomes a value
 * @QBLK_OPT_BOOL: on/off, yes/no, true/false, 1/0; stored as bool
 * @QBLK_OPT_U64: decimal or 0x number; stored as u64
 * @QBLK_OPT_SIZE: bytes with an optional K, M, G, T, P or E (powers of 1024);
 *	stored as u64
 * @QBLK_OPT_ENUM: one word of &qblk_opt_desc.choices; its index, as u32
 * @QBLK_OPT_TRISTATE: as %QBLK_OPT_BOOL, for a driver that has to know whether
 *	it was given; stored as s32, -1 for not given
 * @QBLK_OPT_STRING: NUL-terminated text; stored as const char * that points
 *	into the option list, so it is valid only during ->open()
 */
enum qblk_opt_type {
	QBLK_OPT_BOOL,
	QBLK_OPT_U64,
	QBLK_OPT_SIZE,
	QBLK_OPT_ENUM,
	QBLK_OPT_TRISTATE,
	QBLK_OPT_STRING,
};

/*
 * Default of an option that has none of its own: the driver works it out.  As
 * u64 or u32 as long as the value is stored; a number has to have a smaller
 * &qblk_opt_desc.max.
 */
#define QBLK_OPT_UNSET		U64_MAX

/**
 * struct qblk_opt_desc - one row of an option table
 * @name: QEMU's name of the option; NULL ends the table
 * @type: see &enum qblk_opt_type
 * @offset: of the value in the driver's options structure
 * @required: the option has no default
 * @min: smallest value of a number
 * @max: largest value of a number; 0 for no bound
 * @multiple: a number has to be a multiple of this; 0 for any
 * @def: default of a number, bool or enum (index), or %QBLK_OPT_UNSET for a
 *	number or enum
 * @choices: words of an enum, NULL-terminated
 * @help: one line for ``qblkctl drivers``
 */
struct qblk_opt_desc {
	const char *name;
	enum qblk_opt_type type;
	size_t offset;
	bool required;
	u64 min;
	u64 max;
	u64 multiple;
	u64 def;
	const char *const *choices;
	const char *help;
};

/**
 * struct qblk_opt - an option as the user gave it
 * @key: name
 * @value: text
 * @used: set by qblk_opts_parse() of the table that knows @key
 */
struct qblk_opt {
	const char *key;
	const char *value;
	bool used;
};

/**
 * qblk_opts_parse - fill an options structure from text
 * @table: the options known, ended by a row without a name; NULL for none
 * @opts: what the user gave
 * @nr: number of @opts
 * @out: structure the table's offsets point into; defaults are stored first
 * @who: name for messages, such as the node's
 * @err: gets the sentence on failure
 *
 * Rows of @opts the table does not know are left alone with @used clear, so
 * that several tables can share one list; qblk_opts_unused() then finds what
 * nobody wanted.  An option given twice is an error.  May not sleep: no.
 *
 * Return: 0, or -EINVAL (unknown word, no number, duplicate, missing), or
 * -ERANGE (number out of bounds).
 */
int qblk_opts_parse(const struct qblk_opt_desc *table, struct qblk_opt *opts,
		    unsigned int nr, void *out, const char *who,
		    struct qblk_err *err);

/**
 * qblk_opts_unused - refuse what no table took
 * @opts: list that went through qblk_opts_parse()
 * @nr: number of @opts
 * @who: name for messages
 * @err: gets the sentence on failure
 *
 * Return: 0, or -EINVAL when an option was not used.
 */
int qblk_opts_unused(const struct qblk_opt *opts, unsigned int nr,
		     const char *who, struct qblk_err *err);

#endif /* _QBLK_OPTION_H */
