/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fortify.c: Debian's libjansson.a is compiled for glibc with _FORTIFY_SOURCE, and so asks for functions
 * that know the size of what they write to. musl has none; these do the same, and end the process where
 * glibc's would.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Their names and arguments are glibc's (its Linux Standard Base interface). */
int __vsnprintf_chk(char *to, size_t n, int flag, size_t room, const char *fmt, va_list ap);
int __snprintf_chk(char *to, size_t n, int flag, size_t room, const char *fmt, ...);
char *__strncpy_chk(char *to, const char *from, size_t n, size_t room);

__attribute__((format(printf, 5, 0))) int __vsnprintf_chk(char *to, size_t n, int flag, size_t room,
							  const char *fmt, va_list ap)
{
	(void)flag;
	if (n > room)
		abort();
	return vsnprintf(to, n, fmt, ap);
}

__attribute__((format(printf, 5, 6))) int __snprintf_chk(char *to, size_t n, int flag, size_t room,
							 const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = __vsnprintf_chk(to, n, flag, room, fmt, ap);
	va_end(ap);
	return r;
}

char *__strncpy_chk(char *to, const char *from, size_t n, size_t room)
{
	if (n > room)
		abort();
	return strncpy(to, from, n);
}
