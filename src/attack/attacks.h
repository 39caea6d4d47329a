/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacks.h: the one list of attacks: X(id, class, control, reason).
 *
 * The class is what would be lost. The control is the proof that the attack would notice a success:
 *     outside    the same program, run as root outside of any sandbox, prints BROKEN and harms nothing:
 *                it undoes what worked
 *     loads      the same, but the host's kernel may load a module for it, which then stays: the tests
 *                run it, a selftest of a machine in use does not unless it is asked to
 *     roomier    it is run inside, and told that the sandbox may have less than it may
 *     none       there can be no such run; reason says why
 */
#ifndef BRIG_ATTACK_ATTACKS_H
#define BRIG_ATTACK_ATTACKS_H

/* clang-format off */
#define BRIG_ATTACKS(X) \
	X(abi_i386, "kernel", "outside", "") \
	X(abi_x32, "kernel", "none", "hardly a kernel is built with it") \
	X(af_alg, "kernel", "none", "the host's kernel may be built without it") \
	X(af_vsock, "kernel", "loads", "") \
	X(bpf, "kernel", "outside", "") \
	X(io_uring, "kernel", "outside", "") \
	X(keyrings, "kernel", "outside", "") \
	X(line_discipline, "kernel", "loads", "") \
	X(netlink, "kernel", "loads", "") \
	X(perf_events, "kernel", "outside", "") \
	X(socket_families, "kernel", "loads", "") \
	X(socket_options, "kernel", "loads", "") \
	X(transports, "kernel", "loads", "") \
	X(userfaultfd, "kernel", "outside", "") \
	X(capabilities, "privilege", "outside", "") \
	X(cgroup_control, "privilege", "outside", "") \
	X(chroot_escape, "privilege", "outside", "") \
	X(clock_set, "privilege", "none", "it would set the clock") \
	X(id_maps, "privilege", "outside", "") \
	X(join_namespace, "privilege", "outside", "") \
	X(make_device, "privilege", "outside", "") \
	X(masked_paths, "privilege", "outside", "") \
	X(mount_new, "privilege", "outside", "") \
	X(mount_old, "privilege", "outside", "") \
	X(new_namespace, "privilege", "outside", "") \
	X(proc_write, "privilege", "outside", "") \
	X(set_user_id, "privilege", "outside", "") \
	X(cover, "files", "none", "outside there is no template, and taking the host's root away is not harmless") \
	X(descriptors, "files", "outside", "") \
	X(device_nodes, "files", "outside", "") \
	X(file_handles, "files", "outside", "") \
	X(host_files, "files", "outside", "") \
	X(mounts, "files", "outside", "") \
	X(page_cache, "files", "none", "the host's kernel has the fix, or must not run brig") \
	X(shared_locks, "files", "outside", "") \
	X(agent_memory, "processes", "outside", "") \
	X(kill_init, "processes", "none", "it would end the machine") \
	X(namespaces, "processes", "outside", "") \
	X(shared_memory, "processes", "none", "a host need not have any") \
	X(steal_descriptor, "processes", "outside", "") \
	X(terminal_input, "processes", "outside", "") \
	X(abstract_socket, "network", "outside", "") \
	X(host_loopback, "network", "outside", "") \
	X(interfaces, "network", "outside", "") \
	X(raw_sockets, "network", "loads", "") \
	X(cgroup_path, "facts", "none", "a shell in the root group of the host sees the same") \
	X(environment, "facts", "outside", "") \
	X(host_facts, "facts", "outside", "") \
	X(host_name, "facts", "outside", "") \
	X(kernel_log, "facts", "outside", "") \
	X(kernel_memory, "facts", "outside", "") \
	X(sysfs, "facts", "outside", "") \
	X(uptime, "facts", "outside", "") \
	X(disk_filler, "limits", "roomier", "") \
	X(fork_bomb, "limits", "roomier", "") \
	X(memory_hog, "limits", "roomier", "") \
	X(oom_score, "limits", "none", "it needs CAP_SYS_RESOURCE, which root may lack") \
	X(resource_limits, "limits", "none", "raising needs CAP_SYS_RESOURCE, which root may lack")
/* clang-format on */

#define X(id, class, control, reason) void attack_##id(void);
BRIG_ATTACKS(X)
#undef X

#endif
