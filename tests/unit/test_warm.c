/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of ready sandboxes and a brigd that the test plays. Kernels and removals are told apart
 * from it: they are counted here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/box.h"
#include "api/warm.h"
#include "base/clock.h"
#include "base/fd.h"

/* ---- what warm.c calls ---- */

struct kernel {
	const struct kernel_ops *ops;
	void *ctx;
};

static struct kernel kernel; /* one at a time */
static unsigned kernels, kernels_freed;

int kernel_start(struct link *l, const struct kernel_spec *spec, const struct kernel_ops *ops,
		 void *ctx, struct kernel **ret, struct brig_err *err)
{
	(void)l;
	(void)err;
	assert_string_equal(spec->language, "python");
	kernels++;
	kernel = (struct kernel){ .ops = ops, .ctx = ctx };
	*ret = &kernel;
	return 0;
}

void kernel_free(struct kernel *k)
{
	kernels_freed += k != NULL;
}

void kernel_hand(struct kernel *k, const struct kernel_ops *ops, void *ctx)
{
	*k = (struct kernel){ .ops = ops, .ctx = ctx };
}

int kernel_warm(struct kernel *k, bool idle)
{
	assert_ptr_equal(k, &kernel);
	assert_true(idle);
	return 0;
}

static struct removal {
	char id[64];
	void (*done)(void *ctx);
	void *ctx;
} removals[8];
static unsigned nremovals;

struct box_removal *box_remove_id(struct api *a, const char *id, void (*done)(void *ctx), void *ctx)
{
	(void)a;
	assert_true(nremovals < 8);
	struct removal *m = &removals[nremovals++];
	snprintf(m->id, sizeof(m->id), "%s", id);
	m->done = done;
	m->ctx = ctx;
	return (struct box_removal *)m;
}

/* ---- brigd ---- */

static struct api api;
static int door = -1;

static int setup(void **state)
{
	int pair[2];
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	memset(&api, 0, sizeof(api));
	api.log = (struct log){ .fd = -1, .level = LOG_ERROR };
	kernels = kernels_freed = nremovals = 0;
	assert_int_equal(ev_init(&api.ev), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	door = pair[1];
	assert_int_equal(link_open(&api.ev, pair[0], &api.link, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	link_close(api.link);
	for (int i = 0; i < 2; i++)
		assert_true(ev_round(&api.ev, 0) >= 0); /* frees what is over */
	ev_done(&api.ev);
	fd_close(&door);
	return 0;
}

#define until(cond)                                             \
	do {                                                    \
		uint64_t deadline_ = clock_now() + 10 * SEC_NS; \
		while (!(cond)) {                               \
			assert_true(ev_round(&api.ev, 1) >= 0); \
			assert_true(clock_now() < deadline_);   \
		}                                               \
	} while (0)

/* brigd's end of the next operation, or -1. */
static int take(void)
{
	char byte[4];
	int fd = -1;
	unsigned n = 1;
	return fd_recv(door, byte, sizeof(byte), &fd, &n, MSG_DONTWAIT) == 1 ? fd : -1;
}

static void reply(int fd, const char *text)
{
	struct buf b = BUF_INIT(BRIG_FRAME_MAX + 64);
	assert_int_equal(frame_add(&b, BRIG_CL_REP, 0, 0, text, strlen(text), NULL, 0), 0);
	assert_int_equal(fd_write_full(fd, buf_head(&b), buf_len(&b)), 0);
	buf_done(&b);
	close(fd);
}

static bool is_closed(int fd)
{
	char c;
	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/* A pool of two, and the create that it begins with. */
static int pool_begin(void)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *spec = json_object();
	const struct warm_plan plan = { .template_id = "t", .image = "i", .size = 2, .spec = spec };
	int fd = -1;
	char request[4096];
	assert_int_equal(warm_open(&api, &api.warm, &err), 0);
	assert_int_equal(warm_add(api.warm, &plan, &err), 0);
	json_decref(spec);
	until((fd = take()) >= 0);
	assert_true(recv(fd, request, sizeof(request), MSG_DONTWAIT) > 0);
	return fd;
}

static void say(enum interp_kind kind)
{
	struct interp_event e = { .kind = kind };
	kernel.ops->event(kernel.ctx, &e);
}

#define MADE(id) "{\"ok\":{\"id\":\"" id "\",\"home\":\"/root\",\"user\":\"root\"}}"

/* ---- tests ---- */

static void a_pool_fills_and_is_taken_from(void **state)
{
	(void)state;
	const struct warm_wish wish = { .template_id = "t", .image = "i" };
	struct warm_box w;
	int fd = pool_begin();
	assert_false(warm_take(api.warm, &wish, &w));
	reply(fd, MADE("abc"));
	until(kernels == 1);
	say(INTERP_READY);
	say(INTERP_WARM);
	assert_true(warm_take(api.warm, &wish, &w));
	assert_string_equal(w.id, "abc");
	assert_ptr_equal(w.kernel, &kernel);
	json_decref(w.reply);
	assert_int_equal(nremovals, 0);
	warm_close(api.warm);
	assert_int_equal(api.norphans, 0);
}

static void a_create_under_way_outlives_its_pool_and_what_it_made_is_removed(void **state)
{
	(void)state;
	int fd = pool_begin();
	warm_close(api.warm);
	/* It was not taken back: brigd would answer to nobody. */
	for (int i = 0; i < 3; i++)
		assert_true(ev_round(&api.ev, 0) >= 0);
	assert_false(is_closed(fd));
	assert_int_equal(api.norphans, 1);
	reply(fd, MADE("abc"));
	until(nremovals == 1);
	assert_string_equal(removals[0].id, "abc");
	assert_int_equal(api.norphans, 1); /* until it is gone */
	removals[0].done(removals[0].ctx);
	assert_int_equal(api.norphans, 0);
	assert_int_equal(kernels, 0);
}

static void a_create_that_fails_leaves_nothing_to_wait_for(void **state)
{
	(void)state;
	int fd = pool_begin();
	warm_close(api.warm);
	reply(fd, "{\"error\":{\"code\":\"exhausted\",\"message\":\"full\"}}");
	until(api.norphans == 0);
	assert_int_equal(nremovals, 0);
	/* Also not where brigd has ended. */
	fd = pool_begin();
	warm_close(api.warm);
	assert_int_equal(api.norphans, 1);
	close(fd);
	until(api.norphans == 0);
	assert_int_equal(nremovals, 0);
}

static void a_kernel_that_ends_takes_its_sandbox_with_it(void **state)
{
	(void)state;
	int fd = pool_begin();
	reply(fd, MADE("abc"));
	until(kernels == 1);
	kernel.ops->gone(kernel.ctx, "it ended");
	assert_int_equal(nremovals, 1);
	assert_string_equal(removals[0].id, "abc");
	assert_int_equal(kernels_freed, 1);
	warm_close(api.warm);
	assert_int_equal(api.norphans, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_pool_fills_and_is_taken_from),
		T(a_create_under_way_outlives_its_pool_and_what_it_made_is_removed),
		T(a_create_that_fails_leaves_nothing_to_wait_for),
		T(a_kernel_that_ends_takes_its_sandbox_with_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
