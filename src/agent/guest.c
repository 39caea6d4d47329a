/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * In a microVM the channel is a vsock connection, made by brig-guest-init. It ends for two reasons: the host
 * ends the machine, which nobody inside gets to see, or another host takes over (vsock.c of brig-vmm), and
 * then it is made again. The other host may be that of a copy: a machine that was restored from a snapshot,
 * perhaps one of many. So that no two of them go on drawing the same random numbers, the kernel is given
 * what the host's entropy device says now, and told to use it at once. The device's driver and the kernel
 * keep a few bytes in advance, which all copies have; far more is read than they keep.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"

#define ENTROPY_BYTES 1024u
#define HWRNG_MINOR 183 /* of major 10: Linux Documentation/admin-guide/devices.txt */

static unsigned host_port;

void guest_port_set(unsigned port)
{
	host_port = port;
}

/* Root inside can put anything in its place; what is not the device is left alone. */
static int hwrng_open(void)
{
	struct stat st;
	int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, HWRNG_MINOR))
		return fd;
	fd_close(&fd);
	return -ENODEV;
}

static void reseed(void)
{
	struct {
		struct rand_pool_info info;
		uint8_t bytes[ENTROPY_BYTES];
	} e = { .info = { .entropy_count = 256, .buf_size = ENTROPY_BYTES } };
	AUTO_FD from = hwrng_open();
	AUTO_FD to = open("/dev/urandom", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t n = 0;
	if (from < 0 || to < 0 || fd_set_nonblock(from, 0) < 0)
		return;
	while (n < sizeof(e.bytes)) {
		ssize_t r = read(from, e.bytes + n, sizeof(e.bytes) - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	if (ioctl(to, RNDADDENTROPY, &e) == 0)
		(void)ioctl(to, RNDRESEEDCRNG, 0);
	explicit_bzero(&e, sizeof(e));
}

int guest_redial(void)
{
	const struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = host_port };
	const struct timeval patience = { .tv_sec = 10 };
	reseed();
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience)) == 0 &&
	    connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	int e = -errno;
	close(fd);
	return e;
}

uint64_t guest_oom_kills(void)
{
	static const char key[] = "oom_kill ";
	char line[64];
	uint64_t n = 0;
	FILE *f = host_port ? fopen("/proc/vmstat", "re") : NULL;
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, sizeof(key) - 1) == 0)
			n = strtoull(line + sizeof(key) - 1, NULL, 10);
	if (f)
		fclose(f);
	return n;
}
