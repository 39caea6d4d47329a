/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: see failpoint.h. Compiled into fault-test builds only; the count of passages
 * is per process, and the environment is read once, so that a test cannot race with the program.
 */
#include "base/failpoint.h"

#ifdef BRIG_FAILPOINTS
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	int read, error, stall;
	char name[64];
	unsigned long left;
} fp;

static void failpoint_read(void)
{
	fp.read = 1;
	const char *env = getenv("BRIG_FAILPOINT");
	if (!env || strlen(env) >= sizeof(fp.name))
		return;
	strcpy(fp.name, env);
	char *how = strchr(fp.name, '=');
	if (how) {
		*how++ = '\0';
		fp.stall = strcmp(how, "stall") == 0;
		fp.error = strcmp(how, "error") == 0;
	}
	char *count = strchr(fp.name, ':');
	if (count)
		*count++ = '\0';
	fp.left = count ? strtoul(count, NULL, 10) : 1;
}

char *failpoint_env(void)
{
	static const char key[] = "BRIG_FAILPOINT=";
	for (char **e = environ; e && *e; e++)
		if (strncmp(*e, key, sizeof(key) - 1) == 0)
			return *e;
	return NULL;
}

int failpoint_is(const char *name)
{
	if (!fp.read)
		failpoint_read();
	return strcmp(fp.name, name) == 0;
}

int failpoint_hit(const char *name)
{
	if (!fp.read)
		failpoint_read();
	if (fp.left == 0 || strcmp(fp.name, name) != 0 || --fp.left)
		return 0;
	if (fp.error)
		return -EIO;
	if (fp.stall) {
		struct timespec five = { .tv_sec = 5 };
		while (nanosleep(&five, &five) < 0 && errno == EINTR)
			;
		return 0;
	}
	raise(SIGKILL);
	/* The first process of a pid namespace is spared by its own signals. */
	_exit(128 + SIGKILL);
}
#else
/* ISO C forbids an empty translation unit. */
typedef int failpoint_unused;
#endif
