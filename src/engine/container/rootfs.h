/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs.h: what is covered in a sandbox's /proc, for rootfs.c that covers it and for measure_mounts.c that
 * looks whether it is covered.
 */
#ifndef BRIG_CONTAINER_ROOTFS_H
#define BRIG_CONTAINER_ROOTFS_H

/* Inodes of the writable layer beside the tenant's. */
#define ROOTFS_OWN_INODES 19u

/*
 * Files of proc that every user may read and that tell about the host. What is dangerous in proc (kcore,
 * kmsg, sysrq-trigger, timer_list, kpage*, vmallocinfo, ..) has mode 0400 or 0200 and belongs to host
 * root, who is nobody inside whatever a process there may become; the attack tests try each of them.
 * A mask costs about 10 us per sandbox, so the list holds what is not closed already.
 */
static const char *const rootfs_masked_files[] = { "cmdline",	 "keys",      "key-users",  "modules",
					    "interrupts", "diskstats", "partitions", "config.gz" };
/* pressure: everybody may write triggers there, and they are the host's. */
static const char *const rootfs_masked_dirs[] = { "acpi", "asound", "scsi", "driver", "bus", "pressure" };
/* Sysctls of namespaces that a sandbox might own are decided by id and capability, not by mode. */
static const char *const rootfs_readonly_dirs[] = { "sys" };

#endif
