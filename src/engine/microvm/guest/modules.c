/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A package holds modules.builtin, but no modules.dep: depmod makes that when a kernel is installed,
 * and this one is not. So each module is asked itself, by the "depends=" entry of its .modinfo, a list
 * of strings that each end with a NUL. The folder is the operator's: trusted, but for mistakes.
 */
#include "engine/microvm/guest/modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define DEPTH_MAX 16 /* of folders, and of modules that depend on each other */

/* The module of a path: its last part without ".ko", '-' as '_'. False if it is none. */
static bool name_of(const char *path, char ret[MODULE_NAME_MAX])
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strstr(base, ".ko");
	if (!dot || dot == base || (size_t)(dot - base) >= MODULE_NAME_MAX)
		return false;
	size_t n = (size_t)(dot - base);
	for (size_t i = 0; i < n; i++)
		ret[i] = base[i] == '-' ? '_' : base[i];
	ret[n] = '\0';
	return true;
}

/* 1 if the kernel has it, 0 if not, -errno: the list cannot be read. */
static int is_builtin(int dir, const char *name)
{
	char line[512], have[MODULE_NAME_MAX];
	int fd = openat(dir, "modules.builtin", O_RDONLY | O_CLOEXEC), found = 0;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		int e = errno;
		fd_close(&fd);
		return -e;
	}
	while (!found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		found = name_of(line, have) && strcmp(have, name) == 0;
	}
	fclose(f);
	return found;
}

/* Searches below dir (owned) for a module's file; a descriptor of it, -ENOENT or -errno. */
static int find(int dir, const char *name, int depth)
{
	char have[MODULE_NAME_MAX];
	int found = -ENOENT;
	DIR *d = fdopendir(dir);
	if (!d) {
		close(dir);
		return -ENOENT;
	}
	for (struct dirent *e; found < 0 && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		if (name_of(e->d_name, have) && strcmp(have, name) == 0) {
			found = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
			if (found >= 0 && !strcmp(strrchr(e->d_name, '.'), ".ko"))
				break;
			fd_close(&found);
			found = -EMEDIUMTYPE; /* compressed */
			break;
		}
		bool maybe_dir = e->d_type == DT_DIR || e->d_type == DT_UNKNOWN;
		int sub = depth && maybe_dir ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
		if (sub >= 0 && (found = find(sub, name, depth - 1)) == -EMEDIUMTYPE)
			break;
	}
	closedir(d);
	return found;
}

static int file_read(int fd, struct module *m, struct brig_err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)MODULE_BYTES_MAX)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "the size of module %s makes no sense", m->name);
	m->data = malloc((size_t)st.st_size);
	if (!m->data)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read module %s", m->name);
	m->len = (uint32_t)st.st_size;
	ssize_t n = fd_read_full(fd, m->data, m->len);
	return n == (ssize_t)m->len ? 0 : brig_fail(err, BRIG_E_CORRUPT, n < 0 ? (int)-n : EIO, "read module %s", m->name);
}

/* The text behind "depends=", NULL if there is none; it ends within the file. */
static const char *depends_of(const struct module *m)
{
	static const char key[] = "\0depends=";
	const uint8_t *p = memmem(m->data, m->len, key, sizeof(key) - 1);
	if (!p)
		return NULL;
	p += sizeof(key) - 1;
	return memchr(p, '\0', m->len - (size_t)(p - m->data)) ? (const char *)p : NULL;
}

static bool is_added(const struct modules *ms, const char *name)
{
	for (unsigned i = 0; i < ms->n; i++)
		if (strcmp(ms->m[i].name, name) == 0)
			return true;
	return false;
}

static int add(struct modules *ms, int dir, const char *name, int depth, struct brig_err *err);

static int depends_add(struct modules *ms, int dir, const struct module *m, int depth, struct brig_err *err)
{
	const char *text = depends_of(m);
	char *list = text ? strdup(text) : NULL, *save = NULL;
	int r = text && !list ? brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read module %s", m->name) : 0;
	for (char *w = list ? strtok_r(list, ",", &save) : NULL; r == 0 && w; w = strtok_r(NULL, ",", &save))
		r = add(ms, dir, w, depth - 1, err);
	free(list);
	return r;
}

static int add(struct modules *ms, int dir, const char *name, int depth, struct brig_err *err)
{
	struct module m = { .len = 0 };
	char file[MODULE_NAME_MAX + 4];
	snprintf(file, sizeof(file), "%.63s.ko", name);
	if (!name_of(file, m.name))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.80s' is no name of a module", name);
	int r = is_builtin(dir, m.name);
	if (r < 0) {
		brig_fail(err, BRIG_E_NOT_FOUND, -r, "open modules.builtin");
		return brig_fix(err, "give the folder lib/modules/VERSION of the guest's kernel");
	}
	if (r || is_added(ms, m.name))
		return 0;
	if (depth == 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "module %s depends on itself", m.name);
	AUTO_FD fd = find(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), m.name, DEPTH_MAX);
	if (fd == -EMEDIUMTYPE)
		return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "module %s is compressed", m.name);
	if (fd < 0) {
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "the guest's kernel has no module %s", m.name);
		return brig_fix(err, "use Debian's linux-image-cloud-amd64, or a kernel with that driver");
	}
	r = file_read(fd, &m, err);
	if (r == 0)
		r = depends_add(ms, dir, &m, depth, err);
	if (r == 0 && ms->n == MODULES_MAX)
		r = brig_fail(err, BRIG_E_LIMIT, 0, "more than %u modules", MODULES_MAX);
	if (r == 0)
		ms->m[ms->n++] = m;
	else
		free(m.data);
	return r;
}

int modules_add(struct modules *ms, int dir, const char *name, struct brig_err *err)
{
	return add(ms, dir, name, DEPTH_MAX, err);
}

void modules_done(struct modules *ms)
{
	while (ms->n)
		free(ms->m[--ms->n].data);
}
