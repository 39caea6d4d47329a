/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tty.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

int tty_raw(struct tty *t)
{
	struct termios raw;
	if (t->raw)
		return 0;
	if (tcgetattr(t->fd, &t->saved) < 0)
		return -errno;
	raw = t->saved;
	cfmakeraw(&raw);
	/* TCSADRAIN, not FLUSH: what was typed ahead belongs to the command. */
	if (tcsetattr(t->fd, TCSADRAIN, &raw) < 0)
		return -errno;
	t->raw = true;
	return 0;
}

void tty_restore(struct tty *t)
{
	int saved = errno;
	if (t->raw)
		(void)tcsetattr(t->fd, TCSADRAIN, &t->saved);
	t->raw = false;
	errno = saved;
}

void tty_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols)
{
	struct winsize w;
	*ret_rows = *ret_cols = 0;
	if (ioctl(fd, TIOCGWINSZ, &w) < 0)
		return;
	*ret_rows = w.ws_row;
	*ret_cols = w.ws_col;
}

bool tty_is_ours(int fd)
{
	return isatty(fd) && tcgetpgrp(fd) == getpgrp();
}
