/* SPDX-License-Identifier: Apache-2.0 */
/* What brig-jaild refuses from a brigd that has been taken over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "brig/limits.h"
#include "jail/check.h"

static struct jail_facts facts(void)
{
	struct jail_facts f = { .mem_total = 4 * GIB,
				.pids_total = 32768,
				.nofile_hard = 4096,
				.enforced = ~0u,
				.range = 1,
				.ids = 65536,
				.tiers = 1u << BRIG_TIER_container | 1u << BRIG_TIER_gvisor };
	f.image[0] = 1;
	return f;
}

static struct jail_spec good(void)
{
	struct jail_spec p = { .h = { JAIL_CREATE, 1 },
			       .id = "abcdefgh01234567",
			       .hostname = "box-1",
			       .memory_bytes = 512 * MIB,
			       .disk_bytes = 256 * MIB,
			       .inodes = 1000,
			       .cpu_milli = 1000,
			       .pids = 100,
			       .nofile = 1024,
			       .uid = 1000,
			       .gid = 1000,
			       .home = "/home/user" };
	return p;
}

static void an_ordinary_request_passes(void **state)
{
	(void)state;
	struct jail_facts f = facts();
	struct jail_spec p = good();
	struct brig_err e = BRIG_ERR_INIT;
	assert_int_equal(jail_check_spec(&p, &f, &e), 0);
	assert_int_equal(jail_check_message(&p, sizeof(p), 1, &e), JAIL_CREATE);
}

/* Each case changes one thing of a good request and must be refused with this code. */
#define REFUSED(code_, change)                                            \
	do {                                                              \
		struct jail_facts f = facts();                            \
		struct jail_spec p = good();                              \
		struct brig_err e = BRIG_ERR_INIT;                        \
		change;                                                   \
		assert_int_equal(jail_check_spec(&p, &f, &e), -1);        \
		assert_int_equal(e.code, code_);                          \
		assert_true(e.msg[0] != '\0');                            \
	} while (0)

static void names_that_could_become_paths_are_refused(void **state)
{
	(void)state;
	REFUSED(BRIG_E_PROTOCOL, memcpy(p.id, "../../../etc/pass", 16));
	REFUSED(BRIG_E_PROTOCOL, p.id[3] = '/');
	REFUSED(BRIG_E_PROTOCOL, p.id[15] = '\0');
	REFUSED(BRIG_E_PROTOCOL, p.id[16] = 'x');
	REFUSED(BRIG_E_INVALID, strcpy(p.hostname, "a/b"));
	REFUSED(BRIG_E_INVALID, strcpy(p.hostname, ""));
	REFUSED(BRIG_E_PROTOCOL, memset(p.hostname, 'a', sizeof(p.hostname)));
	REFUSED(BRIG_E_INVALID, strcpy(p.home, "/home/../etc"));
	REFUSED(BRIG_E_INVALID, strcpy(p.home, "home"));
	REFUSED(BRIG_E_INVALID, strcpy(p.home, "/"));
	REFUSED(BRIG_E_PROTOCOL, memset(p.home, '/', sizeof(p.home)));
	REFUSED(BRIG_E_INVALID, (p.nvolumes = 1, strcpy(p.volumes[0].path, "/a/../../b")));
	REFUSED(BRIG_E_INVALID, (p.nvolumes = 1, strcpy(p.volumes[0].path, "/")));
	REFUSED(BRIG_E_PROTOCOL, p.nvolumes = JAIL_VOLUMES_MAX + 1);
	REFUSED(BRIG_E_PROTOCOL, p.nvolumes = UINT32_MAX);
}

static void limits_beyond_the_host_are_refused(void **state)
{
	(void)state;
	REFUSED(BRIG_E_LIMIT, p.memory_bytes = f.mem_total + 1);
	REFUSED(BRIG_E_LIMIT, p.memory_bytes = 0);
	REFUSED(BRIG_E_LIMIT, p.disk_bytes = p.memory_bytes + 1);
	REFUSED(BRIG_E_LIMIT, p.disk_bytes = UINT64_MAX);
	REFUSED(BRIG_E_LIMIT, p.inodes = 0);
	REFUSED(BRIG_E_LIMIT, p.inodes = UINT64_MAX);
	REFUSED(BRIG_E_LIMIT, p.pids = 0);
	REFUSED(BRIG_E_LIMIT, p.pids = f.pids_total + 1);
	REFUSED(BRIG_E_LIMIT, p.cpu_milli = 0);
	REFUSED(BRIG_E_LIMIT, p.nofile = 15);
	REFUSED(BRIG_E_LIMIT, p.nofile = 4097);
	REFUSED(BRIG_E_LIMIT, p.uid = 65535);
	REFUSED(BRIG_E_LIMIT, p.gid = UINT32_MAX);
}

static void an_unknown_image_is_refused(void **state)
{
	(void)state;
	REFUSED(BRIG_E_NOT_FOUND, p.image = 5);
	REFUSED(BRIG_E_NOT_FOUND, p.image = JAIL_IMAGES_MAX);
	REFUSED(BRIG_E_NOT_FOUND, p.image = UINT32_MAX);
}

static void what_the_host_cannot_enforce_is_refused_unless_accepted(void **state)
{
	(void)state;
	REFUSED(BRIG_E_UNSUPPORTED, f.enforced &= ~(uint32_t)JAIL_ENF_memory);
	REFUSED(BRIG_E_UNSUPPORTED, f.enforced &= ~(uint32_t)JAIL_ENF_uidrange);
	REFUSED(BRIG_E_UNSUPPORTED,
		(f.enforced &= ~(uint32_t)JAIL_ENF_memory, p.accept = JAIL_ENF_pids));
	struct jail_facts f = facts();
	struct jail_spec p = good();
	struct brig_err e = BRIG_ERR_INIT;
	f.enforced &= ~(uint32_t)JAIL_ENF_memory;
	p.accept = JAIL_ENF_memory;
	assert_int_equal(jail_check_spec(&p, &f, &e), 0);
	f.enforced &= ~(uint32_t)JAIL_ENF_OPTIONAL;
	assert_int_equal(jail_check_spec(&p, &f, &e), 0);
	p.accept = 0;
	assert_int_equal(jail_check_spec(&p, &f, &e), -1);
	assert_non_null(strstr(e.remedy, "--accept memory"));
}

static void messages_of_a_wrong_shape_are_refused(void **state)
{
	(void)state;
	struct jail_spec p = good();
	struct brig_err e = BRIG_ERR_INIT;
	for (size_t n = 0; n < sizeof(p); n += 7)
		assert_int_equal(jail_check_message(&p, n, 1, &e), -1);
	assert_int_equal(jail_check_message(&p, sizeof(p), 3 + JAIL_VOLUMES_MAX, &e), -1);
	for (uint32_t v = 0; v < 100; v++) {
		struct jail_ref r = { .h = { v, 1 } };
		int ok = jail_check_message(&r, sizeof(r), 0, &e) >= 0;
		assert_int_equal(ok, v == JAIL_STATS || v == JAIL_DESTROY || v == JAIL_PAUSE ||
					     v == JAIL_RESUME || v == JAIL_MEASURE ||
					     v == JAIL_RECEIPT);
	}
}

static void an_image_is_announced_once_and_dropped_once(void **state)
{
	(void)state;
	struct jail_facts f = facts();
	struct brig_err e = BRIG_ERR_INIT;
	struct jail_image m = { .id = 3 };
	assert_int_equal(jail_check_image(&m, &f, 1, &e), 0);
	assert_int_equal(jail_check_image(&m, &f, 0, &e), -1); /* no directory */
	f.image[3] = 1;
	assert_int_equal(jail_check_image(&m, &f, 1, &e), -1);
	m.drop = 1;
	assert_int_equal(jail_check_image(&m, &f, 0, &e), 0);
	assert_int_equal(jail_check_image(&m, &f, 1, &e), -1);
	m.id = 0; /* the built-in image stays */
	assert_int_equal(jail_check_image(&m, &f, 0, &e), -1);
	m.id = JAIL_IMAGES_MAX;
	assert_int_equal(jail_check_image(&m, &f, 0, &e), -1);
}

static void a_volume_is_named_by_an_id_and_has_limits(void **state)
{
	(void)state;
	struct brig_err e = BRIG_ERR_INIT;
	const struct jail_volume_ask good_one = { .h = { JAIL_VOLUME, 1 },
						  .op = JAIL_VOLUME_MAKE,
						  .id = "abcdefgh01234567",
						  .bytes = 16 * MIB,
						  .inodes = 64 };
	struct jail_volume_ask m = good_one;
	assert_int_equal(jail_check_message(&m, sizeof(m), 0, &e), JAIL_VOLUME);
	assert_int_equal(jail_check_message(&m, sizeof(m), 1, &e), -1); /* it takes no descriptor */
	assert_int_equal(jail_check_volume(&m, &e), 0);
#define BAD(change)                                              \
	do {                                                     \
		m = good_one;                                    \
		change;                                          \
		assert_int_equal(jail_check_volume(&m, &e), -1); \
	} while (0)
	BAD(m.id[3] = '/');
	BAD(m.id[0] = '.');
	BAD(m.id[0] = '\0');
	BAD(m.id[16] = 'x');
	BAD(m.op = JAIL_VOLUME__N);
	BAD(memcpy(m.from, m.id, 16));
	BAD(m.seal = 1);
	BAD(m.bytes = 0);
	BAD(m.bytes = VOLUME_BYTES_MIN - 1);
	BAD(m.bytes = UINT64_MAX);
	BAD(m.inodes = 0);
	BAD(m.inodes = UINT64_MAX);
	BAD(m.op = JAIL_VOLUME_REMOVE); /* with limits */
	BAD((m.op = JAIL_VOLUME_CLONE, m.bytes = m.inodes = 0)); /* of nothing */
	BAD((m.op = JAIL_VOLUME_CLONE, m.bytes = m.inodes = 0, memcpy(m.from, "../../../etc/pass", 16)));
	m = good_one;
	m.op = JAIL_VOLUME_CLONE;
	m.bytes = m.inodes = 0;
	m.seal = 1;
	memcpy(m.from, "zzzzzzzz01234567", 16);
	assert_int_equal(jail_check_volume(&m, &e), 0);
}

static void a_volume_of_the_store_brings_no_descriptor(void **state)
{
	(void)state;
	struct jail_facts f = facts();
	struct jail_spec p = good();
	struct brig_err e = BRIG_ERR_INIT;
	p.nvolumes = 2;
	strcpy(p.volumes[0].path, "/a");
	strcpy(p.volumes[1].path, "/b");
	memcpy(p.volumes[1].id, "abcdefgh01234567", 16);
	assert_int_equal(jail_check_spec(&p, &f, &e), 0);
	assert_int_equal(jail_spec_fds(&p), 2);
}

static void only_a_volume_of_the_store_that_is_written_to_lies_at_the_root(void **state)
{
	(void)state;
	struct jail_facts f = facts();
	struct jail_spec p = good();
	struct brig_err e = BRIG_ERR_INIT;
	p.nvolumes = 1;
	strcpy(p.volumes[0].path, "/");
	memcpy(p.volumes[0].id, "abcdefgh01234567", 16);
	assert_int_equal(jail_check_spec(&p, &f, &e), 0);
	p.volumes[0].readonly = 1;
	assert_int_equal(jail_check_spec(&p, &f, &e), -1);
	p.volumes[0].readonly = 0;
	memset(p.volumes[0].id, 0, sizeof(p.volumes[0].id));
	assert_int_equal(jail_check_spec(&p, &f, &e), -1);
}

static void a_volume_of_a_sandbox_is_named_by_an_id(void **state)
{
	(void)state;
	REFUSED(BRIG_E_PROTOCOL, (p.nvolumes = 1, strcpy(p.volumes[0].path, "/a"), strcpy(p.volumes[0].id, "../x")));
	REFUSED(BRIG_E_PROTOCOL, (p.nvolumes = 1, strcpy(p.volumes[0].path, "/a"), p.volumes[0].id[5] = 'x'));
	REFUSED(BRIG_E_PROTOCOL, (p.nvolumes = 1, strcpy(p.volumes[0].path, "/a"), p.volumes[0].readonly = 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ordinary_request_passes),
		cmocka_unit_test(names_that_could_become_paths_are_refused),
		cmocka_unit_test(limits_beyond_the_host_are_refused),
		cmocka_unit_test(an_unknown_image_is_refused),
		cmocka_unit_test(what_the_host_cannot_enforce_is_refused_unless_accepted),
		cmocka_unit_test(messages_of_a_wrong_shape_are_refused),
		cmocka_unit_test(an_image_is_announced_once_and_dropped_once),
		cmocka_unit_test(a_volume_is_named_by_an_id_and_has_limits),
		cmocka_unit_test(a_volume_of_the_store_brings_no_descriptor),
		cmocka_unit_test(only_a_volume_of_the_store_that_is_written_to_lies_at_the_root),
		cmocka_unit_test(a_volume_of_a_sandbox_is_named_by_an_id),
	};
	return cmocka_run_group_tests_name("jail_check", tests, NULL, NULL);
}
