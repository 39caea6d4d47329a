/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Messages are kept as they came, each with its descriptors; the first of a sandbox's is the pidfd of its
 * first process, whose end is all that is ever waited for: then nobody needs the rest. Nothing is read out
 * of a message but its verb.
 *
 * Whatever cannot be kept (no descriptors, no memory) costs the sandbox its life should brig-jaild die; it
 * costs nothing before.
 */
#include "cli/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/cli.h"

#define REPLAY_NS (5 * SEC_NS)

static void msg_free(struct vault_msg *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->nfds; i++)
		fd_close(&m->fds[i]);
	free(m);
}

static void msg_drop(struct vault_msg *m)
{
	LIST_REMOVE(m, link);
	msg_free(m);
}

static int box_keep(struct vault *v, struct vault_msg *m)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = m };
	if (m->nfds != 2 || epoll_ctl(v->ended, EPOLL_CTL_ADD, m->fds[0], &ev) < 0)
		return -1;
	LIST_INSERT_HEAD(&v->boxes, m, link);
	return 0;
}

/* Takes over what is kept of fds. */
static int keep(struct vault *v, uint32_t verb, const char *text, size_t n, int *fds, unsigned nfds)
{
	struct vault_msg *m = malloc(sizeof(*m) + n);
	if (!m)
		return -1;
	*m = (struct vault_msg){ .n = n, .nfds = nfds };
	memcpy(m->text, text, n);
	for (unsigned i = 0; i < nfds; i++)
		m->fds[i] = fd_steal(&fds[i]);
	if (verb == KEEP_HOST) {
		msg_free(v->host);
		v->host = m;
		return 0;
	}
	if (box_keep(v, m) < 0) {
		msg_free(m);
		return -1;
	}
	return 0;
}

static void receive(struct vault *v)
{
	static char text[KEEP_MSG_MAX];
	for (;;) {
		int fds[KEEP_FDS_MAX] = { -1, -1, -1, -1, -1 };
		unsigned nfds = KEEP_FDS_MAX;
		struct keep_hdr h = { 0, 0 };
		ssize_t n = v->sock < 0 ? 0 : fd_recv(v->sock, text, sizeof(text), fds, &nfds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n == 0 || n == -ECONNRESET) { /* its end is noticed elsewhere */
			fd_close(&v->sock);
			return;
		}
		if (n >= (ssize_t)sizeof(h))
			memcpy(&h, text, sizeof(h));
		if (h.verb == KEEP_READY && nfds == 0)
			v->ready = true;
		else if ((h.verb != KEEP_HOST && h.verb != KEEP_BOX) ||
			 keep(v, h.verb, text, (size_t)n, fds, nfds) < 0)
			cli_note("no room to keep a sandbox: it ends with its brig-jaild");
		for (unsigned i = 0; i < KEEP_FDS_MAX; i++)
			fd_close(&fds[i]);
	}
}

static void bury(struct vault *v)
{
	struct epoll_event ev[32];
	int n;
	while (v->ended >= 0 && (n = epoll_wait(v->ended, ev, 32, 0)) > 0)
		for (int i = 0; i < n; i++) {
			struct vault_msg *m = ev[i].data.ptr;
			(void)epoll_ctl(v->ended, EPOLL_CTL_DEL, m->fds[0], NULL);
			msg_drop(m);
		}
}

int vault_open(struct vault *v, int *ret_theirs, struct brig_err *err)
{
	int pair[2];
	struct rlimit files;
	receive(v);
	fd_close(&v->sock);
	v->ready = false;
	if (v->ended < 0) {
		v->ended = epoll_create1(EPOLL_CLOEXEC);
		if (v->ended < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a server");
		/* Two for each sandbox. */
		if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
			files.rlim_cur = files.rlim_max;
			(void)setrlimit(RLIMIT_NOFILE, &files);
		}
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a server");
	v->sock = pair[0];
	*ret_theirs = pair[1];
	return 0;
}

static int send_kept(const struct vault *v, const struct vault_msg *m, uint64_t until)
{
	for (;;) {
		struct pollfd p = { .fd = v->sock, .events = POLLOUT };
		uint64_t now = clock_now();
		if (now >= until || poll(&p, 1, (int)((until - now) / MS_NS) + 1) < 0)
			return now < until ? -errno : -ETIMEDOUT;
		int r = fd_send(v->sock, m->text, m->n, m->fds, m->nfds);
		if (r != -EAGAIN)
			return r;
	}
}

int vault_replay(struct vault *v, struct brig_err *err)
{
	const struct keep_hdr end = { KEEP_END, BRIG_KEEP_VERSION };
	const uint64_t until = clock_now() + REPLAY_NS;
	struct vault_msg *m;
	bury(v);
	int r = fd_set_nonblock(v->sock, 1);
	if (r == 0)
		r = v->host ? send_kept(v, v->host, until) : -ENOENT;
	LIST_FOREACH(m, &v->boxes, link)
		if (r == 0)
			r = send_kept(v, m, until);
	if (r == 0) {
		struct vault_msg *last = malloc(sizeof(*last) + sizeof(end));
		r = last ? 0 : -ENOMEM;
		if (last) {
			*last = (struct vault_msg){ .n = sizeof(end) };
			memcpy(last->text, &end, sizeof(end));
			r = send_kept(v, last, until);
		}
		free(last);
	}
	return r < 0 ? brig_fail(err, BRIG_E_UNAVAILABLE, -r, "give brig-jaild what its former left") : 0;
}

int vault_link(const struct vault *v, int link, struct brig_err *err)
{
	const struct keep_hdr m = { KEEP_LINK, BRIG_KEEP_VERSION };
	int r = fd_send(v->sock, &m, sizeof(m), &link, 1);
	return r < 0 ? brig_fail(err, BRIG_E_UNAVAILABLE, -r, "give brig-jaild another brigd") : 0;
}

void vault_poll(const struct vault *v, struct pollfd ret[2])
{
	ret[0] = (struct pollfd){ .fd = v->sock, .events = POLLIN };
	ret[1] = (struct pollfd){ .fd = v->ended, .events = POLLIN };
}

void vault_work(struct vault *v)
{
	receive(v);
	bury(v);
}

bool vault_resumable(struct vault *v)
{
	vault_work(v);
	return v->ready && v->host;
}

void vault_close(struct vault *v)
{
	struct vault_msg *m;
	fd_close(&v->sock);
	/* First: closing a pidfd that jaild has, too, would not take it out. */
	fd_close(&v->ended);
	while ((m = LIST_FIRST(&v->boxes)))
		msg_drop(m);
	msg_free(v->host);
	v->host = NULL;
	v->ready = false;
}
