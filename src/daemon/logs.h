/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logs.h: what a detached main command printed, and who reads it.
 *
 * brigd keeps its own copy of the newest LOGRING_MAX bytes of each output instead of asking the
 * agent's ring again for every reader: the copy has any number of readers at once, each with its
 * own offset and credit, and it outlives the agent, so the last words of a sandbox that died of its
 * memory limit can still be read. The price is bounded: memory by the ring, time by the rate at
 * which exec.c grants credit to an output that nobody waits for.
 *
 * Offsets count bytes since the command started. A reader that asks for bytes no longer kept gets
 * the oldest that are; the offset in its frames tells.
 */
#ifndef BRIG_DAEMON_LOGS_H
#define BRIG_DAEMON_LOGS_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/conn.h"
#include "daemon/ledger.h"

#define LOGRING_MAX (1024u * 1024u)

struct logring {
	uint8_t *mem;
	size_t cap;
	uint64_t start,
		end; /* offsets of the kept bytes; mem[offset % cap] once cap is LOGRING_MAX */
	/* Where the next brigd finds them; then mem is of the ledger's heap. NULL: not kept. */
	struct ledger *ledger;
	struct ledger_ring *kept;
};

struct logring *logring_new(void);
void logring_free(struct logring *r);
/* Adds bytes at offset; a gap before them empties the ring. 0 or -ENOMEM (the bytes are lost). */
int logring_add(struct logring *r, uint64_t offset, const uint8_t *p, size_t n);
/* Moves it into the ledger, to be found at `kept`. 0 or -ENOMEM: it stays where it is. */
int logring_keep(struct logring *r, struct ledger *l, struct ledger_ring *kept);
/* The one that a former brigd kept there. NULL without memory. */
struct logring *logring_kept(struct ledger *l, struct ledger_ring *kept);
/* The contiguous kept bytes at *offset (moved forward to the oldest kept). Returns their number. */
size_t logring_peek(const struct logring *r, uint64_t *offset, const uint8_t **ret);

struct sandbox;
struct logs_options {
	int follow, want[2];
	uint64_t offset;
};
/* Serves the logs of sb to c until they end; REP {} first. */
void logs_serve(struct conn *c, struct sandbox *sb, const struct logs_options *o);
/* New bytes, or the end of the main command. */
void logs_pump(struct sandbox *sb);
/* The record goes away: followers are ended. */
void logs_end(struct sandbox *sb);

#endif
