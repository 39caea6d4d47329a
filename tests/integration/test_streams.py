# SPDX-License-Identifier: Apache-2.0
"""Standard input, output and error pass through live, unchanged, in any amount, in flat memory."""

import hashlib
import random
import signal
import subprocess
import threading
import time

import brigtest
from brigtest import GIB, MIB, MemoryWatch, PrivateCase, ResidentCase

# Blocks of a pattern that is not the same twice, but cheap to make.
BLOCK = random.Random(7).randbytes(MIB)


def feed(pipe, blocks):
    """Writes blocks * 1 MiB and closes the pipe; returns the thread and the digest that it makes."""
    digest = hashlib.sha256()

    def body():
        try:
            for i in range(blocks):
                piece = i.to_bytes(8, "big") + BLOCK[8:]
                digest.update(piece)
                pipe.write(piece)
            pipe.close()
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=body)
    thread.start()
    return thread, digest


class StreamCases:
    def test_output_and_errors_stay_apart(self):
        done = self.brig.run("--", "sh", "-c", "echo out; echo err >&2; echo out2")
        self.assertOk(done)
        self.assertEqual((done.out, done.err), (b"out\nout2\n", b"err\n"))

    def test_output_is_live_and_input_is_answered(self):
        p = self.start(self.brig, "--", "sh", "-c",
                       "echo ready; while read line; do echo \"got $line\"; done; echo end >&2",
                       stdin=subprocess.PIPE)
        for word in (b"one", b"two", b"three"):
            p.stdin.write(word + b"\n")
            p.stdin.flush()
            # The answer comes while the command runs and waits for more.
            self.assertEqual(p.stdout.readline(), b"got " + word + b"\n")
            self.assertIsNone(p.poll())
        p.stdin.close()
        self.assertEqual(p.stdout.read(), b"")
        self.assertEqual(p.stderr.read(), b"end\n")
        self.assertEqual(p.wait(20), 0)

    def test_the_end_of_input_arrives(self):
        done = self.brig.run("--", "wc", "-c", input=b"x" * 100001)
        self.assertEqual(done.text.split(), ["100001"], str(done))
        done = self.brig.run("--", "wc", "-c", input=b"")
        self.assertEqual(done.text.split(), ["0"], str(done))

    def test_every_byte_value_passes_unchanged_both_ways(self):
        data = bytes(range(256)) * 17 + BLOCK * 4 + b"\r\n\x00\x04\x1a"
        done = self.brig.run("--", "cat", input=data)
        self.assertOk(done)
        self.assertTrue(done.out == data, f"{len(done.out)} bytes came back of {len(data)}, changed")
        self.assertEqual(done.err, b"")

    def test_errors_pass_unchanged(self):
        data = bytes(range(256)) * 4096
        done = self.brig.run("--", "sh", "-c", "cat >&2", input=data)
        self.assertOk(done)
        self.assertTrue(done.err == data, f"{len(done.err)} bytes of {len(data)}")

    def test_arguments_pass_unchanged(self):
        words = ["", " ", "a b", "*", "$HOME", "\n", "'\"\\", "-x", "--", "äöü€𝄞", "x" * 50000]
        done = self.brig.run("--", "printf", "%s\\0", *words)
        self.assertOk(done)
        self.assertEqual(done.out.split(b"\0")[:-1], [w.encode() for w in words])

    def test_an_argument_that_is_no_utf8_is_refused_or_unchanged(self):
        done = self.brig.run("--", "printf", "%s", b"a\xff\xfeb".decode(errors="surrogateescape"))
        if done.code == 0:
            self.assertEqual(done.out, b"a\xff\xfeb")
        else:
            self.assertRefused(done, (2, 125))

    def test_a_slow_reader_loses_nothing(self):
        p = self.brig.popen("run", "--image", "host", "--", "sh", "-c",
                            "head -c 20000000 /dev/zero; echo end")
        self.addCleanup(self._end, p)
        time.sleep(1)
        got = p.stdout.read()
        self.assertEqual((len(got), got[-4:]), (20000004, b"end\n"))
        self.assertEqual(p.wait(20), 0)

    def test_a_reader_that_goes_away_ends_the_command(self):
        p = self.brig.popen("run", "--image", "host", "--", "yes")
        self.addCleanup(self._end, p)
        p.stdout.read(100000)
        p.stdout.close()
        self.assertNotEqual(p.wait(10 * brigtest.SLOW), 0)

    def test_closed_descriptors_confuse_nobody(self):
        # A program started without one of its three descriptors gets the next one it opens there.
        for redirect, expect in (("<&-", b"ab"), (">&-", b""), ("2>&-", b"ab"), ("<&- 2>&-", b"ab")):
            with self.subTest(redirect=redirect):
                script = f'exec "$@" {redirect}'
                p = self.brig.popen("run", "--image", "host", "--", "sh", "-c",
                                    "cat; printf ab; exit 3", prefix=("sh", "-c", script, "sh"))
                out, err = p.communicate(timeout=30 * brigtest.SLOW)
                self.assertEqual(out, expect, err)
                if redirect != ">&-":
                    self.assertEqual(p.returncode, 3, err)
                self.assertNotIn(b"ab", err)

    def test_files_as_input_and_output(self):
        source, target = self.tmp / "in", self.tmp / "out"
        source.write_bytes(BLOCK)
        target.write_bytes(b"before ")
        with open(source, "rb") as i, open(target, "ab") as o:
            done = self.brig.run("--", "cat", stdin=i, stdout=o)
        self.assertOk(done)
        self.assertEqual(target.read_bytes(), b"before " + BLOCK)

    def test_input_that_nobody_reads_does_not_hold_up_the_end(self):
        p = self.brig.popen("run", "--image", "host", "--", "sh", "-c", "echo done",
                            stdin=subprocess.PIPE)
        self.addCleanup(self._end, p)
        thread, _ = feed(p.stdin, 64)
        self.assertEqual(p.stdout.read(), b"done\n")
        self.assertEqual(p.wait(10 * brigtest.SLOW), 0)
        thread.join()

    def test_input_while_output_is_flooded(self):
        p = self.brig.popen("run", "--image", "host", "--", "cat", stdin=subprocess.PIPE)
        self.addCleanup(self._end, p)
        thread, sent = feed(p.stdin, 128)
        got = hashlib.sha256()
        while data := p.stdout.read(MIB):
            got.update(data)
        thread.join()
        self.assertEqual(p.wait(20), 0)
        self.assertEqual(got.hexdigest(), sent.hexdigest())

    def test_a_closed_output_of_the_command_is_no_end(self):
        p = self.start(self.brig, "--", "sh", "-c",
                       "echo ready; exec >&- 2>&-; read x; exit $x", stdin=subprocess.PIPE)
        time.sleep(0.2)
        self.assertIsNone(p.poll(), "brig ended with the outputs and not with the command")
        p.stdin.write(b"9\n")
        p.stdin.close()
        self.assertEqual(p.wait(20), 9)


class Private(StreamCases, PrivateCase):
    pass


class Resident(StreamCases, ResidentCase):
    pass


class Volume(PrivateCase):
    """A gibibyte each way. No process of brig may keep what passes through it."""

    # Credits are 4 MiB per output (client_proto.h), and each hop has a buffer or two of its own.
    FLAT = 32 * MIB

    def check_memory(self, watch):
        self.assertTrue({"brig", "brigd", "brig-jaild"} <= set(watch.peak), watch.peak)
        for program, peak in watch.peak.items():
            self.assertLess(peak, self.FLAT, f"{program} grew: {watch.peak}")

    def run_flat(self, *args, blocks=None):
        with MemoryWatch() as watch:
            p = self.brig.popen("run", "--image", "host", *args,
                                stdin=subprocess.PIPE if blocks else subprocess.DEVNULL)
            self.addCleanup(self._end, p)
            thread, sent = feed(p.stdin, blocks) if blocks else (None, None)
            total, tail = 0, b""
            while data := p.stdout.read(MIB):
                total, tail = total + len(data), data[-100:]
            if thread:
                thread.join()
            self.assertEqual(p.wait(30), 0, p.stderr.read())
        if not brigtest.SANITIZED:
            self.check_memory(watch)
        return total, tail, sent

    def test_a_gibibyte_of_output(self):
        total, tail, _ = self.run_flat("--", "sh", "-c", "head -c 1073741824 /dev/zero; echo end")
        self.assertEqual((total, tail[-4:]), (GIB + 4, b"end\n"))

    def test_a_gibibyte_of_input(self):
        _, tail, sent = self.run_flat("--", "sha256sum", blocks=1024)
        self.assertEqual(tail.split()[0].decode(), sent.hexdigest())

    def test_a_stopped_reader_stops_the_command_and_fills_nothing(self):
        p = self.brig.popen("run", "--image", "host", "--", "sh", "-c",
                            "head -c 300000000 /dev/zero; echo end >&2")
        self.addCleanup(self._end, p)
        with MemoryWatch() as watch:
            time.sleep(2)
        self.assertIsNone(p.poll(), "300 MB went into nowhere")
        if not brigtest.SANITIZED:
            self.check_memory(watch)
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.stdout.read(1), b"\0")
        while p.stdout.read(MIB):
            pass
        self.assertNotEqual(p.wait(10), 0)
