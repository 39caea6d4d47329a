/* SPDX-License-Identifier: Apache-2.0 */
/* The initial RAM disk of a guest: modules in the order of their needs, an archive that cpio reads. */
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
#include "engine/microvm/guest/cpio.h"
#include "engine/microvm/guest/modules.h"

static char root[] = "/tmp/brig-pack-XXXXXX";
static int dir = -1;
static struct modules ms;
static struct brig_err err;

static void put(const char *name, const void *data, size_t n)
{
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, data, n), 0);
}

static void module(const char *path, const char *depends)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "ELF%clicense=GPL%cdepends=%s%cname=x", 0, 0, depends, 0);
	put(path, text, (size_t)n + 1);
}

static int setup(void **state)
{
	(void)state;
	if (dir < 0 && (!mkdtemp(root) || (dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0))
		return -1;
	mkdirat(dir, "kernel", 0755);
	mkdirat(dir, "kernel/drivers", 0755);
	mkdirat(dir, "kernel/net", 0755);
	put("modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko\n", 49);
	memset(&err, 0, sizeof(err));
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	modules_done(&ms);
	return 0;
}

static void test_order(void **state)
{
	(void)state;
	module("kernel/net/vsock.ko", "");
	module("kernel/net/vsock-common.ko", "vsock");
	module("kernel/drivers/virtio.ko", "");
	module("kernel/drivers/transport.ko", "vsock-common,virtio,ext4,crc_t10dif");
	assert_int_equal(modules_add(&ms, dir, "transport", &err), 0);
	assert_int_equal(ms.n, 4);
	assert_string_equal(ms.m[0].name, "vsock");
	assert_string_equal(ms.m[1].name, "vsock_common");
	assert_string_equal(ms.m[2].name, "virtio");
	assert_string_equal(ms.m[3].name, "transport");
	/* Once is enough; what is built in needs nothing. */
	assert_int_equal(modules_add(&ms, dir, "virtio", &err), 0);
	assert_int_equal(modules_add(&ms, dir, "ext4", &err), 0);
	assert_int_equal(modules_add(&ms, dir, "crc-t10dif", &err), 0);
	assert_int_equal(ms.n, 4);
}

static void refused(const char *name, const char *text)
{
	if (modules_add(&ms, dir, name, &err) == 0 || !strstr(err.msg, text))
		fail_msg("%s: '%s', not '%s'", name, err.msg, text);
}

static void test_refusals(void **state)
{
	char name[MODULE_NAME_MAX + 8];
	(void)state;
	refused("absent", "has no module absent");
	assert_true(err.remedy[0]);
	module("kernel/net/a.ko", "b");
	module("kernel/net/b.ko", "a");
	refused("a", "depends on itself");
	module("kernel/net/needy.ko", "absent");
	refused("needy", "has no module absent");
	put("kernel/net/packed.ko.xz", "x", 1);
	refused("packed", "compressed");
	put("kernel/net/empty.ko", "", 0);
	refused("empty", "makes no sense");
	/* A list that never ends is none. */
	put("kernel/net/open.ko", "\0depends=vsock", 14);
	assert_int_equal(modules_add(&ms, dir, "open", &err), 0);
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	refused(name, "has no module");
	refused("", "no name");
	unlinkat(dir, "modules.builtin", 0);
	refused("vsock", "modules.builtin");
}

/* What cpio makes of it. */
static void test_archive(void **state)
{
	char path[64], line[128], command[256], all[512] = "";
	(void)state;
	snprintf(path, sizeof(path), "%s/archive", root);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	struct cpio c = { .f = f };
	assert_int_equal(cpio_dir(&c, "sub"), 0);
	assert_int_equal(cpio_file(&c, "sub/abc", 0755, "12345", 5), 0);
	assert_int_equal(cpio_file(&c, "empty", 0644, NULL, 0), 0);
	assert_int_equal(cpio_end(&c), 0);
	long len = ftell(f);
	assert_int_equal(len % 4, 0);
	fclose(f);
	if (access("/bin/busybox", X_OK) != 0)
		skip();
	snprintf(command, sizeof(command), "cd %s && busybox cpio -i -d -F archive 2>/dev/null; stat -c '%%n %%a %%s' sub/abc empty; cat sub/abc", root);
	FILE *p = popen(command, "r");
	assert_non_null(p);
	while (fgets(line, sizeof(line), p))
		strncat(all, line, sizeof(all) - strlen(all) - 1);
	pclose(p);
	assert_string_equal(all, "sub/abc 755 5\nempty 644 0\n12345");
}

static int gone(void **state)
{
	char command[64];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	close(dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_archive, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, gone);
}
