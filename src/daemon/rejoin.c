/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A brig-jaild that dies takes nothing along: its sandboxes run, their channels are ours. What was asked of
 * it is answered with an error that says to try again; who comes now waits in his socket, as at a start.
 * Commands, files and ports go on, for they need no jaild.
 *
 * The next one, whose link the supervisor sends, tells what it has taken over (jail/recover.c), and that is
 * held against our records:
 *
 *   in both                both go on. What was under way is decided: a removal is asked for again, and
 *                          whether it stands still is as jaild says.
 *   a record without box   it ended meanwhile, or could not be taken over.
 *   a box without record   its creation had not been answered, and its client was told so: removed.
 *
 * Numbers of images were the former's. They are told again, of those that are in use.
 */
#include "daemon/rejoin.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/adopt.h"
#include "daemon/exec.h"
#include "daemon/freeze.h"
#include "daemon/netpeer.h"
#include "daemon/pool.h"
#include "daemon/sandbox.h"

static void list_ask(struct brigd *d, uint32_t at);

bool rejoin_possible(const struct brigd *d)
{
	return d->rejoin_fd >= 0 && d->host.outlive && !d->quit;
}

static void box_found(struct brigd *d, const struct jail_box *m)
{
	struct sandbox *sb = sandbox_by_id(d, m->id);
	if (!sb || sb->state == SB_STOPPED) {
		adopt_box_destroy(d, m->id, "nobody was told of it");
		return;
	}
	sb->seen = true;
	if (!sb->destroying)
		freeze_found(sb, m->frozen);
}

/* All boxes are known. */
static void listed(struct brigd *d)
{
	struct sandbox *sb, *next;
	struct exec *x;
	for (sb = LIST_FIRST(&d->all); sb; sb = next) {
		next = LIST_NEXT(sb, all);
		if (!sb->counted)
			continue;
		if (sb->destroying)
			sandbox_destroy_again(sb);
		else if (!sb->seen)
			sandbox_lost(sb, "it ended with brig-jaild");
		else if (sb->state != SB_PAUSED)
			sandbox_watch_cpu(sb);
		for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
			exec_figures(x);
	}
	netpeer_again(d);
	d->rejoining = false;
	(void)FAILPOINT("rejoin.done");
	log_line(&d->log, LOG_INFO, NULL, "brig-jaild is there again, %u sandboxes", d->nlive);
	brigd_ready(d);
}

static void list_answered(void *ctx, const union jail_answer *a)
{
	struct brigd *d = ctx;
	fd_close(&d->jail.answer_fd); /* the channel, which is here */
	if (d->jail.fd < 0)
		return; /* it has died, too */
	if (a->h.verb != JAIL_BOX_IS) {
		brigd_fail(d, "brig-jaild does not tell what it has");
		return;
	}
	if (!a->box.id[0]) {
		listed(d);
		return;
	}
	box_found(d, &a->box);
	list_ask(d, a->box.next);
}

static void list_ask(struct brigd *d, uint32_t at)
{
	struct jail_list m = { .h = { .verb = JAIL_LIST }, .at = at };
	(void)jail_call(&d->jail, &m, sizeof(m), NULL, 0, list_answered, d);
}

static void hello_answered(void *ctx, const union jail_answer *a)
{
	struct brigd *d = ctx;
	struct sandbox *sb;
	if (d->jail.fd < 0)
		return;
	if (a->h.verb != JAIL_HELLO_OK || a->hello.version != BRIG_JAIL_PROTO_VERSION) {
		brigd_fail(d, "brig-jaild has another version");
		return;
	}
	d->host = a->hello;
	if (d->egress.fd < 0)
		d->host.net = 0;
	(void)FAILPOINT("rejoin.hello");
	images_relearn(&d->images);
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all))
		sb->seen = false;
	list_ask(d, 0);
}

/* Takes over fd. */
static void link_take(struct brigd *d, int fd)
{
	struct jail_hello m = { .h = { .verb = JAIL_HELLO }, .version = BRIG_JAIL_PROTO_VERSION };
	if (d->jail.fd >= 0)
		jail_link_lose(&d->jail, "there is another brig-jaild");
	if (d->quit || jail_link_renew(&d->jail, fd) < 0) {
		brigd_fail(d, "cannot use the link to brig-jaild");
		return;
	}
	(void)jail_call(&d->jail, &m, sizeof(m), NULL, 0, hello_answered, d);
}

static void supervisor_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	char byte;
	int fd = -1;
	unsigned n = 1;
	(void)events;
	ssize_t r = fd_recv(d->rejoin_fd, &byte, 1, &fd, &n, MSG_DONTWAIT);
	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		rejoin_done(d);
		if (d->jail.fd < 0)
			brigd_fail(d, "brig-jaild ended");
		return;
	}
	if (n == 1)
		link_take(d, fd);
}

int rejoin_init(struct brigd *d, int fd)
{
	d->rejoin_fd = fd;
	return ev_io_add(&d->ev, fd, EPOLLIN, supervisor_event, d, &d->rejoin_io);
}

void rejoin_done(struct brigd *d)
{
	if (d->rejoin_fd < 0)
		return;
	ev_io_del(&d->ev, &d->rejoin_io);
	fd_close(&d->rejoin_fd);
}

void rejoin_await(struct brigd *d, const char *why)
{
	log_line(&d->log, LOG_WARN, NULL, "%s; its sandboxes go on", why);
	d->rejoining = true;
	d->host_known = false;
	pool_stop(d);
	jail_fail_all(&d->jail, "brig-jaild ended meanwhile");
}
