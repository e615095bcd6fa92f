// SPDX-License-Identifier: GPL-2.0
/*
 * The registry of drivers.
 *
 * registry_mutex is innermost: a node is opened under qblk_control_mutex, which
 * may load a module, whose init registers a driver.  So nothing here takes
 * qblk_control_mutex, and request_module() is called without registry_mutex.
 */
#include "core.h"

#include <linux/kmod.h>
#include <linux/mutex.h>
#include <linux/string.h>

static DEFINE_MUTEX(registry_mutex);
static LIST_HEAD(drivers);

/**
 * qblk_driver_name_valid - may this be the name of a driver?
 * @name: untrusted text, which would become part of a module's name
 */
bool qblk_driver_name_valid(const char *name)
{
	size_t len = strlen(name);

	return len && len < QBLK_NODE_NAME_LEN &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static struct qblk_driver *driver_find_locked(const char *name)
{
	struct qblk_driver *drv;

	lockdep_assert_held(&registry_mutex);
	list_for_each_entry(drv, &drivers, entry) {
		if (!strcmp(drv->name, name))
			return drv;
	}
	return NULL;
}

/* Does the table have what its flags promise? */
static bool driver_complete(const struct qblk_driver *drv)
{
	if (!drv->name || !qblk_driver_name_valid(drv->name) || !drv->open ||
	    !drv->close)
		return false;
	if (drv->opts && !drv->opts_size)
		return false;
	if (hweight32(drv->flags & (QBLK_DRV_FORMAT | QBLK_DRV_FILTER |
				    QBLK_DRV_PROTOCOL)) != 1)
		return false;
	if (drv->flags & QBLK_DRV_PROTOCOL)
		return drv->submit && drv->preadv;
	return drv->map;
}

int qblk_register_driver(struct qblk_driver *drv)
{
	int ret = 0;

	if (!driver_complete(drv))
		return -EINVAL;
	mutex_lock(&registry_mutex);
	if (driver_find_locked(drv->name))
		ret = -EEXIST;
	else
		list_add_tail(&drv->entry, &drivers);
	mutex_unlock(&registry_mutex);
	return ret;
}
EXPORT_SYMBOL_GPL(qblk_register_driver);

void qblk_unregister_driver(struct qblk_driver *drv)
{
	mutex_lock(&registry_mutex);
	list_del_init(&drv->entry);
	mutex_unlock(&registry_mutex);
}
EXPORT_SYMBOL_GPL(qblk_unregister_driver);

static struct qblk_driver *driver_try_get(const char *name)
{
	struct qblk_driver *drv;

	mutex_lock(&registry_mutex);
	drv = driver_find_locked(name);
	if (drv && !try_module_get(drv->owner))
		drv = NULL;
	mutex_unlock(&registry_mutex);
	return drv;
}

/**
 * qblk_driver_get - look up a driver, loading its module if need be
 * @name: untrusted text
 * @err: gets the sentence on failure
 *
 * Context: process; sleeps for modprobe.
 *
 * Return: the driver with its module pinned, or ERR_PTR(-ENOENT).
 */
struct qblk_driver *qblk_driver_get(const char *name, struct qblk_err *err)
{
	struct qblk_driver *drv = NULL;

	if (qblk_driver_name_valid(name)) {
		drv = driver_try_get(name);
		if (!drv && !request_module("qblk-driver-%s", name))
			drv = driver_try_get(name);
	}
	if (drv)
		return drv;
	qblk_err_set(err, "unknown driver '%.64s'", name);
	return ERR_PTR(-ENOENT);
}

/**
 * qblk_driver_put - undo qblk_driver_get()
 * @drv: the driver
 */
void qblk_driver_put(const struct qblk_driver *drv)
{
	module_put(drv->owner);
}

/**
 * qblk_driver_for_each - visit every driver known now
 * @fn: called under the registry's lock; non-zero ends the walk
 * @priv: for @fn
 *
 * Return: 0 or what @fn returned last.
 */
int qblk_driver_for_each(int (*fn)(const struct qblk_driver *drv, void *priv),
			 void *priv)
{
	struct qblk_driver *drv;
	int ret = 0;

	mutex_lock(&registry_mutex);
	list_for_each_entry(drv, &drivers, entry) {
		ret = fn(drv, priv);
		if (ret)
			break;
	}
	mutex_unlock(&registry_mutex);
	return ret;
}

/* State of qblk_driver_probe() */
struct probe_ctx {
	const u8 *buf;
	size_t len;
	struct qblk_probe *best;
	struct qblk_probe *work;
	struct qblk_err *err;
	int score;
};

static int probe_one(const struct qblk_driver *drv, void *priv)
{
	struct probe_ctx *c = priv;
	int score;

	if (!drv->probe)
		return 0;
	memset(c->work, 0, sizeof(*c->work));
	c->work->want = c->len;
	score = drv->probe(c->buf, c->len, c->work, c->err);
	/* @drv, and its name with it, may go when the registry is unlocked */
	strscpy(c->work->format, drv->name, sizeof(c->work->format));
	if (score < 0) {
		*c->best = *c->work;
		return score;
	}
	if (score > c->score) {
		c->score = score;
		*c->best = *c->work;
	}
	return 0;
}

/**
 * qblk_driver_probe - which format is this header?
 * @buf: start of the image
 * @len: bytes in @buf
 * @p: result of the driver with the best score; with -ENODATA @p->want says
 *	how many bytes are needed, with another error @p->format who found it
 *	broken
 * @err: gets the sentence on failure
 *
 * Only drivers already loaded are asked.
 *
 * Return: the score, 1..100; 0 when nobody knows it; -ENODATA; -ENOMEM; the
 * error of the driver that found its header broken.
 */
int qblk_driver_probe(const u8 *buf, size_t len, struct qblk_probe *p,
		      struct qblk_err *err)
{
	struct probe_ctx c = { .buf = buf, .len = len, .best = p, .err = err };
	int ret;

	memset(p, 0, sizeof(*p));
	c.work = kmalloc(sizeof(*c.work), GFP_KERNEL);
	if (!c.work)
		return -ENOMEM;
	ret = qblk_driver_for_each(probe_one, &c);
	kfree(c.work);
	return ret < 0 ? ret : c.score;
}
