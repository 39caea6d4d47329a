# SPDX-License-Identifier: Apache-2.0
"""Host directories and files inside: what the sandbox may do to them, and what it may not leave there."""

import os
import stat

import brigtest
from brigtest import PrivateCase, ResidentCase


class VolumeCases:
    def setUp(self):
        brigtest.need_root()
        super().setUp()
        self.dir = self.tmp / "shared"
        self.dir.mkdir()

    def inside(self, script, *args, volume=None, user="user"):
        return self.brig.run("--user", user, "--volume", volume or f"{self.dir}:/data", *args, "--",
                             "sh", "-c", script)

    def test_a_read_only_volume_shows_and_takes_nothing(self):
        (self.dir / "f").write_text("content")
        done = self.inside("cat /data/f; echo x >/data/new; echo x >>/data/f; rm /data/f; mkdir /data/d; "
                           "chmod 777 /data/f; touch /data/f; exit 5", volume=f"{self.dir}:/data:ro")
        self.assertEqual((done.code, done.out), (5, b"content"), str(done))
        self.assertEqual([p.name for p in self.dir.iterdir()], ["f"])
        self.assertEqual((self.dir / "f").read_text(), "content")

    def test_read_only_holds_for_root_inside_too(self):
        done = self.inside("echo x >/data/new; mount -o remount,rw /data; echo x >/data/new; exit 5",
                           volume=f"{self.dir}:/data:ro", user="root")
        self.assertCode(done, 5)
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_what_the_user_writes_belongs_to_the_owner_of_the_volume(self):
        os.chown(self.dir, 4321, 4322)
        done = self.inside("stat -c '%U %G' /data; echo mine >/data/new; mkdir /data/d; "
                           "stat -c %U /data/new /data/d")
        self.assertEqual(done.text.split(), ["user", "user", "user", "user"], str(done))
        for p in (self.dir / "new", self.dir / "d"):
            self.assertEqual((p.stat().st_uid, p.stat().st_gid), (4321, 4322))
        self.assertEqual((self.dir / "new").read_text(), "mine\n")

    def test_files_of_others_in_a_volume_stay_closed(self):
        secret = self.dir / "secret"
        secret.write_text("canary")
        secret.chmod(0o600)
        os.chown(self.dir, 4321, 4321)
        for user in ("user", "root"):
            done = self.inside("cat /data/secret; stat -c %u /data/secret", user=user)
            self.assertEqual(done.out, b"65534\n", f"{user}: {done}")

    def test_root_inside_makes_no_file_of_another_owner(self):
        os.chown(self.dir, 4321, 4321)
        self.inside("echo x >/data/f; chown 0:0 /data/f; chown 1:1 /data/f; cp -p /usr/bin/id /data/id",
                    user="root")
        for p in self.dir.iterdir():
            self.assertEqual((p.stat().st_uid, p.stat().st_gid), (4321, 4321), p)

    def test_no_setuid_file_can_be_left_on_the_host(self):
        script = ("cp /usr/bin/id /data/id; chmod 4755 /data/id; chmod u+s /data/id; chmod 2755 /data/id; "
                  "install -m 6755 /usr/bin/id /data/id2; mkdir -m 2777 /data/d; "
                  "umask 0; (cd /data && tar cf - id --mode=6777 | tar xpf - --one-top-level=t); "
                  "/usr/bin/python3 -S -c 'import os\n"
                  "for f in (lambda: os.close(os.open(\"/data/o\", os.O_CREAT | os.O_WRONLY, 0o6777)),\n"
                  "          lambda: os.fchmod(os.open(\"/data/id\", os.O_RDONLY), 0o6755),\n"
                  "          lambda: os.mknod(\"/data/n\", 0o106777)):\n"
                  "    try: f()\n"
                  "    except OSError: pass'")
        for user in ("user", "root"):
            self.inside(script, user=user)
            self.assertTrue((self.dir / "id").exists(), "nothing was written at all")
            for path, _, names in os.walk(self.dir):
                for p in [path, *(os.path.join(path, n) for n in names)]:
                    mode = os.lstat(p).st_mode
                    self.assertFalse(mode & 0o6000 and p != str(self.dir), f"{p}: {mode:o}")

    def test_no_device_can_be_left_on_the_host(self):
        self.inside("mknod /data/null c 1 3; mknod /data/sda b 8 0", user="root")
        self.assertEqual([p for p in self.dir.iterdir() if stat.S_ISCHR(p.lstat().st_mode)
                          or stat.S_ISBLK(p.lstat().st_mode)], [])

    def test_setuid_programs_and_devices_of_a_volume_do_nothing_inside(self):
        brigtest.need_program("cc")
        program = self.dir / "suid"
        source = self.tmp / "s.c"
        source.write_text("#include <stdio.h>\n#include <unistd.h>\n"
                          "int main(void) { printf(\"%d\\n\", (int)geteuid()); return 0; }\n")
        os.spawnvp(os.P_WAIT, "cc", ["cc", "-static", "-o", str(program), str(source)])
        os.chown(program, 0, 0)
        program.chmod(0o4755)
        os.mknod(self.dir / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        done = self.inside("/data/suid; head -c 1 /data/zero | wc -c")
        self.assertEqual(done.text.split(), ["1000", "0"], str(done))

    def test_links_of_a_volume_lead_within_the_sandbox(self):
        outside = self.tmp / "outside"
        outside.mkdir()
        (outside / "key").write_text("canary")
        (self.dir / "abs").symlink_to(outside / "key")
        (self.dir / "up").symlink_to("../../../../../../" + str(outside / "key"))
        (self.dir / "shadow").symlink_to("/etc/shadow")
        done = self.inside("cat /data/abs /data/up /data/shadow /data/../../outside/key; ls /data/.. ")
        self.assertNotIn(b"canary", done.out)
        self.assertNotIn(b"root:", done.out)

    def test_the_source_may_be_a_link_and_is_resolved_once_by_the_caller(self):
        (self.dir / "f").write_text("there")
        link = self.tmp / "link"
        link.symlink_to(self.dir)
        done = self.inside("cat /data/f", volume=f"{link}:/data:ro")
        self.assertEqual(done.out, b"there", str(done))

    def test_a_single_file_is_a_volume_too(self):
        f = self.tmp / "single"
        f.write_text("one")
        done = self.inside("cat /opt/x/y; echo two >/opt/x/y", volume=f"{f}:/opt/x/y")
        self.assertEqual(done.out, b"one", str(done))
        self.assertEqual(f.read_text(), "two\n")

    def test_special_files_are_refused(self):
        os.mkfifo(self.tmp / "fifo")
        for source in (self.tmp / "fifo", "/dev/null", "/dev/tty"):
            with self.subTest(source):
                self.assertRefused(self.brig.run("--volume", f"{source}:/data", "--", "true"), 125)

    def test_mounts_below_the_source_do_not_come_along(self):
        # What is mounted below is another file system, whose owner was not asked.
        sub = self.dir / "sub"
        sub.mkdir()
        (sub / "under").write_text("")
        if os.spawnvp(os.P_WAIT, "mount", ["mount", "-t", "tmpfs", "none", str(sub)]) != 0:
            self.skipTest("mounting is not allowed here")
        try:
            (sub / "over").write_text("")
            done = self.inside("ls /data/sub")
            self.assertNotIn(b"over", done.out, "a mount below the volume shows inside")
        finally:
            os.spawnvp(os.P_WAIT, "umount", ["umount", str(sub)])

    def test_several_volumes_and_a_nested_one(self):
        for name in ("a", "b"):
            (self.tmp / name).mkdir()
            (self.tmp / name / "f").write_text(name)
        done = self.brig.run("--volume", f"{self.tmp}/a:/data", "--volume", f"{self.tmp}/b:/srv/b:ro",
                             "--volume", f"{self.dir}:/home/user/work", "--", "sh", "-c",
                             "cat /data/f /srv/b/f; echo w >/home/user/work/w")
        self.assertEqual(done.out, b"ab", str(done))
        self.assertEqual((self.dir / "w").read_text(), "w\n")

    def test_two_sandboxes_share_a_volume_and_nothing_else(self):
        p = self.start(self.brig, "--volume", f"{self.dir}:/data", "--", "sh", "-c",
                       "echo one >/data/one; echo ready; while [ ! -e /data/two ]; do sleep 0.02; done; "
                       "cat /data/two")
        done = self.inside("cat /data/one; echo two >/data/two")
        self.assertEqual(done.out, b"one\n", str(done))
        self.assertEqual(p.communicate(timeout=20 * brigtest.SLOW)[0], b"two\n")

    def test_a_volume_is_not_charged_to_the_writable_layer(self):
        done = self.inside("head -c 30000000 /dev/zero >/data/big && stat -c %s /data/big", "--disk",
                           "5m")
        self.assertEqual(done.out, b"30000000\n", str(done))

    def test_a_source_that_the_caller_may_not_read_is_refused(self):
        if os.geteuid() == 0:
            # Root reads everything, except by a path that is none.
            self.assertRefused(self.brig.run("--volume", f"{self.tmp}/no/where:/data", "--", "true"),
                               125, "no/where", "remedy:")


class Private(VolumeCases, PrivateCase):
    pass


class Resident(VolumeCases, ResidentCase):
    pass
