/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cursor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIFE_DIGITS 16u
/* Below 2^63, so that no arithmetic on it overflows. */
#define NUMBER_DIGITS_MAX 18u

void cursor_format(struct cursor c, char ret[CURSOR_MAX])
{
	snprintf(ret, CURSOR_MAX, "%016llx-%llu", (unsigned long long)c.life,
		 (unsigned long long)c.number);
}

int cursor_parse(const char *text, struct cursor *ret)
{
	static const char hex[] = "0123456789abcdef";
	struct cursor c = { 0 };
	if (strspn(text, hex) != LIFE_DIGITS || text[LIFE_DIGITS] != '-')
		return -EINVAL;
	for (unsigned i = 0; i < LIFE_DIGITS; i++)
		c.life = c.life << 4 | (uint64_t)(strchr(hex, text[i]) - hex);
	const char *digits = text + LIFE_DIGITS + 1;
	size_t n = strspn(digits, "0123456789");
	if (n < 1 || n > NUMBER_DIGITS_MAX || digits[n] || (digits[0] == '0' && n > 1))
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		c.number = c.number * 10 + (uint64_t)(digits[i] - '0');
	*ret = c;
	return 0;
}
