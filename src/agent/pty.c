/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41) /* Linux 4.13; missing in musl before 1.2 */
#endif

/* Documentation/admin-guide/devices: Unix98 pseudo-terminal slaves. */
#define PTS_MAJOR 136u

int pty_resize(int master, uint16_t rows, uint16_t cols)
{
	struct winsize w = { .ws_row = rows ? rows : 24, .ws_col = cols ? cols : 80 };
	return ioctl(master, TIOCSWINSZ, &w) < 0 ? -errno : 0;
}

/* The other end of a master, where there is no TIOCGPTPEER (gVisor of 2022): by its name, if what has that name is
 * that terminal. Devices there are gVisor's own, and nobody inside can mount over them. */
static int peer_by_name(int master)
{
	unsigned n;
	char path[32];
	struct stat st;
	if (ioctl(master, TIOCGPTN, &n) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/pts/%u", n);
	AUTO_FD slave = open(path, O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	if (fstat(slave, &st) < 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(PTS_MAJOR + n / 256, n % 256))
		return -ENXIO;
	return fd_steal(&slave);
}

int pty_open(uid_t uid, uint16_t rows, uint16_t cols, int *ret_master, int *ret_slave)
{
	int locked = 0;
	AUTO_FD master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (master < 0)
		return -errno;
	if (ioctl(master, TIOCSPTLCK, &locked) < 0)
		return -errno;
	/* Not by name: the tenant's root could put another device in its place. */
	AUTO_FD slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 && errno == ENOTTY)
		slave = peer_by_name(master);
	else if (slave < 0)
		return -errno;
	if (slave < 0)
		return slave;
	/* So that the user's programs can open it again. It is theirs already where the agent runs
	 * as that user and may not give it away. */
	struct stat st;
	if (fchown(slave, uid, (gid_t)-1) < 0 && (fstat(slave, &st) < 0 || st.st_uid != uid))
		return -EPERM;
	int r = pty_resize(master, rows, cols);
	if (r < 0)
		return r;
	*ret_master = fd_steal(&master);
	*ret_slave = fd_steal(&slave);
	return 0;
}

pid_t pty_signal_group(int master, int sig, pid_t leader)
{
	if (sig != SIGINT && sig != SIGQUIT && sig != SIGTSTP && sig != SIGWINCH)
		return leader;
	pid_t fg = tcgetpgrp(master);
	return fg > 0 ? fg : leader;
}
