/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door_proto.h: what brigd says through the door (listen.c, link.c), one datagram each: an operation
 * of a client at its own socket that changed something, or would have. In the other direction the
 * door carries descriptors.
 *
 * The door's other end is kept open by `brig serve`: what brig-api has not read when it dies is read
 * by the next one.
 */
#ifndef BRIG_DOOR_PROTO_H
#define BRIG_DOOR_PROTO_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct door_note {
	char what[16];	  /* the operation's name; "mismatch": a sandbox was not what was specified */
	char id[24];	  /* of the sandbox; "" = not known */
	char outcome[16]; /* "ok", "refused" */
	uint32_t uid;	  /* of the process at the socket */
	uint32_t zero;
};

static inline bool door_note_text(const char *p, size_t cap)
{
	size_t n = strnlen(p, cap);
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return n < cap;
}

/* Whether n bytes at p are a note; *ret is aligned. */
static inline bool door_note_read(const void *p, size_t n, struct door_note *ret)
{
	if (n != sizeof(*ret))
		return false;
	memcpy(ret, p, n);
	return door_note_text(ret->what, sizeof(ret->what)) && ret->what[0] &&
	       door_note_text(ret->id, sizeof(ret->id)) &&
	       door_note_text(ret->outcome, sizeof(ret->outcome)) && ret->outcome[0] &&
	       ret->zero == 0;
}

#endif
