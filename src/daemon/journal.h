/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.h: what was refused to one sandbox, newest last: connections and questions that brig-egress
 * refused, packets that the rules dropped, limits that a command met, system calls that ended one.
 *
 * It is bounded twice, for each sandbox and in all; what has no room is counted. An entry:
 *   {"time","kind":"egress"|"dns"|"packet"|"limit"|"syscall","reason","protocol","name","address",
 *    "port","rule","process","allow","command","repeats","message"}
 * with null for what is not known or does not apply. "allow" is the line of a policy that would allow
 * it, "command" what to type for that.
 */
#ifndef BRIG_DAEMON_JOURNAL_H
#define BRIG_DAEMON_JOURNAL_H

#include <jansson.h>
#include <stdint.h>

#include "brig/egress_proto.h"
#include "daemon/packets.h"

#define JOURNAL_MAX 128u	 /* entries of one sandbox */
#define JOURNAL_ALL_MAX 32768u /* of all of them */

struct journal {
	json_t *entry[JOURNAL_MAX]; /* a ring */
	unsigned first, n;
	uint64_t total, lost; /* refusals in all; those without an entry of their own */
};

/* Frees the entries; NULL is allowed. */
void journal_free(struct journal *j);

/* Every adder makes *j if it is NULL; without memory the refusal is not told. id: of the sandbox. mode: of
 * its policy. */
void journal_egress(struct journal **j, const char *id, const char *mode, const struct egress_denial *d);
void journal_packet(struct journal **j, const struct packet_seen *s);
/* hit: a name of limits_hit; flag: of the command line, or NULL; figure: what it was. */
void journal_limit(struct journal **j, const char *hit, const char *flag, uint64_t figure);
void journal_syscall(struct journal **j, const char *what);

/* The last `most` entries. New reference. j may be NULL. */
json_t *journal_json(const struct journal *j, unsigned most);

#endif
