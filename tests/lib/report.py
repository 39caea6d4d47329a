# SPDX-License-Identifier: Apache-2.0
"""One line per test as it ends, and the summary.

In continuous integration (CI=true) a skip must be foreseen: one that no line of tests/allowed-skips
matches counts as a failure, because a test that never runs shows nothing.
"""

import fnmatch
import os
import sys
import time

SECOND_TRIES = 4  # of a whole run; more failures than that are no accident


def allowed_skips(path):
    """[(pattern of a test's name, reason)] of a file of lines `PATTERN # reason`."""
    rules = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pattern, hash_, reason = line.partition("#")
        if not hash_ or not reason.strip():
            raise SystemExit(f"{path}:{number}: a line is `PATTERN # reason`")
        rules.append((pattern.strip(), reason.strip()))
    return rules


class Report:
    def __init__(self, rules, verbose=False):
        self.rules, self.verbose = rules, verbose
        self.strict = os.environ.get("CI") == "true"
        self.count = {"ok": 0, "fail": 0, "skip": 0}
        self.failures, self.skips, self.shaky = [], [], []
        self.tries = SECOND_TRIES
        self.start = self.section_start = time.monotonic()
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def section(self, title):
        now = time.monotonic()
        self.section_start = now
        print(f"\n== {title} [{now - self.start:.0f} s]", flush=True)

    def paint(self, text, code):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def add(self, name, result, detail="", ms=0):
        """result: ok, fail or skip."""
        if result == "skip" and self.strict and not self.foreseen(name):
            result = "fail"
            detail = f"skipped, which tests/allowed-skips does not foresee: {detail}"
        self.count[result] += 1
        took = f" ({ms / 1000:.1f} s)" if ms >= 500 else ""
        if result == "ok":
            print(f"{self.paint('ok  ', 32)} {name}{took}", flush=True)
        elif result == "skip":
            self.skips.append((name, detail))
            print(f"{self.paint('skip', 33)} {name}: {detail.splitlines()[0] if detail else ''}",
                  flush=True)
        else:
            self.failures.append((name, detail))
            print(f"{self.paint('FAIL', 31)} {name}{took}", flush=True)
            for line in detail.rstrip().splitlines()[-60:]:
                print(f"       {line[:2000]}", flush=True)
        if self.verbose and result == "ok" and detail:
            print("       " + detail.rstrip().replace("\n", "\n       "), flush=True)

    def may_try_again(self, name):
        self.tries -= 1
        if self.tries >= 0:
            print(f"{self.paint('... ', 33)} {name} failed and is run once more", flush=True)
        return self.tries >= 0

    def unsteady(self, name, detail, ms):
        """Passed at its second try. What it said at the first is a defect to be looked into."""
        self.shaky.append((name, detail))
        self.add(name, "ok", ms=ms)
        for line in ("at its first try:\n" + detail.rstrip()).splitlines()[-60:]:
            print(f"       {line[:2000]}", flush=True)

    def note(self, text):
        print(f"     # {text}", flush=True)

    def foreseen(self, name):
        return any(fnmatch.fnmatchcase(name, pattern) for pattern, _ in self.rules)

    def finish(self):
        seconds = time.monotonic() - self.start
        if self.skips:
            print("\nskipped:")
            for name, reason in self.skips:
                print(f"  {name}: {reason.splitlines()[0] if reason else ''}")
        if self.shaky:
            print("\nunsteady (passed at the second try; look into what they said at the first):")
            for name, detail in self.shaky:
                print(f"  {name}")
                for line in detail.rstrip().splitlines()[-4:]:
                    print(f"      {line[:300]}")
        if self.failures:
            # Of a long run often only the end is kept.
            print("\nfailed:")
            for name, detail in self.failures:
                print(f"  {name}")
                for line in detail.rstrip().splitlines()[-8:]:
                    print(f"      {line[:300]}")
        print(f"\nin {seconds // 60:.0f} min {seconds % 60:.0f} s")
        print(f"{self.count['ok']} passed, {self.count['fail']} failed, "
              f"{self.count['skip']} skipped", flush=True)
        nothing = not any(self.count.values())
        if nothing:
            print("no test has such a name", file=sys.stderr)
        return 1 if self.failures or nothing else 0
