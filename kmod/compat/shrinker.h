/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _QBLK_COMPAT_SHRINKER_H
#define _QBLK_COMPAT_SHRINKER_H

#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/version.h>

typedef unsigned long qblk_shrink_fn(struct shrinker *shrinker,
				     struct shrink_control *sc);

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
/*
 * shrinker_alloc() and shrinker_register() came with 6.7; before, the memory of a
 * shrinker was its owner's, and it got its name when it was registered.
 */
static inline struct shrinker *qblk_shrinker_new(const char *name,
						 qblk_shrink_fn *count,
						 qblk_shrink_fn *scan)
{
	struct shrinker *shrinker = kzalloc(sizeof(*shrinker), GFP_KERNEL);

	if (!shrinker)
		return NULL;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->seeks = DEFAULT_SEEKS;
	if (!register_shrinker(shrinker, "%s", name))
		return shrinker;
	kfree(shrinker);
	return NULL;
}

static inline void qblk_shrinker_free(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(shrinker);
}
#else
static inline struct shrinker *qblk_shrinker_new(const char *name,
						 qblk_shrink_fn *count,
						 qblk_shrink_fn *scan)
{
	struct shrinker *shrinker = shrinker_alloc(0, "%s", name);

	if (!shrinker)
		return NULL;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker_register(shrinker);
	return shrinker;
}

static inline void qblk_shrinker_free(struct shrinker *shrinker)
{
	shrinker_free(shrinker);
}
#endif

#endif /* _QBLK_COMPAT_SHRINKER_H */
