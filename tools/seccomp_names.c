/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Numbers of system calls come from libseccomp, which knows every architecture from every host.
 * What is younger than the library comes from a table here: from 424 on a number means the same
 * call everywhere, so one column is enough.
 *
 * Constants come from the kernel's and the C library's headers of the build host. Only those are
 * listed that have one value on all architectures that we build for: a profile may be compiled for
 * another one. A few that older headers lack are given a value here, with their origin.
 */
#include "seccomp_names.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <linux/random.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct seccomp_arch arches[] = {
	/* Bit 30 marks the x32 ABI (arch/x86/include/uapi/asm/unistd.h). */
	{ "x86_64", "__x86_64__", AUDIT_ARCH_X86_64, SCMP_ARCH_X86_64, 0x40000000 },
	{ "aarch64", "__aarch64__", AUDIT_ARCH_AARCH64, SCMP_ARCH_AARCH64, 0 },
};

/* clang-format off */
/* include/uapi/asm-generic/unistd.h of Linux 6.17: what libseccomp 2.5 may not know. */
static const struct {
	const char *name;
	uint32_t nr;
} young[] = {
	{ "cachestat", 451 },	      { "fchmodat2", 452 },	   { "map_shadow_stack", 453 },
	{ "futex_wake", 454 },	      { "futex_wait", 455 },	   { "futex_requeue", 456 },
	{ "statmount", 457 },	      { "listmount", 458 },	   { "lsm_get_self_attr", 459 },
	{ "lsm_set_self_attr", 460 }, { "lsm_list_modules", 461 }, { "mseal", 462 },
	{ "setxattrat", 463 },	      { "getxattrat", 464 },	   { "listxattrat", 465 },
	{ "removexattrat", 466 },     { "open_tree_attr", 467 },   { "file_getattr", 468 },
	{ "file_setattr", SYSCALL_LAST },
};

struct word {
	const char *name;
	uint32_t value;
};
#define W(c) { #c, (uint32_t)(c) }

static const struct word errors[] = {
	W(EPERM),  W(ENOENT), W(EACCES),	 W(ENODEV),	    W(EINVAL),	    W(ENOTTY),
	W(ENOMEM), W(ENOSYS), W(EPROTONOSUPPORT), W(EAFNOSUPPORT), W(EOPNOTSUPP), W(ENOPROTOOPT),
};

static const struct word constants[] = {
	/* clone(2) */
	W(CLONE_NEWNS), W(CLONE_NEWCGROUP), W(CLONE_NEWUTS), W(CLONE_NEWIPC), W(CLONE_NEWUSER),
	W(CLONE_NEWPID), W(CLONE_NEWNET), W(CLONE_NEWTIME),
	/* modes and open flags; __O_TMPFILE is O_TMPFILE without O_DIRECTORY, whose value differs
	 * between architectures (include/uapi/asm-generic/fcntl.h) */
	W(S_IFMT), W(S_IFREG), W(S_IFIFO), W(S_IFSOCK), W(S_ISUID), W(S_ISGID), W(O_CREAT),
	{ "__O_TMPFILE", 020000000 },
	/* memory */
	W(MAP_HUGETLB), W(SHM_HUGETLB), W(MFD_HUGETLB), W(MADV_MERGEABLE),
	/* fcntl(2); F_SETDELEG is younger than the headers (F_LINUX_SPECIFIC_BASE + 16) */
	W(F_SETLEASE), { "F_SETDELEG", 1040 },
	/* personality(2) */
	W(PER_LINUX), W(PER_LINUX32), W(UNAME26), W(ADDR_NO_RANDOMIZE),
	/* seccomp(2) */
	W(SECCOMP_SET_MODE_STRICT), W(SECCOMP_SET_MODE_FILTER), W(SECCOMP_GET_ACTION_AVAIL),
	W(SECCOMP_FILTER_FLAG_TSYNC), W(SECCOMP_FILTER_FLAG_SPEC_ALLOW),
	W(SECCOMP_FILTER_FLAG_TSYNC_ESRCH),
	/* prctl(2); the last ones are younger than the headers or of one architecture */
	W(PR_SET_PDEATHSIG), W(PR_GET_PDEATHSIG), W(PR_GET_DUMPABLE), W(PR_SET_DUMPABLE),
	W(PR_GET_KEEPCAPS), W(PR_SET_KEEPCAPS), W(PR_GET_TIMING), W(PR_SET_NAME), W(PR_GET_NAME),
	W(PR_GET_SECCOMP), W(PR_SET_SECCOMP), W(PR_CAPBSET_READ), W(PR_CAPBSET_DROP),
	W(PR_GET_TSC), W(PR_GET_SECUREBITS), W(PR_SET_TIMERSLACK),
	W(PR_GET_TIMERSLACK), W(PR_MCE_KILL_GET), W(PR_SET_CHILD_SUBREAPER),
	W(PR_GET_CHILD_SUBREAPER), W(PR_SET_NO_NEW_PRIVS), W(PR_GET_NO_NEW_PRIVS),
	W(PR_GET_TID_ADDRESS), W(PR_SET_THP_DISABLE), W(PR_GET_THP_DISABLE), W(PR_CAP_AMBIENT),
	W(PR_SVE_SET_VL), W(PR_SVE_GET_VL), W(PR_GET_SPECULATION_CTRL), W(PR_SET_SPECULATION_CTRL),
	W(PR_PAC_RESET_KEYS), W(PR_SET_TAGGED_ADDR_CTRL), W(PR_GET_TAGGED_ADDR_CTRL),
	W(PR_PAC_SET_ENABLED_KEYS), W(PR_PAC_GET_ENABLED_KEYS), W(PR_SET_PTRACER), W(PR_SET_VMA),
	{ "PR_SME_SET_VL", 63 }, { "PR_SME_GET_VL", 64 }, { "PR_SET_MDWE", 65 },
	{ "PR_GET_MDWE", 66 }, { "PR_GET_AUXV", 0x41555856 },
	/* ioctl(2) */
	W(TIOCSTI), W(TIOCLINUX), W(TIOCCONS), W(TIOCSETD), W(TIOCVHANGUP), W(TIOCSSERIAL),
	W(FIOSETOWN), W(SIOCSPGRP), W(FIOGETOWN), W(SIOCGPGRP), W(SIOCATMARK), W(SIOCGIFNAME),
	W(SIOCGIFCONF), W(SIOCGIFFLAGS), W(SIOCGIFADDR), W(SIOCGIFDSTADDR), W(SIOCGIFBRDADDR),
	W(SIOCGIFNETMASK), W(SIOCGIFMETRIC), W(SIOCGIFMTU), W(SIOCGIFHWADDR), W(SIOCGIFINDEX),
	W(SIOCGIFTXQLEN), W(SIOCETHTOOL), W(SIOCGIFMAP), W(FIGETBSZ), W(FICLONE), W(FICLONERANGE),
	W(FIDEDUPERANGE), W(FS_IOC_GETFLAGS), W(FS_IOC_SETFLAGS), W(FS_IOC_GETVERSION),
	W(FS_IOC_FIEMAP), W(SIOCOUTQ), W(FS_IOC_FSGETXATTR), W(FS_IOC_FSSETXATTR), W(RNDGETENTCNT),
	/* socket(2) */
	W(AF_UNIX), W(AF_INET), W(AF_INET6), W(AF_NETLINK), W(SOCK_STREAM), W(SOCK_DGRAM),
	W(SOCK_RAW), { "SOCK_TYPE_MASK", 0xf }, W(IPPROTO_TCP), W(IPPROTO_UDP), W(IPPROTO_ICMP),
	W(IPPROTO_ICMPV6), W(NETLINK_ROUTE),
	/* setsockopt(2), level SOL_SOCKET; *_NEW have the 64-bit time of 32-bit programs */
	W(SOL_SOCKET), W(SO_REUSEADDR), W(SO_DONTROUTE), W(SO_BROADCAST), W(SO_SNDBUF),
	W(SO_RCVBUF), W(SO_KEEPALIVE), W(SO_OOBINLINE), W(SO_PRIORITY), W(SO_LINGER),
	W(SO_REUSEPORT), W(SO_PASSCRED), W(SO_RCVLOWAT), W(SO_SNDLOWAT), W(SO_RCVTIMEO),
	W(SO_SNDTIMEO), W(SO_BINDTODEVICE), W(SO_TIMESTAMP), W(SO_PASSSEC), W(SO_TIMESTAMPNS),
	W(SO_TIMESTAMPING), W(SO_RXQ_OVFL), W(SO_PEEK_OFF), W(SO_SELECT_ERR_QUEUE),
	W(SO_BUSY_POLL), W(SO_MAX_PACING_RATE), W(SO_INCOMING_CPU), W(SO_TIMESTAMP_NEW),
	W(SO_TIMESTAMPNS_NEW), W(SO_TIMESTAMPING_NEW), W(SO_RCVTIMEO_NEW), W(SO_SNDTIMEO_NEW),
	W(SO_PREFER_BUSY_POLL), W(SO_BUSY_POLL_BUDGET), { "SO_PASSPIDFD", 76 },
	/* .. IPPROTO_IP; IP_LOCAL_PORT_RANGE is younger than the headers */
	W(IPPROTO_IP), W(IP_TOS), W(IP_TTL), W(IP_RECVOPTS), W(IP_RETOPTS), W(IP_PKTINFO),
	W(IP_MTU_DISCOVER), W(IP_RECVERR), W(IP_RECVTTL), W(IP_RECVTOS), W(IP_FREEBIND),
	W(IP_RECVORIGDSTADDR), W(IP_MINTTL), W(IP_BIND_ADDRESS_NO_PORT), W(IP_RECVFRAGSIZE),
	{ "IP_RECVERR_RFC4884", 26 }, W(IP_MULTICAST_IF), W(IP_MULTICAST_TTL), W(IP_MULTICAST_LOOP),
	W(IP_ADD_MEMBERSHIP), W(IP_DROP_MEMBERSHIP), W(MCAST_JOIN_GROUP), W(MCAST_LEAVE_GROUP),
	W(IP_MULTICAST_ALL), W(IP_UNICAST_IF), { "IP_LOCAL_PORT_RANGE", 51 },
	/* .. IPPROTO_IPV6 */
	W(IPPROTO_IPV6), W(IPV6_UNICAST_HOPS), W(IPV6_MULTICAST_IF), W(IPV6_MULTICAST_HOPS),
	W(IPV6_MULTICAST_LOOP), W(IPV6_JOIN_GROUP), W(IPV6_LEAVE_GROUP), W(IPV6_MTU_DISCOVER),
	W(IPV6_MTU), W(IPV6_RECVERR), W(IPV6_V6ONLY), W(IPV6_MULTICAST_ALL), W(IPV6_RECVPKTINFO),
	W(IPV6_PKTINFO), W(IPV6_RECVHOPLIMIT), W(IPV6_HOPLIMIT), W(IPV6_RECVPATHMTU),
	W(IPV6_DONTFRAG), W(IPV6_RECVTCLASS), W(IPV6_TCLASS), W(IPV6_AUTOFLOWLABEL),
	W(IPV6_ADDR_PREFERENCES), W(IPV6_MINHOPCOUNT), W(IPV6_RECVORIGDSTADDR), W(IPV6_UNICAST_IF),
	W(IPV6_FREEBIND),
	/* .. IPPROTO_TCP; TCP_TX_DELAY is not in glibc's header */
	W(TCP_NODELAY), W(TCP_MAXSEG), W(TCP_CORK), W(TCP_KEEPIDLE), W(TCP_KEEPINTVL),
	W(TCP_KEEPCNT), W(TCP_SYNCNT), W(TCP_LINGER2), W(TCP_DEFER_ACCEPT), W(TCP_WINDOW_CLAMP),
	W(TCP_QUICKACK), W(TCP_CONGESTION), W(TCP_THIN_LINEAR_TIMEOUTS), W(TCP_THIN_DUPACK),
	W(TCP_USER_TIMEOUT), W(TCP_FASTOPEN), W(TCP_TIMESTAMP), W(TCP_NOTSENT_LOWAT),
	W(TCP_SAVE_SYN), W(TCP_FASTOPEN_CONNECT), W(TCP_FASTOPEN_KEY), W(TCP_FASTOPEN_NO_COOKIE),
	W(TCP_INQ), { "TCP_TX_DELAY", 37 },
	/* .. IPPROTO_UDP, SOL_NETLINK */
	W(UDP_CORK), W(UDP_SEGMENT), W(UDP_GRO), W(SOL_NETLINK), W(NETLINK_ADD_MEMBERSHIP),
	W(NETLINK_DROP_MEMBERSHIP), W(NETLINK_PKTINFO), W(NETLINK_BROADCAST_ERROR),
	W(NETLINK_NO_ENOBUFS), W(NETLINK_CAP_ACK), W(NETLINK_EXT_ACK), W(NETLINK_GET_STRICT_CHK),
};

/* clang-format on */
static int find_word(const struct word *words, size_t n, const char *name, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(words[i].name, name) == 0) {
			*ret = words[i].value;
			return 0;
		}
	}
	return -ENOENT;
}

const struct seccomp_arch *seccomp_arch_find(const char *name)
{
	struct utsname u;
	if (!name) {
		if (uname(&u) < 0)
			return NULL;
		name = u.machine;
	}
	for (size_t i = 0; i < N(arches); i++)
		if (strcmp(arches[i].name, name) == 0)
			return &arches[i];
	return NULL;
}

int seccomp_syscall_number(const struct seccomp_arch *arch, const char *name, uint32_t *ret)
{
	for (size_t i = 0; i < N(young); i++) {
		if (strcmp(young[i].name, name) == 0) {
			*ret = young[i].nr;
			return 0;
		}
	}
	/* Negative: the library knows the name, but this architecture does not have the call. */
	int nr = seccomp_syscall_resolve_name_arch(arch->scmp, name);
	if (nr < 0 || (unsigned)nr > SYSCALL_LAST)
		return -ENOENT;
	*ret = (uint32_t)nr;
	return 0;
}

int seccomp_errno_number(const char *name, uint32_t *ret)
{
	return find_word(errors, N(errors), name, ret);
}

int seccomp_constant(const char *name, uint32_t *ret)
{
	return find_word(constants, N(constants), name, ret);
}
