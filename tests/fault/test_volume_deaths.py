# SPDX-License-Identifier: Apache-2.0
"""Volumes, and at each step of making, attaching, copying and removing one: the process that does it, or
brig-jaild, is killed there. Afterwards there is the whole volume or nothing of it, and a server that is
started again says the same as the disk."""

import json
import os

import brigtest
from brigtest import Brig, Server, wait_until
from faults import Fault, failpoints

POINTS = sorted({n for n, _, _ in failpoints() if n.startswith("volume.") or n == "jail.volume"})


class Deaths(Fault):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        brigtest.need_program("mkfs.ext4")
        if not os.path.exists("/dev/loop-control"):
            raise brigtest.unittest.SkipTest("this machine has no loop devices")

    def serve(self, data, point=None):
        brig = Brig(data=data)
        server = Server(brig, "--http", "127.0.0.1:0", env={"BRIG_FAILPOINT": point} if point else {})
        return brig, server

    @staticmethod
    def records(brig):
        done = brig.call("volume", "ls", "-o", "json")
        return [(v["name"], v["id"]) for v in json.loads(done.out)] if done.code == 0 else None

    @staticmethod
    def files(data):
        folder = data / "volumes"
        return sorted(p.name for p in folder.iterdir() if p.name != "lock") if folder.exists() else []

    def killed_at(self, point):
        data = brigtest.SCRATCH / f"volume-{point}"
        data.mkdir(mode=0o711)
        small = ("--size", "16m", "--inodes", "64")
        # What was there before is there afterwards.
        brig, server = self.serve(data)
        self.assertOk(brig.call("volume", "create", "old", *small))
        self.assertOk(brig.run("--volume", "old:/d", "--", "sh", "-c", "echo kept >/d/f"))
        self.assertEqual(server.stop(), 0)
        brig, server = self.serve(data, point)
        codes = [brig.call(*c, timeout=30).code for c in (
            ("volume", "create", "new", *small), ("volume", "snapshot", "old", "snap"),
            ("run", "--image", "host", "--volume", "old:/d", "--", "true"), ("volume", "inspect", "old"),
            ("volume", "rm", "new"))]
        # Negative control: the point was passed by something.
        self.assertTrue(any(codes), f"'{point}' killed nobody: {codes}")
        server.stop()
        self.orphans()
        brig, server = self.serve(data)
        try:
            def settled():
                rows = self.records(brig)
                return rows if rows is not None and sorted(i for _, i in rows) == self.files(data) else None
            rows = dict(wait_until("records and disk agree", settled,
                                   explain=lambda: (self.records(brig), self.files(data))))
            self.assertIn("old", rows)
            for name in rows:
                done = brig.run("--volume", f"{name}:/d:ro", "--", "sh", "-c", "cat /d/f 2>/dev/null || echo empty")
                self.assertEqual(done.out, b"empty\n" if name == "new" else b"kept\n", done)
            self.assertOk(brig.call("volume", "rm", *rows))
            self.assertEqual(self.files(data), [])
        finally:
            server.stop()
        self.recovered()


def _add(point):
    def test(self):
        self.killed_at(point)
    setattr(Deaths, f"test_at_{point.replace('.', '_')}", test)


for _point in POINTS:
    _add(_point)
