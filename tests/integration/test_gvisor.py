# SPDX-License-Identifier: Apache-2.0
"""The gVisor tier: whose kernel it is, what of the host can be reached, its limits, its end, and what is
measured. What is like in every tier is tested by running other modules in this one: tests/run --only gvisor.

Each attack has its control: the same program in the container tier, or the host itself, where it succeeds."""

import json
import os
import platform
import re
import signal
import unittest

import brigtest
import hoststate
from brigtest import Brig, PrivateCase, ResidentCase, wait_until
from servecase import ServeCase


def need_gvisor():
    brigtest.need_root()
    rows = [c for c in json.loads(Brig().call("doctor", "-o", "json").out)["checks"]
            if c["tier"] == "gvisor"]
    missing = [f"{c['check']}: {c['detail']}" for c in rows if not c["ok"]]
    if missing or not rows:
        raise unittest.SkipTest(f"no gVisor tier here: {'; '.join(missing)}")


def keepers():
    """Host numbers of the first processes of all sandboxes of this tier."""
    return {pid for pid in hoststate.pids() if hoststate.comm_of(pid) == "brig-keeper"}


def gone(pid):
    return not os.path.exists(f"/proc/{pid}") or hoststate.is_dead(pid)


class Kernel(PrivateCase):
    def setUp(self):
        super().setUp()
        need_gvisor()

    def both(self, *command):
        """What a command prints in this tier, and in a container."""
        return [self.brig.run("--tier", tier, "--", *command).text for tier in ("gvisor", "container")]

    def test_the_kernel_is_not_the_hosts(self):
        own, control = self.both("uname", "-r")
        self.assertEqual(control.strip(), platform.release())
        self.assertNotEqual(own.strip(), platform.release())
        own = self.brig.run("--tier", "gvisor", "--user", "root", "--", "dmesg")
        self.assertIn("Starting gVisor", own.text)

    def test_what_proc_tells_is_not_about_the_host(self):
        for name in ("version", "cmdline", "filesystems", "self/mountinfo"):
            with self.subTest(name):
                own = self.brig.run("--tier", "gvisor", "--", "cat", f"/proc/{name}").text
                real = hoststate.read(f"/proc/{name}").strip()
                self.assertNotEqual(own.strip(), real)
        # The control: a container does show the host's.
        _, control = self.both("cat", "/proc/version")
        self.assertEqual(control.strip(), hoststate.read("/proc/version").strip())

    def test_it_says_so_in_every_answer(self):
        done, status = self.brig.status("--tier", "gvisor", "--", "true", expect=0)
        self.assertEqual(status["tier"], "gvisor")

    def test_no_file_of_the_host_is_in_reach(self):
        secret = self.tmp / "secret"
        secret.write_text("canary-of-the-host")
        secret.chmod(0o644)
        find = ("for f in \"$1\" /proc/1/root$1 /proc/self/root$1 /r$1 /old$1 /b/config.json /w/u; do "
                "cat $f 2>/dev/null && echo FOUND $f; done; true")
        own, control = (self.brig.run("--tier", tier, *extra, "--", "sh", "-c", find, "sh", str(secret))
                        for tier, extra in (("gvisor", ()), ("container",
                                                            ("--volume", f"{secret}:{secret}:ro"))))
        self.assertNotIn("FOUND", own.text)
        self.assertIn("canary-of-the-host", control.text)

    def test_a_writable_volume_is_refused_with_the_remedy(self):
        done = self.brig.run("--tier", "gvisor", "--volume", f"{self.tmp}:/data", "--", "true")
        self.assertRefused(done, 125, "folders of the host", "remedy:.*:ro")
        (self.tmp / "f").write_text("from the host\n")
        done = self.brig.run("--tier", "gvisor", "--volume", f"{self.tmp}:/data:ro", "--", "sh", "-c",
                             "cat /data/f; echo x >/data/g")
        self.assertEqual((done.code != 0, done.out), (True, b"from the host\n"), str(done))
        self.assertFalse((self.tmp / "g").exists())

    def test_a_missing_or_unsafe_runsc_is_told_with_the_remedy(self):
        loose = self.tmp / "runsc"
        loose.write_text("#!/bin/sh\necho runsc version 1\n")
        loose.chmod(0o777)
        liar = self.tmp / "liar"
        liar.write_text("#!/bin/sh\necho hello\n")
        liar.chmod(0o755)
        for path, words in ((self.tmp / "none", "No such file"), (loose, "can be changed by others"),
                            (liar, "does not tell its version")):
            with self.subTest(path.name):
                brig = Brig(BRIG_RUNSC=path)
                done = brig.run("--tier", "gvisor", "--", "true")
                self.assertRefused(done, 125, words, "no weaker tier", "remedy:")
                self.assertFalse(brigtest.tiers(brig)["gvisor"])
                self.assertOk(brig.run("--", "true"))


class Limits(PrivateCase):
    def setUp(self):
        super().setUp()
        need_gvisor()

    def status(self, *args, **kw):
        return self.brig.status("--tier", "gvisor", *args, **kw)

    def test_too_little_memory_is_refused(self):
        done = self.brig.run("--tier", "gvisor", "--memory", "32m", "--", "true")
        self.assertRefused(done, 125, "64m", "remedy:")

    def test_memory_ends_it_with_the_proof(self):
        _, status = self.status("--memory", "128m", "--", "/usr/bin/python3", "-S", "-c",
                                "b = []\nwhile True: b.append(bytearray(b'x' * 1048576))", expect=137)
        self.assertEqual(status["stop_reason"], "out_of_memory", status)
        self.assertGreaterEqual(status["evidence"]["oom_kills"], 1)

    def test_the_writable_layer_is_full_at_its_limit(self):
        script = ("for d in /tmp /home/user /var/tmp /dev/shm; do head -c 40m /dev/zero >$d/f; done; "
                  "cat /tmp/f /home/user/f /var/tmp/f /dev/shm/f 2>/dev/null | wc -c")
        done, _ = self.status("--memory", "256m", "--disk", "30m", "--user", "root", "--", "sh", "-c", script)
        self.assertLessEqual(int(done.out.split()[-1]), 30 * brigtest.MIB, str(done))
        self.assertIn("No space left", done.errors)

    def test_a_fork_bomb_ends_at_the_limit_and_the_host_is_left_alone(self):
        most = int(hoststate.read("/proc/sys/kernel/pid_max"))
        _, status = self.status("--pids", "20", "--memory", "256m", "--timeout", "20s", "--", "sh", "-c",
                                "b() { b | b & }; b; sleep 3; exit 3")
        self.assertLess(status["usage"]["pids_peak"] if status["usage"] else 0, min(most, 4 * 20 + 202))

    def test_time_ends_it(self):
        _, status = self.status("--timeout", "1s", "--", "sleep", "60", expect=124)
        self.assertEqual(status["stop_reason"], "wall_time")
        _, status = self.status("--cpu-time", "1s", "--", "sh", "-c", "while :; do :; done", expect=137)
        self.assertEqual(status["stop_reason"], "cpu_time")


class End(ResidentCase):
    def setUp(self):
        need_gvisor()
        super().setUp()

    def begun(self):
        box = self.brig.call("run", "-d", "--image", "host", "--tier", "gvisor", "--", "sleep", "600")
        self.assertOk(box)
        return box.text.strip()

    def test_a_kill_of_the_keeper_is_the_end_of_all(self):
        box = self.begun()
        pid = self.brig.json("stats", box)[0]["init_pid"]
        tasks = [p for p in hoststate.pids() if f"/{box}" in hoststate.read(f"/proc/{p}/cgroup")]
        self.assertGreaterEqual(len(tasks), 3)  # keeper, gofer, sentry
        os.kill(pid, signal.SIGKILL)
        wait_until("all are gone", lambda: all(map(gone, tasks)))
        wait_until("it is told", lambda: self.brig.json("inspect", box)[0]["state"] == "stopped")

    def test_each_process_of_it_has_the_boundary(self):
        box = self.begun()
        own = {n: os.readlink(f"/proc/self/ns/{n}") for n in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")}
        tasks = [p for p in hoststate.pids() if f"/{box}" in hoststate.read(f"/proc/{p}/cgroup")]
        self.assertGreaterEqual(len(tasks), 3)
        for pid in tasks:
            status = dict(line.split(":\t", 1) for line in hoststate.read(f"/proc/{pid}/status").splitlines()
                          if ":\t" in line)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), (pid, status))
            self.assertTrue(hoststate.in_id_range(hoststate.uid_of(pid)), pid)
            for name, link in own.items():
                self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/{name}"), link, (pid, name))
        # The one that is left in place has no capability; it had all that runsc needs.
        keeper = self.brig.json("stats", box)[0]["init_pid"]
        wait_until("the keeper has dropped its capabilities",
                   lambda: re.search(r"CapPrm:\t0{16}\n", hoststate.read(f"/proc/{keeper}/status")))

    def test_it_is_paused_and_goes_on(self):
        box = self.begun()
        self.assertOk(self.brig.call("pause", box))
        self.assertEqual(self.brig.json("inspect", box)[0]["state"], "paused")
        self.assertOk(self.brig.call("unpause", box))
        self.assertEqual(self.brig.call("exec", box, "--", "echo", "on").out, b"on\n")

    def test_files_come_and_go(self):
        box = self.begun()
        data = os.urandom(300000)
        (self.tmp / "f").write_bytes(data)
        self.assertOk(self.brig.call("cp", self.tmp / "f", f"{box}:/home/user/f"))
        self.assertOk(self.brig.call("cp", f"{box}:/home/user/f", self.tmp / "g"))
        self.assertEqual((self.tmp / "g").read_bytes(), data)


class Crash(PrivateCase):
    def test_nothing_is_left_when_every_process_of_brig_is_killed(self):
        need_gvisor()
        others = keepers()
        p = self.start(self.brig, "--tier", "gvisor", "--", "sh", "-c", "echo ready; sleep 600")
        known = keepers() - others
        self.assertTrue(known)
        for pid in hoststate.brig_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        p.wait()
        wait_until("the sandbox has ended with them", lambda: all(map(gone, known)))
        self.assertOk(self.brig.call("gc"))
        done = self.brig.call("gc", "--prove")
        self.assertOk(done)
        self.assertNothingLeft()


class Served(ServeCase):
    def test_a_receipt_says_what_was_measured(self):
        need_gvisor()
        self.serve("--tier", "gvisor")
        box = self.brig.call("run", "-d", "--image", "host", "--", "sleep", "600").text.strip()
        r = self.brig.json("receipt", box)
        self.assertEqual(r["tier"], "gvisor")
        self.assertEqual([f["name"] for f in r["seccomp"]["filters"]], ["gvisor"])
        self.assertTrue(all(ns["own"] for ns in r["namespaces"].values()), r["namespaces"])
        self.assertGreaterEqual(r["processes"], 3)
        self.assertEqual(r["egress"]["interfaces"], ["lo"])
        self.assertOk(self.brig.call("rm", "-f", box))

    def test_the_server_s_tier_is_the_default_and_pools_have_one(self):
        need_gvisor()
        self.serve("--tier", "gvisor", "--pool", "host=1", "--pool", "host=1:container")
        self.assertEqual({(p["image"], p["tier"]) for p in self.brig.json("pool")},
                         {("host", "gvisor"), ("host", "container")})
        wait_until("both pools are filled",
                   lambda: all(p["ready"] == 1 for p in self.brig.json("pool")), timeout=30)
        for tier in ("gvisor", "container"):
            flags = () if tier == "gvisor" else ("--tier", tier)
            _, status = self.brig.status(*flags, "--", "true", expect=0)
            self.assertEqual(status["tier"], tier)
        hits = {p["tier"]: p["hits"] for p in self.brig.json("pool")}
        self.assertEqual(hits, {"gvisor": 1, "container": 1})

    def test_a_tenant_s_floor_holds(self):
        need_gvisor()
        self.serve()
        self.assertOk(self.brig.call("tenant", "create", "acme"))
        key = self.brig.json("key", "create", "--tenant", "acme")["key"]
        self.assertOk(self.brig.call("tenant", "set", "acme", "--tier-floor", "gvisor"))
        for body, tier in (({}, "gvisor"), ({"tier": "gvisor"}, "gvisor")):
            status, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"], **body}, key)
            self.assertEqual((status, answer["tier"]), (200, tier), answer)
        status, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"], "tier": "auto"}, key)
        self.assertIn(answer["tier"], ("gvisor", "microvm"), answer)
        status, answer = self.ask("POST", "/v1/run",
                                  {"image": "host", "cmd": ["true"], "tier": "container"}, key)
        self.assertEqual(status, 403, answer)


class Attacks(PrivateCase):
    """`brig selftest --attack` in this tier: every attack of the corpus, with the host as the judge."""

    def test_every_attack_is_contained(self):
        need_gvisor()
        done = self.brig.call("selftest", "--attack", "--tier", "gvisor", "-o", "json", timeout=280)
        self.assertOk(done)
        report = json.loads(done.out)
        rows = [r for r in report["attacks"] if r["tier"] == "gvisor"]
        self.assertGreater(sum(r["result"] == "contained" for r in rows), 45)
        self.assertEqual([r for r in rows if r["result"] in ("escaped", "undecided")], [])
        for r in rows:
            if "host alone" in r["detail"]:
                self.assertRegex(r["detail"], "judged by the host alone, for .+: ", r)


class Compare(PrivateCase):
    """`brig run --compare-tiers`: the same command line in every tier."""

    def setUp(self):
        super().setUp()
        need_gvisor()

    def test_what_is_alike_and_what_is_not(self):
        done = self.brig.run("--compare-tiers", "-o", "json", "--env", "A=b c", "--", "sh", "-c",
                             "echo $A; exit 3")
        self.assertOk(done)
        rows = {r["tier"]: r for r in json.loads(done.out)}
        self.assertEqual(set(rows), {"container", "gvisor", "microvm"})
        for tier in ("container", "gvisor"):
            self.assertTrue(rows[tier]["alike"], rows[tier])
            self.assertEqual((rows[tier]["stdout"], rows[tier]["status"]["exit_code"],
                              rows[tier]["status"]["tier"]), ("b c\n", 3, tier))
            self.assertGreater(rows[tier]["status"]["usage"]["memory_peak_bytes"], 0)
        done = self.brig.run("--compare-tiers", "--", "uname", "-r")
        self.assertCode(done, 1)
        self.assertRegex(done.text, "output of gvisor differs from that of container in line 1:")
        self.assertIn(platform.release(), done.text)

    def test_a_tier_that_is_missing_is_told_and_does_not_count(self):
        other = Brig(**brigtest.NO_GVISOR)
        done = other.run("--compare-tiers", "--", "echo", "x")
        self.assertOk(done)
        self.assertRegex(done.text, r"gvisor: not run\nbrig: tier 'gvisor' is not available")

    def test_mistakes(self):
        self.assertRefused(self.brig.run("--compare-tiers", "--detach", "--", "true"), 2, "--detach")
        done = self.brig.call("run", "--image", "nosuchimage", "--compare-tiers", "--", "true")
        self.assertRefused(done, 125, "nosuchimage", "remedy:")
