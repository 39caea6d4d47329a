# SPDX-License-Identifier: Apache-2.0
"""The kinds of tests that tests/run knows, each as a function of a Context."""

import fnmatch
import glob
import json
import os
import pathlib
import re
import signal
import sys
import time
from dataclasses import dataclass, field

from programs import SOURCE, Programs
from pymod import short_stem

TESTS = SOURCE / "tests"
# The longest that one test, and one kind of tests, may take. Factors for slow builds apply.
TEST_S, QUIET_S, SUITE_S = 300, 480, 1500  # quiet: an image may have to be built first


@dataclass
class Context:
    report: object
    programs: Programs
    build: pathlib.Path
    pattern: str = ""
    state: pathlib.Path = None  # a folder for this run
    sanitized: bool = False
    prefix: str = ""  # before the names of tests: "san:"
    env: dict = field(default_factory=dict)

    def wants(self, name):
        return not self.pattern or self.pattern in name or fnmatch.fnmatchcase(name, self.pattern)

    def add(self, name, result, detail="", ms=0):
        self.report.add(name, result, detail, ms)

    @property
    def slow(self):
        return 4.0 if self.sanitized else 1.0

    def environ(self, **more):
        env = dict(os.environ)
        env.update(BRIG_BUILD=str(self.build), BRIG_TEST_STATE=str(self.state),
                   BRIG_TEST_SLOW=str(self.slow), PYTHONDONTWRITEBYTECODE="1", **self.env)
        if self.sanitized:
            env["BRIG_TEST_SANITIZED"] = "1"
        env.update(more)
        return env


# ---- unit tests: cmocka programs ----

def tap_results(text):
    """[(name, result, detail)] and how many were planned, of cmocka's TAP output."""
    results, planned, notes = [], None, []
    for line in text.splitlines():
        plan = re.match(r"1\.\.(\d+)", line)
        test = re.match(r"(not )?ok \d+(?: - (\S+))?(?:.*# SKIP ?(\S*))?", line)
        if plan:
            planned = (planned or 0) + int(plan.group(1))
        elif test:
            name = test.group(2) or test.group(3) or "?"
            if "# SKIP" in line:
                results.append((name, "skip", "\n".join(notes) or "the test skipped itself"))
            else:
                results.append((name, "fail" if test.group(1) else "ok", "\n".join(notes)))
            notes = []
        elif line.startswith("# "):
            text_ = line[2:]
            if results and results[-1][1] == "fail" and not results[-1][2]:
                # cmocka explains a failure behind it.
                name, result, _ = results[-1]
                results[-1] = (name, result, text_)
            elif results and results[-1][1] == "fail":
                name, result, detail = results[-1]
                results[-1] = (name, result, detail + "\n" + text_)
            else:
                notes.append(text_)
        elif line.strip():
            notes.append(line)
    return results, planned


def run_unit(ctx):
    # Leaks can be looked for: these programs run outside of namespaces.
    env = ctx.environ(CMOCKA_MESSAGE_OUTPUT="TAP")
    if ctx.sanitized:
        env["ASAN_OPTIONS"] = env["ASAN_OPTIONS"].replace("detect_leaks=0", "detect_leaks=1")
    found = sorted(p for p in (ctx.build / "tests" / "unit").glob("test_*")
                   if p.is_file() and os.access(p, os.X_OK))
    if not found:
        ctx.add(f"{ctx.prefix}unit", "fail", f"{ctx.build} has no unit tests")
    for program in found:
        group = f"{ctx.prefix}unit/{program.name.removeprefix('test_')}"
        # The tests of a program are known only by running it; a pattern that names one saves the rest.
        if ctx.pattern.startswith(f"{ctx.prefix}unit/") and \
                not fnmatch.fnmatchcase(group, ctx.pattern.split(".")[0]):
            continue
        start = time.monotonic()
        code, text = ctx.programs.output([program], 120 * ctx.slow, cwd=SOURCE, env=env)
        ms = round((time.monotonic() - start) * 1000)
        results, planned = tap_results(text)
        for name, result, detail in results:
            full = f"{group}.{name.removeprefix('test_')}"
            if ctx.wants(full):
                ctx.add(full, result, detail)
        failed = any(r == "fail" for _, r, _ in results)
        broken = None
        if code is None:
            broken = "it did not end in time"
        elif planned is None or len(results) < planned:
            broken = f"{len(results)} of {planned} tests reported, then exit code {code}"
        elif code and not failed:
            broken = f"exit code {code} although every test passed"
        if broken:
            ctx.add(group, "fail", f"{broken}\n{text[-4000:]}", ms)


# ---- fuzz corpora, replayed ----

def run_fuzz(ctx):
    found = sorted((ctx.build / "tests" / "fuzz").glob("replay_*"))
    found = [p for p in found if p.is_file() and os.access(p, os.X_OK)]
    corpora = {p.name for p in (TESTS / "fuzz" / "corpus").iterdir() if p.is_dir()}
    if not found:
        ctx.add(f"{ctx.prefix}fuzz", "fail", f"{ctx.build} has no replay programs")
    for program in found:
        name = program.name.removeprefix("replay_")
        full = f"{ctx.prefix}fuzz/{name}"
        corpora.discard(name)
        if not ctx.wants(full):
            continue
        start = time.monotonic()
        code, text = ctx.programs.output([program, TESTS / "fuzz" / "corpus" / name],
                                         120 * ctx.slow, cwd=ctx.state, env=ctx.environ())
        ms = round((time.monotonic() - start) * 1000)
        counted = re.search(r"^replay: (\d+) files, (\d+) inputs$", text, re.M)
        good = code == 0 and counted and int(counted.group(1)) > 0
        ctx.add(full, "ok" if good else "fail", counted.group(0) if good else text[-6000:], ms)
    for name in sorted(corpora):
        if ctx.wants(f"{ctx.prefix}fuzz/{name}"):
            ctx.add(f"{ctx.prefix}fuzz/{name}", "fail", "a corpus that no program replays")


# ---- Python modules ----

def run_reporting(ctx, name, argv, log_path, add=None):
    """A program that tells its results as JSON lines on a descriptor, which argv(fd) contains."""
    add = add or ctx.add
    read_fd, write_fd = os.pipe()
    log = open(log_path, "wb")
    p = ctx.programs.start(argv(write_fd), stdout=log, stderr=log, env=ctx.environ(), cwd=SOURCE,
                           pass_fds=(write_fd,))
    os.close(write_fd)
    running, hung = None, False
    for line in ctx.programs.lines(p, read_fd, QUIET_S * ctx.slow, SUITE_S * ctx.slow,
                                   ask=signal.SIGUSR1):
        if line is None:
            hung = True
            break
        obj = json.loads(line)
        if "begin" in obj:
            running = obj["begin"]
            continue
        running = None
        add(obj["name"], obj["result"], obj["detail"], obj["ms"])
    os.close(read_fd)
    try:
        code = p.wait(20 * ctx.slow)
    except Exception:
        code, hung = None, True
    ctx.programs.end(p)
    log.close()
    if hung or code:
        text = log_path.read_text(errors="replace")[-3000:]
        what = "no result in time" if hung else f"it ended with exit code {code}"
        ctx.add(running or name, "fail", f"{what}\n{text}")


def run_module(ctx, suite, path, pattern, add):
    def argv(fd):
        return [sys.executable, TESTS / "lib" / "pymod.py", fd, ctx.prefix + suite, pattern,
                TEST_S * ctx.slow, path]
    run_reporting(ctx, f"{ctx.prefix}{suite}/{short_stem(path.stem)}", argv,
                  ctx.state / f"{path.stem}.log", add)


def run_modules(ctx, suite, paths, second_try=False, pattern=None):
    """Each module in a process of its own: one that dies or hangs takes no other with it.

    With second_try a failed test is run once more, alone. The machine of a run is shared with
    strangers, and among thousands of tests one meets a pause of seconds now and then; if it passes
    it is reported as unsteady, with what it said at first, and Report allows only few of these. What a
    sanitizer reported at the first try fails the run all the same (sanitizer_reports).
    """
    for path in paths:
        failed = []

        def add(name, result, detail="", ms=0):
            if second_try and result == "fail":
                failed.append((name, detail, ms))
            else:
                ctx.add(name, result, detail, ms)
        run_module(ctx, suite, path, pattern or ctx.pattern, add)
        for name, detail, ms in failed:
            if not ctx.report.may_try_again(name):
                ctx.add(name, "fail", detail, ms)
                continue
            again = []
            run_module(ctx, suite, path, glob.escape(name), lambda *one: again.append(one))
            if [one[1] for one in again if one[0] == name] == ["ok"]:
                ctx.report.unsteady(name, detail, ms)
            else:
                ctx.add(name, "fail", detail, ms)


def run_integration(ctx, subset=None):
    paths = sorted((TESTS / "integration").glob("test_*.py"))
    if subset:
        paths = [p for p in paths if short_stem(p.stem) in subset]
    run_modules(ctx, "integration", paths, second_try=True)


# What a command, its streams, its terminal, its files and its life are like is the same in every tier:
# these run again, name by name, under BRIG_TEST_TIER. Left out is what needs programs that Debian's runsc
# cannot run (ls and stat of coreutils 9: docs/specification.md) and what is about a container's mechanics; and
# the death of brig-jaild, with which its sandboxes end there.
GVISOR_AGAIN = {
    "exit": ["Private."],
    "streams": ["Private."],
    "terminal": ["Private.the_", "Private.two_", "Private.keys_", "Private.big_"],
    "lifecycle": [""],
    "pause": ["Pause.", "PausedDeaths.of_brigd_", "PausedDeaths.of_the_", "PausedDeaths.of_all_"],
}


def run_gvisor(ctx):
    code, text = ctx.programs.output([ctx.build / "brig", "doctor", "-o", "json"], 60, cwd=SOURCE,
                                     env=ctx.environ())
    rows = [c for c in json.loads(text)["checks"] if c["tier"] == "gvisor"] if code is not None else []
    if not rows or not all(c["ok"] for c in rows):
        why = "; ".join(f"{c['check']}: {c['detail']}" for c in rows if not c["ok"])
        ctx.add("gvisor:integration", "skip", why or "brig doctor says nothing")
        return
    ctx.env["BRIG_TEST_TIER"], ctx.prefix = "gvisor", "gvisor:"
    for module, classes in GVISOR_AGAIN.items():
        path = TESTS / "integration" / f"test_{module}.py"
        for cls in classes[:1] if ctx.pattern else classes:
            run_modules(ctx, "integration", [path], second_try=True,
                        pattern=ctx.pattern or f"gvisor:integration/{module}.{cls}*")


def run_attack(ctx):
    run_modules(ctx, "attack", sorted((TESTS / "attack").glob("run_*.py")))


def run_fault(ctx):
    run_modules(ctx, "fault", sorted((TESTS / "fault").glob("test_*.py")), second_try=True)


def run_e2b(ctx):
    run_reporting(ctx, "e2b", lambda fd: [sys.executable, TESTS / "e2b" / "run.py", fd, ctx.pattern],
                  ctx.state / "e2b.log")


def run_check(ctx):
    run_modules(ctx, "check", sorted((TESTS / "lib").glob("check_*.py")))


# ---- the emulated machine ----

NESTED = re.compile(r"^(.+?) \.\.\. (ok|FAIL|skipped)(?: \(([\d.]+) s\))?(?:: (.*))?$")


def run_nested(ctx):
    program = TESTS / "nested" / "run.py"
    if not program.exists():
        return
    read_fd, write_fd = os.pipe()
    argv = [sys.executable, program]
    if ctx.pattern.startswith("nested/"):
        argv += ["--only", ctx.pattern.removeprefix("nested/")]
    elif ctx.pattern:
        argv += ["--only", ctx.pattern]
    p = ctx.programs.start(argv, stdout=write_fd, stderr=write_fd, env=ctx.environ(), cwd=SOURCE)
    os.close(write_fd)
    text, seen, failures = [], 0, {}
    for line in ctx.programs.lines(p, read_fd, 300, 600):
        if line is None:
            text.append("it did not end in time")
            break
        text.append(line)
        case = NESTED.match(line)
        if case:
            name, verdict, seconds, detail = case.groups()
            full = f"{ctx.prefix}nested/{name}"
            ms = round(float(seconds or 0) * 1000)
            seen += 1
            if verdict == "FAIL":
                # Its explanation comes at the end.
                failures[name] = (full, ms)
            else:
                ctx.add(full, "ok" if verdict == "ok" else "skip", detail or "", ms)
    os.close(read_fd)
    try:
        code = p.wait(30)
    except Exception:
        code = None
    ctx.programs.end(p)
    whole = "\n".join(text)
    for name, (full, ms) in failures.items():
        told = re.search(rf"^FAIL: {re.escape(name)}\n-+\n(.*?)(?=^=====|^-----)", whole,
                         re.M | re.S)
        ctx.add(full, "fail", told.group(1) if told else whole[-3000:], ms)
    if code == 77 and not seen:
        why = [line for line in text if line.startswith("skipped")] or text[-1:]
        ctx.add(f"{ctx.prefix}nested", "skip", why[0] if why else "it could not run")
    elif code != 0 and not failures and not ctx.pattern:
        ctx.add(f"{ctx.prefix}nested", "fail", f"exit code {code}\n{whole[-3000:]}")


# ---- what the sanitizers wrote ----

def sanitizer_env(state):
    """Reports go to files, because the daemons have nobody who reads their standard error, and end
    the process, so that the test that caused it fails as well."""
    logs = state / "sanitizer"
    logs.mkdir(mode=0o777)
    logs.chmod(0o1777)  # brigd has an id of its own
    common = f"log_path={logs}/report:abort_on_error=0:exitcode=99:handle_abort=1"
    return {
        "ASAN_OPTIONS": f"{common}:detect_leaks=0:detect_stack_use_after_return=0:"
                        "strict_string_checks=1:allocator_may_return_null=1:quarantine_size_mb=64",
        "UBSAN_OPTIONS": f"{common}:print_stacktrace=1:halt_on_error=1",
        "LSAN_OPTIONS": "exitcode=99",
    }


def sanitizer_reports(ctx):
    reports = sorted((ctx.state / "sanitizer").iterdir())
    text = "\n".join(p.read_text(errors="replace")[:3000] for p in reports[:5])
    name = f"{ctx.prefix}no report of a sanitizer"
    if ctx.wants(name) or reports:
        ctx.add(name, "fail" if reports else "ok", text)
