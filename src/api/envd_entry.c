/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: what the tenant's file system says (names, owners, attributes) is text that
 * the tenant chose. It goes into JSON through jansson, which refuses what is no UTF-8.
 */
#include "api/envd_entry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* ---- paths ---- */

/* Appends the parts of `text` to the clean path in ret, which may become "". */
static int clean_add(char ret[PATH_MAX], size_t *at, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "/");
		if (n == 2 && text[0] == '.' && text[1] == '.') {
			while (*at && ret[--*at] != '/')
				;
		} else if (n && !(n == 1 && text[0] == '.')) {
			if (*at + 1 + n >= PATH_MAX)
				return -ENAMETOOLONG;
			ret[(*at)++] = '/';
			memcpy(ret + *at, text, n);
			*at += n;
		}
		text += n;
		text += *text == '/';
	}
	ret[*at] = '\0';
	return 0;
}

int envd_path(const char *asked, const char *home, char ret[PATH_MAX], struct brig_err *err)
{
	size_t at = 0;
	int r = 0;
	if (asked[0] == '~' && asked[1] != '\0' && asked[1] != '/')
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "cannot expand '%.200s': other users' homes are not known by '~'",
				 asked);
	if (asked[0] != '/')
		r = clean_add(ret, &at, home);
	if (r == 0)
		r = clean_add(ret, &at, asked + (asked[0] == '~'));
	if (r < 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "the path is longer than %d bytes",
				 PATH_MAX - 1);
	if (at == 0)
		memcpy(ret, "/", 2);
	return 0;
}

const char *envd_path_base(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash && slash[1] ? slash + 1 : path;
}

int envd_path_join(const char *dir, const char *name, char ret[PATH_MAX])
{
	int n = snprintf(ret, PATH_MAX, "%s%s%s", dir, name[0] && strcmp(dir, "/") != 0 ? "/" : "",
			 name);
	return n < 0 || n >= PATH_MAX ? -1 : 0;
}

int envd_path_compare(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	/* 0 ends a path, 1 is a slash: what is below comes before what has a longer name. */
	unsigned x = *a == '\0' ? 0 : *a == '/' ? 1 : (unsigned char)*a + 1u;
	unsigned y = *b == '\0' ? 0 : *b == '/' ? 1 : (unsigned char)*b + 1u;
	return x < y ? -1 : x > y;
}

/* ---- entries ---- */

void envd_permissions(uint32_t mode, char ret[ENVD_PERMISSIONS_MAX])
{
	static const char rwx[] = "rwxrwxrwx";
	char *at = ret;
	mode_t kind = mode & S_IFMT;
	/* The order of Go's fs.FileMode.String(). */
	if (kind == S_IFDIR)
		*at++ = 'd';
	if (kind == S_IFLNK)
		*at++ = 'L';
	if (kind == S_IFBLK || kind == S_IFCHR)
		*at++ = 'D';
	if (kind == S_IFIFO)
		*at++ = 'p';
	if (kind == S_IFSOCK)
		*at++ = 'S';
	if (mode & S_ISUID)
		*at++ = 'u';
	if (mode & S_ISGID)
		*at++ = 'g';
	if (kind == S_IFCHR)
		*at++ = 'c';
	if (mode & S_ISVTX)
		*at++ = 't';
	if (at == ret)
		*at++ = '-';
	for (int i = 0; i < 9; i++)
		*at++ = mode & 1u << (8 - i) ? rwx[i] : '-';
	*at = '\0';
}

void envd_time(int64_t sec, uint32_t nsec, char ret[ENVD_TIME_MAX])
{
	time_t t = sec;
	struct tm tm;
	/* RFC 3339 has four digits for the year; a tenant may set any time. */
	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 + 1 || tm.tm_year > 9999 - 1900) {
		t = 0;
		gmtime_r(&t, &tm);
		nsec = 0;
	}
	size_t n = strftime(ret, ENVD_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret + n, ENVD_TIME_MAX - n, ".%09uZ", nsec < 1000000000u ? nsec : 0);
}

int envd_entry_parse(const struct frame *f, struct envd_entry *ret)
{
	const uint8_t *at = frame_struct(f, &ret->e, sizeof(ret->e)), *end = f->payload + f->h.len;
	ret->path = at ? frame_str(&at, end) : NULL;
	ret->target = ret->path ? frame_str(&at, end) : NULL;
	ret->owner = ret->target ? frame_str(&at, end) : NULL;
	ret->group = ret->owner ? frame_str(&at, end) : NULL;
	if (!ret->group)
		return -EPROTO;
	ret->meta = at;
	ret->end = end;
	return 0;
}

json_t *envd_entry_metadata(const struct envd_entry *e)
{
	const uint8_t *at = e->meta;
	json_t *o = NULL;
	for (unsigned i = 0; i < BRIG_FS_META_PAIRS; i++) {
		const char *key = frame_str(&at, e->end);
		const char *value = key ? frame_str(&at, e->end) : NULL;
		if (!value)
			break;
		if (!o && !(o = json_object()))
			break;
		/* One that JSON cannot tell is left out. */
		(void)json_object_set_new(o, key, json_string(value));
	}
	return o;
}

static const char *type_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "FILE_TYPE_FILE";
	case S_IFDIR:
		return "FILE_TYPE_DIRECTORY";
	case S_IFLNK:
		return "FILE_TYPE_SYMLINK";
	default:
		return "FILE_TYPE_UNSPECIFIED";
	}
}

json_t *envd_entry_json(const struct envd_entry *e, const char *path)
{
	char perm[ENVD_PERMISSIONS_MAX], when[ENVD_TIME_MAX], size[24];
	bool link = e->target[0] != '\0';
	envd_permissions(link ? S_IFLNK | 0777u : e->e.mode, perm);
	envd_time(e->e.mtime_sec, e->e.mtime_nsec, when);
	snprintf(size, sizeof(size), "%lld", (long long)(e->e.size > INT64_MAX ? 0 : e->e.size));
	json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:s,s:s,s:s}", "name", envd_path_base(path),
			      "type", type_of(e->e.mode), "path", path, "size", size, "mode",
			      (int)(e->e.mode & 07777), "permissions", perm, "owner", e->owner,
			      "group", e->group, "modifiedTime", when);
	json_t *meta = o ? envd_entry_metadata(e) : NULL;
	if (o && link && json_object_set_new(o, "symlinkTarget", json_string(e->target)) < 0)
		json_object_set_new(o, "symlinkTarget", json_string(path));
	if (meta)
		json_object_set_new(o, "metadata", meta);
	return o;
}

/* ---- ends of processes ---- */

/* Go's words, syscall/zerrors_linux_amd64.go. */
static const struct {
	const char *name, *words;
} signals[] = {
	{ "SIGHUP", "hangup" },
	{ "SIGINT", "interrupt" },
	{ "SIGQUIT", "quit" },
	{ "SIGILL", "illegal instruction" },
	{ "SIGTRAP", "trace/breakpoint trap" },
	{ "SIGABRT", "aborted" },
	{ "SIGBUS", "bus error" },
	{ "SIGFPE", "floating point exception" },
	{ "SIGKILL", "killed" },
	{ "SIGUSR1", "user defined signal 1" },
	{ "SIGSEGV", "segmentation fault" },
	{ "SIGUSR2", "user defined signal 2" },
	{ "SIGPIPE", "broken pipe" },
	{ "SIGALRM", "alarm clock" },
	{ "SIGTERM", "terminated" },
	{ "SIGXCPU", "CPU time limit exceeded" },
	{ "SIGXFSZ", "file size limit exceeded" },
	{ "SIGVTALRM", "virtual timer expired" },
	{ "SIGPROF", "profiling timer expired" },
	{ "SIGIO", "I/O possible" },
	{ "SIGPWR", "power failure" },
	{ "SIGSYS", "bad system call" },
};

void envd_exit_of(json_t *status, struct envd_exit *ret)
{
	const char *sig = json_string_value(json_object_get(status, "signal"));
	const char *why = json_string_value(json_object_get(status, "stop_reason"));
	json_t *evidence = json_object_get(status, "evidence");
	const char *words = sig;
	*ret = (struct envd_exit){ .code = -1 };
	if (!sig && why && strcmp(why, "exited") == 0) {
		ret->exited = true;
		ret->code = (int)json_integer_value(json_object_get(status, "exit_code"));
		snprintf(ret->status, sizeof(ret->status), "exit status %d", ret->code);
		if (ret->code)
			memcpy(ret->error, ret->status, sizeof(ret->error));
		return;
	}
	/* brigd ended it for a limit: that is a kill, too. */
	if (!sig)
		sig = words = "SIGKILL";
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (strcmp(signals[i].name, sig) == 0)
			words = signals[i].words;
	snprintf(ret->status, sizeof(ret->status), "signal: %.40s%s", words,
		 json_is_true(json_object_get(evidence, "core")) ? " (core dumped)" : "");
	memcpy(ret->error, ret->status, sizeof(ret->error));
}
