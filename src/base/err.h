/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h: one error value for everything that knows what the user asked for.
 *
 * A struct brig_err lives on the caller's stack, needs no allocation and nothing to release. The
 * place that fails fills it with brig_fail() and returns -1; each level above may say what it was
 * doing with brig_ctx(), so that the text reads from the outside in: "create sandbox 'a1': open
 * image 'nope': No such file or directory". brig_fix() adds the remedy. Nothing here logs.
 */
#ifndef BRIG_BASE_ERR_H
#define BRIG_BASE_ERR_H

#include <stddef.h>

/* X(name, text, retryable): the codes of the API and of `--status-json`. Text is what a client
 * matches on; it never changes. */
#define BRIG_ERRORS(X)                                 \
	X(OK, "ok", 0)                                 \
	X(INVALID, "invalid_argument", 0)              \
	X(NOT_FOUND, "not_found", 0)                   \
	X(EXISTS, "already_exists", 0)                 \
	X(DENIED, "permission_denied", 0)              \
	X(UNSUPPORTED, "unsupported_on_this_host", 0)  \
	X(LIMIT, "limit_out_of_range", 0)              \
	X(BUSY, "busy", 1)                             \
	X(EXHAUSTED, "host_resources_exhausted", 1)    \
	X(STATE, "wrong_state", 0)                     \
	X(PROTOCOL, "protocol_violation", 0)           \
	X(CORRUPT, "corrupt_data", 0)                  \
	X(UNAVAILABLE, "unavailable", 1)               \
	X(MISMATCH, "isolation_mismatch", 0)           \
	X(INTERNAL, "internal_error", 0)

enum brig_code {
#define X(name, text, retry) BRIG_E_##name,
	BRIG_ERRORS(X)
#undef X
	BRIG_E__N_CODES
};

struct brig_err {
	enum brig_code code;
	int sys;           /* errno at the source, 0 = none */
	char msg[512];     /* cause, outermost context first */
	char remedy[256];  /* what to do next, "" = unknown */
};

#define BRIG_ERR_INIT { .code = BRIG_E_OK }

/* The stable text of a code ("not_found"). Out of range answers "internal_error". */
const char *brig_code_name(enum brig_code code);
/* The reverse; BRIG_E_INTERNAL for an unknown text. */
enum brig_code brig_code_from_name(const char *name);
/* 1 if the same request may succeed later. */
int brig_code_retryable(enum brig_code code);

void brig_err_set(struct brig_err *err, enum brig_code code, int sys, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void brig_err_prefix(struct brig_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void brig_err_remedy(struct brig_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Inline, so that compiler and analysers see that the macros below are always -1, also where a
 * caller does not use the value. */
static inline int brig_minus_one(void)
{
	return -1;
}
/* err may be NULL. */
#define brig_fail(err, code, sys, ...) \
	(brig_err_set((err), (code), (sys), __VA_ARGS__), brig_minus_one())
#define brig_ctx(err, ...) (brig_err_prefix((err), __VA_ARGS__), brig_minus_one())
/* The remedy, after brig_fail() or brig_ctx(): return brig_fix(err, "run `brig doctor`"); */
#define brig_fix(err, ...) (brig_err_remedy((err), __VA_ARGS__), brig_minus_one())

#endif
