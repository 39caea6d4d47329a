/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h: every limit of a sandbox, once: command-line flag, JSON key, default, range, unit.
 *
 * A value outside its range, or beyond what this host has, is refused with the reason; nothing is
 * ever clamped. LIMIT_NONE ("none" on the command line, null in JSON) is allowed where `none` is 1.
 */
#ifndef BRIG_LIMITS_H
#define BRIG_LIMITS_H

#include <stdint.h>

#define LIMIT_NONE UINT64_MAX
#define KIB 1024ull
#define MIB (1024ull * 1024)
#define GIB (1024ull * 1024 * 1024)

/*
 * X(field, flag, kind, default, minimum, maximum, none allowed, what)
 * kind: CPU = thousandths of a CPU ("1.5"), BYTES ("512m"), COUNT, MS = milliseconds ("90s").
 * Upper ends are sanity bounds; the host's own size is checked beside them.
 *
 * memory: 16 MiB is the least in which the agent, a shell and coreutils run.
 * disk: the writable layer (root file system, /tmp, /dev/shm) lives in memory and is charged to
 *   `memory`; it may therefore not exceed it. Without --disk it is half of memory.
 * max_output: stdout and stderr together; 16 GiB keeps an endless printer from filling the disk that
 *   its output is redirected to, and is above any transfer we know of.
 */
#define BRIG_LIMITS(X)                                                                                 \
	X(cpu_milli, "cpus", CPU, 1000, 10, 1024000, 0, "CPU time per second, in CPUs")                \
	X(memory_bytes, "memory", BYTES, 512 * MIB, 16 * MIB, 16384 * GIB, 0,                          \
	  "memory, with tmpfs, page cache and kernel memory; no swap")                                 \
	X(pids, "pids", COUNT, 256, 2, 4194304, 0, "processes and threads")                            \
	X(disk_bytes, "disk", BYTES, 256 * MIB, 1 * MIB, 16384 * GIB, 0,                               \
	  "bytes of the writable layer")                                                               \
	X(inodes, "inodes", COUNT, 65536, 64, 1073741824, 0, "files of the writable layer")            \
	X(timeout_ms, "timeout", MS, 3600000, 1, 2592000000, 1, "wall time")                           \
	X(cpu_time_ms, "cpu-time", MS, LIMIT_NONE, 1, 2592000000, 1, "CPU time of all processes")      \
	X(max_output_bytes, "max-output", BYTES, 16 * GIB, 1, 1048576 * GIB, 1, "output in all")       \
	X(nofile, "nofile", COUNT, 1024, 16, 1048576, 0, "open descriptors of one process")

/*
 * A volume is an ext4 file system: of at least what its journal and tables take, of at most what its block
 * numbers reach. The number of files is rounded up to fill the blocks of the inode tables.
 */
#define VOLUME_BYTES_DEFAULT (1 * GIB)
#define VOLUME_BYTES_MIN (16 * MIB)
#define VOLUME_BYTES_MAX (16384 * GIB)
#define VOLUME_INODES_DEFAULT 65536u
#define VOLUME_INODES_MIN 16u
#define VOLUME_INODES_MAX 1073741824u

struct brig_limits {
#define X(field, flag, kind, def, min, max, none, what) uint64_t field;
	BRIG_LIMITS(X)
#undef X
};

#endif
