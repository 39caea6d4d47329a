/* SPDX-License-Identifier: Apache-2.0 */
/* What a client may ask for: each field, each limit at its ends, and what this host cannot do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/fields.h"
#include "daemon/payload.h"
#include "daemon/spec.h"

static const struct jail_hello host = {
	.enforced = ~0u, .mem_total = 8 * GIB, .cpus = 4, .pids_max = 32768, .slots = 10
};

/* 0 when accepted; otherwise err is set. */
static int parse(const char *text, unsigned nfds, struct spec *spec, struct brig_err *err)
{
	json_t *o = json_loads(text, 0, NULL);
	assert_non_null(o);
	*err = (struct brig_err)BRIG_ERR_INIT;
	int r = spec_parse(o, nfds, spec, err);
	json_decref(o);
	return r;
}

static void fields_are_accepted_or_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *refused; /* part of the message; NULL = accepted */
	} rows[] = {
		{ "{}", NULL },
		{ "{\"tier\":\"auto\"}", NULL },
		{ "{\"tier\":\"container\"}", NULL },
		{ "{\"tier\":\"gvisor\"}", NULL },
		{ "{\"tier\":\"microvm\",\"tier_floor\":\"gvisor\"}", NULL },
		{ "{\"tier_floor\":\"auto\"}", "names no tier" },
		{ "{\"tier_floor\":\"vm\"}", "unknown tier 'vm'" },
		{ "{\"tier\":\"vm\"}", "unknown tier 'vm'" },
		{ "{\"tier\":1}", "'tier' must be a string" },
		{ "{\"imgae\":\"base\"}", "unknown key 'imgae'" },
		{ "{\"image\":\"\"}", "'image' is empty" },
		{ "{\"name\":\"a\"}", NULL },
		{ "{\"name\":\"Web_1.x-y\"}", NULL },
		{ "{\"name\":\"\"}", "malformed" },
		{ "{\"name\":\"-a\"}", "malformed" },
		{ "{\"name\":\".a\"}", "malformed" },
		{ "{\"name\":\"a/b\"}", "malformed" },
		{ "{\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
		  "malformed" },
		{ "{\"hostname\":\"box-1.lan\"}", NULL },
		{ "{\"hostname\":\"box_1\"}", "malformed" },
		{ "{\"hostname\":\"-x\"}", "malformed" },
		{ "{\"hostname\":\"\"}", "malformed" },
		{ "{\"env\":[\"A=1\",\"_b.c=\",\"D==\"]}", NULL },
		{ "{\"env\":[\"A\"]}", "not NAME=value" },
		{ "{\"env\":[\"=x\"]}", "not NAME=value" },
		{ "{\"env\":[\"1A=x\"]}", "not NAME=value" },
		{ "{\"env\":[\"A B=x\"]}", "not NAME=value" },
		{ "{\"env\":{}}", "'env' must be an array" },
		{ "{\"env\":[3]}", "array of strings" },
		{ "{\"workdir\":\"/srv\"}", NULL },
		{ "{\"workdir\":\"srv\"}", "not an absolute path" },
		{ "{\"user\":\"root\"}", NULL },
		{ "{\"user\":\"1000:1000\"}", NULL },
		{ "{\"user\":\"a:b\"}", NULL },
		{ "{\"user\":\"\"}", "malformed" },
		{ "{\"user\":\"a:b:c\"}", "malformed" },
		{ "{\"user\":\":1\"}", "malformed" },
		{ "{\"user\":\"a b\"}", "malformed" },
		{ "{\"labels\":{\"a\":\"b\"}}", NULL },
		{ "{\"labels\":{\"a\":1}}", "label 'a'" },
		{ "{\"labels\":{\"\":\"x\"}}", "label names" },
		{ "{\"labels\":[]}", "'labels' must be an object" },
		{ "{\"accept\":[\"memory\",\"cpu\"]}", NULL },
		{ "{\"accept\":[\"everything\"]}", "unknown name 'everything'" },
		{ "{\"limits\":{\"memory\":1}}", "unknown key 'memory'" },
		{ "{\"limits\":{\"pids\":1.5}}", "whole number" },
		{ "{\"limits\":{\"pids\":\"5\"}}", "whole number" },
		{ "{\"limits\":{\"pids\":-1}}", "outside" },
		{ "{\"limits\":{\"pids\":null}}", "cannot be none" },
		{ "{\"limits\":{\"timeout_ms\":null}}", NULL },
		{ "{\"limits\":{\"memory_bytes\":33554432,\"disk_bytes\":33554433}}",
		  "exceeds the memory limit" },
		{ "{\"limits\":{\"memory_bytes\":33554432,\"disk_bytes\":33554432}}", NULL },
		{ "{\"volumes\":[{\"fd\":0,\"guest\":\"/d\"}]}", "names no descriptor" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec spec;
		struct brig_err err;
		int r = parse(rows[i].text, 0, &spec, &err);
		if (!rows[i].refused) {
			if (r < 0)
				fail_msg("%s: refused: %s", rows[i].text, err.msg);
			spec_done(&spec);
		} else if (r == 0 || !strstr(err.msg, rows[i].refused)) {
			fail_msg("%s: '%s' does not say '%s'", rows[i].text, err.msg,
				 rows[i].refused);
		}
	}
}

static void volumes_need_a_clean_path_and_a_descriptor_each(void **state)
{
	(void)state;
	static const struct {
		const char *guest;
		int ok;
	} rows[] = {
		{ "/data", 1 },	   { "/a/b.c/d", 1 },	{ "/..a", 1 },	  { "/", 0 },
		{ "", 0 },	   { "data", 0 },	{ "/a/../b", 0 }, { "/a/..", 0 },
		{ "/./a", 0 },	   { "//a", 0 },	{ "/a/", 0 },	  { "/a//b", 0 },
		{ "/proc", 0 },	   { "/proc/x", 0 },	{ "/sys/fs", 0 }, { "/dev/shm", 0 },
		{ "/process", 1 }, { "/a\\u0007b", 0 },
	};
	struct spec spec;
	struct brig_err err;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[256];
		snprintf(text, sizeof(text), "{\"volumes\":[{\"fd\":0,\"guest\":\"%s\"}]}",
			 rows[i].guest);
		int r = parse(text, 1, &spec, &err);
		if ((r == 0) != rows[i].ok)
			fail_msg("%s: %s", rows[i].guest, r ? err.msg : "accepted");
		if (r == 0)
			spec_done(&spec);
	}
	assert_int_equal(
		parse("{\"volumes\":[{\"fd\":0,\"guest\":\"/a\"},{\"fd\":0,\"guest\":\"/b\"}]}", 2,
		      &spec, &err),
		-1);
	assert_non_null(strstr(err.msg, "used twice"));
	assert_int_equal(
		parse("{\"volumes\":[{\"fd\":0,\"guest\":\"/a\"},{\"fd\":1,\"guest\":\"/a\"}]}", 2,
		      &spec, &err),
		-1);
	assert_non_null(strstr(err.msg, "used twice"));
	assert_int_equal(parse("{\"volumes\":[{\"fd\":1,\"guest\":\"/a\"}]}", 2, &spec, &err), -1);
	assert_non_null(strstr(err.msg, "2 descriptors came"));
}

static void every_limit_holds_at_both_ends(void **state)
{
	(void)state;
	static const struct {
		const char *field, *flag;
		uint64_t def, min, max;
		int none;
	} rows[] = {
#define X(field, flag, kind, def, min, max, none, what) { #field, flag, def, min, max, none },
		BRIG_LIMITS(X)
#undef X
	};
	struct brig_err err;
	struct spec spec;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* disk may not exceed memory: give it room. */
		const char *room = strcmp(rows[i].field, "disk_bytes") == 0
					   ? ",\"memory_bytes\":17592186044416"
					   : "";
		const uint64_t values[] = { rows[i].min, rows[i].max, rows[i].min - 1,
					    rows[i].max + 1 };
		for (unsigned k = 0; k < 4; k++) {
			char text[160];
			snprintf(text, sizeof(text), "{\"limits\":{\"%s\":%llu%s}}", rows[i].field,
				 (unsigned long long)values[k], room);
			/* A maximum of memory below the default of disk lowers that, too. */
			int r = parse(text, 0, &spec, &err);
			if ((r == 0) != (k < 2))
				fail_msg("%s: %s", text, r ? err.msg : "accepted");
			if (r == 0) {
				assert_true(spec.given & 1u << i);
				spec_done(&spec);
			} else {
				assert_int_equal(err.code, BRIG_E_LIMIT);
				assert_non_null(strstr(err.msg, rows[i].flag));
			}
		}
		char text[80];
		snprintf(text, sizeof(text), "{\"limits\":{\"%s\":null}}", rows[i].field);
		int r = parse(text, 0, &spec, &err);
		assert_int_equal(r == 0, rows[i].none);
		if (r == 0)
			spec_done(&spec);
	}
}

static void the_default_disk_follows_memory(void **state)
{
	(void)state;
	struct brig_err err;
	struct spec spec;
	assert_int_equal(parse("{}", 0, &spec, &err), 0);
	assert_int_equal(spec.limits.disk_bytes, 256 * MIB);
	assert_int_equal(spec.given, 0);
	spec_done(&spec);
	assert_int_equal(parse("{\"limits\":{\"memory_bytes\":67108864}}", 0, &spec, &err), 0);
	assert_int_equal(spec.limits.disk_bytes, 32 * MIB);
	spec_done(&spec);
}

static void what_is_beyond_this_host_is_refused_with_its_size(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		unsigned live;
		const char *refused;
	} rows[] = {
		{ "{\"limits\":{\"cpu_milli\":4000}}", 0, NULL },
		{ "{\"limits\":{\"cpu_milli\":4001}}", 0, "--cpus" },
		{ "{\"limits\":{\"memory_bytes\":8589934592}}", 0, NULL },
		{ "{\"limits\":{\"memory_bytes\":8589934593}}", 0, "--memory" },
		{ "{\"limits\":{\"pids\":32768}}", 0, NULL },
		{ "{\"limits\":{\"pids\":32769}}", 0, "--pids" },
		{ "{}", 9, NULL },
		{ "{}", 10, "all 10 sandboxes" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec spec;
		struct brig_err err;
		struct admission adm;
		assert_int_equal(parse(rows[i].text, 0, &spec, &err), 0);
		int r = spec_admit(&spec, &host, rows[i].live, &adm, &err);
		if ((r == 0) != !rows[i].refused)
			fail_msg("%s: %s", rows[i].text, r ? err.msg : "admitted");
		if (r < 0) {
			assert_non_null(strstr(err.msg, rows[i].refused));
			assert_true(err.remedy[0]);
		} else {
			json_decref(adm.warnings);
		}
		spec_done(&spec);
	}
}

static void what_cannot_be_enforced_is_refused_unless_accepted(void **state)
{
	(void)state;
	const uint32_t all = ~0u;
	static const struct {
		const char *text;
		uint32_t lacks;
		int rootless, admitted;
		unsigned warnings;
		const char *says;
	} rows[] = {
		/* A host that runs brig as root: nothing may lack in silence. */
		{ "{}", JAIL_ENF_memory, 0, 0, 0, "'memory'" },
		{ "{\"accept\":[\"memory\"]}", JAIL_ENF_memory, 0, 1, 1, "accepted" },
		{ "{\"limits\":{\"memory_bytes\":67108864}}", JAIL_ENF_memory, 0, 0, 0,
		  "--memory" },
		{ "{\"limits\":{\"memory_bytes\":67108864},\"accept\":[\"memory\"]}",
		  JAIL_ENF_memory, 0, 1, 1, "accepted" },
		{ "{\"accept\":[\"memory\"]}", JAIL_ENF_memory | JAIL_ENF_pids, 0, 0, 0, "'pids'" },
		{ "{}", JAIL_ENF_swap, 0, 0, 0, "'swap'" },
		{ "{}", JAIL_ENF_uidrange, 0, 0, 0, "'uidrange'" },
		/* What is optional is told by `version`, not here. */
		{ "{}", JAIL_ENF_OPTIONAL, 0, 1, 0, "" },
		/* An ordinary user's host: defaults are waived aloud, wishes are not. */
		{ "{}", JAIL_ENF_memory | JAIL_ENF_cpu, 1, 1, 2, "not enforced" },
		{ "{\"limits\":{\"pids\":10}}", JAIL_ENF_pids, 1, 0, 0, "--pids" },
		{ "{\"limits\":{\"pids\":10},\"accept\":[\"pids\"]}", JAIL_ENF_pids, 1, 1, 1,
		  "accepted" },
		{ "{\"limits\":{\"cpu_time_ms\":10}}", JAIL_ENF_accounting, 1, 0, 0, "--cpu-time" },
		{ "{\"limits\":{\"cpu_time_ms\":null}}", JAIL_ENF_accounting, 1, 1, 1,
		  "not enforced" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec spec;
		struct brig_err err;
		struct admission adm;
		struct jail_hello h = host;
		h.enforced = all & ~rows[i].lacks;
		h.rootless = (uint32_t)rows[i].rootless;
		assert_int_equal(parse(rows[i].text, 0, &spec, &err), 0);
		int r = spec_admit(&spec, &h, 0, &adm, &err);
		if ((r == 0) != rows[i].admitted)
			fail_msg("row %u: %s", i, r ? err.msg : "admitted");
		if (r == 0) {
			assert_int_equal(json_array_size(adm.warnings), rows[i].warnings);
			for (size_t k = 0; k < json_array_size(adm.warnings); k++)
				assert_non_null(
					strstr(json_string_value(json_array_get(adm.warnings, k)),
					       rows[i].says));
			/* jaild refuses what is missing and not accepted. */
			assert_int_equal(
				~h.enforced & ~adm.accept & ~(uint32_t)JAIL_ENF_OPTIONAL & 0x3f, 0);
			json_decref(adm.warnings);
		} else {
			assert_int_equal(err.code, BRIG_E_UNSUPPORTED);
			assert_non_null(strstr(err.msg, rows[i].says));
			assert_non_null(strstr(err.remedy, "--accept"));
		}
		spec_done(&spec);
	}
}

static void commands_are_checked(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int run;
		const char *refused;
	} rows[] = {
		{ "{\"op\":\"run\",\"cmd\":[\"a\",\"\"],\"tty\":true,\"rows\":24,\"cols\":80}", 1,
		  NULL },
		{ "{\"op\":\"run\",\"cmd\":[\"a\"],\"rows\":65536}", 1, "'rows'" },
		{ "{\"op\":\"run\",\"cmd\":[\"a\"],\"tty\":1}", 1, "'tty' must be true or false" },
		{ "{\"op\":\"run\",\"cmd\":[\"a\"],\"env\":[]}", 1, "unknown key 'env' in run" },
		{ "{\"op\":\"run\",\"cmd\":[\"a\"],\"detach\":true,\"stdin\":true}", 1,
		  "no 'stdin'" },
		{ "{\"op\":\"exec\",\"id\":\"x\",\"cmd\":[\"a\"],\"env\":[\"A=1\"],\"user\":"
		  "\"root\"}",
		  0, NULL },
		{ "{\"op\":\"exec\",\"id\":\"x\",\"cmd\":[\"a\"],\"rm\":true}", 0,
		  "unknown key 'rm' in exec" },
		{ "{\"op\":\"exec\",\"id\":\"x\",\"cmd\":[\"a\"],\"timeout_ms\":0}", 0,
		  "'timeout_ms'" },
		{ "{\"op\":\"exec\",\"id\":\"x\",\"cmd\":[\"a\"],\"timeout_ms\":null}", 0, NULL },
		{ "{\"op\":\"exec\",\"id\":\"x\",\"cmd\":[\"a\"],\"workdir\":\"a\"}", 0,
		  "absolute" },
		{ "{\"op\":\"exec\",\"id\":\"x\",\"cmd\":[\"a\"],\"detach\":true,"
		  "\"max_output_bytes\":5}",
		  0, "nobody reads" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *o = json_loads(rows[i].text, 0, NULL);
		struct brig_err err = BRIG_ERR_INIT;
		struct cmd cmd;
		assert_non_null(o);
		int r = cmd_parse(o, rows[i].run, &cmd, &err);
		if ((r == 0) != !rows[i].refused || (r < 0 && !strstr(err.msg, rows[i].refused)))
			fail_msg("%s: %s", rows[i].text, r ? err.msg : "accepted");
		if (r == 0)
			cmd_done(&cmd);
		json_decref(o);
	}
}

static void a_later_source_of_the_environment_wins_once(void **state)
{
	(void)state;
	struct image_config image = { .env_n = 0 };
	assert_int_equal(image_config_setenv(&image, "PATH", "/bin"), 0);
	assert_int_equal(image_config_setenv(&image, "LANG", "C"), 0);
	json_t *spec = json_pack("[s,s,s]", "A=1", "LANG=de", "A=2");
	json_t *cmd = json_pack("[s]", "B=PATH=x");
	json_t *argv = json_pack("[s,s]", "prog", "");
	struct payload_exec req = { .image = &image,
				    .spec_env = spec,
				    .cmd_env = cmd,
				    .argv = argv,
				    .user = "user",
				    .cwd = "" };
	struct buf out = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(payload_exec_build(&req, &out, &err), 0);
	struct brig_exec h;
	memcpy(&h, buf_head(&out), sizeof(h));
	assert_int_equal(h.argc, 2);
	assert_int_equal(h.envc, 4);
	static const char want[] = "user\0\0prog\0\0B=PATH=x\0A=2\0LANG=de\0PATH=/bin";
	assert_int_equal(buf_len(&out), sizeof(h) + sizeof(want));
	assert_memory_equal(buf_head(&out) + sizeof(h), want, sizeof(want));
	buf_done(&out);
	json_decref(spec);
	json_decref(cmd);
	json_decref(argv);
	image_config_done(&image);
}

static void a_command_larger_than_a_frame_is_refused(void **state)
{
	(void)state;
	struct image_config image = { .env_n = 0 };
	char *big = malloc(200001);
	memset(big, 'x', 200000);
	big[200000] = '\0';
	json_t *argv = json_pack("[s,s]", big, big);
	struct payload_exec req = { .image = &image, .argv = argv, .user = "", .cwd = "" };
	struct buf out = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(payload_exec_build(&req, &out, &err), -1);
	assert_int_equal(err.code, BRIG_E_INVALID);
	buf_done(&out);
	json_decref(argv);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_accepted_or_refused_by_name),
		cmocka_unit_test(volumes_need_a_clean_path_and_a_descriptor_each),
		cmocka_unit_test(every_limit_holds_at_both_ends),
		cmocka_unit_test(the_default_disk_follows_memory),
		cmocka_unit_test(what_is_beyond_this_host_is_refused_with_its_size),
		cmocka_unit_test(what_cannot_be_enforced_is_refused_unless_accepted),
		cmocka_unit_test(commands_are_checked),
		cmocka_unit_test(a_later_source_of_the_environment_wins_once),
		cmocka_unit_test(a_command_larger_than_a_frame_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
