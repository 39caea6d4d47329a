/* SPDX-License-Identifier: Apache-2.0 */
/* Forms: the same parts come out however the bytes are cut; what is malformed is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/multipart.h"

/* What came out, as text: "<name|filename>data" for each part, "." at the end, "!" when refused. */
struct trace {
	char text[65536];
	size_t n;
};

static void put(struct trace *t, const void *p, size_t n)
{
	assert_true(t->n + n < sizeof(t->text));
	memcpy(t->text + t->n, p, n);
	t->n += n;
	t->text[t->n] = '\0';
}

static void put_str(struct trace *t, const char *s)
{
	put(t, s, strlen(s));
}

/* One step; false: it wants more, or is over. `bite`: bytes of data taken at most. */
static bool step(struct multipart *m, struct buf *in, bool eof, size_t bite, struct trace *t)
{
	struct brig_err err = BRIG_ERR_INIT;
	size_t n = 0;
	switch (multipart_next(m, in, eof, &n, &err)) {
	case MULTIPART_PART:
		put_str(t, "<");
		put_str(t, m->name);
		put_str(t, m->has_filename ? "|" : "");
		put_str(t, m->filename);
		put_str(t, ">");
		return true;
	case MULTIPART_DATA:
		n = n < bite ? n : bite;
		put(t, buf_head(in), n);
		buf_consume(in, n);
		return true;
	case MULTIPART_PART_END:
		put_str(t, ";");
		return true;
	case MULTIPART_END:
		put_str(t, ".");
		return false;
	case MULTIPART_BAD:
		assert_true(err.code == BRIG_E_INVALID);
		put_str(t, "!");
		return false;
	case MULTIPART_MORE:
		assert_false(eof);
		return false;
	}
	return false;
}

/* Feeds body in two pieces, cut at `cut`. */
static void parse(const char *type, const char *body, size_t n, size_t cut, size_t bite,
		  struct trace *t)
{
	struct multipart m;
	struct brig_err err = BRIG_ERR_INIT;
	struct buf in = BUF_INIT(1 << 20);
	assert_int_equal(multipart_init(&m, type, &err), 0);
	t->n = 0;
	t->text[0] = '\0';
	assert_int_equal(buf_add(&in, body, cut), 0);
	while (step(&m, &in, false, bite, t))
		;
	if (!strpbrk(t->text, ".!") || t->text[t->n - 1] == ';') {
		assert_int_equal(buf_add(&in, body + cut, n - cut), 0);
		while (step(&m, &in, true, bite, t))
			;
	}
	buf_done(&in);
}

static const char type[] = "multipart/form-data; boundary=XyZ";
static const char form[] = "--XyZ\r\n"
			   "Content-Disposition: form-data; name=\"file\"; filename=\"a b\"\r\n"
			   "Content-Type: text/plain\r\n"
			   "\r\n"
			   "one\r\n--XyY\r\n-\r\n"
			   "\r\n--XyZ\r\n"
			   "content-disposition:form-data;name=other\r\n"
			   "\r\n"
			   "\r\n--XyZ\r\n"
			   "Content-Disposition: form-data; name=\"file\"; filename=\"c%22d\"\r\n"
			   "\r\n"
			   "\r\n--XyZ--\r\n";
static const char parts[] = "<file|a b>one\r\n--XyY\r\n-\r\n;<other>;<file|c\"d>;.";

static void parts_come_out_wherever_the_bytes_are_cut(void **state)
{
	static struct trace t;
	(void)state;
	for (size_t cut = 0; cut < sizeof(form); cut++) {
		parse(type, form, sizeof(form) - 1, cut, 3, &t);
		assert_string_equal(t.text, parts);
		parse(type, form, sizeof(form) - 1, cut, SIZE_MAX, &t);
		assert_string_equal(t.text, parts);
	}
}

static void one_byte_at_a_time_is_enough(void **state)
{
	static struct trace t;
	struct multipart m;
	struct brig_err err = BRIG_ERR_INIT;
	struct buf in = BUF_INIT(1 << 20);
	(void)state;
	t.n = 0;
	assert_int_equal(multipart_init(&m, type, &err), 0);
	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		buf_add(&in, form + i, 1);
		while (step(&m, &in, i == sizeof(form) - 2, 1, &t))
			;
	}
	buf_done(&in);
	/* The end is told each time that it is asked for. */
	t.text[sizeof(parts) - 1] = '\0';
	assert_string_equal(t.text, parts);
}

static void bodies_that_break_the_rules_are_refused(void **state)
{
	static struct trace t;
	static const char *const bad[] = {
		"",
		"--Xy",
		"preamble\r\n--XyZ\r\n",
		"--XyZ",
		"--XyZ \r\n",
		"--XyZ\r\n\r\ndata\r\n--XyZ--",
		"--XyZ\r\nContent-Type: a\r\n\r\ndata\r\n--XyZ--",
		"--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--XyZ--",
		"--XyZ\r\nContent-Disposition: form-data\r\n\r\n\r\n--XyZ--",
		"--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--XyZ--",
		"--XyZ\r\nContent-Disposition: form-data; name=a b\r\n\r\n\r\n--XyZ--",
		"--XyZ\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n\r\n--XyZ--",
		("--XyZ\r\nContent-Disposition: form-data; name=a\r\n"
		 "Content-Disposition: form-data; name=b\r\n\r\n\r\n--XyZ--"),
		"--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\ndata",
		"--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\ndata\r\n--XyZ",
		"--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\ndata\r\n--XyZ-",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (size_t cut = 0; cut <= strlen(bad[i]); cut++) {
			parse(type, bad[i], strlen(bad[i]), cut, SIZE_MAX, &t);
			assert_true(t.n > 0 && t.text[t.n - 1] == '!');
		}
}

static void headers_without_end_are_refused_in_time(void **state)
{
	static struct trace t;
	static char body[MULTIPART_HEAD_MAX + 64];
	(void)state;
	memset(body, 'a', sizeof(body));
	memcpy(body, "--XyZ\r\n", 7);
	parse(type, body, sizeof(body), sizeof(body), SIZE_MAX, &t);
	assert_string_equal(t.text, "!");
}

static void names_are_unquoted(void **state)
{
	static const struct {
		const char *header, *filename;
	} rows[] = {
		{ "filename=plain.txt", "plain.txt" },
		{ "filename=\"a\\\"b\"", "a\"b" },
		{ "filename=\"a\\\\b\"", "a\\b" },
		{ "filename=\"a\\b\"", "a\\b" },
		{ "filename=\"%22%0D%0A%41\"", "\"\r\n%41" },
		{ "filename=\"d/e/\xc3\xa4.txt\"", "d/e/\xc3\xa4.txt" },
		{ "filename=\"\"", "" },
		{ "filename=\"x\"; filename*=utf-8''y", "x" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct trace t;
		char body[512], want[512];
		snprintf(body, sizeof(body),
			 "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; "
			 "%s\r\n\r\nd\r\n--XyZ--\r\n",
			 rows[i].header);
		snprintf(want, sizeof(want), "<f|%s>d;.", rows[i].filename);
		parse(type, body, strlen(body), strlen(body), SIZE_MAX, &t);
		assert_string_equal(t.text, want);
	}
}

static void boundaries_are_as_rfc_2046_has_them(void **state)
{
	struct multipart m;
	struct brig_err err = BRIG_ERR_INIT;
	static const char *const good[] = {
		"multipart/form-data; boundary=a",
		"Multipart/Form-Data;boundary=\"a b\"",
		"multipart/form-data; charset=utf-8; boundary=----x; y=z",
		("multipart/form-data; boundary="
		 "1234567890123456789012345678901234567890123456789012345678901234567890"),
	};
	static const char *const bad[] = {
		"multipart/mixed; boundary=a",
		"multipart/form-data",
		"multipart/form-data; boundary=",
		"multipart/form-data; boundary=\"\"",
		"multipart/form-data; boundary=\"a",
		"multipart/form-data; boundary=\"a \"",
		"multipart/form-data; boundary=a\x01",
		("multipart/form-data; boundary="
		 "12345678901234567890123456789012345678901234567890123456789012345678901"),
	};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(multipart_init(&m, good[i], &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(multipart_init(&m, bad[i], &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_come_out_wherever_the_bytes_are_cut),
		cmocka_unit_test(one_byte_at_a_time_is_enough),
		cmocka_unit_test(bodies_that_break_the_rules_are_refused),
		cmocka_unit_test(headers_without_end_are_refused_in_time),
		cmocka_unit_test(names_are_unquoted),
		cmocka_unit_test(boundaries_are_as_rfc_2046_has_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
