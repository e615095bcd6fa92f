// SPDX-License-Identifier: GPL-2.0
#include <qblk/err.h>

#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/stdarg.h>

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
