/* SPDX-License-Identifier: Apache-2.0 */
/* A root can be prepared as detached mounts (fsopen, fsmount, mount_setattr), without a path that
 * anybody could race, sent as descriptors, and be attached in another mount namespace by a process
 * that entered it; a template namespace can be copied by CLONE_NEWNS from a process inside it. */
#include <sys/mount.h>
#include <sys/socket.h>

#include "probe.h"

static int fd_pass(int sock, int fd)
{
	char c = 'f', room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { &c, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room,
			    .msg_controllen = sizeof(room) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	if (fd >= 0) {
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(fd));
		return sendmsg(sock, &m, 0) == 1 ? 0 : -1;
	}
	must(recvmsg(sock, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static int sv[2];

static int copy(void)
{
	must(access("/inside", F_OK) == 0);
	must(access("/etc/passwd", F_OK) != 0);
	must(mkdir("/only-here", 0755) != 0 && errno == EROFS);
	return 0;
}

static int template(void)
{
	int root = fd_pass(sv[1], -1);

	must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	must(move_mount(root, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH) == 0);
	must(chdir("/mnt") == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
	     umount2(".", MNT_DETACH) == 0);
	in_child(CLONE_NEWNS, -1, copy);
	return 0;
}

int main(void)
{
	struct {
		uint64_t set, clr, propagation, userns_fd;
	} ro = { .set = MS_RDONLY | MS_NOSUID | MS_NODEV };

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == 0);
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	must(fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "size", "1m", 0) == 0 &&
	     fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0);
	int mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	must(mnt >= 0);
	must(mkdirat(mnt, "inside", 0755) == 0);
	must(syscall(SYS_mount_setattr, mnt, "", AT_EMPTY_PATH, &ro, sizeof(ro)) == 0);
	must(mkdirat(mnt, "late", 0755) != 0 && errno == EROFS);
	must(fd_pass(sv[0], mnt) == 0);
	in_child(0, -1, template);
	return 0;
}
