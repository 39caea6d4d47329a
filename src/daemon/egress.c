/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in brigd. The peer parses what sandboxes say to the network, so it is trusted with their policies
 * and with nothing else: sizes, verbs and texts of its messages are checked, a message about a sandbox
 * that is not there is dropped, and one that breaks the protocol ends the link. Sandboxes then go on
 * without a way out until the supervisor has started another.
 *
 * Messages find their sandbox by its id, so none is waited for here: APPLIED says which generation of a
 * policy holds, and whoever waits for one (a channel that is held, a client that changed it) is released
 * when it is the latest.
 */
#include "daemon/egress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "brig/net.h"
#include "daemon/exec.h"
#include "daemon/journal.h"
#include "daemon/network.h"
#include "daemon/netpeer.h"
#include "daemon/sandbox.h"

#define MESSAGES_PER_ROUND 64
#define PACKETS_PER_ROUND 16

struct egress_queued {
	struct egress_queued *next;
	size_t n;
	uint8_t msg[];
};

static void lost(struct brigd *d, const char *why)
{
	struct egress_link *l = &d->egress;
	struct brig_err err = BRIG_ERR_INIT;
	struct sandbox *sb;
	if (l->fd < 0)
		return;
	log_line(&d->log, LOG_ERROR, NULL, "brig-egress: %s; sandboxes have no network any more", why);
	ev_io_del(&d->ev, &l->io);
	fd_close(&l->fd);
	l->ready = false;
	d->host.net = 0;
	brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "the gateway of networks has ended");
	brig_err_remedy(&err, "see the server's log for the reason; without a network it runs: --net none");
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all)) {
		if (sb->net && sb->net->waiter) {
			struct conn *c = sb->net->waiter;
			sb->net->waiter = NULL;
			c->role = NULL;
			conn_error(c, &err);
		}
		if (sb->net && sb->chan.held)
			sandbox_refuse(sb, &err);
	}
}

/* ---- sending ---- */

static int queue_flush(struct egress_link *l)
{
	while (l->queue) {
		struct egress_queued *q = l->queue;
		int r = fd_send(l->fd, q->msg, q->n, NULL, 0);
		if (r < 0)
			return r;
		l->queue = q->next;
		if (!l->queue)
			l->queue_end = &l->queue;
		l->nqueued--;
		free(q);
	}
	return 0;
}

static void send_msg(struct brigd *d, const void *msg, size_t n)
{
	struct egress_link *l = &d->egress;
	int r = l->queue ? -EAGAIN : fd_send(l->fd, msg, n, NULL, 0);
	if (r == 0)
		return;
	struct egress_queued *q = r == -EAGAIN && l->nqueued < EGRESS_QUEUE_MAX ? malloc(sizeof(*q) + n)
										: NULL;
	if (!q) {
		lost(d, r == -EAGAIN ? "it takes no messages" : "the link is broken");
		return;
	}
	*q = (struct egress_queued){ .n = n };
	memcpy(q->msg, msg, n);
	*l->queue_end = q;
	l->queue_end = &q->next;
	l->nqueued++;
	ev_io_set(&d->ev, l->io, EPOLLIN | EPOLLOUT);
}

void egress_tell(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	struct netbox *n = sb->net;
	struct buf text = BUF_INIT(EGRESS_MSG_MAX);
	if (!n || !n->lease || !d->egress.ready || sb->destroying)
		return;
	struct egress_lease m = n->ask.terms;
	m.h = (struct egress_hdr){ EGRESS_LEASE, ++d->egress.seq };
	memcpy(m.id, sb->id, sizeof(m.id));
	m.generation = n->generation;
	brig_net_addr4(n->lease, m.v4);
	brig_net_addr6(n->lease, m.v6);
	if (n->have_figures) {
		m.spent = n->figures.spent;
		m.tenant_spent = n->figures.tenant_spent;
	}
	int r = buf_add(&text, &m, sizeof(m));
	if (r == 0)
		r = netbox_text(n, &text);
	if (r == 0)
		r = netpeer_hosts(sb, &text);
	if (r == 0) {
		m.text_len = (uint32_t)(buf_len(&text) - sizeof(m));
		memcpy(buf_head(&text), &m, sizeof(m));
		send_msg(d, buf_head(&text), buf_len(&text));
	}
	buf_done(&text);
	if (r < 0)
		sandbox_fault(sb, "its policy does not fit");
}

void egress_remove(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	struct egress_ref m = { .h = { EGRESS_REMOVE, 0 } };
	if (!sb->net || !sb->net->lease || !d->egress.ready)
		return;
	m.h.seq = ++d->egress.seq;
	memcpy(m.id, sb->id, sizeof(m.id));
	send_msg(d, &m, sizeof(m));
}

/* ---- receiving ---- */

union message {
	struct egress_hdr h;
	struct egress_ready ready;
	struct egress_applied applied;
	struct egress_error error;
	struct egress_figures figures;
	struct egress_ref ref;
	struct egress_denial denial;
};

static size_t size_of(uint32_t verb)
{
	switch (verb) {
	case EGRESS_READY:
		return sizeof(struct egress_ready);
	case EGRESS_APPLIED:
		return sizeof(struct egress_applied);
	case EGRESS_ERROR:
		return sizeof(struct egress_error);
	case EGRESS_FIGURES:
		return sizeof(struct egress_figures);
	case EGRESS_GONE:
		return sizeof(struct egress_ref);
	case EGRESS_DENIAL:
		return sizeof(struct egress_denial);
	default:
		return 0;
	}
}

static struct sandbox *find(struct brigd *d, const char id[EGRESS_ID_MAX])
{
	char text[EGRESS_ID_MAX];
	memcpy(text, id, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	struct sandbox *sb = sandbox_by_id(d, text);
	return sb && sb->net ? sb : NULL;
}

static void on_ready(struct brigd *d, const struct egress_ready *m)
{
	struct sandbox *sb;
	if (m->version != BRIG_EGRESS_PROTO_VERSION) {
		lost(d, "it has another version");
		return;
	}
	log_line(&d->log, LOG_DEBUG, NULL, "brig-egress is ready");
	d->egress.ready = true;
	for (sb = LIST_FIRST(&d->all); sb && d->egress.fd >= 0; sb = LIST_NEXT(sb, all))
		egress_tell(sb);
}

static void on_applied(struct brigd *d, const struct egress_applied *m)
{
	struct sandbox *sb = find(d, m->id);
	if (!sb || m->generation > sb->net->generation)
		return;
	sb->net->applied = m->generation;
	sb->net->cut += m->cut;
	network_settle(sb);
}

static void on_error(struct brigd *d, struct egress_error *m)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct sandbox *sb = find(d, m->id);
	m->msg[sizeof(m->msg) - 1] = '\0';
	if (!sb) {
		log_line(&d->log, LOG_WARN, NULL, "brig-egress: %s", m->msg);
		return;
	}
	struct netbox *n = sb->net;
	m->remedy[sizeof(m->remedy) - 1] = '\0';
	brig_err_set(&err, (enum brig_code)m->code, 0, "network: %s", m->msg);
	if (m->remedy[0])
		brig_err_remedy(&err, "%s", m->remedy);
	if (sb->chan.held) {
		sandbox_refuse(sb, &err);
		return;
	}
	if (n->former) {
		json_t *tried = n->ask.policy;
		n->ask.policy = n->former;
		n->former = NULL;
		n->generation++;
		netpeer_change(sb, tried);
		json_decref(tried);
		network_keep(sb);
		egress_tell(sb);
	}
	if (n->waiter) {
		struct conn *c = n->waiter;
		n->waiter = NULL;
		c->role = NULL;
		conn_error(c, &err);
	}
}

static void on_figures(struct brigd *d, const struct egress_figures *m)
{
	struct sandbox *sb = find(d, m->id);
	if (!sb)
		return;
	sb->net->figures = *m;
	sb->net->have_figures = true;
}

static void on_denial(struct brigd *d, struct egress_denial *m)
{
	struct sandbox *sb = find(d, m->id);
	if (!sb)
		return;
	struct netbox *n = sb->net;
	m->amount[sizeof(m->amount) - 1] = m->protects[sizeof(m->protects) - 1] = '\0';
	m->name[sizeof(m->name) - 1] = m->rule[sizeof(m->rule) - 1] = m->allow[sizeof(m->allow) - 1] = '\0';
	journal_egress(&sb->journal, sb->id, netbox_mode(n), m);
	if (m->reason != EGRESS_R_BUDGET || sb->destroying)
		return;
	snprintf(n->over.amount, sizeof(n->over.amount), "%s", m->amount);
	snprintf(n->over.scope, sizeof(n->over.scope), "%s",
		 m->scope == EGRESS_S_DEST     ? "destination"
		 : m->scope == EGRESS_S_TENANT ? "tenant"
					       : "sandbox");
	snprintf(n->over.name, sizeof(n->over.name), "%s", m->name);
	n->over.figure = m->figure;
	snprintf(sb->fault, sizeof(sb->fault), "its network budget is used up (%s: %llu)", m->amount,
		 (unsigned long long)m->figure);
	log_line(&d->log, LOG_INFO, sb->id, "%s", sb->fault);
	sandbox_destroy(sb, CAUSE_EGRESS);
}

static bool dispatch(struct brigd *d, union message *m, size_t n)
{
	if (n < sizeof(m->h) || n != size_of(m->h.verb))
		return false;
	switch (m->h.verb) {
	case EGRESS_READY:
		on_ready(d, &m->ready);
		break;
	case EGRESS_APPLIED:
		on_applied(d, &m->applied);
		break;
	case EGRESS_ERROR:
		on_error(d, &m->error);
		break;
	case EGRESS_FIGURES:
		on_figures(d, &m->figures);
		break;
	case EGRESS_DENIAL:
		on_denial(d, &m->denial);
		break;
	default:
		break;
	}
	return true;
}

static void receive(struct brigd *d, int most)
{
	for (int i = 0; i < most && d->egress.fd >= 0; i++) {
		union message m;
		ssize_t n = fd_recv(d->egress.fd, &m, sizeof(m), NULL, NULL, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n <= 0)
			lost(d, "it has ended");
		else if (!dispatch(d, &m, (size_t)n))
			lost(d, "it broke the protocol");
	}
}

void egress_drain(struct brigd *d)
{
	receive(d, 1024);
}

static void link_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	if (events & EPOLLOUT) {
		int r = queue_flush(&d->egress);
		if (r < 0 && r != -EAGAIN) {
			lost(d, "the link is broken");
			return;
		}
		if (r == 0)
			ev_io_set(&d->ev, d->egress.io, EPOLLIN);
	}
	if (events & ~(uint32_t)EPOLLOUT)
		receive(d, MESSAGES_PER_ROUND);
}

int egress_init(struct brigd *d, int fd)
{
	struct egress_link *l = &d->egress;
	int room = 1024 * 1024;
	l->fd = fd;
	l->queue_end = &l->queue;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	int r = fd_set_nonblock(fd, 1);
	return r < 0 ? r : ev_io_add(&d->ev, fd, EPOLLIN, link_event, d, &l->io);
}

/* ---- packets ---- */

static void on_packet(void *ctx, const struct packet_seen *s)
{
	struct brigd *d = ctx;
	struct sandbox *sb;
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all))
		if (sb->net && sb->net->lease == s->lease && !sb->destroying && sb->state != SB_STOPPED) {
			journal_packet(&sb->journal, s);
			return;
		}
}

static void packets_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	(void)events;
	for (int i = 0; i < PACKETS_PER_ROUND; i++) {
		ssize_t n = recv(d->egress.packets, d->scratch, SCRATCH_SIZE, MSG_DONTWAIT);
		if (n <= 0) /* ENOBUFS: the kernel dropped some; they are counted there */
			return;
		packets_parse(d->scratch, (size_t)n, on_packet, d);
	}
}

int egress_packets(struct brigd *d, int fd)
{
	if (d->egress.packets >= 0) {
		ev_io_del(&d->ev, &d->egress.packets_io);
		fd_close(&d->egress.packets);
	}
	d->egress.packets = fd;
	return ev_io_add(&d->ev, fd, EPOLLIN, packets_event, d, &d->egress.packets_io);
}

void egress_done(struct brigd *d)
{
	struct egress_link *l = &d->egress;
	if (l->fd >= 0)
		ev_io_del(&d->ev, &l->io);
	if (l->packets >= 0)
		ev_io_del(&d->ev, &l->packets_io);
	fd_close(&l->fd);
	fd_close(&l->packets);
	while (l->queue) {
		struct egress_queued *q = l->queue;
		l->queue = q->next;
		free(q);
	}
}
