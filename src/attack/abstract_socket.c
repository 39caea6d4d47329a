/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects to an abstract socket of the host: they have no file, hence no permissions, and belong
 * to a network namespace (CVE-2020-15257).
 */
#include "attack/attack.h"

#include <sys/socket.h>
#include <sys/un.h>

ATTACK(abstract_socket)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *name = canary("BRIG_CANARY_ABSTRACT");
	size_t n = strlen(name);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0 || n + 1 > sizeof(a.sun_path))
		untried("a socket named %s: %s", name, strerror(errno));
	memcpy(a.sun_path + 1, name, n);
	if (connect(s, (struct sockaddr *)&a,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) == 0)
		broken("connected to @%s", name);
	held("@%s: %s", name, strerror(errno));
}
