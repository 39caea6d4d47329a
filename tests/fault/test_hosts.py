# SPDX-License-Identifier: Apache-2.0
"""Hosts that lack something: space, rights, descriptors, programs, control groups; and system calls that
fail one after the other. One clear error with cause and remedy, exit code 125, nothing left behind."""

import os
import shutil

import brigtest
import hoststate
from brigtest import Brig
from faults import Fault

PROGRAMS = ("brig", "brigd", "brig-jaild", "brig-agent", "brig-image", "brig-sudo", "brig-attack")


class Host(Fault):
    def setUp(self):
        super().setUp()
        self.brig = Brig()

    def within(self, script):
        """A prefix that runs what follows in a mount namespace of its own, changed by the script."""
        return ("unshare", "--mount", "--propagation", "private", "sh", "-c", f"{script} || exit 99\nexec \"$@\"",
                "sh")

    def failed(self, done, *words):
        self.assertNotEqual(done.code, 99, f"the fault could not be made\n{done}")
        self.assertRefused(done, 125, *words)
        self.recovered()

    # ---- space and rights ----

    def test_a_run_directory_without_space_for_one_file(self):
        done = self.brig.run("--", "echo", "x", prefix=self.within(
            "mkdir -p /run/brig && mount -t tmpfs -o mode=0711,nr_inodes=1 none /run/brig"))
        self.failed(done, "/run/brig|lease|instance", "space", "remedy:")

    def test_a_read_only_run_directory(self):
        done = self.brig.run("--", "echo", "x", prefix=self.within(
            "mkdir -p /run/brig && mount -t tmpfs -o mode=0711,ro none /run/brig"))
        self.failed(done, "[Rr]ead-only", "remedy:")

    def test_a_run_directory_that_is_a_file_or_anybodys(self):
        for script, word in (("mount -t tmpfs none /run && : >/run/brig", "directory"),
                             ("mount -t tmpfs none /run && mkdir -m 0777 /run/brig", "ours alone|others"),
                             ("mount -t tmpfs none /run && ln -s /tmp /run/brig", "")):
            with self.subTest(script):
                done = self.brig.run("--", "echo", "x", prefix=self.within(script))
                self.failed(done, "run directory|/run/brig", *([word] if word else []))

    def test_a_store_that_cannot_be_read(self):
        data = self.tmp / "data"
        data.write_text("a file")
        brig = Brig(data=data)
        self.assertOk(brig.run("--", "true"))  # the built-in image needs no store
        self.failed(brig.call("run", "--image", "any", "--", "true"), "image|store|directory")
        self.failed(brig.call("image", "import", "x", self.tmp), "data|director|store")

    def test_a_read_only_store(self):
        data = self.tmp / "data"
        data.mkdir()
        done = Brig(data=data).call("image", "import", "x", "/usr/share/doc/bash", prefix=self.within(
            f"mount --bind {data} {data} && mount -o remount,bind,ro {data}"))
        self.failed(done, "[Rr]ead-only", "remedy:")

    def test_a_full_store(self):
        data = self.tmp / "data"
        data.mkdir()
        for options in ("size=64k", "nr_inodes=12"):
            with self.subTest(options):
                done = Brig(data=data).call("image", "import", "x", "/usr/share/doc", timeout=60,
                                            prefix=self.within(
                                                f"mount -t tmpfs -o mode=0755,{options} none {data}"))
                self.failed(done, "space", "remedy:")

    def test_a_full_disk_under_the_status_file(self):
        where = self.tmp / "full"
        where.mkdir()
        done = self.brig.run("--status-json", where / "s", "--", "sh", "-c", "echo out", prefix=self.within(
            f"mount -t tmpfs -o size=4k none {where} && head -c 4096 /dev/zero >{where}/fill"))
        self.assertNotEqual(done.code, 0, "the status was lost, and nobody was told")
        self.assertIn("space", done.errors)
        self.recovered()

    # ---- limits of the caller ----

    def test_few_descriptors(self):
        for n in (3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32):
            with self.subTest(n):
                done = self.brig.run("--nofile", "16", "--", "echo", "x", timeout=30,
                                     prefix=("prlimit", f"--nofile={n}:{n}"))
                if done.code == 0:
                    self.assertEqual(done.out, b"x\n")
                elif done.code != 127 or n > 4:  # with three the loader itself fails
                    self.assertEqual(done.code, 125, str(done))
                    self.assertTrue(done.errors.startswith("brig: "), str(done))
        self.recovered()

    def test_little_address_space_and_no_locked_memory(self):
        for args in (["--as=20000000"], ["--memlock=0"], ["--core=0"], ["--fsize=0"], ["--stack=65536"]):
            with self.subTest(args):
                done = self.brig.run("--", "echo", "x", timeout=30, prefix=("prlimit", *args))
                self.assertIn(done.code, (0, 125), str(done))
        self.recovered()

    def test_priority_umask_and_directory_of_the_caller_do_not_matter(self):
        where = self.tmp / "gone"
        where.mkdir()
        for prefix in (("sh", "-c", 'umask 0777; exec "$@"', "sh"), ("nice", "-n", "19"),
                       ("sh", "-c", f'cd {where} && rmdir {where} && exec "$@"', "sh"),
                       ("sh", "-c", 'trap "" INT TERM HUP PIPE CHLD; exec "$@"', "sh")):
            with self.subTest(prefix[-2][:30]):
                done = self.brig.run("--", "sh", "-c", "echo x; umask; mkdir /tmp/d && echo y >/tmp/d/f",
                                     prefix=prefix)
                self.assertEqual((done.code, done.out), (0, b"x\n0022\n"), str(done))
        self.recovered()

    # ---- what is installed ----

    def copy(self):
        programs = self.tmp / "programs"
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir(mode=0o755)
        for name in PROGRAMS:
            if (self.brig.build / name).exists():
                shutil.copy(self.brig.build / name, programs / name)
        return programs

    # A private server is forked from brig, and executes brig-agent alone; with BRIG_LIBEXEC each of them.
    EXECUTED = (("brigd", True), ("brig-jaild", True), ("brig-agent", True), ("brig-agent", False))

    @staticmethod
    def run_of(programs, named):
        env = {"BRIG_LIBEXEC": programs} if named else {}
        return Brig(build=programs).run("--", "true", timeout=30, env=env)

    def test_missing_programs_are_named(self):
        for name, named in self.EXECUTED:
            with self.subTest(name):
                programs = self.copy()
                (programs / name).unlink()
                self.failed(self.run_of(programs, named), name, "remedy:")

    def test_a_private_server_needs_no_brigd(self):
        programs = self.copy()
        (programs / "brigd").unlink()
        self.assertOk(self.run_of(programs, False))

    def test_programs_that_are_none_are_named(self):
        for name, named in self.EXECUTED:
            for what in ("mode", "text", "empty", "directory"):
                with self.subTest(f"{name} {what}"):
                    programs = self.copy()
                    if what == "mode":
                        (programs / name).chmod(0o644)
                    else:
                        (programs / name).unlink()
                    if what == "text":
                        (programs / name).write_text("no program\n")
                        (programs / name).chmod(0o755)
                    elif what == "empty":
                        (programs / name).touch(0o755)
                    elif what == "directory":
                        (programs / name).mkdir()
                    self.assertRefused(self.run_of(programs, named), 125)
        self.recovered()

    def test_a_missing_brig_image_is_named(self):
        programs = self.copy()
        (programs / "brig-image").unlink()
        self.failed(Brig(build=programs).call("image", "ls"), "brig-image")

    # ---- the kernel ----

    def test_no_control_groups(self):
        hide = self.within("mount -t tmpfs none /sys/fs/cgroup")
        done = self.brig.run("--", "echo", "x", prefix=hide)
        self.failed(done, "memory|cgroup", "remedy:")
        names = ("memory", "cpu", "pids", "swap", "accounting")
        accept = [w for n in names for w in ("--accept", n)]
        done = self.brig.run(*accept, "--", "echo", "x", prefix=hide)
        self.assertEqual((done.code, done.out), (0, b"x\n"), str(done))
        self.recovered()
        done = self.brig.call("doctor", prefix=hide)
        self.assertCode(done, 1)
        self.assertIn("cgroup", done.text)

    def test_without_control_groups_the_end_is_still_complete(self):
        hide = self.within("mount -t tmpfs none /sys/fs/cgroup")
        accept = [w for n in ("memory", "cpu", "pids", "swap", "accounting") for w in ("--accept", n)]
        p = self.start(self.brig, *accept, "--", "sh", "-c", "trap '' TERM; setsid sleep 989 & "
                       "(sleep 989 &) & echo ready; while :; do sleep 989; done", prefix=hide)
        self.assertTrue(hoststate.sandbox_processes())
        p.kill()
        p.wait()
        brigtest.wait_until("they are gone", lambda: not hoststate.sandbox_processes(), 2)
        self.recovered()

    def test_no_proc(self):
        done = self.brig.run("--", "echo", "x", timeout=30, prefix=self.within("mount -t tmpfs none /proc"))
        self.assertIn(done.code, (0, 125), str(done))
        self.recovered()

    def test_hosts_own_tmp_is_not_needed(self):
        done = self.brig.run("--", "echo", "x", prefix=self.within("mount -t tmpfs -o ro none /var/tmp"))
        self.assertEqual(done.out, b"x\n", str(done))


# System calls that make or change something, and the errors that a host in trouble returns.
CALLS = [("openat", "EMFILE"), ("mkdirat", "ENOSPC"), ("mkdir", "ENOSPC"), ("mount", "ENOMEM"),
         ("fsopen", "EPERM"), ("fsmount", "ENOMEM"), ("fsconfig", "EINVAL"),
         ("move_mount", "ENOMEM"), ("open_tree", "EPERM"), ("mount_setattr", "EINVAL"),
         ("clone3", "EAGAIN"), ("clone", "EAGAIN"), ("unshare", "ENOSPC"), ("setns", "EPERM"),
         ("socketpair", "EMFILE"), ("socket", "EMFILE"), ("memfd_create", "ENFILE"),
         ("epoll_create1", "ENFILE"), ("epoll_ctl", "ENOSPC"), ("mmap", "ENOMEM"),
         ("brk", "ENOMEM"), ("sendmsg", "ENOBUFS"), ("recvmsg", "ENOMEM"), ("seccomp", "EINVAL"),
         ("prctl", "EINVAL"), ("setresuid", "EAGAIN"), ("capset", "EPERM"), ("renameat", "EBUSY"),
         ("flock", "ENOLCK"), ("execve", "ENOMEM"), ("pipe2", "EMFILE"), ("signalfd4", "ENFILE"),
         ("chroot", "EPERM")]


class SystemCalls(Fault):
    """The Nth call of a kind fails, in whichever of the processes makes it: from outside, with strace."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.strace = brigtest.need_program("strace")
        cls.brig = Brig()
        done = cls.brig.run("--", "echo", "x", prefix=(cls.strace, "-f", "-qq", "-o", "/dev/null", "-e",
                                                       "trace=none"), timeout=60)
        if done.code:
            raise brigtest.unittest.SkipTest(f"brig cannot be traced here: {done.errors}")

    def inject(self, call, error):
        last = None
        for n in (1, 2, 3, 5, 8, 13):
            trace = self.tmp / f"trace-{n}"
            done = self.brig.run(
                "--", "sh", "-c", "echo x", timeout=30,
                prefix=(self.strace, "-f", "-qq", "-o", trace, "-e", f"trace={call}", "-e",
                        f"inject={call}:error={error}:when={n}"))
            if "(INJECTED)" not in trace.read_text(errors="replace"):
                break
            last = n
            # The command may be what was hit, so any exit code is possible; hanging is not, and brig's
            # own failure is told as one.
            self.assertLessEqual(done.code, 255)
            if done.code == 125:
                self.assertIn("brig: ", done.errors, str(done))
            elif done.code == 0:
                self.assertEqual(done.out, b"x\n", f"success without the output\n{done}")
        if last is None:
            self.skipTest(f"no process of a run calls {call}")
        self.recovered()


for _call, _error in CALLS:
    setattr(SystemCalls, f"test_{_call}_fails_with_{_error}",
            lambda self, c=_call, e=_error: self.inject(c, e))
