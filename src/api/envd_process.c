/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * process.Process of envd. A command is an operation of brigd (exec, in the foreground) that
 * belongs to its box, not to the stream that started it: a client that disconnects only stops
 * listening, and another may listen later. What nobody listens to is dropped, and its credit
 * returned at once.
 *
 * The deadline that a client gives with Start is the command's: it is killed then. That of any
 * other call is the call's own.
 *
 * The box's wall time and output limits count in brigd for the sandbox; single commands have none
 * here (null in the request), because the clients of E2B bound them by their deadlines.
 */
#include "api/envd_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- life ---- */

static void proc_bury(void *ctx)
{
	struct proc *p = ctx;
	json_decref(p->config);
	buf_done(&p->input);
	free(p);
}

/* Frames may be on the stack that look at it: the memory goes when the round ends. */
static void proc_free(struct proc *p)
{
	struct ev *ev = &p->b->api->ev;
	ev_timer_stop(ev, &p->timer);
	if (p->op)
		link_cancel(p->op);
	p->op = NULL;
	LIST_REMOVE(p, link);
	p->b->nprocs--;
	ev_task_queue(ev, &p->grave);
}

static void proc_timer(void *ctx)
{
	struct proc *p = ctx;
	uint32_t sig = SIGKILL;
	if (p->phase == PROC_EXITED) {
		proc_free(p);
		return;
	}
	p->timed_out = true;
	if (p->phase == PROC_RUNNING)
		link_send(p->op, BRIG_SIGNAL, 0, BRIG_CLIENT_STREAM, &sig, sizeof(sig));
}

void envd_process_box_done(struct box *b)
{
	struct proc *p;
	while ((p = LIST_FIRST(&b->procs))) {
		inputs_fail(p, CONNECT_UNAVAILABLE, NULL);
		listeners_abort(p);
		proc_free(p);
	}
}

struct proc *proc_by_pid(struct box *b, uint32_t pid)
{
	struct proc *p;
	for (p = LIST_FIRST(&b->procs); p; p = LIST_NEXT(p, link)) {
		if (p->phase != PROC_STARTING && p->pid == pid)
			return p;
	}
	return NULL;
}

/* Room for one more: the one that ended first makes it. */
static bool proc_room(struct box *b)
{
	struct proc *p, *oldest = NULL;
	if (b->nprocs < PROCS_MAX)
		return true;
	for (p = LIST_FIRST(&b->procs); p; p = LIST_NEXT(p, link)) {
		if (p->phase == PROC_EXITED &&
		    (!oldest || p->timer.deadline < oldest->timer.deadline))
			oldest = p;
	}
	if (oldest)
		proc_free(oldest);
	return oldest != NULL;
}

/* ---- from brigd ---- */

void proc_grant(struct proc *p)
{
	if (p->phase == PROC_EXITED || !p->op || (p->nlisteners && p->nslow == p->nlisteners))
		return;
	for (int out = 0; out < 2; out++) {
		struct brig_credit m = { .chan = out ? BRIG_CHAN_STDERR : BRIG_CHAN_STDOUT,
					 .bytes = p->owed[out] };
		if (!m.bytes)
			continue;
		p->owed[out] = 0;
		link_send(p->op, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m));
	}
}

static void exec_reply(void *ctx, json_t *ok)
{
	struct proc *p = ctx, *old;
	p->pid = (uint32_t)json_integer_value(json_object_get(ok, "pid"));
	/* A number that is used again is a new process. */
	while ((old = proc_by_pid(p->b, p->pid)) && old->phase == PROC_EXITED)
		proc_free(old);
	p->phase = PROC_RUNNING;
	if (p->timed_out)
		proc_timer(p);
	for (struct listener *l = LIST_FIRST(&p->listeners); l; l = LIST_NEXT(l, link))
		listener_start(l);
}

static void exec_output(struct proc *p, int out, const struct frame *f)
{
	if (f->h.len < sizeof(uint64_t))
		return;
	size_t n = f->h.len - sizeof(uint64_t);
	p->owed[out] += (uint32_t)n;
	listeners_output(p, out, f->payload + sizeof(uint64_t), n);
	proc_grant(p);
}

static void exec_frame(void *ctx, const struct frame *f)
{
	struct proc *p = ctx;
	struct brig_credit m;
	switch (f->h.type) {
	case BRIG_STDOUT:
		exec_output(p, 0, f);
		break;
	case BRIG_STDERR:
		exec_output(p, 1, f);
		break;
	case BRIG_CREDIT:
		if (frame_struct(f, &m, sizeof(m)) && m.chan == BRIG_CHAN_STDIN &&
		    m.bytes <= BRIG_CREDIT_MAX - p->stdin_credit) {
			p->stdin_credit += m.bytes;
			inputs_pump(p);
		}
		break;
	default:
		break;
	}
}

static void exec_room(void *ctx)
{
	inputs_pump(ctx);
}

/* Brigd's error of a command that did not start, in E2B's words. */
static void start_failed(struct proc *p, json_t *error)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *details = json_object_get(error, "details");
	const char *step = json_string_value(json_object_get(details, "step"));
	const char *cause = json_string_value(json_object_get(error, "cause"));
	const char *user = json_string_value(json_object_get(p->config, "user"));
	const char *cwd = json_string_value(json_object_get(p->config, "dir"));
	char text[640];
	enum connect_code code = CONNECT_INVALID;
	api_err_from(error, &err);
	if (step && strcmp(step, "user") == 0) {
		code = CONNECT_UNAUTHENTICATED;
		snprintf(text, sizeof(text), "invalid username: '%s'", user ? user : "");
	} else if (step && strcmp(step, "cwd") == 0) {
		snprintf(text, sizeof(text), "cwd '%.500s' does not exist", cwd ? cwd : "");
	} else if (step && strcmp(step, "exec") == 0) {
		snprintf(text, sizeof(text), "error starting process: %s: %s", err.msg,
			 cause ? cause : "failed");
	} else {
		code = connect_code_of(err.code);
		snprintf(text, sizeof(text), "error starting process: %s", err.msg);
	}
	listeners_fail(p, code, text);
	p->op = NULL;
	proc_free(p);
}

static void exec_ended(void *ctx, json_t *status)
{
	struct proc *p = ctx;
	const char *why = json_string_value(json_object_get(status, "stop_reason"));
	p->op = NULL;
	if (p->phase == PROC_STARTING) {
		start_failed(p, json_object_get(status, "error"));
		return;
	}
	inputs_fail(p, CONNECT_INTERNAL, "the process has ended");
	/* The sandbox broke down under it; what became of the command nobody can tell. */
	if (why && strcmp(why, "host_fault") == 0) {
		listeners_abort(p);
		proc_free(p);
		return;
	}
	envd_exit_of(status, &p->exit);
	p->phase = PROC_EXITED;
	listeners_end(p);
	buf_done(&p->input);
	if (ev_timer_set(&p->b->api->ev, &p->timer, clock_now() + PROC_REMEMBER_MS * MS_NS) < 0)
		proc_free(p);
}

static void exec_failed(void *ctx, json_t *error)
{
	struct proc *p = ctx;
	p->op = NULL;
	if (p->phase == PROC_STARTING) {
		start_failed(p, error);
		return;
	}
	inputs_fail(p, CONNECT_UNAVAILABLE, "the sandbox has ended");
	listeners_abort(p);
	proc_free(p);
}

static const struct link_ops exec_ops = {
	.reply = exec_reply,
	.failed = exec_failed,
	.frame = exec_frame,
	.end = exec_ended,
	.room = exec_room,
};

/* ---- Start ---- */

/* Appends "key=value" of each string of o. */
static int env_add(json_t *env, json_t *o, struct brig_err *err)
{
	const char *key;
	json_t *v;
	json_object_foreach(o, key, v)
	{
		if (!json_is_string(v))
			return brig_fail(err, BRIG_E_INVALID, 0, "env '%.100s' is not a string",
					 key);
		json_array_append_new(env, json_sprintf("%s=%s", key, json_string_value(v)));
	}
	return 0;
}

/* What comes last wins. */
static json_t *env_build(struct box *b, json_t *asked, struct brig_err *err)
{
	json_t *env = json_array();
	json_array_append_new(env, json_string("E2B_SANDBOX=true"));
	json_array_append_new(env, json_sprintf("E2B_SANDBOX_ID=%s", b->id));
	json_array_append_new(env, json_sprintf("E2B_TEMPLATE_ID=%s", b->template_id));
	if (env_add(env, b->envs, err) < 0 || env_add(env, asked, err) < 0) {
		json_decref(env);
		return NULL;
	}
	return env;
}

struct start {
	const char *cmd, *cwd, *tag;
	json_t *args, *envs, *pty;
	bool stdin_open;
	uint32_t rows, cols;
};

static int start_parse(struct envd_call *c, struct start *s, struct brig_err *err)
{
	json_t *config = NULL, *size = NULL, *v;
	size_t i;
	*s = (struct start){ .stdin_open = true };
	if (connect_object(c->msg, "process", &config, err) < 0 ||
	    connect_object(c->msg, "pty", &s->pty, err) < 0 ||
	    connect_str(c->msg, "tag", &s->tag, err) < 0 ||
	    connect_bool(c->msg, "stdin", &s->stdin_open, err) < 0 ||
	    connect_str(config, "cmd", &s->cmd, err) < 0 ||
	    connect_str(config, "cwd", &s->cwd, err) < 0 ||
	    connect_array(config, "args", &s->args, err) < 0 ||
	    connect_object(config, "envs", &s->envs, err) < 0 ||
	    connect_object(s->pty, "size", &size, err) < 0 ||
	    connect_u32(size, "cols", &s->cols, err) < 0 ||
	    connect_u32(size, "rows", &s->rows, err) < 0)
		return -1;
	json_array_foreach(s->args, i, v)
	{
		if (!json_is_string(v))
			return brig_fail(err, BRIG_E_INVALID, 0, "'args' must hold strings");
	}
	if (!s->cmd || !s->cmd[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "'process' names no 'cmd'");
	if (s->tag && strlen(s->tag) >= sizeof(((struct proc *)0)->tag))
		return brig_fail(err, BRIG_E_INVALID, 0, "'tag' is too long");
	if (s->rows > UINT16_MAX || s->cols > UINT16_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the size of the terminal is out of range");
	return 0;
}

/* What List tells of it, and, for its errors, as whom and where it was to run. */
static json_t *config_build(const struct start *s, const char *user, const char *dir)
{
	json_t *o =
		json_pack("{s:s,s:o,s:o,s:s,s:s}", "cmd", s->cmd, "args",
			  s->args ? json_incref(s->args) : json_array(), "envs",
			  s->envs ? json_incref(s->envs) : json_object(), "user", user, "dir", dir);
	if (o && s->cwd)
		json_object_set_new(o, "cwd", json_string(s->cwd));
	return o;
}

static int proc_start(struct envd_call *c, const struct start *s, const char *dir,
		      struct brig_err *err)
{
	struct box *b = c->b;
	json_t *env = env_build(b, s->envs, err);
	if (!env)
		return -1;
	if (!proc_room(b)) {
		json_decref(env);
		return brig_fail(err, BRIG_E_BUSY, 0, "%u processes are known in this sandbox",
				 PROCS_MAX);
	}
	struct proc *p = calloc(1, sizeof(*p));
	json_t *argv = json_pack("[s]", s->cmd);
	if (!p || !argv || (s->args && json_array_extend(argv, s->args) < 0) ||
	    !(p->config = config_build(s, c->user, dir))) {
		json_decref(env);
		json_decref(argv);
		free(p);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	p->b = b;
	p->tty = s->pty;
	p->stdin_open = s->pty || s->stdin_open;
	p->input = (struct buf)BUF_INIT(PROC_INPUT_MAX);
	p->timer = (struct ev_timer){ .fn = proc_timer, .ctx = p };
	p->grave = (struct ev_task){ .fn = proc_bury, .ctx = p };
	snprintf(p->tag, sizeof(p->tag), "%s", s->tag ? s->tag : "");
	TAILQ_INIT(&p->waits);
	json_t *req =
		json_pack("{s:s,s:s,s:o,s:o,s:s,s:s,s:b,s:b,s:i,s:i,s:n,s:n}", "op", "exec", "id",
			  b->id, "cmd", argv, "env", env, "workdir", dir, "user", c->user, "tty",
			  p->tty, "stdin", p->stdin_open && !p->tty, "rows", (int)s->rows, "cols",
			  (int)s->cols, "timeout_ms", "max_output_bytes");
	if (link_start(b->api->link, req, true, &exec_ops, p, &p->op, err) < 0) {
		proc_bury(p);
		return -1;
	}
	LIST_INSERT_HEAD(&b->procs, p, link);
	b->nprocs++;
	if (!listener_add(c, p)) {
		proc_free(p);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	if (c->timeout_ms)
		ev_timer_set(&b->api->ev, &p->timer, clock_now() + c->timeout_ms * MS_NS);
	return 0;
}

/* As whom it runs is known to exist; where that user is at home, too. */
static void start_with_home(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct start s;
	char dir[PATH_MAX];
	if (start_parse(c, &s, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return;
	}
	if (envd_call_path(c, s.cwd && s.cwd[0] ? s.cwd : boxfs_home(c->fs.fs), dir) < 0)
		return;
	boxfs_unwant(&c->fs);
	if (proc_start(c, &s, dir, &err) < 0)
		envd_fail(c, connect_code_of(err.code), "%s", err.msg);
}

static void run_start(struct envd_call *c)
{
	envd_with_fs(c, start_with_home);
}

/* ---- the other methods ---- */

struct proc *proc_selected(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *sel = NULL;
	const char *tag = NULL;
	uint32_t pid = 0;
	struct proc *p = NULL;
	if (connect_object(c->msg, "process", &sel, &err) < 0 ||
	    connect_u32(sel, "pid", &pid, &err) < 0 || connect_str(sel, "tag", &tag, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return NULL;
	}
	if (tag) {
		for (p = LIST_FIRST(&c->b->procs); p; p = LIST_NEXT(p, link)) {
			if (p->phase == PROC_RUNNING && strcmp(p->tag, tag) == 0)
				break;
		}
		if (!p)
			envd_fail(c, CONNECT_NOT_FOUND, "process with tag %.200s not found", tag);
	} else if (!(p = proc_by_pid(c->b, pid))) {
		envd_fail(c, CONNECT_NOT_FOUND, "process with pid %u not found", pid);
	}
	return p;
}

struct proc *proc_running(struct envd_call *c)
{
	struct proc *p = proc_selected(c);
	if (p && p->phase != PROC_RUNNING) {
		envd_fail(c, CONNECT_NOT_FOUND, "process with pid %u not found", p->pid);
		return NULL;
	}
	return p;
}

static void run_connect(struct envd_call *c)
{
	struct proc *p = proc_selected(c);
	if (!p)
		return;
	if (!listener_add(c, p)) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return;
	}
	listener_start(c->priv);
	if (p->phase == PROC_EXITED)
		listener_tell_end(c->priv);
}

static void run_list(struct envd_call *c)
{
	json_t *list = json_array();
	const struct proc *p;
	for (p = LIST_FIRST(&c->b->procs); p; p = LIST_NEXT(p, link)) {
		if (p->phase != PROC_RUNNING)
			continue;
		json_t *config = json_copy(p->config);
		json_object_del(config, "user");
		json_object_del(config, "dir");
		json_t *one = json_pack("{s:o,s:I}", "config", config, "pid", (json_int_t)p->pid);
		if (one && p->tag[0])
			json_object_set_new(one, "tag", json_string(p->tag));
		json_array_append_new(list, one);
	}
	connect_reply(c->r, json_pack("{s:o}", "processes", list));
}

static void run_update(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *pty = NULL, *size = NULL;
	uint32_t rows = 0, cols = 0;
	struct proc *p = proc_running(c);
	if (!p)
		return;
	if (connect_object(c->msg, "pty", &pty, &err) < 0 ||
	    connect_object(pty, "size", &size, &err) < 0 ||
	    connect_u32(size, "rows", &rows, &err) < 0 ||
	    connect_u32(size, "cols", &cols, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return;
	}
	if (size && !p->tty) {
		envd_fail(c, CONNECT_INTERNAL, "tty not assigned to process");
		return;
	}
	uint16_t m[2] = { (uint16_t)(rows < UINT16_MAX ? rows : UINT16_MAX),
			  (uint16_t)(cols < UINT16_MAX ? cols : UINT16_MAX) };
	if (size)
		link_send(p->op, BRIG_RESIZE, 0, BRIG_CLIENT_STREAM, m, sizeof(m));
	connect_reply(c->r, json_object());
}

/* "SIGNAL_SIGKILL" or 9, "SIGNAL_SIGTERM" or 15. */
static uint32_t signal_of(json_t *msg)
{
	json_t *v = connect_field(msg, "signal");
	const char *s = json_string_value(v);
	json_int_t n = json_integer_value(v);
	if ((s && strcmp(s, "SIGNAL_SIGKILL") == 0) || n == SIGKILL)
		return SIGKILL;
	return (s && strcmp(s, "SIGNAL_SIGTERM") == 0) || n == SIGTERM ? SIGTERM : 0;
}

static void run_send_signal(struct envd_call *c)
{
	uint32_t sig = signal_of(c->msg);
	struct proc *p = proc_running(c);
	if (!p)
		return;
	if (!sig) {
		envd_fail(c, CONNECT_UNIMPLEMENTED, "the signal is neither SIGKILL nor SIGTERM");
		return;
	}
	link_send(p->op, BRIG_SIGNAL, 0, BRIG_CLIENT_STREAM, &sig, sizeof(sig));
	connect_reply(c->r, json_object());
}

const struct envd_method envd_process_methods[] = {
	{ "/process.Process/Start", true, run_start, NULL, NULL },
	{ "/process.Process/Connect", true, run_connect, NULL, NULL },
	{ "/process.Process/List", false, run_list, NULL, NULL },
	{ "/process.Process/Update", false, run_update, NULL, NULL },
	{ "/process.Process/SendSignal", false, run_send_signal, NULL, NULL },
	{ NULL, false, NULL, NULL, NULL },
};
