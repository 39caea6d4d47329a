/* SPDX-License-Identifier: Apache-2.0 */
/* envd_entry.h: paths and files of a sandbox as the E2B clients write and read them; pure
 * functions. */
#ifndef BRIG_API_ENVD_ENTRY_H
#define BRIG_API_ENVD_ENTRY_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/frame.h"

/*
 * What a client means by a path: "~" and "~/x" are below home, others relative to it; "." and ".."
 * and repeated slashes are resolved in the text, as Go's filepath.Clean does. Absolute, without a
 * slash at its end.
 */
int envd_path(const char *asked, const char *home, char ret[PATH_MAX], struct brig_err *err);
/* The last name; "/" of the root. */
const char *envd_path_base(const char *path);
/* dir/name, where name may be "" for the directory itself. -1: too long. */
int envd_path_join(const char *dir, const char *name, char ret[PATH_MAX]);

/* Mode as Go prints it: "-rw-r--r--", "drwxr-xr-x", "dtrwxrwxrwx", "Lrwxrwxrwx". mode is an
 * st_mode. */
#define ENVD_PERMISSIONS_MAX 24
void envd_permissions(uint32_t mode, char ret[ENVD_PERMISSIONS_MAX]);
/* "2026-01-31T12:00:00.123456789Z" */
#define ENVD_TIME_MAX 40
void envd_time(int64_t sec, uint32_t nsec, char ret[ENVD_TIME_MAX]);

/* An FS_ENTRY frame; the strings point into its payload. */
struct envd_entry {
	struct brig_fs_entry e;
	const char *path, *target, *owner, *group;
	const uint8_t *meta, *end; /* pairs of strings */
};
int envd_entry_parse(const struct frame *f, struct envd_entry *ret);
/* Pairs as an object, NULL if there are none. New reference. */
json_t *envd_entry_metadata(const struct envd_entry *e);
/* EntryInfo of an entry that was asked for with BRIG_FS_RESOLVE and BRIG_FS_META. New reference;
 * NULL: no memory, or a name that is no UTF-8 and cannot be told in JSON. */
json_t *envd_entry_json(const struct envd_entry *e, const char *path);

/* Orders a tree depth first and names lexically: '/' sorts before every other byte. */
int envd_path_compare(const char *a, const char *b);

/* How a process ended, in Go's words, of a STATUS of client_proto.h. */
#define ENVD_STATUS_MAX 96
struct envd_exit {
	int code; /* -1 = by a signal */
	bool exited;
	char status[ENVD_STATUS_MAX], error[ENVD_STATUS_MAX]; /* error "" = none */
};
void envd_exit_of(json_t *status, struct envd_exit *ret);

/* Content-Type by the name, NULL if that tells nothing; then by the first bytes. */
const char *envd_type_by_name(const char *path);
const char *envd_type_by_content(const void *p, size_t n);
/* inline; filename=.. in a form that every client reads. free() it; NULL: no memory. */
char *envd_disposition(const char *name);

/* The user of "Basic <base64 of user:password>"; 0, or -EINVAL. */
#define ENVD_USER_MAX 64
int envd_basic_user(const char *header, char ret[ENVD_USER_MAX]);
/* A name as in passwd: nothing that would mean something in brig's USER:GROUP. */
bool envd_user_sane(const char *name);
/* home of a user in the text of a passwd file; -ENOENT. */
int envd_passwd_home(const char *text, size_t n, const char *user, char *ret, size_t cap);

/* One range of bytes: 1 *first and *n are set; 0: not one range that we serve, answer all; -1: none
 * of it exists (416). */
int envd_range(const char *header, uint64_t size, uint64_t *ret_first, uint64_t *ret_n);
/* "Sat, 31 Jan 2026 12:00:00 GMT" */
void envd_http_date(int64_t sec, char ret[ENVD_TIME_MAX]);
int envd_http_date_parse(const char *text, int64_t *ret_sec);
/* Whether Accept-Encoding forbids an answer as it is. */
bool envd_identity_refused(const char *accept);

#endif
