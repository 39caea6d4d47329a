/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the memory of the kernel and the machine, and the addresses of its functions, which
 * exploits need.
 */
#include "attack/attack.h"

ATTACK(kernel_memory)
{
	static const char *const files[] = { "/proc/kcore",	  "/dev/mem",
					     "/dev/kmem",	  "/dev/port",
					     "/proc/kpagecount",  "/proc/kpageflags",
					     "/proc/kpagecgroup", "/proc/vmallocinfo",
					     "/proc/slabinfo" };
	char buf[4096];
	for (size_t i = 0; i < N(files); i++)
		if (open(files[i], O_RDONLY | O_CLOEXEC) >= 0)
			broken("%s can be opened", files[i]);
	static const char *const tables[] = { "/proc/kallsyms", "/proc/modules", "/proc/iomem" };
	for (size_t i = 0; i < N(tables); i++) {
		if (read_some(tables[i], buf, sizeof(buf)) <= 0)
			continue;
		/* Hidden addresses read as zero. In kallsyms they stand first, in the others later.
		 */
		for (const char *at = buf; (at = strpbrk(at, "123456789abcdef")); at++) {
			char *stop;
			if (at > buf && strchr("0123456789abcdefx_.", at[-1]) == NULL &&
			    strtoull(at, &stop, 16) > 0xffffffff && stop - at >= 12)
				broken("%s shows an address: %.16s", tables[i], at);
		}
		if (i == 0 && strtoull(buf, NULL, 16) != 0)
			broken("%s shows an address: %.16s", tables[i], buf);
	}
	held("closed, or without addresses");
}
