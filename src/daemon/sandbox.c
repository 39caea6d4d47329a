/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A sandbox is made by one message to jaild and ended by one; between the two brigd talks to its
 * agent alone. Every way to end goes through sandbox_destroy(): commands are marked with the cause,
 * DESTROY is sent, its STATS_IS answer settles the commands (verdict, END), its GONE answer ends
 * the record or turns it into one of a stopped sandbox.
 *
 * jaild handles requests in order, so DESTROY may follow CREATE without waiting; the CREATE is then
 * never answered and is forgotten with GONE. A first process that ends by itself is told by GONE
 * with sequence 0; jaild has removed everything by then, and the DESTROY that follows is answered
 * with ERROR, which ends the record all the same.
 *
 * Objects are freed by a task at the end of a round, and not before the last answer of jaild that
 * points at them has come.
 */
#include "daemon/sandbox.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/adopt.h"
#include "daemon/egress.h"
#include "daemon/exec.h"
#include "daemon/freeze.h"
#include "daemon/fsrelay.h"
#include "daemon/journal.h"
#include "daemon/layerload.h"
#include "daemon/logs.h"
#include "daemon/network.h"
#include "daemon/netpeer.h"
#include "daemon/pool.h"
#include "daemon/publish.h"
#include "daemon/receipt.h"
#include "daemon/record.h"
#include "daemon/rejoin.h"
#include "daemon/rewind.h"
#include "daemon/sandbox_io.h"
#include "daemon/tcprelay.h"

static unsigned bucket_of(const char *s)
{
	uint32_t h = 2166136261u; /* FNV-1a */
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h % SANDBOX_BUCKETS;
}

int sandbox_go(struct sandbox *sb, enum sb_state to)
{
	if (!state_may_go(sb->state, to)) {
		log_line(&sb->d->log, LOG_ERROR, sb->id, "refused to go from %s to %s",
			 state_name(sb->state), state_name(to));
		return -1;
	}
	sb->state = to;
	record_touch(sb);
	publish_update(sb);
	return 0;
}

static struct sandbox *by_name(struct brigd *d, const char *name)
{
	struct sandbox *sb;
	for (sb = LIST_FIRST(&d->by_name[bucket_of(name)]); sb; sb = LIST_NEXT(sb, name_link))
		if (strcmp(sb->name, name) == 0)
			return sb;
	return NULL;
}

struct sandbox *sandbox_by_id(struct brigd *d, const char *id)
{
	struct sandbox *sb;
	for (sb = LIST_FIRST(&d->by_id[bucket_of(id)]); sb; sb = LIST_NEXT(sb, id_link))
		if (strcmp(sb->id, id) == 0)
			return sb;
	return NULL;
}

int sandbox_find(struct brigd *d, const char *ref, struct sandbox **ret, struct brig_err *err)
{
	struct sandbox *sb, *found = sandbox_by_id(d, ref);
	size_t n = strlen(ref);
	if (!found)
		found = by_name(d, ref);
	if (!found && n >= 4 && n < BRIG_ID_LEN) {
		for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all)) {
			if (sb->pool || strncmp(sb->id, ref, n) != 0)
				continue;
			if (found) {
				brig_err_set(err, BRIG_E_INVALID, 0,
					     "'%.64s' is the beginning of several ids", ref);
				return brig_fix(err, "give more characters of the id");
			}
			found = sb;
		}
	}
	if (!found || found->pool || found->state == SB_GONE) {
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "no sandbox '%.64s'", ref);
		return brig_fix(err, "see `brig ls` for what exists");
	}
	*ret = found;
	return 0;
}

int sandbox_name_free(struct brigd *d, const char *name, struct brig_err *err)
{
	const struct sandbox *other = by_name(d, name);
	if (!other)
		return 0;
	brig_err_set(err, BRIG_E_EXISTS, 0, "name '%s' is taken by sandbox %s", name, other->id);
	return brig_fix(err, "choose another name, or `brig rm %s` first", name);
}

void sandbox_name(struct sandbox *sb, const char *name)
{
	char made[SPEC_NAME_MAX + 1];
	if (!name) {
		/* An id is unique, and longer than the part that a name shows. */
		snprintf(made, sizeof(made), "sb-%.8s", sb->id);
		if (by_name(sb->d, made))
			snprintf(made, sizeof(made), "sb-%s", sb->id);
		name = made;
	}
	snprintf(sb->name, sizeof(sb->name), "%s", name);
	LIST_INSERT_HEAD(&sb->d->by_name[bucket_of(sb->name)], sb, name_link);
}

static bool number_of(const char *s, size_t n, uint32_t *ret)
{
	uint32_t v = 0;
	if (n == 0 || n > 6)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(s[i] - '0');
	}
	*ret = v;
	return true;
}

/*
 * Only the sandbox can look a name up in its own passwd, and jaild needs numbers before it exists.
 * The image's own user and root are known by name; another name gets the image's numbers, which
 * matter for the owner of home and of volumes only. The agent resolves the name itself.
 */
void sandbox_owner_of(const struct spec *spec, const struct image *image, struct sandbox_owner *ret)
{
	const struct image_config *c = &image->store.config;
	struct sandbox_owner o = { .uid = c->user.uid, .gid = c->user.gid };
	snprintf(o.home, sizeof(o.home), "%s", c->user.home);
	if (c->user.name[0])
		snprintf(o.user, sizeof(o.user), "%s", c->user.name);
	else
		snprintf(o.user, sizeof(o.user), "%u:%u", c->user.uid, c->user.gid);
	if (spec->user) {
		size_t n = strcspn(spec->user, ":");
		uint32_t uid = 0, gid = 0;
		bool group = spec->user[n] == ':';
		bool root = (n == 4 && strncmp(spec->user, "root", 4) == 0);
		if (root || number_of(spec->user, n, &uid)) {
			uid = root ? 0 : uid;
			if (group &&
			    !number_of(spec->user + n + 1, strlen(spec->user + n + 1), &gid))
				gid = uid;
			if (!group)
				gid = uid == c->user.uid ? c->user.gid : uid;
			if (uid != c->user.uid)
				o.home[0] = '\0';
			o.uid = uid;
			o.gid = gid;
		}
		snprintf(o.user, sizeof(o.user), "%s", spec->user);
	}
	*ret = o;
}

static void sandbox_free(void *ctx)
{
	struct sandbox *sb = ctx;
	if (sb->jail_refs)
		return; /* the last answer frees it */
	publish_close(sb->publish);
	sandbox_io_close(sb);
	fd_close(&sb->peer);
	image_unref(sb->image);
	spec_done(&sb->spec);
	cmd_done(&sb->later);
	rewind_done(sb);
	json_decref(sb->warnings);
	json_decref(sb->main_argv);
	json_decref(sb->status);
	logring_free(sb->ring[0]);
	logring_free(sb->ring[1]);
	netbox_free(sb->net);
	journal_free(sb->journal);
	free(sb);
}

/* Out of every list; nobody can find it any more. */
static void sandbox_leave(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	record_drop(sb);
	LIST_REMOVE(sb, all);
	LIST_REMOVE(sb, id_link);
	if (sb->name[0])
		LIST_REMOVE(sb, name_link);
	d->nboxes--;
	if (sb->pool)
		pool_lost(sb);
	ev_timer_stop(&d->ev, &sb->cpu_timer);
	ev_timer_stop(&d->ev, &sb->start_timer);
	ev_task_queue(&d->ev, &sb->grave);
	brigd_sandbox_left(d);
}

void sandbox_jail_answered(struct sandbox *sb)
{
	sb->jail_refs--;
	if (sb->jail_refs == 0 && sb->state == SB_GONE)
		ev_task_queue(&sb->d->ev, &sb->grave);
}

static void sandbox_settle(struct sandbox *sb, const struct jail_stats *st)
{
	struct exec *x, *next;
	sandbox_drain_chan(sb);
	for (x = LIST_FIRST(&sb->execs); x; x = next) {
		next = LIST_NEXT(x, link);
		exec_settle(x, st);
	}
}

/* Its connections are cut, and nobody waits for its policy any more. */
static void net_leave(struct sandbox *sb)
{
	struct netbox *n = sb->net;
	struct brig_err err = BRIG_ERR_INIT;
	if (!n)
		return;
	egress_remove(sb);
	netpeer_leave(sb);
	if (!n->waiter)
		return;
	struct conn *c = n->waiter;
	n->waiter = NULL;
	brig_err_set(&err, BRIG_E_STATE, 0, "sandbox '%s' was removed", sb->id);
	c->role = NULL;
	conn_error(c, &err);
}

/* jaild has removed everything, or never made it. */
static void sandbox_ended(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	struct conn *c;
	if (sb->state == SB_GONE || sb->state == SB_STOPPED)
		return;
	sandbox_settle(sb, sb->have_figures ? &sb->figures : NULL);
	net_leave(sb);
	sandbox_io_close(sb);
	if (rewind_goes_on(sb))
		return;
	publish_close(sb->publish);
	image_unref(sb->image);
	sb->image = NULL;
	if (sb->counted)
		d->nlive--;
	sb->counted = false;
	while ((c = LIST_FIRST(&sb->removers))) {
		LIST_REMOVE(c, peer);
		c->role = NULL;
		conn_ok_last(c, NULL);
	}
	log_line(&d->log, LOG_DEBUG, sb->id, "removed");
	if (sb->keep && !d->draining) {
		sandbox_go(sb, SB_STOPPED);
		record_sandbox(sb);
		return;
	}
	logs_end(sb);
	sandbox_go(sb, SB_GONE);
	sandbox_leave(sb);
}

void sandbox_forget(struct sandbox *sb)
{
	logs_end(sb);
	sandbox_go(sb, SB_GONE);
	sandbox_leave(sb);
}

static void destroy_answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	(void)FAILPOINT("destroy.answered");
	if (a->h.verb == JAIL_ERROR && sb->d->jail.fd < 0) {
		/* The next brig-jaild is asked. */
		sb->removal_asked = false;
		sandbox_jail_answered(sb);
		return;
	}
	if (a->h.verb == JAIL_STATS_IS) {
		sandbox_settle(sb, &a->stats);
		return;
	}
	if (a->h.verb == JAIL_ERROR && a->error.code != BRIG_E_NOT_FOUND)
		log_line(&sb->d->log, LOG_WARN, sb->id, "brig-jaild on destroy: %s", a->error.msg);
	if (!sb->born && sb->create_seq) {
		jail_forget(&sb->d->jail, sb->create_seq);
		sb->create_seq = 0;
		sb->jail_refs--;
	}
	sandbox_ended(sb);
	sandbox_jail_answered(sb);
}

static int destroy_ask(struct sandbox *sb)
{
	struct jail_ref m = { .h = { .verb = JAIL_DESTROY } };
	memcpy(m.id, sb->id, sizeof(m.id));
	int r = jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, destroy_answered, sb);
	if (r == 0) {
		sb->jail_refs++;
		sb->removal_asked = true;
	}
	return r;
}

void sandbox_destroy(struct sandbox *sb, enum stop_cause cause)
{
	struct brigd *d = sb->d;
	struct exec *x;
	struct conn *c;
	if (sb->destroying || sb->state == SB_STOPPED || sb->state == SB_GONE)
		return;
	sb->destroying = true;
	sandbox_go(sb, SB_REMOVING);
	adopt_settled(sb);
	ev_timer_stop(&d->ev, &sb->cpu_timer);
	ev_timer_stop(&d->ev, &sb->start_timer);
	(void)FAILPOINT("destroy.begin");
	int r = destroy_ask(sb);
	(void)FAILPOINT("destroy.sent");
	net_leave(sb);
	layerload_abort(sb);
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
		exec_stop(x, cause, sb->fault[0] ? sb->fault : NULL);
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, cause == CAUSE_SHUTDOWN ? BRIG_E_UNAVAILABLE : BRIG_E_STATE, 0,
		     "sandbox '%s' was removed%s%s", sb->id, sb->fault[0] ? ": " : "", sb->fault);
	while ((c = LIST_FIRST(&sb->fs_conns))) {
		fs_detach(c);
		conn_end_error(c, &err);
	}
	freeze_abort(sb, &err);
	while ((c = LIST_FIRST(&sb->tcp_conns)))
		tcp_break(c, &err);
	publish_close(sb->publish);
	if (sb->creator) {
		c = sb->creator;
		sb->creator = NULL;
		if (!sb->reborn)
			sb->keep = false; /* nobody has learnt its id */
		c->role = NULL;
		conn_error(c, &err);
	}
	if (r < 0 && !(r == -EPIPE && rejoin_possible(d)))
		brigd_fail(d, "brig-jaild takes no requests");
}

void sandbox_destroy_again(struct sandbox *sb)
{
	int r = sb->removal_asked ? 0 : destroy_ask(sb);
	if (r < 0 && !(r == -EPIPE && rejoin_possible(sb->d)))
		brigd_fail(sb->d, "brig-jaild takes no requests");
}

void sandbox_fault(struct sandbox *sb, const char *fmt, ...)
{
	if (sb->destroying)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sb->fault, sizeof(sb->fault), fmt, ap);
	va_end(ap);
	log_line(&sb->d->log, LOG_WARN, sb->id, "%s", sb->fault);
	sandbox_io_stop(sb);
	sandbox_destroy(sb, CAUSE_FAULT);
}

void sandbox_lost(struct sandbox *sb, const char *what)
{
	if (sb->destroying)
		return;
	snprintf(sb->fault, sizeof(sb->fault), "%s", what);
	log_line(&sb->d->log, LOG_INFO, sb->id, "%s", what);
	sandbox_destroy(sb, CAUSE_NONE);
}

/* ---- CPU time ---- */

static void cpu_schedule(struct sandbox *sb, uint64_t used_ms)
{
	uint64_t limit = sb->spec.limits.cpu_time_ms;
	if (limit == LIMIT_NONE || sb->destroying)
		return;
	/* The earliest moment at which it can be used up, with every CPU that it may have busy. */
	uint64_t milli = (uint64_t)sb->d->host.cpus * 1000;
	if ((sb->d->host.enforced & JAIL_ENF_cpu) && sb->spec.limits.cpu_milli < milli)
		milli = sb->spec.limits.cpu_milli;
	uint64_t left = limit > used_ms ? limit - used_ms : 0;
	uint64_t wait = left * 1000 / (milli ? milli : 1000);
	ev_timer_set(&sb->d->ev, &sb->cpu_timer, clock_now() + (wait < 5 ? 5 : wait) * MS_NS);
}

static void cpu_answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	if (a->h.verb == JAIL_STATS_IS && (a->stats.valid & JAIL_STAT_CPU) && !sb->destroying) {
		uint64_t used = a->stats.cpu_us / 1000;
		if (used >= sb->spec.limits.cpu_time_ms) {
			log_line(&sb->d->log, LOG_INFO, sb->id, "CPU time is used up");
			snprintf(sb->fault, sizeof(sb->fault), "its CPU time is used up");
			sandbox_destroy(sb, CAUSE_CPU);
		} else {
			cpu_schedule(sb, used);
		}
	}
	sandbox_jail_answered(sb);
}

void sandbox_watch_cpu(struct sandbox *sb)
{
	cpu_schedule(sb, 0);
}

static void cpu_due(void *ctx)
{
	struct sandbox *sb = ctx;
	struct jail_ref m = { .h = { .verb = JAIL_STATS } };
	memcpy(m.id, sb->id, sizeof(m.id));
	if (jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, cpu_answered, sb) == 0)
		sb->jail_refs++;
	else
		cpu_schedule(sb, 0);
}

static void start_expired(void *ctx)
{
	struct sandbox *sb = ctx;
	if (sb->taking)
		sandbox_fault(sb, "its agent did not answer the brigd that took over");
	else
		sandbox_fault(sb, "no answer %s within %u s", sb->born ? "of the agent" : "of brig-jaild",
			      sandbox_start_ms(sb) / 1000);
}

void sandbox_await_agent(struct sandbox *sb, unsigned ms)
{
	ev_timer_set(&sb->d->ev, &sb->start_timer, clock_now() + ms * MS_NS);
}

/* ---- creation ---- */

/* The command that waited for the files of its sandbox. */
static void later_start(struct sandbox *sb)
{
	struct conn *c = sb->creator;
	struct cmd cmd = sb->later;
	struct brig_err err = BRIG_ERR_INIT;
	struct exec *x;
	sb->creator = NULL;
	sb->later = (struct cmd){ .root = NULL };
	c->role = NULL;
	if (exec_start(sb, &cmd, true, c, sb->later_ns, &x, &err) == 0)
		return;
	cmd_done(&cmd);
	sb->keep = false;
	conn_error(c, &err);
	sandbox_destroy(sb, CAUSE_KILL);
}

void sandbox_check_ready(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	if (!sb->born || !sb->chan.attached || sb->destroying || sb->taking || sb->chan.held || sb->load)
		return;
	ev_timer_stop(&d->ev, &sb->start_timer);
	if (sb->state != SB_CREATING || sb->main)
		return;
	sandbox_go(sb, SB_READY);
	if (sb->reborn)
		record_sandbox(sb);
	sb->reborn = false;
	if (sb->pool)
		pool_filled(sb);
	if (sb->later.root) {
		later_start(sb);
	} else if (sb->creator) {
		struct conn *c = sb->creator;
		sb->creator = NULL;
		c->role = NULL;
		record_sandbox(sb);
		conn_ok_last(c, sandbox_created(sb));
	}
}

/* Who waits for it is told why it comes to nothing. */
static void create_refuse(struct sandbox *sb, const struct brig_err *err)
{
	struct exec *x;
	if (err->code == BRIG_E_MISMATCH)
		receipt_mismatch(sb, err->msg);
	else
		log_line(&sb->d->log, LOG_WARN, sb->id, "create: %s", err->msg);
	if (!sb->reborn)
		sb->keep = false;
	else
		snprintf(sb->fault, sizeof(sb->fault), "it could not be made again: %.200s", err->msg);
	while ((x = LIST_FIRST(&sb->execs)))
		exec_abort(x, err);
	if (sb->creator) {
		struct conn *c = sb->creator;
		sb->creator = NULL;
		c->role = NULL;
		conn_error(c, err);
	}
}

void sandbox_net_applied(struct sandbox *sb)
{
	if (!sb->chan.held)
		return;
	int r = chan_let_go(&sb->chan);
	sandbox_sent(sb, r < 0 ? r : 0);
	sandbox_check_ready(sb);
}

void sandbox_refuse(struct sandbox *sb, const struct brig_err *err)
{
	if (sb->destroying)
		return;
	create_refuse(sb, err);
	sandbox_destroy(sb, CAUSE_KILL);
}

void sandbox_unmade(struct sandbox *sb, const struct brig_err *err)
{
	if (sb->create_seq) { /* jaild was asked */
		sandbox_refuse(sb, err);
		return;
	}
	sb->destroying = true;
	create_refuse(sb, err);
	sandbox_go(sb, SB_REMOVING);
	sandbox_ended(sb);
}

static void create_failed(struct sandbox *sb, const union jail_answer *a)
{
	struct brig_err err = BRIG_ERR_INIT;
	jail_error_to(a, &err);
	sb->destroying = true;
	layerload_abort(sb);
	create_refuse(sb, &err);
	if (sb->state != SB_CREATING || sb->reborn) /* its agent spoke, and then jaild gave it up */
		sandbox_go(sb, SB_REMOVING);
	sandbox_ended(sb);
}

static void create_answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	if (a->h.verb == JAIL_LINK) { /* and OK follows */
		if (sb->net && !sb->destroying)
			sb->net->lease = a->link.lease;
		netpeer_join(sb, false);
		egress_tell(sb);
		return;
	}
	(void)FAILPOINT("create.answered");
	sb->create_seq = 0;
	fd_close(&sb->peer);
	if (a->h.verb == JAIL_OK) {
		sb->born = true;
		cpu_schedule(sb, 0);
		sandbox_check_ready(sb);
		if (!sb->chan_open)
			sandbox_lost(sb, "the agent's channel ended");
	} else if (!sb->destroying) {
		create_failed(sb, a);
	}
	sandbox_jail_answered(sb);
}

static void fill_spec(const struct sandbox *sb, uint32_t accept, struct jail_spec *m)
{
	const struct brig_limits *l = &sb->spec.limits;
	*m = (struct jail_spec){
		.h = { .verb = JAIL_CREATE },
		.image = sb->image->id,
		.accept = accept,
		.memory_bytes = l->memory_bytes,
		.disk_bytes = l->disk_bytes,
		.inodes = l->inodes,
		.cpu_milli = (uint32_t)l->cpu_milli,
		.pids = (uint32_t)l->pids,
		.nofile = (uint32_t)l->nofile,
		.uid = sb->owner.uid,
		.gid = sb->owner.gid,
		.keep = ledger_on(&sb->d->ledger),
		.net = sb->net != NULL,
		.tier = (uint32_t)sb->spec.tier,
		.nvolumes = sb->spec.nvolumes,
	};
	memcpy(m->id, sb->id, sizeof(m->id));
	snprintf(m->hostname, sizeof(m->hostname), "%s",
		 sb->spec.hostname ? sb->spec.hostname : sb->id);
	/* "/" (images without a user of their own) exists and is root's already. */
	if (strcmp(sb->owner.home, "/") != 0)
		snprintf(m->home, sizeof(m->home), "%s", sb->owner.home);
	for (unsigned i = 0; i < sb->spec.nvolumes; i++) {
		snprintf(m->volumes[i].path, sizeof(m->volumes[i].path), "%s",
			 sb->spec.volumes[i].guest);
		m->volumes[i].readonly = sb->spec.volumes[i].readonly;
		if (sb->spec.volumes[i].id)
			memcpy(m->volumes[i].id, sb->spec.volumes[i].id, BRIG_ID_LEN);
	}
}

int sandbox_send_create(struct sandbox *sb, uint32_t accept, const int *volume_fds,
			       struct brig_err *err)
{
	struct brigd *d = sb->d;
	struct jail_spec m;
	int pair[2], fds[2 + JAIL_VOLUMES_MAX];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make the agent's channel");
	AUTO_FD theirs = pair[1];
	/* The kernel gives what net.core.wmem_max allows; less costs speed only. */
	int room = 1024 * 1024;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	int r = sandbox_io_open(sb, pair[0]);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "watch the agent's channel");
	/* Its first command waits for its policy. */
	sb->chan.held = sb->net != NULL;
	fill_spec(sb, accept, &m);
	fds[0] = theirs;
	unsigned nfds = 1;
	for (unsigned i = 0; i < sb->spec.nvolumes; i++)
		if (!sb->spec.volumes[i].id)
			fds[nfds++] = volume_fds[sb->spec.volumes[i].fd];
	if (m.keep)
		fds[nfds++] = pair[0];
	r = FAILPOINT("create.send");
	if (r == 0)
		r = jail_call(&d->jail, &m, sizeof(m), fds, nfds, create_answered, sb);
	(void)FAILPOINT("create.sent");
	if (r < 0)
		return brig_fail(err, r == -EPIPE ? BRIG_E_UNAVAILABLE : BRIG_E_BUSY, -r,
				 "ask brig-jaild for a sandbox");
	sb->create_seq = m.h.seq;
	sb->jail_refs++;
	sb->peer = fd_steal(&theirs);
	return 0;
}

void sandbox_adopt(struct sandbox *sb, struct sandbox_plan *plan)
{
	spec_done(&sb->spec);
	json_decref(sb->warnings);
	sb->spec = *plan->spec;
	*plan->spec = (struct spec){ .root = NULL };
	sb->warnings = plan->adm->warnings;
	plan->adm->warnings = NULL;
	sb->missing = plan->adm->missing;
	snprintf(sb->image_name, sizeof(sb->image_name), "%s",
		 sb->spec.image ? sb->spec.image : sb->image->ref);
	sandbox_owner_of(&sb->spec, sb->image, &sb->owner);
	sb->created_ns = clock_now();
	sb->created_real_ns = clock_ns(CLOCK_REALTIME);
	if (sb->born)
		cpu_schedule(sb, 0);
}

static struct sandbox *sandbox_new(struct brigd *d)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));
	if (!sb)
		return NULL;
	sb->d = d;
	sb->state = SB_CREATING;
	sb->cpu_timer = (struct ev_timer){ .fn = cpu_due, .ctx = sb };
	sb->start_timer = (struct ev_timer){ .fn = start_expired, .ctx = sb };
	sb->grave = (struct ev_task){ .fn = sandbox_free, .ctx = sb };
	sb->chan.fd = -1;
	sb->peer = -1;
	return sb;
}

static void sandbox_enlist(struct sandbox *sb)
{
	struct brigd *d = sb->d;
	LIST_INSERT_HEAD(&d->all, sb, all);
	LIST_INSERT_HEAD(&d->by_id[bucket_of(sb->id)], sb, id_link);
	d->nboxes++;
}

struct sandbox *sandbox_restore(struct brigd *d, const char *id, struct image *image, int fd)
{
	struct sandbox *sb = sandbox_new(d);
	if (!sb || (fd >= 0 && sandbox_io_open(sb, fd) < 0)) {
		if (!sb)
			fd_close(&fd);
		free(sb);
		return NULL;
	}
	memcpy(sb->id, id, sizeof(sb->id));
	sb->state = SB_READY;
	sb->born = true;
	sb->image = image ? image_ref(image) : NULL;
	sandbox_enlist(sb);
	sb->counted = fd >= 0;
	d->nlive += sb->counted;
	return sb;
}

int sandbox_create(struct brigd *d, struct sandbox_plan *plan, const int *volume_fds,
		   struct sandbox **ret, struct brig_err *err)
{
	if (d->nboxes >= SANDBOXES_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "%u records of sandboxes exist", d->nboxes);
		return brig_fix(err, "remove stopped ones with `brig rm`");
	}
	struct sandbox *sb = sandbox_new(d);
	if (!sb)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "make a sandbox");
	id_make(sb->id);
	sb->image = image_ref(plan->image);
	sandbox_adopt(sb, plan);
	if (sb->spec.net.link && !(sb->net = netbox_new(sb, &sb->spec.net))) {
		sandbox_free(sb);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "make a sandbox");
	}
	if (sandbox_send_create(sb, plan->adm->accept, volume_fds, err) < 0) {
		/* The caller still owns what was moved: it may try elsewhere or must report it. */
		*plan->spec = sb->spec;
		plan->adm->warnings = sb->warnings;
		sb->spec.root = NULL;
		sb->warnings = NULL;
		sandbox_free(sb);
		return -1;
	}
	ev_timer_set(&d->ev, &sb->start_timer, sb->created_ns + sandbox_start_ms(sb) * MS_NS);
	sandbox_enlist(sb);
	d->nlive++;
	sb->counted = true;
	log_line(&d->log, LOG_DEBUG, sb->id, "create, image %s", sb->image->ref);
	*ret = sb;
	return 0;
}

void sandbox_main_started(struct sandbox *sb)
{
	if (sb->state == SB_PAUSED)
		sb->unpaused = SB_RUNNING; /* said before it stopped */
	else
		sandbox_go(sb, SB_RUNNING);
	/* Before its client is told. */
	if (sb->main->detach)
		record_sandbox(sb);
}

void sandbox_main_ended(struct sandbox *sb, json_t *status)
{
	json_decref(sb->status);
	sb->status = json_incref(status);
	sb->main = NULL;
	if (!sb->destroying && sb->state == SB_RUNNING)
		sandbox_go(sb, SB_EXITED);
	else if (!sb->destroying && sb->state == SB_PAUSED)
		sb->unpaused = SB_EXITED;
	if (sb->kept)
		record_sandbox(sb);
	logs_pump(sb);
}
