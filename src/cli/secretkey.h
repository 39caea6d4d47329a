/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secretkey.h: the file with the key of secrets: 64 hexadecimal digits, mode 0600, outside the folder
 * that brig-api can write to.
 */
#ifndef BRIG_CLI_SECRETKEY_H
#define BRIG_CLI_SECRETKEY_H

#include <limits.h>

#include "base/err.h"

#define SECRET_KEY_FILE "secret.key"
/* Behind the name: the key that a rekey is about to make the one. */
#define SECRET_KEY_NEW ".new"
#define SECRET_KEY_HEX 64

/* given, or secret.key in the data folder. */
int secretkey_path(const char *given, const char *data, char ret[PATH_MAX], struct brig_err *err);
/* Opens the file, and makes it if it is not there. The descriptor, or -1 with err. */
int secretkey_open(const char *path, struct brig_err *err);
/* Opens FILE.new: the descriptor, -1 if there is none (err is untouched) or with err. */
int secretkey_open_new(const char *path, struct brig_err *err);
/* Makes a key in FILE.new, on the disk before this returns; ret_hex is to be wiped. */
int secretkey_make_new(const char *path, char ret_hex[SECRET_KEY_HEX + 1], struct brig_err *err);
/* FILE.new becomes FILE / goes. 0 or -1 with err. */
int secretkey_take_new(const char *path, struct brig_err *err);
int secretkey_drop_new(const char *path, struct brig_err *err);
/* The digits of a file. */
int secretkey_read(int fd, char ret_hex[SECRET_KEY_HEX + 1], struct brig_err *err);

#endif
