# SPDX-License-Identifier: Apache-2.0
"""Commands of a sandbox through E2B's data plane: what its clients rely on, and what they never try."""

import json
import os
import time

import brigtest
from brigtest import wait_until
from e2bwire import CONNECT, GROWTH, Box, PlaneCase, Ran, b64, message

SELECT = "process.Process/"


class Processes(PlaneCase):
    def setUp(self):
        super().setUp()
        self.box = Box(self, envVars={"FOO": "bar"})

    def send(self, method, expect=200, **kw):
        status, answer = self.box.rpc(SELECT + method, kw)
        self.assertEqual(status, expect, answer)
        return answer

    def input(self, pid, data, kind="stdin", expect=200):
        return self.send("SendInput", expect, process={"pid": pid}, input={kind: b64(data)})

    def pids(self):
        return [p["pid"] for p in self.send("List")["processes"]]

    # ---- the life of a command ----

    def test_output_and_end_arrive_in_order(self):
        r = self.box.sh("echo out; echo err >&2; exit 3")
        self.assertEqual((r.first, r.out, r.err), ("start", b"out\n", b"err\n"))
        self.assertEqual(r.end, {"exitCode": 3, "exited": True, "status": "exit status 3",
                                 "error": "exit status 3"})
        self.assertTrue(r.ended)
        self.assertIsNone(r.error)
        self.assertEqual(self.box.sh("true").end,
                         {"exitCode": 0, "exited": True, "status": "exit status 0"})
        self.assertEqual(self.box.sh("kill -9 $$").end,
                         {"exitCode": -1, "exited": False, "status": "signal: killed",
                          "error": "signal: killed"})

    def test_the_environment_is_that_of_box_and_command(self):
        text = "echo $FOO $BAR $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID; pwd; id -un"
        r = self.box.sh(text, envs={"BAR": "x"})
        self.assertEqual(r.out.decode(), f"bar x true {self.box.id} host\n/home/user\nuser\n")
        self.assertEqual(self.box.sh("echo $FOO", envs={"FOO": "mine"}).out, b"mine\n")
        self.assertEqual(self.box.sh("pwd; id -un", user="root").out, b"/root\nroot\n")
        self.assertEqual(self.box.sh("pwd; id -un", user="root", cwd="/tmp").out, b"/tmp\nroot\n")
        self.box.sh("mkdir below")
        self.assertEqual(self.box.sh("pwd", cwd="below").out, b"/home/user/below\n")

    def test_a_start_that_fails_says_why(self):
        for kw, code, text in (({"cwd": "/nope"}, "invalid_argument", "cwd '/nope' does not exist"),
                               ({"user": "nosuch"}, "unauthenticated", "invalid username: 'nosuch'"),
                               ({"user": "a b"}, "unauthenticated", "invalid username: 'a b'")):
            r = self.box.sh("true", **kw)
            self.assertIsNone(r.first)
            self.assertEqual((r.error["code"], r.error["message"]), (code, text))
            self.assertTrue(r.error["remediation"])
        r = Ran(self.box.start("/no/such/program"))
        self.assertEqual(r.error["code"], "invalid_argument")
        self.assertEqual(self.pids(), [])

    def test_a_command_has_no_limit_but_its_deadline(self):
        begin = time.monotonic()
        r = self.box.sh("sleep 300 & echo $!; wait", Connect_Timeout_Ms="700")
        self.assertLess(time.monotonic() - begin, 20 * brigtest.SLOW)
        self.assertEqual(r.error["code"], "deadline_exceeded")
        # The command, not only its stream.
        wait_until("it is gone", lambda: not self.pids())
        self.assertEqual(self.box.sh(f"kill -0 {r.pid}").end["exitCode"], 1)

    def test_a_mebibyte_arrives_whole(self):
        r = self.box.sh("head -c 1048576 /dev/zero | base64 -w0")
        self.assertEqual(len(r.out), 1398104)
        self.assertEqual(set(r.out), {ord("A"), ord("=")})

    # ---- listeners ----

    def test_a_command_outlives_who_started_it(self):
        pid, stream = self.box.started("/bin/bash", "-c", "read x; echo got $x; exit 4", stdin=True)
        other = self.box.stream(CONNECT, {"process": {"pid": pid}})
        self.assertEqual(other.next()["event"]["start"]["pid"], pid)
        stream.close()
        self.input(pid, b"this\n")
        r = Ran(other)
        self.assertEqual((r.out, r.end["exitCode"]), (b"got this\n", 4))
        # Who comes late still learns how it ended.
        late = Ran(self.box.stream(CONNECT, {"process": {"pid": pid}}))
        self.assertEqual((late.first, late.end["exitCode"]), ("start", 4))
        error = Ran(self.box.stream(CONNECT, {"process": {"pid": 99999}})).error
        self.assertEqual((error["code"], error["message"]),
                         ("not_found", "process with pid 99999 not found"))

    def test_output_that_nobody_reads_holds_nothing_up(self):
        _, stream = self.box.started("/bin/bash", "-c",
                                     "head -c 100000000 /dev/zero; touch /tmp/done")
        stream.close()
        wait_until("it went on", lambda: self.box.rpc("filesystem.Filesystem/Stat",
                                                      {"path": "/tmp/done"})[0] == 200, 30)

    def test_a_slow_listener_holds_no_other_up(self):
        pid, slow = self.box.started("/bin/bash", "-c", "read; head -c 20000000 /dev/zero",
                                     stdin=True)
        fast = self.box.stream(CONNECT, {"process": {"pid": pid}})
        fast.next()
        self.input(pid, b"\n")
        self.assertEqual(len(Ran(fast).out), 20000000)
        # And it has lost nothing that fits its queue.
        self.assertEqual(len(Ran(slow).out), 20000000)

    def test_a_single_slow_listener_holds_its_command_back(self):
        _, stream = self.box.started("/bin/bash", "-c",
                                     "head -c 60000000 /dev/zero; touch /tmp/written")
        before = self.memory()
        self.box.sh("sleep 1")
        self.assertEqual(self.box.rpc("filesystem.Filesystem/Stat", {"path": "/tmp/written"})[0], 404)
        self.assertLess(self.memory() - before, GROWTH)
        self.assertEqual(len(Ran(stream).out), 60000000)

    def memory(self):
        with open(f"/proc/{self.api_pid()}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def test_silence_is_filled_with_signs_of_life(self):
        r = Ran(self.box.start("/bin/sleep", "2.5", Keepalive_Ping_Interval="1"))
        self.assertEqual(r.first, "start")
        self.assertGreaterEqual(r.pings, 1)

    # ---- input ----

    def test_input_is_written_and_closed(self):
        pid, stream = self.box.started("/bin/cat", tag="the cat")
        listed = self.send("List")["processes"][0]
        self.assertEqual((listed["pid"], listed["tag"], listed["config"]["cmd"]),
                         (pid, "the cat", "/bin/cat"))
        self.input(pid, b"abc")
        self.send("SendInput", process={"tag": "the cat"}, input={"stdin": b64(b"def")})
        self.input(pid, b"x", "pty", expect=500)
        self.send("CloseStdin", process={"pid": pid})
        r = Ran(stream)
        self.assertEqual((r.out, r.end["exitCode"]), (b"abcdef", 0))
        self.input(pid, b"late", expect=404)
        self.send("SendInput", 404, process={"tag": "the cat"}, input={"stdin": ""})

    def test_input_without_end_is_not_there(self):
        self.assertEqual(self.box.sh("cat; echo done").out, b"done\n")
        pid, stream = self.box.started("/bin/sleep", "30", stdin=False)
        self.input(pid, b"x", expect=500)
        self.send("SendInput", 400, process={"pid": pid}, input={"stdin": 5})
        stream.close()

    def test_much_input_waits_for_its_reader(self):
        pid, stream = self.box.started("/bin/bash", "-c", "wc -c")
        for _ in range(4):
            self.input(pid, b"x" * 3000000)
        self.send("CloseStdin", process={"pid": pid})
        self.assertEqual(Ran(stream).out, b"12000000\n")

    def test_input_comes_as_a_stream(self):
        pid, stream = self.box.started("/bin/cat")

        def body():
            yield message({"start": {"process": {"pid": pid}}})
            for i in range(100):
                data = message({"data": {"input": {"stdin": b64(b"%d " % i)}}})
                yield data[:7]
                yield data[7:]
            yield message({"keepalive": {}})
        status, _, answer = self.box.ask("POST", "/process.Process/StreamInput", body(),
                                         Content_Type="application/connect+json")
        self.assertEqual((status, answer), (200, b"\0\0\0\0\2{}\2\0\0\0\2{}"))
        self.send("CloseStdin", process={"pid": pid})
        self.assertEqual(Ran(stream).out, b"".join(b"%d " % i for i in range(100)))
        r = self.box.stream("process.Process/StreamInput",
                            message({"data": {"input": {"stdin": b64(b"x")}}}))
        self.assertEqual(list(r), [])
        self.assertEqual(r.error["code"], "not_found")

    def test_a_terminal_has_a_size(self):
        pid, stream = self.box.started("/bin/bash", "-i", "-l", envs={"TERM": "xterm"},
                                       pty={"size": {"cols": 80, "rows": 24}})
        self.input(pid, b"stty size\n", "pty")
        self.send("Update", process={"pid": pid}, pty={"size": {"cols": 100, "rows": 30}})
        self.input(pid, b"stty size\nexit\n", "pty")
        r = Ran(stream)
        self.assertIn(b"30 100", r.pty)
        self.assertEqual((r.out, r.end["exitCode"]), (b"", 0))
        self.send("CloseStdin", 404, process={"pid": pid})
        pid, stream = self.box.started("/bin/sleep", "30")
        self.send("Update", 500, process={"pid": pid}, pty={"size": {"cols": 1, "rows": 1}})

    # ---- signals and deaths ----

    def test_a_killed_command_is_gone_at_once(self):
        pid, stream = self.box.started("/bin/bash", "-c", "sleep 100 & sleep 100")
        self.send("SendSignal", process={"pid": pid}, signal="SIGNAL_SIGKILL")
        r = Ran(stream)
        self.assertEqual((r.end["exitCode"], r.end["status"]), (-1, "signal: killed"))
        self.assertEqual(self.box.sh(f"kill -0 {pid}").end["exitCode"], 1)
        self.send("SendSignal", 404, process={"pid": pid}, signal=9)
        self.send("SendSignal", 404, process={"pid": 999999}, signal="SIGNAL_SIGKILL")
        pid, stream = self.box.started("/bin/sleep", "100")
        self.send("SendSignal", 501, process={"pid": pid}, signal="SIGNAL_UNSPECIFIED")
        self.send("SendSignal", process={"pid": pid}, signal=15)
        self.assertEqual(Ran(stream).end["status"], "signal: terminated")

    def test_a_killed_sandbox_breaks_its_streams(self):
        _, stream = self.box.started("/bin/sleep", "100")
        self.assertEqual(self.box.kill(), 204)
        with self.assertRaises(Exception):
            list(stream)
        self.assertFalse(stream.ended)
        status, _, answer = self.box.ask("GET", "/health")
        answer = json.loads(answer)
        self.assertEqual((status, answer["sandboxId"], answer["code"], answer["message"]),
                         (502, self.box.id, 502, "The sandbox was not found"))
        self.assertEqual(answer["error_code"], "not_found")
        self.assertTrue(answer["remediation"] and answer["request_id"])

    # ---- who may ---- and how

    def test_nothing_is_done_without_the_token(self):
        for token in (None, "", self.box.token[:-1], self.box.token + "0", "x" * 40):
            headers = self.box.headers()
            del headers["X-Access-Token"]
            if token is not None:
                headers["X-Access-Token"] = token
            for path, kind in (("/process.Process/List", "application/json"),
                               ("/process.Process/Start", "application/connect+json")):
                status, _, answer = self.ask("POST", path, b"{}", {**headers, "Content-Type": kind})
                self.assertEqual(status, 401, answer)
                self.assertEqual(json.loads(answer)["code"], "unauthenticated")
            self.assertEqual(self.ask("GET", "/envs", None, headers)[0], 401)
            self.assertEqual(self.ask("GET", "/health", None, headers)[0], 204)

    def test_malformed_messages_are_refused(self):
        for body in (b"x", b"[]", b'{"a":1,"a":2}', b'{"process":5}', b'"x"'):
            status, answer = self.box.rpc("process.Process/SendSignal", body)
            self.assertEqual((status, answer["code"]), (400, "invalid_argument"))
        for body in (b"", b"\1\0\0\0\2{}", b"\0\0\0\0\2{", b"\0\0\0\0\2{}\0", b"\0\xff\xff\xff\xff{}",
                     message({"process": {"cmd": ""}}), message({"process": {"cmd": 1}}),
                     message({"process": {"cmd": "a", "args": [1]}}),
                     message({"process": {"cmd": "a", "envs": {"A": 1}}}),
                     message({"process": {"cmd": "a", "envs": {"A B": ""}}})):
            stream = self.box.stream("process.Process/Start", body)
            self.assertEqual(list(stream), [])
            self.assertEqual(stream.error["code"], "invalid_argument", body)
        status, _, _ = self.box.ask("POST", "/process.Process/List", b"{}", Content_Type="text/plain")
        self.assertEqual(status, 415)

    def test_what_is_internal_is_not_there(self):
        for path in ("/init", "/freeze", "/upgrade", "/process.Process/Nope", "/nope", "/"):
            self.assertEqual(self.box.ask("POST", path, b"{}")[0], 404)
        status, headers, _ = self.box.ask("OPTIONS", "/process.Process/Start", Origin="http://x",
                                          Access_Control_Request_Headers="x-access-token")
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "*"))
        self.assertIn("x-access-token", headers["Access-Control-Allow-Headers"])
        status, _, answer = self.box.ask("GET", "/envs")
        self.assertEqual((status, json.loads(answer)), (200, {"FOO": "bar"}))
        status, _, answer = self.box.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertGreater(json.loads(answer)["mem_total"], 0)
