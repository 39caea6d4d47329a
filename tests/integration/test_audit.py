# SPDX-License-Identifier: Apache-2.0
"""The audit log of a server: who did what, in a chain that verifies; nothing of payloads; what a full
disk does."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import unittest

import brigtest
import hoststate
import test_api
from brigtest import wait_until

CANARY = "canary-3f9b1c77"


class Audit(test_api.Api):
    @property
    def data(self):
        return self.folder / "data"

    def audit(self, *args, expect=0):
        done = self.brig.call("audit", *args)
        self.assertEqual(done.code, expect, done.text + done.err.decode())
        return done.text

    def records(self):
        files = sorted((self.data / "api" / "audit").glob("*.jsonl"))
        return [json.loads(line) for f in files for line in f.read_text().splitlines()]

    def of(self, request_id):
        return [r for r in self.records() if r.get("request_id") == request_id]

    def one(self, method, path, body=None, **kw):
        """The answer's status and body, and the one record of it: it is there with the answer."""
        status, headers, answer = self.ask(method, path, body, **kw)
        found = self.of(headers["X-Request-Id"])
        self.assertEqual(len(found), 1, (method, path, status, answer, found))
        return status, answer, found[0]

    def test_each_change_is_one_record_before_its_answer(self):
        key = [k for k in self.operator("GET", "/v1/keys")[1]["keys"] if k["name"] == "first"][0]
        status, box, r = self.one("POST", "/v2/sandboxes", {"templateID": "host"})
        self.assertEqual((status, r["what"], r["outcome"], r["status"]), (201, "create", "ok", 201))
        self.assertEqual((r["id"], r["tenant"], r["key"], r["peer"]),
                         (box["sandboxID"], "default", key["id"], "127.0.0.1"))
        box = box["sandboxID"]
        status, _, r = self.one("POST", f"/sandboxes/{box}/pause", {})
        self.assertEqual((status, r["what"], r["id"]), (204, "pause", box))
        status, _, r = self.one("POST", f"/sandboxes/{box}/pause", {})
        self.assertEqual((status, r["outcome"], r["status"]), (409, "refused", 409))
        status, _, r = self.one("DELETE", f"/v1/sandboxes/{box}")
        self.assertEqual((status, r["what"], r["id"], r["outcome"]), (204, "kill", box, "ok"))
        status, _, r = self.one("DELETE", f"/sandboxes/{box}")
        self.assertEqual((status, r["outcome"]), (404, "refused"))
        status, ran, r = self.one("POST", "/v1/run", {"image": "host", "cmd": ["true"]})
        self.assertEqual((status, r["what"], r["id"], r["outcome"]), (200, "run", ran["id"], "ok"))
        status, _, r = self.one("POST", "/v1/run", {"image": "nowhere", "cmd": ["true"]})
        self.assertEqual((status, r["what"], r["outcome"]), (404, "run", "refused"))

    def test_what_only_looks_is_no_record(self):
        for path in "/sandboxes", "/v1/sandboxes", "/v1/version", "/metrics", "/templates":
            status, headers, _ = self.ask("GET", path)
            self.assertEqual(status, 200, path)
            self.assertEqual(self.of(headers["X-Request-Id"]), [], path)

    def test_the_operator_is_told_by_user_id(self):
        self.operator("POST", "/v1/tenants", {"name": "t1"})
        made = self.operator("POST", "/v1/keys", {"name": "audited", "tenant": "t1"})[1]
        self.assertEqual(self.operator("DELETE", f"/v1/keys/{made['id']}")[0], 204)
        mine = [r for r in self.records() if r.get("id") == made["id"]]
        self.assertEqual([r["what"] for r in mine], ["key.create", "key.revoke"])
        for r in mine:
            self.assertEqual((r["operator"], r["uid"], r["peer"]), (True, os.geteuid(), "unix"))
        self.assertNotIn(made["key"], "".join(map(json.dumps, self.records())))

    def test_what_is_done_at_the_servers_own_socket_is_in_it(self):
        before = len(self.records())
        done = self.brig.call("run", "--image", "host", "--", "echo", CANARY)
        self.assertEqual((done.code, done.text), (0, CANARY + "\n"))
        box = self.brig.call("create", "--image", "host").text.strip()
        self.brig.call("exec", box, "--", "true")
        self.brig.call("rm", "--force", box)
        self.brig.call("rm", "nobody-there")
        self.brig.call("ls")

        def noted():
            mine = [r for r in self.records()[before:] if r.get("peer") == "brigd"]
            return mine if len(mine) >= 5 else None
        mine = wait_until("they are recorded", noted)
        self.assertEqual([(r["what"], r["outcome"]) for r in mine],
                         [("run", "ok"), ("create", "ok"), ("exec", "ok"), ("rm", "ok"),
                          ("rm", "refused")])
        self.assertEqual([r.get("id") for r in mine[1:]], [box, box, box, None])
        self.assertTrue(mine[0]["id"])
        for r in mine:
            self.assertEqual((r["uid"], r["operator"]), (os.geteuid(), True))
        self.assertNotIn(CANARY, "".join(json.dumps(r) for r in mine))
        # What the HTTP side asks of brigd is its own record, once.
        before = len(self.records())
        self.run_(cmd=["true"])
        self.assertEqual([r["what"] for r in self.records()[before:] if r["what"] != "head"],
                         ["run"])

    def test_failed_logins_are_recorded_and_a_flood_is_counted(self):
        before = len([r for r in self.records() if r["what"] == "auth"])
        size = sum(f.stat().st_size for f in (self.data / "api" / "audit").iterdir())
        for _ in range(300):
            self.assertEqual(self.ask("GET", "/sandboxes", key="e2b_" + "0" * 64)[0], 401)
        auth = [r for r in self.records() if r["what"] == "auth"]
        self.assertGreater(len(auth), before)
        self.assertLess(len(auth) - before, 40)
        self.assertEqual((auth[-1]["outcome"], auth[-1]["status"], auth[-1]["peer"]),
                         ("refused", 401, "127.0.0.1"))
        self.assertNotIn("0" * 64 + '"', json.dumps([r.get("key") for r in auth]))
        now = sum(f.stat().st_size for f in (self.data / "api" / "audit").iterdir())
        self.assertLess(now - size, 64 * 1024)

    def test_no_payload_gets_into_it(self):
        box = self.create(envVars={"V": CANARY}, metadata={"note": CANARY})
        self.run_(cmd=["echo", CANARY], env={"X": CANARY}, stdin=CANARY,
                  files={f"/tmp/{CANARY}": CANARY})
        self.run_(language="bash", code=f"echo {CANARY}")
        detail = self.detail(box)
        plane = {"E2b-Sandbox-Id": box, "E2b-Sandbox-Port": "49983",
                 "X-Access-Token": detail.get("envdAccessToken") or ""}
        c = self.connection()
        c.request("POST", f"/files?path=/tmp/{CANARY}&username=root", CANARY.encode(),
                  {**plane, "Content-Type": "application/octet-stream"})
        r = c.getresponse()
        text = r.read()
        self.assertEqual(r.status, 200, text)
        found = self.of(r.getheader("X-Request-Id"))
        self.assertEqual([(f["what"], f["id"], f["tenant"]) for f in found],
                         [("file.write", box, "default")])
        c.request("GET", f"/files?path=/tmp/{CANARY}&username=root", headers=plane)
        r = c.getresponse()
        self.assertEqual(r.read(), CANARY.encode())
        self.assertEqual([f["what"] for f in self.of(r.getheader("X-Request-Id"))], ["file.read"])
        # A client's path and key must not be in it either.
        self.ask("DELETE", f"/sandboxes/{CANARY}x", key=CANARY)
        for f in (self.data / "api" / "audit").iterdir():
            text = f.read_text()
            for token in (detail.get("envdAccessToken") or "?", self.key):
                self.assertNotIn(token, text)
            # What a client names in the path of the control plane is an id, and is told as such.
            self.assertNotIn(CANARY, text.replace(f'"id":"{CANARY}x"', ""))

    def test_it_verifies_and_each_kind_of_change_is_named(self):
        self.create()
        wait_until("a head is written", lambda: self.records()[-1]["what"] == "head")
        self.assertIn("good:", self.audit("verify"))
        copy = pathlib.Path(brigtest.SCRATCH) / f"audit-copy-{os.getpid()}"
        shutil.copytree(self.data / "api", copy, ignore=lambda d, names: [
            n for n in names if n not in ("audit", "audit.pub") and not n.endswith(".jsonl")])
        self.addCleanup(shutil.rmtree, copy)
        pub = copy / "pub.pem"
        pub.write_text(self.audit("key"))
        self.assertIn("BEGIN PUBLIC KEY", pub.read_text())
        log = sorted((copy / "audit").glob("*.jsonl"))[0]
        text = log.read_bytes()
        lines = text.splitlines(keepends=True)
        self.assertGreater(len(lines), 3)
        # Anybody can check the chain with what every system has.
        h = subprocess.run(["sha256sum"], input=lines[1], capture_output=True).stdout.split()[0]
        self.assertEqual(json.loads(lines[2])["prev"], h.decode())
        for case, changed, why, line in (
                ("a value", text.replace(b'"key.create"', b'"key.delete"', 1), "hash", 2),
                ("a line less", b"".join(lines[:2] + lines[3:]), "gap", 3),
                ("a line twice", b"".join(lines[:2] + lines[1:]), "order", 3),
                ("no json", b"".join(lines[:1]) + b"hello\n" + b"".join(lines[1:]), "malformed", 2),
                ("a signature", re.sub(rb'"sig":"...', b'"sig":"AAA', text), "signature", None)):
            with self.subTest(case):
                log.write_bytes(changed)
                told = json.loads(self.audit("verify", str(copy), "--key", str(pub), "-o", "json",
                                             expect=1))
                self.assertFalse(told["good"])
                self.assertEqual(told["bad"]["why"], why, told)
                if line:
                    self.assertEqual(told["bad"]["line"], line, told)
        log.write_bytes(text + b'{"seq":')
        told = json.loads(self.audit("verify", str(log), "--key", str(pub), "-o", "json"))
        self.assertEqual((told["good"], told["torn_bytes"], told["signatures_checked"]),
                         (True, 7, True))
        log.write_bytes(text)
        other = copy / "other.pem"
        subprocess.run(f"openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out {other}",
                       shell=True, check=True, capture_output=True)
        told = json.loads(self.audit("verify", str(copy), "--key", str(other), "-o", "json",
                                     expect=1))
        self.assertEqual(told["bad"]["why"], "signature")
        self.assertEqual(self.audit("verify", str(copy / "nothing"), expect=125), "")
        self.assertIn("FIRST RECORD", self.audit("ls"))
        self.assertEqual(len(self.audit("tail", "-n", "2").splitlines()), 2)

    def test_it_goes_on_after_the_process_was_killed(self):
        before = self.records()
        api = [p for p in hoststate.brig_pids() if hoststate.comm_of(p) == "brig-api"
               and f"{self.port}" in self.server.text()]
        self.assertTrue(api)
        mine = [p for p in api if self.is_mine(p)]
        self.assertEqual(len(mine), 1)
        os.kill(mine[0], signal.SIGKILL)
        wait_until("it serves again", lambda: self.served())
        after = self.records()
        self.assertEqual(after[:len(before)], before)
        self.assertIn("server.start", [r["what"] for r in after[len(before):]])
        self.assertIn("good:", self.audit("verify"))

    def is_mine(self, pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return int(f.read().rpartition(")")[2].split()[1]) == self.server.process.pid
        except OSError:
            return False

    def served(self):
        try:
            return self.ask("GET", "/v1/version")[0] == 200
        except (OSError, http.client.HTTPException):
            return False


@unittest.skipUnless(os.geteuid() == 0, "a small disk is mounted for it")
class Full(test_api.Api):
    """The log's folder is a disk of its own, and full."""

    MODE = "refuse"

    @classmethod
    def setUpClass(cls):
        super(test_api.Api, cls).setUpClass()
        cls.folder = brigtest.SCRATCH / f"api-{os.getpid()}-{cls.__name__}"
        cls.disk = cls.folder / "data" / "api" / "audit"
        cls.folder.mkdir(mode=0o711)
        cls.disk.mkdir(parents=True, mode=0o755)
        for d in cls.folder / "data", cls.folder / "data" / "api":
            d.chmod(0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0777", "none", cls.disk],
                       check=True)
        cls.class_before = hoststate.snapshot()
        cls.class_brig = brigtest.Brig(data=cls.folder / "data")
        cls.server = brigtest.Server(cls.class_brig, "--http", "127.0.0.1:0", "--audit-on-full",
                                     cls.MODE)
        cls.port = int(cls.said(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        cls.key = cls.said(r"\n    (e2b_[0-9a-f]{64})\n")

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            subprocess.run(["umount", "-l", cls.disk])

    def fill(self):
        ballast = self.disk / "ballast"
        with open(ballast, "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        self.addCleanup(lambda: ballast.unlink(missing_ok=True))
        return ballast

    def test_full(self):
        self.run_(cmd=["true"])
        ballast = self.fill()
        # Refusals have a budget, so it is changes that fill it.
        for _ in range(6000):
            status, _, answer = self.ask("PUT", "/sandboxes/nobody/network", {})
            if status == 503:
                break
            made = self.operator("POST", "/v1/keys", {"name": "n"})
            if made[0] == 503:
                answer = made[1]
                break
            self.assertEqual(made[0], 201, made)
            self.operator("DELETE", f"/v1/keys/{made[1]['id']}")
        else:
            self.fail("the disk did not fill up")
        self.assertIn("audit log", answer["message"])
        self.assertIn("free space", answer["remediation"])
        self.assertTrue(answer["retryable"])
        for method, path, body in (("POST", "/v1/run", {"image": "host", "cmd": ["true"]}),
                                   ("POST", "/v2/sandboxes", {"templateID": "host"}),
                                   ("DELETE", "/sandboxes/x", None)):
            self.assertEqual(self.ask(method, path, body)[0], 503, path)
        # At the server's own socket, too, once what is between the processes is full.
        for _ in range(2000):
            done = self.brig.call("rm", "nobody-there")
            self.assertNotEqual(done.code, 0)
            if b"audit log" in done.err:
                break
        else:
            self.fail("brigd goes on")
        self.assertIn(b"free space", done.err)
        self.assertEqual(self.brig.call("ls").code, 0)
        self.assertEqual(self.ids(), [])
        # Who only looks is served.
        self.assertEqual(self.ask("GET", "/v1/sandboxes")[0], 200)
        self.assertEqual(self.ask("GET", "/healthz", key=False)[0], 200)
        self.assertIn("the audit log cannot be written", self.server.text())
        done = self.brig.call("audit", "verify")
        self.assertEqual(done.code, 0, done.text + done.err.decode())
        ballast.unlink()
        self.run_(cmd=["true"])
        done = self.brig.call("audit", "verify")
        self.assertEqual(done.code, 0, done.text + done.err.decode())


class FullGoingOn(Full):
    MODE = "continue"

    def test_full(self):
        ballast = self.fill()
        n = 0
        while "the audit log cannot be written" not in self.server.text():
            made = self.operator("POST", "/v1/keys", {"name": "n"})
            self.assertEqual(made[0], 201, made)
            self.operator("DELETE", f"/v1/keys/{made[1]['id']}")
            n += 1
            self.assertLess(n, 6000)
        # What was allocated ahead is used up first.
        for _ in range(20):
            made = self.operator("POST", "/v1/keys", {"name": "n"})
            self.assertEqual(made[0], 201, made)
            self.operator("DELETE", f"/v1/keys/{made[1]['id']}")
        ballast.unlink()
        self.run_(cmd=["true"])
        text = "".join(f.read_text() for f in sorted(self.disk.glob("*.jsonl")))
        lost = [json.loads(t) for t in text.splitlines() if '"audit.lost"' in t]
        self.assertEqual(len(lost), 1, text[-2000:])
        self.assertGreaterEqual(lost[0]["count"], 1)
        done = self.brig.call("audit", "verify")
        self.assertEqual(done.code, 0, done.text + done.err.decode())
