/* SPDX-License-Identifier: Apache-2.0 */
/* relay.h: output of a command, from its agent's socket to its client's, without a copy. */
#ifndef BRIG_DAEMON_RELAY_H
#define BRIG_DAEMON_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct conn;

/* Frames of fewer payload bytes are read: several of them go in one read, and none is worth the calls
 * of a relay. */
#define RELAY_MIN (64u * 1024u)

/* One of these serves all sandboxes: between two calls its pipes are empty. Zeroed = nothing made yet. */
struct relay {
	int in[2], out[2];
	bool made, off;
};
void relay_done(struct relay *r);

/*
 * Takes at most n bytes from the socket `from` and sends them to c as one frame (type, stream
 * BRIG_CLIENT_STREAM, offset). Returns how many were taken; 0 if there is nothing to take now; -EAGAIN
 * if c has too little room; -EOPNOTSUPP if it cannot be done this way: read instead. What c's socket
 * did not take is queued, and a c that fails is dropped, as with conn_frame().
 */
ssize_t relay_output(struct relay *r, struct conn *c, uint16_t type, uint64_t offset, int from,
		     size_t n);

#endif
