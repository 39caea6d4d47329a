/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cursor.h: a place in the stream of events, as text: "<life>-<number>".
 *
 * Numbers begin anew with each life of brig-api, and each life has a random name of its own, so a
 * cursor of an earlier one is known for what it is and never taken for a place in this one.
 */
#ifndef BRIG_API_CURSOR_H
#define BRIG_API_CURSOR_H

#include <stdint.h>

struct cursor {
	uint64_t life;
	uint64_t number; /* of the last event that was seen; 0 = none yet */
};

/* 16 hexadecimal digits, '-', at most 19 digits, NUL */
#define CURSOR_MAX 40
void cursor_format(struct cursor c, char ret[CURSOR_MAX]);
/* Exactly what cursor_format() writes: 0; anything else: -EINVAL. */
int cursor_parse(const char *text, struct cursor *ret);

#endif
