/* SPDX-License-Identifier: Apache-2.0 */
/* pty.h: terminals of the sandbox's own devpts. */
#ifndef BRIG_AGENT_PTY_H
#define BRIG_AGENT_PTY_H

#include <stdint.h>
#include <sys/types.h>

/* A new terminal owned by uid, rows x cols (0 = 24x80). The master is nonblocking. 0 or -errno. */
int pty_open(uid_t uid, uint16_t rows, uint16_t cols, int *ret_master, int *ret_slave);
/* The kernel sends SIGWINCH to the foreground group. */
int pty_resize(int master, uint16_t rows, uint16_t cols);
/* The process group that `sig` is meant for: the foreground one for what a keyboard sends, else
 * `leader`. */
pid_t pty_signal_group(int master, int sig, pid_t leader);

#endif
