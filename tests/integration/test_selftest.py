# SPDX-License-Identifier: Apache-2.0
"""`brig selftest --attack`: the scorecard, and what `serve --require-selftest` makes of it. That an attack
which gets out is seen is shown by tests/fault/test_selftest.py."""

import json
import subprocess

import brigtest
from brigtest import Brig, PrivateCase
from servecase import ServeCase

CLASSES = {"kernel", "privilege", "files", "processes", "network", "facts", "limits"}


class Scorecard(PrivateCase):
    def listed(self):
        text = subprocess.run([brigtest.build_dir() / "brig-attack", "--list"], capture_output=True,
                              text=True, check=True).stdout
        return {line.split("\t")[0]: line.split("\t")[2] for line in text.splitlines()}

    def test_everything_is_contained_and_every_attack_is_in_the_report(self):
        brigtest.need_root()
        done = self.brig.call("selftest", "--attack", "-o", "json", timeout=240, env=brigtest.NO_GVISOR)
        self.assertEqual(done.code, 0, str(done))
        report = json.loads(done.text)
        listed, rows = self.listed(), {r["attack"]: r for r in report["attacks"]}
        self.assertEqual(set(rows), set(listed) | {"neighbour"})
        self.assertEqual({r["class"] for r in rows.values()}, CLASSES)
        self.assertTrue(report["ok"])
        self.assertEqual(set(report["tiers"]), {"container"})
        self.assertEqual(report["tiers"]["container"]["escaped"], 0)
        # A control that is harmless was run, and its attack noticed that it had succeeded.
        for name, control in listed.items():
            if control in ("outside", "roomier"):
                self.assertIn(rows[name]["control"], ("noticed", "not_run"), rows[name])
            else:
                self.assertEqual(rows[name]["control"], "not_run", rows[name])
                self.assertTrue(rows[name]["control_detail"])
        self.assertGreater(report["controls"]["noticed"], 30)
        self.assertEqual(report["controls"]["failed"], 0)

    def test_what_is_not_said_is_asked_for(self):
        self.assertRefused(self.brig.call("selftest"), 2, "--attack")

    def test_a_server_elsewhere_cannot_be_judged_from_here(self):
        done = self.brig.call("selftest", "--attack", env={"BRIG_URL": "http://127.0.0.1:9",
                                                           "BRIG_API_KEY": "x"})
        self.assertRefused(done, 125, "elsewhere", "remedy:")


class Required(ServeCase):
    def setUp(self):
        super().setUp()
        brigtest.need_root()
        self.brig.env.update(brigtest.NO_GVISOR)
        self.kept = self.tmp / "data" / "selftest.json"

    def test_the_result_is_kept_for_the_next_start(self):
        self.serve("--require-selftest")
        self.assertIn("running", self.server.text())
        self.assertEqual(self.brig.run("--", "echo", "x").out, b"x\n")
        first = self.kept.stat().st_mtime_ns
        self.assertEqual(self.kept.stat().st_mode & 0o777, 0o600)
        self.server.stop()
        self.serve("--require-selftest")
        self.assertNotIn("running", self.server.text())
        self.assertEqual(self.kept.stat().st_mtime_ns, first)

    def test_another_kernel_or_a_torn_file_is_no_result(self):
        self.serve("--require-selftest").stop()
        good = json.loads(self.kept.read_text())
        for text in (json.dumps({**good, "key": {**good["key"], "kernel": "5.15.0"}}),
                     json.dumps(good)[:-20], "[]", json.dumps({"key": good["key"], "report": 1})):
            with self.subTest(text[:60]):
                self.kept.write_text(text)
                self.serve("--require-selftest").stop()
                self.assertIn("running", self.server.text())
                self.assertEqual(json.loads(self.kept.read_text())["key"], good["key"])

    def test_a_tier_that_failed_is_not_offered(self):
        self.serve("--require-selftest")
        key = self.first_key()
        self.server.stop()
        found = json.loads(self.kept.read_text())
        found["report"]["tiers"]["container"].update(ok=False, escaped=1)
        found["report"]["attacks"][0]["result"] = "escaped"
        name = found["report"]["attacks"][0]["attack"]
        self.kept.write_text(json.dumps(found))
        self.serve("--require-selftest", "--pool", "host=2")
        self.refused(name)
        status, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"]}, key)
        self.assertEqual((status, answer["code"]), (422, "unsupported_on_this_host"), answer)
        self.assertIn(name, answer["message"])
        self.assertIn("selftest", answer["remediation"])
        status, answer = self.ask("GET", "/v1/version", key=key)
        self.assertEqual((status, answer["tiers"]), (200, []))
        self.assertIn(name, answer["refused"]["container"])

    def refused(self, name):
        for args in (("run", "--image", "host", "--", "true"), ("create", "--image", "host"),
                     ("create", "--image", "host", "--tier", "container")):
            self.assertRefused(self.brig.call(*args), 125, "does not offer", name, "remedy:.*selftest")
        done = self.brig.call("doctor", "-o", "json")
        self.assertEqual(done.code, 1, str(done))
        found = json.loads(done.text)
        self.assertFalse(found["tiers"]["container"])
        self.assertIn(name, [c for c in found["checks"] if c["check"] == "selftest"][0]["detail"])
        self.assertIn(name, self.brig.call("version").text)

    def test_without_the_flag_nothing_is_run(self):
        self.serve()
        self.assertFalse(self.kept.exists())
