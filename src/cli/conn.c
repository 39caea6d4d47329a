/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in `brig`, one connection for each operation. Simple operations wait here for their reply;
 * operations that stream use stream.c, which drives the same struct from its own loop.
 *
 * A request is queued and sent as far as the socket takes it without waiting: with a private server
 * it lies in the socket before the server runs its first instruction. What does not fit (a request
 * is up to 256 KiB) follows when there is room; the descriptors ride on the first byte in any case.
 */
#include "cli/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/remote.h"
#include "cli/secretuse.h"

int conn_open(struct conn *c, enum conn_mode mode, struct brig_err *err)
{
	bool private = mode == CONN_PRIVATE || mode == CONN_PRIVATE_NET;
	int fd = remote_wanted() ? remote_connect(&c->server, err) : server_connect(err);
	if (fd < 0 && err->code == BRIG_E_NOT_FOUND && mode != CONN_EXISTING)
		fd = private ? server_start_private(&c->server, mode == CONN_PRIVATE_NET, c->tier, err)
			     : server_connect_background(err);
	if (fd < 0)
		return -1;
	c->fd = fd;
	return 0;
}

void conn_done(struct conn *c)
{
	fd_close(&c->fd);
	buf_done(&c->rx);
	buf_done(&c->tx);
	server_done(&c->server);
}

int conn_lost(struct conn *c, struct brig_err *err)
{
	bool own = c->server.brigd != 0;
	struct server_words words;
	fd_close(&c->fd);
	if (c->server.remote)
		return remote_lost(&c->server, err);
	server_post_mortem(&c->server);
	bool said = server_last_words(&c->server, &words);
	brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "the %sserver ended without an answer%s%s",
		     own ? "private " : "", said ? ": " : "", words.line);
	if (words.remedy[0])
		return brig_fix(err, "%s", words.remedy);
	return brig_fix(
		err, own ? "run `brig doctor`"
			 : "see `brig ls` for what is left, and the server's log for the reason");
}

int conn_flush(struct conn *c, struct brig_err *err)
{
	while (buf_len(&c->tx)) {
		ssize_t n =
			send(c->fd, buf_head(&c->tx), buf_len(&c->tx), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			/* Its last words may lie in the socket: let the reader find the end. */
			buf_consume(&c->tx, buf_len(&c->tx));
			return 0;
		}
		if (n < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "send to the server");
		buf_consume(&c->tx, (size_t)n);
	}
	return 0;
}

int conn_send(struct conn *c, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
	      size_t n, struct brig_err *err)
{
	int r = frame_add(&c->tx, type, flags, stream, p, n, NULL, 0);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "send to the server");
	return conn_flush(c, err);
}

/* The first byte of the queue, with the descriptors. */
static int send_fds(struct conn *c, const int *fds, unsigned nfds, struct brig_err *err)
{
	int r = fd_send(c->fd, buf_head(&c->tx), 1, fds, nfds);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "send to the server");
	buf_consume(&c->tx, 1);
	return 0;
}

int conn_request(struct conn *c, const json_t *req, const int *fds, unsigned nfds,
		 struct brig_err *err)
{
	AUTO_FREE char *text = json_dumps(req, JSON_COMPACT);
	if (!text) {
		brig_err_set(err, BRIG_E_INVALID, 0, "the request cannot be written as JSON");
		return brig_fix(err, "arguments and variables must be valid UTF-8");
	}
	int r = frame_add(&c->tx, BRIG_CL_REQ, 0, 0, text, strlen(text), NULL, 0);
	/* It may have a secret (secretuse.h), and is not needed here any more. */
	explicit_bzero(text, strlen(text));
	secretuse_wipe(req);
	if (r == -EMSGSIZE) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "command, environment and labels are larger than %u KiB in all",
			     BRIG_FRAME_MAX / 1024);
		return brig_fix(err, "pass large data by standard input or a --volume");
	}
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "prepare the request");
	if (nfds && send_fds(c, fds, nfds, err) < 0)
		return -1;
	if (conn_flush(c, err) < 0)
		return -1;
	if (!buf_len(&c->tx) && c->tx.mem)
		explicit_bzero(c->tx.mem, c->tx.cap);
	return 0;
}

static int conn_read(struct conn *c, struct brig_err *err)
{
	uint8_t *at;
	size_t room = c->rx.max - buf_len(&c->rx);
	if (room > 65536)
		room = 65536;
	int r = buf_reserve(&c->rx, room, &at);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "read the server's answer");
	for (;;) {
		ssize_t n = recv(c->fd, at, room, MSG_DONTWAIT);
		if (n > 0) {
			buf_commit(&c->rx, (size_t)n);
			return 0;
		}
		if (n == 0 || errno == ECONNRESET || errno == EPIPE) {
			c->eof = true;
			return 0;
		}
		if (errno == EAGAIN)
			return 0;
		if (errno != EINTR)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno,
					 "read the server's answer");
	}
}

/* 1: a frame; 0: there is room to send, if that was asked for; -1. */
static int wait_frame(struct conn *c, bool room, struct frame *ret, struct brig_err *err)
{
	for (;;) {
		int r = frame_peek(&c->rx, ret);
		if (r == 1)
			return 1;
		if (r < 0)
			return brig_fail(err, BRIG_E_PROTOCOL, 0,
					 "the server sent a malformed frame");
		if (c->eof)
			return conn_lost(c, err);
		bool sending = buf_len(&c->tx) != 0;
		if (room && !sending)
			return 0;
		struct pollfd p = { .fd = c->fd,
				    .events = (short)(POLLIN | (sending ? POLLOUT : 0)) };
		if (poll(&p, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the server");
		}
		if ((p.revents & POLLOUT) && conn_flush(c, err) < 0)
			return -1;
		if ((p.revents & ~POLLOUT) && conn_read(c, err) < 0)
			return -1;
	}
}

int conn_next(struct conn *c, struct frame *ret, struct brig_err *err)
{
	return wait_frame(c, false, ret, err) < 0 ? -1 : 0;
}

int conn_frame_or_room(struct conn *c, struct frame *ret, struct brig_err *err)
{
	return wait_frame(c, true, ret, err);
}

void conn_consume(struct conn *c, const struct frame *f)
{
	buf_consume(&c->rx, frame_size(f));
}

static int object_of(const void *p, size_t n, json_t **ret, struct brig_err *err)
{
	json_error_t je;
	json_t *v = json_loadb(p, n, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(v)) {
		json_decref(v);
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the server's answer is no JSON object");
	}
	*ret = v;
	return 0;
}

int conn_json(const struct frame *f, json_t **ret, struct brig_err *err)
{
	return object_of(f->payload, f->h.len, ret, err);
}

/* Steals rep. */
static int reply_parts(json_t *rep, json_t **ret_ok, json_t **ret_error, struct brig_err *err)
{
	json_t *ok = json_object_get(rep, "ok"), *error = json_object_get(rep, "error");
	int r = 0;
	if (json_is_object(ok)) {
		*ret_ok = json_incref(ok);
	} else if (json_is_object(error)) {
		err_from_json(error, err);
		if (ret_error)
			*ret_error = json_incref(error);
		r = -1;
	} else {
		r = brig_fail(err, BRIG_E_PROTOCOL, 0,
			      "the server's answer is neither ok nor error");
	}
	json_decref(rep);
	return r;
}

static int out_of_order(struct brig_err *err)
{
	return brig_fail(err, BRIG_E_PROTOCOL, 0, "the server's answer is out of order");
}

int conn_reply(const struct frame *f, json_t **ret_ok, json_t **ret_error, struct brig_err *err)
{
	json_t *rep;
	if (f->h.type != BRIG_CL_REP)
		return out_of_order(err);
	if (conn_json(f, &rep, err) < 0)
		return -1;
	return reply_parts(rep, ret_ok, ret_error, err);
}

/* The answer of a simple operation: a list of thousands of sandboxes fills several frames, of which
 * only the last is not full. */
static int whole_reply(struct conn *c, struct buf *text, json_t **ret_ok, json_t **ret_error,
		       struct brig_err *err)
{
	struct frame f;
	json_t *rep;
	size_t n;
	do {
		if (conn_next(c, &f, err) < 0)
			return -1;
		if (f.h.type != BRIG_CL_REP)
			return out_of_order(err);
		n = f.h.len;
		int r = buf_add(text, f.payload, n);
		conn_consume(c, &f);
		if (r < 0)
			return brig_fail(err, BRIG_E_PROTOCOL, -r,
					 "the server's answer is larger than %u MiB",
					 CONN_ANSWER_MAX >> 20);
	} while (n == BRIG_FRAME_MAX);
	if (object_of(buf_head(text), buf_len(text), &rep, err) < 0)
		return -1;
	return reply_parts(rep, ret_ok, ret_error, err);
}

static int call_on(struct conn *c, const json_t *req, json_t **ret_ok, json_t **ret_error,
		   struct brig_err *err)
{
	struct buf text = BUF_INIT(CONN_ANSWER_MAX);
	if (conn_open(c, CONN_EXISTING, err) < 0 || conn_request(c, req, NULL, 0, err) < 0)
		return -1;
	int r = whole_reply(c, &text, ret_ok, ret_error, err);
	buf_done(&text);
	return r;
}

int conn_try(json_t *req, json_t **ret_ok, json_t **ret_error, struct brig_err *err)
{
	struct conn c = CONN_NONE;
	int r = req ? call_on(&c, req, ret_ok, ret_error, err)
		    : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	json_decref(req);
	conn_done(&c);
	return r;
}

void conn_absent(const char *id, struct brig_err *err)
{
	if (err->code != BRIG_E_NOT_FOUND)
		return;
	brig_err_set(err, BRIG_E_NOT_FOUND, 0,
		     "no server is running, so there is no sandbox '%.64s'", id);
	brig_err_remedy(err, "see `brig ls`, and BRIG_SOCKET in brig(1)");
}

int conn_call(struct cli *cli, json_t *req, json_t **ret_ok)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *error = NULL;
	const char *id = json_string_value(json_object_get(req, "id"));
	char name[64];
	snprintf(name, sizeof(name), "%s", id ? id : "");
	if (conn_try(req, ret_ok, &error, &err) == 0)
		return 0;
	if (!error && name[0])
		conn_absent(name, &err);
	int code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	json_decref(error);
	return code;
}
