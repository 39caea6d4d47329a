/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-attack: the corpus of attacks, in one static program that runs in any sandbox.
 *
 * Theory of operation: `brig-attack --list` prints the table, one attack a line, with tabs between
 * name, class, control and the reason for a missing control; `brig-attack NAME` runs one in this
 * process and ends with its verdict (attack.h). It is run by whoever judges: `brig selftest` and
 * tests/attack, both of which also look from outside at what an attack would have reached, because
 * what it says about itself is worth little once it has succeeded.
 */
#include <stdarg.h>

#include "attack/attack.h"

static const struct {
	const char *name, *class, *control, *reason;
	void (*run)(void);
} attacks[] = {
#define X(id, class_, control_, reason_) { #id, class_, control_, reason_, attack_##id },
	BRIG_ATTACKS(X)
#undef X
};

static char name[64];

/* Underscores are C's. */
static const char *said(const char *id)
{
	size_t n = strlen(id);
	for (size_t i = 0; i <= n && i < sizeof(name); i++)
		name[i] = id[i] == '_' ? '-' : id[i];
	return name;
}

void attack_end(enum outcome o, const char *fmt, ...)
{
	static const char *const words[] = { "HELD", "BROKEN", "ERROR" };
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* What the kernel or a tenant named must not make a second line. */
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	printf("%s %s %s\n", words[o], name, text);
	fflush(stdout);
	_exit((int)o);
}

const char *canary(const char *variable)
{
	const char *value = getenv(variable);
	if (!value || !*value)
		untried("%s is not set", variable);
	return value;
}

ssize_t read_some(const char *path, char *buf, size_t cap)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, buf, cap - 1);
	int saved = errno;
	close(fd);
	errno = saved;
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

int in_child(int (*body)(void))
{
	int st;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(body());
	if (pid < 0 || waitpid(pid, &st, 0) != pid)
		untried("no child: %s", strerror(errno));
	return st;
}

static int list(void)
{
	for (size_t i = 0; i < N(attacks); i++)
		printf("%s\t%s\t%s\t%s\n", said(attacks[i].name), attacks[i].class,
		       attacks[i].control, attacks[i].reason);
	return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list();
	for (size_t i = 0; argc == 2 && i < N(attacks); i++) {
		if (strcmp(said(attacks[i].name), argv[1]) == 0) {
			attacks[i].run();
			untried("it ended without a verdict");
		}
	}
	fprintf(stderr, "usage: brig-attack --list | NAME\n");
	return 64;
}
