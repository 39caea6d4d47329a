# SPDX-License-Identifier: Apache-2.0
"""`brig image`, through the program behind it: every command, what bad input gets, what is left."""

import concurrent.futures
import fcntl
import gzip
import io
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import brigtest  # noqa: E402
from brigtest import (MIB, SANITIZED, SLOW, need_base, need_program, need_root,  # noqa: E402
                      wait_until)

DAEMON_GID = 0x70000000
USER = 54321  # nobody's


def entry(name, data=b"", type=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = type, len(data), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar_of(*entries, format=tarfile.GNU_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def symlink(name, to):
    return entry(name, type=tarfile.SYMTYPE, linkname=to, mode=0o777)


def hardlink(name, to):
    return entry(name, type=tarfile.LNKTYPE, linkname=to)


class ImageCase(brigtest.TestCase):
    def setUp(self):
        super().setUp()
        self.tmp.chmod(0o755)
        self.data = self.tmp / "data"
        self.program = brigtest.build_dir() / "brig-image"

    def command(self, args, prefix=(), data=None):
        env = {k: v for k, v in os.environ.items() if k != "XDG_DATA_HOME"}
        env["BRIG_DATA"] = str(data or self.data)
        return dict(args=[*map(str, prefix), str(self.program), *map(str, args)], env=env)

    def image(self, *args, input=None, timeout=60, prefix=(), data=None):
        start = time.monotonic()
        kw = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        p = subprocess.run(**self.command(args, prefix, data), capture_output=True,
                           timeout=timeout * SLOW, **kw)
        return brigtest.Done(p.args, p.returncode, p.stdout, p.stderr, time.monotonic() - start)

    def json(self, *args, **kw):
        done = self.image(*args, "-o", "json", **kw)
        self.assertOk(done)
        return json.loads(done.out)

    def add(self, name, tar, *args, **kw):
        """Imports; returns the digest."""
        done = self.image("import", *args, name, "-", input=tar, **kw)
        self.assertOk(done)
        return done.text.strip()

    def refused(self, tar, *words, args=(), name="evil", **kw):
        done = self.image("import", *args, name, "-", input=tar, **kw)
        self.assertRefused(done, 125, *words)
        self.assertNoTrace(name)
        return done

    def rootfs(self, digest, data=None):
        return (data or self.data) / "images" / digest.replace(":", "-") / "rootfs"

    def staged(self):
        return sorted(p.name for p in (self.data / "tmp").glob("*"))

    def assertNoTrace(self, name):
        self.assertEqual(self.staged(), [])
        self.assertFalse((self.data / "names" / name).exists())


class Commands(ImageCase):
    def test_one_tree_has_one_digest_from_every_source(self):
        tree = self.tmp / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin" / "a").write_bytes(b"content")
        (tree / "bin" / "a").chmod(0o755)
        os.link(tree / "bin" / "a", tree / "bin" / "b")
        os.symlink("a", tree / "bin" / "c")
        (tree / "d").mkdir(mode=0o700)
        plain = self.tmp / "t.tar"
        subprocess.run(["tar", "-C", tree, "-cf", plain, "."], check=True)
        digests = {self.image("import", "dir", tree).text, self.image("import", "tar", plain).text,
                   self.image("import", "pipe", "-", input=plain.read_bytes()).text}
        for option, suffix in (("-z", "gz"), ("-J", "xz"), ("-j", "bz2"), ("--zstd", "zst")):
            packed = self.tmp / f"t.{suffix}"
            subprocess.run(["tar", "-C", tree, option, "-cf", packed, "."], check=True)
            digests.add(self.image("import", suffix, packed).text)
        # A bare member list, in another order and format.
        posix = self.tmp / "posix.tar"
        subprocess.run(["tar", "-C", tree, "--format=posix", "-cf", posix, "./d", "./bin"],
                       check=True)
        digests.add(self.image("import", "posix", posix).text)
        self.assertEqual(len(digests), 1, digests)
        self.assertRegex(digests.pop(), r"^sha256:[0-9a-f]{64}\n$")
        self.assertEqual(len(list((self.data / "images").iterdir())), 1)
        self.assertEqual(self.staged(), [])

    def test_what_was_stored_is_listed_shown_and_removed(self):
        digest = self.add("one", tar_of(entry("etc/passwd", b"me:x:7:8::/home/me:/bin/sh\n")),
                          "--user", "me", "--env", "A=1", "--env", "B=x=y", "--workdir", "/home/me")
        host, one = self.json("ls")
        self.assertEqual((host["name"], host["builtin"]), ("host", True))
        self.assertEqual((one["name"], one["digest"], one["size_bytes"], one["broken"]),
                         ("one", digest, 27, False))
        (shown,) = self.json("inspect", "one")
        self.assertEqual(shown["user"], {"name": "me", "uid": 7, "gid": 8, "home": "/home/me"})
        self.assertEqual(shown["env"]["B"], "x=y")
        self.assertIn("/usr/bin", shown["env"]["PATH"])
        self.assertEqual(shown["workdir"], "/home/me")
        self.assertRegex(shown["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        for ref in (digest, digest.replace(":", "-"), digest[7:19]):
            self.assertEqual(self.json("inspect", ref), [shown])
        table = self.image("ls").text.splitlines()
        self.assertEqual(len(table), 3)
        self.assertIn(digest[7:19], table[2])
        self.assertIn("uid 7", self.image("inspect", "one").text)
        self.assertEqual(self.image("rm", "one").text, "removed one\n")
        self.assertEqual(len(self.json("ls")), 1)
        self.assertEqual(list((self.data / "images").iterdir()), [])
        self.assertEqual(self.staged(), [])

    def test_the_image_goes_with_its_last_name(self):
        tar = tar_of(entry("f", b"1"))
        digest = self.add("one", tar)
        again = self.json("import", "two", "-", input=tar)
        self.assertEqual((again["digest"], again["reused"]), (digest, True))
        self.assertEqual(self.image("rm", "one").text, "removed the name one\n")
        self.assertTrue(self.rootfs(digest).is_dir())
        self.assertOk(self.image("rm", digest[7:19]))
        self.assertFalse(self.rootfs(digest).exists())
        self.assertFalse((self.data / "names" / "two").exists())

    def test_a_name_moves_only_when_the_new_image_is_there(self):
        old = self.add("n", tar_of(entry("f", b"old")))
        done = self.image("import", "n", "-", input=tar_of(entry("../f", b"new")))
        self.assertCode(done, 125)
        self.assertEqual(self.json("inspect", "n")[0]["digest"], old)
        done = self.image("import", "n", "-", input=tar_of(entry("f", b"new")))
        self.assertIn(f"has no name now: {old}", done.errors)
        self.assertNotEqual(self.json("inspect", "n")[0]["digest"], old)
        self.assertEqual([i["name"] for i in self.json("ls")], ["host", "n", None])

    def test_mount_points_are_there(self):
        rootfs = self.rootfs(self.add("empty", tar_of()))
        self.assertEqual(sorted(p.name for p in rootfs.iterdir()),
                         ["dev", "etc", "proc", "run", "sys", "tmp"])
        self.assertEqual((rootfs / "tmp").stat().st_mode & 0o7777, 0o1777)

    def test_many_imports_at_once(self):
        tars = [tar_of(*(entry(f"d{k}/f{i}", os.urandom(100)) for i in range(300)))
                for k in range(3)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            digests = list(pool.map(lambda i: self.add(f"n{i}", tars[i % 3]), range(12)))
        self.assertEqual(len(set(digests)), 3)
        self.assertEqual(len(list((self.data / "images").iterdir())), 3)
        self.assertEqual(len(self.json("ls")), 13)
        self.assertEqual(self.staged(), [])

    def test_large_directories(self):
        # More names than the C library sorts on its stack.
        digest = self.add("big", tar_of(*(entry(f"d/{i:05}", b"") for i in range(20000))))
        self.assertEqual(self.json("inspect", "big")[0]["files"], 20007)
        self.assertEqual(len(os.listdir(self.rootfs(digest) / "d")), 20000)
        self.assertOk(self.image("rm", "big"))

    def test_the_command_line_of_brig_leads_here(self):
        if not (brigtest.build_dir() / "brig").exists():
            self.skipTest("brig is not built")
        self.add("one", tar_of())
        done = brigtest.Brig(data=self.data).call("image", "ls", "-o", "json")
        self.assertOk(done)
        self.assertEqual([i["name"] for i in json.loads(done.out)], ["host", "one"])
        self.assertCode(brigtest.Brig(data=self.data).call("image", "frob"), 2)


class Refusals(ImageCase):
    def test_usage(self):
        for args in ((), ("frob",), ("import",), ("import", "a"), ("import", "a", "b", "c"),
                     ("rm",), ("inspect",), ("ls", "x"), ("build",), ("build", "x"),
                     ("ls", "-o", "xml"), ("ls", "--what"), ("ls", "-z"), ("ls", "-o"), ("gc", "--prove=1"),
                     ("import", "--max-size", "0", "a", "b"),
                     ("import", "--max-size", "x", "a", "b"),
                     ("import", "--max-ratio", "0", "a", "b"), ("ls", "--data", "relative")):
            done = self.image(*args)
            self.assertCode(done, 2)
            self.assertEqual(done.out, b"", str(done))
            self.assertRegex(done.errors, r"remedy|Usage", str(done))
        for args in (("--help",), ("help",), ("import", "--help"), ("gc", "-h")):
            done = self.image(*args)
            self.assertOk(done)
            self.assertIn("Usage: brig image", done.text)
        self.assertFalse(self.data.exists())

    def test_names(self):
        for name in ("", "A", "-", ".x", "a/b", "../x", "a b", "x" * 64, "a\nb", "é"):
            self.assertRefused(self.image("import", "--", name, "-", input=tar_of()), 125,
                               "cannot be the name of an image", "remedy:")
        for args in (("import", "host", "-"), ("build", "base", "--name", "host"), ("rm", "host")):
            self.add("real", tar_of())
            self.assertRefused(self.image(*args, input=b""), 125, "built-in|built in")
        self.assertEqual(self.json("inspect", "host")[0]["builtin"], True)

    def test_no_store_and_no_image(self):
        for args in (("rm", "x"), ("inspect", "x")):
            self.assertRefused(self.image(*args), 125, "there is no image store", "remedy:")
        self.assertOk(self.image("ls"))
        self.assertOk(self.image("gc"))
        self.assertFalse(self.data.exists())
        self.add("one", tar_of())
        for ref in ("x", "sha256:" + "0" * 64, "0" * 12, "../names/one", "x\x1b[31m"):
            done = self.image("inspect", ref)
            self.assertRefused(done, 125, "there is no image", "remedy:")
            self.assertNotIn(b"\x1b", done.err)
        done = self.image("inspect", "one", "x", "-o", "json")
        self.assertCode(done, 125)

    def test_sources(self):
        self.assertRefused(self.image("import", "x", self.tmp / "none.tar"), 125,
                           "No such file or directory")
        self.assertRefused(self.image("import", "x", "/dev/null"), 125,
                           "neither archive nor directory")
        for junk in (b"", b"junk" * 1000, tar_of(entry("f", b"x" * 5000))[:3000],
                     gzip.compress(os.urandom(5000) + tar_of(entry("f", os.urandom(5000))))[:4000]):
            self.refused(junk, "the archive cannot be read")
        (self.tmp / "empty").touch()
        self.assertRefused(self.image("import", "x", self.tmp / "empty"), 125,
                           "the archive cannot be read")

    def test_settings(self):
        good = tar_of(entry("f", b""))
        for args in (("--env", "A"), ("--env", "1A=x"), ("--env", "=x"), ("--workdir", "x"),
                     ("--workdir", "/a/../b"), ("--user", "nobody-here"), ("--user", "65536"),
                     ("--user", "1:"), ("--env", "A=\udcff")):
            self.refused(good, "import 'evil'", args=args)

    def test_every_escape(self):
        canary = self.tmp / "canary"
        canary.mkdir()
        (canary / "secret").write_text("sings")
        # From <data>/tmp/PID.RANDOM/image/rootfs to the canary.
        up = "../../../../../canary"
        before = os.stat(canary), os.stat(canary / "secret")
        for what, tar in {
            "..": tar_of(entry(f"{up}/new", b"x")),
            "symlink": tar_of(symlink("s", up), entry("s/new", b"x")),
            "absolute symlink": tar_of(symlink("s", str(canary)), entry("s/new", b"x")),
            "two symlinks": tar_of(entry("a", type=tarfile.DIRTYPE, mode=0o755),
                                   symlink("a/up", ".."), symlink("out", f"a/up/{up}"),
                                   entry("out/new", b"x")),
            "replaced directory": tar_of(entry("d", type=tarfile.DIRTYPE, mode=0o755),
                                         symlink("d", up), entry("d/new", b"x")),
            "hard link": tar_of(hardlink("h", f"{up}/secret")),
            "absolute hard link": tar_of(hardlink("h", str(canary / "secret"))),
            "hard link below a symlink": tar_of(symlink("s", up), hardlink("h", "s/secret")),
            "hard link to a symlink": tar_of(symlink("s", f"{up}/secret"), hardlink("h", "s")),
        }.items():
            with self.subTest(what):
                self.refused(tar, "import 'evil'")
        # Harmless by what becomes of them.
        digest = self.add("inside", tar_of(entry(str(canary / "new"), b"x"),
                                           symlink("f", f"{up}/secret"), entry("f", b"x"),
                                           symlink("s", up),
                                           entry("s", type=tarfile.DIRTYPE, mode=0o777)))
        self.assertTrue((self.rootfs(digest) / str(canary).lstrip("/") / "new").is_file())
        after = os.stat(canary), os.stat(canary / "secret")
        self.assertEqual(os.listdir(canary), ["secret"])
        self.assertEqual((canary / "secret").read_text(), "sings")
        for b, a in zip(before, after):
            self.assertEqual((b.st_mode, b.st_nlink, b.st_mtime_ns, b.st_ctime_ns, b.st_uid),
                             (a.st_mode, a.st_nlink, a.st_mtime_ns, a.st_ctime_ns, a.st_uid))

    def test_mount_points_that_are_none(self):
        for name in ("proc", "sys", "dev", "tmp", "run", "etc"):
            self.refused(tar_of(symlink(name, "usr")), f"/{name} of the image is a symbolic link")
            self.refused(tar_of(entry(name, b"x")), f"/{name} of the image is no directory")

    def test_limits(self):
        zeros = tar_of(entry("zeros", bytes(100 * MIB)))
        self.refused(gzip.compress(zeros, 9), "unpacks to more than 250 times its size",
                     "--max-ratio")
        self.refused(zeros, "more than 1048576 bytes in all", "--max-size",
                     args=("--max-size", "1m"))
        self.refused(tar_of(*(entry(f"f{i}") for i in range(50))), "more than 49 entries",
                     "--max-entries", args=("--max-entries", "49"))
        self.add("fifty", tar_of(*(entry(f"f{i}") for i in range(50))), "--max-entries", "50")
        self.add("zeros", gzip.compress(zeros, 9), "--max-ratio", "2000")
        huge = tarfile.TarInfo("huge")
        huge.size = 1 << 50
        self.refused(huge.tobuf(tarfile.GNU_FORMAT), "bytes in all")

    def test_owners_and_modes(self):
        self.refused(tar_of(entry("f", uid=1 << 31)), "outside of 0 to 65535")
        self.refused(tar_of(entry("f", gid=65536)), "outside of 0 to 65535")
        digest = self.add("modes", tar_of(entry("su", mode=0o6755),
                                          entry("sg", mode=0o2775, type=tarfile.DIRTYPE),
                                          entry("null", type=tarfile.CHRTYPE),
                                          entry("fifo", type=tarfile.FIFOTYPE)))
        rootfs = self.rootfs(digest)
        self.assertEqual((rootfs / "su").stat().st_mode & 0o7777, 0o755)
        self.assertEqual((rootfs / "sg").stat().st_mode & 0o7777, 0o775)
        self.assertFalse((rootfs / "null").exists() or (rootfs / "fifo").exists())
        info = self.json("import", "modes", "-", input=tar_of(
            entry("null", type=tarfile.CHRTYPE), entry("x", mode=0o4755)))
        self.assertEqual((info["devices_left_out"], info["modes_stripped"]), (1, 1))

    def test_messages_cannot_write_to_the_terminal(self):
        done = self.refused(tar_of(entry("../\x1b]0;title\x07\r\n")),
                            r"\\x1b\]0;title\\x07\\x0d\\x0a")
        self.assertFalse(set(done.err) - set(range(0x20, 0x7f)) - {0x0a})


class Directories(ImageCase):
    def test_links_leading_out_and_special_files(self):
        tree = self.tmp / "tree"
        tree.mkdir()
        (tree / "f").write_text("x")
        os.symlink("/etc/passwd", tree / "l")
        os.mkfifo(tree / "p")
        with open(tree / "sparse", "wb") as f:
            f.truncate(50 * MIB)
        info = self.json("import", "tree", tree)
        rootfs = self.rootfs(info["digest"])
        self.assertEqual(os.readlink(rootfs / "l"), "/etc/passwd")
        self.assertEqual(info["devices_left_out"], 1)
        self.assertLess((rootfs / "sparse").stat().st_blocks, 100)
        self.assertRefused(self.image("import", "l", "--max-size", "1m", tree), 125, "bytes in all")

    def test_a_directory_that_holds_the_store(self):
        self.add("one", tar_of())
        self.assertRefused(self.image("import", "self", self.tmp), 125, "is the image store")
        self.assertRefused(self.image("import", "self", self.data), 125, "is the image store")
        self.assertEqual(self.staged(), [])

    def test_other_file_systems_stay_out_unless_asked(self):
        need_root()
        tree = self.tmp / "tree"
        (tree / "mnt").mkdir(parents=True)
        (tree / "mnt" / "below").write_text("hidden by the mount")
        script = f"mount -t tmpfs none {tree}/mnt && touch {tree}/mnt/on-top && exec \"$@\""
        prefix = ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh")
        digest = self.image("import", "a", tree, prefix=prefix).text.strip()
        self.assertEqual(os.listdir(self.rootfs(digest) / "mnt"), [])
        digest = self.image("import", "--cross-filesystems", "b", tree, prefix=prefix).text.strip()
        self.assertEqual(os.listdir(self.rootfs(digest) / "mnt"), ["on-top"])


class Store(ImageCase):
    def test_who_may_come_near(self):
        need_root()
        need_program("setpriv")
        digest = self.add("one", tar_of(entry("su", b"#!/bin/sh\nid\n", mode=0o4755)))
        path = self.rootfs(digest) / "su"

        def cat(group, *more):
            return subprocess.run(["setpriv", f"--reuid={USER}", f"--regid={group}",
                                   "--clear-groups", *more], capture_output=True)
        self.assertNotEqual(cat(USER, "cat", path).returncode, 0)
        self.assertNotEqual(cat(USER, path).returncode, 0)
        self.assertEqual(cat(DAEMON_GID, "cat", path).returncode, 0)
        self.assertNotEqual(cat(DAEMON_GID, "ls", self.data / "images").returncode, 0)

    def test_owners_are_kept_for_root(self):
        need_root()
        rootfs = self.rootfs(self.add("one", tar_of(entry("f", uid=1000, gid=65535),
                                                    entry("d/g", uid=3, gid=4))))
        self.assertEqual((rootfs.joinpath("f").stat().st_uid, rootfs.joinpath("f").stat().st_gid),
                         (1000, 65535))
        self.assertEqual(rootfs.joinpath("d").stat().st_uid, 0)

    def test_an_image_in_use_stays(self):
        digest = self.add("one", tar_of(entry("f")))
        with open(self.rootfs(digest).parent / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            for ref in ("one", digest):
                self.assertRefused(self.image("rm", ref), 125, "is in use", "remedy:")
            self.assertTrue(self.rootfs(digest).joinpath("f").exists())
        self.assertOk(self.image("rm", "one"))

    def test_a_store_of_an_ordinary_user(self):
        need_root()
        need_program("setpriv")
        home = self.tmp / "home"
        home.mkdir()
        os.chown(home, USER, USER)
        prefix = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        data = home / "data"
        tree = tar_of(entry("f", b"x", uid=5, gid=6, mode=0o600),
                      entry("closed", type=tarfile.DIRTYPE, mode=0),
                      entry("closed/ro", type=tarfile.DIRTYPE, mode=0o555),
                      entry("closed/ro/g", b"y"))
        done = self.image("import", "one", "-", input=tree, prefix=prefix, data=data)
        if done.code == 125 and "cannot confine" in done.errors:
            self.skipTest(done.errors)
        self.assertOk(done)
        rootfs = self.rootfs(done.text.strip(), data)
        self.assertEqual(rootfs.joinpath("closed/ro/g").read_text(), "y")
        self.assertEqual({p.lstat().st_uid for p in data.rglob("*")}, {USER})
        self.assertEqual((data / "images").stat().st_mode & 0o7777, 0o700)
        # The owners of the archive are not on the disk, so they are not in the digest either.
        other = self.image("import", "two", "-", prefix=prefix, data=data, input=tar_of(
            entry("f", b"x", mode=0o600), entry("closed", type=tarfile.DIRTYPE, mode=0),
            entry("closed/ro", type=tarfile.DIRTYPE, mode=0o555), entry("closed/ro/g", b"y")))
        self.assertEqual(other.text, done.text)
        self.assertOk(self.image("rm", done.text.strip(), prefix=prefix, data=data))
        self.assertEqual(list((data / "images").iterdir()), [])
        self.assertRefused(self.image("ls", prefix=prefix, data=self.unreadable()), 125,
                           "Permission")
        self.assertRefused(self.image("import", "x", "-", input=tree, prefix=prefix,
                                      data="/proc/x/y"), 125, "image store", "remedy:")

    def unreadable(self):
        path = self.tmp / "unreadable"
        path.mkdir(mode=0o700)
        return path

    def test_a_store_that_others_can_write_to(self):
        self.add("one", tar_of())
        self.data.chmod(0o777)
        for args in (("ls",), ("rm", "one"), ("import", "two", "-"), ("gc",)):
            self.assertRefused(self.image(*args, input=b""), 125, "can be changed by others",
                               "remedy:")

    def test_a_broken_image_can_be_repaired_or_removed(self):
        tar = tar_of(entry("f", b"x"))
        digest = self.add("one", tar)
        (self.rootfs(digest).parent / "config.json").write_text("{")
        self.assertRefused(self.image("inspect", "one"), 125, "config.json", "remedy:")
        self.assertEqual(self.json("ls")[1]["broken"], True)
        done = self.image("gc", "--prove")
        self.assertCode(done, 1)
        self.assertIn('"unexplained"', done.text)
        self.assertEqual(self.add("one", tar), digest)
        self.assertOk(self.image("gc", "--prove"))
        (self.rootfs(digest).parent / "config.json").unlink()
        self.assertOk(self.image("rm", "one"))
        self.assertEqual(list((self.data / "images").iterdir()), [])


class Interrupted(ImageCase):
    """What is left when an import stops in the middle, in every way in which it may."""

    def begin(self):
        """An import that has unpacked a part and waits for more; with its confined process."""
        whole = tar_of(entry("f", os.urandom(4 * MIB)))
        p = subprocess.Popen(**self.command(("import", "one", "-")), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.addCleanup(self._end, p)
        p.stdin.write(whole[:2 * MIB])
        p.stdin.flush()
        wait_until("a file is being unpacked", lambda: list(self.data.glob("tmp/*/image/rootfs/f")))
        children = pathlib.Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()
        self.assertEqual(len(children), 1)
        return p, int(children[0])

    def gone(self, pid):
        wait_until("the confined process ends", lambda: not os.path.exists(f"/proc/{pid}"), 2)

    def test_killed(self):
        p, child = self.begin()
        self.assertOk(self.image("gc"))  # at work: it must stay
        self.assertEqual(len(self.staged()), 1)
        p.kill()
        p.wait()
        self.gone(child)
        self.assertEqual(len(self.staged()), 1)
        lines = [json.loads(line) for line in self.image("gc", "--prove").text.splitlines()]
        self.assertEqual([(o["kind"], o["state"]) for o in lines], [("image-staging", "stale")])
        self.assertEqual(len(self.staged()), 1)
        lines = [json.loads(line) for line in self.image("gc").text.splitlines()]
        self.assertEqual([(o["kind"], o["state"]) for o in lines], [("image-staging", "removed")])
        self.assertEqual(self.staged(), [])

    def test_the_next_import_cleans_up(self):
        p, child = self.begin()
        p.kill()
        p.wait()
        self.gone(child)
        self.add("two", tar_of())
        self.assertEqual(self.staged(), [])
        self.assertOk(self.image("gc", "--prove"))

    def test_signalled(self):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            p, child = self.begin()
            p.send_signal(sig)
            out, err = p.communicate(timeout=5 * SLOW)
            self.assertEqual((p.returncode, out), (125, b""))
            self.assertIn(b"interrupted", err)
            self.gone(child)
            self.assertNoTrace("one")

    def test_its_confined_process_killed(self):
        p, child = self.begin()
        os.kill(child, signal.SIGKILL)
        out, err = p.communicate(timeout=5 * SLOW)
        self.assertEqual((p.returncode, out), (125, b""))
        self.assertIn(b"killed by signal 9", err)
        self.assertNoTrace("one")

    def test_its_confined_process_can_reach_nothing(self):
        p, child = self.begin()
        status = pathlib.Path(f"/proc/{child}/status").read_text()

        def field(name):
            return re.search(rf"^{name}:[ \t]*(.*)$", status, re.M).group(1).split()
        self.assertEqual(field("NoNewPrivs"), ["1"])
        self.assertEqual(field("Seccomp"), ["0" if SANITIZED else "2"])
        # CHOWN, DAC_OVERRIDE, FOWNER; nothing inheritable, nothing ambient.
        self.assertEqual(int(field("CapEff")[0], 16) & ~0b1011, 0)
        self.assertEqual(int(field("CapPrm")[0], 16) & ~0b1011, 0)
        self.assertEqual(int(field("CapBnd")[0], 16), 0)
        if os.geteuid() == 0:
            self.assertNotIn("0", field("Uid") + field("Gid"))
            self.assertEqual(field("Groups"), [])
            self.assertEqual(os.listdir(f"/proc/{child}/root/"), ["f"])
            mounts = pathlib.Path(f"/proc/{child}/mountinfo").read_text().splitlines()
            self.assertEqual(len(mounts), 1)
            for option in ("nosuid", "nodev", "noexec"):
                self.assertIn(option, mounts[0])
            fds = pathlib.Path(f"/proc/{child}/fd")
            links = {os.readlink(fd) for fd in fds.iterdir()}
            self.assertEqual({link for link in links
                              if not re.match(r"pipe:|/dev/null$|/f$|/$", link)
                              and not SANITIZED}, set())
            for ns in ("mnt", "net", "ipc", "uts"):
                self.assertNotEqual(os.readlink(f"/proc/{child}/ns/{ns}"),
                                    os.readlink(f"/proc/self/ns/{ns}"))
        p.kill()

    def test_a_full_disk(self):
        need_root()
        data = self.tmp / "small"
        data.mkdir()
        source = self.tmp / "source.tar"
        files = tar_of(*(entry(f"f{i}", os.urandom(2000)) for i in range(3000)))
        source.write_bytes(files)
        for options, what in (("size=3m", "No space left"), ("nr_inodes=50", "No space left"),
                              ("size=16k", "No space left"), ("ro", "Read-only file system")):
            # Afterwards in the same namespace: the image of before is whole, nothing is left over.
            script = (f"mount -t tmpfs -o mode=755,{options} none {data}; "
                      f"{self.program} import one {source}; echo code $?; "
                      f"find {data}/tmp {data}/names -mindepth 1 | wc -l")
            p = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script],
                               env={**os.environ, "BRIG_DATA": str(data)}, capture_output=True,
                               text=True, timeout=60 * SLOW)
            with self.subTest(options):
                self.assertIn("code 125\n0\n", p.stdout, p.stderr)
                self.assertRegex(p.stderr, what)
                self.assertRegex(p.stderr, r"\n  remedy: .*BRIG_DATA")


class Base(ImageCase):
    def test_what_is_missing_is_named(self):
        alone = self.tmp / "bin"
        alone.mkdir()
        shutil.copy2(self.program, alone / "brig-image")
        self.assertRefused(self.image("build", "base", prefix=("env", "PATH=/nonexistent")), 125,
                           "mmdebstrap is not installed", "remedy: apt-get install mmdebstrap")
        self.program = alone / "brig-image"
        need_program("mmdebstrap")
        self.assertRefused(self.image("build", "base"), 125, "brig-sudo", "remedy:")
        self.assertRefused(self.image("build", "base", "--suite", "../x"), 125)

    def test_without_a_network(self):
        need_root()
        need_program("mmdebstrap")
        old = self.add("base", tar_of())
        done = self.image("build", "base", "-q", prefix=("unshare", "-n"), timeout=120)
        self.assertRefused(done, 125, "mirror cannot be reached", "remedy:")
        self.assertEqual(self.json("inspect", "base")[0]["digest"], old)
        self.assertEqual(self.staged(), [])

    def test_the_default_image(self):
        need_base()
        self.data = brigtest.data_dir()
        (info,) = self.json("inspect", "base")
        self.assertEqual(info["user"],
                         {"name": "user", "uid": 1000, "gid": 1000, "home": "/home/user"})
        self.assertEqual((info["workdir"], info["env"]["LANG"]), ("/home/user", "C.UTF-8"))
        rootfs = self.rootfs(info["digest"])
        for program in ("bash", "ls", "python3", "pip3", "node", "git", "curl", "sudo", "tput",
                        "ps"):
            self.assertTrue(os.path.lexists(rootfs / "usr/bin" / program), program)
        for gone in ("etc/machine-id", "etc/apt/apt.conf.d/99mmdebstrap",
                     "var/lib/dbus/machine-id"):
            self.assertFalse(os.path.lexists(rootfs / gone), gone)
        self.assertEqual([p for p in (rootfs / "var/lib/apt/lists").iterdir() if p.is_file()
                          and p.name != "lock"], [])
        self.assertEqual(list((rootfs / "var/cache/apt").glob("**/*.deb")), [])
        self.assertEqual((rootfs / "etc/resolv.conf").read_bytes(), b"")
        self.assertNotIn(os.uname().nodename.encode(), (rootfs / "etc/hostname").read_bytes())
        self.assertIn("sudo:x:27:user", (rootfs / "etc/group").read_text())
        self.assertEqual((rootfs / "usr/local/bin/sudo").stat().st_mode & 0o7777, 0o755)
        self.assertEqual((rootfs / "usr/bin/sudo").resolve().name, "sudo")
        wrong = [p for p in rootfs.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o6000]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
