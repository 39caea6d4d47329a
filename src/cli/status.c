/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "brig/client_proto.h"

int status_exit_code(const json_t *status)
{
	const json_t *v = json_object_get(status, "exit_code");
	json_int_t n = json_integer_value(v);
	return json_is_integer(v) && n >= 0 && n <= 255 ? (int)n : -1;
}

/* Figures come from the server as JSON numbers; what is missing or negative is not said. */
static int evidence(const json_t *status, const char *key, uint64_t *ret)
{
	const json_t *v = json_object_get(json_object_get(status, "evidence"), key);
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return 0;
	*ret = (uint64_t)json_integer_value(v);
	return 1;
}

static void limit_text(const json_t *status, const char *key, void (*format)(uint64_t, char *),
		       char ret[SIZE_TEXT_MAX])
{
	uint64_t v;
	ret[0] = '\0';
	if (!evidence(status, key, &v))
		return;
	ret[0] = ' ';
	char text[SIZE_TEXT_MAX];
	format(v, text);
	snprintf(ret + 1, SIZE_TEXT_MAX - 1, "%.*s", SIZE_TEXT_MAX - 2, text);
}

int status_reason(const json_t *status, char *ret, size_t cap)
{
	static const struct {
		const char *reason, *text, *key;
		void (*format)(uint64_t, char *);
	} limits[] = {
		{ "wall_time", "wall time limit%s met", "limit_ms", size_format_ms },
		{ "cpu_time", "CPU time limit%s met", "limit_ms", size_format_ms },
		{ "out_of_memory", "memory limit%s met", "memory_limit_bytes", size_format_exact },
		{ "output", "output limit%s met", "max_output_bytes", size_format_exact },
		{ "syscall_denied", "a forbidden system call", NULL, NULL },
		{ "egress_denied", "a budget of its network is used up", NULL, NULL },
		{ "host_fault", "the sandbox failed", NULL, NULL },
	};
	const char *reason = json_string_value(json_object_get(status, "stop_reason"));
	for (size_t i = 0; reason && i < sizeof(limits) / sizeof(limits[0]); i++) {
		char text[SIZE_TEXT_MAX] = "";
		if (strcmp(limits[i].reason, reason) != 0)
			continue;
		if (limits[i].key)
			limit_text(status, limits[i].key, limits[i].format, text);
		const char *mark = strstr(limits[i].text, "%s");
		int head = mark ? (int)(mark - limits[i].text) : (int)strlen(limits[i].text);
		snprintf(ret, cap, "%.*s%s%s (%s)", head, limits[i].text, text,
			 mark ? mark + 2 : "", reason);
		return 1;
	}
	const char *by =
		json_string_value(json_object_get(json_object_get(status, "evidence"), "by"));
	if (reason && strcmp(reason, "killed") == 0 && by && strcmp(by, "shutdown") == 0) {
		snprintf(ret, cap, "the server shut down (killed)");
		return 1;
	}
	return 0;
}

int status_limits_hit(const json_t *status, char *ret, size_t cap)
{
	const json_t *hits = json_object_get(status, "limits_hit"), *v;
	size_t i, at = 0;
	ret[0] = '\0';
	json_array_foreach((json_t *)(uintptr_t)hits, i, v)
	{
		const char *name = json_string_value(v);
		int n = snprintf(ret + at, cap - at, "%s%.40s", at ? ", " : "", name ? name : "?");
		if (n < 0 || (size_t)n >= cap - at)
			break;
		at += (size_t)n;
	}
	return at != 0;
}

int status_sink_open(const char *where, int *ret_fd, struct brig_err *err)
{
	size_t n = strspn(where, "0123456789");
	if (n && n < 8 && !where[n]) {
		int fd = atoi(where);
		int flags = fcntl(fd, F_GETFL);
		if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
			brig_err_set(err, BRIG_E_NOT_FOUND, flags < 0 ? errno : EBADF,
				     "--status-json: descriptor %d cannot be written", fd);
			return brig_fix(
				err,
				"open it in the shell (%d>file), or write ./%d for a file of "
				"that name",
				fd, fd);
		}
		*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	} else {
		*ret_fd = open(where, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	}
	if (*ret_fd < 0) {
		brig_err_set(err, BRIG_E_DENIED, errno, "open --status-json '%.256s'", where);
		return brig_fix(err, "name a file in a folder that you may write to");
	}
	return 0;
}

int status_sink_write(int fd, const json_t *status, struct brig_err *err)
{
	AUTO_FREE char *text = json_dumps(status, JSON_COMPACT);
	if (!text)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "write --status-json");
	int r = fd_write_full(fd, text, strlen(text));
	if (r == 0)
		r = fd_write_full(fd, "\n", 1);
	return r == 0 ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, -r, "write --status-json");
}

json_t *status_of_failure(const json_t *error)
{
	return json_pack("{s:n,s:n,s:i,s:n,s:s,s:{},s:n,s:[],s:b,s:O}", "id", "tier", "exit_code",
			 BRIG_EXIT_FAILED, "signal", "stop_reason", "host_fault", "evidence",
			 "usage", "limits_hit", "truncated", 0, "error",
			 (json_t *)(uintptr_t)error);
}
