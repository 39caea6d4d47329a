/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_image_tar.h: tar archives written by hand, field by field, because no honest archiver writes
 * what the tests need; and a scratch directory with a root to unpack into and a canary beside it.
 */
#ifndef TEST_IMAGE_TAR_H
#define TEST_IMAGE_TAR_H

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/stage.h"

struct tar {
	struct buf b;
};

struct tar_entry {
	const char *name;
	char type; /* 0 = '0' */
	const char *link;
	const void *data;
	size_t size;
	uint64_t claim;	   /* size in the header when it is not `size` */
	unsigned mode;	   /* 0 = 0644 */
	uint64_t uid, gid; /* beyond what octal holds they are written in base 256 */
};

static inline void tar_number(char *field, size_t width, uint64_t v)
{
	if (v >> (3 * (width - 1)) == 0) {
		snprintf(field, width, "%0*llo", (int)width - 1, (unsigned long long)v);
		return;
	}
	memset(field, 0, width);
	for (size_t i = 0; i < 8 && i < width - 1; i++)
		field[width - 1 - i] = (char)(v >> (8 * i));
	field[0] = (char)0x80;
}

static inline void tar_raw(struct tar *t, const void *data, size_t n)
{
	static const char zeros[512];
	if ((n && buf_add(&t->b, data, n) < 0) || buf_add(&t->b, zeros, (512 - n % 512) % 512) < 0)
		abort();
}

static inline void tar_header(struct tar *t, const struct tar_entry *e)
{
	char h[512] = { 0 };
	unsigned sum = 0;
	size_t n = strlen(e->name), k = e->link ? strlen(e->link) : 0;
	memcpy(h, e->name, n < 100 ? n : 100);
	tar_number(h + 100, 8, e->mode ? e->mode : 0644);
	tar_number(h + 108, 8, e->uid);
	tar_number(h + 116, 8, e->gid);
	tar_number(h + 124, 12, e->claim ? e->claim : e->size);
	tar_number(h + 136, 12, 1000000000);
	memset(h + 148, ' ', 8);
	h[156] = e->type ? e->type : '0';
	if (k)
		memcpy(h + 157, e->link, k < 100 ? k : 100);
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum & 0777777);
	tar_raw(t, h, sizeof(h));
}

static inline void tar_add(struct tar *t, struct tar_entry e)
{
	tar_header(t, &e);
	if (e.size)
		tar_raw(t, e.data, e.size);
}

/* A pax header "LEN key=value\n" for the entry that follows. */
static inline void tar_pax(struct tar *t, const char *key, const void *value, size_t n)
{
	size_t body = strlen(key) + n + 3, len = body + 1;
	char digits[24];
	while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + body != len)
		len = body + (size_t)snprintf(digits, sizeof(digits), "%zu", len);
	char *text = malloc(len + 1);
	if (!text)
		abort();
	size_t at = (size_t)sprintf(text, "%zu %s=", len, key);
	memcpy(text + at, value, n);
	text[len - 1] = '\n';
	tar_add(t, (struct tar_entry){ .name = "pax", .type = 'x', .data = text, .size = len });
	free(text);
}

static inline void tar_end(struct tar *t)
{
	static const char zeros[1024];
	tar_raw(t, zeros, sizeof(zeros));
}

/* Compresses what t holds with a filter of libarchive's, in place. */
static inline void tar_compress(struct tar *t, int (*filter)(struct archive *))
{
	size_t cap = buf_len(&t->b) + (1 << 20), used = 0;
	char *out = malloc(cap);
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	if (!out || !a || !e || filter(a) != ARCHIVE_OK ||
	    archive_write_set_format_raw(a) != ARCHIVE_OK ||
	    archive_write_open_memory(a, out, cap, &used) != ARCHIVE_OK)
		abort();
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_size(e, (int64_t)buf_len(&t->b));
	if (archive_write_header(a, e) != ARCHIVE_OK ||
	    archive_write_data(a, buf_head(&t->b), buf_len(&t->b)) < 0 ||
	    archive_write_close(a) != ARCHIVE_OK)
		abort();
	archive_entry_free(e);
	archive_write_free(a);
	buf_consume(&t->b, buf_len(&t->b));
	if (buf_add(&t->b, out, used) < 0)
		abort();
	free(out);
}

/* --- the scratch directory ---------------------------------------------------------------------
 */

struct scratch {
	char path[64]; /* absolute */
	int top, root, canary;
};

static inline void scratch_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

static inline void scratch_make(struct scratch *s)
{
	snprintf(s->path, sizeof(s->path), "/tmp/brig-image-test.XXXXXX");
	if (!mkdtemp(s->path))
		abort();
	s->top = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->top < 0 || mkdirat(s->top, "root", 0755) < 0 || mkdirat(s->top, "canary", 0750) < 0)
		abort();
	s->root = openat(s->top, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->canary = openat(s->top, "canary", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scratch_file(s->canary, "secret", "the canary sings");
}

static inline void scratch_drop(struct scratch *s)
{
	char name[32];
	snprintf(name, sizeof(name), "%s", strrchr(s->path, '/') + 1);
	close(s->root);
	close(s->canary);
	close(s->top);
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (stage_remove_tree(tmp, name) < 0)
		abort();
	close(tmp);
}

/* 1 if the canary directory is as scratch_make left it: one file of two that could be, its bytes,
 * modes, links. Nothing may have appeared beside it either. */
static inline int scratch_canary_intact(const struct scratch *s)
{
	struct stat dir, file;
	char text[64] = "";
	int n = 0, fd = openat(s->canary, "secret", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t got = read(fd, text, sizeof(text) - 1);
	int ok = got == 16 && memcmp(text, "the canary sings", 16) == 0 && fstat(fd, &file) == 0 &&
		 fstat(s->canary, &dir) == 0 && (file.st_mode & 07777) == 0640 &&
		 file.st_nlink == 1 && (dir.st_mode & 07777) == 0750 && dir.st_nlink == 2 &&
		 file.st_uid == geteuid() && dir.st_uid == geteuid();
	close(fd);
	for (int k = 0; k < 2; k++) {
		int at = openat(k ? s->canary : s->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = at < 0 ? NULL : fdopendir(at);
		if (!d)
			return 0;
		for (struct dirent *e; (e = readdir(d));)
			n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
		closedir(d);
	}
	return ok && n == 3; /* root, canary, secret */
}

#endif
