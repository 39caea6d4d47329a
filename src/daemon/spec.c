/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in brigd over a request of a client, before anything is made. spec_parse() and cmd_parse()
 * look at the request alone, spec_admit() holds it against what jaild said this host can enforce.
 * Every string that goes on to the agent or to jaild is bounded here, so the messages built later
 * cannot overflow; both receivers check again.
 *
 * Rule for what the host cannot enforce: a limit that the client gave by itself, or any guarantee
 * on a host that runs brig as root, is refused unless the client accepts it by name. An ordinary
 * user's host is expected to lack some, so there a limit that is only a default is told and not
 * refused.
 */
#include "daemon/spec.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "brig/agent_proto.h"
#include "daemon/fields.h"
#include "daemon/portask.h"
#include "daemon/publish.h"

#define HOSTNAME_MAX 63u
#define PATH_TEXT_MAX 4095u
#define USER_MAX 64u
#define LABEL_KEY_MAX 63u
#define LABEL_VALUE_MAX 1024u
#define ENV_ENTRY_MAX (128u * 1024u - 1) /* MAX_ARG_STRLEN, Linux include/uapi/linux/binfmts.h */
#define DISK_DEFAULT (256 * MIB)

static const struct limit_row {
	const char *field, *flag, *what;
	uint64_t def, min, max;
	int none;
} limit_rows[] = {
#define X(field_, flag_, kind, def_, min_, max_, none_, what_) \
	{ #field_, flag_, what_, def_, min_, max_, none_ },
	BRIG_LIMITS(X)
#undef X
};

static const char *const limit_keys[] = {
#define X(field, flag, kind, def, min, max, none, what) #field,
	BRIG_LIMITS(X)
#undef X
		NULL
};

static uint64_t *limit_at(struct brig_limits *l, unsigned i)
{
	switch (i) {
#define X(field, flag, kind, def, min, max, none, what) \
	case LIMIT_##field:                             \
		return &l->field;
		BRIG_LIMITS(X)
#undef X
	default:
		return NULL;
	}
}

json_t *limits_json(const struct brig_limits *limits)
{
	struct brig_limits copy = *limits;
	json_t *o = json_object();
	for (unsigned i = 0; i < LIMIT__N; i++) {
		uint64_t v = *limit_at(&copy, i);
		json_object_set_new(o, limit_rows[i].field,
				    v == LIMIT_NONE ? json_null() : json_integer((json_int_t)v));
	}
	return o;
}

static const struct enforce_row {
	uint32_t bit;
	const char *name, *lost;
} enforce_rows[] = {
#define X(bit, name, lost) { 1u << bit, #name, lost },
	BRIG_ENFORCE(X)
#undef X
};
#define N_ENFORCE (sizeof(enforce_rows) / sizeof(enforce_rows[0]))

json_t *enforce_json(uint32_t mask)
{
	json_t *a = json_array();
	for (unsigned i = 0; i < N_ENFORCE; i++)
		if (mask & enforce_rows[i].bit)
			json_array_append_new(a, json_string(enforce_rows[i].name));
	return a;
}

bool name_valid(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	return n >= 1 && n <= SPEC_NAME_MAX && name[n] == '\0' && !strchr("_.-", name[0]);
}

static bool hostname_valid(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
	return n >= 1 && n <= HOSTNAME_MAX && s[n] == '\0' && !strchr(".-", s[0]) &&
	       !strchr(".-", s[n - 1]);
}

bool user_valid(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-");
	const char *colon = strchr(s, ':');
	return n >= 1 && n <= USER_MAX && s[n] == '\0' && s[0] != ':' && s[0] != '-' &&
	       s[n - 1] != ':' && (!colon || !strchr(colon + 1, ':'));
}

/* An absolute path whose components are ordinary names: it means the same before and after any
 * normalisation, so no two readers of it can disagree. */
static bool guest_path_valid(const char *s)
{
	if (s[0] != '/' || strlen(s) >= JAIL_PATH_MAX)
		return false;
	while (*s == '/') {
		size_t n = strcspn(++s, "/");
		if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
				return false;
		s += n;
	}
	return true;
}

static bool path_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

void secrets_wipe(json_t *list)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		if (json_is_string(v))
			explicit_bzero((char *)(uintptr_t)json_string_value(v),
				       json_string_length(v));
	}
}

static int env_check(json_t *env, struct brig_err *err)
{
	size_t i;
	json_t *v;
	json_array_foreach(env, i, v)
	{
		const char *s = json_string_value(v);
		const char *eq = strchr(s, '=');
		size_t n = eq ? (size_t)(eq - s) : 0;
		bool sane = n > 0 && !isdigit((unsigned char)s[0]);
		for (size_t k = 0; k < n; k++)
			sane = sane && (isalnum((unsigned char)s[k]) || strchr("_.-", s[k]));
		if (!sane) {
			brig_err_set(err, BRIG_E_INVALID, 0,
				     "env entry %zu is not NAME=value with a name of "
				     "letters, digits and '_'",
				     i + 1);
			return brig_fix(err, "give each entry as NAME=value");
		}
		if (json_string_length(v) > ENV_ENTRY_MAX)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "env entry '%.*s' is longer than %u bytes",
					 (int)(n < 64 ? n : 64), s, ENV_ENTRY_MAX);
	}
	return 0;
}

static int workdir_check(const char *dir, struct brig_err *err)
{
	if (dir && dir[0] != '/')
		return brig_fail(err, BRIG_E_INVALID, 0, "workdir '%.128s' is not an absolute path",
				 dir);
	return 0;
}

static int user_check(const char *user, struct brig_err *err)
{
	if (user && !user_valid(user)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "user '%.64s' is malformed", user);
		return brig_fix(err, "give NAME, UID, NAME:GROUP or UID:GID");
	}
	return 0;
}

static int tiers_parse(json_t *obj, struct spec *s, struct brig_err *err)
{
	const char *tier = NULL, *floor = NULL;
	s->tier = TIER_ABSENT;
	s->tier_floor = BRIG_TIER_container;
	if (field_str(obj, "tier", 32, &tier, err) < 0 ||
	    field_str(obj, "tier_floor", 32, &floor, err) < 0 ||
	    (tier && tier_parse(tier, &s->tier, err) < 0) ||
	    (floor && tier_parse(floor, &s->tier_floor, err) < 0))
		return -1;
	if (s->tier_floor < 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'tier_floor' names no tier");
	return 0;
}

static int limits_parse(json_t *obj, struct spec *spec, struct brig_err *err)
{
	for (unsigned i = 0; i < LIMIT__N; i++)
		*limit_at(&spec->limits, i) = limit_rows[i].def;
	json_t *limits = NULL;
	if (field_object(obj, "limits", &limits, err) < 0)
		return -1;
	if (limits && fields_known(limits, "limits", limit_keys, err) < 0)
		return -1;
	for (unsigned i = 0; limits && i < LIMIT__N; i++) {
		const struct limit_row *row = &limit_rows[i];
		uint64_t *at = limit_at(&spec->limits, i);
		json_t *v = json_object_get(limits, row->field);
		if (!v)
			continue;
		if (json_is_null(v)) {
			if (!row->none)
				return brig_fail(err, BRIG_E_LIMIT, 0,
						 "limit '%s' (--%s) cannot be none", row->field,
						 row->flag);
			*at = LIMIT_NONE;
			continue; /* a limit that was waived needs no enforcement */
		}
		if (field_u64(limits, row->field, row->min, row->max, at, err) < 0)
			return brig_ctx(err, "limit --%s", row->flag);
		spec->given |= 1u << i;
	}
	struct brig_limits *l = &spec->limits;
	if (!(spec->given & 1u << LIMIT_disk_bytes))
		l->disk_bytes =
			l->memory_bytes / 2 < DISK_DEFAULT ? l->memory_bytes / 2 : DISK_DEFAULT;
	if (l->disk_bytes > l->memory_bytes) {
		brig_err_set(err, BRIG_E_LIMIT, 0,
			     "disk limit of %llu bytes exceeds the memory limit of %llu: the "
			     "writable layer lives in memory",
			     (unsigned long long)l->disk_bytes,
			     (unsigned long long)l->memory_bytes);
		return brig_fix(err, "lower --disk or raise --memory");
	}
	return 0;
}

static int labels_check(json_t *labels, struct brig_err *err)
{
	if (json_object_size(labels) > SPEC_LABELS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u labels", SPEC_LABELS_MAX);
	const char *key;
	json_t *v;
	json_object_foreach(labels, key, v)
	{
		if (key[0] == '\0' || strlen(key) > LABEL_KEY_MAX)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "label names are 1 to %u bytes long", LABEL_KEY_MAX);
		if (!json_is_string(v) || json_string_length(v) > LABEL_VALUE_MAX)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "label '%s' is not a string of at most %u bytes", key,
					 LABEL_VALUE_MAX);
	}
	return 0;
}

bool volume_id_ok(const char *id)
{
	return strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789") == BRIG_ID_LEN && !id[BRIG_ID_LEN];
}

bool spec_root_volume(const struct spec *s)
{
	for (unsigned i = 0; i < s->nvolumes; i++)
		if (strcmp(s->volumes[i].guest, "/") == 0)
			return true;
	return false;
}

static int volume_parse(json_t *v, unsigned nfds, struct spec *spec, struct brig_err *err)
{
	static const char *const keys[] = { "fd", "volume", "guest", "readonly", NULL };
	struct spec_volume *vol = &spec->volumes[spec->nvolumes];
	uint64_t fd = UINT64_MAX;
	if (!json_is_object(v))
		return brig_fail(err, BRIG_E_INVALID, 0, "is not an object");
	if (fields_known(v, "the volume", keys, err) < 0 ||
	    field_u64(v, "fd", 0, JAIL_VOLUMES_MAX, &fd, err) < 0 ||
	    field_str(v, "volume", BRIG_ID_LEN, &vol->id, err) < 0 ||
	    field_str(v, "guest", JAIL_PATH_MAX - 1, &vol->guest, err) < 0 ||
	    field_bool(v, "readonly", &vol->readonly, err) < 0)
		return -1;
	if (vol->id && (fd != UINT64_MAX || !volume_id_ok(vol->id)))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'volume' is the id of one, and stands in place of 'fd'");
	if (!vol->id && fd >= nfds)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'fd' names no descriptor of this request");
	bool root = vol->guest && strcmp(vol->guest, "/") == 0;
	if (root && (!vol->id || vol->readonly))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "at / there can be a volume of the server that is written to, and nothing else");
	if (root && spec->layer >= 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "a snapshot and a volume at / exclude each other");
	if (!vol->guest || (!root && !guest_path_valid(vol->guest)))
		return brig_fail(
			err, BRIG_E_INVALID, 0,
			"'guest' is not an absolute path without '.', '..' or empty parts");
	static const char *const kept[] = { "/proc", "/sys", "/dev" };
	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (path_below(vol->guest, kept[i]))
			return brig_fail(err, BRIG_E_INVALID, 0, "a volume cannot cover %s",
					 kept[i]);
	vol->fd = (unsigned)fd;
	if (!vol->id && spec->layer == (int)fd)
		return brig_fail(err, BRIG_E_INVALID, 0, "descriptor %u is used twice", vol->fd);
	for (unsigned i = 0; i < spec->nvolumes; i++) {
		if (!vol->id && !spec->volumes[i].id && spec->volumes[i].fd == vol->fd)
			return brig_fail(err, BRIG_E_INVALID, 0, "descriptor %u is used twice",
					 vol->fd);
		if (strcmp(spec->volumes[i].guest, vol->guest) == 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "guest path %s is used twice",
					 vol->guest);
	}
	spec->nvolumes++;
	return 0;
}

static int layer_parse(json_t *obj, unsigned nfds, struct spec *spec, struct brig_err *err)
{
	uint64_t at = 0;
	spec->layer = -1;
	if (!json_object_get(obj, "layer"))
		return 0;
	if (field_u64(obj, "layer", 0, JAIL_VOLUMES_MAX, &at, err) < 0)
		return -1;
	if (at >= nfds)
		return brig_fail(err, BRIG_E_INVALID, 0, "'layer' is no descriptor of the request");
	spec->layer = (int)at;
	/* The next brigd, which reads this again, has no descriptor. */
	json_object_del(obj, "layer");
	return 0;
}

static int volumes_parse(json_t *obj, unsigned nfds, struct spec *spec, struct brig_err *err)
{
	json_t *arr = NULL;
	if (field_array(obj, "volumes", &arr, err) < 0)
		return -1;
	if (json_array_size(arr) > JAIL_VOLUMES_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u volumes", JAIL_VOLUMES_MAX);
	size_t i;
	json_t *v;
	json_array_foreach(arr, i, v)
	{
		if (volume_parse(v, nfds, spec, err) < 0)
			return brig_ctx(err, "volume %zu", i + 1);
	}
	unsigned named = spec->layer >= 0;
	for (unsigned k = 0; k < spec->nvolumes; k++)
		named += !spec->volumes[k].id;
	if (named != nfds)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "%u descriptors came with the request, but it names %u", nfds, named);
	return 0;
}

/* One name of the given length. */
static int accept_add(const char *name, size_t n, uint32_t *mask, struct brig_err *err)
{
	for (unsigned k = 0; k < N_ENFORCE; k++) {
		if (strlen(enforce_rows[k].name) == n &&
		    memcmp(enforce_rows[k].name, name, n) == 0) {
			*mask |= enforce_rows[k].bit;
			return 0;
		}
	}
	brig_err_set(err, BRIG_E_INVALID, 0, "'accept' has unknown name '%.*s'",
		     (int)(n < 32 ? n : 32), name);
	return brig_fix(err, "names are memory, cpu, pids, swap, accounting, uidrange, idmap, "
			     "timens and io");
}

int spec_accept_names(const char *text, uint32_t *mask, struct brig_err *err)
{
	for (const char *p = text; *p; p += strspn(p, ",")) {
		size_t n = strcspn(p, ",");
		if (accept_add(p, n, mask, err) < 0)
			return -1;
		p += n;
	}
	return 0;
}

static int accept_parse(json_t *obj, struct spec *spec, struct brig_err *err)
{
	json_t *arr = NULL, *v;
	size_t i;
	if (field_strings(obj, "accept", 64, 4096, &arr, err) < 0)
		return -1;
	json_array_foreach(arr, i, v)
	{
		const char *name = json_string_value(v);
		if (accept_add(name, strlen(name), &spec->accept, err) < 0)
			return -1;
	}
	return 0;
}

static int ports_parse(json_t *obj, struct spec *spec, struct brig_err *err)
{
	struct portask one;
	size_t i;
	json_t *v;
	if (field_strings(obj, "ports", PUBLISH_MAX, PUBLISH_MAX * PORTASK_TEXT_MAX, &spec->ports, err) < 0)
		return -1;
	json_array_foreach(spec->ports, i, v)
	{
		if (portask_parse(json_string_value(v), &one, err) < 0)
			return -1;
	}
	return 0;
}

static int spec_fields(json_t *obj, unsigned nfds, struct spec *s, struct brig_err *err)
{
	static const char *const keys[] = { "tier",   "tier_floor", "image",	 "name",    "hostname",
					    "labels", "env",	 "workdir", "user",
					    "limits", "volumes", "accept",  "secret_env",
					    "network", "layer", "ports", NULL };
	json_t *network = NULL;
	if ((obj && fields_known(obj, "spec", keys, err) < 0) || tiers_parse(obj, s, err) < 0 ||
	    field_str(obj, "image", 128, &s->image, err) < 0 ||
	    field_str(obj, "name", 128, &s->name, err) < 0 ||
	    field_str(obj, "hostname", 128, &s->hostname, err) < 0 ||
	    field_object(obj, "labels", &s->labels, err) < 0 ||
	    field_strings(obj, "env", SPEC_STRINGS_MAX, SPEC_ENV_BYTES_MAX, &s->env, err) < 0 ||
	    field_strings(obj, "secret_env", SPEC_STRINGS_MAX, SPEC_ENV_BYTES_MAX, &s->secret_env,
			  err) < 0 ||
	    field_str(obj, "workdir", PATH_TEXT_MAX, &s->workdir, err) < 0 ||
	    field_str(obj, "user", 256, &s->user, err) < 0)
		return -1;
	if (s->image && !s->image[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "'image' is empty");
	if (s->name && !name_valid(s->name)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "name '%.64s' is malformed", s->name);
		return brig_fix(
			err,
			"names are 1 to 63 of a-z A-Z 0-9 _ . - and begin with a letter or digit");
	}
	if (s->hostname && !hostname_valid(s->hostname))
		return brig_fail(err, BRIG_E_INVALID, 0, "hostname '%.64s' is malformed",
				 s->hostname);
	if (labels_check(s->labels, err) < 0 || env_check(s->env, err) < 0 ||
	    env_check(s->secret_env, err) < 0 ||
	    workdir_check(s->workdir, err) < 0 || user_check(s->user, err) < 0 ||
	    limits_parse(obj, s, err) < 0 || layer_parse(obj, nfds, s, err) < 0 ||
	    volumes_parse(obj, nfds, s, err) < 0 ||
	    accept_parse(obj, s, err) < 0 || ports_parse(obj, s, err) < 0 ||
	    field_object(obj, "network", &network, err) < 0)
		return -1;
	/* Last, because it is the only one that is to be freed. */
	return net_ask_parse(network, &s->net, err);
}

int spec_parse(json_t *obj, unsigned nfds, struct spec *ret, struct brig_err *err)
{
	struct spec s = { .root = NULL };
	if (obj && !json_is_object(obj))
		return brig_fail(err, BRIG_E_INVALID, 0, "'spec' must be an object");
	if (spec_fields(obj, nfds, &s, err) < 0)
		return -1;
	s.root = json_incref(obj);
	*ret = s;
	return 0;
}

void spec_done(struct spec *spec)
{
	/* Another holder of the same request needs them still. */
	if (spec->root && spec->root->refcount == 1)
		secrets_wipe(spec->secret_env);
	net_ask_done(&spec->net);
	json_decref(spec->root);
	*spec = (struct spec){ .root = NULL };
}

int spec_setenv(struct spec *spec, json_t *req, struct brig_err *err)
{
	json_t *env = NULL;
	if (field_strings(req, "env", SPEC_STRINGS_MAX, SPEC_ENV_BYTES_MAX, &env, err) < 0 ||
	    env_check(env, err) < 0)
		return -1;
	if (!env)
		return brig_fail(err, BRIG_E_INVALID, 0, "'env' is missing");
	if (!spec->root)
		spec->root = json_object();
	if (json_object_set(spec->root, "env", env) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the environment");
	spec->env = env;
	return 0;
}

/* timeout_ms and max_output_bytes of exec: as limits.h has them for a sandbox. */
static int cmd_limit(json_t *req, unsigned index, uint64_t *ret, struct brig_err *err)
{
	const struct limit_row *row = &limit_rows[index];
	if (json_is_null(json_object_get(req, row->field))) {
		*ret = LIMIT_NONE;
		return 0;
	}
	return field_u64(req, row->field, row->min, row->max, ret, err);
}

int cmd_parse(json_t *req, bool is_run, struct cmd *ret, struct brig_err *err)
{
	static const char *const run_keys[] = { "op",	"spec", "cmd",	  "tty", "stdin",
						"rows", "cols", "detach", "rm",	 "describe",
						NULL };
	static const char *const exec_keys[] = {
		"op",	 "id",	 "cmd",	 "env",	       "workdir",	   "user",   "tty",
		"stdin", "rows", "cols", "timeout_ms", "max_output_bytes", "detach", "secret_env",
		NULL
	};
	struct cmd c = { .root = NULL };
	uint64_t rows = 0, cols = 0;
	if (fields_known(req, is_run ? "run" : "exec", is_run ? run_keys : exec_keys, err) < 0 ||
	    field_strings(req, "cmd", SPEC_STRINGS_MAX, SPEC_CMD_BYTES_MAX, &c.argv, err) < 0 ||
	    field_bool(req, "tty", &c.tty, err) < 0 ||
	    field_bool(req, "stdin", &c.stdin_open, err) < 0 ||
	    field_bool(req, "detach", &c.detach, err) < 0 ||
	    field_bool(req, "rm", &c.rm, err) < 0 ||
	    field_bool(req, "describe", &c.describe, err) < 0 ||
	    field_u64(req, "rows", 0, UINT16_MAX, &rows, err) < 0 ||
	    field_u64(req, "cols", 0, UINT16_MAX, &cols, err) < 0)
		return -1;
	if (!is_run &&
	    (field_strings(req, "env", SPEC_STRINGS_MAX, SPEC_ENV_BYTES_MAX, &c.env, err) < 0 ||
	     env_check(c.env, err) < 0 ||
	     field_strings(req, "secret_env", SPEC_STRINGS_MAX, SPEC_ENV_BYTES_MAX, &c.secret_env,
			   err) < 0 ||
	     env_check(c.secret_env, err) < 0 ||
	     field_str(req, "workdir", PATH_TEXT_MAX, &c.workdir, err) < 0 ||
	     workdir_check(c.workdir, err) < 0 || field_str(req, "user", 256, &c.user, err) < 0 ||
	     user_check(c.user, err) < 0 ||
	     cmd_limit(req, LIMIT_timeout_ms, &c.timeout_ms, err) < 0 ||
	     cmd_limit(req, LIMIT_max_output_bytes, &c.max_output_bytes, err) < 0))
		return -1;
	/* Of run: what the image says, which is not known yet. */
	bool by_image = is_run && json_array_size(c.argv) == 0;
	if (!by_image && (json_array_size(c.argv) == 0 || json_string_length(json_array_get(c.argv, 0)) == 0)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "'cmd' names no command");
		return brig_fix(err, "give the command after --, as in `brig run -- echo hello`");
	}
	if (c.detach && c.stdin_open)
		return brig_fail(err, BRIG_E_INVALID, 0, "a detached command has no 'stdin'");
	if (c.detach && !is_run && c.max_output_bytes && c.max_output_bytes != LIMIT_NONE)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'max_output_bytes' of a detached exec: nobody reads its output");
	c.rows = (uint16_t)rows;
	c.cols = (uint16_t)cols;
	c.root = json_incref(req);
	*ret = c;
	return 0;
}

int cmd_from_image(struct cmd *cmd, const struct image_config *image, struct brig_err *err)
{
	const struct image_words *parts[] = { &image->entrypoint, &image->cmd };
	json_t *argv = json_array();
	size_t bytes = 0;
	for (unsigned k = 0; k < 2; k++)
		for (size_t i = 0; i < parts[k]->n; i++) {
			bytes += strlen(parts[k]->v[i]) + 1;
			json_array_append_new(argv, json_string(parts[k]->v[i]));
		}
	const char *first = json_string_value(json_array_get(argv, 0));
	if (!first || !first[0] || bytes > SPEC_CMD_BYTES_MAX) {
		json_decref(argv);
		brig_err_set(err, BRIG_E_INVALID, 0, "image '%s' names no command, and none is given",
			     image->name);
		return brig_fix(err, "give the command after --, as in `brig run -- echo hello`");
	}
	if (json_object_set_new(cmd->root, "cmd", argv) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember the command");
	cmd->argv = argv;
	return 0;
}

void cmd_done(struct cmd *cmd)
{
	json_decref(cmd->root);
	*cmd = (struct cmd){ .root = NULL };
}

static int beyond_host(const char *flag, uint64_t value, uint64_t host, const char *unit,
		       struct brig_err *err)
{
	brig_err_set(err, BRIG_E_LIMIT, 0, "--%s asks for %llu %s, this host has %llu", flag,
		     (unsigned long long)value, unit, (unsigned long long)host);
	return brig_fix(err, "ask for less: --%s at most %llu %s", flag, (unsigned long long)host,
			unit);
}

/* Which limit of limits.h a guarantee stands for; LIMIT__N = none of them. */
static unsigned limit_of_bit(uint32_t bit)
{
	switch (bit) {
	case JAIL_ENF_memory:
		return LIMIT_memory_bytes;
	case JAIL_ENF_cpu:
		return LIMIT_cpu_milli;
	case JAIL_ENF_pids:
		return LIMIT_pids;
	case JAIL_ENF_accounting:
		return LIMIT_cpu_time_ms;
	default:
		return LIMIT__N;
	}
}

static int enforce_check(const struct spec *spec, const struct jail_hello *host,
			 struct admission *adm, struct brig_err *err)
{
	for (unsigned i = 0; i < N_ENFORCE; i++) {
		const struct enforce_row *row = &enforce_rows[i];
		if ((host->enforced & row->bit) || (JAIL_ENF_OPTIONAL & row->bit))
			continue;
		unsigned limit = limit_of_bit(row->bit);
		bool given = limit < LIMIT__N && (spec->given & 1u << limit);
		bool accepted = spec->accept & row->bit;
		/* A limit that nobody asked for is told about; the ids of a sandbox are a boundary. */
		bool boundary = row->bit == JAIL_ENF_uidrange;
		if (!accepted && (given || boundary || !host->rootless)) {
			if (given)
				brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
					     "this host cannot enforce --%s: no %s",
					     limit_rows[limit].flag, row->lost);
			else
				brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
					     "this host cannot enforce '%s': no %s", row->name,
					     row->lost);
			return brig_fix(
				err,
				"see `brig doctor` for the change to the host, or accept the "
				"loss with --accept %s",
				row->name);
		}
		adm->missing |= row->bit;
		char text[160];
		snprintf(text, sizeof(text), "not enforced%s: %s", accepted ? " (accepted)" : "",
			 row->lost);
		json_array_append_new(adm->warnings, json_string(text));
	}
	return 0;
}

int spec_admit(const struct spec *spec, const struct jail_hello *host, unsigned live,
	       struct admission *ret, struct brig_err *err)
{
	const struct brig_limits *l = &spec->limits;
	if (l->cpu_milli > (uint64_t)host->cpus * 1000)
		return beyond_host("cpus", (l->cpu_milli + 999) / 1000, host->cpus, "CPUs", err);
	if (l->memory_bytes > host->mem_total)
		return beyond_host("memory", l->memory_bytes, host->mem_total, "bytes", err);
	if (l->pids > host->pids_max)
		return beyond_host("pids", l->pids, host->pids_max, "processes", err);
	if (live >= host->slots) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0,
			     "all %u sandboxes that can live at once on this host exist",
			     host->slots);
		return brig_fix(err, "remove some with `brig rm`, or try again later");
	}
	if (spec->net.link && !host->net) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0, "this server offers no networks");
		return brig_fix(err, "start it without --no-net; `brig doctor` tells what this host lacks");
	}
	struct admission adm = { .warnings = json_array() };
	if (!adm.warnings)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	if (enforce_check(spec, host, &adm, err) < 0) {
		json_decref(adm.warnings);
		return -1;
	}
	adm.accept = spec->accept | adm.missing;
	*ret = adm;
	return 0;
}
