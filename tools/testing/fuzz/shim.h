/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the codec takes from the kernel, for userspace.  ./codec makes every
 * header of the kernel that a source includes out of this one.
 */
#ifndef _FUZZ_SHIM_H
#define _FUZZ_SHIM_H

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef signed char s8;
typedef short s16;
typedef int s32;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u64 __be64;

#define U8_MAX		((u8)~0U)
#define U16_MAX		((u16)~0U)
#define U32_MAX		((u32)~0U)
#define U64_MAX		((u64)~0ULL)
#define S64_MAX		((s64)(U64_MAX >> 1))

#define __packed	__attribute__((__packed__))
#define __printf(a, b)	__attribute__((__format__(printf, a, b)))
#define EXPORT_SYMBOL_GPL(sym)
#define static_assert(cond)	_Static_assert(cond, #cond)

#define BIT(n)		(1UL << (n))
#define BIT_ULL(n)	(1ULL << (n))
#define GENMASK(h, l)	((~0UL << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l)	((U64_MAX << (l)) & (U64_MAX >> (63 - (h))))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define READ_ONCE(x)	(*(const volatile __typeof__(x) *)&(x))
#define round_up(x, y)	((((x) - 1) | ((__typeof__(x))(y) - 1)) + 1)
#define round_down(x, y)	((x) & ~((__typeof__(x))(y) - 1))
#define DIV_ROUND_UP(a, b)	(((a) + (b) - 1) / (b))
#define IS_ALIGNED(x, a)	(((x) & ((__typeof__(x))(a) - 1)) == 0)

#define min_t(type, a, b)					\
({								\
	type _a = (a), _b = (b);				\
								\
	_a < _b ? _a : _b;					\
})
#define max_t(type, a, b)					\
({								\
	type _c = (a), _d = (b);				\
								\
	_c > _d ? _c : _d;					\
})
#define min(a, b)	min_t(__typeof__(a), a, b)
#define max(a, b)	max_t(__typeof__(a), a, b)

/* Nobody fuzzes what is said to the kernel's log. */
struct va_format {
	const char *fmt;
	va_list *va;
};

#define pr_warn(...)	((void)0)
#define cond_resched()	((void)0)
#define noinline	__attribute__((__noinline__))
#define OPTIMIZER_HIDE_VAR(x)	__asm__("" : "+r" (x))
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#define check_add_overflow(a, b, d)	__builtin_add_overflow(a, b, d)
#define check_mul_overflow(a, b, d)	__builtin_mul_overflow(a, b, d)

#define xxh64(data, len, seed)	XXH64(data, len, seed)

#define be16_to_cpu(x)	__builtin_bswap16(x)
#define be32_to_cpu(x)	__builtin_bswap32(x)
#define be64_to_cpu(x)	__builtin_bswap64(x)
#define cpu_to_be16(x)	__builtin_bswap16(x)
#define cpu_to_be32(x)	__builtin_bswap32(x)
#define cpu_to_be64(x)	__builtin_bswap64(x)

static inline u32 get_unaligned_be32(const void *p)
{
	u32 v;

	memcpy(&v, p, sizeof(v));
	return be32_to_cpu(v);
}

static inline u64 get_unaligned_be64(const void *p)
{
	u64 v;

	memcpy(&v, p, sizeof(v));
	return be64_to_cpu(v);
}

static inline u16 get_unaligned_le16(const void *p)
{
	u16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline u64 get_unaligned_le64(const void *p)
{
	u64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#define get_unaligned(p)					\
({								\
	__typeof__(*(p) + 0) _v;				\
								\
	memcpy(&_v, (p), sizeof(_v));				\
	_v;							\
})
#define put_unaligned(v, p)					\
do {								\
	__typeof__(*(p)) _v = (v);				\
								\
	memcpy((p), &_v, sizeof(_v));				\
} while (0)

static inline void memset32(u32 *p, u32 v, size_t nr)
{
	while (nr--)
		*p++ = v;
}

static inline void memset16(u16 *p, u16 v, size_t nr)
{
	while (nr--)
		*p++ = v;
}

static inline u16 get_unaligned_be16(const void *p)
{
	u16 v;

	memcpy(&v, p, sizeof(v));
	return be16_to_cpu(v);
}

static inline u32 lower_32_bits(u64 n)
{
	return n;
}

static inline u32 upper_32_bits(u64 n)
{
	return n >> 32;
}

static inline unsigned int hweight32(u32 w)
{
	return __builtin_popcount(w);
}

static inline unsigned int __ffs64(u64 w)
{
	return __builtin_ctzll(w);
}

static inline u32 ilog2(u64 n)
{
	return 63 - __builtin_clzll(n);
}

static inline bool is_power_of_2(u64 n)
{
	return n && !(n & (n - 1));
}

#define __ffs(x)	((unsigned int)__builtin_ctzl(x))
#define __fls(x)	(63U - __builtin_clzl(x))

#endif /* _FUZZ_SHIM_H */
