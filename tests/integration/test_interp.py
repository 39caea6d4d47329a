# SPDX-License-Identifier: Apache-2.0
"""The code interpreter over HTTP, as E2B's clients use it, in sandboxes of `brig serve`."""

import base64
import http.client
import json
import socket
import threading
import time
import unittest

import brigtest
from brigtest import ResidentCase, need_image, need_root

IMAGE = "code-interpreter-v1"


class UnixConnection(http.client.HTTPConnection):
    """To the operator's socket, which asks for no key."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Interpreter:
    """One sandbox and the requests of a client of its code interpreter."""

    def __init__(self, case, template=IMAGE, **body):
        self.case = case
        status, text = self.api("POST", "/v2/sandboxes", dict(body, templateID=template))
        case.assertEqual(status, 201, text)
        self.box = json.loads(text)
        self.id = self.box["sandboxID"]
        case.addCleanup(self.kill)

    def connection(self):
        path = self.case.brig.socket.parent / "api.sock"
        return UnixConnection(path, 60 * brigtest.SLOW)

    def api(self, method, path, body=None):
        connection = self.connection()
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def kill(self):
        return self.api("DELETE", "/sandboxes/" + self.id)[0]

    def open(self, method, path, body=None, **headers):
        """The answer with its stream unread, and the connection that it comes by."""
        all_headers = {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": "49999",
                       "X-Access-Token": self.box["envdAccessToken"],
                       "Content-Type": "application/json"}
        all_headers.update({k.replace("_", "-"): v for k, v in headers.items()})
        connection = self.connection()
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {k: v for k, v in all_headers.items() if v is not None})
        return connection.getresponse(), connection

    def ask(self, method, path, body=None, **headers):
        answer, connection = self.open(method, path, body, **headers)
        text = answer.read().decode("ascii")
        connection.close()
        return answer.status, text

    def run(self, code, **more):
        status, text = self.ask("POST", "/execute", dict(more, code=code))
        self.case.assertEqual(status, 200, text)
        self.case.assertTrue(text.endswith("\n") and "\n\n" not in text)
        events = [json.loads(line) for line in text.splitlines()]
        self.case.assertEqual(events.pop()["type"], "end_of_execution")
        return events

    def main_text(self, code, **more):
        events = self.run(code, **more)
        texts = [e["text"] for e in events if e["type"] == "result" and e["is_main_result"]]
        self.case.assertEqual(len(texts), 1, events)
        return texts[0]

    def started(self, code, **more):
        """An execution that has printed "ready"."""
        answer, connection = self.open("POST", "/execute",
                                       dict(more, code="print('ready', flush=True)\n" + code))
        for line in answer:
            if json.loads(line).get("text") == "ready\n":
                return answer, connection
        raise AssertionError("it ended before it was ready")


def of_type(events, kind):
    return [e for e in events if e["type"] == kind]


def need_interpreter():
    need_root()
    if not (brigtest.build_dir() / "brig-api").exists():
        raise unittest.SkipTest("brig-api is not built")
    need_image(IMAGE, "code-interpreter")


class Interp(ResidentCase):
    server_args = ("--http", "127.0.0.1:0")

    @classmethod
    def setUpClass(cls):
        need_interpreter()
        super().setUpClass()

    def test_state_results_and_the_count(self):
        s = Interpreter(self)
        self.assertEqual(of_type(s.run("x = 1"), "result"), [])
        events = s.run("print('a'); x + 1")
        self.assertEqual(events[0], {"type": "number_of_executions", "execution_count": 2})
        self.assertEqual(events[1]["text"], "a\n")
        self.assertRegex(events[1]["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$")
        self.assertEqual(events[2], {"type": "result", "text": "2", "is_main_result": True})
        error = of_type(s.run("1 / 0"), "error")[0]
        self.assertEqual((error["name"], error["value"]), ("ZeroDivisionError", "division by zero"))
        self.assertIn("Traceback", error["traceback"])
        self.assertEqual(s.main_text("'h\u00e9' + chr(0x1f600)"), "h\u00e9\U0001f600")

    def test_it_runs_as_the_user_in_its_home(self):
        s = Interpreter(self)
        self.assertEqual(s.main_text("import os, getpass; (getpass.getuser(), os.getcwd())"),
                         "('user', '/home/user')")
        # Nothing of the kernel is in the sandbox's files.
        self.assertEqual(s.main_text("sorted(n for n in os.listdir() if not n.startswith('.'))"), "[]")

    def test_figures_and_tables(self):
        s = Interpreter(self)
        result = of_type(s.run("import matplotlib.pyplot as plt\nplt.plot([1, 2], label='l')\nplt.show()"),
                         "result")[0]
        self.assertEqual(base64.b64decode(result["png"])[:4], b"\x89PNG")
        self.assertEqual(result["chart"]["type"], "line")
        self.assertFalse(result["is_main_result"])
        result = of_type(s.run("import pandas\npandas.DataFrame({'a': [1, 2]})"), "result")[0]
        self.assertEqual(result["data"], {"a": [1, 2]})
        self.assertIn("<table", result["html"])

    def test_languages(self):
        s = Interpreter(self)
        self.assertEqual(s.main_text("const x = 2; await Promise.resolve(x)", language="JS"), "2")
        self.assertEqual(s.main_text("x + 1", language="javascript"), "3")
        self.assertEqual(s.main_text("let y: number = 4; y as number", language="typescript"), "4")
        events = s.run("cd /tmp; pwd; false", language="bash")
        self.assertEqual(of_type(events, "stdout")[0]["text"], "/tmp\n")
        self.assertEqual(of_type(events, "error")[0]["value"], "1")
        self.assertEqual(s.ask("POST", "/execute", {"code": "1", "language": "cobol"})[0], 400)

    def test_environment(self):
        s = Interpreter(self, envVars={"BOX": "b"})
        code = "import os; (os.environ.get('BOX'), os.environ.get('ONE'))"
        self.assertEqual(s.main_text(code, env_vars={"ONE": "1"}), "('b', '1')")
        self.assertEqual(s.main_text(code, env_vars=None), "('b', None)")
        self.assertEqual(s.main_text(code, env_vars={"BOX": "c"}), "('c', None)")
        self.assertEqual(s.main_text(code), "('b', None)")
        self.assertEqual(s.ask("POST", "/execute", {"code": "1", "env_vars": {"A=": "1"}})[0], 400)

    def test_contexts(self):
        s = Interpreter(self)
        status, text = s.ask("POST", "/contexts", {"cwd": "/tmp"})
        self.assertEqual(status, 200, text)
        c = json.loads(text)
        self.assertEqual((c["language"], c["cwd"]), ("python", "/tmp"))
        self.assertEqual(s.main_text("import os; os.getcwd()", context_id=c["id"]), "/tmp")
        s.run("only_here = 1", context_id=c["id"])
        self.assertEqual(of_type(s.run("only_here"), "error")[0]["name"], "NameError")
        listed = json.loads(s.ask("GET", "/contexts")[1])
        self.assertEqual([x["language"] for x in listed], ["python", "javascript", "python"])
        self.assertEqual(listed[-1]["id"], c["id"])
        self.assertEqual(s.ask("POST", "/contexts/%s/restart" % c["id"])[0], 200)
        self.assertEqual(of_type(s.run("only_here", context_id=c["id"]), "error")[0]["name"],
                         "NameError")
        self.assertIn(s.ask("DELETE", "/contexts/" + c["id"])[0], (200, 204))
        for method, path in (("DELETE", "/contexts/" + c["id"]),
                             ("POST", "/contexts/%s/restart" % c["id"])):
            self.assertEqual(s.ask(method, path)[0], 404)
        self.assertEqual(s.ask("POST", "/execute", {"code": "1", "context_id": c["id"]})[0], 404)
        status, text = s.ask("POST", "/contexts", {"cwd": "/nope"})
        self.assertEqual(status, 500)
        self.assertIn("No such file", text)
        self.assertEqual(len(json.loads(s.ask("GET", "/contexts")[1])), 2)

    def test_requests_that_make_no_sense(self):
        s = Interpreter(self)
        for body in ({}, [], {"code": 1}, {"code": "1", "language": 3},
                     {"code": "1", "language": "python", "context_id": "x"}):
            self.assertEqual(s.ask("POST", "/execute", body)[0], 400, body)
        self.assertEqual(s.ask("GET", "/nothing")[0], 404)
        self.assertEqual(s.ask("GET", "/health"), (200, '"OK"'))

    def test_tokens(self):
        s = Interpreter(self, network={"allowPublicTraffic": False})
        traffic = s.box["trafficAccessToken"]
        self.assertEqual(s.ask("GET", "/contexts")[0], 403)
        self.assertEqual(s.ask("GET", "/contexts", E2B_Traffic_Access_Token=traffic,
                               X_Access_Token=None)[0], 200)
        for token in (None, "wrong", s.box["envdAccessToken"] + "x"):
            self.assertEqual(s.ask("POST", "/execute", {"code": "1"}, X_Access_Token=token,
                                   E2B_Traffic_Access_Token=traffic)[0], 401)

    def test_one_after_the_other_in_one_context(self):
        s = Interpreter(self)
        first = s.started("import time\nseen = []\ntime.sleep(0.3)\nseen.append(0)")
        threads = []
        for i in range(1, 4):
            threads.append(threading.Thread(target=s.run, args=("seen.append(%d)" % i,)))
            threads[-1].start()
            self.queued(s, i)
        first[0].read()
        first[1].close()
        for t in threads:
            t.join()
        self.assertEqual(s.main_text("seen"), "[0, 1, 2, 3]")

    def queued(self, s, n):
        """Another context answers only after the server has taken what was sent before."""
        s.main_text(str(n), language="javascript")

    def test_a_client_that_goes_away_interrupts(self):
        s = Interpreter(self)
        s.run("x = 5")
        answer, connection = s.started("import time\ntime.sleep(1000)")
        began = time.monotonic()
        answer.close()
        connection.close()
        self.assertEqual(s.main_text("x"), "5")
        self.assertLess(time.monotonic() - began, 3 * brigtest.SLOW)
        # A kernel that cannot be interrupted is replaced.
        answer, connection = s.started("import signal\nsignal.signal(2, signal.SIG_IGN)\n"
                                       "while True: pass")
        began = time.monotonic()
        answer.close()
        connection.close()
        self.assertEqual(s.main_text("'next'"), "next")
        self.assertLess(time.monotonic() - began, 8 * brigtest.SLOW)

    def test_silence_is_kept_alive(self):
        s = Interpreter(self)
        events = s.run("import time; time.sleep(6)")
        self.assertEqual(len(of_type(events, "keepalive")), 1)

    def test_the_end_of_the_sandbox_breaks_the_stream(self):
        s = Interpreter(self)
        answer, connection = s.started("import time\ntime.sleep(1000)")
        self.assertEqual(s.kill(), 204)
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
        connection.close()
        self.assertEqual(s.ask("GET", "/health")[0], 502)

    def test_a_kernel_that_ends_is_told_and_replaced(self):
        s = Interpreter(self)
        error = of_type(s.run("import os; os.kill(os.getpid(), 9)"), "error")[0]
        self.assertEqual(error["name"], "KernelError")
        self.assertIn("137", error["value"])
        self.assertEqual(s.main_text("1"), "1")

    def test_a_forged_kernel_harms_nobody_else(self):
        s = Interpreter(self)
        other = Interpreter(self)
        for junk in (b"junk\n", b'{"type":"end_of_execution"}\n', b"[" * 5000 + b"\n", b"\0\xff\n",
                     b"x" * (9 << 20)):
            s.run("import os\nfor f in range(3, 80):\n    try:\n        at = 0\n"
                  "        junk = %r * %d\n        while at < len(junk):\n"
                  "            at += os.write(f, junk[at:])\n"
                  "    except OSError: pass" % (junk[:8], max(1, len(junk) // 8)))
            self.assertEqual(s.main_text("1"), "1")
        # Events of an execution that is not under way go nowhere.
        events = s.run("for f in range(3, 80):\n    try: os.write(f, b'{\"type\":\"result\",\"text\":"
                       "\"forged\",\"id\":99}\\n')\n    except (OSError, NameError): pass\n")
        self.assertNotIn("forged", json.dumps(events))
        self.assertEqual(other.main_text("2"), "2")

    def test_much_output_to_a_client_that_waits(self):
        s = Interpreter(self)
        answer, connection = s.started("for i in range(300000): print('line', i)")
        self.assertEqual(s.main_text("1", language="javascript"), "1")
        text = "".join(json.loads(line).get("text", "") for line in answer)
        self.assertEqual(text, "".join("line %d\n" % i for i in range(300000)))
        connection.close()


class Prepared(ResidentCase):
    """A pool of sandboxes whose interpreter runs before they are asked for."""

    server_args = ("--http", "127.0.0.1:0", "--warm", IMAGE + "=1")

    @classmethod
    def setUpClass(cls):
        need_interpreter()
        super().setUpClass()

    def left(self, within):
        return {}  # the pool comes and goes; what is left is looked at when the server has ended

    def test_a_prepared_interpreter_is_what_an_ordinary_one_is(self):
        def pool():
            connection = UnixConnection(self.brig.socket.parent / "api.sock", 30)
            connection.request("GET", "/v1/pools")
            text = connection.getresponse().read()
            connection.close()
            return json.loads(text)["warm"][0]

        brigtest.wait_until("a sandbox of the pool", lambda: pool()["ready"] == 1,
                            60 * brigtest.SLOW)
        s = Interpreter(self, envVars={"BOX": "b"})
        self.assertEqual((pool()["hits"], pool()["misses"]), (1, 0))
        # Imports of the pool's kernel were done before it could be taken.
        self.assertEqual(s.main_text("import sys; 'matplotlib.pyplot' in sys.modules"), "True")
        self.assertEqual(s.main_text("import os; (os.environ.get('BOX'), os.environ['E2B_TEMPLATE_ID'])"),
                         "('b', '%s')" % IMAGE)
        done = self.brig.call("exec", s.id, "--", "sh", "-c", "echo $BOX")
        self.assertEqual(done.text, "b\n")
        s.kill()
        brigtest.wait_until("its successor", lambda: pool()["ready"] == 1, 60 * brigtest.SLOW)

    def test_a_request_with_wishes_is_made_for_it(self):
        s = Interpreter(self, metadata={"brig.limits.pids": "100"})
        info = json.loads(self.brig.call("inspect", s.id).text)[0]
        self.assertEqual(info["limits"]["pids"], 100)


if __name__ == "__main__":
    unittest.main()
