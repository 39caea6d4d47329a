# SPDX-License-Identifier: Apache-2.0
"""Every flag and every limit: good, malformed, zero, out of range, beyond the host. A refusal names the
flag and what is accepted, has exit code 2 (a mistake in the command line) or 125 (this host or server
cannot), and nothing was started."""

import json
import os
import re
import socket

import brigtest
import hoststate
from brigtest import Brig, PrivateCase, ResidentCase

GIB = brigtest.GIB


def limits_table():
    """Rows of BRIG_LIMITS in include/brig/limits.h, the one source of the limits."""
    text = brigtest.SOURCE.joinpath("include/brig/limits.h").read_text()
    text = text[text.index("#define BRIG_LIMITS(X)"):text.index("struct brig_limits")]
    rows = re.findall(r'X\((\w+),\s*"([\w-]+)",\s*(\w+),', text)
    assert len(rows) >= 9, rows
    return rows


# flag: (good values, malformed ones, ones out of the range of limits.h, ones beyond any host)
MALFORMED = ["", "x", "-1", "1e3", " 1", "1 ", "0x10", "nan", "inf", "1.2.3", "١", "--", "1;2",
             "99999999999999999999999999"]
VALUES = {
    "cpus": (["0.01", "0.5", "1"], ["1.2345", "1cpu"], ["0", "0.001", "1024.001"], ["1000"]),
    "memory": (["16m", "64MiB", "67108864", "0.0625g"], ["1q", "m", "1.3b"],
               ["0", "1", "15m", "16385g"], ["16000g"]),
    "pids": (["2", "100"], ["1.5", "1k"], ["0", "1", "4194305"], ["4194304"]),
    "disk": (["1m", "200m"], ["1q", "m"], ["0", "1023k", "16385g"], ["16000g"]),
    "inodes": (["64", "100000"], ["1.5", "1k"], ["0", "63", "1073741825"], []),
    "timeout": (["1s", "1m30s", "1500ms", "20", "none", "30d"], ["1x", "s", "1s1m"],
                ["0", "0s", "31d"], []),
    "cpu-time": (["1s", "1m", "none"], ["1x", "s"], ["0", "0s", "31d"], []),
    "max-output": (["1k", "1g", "none"], ["1q", "k"], ["0"], []),
    "nofile": (["16", "512"], ["1.5", "1k"], ["0", "15", "1048577"], []),
}


class FlagCases:
    def refused(self, *args, code=(2, 125), words=()):
        mark = self.tmp / "mark"
        mark.mkdir(exist_ok=True)
        done = self.brig.run(*args, "--volume", f"{mark}:/mark", "--", "touch", "/mark/ran")
        self.assertRefused(done, code, *words)
        self.assertEqual(list(mark.iterdir()), [], "refused, and yet it ran")
        return done

    def test_every_limit_accepts_what_is_within_its_range(self):
        for _, flag, _ in limits_table():
            for value in VALUES[flag][0]:
                with self.subTest(flag=flag, value=value):
                    done = self.brig.run(f"--{flag}", value, "--", "echo", "fine")
                    self.assertEqual((done.code, done.out), (0, b"fine\n"), str(done))

    def test_every_limit_refuses_what_is_malformed(self):
        for _, flag, _ in limits_table():
            for value in MALFORMED + VALUES[flag][1]:
                with self.subTest(flag=flag, value=value):
                    done = self.refused(f"--{flag}={value}", code=2, words=(f"--{flag}",))
                    if value and value.isprintable() and len(value) < 60 and value.isascii():
                        self.assertIn(value, done.errors)

    def test_every_limit_refuses_what_is_out_of_range_and_names_the_range(self):
        for _, flag, _ in limits_table():
            for value in VALUES[flag][2]:
                with self.subTest(flag=flag, value=value):
                    self.refused(f"--{flag}", value, code=2, words=(f"--{flag}", " to "))

    def test_every_limit_refuses_what_is_beyond_this_host(self):
        for _, flag, _ in limits_table():
            for value in VALUES[flag][3]:
                with self.subTest(flag=flag, value=value):
                    self.refused(f"--{flag}", value, code=125, words=(flag,))

    def test_more_cpus_than_the_host_has_are_refused(self):
        cpus = os.sysconf("SC_NPROCESSORS_ONLN")
        self.refused("--cpus", cpus + 1, code=125, words=("cpus", str(cpus)))

    def test_more_memory_than_the_host_has_is_refused(self):
        total = int(re.search(r"MemTotal:\s+(\d+)",
                              hoststate.read("/proc/meminfo")).group(1)) * 1024
        self.refused("--memory", total + GIB, code=125, words=("memory",))

    def test_a_disk_larger_than_memory_is_refused(self):
        self.refused("--memory", "64m", "--disk", "65m", code=(2, 125), words=("disk", "memory"))

    def test_limits_that_cannot_be_none_say_so(self):
        for flag in ("cpus", "memory", "pids", "disk", "inodes", "nofile"):
            with self.subTest(flag):
                self.refused(f"--{flag}", "none", code=(2, 125), words=(f"--{flag}",))

    def test_forms_of_a_flag(self):
        for args in (["--memory=64m"], ["--memory", "64m"], ["-m64m"], ["-m", "64m"], ["-m=64m"],
                     ["--memory", "bad", "--memory", "64m"][2:]):
            with self.subTest(args):
                done = self.brig.run(*args, "--", "echo", "ok")
                self.assertEqual((done.code, done.out), (0, b"ok\n"), str(done))

    def test_options_end_at_the_command(self):
        done = self.brig.run("echo", "--memory", "-e", "--", "x")
        self.assertEqual((done.code, done.out), (0, b"--memory -e -- x\n"), str(done))

    def test_usage_mistakes(self):
        # A command that is missing is the image's to name.
        for args in ((), ("--",)):
            self.assertRefused(self.brig.run(*args), 125, "command")
        table = [(("--no-such-flag", "--", "true"), "no-such-flag"), (("-Z", "--", "true"), "-Z"),
                 (("--memory",), "memory"), (("--tier", "nonsense", "--", "true"), "tier"),
                 (("--detach=maybe", "--", "true"), "detach")]
        for args, word in table:
            with self.subTest(args):
                self.assertRefused(self.brig.run(*args), 2, word)
        self.assertIn(self.brig.run("--", "").code, (2, 125, 127))

    def test_tiers_that_are_not_here_are_refused_and_not_replaced(self):
        works = json.loads(self.brig.call("doctor", "-o", "json").out)["tiers"]
        self.assertEqual(set(works), {"container", "gvisor", "microvm"})
        for tier, offered in works.items():
            with self.subTest(tier):
                if offered:
                    _, status = self.brig.status("--tier", tier, "--", "true", expect=0)
                    self.assertEqual(status["tier"], tier)
                else:
                    self.refused("--tier", tier, code=125, words=(tier, "no weaker tier", "remedy:"))
        strongest = [t for t in ("container", "gvisor", "microvm") if works[t]][-1]
        _, status = self.brig.status("--tier", "auto", "--", "true", expect=0)
        self.assertEqual(status["tier"], strongest)
        # Without a word it is the server's own, whatever else there is.
        _, status = self.brig.status("--", "true", expect=0)
        self.assertEqual(status["tier"], "container")

    def test_the_variable_is_the_default_and_the_flag_outweighs_it(self):
        other = Brig(BRIG_TIER="nonsense")
        self.assertRefused(other.run("--", "true"), 125, "unknown tier 'nonsense'", "remedy:")
        _, status = other.status("--tier", "container", "--", "true", expect=0)
        self.assertEqual(status["tier"], "container")

    def test_an_unknown_image_is_named(self):
        done = self.brig.call("run", "--image", "nosuchimage", "--", "true")
        self.assertRefused(done, 125, "nosuchimage", "remedy:")
        done = self.brig.call("run", "--image", "../../etc", "--", "true")
        self.assertRefused(done, (2, 125), "etc")

    def test_names(self):
        for name in ("a", "A-1_x.y", "x" * 63):
            with self.subTest(name):
                self.assertOk(self.brig.run("--name", name, "--", "true"))
        for name in ("", "-a", ".a", "_a", "a b", "a/b", "../a", "x" * 64, "ä", "a\n"):
            with self.subTest(name):
                self.refused(f"--name={name}", code=(2, 125), words=("name",))

    def test_host_names(self):
        done = self.brig.run("--hostname", "box-7.example", "--", "sh", "-c", "hostname; uname -n")
        self.assertEqual(done.text.split(), ["box-7.example"] * 2, str(done))
        for name in ("", "-a", "a b", "a/b", "x" * 64, "a\n", "ä"):
            with self.subTest(name):
                self.refused(f"--hostname={name}", code=(2, 125), words=("host ?name",))

    def test_the_host_name_of_the_host_does_not_show(self):
        done = self.brig.run("--", "sh", "-c", "hostname; cat /etc/hostname /etc/hosts; uname -n")
        self.assertNotIn(socket.gethostname().encode(), done.out.split())

    def test_labels(self):
        self.assertOk(self.brig.run("--label", "a=b", "-l", "flag", "--label", "x.y/z=1=2", "--", "true"))
        for label in ("", "=b", "x" * 70 + "=1"):
            with self.subTest(label):
                self.refused(f"--label={label}", code=(2, 125), words=("label",))

    def test_workdir(self):
        done = self.brig.run("-w", "/usr/lib", "--", "pwd")
        self.assertEqual(done.out, b"/usr/lib\n", str(done))
        done = self.brig.run("--", "pwd")
        self.assertEqual(done.out, b"/home/user\n", str(done))
        self.refused("--workdir", "relative", code=(2, 125), words=("workdir|directory",))

    def test_user(self):
        for user, expect in (("user", "1000 1000"), ("root", "0 0"), ("0", "0 0"), ("1000", "1000 1000"),
                             ("1234:5678", "1234 5678"), ("user:root", "1000 0"), ("0:0", "0 0")):
            with self.subTest(user):
                done = self.brig.run("--user", user, "--", "sh", "-c", "echo $(id -u) $(id -g)")
                self.assertEqual(done.text.strip(), expect, str(done))
        for user in ("", ":", "a:", ":b", "a:b:c", "no such", "-1", "65536", "4294967295", "1:65536",
                     "x" * 100):
            with self.subTest(user):
                done = self.brig.run(f"--user={user}", "--", "true")
                self.assertRefused(done, (2, 125), "user|uid|ids|id ")

    def test_env(self):
        done = self.brig.run("-e", "A=1", "--env", "B=two words", "-e", "C=", "-e", "A=last",
                             "-e", "FROM_HERE", "-e", "NOT_SET_HERE", "--", "env",
                             env={"FROM_HERE": "copied", "SECRET": "canary"})
        env = dict(line.split("=", 1) for line in done.text.splitlines())
        self.assertEqual({k: env.get(k) for k in ("A", "B", "C", "FROM_HERE", "NOT_SET_HERE")},
                         {"A": "last", "B": "two words", "C": "", "FROM_HERE": "copied",
                          "NOT_SET_HERE": None})
        self.assertNotIn("SECRET", env)
        for entry in ("=x", "", "1A=x", "A B=x"):
            with self.subTest(entry):
                self.refused(f"--env={entry}", code=(2, 125), words=("env|variable",))

    def test_nothing_of_the_callers_environment_is_passed(self):
        done = self.brig.run("--", "env", env={"CANARY_VALUE": "tweet", "LC_ALL": "de_DE", "USER": "me"})
        names = {line.split("=", 1)[0] for line in done.text.splitlines()}
        self.assertLessEqual(names, {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "HOSTNAME",
                                     "PWD", "SHLVL", "_", "TERM"}, done.text)
        self.assertNotIn("tweet", done.text)
        self.assertNotIn("BRIG_", done.text)

    def test_env_file(self):
        f = self.tmp / "env"
        f.write_text("# comment\n\nA=1\n  B=two words \nC='quoted'\nD\nE=a=b\n")
        done = self.brig.run("--env-file", f, "-e", "A=flag", "--", "env", env={"D": "copied"})
        env = dict(line.split("=", 1) for line in done.text.splitlines())
        self.assertEqual((env.get("A"), env.get("C"), env.get("D"), env.get("E")),
                         ("flag", "'quoted'", "copied", "a=b"), str(done))
        self.assertTrue(env.get("B", "").startswith("two words"))
        f.write_text("A=1\n=broken\n")
        self.refused("--env-file", f, code=(2, 125), words=("env", "2"))
        self.refused("--env-file", self.tmp / "missing", code=(2, 125), words=("missing",))
        f.write_bytes(b"A=" + b"x" * 3000000 + b"\n")
        self.refused("--env-file", f, code=(2, 125), words=("env",))

    def test_volumes_that_cannot_be(self):
        d = self.tmp / "d"
        d.mkdir()
        table = [(f"{d}", (2,)), (f"{d}:", (2,)), (f":{d}", (2,)), (f"{d}:rel", (2,)),
                 (f"{d}:/", (2, 125)), (f"{d}:/a/../b", (2,)), (f"{d}:/a//b", (2, 125)),
                 (f"{d}:/a/./b", (2, 125)), (f"{d}:/a:xx", (2,)), (f"{d}:/proc/x", (2, 125)),
                 (f"{d}:/dev", (2, 125)), (f"{d}:/sys", (2, 125)),
                 (f"{self.tmp}/missing:/a", (125,)), ("rel-missing:/a", (2, 125))]
        for volume, codes in table:
            with self.subTest(volume):
                self.assertRefused(self.brig.run("--volume", volume, "--", "true"), codes, "volume|open")

    def test_more_volumes_than_there_may_be(self):
        args = []
        for i in range(17):
            args += ["--volume", f"{self.tmp}:/v{i}"]
        self.assertRefused(self.brig.run(*args, "--", "true"), (2, 125), "volume")

    def test_accept_takes_known_names(self):
        self.assertOk(self.brig.run("--accept", "swap", "--", "true"))
        self.assertRefused(self.brig.run("--accept", "nonsense", "--", "true"), (2, 125), "nonsense")

    def test_a_huge_command_line_passes_or_is_refused(self):
        words = ["x" * 1000] * 70
        done = self.brig.run("--", "sh", "-c", "echo $#", "sh", *words)
        self.assertEqual(done.out, b"70\n", str(done))
        words = ["x" * 100000] * 15  # 1.5 MB: above a request's size
        done = self.brig.run("--", "sh", "-c", "echo $#", "sh", *words)
        if done.code != 0:
            self.assertRefused(done, (2, 125, 126))


class Private(FlagCases, PrivateCase):
    pass


class Resident(FlagCases, ResidentCase):
    def test_a_name_in_use_is_refused(self):
        self.assertOk(self.brig.call("create", "--image", "host", "--name", "taken"))
        self.refused("--name", "taken", code=125, words=("taken",))


class Table(PrivateCase):
    def test_this_file_covers_every_limit(self):
        self.assertEqual({flag for _, flag, _ in limits_table()}, set(VALUES))
