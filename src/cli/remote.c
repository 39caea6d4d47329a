/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig itself has no code for a network: it stays a small static program that starts fast, and
 * brig-remote is started only where a URL asks for it. The two are joined by a socket pair that
 * carries the frames of client_proto.h, and by a file in memory: into it brig-remote writes, before
 * it closes the pair, the error that ended it, as a JSON object. So a failure to connect and a
 * connection that is lost in the middle are told by the same path, and nothing is parsed out of
 * messages.
 *
 * brig-remote has a session of its own, because Ctrl-C is for the command; it ends when brig closes
 * its end or dies. It gets the caller's whole environment: the key, proxies, and where libcurl looks
 * for certificates are there.
 */
#include "cli/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/spawn.h"

#define PROGRAM "brig-remote"
/* A message and a remedy, in JSON. */
#define WORDS_MAX 8192

static const struct {
	const char *flag, *variable;
} globals[] = {
	{ "--url", "BRIG_URL" },
	{ "--cacert", "BRIG_CA_FILE" },
};

/* How many words it takes: 0 = it is none of ours, -1 = its value is missing. */
static int global_take(char **argv, int argc, unsigned i)
{
	const char *flag = globals[i].flag, *value;
	size_t n = strlen(flag);
	int words = 1;
	if (strncmp(argv[0], flag, n) != 0 || (argv[0][n] && argv[0][n] != '='))
		return 0;
	if (argv[0][n] == '=') {
		value = argv[0] + n + 1;
	} else {
		value = argc > 1 ? argv[1] : NULL;
		words = 2;
	}
	if (!value || !value[0])
		return -1;
	return setenv(globals[i].variable, value, 1) < 0 ? -1 : words;
}

int remote_flags(struct cli *cli, int *argc, char ***argv)
{
	for (int took = 1; took && *argc > 1;) {
		took = 0;
		for (unsigned i = 0; i < sizeof(globals) / sizeof(globals[0]) && !took; i++) {
			took = global_take(*argv + 1, *argc - 1, i);
			if (took < 0)
				return cli_usage(cli, "%s: its value is missing", globals[i].flag);
		}
		*argv += took;
		*argc -= took;
	}
	return 0;
}

const char *remote_url(void)
{
	const char *url = getenv("BRIG_URL");
	return url ? url : "";
}

bool remote_wanted(void)
{
	return remote_url()[0] != '\0';
}

/* argv with descriptors 3 (the stream) and 4 (the words). */
static int remote_start(const char *const *argv, struct server *ret, struct brig_err *err)
{
	char path[PATH_MAX];
	int pair[2];
	pid_t pid;
	if (spawn_find(PROGRAM, path, err) < 0) {
		/* "not found" would mean that no server runs. */
		err->code = BRIG_E_UNAVAILABLE;
		return brig_ctx(err, "reach '%.200s'", remote_url());
	}
	AUTO_FD words = memfd_create("brig-remote-words", MFD_CLOEXEC);
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (words < 0 || null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a connection");
	AUTO_FD mine = pair[0];
	AUTO_FD theirs = pair[1];
	struct spawn s = { .path = path,
			   .argv = argv,
			   .fds = { null, null, 2, theirs, words },
			   .nfds = 5,
			   .session = true };
	if (spawn_start(&s, &pid, err) < 0) {
		err->code = BRIG_E_UNAVAILABLE;
		return -1;
	}
	ret->remote = true;
	fd_close(&ret->log);
	ret->log = fd_steal(&words);
	return fd_steal(&mine);
}

int remote_connect(struct server *ret, struct brig_err *err)
{
	static const char *const argv[] = { PROGRAM, "--fd", "3", "--words-fd", "4", NULL };
	return remote_start(argv, ret, err);
}

int remote_call(const char *method, const char *path, size_t n, struct server *ret,
		struct brig_err *err)
{
	char length[24];
	const char *const argv[] = { PROGRAM, "--fd",	"3",	  "--words-fd", "4",	"--call",
				     method,  "--path", path, "--body",	  length, NULL };
	snprintf(length, sizeof(length), "%zu", n);
	return remote_start(argv, ret, err);
}

int remote_lost(struct server *s, struct brig_err *err)
{
	char text[WORDS_MAX];
	json_error_t je;
	ssize_t n = s->log >= 0 ? pread(s->log, text, sizeof(text), 0) : -1;
	json_t *error = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &je) : NULL;
	if (json_is_object(error))
		err_from_json(error, err);
	else
		brig_err_set(err, BRIG_E_UNAVAILABLE, 0,
			     PROGRAM " ended without a word on the connection to '%.200s'",
			     remote_url());
	json_decref(error);
	/* "not found" would mean that no server runs here. */
	if (err->code == BRIG_E_NOT_FOUND)
		err->code = BRIG_E_UNAVAILABLE;
	return -1;
}

int remote_refuse(struct cli *cli, const char *what, const char *remedy)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (!remote_wanted())
		return 0;
	brig_err_set(&err, BRIG_E_UNSUPPORTED, 0,
		     "%s works on the server's machine only, and BRIG_URL names the server '%.200s'",
		     what, remote_url());
	brig_err_remedy(&err, "%s", remedy);
	return cli_fail(cli, &err);
}
