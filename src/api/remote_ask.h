/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote_ask.h: what a command line may ask for over the network, and which frames it may send
 * then. A list of what is allowed: an operation or a frame that is added to client_proto.h is
 * refused here until somebody has thought about it.
 */
#ifndef BRIG_API_REMOTE_ASK_H
#define BRIG_API_REMOTE_ASK_H

#include <jansson.h>
#include <stdbool.h>

#include "api/perm.h"
#include "base/err.h"
#include "base/frame.h"

/* X(name, text, frames that follow the reply, needs an id, what the key must be allowed to do) */
#define REMOTE_VERBS(X)                                  \
	X(VERSION, "version", NONE, 0, SERVER)           \
	X(RUN, "run", COMMAND, 0, RUN)                   \
	X(CREATE, "create", NONE, 0, BOX_WRITE)          \
	X(EXEC, "exec", COMMAND, 1, FILES)               \
	X(LS, "ls", NONE, 0, BOX_READ)                   \
	X(INSPECT, "inspect", NONE, 1, BOX_READ)         \
	X(LOGS, "logs", LOGS, 1, FILES)                  \
	X(KILL, "kill", NONE, 1, BOX_WRITE)              \
	X(PAUSE, "pause", NONE, 1, BOX_WRITE)            \
	X(RESUME, "resume", NONE, 1, BOX_WRITE)          \
	X(RM, "rm", NONE, 1, BOX_WRITE)                  \
	X(STATS, "stats", NONE, 0, BOX_READ)             \
	X(NETWORK, "network", NONE, 1, BOX_READ)         \
	X(DENIALS, "denials", NONE, 1, BOX_READ)         \
	X(FS, "fs", FILES, 1, FILES)                     \
	X(POOL, "pool", NONE, 0, SERVER)                 \
	X(IMAGES, "images", NONE, 0, TEMPLATE_READ)

enum remote_verb {
#define X(name, text, frames, id, perm) REMOTE_##name,
	REMOTE_VERBS(X)
#undef X
};
enum remote_frames { REMOTE_FRAMES_NONE, REMOTE_FRAMES_COMMAND, REMOTE_FRAMES_LOGS, REMOTE_FRAMES_FILES };

struct remote_ask {
	json_t *req; /* the request, owned; NULL = none yet */
	enum remote_verb verb;
	enum remote_frames frames;
	const char *id; /* as it was asked for, borrowed from req; NULL = none */
	bool detach;	/* of run and exec: over with its reply */
	bool changes;	/* of network: it is not only shown */
};

/* The text of a REQ. 0, or -1 with err; then nothing is kept. */
int remote_ask_parse(const void *text, size_t n, struct remote_ask *ret, struct brig_err *err);
void remote_ask_done(struct remote_ask *ask);
const char *remote_verb_name(enum remote_verb v);
/* All that a key must be allowed to do for it: a set of perm.h. */
perm_set remote_needs(const struct remote_ask *ask);
/* Whether it makes a sandbox. */
static inline bool remote_makes(const struct remote_ask *ask)
{
	return ask->verb == REMOTE_RUN || ask->verb == REMOTE_CREATE;
}
/* A frame behind REQ. Its place, type, flags, stream and length are looked at; what a payload means
 * is brigd's to check. */
int remote_frame_check(const struct remote_ask *ask, const struct frame *f, struct brig_err *err);

#endif
