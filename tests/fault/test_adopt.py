# SPDX-License-Identifier: Apache-2.0
"""brigd is killed at every named step of create, exec, pause, snapshot and delete, beside sandboxes that have
nothing to do with it: they run on, and what is left fits together."""

import os
import signal

import brigtest
import hoststate
from brigtest import Brig, Server, wait_until
from faults import Fault, failpoints

# Passed at each start, or by one that takes over: then everything goes (the last test); or when there is
# another brig-jaild (test_rejoin.py). Those of files that are put in place: test_snapshots.py.
STARTS = {"adopt.greet", "adopt.done", "adopt.box", "rejoin.hello", "rejoin.done"}
POINTS = [name for name, path, _ in failpoints()
          if path.startswith("src/daemon/") and name not in STARTS and "mutate" not in name
          and not name.startswith(("layer.", "rewind."))
          and name not in ("image.send",)]
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
# What the neighbours pass themselves.
AFTER = 12


class Beside(Fault):
    """A brigd that has died counts anew when it is started again."""

    def setUp(self):
        super().setUp()
        self.brig = Brig()

    def brigd(self):
        pids = [p for p in hoststate.brig_pids("brigd")]
        return pids[0] if pids else None

    def cycle(self, i):
        """Whatever it says: its brigd may die of it."""
        name = f"victim{i}"
        for words in (("create", "--image", "host", "--name", name), ("exec", name, "echo", "x"),
                      ("pause", name), ("unpause", name), ("rm", "-f", name),
                      ("run", "--image", "host", "--", "true")):
            self.brig.call(*words, timeout=30)

    def killed_at(self, point):
        server = Server(self.brig, env={"BRIG_FAILPOINT": f"{point}:{AFTER}"})
        self.addCleanup(server.stop)
        near = self.brig.call("create", "--image", "host", "--name", "near").text.strip()
        back = self.brig.call("run", "-d", "--image", "host", "--name", "back", "--", "sh", "-c",
                              COUNT).text.strip()
        inner = self.brig.call("exec", "near", "sh", "-c", "sleep 990 >/dev/null 2>&1 & echo $!").text.strip()
        init = {r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}
        for i in range(40):
            self.cycle(i)
            if "go on; starting again" in server.text():
                break
        else:
            self.fail(f"nobody was killed: '{point}' is not passed")
        self.assertEqual(set(init), {near, back})
        rows = {r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}
        self.assertEqual({k: rows[k] for k in init}, init)
        done = self.brig.call("exec", "near", "cat", f"/proc/{inner}/comm", timeout=30)
        self.assertEqual(done.out, b"sleep\n", str(done))
        lines = wait_until("it goes on", lambda: (
            got := self.brig.call("logs", "back").text.split("\n")[:-1]) and len(got) > 10 and got)
        self.assertEqual(lines, [str(n + 1) for n in range(len(lines))])
        # Records are what there is.
        for b in self.brig.json("ls"):
            if b["id"] not in init:
                self.brig.call("rm", "-f", b["id"], timeout=30)  # it may be going already
        wait_until("nothing but the two is left", lambda: {
            b["id"] for b in self.brig.json("ls")} == set(init), 5)
        self.assertOk(self.brig.call("gc", "--prove"))
        self.assertEqual(server.stop(), 0)
        self.recovered()

    def test_a_takeover_that_dies_leaves_nothing(self):
        server = Server(self.brig, env={"BRIG_FAILPOINT": "adopt.box"})
        self.addCleanup(server.stop)
        self.assertOk(self.brig.call("create", "--image", "host"))
        os.kill(self.brigd(), signal.SIGKILL)
        wait_until("it says so", lambda: "its sandboxes were removed" in server.text(), 20)
        self.assertEqual(self.brig.json("ls"), [])
        self.assertOk(self.brig.run("--", "true", timeout=30))
        self.assertEqual(server.stop(), 0)
        self.recovered()


def _add(point):
    def test(self):
        brigtest.need_root()
        self.killed_at(point)
    setattr(Beside, f"test_at_{point.replace('.', '_')}", test)


for _point in POINTS:
    _add(_point)
