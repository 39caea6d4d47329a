/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/json_out.h"

#include <stdarg.h>
#include <stdio.h>

const char JSON_TRUE[] = "true", JSON_FALSE[] = "false";

static void put_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

void json_line(const char *key, ...)
{
	va_list ap;
	va_start(ap, key);
	putchar('{');
	for (int n = 0; key; n++) {
		const char *value = va_arg(ap, const char *);
		if (n)
			putchar(',');
		put_string(key);
		putchar(':');
		if (value == JSON_TRUE || value == JSON_FALSE)
			fputs(value, stdout);
		else
			put_string(value);
		key = va_arg(ap, const char *);
	}
	puts("}");
	va_end(ap);
}
