/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of the Connect protocol: frames cut anywhere, and fields in each form that clients send.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/connect.h"

static void frames_come_out_wherever_they_are_cut(void **state)
{
	static const char two[] = "\0\0\0\0\2{}\0\0\0\0\7{\"a\":1}";
	(void)state;
	for (size_t cut = 0; cut < sizeof(two); cut++) {
		struct buf b = BUF_INIT(1024);
		struct connect_frame f;
		struct brig_err err = BRIG_ERR_INIT;
		unsigned seen = 0;
		buf_add(&b, two, cut);
		while (connect_frame_peek(&b, &f, &err) == 1) {
			buf_consume(&b, connect_frame_size(&f));
			seen++;
		}
		buf_add(&b, two + cut, sizeof(two) - 1 - cut);
		while (connect_frame_peek(&b, &f, &err) == 1) {
			json_t *v = NULL;
			assert_int_equal(connect_parse(f.p, f.n, &v, &err), 0);
			json_decref(v);
			buf_consume(&b, connect_frame_size(&f));
			seen++;
		}
		assert_int_equal(seen, 2);
		assert_int_equal(buf_len(&b), 0);
		buf_done(&b);
	}
}

static void frames_that_break_the_rules_are_refused(void **state)
{
	static const struct {
		const char *p;
		size_t n;
		enum brig_code code;
	} rows[] = {
		{ "\1\0\0\0\2{}", 7, BRIG_E_INVALID },	 /* compressed */
		{ "\2\0\0\0\2{}", 7, BRIG_E_INVALID },	 /* an end, from a client */
		{ "\200\0\0\0\2{}", 7, BRIG_E_INVALID }, /* trailers of gRPC-Web */
		{ "\0\xff\xff\xff\xff", 5, BRIG_E_LIMIT },
		{ "\0\0\x80\0\1", 5, BRIG_E_LIMIT },
		{ "\0\0\0\0\2{}x", 8, BRIG_E_INVALID }, /* more than one message */
		{ "\0\0\0\0\2{", 6, BRIG_E_INVALID },	/* less */
		{ "", 0, BRIG_E_INVALID },
		{ "\0\0\0\0\2[]", 7, BRIG_E_INVALID },
		{ "\0\0\0\0\1{", 6, BRIG_E_INVALID },
		{ "\0\0\0\0\xd{\"a\":1,\"a\":2}", 18, BRIG_E_INVALID },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *v = NULL;
		assert_int_equal(connect_parse_one(rows[i].p, rows[i].n, &v, &err), -1);
		assert_int_equal(err.code, rows[i].code);
		assert_null(v);
	}
}

static void an_empty_message_is_an_empty_object(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *v = NULL;
	(void)state;
	assert_int_equal(connect_parse_one("\0\0\0\0\0", 5, &v, &err), 0);
	assert_true(json_is_object(v) && json_object_size(v) == 0);
	json_decref(v);
}

static void fields_have_two_spellings_and_may_be_unset(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *o =
		json_pack("{s:s,s:s,s:n,s:s,s:I,s:b,s:i}", "watcherId", "a", "include_entry", "b",
			  "cwd", "text", "12", "big", (json_int_t)1 << 40, "yes", 1, "minus", -1);
	const char *s = NULL;
	uint32_t n = 7;
	bool yes = false;
	json_t *sub = NULL;
	(void)state;
	assert_int_equal(connect_str(o, "watcherId", &s, &err), 0);
	assert_string_equal(s, "a");
	assert_int_equal(connect_str(o, "includeEntry", &s, &err), 0);
	assert_string_equal(s, "b");
	assert_int_equal(connect_str(o, "cwd", &s, &err), 0);
	assert_string_equal(s, "b"); /* null is unset */
	assert_int_equal(connect_u32(o, "none", &n, &err), 0);
	assert_int_equal(n, 7);
	assert_int_equal(connect_u32(o, "text", &n, &err), 0);
	assert_int_equal(n, 12);
	assert_int_equal(connect_bool(o, "yes", &yes, &err), 0);
	assert_true(yes);
	assert_int_equal(connect_u32(o, "big", &n, &err), -1);
	assert_int_equal(connect_u32(o, "minus", &n, &err), -1);
	assert_int_equal(connect_u32(o, "watcherId", &n, &err), -1);
	assert_int_equal(connect_str(o, "yes", &s, &err), -1);
	assert_int_equal(connect_bool(o, "text", &yes, &err), -1);
	assert_int_equal(connect_object(o, "text", &sub, &err), -1);
	assert_int_equal(connect_array(o, "text", &sub, &err), -1);
	assert_int_equal(connect_object(NULL, "text", &sub, &err), 0);
	assert_null(sub);
	json_decref(o);
}

static void codes_have_their_status(void **state)
{
	(void)state;
	assert_int_equal(connect_code_status(CONNECT_NOT_FOUND), 404);
	assert_int_equal(connect_code_status(CONNECT_UNAUTHENTICATED), 401);
	assert_int_equal(connect_code_status(CONNECT_DEADLINE), 504);
	assert_string_equal(connect_code_text(CONNECT_INVALID), "invalid_argument");
	assert_int_equal(connect_code_errno(ENOENT), CONNECT_NOT_FOUND);
	assert_int_equal(connect_code_errno(ENOSPC), CONNECT_EXHAUSTED);
	assert_int_equal(connect_code_of(BRIG_E_UNAVAILABLE), CONNECT_UNAVAILABLE);
	assert_int_equal(connect_code_status(CONNECT__N_CODES), 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_out_wherever_they_are_cut),
		cmocka_unit_test(frames_that_break_the_rules_are_refused),
		cmocka_unit_test(an_empty_message_is_an_empty_object),
		cmocka_unit_test(fields_have_two_spellings_and_may_be_unset),
		cmocka_unit_test(codes_have_their_status),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
