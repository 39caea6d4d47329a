# SPDX-License-Identifier: Apache-2.0
"""An attack that gets out: a selftest that lets a file of the host into its sandboxes must see it, and a
server that requires the selftest must then offer nothing."""

import json

from brigtest import NO_GVISOR, Brig, Server
from faults import Fault

HOLE = {"BRIG_FAILPOINT": "selftest.hole=error"}


class Selftest(Fault):
    def setUp(self):
        super().setUp()
        self.tmp.chmod(0o711)
        self.brig = Brig(data=self.tmp / "data", **NO_GVISOR)

    def test_what_gets_out_is_seen_and_named(self):
        done = self.brig.call("selftest", "--attack", "-o", "json", env=HOLE, timeout=240)
        self.assertEqual(done.code, 1, str(done))
        report = json.loads(done.text)
        escaped = {r["attack"] for r in report["attacks"] if r["result"] == "escaped"}
        self.assertIn("host-files", escaped)
        self.assertFalse(report["ok"] or report["tiers"]["container"]["ok"])
        # The others are judged as ever.
        self.assertGreater(report["tiers"]["container"]["contained"], 40)
        table = self.brig.call("selftest", "--attack", env=HOLE, timeout=240)
        self.assertEqual(table.code, 1)
        self.assertRegex(table.text, "escaped host-files in tier container: .*can be read")
        self.recovered()

    def test_a_server_that_requires_it_offers_nothing_then(self):
        server = Server(self.brig, "--require-selftest", env=HOLE)
        self.addCleanup(server.stop)
        self.assertIn("is not offered", server.text())
        for args in (("run", "--image", "host", "--", "true"), ("create", "--image", "host")):
            self.assertRefused(self.brig.call(*args), 125, "does not offer", "host-files", "remedy:")
        self.assertEqual(self.brig.call("doctor").code, 1)
        server.stop()
        # The hole is gone, the result is kept: who mends something says so by another version.
        again = Server(self.brig, "--require-selftest")
        self.addCleanup(again.stop)
        self.assertRefused(self.brig.call("create", "--image", "host"), 125, "host-files")
        again.stop()
        (self.tmp / "data" / "selftest.json").unlink()
        mended = Server(self.brig, "--require-selftest")
        self.addCleanup(mended.stop)
        self.assertEqual(self.brig.run("--", "echo", "x").out, b"x\n")
        mended.stop()
