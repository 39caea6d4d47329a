/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sudo_proto.h: what brig-sudo, inside a sandbox, asks of the agent.
 *
 * A set-id sudo cannot work under no_new_privs, so root is not gained but asked for: the agent,
 * which is root of the sandbox, starts the command. One sequenced-packet connection to the abstract
 * name SUDO_SOCKET per command. The client's first packet is struct sudo_request and its strings
 * with the three stdio descriptors (SCM_RIGHTS). The answers are struct sudo_reply: REFUSED, or
 * STARTED and at the end EXITED. After STARTED the client may send struct sudo_signal. Who asks is
 * what the kernel says (SO_PEERCRED). The connection's end kills the command.
 *
 * Allowed is root, a member of the group `sudo`, and who is named by a line of SUDO_USERS_FILE; as
 * in
 * "%sudo ALL=(ALL:ALL) NOPASSWD: ALL". There are no other rules.
 */
#ifndef BRIG_AGENT_SUDO_PROTO_H
#define BRIG_AGENT_SUDO_PROTO_H

#include <stdint.h>

/* In the abstract namespace: preceded by a NUL. */
#define SUDO_SOCKET "brig-sudo"
#define SUDO_USERS_FILE "/etc/brig/sudoers"
/* A request with its strings: fits the default send buffer of a socket. */
#define SUDO_REQUEST_MAX (128u * 1024u)
#define SUDO_STRINGS_MAX 4096u

#define SUDO_F_VALIDATE 0x1u /* only whether it would be allowed: EXITED with status 0 */

/* Then NUL-terminated strings: user (as in EXEC), cwd ("" = the user's home), file ("" = argv[0]),
 * argv[argc], env[envc]; nothing after them. */
struct sudo_request {
	uint32_t magic;
	uint32_t flags;
	uint32_t argc, envc;
};
_Static_assert(sizeof(struct sudo_request) == 16, "wire");
#define SUDO_MAGIC 0x6f647573u

struct sudo_signal {
	uint32_t sig;
};

enum sudo_answer { SUDO_REFUSED = 1, SUDO_STARTED = 2, SUDO_EXITED = 3 };
struct sudo_reply {
	uint32_t answer;
	int32_t err;	 /* REFUSED: errno; with step 0, EPERM = not allowed, EPROTO = malformed */
	uint32_t step;	 /* REFUSED: enum brig_exec_step */
	uint32_t status; /* EXITED: as from wait() */
};
_Static_assert(sizeof(struct sudo_reply) == 16, "wire");

#endif
