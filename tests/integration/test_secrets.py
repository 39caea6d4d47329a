# SPDX-License-Identifier: Apache-2.0
"""Secrets: given once, used by name, and found nowhere else: not in the data folder, the log, any
answer, or another process's environment."""

import json
import os
import pathlib
import signal
import subprocess

import brigtest
import hoststate
import test_api
from brigtest import wait_until

CANARY = "canary-7d21e0c4-secret"


class Base(test_api.Api):
    @property
    def data(self):
        return self.folder / "data"

    def secret(self, *args, stdin=None, expect=0):
        done = self.brig.call("secret", *args, input=stdin or b"")
        self.assertEqual(done.code, expect, done.text + done.err.decode())
        return done

    def setUp(self):
        super().setUp()
        self.addCleanup(self.drop_all)

    def drop_all(self):
        for tenant in "default", "other":
            for s in self.operator("GET", f"/v1/secrets?tenant={tenant}")[1]["secrets"]:
                self.operator("DELETE", f"/v1/secrets/{s['name']}?tenant={tenant}")

    def nowhere(self, value=CANARY, log=True):
        """No file of the server has it, nor has its log."""
        for path in self.data.rglob("*"):
            if path.is_file() and not path.is_symlink():
                self.assertNotIn(value.encode(), path.read_bytes(), path)
        if log:
            self.assertNotIn(value, self.server.text())

    def environments(self, value):
        """Processes of this host that have it in their environment or arguments."""
        found = []
        for p in pathlib.Path("/proc").iterdir():
            if not p.name.isdigit():
                continue
            for name in "environ", "cmdline":
                try:
                    if value.encode() in (p / name).read_bytes():
                        found.append((int(p.name), p.stat().st_uid, name))
                except OSError:
                    pass
        return found

    def restart(self):
        mine = [p for p in hoststate.brig_pids() if hoststate.comm_of(p) == "brig-api"
                and self.parent(p) == self.server.process.pid]
        self.assertEqual(len(mine), 1)
        os.kill(mine[0], signal.SIGKILL)

        def served():
            try:
                return self.operator("GET", "/v1/secret-key")[1]
            except OSError:
                return None
        return wait_until("it serves again", served)

    @staticmethod
    def parent(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            return 0

    def run_token(self):
        return self.ask("POST", "/v1/run", {"image": "host", "cmd": ["sh", "-c", "printf %s $T"],
                                            "secrets": {"T": "token"}})


class Secrets(Base):
    def events(self):
        c = self.connection()
        c.request("GET", "/v1/events?cursor=oldest", headers={"X-API-Key": self.key})
        r = c.getresponse()
        text = ""
        while "sandbox.created" not in text:
            text += r.read1(65536).decode()
        c.close()
        return text

    def test_it_is_set_listed_and_removed_and_never_told(self):
        self.secret("set", "token", stdin=CANARY.encode() + b"\n")
        f = self.folder / "value"
        f.write_text(CANARY + "-2")
        self.addCleanup(f.unlink)
        self.secret("set", "second", "--file", str(f))
        listed = self.secret("ls", "-o", "json").text
        self.assertEqual([s["name"] for s in json.loads(listed)], ["second", "token"])
        self.assertNotIn(CANARY, listed)
        status, _, one = self.ask("GET", "/v1/secrets/token")
        self.assertEqual((status, sorted(one)), (200, ["created", "name", "updated"]))
        status, _, made = self.ask("PUT", "/v1/secrets/token", {"value": CANARY + "-3"})
        self.assertEqual((status, sorted(made)), (200, ["created", "name", "updated"]))
        self.assertEqual(self.ask("PUT", "/v1/secrets/third", {"value": "x"})[0], 201)
        self.nowhere()
        self.secret("rm", "second", "third")
        self.assertEqual(self.ask("GET", "/v1/secrets/second")[0], 404)
        self.secret("rm", "second", expect=125)

    def test_bad_input_is_refused_and_not_repeated(self):
        for name, body, status in (("a b", {"value": "x"}, 400), ("a" * 65, {"value": "x"}, 400),
                                   ("n", {}, 400), ("n", {"value": ""}, 400),
                                   ("n", {"value": 5}, 400), ("n", {"value": "x" * 65537}, 400),
                                   ("n", {"value": "x", "more": CANARY}, 400)):
            got, _, answer = self.ask("PUT", "/v1/secrets/" + name.replace(" ", "%20"), body)
            self.assertEqual(got, status, answer)
            self.assertNotIn(CANARY, json.dumps(answer))
        status, _, answer = self.ask("PUT", "/v1/secrets/n", f'{{"value":"a\\u0000{CANARY}"}}'.encode())
        self.assertEqual(status, 400)
        self.assertNotIn(CANARY, json.dumps(answer))
        for args, stdin in ((("set", "n"), b""), (("set", "n"), b"\0"), (("set", "n"), b"\xff"),
                            (("set", "n"), b"x" * 70000)):
            self.secret(*args, stdin=stdin, expect=125)
        self.secret("set", "n", CANARY, stdin=b"", expect=2)
        for want in ({"E": "missing"}, ["missing"]):
            self.assertEqual(self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"],
                                                          "secrets": want})[0], 404)
        for want in ("x", 5, {"1E": "a"}, {"E=": "a"}, {"E": 5}, ["a-b"], [5]):
            self.assertEqual(self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"],
                                                          "secrets": want})[0], 400, want)

    def test_a_run_has_it_and_nothing_else_does(self):
        self.secret("set", "token", stdin=CANARY.encode())
        ran = self.run_(cmd=["sh", "-c", 'test "$T" = ' + "'canary-7d21e0''c4-secret' && echo same"],
                        secrets={"T": "token"})
        self.assertEqual((ran["stdout"], ran["exit_code"]), ("same\n", 0), ran)
        ran = self.run_(cmd=["sh", "-c", "printf %s ${#token}"], secrets=["token"],
                        files={"/tmp/x": "y"})
        self.assertEqual(ran["stdout"], str(len(CANARY)), ran)
        # What the caller says of a command beside wins not over it, and another run has it not.
        ran = self.run_(cmd=["sh", "-c", "echo ${T:-none}"])
        self.assertEqual(ran["stdout"], "none\n")
        self.nowhere()

    def test_a_sandbox_has_it_in_each_command_and_shows_it_nowhere(self):
        self.secret("set", "token", stdin=CANARY.encode())
        box = self.create(secrets={"T": "token"}, envVars={"PLAIN": "1"})
        self.assertEqual(self.inside(box, "printf %s $T"), CANARY)
        # Everything that describes it.
        for text in (json.dumps(self.detail(box)), self.brig.call("inspect", box).text,
                     self.brig.call("ls", "-o", "json").text,
                     json.dumps(self.own("GET", f"/sandboxes/{box}")),
                     self.events(),
                     json.dumps(self.e2b("GET", f"/sandboxes/{box}/logs", expect=200))):
            self.assertNotIn(CANARY, text)
        plane = {"E2b-Sandbox-Id": box, "E2b-Sandbox-Port": "49983",
                 "X-Access-Token": self.detail(box).get("envdAccessToken") or ""}
        c = self.connection()
        c.request("GET", "/envs", headers=plane)
        envs = c.getresponse().read()
        self.assertIn(b"PLAIN", envs)
        self.assertNotIn(CANARY.encode(), envs)
        # While a command runs with it: only processes of the sandbox, which no other user may read.
        held = self.brig.popen("exec", box, "--", "sleep", "600")
        self.addCleanup(held.wait)
        self.addCleanup(held.kill)
        found = wait_until("the command runs", lambda: self.environments(CANARY))
        own = {os.geteuid(), 0, 0x70000000, 0x70000001}
        for pid, uid, name in found:
            self.assertEqual(name, "environ")
            if os.geteuid() == 0:
                self.assertNotIn(uid, own, hoststate.comm_of(pid))
        snap = self.e2b("POST", f"/sandboxes/{box}/snapshots", {}, 201)
        self.nowhere()
        # It does not go with the files.
        again = self.e2b("POST", "/v2/sandboxes", {"templateID": snap["snapshotID"]}, 201)["sandboxID"]
        self.assertEqual(self.inside(again, "echo ${T:-none} ${PLAIN:-none}"), "none 1\n")
        # A new value is for what starts from now on.
        self.secret("set", "token", stdin=b"other")
        self.assertEqual(self.inside(box, "printf %s $T"), CANARY)
        self.assertEqual(self.inside(self.create(secrets={"T": "token"}), "printf %s $T"), "other")
        records = "".join(f.read_text() for f in (self.data / "api" / "audit").iterdir())
        self.assertIn('"what":"secret.set","id":"token"', records)

    def test_another_tenant_has_none(self):
        self.operator("POST", "/v1/tenants", {"name": "other"})
        other = self.other_key("other")
        self.secret("set", "token", stdin=CANARY.encode())
        self.assertEqual(self.ask("GET", "/v1/secrets", key=other)[2], {"secrets": []})
        for method, path, body in (("GET", "/v1/secrets/token", None),
                                   ("DELETE", "/v1/secrets/token", None),
                                   ("POST", "/v1/run", {"image": "host", "cmd": ["true"],
                                                        "secrets": ["token"]})):
            self.assertEqual(self.ask(method, path, body, key=other)[0], 404, path)
        # Nor may a key say that it is another.
        self.assertEqual(self.ask("GET", "/v1/secrets?tenant=default", key=other)[2],
                         {"secrets": []})
        self.secret("set", "token", "--tenant", "other", stdin=b"theirs")
        ran = self.run_(cmd=["sh", "-c", "echo $token"], secrets=["token"],
                        headers={"key": other})
        self.assertEqual(ran["stdout"], "theirs\n")


class CommandLine(Base):
    """--secret of run, create and exec, over the socket of this machine and from elsewhere."""

    def setUp(self):
        super().setUp()
        self.secret("set", "token", stdin=CANARY.encode())

    def ok(self, brig, *args, **kw):
        done = brig.call(*args, **kw)
        self.assertEqual(done.code, 0, str(done))
        return done

    def elsewhere(self):
        return brigtest.Brig(data=self.folder / "none", BRIG_URL=f"http://127.0.0.1:{self.port}",
                             BRIG_API_KEY=self.key)

    def each_way(self):
        yield self.brig
        yield self.elsewhere()

    def test_run_create_and_exec_have_it(self):
        show = ("sh", "-c", 'printf "%s|%s" "$T" "$token"')
        for brig in self.each_way():
            run = ("run", "--image", "host")
            self.assertEqual(self.ok(brig, *run, "--secret", "token=T", "--", *show).text, f"{CANARY}|")
            self.assertEqual(self.ok(brig, *run, "--secret", "token", "-e", "token=not", "--", *show).text,
                             f"|{CANARY}")
            self.assertEqual(self.ok(brig, *run, "--", *show).text, "|")
            box = self.ok(brig, "create", "--image", "host", "--secret", "token=T").text.strip()
            self.assertEqual(self.ok(brig, "exec", box, *show).text, f"{CANARY}|")
            plain = self.ok(brig, "create", "--image", "host").text.strip()
            self.assertEqual(self.ok(brig, "exec", "--secret", "token=T", plain, *show).text, f"{CANARY}|")
            # Of that one command.
            self.assertEqual(self.ok(brig, "exec", plain, *show).text, "|")
            for what in (box, plain):
                for args in (("inspect", what), ("ls", "-o", "json"), ("stats", "--no-stream")):
                    self.assertNotIn(CANARY, brig.call(*args).text)
            self.ok(brig, "rm", "-f", box, plain)
        self.nowhere()
        records = "".join(f.read_text() for f in (self.data / "api" / "audit").iterdir())
        self.assertIn('"what":"secret.use"', records)

    def test_while_it_runs_no_process_of_this_host_shows_it(self):
        for brig in self.each_way():
            with self.subTest(brig is self.brig):
                p = brig.popen("run", "--image", "host", "--secret", "token=T", "--", "sh", "-c",
                               "echo ready; exec sleep 600", stdin=subprocess.DEVNULL)
                self.assertEqual(p.stdout.readline(), b"ready\n")
                found = self.environments(CANARY)
                self.assertTrue(found)
                for pid, uid, name in found:
                    self.assertEqual(name, "environ")
                    self.assertNotEqual(hoststate.comm_of(pid), "brig")
                    if os.geteuid() == 0:
                        self.assertNotIn(uid, {0, 0x70000000, 0x70000001}, hoststate.comm_of(pid))
                # Nor has the client kept it.
                self.assertEqual(self.memory(p.pid).count(CANARY.encode()), 0)
                p.terminate()
                p.communicate()
        self.nowhere()

    @staticmethod
    def memory(pid):
        """What can be written of a process, as root sees it."""
        found = []
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                at, rights = line.split()[:2]
                if "rw" not in rights:
                    continue
                start, end = (int(x, 16) for x in at.split("-"))
                try:
                    mem.seek(start)
                    found.append(mem.read(end - start))
                except (OSError, OverflowError):
                    pass
        return b"".join(found)

    def test_what_is_wrong_is_said(self):
        run = ("run", "--image", "host")
        for text in ("", "=T", "a b", "a" * 65, "token=", "token=1T", "token=a-b", "to-ken", "token=T=U"):
            done = self.brig.call(*run, "--secret", text, "--", "true")
            self.assertEqual(done.code, 2, str(done))
            self.assertIn("--secret", done.errors)
        done = self.brig.call(*run, "--secret", "token=T", "--secret", "token=T", "--", "true")
        self.assertEqual(done.code, 2, str(done))
        for brig in self.each_way():
            for args in ((*run, "--secret", "missing=T", "--", "true"),
                         ("create", "--image", "host", "--secret", "missing=T")):
                done = brig.call(*args)
                self.assertEqual(done.code, 125, str(done))
                self.assertIn("no secret 'missing'", done.errors)
                self.assertIn("remedy:", done.errors)
        self.assertEqual(self.brig.json("ls"), [])

    def test_who_may_not_use_secrets_has_none(self):
        status, made = self.operator("POST", "/v1/keys", {"name": "runs", "role": "run-only"})[:2]
        self.assertEqual(status, 201, made)
        brig = brigtest.Brig(data=self.folder / "none", BRIG_URL=f"http://127.0.0.1:{self.port}",
                             BRIG_API_KEY=made["key"])
        done = brig.call("run", "--image", "host", "--secret", "token=T", "--", "true")
        self.assertEqual(done.code, 125, str(done))
        self.assertIn("may not use secrets", done.errors)
        # Nor does a key open what is the operator's.
        self.assertEqual(self.ask("POST", "/v1/secret-env", {"secrets": {"T": "token"}})[0], 403)

    def test_a_private_server_keeps_none(self):
        alone = brigtest.Brig(socket=self.folder / "alone" / "brigd.sock", data=self.folder / "none")
        for args in (("run", "--image", "host", "--secret", "token=T", "--", "true"),
                     ("create", "--image", "host", "--secret", "token=T"),
                     ("run", "-d", "--image", "host", "--secret", "token=T", "--", "true")):
            done = alone.call(*args)
            self.assertEqual(done.code, 125, str(done))
            self.assertRegex(done.errors, "--secret needs the server.*\n.*remedy:.*brig serve")


# A server of its own for each: one that dies often is started again more slowly.
class WrongKey(Base):
    def test_the_key_is_outside_and_a_wrong_one_loses_nothing(self):
        key = self.data / "secret.key"
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        self.assertEqual(key.stat().st_uid, os.geteuid())
        self.secret("set", "token", stdin=CANARY.encode())
        self.assertEqual(self.restart()["key"], self.restart()["needs"])
        self.assertEqual(self.run_token()[2]["stdout"], CANARY)
        right = key.read_text()
        try:
            for wrong in (None, "0" * 64 + "\n", "no key\n"):
                key.unlink()
                if wrong:
                    key.write_text(wrong)
                    key.chmod(0o600)
                state = self.restart()
                self.assertIsNone(state["key"])
                status, _, answer = self.run_token()
                self.assertEqual(status, 503, answer)
                self.assertIn(state["needs"], answer["message"])
                self.assertIn("secret.key", answer["remediation"])
                self.assertEqual(self.ask("PUT", "/v1/secrets/more", {"value": "x"})[0], 503)
                self.secret("rekey", expect=125)
                (self.data / "secret.key.new").unlink(missing_ok=True)
                # What needs no secret is served.
                self.run_(cmd=["true"])
        finally:
            key.write_text(right)
            key.chmod(0o600)
            self.restart()
        self.assertEqual(self.run_token()[2]["stdout"], CANARY)


class Rekey(Base):
    def test_rekey_and_one_that_was_cut_off(self):
        key, new = self.data / "secret.key", self.data / "secret.key.new"
        self.secret("set", "token", stdin=CANARY.encode())
        before = key.read_text()
        db = (self.data / "api" / "api.db")
        self.secret("rekey")
        self.assertNotEqual(key.read_text(), before)
        self.assertFalse(new.exists())
        self.assertEqual(self.run_token()[2]["stdout"], CANARY)
        self.restart()
        self.assertEqual(self.run_token()[2]["stdout"], CANARY)
        # The server has taken it, and the file was not renamed.
        before = key.read_text()
        self.secret("rekey")
        key.rename(new)
        key.write_text(before)
        key.chmod(0o600)
        self.restart()
        self.assertEqual(self.run_token()[2]["stdout"], CANARY)
        self.secret("rekey")
        self.assertFalse(new.exists())
        # The server had not heard of it; and it was half written.
        for half in ("1" * 64 + "\n", "1" * 10):
            new.write_text(half)
            new.chmod(0o600)
            self.restart()
            self.assertEqual(self.run_token()[2]["stdout"], CANARY)
            self.secret("rekey")
            self.assertFalse(new.exists())
            self.restart()
            self.assertEqual(self.run_token()[2]["stdout"], CANARY)
        self.assertTrue(db.exists())
        self.nowhere()
        for text in (key.read_text().strip(), before.strip()):
            for path in (self.data / "api").rglob("*"):
                if path.is_file():
                    self.assertNotIn(text.encode(), path.read_bytes(), path)
