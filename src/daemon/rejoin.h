/* SPDX-License-Identifier: Apache-2.0 */
/* rejoin.h: brigd over the death of brig-jaild. */
#ifndef BRIG_DAEMON_REJOIN_H
#define BRIG_DAEMON_REJOIN_H

#include "daemon/daemon.h"

/* The exit code of a brigd whose brig-jaild died before it had taken over: another may try. */
#define BRIGD_JAILD_LOST 76

/* Takes over fd, on which the supervisor hands over the link to another brig-jaild. 0 or -errno. */
int rejoin_init(struct brigd *d, int fd);
void rejoin_done(struct brigd *d);
/* Whether sandboxes live on without this brig-jaild, and another is to be expected. */
bool rejoin_possible(const struct brigd *d);
/* The link has ended: everything that was asked is answered with an error, and new requests wait. */
void rejoin_await(struct brigd *d, const char *why);

#endif
