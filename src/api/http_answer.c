/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * An answer is composed here at once and kept in r->response until the library may have it: that is
 * when the body of the request is complete (http.c, request_final). A stream's bytes are queued in
 * r->queue, from where the library fetches them (stream_read) as fast as the client takes them;
 * when the queue is empty the request is suspended, and the next write wakes it. What is queued
 * when the library comes leaves as one chunk, as far as its buffer reaches, so a single write to an
 * idle stream is one chunk in one segment.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/api.h"
#include "api/http_conn.h"
#include "base/fd.h"

/* What the library keeps per stream of a known size; those in chunks use its connection's buffer,
 * and are the ones that stay open in great number. */
#define BLOCK (64u * 1024u)
#define BLOCK_CHUNKED 1024u

static bool text_plain(const char *s, bool name)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f || (name && (*s == ' ' || *s == ':')))
			return *s == '\t' && !name;
	return true;
}

void http_answer_header(struct http_req *r, const char *name, const char *value)
{
	if (r->answered || r->nheaders == HTTP_ANSWER_HEADERS_MAX || !name[0] ||
	    !text_plain(name, true) || !text_plain(value, false))
		return;
	/* How an answer is framed is not the handler's to say. */
	if (strcasecmp(name, "Transfer-Encoding") == 0 || strcasecmp(name, "Content-Length") == 0 ||
	    (strcasecmp(name, "Connection") == 0 && strcasecmp(value, "close") != 0))
		return;
	struct http_answer_header h = { .name = strdup(name), .value = strdup(value) };
	if (!h.name || !h.value) {
		free(h.name);
		free(h.value);
		return;
	}
	r->headers[r->nheaders++] = h;
}

/* Takes over response (NULL: out of memory) as the answer. */
static void answer(struct http_req *r, unsigned status, const char *type,
		   struct MHD_Response *response)
{
	if (r->observer)
		r->observer->answered(r->observer_ctx, r, status);
	r->answered = true;
	r->status = status;
	r->response = response;
	if (!response) {
		http_req_break(r);
		return;
	}
	if (type)
		MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "X-Request-Id", r->id);
	for (unsigned i = 0; i < r->nheaders; i++)
		MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
	http_req_wake(r);
}

void http_reply(struct http_req *r, unsigned status, const char *type, const void *body, size_t n)
{
	if (r->answered || r->broken)
		return;
	r->ended = true;
	r->sent = r->is_head ? 0 : n;
	answer(r, status, type,
	       MHD_create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY));
}

void http_reply_json(struct http_req *r, unsigned status, json_t *body)
{
	AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	json_decref(body);
	if (text) {
		http_reply(r, status, "application/json", text, strlen(text));
		return;
	}
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_INTERNAL, 0, "the answer cannot be written as JSON");
	api_fail(r, &err);
}

static void wipe_and_free(void *text)
{
	explicit_bzero(text, strlen(text));
	free(text);
}

void http_reply_secret(struct http_req *r, unsigned status, const json_t *body)
{
	char *text = json_dumps(body, JSON_COMPACT);
	size_t n = text ? strlen(text) : 0;
	struct MHD_Response *response = NULL;
	if (r->answered || r->broken) {
		if (text)
			wipe_and_free(text);
		return;
	}
	r->ended = true;
	r->sent = n;
	if (text)
		response = MHD_create_response_from_buffer_with_free_callback(n, text, wipe_and_free);
	if (text && !response)
		wipe_and_free(text);
	answer(r, status, "application/json", response);
}

void http_reply_empty(struct http_req *r, unsigned status)
{
	http_reply(r, status, NULL, "", 0);
}

bool http_answered(const struct http_req *r)
{
	return r->answered || r->broken;
}

unsigned http_status(const struct http_req *r)
{
	return r->answered ? r->status : 0;
}

/* ---- streams ---- */

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct http_req *r = cls;
	size_t n = buf_len(&r->queue);
	(void)pos;
	r->h->calls++;
	if (r->broken || r->h->closing)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n == 0 && r->ended)
		return r->left > 0 ? MHD_CONTENT_READER_END_WITH_ERROR
				   : MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0) {
		http_req_suspend(r);
		return 0;
	}
	n = n < max ? n : max;
	memcpy(buf, buf_head(&r->queue), n);
	buf_consume(&r->queue, n);
	r->sent += n;
	if (r->left > 0)
		r->left -= (int64_t)n;
	if (r->above && buf_len(&r->queue) < HTTP_QUEUE_LOW) {
		r->above = false;
		if (!r->ended && r->handler && r->handler->drained)
			r->handler->drained(r);
		if (r->broken)
			return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	return (ssize_t)n;
}

void http_stream_begin(struct http_req *r, unsigned status, const char *type, int64_t size)
{
	if (r->answered || r->broken)
		return;
	r->streaming = true;
	r->left = size < 0 ? -1 : size;
	r->mute = r->is_head || status < 200 || status == 204 || status == 304 || size == 0;
	if (r->mute && size <= 0) {
		/* The library would end a HEAD in chunks with an empty chunk. */
		answer(r, status, type,
		       MHD_create_response_from_buffer(0, (void *)(uintptr_t) "",
						       MHD_RESPMEM_PERSISTENT));
		return;
	}
	answer(r, status, type,
	       size < 0 ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_CHUNKED,
							    stream_read, r, NULL)
			: MHD_create_response_from_callback((uint64_t)size, BLOCK, stream_read, r,
							    NULL));
}

void http_stream_write(struct http_req *r, const void *p, size_t n)
{
	if (!r->streaming || r->ended || r->broken || r->mute || n == 0)
		return;
	if (r->left >= 0) {
		size_t room = (size_t)r->left - buf_len(&r->queue);
		n = n < room ? n : room;
	}
	if (buf_add(&r->queue, p, n) < 0) {
		http_req_break(r); /* a client that does not read, or no memory */
		return;
	}
	if (buf_len(&r->queue) > HTTP_QUEUE_HIGH)
		r->above = true;
	if (r->phase == HTTP_ANSWER)
		http_req_wake(r);
}

size_t http_stream_queued(const struct http_req *r)
{
	return buf_len(&r->queue);
}

void http_stream_end(struct http_req *r)
{
	if (!r->streaming || r->ended)
		return;
	r->ended = true;
	http_req_wake(r);
}

void http_abort(struct http_req *r)
{
	/* What the kernel still holds for the client is dropped, too. */
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	if (r->broken || r->phase == HTTP_UPGRADED)
		return;
	setsockopt(r->conn->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	if (r->conn->outer)
		tls_conn_abort(r->conn->outer);
	r->conn->aborted = true;
	r->answered = true;
	r->ended = true;
	http_req_break(r);
}

/* ---- upgrades ---- */

static void on_upgrade(void *cls, struct MHD_Connection *mc, void *req_cls, const char *early,
		       size_t n, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
	struct http_req *r = cls;
	struct http *h = r->h;
	struct http_upgrade *u = calloc(1, sizeof(*u));
	http_upgraded fn = r->upgraded;
	void *ctx = r->upgrade_ctx;
	int on = 1;
	(void)mc;
	(void)req_cls;
	h->calls++;
	/* The library has just switched it off. */
	setsockopt(r->conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (r->conn->outer)
		tls_conn_tunnel(r->conn->outer);
	ev_timer_stop(h->ev, &r->conn->deadline);
	ev_io_set(h->ev, r->conn->watch, 0);
	r->conn->req = NULL;
	r->phase = HTTP_UPGRADED;
	http_req_gone(r);
	if (!u) {
		MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
		http_kick(r->conn->shard);
		fn(ctx, -1, NULL, 0, NULL);
		return;
	}
	u->h = h;
	u->shard = r->conn->shard;
	u->handle = handle;
	LIST_INSERT_HEAD(&h->upgrades, u, all);
	fn(ctx, fd, early, n, u);
}

void http_reply_upgrade(struct http_req *r, http_upgraded fn, void *ctx)
{
	if (r->answered)
		return;
	r->upgraded = fn;
	r->upgrade_ctx = ctx;
	if (r->broken)
		return; /* fn hears of it when the request is over */
	r->ended = true;
	answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, NULL,
	       MHD_create_response_for_upgrade(on_upgrade, r));
}

void http_upgrade_close(struct http_upgrade *u)
{
	if (u && u->h) {
		LIST_REMOVE(u, all);
		MHD_upgrade_action(u->handle, MHD_UPGRADE_ACTION_CLOSE);
		http_kick(u->shard);
	}
	free(u);
}
