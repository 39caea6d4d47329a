/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brigd's command line and start; see daemon.c for what it is.
 *
 *   brigd --jail-fd N (--client-fd N | --listen-fd N [--door-fd N] [--ledger-fd N]) --data DIR
 *         [--egress-fd N] [--pool IMAGE=N]... [--idle-exit-ms N] [--accept NAME,NAME]
 *         [--log-level error|warn|info|debug]
 *         [--log-format text|json] [--tier TIER] [--refuse-tier TIER=WHY]...
 *
 * It is started by `brig`, which holds the other ends; there is no configuration file. Exit codes:
 * 0 ended as asked, 1 failed, 2 usage, 75 handed over. main.c calls brigd_main() in the program brigd; a private
 * server is a fork of `brig` that calls it (cli/spawn.c).
 */
#include "daemon/entry.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/ids.h"
#include "brigd_seccomp.h"
#include "daemon/confine.h"
#include "daemon/daemon.h"
#include "daemon/handover.h"
#include "daemon/pool.h"
#include "daemon/rejoin.h"
#include "daemon/spec.h"
#include "daemon/tier.h"

struct options {
	int jail_fd, client_fd, listen_fd, door_fd, ledger_fd, egress_fd, rejoin_fd;
	const char *data, *refused[BRIG_TIER__N];
	int tier;
	uint64_t idle_exit_ms;
	uint32_t accept;
	enum log_level level;
	enum log_format format;
	bool level_given;
	const char *pools[POOLS_MAX];
	unsigned npools;
};

static int usage(const char *why, const char *what)
{
	fprintf(stderr,
		"brigd: %s%s\n"
		"usage: brigd --jail-fd N (--client-fd N | --listen-fd N [--door-fd N] [--ledger-fd N]\n"
		"             [--rejoin-fd N]) --data DIR [--egress-fd N] [--pool IMAGE=N]... [--idle-exit-ms N]\n"
		"             [--accept NAME,NAME]\n"
		"             [--log-level LEVEL] [--log-format FORMAT] [--tier TIER]\n"
		"             [--refuse-tier TIER=WHY]...\n",
		why, what);
	return 2;
}

static int number(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || v > max)
		return -1;
	*ret = v;
	return 0;
}

/* TIER=WHY */
static int refuse_tier(struct options *o, const char *text)
{
	for (uint32_t t = 0; t < BRIG_TIER__N; t++) {
		size_t n = strlen(brig_tier_name(t));
		if (strncmp(text, brig_tier_name(t), n) == 0 && text[n] == '=') {
			o->refused[t] = text + n + 1;
			return 0;
		}
	}
	return -1;
}

static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "jail-fd", required_argument, NULL, 'j' },
		{ "client-fd", required_argument, NULL, 'c' },
		{ "listen-fd", required_argument, NULL, 'l' },
		{ "door-fd", required_argument, NULL, 'o' },
		{ "ledger-fd", required_argument, NULL, 'k' },
		{ "egress-fd", required_argument, NULL, 'e' },
		{ "rejoin-fd", required_argument, NULL, 'n' },
		{ "data", required_argument, NULL, 'd' },
		{ "pool", required_argument, NULL, 'p' },
		{ "idle-exit-ms", required_argument, NULL, 'i' },
		{ "accept", required_argument, NULL, 'a' },
		{ "log-level", required_argument, NULL, 'v' },
		{ "log-format", required_argument, NULL, 'f' },
		{ "tier", required_argument, NULL, 't' },
		{ "refuse-tier", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t n = 0;
	int opt;
	*o = (struct options){ .jail_fd = -1, .client_fd = -1, .listen_fd = -1,
			       .door_fd = -1, .ledger_fd = -1, .egress_fd = -1, .rejoin_fd = -1 };
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (strchr("jcloken", opt) && (number(optarg, 1 << 20, &n) < 0 || n < 3))
			return usage("not a descriptor above 2: ", optarg);
		switch (opt) {
		case 'j':
			o->jail_fd = (int)n;
			break;
		case 'c':
			o->client_fd = (int)n;
			break;
		case 'l':
			o->listen_fd = (int)n;
			break;
		case 'o':
			o->door_fd = (int)n;
			break;
		case 'k':
			o->ledger_fd = (int)n;
			break;
		case 'e':
			o->egress_fd = (int)n;
			break;
		case 'n':
			o->rejoin_fd = (int)n;
			break;
		case 'd':
			o->data = optarg;
			break;
		case 'p':
			if (o->npools == POOLS_MAX)
				return usage("too many pools", "");
			o->pools[o->npools++] = optarg;
			break;
		case 'i':
			if (number(optarg, UINT32_MAX, &o->idle_exit_ms) < 0)
				return usage("not a time in milliseconds: ", optarg);
			break;
		case 'a':
			if (spec_accept_names(optarg, &o->accept, NULL) < 0)
				return usage("unknown guarantee in ", optarg);
			break;
		case 'v':
			if (log_level_parse(optarg, &o->level) < 0)
				return usage("unknown log level: ", optarg);
			o->level_given = true;
			break;
		case 'f':
			if (log_format_parse(optarg, &o->format) < 0)
				return usage("unknown log format: ", optarg);
			break;
		case 'r':
			if (refuse_tier(o, optarg) < 0)
				return usage("no such tier: ", optarg);
			break;
		case 't':
			if (tier_parse(optarg, &o->tier, NULL) < 0)
				return usage("no such tier: ", optarg);
			break;
		default:
			return usage("unknown option", "");
		}
	}
	if (optind < argc)
		return usage("unexpected argument: ", argv[optind]);
	if (o->jail_fd < 0 || !o->data || (o->client_fd < 0) == (o->listen_fd < 0))
		return usage("--jail-fd, --data and one of --client-fd and --listen-fd are needed",
			     "");
	if (o->door_fd >= 0 && o->listen_fd < 0)
		return usage("--door-fd needs --listen-fd", "");
	if ((o->ledger_fd >= 0 || o->rejoin_fd >= 0) && o->listen_fd < 0)
		return usage("--ledger-fd and --rejoin-fd need --listen-fd", "");
	if (!o->level_given)
		o->level = o->client_fd >= 0 ? LOG_WARN : LOG_INFO;
	return 0;
}

/* What is alive beside struct brigd. */
static int signal_fd = -1;

static void signal_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	struct signalfd_siginfo si;
	(void)events;
	while (read(signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1)
			brigd_quiesce(d);
		else if (si.ssi_signo == SIGUSR2)
			handover_begin(d);
		else
			brigd_drain(d, "asked to by a signal");
	}
}

/* SIGTERM and SIGINT end brigd in order; SIGUSR1 lets it end by itself, SIGUSR2 without its sandboxes. */
static int signals_open(struct brigd *d)
{
	sigset_t set;
	struct ev_io io;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		return -errno;
	return ev_io_add(&d->ev, signal_fd, EPOLLIN, signal_event, d, &io);
}

static int start(struct brigd *d, const struct options *o, struct brig_err *err)
{
	const int keep[] = { o->jail_fd, o->client_fd, o->listen_fd,
			     o->door_fd, o->ledger_fd, o->egress_fd, o->rejoin_fd };
	size_t seed = 0;
	if (confine_fds(keep, sizeof(keep) / sizeof(keep[0]), err) < 0 || confine_limits(err) < 0)
		return -1;
	d->log = (struct log){ .fd = STDERR_FILENO, .level = o->level, .format = o->format };
	d->idle_exit_ns = o->idle_exit_ms * MS_NS;
	d->accept = o->accept;
	memcpy(d->refused, o->refused, sizeof(d->refused));
	d->usual_tier = o->tier;
	if (brigd_init(d, o->jail_fd, o->data, err) < 0)
		return -1;
	if (o->ledger_fd >= 0 && brigd_keep(d, o->ledger_fd, err) < 0)
		return -1;
	if (o->rejoin_fd >= 0 && rejoin_init(d, o->rejoin_fd) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "use the link to the supervisor");
	int r = o->egress_fd >= 0 ? egress_init(d, o->egress_fd) : 0;
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "use the link to brig-egress");
	r = signals_open(d);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "watch for signals");
	for (unsigned i = 0; i < o->npools; i++)
		if (pool_add(d, o->pools[i], err) < 0)
			return -1;
	/* Or jansson would open /dev/urandom at its first object. */
	if (getrandom(&seed, sizeof(seed), 0) == sizeof(seed))
		json_object_seed(seed | 1);
	if (confine_user(BRIG_DAEMON_UID, err) < 0 ||
	    confine_syscalls(brigd_filter, sizeof(brigd_filter) / sizeof(brigd_filter[0]), err) < 0)
		return -1;
	r = o->client_fd >= 0 ? brigd_serve_client(d, o->client_fd) : brigd_listen(d, o->listen_fd);
	if (r == 0 && o->door_fd >= 0)
		r = brigd_door(d, o->door_fd);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "serve the given socket");
	return 0;
}

int brigd_main(int argc, char **argv)
{
	static struct brigd d; /* large tables; one per process */
	struct options o;
	struct brig_err err = BRIG_ERR_INIT;
	int r = options_parse(argc, argv, &o);
	if (r)
		return r;
	if (start(&d, &o, &err) < 0) {
		fprintf(stderr, "brigd: %s\n", err.msg);
		if (err.remedy[0])
			fprintf(stderr, "  remedy: %s\n", err.remedy);
		return 1;
	}
	/* The kernel releases what is left; jaild removes the sandboxes when it sees our end. */
	return brigd_run(&d);
}
