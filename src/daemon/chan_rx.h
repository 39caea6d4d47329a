/* SPDX-License-Identifier: Apache-2.0 */
/* chan_rx.h: what chan.c and chan_rx.c share. */
#ifndef BRIG_DAEMON_CHAN_RX_H
#define BRIG_DAEMON_CHAN_RX_H

#include "daemon/chan.h"

/* What the PONG behind a takeover carries. */
#define CHAN_TAKEN_MARK { 0, 1 }

extern const struct framer_ops chan_rx_ops;

/* Takes the stream out of the table and frees it. */
void chan_stream_free(struct chan *c, struct chan_stream *s);

#endif
