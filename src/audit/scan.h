/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.h: a whole audit log, file after file, in pieces as they are read: which record is the first
 * bad one, and what there is.
 */
#ifndef BRIG_AUDIT_SCAN_H
#define BRIG_AUDIT_SCAN_H

#include "audit/record.h"

/* Zeroed, with check.key set or NULL, before the first file. */
struct audit_scan {
	struct audit_check check;
	/* Of every whole line; may be NULL. What it gets need not be a record. */
	void (*line)(void *ctx, const char *line, size_t n);
	void *ctx;
	enum audit_why why; /* of the first bad record; AUDIT_GOOD: none yet */
	uint64_t bad_seq;   /* its number, or what it should be; 0 = not known */
	unsigned bad_file;  /* which of the files, from 0 */
	uint64_t bad_line;  /* from 1 */
	uint64_t torn;	    /* bytes behind the last newline of the last file */

	unsigned file;
	uint64_t lines;	      /* of this file */
	unsigned last_file;   /* where the last good record was */
	uint64_t last_line;
	char carry[AUDIT_LINE_MAX + 2];
	size_t ncarry;
	bool too_long;
};

/* A piece of the current file. After the first bad record nothing is looked at any more. */
void audit_scan_feed(struct audit_scan *s, const char *p, size_t n);
/* The file ends; another may follow. Half a line at the end of one that is not the last is bad. */
void audit_scan_next(struct audit_scan *s);
/* No file follows. */
void audit_scan_end(struct audit_scan *s);

#endif
