# SPDX-License-Identifier: Apache-2.0
"""Tenants, keys and roles: what a key may do, how it ends, and that nobody learns of another's room."""

import json
import re

from brigtest import SOURCE, wait_until
from test_api import Api

ROW = re.compile(r'\{ "([A-Z]+)", "(/[^"]*)", ([A-Z0-9_| ]+), (PERM_\w+), \w+ \}')
READ = {"sandboxes:read", "snapshots:read", "templates:read", "metrics", "quota:read", "server:read"}
DEVELOPER = READ | {"run", "sandboxes:write", "files", "snapshots:write", "templates:write"}
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
        mine = {"box": box, "snapshot": snapshot, "key": self.id_of(admin), "tenant": "acme-1234"}
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
            if "{}" not in path:
                continue
            body = BODIES.get("/" + path.rsplit("/", 1)[-1], {}) if method != "GET" else None
            for kind, own in mine.items():
                got = self.raw(method, path.replace("{}", own), other, body)
                want = self.raw(method, path.replace("{}", missing[kind]), other, body)
                got = got[0], got[1], got[2].replace(own, missing[kind])
                self.assertEqual(got, want, (method, path, kind))
                self.assertIn(got[0], (403, 404, 501), (method, path, kind))
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
        self.assertRefused(done, 125, "1 sandboxes and 0 snapshots", "remedy: .*--force")
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
