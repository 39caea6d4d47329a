/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a program into the kernel, and makes a map.
 */
#include "attack/attack.h"

#include <linux/bpf.h>

ATTACK(bpf)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = attr.value_size = 4;
	attr.max_entries = 1;
	if (syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)) >= 0)
		broken("a map");
	held("%s", strerror(errno));
}
