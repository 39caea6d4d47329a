/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-guest-init: the first process of a microVM, from the initial RAM disk until brig-agent takes
 * its place.
 *
 * Theory of operation
 * -------------------
 * The RAM disk holds this program as /init, brig-agent as /agent, and the kernel's modules with their
 * order in /modules. Init loads those, mounts the image (first disk, read-only) with a writable layer
 * in memory above it, makes that the root, calls the host (CID 2) by vsock and becomes the agent with
 * the connection as descriptor 3 and the writable layer, behind no path, as 4. The rest of what it needs stands on the kernel's command line:
 *
 *   brig.root=TYPE      file system of the image
 *   brig.layer=BYTES    size of the writable layer
 *   brig.inodes=N       of it
 *   brig.pids=N         processes and threads beside the first
 *   brig.nofile=N       descriptors of a process
 *   brig.home=UID:GID:HEX  a directory that is made if it is missing, and given to that user; hexadecimal
 *   brig.port=N         of the host
 *   brig.host=NAME      host name
 *
 * A step that fails is written to the kernel's log and ends the VM: the host sees its end, and the
 * console, if there is one, the reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/mountfd.h"

enum { CHANNEL = 3, LAYER = 4, AGENT = 5 };

static struct {
	char root[16], layer[24], inodes[24], pids[16], host[65], home[1100];
	unsigned port, nofile;
} options = { .root = "ext4", .layer = "67108864", .host = "brig", .port = 1 };

static void end(const char *step, const char *what)
{
	char line[256];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	int n = snprintf(line, sizeof(line), "<2>brig-guest-init: %s %s: %s\n", step, what, strerror(errno));
	/* Nobody else is there to be told that the log took nothing. */
	if (fd >= 0)
		(void)!write(fd, line, (size_t)n);
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void mount_at(const char *what, const char *at, const char *type, unsigned long flags, const char *data)
{
	if (mkdir(at, 0755) < 0 && errno != EEXIST)
		end("make", at);
	if (mount(what, at, type, flags, data) < 0)
		end("mount", at);
}

/* "NAME=value" for an option that is a text. */
static int text_option(const char *word, const char *name, char *to, size_t cap)
{
	size_t n = strlen(name);
	if (strncmp(word, name, n) != 0)
		return 0;
	snprintf(to, cap, "%s", word + n);
	return 1;
}

static void options_read(void)
{
	char text[4096], *save = NULL;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		end("read", "/proc/cmdline");
	close(fd);
	text[n] = '\0';
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
		if (text_option(w, "brig.root=", options.root, sizeof(options.root)) ||
		    text_option(w, "brig.layer=", options.layer, sizeof(options.layer)) ||
		    text_option(w, "brig.inodes=", options.inodes, sizeof(options.inodes)) ||
		    text_option(w, "brig.pids=", options.pids, sizeof(options.pids)) ||
		    text_option(w, "brig.home=", options.home, sizeof(options.home)) ||
		    text_option(w, "brig.host=", options.host, sizeof(options.host)))
			continue;
		if (strncmp(w, "brig.nofile=", 12) == 0)
			options.nofile = (unsigned)strtoul(w + 12, NULL, 10);
		else if (strncmp(w, "brig.port=", 10) == 0)
			options.port = (unsigned)strtoul(w + 10, NULL, 10);
	}
}

/* Loads /modules/NAME for each line of /modules/order, and gives their memory back. */
static void modules_load(void)
{
	char line[128], path[160];
	FILE *f = fopen("/modules/order", "re");
	if (!f)
		end("open", "/modules/order");
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s", line);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			end("load", path);
		close(fd);
		unlink(path);
	}
	fclose(f);
}

static void root_mount(void)
{
	char data[96];
	mount_at("/dev/vda", "/image", options.root, MS_RDONLY | MS_NODEV, NULL);
	/* The layer's size is that of what is written; its own tree needs a few inodes, too. */
	snprintf(data, sizeof(data), "mode=755,size=%s%s%s", options.layer, options.inodes[0] ? ",nr_inodes=" : "",
		 options.inodes);
	mount_at("layer", "/layer", "tmpfs", MS_NODEV, data);
	if (mkdir("/layer/upper", 0755) < 0 || mkdir("/layer/work", 0755) < 0)
		end("make", "the writable layer");
	mount_at("root", "/root", "overlay", MS_NODEV, "lowerdir=/image,upperdir=/layer/upper,workdir=/layer/work");
}

static void root_fill(void)
{
	static const struct {
		const char *at, *type, *data;
		unsigned long flags;
	} rest[] = {
		{ "/root/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC },
		{ "/root/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV },
		{ "/root/run", "tmpfs", "mode=755", MS_NOSUID | MS_NODEV },
	};
	static const char *const moved[] = { "/proc", "/sys", "/dev" };
	for (unsigned i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		char to[16];
		snprintf(to, sizeof(to), "/root%s", moved[i]);
		mount_at(moved[i], to, NULL, MS_MOVE, NULL);
	}
	for (unsigned i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
		mount_at(rest[i].type, rest[i].at, rest[i].type, rest[i].flags, rest[i].data);
	/* What an ordinary system has, and devtmpfs does not. */
	(void)!symlink("/proc/self/fd", "/root/dev/fd");
	(void)!symlink("/proc/self/fd/0", "/root/dev/stdin");
	(void)!symlink("/proc/self/fd/1", "/root/dev/stdout");
	(void)!symlink("/proc/self/fd/2", "/root/dev/stderr");
}

static void root_switch(void)
{
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		end("enter", "the root");
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		end("set up", "lo");
	close(fd);
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		end("write", path);
	close(fd);
}

/* Everything that the agent will start shares one group of the guest's own kernel. Root inside could leave it;
 * the host is not what it protects. */
static void pids_limit(void)
{
	static const char top[] = "/sys/fs/cgroup";
	unsigned long n = strtoul(options.pids, NULL, 10);
	char text[24];
	if (n == 0)
		return;
	if (mount("cgroup2", top, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		end("mount", top);
	write_to("/sys/fs/cgroup/cgroup.subtree_control", "+pids");
	if (mkdir("/sys/fs/cgroup/brig", 0755) < 0)
		end("make", "a control group");
	snprintf(text, sizeof(text), "%lu", n + 1); /* the agent is one more */
	write_to("/sys/fs/cgroup/brig/pids.max", text);
	write_to("/sys/fs/cgroup/brig/cgroup.procs", "0");
	umount2(top, MNT_DETACH);
}

static void files_limit(void)
{
	const struct rlimit l = { options.nofile, options.nofile };
	if (options.nofile && setrlimit(RLIMIT_NOFILE, &l) < 0)
		end("limit", "descriptors");
}

/* "UID:GID:HEX": in the root that all will see. Links on the way are the image's own affair. */
static void home_give(void)
{
	char *at, path[512] = "";
	unsigned long uid = strtoul(options.home, &at, 10), gid = *at == ':' ? strtoul(at + 1, &at, 10) : 0;
	size_t n = 0;
	struct stat st;
	for (at += *at == ':'; at[0] && at[1] && n < sizeof(path) - 1; at += 2) {
		char pair[3] = { at[0], at[1], '\0' };
		path[n++] = (char)strtoul(pair, NULL, 16);
	}
	path[n] = '\0';
	if (path[0] != '/' || (stat(path, &st) == 0 && st.st_uid == uid))
		return;
	for (char *p = path + 1; *p; p++)
		if (*p == '/') {
			*p = '\0';
			mkdir(path, 0755);
			*p = '/';
		}
	if ((mkdir(path, 0755) < 0 && errno != EEXIST) || chown(path, (uid_t)uid, (gid_t)gid) < 0)
		end("make", "the home directory");
}

static int host_call(void)
{
	const struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = options.port };
	const struct timeval patience = { .tv_sec = 60 };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (fd < 0 ||
	    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience)) < 0 ||
	    connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
		end("call", "the host");
	return fd;
}

static int aside(int fd)
{
	int up = fcntl(fd, F_DUPFD, 16);
	if (up < 0)
		end("place", "a descriptor");
	close(fd);
	return up;
}

static void place(int fd, int at)
{
	if (fd != at && (dup2(fd, at) < 0 || close(fd) < 0))
		end("place", "a descriptor");
}

int main(void)
{
	char name[] = "brig-agent", role[] = "--guest", port[16], *const argv[] = { name, role, port, NULL },
	     *const env[] = { NULL };
	mount_at("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
	/* Whatever console there was: nothing of ours, and nothing of a command's, goes there. */
	int null = open("/dev/null", O_RDWR);
	if (null < 0)
		end("open", "/dev/null");
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	options_read();
	modules_load();
	int agent = open("/agent", O_RDONLY);
	if (agent < 0)
		end("open", "/agent");
	root_mount();
	/* A mount of its own, attached nowhere: ".." leads nowhere from it. */
	int tree = mntfd_clone(AT_FDCWD, "/layer/upper", 0);
	int layer = tree < 0 ? -1 : openat(tree, ".", O_RDONLY | O_DIRECTORY);
	if (layer < 0)
		end("open", "the writable layer");
	close(tree);
	root_fill();
	unlink("/agent");
	unlink("/init");
	root_switch();
	loopback_up();
	home_give();
	pids_limit();
	if (sethostname(options.host, strlen(options.host)) < 0)
		end("name", "the host");
	/* Out of the way first, so that each place is free. */
	agent = aside(agent);
	layer = aside(layer);
	int call = aside(host_call());
	place(call, CHANNEL);
	place(layer, LAYER);
	place(agent, AGENT);
	snprintf(port, sizeof(port), "%u", options.port);
	files_limit();
	fcntl(AGENT, F_SETFD, FD_CLOEXEC);
	syscall(SYS_execveat, AGENT, "", argv, env, AT_EMPTY_PATH);
	end("execute", "the agent");
}
