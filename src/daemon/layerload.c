/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The client hands over a descriptor of the file, as it does with volumes; brigd may open none. The bytes
 * are not looked at: the agent, which is as confined as what it would unpack, checks every one of them
 * (agent/layer_import.c). They are read in pieces as the agent grants credit and while its channel's
 * queue is short, so a large snapshot holds up no other sandbox for longer than one read.
 *
 * Until all is in place the sandbox stays in CREATING: nobody can start or read anything in it, its pool
 * place, name and record do not exist. Whatever fails on the way ends it, so there is no sandbox with half
 * of its files. It has SANDBOX_START_MS for each step, not for all of them: a snapshot may be large.
 */
#include "daemon/layerload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/chan.h"
#include "daemon/sandbox.h"
#include "daemon/sandbox_io.h"

#define PIECE (128u * 1024u)
/* Sent in one round; then others have their turn. The next credit or an empty queue goes on. */
#define ROUND_MAX (1024u * 1024u)

struct layerload {
	struct sandbox *sb;
	struct chan_stream *stream;
	int fd;
	uint64_t left; /* bytes of the file that are still to be sent */
	bool eof;
	/* Not the loop's scratch memory: what called us lies in it. */
	uint8_t piece[PIECE];
};

int layerload_check(int fd, struct brig_err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_INVALID, errno, "look at the snapshot");
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'layer' is no file of a snapshot");
	return 0;
}

static void load_free(struct layerload *l)
{
	fd_close(&l->fd);
	free(l);
}

void layerload_abort(struct sandbox *sb)
{
	struct layerload *l = sb->load;
	if (!l)
		return;
	sb->load = NULL;
	/* What the agent still says about it is nobody's. */
	l->stream->owner = NULL;
	load_free(l);
}

static void load_fail(struct sandbox *sb, enum brig_code code, int sys, const char *what)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, code, sys, "%s", what);
	layerload_abort(sb);
	sandbox_refuse(sb, &err);
}

/* One piece. False: the sandbox has ended, or nothing more can be sent now. */
static bool piece_send(struct layerload *l)
{
	struct sandbox *sb = l->sb;
	size_t want = sizeof(l->piece);
	want = l->left < want ? (size_t)l->left : want;
	want = l->stream->may_send < want ? (size_t)l->stream->may_send : want;
	if (l->eof || want == 0)
		return false;
	ssize_t n = read(l->fd, l->piece, want);
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		load_fail(sb, BRIG_E_CORRUPT, n < 0 ? errno : 0, "the file of the snapshot cannot be read to its end");
		return false;
	}
	l->left -= (uint64_t)n;
	l->eof = l->left == 0;
	int r = chan_data(&sb->chan, l->stream, BRIG_FS_DATA, l->piece, (size_t)n, l->eof);
	(void)FAILPOINT("layer.piece");
	sandbox_sent(sb, r);
	return r == 0 && sb->load == l;
}

static void push(struct layerload *l)
{
	size_t sent = 0;
	while (sent < ROUND_MAX && sandbox_has_room(l->sb) && piece_send(l))
		sent += PIECE;
}

void layerload_on_credit(struct layerload *l)
{
	if (!l)
		return;
	sandbox_await_agent(l->sb, sandbox_start_ms(l->sb));
	push(l);
}

void layerload_drained(struct sandbox *sb)
{
	if (sb->load)
		push(sb->load);
}

static enum brig_code code_of(int sys)
{
	switch (sys) {
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
		return BRIG_E_EXHAUSTED;
	case EINVAL:
		return BRIG_E_CORRUPT;
	default:
		return BRIG_E_INVALID;
	}
}

void layerload_on_frame(struct layerload *l, const struct frame *f)
{
	struct brig_fs_done done;
	struct brig_err err = BRIG_ERR_INIT;
	if (!l || f->h.type != BRIG_FS_DONE)
		return;
	struct sandbox *sb = l->sb;
	const uint8_t *at = frame_struct(f, &done, sizeof(done));
	const char *path = at ? frame_str(&at, f->payload + f->h.len) : NULL;
	bool whole = l->eof;
	sb->load = NULL;
	l->stream->owner = NULL; /* the channel frees it after this */
	load_free(l);
	(void)FAILPOINT("layer.done");
	if (at && done.err == 0 && whole) {
		sandbox_check_ready(sb);
		return;
	}
	int sys = at && done.err > 0 && done.err < 4096 ? done.err : EINVAL;
	brig_err_set(&err, code_of(sys), sys, "put the files of the snapshot in place: '%.128s'",
		     path ? path : "");
	if (sys == ENOSPC)
		brig_err_remedy(&err, "give the sandbox as much --disk (and --memory) as the one that the "
				      "snapshot was taken of");
	sandbox_refuse(sb, &err);
}

int layerload_start(struct sandbox *sb, int fd, struct brig_err *err)
{
	struct {
		struct brig_fs_req m;
		char text[4];
	} req = { .m = { .flags = 0 }, .text = "0\0/" };
	struct stat st;
	struct layerload *l = calloc(1, sizeof(*l));
	if (!l || fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		int sys = l ? errno : ENOMEM;
		fd_close(&fd);
		free(l);
		return brig_fail(err, BRIG_E_INVALID, sys, "read the snapshot");
	}
	l->sb = sb;
	l->fd = fd;
	l->left = (uint64_t)st.st_size;
	int r = FAILPOINT("layer.begin");
	if (r == 0)
		r = chan_fs(&sb->chan, l, BRIG_FS_IMPORT, &req, sizeof(req.m) + sizeof(req.text), &l->stream);
	if (r < 0) {
		load_free(l);
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "send the snapshot to sandbox '%s'", sb->id);
	}
	l->stream->host = true;
	sb->load = l;
	sandbox_sent(sb, 0);
	return 0;
}
