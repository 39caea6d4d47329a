# SPDX-License-Identifier: Apache-2.0
"""Sandboxes over the death of brig-jaild, alone and with brigd: what ran runs on, with its limits; what is
not what it was is removed."""

import os
import pathlib
import signal
import subprocess
import time

import brigtest
import hoststate
from brigtest import Brig, Server, wait_until
from daemoncase import COUNT, Resident, children_of
from servecase import ServeCase


class Rejoined(Resident):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        brigtest.need_root()

    def alive(self, pid):
        return os.path.exists(f"/proc/{pid}") and not hoststate.is_dead(pid)

    def clean(self):
        """Nothing is listed, nothing runs, and gc explains all there is."""
        wait_until("nothing is listed", lambda: self.brig.json("ls") == [])
        wait_until("no process is left", lambda: not hoststate.sandbox_processes(), 5,
                   hoststate.sandbox_processes)
        self.assertOk(self.brig.call("gc", "--prove"))

    # ---- what goes on ----

    def test_everything_goes_on_and_an_attached_client_notices_nothing(self):
        box = self.create("--name", "one", "--env", "X=y", "--memory", "64m")
        back = self.detached(COUNT, "--name", "two")
        inner = self.inside(box, "sleep 1000 >/dev/null 2>&1 & echo $!; echo x >/tmp/f")
        p = self.brig.popen("exec", box, "cat", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        run = self.brig.popen("run", "--image", "host", "--", "cat", stdin=subprocess.PIPE)
        for q in (p, run):
            q.stdin.write(b"0\n")
            q.stdin.flush()
            self.assertEqual(q.stdout.readline(), b"0\n")
        init = self.init_pids()
        seen = self.gap_free(back, 10)
        # Five times within a minute is what a server bears.
        for i in range(1, 6):
            self.kill("brig-jaild")
            self.assertEqual(self.init_pids(), init)
            for q in (p, run):
                q.stdin.write(b"%d\n" % i)
                q.stdin.flush()
                self.assertEqual(q.stdout.readline(), b"%d\n" % i)
            self.assertEqual(self.inside(box, "cat /tmp/f; echo $X"), "x\ny")
            self.assertEqual(self.inside(box, f"cat /proc/{inner}/comm"), "sleep")
            seen = self.gap_free(back, seen + 5)
        self.assertRegex(self.server.text(), "brig-jaild was killed by signal 9; its sandboxes go on")
        # Attached throughout: nobody attached again.
        for q in (p, run):
            q.stdin.close()
            self.assertEqual((q.wait(20), q.stdout.read()), (0, b""))
            q.stdout.close()
        self.assertEqual(p.stderr.read(), b"")
        p.stderr.close()
        # New ones are made, of another image than the host's, too, and old ones removed.
        self.create("--name", "three")
        self.assertOk(self.brig.call("rm", "-f", "one", "two", "three"))
        self.clean()

    def test_both_die_and_both_take_over(self):
        box = self.create("--memory", "64m")
        back = self.detached(COUNT)
        inner = self.inside(box, "sleep 1000 >/dev/null 2>&1 & echo $!")
        p = self.brig.popen("exec", box, "sh", "-c", f"({COUNT}) & sleep 3; kill $!; exit 7",
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        first = p.stdout.readline()
        init, seen = self.init_pids(), 0
        for order in (("brigd", "brig-jaild"), ("brig-jaild", "brigd")):
            self.kill(*order)
            self.assertEqual(self.init_pids(), init)
            self.assertEqual(self.inside(box, f"cat /proc/{inner}/comm"), "sleep")
            seen = self.gap_free(back, seen + 10)
        out, err = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 7, err)
        got = (first + out).split()
        self.assertEqual(got, [b"%d" % (i + 1) for i in range(len(got))])
        self.assertOk(self.brig.call("rm", "-f", box, back))
        self.clean()

    def test_limits_and_figures_are_in_force(self):
        slow = self.detached("echo x; sleep 1000", "--timeout", "3s")
        cpu = self.detached("while :; do :; done", "--cpu-time", "1s")
        box = self.create("--memory", "64m", "--pids", "20")
        still = self.create()
        self.assertOk(self.brig.call("pause", still))
        self.kill("brig-jaild")
        for b, reason in ((slow, "wall_time"), (cpu, "cpu_time")):
            status = wait_until("it is stopped", lambda b=b: self.row(b)["status"], 60)
            self.assertEqual(status["stop_reason"], reason, status)
        done = self.brig.call("exec", box, "--", "/usr/bin/python3", "-S", "-c", "x = b'x' * (200 << 20)")
        self.assertEqual(done.code, 137, str(done))
        done = self.brig.call("exec", box, "--", "sh", "-c",
                              "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done", timeout=60)
        self.assertNotEqual(done.code, 0, str(done))
        row = next(r for r in self.brig.json("stats", "--no-stream") if r["id"] == box)
        self.assertGreaterEqual(row["oom_kills"], 1, row)
        self.assertGreaterEqual(row["pids_limit_hits"], 1, row)
        self.assertEqual(row["memory_limit_bytes"], 64 << 20, row)
        self.assertEqual(self.row(still)["state"], "paused")
        self.assertRefused(self.brig.call("exec", still, "true"), 125, "paused")
        self.assertOk(self.brig.call("unpause", still))
        self.assertEqual(self.inside(still, "echo on"), "on")
        self.assertOk(self.brig.call("pause", still))
        self.assertEqual(self.row(still)["state"], "paused")
        # Not the child of the brig-jaild that ends it, and standing still.
        self.assertOk(self.brig.call("rm", "-f", still, box, slow, cpu))
        self.clean()

    def test_pools_are_as_full_as_they_were(self):
        self.server.stop()
        self.serve("--pool", "host=2")

        def ready():
            return self.brig.json("pool")[0]["ready"] == 2
        wait_until("the pool is full", ready)
        self.kill("brig-jaild")
        wait_until("the pool is full", ready)
        box = self.create()
        wait_until("the pool is full again", ready)
        self.assertEqual(self.brig.json("pool")[0]["hits"], 1)
        self.kill("brigd", "brig-jaild")
        wait_until("the pool is full", ready)
        self.assertEqual(self.inside(box, "echo on"), "on")

    def test_the_stage_and_the_maker_take_nothing_along(self):
        box = self.create()
        init = self.init_pids()
        for part in ("stage", "maker"):
            former = self.daemon("brig-jaild")
            below = children_of(former, "brig-slots") if part == "maker" else [
                p for p in children_of(former, "brig-agent") if hoststate.uid_of(p) == 0]
            self.assertEqual(len(below), 1, (part, below))
            back = self.server.text().count("brig-jaild is there again")
            os.kill(below[0], signal.SIGKILL)
            wait_until("there is another", lambda back=back: self.server.text().count(
                "brig-jaild is there again") > back, 20, self.server.text)
            self.assertEqual(self.init_pids(), init)
            self.assertEqual(self.inside(box, "echo on"), "on")
            self.assertOk(self.brig.run("--", "true"))
        self.assertOk(self.brig.call("rm", "-f", box))
        self.clean()

    # ---- what was under way ----

    def test_who_asks_while_there_is_none_waits_and_is_answered(self):
        box, other, gone = self.create(), self.create(), self.create()
        pid = self.init_pids()
        self.server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.process.send_signal, signal.SIGCONT)
        os.kill(self.daemon("brig-jaild"), signal.SIGKILL)
        os.kill(pid[gone], signal.SIGKILL)
        wait_until("brigd waits for another", lambda: b"its sandboxes go on" in b"".join(self.server.log))
        asked = [self.brig.popen(*words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for words in (
            ("rm", "-f", box), ("exec", other, "echo", "x"), ("create", "--image", "host"))]
        time.sleep(0.2)
        self.assertEqual([p.poll() for p in asked], [None] * 3)
        self.server.process.send_signal(signal.SIGCONT)
        outs = [p.communicate(timeout=20) for p in asked]
        self.assertEqual([p.returncode for p in asked], [0, 0, 0], outs)
        self.assertEqual(outs[1][0], b"x\n")
        wait_until("it is told which one ended", lambda: {b["id"]: b["state"] for b in self.brig.json("ls")} ==
                   {other: "ready", gone: "stopped", outs[2][0].decode().strip(): "ready"})
        wait_until("their processes are gone", lambda: not self.alive(pid[box]) and not self.alive(pid[gone]))

    # ---- what does not go on ----

    def test_what_is_not_what_it_was_is_destroyed(self):
        """Its first process was moved out of one of its groups: nothing can be said of its limits."""
        box, other = self.create("--memory", "64m"), self.create()
        pid = self.init_pids()
        group = next(line.split(":", 2) for line in hoststate.read(f"/proc/{pid[box]}/cgroup").splitlines()
                     if box in line)
        mount = next(m for m in pathlib.Path("/sys/fs/cgroup").glob("*/brig/*") if (m / box).is_dir())
        self.assertIn(box, group[2])
        (mount.parent.parent / "cgroup.procs").write_text(str(pid[box]))
        self.kill("brig-jaild")
        self.assertIn(f"sandbox {box} is not taken over but removed", self.server.text())
        wait_until("its processes are gone", lambda: not self.alive(pid[box]))
        wait_until("the other is alone", lambda: [b["id"] for b in self.brig.json("ls")
                                                 if b["state"] == "ready"] == [other])
        self.assertEqual(self.inside(other, "echo on"), "on")
        self.assertOk(self.brig.call("rm", "-f", other))
        self.assertOk(self.brig.call("gc", "--prove"))

    def test_the_end_of_the_server_leaves_nothing(self):
        self.create()
        self.assertOk(self.brig.call("pause", self.create()))
        self.detached(COUNT)
        self.kill("brig-jaild")
        self.assertEqual(self.server.stop(), 0)
        self.assertFalse(hoststate.sandbox_processes())

    def test_the_death_of_the_server_and_of_brig_jaild_leaves_nothing(self):
        """Nobody is left who could take over: what runs ends with its channel, what cannot is removed by the
        next server."""
        running = self.create()
        self.inside(running, "sleep 1000 >/dev/null 2>&1 &")
        still = self.create()
        self.assertOk(self.brig.call("pause", still))
        self.kill("brig-jaild")
        pid = self.init_pids()
        jaild, brigd = self.daemon("brig-jaild"), self.daemon("brigd")
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait()
        os.kill(jaild, signal.SIGKILL)
        wait_until("brigd has nothing to wait for", lambda: not self.alive(brigd))
        wait_until("it has ended by itself", lambda: not self.alive(pid[running]), 5)
        again = Server(Brig(socket=self.brig.socket))
        self.addCleanup(again.stop)
        wait_until("the other one was removed", lambda: not self.alive(pid[still]), 5)
        self.assertEqual(self.brig.json("ls"), [])


class Http(ServeCase):
    def test_requests_and_boxes_of_the_api_hold(self):
        brigtest.need_root()
        self.serve()
        key = self.first_key()
        made = self.ask("POST", "/v2/sandboxes", {"templateID": "host", "timeout": 300}, key)[1]
        box = made["sandboxID"]
        before = self.ask("GET", f"/sandboxes/{box}", key=key)[1]
        pids = self.brig.json("stats", "--no-stream")[0]["init_pid"]
        api, brigd = self.pid_of("brig-api"), self.pid_of("brigd")
        former = self.pid_of("brig-jaild")
        os.kill(former, signal.SIGKILL)
        self.another("brig-jaild", former)
        self.said("brig-jaild is there again")
        # Neither of the others has noticed.
        self.assertEqual((self.pid_of("brig-api"), self.pid_of("brigd")), (api, brigd))
        self.run_hello(key)
        self.assertEqual(self.ask("GET", f"/sandboxes/{box}", key=key), (200, before))
        self.assertEqual(self.brig.json("stats", "--no-stream")[0]["init_pid"], pids)
        # What it is was measured by a brig-jaild that did not make it.
        done = self.brig.call("receipt", box)
        self.assertOk(done)
        self.assertIn(box, done.text)
        self.assertEqual(self.ask("DELETE", f"/sandboxes/{box}", key=key)[0], 204)
        wait_until("it is gone", lambda: self.brig.json("ls") == [])
