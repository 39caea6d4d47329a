# SPDX-License-Identifier: Apache-2.0
"""Images through the command line: import, list, inspect, remove, run; the base image and its sudo. (The
importer's own tests are in test_image.py.)"""

import os
import shutil
import tarfile

import brigtest
from brigtest import Brig, PrivateCase, ResidentCase


def small_tree(path):
    """A root file system around one static shell."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise brigtest.unittest.SkipTest("'busybox' is not installed (package busybox-static)")
    for d in ("bin", "etc", "tmp", "proc", "sys", "dev", "run", "home/user"):
        (path / d).mkdir(parents=True)
    shutil.copy(busybox, path / "bin" / "busybox")
    for name in ("sh", "cat", "echo", "id", "ls", "stat", "true"):
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (path / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\n")
    (path / "etc" / "brand").write_text("small\n")


class Images(PrivateCase):
    def setUp(self):
        super().setUp()
        self.data = self.tmp / "store"
        self.data.mkdir()
        self.tmp.chmod(0o755)
        self.brig = Brig(data=self.data, image="small")
        self.tree = self.tmp / "tree"
        small_tree(self.tree)

    def list(self):
        """{name: entry} of what was imported; `host` is built in."""
        return {i["name"]: i for i in self.brig.json("image", "ls") if not i["builtin"]}

    def test_a_directory_and_its_archive_are_the_same_image(self):
        self.assertOk(self.brig.call("image", "import", "small", self.tree))
        tar = self.tmp / "small.tar.gz"
        with tarfile.open(tar, "w:gz") as t:
            t.add(self.tree, arcname=".")
        self.assertOk(self.brig.call("image", "import", "again", tar))
        images = self.list()
        self.assertEqual(set(images), {"small", "again"})
        self.assertEqual(images["small"]["digest"], images["again"]["digest"])
        for name in ("small", "again"):
            done = self.brig.call("run", "--image", name, "--", "cat", "/etc/brand")
            self.assertEqual(done.out, b"small\n", str(done))

    def test_an_image_runs_by_name_and_by_digest(self):
        self.assertOk(self.brig.call("image", "import", "small", self.tree))
        info = self.brig.json("image", "inspect", "small")
        info = info[0] if isinstance(info, list) else info
        for ref in ("small", info["digest"]):
            done = self.brig.call("run", "--image", ref, "--user", "user", "--", "sh", "-c",
                                  "cat /etc/brand; id -u; echo $HOME")
            self.assertEqual(done.text.split(), ["small", "1000", "/home/user"], str(done))

    def test_an_image_is_not_changed_by_what_runs_in_it(self):
        self.assertOk(self.brig.call("image", "import", "small", self.tree))
        done = self.brig.run("--user", "root", "--", "sh", "-c",
                             "echo evil >/etc/brand; cat /etc/brand; echo >/bin/new")
        self.assertEqual(done.out, b"evil\n", str(done))
        done = self.brig.run("--", "sh", "-c", "cat /etc/brand; ls /bin/new")
        self.assertEqual(done.out, b"small\n", str(done))

    def test_owners_inside_are_those_of_the_image(self):
        brigtest.need_root()
        os.chown(self.tree / "home" / "user", 1000, 1000)
        (self.tree / "etc" / "mine").write_text("")
        os.chown(self.tree / "etc" / "mine", 12, 34)
        self.assertOk(self.brig.call("image", "import", "small", self.tree))
        done = self.brig.run("--", "stat", "-c", "%u:%g", "/etc/mine", "/home/user", "/etc/brand")
        self.assertEqual(done.text.split(), ["12:34", "1000:1000", "0:0"], str(done))

    def test_a_removed_image_is_gone_and_one_in_use_is_not_removed(self):
        self.assertOk(self.brig.call("image", "import", "small", self.tree))
        p = self.start(self.brig, "--", "sh", "-c", "echo ready; cat; cat /etc/brand", stdin=-1)
        done = self.brig.call("image", "rm", "small")
        p.stdin.close()
        self.assertEqual(p.stdout.read(), b"small\n", "an image vanished below a running sandbox")
        p.wait()  # its output ends before its sandbox does
        if done.code != 0:
            self.assertRefused(done, 125, "use")
            self.assertOk(self.brig.call("image", "rm", "small"))
        self.assertEqual(self.list(), {})
        self.assertRefused(self.brig.run("--", "true"), 125, "small")
        self.assertRefused(self.brig.call("image", "rm", "small"), 125, "small")

    def test_an_image_can_be_removed_as_soon_as_its_last_run_has_returned(self):
        for _ in range(10):
            self.assertOk(self.brig.call("image", "import", "small", self.tree))
            self.assertOk(self.brig.run("--", "true"))
            self.assertOk(self.brig.call("image", "rm", "small"))

    def test_a_corrupt_store_is_named_and_breaks_nothing_else(self):
        self.assertOk(self.brig.call("image", "import", "small", self.tree))
        digest = next((self.data / "images").iterdir())
        config = digest / "config.json"
        good = config.read_bytes()
        for what, text in (("cut", good[:len(good) // 2]), ("empty", b""), ("no JSON", b"\xff\xfe{"),
                           ("another type", b"[]"), ("huge", b"{" + b" " * 30000000)):
            with self.subTest(what):
                config.write_bytes(text)
                self.assertRefused(self.brig.run("--", "true"), 125, "image|config|corrupt")
                self.assertOk(self.brig.call("run", "--image", "host", "--", "true"))
        config.write_bytes(good)
        self.assertOk(self.brig.run("--", "true"))
        (digest / "rootfs").rename(digest / "elsewhere")
        self.assertRefused(self.brig.run("--", "true"), 125, "image|rootfs|corrupt")
        (digest / "rootfs").symlink_to("/etc")
        self.assertRefused(self.brig.run("--", "true"), 125)
        (digest / "rootfs").unlink()
        (digest / "elsewhere").rename(digest / "rootfs")
        self.assertOk(self.brig.run("--", "true"))
        name = self.data / "names" / "small"
        for text in ("", "sha256-" + "0" * 64, "../../etc", "sha256-" + "Z" * 64 + "\n", "x" * 100000):
            with self.subTest(text[:20]):
                name.write_text(text)
                self.assertRefused(self.brig.run("--", "true"), 125)

    def test_image_names(self):
        for name in ("", "..", "../x", "a/b", "-x", "a b", "x" * 300, "host"):
            with self.subTest(name):
                self.assertIn(self.brig.call("image", "import", "--", name, self.tree).code, (2, 125))
        self.assertEqual(self.list(), {})


class HostImage(ResidentCase):
    def test_inspect_of_the_built_in_image_is_told(self):
        done = self.brig.run("--", "cat", "/etc/os-release")
        self.assertIn("brig", done.text)

    def test_hosts_configuration_and_homes_are_hidden(self):
        done = self.brig.run("--user", "root", "--", "sh", "-c",
                             "ls -A /home/user /root; ls /etc | wc -l; cat /etc/shadow /etc/hostname")
        self.assertLess(int([x for x in done.text.split() if x.isdigit()][0]), 20, str(done))
        self.assertNotIn("$", done.text)


class Base(ResidentCase):
    @classmethod
    def setUpClass(cls):
        brigtest.need_base()
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.base = Brig(socket=self.brig.socket, image="base")

    def sh(self, script, *args):
        done = self.base.run("--memory", "700m", *args, "--", "bash", "-c", script)
        self.assertOk(done)
        return done.text

    def test_base_is_the_default_image(self):
        done = self.brig.call("run", "--", "cat", "/etc/os-release")
        self.assertIn("Debian", done.text, str(done))

    def test_base_has_what_it_promises(self):
        out = self.sh("for p in bash ls python3 pip3 node git curl sudo tput; do command -v $p >/dev/null "
                      "|| echo missing $p; done; id -un; id -u; pwd; echo $HOME; python3 -c 'print(6*7)'; "
                      "node -p '6*7'; git --version >/dev/null && echo git")
        self.assertEqual(out.split(), ["user", "1000", "/home/user", "/home/user", "42", "42", "git"])

    def test_sudo_needs_no_password_and_is_root_inside_only(self):
        out = self.sh("sudo id -u; sudo -n whoami; sudo -u user id -u; echo x | sudo tee /etc/new "
                      ">/dev/null && stat -c %U /etc/new; sudo sh -c 'exit 7'; echo $?; "
                      "sudo -k; A=b sudo -E sh -c 'echo $A'; echo in | sudo cat; "
                      "sudo grep CapEff /proc/self/status")
        lines = out.split()
        self.assertEqual(lines[:8], ["0", "root", "1000", "root", "7", "b", "in", "CapEff:"], out)
        self.assertEqual(int(lines[8], 16) >> 19, 0, "privileges beyond those of root inside")

    def test_sudo_is_for_members_of_its_group(self):
        done = self.base.run("--user", "nobody", "--", "sudo", "-n", "id", "-u")
        self.assertNotEqual(done.out, b"0\n", str(done))
        self.assertNotEqual(done.code, 0)

    def test_packages_work_as_root_inside(self):
        out = self.sh("sudo dpkg --audit && echo sound; sudo dpkg-query -W -f='${Status}' bash")
        self.assertIn("sound", out)
        self.assertIn("installed", out)

    def test_a_real_session(self):
        out = self.sh("mkdir w && cd w && git init -q . && git config user.email a@b && git config "
                      "user.name n && echo 'print(sum(range(101)))' >s.py && git add . && git commit -qm one "
                      "&& python3 s.py && git log --oneline | wc -l && python3 -m venv --without-pip v && "
                      "v/bin/python -c 'print(1)' && echo 'console.log([1,2].map(x=>x*2).join())' >n.js && "
                      "node n.js")
        self.assertEqual(out.split(), ["5050", "1", "1", "2,4"])


class Formats(PrivateCase):
    def test_ls_of_an_empty_store(self):
        brig = Brig(data=self.tmp / "none")
        self.assertEqual([i["name"] for i in brig.json("image", "ls")], ["host"])
        self.assertIn("host", brig.call("image", "ls").text)
