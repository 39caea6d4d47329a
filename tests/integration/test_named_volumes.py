# SPDX-License-Identifier: Apache-2.0
"""Volumes that the server keeps: made, attached by name, limited by the kernel, copied, backed up and
removed; over the command line, HTTP and BRIG_URL; and what another tenant sees of them: nothing."""

import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import threading

import brigtest
import hoststate
import test_api
from brigtest import MIB, Server, wait_until


class Base(test_api.Api):
    """A volume is a file system of its own: the tests make small ones, and remove them."""

    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        brigtest.need_program("mkfs.ext4")
        if not os.path.exists("/dev/loop-control"):
            raise brigtest.unittest.SkipTest("this machine has no loop devices")
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.drop_volumes)

    def drop_volumes(self):
        for box in self.brig.json("ls"):
            self.brig.call("rm", "--force", box["id"])
        for tenant in [t["name"] for t in self.operator("GET", "/v1/tenants")[1]["tenants"]]:
            for v in self.operator("GET", f"/v1/volumes?tenant={tenant}")[1]["volumes"]:
                self.operator("DELETE", f"/v1/volumes/{v['name']}?tenant={tenant}")
        self.assertEqual(self.files(), [])

    def volume(self, *args, expect=0, **kw):
        done = self.brig.call("volume", *args, **kw)
        self.assertEqual(done.code, expect, done)
        return done

    def create(self, name, *args):
        return self.volume("create", name, "--size", "16m", "--inodes", "64", *args)

    def inside(self, volume, script, *args, expect=0, brig=None):
        done = (brig or self.brig).run("--volume", f"{volume}:/data" if ":" not in volume else volume, *args, "--",
                                       "sh", "-c", script)
        if expect is not None:
            self.assertEqual(done.code, expect, done)
        return done

    @property
    def folder_of_volumes(self):
        return self.folder / "data" / "volumes"

    def files(self):
        """What is on the disk, whatever the records say."""
        if not self.folder_of_volumes.exists():
            return []
        return sorted(p.name for p in self.folder_of_volumes.iterdir() if p.name != "lock")

    def mounts_of_host(self):
        return hoststate.read("/proc/self/mountinfo")


class Volumes(Base):
    def test_it_outlives_sandboxes_and_belongs_to_who_had_it_first(self):
        self.create("data")
        done = self.inside("data", "ls -A /data; stat -c '%U %a' /data; echo kept >/data/f; mkdir /data/d")
        self.assertEqual(done.text, "user 755\n")
        self.assertEqual(self.inside("data", "cat /data/f; stat -c %U /data/f /data/d").text, "kept\nuser\nuser\n")
        # Ids are those of the disk, whatever range a sandbox has: root inside gives a file to another.
        self.inside("data", "chown 33:34 /data/f", "--user", "root")
        self.assertEqual(self.inside("data", "stat -c '%u %g' /data/f").text, "33 34\n")
        [one] = self.brig.json("volume", "ls")
        self.assertEqual((one["name"], one["size_bytes"], one["state"], one["snapshot"]),
                         ("data", 16 * MIB, "ready", False))
        # The host's mount table shows nothing of it, also while a sandbox has it.
        before = self.mounts_of_host()
        box = self.brig.call("run", "--image", "host", "--detach", "--volume", "data:/data", "--", "sleep", "600")
        self.assertEqual(self.mounts_of_host(), before)
        self.assertEqual(len([d for d in hoststate.loops() if str(self.folder) in d]), 1)
        proof = self.brig.call("gc", "--prove")
        self.assertIn("a volume of a running instance", proof.text)
        self.assertOk(self.brig.call("rm", "--force", box.text.strip()))
        wait_until("the device is gone", lambda: not [d for d in hoststate.loops() if str(self.folder) in d])
        self.volume("rm", "data")
        self.assertEqual(self.files(), [])

    def test_the_kernel_limits_bytes_and_files(self):
        self.create("small")
        done = self.inside("small", "dd if=/dev/zero of=/data/big bs=1M count=64 2>/dev/null; stat -c %s /data/big")
        self.assertLess(int(done.text), 16 * MIB, done)
        self.assertGreater(int(done.text), 8 * MIB, done)
        self.inside("small", "rm /data/big")
        # Negative control: beside the volume as many files are no problem.
        done = self.inside("small", "n=0; while [ $n -lt 200 ] && touch /data/f$n 2>/dev/null; do n=$((n+1)); done; "
                                    "echo $n; mkdir /tmp/x; m=0; while [ $m -lt 200 ] && touch /tmp/x/f$m; do "
                                    "m=$((m+1)); done; echo $m")
        full, control = map(int, done.text.split())
        self.assertTrue(20 <= full <= 64, full)
        self.assertEqual(control, 200)
        told = self.own("GET", "/volumes/small")
        self.assertLessEqual(told["used_inodes"], 64)
        self.inside("small", "rm /data/f*; echo fits >/data/again")
        # Neither root inside nor another sandbox gets more.
        self.inside("small", "dd if=/dev/zero of=/data/big bs=1M count=64", "--user", "root", expect=1)

    def test_one_writes_or_many_read(self):
        self.create("v")
        self.inside("v", "echo shared >/data/f")
        reader = ("run", "--image", "host", "--detach", "--volume", "v:/data:ro", "--", "sleep", "600")
        ids = [self.brig.call(*reader).text.strip() for _ in range(3)]
        for i in ids:
            self.assertEqual(self.brig.call("exec", i, "cat", "/data/f").text, "shared\n")
            self.assertCode(self.brig.call("exec", "--user", "root", i, "sh", "-c",
                                           "echo x >/data/g || mount -o remount,rw /data || exit 9"), 9)
        refused = self.inside("v", "true", expect=125)
        self.assertIn("is read by sandbox", refused.errors)
        self.assertIn("remedy:", refused.errors)
        told = self.own("GET", "/volumes/v")
        self.assertEqual((told["readers"], told["writers"]), (3, 0))
        self.assertIn("in use", self.volume("rm", "v", expect=125).errors)
        for i in ids:
            self.assertOk(self.brig.call("rm", "--force", i))
        writer = self.brig.call("run", "--image", "host", "--detach", "--volume", "v:/data", "--", "sleep",
                                "600").text.strip()
        for volume in "v:/data", "v:/data:ro":
            self.assertIn("is written to by", self.inside(volume, "true", expect=125).errors)
        # Its end, however it comes, is the end of what it has.
        self.assertOk(self.brig.call("rm", "--force", writer))
        self.assertEqual(self.own("GET", "/volumes/v")["writers"], 0)
        self.inside("v", "echo more >>/data/f")

    def test_at_once_exactly_one_gets_it(self):
        self.create("v")
        codes, lock = [], threading.Lock()

        def attempt():
            done = self.inside("v", "echo in; sleep 600", "--timeout", "2s", expect=None)
            with lock:
                codes.append((done.code, done.out))
        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(codes), sorted([(124, b"in\n")] + [(125, b"")] * 7))

    def test_snapshot_and_clone(self):
        self.create("v")
        self.inside("v", "echo one >/data/f; ln /data/f /data/l; ln -s /etc/passwd /data/s; mkfifo /data/p")
        self.volume("snapshot", "v", "v-1")
        self.inside("v", "echo two >/data/f")
        self.volume("clone", "v-1", "w")
        self.assertEqual(self.inside("v-1:/data:ro", "cat /data/f; stat -c %h /data/l; readlink /data/s; "
                                     "test -p /data/p").text, "one\n2\n/etc/passwd\n")
        # Nobody writes to a snapshot: neither by name nor by what the disk says.
        self.assertIn("snapshot", self.inside("v-1", "true", expect=125).errors)
        status, _, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"], "volumes": [
            {"name": "v-1", "path": "/data"}]})
        self.assertEqual((status, answer["code"]), (409, "wrong_state"), answer)
        self.inside("w", "echo three >>/data/f")
        self.assertEqual(self.inside("w", "cat /data/f").text, "one\nthree\n")
        self.assertEqual(self.inside("v", "cat /data/f").text, "two\n")
        rows = {r["name"]: r for r in self.brig.json("volume", "ls")}
        self.assertEqual((rows["v-1"]["snapshot"], rows["v-1"]["source"], rows["w"]["source"]),
                         (True, "v", "v-1"))
        # What it was made of may go.
        self.volume("rm", "v", "v-1")
        self.assertEqual(self.inside("w", "cat /data/f").text, "one\nthree\n")

    def test_a_copy_is_refused_while_somebody_writes_where_a_file_cannot_be_copied_at_once(self):
        if self.reflink(self.folder):
            self.skipTest("this file system copies a file at once")
        self.create("v")
        box = self.brig.call("run", "--image", "host", "--detach", "--volume", "v:/data", "--", "sleep", "600")
        refused = self.volume("snapshot", "v", "s", expect=125)
        self.assertIn("XFS or Btrfs", refused.errors)
        self.assertEqual(len(self.files()), 1)
        self.assertOk(self.brig.call("rm", "--force", box.text.strip()))
        self.volume("snapshot", "v", "s")

    @staticmethod
    def reflink(folder):
        a, b = folder / "probe-a", folder / "probe-b"
        a.write_bytes(b"x" * 65536)
        done = subprocess.run(["cp", "--reflink=always", a, b], stderr=subprocess.DEVNULL)
        a.unlink()
        b.unlink(missing_ok=True)
        return done.returncode == 0

    def test_backup_and_restore(self):
        self.create("v")
        self.inside("v", "echo content >/data/f; mkdir -m 700 /data/d; echo deep >/data/d/g; ln -s ../../etc /data/d/s; "
                         "chown 12:34 /data/f", "--user", "root")
        archive = self.folder / "v.tar"
        self.addCleanup(archive.unlink, missing_ok=True)
        self.volume("backup", "v", str(archive))
        with tarfile.open(archive) as t:
            self.assertEqual(sorted(m.name for m in t if m.name != "./lost+found"),
                             [".", "./d", "./d/g", "./d/s", "./f"])
        # It is not written over, and half of one is not left.
        self.volume("backup", "v", str(archive), expect=125)
        self.volume("backup", "nope", str(self.folder / "none.tar"), expect=125)
        self.assertFalse((self.folder / "none.tar").exists())
        self.create("w")
        self.volume("restore", "w", str(archive))
        self.assertEqual(self.inside("w", "cat /data/f /data/d/g; stat -c '%u %g' /data/f; stat -c %a /data/d; "
                                          "readlink /data/d/s", "--user", "root").text,
                         "content\ndeep\n12 34\n700\n../../etc\n")
        self.assertIn("not empty", self.volume("restore", "w", str(archive), expect=125).errors)
        # By pipes, and what is no archive.
        piped = self.volume("backup", "w")
        self.create("x")
        self.volume("restore", "x", input=piped.out)
        self.assertEqual(self.inside("x", "cat /data/d/g", "--user", "root").text, "deep\n")
        self.create("y")
        self.assertIn("tar ended with", self.volume("restore", "y", input=b"no archive" * 100, expect=125).errors)

    def test_a_hostile_archive_stays_in_the_volume(self):
        canary = self.folder / "canary"
        canary.write_text("untouched")
        self.addCleanup(canary.unlink)

        def archive(*members):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as t:
                for name, kind, target, data in members:
                    m = tarfile.TarInfo(name)
                    m.type, m.linkname, m.size, m.mode, m.uid = kind, target, len(data), 0o6755, 0
                    t.addfile(m, io.BytesIO(data))
            return out.getvalue()
        reg, sym, lnk, chr_ = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
        evil = [archive(("../../../.." + str(canary), reg, "", b"owned")),
                archive((str(canary), reg, "", b"owned")),
                archive(("out", sym, str(self.folder), b""), ("out/canary", reg, "", b"owned")),
                archive(("hard", lnk, str(canary), b""), ("hard", reg, "", b"owned")),
                archive(("dev", chr_, "", b""), ("suid", reg, "", b"#!/bin/sh\n")),
                archive(*((f"f{i}", reg, "", b"") for i in range(500))),
                archive(("big", reg, "", b"\0" * (32 * MIB)))]
        before = sorted(p.name for p in self.folder.iterdir())
        for i, data in enumerate(evil):
            self.create(f"v{i}")
            self.brig.call("volume", "restore", f"v{i}", input=data)
            self.assertEqual(canary.read_text(), "untouched", i)
            self.volume("rm", f"v{i}")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), before)
        # Negative control: an archive does arrive.
        self.create("good")
        self.volume("restore", "good", input=archive(("f", reg, "", b"good")))
        self.assertEqual(self.inside("good", "cat /data/f").text, "good")

    def test_links_in_a_volume_lead_to_the_sandbox(self):
        secret = self.folder / "secret"
        secret.write_text("canary-volume-link")
        self.addCleanup(secret.unlink)
        self.create("v")
        self.inside("v", f"ln -s {secret} /data/a; ln -s ../../../..{secret} /data/b; ln -s / /data/root")
        for script in (f"cat /data/a /data/b /data/root{secret}", f"ls /data/root{self.folder}"):
            done = self.inside("v", script, "--user", "root", expect=None)
            self.assertNotIn(b"canary-volume-link", done.out)
            self.assertNotEqual(done.code, 0)
        backup = self.volume("backup", "v")
        self.assertNotIn(b"canary-volume-link", backup.out)
        copied = self.folder / "copied"
        self.addCleanup(shutil.rmtree, copied, ignore_errors=True)
        self.volume("cp", "v:/.", str(copied))
        self.assertTrue((copied / "a").is_symlink())
        self.assertEqual(os.readlink(copied / "a"), str(secret))

    def test_no_set_user_id_file_means_anything(self):
        self.create("v")
        self.inside("v", "cp /usr/bin/id /data/id; chmod 6755 /data/id; stat -c %a /data/id", "--user", "root")
        self.assertEqual(self.inside("v", "/data/id -u").text, "1000\n")
        self.inside("v", "mknod /data/null c 1 3", "--user", "root", expect=1)

    def test_cp_in_and_out(self):
        self.create("v")
        src = self.folder / "tree"
        (src / "d").mkdir(parents=True)
        self.addCleanup(shutil.rmtree, src)
        (src / "d" / "f").write_text("copied")
        self.volume("cp", str(src), "v:/")
        self.assertEqual(self.inside("v", "cat /data/tree/d/f").text, "copied")
        out = self.folder / "out"
        self.addCleanup(shutil.rmtree, out, ignore_errors=True)
        self.volume("cp", "v:/tree", str(out))
        self.assertEqual((out / "d" / "f").read_text(), "copied")
        self.volume("cp", str(src), str(out), expect=2)
        self.volume("cp", "nope:/x", str(self.folder / "no"), expect=125)
        self.assertEqual(self.brig.json("ls"), [])

    def test_bad_input_is_refused_with_a_remedy(self):
        for args, code, word in ((("create", "a/b"), 2, "name"), (("create", "-x"), 2, ""),
                                 (("create", "a", "--size", "1m"), 125, "size_bytes"),
                                 (("create", "a", "--size", "16m", "--inodes", "1000000"), 125, "fit"),
                                 (("create", "a", "--size", "1000000t"), 125, ""),
                                 (("rm", "nope"), 125, "no volume 'nope'"), (("inspect", "nope"), 125, "nope"),
                                 (("snapshot", "nope", "s"), 125, "nope"), (("clone", "nope"), 2, "takes"),
                                 (("ls", "x"), 2, "takes"), (("what",), 2, "known"),
                                 (("ls", "--size", "1g"), 2, "create")):
            done = self.volume(*args, expect=code)
            self.assertIn(word, done.errors, args)
        self.create("a")
        self.assertIn("exists already", self.volume("create", "a", expect=125).errors)
        self.assertEqual(len(self.files()), 1)
        for flag in "nope:/data", "a:relative", "a:/proc/x", "a:/data:ro:rw":
            done = self.brig.run("--volume", flag, "--", "true")
            self.assertIn(done.code, (2, 125), done)
            self.assertTrue(done.errors, done)
        done = self.brig.run("--volume", "a:/x", "--volume", "a:/y:ro", "--", "true")
        self.assertIn("named twice", done.errors)

    def test_a_folder_of_the_host_beside_it(self):
        self.create("v")
        there = self.folder / "there"
        there.mkdir()
        self.addCleanup(there.rmdir)
        done = self.brig.run("--volume", f"{there}:/a:ro", "--volume", "v:/b", "--volume", f"{self.folder}:/c:ro", "--",
                             "sh", "-c", "ls /a; echo x >/b/f; ls -d /c/there")
        self.assertEqual((done.code, done.text), (0, "/c/there\n"), done)


class Root(Base):
    """A volume at /: everything that a sandbox writes stays, over sandboxes, restarts and kill -9."""

    def at_root(self, script, *args, volume="r:/", **kw):
        return self.inside(volume, script, *args, **kw)

    def test_what_is_written_anywhere_stays(self):
        self.create("r")
        self.at_root("echo one >/home/user/f; mkdir /opt/d 2>/dev/null; echo tmp >/tmp/t; echo $$ >/dev/shm/s")
        self.at_root("echo etc >/etc/own; rm /etc/hosts; chown 33:34 /etc/own; ln -s /usr /srv/link; chmod 4755 /etc/own",
                     "--user", "root")
        done = self.at_root("cat /home/user/f /tmp/t /etc/own; stat -c '%u %g' /etc/own /home/user/f; "
                            "test -e /etc/hosts || echo gone; readlink /srv/link; ls /dev/shm", "--user", "root")
        self.assertEqual(done.text, "one\ntmp\netc\n33 34\n1000 1000\ngone\n/usr\n")
        # Negative control: without the volume nothing of it is there.
        self.assertEqual(self.brig.run("--", "sh", "-c", "ls /home/user /tmp; cat /etc/own").code, 1)

    def test_its_limits_are_those_of_the_volume(self):
        self.create("r")
        done = self.at_root("dd if=/dev/zero of=/home/user/big bs=1M count=64 2>/dev/null; stat -c %s /home/user/big")
        self.assertTrue(4 * MIB < int(done.text) < 16 * MIB, done)
        self.at_root("rm /home/user/big; n=0; while [ $n -lt 200 ] && touch /tmp/f$n 2>/dev/null; do n=$((n+1)); done; "
                     "[ $n -gt 10 ] && [ $n -lt 64 ]")

    def test_it_is_attached_as_nothing_else_and_by_one(self):
        self.create("r")
        self.at_root("echo x >/home/user/f")
        for volume in "r:/data", "r:/data:ro":
            self.assertIn("wrote at /", self.inside(volume, "true", expect=125).errors)
        self.create("v")
        self.inside("v", "echo x >/data/f")
        self.assertIn("elsewhere", self.inside("v:/", "true", expect=125).errors)
        self.assertEqual(self.brig.run("--volume", "r:/:ro", "--", "true").code, 2)
        self.assertEqual(self.brig.run("--volume", "/tmp:/", "--", "true").code, 2)
        box = self.brig.call("create", "--image", "host", "--volume", "r:/")
        self.assertIn("is written to", self.at_root("true", expect=125).errors)
        # A snapshot of such a sandbox would be empty; a copy of its volume is not.
        done = self.brig.call("snapshot", "create", box.text.strip(), "none")
        self.assertNotEqual(done.code, 0, done)
        self.assertOk(self.brig.call("rm", "--force", box.text.strip()))
        self.volume("clone", "r", "r2")
        self.assertEqual(self.at_root("cat /home/user/f", volume="r2:/").text, "x\n")

    def test_nothing_inside_leads_to_the_volume_itself(self):
        self.create("r")
        # What could be a link on the next start is out of reach: u and o, and the file system above them.
        done = self.at_root("ls -a /; cat /proc/self/mountinfo; ln -s /usr /u; ln -s /usr /o; "
                            "rm -rf /v /w; ls -d /u/bin", "--user", "root")
        self.assertNotIn(str(self.folder), done.text)
        self.assertEqual(self.at_root("readlink /u /o; echo still >/home/user/f; cat /home/user/f").text,
                         "/usr\n/usr\nstill\n")

    def test_a_link_in_place_of_the_layer_is_not_followed(self):
        self.create("r")
        self.at_root("echo x >/home/user/f")
        [name] = self.files()
        place = self.folder / "mnt"
        place.mkdir()
        self.addCleanup(place.rmdir)

        def change(what):
            """As nobody inside can."""
            wait_until("no sandbox has it", lambda: not [d for d in hoststate.loops() if name in d])
            subprocess.run(["mount", "-o", "loop", self.folder_of_volumes / name, place], check=True)
            try:
                what()
            finally:
                subprocess.run(["umount", place], check=True)
        there = self.folder / "there"
        there.mkdir(mode=0o777)
        self.addCleanup(shutil.rmtree, there)
        for part in "u", "o":
            change(lambda: ((place / part).rename(place / "kept"), (place / part).symlink_to(there)))
            done = self.at_root("echo escaped >/home/user/g", expect=125)
            self.assertIn("open the volume of the writable layer", done.errors)
            self.assertEqual(list(there.iterdir()), [])
            change(lambda: ((place / part).unlink(), (place / "kept").rename(place / part)))
        # Negative control: as it was, it works.
        self.assertEqual(self.at_root("cat /home/user/f").text, "x\n")

    def test_after_kill_9_of_everything(self):
        self.create("r")
        box = self.brig.call("run", "--image", "host", "--detach", "--volume", "r:/", "--", "sh", "-c",
                             "echo kept >/home/user/f; sync; sleep 600")
        wait_until("it has written", lambda: "kept" in self.brig.call("exec", box.text.strip(), "cat",
                                                                      "/home/user/f").text)
        for p in [self.server.process.pid, *hoststate.brig_pids()]:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.server.process.wait()
        wait_until("no loop device is left", lambda: not [d for d in hoststate.loops() if str(self.folder) in d])
        type(self).server = Server(self.class_brig, "--http", "127.0.0.1:0")
        type(self).port = int(self.said(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        self.assertEqual(self.at_root("cat /home/user/f").text, "kept\n")


class AtOnce(Base):
    """A data folder on a file system that copies a file in one moment."""

    @classmethod
    def prepare(cls):
        brigtest.need_program("mkfs.xfs")
        image = cls.folder / "xfs.img"
        with open(image, "wb") as f:
            f.truncate(512 * MIB)
        subprocess.run(["mkfs.xfs", "-q", image], check=True)
        (cls.folder / "data").mkdir(mode=0o711)
        if subprocess.run(["mount", "-o", "loop", image, cls.folder / "data"], stderr=subprocess.DEVNULL).returncode:
            raise brigtest.unittest.SkipTest("this kernel mounts no XFS")
        (cls.folder / "data").chmod(0o711)
        cls.addClassCleanup(cls.unmount)

    @classmethod
    def unmount(cls):
        wait_until("the data folder is free", lambda: subprocess.run(
            ["umount", cls.folder / "data"], stderr=subprocess.DEVNULL).returncode == 0)

    def test_a_snapshot_is_one_moment_of_what_is_being_written(self):
        self.create("v")
        # Each round writes the same number into two files and syncs: a moment has them at most one apart.
        box = self.brig.call("run", "--image", "host", "--detach", "--volume", "v:/data", "--", "sh", "-c",
                             "n=0; while :; do n=$((n+1)); echo $n >/data/a; sync /data/a; echo $n >/data/b; "
                             "sync /data/b; done")
        self.assertOk(box)
        wait_until("it writes", lambda: self.brig.call("exec", box.text.strip(), "test", "-s", "/data/b").code == 0)
        for i in range(4):
            self.volume("snapshot", "v", f"s{i}")
        self.assertOk(self.brig.call("rm", "--force", box.text.strip()))
        seen = []
        for i in range(4):
            a, b = map(int, self.inside(f"s{i}:/data:ro", "cat /data/a /data/b").text.split())
            self.assertIn(a - b, (0, 1), i)
            seen.append(a)
        self.assertEqual(seen, sorted(seen))
        self.assertGreater(seen[-1], seen[0])
        self.volume("clone", "s0", "w")
        self.inside("w", "echo mine >/data/a")

    def test_a_copy_takes_no_space(self):
        self.volume("create", "v", "--size", "300m", "--inodes", "64")
        self.inside("v", "dd if=/dev/urandom of=/data/f bs=1M count=128 2>/dev/null; sync")
        for i in range(6):
            self.volume("clone", "v", f"c{i}")
        # Seven times 128 MiB in 512.
        self.assertEqual(self.inside("c5:/data:ro", "stat -c %s /data/f").text, f"{128 * MIB}\n")


class Http(Base):
    def v1(self, method, path, body=None, expect=200, **kw):
        return self.own(method, "/volumes" + path, body, expect, **kw)

    def test_routes_of_brig(self):
        made = self.v1("POST", "", {"name": "v", "size_bytes": 16 * MIB, "inodes": 64}, 201)
        self.assertEqual((made["name"], made["state"]), ("v", "ready"))
        self.assertEqual([v["id"] for v in self.v1("GET", "")["volumes"]], [made["id"]])
        mount = [{"name": "v", "path": "/data"}]
        ran = self.run_(cmd=["sh", "-c", "echo http >/data/f"], volumes=mount)
        self.assertEqual(ran["exit_code"], 0, ran)
        ran = self.run_(cmd=["cat", "/data/f"], volumes=[{"name": made["id"], "path": "/data", "readonly": True}])
        self.assertEqual(ran["stdout"], "http\n", ran)
        told = self.v1("GET", "/v")
        self.assertGreater(told["used_bytes"], 0)
        self.v1("DELETE", "/v", expect=204)
        self.v1("GET", "/v", expect=404)
        self.v1("DELETE", "/v", expect=404)
        self.run_(404, cmd=["true"], volumes=mount)
        for body in ({}, {"name": ""}, {"name": "x", "size_bytes": 5}, {"name": "x", "what": 1}, {"name": 3},
                     {"name": "x", "snapshot": True}, {"name": "x", "from": "v", "size_bytes": 16 * MIB}):
            self.assertIn(self.ask("POST", "/v1/volumes", body)[0], (400, 404, 422), body)
        for volumes in ("x", [{}], [{"name": "x"}], [{"path": "/x"}], [{"name": "x", "path": "/x", "fd": 0}], [5]):
            self.assertIn(self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"], "volumes": volumes})[0],
                          (400, 404), volumes)

    def test_routes_of_e2b(self):
        made = self.e2b("POST", "/volumes", {"name": "shared"}, 201)
        self.assertEqual(sorted(made), ["name", "token", "volumeID"])
        self.assertEqual(self.e2b("GET", "/volumes", expect=200), [{"volumeID": made["volumeID"], "name": "shared"}])
        self.assertEqual(self.e2b("GET", f"/volumes/{made['volumeID']}", expect=200)["name"], "shared")
        self.e2b("GET", "/volumes/nope", expect=404)
        box = self.e2b("POST", "/v2/sandboxes", {"templateID": "host", "timeout": 60, "volumeMounts": [
            {"name": "shared", "path": "/mnt/shared"}]}, 201)
        self.assertEqual(self.own("GET", "/volumes/shared")["writers"], 1)
        self.e2b("DELETE", f"/volumes/{made['volumeID']}", expect=409)
        self.e2b("DELETE", f"/sandboxes/{box['sandboxID']}", expect=204)
        self.e2b("DELETE", f"/volumes/{made['volumeID']}", expect=204)

    def key_of(self, tenant, *args):
        self.brig.call("tenant", "create", tenant)
        return json.loads(self.brig.call("key", "create", "--tenant", tenant, *args, "-o", "json").out)["key"]

    def test_another_tenants_volume_is_as_one_that_is_not_there(self):
        theirs = self.key_of("other")
        for name in "mine-alone", "v":
            mine = self.v1("POST", "", {"name": name, "size_bytes": 16 * MIB, "inodes": 64}, 201)
        self.assertEqual(self.v1("GET", "", key=theirs)["volumes"], [])

        def answers(ref):
            out = []
            for method, path, body in (("GET", f"/v1/volumes/{ref}", None), ("DELETE", f"/v1/volumes/{ref}", None),
                                       ("GET", f"/volumes/{ref}", None), ("DELETE", f"/volumes/{ref}", None),
                                       ("POST", "/v1/volumes", {"name": "c", "from": ref}),
                                       ("POST", "/v1/run", {"image": "host", "cmd": ["true"], "volumes": [
                                           {"name": ref, "path": "/d", "readonly": True}]})):
                status, _, a = self.ask(method, path, body, key=theirs)
                a.pop("request_id")
                out.append((status, json.dumps(a).replace(ref, "REF")))
            return out
        nowhere = "zzzz0000zzzz0000"
        for ref in mine["id"], "mine-alone":
            self.assertEqual(answers(ref), answers(nowhere))
        # Negative control: its owner may.
        self.run_(cmd=["true"], volumes=[{"name": mine["id"], "path": "/d"}])
        # The same name is another volume there.
        self.v1("POST", "", {"name": "v", "size_bytes": 16 * MIB, "inodes": 64}, 201, key=theirs)
        self.run_(cmd=["sh", "-c", "echo theirs >/d/f"], volumes=[{"name": "v", "path": "/d"}], headers={"key": theirs})
        self.assertEqual(self.run_(cmd=["ls", "/d"], volumes=[{"name": "v", "path": "/d"}])["stdout"], "")
        # A tenant that has one is not removed, not even by force.
        self.assertIn("volumes", self.brig.call("tenant", "rm", "--force", "other").errors)

    def test_permissions(self):
        self.v1("POST", "", {"name": "v", "size_bytes": 16 * MIB, "inodes": 64}, 201)
        self.run_(cmd=["sh", "-c", "echo x >/d/f"], volumes=[{"name": "v", "path": "/d"}])
        reader = self.key_of("default", "--role", "developer", "--scopes", "run,volumes:read")
        self.assertEqual(len(self.v1("GET", "", key=reader)["volumes"]), 1)
        self.v1("POST", "", {"name": "w"}, 403, key=reader)
        self.v1("DELETE", "/v", expect=403, key=reader)
        ro = [{"name": "v", "path": "/d", "readonly": True}]
        self.assertEqual(self.run_(cmd=["cat", "/d/f"], volumes=ro, headers={"key": reader})["stdout"], "x\n")
        self.run_(403, cmd=["true"], volumes=[{"name": "v", "path": "/d"}], headers={"key": reader})
        none = self.key_of("default", "--role", "run-only")
        self.v1("GET", "", expect=403, key=none)
        self.run_(403, cmd=["true"], volumes=ro, headers={"key": none})
        self.run_(cmd=["true"], headers={"key": none})

    def test_quotas_and_the_audit_log(self):
        theirs = self.key_of("small")
        self.assertOk(self.brig.call("tenant", "set", "small", "--quota-volumes", "2", "--quota-volume-bytes", "40m"))
        for i in range(2):
            self.v1("POST", "", {"name": f"v{i}", "size_bytes": 16 * MIB, "inodes": 64}, 201, key=theirs)
        refused = self.v1("POST", "", {"name": "v2", "size_bytes": 16 * MIB, "inodes": 64}, 429, key=theirs)
        self.assertEqual(refused["details"]["quota"], "quota_volumes", refused)
        self.v1("DELETE", "/v1", expect=204, key=theirs)
        refused = self.v1("POST", "", {"name": "v2", "size_bytes": 32 * MIB, "inodes": 64}, 429, key=theirs)
        self.assertEqual(refused["details"]["quota"], "quota_volume_bytes", refused)
        use = self.own("GET", "/quota", key=theirs)["use"]
        self.assertEqual((use["volumes"], use["volume_bytes"]), (1, 16 * MIB))
        log = "".join(p.read_text() for p in sorted((self.folder / "data" / "api" / "audit").glob("*.jsonl"))) \
            if (self.folder / "data" / "api" / "audit").exists() else ""
        self.assertIn("volume.create", log)
        self.assertIn("volume.rm", log)

    def test_over_the_network(self):
        there = brigtest.Brig(BRIG_URL=f"http://127.0.0.1:{self.port}", BRIG_API_KEY=self.key)
        self.assertOk(there.call("volume", "create", "far", "--size", "16m", "--inodes", "64"))
        self.inside("far", "echo far >/data/f", brig=there)
        self.assertEqual(self.inside("far:/data:ro", "cat /data/f", brig=there).text, "far\n")
        self.assertOk(there.call("volume", "snapshot", "far", "far-1"))
        self.assertEqual([v["name"] for v in there.json("volume", "ls")], ["far", "far-1"])
        archive = there.call("volume", "backup", "far-1")
        self.assertOk(archive)
        self.assertOk(there.call("volume", "create", "back", "--size", "16m", "--inodes", "64"))
        self.assertOk(there.call("volume", "restore", "back", input=archive.out))
        self.assertEqual(self.inside("back", "cat /data/f", "--user", "root", brig=there).text, "far\n")
        f = self.folder / "one"
        f.write_text("one")
        self.addCleanup(f.unlink)
        self.assertOk(there.call("volume", "cp", str(f), "back:/"))
        self.assertEqual(self.inside("back", "cat /data/one", "--user", "root", brig=there).text, "one")
        self.assertIn("folder of this machine", there.run("--volume", "/tmp:/x", "--", "true").errors)
        self.assertOk(there.call("volume", "rm", "far", "far-1", "back"))


class Deaths(Base):
    """kill -9 of each process at each step: afterwards there is a whole volume or none, nothing is held by
    nobody, and what was in a volume is there."""

    def kill(self, comm):
        for p in hoststate.brig_pids():
            if hoststate.comm_of(p) == comm:
                os.kill(p, signal.SIGKILL)

    def served(self):
        def ask():
            try:
                return self.operator("GET", "/v1/volumes")[1]["volumes"] is not None
            except (OSError, ValueError, KeyError, AssertionError, TypeError):
                return None
        wait_until("it serves again", ask, timeout=20)

    def test_a_writers_volume_is_free_after_its_server_processes_died(self):
        self.create("v")
        self.inside("v", "echo before >/data/f; sync")
        for victim in "brig-api", "brigd", "brig-jaild":
            box = self.brig.call("run", "--image", "host", "--detach", "--volume", "v:/data", "--", "sh", "-c",
                                 f"echo {victim} >>/data/f; sync; sleep 600")
            self.assertOk(box)
            wait_until("it has written", lambda: victim in self.brig.call("exec", box.text.strip(), "cat",
                                                                          "/data/f").text)
            self.kill(victim)
            self.served()
            # It lives, and it still has its volume.
            self.assertIn("is written to", self.inside("v", "true", expect=125).errors)
            wait_until("it is removed", lambda: self.brig.call("rm", "--force", box.text.strip()).code == 0)
        done = wait_until("the volume is free", lambda: (lambda d: d if d.code == 0 else None)(
            self.inside("v", "cat /data/f", expect=None)))
        self.assertEqual(done.text.split(), ["before", "brig-api", "brigd", "brig-jaild"])

    def test_everything_at_once(self):
        self.create("v")
        box = self.brig.call("run", "--image", "host", "--detach", "--volume", "v:/data", "--", "sh", "-c",
                             "echo kept >/data/f; sync; sleep 600")
        wait_until("it has written", lambda: "kept" in self.brig.call("exec", box.text.strip(), "cat",
                                                                      "/data/f").text)
        for p in [self.server.process.pid, *hoststate.brig_pids()]:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.server.process.wait()
        wait_until("no loop device is left", lambda: not [d for d in hoststate.loops() if "/volumes/" in d])
        type(self).server = Server(self.class_brig, "--http", "127.0.0.1:0")
        type(self).port = int(self.said(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        self.assertEqual(self.inside("v", "cat /data/f").text, "kept\n")

    def test_a_second_server_does_not_mount_them(self):
        self.create("v")
        other = brigtest.Brig(data=self.folder / "data")
        second = Server(other, "--no-http")
        try:
            [v] = self.brig.json("volume", "ls")
            import wire
            with self.assertRaises(wire.Refused) as caught:
                wire.Op(other.socket, "volume", do="stat", id=v["id"])
            self.assertIn("another server", str(caught.exception))
        finally:
            second.stop()
