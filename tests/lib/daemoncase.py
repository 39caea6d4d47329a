# SPDX-License-Identifier: Apache-2.0
"""A resident server whose daemons are killed, and what its sandboxes are asked before and after."""

import contextlib
import os
import signal

import hoststate
from brigtest import Brig, Server, TestCase, wait_until

# Numbers of which none may be missing.
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


def children_of(pid, name):
    found = []
    for p in hoststate.pids():
        with contextlib.suppress(OSError, IndexError):
            with open(f"/proc/{p}/stat") as f:
                if int(f.read().rpartition(")")[2].split()[1]) == pid and hoststate.comm_of(p) == name:
                    found.append(p)
    return found


class Resident(TestCase):
    def setUp(self):
        super().setUp()
        self.brig = Brig()
        self.serve()

    def serve(self, *args, **kw):
        self.server = Server(self.brig, *args, **kw)
        self.addCleanup(self.server.stop)

    def daemon(self, name):
        return wait_until(f"{name} runs", lambda: children_of(self.server.process.pid, name))[0]

    def brigd(self):
        return self.daemon("brigd")

    def kill(self, *names):
        """kill -9 of brigd, or of these; others have taken over afterwards."""
        former = {name: self.daemon(name) for name in names or ("brigd",)}
        back = self.server.text().count("brig-jaild is there again")
        for pid in former.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in former.items():
            wait_until(f"another {name} runs", lambda name=name, pid=pid: children_of(
                self.server.process.pid, name) not in ([], [pid]), 20)
        if list(former) == ["brig-jaild"]:
            wait_until("brigd has seen it", lambda: self.server.text().count(
                "brig-jaild is there again") > back, 20, self.server.text)
        # Waits in the socket until it is served.
        self.assertOk(self.brig.call("ls", timeout=20))

    def init_pids(self):
        return {r["id"]: r["init_pid"] for r in self.brig.json("stats", "--no-stream")}

    def create(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def detached(self, script, *args):
        done = self.brig.run("--detach", *args, "--", "sh", "-c", script)
        self.assertOk(done)
        return done.text.strip()

    def inside(self, box, script):
        done = self.brig.call("exec", box, "sh", "-c", script, timeout=20)
        self.assertOk(done)
        return done.text.strip()

    def row(self, box):
        return self.brig.json("inspect", box)[0]

    def gap_free(self, box, at_least):
        """What it printed so far: 1, 2, 3 and so on."""
        def lines():
            got = self.brig.call("logs", "--stdout", box).text.split("\n")
            return got[:-1] if len(got) > at_least else None
        got = wait_until("it has printed enough", lines)
        self.assertEqual(got, [str(i + 1) for i in range(len(got))])
        return len(got)
