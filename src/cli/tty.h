/* SPDX-License-Identifier: Apache-2.0 */
/* tty.h: the terminal that brig was started on: raw while a PTY inside does the line editing. */
#ifndef BRIG_CLI_TTY_H
#define BRIG_CLI_TTY_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct tty {
	int fd;
	bool raw;
	struct termios saved;
};

/* 0 or -errno. Both may be called in any state; restore keeps errno. */
int tty_raw(struct tty *t);
void tty_restore(struct tty *t);
/* Rows and columns, 0 0 if the terminal does not know. */
void tty_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols);
/* Whether fd is a terminal and this process is in its foreground. */
bool tty_is_ours(int fd);

#endif
