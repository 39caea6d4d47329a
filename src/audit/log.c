/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A record is one write() of one line. It reaches the page cache before the caller goes on, and the
 * disk by fdatasync(), which the caller chooses: at once for what must not be lost, or once for many
 * records. So a process that dies loses nothing, and a machine that dies loses what is younger than
 * the last sync.
 *
 * A write that failed half-way is taken back by ftruncate(), and the chain with it; if that fails,
 * too, nothing is written any more until it works: a later record must not follow half a line.
 *
 * Space is allocated ahead with FALLOC_FL_KEEP_SIZE: the blocks belong to the file, its size is
 * still that of what was written. A file that is left or closed gives back what it did not need.
 *
 * After a power cut the file may end in the middle of a line, or in zeros. Whatever is behind the
 * last newline is cut off at the next start. If the last whole line is no record the log is damaged,
 * and the server does not start on top of it: the damage is to be looked at, not to be buried.
 */
#include "audit/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

/* Allocated at a time beyond what is needed. */
#define AHEAD (1024ull * 1024)

struct audit_log {
	struct audit_key *key;
	struct audit_log_opts o;
	int dir, fd;
	struct audit_chain chain;
	uint64_t size, allocated; /* of the file that is written */
	uint64_t since_head;
	bool dirty, crooked; /* crooked: a half-written line could not be taken back */
	bool no_alloc;	     /* the file system cannot */
};

/* ---- names ---- */

void audit_file_name(uint64_t seq, char ret[AUDIT_FILE_NAME_MAX])
{
	snprintf(ret, AUDIT_FILE_NAME_MAX, "%020llu.jsonl", (unsigned long long)seq);
}

uint64_t audit_file_number(const char *name)
{
	static const char end[] = ".jsonl";
	if (strlen(name) != AUDIT_FILE_DIGITS + sizeof(end) - 1 ||
	    strspn(name, "0123456789") != AUDIT_FILE_DIGITS ||
	    memcmp(name + AUDIT_FILE_DIGITS, end, sizeof(end)) != 0)
		return 0;
	errno = 0;
	unsigned long long n = strtoull(name, NULL, 10);
	return errno ? 0 : n;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

int audit_files(int dir_fd, uint64_t **ret, size_t *ret_n)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	uint64_t *all = calloc(AUDIT_FILES_MAX, sizeof(*all));
	size_t n = 0;
	int r = !d ? -errno : !all ? -ENOMEM : 0;
	if (!d)
		fd_close(&fd);
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		uint64_t seq = audit_file_number(e->d_name);
		if (seq && n == AUDIT_FILES_MAX)
			r = -E2BIG;
		else if (seq)
			all[n++] = seq;
	}
	if (d)
		closedir(d);
	if (r < 0) {
		free(all);
		return r;
	}
	qsort(all, n, sizeof(*all), by_number);
	*ret = all;
	*ret_n = n;
	return 0;
}

/* ---- opening ---- */

/* The last whole line before size, with its newline: its offset and bytes. 0; 1: the file has none;
 * -errno. *ret_torn: bytes behind it. */
static int last_line(int fd, uint64_t size, char ret[AUDIT_LINE_MAX], size_t *ret_n,
		     uint64_t *ret_torn)
{
	char tail[AUDIT_LINE_MAX];
	uint64_t end = size, at = 0;
	/* The newline: whatever follows it is torn, however long (zeros of a file system). */
	*ret_torn = 0;
	while (end > 0) {
		size_t n = end < sizeof(tail) ? (size_t)end : sizeof(tail);
		ssize_t got = pread(fd, tail, n, (off_t)(end - n));
		if (got != (ssize_t)n)
			return got < 0 ? -errno : -EIO;
		char *nl = memrchr(tail, '\n', n);
		if (nl) {
			at = end - n + (uint64_t)(nl - tail) + 1;
			break;
		}
		end -= n;
	}
	*ret_torn = size - at;
	if (at == 0)
		return 1;
	size_t n = at < sizeof(tail) ? (size_t)at : sizeof(tail);
	ssize_t got = pread(fd, tail, n, (off_t)(at - n));
	if (got != (ssize_t)n)
		return got < 0 ? -errno : -EIO;
	/* Without one before it the line begins here, or is longer than any record: no record, then. */
	const char *before = memrchr(tail, '\n', n - 1);
	size_t from = before ? (size_t)(before + 1 - tail) : 0;
	*ret_n = n - from;
	memcpy(ret, tail + from, *ret_n);
	return 0;
}

static int file_open(struct audit_log *l, uint64_t seq, int flags)
{
	char name[AUDIT_FILE_NAME_MAX];
	audit_file_name(seq, name);
	int fd = openat(l->dir, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int damaged(struct brig_err *err, uint64_t seq)
{
	brig_err_set(err, BRIG_E_CORRUPT, 0,
		     "the audit log's file %020llu.jsonl does not end with a record",
		     (unsigned long long)seq);
	return brig_fix(err, "keep it for `brig audit verify`, and move the folder " AUDIT_FOLDER
			     " away: a new log is begun");
}

/* The chain's end: in the last file, or in the one before if the last was begun and is empty. */
static int resume(struct audit_log *l, const uint64_t *files, size_t n, uint64_t *ret_torn,
		  struct brig_err *err)
{
	char line[AUDIT_LINE_MAX];
	struct stat st;
	size_t len = 0;
	uint64_t torn = 0;
	bool head = false, last = true;
	l->chain = (struct audit_chain){ .seq = 1 };
	for (; n; n--, last = false) {
		AUTO_FD fd = file_open(l, files[n - 1], last ? O_RDWR | O_APPEND : O_RDONLY);
		if (fd < 0 || fstat(fd, &st) < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, fd < 0 ? -fd : errno,
					 "open the audit log's file %020llu.jsonl",
					 (unsigned long long)files[n - 1]);
		int r = last_line(fd, (uint64_t)st.st_size, line, &len, &torn);
		if (r < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "read the audit log");
		if (!last && torn)
			return damaged(err, files[n - 1]);
		if (r == 0 &&
		    audit_chain_after(line, len, &l->chain, &head) != AUDIT_GOOD)
			return damaged(err, files[n - 1]);
		if (last) {
			if (torn && ftruncate(fd, st.st_size - (off_t)torn) < 0)
				return brig_fail(err, BRIG_E_UNAVAILABLE, errno,
						 "cut the torn end of the audit log");
			*ret_torn = torn;
			l->size = l->allocated = (uint64_t)st.st_size - torn;
			l->fd = fd_steal(&fd);
		}
		if (r == 0)
			break;
	}
	/* What is not headed, or not known to be, gets a head soon. */
	l->since_head = l->chain.seq > 1 && !head;
	return 0;
}

static int file_begin(struct audit_log *l)
{
	int fd = file_open(l, l->chain.seq, O_RDWR | O_CREAT | O_APPEND | O_EXCL);
	if (fd < 0)
		return fd;
	if (fsync(l->dir) < 0) {
		int e = errno;
		close(fd);
		return -e;
	}
	fd_close(&l->fd);
	l->fd = fd;
	l->size = l->allocated = 0;
	return 0;
}

int audit_log_open(int dir_fd, struct audit_key *key, const struct audit_log_opts *o,
		   struct audit_log **ret, uint64_t *ret_torn, struct brig_err *err)
{
	uint64_t *files = NULL;
	size_t n = 0;
	struct audit_log *l = calloc(1, sizeof(*l));
	if (!l)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the audit log");
	*ret_torn = 0;
	l->fd = -1;
	l->key = key;
	l->o = *o;
	if (!l->o.rotate_bytes)
		l->o.rotate_bytes = AUDIT_ROTATE_DEFAULT;
	int r = mkdirat(dir_fd, AUDIT_FOLDER, 0700);
	l->dir = openat(dir_fd, AUDIT_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = l->dir < 0 ? -errno : audit_files(l->dir, &files, &n);
	if (r < 0)
		r = brig_fail(err, BRIG_E_UNAVAILABLE, -r, "open the folder of the audit log");
	else
		r = resume(l, files, n, ret_torn, err);
	free(files);
	if (r == 0 && l->fd < 0 && (r = file_begin(l)) < 0)
		r = brig_fail(err, BRIG_E_UNAVAILABLE, -r, "begin the audit log");
	if (r < 0) {
		fd_close(&l->dir);
		fd_close(&l->fd);
		free(l);
		return -1;
	}
	*ret = l;
	return 0;
}

/* ---- appending ---- */

/* Gives back what was allocated and not used. A failure costs space only. */
static void trim(struct audit_log *l)
{
	if (l->allocated > l->size && ftruncate(l->fd, (off_t)l->size) == 0)
		l->allocated = l->size;
}

static int straighten(struct audit_log *l)
{
	if (!l->crooked)
		return 0;
	if (ftruncate(l->fd, (off_t)l->size) < 0)
		return -errno;
	l->crooked = false;
	l->allocated = l->size;
	return 0;
}

static int append(struct audit_log *l, const char *line, size_t n)
{
	ssize_t put = write(l->fd, line, n);
	if (put == (ssize_t)n) {
		l->size += n;
		if (l->allocated < l->size)
			l->allocated = l->size;
		l->dirty = true;
		return 0;
	}
	int e = put < 0 ? errno : ENOSPC;
	l->crooked = true;
	(void)straighten(l);
	return -e;
}

static int add_head(struct audit_log *l)
{
	char line[AUDIT_LINE_MAX];
	struct audit_chain before = l->chain;
	size_t n = audit_line_head(&l->chain, l->key, clock_ns(CLOCK_REALTIME), line);
	int r = n ? append(l, line, n) : -EIO;
	if (r < 0)
		l->chain = before;
	else
		l->since_head = 0;
	return r;
}

int audit_log_add(struct audit_log *l, const struct audit_event *e)
{
	char line[AUDIT_LINE_MAX];
	struct audit_chain before = l->chain;
	int r = straighten(l);
	if (r < 0)
		return r;
	size_t n = audit_line(&l->chain, e, clock_ns(CLOCK_REALTIME), line);
	r = append(l, line, n);
	if (r < 0) {
		l->chain = before;
		return r;
	}
	/* A head that fails is tried again behind the next record. */
	if (++l->since_head >= AUDIT_HEAD_RECORDS)
		(void)add_head(l);
	return 0;
}

int audit_log_sync(struct audit_log *l)
{
	if (!l->dirty)
		return 0;
	if (fdatasync(l->fd) < 0)
		return -errno;
	l->dirty = false;
	return 0;
}

int audit_log_head(struct audit_log *l)
{
	int r = straighten(l);
	if (r == 0 && l->since_head)
		r = add_head(l);
	int s = audit_log_sync(l);
	return r < 0 ? r : s;
}

bool audit_log_dirty(const struct audit_log *l)
{
	return l->dirty || l->since_head;
}

/* ---- space ---- */

static int allocate(struct audit_log *l, uint64_t need)
{
	uint64_t to = l->size + need;
	if (l->no_alloc || to <= l->allocated)
		return 0;
	/* More than is needed, so that this is no call per record; where that fails, only that. */
	int r = fallocate(l->fd, FALLOC_FL_KEEP_SIZE, (off_t)l->allocated,
			  (off_t)(to + AHEAD - l->allocated));
	if (r == 0) {
		l->allocated = to + AHEAD;
		return 0;
	}
	if (errno == EOPNOTSUPP) {
		l->no_alloc = true;
		return 0;
	}
	if (fallocate(l->fd, FALLOC_FL_KEEP_SIZE, (off_t)l->allocated,
		      (off_t)(to - l->allocated)) < 0)
		return -errno;
	l->allocated = to;
	return 0;
}

/* Only what is whole and signed is ever left behind, and only explicit configuration removes it. */
static void retain(struct audit_log *l)
{
	uint64_t *files = NULL;
	size_t n = 0;
	if (!l->o.keep_files || audit_files(l->dir, &files, &n) < 0)
		return;
	for (size_t i = 0; i + l->o.keep_files < n; i++) {
		char name[AUDIT_FILE_NAME_MAX];
		audit_file_name(files[i], name);
		const struct audit_event e = {
			.what = "audit.drop", .id = name, .outcome = "ok", .uid = -1
		};
		if (audit_log_add(l, &e) < 0 || audit_log_sync(l) < 0)
			break;
		(void)unlinkat(l->dir, name, 0);
	}
	free(files);
}

static int rotate(struct audit_log *l)
{
	int r = audit_log_head(l);
	if (r < 0)
		return r;
	trim(l);
	r = file_begin(l);
	if (r == 0)
		retain(l);
	return r;
}

int audit_log_reserve(struct audit_log *l, unsigned n)
{
	/* Two more: a head among them, and one at the end. */
	uint64_t need = ((uint64_t)n + n / AUDIT_HEAD_RECORDS + 2) * AUDIT_LINE_MAX;
	int r = straighten(l);
	if (r == 0 && l->size >= l->o.rotate_bytes)
		r = rotate(l);
	return r < 0 ? r : allocate(l, need);
}

void audit_log_close(struct audit_log *l)
{
	if (!l)
		return;
	(void)audit_log_head(l);
	trim(l);
	fd_close(&l->fd);
	fd_close(&l->dir);
	free(l);
}
