# SPDX-License-Identifier: Apache-2.0
"""kernel_bash.py: a bash whose variables, functions and folder stay from one execution to the next.

Theory of operation
-------------------
One bash runs as long as the kernel. It reads two lines from its standard input per execution: the
first takes the code from descriptor 63 (ended by NUL) and evaluates it with /dev/null as input, the
second writes the exit status to descriptor 62. It is interactive (-i) without terminal, prompt or
history, for one reason: an interactive bash that gets SIGINT drops what it evaluates and reads the
next line, instead of ending.

An exit status other than 0 is told as an error named ExitCode, whose value is the status. `exit`
ends that bash; the next execution gets a fresh one.
"""
import os
import select
import subprocess
import time

EVAL = (b"IFS= read -r -d '' -u 63 __brig_code; eval \"$__brig_code\" </dev/null\n"
        b"printf '%s\\0' \"$?\" >&62\n")
SETUP = (b"PS1= PS2=; set +H +m +o history; unset HISTFILE MAILCHECK PROMPT_COMMAND\n"
         b"exec 2>&61 61>&-\n")


class BashKernel:
    def __init__(self, wire):
        self.wire = wire
        self.count = 0
        self.bash = None

    def start(self):
        code_r, self.code_w = os.pipe()
        self.status_r, status_w = os.pipe()
        os.dup2(code_r, 63, inheritable=True)
        os.dup2(status_w, 62, inheritable=True)
        os.dup2(2, 61, inheritable=True)
        # What an interactive start says about the missing terminal is not the user's output.
        self.bash = subprocess.Popen(
            ["bash", "-c", "exec bash --norc --noprofile --noediting -i 2>/dev/null"], stdin=subprocess.PIPE,
            pass_fds=(61, 62, 63), bufsize=0)
        for fd in (code_r, status_w, 61, 62, 63):
            os.close(fd)
        self.bash.stdin.write(SETUP)

    def stop(self):
        if self.bash:
            self.bash.stdin.close()
            os.close(self.code_w)
            os.close(self.status_r)
            self.bash.kill()
            self.bash.wait()
        self.bash = None

    def env(self, env):
        if self.bash:
            self.stop()

    def warm(self, idle):
        if not self.bash:
            self.start()
        self.wire.send("warm")

    def execute(self, code, env):
        wire = self.wire
        self.count += 1
        wire.send("count", execution_count=self.count)
        if not self.bash or self.bash.poll() is not None:
            self.stop()
            self.start()
        try:
            wire.running = True
            status = self.evaluate(code, env)
        except KeyboardInterrupt:
            status = self.wait()
            if status in ("", "0"):
                status = "130"
        wire.running = False
        wire.settle()
        if status == "":
            self.bash.wait()
            code = self.bash.returncode
            self.stop()
            status = str(code if code >= 0 else 128 - code)
            if status != "0":
                wire.send("error", name="ExitCode", value=status,
                          traceback="bash ended with status %s; its variables are gone" % status)
        elif status == "130":
            wire.send("error", name="KeyboardInterrupt", value="", traceback="interrupted")
        elif status != "0":
            wire.send("error", name="ExitCode", value=status, traceback="exit status " + status)

    def evaluate(self, code, env):
        lines = []
        for name, value in env.items():
            # Set for this execution only; what was there before comes back behind it.
            lines.append("export %s=%s" % (name, quote(value)))
        before = "".join(
            "if [ -n \"${%s+x}\" ]; then __brig_old_%s=$%s; fi; " % (n, n, n) for n in env)
        after = "".join(
            "if [ -n \"${__brig_old_%s+x}\" ]; then export %s=$__brig_old_%s; "
            "unset __brig_old_%s; else unset %s; fi; " % (n, n, n, n, n) for n in env)
        self.bash.stdin.write((before + "; ".join(lines) + "\n" if env else "\n").encode())
        self.bash.stdin.write(EVAL)
        if env:
            self.bash.stdin.write((after + "\n").encode())
        data = memoryview(code.replace("\0", "").encode("utf-8", "replace") + b"\0")
        os.set_blocking(self.code_w, False)
        while data:
            ready = select.select([self.status_r], [self.code_w], [])
            if ready[0]:
                break
            data = data[os.write(self.code_w, data):]
        return self.wait()

    def wait(self):
        """The status that bash reports; "" when it has ended."""
        status = b""
        while not status.endswith(b"\0"):
            # What bash left running may hold the pipe's other end: its end alone tells nothing.
            if not select.select([self.status_r], [], [], 0.1)[0]:
                if self.bash.poll() is not None:
                    return ""
                continue
            piece = os.read(self.status_r, 16)
            if not piece:
                return ""
            status += piece
        return status[:-1].decode("ascii", "replace")


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def kernel_main(rx):
    wire = Wire(rx)  # noqa: F821 (kernel_io.py stands before this file)
    wire.serve(BashKernel(wire))
