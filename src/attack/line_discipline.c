/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives a terminal of its own another line discipline. Each is a module, and several had bugs that
 * anybody with a terminal could use.
 */
#include "attack/attack.h"

#include <sys/ioctl.h>
#include <termios.h>

ATTACK(line_discipline)
{
	int discipline = 0 /* N_TTY: changes nothing, but says whether the way is open */;
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		untried("no terminal of one's own: %s", strerror(errno));
	if (ioctl(master, TIOCSETD, &discipline) == 0)
		broken("TIOCSETD");
	held("%s", strerror(errno));
}
