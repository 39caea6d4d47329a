# SPDX-License-Identifier: Apache-2.0
"""With a terminal on both ends the command gets one of its own: size, keys, signals, and the caller's
terminal back as it was."""

import os
import signal
import subprocess

import brigtest
from brigtest import PrivateCase, ResidentCase
from terminal import Terminal


JOB = """import os, signal
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"again%d " % 2))
os.write(1, b"job%d " % 2)
[signal.pause() for _ in range(9)]"""


class TerminalCases:
    def terminal(self, *args, rows=24, cols=80, verb=("run", "--image", "host"), **env):
        full = {**self.brig.env, "TERM": "xterm", **env}
        t = Terminal([self.brig.program, *verb, *map(str, args)], full, rows, cols)
        self.addCleanup(t.close)
        return t

    def test_the_command_has_a_terminal_of_the_same_size(self):
        t = self.terminal("--", "sh", "-c", "tty; stty size; test -t 0 && test -t 1 && test -t 2 && "
                          "echo all; exit 6", rows=33, cols=101)
        self.assertIn(b"/dev/pts/", t.expect(r"(/dev/\S+|not a tty)").group(0))
        t.expect("33 101")
        t.expect("all")
        self.assertEqual(t.wait(), 6)

    def test_a_change_of_size_arrives(self):
        t = self.terminal("--", "sh", "-c", "trap 'stty size' WINCH; echo up; "
                          "while :; do sleep 0.05; done")
        t.expect("up")
        for rows, cols in ((50, 132), (10, 20)):
            t.resize(rows, cols)
            t.expect(f"{rows} {cols}")
        t.type("\x03")
        self.assertEqual(t.wait(), 130)

    def test_ctrl_c_interrupts_the_command_and_not_brig(self):
        t = self.terminal("--", "sh", "-c", "trap 'echo caught; exit 44' INT; echo up; "
                          "while :; do sleep 0.05; done")
        t.expect("up")
        t.type("\x03")
        t.expect("caught")
        self.assertEqual(t.wait(), 44)

    def test_ctrl_backslash_quits_the_command(self):
        t = self.terminal("--", "sh", "-c", "echo up; exec sleep 60")
        t.expect("up")
        t.type("\x1c")
        self.assertEqual(t.wait(), 131)

    def test_ctrl_d_is_the_end_of_input(self):
        t = self.terminal("--", "sh", "-c", "cat; echo end")
        t.type("line\n")
        t.expect("(?s)line.*line")
        t.type("\x04")
        t.expect("end")
        self.assertEqual(t.wait(), 0)

    def test_a_shell_has_job_control(self):
        t = self.terminal("--", "bash", "--norc", "-i", PS1="$ ")
        t.type("PS1='%%'; echo sh$((1+1))\n")
        t.expect("sh2")
        # One process that starts no other: a shell that is stopped between fork and exec of its child
        # waits for it where no signal reaches it.
        t.type("python3 -c '" + JOB.replace("\n", "; ") + "'\n")
        t.expect("job2")
        t.type("\x1a")  # Ctrl-Z stops the job, not brig
        t.expect("Stopped")
        t.type("fg\n")
        # It is continued after it was given the terminal; before that, a key would go to the shell.
        t.expect("again2")
        t.type("\x03")
        t.expect("%%")
        t.type("exit 5\n")
        self.assertEqual(t.wait(), 5)

    def test_the_kind_of_terminal_is_told(self):
        t = self.terminal("--", "sh", "-c", "echo \"[$TERM]\"", TERM="screen-256color")
        t.expect(r"\[screen-256color\]")
        self.assertEqual(t.wait(), 0)

    def test_keys_arrive_as_they_are_typed(self):
        t = self.terminal("--", "sh", "-c", "stty raw -echo; echo up; head -c 9 | od -An -tx1")
        t.expect("up")
        t.type(b"\x00\x03\x04\x11\x13\x1a\x7f\xc3\xa9")
        t.expect("00 03 04 11 13 1a 7f c3 a9")
        self.assertEqual(t.wait(), 0)

    def test_the_callers_terminal_is_restored(self):
        # A shell stands for the caller, so that the terminal lives on after brig.
        for ending in ("exit 0", "kill -KILL $$", "exec sleep 60"):
            with self.subTest(ending):
                t = Terminal(["/bin/bash", "-c", 'stty -g; "$0" run --image host -- '
                              'sh -c "echo up; $1"; echo; stty -g; echo over', self.brig.program,
                              ending], {**self.brig.env, "TERM": "xterm"})
                self.addCleanup(t.close)
                first = t.expect(r"([0-9a-f]+:[0-9a-f:]+)").group(1)
                t.expect("up")
                if ending.startswith("exec"):
                    self.kill_brig(t.pid, signal.SIGTERM)
                self.assertEqual(t.expect(r"([0-9a-f]+:[0-9a-f:]+)").group(1), first)
                t.expect("over")
                t.wait()

    def kill_brig(self, parent, sig):
        children = open(f"/proc/{parent}/task/{parent}/children").read().split()
        self.assertEqual(len(children), 1, children)
        os.kill(int(children[0]), sig)

    def test_big_output_to_a_terminal_is_complete(self):
        t = self.terminal("--", "sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; "
                          "i=$((i+1)); done")
        self.assertEqual(t.rest().count(b"line "), 5000)
        self.assertEqual(t.wait(), 0)

    def test_no_tty_switches_it_off(self):
        t = self.terminal("--no-tty", "--", "sh", "-c", "test -t 0 || test -t 1 || echo none")
        t.expect("none")
        self.assertEqual(t.wait(), 0)

    def test_without_a_terminal_there_is_none(self):
        done = self.brig.run("--", "sh", "-c", "test -t 0 || test -t 1 || test -t 2 || echo none; "
                             "cat /dev/tty")
        self.assertEqual(done.out, b"none\n", str(done))
        self.assertNotEqual(done.code, 0)

    def test_t_without_a_terminal_is_refused(self):
        self.assertRefused(self.brig.run("-t", "--", "true"), 2, "terminal")

    def test_two_terminals_at_once(self):
        a = self.terminal("--", "sh", "-c", "echo up; read x; echo got $x", rows=10)
        b = self.terminal("--", "sh", "-c", "echo up; read x; echo got $x", rows=11)
        for t in (a, b):
            t.expect("up")
        b.type("bee\n")
        b.expect("got bee")
        self.assertEqual(b.wait(), 0)
        a.type("ay\n")
        a.expect("got ay")
        self.assertEqual(a.wait(), 0)


class Private(TerminalCases, PrivateCase):
    pass


class Resident(TerminalCases, ResidentCase):
    def test_exec_has_a_terminal_too(self):
        done = self.brig.call("create", "--image", "host", "--name", "shell")
        self.assertOk(done)
        t = self.terminal("shell", "sh", "-c", "stty size; read x; echo got $x; exit 8", rows=44,
                          cols=55, verb=("exec",))
        t.expect("44 55")
        t.type("it\n")
        t.expect("got it")
        self.assertEqual(t.wait(), 8)

    def test_i_alone_gives_no_terminal(self):
        p = subprocess.run([self.brig.program, "run", "--image", "host", "-i", "--", "sh", "-c",
                            "test -t 0 || cat"], env=self.brig.env, input=b"data",
                           capture_output=True, timeout=30 * brigtest.SLOW)
        self.assertEqual((p.returncode, p.stdout), (0, b"data"), p.stderr)
