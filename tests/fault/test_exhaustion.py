# SPDX-License-Identifier: Apache-2.0
"""A resident server that runs out of something while it serves: descriptors and memory of each of its
daemons, the space, the inodes and the writability of its data folder. Each request meanwhile has success or
one clear error, in time; when there is room again everything works, in the same processes; nothing is left.

(What a private server meets is in test_hosts.py, and each system call that fails by itself as well.)"""

import http.client
import json
import os
import re
import subprocess
import time
import unittest

import brigtest
import hoststate
from brigtest import Brig, Server, wait_until
from faults import Fault

NOFILE, AS = "nofile", "as"
MIB = 1 << 20


class Exhaustion(Fault):
    def serve(self, prefix=()):
        self.tmp.chmod(0o711)
        self.data = self.tmp / "data"
        self.brig = Brig(data=self.data)
        self.server = Server(self.brig, "--http", "127.0.0.1:0", prefix=prefix)
        self.addCleanup(self.server.stop)
        self.port = int(self.said(r"HTTP on http://127\.0\.0\.1:(\d+)\n"))
        self.key = self.said(r"\b(e2b_[0-9a-f]{64})\n")

    def said(self, pattern):
        return wait_until(f"the server writes {pattern}", lambda: re.search(pattern, self.server.text()),
                          explain=self.server.text).group(1)

    def daemon(self, name):
        """Its pid: a child of the supervisor, or of whoever wraps that."""
        found = [p for p in hoststate.brig_pids(name)
                 if hoststate.read(f"/proc/{p}/stat").rpartition(")")[2].split()[1]
                 in (str(self.server.process.pid), *self.children(self.server.process.pid))]
        self.assertTrue(found, f"{name} does not run")
        return found[0]

    @staticmethod
    def children(pid):
        return hoststate.read(f"/proc/{pid}/task/{pid}/children").split()

    @staticmethod
    def limit(pid, what, value):
        """The soft limit of a daemon, set with its own ids: root may lack the capability for others'."""
        status = hoststate.read(f"/proc/{pid}/status")
        uid = re.search(r"^Uid:\s+(\d+)", status, re.M).group(1)
        gid = re.search(r"^Gid:\s+(\d+)", status, re.M).group(1)
        subprocess.run(["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "prlimit", "--pid",
                        str(pid), f"--{what}={value}:"], check=True, capture_output=True)

    @staticmethod
    def soft(pid, name):
        line = re.search(rf"^{name}\s+(\S+)", hoststate.read(f"/proc/{pid}/limits"), re.M)
        return line.group(1)

    @staticmethod
    def cpu_ticks(pid):
        return sum(map(int, hoststate.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:13]))

    def ask(self, method, path, body=None, timeout=20):
        """(status, JSON); status 0: the connection was refused, or ended without an answer."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * brigtest.SLOW)
        try:
            c.request(method, path, json.dumps(body) if body is not None else None,
                      {"X-API-Key": self.key})
            r = c.getresponse()
            text = r.read()
            return r.status, json.loads(text) if text else None
        except TimeoutError:
            self.fail(f"{method} {path}: no answer")
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            c.close()

    def try_commands(self):
        """Each has success or one clear error."""
        box = None
        for args in (("create", "--image", "host"), ("run", "--image", "host", "--", "echo", "x"), ("ls",)):
            done = self.brig.call(*args, timeout=30)
            if done.code == 0 and args[0] == "create":
                box = done.text.strip()
            elif done.code:
                self.assertIn(done.code, (125, 126, 137), str(done))
                if done.code != 137:
                    self.assertRegex(done.errors, r"(?m)^brig: .+", str(done))
        if box:
            done = self.brig.call("exec", box, "echo", "x", timeout=30)
            self.assertIn(done.code, (0, 125, 126), str(done))
            self.brig.call("rm", "-f", box, timeout=30)

    def try_http(self):
        for method, path, body in (("POST", "/v1/run", {"image": "host", "cmd": ["echo", "x"]}),
                                   ("POST", "/v2/sandboxes", {"templateID": "host"}),
                                   ("PUT", "/v1/secrets/s", {"value": "v"}),
                                   ("GET", "/v1/sandboxes", None)):
            status, answer = self.ask(method, path, body)
            if status >= 400:
                self.assertIn(status, (429, 500, 502, 503, 507), answer)
                self.assertTrue(answer["message"], answer)

    def works(self):
        """All of it, and no sandbox is left of what failed."""
        status, answer = wait_until("HTTP works", lambda: (
            got := self.ask("POST", "/v1/run", {"image": "host", "cmd": ["echo", "works"]}))[0] == 200
            and got, 20)
        self.assertEqual(answer["stdout"], "works\n")
        done = self.brig.run("--", "echo", "works")
        self.assertEqual((done.code, done.out), (0, b"works\n"), str(done))
        for row in self.brig.json("ls"):
            self.brig.call("rm", "-f", row["id"])
        wait_until("no sandbox is left", lambda: not self.brig.json("ls"))

    def ends(self):
        self.server.stop()
        self.recovered()

    # ---- descriptors ----

    def descriptors(self, name):
        self.serve()
        pid = self.daemon(name)
        before = self.soft(pid, "Max open files")
        for more in (0, 1, 2, 3, 4, 6, 8, 12):
            with self.subTest(more):
                used = max(int(f) for f in os.listdir(f"/proc/{pid}/fd")) + 1
                self.limit(pid, NOFILE, used + more)
                ticks, start = self.cpu_ticks(pid), time.monotonic()
                self.try_commands()
                self.try_http()
                # A listener that cannot be served must not be polled again and again.
                spent = (self.cpu_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK")
                passed = time.monotonic() - start
                self.assertLess(spent, 0.5 * passed + 1.0)
                self.limit(pid, NOFILE, before)
                self.works()
        self.assertEqual(self.daemon(name), pid, "it has died")
        lines = self.server.text().count("\n")
        self.assertLess(lines, 2000, self.server.text()[-3000:])
        self.ends()

    def test_descriptors_of_brigd(self):
        self.descriptors("brigd")

    def test_descriptors_of_brig_jaild(self):
        self.descriptors("brig-jaild")

    def test_descriptors_of_brig_api(self):
        self.descriptors("brig-api")

    # ---- memory ----

    def memory(self, name):
        """A daemon that cannot go on without memory may end and be started again; it may not hang, and
        not tell a lie."""
        self.serve()
        for more in (0, 256 << 10, MIB, 4 * MIB, 16 * MIB):
            with self.subTest(more >> 10):
                pid = self.daemon(name)
                size = int(hoststate.read(f"/proc/{pid}/statm").split()[0]) * os.sysconf("SC_PAGE_SIZE")
                before = self.soft(pid, "Max address space")
                self.limit(pid, AS, size + more)
                self.try_commands()
                self.try_http()
                if hoststate.comm_of(pid) == name:
                    self.limit(pid, AS, before)
                self.works()
        self.ends()

    def test_memory_of_brigd(self):
        self.memory("brigd")

    def test_memory_of_brig_jaild(self):
        self.memory("brig-jaild")

    def test_memory_of_brig_api(self):
        self.memory("brig-api")

    # ---- the data folder ----

    def on_tmpfs(self, options):
        """The server in a mount namespace of its own, with a small data folder."""
        data = self.tmp / "data"
        data.mkdir(mode=0o755)
        script = f"mount -t tmpfs -o mode=0755,{options} none {data} || exit 99; exec \"$@\""
        self.serve(prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"))
        return data

    def inside(self, script):
        done = subprocess.run(["nsenter", "-t", str(self.server.process.pid), "-m", "sh", "-c", script],
                              capture_output=True, text=True)
        return done.returncode

    def starved(self):
        """Commands need no record and work; what is recorded is refused with the reason."""
        done = self.brig.run("--", "echo", "x")
        self.assertEqual((done.code, done.out), (0, b"x\n"), str(done))
        refused = 0
        for i in range(3):
            for method, path, body in (("PUT", f"/v1/secrets/s{i}", {"value": "v" * 60000}),
                                       ("POST", "/v2/sandboxes", {"templateID": "host"}),
                                       ("POST", "/v1/run", {"image": "host", "cmd": ["echo", "x"]})):
                status, answer = self.ask(method, path, body)
                self.assertIn(status, (200, 201, 429, 500, 503, 507), answer)
                if status >= 400:
                    refused += 1
                    self.assertTrue(answer["message"] and answer["remediation"], answer)
        self.assertGreater(refused, 0, "nothing was refused")
        self.assertEqual(self.brig.run("--", "echo", "x").code, 0)

    def test_a_full_data_folder(self):
        data = self.on_tmpfs("size=8m")
        self.works()
        self.inside(f"head -c 8m /dev/zero >{data}/fill")
        self.starved()
        self.inside(f"rm {data}/fill")
        self.works()
        self.ends()

    def test_a_data_folder_without_inodes(self):
        data = self.on_tmpfs("size=64m,nr_inodes=200")
        self.works()
        self.inside(f"i=0; mkdir {data}/fill; while : >{data}/fill/$i; do i=$((i+1)); done")
        self.starved()
        self.inside(f"rm -r {data}/fill")
        self.works()
        self.ends()

    def test_a_read_only_data_folder(self):
        data = self.tmp / "data"
        data.mkdir(mode=0o755)
        self.tmp.chmod(0o711)
        brig = Brig(data=data)
        script = f"mount -t tmpfs -o mode=0755,ro none {data} || exit 99; exec \"$@\""
        within = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
        brig.socket.parent.mkdir(parents=True, exist_ok=True)
        brig.socket.parent.chmod(0o711)
        done = brig.call("serve", "--http", "127.0.0.1:0", prefix=within, timeout=60)
        self.assertRefused(done, 125, "data|folder", "[Rr]ead-only")
        # Without HTTP there is nothing to write.
        server = Server(brig, "--no-http", prefix=within)
        self.addCleanup(server.stop)
        self.assertEqual(brig.run("--", "echo", "x").out, b"x\n")
        server.stop()
        self.recovered()


if __name__ == "__main__":
    unittest.main()
