/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: what a program inside may learn from a client's request. The headers that
 * name a sandbox or authorise towards us stay outside: a sandbox must not collect keys and tokens.
 * Headers of one hop (RFC 9110, 7.6.1) are ours to make.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/proxy.h"

static bool one_hop(const char *name, const char *connection)
{
	static const char *const hops[] = { "Connection", "Keep-Alive",	   "Proxy-Connection",
					    "TE",	  "Trailer",	   "Transfer-Encoding",
					    "Upgrade",	  "Content-Length" };
	for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
		if (strcasecmp(name, hops[i]) == 0)
			return true;
	return connection && header_list_has(connection, name);
}

bool proxy_request_header(const char *name, const char *value, const char *connection)
{
	static const char *const ours[] = { "X-API-Key",
					    "X-Access-Token",
					    "Host",
					    "Expect",
					    "X-Forwarded-For",
					    "X-Forwarded-Host",
					    "X-Forwarded-Proto",
					    "X-Forwarded-Port",
					    "Forwarded",
					    "X-Real-IP" };
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strcasecmp(name, ours[i]) == 0)
			return false;
	if (strncasecmp(name, "E2b-", 4) == 0 || strncasecmp(name, "Proxy-", 6) == 0)
		return false;
	/* A key of ours in the place of another's. */
	if (strcasecmp(name, "Authorization") == 0 && strncasecmp(value, "Bearer e2b_", 11) == 0)
		return false;
	return !one_hop(name, connection);
}

bool proxy_answer_header(const char *name, const char *connection)
{
	return strcasecmp(name, "Date") != 0 && strcasecmp(name, "X-Request-Id") != 0 &&
	       !one_hop(name, connection);
}

struct head {
	struct buf *out;
	const char *connection;
	int r;
};

static void put(struct head *h, const char *text)
{
	if (h->r == 0)
		h->r = buf_add(h->out, text, strlen(text));
}

static void put_header(struct head *h, const char *name, const char *value)
{
	put(h, name);
	put(h, ": ");
	put(h, value);
	put(h, "\r\n");
}

static int pass_header(void *ctx, const char *name, const char *value)
{
	struct head *h = ctx;
	if (proxy_request_header(name, value, h->connection))
		put_header(h, name, value);
	return h->r != 0;
}

/* The Host that the inside sees: the client's, or maskRequestHost with its ${PORT}. */
static void put_host(struct head *h, const struct tunnel *t)
{
	const char *host = http_header(t->r, "Host");
	const char *mask = json_string_value(json_object_get(t->b->network, "maskRequestHost"));
	const char *var = mask ? strstr(mask, "${PORT}") : NULL;
	char port[16], masked[512];
	snprintf(port, sizeof(port), "%u", t->port);
	if (mask && mask[0] && mask[strcspn(mask, " \r\n\t")] == '\0') {
		snprintf(masked, sizeof(masked), "%.*s%s%s",
			 (int)(var ? var - mask : (long)strlen(mask)), mask, var ? port : "",
			 var ? var + strlen("${PORT}") : "");
		host = masked;
	} else if (!host) {
		snprintf(masked, sizeof(masked), "localhost:%u", t->port);
		host = masked;
	}
	put_header(h, "Host", host);
}

int proxy_head(struct tunnel *t, const char *client_scheme)
{
	struct http_req *r = t->r;
	const char *connection = http_header(r, "Connection");
	const char *upgrade = http_header(r, "Upgrade");
	const char *length = http_header(r, "Content-Length");
	const char *host = http_header(r, "Host");
	struct head h = { .out = &t->tx, .connection = connection };
	t->wants_upgrade = upgrade && connection && header_list_has(connection, "upgrade");
	t->chunked = http_header(r, "Transfer-Encoding") != NULL;
	put(&h, http_method(r));
	put(&h, " ");
	put(&h, http_target(r));
	put(&h, " HTTP/1.1\r\n");
	put_host(&h, t);
	http_headers(r, pass_header, &h);
	put_header(&h, "X-Forwarded-For", http_peer(r));
	put_header(&h, "X-Forwarded-Proto", client_scheme);
	if (host)
		put_header(&h, "X-Forwarded-Host", host);
	if (t->chunked)
		put_header(&h, "Transfer-Encoding", "chunked");
	else if (length)
		put_header(&h, "Content-Length", length);
	if (t->wants_upgrade)
		put_header(&h, "Upgrade", upgrade);
	/* One request a connection: nothing of one client's can be taken for another's. */
	put_header(&h, "Connection", t->wants_upgrade ? "Upgrade" : "close");
	put(&h, "\r\n");
	return h.r == 0 && buf_len(&t->tx) <= PROXY_HEAD_MAX ? 0 : -1;
}
