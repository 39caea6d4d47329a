/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types into a terminal: TIOCSTI on one of its own, plain and with a bit set above those that the
 * kernel reads (CVE-2017-5226, CVE-2019-10063). With one that is shared with the outside, this is
 * a command in the operator's shell.
 */
#include "attack/attack.h"

#include <sys/ioctl.h>
#include <termios.h>

static int type_into_own(void)
{
	char name[64];
	int lock = 0;
	unsigned number;
	char what = 'x';
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &lock) < 0 ||
	    ioctl(master, TIOCGPTN, &number) < 0)
		return 2;
	snprintf(name, sizeof(name), "/dev/pts/%u", number);
	setsid();
	int tty = open(name, O_RDWR | O_CLOEXEC);
	if (tty < 0 || ioctl(tty, TIOCSCTTY, 0) < 0)
		return 2;
	return syscall(SYS_ioctl, tty, 0x5412ul, &what) == 0 ||
			       syscall(SYS_ioctl, tty, 0x5412ul | 1ul << 32, &what) == 0 ||
			       syscall(SYS_ioctl, tty, 0x5412ul | 1ul << 63, &what) == 0
		       ? 0
		       : 1;
}

ATTACK(terminal_input)
{
	int st = in_child(type_into_own);
	if (st == 0)
		broken("a character was typed");
	if (WIFEXITED(st) && WEXITSTATUS(st) == 2)
		untried("no terminal of one's own");
	held("TIOCSTI is refused");
}
