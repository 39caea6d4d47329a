/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * How clients reach brigd in listening mode: through its socket, as root or as the user that
 * started it, and through the door, as ends of socket pairs that brig-api sends. Each becomes a
 * struct conn; one too many, or one that may not, is told why and closed.
 *
 * Without a free descriptor nobody can be accepted, not even to be told so, and who waits keeps the
 * listener ready. One descriptor is kept for that: it is given up, the client is accepted in its
 * place, told and closed, and it is taken back. If that fails, or memory is what lacks, the listener
 * is left alone for a moment.
 */
#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "daemon/daemon.h"
#include "daemon/exec.h"

/* Connections accepted in one round. */
#define ACCEPTS 16
#define AGAIN_MS 100

void door_close(struct brigd *d)
{
	if (d->door_fd < 0)
		return;
	ev_io_del(&d->ev, &d->door_io);
	fd_close(&d->door_fd);
}

void listen_stop(struct brigd *d)
{
	ev_timer_stop(&d->ev, &d->accept_timer);
	fd_close(&d->spare_fd);
	if (d->listen_fd < 0)
		return;
	ev_io_del(&d->ev, &d->listen_io);
	fd_close(&d->listen_fd);
}

static bool peer_allowed(const struct brigd *d, int fd)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return false;
	return cred.uid == 0 || cred.uid == d->start_uid;
}

static void refuse(const struct brigd *d, int fd, enum brig_code code, const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct buf out = BUF_INIT(4096);
	brig_err_set(&err, code, 0, "%s", text);
	log_line(&d->log, LOG_WARN, NULL, "client refused: %s", text);
	json_t *o = json_pack("{s:o}", "error", err_json(&err));
	char *s = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (s && frame_add(&out, BRIG_CL_REP, 0, 0, s, strlen(s), NULL, 0) == 0) {
		/* A fresh socket has room for it; if not, the client sees an end without a reason.
		 */
		ssize_t ignored =
			send(fd, buf_head(&out), buf_len(&out), MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)ignored;
	}
	free(s);
	json_decref(o);
	buf_done(&out);
	fd_close(&fd);
}

static void spare_take(struct brigd *d)
{
	if (d->spare_fd < 0)
		d->spare_fd = fcntl(d->listen_fd, F_DUPFD_CLOEXEC, 3);
}

static void accept_again(void *ctx)
{
	struct brigd *d = ctx;
	spare_take(d);
	(void)ev_io_set(&d->ev, d->listen_io, EPOLLIN);
}

/* 1: try again; 0: not now. */
static int accept_failed(struct brigd *d, int error)
{
	if (error == EINTR || error == ECONNABORTED)
		return 1;
	if (error == EAGAIN)
		return 0;
	if (error == EMFILE && d->spare_fd >= 0) {
		fd_close(&d->spare_fd);
		int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			refuse(d, fd, BRIG_E_EXHAUSTED, "brigd has no descriptor left for another client");
		spare_take(d);
		if (fd >= 0)
			return 1;
	}
	log_line(&d->log, LOG_WARN, NULL, "accept: %s, trying again in %d ms", strerror(error),
		 AGAIN_MS);
	(void)ev_io_set(&d->ev, d->listen_io, 0);
	if (ev_timer_set(&d->ev, &d->accept_timer, clock_now() + AGAIN_MS * MS_NS) < 0)
		(void)ev_io_set(&d->ev, d->listen_io, EPOLLIN);
	return 0;
}

static void listen_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	(void)events;
	for (int i = 0; i < ACCEPTS && d->listen_fd >= 0; i++) {
		int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (accept_failed(d, errno))
				continue;
			return;
		}
		if (!peer_allowed(d, fd)) {
			refuse(d, fd, BRIG_E_DENIED,
			       "only root and the user that runs brigd may connect");
			continue;
		}
		if (d->nconns >= CONNS_MAX) {
			refuse(d, fd, BRIG_E_BUSY, "too many connections");
			continue;
		}
		struct ucred peer = { .uid = (uid_t)-1 };
		socklen_t n = sizeof(peer);
		(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n);
		struct conn *c = conn_new(d, fd);
		if (c) {
			c->at_socket = true;
			c->uid = peer.uid;
		}
		ev_timer_stop(&d->ev, &d->idle_timer);
		if (c && d->host_known)
			conn_poll(c); /* the request has often come with the connection */
	}
}

/* What comes through the door must be the end of a connected unix stream: anything else could
 * behave in ways that the framer and the loop do not expect of a client. */
static bool is_client(int fd)
{
	int domain = 0, type = 0, listening = 0;
	socklen_t n = sizeof(int);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && !listening;
}

static void door_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	if (events & EPOLLOUT)
		notes_flush(d);
	for (int i = 0; i < ACCEPTS && d->door_fd >= 0; i++) {
		int fds[1];
		unsigned nfds = 1;
		uint8_t byte[2];
		ssize_t n = fd_recv(d->door_fd, byte, sizeof(byte), fds, &nfds, MSG_DONTWAIT);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n == 0) {
			log_line(&d->log, LOG_INFO, NULL, "the door was closed from outside");
			door_close(d);
			brigd_door_closed(d);
			return;
		}
		if (n < 0 && n != -EMSGSIZE) {
			log_line(&d->log, LOG_WARN, NULL, "door: %s, closing it",
				 strerror((int)-n));
			door_close(d);
			return;
		}
		/* brig-api sees the end of the other end in each of these. */
		if (n != 1 || nfds != 1 || !is_client(fds[0])) {
			log_line(&d->log, LOG_WARN, NULL, "no client in a message of the door");
			if (n > 0 && nfds == 1)
				fd_close(&fds[0]);
			continue;
		}
		if (d->nconns >= CONNS_DOOR_MAX) {
			refuse(d, fds[0], BRIG_E_BUSY, "too many connections");
			continue;
		}
		struct conn *c = conn_new(d, fds[0]);
		ev_timer_stop(&d->ev, &d->idle_timer);
		if (c && d->host_known)
			conn_poll(c);
	}
}

int brigd_door(struct brigd *d, int fd)
{
	int r = fd_set_nonblock(fd, 1);
	if (r == 0)
		r = ev_io_add(&d->ev, fd, EPOLLIN, door_event, d, &d->door_io);
	if (r == 0)
		d->door_fd = fd;
	return r;
}

int brigd_listen(struct brigd *d, int fd)
{
	d->listen_fd = fd;
	d->accept_timer = (struct ev_timer){ .fn = accept_again, .ctx = d };
	spare_take(d);
	int r = fd_set_nonblock(fd, 1);
	if (r == 0)
		r = ev_io_add(&d->ev, fd, EPOLLIN, listen_event, d, &d->listen_io);
	brigd_idle_check(d);
	return r;
}
