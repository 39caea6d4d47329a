# SPDX-License-Identifier: Apache-2.0
"""Isolation receipts: what the host measured of a sandbox is what the kernel says, it is signed, and a
receipt that was changed is refused."""

import json
import os
import pathlib
import re

import brigtest
import hoststate
import test_api
from brigtest import Brig

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


class Receipt(test_api.Api):
    def made(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def receipt(self, box, expect=200):
        """As the operator: these sandboxes are no tenant's."""
        status, answer = self.operator("GET", f"/v1/sandboxes/{box}/receipt")
        self.assertEqual(status, expect, answer)
        return answer

    def first_process(self, box):
        rows = self.brig.json("stats", box)
        rows = rows["stats"] if isinstance(rows, dict) else rows
        return rows[0]["init_pid"]

    def saved(self, receipt, name="receipt.json"):
        path = self.folder / name
        path.write_text(receipt if isinstance(receipt, str) else json.dumps(receipt))
        return path

    def verify(self, path, *args, expect=0):
        done = self.brig.call("receipt", "verify", path, *args)
        self.assertEqual(done.code, expect, str(done))
        return done.text

    def test_it_says_what_the_kernel_says(self):
        brigtest.need_root()
        box = self.made("--pids", "77", "--memory", "64M", "--cpus", "0.5", "--disk", "8M")
        done = self.brig.call("exec", box, "--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo on")
        self.assertEqual(done.text, "on\n", str(done))
        r = self.receipt(box)
        self.assertEqual((r["sandbox"], r["tier"], r["tenant"], r["brig_receipt"]),
                         (box, "container", None, 1))
        pid = self.first_process(box)
        self.assertEqual(sorted(r["namespaces"]), sorted(KINDS))
        for kind in KINDS:
            inode, own = (os.stat(f"/proc/{p}/ns/{kind}").st_ino for p in (pid, "self"))
            self.assertEqual(r["namespaces"][kind], {"inode": inode, "host": own, "own": True}, kind)
        status = hoststate.read(f"/proc/{pid}/status")
        field = lambda name: re.search(rf"^{name}:\s+(\S+)", status, re.M).group(1)
        for name, key in ("Bnd", "bounding"), ("Eff", "effective"), ("Prm", "permitted"), \
                ("Inh", "inheritable"), ("Amb", "ambient"):
            self.assertEqual(r["capabilities"][key], field("Cap" + name), key)
        # Commands get one capability less than the first process has, or none.
        self.assertEqual(int(r["capabilities"]["commands_bounding"], 16) & ~int(field("CapBnd"), 16), 0)
        self.assertGreaterEqual(r["processes"], 2)
        self.assertEqual((r["no_new_privs"], r["seccomp"]["mode"]), (True, 2))
        inside, first, count = map(int, hoststate.read(f"/proc/{pid}/uid_map").split())
        self.assertEqual((inside, first, count),
                         (0, r["ids"]["uid_first"], r["ids"]["uid_count"]))
        cg = r["cgroup"]
        self.assertEqual((cg["memory_bytes"], cg["pids"]), (64 << 20, 78))
        self.assertEqual(cg["cpu_quota_us"] * 2, cg["cpu_period_us"])
        self.assertEqual(r["disk"]["bytes"], 8 << 20)
        self.assertTrue(cg["path"].endswith(box), cg)
        self.assertEqual(len(r["mounts"]), len(hoststate.read(f"/proc/{pid}/mountinfo").splitlines()))
        self.assertIn("/proc/sys proc ro,nosuid,nodev,noexec", r["mounts"])
        self.assertEqual(r["egress"], {"policy": "loopback", "interfaces": ["lo"], "routes": 0})
        self.assertTrue(r["kernel"].startswith(os.uname().release), r["kernel"])

    def test_the_filters_are_those_that_the_kernel_has(self):
        brigtest.need_root()
        header = (self.brig.build / "payload_seccomp.h").read_text()
        built = re.search(r'PAYLOAD_FILTER_SHA256 \\\s+"([0-9a-f]{64})"', header).group(1)
        r = self.receipt(self.made())["seccomp"]
        self.assertEqual(r, {"mode": 2, "filters": [{"name": "payload", "sha256": built}],
                             "read_back": True})

    def test_the_sandbox_goes_on_and_is_measured_as_often_as_asked(self):
        box = self.made()
        seen = {json.dumps({k: v for k, v in self.receipt(box).items()
                            if k not in ("time", "signature", "processes")}, sort_keys=True)
                for _ in range(20)}
        self.assertEqual(len(seen), 1)
        done = self.brig.call("exec", box, "--", "echo", "alive")
        self.assertEqual(done.text, "alive\n", str(done))

    def test_it_is_signed_and_what_was_changed_is_refused(self):
        box = self.made()
        whole = self.receipt(box)
        key = self.folder / "server.pub"
        key.write_text(self.brig.call("audit", "key").text)
        self.assertRegex(self.verify(self.saved(whole), "--key", key), f"good: sandbox {box} ")
        # Layout is not content.
        self.verify(self.saved(json.dumps(whole, indent=3)), "--key", key)
        self.verify(self.saved(whole))  # by the server's own folder

        def changed(**kw):
            return {**whole, **kw}
        bad = {
            "item": changed(no_new_privs=False),
            "tenant": changed(tenant="other"),
            "time": changed(time="2030-01-01T00:00:00.000Z"),
            "added": changed(more=1),
            "left out": {k: v for k, v in whole.items() if k != "mounts"},
            "no signature": {k: v for k, v in whole.items() if k != "signature"},
            "another signature": changed(signature="A" * 86 + "=="),
            "another version": changed(brig_receipt=2),
            "another key": changed(key="0" * 16),
            "real": changed(processes=1.5),
            "list": [whole],
        }
        for name, r in bad.items():
            with self.subTest(name):
                self.assertIn("BAD", self.verify(self.saved(r), "--key", key, expect=1))
        text = json.dumps(whole)
        for name, t in {"torn": text[:-2], "twice": text[:-1] + ', "tenant": "default"}',
                        "empty": "", "deep": "[" * 100000, "long": text + " " * 200000}.items():
            with self.subTest(name):
                self.assertIn("BAD: malformed", self.verify(self.saved(t), "--key", key, expect=1))
        done = self.brig.call("receipt", "verify", self.saved(whole), "--key", self.saved("x", "no.pub"))
        self.assertRefused(done, 125, "no Ed25519 key")

    def test_a_head_of_the_audit_log_is_no_receipt(self):
        # The same key, another purpose.
        log = sorted((self.folder / "data" / "api" / "audit").glob("*.jsonl"))[0]
        head = next((line for line in log.read_text().splitlines() if '"what":"head"' in line), "{}")
        self.assertIn("BAD", self.verify(self.saved(head), expect=1))

    def test_who_may_not_see_the_sandbox_gets_no_receipt(self):
        box = self.e2b("POST", "/v2/sandboxes", {"templateID": "host"}, 201)["sandboxID"]
        self.assertEqual(self.own("GET", f"/sandboxes/{box}/receipt")["tenant"], "default")
        self.own("GET", f"/sandboxes/{box}/receipt", expect=401, key="e2b_" + "0" * 64)
        self.assertOk(self.brig.call("tenant", "create", "stranger"))
        self.addCleanup(self.brig.call, "tenant", "rm", "--force", "stranger")
        other = self.brig.json("key", "create", "--tenant", "stranger")["key"]
        missing = self.own("GET", "/sandboxes/nosuchsandbox00/receipt", expect=404, key=other)
        theirs = self.own("GET", f"/sandboxes/{box}/receipt", expect=404, key=other)
        self.assertEqual(missing["code"], theirs["code"])
        # One that is nobody's is not there for a key either.
        self.own("GET", f"/sandboxes/{self.made()}/receipt", expect=404)

    def test_a_paused_one_is_told_as_such(self):
        box = self.made()
        self.assertOk(self.brig.call("pause", box))
        answer = self.receipt(box, expect=409)
        self.assertIn("paused", answer["message"])
        self.assertOk(self.brig.call("unpause", box))
        self.receipt(box)

    def test_the_command_line_shows_it(self):
        box = self.made("--name", "shown")
        text = self.brig.call("receipt", "shown").text
        for want in (f"sandbox       {box}", "namespaces    cgroup ipc mnt net pid", "no_new_privs yes",
                     "seccomp       payload ", "egress        loopback"):
            self.assertIn(want, text)
        r = self.brig.json("receipt", box)
        self.verify(self.saved(r))
        self.assertRefused(self.brig.call("receipt", "nobody"), 125, "no sandbox 'nobody'")
        self.assertCode(self.brig.call("receipt", "verify"), 2)

    def test_volumes_are_in_it(self):
        folder = self.folder / "volume"
        folder.mkdir()
        box = self.made("-v", f"{folder}:/data/read only:ro", "-v", f"{folder}:/data/both") \
            if os.geteuid() == 0 else self.made("-v", f"{folder}:/data/read only:ro")
        r = self.receipt(box)
        row = [m for m in r["mounts"] if m.startswith("/data/read?only ")]
        self.assertEqual(len(row), 1, r["mounts"])
        self.assertRegex(row[0], r" ro,nosuid,nodev")
        if os.geteuid() == 0:
            self.assertEqual([f["name"] for f in r["seccomp"]["filters"]], ["payload", "suid"])
