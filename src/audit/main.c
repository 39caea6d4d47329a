/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-audit: reads the audit log: `brig audit` becomes this program.
 *
 *   verify [FILE|DIR] [--key FILE]   the chain and the signatures; names the first bad record
 *   ls [DIR]                         the files of the log
 *   tail [-n N] [DIR]                the last records, as they are in the log
 *   key [DIR]                        the public key
 *   receipt FILE [--key FILE]        an isolation receipt (receipt.h), for `brig receipt verify`
 *
 * Theory of operation
 * -------------------
 * It opens files and needs no server: a log can be verified on another machine. DIR is the folder
 * of the log, or the data folder of a server that has it in api/audit. What it reads is hostile
 * until it is verified: lines are bounded, and only printable ASCII is ever shown.
 *
 * Exit codes: 0 good (a torn end is told, and is no fault: it is what a power cut leaves); 1 a bad
 * record, named; 2 usage; 125 the log cannot be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/log.h"
#include "audit/receipt.h"
#include "audit/scan.h"
#include "base/fd.h"
#include "brig/client_proto.h"

#define EXIT_BAD 1
#define TAIL_MAX 100000u

struct options {
	const char *verb, *where, *key, *data;
	unsigned tail;
	bool json;
};

/* What is read: one file, or the files of a folder. */
struct source {
	int dir;   /* -1: one file */
	int file;  /* -1: a folder */
	int above; /* folder that holds audit.pub beside the log, or -1 */
	uint64_t *numbers;
	size_t n;
	const char *name;
};

static int fail(const struct brig_err *err)
{
	fprintf(stderr, "brig: %s\n", err->msg);
	if (err->remedy[0])
		fprintf(stderr, "  remedy: %s\n", err->remedy);
	return BRIG_EXIT_FAILED;
}

static int usage(const char *why, const char *what)
{
	fprintf(stderr,
		"brig: audit: %s%.64s\n"
		"  remedy: brig audit verify [FILE|DIR] [--key FILE] | ls [DIR] | tail [-n N] "
		"[DIR] | key [DIR] | receipt FILE\n",
		why, what);
	return BRIG_EXIT_USAGE;
}

static int finish(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	fprintf(stderr, "brig: write to stdout: %s\n", strerror(errno));
	return BRIG_EXIT_FAILED;
}

/* ---- what to read ---- */

static const char *data_folder(const struct options *o, char ret[PATH_MAX])
{
	const char *data = o->data ? o->data : getenv("BRIG_DATA"), *home = getenv("HOME");
	const char *xdg = getenv("XDG_DATA_HOME");
	if (data && data[0])
		snprintf(ret, PATH_MAX, "%s", data);
	else if (geteuid() == 0)
		snprintf(ret, PATH_MAX, "/var/lib/brig");
	else if (xdg && xdg[0] == '/')
		snprintf(ret, PATH_MAX, "%s/brig", xdg);
	else
		snprintf(ret, PATH_MAX, "%s/.local/share/brig", home ? home : "");
	return ret;
}

static int folder_in(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void source_close(struct source *s)
{
	fd_close(&s->dir);
	fd_close(&s->file);
	fd_close(&s->above);
	free(s->numbers);
}

/* A data folder has the log two levels below, brig-api's folder one. */
static int source_open(const struct options *o, struct source *s, struct brig_err *err)
{
	static char path[PATH_MAX];
	struct stat st;
	*s = (struct source){ .dir = -1, .file = -1, .above = -1 };
	s->name = o->where ? o->where : data_folder(o, path);
	AUTO_FD fd = open(s->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_UNAVAILABLE,
				 errno, "open '%.256s'", s->name);
	if (S_ISREG(st.st_mode)) {
		s->file = fd_steal(&fd);
		return 0;
	}
	if (!S_ISDIR(st.st_mode))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.256s' is neither a file nor a folder",
				 s->name);
	AUTO_FD inner = folder_in(fd, "api/" AUDIT_FOLDER);
	if (inner >= 0) {
		s->above = folder_in(fd, "api");
		s->dir = fd_steal(&inner);
	} else if ((inner = folder_in(fd, AUDIT_FOLDER)) >= 0) {
		s->above = fd_steal(&fd);
		s->dir = fd_steal(&inner);
	} else {
		s->above = folder_in(fd, "..");
		s->dir = fd_steal(&fd);
	}
	int r = audit_files(s->dir, &s->numbers, &s->n);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "read the folder '%.256s'", s->name);
	if (s->n)
		return 0;
	brig_err_set(err, BRIG_E_NOT_FOUND, 0, "there is no audit log in '%.256s'", s->name);
	return brig_fix(err, "name the folder with --data or as an operand; a server that speaks "
			     "HTTP makes one");
}

/* The i-th file. */
static int source_file(const struct source *s, size_t i, char ret_name[AUDIT_FILE_NAME_MAX])
{
	if (s->file >= 0) {
		ret_name[0] = '\0';
		return fcntl(s->file, F_DUPFD_CLOEXEC, 3);
	}
	audit_file_name(s->numbers[i], ret_name);
	return openat(s->dir, ret_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

static int scan_all(const struct source *s, size_t from, struct audit_scan *scan,
		    struct brig_err *err)
{
	size_t n = s->file >= 0 ? 1 : s->n;
	static char piece[65536];
	for (size_t i = from; i < n && scan->why == AUDIT_GOOD; i++) {
		char name[AUDIT_FILE_NAME_MAX];
		AUTO_FD fd = source_file(s, i, name);
		ssize_t got = fd < 0 ? -1 : 0;
		if (i > from)
			audit_scan_next(scan);
		while (fd >= 0 && (got = read(fd, piece, sizeof(piece))) > 0)
			audit_scan_feed(scan, piece, (size_t)got);
		if (got < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "read '%.200s%s%s'",
					 s->name, name[0] ? "/" : "", name);
	}
	audit_scan_end(scan);
	return 0;
}

/* ---- verify ---- */

static int key_read(const struct options *o, const struct source *s, struct audit_key **ret,
		    struct brig_err *err)
{
	char pem[AUDIT_PEM_MAX + 1];
	AUTO_FD fd = -1;
	if (o->key)
		fd = open(o->key, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	else if (s->above >= 0)
		fd = openat(s->above, AUDIT_PUB_FILE,
			    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && !o->key)
		return 0;
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, pem, sizeof(pem));
	const char *name = o->key ? o->key : AUDIT_PUB_FILE;
	if (n < 0)
		return brig_fail(err, BRIG_E_INVALID, errno, "read the key '%.256s'", name);
	if (audit_key_public(pem, (size_t)n, ret, err) < 0)
		return brig_ctx(err, "key '%.256s'", name);
	return 0;
}

static json_t *report_json(const struct audit_scan *s, const char *file, const char *key)
{
	json_t *o = json_pack(
		"{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:s?,s:b}", "good", s->why == AUDIT_GOOD, "records",
		(json_int_t)s->check.records, "heads", (json_int_t)s->check.heads, "first",
		(json_int_t)s->check.first, "last",
		(json_int_t)(s->check.records ? s->check.next.seq - 1 : 0), "signed_to",
		(json_int_t)s->check.signed_to, "torn_bytes", (json_int_t)s->torn, "key", key,
		"signatures_checked", key != NULL);
	if (s->why != AUDIT_GOOD)
		json_object_set_new(o, "bad",
				    json_pack("{s:s,s:I,s:I,s:s,s:s}", "file", file, "line",
					      (json_int_t)s->bad_line, "seq", (json_int_t)s->bad_seq,
					      "why", audit_why_name(s->why), "detail",
					      s->check.detail));
	return o;
}

static void report_text(const struct audit_scan *s, const char *file, const char *key)
{
	const struct audit_check *c = &s->check;
	if (s->why != AUDIT_GOOD) {
		printf("BAD: %s, line %llu, record %llu: %s: %s\n", file,
		       (unsigned long long)s->bad_line, (unsigned long long)s->bad_seq,
		       audit_why_name(s->why), c->detail);
		return;
	}
	printf("good: %llu records, %llu to %llu; %llu signed heads, the last signs up to %llu\n",
	       (unsigned long long)c->records, (unsigned long long)c->first,
	       (unsigned long long)(c->records ? c->next.seq - 1 : 0),
	       (unsigned long long)c->heads, (unsigned long long)c->signed_to);
	if (c->first > 1)
		printf("note: the log begins with record %llu: earlier files were removed\n",
		       (unsigned long long)c->first);
	if (s->torn)
		printf("note: a torn end of %llu bytes, as a power cut leaves it\n",
		       (unsigned long long)s->torn);
	if (key)
		printf("note: signatures were checked with the key %s\n", key);
	else
		printf("note: signatures were not checked: give the public key with --key\n");
}

static int verify(const struct options *o)
{
	static struct audit_scan scan;
	struct brig_err err = BRIG_ERR_INIT;
	struct source s;
	char file[PATH_MAX] = "", name[AUDIT_FILE_NAME_MAX];
	int code = BRIG_EXIT_FAILED;
	if (source_open(o, &s, &err) < 0 || key_read(o, &s, &scan.check.key, &err) < 0 ||
	    scan_all(&s, 0, &scan, &err) < 0) {
		fail(&err);
	} else {
		const char *key = scan.check.key ? audit_key_name(scan.check.key) : NULL;
		if (s.file < 0 && scan.why != AUDIT_GOOD)
			audit_file_name(s.numbers[scan.bad_file], name);
		snprintf(file, sizeof(file), "%s",
			 s.file >= 0 || scan.why == AUDIT_GOOD ? s.name : name);
		if (o->json) {
			json_t *v = report_json(&scan, file, key);
			json_dumpf(v, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
			putchar('\n');
			json_decref(v);
		} else {
			report_text(&scan, file, key);
		}
		code = finish(scan.why == AUDIT_GOOD ? 0 : EXIT_BAD);
	}
	audit_key_free(scan.check.key);
	source_close(&s);
	return code;
}

/* ---- ls, tail, key ---- */

static int list(const struct options *o)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct source s;
	int code = 0;
	if (source_open(o, &s, &err) < 0) {
		source_close(&s);
		return fail(&err);
	}
	json_t *all = json_array();
	if (!o->json)
		printf("%-26s  %20s  %12s\n", "FILE", "FIRST RECORD", "BYTES");
	for (size_t i = 0; i < s.n; i++) {
		char name[AUDIT_FILE_NAME_MAX];
		struct stat st = { .st_size = 0 };
		audit_file_name(s.numbers[i], name);
		if (fstatat(s.dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* removed meanwhile */
		if (o->json)
			json_array_append_new(all, json_pack("{s:s,s:I,s:I}", "file", name, "first",
							     (json_int_t)s.numbers[i], "bytes",
							     (json_int_t)st.st_size));
		else
			printf("%-26s  %20llu  %12llu\n", name, (unsigned long long)s.numbers[i],
			       (unsigned long long)st.st_size);
	}
	if (o->json && json_dumpf(all, stdout, JSON_INDENT(2)) == 0)
		putchar('\n');
	json_decref(all);
	source_close(&s);
	return finish(code);
}

/* The last lines, in a ring. */
struct ring {
	char (*line)[AUDIT_LINE_MAX + 2];
	unsigned cap;
	uint64_t n;
};

static void ring_add(void *ctx, const char *line, size_t n)
{
	struct ring *r = ctx;
	char *to = r->line[r->n++ % r->cap];
	for (size_t i = 0; i < n; i++)
		to[i] = (line[i] < ' ' || line[i] > '~') && line[i] != '\n' ? '?' : line[i];
	to[n] = '\0';
}

static int tail(const struct options *o)
{
	static struct audit_scan scan;
	struct brig_err err = BRIG_ERR_INIT;
	struct source s;
	struct ring r = { .cap = o->tail };
	if (source_open(o, &s, &err) < 0) {
		source_close(&s);
		return fail(&err);
	}
	r.line = calloc(r.cap, sizeof(*r.line));
	scan.line = ring_add;
	scan.ctx = &r;
	/* A file that was begun just now holds few: the one before it is read, too. */
	size_t from = s.n > 2 ? s.n - 2 : 0;
	int code = BRIG_EXIT_FAILED;
	if (!r.line) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "keep %u records", r.cap);
		fail(&err);
	} else if (scan_all(&s, from, &scan, &err) < 0) {
		fail(&err);
	} else {
		uint64_t have = r.n < r.cap ? r.n : r.cap;
		for (uint64_t i = r.n - have; i < r.n; i++)
			fputs(r.line[i % r.cap], stdout);
		if (scan.why != AUDIT_GOOD)
			fprintf(stderr, "brig: the log is bad from there on: see `brig audit verify`\n");
		code = finish(scan.why == AUDIT_GOOD ? 0 : EXIT_BAD);
	}
	free(r.line);
	source_close(&s);
	return code;
}

static int key(const struct options *o)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct audit_key *k = NULL;
	struct source s;
	char pem[AUDIT_PEM_MAX + 1];
	int code = BRIG_EXIT_FAILED;
	ssize_t n = -1;
	if (source_open(o, &s, &err) == 0) {
		AUTO_FD fd = s.above < 0 ? -1 : openat(s.above, AUDIT_PUB_FILE, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : fd_read_full(fd, pem, sizeof(pem));
		if (n < 0)
			brig_err_set(&err, BRIG_E_NOT_FOUND, errno,
				     "there is no " AUDIT_PUB_FILE " beside the log in '%.256s'",
				     s.name);
	}
	if (n < 0 || audit_key_public(pem, (size_t)n, &k, &err) < 0) {
		fail(&err);
	} else {
		fwrite(pem, 1, (size_t)n, stdout);
		code = finish(0);
	}
	audit_key_free(k);
	source_close(&s);
	return code;
}

/* ---- receipts ---- */

/* The key that was named, or that of the server's data folder. */
static int receipt_key(const struct options *o, struct audit_key **ret, struct brig_err *err)
{
	char path[PATH_MAX], data[PATH_MAX], pem[AUDIT_PEM_MAX + 1];
	if (o->key)
		snprintf(path, sizeof(path), "%s", o->key);
	else
		snprintf(path, sizeof(path), "%.3000s/api/" AUDIT_PUB_FILE, data_folder(o, data));
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, pem, sizeof(pem));
	if (n < 0) {
		brig_err_set(err, BRIG_E_INVALID, errno, "read the key '%.256s'", path);
		return brig_fix(err, "give the server's public key with --key; `brig audit key` prints "
				     "it there");
	}
	return audit_key_public(pem, (size_t)n, ret, err) < 0 ? brig_ctx(err, "key '%.256s'", path)
							       : 0;
}

/* Only what was signed gets here, but the server is not this terminal's friend. */
static const char *shown(const json_t *o, const char *key, char ret[80])
{
	const char *s = json_string_value(json_object_get(o, key));
	snprintf(ret, 80, "%s", s ? s : "-");
	for (char *p = ret; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return ret;
}

static int receipt(const struct options *o)
{
	static char text[RECEIPT_BYTES_MAX + 1];
	struct brig_err err = BRIG_ERR_INIT;
	struct audit_key *k = NULL;
	json_t *r = NULL;
	char box[80], when[80], tenant[80];
	if (!o->where)
		return usage("receipt: which file?", "");
	AUTO_FD fd = open(o->where, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, text, sizeof(text));
	if (n < 0) {
		brig_err_set(&err, BRIG_E_INVALID, errno, "read the receipt '%.256s'", o->where);
		return fail(&err);
	}
	if (receipt_key(o, &k, &err) < 0)
		return fail(&err);
	enum receipt_why why = receipt_check(text, (size_t)n, k, &r);
	if (o->json) {
		json_t *v = json_pack("{s:b,s:s,s:s}", "good", why == RECEIPT_GOOD, "why",
				      receipt_why_name(why), "key", audit_key_name(k));
		if (r)
			json_object_set_new(v, "sandbox", json_string(shown(r, "sandbox", box)));
		json_dumpf(v, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
		json_decref(v);
	} else if (why == RECEIPT_GOOD) {
		printf("good: sandbox %s of tenant %s, measured %s; signed by the key %s\n",
		       shown(r, "sandbox", box), shown(r, "tenant", tenant), shown(r, "time", when),
		       audit_key_name(k));
	} else {
		printf("BAD: %s: it is not what the key %s signed\n", receipt_why_name(why),
		       audit_key_name(k));
	}
	json_decref(r);
	audit_key_free(k);
	return finish(why == RECEIPT_GOOD ? 0 : EXIT_BAD);
}

/* ---- */

static const struct {
	const char *name;
	int (*run)(const struct options *o);
} verbs[] = { { "verify", verify }, { "ls", list }, { "tail", tail }, { "key", key }, { "receipt", receipt } };

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "key", required_argument, NULL, 'k' },
					       { "data", required_argument, NULL, 'D' },
					       { "lines", required_argument, NULL, 'n' },
					       { "output", required_argument, NULL, 'o' },
					       { NULL, 0, NULL, 0 } };
	struct options o = { .tail = 20 };
	int opt;
	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":n:o:", longs, NULL)) != -1) {
		char *end;
		unsigned long n;
		switch (opt) {
		case 'k':
			o.key = optarg;
			break;
		case 'D':
			o.data = optarg;
			break;
		case 'n':
			n = strtoul(optarg, &end, 10);
			if (end == optarg || *end || n < 1 || n > TAIL_MAX)
				return usage("-n takes 1 to 100000, not ", optarg);
			o.tail = (unsigned)n;
			break;
		case 'o':
			if (strcmp(optarg, "json") != 0 && strcmp(optarg, "table") != 0)
				return usage("-o takes table or json, not ", optarg);
			o.json = optarg[0] == 'j';
			break;
		case ':':
			return usage("a value is missing behind ", argv[optind - 1]);
		default:
			return usage("unknown option ", argv[optind - 1]);
		}
	}
	if (optind == argc)
		return usage("verify, ls, tail, key or receipt?", "");
	o.verb = argv[optind++];
	o.where = optind < argc ? argv[optind++] : NULL;
	if (optind < argc)
		return usage("unexpected argument: ", argv[optind]);
	for (unsigned i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(o.verb, verbs[i].name) == 0)
			return verbs[i].run(&o);
	return usage("only verify, ls, tail and key are known, not ", o.verb);
}
