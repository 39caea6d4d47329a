/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure_mounts.c: what is mounted where in a sandbox, by the host's /proc/PID/mountinfo.
 *
 * Theory of operation: every line must be a mount that the specification makes, with at least the flags
 * that it makes it with, and every mount that it makes must be there. Nothing inside can mount, so what
 * is there at the birth stays. The text is the kernel's, but paths of volumes in it are the client's:
 * lines are cut at blanks, and blanks in paths are "\040" there.
 */
#include "engine/container/measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/container/rootfs.h"

enum { RO = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8 };
static const struct {
	unsigned bit;
	const char *word;
} flag_words[] = { { RO, "ro" }, { NOSUID, "nosuid" }, { NODEV, "nodev" }, { NOEXEC, "noexec" } };
#define N_FLAGS (sizeof(flag_words) / sizeof(flag_words[0]))

/* Lines that there can be: below, the masks, the nodes of a rootless /dev, volumes. */
#define ROWS_MAX 64u

struct row {
	char *path, *type, *root, *super;
	unsigned flags;
	bool met; /* some expectation was met by it */
};

/* What is in every sandbox. */
static const struct fixed {
	const char *path, *type;
	unsigned flags;
	bool host_image; /* only there */
} fixed[] = {
	{ "/", "overlay", NOSUID | NODEV, false },
	{ "/dev", "tmpfs", RO | NOSUID | NOEXEC, false },
	{ "/dev/pts", "devpts", NOSUID | NOEXEC, false },
	{ "/dev/shm", "tmpfs", NOSUID | NODEV, false },
	{ "/proc", "proc", NOSUID | NODEV | NOEXEC, false },
	{ "/usr", "overlay", RO | NOSUID | NODEV, true },
	{ "/etc/alternatives", "overlay", RO | NOSUID | NODEV, true },
};
#define N_FIXED (sizeof(fixed) / sizeof(fixed[0]))
#define N(array) (sizeof(array) / sizeof((array)[0]))

static int differs(struct measure_diff *d, const char *what, const char *path)
{
	snprintf(d->item, sizeof(d->item), "mounts");
	snprintf(d->text, sizeof(d->text), "%.150s %s", path, what);
	return 1;
}

/* "\040" and the like, as seq_path() writes blanks, tabs, newlines and backslashes. */
static void unescape(char *s)
{
	char *to = s;
	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else
			*to++ = *s++;
	}
	*to = '\0';
}

static unsigned flags_of(const char *words)
{
	unsigned flags = 0;
	while (*words) {
		size_t n = strcspn(words, ",");
		for (unsigned i = 0; i < N_FLAGS; i++)
			if (strlen(flag_words[i].word) == n &&
			    memcmp(words, flag_words[i].word, n) == 0)
				flags |= flag_words[i].bit;
		words += n + (words[n] == ',');
	}
	return flags;
}

/* "ID PARENT MAJOR:MINOR ROOT PATH FLAGS [FIELDS..] - TYPE SOURCE SUPER" */
static int parse(char *line, struct row *r)
{
	char *word[6], *save = NULL, *tail = strstr(line, " - ");
	if (!tail)
		return -EPROTO;
	*tail = '\0';
	for (unsigned i = 0; i < N(word); i++)
		if (!(word[i] = strtok_r(i ? NULL : line, " ", &save)))
			return -EPROTO;
	r->root = word[3];
	r->path = word[4];
	r->flags = flags_of(word[5]);
	char *source;
	if (!(r->type = strtok_r(tail + 3, " ", &save)) || !(source = strtok_r(NULL, " ", &save)))
		return -EPROTO;
	r->super = strtok_r(NULL, " ", &save); /* without a source's name there are two words */
	if (!r->super)
		r->super = source;
	unescape(r->path);
	return 0;
}

static const struct row *find(const struct row *rows, unsigned n, const char *path)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(rows[i].path, path) == 0)
			return &rows[i];
	return NULL;
}

/* Is there such a file in proc at all? The sandbox's is of the same kernel. */
static bool proc_has(const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s", name);
	return access(path, F_OK) == 0;
}

/* One mount that must be there. A volume may cover another mount: each row meets one expectation. root:
 * what of its file system is shown; NULL = anything. */
static int expect(struct row *rows, unsigned n, const char *path, const char *type,
		  const char *root, unsigned flags, struct measure_diff *d)
{
	const char *why = "is not mounted";
	for (unsigned i = 0; i < n; i++) {
		struct row *r = &rows[i];
		if (r->met || strcmp(r->path, path) != 0)
			continue;
		if ((type && strcmp(r->type, type) != 0) || (root && strcmp(r->root, root) != 0))
			why = "shows something else than specified";
		else if ((r->flags & flags) != flags)
			why = "lacks a flag (ro, nosuid, nodev, noexec) that is specified";
		else {
			r->met = true;
			return 0;
		}
	}
	return differs(d, why, path);
}

static int expect_masks(struct row *rows, unsigned n, const struct measure_want *w,
			struct measure_diff *d)
{
	/* Which exist is a matter of the kernel, and does not change while it runs. */
	static uint32_t files_there, dirs_there;
	static bool looked;
	char path[64];
	for (unsigned i = 0; !looked && i < N(rootfs_masked_files); i++)
		files_there |= (uint32_t)proc_has(rootfs_masked_files[i]) << i;
	for (unsigned i = 0; !looked && i < N(rootfs_masked_dirs); i++)
		dirs_there |= (uint32_t)proc_has(rootfs_masked_dirs[i]) << i;
	looked = true;
	for (unsigned i = 0; i < N(rootfs_masked_files); i++) {
		snprintf(path, sizeof(path), "/proc/%s", rootfs_masked_files[i]);
		/* Rootless the node is the host's own, with the flags of the host's mount. */
		if ((files_there & 1u << i) &&
		    expect(rows, n, path, w->rootless ? NULL : "tmpfs",
			   w->rootless ? NULL : "/d/null", w->rootless ? 0 : NOSUID, d))
			return 1;
	}
	for (unsigned i = 0; i < N(rootfs_masked_dirs); i++) {
		snprintf(path, sizeof(path), "/proc/%s", rootfs_masked_dirs[i]);
		if ((dirs_there & 1u << i) && expect(rows, n, path, "tmpfs", "/e", NOSUID, d))
			return 1;
	}
	for (unsigned i = 0; i < N(rootfs_readonly_dirs); i++) {
		snprintf(path, sizeof(path), "/proc/%s", rootfs_readonly_dirs[i]);
		if (expect(rows, n, path, "proc", NULL, RO | NOSUID | NODEV | NOEXEC, d))
			return 1;
	}
	return 0;
}

/* The size of the tmpfs that everything writable is in: "size=262144k,nr_inodes=65555". */
static void layer_of(const struct row *rows, unsigned n, struct jail_receipt *m)
{
	const struct row *r = find(rows, n, "/dev/shm");
	const char *size = r ? strstr(r->super, "size=") : NULL;
	const char *inodes = r ? strstr(r->super, "nr_inodes=") : NULL;
	char *end;
	if (!size || !inodes)
		return;
	m->layer_bytes = strtoull(size + 5, &end, 10) * (*end == 'k' ? 1024u : 1u);
	m->layer_inodes = strtoull(inodes + 10, NULL, 10);
	m->layer_known = 1;
}

static int compare_layer(const struct jail_spec *p, const struct jail_receipt *m,
			 struct measure_diff *d)
{
	/* Rounded up to a page by the kernel. */
	if (m->layer_known && m->layer_bytes / 4096 == (p->disk_bytes + 4095) / 4096 &&
	    m->layer_inodes == p->inodes + ROOTFS_OWN_INODES)
		return 0;
	snprintf(d->item, sizeof(d->item), "disk");
	snprintf(d->text, sizeof(d->text),
		 "the writable layer has %llu bytes and %llu inodes, specified %llu and %llu",
		 (unsigned long long)m->layer_bytes, (unsigned long long)m->layer_inodes,
		 (unsigned long long)p->disk_bytes,
		 (unsigned long long)(p->inodes + ROOTFS_OWN_INODES));
	return 1;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->path, ((const struct row *)b)->path);
}

/* What would make another line of the list is shown as '?'. */
static void normalize(struct row *rows, unsigned n, struct jail_receipt *m)
{
	size_t at = 0;
	qsort(rows, n, sizeof(rows[0]), by_path);
	for (unsigned i = 0; i < n; i++) {
		char line[JAIL_PATH_MAX + 64];
		int len = snprintf(line, sizeof(line), "%.511s", rows[i].path);
		for (int k = 0; k < len; k++)
			if (line[k] <= ' ' || line[k] == 127)
				line[k] = '?';
		len += snprintf(line + len, sizeof(line) - (size_t)len, " %.20s %s", rows[i].type,
				rows[i].flags & RO ? "ro" : "rw");
		for (unsigned f = 1; f < N_FLAGS; f++)
			if (rows[i].flags & flag_words[f].bit)
				len += snprintf(line + len, sizeof(line) - (size_t)len, ",%s",
						flag_words[f].word);
		if (at + (size_t)len + 2 > sizeof(m->mounts))
			break;
		memcpy(m->mounts + at, line, (size_t)len);
		at += (size_t)len;
		m->mounts[at++] = '\n';
	}
	m->mounts[at] = '\0';
	m->mounts_len = (uint32_t)at;
}

int measure_mounts_text(char *text, const struct measure_want *w, struct jail_receipt *m,
			struct measure_diff *d)
{
	struct row rows[ROWS_MAX];
	unsigned n = 0;
	const struct jail_spec *p = w->spec;
	for (char *s = text, *save = NULL, *line; (line = strtok_r(s, "\n", &save)); s = NULL) {
		if (n == ROWS_MAX)
			return differs(d, "is one mount too many", "/");
		rows[n].met = false;
		if (parse(line, &rows[n++]) < 0)
			return differs(d, "has a line in its mount table that is none", "/");
	}
	for (unsigned i = 0; i < N_FIXED; i++)
		if ((!fixed[i].host_image || p->image == 0) &&
		    expect(rows, n, fixed[i].path, fixed[i].type, NULL, fixed[i].flags, d))
			return 1;
	if (expect_masks(rows, n, w, d))
		return 1;
	for (unsigned i = 0; i < p->nvolumes; i++)
		/* One at / is under the root, which is the same overlay as without. */
		if (p->volumes[i].path[1] &&
		    expect(rows, n, p->volumes[i].path, NULL, NULL,
			   NOSUID | NODEV | (p->volumes[i].readonly ? RO : 0u), d))
			return 1;
	for (unsigned i = 0; i < n; i++) {
		bool node = w->rootless && strncmp(rows[i].path, "/dev/", 5) == 0;
		if (!rows[i].met && !node)
			return differs(d, "is mounted, and nothing specifies it", rows[i].path);
	}
	layer_of(rows, n, m);
	if (compare_layer(p, m, d))
		return 1;
	if (m->mounts_len)
		normalize(rows, n, m);
	return 0;
}

int measure_mounts(int proc, const struct measure_want *w, struct jail_receipt *m,
		   struct measure_diff *d)
{
	static char text[32768]; /* not cleared each time; one thread */
	ssize_t n = fd_slurp_at(proc, "mountinfo", text, sizeof(text));
	return n < 0 ? (int)n : measure_mounts_text(text, w, m, d);
}
