/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A session is one upgraded connection: REQ from the client, then what client_proto.h says of its
 * operation, as if the client were at brigd's socket. It is no blind pipe: the request is parsed,
 * narrowed to what a key may do (remote_ask.h, remote_box.c) and asked of brigd by a link of our
 * own; each frame of the client is checked before it goes on. What comes from brigd is composed
 * anew, so a client sees what it would see there, less what is not its.
 *
 * - UPGRADING: the answer 101 is on its way. Leaves to REQUEST, or OVER.
 *
 * - REQUEST: REQ is awaited, with a deadline. Leaves to WAIT, or by a refusal to CLOSING.
 *
 * - WAIT: asked of brigd (or of box_state.c); nothing is read from the client. Leaves to STREAM or
 * CLOSING.
 *
 * - STREAM: frames go both ways. From the client is read only while the link's queue is short; the
 * link is held while the client does not read (and brigd then holds the sandbox back). Leaves to
 * CLOSING by END or a violation.
 *
 * - CLOSING: the last frame is queued. When it has left, our direction is shut down and the client
 * has a while to close; what it still sends is read and thrown away, because a socket closed over
 * unread bytes would be reset and its client lose the end.
 *
 * - ORPHAN: the client went while its sandbox was being made. brigd's answer may be on its way
 * already, and who does not wait for it never learns what to remove.
 *
 * - OVER: nothing is called any more; the memory is freed when the round ends.
 *
 * The end of a client's connection, also of half of it, is the client's end in every state, as it
 * is at brigd's socket: its command in the foreground ends with it.
 */
#include "api/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "api/audit.h"
#include "api/box.h"
#include "api/call.h"
#include "api/http_response.h"
#include "api/secrets.h"
#include "api/volumes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "brig/client_proto.h"
#include "daemon/spec.h"
#include "store/store.h"

#define READS_PER_ROUND 4
#define READ_PIECE 65536u
#define FRAME_BYTES (sizeof(struct brig_frame_hdr) + BRIG_FRAME_MAX)

enum phase { UPGRADING, REQUEST, WAIT, STREAM, CLOSING, ORPHAN, OVER };

struct remote {
	struct api *a;
	LIST_ENTRY(remote) link;
	enum phase phase;
	char tenant[40], key[24], request[HTTP_ID_MAX], peer[64];
	int64_t uid; /* of the process at a unix socket, -1 = none */
	bool operator;
	perm_set perms; /* of the key */
	int fd;
	struct ev_io io;
	struct http_upgrade *token;
	struct buf rx, tx;
	struct ev_timer deadline;
	struct ev_task grave;

	struct remote_ask ask;
	struct link_op *op;
	struct charge *charge; /* of what is being made */
	bool replied, held, shut;
	struct box *box;  /* it is about, or made; referenced */
	bool foreground;  /* the box ends with us */
	bool recorded;	  /* its place in the audit log is taken, and its record not written yet */
	struct box_waker *waker;
};

static void serve(struct remote *s);

static struct remote_who who(const struct remote *s)
{
	return (struct remote_who){ .tenant = s->tenant, .operator= s->operator, .request = s->request };
}

static const char *verb(const struct remote *s)
{
	return s->ask.req ? remote_verb_name(s->ask.verb) : "request";
}

/* ---- the audit log ---- */

/* What it is called there; NULL: it only looks at things. */
static const char *deed(const struct remote *s)
{
	switch (s->ask.verb) {
	case REMOTE_RUN:
	case REMOTE_CREATE:
	case REMOTE_EXEC:
	case REMOTE_PAUSE:
	case REMOTE_RESUME:
		return remote_verb_name(s->ask.verb);
	case REMOTE_KILL:
		return "signal";
	case REMOTE_RM:
		return "kill";
	case REMOTE_FS:
		return "file";
	case REMOTE_NETWORK:
		return s->ask.changes ? "network" : NULL;
	case REMOTE_VERSION:
	case REMOTE_LS:
	case REMOTE_INSPECT:
	case REMOTE_LOGS:
	case REMOTE_STATS:
	case REMOTE_DENIALS:
	case REMOTE_POOL:
	case REMOTE_IMAGES:
		break;
	}
	return NULL;
}

/* Before its answer leaves. */
static void record(struct remote *s, const char *outcome)
{
	const struct audit_event e = { .what = s->recorded ? deed(s) : NULL,
				       .id = s->box ? s->box->id : "",
				       .outcome = outcome,
				       .tenant = s->operator ? "" : s->tenant,
				       .key = s->key,
				       .operator= s->operator,
				       .uid = s->uid,
				       .peer = s->peer,
				       .request_id = s->request };
	if (e.what)
		auditor_closes(s->a, &e);
	s->recorded = false;
}

/* ---- the end ---- */

static void remote_free(void *ctx)
{
	struct remote *s = ctx;
	buf_done(&s->rx);
	buf_done(&s->tx);
	remote_ask_done(&s->ask);
	box_unref(s->box);
	charge_return(s->charge);
	free(s);
}

/* The connection of the client is given back; idempotent. */
static void hang_up(struct remote *s)
{
	ev_io_del(&s->a->ev, &s->io);
	ev_timer_stop(&s->a->ev, &s->deadline);
	http_upgrade_close(s->token);
	s->token = NULL;
	s->fd = -1;
}

static void over(struct remote *s)
{
	if (s->phase == OVER)
		return;
	s->phase = OVER;
	hang_up(s);
	record(s, "unanswered");
	link_cancel(s->op);
	s->op = NULL;
	if (s->waker)
		box_wake_cancel(s->waker);
	s->waker = NULL;
	if (s->foreground)
		box_kill(s->box, "client_gone", NULL);
	LIST_REMOVE(s, link);
	s->a->nremotes--;
	ev_task_queue(&s->a->ev, &s->grave);
}

static void client_gone(struct remote *s)
{
	if (s->phase == WAIT && remote_makes(&s->ask) && !s->replied && s->op) {
		s->phase = ORPHAN;
		hang_up(s);
	} else if (s->phase != ORPHAN) {
		over(s);
	}
}

static void expired(void *ctx)
{
	over(ctx);
}

/* ---- to the client ---- */

static void watch(struct remote *s)
{
	uint32_t events = EPOLLRDHUP;
	if (s->fd < 0)
		return;
	if (s->phase == REQUEST || s->phase == CLOSING ||
	    (s->phase == STREAM && link_queued(s->op) < LINK_QUEUE_HIGH))
		events |= EPOLLIN;
	if (buf_len(&s->tx))
		events |= EPOLLOUT;
	ev_io_set(&s->a->ev, s->io, events);
}

/* All was said. */
static void close_softly(struct remote *s)
{
	if (s->phase != CLOSING || s->shut || buf_len(&s->tx))
		return;
	s->shut = true;
	shutdown(s->fd, SHUT_WR);
	if (ev_timer_set(&s->a->ev, &s->deadline, clock_now() + REMOTE_CLOSE_MS * MS_NS) < 0)
		over(s);
}

static void finish(struct remote *s)
{
	if (s->phase == OVER)
		return;
	s->phase = CLOSING;
	ev_timer_stop(&s->a->ev, &s->deadline);
	if (s->foreground)
		box_kill(s->box, "lost", NULL);
	s->foreground = false;
	close_softly(s);
	watch(s);
}

static void flush(struct remote *s)
{
	while (buf_len(&s->tx)) {
		ssize_t n = send(s->fd, buf_head(&s->tx), buf_len(&s->tx),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			client_gone(s);
			return;
		}
		buf_consume(&s->tx, (size_t)n);
	}
	if (s->held && s->op && buf_len(&s->tx) < REMOTE_QUEUE_HIGH / 2) {
		s->held = false;
		link_hold(s->op, false);
	}
	close_softly(s);
}

/* At once as far as the socket takes it; the rest is queued. */
static void put(struct remote *s, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
		size_t n)
{
	struct brig_frame_hdr h = {
		.len = (uint32_t)n, .type = type, .flags = flags, .stream = stream
	};
	struct iovec iov[2] = { { .iov_base = &h, .iov_len = sizeof(h) },
				{ .iov_base = (void *)(uintptr_t)p, .iov_len = n } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n ? 2 : 1 };
	ssize_t done = 0;
	if (s->fd < 0)
		return;
	if (!buf_len(&s->tx)) {
		done = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN && errno != EINTR) {
			client_gone(s);
			return;
		}
		done = done < 0 ? 0 : done;
	}
	for (unsigned i = 0; i < msg.msg_iovlen; i++) {
		size_t skip = (size_t)done < iov[i].iov_len ? (size_t)done : iov[i].iov_len;
		done -= (ssize_t)skip;
		if (buf_add(&s->tx, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip) < 0) {
			client_gone(s);
			return;
		}
	}
}

/* REP or END, in as many frames as it takes (client_proto.h). Steals the object. */
static void put_json(struct remote *s, uint16_t type, json_t *o)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0, at = 0, k = BRIG_FRAME_MAX;
	json_decref(o);
	if (!text) {
		client_gone(s);
		return;
	}
	for (; k == BRIG_FRAME_MAX; at += k) {
		k = n - at < BRIG_FRAME_MAX ? n - at : BRIG_FRAME_MAX;
		put(s, type, 0, 0, text + at, k);
	}
	free(text);
}

/* The last frame; steals error. Its details tell where to look in the server's log. */
static void put_error(struct remote *s, json_t *error)
{
	json_t *o = json_copy(error), *details = json_object_get(error, "details");
	details = json_is_object(details) ? json_copy(details) : json_object();
	json_object_set_new(details, "request_id", json_string(s->request));
	json_object_set_new(o, "details", details);
	json_decref(error);
	put_json(s, s->replied ? BRIG_CL_END : BRIG_CL_REP, json_pack("{s:o}", "error", o));
	finish(s);
}

static void refuse(struct remote *s, const struct brig_err *err)
{
	log_line(&s->a->log, LOG_WARN, s->box ? s->box->id : NULL,
		 "remote %s refused: %s (request %s, tenant %s, from %s)", verb(s), err->msg,
		 s->request, s->tenant, s->peer);
	record(s, "refused");
	link_cancel(s->op);
	s->op = NULL;
	put_error(s, api_err_json(err, s->request));
}

/* As refuse(), with the policy or the quota in the details. */
static void refuse_why(struct remote *s, struct refusal *why)
{
	json_t *error = api_err_json(&why->err, s->request);
	log_line(&s->a->log, LOG_WARN, NULL,
		 "remote %s refused: %s (request %s, tenant %s, from %s)", verb(s), why->err.msg,
		 s->request, s->tenant, s->peer);
	if (error && why->details)
		json_object_set(error, "details", why->details);
	json_decref(why->details);
	put_error(s, error);
}

/* ---- from brigd ---- */

static int reply_narrow(struct remote *s, json_t *ok, struct brig_err *err)
{
	struct remote_who asks = who(s);
	switch (s->ask.verb) {
	case REMOTE_VERSION:
		/* What only whoever runs the server needs. */
		json_object_del(ok, "pid");
		json_object_del(ok, "instance");
		return 0;
	case REMOTE_LS:
		remote_filter(s->a, &asks, json_object_get(ok, "sandboxes"));
		return 0;
	case REMOTE_STATS:
		remote_filter(s->a, &asks, json_object_get(ok, "stats"));
		return 0;
	case REMOTE_RM:
		box_asked(s->box, s->request);
		box_kill(s->box, "deleted", NULL);
		return 0;
	case REMOTE_RUN:
	case REMOTE_CREATE: {
		bool stays = s->ask.verb == REMOTE_CREATE || s->ask.detach;
		struct charge *charge = s->charge;
		s->charge = NULL;
		struct box *b = remote_box_made(s->a, &asks, &s->ask, charge, !stays, ok, err);
		if (!b)
			return -1;
		s->box = box_ref(b);
		s->foreground = !stays;
		return 0;
	}
	case REMOTE_INSPECT:
		/* Variables are for who may enter. */
		if (!(s->perms & PERM_BIT(PERM_FILES)))
			json_object_del(ok, "env");
		return 0;
	case REMOTE_EXEC:
	case REMOTE_LOGS:
	case REMOTE_KILL:
	case REMOTE_PAUSE:
	case REMOTE_RESUME:
	case REMOTE_NETWORK:
	case REMOTE_DENIALS:
	case REMOTE_FS:
	case REMOTE_POOL:
	case REMOTE_IMAGES:
		break;
	}
	return 0;
}

static void orphan_end(struct remote *s, json_t *ok)
{
	const char *id = json_string_value(json_object_get(ok, "id"));
	if (id)
		box_remove_charged(s->a, id, s->charge);
	else
		charge_return(s->charge);
	s->charge = NULL;
	over(s);
}

static void replied(void *ctx, json_t *ok)
{
	struct remote *s = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	bool streams = s->ask.frames != REMOTE_FRAMES_NONE;
	if (!streams)
		s->op = NULL;
	if (s->phase == ORPHAN) {
		orphan_end(s, ok);
		return;
	}
	json_t *told = json_deep_copy(ok);
	if (reply_narrow(s, told, &err) < 0) {
		json_decref(told);
		refuse(s, &err);
		return;
	}
	s->replied = true;
	record(s, "ok");
	put_json(s, BRIG_CL_REP, json_pack("{s:o}", "ok", told));
	if (s->phase == OVER)
		return;
	if (!streams || s->ask.detach) {
		link_cancel(s->op);
		s->op = NULL;
		finish(s);
		return;
	}
	s->phase = STREAM;
	serve(s);
}

static void failed(void *ctx, json_t *error)
{
	struct remote *s = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	s->op = NULL;
	if (s->phase == ORPHAN) {
		over(s);
		return;
	}
	api_err_from(error, &err);
	record(s, api_status(err.code) < 500 ? "refused" : "failed");
	/* It ended, and nobody had noticed. */
	if (err.code == BRIG_E_NOT_FOUND && s->box && !remote_makes(&s->ask))
		box_kill(s->box, "lost", NULL);
	put_error(s, json_incref(error));
}

static void frame_came(void *ctx, const struct frame *f)
{
	struct remote *s = ctx;
	put(s, f->h.type, f->h.flags, f->h.stream, f->payload, f->h.len);
	if (s->op && !s->held && buf_len(&s->tx) > REMOTE_QUEUE_HIGH) {
		s->held = true;
		link_hold(s->op, true);
	}
	watch(s);
}

static void ended(void *ctx, json_t *status)
{
	struct remote *s = ctx;
	s->op = NULL;
	if (s->phase == ORPHAN) {
		over(s);
		return;
	}
	if (s->foreground) {
		json_t *info = json_pack("{s:s,s:O}", "state", "gone", "status", status);
		box_kill(s->box, "ended", box_evidence(info));
		json_decref(info);
	}
	s->foreground = false;
	record(s, "ok"); /* of a command that could not be started this is the only answer */
	put_json(s, BRIG_CL_END, json_incref(status));
	finish(s);
}

static void room(void *ctx)
{
	serve(ctx);
}

static const struct link_ops ops = { .reply = replied,
				     .failed = failed,
				     .frame = frame_came,
				     .end = ended,
				     .room = room };

/* ---- the request ---- */

/* Where a command has its secrets: those of a sandbox are in its specification. */
static json_t *secrets_place(const struct remote *s)
{
	if (remote_makes(&s->ask))
		return json_object_get(s->ask.req, "spec");
	return s->ask.verb == REMOTE_EXEC ? s->ask.req : NULL;
}

/* Names of secrets become values, as late as can be. */
static int secrets_put(struct remote *s, struct brig_err *err)
{
	json_t *place = secrets_place(s), *want = json_object_get(place, "secrets");
	if (!want)
		return 0;
	if (!(s->perms & PERM_BIT(PERM_SECRETS)))
		return secrets_deny(err);
	if (json_object_get(place, "secret_env"))
		return brig_fail(err, BRIG_E_INVALID, 0, "'secrets' excludes 'secret_env'");
	json_incref(want);
	json_object_del(place, "secrets");
	int r = secrets_resolve(s->a, s->tenant, want, place, err);
	json_decref(want);
	return r;
}

/* The request is kept for as long as the session. */
static void secrets_forget(struct remote *s)
{
	json_t *place = secrets_place(s);
	secrets_wipe(json_object_get(place, "secret_env"));
	json_object_del(place, "secret_env");
}

static void ask_brigd(struct remote *s)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct refusal why = REFUSAL_INIT;
	struct remote_who asks = who(s);
	AUTO_FD layer = -1;
	if ((remote_makes(&s->ask) &&
	     remote_box_prepare(s->a, &asks, s->ask.req, &s->charge, &layer, &why) < 0) ||
	    (s->ask.changes && remote_network_prepare(s->a, &asks, s->box, s->ask.req, &why) < 0)) {
		refuse_why(s, &why);
		return;
	}
	if (secrets_put(s, &err) < 0 ||
	    (remote_makes(&s->ask) && volumes_rename(s->a, s->tenant, s->perms,
						     json_object_get(s->ask.req, "spec"), &err) < 0)) {
		secrets_forget(s);
		refuse(s, &err);
		return;
	}
	int r = link_start_fd(s->a->link, json_incref(s->ask.req), layer,
			      s->ask.frames != REMOTE_FRAMES_NONE, &ops, s, &s->op, &err);
	secrets_forget(s);
	if (r < 0) {
		s->op = NULL;
		refuse(s, &err);
	}
}

/* A pause or resume that box_state.c did. */
static void changed(void *ctx, const struct brig_err *err)
{
	struct remote *s = ctx;
	s->waker = NULL;
	if (err) {
		refuse(s, err);
		return;
	}
	s->replied = true;
	record(s, "ok");
	put_json(s, BRIG_CL_REP, json_pack("{s:{}}", "ok"));
	finish(s);
}

/* About one sandbox, which is known now. */
static void ask_about(struct remote *s, struct box *b)
{
	s->box = box_ref(b);
	if (json_object_set_new(s->ask.req, "id", json_string(b->id)) < 0) {
		client_gone(s);
		return;
	}
	s->ask.id = b->id;
	if (s->ask.verb == REMOTE_PAUSE || s->ask.verb == REMOTE_RESUME)
		box_asked(b, s->request);
	/* The state of a box is brig-api's; what makes no sense in it, brigd says best. */
	if (s->ask.verb == REMOTE_PAUSE && !b->stopped && b->state == BOX_RUNNING)
		s->waker = box_pause(b, changed, s);
	else if (s->ask.verb == REMOTE_RESUME && !b->stopped && b->state != BOX_RUNNING)
		s->waker = box_wake(b, true, changed, s);
	else
		ask_brigd(s);
}

static void listed(void *ctx, json_t *ok)
{
	struct remote *s = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	struct remote_who asks = who(s);
	s->op = NULL;
	struct box *b = remote_resolve(s->a, &asks, json_object_get(ok, "sandboxes"), s->ask.id,
				       &err);
	if (b)
		ask_about(s, b);
	else
		refuse(s, &err);
}

static const struct link_ops list_ops = { .reply = listed, .failed = failed };

/* As call_authenticate() does for a route. */
static int may_ask(const struct remote *s, struct brig_err *err)
{
	char names[SCOPES_TEXT_MAX];
	perm_set lacks = remote_needs(&s->ask) & ~s->perms;
	if (!lacks)
		return 0;
	scopes_text(lacks, names);
	brig_err_set(err, BRIG_E_DENIED, 0, "the key's role or scopes do not include %s", names);
	return brig_fix(err, "use a key of role developer: `brig key create --role developer`");
}

static void ask_start(struct remote *s)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct remote_who asks = who(s);
	log_line(&s->a->log, LOG_INFO, NULL, "remote %s%s%s (request %s, tenant %s, from %s)",
		 verb(s), s->ask.id ? " of " : "", s->ask.id ? s->ask.id : "", s->request,
		 s->tenant, s->peer);
	if (may_ask(s, &err) < 0) {
		refuse(s, &err);
		return;
	}
	if (deed(s) && (store_room(s->a->store, s->ask.verb == REMOTE_RM, &err) < 0 ||
			!auditor_opens(s->a, &err))) {
		refuse(s, &err);
		return;
	}
	s->recorded = deed(s) != NULL;
	if (!s->ask.id) {
		ask_brigd(s);
		return;
	}
	struct box *b = box_find(s->a, s->ask.id);
	if (b && remote_may_see(&asks, b))
		ask_about(s, b);
	else if (link_start(s->a->link, json_pack("{s:s}", "op", "ls"), false, &list_ops, s, &s->op,
			    &err) < 0)
		refuse(s, &err);
}

/* ---- from the client ---- */

static void violation(struct remote *s, const char *what)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_PROTOCOL, 0, "%s", what);
	refuse(s, &err);
}

static void take(struct remote *s, const struct frame *f)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (s->phase == STREAM) {
		/* What cannot be sent any more is told by the end of the operation. */
		if (remote_frame_check(&s->ask, f, &err) < 0)
			refuse(s, &err);
		else
			(void)link_send(s->op, f->h.type, f->h.flags, f->h.stream, f->payload,
					f->h.len);
		return;
	}
	if (f->h.type != BRIG_CL_REQ || f->h.stream || f->h.flags) {
		violation(s, "the first frame is no request");
		return;
	}
	ev_timer_stop(&s->a->ev, &s->deadline);
	if (remote_ask_parse(f->payload, f->h.len, &s->ask, &err) < 0) {
		refuse(s, &err);
		return;
	}
	s->phase = WAIT;
	ask_start(s);
}

static bool may_take(const struct remote *s)
{
	return s->phase == REQUEST ||
	       (s->phase == STREAM && s->op && link_queued(s->op) < LINK_QUEUE_HIGH);
}

static void take_all(struct remote *s)
{
	struct frame f;
	int r;
	while (may_take(s) && (r = frame_peek(&s->rx, &f)) != 0) {
		if (r < 0) {
			violation(s, "a frame is malformed");
			return;
		}
		size_t n = frame_size(&f);
		take(s, &f);
		if (s->phase != OVER)
			buf_consume(&s->rx, n);
	}
}

/* -1: nothing more is to be read now. */
static int read_some(struct remote *s)
{
	uint8_t *at = NULL, junk[4096];
	size_t have = buf_len(&s->rx), want = FRAME_BYTES - have;
	bool discard = s->phase == CLOSING;
	want = want < READ_PIECE ? want : READ_PIECE;
	if (!discard && (want == 0 || buf_reserve(&s->rx, want, &at) < 0)) {
		client_gone(s);
		return -1;
	}
	ssize_t n = recv(s->fd, discard ? junk : at, discard ? sizeof(junk) : want, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -1;
	if (n <= 0) {
		client_gone(s);
		return -1;
	}
	if (!discard)
		buf_commit(&s->rx, (size_t)n);
	return 0;
}

static void serve(struct remote *s)
{
	take_all(s);
	for (int i = 0; i < READS_PER_ROUND && s->fd >= 0 && (may_take(s) || s->phase == CLOSING);
	     i++) {
		if (read_some(s) < 0)
			break;
		take_all(s);
	}
	if (s->phase != OVER)
		watch(s);
}

static void event(void *ctx, uint32_t events)
{
	struct remote *s = ctx;
	if (events & EPOLLOUT)
		flush(s);
	if (s->phase == OVER || s->phase == ORPHAN)
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		client_gone(s);
	else
		serve(s);
}

/* ---- the upgrade ---- */

static void upgraded(void *ctx, int fd, const void *early, size_t n, struct http_upgrade *token)
{
	struct remote *s = ctx;
	s->token = token;
	if (fd < 0 || (n && buf_add(&s->rx, early, n) < 0) ||
	    ev_io_add(&s->a->ev, fd, EPOLLIN | EPOLLRDHUP, event, s, &s->io) < 0) {
		over(s);
		return;
	}
	s->fd = fd;
	s->phase = REQUEST;
	s->deadline = (struct ev_timer){ .fn = expired, .ctx = s };
	if (ev_timer_set(&s->a->ev, &s->deadline, clock_now() + REMOTE_REQUEST_MS * MS_NS) < 0)
		over(s);
	else
		serve(s);
}

static void refuse_upgrade(struct call *c, const char *asked)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (asked && strncasecmp(asked, "brig/", 5) == 0)
		brig_err_set(&err, BRIG_E_UNSUPPORTED, 0,
			     "this server speaks " REMOTE_PROTOCOL ", not %.32s", asked);
	else
		brig_err_set(&err, BRIG_E_INVALID, 0,
			     "this is for brig's command line: an upgrade to " REMOTE_PROTOCOL);
	brig_err_remedy(&err, "set BRIG_URL to this server and use the brig of version %s",
			BRIG_VERSION);
	http_answer_header(c->r, "Upgrade", REMOTE_PROTOCOL);
	api_fail_as(c->r, 426, &err);
}

static void connect_remote(struct call *c)
{
	const char *to = http_header(c->r, "Upgrade"), *how = http_header(c->r, "Connection");
	struct brig_err err = BRIG_ERR_INIT;
	if (!to || !how || !header_list_has(how, "upgrade") ||
	    !header_list_has(to, REMOTE_PROTOCOL)) {
		refuse_upgrade(c, to);
		return;
	}
	if (c->api->nremotes >= REMOTES_MAX) {
		brig_err_set(&err, BRIG_E_BUSY, 0, "%u command lines are connected", REMOTES_MAX);
		call_fail(c, &err);
		return;
	}
	struct remote *s = calloc(1, sizeof(*s));
	if (!s) {
		call_fail_text(c, 503, "out of memory");
		return;
	}
	s->a = c->api;
	s->fd = -1;
	s->operator= c->operator;
	s->perms = c->perms;
	snprintf(s->tenant, sizeof(s->tenant), "%s", c->tenant);
	snprintf(s->key, sizeof(s->key), "%s", c->key_id);
	s->uid = http_peer_uid(c->r);
	snprintf(s->request, sizeof(s->request), "%s", http_id(c->r));
	snprintf(s->peer, sizeof(s->peer), "%s", http_peer(c->r));
	s->rx = (struct buf)BUF_INIT(FRAME_BYTES);
	s->tx = (struct buf)BUF_INIT(REMOTE_QUEUE_MAX);
	s->grave = (struct ev_task){ .fn = remote_free, .ctx = s };
	LIST_INSERT_HEAD(&c->api->remotes, s, link);
	c->api->nremotes++;
	http_answer_header(c->r, "Upgrade", REMOTE_PROTOCOL);
	http_reply_upgrade(c->r, upgraded, s);
}

void remotes_close(struct api *a)
{
	struct remote *s, *next;
	for (s = LIST_FIRST(&a->remotes); s; s = next) {
		next = LIST_NEXT(s, link);
		s->foreground = false; /* brigd ends it with our link */
		over(s);
	}
}

const struct route remote_routes[] = {
	{ "GET", "/v1/connect", 0, PERM_ANY, connect_remote },
	{ .method = NULL },
};
