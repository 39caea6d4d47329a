# SPDX-License-Identifier: Apache-2.0
"""Snapshots when something dies at any step of them: each is whole or not there, what was half written is
swept, and what was taken before is not touched."""

import json
import re
import shutil
import urllib.request

import brigtest
from brigtest import Brig, Server, wait_until
from faults import Fault, failpoints

POINTS = [p for p in failpoints() if not p[1].startswith("src/image/")]
# Of the command line, which failpoints() leaves out.
TAKEN = ["snapshot.written", "snapshot.named", "snapshot.record", "snapshot.kept"]
DROPPED = ["snapshot.drop", "snapshot.dropped"]


class Snapshots(Fault):
    def setUp(self):
        super().setUp()
        self.data = self.tmp / "data"
        self.addCleanup(shutil.rmtree, self.data, True)

    def folder(self, name="snapshots"):
        folder = self.data / name
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []

    def server(self, *args, **env):
        server = Server(Brig(data=self.data), *args, env=env)
        self.addCleanup(server.ended)
        self.addCleanup(server.process.terminate)
        return server

    def source(self, brig):
        self.assertOk(brig.call("create", "--image", "host", "--name", "source"))
        self.assertOk(brig.call("exec", "source", "sh", "-c", "echo kept >file; head -c 2000000 /dev/zero >big"))

    def whole(self, brig, ref):
        done = brig.call("run", "--snapshot", ref, "--", "cat", "file")
        self.assertEqual((done.code, done.out), (0, b"kept\n"), str(done))

    def taken(self, point):
        server = self.server()
        brig = server.brig
        self.source(brig)
        first = brig.call("snapshot", "create", "source").text.strip()
        done = brig.call("snapshot", "create", "source", env={"BRIG_FAILPOINT": point})
        self.assertEqual(done.code, 137, f"'{point}' is not passed: {done}")
        there = [s["id"] for s in brig.json("snapshot", "ls")]
        self.assertEqual(len(there), 2 if point == "snapshot.kept" else 1, there)
        third = brig.call("snapshot", "create", "source").text.strip()
        for id_ in [*there, third]:
            self.whole(brig, id_)
        self.assertIn(first, there)
        # The third has swept what the second left.
        self.assertEqual(self.folder(), sorted(f"{i}.{k}" for i in [*there, third] for k in ("json", "layer")))
        server.stop()

    def dropped(self, point):
        server = self.server()
        brig = server.brig
        self.source(brig)
        keep, drop = (brig.call("snapshot", "create", "source").text.strip() for _ in range(2))
        done = brig.call("snapshot", "rm", drop, env={"BRIG_FAILPOINT": point})
        self.assertEqual(done.code, 137, f"'{point}' is not passed: {done}")
        there = [s["id"] for s in brig.json("snapshot", "ls")]
        self.assertEqual(there, [keep, drop] if point == "snapshot.drop" else [keep])
        for id_ in there:
            self.whole(brig, id_)
        for id_ in there[1:]:
            self.assertOk(brig.call("snapshot", "rm", id_))
        other = brig.call("snapshot", "create", "source").text.strip()
        self.assertEqual(self.folder(), sorted(f"{i}.{k}" for i in (keep, other) for k in ("json", "layer")))
        server.stop()

    def loaded(self, point, how=""):
        """brigd dies, or its step fails, while a sandbox gets its files."""
        server = self.server()
        brig = server.brig
        self.source(brig)
        snap = brig.call("snapshot", "create", "source").text.strip()
        server.stop()
        server = self.server(BRIG_FAILPOINT=point + how)
        brig = server.brig
        done = brig.call("create", "--snapshot", snap)
        self.assertCode(done, 125)
        self.assertTrue(done.errors.startswith("brig: "), str(done))
        if not how:
            wait_until("brigd was replaced", lambda: re.search("brigd (was killed|ended)", server.text()))
        # Nothing half made stayed behind.
        wait_until("no sandbox", lambda: brig.json("ls") == [])
        server.stop(15)
        self.whole(Brig(data=self.data), snap)

    def undone(self, point):
        """brigd dies while a sandbox goes back: the files it was to go back to are where they were."""
        server = self.server(BRIG_FAILPOINT=point)
        brig = server.brig
        self.source(brig)
        check = brig.call("checkpoint", "source").text.strip()
        done = brig.call("undo", "source")
        self.assertCode(done, 125)
        wait_until("brigd was replaced", lambda: re.search("brigd (was killed|ended)", server.text()))
        # It is as it was, or nothing of it runs, and the checkpoint makes another.
        for box in brig.json("ls"):
            if box["state"] == "stopped":
                continue
            done = brig.call("exec", box["id"], "cat", "file")
            self.assertEqual((done.code, done.out), (0, b"kept\n"), str(done))
        self.whole(brig, check)
        server.stop(15)

    def http(self, server, method, path, body=None):
        port = int(wait_until("the port", lambda: re.search(r"HTTP on http://127\.0\.0\.1:(\d+)", server.text())).group(1))
        key = wait_until("the key", lambda: re.search(r"\b(e2b_[0-9a-f]{64})\n", self.texts)).group(1)
        req = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers={"X-API-KEY": key},
                                     data=json.dumps(body or {}).encode() if method == "POST" else None)
        with urllib.request.urlopen(req, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def api(self, point):
        server = self.server("--http", "127.0.0.1:0")
        self.texts = wait_until("the key", lambda: server.text() if "e2b_" in server.text() else None)
        box = self.http(server, "POST", "/v2/sandboxes", {"templateID": "host", "timeout": 600})["sandboxID"]
        before = self.http(server, "POST", f"/v1/sandboxes/{box}/snapshots", {"name": "before"})["id"]
        server.stop()
        server = self.server("--http", "127.0.0.1:0", BRIG_FAILPOINT=point)
        box = self.http(server, "POST", "/v2/sandboxes", {"templateID": before, "timeout": 600})["sandboxID"]
        drop = point == "api.snapshot.dropped"
        with self.assertRaises(OSError):
            if drop:
                self.http(server, "DELETE", "/v1/snapshots/before")
            else:
                self.http(server, "POST", f"/v1/sandboxes/{box}/snapshots", {"name": "second"})
        wait_until("brig-api was replaced", lambda: re.search("brig-api (was killed|ended)", server.text()))

        def listed():
            try:
                return [s["id"] for s in self.http(server, "GET", "/v1/snapshots")["snapshots"]]
            except OSError:
                return None
        there = wait_until("brig-api is back", lambda: (listed() or [""])[0:] if listed() is not None else None)
        there = [i for i in there if i]
        self.assertEqual(before in there, not drop)
        self.assertEqual(len(there), 0 if drop else 2 if point == "api.snapshot.recorded" else 1)
        # Whatever has a record has its file, nothing else has one, and each makes a sandbox.
        self.assertEqual(self.folder("api/snapshots"), sorted(there))
        for id_ in there:
            self.http(server, "POST", "/v2/sandboxes", {"templateID": id_, "timeout": 600})
        server.stop(15)


def add(cls, name, fn):
    fn.__name__ = fn.__qualname__ = "test_" + name
    setattr(cls, fn.__name__, fn)


for _point in TAKEN:
    add(Snapshots, "create_" + _point.replace(".", "_"), lambda self, p=_point: self.taken(p))
for _point in DROPPED:
    add(Snapshots, "rm_" + _point.replace(".", "_"), lambda self, p=_point: self.dropped(p))
for _name, _file, _fails in POINTS:
    if _name.startswith("layer."):
        add(Snapshots, "load_kill_" + _name.replace(".", "_"), lambda self, p=_name: self.loaded(p))
        if _fails:
            add(Snapshots, "load_error_" + _name.replace(".", "_"), lambda self, p=_name: self.loaded(p, "=error"))
    if _name.startswith("rewind."):
        add(Snapshots, "undo_" + _name.replace(".", "_"), lambda self, p=_name: self.undone(p))
    if _name.startswith("api.snapshot."):
        add(Snapshots, _name.replace(".", "_"), lambda self, p=_name: self.api(p))
