/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h: the STATUS object of client_proto.h: which exit code it means, how it is told to a
 * person, and where --status-json writes it.
 */
#ifndef BRIG_CLI_STATUS_H
#define BRIG_CLI_STATUS_H

#include <stddef.h>

#include <jansson.h>

#include "base/err.h"

/* 0 to 255, or -1 if the object has none that is usable. */
int status_exit_code(const json_t *status);

/* "memory limit 512 MiB met (out_of_memory)": why the command was stopped, in one line. 0 if it
 * ended by itself, in which case nothing is to be said. */
int status_reason(const json_t *status, char *ret, size_t cap);
/* "pids, disk": limits that were met on the way; 0 if none. */
int status_limits_hit(const json_t *status, char *ret, size_t cap);

/* The place of --status-json: a file that is made now, before anything runs, or the number of a
 * descriptor that is open. Call it before other descriptors are opened. */
int status_sink_open(const char *where, int *ret_fd, struct brig_err *err);
/* Writes one line. */
int status_sink_write(int fd, const json_t *status, struct brig_err *err);
/* What is written when there is no STATUS because brig failed; NULL when out of memory. */
json_t *status_of_failure(const json_t *error);

#endif
