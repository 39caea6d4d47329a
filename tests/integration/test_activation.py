# SPDX-License-Identifier: Apache-2.0
"""Sockets that a service manager hands over, what it is told, and an end with requests under way."""

import configparser
import http.client
import json
import os
import re
import signal
import socket
import threading
import time

import hoststate
from activator import Activator
from brigtest import SLOW, SOURCE, Brig, TestCase, wait_until
from servecase import LOOPBACK, ServeCase


class Activated(TestCase):
    def setUp(self):
        super().setUp()
        self.tmp.chmod(0o711)
        self.brig = Brig(data=self.tmp / "data")
        self.brig.socket.parent.mkdir(parents=True)
        self.brig.socket.parent.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self.manager = Activator(self.tmp)
        self.addCleanup(self.manager.close)
        self.log = []

    def start(self, *args, **kw):
        self.process = self.manager.start(self.brig, *args, **kw)
        self.addCleanup(self.stop)

    def ready(self):
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.assertEqual(self.manager.heard(30 * SLOW), "READY=1")

    def read(self):
        for line in self.process.stdout:
            self.log.append(line.decode(errors="replace"))

    def text(self):
        return "".join(self.log)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30 * SLOW)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()

    def refused(self, *words):
        out, _ = self.process.communicate(timeout=20 * SLOW)
        self.assertNotEqual(self.process.returncode, 0)
        for word in words:
            self.assertRegex(out.decode(), word)

    def key(self):
        return wait_until("a key is shown",
                          lambda: re.search(r"\n    (e2b_[0-9a-f]{64})\n", self.text())).group(1)

    def run_hello(self, sock, key):
        host, port = sock.getsockname()[:2]
        c = http.client.HTTPConnection(host, port, timeout=30)
        try:
            c.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": ["echo", "hello"]}),
                      {"X-API-Key": key})
            answer = json.loads(c.getresponse().read())
        finally:
            c.close()
        self.assertEqual(answer["stdout"], "hello\n", answer)

    def test_both_sockets_are_taken_and_the_manager_is_told(self):
        web = self.manager.tcp()
        self.manager.unix(self.brig.socket)
        self.start()
        self.ready()
        self.run_hello(web, self.key())
        self.assertOk(self.brig.run("--", "true"))
        self.assertIn("on the sockets of the service manager", self.text())
        # Nobody it started believes that sockets are meant for it.
        for pid in hoststate.pids():
            if f"PPid:\t{self.process.pid}\n" in hoststate.read(f"/proc/{pid}/status"):
                environ = hoststate.read(f"/proc/{pid}/environ")
                self.assertNotIn("LISTEN_", environ)
                self.assertNotIn("NOTIFY_", environ)
        inode = os.stat(self.brig.socket).st_ino
        self.assertEqual(self.stop(), 0)
        self.assertEqual(self.manager.heard(1), "STOPPING=1")
        # The name is the manager's; a second server takes the same sockets, and serves who waited.
        self.assertEqual(os.stat(self.brig.socket).st_ino, inode)
        waiting = self.brig.popen("run", "--image", "host", "--", "echo", "waited")
        self.start()
        self.ready()
        self.assertEqual(waiting.communicate(timeout=30 * SLOW)[0], b"waited\n")

    def test_http_alone_and_names_that_say_nothing(self):
        web = self.manager.tcp(name="unknown")
        self.start()
        self.ready()
        self.run_hello(web, self.key())
        self.assertOk(self.brig.run("--", "true"))

    def test_the_unix_socket_says_where_it_is(self):
        self.manager.unix(self.brig.socket)
        del self.brig.env["BRIG_SOCKET"]
        self.start("--no-http")
        self.ready()
        self.brig.env["BRIG_SOCKET"] = str(self.brig.socket)
        self.assertOk(self.brig.run("--", "true"))

    def test_an_idle_end_leaves_the_socket_to_the_manager(self):
        self.manager.unix(self.brig.socket)
        self.start("--no-http", "--idle-exit", "200ms")
        self.ready()
        self.assertEqual(self.process.wait(20 * SLOW), 0)
        self.assertTrue(self.brig.socket.exists())

    def test_without_tls_only_loopback(self):
        self.manager.tcp(host="0.0.0.0")
        self.start()
        self.refused("a socket of the service manager has an address that other machines reach",
                     "remedy: give --tls-cert")

    def test_what_does_not_fit_is_refused(self):
        def sockets():
            datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            datagram.bind(("127.0.0.1", 0))
            connected, other = socket.socketpair()
            self.addCleanup(other.close)
            yield "http", datagram, "is no listening stream socket", "remedy: use ListenStream="
            yield "http", connected, "is no listening stream socket", "Accept=no"
            quiet = socket.socket()
            quiet.bind(("127.0.0.1", 0))
            yield "http", quiet, "is no listening stream socket"
            web = socket.socket(socket.AF_UNIX)
            web.bind(str(self.tmp / "web"))
            web.listen()
            # Whoever may open it would need no key.
            yield "http", web, "'http' of the service manager is no TCP socket", "named 'brigd'"
            yield "brigd", socket.create_server(("127.0.0.1", 0)), "is no unix socket"
            hidden = socket.socket(socket.AF_UNIX)
            hidden.bind("\0brig-test-" + self.tmp.name)
            hidden.listen()
            yield "brigd", hidden, "has no path", "absolute path"
            elsewhere = socket.socket(socket.AF_UNIX)
            elsewhere.bind(str(self.tmp / "elsewhere"))
            elsewhere.listen()
            yield "brigd", elsewhere, "the service manager listens on .*, and --socket is", "same path"
        for name, sock, *words in sockets():
            with self.subTest(name=name, words=words):
                manager = self.manager
                manager.sockets, manager.names = [sock], [name]
                args = ("--socket", self.brig.socket) if "listens" in words[0] else ()
                self.start(*args)
                self.refused(*words)
                sock.close()
        manager.sockets, manager.names = [], []

    def test_more_than_there_is_and_more_than_it_takes(self):
        self.manager.tcp()
        self.start(count=2)
        self.refused("descriptor 4 of the service manager")
        self.start(count=6)
        self.refused("hands over 6 sockets, and brig takes 5")

    def test_http_that_is_switched_off_is_no_place_for_sockets(self):
        self.manager.tcp()
        self.start("--no-http")
        self.refused("hands over sockets for HTTP, which is switched off", "remedy: take ListenStream=")

    def test_variables_for_another_process_mean_nothing(self):
        self.manager.tcp(host="0.0.0.0")  # which would be refused
        self.start("--http", LOOPBACK, wrong_pid=1)
        self.ready()
        self.assertOk(self.brig.run("--", "true"))
        self.assertNotIn("service manager", self.text())

    def test_the_unit_files(self):
        folder = SOURCE / "deploy" / "systemd"
        names = {}
        for path in sorted(folder.iterdir()):
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.optionxform = str
            unit.read(path)
            if path.suffix == ".socket":
                names[unit["Socket"]["FileDescriptorName"]] = unit["Socket"]
                self.assertEqual(unit["Socket"]["Service"], "brig.service")
            else:
                self.assertEqual(unit["Service"]["Type"], "notify")
                self.assertIn("serve", unit["Service"]["ExecStart"])
        self.assertEqual(set(names), {"brigd", "http"})
        self.assertEqual(names["brigd"]["SocketMode"], "0600")
        # With what they listen on the server starts.
        self.assertEqual(names["brigd"]["ListenStream"], "/run/brig/brigd.sock")
        self.assertTrue(names["http"]["ListenStream"].startswith("127.0.0.1:"))


class Grace(ServeCase):
    """What is under way when the end is asked for."""

    def begin(self, *argv):
        """A request that is being answered."""
        c = http.client.HTTPConnection("127.0.0.1", int(self.url()[2]), timeout=60)
        self.addCleanup(c.close)
        c.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": argv}),
                  {"X-API-Key": self.first_key(), "Accept": "application/x-ndjson"})
        answer = c.getresponse()
        while b"stdout" not in (line := answer.readline()):
            self.assertTrue(line, "it ended before it said anything")
        return c, answer

    def end(self, n=1):
        for _ in range(n):
            self.server.process.send_signal(signal.SIGTERM)

    def refuses(self):
        with socket.socket() as s:
            s.settimeout(5)
            return s.connect_ex(("127.0.0.1", int(self.url()[2]))) != 0

    def test_a_request_finishes_and_nobody_else_comes(self):
        self.serve("--shutdown-grace", "60s")
        _, answer = self.begin("sh", "-c", "echo one; sleep 2; echo two")
        local = self.start(self.brig, "--", "sh", "-c", "echo ready; sleep 2; echo done")
        self.end()
        wait_until("new connections are refused", self.refuses)
        self.assertFalse(self.brig.socket.exists())
        rest = answer.read().decode()
        self.assertIn("two", rest)
        self.assertIn('"exit_code":0', rest)
        self.assertEqual(local.communicate(timeout=30 * SLOW)[0], b"done\n")
        self.assertEqual(self.server.ended(timeout=30), 0)

    def test_a_kept_connection_gets_no_more_answers(self):
        self.serve("--shutdown-grace", "60s")
        port, key = int(self.url()[2]), self.first_key()
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.addCleanup(kept.close)
        kept.request("GET", "/v1/version", headers={"X-API-Key": key})
        self.assertEqual(kept.getresponse().read()[:1], b"{")
        _, answer = self.begin("sh", "-c", "echo one; sleep 4; echo two")
        self.end()
        wait_until("new connections are refused", self.refuses)
        kept.request("GET", "/v1/version", headers={"X-API-Key": key})
        refusal = kept.getresponse()
        self.assertEqual(refusal.status, 503)
        self.assertIn("the server is ending", refusal.read().decode())
        self.assertIn("two", answer.read().decode())
        self.assertEqual(self.server.ended(timeout=30), 0)

    def test_after_the_time_streams_are_told(self):
        self.serve("--shutdown-grace", "1s")
        _, answer = self.begin("sh", "-c", "echo one; exec sleep 1000")
        begin = time.monotonic()
        self.end()
        last = json.loads(answer.read().splitlines()[-1])
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.assertIn("kill", json.dumps(last))
        self.assertEqual(self.server.ended(timeout=20), 0)

    def test_a_second_signal_hastens(self):
        self.serve("--shutdown-grace", "1h")
        _, answer = self.begin("sh", "-c", "echo one; exec sleep 1000")
        self.end()
        wait_until("new connections are refused", self.refuses)
        self.assertIsNone(self.server.process.poll())
        self.end()
        last = json.loads(answer.read().splitlines()[-1])
        self.assertIn("kill", json.dumps(last))
        self.assertEqual(self.server.ended(timeout=20), 0)

    def test_an_idle_server_does_not_wait(self):
        self.serve("--shutdown-grace", "1h")
        self.run_hello(self.first_key())
        self.assertOk(self.brig.call("run", "-d", "--image", "host", "--", "sleep", "1000"))
        self.end()
        self.assertEqual(self.server.ended(timeout=20), 0)
