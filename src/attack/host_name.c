/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks for the name of the host, and tries to change the own one, which other programs of the
 * sandbox would believe.
 */
#include "attack/attack.h"

#include <sys/utsname.h>

ATTACK(host_name)
{
	struct utsname u;
	const char *host = canary("BRIG_CANARY_HOST");
	if (uname(&u) < 0)
		untried("uname: %s", strerror(errno));
	if (strcmp(u.nodename, host) == 0)
		broken("uname says %s", u.nodename);
	if (sethostname(u.nodename, strlen(u.nodename)) == 0)
		broken("the name can be set");
	held("%s; to set it: %s", u.nodename, strerror(errno));
}
