/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A record is one write() before the answer leaves. What changes keys, tenants or secrets is synced
 * before its answer, too; everything else within SYNC_NS, one fdatasync for all of that second, so
 * that a run costs a write and no wait for the disk.
 *
 * Full disk: a request that changes something is let in only when the disk space of its record is
 * allocated already (audit_log_reserve() for it and for all others that are under way). So the
 * answer to "can this be recorded?" is given before anything is done, not after. If it cannot, the
 * request is refused with 503; with --audit-on-full continue it goes on, what could not be written
 * is counted, and the count is the next record that can be. A disk that fails after that (EIO) loses
 * records in either mode: they are counted likewise, and while they are, new requests are refused.
 * An fdatasync that fails ends the process in the refusing mode, as one of the database does: the
 * kernel has dropped what it could not write, and a second call would call it well.
 *
 * A flood must not fill the disk: answers 401 and other refusals are records of their own within a
 * budget, and beyond it a number once a minute.
 */
#include "api/audit.h"
#include "api/box.h"
#include "api/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "brig/door_proto.h"

#define SYNC_NS SEC_NS
#define HEAD_NS (5 * SEC_NS)
#define FLOOD_NS (60 * SEC_NS)

/* Records of one kind that may be written at once, and how long it takes until one more may. */
struct budget {
	const char *what; /* of the record that tells how many there were beyond it */
	unsigned burst;
	uint64_t each_ns;
	unsigned left;
	uint64_t since; /* when `left` was right */
	uint64_t beyond;
};

enum { AUTH, REFUSED, BUDGETS };

struct auditor {
	struct api *a;
	struct audit_log *log;
	struct audit_key *key;
	bool go_on;
	unsigned under_way; /* admitted requests whose record is not written yet */
	uint64_t lost;	    /* records that could not be written */
	int why;	    /* errno of the last one */
	bool told;	    /* the server's log says so already */
	struct ev_timer timer;
	uint64_t headed, flooded;
	struct budget budget[BUDGETS];
};

struct entry {
	struct auditor *u;
	const char *what; /* NULL: the pattern below */
	char pattern[64], id[AUDIT_TEXT_MAX + 1], tenant[40], key[24];
	bool operator, changes, sync, admitted, written;
	int64_t uid;
};

/* ---- writing ---- */

static void tell(struct auditor *u, int r)
{
	u->why = -r;
	if (!u->told)
		log_line(&u->a->log, LOG_ERROR, NULL,
			 "the audit log cannot be written: %s; %s; remedy: free space below the "
			 "data folder",
			 strerror(-r),
			 u->go_on ? "going on, and counting what is lost"
				  : "requests that change something are refused");
	u->told = true;
}

static void arm(struct auditor *u)
{
	if (!ev_timer_armed(&u->timer))
		(void)ev_timer_set(&u->a->ev, &u->timer, clock_now() + SYNC_NS);
}

/* What was lost is told before anything else is. 0 or -errno. */
static int lost_write(struct auditor *u)
{
	const struct audit_event e = {
		.what = "audit.lost", .outcome = "failed", .count = u->lost, .uid = -1
	};
	int r = u->lost ? audit_log_add(u->log, &e) : 0;
	if (r < 0)
		return r;
	if (u->told)
		log_line(&u->a->log, LOG_WARN, NULL, "the audit log is written again; lost: %llu",
			 (unsigned long long)u->lost);
	u->lost = 0;
	u->told = false;
	return 0;
}

static int put(struct auditor *u, const struct audit_event *e)
{
	int r = lost_write(u);
	if (r == 0)
		r = audit_log_add(u->log, e);
	if (r < 0) {
		u->lost++;
		tell(u, r);
	}
	arm(u);
	return r;
}

static void sync_now(struct auditor *u)
{
	int r = audit_log_sync(u->log);
	if (r == 0)
		return;
	tell(u, r);
	if (u->go_on)
		return;
	fprintf(stderr,
		"brig-api: the audit log could not be synced: %s; ending, because an answer could "
		"not be kept\n"
		"  remedy: look at the health of the disk below the data folder\n",
		strerror(-r));
	_exit(1);
}

void auditor_add(struct api *a, const struct audit_event *e)
{
	struct auditor *u = a->audit;
	if (!u)
		return;
	/* Space is asked for, and if there is none it is written all the same if it can be. */
	(void)audit_log_reserve(u->log, u->under_way + 1);
	(void)put(u, e);
}

/* ---- budgets ---- */

static bool within(struct budget *b)
{
	uint64_t now = clock_now(), more = (now - b->since) / b->each_ns;
	if (more) {
		b->left = more < b->burst - b->left ? b->left + (unsigned)more : b->burst;
		b->since = b->left == b->burst ? now : b->since + more * b->each_ns;
	}
	if (b->left) {
		b->left--;
		return true;
	}
	b->beyond++;
	return false;
}

static void floods_write(struct auditor *u)
{
	for (unsigned i = 0; i < BUDGETS; i++) {
		struct budget *b = &u->budget[i];
		const struct audit_event e = {
			.what = b->what, .outcome = "refused", .count = b->beyond, .uid = -1
		};
		if (b->beyond && audit_log_reserve(u->log, u->under_way + 1) == 0 &&
		    put(u, &e) == 0)
			b->beyond = 0;
	}
	u->flooded = clock_now();
}

static void due(void *ctx)
{
	struct auditor *u = ctx;
	uint64_t now = clock_now();
	bool flood = u->budget[AUTH].beyond || u->budget[REFUSED].beyond;
	if (flood && now - u->flooded >= FLOOD_NS)
		floods_write(u);
	sync_now(u);
	if (now - u->headed >= HEAD_NS) {
		u->headed = now;
		if (audit_log_head(u->log) == -EIO)
			sync_now(u);
	}
	if (audit_log_dirty(u->log) || flood)
		arm(u);
}

/* ---- what brigd tells ---- */

static bool note_may(void *ctx)
{
	struct auditor *u = ctx;
	int r = audit_log_reserve(u->log, u->under_way + 2);
	if (r == 0)
		r = lost_write(u);
	if (r < 0)
		tell(u, r);
	return r == 0 || u->go_on;
}

static void note_put(void *ctx, const void *p, size_t n)
{
	struct auditor *u = ctx;
	struct door_note m;
	if (!door_note_read(p, n, &m)) {
		log_line(&u->a->log, LOG_WARN, NULL, "brigd sent a malformed note, ignoring");
		return;
	}
	const struct audit_event e = { .what = m.what,
				       .id = m.id,
				       .outcome = m.outcome,
				       .operator= true,
				       .uid = m.uid,
				       .peer = "brigd" };
	(void)put(u, &e);
	/* Who asked for it learns it from the answer; a sandbox that was made ahead is nobody's. */
	if (strcmp(m.what, "mismatch") == 0) {
		const struct box *b = box_find(u->a, m.id);
		events_add(u->a, EVENT_MISMATCH, b ? b->tenant : "", m.id, NULL, NULL);
	}
}

/* ---- life ---- */

int auditor_open(struct api *a, const struct audit_log_opts *o, bool go_on_when_full,
		 struct brig_err *err)
{
	uint64_t torn = 0;
	struct auditor *u = calloc(1, sizeof(*u));
	if (!u)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the audit log");
	if (audit_key_open(a->data_fd, &u->key, err) < 0 ||
	    audit_log_open(a->data_fd, u->key, o, &u->log, &torn, err) < 0) {
		audit_key_free(u->key);
		free(u);
		return -1;
	}
	u->a = a;
	u->go_on = go_on_when_full;
	u->timer = (struct ev_timer){ .fn = due, .ctx = u };
	u->headed = u->flooded = clock_now();
	u->budget[AUTH] = (struct budget){ .what = "auth.flood",
					   .burst = 20,
					   .each_ns = 10 * SEC_NS,
					   .left = 20,
					   .since = u->headed };
	u->budget[REFUSED] = (struct budget){ .what = "refused.flood",
					      .burst = 200,
					      .each_ns = SEC_NS / 20,
					      .left = 200,
					      .since = u->headed };
	a->audit = u;
	if (a->link) {
		const struct link_notes notes = { .may = note_may, .note = note_put, .ctx = u };
		link_notes(a->link, &notes);
	}
	if (torn) {
		const struct audit_event e = {
			.what = "audit.torn", .outcome = "ok", .count = torn, .uid = -1
		};
		auditor_add(a, &e);
	}
	const struct audit_event e = { .what = "server.start",
				       .id = "brig-api " BRIG_VERSION,
				       .outcome = "ok",
				       .uid = (int64_t)getuid() };
	auditor_add(a, &e);
	sync_now(u);
	return 0;
}

void auditor_close(struct api *a)
{
	struct auditor *u = a->audit;
	const struct audit_event e = {
		.what = "server.stop", .id = "brig-api " BRIG_VERSION, .outcome = "ok", .uid = -1
	};
	if (!u)
		return;
	if (a->link)
		link_notes(a->link, &(const struct link_notes){ .may = NULL });
	floods_write(u);
	auditor_add(a, &e);
	ev_timer_stop(&a->ev, &u->timer);
	audit_log_close(u->log);
	audit_key_free(u->key);
	a->audit = NULL;
	free(u);
}

struct audit_key *auditor_key(struct api *a)
{
	return a->audit ? a->audit->key : NULL;
}

/* ---- what a request is called ---- */

struct name {
	const char *method, *path, *what;
};

static const struct name names[] = {
	{ "POST", "/v1/run", "run" },
	{ "POST", "/v2/sandboxes", "create" },
	{ "POST", "/sandboxes", "create" },
	{ "DELETE", "/sandboxes/{}", "kill" },
	{ "DELETE", "/v1/sandboxes/{}", "kill" },
	{ "POST", "/v2/sandboxes/{}/connect", "connect" },
	{ "POST", "/sandboxes/{}/connect", "connect" },
	{ "POST", "/sandboxes/{}/resume", "resume" },
	{ "POST", "/sandboxes/{}/pause", "pause" },
	{ "POST", "/sandboxes/{}/timeout", "timeout" },
	{ "POST", "/sandboxes/{}/refreshes", "timeout" },
	{ "PUT", "/sandboxes/{}/network", "network" },
	{ "POST", "/sandboxes/{}/snapshots", "snapshot" },
	{ "POST", "/sandboxes/{}/fork", "fork" },
	{ "POST", "/v1/sandboxes/{}/snapshots", "snapshot" },
	{ "POST", "/v1/sandboxes/{}/fork", "fork" },
	{ "DELETE", "/v1/snapshots/{}", "snapshot.delete" },
	{ "DELETE", "/templates/{}", "snapshot.delete" },
	{ "POST", "/templates/tags", "tag.set" },
	{ "DELETE", "/templates/tags", "tag.delete" },
	{ "POST", "/v1/keys", "key.create" },
	{ "DELETE", "/v1/keys/{}", "key.revoke" },
	{ "POST", "/v1/keys/{}/rotate", "key.rotate" },
	{ "POST", "/v1/tenants", "tenant.create" },
	{ "PATCH", "/v1/tenants/{}", "tenant.set" },
	{ "DELETE", "/v1/tenants/{}", "tenant.remove" },
	{ "POST", "/v1/networks", "network.create" },
	{ "DELETE", "/v1/networks/{}", "network.rm" },
	{ "PUT", "/v1/secrets/{}", "secret.set" },
	{ "DELETE", "/v1/secrets/{}", "secret.rm" },
	{ "POST", "/v1/secret-env", "secret.use" },
	{ "POST", "/v1/volumes", "volume.create" },
	{ "DELETE", "/v1/volumes/{}", "volume.rm" },
	{ "POST", "/volumes", "volume.create" },
	{ "DELETE", "/volumes/{}", "volume.rm" },
	{ "POST", "/v1/secret-key", "secret.rekey" },
	{ NULL, NULL, NULL },
};

/* Of envd and of the code interpreter: what starts, ends or changes something, and files. What a
 * running command reads and writes is a payload. */
static const struct name plane_names[] = {
	{ "POST", "/process.Process/Start", "exec" },
	{ "POST", "/process.Process/SendSignal", "signal" },
	{ "POST", "/filesystem.Filesystem/MakeDir", "file.mkdir" },
	{ "POST", "/filesystem.Filesystem/Move", "file.move" },
	{ "POST", "/filesystem.Filesystem/Remove", "file.remove" },
	{ "GET", "/files", "file.read" },
	{ "POST", "/files", "file.write" },
	{ "POST", "/execute", "exec" },
	{ NULL, NULL, NULL },
};

static const char *name_of(const struct name *table, const char *method, const char *path)
{
	for (; table->what; table++)
		if (strcmp(table->method, method) == 0 && strcmp(table->path, path) == 0)
			return table->what;
	return NULL;
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* ---- a request ---- */

static void entry_write(struct entry *e, struct http_req *r, const char *outcome, unsigned status)
{
	const struct audit_event event = { .what = e->what ? e->what : e->pattern,
					   .id = e->id,
					   .outcome = outcome,
					   .status = status,
					   .tenant = e->tenant,
					   .key = e->key,
					   .operator = e->operator,
					   .uid = e->uid,
					   .peer = http_peer(r),
					   .request_id = http_id(r) };
	/* Its place was reserved when it was admitted. */
	if (!e->admitted)
		(void)audit_log_reserve(e->u->log, e->u->under_way + 1);
	int w = put(e->u, &event);
	if (w == 0 && e->sync)
		sync_now(e->u);
	e->written = true;
	if (e->admitted)
		e->u->under_way--;
	e->admitted = false;
}

static void answered(void *ctx, struct http_req *r, unsigned status)
{
	struct entry *e = ctx;
	bool refused = status >= 400 && status < 500;
	if (e->written)
		return;
	if (status == 401) {
		e->what = "auth";
		if (!within(&e->u->budget[AUTH])) {
			e->written = true;
			arm(e->u);
			return;
		}
	} else if (!e->changes && status != 403 && status != 429) {
		e->written = true;
		return;
	} else if (refused && !within(&e->u->budget[REFUSED])) {
		e->written = true;
		arm(e->u);
		return;
	}
	entry_write(e, r, status < 400 ? "ok" : refused ? "refused" : "failed", status);
}

static void gone(void *ctx, struct http_req *r)
{
	struct entry *e = ctx;
	if (!e->written && e->changes && e->admitted)
		entry_write(e, r, "unanswered", 0);
	if (e->admitted)
		e->u->under_way--;
	free(e);
}

static const struct http_observer observer = { .answered = answered, .gone = gone };

static struct entry *watch(struct api *a, struct http_req *r, const char *id)
{
	struct entry *e = a->audit ? calloc(1, sizeof(*e)) : NULL;
	if (!e)
		return NULL;
	e->u = a->audit;
	e->uid = http_peer_uid(r);
	snprintf(e->id, sizeof(e->id), "%s", id);
	http_observe(r, &observer, e);
	return e;
}

void auditor_watch(struct api *a, struct http_req *r, const char *path, const char *id)
{
	const char *method = http_method(r);
	struct entry *e = watch(a, r, id);
	if (!e)
		return;
	e->what = name_of(names, method, path);
	snprintf(e->pattern, sizeof(e->pattern), "%s %s", method, path);
	e->changes = strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
	e->sync = begins(path, "/v1/keys") || begins(path, "/v1/tenants") ||
		  begins(path, "/v1/secret");
}

void auditor_who(struct http_req *r, const char *tenant, const char *key, bool operator)
{
	struct entry *e = http_observed(r, &observer);
	if (!e)
		return;
	snprintf(e->tenant, sizeof(e->tenant), "%s", tenant);
	snprintf(e->key, sizeof(e->key), "%s", key ? key : "");
	e->operator= operator;
}

static bool refuse(const struct auditor *u, struct brig_err *err)
{
	brig_err_set(err, BRIG_E_UNAVAILABLE, u->why,
		     "the audit log cannot be written, and what is not recorded is not done");
	brig_err_remedy(err, "free space below the server's data folder, or start it with "
			     "--audit-on-full continue");
	return false;
}

/* Takes the place of one record. */
static bool take_place(struct auditor *u, struct brig_err *err)
{
	/* One more than there are requests: for what was lost. */
	int r = audit_log_reserve(u->log, u->under_way + 2);
	if (r == 0)
		r = lost_write(u);
	if (r < 0)
		tell(u, r);
	if (r < 0 && !u->go_on)
		return refuse(u, err);
	u->under_way++;
	return true;
}

static bool admits(struct entry *e, struct brig_err *err)
{
	e->admitted = take_place(e->u, err);
	/* Of one that is not let in there will be no record: nothing is done. */
	e->written = !e->admitted;
	return e->admitted;
}

bool auditor_opens(struct api *a, struct brig_err *err)
{
	return !a->audit || take_place(a->audit, err);
}

void auditor_closes(struct api *a, const struct audit_event *e)
{
	if (!a->audit)
		return;
	(void)put(a->audit, e);
	a->audit->under_way--;
}

bool auditor_admits(struct http_req *r, struct brig_err *err)
{
	struct entry *e = http_observed(r, &observer);
	return !e || !e->changes || admits(e, err);
}

void auditor_subject(struct http_req *r, const char *id)
{
	struct entry *e = http_observed(r, &observer);
	if (e)
		snprintf(e->id, sizeof(e->id), "%s", id ? id : "");
}

void auditor_begun(struct http_req *r)
{
	struct entry *e = http_observed(r, &observer);
	if (e && !e->written)
		entry_write(e, r, "ok", 0);
}

bool auditor_watch_plane(struct box *b, struct http_req *r, unsigned port, struct brig_err *err)
{
	const char *what = port == API_ENVD_PORT || port == API_INTERP_PORT
				   ? name_of(plane_names, http_method(r), http_path(r))
				   : NULL;
	struct entry *e = what ? watch(b->api, r, b->id) : NULL;
	if (!e)
		return true;
	e->what = what;
	e->changes = true;
	snprintf(e->tenant, sizeof(e->tenant), "%s", b->tenant);
	return admits(e, err);
}
