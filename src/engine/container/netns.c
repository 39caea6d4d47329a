/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A network namespace is the dearest part of a sandbox: a quarter of all the CPU time of its life goes
 * into making it and, by the kernel's workers, into taking it down (docs/performance.md). Most
 * sandboxes never send a packet. What they leave is a namespace that nobody can tell from a new one,
 * and that is what it is used as.
 *
 * Why nobody can tell. Nothing inside could configure it: it belongs to the outer user namespace, over
 * which root inside has no capability, and its sysctls ask for one. What remains is what use leaves
 * behind, and every use shows in what is compared, byte by byte, with a namespace that was just made:
 *
 *   snmp, snmp6   counters of IPv4, IPv6, TCP, UDP and ICMP. A packet over loopback moves them, and so
 *                 does an attempt that found no route. Whatever outlives a socket (TIME-WAIT,
 *                 metrics of peers, fragments) came from a packet, and the counters of netstat, which
 *                 is long, move for packets and connections only.
 *   dev           the interfaces: loopback alone, its counters at zero.
 *   sockstat      no socket of any family, so neither names nor queues nor descriptors in flight. Its
 *                 lines about memory are of the whole host and left out.
 *
 * The caller waits until the last process is gone. What is visible and stays is the inode number of the
 * namespace, which says that an earlier sandbox did not use the network either.
 *
 * setns() back to `home` after each look; the caller has one thread.
 */
#include "engine/container/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

int netns_make(int home, const struct gateway *g, uint32_t lease)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	AUTO_FD ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	/* Of this family because it is gone when it is closed; an internet socket is counted for a while. */
	AUTO_FD sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int r = 0;
	if (ns < 0 || sock < 0 || ioctl(sock, SIOCSIFFLAGS, &ifr) < 0)
		r = -errno;
	/* The namespace belongs to the outer user namespace, so root inside has no capability over it;
	 * servers on low ports work all the same, as they would in any container. */
	if (r == 0)
		fd_spew_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	if (r == 0 && g)
		r = gateway_link(g, lease);
	if (setns(home, CLONE_NEWNET) < 0 && r == 0)
		r = -errno;
	return r < 0 ? r : fd_steal(&ns);
}

/* The next file behind what is there; a kernel without IPv6 has no snmp6. */
static int add(const char *file, struct netns_face *f)
{
	char path[48];
	snprintf(path, sizeof(path), "/proc/self/net/%s", file);
	ssize_t n = fd_slurp_at(AT_FDCWD, path, f->text + f->n, sizeof(f->text) - f->n);
	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return (int)n;
	f->n += (size_t)n;
	return 0;
}

/* The first line of sockstat is the namespace's, the others are partly of the host. */
static int no_sockets(struct netns_face *scratch)
{
	static const char none[] = "sockets: used 0\n";
	int r = add("sockstat", scratch);
	if (r == 0 && strncmp(scratch->text, none, sizeof(none) - 1) != 0)
		r = -EBUSY;
	return r;
}

static int read_here(struct netns_face *ret)
{
	int r = no_sockets(ret);
	ret->n = 0;
	if (r == 0)
		r = add("dev", ret);
	if (r == 0)
		r = add("snmp", ret);
	return r < 0 ? r : add("snmp6", ret);
}

int netns_face(int home, int ns, struct netns_face *ret)
{
	ret->n = 0;
	if (setns(ns, CLONE_NEWNET) < 0)
		return -errno;
	int r = read_here(ret);
	if (setns(home, CLONE_NEWNET) < 0)
		r = -errno;
	if (r < 0)
		ret->n = 0;
	return r;
}

bool netns_unused(int home, int ns, const struct netns_face *unused)
{
	struct netns_face now;
	return unused->n && netns_face(home, ns, &now) == 0 && now.n == unused->n &&
	       memcmp(now.text, unused->text, now.n) == 0;
}
