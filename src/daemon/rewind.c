/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Files cannot be put back under processes that have them open, and what was deleted from the image can be
 * had again only without the layer that says so. So the old sandbox is destroyed as by rm, and when
 * brig-jaild has said that nothing of it is left, one is created of the same specification, which never left
 * this process: with its environment, secrets and policy. The record stays in every list meanwhile, in state
 * REMOVING and then CREATING, and a place for it is never given to another.
 *
 * A client that goes away changes nothing. Somebody who removes the sandbox meanwhile wins. A failure leaves
 * a stopped record that says why: the files that were to come back are in their file, as before.
 */
#include "daemon/rewind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/daemon.h"
#include "daemon/layerload.h"
#include "daemon/network.h"
#include "daemon/sandbox.h"
#include "daemon/sandbox_io.h"

struct rewind {
	int fd;
	struct conn *conn; /* waits for it; NULL = has gone */
};

static void client_gone(struct conn *c)
{
	struct sandbox *sb = c->op;
	if (sb->rewind)
		sb->rewind->conn = NULL;
	if (sb->creator == c)
		sb->creator = NULL;
}

static const struct conn_role role = { .gone = client_gone };

int rewind_serve(struct conn *c, struct sandbox *sb, int fd, struct brig_err *err)
{
	if (sb->spec.nvolumes) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "sandbox '%s' has volumes, which are a part of it that cannot be put back", sb->id);
		return brig_fix(err, "create a sandbox with --snapshot and the volumes that it may have");
	}
	if (sb->freezing)
		return brig_fail(err, BRIG_E_BUSY, 0, "sandbox '%s' is being paused or unpaused", sb->id);
	if (layerload_check(fd, err) < 0)
		return -1;
	struct rewind *w = calloc(1, sizeof(*w));
	int own = w ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (own < 0) {
		free(w);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the descriptor");
	}
	*w = (struct rewind){ .fd = own, .conn = c };
	conn_set_role(c, CONN_WAIT, &role, sb);
	sb->rewind = w;
	(void)FAILPOINT("rewind.begin");
	sandbox_destroy(sb, CAUSE_KILL);
	return 0;
}

void rewind_done(struct sandbox *sb)
{
	struct rewind *w = sb->rewind;
	struct brig_err err = BRIG_ERR_INIT;
	if (!w)
		return;
	sb->rewind = NULL;
	if (w->conn) {
		brig_err_set(&err, BRIG_E_STATE, 0, "sandbox '%s' was removed%s%s", sb->id, sb->fault[0] ? ": " : "",
			     sb->fault);
		w->conn->role = NULL;
		conn_error(w->conn, &err);
	}
	fd_close(&w->fd);
	free(w);
}

static void forget_the_former(struct sandbox *sb)
{
	sb->destroying = sb->born = sb->have_figures = sb->relays = sb->paused = false;
	sb->auto_rm = false;
	sb->keep = sb->reborn = true;
	sb->fault[0] = '\0';
	if (sb->net) {
		sb->net->lease = 0;
		sb->net->applied = 0;
	}
}

bool rewind_goes_on(struct sandbox *sb)
{
	struct rewind *w = sb->rewind;
	struct brig_err err = BRIG_ERR_INIT;
	if (!w)
		return false;
	if (sb->d->draining || sb->fault[0] || !LIST_EMPTY(&sb->removers)) {
		rewind_done(sb);
		return false;
	}
	sb->rewind = NULL;
	forget_the_former(sb);
	sandbox_go(sb, SB_CREATING);
	sb->creator = w->conn;
	(void)FAILPOINT("rewind.reborn");
	int fd = fd_steal(&w->fd);
	free(w);
	int r = sandbox_send_create(sb, sb->spec.accept | sb->missing, NULL, &err);
	if (r == 0) {
		sandbox_await_agent(sb, SANDBOX_START_MS);
		r = layerload_start(sb, fd, &err);
	} else {
		fd_close(&fd);
	}
	if (r == 0)
		return true;
	sandbox_unmade(sb, &err);
	return true;
}
