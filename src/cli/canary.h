/* SPDX-License-Identifier: Apache-2.0 */
/*
 * canary.h: things of the host that no sandbox must reach, and the proof from outside of whether
 * one did. An attack is told where they are (src/attack/attack.h); what it says about itself is not
 * the proof.
 */
#ifndef BRIG_CLI_CANARY_H
#define BRIG_CLI_CANARY_H

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/cli.h"

#define CANARY_LISTENERS 3u
/* What the sandbox of an attack may have, as text for its flags and in bytes. */
#define CANARY_PIDS "64"
#define CANARY_MEMORY "256m"
#define CANARY_MEMORY_BYTES "268435456"
#define CANARY_DISK "64m"
#define CANARY_DISK_BYTES "67108864"
#define CANARY_ENV 11u

struct canary {
	char dir[32], file[48], secret[48], name[48]; /* name: of the abstract socket */
	pid_t process;
	int listener[CANARY_LISTENERS]; /* loopback of IPv4 and IPv6, abstract; -1 = none */
	unsigned port;
	int lock; /* holds lock_path; -1 = nothing could be locked */
	const char *lock_path;
	const char *reached; /* the listener that was, since canary_begin(); NULL */
	char *before;	     /* the host's settings then */
	char env[CANARY_ENV][512];
	unsigned nenv;
};
#define CANARY_NONE                                    \
	{                                              \
		.listener = { -1, -1, -1 }, .lock = -1 \
	}

/* Puts everything in place; what was is undone if it fails. canary_done() undoes all. */
int canary_open(struct canary *c, struct brig_err *err);
void canary_done(struct canary *c);

/* Before an attack: notes how the host is. */
int canary_begin(struct canary *c, struct brig_err *err);
/* For a poll() while it runs: fills CANARY_LISTENERS entries; canary_work() looks at them. */
void canary_poll(const struct canary *c, struct pollfd *p);
void canary_work(struct canary *c, const struct pollfd *p);
/* Afterwards: whether the host was reached or changed, with the words for it. said: what the attack
 * printed. */
bool canary_harmed(struct canary *c, const char *said, char *ret, size_t cap);

#endif
