# SPDX-License-Identifier: Apache-2.0
"""A sandbox that is not what was specified is destroyed before it runs anything: for every item that is
measured the specification is changed (mutate.*), and boundaries are left out (weaken.*), which nothing but
the measuring notices. Without the fault the same commands run, or this would show nothing."""

import json

import hoststate
from brigtest import Brig, wait_until
from faults import Fault
from servecase import ServeCase

# What is compared before the first command: fault -> the item that the error names.
AT_BIRTH = {
    "mutate.namespaces": "namespaces", "mutate.uid_map": "uid_map", "mutate.gid_map": "gid_map",
    "mutate.capabilities": "capabilities", "mutate.no_new_privs": "no_new_privs",
    "mutate.seccomp": "seccomp", "mutate.cgroup": "cgroup", "mutate.memory": "memory", "mutate.swap": "swap",
    "mutate.pids": "pids", "mutate.cpu": "cpu", "mutate.disk": "disk", "mutate.mounts": "mounts",
    "weaken.capabilities": "capabilities", "weaken.seccomp": "seccomp", "weaken.mounts": "mounts",
    "weaken.pids": "pids",
}
# What is compared when a receipt is asked for.
AT_RECEIPT = {"mutate.seccomp_filter": "seccomp_filter", "mutate.network": "network",
              "mutate.commands": "commands", "mutate.image": "image"}
LIMITS = ["--pids", "77"]  # other than those of groups that are made ahead


def command(canary):
    return ["-v", f"{canary}:/canary", *LIMITS, "--", "sh", "-c", "echo ran; echo ran >/canary/ran"]


class Birth(Fault):
    def canary(self):
        folder = self.tmp / "canary"
        folder.mkdir(exist_ok=True)
        return folder

    def refused(self, name):
        canary = self.canary()
        done = Brig().run(*command(canary), env={"BRIG_FAILPOINT": name}, timeout=30)
        self.assertCode(done, 125)
        self.assertEqual(done.out, b"", str(done))
        self.assertRegex(done.errors, rf"not what was specified: {AT_BIRTH[name]}: .*\n +remedy: ")
        self.assertEqual(list(canary.iterdir()), [], "it ran its command")
        self.recovered()

    def test_without_a_fault_it_runs(self):
        canary = self.canary()
        done = Brig().run(*command(canary))
        self.assertEqual((done.code, done.out), (0, b"ran\n"), str(done))
        self.assertEqual([p.name for p in canary.iterdir()], ["ran"])


for _name in AT_BIRTH:
    setattr(Birth, "test_destroyed_for_" + _name.replace(".", "_"),
            lambda self, n=_name: self.refused(n))


class Served(Fault, ServeCase):
    """With a server: an error with a code of its own, an event, a line of the audit log."""

    def fault(self, name):
        self.brig = Brig(data=self.tmp / "data", BRIG_FAILPOINT=name)
        self.serve()
        self.key = self.first_key()

    def records(self):
        files = sorted((self.tmp / "data" / "api" / "audit").glob("*.jsonl"))
        return [json.loads(line) for f in files for line in f.read_text().splitlines()]

    def told(self):
        """A line of the audit log and an event about one sandbox; its id."""
        line = wait_until("the audit log has it",
                          lambda: [r for r in self.records() if r["what"] == "mismatch"])[0]
        self.assertEqual((line["outcome"], len(line["id"])), ("failed", 16))
        self.assertIn(line["id"], self.server.text())
        return line["id"]

    def run_refused(self, item):
        status, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["echo", "ran"]},
                                  self.key)
        self.assertEqual((status, answer["code"]), (500, "isolation_mismatch"), answer)
        self.assertRegex(answer["message"], f"not what was specified: {item}: ")
        box = self.told()
        self.assertIn(box, answer["message"])
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=self.key)[1], {"sandboxes": []})
        self.assertEqual(self.server.stop(), 0)
        self.recovered()

    def test_a_run_is_refused_with_a_code_an_event_and_an_audit_line(self):
        self.fault("mutate.pids")
        self.run_refused("pids")

    def test_a_process_that_waited_for_its_request_is_measured_too(self):
        # The stage looks at its mounts. Where none waits (cgroup v2) this is the same as above.
        self.fault("mutate.mounts")
        if hoststate.read("/proc/self/cgroup").count(":memory:"):
            wait_until("a process waits", lambda: [p for p in hoststate.pids()
                                                   if hoststate.comm_of(p) == "brig-ready"])
        self.run_refused("mounts")

    def at_receipt(self, name):
        self.fault(name)
        status, box = self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, self.key)
        self.assertEqual(status, 201, box)
        box = box["sandboxID"]
        status, answer = self.ask("GET", f"/v1/sandboxes/{box}/receipt", key=self.key)
        self.assertEqual((status, answer["code"]), (500, "isolation_mismatch"), answer)
        self.assertIn(f"not what was specified: {AT_RECEIPT[name]}: ", answer["message"])
        wait_until("it is gone", lambda: self.ask("GET", "/v1/sandboxes", key=self.key)[1] == {"sandboxes": []})
        self.assertEqual(self.told(), box)
        self.assertEqual(self.server.stop(), 0)
        self.recovered()


for _name in AT_RECEIPT:
    setattr(Served, "test_destroyed_when_asked_for_" + _name.replace(".", "_"),
            lambda self, n=_name: self.at_receipt(n))
