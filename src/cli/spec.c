/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Turns flags into the SPEC of client_proto.h. Nothing of the caller leaks into it: of the
 * environment only what --env names, of the file system only what --volume names. A volume is
 * opened here, with the caller's own rights and by the caller's own idea of the path, and travels
 * as a descriptor, so that no privileged process ever resolves a path of the host on somebody's
 * behalf.
 */
#include "cli/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mountfd.h"
#include "cli/env.h"
#include "cli/remote.h"
#include "cli/snapspec.h"
#include "cli/volumeuse.h"

#define NAME_MAX_LEN 63u

int name_check(const char *name, struct brig_err *err)
{
	static const char set[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t n = strspn(name, set);
	if (n >= 1 && n <= NAME_MAX_LEN && !name[n] && !strchr("_.-", name[0]))
		return 0;
	return brig_fail(
		err, BRIG_E_INVALID, 0,
		"--name '%.80s' is not 1 to %u of a-z A-Z 0-9 _ . - with a letter or digit "
		"first",
		name, NAME_MAX_LEN);
}

int workdir_check(const char *dir, struct brig_err *err)
{
	if (dir[0] == '/')
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0, "--workdir '%.128s' is not an absolute path", dir);
}

int user_check(const char *user, struct brig_err *err)
{
	const char *colon = strchr(user, ':');
	if (user[0] && user[0] != ':' && (!colon || (colon[1] && !strchr(colon + 1, ':'))))
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0,
			 "--user '%.80s' is not NAME, UID, NAME:GROUP or UID:GID", user);
}

static int hostname_check(const char *name, struct brig_err *err)
{
	static const char set[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	size_t n = strspn(name, set);
	if (n >= 1 && n <= 63 && !name[n] && !strchr(".-", name[0]) && !strchr(".-", name[n - 1]))
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0,
			 "--hostname '%.80s' is not 1 to 63 of a-z A-Z 0-9 . - between letters or "
			 "digits",
			 name);
}

json_t *command_json(int argc, char **argv, struct brig_err *err)
{
	json_t *a = json_array();
	for (int i = 0; a && i < argc; i++) {
		json_t *v = json_string(argv[i]);
		if (!v) {
			json_decref(a);
			brig_err_set(err, BRIG_E_INVALID, 0,
				     "argument %d of the command is not valid UTF-8", i);
			brig_err_remedy(err, "pass such bytes by standard input or in a file");
			return NULL;
		}
		if (json_array_append_new(a, v) < 0) {
			json_decref(a);
			a = NULL;
		}
	}
	if (!a)
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	return a;
}

/* The same rule as brigd's, so that the mistake is told before anything is started. */
static const char *guest_fault(const char *s)
{
	if (s[0] != '/')
		return "is not an absolute path";
	if (strlen(s) >= JAIL_PATH_MAX)
		return "is too long";
	if (!s[1])
		return "is the root directory";
	while (*s == '/') {
		size_t n = strcspn(++s, "/");
		if (n == 0)
			return "has an empty part";
		if ((n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return "has a '.' or '..' part";
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
				return "has a control character";
			else if (s[i] == ':')
				return "has a ':' (the only option behind it is :ro)";
		s += n;
	}
	return NULL;
}

/* HOST may itself contain colons: GUEST begins at the last ":/", or, where there is none, behind
 * the last colon, so that a relative guest path is named as the mistake it is. */
int volume_parse(const char *text, struct volume *ret, struct brig_err *err)
{
	AUTO_FREE char *host = strdup(text);
	struct volume v = { .readonly = false };
	if (!host)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read --volume");
	char *colon = strrchr(host, ':');
	if (colon && (strcmp(colon, ":ro") == 0 || strcmp(colon, ":rw") == 0)) {
		v.readonly = colon[2] == 'o';
		*colon = '\0';
		colon = strrchr(host, ':');
	}
	for (char *p = host; (p = strstr(p, ":/")); p++)
		colon = p;
	if (!colon || colon == host || !colon[1]) {
		brig_err_set(err, BRIG_E_INVALID, 0, "--volume '%.200s' is not HOST:GUEST[:ro]",
			     text);
		return brig_fix(err, "for example --volume ./data:/data:ro, or NAME:/data for a volume of the server");
	}
	*colon = '\0';
	v.guest = colon + 1;
	/* A volume of the server may have what is written to the root. */
	bool root = strcmp(v.guest, "/") == 0 && volumeuse_named(host) && !v.readonly;
	const char *fault = root ? NULL : guest_fault(v.guest);
	if (fault)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "--volume '%.200s': the path inside, '%.100s', %s", text, v.guest,
				 fault);
	v.host = host;
	host = NULL;
	*ret = v;
	return 0;
}

static int volume_open(const struct volume *v, int *ret, struct brig_err *err)
{
	/* O_PATH asks for no right on the object itself: ask for reading, as the sandbox will. */
	AUTO_FD fd = open(v->host, O_PATH | O_CLOEXEC);
	if (fd < 0 ||
	    faccessat(fd, "", v->readonly ? R_OK : R_OK | W_OK, AT_EMPTY_PATH | AT_EACCESS) < 0) {
		int sys = errno;
		brig_err_set(err,
			     sys == ENOENT || sys == ENOTDIR ? BRIG_E_NOT_FOUND : BRIG_E_DENIED,
			     sys, "volume '%.256s'", v->host);
		if (sys == ENOENT)
			return brig_fix(err, "make it first; brig does not create host paths");
		if (fd >= 0 && !v->readonly)
			return brig_fix(
				err, "give yourself read and write access, or add :ro if reading "
				     "is enough");
		return brig_fix(err, "check the path and its permissions");
	}
	if (geteuid() != 0) {
		*ret = fd_steal(&fd);
		return 0;
	}
	/* As root the volume travels as a detached mount: brig-jaild takes nothing else, because
	 * only a caller with CAP_SYS_ADMIN can make one, and brigd cannot. */
	int tree = mntfd_clone(fd, "", MNTFD_AT_EMPTY_PATH);
	if (tree < 0) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, -tree, "clone the mount of volume '%.256s'",
			     v->host);
		return brig_fix(err, "run as root of the host, on Linux 5.15 or newer");
	}
	*ret = tree;
	return 0;
}

static int ports_add(json_t *spec, const struct strlist *ports, struct brig_err *err)
{
	json_t *a = json_array();
	if (json_object_set_new(spec, "ports", a) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	for (size_t i = 0; i < ports->n; i++)
		if (json_array_append_new(a, json_string(ports->v[i])) < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "--publish '%.64s' is not valid UTF-8",
					 ports->v[i]);
	return 0;
}

static int labels_add(json_t *spec, const struct strlist *labels, struct brig_err *err)
{
	json_t *o = json_object();
	if (json_object_set_new(spec, "labels", o) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	for (size_t i = 0; i < labels->n; i++) {
		const char *text = labels->v[i], *eq = strchr(text, '=');
		size_t n = eq ? (size_t)(eq - text) : strlen(text);
		AUTO_FREE char *key = strndup(text, n);
		if (n == 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "--label '%.64s' has no key",
					 text);
		if (!key || json_object_set_new(o, key, json_string(eq ? eq + 1 : "")) < 0)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "--label '%.64s' is not valid UTF-8", text);
	}
	return 0;
}

static bool enforce_known(const char *name, size_t n)
{
	static const char *const names[] = {
#define X(bit, name_, lost) #name_,
		BRIG_ENFORCE(X)
#undef X
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
			return true;
	return false;
}

int spec_accept_add(json_t *array, const char *source, const char *text, struct brig_err *err)
{
	for (const char *p = text; *p; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ", ");
		if (!enforce_known(p, n)) {
			brig_err_set(err, BRIG_E_INVALID, 0, "%s: unknown name '%.*s'", source,
				     (int)(n < 64 ? n : 64), p);
			return brig_fix(err,
					"names are memory, cpu, pids, swap, accounting, uidrange, "
					"idmap, timens and io");
		}
		if (json_array_append_new(array, json_stringn(p, n)) < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
		p += n;
	}
	return 0;
}

static int accepts_add(json_t *spec, const struct strlist *accept, struct brig_err *err)
{
	const char *env = getenv("BRIG_ACCEPT");
	json_t *array = json_array();
	if (json_object_set_new(spec, "accept", array) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (env && spec_accept_add(array, "BRIG_ACCEPT", env, err) < 0)
		return -1;
	for (size_t i = 0; i < accept->n; i++)
		if (spec_accept_add(array, "--accept", accept->v[i], err) < 0)
			return -1;
	return 0;
}

/* Volumes are parsed together before the first is opened: a mistake in the command line is told
 * before a file that is missing. */
static int volumes_add(struct spec_built *b, const struct strlist *texts, bool *ret_usage,
		       struct brig_err *err)
{
	struct volume v[JAIL_VOLUMES_MAX];
	json_t *array = json_array();
	size_t n = 0;
	int r = 0;
	*ret_usage = true;
	if (texts->n > JAIL_VOLUMES_MAX)
		r = brig_fail(err, BRIG_E_INVALID, 0, "more than %u --volume", JAIL_VOLUMES_MAX);
	while (r == 0 && n < texts->n) {
		r = volume_parse(texts->v[n], &v[n], err);
		n += r == 0;
	}
	if (r == 0)
		*ret_usage = false;
	for (size_t i = 0; r == 0 && i < n; i++) {
		json_t *o = NULL;
		if (volumeuse_named(v[i].host)) {
			o = volumeuse_json(v[i].host, v[i].guest, v[i].readonly, err);
			r = o ? json_array_append_new(array, o) : -1;
			continue;
		}
		if (remote_wanted()) {
			brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
				     "--volume '%.64s' is a folder of this machine, and BRIG_URL names a server "
				     "elsewhere", texts->v[i]);
			r = brig_fix(err, "name a volume of that server (brig volume create), or use brig create, "
					  "brig cp and brig exec");
			break;
		}
		r = volume_open(&v[i], &b->fds[b->nfds], err);
		if (r < 0)
			break;
		o = json_pack("{s:i,s:s,s:b}", "fd", (int)b->nfds, "guest", v[i].guest, "readonly",
			      (int)v[i].readonly);
		b->nfds++;
		if (!o)
			r = brig_fail(err, BRIG_E_INVALID, 0, "--volume '%.64s' is not valid UTF-8",
				      texts->v[i]);
		else
			(void)json_array_append_new(array, o);
	}
	for (size_t i = 0; i < n; i++)
		free(v[i].host);
	if (r == 0 && json_array_size(array) == n && json_object_set(b->spec, "volumes", array) < 0)
		r = brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	json_decref(array);
	return r;
}

/* After everything that was said: the snapshot fills what is left open. */
static int snapshot_add(struct spec_built *b, const char *ref, struct brig_err *err)
{
	if (remote_wanted())
		return json_object_set_new(b->spec, "snapshot", json_string(ref)) < 0
			       ? brig_fail(err, BRIG_E_INVALID, 0, "--snapshot is not valid UTF-8")
			       : 0;
	if (snapspec_use(b->spec, ref, &b->fds[b->nfds], err) < 0)
		return -1;
	return json_object_set_new(b->spec, "layer", json_integer((json_int_t)b->nfds++)) < 0
		       ? brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request")
		       : 0;
}

static int strings_add(json_t *spec, const struct spec_opts *o, struct brig_err *err)
{
	const char *tier = getenv("BRIG_TIER");
	const struct {
		const char *key, *value;
	} strings[] = {
		{ "tier", o->tier ? o->tier : tier && tier[0] ? tier : NULL },
	     { "image", o->image },	{ "name", o->name },
		{ "hostname", o->hostname }, { "workdir", o->workdir }, { "user", o->user },
	};
	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
		if (!strings[i].value)
			continue;
		if (json_object_set_new(spec, strings[i].key, json_string(strings[i].value)) < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "--%s is not valid UTF-8",
					 strings[i].key);
	}
	return 0;
}

static int strings_check(const struct spec_opts *o, struct brig_err *err)
{
	if (o->image && o->snapshot) {
		brig_err_set(err, BRIG_E_INVALID, 0, "--snapshot brings its own image: --image excludes it");
		return brig_fix(err, "leave --image out");
	}
	if (o->image && !o->image[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "--image '' names no image");
	if ((o->name && name_check(o->name, err) < 0) ||
	    (o->hostname && hostname_check(o->hostname, err) < 0) ||
	    (o->workdir && workdir_check(o->workdir, err) < 0) ||
	    (o->user && user_check(o->user, err) < 0))
		return -1;
	return 0;
}

int spec_build(struct cli *cli, const struct spec_opts *o, bool tty, struct spec_built *ret)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct spec_built b = { .spec = json_object() };
	json_t *env = NULL, *network = NULL;
	bool usage = true;
	int r = b.spec ? 0 : brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0)
		r = strings_check(o, &err);
	if (r == 0)
		r = strings_add(b.spec, o, &err);
	if (r == 0 && o->labels.n)
		r = labels_add(b.spec, &o->labels, &err);
	if (r == 0 && (o->accept.n || getenv("BRIG_ACCEPT")))
		r = accepts_add(b.spec, &o->accept, &err);
	if (r == 0 && json_object_set_new(b.spec, "limits", limits_to_json(o->limits)) < 0)
		r = brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0)
		r = net_opts_json(&o->net, &network, &err);
	if (r == 0 && network) {
		usage = false;
		r = net_opts_known(network, &err);
		usage = r == 0;
	}
	if (r == 0 && network && json_object_set_new(b.spec, "network", network) < 0)
		r = brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0 && o->ports.n)
		r = ports_add(b.spec, &o->ports, &err);
	if (r == 0 && o->volumes.n)
		r = volumes_add(&b, &o->volumes, &usage, &err);
	if (r == 0)
		r = env_build(&o->env_files, &o->env, tty, &env, &usage, &err);
	if (r == 0 && json_object_set_new(b.spec, "env", env) < 0)
		r = brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0 && o->snapshot) {
		usage = false;
		r = snapshot_add(&b, o->snapshot, &err);
	}
	if (r == 0)
		r = secretuse_add(b.spec, &o->secrets, &usage, &err);
	if (r < 0) {
		spec_built_done(&b);
		return usage && err.code == BRIG_E_INVALID ? cli_usage_err(cli, &err)
							   : cli_fail(cli, &err);
	}
	*ret = b;
	return 0;
}

void spec_built_done(struct spec_built *b)
{
	json_decref(b->spec);
	b->spec = NULL;
	for (unsigned i = 0; i < b->nfds; i++)
		fd_close(&b->fds[i]);
	b->nfds = 0;
}
