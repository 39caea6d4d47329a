# SPDX-License-Identifier: Apache-2.0
"""`brig serve` and its HTTP half: start, keys, addresses, and deaths of brig-api beside sandboxes."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess

import brigtest
import hoststate
from brigtest import Brig, Server, wait_until
from servecase import LOOPBACK, ServeCase

# include/brig/ids.h
API_UID = 0x70000001
# Answers an upgrade, then says what it hears.
ECHO = """
import socket
s = socket.create_server(("127.0.0.1", 8080))
while True:
    c, _ = s.accept()
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += c.recv(4096)
    c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n"
              b"Connection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n")
    while data := c.recv(4096):
        c.sendall(data)
    c.close()
"""


class Http(ServeCase):
    """Each test has a server with a data folder of its own, hence keys of its own."""

    # ---- the start ----

    def test_the_first_start_shows_a_key_and_what_to_do_with_it(self):
        self.serve()
        key = self.first_key()
        self.run_hello(key)
        self.assertEqual(self.server.text().count("shown only this once"), 1)
        # The line that it prints is one that works.
        line = self.said(r"(?s)\n    (curl .*?hello.*?')\n").group(1)
        brigtest.need_program("curl")
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False)
        self.assertEqual(json.loads(done.stdout)["stdout"], "hello\n", done.stderr)
        scheme, host, port = self.url()
        for name, value in (("API_KEY", key), ("API_URL", f"{scheme}://{host}:{port}"),
                            ("SANDBOX_URL", f"{scheme}://{host}:{port}")):
            self.assertIn(f"    export E2B_{name}={value}\n", self.server.text())
        self.assertEqual(self.server.stop(), 0)
        # The next one has nothing to show, and the key is still good.
        self.serve()
        self.said("brig key create")
        self.assertNotIn("e2b_", self.server.text())
        self.run_hello(key)

    def test_nobody_is_served_without_a_key(self):
        self.serve()
        body = {"image": "host", "cmd": ["true"]}
        for key in (None, "e2b_" + "0" * 64, "", self.first_key()[:-1]):
            status, answer = self.ask("POST", "/v1/run", body, key)
            self.assertEqual(status, 401, answer)
        # Tenants are made over the operator's socket only.
        for method, path in (("POST", "/v1/tenants"), ("GET", "/v1/tenants"),
                             ("DELETE", "/v1/tenants/x")):
            status, _ = self.ask(method, path, None, self.first_key())
            self.assertEqual(status, 403)

    def test_several_addresses_and_a_taken_one(self):
        self.serve(http=(LOOPBACK, LOOPBACK, "[::1]:0") if socket.has_ipv6 else (LOOPBACK, LOOPBACK))
        self.run_hello(self.first_key())
        port = self.url()[2]
        other = Brig(data=self.tmp / "other")
        other.socket.parent.mkdir(mode=0o711)
        done = other.call("serve", "--http", f"127.0.0.1:{port}", timeout=20)
        self.assertRefused(done, 125, "in use", "remedy: .*--no-http")

    def test_it_can_be_left_out(self):
        self.server = Server(self.brig, "--no-http")
        self.addCleanup(self.server.stop)
        self.assertOk(self.brig.run("--", "true"))
        self.assertIsNone(self.pid_of("brig-api"))
        self.assertFalse((self.brig.socket.parent / "api.sock").exists())
        self.assertRefused(self.brig.call("key", "ls"), 125, "no server speaks HTTP", "brig serve")

    def test_a_server_that_is_started_by_the_way_speaks_no_http(self):
        done = self.brig.call("create", "--image", "host")
        self.assertOk(done)
        self.assertFalse((self.brig.socket.parent / "api.sock").exists())
        pids = [p for p in hoststate.pids() if hoststate.is_ours(p)]
        self.assertNotIn("brig-api", [hoststate.comm_of(p) for p in pids])
        servers = [p for p in pids if hoststate.comm_of(p) == "brig"]
        self.assertEqual(len(servers), 1)
        os.kill(servers[0], signal.SIGTERM)
        wait_until("it ends", lambda: not self.brig.socket.exists())

    # ---- what is refused ----

    def test_addresses_of_other_machines_need_tls(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:7681"):
            done = self.brig.call("serve", "--http", address, timeout=20)
            self.assertRefused(done, 2, "without TLS", "remedy: .*--tls-cert")
        self.assertFalse(self.brig.socket.exists())

    def test_mistakes_are_told_before_anything_starts(self):
        for flags, words in (
                (("--http", "nowhere:80"), "no address and port"),
                (("--http", "127.0.0.1"), "no address and port"),
                (("--http", LOOPBACK) * 5, "more than 4 --http"),
                (("--no-http", "--http", LOOPBACK), "--no-http excludes"),
                (("--http", LOOPBACK, "--tls-cert", "x"), "belong together"),
                (("--http", LOOPBACK, "--domain", "no_host"), "--domain")):
            done = self.brig.call("serve", *flags, timeout=20)
            self.assertRefused(done, 2, words)
            self.assertFalse(self.brig.socket.exists())

    def test_a_folder_of_somebody_else_is_not_used(self):
        brigtest.need_root()
        data = self.tmp / "data"
        self.brig.socket.parent.mkdir(mode=0o711)
        for name, make in (
                ("of another user", lambda: os.chown(self.made(data / "api"), 1000, 1000)),
                ("a link", lambda: (data / "api").symlink_to("/etc"))):
            with self.subTest(name):
                data.mkdir()
                make()
                etc = os.stat("/etc")
                done = self.brig.call("serve", "--http", LOOPBACK, timeout=20)
                self.assertRefused(done, 125, "/api'")
                self.assertEqual((os.stat("/etc").st_uid, os.stat("/etc").st_mode),
                                 (etc.st_uid, etc.st_mode))
                subprocess.run(["rm", "-r", str(data)], check=True)

    @staticmethod
    def made(path):
        path.mkdir()
        return path

    def test_a_data_folder_that_others_can_change_is_refused(self):
        data = self.tmp / "data"
        data.mkdir()
        data.chmod(0o777)
        self.brig.socket.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700)
        done = self.brig.call("serve", "--http", LOOPBACK, timeout=20)
        self.assertRefused(done, 125, "can be changed by others")

    # ---- TLS ----

    def certificate(self):
        brigtest.need_program("openssl")
        cert, key = self.tmp / "cert.pem", self.tmp / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                        "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        key.chmod(0o600)
        return cert, key

    def test_tls(self):
        cert, key = self.certificate()
        self.serve("--tls-cert", cert, "--tls-key", key, "--domain", "sandboxes.example")
        self.assertEqual(self.url()[0], "https")
        self.said(rf"export E2B_DOMAIN=sandboxes\.example:{self.url()[2]}\n")
        self.run_hello(self.first_key(), context=ssl.create_default_context(cafile=str(cert)))
        # The operator's socket speaks plainly.
        self.assertOk(self.brig.call("key", "ls"))
        # Who speaks plainly here is told.
        plain = http.client.HTTPConnection("127.0.0.1", int(self.url()[2]), timeout=10)
        self.addCleanup(plain.close)
        plain.request("GET", "/")
        answer = plain.getresponse()
        self.assertEqual(answer.status, 400)
        self.assertIn(b"https://", answer.read())

    def test_upgrades_over_tls(self):
        cert, key = self.certificate()
        self.serve("--tls-cert", cert, "--tls-key", key)
        context = ssl.create_default_context(cafile=str(cert))
        status, box = self.ask("POST", "/sandboxes", {"templateID": "host"}, self.first_key(),
                               context)
        self.assertEqual(status, 201, box)
        self.assertOk(self.brig.call("exec", "-d", box["sandboxID"], "--", "python3", "-c", ECHO))
        head = (f"GET / HTTP/1.1\r\nHost: localhost\r\nE2b-Sandbox-Id: {box['sandboxID']}\r\n"
                "E2b-Sandbox-Port: 8080\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")

        def upgraded():
            raw = socket.create_connection(("127.0.0.1", int(self.url()[2])), timeout=20)
            s = context.wrap_socket(raw, server_hostname="localhost")
            s.sendall(head.encode())
            if b" 101 " in s.recv(4096):
                return s
            s.close()
            return None
        s = wait_until("the server inside takes connections", upgraded)
        self.addCleanup(s.close)
        sent = os.urandom(20000)
        s.sendall(sent)
        got = b""
        while len(got) < len(sent):
            part = s.recv(65536)
            self.assertTrue(part, f"it ended after {len(got)} bytes")
            got += part
        self.assertEqual(got, sent)

    def test_a_bad_certificate_or_an_open_key_ends_the_start(self):
        cert, key = self.certificate()
        bad = self.tmp / "bad.pem"
        bad.write_text("no certificate\n")
        key.chmod(0o604)
        for given, words in (((cert, key), "open to all users"),
                             ((cert, self.tmp / "none"), "No such file")):
            done = self.brig.call("serve", "--http", LOOPBACK, "--tls-cert", given[0], "--tls-key",
                                  given[1], timeout=20)
            self.assertCode(done, 125)
            self.assertRegex(done.errors, words)
        key.chmod(0o600)
        done = self.brig.call("serve", "--http", LOOPBACK, "--tls-cert", bad, "--tls-key", key,
                              timeout=20)
        self.assertCode(done, 125)
        self.assertRegex(done.errors, "certificate")
        self.assertRegex(done.errors, "before it served HTTP")

    # ---- keys ----

    def test_keys_are_made_listed_and_revoked(self):
        self.serve()
        made = self.brig.call("key", "create", "robot")
        self.assertOk(made)
        key = made.text.strip()
        self.assertRegex(key, r"^e2b_[0-9a-f]{64}$")
        self.run_hello(key)
        listed = self.brig.json("key", "ls")
        self.assertEqual([k["name"] for k in listed], ["first", "robot"])
        self.assertNotIn(key[4:], json.dumps(listed))
        table = self.brig.call("key", "ls")
        self.assertRegex(table.text, r"KEY +NAME +TENANT")
        robot = listed[1]["id"]
        self.assertOk(self.brig.call("key", "revoke", robot))
        self.assertEqual(self.ask("POST", "/v1/run", {"cmd": ["true"]}, key)[0], 401)
        self.assertRefused(self.brig.call("key", "revoke", robot), 125, robot)
        for args in (("create", "a b"), ("revoke", "../boxes"), ("revoke", "a?b")):
            done = self.brig.call("key", *args)
            self.assertRefused(done, 125)
        for args in ((), ("make",), ("revoke",), ("ls", "x"), ("ls", "--tenant", "x")):
            self.assertCode(self.brig.call("key", *args), 2)
        # Its text is nowhere on the disk.
        files = [p for p in (self.tmp / "data" / "api").iterdir() if p.is_file()]
        self.assertTrue(files)
        for path in files:
            data = path.read_bytes()
            self.assertNotIn(key.encode(), data)
            self.assertNotIn(bytes.fromhex(key[4:]), data)

    def test_the_operators_socket_is_the_operators(self):
        self.serve()
        path = self.brig.socket.parent / "api.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(path.stat().st_uid, os.geteuid())
        if os.geteuid() == 0:
            done = subprocess.run(
                ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "python3", "-c",
                 f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"],
                capture_output=True, check=False)
            self.assertIn(b"PermissionError", done.stderr)

    # ---- what brig-api is ----

    def test_it_has_an_id_of_its_own_and_no_rights(self):
        self.serve()
        status = hoststate.read(f"/proc/{self.pid_of('brig-api')}/status")
        want = API_UID if os.geteuid() == 0 else os.geteuid()
        self.assertEqual(set(re.search(r"^Uid:(.*)", status, re.M).group(1).split()), {str(want)})
        for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1",
                     "Seccomp:\t2"):
            self.assertIn(line, status)
        limits = hoststate.read(f"/proc/{self.pid_of('brig-api')}/limits")
        self.assertRegex(limits, r"Max core file size +0 +0 ")
        folder = (self.tmp / "data" / "api").stat()
        self.assertEqual((folder.st_uid, stat.S_IMODE(folder.st_mode)), (want, 0o700))

    # ---- deaths ----

    def test_sandboxes_outlive_brig_api(self):
        self.serve()
        key = self.first_key()
        box = self.brig.call("run", "-d", "--image", "host", "--", "sleep", "1000").text.strip()
        brigd = self.pid_of("brigd")
        scheme, host, port = self.url()
        for _ in range(3):
            api = self.pid_of("brig-api")
            os.kill(api, signal.SIGKILL)
            # A client that connects while nobody is there waits, and is served.
            self.run_hello(key)
            self.another("brig-api", api)
        self.assertEqual(self.pid_of("brigd"), brigd)
        self.assertOk(self.brig.call("exec", box, "--", "true"))
        self.said("brig-api was killed by signal 9; sandboxes go on")
        self.assertEqual(self.url(), (scheme, host, port))
        self.assertEqual(self.server.text().count("shown only this once"), 1)
        self.assertOk(self.brig.call("rm", "--force", box))

    def test_a_run_whose_brig_api_dies_ends(self):
        self.serve()
        key = self.first_key()
        c = http.client.HTTPConnection("127.0.0.1", int(self.url()[2]), timeout=20)
        self.addCleanup(c.close)
        c.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": ["sleep", "1000"]}),
                  {"X-API-Key": key})
        wait_until("its sandbox runs",
                   lambda: [b for b in self.brig.json("ls") if b["state"] == "running"])
        os.kill(self.pid_of("brig-api"), signal.SIGKILL)
        wait_until("its sandbox is gone", lambda: not self.brig.json("ls"))
        with self.assertRaises((http.client.HTTPException, OSError)):
            c.getresponse()

    def test_a_new_brigd_gets_a_new_brig_api(self):
        self.serve()
        key = self.first_key()
        former = {name: self.pid_of(name) for name in ("brigd", "brig-api")}
        os.kill(former["brigd"], signal.SIGKILL)
        for name, pid in former.items():
            self.another(name, pid)
        self.run_hello(key)
        self.said("brigd was killed by signal 9")

    def test_its_end_is_orderly_beside_an_open_request(self):
        self.serve()
        c = http.client.HTTPConnection("127.0.0.1", int(self.url()[2]), timeout=20)
        self.addCleanup(c.close)
        c.request("POST", "/v1/run", json.dumps({"image": "host", "cmd": ["sleep", "1000"]}),
                  {"X-API-Key": self.first_key()})
        wait_until("its sandbox runs",
                   lambda: [b for b in self.brig.json("ls") if b["state"] == "running"])
        self.assertEqual(self.server.stop(), 0)
        answer = json.loads(c.getresponse().read())
        self.assertIn("killed", json.dumps(answer))
        self.assertFalse((self.brig.socket.parent / "api.sock").exists())

    def test_the_death_of_the_supervisor_is_cleared_up_by_the_next(self):
        self.serve()
        key = self.first_key()
        api = self.pid_of("brig-api")
        self.server.process.kill()
        self.server.process.wait()
        self.server = Server(self.brig, "--http", LOOPBACK)
        self.addCleanup(self.server.stop)
        self.said("HTTP on")
        self.assertTrue(not os.path.exists(f"/proc/{api}") or hoststate.is_dead(api),
                        "the former brig-api lives")
        self.run_hello(key)
