# SPDX-License-Identifier: Apache-2.0
"""brig cp, both ways, with Docker's rules; and against a sandbox that wants to write elsewhere."""

import hashlib
import os
import random
import stat
import threading
import time

import brigtest
from brigtest import MIB, MemoryWatch, ResidentCase


class Cp(ResidentCase):
    def setUp(self):
        super().setUp()
        done = self.brig.call("create", "--image", "host", "--memory", "400m", "--disk", "300m")
        self.assertOk(done)
        self.id = done.text.strip()

    def inside(self, script, **kw):
        done = self.brig.call("exec", self.id, "sh", "-c", script, **kw)
        self.assertOk(done)
        return done.out

    def cp(self, source, target, **kw):
        return self.brig.call("cp", source, target, **kw)

    def test_a_file_goes_in_and_comes_out_unchanged(self):
        data = random.Random(1).randbytes(3 * MIB + 17)
        source, back = self.tmp / "data", self.tmp / "back"
        source.write_bytes(data)
        self.assertOk(self.cp(source, f"{self.id}:/tmp/data"))
        self.assertEqual(self.inside("sha256sum </tmp/data").split()[0].decode(),
                         hashlib.sha256(data).hexdigest())
        self.assertOk(self.cp(f"{self.id}:/tmp/data", back))
        self.assertEqual(back.read_bytes(), data)

    def test_sizes_at_the_edges(self):
        for size in (0, 1, 4095, 4096, 65536, 262143, 262144, 262145):
            with self.subTest(size):
                source, back = self.tmp / f"s{size}", self.tmp / f"b{size}"
                source.write_bytes(b"z" * size)
                self.assertOk(self.cp(source, f"{self.id}:/tmp/e"))
                self.assertOk(self.cp(f"{self.id}:/tmp/e", back))
                self.assertEqual(back.read_bytes(), b"z" * size)

    def test_modes_and_links_are_kept_and_the_owner_is_the_user(self):
        tree = self.tmp / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
        (tree / "run.sh").chmod(0o750)
        (tree / "sub" / "f").write_text("f")
        (tree / "sub" / "f").chmod(0o604)
        (tree / "link").symlink_to("sub/f")
        (tree / "dangling").symlink_to("/nowhere/at/all")
        self.assertOk(self.cp(tree, f"{self.id}:/home/user/tree"))
        out = self.inside("cd ~/tree; stat -c '%n %a %U' run.sh sub/f; readlink link dangling; "
                          "./run.sh").decode()
        self.assertEqual(out.splitlines(), ["run.sh 750 user", "sub/f 604 user", "sub/f",
                                            "/nowhere/at/all", "ran"])
        back = self.tmp / "back"
        self.assertOk(self.cp(f"{self.id}:/home/user/tree", back))
        self.assertEqual(stat.S_IMODE((back / "run.sh").stat().st_mode), 0o750)
        self.assertEqual(os.readlink(back / "dangling"), "/nowhere/at/all")
        self.assertEqual((back / "sub" / "f").read_text(), "f")

    def test_directories_as_docker_does(self):
        d = self.tmp / "dir"
        d.mkdir()
        (d / "f").write_text("1")
        # The target does not exist: it becomes the copy. It exists: the copy goes below it.
        self.assertOk(self.cp(d, f"{self.id}:/tmp/new"))
        self.assertEqual(self.inside("cat /tmp/new/f"), b"1")
        self.assertOk(self.cp(d, f"{self.id}:/tmp/new"))
        self.assertEqual(self.inside("cat /tmp/new/dir/f"), b"1")
        self.assertOk(self.cp(d / "f", f"{self.id}:/tmp/new/"))
        self.assertEqual(self.inside("cat /tmp/new/f"), b"1")
        done = self.cp(d / "f", f"{self.id}:/tmp/missing/dir/")
        self.assertNotEqual(done.code, 0)
        done = self.cp(d, f"{self.id}:/tmp/new/f")
        self.assertNotEqual(done.code, 0, "a directory replaced a file")
        host = self.tmp / "host"
        host.mkdir()
        self.assertOk(self.cp(f"{self.id}:/tmp/new/f", f"{host}/"))
        self.assertEqual((host / "f").read_text(), "1")
        self.assertOk(self.cp(f"{self.id}:/tmp/new", host))
        self.assertEqual((host / "new" / "f").read_text(), "1")

    def test_what_is_missing_or_closed_is_an_error(self):
        f = self.tmp / "f"
        f.write_text("x")
        table = [((f"{self.id}:/nowhere", self.tmp), "nowhere"),
                 ((self.tmp / "missing", f"{self.id}:/tmp/x"), "missing"),
                 ((f, f"{self.id}:/usr/f"), ""), ((f, f"{self.id}:/root/f"), ""),
                 ((f"{self.id}:/etc/shadow", self.tmp), ""), ((f, "nosuch:/tmp/f"), "nosuch"),
                 ((f, f), ""), ((f"{self.id}:/tmp", f"{self.id}:/var/tmp"), "")]
        for (source, target), word in table:
            with self.subTest(f"{source} {target}"):
                done = self.cp(source, target)
                self.assertIn(done.code, (1, 2, 125), str(done))
                self.assertIn(word, done.errors)

    def test_a_full_sandbox_is_an_error(self):
        f = self.tmp / "big"
        with open(f, "wb") as out:
            out.truncate(350 * MIB)
        done = self.cp(f, f"{self.id}:/tmp/big")
        self.assertCode(done, 125)
        self.assertIn("space", done.errors)

    def test_a_big_file_needs_little_memory(self):
        f = self.tmp / "big"
        with open(f, "wb") as out:
            for _ in range(200):
                out.write(os.urandom(MIB))
        with MemoryWatch() as watch:
            self.assertOk(self.cp(f, f"{self.id}:/tmp/big"))
            self.assertOk(self.cp(f"{self.id}:/tmp/big", self.tmp / "back"))
        self.assertTrue((self.tmp / "back").read_bytes() == f.read_bytes())
        if not brigtest.SANITIZED:
            for program in ("brig", "brigd"):
                self.assertLess(watch.peak.get(program, 0), 32 * MIB, watch.peak)

    def test_many_files(self):
        tree = self.tmp / "many"
        tree.mkdir()
        for i in range(1500):
            (tree / f"file {i}").write_text(str(i))
        self.assertOk(self.cp(tree, f"{self.id}:/tmp/many"))
        self.assertEqual(self.inside("ls /tmp/many | wc -l").strip(), b"1500")
        self.assertOk(self.cp(f"{self.id}:/tmp/many", self.tmp / "back"))
        self.assertEqual((self.tmp / "back" / "file 1234").read_text(), "1234")

    def test_odd_names_pass(self):
        names = ["a b", "-rf", "ä𝄞", "quote'\"", "back\\slash", "new\nline", "*", "x" * 255]
        tree = self.tmp / "odd"
        tree.mkdir()
        for name in names:
            (tree / name).write_text(name)
        self.assertOk(self.cp(tree, f"{self.id}:/tmp/odd"))
        self.assertOk(self.cp(f"{self.id}:/tmp/odd", self.tmp / "back"))
        self.assertEqual(sorted(p.name for p in (self.tmp / "back").iterdir()), sorted(names))

    # ---- a hostile sandbox ----

    def host_victim(self):
        victim = self.tmp / "victim"
        victim.mkdir()
        (victim / "key").write_text("untouched")
        return victim

    def test_a_link_that_came_out_is_not_followed_on_the_host(self):
        victim = self.host_victim()
        target = self.tmp / "target"
        target.mkdir()
        # First a link to the outside arrives, then a file of the same name tries to go through it.
        self.inside(f"mkdir /tmp/t; ln -s {victim} /tmp/t/way; ln -s {victim}/key /tmp/t/file")
        self.assertOk(self.cp(f"{self.id}:/tmp/t", target))
        self.inside("cd /tmp; rm -r t; mkdir -p t/way; echo evil >t/way/key; echo evil >t/file")
        self.cp(f"{self.id}:/tmp/t", target)  # success or an error are both right
        self.assertEqual((victim / "key").read_text(), "untouched")
        self.assertEqual([p.name for p in victim.iterdir()], ["key"])

    def test_a_tree_that_changes_while_it_is_read_writes_nowhere_else(self):
        victim = self.host_victim()
        self.inside("mkdir -p /tmp/t/a /tmp/spare; for i in $(seq 200); do echo evil >/tmp/t/a/f$i; done; "
                    "echo evil >/tmp/t/a/key")
        swap = self.brig.popen("exec", self.id, "sh", "-c", f"echo ready; cd /tmp/t; while :; do "
                               f"mv a ../spare/a 2>/dev/null; ln -s {victim} a 2>/dev/null; rm -f a; "
                               "mv ../spare/a a 2>/dev/null; done")
        self.addCleanup(self._end, swap)
        swap.stdout.readline()
        for i in range(12):
            target = self.tmp / f"out{i}"
            self.cp(f"{self.id}:/tmp/t", target)
            self.assertEqual((victim / "key").read_text(), "untouched")
            self.assertEqual([p.name for p in victim.iterdir()], ["key"])

    def test_the_target_inside_is_resolved_inside_and_as_the_user(self):
        f = self.tmp / "f"
        f.write_text("new")
        victim = self.host_victim()
        # Were the link followed by a process of the host, the victim would change.
        self.inside(f"ln -s {victim}/key /tmp/k; mkdir -p /tmp/d; ln -s {victim} /tmp/d/way")
        for target in ("/tmp/k", "/tmp/d/way/key", f"/proc/1/root{victim}/key", "/../../../tmp/up"):
            self.cp(f, f"{self.id}:{target}")
            self.assertEqual((victim / "key").read_text(), "untouched", target)
        self.assertNotEqual(self.cp(f, f"{self.id}:/etc/new").code, 0, "written as root inside")

    def test_fifos_devices_and_endless_files_do_not_hang(self):
        self.inside("mkfifo /tmp/fifo")
        for source in ("/tmp/fifo", "/dev/zero", "/dev/tty"):
            with self.subTest(source):
                start = time.monotonic()
                done = self.cp(f"{self.id}:{source}", self.tmp / "x", timeout=30)
                self.assertNotEqual(done.code, 0, f"{source} was copied")
                self.assertLess(time.monotonic() - start, 10 * brigtest.SLOW)

    def test_a_file_that_grows_ends(self):
        grow = self.brig.popen("exec", self.id, "sh", "-c",
                               "echo ready; while :; do head -c 100000 /dev/zero >>/tmp/g; "
                               "[ $(stat -c %s /tmp/g) -gt 90000000 ] && : >/tmp/g; done")
        self.addCleanup(self._end, grow)
        grow.stdout.readline()
        for _ in range(3):
            self.cp(f"{self.id}:/tmp/g", self.tmp / "g", timeout=40)
            self.assertLess((self.tmp / "g").stat().st_size if (self.tmp / "g").exists() else 0,
                            200 * MIB)

    def test_deep_trees_end(self):
        self.inside("cd /tmp; for i in $(seq 400); do mkdir d && cd d; done; echo x >f")
        self.cp(f"{self.id}:/tmp/d", self.tmp / "deep", timeout=60)
        self.assertEqual(self.inside("echo alive"), b"alive\n")

    def test_copies_at_the_same_time(self):
        files = []
        for i in range(6):
            f = self.tmp / f"p{i}"
            f.write_bytes(random.Random(i).randbytes(5 * MIB))
            files.append(f)
        codes = {}

        def one(i):
            a = self.cp(files[i], f"{self.id}:/tmp/p{i}").code
            b = self.cp(f"{self.id}:/tmp/p{i}", self.tmp / f"q{i}").code
            codes[i] = (a, b)
        threads = [threading.Thread(target=one, args=(i,)) for i in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(set(codes.values()), {(0, 0)}, codes)
        for i in range(6):
            self.assertTrue((self.tmp / f"q{i}").read_bytes() == files[i].read_bytes())
