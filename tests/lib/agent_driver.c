/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent_box.h"
#include "base/clock.h"
#include "base/fd.h"

#define DEADLINE_NS (10 * SEC_NS)

bool drv_can_box(const char **ret_why)
{
	return box_possible(ret_why);
}

const char *drv_program(const char *name, const char *variable)
{
	static char path[4096];
	const char *named = getenv(variable);
	if (named)
		return named;
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n <= 0)
		return NULL;
	path[n] = '\0';
	char *slash = strrchr(path, '/');
	size_t room = sizeof(path) - (size_t)(slash - path);
	if ((size_t)snprintf(slash, room, "/../../%s", name) >= room)
		return NULL;
	return access(path, X_OK) == 0 ? path : NULL;
}

bool drv_is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return true;
#endif
#endif
	return false;
}

static struct agent_driver *driver_new(int fd, pid_t pid)
{
	struct agent_driver *d = calloc(1, sizeof(*d));
	assert_non_null(d);
	d->fd = fd;
	d->pid = pid;
	d->rx = (struct buf)BUF_INIT(4u << 20);
	d->tx = (struct buf)BUF_INIT(4u << 20);
	assert_int_equal(fd_set_nonblock(fd, 1), 0);
	return d;
}

struct agent_driver *drv_start_raw(const struct drv_options *o)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(pair[0]);
		agent_prepare();
		if (o && o->boxed)
			_exit(box_run(o, pair[1]));
		if (o && o->program) {
			/* dup2() of a descriptor to itself would leave CLOEXEC on. */
			int fd = fcntl(pair[1], F_DUPFD, 4);
			if (dup2(fd, 3) == 3)
				execl(o->program, "brig-agent", (char *)NULL);
			_exit(99);
		}
		_exit(agent_main(pair[1], -1, -1, -1, NULL));
	}
	close(pair[1]);
	return driver_new(pair[0], pid);
}

struct agent_driver *drv_start(const struct drv_options *o)
{
	struct agent_driver *d = drv_start_raw(o);
	struct brig_attach m = { .magic = BRIG_ATTACH_MAGIC, .version = BRIG_AGENT_PROTO_VERSION };
	memset(m.nonce, 0x5a, sizeof(m.nonce));
	drv_send(d, BRIG_ATTACH, 0, 0, &m, sizeof(m));
	drv_until(d, &d->attached);
	return d;
}

int drv_wait_end(struct agent_driver *d)
{
	int status;
	uint64_t until = clock_now() + DEADLINE_NS;
	pid_t r;
	while ((r = waitpid(d->pid, &status, WNOHANG)) == 0 && clock_now() < until)
		drv_pump(d, 1);
	if (r == 0) {
		kill(d->pid, SIGKILL);
		waitpid(d->pid, &status, 0);
		fail_msg("the agent does not end");
	}
	fd_close(&d->fd);
	buf_done(&d->rx);
	buf_done(&d->tx);
	for (int i = 0; i < DRV_STREAMS; i++) {
		buf_done(&d->s[i].out[0]);
		buf_done(&d->s[i].out[1]);
	}
	free(d);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int drv_stop(struct agent_driver *d)
{
	shutdown(d->fd, SHUT_RDWR);
	return drv_wait_end(d);
}

static void tx_flush(struct agent_driver *d)
{
	while (buf_len(&d->tx)) {
		ssize_t r = send(d->fd, buf_head(&d->tx), buf_len(&d->tx), MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN)
			return;
		/* The agent may have ended over what was sent before. */
		if (r < 0)
			assert_true(errno == EPIPE || errno == ECONNRESET);
		buf_consume(&d->tx, r < 0 ? buf_len(&d->tx) : (size_t)r);
	}
}

void drv_send(struct agent_driver *d, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
	      size_t n)
{
	struct brig_frame_hdr h = {
		.len = (uint32_t)n, .type = type, .flags = flags, .stream = stream
	};
	uint64_t until = clock_now() + DEADLINE_NS;
	assert_int_equal(buf_add(&d->tx, &h, sizeof(h)), 0);
	assert_int_equal(buf_add(&d->tx, p, n), 0);
	tx_flush(d);
	while (buf_len(&d->tx) > BRIG_FRAME_MAX && !d->pumping && !d->eof) {
		drv_pump(d, 10);
		assert_true(clock_now() < until);
	}
}

static struct drv_stream *stream_at(struct agent_driver *d, uint32_t id)
{
	assert_in_range(id, 1, DRV_STREAMS - 1);
	return &d->s[id];
}

static struct drv_stream *stream_begin(struct agent_driver *d, uint32_t id)
{
	struct drv_stream *s = stream_at(d, id);
	/* A command's id is taken until the host closes it. */
	if (s->open)
		drv_close(d, id);
	buf_done(&s->out[0]);
	buf_done(&s->out[1]);
	memset(s, 0, sizeof(*s));
	s->open = true;
	s->out[0].max = s->out[1].max = DRV_KEEP;
	return s;
}

static void keep(struct drv_stream *s, int i, const void *p, size_t n)
{
	if (!s->discard)
		assert_int_equal(buf_add(&s->out[i], p, n), 0);
}

static void spend(struct agent_driver *d, struct drv_stream *s, uint32_t id, int chan, uint32_t n)
{
	if (n > s->credit[chan])
		fail_msg("stream %u: %u bytes with %llu of credit", id, n,
			 (unsigned long long)s->credit[chan]);
	s->credit[chan] -= n;
	if (s->regrant && n)
		drv_credit(d, id, (uint32_t)chan + 1, n);
}

static void rx_output(struct agent_driver *d, struct drv_stream *s, const struct frame *f)
{
	int i = f->h.type == BRIG_STDERR;
	uint64_t offset;
	assert_true(s->started && !s->exited && f->h.len >= 8);
	memcpy(&offset, f->payload, 8);
	if (s->gaps)
		assert_true(offset >= s->next[i]);
	else
		assert_int_equal(offset, s->next[i]);
	uint32_t n = f->h.len - 8;
	s->next[i] = offset + n;
	s->total[i] += n;
	keep(s, i, f->payload + 8, n);
	spend(d, s, f->h.stream, i, n);
}

static void rx_fs(struct agent_driver *d, struct drv_stream *s, const struct frame *f)
{
	if (f->h.type == BRIG_FS_DONE) {
		const uint8_t *text = frame_struct(f, &s->fs, sizeof(s->fs));
		assert_non_null(text);
		assert_int_equal(f->payload[f->h.len - 1], 0);
		snprintf(s->fs_text, sizeof(s->fs_text), "%s", (const char *)text);
		s->done_open = s->fs.flags & BRIG_FS_DONE_OPEN;
		s->done = !s->done_open;
		s->open = s->done_open;
		return;
	}
	if (f->h.type == BRIG_FS_DATA) {
		assert_false(s->eof);
		s->eof = f->h.flags & BRIG_FF_EOF;
		s->total[0] += f->h.len;
		keep(s, 0, f->payload, f->h.len);
	} else {
		uint32_t n = f->h.len;
		s->events++;
		keep(s, 0, &n, sizeof(n));
		keep(s, 0, f->payload, n);
	}
	spend(d, s, f->h.stream, 2, f->h.len);
}

static void rx_tcp(struct agent_driver *d, struct drv_stream *s, const struct frame *f)
{
	if (f->h.type == BRIG_TCP_OPENED) {
		assert_false(s->started);
		assert_int_equal(f->h.len, sizeof(s->tcp));
		memcpy(&s->tcp, f->payload, sizeof(s->tcp));
		s->started = true;
		s->done = s->tcp.err != 0;
		s->may_send = s->granted = s->tcp.credit;
	} else if (f->h.type == BRIG_TCP_DONE) {
		assert_true(s->started && !s->done);
		assert_int_equal(f->h.len, sizeof(s->tcp_done));
		memcpy(&s->tcp_done, f->payload, sizeof(s->tcp_done));
		s->done = true;
	} else {
		assert_true(s->started && !s->eof && !s->done);
		s->eof = f->h.flags & BRIG_FF_EOF;
		s->total[0] += f->h.len;
		keep(s, 0, f->payload, f->h.len);
		spend(d, s, f->h.stream, 3, f->h.len);
	}
	s->open = !s->done;
}

static void rx_frame(struct agent_driver *d, const struct frame *f)
{
	assert_true(frame_dir(f->h.type) & FRAME_DIR_A);
	if (f->h.type == BRIG_ATTACHED) {
		d->attached = true;
		return;
	}
	if (f->h.type == BRIG_PONG) {
		d->pongs++;
		return;
	}
	struct drv_stream *s = stream_at(d, f->h.stream);
	struct brig_credit c;
	/* What was under way when we closed it. */
	if (!s->open)
		return;
	switch (f->h.type) {
	case BRIG_STARTED:
		assert_false(s->started);
		assert_non_null(frame_struct(f, &s->start, sizeof(s->start)));
		s->started = true;
		s->exited = s->start.err != 0;
		s->open = s->start.err == 0;
		s->may_send = s->granted = s->start.stdin_credit;
		break;
	case BRIG_EXIT:
		assert_true(s->started && !s->exited);
		assert_non_null(frame_struct(f, &s->exit, sizeof(s->exit)));
		s->exited = true;
		break;
	case BRIG_CREDIT:
		assert_non_null(frame_struct(f, &c, sizeof(c)));
		s->may_send += c.bytes;
		s->granted += c.bytes;
		break;
	case BRIG_STDOUT:
	case BRIG_STDERR:
		rx_output(d, s, f);
		break;
	case BRIG_TCP_OPENED:
	case BRIG_TCP_DATA:
	case BRIG_TCP_DONE:
		rx_tcp(d, s, f);
		break;
	default:
		rx_fs(d, s, f);
		break;
	}
}

bool drv_pump(struct agent_driver *d, int ms)
{
	struct pollfd p = { .fd = d->fd, .events = POLLIN };
	struct frame f;
	if (buf_len(&d->tx))
		p.events |= POLLOUT;
	if (d->eof || poll(&p, 1, ms) <= 0)
		return !d->eof;
	tx_flush(d);
	ssize_t n = buf_read_fd(&d->rx, d->fd, 512 * 1024);
	if (n == -EAGAIN)
		return true;
	if (n <= 0)
		d->eof = true;
	int r;
	d->pumping = true;
	while ((r = frame_peek(&d->rx, &f)) > 0) {
		rx_frame(d, &f);
		buf_consume(&d->rx, frame_size(&f));
	}
	d->pumping = false;
	assert_int_equal(r, 0);
	return !d->eof;
}

void drv_until(struct agent_driver *d, const bool *flag)
{
	uint64_t until = clock_now() + DEADLINE_NS;
	while (!*flag) {
		if (!drv_pump(d, 100) && !*flag)
			fail_msg("the agent closed the channel");
		if (clock_now() > until)
			fail_msg("waited too long for the agent");
	}
}

void drv_sync(struct agent_driver *d)
{
	unsigned want = d->pongs + 1;
	uint64_t until = clock_now() + DEADLINE_NS;
	drv_send(d, BRIG_PING, 0, 0, "sync", 4);
	while (d->pongs < want) {
		assert_true(drv_pump(d, 100));
		assert_true(clock_now() < until);
	}
}

struct drv_stream *drv_exec(struct agent_driver *d, uint32_t id, const struct drv_exec *e)
{
	static const char *const path_only[] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
	const char *const *env = e->env ? e->env : path_only;
	struct buf b = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_exec h = {
		.flags = e->flags,
		.rows = e->rows,
		.cols = e->cols,
		.ring_bytes = e->ring,
		.credit_stdout = e->credit[0],
		.credit_stderr = e->credit[1],
	};
	for (const char *const *p = e->argv; *p; p++)
		h.argc++;
	for (const char *const *p = env; *p; p++)
		h.envc++;
	assert_int_equal(buf_add(&b, &h, sizeof(h)), 0);
	assert_int_equal(buf_add_str(&b, e->user ? e->user : ""), 0);
	assert_int_equal(buf_add_str(&b, e->cwd ? e->cwd : "/"), 0);
	for (const char *const *p = e->argv; *p; p++)
		assert_int_equal(buf_add_str(&b, *p), 0);
	for (const char *const *p = env; *p; p++)
		assert_int_equal(buf_add_str(&b, *p), 0);
	struct drv_stream *s = stream_begin(d, id);
	s->credit[0] = e->credit[0];
	s->credit[1] = e->credit[1];
	s->gaps = e->flags & BRIG_EXEC_DROP;
	s->regrant = e->regrant;
	s->discard = e->discard;
	drv_send(d, BRIG_EXEC, 0, id, buf_head(&b), buf_len(&b));
	buf_done(&b);
	return s;
}

struct drv_stream *drv_sh(struct agent_driver *d, uint32_t id, const char *user, const char *script)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	struct drv_stream *s = drv_exec(d, id,
					&(struct drv_exec){ .user = user,
							    .argv = argv,
							    .credit = { 1u << 20, 1u << 20 },
							    .regrant = true });
	drv_until(d, &s->exited);
	return s;
}

void drv_stdin(struct agent_driver *d, uint32_t id, const void *p, size_t n, bool eof)
{
	struct drv_stream *s = stream_at(d, id);
	assert_true(n <= s->may_send);
	s->may_send -= n;
	drv_send(d, BRIG_STDIN, eof ? BRIG_FF_EOF : 0, id, p, n);
}

void drv_credit(struct agent_driver *d, uint32_t id, uint32_t chan, uint32_t bytes)
{
	struct drv_stream *s = stream_at(d, id);
	struct brig_credit m = { .chan = chan, .bytes = bytes };
	s->credit[chan - 1] += bytes;
	drv_send(d, BRIG_CREDIT, 0, id, &m, sizeof(m));
}

void drv_close(struct agent_driver *d, uint32_t id)
{
	stream_at(d, id)->open = false;
	drv_send(d, BRIG_CLOSE, 0, id, NULL, 0);
}

static const char *text_of(struct buf *b)
{
	uint8_t *at;
	assert_int_equal(buf_reserve(b, 1, &at), 0);
	*at = '\0';
	return (const char *)buf_head(b);
}

const char *drv_out(struct drv_stream *s)
{
	return text_of(&s->out[0]);
}

const char *drv_err(struct drv_stream *s)
{
	return text_of(&s->out[1]);
}

struct drv_stream *drv_fs(struct agent_driver *d, uint32_t id, uint16_t type,
			  const struct drv_fs *q)
{
	struct buf b = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_fs_req h = {
		.flags = q->flags,
		.mode = q->mode,
		.credit = q->no_credit ? 0
			  : q->credit  ? q->credit
				       : 16u << 20,
		.arg = q->arg,
		.arg2 = q->arg2,
	};
	assert_int_equal(buf_add(&b, &h, sizeof(h)), 0);
	assert_int_equal(buf_add_str(&b, q->user ? q->user : ""), 0);
	assert_int_equal(buf_add_str(&b, q->path), 0);
	if (q->path2)
		assert_int_equal(buf_add_str(&b, q->path2), 0);
	struct drv_stream *s = stream_begin(d, id);
	/* STAT's one entry needs no credit. */
	s->credit[2] = type == BRIG_FS_STAT ? 16u << 20 : h.credit;
	s->regrant = q->regrant;
	drv_send(d, type, 0, id, buf_head(&b), buf_len(&b));
	buf_done(&b);
	return s;
}

int drv_fs_now(struct agent_driver *d, uint32_t id, uint16_t type, const struct drv_fs *q)
{
	struct drv_stream *s = drv_fs(d, id, type, q);
	drv_until(d, &s->done);
	return s->fs.err;
}

struct drv_stream *drv_tcp(struct agent_driver *d, uint32_t id, unsigned port, uint32_t credit)
{
	struct brig_tcp m = { .port = port, .credit = credit };
	struct drv_stream *s = stream_begin(d, id);
	s->credit[3] = credit;
	drv_send(d, BRIG_TCP_CONNECT, 0, id, &m, sizeof(m));
	return s;
}

void drv_tcp_send(struct agent_driver *d, uint32_t id, const void *p, size_t n, bool eof)
{
	struct drv_stream *s = stream_at(d, id);
	assert_true(n <= s->may_send);
	s->may_send -= n;
	drv_send(d, BRIG_TCP_DATA, eof ? BRIG_FF_EOF : 0, id, p, n);
}

int drv_write(struct agent_driver *d, uint32_t id, const char *user, const char *path,
	      uint32_t flags, uint32_t mode, const void *p, size_t n)
{
	drv_fs(d, id, BRIG_FS_WRITE,
	       &(struct drv_fs){ .user = user,
				 .path = path,
				 .flags = flags,
				 .mode = mode,
				 .no_credit = true });
	return drv_fs_feed(d, id, p, n);
}

int drv_fs_feed(struct agent_driver *d, uint32_t id, const void *p, size_t n)
{
	uint64_t until = clock_now() + DEADLINE_NS;
	struct drv_stream *s = stream_at(d, id);
	bool sent = false;
	while (!s->done) {
		size_t k = n < s->may_send ? n : (size_t)s->may_send;
		if (k > BRIG_FRAME_MAX)
			k = BRIG_FRAME_MAX;
		if (k || (n == 0 && s->granted && !sent)) {
			s->may_send -= k;
			n -= k;
			sent = n == 0;
			drv_send(d, BRIG_FS_DATA, sent ? BRIG_FF_EOF : 0, id, p, k);
			p = (const uint8_t *)p + k;
		} else {
			assert_true(drv_pump(d, 100));
		}
		assert_true(clock_now() < until);
	}
	return s->fs.err;
}

int drv_read(struct agent_driver *d, uint32_t id, const char *user, const char *path)
{
	return drv_fs_now(d, id, BRIG_FS_READ,
			  &(struct drv_fs){ .user = user, .path = path, .regrant = true });
}

/* Walks the length-prefixed payloads. */
static const uint8_t *payload_next(struct drv_stream *s, size_t *at, uint32_t *ret_n)
{
	if (*at >= buf_len(&s->out[0]))
		return NULL;
	const uint8_t *p = buf_head(&s->out[0]) + *at;
	memcpy(ret_n, p, sizeof(*ret_n));
	*at += sizeof(*ret_n) + *ret_n;
	return p + sizeof(*ret_n);
}

const struct brig_fs_entry *drv_entry(struct drv_stream *s, const char *path)
{
	static struct brig_fs_entry e;
	size_t at = 0;
	uint32_t n;
	const uint8_t *p;
	while ((p = payload_next(s, &at, &n)))
		if (n > sizeof(e) && strcmp((const char *)p + sizeof(e), path) == 0) {
			memcpy(&e, p, sizeof(e));
			return &e;
		}
	return NULL;
}

bool drv_event(struct drv_stream *s, uint32_t kind, const char *path)
{
	struct brig_fs_event e;
	size_t at = 0;
	uint32_t n;
	const uint8_t *p;
	while ((p = payload_next(s, &at, &n))) {
		memcpy(&e, p, sizeof(e));
		if (n > sizeof(e) && e.kind == kind &&
		    strcmp((const char *)p + sizeof(e), path) == 0)
			return true;
	}
	return false;
}
