/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/selftest_neighbour.h"

#include <stdio.h>
#include <string.h>

#define WAIT_S 90u

static int call(struct neighbour *n, const char *const *argv, struct brig_err *err)
{
	n->proc = (struct proc){ .path = n->self, .argv = argv, .timeout_s = WAIT_S };
	if (proc_run(&n->proc, NULL, err) < 0)
		return -1;
	if (n->proc.status == 0)
		return 0;
	return brig_fail(err, BRIG_E_UNAVAILABLE, 0, "a sandbox for the selftest: %.300s",
			 n->proc.err);
}

int neighbour_open(struct neighbour *n, const char *tier, const char *accept, struct brig_err *err)
{
	char write[128];
	const char *const create[] = { "brig",	"create",   "-q",  "--image",
				       "host",	"--tier",   tier,  "--name",
				       n->name, "--memory", "64m", accept ? "--accept" : NULL,
				       accept,	NULL };
	/* Root is there on every host. */
	const char *const exec[] = { "brig", "exec", "--user", "root", n->name,
				     "sh",   "-c",   write,    NULL };
	snprintf(n->name, sizeof(n->name), "selftest-%.12s", strrchr(n->secret, '-') + 1);
	snprintf(write, sizeof(write), "echo %s >/tmp/secret", n->secret);
	if (call(n, create, err) < 0)
		return -1;
	n->made = true;
	return call(n, exec, err);
}

void neighbour_remove(struct neighbour *n)
{
	const char *const rm[] = { "brig", "rm", "--force", n->name, NULL };
	struct brig_err ignored = BRIG_ERR_INIT;
	if (n->made)
		(void)call(n, rm, &ignored);
	n->made = false;
}

int neighbour_same(struct neighbour *n, struct brig_err *err)
{
	const char *const cat[] = { "brig",  "exec", "--user",	    "root",
				    n->name, "cat",  "/tmp/secret", NULL };
	if (call(n, cat, err) < 0)
		return -1;
	return strncmp(n->proc.out, n->secret, strlen(n->secret)) == 0;
}
