/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_io.h: what sandbox.c needs of the channel's side, sandbox_io.c. */
#ifndef BRIG_DAEMON_SANDBOX_IO_H
#define BRIG_DAEMON_SANDBOX_IO_H

#include <stdint.h>

struct brig_err;
struct sandbox;

/* Takes over fd; the channel is open afterwards. On failure fd is closed. */
int sandbox_io_open(struct sandbox *sb, int fd);
/* Nothing is read or sent any more; what was read stays valid until the round ends. */
void sandbox_io_stop(struct sandbox *sb);
/* Frees the channel. Not from within its callbacks. */
void sandbox_io_close(struct sandbox *sb);

/* The channel was a former brigd's. Nothing is sent before sandbox_greet(). */
void sandbox_io_take_over(struct sandbox *sb);

/* In sandbox.c, for rewind.c: asks jaild for it, by its record; and what follows if that fails. */
int sandbox_send_create(struct sandbox *sb, uint32_t accept, const int *volume_fds,
			struct brig_err *err);
void sandbox_unmade(struct sandbox *sb, const struct brig_err *err);

/* In sandbox.c: born or attached; both make a sandbox without a main command READY. */
void sandbox_check_ready(struct sandbox *sb);

#endif
