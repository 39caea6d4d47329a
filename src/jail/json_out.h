/* SPDX-License-Identifier: Apache-2.0 */
/* json_out.h: one flat JSON object per line on stdout, for programs that must stay libc only. */
#ifndef BRIG_JAIL_JSON_OUT_H
#define BRIG_JAIL_JSON_OUT_H

/* json_line("kind", "cgroup", "name", id, NULL): pairs of strings; a value may be JSON_TRUE or
 * JSON_FALSE (compared by address). NULL in a key ends. Bytes outside printable ASCII are escaped. */
extern const char JSON_TRUE[], JSON_FALSE[];
void json_line(const char *key, ...) __attribute__((sentinel));

#endif
