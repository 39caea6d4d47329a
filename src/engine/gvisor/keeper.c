/* SPDX-License-Identifier: Apache-2.0 */
/* keeper.c: see keeper.h. Runs in brig-agent's image, a child of the stage that never becomes an agent. */
#include "engine/gvisor/keeper.h"

#include <errno.h>
#include <fcntl.h>
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

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "engine/gvisor/bundle.h"

/* runsc's own name for the sandbox; there is one per state folder. */
#define NAME "s"
#define LOG "/b/log"

int keeper_bundle(const struct stage_enter *e, const struct stage_fds *f, struct stage_step *st)
{
	char opt[96];
	AUTO_FREE char *text = malloc(BUNDLE_MAX);
	struct stat sb;
	int n = text ? bundle_write(&e->spec, lstat("/r/tmp", &sb) == 0 && S_ISDIR(sb.st_mode), text, BUNDLE_MAX) :
		       -ENOMEM;
	if (n < 0)
		return stage_fail(st, n, "write the configuration of runsc");
	snprintf(opt, sizeof(opt), "mode=0700,size=1m,nr_inodes=64,uid=%u,gid=%u", e->host_uid, e->host_gid);
	if (mount("tmpfs", "/b", "tmpfs", MS_NOSUID | MS_NODEV, opt) < 0)
		return stage_fail(st, -errno, "mount the folder of runsc");
	AUTO_FD config = open("/b/config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	AUTO_FD agent = open("/b/agent", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int r = config < 0 ? -errno : fd_write_full(config, text, (size_t)n);
	if (r < 0 || agent < 0 || fchown(config, e->host_uid, e->host_gid) < 0)
		return stage_fail(st, r < 0 ? r : -errno, "write the configuration of runsc");
	/* runsc makes the mount points of what it is told to mount. That of the agent lies in a folder of
	 * ours, so that nothing is written to the tenant's layer. */
	if (mkdir("/b/dev", 0755) < 0 || mount("/b/dev", "/r/dev", NULL, MS_BIND, NULL) < 0 ||
	    chown("/b/dev", e->host_uid, e->host_gid) < 0)
		return stage_fail(st, -errno, "cover /dev of the image (it must be a directory)");
	AUTO_FD at = open("/b/agent", O_PATH | O_CLOEXEC | O_NOFOLLOW);
	struct mntfd_attr ro = { .set = MNTFD_ATTR_RDONLY | MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV };
	if (at < 0 || (r = mntfd_setattr(f->agent, 0, &ro)) < 0 || (r = mntfd_attach(f->agent, at)) < 0)
		return stage_fail(st, at < 0 ? -errno : r, "attach brig-agent");
	return 0;
}

/* The reason is the last line of its log: {"msg":"..","level":"error",..}. */
static void reason(char *ret, size_t cap)
{
	static const char key[] = "\"msg\":\"";
	static char text[4096];
	AUTO_FD fd = open(LOG, O_RDONLY | O_CLOEXEC);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, end > 4000 ? end - 4000 : 0);
	text[n > 0 ? n : 0] = '\0';
	char *msg = NULL;
	for (char *p = text; (p = strstr(p, key)); p++)
		msg = p + sizeof(key) - 1;
	snprintf(ret, cap, "%.150s", msg ? msg : "it says nothing");
	ret[strcspn(ret, "\"")] = '\0';
}

/* Executes runsc VERB and waits for it. chan: descriptor 0 of what it makes; -1 = none. */
static int runsc(const struct stage_fds *f, const char *verb, int net, int chan, struct stage_step *st)
{
	const char *argv[16];
	unsigned n = 0;
	int status = 0;
	argv[n++] = "runsc";
	argv[n++] = "--root=/b/state";
	argv[n++] = "--log=" LOG;
	argv[n++] = "--log-format=json";
	/* The groups are brig's, and the keeper is in them. */
	argv[n++] = "--ignore-cgroups";
	argv[n++] = "--overlay2=none";
	/* The link of the sandbox ends in a network namespace of its own, and that is the host here. */
	argv[n++] = net ? "--network=host" : "--network=none";
	argv[n++] = verb;
	if (chan >= 0)
		argv[n++] = "--bundle=/b";
	argv[n++] = NAME;
	argv[n] = NULL;
	pid_t pid = fork();
	if (pid < 0)
		return stage_fail(st, -errno, "fork for runsc");
	if (pid == 0) {
		char *env[] = { NULL };
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (chan >= 0 && dup2(chan, 0) < 0)
			_exit(126);
		syscall(SYS_execveat, f->runsc, "", argv, env, AT_EMPTY_PATH);
		_exit(127);
	}
	/* What it leaves becomes a child of ours, and does not end before it is started. */
	for (pid_t got = 0; got != pid;) {
		got = waitpid(-1, &status, 0);
		if (got < 0 && errno != EINTR)
			return stage_fail(st, -errno, "wait for runsc");
	}
	if (status == 0)
		return 0;
	char why[160];
	reason(why, sizeof(why));
	return stage_fail(st, -EIO, "runsc %s: %s%s", verb,
			  WIFSIGNALED(status) ? "it was killed (most often for want of --memory); " : "", why);
}

int keeper_create(const struct stage_fds *f, int net, struct stage_step *st)
{
	if (mkdir("/b/state", 0700) < 0)
		return stage_fail(st, -errno, "make the state folder of runsc");
	return runsc(f, "create", net, f->chan, st);
}

static void drop_all(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	/* A failure keeps what jaild has measured. */
	syscall(SYS_capset, &h, none);
}

int keeper_main(struct stage_fds *f, int net)
{
	struct stage_step st = { "" };
	char word;
	int status = 0;
	prctl(PR_SET_NAME, "brig-keeper", 0, 0, 0);
	/* jaild's word that all is what was specified; its end: that it is not, or that nobody waits. */
	if (fd_recv(f->own, &word, 1, NULL, NULL, 0) != 1)
		return 1;
	fd_close(&f->own);
	(void)FAILPOINT("keeper.start");
	if (runsc(f, "start", net, -1, &st) < 0)
		return 1;
	fd_close(&f->runsc);
	drop_all();
	while (waitpid(-1, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
