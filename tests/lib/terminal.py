# SPDX-License-Identifier: Apache-2.0
"""A terminal with a program in it, driven like a person would: type, look, resize."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time


class Terminal:
    """The program is the leader of a session whose controlling terminal is a new PTY."""

    def __init__(self, argv, env, rows=24, cols=80):
        self.output = b""
        self.status = None
        ready_r, ready_w = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.read(ready_r, 1)  # the size is set before the program can ask for it
                os.closerange(3, 256)
                os.execve(argv[0], argv, env)
            finally:
                os._exit(127)
        os.close(ready_r)
        os.set_inheritable(self.fd, False)
        self.resize(rows, cols)
        os.write(ready_w, b"x")
        os.close(ready_w)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def modes(self):
        """Settings of the terminal, as the shell would find them again."""
        return termios.tcgetattr(self.fd)

    def type(self, text):
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def _more(self, end):
        ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
        if not ready:
            return None
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        self.output += data
        return data

    def expect(self, pattern, timeout=20):
        """Waits for a regular expression in what came since the last match; returns the match."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(pattern.encode(), self.output)
            if found:
                self.output = self.output[found.end():]
                return found
            data = self._more(end)
            if data is None or data == b"":
                why = "the time is up" if data is None else "the terminal is closed"
                raise AssertionError(f"no {pattern!r}: {why}; there is {self.output[-2000:]!r}")

    def rest(self, timeout=20):
        """Everything until the end."""
        end = time.monotonic() + timeout
        while self._more(end):
            pass
        return self.output

    def wait(self, timeout=20):
        """The exit code, 128 + n for a signal."""
        end = time.monotonic() + timeout
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                break
            if time.monotonic() > end:
                raise AssertionError(f"it still runs; there is {self.output[-2000:]!r}")
            # A program that fills the terminal would never end if nobody looked.
            self._more(time.monotonic() + 0.02)
        if os.WIFSIGNALED(self.status):
            return 128 + os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status)

    def close(self):
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                _, self.status = os.waitpid(self.pid, 0)
            except ProcessLookupError:
                pass
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
