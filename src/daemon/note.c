/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brigd may write no file, and brig-api keeps the audit log. A note is one datagram through the door,
 * after the operation was taken or refused: when it leaves, the client may have its answer already.
 * It is in the kernel then and outlives both processes.
 *
 * brig-api reads no notes while it cannot record them. The door fills up, then the queue here, and
 * then operations that change something are refused: NOTES_MAX and what the socket holds are the
 * slack, which a brig-api that is being started again needs, too.
 */
#include "daemon/note.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/daemon.h"

static bool told_of(const struct conn *c)
{
	return c->at_socket && c->d->door_fd >= 0;
}

bool note_admits(struct conn *c, struct brig_err *err)
{
	struct notes *q = &c->d->notes;
	if (!told_of(c))
		return true;
	notes_flush(c->d);
	if (q->n < NOTES_MAX)
		return true;
	brig_err_set(err, BRIG_E_UNAVAILABLE, 0,
		     "the audit log takes no records, and what is not recorded is not done");
	brig_err_remedy(err, "free space below the server's data folder, or start it with "
			     "--audit-on-full continue; the server's log says more");
	return false;
}

void notes_flush(struct brigd *d)
{
	struct notes *q = &d->notes;
	while (q->n && d->door_fd >= 0) {
		ssize_t n = send(d->door_fd, &q->at[q->first], sizeof(q->at[0]),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		/* Sent; or the door leads nowhere any more, which is seen elsewhere. */
		q->first = (q->first + 1) % NOTES_MAX;
		q->n--;
	}
	if (d->door_fd >= 0)
		ev_io_set(&d->ev, d->door_io, EPOLLIN | (q->n ? (uint32_t)EPOLLOUT : 0));
}

static void put(struct brigd *d, uint32_t uid, const char *what, const char *id, const char *outcome)
{
	struct notes *q = &d->notes;
	if (q->n == NOTES_MAX)
		return;
	struct door_note *m = &q->at[(q->first + q->n++) % NOTES_MAX];
	*m = (struct door_note){ .uid = uid };
	snprintf(m->what, sizeof(m->what), "%s", what);
	snprintf(m->id, sizeof(m->id), "%s", id);
	snprintf(m->outcome, sizeof(m->outcome), "%s", outcome);
	notes_flush(d);
}

void note_add(struct conn *c, const char *what, const char *outcome)
{
	if (told_of(c))
		put(c->d, c->uid, what, c->about, outcome);
}

void note_host(struct brigd *d, const char *what, const char *id, const char *outcome)
{
	if (d->door_fd >= 0)
		put(d, (uint32_t)getuid(), what, id, outcome);
}
