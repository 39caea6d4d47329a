# SPDX-License-Identifier: Apache-2.0
"""Sandboxes over the death of brigd: their processes, output, limits and records go on; what cannot be
taken over is removed."""

import json
import os
import signal
import subprocess
import threading
import time

import brigtest
import hoststate
from brigtest import wait_until
from daemoncase import COUNT, Resident, children_of
from servecase import ServeCase

class Adopted(Resident):
    # ---- what goes on ----

    def test_processes_output_and_records_go_on(self):
        box = self.create("--name", "one", "--label", "a=b", "--env", "X=y", "--memory", "64m")
        back = self.detached(COUNT, "--name", "two")
        inner = self.inside(box, "sleep 1000 & echo $!; echo x >/tmp/f")
        ids = self.brig.json("ls")
        before = [self.row(b) for b in (box, back)]
        init = {r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}
        seen = self.gap_free(back, 20)
        for _ in range(3):
            self.kill()
            self.assertEqual(self.brig.json("ls"), ids)
            self.assertEqual([self.row(b) for b in (box, back)], before)
            self.assertEqual(self.inside(box, "cat /tmp/f; echo $X"), "x\ny")
            self.assertEqual(self.inside(box, f"cat /proc/{inner}/comm"), "sleep")
            seen = self.gap_free(back, seen + 20)
        self.assertEqual({r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}, init)
        self.assertRegex(self.server.text(), "brigd was killed by signal 9; its sandboxes go on")
        # Names and ids are taken, and new ones are made.
        self.assertRefused(self.brig.call("create", "--image", "host", "--name", "one"), 125, "taken")
        self.create("--name", "three")
        for b in ("one", "two", "three"):
            self.assertOk(self.brig.call("rm", "-f", b))
        self.assertEqual(self.brig.json("ls"), [])
        self.assertOk(self.brig.call("gc", "--prove"))

    def test_a_flood_has_no_gap_and_nothing_twice(self):
        box = self.create()
        p = self.brig.popen("exec", box, "sh", "-c", "seq 1 400000; echo end >&2; exit 5",
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        got = [p.stdout.read(100000)]
        self.kill()
        got.append(p.stdout.read())
        self.assertEqual(p.stderr.read(), b"end\n")
        self.assertEqual(p.wait(20), 5)
        lines = b"".join(got).split(b"\n")[:-1]
        self.assertEqual(len(lines), 400000)
        self.assertEqual(lines, [b"%d" % (i + 1) for i in range(400000)])

    def test_an_exec_goes_on_reading_by_itself(self):
        box = self.create()
        p = self.brig.popen("exec", box, "sh", "-c", f"({COUNT}) & sleep 1.5; kill $!; exit 7",
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        first = p.stdout.readline()
        self.kill()
        self.kill()
        out, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 7, err)
        got = (first + out).split()
        self.assertEqual(got, [b"%d" % (i + 1) for i in range(len(got))])
        self.assertGreater(len(got), 30)
        self.assertEqual(self.row(box)["execs"], [])

    def test_an_exec_whose_input_may_be_lost_says_how_to_attach(self):
        box = self.create()
        p = self.brig.popen("exec", box, "sh", "-c", "read x; echo got $x; read y; echo and $y; exit 9",
                            stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdin.write(b"one\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.readline(), b"got one\n")
        self.kill()
        err = p.stderr.read().decode()
        self.assertEqual(p.wait(20), 125, err)
        self.assertIn("the command goes on", err)
        words = err.split("`brig attach ")[1].split("`")[0].split()
        self.assertEqual(words[2:], ["--stdout-offset", "8"])
        # Once more, and the rest of the input.
        done = self.brig.call("attach", *words, input=b"two\n", timeout=20)
        self.assertEqual((done.code, done.out), (9, b"and two\n"), str(done))
        self.assertRefused(self.brig.call("attach", *words), 125, "runs no such command")
        for p in (p.stdin, p.stdout, p.stderr):
            p.close()

    def test_what_an_orphan_printed_and_how_it_ended_waits_for_who_attaches(self):
        box = self.create()
        p = self.brig.popen("exec", box, "sh", "-c", "echo one; sleep 1; echo two; exit 3",
                            stdin=subprocess.DEVNULL)
        self.assertEqual(p.stdout.readline(), b"one\n")
        p.send_signal(signal.SIGSTOP)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.kill)
        self.kill()
        [x] = self.row(box)["execs"]
        time.sleep(1.2)
        self.assertRefused(self.brig.call("attach", box, x["exec"], "--stdout-offset", "99"), 125, "beyond")
        done = self.brig.call("attach", box, x["exec"], "--stdout-offset", "2", timeout=20)
        self.assertEqual((done.code, done.out), (3, b"e\ntwo\n"), str(done))

    # ---- limits, and ends that nobody saw ----

    def test_limits_of_time_are_in_force(self):
        slow = self.detached("echo x; sleep 1000", "--timeout", "2s")
        cpu = self.detached("while :; do :; done", "--cpu-time", "800ms")
        start = time.monotonic()
        self.kill()
        for box, reason in ((slow, "wall_time"), (cpu, "cpu_time")):
            status = wait_until("it is stopped", lambda box=box: self.row(box)["status"], 60)
            self.assertEqual(status["stop_reason"], reason, status)
            wait_until("its processes are gone", lambda box=box: self.row(box)["state"] == "stopped")
        self.assertGreater(time.monotonic() - start, 0.5)
        # What was stopped stays, over another death, too.
        before = [self.row(b) for b in (slow, cpu)]
        self.kill()
        self.assertEqual([self.row(b) for b in (slow, cpu)], before)
        self.assertEqual(self.brig.call("logs", slow).out, b"x\n")

    def test_what_ended_while_there_was_no_brigd_is_told(self):
        ends = self.detached("sleep 0.5; echo last words; exit 4")
        late = self.detached("sleep 1000", "--timeout", "1s")
        gone = self.detached("sleep 1000")
        gone_pid = next(r["init_pid"] for r in self.brig.json("stats", "--no-stream") if r["id"] == gone)
        self.server.process.send_signal(signal.SIGSTOP)
        os.kill(self.brigd(), signal.SIGKILL)
        os.kill(gone_pid, signal.SIGKILL)
        time.sleep(1.5)
        self.server.process.send_signal(signal.SIGCONT)
        status = wait_until("its end is known", lambda: self.row(ends)["status"])
        self.assertEqual((status["stop_reason"], status["exit_code"]), ("exited", 4))
        self.assertEqual(self.brig.call("logs", ends).out, b"last words\n")
        wait_until("its time is up", lambda: self.row(late)["status"])
        self.assertEqual(self.row(late)["status"]["stop_reason"], "wall_time")
        self.assertEqual(self.row(gone)["state"], "stopped")
        self.assertIn("ended while brigd was not there", self.row(gone)["fault"])

    def test_time_stands_still_in_a_paused_one(self):
        brigtest.need_root()
        box = self.detached("sleep 1000", "--timeout", "2500ms")
        self.assertOk(self.brig.call("pause", box))
        self.kill()
        time.sleep(2.6)
        self.assertEqual(self.row(box)["state"], "paused")
        self.assertOk(self.brig.call("unpause", box))
        self.assertEqual(self.row(box)["state"], "running")
        self.assertEqual(self.inside(box, "echo on"), "on")
        status = wait_until("its time is up", lambda: self.row(box)["status"], 10)
        self.assertEqual(status["stop_reason"], "wall_time")

    # ---- what does not ----

    def test_an_agent_that_does_not_answer_is_removed(self):
        brigtest.need_root()
        box, other = self.create(), self.create()
        pid = next(r["init_pid"] for r in self.brig.json("stats", "--no-stream") if r["id"] == box)
        os.kill(pid, signal.SIGSTOP)
        self.kill()
        self.assertEqual([b["id"] for b in self.brig.json("ls")
                          if b["state"] == "ready"], [other])
        wait_until("its processes are gone", lambda: not os.path.exists(f"/proc/{pid}"))
        self.assertIn("its agent did not answer the brigd that took over", self.server.text())
        self.assertOk(self.brig.call("gc", "--prove"))

    def test_a_run_in_the_foreground_ends_with_its_brigd(self):
        other = self.create()
        p = self.brig.popen("run", "--image", "host", "--", "sh", "-c", "echo ready; exec sleep 1000",
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        self.kill()
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 125, err)
        wait_until("its sandbox is gone", lambda: [b["id"] for b in self.brig.json("ls")] == [other])

    def test_the_end_of_the_server_leaves_nothing(self):
        self.create()
        self.detached(COUNT)
        self.kill()
        self.assertEqual(self.server.stop(), 0)
        self.assertFalse(hoststate.sandbox_processes())

    def test_a_brigd_that_dies_of_what_it_finds_does_not_find_it_twice(self):
        """Killed before it has taken over: then everything goes, and the server serves."""
        box = self.create()
        pid = self.brig.json("stats", "--no-stream")[0]["init_pid"]
        os.kill(pid, signal.SIGSTOP)
        former = self.brigd()
        os.kill(former, signal.SIGKILL)
        second = wait_until("another one starts", lambda: [
            p for p in children_of(self.server.process.pid, "brigd") if p != former])[0]
        os.kill(second, signal.SIGKILL)
        wait_until("it says so", lambda: "its sandboxes were removed" in self.server.text())
        self.assertEqual(self.brig.json("ls"), [])
        self.assertRefused(self.brig.call("exec", box, "true"), 125, "no sandbox")
        wait_until("its processes are gone", lambda: not os.path.exists(f"/proc/{pid}"))


class Upgrade(Resident):
    """SIGHUP: brigd is executed anew, while clients come and go."""

    ROUNDS = 10

    def again(self):
        former = self.brigd()
        self.server.process.send_signal(signal.SIGHUP)
        wait_until("another one serves", lambda: children_of(self.server.process.pid, "brigd")
                   not in ([], [former]), 20)

    def test_no_request_that_was_acknowledged_is_lost(self):
        stop, wrong, made, count = threading.Event(), [], [], [0, 0, 0]
        box = self.create()

        def loop(i, step):
            while not stop.is_set():
                done = step()
                count[i] += 1
                if done.code != 0:
                    wrong.append(str(done))

        def create():
            done = self.brig.call("create", "--image", "host", timeout=60)
            made.append(done.text.strip())
            if len(made) > 20:
                return self.brig.call("rm", "-f", made.pop(0), timeout=60)
            return done

        def echo(*args):
            done = self.brig.call(*args, "sh", "-c", "echo x; exit 0", timeout=60)
            if done.out != b"x\n":
                wrong.append(str(done))
            return done

        threads = [threading.Thread(target=loop, args=a) for a in (
            (0, create), (1, lambda: echo("exec", box)), (2, lambda: echo("run", "--image", "host", "--")))]
        for t in threads:
            t.start()
        try:
            for _ in range(self.ROUNDS):
                before = list(count)
                self.again()
                wait_until("all three go on", lambda before=before: all(
                    a > b for a, b in zip(count, before)) or wrong, 60)
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(wrong, [])
        # The runs' own sandboxes are removed behind their answers.
        wait_until("no other is left", lambda: {b["id"] for b in self.brig.json("ls")} == {box, *made}, 5,
                   lambda: [(b["id"], b["state"], b["cmd"]) for b in self.brig.json("ls")
                            if b["id"] not in {box, *made}])
        self.assertEqual(self.server.text().count("brigd has handed over"), self.ROUNDS)

    def test_a_run_in_the_foreground_goes_on(self):
        p = self.brig.popen("run", "--image", "host", "--", "sh", "-c",
                            f"({COUNT}) & sleep 4; kill $!; exit 6", stdin=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)
        first = p.stdout.readline()
        self.again()
        out, err = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 6, err)
        got = (first + out).split()
        self.assertEqual(got, [b"%d" % (i + 1) for i in range(len(got))])
        wait_until("its sandbox is gone", lambda: self.brig.json("ls") == [])

    def test_a_client_that_does_not_come_back_ends_its_run(self):
        p = self.brig.popen("run", "--image", "host", "--", "sh", "-c", "echo ready; exec sleep 1000",
                            stdin=subprocess.DEVNULL)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        p.send_signal(signal.SIGSTOP)
        self.again()
        self.assertEqual([b["state"] for b in self.brig.json("ls")], ["running"])
        p.kill()
        p.stdout.close()
        wait_until("its sandbox is gone", lambda: self.brig.json("ls") == [], 30)


class Http(ServeCase):
    def test_boxes_of_the_api_hold(self):
        self.serve()
        key = self.first_key()
        made = self.ask("POST", "/v2/sandboxes", {"templateID": "host", "timeout": 300,
                                                  "metadata": {"a": "b"}}, key)[1]
        box = made["sandboxID"]
        before = self.ask("GET", f"/sandboxes/{box}", key=key)[1]
        pid = self.brig.json("stats", "--no-stream")[0]["init_pid"]
        former = self.pid_of("brigd")
        os.kill(former, signal.SIGKILL)
        self.another("brigd", former)
        self.assertEqual(self.ask("GET", f"/sandboxes/{box}", key=key), (200, before))
        again = self.ask("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 300}, key)
        self.assertEqual(again[1]["envdAccessToken"], made["envdAccessToken"])
        self.assertEqual(self.brig.json("stats", "--no-stream")[0]["init_pid"], pid)
        self.assertEqual(json.loads(json.dumps(self.ask("DELETE", f"/sandboxes/{box}", key=key)[0])), 204)
        wait_until("it is gone", lambda: self.brig.json("ls") == [])

    def test_requests_over_http_wait_while_it_is_executed_anew(self):
        self.serve()
        key = self.first_key()
        box = self.ask("POST", "/v2/sandboxes", {"templateID": "host", "timeout": 300}, key)[1]["sandboxID"]
        stop, codes = threading.Event(), []

        def loop():
            while not stop.is_set():
                codes.append(self.ask("POST", "/v1/run", {"image": "host", "cmd": ["echo", "x"]}, key)[0])

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            for _ in range(3):
                former, seen = self.pid_of("brigd"), len(codes)
                self.server.process.send_signal(signal.SIGHUP)
                self.another("brigd", former)
                wait_until("requests are served", lambda seen=seen: len(codes) > seen + 2, 30)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(set(codes), {200})
        self.assertEqual(self.ask("GET", f"/sandboxes/{box}", key=key)[0], 200)
