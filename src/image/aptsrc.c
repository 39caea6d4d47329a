/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aptsrc.c: asks apt-get and apt-config instead of parsing their files.
 *
 * Theory of operation
 * -------------------
 * Of what apt knows, only the archives of the wanted release are used (SUITE, SUITE-updates,
 * SUITE-security): a third party's repository on the host must not decide what is in the base
 * image. Options are taken by name for the same reason; what they say (a proxy's password, say)
 * does not stay in the image.
 */
#include "image/aptsrc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define OUTPUT_MAX (1 << 20)

/* Runs a program and returns what it prints (NUL-terminated, the caller's), or NULL. */
static char *run_output(const char *const argv[])
{
	int pipefd[2], status = -1;
	char *text = malloc(OUTPUT_MAX);
	if (!text || pipe2(pipefd, O_CLOEXEC) < 0) {
		free(text);
		return NULL;
	}
	AUTO_FD in = pipefd[0];
	AUTO_FD out = pipefd[1];
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0)
			_exit(127);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	fd_close(&out);
	ssize_t n = pid < 0 ? -1 : fd_read_full(in, text, OUTPUT_MAX - 1);
	fd_close(&in);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0 || n < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

/* The value of NAME=value or NAME="value" in the text of /etc/os-release. */
static int os_release(const char *text, const char *name, char *ret, size_t cap)
{
	size_t n = strlen(name);
	for (const char *line = text; line;
	     line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncmp(line, name, n) != 0 || line[n] != '=')
			continue;
		line += n + 1;
		line += *line == '"';
		size_t k = strcspn(line, "\"\n");
		if (k >= cap)
			return -1;
		memcpy(ret, line, k);
		ret[k] = '\0';
		return 0;
	}
	return -1;
}

static void host_suite(const char *fallback, char *ret, size_t cap)
{
	char text[4096], id[32];
	if (fd_slurp_at(AT_FDCWD, "/etc/os-release", text, sizeof(text)) < 0 ||
	    os_release(text, "ID", id, sizeof(id)) < 0 || strcmp(id, "debian") != 0 ||
	    os_release(text, "VERSION_CODENAME", ret, cap) < 0)
		snprintf(ret, cap, "%s", fallback);
}

static int suite_ok(const char *s)
{
	size_t n = strlen(s);
	return n > 0 && n < 32 && islower((unsigned char)s[0]) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

/* SUITE, SUITE-updates, SUITE-security; not SUITE-backports, and nobody else's. */
static int is_of_suite(const char *name, const char *suite)
{
	size_t n = strlen(suite);
	return strncmp(name, suite, n) == 0 &&
	       (name[n] == '\0' || strcmp(name + n, "-updates") == 0 ||
		strcmp(name + n, "-security") == 0);
}

static void add(char **list, size_t *n, const char *text)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp(list[i], text) == 0)
			return;
	if (*n < APTSRC_LINES && (list[*n] = strdup(text)))
		++*n;
}

/* Lines of "URI SUITE COMPONENT". */
static void read_sources(struct aptsrc *a)
{
	static const char *const argv[] = { "apt-get",
					    "indextargets",
					    "--format",
					    "$(REPO_URI) $(RELEASE) $(COMPONENT)",
					    "Created-By: Packages",
					    NULL };
	AUTO_FREE char *text = run_output(argv);
	char *save = NULL;
	if (!text)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char uri[512], suite[64], component[64], deb[700];
		if (sscanf(line, "%511s %63s %63s", uri, suite, component) != 3 ||
		    !is_of_suite(suite, a->suite) ||
		    (strncmp(uri, "http://", 7) != 0 && strncmp(uri, "https://", 8) != 0))
			continue;
		snprintf(deb, sizeof(deb), "deb %s %s %s", uri, suite, component);
		add(a->lines, &a->nlines, deb);
	}
}

static void read_options(struct aptsrc *a)
{
	static const char *const argv[] = { "apt-config", "dump", NULL };
	static const char *const wanted[] = {
		"Acquire::http::", "Acquire::https::",	     "Acquire::Check-",
		"Acquire::Force",  "Acquire::Max-ValidTime", "Acquire::Retries",
	};
	AUTO_FREE char *text = run_output(argv);
	char *save = NULL;
	if (!text)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t n = strlen(line);
		if (n < 4 || strcmp(line + n - 4, " \"\";") == 0)
			continue; /* a node without a value */
		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
			if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) {
				line[n - 1] = line[n - 1] == ';' ? '\0' : line[n - 1];
				add(a->options, &a->noptions, line);
				break;
			}
	}
}

int aptsrc_read(const char *suite, const char *fallback, struct aptsrc *ret, struct brig_err *err)
{
	struct aptsrc a = { .nlines = 0 };
	if (suite)
		snprintf(a.suite, sizeof(a.suite), "%s", suite);
	else
		host_suite(fallback, a.suite, sizeof(a.suite));
	if (!suite_ok(suite ? suite : a.suite)) {
		brig_fail(err, BRIG_E_INVALID, 0, "'%s' is no Debian release",
			  suite ? suite : a.suite);
		return brig_fix(err, "name it as the archive does: --suite %s", fallback);
	}
	read_sources(&a);
	read_options(&a);
	*ret = a;
	return 0;
}

void aptsrc_done(struct aptsrc *a)
{
	for (size_t i = 0; i < a->nlines; i++)
		free(a->lines[i]);
	for (size_t i = 0; i < a->noptions; i++)
		free(a->options[i]);
	a->nlines = a->noptions = 0;
}
