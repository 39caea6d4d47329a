/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The brigd of a resident server may end while its sandboxes go on (docs/architecture.md). The socket stays
 * the supervisor's, so another connection waits there until a new brigd has taken over, which is asked to
 * read on from the bytes that we have. What we had sent may not have arrived: without input, or with a
 * terminal, whose user sees what happened, nothing is at stake. Else we end, and say how to attach.
 *
 * A private server is gone with its brigd, and one on another machine has brig-api in between, which
 * takes no such request.
 */
#include <errno.h>
#include <stdio.h>

#include "base/fd.h"
#include "cli/stream_state.h"

static const char *reply_text(const struct stream *s, const char *key)
{
	return json_string_value(json_object_get(s->res->rep, key));
}

static bool possible(const struct stream *s)
{
	return s->o->again && s->phase == RUNNING && !s->closing && s->c->server.brigd == 0 &&
	       !s->c->server.remote && reply_text(s, "id");
}

static int attach(struct stream *s)
{
	/* Without a socket there is no supervisor, and nothing that another brigd could take over. */
	int fd = server_connect(s->err);
	if (fd < 0)
		return s->err->code == BRIG_E_NOT_FOUND ? conn_lost(s->c, s->err) : -1;
	s->c->fd = fd;
	json_t *req = json_pack("{s:s,s:s,s:s*,s:I,s:I}", "op", "attach", "id", reply_text(s, "id"), "exec",
				reply_text(s, "exec"), "stdout_offset", (json_int_t)s->offset[0],
				"stderr_offset", (json_int_t)s->offset[1]);
	int r = req ? conn_request(s->c, req, NULL, 0, s->err)
		    : brig_fail(s->err, BRIG_E_EXHAUSTED, ENOMEM, "attach again");
	json_decref(req);
	return r;
}

int stream_lost(struct stream *s)
{
	if (!possible(s))
		return conn_lost(s->c, s->err);
	/* Of the frame under way only a part has come. */
	s->offset[s->bulk_out] -= s->bulk_left;
	s->bulk_left = 0;
	s->bulk = false;
	s->head = s->tail = 0;
	if (s->stdin_sent && !s->o->tty && !reply_text(s, "exec"))
		return conn_lost(s->c, s->err);
	if (s->stdin_sent && !s->o->tty) {
		brig_err_set(s->err, BRIG_E_UNAVAILABLE, 0,
			     "the server's brigd ended, and input may be lost; the command goes on");
		char from[2][48] = { "", "" };
		for (int i = 0; i < 2; i++)
			if (s->offset[i])
				snprintf(from[i], sizeof(from[i]), " --std%s-offset %llu", i ? "err" : "out",
					 (unsigned long long)s->offset[i]);
		return brig_fix(s->err, "read on with `brig attach %s %s%s%s`", reply_text(s, "id"),
				reply_text(s, "exec"), from[0], from[1]);
	}
	fd_close(&s->c->fd);
	buf_consume(&s->c->tx, buf_len(&s->c->tx));
	buf_consume(&s->c->rx, buf_len(&s->c->rx));
	s->c->eof = false;
	s->phase = WAIT_REPLY;
	s->attached = true;
	s->stdin_credit = 0;
	for (int i = 0; i < 2; i++) {
		s->may_send[i] = BRIG_CLIENT_CREDIT;
		s->out[i].written = 0;
	}
	return attach(s);
}
