/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c: block devices over images.
 *
 * A volume that several sandboxes read has one device: two over one file would be two file systems that do not
 * know each other. So all loop devices are looked at first, by device and inode of their file; the kernel then
 * gives a mount of the same superblock.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "volume/work.h"

/* A free device may be taken by somebody else between the question and the use. */
#define TRIES 64

static void label(struct loop_info64 *info, const char *instance, const char *id)
{
	memset(info->lo_file_name, 0, sizeof(info->lo_file_name));
	snprintf((char *)info->lo_file_name, sizeof(info->lo_file_name), VOLUME_LOOP_LABEL "%s %s", instance, id);
}

static int find(const struct stat *image, const char *instance, const char *id, char ret_path[32])
{
	DIR *d = opendir("/sys/block");
	struct dirent *e;
	int found = -1;
	while (d && found < 0 && (e = readdir(d))) {
		struct loop_info64 info;
		if (strncmp(e->d_name, "loop", 4) != 0 || strlen(e->d_name) > 16)
			continue;
		snprintf(ret_path, 32, "/dev/%.16s", e->d_name);
		AUTO_FD fd = open(ret_path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0 || info.lo_device != image->st_dev ||
		    info.lo_inode != image->st_ino)
			continue;
		/* It may be a sandbox's of an instance that has just died. */
		label(&info, instance, id);
		(void)ioctl(fd, LOOP_SET_STATUS64, &info);
		found = fd_steal(&fd);
	}
	if (d)
		closedir(d);
	return found;
}

static int set_up(int control, int image, struct loop_config *c, char ret_path[32], struct brig_err *err)
{
	int n = ioctl(control, LOOP_CTL_GET_FREE);
	if (n < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "find a free loop device");
	snprintf(ret_path, 32, "/dev/loop%d", n);
	AUTO_FD fd = open(ret_path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, errno, "open %s", ret_path);
		return brig_fix(err, "volumes need loop devices; in a container, let it make them");
	}
	c->fd = (uint32_t)image;
	if (ioctl(fd, LOOP_CONFIGURE, c) == 0)
		return fd_steal(&fd);
	/* Some file systems have no direct I/O. */
	if (errno == EINVAL && (c->info.lo_flags & LO_FLAGS_DIRECT_IO)) {
		c->info.lo_flags &= ~(uint32_t)LO_FLAGS_DIRECT_IO;
		if (ioctl(fd, LOOP_CONFIGURE, c) == 0)
			return fd_steal(&fd);
	}
	return errno == EBUSY ? -2 : brig_fail(err, BRIG_E_UNSUPPORTED, errno, "set up %s", ret_path);
}

int loop_open(int image, int readonly, const char *instance, const char *id, char ret_path[32],
	      struct brig_err *err)
{
	struct stat st;
	if (fstat(image, &st) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "look at volume '%s'", id);
	int fd = find(&st, instance, id, ret_path);
	if (fd >= 0)
		return fd;
	AUTO_FD control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, errno, "volumes need loop devices");
		return brig_fix(err, "modprobe loop; in a container, let it have /dev/loop-control");
	}
	struct loop_config c = { .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO |
						 (readonly ? LO_FLAGS_READ_ONLY : 0u) };
	label(&c.info, instance, id);
	for (int i = 0; i < TRIES; i++) {
		fd = set_up(control, image, &c, ret_path, err);
		if (fd != -2)
			return fd;
	}
	return brig_fail(err, BRIG_E_EXHAUSTED, EBUSY, "take a loop device");
}
