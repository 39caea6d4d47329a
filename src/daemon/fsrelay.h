/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsrelay.h: the fs operation: file requests of one connection, relayed to the agent and back.
 *
 * Stream numbers are the client's choice on its side and the channel's on the other. Every request
 * is checked and gets the operation's user put in; every answer was checked by chan_rx.c.
 */
#ifndef BRIG_DAEMON_FSRELAY_H
#define BRIG_DAEMON_FSRELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/frame.h"
#include "daemon/conn.h"

/* Requests of one connection at a time. */
#define FS_STREAMS_MAX 256u

struct sandbox;
struct fs_stream; /* owner of a channel stream */

/* Answers REP {} and relays until the client closes. */
void fs_serve(struct conn *c, struct sandbox *sb, const char *user);
/* The sandbox goes away: takes the role off the connection, which stays open for a last frame. */
void fs_detach(struct conn *c);

void fs_on_frame(struct fs_stream *s, const struct frame *f);
void fs_on_data(struct fs_stream *s, const uint8_t *p, size_t n, bool eof);
void fs_on_credit(struct fs_stream *s, uint32_t bytes);

#endif
