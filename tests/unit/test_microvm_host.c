/* SPDX-License-Identifier: Apache-2.0 */
/* What a host must have for microVMs, and whether a VMM is what it should be. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "engine/microvm/tier/host.h"
#include "engine/microvm/tier/watch.h"

static char dir[] = "/tmp/brig-host-XXXXXX";

static const char *at(const char *rel)
{
	static char path[4][256];
	static unsigned i;
	char *p = path[i++ % 4];
	snprintf(p, sizeof(path[0]), "%s/%s", dir, rel);
	return p;
}

static void file_make(const char *rel)
{
	int fd = open(at(rel), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	static const char *const dirs[] = { "boot", "lib", "lib/modules", "lib/modules/6.1-cloud", "bin" };
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		assert_int_equal(mkdir(at(dirs[i]), 0755), 0);
	file_make("boot/vmlinuz-6.1-cloud");
	file_make("boot/vmlinuz-6.2-bare");
	file_make("boot/other");
	return 0;
}

static int teardown(void **state)
{
	char command[64];
	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static void refused(const char *kernel, const char *agent, const char *why)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct microvm_host h;
	assert_int_equal(microvm_host_find(kernel, agent, &h, &err), -1);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
	assert_true(err.remedy[0]);
}

static void test_kernel(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct microvm_host h;
	(void)state;
	assert_int_equal(microvm_host_find(at("boot/vmlinuz-6.1-cloud"), NULL, &h, &err), 0);
	assert_string_equal(h.release, "6.1-cloud");
	assert_string_equal(h.modules, at("lib/modules/6.1-cloud"));
	refused(at("boot/vmlinuz-6.2-bare"), NULL, "no modules");
	refused(at("boot/vmlinuz-9-gone"), NULL, "open the guest kernel");
	refused(at("boot/other"), NULL, "is not named");
	refused("boot/vmlinuz-6.1-cloud", NULL, "is not named");
	refused("/vmlinuz-6.1-cloud", NULL, "is not named");
	refused("vmlinuz-6.1-cloud", NULL, "is not named");
}

static void test_programs(void **state)
{
	static const char *const programs[] = { "brig-vmm", "brig-guest-init", "brig-guest-pack", "brig-agent" };
	struct brig_err err = BRIG_ERR_INIT;
	struct microvm_host h;
	char agent[256];
	(void)state;
	snprintf(agent, sizeof(agent), "%s", at("bin/brig-agent"));
	for (unsigned i = 0; i < 4; i++) {
		refused(at("boot/vmlinuz-6.1-cloud"), agent, "there is no '");
		char rel[64];
		snprintf(rel, sizeof(rel), "bin/%s", programs[i]);
		file_make(rel);
	}
	if (access("/usr/sbin/mke2fs", X_OK) == 0) {
		assert_int_equal(microvm_host_find(at("boot/vmlinuz-6.1-cloud"), agent, &h, &err), 0);
		assert_string_equal(h.vmm, at("bin/brig-vmm"));
	}
}

/* This process is none: whatever it has too much is found. */
static void test_watch(void **state)
{
	char why[160];
	struct microvm_want w = { .uid = getuid(), .gid = getgid(), .threads = 1 };
	(void)state;
	assert_int_equal(microvm_watch(getpid(), &w, why, sizeof(why)), 1);
	w.uid++;
	assert_int_equal(microvm_watch(getpid(), &w, why, sizeof(why)), 1);
	assert_non_null(strstr(why, "Uid"));
	assert_true(microvm_watch(0x7ffffffe, &w, why, sizeof(why)) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_kernel), cmocka_unit_test(test_programs),
					    cmocka_unit_test(test_watch) };
	return cmocka_run_group_tests(tests, setup, teardown);
}
