# SPDX-License-Identifier: Apache-2.0
"""The kernels of the code interpreter, spoken to as brig-api does, as ordinary processes of this host.

They are brig's own code, so no sandbox is needed to see what they answer; test_interp.py runs them
where they belong.
"""

import base64
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

import brigtest

KERNELS = brigtest.SOURCE / "src" / "api" / "kernels"
DEADLINE_S = 30 * brigtest.SLOW


def load_generator():
    loader = importlib.machinery.SourceFileLoader("gen_kernels",
                                                  str(brigtest.SOURCE / "tools" / "gen_kernels"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gen_kernels", loader))
    loader.exec_module(module)
    return module


def boot():
    """The program that brig-api gives to python3 -c, from its source."""
    text = (brigtest.SOURCE / "src" / "api" / "kernel.c").read_text()
    lines = re.search(r"#define BOOT(.*?)\n\n|#define BOOT(.*?)\n#define", text, re.S)
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', lines[0]))


GENERATOR = load_generator()
BOOT = boot()


def pythons():
    return [p for p in ("/usr/bin/python3", shutil.which("python3")) if p and os.path.exists(p)]


def python_with(*modules):
    for python in pythons():
        if subprocess.run([python, "-c", "import " + ",".join(modules)],
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    raise unittest.SkipTest("no python3 here has " + " and ".join(modules))


class Kernel:
    """One kernel process and its events."""

    def __init__(self, case, language, python=None, cwd=None):
        name = "node" if language in ("javascript", "typescript") else language
        text = GENERATOR.text(KERNELS, GENERATOR.KERNELS[name])
        self.process = subprocess.Popen(
            [python or pythons()[0], "-c", BOOT, language], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, cwd=cwd)
        case.addCleanup(self.end)
        self.events = queue.Queue()
        self.last = 0
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.process.stdin.write(b"%d\n" % len(text) + text)
        self.process.stdin.flush()
        case.assertEqual(self.event(), {"type": "ready"})

    def read(self):
        for line in self.process.stdout:
            line.decode("ascii")
            self.events.put(json.loads(line))
        self.events.put(None)

    def event(self):
        event = self.events.get(timeout=DEADLINE_S)
        if event is None:
            raise EOFError("the kernel ended: %s" % self.process.wait())
        return event

    def put(self, request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, code, env=None):
        self.last += 1
        self.put({"op": "execute", "id": self.last, "code": code, "env": env or {}})

    def rest(self):
        events = []
        while True:
            event = self.event()
            if event.get("id") != self.last:
                raise AssertionError("event of another execution: %r" % event)
            if event["type"] == "done":
                return events
            events.append(event)

    def run(self, code, env=None):
        self.ask(code, env)
        return self.rest()

    def interrupt_after(self, code, word="ready\n"):
        """Runs code, which prints word, and interrupts it then."""
        self.ask(code)
        events = []
        while word not in text_of(events, "stdout"):
            events.append(self.event())
        os.killpg(self.process.pid, signal.SIGINT)
        return events + self.rest()

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()


def text_of(events, kind):
    return "".join(e["text"] for e in events if e["type"] == kind)


def of_type(events, kind):
    return [e for e in events if e["type"] == kind]


class KernelCase(unittest.TestCase):
    language = None

    def setUp(self):
        self.kernel = Kernel(self, self.language, cwd=tempfile.gettempdir())

    def run_code(self, code, env=None):
        return self.kernel.run(code, env)

    def main_text(self, code):
        results = [e for e in of_type(self.run_code(code), "result") if e["is_main_result"]]
        self.assertEqual(len(results), 1, code)
        return results[0]["text"]

    def error_of(self, code):
        errors = of_type(self.run_code(code), "error")
        self.assertEqual(len(errors), 1, code)
        return errors[0]


class PythonCase(KernelCase):
    language = "python"

    def test_state_and_the_last_expression(self):
        self.assertEqual(of_type(self.run_code("x = 1"), "result"), [])
        self.assertEqual(self.main_text("x + 1"), "2")
        self.assertEqual(self.main_text("_"), "2")
        self.assertEqual(self.main_text("'it\\'s'"), "it's")
        self.assertEqual(of_type(self.run_code("x;"), "result"), [])
        self.assertEqual(of_type(self.run_code("None"), "result"), [])

    def test_executions_are_counted(self):
        counts = [of_type(self.run_code("1"), "count")[0]["execution_count"] for _ in range(3)]
        self.assertEqual(counts, [1, 2, 3])

    def test_output_of_subprocesses_is_captured_in_order(self):
        events = self.run_code("import subprocess, os, sys\nprint('a')\n"
                               "subprocess.run('echo b; echo c >&2; echo d', shell=True)\n"
                               "print('e', file=sys.stderr)\nsys.stdout.buffer.write(b'f\\xc3\\xa9\\n')\n"
                               "None")
        self.assertEqual(text_of(events, "stdout"), "a\nb\nd\nf\u00e9\n")
        self.assertEqual(text_of(events, "stderr"), "c\ne\n")
        self.assertLess([e["text"][0] for e in events if "text" in e].index("a"), 1)

    def test_much_output_arrives_whole(self):
        events = self.run_code("for i in range(20000): print('line', i)")
        self.assertEqual(text_of(events, "stdout"), "".join("line %d\n" % i for i in range(20000)))
        self.assertLess(len(events), 5000)

    def test_errors_have_no_frames_of_the_kernel(self):
        error = self.error_of("def f():\n    return 1 / 0\nf()")
        self.assertEqual((error["name"], error["value"]), ("ZeroDivisionError", "division by zero"))
        self.assertIn("return 1 / 0", error["traceback"])
        self.assertNotIn("<kernel>", error["traceback"])
        self.assertEqual(self.error_of("x = (")["name"], "SyntaxError")
        self.assertEqual(self.error_of("raise SystemExit(3)")["value"], "3")
        self.assertEqual(self.error_of("input()")["name"], "EOFError")
        self.assertEqual(self.main_text("1"), "1")

    def test_await_stands_at_the_top_level(self):
        self.run_code("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 7")
        self.assertEqual(self.main_text("await f()"), "7")
        self.assertEqual(self.main_text("asyncio.run(f())"), "7")

    def test_an_interrupt_stops_the_cell_and_nothing_else(self):
        self.run_code("x = 5")
        for body in ("while True: pass", "import time; time.sleep(1000)",
                     "import subprocess; subprocess.run(['sleep', '1000'])"):
            events = self.kernel.interrupt_after("print('ready', flush=True)\n" + body)
            self.assertEqual(of_type(events, "error")[0]["name"], "KeyboardInterrupt")
            self.assertEqual(self.main_text("x"), "5")
        os.killpg(self.kernel.process.pid, signal.SIGINT)
        self.assertEqual(self.main_text("x"), "5")

    def test_an_interrupt_within_a_flood_breaks_no_line(self):
        for _ in range(5):
            events = self.kernel.interrupt_after(
                "print('ready', flush=True)\nwhile True: print('x' * 100)")
            self.assertEqual(of_type(events, "error")[0]["name"], "KeyboardInterrupt")
        self.assertEqual(self.main_text("1"), "1")

    def test_environment_of_one_execution(self):
        code = "import os; os.environ.get('BRIG_T', 'none')"
        self.assertEqual(of_type(self.run_code(code, {"BRIG_T": "v"}), "result")[0]["text"], "v")
        self.assertEqual(self.main_text(code), "none")
        self.kernel.put({"op": "env", "env": {"BRIG_T": "stays"}})
        self.assertEqual(self.main_text(code), "stays")

    def test_display_gives_further_results(self):
        events = of_type(self.run_code(
            "class H:\n    def _repr_html_(self): return '<b>h</b>'\n    def __repr__(self): return 'H'\n"
            "display(H())\nH()"), "result")
        self.assertEqual([(e["html"], e["text"], e["is_main_result"]) for e in events],
                         [("<b>h</b>", "H", False), ("<b>h</b>", "H", True)])
        event = of_type(self.run_code(
            "class B:\n    def _repr_mimebundle_(self, **k):\n"
            "        return {'image/png': b'png', 'x/y': 1, 'application/json': {'a': float('nan')}}\nB()"),
            "result")[0]
        self.assertEqual(base64.b64decode(event["png"]), b"png")
        self.assertEqual((event["extra"], event["json"]), ({"x/y": 1}, {"a": None}))

    def test_ipython_display_is_there_without_ipython(self):
        events = of_type(self.run_code(
            "from IPython.display import HTML, Markdown, display\n"
            "display(HTML('<i>a</i>'), Markdown('# b'))"), "result")
        self.assertEqual(events[0]["html"], "<i>a</i>")
        self.assertEqual(events[1]["markdown"], "# b")

    def test_lines_of_ipython(self):
        self.assertEqual(text_of(self.run_code("w = 'hi'\n!echo {w}"), "stdout"), "hi\n")
        self.assertEqual(self.main_text("y = !seq 3\ny"), "['1', '2', '3']")
        self.assertEqual(text_of(self.run_code("%%bash\necho in bash"), "stdout"), "in bash\n")
        self.assertEqual(self.error_of("%nosuch")["name"], "NameError")
        # Python's own % and ! are left alone.
        self.assertEqual(self.main_text("(7\n% 4) != 2"), "True")

    def test_children_of_the_user_do_not_speak_for_the_kernel(self):
        events = self.run_code("import os, sys\npid = os.fork()\nif pid == 0:\n    print('child')\n"
                               "    os._exit(0)\nos.waitpid(pid, 0)[1]")
        self.assertEqual(text_of(events, "stdout"), "child\n")
        self.assertEqual(len(of_type(events, "result")), 1)
        self.assertEqual(self.main_text("import multiprocessing as m\n"
                                        "with m.get_context('fork').Pool(2) as p: r = p.map(abs, [-1])\nr"),
                         "[1]")

    def test_what_json_cannot_say(self):
        self.assertEqual(text_of(self.run_code("print('\\ud800\\0')"), "stdout"), "\ufffd\0\n")
        self.assertIn("cut, ", self.main_text("'x' * 8000000"))
        self.assertEqual(self.main_text("float('inf')"), "inf")

    def test_a_figure_is_a_png_and_data(self):
        python = python_with("matplotlib")
        self.kernel = Kernel(self, "python", python)
        events = self.run_code("import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4], label='l')\n"
                               "plt.title('T')\nplt.xlabel('X (m)')\nprint('before')\nplt.show()\n"
                               "print('after')")
        self.assertEqual([e["type"] for e in events], ["count", "stdout", "result", "stdout"])
        figure = events[2]
        self.assertEqual(base64.b64decode(figure["png"])[:4], b"\x89PNG")
        chart = figure["chart"]
        self.assertEqual((chart["type"], chart["title"], chart["x_label"], chart["x_unit"]),
                         ("line", "T", "X (m)", "m"))
        self.assertEqual(chart["elements"], [{"label": "l", "points": [[1, 3], [2, 4]]}])
        kinds = {"plt.scatter([1], [2]);": "scatter", "plt.bar(['a', 'b'], [1, 2]);": "bar",
                 "plt.pie([1, 3], labels=['a', 'b']);": "pie",
                 "plt.boxplot([1, 2, 3]);": "box_and_whisker",
                 "f, a = plt.subplots(1, 2); a[0].plot([1]); a[1].bar(['x'], [1]);": "superchart",
                 "plt.imshow([[1]]);": "unknown"}
        for code, kind in kinds.items():
            results = of_type(self.run_code(code), "result")
            self.assertEqual([r["chart"]["type"] for r in results], [kind], code)
        bar = of_type(self.run_code("plt.bar(['a', 'b'], [1, 2], label='g');"), "result")[0]["chart"]
        self.assertEqual(bar["elements"], [{"label": "a", "group": "g", "value": 1},
                                           {"label": "b", "group": "g", "value": 2}])
        main = of_type(self.run_code("fig = plt.figure(); fig.gca().plot([1]); fig"), "result")
        self.assertEqual([r["is_main_result"] for r in main], [True])

    def test_a_table_is_html_and_data(self):
        self.kernel = Kernel(self, "python", python_with("pandas"))
        result = of_type(self.run_code(
            "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', None], "
            "'t': pd.to_datetime(['2020-01-01', '2021-01-01'])})"), "result")[0]
        self.assertIn("<table", result["html"])
        self.assertEqual(result["data"], {"a": [1, 2], "b": ["x", None],
                                          "t": ["2020-01-01T00:00:00", "2021-01-01T00:00:00"]})

    def test_imports_ahead(self):
        self.kernel.put({"op": "warm", "idle": True})
        self.assertEqual(self.kernel.event(), {"type": "warm"})
        self.assertEqual(self.main_text("1"), "1")


class NodeCase(KernelCase):
    language = "javascript"

    def setUp(self):
        if not shutil.which("node"):
            self.skipTest("'node' is not installed")
        super().setUp()

    def test_state_and_declarations_again(self):
        self.run_code("const x = 1; let y = 2; class A {}; function f() { return 3 }")
        self.assertEqual(self.main_text("const x = 4; class A { b = 1 }; x + y + f()"), "9")
        self.assertEqual(self.main_text("({a: 1, b: [2]})"), "{ a: 1, b: [ 2 ] }")
        self.assertEqual(self.main_text("'text'"), "text")
        self.assertEqual(of_type(self.run_code("undefined"), "result"), [])

    def test_await_and_promises(self):
        self.assertEqual(self.main_text("await new Promise(r => setTimeout(() => r(9), 5))"), "9")
        events = self.run_code("async function main() { console.log('in'); await 1; console.log('out') }\n"
                               "main()")
        self.assertEqual(text_of(events, "stdout"), "in\nout\n")

    def test_imports(self):
        self.assertEqual(self.main_text("import fs, {existsSync as ex} from 'fs'\n"
                                        "import * as p from 'node:path'\nex('/') + typeof p.join"),
                         "truefunction")
        self.assertEqual(self.main_text("(await import('os')).platform()"), "linux")
        self.assertEqual(self.main_text("typeof require('fs').readFileSync"), "function")
        self.assertIn("nosuch", self.error_of("await import('nosuch')")["value"])

    def test_output_of_subprocesses_is_captured_in_order(self):
        events = self.run_code(
            "console.log('a'); require('child_process').execSync('echo b; echo c >&2', "
            "{stdio: 'inherit'}); console.log('d'); console.error('e')")
        self.assertEqual(text_of(events, "stdout"), "a\nb\nd\n")
        self.assertEqual(text_of(events, "stderr"), "c\ne\n")

    def test_errors(self):
        error = self.error_of("function f() { throw new TypeError('bad') }\nf()")
        self.assertEqual((error["name"], error["value"]), ("TypeError", "bad"))
        self.assertNotIn("brig:", error["traceback"])
        self.assertEqual(self.error_of("let z = (")["name"], "SyntaxError")
        self.assertEqual(self.error_of("throw 5")["value"], "5")
        self.assertEqual(self.error_of("Promise.reject(new Error('r'))")["value"], "r")
        self.assertEqual(self.error_of("process.exit(3)")["name"], "ExitCode")
        self.assertEqual(self.main_text("1"), "1")

    def test_an_interrupt_stops_the_cell_and_nothing_else(self):
        self.run_code("const x = 5")
        for body in ("while (true);", "await new Promise(() => {})"):
            events = self.kernel.interrupt_after("console.log('ready'); " + body)
            self.assertEqual(of_type(events, "error")[0]["name"], "KeyboardInterrupt")
            self.assertEqual(self.main_text("x"), "5")

    def test_display_and_environment(self):
        events = of_type(self.run_code("display.html('<b>x</b>'); display(Buffer.from('a').length)"),
                         "result")
        self.assertEqual((events[0]["html"], events[1]["text"]), ("<b>x</b>", "1"))
        self.assertEqual([e["is_main_result"] for e in events], [False, False])
        self.assertEqual(of_type(self.run_code("process.env.BRIG_T", {"BRIG_T": "v"}), "result")[0]["text"],
                         "v")
        self.assertEqual(of_type(self.run_code("process.env.BRIG_T"), "result"), [])


class TypeScriptCase(KernelCase):
    language = "typescript"

    def setUp(self):
        if not shutil.which("node"):
            self.skipTest("'node' is not installed")
        super().setUp()

    def test_types_are_removed_or_what_is_missing_is_named(self):
        events = self.run_code("interface A { a: number }\nconst v: A = {a: 4}\nv.a as number")
        errors = of_type(events, "error")
        if errors:
            self.assertIn("node-typescript", errors[0]["value"])
            self.skipTest("nothing here removes types from TypeScript")
        self.assertEqual(of_type(events, "result")[0]["text"], "4")
        self.assertEqual(self.main_text("import { join } from 'path';\njoin('a', 'b')"), "a/b")
        self.assertEqual(self.main_text("await new Promise<number>(r => r(v.a))"), "4")
        self.assertEqual(self.error_of("let q: = 4")["name"], "SyntaxError")


class BashCase(KernelCase):
    language = "bash"

    def test_state(self):
        self.run_code("x=5; cd /; f() { echo f$1; }")
        self.assertEqual(text_of(self.run_code("echo $x; pwd; f 3"), "stdout"), "5\n/\nf3\n")

    def test_exit_status(self):
        events = self.run_code("echo out; echo err >&2; false")
        self.assertEqual((text_of(events, "stdout"), text_of(events, "stderr")), ("out\n", "err\n"))
        self.assertEqual(of_type(events, "error")[0]["value"], "1")
        self.assertEqual(self.error_of("exit 7")["value"], "7")
        self.assertEqual(text_of(self.run_code("echo again"), "stdout"), "again\n")
        self.assertEqual(self.error_of("if true; then")["name"], "ExitCode")

    def test_an_interrupt_stops_the_cell_and_nothing_else(self):
        self.run_code("x=5")
        for body in ("while true; do :; done", "sleep 1000", "while true; do sleep 0.01; done"):
            events = self.kernel.interrupt_after("echo ready; " + body)
            self.assertEqual(of_type(events, "error")[0]["name"], "KeyboardInterrupt", body)
            self.assertEqual(text_of(self.run_code("echo $x"), "stdout"), "5\n")

    def test_input_and_environment(self):
        self.assertEqual(text_of(self.run_code("cat; echo end"), "stdout"), "end\n")
        self.assertEqual(text_of(self.run_code("echo $BRIG_T", {"BRIG_T": "a'b"}), "stdout"), "a'b\n")
        self.assertEqual(text_of(self.run_code("echo [$BRIG_T]"), "stdout"), "[]\n")


del KernelCase  # not a test by itself

if __name__ == "__main__":
    unittest.main()
