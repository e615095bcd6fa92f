// SPDX-License-Identifier: GPL-2.0
#include <qblk/err.h>

#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/printk.h>
#include <linux/stdarg.h>
#include <linux/string.h>

void qblk_err_set(struct qblk_err *err, const char *fmt, ...)
{
	va_list args;

	if (!err || err->msg[0])
		return;
	va_start(args, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	va_end(args);
}
EXPORT_SYMBOL_GPL(qblk_err_set);

void qblk_err_warn(struct qblk_err *err, const char *fmt, ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args, again;
	size_t used;

	va_start(args, fmt);
	va_copy(again, args);
	vaf.va = &args;
	pr_warn("qblk: %pV\n", &vaf);
	vaf.va = &again;
	if (err && err->warnings) {
		used = strlen(err->warnings);
		if (snprintf(err->warnings + used, QBLK_WARNINGS_LEN - used,
			     "%pV\n", &vaf) >= QBLK_WARNINGS_LEN - used)
			err->warnings[used] = '\0';
	}
	va_end(again);
	va_end(args);
}
EXPORT_SYMBOL_GPL(qblk_err_warn);
