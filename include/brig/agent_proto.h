/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_proto.h: the wire between a host (brigd) and brig-agent, the first process inside a sandbox.
 *
 * Theory of operation
 * -------------------
 * One reliable byte stream per sandbox (a unix socket for containers, vsock or virtio-console for
 * virtual machines) carries frames in both directions. A frame is a 12-byte header and at most
 * BRIG_FRAME_MAX bytes of payload. All integers are little-endian; all structs below are laid out
 * without padding and are copied out of the payload before they are looked at.
 *
 * A stream id names one conversation: a command (EXEC), a file operation (FS_*) or a connection to
 * a port inside (TCP_*). The host picks ids, never 0 and never one that is still open. Stream 0 is
 * the channel itself.
 *
 * Flow control is credit, per stream and per direction: a side sends data bytes only as far as the
 * other has granted with CREDIT (or in the opening request). A flooded stream therefore stops
 * itself only. Data frames of a command carry the offset of their first byte in that output, and
 * the agent keeps the last `ring_bytes` of each output, so a host can attach again from an offset.
 *
 * The host treats every byte from the agent as hostile: a header that breaks a rule below ends the
 * sandbox (stop reason host_fault), never the host process. The agent treats the host as trusted
 * but checks the same rules, because a confused host must not become a confused agent.
 *
 * Order on a fresh channel: the host sends ATTACH with a random nonce and may send further frames
 * at once; the agent answers ATTACHED with the same nonce. The host drops every byte that precedes
 * that ATTACHED frame (a reader that takes over a channel in the middle of a frame looks for
 * BRIG_ATTACH_MAGIC followed by its own nonce).
 *
 * A host that takes a channel over, whose former host may have died in the middle of a frame, first
 * sends one byte to which a descriptor is attached (SCM_RIGHTS; which one does not matter, the agent
 * never takes it). No byte of the stream can say this. The agent forgets the frame that was begun in
 * either direction, ends every file operation and connection, and holds the outputs back; behind its
 * ATTACHED comes a RESUMED for each command whose stream is open. What the new host does not know, it
 * closes; the rest it reads on with REATTACH.
 */
#ifndef BRIG_AGENT_PROTO_H
#define BRIG_AGENT_PROTO_H

#include <stdint.h>

#define BRIG_AGENT_PROTO_VERSION 1u

/* Payload bytes of one frame. 256 KiB: the largest read that still fits the L2 cache of the
 * machines we measured, and four times a default pipe. */
#define BRIG_FRAME_MAX (256u * 1024u)

/* Open streams on one channel; one more is answered with an error, not a closed channel. */
#define BRIG_STREAMS_MAX 1024u

struct brig_frame_hdr {
	uint32_t len;    /* payload bytes, <= BRIG_FRAME_MAX */
	uint16_t type;   /* enum brig_frame */
	uint16_t flags;  /* BRIG_FF_* */
	uint32_t stream; /* 0 = channel */
};
_Static_assert(sizeof(struct brig_frame_hdr) == 12, "wire");

/* FF_EOF: on STDIN, FS_DATA and TCP_DATA: no data follows on this stream in this direction. */
#define BRIG_FF_EOF 0x0001u

/* X(name, number, direction): H host to agent, A agent to host, B both. One list, so that the name
 * table, the dissector and docs/protocol.md cannot disagree. Numbers are never reused. */
#define BRIG_FRAMES(X)                                                                             \
	X(ATTACH, 1, H)      /* struct brig_attach; stream 0 */                                    \
	X(ATTACHED, 2, A)    /* struct brig_attach; stream 0 */                                    \
	X(PING, 3, H)        /* any payload <= 64 bytes; stream 0 */                               \
	X(PONG, 4, A)        /* the same payload; stream 0 */                                      \
	X(SHUTDOWN, 5, H)    /* empty; the agent kills all and exits */                            \
	X(CREDIT, 6, B)      /* struct brig_credit */                                              \
	X(CLOSE, 7, H)       /* empty; ends the stream: kills its command, frees its rings */      \
	X(RESUMED, 8, A)     /* struct brig_resumed: a command, for a host that took over */       \
	X(EXEC, 16, H)       /* struct brig_exec + strings */                                      \
	X(STARTED, 17, A)    /* struct brig_started: the exec succeeded, or why not */             \
	X(STDIN, 18, H)      /* bytes; FF_EOF closes the command's stdin */                        \
	X(STDOUT, 19, A)     /* u64 offset + bytes */                                              \
	X(STDERR, 20, A)     /* u64 offset + bytes */                                              \
	X(SIGNAL, 21, H)     /* u32 signal number, to the command's process group */               \
	X(RESIZE, 22, H)     /* u16 rows, u16 columns */                                           \
	X(EXIT, 23, A)       /* struct brig_exit: main process ended and both outputs were sent */ \
	X(REATTACH, 24, H)   /* struct brig_reattach: resend outputs from offsets */               \
	X(DETACH, 25, H)     /* empty; nobody reads: keep running, keep only the rings */          \
	X(FS_STAT, 32, H)    /* struct brig_fs_req + user, path */                                 \
	X(FS_LIST, 33, H)    /* .. + user, path; arg = depth, 1 = the directory's own entries */   \
	X(FS_READ, 34, H)    /* .. + user, path; arg = offset, arg2 = max bytes or 0 = all */      \
	X(FS_WRITE, 35, H)   /* .. + user, path; then FS_DATA frames from the host */              \
	X(FS_MKDIR, 36, H)   /* .. + user, path */                                                 \
	X(FS_MOVE, 37, H)    /* .. + user, from, to */                                             \
	X(FS_REMOVE, 38, H)  /* .. + user, path */                                                 \
	X(FS_SYMLINK, 39, H) /* .. + user, target, path */                                         \
	X(FS_WATCH, 40, H)   /* .. + user, path; FS_EVENT frames until CLOSE */                    \
	X(FS_EXPORT, 41, H)  /* .. + user, "/"; the writable layer, as FS_DATA frames */           \
	X(FS_IMPORT, 42, H)  /* .. + user, "/"; then FS_DATA frames from the host */               \
	X(FS_DATA, 48, B)    /* bytes; FF_EOF on the last */                                       \
	X(FS_ENTRY, 49, A)   /* struct brig_fs_entry + path, link target */                        \
	X(FS_EVENT, 50, A)   /* struct brig_fs_event + path relative to the watched directory */   \
	X(FS_DONE, 51, A)    /* struct brig_fs_done + text; the stream is closed after it */       \
	X(TCP_CONNECT, 64, H) /* struct brig_tcp: to a port of the sandbox's loopback */           \
	X(TCP_OPENED, 65, A) /* struct brig_tcp_opened; with an error the stream is closed */      \
	X(TCP_DATA, 66, B)   /* bytes; FF_EOF: that direction is shut down */                      \
	X(TCP_DONE, 67, A)   /* struct brig_tcp_done; the stream is closed after it */

enum brig_frame {
#define X(name, number, dir) BRIG_##name = number,
	BRIG_FRAMES(X)
#undef X
};

/* ATTACH and ATTACHED. */
#define BRIG_ATTACH_MAGIC 0x6b6e6174676972b7ull
struct brig_attach {
	uint64_t magic;
	uint8_t nonce[16];
	uint32_t version; /* of the sender */
	uint32_t reserved;
};
_Static_assert(sizeof(struct brig_attach) == 32, "wire");

/* RESUMED: where a command stands. It is followed by STARTED and EXIT as far as they are still to come;
 * an EXIT that the former host may have been sent comes again after REATTACH. */
#define BRIG_RESUMED_STARTED 0x1u
struct brig_resumed {
	uint32_t flags;
	uint32_t pid;	       /* inside; 0 before STARTED */
	uint32_t stdin_credit; /* bytes of STDIN the host may send now */
	uint32_t reserved;
	uint64_t stdout_bytes, stderr_bytes; /* produced so far */
};
_Static_assert(sizeof(struct brig_resumed) == 32, "wire");

/* CREDIT: `bytes` more may be sent on this channel of this stream. The sum in force never passes
 * BRIG_CREDIT_MAX; a grant that would is a protocol error. */
#define BRIG_CREDIT_MAX (64u * 1024u * 1024u)
enum brig_chan {
	BRIG_CHAN_STDIN = 0,
	BRIG_CHAN_STDOUT = 1,
	BRIG_CHAN_STDERR = 2,
	BRIG_CHAN_FS = 3,
	BRIG_CHAN_TCP = 4, /* data towards whoever gets the grant, in both directions */
};
struct brig_credit {
	uint32_t chan;
	uint32_t bytes;
};
_Static_assert(sizeof(struct brig_credit) == 8, "wire");

/*
 * EXEC: struct brig_exec, then NUL-terminated strings in this order: user, cwd, argv[argc],
 * env[envc] ("NAME=value"). user is NAME, UID, NAME:GROUP or UID:GID, looked up in the sandbox's own
 * /etc/passwd and /etc/group ("" = uid 0). cwd "" = the user's home. argv[0] is searched in the
 * PATH of env. HOME, USER, LOGNAME and SHELL are added from passwd where env lacks them. Nothing may
 * follow the last string.
 */
#define BRIG_EXEC_TTY 0x1u   /* a PTY is stdin, stdout and stderr; output is STDOUT only */
#define BRIG_EXEC_STDIN 0x2u /* stdin is a pipe fed by STDIN frames; else /dev/null */
/* With DROP an output that nobody has granted credit for is read on into its ring and the oldest
 * bytes are lost (detached commands). Without it the command is held back by its full pipe. */
#define BRIG_EXEC_DROP 0x4u
/* With KEEP (not with DROP) the first credits are a window, no larger than the ring: the bytes that were
 * granted but for the last window have reached whom the host passes them to, and only those may leave
 * the ring. So a host that attaches again from where its reader stands finds all that is missing. */
#define BRIG_EXEC_KEEP 0x10u
#define BRIG_EXEC_LIFELINE 0x8u /* when this command's main process ends, kill what it left behind */
struct brig_exec {
	uint32_t flags;
	uint16_t rows, cols;    /* PTY size, 0 = 24x80 */
	uint32_t ring_bytes;    /* per output; 0 = 256 KiB; 4 KiB to 16 MiB */
	uint32_t credit_stdout; /* bytes granted from the start */
	uint32_t credit_stderr;
	uint32_t argc; /* 1 .. 4096 */
	uint32_t envc; /* 0 .. 4096 */
	uint32_t reserved;
};
_Static_assert(sizeof(struct brig_exec) == 32, "wire");

/* STARTED: err == 0: pid is the command's pid inside. Otherwise errno and the step that failed; no
 * EXIT follows and the stream is closed. The host maps ENOENT of step EXEC to exit code 127, other
 * errors of EXEC to 126, everything else to 125. */
enum brig_exec_step {
	BRIG_STEP_NONE = 0,
	BRIG_STEP_REQUEST = 1, /* malformed */
	BRIG_STEP_USER = 2,    /* unknown user or group */
	BRIG_STEP_CWD = 3,
	BRIG_STEP_SPAWN = 4, /* pipe, pty, fork: usually a limit of the sandbox */
	BRIG_STEP_EXEC = 5,
};
struct brig_started {
	uint32_t pid;
	int32_t err;
	uint32_t step;
	uint32_t stdin_credit; /* bytes of STDIN the host may send at first */
};
_Static_assert(sizeof(struct brig_started) == 16, "wire");

/* EXIT. Sent when the main process has been reaped and its outputs reached end of file (or 100 ms
 * passed with a surviving descendant holding them open) and were sent as far as credit allowed. */
#define BRIG_EXIT_SIGNALED 0x1u
#define BRIG_EXIT_CORE 0x2u
#define BRIG_EXIT_DISK_FULL 0x4u   /* the writable layer had no free block left when it ended */
#define BRIG_EXIT_INODES_FULL 0x8u /* .. no free inode */
#define BRIG_EXIT_NOFILE 0x10u     /* the main process was seen at its descriptor limit */
#define BRIG_EXIT_OOM 0x20u        /* of a microVM: meanwhile its kernel killed for lack of memory */
struct brig_exit {
	uint32_t flags;
	uint32_t code;        /* exit code, or signal number with SIGNALED */
	uint64_t stdout_bytes; /* produced in all, also where the ring lost some */
	uint64_t stderr_bytes;
	uint64_t utime_us, stime_us; /* of the main process and the children it waited for */
	uint64_t maxrss_bytes;
};
_Static_assert(sizeof(struct brig_exit) == 48, "wire");

/* REATTACH: outputs are resent from these offsets, or from the oldest byte still in the ring where
 * that is later (the offset in STDOUT/STDERR tells). Credits replace those in force. An EXIT that
 * was already sent is sent again after the data. */
struct brig_reattach {
	uint64_t stdout_offset, stderr_offset;
	uint32_t credit_stdout, credit_stderr;
};
_Static_assert(sizeof(struct brig_reattach) == 24, "wire");

/*
 * File operations. struct brig_fs_req, then NUL-terminated strings as listed above. Paths are
 * absolute, or relative to the user's home; they are resolved inside the sandbox with the
 * credentials of `user`, so an answer never shows more than that user may see.
 */
#define BRIG_FS_PARENTS 0x1u   /* WRITE, MKDIR, MOVE, SYMLINK: make missing parent directories */
#define BRIG_FS_RECURSIVE 0x2u /* REMOVE: a directory and all below; WATCH: subdirectories too */
#define BRIG_FS_APPEND 0x4u    /* WRITE: append instead of replace */
#define BRIG_FS_EXCL 0x8u      /* WRITE, MKDIR: fail with EEXIST */
#define BRIG_FS_NOFOLLOW 0x10u /* STAT: of the link itself */
/* WRITE: arg2 pairs of strings (key, value) follow the path. They become the file's extended
 * attributes BRIG_FS_XATTR_PREFIX + key, in place of all that begin so; none = all of them go. A file
 * system that holds none answers EOPNOTSUPP, and no data is written. */
#define BRIG_FS_XATTRS 0x20u
#define BRIG_FS_META 0x40u /* STAT, LIST: such pairs stand at the end of each FS_ENTRY */
/* STAT, LIST: of a link its own size and times, the mode of what it leads to, and as its target the
 * whole path of that. A link that leads nowhere has mode 0 and its own path as target. */
#define BRIG_FS_RESOLVE 0x80u
#define BRIG_FS_XATTR_PREFIX "user.e2b."
/* Pairs of one file: how many, how long a key is (the kernel's 255 less the prefix), and bytes of all
 * keys and values. FS_ENTRY leaves out what does not fit, and values with a NUL. */
#define BRIG_FS_META_PAIRS 128u
#define BRIG_FS_HEADS 0x100u /* EXPORT: without the contents and attributes of files */
#define BRIG_FS_META_KEY_MAX 246u
#define BRIG_FS_META_MAX 4096u
struct brig_fs_req {
	uint32_t flags;
	uint32_t mode;   /* WRITE, MKDIR: permission bits; 0 = 0644 / 0755 */
	uint32_t credit; /* READ, LIST, WATCH, EXPORT: data bytes (payloads) granted at first */
	uint32_t reserved;
	uint64_t arg, arg2;
};
_Static_assert(sizeof(struct brig_fs_req) == 32, "wire");

struct brig_fs_entry {
	uint64_t size;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint32_t mode; /* st_mode */
	uint32_t uid, gid;
	uint64_t ino;
	uint32_t nlink;
	uint32_t reserved;
	/* path\0 (as asked for STAT; relative to the listed directory for LIST), link target\0 ("" if
	 * not a symbolic link), owner name\0, group name\0, with META pairs key\0 value\0 */
};
_Static_assert(sizeof(struct brig_fs_entry) == 48, "wire");

enum brig_fs_event_kind {
	BRIG_FS_EV_CREATE = 1,
	BRIG_FS_EV_WRITE = 2,
	BRIG_FS_EV_REMOVE = 3,
	BRIG_FS_EV_RENAME = 4, /* the old name of a move; the new name comes as CREATE */
	BRIG_FS_EV_CHMOD = 5,
	BRIG_FS_EV_OVERFLOW = 6, /* events were lost: list again */
};
struct brig_fs_event {
	uint32_t kind;
	uint32_t reserved;
};
_Static_assert(sizeof(struct brig_fs_event) == 8, "wire");

/* FS_WRITE, FS_IMPORT: the agent answers FS_DONE only at the end; CREDIT on BRIG_CHAN_FS tells the
 * host how much it may send (the first grant comes when the file is open). FS_WATCH answers one
 * FS_DONE with err 0 and BRIG_FS_DONE_OPEN when the watch stands, and another when it ends.
 * FS_EXPORT and FS_IMPORT are for uid 0 inside only (EPERM); the format of their data is in
 * agent/layer.h. */
#define BRIG_FS_DONE_OPEN 0x1u
struct brig_fs_done {
	int32_t err; /* errno, 0 = success */
	uint32_t flags;
	uint64_t bytes; /* READ, WRITE, EXPORT, IMPORT: data bytes moved */
	/* text\0: which path or step failed, "" on success */
};
_Static_assert(sizeof(struct brig_fs_done) == 16, "wire");

/*
 * A connection to a server inside, on 127.0.0.1 or else ::1. `credit` is what the one who sends it is
 * ready to take at first; further grants are CREDIT frames on BRIG_CHAN_TCP. Each side ends its
 * direction with FF_EOF. TCP_DONE comes when both have ended, or with an errno when the connection
 * broke; a TCP_OPENED with an error is the last frame of its stream.
 */
#define BRIG_TCP_MAX 256u /* connections of one sandbox at a time; one more is answered EMFILE */
struct brig_tcp {
	uint32_t port; /* 1 .. 65535 */
	uint32_t credit;
};
_Static_assert(sizeof(struct brig_tcp) == 8, "wire");
struct brig_tcp_opened {
	int32_t err; /* errno, 0 = connected */
	uint32_t credit;
};
_Static_assert(sizeof(struct brig_tcp_opened) == 8, "wire");
struct brig_tcp_done {
	int32_t err; /* errno, 0 = both directions ended in order */
};
_Static_assert(sizeof(struct brig_tcp_done) == 4, "wire");

#endif
