# SPDX-License-Identifier: Apache-2.0
"""Verbs about the host and about brig itself: doctor, gc, version, help, completion, man pages."""

import json
import os
import pathlib
import shutil
import subprocess

import brigtest
import hoststate
from brigtest import Brig, PrivateCase, wait_until

VERBS = ("run", "create", "exec", "ls", "inspect", "cp", "logs", "kill", "rm", "stats", "doctor", "gc",
         "version", "completion", "image", "serve")


class Doctor(PrivateCase):
    def test_the_report_and_the_exit_code_agree(self):
        table = self.brig.call("doctor")
        report = self.brig.call("doctor", "-o", "json")
        self.assertEqual(table.code, report.code)
        found = json.loads(report.out)
        self.assertIs(found["ok"], report.code == 0)
        self.assertIs(found["tiers"]["container"], found["ok"])
        self.assertEqual(set(found["tiers"]), {"container", "gvisor", "microvm"})
        engines = {c["tier"]: c for c in found["checks"] if c["check"] == "engine"}
        self.assertEqual(set(engines), set(found["tiers"]))
        for tier, works in found["tiers"].items():
            self.assertTrue(engines[tier]["detail"], engines)
            self.assertLessEqual(works, engines[tier]["ok"], found)
        for check in found["checks"]:
            self.assertEqual(set(check), {"check", "ok", "required", "tier", "detail", "remedy"}, check)
            if not check["ok"]:
                self.assertTrue(check["remedy"], f"no remedy: {check}")
        wrong = [c for c in found["checks"] if c["required"] and not c["ok"]]
        self.assertEqual(bool(wrong), report.code == 1)

    def test_it_says_why_there_is_no_microvm(self):
        report = json.loads(self.brig.call("doctor", "-o", "json").out)
        rows = {c["check"]: c for c in report["checks"] if c["tier"] == "microvm"}
        self.assertIn("/dev/kvm", rows)
        self.assertEqual(rows["/dev/kvm"]["ok"], os.access("/dev/kvm", os.R_OK | os.W_OK), rows)
        self.assertEqual("guests run on the processor" in rows, rows["/dev/kvm"]["ok"])
        if os.path.exists("/sys/module/kvm_pvm") and rows["/dev/kvm"]["ok"]:
            # It emulates a guest that is not made for it, instruction by instruction.
            self.assertFalse(rows["guests run on the processor"]["ok"], rows)

    def test_what_it_says_is_true(self):
        works = self.brig.call("doctor").code == 0
        self.assertEqual(self.brig.run("--", "true").code == 0, works)

    def test_it_names_what_is_missing(self):
        build = self.tmp / "part"
        build.mkdir()
        for program in ("brig", "brigd", "brig-jaild"):
            shutil.copy(brigtest.build_dir() / program, build / program)
        done = Brig(build=build).call("doctor", "-o", "json")
        self.assertCode(done, 1)
        missing = [c for c in json.loads(done.out)["checks"] if c["required"] and not c["ok"]]
        self.assertTrue(any("brig-agent" in c["check"] for c in missing), missing)


class Gc(PrivateCase):
    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def prove(self, code):
        done = self.brig.call("gc", "--prove", "-o", "json")
        self.assertCode(done, code)
        return json.loads(done.out)

    def test_a_clean_host_is_proved_clean(self):
        self.assertOk(self.brig.run("--", "true"))
        for row in self.prove(0):
            self.assertIn(row["state"], ("live", "removed"), row)

    def test_what_lives_is_explained_and_left_alone(self):
        p = self.start(self.brig, "--", "sh", "-c", "echo ready; cat; echo alive", stdin=subprocess.PIPE)
        kinds = {row["kind"] for row in self.prove(0) if row["state"] == "live"}
        self.assertLessEqual({"cgroup", "process", "instance", "uid-lease"}, kinds)
        self.assertOk(self.brig.call("gc"))
        p.stdin.close()
        self.assertEqual(p.stdout.read(), b"alive\n")

    def test_a_stray_file_is_named(self):
        stray = hoststate.run_dir() / "stray-file"
        stray.write_text("")
        try:
            rows = self.prove(1)
            self.assertTrue(any(r["state"] == "unexplained" and "stray-file" in r["name"] for r in rows))
        finally:
            stray.unlink()
        self.prove(0)

    def test_a_group_of_a_dead_instance_is_removed_with_what_runs_in_it(self):
        self.assertOk(self.brig.run("--", "true"))
        # A private server sweeps at its end, and would find what is planted here.
        wait_until("the server has ended", lambda: not hoststate.brig_pids("brig-jaild"))
        tops = {pathlib.Path(line.split()[4]) for line in hoststate.read("/proc/self/mountinfo").splitlines()
                if line.split(" - ")[1].startswith("cgroup")}
        tops = [t for t in tops if (t / "pids.max").exists() or t.name in ("pids", "memory")
                or (t / "cgroup.controllers").exists()]
        group = [t for t in tops if t.name == "pids" or (t / "cgroup.procs").exists()][0]
        made = group / "brig" / "deadinstance" / "deadsandbox00000"
        made.mkdir(parents=True)
        sleeper = subprocess.Popen(["sleep", "993"])
        try:
            (made / "cgroup.procs").write_text(str(sleeper.pid))
            self.assertOk(self.brig.call("gc"))
            self.assertFalse(made.exists())
            self.assertEqual(sleeper.wait(5), -9)
        finally:
            if sleeper.poll() is None:
                sleeper.kill()
                sleeper.wait()

    def test_a_process_with_an_id_of_the_range_is_ended(self):
        brigtest.need_program("setpriv")
        uid = hoststate.ID_BASE + 4000 * hoststate.ID_SLOT
        stray = subprocess.Popen(["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups",
                                  "sleep", "993"])
        try:
            brigtest.wait_until("it has its id", lambda: hoststate.uid_of(stray.pid) == uid)
            self.assertOk(self.brig.call("gc"))
            self.assertEqual(stray.wait(5), -9)
        finally:
            if stray.poll() is None:
                stray.kill()
                stray.wait()


class Itself(PrivateCase):
    def test_version(self):
        done = self.brig.call("version")
        self.assertOk(done)
        self.assertRegex(done.text, r"\d+\.\d+\.\d+")
        self.assertIn("version", json.dumps(self.brig.json("version")))
        self.assertEqual(self.brig.call("--version").text.split()[-1][0].isdigit(),
                         True)

    def test_help_of_every_verb(self):
        table = self.brig.call("--help")
        self.assertOk(table)
        self.assertEqual(self.brig.call("help").out, table.out)
        for verb in VERBS:
            with self.subTest(verb):
                self.assertIn(verb, table.text)
                done = self.brig.call(verb, "--help")
                self.assertOk(done)
                self.assertIn("sage", done.text)
                self.assertEqual(done.err, b"")

    def test_every_flag_of_the_specification_is_there(self):
        text = self.brig.call("run", "--help").text
        for flag in ("tier image name label env env-file workdir user cpus memory pids disk timeout "
                     "cpu-time max-output volume detach rm status-json").split():
            self.assertIn(f"--{flag}", text)
        for letter in ("-t", "-i", "-d", "-e", "-v", "-w", "-u"):
            self.assertIn(letter, text)

    def test_no_verb_and_unknown_verbs_are_mistakes(self):
        self.assertCode(self.brig.call(), 2)
        self.assertRefused(self.brig.call("nosuchverb"), 2, "nosuchverb")

    def test_a_full_disk_under_the_output_is_told(self):
        with open("/dev/full", "wb") as full:
            for args in (("--help",), ("ls", "-o", "json"), ("doctor",), ("version",)):
                with self.subTest(args):
                    p = self.brig.popen(*args, stdout=full)
                    _, err = p.communicate(timeout=30 * brigtest.SLOW)
                    self.assertNotEqual(p.returncode, 0, err)

    def test_programs_are_found_beside_brig_wherever_it_is_called_from(self):
        link = self.tmp / "somewhere" / "brig"
        link.parent.mkdir()
        link.symlink_to(brigtest.build_dir() / "brig")
        p = subprocess.run([link, "run", "--image", "host", "--", "echo", "hi"], env=self.brig.env,
                           capture_output=True, cwd="/", timeout=60 * brigtest.SLOW)
        self.assertEqual((p.returncode, p.stdout), (0, b"hi\n"), p.stderr)

    def test_an_empty_environment_is_enough(self):
        keep = {k: v for k, v in self.brig.env.items() if k.startswith(("BRIG_", "ASAN", "UBSAN", "LSAN"))}
        p = subprocess.run([self.brig.program, "run", "--image", "host", "--", "echo", "hi"], env=keep,
                           capture_output=True, timeout=60 * brigtest.SLOW)
        self.assertEqual((p.returncode, p.stdout), (0, b"hi\n"), p.stderr)

    def test_started_with_a_hostile_environment(self):
        done = self.brig.run("--", "echo", "hi", env={
            "LD_PRELOAD": "/nonexistent.so", "BASH_ENV": "/etc/passwd", "TERM": "\x1b[2J", "TZ": ":/etc/x",
            "LC_ALL": "x" * 10000, "BRIG_ACCEPT": ""})
        self.assertEqual((done.code, done.out), (0, b"hi\n"), str(done))

    def test_bash_completion_completes(self):
        script = self.brig.call("completion", "bash")
        self.assertOk(script)
        check = "source /dev/stdin; for w in ru 'run --mem' 'run --tier '; do :; done; complete -p brig"
        p = subprocess.run(["bash", "-c", check], input=script.out, capture_output=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn(b"brig", p.stdout)
        for shell in ("zsh", "fish"):
            self.assertIn("brig", self.brig.call("completion", shell).text)
        self.assertRefused(self.brig.call("completion", "nosuch"), 2, "nosuch")
