/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h: the way to a URL: libcurl makes the connection (proxies, TLS, certificates) and hands it
 * over as a stream of bytes. */
#ifndef BRIG_REMOTE_WIRE_H
#define BRIG_REMOTE_WIRE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "remote/url.h"

struct wire;

/* ca_file NULL: the system's certificates. local: whoever waits for us; if it closes, the attempt
 * is given up. Blocks until connected. */
int wire_open(const struct url *u, const char *ca_file, int local, struct wire **ret,
	      struct brig_err *err);
void wire_close(struct wire *w);
/* To be polled; what the TLS layer has read already is not seen there: read until -EAGAIN first. */
int wire_fd(const struct wire *w);
/* Bytes moved; 0 of a read: the peer has closed; -EAGAIN; or another -errno: the connection broke.
 */
ssize_t wire_read(struct wire *w, void *p, size_t n);
ssize_t wire_write(struct wire *w, const void *p, size_t n);

#endif
