# SPDX-License-Identifier: Apache-2.0
"""create, exec, ls, inspect, logs, kill, rm, stats with Docker's meanings, on a resident server."""

import json
import os
import re
import signal
import subprocess
import time

import brigtest
import hoststate
from brigtest import MIB, Brig, PrivateCase, ResidentCase, wait_until


class Lifecycle(ResidentCase):
    def create(self, *args, **kw):
        done = self.brig.call("create", "--image", "host", *args, **kw)
        self.assertOk(done)
        id_ = done.text.strip()
        self.assertRegex(id_, r"^[a-z0-9]{16}$")
        return id_

    def exec(self, *args, **kw):
        return self.brig.call("exec", *args, **kw)

    def detached(self, *args):
        done = self.brig.call("run", "-d", "--image", "host", *args)
        self.assertOk(done)
        return done.text.strip()

    # ---- create and exec ----

    def test_a_created_sandbox_keeps_its_state_between_commands(self):
        id_ = self.create()
        self.assertOk(self.exec(id_, "sh", "-c", "echo kept >/tmp/f; cd /home/user; echo h >g"))
        self.assertEqual(self.exec(id_, "cat", "/tmp/f", "/home/user/g").out, b"kept\nh\n")
        self.assertOk(self.brig.call("rm", id_))
        self.assertRefused(self.exec(id_, "true"), 125, id_)

    def test_exec_passes_codes_streams_and_input(self):
        id_ = self.create()
        done = self.exec(id_, "sh", "-c", "cat; echo e >&2; exit 9", input=b"in\x00put")
        self.assertEqual((done.code, done.out, done.err), (9, b"in\x00put", b"e\n"))
        for command, code in ((["no-such"], 127), (["/etc/passwd"], 126),
                              (["sh", "-c", "kill -TERM $$"], 143)):
            self.assertCode(self.exec(id_, *command), code)

    def test_exec_has_its_own_environment_directory_and_user(self):
        id_ = self.create("--env", "A=sandbox", "--env", "B=both", "--workdir", "/usr")
        done = self.exec(id_, "sh", "-c", "echo $A $B; pwd; id -u")
        self.assertEqual(done.text.split(), ["sandbox", "both", "/usr", "1000"])
        done = self.exec("--env", "B=exec", "--workdir", "/tmp", "--user", "root", id_, "sh", "-c",
                         "echo $A $B; pwd; id -u")
        self.assertEqual(done.text.split(), ["sandbox", "exec", "/tmp", "0"])

    def test_many_commands_at_once(self):
        id_ = self.create()
        ps = [self.brig.popen("exec", id_, "sh", "-c", f"sleep 0.2; echo {i}; exit {i}")
              for i in range(12)]
        for i, p in enumerate(ps):
            out, err = p.communicate(timeout=30 * brigtest.SLOW)
            self.assertEqual((p.returncode, out), (i, f"{i}\n".encode()), err)

    def test_a_stalled_reader_does_not_stop_another_command(self):
        id_ = self.create()
        stalled = self.brig.popen("exec", id_, "yes")
        self.addCleanup(self._end, stalled)
        stalled.stdout.read(1)
        done = self.exec(id_, "head", "-c", "30000000", "/dev/zero", timeout=30)
        self.assertEqual(len(done.out), 30000000)
        self.assertIsNone(stalled.poll())

    def test_the_death_of_an_exec_client_ends_its_command_only(self):
        id_ = self.create()
        p = self.brig.popen("exec", id_, "sh", "-c", "echo ready; exec sleep 996")
        self.addCleanup(self._end, p)
        q = self.brig.popen("exec", id_, "sh", "-c", "echo ready; read x; echo $x",
                               stdin=subprocess.PIPE)
        self.addCleanup(self._end, q)
        p.stdout.readline()
        q.stdout.readline()
        p.kill()
        p.wait()
        wait_until("the command is gone", lambda: b"996" not in self.exec(
            id_, "sh", "-c", "cat /proc/[0-9]*/cmdline").out.replace(b"cat", b""), 3)
        q.stdin.write(b"still here\n")
        q.stdin.close()
        self.assertEqual(q.stdout.read(), b"still here\n")

    # ---- names, labels, prefixes ----

    def test_names_and_prefixes_find_a_sandbox(self):
        id_ = self.create("--name", "web.1")
        for ref in (id_, id_[:12], id_[:4], "web.1"):
            with self.subTest(ref):
                self.assertEqual(self.exec(ref, "echo", "x").out, b"x\n")
        for ref in (id_[:3], id_ + "x", "web", "WEB.1", "nosuch"):
            with self.subTest(ref):
                self.assertRefused(self.exec(ref, "true"), (2, 125), re.escape(ref))

    def test_a_name_is_unique_and_free_again_after_removal(self):
        self.create("--name", "only")
        self.assertRefused(self.brig.call("create", "--image", "host", "--name", "only"), 125, "only")
        self.assertOk(self.brig.call("rm", "only"))
        self.create("--name", "only")

    def test_without_a_name_one_is_made_up(self):
        a, b = self.create(), self.create()
        names = {s["id"]: s["name"] for s in self.list()}
        self.assertTrue(names[a] and names[b])
        self.assertNotEqual(names[a], names[b])
        self.assertEqual(self.exec(names[a], "echo", "x").out, b"x\n")

    # ---- ls, inspect, stats ----

    def list(self):
        found = self.brig.json("ls")
        return found["sandboxes"] if isinstance(found, dict) else found

    def test_ls_shows_what_lives(self):
        self.assertEqual(self.list(), [])
        a, b = self.create("--name", "one"), self.create("--name", "two")
        table = self.brig.call("ls").text
        self.assertEqual(len(table.strip().splitlines()), 3, table)
        self.assertTrue(table.splitlines()[0].isupper() or table.splitlines()[0].startswith("ID"))
        for word in ("one", "two", a[:12], b[:12]):
            self.assertIn(word, table)
        self.assertEqual({s["id"] for s in self.list()}, {a, b})
        self.assertEqual(set(self.brig.call("ls", "-q").text.split()), {a, b})
        self.assertEqual(self.brig.call("ps").text, self.brig.call("ls").text)
        self.assertOk(self.brig.call("rm", "one", "two"))
        self.assertEqual(self.list(), [])

    def test_inspect_tells_what_was_asked_for(self):
        d = self.tmp / "vol"
        d.mkdir()
        id_ = self.create("--name", "full", "--label", "a=b", "--label", "c", "--env", "E=1",
                          "--memory", "96m", "--pids", "77", "--cpus", "0.5", "--timeout", "none",
                          "--volume", f"{d}:/data:ro")
        found = self.brig.json("inspect", "full")
        info = found[0] if isinstance(found, list) else found
        self.assertEqual((info["id"], info["name"], info["tier"], info["image"]),
                         (id_, "full", brigtest.TIER, "host"))
        self.assertEqual(info["labels"], {"a": "b", "c": ""})
        self.assertIn("E=1", info["env"])
        limits = info["limits"]
        self.assertEqual((limits["memory_bytes"], limits["pids"], limits["cpu_milli"],
                          limits["timeout_ms"]), (96 * MIB, 77, 500, None))
        self.assertEqual([v["guest"] for v in info["volumes"]], ["/data"])
        self.assertTrue(info["volumes"][0]["readonly"])
        self.assertRefused(self.brig.call("inspect", "nosuch"), 125, "nosuch")

    def test_stats_follow_what_the_sandbox_does(self):
        id_ = self.create("--memory", "200m", "--disk", "100m")

        def stats():
            found = self.brig.json("stats", "--no-stream", id_)
            rows = found["stats"] if isinstance(found, dict) and "stats" in found else found
            return rows[0] if isinstance(rows, list) else rows
        before = stats()
        self.assertOk(self.exec(id_, "sh", "-c", "head -c 50000000 /dev/zero >/tmp/f; "
                                "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
        after = stats()
        self.assertGreater(after["memory_bytes"], before["memory_bytes"] + 40 * MIB)
        self.assertGreater(after["cpu_ms"] if "cpu_ms" in after else after["cpu_us"], 0)
        table = self.brig.call("stats", "--no-stream").text
        self.assertIn(id_[:12], table)

    # ---- logs ----

    def test_logs_of_a_detached_command(self):
        id_ = self.detached("--name", "job", "--", "sh", "-c", "echo out; echo err >&2; sleep 0.3; "
                            "echo late; exec sleep 995")
        wait_until("the late line", lambda: b"late" in self.brig.call("logs", id_).out)
        done = self.brig.call("logs", "job")
        self.assertEqual((done.code, done.out, done.err), (0, b"out\nlate\n", b"err\n"), str(done))

    def test_logs_follow_until_the_end(self):
        id_ = self.detached("--", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
        done = self.brig.call("logs", "-f", id_)
        self.assertEqual((done.code, done.text.split()), (0, ["1", "2", "3", "4", "5"]), str(done))

    def test_two_readers_of_logs_see_the_same(self):
        id_ = self.detached("--", "sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; "
                            "i=$((i+1)); done")
        ps = [self.brig.popen("logs", "-f", id_) for _ in range(2)]
        outs = [p.communicate(timeout=30 * brigtest.SLOW)[0] for p in ps]
        self.assertEqual(outs[0].count(b"\n"), 2000)
        self.assertEqual(outs[0], outs[1])

    def test_endless_logs_are_bounded_and_keep_the_newest(self):
        id_ = self.detached("--", "sh", "-c", "head -c 50000000 /dev/zero | tr '\\0' x; echo; "
                            "echo newest; exec sleep 995")
        wait_until("the newest line", lambda: b"newest" in self.brig.call("logs", id_).out[-100:])
        kept = len(self.brig.call("logs", id_).out)
        self.assertLess(kept, 8 * MIB)
        self.assertGreater(kept, 100000)

    # ---- detached ----

    def test_a_detached_run_outlives_its_client_and_its_end_is_told(self):
        id_ = self.detached("--name", "bg", "--", "sh", "-c", "sleep 0.3; exit 7")
        self.assertIn(id_, [s["id"] for s in self.list()])

        def exited():
            found = self.brig.json("inspect", "bg")
            info = found[0] if isinstance(found, list) else found
            return info if info["state"] == "exited" else None
        info = wait_until("it has exited", exited)
        self.assertIn('"exit_code": 7', json.dumps(info))
        self.assertOk(self.brig.call("rm", "bg"))

    def test_a_detached_run_with_rm_removes_itself(self):
        self.detached("--rm", "--", "sh", "-c", "sleep 0.2")
        wait_until("it is gone", lambda: self.list() == [])

    def test_a_detached_run_has_its_timeout(self):
        self.detached("--rm", "--timeout", "300ms", "--", "sleep", "995")
        wait_until("it is gone", lambda: self.list() == [], 5)

    # ---- kill and rm ----

    def test_kill_sends_the_named_signal_to_the_main_command(self):
        self.detached("--name", "trap", "--", "sh", "-c",
                      "trap 'echo got USR1' USR1; echo up; while :; do sleep 0.05; done")
        wait_until("it is up", lambda: b"up" in self.brig.call("logs", "trap").out)
        for form in ("USR1", "SIGUSR1", str(int(signal.SIGUSR1))):
            self.assertOk(self.brig.call("kill", "-s", form, "trap"))
        wait_until("the signal arrived", lambda: b"got USR1" in self.brig.call("logs", "trap").out)
        self.assertRefused(self.brig.call("kill", "-s", "NOSUCH", "trap"), (2, 125), "signal")
        self.assertOk(self.brig.call("kill", "trap"))

    def test_kill_of_a_foreground_run_is_told_to_its_client(self):
        path = self.tmp / "status"
        p = self.start(self.brig, "--name", "front", "--status-json", path, "--", "sh", "-c",
                       "echo ready; exec sleep 995")
        self.assertOk(self.brig.call("kill", "front"))
        self.assertEqual(p.wait(10 * brigtest.SLOW), 137)
        status = json.loads(path.read_text())
        self.assertEqual((status["stop_reason"], status["signal"]), ("killed", "SIGKILL"))

    def test_rm_takes_many_and_names_what_is_missing(self):
        ids = [self.create() for _ in range(3)]
        done = self.brig.call("rm", ids[0], "nosuch", ids[1])
        self.assertCode(done, 125)
        self.assertIn("nosuch", done.errors)
        self.assertEqual([s["id"] for s in self.list()], [ids[2]])
        self.assertEqual([g for g in hoststate.cgroups() if g.endswith((ids[0], ids[1]))], [])

    def test_a_list_that_fills_several_frames(self):
        labels = [f"--label=k{n}={'x' * 1000}" for n in range(60)]
        ids = [self.create(*labels) for _ in range(10)]  # 60 KB each; a frame holds 256 KiB
        done = self.brig.call("ls", "-o", "json")
        self.assertOk(done)
        self.assertGreater(len(done.out), 512 * 1024, "labels are not listed: the test shows nothing")
        self.assertEqual({s["id"] for s in json.loads(done.out)}, set(ids))

    # ---- a server ----

    def test_version_names_the_server(self):
        found = self.brig.json("version")
        self.assertIn("version", json.dumps(found))
        self.assertRegex(self.brig.call("version").text, r"\d+\.\d+\.\d+")

    def test_a_second_server_on_the_same_socket_is_refused(self):
        done = self.brig.call("serve", timeout=20)
        self.assertRefused(done, 125, "runs")
        self.assertEqual(self.list(), [])

    def test_hundred_sandboxes_live_at_once(self):
        if brigtest.TIER != "container":
            self.skipTest("a hundred sandboxes of 16 MiB are containers")
        if brigtest.SANITIZED:
            self.skipTest("a hundred sandboxes with shadow memory do not fit")
        ids = [self.create("--memory", "16m") for _ in range(100)]
        self.assertEqual(len(self.list()), 100)
        self.assertEqual(self.exec(ids[50], "echo", "x").out, b"x\n")
        uids = {int(p.split("uid ")[1]) // hoststate.ID_SLOT for p in hoststate.sandbox_processes()}
        if os.geteuid() == 0:
            self.assertEqual(len(uids), 100, "two sandboxes share a range of ids")
        start = time.monotonic()
        self.assertOk(self.brig.call("rm", *ids))
        self.assertEqual(self.list(), [])
        self.assertLess(time.monotonic() - start, 20)


class NoServer(PrivateCase):
    def test_verbs_without_a_server(self):
        self.assertOk(self.brig.call("ls"))
        self.assertEqual(self.brig.call("ls", "-q").out, b"")
        self.assertOk(self.brig.call("stats", "--no-stream"))
        for verb in (["exec", "x", "true"], ["rm", "x"], ["kill", "x"], ["logs", "x"], ["inspect", "x"],
                     ["cp", "x:/a", str(self.tmp)]):
            with self.subTest(verb[0]):
                self.assertRefused(self.brig.call(*verb), 125, "server")

    def test_create_starts_a_server_that_ends_by_itself(self):
        brig = Brig()
        done = brig.call("create", "--image", "host", "--name", "first")
        self.assertOk(done)
        try:
            self.assertEqual(brig.call("exec", "first", "echo", "x").out, b"x\n")
        finally:
            brig.call("rm", "-f", "first")
            for pid in hoststate.brig_pids("brig"):
                os.kill(pid, signal.SIGTERM)
        wait_until("the server is gone", lambda: not hoststate.brig_pids("brigd"))

    def test_eight_creates_at_once_share_one_server(self):
        brig = Brig()
        ps = [brig.popen("create", "--image", "host", "--name", f"n{i}") for i in range(8)]
        try:
            for p in ps:
                _, err = p.communicate(timeout=30 * brigtest.SLOW)
                self.assertEqual(p.returncode, 0, err)
            self.assertEqual(len(hoststate.brig_pids("brigd")), 1)
            self.assertEqual(len(brig.call("ls", "-q").text.split()), 8)
        finally:
            for pid in hoststate.brig_pids("brig"):
                os.kill(pid, signal.SIGTERM)
        wait_until("the server is gone", lambda: not hoststate.brig_pids("brigd"))


class Pool(ResidentCase):
    server_args = ("--pool", "host=2")

    def left(self, within):
        return {}  # the pool is filled again all the time; the end of the class compares everything

    def test_a_pooled_sandbox_is_used_once(self):
        def pool():
            found = self.brig.json("pool", "ls")
            rows = found["pools"] if isinstance(found, dict) else found
            return rows[0]
        wait_until("the pool is full", lambda: pool()["ready"] == 2)
        first = self.brig.run("--", "sh", "-c", "cat /tmp/mark 2>/dev/null; echo x >/tmp/mark; id -u")
        self.assertEqual(first.out, b"1000\n", str(first))
        self.assertGreaterEqual(pool()["hits"], 1)
        for _ in range(6):
            done = self.brig.run("--", "sh", "-c", "cat /tmp/mark 2>/dev/null; echo x >/tmp/mark")
            self.assertEqual((done.code, done.out), (0, b""), "what an earlier run wrote is still there")
        done = self.brig.run("--memory", "64m", "--env", "A=b", "--", "sh", "-c", "echo $A")
        self.assertEqual(done.out, b"b\n")
        wait_until("the pool is full again", lambda: pool()["ready"] == 2)
        # The runs' own sandboxes are removed behind their answers.
        wait_until("pooled sandboxes are nobody's", lambda: self.brig.call("ls", "-q").out == b"")
