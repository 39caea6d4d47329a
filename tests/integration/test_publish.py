# SPDX-License-Identifier: Apache-2.0
"""Ports of a sandbox that the host listens at: --publish, `brig port`."""

import errno
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading

import hoststate
from brigtest import MIB, Brig, ResidentCase, Server, TestCase, wait_until

# Echoes each connection in a thread of its own, and says when it listens.
ECHO = r"""
import socket, sys, threading
s = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=300)
print("ready", flush=True)
def talk(c):
    while d := c.recv(65536):
        c.sendall(d)
    c.close()
while True:
    threading.Thread(target=talk, args=(s.accept()[0],), daemon=True).start()
"""
GIVER = r"""
import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(bytes(64 << 20))
    c.close()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def talk(port, data, address="127.0.0.1"):
    with socket.create_connection((address, port), timeout=60) as s:
        threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
        got = b""
        while part := s.recv(MIB):
            got += part
        return got


class PublishCase(ResidentCase):
    def create(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def serve(self, box, program=ECHO, port=8000):
        p = self.brig.popen("exec", box, "/usr/bin/python3", "-u", "-S", "-c", program, str(port),
                            stdout=subprocess.PIPE)
        self.addCleanup(self._end, p)
        self.assertEqual(p.stdout.readline(), b"ready\n", p)

    def published(self, box):
        return self.brig.json("inspect", box)[0]["ports"]


class Publish(PublishCase):
    def test_bytes_go_both_ways_and_the_port_is_told(self):
        box = self.create("-p", "8000")
        self.serve(box)
        (entry,) = self.published(box)
        port = entry.pop("host_port")
        self.assertEqual(entry, {"address": "127.0.0.1", "port": 8000, "protocol": "tcp"})
        self.assertEqual(self.brig.call("port", box).text, f"8000/tcp -> 127.0.0.1:{port}\n")
        self.assertEqual(self.brig.call("port", box, "8000/tcp").text, f"127.0.0.1:{port}\n")
        self.assertRefused(self.brig.call("port", box, "8001"), 125, "not published", "--publish")
        data = hashlib.shake_256(b"both").digest(8 * MIB)
        self.assertEqual(hashlib.sha256(talk(port, data)).digest(), hashlib.sha256(data).digest())
        # On loopback and nowhere else.
        with socket.socket() as s, self.assertRaises(ConnectionRefusedError):
            s.connect(("127.0.0.2", port))

    def test_addresses(self):
        port = free_port()
        box = self.create("-p", f"127.0.0.3:{port}:8000/tcp", "-p", "[::1]:0:8000", "-p", f"{port}:8000")
        self.serve(box)
        rows = self.published(box)
        self.assertEqual([(r["address"], r["port"]) for r in rows],
                         [("127.0.0.3", 8000), ("::1", 8000), ("127.0.0.1", 8000)])
        for r in rows:
            self.assertEqual(talk(r["host_port"], b"x" * 10, r["address"]), b"x" * 10)

    def test_who_is_refused_learns_what_to_do_and_nothing_is_left(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.assertRefused(self.brig.call("create", "--image", "host", "-p", "0:1", "-p", f"{port}:80"), 125,
                               f"port {port} of 127.0.0.1 is taken", f"-p 0:80")
        self.assertRefused(self.brig.call("create", "--image", "host", "-p", "192.0.2.1:0:80"), 125,
                           "no address 192.0.2.1", "ip address")
        if int(hoststate.read("/proc/sys/net/ipv4/ip_unprivileged_port_start")) > 81 and os.geteuid() == 0:
            self.assertRefused(self.brig.call("create", "--image", "host", "-p", "81:80"), 125, "privilege",
                               "1024")
        for text in ("", ":", "80:", ":80", "0", "65536", "1:2:3:4", "127.1:80:80", "::1:80:80", "[::1:80:80",
                     "[127.0.0.1]:80:80", "80/udp", "localhost:80:80", "-1:80", " 80", "8 0", "080000"):
            with self.subTest(text):
                self.assertRefused(self.brig.call("create", "--image", "host", "-p", text), 125,
                                   re.escape("is not [ADDRESS:][HOSTPORT:]PORT"))
        self.assertRefused(self.brig.call("create", "--image", "host", *["-p", "80"] * 33), 125, "ports")
        self.assertEqual(self.brig.json("ls"), [])

    def reset(self, port):
        """The host accepts, and takes it back; which the client may see before its connect() is over."""
        with self.assertRaises(ConnectionResetError):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
                s.recv(1)

    def test_nobody_listens_inside(self):
        box = self.create("-p", "8000")
        port = self.published(box)[0]["host_port"]
        self.reset(port)
        # Another sandbox's server at that port is not it.
        other = self.create()
        self.serve(other)
        self.reset(port)

    def test_it_ends_with_its_sandbox(self):
        box = self.create("-p", "8000")
        self.serve(box)
        port = self.published(box)[0]["host_port"]
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            s.sendall(b"x")
            self.assertEqual(s.recv(1), b"x")
            self.assertOk(self.brig.call("rm", "-f", box))
            with self.assertRaises(ConnectionResetError):
                s.recv(1)
        with socket.socket() as s:
            self.assertEqual(s.connect_ex(("127.0.0.1", port)), errno.ECONNREFUSED)

    def test_who_comes_while_it_is_paused_waits(self):
        box = self.create("-p", "8000")
        self.serve(box)
        port = self.published(box)[0]["host_port"]
        self.assertOk(self.brig.call("pause", box))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            s.sendall(b"later")
            self.assertOk(self.brig.call("unpause", box))
            self.assertEqual(s.recv(5), b"later")

    def test_a_visitor_who_does_not_read_holds_back_himself_only(self):
        box = self.create("-p", "8000", "-p", "8001")
        self.serve(box, GIVER, 8000)
        self.serve(box, ECHO, 8001)
        slow, fast = (r["host_port"] for r in self.published(box))
        with socket.create_connection(("127.0.0.1", slow), timeout=60) as s:
            s.recv(1)
            self.assertEqual(len(talk(fast, bytes(4 * MIB))), 4 * MIB)
            done = self.brig.call("exec", box, "head", "-c", "20000000", "/dev/zero", timeout=60)
            self.assertEqual(len(done.out), 20000000)
            n = 1
            while part := s.recv(MIB):
                n += len(part)
            self.assertEqual(n, 64 * MIB)

    def test_more_than_fit_wait_for_their_turn(self):
        box = self.create("-p", "8000")
        self.serve(box)
        port = self.published(box)[0]["host_port"]
        all_ = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(210)]
        for i, s in enumerate(all_):
            s.sendall(b"%d" % i)
            s.shutdown(socket.SHUT_WR)
        for i, s in enumerate(all_):
            got = b""
            while part := s.recv(10):
                got += part
            self.assertEqual(got, b"%d" % i)
            s.close()


class Alone(TestCase):
    def setUp(self):
        super().setUp()
        self.brig = Brig()

    def test_a_foreground_run_tells_where(self):
        p = self.brig.popen("run", "--image", "host", "-p", "8000", "--", "/usr/bin/python3", "-u", "-S", "-c",
                            ECHO, "8000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"ready\n", p)
        said = p.stderr.readline().decode()
        port = int(re.search(r"port 8000 is published at 127\.0\.0\.1:(\d+)", said).group(1))
        self.assertEqual(talk(port, b"hello"), b"hello")
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=60)
        with socket.socket() as s:
            self.assertEqual(s.connect_ex(("127.0.0.1", port)), errno.ECONNREFUSED)
        self.assertNothingLeft()

    def test_another_brigd_listens_where_the_former_did(self):
        server = Server(self.brig)
        try:
            done = self.brig.call("run", "--detach", "--image", "host", "--name", "s", "-p", "8000", "--",
                                  "/usr/bin/python3", "-u", "-S", "-c", ECHO, "8000")
            self.assertOk(done)
            ports = self.brig.json("inspect", "s")[0]["ports"]
            wait_until("it listens", lambda: "ready" in self.brig.call("logs", "s").text)
            for how in (signal.SIGKILL, signal.SIGHUP):
                pid = next(int(p) for p in hoststate.pids() if hoststate.comm_of(p) == "brigd" and
                           f"PPid:\t{server.process.pid}\n" in hoststate.read(f"/proc/{p}/status"))
                os.kill(pid if how == signal.SIGKILL else server.process.pid, how)
                wait_until("another brigd", lambda: not os.path.exists(f"/proc/{pid}"), 30)
                self.assertEqual(wait_until("it is told", lambda: self.brig.json("inspect", "s"), 30)[0]["ports"],
                                 ports)
                self.assertEqual(talk(ports[0]["host_port"], b"again"), b"again")
            self.assertOk(self.brig.call("rm", "-f", "s"))
        finally:
            server.stop()
        self.assertNothingLeft()
