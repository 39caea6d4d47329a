/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Without files an execution is one operation `run` of brigd: one request, and a pool serves it.
 * With files it is a sandbox: create, write them, exec, read the others, remove. In both cases the
 * sandbox ends with the execution, with its cancellation, and with this process.
 *
 *   ASKING    what a language means that only the image knows
 *   CREATING  (files only) -> WRITING, one file after the other -> RUNNING -> READING -> removed
 *   RUNNING   output comes under credit, which is given back as it is taken
 */
#include "api/runexec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/fsio.h"
#include "api/quota.h"
#include "api/secrets.h"
#include "api/text.h"

#define INPUT_PIECE 131072u

struct runexec {
	struct api *a;
	struct run_ask ask;
	char tenant[40];
	const struct runexec_ops *ops;
	void *ctx;
	struct link_op *op;
	bool creating, cancelled; /* cancelled: while brigd was making the sandbox */
	struct fsio *fs;
	char id[BRIG_ID_LEN + 8]; /* of a sandbox of our own; "" = none */
	json_t *info, *status, *files;
	size_t at;	    /* file being written or read */
	size_t read_bytes;  /* of all files read */
	struct buf content; /* of the file being read */
	bool held;
	uint32_t taken[2]; /* output since the last grant */
	uint64_t input_credit;
	size_t input_at;
	bool input_done;
};

/* The sandbox of a `run` ends by itself, a moment later; where that counts, brigd is asked when. */
static void pay(struct runexec *r)
{
	const char *id = json_string_value(json_object_get(r->info, "id"));
	struct charge *charge = r->ask.charge;
	r->ask.charge = NULL;
	if (r->id[0])
		box_remove_charged(r->a, r->id, charge);
	else if (id && charge_matters(charge))
		box_remove_charged(r->a, id, charge);
	else
		charge_return(charge);
}

static void release(struct runexec *r)
{
	if (r->op)
		link_cancel(r->op);
	fsio_close(r->fs);
	pay(r);
	secrets_wipe_spec(r->ask.spec);
	runask_done(&r->ask);
	json_decref(r->info);
	json_decref(r->status);
	json_decref(r->files);
	buf_done(&r->content);
	free(r);
}

void runexec_cancel(struct runexec *r)
{
	/* brigd's answer may be on its way: who does not wait for it never learns what to remove.
	 */
	if (r->creating)
		r->cancelled = true;
	else
		release(r);
}

static void finish(struct runexec *r, const struct brig_err *err)
{
	struct brig_err copied = BRIG_ERR_INIT;
	if (err)
		copied = *err;
	r->ops->done(r->ctx, err ? NULL : r->status, err ? NULL : r->files, err ? &copied : NULL);
	release(r);
}

static void finish_text(struct runexec *r, enum brig_code code, const char *what)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, code, 0, "%s", what);
	finish(r, &err);
}

static void op_failed(void *ctx, json_t *error)
{
	struct runexec *r = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	r->op = NULL;
	if (r->cancelled) {
		release(r);
		return;
	}
	api_err_from(error, &err);
	finish(r, &err);
}

/* ---- READING ---- */

static void read_next(struct runexec *r);

static json_t *content_json(struct runexec *r)
{
	bool bad;
	size_t n = buf_len(&r->content);
	const char *p = n ? (const char *)buf_head(&r->content) : "";
	if (text_utf8(p, n, &bad) == n)
		return json_stringn(p, n);
	char *b64 = text_base64(p, n);
	json_t *o = b64 ? json_pack("{s:s}", "base64", b64) : NULL;
	free(b64);
	return o;
}

static void was_read(void *ctx, const struct brig_err *err)
{
	struct runexec *r = ctx;
	const char *path = json_string_value(json_array_get(r->ask.outputs, r->at));
	json_t *v;
	if (err && (err->code == BRIG_E_PROTOCOL || err->code == BRIG_E_UNAVAILABLE)) {
		finish(r, err);
		return;
	}
	/* A file that is not there is a result, too: the command has run. */
	v = err ? json_pack("{s:{s:s,s:s}}", "error", "code", brig_code_name(err->code), "message",
			    err->msg)
		: content_json(r);
	r->read_bytes += buf_len(&r->content);
	json_object_set_new(r->files, path, v ? v : json_null());
	buf_done(&r->content);
	r->content = (struct buf)BUF_INIT(RUN_OUTPUT_FILE_MAX);
	r->at++;
	/* A bound that was passed has closed the connection. */
	if (err && err->code == BRIG_E_LIMIT) {
		struct brig_err mine = BRIG_ERR_INIT;
		fsio_close(r->fs);
		r->fs = NULL;
		if (fsio_open(r->a, r->id, r->ask.user, &r->fs, &mine) < 0) {
			finish(r, &mine);
			return;
		}
	}
	read_next(r);
}

static void read_next(struct runexec *r)
{
	size_t left = RUN_OUTPUT_FILES_MAX - r->read_bytes;
	const char *path = json_string_value(json_array_get(r->ask.outputs, r->at));
	const char *dir = json_string_value(json_object_get(r->ask.spec, "workdir"));
	char full[8192];
	if (!path) {
		finish(r, NULL);
		return;
	}
	snprintf(full, sizeof(full), "%s%s%s", path[0] != '/' && dir ? dir : "",
		 path[0] != '/' && dir ? "/" : "", path);
	fsio_read(r->fs, full, &r->content, left < RUN_OUTPUT_FILE_MAX ? left : RUN_OUTPUT_FILE_MAX,
		  was_read, r);
}

/* ---- RUNNING ---- */

static void run_replied(void *ctx, json_t *ok)
{
	struct runexec *r = ctx;
	/* exec answers with less than create did. */
	if (!r->info)
		r->info = json_incref(ok);
	r->creating = false;
	if (r->cancelled) {
		release(r);
		return;
	}
	if (r->ops->started)
		r->ops->started(r->ctx, r->info);
}

static void input_push(struct runexec *r)
{
	while (!r->input_done && r->input_credit && link_queued(r->op) < LINK_QUEUE_HIGH) {
		size_t n = r->ask.input_n - r->input_at;
		n = n < INPUT_PIECE ? n : INPUT_PIECE;
		n = n < r->input_credit ? n : (size_t)r->input_credit;
		r->input_done = r->input_at + n == r->ask.input_n;
		if (link_send(r->op, BRIG_STDIN, r->input_done ? BRIG_FF_EOF : 0,
			      BRIG_CLIENT_STREAM, r->ask.input + r->input_at, n) < 0)
			return; /* its end is told otherwise */
		r->input_at += n;
		r->input_credit -= n;
	}
}

static void credit_give(struct runexec *r, unsigned which)
{
	struct brig_credit m = { .chan = which ? BRIG_CHAN_STDERR : BRIG_CHAN_STDOUT,
				 .bytes = r->taken[which] };
	r->taken[which] = 0;
	(void)link_send(r->op, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m));
}

static void run_frame(void *ctx, const struct frame *f)
{
	struct runexec *r = ctx;
	struct brig_credit m;
	uint64_t offset;
	unsigned which = f->h.type == BRIG_STDERR;
	if (f->h.type == BRIG_CREDIT && frame_struct(f, &m, sizeof(m)) &&
	    m.chan == BRIG_CHAN_STDIN) {
		r->input_credit += m.bytes;
		input_push(r);
		return;
	}
	if (f->h.type != BRIG_STDOUT && f->h.type != BRIG_STDERR)
		return;
	const uint8_t *p = frame_struct(f, &offset, sizeof(offset));
	if (!p)
		return;
	size_t n = f->h.len - sizeof(offset);
	r->taken[which] += (uint32_t)n;
	if (r->taken[which] >= BRIG_CLIENT_CREDIT / 2)
		credit_give(r, which);
	if (n)
		r->ops->output(r->ctx, which, p, n);
}

static void run_room(void *ctx)
{
	input_push(ctx);
}

static void run_end(void *ctx, json_t *status)
{
	struct runexec *r = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *error = json_object_get(status, "error");
	r->op = NULL;
	r->status = json_incref(status);
	if (error && json_integer_value(json_object_get(status, "exit_code")) == BRIG_EXIT_FAILED) {
		api_err_from(error, &err);
		finish(r, &err);
		return;
	}
	if (!r->ask.outputs) {
		finish(r, NULL);
		return;
	}
	r->files = json_object();
	r->at = 0;
	read_next(r);
}

static const struct link_ops run_ops = { .reply = run_replied,
					 .failed = op_failed,
					 .frame = run_frame,
					 .end = run_end,
					 .room = run_room };

static int command_start(struct runexec *r, struct brig_err *err)
{
	json_t *req;
	if (r->id[0]) {
		req = json_pack("{s:s,s:s,s:O}", "op", "exec", "id", r->id, "cmd", r->ask.cmd);
		/* These belong to a command, not to the sandbox. */
		static const char *const own[] = { "timeout_ms", "max_output_bytes" };
		json_t *limits = json_object_get(r->ask.spec, "limits");
		for (unsigned i = 0; i < 2; i++)
			if (json_object_get(limits, own[i]))
				json_object_set(req, own[i], json_object_get(limits, own[i]));
	} else {
		req = json_pack("{s:s,s:O,s:O}", "op", "run", "spec", r->ask.spec, "cmd",
				r->ask.cmd);
	}
	if (r->ask.has_input)
		json_object_set_new(req, "stdin", json_true());
	if (link_start(r->a->link, req, true, &run_ops, r, &r->op, err) < 0)
		return -1;
	/* Where it counts how long a sandbox is there, its id must be known to ask for that. */
	r->creating = !r->id[0] && charge_matters(r->ask.charge);
	link_hold(r->op, r->held);
	return 0;
}

void runexec_hold(struct runexec *r, bool hold)
{
	r->held = hold;
	/* Files have credit of their own, and a bound. */
	if (r->op)
		link_hold(r->op, hold);
}

/* ---- CREATING, WRITING ---- */

static void write_next(struct runexec *r);

static void was_written(void *ctx, const struct brig_err *err)
{
	struct runexec *r = ctx;
	if (err) {
		struct brig_err told = *err;
		if (r->ask.user[0] && err->code == BRIG_E_INVALID)
			brig_err_remedy(&told, "check that the image has the user '%.64s'",
					r->ask.user);
		finish(r, &told);
		return;
	}
	r->at++;
	write_next(r);
}

static void write_next(struct runexec *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (r->at < r->ask.nfiles) {
		const struct run_file *f = &r->ask.file[r->at];
		fsio_write(r->fs, f->path, f->data, f->n, was_written, r);
	} else if (command_start(r, &err) < 0) {
		finish(r, &err);
	}
}

static void create_replied(void *ctx, json_t *ok)
{
	struct runexec *r = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	const char *id = json_string_value(json_object_get(ok, "id"));
	r->op = NULL;
	r->creating = false;
	if (r->cancelled) {
		snprintf(r->id, sizeof(r->id), "%s", id ? id : "");
		release(r);
		return;
	}
	if (!id || strlen(id) >= sizeof(r->id)) {
		finish_text(r, BRIG_E_INTERNAL, "brigd told no id of the sandbox");
		return;
	}
	snprintf(r->id, sizeof(r->id), "%s", id);
	r->info = json_incref(ok);
	if (fsio_open(r->a, r->id, r->ask.user, &r->fs, &err) < 0)
		finish(r, &err);
	else
		write_next(r);
}

static const struct link_ops create_ops = { .reply = create_replied, .failed = op_failed };

static int begin(struct runexec *r, struct brig_err *err)
{
	if (r->ask.nfiles == 0 && !r->ask.outputs)
		return command_start(r, err);
	json_object_set_new(r->ask.spec, "labels", charge_labels(r->ask.charge, "run", r->tenant));
	json_t *req = json_pack("{s:s,s:O}", "op", "create", "spec", r->ask.spec);
	if (link_start(r->a->link, req, false, &create_ops, r, &r->op, err) < 0)
		return -1;
	r->creating = true;
	return 0;
}

/* ---- ASKING ---- */

static void image_replied(void *ctx, json_t *ok)
{
	struct runexec *r = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *image = json_array_get(json_object_get(ok, "images"), 0);
	const char *name = json_string_value(json_object_get(image, "name"));
	r->op = NULL;
	r->ask.cmd = language_declared(r->ask.language, json_object_get(image, "env"), r->ask.code);
	if (!r->ask.cmd) {
		brig_err_set(&err, BRIG_E_INVALID, 0,
			     "image '%s' declares no language '%s', and it is not built in",
			     name ? name : "?", r->ask.language);
		brig_err_remedy(&err, "built in are python, javascript, typescript, bash and c; an "
				      "image declares others by BRIG_LANG_NAME");
		finish(r, &err);
	} else if (begin(r, &err) < 0) {
		finish(r, &err);
	}
}

static const struct link_ops image_ops = { .reply = image_replied, .failed = op_failed };

int runexec_start(struct api *a, struct run_ask *ask, const char *tenant,
		  const struct runexec_ops *ops, void *ctx, struct runexec **ret,
		  struct brig_err *err)
{
	struct runexec *r = calloc(1, sizeof(*r));
	int done;
	if (!r) {
		charge_return(ask->charge);
		runask_done(ask);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	r->a = a;
	r->ask = *ask;
	snprintf(r->tenant, sizeof(r->tenant), "%s", tenant);
	*ask = (struct run_ask){ .user = "" };
	r->ops = ops;
	r->ctx = ctx;
	r->content = (struct buf)BUF_INIT(RUN_OUTPUT_FILE_MAX);
	if (r->ask.cmd) {
		done = begin(r, err);
	} else {
		const char *image = json_string_value(json_object_get(r->ask.spec, "image"));
		json_t *req =
			json_pack("{s:s,s:s}", "op", "images", "image", image ? image : "base");
		done = link_start(a->link, req, false, &image_ops, r, &r->op, err);
	}
	if (done < 0) {
		release(r);
		return -1;
	}
	*ret = r;
	return 0;
}
