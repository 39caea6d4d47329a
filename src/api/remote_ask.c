/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brigd checks every request and every frame again, as it does for a client of its socket. But who
 * may open that socket owns all sandboxes, and an API key is less than that. So here is refused,
 * with the reason, what belongs to the owner of the socket: descriptors of the server's files
 * (volumes), and operations that no verb of the command line needs.
 */
#include "api/remote_ask.h"

#include <string.h>

#include "brig/client_proto.h"
#include "daemon/fields.h"

#define OP_MAX 32
#define ID_MAX 128

static const struct {
	const char *name;
	enum remote_frames frames;
	bool id;
	enum perm perm;
} verbs[] = {
#define X(name, text, frames, id, perm) { text, REMOTE_FRAMES_##frames, id, PERM_##perm },
	REMOTE_VERBS(X)
#undef X
};
#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

const char *remote_verb_name(enum remote_verb v)
{
	return v < N_VERBS ? verbs[v].name : "?";
}

perm_set remote_needs(const struct remote_ask *ask)
{
	perm_set set = PERM_BIT(verbs[ask->verb].perm);
	/* What stays behind is a sandbox like any that is created. */
	bool writes = (ask->verb == REMOTE_RUN && ask->detach) || ask->changes;
	return writes ? set | PERM_BIT(PERM_BOX_WRITE) : set;
}

void remote_ask_done(struct remote_ask *ask)
{
	json_decref(ask->req);
	*ask = (struct remote_ask){ .req = NULL };
}

static int verb_find(json_t *req, enum remote_verb *ret, struct brig_err *err)
{
	const char *name = NULL;
	if (field_str(req, "op", OP_MAX, &name, err) < 0)
		return -1;
	for (unsigned i = 0; name && i < N_VERBS; i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			*ret = (enum remote_verb)i;
			return 0;
		}
	}
	if (!name)
		return brig_fail(err, BRIG_E_INVALID, 0, "'op' is missing");
	brig_err_set(err, BRIG_E_UNSUPPORTED, 0, "'%.32s' is not offered over the network", name);
	return brig_fix(err, "use it on the server's machine, over its socket");
}

/* A sandbox that is made: no part of the server's own files in it. */
static int spec_check(json_t *req, struct brig_err *err)
{
	json_t *spec = NULL, *volumes = NULL;
	if (field_object(req, "spec", &spec, err) < 0 ||
	    (spec && field_array(spec, "volumes", &volumes, err) < 0))
		return -1;
	json_t *v;
	size_t i;
	bool host = false;
	/* Those of the store have names, which brig-api looks up. */
	json_array_foreach(volumes, i, v) host |= !json_is_string(json_object_get(v, "volume"));
	if (host) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "a folder of the caller's machine does not travel to a server elsewhere");
		return brig_fix(err, "name a volume of the server (brig volume create), or copy the files "
				     "into a sandbox with `brig cp`");
	}
	if (json_object_get(spec, "layer"))
		return brig_fail(err, BRIG_E_INVALID, 0, "'layer' is a file of the caller's machine: use 'snapshot'");
	if (!spec && json_object_set_new(req, "spec", json_object()) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	return 0;
}

static int ask_fill(struct remote_ask *a, struct brig_err *err)
{
	if (verb_find(a->req, &a->verb, err) < 0 ||
	    field_str(a->req, "id", ID_MAX, &a->id, err) < 0)
		return -1;
	a->frames = verbs[a->verb].frames;
	if (verbs[a->verb].id && (!a->id || !a->id[0]))
		return brig_fail(err, BRIG_E_INVALID, 0, "'id' is missing");
	if (a->id && !a->id[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "'id' is empty");
	if (a->frames == REMOTE_FRAMES_COMMAND &&
	    field_bool(a->req, "detach", &a->detach, err) < 0)
		return -1;
	a->changes = a->verb == REMOTE_NETWORK && json_object_get(a->req, "network");
	return remote_makes(a) ? spec_check(a->req, err) : 0;
}

int remote_ask_parse(const void *text, size_t n, struct remote_ask *ret, struct brig_err *err)
{
	struct remote_ask a = { .req = NULL };
	if (fields_parse(text, n, &a.req, err) < 0)
		return -1;
	if (ask_fill(&a, err) < 0) {
		remote_ask_done(&a);
		return -1;
	}
	*ret = a;
	return 0;
}

/* ---- frames ---- */

#define ANY UINT32_MAX

/* min and max: of the payload; max ANY = of a frame. */
struct rule {
	uint16_t type;
	bool eof;
	uint32_t min, max;
};

static const struct rule command_rules[] = {
	{ BRIG_STDIN, true, 0, ANY },
	{ BRIG_CREDIT, false, sizeof(struct brig_credit), sizeof(struct brig_credit) },
	{ BRIG_SIGNAL, false, 4, 4 },
	{ BRIG_RESIZE, false, 4, 4 },
	{ BRIG_CLOSE, false, 0, 0 },
	{ 0 },
};

static const struct rule logs_rules[] = {
	{ BRIG_CREDIT, false, sizeof(struct brig_credit), sizeof(struct brig_credit) },
	{ 0 },
};

/* Without FS_IMPORT: snapshots have routes of their own. What FS_EXPORT tells, root inside can read anyway. */
static const struct rule files_rules[] = {
	{ BRIG_CREDIT, false, sizeof(struct brig_credit), sizeof(struct brig_credit) },
	{ BRIG_CLOSE, false, 0, 0 },
	{ BRIG_FS_STAT, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_LIST, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_READ, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_WRITE, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_MKDIR, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_MOVE, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_REMOVE, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_SYMLINK, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_WATCH, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_EXPORT, false, sizeof(struct brig_fs_req), ANY },
	{ BRIG_FS_DATA, true, 0, ANY },
	{ 0 },
};

static const struct rule no_rules[] = { { 0 } };

static const struct rule *const rules[] = {
	[REMOTE_FRAMES_NONE] = no_rules,
	[REMOTE_FRAMES_COMMAND] = command_rules,
	[REMOTE_FRAMES_LOGS] = logs_rules,
	[REMOTE_FRAMES_FILES] = files_rules,
};

int remote_frame_check(const struct remote_ask *ask, const struct frame *f, struct brig_err *err)
{
	const struct rule *r = rules[ask->frames];
	while (r->type && r->type != f->h.type)
		r++;
	if (!r->type)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "'%s' takes no frame of type %u",
				 remote_verb_name(ask->verb), f->h.type);
	if (ask->frames == REMOTE_FRAMES_FILES ? f->h.stream == 0
					       : f->h.stream != BRIG_CLIENT_STREAM)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a frame of type %u on stream %u",
				 f->h.type, f->h.stream);
	if (f->h.flags & ~(r->eof ? BRIG_FF_EOF : 0u))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a frame of type %u with flags 0x%x",
				 f->h.type, f->h.flags);
	if (f->h.len < r->min || f->h.len > r->max)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "a frame of type %u with %u bytes",
				 f->h.type, f->h.len);
	return 0;
}
