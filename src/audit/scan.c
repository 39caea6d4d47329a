/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/scan.h"

#include <stdio.h>
#include <string.h>

static void bad(struct audit_scan *s, enum audit_why why)
{
	s->why = why;
	s->bad_file = s->file;
	s->bad_line = s->lines;
	s->bad_seq = s->check.begun ? s->check.next.seq : 0;
	/* The hash that a record names is that of the one before, which is therefore the bad one. */
	if (why == AUDIT_HASH && s->check.records) {
		s->bad_file = s->last_file;
		s->bad_line = s->last_line;
		s->bad_seq = s->check.next.seq - 1;
	}
}

static void line_end(struct audit_scan *s)
{
	s->lines++;
	if (s->line && !s->too_long)
		s->line(s->ctx, s->carry, s->ncarry);
	enum audit_why why = audit_check_line(&s->check, s->carry, s->ncarry);
	if (why != AUDIT_GOOD) {
		bad(s, why);
	} else {
		s->last_file = s->file;
		s->last_line = s->lines;
	}
	s->ncarry = 0;
	s->too_long = false;
}

void audit_scan_feed(struct audit_scan *s, const char *p, size_t n)
{
	while (n && s->why == AUDIT_GOOD) {
		const char *nl = memchr(p, '\n', n);
		size_t take = nl ? (size_t)(nl - p) + 1 : n;
		size_t room = AUDIT_LINE_MAX + 1 - s->ncarry;
		size_t keep = take < room ? take : room;
		/* One byte more than a record may have is kept, so that it is seen to be too long. */
		memcpy(s->carry + s->ncarry, p, keep);
		s->ncarry += keep;
		s->too_long = s->too_long || keep < take || s->ncarry > AUDIT_LINE_MAX;
		p += take;
		n -= take;
		if (nl)
			line_end(s);
	}
}

void audit_scan_next(struct audit_scan *s)
{
	if (s->why == AUDIT_GOOD && s->ncarry)
		line_end(s); /* without a newline it is no whole line */
	s->file++;
	s->lines = 0;
}

void audit_scan_end(struct audit_scan *s)
{
	s->torn = s->why == AUDIT_GOOD ? s->ncarry : 0;
}
