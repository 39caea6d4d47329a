/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The file is written in place, renamed over, or a link to one elsewhere (/run/systemd/resolve/..) that is.
 * So its folder is watched, and that of what it leads to, and whatever happens there has it read again: what
 * counts is whether the text is another. A change of /etc is rare enough for that.
 */
#include "cli/resolvwatch.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define FILE_NAME "/etc/resolv.conf"
#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE)

static size_t text_read(char ret[RESOLV_TEXT_MAX])
{
	ssize_t n = fd_slurp_at(AT_FDCWD, FILE_NAME, ret, RESOLV_TEXT_MAX);
	return n > 0 ? (size_t)n : 0;
}

/* Also after a change: a link may lead elsewhere. That a folder is watched already is no error. */
static void watch(struct resolvwatch *w)
{
	char path[PATH_MAX], *slash;
	(void)inotify_add_watch(w->inotify, "/etc", EVENTS);
	if (!realpath(FILE_NAME, path) || !(slash = strrchr(path, '/')) || slash == path)
		return;
	*slash = '\0';
	(void)inotify_add_watch(w->inotify, path, EVENTS);
}

int resolvwatch_open(struct resolvwatch *w, int *ret)
{
	int pair[2];
	resolvwatch_close(w);
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->inotify < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		resolvwatch_close(w);
		return -1;
	}
	watch(w);
	w->n = text_read(w->text);
	w->to = pair[0];
	*ret = pair[1];
	return 0;
}

void resolvwatch_work(struct resolvwatch *w)
{
	_Alignas(struct inotify_event) char events[4096];
	char text[RESOLV_TEXT_MAX];
	while (read(w->inotify, events, sizeof(events)) > 0)
		continue;
	watch(w);
	size_t n = text_read(text);
	/* In the midst of a change there is none: the next event tells. */
	if (n == 0 || (n == w->n && memcmp(text, w->text, n) == 0))
		return;
	/* One that does not read it has died: the next one reads the file. */
	(void)fd_send(w->to, text, n, NULL, 0);
	memcpy(w->text, text, n);
	w->n = n;
}

void resolvwatch_close(struct resolvwatch *w)
{
	fd_close(&w->inotify);
	fd_close(&w->to);
}
