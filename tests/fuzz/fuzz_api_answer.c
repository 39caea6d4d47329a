/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a brig-api that was taken over could answer to `brig key`, which may run as root.
 *
 * Oracle: an answer that is accepted has a status of three digits and a body that lies in the buffer and
 * reaches exactly to its end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/apicall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *body = NULL;
	unsigned status = 0;
	size_t n = 0;
	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	if (api_answer_parse(text, size, &status, &body, &n) == 0) {
		must(status <= 999);
		must(body >= text && body + n == text + size);
	}
	free(text);
	return 0;
}
