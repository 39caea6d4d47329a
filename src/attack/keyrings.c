/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds a key to the user's keyring, which is not part of a namespace: a channel between sandboxes
 * of one uid, and memory that no group is charged for.
 */
#include "attack/attack.h"

ATTACK(keyrings)
{
	static const int rings[] = { -1 /* thread */, -3 /* session */, -4 /* user */ };
	for (size_t i = 0; i < N(rings); i++) {
		long key = syscall(SYS_add_key, "user", "brig-attack", "x", 1, rings[i]);
		if (key >= 0) {
			syscall(SYS_keyctl, 9 /* UNLINK */, key, rings[i]);
			broken("a key in ring %d", rings[i]);
		}
	}
	if (syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3, 1) >= 0)
		broken("the session keyring");
	held("%s", strerror(errno));
}
