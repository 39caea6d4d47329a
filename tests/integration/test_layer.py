# SPDX-License-Identifier: Apache-2.0
"""The writable layer as a stream (FS_EXPORT, FS_IMPORT), and the attributes of files."""

import errno
import os
import stat
import struct

import wire
from brigtest import MIB, ResidentCase

# Every kind of change: made, changed, removed, replaced by another kind; in the home, /tmp and /etc.
CHANGE = r"""
set -e
cd /home/user
mkdir -p deep/er/est many
echo text >deep/er/est/file; chmod 640 deep/er/est/file
touch -d '2001-02-03 04:05:06.789 UTC' deep/er/est/file
ln deep/er/est/file deep/second
ln -s est/file deep/er/link
ln -s nowhere dangling
mkfifo -m 620 fifo
head -c 3000000 /dev/urandom >big
truncate -s 1000000000 holes; printf end | dd of=holes bs=1 seek=500000000 conv=notrunc status=none
for i in $(seq 300); do echo $i >many/$i; done
chmod 700 deep; touch -d '2002-03-04 05:06:07 UTC' deep
mkdir empty
echo tmp >/tmp/in-tmp
"""
CHANGE_ROOT = r"""
set -e
echo changed >>/etc/hosts
rm /etc/shells /etc/nsswitch.conf
mkdir /etc/nsswitch.conf; echo x >/etc/nsswitch.conf/inside
rm -r /var/log; echo file >/var/log
mkdir -p /srv/a; chown 1:1 /srv/a; chmod 2775 /srv/a
rm -r /opt; mkdir /opt; echo new >/opt/new
mv /var/cache /var/moved; chmod 600 /etc/os-release; mv /etc/hostname /home/moved-file
echo shm >/dev/shm/not-travelling
echo '#!/bin/sh' >/usr-local-not; chmod 4755 /usr-local-not
"""
# A description that two equal trees share: everything but what other mounts show.
DESCRIBE = r"""
cd / && find . -xdev \( -path ./proc -o -path ./dev -o -path ./usr -o -path ./etc/alternatives \) \
  -prune -o -type d -printf '%p|%y|%m|%U:%G|%T@\n' -o -printf '%p|%y|%m|%U:%G|%s|%l|%T@|%n\n' | sort
find . -xdev \( -path ./proc -o -path ./dev -o -path ./usr -o -path ./etc/alternatives \) \
  -prune -o -type f -size -100M -print0 | sort -z | xargs -0 sha256sum
"""


class Layer(ResidentCase):
    def create(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def sh(self, id_, script, user="root"):
        done = self.brig.call("exec", "--user", user, id_, "sh", "-c", script)
        self.assertOk(done)
        return done.text

    def fs(self, id_, user="0"):
        f = wire.Fs(self.brig.socket, id_, user=user)
        self.addCleanup(f.close)
        return f

    def export(self, id_):
        return self.fs(id_).do(wire.FS_EXPORT, "/")

    def load(self, id_, data):
        return self.fs(id_).do(wire.FS_IMPORT, "/", data=data)

    def describe(self, id_):
        return self.sh(id_, DESCRIBE).splitlines()

    def test_a_copy_equals_its_source(self):
        a, b = self.create(), self.create()
        self.sh(a, CHANGE, "user")
        self.sh(a, CHANGE_ROOT)
        data = self.export(a)
        self.assertLess(len(data), 5 * MIB, "holes are not sent")
        self.load(b, data)
        self.assertEqual(self.describe(a), self.describe(b))
        self.assertEqual(self.sh(b, "cd /home/user; stat -c %i deep/second deep/er/est/file | uniq | "
                                 "wc -l; du -k holes | cut -f1; ls /dev/shm").split(), ["1", "4"])
        self.assertEqual(self.sh(b, "echo more >>/home/user/deep/second; cat "
                                 "/home/user/deep/er/est/file", "user"), "text\nmore\n")

    def test_an_import_undoes_what_the_source_does_not_have(self):
        a, b = self.create(), self.create()
        self.sh(a, "echo a >/home/user/a")
        self.sh(b, "mkdir -p /home/user/x/y/z; echo b >/home/user/x/y/z/b; rm /etc/hosts; "
                "rm -r /home/user/a; mkdir -p /home/user/a/b")
        self.load(b, self.export(a))
        self.assertEqual(self.sh(b, "ls /home/user; cat /home/user/a"), "a\na\n")

    def test_a_copy_of_a_copy(self):
        a, b, c = self.create(), self.create(), self.create()
        self.sh(a, CHANGE, "user")
        self.sh(a, CHANGE_ROOT)
        self.load(b, self.export(a))
        self.load(c, self.export(b))
        self.assertEqual(self.describe(a), self.describe(c))

    def test_volumes_stay_where_they_are(self):
        for name in ("va", "vb"):
            (self.tmp / name).mkdir()
            os.chown(self.tmp / name, 1000, 1000)
            (self.tmp / name / "host").write_text(name)
        (self.tmp / "file").write_text("one file")
        a = self.create("-v", f"{self.tmp}/va:/vol", "-v", f"{self.tmp}/file:/one:ro")
        b = self.create("-v", f"{self.tmp}/vb:/vol", "-v", f"{self.tmp}/file:/one:ro")
        c, d = self.create(), self.create("-v", f"{self.tmp}/vb:/other")
        self.sh(a, "echo out >/home/user/o")
        data = self.export(a)
        for id_ in (b, c, d):
            self.load(id_, data)
            self.assertEqual(self.sh(id_, "cat /home/user/o"), "out\n")
        self.assertEqual(self.sh(b, "cat /vol/host /one"), "vbone file")
        self.assertEqual(self.sh(c, "ls -d /vol /one 2>/dev/null; true"), "")
        self.assertEqual(self.sh(d, "cat /other/host"), "vb")
        self.assertEqual((self.tmp / "vb" / "host").read_text(), "vb")

    def test_a_sandbox_that_is_too_small_says_so(self):
        a, b = self.create(), self.create("--disk", "4m")
        self.sh(a, "head -c 8000000 /dev/zero | tr '\\0' x >/home/user/big")
        data = self.export(a)
        with self.assertRaises(OSError) as e:
            self.load(b, data)
        self.assertEqual(e.exception.errno, errno.ENOSPC)
        self.assertEqual(e.exception.filename, "home/user/big")

    def test_only_for_root(self):
        a = self.create()
        for kind in (wire.FS_EXPORT, wire.FS_IMPORT):
            with self.assertRaises(OSError) as e:
                self.fs(a, "user").do(kind, "/", data=b"")
            self.assertEqual(e.exception.errno, errno.EPERM)
        with self.assertRaises(OSError) as e:
            self.fs(a).do(wire.FS_EXPORT, "/etc")
        self.assertEqual(e.exception.errno, errno.EINVAL)

    def test_hostile_streams_change_nothing_outside(self):
        a = self.create()
        self.sh(a, "ln -s /etc /home/user/link")
        head = b"brglayer" + struct.pack("<II", 1, 0)

        def rec(type_, body, mode=0, size=0):
            return struct.pack("<IHHIIIIqQ", len(body), type_, 0, mode, 0, 0, 0, 0, size) + body

        end = rec(10, b"")
        for what, data in {
                "up": rec(3, b"../x\0", 0o644) + end,
                "absolute": rec(3, b"/etc/x\0", 0o644) + end,
                "dots": rec(3, b"etc/./x\0", 0o644) + end,
                "through a link": rec(3, b"home/user/link/x\0", 0o644) + end,
                "into proc": rec(3, b"proc/x\0", 0o644) + end,
                "into usr, another mount": rec(3, b"usr/x\0", 0o644) + end,
                "data of nothing": rec(4, b"abc") + end,
                "data beyond": rec(3, b"f\0", 0o644, 2) + rec(4, b"abc") + end,
                "names unsorted": rec(1, b"\0") + rec(2, b"b\0a\0") + end,
                "names of nothing": rec(2, b"b\0") + end,
                "type": rec(77, b"") + end,
                "overlay's own": rec(3, b"f\0", 0o644) + rec(8, b"user.overlay.opaque\0y") + end,
                "trusted": rec(3, b"f\0", 0o644) + rec(8, b"trusted.x\0y") + end,
                "too long": struct.pack("<IHHIIIIqQ", 1 << 30, 3, 0, 0, 0, 0, 0, 0, 0),
                "cut": rec(3, b"f\0", 0o644),
                "nothing": b""}.items():
            with self.subTest(what):
                with self.assertRaises(OSError):
                    self.load(a, head + data)
        self.assertEqual(self.sh(a, "ls /etc/x /usr/x /x 2>/dev/null; cat /etc/hosts | wc -l"), "2\n")
        with self.assertRaises(OSError):
            self.load(a, b"BRGLAYER" + head[8:] + end)

    def test_the_layers_descriptor_leads_nowhere(self):
        """What the agent keeps open must not be a way to what the root covers."""
        a = self.create()
        f = self.fs(a)
        seen = {}
        for fd in range(3, 12):
            for up in ("", "/..", "/../..", "/../../.."):
                try:
                    names = f.do(wire.FS_LIST, f"/proc/self/fd/{fd}{up}", arg=1)
                except OSError:
                    continue
                seen[f"{fd}{up}"] = {e.path for e in names}
        self.assertTrue(seen, "the layer itself is there")
        for way, names in seen.items():
            self.assertFalse(names & {"skel", "alt", "w", "u", "p"}, way)  # "usr" is the image's, too
        for fd in range(3, 12):
            done = self.brig.call("exec", "--user", "root", a, "ls", f"/proc/1/fd/{fd}/")
            self.assertNotEqual(done.code, 0, "root inside uses the agent's descriptors")

    # ---- attributes and links ----

    def test_pairs_of_a_file_are_kept_and_replaced(self):
        a, b = self.create(), self.create()
        f = self.fs(a, "user")
        try:
            f.write("/home/user/f", b"data", {"author": "me", "empty": "", "k" * 246: "long"})
        except OSError as e:
            self.assertEqual(e.errno, errno.EOPNOTSUPP)
            f.write("/home/user/f", b"data")
            self.skipTest("this kernel's tmpfs has no attributes of users")
        f = self.fs(a, "user")
        want = {"author": "me", "empty": "", "k" * 246: "long"}
        self.assertEqual(f.stat("/home/user/f").meta, want)
        self.assertEqual([e.meta for e in f.do(wire.FS_LIST, "/home/user", arg=1, flags=wire.META)
                          if e.path == "f"], [want])
        self.assertEqual(f.stat("/home/user/f", flags=0).meta, {})
        self.load(b, self.export(a))
        self.assertEqual(self.fs(b, "user").stat("/home/user/f").meta, want)
        f.write("/home/user/f", b"other")
        self.assertEqual(f.stat("/home/user/f").meta, want, "a plain write keeps them")
        f.write("/home/user/f", b"other", {"author": "you"})
        self.assertEqual(f.stat("/home/user/f").meta, {"author": "you"})
        f.write("/home/user/f", b"third", {})
        self.assertEqual(f.stat("/home/user/f").meta, {})
        self.assertEqual(f.do(wire.FS_READ, "/home/user/f"), b"third")

    def test_too_many_pairs_are_refused(self):
        a = self.create()
        for pairs in ({"k" * 247: ""}, {"": "x"}, {"k": "v" * 4096},
                      {str(n): "" for n in range(129)}):
            with self.subTest(len(pairs)), self.assertRaises((EOFError, AssertionError, OSError)):
                self.fs(a, "user").write("/home/user/f", b"", pairs)

    def test_links_are_resolved(self):
        a = self.create()
        self.sh(a, "cd /home/user; mkdir d; echo 12345 >d/f; ln -s d/f l; ln -s l ll; ln -s d dl; "
                "ln -s gone x", "user")
        f = self.fs(a, "user")
        ll = f.stat("ll")
        self.assertEqual((ll.target, stat.S_ISREG(ll.mode), ll.size), ("/home/user/d/f", True, 1))
        x = f.stat("x")
        self.assertEqual((x.target, x.mode), ("/home/user/x", 0))
        found = {e.path: (e.target, stat.S_IFMT(e.mode))
                 for e in f.do(wire.FS_LIST, "/home/user", arg=1, flags=wire.RESOLVE)}
        self.assertEqual({k: v for k, v in found.items() if v[0]},
                         {"l": ("/home/user/d/f", stat.S_IFREG), "x": ("/home/user/x", 0),
                          "ll": ("/home/user/d/f", stat.S_IFREG),
                          "dl": ("/home/user/d", stat.S_IFDIR)})
