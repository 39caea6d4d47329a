# SPDX-License-Identifier: Apache-2.0
"""brig-api's own TLS, with another library on the client's side: files, streams, upgrades, and
clients that never finish a handshake."""

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import brigtest
import hoststate
from brigtest import Brig, Server, TestCase, wait_until

PORT = 8080
# A WebSocket (RFC 6455): shakes hands, then sends each message back, not masked.
ECHO = """
import base64, hashlib, socket, struct, threading
def need(f, n):
    data = f.read(n)
    if len(data) < n:
        raise EOFError
    return data
def serve(c):
    f = c.makefile("rb")
    key = b""
    while (line := f.readline().strip()):
        if line.lower().startswith(b"sec-websocket-key:"):
            key = line.split(b":", 1)[1].strip()
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
              b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    try:
        while True:
            first, length = need(f, 2)
            n = length & 127
            if n == 126:
                n, = struct.unpack(">H", need(f, 2))
            elif n == 127:
                n, = struct.unpack(">Q", need(f, 8))
            mask = need(f, 4)
            data = need(f, n)
            key = mask * (n // 4 + 1)
            data = (int.from_bytes(data, "big") ^ int.from_bytes(key[:n], "big")).to_bytes(n, "big")
            head = bytes([first, n]) if n < 126 else bytes([first, 127]) + struct.pack(">Q", n)
            c.sendall(head + data)
            if first & 15 == 8:
                break
    except EOFError:
        pass
    c.close()
s = socket.create_server(("127.0.0.1", 8080))
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
LINES = "import time\nfor i in range(5):\n    print(i, flush=True)\n    time.sleep(0.2)\n"


class Tls(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        brigtest.need_program("openssl")

    def setUp(self):
        super().setUp()
        self.tmp.chmod(0o711)
        cert, key = self.tmp / "cert.pem", self.tmp / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                        "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        key.chmod(0o600)
        self.brig = Brig(data=self.tmp / "data")
        self.server = Server(self.brig, "--http", "127.0.0.1:0", "--tls-cert", cert, "--tls-key",
                             key)
        self.addCleanup(self.server.stop)
        self.context = ssl.create_default_context(cafile=str(cert))
        self.port = int(self.said(r"HTTP on https://127\.0\.0\.1:(\d+)\n"))
        self.key = self.said(r"\n    (e2b_[0-9a-f]{64})\n")

    def said(self, pattern):
        return wait_until(f"the server writes {pattern!r}",
                          lambda: (m := re.search(pattern, self.server.text())) and
                          m.group(1), explain=self.server.text)

    def socket(self, **more):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        s = self.context.wrap_socket(raw, server_hostname="localhost", **more)
        self.addCleanup(s.close)
        return s

    def connection(self):
        c = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=self.context)
        self.addCleanup(c.close)
        return c

    def ask(self, c, method, path, body=None, **headers):
        """(status, body) of one request on a connection that is kept."""
        if isinstance(body, dict):
            body = json.dumps(body)
        c.request(method, path, body, {"X-API-Key": self.key} |
                  {k.replace("_", "-"): v for k, v in headers.items()})
        answer = c.getresponse()
        return answer.status, answer.read()

    def box(self, c):
        status, answer = self.ask(c, "POST", "/sandboxes", {"templateID": "host"})
        self.assertEqual(status, 201, answer)
        return json.loads(answer)

    def api_pid(self):
        for pid in hoststate.pids():
            parent = re.search(r"^PPid:\s+(\d+)", hoststate.read(f"/proc/{pid}/status"),
                                        re.M)
            if parent and int(parent.group(1)) == self.server.process.pid and \
                    hoststate.comm_of(pid) == "brig-api":
                return pid
        return None

    def memory(self):
        text = hoststate.read(f"/proc/{self.api_pid()}/status")
        return int(re.search(r"^VmRSS:\s+(\d+)", text, re.M).group(1)) << 10

    # ---- bytes ----

    def test_64_mib_go_up_and_down_through_files_on_one_connection(self):
        c = self.connection()
        box = self.box(c)
        data = os.urandom(1 << 20) * 64
        to = {"E2b_Sandbox_Id": box["sandboxID"], "E2b_Sandbox_Port": "49983",
              "X_Access_Token": box["envdAccessToken"]}
        status, answer = self.ask(c, "POST", "/files?path=/tmp/much", data,
                                  Content_Type="application/octet-stream", **to)
        self.assertEqual(status, 200, answer)
        c.request("GET", "/files?path=/tmp/much", None, {k.replace("_", "-"): v
                                                        for k, v in to.items()})
        answer = c.getresponse()
        self.assertEqual((answer.status, answer.getheader("Content-Length")), (200, str(64 << 20)))
        digest, n = hashlib.sha256(), 0
        while part := answer.read(1 << 20):
            digest.update(part)
            n += len(part)
        self.assertEqual((n, digest.digest()), (64 << 20, hashlib.sha256(data).digest()))
        self.assertEqual(self.ask(c, "GET", "/sandboxes")[0], 200)
        self.assertLess(self.memory(), 150 << 20)

    def test_a_stream_of_lines_comes_as_it_is_made(self):
        c = self.connection()
        c.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": ["python3", "-c", LINES]}),
                  {"X-API-Key": self.key, "Accept": "application/x-ndjson"})
        answer = c.getresponse()
        self.assertEqual(answer.status, 200)
        times = []
        while line := answer.readline():
            if json.loads(line)["type"] == "stdout":
                times.append(time.monotonic())
        self.assertGreaterEqual(len(times), 5)
        self.assertGreater(times[-1] - times[0], 0.5)
        self.assertEqual(self.ask(c, "GET", "/sandboxes")[0], 200)

    def frame(self, opcode, data):
        mask = os.urandom(4)
        n = len(data)
        key = (mask * (n // 4 + 1))[:n]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")
        head = bytes([0x80 | opcode])
        if n < 126:
            head += bytes([0x80 | n])
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", n)
        return head + mask + masked

    def websocket(self, box):
        s = self.socket()
        s.sendall((f"GET / HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: {box['sandboxID']}\r\n"
                   f"E2b-Sandbox-Port: {PORT}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                   "\r\n").encode())
        f = s.makefile("rb")
        self.addCleanup(f.close)
        first = f.readline()
        if b" 101 " not in first:
            return None
        head = first
        while (line := f.readline()) != b"\r\n":
            head += line
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head)
        return s, f

    def test_a_websocket_through_the_proxy_carries_16_mib_both_ways(self):
        box = self.box(self.connection())
        self.assertOk(self.brig.call("exec", "-d", box["sandboxID"], "--", "python3", "-c", ECHO))
        s, f = wait_until("the server inside takes connections", lambda: self.websocket(box))
        messages = [os.urandom(1 << 20) for _ in range(16)]

        def send():
            for m in messages:
                s.sendall(self.frame(2, m))
            s.sendall(self.frame(8, b""))
        sender = threading.Thread(target=send, daemon=True)
        before, began = hoststate.read(f"/proc/{self.api_pid()}/stat"), time.monotonic()
        sender.start()
        for m in messages:
            self.assertEqual(f.read(2), b"\x82\x7f")
            self.assertEqual(struct.unpack(">Q", f.read(8)), (len(m),))
            self.assertEqual(f.read(len(m)), m)
        self.assertEqual(f.read(2), b"\x88\x00")
        sender.join(60)
        self.assertEqual(f.read(1), b"")
        # Not at 100 kB/s with the process spinning, which would be minutes.
        after = hoststate.read(f"/proc/{self.api_pid()}/stat")
        self.assertLess(time.monotonic() - began, 60)

        def cpu(stat):
            fields = stat.rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.assertLess(cpu(after) - cpu(before), 10)

    # ---- clients that mean no good ----

    def test_200_half_handshakes_do_not_stop_others(self):
        self.ask(self.connection(), "GET", "/sandboxes")
        before = self.memory()
        half = []
        for i in range(200):
            s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            self.addCleanup(s.close)
            if i % 2:
                s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            half.append(s)
        for _ in range(20):
            self.assertEqual(self.ask(self.connection(), "GET", "/sandboxes")[0], 200)
        self.assertLess(self.memory() - before, 24 << 20)
        # They have their time, and no more.
        for s in half[:2]:
            s.settimeout(30)
            try:
                self.assertEqual(s.recv(1), b"")
            except ConnectionResetError:
                pass

    def test_garbage_and_http_in_the_clear_are_refused(self):
        for data, words in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
                            (b"PATCH / HTTP/1.1\r\nHost: x\r\n\r\n", b"This port speaks TLS"),
                            (b"\x00" * 1000, b""),
                            (os.urandom(1 << 16).replace(b"\x16", b"\x15", 1), b""),
                            (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"a" * (1 << 20), b"")):
            s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            got = b""
            try:
                s.sendall(data)
                while part := s.recv(4096):
                    got += part
            except (ConnectionResetError, BrokenPipeError):
                pass
            s.close()
            self.assertIn(words, got)
        self.assertEqual(self.ask(self.connection(), "GET", "/sandboxes")[0], 200)

    def test_clients_of_every_version_and_none_that_is_old(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.maximum_version = version
            self.context.set_alpn_protocols(["h2", "http/1.1"])
            s = self.socket()
            self.assertEqual(s.selected_alpn_protocol(), "http/1.1")
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 "))
            again = self.socket(session=s.session)
            self.assertTrue(again.session_reused)
        brigtest.need_program("openssl")
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}",
                               "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], input=b"",
                              capture_output=True, timeout=20, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, rb"alert protocol version")

    def test_an_end_of_the_server_is_told(self):
        s = self.socket()
        self.server.process.terminate()
        s.settimeout(20)
        self.assertEqual(s.recv(1), b"")
