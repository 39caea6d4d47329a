/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A volume holds whatever a tenant put there, and an archive whatever somebody packed. Neither is read by
 * anything on the host: tar runs in a sandbox that has the volume and nothing else, and what reaches us is
 * bytes of its output. A link out of the volume, or a name with "..", leads into that sandbox, which ends
 * with the command; the volume's limits hold for it as for any other.
 *
 * The sandbox is made by this very program, as a child: `brig run`, with the same server and rights.
 */
#include "cli/volumework.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "brig/client_proto.h"
#include "cli/cp_path.h"
#include "cli/volumeuse.h"

#define INSIDE "/volume"
/* What restore says when the volume is not empty; sysexits.h has no better, and tar uses 1 and 2. */
#define NOT_EMPTY 73
#define WORDS 32

/* Runs brig with these words; in and out are its standard descriptors, -1: ours. Returns the pid or -1. */
static pid_t start(const char *const *argv, int in, int out, struct brig_err *err)
{
	pid_t parent = getpid(), pid = fork();
	if (pid > 0)
		return pid;
	if (pid < 0) {
		brig_err_set(err, BRIG_E_EXHAUSTED, errno, "start brig");
		return -1;
	}
	/* It ends with us, and its sandbox with it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent || (in >= 0 && dup2(in, 0) < 0) || (out >= 0 && dup2(out, 1) < 0))
		_exit(BRIG_EXIT_FAILED);
	execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
	_exit(BRIG_EXIT_FAILED);
}

/* Its exit code as a shell has it. */
static int finish(pid_t pid)
{
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The words of a run that has the volume, up to the command; returns their number. */
static size_t run_words(const struct volumework *w, const char *volume, const char **argv)
{
	size_t n = 0;
	argv[n++] = "brig";
	argv[n++] = "run";
	argv[n++] = "--image";
	argv[n++] = w->image ? w->image : "host";
	argv[n++] = "--user";
	argv[n++] = w->user ? w->user : "root";
	argv[n++] = "--volume";
	argv[n++] = volume;
	argv[n++] = "--no-tty";
	if (w->timeout) {
		argv[n++] = "--timeout";
		argv[n++] = w->timeout;
	}
	return n;
}

static int told(struct cli *cli, int code, const char *what, const char *name)
{
	struct brig_err err = BRIG_ERR_INIT;
	/* brig has said why itself. */
	if (code == BRIG_EXIT_FAILED || code == 124 || code >= 126)
		return BRIG_EXIT_FAILED;
	brig_err_set(&err, BRIG_E_INTERNAL, 0, "%s volume '%s': tar ended with %d", what, name, code);
	brig_err_remedy(&err, "its messages are above");
	return cli_fail(cli, &err);
}

int volumework_backup(struct cli *cli, const struct volumework *w, const char *name, const char *file)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *argv[WORDS];
	char volume[128];
	if (volumeuse_check(name, &err) < 0)
		return cli_usage_err(cli, &err);
	AUTO_FD out = file ? open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	if (file && out < 0) {
		brig_err_set(&err, errno == EEXIST ? BRIG_E_EXISTS : BRIG_E_DENIED, errno, "make '%.256s'", file);
		return cli_fail(cli, &err);
	}
	if (!file && isatty(STDOUT_FILENO))
		return cli_usage(cli, "an archive does not go to a terminal: name a file, or use a pipe");
	snprintf(volume, sizeof(volume), "%s:" INSIDE ":ro", name);
	size_t n = run_words(w, volume, argv);
	static const char *const tar[] = { "--",	      "tar",	 "--create", "--file=-", "--numeric-owner",
					   "--xattrs",	      "--acls",  "--sparse", "--directory=" INSIDE,
					   ".",		      NULL };
	memcpy(argv + n, tar, sizeof(tar));
	pid_t pid = start(argv, -1, out, &err);
	if (pid < 0)
		return cli_fail(cli, &err);
	int code = finish(pid);
	if (code == 0 && file && fsync(out) < 0) {
		brig_err_set(&err, BRIG_E_UNAVAILABLE, errno, "write '%.256s'", file);
		code = cli_fail(cli, &err);
	} else if (code) {
		code = told(cli, code, "back up", name);
	}
	/* Half an archive is none. */
	if (code && file)
		unlink(file);
	return code;
}

int volumework_restore(struct cli *cli, const struct volumework *w, const char *name, const char *file)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *argv[WORDS];
	char volume[128];
	if (volumeuse_check(name, &err) < 0)
		return cli_usage_err(cli, &err);
	AUTO_FD in = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	if (file && in < 0) {
		brig_err_set(&err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, errno, "open '%.256s'", file);
		return cli_fail(cli, &err);
	}
	if (!file && isatty(STDIN_FILENO))
		return cli_usage(cli, "volume restore reads an archive: name a file, or use a pipe");
	snprintf(volume, sizeof(volume), "%s:" INSIDE, name);
	size_t n = run_words(w, volume, argv);
	argv[n++] = "--interactive";
	static const char *const tar[] = {
		"--", "sh", "-c",
		"[ -z \"$(ls -A " INSIDE ")\" ] || exit 73; "
		"exec tar --extract --file=- --numeric-owner --same-owner --preserve-permissions --xattrs "
		"--xattrs-include='*' --acls --directory=" INSIDE,
		NULL
	};
	memcpy(argv + n, tar, sizeof(tar));
	pid_t pid = start(argv, in, -1, &err);
	if (pid < 0)
		return cli_fail(cli, &err);
	int code = finish(pid);
	if (code == NOT_EMPTY) {
		brig_err_set(&err, BRIG_E_STATE, 0, "volume '%s' is not empty", name);
		brig_err_remedy(&err, "restore into a new one: brig volume create");
		return cli_fail(cli, &err);
	}
	return code ? told(cli, code, "restore", name) : 0;
}

/* ---- cp ---- */

/* VOLUME:PATH as SANDBOX:/volume/PATH; new string. */
static char *place(const char *text, const char *box, const char **volume, size_t *ret_n, struct brig_err *err)
{
	struct cp_place p;
	char *out = NULL;
	if (cp_place_parse(text, &p, err) < 0)
		return NULL;
	if (!p.id[0]) {
		out = strdup(text);
	} else {
		size_t n = strlen(p.id);
		if (*volume && (n != *ret_n || strncmp(*volume, text, n) != 0)) {
			brig_err_set(err, BRIG_E_INVALID, 0, "two volumes in one copy");
			return NULL;
		}
		*volume = text;
		*ret_n = n;
		if (asprintf(&out, "%s:" INSIDE "/%s", box, p.path) < 0)
			out = NULL;
	}
	if (!out)
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "read '%.80s'", text);
	return out;
}

/* A sandbox that has the volume as long as its standard input is open; returns the pid. */
static pid_t holder(const struct volumework *w, const char *volume, const char *box, int *ret_in,
		    struct brig_err *err)
{
	const char *argv[WORDS];
	int in[2], out[2];
	char word[6] = "";
	if (pipe2(in, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a pipe");
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in[0]);
		close(in[1]);
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a pipe");
	}
	size_t n = run_words(w, volume, argv);
	const char *const rest[] = { "--name", box, "--interactive", "--", "sh", "-c", "echo ready; exec cat", NULL };
	memcpy(argv + n, rest, sizeof(rest));
	pid_t pid = start(argv, in[0], out[1], err);
	close(in[0]);
	close(out[1]);
	/* It runs; or it has ended, and said why. */
	if (pid > 0 && fd_read_full(out[0], word, sizeof(word)) != sizeof(word)) {
		(void)finish(pid);
		pid = 0;
	}
	close(out[0]);
	if (pid > 0)
		*ret_in = in[1];
	else
		close(in[1]);
	return pid;
}

int volumework_cp(struct cli *cli, const struct volumework *w, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char **words = calloc((size_t)argc + 8, sizeof(*words)), *volume = NULL;
	char box[40], spec[256];
	uint64_t number = 0;
	size_t n = 0, len = 0;
	int code = 0, in = -1;
	bool writes = false;
	while (getrandom(&number, sizeof(number), 0) != sizeof(number))
		;
	snprintf(box, sizeof(box), "volume-cp-%016llx", (unsigned long long)number);
	if (!words)
		return cli_usage(cli, "too many files");
	words[n++] = "brig";
	words[n++] = "cp";
	words[n++] = "--user";
	words[n++] = w->user ? w->user : "root";
	size_t first = n;
	for (int i = 0; i < argc && code == 0; i++) {
		words[n] = place(argv[i], box, &volume, &len, &err);
		code = words[n] ? 0 : cli_usage_err(cli, &err);
		n += code == 0;
		writes = code == 0 && strncmp(words[n - 1], box, strlen(box)) == 0; /* of the last, which counts */
	}
	if (code == 0 && !volume)
		code = cli_usage(cli, "no place is in a volume (VOLUME:PATH)");
	if (code == 0) {
		snprintf(spec, sizeof(spec), "%.*s:" INSIDE "%s", (int)(len < 128 ? len : 128), volume,
			 writes ? "" : ":ro");
		pid_t pid = holder(w, spec, box, &in, &err);
		if (pid > 0) {
			pid_t copy = start(words, -1, -1, &err);
			code = copy > 0 ? finish(copy) : cli_fail(cli, &err);
			close(in);
			(void)finish(pid);
		} else {
			code = pid < 0 ? cli_fail(cli, &err) : BRIG_EXIT_FAILED;
		}
	}
	while (n > first)
		free((char *)(uintptr_t)words[--n]);
	free(words);
	return code;
}
