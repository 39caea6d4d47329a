# SPDX-License-Identifier: Apache-2.0
"""brig-jaild is killed at every named step of create, exec, pause and delete, beside sandboxes that have
nothing to do with it and with a client at a running command: they run on, and what is left fits together."""

import os
import signal
import subprocess

import brigtest
import hoststate
from brigtest import Brig, Server, wait_until
from daemoncase import children_of
from faults import Fault, failpoints

# Those of volumes: test_volume_deaths.py.
POINTS = [name for name, path, _ in failpoints() if path.startswith("src/jail/")
          and name not in ("jail.recovered", "jail.volume") and not name.startswith("volume.")]
# What the neighbours pass themselves.
AFTER = 12


class Beside(Fault):
    def setUp(self):
        super().setUp()
        self.brig = Brig()

    def serve(self, point):
        self.server = Server(self.brig, env={"BRIG_FAILPOINT": point})
        self.addCleanup(self.server.stop)

    def neighbours(self):
        """Two sandboxes and a client at a command in one of them: {id: pid of its first process}, client."""
        for name in ("near", "still"):
            self.assertOk(self.brig.call("create", "--image", "host", "--name", name))
        self.assertOk(self.brig.call("pause", "still"))
        p = self.brig.popen("exec", "near", "cat", stdin=subprocess.PIPE)
        self.addCleanup(self._end, p)
        self.said(p, b"before\n")
        return {r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}, p

    def said(self, p, line):
        p.stdin.write(line)
        p.stdin.flush()
        self.assertEqual(p.stdout.readline(), line)

    def cycle(self, i):
        """Whatever it says: its brig-jaild may die of it."""
        name = f"victim{i}"
        for words in (("create", "--image", "host", "--name", name), ("exec", name, "echo", "x"),
                      ("pause", name), ("unpause", name), ("rm", "-f", name),
                      ("run", "--image", "host", "--", "true")):
            done = self.brig.call(*words, timeout=30)
            self.assertIn(done.code, (0, 125), str(done))

    def check(self, init, client):
        self.said(client, b"after\n")
        rows = {r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}
        self.assertEqual({k: rows.get(k) for k in init}, init)
        self.assertOk(self.brig.call("unpause", "still"))
        done = self.brig.call("exec", "still", "echo", "on", timeout=30)
        self.assertEqual(done.out, b"on\n", str(done))
        # Records are what there is.
        for b in self.brig.json("ls"):
            if b["id"] not in init:
                self.brig.call("rm", "-f", b["id"], timeout=30)  # it may be going already
        wait_until("nothing but the two is left", lambda: {
            b["id"] for b in self.brig.json("ls")} == set(init), 5)
        wait_until("gc explains all there is", lambda: self.brig.call("gc", "--prove").code == 0, 5)
        client.stdin.close()
        self.assertEqual(client.wait(20), 0)
        self.assertEqual(self.server.stop(), 0)
        self.recovered()

    def killed_at(self, point):
        self.serve(f"{point}:{AFTER}")
        init, client = self.neighbours()
        for i in range(40):
            self.cycle(i)
            if "go on; starting again" in self.server.text():
                break
        else:
            self.fail(f"nobody was killed: '{point}' is not passed")
        wait_until("another one serves", lambda: "brig-jaild is there again" in self.server.text())
        self.check(init, client)

    def jaild(self):
        return wait_until("brig-jaild runs", lambda: children_of(self.server.process.pid, "brig-jaild"))[0]

    def test_one_that_dies_of_what_it_finds_does_not_find_it_twice(self):
        self.serve("jail.recovered")
        self.neighbours()
        os.kill(self.jaild(), signal.SIGKILL)
        wait_until("it says so", lambda: "its sandboxes were removed" in self.server.text(), 20)
        self.assertEqual(self.brig.json("ls"), [])
        self.assertFalse(hoststate.sandbox_processes())
        self.assertOk(self.brig.run("--", "true", timeout=30))
        self.assertEqual(self.server.stop(), 0)
        self.recovered()

    def test_a_brigd_that_dies_while_it_greets_the_next_one_is_followed_by_another(self):
        for point in ("rejoin.hello", "rejoin.done"):
            with self.subTest(point):
                self.brig = Brig()
                self.serve(point)
                box = self.brig.call("create", "--image", "host").text.strip()
                pid = self.brig.json("stats", "--no-stream")[0]["init_pid"]
                os.kill(self.jaild(), signal.SIGKILL)
                wait_until("brigd died of it", lambda: "brigd was killed" in self.server.text(), 20)
                done = self.brig.call("exec", box, "echo", "on", timeout=30)
                self.assertEqual(done.out, b"on\n", str(done))
                self.assertEqual(self.brig.json("stats", "--no-stream")[0]["init_pid"], pid)
                self.assertEqual(self.server.stop(), 0)
                self.recovered()


def _add(point):
    def test(self):
        brigtest.need_root()
        self.killed_at(point)
    setattr(Beside, f"test_at_{point.replace('.', '_')}", test)


for _point in POINTS:
    _add(_point)
