/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place in the stream of events, as Last-Event-ID or ?cursor= bring it.
 *
 * Oracle: what is taken is told again as the same text; what is refused changes nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = { .life = 1, .number = 2 };
	char again[CURSOR_MAX];
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (cursor_parse(text, &c) == 0) {
		cursor_format(c, again);
		if (strcmp(again, text) != 0 || c.number > INT64_MAX)
			abort();
	} else if (c.life != 1 || c.number != 2) {
		abort();
	}
	free(text);
	return 0;
}
