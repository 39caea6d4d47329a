/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c: brig-pull, which `brig image pull` starts.
 *
 * Theory of operation
 * -------------------
 * It talks to a registry, so nothing of it is trusted by who started it: it gets a folder, as a
 * descriptor, fills it, and says in a struct of fixed size why it could not; what it wrote is verified
 * and parsed by processes without a network. Before the first connection it becomes an id that nobody
 * has (as root), may write nowhere but in that folder (Landlock, where the kernel has it) and read only
 * what finding a host and checking a certificate takes, and gains no rights by executing anything.
 *
 * A password comes by the environment, never by an argument, which every user could read.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "image/confine.h"
#include "pull/registry.h"

enum { FD_DIR = 3, FD_WORDS = 4 };

#define CA_MAX (4u << 20)

static int unsupported(struct brig_err *err, int sys, const char *what)
{
	return brig_fail(err, BRIG_E_UNSUPPORTED, sys, "cannot confine the download: %s", what);
}

static int allow(int rules, int fd, uint64_t what)
{
	struct landlock_path_beneath_attr a = { .allowed_access = what, .parent_fd = fd };
	return (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &a, 0);
}

/* Must leave the layout to write, and what resolving a name and checking a certificate reads. */
static int confine_paths(struct brig_err *err)
{
	static const char *const readable[] = { "/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve",
						"/run/resolvconf", "/run/NetworkManager", "/dev/urandom",
						"/dev/null" };
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		       write = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
			       LANDLOCK_ACCESS_FS_REMOVE_FILE;
	struct landlock_ruleset_attr all = {
		/* Everything that the first version of Landlock (5.13) knows. */
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1
	};
	AUTO_FD rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules < 0)
		return 0; /* an older kernel, or it is off: the id remains */
	for (unsigned i = 0; i < sizeof(readable) / sizeof(readable[0]); i++) {
		AUTO_FD fd = open(readable[i], O_PATH | O_CLOEXEC);
		bool file = strncmp(readable[i], "/dev/", 5) == 0;
		if (fd >= 0 && allow(rules, fd, file ? (uint64_t)LANDLOCK_ACCESS_FS_READ_FILE : read) < 0)
			return unsupported(err, errno, "Landlock");
	}
	if (allow(rules, FD_DIR, read | write) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return unsupported(err, errno, "Landlock");
	return 0;
}

static int confine(uint64_t max_bytes, struct brig_err *err)
{
	const struct {
		__rlimit_resource_t which;
		rlim_t value;
	} limits[] = { { RLIMIT_CORE, 0 },
		       { RLIMIT_FSIZE, max_bytes },
		       { RLIMIT_NOFILE, 256 },
		       { RLIMIT_CPU, 3600 } };
	for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit rl = { limits[i].value, limits[i].value }, now;
		if (getrlimit(limits[i].which, &now) == 0 && now.rlim_max < rl.rlim_max)
			rl.rlim_cur = rl.rlim_max = now.rlim_max;
		if (setrlimit(limits[i].which, &rl) < 0)
			return unsupported(err, errno, "resource limits");
	}
	signal(SIGXFSZ, SIG_IGN);
	umask(077);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return unsupported(err, errno, "no_new_privs");
	if (confine_paths(err) < 0)
		return -1;
	if (geteuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(CONFINE_ID, CONFINE_ID, CONFINE_ID) < 0 ||
	     setresuid(CONFINE_ID, CONFINE_ID, CONFINE_ID) < 0))
		return unsupported(err, errno, "an unprivileged user id");
	if (geteuid() == CONFINE_ID && setresuid(0, 0, 0) == 0)
		return unsupported(err, 0, "root could be regained");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return unsupported(err, errno, "its end with who started it");
	return 0;
}

/* The operator's file is read while there is a right to. */
static int read_ca(struct pull_options *o, const char *path, struct brig_err *err)
{
	char *text = malloc(CA_MAX);
	ssize_t n = text ? fd_slurp_at(AT_FDCWD, path, text, CA_MAX) : -ENOMEM;
	if (n < 0) {
		brig_fail(err, BRIG_E_INVALID, (int)-n, "read '%.200s'", path);
		return brig_fix(err, "--cacert takes a file of PEM certificates");
	}
	o->http.ca = text; /* until the end */
	o->http.ca_n = (size_t)n;
	return 0;
}

static int options(int argc, char **argv, struct pull_options *o, struct brig_err *err)
{
	const char *ref = NULL;
	for (int i = 1; i < argc; i++) {
		uint64_t n;
		const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (strcmp(arg, "--plain-http") == 0)
			o->http.plain_http = true;
		else if (strcmp(arg, "--insecure-tls") == 0)
			o->http.insecure_tls = true;
		else if (strcmp(arg, "--quiet") == 0)
			o->quiet = true;
		else if (!value)
			return -2;
		else if (strcmp(arg, "--ref") == 0)
			ref = argv[++i];
		else if (strcmp(arg, "--cacert") == 0) {
			if (read_ca(o, argv[++i], err) < 0)
				return -1;
		} else if (size_parse_count(argv[++i], &n) < 0)
			return -2;
		else if (strcmp(arg, "--stall") == 0)
			o->http.stall_s = (long)n;
		else if (strcmp(arg, "--max") == 0)
			o->max_bytes = n;
		else
			return -2;
	}
	o->user = getenv("BRIG_REGISTRY_USER");
	o->password = getenv("BRIG_REGISTRY_PASSWORD");
	if (!o->user || !o->user[0] || !o->password)
		o->user = NULL;
	return ref ? pull_ref_parse(ref, getenv("BRIG_REGISTRY"), &o->ref, err) : -2;
}

int main(int argc, char **argv)
{
	struct pull_options o = { .http.stall_s = 30, .max_bytes = 16ull << 30 };
	struct brig_err err = BRIG_ERR_INIT;
	signal(SIGPIPE, SIG_IGN);
	int r = fcntl(FD_DIR, F_GETFD) < 0 || fcntl(FD_WORDS, F_GETFD) < 0 ? -2 : options(argc, argv, &o, &err);
	if (r == -2) {
		fputs("brig-pull is started by brig image pull\n", stderr);
		return 2;
	}
	fd_set_cloexec(FD_DIR, 1);
	fd_set_cloexec(FD_WORDS, 1);
	if (r == 0)
		r = confine(o.max_bytes, &err);
	if (r == 0)
		r = pull_image(&o, FD_DIR, &err);
	if (r < 0)
		(void)fd_write_full(FD_WORDS, &err, sizeof(err));
	return r < 0;
}
