# SPDX-License-Identifier: Apache-2.0
"""Every step that changes something outside of a process, and at each: the process is killed there, the
step fails there, the process stalls there. (Failpoints: src/base/failpoint.h; the list is taken from the
sources, so a new one is tested without a change here.)"""

import os
import shutil
import signal
import time

import brigtest
import hoststate
import ocilayout
from brigtest import Brig, Server
from faults import Fault, failpoints

POINTS = failpoints()
# Passed by a command in a living sandbox only, not by the one command of a `run`.
# (or by a brigd that takes over).
SERVED_ONLY = {"exec.ending", "adopt.greet", "adopt.done", "record.write", "jail.kept"}
# By none of these: tests/fault/test_adopt.py, test_rejoin.py
ELSEWHERE = {"adopt.box", "freeze.sent", "freeze.answered", "jail.recovered", "rejoin.hello", "rejoin.done"}
# tests/fault/test_snapshots.py
ELSEWHERE |= {p[0] for p in POINTS if p[0].startswith(("layer.", "rewind.", "api.snapshot."))
              and not p[1].startswith("src/image/")}
# Passed by brig-image, which is another program with its own way to fail.
IMAGE_POINTS = [p for p in POINTS if p[1].startswith("src/image/")]
# Of volumes, which a private server has not: tests/fault/test_volume_deaths.py
VOLUME_POINTS = [p for p in POINTS if p[0].startswith("volume.") or p[0] == "jail.volume"]
RUN_POINTS = [p for p in POINTS if not p[1].startswith("src/image/") and p[0] not in ELSEWHERE
              and p not in VOLUME_POINTS]


def tree_make(path):
    """A root file system to import: one static program."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise brigtest.unittest.SkipTest("'busybox' is not installed (package busybox-static)")
    for d in ("bin", "etc", "tmp", "proc", "sys", "dev", "run"):
        (path / d).mkdir(parents=True)
    shutil.copy(busybox, path / "bin" / "busybox")
    for name in ("sh", "echo", "sleep"):
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (path / "etc" / "group").write_text("root:x:0:\n")


def tier_of(name):
    """How to get to a point that is passed in one tier only."""
    if not name.startswith("keeper."):
        return []
    brigtest.need_program("runsc")
    return ["--tier", "gvisor"]


class WithImage(Fault):
    """Images other than the built-in one take one step more."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = brigtest.SCRATCH / "fault-data"
        cls.tree = brigtest.SCRATCH / "fault-tree"
        if not cls.tree.exists():
            tree_make(cls.tree)
            brig = Brig(data=cls.data, image="small")
            # Without a fault everything works, or what follows would show nothing.
            for done in (brig.call("image", "import", "small", cls.tree), brig.run("--", "echo", "x")):
                if done.code:
                    raise AssertionError(str(done))


class Run(WithImage):
    """A private server: create, one command, delete."""

    # A run that ends by itself, and one that is ended: between them they pass every point.
    COMMANDS = (["--", "sh", "-c", "echo out; echo x >/tmp/f"],
                ["--timeout", "200ms", "--", "sh", "-c", "echo out; sleep 9"])

    def kill(self, name):
        brig = Brig(data=self.data, image="small")
        tier = tier_of(name)
        for command in self.COMMANDS:
            done = brig.run(*tier, *command, timeout=30, env={"BRIG_FAILPOINT": name})
            self.assertIn(done.code, (0, 124, 125), str(done))
            if done.code == 125:
                # brig saw a daemon or the sandbox's first process go.
                self.assertRegex(done.errors, r"brig: .*(ended|set-up|gone)", str(done))
                break
            # Otherwise it happens after the command has ended: the result is right, and a daemon dies.
            self.assertEqual(done.out, b"out\n", str(done))
            if self.victims(2.0):
                break
        else:
            self.fail(f"nobody was killed: '{name}' is not passed by a run")
        self.recovered()

    def error(self, name):
        brig = Brig(data=self.data, image="small")
        done = brig.run("--", "echo", "out", timeout=30, env={"BRIG_FAILPOINT": f"{name}=error"})
        if name == "image.send":
            # It fails where a private server looks ahead; the request does it once more.
            self.assertEqual((done.code, done.out), (0, b"out\n"), str(done))
            return self.recovered()
        self.assertCode(done, 125)
        self.assertEqual(done.out, b"", str(done))
        self.assertRegex(done.errors, r"^brig: .*(Input/output|I/O) error", str(done))
        self.recovered()

    def stall(self, name):
        brig = Brig(data=self.data, image="small")
        start = time.monotonic()
        p = brig.popen("run", "--image", "small", "--", "sh", "-c", "echo out",
                       env={"BRIG_FAILPOINT": f"{name}=stall"})
        time.sleep(0.3)
        p.send_signal(signal.SIGKILL)
        p.communicate()
        # What stalls for five seconds may be there until then, and two more.
        end = start + 5.5 * brigtest.SLOW
        while time.monotonic() < end and self.left(0):
            time.sleep(0.05)
        left = self.left(brigtest.GONE_S)
        self.assertEqual(left, {}, hoststate.explain(left))
        self.recovered()


class Serve(WithImage):
    """A resident server that starts again what died: create, exec, delete, each from a client of its
    own. Everything answers, in time, with success or one clear error."""

    def kill(self, name):
        brig = Brig(data=self.data, image="small")
        server = Server(brig, env={"BRIG_FAILPOINT": name})
        self.addCleanup(server.process.kill)
        seen = ""
        tier = tier_of(name)
        for args in (["create", *tier, "--image", "small", "--name", "a"], ["exec", "a", "echo", "x"],
                     ["rm", "-f", "a"], ["run", *tier, "--image", "small", "--", "echo", "y"],
                     ["run", *tier, "--image", "small", "--timeout", "200ms", "--", "sleep", "9"]):
            done = brig.call(*args, timeout=20)
            self.assertIn(done.code, (0, 124, 125), str(done))
            if done.code == 125:
                self.assertTrue(done.errors.startswith("brig: "), str(done))
            seen += done.errors
            if server.process.poll() is not None:
                break
        server.stop(15)
        # A daemon was replaced, or a sandbox's first process did not come up, or not far.
        self.assertRegex(server.text() + seen, "(brigd|brig-jaild) (was killed|ended)|set-up|channel ended",
                         f"nobody died: '{name}' is not passed")
        self.recovered()


class Image(WithImage):
    """brig-image: an import is there completely or not at all, and what was left is removed."""

    def layers(self):
        """The same tree as an image of two layers."""
        bottom = []
        for path in sorted(self.tree.rglob("*")):
            name = str(path.relative_to(self.tree))
            if path.is_symlink():
                bottom.append(ocilayout.symlink(name, os.readlink(path)))
            elif path.is_dir():
                bottom.append(ocilayout.directory(name))
            else:
                bottom.append(ocilayout.entry(name, path.read_bytes(), mode=path.stat().st_mode & 0o777))
        image = ocilayout.Image([bottom, [ocilayout.entry("top", b"top")]])
        return f"oci:{image.layout(self.tmp / 'layout')}"

    def kill(self, name, how):
        data = self.tmp / "data"
        brig = Brig(data=data, image="second")
        source = self.layers() if name.startswith("layer.") else self.tree
        done = brig.call("image", "import", "second", source, env={"BRIG_FAILPOINT": name + how})
        self.assertNotEqual(done.code, 0, f"'{name}' is not passed by an import")
        # Nothing half made can be run.
        done = brig.run("--", "echo", "x")
        if done.code:
            self.assertRefused(done, 125, "second|image")
        self.assertOk(brig.call("image", "import", "second", source))
        done = brig.run("--", "echo", "x")
        self.assertEqual((done.code, done.out), (0, b"x\n"), str(done))
        self.orphans()
        self.assertOk(brig.call("gc", "--prove"))
        self.assertEqual(os.listdir(data / "tmp") if (data / "tmp").exists() else [], [])
        self.recovered()


class Table(WithImage):
    def test_the_sources_have_failpoints_for_create_exec_and_delete(self):
        names = {name.split(".")[0] for name, _, _ in POINTS}
        self.assertLessEqual({"create", "exec", "destroy", "jail", "stage", "image"}, names)


def _add(cls, test, body):
    setattr(cls, "test_" + test.replace(".", "_"), body)


for _name, _, _handled in RUN_POINTS:
    if _name not in SERVED_ONLY:
        _add(Run, f"killed_at_{_name}", lambda self, n=_name: self.kill(n))
    _add(Serve, f"killed_at_{_name}", lambda self, n=_name: self.kill(n))
    if _handled:
        _add(Run, f"error_at_{_name}", lambda self, n=_name: self.error(n))
for _name in ("create.sent", "jail.cgroup", "stage.rooted", "stage.confined", "jail.undo"):
    if any(_name == n for n, _, _ in POINTS):
        _add(Run, f"stalled_at_{_name}", lambda self, n=_name: self.stall(n))
for _name, _, _ in IMAGE_POINTS:
    _add(Image, f"killed_at_{_name}", lambda self, n=_name: self.kill(n, ""))
    _add(Image, f"error_at_{_name}", lambda self, n=_name: self.kill(n, "=error"))
