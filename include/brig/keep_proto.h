/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep_proto.h: what brig-jaild leaves with the supervisor for the next brig-jaild.
 *
 * Theory of operation
 * -------------------
 * The socket is SOCK_SEQPACKET, the one of --control-fd. The supervisor keeps descriptors, so that what they
 * stand for outlives the process that opened them: locks of an open file, the first process of a sandbox,
 * the host's end of its agent channel, the gateway's namespace. It understands nothing of what it keeps but
 * the verb; a message goes back to the next brig-jaild byte by byte as it came from the former.
 *
 * So a new brig-jaild believes no word of brigd: everything comes from its predecessor, and what it takes
 * over it measures anew (jail/recover.c).
 *
 *     jaild -> supervisor   HOST, READY when it serves, BOX for each sandbox before CREATE is answered
 *     supervisor -> jaild   started with --resume: HOST, every BOX whose process lives, END;
 *                           any time LINK + the socket of another brigd
 *
 * Nothing says that a sandbox has ended: the supervisor sees the end of its process.
 */
#ifndef BRIG_KEEP_PROTO_H
#define BRIG_KEEP_PROTO_H

#include <stdint.h>

#include "brig/ids.h"

/* Of the messages' layout. Another one's are not taken over. */
#define BRIG_KEEP_VERSION 1u

enum keep_verb {
	KEEP_HOST = 1,  /* struct keep_host + instance's lock, leases; `net`: gateway, log of packets; `volumes`:
			 * their lock. Anew when there is more to keep */
	KEEP_BOX = 2,   /* what jail/keep.h says + pidfd of the first process, host's end of its channel */
	KEEP_READY = 3, /* keep_hdr */
	KEEP_END = 4,   /* keep_hdr */
	KEEP_LINK = 5,  /* keep_hdr + the socket */
};

struct keep_hdr {
	uint32_t verb;
	uint32_t version;
};

struct keep_host {
	struct keep_hdr h;
	char instance[32];
	uint32_t net;
	uint32_t six; /* the gateway has IPv6 */
	uint32_t volumes, reserved;
};

/* The largest message, for receive buffers. */
#define KEEP_MSG_MAX 16384u
#define KEEP_FDS_MAX 5u

#endif
