/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The key is everything that a sandbox's walls are made of, as far as it can be told at once: the
 * kernel's release and build, brig's version, the identity of the programs (size and time of
 * change), who runs them, and the guarantees that are done without. If any of it differs the
 * attacks are run again. The file is replaced as a whole; one that cannot be read is as good as
 * none.
 *
 * Who can write to the data folder can write a good result; he could as well replace the images.
 */
#include "cli/selftest_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/spawn.h"

#define NAME "selftest.json"
#define FILE_MAX (1024u * 1024u)

static json_t *key_of(const char *accept)
{
	static const char *const names[] = { "brigd", "brig-jaild", "brig-agent", "brig-sudo",
					     "brig-attack" };
	char path[PATH_MAX], programs[600] = "";
	struct utsname u;
	struct stat sb;
	size_t at = 0;
	if (uname(&u) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (spawn_find(names[i], path, NULL) < 0 || stat(path, &sb) < 0)
			memset(&sb, 0, sizeof(sb));
		int n = snprintf(programs + at, sizeof(programs) - at, "%s%s:%lld:%lld.%09ld",
				 at ? " " : "", names[i], (long long)sb.st_size,
				 (long long)sb.st_mtim.tv_sec, sb.st_mtim.tv_nsec);
		if (n < 0 || (size_t)n >= sizeof(programs) - at)
			return NULL;
		at += (size_t)n;
	}
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:s}", "kernel", u.release, "build", u.version,
			 "machine", u.machine, "version", BRIG_VERSION, "programs", programs,
			 "user", (int)geteuid(), "accept", accept ? accept : "");
}

static int path_of(const char *data, const char *name, char ret[PATH_MAX])
{
	int n = snprintf(ret, PATH_MAX, "%s/%s", data, name);
	return n > 0 && n < PATH_MAX ? 0 : -1;
}

json_t *selftest_kept(const char *data, const char *accept)
{
	char path[PATH_MAX];
	if (path_of(data, NAME, path) < 0)
		return NULL;
	AUTO_FREE char *text = malloc(FILE_MAX);
	if (!text || fd_slurp_at(AT_FDCWD, path, text, FILE_MAX) < 0)
		return NULL;
	json_t *file = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *key = key_of(accept);
	json_t *report = NULL;
	if (key && json_equal(json_object_get(file, "key"), key))
		report = json_incref(json_object_get(file, "report"));
	if (!json_is_object(json_object_get(report, "tiers"))) {
		json_decref(report);
		report = NULL;
	}
	json_decref(file);
	json_decref(key);
	return report;
}

int selftest_keep(const char *data, const char *accept, const json_t *report, struct brig_err *err)
{
	char path[PATH_MAX], fresh[PATH_MAX];
	json_t *file = json_pack("{s:o,s:O}", "key", key_of(accept), "report", report);
	AUTO_FREE char *text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;
	json_decref(file);
	if (!text || path_of(data, NAME, path) < 0 || path_of(data, NAME ".new", fresh) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the selftest's result");
	/* The first start of all; as apiproc.c makes it. */
	if (mkdir(data, 0755) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the data folder '%.256s'",
				 data);
	AUTO_FD fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));
	if (r == 0 && rename(fresh, path) == 0)
		return 0;
	r = r ? r : -errno;
	unlink(fresh);
	return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "keep the selftest's result in '%.256s'",
			 path);
}

int selftest_reason(const json_t *report, const char *tier, char *ret, size_t cap)
{
	const json_t *found = json_object_get(json_object_get(report, "tiers"), tier);
	const json_t *rows = json_object_get(report, "attacks");
	json_t *v;
	size_t i, at, names = 0;
	if (json_is_true(json_object_get(found, "ok")))
		return 0;
	if (!found) {
		snprintf(ret, cap, "the result of the selftest that is kept has no word about it");
		return 1;
	}
	long long escaped = json_integer_value(json_object_get(found, "escaped"));
	long long undecided = json_integer_value(json_object_get(found, "undecided"));
	at = (size_t)snprintf(
		ret, cap, "its selftest did not contain every attack: %lld escaped, %lld undecided",
		escaped, undecided);
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		const char *result = json_string_value(json_object_get(v, "result"));
		const char *of = json_string_value(json_object_get(v, "tier"));
		const char *name = json_string_value(json_object_get(v, "attack"));
		if (!result || !of || !name || strcmp(of, tier) != 0 ||
		    (strcmp(result, "escaped") != 0 && strcmp(result, "undecided") != 0))
			continue;
		if (names++ == 5 || at + strlen(name) + 8 > cap)
			break;
		at += (size_t)snprintf(ret + at, cap - at, "%s%s", names == 1 ? " (" : ", ", name);
	}
	if (names && at + 6 < cap)
		snprintf(ret + at, cap - at, names > 5 ? ", ..)" : ")");
	return 1;
}
