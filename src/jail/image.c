/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.c: from the directory of an image to the trees of its layers.
 *
 * Theory of operation
 * -------------------
 * Runs in brig-jaild as root. brigd sends a descriptor of an image's directory, and everything else is
 * looked up here in what the importer wrote, which brigd cannot change: a single tree, or a list of trees
 * by their digests. So a receipt that names the image names what the sandbox really has, even if brigd
 * would like to have it otherwise.
 *
 * The list is the one file of the store that jaild reads. A line that is not exactly "sha256-" and 64
 * hexadecimal digits is refused, so no name of it can lead out of images/; links are not followed.
 */
#include "jail/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define PREFIX "sha256-"
#define NAME_LEN (sizeof(PREFIX) - 1 + 64)
_Static_assert(NAME_LEN < JAIL_TREE_NAME, "a name fits");

static int name_ok(const char *s)
{
	return strncmp(s, PREFIX, sizeof(PREFIX) - 1) == 0 &&
	       strspn(s + sizeof(PREFIX) - 1, "0123456789abcdef") == 64;
}

int jail_layers_parse(const char *text, size_t n, char names[][JAIL_TREE_NAME], unsigned *ret_n)
{
	unsigned count = 0;
	while (n) {
		if (n < NAME_LEN || count == JAIL_LAYERS_MAX || memchr(text, 0, NAME_LEN))
			return -EINVAL;
		memcpy(names[count], text, NAME_LEN);
		names[count][NAME_LEN] = '\0';
		if (!name_ok(names[count]) || n == NAME_LEN || text[NAME_LEN] != '\n')
			return -EINVAL;
		text += NAME_LEN + 1;
		n -= NAME_LEN + 1;
		count++;
	}
	*ret_n = count;
	return count ? 0 : -EINVAL;
}

static int same(int a, int b)
{
	struct stat x, y;
	return a >= 0 && b >= 0 && fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static int refused(struct brig_err *err)
{
	brig_fail(err, BRIG_E_DENIED, 0, "the directory is no image of the store");
	return brig_fix(err, "start brig-jaild with the --data that brigd uses");
}

/* The name under which dir lies in images. The kernel's word for it is only where to look. */
static int name_of(int images, int dir, char ret[JAIL_TREE_NAME])
{
	char link[64], path[PATH_MAX];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	const char *name = strrchr(path, '/');
	if (!name || strlen(name + 1) != NAME_LEN || !name_ok(name + 1))
		return -1;
	AUTO_FD again = openat(images, name + 1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (!same(again, dir))
		return -1;
	memcpy(ret, name + 1, NAME_LEN + 1);
	return 0;
}

static int trees_add(struct jail_trees *t, int images, const char *name, struct brig_err *err)
{
	char path[JAIL_TREE_NAME + 8];
	snprintf(path, sizeof(path), "%.71s/rootfs", name);
	int fd = openat(images, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return brig_fail(err, BRIG_E_CORRUPT, errno, "open tree %.19s of the image", name);
	t->fd[t->n++] = fd;
	return 0;
}

int jail_trees_open(int store, int dir, struct jail_trees *ret, struct brig_err *err)
{
	char names[JAIL_LAYERS_MAX][JAIL_TREE_NAME], text[JAIL_LAYERS_MAX * (NAME_LEN + 1) + 1];
	struct jail_trees t = { .n = 0 };
	unsigned n = 1;
	AUTO_FD up = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD images =
		store < 0 ? -1 : openat(store, "images", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (!same(up, images) || name_of(images, dir, names[0]) < 0)
		return refused(err);
	snprintf(t.digest, sizeof(t.digest), "%s", names[0]);
	AUTO_FD list = openat(dir, "layers", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t got = list < 0 ? -errno : fd_read_full(list, text, sizeof(text));
	if (got != -ENOENT && (got < 0 || jail_layers_parse(text, (size_t)got, names, &n) < 0))
		return brig_fail(err, BRIG_E_CORRUPT, got < 0 ? (int)-got : 0,
				 "the list of layers of image %.19s", t.digest);
	t.fd = calloc(n, sizeof(*t.fd));
	if (!t.fd)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember an image");
	for (unsigned i = 0; i < n; i++)
		if (trees_add(&t, images, names[i], err) < 0) {
			jail_trees_close(&t);
			return -1;
		}
	*ret = t;
	return 0;
}

void jail_trees_close(struct jail_trees *t)
{
	for (unsigned i = 0; i < t->n; i++)
		fd_close(&t->fd[i]);
	free(t->fd);
	*t = (struct jail_trees){ .n = 0 };
}
