/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Input of processes: SendInput, CloseStdin, and StreamInput, whose client sends messages as long
 * as it likes. Bytes wait in the process's queue, up to PROC_INPUT_MAX, and go on as far as the
 * command's credit allows. A call is answered, or its next message read, when its bytes have been
 * passed on: so a client that writes more than its command reads is held back by its own call.
 */
#include <stdlib.h>
#include <string.h>

#include "api/envd_process.h"
#include "api/text.h"

void inputs_fail(struct proc *p, enum connect_code code, const char *text)
{
	struct input_wait *w;
	while ((w = TAILQ_FIRST(&p->waits))) {
		TAILQ_REMOVE(&p->waits, w, link);
		w->p = NULL;
		if (text)
			envd_fail(w->c, code, "%s", text);
	}
}

void inputs_pump(struct proc *p)
{
	struct input_wait *w;
	size_t n;
	while (p->phase == PROC_RUNNING && (n = buf_len(&p->input)) && p->stdin_credit &&
	       link_queued(p->op) < LINK_QUEUE_HIGH) {
		n = n < p->stdin_credit ? n : p->stdin_credit;
		n = n < BRIG_FRAME_MAX ? n : BRIG_FRAME_MAX;
		link_send(p->op, BRIG_STDIN, 0, BRIG_CLIENT_STREAM, buf_head(&p->input), n);
		buf_consume(&p->input, n);
		p->stdin_credit -= (uint32_t)n;
	}
	if (buf_len(&p->input))
		return;
	if (p->stdin_eof && !p->stdin_eof_sent && p->phase == PROC_RUNNING) {
		p->stdin_eof_sent = true;
		link_send(p->op, BRIG_STDIN, BRIG_FF_EOF, BRIG_CLIENT_STREAM, NULL, 0);
	}
	while (buf_len(&p->input) == 0 && (w = TAILQ_FIRST(&p->waits))) {
		TAILQ_REMOVE(&p->waits, w, link);
		w->p = NULL;
		w->taken(w->c);
	}
}

/* Queues what {stdin|pty: base64} holds. CONNECT_OK, or why not. */
static enum connect_code input_queue(struct proc *p, json_t *input, struct brig_err *err)
{
	const char *text = NULL;
	uint8_t *bytes;
	size_t n;
	bool pty = connect_field(input, "pty");
	if (connect_str(input, pty ? "pty" : "stdin", &text, err) < 0)
		return CONNECT_INVALID;
	if (pty != p->tty) {
		brig_err_set(err, BRIG_E_INTERNAL, 0,
			     pty ? "tty not assigned to process" : "tty assigned to process");
		return CONNECT_INTERNAL;
	}
	if (!p->stdin_open || p->stdin_eof) {
		brig_err_set(err, BRIG_E_INTERNAL, 0, "stdin not enabled or closed");
		return CONNECT_INTERNAL;
	}
	text = text ? text : "";
	if (text_base64_decode(text, strlen(text), &bytes, &n) < 0) {
		brig_err_set(err, BRIG_E_INVALID, 0, "the input is not base64");
		return CONNECT_INVALID;
	}
	int r = n ? buf_add(&p->input, bytes, n) : 0;
	free(bytes);
	if (r == 0)
		return CONNECT_OK;
	brig_err_set(err, BRIG_E_EXHAUSTED, -r, "the process has not read %zu bytes of its input",
		     buf_len(&p->input));
	return CONNECT_EXHAUSTED;
}

/* ---- one message, one answer ---- */

static void wait_leave(struct input_wait *w)
{
	if (w->p)
		TAILQ_REMOVE(&w->p->waits, w, link);
	w->p = NULL;
}

static void wait_gone(struct envd_call *c)
{
	wait_leave(c->priv);
	free(c->priv);
	c->priv = NULL;
}

static void wait_killed(struct envd_call *c)
{
	wait_leave(c->priv);
}

static void wait_enter(struct input_wait *w, struct proc *p)
{
	w->p = p;
	TAILQ_INSERT_TAIL(&p->waits, w, link);
	inputs_pump(p);
}

static void unary_taken(struct envd_call *c)
{
	connect_reply(c->r, json_object());
}

/* Answers the call when all input so far has been passed on. */
static void unary_answer(struct envd_call *c, struct proc *p)
{
	struct input_wait *w = calloc(1, sizeof(*w));
	if (!w) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return;
	}
	w->c = c;
	w->taken = unary_taken;
	c->priv = w;
	c->gone = wait_gone;
	c->killed = wait_killed;
	wait_enter(w, p);
}

static void run_send_input(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *input = NULL;
	struct proc *p = proc_running(c);
	if (!p)
		return;
	enum connect_code code = CONNECT_INVALID;
	if (connect_object(c->msg, "input", &input, &err) == 0)
		code = input_queue(p, input, &err);
	if (code == CONNECT_OK)
		unary_answer(c, p);
	else
		envd_fail(c, code, "%s", err.msg);
}

static void run_close_stdin(struct envd_call *c)
{
	struct proc *p = proc_running(c);
	if (!p)
		return;
	if (p->tty) {
		envd_fail(c, CONNECT_INTERNAL, "cannot close stdin of a process with a tty");
		return;
	}
	if (p->stdin_open)
		p->stdin_eof = true;
	unary_answer(c, p);
}

/* ---- StreamInput ---- */

struct push {
	struct input_wait wait; /* first: c->priv is one */
	struct buf in;
	uint32_t pid; /* of the process that the first message named; 0 = none yet */
	bool eof, over, stepping;
};

static void push_fail(struct envd_call *c, enum connect_code code, const char *text)
{
	struct push *s = c->priv;
	s->over = true;
	http_body_hold(c->r, false);
	envd_fail(c, code, "%s", text);
}

/* The process of the stream, as long as it runs. NULL: the call has failed. */
static struct proc *push_process(struct envd_call *c)
{
	struct push *s = c->priv;
	struct proc *p = proc_by_pid(c->b, s->pid);
	if (p && p->phase == PROC_RUNNING)
		return p;
	push_fail(c, CONNECT_NOT_FOUND,
		  s->pid ? "the process has ended" : "the first message names no process");
	return NULL;
}

/* One message: start, data or keepalive. -1: the call has failed, or it waits. */
static int push_message(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct push *s = c->priv;
	json_t *start = NULL, *data = NULL, *input = NULL;
	enum connect_code code = CONNECT_INVALID;
	struct proc *p;
	if (connect_object(c->msg, "start", &start, &err) < 0 ||
	    connect_object(c->msg, "data", &data, &err) < 0 ||
	    connect_object(data, "input", &input, &err) < 0) {
		push_fail(c, code, err.msg);
		return -1;
	}
	if (start) {
		json_t *all = c->msg;
		c->msg = start;
		p = proc_running(c);
		c->msg = all;
		s->over = !p;
		s->pid = p ? p->pid : 0;
		return p ? 0 : -1;
	}
	if (!data)
		return 0;
	p = push_process(c);
	if (!p)
		return -1;
	code = input_queue(p, input, &err);
	if (code != CONNECT_OK) {
		push_fail(c, code, err.msg);
		return -1;
	}
	http_body_hold(c->r, true);
	wait_enter(&s->wait, p);
	return s->wait.p || s->over ? -1 : 0;
}

/* What has come so far, unless the process has to take something first. */
static void push_step(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct push *s = c->priv;
	struct connect_frame f;
	int r = 0;
	s->stepping = true;
	while (!s->over && !s->wait.p && (r = connect_frame_peek(&s->in, &f, &err)) > 0) {
		json_decref(c->msg);
		c->msg = NULL;
		r = connect_parse(f.p, f.n, &c->msg, &err);
		if (r < 0)
			break;
		buf_consume(&s->in, connect_frame_size(&f));
		if (push_message(c) < 0)
			break;
	}
	s->stepping = false;
	if (s->over || s->wait.p)
		return;
	if (r < 0) {
		push_fail(c, CONNECT_INVALID, err.msg);
	} else if (s->eof && buf_len(&s->in)) {
		push_fail(c, CONNECT_INVALID, "the last message is incomplete");
	} else if (s->eof) {
		s->over = true;
		connect_stream_begin(c->r);
		connect_stream_send(c->r, json_object());
		envd_end(c);
	}
}

static void push_taken(struct envd_call *c)
{
	struct push *s = c->priv;
	http_body_hold(c->r, false);
	/* From within push_message() the loop goes on by itself. */
	if (!s->stepping)
		push_step(c);
}

static void push_gone(struct envd_call *c)
{
	struct push *s = c->priv;
	wait_leave(&s->wait);
	buf_done(&s->in);
	free(s);
	c->priv = NULL;
}

static void run_stream_input(struct envd_call *c)
{
	struct push *s = calloc(1, sizeof(*s));
	if (!s) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return;
	}
	s->wait.c = c;
	s->wait.taken = push_taken;
	s->in = (struct buf)BUF_INIT(2 * (size_t)CONNECT_MESSAGE_MAX);
	c->priv = s;
	c->gone = push_gone;
	c->killed = wait_killed;
	http_body_hold(c->r, false);
}

static void push_body(struct envd_call *c, const void *p, size_t n)
{
	struct push *s = c->priv;
	if (!s || s->over)
		return;
	if (buf_add(&s->in, p, n) < 0)
		push_fail(c, CONNECT_EXHAUSTED, "out of memory");
	else
		push_step(c);
}

static void push_ready(struct envd_call *c)
{
	struct push *s = c->priv;
	if (!s || s->over)
		return;
	s->eof = true;
	push_step(c);
}

const struct envd_method envd_input_methods[] = {
	{ "/process.Process/SendInput", false, run_send_input, NULL, NULL },
	{ "/process.Process/CloseStdin", false, run_close_stdin, NULL, NULL },
	{ "/process.Process/StreamInput", true, run_stream_input, push_body, push_ready },
	{ NULL, false, NULL, NULL, NULL },
};
