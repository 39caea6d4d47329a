/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor.h: what `brig serve` is: it owns the sockets, starts brigd, brig-jaild and brig-api, and
 * starts them again. It reads nothing that a client sends.
 */
#ifndef BRIG_CLI_SUPERVISOR_H
#define BRIG_CLI_SUPERVISOR_H

#include "base/err.h"
#include "cli/activate.h"
#include "cli/apiproc.h"
#include "cli/server.h"

struct supervisor_opts {
	char socket[SERVER_PATH_MAX];
	const char *data;
	const char *const *extra; /* further arguments of brigd, NULL-terminated */
	const struct apiproc_opts *api; /* NULL: no HTTP */
	const struct activation *activation; /* NULL: there is no service manager */
	const char *guest_kernel; /* as in server.h */
	bool no_net;		  /* no sandbox gets a network */
	unsigned grace_ms;	  /* for what is under way when the end is asked for */
	int ready;		  /* a byte is written here when it listens; -1 */
};

/* Serves until a signal or until brigd was idle for long enough. 0, or -1 with err. */
int supervisor_run(const struct supervisor_opts *o, struct brig_err *err);

#endif
