/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Input is always passed on live, and a terminal is used when both input and output are one and
 * brig is in its foreground. In the background (`brig run make &`) neither is touched: reading a
 * terminal there stops a process. An input that is /dev/null, or was closed when brig started,
 * needs no channel at all.
 *
 * How brig ends: with the command's own exit code, or 124, 126, 127, 128+n as in the STATUS; with
 * 125 if brig or its server failed; with 141 if nobody read the output any more (the command is
 * killed then); with 128+n if signal n came before the command ran, or came again and again.
 */
#include "cli/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/status.h"
#include "cli/tty.h"

static bool is_null_device(int fd)
{
	struct stat st;
	/* 1:3 is /dev/null: Documentation/admin-guide/devices.txt. */
	return fstat(fd, &st) < 0 || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

static int decide_tty(struct command *c)
{
	const struct command_opts *o = c->o;
	bool in = isatty(0), ours = in && tty_is_ours(0);
	bool may = !o->no_tty && o->tty != TRI_OFF;
	if (o->tty == TRI_ON && o->no_tty)
		return cli_usage(c->cli, "--tty and --no-tty exclude each other");
	if (o->tty == TRI_ON && !in && !o->detach) {
		struct brig_err err = BRIG_ERR_INIT;
		brig_err_set(&err, BRIG_E_INVALID, 0, "--tty: standard input is no terminal");
		brig_err_remedy(&err, "leave -t out: a terminal is used where there is one");
		return cli_usage_err(c->cli, &err);
	}
	c->stream.stdin_fd = -1;
	if (o->detach) {
		c->tty = o->tty == TRI_ON;
		return 0;
	}
	if (o->tty == TRI_ON)
		c->tty = true;
	else
		c->tty = may && ours && isatty(1) && o->interactive != TRI_OFF;
	c->stream.tty = c->tty;
	bool wanted = o->interactive == TRI_ON || (o->interactive == TRI_UNSET && (!in || ours));
	if (c->tty || (wanted && !is_null_device(0)))
		c->stream.stdin_fd = 0;
	return 0;
}

int command_begin(struct command *c, struct cli *cli, const struct command_opts *o)
{
	struct brig_err err = BRIG_ERR_INIT;
	*c = (struct command){
		.cli = cli,
		.o = o,
		.stream = { .stdin_fd = -1, .signals = !o->detach, .detach = o->detach },
		.sink = -1
	};
	int r = decide_tty(c);
	if (r)
		return r;
	if (o->status_json && o->detach)
		return cli_usage(cli,
				 "--status-json needs the command's end, which --detach does not "
				 "wait for");
	if (o->status_json && status_sink_open(o->status_json, &c->sink, &err) < 0)
		return cli_fail(cli, &err);
	return 0;
}

int command_add(const struct command *c, json_t *req)
{
	uint16_t rows = 0, cols = 0;
	int r = 0;
	if (c->stream.tty)
		tty_size(0, &rows, &cols);
	r |= json_object_set_new(req, "tty", json_boolean(c->tty));
	r |= json_object_set_new(req, "stdin", json_boolean(c->stream.stdin_fd >= 0));
	if (rows && cols) {
		r |= json_object_set_new(req, "rows", json_integer(rows));
		r |= json_object_set_new(req, "cols", json_integer(cols));
	}
	if (c->o->detach)
		r |= json_object_set_new(req, "detach", json_true());
	return r;
}

static void write_failure(struct command *c, const json_t *error)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (c->sink < 0)
		return;
	json_t *status = status_of_failure(error);
	if (!status || status_sink_write(c->sink, status, &err) < 0)
		cli_note("%s", status ? err.msg : "write --status-json: out of memory");
	json_decref(status);
}

int command_fail(struct command *c, const struct brig_err *err)
{
	json_t *error = err_to_json(err);
	if (error)
		write_failure(c, error);
	json_decref(error);
	return cli_fail(c->cli, err);
}

static void tell_warnings(const struct command *c, const json_t *rep)
{
	json_t *list = json_object_get(rep, "warnings"), *v;
	size_t i;
	json_array_foreach(list, i, v) if (!c->o->quiet && json_is_string(v))
		cli_note("warning: %s", json_string_value(v));
}

/* Nobody else tells where a port that was left to the host has come to be. */
static void tell_ports(void *ctx, const json_t *rep)
{
	const struct command *c = ctx;
	json_t *list = json_object_get(rep, "ports"), *v;
	size_t i;
	json_array_foreach(list, i, v)
	{
		const char *addr = json_string_value(json_object_get(v, "address"));
		if (!c->o->quiet && addr)
			cli_note("port %lld is published at %s%s%s:%lld",
				 (long long)json_integer_value(json_object_get(v, "port")),
				 strchr(addr, ':') ? "[" : "", addr, strchr(addr, ':') ? "]" : "",
				 (long long)json_integer_value(json_object_get(v, "host_port")));
	}
}

/* The last that the network refused to a command that failed, which may be why. */
#define REFUSED_TOLD 3u
static void tell_refused(const json_t *status)
{
	const json_t *list = json_object_get(status, "denials");
	size_t n = json_array_size(list);
	for (size_t i = n > REFUSED_TOLD ? n - REFUSED_TOLD : 0; i < n; i++) {
		const json_t *e = json_array_get(list, i);
		const char *message = json_string_value(json_object_get(e, "message"));
		const char *allow = json_string_value(json_object_get(e, "allow"));
		const char *dest = allow ? strchr(allow, ' ') : NULL;
		if (message && dest)
			cli_note("refused: %s; to allow it: --%.*s '%s'", message, (int)(dest - allow), allow,
				 dest + 1);
		else if (message)
			cli_note("refused: %s", message);
	}
}

static void tell_reason(const struct command *c, const json_t *status, int code)
{
	char text[200];
	const json_t *error = json_object_get(status, "error");
	if (error) {
		cli_fail_json(c->cli, error);
		return;
	}
	if (c->o->quiet)
		return;
	if (status_reason(status, text, sizeof(text)))
		cli_note("stopped: %s", text);
	else if (code != 0 && status_limits_hit(status, text, sizeof(text)))
		cli_note("limits met: %s", text);
	if (code != 0)
		tell_refused(status);
}

/* END: a STATUS, or an error object alone where there is none. */
static int finish_end(struct command *c, const json_t *end)
{
	struct brig_err err = BRIG_ERR_INIT;
	const json_t *error = json_object_get(end, "error");
	int code = status_exit_code(end);
	if (code < 0 && json_is_object(error)) {
		write_failure(c, error);
		return cli_fail_json(c->cli, error);
	}
	if (code < 0) {
		brig_err_set(&err, BRIG_E_PROTOCOL, 0,
			     "the server did not say how the command ended");
		return command_fail(c, &err);
	}
	tell_reason(c, end, code);
	if (c->sink >= 0 && status_sink_write(c->sink, end, &err) < 0)
		return cli_fail(c->cli, &err);
	return code;
}

static int finish_detached(struct command *c, const json_t *rep)
{
	const char *id = json_string_value(json_object_get(rep, "id"));
	const char *exec = json_string_value(json_object_get(rep, "exec"));
	if (c->cli->json)
		return cli_print_json(c->cli, rep);
	printf("%s\n", exec ? exec : id ? id : "");
	return cli_flush(c->cli, 0);
}

static int finish(struct command *c, const struct stream_result *res)
{
	struct brig_err err = BRIG_ERR_INIT;
	int code;
	if (res->error) {
		write_failure(c, res->error);
		return cli_fail_json(c->cli, res->error);
	}
	if (res->rep)
		tell_warnings(c, res->rep);
	if (res->lost && !c->o->quiet)
		cli_note("%llu bytes of output are missing: they were under way when the server's brigd ended",
			 (unsigned long long)res->lost);
	if (res->signal) {
		brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "given up because of signal %d",
			     res->signal);
		json_t *error = err_to_json(&err);
		write_failure(c, error);
		json_decref(error);
		return BRIG_EXIT_SIGNAL_BASE + res->signal;
	}
	if (c->o->detach && res->rep)
		return finish_detached(c, res->rep);
	if (res->end) {
		code = finish_end(c, res->end);
		if (!res->out_error)
			return code;
	}
	if (res->out_error == EPIPE)
		return BRIG_EXIT_SIGNAL_BASE + SIGPIPE;
	if (res->out_error)
		brig_err_set(&err, BRIG_E_EXHAUSTED, res->out_error, "write the command's output");
	else
		brig_err_set(&err, BRIG_E_PROTOCOL, 0,
			     "the server did not say how the command ended");
	return res->end ? cli_fail(c->cli, &err) : command_fail(c, &err);
}

/* Something of brig broke, maybe brig-jaild, which would have cleaned up. */
static bool is_host_fault(const struct stream_result *res)
{
	const char *reason = json_string_value(json_object_get(res->end, "stop_reason"));
	const char *code = json_string_value(json_object_get(res->error, "code"));
	return (reason && strcmp(reason, "host_fault") == 0) ||
	       (code && strcmp(code, brig_code_name(BRIG_E_UNAVAILABLE)) == 0);
}

/* What a private server that broke wrote when it did; the server itself is gone. */
static void tell_server_words(const struct command *c, struct conn *conn)
{
	struct server_words words;
	fd_close(&conn->fd);
	server_post_mortem(&conn->server);
	if (c->o->quiet || conn->server.remote || !server_last_words(&conn->server, &words))
		return;
	cli_note("its server said: %s", words.line);
	if (words.remedy[0])
		fprintf(stderr, "  remedy: %s\n", words.remedy);
}

int command_run(struct command *c, enum conn_mode mode, const json_t *req, const int *fds,
		unsigned nfds)
{
	struct conn conn = CONN_NONE;
	struct stream_result res = { .rep = NULL };
	struct brig_err err = BRIG_ERR_INIT;
	conn.tier = json_string_value(json_object_get(json_object_get(req, "spec"), "tier"));
	int r = conn_open(&conn, mode, &err);
	if (r < 0 && c->id)
		conn_absent(c->id, &err);
	if (r == 0)
		r = conn_request(&conn, req, fds, nfds, &err);
	c->stream.started = tell_ports;
	c->stream.ctx = c;
	if (r == 0)
		r = stream_run(&conn, &c->stream, &res, &err);
	int code = r < 0 ? command_fail(c, &err) : finish(c, &res);
	if (is_host_fault(&res))
		tell_server_words(c, &conn);
	stream_result_done(&res);
	conn_done(&conn);
	command_done(c);
	return code;
}

void command_done(struct command *c)
{
	fd_close(&c->sink);
}
