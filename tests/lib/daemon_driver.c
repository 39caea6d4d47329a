/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon_driver.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/frame.h"

void drv_step(struct drv *t)
{
	/* A round that ran nothing may still have run tasks that queue more. */
	for (int quiet = 0; quiet < 2;)
		quiet = ev_round(&t->d.ev, 0) == 0 ? quiet + 1 : 0;
}

void drv_wait(struct drv *t, int ms)
{
	uint64_t until = clock_now() + (uint64_t)ms * MS_NS;
	while (clock_now() < until)
		ev_round(&t->d.ev, 1);
	drv_step(t);
}

void drv_start(struct drv *t, uint32_t enforced, int rootless)
{
	int pair[2];
	struct brig_err err = BRIG_ERR_INIT;
	union drv_request r;
	memset(t, 0, sizeof(*t));
	snprintf(t->dir, sizeof(t->dir), "/tmp/brig-test.XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	t->jail = pair[1];
	t->d.log = (struct log){ .fd = STDERR_FILENO, .level = LOG_ERROR };
	assert_int_equal(brigd_init(&t->d, pair[0], t->dir, &err), 0);
	drv_jail(t, JAIL_HELLO, &r, NULL, NULL);
	struct jail_hello h = { .h = { .verb = JAIL_HELLO_OK, .seq = r.h.seq },
				.version = BRIG_JAIL_PROTO_VERSION,
				.enforced = enforced,
				.cgroup = 2,
				.rootless = (uint32_t)rootless,
				.mem_total = 8 * GIB,
				.cpus = 2,
				.pids_max = 32768,
				.slots = 64,
				.tier = { [BRIG_TIER_container] = { .offered = 1 } } };
	assert_int_equal(fd_send(t->jail, &h, sizeof(h), NULL, 0), 0);
	drv_step(t);
	assert_true(t->d.host_known);
}

void drv_stop(struct drv *t)
{
	brigd_done(&t->d);
	fd_close(&t->jail);
	rmdir(t->dir);
}

int drv_connect(struct drv *t)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_non_null(conn_new(&t->d, pair[0]));
	return pair[1];
}

void drv_send_raw(int fd, const void *p, size_t n)
{
	assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

void drv_send(int fd, uint16_t type, uint16_t flags, uint32_t stream, const void *p, size_t n)
{
	struct buf b = BUF_INIT(sizeof(struct brig_frame_hdr) + BRIG_FRAME_MAX);
	assert_int_equal(frame_add(&b, type, flags, stream, p, n, NULL, 0), 0);
	drv_send_raw(fd, buf_head(&b), buf_len(&b));
	buf_done(&b);
}

void drv_request(struct drv *t, int client, const char *json)
{
	drv_send(client, BRIG_CL_REQ, 0, 0, json, strlen(json));
	drv_step(t);
}

void drv_request_fds(struct drv *t, int client, const char *json, const int *fds, unsigned n)
{
	struct buf b = BUF_INIT(sizeof(struct brig_frame_hdr) + BRIG_FRAME_MAX);
	assert_int_equal(frame_add(&b, BRIG_CL_REQ, 0, 0, json, strlen(json), NULL, 0), 0);
	assert_int_equal(fd_send(client, buf_head(&b), buf_len(&b), fds, n), 0);
	buf_done(&b);
	drv_step(t);
}

static void recv_all(int fd, void *p, size_t n)
{
	uint8_t *at = p;
	while (n) {
		ssize_t r = recv(fd, at, n, MSG_DONTWAIT);
		if (r <= 0)
			fail_msg("expected %zu more bytes, recv says %zd (%s)", n, r,
				 strerror(errno));
		at += r;
		n -= (size_t)r;
	}
}

void drv_frame(int fd, struct drv_frame *f)
{
	recv_all(fd, &f->h, sizeof(f->h));
	assert_true(f->h.len <= BRIG_FRAME_MAX);
	recv_all(fd, f->payload, f->h.len);
	f->payload[f->h.len] = '\0';
}

void drv_expect(int fd, uint16_t type, struct drv_frame *f)
{
	drv_frame(fd, f);
	if (f->h.type != type)
		fail_msg("expected frame type %u, got %u: %.200s", type, f->h.type,
			 f->h.type >= BRIG_CL_REQ ? (char *)f->payload : "");
}

json_t *drv_json(int fd, uint16_t type)
{
	static struct drv_frame f;
	drv_expect(fd, type, &f);
	json_t *o = json_loadb((char *)f.payload, f.h.len, 0, NULL);
	assert_non_null(o);
	return o;
}

int drv_closed(int fd)
{
	char c;
	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

void drv_silent(int fd)
{
	char c;
	ssize_t r = recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);
	assert_int_equal(r, -1);
	assert_int_equal(errno, EAGAIN);
}

void drv_jail(struct drv *t, uint32_t verb, union drv_request *r, int *fds, unsigned *nfds)
{
	int none[32];
	unsigned n = 32;
	memset(r, 0, sizeof(*r));
	ssize_t got =
		fd_recv(t->jail, r, sizeof(*r), fds ? fds : none, nfds ? nfds : &n, MSG_DONTWAIT);
	if (got < (ssize_t)sizeof(r->h))
		fail_msg("expected jail verb %u, got nothing (%zd)", verb, got);
	if (r->h.verb != verb)
		fail_msg("expected jail verb %u, got %u", verb, r->h.verb);
	for (unsigned i = 0; !fds && i < n; i++)
		close(none[i]);
}

void drv_jail_silent(struct drv *t)
{
	drv_silent(t->jail);
}

void drv_answer_ok(struct drv *t, const union drv_request *r)
{
	struct jail_ref m = { .h = { .verb = JAIL_OK, .seq = r->h.seq } };
	assert_int_equal(fd_send(t->jail, &m, sizeof(m), NULL, 0), 0);
	drv_step(t);
}

void drv_answer_error(struct drv *t, const union drv_request *r, enum brig_code code,
		      const char *msg)
{
	struct jail_error m = { .h = { .verb = JAIL_ERROR, .seq = r->h.seq }, .code = code };
	snprintf(m.msg, sizeof(m.msg), "%s", msg);
	snprintf(m.remedy, sizeof(m.remedy), "mend the host");
	assert_int_equal(fd_send(t->jail, &m, sizeof(m), NULL, 0), 0);
	drv_step(t);
}

void drv_answer_stats(struct drv *t, const union drv_request *r, const struct jail_stats *st)
{
	struct jail_stats m = { .valid = ~0u };
	if (st)
		m = *st;
	m.h.verb = JAIL_STATS_IS;
	m.h.seq = r->h.seq;
	memcpy(m.id, r->ref.id, sizeof(m.id));
	assert_int_equal(fd_send(t->jail, &m, sizeof(m), NULL, 0), 0);
	drv_step(t);
}

void drv_answer_gone(struct drv *t, const union drv_request *r)
{
	struct jail_gone m = { .h = { .verb = JAIL_GONE, .seq = r->h.seq } };
	memcpy(m.id, r->ref.id, sizeof(m.id));
	assert_int_equal(fd_send(t->jail, &m, sizeof(m), NULL, 0), 0);
	drv_step(t);
}

int drv_born(struct drv *t, union drv_request *create, struct brig_attach *attach)
{
	int fds[32];
	unsigned n = 32;
	struct drv_frame *f = malloc(sizeof(*f));
	drv_jail(t, JAIL_CREATE, create, fds, &n);
	assert_true(n >= 1);
	for (unsigned i = 1; i < n; i++)
		close(fds[i]);
	drv_answer_ok(t, create);
	/* A sandbox without a command yet has nothing to say; its ATTACH leaves on its own. */
	drv_expect(fds[0], BRIG_ATTACH, f);
	memcpy(attach, f->payload, sizeof(*attach));
	free(f);
	return fds[0];
}

void drv_attached(struct drv *t, int agent, const struct brig_attach *a)
{
	drv_send(agent, BRIG_ATTACHED, 0, 0, a, sizeof(*a));
	drv_step(t);
}

void drv_started(struct drv *t, int agent, uint32_t stream, uint32_t stdin_credit)
{
	struct brig_started m = { .pid = 2, .stdin_credit = stdin_credit };
	drv_send(agent, BRIG_STARTED, 0, stream, &m, sizeof(m));
	drv_step(t);
}

void drv_output(int agent, uint16_t type, uint32_t stream, uint64_t offset, const void *p, size_t n)
{
	struct buf b = BUF_INIT(sizeof(struct brig_frame_hdr) + BRIG_FRAME_MAX);
	assert_int_equal(frame_add(&b, type, 0, stream, &offset, sizeof(offset), p, n), 0);
	drv_send_raw(agent, buf_head(&b), buf_len(&b));
	buf_done(&b);
}

void drv_exit(int agent, uint32_t stream, uint32_t flags, uint32_t code, uint64_t out, uint64_t err)
{
	struct brig_exit m = {
		.flags = flags, .code = code, .stdout_bytes = out, .stderr_bytes = err
	};
	drv_send(agent, BRIG_EXIT, 0, stream, &m, sizeof(m));
}

void drv_destroyed(struct drv *t, const struct jail_stats *st)
{
	union drv_request r;
	drv_jail(t, JAIL_DESTROY, &r, NULL, NULL);
	drv_answer_stats(t, &r, st);
	drv_answer_gone(t, &r);
}

void drv_run(struct drv *t, struct drv_run *r, const char *json)
{
	struct drv_frame *f = malloc(sizeof(*f));
	memset(r, 0, sizeof(*r));
	r->client = drv_connect(t);
	drv_request(t, r->client, json);
	r->agent = drv_born(t, &r->create, &r->attach);
	drv_expect(r->agent, BRIG_EXEC, f);
	r->stream = f->h.stream;
	memcpy(&r->exec, f->payload, sizeof(r->exec));
	memcpy(r->id, r->create.spec.id, sizeof(r->id));
	drv_attached(t, r->agent, &r->attach);
	drv_started(t, r->agent, r->stream, 0);
	json_t *rep = drv_json(r->client, BRIG_CL_REP);
	assert_non_null(json_object_get(rep, "ok"));
	json_decref(rep);
	free(f);
}

void drv_run_done(struct drv_run *r)
{
	fd_close(&r->client);
	fd_close(&r->agent);
}

const char *drv_str(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_string(v) ? json_string_value(v) : "";
}

json_int_t drv_int(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_integer(v) ? json_integer_value(v) : -1;
}
