/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_driver.h: a host for one real agent, for tests. The agent runs in a process of its own at
 * the other end of a socket pair; the driver speaks the wire, collects what comes and checks every
 * frame against the contract (stream, credit, offset, order) as a host would.
 *
 * Plain: the agent is an ordinary process of whoever runs the test. Boxed: it is pid 1 of a small
 * root on a tmpfs, with namespaces, a devpts, its own /etc, the capabilities and no_new_privs that
 * the engine gives it. Boxed needs root and CAP_SYS_ADMIN.
 */
#ifndef BRIG_TESTS_AGENT_DRIVER_H
#define BRIG_TESTS_AGENT_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/frame.h"
#include "brig/agent_proto.h"

#define DRV_STREAMS 320
#define DRV_KEEP (80u << 20)

struct drv_stream {
	bool open, started, exited, done, done_open, eof;
	struct brig_started start;
	struct brig_exit exit;
	struct brig_fs_done fs;
	char fs_text[4096];
	struct buf out[2];  /* what came on stdout, stderr; FS_DATA and FS_ENTRY, FS_EVENT payloads
			     * in  out[0], the latter two each preceded by a u32 length */
	uint64_t next[2];   /* offset that is due */
	uint64_t total[2];  /* bytes that came */
	uint64_t credit[4]; /* what the agent may still send */
	uint64_t may_send;  /* what we may */
	uint64_t granted;   /* by the agent, in all */
	bool gaps, discard;
	bool regrant; /* grant again what came */
	unsigned events;
	/* A connection: started when TCP_OPENED came, done with TCP_DONE; its bytes are in out[0]. */
	struct brig_tcp_opened tcp;
	struct brig_tcp_done tcp_done;
};

struct agent_driver {
	pid_t pid;
	int fd;
	struct buf rx, tx;
	unsigned pongs;
	bool attached, eof;
	bool pumping; /* frames are being handled: nothing may wait */
	struct drv_stream s[DRV_STREAMS];
};

struct drv_options {
	bool boxed;
	const char *program; /* not boxed: a brig-agent to exec; NULL = agent_main() in a fork */
	const char *passwd, *group; /* boxed: contents; NULL = root and user (uid 1000) */
	const char *sudo;	    /* boxed: a program to appear as /usr/local/bin/sudo */
	unsigned root_kib;	    /* boxed: size of the root; 0 = 4096 */
	bool layer;		    /* boxed: the whole root is its writable layer */
};

/* True if boxed agents can be had; else *ret_why says what is missing. */
bool drv_can_box(const char **ret_why);
/* A program of this build: named by the environment variable, or found above the test's own folder
 * (build/tests/unit); NULL if it is not there. */
const char *drv_program(const char *name, const char *variable);
/* This build carries AddressSanitizer: its memory and its speed are not the product's. */
bool drv_is_sanitized(void);
/* Fails the test that calls it if the agent cannot be started. */
struct agent_driver *drv_start(const struct drv_options *o);
/* Without ATTACH. */
struct agent_driver *drv_start_raw(const struct drv_options *o);
/* Closes the channel, waits for the agent: its exit code, or -signal. */
int drv_stop(struct agent_driver *d);
/* Waits for the agent without closing the channel. */
int drv_wait_end(struct agent_driver *d);

void drv_send(struct agent_driver *d, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
	      size_t n);
/* Reads what is there, waiting at most ms for the first byte. False at the end of the channel. */
bool drv_pump(struct agent_driver *d, int ms);
/* Pumps until *flag or the deadline (10 s); fails the test then. */
void drv_until(struct agent_driver *d, const bool *flag);
/* PING, and waits for its answer: everything sent before was handled. */
void drv_sync(struct agent_driver *d);

struct drv_exec {
	const char *user, *cwd;
	const char *const *argv; /* up to NULL */
	const char *const *env;	 /* NULL = PATH only */
	uint32_t flags, ring;
	uint16_t rows, cols;
	uint32_t credit[2];
	bool regrant, discard;
};
struct drv_stream *drv_exec(struct agent_driver *d, uint32_t id, const struct drv_exec *e);
/* sh -c script, with plenty of credit, to its EXIT (or failed start). */
struct drv_stream *drv_sh(struct agent_driver *d, uint32_t id, const char *user,
			  const char *script);
void drv_stdin(struct agent_driver *d, uint32_t id, const void *p, size_t n, bool eof);
void drv_credit(struct agent_driver *d, uint32_t id, uint32_t chan, uint32_t bytes);
void drv_close(struct agent_driver *d, uint32_t id);
/* What came on stdout, as a string. */
const char *drv_out(struct drv_stream *s);
const char *drv_err(struct drv_stream *s);

struct drv_fs {
	const char *user, *path, *path2;
	uint32_t flags, mode, credit; /* credit 0 = 16 MiB */
	bool no_credit, regrant;
	uint64_t arg, arg2;
};
struct drv_stream *drv_fs(struct agent_driver *d, uint32_t id, uint16_t type,
			  const struct drv_fs *q);
/* The same, to its FS_DONE; returns its errno. */
int drv_fs_now(struct agent_driver *d, uint32_t id, uint16_t type, const struct drv_fs *q);
/* A whole file written, or read back, by user; errno. */
int drv_write(struct agent_driver *d, uint32_t id, const char *user, const char *path,
	      uint32_t flags, uint32_t mode, const void *p, size_t n);
int drv_read(struct agent_driver *d, uint32_t id, const char *user, const char *path);
/* Asks for a connection; the answer is awaited by drv_until(d, &s->started). */
struct drv_stream *drv_tcp(struct agent_driver *d, uint32_t id, unsigned port, uint32_t credit);
void drv_tcp_send(struct agent_driver *d, uint32_t id, const void *p, size_t n, bool eof);
/* Sends data as the agent grants it, on a stream that takes FS_DATA; to FS_DONE, whose errno is
 * returned. */
int drv_fs_feed(struct agent_driver *d, uint32_t id, const void *p, size_t n);
/* The entry or event with that path among those that came; NULL if none. */
const struct brig_fs_entry *drv_entry(struct drv_stream *s, const char *path);
bool drv_event(struct drv_stream *s, uint32_t kind, const char *path);

#endif
