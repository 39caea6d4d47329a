# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is, seen from inside and from outside: ids, namespaces, privileges, and what of the host
or of a neighbour shows. (Programs that try to break it are in tests/attack.)"""

import os
import pathlib
import re
import secrets
import time

import brigtest
import hoststate
from brigtest import PrivateCase, ResidentCase, wait_until

KINDS = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")


def status_field(pid, name):
    found = re.search(rf"^{name}:[ \t]*(.*)$", hoststate.read(f"/proc/{pid}/status"), re.M)
    return found.group(1).split() if found else None


# Of the host's clock; what this module starts has been up for less than since then.
BEGUN = time.clock_gettime(time.CLOCK_BOOTTIME)


class IsolationCases:
    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def sh(self, script, *args, user="user"):
        done = self.brig.run("--user", user, *args, "--", "sh", "-c", script)
        self.assertOk(done)
        return done.text

    def payload(self, p=None):
        """Host pid of the command `sleep 994` of this test's sandbox."""
        def find():
            return [int(x.split()[0]) for x in hoststate.sandbox_processes()
                    if "994" in hoststate.read(f"/proc/{x.split()[0]}/cmdline")]
        return wait_until("the command runs", find)[0]

    def test_every_namespace_is_its_own(self):
        kinds = [k for k in (*KINDS, "time") if os.path.exists(f"/proc/self/ns/{k}")]
        self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 994")
        pid = self.payload()
        for kind in kinds:
            with self.subTest(kind):
                self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/{kind}"),
                                    os.readlink(f"/proc/self/ns/{kind}"))

    def test_ids_are_its_own_and_never_host_root(self):
        for user, inside in (("user", 1000), ("root", 0)):
            p = self.start(self.brig, "--user", user, "--", "sh", "-c",
                           "echo ready; exec sleep 994")
            pid = self.payload()
            for name in ("Uid", "Gid"):
                ids = {int(x) for x in status_field(pid, name)}
                self.assertEqual(len(ids), 1)
                host = ids.pop()
                self.assertGreaterEqual(host, hoststate.ID_BASE + hoststate.ID_SLOT)
                self.assertLess(host, hoststate.ID_END)
                self.assertEqual(host % hoststate.ID_SLOT, inside)
            groups = {int(g) for g in status_field(pid, "Groups") or ()}
            self.assertTrue(all(hoststate.in_id_range(g) for g in groups), groups)
            self._end(p)
            wait_until("it is gone", lambda: not hoststate.sandbox_processes())

    def test_no_privilege_is_left(self):
        self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 994")
        pid = self.payload()
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status_field(pid, name)[0], 16), 0, name)
        self.assertEqual(status_field(pid, "NoNewPrivs"), ["1"])
        self.assertEqual(status_field(pid, "Seccomp"), ["2"])

    def test_root_inside_has_only_what_its_namespace_makes_harmless(self):
        self.start(self.brig, "--user", "root", "--", "sh", "-c", "echo ready; exec sleep 994")
        pid = self.payload()
        # capability.h: CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7,
        # SYS_CHROOT 18.
        harmless = sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 18))
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status_field(pid, name)[0], 16) & ~harmless, 0, name)
        self.assertEqual(status_field(pid, "NoNewPrivs"), ["1"])

    def test_root_inside_works_as_root_inside(self):
        out = self.sh("id -u; touch /root/f /usr/local/f 2>/dev/null; mkdir /srv/d && chown 1000:1000 /srv/d "
                      "&& stat -c %U /srv/d; touch /etc/f && echo etc; su user -c 'id -u' 2>/dev/null "
                      "|| setpriv --reuid 1000 --clear-groups id -u", user="root")
        self.assertEqual(out.split()[:3], ["0", "user", "etc"], out)

    def test_only_its_own_processes_show(self):
        out = self.sh("ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm; kill -0 1 && echo may; true")
        self.assertLess(int(out.split()[0]), 8, out)
        self.assertNotIn("may", out)

    def test_the_host_cannot_be_seen_in_the_file_system(self):
        canary = f"canary-{secrets.token_hex(8)}"
        places = [pathlib.Path(d, canary) for d in ("/root", "/home", "/tmp", "/etc", "/var/tmp", "/srv",
                                                    "/opt", "/run", "/dev/shm")
                  if os.path.isdir(d)]
        for p in places:
            p.write_text(canary)
        try:
            out = self.sh(f"find / -xdev -name '{canary}' 2>/dev/null; ls /root /home /srv /opt /run /tmp "
                          "/mnt 2>/dev/null; cat /etc/passwd /etc/shadow /etc/fstab /etc/machine-id "
                          "2>/dev/null; mount; df -a; cat /proc/self/mountinfo", user="root")
            self.assertNotIn(canary, out)
        finally:
            for p in places:
                p.unlink()
        self.assertNotIn("machine-id", out)
        names = {line.split(":")[0] for line in out.splitlines() if re.match(r"^\w+:x:\d+:", line)}
        self.assertEqual(names, {"root", "daemon", "nobody", "user"})

    def test_no_path_of_the_host_shows_in_the_mounts(self):
        out = self.sh("cat /proc/self/mountinfo /proc/self/mounts /proc/self/cgroup")
        for word in (str(brigtest.SOURCE), str(brigtest.data_dir()), str(brigtest.SCRATCH), "/dev/vd",
                     "/dev/sd", "/dev/nvme", "upperdir=/", "lowerdir=/"):
            self.assertNotIn(word, out)
        for line in out.splitlines():
            if re.match(r"^\d+:.*:/", line):
                self.assertTrue(line.endswith(":/"), f"the path of a group shows: {line}")

    def test_every_mount_is_nosuid_and_data_mounts_are_nodev(self):
        for line in self.sh("cat /proc/self/mountinfo").splitlines():
            mount, options, kind = line.split()[4], line.split()[5], line.split(" - ")[1].split()[0]
            # Set on every mount of a file system that a tenant can write to or that came from an image;
            # no_new_privs and the user namespace hold for the others as well.
            if kind in ("tmpfs", "overlay", "ext4", "xfs", "btrfs"):
                self.assertIn("nosuid", options, line)
                if mount != "/dev" and not mount.startswith(("/dev/", "/proc/")):
                    self.assertIn("nodev", options, line)

    def test_dev_is_minimal(self):
        out = self.sh("ls /dev; for d in null zero full random urandom; do head -c 1 /dev/$d >/dev/null "
                      "2>&1; echo x >/dev/$d 2>/dev/null; done; test -c /dev/tty && echo ok")
        self.assertLessEqual(set(out.split()), {"fd", "full", "null", "ptmx", "pts", "random", "shm",
                                                "stderr", "stdin", "stdout", "tty", "urandom", "zero",
                                                "ok"})

    def test_tmp_and_shm_are_private_and_empty(self):
        out = self.sh("ls -A /tmp /dev/shm /var/tmp; stat -c %a /tmp /dev/shm; echo x >/tmp/a; "
                      "echo x >/dev/shm/b")
        self.assertEqual(re.findall(r"^\d+$", out, re.M), ["1777", "1777"], out)
        self.assertEqual(set(self.sh("ls -A /tmp /dev/shm").split()), {"/tmp:", "/dev/shm:"})

    def test_the_root_can_be_written_and_the_image_is_not(self):
        self.sh("echo x >/usr/bin/brig-test-canary; rm -f /usr/bin/env; echo x >/etc/canary; true",
                user="root")
        self.assertFalse(os.path.exists("/usr/bin/brig-test-canary"))
        self.assertTrue(os.path.exists("/usr/bin/env"))
        out = self.sh("ls /etc/canary /usr/bin/brig-test-canary 2>/dev/null; /usr/bin/env true; echo $?")
        self.assertEqual(out, "0\n")

    def test_the_network_is_loopback_only(self):
        out = self.sh("cat /proc/net/dev | sed -n 's/^ *\\([a-z0-9]*\\):.*/\\1/p'; cat /proc/net/route "
                      "/proc/net/ipv6_route | grep -v -w lo | grep -v Iface; "
                      "/usr/bin/python3 -S -c 'import socket\n"
                      "s = socket.create_server((\"127.0.0.1\", 80))\n"
                      "c = socket.create_connection(s.getsockname())\n"
                      "a, _ = s.accept()\n"
                      "c.sendall(b\"x\")\n"
                      "print(a.recv(1))\n"
                      "c.settimeout(2)\n"
                      "for host in (\"1.1.1.1\", \"8.8.8.8\", \"169.254.169.254\", \"10.0.0.1\"):\n"
                      "    try: socket.create_connection((host, 53), 2); print(\"reached\", host)\n"
                      "    except OSError as e: pass'")
        self.assertEqual(out.split(), ["lo", "b'x'"], out)

    def test_uptime_is_its_own(self):
        if not os.path.exists("/proc/self/ns/time"):
            self.skipTest("this kernel has no time namespaces")
        # Slots of a resident server are as old as it, which is younger than this module.
        inside = float(self.sh("cat /proc/uptime").split()[0])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - BEGUN
        self.assertGreater(BEGUN, 2, "the host is so young that nothing can be told apart")
        self.assertLess(inside, age + 1)

    def test_system_v_and_posix_ipc_are_private(self):
        out = self.sh("ipcs -m | grep -c 0x; ipcmk -M 4096 >/dev/null && ipcs -m | grep -c 0x; "
                      "cat /proc/sysvipc/shm | wc -l")
        self.assertEqual(out.split()[:2], ["0", "1"], out)
        self.assertEqual(self.sh("ipcs -m | grep -c 0x; true").split(), ["0"])

    def test_descriptors_are_the_three(self):
        r, w = os.pipe()
        try:
            p = self.brig.popen("run", "--image", "host", "--", "sh", "-c", "ls /proc/self/fd",
                                pass_fds=(r, w))
            out, err = p.communicate(timeout=30 * brigtest.SLOW)
        finally:
            os.close(r)
            os.close(w)
        # ls has the directory itself open.
        self.assertEqual(out.split(), [b"0", b"1", b"2", b"3"], err)

    def test_the_commands_process_state_is_clean(self):
        out = self.sh("umask; grep -E 'Sig(Blk|Ign)' /proc/self/status; ulimit -c; cat /proc/self/oom_score_adj;"
                      " readlink /proc/self/cwd")
        lines = out.split()
        self.assertEqual(lines[0], "0022")
        self.assertEqual({lines[2], lines[4]}, {"0000000000000000"}, out)
        self.assertGreaterEqual(int(lines[6]), 0)

    def test_an_interpreter_of_each_kind_runs(self):
        table = [("bash -c 'echo $((6*7))'", "42"), ("/usr/bin/python3 -c 'print(6*7)'", "42"),
                 ("perl -e 'print 6*7'", "42"), ("awk 'BEGIN { print 6*7 }'", "42")]
        for script, expect in table:
            with self.subTest(script):
                self.assertEqual(self.sh(script).strip(), expect)
        out = self.sh("/usr/bin/python3 -c 'import asyncio, multiprocessing as m, threading, subprocess\n"
                      "def f(x): return x * 2\n"
                      "if __name__ == \"__main__\":\n"
                      "    print(asyncio.run(asyncio.sleep(0, 1)))\n"
                      "    print(subprocess.run([\"echo\", \"sub\"], capture_output=True).stdout)\n"
                      "    print(m.get_context(\"fork\").Pool(2).map(f, [1, 2]))'")
        self.assertEqual(out.split(), ["1", "b'sub\\n'", "[2,", "4]"])

    def test_a_c_program_is_compiled_and_run_inside(self):
        out = self.sh("cd /tmp; printf '#include <stdio.h>\\nint main(void){puts(\"built\");return 0;}\\n' >a.c; "
                      "cc -O1 -o a a.c && ./a", "--memory", "700m")
        self.assertEqual(out, "built\n")


class Private(IsolationCases, PrivateCase):
    pass


def memory_of(pid):
    """What the process can have written to, as bytes."""
    found = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(x, 16) for x in where.split("-"))
            try:
                found += os.pread(mem.fileno(), end - start, start)
            except OSError:
                pass
    return found


class PrivateDaemons(PrivateCase):
    """The daemons of a private server are forks of `brig`: no privilege and no secret comes along."""

    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def test_they_have_the_posture_of_programs(self):
        self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 993")
        pid = hoststate.brig_pids("brigd")[0]
        self.assertEqual({int(u) for u in status_field(pid, "Uid")}, {hoststate.DAEMON_UID})
        self.assertEqual(status_field(pid, "Groups"), [])
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status_field(pid, name)[0], 16), 0, name)
        self.assertEqual(status_field(pid, "NoNewPrivs"), ["1"])
        if not brigtest.SANITIZED:
            self.assertEqual(status_field(pid, "Seccomp"), ["2"])
        for name in ("brigd", "brig-jaild"):
            pid = hoststate.brig_pids(name)[0]
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            self.assertEqual(words[0].decode(), name)
            self.assertNotIn(b"993", words)
            self.assertEqual(os.stat(f"/proc/{pid}/mem").st_uid, 0, "somebody else may look into it")

    def test_the_callers_secrets_do_not_come_along(self):
        secret, kept = secrets.token_hex(16), secrets.token_hex(16)
        env = {**os.environ, "CALLERS_SECRET": secret, "BRIG_API_KEY": "e2b_" + secret,
               "BRIG_TEST_KEPT": kept}
        self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 992", env=env)
        for name in ("brigd", "brig-jaild"):
            for pid in hoststate.brig_pids(name):
                memory = memory_of(pid)
                self.assertIn(kept.encode(), memory)  # what is looked for would be found
                self.assertNotIn(secret.encode(), memory, name)


class Resident(IsolationCases, ResidentCase):
    def test_two_sandboxes_do_not_meet(self):
        secret = secrets.token_hex(8)
        self.start(self.brig, "--env", f"SECRET={secret}", "--", "sh", "-c",
                   f"echo {secret} >/tmp/s; echo {secret} >/dev/shm/s; ipcmk -M 64 >/dev/null; echo ready; "
                   f"exec sleep 994 # {secret}")
        first = self.payload()
        out = self.sh("cat /tmp/s /dev/shm/s /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; "
                      "ipcs -m | grep -c 0x; kill -9 -1; echo ids; cat /proc/self/uid_map", user="root")
        self.assertNotIn(secret, out)
        self.assertTrue(os.path.exists(f"/proc/{first}"), "kill -9 -1 reached a neighbour")
        mine = int(out.split("ids\n")[-1].split()[1])
        self.assertNotEqual(mine // hoststate.ID_SLOT,
                            int(status_field(first, "Uid")[0]) // hoststate.ID_SLOT)

    def test_a_network_namespace_comes_back_only_if_nothing_happened_in_it(self):
        look = "readlink /proc/self/ns/net; cat /proc/net/snmp /proc/net/snmp6 /proc/net/dev; " \
               "cat /proc/net/sockstat | head -n1"
        use = {
            "packets": "exec 3<>/dev/tcp/127.0.0.1/9 || true; echo x >/dev/udp/127.0.0.1/9; ",
            "no route": "exec 3<>/dev/udp/192.0.2.1/9 || true; ",
            "a left server": "setsid python3 -c 'import socket, time; s = socket.socket(); "
                             "s.bind((\"127.0.0.1\", 80)); s.listen(); time.sleep(991)' & "
                             "until : <>/dev/tcp/127.0.0.1/80; do sleep 0.05; done; ",
        }
        unused = []  # control: one in which nothing happens does come back

        def quiet():
            first, _, rest = self.sh(look).partition("\n")
            unused.append(first)
            return rest
        new = quiet()
        for _ in range(30):
            self.assertEqual(quiet(), new)
        self.assertLess(len(set(unused)), len(unused), "none is used again: the test shows nothing")
        for what, script in use.items():
            with self.subTest(what):
                done = self.brig.run("--", "bash", "-c",
                                     f"( {script} ) 2>/dev/null; readlink /proc/self/ns/net")
                self.assertOk(done)
                for _ in range(20):
                    self.assertEqual(quiet(), new)
                    self.assertNotEqual(unused[-1], done.text.strip())

    def test_ids_are_not_reused_while_they_live(self):
        for _ in range(12):
            self.assertOk(self.brig.call("create", "--image", "host", "--memory", "16m"))
        slots = [int(x.split("uid ")[1]) // hoststate.ID_SLOT for x in hoststate.sandbox_processes()]
        self.assertEqual(len(set(slots)), 12, slots)


class Daemons(ResidentCase):
    """The posture of the programs that a tenant or a client could attack."""

    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def pid(self, program):
        return hoststate.brig_pids(program)[0]

    def test_brigd_has_no_privilege(self):
        pid = self.pid("brigd")
        self.assertEqual({int(u) for u in status_field(pid, "Uid")}, {hoststate.DAEMON_UID})
        self.assertEqual({int(u) for u in status_field(pid, "Gid")}, {hoststate.DAEMON_UID})
        self.assertEqual(status_field(pid, "Groups"), [])
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status_field(pid, name)[0], 16), 0, name)
        self.assertEqual(status_field(pid, "NoNewPrivs"), ["1"])
        if not brigtest.SANITIZED:
            self.assertEqual(status_field(pid, "Seccomp"), ["2"])
        self.assertEqual(status_field(pid, "Threads"), ["1"])

    def test_brigd_cannot_be_looked_into_by_its_own_id(self):
        # Not dumpable: its files in /proc belong to root.
        self.assertEqual(os.stat(f"/proc/{self.pid('brigd')}/mem").st_uid, 0)

    def test_brigd_holds_no_directory_but_the_store(self):
        fds = pathlib.Path(f"/proc/{self.pid('brigd')}/fd")
        targets = [os.readlink(f) for f in fds.iterdir()]
        for target in targets:
            if os.path.isdir(target):
                self.assertTrue(target.startswith(str(brigtest.data_dir())), target)
            self.assertFalse(target.startswith(("/dev/kvm", "/dev/net", "/dev/mem")), target)

    def test_the_socket_is_for_its_owner_only(self):
        mode = self.brig.socket.stat()
        self.assertEqual((mode.st_uid, mode.st_mode & 0o077), (os.geteuid(), 0))

    def test_another_user_is_not_served(self):
        brigtest.need_program("setpriv")
        done = self.brig.call("ls", prefix=("setpriv", "--reuid", "65534", "--clear-groups"))
        self.assertNotEqual(done.code, 0, str(done))

    def test_an_idle_agent_is_small(self):
        if brigtest.SANITIZED:
            self.skipTest("shadow memory is not the agent's")
        self.assertOk(self.brig.call("create", "--image", "host"))
        time.sleep(0.2)
        rows = [int(x.split()[0]) for x in hoststate.sandbox_processes()]
        self.assertEqual(len(rows), 1)
        text = hoststate.read(f"/proc/{rows[0]}/smaps_rollup")
        rss = int(re.search(r"^Rss:\s+(\d+)", text, re.M).group(1))
        self.assertLess(rss, 1024, text)
