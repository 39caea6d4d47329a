/* SPDX-License-Identifier: Apache-2.0 */
/* File operations: what they do, as whom, and what they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_driver.h"
#include "base/clock.h"

#define MIB (1u << 20)

static const char *no_box;

static int boxed(void **state)
{
	*state = NULL;
	if (!no_box)
		*state = drv_start(&(struct drv_options){ .boxed = true, .root_kib = 65536 });
	return 0;
}

static int unboxed(void **state)
{
	int r = *state ? drv_stop(*state) : 0;
	if (r)
		print_message("the agent ended with %d\n", r);
	return r;
}

/* The agent of the test at hand. */
static struct agent_driver *agent(void **state)
{
	if (!*state) {
		print_message("skipped: %s\n", no_box);
		skip();
	}
	return *state;
}

static int now(struct agent_driver *d, uint16_t type, struct drv_fs q)
{
	return drv_fs_now(d, 60, type, &q);
}

static const char *sh(struct agent_driver *d, const char *script)
{
	return drv_out(drv_sh(d, 61, "", script));
}

static int put(struct agent_driver *d, const char *user, const char *path, const char *text)
{
	return drv_write(d, 62, user, path, 0, 0, text, strlen(text));
}

static const char *get(struct agent_driver *d, const char *user, const char *path)
{
	static char err[32];
	int e = drv_read(d, 63, user, path);
	snprintf(err, sizeof(err), "errno %d", e);
	return e ? err : drv_out(&d->s[63]);
}

static void write_and_read_move_the_same_bytes(void **state)
{
	enum { N = 20 << 20 };
	struct agent_driver *d = agent(state);
	uint8_t *data = malloc(N);
	assert_non_null(data);
	for (size_t i = 0; i < N; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	assert_int_equal(drv_write(d, 1, "user", "big", 0, 0, data, N), 0);
	assert_int_equal(d->s[1].fs.bytes, N);
	assert_int_equal(drv_read(d, 2, "user", "/home/user/big"), 0);
	assert_int_equal(d->s[2].fs.bytes, N);
	assert_int_equal(buf_len(&d->s[2].out[0]), N);
	assert_memory_equal(buf_head(&d->s[2].out[0]), data, N);
	assert_true(d->s[2].eof);
	/* A part of it. */
	assert_int_equal(drv_fs_now(d, 3, BRIG_FS_READ,
				    &(struct drv_fs){ .path = "/home/user/big",
						      .arg = 1000003,
						      .arg2 = 3000000 }),
			 0);
	assert_int_equal(buf_len(&d->s[3].out[0]), 3000000);
	assert_memory_equal(buf_head(&d->s[3].out[0]), data + 1000003, 3000000);
	free(data);
	assert_string_equal(sh(d, "stat -c '%U %G %a' /home/user/big"), "user user 644\n");
}

static void empty_file_and_offset_beyond_the_end_read_as_nothing(void **state)
{
	struct agent_driver *d = agent(state);
	assert_int_equal(put(d, "user", "empty", ""), 0);
	assert_string_equal(get(d, "user", "empty"), "");
	assert_true(d->s[63].eof);
	assert_int_equal(put(d, "user", "short", "abc"), 0);
	assert_int_equal(
		now(d, BRIG_FS_READ, (struct drv_fs){ .path = "/home/user/short", .arg = 99 }), 0);
	assert_int_equal(d->s[60].total[0], 0);
	assert_true(d->s[60].eof);
	/* No size, but contents. */
	assert_non_null(strstr(get(d, "", "/proc/self/status"), "Name:"));
}

/* Pieces of several files that one read brings: each is written as its own user. The kernel shows as whom,
 * for a write takes the set-user-id bit away from a file unless the writer has CAP_FSETID. */
static void pieces_that_come_together_are_written_as_their_own_users(void **state)
{
	struct agent_driver *d = agent(state);
	struct buf b = BUF_INIT(4096);
	sh(d, "for f in a b c; do echo old >/tmp/$f; chmod 4777 /tmp/$f; done; "
	      "echo secret >/root/only; chmod 600 /root/only");
	static const char *const users[] = { "", "user", "" }, *const paths[] = { "/tmp/a", "/tmp/b", "/tmp/c" };
	for (uint32_t i = 0; i < 3; i++) {
		drv_fs(d, 1 + i, BRIG_FS_WRITE,
		       &(struct drv_fs){ .user = users[i], .path = paths[i], .no_credit = true });
	}
	drv_sync(d);
	for (uint32_t piece = 0; piece < 4; piece++)
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(frame_add(&b, BRIG_FS_DATA, piece == 3 ? BRIG_FF_EOF : 0, 1 + i, "new\n",
						   piece == 3 ? 0 : 4, NULL, 0), 0);
	assert_int_equal(write(d->fd, buf_head(&b), buf_len(&b)), buf_len(&b));
	buf_done(&b);
	drv_until(d, &d->s[1].done);
	drv_until(d, &d->s[2].done);
	drv_until(d, &d->s[3].done);
	assert_string_equal(sh(d, "stat -c '%n %a %s' /tmp/a /tmp/b /tmp/c"),
			    "/tmp/a 4777 12\n/tmp/b 777 12\n/tmp/c 4777 12\n");
	/* .. and nothing of it stays. */
	assert_string_equal(get(d, "", "/root/only"), "secret\n");
	assert_string_equal(get(d, "user", "/root/only"), "errno 13");
}

static void read_stays_within_its_credit(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "head -c 1000000 /dev/zero >/tmp/z");
	struct drv_stream *s =
		drv_fs(d, 1, BRIG_FS_READ, &(struct drv_fs){ .path = "/tmp/z", .credit = 1000 });
	drv_sync(d);
	assert_int_equal(s->total[0], 1000);
	drv_credit(d, 1, BRIG_CHAN_FS, 998999);
	while (s->total[0] < 999999)
		assert_true(drv_pump(d, 1000));
	drv_sync(d);
	assert_false(s->done);
	/* A reader that stops in the middle of it. */
	drv_close(d, 1);
	assert_string_equal(get(d, "", "/etc/brig/none"), "errno 2");
	s = drv_fs(d, 1, BRIG_FS_READ, &(struct drv_fs){ .path = "/tmp/z", .regrant = true });
	drv_until(d, &s->done);
	assert_int_equal(s->total[0], 1000000);
}

static void write_modes_append_excl_and_parents(void **state)
{
	struct agent_driver *d = agent(state);
	assert_int_equal(drv_write(d, 1, "user", "a/b/c", 0, 0, "x", 1), ENOENT);
	assert_int_equal(drv_write(d, 1, "user", "a/b/c", BRIG_FS_PARENTS, 0640, "one", 3), 0);
	assert_int_equal(drv_write(d, 1, "user", "a/b/c", BRIG_FS_EXCL, 0, "x", 1), EEXIST);
	assert_int_equal(drv_write(d, 1, "user", "a/b/c", BRIG_FS_APPEND, 0, "two", 3), 0);
	assert_string_equal(get(d, "user", "a/b/c"), "onetwo");
	assert_string_equal(sh(d, "stat -c %a /home/user/a/b/c /home/user/a"), "640\n755\n");
	assert_int_equal(drv_write(d, 1, "user", "a/b/c", 0, 0755, "3", 1), 0);
	assert_string_equal(get(d, "user", "a/b/c"), "3");
	assert_string_equal(sh(d, "stat -c %a /home/user/a/b/c"), "755\n");
}

static void only_regular_files_are_opened(void **state)
{
	static const struct {
		const char *path;
		int err;
	} cases[] = {
		{ "/tmp/fifo", ENXIO },	    { "/dev/null", ENXIO }, { "/dev/ptmx", ENXIO },
		{ "/tmp", EISDIR },	    { "/tmp/link", ENXIO }, { "/tmp/loop", ELOOP },
		{ "/tmp/fifo/x", ENOTDIR }, { "/tmp/sock", ENXIO },
	};
	struct agent_driver *d = agent(state);
	sh(d, "mkfifo /tmp/fifo; ln -s fifo /tmp/link; ln -s loop /tmp/loop;"
	      "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/tmp/sock\")'");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(drv_read(d, 1, "", cases[i].path), cases[i].err);
		assert_int_equal(drv_write(d, 2, "", cases[i].path, 0, 0, "x", 1), cases[i].err);
	}
}

static void user_sees_and_changes_only_what_is_theirs(void **state)
{
	struct agent_driver *d = agent(state);
	assert_int_equal(put(d, "", "/root/secret", "s3cret"), 0);
	sh(d, "chmod 700 /root; chmod 600 /root/secret; ln -s /root/secret /tmp/to-secret; ln -s "
	      "/root /tmp/to-root;"
	      "echo group >/tmp/g; chgrp 2001 /tmp/g; chmod 640 /tmp/g");
	static const char *const paths[] = { "/root/secret", "/tmp/to-secret",
					     "/tmp/to-root/secret", "/proc/1/root/root/secret",
					     "/proc/self/root/root/secret" };
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		assert_int_equal(drv_read(d, 1, "user", paths[i]), EACCES);
		assert_int_equal(drv_write(d, 1, "user", paths[i], 0, 0, "x", 1), EACCES);
		assert_int_equal(
			now(d, BRIG_FS_STAT, (struct drv_fs){ .user = "user", .path = paths[i] }),
			EACCES);
	}
	/* Nor the agent itself. */
	assert_int_equal(drv_read(d, 1, "user", "/proc/1/environ"), EACCES);
	assert_int_equal(drv_read(d, 1, "user", "/proc/self/mem"), EACCES);
	assert_int_equal(drv_write(d, 1, "user", "/proc/1/oom_score_adj", 0, 0, "0", 1), EACCES);
	assert_int_equal(
		now(d, BRIG_FS_LIST, (struct drv_fs){ .user = "user", .path = "/root", .arg = 1 }),
		EACCES);
	assert_int_equal(now(d, BRIG_FS_MKDIR, (struct drv_fs){ .user = "user", .path = "/etc/x" }),
			 EACCES);
	assert_int_equal(
		now(d, BRIG_FS_REMOVE, (struct drv_fs){ .user = "user", .path = "/etc/passwd" }),
		EACCES);
	assert_int_equal(
		now(d, BRIG_FS_REMOVE,
		    (struct drv_fs){ .user = "user", .path = "/etc", .flags = BRIG_FS_RECURSIVE }),
		EACCES);
	assert_int_equal(
		now(d, BRIG_FS_MOVE,
		    (struct drv_fs){ .user = "user", .path = "/etc/passwd", .path2 = "/tmp/p" }),
		EACCES);
	assert_int_equal(now(d, BRIG_FS_SYMLINK,
			     (struct drv_fs){ .user = "user", .path = "x", .path2 = "/etc/x" }),
			 EACCES);
	/* A supplementary group counts, and the agent is itself again afterwards. */
	assert_string_equal(get(d, "user", "/tmp/g"), "group\n");
	assert_int_equal(drv_read(d, 1, "other", "/tmp/g"), EACCES);
	assert_string_equal(get(d, "", "/root/secret"), "s3cret");
	assert_string_equal(
		sh(d, "grep -E '^(Uid|Gid|CapEff|Groups)' /proc/1/status | tr -s ' \\t\\n' ' '"),
		"Uid: 0 0 0 0 Gid: 0 0 0 0 Groups: CapEff: 00000000000401fb ");
}

static void stat_follows_links_unless_told_not_to(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "echo hello >/tmp/file; ln -s file /tmp/link; chown 1000:2000 /tmp/file; ln "
	      "/tmp/file /tmp/hard");
	assert_int_equal(now(d, BRIG_FS_STAT, (struct drv_fs){ .path = "/tmp/link" }), 0);
	const struct brig_fs_entry *e = drv_entry(&d->s[60], "/tmp/link");
	assert_non_null(e);
	assert_true(S_ISREG(e->mode));
	assert_int_equal(e->size, 6);
	assert_int_equal(e->nlink, 2);
	assert_int_equal(e->uid, 1000);
	/* path, target, owner, group */
	static const char strings[] = "/tmp/link\0\0user\0extra";
	assert_memory_equal(buf_head(&d->s[60].out[0]) + 4 + sizeof(*e), strings, sizeof(strings));
	assert_int_equal(now(d, BRIG_FS_STAT,
			     (struct drv_fs){ .path = "/tmp/link", .flags = BRIG_FS_NOFOLLOW }),
			 0);
	e = drv_entry(&d->s[60], "/tmp/link");
	assert_true(S_ISLNK(e->mode));
	static const char strings2[] = "/tmp/link\0file\0root\0root";
	assert_memory_equal(buf_head(&d->s[60].out[0]) + 4 + sizeof(*e), strings2,
			    sizeof(strings2));
	assert_int_equal(now(d, BRIG_FS_STAT, (struct drv_fs){ .path = "/nope" }), ENOENT);
	assert_string_equal(d->s[60].fs_text, "/nope");
}

static void mkdir_move_and_symlink_do_what_they_say(void **state)
{
	struct agent_driver *d = agent(state);
	assert_int_equal(now(d, BRIG_FS_MKDIR, (struct drv_fs){ .user = "user", .path = "d/e" }),
			 ENOENT);
	assert_int_equal(now(d, BRIG_FS_MKDIR,
			     (struct drv_fs){ .user = "user",
					      .path = "d/e/",
					      .flags = BRIG_FS_PARENTS,
					      .mode = 02770 }),
			 0);
	assert_int_equal(now(d, BRIG_FS_MKDIR, (struct drv_fs){ .user = "user", .path = "d/e" }),
			 0);
	assert_int_equal(
		now(d, BRIG_FS_MKDIR,
		    (struct drv_fs){ .user = "user", .path = "d/e", .flags = BRIG_FS_EXCL }),
		EEXIST);
	assert_string_equal(sh(d, "stat -c '%a %U' /home/user/d/e"), "2770 user\n");
	assert_int_equal(put(d, "user", "f", "text"), 0);
	assert_int_equal(now(d, BRIG_FS_MKDIR, (struct drv_fs){ .user = "user", .path = "f" }),
			 EEXIST);
	assert_int_equal(now(d, BRIG_FS_MOVE,
			     (struct drv_fs){ .user = "user", .path = "f", .path2 = "g/h" }),
			 ENOENT);
	assert_int_equal(now(d, BRIG_FS_MOVE,
			     (struct drv_fs){ .user = "user",
					      .path = "f",
					      .path2 = "g/h",
					      .flags = BRIG_FS_PARENTS }),
			 0);
	assert_string_equal(get(d, "user", "g/h"), "text");
	assert_string_equal(get(d, "user", "f"), "errno 2");
	assert_int_equal(
		now(d, BRIG_FS_SYMLINK,
		    (struct drv_fs){ .user = "user", .path = "../g/h", .path2 = "d/link" }),
		0);
	assert_string_equal(get(d, "user", "d/link"), "text");
	assert_int_equal(now(d, BRIG_FS_SYMLINK,
			     (struct drv_fs){ .user = "user", .path = "x", .path2 = "d/link" }),
			 EEXIST);
}

static void list_goes_as_deep_as_asked(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d,
	   "mkdir -p /tmp/t/a/b/c; touch /tmp/t/1 /tmp/t/a/2 /tmp/t/a/b/3; ln -s /etc /tmp/t/out;"
	   "ln -s a /tmp/t/in");
	struct drv_stream *s = &d->s[60];
	assert_int_equal(now(d, BRIG_FS_LIST, (struct drv_fs){ .path = "/tmp/t", .arg = 1 }), 0);
	assert_int_equal(s->events, 4);
	assert_true(S_ISDIR(drv_entry(s, "a")->mode));
	assert_true(S_ISLNK(drv_entry(s, "out")->mode));
	assert_int_equal(now(d, BRIG_FS_LIST, (struct drv_fs){ .path = "/tmp/t", .arg = 2 }), 0);
	assert_int_equal(s->events, 6);
	assert_non_null(drv_entry(s, "a/2"));
	assert_null(drv_entry(s, "a/b/3"));
	assert_int_equal(now(d, BRIG_FS_LIST, (struct drv_fs){ .path = "/tmp/t", .arg = 99 }), 0);
	assert_int_equal(s->events, 8); /* and nothing of /etc */
	assert_non_null(drv_entry(s, "a/b/c"));
	assert_int_equal(now(d, BRIG_FS_LIST, (struct drv_fs){ .path = "/tmp/t/1", .arg = 1 }),
			 ENOTDIR);
	assert_int_equal(now(d, BRIG_FS_LIST, (struct drv_fs){ .path = "/tmp/t", .arg = 0 }),
			 EINVAL);
}

static void list_of_a_large_tree_is_sliced_by_credit(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "mkdir /tmp/l; cd /tmp/l; seq 1500 | xargs touch");
	struct drv_stream *s = drv_fs(
		d, 1, BRIG_FS_LIST, &(struct drv_fs){ .path = "/tmp/l", .arg = 1, .credit = 5000 });
	drv_sync(d);
	/* The driver checks that no more than the credit comes. */
	assert_in_range(s->events, 10, 100);
	while (!s->done) {
		if (s->credit[2] < 200)
			drv_credit(d, 1, BRIG_CHAN_FS, 3000);
		drv_pump(d, 10);
	}
	assert_int_equal(s->events, 1500);
	/* Others are served while nobody grants. */
	drv_fs(d, 2, BRIG_FS_LIST, &(struct drv_fs){ .path = "/tmp/l", .arg = 1, .credit = 100 });
	assert_string_equal(get(d, "", "/proc/sys/kernel/ostype"), "Linux\n");
	drv_close(d, 2);
}

static void unreadable_directory_is_told_at_the_end(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "mkdir -p /tmp/u/no /tmp/u/yes; touch /tmp/u/yes/x; chmod 700 /tmp/u/no");
	assert_int_equal(
		now(d, BRIG_FS_LIST, (struct drv_fs){ .user = "user", .path = "/tmp/u", .arg = 9 }),
		EACCES);
	assert_string_equal(d->s[60].fs_text, "no");
	assert_non_null(drv_entry(&d->s[60], "yes/x"));
}

static void remove_takes_trees_and_leaves_what_links_point_at(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "mkdir -p /tmp/keep /tmp/r/a/b; touch /tmp/keep/x /tmp/r/a/b/y; ln -s /tmp/keep "
	      "/tmp/r/a/link;"
	      "mkfifo /tmp/r/fifo; ln -s /tmp/keep /tmp/top");
	assert_int_equal(now(d, BRIG_FS_REMOVE, (struct drv_fs){ .path = "/tmp/r" }), ENOTEMPTY);
	assert_int_equal(now(d, BRIG_FS_REMOVE,
			     (struct drv_fs){ .path = "/tmp/r", .flags = BRIG_FS_RECURSIVE }),
			 0);
	assert_int_equal(now(d, BRIG_FS_REMOVE,
			     (struct drv_fs){ .path = "/tmp/top", .flags = BRIG_FS_RECURSIVE }),
			 0);
	assert_string_equal(sh(d, "ls /tmp; ls /tmp/keep"), "keep\nx\n");
	assert_int_equal(now(d, BRIG_FS_REMOVE, (struct drv_fs){ .path = "/tmp/r" }), ENOENT);
	static const char *const roots[] = { "/", "/.", "//", "/tmp/..", "/tmp/." };
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
		assert_int_not_equal(
			now(d, BRIG_FS_REMOVE,
			    (struct drv_fs){ .path = roots[i], .flags = BRIG_FS_RECURSIVE }),
			0);
	assert_string_equal(sh(d, "ls /tmp"), "keep\n");
	/* Deeper than there are descriptors. */
	sh(d, "cd /tmp; for i in $(seq 1500); do mkdir d && cd -P d 2>/dev/null || exit; done; "
	      "touch leaf");
	assert_int_equal(now(d, BRIG_FS_REMOVE,
			     (struct drv_fs){ .path = "/tmp/d", .flags = BRIG_FS_RECURSIVE }),
			 0);
	assert_string_equal(sh(d, "ls /tmp"), "keep\n");
}

static void watch_events_come(struct agent_driver *d, struct drv_stream *s, uint32_t kind,
			      const char *path)
{
	uint64_t until = clock_now() + 3 * SEC_NS;
	while (!drv_event(s, kind, path)) {
		drv_pump(d, 50);
		if (clock_now() > until)
			fail_msg("no event %u for '%s'", kind, path);
	}
}

static void watch_reports_changes_by_kind(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "mkdir -p /tmp/w/sub; chmod 777 /tmp/w /tmp/w/sub");
	struct drv_stream *s =
		drv_fs(d, 1, BRIG_FS_WATCH, &(struct drv_fs){ .user = "user", .path = "/tmp/w" });
	drv_until(d, &s->done_open);
	sh(d, "cd /tmp/w; echo x >f; chmod 600 f; mv f g; rm g; touch sub/unseen");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "f");
	watch_events_come(d, s, BRIG_FS_EV_WRITE, "f");
	watch_events_come(d, s, BRIG_FS_EV_CHMOD, "f");
	watch_events_come(d, s, BRIG_FS_EV_RENAME, "f");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "g");
	watch_events_come(d, s, BRIG_FS_EV_REMOVE, "g");
	assert_false(drv_event(s, BRIG_FS_EV_CREATE, "sub/unseen"));
	sh(d, "rm -r /tmp/w");
	drv_until(d, &s->done);
	assert_int_equal(s->fs.err, 0);
	assert_int_equal(now(d, BRIG_FS_WATCH, (struct drv_fs){ .path = "/etc/passwd" }), ENOTDIR);
	assert_int_equal(now(d, BRIG_FS_WATCH, (struct drv_fs){ .path = "/nope" }), ENOENT);
}

static void recursive_watch_follows_new_directories(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "mkdir -p /tmp/w/a/b /tmp/away; ln -s /tmp/away /tmp/w/link");
	struct drv_stream *s =
		drv_fs(d, 1, BRIG_FS_WATCH,
		       &(struct drv_fs){ .path = "/tmp/w", .flags = BRIG_FS_RECURSIVE });
	drv_until(d, &s->done_open);
	sh(d, "echo >/tmp/w/a/b/1; mkdir -p /tmp/w/n/m/o; echo >/tmp/w/n/m/o/2; touch "
	      "/tmp/away/unseen");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "a/b/1");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "n");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "n/m");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "n/m/o/2");
	/* A directory that was moved out is not followed; one that was moved in is. */
	sh(d, "mv /tmp/w/a /tmp/away/a; echo >/tmp/away/a/b/gone; mv /tmp/away/a /tmp/w/back; "
	      "touch /tmp/w/back/b/3");
	watch_events_come(d, s, BRIG_FS_EV_RENAME, "a");
	watch_events_come(d, s, BRIG_FS_EV_CREATE, "back/b/3");
	assert_false(drv_event(s, BRIG_FS_EV_CREATE, "a/b/gone"));
	assert_false(drv_event(s, BRIG_FS_EV_CREATE, "link/unseen"));
	drv_close(d, 1);
	drv_sync(d);
}

static void watch_says_that_events_were_lost(void **state)
{
	struct agent_driver *d = agent(state);
	sh(d, "mkdir /tmp/w");
	struct drv_stream *s =
		drv_fs(d, 1, BRIG_FS_WATCH,
		       &(struct drv_fs){
			       .path = "/tmp/w", .flags = BRIG_FS_RECURSIVE, .no_credit = true });
	drv_until(d, &s->done_open);
	/* More than the kernel's queue (max_queued_events) holds while nobody grants. */
	sh(d, "cd /tmp/w; n=$(($(cat /proc/sys/fs/inotify/max_queued_events)/2+200));"
	      "python3 -c \"import os\nfor i in range($n): os.mkdir('d'); os.rmdir('d')\"");
	assert_int_equal(s->events, 0);
	s->regrant = true;
	drv_credit(d, 1, BRIG_CHAN_FS, MIB);
	watch_events_come(d, s, BRIG_FS_EV_OVERFLOW, "");
	/* And more directories than are watched. */
	drv_close(d, 1);
	sh(d, "cd /tmp/w; seq 1100 | xargs mkdir");
	s = drv_fs(d, 2, BRIG_FS_WATCH,
		   &(struct drv_fs){ .path = "/tmp/w", .flags = BRIG_FS_RECURSIVE });
	watch_events_come(d, s, BRIG_FS_EV_OVERFLOW, "");
}

static void write_that_fails_ends_only_its_stream(void **state)
{
	static uint8_t data[MIB];
	struct agent_driver *d = agent(state);
	sh(d, "dd if=/dev/zero of=/tmp/fill bs=1M 2>/dev/null; truncate -s -100k /tmp/fill");
	assert_int_equal(drv_write(d, 1, "", "/tmp/f", 0, 0, data, sizeof(data)), ENOSPC);
	/* What was still under way for it is dropped. */
	drv_send(d, BRIG_FS_DATA, 0, 1, data, 1000);
	sh(d, "rm /tmp/fill");
	assert_int_equal(drv_write(d, 1, "", "/tmp/f", 0, 0, data, sizeof(data)), 0);
}

static void malformed_requests_are_answered(void **state)
{
	struct agent_driver *d = agent(state);
	assert_int_equal(now(d, BRIG_FS_STAT, (struct drv_fs){ .path = "/", .flags = 0x800 }),
			 EINVAL);
	assert_int_equal(now(d, BRIG_FS_STAT, (struct drv_fs){ .path = "/", .path2 = "/" }),
			 EINVAL);
	assert_int_equal(now(d, BRIG_FS_MOVE, (struct drv_fs){ .path = "/" }), EINVAL);
	assert_int_equal(now(d, BRIG_FS_MKDIR, (struct drv_fs){ .path = "/x", .mode = 0100644 }),
			 EINVAL);
	assert_int_equal(now(d, BRIG_FS_STAT, (struct drv_fs){ .path = "" }), ENOENT);
	assert_int_equal(
		now(d, BRIG_FS_STAT, (struct drv_fs){ .path = "/", .user = "nobody-here" }),
		EINVAL);
	char *deep = malloc(6000);
	memset(deep, '/', 5999);
	deep[5999] = '\0';
	assert_int_equal(now(d, BRIG_FS_STAT, (struct drv_fs){ .path = deep }), ENAMETOOLONG);
	free(deep);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, boxed, unboxed)
	const struct CMUnitTest tests[] = {
		TEST(write_and_read_move_the_same_bytes),
		TEST(empty_file_and_offset_beyond_the_end_read_as_nothing),
		TEST(pieces_that_come_together_are_written_as_their_own_users),
		TEST(read_stays_within_its_credit),
		TEST(write_modes_append_excl_and_parents),
		TEST(only_regular_files_are_opened),
		TEST(user_sees_and_changes_only_what_is_theirs),
		TEST(stat_follows_links_unless_told_not_to),
		TEST(mkdir_move_and_symlink_do_what_they_say),
		TEST(list_goes_as_deep_as_asked),
		TEST(list_of_a_large_tree_is_sliced_by_credit),
		TEST(unreadable_directory_is_told_at_the_end),
		TEST(remove_takes_trees_and_leaves_what_links_point_at),
		TEST(watch_reports_changes_by_kind),
		TEST(recursive_watch_follows_new_directories),
		TEST(watch_says_that_events_were_lost),
		TEST(write_that_fails_ends_only_its_stream),
		TEST(malformed_requests_are_answered),
	};
	drv_can_box(&no_box);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
