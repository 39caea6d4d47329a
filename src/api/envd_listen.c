/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Any number of streams listen to one process. A piece of its output is encoded once and queued for
 * each of them. A listener that does not read is slow from HTTP_QUEUE_HIGH on. While one listener,
 * or nobody, takes the output, the process runs on, and the slow ones lag behind until their queues
 * are full (HTTP_QUEUE_MAX) and their connections are ended; when all are slow, no credit is
 * granted and the process waits in its write, as it would for a slow terminal.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "api/envd_process.h"

/* Output bytes of one message, E2B's sizes. */
#define PIECE 32768u
#define PIECE_TTY 16384u
#define ENCODED_MAX (PIECE / 3 * 4 + 8)

static void slow_set(struct listener *l, bool slow)
{
	if (l->slow == slow)
		return;
	l->slow = slow;
	if (slow)
		l->p->nslow++;
	else
		l->p->nslow--;
}

void listener_drop(struct listener *l)
{
	struct proc *p = l->p;
	if (!p)
		return;
	slow_set(l, false);
	LIST_REMOVE(l, link);
	l->p = NULL;
	p->nlisteners--;
	proc_grant(p);
}

static void call_gone(struct envd_call *c)
{
	struct listener *l = c->priv;
	listener_drop(l);
	free(l);
	c->priv = NULL;
}

static void call_killed(struct envd_call *c)
{
	listener_drop(c->priv);
}

static void call_drained(struct envd_call *c)
{
	struct listener *l = c->priv;
	if (!l->p)
		return;
	slow_set(l, false);
	proc_grant(l->p);
}

/* Of a stream that has ended, also for its deadline: nothing is said any more. */
static void call_ping(struct envd_call *c)
{
	const struct listener *l = c->priv;
	if (l->p)
		connect_stream_send(c->r, json_pack("{s:{s:{}}}", "event", "keepalive"));
}

bool listener_add(struct envd_call *c, struct proc *p)
{
	struct listener *l = calloc(1, sizeof(*l));
	if (!l)
		return false;
	l->c = c;
	l->p = p;
	c->priv = l;
	c->gone = call_gone;
	c->killed = call_killed;
	c->drained = call_drained;
	c->expired = call_killed;
	LIST_INSERT_HEAD(&p->listeners, l, link);
	p->nlisteners++;
	return true;
}

void listener_start(struct listener *l)
{
	struct envd_call *c = l->c;
	connect_stream_begin(c->r);
	connect_stream_send(
		c->r, json_pack("{s:{s:{s:I}}}", "event", "start", "pid", (json_int_t)l->p->pid));
	c->ping = call_ping;
	envd_alive(c);
}

/* {"event":{"data":{"<key>":"<base64>"}}} in its frame. Returns its length. */
static size_t data_frame(uint8_t *ret, const char *key, const uint8_t *p, size_t n)
{
	char *at = (char *)ret + CONNECT_HEAD;
	at = stpcpy(stpcpy(stpcpy(at, "{\"event\":{\"data\":{\""), key), "\":\"");
	at += EVP_EncodeBlock((uint8_t *)at, p, (int)n);
	at = stpcpy(at, "\"}}}");
	size_t len = (size_t)((uint8_t *)at - ret);
	connect_frame_head(ret, 0, len - CONNECT_HEAD);
	return len;
}

void listeners_output(struct proc *p, int out, const uint8_t *p8, size_t n)
{
	static uint8_t frame[ENCODED_MAX + 128];
	const char *key = p->tty ? "pty" : out ? "stderr" : "stdout";
	size_t piece = p->tty ? PIECE_TTY : PIECE;
	while (n && p->nlisteners) {
		size_t k = n < piece ? n : piece;
		size_t len = data_frame(frame, key, p8, k);
		struct listener *l;
		for (l = LIST_FIRST(&p->listeners); l; l = LIST_NEXT(l, link)) {
			connect_stream_raw(l->c->r, frame, len);
			slow_set(l, http_stream_queued(l->c->r) > HTTP_QUEUE_HIGH);
		}
		p8 += k;
		n -= k;
	}
	struct listener *l;
	for (l = LIST_FIRST(&p->listeners); l; l = LIST_NEXT(l, link))
		envd_alive(l->c);
}

void listener_tell_end(struct listener *l)
{
	const struct proc *p = l->p;
	struct envd_call *c = l->c;
	json_t *end = json_pack("{s:i,s:b,s:s}", "exitCode", p->exit.code, "exited", p->exit.exited,
				"status", p->exit.status);
	if (end && p->exit.error[0])
		json_object_set_new(end, "error", json_string(p->exit.error));
	listener_drop(l);
	connect_stream_send(c->r, json_pack("{s:{s:o}}", "event", "end", end));
	envd_end(c);
}

void listeners_end(struct proc *p)
{
	while (!LIST_EMPTY(&p->listeners))
		listener_tell_end(LIST_FIRST(&p->listeners));
}

void listeners_fail(struct proc *p, enum connect_code code, const char *text)
{
	struct listener *l;
	while ((l = LIST_FIRST(&p->listeners))) {
		listener_drop(l);
		envd_fail(l->c, code, "%s", text);
	}
}

void listeners_abort(struct proc *p)
{
	struct listener *l;
	while ((l = LIST_FIRST(&p->listeners))) {
		listener_drop(l);
		http_abort(l->c->r);
	}
}
