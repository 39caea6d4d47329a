# SPDX-License-Identifier: Apache-2.0
"""Servers inside of a sandbox, seen from outside through its ports."""

import json
import os
import threading

from e2bwire import Box, PlaneCase

PORT = 8000
SERVER = r'''
import http.server, socketserver
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(s, status, data=b"", **headers):
        s.send_response(status)
        for k, v in headers.items():
            s.send_header(k.replace("_", "-"), v)
        s.send_header("Content-Length", str(len(data)))
        s.end_headers()
        s.wfile.write(data)
    def raw(s, data):
        s.wfile.write(data)
        s.close_connection = True
    def do_GET(s):
        if s.headers.get("Upgrade"):
            s.send_response(101)
            s.send_header("Upgrade", "websocket")
            s.send_header("Connection", "Upgrade")
            s.end_headers()
            s.wfile.write(b"hello")
            while data := s.rfile.read1(65536):
                s.wfile.write(data)
            s.close_connection = True
        elif s.path.startswith("/head"):
            s.answer(200, (s.requestline + "\n" + str(s.headers)).encode(), X_A="1")
        elif s.path == "/redirect":
            s.answer(302, Location="http://127.0.0.1:1/")
        elif s.path == "/chunks":
            s.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        elif s.path == "/close":
            s.raw(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        elif s.path == "/two":
            s.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc")
        elif s.path == "/inject":
            s.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        elif s.path == "/short":
            s.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        elif s.path == "/nothing":
            s.raw(b"")
        elif s.path == "/large":
            s.answer(200, b"z" * (40 << 20))
        else:
            s.answer(404)
    do_HEAD = do_GET
    def do_POST(s):
        n = 0
        if s.headers.get("Transfer-Encoding"):
            while k := int(s.rfile.readline(), 16):
                n += len(s.rfile.read(k))
                s.rfile.readline()
            s.rfile.readline()
        else:
            n = len(s.rfile.read(int(s.headers["Content-Length"])))
        s.answer(201, b"%d" % n)
class T(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
t = T(("127.0.0.1", 8000), H)
print("up", flush=True)
t.serve_forever()
'''


class Ports(PlaneCase):
    def serve(self, box):
        self.assertEqual(box.put("server.py", SERVER.encode())[0], 200)
        _, stream = box.started("python3", "server.py")
        stream.next()  # its "up"
        return box

    def setUp(self):
        super().setUp()
        self.box = self.serve(Box(self))

    def get(self, path, **more):
        return self.box.ask("GET", path, None, PORT, **more)

    def test_requests_and_answers_pass(self):
        status, headers, data = self.get("/head?a=b%20c", Accept="x/y")
        self.assertEqual((status, headers["X-A"]), (200, "1"))
        self.assertTrue(data.startswith(b"GET /head?a=b%20c HTTP/1.1\n"))
        self.assertIn(b"Accept: x/y\n", data)
        self.assertEqual(self.get("/chunks")[2], b"abcdef")
        self.assertEqual(self.get("/close")[2], b"until the end")
        self.assertEqual(len(self.get("/large")[2]), 40 << 20)
        status, headers, data = self.box.ask("HEAD", "/large", None, PORT)
        self.assertEqual((status, headers["Content-Length"], data), (200, str(40 << 20), b""))
        status, headers, _ = self.get("/redirect")
        self.assertEqual((status, headers["Location"]), (302, "http://127.0.0.1:1/"))

    def test_bodies_pass_as_they_came(self):
        self.assertEqual(self.box.ask("POST", "/", b"q" * (20 << 20), PORT)[2],
                         str(20 << 20).encode())
        self.assertEqual(self.box.ask("POST", "/", (b"c" * 99999 for _ in range(50)), PORT)[2],
                         str(99999 * 50).encode())

    def test_what_is_ours_stays_outside(self):
        _, _, data = self.get("/head", X_API_Key="e2b_secret", X_Access_Token="secret",
                              Authorization="Bearer e2b_secret", E2b_Other="secret",
                              X_Forwarded_For="secret", Connection="x-hop", X_Hop="secret")
        self.assertNotIn(b"secret", data)
        self.assertNotIn(self.box.id.encode(), data)
        self.assertIn(b"X-Forwarded-For: 127.0.0.1\n", data)
        _, _, data = self.get("/head", Authorization="Bearer theirs", Cookie="a=b")
        self.assertIn(b"Authorization: Bearer theirs\n", data)
        self.assertIn(b"Cookie: a=b\n", data)

    def test_an_answer_that_is_none_is_told(self):
        for path in ("/two", "/nothing"):
            status, _, answer = self.get(path)
            answer = json.loads(answer)
            self.assertEqual((status, answer["code"], answer["port"], answer["sandboxId"]),
                             (502, 502, PORT, self.box.id))
        with self.assertRaises(Exception):
            self.get("/short")
        # Nothing of one answer becomes the next one on the client's connection.
        c = self.connection()
        for _ in range(2):
            c.request("GET", "/inject", None, self.box.headers(PORT))
            self.assertEqual(c.getresponse().read(), b"ok")

    def test_a_port_that_is_closed_is_told(self):
        status, _, answer = self.box.ask("GET", "/", None, 9)
        answer = json.loads(answer)
        self.assertEqual((status, answer["sandboxId"], answer["port"], answer["code"],
                          answer["message"], answer["error_code"]),
                         (502, self.box.id, 9, 502, "The sandbox is running but port is not open",
                          "unavailable"))
        self.assertTrue(answer["remediation"] and answer["request_id"])

    def upgrade(self, host="x", **more):
        s = self.socket()
        headers = {**self.box.headers(PORT), "Host": host, "Connection": "keep-alive, Upgrade",
                   "Upgrade": "websocket", **more}
        s.sendall(("GET /ws HTTP/1.1\r\n" +
                   "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode())
        data = b""
        while not data.endswith(b"hello"):
            piece = s.recv(4096)
            self.assertTrue(piece, data)
            data += piece
        self.assertTrue(data.startswith(b"HTTP/1.1 101 "), data)
        self.assertIn(b"\r\nUpgrade: websocket\r\n", data)
        return s

    def test_an_upgraded_connection_is_bytes_both_ways(self):
        s = self.upgrade()
        data, got = os.urandom(8 << 20), bytearray()

        def read():
            while len(got) < len(data) and (piece := s.recv(1 << 16)):
                got.extend(piece)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        s.sendall(data)
        reader.join(60)
        self.assertEqual(bytes(got), data)
        s.shutdown(1)
        self.assertEqual(s.recv(1), b"")

    def test_a_killed_sandbox_ends_its_connections(self):
        s = self.upgrade()
        self.assertEqual(self.box.kill(), 204)
        try:
            self.assertEqual(s.recv(1), b"")
        except ConnectionResetError:
            pass
        status, _, answer = self.get("/head")
        self.assertEqual((status, json.loads(answer)["message"]), (502, "The sandbox was not found"))

    def test_ports_may_ask_for_a_token(self):
        box = self.serve(Box(self, network={"allowPublicTraffic": False}))
        self.assertTrue(box.traffic)
        self.assertEqual(box.ask("GET", "/head", None, PORT)[0], 403)
        self.assertEqual(box.ask("GET", "/head", None, PORT, E2B_Traffic_Access_Token="x")[0], 403)
        status, _, data = box.ask("GET", "/head", None, PORT, E2B_Traffic_Access_Token=box.traffic)
        self.assertEqual(status, 200)
        self.assertNotIn(box.traffic.encode(), data)

    def test_the_host_that_the_inside_sees_can_be_chosen(self):
        self.box = self.serve(Box(self, network={"maskRequestHost": "localhost:${PORT}"}))
        data = self.get("/head")[2]
        self.assertIn(b"\nHost: localhost:8000\n", data)
