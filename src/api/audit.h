/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit.h: which requests are written to the audit log (audit/log.h), and what happens when they
 * cannot be.
 *
 * A request is watched from when its route is known. Its record is written when its answer has been
 * chosen and before any of it leaves; a request whose client goes before that is recorded as
 * "unanswered". What only looks at things is recorded if it was refused, and not otherwise.
 */
#ifndef BRIG_API_AUDIT_H
#define BRIG_API_AUDIT_H

#include "api/api.h"
#include "audit/log.h"

struct auditor;

/* With a->data_fd and a->ev; before the system call filter. */
int auditor_open(struct api *a, const struct audit_log_opts *o, bool go_on_when_full,
		 struct brig_err *err);
void auditor_close(struct api *a);

/* The server's signing key, borrowed; NULL without a log. Each purpose has a label of its own. */
struct audit_key *auditor_key(struct api *a);

/* ---- requests of the control plane ---- */

/* path: as the route's table has it; id: what the path names, or "". */
void auditor_watch(struct api *a, struct http_req *r, const char *path, const char *id);
/* Who it is, once that is known; key: the id of a key, or NULL. */
void auditor_who(struct http_req *r, const char *tenant, const char *key, bool operator);
/* Whether it may go on: false if it would change something and no record of that could be written.
 * Then 503 was not answered yet: err says why. */
bool auditor_admits(struct http_req *r, struct brig_err *err);
/* What was made by it, as soon as that is known. */
void auditor_subject(struct http_req *r, const char *id);
/* Writes its record now, as a success: what it asked for has begun, and will take long. */
void auditor_begun(struct http_req *r);

/* ---- requests to a sandbox ---- */

/* A request to envd or the code interpreter of b. false: as auditor_admits(). */
bool auditor_watch_plane(struct box *b, struct http_req *r, unsigned port, struct brig_err *err);

/* An operation behind an upgraded connection that changes something: whether it may go on, as
 * auditor_admits(). If it may, auditor_closes() must follow, once, with its record. */
bool auditor_opens(struct api *a, struct brig_err *err);
void auditor_closes(struct api *a, const struct audit_event *e);
/* Something that was no request of HTTP. e->uid must be set. */
void auditor_add(struct api *a, const struct audit_event *e);

#endif
