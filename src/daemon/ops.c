/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One request, one row of the table below. An operation answers at once, or hands its connection to
 * what it started (exec.c, fsrelay.c, tcprelay.c, logs.c) or waits for (a sandbox that becomes ready or is
 * removed, figures of jaild). Everything is checked before anything is made, so a refused request
 * leaves nothing behind.
 *
 * run and create make what they need in this order: parse, image, admission, sandbox (or one from
 * the pool), name, command. From the sandbox on, a failure destroys it again.
 */
#include "daemon/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/daemon.h"
#include "daemon/exec.h"
#include "daemon/fields.h"
#include "daemon/freeze.h"
#include "daemon/fsrelay.h"
#include "daemon/info.h"
#include "daemon/layerload.h"
#include "daemon/logs.h"
#include "daemon/network.h"
#include "daemon/netpeer.h"
#include "daemon/note.h"
#include "daemon/pool.h"
#include "daemon/publish.h"
#include "daemon/receipt.h"
#include "daemon/record.h"
#include "daemon/rewind.h"
#include "daemon/sandbox.h"
#include "daemon/spec.h"
#include "daemon/statsop.h"
#include "daemon/tcprelay.h"
#include "daemon/volumeop.h"

/* Nothing to tell anybody: the operation goes on without its client. */
static void waiter_gone(struct conn *c)
{
	c->op = NULL;
}

static int find(struct conn *c, json_t *req, struct sandbox **ret, struct brig_err *err)
{
	const char *id = NULL;
	if (field_str(req, "id", 128, &id, err) < 0)
		return -1;
	if (!id || !id[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "'id' is missing");
	if (sandbox_find(c->d, id, ret, err) < 0)
		return -1;
	snprintf(c->about, sizeof(c->about), "%s", (*ret)->id);
	return 0;
}

/* ---- run, create ---- */

static int load(struct sandbox *sb, int fd, struct brig_err *err)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return own < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, errno, "keep the snapshot's descriptor")
		       : layerload_start(sb, own, err);
}

/* A sandbox for the spec of req: from the pool if one fits, else a new one. cmd: what is to run in it, which its image
 * may say; NULL = nothing yet. */
static int obtain(struct conn *c, json_t *req, struct cmd *cmd, struct sandbox **ret, struct brig_err *err)
{
	struct brigd *d = c->d;
	struct spec spec;
	struct admission adm = { .warnings = NULL };
	struct image *img = NULL;
	struct publish *ports = NULL;
	struct sandbox *sb = NULL;
	char name[SPEC_NAME_MAX + 1] = "";
	if (spec_parse(json_object_get(req, "spec"), c->nfds, &spec, err) < 0)
		return -1;
	const struct tier_offer offer = brigd_tiers(d);
	spec.tier = tier_resolve(&offer, spec.tier, spec.tier_floor, err);
	if (spec.tier < 0) {
		spec_done(&spec);
		return -1;
	}
	if (spec.name)
		snprintf(name, sizeof(name), "%s", spec.name);
	spec.accept |= d->accept;
	if (spec.net.optional && !d->host.net)
		net_ask_done(&spec.net);
	struct sandbox_plan plan = { .spec = &spec, .adm = &adm };
	int layer = spec.layer < 0 ? -1 : c->fds[spec.layer];
	int r = spec.name ? sandbox_name_free(d, spec.name, err) : 0;
	if (r == 0 && layer >= 0)
		r = layerload_check(layer, err);
	if (r == 0)
		r = spec_admit(&spec, &d->host, d->nlive, &adm, err);
	if (r == 0)
		r = images_get(&d->images, spec.image, &img, err);
	if (r == 0 && cmd && json_array_size(cmd->argv) == 0)
		r = cmd_from_image(cmd, &img->store.config, err);
	if (r == 0)
		r = publish_open(&spec, &ports, err);
	if (r == 0) {
		plan.image = img;
		sb = pool_take(d, &plan);
		if (!sb)
			r = sandbox_create(d, &plan, c->fds, &sb, err);
	}
	if (r == 0) {
		sandbox_name(sb, name[0] ? name : NULL);
		publish_give(ports, sb);
	} else {
		publish_close(ports);
	}
	if (r == 0 && layer >= 0 && load(sb, layer, err) < 0) {
		sandbox_destroy(sb, CAUSE_KILL);
		r = -1;
	}
	json_decref(adm.warnings);
	image_unref(img);
	spec_done(&spec);
	if (r == 0) {
		snprintf(c->about, sizeof(c->about), "%s", sb->id);
		*ret = sb;
	}
	return r;
}

static void creator_gone(struct conn *c)
{
	struct sandbox *sb = c->op;
	/* Nobody has learnt its id. */
	sb->creator = NULL;
	sb->keep = false;
	sandbox_destroy(sb, CAUSE_CLIENT);
}

static const struct conn_role creator_role = { .gone = creator_gone };

/* What the client sends meanwhile is for its command, and stays in the socket until there is one. */
static bool not_yet(struct conn *c)
{
	(void)c;
	return false;
}

static const struct conn_role runner_role = { .gone = creator_gone, .may_read = not_yet };

/* The command is started when the files of its sandbox are in place. */
static void run_later(struct conn *c, struct sandbox *sb, struct cmd *cmd, uint64_t asked)
{
	sb->later = *cmd;
	*cmd = (struct cmd){ .root = NULL };
	sb->later_ns = asked;
	sb->creator = c;
	conn_set_role(c, CONN_WAIT, &runner_role, sb);
	sandbox_greet(sb);
}

static int op_run(struct conn *c, json_t *req, struct brig_err *err)
{
	struct cmd cmd;
	struct sandbox *sb;
	struct exec *x;
	uint64_t asked = clock_now();
	if (cmd_parse(req, true, &cmd, err) < 0)
		return -1;
	if (obtain(c, req, &cmd, &sb, err) < 0) {
		cmd_done(&cmd);
		return -1;
	}
	sb->auto_rm = cmd.detach && cmd.rm;
	sb->keep = cmd.detach && !cmd.rm;
	if (sb->load) {
		run_later(c, sb, &cmd, asked);
		return 0;
	}
	if (exec_start(sb, &cmd, true, c, asked, &x, err) < 0) {
		cmd_done(&cmd);
		sb->keep = false;
		sandbox_destroy(sb, CAUSE_KILL);
		return -1;
	}
	return 0;
}

static int op_create(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "spec", NULL };
	struct sandbox *sb;
	if (fields_known(req, "create", keys, err) < 0 || obtain(c, req, NULL, &sb, err) < 0)
		return -1;
	sb->keep = true;
	if (sb->state == SB_READY) {
		record_sandbox(sb);
		conn_ok_last(c, sandbox_created(sb));
		return 0;
	}
	sb->creator = c;
	conn_set_role(c, CONN_WAIT, &creator_role, sb);
	sandbox_greet(sb);
	return 0;
}

/* ---- in a living sandbox ---- */

static int must_live(const struct sandbox *sb, struct brig_err *err)
{
	if (sb->state == SB_READY || sb->state == SB_RUNNING || sb->state == SB_EXITED)
		return 0;
	brig_err_set(err, BRIG_E_STATE, 0, "sandbox '%s' is %s%s%s", sb->id, state_name(sb->state),
		     sb->fault[0] ? ": " : "", sb->fault);
	if (sb->state == SB_STOPPED)
		return brig_fix(err, "its output is kept: `brig logs %s`; `brig rm %s` drops it",
				sb->id, sb->id);
	if (sb->state == SB_PAUSED)
		return brig_fix(err, "let it go on first: `brig unpause %s`", sb->id);
	return -1;
}

static int op_exec(struct conn *c, json_t *req, struct brig_err *err)
{
	struct cmd cmd;
	struct sandbox *sb;
	struct exec *x;
	uint64_t asked = clock_now();
	if (find(c, req, &sb, err) < 0 || must_live(sb, err) < 0 ||
	    cmd_parse(req, false, &cmd, err) < 0)
		return -1;
	if (exec_start(sb, &cmd, false, c, asked, &x, err) < 0) {
		cmd_done(&cmd);
		return -1;
	}
	return 0;
}

/* For sandboxes that were made ahead of whoever knows their environment. */
static int op_setenv(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "env", NULL };
	struct sandbox *sb;
	if (fields_known(req, "setenv", keys, err) < 0 || find(c, req, &sb, err) < 0 ||
	    spec_setenv(&sb->spec, req, err) < 0)
		return -1;
	if (sb->kept)
		record_sandbox(sb);
	conn_ok_last(c, json_object());
	return 0;
}

static int op_kill(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "signal", NULL };
	struct sandbox *sb;
	int sig = SIGKILL;
	json_t *v = json_object_get(req, "signal");
	if (fields_known(req, "kill", keys, err) < 0 || find(c, req, &sb, err) < 0)
		return -1;
	if (json_is_string(v))
		sig = signal_parse(json_string_value(v));
	else if (json_is_integer(v))
		sig = json_integer_value(v) >= 1 && json_integer_value(v) <= 64
			      ? (int)json_integer_value(v)
			      : 0;
	else if (v)
		sig = 0;
	if (sig == 0) {
		brig_err_set(err, BRIG_E_INVALID, 0, "'signal' names no signal");
		return brig_fix(err,
				"give a name such as TERM or SIGINT, or a number from 1 to 64");
	}
	if (!sb->main || sb->main->phase > EXEC_STARTED) {
		brig_err_set(err, BRIG_E_STATE, 0, "sandbox '%s' is %s and runs no main command",
			     sb->id, state_name(sb->state));
		return brig_fix(err, "`brig rm %s` removes it", sb->id);
	}
	if (sb->state == SB_PAUSED && sig != SIGKILL) {
		brig_err_set(err, BRIG_E_STATE, 0,
			     "sandbox '%s' is paused and takes no signal but "
			     "KILL",
			     sb->id);
		return brig_fix(err, "let it go on first: `brig unpause %s`", sb->id);
	}
	/* What stands still cannot be told anything; it goes on, to its death. */
	if (sb->state == SB_PAUSED && freeze_let_die(sb, err) < 0)
		return -1;
	exec_signal(sb->main, sig);
	conn_ok_last(c, NULL);
	return 0;
}

static int op_pause(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb;
	if (fields_known(req, "pause", keys, err) < 0 || find(c, req, &sb, err) < 0)
		return -1;
	if (sb->state == SB_PAUSED)
		return brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is paused already", sb->id);
	return must_live(sb, err) < 0 ? -1 : freeze_pause(c, sb, err);
}

static int op_resume(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb;
	if (fields_known(req, "resume", keys, err) < 0 || find(c, req, &sb, err) < 0)
		return -1;
	return freeze_resume(c, sb, err);
}

static int op_rewind(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb;
	if (fields_known(req, "rewind", keys, err) < 0 || find(c, req, &sb, err) < 0 || must_live(sb, err) < 0)
		return -1;
	if (c->nfds != 1)
		return brig_fail(err, BRIG_E_INVALID, 0, "'rewind' takes one descriptor: the files to go back to");
	return rewind_serve(c, sb, c->fds[0], err);
}

static void remover_gone(struct conn *c)
{
	LIST_REMOVE(c, peer);
}

static const struct conn_role remover_role = { .gone = remover_gone };

static int op_rm(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "force", NULL };
	struct sandbox *sb;
	bool force = false;
	if (fields_known(req, "rm", keys, err) < 0 || field_bool(req, "force", &force, err) < 0 ||
	    find(c, req, &sb, err) < 0)
		return -1;
	if (!force && (sb->state == SB_RUNNING || sb->state == SB_CREATING ||
		       (!LIST_EMPTY(&sb->execs) && sb->state != SB_REMOVING))) {
		brig_err_set(err, BRIG_E_STATE, 0, "sandbox '%s' runs a command", sb->id);
		return brig_fix(err, "wait for it, or remove it with --force");
	}
	sb->keep = false;
	if (sb->state == SB_STOPPED) {
		sandbox_forget(sb);
		conn_ok_last(c, NULL);
		return 0;
	}
	LIST_INSERT_HEAD(&sb->removers, c, peer);
	conn_set_role(c, CONN_WAIT, &remover_role, sb);
	sandbox_destroy(sb, CAUSE_KILL);
	return 0;
}

/* A command whose reader was lost together with a brigd. */
static int op_attach(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "exec", "stdout_offset", "stderr_offset", NULL };
	struct sandbox *sb;
	const char *exec = NULL;
	uint64_t offset[2] = { 0, 0 };
	if (fields_known(req, "attach", keys, err) < 0 ||
	    field_str(req, "exec", BRIG_ID_LEN, &exec, err) < 0 ||
	    field_u64(req, "stdout_offset", 0, INT64_MAX, &offset[0], err) < 0 ||
	    field_u64(req, "stderr_offset", 0, INT64_MAX, &offset[1], err) < 0 ||
	    find(c, req, &sb, err) < 0 || must_live(sb, err) < 0)
		return -1;
	return exec_attach(sb, exec, c, offset, err);
}

static int op_logs(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = {
		"op", "id", "follow", "stdout", "stderr", "offset", NULL
	};
	struct sandbox *sb;
	struct logs_options o = { .follow = 0 };
	bool follow = false, want[2] = { true, true };
	if (fields_known(req, "logs", keys, err) < 0 ||
	    field_bool(req, "follow", &follow, err) < 0 ||
	    field_bool(req, "stdout", &want[0], err) < 0 ||
	    field_bool(req, "stderr", &want[1], err) < 0 ||
	    field_u64(req, "offset", 0, INT64_MAX, &o.offset, err) < 0 ||
	    find(c, req, &sb, err) < 0)
		return -1;
	if (!sb->ring[0] || !sb->ring[1]) {
		brig_err_set(err, BRIG_E_STATE, 0,
			     "sandbox '%s' has no detached command, so no logs", sb->id);
		return brig_fix(err, "start the command with `brig run --detach`");
	}
	o.follow = follow;
	o.want[0] = want[0];
	o.want[1] = want[1];
	logs_serve(c, sb, &o);
	return 0;
}

static int op_fs(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "user", NULL };
	struct sandbox *sb;
	const char *user = NULL;
	if (fields_known(req, "fs", keys, err) < 0 || field_str(req, "user", 64, &user, err) < 0 ||
	    find(c, req, &sb, err) < 0 || must_live(sb, err) < 0)
		return -1;
	if (user && !user_valid(user))
		return brig_fail(err, BRIG_E_INVALID, 0, "user '%.64s' is malformed", user);
	fs_serve(c, sb, user ? user : sb->owner.user);
	return 0;
}

static int op_network(struct conn *c, json_t *req, struct brig_err *err)
{
	struct sandbox *sb;
	if (find(c, req, &sb, err) < 0 ||
	    (sb->state != SB_PAUSED && json_object_get(req, "network") && must_live(sb, err) < 0))
		return -1;
	return network_serve(c, sb, req, err);
}

static int op_networks(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", NULL };
	if (fields_known(req, "networks", keys, err) < 0)
		return -1;
	conn_ok_last(c, json_pack("{s:o}", "networks", netpeer_list(c->d)));
	return 0;
}

static int op_denials(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb;
	if (fields_known(req, "denials", keys, err) < 0 || find(c, req, &sb, err) < 0)
		return -1;
	return denials_serve(c, sb, err);
}

static int op_connect(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", "port", NULL };
	struct sandbox *sb;
	uint64_t port = 0;
	if (fields_known(req, "connect", keys, err) < 0 ||
	    field_u64(req, "port", 1, UINT16_MAX, &port, err) < 0)
		return -1;
	if (port == 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'port' is missing");
	if (find(c, req, &sb, err) < 0 || must_live(sb, err) < 0)
		return -1;
	return tcp_serve(c, sb, (uint16_t)port, err);
}

/* ---- about what there is ---- */

static int op_version(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", NULL };
	if (fields_known(req, "version", keys, err) < 0)
		return -1;
	conn_ok_last(c, info_version(c->d));
	return 0;
}

static int op_ls(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", NULL };
	if (fields_known(req, "ls", keys, err) < 0)
		return -1;
	json_t *all = json_array();
	struct sandbox *sb;
	for (sb = LIST_FIRST(&c->d->all); sb; sb = LIST_NEXT(sb, all))
		if (!sb->pool)
			json_array_append_new(all, sandbox_info(sb, false));
	conn_ok_last(c, json_pack("{s:o}", "sandboxes", all));
	return 0;
}

static int op_inspect(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb;
	if (fields_known(req, "inspect", keys, err) < 0 || find(c, req, &sb, err) < 0)
		return -1;
	conn_ok_last(c, sandbox_info(sb, true));
	return 0;
}

static int op_stats(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb = NULL;
	if (fields_known(req, "stats", keys, err) < 0)
		return -1;
	if (json_object_get(req, "id") &&
	    (find(c, req, &sb, err) < 0 || (sb->state != SB_PAUSED && must_live(sb, err) < 0)))
		return -1;
	return stats_serve(c, sb, err);
}

static int op_receipt(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "id", NULL };
	struct sandbox *sb;
	if (fields_known(req, "receipt", keys, err) < 0 || find(c, req, &sb, err) < 0 ||
	    must_live(sb, err) < 0)
		return -1;
	return receipt_serve(c, sb, err);
}

static int op_volume(struct conn *c, json_t *req, struct brig_err *err)
{
	return volume_serve(c, req, err);
}

static int op_pool(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", NULL };
	if (fields_known(req, "pool", keys, err) < 0)
		return -1;
	conn_ok_last(c, json_pack("{s:o}", "pools", pool_info(c->d)));
	return 0;
}

static int op_images(struct conn *c, json_t *req, struct brig_err *err)
{
	static const char *const keys[] = { "op", "image", NULL };
	const char *ref = NULL;
	json_t *all = NULL;
	if (fields_known(req, "images", keys, err) < 0 ||
	    field_str(req, "image", 128, &ref, err) < 0 ||
	    images_list(&c->d->images, ref, &all, err) < 0)
		return -1;
	conn_ok_last(c, json_pack("{s:o}", "images", all));
	return 0;
}

static const struct op {
	const char *name;
	bool new_work; /* refused while brigd is ending */
	bool takes_fds;
	bool noted; /* told to the audit log (note.h) */
	int (*fn)(struct conn *c, json_t *req, struct brig_err *err);
} ops[] = {
	{ "version", false, false, false, op_version },
	{ "run", true, true, true, op_run },
	{ "create", true, true, true, op_create },
	{ "exec", true, false, true, op_exec },
	{ "attach", true, false, true, op_attach },
	{ "setenv", false, false, true, op_setenv },
	{ "ls", false, false, false, op_ls },
	{ "inspect", false, false, false, op_inspect },
	{ "logs", false, false, false, op_logs },
	{ "kill", false, false, true, op_kill },
	{ "rm", false, false, true, op_rm },
	{ "pause", true, false, true, op_pause },
	{ "resume", true, false, true, op_resume },
	{ "rewind", true, true, true, op_rewind },
	{ "network", false, false, true, op_network },
	{ "denials", false, false, false, op_denials },
	{ "networks", false, false, false, op_networks },
	{ "stats", false, false, false, op_stats },
	{ "receipt", false, false, false, op_receipt },
	{ "fs", true, false, true, op_fs },
	{ "connect", true, false, true, op_connect },
	{ "volume", true, false, true, op_volume },
	{ "pool", false, false, false, op_pool },
	{ "images", false, false, false, op_images },
};

static const struct op *op_find(const char *name)
{
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}

static int dispatch(struct conn *c, json_t *req, struct brig_err *err)
{
	const char *name = NULL;
	if (field_str(req, "op", 32, &name, err) < 0)
		return -1;
	if (!name)
		return brig_fail(err, BRIG_E_INVALID, 0, "'op' is missing");
	const struct op *op = op_find(name);
	if (!op)
		return brig_fail(err, BRIG_E_INVALID, 0, "unknown operation '%.32s'", name);
	if (op->new_work && c->d->draining)
		return brig_fail(err, BRIG_E_UNAVAILABLE, 0, "the server is ending");
	if (!op->takes_fds && c->nfds)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' takes no descriptors", name);
	if (op->noted && !note_admits(c, err))
		return -1;
	(void)FAILPOINT("request");
	int r = op->fn(c, req, err);
	if (op->noted)
		note_add(c, name, r == 0 ? "ok" : "refused");
	return r;
}

void ops_request(struct conn *c, const void *text, size_t n)
{
	static const struct conn_role waiter = { .gone = waiter_gone };
	struct brig_err err = BRIG_ERR_INIT;
	json_t *req = NULL;
	conn_set_role(c, CONN_WAIT, &waiter, NULL);
	if (fields_parse(text, n, &req, &err) < 0 || dispatch(c, req, &err) < 0) {
		c->role = NULL;
		conn_error(c, &err);
	}
	json_decref(req);
}
