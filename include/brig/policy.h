/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h: every number of a tenant's policy, once: JSON key, command-line flag, kind, range, what
 * it bounds. A number that is not set bounds nothing.
 *
 * max_ is the most that one request may ask for; quota_ the most that the tenant has at a time.
 */
#ifndef BRIG_POLICY_H
#define BRIG_POLICY_H

/* X(field, flag, kind, minimum, maximum, what); kinds as in limits.h */
#define BRIG_POLICY(X)                                                                            \
	X(max_memory_bytes, "max-memory", BYTES, 16 * MIB, 16384 * GIB, "memory of a sandbox")    \
	X(max_cpu_milli, "max-cpus", CPU, 10, 1024000, "CPUs of a sandbox")                       \
	X(max_disk_bytes, "max-disk", BYTES, 1 * MIB, 16384 * GIB, "writable layer of a sandbox") \
	X(max_pids, "max-pids", COUNT, 2, 4194304, "processes and threads of a sandbox")          \
	X(max_timeout_ms, "max-timeout", MS, 1000, 2592000000,                                    \
	  "time of a run, and until the end of a sandbox")                                        \
	X(quota_sandboxes, "quota-sandboxes", COUNT, 0, 65536, "sandboxes at a time")             \
	X(quota_cpu_milli, "quota-vcpus", CPU, 0, 65536000, "CPUs of all its sandboxes")          \
	X(quota_memory_bytes, "quota-memory", BYTES, 0, 1048576 * GIB,                            \
	  "memory of all its sandboxes")                                                          \
	X(quota_disk_bytes, "quota-disk", BYTES, 0, 1048576 * GIB,                                \
	  "writable layers of all its sandboxes")                                                 \
	X(quota_creates_per_second, "quota-creates-per-second", COUNT, 0, 1000000,                \
	  "sandboxes made per second")                                                            \
	X(quota_snapshots, "quota-snapshots", COUNT, 0, 65536, "snapshots that are kept")         \
	X(quota_volumes, "quota-volumes", COUNT, 0, 65536, "volumes that are kept")               \
	X(quota_volume_bytes, "quota-volume-bytes", BYTES, 0, 1048576 * GIB,                      \
	  "sizes of all its volumes")                                                             \
	X(cpu_weight, "cpu-weight", COUNT, 1, 10000,                                              \
	  "share of the CPUs beside other tenants; kept, and not applied in this version")

#define POLICY_TIERS "container gvisor microvm"
#define POLICY_NETWORKS "none deny public"
#define POLICY_PUBLISH "none loopback any"

#endif
