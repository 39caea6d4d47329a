# SPDX-License-Identifier: Apache-2.0
"""The published Python client of the code interpreter, synchronous and asynchronous."""

import unittest

from e2b_code_interpreter import AsyncSandbox, NotFoundException, Sandbox, TimeoutException


class Interpreter(unittest.TestCase):
    def setUp(self):
        self.s = Sandbox.create(timeout=120)  # no template: the client's own default
        self.addCleanup(Sandbox.kill, self.s.sandbox_id)

    def test_state_output_and_errors(self):
        seen = []
        self.assertIsNone(self.s.run_code("x = 1").text)
        r = self.s.run_code("print('é')\nx + 1", on_stdout=lambda m: seen.append(m.line))
        self.assertEqual((r.text, r.execution_count, "".join(r.logs.stdout), seen), ("2", 2, "é\n", ["é\n"]))
        e = self.s.run_code("missing").error
        self.assertEqual((e.name, e.value), ("NameError", "name 'missing' is not defined"))
        self.assertIn("missing", e.traceback)
        self.assertEqual(self.s.run_code("import os; os.environ['A']", envs={"A": "b"}).text, "b")

    def test_figures(self):
        r = self.s.run_code("import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2]); plt.show()")
        self.assertIsNone(r.error)
        self.assertTrue(r.results[0].png.startswith("iVBORw0KGgo"))
        self.assertEqual(r.results[0].chart.type.value, "bar")
        self.assertEqual([(e.label, e.value) for e in r.results[0].chart.elements], [("a", 1), ("b", 2)])

    def test_contexts(self):
        c = self.s.create_code_context(cwd="/tmp")
        self.assertEqual(self.s.run_code("import os; x = 1; os.getcwd()", context=c).text, "/tmp")
        self.assertEqual(self.s.run_code("x").error.name, "NameError")
        self.assertEqual(self.s.list_code_contexts()[-1].id, c.id)
        self.s.restart_code_context(c)
        self.assertEqual(self.s.run_code("x", context=c).error.name, "NameError")
        self.s.remove_code_context(c)
        with self.assertRaises(NotFoundException):
            self.s.run_code("1", context=c)

    def test_time_limits(self):
        self.s.run_code("kept = 7")
        with self.assertRaises(TimeoutException):
            self.s.run_code("import time; time.sleep(60)", timeout=2)
        self.assertEqual(self.s.run_code("kept", timeout=5).text, "7")

    def test_a_killed_sandbox_ends_its_execution(self):
        with self.assertRaisesRegex(TimeoutException, "killed"):
            self.s.run_code("import time\nprint('up', flush=True); time.sleep(60)",
                            on_stdout=lambda _: self.s.kill())


class AsyncInterpreter(unittest.IsolatedAsyncioTestCase):
    async def test_languages_and_state(self):
        s = await AsyncSandbox.create(timeout=120)
        self.addAsyncCleanup(AsyncSandbox.kill, s.sandbox_id)
        self.assertEqual((await s.run_code("6 * 7")).text, "42")
        self.assertEqual((await s.run_code("const a = 6; a * 7", language="javascript")).text, "42")
        self.assertEqual("".join((await s.run_code("echo hi", language="bash")).logs.stdout), "hi\n")
