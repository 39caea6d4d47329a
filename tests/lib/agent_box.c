/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Mount, PID, network and IPC namespaces; a tmpfs of a few MiB as root with the host's /usr bound
 * in; own /proc, devpts and /etc. All of it ends with the PID namespace. No user namespace: uid 0
 * is the test's, with the capabilities of the agent only, which is what the agent sees in a
 * sandbox.
 */
#include "agent_box.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/caps.h"
#include "agent_driver.h"
#include "base/fd.h"

#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC)

static const char default_passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
				     "user:x:1000:1000::/home/user:/bin/sh\n"
				     "other:x:1001:1001::/nowhere:/bin/sh\n";
static const char default_group[] = "root:x:0:\n"
				    "sudo:x:27:user\n"
				    "user:x:1000:\n"
				    "other:x:1001:\n"
				    "extra:x:2000:other,user\n"
				    "more:x:2001:user\n";

bool box_possible(const char **ret_why)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(geteuid() == 0 && unshare(NAMESPACES | CLONE_NEWNS) == 0 ? 0 : 1);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
		return true;
	*ret_why = "needs root with CAP_SYS_ADMIN";
	return false;
}

static int file_put(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));
}

static int bind_file(const char *from, const char *to)
{
	if (file_put(to, "") < 0)
		return -1;
	return mount(from, to, NULL, MS_BIND, NULL);
}

static int root_build(const struct drv_options *o, const char *root)
{
	static const char *const dirs[] = { "usr", "proc", "dev",  "dev/pts",	"etc", "etc/brig",
					    "tmp", "root", "home", "home/user", "opt" };
	static const char *const links[] = { "bin", "sbin", "lib", "lib64" };
	static const char *const nodes[] = { "null", "zero", "urandom", "tty" };
	char size[64], path[256], from[64];
	snprintf(size, sizeof(size), "size=%uk,mode=755,nr_inodes=2000",
		 o->root_kib ? o->root_kib : 4096);
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("box", root, "tmpfs", 0, size) < 0 || chdir(root) < 0)
		return -1;
	umask(0);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return -1;
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		snprintf(path, sizeof(path), "usr/%s", links[i]);
		if (symlink(path, links[i]) < 0)
			return -1;
	}
	if (chmod("tmp", 01777) < 0 || chown("home/user", 1000, 1000) < 0 ||
	    mount("/usr", "usr", NULL, MS_BIND | MS_REC, NULL) < 0 ||
	    mount("proc", "proc", "proc", 0, NULL) < 0 ||
	    mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620") < 0 ||
	    symlink("pts/ptmx", "dev/ptmx") < 0)
		return -1;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		snprintf(path, sizeof(path), "dev/%s", nodes[i]);
		snprintf(from, sizeof(from), "/dev/%s", nodes[i]);
		if (bind_file(from, path) < 0)
			return -1;
	}
	if (o->sudo && bind_file(o->sudo, "opt/sudo") < 0)
		return -1;
	if (file_put("etc/passwd", o->passwd ? o->passwd : default_passwd) < 0 ||
	    file_put("etc/group", o->group ? o->group : default_group) < 0)
		return -1;
	return 0;
}

/* The root becomes /, and nothing of the host's tree can be reached any more. */
static int root_enter(void)
{
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return -1;
	return umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -1 : 0;
}

static int caps_keep(uint64_t keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	for (unsigned c = 0; c < 64; c++)
		if (!(keep >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL)
			return -1;
	for (int i = 0; i < 2; i++)
		d[i].permitted = d[i].effective = (uint32_t)(keep >> (32 * i));
	if (syscall(SYS_capset, &h, d) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int box_init(const struct drv_options *o, const char *root, int chan)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	int fd = fcntl(chan, F_DUPFD_CLOEXEC, 3);
	if (fd < 0 || unshare(CLONE_NEWNS) < 0 || root_build(o, root) < 0 || root_enter() < 0 ||
	    caps_keep(BRIG_CAPS_AGENT) < 0) {
		perror("box");
		return 99;
	}
	close(chan);
	int layer = o->layer ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return agent_main(fd, layer, -1, -1, NULL);
}

int box_run(const struct drv_options *o, int chan)
{
	char root[] = "/tmp/brig-box.XXXXXX";
	int status;
	if (!mkdtemp(root) || unshare(NAMESPACES) < 0) {
		perror("box");
		return 99;
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(box_init(o, root, chan));
	close(chan);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = 99 << 8;
	/* The mount was in a namespace of the child's. */
	rmdir(root);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}
