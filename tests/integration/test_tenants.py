# SPDX-License-Identifier: Apache-2.0
"""Tenants, keys and roles: what a key may do, how it ends, and that nobody learns of another's room."""

import http.client
import json
import os
import re
import signal
import threading
import time

import brigtest
import hoststate
from brigtest import SOURCE, Brig, wait_until
from test_api import Api

ROW = re.compile(r'\{ "([A-Z]+)", "(/[^"]*)", ([A-Z0-9_| ]+), (PERM_\w+), \w+ \}')
READ = {"sandboxes:read", "snapshots:read", "templates:read", "metrics", "quota:read", "server:read", "volumes:read"}
DEVELOPER = READ | {"run", "sandboxes:write", "files", "snapshots:write", "templates:write",
                    "secrets", "volumes:write"}
ROLES = {"admin": DEVELOPER | {"keys"}, "developer": DEVELOPER, "read-only": READ, "run-only": {"run"}}
# A body that reaches the id of each route and changes nothing where there is none.
BODIES = {"/timeout": {"timeout": 5}, "/v1/keys": {"name": "not a word"}}


def names():
    """PERM_X -> what it is called outside."""
    text = (SOURCE / "src/api/perm.h").read_text()
    found = dict(re.findall(r'X\((\w+), "([a-z:]+)"\)', text))
    return {f"PERM_{k}": v for k, v in found.items()}


def routes():
    """(method, path, needed) of every row of every table."""
    rows = []
    for path in sorted((SOURCE / "src/api").glob("*.c")):
        text = path.read_text()
        rows += [(m, p, need) for m, p, _, need in ROW.findall(text)]
    return rows


class Tenants(Api):
    def tenant(self, name):
        self.assertOk(self.brig.call("tenant", "create", name))
        self.addCleanup(self.brig.call, "tenant", "rm", "--force", name)
        return self.new_key(name)

    def new_key(self, tenant="default", *args):
        done = self.brig.call("key", "create", "--tenant", tenant, *args, "made-here")
        self.assertOk(done)
        return done.text.strip()

    def id_of(self, key):
        """Of the key that was made last."""
        return self.brig.json("key", "ls")[-1]["id"]

    def raw(self, method, path, key, body=None):
        """What a client sees, but for what differs between any two answers."""
        status, headers, _ = answer = self.ask(method, path, body, key=key)
        text = answer[2]
        text = json.dumps(text) if not isinstance(text, bytes) else text.decode()
        if answer[2] and isinstance(answer[2], dict) and "request_id" in answer[2]:
            text = text.replace(answer[2]["request_id"], "REQUEST")
        kept = sorted((k, v) for k, v in headers.items() if k not in ("X-Request-Id", "Date"))
        return status, kept, text


class Routes(Tenants):
    """Over all tables of routes, as the sources have them."""

    def test_every_row_declares_what_it_needs(self):
        declared = routes()
        self.assertGreater(len(declared), 60)
        rows = 0
        for path in (SOURCE / "src/api").glob("*.c"):
            for table in re.findall(r"(?ms)^const struct route \w+\[\] = \{\n(.*?)^\};",
                                    path.read_text()):
                rows += table.count("{ \"")
        self.assertEqual(len(declared), rows, "a row is written in another form")
        known = set(names()) | {"PERM_OPEN", "PERM_ANY", "PERM_OPERATOR"}
        for method, path, need in declared:
            self.assertIn(need, known, (method, path))
        self.assertEqual(sorted((m, p) for m, p, need in declared if need == "PERM_OPEN"),
                         [("GET", "/health"), ("GET", "/healthz"), ("GET", "/openapi.json"),
                          ("GET", "/readyz")])

    def test_roles_reach_what_they_may_and_no_more(self):
        called = names()
        # "Everything of its tenant" is not: everything.
        self.assertEqual(ROLES["admin"], set(called.values()))
        for role, may in ROLES.items():
            key = self.new_key("default", "--role", role)
            for method, path, need in routes():
                if need in ("PERM_OPEN", "PERM_ANY"):
                    continue
                body = BODIES.get(path, BODIES.get("/" + path.rsplit("/", 1)[-1], {}))
                # A stream would not end.
                path += "?cursor=none" if path == "/v1/events" else ""
                status, _, answer = self.ask(method, path.replace("{}", "nosuch"),
                                             body if method != "GET" else None, key=key)
                where = f"{role}: {method} {path} ({need}): {status} {answer}"
                if called.get(need) in may:
                    self.assertNotIn(status, (401, 403), where)
                    continue
                self.assertEqual(status, 403, where)
                self.assertEqual(answer.get("error_code", answer["code"]), "permission_denied")
                self.assertEqual(answer["details"]["role"], role, where)
                self.assertEqual(answer["details"]["needed"], called.get(need, "operator"), where)
                self.assertIn(role, answer["message"], where)
                self.assertTrue(answer["remediation"], where)

    def test_what_is_anothers_answers_like_what_is_not_there(self):
        box = self.create()
        snapshot = self.e2b("POST", f"/sandboxes/{box}/snapshots", {"name": "mine"},
                            201)["snapshotID"]
        self.addCleanup(self.e2b, "DELETE", f"/templates/{snapshot}")
        admin = self.new_key("default", "--role", "admin")
        mine = {"box": box, "snapshot": snapshot, "key": self.id_of(admin), "tenant": "acme-1234",
                "secret": "token-1234"}
        self.own("PUT", "/secrets/token-1234", {"value": "x"}, 201)
        self.addCleanup(self.own, "DELETE", "/secrets/token-1234", expect=204)
        self.tenant("acme-1234")
        kept = lambda: (self.detail(box), [k["id"] for k in self.own("GET", "/keys")["keys"]],  # noqa: E731
                        self.e2b("GET", "/snapshots", expect=200))
        before = kept()
        self.tenant("stranger")
        other = self.new_key("stranger", "--role", "admin")
        # Of the same form, and never there.
        missing = {k: v[:-4] + "0000" for k, v in mine.items()}
        seen = set()
        for method, path, need in routes():
            # A PUT of a secret makes one of the caller's own.
            if "{}" not in path or (method, path) == ("PUT", "/v1/secrets/{}"):
                continue
            body = BODIES.get("/" + path.rsplit("/", 1)[-1], {}) if method != "GET" else None
            for kind, own in mine.items():
                got = self.raw(method, path.replace("{}", own), other, body)
                want = self.raw(method, path.replace("{}", missing[kind]), other, body)
                got = got[0], got[1], got[2].replace(own, missing[kind])
                self.assertEqual(got, want, (method, path, kind))
                # What is put is one's own, whatever it is called.
                self.assertIn(got[0], (400,) if method == "PUT" and path.startswith("/v1/secrets")
                              else (403, 404, 501), (method, path, kind))
                seen.add(got[0])
        self.assertIn(404, seen)
        # Where the id is not part of the path.
        for method, path, body in (
                ("POST", "/v2/sandboxes", {"templateID": "{}"}),
                ("POST", "/sandboxes", {"templateID": "{}"}),
                ("POST", "/templates/tags", {"target": "{}", "tags": ["v1"]}),
                ("DELETE", "/templates/tags", {"name": "{}", "tags": ["v1"]}),
                ("GET", "/snapshots?sandboxID={}", None), ("GET", "/snapshots?nextToken={}", None),
                ("GET", "/sandboxes/metrics?sandbox_ids={}", None),
                ("POST", "/v1/keys", {"tenant": "{}", "name": "x"}),
                ("POST", "/v1/run", {"image": "{}", "cmd": ["true"]})):
            for kind, own in mine.items():
                fill = lambda v, i: json.loads(json.dumps(v).replace("{}", i))  # noqa: E731
                got = self.raw(method, path.replace("{}", own), other, fill(body, own))
                want = self.raw(method, path.replace("{}", missing[kind]), other,
                                fill(body, missing[kind]))
                got = got[0], got[1], got[2].replace(own, missing[kind])
                self.assertEqual(got, want, (method, path, kind))
        self.assertEqual(kept(), before)
        # The lists of the stranger are empty, but for its own keys.
        for path in ("/sandboxes", "/v2/sandboxes", "/snapshots"):
            self.assertEqual(self.ask("GET", path, key=other)[2], [])
        keys = self.ask("GET", "/v1/keys", key=other)[2]["keys"]
        self.assertEqual({k["tenant"] for k in keys}, {"stranger"})


class Keys(Tenants):
    def refused(self, key, status=401):
        got, _, answer = self.ask("GET", "/v1/sandboxes", key=key)
        self.assertEqual(got, status, answer)
        self.assertTrue(answer["remediation"], answer)
        return answer["message"]

    def test_why_a_key_is_refused_is_told_to_its_holder_only(self):
        key = self.new_key()
        name = self.id_of(key)
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=key)[0], 200)
        self.assertOk(self.brig.call("key", "revoke", name))
        self.assertRegex(self.refused(key), rf"'{name}' was revoked at 20\d\d-")
        guess = key[:-1] + ("0" if key[-1] != "0" else "1")
        self.assertEqual(self.refused(guess), "the API key is not known")
        short = self.new_key("default", "--expires", "1s")
        name = self.id_of(short)
        wait_until("it expires", lambda: self.ask("GET", "/v1/sandboxes", key=short)[0] == 401, 5)
        self.assertRegex(self.refused(short), rf"'{name}' expired at 20\d\d-")
        self.assertEqual([k["state"] for k in self.brig.json("key", "ls") if k["id"] == name],
                         ["expired"])
        # A key that is on its way out does no more harm than one that never was.
        self.assertEqual(self.ask("GET", "/sandboxes", key=short)[2]["code"], 401)

    def test_a_rotation_gives_a_new_secret(self):
        old = self.new_key("default", "--role", "run-only", "--expires", "30d")
        name = self.id_of(old)
        done = self.brig.call("key", "rotate", name, "--overlap", "2s")
        self.assertOk(done)
        new = done.text.strip()
        self.assertNotEqual(new, old)
        for key in (old, new):
            self.assertEqual(self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"]},
                                      key=key)[0], 200)
            self.assertEqual(self.ask("GET", "/v1/sandboxes", key=key)[0], 403)
        wait_until("the old one ends", lambda: self.ask("GET", "/v1/sandboxes", key=old)[0] == 401, 6)
        self.assertRegex(self.refused(old), "expired")
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=new)[0], 403)
        listed = {k["id"]: k for k in self.brig.json("key", "ls")}
        made = listed[self.id_of(new)]
        self.assertEqual((made["role"], made["name"]), ("run-only", "made-here"))
        self.assertTrue(made["expires"])
        # Without an overlap the old one ends at once.
        done = self.brig.call("key", "rotate", made["id"])
        self.assertOk(done)
        self.assertRegex(self.refused(new), "revoked")
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=done.text.strip())[0], 403)
        self.assertRefused(self.brig.call("key", "rotate", made["id"]), 125, made["id"])

    def test_scopes_narrow_a_role(self):
        key = self.new_key("default", "--scopes", "sandboxes:read,sandboxes:write")
        status, _, made = self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, key=key)
        self.assertEqual(status, 201, made)
        # Without `files` nobody is told the way in.
        self.assertNotIn("envdAccessToken", made)
        box = made["sandboxID"]
        for path in (f"/sandboxes/{box}", f"/v1/sandboxes/{box}"):
            self.assertNotIn("oken\":", json.dumps(self.ask("GET", path, key=key)[2]))
        self.assertIn("envdAccessToken", self.detail(box))
        status, _, answer = self.ask("POST", "/v1/run", {"cmd": ["true"]}, key=key)
        self.assertEqual((status, answer["details"]["needed"], answer["details"]["scopes"]),
                         (403, "run", ["sandboxes:read", "sandboxes:write"]))
        self.assertIn("scopes do not", answer["message"])
        reader = self.new_key("default", "--role", "read-only")
        self.assertNotIn("envdAccessToken", self.ask("GET", f"/sandboxes/{box}", key=reader)[2])
        self.assertRefused(self.brig.call("key", "create", "--role", "read-only", "--scopes", "run"),
                           125, "not within role read-only")
        self.assertRefused(self.brig.call("key", "create", "--scopes", "runs"), 125, "no scope 'runs'")

    def test_an_admin_manages_its_own_tenant_and_gives_no_more_than_it_has(self):
        self.tenant("acme")
        admin = self.new_key("acme", "--role", "admin")
        make = lambda key, **body: self.ask("POST", "/v1/keys", {"name": "x", **body}, key=key)  # noqa: E731
        status, _, made = make(admin, role="developer")
        self.assertEqual((status, made["tenant"], made["role"]), (201, "acme", "developer"))
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=made["key"])[0], 200)
        self.assertEqual(make(made["key"])[0], 403)
        # Nobody else's tenant, there or not.
        self.assertEqual(make(admin, tenant="default")[0], 404)
        # A narrow key makes no wide one.
        narrow = self.ask("POST", "/v1/keys", {"name": "n", "role": "admin", "scopes": ["keys"],
                                               "expires_in_s": 100}, key=admin)[2]
        status, _, answer = make(narrow["key"], role="run-only", expires_in_s=50)
        self.assertEqual(status, 403, answer)
        self.assertIn("run", answer["message"])
        status, _, answer = make(narrow["key"], role="admin", scopes=["keys"])
        self.assertEqual(status, 403, answer)
        self.assertIn("outlive", answer["message"])
        self.assertEqual(make(narrow["key"], role="admin", scopes=["keys"], expires_in_s=50)[0], 201)
        status, _, answer = self.ask("POST", f"/v1/keys/{made['id']}/rotate", {}, key=narrow["key"])
        self.assertEqual(status, 403, answer)
        self.assertEqual(self.ask("DELETE", f"/v1/keys/{made['id']}", key=admin)[0], 204)
        self.assertEqual(self.ask("GET", "/v1/sandboxes", key=made["key"])[0], 401)
        for body, words in (({"role": "root"}, "no role"), ({"scopes": []}, "empty"),
                            ({"expires_in_s": 0}, "expires_in_s"), ({"colour": 1}, "colour")):
            status, _, answer = make(admin, **body)
            self.assertEqual(status, 400, answer)
            self.assertIn(words, answer["message"])

    def test_the_command_line_says_what_belongs_where(self):
        for args in (("create", "--overlap", "5s"), ("ls", "--role", "admin"), ("rotate",),
                     ("revoke", "x", "--expires", "5s"), ("create", "--role", "root"),
                     ("rotate", "a", "b")):
            self.assertCode(self.brig.call("key", *args), 2)
        self.assertRefused(self.brig.call("key", "rotate", "../x"), 125, "no id of a key")
        self.assertRefused(self.brig.call("key", "create", "--tenant", "nobody"), 125,
                           "no tenant 'nobody'", "remedy: .*tenant create")


class Rooms(Tenants):
    def test_a_tenant_is_made_disabled_and_removed(self):
        key = self.tenant("acme")
        self.assertRefused(self.brig.call("tenant", "create", "acme"), 125, "exists")
        listed = {t["name"]: t for t in self.brig.json("tenant", "ls")}
        self.assertEqual((listed["acme"]["keys"], listed["acme"]["disabled"]), (1, False))
        self.assertIn("default", listed)
        self.assertRegex(self.brig.call("tenant", "ls").text, r"(?m)^acme +enabled +1 ")
        status, _, made = self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, key=key)
        self.assertEqual(status, 201, made)
        self.assertOk(self.brig.call("tenant", "revoke", "acme"))
        status, _, answer = self.ask("GET", "/sandboxes", key=key)
        self.assertEqual((status, answer["details"]), (403, {"tenant": "acme"}))
        self.assertIn("brig tenant enable acme", answer["remediation"])
        self.assertIn(made["sandboxID"], self.ids())
        self.assertOk(self.brig.call("tenant", "enable", "acme"))
        self.assertEqual(self.ask("GET", "/sandboxes", key=key)[0], 200)
        done = self.brig.call("tenant", "rm", "acme")
        self.assertRefused(done, 125, "1 sandboxes, 0 snapshots and 0 volumes", "remedy: .*--force")
        self.assertOk(self.brig.call("tenant", "rm", "--force", "acme"))
        wait_until("its sandbox is gone", lambda: made["sandboxID"] not in self.ids())
        self.assertEqual(self.ask("GET", "/sandboxes", key=key)[0], 401)
        self.assertRefused(self.brig.call("tenant", "inspect", "acme"), 125, "no tenant 'acme'")
        self.assertRefused(self.brig.call("tenant", "rm", "default"), 125, "stays")
        # One of the same name that comes later has nothing of it.
        again = self.tenant("acme")
        self.assertEqual(self.ask("GET", "/sandboxes", key=again)[2], [])
        self.assertEqual(self.ask("GET", "/sandboxes", key=key)[0], 401)

    def test_mistakes_are_told(self):
        for name in ("a/b", "..", "", "-", "x" * 70):
            self.assertRefused(self.brig.call("tenant", "create", "--", name), 125)
        self.assertRefused(self.brig.call("tenant", "create", "x" * 50), 125, "39")
        for args in ((), ("make", "x"), ("create",), ("ls", "x"), ("ls", "--force"),
                     ("rm", "a", "b")):
            self.assertCode(self.brig.call("tenant", *args), 2)

    def test_a_tenant_looks_at_itself_only(self):
        key = self.tenant("acme")
        self.assertEqual(self.ask("GET", "/v1/tenants/acme", key=key)[2]["name"], "acme")
        self.assertEqual(self.ask("GET", "/v1/tenants/default", key=key)[0], 404)
        self.assertEqual(self.ask("GET", "/v1/tenants", key=key)[0], 403)
        self.assertEqual(self.ask("PATCH", "/v1/tenants/acme", {"disabled": True}, key=key)[0], 403)


class Policy(Tenants):
    def set(self, name, *args):
        done = self.brig.call("tenant", "set", name, *args)
        self.assertOk(done)
        return self.brig.json("tenant", "inspect", name)

    def use(self, name):
        return self.brig.json("tenant", "inspect", name)["use"]

    def made(self, key, body, expect=201):
        status, headers, answer = self.ask("POST", "/v2/sandboxes", {"templateID": "host", **body},
                                           key=key)
        self.assertEqual(status, expect, answer)
        return answer if expect == 201 else (headers, answer)

    def denied(self, key, body, field, path="/v2/sandboxes", method="POST"):
        status, _, answer = self.ask(method, path, body, key=key)
        self.assertEqual(status, 403, answer)
        self.assertEqual(answer.get("error_code", answer["code"]), "permission_denied")
        self.assertEqual((answer["details"]["policy"], answer["details"]["tenant"]), (field, "acme"))
        self.assertIn(field, answer["message"])
        self.assertTrue(answer["remediation"])
        return answer

    def test_what_is_beyond_is_refused_by_the_field(self):
        key = self.tenant("acme")
        self.set("acme", "--max-memory", "256m", "--max-cpus", "0.5", "--max-disk", "64m",
                 "--max-pids", "100", "--max-timeout", "60s")
        for limits, field in (({"memory": "257m"}, "max_memory_bytes"), ({"cpus": 0.6}, "max_cpu_milli"),
                              ({"disk": "65m"}, "max_disk_bytes"), ({"pids": 101}, "max_pids"),
                              ({"timeout": "61s"}, "max_timeout_ms"),
                              ({"timeout": None}, "max_timeout_ms")):
            self.denied(key, {"image": "host", "cmd": ["true"], "limits": limits}, field, "/v1/run")
            answer = self.denied(key, {"templateID": "host", "timeout": 30, "limits": limits}, field)
            self.assertEqual(answer["code"], 403)
        # What is not asked for fits.
        box = self.made(key, {})["sandboxID"]
        self.assertEqual(self.ask("GET", f"/v1/sandboxes/{box}", key=key)[2]["limits"],
                         {"cpu_milli": 500, "memory_bytes": 256 << 20, "disk_bytes": 64 << 20})
        ran = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["cat", "/proc/meminfo"]}, key=key)
        self.assertEqual(ran[0], 200, ran)
        # The time until the end, asked for at once and later.
        self.denied(key, {"templateID": "host", "timeout": 61}, "max_timeout_ms")
        for path in ("/sandboxes/{}/timeout", "/v2/sandboxes/{}/connect", "/sandboxes/{}/fork"):
            self.denied(key, {"timeout": 61}, "max_timeout_ms", path.replace("{}", box))
        self.denied(key, {"duration": 61}, "max_timeout_ms", f"/sandboxes/{box}/refreshes")
        self.assertEqual(self.ask("POST", f"/sandboxes/{box}/timeout", {"timeout": 60}, key=key)[0], 204)
        # Unset, one by one.
        self.set("acme", "--max-memory", "", "--max-timeout", "")
        status, _, answer = self.ask("POST", "/v1/run", {
            "image": "host", "cmd": ["true"], "limits": {"memory": "300m", "timeout": "70s"}}, key=key)
        self.assertEqual(status, 200, answer)

    def test_tier_image_and_network(self):
        key = self.tenant("acme")
        self.set("acme", "--tier-floor", "microvm")
        self.denied(key, {"image": "host", "cmd": ["true"], "tier": "container"}, "tier_floor",
                    "/v1/run")
        self.denied(key, {"templateID": "host", "metadata": {"brig.tier": "gvisor"}}, "tier_floor")
        # Without a wish it gets the floor, which this host has or has not.
        status, _, answer = self.ask("POST", "/v1/run", {"image": "host", "cmd": ["true"]}, key=key)
        self.assertTrue(status == 422 or answer["tier"] == "microvm", answer)
        self.set("acme", "--tier-floor", "", "--images", "one,two")
        self.denied(key, {"image": "host", "cmd": ["true"]}, "images", "/v1/run")
        self.denied(key, {"cmd": ["true"]}, "images", "/v1/run")
        self.denied(key, {"templateID": "host"}, "images")
        self.denied(key, {"templateID": "one", "image": "host"}, "images")
        self.denied(key, {"templateID": "code-interpreter-v1"}, "images")
        self.made(key, {"templateID": "one"}, 404)
        self.set("acme", "--images", "host")
        box = self.made(key, {})["sandboxID"]
        status, _, snapshot = self.ask("POST", f"/sandboxes/{box}/snapshots", {}, key=key)
        self.assertEqual(status, 201, snapshot)
        self.made(key, {"templateID": snapshot["snapshotID"]})
        # What was made while it was allowed leads round nothing.
        self.set("acme", "--images", "one")
        self.denied(key, {"templateID": snapshot["snapshotID"]}, "images")
        self.denied(key, {}, "images", f"/sandboxes/{box}/fork")
        self.set("acme", "--images", "", "--network", "none")
        self.denied(key, {"templateID": "host", "allow_internet_access": True}, "network")
        self.denied(key, {"templateID": "host", "network": {"allowOut": ["1.1.1.1"]}}, "network")
        self.denied(key, {"allow_internet_access": True}, "network", f"/sandboxes/{box}/network", "PUT")
        self.made(key, {"allow_internet_access": False})
        self.set("acme", "--network", "deny")
        self.denied(key, {"templateID": "host", "allow_internet_access": True}, "network")
        self.made(key, {"network": {"allowOut": ["1.1.1.1"]}})
        self.set("acme", "--publish", "loopback")
        self.denied(key, {"templateID": "host", "ports": ["0.0.0.0:0:80"]}, "publish")
        box = self.made(key, {"ports": ["0:80"]})["sandboxID"]
        rows = self.ask("GET", f"/v1/sandboxes/{box}/ports", key=key)[2]["ports"]
        self.assertEqual([(r["address"], r["port"]) for r in rows], [("127.0.0.1", 80)])
        self.set("acme", "--publish", "none")
        self.denied(key, {"templateID": "host", "ports": ["0:80"]}, "publish")
        self.set("acme", "--publish", "")

    def test_a_policy_is_kept_and_told(self):
        key = self.tenant("acme")
        done = self.brig.call("tenant", "set", "acme", "--cpu-weight", "200", "--quota-vcpus", "2.5",
                              "--images", "a,b")
        self.assertOk(done)
        self.assertIn("not applied", done.errors)
        for answer in (self.ask("GET", "/v1/quota", key=key)[2],
                       self.ask("GET", "/v1/tenants/acme", key=key)[2],
                       self.brig.json("tenant", "inspect", "acme")):
            policy = answer["policy"]
            self.assertEqual((policy["cpu_weight"], policy["quota_cpu_milli"], policy["images"],
                              policy["max_pids"], policy["network"]),
                             (200, 2500, ["a", "b"], None, "public"))
        self.assertEqual(self.ask("GET", "/v1/quota", key=self.new_key("acme", "--role", "run-only"))[0],
                         403)
        for args, code in ((("--max-memory", "1k"), 125), (("--max-cpus", "x"), 2), ((), 2),
                           (("--tier-floor", "vm"), 125), (("--network", "all"), 125),
                           (("--images", "a,,b"), 125), (("--cpu-weight", "0"), 125)):
            self.assertCode(self.brig.call("tenant", "set", "acme", *args), code)
        self.assertEqual(self.brig.json("tenant", "inspect", "acme")["policy"], policy)
        self.assertCode(self.brig.call("tenant", "ls", "--max-pids", "5"), 2)

    def test_quotas_are_told_with_limit_and_use(self):
        key = self.tenant("acme")
        self.set("acme", "--quota-sandboxes", "2", "--quota-memory", "1g", "--quota-vcpus", "3",
                 "--quota-disk", "400m", "--quota-snapshots", "1")

        def over(body, quota, use, path="/v2/sandboxes"):
            status, headers, answer = self.ask("POST", path, body, key=key)
            self.assertEqual(status, 429, answer)
            self.assertEqual(answer.get("error_code", answer["code"]), "busy")
            details = answer["details"]
            self.assertEqual((details["quota"], details["use"]), (quota, use))
            self.assertEqual(details["limit"],
                             self.brig.json("tenant", "inspect", "acme")["policy"][quota])
            self.assertEqual(headers["Retry-After"], str(details["retry_after"]))
            self.assertGreaterEqual(details["retry_after"], 1)
            self.assertIn(quota, answer["message"])
            self.assertTrue(answer["remediation"])

        host = {"templateID": "host"}
        box = self.made(key, {})["sandboxID"]
        self.assertEqual(self.use("acme"), {"sandboxes": 1, "cpu_milli": 1000, "snapshots": 0, "volumes": 0, "volume_bytes": 0,
                                            "memory_bytes": 512 << 20, "disk_bytes": 256 << 20})
        over(host, "quota_disk_bytes", 256 << 20)
        over({**host, "limits": {"disk": "1m", "memory": "513m"}}, "quota_memory_bytes", 512 << 20)
        over({**host, "limits": {"disk": "1m", "cpus": 2.1}}, "quota_cpu_milli", 1000)
        over({"image": "host", "cmd": ["true"]}, "quota_disk_bytes", 256 << 20, "/v1/run")
        over({"count": 2}, "quota_sandboxes", 1, f"/sandboxes/{box}/fork")
        self.made(key, {"limits": {"disk": "1m"}})
        over(host, "quota_sandboxes", 2)
        over({"image": "host", "cmd": ["true"]}, "quota_sandboxes", 2, "/v1/run")
        self.assertEqual(self.ask("DELETE", f"/sandboxes/{box}", key=key)[0], 204)
        self.assertEqual(self.use("acme")["sandboxes"], 1)
        # A run counts while it lasts, with files and without.
        for files in ({}, {"f": "x"}):
            status, _, answer = self.ask("POST", "/v1/run", {
                "image": "host", "cmd": ["true"], "files": files}, key=key)
            self.assertEqual(status, 200, answer)
            wait_until("it is given back", lambda: self.use("acme")["sandboxes"] == 1)
        # One that fails gives back at once.
        self.made(key, {"templateID": "no-such"}, 404)
        self.assertEqual(self.use("acme")["sandboxes"], 1)
        box = self.made(key, {})["sandboxID"]
        status, _, kept = self.ask("POST", f"/sandboxes/{box}/snapshots", {}, key=key)
        self.assertEqual(status, 201, kept)
        over({}, "quota_snapshots", 1, f"/sandboxes/{box}/snapshots")
        self.assertEqual(self.ask("DELETE", f"/templates/{kept['snapshotID']}", key=key)[0], 204)
        self.assertEqual(self.ask("POST", f"/sandboxes/{box}/snapshots", {}, key=key)[0], 201)
        self.assertRegex(self.brig.call("tenant", "ls").text,
                         r"(?m)^acme +enabled +1 +2 of 2 +2 of 3 .* 1 of 1")

    def test_a_command_line_elsewhere_is_held_to_them(self):
        far = Brig(data=self.folder / "none", BRIG_URL=f"http://127.0.0.1:{self.port}",
                   BRIG_API_KEY=self.tenant("acme"))
        self.set("acme", "--max-memory", "256m", "--quota-sandboxes", "1", "--images", "host")
        self.assertRefused(far.call("run", "--image", "host", "--memory", "257m", "--", "true"), 125,
                           "max_memory_bytes")
        self.assertRefused(far.call("run", "--image", "other", "--", "true"), 125, "images")
        # No label of the client's says whose it is, or what it stands for.
        made = far.call("create", "--image", "host", "--label", "brig.tenant=default",
                        "--label", "brig.charge=1 1 1")
        self.assertOk(made)
        self.assertEqual(self.use("acme"), {"sandboxes": 1, "cpu_milli": 1000, "snapshots": 0, "volumes": 0, "volume_bytes": 0,
                                            "memory_bytes": 256 << 20, "disk_bytes": 128 << 20})
        [box] = self.brig.json("ls")
        self.assertEqual(box["labels"]["brig.tenant"], "acme")
        self.assertRefused(far.call("run", "--image", "host", "--", "true"), 125, "quota_sandboxes")
        self.assertRefused(far.call("create", "--image", "host"), 125, "quota_sandboxes")
        self.assertOk(far.call("rm", "-f", made.text.strip()))
        wait_until("it is given back", lambda: self.use("acme")["sandboxes"] == 0)
        for _ in range(3):
            self.assertOk(far.call("run", "--image", "host", "--", "true"))
            wait_until("it is given back", lambda: self.use("acme")["sandboxes"] == 0)

    def test_creates_per_second(self):
        key = self.tenant("acme")
        self.set("acme", "--quota-creates-per-second", "2")
        time.sleep(1)
        got = [self.ask("POST", "/v1/run", {"image": "host", "cmd": []}, key=key) for _ in range(5)]
        refused = [answer for status, _, answer in got if status == 429]
        self.assertGreaterEqual(len(refused), 1, got)
        self.assertEqual(refused[0]["details"]["quota"], "quota_creates_per_second")
        self.assertEqual(refused[0]["details"]["retry_after"], 1)
        time.sleep(1)
        self.assertNotEqual(self.ask("POST", "/v1/run", {"image": "host", "cmd": []}, key=key)[0], 429)


class Crowd(Tenants):
    """A thousand at once, and what a restart makes of it."""

    N, QUOTA = 1000, 20

    def crowd(self, key):
        """The status of each of N creates that are all under way at once."""
        start, got = threading.Barrier(self.N), []

        def one():
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120 * brigtest.SLOW)
            try:
                c.connect()
                start.wait()
                c.request("POST", "/v2/sandboxes", json.dumps({
                    "templateID": "host", "timeout": 600,
                    "limits": {"memory": "32m", "cpus": 0.1}}), {"X-API-Key": key})
                r = c.getresponse()
                got.append((r.status, json.loads(r.read())))
            finally:
                c.close()

        threads = [threading.Thread(target=one) for _ in range(self.N)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return got

    def setUp(self):
        super().setUp()
        old = threading.stack_size(256 * 1024)
        self.addCleanup(threading.stack_size, old)

    def use(self):
        return self.brig.json("tenant", "inspect", "acme")["use"]

    def of_acme(self):
        return [b for b in self.brig.json("ls") if b["labels"].get("brig.tenant") == "acme"]

    def settled(self):
        """The use and what brigd has, once both are the same."""
        wait_until("the count is that of brigd",
                   lambda: self.use()["sandboxes"] == len(self.of_acme()), 20)
        return self.use()["sandboxes"]

    def api_pid(self):
        return next((p for p in hoststate.pids()
                     if hoststate.is_ours(p) and hoststate.comm_of(p) == "brig-api"), None)

    def test_exactly_the_quota_and_the_same_after_a_kill(self):
        brigtest.need_root()
        key = self.tenant("acme")
        self.assertOk(self.brig.call("tenant", "set", "acme", "--quota-sandboxes", str(self.QUOTA)))
        got = self.crowd(key)
        self.assertEqual(len(got), self.N)
        made = [a["sandboxID"] for status, a in got if status == 201]
        others = {status for status, a in got if status != 201}
        self.assertEqual((len(made), others), (self.QUOTA, {429}))
        self.assertEqual(self.settled(), self.QUOTA)
        self.kill_api()
        self.assertEqual(self.settled(), self.QUOTA)
        before = self.use()
        self.assertEqual(self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, key=key)[0], 429)
        for box in made[:5]:
            self.assertEqual(self.ask("DELETE", f"/sandboxes/{box}", key=key)[0], 204)
        self.assertEqual(self.use(), {
            "sandboxes": 15, "cpu_milli": 1500, "memory_bytes": 15 * 32 << 20,
            "disk_bytes": before["disk_bytes"] // 20 * 15, "snapshots": 0, "volumes": 0, "volume_bytes": 0})
        # Killed while creates are under way: what nobody was told of is counted until it is gone.
        threads = [threading.Thread(target=self.quietly, args=(key,)) for _ in range(40)]
        for t in threads:
            t.start()
        self.kill_api()
        for t in threads:
            t.join()
        self.assertLessEqual(self.settled(), self.QUOTA)
        wait_until("the rest is known", lambda: len(self.ask(
            "GET", "/v1/sandboxes", key=key)[2]["sandboxes"]) == len(self.of_acme()), 20)

    def test_what_a_killed_brigd_had_is_taken_over_and_counted(self):
        brigtest.need_root()
        key = self.tenant("acme")
        self.assertOk(self.brig.call("tenant", "set", "acme", "--quota-sandboxes", "2"))
        create = lambda: self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, key=key)[0]  # noqa: E731
        self.assertEqual([create() for _ in range(3)], [201, 201, 429])
        [pid] = hoststate.brig_pids("brigd")
        api = self.api_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until("others serve", lambda: hoststate.brig_pids("brigd") not in ([], [pid])
                   and self.api_pid() not in (None, api) and self.healthy(), 20)
        self.assertEqual(self.settled(), 2)
        self.assertEqual(create(), 429)
        self.assertOk(self.brig.call("rm", "--force", self.of_acme()[0]["id"]))
        wait_until("there is room again", lambda: create() == 201, 10)
        self.assertEqual(self.settled(), self.use()["sandboxes"])

    def quietly(self, key):
        try:
            self.ask("POST", "/v2/sandboxes", {"templateID": "host"}, key=key)
        except OSError:
            pass

    def kill_api(self):
        pid = self.api_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until("another serves", lambda: self.api_pid() not in (None, pid) and self.healthy(), 20)

    def healthy(self):
        try:
            return self.ask("GET", "/healthz", key=None)[0] == 200
        except OSError:
            return False
