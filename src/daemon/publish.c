/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A listener is this process's own: it has no privilege, so a port below 1024 is refused as it is to every
 * user. Who connects to it becomes a visitor (visitor.c), led to the port by the agent, in the sandbox's own
 * network namespace. So a published port needs no link, and opens no way out.
 *
 * It is bound before the sandbox is made, so that a port that is taken costs nothing, and listens at once: who
 * comes too early waits in the kernel, and who would be one too many waits there, too. It ends with the
 * sandbox.
 */
#include "daemon/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "daemon/portask.h"
#include "daemon/sandbox.h"
#include "daemon/visitor.h"

#define BACKLOG 128
#define AGAIN_NS (100 * MS_NS)
/* Fewer than the agent takes (BRIG_TCP_MAX), so that others get through beside them. */
#define VISITORS_MAX 192u
/* Of all sandboxes: a quarter of the descriptors (confine.c), which others need, too. */
#define VISITORS_ALL_MAX 8192u

struct listener {
	struct publish *p;
	int fd;
	struct ev_io io;
	struct portask what;
};

struct publish {
	struct sandbox *sb; /* NULL until it is given to one */
	struct visitors visitors;
	struct ev_timer again;
	unsigned n;
	struct listener at[PUBLISH_MAX];
};

json_t *publish_json(const struct publish *p)
{
	json_t *a = json_array();
	for (unsigned i = 0; p && i < p->n; i++) {
		char addr[INET6_ADDRSTRLEN];
		portask_address(&p->at[i].what, addr);
		json_array_append_new(a, json_pack("{s:s,s:i,s:i,s:s}", "address", addr, "host_port",
						   (int)portask_host(&p->at[i].what), "port",
						   (int)p->at[i].what.port, "protocol", "tcp"));
	}
	return a;
}

/* ---- accepting ---- */

static bool wants(const struct publish *p)
{
	enum sb_state s = p->sb->state;
	return !p->sb->taking && (s == SB_READY || s == SB_RUNNING || s == SB_EXITED) && p->visitors.n < VISITORS_MAX &&
	       !p->again.pos;
}

static bool takes(const struct publish *p)
{
	return wants(p) && p->sb->d->nvisitors < VISITORS_ALL_MAX;
}

static void watch(struct publish *p)
{
	struct ev *ev = &p->sb->d->ev;
	uint32_t events = takes(p) ? EPOLLIN : 0;
	/* Others have them: nobody tells when one leaves. */
	if (wants(p) && !takes(p))
		(void)ev_timer_set(ev, &p->again, clock_now() + AGAIN_NS);
	for (unsigned i = 0; i < p->n; i++)
		(void)ev_io_set(ev, p->at[i].io, events);
}

static void again(void *ctx)
{
	watch(ctx);
}

static void came(void *ctx, uint32_t events)
{
	struct listener *l = ctx;
	struct publish *p = l->p;
	struct brigd *d = p->sb->d;
	(void)events;
	while (takes(p)) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			visitor_new(&p->visitors, p->sb, fd, l->what.port);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		log_line(&d->log, LOG_WARN, p->sb->id, "accept at port %u: %s, trying again", portask_host(&l->what),
			 strerror(errno));
		if (ev_timer_set(&d->ev, &p->again, clock_now() + AGAIN_NS) < 0)
			return;
	}
	watch(p);
}

static void left(void *ctx)
{
	struct publish *p = ctx;
	if (p->visitors.n == VISITORS_MAX - 1)
		watch(p);
}

/* ---- binding ---- */

static int refused(const struct portask *p, int e, struct brig_err *err)
{
	char addr[INET6_ADDRSTRLEN];
	unsigned port = portask_host(p);
	portask_address(p, addr);
	if (e == EADDRINUSE) {
		brig_err_set(err, BRIG_E_EXISTS, 0, "port %u of %s is taken on this host", port, addr);
		return brig_fix(err, "name another, or 0 for any that is free (-p 0:%u); `ss -ltnp sport = :%u` "
				     "shows who has it", p->port, port);
	}
	if (e == EACCES || e == EPERM) {
		brig_err_set(err, BRIG_E_DENIED, 0, "port %u of this host needs a privilege that brigd has not", port);
		return brig_fix(err, "name one of 1024 or above, or lower net.ipv4.ip_unprivileged_port_start");
	}
	if (e == EADDRNOTAVAIL || e == EAFNOSUPPORT) {
		brig_err_set(err, BRIG_E_INVALID, 0, "this host has no address %s to publish a port at", addr);
		return brig_fix(err, "`ip address` lists what it has; without an address it is 127.0.0.1");
	}
	return brig_fail(err, BRIG_E_INTERNAL, e, "listen at port %u of %s", port, addr);
}

/* 0 or an errno; p->at becomes what was bound. */
static int bind_one(struct portask *p, int *ret)
{
	const int one = 1;
	AUTO_FD fd = socket(p->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return errno;
	/* Connections of a former listener that are not quite over are no reason to refuse. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (p->at.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
	    bind(fd, (struct sockaddr *)&p->at, p->at_len) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&p->at, &p->at_len) < 0)
		return errno;
	*ret = fd_steal(&fd);
	return 0;
}

static int listen_all(struct publish *p, json_t *texts, struct brig_err *err)
{
	size_t i;
	json_t *v;
	json_array_foreach(texts, i, v)
	{
		struct listener *l = &p->at[i];
		if (portask_parse(json_string_value(v), &l->what, err) < 0)
			return -1;
		l->p = p;
		int e = bind_one(&l->what, &l->fd);
		if (e)
			return refused(&l->what, e, err);
		p->n++;
	}
	return 0;
}

int publish_open(struct spec *spec, struct publish **ret, struct brig_err *err)
{
	char text[PORTASK_TEXT_MAX];
	*ret = NULL;
	if (!json_array_size(spec->ports))
		return 0;
	struct publish *p = calloc(1, sizeof(*p));
	json_t *bound = json_array();
	if (!p || !bound) {
		free(p);
		json_decref(bound);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "publish ports");
	}
	LIST_INIT(&p->visitors.all);
	p->visitors.left = left;
	p->visitors.ctx = p;
	p->again = (struct ev_timer){ .fn = again, .ctx = p };
	int r = listen_all(p, spec->ports, err);
	for (unsigned i = 0; r == 0 && i < p->n; i++) {
		portask_text(&p->at[i].what, text);
		json_array_append_new(bound, json_string(text));
	}
	if (r == 0 && json_object_set(spec->root, "ports", bound) == 0) {
		spec->ports = bound;
		*ret = p;
	} else {
		publish_close(p);
	}
	json_decref(bound);
	return r;
}

void publish_close(struct publish *p)
{
	if (!p)
		return;
	visitors_reset(&p->visitors);
	for (unsigned i = 0; i < p->n; i++) {
		if (p->sb)
			ev_io_del(&p->sb->d->ev, &p->at[i].io);
		fd_close(&p->at[i].fd);
	}
	if (p->sb) {
		ev_timer_stop(&p->sb->d->ev, &p->again);
		p->sb->publish = NULL;
	}
	free(p);
}

void publish_give(struct publish *p, struct sandbox *sb)
{
	if (!p)
		return;
	p->sb = sb;
	sb->publish = p;
	for (unsigned i = 0; i < p->n; i++)
		if (ev_io_add(&sb->d->ev, p->at[i].fd, 0, came, &p->at[i], &p->at[i].io) < 0)
			log_line(&sb->d->log, LOG_ERROR, sb->id, "port %u is not watched: no memory",
				 portask_host(&p->at[i].what));
	watch(p);
}

void publish_update(struct sandbox *sb)
{
	if (sb->publish)
		watch(sb->publish);
}

void publish_restore(struct sandbox *sb)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct publish *p;
	if (publish_open(&sb->spec, &p, &err) < 0)
		log_line(&sb->d->log, LOG_WARN, sb->id, "its ports are not published any more: %s", err.msg);
	else
		publish_give(p, sb);
}

void publish_drained(struct sandbox *sb)
{
	if (sb->publish)
		visitors_drained(&sb->publish->visitors);
}
