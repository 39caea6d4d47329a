/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_driver.h: drives the real objects of brigd in one thread: the test holds the far ends of
 * the link to jaild, of the agents' channels and of the clients' sockets, and says what each of
 * them does.
 *
 * Nothing waits: drv_step() runs the loop until it has nothing to do, and every receive fails the
 * test when what it asks for is not there.
 */
#ifndef BRIG_TESTS_DAEMON_DRIVER_H
#define BRIG_TESTS_DAEMON_DRIVER_H

#include <jansson.h>

#include "daemon/daemon.h"
#include "daemon/sandbox.h"

struct drv {
	struct brigd d;
	int jail; /* the test is jaild here */
	char dir[64];
};

struct drv_frame {
	struct brig_frame_hdr h;
	uint8_t payload[BRIG_FRAME_MAX + 1]; /* terminated, for JSON */
};

union drv_request {
	struct jail_hdr h;
	struct jail_hello hello;
	struct jail_image image;
	struct jail_spec spec;
	struct jail_ref ref;
};

/* A brigd that has had its HELLO answered by a host that enforces `enforced`. */
void drv_start(struct drv *t, uint32_t enforced, int rootless);
void drv_stop(struct drv *t);
void drv_step(struct drv *t);
/* Runs the loop until the condition of the caller may have changed: at most ms. */
void drv_wait(struct drv *t, int ms);

/* A new client connection; the test's end. */
int drv_connect(struct drv *t);
void drv_request(struct drv *t, int client, const char *json);
void drv_request_fds(struct drv *t, int client, const char *json, const int *fds, unsigned n);
void drv_send(int fd, uint16_t type, uint16_t flags, uint32_t stream, const void *p, size_t n);
void drv_send_raw(int fd, const void *p, size_t n);
/* The next frame on a client's or agent's socket; fails the test if there is none. */
void drv_frame(int fd, struct drv_frame *f);
/* The next frame, which must have this type. */
void drv_expect(int fd, uint16_t type, struct drv_frame *f);
/* REP or END as JSON (owned by the caller). */
json_t *drv_json(int fd, uint16_t type);
/* 1 when the other side has closed and nothing is left to read. */
int drv_closed(int fd);
/* Nothing to read now. */
void drv_silent(int fd);

/* The next request to jaild, which must be verb; descriptors (at most 32) into fds. */
void drv_jail(struct drv *t, uint32_t verb, union drv_request *r, int *fds, unsigned *nfds);
void drv_jail_silent(struct drv *t);
void drv_answer_ok(struct drv *t, const union drv_request *r);
void drv_answer_error(struct drv *t, const union drv_request *r, enum brig_code code,
		      const char *msg);
/* st NULL: zero figures, all valid. */
void drv_answer_stats(struct drv *t, const union drv_request *r, const struct jail_stats *st);
void drv_answer_gone(struct drv *t, const union drv_request *r);

/* Takes CREATE, answers OK, and reads ATTACH; returns the agent's end and the nonce. */
int drv_born(struct drv *t, union drv_request *create, struct brig_attach *attach);
void drv_attached(struct drv *t, int agent, const struct brig_attach *a);
void drv_started(struct drv *t, int agent, uint32_t stream, uint32_t stdin_credit);
void drv_output(int agent, uint16_t type, uint32_t stream, uint64_t offset, const void *p,
		size_t n);
void drv_exit(int agent, uint32_t stream, uint32_t flags, uint32_t code, uint64_t out,
	      uint64_t err);
/* Takes DESTROY and answers both parts of it. */
void drv_destroyed(struct drv *t, const struct jail_stats *st);

/* run `cmd` to the point where it is STARTED: client has its REP. */
struct drv_run {
	int client, agent;
	union drv_request create;
	struct brig_attach attach;
	uint32_t stream;
	struct brig_exec exec;
	char id[BRIG_ID_LEN + 8];
};
void drv_run(struct drv *t, struct drv_run *r, const char *json);
void drv_run_done(struct drv_run *r);

const char *drv_str(const json_t *o, const char *key);
json_int_t drv_int(const json_t *o, const char *key);

#endif
