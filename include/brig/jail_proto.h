/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail_proto.h: the wire between brigd (unprivileged) and brig-jaild (privileged).
 *
 * Theory of operation
 * -------------------
 * One SOCK_SEQPACKET socket; one fixed-size message per verb, descriptors instead of paths. brigd may
 * have many requests under way; answers carry the sequence number of their request. jaild trusts
 * nothing in a message: it checks size, verb, every field and the number and kind of descriptors
 * again. It never resolves a path of a tenant by name, except inside a root that no tenant process
 * has entered yet and only beneath it.
 *
 * When the socket of a private server ends, jaild destroys everything that it made and exits. The jaild
 * of a resident server goes on without: what was not answered is undone, images are forgotten,
 * sandboxes live. The supervisor hands it the socket of the next brigd, which asks what there is (LIST)
 * and gets a duplicate of the host's end of each agent channel. When jaild ends, brigd sees end of file.
 * If HELLO_OK said that sandboxes outlive it, what was under way is answered with an error, and the
 * supervisor sends the socket of the next jaild, which is greeted and asked what there is as well; else
 * brigd exits too.
 */
#ifndef BRIG_JAIL_PROTO_H
#define BRIG_JAIL_PROTO_H

#include <stdint.h>

#include "brig/ids.h"
#include "brig/tier.h"

#define BRIG_JAIL_PROTO_VERSION 8u

#define BRIG_JAIL_VERBS(X)                                                                         \
	/* to jaild                                                                             */ \
	X(HELLO, 1)   /* jail_hello; answer HELLO_OK with what this host enforces */               \
	X(IMAGE, 2)   /* jail_image + fd of its directory in the store; answer OK or ERROR */      \
	X(CREATE, 3)  /* jail_spec + fd of the agent's channel end, then one per volume that has no id, */ \
	              /* then with `keep` one of the host's end; answer                         */ \
	              /* OK when the sandbox's first process runs behind every boundary, or ERROR */ \
	X(STATS, 4)   /* jail_ref; answer STATS_IS */                                              \
	X(DESTROY, 5) /* jail_ref; answers STATS_IS at once (final figures), GONE when clean */    \
	X(PAUSE, 6)   /* jail_ref; answer OK when every process of it stands still, or ERROR */    \
	X(RESUME, 7)  /* jail_ref; answer OK or ERROR */                                           \
	X(MEASURE, 8) /* jail_ref; answer STATS_IS, with the figures that take longer to get, too */ \
	X(LIST, 9)    /* jail_list; answer BOX_IS                                               */ \
	X(RECEIPT, 10) /* jail_ref; answer RECEIPT_IS, or ERROR: then it is being destroyed, or is too */ \
	              /* young to be measured */                                                  \
	X(VOLUME, 11) /* jail_volume_ask; answer VOLUME_IS when it is done, or ERROR                */ \
	X(PEER, 12)   /* jail_peer; answer OK or ERROR                                              */ \
	/* from jaild                                                                           */ \
	X(OK, 64)       /* jail_ref */                                                             \
	X(ERROR, 65)    /* jail_error */                                                           \
	X(HELLO_OK, 66) /* jail_hello */                                                           \
	X(STATS_IS, 67) /* jail_stats */                                                           \
	X(LINK, 71)     /* jail_link_is; before the OK of a CREATE that asked for a network */        \
	X(GONE, 68)     /* jail_gone; unasked with seq 0, behind a STATS_IS with seq 0, when the first  */ \
	                /* process ended by itself                                           */ \
	X(BOX_IS, 69)   /* jail_box + fd of the host's end of the agent channel, if it was kept */ \
	X(RECEIPT_IS, 70) /* jail_receipt */                                                       \
	X(VOLUME_IS, 72)  /* jail_volume_is */

enum jail_verb {
#define X(name, number) JAIL_##name = number,
	BRIG_JAIL_VERBS(X)
#undef X
};

struct jail_hdr {
	uint32_t verb;
	uint32_t seq;
};

/* What a host can enforce; jail_hello.enforced and jail_spec.accept are masks of these. A CREATE on
 * a host that lacks one is refused unless its bit is set in accept. X(bit, name, what is lost) */
#define BRIG_ENFORCE(X)                                                        \
	X(0, memory, "memory limit (cgroup memory controller)")                \
	X(1, cpu, "CPU limit (cgroup cpu controller)")                         \
	X(2, pids, "process limit (cgroup pids controller)")                   \
	X(3, swap, "no-swap guarantee (cgroup swap accounting)")               \
	X(4, accounting, "CPU accounting and CPU-time limit (cgroup cpuacct)") \
	X(5, uidrange, "own range of host ids (subuid/subgid)")             \
	X(6, idmap, "file owners of the image (idmapped mounts)")              \
	X(7, timens, "own clock of uptime (time namespace)")                   \
	X(8, io, "I/O accounting (cgroup io or blkio controller)")             \
	X(9, freezer, "pause and unpause (cgroup freezer)")
enum {
#define X(bit, name, lost) JAIL_ENF_##name = 1u << bit,
	BRIG_ENFORCE(X)
#undef X
};
/* Without these a sandbox is still a sandbox; what is missing is told, not refused. */
#define JAIL_ENF_OPTIONAL (JAIL_ENF_idmap | JAIL_ENF_timens | JAIL_ENF_io | JAIL_ENF_freezer)

/* A tier on this host. Texts end with NUL. */
struct jail_tier {
	uint32_t offered;
	uint32_t reserved;
	char text[192];	  /* what serves it; of one that is not offered: what is missing */
	char remedy[192]; /* "" if it is offered */
};

struct jail_hello {
	struct jail_hdr h;
	uint32_t version;
	uint32_t enforced;   /* answer: JAIL_ENF_* that work here */
	uint32_t cgroup;     /* answer: 0 none, 1 v1 or hybrid, 2 v2 */
	uint32_t rootless;   /* answer: 1 if jaild is not root */
	uint64_t mem_total;  /* answer: bytes of the host (or of jaild's own cgroup, if less) */
	uint32_t cpus;       /* answer: CPUs that jaild may use */
	uint32_t pids_max;   /* answer: kernel.pid_max or the tighter cgroup limit */
	uint32_t slots;      /* answer: sandboxes that can live at once */
	uint32_t net;        /* answer: 1 = sandboxes can have a link; the log of refused packets comes along */
	uint32_t outlive;    /* answer: 1 = sandboxes outlive this jaild (keep_proto.h) */
	struct jail_tier tier[BRIG_TIERS_N]; /* answer: by enum brig_tier */
};

/* A known image: id is brigd's, 1 .. JAIL_IMAGES_MAX - 1; 0 is the built-in host image. */
#define JAIL_IMAGES_MAX 128u
#define JAIL_LAYERS_MAX 120u /* of one image */
struct jail_image {
	struct jail_hdr h;
	uint32_t id;
	uint32_t drop; /* 1: forget it (no fd); sandboxes that use it keep it */
};

#define JAIL_VOLUMES_MAX 16u
#define JAIL_PATH_MAX 512u
struct jail_volume {
	char path[JAIL_PATH_MAX]; /* absolute, inside; missing directories are made. "/", of the store and
				   * writable: the writable layer lies in it */
	char id[BRIG_ID_LEN + 8]; /* a volume of the store; "" = a descriptor comes with the request */
	uint32_t readonly;
	uint32_t reserved;
};

/* VOLUME: what is done with a volume of the store. CLONE: it becomes a copy of `from`. STAT tells only. */
#define JAIL_VOLUME_OPS(X) X(MAKE, make) X(CLONE, clone) X(REMOVE, remove) X(STAT, stat)
enum jail_volume_op {
#define X(name, text) JAIL_VOLUME_##name,
	JAIL_VOLUME_OPS(X)
#undef X
	JAIL_VOLUME__N
};
struct jail_volume_ask {
	struct jail_hdr h;
	uint32_t op;
	uint32_t seal; /* CLONE: 1 = nobody will ever write to the copy */
	char id[BRIG_ID_LEN + 8];
	char from[BRIG_ID_LEN + 8]; /* CLONE; else "" */
	uint64_t bytes, inodes;	    /* MAKE: of its file system; else 0 */
};

struct jail_volume_is {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
	uint64_t bytes, inodes, used_bytes, used_inodes; /* STAT */
	uint32_t readers, writers; /* sandboxes that have it */
};

struct jail_spec {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8]; /* NUL-padded */
	char hostname[64];
	uint32_t image;
	uint32_t accept; /* JAIL_ENF_* that may be missing */
	uint64_t memory_bytes, disk_bytes, inodes;
	uint32_t cpu_milli, pids, nofile;
	uint32_t uid, gid; /* inside: who owns home and sees volumes as its own */
	char home[JAIL_PATH_MAX]; /* made and given to uid:gid if missing; "" = none */
	uint32_t keep; /* 1: a duplicate of the host's end of the channel is kept for the next brigd */
	uint32_t net; /* 1: with a link to the gateway (net.h) */
	uint32_t tier; /* enum brig_tier */
	uint32_t nvolumes;
	struct jail_volume volumes[JAIL_VOLUMES_MAX];
};

struct jail_ref {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
};

/* PEER: the links of two sandboxes reach each other from now on, or not any more. other "" and on 0: that of
 * id reaches no other. They also end with a sandbox. */
struct jail_peer {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
	char other[BRIG_ID_LEN + 8];
	uint32_t on;
	uint32_t reserved;
};

/* LIST: the first sandbox at place `at` of the table or behind. */
struct jail_list {
	struct jail_hdr h;
	uint32_t at;
	uint32_t reserved;
};

struct jail_box {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8]; /* "": there is none any more */
	uint32_t next;	 /* where to go on */
	uint32_t frozen; /* it was told to stop */
	uint64_t init_pid;
	uint32_t lease; /* of its link, 0 = it has none */
	uint32_t tier;
};

/* The link that a sandbox gets; its first process does not run yet. */
struct jail_link_is {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
	uint32_t lease; /* >= 1; its addresses and the index of its end are made of it (net.h) */
	uint32_t reserved;
};

struct jail_error {
	struct jail_hdr h;
	uint32_t code; /* enum brig_code */
	int32_t sys;
	char msg[384];
	char remedy[256];
};

/* Figures since creation. A bit in `valid` per group tells whether this host could measure it. */
#define JAIL_STAT_CPU 1u
#define JAIL_STAT_MEMORY 2u
#define JAIL_STAT_PIDS 4u
#define JAIL_STAT_IO 8u
/* Only in the answer to MEASURE. */
#define JAIL_STAT_CACHE 16u
#define JAIL_STAT_DISK 32u
#define JAIL_STAT_NET 64u
struct jail_stats {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
	uint32_t valid;
	uint32_t reserved;
	uint64_t cpu_us, cpu_throttled_us;
	uint64_t memory_bytes, memory_peak_bytes, memory_limit_bytes;
	uint64_t oom_kills;        /* processes killed by the kernel for the memory limit */
	uint64_t memory_limit_hits;
	uint64_t pids, pids_peak, pids_limit_hits;
	uint64_t io_bytes;
	uint64_t host_uid; /* first host id of its range */
	uint64_t init_pid; /* host pid of its first process */
	uint64_t memory_cache_bytes; /* of memory_bytes: files, the writable layer among them */
	uint64_t disk_used_bytes;    /* of the writable layer, which is memory */
	uint64_t net_refused, net_forged; /* packets that the rules dropped; forged: with a foreign source */
};

/* The kinds of namespaces, by their names in /proc/PID/ns. */
#define JAIL_NAMESPACES(X) X(cgroup) X(ipc) X(mnt) X(net) X(pid) X(time) X(user) X(uts)
enum {
#define X(name) JAIL_NS_##name,
	JAIL_NAMESPACES(X)
#undef X
	JAIL_NS__N
};

/* What really holds for a sandbox, as read from the host's kernel (engine/container/measure.h). Texts end
 * with NUL. Sets of capabilities are those of the first process, but for the last two. */
#define JAIL_MOUNTS_MAX 12288u
#define JAIL_FILTERS_MAX 2u
#define JAIL_LINKS_MAX 8u
struct jail_receipt {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
	uint64_t ns[JAIL_NS__N];      /* inode numbers, 0 = this kernel has no such namespaces */
	uint64_t ns_host[JAIL_NS__N]; /* jaild's own */
	uint64_t cap_inherit, cap_permit, cap_effect, cap_bound, cap_ambient;
	uint64_t cap_commands;	      /* permitted or inheritable to any process but the first */
	uint64_t cap_commands_bound;  /* .. and in its bounding set */
	uint32_t processes;	      /* looked at, the first included */
	uint32_t no_new_privs, seccomp_mode, filters;
	uint32_t filters_read; /* 1: their programs were read back from the kernel */
	char filter_digest[JAIL_FILTERS_MAX][72]; /* SHA-256 of each program, hexadecimal */
	char filter_name[JAIL_FILTERS_MAX][16];
	uint32_t uid_first, uid_count, gid_first, gid_count; /* what 0 .. count - 1 inside are, outside */
	/* As read back from the group's files; UINT64_MAX = no limit, 0 = not enforced on this host. */
	uint64_t memory_bytes, memory_swap_bytes, pids, cpu_quota_us, cpu_period_us;
	uint32_t cgroup_version;
	uint32_t layer_known;
	uint64_t layer_bytes, layer_inodes; /* of the writable layer, from the mount table */
	char cgroup[160];
	char links[JAIL_LINKS_MAX][16]; /* network interfaces */
	uint32_t n_links, n_routes;	/* routes that lead elsewhere than to the sandbox itself */
	char kernel[136]; /* release and version */
	char image[96];	  /* digest of the image, as the store names it; "" = the host image */
	uint32_t mounts_len;
	uint32_t groups; /* hierarchies in which it is in the group of its name */
	char mounts[JAIL_MOUNTS_MAX]; /* one a line: path, type, flags; sorted (measure.h) */
};

struct jail_gone {
	struct jail_hdr h;
	char id[BRIG_ID_LEN + 8];
	uint32_t wait_status; /* of the first process, as waitpid() gives it */
	uint32_t reserved;
};

/*
 * The other socket that brig-jaild may be given (--net-fd, SOCK_SEQPACKET): on it, once, it says what
 * brig-egress needs. With a bit of `sockets` per enum brig_net_socket comes the descriptor, in that order;
 * none: this host cannot have networks, and why.
 */
struct jail_net {
	uint32_t version, sockets;
	char msg[384];
	char remedy[256];
};

/* The largest message, for receive buffers. */
#define JAIL_MSG_MAX (sizeof(struct jail_spec))

#endif
