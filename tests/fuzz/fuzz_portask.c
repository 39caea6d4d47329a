/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What somebody could type as a port that is to be published.
 *
 * Oracle: a text is refused, with an error and a remedy, and leaves the result alone; or what
 * portask.h prints of it is the shortest that reads back as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/portask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[256], out[PORTASK_TEXT_MAX], again[PORTASK_TEXT_MAX];
	struct brig_err err = BRIG_ERR_INIT;
	struct portask p, q, untouched;
	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	memset(&p, 0xa5, sizeof(p));
	untouched = p;
	if (portask_parse(text, &p, &err) < 0) {
		must(err.msg[0] && err.remedy[0] && memcmp(&p, &untouched, sizeof(p)) == 0);
		return 0;
	}
	must(p.port > 0 && (p.at.ss_family == AF_INET || p.at.ss_family == AF_INET6));
	portask_text(&p, out);
	must(portask_parse(out, &q, &err) == 0 && q.port == p.port && q.at_len == p.at_len &&
	     memcmp(&q.at, &p.at, p.at_len) == 0);
	portask_text(&q, again);
	must(strcmp(out, again) == 0);
	return 0;
}
