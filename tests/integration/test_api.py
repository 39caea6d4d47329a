# SPDX-License-Identifier: Apache-2.0
"""The control plane over HTTP: E2B's routes as its clients use them, brig's own, and a restart of the
process that serves them."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.parse

import brigtest
import hoststate
from brigtest import Brig, Server, TestCase, wait_until


class Api(TestCase):
    """One server for the class; keys and sandboxes are removed with it."""

    ARGS = ()  # of `brig serve`, beside its address

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = brigtest.SCRATCH / f"api-{os.getpid()}-{cls.__name__}"
        cls.folder.mkdir(mode=0o711)
        cls.prepare()
        cls.class_before = hoststate.snapshot()
        cls.class_brig = Brig(data=cls.folder / "data")
        cls.server = Server(cls.class_brig, "--http", "127.0.0.1:0", *cls.ARGS)
        cls.port = int(cls.said(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        cls.key = cls.said(r"\n    (e2b_[0-9a-f]{64})\n")

    @classmethod
    def prepare(cls):
        """What must be there before the server is."""

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        left = hoststate.left(cls.class_before, brigtest.GONE_S)
        if left or code:
            raise AssertionError(f"the server ended with {code} and left:\n"
                                 f"{hoststate.explain(left)}\nlog:\n{cls.server.text()[-4000:]}")
        super().tearDownClass()

    @classmethod
    def said(cls, pattern):
        return wait_until(f"the server writes {pattern!r}",
                          lambda: re.search(pattern, cls.server.text()),
                          explain=cls.server.text).group(1)

    def setUp(self):
        self.brig = self.class_brig
        self.addCleanup(self.remove_all)
        # The server's own stock comes and goes: what is left is looked at when it has ended.
        self.tmp = self.folder

    def remove_all(self):
        for box in self.own("GET", "/sandboxes")["sandboxes"]:
            self.e2b("DELETE", f"/sandboxes/{box['id']}")

    # ---- requests ----

    def connection(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * brigtest.SLOW)
        self.addCleanup(c.close)
        return c

    def ask(self, method, path, body=None, key=True, **headers):
        """(status, headers, JSON or bytes or None)"""
        c = self.connection()
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        if key:
            headers["X-API-Key"] = self.key if key is True else key
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        c.request(method, path, data, headers)
        r = c.getresponse()
        text = r.read()
        kind = r.getheader("Content-Type") or ""
        answer = json.loads(text) if text and kind.startswith("application/json") else text or None
        return r.status, r.headers, answer

    def e2b(self, method, path, body=None, expect=None, **kw):
        status, _, answer = self.ask(method, path, body, **kw)
        if expect is not None:
            self.assertEqual(status, expect, answer)
        if status >= 400:
            # What E2B's clients look at, and what brig adds.
            self.assertEqual(answer["code"], status, answer)
            for name in ("message", "error_code", "request_id"):
                self.assertTrue(answer[name], answer)
        return answer if expect is not None else (status, answer)

    def own(self, method, path, body=None, expect=200, **kw):
        status, _, answer = self.ask(method, "/v1" + path, body, **kw)
        self.assertEqual(status, expect, answer)
        if status >= 400:
            self.assertIsInstance(answer["code"], str, answer)
            self.assertTrue(answer["message"] and answer["request_id"], answer)
        return answer

    def run_(self, expect=200, headers=None, **body):
        body.setdefault("image", "host")
        return self.own("POST", "/run", body, expect, **(headers or {}))

    def create(self, **body):
        body.setdefault("templateID", "host")
        return self.e2b("POST", "/v2/sandboxes", body, 201)["sandboxID"]

    def detail(self, box):
        return self.e2b("GET", f"/sandboxes/{box}", expect=200)

    def inside(self, box, command):
        done = self.brig.call("exec", box, "--", "sh", "-c", command)
        self.assertOk(done)
        return done.text

    def ids(self):
        return self.brig.call("ls", "-q").text.split()

    def other_key(self, tenant):
        self.operator("POST", "/v1/tenants", {"name": tenant})
        self.addCleanup(self.operator, "DELETE", f"/v1/tenants/{tenant}?force=true")
        made = self.operator("POST", "/v1/keys", {"name": "test", "tenant": tenant})[1]
        self.addCleanup(self.operator, "DELETE", f"/v1/keys/{made['id']}")
        return made["key"]

    def operator(self, method, path, body=None):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(str(self.brig.socket.parent / "api.sock"))
        c = http.client.HTTPConnection("brig")
        c.sock = s
        self.addCleanup(c.close)
        c.request(method, path, json.dumps(body) if body is not None else None)
        r = c.getresponse()
        data = r.read()
        return r.status, json.loads(data) if data else None


class Control(Api):
    # ---- who may ask ----

    def test_a_wrong_key_is_401_in_the_shape_of_the_route(self):
        for key in (None, "e2b_" + "0" * 64, ""):
            status, _, answer = self.ask("GET", "/v2/sandboxes", key=key)
            self.assertEqual((status, answer["code"]), (401, 401))
            status, _, answer = self.ask("GET", "/v1/sandboxes", key=key)
            self.assertEqual((status, answer["code"]), (401, "permission_denied"))
        status, _, _ = self.ask("GET", "/v1/sandboxes", key=None,
                                Authorization=f"Bearer {self.key}")
        self.assertEqual(status, 200)

    def test_keys_are_shown_once_and_can_be_revoked(self):
        status, made = self.operator("POST", "/v1/keys", {"name": "second"})
        self.assertEqual(status, 201)
        self.assertRegex(made["key"], r"^e2b_[0-9a-f]{64}$")
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=made["key"])[0], 200)
        status, listed = self.operator("GET", "/v1/keys")
        self.assertNotIn(made["key"], json.dumps(listed))
        self.assertIn(made["id"], [k["id"] for k in listed["keys"]])
        self.assertEqual(self.operator("DELETE", f"/v1/keys/{made['id']}")[0], 204)
        self.assertEqual(self.operator("DELETE", f"/v1/keys/{made['id']}")[0], 404)
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=made["key"])[0], 401)
        self.own("GET", "/tenants", expect=403)

    def test_a_tenant_sees_its_own_only(self):
        box = self.create()
        key = self.other_key("other")
        self.assertEqual(self.ask("GET", "/v2/sandboxes", key=key)[2], [])
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"),
                             ("POST", "/timeout"), ("POST", "/snapshots"), ("POST", "/fork")):
            status, _, answer = self.ask(method, f"/sandboxes/{box}{path}", {"timeout": 1}, key=key)
            self.assertEqual(status, 404, answer)
        self.assertEqual(self.detail(box)["state"], "running")
        self.assertIn(box, [b["id"] for b in self.operator("GET", "/v1/sandboxes")[1]["sandboxes"]])

    def test_unknown_routes_are_errors_in_shape(self):
        self.e2b("GET", "/nothing", expect=404)
        self.e2b("PATCH", "/v2/sandboxes", expect=405)
        self.own("GET", "/nothing", expect=404)
        for method, path in (("POST", "/v3/templates"), ("GET", "/templates/x/builds/y/status")):
            answer = self.e2b(method, path, {} if method == "POST" else None, expect=501)
            self.assertIn("not part of this version", answer["message"])
        self.assertIn("/v1/secrets", self.e2b("GET", "/secrets", expect=501)["message"])

    # ---- create, get, delete ----

    def test_create_answers_what_the_clients_need(self):
        for path, timeout in (("/v2/sandboxes", 300), ("/sandboxes", 15)):
            status, headers, made = self.ask("POST", path, {"templateID": "host"})
            self.assertEqual(status, 201, made)
            self.assertEqual(headers["X-Brig-Image"], "host")
            self.assertRegex(made["sandboxID"], r"^[a-z0-9]+$")
            self.assertEqual((made["templateID"], made["alias"]), ("host", "host"))
            self.assertTrue(made["clientID"] and made["envdAccessToken"])
            self.assertRegex(made["envdVersion"], r"^0\.\d+\.\d+$")
            self.assertIsNone(made["trafficAccessToken"])
            detail = self.detail(made["sandboxID"])
            self.assertEqual(detail["state"], "running")
            self.assertEqual(detail["envdAccessToken"], made["envdAccessToken"])
            self.assertAlmostEqual(seconds(detail["endAt"]) - seconds(detail["startedAt"]), timeout,
                                   delta=0.01)
            self.assertEqual(detail["lifecycle"], {"autoResume": False, "onTimeout": "kill"})
            self.assertEqual((detail["cpuCount"], detail["memoryMB"]), (1, 512))

    def test_wishes_of_a_create_are_kept(self):
        box = self.create(metadata={"a": "b c&=", "brig.limits.memory": "64m"},
                          envVars={"FOO": "bar"}, limits={"pids": 50, "cpus": 0.5},
                          network={"allowOut": ["1.1.1.1"], "allowPublicTraffic": False},
                          allow_internet_access=False, autoPause=True, autoResume={"enabled": True})
        detail = self.detail(box)
        self.assertEqual(detail["metadata"]["a"], "b c&=")
        self.assertEqual(detail["memoryMB"], 64)
        self.assertEqual(detail["allowInternetAccess"], False)
        self.assertEqual(detail["lifecycle"], {"autoResume": True, "onTimeout": "pause"})
        self.assertEqual(detail["network"]["allowOut"], ["1.1.1.1"])
        self.assertEqual(self.inside(box, "echo $FOO $E2B_SANDBOX $E2B_TEMPLATE_ID"), "bar true host\n")
        limits = self.brig.json("inspect", box)[0]["limits"]
        self.assertEqual((limits["pids"], limits["cpu_milli"]), (50, 500))

    def test_a_private_port_gets_a_token(self):
        made = self.e2b("POST", "/v2/sandboxes", {"templateID": "host", "network":
                                                  {"allowPublicTraffic": False}}, 201)
        self.assertTrue(made["trafficAccessToken"])
        route = {"E2b_Sandbox_Id": made["sandboxID"], "E2b_Sandbox_Port": "8000"}
        for token, want in ((None, 403), ("wrong", 403), (made["trafficAccessToken"], 502)):
            more = {"E2B_Traffic_Access_Token": token} if token else {}
            status, _, answer = self.ask("GET", "/", key=None, **route, **more)
            self.assertEqual(status, want, answer)
            self.assertEqual(answer["sandboxId"], made["sandboxID"])

    def test_what_cannot_be_had_is_refused(self):
        for body, status, words in (
                ({"templateID": "no-such"}, 404, "template 'no-such' not found"),
                ({"templateID": "host:v9"}, 404, "template 'host:v9' not found"),
                ({}, 400, "templateID"),
                ({"templateID": "host", "timeout": 0}, 400, "timeout"),
                ({"templateID": "host", "timeout": "1"}, 400, "timeout"),
                ({"templateID": "host", "metadata": {"a": 1}}, 400, "metadata"),
                ({"templateID": "host", "metadata": {"brig.x": "1"}}, 400, "brig.x"),
                ({"templateID": "host", "envVars": {"A": 1}}, 400, "'A'"),
                ({"templateID": "host", "limits": {"memory": "1t"}}, 400, "memory"),
                ({"templateID": "host", "volumeMounts": [{"name": "v", "path": "/v"}]}, 404,
                 "v"),
                ({"templateID": "host", "network": {"denyOut": ["x"]}}, 400, "denyOut")):
            got, answer = self.e2b("POST", "/v2/sandboxes", body)
            self.assertEqual(got, status, answer)
            self.assertIn(words, answer["message"])
        self.assertEqual(self.ask("POST", "/v2/sandboxes", b"{")[0], 400)
        self.assertEqual(self.ask("POST", "/v2/sandboxes", b"[]")[0], 400)
        wait_until("nothing was made", lambda: self.ids() == [])

    def test_delete_removes_it_and_then_knows_it_no_more(self):
        box = self.create()
        self.assertIn(box, self.ids())
        self.e2b("DELETE", f"/sandboxes/{box}", expect=204)
        # It was answered when nothing was left.
        self.assertNotIn(box, self.ids())
        for method, path in (("DELETE", ""), ("GET", ""), ("POST", "/connect"), ("POST", "/pause")):
            self.e2b(method, f"/sandboxes/{box}{path}", {} if method == "POST" else None, 404)
        status, _, answer = self.ask("GET", "/health", key=None, E2b_Sandbox_Id=box,
                                     E2b_Sandbox_Port="49983")
        self.assertEqual((status, answer["code"], answer["sandboxId"]), (502, 502, box))

    def test_a_client_that_goes_away_leaves_no_sandbox(self):
        before = self.ids()
        for _ in range(5):
            c = self.connection()
            c.request("POST", "/v2/sandboxes", json.dumps({"templateID": "host"}),
                      {"X-API-Key": self.key})
            c.close()
        # Either the answer was on its way, and the sandbox ends by its time, or it is gone.
        wait_until("what nobody was told of is gone",
                   lambda: set(self.ids()) - set(before)
                   == {b["id"] for b in self.own("GET", "/sandboxes")["sandboxes"]})

    # ---- time ----

    def test_its_time_ends_it(self):
        box = self.create(timeout=1)
        wait_until("it has ended", lambda: self.e2b("GET", f"/sandboxes/{box}")[0] == 404, 5)
        wait_until("nothing is left", lambda: box not in self.ids(), 3)

    def test_timeout_counts_from_now_and_connect_only_extends(self):
        box = self.create(timeout=100)
        self.e2b("POST", f"/sandboxes/{box}/timeout", {"timeout": 50}, 204)
        self.assertAlmostEqual(seconds(self.detail(box)["endAt"]), time.time() + 50, delta=5)
        self.e2b("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 10}, 200)
        self.e2b("POST", f"/sandboxes/{box}/refreshes", {"duration": 10}, 204)
        self.assertAlmostEqual(seconds(self.detail(box)["endAt"]), time.time() + 50, delta=5)
        self.e2b("POST", f"/v2/sandboxes/{box}/connect", {}, 200)
        self.assertAlmostEqual(seconds(self.detail(box)["endAt"]), time.time() + 300, delta=5)
        self.e2b("POST", f"/sandboxes/{box}/timeout", {}, 400)
        self.e2b("POST", f"/sandboxes/{box}/timeout", {"timeout": 0}, 204)
        wait_until("it has ended", lambda: self.e2b("GET", f"/sandboxes/{box}")[0] == 404, 3)

    def test_pause_and_connect(self):
        box = self.create()
        token = self.detail(box)["envdAccessToken"]
        self.inside(box, "echo kept >/tmp/f; sleep 1000 >/dev/null 2>&1 & echo $! >/tmp/pid")
        self.e2b("POST", f"/sandboxes/{box}/pause", {}, 204)
        self.e2b("POST", f"/sandboxes/{box}/pause", {}, 409)
        self.assertEqual(self.detail(box)["state"], "paused")
        for state, n in (("paused", 1), ("running", 0), ("running,paused", 1)):
            got = self.e2b("GET", f"/v2/sandboxes?state={state}", expect=200)
            self.assertEqual(len(got), n, state)
        self.assertEqual(self.e2b("GET", "/sandboxes", expect=200), [])
        made = self.e2b("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 60}, 201)
        self.assertEqual((made["sandboxID"], made["envdAccessToken"]), (box, token))
        self.assertEqual(self.inside(box, "cat /tmp/f; kill -0 $(cat /tmp/pid) && echo alive"),
                         "kept\nalive\n")
        self.e2b("POST", f"/sandboxes/{box}/resume", {}, 409)
        self.e2b("POST", f"/sandboxes/{box}/pause", {}, 204)
        self.e2b("DELETE", f"/sandboxes/{box}", expect=204)

    def test_a_pause_past_the_api_is_believed(self):
        box = self.create()
        self.assertOk(self.brig.call("pause", box))
        self.e2b("POST", f"/sandboxes/{box}/pause", {}, 204)
        self.assertOk(self.brig.call("unpause", box))
        self.e2b("POST", f"/sandboxes/{box}/connect", {}, 201)
        self.assertEqual(self.inside(box, "echo x"), "x\n")

    def test_pause_at_the_end_of_its_time(self):
        box = self.create(timeout=1, autoPause=True)
        wait_until("it is paused", lambda: self.detail(box)["state"] == "paused", 5)
        self.e2b("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 60}, 201)
        self.assertEqual(self.detail(box)["state"], "running")

    def test_a_sandbox_that_dies_by_itself_is_noticed(self):
        box = self.create()
        self.assertOk(self.brig.call("rm", "-f", box))
        wait_until("it is known no more", lambda: self.e2b("GET", f"/sandboxes/{box}")[0] == 404)

    # ---- lists ----

    def test_pages_and_filters(self):
        boxes = [self.create(metadata={"n": str(i % 2), "k e": "v&=\u00e9"}) for i in range(5)]
        seen, token, pages = [], "", 0
        while True:
            status, headers, page = self.ask(
                "GET", "/v2/sandboxes?limit=2" + (f"&nextToken={token}" if token else ""))
            self.assertEqual(status, 200, page)
            self.assertEqual(headers["X-Total-Running"], "5")
            seen += [b["sandboxID"] for b in page]
            pages += 1
            token = headers.get("X-Next-Token")
            if not token:
                break
        self.assertEqual((seen, pages), (boxes[::-1], 3))
        got = self.e2b("GET", "/v2/sandboxes?order=asc", expect=200)
        self.assertEqual([b["sandboxID"] for b in got], boxes)
        # As the clients encode it: key and value, then a form, then the query.
        form = urllib.parse.urlencode([(urllib.parse.quote(k), urllib.parse.quote(v))
                                       for k, v in (("k e", "v&=\u00e9"), ("n", "1"))])
        query = urllib.parse.quote(form, safe="")
        for path in ("/v2/sandboxes", "/sandboxes"):
            got = self.e2b("GET", f"{path}?metadata={query}", expect=200)
            self.assertEqual({b["sandboxID"] for b in got}, {boxes[1], boxes[3]})
        self.assertEqual(self.e2b("GET", "/v2/sandboxes?template=other", expect=200), [])
        for bad in ("limit=0", "limit=101", "state=dead", "order=up", "nextToken=x",
                    "startedAfter=now", "metadata=%25zz"):
            self.e2b("GET", f"/v2/sandboxes?{bad}", expect=400)

    def test_metrics(self):
        box = self.create()
        got = wait_until("there is a sample", lambda: self.e2b(
            "GET", f"/sandboxes/{box}/metrics", expect=200))
        self.assertEqual(got[0]["cpuCount"], 1)
        self.assertGreater(got[0]["memUsed"], 0)
        self.assertEqual(got[0]["memTotal"], 512 << 20)
        start = got[0]["timestampUnix"]
        self.assertEqual(self.e2b("GET", f"/sandboxes/{box}/metrics?end={start - 1}", expect=200), [])
        self.assertTrue(self.e2b("GET", f"/sandboxes/{box}/metrics?start={start}", expect=200))
        # The writable layer is memory, and cache for the kernel.
        self.assertOk(self.brig.call("exec", box, "--", "dd", "if=/dev/zero", "of=/tmp/x", "bs=1M",
                                     "count=20"))
        many = 20 << 20
        last = wait_until("the disk is seen to be used", lambda: [
            m for m in self.e2b("GET", f"/sandboxes/{box}/metrics", expect=200)
            if m["diskUsed"] >= many])[-1]
        self.assertLess(last["diskUsed"], many + (4 << 20))
        self.assertGreaterEqual(last["memCache"], many)
        self.assertGreaterEqual(last["memUsed"], last["memCache"])
        self.assertGreater(last["diskTotal"], last["diskUsed"])
        row = self.brig.json("stats", "--no-stream", box)[0]
        self.assertGreaterEqual(row["disk_used_bytes"], many)
        many = self.e2b("GET", f"/sandboxes/metrics?sandbox_ids={box},nobody", expect=200)
        self.assertEqual(list(many["sandboxes"]), [box])
        self.assertEqual(self.e2b("GET", f"/sandboxes/{box}/logs", expect=200),
                         {"logs": [], "logEntries": []})

    def test_network(self):
        box = self.create(allow_internet_access=True)
        self.e2b("PUT", f"/sandboxes/{box}/network", {"denyOut": ["0.0.0.0/0"],
                                                      "allow_internet_access": False}, 204)
        detail = self.detail(box)
        self.assertEqual((detail["network"], detail["allowInternetAccess"]),
                         ({"denyOut": ["0.0.0.0/0"]}, False))
        self.e2b("PUT", f"/sandboxes/{box}/network", {"allowOut": [7]}, 400)
        self.e2b("PUT", f"/sandboxes/{box}/network", {}, 204)
        detail = self.detail(box)
        self.assertEqual((detail["network"], detail["allowInternetAccess"]), ({}, None))

    # ---- snapshots, forks, templates ----

    def test_a_snapshot_has_the_files(self):
        box = self.create(envVars={"A": "1"}, limits={"memory": "128m"})
        self.inside(box, "mkdir d; echo one >d/f; ln -s f d/l; chmod 600 d/f; rm -f /home/user/.bashrc")
        made = self.e2b("POST", f"/sandboxes/{box}/snapshots", {"name": "first"}, 201)
        self.assertEqual(made["names"], ["first"])
        self.inside(box, "echo two >d/f")
        copy = self.create(templateID=made["snapshotID"])
        self.assertEqual(self.inside(copy, "cat d/l; stat -c '%a %U' d/f; echo $A"),
                         "one\n600 user\n1\n")
        self.assertEqual(self.detail(copy)["memoryMB"], 128)
        self.assertEqual(self.inside(self.create(templateID="first"), "cat d/f"), "one\n")
        # It outlives the sandbox it was made of.
        self.e2b("DELETE", f"/sandboxes/{box}", expect=204)
        listed = self.e2b("GET", f"/snapshots?sandboxID={box}", expect=200)
        self.assertEqual([s["snapshotID"] for s in listed], [made["snapshotID"]])
        key = self.other_key("other")
        self.assertEqual(self.ask("GET", "/snapshots", key=key)[2], [])
        self.assertEqual(self.ask("POST", "/v2/sandboxes", {"templateID": made["snapshotID"]},
                                  key=key)[0], 404)
        path = f"/templates/{made['snapshotID']}%3Adefault"
        self.assertEqual(self.ask("DELETE", path, key=key)[0], 404)
        self.e2b("DELETE", path, expect=204)
        self.e2b("DELETE", path, expect=404)
        self.e2b("POST", "/v2/sandboxes", {"templateID": made["snapshotID"]}, 404)
        self.assertEqual(list((self.folder / "data" / "api" / "snapshots").iterdir()), [])

    def test_forks_have_the_files_and_go_their_own_way(self):
        box = self.create(metadata={"m": "1"})
        self.inside(box, "echo one >f")
        forks = self.e2b("POST", f"/sandboxes/{box}/fork", {"count": 3, "timeout": 60}, 201)
        ids = [f["sandbox"]["sandboxID"] for f in forks]
        self.assertEqual(len(set(ids + [box])), 4)
        self.assertEqual(len({f["sandbox"]["envdAccessToken"] for f in forks}), 3)
        for i, fork in enumerate(ids):
            self.assertEqual(self.inside(fork, f"cat f; echo {i} >f"), "one\n")
            self.assertEqual(self.detail(fork)["metadata"], {"m": "1"})
        self.assertEqual([self.inside(fork, "cat f") for fork in ids], ["0\n", "1\n", "2\n"])
        self.e2b("POST", f"/sandboxes/{box}/fork", {"count": 0}, 400)
        self.e2b("POST", f"/sandboxes/{box}/pause", {}, 204)
        self.e2b("POST", f"/sandboxes/{box}/fork", {}, 409)

    def test_templates_are_the_images(self):
        got = self.e2b("GET", "/templates", expect=200)
        self.assertIn("host", [t["templateID"] for t in got])
        self.assertEqual(self.e2b("GET", "/templates/aliases/host", expect=200)["templateID"], "host")
        self.e2b("GET", "/templates/aliases/no-such", expect=404)
        self.e2b("GET", "/templates/no-such/tags", expect=404)
        self.e2b("DELETE", "/templates/tags", {"name": "host", "tags": ["v1"]}, 404)
        self.assertEqual(self.e2b("GET", "/teams", expect=200)[0]["isDefault"], True)


class Run(Api):
    def test_one_request_one_result(self):
        got = self.run_(cmd=["sh", "-c", "echo out; echo err >&2; exit 3"])
        self.assertEqual((got["stdout"], got["stderr"], got["exit_code"]), ("out\n", "err\n", 3))
        self.assertEqual((got["stop_reason"], got["evidence"]), ("exited", {"exit_code": 3}))
        self.assertEqual((got["tier"], got["truncated"], got["limits_hit"]), ("container", False, []))
        self.assertRegex(got["id"], r"^[a-z0-9]{16}$")
        self.assertGreater(got["usage"]["wall_ms"], 0)
        wait_until("nothing is left", lambda: self.ids() == [])

    def test_languages(self):
        for language, code, out in (("python", "print(6 * 7)", "42\n"), ("bash", "echo $((6*7))",
                                                                         "42\n")):
            self.assertEqual(self.run_(language=language, code=code)["stdout"], out)
        long = "#" + "x" * 100000 + "\nprint('long')"
        self.assertEqual(self.run_(language="python", code=long)["stdout"], "long\n")
        got = self.run_(400, language="cobol", code="x")
        self.assertIn("'cobol'", got["message"])
        got = self.run_(language="c", code='#include <stdio.h>\nint main(void){puts("c");return 4;}') \
            if self.brig.call("run", "--image", "host", "--", "cc", "--version").code == 0 else None
        if got:
            self.assertEqual((got["stdout"], got["exit_code"]), ("c\n", 4))
        else:
            self.assertIn("compiler", self.run_(400, language="c", code="int main;")["message"])

    def test_files_in_and_out(self):
        got = self.run_(cmd=["sh", "-c", "cat in; wc -c <bin; printf '\\377' >raw; echo t >sub/text"],
                        files={"in": "hello\n", "bin": {"base64": "AAEC"}, "sub/x": ""},
                        output_files=["raw", "sub/text", "missing"])
        self.assertEqual(got["stdout"].split(), ["hello", "3"])
        self.assertEqual(got["files"]["raw"], {"base64": "/w=="})
        self.assertEqual(got["files"]["sub/text"], "t\n")
        self.assertEqual(got["files"]["missing"]["error"]["code"], "not_found")
        wait_until("nothing is left", lambda: self.ids() == [])
        got = self.run_(cmd=["cat", "f"], workdir="/tmp", files={"f": "in tmp"})
        self.assertEqual(got["stdout"], "in tmp")
        got = self.run_(400, cmd=["true"], user="nobody-here", files={"f": "x"})
        self.assertRegex(got["remediation"], "user 'nobody-here'")
        wait_until("nothing is left", lambda: self.ids() == [])

    def test_input_environment_user_and_binary_output(self):
        got = self.run_(cmd=["sh", "-c", "cat; echo $A; id -u"], stdin="in\n", env={"A": "b"},
                        user="root")
        self.assertEqual(got["stdout"], "in\nb\n0\n")
        got = self.run_(cmd=["cat"], stdin={"base64": "AAH/"})
        self.assertNotIn("stdout", got)
        self.assertEqual(base64.b64decode(got["stdout_base64"]), b"\0\1\xff")
        big = "x" * 3000000
        self.assertEqual(self.run_(cmd=["wc", "-c"], stdin=big)["stdout"].strip(), str(len(big)))

    def test_limits_stop_it_and_say_so(self):
        got = self.run_(cmd=["sleep", "60"], limits={"timeout": "200ms"})
        self.assertEqual((got["stop_reason"], got["exit_code"]), ("wall_time", 124))
        self.assertEqual(got["evidence"]["limit_ms"], 200)
        got = self.run_(cmd=["sleep", "60"], limits={"timeout_ms": 200}, files={"f": ""})
        self.assertEqual(got["stop_reason"], "wall_time")
        got = self.run_(cmd=["sh", "-c", "yes"], limits={"max-output": "1k"})
        self.assertEqual((got["stop_reason"], len(got["stdout"])), ("output", 1024))
        got = self.run_(cmd=["sh", "-c", "head -c 6000000 /dev/zero | tr '\\0' x"])
        self.assertTrue(got["truncated"])
        self.assertEqual((len(got["stdout"]), got["exit_code"]), (4 << 20, 0))

    def test_a_tier_that_is_not_here_is_refused_and_one_that_is_serves(self):
        for tier, works in brigtest.tiers(self.brig).items():
            with self.subTest(tier):
                status = 200 if works else 422
                got = self.run_(status, cmd=["true"], tier=tier, image="host")
                created = self.e2b("POST", "/v2/sandboxes", {"templateID": "host",
                                                             "metadata": {"brig.tier": tier}})
                if works:
                    self.assertEqual(got["tier"], tier)
                    self.assertEqual(created[0], 201, created)
                    box = created[1]["sandboxID"]
                    self.assertEqual(self.brig.json("inspect", box)[0]["tier"], tier)
                    self.e2b("DELETE", "/sandboxes/" + box)
                else:
                    self.assertRegex(got["message"], "no weaker tier")
                    self.assertEqual(created[0], 422, created)
                    self.assertRegex(created[1]["message"], "no weaker tier")

    def test_mistakes_are_told(self):
        for body, status, words in (
                ({"cmd": ["x"], "code": "y"}, 400, "cmd"), ({}, 400, "cmd"),
                ({"cmd": ["true"], "colour": 1}, 400, "colour"),
                ({"cmd": ["true"], "network": "full"}, 400, "network"),
                ({"cmd": ["true"], "limits": {"ram": 1}}, 400, "ram"),
                ({"cmd": ["true"], "image": "no-such"}, 404, "no-such|no image store"),
                ({"cmd": ["true"], "files": {"f": 1}}, 400, "'f'"),
                ({"cmd": ["true"], "workdir": "/no/such"}, 404, "directory")):
            got = self.run_(status, **body)
            self.assertRegex(got["message"], words)
        got = self.run_(cmd=["no-such-program"])
        self.assertEqual((got["exit_code"], got["error"]["code"]), (127, "not_found"))

    def events(self, **body):
        c = self.connection()
        body.setdefault("image", "host")
        c.request("POST", "/v1/run", json.dumps(body),
                  {"X-API-Key": self.key, "Accept": "application/x-ndjson"})
        r = c.getresponse()
        self.assertEqual((r.status, r.getheader("Content-Type")), (200, "application/x-ndjson"))
        return (json.loads(line) for line in r)

    def test_events_come_as_they_happen(self):
        events = self.events(cmd=["sh", "-c", "echo one; read x; echo two >&2; exit 5"], stdin="\n")
        got = list(events)
        self.assertEqual([e["type"] for e in got], ["start", "stdout", "stderr", "exit"])
        self.assertEqual((got[1]["data"], got[2]["data"]), ("one\n", "two\n"))
        self.assertEqual((got[3]["exit_code"], got[3]["id"]), (5, got[0]["id"]))
        # The first is there before the command can end.
        events = self.events(cmd=["sh", "-c", "echo first; exec sleep 1000"])
        self.assertEqual(next(events)["type"], "start")
        self.assertEqual(next(events)["data"], "first\n")

    def test_events_of_much_output_are_complete(self):
        n = 12 << 20
        total = sum(len(e.get("data", "")) for e in self.events(
            cmd=["sh", "-c", f"head -c {n} /dev/zero | tr '\\0' x"]))
        self.assertEqual(total, n)

    def test_a_client_that_goes_away_ends_it(self):
        for accept in ("application/json", "application/x-ndjson"):
            for files in ({}, {"f": "x"}):
                c = self.connection()
                c.request("POST", "/v1/run", json.dumps(
                    {"image": "host", "cmd": ["sleep", "1000"], "files": files}),
                    {"X-API-Key": self.key, "Accept": accept})
                wait_until("it runs", lambda: any(b["cmd"] or files for b in self.brig.json("ls")))
                c.close()
                wait_until("it is gone", lambda: self.ids() == [])

    def test_an_idempotency_key_runs_once(self):
        body = {"cmd": ["sh", "-c", "sleep 0.5; cat /proc/sys/kernel/random/uuid"]}
        headers = {"Idempotency_Key": "key-1"}
        got = []
        threads = [threading.Thread(target=lambda: got.append(self.run_(headers=headers, **body)))
                   for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(got), 3)
        self.assertEqual(got[0], got[1])
        self.assertEqual(got[0], got[2])
        self.assertEqual(self.run_(headers=headers, **body), got[0])
        self.assertNotEqual(self.run_(headers={"Idempotency_Key": "key-2"}, **body), got[0])
        self.run_(422, headers=headers, cmd=["true"])
        self.run_(400, headers={"Idempotency_Key": "a b"}, cmd=["true"])
        # Another tenant's key of the same name is another key.
        key = self.other_key("other")
        status, _, other = self.ask("POST", "/v1/run", {"image": "host", **body}, key=key,
                                    Idempotency_Key="key-1")
        self.assertEqual(status, 200)
        self.assertNotEqual(other["stdout"], got[0]["stdout"])

    def test_an_idempotency_key_outlives_its_client(self):
        body = {"image": "host", "cmd": ["sh", "-c", "sleep 0.3; echo late"]}
        c = self.connection()
        c.request("POST", "/v1/run", json.dumps(body),
                  {"X-API-Key": self.key, "Idempotency-Key": "gone"})
        wait_until("it runs", lambda: self.ids())
        c.close()
        status, headers, got = self.ask("POST", "/v1/run", body, Idempotency_Key="gone")
        self.assertEqual((status, headers["Idempotent-Replayed"]), (200, "true"))
        self.assertEqual(got["stdout"], "late\n")

    def test_what_there_is(self):
        self.assertEqual(self.own("GET", "/version")["api"], "v1")
        self.assertEqual(self.own("GET", "/pools")["pools"], [])
        status, _, text = self.ask("GET", "/healthz", key=None)
        self.assertEqual((status, text), (200, b"ok\n"))
        self.run_(cmd=["true"])
        status, _, text = self.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertRegex(text.decode(), r'(?m)^brig_runs_total\{result="ok"\} [1-9]')
        self.assertRegex(text.decode(), r'(?m)^brig_http_requests_total\{status="2xx"\} [1-9]')
        box = self.create()
        self.assertEqual(self.own("GET", f"/sandboxes/{box}")["id"], box)
        self.own("DELETE", f"/sandboxes/{box}", expect=204)
        self.own("GET", f"/sandboxes/{box}", expect=404)


class Restart(Api):
    """brig-api dies; brigd and its sandboxes live on."""

    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def api_pid(self):
        return next((p for p in hoststate.pids()
                     if hoststate.is_ours(p) and hoststate.comm_of(p) == "brig-api"), None)

    def kill_api(self):
        pid = self.api_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until("another serves", lambda: self.api_pid() not in (None, pid) and self.healthy(), 20)

    def healthy(self):
        try:
            return self.ask("GET", "/healthz", key=None)[0] == 200
        except OSError:
            return False

    def test_sandboxes_are_taken_over(self):
        made = self.e2b("POST", "/v2/sandboxes", {
            "templateID": "host", "timeout": 200, "metadata": {"a": "b"}, "envVars": {"X": "y"},
            "network": {"allowPublicTraffic": False}, "autoPause": True}, 201)
        box, paused, gone = made["sandboxID"], self.create(), self.create()
        self.e2b("POST", f"/sandboxes/{paused}/pause", {}, 204)
        before = [self.detail(b) for b in (box, paused)]
        result = self.run_(headers={"Idempotency_Key": "kept"}, cmd=["cat",
                                                                     "/proc/sys/kernel/random/uuid"])
        self.kill_api()
        self.assertEqual([self.detail(b) for b in (box, paused)], before)
        again = self.e2b("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 1}, 200)
        self.assertEqual(again, made)
        self.e2b("POST", f"/v2/sandboxes/{paused}/connect", {}, 201)
        self.assertEqual(self.run_(headers={"Idempotency_Key": "kept"},
                                   cmd=["cat", "/proc/sys/kernel/random/uuid"]), result)
        # A record whose sandbox has ended meanwhile is dropped.
        pid = self.api_pid()
        os.kill(pid, signal.SIGSTOP)
        self.assertOk(self.brig.call("rm", "-f", gone))
        os.kill(pid, signal.SIGKILL)
        wait_until("another serves", lambda: self.api_pid() not in (None, pid) and self.healthy(), 20)
        self.e2b("GET", f"/sandboxes/{gone}", expect=404)

    def test_an_end_that_passed_meanwhile_comes(self):
        box = self.create(timeout=2)
        self.kill_api()
        wait_until("it has ended", lambda: self.e2b("GET", f"/sandboxes/{box}")[0] == 404, 6)
        wait_until("nothing is left", lambda: box not in self.ids())

    def test_what_nobody_knows_is_removed(self):
        """A sandbox of a run with files, whose brig-api was killed."""
        c = self.connection()
        c.request("POST", "/v1/run", json.dumps(
            {"image": "host", "cmd": ["sleep", "1000"], "files": {"f": "x"}}),
            {"X-API-Key": self.key})
        wait_until("it is there", self.ids)
        self.kill_api()
        wait_until("it is gone", lambda: self.ids() == [])


def seconds(stamp):
    """Unix time of an RFC 3339 stamp in UTC."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole + " UTC", "%Y-%m-%dT%H:%M:%S %Z")) - time.timezone \
        + float("0." + (fraction or "0"))
