/* SPDX-License-Identifier: Apache-2.0 */
/* visitor.h: one connection to a published port (publish.h), led to that port inside. */
#ifndef BRIG_DAEMON_VISITOR_H
#define BRIG_DAEMON_VISITOR_H

#include <stdint.h>
#include <sys/queue.h>

struct sandbox;
struct visitor;
LIST_HEAD(visitor_list, visitor);

struct visitors {
	struct visitor_list all;
	unsigned n;
	void (*left)(void *ctx); /* one is gone, and was counted off */
	void *ctx;
};

/* Takes over fd, which is reset if it cannot be led anywhere. */
void visitor_new(struct visitors *vs, struct sandbox *sb, int fd, uint16_t port);
void visitors_reset(struct visitors *vs);
/* The channel has room again. */
void visitors_drained(struct visitors *vs);

#endif
