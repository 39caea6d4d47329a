# SPDX-License-Identifier: Apache-2.0
"""How a run ends: the exit code, the status, and signals on the way."""

import json
import os
import signal
import subprocess
import time

import brigtest
from brigtest import PrivateCase, ResidentCase

STATUS_KEYS = {"id", "tier", "exit_code", "signal", "stop_reason", "evidence", "usage", "limits_hit",
               "truncated"}
USAGE_KEYS = {"wall_ms", "cpu_ms", "memory_peak_bytes", "pids_peak", "stdout_bytes", "stderr_bytes",
              "io_bytes"}

# (what, arguments behind `brig run`, exit code, stop reason, signal)
TABLE = [
    ("success", ["--", "true"], 0, "exited", None),
    ("failure", ["--", "false"], 1, "exited", None),
    ("any code", ["--", "sh", "-c", "exit 7"], 7, "exited", None),
    ("the highest code", ["--", "sh", "-c", "exit 255"], 255, "exited", None),
    ("124 of its own", ["--", "sh", "-c", "exit 124"], 124, "exited", None),
    ("125 of its own", ["--", "sh", "-c", "exit 125"], 125, "exited", None),
    ("137 of its own", ["--", "sh", "-c", "exit 137"], 137, "exited", None),
    ("SIGTERM", ["--", "sh", "-c", "kill -TERM $$"], 143, "signaled", "SIGTERM"),
    ("SIGKILL of itself", ["--", "sh", "-c", "kill -KILL $$"], 137, "signaled", "SIGKILL"),
    ("SIGSEGV", ["--", "sh", "-c", "kill -SEGV $$"], 139, "signaled", "SIGSEGV"),
    ("a child's signal is a code", ["--", "sh", "-c", "sh -c 'kill -TERM $$'; exit 9"], 9, "exited",
     None),
    ("timeout", ["--timeout", "300ms", "--", "sleep", "60"], 124, "wall_time", "SIGKILL"),
    ("timeout of a command that ignores signals",
     ["--timeout", "300ms", "--", "sh", "-c", "trap '' TERM INT HUP; while :; do sleep 9; done"], 124,
     "wall_time", "SIGKILL"),
    ("not found", ["--", "no-such-command"], 127, "exited", None),
    ("not found by path", ["--", "/no/such/command"], 127, "exited", None),
    ("not executable", ["--", "/etc/passwd"], 126, "exited", None),
    ("a directory", ["--", "/usr"], 126, "exited", None),
]


class ExitCases:
    def test_codes_and_reasons(self):
        for what, args, code, reason, sig in TABLE:
            with self.subTest(what):
                done, status = self.brig.status(*args, expect=code)
                self.assertEqual(status["exit_code"], code, status)
                self.assertEqual(status["stop_reason"], reason, status)
                self.assertEqual(status["signal"], sig, status)
                self.assertLessEqual(STATUS_KEYS, set(status), status)
                self.assertEqual(set(status["usage"]), USAGE_KEYS, status)
                self.assertEqual(status["tier"], brigtest.TIER)
                self.assertIs(status["truncated"], False)

    def test_a_failed_start_says_why(self):
        for command, word in (("no-such-command", "[Nn]o such file"), ("/etc/passwd", "ermission")):
            done = self.brig.run("--", command)
            self.assertRefused(done, (126, 127), command, word)
            _, status = self.brig.status("--", command)
            self.assertIn(command, status["error"]["message"])

    def test_the_working_directory_must_exist(self):
        done, status = self.brig.status("--workdir", "/nowhere", "--", "true", expect=125)
        self.assertRefused(done, 125, "directory")

    def test_the_user_must_exist(self):
        done, status = self.brig.status("--user", "nosuchuser", "--", "true", expect=125)
        self.assertRefused(done, 125, "user")

    def test_usage_is_measured(self):
        script = "head -c 3000000 /dev/zero >/tmp/f; printf 12345; printf 123 >&2; " \
                 "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sleep 0.2"
        done, status = self.brig.status("--", "sh", "-c", script, expect=0)
        usage = status["usage"]
        self.assertEqual((usage["stdout_bytes"], usage["stderr_bytes"]), (5, 3))
        self.assertGreaterEqual(usage["wall_ms"], 200)
        self.assertLess(usage["wall_ms"], done.seconds * 1000 + 50)
        self.assertGreater(usage["cpu_ms"], 5)
        self.assertLess(usage["cpu_ms"], usage["wall_ms"] * 4)
        self.assertGreater(usage["memory_peak_bytes"], 3000000)
        self.assertGreaterEqual(usage["pids_peak"], 2)
        self.assertEqual(status["limits_hit"], [])

    def test_status_to_a_descriptor(self):
        r, w = os.pipe()
        p = self.brig.popen("run", "--image", "host", "--status-json", w, "--", "sh", "-c",
                            f"echo leak >&{w}; exit 5", pass_fds=(w,))
        os.close(w)
        with os.fdopen(r, "rb") as f:
            status = json.loads(f.read())
        _, err = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 5, err)
        self.assertEqual((status["exit_code"], status["stop_reason"]), (5, "exited"))

    def test_a_status_that_cannot_be_written_stops_the_run_before_it_begins(self):
        mark = self.tmp / "mark"
        mark.mkdir()
        for where in (self.tmp / "no" / "dir", self.tmp, "999"):
            done = self.brig.run("--status-json", where, "--volume", f"{mark}:/mark", "--", "touch",
                                 "/mark/ran")
            self.assertRefused(done, (2, 125), str(where))
            self.assertEqual(list(mark.iterdir()), [])

    def test_signals_reach_the_command(self):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
                    signal.SIGUSR2):
            with self.subTest(sig.name):
                name = sig.name.removeprefix("SIG")
                script = f"trap 'echo got {name}; exit 33' {name}; echo ready; " \
                         "while :; do sleep 0.02; done"
                p = self.start(self.brig, "--", "sh", "-c", script)
                p.send_signal(sig)
                out, err = p.communicate(timeout=20 * brigtest.SLOW)
                self.assertEqual((p.returncode, out), (33, f"got {name}\n".encode()), err)

    def test_an_unhandled_interrupt_ends_the_command(self):
        path = self.tmp / "status"
        p = self.start(self.brig, "--status-json", path, "--", "sh", "-c", "echo ready; exec sleep 60")
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20 * brigtest.SLOW)
        self.assertEqual(p.returncode, 130)
        status = json.loads(path.read_text())
        self.assertIn(status["stop_reason"], ("killed", "signaled"))
        self.assertEqual(status["signal"], "SIGINT")

    def test_a_second_interrupt_ends_a_command_that_ignores_the_first(self):
        p = self.start(self.brig, "--", "sh", "-c",
                       "trap '' INT; echo ready; while :; do sleep 9; done")
        p.send_signal(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(p.poll(), "the first one was ignored, and yet it ended")
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=10 * brigtest.SLOW)
        self.assertNotEqual(p.returncode, 0)

    def test_what_the_command_left_running_ends_with_it(self):
        # A background process holds the outputs open; it must not hold up the end.
        start = time.monotonic()
        done = self.brig.run("--", "sh", "-c", "sleep 50 & setsid sleep 50 & echo main; exit 4")
        self.assertCode(done, 4)
        self.assertEqual(done.out, b"main\n")
        self.assertLess(time.monotonic() - start, 5 * brigtest.SLOW)

    def test_a_timeout_is_counted_from_the_start_of_the_command(self):
        done, status = self.brig.status("--timeout", "1s", "--", "sleep", "60", expect=124)
        self.assertEqual(status["evidence"]["limit_ms"], 1000)
        self.assertGreaterEqual(status["evidence"]["elapsed_ms"], 1000)
        self.assertLess(status["evidence"]["elapsed_ms"], 1000 + 300 * brigtest.SLOW)
        self.assertIn("wall_time", status["limits_hit"])

    def test_a_stop_for_a_limit_is_told_once_and_q_keeps_quiet(self):
        done = self.brig.run("--timeout", "200ms", "--", "sleep", "60")
        lines = done.errors.strip().splitlines()
        self.assertEqual(len(lines), 1, str(done))
        self.assertIn("wall_time", lines[0])
        done = self.brig.run("-q", "--timeout", "200ms", "--", "sleep", "60")
        self.assertEqual((done.code, done.err), (124, b""), str(done))

    def test_sixteen_runs_at_once(self):
        ps = [self.brig.popen("run", "--image", "host", "--", "sh", "-c", f"echo {i}; exit {i}")
              for i in range(16)]
        for i, p in enumerate(ps):
            out, err = p.communicate(timeout=60 * brigtest.SLOW)
            self.assertEqual((p.returncode, out), (i, f"{i}\n".encode()), err)


class Private(ExitCases, PrivateCase):
    pass


class Resident(ExitCases, ResidentCase):
    pass


class Output(PrivateCase):
    def test_a_full_disk_under_standard_output_is_no_success(self):
        with open("/dev/full", "wb") as full:
            p = self.brig.popen("run", "--image", "host", "--", "sh", "-c", "head -c 100000 /dev/zero",
                                stdout=full)
            _, err = p.communicate(timeout=30 * brigtest.SLOW)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn(b"space", err)

    def test_nothing_of_brig_holds_the_callers_outputs_open(self):
        # $(brig run ..) must return with brig, not with daemons that still clean up.
        start = time.monotonic()
        p = subprocess.run(["sh", "-c", 'out=$("$0" run --image host -- echo hi); echo "[$out]"',
                            self.brig.program], env=self.brig.env, capture_output=True, timeout=30)
        self.assertEqual(p.stdout, b"[hi]\n", p.stderr)
        self.assertLess(time.monotonic() - start, 3 * brigtest.SLOW)
