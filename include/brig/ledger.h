/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.h: the memory in which brigd keeps what the next brigd must know.
 *
 * A file in memory (memfd) that the supervisor makes, holds and gives to every brigd in turn. brigd maps
 * it; to note something is to store it, without a system call, and what was stored is there however the
 * process ends. It never lies on a disk and ends with the supervisor.
 *
 * Layout: the head, LEDGER_BOXES places of sandboxes, LEDGER_EXECS places of commands, and the heap, out
 * of which come texts (JSON) and the kept output of detached commands. A place is in use when its `used`
 * is LEDGER_USED, which is stored last. A value that must not be seen half changed is one word. Pieces
 * of the heap are powers of two from LEDGER_PIECE_MIN on, each at a multiple of its size; which are free
 * follows from the places.
 *
 * Writer and reader are the same program, perhaps of two versions: the head tells the layout's. The
 * reader checks every number all the same, because the writer may have been killed, or taken over.
 */
#ifndef BRIG_LEDGER_H
#define BRIG_LEDGER_H

#include <stdint.h>

#include "brig/ids.h"
#include "brig/jail_proto.h"

#define LEDGER_MAGIC 0x726567646c677262ull
#define LEDGER_VERSION 1u

#define LEDGER_BOXES 8192u
#define LEDGER_EXECS 16384u
#define LEDGER_PIECE_MIN 1024u
#define LEDGER_PIECE_MAX (1024u * 1024u)
/* Addresses, not memory: pages come with use. */
#define LEDGER_HEAP (24ull << 30)
#define LEDGER_USED 0x64657375u

struct ledger_head {
	uint64_t magic;
	uint32_t version, reserved;
	/* How often a brigd has taken over all that there was. Read by the supervisor. */
	uint64_t taken_over;
	uint8_t pad[4096 - 24];
};

/* A text or a ring of the heap in one word: (offset / LEDGER_PIECE_MIN) << 32 | bytes. For a ring bytes is
 * the size of its piece. 0 = none. */
typedef uint64_t ledger_ref;

struct ledger_ring {
	ledger_ref mem;
	uint64_t start, end; /* offsets of the bytes in it, each at its offset modulo the size */
};

#define LEDGER_KEEP 0x1u    /* the record outlives the sandbox */
#define LEDGER_AUTO_RM 0x2u /* removed when its command ends */
#define LEDGER_RINGS 0x4u   /* the output of its main command is kept */

struct ledger_box {
	uint32_t used;
	uint32_t flags;
	uint32_t state, unpaused; /* enum sb_state */
	uint64_t frozen_ns;	  /* PAUSED: since when */
	ledger_ref text;	  /* the record: daemon/record.h */
	struct ledger_ring ring[2];
	char id[BRIG_ID_LEN + 8];
	uint8_t pad[64];
};

#define LEDGER_MAIN 0x1u
#define LEDGER_DETACH 0x2u
#define LEDGER_STARTED 0x4u
#define LEDGER_TTY 0x8u
#define LEDGER_STDIN 0x10u
#define LEDGER_KILLED 0x20u

struct ledger_exec {
	uint32_t used;
	uint32_t flags;
	uint32_t box;	 /* place of its sandbox */
	uint32_t stream; /* of the agent channel */
	char id[BRIG_ID_LEN + 8];
	uint64_t asked_ns, started_ns, stood_ns; /* as in struct exec */
	uint64_t timeout_ms, max_output_bytes;
	uint64_t out_bytes[2];
	int32_t signal_sent;
	uint32_t pid;
	ledger_ref cmd; /* JSON: the argument vector */
	struct jail_stats before;
	uint8_t pad[64];
};

#define LEDGER_AT_BOXES sizeof(struct ledger_head)
#define LEDGER_AT_EXECS (LEDGER_AT_BOXES + LEDGER_BOXES * sizeof(struct ledger_box))
#define LEDGER_AT_HEAP (16ull << 20)
#define LEDGER_SIZE (LEDGER_AT_HEAP + LEDGER_HEAP)
_Static_assert(sizeof(struct ledger_head) == 4096, "layout");
_Static_assert(LEDGER_AT_EXECS + LEDGER_EXECS * sizeof(struct ledger_exec) <= LEDGER_AT_HEAP, "layout");

#endif
