# SPDX-License-Identifier: Apache-2.0
"""The published Python client, the synchronous one: the main points of what *.mjs show of JavaScript's."""

import datetime
import hashlib
import os
import time
import unittest
import urllib.error
import urllib.request
import uuid

from e2b import (
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    FileType,
    InvalidArgumentException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from e2b.sandbox.filesystem.watch_handle import FilesystemEventType

SLOW = float(os.environ.get("BRIG_TEST_SLOW", "1"))


def until(what, condition, seconds=10):
    end = time.monotonic() + seconds * SLOW
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * SLOW} s: {what}")
        time.sleep(0.02)
    return value


class SyncCase(unittest.TestCase):
    maxDiff = 2000

    def create(self, template="base", **opts):
        opts.setdefault("timeout", 120)
        s = Sandbox.create(template, **opts)
        self.addCleanup(Sandbox.kill, s.sandbox_id)
        return s


class Control(SyncCase):
    def test_a_sandbox_has_what_it_was_given(self):
        metadata = {"a": "b c&=", "k é": "ü"}
        s = self.create(timeout=60, metadata=metadata, envs={"FOO": "bar"})
        self.assertRegex(s.sandbox_id, "^[a-z0-9]+$")
        info = s.get_info()
        now = datetime.datetime.now(datetime.timezone.utc)
        self.assertEqual((info.sandbox_id, info.state, info.metadata),
                         (s.sandbox_id, SandboxState.RUNNING, metadata))
        self.assertAlmostEqual((info.end_at - now).total_seconds(), 60, delta=3)
        self.assertAlmostEqual((info.started_at - now).total_seconds(), 0, delta=3)
        self.assertEqual(s.commands.run("echo $FOO").stdout, "bar\n")

    def test_errors_have_their_kinds(self):
        with self.assertRaisesRegex(SandboxException, "404"):
            Sandbox.create("no-such-template")
        with self.assertRaises(AuthenticationException):
            Sandbox.create("base", api_key="e2b_00")
        s = self.create()
        self.assertTrue(s.is_running())
        self.assertIs(s.kill(), True)
        self.assertFalse(s.is_running())
        self.assertIs(s.kill(), False)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.connect(s.sandbox_id)
        with self.assertRaises(SandboxNotFoundException):
            s.get_info()

    def test_lists_are_filtered_and_paged(self):
        metadata = {"run": uuid.uuid4().hex, "a": "b c&=é"}
        ids = [self.create(metadata=metadata).sandbox_id for _ in range(2)]
        pages = Sandbox.list(query=SandboxQuery(metadata=metadata), limit=1)
        self.assertEqual([i.sandbox_id for i in pages.next_items()], [ids[1]])
        self.assertTrue(pages.has_next)
        self.assertEqual([i.sandbox_id for i in pages.next_items()], [ids[0]])
        self.assertFalse(pages.has_next)

    def test_pause_and_connect(self):
        s = self.create()
        s.files.write("kept", "kept")
        sleeper = s.commands.run("sleep 1000", background=True, timeout=0)
        self.assertIs(s.pause(), True)
        self.assertEqual(s.get_info().state, SandboxState.PAUSED)
        self.assertIs(s.pause(), False)
        again = Sandbox.connect(s.sandbox_id)
        self.assertEqual(again.sandbox_id, s.sandbox_id)
        self.assertEqual(again.files.read("kept"), "kept")
        self.assertIn(sleeper.pid, [p.pid for p in again.commands.list()])

    def test_the_end_can_be_moved(self):
        s = self.create()
        s.set_timeout(2)
        until("it has ended", lambda: not s.is_running(), 6)

    def test_snapshots_carry_files(self):
        s = self.create()
        s.files.write("f", "in the snapshot")
        snapshot = s.create_snapshot()
        copy = self.create(snapshot.snapshot_id)
        self.assertEqual(copy.files.read("f"), "in the snapshot")
        self.assertIn(snapshot.snapshot_id, [i.snapshot_id for i in s.list_snapshots().next_items()])
        self.assertIs(Sandbox.delete_snapshot(snapshot.snapshot_id), True)
        self.assertIs(Sandbox.delete_snapshot(snapshot.snapshot_id), False)

    def test_metrics_are_gathered(self):
        s = self.create()
        metrics = until("metrics are there", s.get_metrics, 20)
        self.assertGreater(metrics[-1].mem_total, metrics[-1].mem_used)
        self.assertGreaterEqual(metrics[-1].cpu_count, 1)


class Commands(SyncCase):
    def test_output_codes_and_variables(self):
        s = self.create()
        r = s.commands.run("echo hi; echo e >&2; echo $A", envs={"A": "b"})
        self.assertEqual((r.exit_code, r.stdout, r.stderr), (0, "hi\nb\n", "e\n"))
        with self.assertRaises(CommandExitException) as e:
            s.commands.run("echo out; exit 3")
        self.assertEqual((e.exception.exit_code, e.exception.stdout), (3, "out\n"))
        self.assertEqual(s.commands.run("pwd; id -un").stdout, "/home/user\nuser\n")
        self.assertEqual(s.commands.run("pwd; id -un", cwd="/tmp", user="root").stdout, "/tmp\nroot\n")

    def test_what_cannot_start_says_why(self):
        s = self.create()
        with self.assertRaisesRegex(InvalidArgumentException, "/nope"):
            s.commands.run("true", cwd="/nope")
        with self.assertRaises(AuthenticationException):
            s.commands.run("true", user="nobody-here")

    def test_time_limits(self):
        s = self.create()
        start = time.monotonic()
        with self.assertRaises(TimeoutException):
            s.commands.run("exec sleep 1000", timeout=1)
        self.assertLess(time.monotonic() - start, 4 * SLOW)
        until("the process is gone", lambda: s.commands.run("pgrep -x sleep || true").stdout == "")

    def test_input_and_its_end(self):
        s = self.create()
        cat = s.commands.run("cat", background=True, stdin=True)
        s.commands.send_stdin(cat.pid, "abcé\n")
        s.commands.close_stdin(cat.pid)
        self.assertEqual(cat.wait().stdout, "abcé\n")

    def test_input_in_one_stream(self):
        s = self.create()
        cat = s.commands.run("sha256sum", background=True, stdin=True)
        pieces = [bytes([i]) * 50000 for i in range(20)]
        s.commands.stream_input(cat.pid, pieces)
        s.commands.close_stdin(cat.pid)
        self.assertEqual(cat.wait().stdout.split()[0], hashlib.sha256(b"".join(pieces)).hexdigest())

    def test_lists_and_kills(self):
        s = self.create()
        c = s.commands.run("sleep 1000", background=True)
        self.assertEqual([(p.pid, p.cmd) for p in s.commands.list()], [(c.pid, "/bin/bash")])
        self.assertIs(s.commands.kill(c.pid), True)
        with self.assertRaises(CommandExitException):
            c.wait()
        self.assertIs(s.commands.kill(c.pid), False)
        self.assertIs(s.commands.kill(999999), False)

    def test_attaching_to_a_running_command(self):
        s = self.create()
        cat = s.commands.run("cat", background=True, stdin=True)
        other = Sandbox.connect(s.sandbox_id)
        second = other.commands.connect(cat.pid)
        cat.disconnect()
        s.commands.send_stdin(cat.pid, "later\n")
        s.commands.close_stdin(cat.pid)
        self.assertEqual(second.wait().stdout, "later\n")

    def test_a_mebibyte_of_output(self):
        s = self.create()
        out = s.commands.run("head -c 1048576 /dev/zero | base64 -w0").stdout
        self.assertEqual((len(out), out.strip("A")), (1398104, "=="))
        text = s.commands.run("python3 -c \"print('aé€😀' * 50000, end='')\"").stdout
        self.assertEqual(text, "aé€😀" * 50000)

    def test_a_killed_sandbox_ends_its_commands(self):
        s = self.create()
        c = s.commands.run("sleep 60", background=True)
        s.kill()
        with self.assertRaisesRegex(TimeoutException, "killed or reached its end of life"):
            c.wait()

    def test_a_terminal(self):
        from e2b import PtySize
        s = self.create()
        seen = []
        p = s.pty.create(PtySize(rows=24, cols=80))
        s.pty.send_stdin(p.pid, b'echo "size $(tput cols)"; exit\n')
        r = p.wait(on_pty=lambda d: seen.append(d))
        self.assertEqual(r.exit_code, 0)
        self.assertIn(b"size 80", b"".join(seen))


class Files(SyncCase):
    def test_writing_and_reading_in_every_form(self):
        s = self.create()
        said = s.files.write("d/e/a.txt", "xé")
        self.assertEqual((said.name, said.type, said.path), ("a.txt", FileType.FILE, "/home/user/d/e/a.txt"))
        self.assertEqual(s.files.read("d/e/a.txt"), "xé")
        self.assertEqual(bytes(s.files.read("d/e/a.txt", format="bytes")), "xé".encode())
        self.assertEqual(b"".join(s.files.read("d/e/a.txt", format="stream")), "xé".encode())
        data = os.urandom(3 << 20)
        s.files.write("big", data)
        self.assertEqual(bytes(s.files.read("big", format="bytes")), data)
        s.files.write("empty", "")
        self.assertEqual(s.files.read("empty"), "")
        many = s.files.write_files([{"path": f"m/{i}", "data": str(i)} for i in range(10)])
        self.assertEqual([w.path for w in many], [f"/home/user/m/{i}" for i in range(10)])
        self.assertEqual(s.files.read("m/7"), "7")

    def test_metadata_is_replaced(self):
        s = self.create()
        s.files.write("m", "x", metadata={"author": "me"})
        self.assertEqual(s.files.get_info("m").metadata, {"author": "me"})
        s.files.write("m", "x")
        self.assertFalse(s.files.get_info("m").metadata)

    def test_what_is_missing(self):
        s = self.create()
        for call in (lambda: s.files.read("missing"), lambda: s.files.get_info("missing"),
                     lambda: s.files.list("missing"), lambda: s.files.rename("missing", "x")):
            with self.assertRaises(FileNotFoundException):
                call()
        self.assertIs(s.files.exists("missing"), False)
        s.files.remove("missing")

    def test_folders_and_entries(self):
        s = self.create()
        self.assertIs(s.files.make_dir("a/b"), True)
        self.assertIs(s.files.make_dir("a/b"), False)
        s.files.write("a/f", "hello")
        s.commands.run("ln -s f a/link")
        self.assertEqual([(e.name, e.type) for e in s.files.list("a")],
                         [("b", FileType.DIR), ("f", FileType.FILE), ("link", FileType.FILE)])
        f = s.files.get_info("a/f")
        self.assertEqual((f.size, f.mode, f.permissions, f.owner), (5, 0o644, "-rw-r--r--", "user"))
        self.assertEqual(s.files.get_info("a/link").symlink_target, "/home/user/a/f")
        self.assertEqual(s.files.rename("a/f", "g").path, "/home/user/g")

    def test_watching_by_asking(self):
        s = self.create()
        s.files.make_dir("w")
        watch = s.files.watch_dir("w", recursive=True)
        seen = []

        def has(kind, name):
            seen.extend((e.type, e.name) for e in watch.get_new_events())
            return (kind, name) in seen

        s.files.write("w/a", "x")
        until("create of a", lambda: has(FilesystemEventType.CREATE, "a"))
        s.files.write("w/new/b", "x")
        until("create of new/b", lambda: has(FilesystemEventType.CREATE, "new/b")
              or has(FilesystemEventType.WRITE, "new/b"))
        s.files.remove("w/a")
        until("remove of a", lambda: has(FilesystemEventType.REMOVE, "a"))
        watch.stop()
        with self.assertRaises(FileNotFoundException):
            s.files.watch_dir("missing")

    def test_signed_urls(self):
        s = self.create()
        s.files.write("a b", "signed")
        with urllib.request.urlopen(s.download_url("a b")) as r:
            self.assertEqual(r.read(), b"signed")
        with self.assertRaises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(s.download_url("a b", use_signature_expiration=-100))
        self.assertEqual(e.exception.code, 401)
        e.exception.close()
