/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens files by their number instead of their path, which reaches the whole file system behind a
 * mount (the way out of Docker in 2014, "shocker").
 */
#include "attack/attack.h"

ATTACK(file_handles)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + 128];
	} u;
	int mount_id;
	memset(&u, 0, sizeof(u));
	u.h.handle_bytes = 128;
	static const char *const places[] = { "/", "/usr", "/tmp", "/dev/shm", "/proc" };
	for (size_t i = 0; i < N(places); i++) {
		u.h.handle_bytes = 128;
		int fd = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (syscall(SYS_name_to_handle_at, AT_FDCWD, places[i], &u.h, &mount_id, 0) < 0) {
			/* A handle of the usual form, inode 2, made by hand. */
			static const uint32_t inode[2] = { 2, 0 };
			u.h.handle_bytes = sizeof(inode);
			u.h.handle_type = 1 /* FILEID_INO32_GEN */;
			memcpy(u.h.f_handle, inode, sizeof(inode));
		}
		if (syscall(SYS_open_by_handle_at, fd, &u.h, O_RDONLY) >= 0)
			broken("a handle on %s was opened", places[i]);
		close(fd);
	}
	held("%s", strerror(errno));
}
