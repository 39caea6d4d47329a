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
#include "brig/tier.h"
#include "cli/activate.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/limit.h"
#include "cli/selftest.h"
#include "cli/selftest_keep.h"
#include "cli/spawn.h"
#include "cli/spec.h"
#include "cli/supervisor.h"

/* As brigd has them. */
#define POOLS_MAX 16u
#define POOL_SIZE_MAX 4096
/* As brig-api has it. */
#define WARM_SIZE_MAX 256

/* Longer than a service manager waits. */
#define GRACE_DEFAULT "10s"
#define GRACE_MAX_MS (3600u * 1000u)

/* Flags of one table of the configuration file stand together, for config_print(). */
struct serve_opts {
	const char *config, *socket, *data, *grace, *tier, *guest_kernel;
	struct strlist pools, http, warm, accept;
	const char *domain, *tls_cert, *tls_key, *log_level, *log_format, *audit_on_full;
	const char *secret_key;
	uint64_t audit_rotate, audit_keep;
	uint64_t idle_exit_ms;
	enum tri no_http, no_net, require_selftest;
	bool background, check;
};

static const struct flag flags[] = {
	{ .name = "config",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, config),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "read a configuration file (see CONFIGURATION); flags outweigh it" },
	{ .name = "check",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct serve_opts, check),
	  .help = "start nothing: check flags and configuration, and print what would be in "
		  "force, as a configuration file" },
	{ .name = "socket",
	  .key = "socket",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, socket),
	  .arg = "PATH",
	  .complete = COMPLETE_FILE,
	  .help = "where to listen; default: BRIG_SOCKET, or by user (see ENVIRONMENT)" },
	{ .name = "data",
	  .key = "data",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, data),
	  .arg = "DIR",
	  .complete = COMPLETE_DIR,
	  .help = "where images are kept; default: BRIG_DATA, or by user (see ENVIRONMENT)" },
	{ .name = "secret-key",
	  .key = "secret_key",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, secret_key),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "the key that secrets are encrypted with, made if it is not there; default: "
		  "secret.key in the data folder" },
	{ .name = "tier",
	  .key = "tier",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, tier),
	  .arg = "TIER",
	  .choices = "auto container gvisor microvm",
	  .help = "isolation tier of requests that name none; default: BRIG_TIER, or container" },
	{ .name = "guest-kernel",
	  .key = "guest_kernel",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, guest_kernel),
	  .arg = "FILE",
	  .help = "kernel of microVMs, PREFIX/boot/vmlinuz-RELEASE with PREFIX/lib/modules/RELEASE; default: "
		  "BRIG_GUEST_KERNEL, or the newest cloud kernel of Debian in /boot" },
	{ .name = "pool",
	  .key = "pool[].image",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, pools),
	  .arg = "IMAGE=N[:TIER]",
	  .complete = COMPLETE_IMAGE,
	  .help = "keep N sandboxes of an image ready, with default limits, in the server's tier or in "
		  "TIER" },
	{ .name = "idle-exit",
	  .key = "idle_exit",
	  .kind = FLAG_TIME,
	  .at = offsetof(struct serve_opts, idle_exit_ms),
	  .arg = "DURATION",
	  .help = "end when there was no sandbox and no client for so long" },
	{ .name = "shutdown-grace",
	  .key = "shutdown_grace",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, grace),
	  .arg = "DURATION",
	  .help = "let requests under way finish for so long when the end is asked for; 0 for not "
		  "at all; default: " GRACE_DEFAULT },
	{ .name = "accept",
	  .key = "accept",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, accept),
	  .arg = "NAME",
	  .help = "run every sandbox, those of HTTP clients included, even if this host cannot "
		  "enforce NAME (see ENVIRONMENT, BRIG_ACCEPT)" },
	{ .name = "require-selftest",
	  .key = "require_selftest",
	  .kind = FLAG_TRI,
	  .at = offsetof(struct serve_opts, require_selftest),
	  .help = "offer no tier whose selftest (see selftest) fails; it is run now, unless the data "
		  "folder has its result for this kernel and this brig" },
	{ .name = "no-net",
	  .key = "network",
	  .key_negates = true,
	  .kind = FLAG_TRI,
	  .at = offsetof(struct serve_opts, no_net),
	  .help = "no sandbox gets a network, whatever it asks for" },
	{ .name = "no-http",
	  .key = "http.enabled",
	  .key_negates = true,
	  .kind = FLAG_TRI,
	  .at = offsetof(struct serve_opts, no_http),
	  .help = "do not speak HTTP" },
	{ .name = "http",
	  .key = "http.listen",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, http),
	  .arg = "ADDR:PORT",
	  .help = "where to speak HTTP, at most four addresses; port 0 is any free one; default: "
		  "127.0.0.1:7681" },
	{ .name = "warm",
	  .key = "pool[].template",
	  .kind = FLAG_LIST,
	  .at = offsetof(struct serve_opts, warm),
	  .arg = "TEMPLATE=N",
	  .complete = COMPLETE_IMAGE,
	  .help = "keep N sandboxes of a template ready for clients of the HTTP side, each with a "
		  "running Python for the code interpreter" },
	{ .name = "domain",
	  .key = "http.domain",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, domain),
	  .arg = "NAME",
	  .help = "ports of sandboxes are served as PORT-SANDBOX.NAME; with :PORT if clients use "
		  "another than 443" },
	{ .name = "tls-cert",
	  .key = "http.tls_cert",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, tls_cert),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "speak TLS, with this certificate and its chain (PEM)" },
	{ .name = "tls-key",
	  .key = "http.tls_key",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, tls_key),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "the certificate's key (PEM)" },
	{ .name = "log-level",
	  .key = "log.level",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, log_level),
	  .arg = "LEVEL",
	  .choices = "error warn info debug",
	  .help = "what is written to standard error; default: info" },
	{ .name = "log-format",
	  .key = "log.format",
	  .choices = "text json",
	  .kind = FLAG_STR,
	  .at = offsetof(struct serve_opts, log_format),
	  .arg = "FORMAT",
	  .help = "text or json: how the log on standard error is written; with it the HTTP side "
		  "also writes a line for each request" },
	{ .name = "audit-rotate",
	  .key = "audit.rotate",
	  .kind = FLAG_SIZE,
	  .at = offsetof(struct serve_opts, audit_rotate),
	  .arg = "SIZE",
	  .help = "begin another file of the audit log beyond this size, at least 64K; default: "
		  "64M" },
	{ .name = "audit-keep",
	  .key = "audit.keep",
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct serve_opts, audit_keep),
	  .arg = "N",
	  .help = "keep the newest N files of the audit log, 2 to 4096, and remove older ones; "
		  "default: keep all" },
	{ .name = "audit-on-full",
	  .key = "audit.on_full",
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

/* tiers: ":TIER" may follow. */
static int pool_check(const char *flag, const char *arg, const char *text, int max, bool tiers,
		      struct brig_err *err)
{
	const char *eq = strrchr(text, '=');
	size_t digits = eq ? strspn(eq + 1, "0123456789") : 0;
	const char *end = eq ? eq + 1 + digits : "";
	int n = digits >= 1 && digits <= 4 && (!*end || (*end == ':' && tiers)) ? atoi(eq + 1) : 0;
	if (n && *end && brig_tier_by_name(end + 1) == BRIG_TIER__N)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "%s '%.64s': tiers are container, gvisor and microvm", flag, text);
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

/* What one command line says; the file may know the rest of HTTP and leave it switched off. */
static int flags_check(const struct serve_opts *o, struct brig_err *err)
{
	if (o->no_http == TRI_ON && (o->audit_rotate || o->audit_keep || o->audit_on_full))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "--no-http excludes --audit-rotate, --audit-keep and "
				 "--audit-on-full: without HTTP there is no audit log");
	if (o->no_http != TRI_ON ||
	    !(o->http.n || o->warm.n || o->domain || o->tls_cert || o->tls_key))
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0,
			 "--no-http excludes --http, --warm, --domain, --tls-cert and --tls-key");
}

/* The sockets of the service manager, if there are any, instead of the addresses. */
static int api_addresses(const struct serve_opts *o, const struct activation *a,
			 struct apiproc_opts *ret, struct brig_err *err)
{
	for (unsigned i = 0; i < a->nhttp; i++) {
		int r = api_addr_of(a->http[i], &ret->addr[i]);
		if (r < 0)
			return brig_fail(err, BRIG_E_INTERNAL, -r,
					 "ask a socket of the service manager for its address");
		ret->fd[i] = a->http[i];
	}
	ret->naddr = a->nhttp;
	ret->passed = a->nhttp != 0;
	if (ret->passed)
		return 0;
	for (size_t i = 0; i < o->http.n; i++)
		if (api_addr_parse(o->http.v[i], &ret->addr[i], err) < 0)
			return brig_ctx(err, "--http");
	ret->naddr = (unsigned)o->http.n;
	return 0;
}

/* 0: *ret is filled; 1: no HTTP is wanted; -1 with err. */
static int api_options(const struct serve_opts *o, const struct activation *a, unsigned grace_ms,
		       struct apiproc_opts *ret, struct brig_err *err)
{
	if (o->no_http == TRI_ON && a->nhttp) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "the service manager hands over sockets for HTTP, which is switched "
			     "off");
		return brig_fix(err, "take ListenStream= of HTTP from the socket unit");
	}
	if (o->no_http == TRI_ON)
		return 1;
	if (o->http.n > API_ADDRS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u --http", API_ADDRS_MAX);
	if (o->domain && !domain_ok(o->domain))
		return brig_fail(
			err, BRIG_E_INVALID, 0,
			"--domain '%.80s' is no lower-case host name, with or without :PORT",
			o->domain);
	if (o->warm.n > API_WARM_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u --warm", API_WARM_MAX);
	for (size_t i = 0; i < o->warm.n; i++)
		if (pool_check("--warm", "TEMPLATE", o->warm.v[i], WARM_SIZE_MAX, false, err) < 0)
			return -1;
	if (o->audit_rotate && (o->audit_rotate < 65536 || o->audit_rotate > INT64_MAX))
		return brig_fail(err, BRIG_E_INVALID, 0, "--audit-rotate is at least 64K");
	if (o->audit_keep && (o->audit_keep < 2 || o->audit_keep > 4096))
		return brig_fail(err, BRIG_E_INVALID, 0, "--audit-keep is 2 to 4096");
	*ret = (struct apiproc_opts){ .grace_ms = grace_ms,
				      .audit_rotate = o->audit_rotate,
				      .audit_keep = o->audit_keep,
				      .audit_on_full = o->audit_on_full,
				      .log_level = o->log_level,
				      .secret_key = o->secret_key,
				      .warm = o->warm.v,
				      .nwarm = (unsigned)o->warm.n,
				      .domain = o->domain,
				      .log_format = o->log_format,
				      .tls_cert = o->tls_cert,
				      .tls_key = o->tls_key };
	if (api_addresses(o, a, ret, err) < 0)
		return -1;
	return apiproc_check(ret, err);
}

/* Everything that outlives the checks. */
struct serve {
	struct serve_opts *o;
	struct config config;
	struct activation activation;
	struct supervisor_opts s;
	struct apiproc_opts api;
	char data[PATH_MAX], idle[32];
	char accept[256]; /* names with commas */
	char refused[BRIG_TIER__N][512];
	const char *extra[2 * POOLS_MAX + 12 + 2 * (1 + BRIG_TIER__N)];
};

static int config_read(struct cli *cli, struct serve *v, struct brig_err *err)
{
	struct serve_opts *o = v->o;
	char path[PATH_MAX] = "";
	/* A server that is started by the way must not depend on what is meant for another. */
	if (!o->config && !o->background)
		config_default_path(path);
	if (!o->config && !path[0])
		return 0;
	if (config_load(o->config ? o->config : path, &v->config, err) < 0) {
		if (o->config || err->code != BRIG_E_NOT_FOUND)
			return -1;
		*err = (struct brig_err)BRIG_ERR_INIT;
		return 0;
	}
	return config_apply(&v->config, cli, cli->cmd, o, err);
}

/* The unix socket of the service manager says itself where it is. */
static int places(struct serve *v, struct brig_err *err)
{
	struct serve_opts *o = v->o;
	const char *passed = v->activation.socket >= 0 ? v->activation.socket_path : NULL;
	if (server_socket_path(o->socket ? o->socket : passed, v->s.socket, err) < 0 ||
	    server_data_dir(o->data, v->data, sizeof(v->data), err) < 0)
		return -1;
	if (passed && strcmp(passed, v->s.socket) != 0) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "the service manager listens on '%s', and --socket is '%s'", passed,
			     v->s.socket);
		return brig_fix(err, "name the same path in both, or leave --socket away");
	}
	o->socket = v->s.socket;
	o->data = v->data;
	return 0;
}

static int accepted(struct serve *v, struct brig_err *err)
{
	struct serve_opts *o = v->o;
	const char *env = getenv("BRIG_ACCEPT");
	json_t *names = json_array(), *name;
	size_t i, at = 0;
	int r = names ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read --accept");
	/* The variable of whoever started a server by the way is in each of his requests. */
	if (env && env[0] && !o->background && strlist_add(&o->accept, env) < 0)
		r = brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read BRIG_ACCEPT");
	for (i = 0; r == 0 && i < o->accept.n; i++)
		r = spec_accept_add(names, o->accept.v[i] == env ? "BRIG_ACCEPT" : "--accept",
				    o->accept.v[i], err);
	json_array_foreach(names, i, name)
	{
		const char *text = json_string_value(name);
		if (r == 0 && strlen(text) + 2 > sizeof(v->accept) - at)
			r = brig_fail(err, BRIG_E_INVALID, 0, "--accept names something twice");
		if (r == 0)
			at += (size_t)snprintf(v->accept + at, sizeof(v->accept) - at, "%s%s",
					       at ? "," : "", text);
	}
	json_decref(names);
	return r;
}

/* What brigd is told beside its descriptors. */
static int daemon_options(struct serve *v, struct brig_err *err)
{
	const struct serve_opts *o = v->o;
	size_t n = 0;
	if (o->pools.n > POOLS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u --pool", POOLS_MAX);
	for (size_t i = 0; i < o->pools.n; i++) {
		if (pool_check("--pool", "IMAGE", o->pools.v[i], POOL_SIZE_MAX, true, err) < 0)
			return -1;
		v->extra[n++] = "--pool";
		v->extra[n++] = o->pools.v[i];
	}
	if (o->idle_exit_ms > UINT32_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "--idle-exit is longer than 49 days");
	if (o->idle_exit_ms) {
		snprintf(v->idle, sizeof(v->idle), "%llu", (unsigned long long)o->idle_exit_ms);
		v->extra[n++] = "--idle-exit-ms";
		v->extra[n++] = v->idle;
	}
	if (v->accept[0]) {
		v->extra[n++] = "--accept";
		v->extra[n++] = v->accept;
	}
	if (o->tier) {
		v->extra[n++] = "--tier";
		v->extra[n++] = o->tier;
	}
	if (o->log_format) {
		v->extra[n++] = "--log-format";
		v->extra[n++] = o->log_format;
	}
	v->extra[n++] = "--log-level";
	v->extra[n++] = o->log_level;
	v->extra[n] = NULL;
	return 0;
}

/* Flags, file and environment become one set of options, each with its value; nothing is opened
 * that a check may not open. */
static int resolve(struct cli *cli, struct serve *v, struct brig_err *err)
{
	struct serve_opts *o = v->o;
	uint64_t grace_ms = 0;
	if (flags_check(o, err) < 0)
		return -1;
	/* First: descriptors from 3 on are the service manager's. */
	if (!o->background && activation_take(&v->activation, err) < 0)
		return -1;
	if (config_read(cli, v, err) < 0 || places(v, err) < 0 || accepted(v, err) < 0)
		return -1;
	if (o->http.n == 0 && strlist_add(&o->http, API_ADDR_DEFAULT) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare HTTP");
	o->no_http = o->no_http == TRI_ON ? TRI_ON : TRI_OFF;
	v->s.guest_kernel = o->guest_kernel;
	const char *tier = getenv("BRIG_TIER");
	o->tier = o->tier ? o->tier : tier && tier[0] ? tier : "container";
	o->log_level = o->log_level ? o->log_level : "info";
	o->audit_on_full = o->audit_on_full ? o->audit_on_full : "refuse";
	o->grace = o->grace ? o->grace : GRACE_DEFAULT;
	if (quantity_parse(LIMIT_MS, "shutdown-grace", o->grace, &grace_ms, err) < 0)
		return -1;
	if (grace_ms > GRACE_MAX_MS)
		return brig_fail(err, BRIG_E_INVALID, 0, "--shutdown-grace is longer than an hour");
	v->s.grace_ms = (unsigned)grace_ms;
	int http = api_options(o, &v->activation, v->s.grace_ms, &v->api, err);
	if (http < 0)
		return -1;
	v->s.api = http == 0 ? &v->api : NULL;
	o->no_net = o->no_net == TRI_ON ? TRI_ON : TRI_OFF;
	v->s.no_net = o->no_net == TRI_ON;
	return daemon_options(v, err);
}

static void selftest_progress(const char *tier, unsigned at, unsigned of)
{
	if (at == 0)
		cli_note("running %u attacks in tier %s, since no result is kept for this kernel and "
			 "this brig", of, tier);
}

/* What brigd is told not to offer. The result is kept, so that the next start does not wait. */
static int selftest_gate(struct serve *v, struct brig_err *err)
{
	const char *accept = v->accept[0] ? v->accept : NULL;
	struct selftest_opts o = { .private = true, .accept = accept, .progress = selftest_progress };
	struct brig_err kept = BRIG_ERR_INIT;
	bool none = true;
	size_t n = 0;
	json_t *report = selftest_kept(v->data, accept);
	if (!report) {
		if (selftest_run(&o, &report, err) < 0)
			return brig_ctx(err, "selftest");
		if (selftest_keep(v->data, accept, report, &kept) < 0)
			cli_note("%s; the next start runs the attacks again", kept.msg);
	}
	while (v->extra[n])
		n++;
	for (uint32_t t = 0; t < BRIG_TIER__N; t++) {
		const char *tier = brig_tier_name(t);
		char why[400];
		if (!selftest_reason(report, tier, why, sizeof(why))) {
			none = false;
			continue;
		}
		/* Of one that was not there when the result was made nobody need hear, unless it is now. */
		if (json_object_get(json_object_get(report, "tiers"), tier))
			cli_note("tier %s is not offered: %s", tier, why);
		snprintf(v->refused[t], sizeof(v->refused[t]), "%s=%s", tier, why);
		v->extra[n++] = "--refuse-tier";
		v->extra[n++] = v->refused[t];
	}
	json_decref(report);
	/* No sandbox is kept ready that nobody may have. */
	for (size_t i = 0; none && i + 1 < n;) {
		if (strcmp(v->extra[i], "--pool") != 0) {
			i++;
			continue;
		}
		memmove(v->extra + i, v->extra + i + 2, (n - i - 1) * sizeof(v->extra[0]));
		n -= 2;
	}
	v->extra[n] = NULL;
	return 0;
}

static int serve(struct cli *cli, struct serve *v)
{
	const struct serve_opts *o = v->o;
	struct brig_err err = BRIG_ERR_INIT;
	/* The daemons, and what they start, must look for the same things. */
	if (setenv("BRIG_SOCKET", v->s.socket, 1) < 0 || setenv("BRIG_DATA", v->data, 1) < 0) {
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
		if (v->s.socket[0] == '/' && v->data[0] == '/' && chdir("/") < 0)
			return BRIG_EXIT_FAILED;
	}
	/* Before anybody can ask for a sandbox. */
	if (o->require_selftest == TRI_ON && selftest_gate(v, &err) < 0)
		return cli_fail(cli, &err);
	if (v->api.passed)
		cli_note("HTTP on the sockets of the service manager, and no others");
	return supervisor_run(&v->s, &err) < 0 ? cli_fail(cli, &err) : 0;
}

static int check(struct cli *cli, const struct serve *v)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (v->s.api && apiproc_check_files(v->s.api, &err) < 0)
		return cli_fail(cli, &err);
	if (v->config.path[0])
		printf("# from %s\n", v->config.path);
	/* No key holds a secret: keys and certificates are named by their files. */
	if (config_print(stdout, cli->cmd, v->o) < 0)
		return cli_flush(cli, BRIG_EXIT_FAILED);
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct serve v = { .o = opts, .config = CONFIG_NONE, .activation = { .socket = -1 } };
	struct brig_err err = BRIG_ERR_INIT;
	int code;
	(void)argc;
	(void)argv;
	v.s.data = v.data;
	v.s.extra = v.extra;
	v.s.ready = v.o->background ? 3 : -1;
	v.s.activation = v.o->background ? NULL : &v.activation;
	if (resolve(cli, &v, &err) < 0)
		code = cli_usage_err(cli, &err);
	else
		code = v.o->check ? check(cli, &v) : serve(cli, &v);
	config_done(&v.config);
	return code;
}

const struct cmd cmd_serve = {
	.name = "serve",
	.operands = "",
	.summary = "run a server in the foreground",
	.about = "A server makes every run faster, keeps detached sandboxes, and can keep some "
		 "ready in "
		 "pools. SIGHUP executes brigd and brig-api anew, as they are on the disk, and keeps "
		 "the sandboxes. It ends, with all of them, on SIGTERM and SIGINT: it takes "
		 "no more clients, lets requests under way finish for the time of "
		 "--shutdown-grace, and a second signal ends that time. If its brigd or its "
		 "brig-jaild dies, it is started again and sandboxes go on; those of a rootless "
		 "server end with its brig-jaild.\n"
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
