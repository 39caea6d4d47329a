/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reqlog.h: one log line per request, when it is over.
 *
 *   {"time":"..","level":"info","request_id":"78e3c2db65aee36e","method":"GET","path":"/v1/version",
 *    "status":200,"ms":1.204,"bytes_in":0,"bytes_out":312,"key":"key5d..","sandbox":"",
 *    "client":"127.0.0.1","complete":true}
 *
 * or the same as key=value. No query is written, for tokens and signatures travel there; of a key
 * its id only. What a client sent is escaped to printable ASCII and bounded, so no request forges a
 * line, a field or a terminal sequence.
 */
#ifndef BRIG_API_REQLOG_H
#define BRIG_API_REQLOG_H

#include "api/api.h"

#define REQLOG_LINE_MAX 3072u /* below PIPE_BUF: written whole or not at all */

/* An http_options.over; ctx is struct api. Without a->log_requests only answers with status 500 are
 * written. */
void reqlog_request(void *ctx, const struct http_req *r, const struct http_facts *f);

/* One line into out, with its line break; returns the length. now_ns: CLOCK_REALTIME. */
struct reqlog_line {
	const char *id, *method, *target, *key, *box, *client;
	unsigned status;
	uint64_t took_ns, bytes_in, bytes_out;
	bool whole;
};
size_t reqlog_format(enum log_format format, uint64_t now_ns, const struct reqlog_line *l,
		     char out[REQLOG_LINE_MAX]);

#endif
