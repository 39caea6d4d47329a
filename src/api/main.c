/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-api's command line, start and end; see api.h for what it is.
 *
 *   brig-api --door-fd N --data-fd N --http-fd N [--http-fd N ...] [--tls-cert-fd N --tls-key-fd N]
 *            [--domain D] [--base-url URL] [--ready-fd N] [--log-level error|warn|info|debug]
 *            [--log-format text|json] [--grace-ms N] [--warm TEMPLATE=N ...]
 *            [--audit-rotate BYTES] [--audit-keep N] [--audit-on-full refuse|continue]
 *            [--secret-key-fd N ...]
 *
 * It is started by `brig serve`, which opens everything that is named here; there is no
 * configuration file. An --http-fd that is a unix socket is the operator's: its requests need no
 * key, and it never speaks TLS. Exit codes: 0 ended as asked, 1 failed or brigd has ended, 2 usage.
 *
 * Theory of operation
 * -------------------
 * The start goes from privilege to none: descriptors and limits, then another user, then what was
 * kept on disk (start.c), then the filter. Nothing that came from a client has been read up to
 * there: the listeners are opened only when the boxes are known again. Then --ready-fd gets one
 * line: empty, or the first key, which exists nowhere else in plain text.
 *
 * SIGTERM and SIGINT: no new connections, and no new requests on those that are there; what is under
 * way may end, for as long as --grace-ms. Then `brig serve` lets brigd end its sandboxes, and their
 * ends are what streams wait for, for another LAST_MS; a second signal means that brigd has been
 * told already.
 *
 * Without brigd there is nothing to serve: every request under way fails, gets LOST_MS to take its
 * answer, and the process ends, to be started again with a new door.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "api/secrets.h"
#include "api/events.h"
#include "api/reqlog.h"
#include "api/warm.h"
#include "api_seccomp.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/size.h"
#include "daemon/confine.h"

#define LAST_MS 4000u
#define LOST_MS 500u /* less than `brig serve` waits before it kills (DIE_NS) */
#define GRACE_MAX_MS (3600u * 1000u)
/* Certificates with their chain are some kilobytes. */
#define PEM_MAX 65536u

struct options {
	int door_fd, data_fd, cert_fd, key_fd, ready_fd;
	int http_fd[API_HTTP_MAX];
	const char *warm[WARM_POOLS_MAX];
	unsigned nhttp, nwarm, grace_ms;
	const char *domain, *base_url;
	enum log_level level;
	enum log_format format;
	bool format_given;
	struct audit_log_opts audit;
	bool audit_goes_on;
	int secret_fd[SECRET_KEYS_MAX];
	unsigned nsecret;
};

/* What is alive beside struct api. */
struct process {
	struct api api;
	struct options o;
	char *cert, *key;
	int signal_fd;
	struct ev_io signal_io;
	struct ev_timer grace;
	bool ending;
};

static int usage(const char *why, const char *what)
{
	fprintf(stderr,
		"brig-api: %s%s\n"
		"usage: brig-api --door-fd N --data-fd N --http-fd N [--http-fd N ...]\n"
		"                [--tls-cert-fd N --tls-key-fd N] [--domain D] [--base-url URL]\n"
		"                [--ready-fd N] [--log-level LEVEL] [--log-format FORMAT]\n"
		"                [--grace-ms N] [--warm TEMPLATE=N ...] [--audit-rotate BYTES]\n"
		"                [--audit-keep N] [--audit-on-full refuse|continue]\n"
		"                [--secret-key-fd N ...]\n",
		why, what);
	return 2;
}

static int descriptor(const char *text)
{
	char *end;
	errno = 0;
	long v = strtol(text, &end, 10);
	return errno || end == text || *end || v < 3 || v > 1 << 20 ? -1 : (int)v;
}

static int audit_parse(int opt, const char *text, struct options *o)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	bool number = !errno && end != text && !*end && text[0] != '-';
	if (opt == 'R' && number && v >= AUDIT_ROTATE_MIN && v <= INT64_MAX)
		o->audit.rotate_bytes = v;
	else if (opt == 'K' && number && v >= 2 && v <= AUDIT_FILES_MAX)
		o->audit.keep_files = (unsigned)v;
	else if (opt == 'F' && (strcmp(text, "refuse") == 0 || strcmp(text, "continue") == 0))
		o->audit_goes_on = text[0] == 'c';
	else
		return usage("not possible for the audit log: ", text);
	return 0;
}

static int milliseconds(const char *text, unsigned *ret)
{
	uint64_t v = 0;
	if (size_parse_count(text, &v) < 0 || v > GRACE_MAX_MS)
		return -1;
	*ret = (unsigned)v;
	return 0;
}

static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "door-fd", required_argument, NULL, 'o' },
		{ "data-fd", required_argument, NULL, 'd' },
		{ "http-fd", required_argument, NULL, 'h' },
		{ "tls-cert-fd", required_argument, NULL, 'c' },
		{ "tls-key-fd", required_argument, NULL, 'k' },
		{ "ready-fd", required_argument, NULL, 'r' },
		{ "domain", required_argument, NULL, 'D' },
		{ "base-url", required_argument, NULL, 'U' },
		{ "log-level", required_argument, NULL, 'v' },
		{ "log-format", required_argument, NULL, 'f' },
		{ "grace-ms", required_argument, NULL, 'g' },
		{ "warm", required_argument, NULL, 'w' },
		{ "secret-key-fd", required_argument, NULL, 's' },
		{ "audit-rotate", required_argument, NULL, 'R' },
		{ "audit-keep", required_argument, NULL, 'K' },
		{ "audit-on-full", required_argument, NULL, 'F' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, fd = -1;
	*o = (struct options){ .door_fd = -1,
			       .data_fd = -1,
			       .cert_fd = -1,
			       .key_fd = -1,
			       .ready_fd = -1,
			       .secret_fd = { -1, -1 },
			       .domain = "",
			       .base_url = "",
			       .level = LOG_INFO };
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (strchr("odhckrs", opt) && (fd = descriptor(optarg)) < 0)
			return usage("not a descriptor above 2: ", optarg);
		switch (opt) {
		case 'o':
			o->door_fd = fd;
			break;
		case 'd':
			o->data_fd = fd;
			break;
		case 'h':
			if (o->nhttp == API_HTTP_MAX)
				return usage("too many --http-fd", "");
			o->http_fd[o->nhttp++] = fd;
			break;
		case 'c':
			o->cert_fd = fd;
			break;
		case 'k':
			o->key_fd = fd;
			break;
		case 'r':
			o->ready_fd = fd;
			break;
		case 'D':
			o->domain = optarg;
			break;
		case 'U':
			o->base_url = optarg;
			break;
		case 'w':
			if (o->nwarm == WARM_POOLS_MAX)
				return usage("too many --warm", "");
			o->warm[o->nwarm++] = optarg;
			break;
		case 's':
			if (o->nsecret == SECRET_KEYS_MAX)
				return usage("too many --secret-key-fd", "");
			o->secret_fd[o->nsecret++] = fd;
			break;
		case 'R':
		case 'K':
		case 'F':
			if (audit_parse(opt, optarg, o))
				return 2;
			break;
		case 'g':
			if (milliseconds(optarg, &o->grace_ms) < 0)
				return usage("not a time in milliseconds: ", optarg);
			break;
		case 'v':
			if (log_level_parse(optarg, &o->level) < 0)
				return usage("unknown log level: ", optarg);
			break;
		case 'f':
			if (log_format_parse(optarg, &o->format) < 0)
				return usage("unknown log format: ", optarg);
			o->format_given = true;
			break;
		default:
			return usage("unknown option", "");
		}
	}
	if (optind < argc)
		return usage("unexpected argument: ", argv[optind]);
	if (o->door_fd < 0 || o->data_fd < 0 || o->nhttp == 0)
		return usage("--door-fd, --data-fd and --http-fd are needed", "");
	if ((o->cert_fd < 0) != (o->key_fd < 0))
		return usage("--tls-cert-fd and --tls-key-fd belong together", "");
	if (strlen(o->domain) >= sizeof(((struct api *)0)->domain) ||
	    strlen(o->base_url) >= sizeof(((struct api *)0)->base_url))
		return usage("--domain or --base-url is too long", "");
	return 0;
}

/* ---- start ---- */

/* A whole PEM file; its offset may be anywhere, because a former brig-api read it, too. */
static int pem_read(int fd, const char *what, char **ret, struct brig_err *err)
{
	char *text = calloc(1, PEM_MAX + 1);
	ssize_t n = text ? pread(fd, text, PEM_MAX + 1, 0) : -1;
	if (n > 0 && (size_t)n <= PEM_MAX && !memchr(text, 0, (size_t)n)) {
		*ret = text;
		return 0;
	}
	free(text);
	return brig_fail(err, BRIG_E_INVALID, n < 0 ? errno : 0,
			 n < 0 ? "read the TLS %s" : "the TLS %s is no PEM file of at most 64 KiB",
			 what);
}

static void pem_wipe(char **p)
{
	if (*p)
		explicit_bzero(*p, strlen(*p));
	free(*p);
	*p = NULL;
}

static bool is_unix(int fd)
{
	int domain = AF_UNSPEC;
	socklen_t n = sizeof(domain);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX;
}

static int listeners_open(struct process *p, struct brig_err *err)
{
	struct api *a = &p->api;
	for (unsigned i = 0; i < p->o.nhttp; i++) {
		int fd = p->o.http_fd[i];
		bool tls = p->cert && !is_unix(fd);
		struct http_options ho = { .listen_fd = fd,
					   .cert_pem = tls ? p->cert : NULL,
					   .key_pem = tls ? p->key : NULL,
					   .route = api_route,
					   .over = reqlog_request,
					   .ctx = a };
		if (http_open(&a->ev, &ho, &a->http[a->nhttp], err) < 0)
			return -1;
		a->nhttp++;
	}
	pem_wipe(&p->key);
	return 0;
}

static void ready_tell(struct process *p)
{
	char line[API_KEY_MAX + 1];
	int n = snprintf(line, sizeof(line), "%s\n", p->api.first_key);
	/* If nobody reads it the key is lost, and `brig key create` makes another. */
	if (p->o.ready_fd >= 0)
		(void)fd_write_full(p->o.ready_fd, line, (size_t)n);
	fd_close(&p->o.ready_fd);
	explicit_bzero(line, sizeof(line));
	explicit_bzero(p->api.first_key, sizeof(p->api.first_key));
}

static void process_fail(struct process *p, const struct brig_err *err)
{
	log_line(&p->api.log, LOG_ERROR, NULL, "%s%s%s; ending", err->msg,
		 err->remedy[0] ? "; remedy: " : "", err->remedy);
	p->api.exit_code = 1;
	p->api.quit = true;
}

static void boxes_known(struct api *a, const struct brig_err *err)
{
	struct process *p = (struct process *)a; /* its first member */
	struct brig_err mine = BRIG_ERR_INIT;
	if (p->ending || a->quit)
		return;
	if (err) {
		process_fail(p, err);
	} else if (warm_start(a, p->o.warm, p->o.nwarm, &mine) < 0 ||
		   listeners_open(p, &mine) < 0) {
		process_fail(p, &mine);
	} else {
		log_line(&a->log, LOG_INFO, NULL, "serving HTTP on %u sockets", a->nhttp);
		ready_tell(p);
	}
}

/* ---- end ---- */

static bool requests_left(const struct api *a)
{
	for (unsigned i = 0; i < a->nhttp; i++)
		if (http_requests(a->http[i]) || http_upgrades(a->http[i]))
			return true;
	return false;
}

static void grace_over(void *ctx)
{
	struct process *p = ctx;
	p->api.quit = true;
}

static void last_wait(struct process *p, unsigned ms)
{
	if (ev_timer_set(&p->api.ev, &p->grace, clock_now() + ms * MS_NS) < 0)
		p->api.quit = true;
}

static void end_begin(struct process *p, unsigned ms)
{
	p->ending = p->api.ending = true;
	events_stop(p->api.events);
	for (unsigned i = 0; i < p->api.nhttp; i++)
		http_quiesce(p->api.http[i]);
	warm_close(p->api.warm);
	p->api.warm = NULL;
	last_wait(p, ms);
}

static void signal_event(void *ctx, uint32_t events)
{
	struct process *p = ctx;
	struct signalfd_siginfo si;
	(void)events;
	while (read(p->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (p->ending) {
			last_wait(p, LAST_MS);
			continue;
		}
		log_line(&p->api.log, LOG_INFO, NULL, "ending: asked to by a signal");
		end_begin(p, p->o.grace_ms + LAST_MS);
	}
}

/* A file that may not grow any more is an error of the database, told as such, and no reason to die
 * without a word. */
static int signals_open(struct process *p)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return -errno;
	p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p->signal_fd < 0)
		return -errno;
	return ev_io_add(&p->api.ev, p->signal_fd, EPOLLIN, signal_event, p, &p->signal_io);
}

static int start(struct process *p, struct brig_err *err)
{
	struct options *o = &p->o;
	struct api *a = &p->api;
	int keep[5 + SECRET_KEYS_MAX + API_HTTP_MAX] = { o->door_fd,	  o->data_fd,
							 o->cert_fd,	  o->key_fd,
							 o->ready_fd,	  o->secret_fd[0],
							 o->secret_fd[1] };
	size_t seed = 0;
	memcpy(keep + 5 + SECRET_KEYS_MAX, o->http_fd, o->nhttp * sizeof(*keep));
	if (confine_fds(keep, 5 + SECRET_KEYS_MAX + o->nhttp, err) < 0 || confine_limits(err) < 0)
		return -1;
	a->log = (struct log){ .fd = STDERR_FILENO, .level = o->level, .format = o->format };
	a->log_requests = o->format_given;
	a->data_fd = o->data_fd;
	memcpy(a->secret_fd, o->secret_fd, sizeof(a->secret_fd));
	a->audit_opts = o->audit;
	a->audit_goes_on = o->audit_goes_on;
	strcpy(a->domain, o->domain);
	strcpy(a->base_url, o->base_url);
	if (o->cert_fd >= 0 && (pem_read(o->cert_fd, "certificate", &p->cert, err) < 0 ||
				pem_read(o->key_fd, "key", &p->key, err) < 0))
		return -1;
	fd_close(&o->cert_fd);
	fd_close(&o->key_fd);
	int r = ev_init(&a->ev);
	if (r == 0)
		r = signals_open(p);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "make the event loop");
	/* Or jansson would open /dev/urandom at its first object. */
	if (getrandom(&seed, sizeof(seed), 0) == sizeof(seed))
		json_object_seed(seed | 1);
	if (link_open(&a->ev, o->door_fd, &a->link, err) < 0 ||
	    confine_user(BRIG_API_UID, err) < 0 || api_init(a, boxes_known, err) < 0 ||
	    confine_syscalls(api_filter, sizeof(api_filter) / sizeof(api_filter[0]), err) < 0)
		return -1;
	for (unsigned i = 0; i < SECRET_KEYS_MAX; i++)
		fd_close(&o->secret_fd[i]);
	return 0;
}

static void run(struct process *p)
{
	struct api *a = &p->api;
	while (!a->quit) {
		int r = ev_round(&a->ev, -1);
		if (r < 0) {
			log_line(&a->log, LOG_ERROR, NULL, "event loop: %s", strerror(-r));
			a->exit_code = 1;
			return;
		}
		if (link_lost(a->link) && !p->ending) {
			log_line(&a->log, LOG_WARN, NULL, "brigd has ended; ending");
			a->exit_code = 1;
			end_begin(p, LOST_MS);
		}
		if (p->ending && !requests_left(a) && !a->norphans)
			return;
	}
}

int main(int argc, char **argv)
{
	static struct process p; /* large tables; one per process */
	struct brig_err err = BRIG_ERR_INIT;
	int r = options_parse(argc, argv, &p.o);
	if (r)
		return r;
	p.signal_fd = -1;
	p.grace = (struct ev_timer){ .fn = grace_over, .ctx = &p };
	if (start(&p, &err) < 0) {
		fprintf(stderr, "brig-api: %s\n", err.msg);
		if (err.remedy[0])
			fprintf(stderr, "  remedy: %s\n", err.remedy);
		return 1;
	}
	run(&p);
	for (unsigned i = 0; i < p.api.nhttp; i++)
		http_close(p.api.http[i]);
	api_done(&p.api);
	link_close(p.api.link);
	return p.api.exit_code;
}
