# SPDX-License-Identifier: Apache-2.0
"""What tests of `brig serve` as a whole share: a server of their own, and who speaks HTTP with it."""

import http.client
import json
import re

import hoststate
from brigtest import Brig, Server, TestCase, wait_until

LOOPBACK = "127.0.0.1:0"


class ServeCase(TestCase):
    """Each test has a server with a data folder of its own, hence keys of its own."""

    def setUp(self):
        super().setUp()
        self.tmp.chmod(0o711)
        self.brig = Brig(data=self.tmp / "data")
        self.server = None

    def serve(self, *args, http=(LOOPBACK,)):
        flags = [word for address in http for word in ("--http", address)]
        self.server = Server(self.brig, *flags, *args)
        self.addCleanup(self.server.stop)
        self.said("HTTP on .*\n")
        return self.server

    def said(self, pattern):
        """Waits until the server has written that."""
        return wait_until(f"the server writes {pattern!r}",
                          lambda: re.search(pattern, self.server.text()),
                          explain=self.server.text)

    def url(self):
        return self.said(r"HTTP on (https?)://(\S+):(\d+)\n").groups()

    def first_key(self):
        return self.said(r"\n    (e2b_[0-9a-f]{64})\n").group(1)

    def ask(self, method, path, body=None, key=None, context=None):
        """(status, JSON or None)"""
        scheme, host, port = self.url()
        if scheme == "https":
            c = http.client.HTTPSConnection("localhost", int(port), timeout=20, context=context)
        else:
            c = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=20)
        try:
            c.request(method, path, json.dumps(body) if body is not None else None,
                      {"X-API-Key": key} if key else {})
            answer = c.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        finally:
            c.close()

    def run_hello(self, key, **kw):
        status, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["echo", "hello"]},
                                  key, **kw)
        self.assertEqual(status, 200, answer)
        self.assertEqual((answer["stdout"], answer["exit_code"]), ("hello\n", 0))

    def pid_of(self, name):
        for pid in hoststate.pids():
            parent = re.search(r"^PPid:\s+(\d+)", hoststate.read(f"/proc/{pid}/status"), re.M)
            if parent and int(parent.group(1)) == self.server.process.pid and \
                    hoststate.comm_of(pid) == name:
                return pid
        return None

    def another(self, name, former):
        return wait_until(f"another {name} runs",
                          lambda: (pid := self.pid_of(name)) and pid != former and pid)
