/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of events, over real connections: order, filters, cursors of this life and of others,
 * readers that do not read, and the bounds of what is kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/box.h"
#include "api/events.h"
#include "api/key.h"
#include "api/tenant.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "store/store.h"

static struct api a;
static char folder[64];
static struct sockaddr_storage at[2]; /* TCP, and the operator's */
static socklen_t at_len[2];
static char key[API_KEY_MAX], other_key[API_KEY_MAX];

static int listener(int family, unsigned i)
{
	struct sockaddr_storage any = { .ss_family = (sa_family_t)family };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	socklen_t n = family == AF_UNIX ? sizeof(sa_family_t) : 16;
	if (family == AF_INET) {
		static const uint8_t loopback[4] = { 127, 0, 0, 1 };
		memcpy((char *)&any + 4, loopback, 4);
	}
	assert_int_equal(bind(fd, (struct sockaddr *)&any, n), 0);
	assert_int_equal(listen(fd, 128), 0);
	at_len[i] = sizeof(at[i]);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at[i], &at_len[i]), 0);
	return fd;
}

static int setup(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store_key mine = { .name = "n", .tenant = "mine", .role = "developer" };
	struct store_key theirs = { .name = "n", .tenant = "theirs", .role = "developer" };
	struct tenant *t;
	(void)state;
	memset(&a, 0, sizeof(a));
	snprintf(folder, sizeof(folder), "/tmp/brig-events-XXXXXX");
	assert_non_null(mkdtemp(folder));
	a.data_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	a.log = (struct log){ .fd = -1 };
	assert_int_equal(ev_init(&a.ev), 0);
	LIST_INIT(&a.all);
	if (store_open(a.data_fd, &a.store, &err) < 0 || events_open(&a, &err) < 0 ||
	    tenants_open(&a, &err) < 0 || tenant_add(&a, "mine", &t, &err) < 0 ||
	    tenant_add(&a, "theirs", &t, &err) < 0 ||
	    key_make(&a, &mine, NULL, 0, key, &err) < 0 ||
	    key_make(&a, &theirs, NULL, 0, other_key, &err) < 0)
		fail_msg("%s", err.msg);
	for (unsigned i = 0; i < 2; i++) {
		struct http_options o = { .listen_fd = listener(i ? AF_UNIX : AF_INET, i),
					  .route = api_route,
					  .ctx = &a };
		assert_int_equal(http_open(&a.ev, &o, &a.http[a.nhttp++], &err), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "api.db", "api.db-wal" };
	(void)state;
	for (unsigned i = 0; i < a.nhttp; i++)
		http_close(a.http[i]);
	assert_int_equal(a.events ? a.events->nreaders : 0, 0);
	ev_round(&a.ev, 0);
	events_close(&a);
	ev_round(&a.ev, 0);
	ev_done(&a.ev);
	tenants_close(&a);
	store_close(a.store);
	for (unsigned i = 0; i < 2; i++)
		unlinkat(a.data_fd, names[i], 0);
	close(a.data_fd);
	return rmdir(folder);
}

/* ---- clients ---- */

struct client {
	int fd;
	struct buf got;
	bool ended;
};

static void pull(struct client *c)
{
	ssize_t n;
	while (!c->ended && (n = buf_read_fd(&c->got, c->fd, 65536)) != -EAGAIN)
		c->ended = n <= 0;
}

/* The head and what has come of the body, without the marks of its chunks; END behind it if it
 * ended in order. Valid until the next call. */
#define END "<end>"
static const char *text_of(struct client *c)
{
	static char *copy;
	size_t n = buf_len(&c->got);
	free(copy);
	copy = buf_text(n ? buf_head(&c->got) : NULL, n);
	char *body = strstr(copy, "\r\n\r\n"), *to, *from;
	if (!body || !strstr(copy, "chunked"))
		return copy;
	to = from = body + 4;
	while (strstr(from, "\r\n")) {
		char *piece = strstr(from, "\r\n") + 2, *end = copy + n;
		size_t k = strtoul(from, NULL, 16);
		if (k == 0) {
			strcpy(to, END);
			return copy;
		}
		k = k < (size_t)(end - piece) ? k : (size_t)(end - piece);
		memmove(to, piece, k);
		to += k;
		from = end - (piece + k) >= 2 ? piece + k + 2 : end;
	}
	*to = '\0';
	return copy;
}

/* What must come, must come in ten seconds. */
static void wait_text(struct client *c, const char *text)
{
	uint64_t deadline = clock_now() + 10 * SEC_NS;
	while (!strstr(text_of(c), text)) {
		if (clock_now() > deadline || c->ended)
			fail_msg("'%s' did not come; there is: %.2000s", text, text_of(c));
		assert_true(ev_round(&a.ev, 1) >= 0);
		pull(c);
	}
}

static struct client opened(bool operator, const char * target, const char *with_key,
			    const char *headers)
{
	struct client c = { .got = BUF_INIT(64u << 20) };
	char text[1024];
	c.fd = socket(operator? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c.fd, (struct sockaddr *)&at[operator], at_len[operator]), 0);
	assert_int_equal(fd_set_nonblock(c.fd, 1), 0);
	int n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n%s%s%s%s\r\n", target,
			 with_key ? "X-API-Key: " : "", with_key ? with_key : "",
			 with_key ? "\r\n" : "", headers);
	assert_int_equal(send(c.fd, text, (size_t)n, MSG_NOSIGNAL), n);
	return c;
}

static struct client follow(const char *target, const char *headers)
{
	struct client c = opened(false, target, key, headers);
	wait_text(&c, "\n\n"); /* open or gap */
	assert_non_null(strstr(text_of(&c), "HTTP/1.1 200"));
	assert_non_null(strstr(text_of(&c), "text/event-stream"));
	return c;
}

static void closed(struct client *c)
{
	close(c->fd);
	buf_done(&c->got);
	for (unsigned i = 0; i < 20; i++)
		ev_round(&a.ev, 1);
}

static void add(const char *tenant, const char *box)
{
	events_add(&a, EVENT_PAUSED, tenant, box, "req-1", json_pack("{s:s}", "by", "request"));
}

static void cursor_text(uint64_t number, char ret[CURSOR_MAX])
{
	cursor_format((struct cursor){ .life = a.events->last.life, .number = number }, ret);
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;
	for (; (text = strstr(text, word)); text += strlen(word))
		n++;
	return n;
}

/* ---- order and filters ---- */

static void events_come_in_order_and_name_their_place(void **state)
{
	char id[CURSOR_MAX], line[128];
	struct client c = follow("/v1/events", "");
	(void)state;
	cursor_text(0, id);
	snprintf(line, sizeof(line), "id: %s\nevent: open\ndata: {}\n\n", id);
	wait_text(&c, line);
	add("mine", "a1");
	add("mine", "a2");
	cursor_text(2, id);
	snprintf(line, sizeof(line), "id: %s\nevent: sandbox.paused\ndata: {", id);
	wait_text(&c, line);
	wait_text(&c, "\"sandbox\":\"a2\"");
	wait_text(&c, "}\n\n");
	const char *all = text_of(&c);
	assert_true(strstr(all, "\"a1\"") < strstr(all, "\"a2\""));
	/* The data is one JSON object that says the same. */
	const char *data = strstr(all, "data: {\"id\"") + 6;
	json_t *o = json_loadb(data, strcspn(data, "\n"), 0, NULL);
	assert_non_null(o);
	cursor_text(1, id);
	assert_string_equal(json_string_value(json_object_get(o, "id")), id);
	assert_string_equal(json_string_value(json_object_get(o, "type")), "sandbox.paused");
	assert_string_equal(json_string_value(json_object_get(o, "request_id")), "req-1");
	assert_string_equal(json_string_value(json_object_get(json_object_get(o, "details"), "by")),
			    "request");
	json_decref(o);
	closed(&c);
}

static void a_tenant_sees_its_own(void **state)
{
	struct client mine = follow("/v1/events", "");
	struct client one = follow("/v1/events?sandbox=a2", "");
	struct client all = opened(true, "/v1/events", NULL, "");
	(void)state;
	wait_text(&all, "event: open");
	add("theirs", "b1");
	add("mine", "a1");
	add("mine", "a2");
	wait_text(&all, "\"a2\"");
	wait_text(&mine, "\"a2\"");
	wait_text(&one, "\"a2\"");
	assert_non_null(strstr(text_of(&all), "\"b1\""));
	assert_null(strstr(text_of(&mine), "\"b1\""));
	assert_null(strstr(text_of(&one), "\"a1\""));
	/* A heartbeat moves the cursor past what was filtered. */
	char id[CURSOR_MAX], line[128];
	add("theirs", "b2");
	ev_round(&a.ev, 1);
	events_beat(a.events);
	cursor_text(4, id);
	snprintf(line, sizeof(line), ": alive\nid: %s\n\n", id);
	wait_text(&one, line);
	assert_null(strstr(text_of(&one), "\"b2\""));
	closed(&mine);
	closed(&one);
	closed(&all);
}

static void what_is_no_question_is_refused(void **state)
{
	static const struct {
		const char *target, *header, *status;
	} rows[] = {
		{ "/v1/events?cursor=5", "", "HTTP/1.1 400" },
		{ "/v1/events?cursor=0123456789abcdef-01", "", "HTTP/1.1 400" },
		{ "/v1/events", "Last-Event-ID: ../../etc\r\n", "HTTP/1.1 400" },
		{ "/v1/events?sandbox=../x", "", "HTTP/1.1 400" },
	};
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct client c = opened(false, rows[i].target, key, rows[i].header);
		wait_text(&c, "\"request_id\"");
		assert_non_null(strstr(text_of(&c), rows[i].status));
		assert_non_null(strstr(text_of(&c), "\"remediation\":\""));
		closed(&c);
	}
	struct client c = opened(false, "/v1/events", NULL, "");
	wait_text(&c, "HTTP/1.1 401");
	closed(&c);
	/* A place that this life has not reached is not waited for. */
	char id[CURSOR_MAX], target[128];
	cursor_text(7, id);
	snprintf(target, sizeof(target), "/v1/events?cursor=%s", id);
	c = opened(false, target, key, "");
	wait_text(&c, "HTTP/1.1 400");
	closed(&c);
}

/* ---- cursors ---- */

static void a_cursor_goes_on_where_it_was(void **state)
{
	char id[CURSOR_MAX], wrong[CURSOR_MAX], text[256];
	(void)state;
	for (unsigned i = 1; i <= 5; i++) {
		char box[16];
		snprintf(box, sizeof(box), "a%u", i);
		add("mine", box);
	}
	cursor_text(3, id);
	cursor_text(1, wrong);
	snprintf(text, sizeof(text), "/v1/events?cursor=%s", id);
	struct client c = follow(text, "");
	wait_text(&c, "\"a5\"");
	assert_null(strstr(text_of(&c), "\"a3\""));
	assert_non_null(strstr(text_of(&c), "\"a4\""));
	assert_null(strstr(text_of(&c), "event: gap"));
	closed(&c);
	/* Whoever reconnects repeats its URL: the header wins. */
	char header[128];
	snprintf(header, sizeof(header), "Last-Event-ID: %s\r\n", id);
	snprintf(text, sizeof(text), "/v1/events?cursor=%s", wrong);
	c = follow(text, header);
	wait_text(&c, "\"a5\"");
	assert_null(strstr(text_of(&c), "\"a3\""));
	closed(&c);
	c = follow("/v1/events?cursor=oldest", "");
	wait_text(&c, "\"a5\"");
	assert_non_null(strstr(text_of(&c), "\"a1\""));
	closed(&c);
}

static void a_cursor_of_another_life_is_told_as_a_gap(void **state)
{
	char id[CURSOR_MAX], text[256];
	(void)state;
	add("mine", "a1");
	cursor_format((struct cursor){ .life = a.events->last.life + 1, .number = 1 }, id);
	snprintf(text, sizeof(text), "/v1/events?cursor=%s", id);
	struct client c = follow(text, "");
	wait_text(&c, "\"a1\""); /* all of this life comes */
	assert_int_equal(count(text_of(&c), "event: gap"), 1);
	assert_int_equal(count(text_of(&c), "event: open"), 0);
	assert_non_null(strstr(text_of(&c), "earlier life"));
	assert_non_null(strstr(text_of(&c), "\"lost_at_most\":null"));
	closed(&c);
}

static void what_the_ring_has_forgotten_is_told_as_a_gap(void **state)
{
	char id[CURSOR_MAX], text[256];
	(void)state;
	for (unsigned i = 0; i < EVENTS_KEPT_MAX + 10; i++)
		add("mine", "a1");
	assert_int_equal(a.events->oldest, 11);
	cursor_text(4, id);
	snprintf(text, sizeof(text), "/v1/events?cursor=%s", id);
	struct client c = follow(text, "");
	wait_text(&c, "event: gap");
	wait_text(&c, "\"lost_at_most\":6,"); /* 5 to 10 */
	cursor_text(10, id);
	snprintf(text, sizeof(text), "\"resumes_after\":\"%s\"", id);
	wait_text(&c, text);
	cursor_text(EVENTS_KEPT_MAX + 10, id);
	wait_text(&c, id);
	closed(&c);
	/* The place just before the oldest lacks nothing. */
	cursor_text(10, id);
	snprintf(text, sizeof(text), "/v1/events?cursor=%s", id);
	c = follow(text, "");
	wait_text(&c, "event: open");
	assert_null(strstr(text_of(&c), "event: gap"));
	closed(&c);
}

/* ---- bounds ---- */

static void a_reader_that_does_not_read_is_cut(void **state)
{
	char id[CURSOR_MAX], text[256];
	(void)state;
	struct client c = opened(true, "/v1/events", NULL, "");
	wait_text(&c, "event: open");
	/* More than the ring and the socket hold, while nobody reads. */
	for (unsigned i = 0; i < 3 * EVENTS_KEPT_MAX; i++) {
		add("mine", "a1");
		if (i % 16 == 0)
			assert_true(ev_round(&a.ev, 0) >= 0);
	}
	uint64_t deadline = clock_now() + 10 * SEC_NS;
	while (!c.ended && !strstr(text_of(&c), "event: lagged")) {
		assert_true(clock_now() < deadline);
		assert_true(ev_round(&a.ev, 1) >= 0);
		pull(&c);
	}
	assert_int_equal(a.events->nreaders, 0);
	wait_text(&c, END); /* an orderly end of the stream */
	/* Every event up to the last one, in one piece, and then why. */
	const char *all = text_of(&c), *last = strstr(all, "event: lagged");
	unsigned sent = count(all, "event: sandbox.paused");
	assert_true(sent >= 1 && sent < EVENTS_KEPT_MAX * 2);
	cursor_text(sent, id);
	snprintf(text, sizeof(text), "id: %s\nevent: lagged", id);
	assert_ptr_equal(strstr(all, text), last - strlen(id) - 5);
	assert_null(strstr(last, "event: sandbox"));
	closed(&c);
	/* Who comes back with it learns what is lost. */
	snprintf(text, sizeof(text), "Last-Event-ID: %s\r\n", id);
	c = follow("/v1/events", text);
	wait_text(&c, "event: gap");
	closed(&c);
}

static void what_is_kept_has_a_bound(void **state)
{
	char *long_text = malloc(7001);
	(void)state;
	memset(long_text, 'x', 7000);
	long_text[7000] = '\0';
	for (unsigned i = 0; i < 2 * EVENTS_BYTES_MAX / 7000; i++) {
		events_add(&a, EVENT_SNAPSHOT, "mine", "a1", NULL,
			   json_pack("{s:s}", "name", long_text));
		assert_true(a.events->bytes <= EVENTS_BYTES_MAX);
	}
	assert_true(a.events->oldest > 1);
	/* One that is longer than any may be keeps its name and its place. */
	events_add(&a, EVENT_SNAPSHOT, "mine", "a1", NULL,
		   json_pack("{s:s,s:s}", "name", long_text, "more", long_text));
	const struct event *ev = events_at(a.events, a.events->last.number);
	assert_true(ev->n < 1000);
	assert_non_null(strstr(ev->text, "\"omitted\":true"));
	assert_null(strstr(ev->text, "xxx"));
	free(long_text);
}

static void readers_of_a_tenant_have_a_bound(void **state)
{
	static struct client c[EVENTS_TENANT_READERS_MAX];
	(void)state;
	for (unsigned i = 0; i < EVENTS_TENANT_READERS_MAX; i++)
		c[i] = follow("/v1/events", "");
	struct client more = opened(false, "/v1/events", key, "");
	wait_text(&more, "\"request_id\"");
	assert_non_null(strstr(text_of(&more), "HTTP/1.1 429"));
	assert_non_null(strstr(text_of(&more), "Retry-After"));
	closed(&more);
	/* That is nobody else's trouble. */
	more = opened(false, "/v1/events", other_key, "");
	wait_text(&more, "event: open");
	closed(&more);
	for (unsigned i = 0; i < EVENTS_TENANT_READERS_MAX; i++)
		close(c[i].fd);
	for (unsigned i = 0; i < 100 && a.events->nreaders; i++)
		ev_round(&a.ev, 10);
	assert_int_equal(a.events->nreaders, 0);
	for (unsigned i = 0; i < EVENTS_TENANT_READERS_MAX; i++)
		buf_done(&c[i].got);
}

static void the_end_is_told(void **state)
{
	(void)state;
	struct client c = follow("/v1/events", "");
	add("mine", "a1");
	events_stop(a.events);
	wait_text(&c, "event: closing");
	assert_non_null(strstr(text_of(&c), "\"a1\"")); /* nothing was left out */
	wait_text(&c, END);
	closed(&c);
	c = opened(false, "/v1/events", key, "");
	wait_text(&c, "HTTP/1.1 503");
	closed(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(events_come_in_order_and_name_their_place),
		T(a_tenant_sees_its_own),
		T(what_is_no_question_is_refused),
		T(a_cursor_goes_on_where_it_was),
		T(a_cursor_of_another_life_is_told_as_a_gap),
		T(what_the_ring_has_forgotten_is_told_as_a_gap),
		T(a_reader_that_does_not_read_is_cut),
		T(what_is_kept_has_a_bound),
		T(readers_of_a_tenant_have_a_bound),
		T(the_end_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
