/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A kernel is an ordinary command of the sandbox, started by brigd's exec as any other and as its
 * user. It is `python3 -c BOOT LANGUAGE`; BOOT reads the program text (src/api/kernels, compiled
 * into us) from its standard input, so nothing is written to the sandbox's files and nothing has to
 * be in its image but python3. After the text, standard input carries requests, standard output
 * events.
 *
 * Both directions are bounded: what we send waits for the credit that the sandbox gives (at most
 * KERNEL_QUEUE_MAX), and what it sends is granted again as it is taken, line by line; a line beyond
 * INTERP_LINE_MAX, or one that is no event, ends the kernel and nothing else.
 */
#include "api/kernel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "kernels.h"

#define BOOT                                                                         \
	"import os;r=os.fdopen(os.dup(0),'rb');n=int(r.readline());"                 \
	"g={'__name__':'brig_kernel'};exec(compile(r.read(n),'<kernel>','exec'),g);" \
	"g['kernel_main'](r)"
#define SEND_MAX (64u * 1024u)
/* Credit goes back in steps, not with each small frame. */
#define GRANT_STEP (256u * 1024u)

struct kernel {
	struct link_op *op; /* NULL: gone */
	const struct kernel_ops *ops;
	void *ctx;
	bool ready, calling, freed;
	struct buf in;	/* bytes of the line that has not ended */
	size_t scanned; /* of in: no newline there */
	struct buf out;
	uint64_t credit; /* bytes of stdin that may be sent */
	uint32_t owed[2];
	bool started;
	char last[KERNEL_LAST_WORDS + 1];
	size_t last_n;
};

static const struct language {
	const char *name, *alias;
	const unsigned char *text;
	const size_t *n;
} languages[] = {
	{ "python", "py", kernel_python_text, &kernel_python_size },
	{ "javascript", "js", kernel_node_text, &kernel_node_size },
	{ "typescript", "ts", kernel_node_text, &kernel_node_size },
	{ "bash", "sh", kernel_bash_text, &kernel_bash_size },
};
#define N_LANGUAGES (sizeof(languages) / sizeof(languages[0]))

static const struct language *language_find(const char *name)
{
	for (size_t i = 0; i < N_LANGUAGES; i++)
		if (strcmp(languages[i].name, name) == 0 || strcmp(languages[i].alias, name) == 0)
			return &languages[i];
	return NULL;
}

const char *kernel_language(const char *name)
{
	const struct language *l = language_find(name);
	return l ? l->name : NULL;
}

static void kernel_delete(struct kernel *k)
{
	link_cancel(k->op);
	buf_done(&k->in);
	buf_done(&k->out);
	free(k);
}

void kernel_free(struct kernel *k)
{
	if (!k)
		return;
	k->freed = true;
	if (!k->calling)
		kernel_delete(k);
}

void kernel_hand(struct kernel *k, const struct kernel_ops *ops, void *ctx)
{
	k->ops = ops;
	k->ctx = ctx;
}

bool kernel_ready(const struct kernel *k)
{
	return k->ready && k->op;
}

/* ---- towards the kernel ---- */

static void kernel_pump(struct kernel *k)
{
	while (k->op && k->started && k->credit > 0 && buf_len(&k->out) > 0 &&
	       link_queued(k->op) < LINK_QUEUE_HIGH) {
		size_t n = buf_len(&k->out);
		n = n < SEND_MAX ? n : SEND_MAX;
		n = n < k->credit ? n : (size_t)k->credit;
		if (link_send(k->op, BRIG_STDIN, 0, BRIG_CLIENT_STREAM, buf_head(&k->out), n) < 0)
			return;
		k->credit -= n;
		buf_consume(&k->out, n);
	}
}

/* A request as one line; o is stolen. */
static int kernel_put(struct kernel *k, json_t *o)
{
	uint8_t *at = NULL;
	size_t n = k->op && o ? json_dumpb(o, NULL, 0, JSON_COMPACT | JSON_ENSURE_ASCII) : 0;
	int r = n && buf_reserve(&k->out, n + 1, &at) == 0 ? 0 : -1;
	if (r == 0) {
		json_dumpb(o, (char *)at, n, JSON_COMPACT | JSON_ENSURE_ASCII);
		at[n] = '\n';
		buf_commit(&k->out, n + 1);
		kernel_pump(k);
	}
	json_decref(o);
	return r;
}

int kernel_execute(struct kernel *k, uint64_t id, json_t *code, json_t *env)
{
	json_t *o = json_pack("{s:s,s:I,s:O}", "op", "execute", "id", (json_int_t)id, "code", code);
	if (o && env)
		json_object_set(o, "env", env);
	return kernel_put(k, o);
}

int kernel_setenv(struct kernel *k, json_t *env)
{
	return kernel_put(k, json_pack("{s:s,s:O}", "op", "env", "env", env));
}

int kernel_warm(struct kernel *k, bool idle)
{
	return kernel_put(k, json_pack("{s:s,s:b}", "op", "warm", "idle", idle));
}

void kernel_interrupt(struct kernel *k)
{
	uint32_t sig = SIGINT;
	if (k->op)
		(void)link_send(k->op, BRIG_SIGNAL, 0, BRIG_CLIENT_STREAM, &sig, sizeof(sig));
}

void kernel_hold(struct kernel *k, bool hold)
{
	if (k->op)
		link_hold(k->op, hold);
}

/* ---- from the kernel ---- */

static void kernel_gone(struct kernel *k, const char *why)
{
	if (k->freed)
		return;
	k->ready = false;
	k->ops->gone(k->ctx, why);
}

/* For breaking the protocol. */
static void kernel_refuse(struct kernel *k, const struct brig_err *err)
{
	char why[640];
	link_cancel(k->op);
	k->op = NULL;
	snprintf(why, sizeof(why), "the kernel sent %s, and was ended", err->msg);
	kernel_gone(k, why);
}

static void kernel_line(struct kernel *k, const char *p, size_t n)
{
	struct interp_event e = { .line = NULL };
	struct brig_err err = BRIG_ERR_INIT;
	if (interp_event_parse(p, n, clock_ns(CLOCK_REALTIME), &e, &err) < 0) {
		kernel_refuse(k, &err);
		return;
	}
	if (e.kind == INTERP_READY)
		k->ready = true;
	if (e.kind == INTERP_FATAL) {
		k->last_n = e.n < KERNEL_LAST_WORDS ? e.n : KERNEL_LAST_WORDS;
		memcpy(k->last, e.line + (e.n - k->last_n), k->last_n);
	} else {
		k->ops->event(k->ctx, &e);
	}
	free(e.line);
}

static void kernel_lines(struct kernel *k)
{
	while (k->op && !k->freed) {
		size_t n = buf_len(&k->in);
		const char *p = (const char *)buf_head(&k->in);
		const char *end =
			n > k->scanned ? memchr(p + k->scanned, '\n', n - k->scanned) : NULL;
		if (!end) {
			k->scanned = n;
			return;
		}
		size_t line = (size_t)(end - p);
		kernel_line(k, p, line);
		buf_consume(&k->in, line + 1);
		k->scanned = 0;
	}
}

static void kernel_grant(struct kernel *k, int out, uint32_t n)
{
	struct brig_credit m = { .chan = out ? BRIG_CHAN_STDERR : BRIG_CHAN_STDOUT };
	k->owed[out] += n;
	if (k->owed[out] < GRANT_STEP)
		return;
	m.bytes = k->owed[out];
	if (link_send(k->op, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m)) == 0)
		k->owed[out] = 0;
}

static void kernel_output(struct kernel *k, const uint8_t *p, size_t n)
{
	int r = buf_add(&k->in, p, n);
	kernel_grant(k, 0, (uint32_t)n);
	if (r == 0) {
		kernel_lines(k);
		return;
	}
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_PROTOCOL, 0, "a line of more than %u bytes", INTERP_LINE_MAX);
	kernel_refuse(k, &err);
}

/* Only python3 itself writes here, and only before the kernel runs or when it dies. */
static void kernel_words(struct kernel *k, const uint8_t *p, size_t n)
{
	size_t keep = n < KERNEL_LAST_WORDS ? n : KERNEL_LAST_WORDS;
	size_t old = k->last_n < KERNEL_LAST_WORDS - keep ? k->last_n : KERNEL_LAST_WORDS - keep;
	memmove(k->last, k->last + (k->last_n - old), old);
	for (size_t i = 0; i < keep; i++) {
		uint8_t c = p[n - keep + i];
		k->last[old + i] = c == '\n' ? ' ' : c < ' ' || c >= 0x7f ? '?' : (char)c;
	}
	k->last_n = old + keep;
	kernel_grant(k, 1, (uint32_t)n);
}

static void op_frame(void *ctx, const struct frame *f)
{
	struct kernel *k = ctx;
	struct brig_credit m;
	uint64_t offset;
	k->calling = true;
	if (f->h.type == BRIG_CREDIT && frame_struct(f, &m, sizeof(m)) &&
	    m.chan == BRIG_CHAN_STDIN) {
		k->credit += m.bytes;
		kernel_pump(k);
	} else if ((f->h.type == BRIG_STDOUT || f->h.type == BRIG_STDERR) &&
		   frame_struct(f, &offset, sizeof(offset))) {
		const uint8_t *p = f->payload + sizeof(offset);
		size_t n = f->h.len - sizeof(offset);
		if (f->h.type == BRIG_STDOUT)
			kernel_output(k, p, n);
		else
			kernel_words(k, p, n);
	}
	k->calling = false;
	if (k->freed)
		kernel_delete(k);
}

static void op_reply(void *ctx, json_t *ok)
{
	struct kernel *k = ctx;
	(void)ok;
	k->started = true;
	kernel_pump(k);
}

static void op_room(void *ctx)
{
	kernel_pump(ctx);
}

static void op_over(struct kernel *k, const char *why)
{
	k->op = NULL;
	k->calling = true;
	kernel_gone(k, why);
	k->calling = false;
	if (k->freed)
		kernel_delete(k);
}

static void op_failed(void *ctx, json_t *error)
{
	const char *text = json_string_value(json_object_get(error, "message"));
	char why[640];
	snprintf(why, sizeof(why), "the kernel could not be started: %.560s", text ? text : "?");
	op_over(ctx, why);
}

static void op_end(void *ctx, json_t *status)
{
	struct kernel *k = ctx;
	char why[KERNEL_LAST_WORDS + 320];
	const char *reason = json_string_value(json_object_get(status, "stop_reason"));
	const char *text =
		json_string_value(json_object_get(json_object_get(status, "error"), "message"));
	json_int_t code = json_integer_value(json_object_get(status, "exit_code"));
	k->last[k->last_n] = '\0';
	snprintf(why, sizeof(why), "the kernel ended: %s, exit code %d%s%.200s%s%s",
		 reason ? reason : "unknown", (int)code, text ? "; " : "", text ? text : "",
		 k->last_n ? "; " : "", k->last);
	op_over(k, why);
}

static const struct link_ops ops_of_link = {
	.reply = op_reply,
	.failed = op_failed,
	.frame = op_frame,
	.end = op_end,
	.room = op_room,
};

static json_t *exec_request(const struct kernel_spec *s, const struct language *l)
{
	const char *key;
	json_t *value, *env = json_array();
	json_object_foreach(s->envs, key, value)
	{
		json_t *pair = json_sprintf("%s=%s", key, json_string_value(value));
		json_array_append_new(env, pair ? pair : json_string("BRIG_BAD_ENV="));
	}
	json_t *o = json_pack("{s:s,s:s,s:[s,s,s,s],s:b,s:o,s:n,s:n}", "op", "exec", "id", s->box,
			      "cmd", "python3", "-c", BOOT, l->name, "stdin", 1, "env", env,
			      "timeout_ms", "max_output_bytes");
	if (o && s->cwd)
		json_object_set_new(o, "workdir", json_string(s->cwd));
	if (o && s->user && s->user[0])
		json_object_set_new(o, "user", json_string(s->user));
	return o;
}

int kernel_start(struct link *link, const struct kernel_spec *spec, const struct kernel_ops *ops,
		 void *ctx, struct kernel **ret, struct brig_err *err)
{
	const struct language *l = language_find(spec->language);
	struct kernel *k = calloc(1, sizeof(*k));
	char head[32];
	if (!k)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "start a kernel");
	if (!l) {
		free(k);
		return brig_fail(err, BRIG_E_INVALID, 0, "no kernel speaks '%.64s'",
				 spec->language);
	}
	kernel_hand(k, ops, ctx);
	k->in = (struct buf)BUF_INIT(INTERP_LINE_MAX + BRIG_FRAME_MAX);
	k->out = (struct buf)BUF_INIT(KERNEL_QUEUE_MAX);
	int n = snprintf(head, sizeof(head), "%zu\n", *l->n);
	if (buf_add(&k->out, head, (size_t)n) < 0 || buf_add(&k->out, l->text, *l->n) < 0)
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "start a kernel");
	else if (link_start(link, exec_request(spec, l), true, &ops_of_link, k, &k->op, err) == 0) {
		*ret = k;
		return 0;
	}
	k->op = NULL;
	kernel_delete(k);
	return -1;
}
