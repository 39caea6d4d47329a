/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_proto.h: the wire between the brig command (or any local client) and brigd.
 *
 * Theory of operation
 * -------------------
 * A unix stream socket carries the frames of agent_proto.h, with two more types. One connection is
 * one operation: the client sends REQ (stream 0, a JSON object; descriptors of volumes ride on its
 * first byte by SCM_RIGHTS), brigd answers REP (JSON: {"ok":{...}} or {"error":{...}}). For
 * operations that stream (run, exec, logs, fs) further frames follow as below, and END (JSON) closes
 * the operation. A client that disappears ends what it started (run and exec in the foreground).
 *
 * Requests (all keys optional unless marked *; unknown keys are refused by name):
 *  {"op":"version"}                    -> {"version","proto","tiers":[..],"refused":{TIER:WHY},"cgroup","rootless",
 *                                          "enforced":[..],"missing":[..],"pid","instance"}
 *  {"op":"run","spec":SPEC,"cmd":[*],"tty","stdin","rows","cols","detach","rm","describe"}
 *      create + exec in one round. REP {"id","name","tier","image","warnings":[..],"pid"} when the
 *      command started (an error of the start is an END, not an error REP); streams on stream 1; END
 *      STATUS. pid: of the command, as processes inside see it.
 *      "describe": REP has what create tells besides.
 *      detach: REP, then the connection closes; the sandbox stays until rm (or with rm: until the
 *      command ends).
 *  {"op":"create","spec":SPEC}         -> {"id","name","tier","image","warnings","digest" (null for
 *                                          the host image),"user","home","limits"}
 *  {"op":"exec","id"*,"cmd"*,"env":[..],"workdir","user","tty","stdin","rows","cols","timeout_ms",
 *   "max_output_bytes","detach"}        -> as run, in a living sandbox; {"id","exec","pid"}
 *  {"op":"attach","id"*,"exec","stdout_offset","stderr_offset"} -> as exec: reads on at a command whose
 *      reader was lost with a brigd; without "exec" at the main one. Offsets are what the reader has.
 *  {"op":"ls"}                          -> {"sandboxes":[INFO]}
 *  {"op":"inspect","id"*}               -> INFO with "limits","digest","env","labels","volumes","execs":[..]
 *  {"op":"logs","id"*,"follow","stderr","stdout","offset"} -> REP {}, STDOUT/STDERR on stream 1, END
 *  {"op":"setenv","id"*,"env"*}         -> {}     its environment for commands from now on, in place of
 *      the spec's
 *  {"op":"kill","id"*,"signal"}         -> {}     signal to the main command; default KILL
 *  {"op":"pause","id"*}                 -> {}     every process of it stands still; wrong_state if they do
 *  {"op":"resume","id"*}                -> {}     .. and goes on; wrong_state if it is not paused
 *  {"op":"rewind","id"*} + descriptor of a snapshot's file, as of "layer" -> as create. Ends everything in it
 *      and makes it again, with its id, name and specification, and those files
 *  {"op":"rm","id"*,"force"}            -> {}     answered when nothing of it is left
 *  {"op":"stats","id"}                  -> {"stats":[{..}]}  all sandboxes without id
 *  {"op":"receipt","id"*}               -> {"receipt":{..}} what really holds for it, as measured now;
 *      isolation_mismatch if that is not what was specified: then it is being destroyed
 *  {"op":"network","id"*,"network":NETWORK,"add":bool} -> {"network":NETWORK,"cut":n}  changes what it may
 *      reach, of which mode, prefer, allow, deny and grant can change; answered when it is enforced, cut
 *      connections that it does not allow any more. add: rules beside those that hold. Without "network":
 *      {"network"} as it is, null without a link
 *  {"op":"denials","id"*}               -> {"id","network","denials":[ENTRY of journal.h],"total","lost",
 *                                          "packets":{"refused","forged"} or null}
 *  {"op":"fs","id"*,"user"}             -> REP {}, then FS_* frames as in agent_proto.h are relayed in
 *      both directions (stream ids of the client's choice, 1 ..); the operation ends when the client
 *      closes. The user string of each FS request must be empty; brigd puts in the request's user.
 *  {"op":"connect","id"*,"port"*}       -> REP {} once a server inside, on 127.0.0.1 or ::1, took the
 *      connection (else error "unavailable"); then TCP_DATA in both directions and CREDIT (channel 4)
 *      on stream 1. BRIG_CLIENT_CREDIT is granted each way from the start. FF_EOF ends a direction.
 *      END {} when both have, or when the connection broke: then {"error":{..}}. CLOSE, or the
 *      client's end, breaks it.
 *  {"op":"volume","do":"make"|"clone"|"remove"|"stat","id"*,"from","seal","bytes","inodes"} -> {"bytes","inodes",
 *      "used_bytes","used_inodes","readers","writers"}  volumes of the store, by ids that are the caller's
 *      choice; answered when it is done and on the disk
 *  {"op":"pool"}                        -> {"pools":[{"image","size","ready","hits","misses",..}]}
 *  {"op":"images","image"}              -> {"images":[config.json, without env, of each named
 *                                          image]}; with "image" the whole one of that image
 * "id" is an id, an unambiguous prefix of one (>= 4 characters), or a name.
 *
 * SPEC: {"tier","image","name","hostname","labels":{},"env":["N=V"],"workdir","user",
 *        "limits":{field of limits.h: number or null},"volumes":[{"fd":index,"guest","readonly"}], of
 *        the store {"volume":id,"guest","readonly"},
 *        "accept":["memory",..],"secret_env":["N=V"],"network":NETWORK,"layer":index}   layer: of a
 *        descriptor, a file of a snapshot, whose offset is brigd's from then on: what it holds is put in place
 *        before anything else happens in the sandbox (src/agent/layer.h). secret_env: as env, and shown by
 *        no operation. Over the network also "secrets":{"N":NAME}: of those that the server keeps, which
 *        brig-api looks up
 * NETWORK: {"mode":"none"|"deny"|"public","prefer":"deny"|"allow","allow":[DEST],"deny":[DEST],
 *  "grant":[DEST],..} (src/daemon/netask.h, egress_proto.h); absent: loopback only.
 *
 * Streaming: the client is to brigd what brigd is to the agent: STDIN, CREDIT, SIGNAL, RESIZE and
 * CLOSE from the client; STDOUT, STDERR, CREDIT (stdin) to it, all on stream 1, same payloads. The
 * first credits are BRIG_CLIENT_CREDIT for each output without being asked.
 *
 * STATUS (END of run and exec; `--status-json`): {"id","tier","exit_code","signal","stop_reason",
 *  "evidence":{..},"usage":{"wall_ms","cpu_ms","memory_peak_bytes","pids_peak","stdout_bytes",
 *  "stderr_bytes","io_bytes"},"limits_hit":[..],"truncated":bool} plus "denials":[..], the last ENTRYs of
 *  what the network refused meanwhile, if it refused anything, and "error":{..} when brig itself
 *  failed (exit_code 125), or the command could not be executed (126, 127); its details then have
 *  "step": "request", "user", "cwd", "spawn" or "exec".
 * Error object: {"code","message","cause","remediation","details":{},"retryable"}.
 */
#ifndef BRIG_CLIENT_PROTO_H
#define BRIG_CLIENT_PROTO_H

#define BRIG_CLIENT_PROTO_VERSION 1u

#define BRIG_CL_REQ 0x101u
#define BRIG_CL_REP 0x102u
#define BRIG_CL_END 0x103u

#define BRIG_CLIENT_CREDIT (4u * 1024u * 1024u)
#define BRIG_CLIENT_STREAM 1u

/* Where the socket is: $BRIG_SOCKET, else /run/brig/brigd.sock for root, else
 * $XDG_RUNTIME_DIR/brig/brigd.sock (or /tmp/brig-<uid>/brigd.sock, directory 0700 and ours). */
#define BRIG_SOCKET_ROOT "/run/brig/brigd.sock"

/* Exit codes of the command line. */
#define BRIG_EXIT_USAGE 2
#define BRIG_EXIT_TIMEOUT 124
#define BRIG_EXIT_FAILED 125
#define BRIG_EXIT_NOT_EXECUTABLE 126
#define BRIG_EXIT_NOT_FOUND 127
#define BRIG_EXIT_SIGNAL_BASE 128

#endif
