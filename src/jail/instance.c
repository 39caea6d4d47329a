/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

int instance_run_dir(char *ret_path, size_t cap, struct brig_err *err)
{
	const char *env = getenv("BRIG_RUN"), *xdg = getenv("XDG_RUNTIME_DIR");
	const char *rootless = getenv(INSTANCE_ENV_ROOTLESS);
	uid_t me = geteuid();
	if (rootless)
		snprintf(ret_path, cap, "%s", rootless);
	else if (me == 0)
		snprintf(ret_path, cap, "/run/brig");
	else if (env && env[0] == '/')
		snprintf(ret_path, cap, "%s", env);
	else if (xdg && xdg[0] == '/')
		snprintf(ret_path, cap, "%s/brig", xdg);
	else
		snprintf(ret_path, cap, "/tmp/brig-%u", (unsigned)me);
	if (mkdir(ret_path, me == 0 ? 0711 : 0700) < 0 && errno != EEXIST) {
		brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the run directory '%s'", ret_path);
		return brig_fix(err, "make it by hand, or name another in BRIG_RUN");
	}
	AUTO_FD fd = open(ret_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the run directory '%s'",
				 ret_path);
	/* In /tmp somebody else may have been there first. */
	if (st.st_uid != me || (st.st_mode & 022)) {
		brig_fail(err, BRIG_E_DENIED, 0, "run directory '%s' is not ours alone", ret_path);
		return brig_fix(err, "remove it, or name another in BRIG_RUN");
	}
	return fd_steal(&fd);
}

static const char names[] = "abcdefghijklmnopqrstuvwxyz234567";

static void random_name(char *ret)
{
	unsigned char raw[INSTANCE_NAME_LEN];
	/* Cannot fail for so few bytes once the kernel's pool is ready, and waits until it is. */
	while (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		;
	for (unsigned i = 0; i < sizeof(raw); i++)
		ret[i] = names[raw[i] & 31];
	ret[sizeof(raw)] = '\0';
}

int instance_begin(struct instance *in, struct brig_err *err)
{
	char path[256], file[64];
	in->lock = -1;
	in->run = instance_run_dir(path, sizeof(path), err);
	if (in->run < 0)
		return -1;
	/* A sweep that runs between the two calls may take our file for a dead one: try another. */
	for (int tries = 0; tries < 8 && in->lock < 0; tries++) {
		random_name(in->name);
		snprintf(file, sizeof(file), INSTANCE_PREFIX "%s", in->name);
		in->lock = openat(in->run, file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (in->lock < 0)
			break;
		if (flock(in->lock, LOCK_EX | LOCK_NB) < 0)
			fd_close(&in->lock);
	}
	if (in->lock < 0) {
		brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the instance file in '%s'", path);
		instance_end(in);
		return brig_fix(err, "free space or inodes there, or name another directory in BRIG_RUN");
	}
	return 0;
}

int instance_resume(struct instance *in, const char *name, int lock, struct brig_err *err)
{
	char path[256];
	in->lock = lock;
	in->run = instance_run_dir(path, sizeof(path), err);
	if (in->run < 0)
		return -1;
	if (strlen(name) != INSTANCE_NAME_LEN || strspn(name, names) != INSTANCE_NAME_LEN)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the instance's name is malformed");
	snprintf(in->name, sizeof(in->name), "%s", name);
	return 0;
}

void instance_end(struct instance *in)
{
	char file[64];
	snprintf(file, sizeof(file), INSTANCE_PREFIX "%s", in->name);
	if (in->lock >= 0)
		unlinkat(in->run, file, 0);
	fd_close(&in->lock);
	fd_close(&in->run);
}

int instance_alive(int run, const char *name)
{
	char file[64];
	snprintf(file, sizeof(file), INSTANCE_PREFIX "%s", name);
	AUTO_FD fd = openat(run, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	/* Only a missing record is a proof; without descriptors or memory it may well be alive. */
	if (fd < 0)
		return errno != ENOENT;
	/* Released with fd. Another starter may hold it for this instant too: then it looks alive,
	 * which is the safe error. */
	return flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}
