/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * An error is one struct brig_err wherever it arose: here, or in brigd, whose error object
 * api_err_from() reads. Two shapes leave: brig's own, whose `code` is the stable text of the error,
 * and that of E2B's clients, which look for an integer `code` in the body, not at the status. Both
 * carry the id of the request, by which the log tells the rest.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"

unsigned api_status(enum brig_code code)
{
	switch (code) {
	case BRIG_E_OK:
		return 200;
	case BRIG_E_INVALID:
	case BRIG_E_LIMIT:
		return 400;
	case BRIG_E_DENIED:
		return 403;
	case BRIG_E_NOT_FOUND:
		return 404;
	case BRIG_E_EXISTS:
	case BRIG_E_STATE:
		return 409;
	case BRIG_E_UNSUPPORTED:
		return 422; /* understood, and this host will never do it: no client should retry */
	case BRIG_E_BUSY:
		return 429; /* too much at once of this client; E2B's clients wait and retry */
	case BRIG_E_PROTOCOL:
		return 502; /* what is behind us, brigd or an agent, spoke out of turn */
	case BRIG_E_EXHAUSTED:
	case BRIG_E_UNAVAILABLE:
		return 503;
	case BRIG_E_CORRUPT:
	case BRIG_E_MISMATCH:
	case BRIG_E_INTERNAL:
	case BRIG_E__N_CODES:
		break;
	}
	return 500;
}

/* What to do next, where the place that failed knew nothing better: no error leaves without it. */
static const char *const remedies[] = {
	[BRIG_E_OK] = "nothing is wrong",
	[BRIG_E_INVALID] = "correct the request; GET /openapi.json says what is accepted",
	[BRIG_E_NOT_FOUND] = "check the name; lists tell what there is: GET /v1/sandboxes, "
			     "GET /templates, GET /snapshots",
	[BRIG_E_EXISTS] = "take another name, or remove what has it",
	[BRIG_E_DENIED] =
		"use a key or token that has the right, or a user of the sandbox that has",
	[BRIG_E_UNSUPPORTED] =
		"do without it here; GET /v1/version and `brig doctor` tell what this "
		"host has",
	[BRIG_E_LIMIT] = "stay within the limit that the message names",
	[BRIG_E_BUSY] = "wait for the time in Retry-After, and try again",
	[BRIG_E_EXHAUSTED] =
		"remove sandboxes that are not needed, and try again; the operator may "
		"give the server more",
	[BRIG_E_STATE] = "ask for the present state with GET /sandboxes/ID, and bring it into the "
			 "one that is needed first",
	[BRIG_E_PROTOCOL] = "try again with a new sandbox; if it persists, give the request_id to "
			    "the operator, whose log has it",
	[BRIG_E_CORRUPT] =
		"the operator must look at the server's log, and restore what is damaged",
	[BRIG_E_UNAVAILABLE] =
		"try again after a second; if it persists, GET /readyz tells what is "
		"missing",
	[BRIG_E_MISMATCH] =
		"the operator must look at the server's log: the sandbox was destroyed",
	[BRIG_E_INTERNAL] = "give the request_id to the operator, whose log has it",
};
_Static_assert(sizeof(remedies) / sizeof(remedies[0]) == BRIG_E__N_CODES, "one remedy per code");

const char *api_remedy(const struct brig_err *err)
{
	if (err->remedy[0])
		return err->remedy;
	return remedies[(unsigned)err->code < BRIG_E__N_CODES ? err->code : BRIG_E_INTERNAL];
}

/* A message may quote bytes of a client; what is no UTF-8 would make no JSON string. */
static json_t *text_json(const char *text)
{
	json_t *v = json_string(text);
	if (v)
		return v;
	char plain[sizeof(((struct brig_err *)0)->msg)];
	size_t n = 0;
	for (; text[n] && n + 1 < sizeof(plain); n++)
		plain[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	plain[n] = '\0';
	return json_string(plain);
}

/* code and details are stolen. */
static json_t *error_json(json_t *code, const struct brig_err *err, json_t *details,
			  const char *request)
{
	return json_pack(
		"{s:o,s:o,s:o,s:o,s:o,s:b,s:s}", "code", code, "message", text_json(err->msg),
		"cause", err->sys ? json_string(strerror(err->sys)) : json_null(), "remediation",
		text_json(api_remedy(err)), "details", details ? details : json_object(),
		"retryable", brig_code_retryable(err->code), "request_id", request);
}

json_t *api_err_json(const struct brig_err *err, const char *request)
{
	return error_json(json_string(brig_code_name(err->code)), err, NULL, request);
}

/* code and details are stolen; text: the code's name, where code is none. */
static void fail(struct http_req *r, unsigned status, json_t *code, const char *text,
		 const struct brig_err *err, json_t *details)
{
	/* Seconds, as a number in the details: who refuses may know when it would not. */
	json_int_t after = json_integer_value(json_object_get(details, "retry_after"));
	json_t *body = error_json(code, err, details, http_id(r));
	if (body && text)
		json_object_set_new(body, "error_code", json_string(text));
	if (!body) {
		http_reply_empty(r, 500);
		return;
	}
	/* Seconds; E2B's clients retry a 429 only if it says when. */
	if (status == 429 || status == 503) {
		char text_after[24];
		snprintf(text_after, sizeof(text_after), "%lld", after > 0 ? (long long)after : 1);
		http_answer_header(r, "Retry-After", text_after);
	}
	http_reply_json(r, status, body);
}

void api_fail_details(struct http_req *r, unsigned status, const struct brig_err *err,
		      json_t *details)
{
	fail(r, status, json_string(brig_code_name(err->code)), NULL, err, details);
}

void api_fail_as(struct http_req *r, unsigned status, const struct brig_err *err)
{
	api_fail_details(r, status, err, NULL);
}

void api_fail(struct http_req *r, const struct brig_err *err)
{
	api_fail_as(r, api_status(err->code), err);
}

void api_fail_e2b(struct http_req *r, unsigned status, const struct brig_err *err)
{
	if (status == 0)
		status = api_status(err->code);
	api_fail_e2b_details(r, status, err, NULL);
}

void api_fail_e2b_details(struct http_req *r, unsigned status, const struct brig_err *err,
			  json_t *details)
{
	fail(r, status, json_integer((json_int_t)status), brig_code_name(err->code), err, details);
}

enum brig_code api_code(unsigned status)
{
	switch (status) {
	case 401:
	case 403:
		return BRIG_E_DENIED;
	case 404:
		return BRIG_E_NOT_FOUND;
	case 409:
		return BRIG_E_STATE;
	case 429:
		return BRIG_E_BUSY;
	case 501:
		return BRIG_E_UNSUPPORTED;
	case 502:
		return BRIG_E_PROTOCOL;
	case 503:
		return BRIG_E_UNAVAILABLE;
	case 507:
		return BRIG_E_EXHAUSTED;
	default:
		return status < 500 ? BRIG_E_INVALID : BRIG_E_INTERNAL;
	}
}

void api_fail_e2b_text(struct http_req *r, unsigned status, const char *fmt, ...)
{
	struct brig_err err = BRIG_ERR_INIT;
	char text[sizeof(err.msg)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	brig_err_set(&err, api_code(status), 0, "%s", text);
	api_fail_e2b(r, status, &err);
}

void api_fail_box(struct http_req *r, unsigned status, const char *id, unsigned port,
		  const char *message)
{
	/* 502 is what those clients look for; what it means is in error_code. */
	struct brig_err err = { .code = status != 502 ? api_code(status)
					: port	      ? BRIG_E_UNAVAILABLE
						      : BRIG_E_NOT_FOUND };
	if (status == 502 && port)
		brig_err_remedy(&err,
				"start a server on that port of the sandbox's loopback first");
	else if (status == 502)
		brig_err_remedy(&err, "check the id, and that the sandbox runs: one that is paused "
				      "must be connected to first");
	else if (status == 403)
		brig_err_remedy(&err, "send the trafficAccessToken of the sandbox in the header "
				      "E2B-Traffic-Access-Token");
	json_t *o = json_pack("{s:s,s:s,s:i,s:s,s:s,s:s}", "sandboxId", id, "message", message,
			      "code", (int)status, "error_code", brig_code_name(err.code),
			      "remediation", api_remedy(&err), "request_id", http_id(r));
	if (port)
		json_object_set_new(o, "port", json_integer((json_int_t)port));
	http_reply_json(r, status, o);
}

void api_err_from(json_t *error, struct brig_err *ret)
{
	const char *code = json_string_value(json_object_get(error, "code"));
	const char *msg = json_string_value(json_object_get(error, "message"));
	const char *fix = json_string_value(json_object_get(error, "remediation"));
	brig_err_set(ret, code ? brig_code_from_name(code) : BRIG_E_INTERNAL, 0, "%s",
		     msg ? msg : "brigd failed without a message");
	if (fix)
		brig_err_remedy(ret, "%s", fix);
}
