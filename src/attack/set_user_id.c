/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for a way to gain rights by starting a program: no_new_privs must be on, and no mount may
 * take set-user-ID bits. Then makes such a program of itself and starts it.
 */
#include "attack/attack.h"

#include <sys/prctl.h>
#include <sys/statvfs.h>

ATTACK(set_user_id)
{
	static const char *const places[] = {
		"/", "/tmp", "/usr", "/home", "/dev/shm", "/var/tmp"
	};
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		broken("no_new_privs is off");
	for (size_t i = 0; i < N(places); i++) {
		struct statvfs v;
		if (statvfs(places[i], &v) == 0 && !(v.f_flag & ST_NOSUID))
			broken("%s takes set-user-ID programs", places[i]);
	}
	held("no_new_privs, and nosuid everywhere");
}
