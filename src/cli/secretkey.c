/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A key that was handed out and is lost with the machine's power would take the secrets with it: the
 * file is complete and on the disk, under another name, before it gets its own. The folder must be
 * one that nobody else can change; only the last component is looked at without following a link.
 */
#include "cli/secretkey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/calls.h"
#include "base/fd.h"

int secretkey_path(const char *given, const char *data, char ret[PATH_MAX], struct brig_err *err)
{
	int n = given ? snprintf(ret, PATH_MAX, "%s", given)
		      : snprintf(ret, PATH_MAX, "%s/" SECRET_KEY_FILE, data);
	/* Room for what is put behind it. */
	if (n > 0 && n < PATH_MAX - 16)
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0, "the name of the secrets' key file is too long");
}

static void path_with(const char *path, const char *end, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%.*s%s", PATH_MAX - 16, path, end);
}

static int key_check(int fd, const char *path, struct brig_err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open '%.256s'", path);
	if (!S_ISREG(st.st_mode))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.256s' is no file", path);
	if ((st.st_mode & 077) || (st.st_uid != geteuid() && st.st_uid != 0)) {
		brig_err_set(err, BRIG_E_DENIED, 0,
			     "the secrets' key '%.256s' is open to other users", path);
		return brig_fix(err, "give it to the server's user with mode 0600, and consider "
				     "`brig secret rekey`");
	}
	return 0;
}

/* What a rename in its folder needs to outlive a power cut. */
static int folder_sync(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	AUTO_FD fd = open(dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -1 : 0;
}

static int key_write(const char *path, char hex[SECRET_KEY_HEX + 1], struct brig_err *err)
{
	unsigned char raw[SECRET_KEY_HEX / 2];
	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		return brig_fail(err, BRIG_E_INTERNAL, errno, "make a key for secrets");
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	explicit_bzero(raw, sizeof(raw));
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_full(fd, hex, SECRET_KEY_HEX) < 0 ||
	    fd_write_full(fd, "\n", 1) < 0 || fsync(fd) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "write '%.256s'", path);
	return 0;
}

static int open_one(const char *path)
{
	return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

int secretkey_open(const char *path, struct brig_err *err)
{
	char tmp[PATH_MAX], hex[SECRET_KEY_HEX + 1];
	AUTO_FD fd = open_one(path);
	if (fd < 0 && errno == ENOENT) {
		path_with(path, ".tmp", tmp);
		(void)unlink(tmp);
		int r = key_write(tmp, hex, err);
		explicit_bzero(hex, sizeof(hex));
		if (r < 0)
			return -1;
		/* Not over one that came meanwhile. */
		if (call_renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) < 0 &&
		    errno != EEXIST)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make '%.256s'", path);
		if (folder_sync(path) < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "keep '%.256s'", path);
		fd = open_one(path);
	}
	if (fd < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open '%.256s'", path);
	return key_check(fd, path, err) < 0 ? -1 : fd_steal(&fd);
}

int secretkey_open_new(const char *path, struct brig_err *err)
{
	char name[PATH_MAX];
	path_with(path, SECRET_KEY_NEW, name);
	AUTO_FD fd = open_one(name);
	if (fd < 0 && errno == ENOENT)
		return -1;
	if (fd < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open '%.256s'", name);
	return key_check(fd, name, err) < 0 ? -1 : fd_steal(&fd);
}

int secretkey_make_new(const char *path, char ret_hex[SECRET_KEY_HEX + 1], struct brig_err *err)
{
	char name[PATH_MAX];
	path_with(path, SECRET_KEY_NEW, name);
	if (key_write(name, ret_hex, err) < 0)
		return -1;
	return folder_sync(path) < 0
		       ? brig_fail(err, BRIG_E_UNAVAILABLE, errno, "keep '%.256s'", name)
		       : 0;
}

int secretkey_take_new(const char *path, struct brig_err *err)
{
	char name[PATH_MAX];
	path_with(path, SECRET_KEY_NEW, name);
	if (rename(name, path) < 0 || folder_sync(path) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "put '%.256s' in place", path);
	return 0;
}

int secretkey_drop_new(const char *path, struct brig_err *err)
{
	char name[PATH_MAX];
	path_with(path, SECRET_KEY_NEW, name);
	if (unlink(name) < 0 && errno != ENOENT)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "remove '%.256s'", name);
	return 0;
}

int secretkey_read(int fd, char ret_hex[SECRET_KEY_HEX + 1], struct brig_err *err)
{
	char text[SECRET_KEY_HEX + 1] = "";
	ssize_t n = pread(fd, text, SECRET_KEY_HEX, 0);
	text[SECRET_KEY_HEX] = '\0';
	bool good = n == SECRET_KEY_HEX &&
		    strspn(text, "0123456789abcdef") == SECRET_KEY_HEX;
	if (good)
		memcpy(ret_hex, text, sizeof(text));
	explicit_bzero(text, sizeof(text));
	return good ? 0
		    : brig_fail(err, BRIG_E_CORRUPT, 0, "the key file has not %u hexadecimal digits",
				SECRET_KEY_HEX);
}
