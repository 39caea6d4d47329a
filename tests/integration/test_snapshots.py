# SPDX-License-Identifier: Apache-2.0
"""`brig snapshot`, `brig fork` and --snapshot: files of a sandbox that outlive it, and copies of it."""

import json
import os
import secrets
import shutil
import threading

import brigtest
import hoststate
from brigtest import MIB, Brig, ResidentCase, Server, TestCase
from remotecase import RemoteCase



class Cases:
    def create(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def sh(self, box, script, user="user"):
        done = self.brig.call("exec", "--user", user, box, "sh", "-c", script)
        self.assertOk(done)
        return done.text

    def snapshot(self, box, *args):
        done = self.brig.call("snapshot", "create", box, *args)
        self.assertOk(done)
        return done.text.strip()

    def folder(self):
        try:
            return sorted(os.listdir(self.data / "snapshots"))
        except FileNotFoundError:
            return []


class Snapshots(Cases, ResidentCase):
    @classmethod
    def setUpClass(cls):
        super(ResidentCase, cls).setUpClass()
        cls.data = brigtest.SCRATCH / f"snapshots-{secrets.token_hex(4)}"
        cls.class_before = hoststate.snapshot()
        cls.class_brig = Brig(data=cls.data)
        cls.server = Server(cls.class_brig)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.data, ignore_errors=True)

    def setUp(self):
        super().setUp()
        for one in self.brig.json("snapshot", "ls"):
            self.brig.call("snapshot", "rm", one["id"])

    def test_files_come_back_after_their_sandbox_is_gone(self):
        box = self.create("--name", "source", "-e", "A=1", "-e", "B=2", "-m", "200m")
        self.sh(box, "echo text >mark; chmod 640 mark; rm /etc/shells; head -c 5000000 /dev/urandom >mark-big", "root")
        self.sh(box, "echo mine >/home/user/mark")
        want = self.sh(box, "sha256sum /mark-big /mark; cat ~/mark; ls /etc/shells 2>&1 || :", "root")
        snap = self.snapshot(box, "--name", "kept")
        self.assertOk(self.brig.call("rm", "-f", box))
        told = self.brig.json("snapshot", "inspect", "kept")[0]
        self.assertEqual((told["id"], told["taken"], told["sandbox"], told["image"]), (snap, ["files"], box, "host"))
        self.assertGreater(told["bytes"], 5000000)
        # By id, name and beginning; as a sandbox that stays and as a run.
        for ref in (snap, "kept", snap[:10]):
            other = self.brig.call("create", "--snapshot", ref).text.strip()
            self.assertEqual(self.sh(other, "sha256sum /mark-big /mark; cat ~/mark; ls /etc/shells 2>&1 || :", "root"),
                             want)
        done = self.brig.call("run", "--snapshot", "kept", "-e", "B=3", "--", "sh", "-c",
                              "cat ~/mark; echo $A $B; cat; exit 7", input=b"input\n")
        self.assertEqual((done.code, done.text), (7, "mine\n1 3\ninput\n"), str(done))
        limits = self.brig.json("inspect", other)[0]["limits"]
        self.assertEqual(limits["memory_bytes"], 200 * MIB)
        self.assertOk(self.brig.call("snapshot", "rm", "kept"))
        self.assertEqual(self.folder(), [])
        self.assertEqual(self.sh(other, "cat ~/mark"), "mine\n")

    def test_what_is_refused(self):
        box = self.create()
        self.snapshot(box, "--name", "taken")
        call = self.brig.call
        self.assertRefused(call("snapshot", "create", box, "--name", "taken"), 125, "is taken", "remedy")
        self.assertRefused(call("snapshot", "create", "nobody"), 125, "no sandbox")
        self.assertRefused(call("snapshot", "create", box, "--name", "a/b"), 2, "name")
        self.assertRefused(call("create", "--snapshot", "nothing"), 125, "no snapshot", "brig snapshot ls")
        self.assertRefused(call("run", "--snapshot", "taken", "--image", "host", "--", "true"), 2, "--image")
        self.assertRefused(call("snapshot", "rm", "nothing"), 125, "no snapshot")
        self.assertOk(call("pause", box))
        self.assertRefused(call("snapshot", "create", box), 125, "is paused", "brig unpause")
        # What was begun is swept by the next.
        self.assertOk(call("unpause", box))
        self.snapshot(box)
        self.assertEqual(len(self.folder()), 4, self.folder())

    def test_a_layer_that_does_not_fit_or_is_damaged_leaves_no_sandbox(self):
        box = self.create()
        self.sh(box, "head -c 20000000 /dev/urandom >big")
        snap = self.snapshot(box)
        before = self.brig.json("ls")
        done = self.brig.call("create", "--snapshot", snap, "--disk", "4m")
        self.assertRefused(done, 125, "No space left", "--disk")
        done = self.brig.call("run", "--snapshot", snap, "--disk", "4m", "--", "echo", "started")
        self.assertRefused(done, 125, "No space left")
        self.assertEqual(done.out, b"")
        layer = self.data / "snapshots" / f"{snap}.layer"
        whole = layer.read_bytes()
        # A flipped type, and an end that is missing: the agent says no to both.
        layer.write_bytes(whole[:16 + 4] + b"\xff" + whole[16 + 5:])
        self.assertRefused(self.brig.call("create", "--snapshot", snap), 125, "put the files")
        layer.write_bytes(whole[:-40])
        self.assertRefused(self.brig.call("create", "--snapshot", snap), 125, "not as long")
        record = layer.with_suffix(".json")
        told = json.loads(record.read_text())
        told["bytes"] = len(whole) - 40
        record.write_text(json.dumps(told))
        self.assertRefused(self.brig.call("create", "--snapshot", snap), 125, "ends early")
        brigtest.wait_until("nothing else is there",
                            lambda: [b["id"] for b in self.brig.json("ls")] == [b["id"] for b in before])

    def test_a_detached_run_from_a_snapshot(self):
        box = self.create()
        self.sh(box, "echo from >it")
        snap = self.snapshot(box)
        done = self.brig.call("run", "-d", "--snapshot", snap, "--", "sh", "-c", "cat it; exec sleep 1000")
        self.assertOk(done)
        other = done.text.strip()
        brigtest.wait_until("it has written", lambda: self.brig.call("logs", other).text == "from\n")

    def test_a_client_that_goes_while_files_are_put_in_place(self):
        box = self.create()
        self.sh(box, "for i in $(seq 20); do head -c 4000000 /dev/urandom >f$i; done")
        snap = self.snapshot(box)
        for _ in range(5):
            p = self.brig.popen("run", "--snapshot", snap, "--", "sleep", "1000")
            p.kill()
            p.wait()
        brigtest.wait_until("nothing else is there", lambda: [b["id"] for b in self.brig.json("ls")] == [box])

    def test_forks_are_apart(self):
        box = self.create("--label", "a=b", "-e", "V=1", "--pids", "77")
        self.sh(box, "echo one >file; mkdir -p d/e; echo deep >d/e/f")
        ids = self.brig.call("fork", box, "--count", "3").text.split()
        self.assertEqual(len(set(ids + [box])), 4)
        for i, id_ in enumerate(ids):
            self.assertEqual(self.sh(id_, "cat file d/e/f; echo $V"), "one\ndeep\n1\n")
            self.sh(id_, f"echo {i} >file; rm -r d")
        self.sh(box, "echo parent >file")
        for i, id_ in enumerate(ids):
            self.assertEqual(self.sh(id_, "cat file; ls"), f"{i}\nfile\n")
        self.assertEqual(self.sh(box, "cat file d/e/f"), "parent\ndeep\n")
        told = self.brig.json("inspect", ids[0])[0]
        self.assertEqual((told["labels"], told["limits"]["pids"]), ({"a": "b"}, 77))
        self.assertEqual(self.folder(), [])
        self.assertRefused(self.brig.call("fork", box, "-n", "65"), 2, "1 to 64")
        self.assertRefused(self.brig.call("fork", "nobody"), 125, "no sandbox")

    def test_a_fork_shares_no_volume(self):
        shared = self.tmp / "shared"
        shared.mkdir(mode=0o755)
        box = self.create("--volume", f"{shared}:/shared:ro")
        self.assertRefused(self.brig.call("fork", box), 125, "volumes", "brig snapshot create")

    def diff(self, *args):
        done = self.brig.call("diff", *args)
        self.assertOk(done)
        return done.text.splitlines()

    def test_what_changed(self):
        box = self.create("--name", "changed")
        self.assertEqual(self.diff(box), [])
        self.sh(box, "echo x >>/etc/hosts; rm /etc/shells; rm -r /var/log; echo d >/var/log; mkdir -p /srv/a/b; "
                     "echo y >/srv/a/b/c; ln -s x /home/user/l; rm -r /opt; mkdir /opt; mkfifo /opt/f", "root")
        first = ["C /etc", "C /etc/hosts", "D /etc/shells", "C /home", "C /home/user", "A /home/user/l", "C /opt",
                 "A /opt/f", "C /srv", "A /srv/a", "A /srv/a/b", "A /srv/a/b/c", "C /var", "C /var/log"]
        self.assertEqual(self.diff("changed"), first)
        one = self.snapshot(box, "--name", "one")
        # Of a snapshot as of the sandbox, also when that is gone; and a copy has changed the same.
        self.assertEqual(self.diff("one"), first)
        self.assertEqual(self.diff(self.brig.call("create", "--snapshot", one).text.strip()), first)
        rows = self.brig.json("diff", "one")
        self.assertEqual([f"{r['kind']} {r['path']}" for r in rows], first)
        self.sh(box, "rm -r /srv/a; echo z >/home/user/n; echo y >/etc/hosts; cp /etc/hostname /etc/shells; rm /opt/f; "
                     "chmod 600 /etc/passwd", "root")
        second = ["C /etc", "C /etc/hosts", "C /etc/passwd", "A /etc/shells", "C /home/user", "A /home/user/n",
                  "C /opt", "D /opt/f", "C /srv", "D /srv/a", "D /srv/a/b", "D /srv/a/b/c"]
        self.assertEqual(self.diff("one", box), second)
        self.snapshot(box, "--name", "two")
        self.assertEqual(self.diff("one", "two"), second)
        back = {"A": "D", "D": "A", "C": "C"}
        self.assertEqual(self.diff("two", "one"), [back[d[0]] + d[1:] for d in second])
        self.assertEqual(self.diff("one", "one"), [])
        self.assertRefused(self.brig.call("diff", "nothing"), 125, "no sandbox")
        self.assertRefused(self.brig.call("diff", box, "one"), 125, "no snapshot")

    def test_a_diff_of_names_and_contents_that_are_strange(self):
        box = self.create()
        self.sh(box, r"""python3 -c 'import os; os.chdir(b"/home/user"); open(b"\xff\n\x1b[31m", "w")'""")
        self.assertIn("A /home/user/", "\n".join(self.diff(box)))
        self.assertNotIn("\x1b", "".join(self.diff(box)))
        snap = self.snapshot(box)
        layer = self.data / "snapshots" / f"{snap}.layer"
        whole = layer.read_bytes()
        for damaged in (whole[:20] + b"\xee" + whole[21:], b"", whole[:-1], b"x" * len(whole)):
            layer.write_bytes(damaged + whole[len(damaged):] if len(damaged) == len(whole) else damaged)
            self.assertRefused(self.brig.call("diff", snap), 125, "damaged|not as long")

    def test_back_to_a_checkpoint(self):
        box = self.create("--name", "back", "-e", "V=1", "--label", "a=b", "--memory", "200m")
        self.sh(box, "echo one >file")
        self.assertOk(self.brig.call("checkpoint", "back"))
        self.sh(box, "echo two >file")
        second = self.brig.call("checkpoint", "back").text.strip()
        self.assertOk(self.brig.call("exec", "-d", box, "sleep", "1000"))
        # All that can be deleted is.
        self.brig.call("exec", "-u", "root", box, "sh", "-c", "rm -rf /etc /home /var /tmp/* /bin 2>/dev/null")
        done = self.brig.call("undo", box)
        self.assertEqual((done.code, done.text), (0, second + "\n"), str(done))
        self.assertEqual(self.sh(box, "cat file; echo $V; ls /etc/passwd"), "two\n1\n/etc/passwd\n")
        told = self.brig.json("inspect", "back")[0]
        self.assertEqual((told["id"], told["state"], told["labels"], told["execs"], told["limits"]["memory_bytes"]),
                         (box, "ready", {"a": "b"}, [], 200 * MIB))
        self.assertOk(self.brig.call("undo", box, "2"))
        self.assertEqual(self.sh(box, "cat file"), "one\n")
        # What came after has not happened, and what it went back to is still there.
        for _ in range(10):
            self.sh(box, "echo again >file")
            self.assertOk(self.brig.call("undo", box))
            self.assertEqual(self.sh(box, "cat file"), "one\n")
        self.assertRefused(self.brig.call("undo", box, "2"), 125, "has 1 checkpoint", "brig checkpoint")
        self.assertRefused(self.brig.call("undo", box, "0"), 2, "1 .the last")
        self.assertOk(self.brig.call("pause", box))
        self.assertRefused(self.brig.call("undo", box), 125, "paused", "brig unpause")
        self.assertOk(self.brig.call("rm", "-f", box))
        self.assertEqual(self.folder(), [])

    def test_a_checkpoint_before_each_command_and_how_many_stay(self):
        box = self.create("--checkpoint", "exec")
        for i in range(10):
            self.sh(box, f"echo {i} >file")
        mine = [s for s in self.brig.json("snapshot", "ls") if s["kind"] == "checkpoint"]
        self.assertEqual([s["sandbox"] for s in mine], [box] * 8)
        self.assertOk(self.brig.call("undo", box, "3"))
        self.assertEqual(self.brig.call("run", "--snapshot", mine[-3]["id"], "--", "cat", "file").text, "6\n")
        self.assertOk(self.brig.call("checkpoint", box, "--keep", "2"))
        self.assertEqual(len(self.brig.json("snapshot", "ls")), 2)
        self.assertOk(self.brig.call("rm", "-f", box))
        self.assertEqual(self.folder(), [])

    def test_an_undo_that_fails_or_is_overtaken(self):
        shared = self.tmp / "shared"
        shared.mkdir(mode=0o755)
        box = self.create("--volume", f"{shared}:/shared:ro")
        self.assertOk(self.brig.call("checkpoint", box))
        self.assertRefused(self.brig.call("undo", box), 125, "volumes", "--snapshot")
        self.assertEqual(self.sh(box, "echo lives"), "lives\n")
        box = self.create()
        self.sh(box, "head -c 3000000 /dev/urandom >big")
        snap = self.brig.call("checkpoint", box).text.strip()
        layer = self.data / "snapshots" / f"{snap}.layer"
        whole = layer.read_bytes()
        layer.write_bytes(whole[:-1] + b"\xff")
        done = self.brig.call("undo", box)
        self.assertRefused(done, 125, "put the files")
        brigtest.wait_until("it is stopped", lambda: self.brig.json("inspect", box)[0]["state"] == "stopped")
        self.assertIn("could not be made again", self.brig.json("inspect", box)[0]["fault"])
        # The files are in their file, as before.
        layer.write_bytes(whole)
        other = self.brig.call("create", "--snapshot", snap).text.strip()
        self.assertEqual(self.sh(other, "wc -c <big"), "3000000\n")
        self.assertOk(self.brig.call("checkpoint", other))
        p = self.brig.popen("undo", other)
        self.brig.call("rm", "-f", other)
        p.communicate(timeout=30)
        self.assertNotIn(other, [b["id"] for b in self.brig.json("ls")])

    def test_many_at_once(self):
        box = self.create()
        self.sh(box, "head -c 1000000 /dev/urandom >f")
        done = []
        threads = [threading.Thread(target=lambda: done.append(self.brig.call("snapshot", "create", box)))
                   for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual([d.code for d in done], [0] * 6)
        self.assertEqual(len(self.brig.json("snapshot", "ls")), 6)
        self.assertEqual(len(self.folder()), 12, self.folder())


class Private(Cases, TestCase):
    def setUp(self):
        super().setUp()
        self.data = self.tmp / "data"
        self.brig = Brig(data=self.data)

    def test_a_run_without_a_server_begins_with_a_snapshot(self):
        server = Server(self.brig)
        box = self.create()
        self.sh(box, "echo kept >file")
        snap = self.snapshot(box)
        server.stop()
        done = self.brig.call("run", "--snapshot", snap, "--", "cat", "file")
        self.assertEqual((done.code, done.text), (0, "kept\n"), str(done))
        self.assertOk(self.brig.call("snapshot", "rm", snap))


class Elsewhere(Cases, RemoteCase):
    def test_files_come_back_on_a_server_elsewhere(self):
        box = self.create("--name", "far", "-e", "A=1", "-e", "B=2", "-m", "200m")
        self.sh(box, "echo far >file; head -c 3000000 /dev/urandom >big")
        want = self.sh(box, "sha256sum big file")
        snap = self.snapshot("far", "--name", "kept")
        self.assertOk(self.brig.call("rm", "-f", box))
        told = self.brig.json("snapshot", "ls")
        self.assertEqual([(s["id"], s["name"], s["sandbox"], s["taken"]) for s in told],
                         [(snap, "kept", box, ["files"])])
        self.assertEqual(self.brig.json("snapshot", "inspect", "kept"), told)
        self.assertRefused(self.brig.call("diff", "kept", snap), 125, "run it there")
        for ref in (snap, "kept"):
            other = self.brig.call("create", "--snapshot", ref).text.strip()
            self.assertEqual(self.sh(other, "sha256sum big file"), want)
        self.assertEqual(self.brig.json("inspect", other)[0]["limits"]["memory_bytes"], 200 * MIB)
        done = self.brig.call("run", "--snapshot", "kept", "-e", "B=3", "--", "sh", "-c",
                              "cat file; echo $A $B; cat; exit 7", input=b"input\n")
        self.assertEqual((done.code, done.text), (7, "far\n1 3\ninput\n"), str(done))
        # They are the tenant's, not the files of whoever runs the command line.
        self.assertEqual(self.near.json("snapshot", "ls"), [])
        self.assertRefused(self.brig.call("run", "--snapshot", "nothing", "--", "true"), 125, "no snapshot")
        self.assertRefused(self.brig.call("snapshot", "inspect", "nothing"), 125, "no snapshot")
        self.assertOk(self.brig.call("snapshot", "rm", "kept"))
        self.assertEqual(self.brig.json("snapshot", "ls"), [])

    def test_forks_elsewhere(self):
        box = self.create("--name", "first")
        self.sh(box, "echo one >file")
        self.assertEqual(self.brig.call("diff", "first").text.splitlines(),
                         ["C /home", "C /home/user", "A /home/user/file"])
        ids = self.brig.call("fork", "first", "-n", "2").text.split()
        self.assertEqual(len(set(ids + [box])), 3)
        for id_ in ids:
            self.assertEqual(self.sh(id_, "cat file; echo other >file"), "one\n")
        self.assertEqual(self.sh(box, "cat file"), "one\n")
        # As the one that they are copies of, they stay until they are removed.
        self.assertEqual({self.listed()[i]["ends"] for i in ids}, {None})
        self.assertRefused(self.brig.call("fork", "nobody"), 125, "no sandbox")
