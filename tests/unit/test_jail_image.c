/* SPDX-License-Identifier: Apache-2.0 */
/* The list of layers that brig-jaild reads, and which directories are images to it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "jail/image.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ONE "sha256-" HEX
#define TWO "sha256-1" HEX_TAIL
#define HEX_TAIL "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void a_list_is_exactly_digests(void **state)
{
	char names[JAIL_LAYERS_MAX][JAIL_TREE_NAME];
	unsigned n = 0;
	static const char good[] = ONE "\n" TWO "\n";
	static const char *const bad[] = {
		"", "\n", ONE, ONE "\n\n", ONE " \n", "../" ONE "\n", "sha256:" HEX "\n",
		"sha256-" HEX "0\n", "sha256-../../../../../../../../../../../../../../../../../../../../../\n",
		ONE "\n" ONE, "SHA256-" HEX "\n", "sha256-0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\n",
	};
	(void)state;
	assert_int_equal(jail_layers_parse(good, sizeof(good) - 1, names, &n), 0);
	assert_int_equal(n, 2);
	assert_string_equal(names[0], ONE);
	assert_string_equal(names[1], TWO);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_not_equal(jail_layers_parse(bad[i], strlen(bad[i]), names, &n), 0);
	/* A NUL hides nothing. */
	char nul[] = ONE "\n";
	nul[20] = '\0';
	assert_int_not_equal(jail_layers_parse(nul, sizeof(nul) - 1, names, &n), 0);
}

static void a_list_has_an_end(void **state)
{
	static char text[(JAIL_LAYERS_MAX + 1) * 72];
	char names[JAIL_LAYERS_MAX][JAIL_TREE_NAME];
	unsigned n;
	(void)state;
	for (unsigned i = 0; i <= JAIL_LAYERS_MAX; i++)
		memcpy(text + (size_t)i * 72, ONE "\n", 72);
	assert_int_equal(jail_layers_parse(text, (size_t)JAIL_LAYERS_MAX * 72, names, &n), 0);
	assert_int_equal(n, JAIL_LAYERS_MAX);
	assert_int_not_equal(jail_layers_parse(text, sizeof(text), names, &n), 0);
}

static int place(int at, const char *name)
{
	assert_int_equal(mkdirat(at, name, 0755), 0);
	int fd = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void only_images_of_the_store_are_images(void **state)
{
	char path[] = "/tmp/brig-jail-image.XXXXXX", cmd[64];
	struct jail_trees t = { .n = 0 };
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	assert_non_null(mkdtemp(path));
	int tmp = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int store = place(tmp, "store"), images = place(store, "images");
	int one = place(images, ONE), tree = place(one, "rootfs"), two = place(images, TWO);
	assert_int_equal(jail_trees_open(store, one, &t, &err), 0);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.digest, ONE);
	jail_trees_close(&t);

	/* Not an image: the tree itself, the store, what only has the name, another store. */
	int elsewhere = place(tmp, ONE), evil = place(images, "evil");
	int other = place(tmp, "images"), twin = place(other, ONE);
	const int none[] = { tree, images, store, elsewhere, evil, twin };
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		assert_int_equal(jail_trees_open(store, none[i], &t, &err), -1);
		assert_int_equal(err.code, BRIG_E_DENIED);
		err = (struct brig_err)BRIG_ERR_INIT;
	}
	assert_int_equal(jail_trees_open(-1, one, &t, &err), -1);

	/* Layers are looked up in the store, not taken from anywhere else. */
	assert_int_equal(jail_trees_open(store, two, &t, &err), -1); /* neither tree nor list */
	int fd = openat(two, "layers", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(fd_write_full(fd, ONE "\n" ONE "\n", 144), 0);
	assert_int_equal(jail_trees_open(store, two, &t, &err), 0);
	assert_int_equal(t.n, 2);
	assert_string_equal(t.digest, TWO);
	jail_trees_close(&t);
	assert_int_equal(unlinkat(one, "rootfs", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/etc", one, "rootfs"), 0);
	assert_int_equal(jail_trees_open(store, two, &t, &err), -1);
	assert_int_equal(jail_trees_open(store, one, &t, &err), -1);
	assert_int_equal(unlinkat(two, "layers", 0), 0);
	assert_int_equal(symlinkat("/etc/hostname", two, "layers"), 0);
	assert_int_equal(jail_trees_open(store, two, &t, &err), -1);
	const int all[] = { tmp, store, images, one, tree, two, elsewhere, evil, other, twin, fd };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		close(all[i]);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", path);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_is_exactly_digests),
		cmocka_unit_test(a_list_has_an_end),
		cmocka_unit_test(only_images_of_the_store_are_images),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
