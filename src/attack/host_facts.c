/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads files of /proc that describe the host: how it was started, its devices, its modules, its
 * keys. They identify the machine (co-residence) or help an exploit.
 */
#include "attack/attack.h"

ATTACK(host_facts)
{
	static const char *const files[] = {
		"/proc/cmdline",     "/proc/keys",	 "/proc/key-users",	  "/proc/modules",
		"/proc/interrupts",  "/proc/diskstats",	 "/proc/partitions",	  "/proc/config.gz",
		"/proc/sched_debug", "/proc/timer_list", "/proc/bus/pci/devices", "/proc/scsi/scsi",
		"/proc/acpi/wakeup", "/proc/driver/rtc", "/proc/asound/cards",
	};
	char buf[64];
	for (size_t i = 0; i < N(files); i++)
		if (read_some(files[i], buf, sizeof(buf)) > 0)
			broken("%s: %.40s", files[i], buf);
	held("%zu files say nothing", N(files));
}
