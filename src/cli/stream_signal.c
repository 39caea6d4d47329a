/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Signals. With a terminal, keys travel as bytes and the PTY inside makes signals of them. Without
 * one, what brig gets is sent on. A second SIGINT within a second kills the command, a third makes
 * brig give up at once. A signal that was ignored when brig started (nohup) stays ignored.
 */
#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/stream_state.h"

static int send_size(struct stream *s)
{
	uint16_t m[2];
	tty_size(s->o->stdin_fd, &m[0], &m[1]);
	return s->phase == RUNNING ? stream_send(s, BRIG_RESIZE, m, sizeof(m)) : 0;
}

/* Stopped from outside (keys cannot, they go to the command): give the terminal back meanwhile. */
static int stop_self(struct stream *s)
{
	tty_restore(&s->tty);
	kill(getpid(), SIGSTOP);
	if (s->phase == RUNNING)
		(void)tty_raw(&s->tty);
	return send_size(s);
}

static int on_interrupt(struct stream *s)
{
	uint64_t now = clock_now();
	bool again = s->last_int && now - s->last_int < SEC_NS;
	s->last_int = now;
	if (s->closing) {
		s->res->signal = SIGINT;
		return 0;
	}
	return again ? stream_close(s) : 0;
}

int stream_on_signal(struct stream *s)
{
	struct signalfd_siginfo si;
	if (read(s->sigfd, &si, sizeof(si)) != sizeof(si))
		return 0;
	int sig = (int)si.ssi_signo;
	uint32_t m = si.ssi_signo;
	if (sig == SIGWINCH)
		return send_size(s);
	if (sig == SIGTSTP)
		return stop_self(s);
	/* Before the command runs, or after it ended, there is nobody else to hear it. */
	if (s->phase != RUNNING) {
		s->res->signal = sig;
		return 0;
	}
	if (sig == SIGINT && !s->o->tty) {
		if (on_interrupt(s) < 0)
			return -1;
		if (s->closing)
			return 0;
	}
	return s->closing ? 0 : stream_send(s, BRIG_SIGNAL, &m, sizeof(m));
}

int stream_signals_open(struct stream *s)
{
	static const int forwarded[] = {
		SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM
	};
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(&set, forwarded[i]);
	if (s->o->tty) {
		sigaddset(&set, SIGWINCH);
		sigaddset(&set, SIGTSTP);
	}
	s->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->sigfd < 0 || sigprocmask(SIG_BLOCK, &set, &s->old_mask) < 0)
		return brig_fail(s->err, BRIG_E_EXHAUSTED, errno, "prepare for signals");
	return 0;
}
