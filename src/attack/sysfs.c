/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for /sys, which describes the machine's devices and holds switches for many.
 */
#include "attack/attack.h"

#include <dirent.h>

ATTACK(sysfs)
{
	DIR *d = opendir("/sys");
	if (!d)
		held("/sys: %s", strerror(errno));
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			broken("/sys/%s is there", e->d_name);
	held("/sys is empty");
}
