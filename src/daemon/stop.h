/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop.h: why a command ended. stop_decide() is a pure function from the facts to the verdict, so
 * that its table of cases is the test; stop_status() writes the STATUS object of client_proto.h.
 *
 * Times: wall_ms runs from the moment brigd accepted the request (for run: before the sandbox
 * existed) to the moment the end was known; the wall-time limit counts from STARTED.
 */
#ifndef BRIG_DAEMON_STOP_H
#define BRIG_DAEMON_STOP_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "brig/agent_proto.h"
#include "brig/jail_proto.h"
#include "brig/limits.h"

#define STOP_REASONS(X)                     \
	X(EXITED, "exited")                 \
	X(SIGNALED, "signaled")             \
	X(WALL_TIME, "wall_time")           \
	X(CPU_TIME, "cpu_time")             \
	X(OUT_OF_MEMORY, "out_of_memory")   \
	X(OUTPUT, "output")                 \
	X(SYSCALL_DENIED, "syscall_denied") \
	X(EGRESS_DENIED, "egress_denied")   \
	X(KILLED, "killed")                 \
	X(HOST_FAULT, "host_fault")

enum stop_reason {
#define X(name, text) STOP_##name,
	STOP_REASONS(X)
#undef X
		STOP__N_REASONS
};
const char *stop_reason_name(enum stop_reason r);

/* What brigd itself did to the command before it ended. */
enum stop_cause {
	CAUSE_NONE,
	CAUSE_WALL,	/* its time was up */
	CAUSE_CPU,	/* its CPU time was used up */
	CAUSE_OUTPUT,	/* it wrote more than it may */
	CAUSE_EGRESS,	/* a budget of its network is used up */
	CAUSE_KILL,	/* a client asked for it: kill, rm, CLOSE */
	CAUSE_CLIENT,	/* the client that started it is gone */
	CAUSE_SHUTDOWN, /* brigd ends */
	CAUSE_FAULT,	/* the agent broke the protocol, or jaild failed: `fault` says what */
};

enum stop_end {
	ENDED_EXIT,	   /* EXIT was received */
	ENDED_NOT_STARTED, /* STARTED with an error */
	ENDED_LOST,	   /* neither: it died with its sandbox, or was destroyed */
};

#define STOP_HITS(X)             \
	X(MEMORY, "memory")      \
	X(PIDS, "pids")          \
	X(DISK, "disk")          \
	X(INODES, "inodes")      \
	X(NOFILE, "descriptors") \
	X(OUTPUT, "output")      \
	X(WALL, "wall_time")     \
	X(CPU, "cpu_time")       \
	X(EGRESS, "egress")

enum {
#define X(name, text) HIT_BIT_##name,
	STOP_HITS(X)
#undef X
		HIT__N
};
enum {
#define X(name, text) HIT_##name = 1u << HIT_BIT_##name,
	STOP_HITS(X)
#undef X
};

/* A budget of the network that was reached. */
struct stop_budget {
	char amount[16], scope[16], name[256]; /* name: of the destination, where there is one */
	uint64_t figure;
};

struct stop_facts {
	enum stop_end end;
	enum stop_cause cause;
	int signal_sent;   /* the last signal that a client sent to it, 0 = none */
	const char *fault; /* with CAUSE_FAULT, or when the channel ended: what happened */
	const char *argv0;
	bool guest; /* a kernel of its own, which limits its memory itself (microVM) */
	struct brig_started started;
	struct brig_exit exit;
	uint64_t wall_ns, run_ns;			    /* since the request; since STARTED */
	uint64_t timeout_ms, cpu_time_ms, max_output_bytes; /* LIMIT_NONE = none */
	uint64_t out_bytes[2];				    /* delivered or kept */
	const struct stop_budget *over; /* with CAUSE_EGRESS */
	uint64_t denied;		/* connections, questions and packets that were refused meanwhile */
	json_t *denials;		/* the last of them; borrowed, NULL = none */
	/* Figures before and after; valid == 0: not known. For a fresh sandbox `before` is zero
	 * with all bits valid. */
	struct jail_stats before, after;
};

struct stop_verdict {
	enum stop_reason reason;
	int exit_code;
	int signal;    /* 0 = none */
	unsigned hits; /* HIT_* */
	bool truncated;
};

void stop_decide(const struct stop_facts *f, struct stop_verdict *ret);
/* New reference, NULL when out of memory. */
json_t *stop_status(const char *id, const char *tier, const struct stop_facts *f, const struct stop_verdict *v);

/* "SIGKILL" of 9; "SIG64" style numbers for real-time signals. */
void signal_name(int sig, char ret[16]);
/* "KILL", "SIGKILL" or "9"; 0 if it is none. */
int signal_parse(const char *text);

/* {"code","message",..} of client_proto.h. */
json_t *err_json(const struct brig_err *err);

#endif
