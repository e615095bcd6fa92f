// SPDX-License-Identifier: GPL-2.0
#include "libqblk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int qblk_error_set(struct qblk_error *err, int code, const char *fmt, ...)
{
	va_list args;

	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return -code;
}

int qblk_error_nomem(struct qblk_error *err)
{
	return qblk_error_set(err, ENOMEM, "out of memory");
}
