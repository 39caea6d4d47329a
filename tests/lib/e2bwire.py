# SPDX-License-Identifier: Apache-2.0
"""A client of the HTTP side that speaks E2B's data plane itself, byte by byte: for what the published
clients hide, and for where they are not installed. One server per class, one sandbox per test."""

import base64
import http.client
import json
import os
import re
import socket
import struct
import urllib.parse

import brigtest
import hoststate
from brigtest import Brig, Server, TestCase, wait_until

ENVD = 49983
# What brig-api may grow by while much flows through it; a sanitizer keeps what was freed for a while.
GROWTH = (400 if "ASAN_OPTIONS" in os.environ else 40) << 20
START, CONNECT = "process.Process/Start", "process.Process/Connect"


def b64(data):
    return base64.b64encode(data).decode()


def message(value):
    data = json.dumps(value).encode()
    return struct.pack(">BI", 0, len(data)) + data


class Stream:
    """An answer of messages. Iterating gives them; then .error is that of the last frame, or None, and
    .ended whether there was one."""

    def __init__(self, connection):
        self.connection = connection
        self.answer = connection.getresponse()
        self.error, self.ended = None, False
        assert self.answer.status == 200, (self.answer.status, self.answer.read())

    def __iter__(self):
        while not self.ended:
            head = self.answer.read(5)
            if len(head) < 5:
                return
            flags, n = struct.unpack(">BI", head)
            value = json.loads(self.answer.read(n))
            if flags & 2:
                self.ended, self.error = True, value.get("error")
                assert self.answer.read() == b""
                return
            yield value

    def next(self):
        return next(iter(self))

    def close(self):
        self.connection.close()
        self.answer.close()


class Ran:
    """Everything that a stream told of a process."""

    def __init__(self, stream):
        self.pid, self.first, self.end, self.pings = None, None, None, 0
        pieces = {"stdout": [], "stderr": [], "pty": []}
        for value in stream:
            event = value["event"]
            self.first = self.first or list(event)[0]
            self.pid = event.get("start", {}).get("pid", self.pid)
            for name, data in event.get("data", {}).items():
                pieces[name].append(base64.b64decode(data))
            self.end = event.get("end", self.end)
            self.pings += "keepalive" in event
        self.out, self.err, self.pty = (b"".join(p) for p in pieces.values())
        self.error, self.ended = stream.error, stream.ended


class Box:
    def __init__(self, case, **body):
        self.case = case
        body = {"templateID": "host", "timeout": 300, **body}
        status, _, data = case.ask("POST", "/v2/sandboxes", json.dumps(body).encode(),
                                   {"X-API-Key": case.key})
        assert status == 201, (status, data)
        answer = json.loads(data)
        self.id, self.token = answer["sandboxID"], answer["envdAccessToken"]
        self.traffic = answer.get("trafficAccessToken")
        case.addCleanup(self.kill)

    def kill(self):
        return self.case.ask("DELETE", f"/sandboxes/{self.id}", None,
                             {"X-API-Key": self.case.key})[0]

    def headers(self, port=ENVD, user=None, **more):
        h = {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": str(port)}
        if port == ENVD:
            h["X-Access-Token"] = self.token
        if user:
            h["Authorization"] = "Basic " + b64(f"{user}:".encode())
        h.update({k.replace("_", "-"): v for k, v in more.items() if v is not None})
        return h

    def ask(self, method, path, body=None, port=ENVD, **more):
        return self.case.ask(method, path, body, self.headers(port, **more))

    def rpc(self, method, value, **more):
        """(status, JSON)"""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        status, _, data = self.ask("POST", "/" + method, body, Content_Type="application/json",
                                   **more)
        return status, json.loads(data) if data else None

    def fs(self, method, expect=200, **kw):
        user = kw.pop("user", None)
        status, answer = self.rpc("filesystem.Filesystem/" + method, kw, user=user)
        self.case.assertEqual(status, expect, answer)
        return answer

    def stream(self, method, value, **more):
        c = self.case.connection()
        body = value if isinstance(value, bytes) else message(value)
        c.request("POST", "/" + method, body,
                  self.headers(Content_Type="application/connect+json", **more))
        return Stream(c)

    def start(self, *argv, stdin=None, pty=None, tag=None, envs=None, cwd=None, **more):
        value = {"process": {"cmd": argv[0], "args": list(argv[1:])}}
        value["process"].update({k: v for k, v in (("envs", envs), ("cwd", cwd)) if v is not None})
        value.update({k: v for k, v in (("stdin", stdin), ("pty", pty), ("tag", tag))
                      if v is not None})
        return self.stream(START, value, **more)

    def started(self, *argv, **kw):
        """(pid, stream)"""
        stream = self.start(*argv, **kw)
        return stream.next()["event"]["start"]["pid"], stream

    def sh(self, text, **kw):
        kw.setdefault("stdin", False)
        return Ran(self.start("/bin/bash", "-l", "-c", text, **kw))

    def put(self, path, data, **more):
        """(status, JSON)"""
        more.setdefault("Content_Type", "application/octet-stream")
        status, _, answer = self.ask("POST", "/files?path=" + urllib.parse.quote(path), data, **more)
        return status, json.loads(answer)

    def get(self, path, **more):
        return self.ask("GET", "/files?path=" + urllib.parse.quote(path), **more)


class PlaneCase(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = brigtest.SCRATCH / f"plane-{os.getpid()}-{cls.__name__}"
        cls.folder.mkdir(mode=0o711)
        cls.class_before = hoststate.snapshot()
        cls.server = Server(Brig(data=cls.folder / "data"), "--http", "127.0.0.1:0")
        cls.port = int(cls.said(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        cls.key = cls.said(r"\n    (e2b_[0-9a-f]{64})\n")

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
        self.tmp = self.folder

    def connection(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * brigtest.SLOW)
        self.addCleanup(c.close)
        return c

    def socket(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=30 * brigtest.SLOW)
        self.addCleanup(s.close)
        return s

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, bytes)"""
        c = self.connection()
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, r.headers, data

    def api_pid(self):
        for pid in hoststate.pids():
            parent = re.search(r"^PPid:\s+(\d+)", hoststate.read(f"/proc/{pid}/status"), re.M)
            if parent and int(parent.group(1)) == self.server.process.pid and \
                    hoststate.comm_of(pid) == "brig-api":
                return pid
        return None
