/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *text;
	int retry;
} codes[] = {
#define X(name, text, retry) [BRIG_E_##name] = { text, retry },
	BRIG_ERRORS(X)
#undef X
};
_Static_assert(sizeof(codes) / sizeof(codes[0]) == BRIG_E__N_CODES, "one row per code");

const char *brig_code_name(enum brig_code code)
{
	if ((unsigned)code >= BRIG_E__N_CODES)
		code = BRIG_E_INTERNAL;
	return codes[code].text;
}

enum brig_code brig_code_from_name(const char *name)
{
	for (unsigned i = 0; i < BRIG_E__N_CODES; i++)
		if (strcmp(codes[i].text, name) == 0)
			return (enum brig_code)i;
	return BRIG_E_INTERNAL;
}

int brig_code_retryable(enum brig_code code)
{
	return (unsigned)code < BRIG_E__N_CODES ? codes[code].retry : 0;
}

void brig_err_set(struct brig_err *err, enum brig_code code, int sys, const char *fmt, ...)
{
	if (!err)
		return;
	err->code = code;
	err->sys = sys;
	err->remedy[0] = '\0';
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (sys && n >= 0 && (size_t)n < sizeof(err->msg) - 1)
		snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", strerror(sys));
}

void brig_err_prefix(struct brig_err *err, const char *fmt, ...)
{
	if (!err)
		return;
	char head[sizeof(err->msg)], tail[sizeof(err->msg)];
	memcpy(tail, err->msg, sizeof(tail));
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	size_t n = strnlen(head, sizeof(head) - 3);
	memcpy(err->msg, head, n);
	/* The cause is worth more than the end of a long context: keep room for both. */
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", tail);
}

void brig_err_remedy(struct brig_err *err, const char *fmt, ...)
{
	if (!err)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err->remedy, sizeof(err->remedy), fmt, ap);
	va_end(ap);
}
