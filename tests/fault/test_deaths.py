# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each program, at rest and under load: the client gets one clear error, nothing is left, the
server comes back."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import brigtest
import hoststate
from brigtest import Brig, GONE_S, Server, wait_until
from faults import Fault


def parent_of(pid):
    found = re.search(r"^PPid:\s+(\d+)", hoststate.read(f"/proc/{pid}/status"), re.M)
    return int(found.group(1)) if found else 0


class Programs:
    """Pids of what stands behind the sandboxes of one brigd."""

    def __init__(self, test):
        self.brigd = wait_until("brigd runs", lambda: hoststate.brig_pids("brigd"))[0]
        self.jaild = hoststate.brig_pids("brig-jaild")
        # The maker of slots is a copy of brig-jaild and its child.
        self.jaild = next(p for p in self.jaild if parent_of(p) not in self.jaild)
        below = [p for p in hoststate.pids() if parent_of(p) == self.jaild]
        self.stage = next(p for p in below if not hoststate.in_id_range(hoststate.uid_of(p))
                          and os.path.basename(os.readlink(f"/proc/{p}/exe")) == "brig-agent")
        first = [int(x.split()[0]) for x in hoststate.sandbox_processes()]
        self.agent = next(p for p in first if hoststate.comm_of(p) == "brig-agent")
        self.payload = [p for p in first if p != self.agent]
        test.assertTrue(self.payload)


LOAD = ("trap '' TERM INT; setsid sleep 990 & (sleep 990 &) & echo ready; while :; do sleep 990; done")


class Private(Fault):
    def under_load(self, victims, sig=signal.SIGKILL, script=LOAD):
        path = self.tmp / "status"
        p = self.start(Brig(), "--status-json", path, "--", "sh", "-c", script)
        programs = Programs(self)
        for pid in [getattr(programs, v) for v in victims]:
            os.kill(pid, sig)
        start = time.monotonic()
        _, err = p.communicate(timeout=10 * brigtest.SLOW)
        self.assertLess(time.monotonic() - start, 4 * brigtest.SLOW)
        status = json.loads(path.read_text()) if path.exists() and path.stat().st_size else None
        return p.returncode, err.decode(), status

    def check_error(self, victims):
        code, err, _ = self.under_load(victims)
        self.assertEqual(code, 125, err)
        self.assertTrue(err.startswith("brig: "), err)
        # The client itself sees to it that nothing stays; no gc is needed.
        left = self.left(GONE_S)
        self.assertEqual(left, {}, hoststate.explain(left))
        self.recovered()

    def test_the_death_of_brigd(self):
        self.check_error(["brigd"])

    def test_the_death_of_brig_jaild(self):
        self.check_error(["jaild"])

    def test_the_death_of_brigd_and_brig_jaild(self):
        self.check_error(["brigd", "jaild"])

    def test_the_death_of_everything(self):
        self.check_error(["agent", "stage", "jaild", "brigd"])

    def test_the_death_of_the_agent_is_a_fault_of_the_sandbox(self):
        code, err, status = self.under_load(["agent"])
        self.assertEqual(code, 125, err)
        self.assertEqual(status["stop_reason"], "host_fault", status)
        self.recovered()

    def test_the_death_of_the_stage_does_not_reach_living_sandboxes(self):
        p = self.start(Brig(), "--", "sh", "-c", "echo ready; read x; echo $x; exit 6",
                       stdin=subprocess.PIPE)
        time.sleep(0.1)
        jaild = [j for j in hoststate.brig_pids("brig-jaild")]
        stage = [s for s in hoststate.pids() if parent_of(s) in jaild
                 and hoststate.comm_of(s).startswith("brig")
                 and not hoststate.in_id_range(hoststate.uid_of(s)) and s not in jaild]
        self.assertTrue(stage)
        for pid in stage:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        try:
            p.stdin.write(b"still here\n")
            p.stdin.close()
        except BrokenPipeError:
            pass
        out, code = p.stdout.read(), p.wait(10 * brigtest.SLOW)
        # Either it goes on to its end, or it is ended with an error; never does it hang.
        self.assertIn((code, out), ((6, b"still here\n"), (125, b"")))
        self.recovered()

    def test_the_death_of_the_command_is_its_own(self):
        p = self.start(Brig(), "--", "sh", "-c", "echo ready; exec sleep 990")
        programs = Programs(self)
        for pid in programs.payload:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(p.wait(10 * brigtest.SLOW), 137)
        self.recovered()

    def test_a_stopped_daemon_does_not_keep_a_dead_clients_sandbox(self):
        p = self.start(Brig(), "--", "sh", "-c", LOAD)
        programs = Programs(self)
        os.kill(programs.jaild, signal.SIGSTOP)
        p.kill()
        p.wait()
        time.sleep(0.3)
        os.kill(programs.jaild, signal.SIGCONT)
        left = self.left(GONE_S)
        self.assertEqual(left, {}, hoststate.explain(left))
        self.recovered()

    def test_death_in_the_middle_of_a_flood(self):
        for victim in ("brigd", "jaild", "agent"):
            with self.subTest(victim):
                p = Brig().popen("run", "--image", "host", "--", "yes", stderr=subprocess.PIPE)
                self.addCleanup(self._end, p)
                p.stdout.read(1 << 20)
                os.kill(getattr(Programs(self), victim), signal.SIGKILL)
                while p.stdout.read(1 << 20):
                    pass
                self.assertEqual(p.wait(10 * brigtest.SLOW), 125, p.stderr.read())
                self.recovered()


class Serve(Fault):
    def setUp(self):
        super().setUp()
        self.brig = Brig()
        self.server = Server(self.brig)
        self.addCleanup(self.server.stop)

    def empty(self):
        self.orphans()
        return not hoststate.sandbox_processes()

    def start_two(self):
        """A client that waits, and a detached sandbox."""
        p = self.start(self.brig, "--", "sh", "-c", LOAD)
        self.assertOk(self.brig.call("run", "-d", "--image", "host", "--name", "back", "--", "sh", "-c",
                                     LOAD))
        return p

    def check(self, *victims):
        p = self.start_two()
        programs = Programs(self)
        for v in victims:
            try:
                os.kill(getattr(programs, v), signal.SIGKILL)
            except ProcessLookupError:
                pass  # the death of the first was its end as well
        if "brigd" in victims:
            _, err = p.communicate(timeout=10 * brigtest.SLOW)
            self.assertEqual(p.returncode, 125, err)
            self.assertTrue(err.startswith(b"brig: "), err)
            # What the client waited for is removed, and the socket serves again.
            wait_until("the other goes on alone", lambda: [b["name"] for b in self.brig.json("ls")] == ["back"])
        else:
            wait_until("another one serves", lambda: "brig-jaild is there again" in self.server.text())
            self.assertEqual([b["state"] for b in self.brig.json("ls")], ["running"] * 2)
            self.assertIsNone(p.poll())
            self._end(p)
        self.assertOk(self.brig.call("rm", "-f", "back", timeout=20))
        wait_until("the old sandboxes are gone", self.empty, 3)
        done = self.brig.run("--", "echo", "again", timeout=20)
        self.assertEqual((done.code, done.out), (0, b"again\n"), str(done))
        for v in victims:
            self.assertNotIn(getattr(programs, v), hoststate.brig_pids())
        wait_until("nothing is listed", lambda: not self.brig.call("ls", "-q").out, 2)
        self.assertRegex(self.server.text(), "starting again")
        self.assertOk(self.brig.call("gc", "--prove"))

    def test_brigd_dies_and_comes_back(self):
        self.check("brigd")

    def test_brig_jaild_dies_and_comes_back(self):
        self.check("jaild")

    def test_both_die_and_come_back(self):
        self.check("jaild", "brigd")

    def test_a_server_that_is_told_to_end_while_it_recovers_leaves_nothing(self):
        p = self.start_two()
        for victim in ("jaild", "brigd"):
            with self.subTest(victim):
                os.kill(getattr(Programs(self), victim), signal.SIGKILL)
                self.server.stop()
                p.communicate(timeout=10 * brigtest.SLOW)
                left = self.left(GONE_S)
                self.assertEqual(left, {}, hoststate.explain(left))
                self.server = Server(self.brig)
                p = self.start_two()
        self.server.stop()
        self._end(p)

    def test_an_agent_takes_only_its_own_sandbox_along(self):
        self.assertOk(self.brig.call("create", "--image", "host", "--name", "other"))
        p = self.start(self.brig, "--", "sh", "-c", LOAD)
        info = self.brig.json("stats", "--no-stream")
        rows = info if isinstance(info, list) else info["stats"]
        other = next(r["init_pid"] for r in rows if r["name"] == "other")
        mine = next(r["init_pid"] for r in rows if r["name"] != "other")
        os.kill(mine, signal.SIGKILL)
        self.assertEqual(p.wait(10 * brigtest.SLOW), 125)
        self.assertEqual(self.brig.call("exec", "other", "echo", "alive").out, b"alive\n")
        self.assertTrue(os.path.exists(f"/proc/{other}"))

    def test_the_death_of_the_supervisor_leaves_nothing_running_for_good(self):
        self.start_two()
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait()
        brig = Brig(socket=self.brig.socket)
        # The next server on the socket takes over: with the old one's sandboxes removed.
        again = Server(brig)
        try:
            wait_until("what the old one ran is gone", self.empty, 5, hoststate.sandbox_processes)
            self.assertEqual(brig.run("--", "echo", "new").out, b"new\n")
        finally:
            again.stop()
        self.recovered()

    def test_a_server_that_cannot_stay_up_gives_up_and_says_so(self):
        for _ in range(8):
            if self.server.process.poll() is not None:
                break
            for pid in hoststate.brig_pids("brigd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            pause = time.monotonic() + 6
            while time.monotonic() < pause and self.server.process.poll() is None and \
                    not [p for p in hoststate.brig_pids("brigd")]:
                time.sleep(0.02)
        code = self.server.ended(20)
        self.assertNotEqual(code, 0)
        self.assertRegex(self.server.text(), "times? within")
        self.recovered()
