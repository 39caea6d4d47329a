# SPDX-License-Identifier: Apache-2.0
"""Runs unittest modules for tests/run: one JSON object per line on a descriptor.

    pymod.py DESCRIPTOR SUITE PATTERN LIMIT_S MODULE.py...

{"begin": name} when a test starts, {"name", "result": ok|fail|skip, "detail", "ms"} when it ends. A
name is SUITE/module.Class.property. A test that takes longer than LIMIT_S is failed where it stands,
and its cleanups run.
"""

import faulthandler
import fnmatch
import importlib.util
import json
import os
import pathlib
import re
import signal
import sys
import time
import traceback
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


class OverTime(Exception):
    pass


def short_stem(stem):
    """Of a module's name: run_attacks is attacks."""
    return re.sub(r"^(test|run|check)_", "", stem)


def test_name(suite, test):
    """SUITE/module.Class.property, without the prefixes that Python asks for."""
    if isinstance(test, unittest.TestCase):
        cls, method = type(test), test._testMethodName
        return f"{suite}/{short_stem(cls.__module__)}.{cls.__name__}." \
               f"{method.removeprefix('test_')}"
    # An error of setUpClass or setUpModule: "setUpClass (test_x.Class)".
    return f"{suite}/{str(test).replace('test_', '', 1)}"


def explain(err, frames):
    """The frames of the test and of tests/lib, not those of unittest, and the message."""
    kind, value, tb = err
    own = [f for f in traceback.extract_tb(tb) if "/unittest/" not in f.filename]
    return "".join(traceback.format_list(own[-frames:])
                   + traceback.format_exception_only(kind, value))


class Result(unittest.TestResult):
    def __init__(self, suite, out, limit):
        super().__init__()
        self.suite, self.out, self.limit = suite, out, limit
        self.parts, self.began = [], 0.0

    def emit(self, **obj):
        self.out.write(json.dumps(obj) + "\n")
        self.out.flush()

    def end(self, test, result, detail=""):
        began, self.began = self.began, 0.0
        ms = round((time.monotonic() - began) * 1000) if began else 0
        self.emit(name=test_name(self.suite, test), result=result, detail=detail, ms=ms)

    def startTest(self, test):
        super().startTest(test)
        self.parts, self.began = [], time.monotonic()
        self.emit(begin=test_name(self.suite, test))
        signal.setitimer(signal.ITIMER_REAL, self.limit)

    def stopTest(self, test):
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Failures are collected: a test may fail in its body and again in a cleanup.
        if self.began:
            self.end(test, "fail" if self.parts else "ok", "\n".join(self.parts))
        super().stopTest(test)

    def failed(self, test, err):
        text = explain(err, 6)
        if self.began:
            self.parts.append(text)
        else:
            self.end(test, "fail", text)

    def addError(self, test, err):
        self.failed(test, err)

    def addFailure(self, test, err):
        self.failed(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.parts.append(f"{subtest._subDescription()}\n"
                              + explain(err, 3))

    def addSkip(self, test, reason):
        if self.parts:
            return
        self.end(test, "skip", reason)

    def addUnexpectedSuccess(self, test):
        self.parts.append("it was expected to fail, and passed")


def all_tests(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite):
            yield from all_tests(t)
        else:
            yield t


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def matches(name, pattern):
    if not pattern:
        return True
    return pattern in name or fnmatch.fnmatchcase(name, pattern)


def main():
    suite_name, pattern, limit = sys.argv[2:5]
    with os.fdopen(int(sys.argv[1]), "w") as out:
        os.set_inheritable(out.fileno(), False)
        result = Result(suite_name, out, float(limit))

        def on_alarm(*_):
            raise OverTime(f"it took longer than {limit} s")

        def on_term(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, on_alarm)
        faulthandler.register(signal.SIGUSR1)  # whoever gives up on us asks where we are
        signal.signal(signal.SIGTERM, on_term)
        for path in map(pathlib.Path, sys.argv[5:]):
            sys.path.insert(0, str(path.parent))
            try:
                module = load(path)
            except unittest.SkipTest as e:
                result.emit(name=f"{suite_name}/{short_stem(path.stem)}", result="skip",
                            detail=str(e), ms=0)
                continue
            except Exception:
                result.emit(name=f"{suite_name}/{short_stem(path.stem)}", result="fail",
                            detail=traceback.format_exc(), ms=0)
                continue
            tests = unittest.TestSuite(
                t for t in all_tests(unittest.defaultTestLoader.loadTestsFromModule(module))
                if matches(test_name(suite_name, t), pattern))
            try:
                tests.run(result)
            except KeyboardInterrupt:
                return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
