/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec.h: what a client asked for, parsed and checked: the SPEC and the command of client_proto.h,
 * and whether this host can honour them.
 *
 * Strings point into the JSON object that the struct holds a reference to; nothing is copied. A
 * value is never clamped or ignored: it is refused by name, with the range and the remedy.
 */
#ifndef BRIG_DAEMON_SPEC_H
#define BRIG_DAEMON_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "brig/jail_proto.h"
#include "brig/limits.h"
#include "daemon/netask.h"
#include "daemon/tier.h"
#include "image/config.h"

enum limit_index {
#define X(field, flag, kind, def, min, max, none, what) LIMIT_##field,
	BRIG_LIMITS(X)
#undef X
		LIMIT__N
};

#define SPEC_NAME_MAX 63u
#define SPEC_ENV_BYTES_MAX (160u * 1024u) /* with argv it must fit one EXEC frame */
#define SPEC_CMD_BYTES_MAX (80u * 1024u)
#define SPEC_STRINGS_MAX 4096u
#define SPEC_LABELS_MAX 64u

struct spec_volume {
	const char *id; /* of the store; NULL = of the host, as a descriptor */
	unsigned fd;	/* index into the descriptors that came with the request */
	const char *guest;
	bool readonly;
};

bool volume_id_ok(const char *id);
struct spec;
/* Its writable layer lies in a volume. */
bool spec_root_volume(const struct spec *s);

struct spec {
	json_t *root; /* owned reference; NULL = the empty spec */
	const char *image, *name, *hostname, *workdir, *user; /* NULL = not given */
	int tier;	/* asked for; after tier_resolve() the one that serves it */
	int tier_floor; /* of whoever asks: none below */
	json_t *labels, *env;				      /* borrowed; NULL = none */
	json_t *secret_env; /* as env, and never told to anybody; borrowed */
	struct brig_limits limits;			      /* defaults filled in */
	uint32_t given;					      /* 1 << limit_index: by the client */
	uint32_t accept;				      /* JAIL_ENF_* */
	json_t *ports; /* publish.h; borrowed; NULL = none */
	struct net_ask net; /* moved out when a sandbox is made of it */
	int layer; /* index of a descriptor: the files of a snapshot; -1 = none */
	unsigned nvolumes;
	struct spec_volume volumes[JAIL_VOLUMES_MAX];
};

/* One command: of run or of exec. */
struct cmd {
	json_t *root;		    /* owned reference to the request */
	json_t *argv, *env;	    /* borrowed; env may be NULL */
	json_t *secret_env;	    /* of exec: as in a spec, until it was sent; may be NULL */
	const char *workdir, *user; /* NULL = not given */
	bool tty, stdin_open, detach, rm;
	bool describe; /* of run: the reply has what create tells, too */
	uint16_t rows, cols;
	uint64_t timeout_ms, max_output_bytes; /* 0 = not given, LIMIT_NONE = none */
};

/* obj may be NULL (all defaults). nfds: descriptors that came with the request; each must be named
 * by exactly one volume, or as the layer, which is taken out of obj. */
int spec_parse(json_t *obj, unsigned nfds, struct spec *ret, struct brig_err *err);
void spec_done(struct spec *spec);
/* Overwrites the strings of an array, which nobody may read any more. NULL is allowed. */
void secrets_wipe(json_t *list);
/* Replaces the environment by that of req ("env"); what runs keeps its own. */
int spec_setenv(struct spec *spec, json_t *req, struct brig_err *err);

/* req is the whole request object; is_run tells which keys belong to it. */
int cmd_parse(json_t *req, bool is_run, struct cmd *ret, struct brig_err *err);
/* Of run without a command: the image's entrypoint and command. */
int cmd_from_image(struct cmd *cmd, const struct image_config *image, struct brig_err *err);
void cmd_done(struct cmd *cmd);

struct admission {
	uint32_t accept;  /* for jail_spec: what may be missing */
	uint32_t missing; /* limits and guarantees that will not be enforced */
	json_t *warnings; /* new reference, an array of strings */
};
/* Whether this host, now with `live` sandboxes, can honour the spec. */
int spec_admit(const struct spec *spec, const struct jail_hello *host, unsigned live,
	       struct admission *ret, struct brig_err *err);

/* NAME, UID, NAME:GROUP or UID:GID of sane characters. */
bool user_valid(const char *user);
/* [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62} */
bool name_valid(const char *name);
/* The JSON object {field: number or null} of limits. */
json_t *limits_json(const struct brig_limits *limits);
/* "memory,cpu" as bits of a JAIL_ENF_* mask, added to *mask. */
int spec_accept_names(const char *text, uint32_t *mask, struct brig_err *err);
/* Names of the bits of a JAIL_ENF_* mask. */
json_t *enforce_json(uint32_t mask);

#endif
