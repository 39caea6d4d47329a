/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The order of the rules is the order of certainty. What brigd did itself comes first: it knows why
 * it killed. Then what the kernel counted: an out-of-memory kill is an increase of the sandbox's
 * own counter together with a main process that died of SIGKILL (or a shell that reports 137 for
 * its child), so a command that merely exits 137, or is killed by its own parent, is told apart.
 * What the agent reports comes last; it runs beside the tenant and may lie about exit codes, but
 * not about limits, because none of the evidence for a limit comes from it. (A microVM's memory is limited by
 * its size: that its own kernel killed for it is known to that kernel only, and told by the agent, which an
 * ordinary user inside cannot forge.)
 */
#include "daemon/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "brig/client_proto.h"

static const char *const reason_names[] = {
#define X(name, text) [STOP_##name] = text,
	STOP_REASONS(X)
#undef X
};
_Static_assert(sizeof(reason_names) / sizeof(reason_names[0]) == STOP__N_REASONS, "one name each");

static const char *const hit_names[] = {
#define X(name, text) [HIT_BIT_##name] = text,
	STOP_HITS(X)
#undef X
};
_Static_assert(sizeof(hit_names) / sizeof(hit_names[0]) == HIT__N, "one name each");

const char *stop_reason_name(enum stop_reason r)
{
	return (unsigned)r < STOP__N_REASONS ? reason_names[r] : "host_fault";
}

/* Not of every libc. */
static const char *abbreviation(int sig)
{
	static const char *const names[] = {
#define X(name) [SIG##name] = #name,
		X(HUP) X(INT) X(QUIT) X(ILL) X(TRAP) X(ABRT) X(BUS) X(FPE) X(KILL) X(USR1) X(SEGV)
		X(USR2) X(PIPE) X(ALRM) X(TERM) X(STKFLT) X(CHLD) X(CONT) X(STOP) X(TSTP) X(TTIN)
		X(TTOU) X(URG) X(XCPU) X(XFSZ) X(VTALRM) X(PROF) X(WINCH) X(POLL) X(PWR) X(SYS)
#undef X
	};
	return sig > 0 && (size_t)sig < sizeof(names) / sizeof(names[0]) ? names[sig] : NULL;
}

void signal_name(int sig, char ret[16])
{
	const char *abbrev = abbreviation(sig);
	if (abbrev)
		snprintf(ret, 16, "SIG%.11s", abbrev);
	else
		snprintf(ret, 16, "SIG%d", sig % 1000);
}

int signal_parse(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);
	if (end != text && *end == '\0')
		return n >= 1 && n <= 64 ? (int)n : 0;
	if (strncmp(text, "SIG", 3) == 0)
		text += 3;
	for (int i = 1; i < 32; i++) {
		const char *abbrev = abbreviation(i);
		if (abbrev && strcmp(abbrev, text) == 0)
			return i;
	}
	return 0;
}

static uint64_t since(uint64_t after, uint64_t before)
{
	return after > before ? after - before : 0;
}

static uint64_t oom_kills(const struct stop_facts *f)
{
	if (f->guest && f->end == ENDED_EXIT && (f->exit.flags & BRIG_EXIT_OOM))
		return 1;
	if (!(f->after.valid & f->before.valid & JAIL_STAT_MEMORY))
		return 0;
	return since(f->after.oom_kills, f->before.oom_kills);
}

static bool cpu_known(const struct stop_facts *f)
{
	return f->after.valid & f->before.valid & JAIL_STAT_CPU;
}

static unsigned hits_of(const struct stop_facts *f)
{
	unsigned hits = 0;
	if (oom_kills(f))
		hits |= HIT_MEMORY;
	if ((f->after.valid & f->before.valid & JAIL_STAT_PIDS) &&
	    f->after.pids_limit_hits > f->before.pids_limit_hits)
		hits |= HIT_PIDS;
	if (f->end == ENDED_EXIT) {
		hits |= f->exit.flags & BRIG_EXIT_DISK_FULL ? HIT_DISK : 0;
		hits |= f->exit.flags & BRIG_EXIT_INODES_FULL ? HIT_INODES : 0;
		hits |= f->exit.flags & BRIG_EXIT_NOFILE ? HIT_NOFILE : 0;
	}
	hits |= f->cause == CAUSE_OUTPUT ? HIT_OUTPUT : 0;
	hits |= f->cause == CAUSE_EGRESS || f->denied ? HIT_EGRESS : 0;
	hits |= f->cause == CAUSE_WALL ? HIT_WALL : 0;
	/* cpu_time counts the whole sandbox, so the figure itself is compared and not its growth.
	 */
	if (f->cause == CAUSE_CPU || (f->cpu_time_ms != LIMIT_NONE && cpu_known(f) &&
				      f->after.cpu_us / 1000 >= f->cpu_time_ms))
		hits |= HIT_CPU;
	return hits;
}

static void verdict_set(struct stop_verdict *v, enum stop_reason reason, int exit_code, int sig)
{
	v->reason = reason;
	v->exit_code = exit_code;
	v->signal = sig;
}

static void decide_exit(const struct stop_facts *f, struct stop_verdict *v)
{
	if (!(f->exit.flags & BRIG_EXIT_SIGNALED)) {
		int code = (int)(f->exit.code & 0xff);
		bool oom = oom_kills(f) && code == BRIG_EXIT_SIGNAL_BASE + SIGKILL;
		verdict_set(v, oom ? STOP_OUT_OF_MEMORY : STOP_EXITED, code, 0);
		return;
	}
	int sig = (int)(f->exit.code & 0x7f);
	enum stop_reason reason = STOP_SIGNALED;
	if (f->signal_sent == sig)
		reason = STOP_KILLED;
	else if (sig == SIGKILL && oom_kills(f))
		reason = STOP_OUT_OF_MEMORY;
	else if (sig == SIGSYS)
		reason = STOP_SYSCALL_DENIED;
	verdict_set(v, reason, BRIG_EXIT_SIGNAL_BASE + sig, sig);
}

static int not_started_code(const struct brig_started *s)
{
	if (s->step != BRIG_STEP_EXEC)
		return BRIG_EXIT_FAILED;
	return s->err == ENOENT ? BRIG_EXIT_NOT_FOUND : BRIG_EXIT_NOT_EXECUTABLE;
}

void stop_decide(const struct stop_facts *f, struct stop_verdict *ret)
{
	struct stop_verdict v = { .hits = hits_of(f), .truncated = f->cause == CAUSE_OUTPUT };
	const int killed = BRIG_EXIT_SIGNAL_BASE + SIGKILL;
	switch (f->cause) {
	case CAUSE_WALL:
		verdict_set(&v, STOP_WALL_TIME, BRIG_EXIT_TIMEOUT, SIGKILL);
		break;
	case CAUSE_CPU:
		verdict_set(&v, STOP_CPU_TIME, killed, SIGKILL);
		break;
	case CAUSE_OUTPUT:
		verdict_set(&v, STOP_OUTPUT, killed, SIGKILL);
		break;
	case CAUSE_EGRESS:
		verdict_set(&v, STOP_EGRESS_DENIED, killed, SIGKILL);
		break;
	case CAUSE_KILL:
	case CAUSE_CLIENT:
	case CAUSE_SHUTDOWN:
		verdict_set(&v, STOP_KILLED, killed, SIGKILL);
		break;
	case CAUSE_FAULT:
		verdict_set(&v, STOP_HOST_FAULT, BRIG_EXIT_FAILED, 0);
		break;
	case CAUSE_NONE:
		if (f->end == ENDED_EXIT)
			decide_exit(f, &v);
		else if (f->end == ENDED_NOT_STARTED)
			verdict_set(&v, STOP_EXITED, not_started_code(&f->started), 0);
		else if (oom_kills(f))
			verdict_set(&v, STOP_OUT_OF_MEMORY, killed, SIGKILL);
		else
			verdict_set(&v, STOP_HOST_FAULT, BRIG_EXIT_FAILED, 0);
		break;
	}
	*ret = v;
}

static json_t *num(uint64_t v)
{
	return v > INT64_MAX ? json_null() : json_integer((json_int_t)v);
}

static json_t *evidence_json(const struct stop_facts *f, const struct stop_verdict *v)
{
	char sig[16];
	signal_name(v->signal, sig);
	switch (v->reason) {
	case STOP_EXITED:
		if (f->end == ENDED_NOT_STARTED)
			return json_pack("{s:i,s:s}", "errno", (int)f->started.err, "step",
					 f->started.step == BRIG_STEP_EXEC ? "exec" : "start");
		return json_pack("{s:i}", "exit_code", v->exit_code);
	case STOP_WALL_TIME:
		return json_pack("{s:o,s:o}", "limit_ms", num(f->timeout_ms), "elapsed_ms",
				 num(f->run_ns / MS_NS));
	case STOP_CPU_TIME:
		return json_pack("{s:o,s:o}", "limit_ms", num(f->cpu_time_ms), "cpu_ms",
				 num(f->after.cpu_us / 1000));
	case STOP_OUT_OF_MEMORY:
		return json_pack("{s:o,s:o,s:o}", "oom_kills", num(oom_kills(f)),
				 "memory_limit_bytes", num(f->after.memory_limit_bytes),
				 "memory_peak_bytes", num(f->after.memory_peak_bytes));
	case STOP_OUTPUT:
		return json_pack("{s:o,s:o,s:o}", "max_output_bytes", num(f->max_output_bytes),
				 "stdout_bytes", num(f->out_bytes[0]), "stderr_bytes",
				 num(f->out_bytes[1]));
	case STOP_SYSCALL_DENIED:
		return json_pack("{s:s,s:s}", "signal", sig, "filter", "seccomp");
	case STOP_EGRESS_DENIED:
		if (!f->over)
			break;
		return json_pack("{s:s,s:s,s:o,s:o}", "budget", f->over->amount, "of", f->over->scope, "limit",
				 num(f->over->figure), "destination",
				 f->over->name[0] ? json_string(f->over->name) : json_null());
	case STOP_KILLED:
		return json_pack("{s:s,s:s}", "signal", sig, "by",
				 f->cause == CAUSE_CLIENT     ? "client_gone"
				 : f->cause == CAUSE_SHUTDOWN ? "shutdown"
							      : "request");
	case STOP_SIGNALED:
		return json_pack("{s:s,s:b}", "signal", sig, "core",
				 (f->exit.flags & BRIG_EXIT_CORE) != 0);
	case STOP_HOST_FAULT:
	case STOP__N_REASONS:
		break;
	}
	return json_pack("{s:s}", "fault", f->fault ? f->fault : "the sandbox ended by itself");
}

static json_t *usage_json(const struct stop_facts *f)
{
	bool exited = f->end == ENDED_EXIT;
	json_t *cpu, *mem, *pids, *io;
	if (cpu_known(f))
		cpu = num(since(f->after.cpu_us, f->before.cpu_us) / 1000);
	else
		cpu = exited ? num(f->exit.utime_us / 1000 + f->exit.stime_us / 1000) : json_null();
	if (f->after.valid & JAIL_STAT_MEMORY)
		mem = num(f->after.memory_peak_bytes);
	else
		mem = exited ? num(f->exit.maxrss_bytes) : json_null();
	pids = f->after.valid & JAIL_STAT_PIDS ? num(f->after.pids_peak) : json_null();
	io = f->after.valid & f->before.valid & JAIL_STAT_IO
		     ? num(since(f->after.io_bytes, f->before.io_bytes))
		     : json_null();
	return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "wall_ms", num(f->wall_ns / MS_NS),
			 "cpu_ms", cpu, "memory_peak_bytes", mem, "pids_peak", pids, "stdout_bytes",
			 num(f->out_bytes[0]), "stderr_bytes", num(f->out_bytes[1]), "io_bytes",
			 io);
}

/* A message may quote bytes that are not UTF-8, or be cut inside of a character. */
static json_t *text_json(const char *text)
{
	json_t *s = json_string(text);
	if (s)
		return s;
	char plain[sizeof(((struct brig_err *)0)->msg)];
	size_t n = 0;
	for (; text[n] && n + 1 < sizeof(plain); n++)
		plain[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	plain[n] = '\0';
	return json_string(plain);
}

json_t *err_json(const struct brig_err *err)
{
	return json_pack("{s:s,s:o,s:o,s:o,s:{},s:b}", "code", brig_code_name(err->code), "message",
			 text_json(err->msg), "cause",
			 err->sys ? json_string(strerror(err->sys)) : json_null(), "remediation",
			 err->remedy[0] ? text_json(err->remedy) : json_null(), "details",
			 "retryable", brig_code_retryable(err->code));
}

/* For a client that has words of its own for each (details.step). */
static const char *step_name(uint32_t step)
{
	switch (step) {
	case BRIG_STEP_USER:
		return "user";
	case BRIG_STEP_CWD:
		return "cwd";
	case BRIG_STEP_SPAWN:
		return "spawn";
	case BRIG_STEP_EXEC:
		return "exec";
	default:
		return "request";
	}
}

static void start_error(const struct stop_facts *f, struct brig_err *err)
{
	const struct brig_started *s = &f->started;
	const char *argv0 = f->argv0 ? f->argv0 : "";
	int sys = s->err > 0 && s->err < 4096 ? s->err : EIO;
	switch (s->step) {
	case BRIG_STEP_EXEC:
		brig_err_set(err, sys == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, sys,
			     "execute '%.128s'", argv0);
		if (sys == ENOENT)
			brig_err_remedy(err, "check the name, the PATH and that the image has it");
		break;
	case BRIG_STEP_USER:
		brig_err_set(err, BRIG_E_NOT_FOUND, sys, "the image has no such user or group");
		brig_err_remedy(err, "give --user a name of the image's /etc/passwd, or UID:GID");
		break;
	case BRIG_STEP_CWD:
		brig_err_set(err, BRIG_E_NOT_FOUND, sys, "change to the working directory");
		brig_err_remedy(err, "check --workdir");
		break;
	case BRIG_STEP_SPAWN:
		brig_err_set(err, BRIG_E_EXHAUSTED, sys, "start a process in the sandbox");
		brig_err_remedy(err, "raise --pids or --memory");
		break;
	default:
		brig_err_set(err, BRIG_E_PROTOCOL, sys, "the agent refused the command");
		break;
	}
}

json_t *stop_status(const char *id, const char *tier, const struct stop_facts *f,
		    const struct stop_verdict *v)
{
	json_t *hits = json_array();
	for (unsigned i = 0; i < HIT__N; i++)
		if (v->hits & 1u << i)
			json_array_append_new(hits, json_string(hit_names[i]));
	char sig[16];
	signal_name(v->signal, sig);
	json_t *o = json_pack("{s:s,s:s,s:i,s:o,s:s,s:o,s:o,s:o,s:b}", "id", id, "tier",
			      tier, "exit_code", v->exit_code, "signal",
			      v->signal ? json_string(sig) : json_null(), "stop_reason",
			      stop_reason_name(v->reason), "evidence", evidence_json(f, v), "usage",
			      usage_json(f), "limits_hit", hits, "truncated", v->truncated);
	if (!o)
		return NULL;
	if (json_array_size(f->denials))
		json_object_set(o, "denials", f->denials);
	struct brig_err err = BRIG_ERR_INIT;
	if (v->reason == STOP_HOST_FAULT) {
		brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "sandbox '%s' failed: %s", id,
			     f->fault ? f->fault : "it ended by itself");
		brig_err_remedy(&err, "run it again; if it persists, see the log of brigd");
	} else if (f->end == ENDED_NOT_STARTED && v->reason == STOP_EXITED) {
		start_error(f, &err);
	}
	if (err.code != BRIG_E_OK) {
		json_t *error = err_json(&err);
		if (f->end == ENDED_NOT_STARTED)
			json_object_set_new(json_object_get(error, "details"), "step",
					    json_string(step_name(f->started.step)));
		json_object_set_new(o, "error", error);
	}
	return o;
}
