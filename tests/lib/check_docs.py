# SPDX-License-Identifier: Apache-2.0
"""Documents say what the programs do: generated tables are up to date, manual pages and completions are
sound, links lead somewhere, what is named exists."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import brigtest
from brigtest import Brig

SOURCE = brigtest.SOURCE


def documents():
    found = subprocess.run(["git", "-C", str(SOURCE), "ls-files", "*.md"], capture_output=True,
                           text=True).stdout.split()
    if not found:  # an unpacked archive
        found = [str(p.relative_to(SOURCE)) for p in SOURCE.glob("**/*.md") if "build" not in p.parts[0]]
    return [SOURCE / name for name in found if (SOURCE / name).exists()]


class Documents(unittest.TestCase):
    def test_generated_tables_are_up_to_date(self):
        done = subprocess.run([sys.executable, SOURCE / "tools" / "gen_protocol_tables", "--check"],
                              capture_output=True, text=True, cwd=SOURCE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_links_within_the_sources_lead_somewhere(self):
        documents_ = documents()
        self.assertGreater(len(documents_), 5)
        for path in documents_:
            for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
                if re.match(r"[a-z]+:|#", target):
                    continue
                with self.subTest(f"{path.name}: {target}"):
                    self.assertTrue((path.parent / target.partition("#")[0]).exists())

    def test_files_that_are_named_exist(self):
        for path in documents():
            for name in re.findall(r"`((?:src|tests|include|tools|bench|examples|docs)/[\w./-]*\w)`",
                                   path.read_text()):
                with self.subTest(f"{path.name}: {name}"):
                    self.assertTrue((SOURCE / name).exists(), "it is named and not there")

    def test_flags_that_are_named_exist(self):
        brig = Brig()
        known = set()
        for verb in ("run", "create", "exec", "ls", "inspect", "cp", "logs", "kill", "rm", "stats",
                     "doctor", "gc", "serve", "pool", "version"):
            known |= set(re.findall(r"--[\w-]+", brig.call(verb, "--help").text))
        known |= set(re.findall(r"--[\w-]+", brig.call("image", "--help").text))
        for path in documents():
            for line in re.findall(r"^\s*(?:\$ )?(?:build/)?brig (?:run|create|exec|rm|logs|ls|gc|stats|"
                                   r"doctor|serve) .*$", path.read_text(), re.M):
                for flag in re.findall(r"(?<=\s)--[\w-]+", line.split(" -- ")[0]):
                    with self.subTest(f"{path.name}: {line.strip()}"):
                        self.assertIn(flag, known)

    def test_every_limit_and_exit_code_is_documented(self):
        text = " ".join(p.read_text() for p in documents())
        limits = re.findall(r'X\(\w+, "([\w-]+)"', (SOURCE / "include/brig/limits.h").read_text())
        self.assertGreater(len(limits), 5)
        for flag in limits:
            self.assertIn(f"--{flag}", text)
        for code in ("124", "125", "126", "127"):
            self.assertIn(code, text)


class Manual(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.brig = Brig()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="man-", dir=brigtest.SCRATCH))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        done = cls.brig.call("__man", cls.folder)
        if done.code:
            raise AssertionError(str(done))

    def pages(self):
        return sorted(self.folder.glob("*.1"))

    def test_every_verb_has_a_page(self):
        verbs = set(re.findall(r"^  (\w+) ", self.brig.call("--help").text, re.M))
        self.assertGreater(len(verbs), 12)
        self.assertEqual({f"brig-{v}.1" for v in verbs} - {p.name for p in self.pages()}, set())

    def test_pages_are_sound(self):
        brigtest.need_program("mandoc")
        for page in self.pages():
            with self.subTest(page.name):
                done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", str(page)], capture_output=True,
                                      text=True)
                self.assertEqual(done.stdout, "")

    def test_pages_name_every_flag_of_their_help(self):
        for page in self.pages():
            verb = page.stem.removeprefix("brig-")
            if page.stem == "brig" or verb == "image":
                continue
            text = page.read_text().replace("\\-", "-").replace("\\&", "")
            for flag in re.findall(r"(?<=[\s,])--([\w-]+)", self.brig.call(verb, "--help").text):
                with self.subTest(f"{page.name}: {flag}"):
                    self.assertIn(flag, text)

    def test_completions_are_sound_shell(self):
        for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])):
            script = self.brig.call("completion", shell)
            self.assertEqual(script.code, 0, str(script))
            for verb in ("run", "exec", "logs"):
                self.assertIn(verb, script.text)
            if not shutil.which(shell):
                continue  # not a dependency; bash always is
            with self.subTest(shell):
                path = self.folder / f"completion.{shell}"
                path.write_text(script.text)
                done = subprocess.run([*check, str(path)], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_completion_in_a_real_bash(self):
        script = self.folder / "bash"
        script.write_text(self.brig.call("completion", "bash").text)
        ask = f"""source {script}
            complete_line() {{
                COMP_LINE="$*" COMP_POINT=${{#COMP_LINE}} COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
                $(complete -p brig | sed 's/.*-F \\([^ ]*\\).*/\\1/') brig "${{!#}}" "${{@:$#-1:1}}"
                echo "${{COMPREPLY[@]}}"
            }}
            complete_line brig ru; complete_line brig run --mem; complete_line brig run --tier con"""
        done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True,
                              env={"PATH": f"{self.brig.build}:/usr/bin:/bin",
                                   "BRIG_SOCKET": str(self.brig.socket)})
        words = done.stdout.splitlines()
        self.assertEqual(len(words), 3, done.stdout + done.stderr)
        self.assertIn("run", words[0].split())
        self.assertTrue(any(w.startswith("--memory") for w in words[1].split()), words)
        self.assertIn("container", words[2].split())


class Words(unittest.TestCase):
    """What reads badly in public sources."""

    def test_no_path_of_a_builders_machine(self):
        names = subprocess.run(["git", "-C", str(SOURCE), "ls-files"], capture_output=True,
                               text=True).stdout.split("\n")
        home = str(pathlib.Path.home())
        for name in names:
            path = SOURCE / name
            if not name or not path.is_file() or "corpus" in name or path.suffix in (".csv", ".gz"):
                continue
            text = path.read_bytes().decode(errors="replace")
            with self.subTest(name):
                self.assertNotIn(str(SOURCE) + "/", text)
                if home not in ("/", "/root"):
                    self.assertNotIn(home + "/", text)
