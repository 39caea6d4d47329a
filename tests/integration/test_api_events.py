# SPDX-License-Identifier: Apache-2.0
"""What operators and watchers see of the HTTP side: events of sandboxes, whether it is ready, its log
lines, and the document that describes it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess

import brigtest
import hoststate
from brigtest import wait_until
from test_api import Api

CURSOR = re.compile(r"[0-9a-f]{16}-(0|[1-9][0-9]*)")
SECRET = "x7s3cr3t"


class Stream:
    """Server-sent events, parsed as the standard says: (id, event, data)."""

    def __init__(self, case, path="/v1/events", **headers):
        self.c = case.connection()
        self.c.request("GET", path, headers={"X-API-Key": case.key, **headers})
        self.r = self.c.getresponse()
        case.assertEqual(self.r.status, 200)
        case.assertEqual(self.r.getheader("Content-Type"), "text/event-stream")
        self.last_id, self.seen = None, []

    def next(self):
        """The next event; None at the end of the stream."""
        event, data = "message", []
        while True:
            line = self.r.readline().decode()
            if not line:
                return None
            line = line.rstrip("\n")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "" and data:
                self.seen.append((self.last_id, event, json.loads("\n".join(data))))
                return self.seen[-1]
            if line == "":
                event, data = "message", []
            elif name == "id":
                self.last_id = value
            elif name == "event":
                event = value
            elif name == "data":
                data.append(value)

    def until(self, kind, box=None):
        """The next event of that type (and sandbox)."""
        while True:
            got = self.next()
            if got is None:
                raise AssertionError(f"the stream ended before {kind}; it had {self.seen}")
            if got[1] == kind and box in (None, got[2].get("sandbox")):
                return got[2]


class Events(Api):
    def test_a_life_is_told_in_order(self):
        s = Stream(self)
        self.assertEqual(s.next()[1], "open")
        made = self.ask("POST", "/v2/sandboxes", {
            "templateID": "host", "timeout": 100, "metadata": {"note": SECRET},
            "envVars": {"TOKEN": SECRET}}, X_Request_Id="the-create")
        self.assertEqual(made[0], 201, made[2])
        self.assertEqual(made[1]["X-Request-Id"], "the-create")
        box = made[2]["sandboxID"]
        e = s.until("sandbox.created", box)
        self.assertEqual((e["request_id"], e["tenant"]), ("the-create", "default"))
        self.assertEqual((e["details"]["template"], e["details"]["timeout_ms"]), ("host", 100000))
        s.until("sandbox.ready", box)
        self.e2b("POST", f"/sandboxes/{box}/timeout", {"timeout": 50}, 204, X_Request_Id="the-time")
        e = s.until("sandbox.timeout_changed", box)
        self.assertEqual((e["request_id"], e["details"]["timeout_ms"]), ("the-time", 50000))
        self.e2b("POST", f"/sandboxes/{box}/pause", {}, 204, X_Request_Id="the-pause")
        e = s.until("sandbox.paused", box)
        self.assertEqual((e["request_id"], e["details"]["by"]), ("the-pause", "request"))
        self.e2b("POST", f"/v2/sandboxes/{box}/connect", {}, 201, X_Request_Id="the-connect")
        e = s.until("sandbox.resumed", box)
        self.assertEqual((e["request_id"], e["details"]["by"]), ("the-connect", "request"))
        snap = self.e2b("POST", f"/sandboxes/{box}/snapshots", {"name": "n"}, 201)["snapshotID"]
        self.assertEqual(s.until("sandbox.snapshot", box)["details"], {"snapshot": snap, "name": "n"})
        self.e2b("DELETE", f"/templates/{snap}", expect=204)
        self.e2b("DELETE", f"/sandboxes/{box}", expect=204, X_Request_Id="the-end")
        e = s.until("sandbox.stopped", box)
        self.assertEqual((e["request_id"], e["details"]["reason"]), ("the-end", "deleted"))
        self.assertEqual(s.until("sandbox.removed", box)["request_id"], "the-end")
        ids = [i for i, _, _ in s.seen]
        for i in ids:
            self.assertRegex(i, CURSOR)
        numbers = [int(i.split("-")[1]) for i in ids]
        self.assertEqual(numbers, sorted(numbers))
        text = json.dumps(s.seen)
        for secret in (SECRET, made[2]["envdAccessToken"], self.key):
            self.assertNotIn(secret, text)
        # From any place in it, the rest and nothing else.
        middle = len(ids) // 2
        for again in (Stream(self, **{"Last-Event-ID": ids[middle]}),
                      Stream(self, f"/v1/events?cursor={ids[middle]}&sandbox={box}")):
            self.assertEqual(again.next()[1], "open")
            for want in s.seen[middle + 1:]:
                self.assertEqual(again.next(), want)

    def test_ends_have_a_reason_and_evidence(self):
        s = Stream(self)
        timed = self.create(timeout=1)
        e = s.until("sandbox.stopped", timed)
        self.assertEqual((e["details"]["reason"], e["request_id"]), ("timeout", None))
        self.assertEqual(e["details"]["evidence"]["timeout_ms"], 1000)
        paused = self.create(timeout=1, autoPause=True)
        e = s.until("sandbox.paused", paused)
        self.assertEqual((e["details"]["by"], e["request_id"]), ("timeout", None))
        # One that ends past us: noticed by the figures, and told.
        lost = self.create(timeout=100)
        self.assertOk(self.brig.call("rm", "-f", lost))
        e = s.until("sandbox.stopped", lost)
        self.assertIn(e["details"]["reason"], ("lost", "ended"))
        s.until("sandbox.removed", lost)

    def test_runs_are_told_without_what_they_ran(self):
        s = Stream(self)
        self.run_(cmd=["sh", "-c", f"cat; echo {SECRET}; exit 3"], stdin=SECRET, env={"A": SECRET},
                  files={f"/tmp/{SECRET}": SECRET}, headers={"X_Request_Id": "the-run"})
        started, done = s.until("run.started"), s.until("run.finished")
        self.assertEqual((started["request_id"], done["request_id"]), ("the-run", "the-run"))
        self.assertEqual(started["sandbox"], done["sandbox"])
        self.assertRegex(done["sandbox"], "^[a-z0-9]{16}$")
        self.assertEqual((done["details"]["exit_code"], done["details"]["stop_reason"]), (3, "exited"))
        self.assertIn("wall_ms", done["details"]["usage"])
        self.run_(cmd=["true"], image=f"no-{SECRET}", expect=404)
        e = s.until("run.finished")
        self.assertEqual((e["sandbox"], e["details"]["error"]["code"]), (None, "not_found"))
        self.run_(cmd=["sleep", "100"], limits={"timeout": "200ms"})
        self.assertEqual(s.until("run.finished")["details"]["stop_reason"], "wall_time")
        self.assertNotIn(SECRET, json.dumps(s.seen))

    def test_another_tenant_sees_nothing_of_it(self):
        key, self.key = self.key, self.other_key("stranger")
        s = Stream(self)
        mine, self.key = self.key, key
        box = self.create()
        status, _, made = self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, key=mine)
        self.assertEqual(status, 201)
        other = made["sandboxID"]
        s.until("sandbox.ready", other)
        self.assertNotIn(box, json.dumps(s.seen))
        self.assertEqual(self.ask("DELETE", f"/sandboxes/{other}", key=mine)[0], 204)

    def test_no_request_is_logged_unless_asked_for(self):
        self.ask("GET", "/v1/version", X_Request_Id="not-written")
        self.ask("GET", "/nothing", X_Request_Id="not-written")
        self.assertNotIn("not-written", self.server.text())

    def test_what_is_no_cursor_is_refused(self):
        for path, headers in (("?cursor=1", {}), ("", {"Last-Event-ID": "x"}), ("?sandbox=..", {})):
            status, _, answer = self.ask("GET", "/v1/events" + path, **headers)
            self.assertEqual((status, answer["code"]), (400, "invalid_argument"))
            self.assertTrue(answer["remediation"])
        self.assertEqual(self.ask("GET", "/v1/events", key=None)[0], 401)


class Ends(Api):
    """What tests of a server that is not ready need."""

    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def pid_of(self, name):
        for pid in hoststate.pids():
            parent = re.search(r"^PPid:\s+(\d+)", hoststate.read(f"/proc/{pid}/status"), re.M)
            if parent and int(parent.group(1)) == self.server.process.pid and \
                    hoststate.comm_of(pid) == name:
                return pid
        return None

    def ready(self, c=None):
        if c is None:
            return self.ask("GET", "/readyz", key=None)
        c.request("GET", "/readyz")
        r = c.getresponse()
        return r.status, r.headers, json.loads(r.read())

    def assertNotReady(self, got, what):
        status, headers, answer = got
        self.assertEqual((status, answer["code"], answer["details"]),
                         (503, "unavailable", {"not_ready": what}))
        self.assertEqual(answer["request_id"], headers["X-Request-Id"])
        self.assertIs(answer["retryable"], True)
        for name in ("message", "remediation"):
            self.assertTrue(answer[name])
        self.assertIn("cause", answer)

    def another_serves(self, pid):
        def healthy():
            try:
                return self.pid_of("brig-api") not in (None, pid) and \
                    self.ask("GET", "/healthz", key=None)[0] == 200
            except OSError:
                return False
        wait_until("another serves", healthy, 20)


class Life(Ends):
    """Ends of brig-api and of what is behind it."""

    def test_ready_and_not(self):
        status, _, answer = self.ready()
        self.assertEqual((status, answer), (200, {"ready": True, "checks": {"brigd": "ok",
                                                                            "database": "ok"}}))
        # brigd stands still: the server lives, and is not ready.
        brigd = self.pid_of("brigd")
        os.kill(brigd, signal.SIGSTOP)
        try:
            self.assertNotReady(self.ready(), "brigd")
        finally:
            os.kill(brigd, signal.SIGCONT)
        self.assertEqual(self.ready()[0], 200)

    def test_an_end_is_told_and_a_cursor_of_before_is_known(self):
        box = self.create(timeout=300)
        s = Stream(self, "/v1/events?cursor=oldest")
        s.until("sandbox.ready", box)
        kept = self.connection()
        self.assertEqual(self.ready(kept)[0], 200)
        # Something that keeps the process for its grace.
        busy = self.connection()
        busy.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": ["sleep", "30"]}),
                     {"X-API-Key": self.key})
        s.until("run.started")
        pid = self.pid_of("brig-api")
        os.kill(pid, signal.SIGTERM)
        last = s.seen[-1][0]
        while (got := s.next()) and got[1] != "closing":
            last = got[0]
        self.assertEqual(got[1], "closing")
        self.assertIsNone(s.next())
        self.assertNotReady(self.ready(kept), "shutdown")
        self.another_serves(pid)
        again = Stream(self, **{"Last-Event-ID": got[0]})
        gap = again.next()
        self.assertEqual((gap[1], gap[2]["lost_at_most"]), ("gap", None))
        self.assertNotEqual(gap[0].split("-")[0], last.split("-")[0])
        self.e2b("DELETE", f"/sandboxes/{box}", expect=204)
        again.until("sandbox.removed", box)
        # The id that the gap gave is one to go on from.
        self.assertEqual(Stream(self, **{"Last-Event-ID": gap[0]}).next()[1], "open")


class FullDisk(Ends):
    """The data folder of brig-api is a file system that can be filled."""

    @classmethod
    def prepare(cls):
        brigtest.need_root()
        disk = cls.folder / "data" / "api"
        disk.mkdir(parents=True, mode=0o700)
        disk.parent.chmod(0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "brig-test", disk],
                       check=True)
        cls.addClassCleanup(subprocess.run, ["umount", disk], check=True)

    def test_a_database_that_cannot_be_written_is_not_ready(self):
        pid, ballast = self.pid_of("brig-api"), self.folder / "data" / "api" / ".ballast"
        self.assertEqual(self.ready()[0], 200)
        with ballast.open("wb", buffering=0) as f:
            size = 1 << 16
            while size >= 1:
                try:
                    if f.write(bytes(size)) < size:
                        size >>= 1
                except OSError:
                    size >>= 1
        try:
            # An answer of the database counts for a second.
            wait_until("it is not ready", lambda: self.ready()[0] == 503)
            self.assertNotReady(self.ready(), "database")
            self.assertEqual(self.ask("GET", "/healthz", key=None)[0], 200)
        finally:
            ballast.unlink()
        wait_until("it is ready again", lambda: self.ready()[0] == 200)
        self.assertEqual(self.pid_of("brig-api"), pid)  # it did not die of it


class Log(Api):
    ARGS = ("--log-format", "json")

    def lines(self):
        found = []
        for line in self.server.text().splitlines():
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def line_of(self, request_id):
        return wait_until(f"a line of {request_id}", lambda: next(
            (x for x in self.lines() if x.get("request_id") == request_id), None),
            explain=lambda: self.server.text()[-3000:])

    def test_a_request_has_a_line(self):
        status, headers, made = self.ask("POST", "/v2/sandboxes", {"templateID": "host"},
                                         X_Request_Id="line-1")
        line = self.line_of("line-1")
        box = made["sandboxID"]
        self.assertEqual((line["method"], line["path"], line["status"], line["sandbox"]),
                         ("POST", "/v2/sandboxes", 201, box))
        self.assertEqual((line["client"], line["complete"], line["level"]),
                         ("127.0.0.1", True, "info"))
        self.assertEqual(line["bytes_in"], len('{"templateID": "host"}'))
        self.assertEqual(line["bytes_out"], int(headers["Content-Length"]))
        self.assertTrue(0 < line["ms"] < 60000)
        self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        ids = [k["id"] for k in self.operator("GET", "/v1/keys")[1]["keys"]]
        self.assertIn(line["key"], ids)
        # Ports of a sandbox, errors and streams, too.
        self.ask("GET", "/health", key=None, E2b_Sandbox_Id=box, E2b_Sandbox_Port="49983",
                 X_Request_Id="line-2")
        line = self.line_of("line-2")
        self.assertEqual((line["status"], line["sandbox"], line["key"]), (204, box, ""))
        _, headers, answer = self.ask("GET", "/nothing", X_Request_Id="no good")
        line = self.line_of(answer["request_id"])
        self.assertEqual((line["status"], headers["X-Request-Id"]), (404, answer["request_id"]))
        s = Stream(self, **{"X-Request-Id": "line-3"})
        s.next()
        s.r.close()
        s.c.close()
        line = self.line_of("line-3")
        self.assertEqual((line["status"], line["complete"]), (200, False))
        self.assertGreater(line["bytes_out"], 20)

    def test_no_secret_is_in_it(self):
        wrong = "e2b_" + "ab" * 32
        self.ask("GET", f"/files?path=x&signature=v1_{SECRET}&token={SECRET}", key=None,
                 X_Request_Id="sec-1")
        self.ask("GET", "/v1/version?key=" + SECRET, key=wrong, X_Request_Id="sec-2")
        self.ask("GET", "/v1/version", X_Request_Id="sec-3", Authorization="Bearer " + wrong)
        for i in range(1, 4):
            self.line_of(f"sec-{i}")
        text = self.server.text()
        after = text[text.index('"sec-1"'):]
        for secret in (SECRET, wrong, self.key):
            self.assertNotIn(secret, after)

    def test_hostile_requests_break_no_line(self):
        before = len(self.lines())
        for raw in (b"GET /a%0a%0d%1b[31m\"\\\xff HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\"b\r\n\r\n",
                    b"GET /" + b"\x01" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"G\"ET / HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"GET /x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
                    b"GET http://u:" + SECRET.encode() + b"@h/ HTTP/1.1\r\nHost: x\r\n\r\n"):
            s = socket.create_connection(("127.0.0.1", self.port), 20)
            s.sendall(raw)
            s.settimeout(20)
            try:
                s.recv(65536)
            except OSError:
                pass
            s.close()
        wait_until("lines", lambda: len(self.lines()) >= before + 3)
        for line in self.server.text().splitlines():
            self.assertTrue(line.isprintable(), line)
        for line in self.lines():  # each is whole, and parsed
            self.assertIn("level", line)
        self.assertNotIn(SECRET, self.server.text().split("sec-1")[0])

    def test_another_format_is_refused(self):
        self.assertCode(self.brig.call("serve", "--log-format", "xml"), 2)


class Document(Api):
    """What GET /openapi.json says is what the server does."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        c = http.client.HTTPConnection("127.0.0.1", cls.port, timeout=20)
        c.request("GET", "/openapi.json")
        cls.doc = json.loads(c.getresponse().read())
        c.close()

    def schema(self, name):
        return self.doc["components"]["schemas"][name]

    def check(self, value, schema, at="the answer"):
        """The part of JSON Schema that the document uses."""
        if "$ref" in schema:
            self.check(value, self.schema(schema["$ref"].rsplit("/", 1)[1]), at)
            return
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
                 "integer": int, "number": (int, float)}
        want = schema.get("type", list(kinds))
        want = [want] if isinstance(want, str) else want
        fits = [k for k in want if isinstance(value, kinds[k]) and
                (k == "boolean" or not isinstance(value, bool))]
        self.assertTrue(fits, f"{at}: {value!r} is no {want}")
        if "enum" in schema:
            self.assertIn(value, schema["enum"], at)
        if isinstance(value, str) and "pattern" in schema:
            self.assertRegex(value, schema["pattern"], at)
        if isinstance(value, dict):
            known = schema.get("properties", {})
            for name in schema.get("required", ()):
                self.assertIn(name, value, at)
            for name, v in value.items():
                if name in known:
                    self.check(v, known[name], f"{at}.{name}")
                elif known:
                    self.fail(f"{at}.{name} is not in the document")
                elif isinstance(schema.get("additionalProperties"), dict):
                    self.check(v, schema["additionalProperties"], f"{at}.{name}")
        if isinstance(value, list):
            for i, v in enumerate(value):
                self.check(v, schema.get("items", {}), f"{at}[{i}]")

    def answered(self, method, path, body=None, pattern=None, expect=None, **kw):
        """Asks, and checks the answer against the operation."""
        status, _, answer = self.ask(method, path, body, **kw)
        op = self.doc["paths"][pattern or path.split("?")[0]][method.lower()]
        if expect:
            self.assertEqual(status, expect, answer)
        said = op["responses"].get(str(status), op["responses"].get("default"))
        self.assertTrue(str(status) in op["responses"] or status >= 400, f"{method} {path}: {status}")
        for kind, media in said.get("content", {}).items():
            if kind == "application/json":
                self.check(answer, media["schema"], f"{method} {path}")
        return answer

    def test_answers_are_as_described(self):
        made = self.answered("POST", "/v2/sandboxes", {"templateID": "host", "timeout": 60}, expect=201)
        box, one = made["sandboxID"], "/sandboxes/{sandboxID}"
        for path in ("/v1/version", "/v1/pools", "/v1/sandboxes", "/v2/sandboxes", "/sandboxes",
                     "/templates", "/snapshots", "/teams", "/volumes", "/readyz", "/openapi.json",
                     f"/sandboxes/metrics?sandbox_ids={box}"):
            self.answered("GET", path, expect=200)
        self.answered("GET", f"/v1/sandboxes/{box}", pattern="/v1" + one, expect=200)
        for tail in ("", "/metrics", "/logs"):
            self.answered("GET", f"/sandboxes/{box}{tail}", pattern=one + tail, expect=200)
        for method, tail, body, status in (
                ("POST", "/timeout", {"timeout": 50}, 204), ("POST", "/refreshes", {}, 204),
                ("PUT", "/network", {"denyOut": ["192.0.2.1"]}, 204), ("POST", "/pause", {}, 204),
                ("POST", "/pause", {}, 409), ("POST", "/connect", {}, 201),
                ("POST", "/connect", {}, 200), ("POST", "/resume", {}, 409),
                ("POST", "/fork", {"count": 1}, 201), ("POST", "/timeout", {}, 400)):
            self.answered(method, f"/sandboxes/{box}{tail}", body, one + tail, status)
        snap = self.answered("POST", f"/sandboxes/{box}/snapshots", {}, one + "/snapshots", 201)
        self.answered("GET", "/snapshots", expect=200)
        self.answered("DELETE", f"/templates/{snap['snapshotID']}", pattern="/templates/{templateID}",
                      expect=204)
        self.answered("POST", "/v1/run", {"image": "host", "cmd": ["echo", "x"]}, expect=200)
        self.answered("POST", "/v1/run", {"image": "host", "cmd": ["printf", "\\377"],
                                          "output_files": ["/nothing"]}, expect=200)
        self.answered("POST", "/v1/run", {}, expect=400)
        self.answered("POST", "/v1/run", {"nonsense": 1}, expect=400)
        self.answered("GET", "/v1/sandboxes", key="wrong", expect=401)
        self.answered("GET", "/sandboxes", key=None, expect=401)
        self.answered("POST", "/v3/templates", {}, expect=501)
        self.answered("GET", "/v1/sandboxes/nothere", pattern="/v1" + one, expect=404)
        self.answered("GET", "/health", expect=502, E2b_Sandbox_Id="nothere", E2b_Sandbox_Port="49983")
        s = Stream(self, "/v1/events?cursor=oldest")
        s.until("run.finished")
        for _, kind, data in s.seen[1:]:
            self.check(data, self.schema("Event"), kind)
        self.answered("DELETE", f"/sandboxes/{box}", pattern=one, expect=204)

    def wrong(self, schema):
        """A value that the schema does not take."""
        if "$ref" in schema:
            schema = self.schema(schema["$ref"].rsplit("/", 1)[1])
        return 5 if schema.get("type") != "integer" else "x"

    def test_each_documented_field_is_read(self):
        """A field that the document has is one whose wrong type is refused, by its name."""
        for path, name, body in (("/v2/sandboxes", "CreateRequest", {"templateID": "host"}),
                                 ("/sandboxes", "CreateRequest", {"templateID": "host"})):
            for field, schema in self.schema(name)["properties"].items():
                answer = self.answered("POST", path, {**body, field: self.wrong(schema)})
                self.assertEqual(answer.get("code"), 400, (path, field, answer))
                self.assertIn(field, answer["message"])
        self.answered("POST", "/v2/sandboxes", {"templateID": "host", "volumeMounts": [{}]}, expect=400)
        self.answered("POST", "/v2/sandboxes", {"templateID": "host", "autoPause": True,
                                                "autoPauseMemory": False}, expect=501)
        for field, schema in self.schema("RunRequest")["properties"].items():
            answer = self.answered("POST", "/v1/run", {"image": "host", "cmd": ["true"],
                                                       field: self.wrong(schema)}, expect=400)
            self.assertNotIn("unknown", answer["message"])
            self.assertIn(field, answer["message"])

    def test_the_operators_routes_are_as_described(self):
        status, made = self.operator("POST", "/v1/keys", {"name": "doc"})
        self.assertEqual(status, 201)
        self.check(made, self.schema("NewKey"))
        self.check(self.operator("GET", "/v1/keys")[1], self.schema("KeyList"))
        self.assertEqual(self.operator("DELETE", f"/v1/keys/{made['id']}")[0], 204)
        status, refused = self.operator("DELETE", "/v1/keys/none")
        self.assertEqual(status, 404)
        self.check(refused, self.schema("Error"))
