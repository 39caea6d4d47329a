# SPDX-License-Identifier: Apache-2.0
"""A server that is reached over HTTP or HTTPS, and the command line that knows its URL and a key only."""

import http.client
import json
import re
import secrets
import shutil
import socket
import ssl
import struct
import subprocess

import brigtest
import hoststate
from brigtest import Brig, ResidentCase, Server, wait_until

REQ, REP, END = 0x101, 0x102, 0x103


def authority(folder):
    """(CA certificate, server certificate for localhost, its key)"""
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    cert, key, ask = folder / "cert.pem", folder / "key.pem", folder / "cert.csr"
    run = [["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca_key, "-out", ca, "-days", "2",
            "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign"],
           ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", ask, "-subj", "/CN=localhost"],
           ["x509", "-req", "-in", ask, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
            "-out", cert, "-extfile", folder / "names"]]
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for args in run:
        subprocess.run(["openssl", *args], check=True, capture_output=True)
    key.chmod(0o600)
    return ca, cert, key


class RemoteCase(ResidentCase):
    """self.brig is the command line elsewhere, self.near the one on the server's machine."""

    tls = False

    @classmethod
    def setUpClass(cls):
        super(ResidentCase, cls).setUpClass()
        cls.folder = brigtest.SCRATCH / f"remote-{secrets.token_hex(4)}"
        cls.folder.mkdir(mode=0o711)
        cls.class_before = hoststate.snapshot()
        cls.near = Brig(data=cls.folder / "data")
        cls.ca, args = None, ()
        if cls.tls:
            brigtest.need_program("openssl")
            cls.ca, cert, key = authority(cls.folder)
            args = ("--tls-cert", cert, "--tls-key", key)
        cls.server = Server(cls.near, "--http", "127.0.0.1:0", *args)
        cls.port = int(cls.said(r"HTTPS? on https?://127\.0\.0\.1:(\d+)\n"))
        cls.key = cls.said(r"\b(e2b_[0-9a-f]{64})\n")
        cls.url = f"https://localhost:{cls.port}" if cls.tls else f"http://127.0.0.1:{cls.port}"
        # Its socket is nobody's: what it does not do over the network it does not do at all.
        cls.class_brig = Brig(data=cls.folder / "none", BRIG_URL=cls.url, BRIG_API_KEY=cls.key,
                              **({"BRIG_CA_FILE": cls.ca} if cls.tls else {}))

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def said(cls, pattern):
        return wait_until(f"the server writes {pattern!r}",
                          lambda: re.search(pattern, cls.server.text()),
                          explain=cls.server.text).group(1)

    def _remove_all(self):
        for brig in (self.brig, self.near):  # with their records; then those without
            ids = brig.call("ls", "-q").text.split()
            if ids:
                brig.call("rm", "-f", *ids)

    # ---- HTTP ----

    def context(self):
        return ssl.create_default_context(cafile=str(self.ca)) if self.tls else None

    def ask(self, method, path, body=None, key=None, **headers):
        """(status, JSON, or None where there is none)"""
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        c = kind("localhost" if self.tls else "127.0.0.1", self.port, timeout=30 * brigtest.SLOW,
                 **({"context": self.context()} if self.tls else {}))
        self.addCleanup(c.close)
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"X-API-Key": key or self.key, **headers})
        r = c.getresponse()
        data = r.read()
        text = (r.getheader("Content-Type") or "").startswith("application/json")
        return r.status, json.loads(data) if text else None

    def listed(self, key=None):
        status, answer = self.ask("GET", "/v1/sandboxes", key=key)
        self.assertEqual(status, 200, answer)
        return {b["id"]: b for b in answer["sandboxes"]}

    def other_key(self, tenant):
        self.near.call("tenant", "create", tenant)
        made = self.near.json("key", "create", "test", "--tenant", tenant)
        self.addCleanup(self.near.call, "key", "revoke", made["id"])
        return made["key"]

    def api_pid(self):
        return next((p for p in hoststate.brig_pids("brig-api")), None)


class Wire:
    """A client that speaks the frames itself, good or bad."""

    def __init__(self, case, key=None, protocol="brig/1"):
        s = socket.create_connection(("127.0.0.1", case.port), timeout=30 * brigtest.SLOW)
        self.sock = case.context().wrap_socket(s, server_hostname="localhost") if case.tls else s
        case.addCleanup(self.sock.close)
        self.sock.sendall(f"GET /v1/connect HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key or case.key}"
                          f"\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.sock.recv(1)
            assert part, head
            head += part
        self.status = int(head.split()[1])

    def send(self, kind, payload=b"", flags=0, stream=0, size=None):
        size = len(payload) if size is None else size
        self.sock.sendall(struct.pack("<IHHI", size, kind, flags, stream) + payload)

    def request(self, **request):
        self.send(REQ, json.dumps(request).encode())

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                return None
            data += part
        return data

    def frame(self):
        """(type, payload), or None at the end."""
        head = self._exactly(12)
        if head is None:
            return None
        size, kind, _, _ = struct.unpack("<IHHI", head)
        return kind, self._exactly(size) if size else b""

    def answer(self):
        """The next REP or END as JSON: (type, object)."""
        while frame := self.frame():
            if frame[0] in (REP, END):
                return frame[0], json.loads(frame[1])
        return None
