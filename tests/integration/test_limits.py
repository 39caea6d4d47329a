# SPDX-License-Identifier: Apache-2.0
"""Limits hold, and the status proves which one was met: stop reason, limits_hit, evidence."""

import os
import time

import brigtest
from brigtest import MIB, PrivateCase, ResidentCase

EAT = "import sys\nb = []\nfor _ in range({n}):\n b.append(bytearray(b'x' * 1048576))\nprint(len(b))"


def python(text):
    return ["--", "/usr/bin/python3", "-S", "-c", text]


class LimitCases:
    # ---- memory ----

    def test_memory_an_out_of_memory_kill_is_proved(self):
        done, status = self.brig.status("--memory", "64m", *python(EAT.format(n=500)), expect=137)
        self.assertEqual(status["stop_reason"], "out_of_memory", status)
        self.assertIn("memory", status["limits_hit"])
        evidence = status["evidence"]
        self.assertGreaterEqual(evidence["oom_kills"], 1)
        self.assertEqual(evidence["memory_limit_bytes"], 64 * MIB)
        self.assertGreater(evidence["memory_peak_bytes"], 60 * MIB)
        self.assertLessEqual(status["usage"]["memory_peak_bytes"], 64 * MIB)
        self.assertIn("out_of_memory", done.errors)

    def test_memory_a_command_below_the_limit_is_left_alone(self):
        done, status = self.brig.status("--memory", "128m", *python(EAT.format(n=64)), expect=0)
        self.assertEqual(done.out, b"64\n")
        self.assertEqual((status["stop_reason"], status["limits_hit"]), ("exited", []))

    def test_memory_exit_137_and_own_sigkill_are_no_out_of_memory(self):
        for script, reason in (("exit 137", "exited"), ("kill -KILL $$", "signaled")):
            _, status = self.brig.status("--memory", "64m", "--", "sh", "-c", script, expect=137)
            self.assertEqual((status["stop_reason"], status["limits_hit"]), (reason, []), status)

    def test_memory_a_killed_child_is_a_hit_and_no_stop(self):
        script = f"/usr/bin/python3 -S -c \"{EAT.format(n=500)}\"; echo child $?; exit 5"
        done, status = self.brig.status("--memory", "64m", "--", "sh", "-c", script, expect=5)
        self.assertEqual(done.out, b"child 137\n")
        self.assertEqual(status["stop_reason"], "exited")
        self.assertIn("memory", status["limits_hit"])

    def test_memory_files_in_tmp_and_shm_are_charged(self):
        for where in ("/tmp/f", "/dev/shm/f", "/home/user/f"):
            with self.subTest(where):
                done, status = self.brig.status(
                    "--memory", "128m", "--disk", "100m", "--", "sh", "-c",
                    f"head -c 40000000 /dev/zero >{where}; stat -c %s {where}", expect=0)
                self.assertEqual(done.out, b"40000000\n", str(done))
                self.assertGreater(status["usage"]["memory_peak_bytes"], 38 * MIB)

    def test_memory_of_kernel_objects_is_charged(self):
        # 200 pipes of 256 KiB each are 50 MiB that no process has mapped.
        text = ("import fcntl, os\nfor i in range(400):\n r, w = os.pipe()\n"
                " fcntl.fcntl(w, 1031, 1 << 18)\n os.set_blocking(w, False)\n"
                " os.write(w, b'x' * (1 << 18))\nprint('all')")
        done, status = self.brig.status("--memory", "48m", "--nofile", "4096", *python(text))
        self.assertNotEqual(done.out, b"all\n", "100 MiB of pipe buffers fitted into 48 MiB")
        self.assertLessEqual(status["usage"]["memory_peak_bytes"], 48 * MIB)

    def test_memory_cannot_be_escaped_to_swap(self):
        _, status = self.brig.status("--memory", "64m", *python(EAT.format(n=70)))
        self.assertEqual(status["stop_reason"], "out_of_memory", status)

    # ---- processes ----

    def test_pids_forks_fail_at_the_limit(self):
        text = ("import os, time\nn = 0\ntry:\n while n < 500:\n  if os.fork() == 0:\n"
                "   time.sleep(60)\n   os._exit(0)\n  n += 1\nexcept BlockingIOError:\n"
                " print('refused after', n)")
        done, status = self.brig.status("--pids", "40", *python(text), expect=0)
        self.assertRegex(done.text, r"refused after \d+")
        self.assertLess(int(done.text.split()[-1]), 40)
        self.assertIn("pids", status["limits_hit"])
        self.assertLessEqual(status["usage"]["pids_peak"], 40)
        self.assertGreater(status["usage"]["pids_peak"], 30)

    def test_pids_threads_count(self):
        text = ("import threading, time\nn = 0\ntry:\n while n < 500:\n"
                "  threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n  n += 1\n"
                "except RuntimeError:\n print('refused', flush=True)\nimport os\nos._exit(0)")
        done, status = self.brig.status("--pids", "40", *python(text), expect=0)
        self.assertEqual(done.out, b"refused\n")
        self.assertIn("pids", status["limits_hit"])

    # ---- disk and inodes ----

    def test_disk_the_writable_layer_is_full_at_its_limit(self):
        for where in ("/tmp/f", "/home/user/f", "/dev/shm/f", "/var/tmp/f"):
            with self.subTest(where):
                done, status = self.brig.status(
                    "--disk", "20m", "--", "sh", "-c",
                    f"head -c 200000000 /dev/zero >{where}; echo $?; stat -c %s {where}; sleep 0.6")
                code, size = done.text.split()
                self.assertNotEqual(code, "0", "200 MB were written within 20 MiB")
                self.assertLessEqual(int(size), 20 * MIB)
                self.assertGreater(int(size), 15 * MIB)
                self.assertIn(b"space", done.err)
                self.assertIn("disk", status["limits_hit"], status)

    def test_disk_places_share_one_limit(self):
        done = self.brig.run("--disk", "20m", "--", "sh", "-c",
                             "for d in /tmp /dev/shm /home/user /var/tmp; do "
                             "head -c 15000000 /dev/zero >$d/f 2>/dev/null; done; "
                             "cat /tmp/f /dev/shm/f /home/user/f /var/tmp/f | wc -c")
        self.assertLessEqual(int(done.text), 20 * MIB, "each place has a limit of its own")

    def test_inodes_the_number_of_files_is_limited(self):
        done, status = self.brig.status(
            "--inodes", "500", "--", "sh", "-c",
            "cd /tmp; i=0; while [ $i -lt 2000 ] && true 2>/dev/null >f$i; do i=$((i+1)); done; "
            "ls | wc -l; sleep 0.6")
        self.assertLess(int(done.text.split()[-1]), 500, str(done))
        self.assertGreater(int(done.text.split()[-1]), 200, str(done))
        self.assertIn("inodes", status["limits_hit"], status)

    # ---- time ----

    def test_cpu_time_a_burner_is_stopped_by_what_it_used(self):
        _, status = self.brig.status("--cpu-time", "500ms", "--", "sh", "-c", "while :; do :; done",
                                     expect=137)
        self.assertEqual(status["stop_reason"], "cpu_time")
        self.assertIn("cpu_time", status["limits_hit"])
        self.assertEqual(status["evidence"]["limit_ms"], 500)
        self.assertGreaterEqual(status["evidence"]["cpu_ms"], 500)
        self.assertLess(status["evidence"]["cpu_ms"], 500 + 250 * brigtest.SLOW)

    def test_cpu_time_counts_every_process(self):
        _, status = self.brig.status("--cpus", "2", "--cpu-time", "600ms", "--", "sh", "-c",
                                     "for i in 1 2 3 4; do (while :; do :; done) & done; wait",
                                     expect=137)
        self.assertEqual(status["stop_reason"], "cpu_time")

    def test_cpu_time_sleeping_costs_nothing(self):
        _, status = self.brig.status("--cpu-time", "500ms", "--", "sleep", "1.2", expect=0)
        self.assertEqual(status["limits_hit"], [])

    def test_cpus_a_burner_gets_its_share_and_no_more(self):
        _, status = self.brig.status("--cpus", "0.25", "--timeout", "2s", "--", "sh", "-c",
                                     "for i in 1 2 3; do (while :; do :; done) & done; wait", expect=124)
        used, wall = status["usage"]["cpu_ms"], status["usage"]["wall_ms"]
        self.assertLess(used / wall, 0.25 * 1.4, f"{used} ms of CPU in {wall} ms")
        # The machine may be busy, so the lower end is generous.
        self.assertGreater(used / wall, 0.25 * 0.4, f"{used} ms of CPU in {wall} ms")

    def test_timeout_and_cpu_time_are_told_apart(self):
        _, status = self.brig.status("--timeout", "1s", "--cpu-time", "30s", "--", "sh", "-c",
                                     "while :; do :; done", expect=124)
        self.assertEqual(status["stop_reason"], "wall_time")
        self.assertNotIn("cpu_time", status["limits_hit"])

    # ---- output ----

    def test_output_ends_after_exactly_so_many_bytes(self):
        for limit, count in (("1", 1), ("1000", 1000), ("64k", 65536), ("3m", 3 * MIB)):
            with self.subTest(limit):
                done, status = self.brig.status("--max-output", limit, "--", "yes", expect=137)
                self.assertEqual(len(done.out), count)
                self.assertEqual(status["stop_reason"], "output")
                self.assertIs(status["truncated"], True)
                self.assertIn("output", status["limits_hit"])
                self.assertEqual(status["evidence"]["max_output_bytes"], count)
                self.assertEqual(status["usage"]["stdout_bytes"], count)

    def test_output_counts_errors_too(self):
        done, status = self.brig.status("--max-output", "10000", "--", "sh", "-c", "yes & yes >&2",
                                        expect=137)
        self.assertEqual(status["stop_reason"], "output")
        self.assertEqual(status["usage"]["stdout_bytes"] + status["usage"]["stderr_bytes"], 10000)
        # brig's own line about the stop follows on standard error.
        self.assertEqual(len(done.out), status["usage"]["stdout_bytes"])

    def test_output_of_just_the_limit_is_no_stop(self):
        done, status = self.brig.status("--max-output", "5000", "--", "head", "-c", "5000", "/dev/zero")
        self.assertEqual(len(done.out), 5000)
        # A command that wrote as much as it may is at the limit, not beyond it.
        self.assertEqual((done.code, status["stop_reason"], status["truncated"]), (0, "exited", False))

    # ---- descriptors ----

    def test_nofile_opening_fails_at_the_limit(self):
        text = ("import os, time\nn = []\ntry:\n while True:\n  n.append(os.open('/dev/null', 0))\n"
                "except OSError as e:\n time.sleep(0.6)\n print(e.errno, max(n))")
        done, status = self.brig.status("--nofile", "100", *python(text), expect=0)
        self.assertEqual(done.out, b"24 99\n", str(done))
        self.assertIn("descriptors", status["limits_hit"], status)

    def test_nofile_cannot_be_raised(self):
        done = self.brig.run("--nofile", "100", "--user", "root", "--", "sh", "-c",
                             "ulimit -Hn; ulimit -n 200")
        self.assertEqual(done.out, b"100\n")
        self.assertNotEqual(done.code, 0)

    # ---- together ----

    def test_defaults_hold_without_any_flag(self):
        done = self.brig.run("--", "sh", "-c", "ulimit -n; ulimit -c; "
                             "df -B1 --output=size / | tail -1; df --output=itotal / | tail -1")
        nofile, core, disk, inodes = map(int, done.text.split())
        self.assertEqual((nofile, core), (1024, 0))
        self.assertLessEqual(disk, 256 * MIB)
        self.assertGreater(disk, 200 * MIB)
        # Those that brig itself needs (device nodes, the top directories) come on top.
        self.assertLess(inodes, 65536 + 64)


class Private(LimitCases, PrivateCase):
    def setUp(self):
        super().setUp()
        brigtest.need_root()


class Resident(LimitCases, ResidentCase):
    @classmethod
    def setUpClass(cls):
        brigtest.need_root()
        super().setUpClass()

    def test_a_greedy_neighbour_changes_nothing_for_others(self):
        greedy = self.start(self.brig, "--memory", "64m", "--timeout", "20s", "--", "sh", "-c",
                            "echo ready; while :; do /usr/bin/python3 -S -c "
                            f"\"{EAT.format(n=500)}\"; done")
        for _ in range(5):
            done, status = self.brig.status("--memory", "64m", *python(EAT.format(n=16)), expect=0)
            self.assertEqual(status["limits_hit"], [], "the neighbour's kills are counted here")
        self.assertIsNone(greedy.poll())

    def test_limits_of_a_living_sandbox_are_for_all_its_commands(self):
        self.assertOk(self.brig.call("create", "--image", "host", "--name", "small", "--memory", "64m"))
        done = self.brig.call("exec", "small", "/usr/bin/python3", "-S", "-c", EAT.format(n=500))
        self.assertCode(done, 137)
        done = self.brig.call("exec", "small", "echo", "alive")
        self.assertEqual(done.out, b"alive\n", str(done))

    def test_exec_has_a_timeout_and_an_output_limit_of_its_own(self):
        self.assertOk(self.brig.call("create", "--image", "host", "--name", "box"))
        start = time.monotonic()
        done = self.brig.call("exec", "--timeout", "300ms", "box", "sleep", "60")
        self.assertCode(done, 124)
        self.assertLess(time.monotonic() - start, 5 * brigtest.SLOW)
        done = self.brig.call("exec", "--max-output", "1000", "box", "yes")
        self.assertEqual((done.code, len(done.out)), (137, 1000), done.errors)
        # The sandbox lives on, and what was started is gone.
        done = self.brig.call("exec", "box", "sh", "-c", "cat /proc/[0-9]*/comm")
        self.assertNotIn("yes", done.text.split())
        self.assertNotIn("sleep", done.text.split())


class Host(PrivateCase):
    """What the host itself is protected from."""

    def setUp(self):
        super().setUp()
        brigtest.need_root()

    def test_the_host_stays_usable_beside_a_fork_bomb(self):
        p = self.start(self.brig, "--pids", "64", "--timeout", "20s", "--", "bash", "-c",
                       "echo ready; b() { b | b & }; b; while :; do sleep 1; done")
        try:
            slowest = 0.0
            for _ in range(10):
                start = time.monotonic()
                if os.spawnv(os.P_WAIT, "/bin/true", ["true"]) != 0:
                    self.fail("the host cannot start a process")
                slowest = max(slowest, time.monotonic() - start)
            self.assertLess(slowest, 1.0)
        finally:
            p.kill()

    def test_an_out_of_memory_kill_spares_the_host(self):
        _, status = self.brig.status("--memory", "32m", "--", "sh", "-c",
                                     "for i in 1 2 3 4 5 6; do tail /dev/zero & done; wait; exit 3")
        self.assertIn("memory", status["limits_hit"])
