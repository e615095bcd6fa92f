// SPDX-License-Identifier: GPL-2.0
/*
 * Tables of finite state entropy: RFC 8878, 4.1, and which of them a block has.
 */
#include <linux/string.h>

#include "unzstd_int.h"

/* What each bit of the next state adds to an entry's code */
#define UNZSTD_ONE_BIT	(BIT(UNZSTD_TAKE_SHIFT) | 1)

/* 3.1.1.3.2.1.1 */

static const u32 unzstd_litlen_base[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
	16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096,
	8192, 16384, 32768, 65536,
};

static const u8 unzstd_litlen_extra[] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12,
	13, 14, 15, 16,
};

static const u32 unzstd_match_base[] = {
	3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
	19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
	35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051,
	4099, 8195, 16387, 32771, 65539,
};

static const u8 unzstd_match_extra[] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11,
	12, 13, 14, 15, 16,
};

/* 3.1.1.3.2.2 */

static const s8 unzstd_litlen_fixed[] = {
	4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
	-1, -1, -1, -1,
};

static const s8 unzstd_offset_fixed[] = {
	1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
};

static const s8 unzstd_match_fixed[] = {
	1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
	1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1,
	-1, -1, -1, -1, -1,
};

static const struct unzstd_kind unzstd_kinds[QBLK_UNZSTD_TABLES] = {
	[QBLK_UNZSTD_LITLEN] = {
		.symbols = ARRAY_SIZE(unzstd_litlen_base),
		.log = QBLK_UNZSTD_LITLEN_LOG,
		.base = unzstd_litlen_base,
		.extra = unzstd_litlen_extra,
		.fixed = unzstd_litlen_fixed,
		.fixed_symbols = ARRAY_SIZE(unzstd_litlen_fixed),
		.fixed_log = 6,
	},
	[QBLK_UNZSTD_OFFSET] = {
		.first = QBLK_UNZSTD_OFFSET * QBLK_UNZSTD_STATES,
		.symbols = 32,
		.log = QBLK_UNZSTD_OFFSET_LOG,
		.fixed = unzstd_offset_fixed,
		.fixed_symbols = ARRAY_SIZE(unzstd_offset_fixed),
		.fixed_log = 5,
	},
	[QBLK_UNZSTD_MATCH] = {
		.first = QBLK_UNZSTD_MATCH * QBLK_UNZSTD_STATES,
		.symbols = ARRAY_SIZE(unzstd_match_base),
		.log = QBLK_UNZSTD_MATCH_LOG,
		.base = unzstd_match_base,
		.extra = unzstd_match_extra,
		.fixed = unzstd_match_fixed,
		.fixed_symbols = ARRAY_SIZE(unzstd_match_fixed),
		.fixed_log = 6,
	},
};

/* What all entries of a symbol have in common */
static struct qblk_unzstd_entry
unzstd_symbol_entry(const struct unzstd_kind *kind, u32 symbol)
{
	u32 extra = kind->extra ? kind->extra[symbol] : symbol;

	return (struct qblk_unzstd_entry){
		.code = kind->first << UNZSTD_NEXT_SHIFT |
			extra << UNZSTD_TAKE_SHIFT,
		.symbol = kind->base ?
			kind->base[symbol] | extra << UNZSTD_EXTRA_SHIFT :
			BIT(extra) - 1,
	};
}

/*
 * Symbols of all states: those that are less likely than one state get the last
 * ones, others are spread over the rest.
 */
static void unzstd_fse_spread(struct qblk_unzstd *z, u32 symbols, u32 log)
{
	u32 size = 1 << log, step = (size >> 1) + (size >> 3) + 3;
	u32 high = size, state = 0, i;
	int n;

	for (i = 0; i < symbols; i++)
		if (z->norm[i] < 0)
			z->symbols[--high] = i;
	for (i = 0; i < symbols; i++)
		for (n = 0; n < z->norm[i]; n++) {
			z->symbols[state] = i;
			do {
				state = (state + step) & (size - 1);
			} while (state >= high);
		}
}

/*
 * Before the next of a symbol's states.  These share out the 1 << log states
 * that may follow.  When they cannot do so evenly, the first ones take twice as
 * many as the others, and the others begin at the first state.
 */
static void unzstd_symbol_begin(struct qblk_unzstd_symbol *s,
				const struct unzstd_kind *kind, u32 symbol,
				u32 states, u32 log)
{
	u32 bits = log - __fls(states);

	s->entry = unzstd_symbol_entry(kind, symbol);
	s->others = s->entry.code + (bits - 1) * UNZSTD_ONE_BIT;
	s->entry.code += bits * UNZSTD_ONE_BIT;
	s->entry.code += ((states << bits) - BIT(log)) << UNZSTD_NEXT_SHIFT;
	s->step = BIT(bits + UNZSTD_NEXT_SHIFT);
	s->first = (2U << __fls(states)) - states;
}

/*
 * z->norm holds how likely the symbols are, which makes 1 << log together.
 *
 * Entries are not copied as a whole: to read one whose half was just written
 * takes three times as long when a symbol has many states in a row.
 */
static void unzstd_fse_build(struct qblk_unzstd *z,
			     const struct unzstd_kind *kind,
			     struct qblk_unzstd_entry *entries, u32 log)
{
	struct qblk_unzstd_symbol *s;
	u32 state, symbol, code;

	unzstd_fse_spread(z, kind->symbols, log);
	for (symbol = 0; symbol < kind->symbols; symbol++)
		if (z->norm[symbol])
			unzstd_symbol_begin(&z->symbol[symbol], kind, symbol,
					    abs(z->norm[symbol]), log);
	for (state = 0; state < BIT(log); state++) {
		s = &z->symbol[z->symbols[state]];
		code = s->entry.code;
		entries[state].code = code;
		entries[state].symbol = s->entry.symbol;
		s->entry.code = code + s->step;
		if (--s->first)
			continue;
		s->entry.code = s->others;
		s->step /= 2;
	}
}

/**
 * struct unzstd_forward - bits that are read from the first one on
 * @src: the bytes
 * @len: of them
 * @pos: bits that were read; it may go beyond the end, where there are zeroes
 */
struct unzstd_forward {
	const u8 *src;
	u32 len;
	u32 pos;
};

/* Not more than 16 */
static u32 unzstd_forward_peek(const struct unzstd_forward *in, u32 nr)
{
	u32 at = in->pos / 8, bits = 0, i;

	for (i = 0; i < 3 && at + i < in->len; i++)
		bits |= in->src[at + i] << 8 * i;
	return bits >> in->pos % 8 & (BIT(nr) - 1);
}

/*
 * How likely a symbol is, -1 to @left, in as few bits as there can be: the
 * smallest values have one less.
 */
static int unzstd_fse_likely(struct unzstd_forward *in, u32 left)
{
	u32 bits = __fls(left + 1) + 1;
	u32 value = unzstd_forward_peek(in, bits);
	u32 half = 1 << (bits - 1), small = 2 * half - 1 - (left + 1);

	if ((value & (half - 1)) < small) {
		in->pos += bits - 1;
		return (value & (half - 1)) - 1;
	}
	in->pos += bits;
	return (value & half ? value - small : value) - 1;
}

/* How many more symbols do not occur */
static u32 unzstd_fse_zeroes(struct unzstd_forward *in)
{
	u32 nr, sum = 0;

	do {
		nr = unzstd_forward_peek(in, 2);
		in->pos += 2;
		sum += nr;
	} while (nr == 3);
	return sum;
}

/* 4.1.1.  Return: bytes of the description, -EIO. */
static int unzstd_fse_describe(struct qblk_unzstd *z,
			       const struct unzstd_kind *kind, u32 *log,
			       const u8 *src, u32 len)
{
	struct unzstd_forward in = { .src = src, .len = len, .pos = 4 };
	u32 symbol = 0, left;
	int likely;

	if (!len)
		return -EIO;
	*log = (src[0] & 15) + 5;
	if (*log > kind->log)
		return -EIO;
	memset(z->norm, 0, sizeof(z->norm));
	for (left = 1 << *log; left; left -= abs(likely)) {
		if (symbol >= kind->symbols)
			return -EIO;
		likely = unzstd_fse_likely(&in, left);
		z->norm[symbol++] = likely;
		if (!likely)
			symbol += unzstd_fse_zeroes(&in);
	}
	return in.pos <= 8 * len ? DIV_ROUND_UP(in.pos, 8) : -EIO;
}

/**
 * unzstd_fse_read - make the table that a description says
 * @z: memory
 * @kind: what it decodes
 * @entries: gets the table
 * @log: bits of the first state
 * @src: description, and what follows it
 * @len: bytes of both
 *
 * Return: bytes of the description, or -EIO.
 */
int unzstd_fse_read(struct qblk_unzstd *z, const struct unzstd_kind *kind,
		    struct qblk_unzstd_entry *entries, u32 *log, const u8 *src,
		    u32 len)
{
	int ret = unzstd_fse_describe(z, kind, log, src, len);

	if (ret >= 0)
		unzstd_fse_build(z, kind, entries, *log);
	return ret;
}

/* How each table comes, 3.1.1.3.2.1 */

/* Made with the first block that needs it: a hostile input has many. */
static int unzstd_table_fixed(struct unzstd_state *s, u32 table, const u8 *src,
			      u32 len)
{
	const struct unzstd_kind *kind = &unzstd_kinds[table];
	struct qblk_unzstd *z = s->z;
	u32 i;

	if (!(s->fixed & BIT(table))) {
		memset(z->norm, 0, sizeof(z->norm));
		for (i = 0; i < kind->fixed_symbols; i++)
			z->norm[i] = kind->fixed[i];
		unzstd_fse_build(z, kind, z->fixed[table], kind->fixed_log);
		s->fixed |= BIT(table);
	}
	memcpy(&z->fse[kind->first], z->fixed[table], sizeof(z->fixed[table]));
	s->log[table] = kind->fixed_log;
	return 0;
}

/* One symbol and no other */
static int unzstd_table_rle(struct unzstd_state *s, u32 table, const u8 *src,
			    u32 len)
{
	const struct unzstd_kind *kind = &unzstd_kinds[table];

	if (!len || src[0] >= kind->symbols)
		return -EIO;
	s->z->fse[kind->first] = unzstd_symbol_entry(kind, src[0]);
	s->log[table] = 0;
	return 1;
}

static int unzstd_table_described(struct unzstd_state *s, u32 table,
				  const u8 *src, u32 len)
{
	const struct unzstd_kind *kind = &unzstd_kinds[table];

	return unzstd_fse_read(s->z, kind, &s->z->fse[kind->first],
			       &s->log[table], src, len);
}

static int unzstd_table_again(struct unzstd_state *s, u32 table, const u8 *src,
			      u32 len)
{
	return s->tables & BIT(table) ? 0 : -EIO;
}

static int (*const unzstd_tables[])(struct unzstd_state *s, u32 table,
				    const u8 *src, u32 len) = {
	unzstd_table_fixed,
	unzstd_table_rle,
	unzstd_table_described,
	unzstd_table_again,
};

/**
 * unzstd_fse_tables - the tables of a block
 * @s: gets them
 * @modes: how they come, two bits for each from the highest on
 * @src: descriptions, and what follows them
 * @len: bytes of both
 *
 * Return: bytes of the descriptions, or -EIO.
 */
int unzstd_fse_tables(struct unzstd_state *s, u8 modes, const u8 *src, u32 len)
{
	u32 table, mode, done = 0;
	int ret;

	/* the lowest two are reserved */
	if (modes & 3)
		return -EIO;
	for (table = 0; table < QBLK_UNZSTD_TABLES; table++) {
		mode = modes >> (6 - 2 * table) & 3;
		ret = unzstd_tables[mode](s, table, src + done, len - done);
		if (ret < 0)
			return ret;
		s->tables |= BIT(table);
		done += ret;
	}
	return done;
}
