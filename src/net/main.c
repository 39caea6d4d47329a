/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-egress: the gateway of a server's sandboxes to everything else; see
 * include/brig/egress_proto.h for what it promises.
 *
 *   brig-egress --control-fd N [--tcp4-fd N] [--tcp6-fd N] [--udp4-fd N] [--udp6-fd N]
 *               [--resolv-fd N] [--resolver ADDRESS[#PORT] ...] [--sandbox-net ADDRESS/BITS ...]
 *               [--log-level error|warn|info|debug] [--log-format text|json]
 *
 * Without --resolver it asks those of /etc/resolv.conf, as it is at the start, and of each text of one that
 * comes by --resolv-fd (cli/resolvwatch.h). --sandbox-net is
 * where sandboxes get their addresses from: nothing in there is ever reached. Exit codes: 0 brigd
 * has ended or a signal asked to end, 1 failed, 2 usage.
 *
 * Theory of operation
 * -------------------
 * One thread, one loop. It has sockets of two network namespaces: those that it was given are of
 * the gateway's, those that it opens are of the host's; nothing but what it copies goes from one to
 * the other. The start goes from privilege to none, as brig-api's does, and nothing of a sandbox
 * has been read up to there. After it the process can open sockets of the internet, and nothing
 * else: no file, no program, no other kind of socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "daemon/confine.h"
#include "egress_seccomp.h"
#include "net/flow.h"

struct process {
	struct gw gw;
	int signal_fd;
	struct ev_io signal_io;
};

static int usage(const char *why, const char *what)
{
	fprintf(stderr,
		"brig-egress: %s%s\n"
		"usage: brig-egress --control-fd N [--tcp4-fd N] [--tcp6-fd N] [--udp4-fd N]\n"
		"                   [--udp6-fd N] [--resolv-fd N] [--resolver ADDRESS[#PORT] ...]\n"
		"                   [--sandbox-net ADDRESS/BITS ...] [--log-level LEVEL]\n"
		"                   [--log-format FORMAT]\n",
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

static int options_parse(int argc, char **argv, struct process *p)
{
	static const struct option longs[] = {
		{ "control-fd", required_argument, NULL, 'c' },
		{ "tcp4-fd", required_argument, NULL, 't' },
		{ "tcp6-fd", required_argument, NULL, 'T' },
		{ "udp4-fd", required_argument, NULL, 'u' },
		{ "udp6-fd", required_argument, NULL, 'U' },
		{ "resolv-fd", required_argument, NULL, 'R' },
		{ "resolver", required_argument, NULL, 'r' },
		{ "sandbox-net", required_argument, NULL, 's' },
		{ "log-level", required_argument, NULL, 'v' },
		{ "log-format", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	struct gw *g = &p->gw;
	int opt, fd = -1;
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (strchr("ctTuUR", opt) && (fd = descriptor(optarg)) < 0)
			return usage("not a descriptor above 2: ", optarg);
		switch (opt) {
		case 'c':
			g->control_fd = fd;
			break;
		case 't':
		case 'T':
			g->tcp_fd[opt == 'T'] = fd;
			break;
		case 'u':
		case 'U':
			g->udp_fd[opt == 'U'] = fd;
			break;
		case 'R':
			g->resolv_fd = fd;
			break;
		case 'r':
			if (resolver_add(g, optarg) < 0)
				return usage("not a resolver, or one too many: ", optarg);
			break;
		case 's':
			if (g->nsandbox_nets == GW_SANDBOX_NETS_MAX ||
			    !net_prefix_parse(optarg, strlen(optarg),
					      &g->sandbox_net[g->nsandbox_nets],
					      &g->sandbox_bits[g->nsandbox_nets]))
				return usage("not a prefix, or one too many: ", optarg);
			g->nsandbox_nets++;
			break;
		case 'v':
			if (log_level_parse(optarg, &g->log.level) < 0)
				return usage("unknown log level: ", optarg);
			break;
		case 'f':
			if (log_format_parse(optarg, &g->log.format) < 0)
				return usage("unknown log format: ", optarg);
			break;
		default:
			return usage("unknown option", "");
		}
	}
	if (optind < argc)
		return usage("unexpected argument: ", argv[optind]);
	if (g->control_fd < 0 || (g->tcp_fd[0] < 0 && g->tcp_fd[1] < 0))
		return usage("--control-fd and --tcp4-fd or --tcp6-fd are needed", "");
	return 0;
}

static void resolv_done(struct gw *g)
{
	ev_io_del(&g->ev, &g->resolv_io);
	fd_close(&g->resolv_fd);
}

static void resolv_conf(struct gw *g)
{
	char text[8192];
	if (g->nresolvers == 0 && fd_slurp_at(AT_FDCWD, "/etc/resolv.conf", text, sizeof(text)) > 0)
		resolvers_read(g, text);
	if (g->nresolvers == 0)
		log_line(&g->log, LOG_WARN, NULL,
			 "no resolver in /etc/resolv.conf; no name will be found");
}

static void resolv_event(void *ctx, uint32_t events)
{
	struct gw *g = ctx;
	char text[8192];
	ssize_t n = recv(g->resolv_fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		resolv_done(g);
		return;
	}
	text[n] = '\0';
	log_line(&g->log, resolvers_renew(g, text) ? LOG_INFO : LOG_WARN, NULL,
		 "/etc/resolv.conf is another; %u name servers are asked", g->nresolvers);
}

/* Without it those of the start are asked. */
static int resolv_open(struct gw *g, struct brig_err *err)
{
	int r = g->resolv_fd < 0 ? 0 : ev_io_add(&g->ev, g->resolv_fd, EPOLLIN, resolv_event, g, &g->resolv_io);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "watch the host's name servers") : 0;
}

static void signal_event(void *ctx, uint32_t events)
{
	struct process *p = ctx;
	struct signalfd_siginfo si;
	(void)events;
	while (read(p->signal_fd, &si, sizeof(si)) == sizeof(si))
		p->gw.quit = true;
}

static int signals_open(struct process *p)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p->signal_fd < 0)
		return -errno;
	return ev_io_add(&p->gw.ev, p->signal_fd, EPOLLIN, signal_event, p, &p->signal_io);
}

static int start(struct process *p, struct brig_err *err)
{
	struct gw *g = &p->gw;
	const int keep[] = { g->control_fd, g->tcp_fd[0], g->tcp_fd[1], g->udp_fd[0],
			     g->udp_fd[1], g->resolv_fd };
	if (confine_fds(keep, sizeof(keep) / sizeof(*keep), err) < 0 || confine_limits(err) < 0)
		return -1;
	resolv_conf(g);
	int r = ev_init(&g->ev);
	if (r == 0)
		r = signals_open(p);
	if (r == 0 && getrandom(&g->seed, sizeof(g->seed), 0) != sizeof(g->seed))
		r = -EIO;
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "make the event loop");
	bucket_init(&g->strangers, 10, 20, clock_now());
	const size_t n = sizeof(egress_filter) / sizeof(egress_filter[0]);
	if (host_open(g, err) < 0 || confine_user(BRIG_EGRESS_UID, err) < 0 ||
	    confine_syscalls(egress_filter, n, err) < 0)
		return -1;
	return accept_open(g, err) < 0 || dnsd_open(g, err) < 0 ||
			       resolv_open(g, err) < 0 || control_open(g, g->control_fd, err) < 0
		       ? -1
		       : 0;
}

int main(int argc, char **argv)
{
	static struct process p = { .gw = { .control_fd = -1,
					    .tcp_fd = { -1, -1 },
					    .udp_fd = { -1, -1 },
					    .route_fd = -1,
					    .resolv_fd = -1,
					    .log = { .fd = STDERR_FILENO, .level = LOG_WARN } } };
	struct gw *g = &p.gw;
	struct brig_err err = BRIG_ERR_INIT;
	int r = options_parse(argc, argv, &p);
	if (r)
		return r;
	if (start(&p, &err) < 0) {
		fprintf(stderr, "brig-egress: %s\n", err.msg);
		return 1;
	}
	const struct egress_ready ready = { .h.verb = EGRESS_READY,
					    .version = BRIG_EGRESS_PROTO_VERSION };
	control_send(g, &ready, sizeof(ready), true);
	while (!g->quit) {
		r = ev_round(&g->ev, -1);
		if (r < 0) {
			log_line(&g->log, LOG_ERROR, NULL, "event loop: %s", strerror(-r));
			g->exit_code = 1;
			break;
		}
	}
	accept_done(g);
	resolv_done(g);
	leases_done(g);
	dnsd_done(g);
	host_done(g);
	control_done(g);
	if (g->bury.fn)
		g->bury.fn(g);
	pumps_done(g);
	ev_done(&g->ev);
	return g->exit_code;
}
