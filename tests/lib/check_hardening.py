# SPDX-License-Identifier: Apache-2.0
"""What the compiler was asked for is in the programs: read from the binaries, not from the build files."""

import pathlib
import re
import subprocess
import unittest

import brigtest

# Those without an interpreter: a library that is replaced, or found elsewhere, cannot reach them.
STATIC = ("brig", "brigd", "brig-jaild", "brig-agent", "brig-sudo", "brig-attack", "brig-vmm", "brig-guest-init", "brig-guest-pack")
PROGRAMS = (*STATIC, "brig-image", "brig-api", "brig-audit", "brig-pull", "brig-remote")


def readelf(path, *flags):
    done = subprocess.run(["readelf", "-W", *flags, str(path)], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


class Hardening(unittest.TestCase):
    def setUp(self):
        brigtest.need_program("readelf")
        brigtest.need_program("objdump")

    def each(self, programs=PROGRAMS):
        for name in programs:
            path = brigtest.build_dir() / name
            self.assertTrue(path.exists(), f"{path} was not built")
            yield name, path

    def test_every_program_is_position_independent(self):
        for name, path in self.each():
            with self.subTest(name):
                self.assertRegex(readelf(path, "-h"), r"Type:\s+DYN")

    def test_no_memory_is_writable_and_executable(self):
        for name, path in self.each():
            with self.subTest(name):
                for line in readelf(path, "-l").splitlines():
                    if re.match(r"\s+(LOAD|GNU_STACK)\s", line):
                        flags = re.search(r"\s([R ][W ][E ])\s+0x", line).group(1)
                        self.assertFalse("W" in flags and "E" in flags, line)
                self.assertIn("GNU_STACK", readelf(path, "-l"))

    def test_relocations_are_done_at_start_and_read_only_then(self):
        for name, path in self.each():
            with self.subTest(name):
                self.assertIn("GNU_RELRO", readelf(path, "-l"))
                self.assertRegex(readelf(path, "-d"), r"\bNOW\b")

    def test_no_search_path_for_libraries_is_built_in(self):
        for name, path in self.each():
            with self.subTest(name):
                self.assertNotRegex(readelf(path, "-d"), r"\((RPATH|RUNPATH)\)")

    def test_what_is_promised_to_be_static_is(self):
        for name, path in self.each():
            with self.subTest(name):
                if name in STATIC:
                    self.assertNotIn("INTERP", readelf(path, "-l"))
                    self.assertNotIn("(NEEDED)", readelf(path, "-d"))

    def test_stacks_have_a_canary(self):
        for name, path in self.each():
            with self.subTest(name):
                code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True,
                                      text=True).stdout
                # x86_64: the canary lies at %fs:0x28; elsewhere it has a symbol.
                found = len(re.findall(r"%fs:0x28|__stack_chk", code))
                self.assertGreater(found, 10, f"{name} has {found} places that look at a canary")

    def test_dynamic_programs_use_the_checked_forms_of_libc(self):
        for name, path in self.each():
            with self.subTest(name):
                if name not in STATIC:
                    self.assertRegex(readelf(path, "--dyn-syms"), r"__\w+_chk")

    def test_no_program_is_setuid(self):
        for name, path in self.each():
            with self.subTest(name):
                self.assertEqual(path.stat().st_mode & 0o6000, 0)

    def test_the_agent_is_small_and_of_libc_only(self):
        self.assertLess((brigtest.build_dir() / "brig-agent").stat().st_size, 2 << 20)

    def test_no_path_of_the_build_is_in_a_program(self):
        for name, path in self.each():
            with self.subTest(name):
                # In the loaded parts; debug information may name the sources.
                text = subprocess.run(["strings", "--data", str(path)], capture_output=True, text=True).stdout
                self.assertNotIn(str(pathlib.Path(brigtest.SOURCE)), text)
