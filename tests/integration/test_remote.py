# SPDX-License-Identifier: Apache-2.0
"""The command line against a server elsewhere: every verb, over HTTP and HTTPS, and what must not be
possible that way."""

import hashlib
import http.server
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time

import brigtest
import hoststate
from brigtest import MIB, wait_until
from remotecase import END, REP, RemoteCase, Wire
from test_streams import BLOCK, StreamCases, feed
from test_terminal import TerminalCases

# What brig-api and brig-remote may need beside what they need for one small command.
FLAT = 24 * MIB * (10 if "ASAN_OPTIONS" in os.environ else 1)


class Streams(StreamCases, RemoteCase):
    """What is true of the streams of a local command is true of one elsewhere."""


class Terminals(TerminalCases, RemoteCase):
    tls = True

    def test_exec_has_a_terminal_too(self):
        self.assertOk(self.brig.call("create", "--image", "host", "--name", "shell"))
        t = self.terminal("shell", "sh", "-c", "stty size; read x; echo got $x; exit 8", rows=44,
                          cols=55, verb=("exec",))
        t.expect("44 55")
        t.type("it\n")
        t.expect("got it")
        self.assertEqual(t.wait(), 8)


class VerbCases:
    def create(self, *args):
        done = self.brig.call("create", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    def test_run_and_its_exit_codes(self):
        for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)):
            self.assertCode(self.brig.run("--", "sh", "-c", script), code)
        self.assertCode(self.brig.run("--", "/no/such"), 127)
        self.assertCode(self.brig.run("--", "/etc"), 126)
        self.assertCode(self.brig.run("--timeout", "200ms", "--", "sleep", "60"), 124)
        self.assertRefused(self.brig.call("run", "--image", "nope", "--", "true"), 125, "nope")
        _, status = self.brig.status("--", "sh", "-c", "echo x; exit 3", expect=3)
        self.assertEqual((status["exit_code"], status["stop_reason"], status["usage"]["stdout_bytes"]),
                         (3, "exited", 2))
        self.assertEqual(self.listed(), {})

    def test_environment_and_limits_travel(self):
        done = self.brig.run("-e", "A=b c", "-m", "64m", "--hostname", "far", "--", "sh", "-c",
                             "echo $A; hostname; tail -c 100000000 /dev/zero | wc -c; exit 5")
        self.assertEqual(done.text.split("\n")[:2], ["b c", "far"], str(done))

    def test_a_detached_run_its_logs_and_its_end(self):
        done = self.brig.run("-d", "--name", "job", "--label", "a=b", "--", "sh", "-c",
                             "echo out; echo err >&2; read x < /dev/zero; sleep 100")
        self.assertOk(done)
        box = done.text.strip()
        self.assertEqual(self.brig.json("ls")[0]["name"], "job")
        told = self.listed()[box]
        self.assertEqual((told["name"], told["ends"], told["metadata"], told["state"]),
                         ("job", None, {"a": "b"}, "running"))
        wait_until("it has written", lambda: self.brig.call("logs", "job").out == b"out\n")
        self.assertEqual(self.brig.call("logs", "--stderr", box).err, b"err\n")
        self.assertOk(self.brig.call("kill", "job"))
        wait_until("it has ended", lambda: self.brig.json("ls")[0]["state"] == "exited")
        self.assertEqual(self.brig.call("logs", box[:6]).out, b"out\n")
        self.assertOk(self.brig.call("rm", "job"))
        self.assertEqual((self.listed(), self.brig.json("ls")), ({}, []))

    def test_a_sandbox_that_was_stopped_is_kept_for_its_output(self):
        boxes = [self.brig.run("-d", "--name", name, "--timeout", "300ms", "--", "sh", "-c",
                               "echo out; sleep 100").text.strip() for name in ("one", "two")]
        wait_until("the records say so",
                   lambda: {b["state"] for b in self.listed().values()} == {"stopped"}, 20)
        self.assertEqual(self.ask("GET", f"/sandboxes/{boxes[0]}")[0], 404)
        self.assertEqual(self.ask("GET", "/v2/sandboxes")[1], [])
        self.assertEqual(self.brig.call("logs", "one").out, b"out\n")
        self.assertOk(self.brig.call("rm", "one"))
        self.assertEqual(list(self.listed()), boxes[1:])
        # Removed past brig-api.
        self.assertOk(self.near.call("rm", "two"))
        wait_until("its record is gone", lambda: self.listed() == {}, 20)

    def test_logs_follow(self):
        self.assertOk(self.brig.run("-d", "--name", "talker", "--", "sh", "-c",
                                    "for i in 1 2 3; do echo $i; sleep 0.3; done"))
        self.assertEqual(self.brig.call("logs", "-f", "talker").out, b"1\n2\n3\n")

    def test_a_sandbox_and_what_is_done_in_it(self):
        box = self.create("--name", "work")
        for name in ("work", box, box[:8]):
            self.assertEqual(self.brig.call("exec", name, "--", "echo", "in").out, b"in\n")
        self.assertCode(self.brig.call("exec", "work", "--", "sh", "-c", "exit 9"), 9)
        self.assertEqual(self.brig.json("inspect", "work")[0]["id"], box)
        self.assertEqual([r["id"] for r in self.brig.json("stats", "--no-stream")], [box])
        self.assertEqual([r["id"] for r in self.brig.json("stats", "--no-stream", "work")], [box])
        self.assertOk(self.brig.call("exec", "-d", "work", "--", "sleep", "100"))
        self.assertRefused(self.brig.call("rm", "work"), 125, "runs a command")
        self.assertOk(self.brig.call("pause", "work"))
        self.assertEqual(self.listed()[box]["state"], "paused")
        self.assertRefused(self.brig.call("pause", "work"), 125, "paused already")
        self.assertRefused(self.brig.call("exec", "work", "true"), 125, "is paused")
        self.assertOk(self.brig.call("unpause", "work"))
        self.assertRefused(self.brig.call("unpause", "work"), 125)
        self.assertEqual(self.listed()[box]["state"], "running")
        self.assertRefused(self.brig.call("create", "--image", "host", "--name", "work"), 125, "taken")
        self.assertOk(self.brig.call("rm", "-f", "work"))
        self.assertRefused(self.brig.call("exec", "work", "true"), 125, "no sandbox 'work'")
        self.assertRefused(self.brig.call("inspect", box), 125, "no sandbox")

    def test_cp_both_ways(self):
        box = self.create()
        source, back = self.tmp / "tree", self.tmp / "back"
        (source / "sub").mkdir(parents=True)
        (source / "a").write_bytes(BLOCK * 3)
        (source / "sub" / "empty").write_bytes(b"")
        (source / "link").symlink_to("a")
        self.assertOk(self.brig.call("cp", source, f"{box}:/tmp/tree"))
        self.assertOk(self.brig.call("cp", f"{box}:/tmp/tree", back))
        self.assertEqual((back / "a").read_bytes(), BLOCK * 3)
        self.assertEqual((back / "sub" / "empty").read_bytes(), b"")
        self.assertEqual(os.readlink(back / "link"), "a")

    def test_about_the_server(self):
        told = self.brig.json("version")
        self.assertEqual(told["client"]["version"], told["server"]["version"])
        self.assertNotIn("pid", told["server"])
        doctor = self.brig.json("doctor")
        self.assertTrue(doctor["ok"])
        self.assertIn("guarantee memory", [c["check"] for c in doctor["checks"]])
        self.assertEqual(self.brig.json("pool", "ls"), [])
        self.assertEqual(self.brig.json("image", "ls")[0]["name"], "host")
        self.assertEqual(self.brig.json("image", "inspect", "host")[0]["name"], "host")
        self.assertIn("host", self.brig.call("image", "ls").text)
        self.assertRefused(self.brig.call("image", "inspect", "nope"), 125, "image")
        self.assertIn("complete", self.brig.call("completion", "bash").text)

    def test_flags_before_the_verb(self):
        away = {"BRIG_URL": "", "BRIG_CA_FILE": ""}
        flags = ("--url", self.url, *((f"--cacert={self.ca}",) if self.tls else ()))
        self.assertEqual(self.brig.call(*flags, "run", "--image", "host", "--", "echo", "far",
                                        env=away).out, b"far\n")
        self.assertRefused(self.brig.call("--url", env=away), 2, "value is missing")


class Plain(VerbCases, RemoteCase):
    pass


class Tls(VerbCases, RemoteCase):
    tls = True

    def test_who_signed_the_certificate_must_be_known(self):
        self.assertRefused(self.brig.call("ls", env={"BRIG_CA_FILE": ""}), 125, "certificate",
                           "BRIG_CA_FILE")
        # Of another name.
        self.assertRefused(self.brig.call("ls", env={"BRIG_URL": f"https://127.0.0.1:{self.port}"}),
                           125, "BRIG_CA_FILE")
        self.assertRefused(self.brig.call("ls", env={"BRIG_CA_FILE": self.tmp / "none"}), 125,
                           "read BRIG_CA_FILE")
        bad = self.tmp / "bad"
        bad.write_text("no certificate\n")
        self.assertRefused(self.brig.call("ls", env={"BRIG_CA_FILE": bad}), 125, "BRIG_CA_FILE")

    def test_http_to_a_server_of_https(self):
        self.assertRefused(self.brig.call("ls", env={"BRIG_URL": f"http://localhost:{self.port}"}), 125,
                           "no brig server answers", "check BRIG_URL")


class Refusals(RemoteCase):
    def test_a_volume_does_not_travel(self):
        self.assertRefused(self.brig.run("-v", f"{self.tmp}:/mnt", "--", "true"), 125, "--volume",
                           "remedy: .*brig cp")
        w = Wire(self)
        w.request(op="run", cmd=["true"], spec={"image": "host", "volumes": [
            {"fd": 0, "guest": "/mnt", "readonly": True}]})
        kind, answer = w.answer()
        self.assertEqual((kind, answer["error"]["code"]), (REP, "unsupported_on_this_host"))
        self.assertIn("brig cp", answer["error"]["remediation"])
        self.assertIsNone(w.frame())

    def test_what_is_done_on_the_servers_machine(self):
        for args in (("gc",), ("audit", "ls"), ("tenant", "ls"), ("secret", "rekey"), ("image", "rm", "x"),
                     ("image", "build", "base"), ("image", "import", "x", "y.tar")):
            with self.subTest(args):
                self.assertRefused(self.brig.call(*args), 125, "server's machine only", "remedy: ")

    def test_keys(self):
        for env in ({"BRIG_API_KEY": "e2b_" + "0" * 64}, {"BRIG_API_KEY": "x"}):
            self.assertRefused(self.brig.call("ls", env=env), 125, "not known", "brig key create")
        self.assertRefused(self.brig.call("ls", env={"BRIG_API_KEY": ""}), 125, "no API key")
        self.assertRefused(self.brig.call("ls", env={"BRIG_API_KEY": "a b"}), 125, "API key")
        path = self.tmp / "key"
        path.write_text(self.key + "\n")
        self.assertOk(self.brig.call("ls", env={"BRIG_API_KEY": "", "BRIG_API_KEY_FILE": path}))
        self.assertRefused(self.brig.call("ls", env={"BRIG_API_KEY": "",
                                                     "BRIG_API_KEY_FILE": self.tmp / "none"}), 125,
                           "BRIG_API_KEY_FILE", "No such file")
        # With -o json too it is one error object.
        done = self.brig.call("ls", "-o", "json", env={"BRIG_API_KEY": "x"})
        self.assertEqual((done.code, json.loads(done.out)["code"]), (125, "permission_denied"))

    def test_urls(self):
        for url, words in ((f"https://127.0.0.1:{self.port}", "http://"),
                           ("http://127.0.0.1:1", "brig serve"),
                           ("http://no-such-host.invalid", "clear"),
                           ("https://no-such-host.invalid", "resolve"),
                           ("http://u:p@127.0.0.1", "user or password"),
                           ("ftp://x", "begin with"), ("http://", "host"), ("http://127.0.0.1:0", "port"),
                           ("http://127.0.0.1:99999", "port"), ("http://127.0.0.1/?x", "query"),
                           ("http://a b", "characters"), (f"{self.url}/elsewhere", "404")):
            with self.subTest(url):
                self.assertRefused(self.brig.call("ls", env={"BRIG_URL": url}), 125, words, "remedy: ")

    def test_a_server_that_is_none(self):
        class Web(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, *_):
                pass

        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
        self.addCleanup(web.server_close)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.addCleanup(web.shutdown)
        self.assertRefused(self.brig.call("ls", env={"BRIG_URL": f"http://127.0.0.1:{web.server_port}"}),
                           125, "no brig server answers", "status 200")

    def answers(self, data):
        """The URL of somebody who gives this answer."""
        s = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(s.close)

        def serve():
            try:
                c, _ = s.accept()
                c.recv(65536)
                c.sendall(data)
                c.close()
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{s.getsockname()[1]}"

    def test_another_version(self):
        w = Wire(self, protocol="brig/2")
        self.assertEqual(w.status, 426)
        self.assertEqual(self.ask("GET", "/v1/connect")[0], 426)
        body = json.dumps({"code": "unsupported_on_this_host", "message": "this server speaks brig/9"})
        url = self.answers(f"HTTP/1.1 426 Upgrade Required\r\nContent-Length: {len(body)}\r\n\r\n"
                           f"{body}".encode())
        self.assertRefused(self.brig.call("ls", env={"BRIG_URL": url}), 125, "brig/9", "same version")

    def test_answers_that_make_no_sense(self):
        for data in (b"", b"\0" * 100, b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
                     b"HTTP/1.1 101 X\r\nUpgrade: brig/1\r\n\r\n",
                     b"HTTP/1.1 101 X\r\nUpgrade: brig/1\r\n\r\n" + b"\xff" * 64,
                     b"HTTP/1.1 500 X\r\nContent-Length: 9999\r\n\r\n{"):
            with self.subTest(data):
                done = self.brig.call("ls", env={"BRIG_URL": self.answers(data)})
                self.assertRefused(done, 125)

    def test_a_proxy_is_honoured(self):
        asked = []
        s = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(s.close)

        def pump(a, b):
            try:
                while data := a.recv(65536):
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def serve():
            c, _ = s.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += c.recv(65536)
            asked.append(head.split(b"\r\n")[0])
            to = socket.create_connection(("127.0.0.1", self.port))
            c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=pump, args=(to, c), daemon=True).start()
            pump(c, to)
        threading.Thread(target=serve, daemon=True).start()
        done = self.brig.run("--", "echo", "far",
                             env={"http_proxy": f"http://127.0.0.1:{s.getsockname()[1]}"})
        self.assertEqual(done.out, b"far\n", str(done))
        self.assertEqual(asked, [f"CONNECT 127.0.0.1:{self.port} HTTP/1.1".encode()])

    # ---- frames that no command line sends ----

    def test_requests_that_no_key_may_make(self):
        box = self.brig.call("create", "--image", "host").text.strip()
        for request, code in (({"op": "setenv", "id": box, "env": ["A=b"]}, "unsupported_on_this_host"),
                              ({"op": "connect", "id": box, "port": 80}, "unsupported_on_this_host"),
                              ({"op": "nonsense"}, "unsupported_on_this_host"),
                              ({}, "invalid_argument"), ({"op": 1}, "invalid_argument"),
                              ({"op": "exec", "cmd": ["true"]}, "invalid_argument"),
                              ({"op": "exec", "id": "", "cmd": ["true"]}, "invalid_argument"),
                              ({"op": "ls", "x": 1}, "invalid_argument"),
                              ({"op": "run", "cmd": ["true"], "spec": 1}, "invalid_argument"),
                              ({"op": "create", "spec": {"image": "host", "labels": 1}},
                               "invalid_argument"),
                              ({"op": "inspect", "id": "nope"}, "not_found")):
            with self.subTest(request):
                w = Wire(self)
                w.request(**request)
                kind, answer = w.answer()
                self.assertEqual((kind, answer["error"]["code"]), (REP, code), answer)
                self.assertRegex(answer["error"]["details"]["request_id"], "^[0-9a-f]{16}")
                self.assertIsNone(w.frame())

    def test_frames_out_of_place(self):
        box = self.brig.call("create", "--image", "host").text.strip()

        def first(send):
            w = Wire(self)
            send(w)
            kind, answer = w.answer()
            self.assertEqual((kind, "error" in answer), (REP, True), answer)
            self.assertIsNone(w.frame())
        first(lambda w: w.send(18, b"x", stream=1))
        first(lambda w: w.send(0x101, b"{}", flags=1))
        first(lambda w: w.send(0x101, b"{}", stream=1))
        first(lambda w: w.send(0x101, b"not json"))
        first(lambda w: w.send(0x101, b"[" * 5000))
        first(lambda w: w.send(0x101, size=1 << 30))
        first(lambda w: w.sock.sendall(b"\xff" * 4096))
        bad = {"exec": ((0x101, b"{}", 0, 0), (16, b"x" * 64, 0, 1), (18, b"x", 0, 2), (21, b"x", 0, 1),
                        (6, b"x" * 8, 1, 1), (7, b"x", 0, 1), (5, b"", 0, 0), (999, b"", 0, 1)),
               "fs": ((42, b"\0" * 40, 0, 1), (32, b"", 0, 1),
                      (32, b"\0" * 40, 0, 0), (64, b"\0" * 4, 0, 1), (18, b"x", 0, 1)),
               "logs": ((18, b"x", 0, 1), (7, b"", 0, 1))}
        self.assertOk(self.brig.run("-d", "--name", "noted", "--", "sleep", "100"))
        for op, frames in bad.items():
            for kind, payload, flags, stream in frames:
                with self.subTest(f"{op} {kind}"):
                    w = Wire(self)
                    more = {"exec": {"id": box, "cmd": ["sleep", "100"], "stdin": True},
                            "fs": {"id": box}, "logs": {"id": "noted", "follow": True}}[op]
                    w.request(op=op, **more)
                    got, answer = w.answer()
                    self.assertEqual((got, list(answer)), (REP, ["ok"]))
                    w.send(kind, payload, flags, stream)
                    got, answer = w.answer()
                    self.assertEqual((got, answer["error"]["code"]), (END, "protocol_violation"))
        # What they had started has ended with them.
        wait_until("nothing runs", lambda: self.brig.json("inspect", box)[0]["execs"] == [])

    def test_a_client_that_says_nothing_or_leaves(self):
        for _ in range(20):
            Wire(self).sock.close()
        w = Wire(self)
        w.request(op="create", spec={"image": "host"})
        w.sock.close()  # nobody learns its id
        quiet = Wire(self)
        start = time.monotonic()
        self.assertIsNone(quiet.frame())
        self.assertGreater(time.monotonic() - start, 5)
        wait_until("what nobody knows is gone",
                   lambda: set(self.near.call("ls", "-q").text.split()) == set(self.listed()))


class Tenants(RemoteCase):
    """A key reaches what its tenant made, and nothing else."""

    def test_others_do_not_exist(self):
        other = {"BRIG_API_KEY": self.other_key("stranger")}
        box = self.brig.call("create", "--image", "host", "--name", "mine").text.strip()
        near = self.near.call("create", "--image", "host", "--name", "local").text.strip()
        theirs = self.ask("POST", "/v2/sandboxes", {"templateID": "host"})[1]["sandboxID"]
        self.assertEqual({r["id"] for r in self.brig.json("ls")}, {box, theirs})
        self.assertEqual(self.brig.call("exec", theirs, "--", "echo", "x").out, b"x\n")
        self.assertEqual(self.brig.json("ls", env=other), [])
        self.assertEqual(self.brig.json("stats", "--no-stream", env=other), [])
        self.assertEqual(self.listed(other["BRIG_API_KEY"]), {})
        for env, names in ((other, ("mine", box, box[:8], theirs)), ({}, ("local", near, near[:8]))):
            for name in names:
                for args in (("inspect", name), ("exec", name, "true"), ("rm", "-f", name),
                             ("pause", name), ("kill", name), ("logs", name), ("stats", name),
                             ("cp", f"{name}:/etc/passwd", self.tmp / "x"), ("unpause", name)):
                    with self.subTest((name, args[0])):
                        self.assertRefused(self.brig.call(*args, env=env), 125, "no sandbox")
        self.assertEqual(len(self.near.json("ls")), 3)

    def test_a_role_bounds_what_a_command_line_may(self):
        self.assertOk(self.brig.call("create", "--image", "host", "--name", "b", "-e", "A=secret"))

        def key(role):
            made = self.near.json("key", "create", "test", "--role", role)
            self.addCleanup(self.near.call, "key", "revoke", made["id"])
            return {"BRIG_API_KEY": made["key"]}
        runs, reads = key("run-only"), key("read-only")
        self.assertEqual(self.brig.run("--", "echo", "x", env=runs).out, b"x\n")
        for env, lacks in ((runs, {"ls": "sandboxes:read", "inspect b": "sandboxes:read",
                                   "run -d --image host -- true": "sandboxes:write",
                                   "create --image host": "sandboxes:write", "version": "server:read",
                                   "image ls": "templates:read"}),
                           (reads, {"run --image host -- true": "run", "exec b true": "files",
                                    "rm -f b": "sandboxes:write", "pause b": "sandboxes:write",
                                    "cp b:/etc/passwd -": "files", "logs b": "files"})):
            for words, name in lacks.items():
                with self.subTest(words):
                    self.assertRefused(self.brig.call(*words.split(), env=env), 125, name, "remedy: ")
        for words in ("ls", "stats --no-stream", "version", "pool ls", "image ls"):
            self.assertOk(self.brig.call(*words.split(), env=reads))
        self.assertNotIn("env", self.brig.json("inspect", "b", env=reads)[0])
        self.assertIn("A=secret", self.brig.json("inspect", "b")[0]["env"])

    def test_a_network_is_within_what_the_tenant_may(self):
        box = self.brig.call("create", "--image", "host", "--net", "deny").text.strip()
        probe = "import socket; s = socket.create_connection(('45.33.32.10', 80)); s.send(b'?\\n\\n'); s.recv(1)"
        self.assertNotEqual(self.brig.call("exec", box, "--", "/usr/bin/python3", "-c", probe).code, 0)
        told = wait_until("the refusal is told", lambda: self.brig.json("why", box)["denials"])
        self.assertEqual((told[-1]["reason"], told[-1]["address"]), ("not_allowed", "45.33.32.10"))
        status, body = self.ask("GET", f"/v1/sandboxes/{box}/denials")[:2]
        self.assertEqual((status, body["denials"], body["network"]["mode"]), (200, told, "deny"))
        self.assertOk(self.brig.call("net", box, "--allow", "a.example:443"))
        self.assertEqual(self.brig.call("net", box).text, "net deny\nallow a.example:443\n")
        # What the operator protects is not the client's to open, nor is anybody else's budget his to spend.
        for args in (("net", box, "--grant", "10.0.0.0/8"),
                     ("create", "--image", "host", "--net", "deny", "--grant", "10.0.0.0/8")):
            self.assertRefused(self.brig.call(*args), 125, "grant", "operator")
        w = Wire(self)
        w.request(op="create", spec={"image": "host", "network": {"mode": "deny", "tenant": "b"}})
        self.assertEqual(w.answer()[1]["error"]["code"], "invalid_argument")
        other = {"BRIG_API_KEY": self.other_key("other")}
        self.assertOk(self.near.call("tenant", "set", "other", "--network", "deny"))
        for verb in ("why", "net"):
            self.assertRefused(self.brig.call(verb, box, env=other), 125, "no sandbox")
        self.assertRefused(self.brig.run("--net", "public", "--", "true", env=other), 125, "policy")
        theirs = self.brig.call("create", "--image", "host", "--net", "deny", env=other).text.strip()
        self.assertRefused(self.brig.call("net", theirs, "--net", "public", env=other), 125, "policy")
        self.assertEqual(self.brig.call("net", theirs, env=other).text, "net deny\n")
        self.assertEqual(self.ask("GET", f"/v1/sandboxes/{theirs}/denials")[0], 404)
        self.assertOk(self.brig.call("rm", "-f", theirs, env=other))

    def test_keys_and_secrets_are_managed_from_elsewhere(self):
        made = self.brig.json("key", "create", "far", "--role", "run-only")
        self.addCleanup(self.near.call, "key", "revoke", made["id"])
        self.assertIn(made["id"], [k["id"] for k in self.near.json("key", "ls")])
        self.assertEqual(self.brig.json("key", "ls"), self.near.json("key", "ls"))
        runs = {"BRIG_API_KEY": made["key"]}
        for words in ("key ls", "key create x", f"key revoke {made['id']}", "secret ls", "secret rm x"):
            with self.subTest(words):
                self.assertRefused(self.brig.call(*words.split(), env=runs), 125, "permission|may not|role",
                                   "remedy: ")
        new = self.brig.json("key", "rotate", made["id"])
        self.assertEqual(self.brig.run("--", "echo", "x", env={"BRIG_API_KEY": new["key"]}).out, b"x\n")
        self.assertOk(self.brig.call("key", "revoke", new["id"]))
        self.assertRefused(self.brig.call("ls", env={"BRIG_API_KEY": new["key"]}), 125, "revoked")
        value = secrets.token_hex(16)
        self.assertOk(self.brig.call("secret", "set", "FAR", input=value.encode()))
        listed = self.brig.call("secret", "ls", "-o", "json")
        self.assertIn("FAR", listed.text)
        self.assertNotIn(value, listed.text)
        self.assertEqual(listed.text, self.near.call("secret", "ls", "-o", "json").text)
        self.assertOk(self.brig.call("secret", "rm", "FAR"))
        self.assertRefused(self.brig.call("key", "ls", env={"BRIG_URL": "http://127.0.0.1:1"}), 125,
                           "127.0.0.1:1", "refused|connect")

    def test_the_server_keeps_a_record_of_who_did_what(self):
        def records():
            folder = self.folder / "data" / "api" / "audit"
            return [json.loads(line) for f in sorted(folder.glob("*.jsonl"))
                    for line in f.read_text().splitlines()]
        before = len(records())
        self.assertCode(self.brig.run("--", "sh", "-c", "exit 3"), 3)
        box = self.brig.call("create", "--image", "host", "--name", "noted").text.strip()
        self.brig.call("ls")
        self.brig.call("exec", "noted", "true")
        self.brig.call("rm", "noted")
        self.brig.call("rm", "noted")
        told = [r for r in records()[before:] if r.get("tenant") == "default"]
        self.assertEqual([(r["what"], r["outcome"]) for r in told],
                         [("run", "ok"), ("create", "ok"), ("exec", "ok"), ("kill", "ok"),
                          ("kill", "refused")], told)
        self.assertEqual({r["id"] for r in told[1:4]}, {box})
        self.assertTrue(all(r["key"] and r["request_id"] for r in told), told)
        events = self.near.call("audit", "verify")
        self.assertOk(events)

    def events_of(self, box, last):
        """What GET /v1/events tells of one sandbox up to an event of a type."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.addCleanup(s.close)
        s.sendall(f"GET /v1/events?cursor=oldest&sandbox={box} HTTP/1.1\r\nHost: x\r\n"
                  f"X-API-Key: {self.key}\r\n\r\n".encode())
        text = ""
        while f"event: sandbox.{last}" not in text:
            part = s.recv(65536)
            self.assertTrue(part, text)
            text += part.decode()
        return re.findall(r"event: sandbox\.(\w+)", text), text

    def test_what_happens_is_told_as_events(self):
        box = self.brig.call("create", "--image", "host", "--name", "e").text.strip()
        for args in (("pause", "e"), ("unpause", "e"), ("rm", "-f", "e")):
            self.assertOk(self.brig.call(*args))
        types, _ = self.events_of(box, "removed")
        self.assertEqual(types, ["created", "ready", "paused", "resumed", "stopped", "removed"])
        _, status = self.brig.status("--", "sh", "-c", "exit 3", expect=3)
        types, text = self.events_of(status["id"], "removed")
        self.assertEqual(types, ["created", "ready", "stopped", "removed"])
        self.assertRegex(text, r'"reason": ?"ended"')

    def test_a_foreground_run_is_seen_and_can_be_ended(self):
        p = self.start(self.brig, "--name", "front", "--", "sh", "-c", "echo ready; exec sleep 100")
        (box, told), = self.listed().items()
        self.assertEqual((told["name"], told["state"]), ("front", "running"))
        self.assertEqual(self.ask("DELETE", f"/v1/sandboxes/{box}")[0], 204)
        self.assertEqual(p.wait(10 * brigtest.SLOW), 137)
        self.assertEqual(self.listed(), {})


class Ends(RemoteCase):
    def test_a_killed_client_ends_its_run(self):
        for sig in (signal.SIGKILL, signal.SIGTERM):
            p = self.start(self.brig, "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"
                           if sig == signal.SIGKILL else "echo ready; exec sleep 100")
            p.send_signal(sig)
            p.wait(10 * brigtest.SLOW)
            wait_until("the sandbox is gone", lambda: self.near.json("ls") == [])
            wait_until("its record is gone", lambda: self.listed() == {})

    def test_a_killed_brig_remote(self):
        p = self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 100")
        (pid,) = hoststate.brig_pids("brig-remote")
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(p.wait(10 * brigtest.SLOW), 125)
        self.assertRegex(p.stderr.read().decode(), "brig: .*ended without a word")
        wait_until("the sandbox is gone", lambda: self.near.json("ls") == [])

    def test_no_remote_stays_behind(self):
        for _ in range(3):
            self.assertOk(self.brig.run("--", "true"))
        wait_until("none is left", lambda: not hoststate.brig_pids("brig-remote"))


class Restart(RemoteCase):
    """brig-api dies, and another takes over."""

    def setUp(self):
        brigtest.need_root()
        super().setUp()

    def left(self, within):
        # The brig-api that took over is another process than the one before.
        left = super().left(within)
        others = [x for x in left.pop("process", ()) if " brig-api " not in x]
        return {**left, **({"process": others} if others else {})}

    def kill_api(self):
        pid = self.api_pid()
        os.kill(pid, signal.SIGKILL)

        def healthy():
            try:
                return self.api_pid() not in (None, pid) and self.ask("GET", "/healthz")[0] == 200
            except OSError:
                return False
        wait_until("another serves", healthy, 20)

    def test_the_client_is_told_and_the_sandbox_ends(self):
        p = self.start(self.brig, "--", "sh", "-c", "echo ready; exec sleep 100")
        self.kill_api()
        self.assertEqual(p.wait(10 * brigtest.SLOW), 125)
        error = p.stderr.read().decode()
        self.assertRegex(error, "brig: the connection to the server was lost")
        self.assertEqual(error.count("brig: "), 1, error)
        wait_until("it is gone", lambda: self.near.json("ls") == [])
        self.assertEqual(self.listed(), {})

    def test_records_are_taken_over(self):
        box = self.brig.call("create", "--image", "host", "--name", "stays").text.strip()
        done = self.brig.run("-d", "--name", "ended", "--timeout", "300ms", "--", "sh", "-c",
                             "echo kept; sleep 100").text.strip()
        wait_until("it has ended", lambda: self.brig.json("inspect", done)[0]["state"] == "stopped")
        before = self.listed()
        self.kill_api()
        after = self.listed()
        self.assertEqual(set(after), {box, done})
        self.assertEqual(after[done]["state"], "stopped")
        self.assertEqual(after[box], before[box])
        self.assertEqual(self.brig.call("logs", "ended").out, b"kept\n")
        self.assertOk(self.brig.call("rm", "-f", "stays", "ended"))
        self.assertEqual(self.near.json("ls"), [])


class Memory(RemoteCase):
    tls = True

    def high_water(self):
        """Of brig-api and of the one brig-remote."""
        return {name: max(self.peak(pid) for pid in hoststate.brig_pids(name))
                for name in ("brig-api", "brig-remote")}

    @staticmethod
    def peak(pid):
        found = re.search(r"VmHWM:\s+(\d+)", hoststate.read(f"/proc/{pid}/status"))
        return int(found.group(1)) * 1024 if found else 0

    def test_much_flows_in_flat_memory(self):
        p = self.start(self.brig, "--timeout", "10m", "--max-output", "2g", "--", "sh", "-c",
                       "echo ready; head -c 1000; exec cat", stdin=subprocess.PIPE)
        p.stdin.write(b"x" * 1000)
        p.stdin.flush()
        left = 1000
        while left:
            left -= len(p.stdout.read(left))
        before = self.high_water()
        thread, sent = feed(p.stdin, 256)
        got, n = hashlib.sha256(), 0
        while data := p.stdout.read(MIB):
            got.update(data)
            n += len(data)
            # While it still flows: a process that has ended has no figures.
            if 128 * MIB <= n <= 224 * MIB and n % (16 * MIB) < MIB:
                after = self.high_water()
        thread.join()
        self.assertEqual((p.wait(30 * brigtest.SLOW), n), (0, 256 * MIB), p.stderr.read())
        self.assertEqual(got.hexdigest(), sent.hexdigest())
        for name, peak in after.items():
            self.assertLess(peak - before[name], FLAT, name)

    def test_a_client_that_does_not_read_costs_nothing(self):
        p = self.start(self.brig, "--max-output", "2g", "--", "sh", "-c", "echo ready; exec cat /dev/zero")
        before = self.high_water()
        time.sleep(1)
        after = self.high_water()
        time.sleep(1)
        self.assertEqual(self.high_water(), after)
        for name, peak in after.items():
            self.assertLess(peak - before[name], FLAT, name)
        p.kill()
        wait_until("the sandbox is gone", lambda: self.near.json("ls") == [])
