# SPDX-License-Identifier: Apache-2.0
"""brig by an ordinary user: what the host allows works, and what it cannot enforce is said plainly.

As root the tests become the account `nobody`, in a mount namespace of their own where other files lie
over /etc/subuid and /etc/subgid, so that the host's /etc stays as it is. Run by an ordinary user they
take what that user has. (The emulated machine of tests/nested adds a user with a delegated group.)"""

import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import unittest

import brigtest
import hoststate
import ocilayout
from brigtest import Brig, PrivateCase, Server, wait_until


# Over the host's files in a mount namespace that ends with the command; then the user, then the words.
AS_USER = """
mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid || exit 99
uid=$2 gid=$3
shift 3
exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all -- "$@"
"""


class UserCase(PrivateCase):
    """subordinate: lines of /etc/subuid for the user."""
    subordinate = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prefix, cls.uid = (), os.geteuid()
        brigtest.need_program("unshare")
        if cls.uid == 0:
            brigtest.need_program("setpriv")
            try:
                user = pwd.getpwnam("nobody")
            except KeyError:
                raise unittest.SkipTest("there is no ordinary account 'nobody'") from None
            cls.uid = user.pw_uid
            table = brigtest.SCRATCH / f"subuid-{cls.__name__}"
            table.write_text(cls.subordinate)
            cls.prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", AS_USER, "sh",
                          table, user.pw_uid, user.pw_gid)
            if not all(os.path.exists(f) for f in ("/etc/subuid", "/etc/subgid")):
                raise unittest.SkipTest("this host has no /etc/subuid to lay another over")
        elif cls.subordinate and not re.search(rf"^({pwd.getpwuid(cls.uid).pw_name}|{cls.uid}):",
                                               hoststate.read("/etc/subuid"), re.M):
            raise unittest.SkipTest("this user has no subordinate ids: see `brig doctor`")
        elif not cls.subordinate:
            raise unittest.SkipTest("only root can try a user without subordinate ids")
        done = subprocess.run([*map(str, cls.prefix), "unshare", "--user", "--map-root-user", "true"],
                              capture_output=True)
        if done.returncode:
            raise unittest.SkipTest("this host gives ordinary users no user namespaces")

    def setUp(self):
        super().setUp()
        home = self.tmp / "home"
        for d in (home, home / "run", home / "data"):
            d.mkdir(mode=0o700)
            os.chown(d, self.uid, -1)
        # The checkout may lie where an ordinary user cannot look.
        programs = self.tmp / "programs"
        programs.mkdir(mode=0o755)
        for name in ("brig", "brigd", "brig-api", "brig-jaild", "brig-agent", "brig-image",
                     "brig-sudo", "brig-attack"):
            if (brigtest.build_dir() / name).exists():
                shutil.copy(brigtest.build_dir() / name, programs / name)
        self.tmp.chmod(0o755)
        self.home = home
        self.user = Brig(socket=home / "run" / "brigd.sock", data=home / "data", build=programs,
                         HOME=home, XDG_RUNTIME_DIR=home / "run", BRIG_RUN=home / "run" / "brig")

    def run_user(self, *args, **kw):
        return self.user.call("run", "--image", "host", *args, prefix=self.prefix, cwd="/", **kw)

    def mine(self):
        """Processes of the command `sleep 992`."""
        return [pid for pid in hoststate.pids()
                if "992" in hoststate.read(f"/proc/{pid}/cmdline").split("\0")]


class Alone(UserCase):
    def test_without_subordinate_ids_the_reason_and_the_remedy_are_told(self):
        done = self.run_user("--", "echo", "ran")
        self.assertRefused(done, 125, "subordinate|subuid", "remedy:")
        done = self.user.call("doctor", prefix=self.prefix, cwd="/")
        self.assertCode(done, 1)
        self.assertIn("usermod", done.text)


class Rootless(UserCase):
    subordinate = "nobody:600000000:65536\n"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        brigtest.need_program("newuidmap")

    def accepted(self):
        """--accept for every required thing that this host cannot give to the user."""
        done = self.user.call("doctor", "-o", "json", prefix=self.prefix, cwd="/")
        names = [c["check"].removeprefix("limit: ") for c in json.loads(done.text)["checks"]
                 if c["check"].startswith("limit: ") and not c["ok"]]
        return [x for n in names for x in ("--accept", n)]

    def test_a_command_runs_and_missing_limits_are_told(self):
        done = self.run_user("--", "sh", "-c", "echo hi; id -u; exit 3")
        self.assertCode(done, 3)
        self.assertEqual(done.out.split()[0], b"hi")
        missing = self.accepted()
        for name in missing[1::2]:
            if name in ("memory", "cpu", "pids"):
                self.assertRegex(done.errors.lower(), name.replace("pids", "pids|process"), str(done))

    def test_an_image_of_layers(self):
        busybox = shutil.which("busybox")
        if not busybox:
            self.skipTest("'busybox' is not installed (package busybox-static)")
        shell = ocilayout.entry("bin/busybox", pathlib.Path(busybox).read_bytes(), mode=0o755)
        image = ocilayout.Image([[shell, ocilayout.entry("d/gone", b"g"), ocilayout.entry("d/stays", b"s")],
                                 [ocilayout.entry("d/.wh.gone"), ocilayout.hardlink("linked", "d/stays")]])
        layout = image.layout(self.tmp / "layout")
        (layout / "context").mkdir()
        (layout / "context" / "file").write_text("copied")
        (layout / "build").write_text("FROM layers\nWORKDIR /w\nCOPY file ./\n")
        for args in (("import", "layers", f"oci:{layout}"),
                     ("build", "-f", layout / "build", "-t", "built", layout / "context")):
            self.assertOk(self.user.call("image", *args, prefix=self.prefix, cwd="/"))
        done = self.user.call("run", *self.accepted(), "--image", "built", "--", "/bin/busybox", "sh", "-c",
                              "ls /d; cat /linked /w/file", prefix=self.prefix, cwd="/")
        self.assertOk(done)
        self.assertEqual(done.text, "stays\nscopied", str(done))

    def test_attacks_are_contained_as_far_as_the_host_enforces_anything(self):
        accept = self.accepted()[1::2]
        done = self.user.call("selftest", "--attack", "-o", "json",
                              *(("--accept", ",".join(accept)) if accept else ()),
                              prefix=self.prefix, cwd="/", timeout=240)
        report = json.loads(done.text)
        bad = [r for r in report["attacks"] if r["result"] in ("escaped", "undecided")]
        self.assertEqual((done.code, bad), (0, []), done.errors)
        self.assertGreater(report["tiers"]["container"]["contained"], 45)
        unheld = {r["attack"] for r in report["attacks"] if r["result"] == "not_applicable"}
        for name, attack in (("pids", "fork-bomb"), ("memory", "memory-hog")):
            self.assertEqual(name in accept, attack in unheld, report)

    def test_q_is_quiet_about_it(self):
        done = self.run_user("-q", "--", "echo", "hi")
        self.assertEqual((done.code, done.out, done.err), (0, b"hi\n", b""), str(done))

    def test_a_limit_that_was_asked_for_and_cannot_be_enforced_is_refused(self):
        missing = self.accepted()[1::2]
        if "memory" not in missing:
            self.skipTest("memory limits work for this user")
        done = self.run_user("--memory", "64m", "--", "echo", "ran")
        self.assertRefused(done, 125, "memory", "remedy:")
        done = self.run_user("--memory", "64m", "--accept", "memory", "--accept", "swap", "--", "echo",
                             "ran")
        self.assertEqual(done.out, b"ran\n", str(done))

    def over_http(self, **env):
        """The answer to a request that asks for a memory limit."""
        server = Server(self.user, "--http", "127.0.0.1:0", prefix=self.prefix, cwd="/", env=env)
        self.addCleanup(server.stop)
        key = wait_until("a key is shown", lambda: re.search(r"\n    (e2b_[0-9a-f]{64})\n",
                                                             server.text()), explain=server.text)
        port = int(re.search(r"HTTP on http://127\.0\.0\.1:(\d+)\n", server.text()).group(1))
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            c.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": ["echo", "ran"],
                                                     "limits": {"memory": "64m"}}),
                      {"X-API-Key": key.group(1)})
            r = c.getresponse()
            return r.status, json.loads(r.read())
        finally:
            c.close()
            self.assertEqual(server.stop(), 0)
            shutil.rmtree(self.home / "data" / "api")

    def test_what_the_operator_accepts_holds_for_requests_over_http(self):
        if "memory" not in self.accepted()[1::2]:
            self.skipTest("memory limits work for this user")
        status, answer = self.over_http()
        self.assertGreaterEqual(status, 400, answer)
        self.assertIn("--memory", answer["message"])
        status, answer = self.over_http(BRIG_ACCEPT="memory,swap")
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["stdout"], "ran\n")
        self.assertTrue(any("(accepted)" in w for w in answer["warnings"]), answer)

    def test_files_of_the_user_do_not_show(self):
        secret = self.home / "secret"
        secret.write_text("canary")
        os.chown(secret, self.uid, -1)
        done = self.run_user("--", "sh", "-c", f"cat {secret} /etc/shadow 2>/dev/null; "
                             "ls /home /root; cat /proc/self/mountinfo")
        self.assertNotIn(b"canary", done.out)
        self.assertNotIn(str(self.home).encode(), done.out)

    def test_it_is_isolated(self):
        done = self.run_user("--", "sh", "-c", "grep -E 'NoNewPrivs|Seccomp:|CapEff|CapBnd' /proc/self/status; "
                             "ls /sys/class/net 2>/dev/null; sed -n 's/^ *\\([a-z0-9]*\\):.*/\\1/p' "
                             "/proc/net/dev; ls -d /proc/[0-9]* | wc -l")
        self.assertOk(done)
        fields = dict(re.findall(r"^(\w+):\s+(\S+)$", done.text, re.M))
        self.assertEqual((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"))
        self.assertEqual((int(fields["CapEff"], 16), int(fields["CapBnd"], 16)), (0, 0))
        self.assertEqual([w for w in done.text.split() if re.fullmatch(r"(lo|eth\d*|ens?\w*)", w)], ["lo"])

    def test_disk_timeout_and_output_limits_hold_without_groups(self):
        done = self.run_user("--disk", "5m", "--", "sh", "-c",
                             "head -c 50000000 /dev/zero >/tmp/f; stat -c %s /tmp/f")
        self.assertLessEqual(int(done.text.split()[-1]), 5 << 20)
        self.assertCode(self.run_user("--timeout", "300ms", "--", "sleep", "60"), 124)
        done = self.run_user("--max-output", "5000", "--", "yes")
        self.assertEqual((done.code, len(done.out)), (137, 5000))

    def test_the_clients_death_leaves_nothing(self):
        p = self.user.popen("run", "--image", "host", "-q", "--", "sh", "-c",
                            "trap '' TERM; setsid sleep 992 & (sleep 992 &) & echo ready; sleep 992; wait",
                            prefix=self.prefix, cwd="/")
        self.addCleanup(self._end, p)
        self.assertEqual(p.stdout.read(6), b"ready\n")
        wait_until("they run", self.mine)
        p.kill()
        p.wait()
        wait_until("they are gone", lambda: not self.mine(), brigtest.GONE_S / brigtest.SLOW)

    def test_gc_and_doctor_work(self):
        self.assertOk(self.run_user("--", "true"))
        done = self.user.call("gc", "--prove", prefix=self.prefix, cwd="/")
        self.assertCode(done, 0)
        done = self.user.call("doctor", prefix=self.prefix, cwd="/")
        self.assertIn(done.code, (0, 1))
        self.assertIn("container", done.text)

    def test_a_read_only_volume_shows_what_the_user_may_read(self):
        d = self.tmp / "shared"
        d.mkdir(mode=0o755)
        (d / "f").write_text("content")
        done = self.run_user("--volume", f"{d}:/data:ro", "--", "sh", "-c",
                             "cat /data/f; echo x >/data/g; exit 0")
        self.assertEqual(done.out, b"content", str(done))
        self.assertEqual([p.name for p in pathlib.Path(d).iterdir()], ["f"])
