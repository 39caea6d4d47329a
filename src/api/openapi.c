/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.c: GET /openapi.json, the description of all routes that tools/gen_openapi writes. */
#include "openapi.h"
#include "api/call.h"

static void openapi_get(struct call *c)
{
	/* Pages of others may read it: it says nothing about this server but its version. */
	http_answer_header(c->r, "Access-Control-Allow-Origin", "*");
	http_reply(c->r, 200, "application/json", openapi_text, openapi_size);
}

const struct route openapi_routes[] = {
	{ "GET", "/openapi.json", 0, PERM_OPEN, openapi_get },
	{ .method = NULL },
};
