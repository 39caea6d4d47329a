/* SPDX-License-Identifier: Apache-2.0 */
/* What a stack of layers shows, what a layer hides, and the settings of an image of layers. */
#include <errno.h>
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
#include "image/digest.h"
#include "image/lower.h"
#include "image/stage.h"
#include "image/tree.h"

static const struct tree_limits limits = { .bytes = 1 << 20, .entries = 1000 };
static const struct tree_meta plain = { .mode = 0644, .mtime = -1 }, dir_meta = { .mode = 0750, .mtime = -1 };

struct fixture {
	char path[40];
	int top;
	int layer[3]; /* the lowest first */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->path, "/tmp/brig-layer.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->top = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 3; i++) {
		char name[2] = { (char)('0' + i), '\0' };
		assert_int_equal(mkdirat(f->top, name, 0755), 0);
		f->layer[i] = openat(f->top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 3; i++) {
		char name[2] = { (char)('0' + i), '\0' };
		close(f->layer[i]);
		stage_remove_tree(f->top, name);
	}
	close(f->top);
	rmdir(f->path);
	free(f);
	return 0;
}

/* The layers below number n, the topmost first. */
static struct lower below(const struct fixture *f, unsigned n)
{
	struct lower l = { .n = n };
	for (unsigned i = 0; i < n; i++)
		l.fd[i] = f->layer[n - 1 - i];
	return l;
}

static void begin(struct fixture *f, unsigned n, struct tree *t, struct lower *low)
{
	*low = below(f, n);
	tree_init(t, f->layer[n], false, &limits);
	t->lower = low;
}

static void end(struct tree *t)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (tree_finish(t, &err) < 0)
		fail_msg("%s", err.msg);
	tree_done(t);
}

static void file(struct tree *t, const char *name, const char *text)
{
	struct tree_file out;
	struct brig_err err = BRIG_ERR_INIT;
	if (tree_add_file(t, name, strlen(text), &plain, &out, &err) < 0 ||
	    tree_file_write(&out, 0, text, strlen(text), &err) < 0 || tree_file_finish(&out, &err) < 0)
		fail_msg("%s: %s", name, err.msg);
}

static void shows(const struct fixture *f, unsigned n, const char *path, const char *names)
{
	struct lower l = below(f, n);
	struct names d;
	char text[256] = "";
	assert_int_equal(lower_names(&l, path, 100, &d), 0);
	for (size_t i = 0; i < d.n; i++) {
		strcat(text, i ? " " : "");
		strcat(text, d.list[i]);
	}
	names_done(&d);
	assert_string_equal(text, names);
}

static void three(struct fixture *f)
{
	struct tree t;
	struct lower low;
	begin(f, 0, &t, &low);
	assert_int_equal(tree_add_dir(&t, "d", &dir_meta, NULL), 0);
	file(&t, "d/a", "bottom");
	file(&t, "d/b", "bottom");
	file(&t, "d/sub/x", "x");
	file(&t, "f", "f");
	assert_int_equal(tree_add_symlink(&t, "link", "d/sub", &plain, NULL), 0);
	assert_int_equal(tree_add_symlink(&t, "up", "/../../d", &plain, NULL), 0);
	assert_int_equal(tree_add_symlink(&t, "loop", "loop", &plain, NULL), 0);
	end(&t);
	begin(f, 1, &t, &low);
	file(&t, "d/a", "middle");
	assert_int_equal(tree_hide(&t, "d/b", false, NULL), 0);
	file(&t, "f/inside", "f is a directory now");
	end(&t);
	begin(f, 2, &t, &low);
	assert_int_equal(tree_hide(&t, "d/", true, NULL), 0);
	file(&t, "d/sub/y", "y");
	end(&t);
}

static void layers_cover_each_other(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	three(f);
	shows(f, 1, "", "d f link loop up");
	shows(f, 1, "d", "a b sub");
	shows(f, 2, "d", "a sub");
	shows(f, 3, "d", "sub");
	shows(f, 3, "d/sub", "y"); /* opaque all the way down */
	shows(f, 3, "f", "inside");
	struct lower l = below(f, 3);
	assert_int_equal(lower_look(&l, "d/a", &st), -ENOENT);
	assert_int_equal(lower_look(&l, "d/sub/x", &st), -ENOENT);
	assert_int_equal(lower_look(&l, "f/inside/x", &st), -ENOTDIR);
	assert_int_equal(lower_look(&l, "link/x", &st), -ENOTDIR);
	assert_int_equal(lower_look(&l, "", &st), 0);
	l = below(f, 2);
	char text[16] = "";
	int fd = lower_open(&l, "d/a", O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 6);
	close(fd);
	assert_string_equal(text, "middle");
	/* A directory that was only implied looks as it did. */
	assert_int_equal(fstatat(f->layer[2], "d", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	/* Nothing is hidden that is not there. */
	assert_int_equal(fstatat(f->layer[2], "d/b", &st, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(fstatat(f->layer[2], "d/a", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(lower_is_whiteout(&st));
}

static void links_lead_within(void **state)
{
	struct fixture *f = *state;
	char out[TREE_PATH_MAX + 1];
	three(f);
	struct lower l = below(f, 1);
	static const char *const cases[][2] = {
		{ "link/x", "d/sub/x" }, { "/link/../a", "d/a" },    { "up/b", "d/b" },
		{ "../../..", "" },	 { "none/of/it", "none/of/it" }, { "./d//a", "d/a" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(lower_resolve(&l, cases[i][0], out), 0);
		assert_string_equal(out, cases[i][1]);
	}
	assert_int_equal(lower_resolve(&l, "loop/x", out), -ELOOP);
}

static void a_file_below_is_copied_for_a_link(void **state)
{
	struct fixture *f = *state;
	struct tree t;
	struct lower low;
	struct brig_err err = BRIG_ERR_INIT;
	struct stat a, b;
	three(f);
	assert_int_equal(stage_remove_tree(f->top, "1"), 0);
	assert_int_equal(mkdirat(f->top, "1", 0755), 0);
	close(f->layer[1]);
	f->layer[1] = openat(f->top, "1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	begin(f, 1, &t, &low);
	assert_int_equal(tree_add_hardlink(&t, "new/name", "d/a", &err), 0);
	static const char *const bad[] = { "none", "d", "link", "../../etc/hostname", "link/x", "f/x" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(tree_add_hardlink(&t, "bad", bad[i], &err), -1);
	end(&t);
	assert_int_equal(fstatat(f->layer[1], "d/a", &a, 0), 0);
	assert_int_equal(fstatat(f->layer[1], "new/name", &b, 0), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_size, 6);
}

static void a_whiteout_has_a_digest(void **state)
{
	struct fixture *f = *state;
	struct tree_digest with, without;
	three(f);
	assert_int_equal(digest_tree(f->layer[1], false, 100, &with, NULL), 0);
	assert_int_equal(unlinkat(f->layer[1], "d/b", 0), 0);
	assert_int_equal(digest_tree(f->layer[1], false, 100, &without, NULL), 0);
	assert_memory_not_equal(with.sha256, without.sha256, 32);
	assert_int_equal(with.files, without.files + 1);
}

static void settings_come_back_as_they_were(void **state)
{
	struct image_config c = { .name = "n", .created = "x", .arch = "amd64", .workdir = "/", .user.home = "/" }, back;
	struct image_layer layer = { .size_bytes = 1, .files = 2 };
	struct brig_err err = BRIG_ERR_INIT;
	char hex[65];
	(void)state;
	memset(hex, 'a', 64);
	hex[64] = '\0';
	assert_int_equal(image_digest_from_hex(hex, &layer.digest), 0);
	c.digest = layer.digest;
	assert_int_equal(image_config_add_layer(&c, &layer), 0);
	assert_int_equal(image_config_setenv(&c, "A", "b=c"), 0);
	assert_int_equal(image_words_add(&c.entrypoint, "/x"), 0);
	assert_int_equal(image_words_add(&c.cmd, "\xff"), -EINVAL);
	static const char *const ports[] = { "80", "80/tcp", "53/udp" }, *const none[] = { "0", "65536", "x", "80/", "80-90/tcp", "" };
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(image_config_port(&c, ports[i]), 0);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(image_config_port(&c, none[i]), -EINVAL);
	assert_int_equal(c.ports.n, 2);
	assert_int_equal(image_config_label(&c, "l", "1"), 0);
	assert_int_equal(image_config_label(&c, "l", "2"), 0);
	assert_int_equal(image_config_label(&c, "a=b", "2"), -EINVAL);
	json_t *json = image_config_json(&c);
	char *text = json_dumps(json, 0), *one = image_config_text(&c);
	assert_int_equal(image_config_parse(text, strlen(text), &back, &err), 0);
	char *two = image_config_text(&back);
	assert_string_equal(one, two);
	assert_int_equal(back.layers_n, 1);
	free(text);
	free(one);
	free(two);
	json_decref(json);
	image_config_done(&back);
	for (unsigned i = 1; i < IMAGE_LAYERS_MAX; i++)
		assert_int_equal(image_config_add_layer(&c, &layer), 0);
	assert_int_equal(image_config_add_layer(&c, &layer), -E2BIG);
	image_config_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(layers_cover_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(links_lead_within, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_below_is_copied_for_a_link, setup, teardown),
		cmocka_unit_test_setup_teardown(a_whiteout_has_a_digest, setup, teardown),
		cmocka_unit_test(settings_come_back_as_they_were),
	};
	assert_int_equal(digest_prepare(NULL), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
