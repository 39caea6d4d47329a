/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger.h: brigd's use of include/brig/ledger.h: places and the heap. Zeroed: there is no ledger, and
 * every function does nothing, so that a private server pays nothing.
 */
#ifndef BRIG_DAEMON_LEDGER_H
#define BRIG_DAEMON_LEDGER_H

#include <stdbool.h>
#include <stddef.h>

#include "brig/ledger.h"

#define LEDGER_CLASSES 11u /* LEDGER_PIECE_MIN .. LEDGER_PIECE_MAX */

struct ledger_free {
	uint32_t *at; /* offset / LEDGER_PIECE_MIN */
	size_t n, cap;
};

struct ledger {
	uint8_t *map; /* NULL = none */
	struct ledger_head *head;
	struct ledger_box *box;
	struct ledger_exec *exec;
	uint8_t *heap;
	uint64_t used; /* bytes of the heap that were ever given out */
	uint32_t next_box, next_exec; /* where to look for a free place */
	struct ledger_free free[LEDGER_CLASSES];
};

static inline bool ledger_on(const struct ledger *l)
{
	return l->map != NULL;
}

/* Maps fd, which stays the caller's, and makes it empty if it is new or of another version: *ret_lost is
 * then set if something was in it. 0 or -errno. */
int ledger_open(struct ledger *l, int fd, bool *ret_lost);
void ledger_close(struct ledger *l);
/* Before anything is added to a ledger that is not empty: drops places whose numbers make no sense, and
 * learns which pieces of the heap are free. */
void ledger_learn(struct ledger *l);

/* A place that is not in use yet; the caller fills it and says ledger_commit(). NULL: all are taken. */
struct ledger_box *ledger_box_new(struct ledger *l);
struct ledger_exec *ledger_exec_new(struct ledger *l);
void ledger_commit(uint32_t *used);
/* With all that they refer to. NULL is allowed. */
void ledger_box_free(struct ledger *l, struct ledger_box *b);
void ledger_exec_free(struct ledger *l, struct ledger_exec *x);

/* Puts n bytes in place of what *ref names. -ENOMEM changes nothing. */
int ledger_text_set(struct ledger *l, ledger_ref *ref, const void *p, size_t n);
/* The bytes; valid until they are replaced. NULL if there are none. */
const char *ledger_text(const struct ledger *l, ledger_ref ref, size_t *ret_n);

/* A piece of `size` bytes (a power of two within the classes) for a ring; NULL = none left. */
uint8_t *ledger_piece(struct ledger *l, size_t size, ledger_ref *ret);
void ledger_piece_free(struct ledger *l, ledger_ref ref);
uint8_t *ledger_at(const struct ledger *l, ledger_ref ref);

/* Stores that happen in this order, for whoever looks after our death. */
static inline void ledger_put64(uint64_t *at, uint64_t v)
{
	__atomic_store_n(at, v, __ATOMIC_RELEASE);
}

#endif
