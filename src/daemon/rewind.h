/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewind.h: a sandbox back to files that were taken of it: everything that runs in it ends, and it is made
 * again, with its id, name, specification and network policy, and those files.
 */
#ifndef BRIG_DAEMON_REWIND_H
#define BRIG_DAEMON_REWIND_H

#include <stdbool.h>

#include "base/err.h"

struct conn;
struct sandbox;

/* The operation `rewind`; fd (borrowed) is a file as for layerload.h. Answered as create is. */
int rewind_serve(struct conn *c, struct sandbox *sb, int fd, struct brig_err *err);
/* Nothing of it is left in the kernel. True: it is being made again. */
bool rewind_goes_on(struct sandbox *sb);
/* It will not be. */
void rewind_done(struct sandbox *sb);

#endif
