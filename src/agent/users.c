/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A file is walked line by line through a buffer on the stack; a line that does not fit is skipped
 * to its end. No more than FILE_MAX bytes are looked at, so a file that grows without end costs a
 * bounded time. The file is opened without blocking and must be a regular one: the tenant may have
 * put a FIFO in its place.
 *
 * libc's getpwnam() is not used: it loads NSS modules where there are any, allocates, and reads
 * without a bound.
 */
#include "agent/users.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define FILE_MAX (1024u * 1024u)
#define LINE_MAX_BYTES 8192u

static const char passwd_file[] = "/etc/passwd", group_file[] = "/etc/group";

struct lines {
	int fd;
	size_t head, tail, total;
	bool skip; /* inside a line that was too long */
	bool eof;
	char buf[LINE_MAX_BYTES];
};

static int lines_open(struct lines *l, const char *path, struct stat *ret_st)
{
	l->head = l->tail = l->total = 0;
	l->skip = l->eof = false;
	l->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (l->fd < 0)
		return -errno;
	if (fstat(l->fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode)) {
		fd_close(&l->fd);
		return -EINVAL;
	}
	return 0;
}

static void lines_fill(struct lines *l)
{
	memmove(l->buf, l->buf + l->head, l->tail - l->head);
	l->tail -= l->head;
	l->head = 0;
	if (l->tail == sizeof(l->buf)) {
		l->tail = 0;
		l->skip = true;
	}
	size_t room = sizeof(l->buf) - l->tail;
	ssize_t n = l->total < FILE_MAX ? read(l->fd, l->buf + l->tail, room) : 0;
	/* A regular file reads short only at its end. */
	l->eof = n < (ssize_t)room;
	if (n <= 0)
		return;
	l->tail += (size_t)n;
	l->total += (size_t)n;
}

/* The next line without its newline, or NULL at the end. Valid until the next call. */
static char *lines_next(struct lines *l)
{
	for (;;) {
		char *at = l->buf + l->head;
		char *nl = memchr(at, '\n', l->tail - l->head);
		if (nl) {
			bool skipped = l->skip;
			*nl = '\0';
			l->head = (size_t)(nl + 1 - l->buf);
			l->skip = false;
			if (!skipped)
				return at;
		} else if (!l->eof) {
			lines_fill(l);
		} else {
			/* A last line without newline counts if it was read whole. */
			size_t n = l->tail - l->head;
			if (n == 0 || l->skip || n == sizeof(l->buf) || l->total >= FILE_MAX)
				return NULL;
			memmove(l->buf, at, n);
			l->buf[n] = '\0';
			l->head = l->tail = 0;
			return l->buf;
		}
	}
}

/* Cuts the line at its colons; returns the number of fields, at most max. */
static unsigned fields_cut(char *line, char **field, unsigned max)
{
	unsigned n = 0;
	while (n < max) {
		field[n++] = line;
		char *colon = strchr(line, ':');
		if (!colon)
			break;
		*colon = '\0';
		line = colon + 1;
	}
	return n;
}

/* Decimal digits only; (uid_t)-1 means "unchanged" to the kernel and is no id. */
static bool id_parse(const char *s, unsigned *ret)
{
	unsigned v = 0;
	if (*s == '\0')
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (unsigned)(*s - '0'), &v))
			return false;
	}
	if (v == UINT_MAX)
		return false;
	*ret = v;
	return true;
}

static bool copy_text(char *dst, size_t cap, const char *src)
{
	size_t n = strlen(src);
	if (n >= cap)
		return false;
	memcpy(dst, src, n + 1);
	return true;
}

struct passwd_line {
	const char *name, *home, *shell;
	unsigned uid, gid;
};

static bool passwd_parse(char *line, struct passwd_line *ret)
{
	char *f[7];
	if (fields_cut(line, f, 7) != 7 || f[0][0] == '\0' || strlen(f[0]) >= USER_NAME_MAX)
		return false;
	if (!id_parse(f[2], &ret->uid) || !id_parse(f[3], &ret->gid))
		return false;
	ret->name = f[0];
	ret->home = f[5];
	ret->shell = f[6];
	return true;
}

struct group_line {
	const char *name, *members;
	unsigned gid;
};

static bool group_parse(char *line, struct group_line *ret)
{
	char *f[4];
	unsigned n = fields_cut(line, f, 4);
	if (n < 3 || f[0][0] == '\0' || strlen(f[0]) >= USER_NAME_MAX || !id_parse(f[2], &ret->gid))
		return false;
	ret->name = f[0];
	ret->members = n == 4 ? f[3] : "";
	return true;
}

/* name is one of the comma-separated words of list. */
static bool list_has(const char *list, const char *name)
{
	size_t n = strlen(name);
	while (*list) {
		size_t k = strcspn(list, ",");
		if (k == n && memcmp(list, name, n) == 0)
			return true;
		list += k + (list[k] == ',');
	}
	return false;
}

/* Fills u from the entry named `who`, or else of that uid. */
static bool passwd_find(const char *who, struct user *u)
{
	struct lines l;
	struct stat st;
	unsigned uid = 0;
	bool by_name = false, by_uid = false, numeric = id_parse(who, &uid);
	if (lines_open(&l, passwd_file, &st) < 0)
		return false;
	char *line;
	while (!by_name && (line = lines_next(&l))) {
		struct passwd_line p;
		if (!passwd_parse(line, &p))
			continue;
		by_name = strcmp(p.name, who) == 0;
		if (!by_name && (by_uid || !numeric || p.uid != uid))
			continue;
		by_uid = true;
		u->uid = p.uid;
		u->gid = p.gid;
		copy_text(u->name, sizeof(u->name), p.name);
		if (p.home[0] != '/' || !copy_text(u->home, sizeof(u->home), p.home))
			copy_text(u->home, sizeof(u->home), "/");
		if (p.shell[0] != '/' || !copy_text(u->shell, sizeof(u->shell), p.shell))
			copy_text(u->shell, sizeof(u->shell), "/bin/sh");
	}
	fd_close(&l.fd);
	return by_name || by_uid;
}

static bool group_find(const char *who, gid_t *ret)
{
	struct lines l;
	struct stat st;
	unsigned gid;
	bool by_name = false, numeric = id_parse(who, &gid);
	if (lines_open(&l, group_file, &st) == 0) {
		char *line;
		while (!by_name && (line = lines_next(&l))) {
			struct group_line g;
			if (!group_parse(line, &g) || strcmp(g.name, who) != 0)
				continue;
			by_name = true;
			gid = g.gid;
		}
		fd_close(&l.fd);
	}
	if (by_name || numeric)
		*ret = gid;
	return by_name || numeric;
}

static void groups_collect(struct user *u)
{
	struct lines l;
	struct stat st;
	if (u->name[0] == '\0' || lines_open(&l, group_file, &st) < 0)
		return;
	char *line;
	while (u->ngroups < USER_GROUPS_MAX && (line = lines_next(&l))) {
		struct group_line g;
		if (group_parse(line, &g) && g.gid != u->gid && list_has(g.members, u->name))
			u->groups[u->ngroups++] = g.gid;
	}
	fd_close(&l.fd);
}

int user_lookup(const char *spec, struct user *ret)
{
	char who[USER_NAME_MAX];
	size_t n = strcspn(spec, ":");
	if (n >= sizeof(who) || (n == 0 && spec[0] != '\0'))
		return -ENOENT;
	memcpy(who, n ? spec : "0", n ? n : 1);
	who[n ? n : 1] = '\0';

	struct user u = { .home = "/", .shell = "/bin/sh" };
	if (!passwd_find(who, &u) && !id_parse(who, &u.uid))
		return -ENOENT;
	if (spec[n] == '\0')
		groups_collect(&u);
	else if (!group_find(spec + n + 1, &u.gid))
		return -ENOENT;
	*ret = u;
	return 0;
}

/* The name field of the first line whose third field is id; both files begin alike. */
static void name_of(const char *path, unsigned id, char *ret, size_t cap)
{
	struct lines l;
	struct stat st;
	bool found = false;
	if (lines_open(&l, path, &st) == 0) {
		char *line;
		while (!found && (line = lines_next(&l))) {
			struct group_line g;
			found = group_parse(line, &g) && g.gid == id && copy_text(ret, cap, g.name);
		}
		fd_close(&l.fd);
	}
	if (!found)
		snprintf(ret, cap, "%u", id);
}

void user_name(uid_t uid, char *ret, size_t cap)
{
	name_of(passwd_file, uid, ret, cap);
}

void group_name(gid_t gid, char *ret, size_t cap)
{
	name_of(group_file, gid, ret, cap);
}

bool user_in_group(const struct user *u, const char *group)
{
	struct lines l;
	struct stat st;
	bool in = false;
	if (u->name[0] == '\0' || lines_open(&l, group_file, &st) < 0)
		return false;
	char *line;
	while (!in && (line = lines_next(&l))) {
		struct group_line g;
		in = group_parse(line, &g) && strcmp(g.name, group) == 0 &&
		     (g.gid == u->gid || list_has(g.members, u->name));
	}
	fd_close(&l.fd);
	return in;
}

bool users_file_lists(const char *path, const char *word)
{
	struct lines l;
	struct stat st;
	bool found = false;
	if (lines_open(&l, path, &st) < 0)
		return false;
	char *line;
	while (st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH)) && !found &&
	       (line = lines_next(&l)))
		found = strcmp(line, word) == 0;
	fd_close(&l.fd);
	return found;
}
