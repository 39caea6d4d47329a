/* SPDX-License-Identifier: Apache-2.0 */
/* runtext.h: what a run printed, as JSON: text where it is UTF-8, base64 where it is not. */
#ifndef BRIG_API_RUNTEXT_H
#define BRIG_API_RUNTEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Sets name to the text, or name + "_base64". */
void runtext_set(json_t *o, const char *name, const void *p, size_t n);

/* One output as events: a sequence that a piece cuts waits for the next piece. */
struct runtext {
	uint8_t rest[4];
	size_t n;
};
/* Calls emit with {"type","data"} or {"type","data_base64"}; it takes over the object. */
void runtext_feed(struct runtext *t, const char *type, const void *p, size_t n,
		  void (*emit)(void *ctx, json_t *event), void *ctx);
/* What waits, at the end. */
void runtext_end(struct runtext *t, const char *type, void (*emit)(void *ctx, json_t *event),
		 void *ctx);

#endif
