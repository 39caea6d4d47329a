/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_serve.c: `brig serve`: a server in the foreground, or in the background for run -d and
 * create. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/spawn.h"
#include "cli/supervisor.h"

/* As brigd has them. */
#define POOLS_MAX 16u
#define POOL_SIZE_MAX 4096
/* As brig-api has it. */
#define WARM_SIZE_MAX 256

struct serve_opts {
	const char *socket, *data;
	struct strlist pools, http, warm;
	const char *domain, *tls_cert, *tls_key, *log_format, *audit_on_full;
	uint64_t audit_rotate, audit_keep;
	uint64_t idle_exit_ms;
	bool background, no_http;
};

static const struct flag flags[] = {
	{ .name = "socket",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, socket),
	  .arg = "PATH",
	  .complete = COMPLETE_FILE,
	  .help = "where to listen; default: BRIG_SOCKET, or by user (see ENVIRONMENT)" },
	{ .name = "data",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, data),
	  .arg = "DIR",
	  .complete = COMPLETE_DIR,
	  .help = "where images are kept; default: BRIG_DATA, or by user (see ENVIRONMENT)" },
	{ .name = "pool",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, pools),
	  .arg = "IMAGE=N",
	  .complete = COMPLETE_IMAGE,
	  .help = "keep N sandboxes of an image ready, with default limits" },
	{ .name = "idle-exit",
	  .kind = FLAG_TIME,
	  .at = offsetof(struct serve_opts, idle_exit_ms),
	  .arg = "DURATION",
	  .help = "end when there was no sandbox and no client for so long" },
	{ .name = "http",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, http),
	  .arg = "ADDR:PORT",
	  .help = "where to speak HTTP, at most four addresses; port 0 is any free one; default: "
		  "127.0.0.1:7681" },
	{ .name = "warm",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, warm),
	  .arg = "TEMPLATE=N",
	  .complete = COMPLETE_IMAGE,
	  .help = "keep N sandboxes of a template ready for clients of the HTTP side, each with a "
		  "running Python for the code interpreter" },
	{ .name = "no-http",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct serve_opts, no_http),
	  .help = "do not speak HTTP" },
	{ .name = "domain",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, domain),
	  .arg = "NAME",
	  .help = "ports of sandboxes are served as PORT-SANDBOX.NAME; with :PORT if clients use "
		  "another than 443" },
	{ .name = "tls-cert",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, tls_cert),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "speak TLS, with this certificate and its chain (PEM)" },
	{ .name = "tls-key",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, tls_key),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "the certificate's key (PEM)" },
	{ .name = "log-format",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, log_format),
	  .arg = "FORMAT",
	  .help = "text or json: how the log on standard error is written; with it the HTTP side "
		  "also writes a line for each request" },
	{ .name = "audit-rotate",
	  .kind = FLAG_SIZE,
	  .at = offsetof(struct serve_opts, audit_rotate),
	  .arg = "SIZE",
	  .help = "begin another file of the audit log beyond this size, at least 64K; default: "
		  "64M" },
	{ .name = "audit-keep",
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct serve_opts, audit_keep),
	  .arg = "N",
	  .help = "keep the newest N files of the audit log, 2 to 4096, and remove older ones; "
		  "default: keep all" },
	{ .name = "audit-on-full",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, audit_on_full),
	  .arg = "WHAT",
	  .choices = "refuse continue",
	  .help = "when the audit log cannot be written: refuse requests that change something, or "
		  "continue and record later how many were lost; default: refuse" },
	{ .name = "background",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct serve_opts, background),
	  .hidden = true,
	  .help = "leave the caller; descriptor 3 is told when it listens" },
	FLAG_END,
};

static int pool_check(const char *flag, const char *arg, const char *text, int max,
		      struct brig_err *err)
{
	const char *eq = strrchr(text, '=');
	size_t digits = eq ? strspn(eq + 1, "0123456789") : 0;
	int n = digits >= 1 && digits <= 4 && !eq[1 + digits] ? atoi(eq + 1) : 0;
	if (eq && eq != text && n >= 1 && n <= max)
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0, "%s '%.64s' is not %s=N with N from 1 to %d", flag,
			 text, arg, max);
}

/* Host name characters, and a port. */
static bool domain_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-."), all = strlen(name);
	if (n == 0 || all > 240 || name[0] == '.' || name[n - 1] == '.')
		return false;
	return n == all || (name[n] == ':' && all - n >= 2 && all - n <= 6 &&
			    strspn(name + n + 1, "0123456789") == all - n - 1);
}

/* 0: *ret is filled; 1: no HTTP is wanted; -1 with err. */
static int api_options(const struct serve_opts *o, struct apiproc_opts *ret, struct brig_err *err)
{
	static const char *const standard[] = { API_ADDR_DEFAULT };
	const char *const *list = o->http.n ? o->http.v : standard;
	size_t n = o->http.n ? o->http.n : 1;
	if (o->no_http && (o->audit_rotate || o->audit_keep || o->audit_on_full))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "--no-http excludes --audit-rotate, --audit-keep and "
				 "--audit-on-full: without HTTP there is no audit log");
	if (o->no_http && (o->http.n || o->warm.n || o->domain || o->tls_cert || o->tls_key))
		return brig_fail(
			err, BRIG_E_INVALID, 0,
			"--no-http excludes --http, --warm, --domain, --tls-cert and --tls-key");
	if (o->no_http)
		return 1;
	if (n > API_ADDRS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u --http", API_ADDRS_MAX);
	if (o->domain && !domain_ok(o->domain))
		return brig_fail(
			err, BRIG_E_INVALID, 0,
			"--domain '%.80s' is no lower-case host name, with or without :PORT",
			o->domain);
	if (o->warm.n > API_WARM_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u --warm", API_WARM_MAX);
	for (size_t i = 0; i < o->warm.n; i++)
		if (pool_check("--warm", "TEMPLATE", o->warm.v[i], WARM_SIZE_MAX, err) < 0)
			return -1;
	if (o->audit_rotate && (o->audit_rotate < 65536 || o->audit_rotate > INT64_MAX))
		return brig_fail(err, BRIG_E_INVALID, 0, "--audit-rotate is at least 64K");
	if (o->audit_keep && (o->audit_keep < 2 || o->audit_keep > 4096))
		return brig_fail(err, BRIG_E_INVALID, 0, "--audit-keep is 2 to 4096");
	*ret = (struct apiproc_opts){ .naddr = (unsigned)n,
				      .audit_rotate = o->audit_rotate,
				      .audit_keep = o->audit_keep,
				      .audit_on_full = o->audit_on_full,
				      .warm = o->warm.v,
				      .nwarm = (unsigned)o->warm.n,
				      .domain = o->domain,
				      .log_format = o->log_format,
				      .tls_cert = o->tls_cert,
				      .tls_key = o->tls_key };
	for (size_t i = 0; i < n; i++)
		if (api_addr_parse(list[i], &ret->addr[i], err) < 0)
			return brig_ctx(err, "--http");
	return apiproc_check(ret, err);
}

static int serve(struct cli *cli, const struct serve_opts *o, const char *const *extra)
{
	struct brig_err err = BRIG_ERR_INIT;
	char data[PATH_MAX];
	struct supervisor_opts s = { .data = data,
				     .extra = extra,
				     .ready = o->background ? 3 : -1 };
	if (server_socket_path(o->socket, s.socket, &err) < 0 ||
	    server_data_dir(o->data, data, sizeof(data), &err) < 0)
		return cli_usage_err(cli, &err);
	struct apiproc_opts api;
	int http = api_options(o, &api, &err);
	if (http < 0)
		return cli_usage_err(cli, &err);
	s.api = http == 0 ? &api : NULL;
	/* The daemons, and what they start, must look for the same things. */
	if (setenv("BRIG_SOCKET", s.socket, 1) < 0 || setenv("BRIG_DATA", data, 1) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, errno, "prepare the environment");
		return cli_fail(cli, &err);
	}
	if (o->background) {
		/* The caller waits for the first process only. */
		pid_t pid = fork();
		if (pid != 0)
			return pid < 0 ? BRIG_EXIT_FAILED : 0;
		(void)fd_set_cloexec(3, 1);
		/* Keep no file system of the caller busy, if paths allow. */
		if (s.socket[0] == '/' && data[0] == '/' && chdir("/") < 0)
			return BRIG_EXIT_FAILED;
	}
	return supervisor_run(&s, &err) < 0 ? cli_fail(cli, &err) : 0;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct serve_opts *o = opts;
	const char *extra[2 * POOLS_MAX + 5];
	struct brig_err err = BRIG_ERR_INIT;
	char idle[32];
	size_t n = 0;
	(void)argc;
	(void)argv;
	if (o->pools.n > POOLS_MAX)
		return cli_usage(cli, "more than %u --pool", POOLS_MAX);
	for (size_t i = 0; i < o->pools.n; i++) {
		if (pool_check("--pool", "IMAGE", o->pools.v[i], POOL_SIZE_MAX, &err) < 0)
			return cli_usage_err(cli, &err);
		extra[n++] = "--pool";
		extra[n++] = o->pools.v[i];
	}
	if (o->idle_exit_ms > UINT32_MAX)
		return cli_usage(cli, "--idle-exit is longer than 49 days");
	if (o->idle_exit_ms) {
		snprintf(idle, sizeof(idle), "%llu", (unsigned long long)o->idle_exit_ms);
		extra[n++] = "--idle-exit-ms";
		extra[n++] = idle;
	}
	if (o->log_format && strcmp(o->log_format, "text") != 0 &&
	    strcmp(o->log_format, "json") != 0)
		return cli_usage(cli, "--log-format is text or json");
	if (o->log_format) {
		extra[n++] = "--log-format";
		extra[n++] = o->log_format;
	}
	extra[n] = NULL;
	return serve(cli, o, extra);
}

const struct cmd cmd_serve = {
	.name = "serve",
	.operands = "",
	.summary = "run a server in the foreground",
	.about = "A server makes every run faster, keeps detached sandboxes, and can keep some "
		 "ready in "
		 "pools. It ends, with all its sandboxes, on SIGTERM, SIGINT and SIGHUP. If one of "
		 "its "
		 "daemons dies, what it left is removed and it is started again.\n"
		 "\n"
		 "Only the user who started it and root can connect to its socket.\n"
		 "\n"
		 "It also speaks HTTP, on 127.0.0.1:7681 unless told otherwise, to whoever has an "
		 "API "
		 "key: brig's own API below /v1 and the one that E2B's client libraries use. The "
		 "first "
		 "start makes a key and shows it, once; `brig key` makes and revokes others. An "
		 "address "
		 "that other machines reach needs TLS. The part that speaks HTTP is a process of "
		 "its "
		 "own, and the sandboxes outlive its death.",
	.flags = flags,
	.opts_size = sizeof(struct serve_opts),
	.run = run,
};
