# SPDX-License-Identifier: Apache-2.0
"""brig's container tier on a pure version 2 machine: as root, and as a user with and without a
delegated control group. Everything goes through the command line; what the machine holds afterwards is
looked at from outside (/proc, /sys/fs/cgroup), not asked of brig."""

import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import time

from lib import case, host_state, run

BIN = pathlib.Path("/opt/nested/bin")
BRIG = str(BIN / "brig")
# The host image needs no build; the emulation is up to 50 times slower than a processor.
RUN = (BRIG, "run", "--image", "host")
FIRST_ID = 0x70000000  # include/brig/ids.h


def status_of(*args, expect=None, timeout=90, **kw):
    """Runs `brig run --status-json F args` and returns (the finished process, the status)."""
    path = pathlib.Path("/tmp/status.json")
    path.unlink(missing_ok=True)
    done = run(*RUN, "--status-json", path, *args, timeout=timeout, **kw)
    assert path.exists(), f"no status was written; exit {done.returncode}: {done.stderr}"
    status = json.loads(path.read_text())
    if expect is not None:
        assert done.returncode == expect, f"exit {done.returncode}, not {expect}: {done.stderr}"
    return done, status


def stopped(status, reason):
    assert status["stop_reason"] == reason, json.dumps(status)
    return json.dumps(status["evidence"])


def sandbox_pids():
    """Processes with an id of a sandbox's range (slot 0 is for brig's own daemons)."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        try:
            if p.name.isdigit() and p.stat().st_uid >= FIRST_ID + 65536:
                found.append(f"{p.name} {(p / 'comm').read_text().strip()}")
        except OSError:
            pass
    return found


def gone_soon(what=sandbox_pids, seconds=10):
    """The promise is 2 s on a real processor."""
    end = time.monotonic() + seconds
    while left := what():
        assert time.monotonic() < end, f"left after {seconds} s: {left}"
        time.sleep(0.05)


@case("brig doctor: the container tier is ready, every limit can be enforced")
def doctor():
    done = run(BRIG, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    js = run(BRIG, "doctor", "-o", "json")
    assert js.returncode == 0 and isinstance(json.loads(js.stdout), (dict, list)), js.stdout
    return " / ".join(done.stdout.strip().splitlines()[:3])


@case("brig run: output, standard input and exit codes pass through")
def passes():
    done = run(*RUN, "--", "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n"), (done.stdout, done.stderr)
    assert done.stderr == "", f"a warning where nothing is missing: {done.stderr}"
    done = run(*RUN, "-i", "--", "sh", "-c", "cat; echo err >&2", stdin=None, input="over\n")
    assert (done.stdout, done.stderr) == ("over\n", "err\n"), (done.stdout, done.stderr)
    for command, code in ((("sh", "-c", "exit 7"), 7), (("no-such-command",), 127),
                          (("/etc/passwd",), 126), (("sh", "-c", "kill -TERM $$"), 143)):
        done = run(*RUN, "--", *command)
        assert done.returncode == code, f"{command}: {done.returncode}: {done.stderr}"


@case("brig run: a refused request names the reason and starts nothing")
def refused():
    before = host_state()["cgroup"]
    for args, code in ((("--memory", "0", "--", "true"), {2, 125}), ((), {2, 125}),
                       (("--memory", "99999g", "--", "true"), {2, 125}),
                       (("--tier", "nonsense", "--", "true"), {2, 125})):
        done = run(*RUN, *args)
        assert done.returncode in code and done.stderr, f"{args}: {done.returncode}"
    assert host_state()["cgroup"] <= before


@case("memory limit: an out-of-memory kill has its own reason; a command that exits 137 does not")
def memory():
    _, status = status_of("--memory", "64m", "--disk", "16m", "--", "tail", "/dev/zero", expect=137)
    evidence = stopped(status, "out_of_memory")
    assert status["usage"]["memory_peak_bytes"] <= 64 << 20
    _, status = status_of("--", "sh", "-c", "exit 137", expect=137)
    stopped(status, "exited")
    return evidence


@case("memory limit: what is written to /tmp counts")
def tmpfs_memory():
    done, status = status_of("--memory", "64m", "--disk", "48m", "--", "sh", "-c",
                             "head -c 60000000 /dev/zero >/tmp/f; echo $?; wc -c </tmp/f")
    assert done.stdout.split()[0] != "0", done.stdout
    assert int(done.stdout.split()[-1]) <= 48 << 20, done.stdout
    assert status["usage"]["memory_peak_bytes"] > 40 << 20, json.dumps(status["usage"])


@case("process limit: forks fail at the limit, and the status says so")
def pids():
    # dash gives up at the first fork that fails; bash would wait 15 s for processes to end.
    script = "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; wait"
    done, status = status_of("--pids", "24", "--", "dash", "-c", script)
    assert done.returncode == 2 and "fork" in done.stderr, f"{done.returncode}: {done.stderr}"
    assert "pids" in status["limits_hit"], json.dumps(status)
    assert 20 <= status["usage"]["pids_peak"] <= 24, json.dumps(status["usage"])
    gone_soon()
    return json.dumps(status["limits_hit"])


@case("CPU time limit: a busy loop ends, with the time used as evidence")
def cpu_time():
    done, status = status_of("--cpu-time", "1s", "--", "sh", "-c", "while :; do :; done")
    assert done.returncode not in (0, 125)
    assert status["usage"]["cpu_ms"] >= 1000
    return stopped(status, "cpu_time")


@case("CPU limit: a tenth of a CPU is not exceeded")
def cpus():
    _, status = status_of("--cpus", "0.1", "--timeout", "4s", "--", "sh", "-c", "while :; do :; done",
                          expect=124)
    usage = status["usage"]
    # One period of 100 ms is given ahead.
    assert usage["cpu_ms"] <= 0.1 * usage["wall_ms"] + 150, json.dumps(usage)
    return f"{usage['cpu_ms']} ms of CPU in {usage['wall_ms']} ms"


@case("disk limit: a filler of the writable layer meets its end, and the status says so")
def disk():
    done, status = status_of("--disk", "8m", "--", "sh", "-c",
                             "head -c 30000000 /dev/zero >/home/user/f; wc -c </home/user/f")
    assert int(done.stdout) <= 8 << 20 and "No space" in done.stderr, (done.stdout, done.stderr)
    assert "disk" in status["limits_hit"], json.dumps(status)


@case("output limit: an endless printer ends after exactly that many bytes")
def output():
    done, status = status_of("--max-output", "65536", "--", "yes")
    assert done.returncode not in (0, 125)
    assert len(done.stdout) == 65536, len(done.stdout)
    return stopped(status, "output")


@case("timeout: processes that ignore signals, left the session or are stopped are gone")
def timeout():
    script = ('trap "" TERM HUP INT; setsid sleep 997 & (setsid sleep 998 &) ; '
              "sleep 999 & kill -STOP $!; while :; do sleep 1; done")
    _, status = status_of("--timeout", "3s", "--", "bash", "-c", script, expect=124)
    gone_soon()
    return stopped(status, "wall_time")


@case("identity: root inside is an ordinary id outside, with an own range")
def identity():
    done = run(*RUN, "--user", "0", "--", "sh", "-c",
               "id -u; cat /proc/self/uid_map; grep -E 'Seccomp:|NoNewPrivs|CapBnd' /proc/self/status; "
               "cat /proc/self/cgroup; hostname; ls /sys/class/net 2>/dev/null; cat /proc/net/dev")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "0"
    inside, outside, count = map(int, lines[1].split())
    assert inside == 0 and outside >= FIRST_ID + 65536 and outside % 65536 == 0, lines[1]
    assert count <= 65536
    assert re.search(r"^Seccomp:\s+2$", done.stdout, re.M) and \
        re.search(r"^NoNewPrivs:\s+1$", done.stdout, re.M), done.stdout
    assert "0::/\n" in done.stdout, "the path of the group shows: " + done.stdout
    assert "nested\n" not in done.stdout, "the host name shows"
    links = re.findall(r"^\s*(\w+):", done.stdout.split("Inter-|")[-1], re.M)
    assert links == ["lo"], links
    return lines[1]


@case("killed from outside: brig itself dies, and nothing of its sandbox is left")
def client_dies():
    p = subprocess.Popen([*RUN, "--", "sh", "-c", "echo up; sleep 996"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert p.stdout.readline() == b"up\n"
    assert sandbox_pids()
    p.kill()
    p.wait()
    p.stdout.close()
    gone_soon()


@case("four sandboxes at once do not meet")
def parallel():
    ps = [subprocess.Popen([*RUN, "--", "sh", "-c", f"echo {i} >/tmp/mine; sleep 2; cat /tmp/mine; "
                            "sed -n 's/ *[0-9]* *\\([0-9]*\\).*/\\1/p' /proc/self/uid_map | head -1"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
          for i in range(4)]
    outs = [p.communicate(timeout=90)[0].split() for p in ps]
    assert [o[0] for o in outs] == ["0", "1", "2", "3"], outs
    assert len({o[1] for o in outs}) == 4, f"two sandboxes share ids: {outs}"


def groups():
    """Control groups of sandboxes, seen from outside."""
    return [d for d, _, _ in os.walk("/sys/fs/cgroup/brig") if re.fullmatch("[a-z0-9]{16}",
                                                                         os.path.basename(d))]


class Server:
    """A resident `brig serve` that the commands find by its default address."""

    def __init__(self, env=None):
        self.env = env

    def __enter__(self):
        self.log = open("/tmp/serve.log", "w+")
        self.process = subprocess.Popen([BRIG, "serve", "--no-http"], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, env=self.env)
        end = time.monotonic() + 20
        while not pathlib.Path("/run/brig/brigd.sock").exists():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.02)
        return self

    def said(self):
        return "brig serve: " + pathlib.Path("/tmp/serve.log").read_text()

    def children(self, name):
        return [int(p) for p in run("pgrep", "-x", name).stdout.split()]

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            assert self.process.wait(20) == 0, self.said()
        finally:
            self.process.kill()
            self.log.close()


def create(*args):
    done = run(BRIG, "create", "--image", "host", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@case("resident server: the control group of a sandbox holds its limits, and goes with it")
def resident():
    with Server():
        box = create("--memory", "64m", "--disk", "16m", "--pids", "20", "--cpus", "0.5")
        for i in range(3):
            done = run(BRIG, "exec", box, "sh", "-c", f"echo {i} >>/tmp/n; wc -l </tmp/n; exit {i}")
            assert (done.returncode, done.stdout) == (i, f"{i + 1}\n"), (done.stdout, done.stderr)
        (group,) = [g for g in groups() if os.path.basename(g) == box]
        # The agent is one process more.
        want = {"memory.max": 64 << 20, "memory.swap.max": 0, "pids.max": 21, "cpu.max": "50000 100000",
                "cgroup.subtree_control": ""}
        have = {f: pathlib.Path(group, f).read_text().strip() for f in want}
        assert have == {k: str(v) for k, v in want.items()}, have
        inside = pathlib.Path(group, "cgroup.procs").read_text().split()
        assert inside, "no process is in the group"
        stats = json.loads(run(BRIG, "stats", "-o", "json", "--no-stream").stdout)
        assert [s["id"] for s in stats] == [box] and stats[0]["memory_bytes"] > 0, stats
        done = run(BRIG, "rm", box)
        assert done.returncode == 0 and not os.path.exists(group), done.stderr
        assert not [p for p in inside if os.path.exists(f"/proc/{p}")]
        left = create()
        assert run(BRIG, "gc", "--prove").returncode == 0
    gone_soon()
    gone_soon(groups)
    return f"{have['cpu.max']} {have['memory.max']}; {left} went with the server"


@case("resident server: a paused sandbox stands still, goes on, and can be removed")
def paused():
    with Server():
        done = run(BRIG, "run", "--detach", "--image", "host", "--", "sh", "-c", "while :; do :; done")
        box = done.stdout.strip()
        assert done.returncode == 0, done.stderr
        (group,) = [g for g in groups() if os.path.basename(g) == box]

        def used():
            return int(re.search(r"usage_usec (\d+)", pathlib.Path(group, "cpu.stat").read_text())[1])
        first = used()
        deadline = time.monotonic() + 20
        while used() == first:
            assert time.monotonic() < deadline, "it does not run"
        done = run(BRIG, "pause", box)
        assert done.returncode == 0, done.stderr
        assert "frozen 1" in pathlib.Path(group, "cgroup.events").read_text()
        before = used()
        assert run(BRIG, "exec", box, "true").returncode == 125
        time.sleep(0.5)
        assert used() == before, "it used CPU time while it was paused"
        assert run(BRIG, "unpause", box).returncode == 0
        deadline = time.monotonic() + 20
        while used() == before:
            assert time.monotonic() < deadline, "it does not go on"
        assert run(BRIG, "pause", box).returncode == 0
        assert run(BRIG, "rm", "--force", box).returncode == 0 and not os.path.exists(group)
        # One more goes with the server.
        box = create()
        assert run(BRIG, "pause", box).returncode == 0
    gone_soon()
    gone_soon(groups)


@case("resident server: sandboxes outlive brigd and brig-jaild, and nothing of them is left behind rm")
def daemons_die():
    with Server() as server:
        for name in ("brigd", "brig-jaild"):
            deadline = time.monotonic() + 30
            while run(BRIG, "ls").returncode or not server.children(name):
                assert time.monotonic() < deadline, f"no server before {name}'s turn: {server.said()}"
                time.sleep(0.1)
            box = create()
            p = subprocess.Popen([BRIG, "exec", box, "sleep", "994"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 20
            while run("pgrep", "-fx", "sleep 994").returncode:
                assert time.monotonic() < deadline, "the command does not start"
                time.sleep(0.05)
            # One of several jailds of the name may be a stage; the eldest is the server's own.
            os.kill(min(server.children(name)), signal.SIGKILL)
            deadline = time.monotonic() + 30
            while run(BRIG, "exec", box, "true").returncode:
                assert time.monotonic() < deadline, f"it is not taken over: {server.said()}"
                time.sleep(0.1)
            assert not run("pgrep", "-fx", "sleep 994").returncode, "its command is gone"
            assert p.poll() is None, "its client has lost it"
            assert run(BRIG, "rm", "-f", box).returncode == 0
            assert p.wait(20) != 0
            gone_soon(lambda: run("pgrep", "-fx", "sleep 994").stdout.split())
            gone_soon(lambda: [g for g in groups() if os.path.basename(g) == box])
    gone_soon()
    gone_soon(groups)
    assert run(BRIG, "gc", "--prove").returncode == 0


@case("brig gc --prove: nothing unexplained on this machine")
def prove():
    done = run(BRIG, "gc", "--prove")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@case("brig gc: what a dead instance left is removed, what nobody can explain is named")
def prove_finds():
    dead = pathlib.Path("/sys/fs/cgroup/brig/000000000000/abcdefghijklmnop")
    dead.mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "995"])
    (dead / "cgroup.procs").write_text(str(sleeper.pid))
    done = run(BRIG, "gc")
    assert done.returncode == 0 and not dead.exists(), done.stdout + done.stderr
    assert sleeper.wait(timeout=10) == -signal.SIGKILL
    stray = pathlib.Path("/run/brig/stray")
    stray.parent.mkdir(mode=0o711, exist_ok=True)
    stray.write_text("")
    try:
        done = run(BRIG, "gc", "--prove")
        assert done.returncode == 1 and "stray" in done.stdout + done.stderr, \
            f"exit {done.returncode}: {done.stdout}{done.stderr}"
    finally:
        stray.unlink()
    assert run(BRIG, "gc", "--prove").returncode == 0


# ---- an ordinary user ----

USER = "tester"


def user_setup():
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        pass
    done = run("useradd", "-m", "-s", "/bin/bash", USER)
    assert done.returncode == 0, done.stderr
    user = pwd.getpwnam(USER)
    for f in ("/etc/subuid", "/etc/subgid"):
        if USER + ":" not in pathlib.Path(f).read_text():
            with open(f, "a") as out:
                out.write(f"{USER}:100000:65536\n")
    return user


def as_user(user, *args, group=None, timeout=90):
    """Runs args as the user in a session like the one a login makes: own runtime directory, nothing
    inherited, in the given control group."""
    runtime = pathlib.Path(f"/run/user/{user.pw_uid}")
    runtime.mkdir(parents=True, exist_ok=True, mode=0o711)
    os.chown(runtime, user.pw_uid, user.pw_gid)
    os.chmod(runtime, 0o700)

    def enter():
        if group:
            pathlib.Path(group, "cgroup.procs").write_text("0")

    return run("setpriv", "--reuid", user.pw_uid, "--regid", user.pw_gid, "--init-groups",
               "--reset-env", "env", f"XDG_RUNTIME_DIR={runtime}", *args, timeout=timeout,
               cwd=user.pw_dir, preexec_fn=enter)


@case("rootless, no delegated group: it runs, and says which limits it cannot enforce")
def rootless_plain():
    user = user_setup()
    done = as_user(user, *RUN, "--", "sh", "-c", "id -u; echo hi")
    assert done.returncode == 0 and done.stdout.endswith("hi\n"), (done.stdout, done.stderr)
    for limit in ("memory", "pids", "CPU"):
        assert limit.lower() in done.stderr.lower(), f"{limit} is not named: {done.stderr}"
    gone_soon(lambda: left_of(user))
    return done.stderr.strip().splitlines()[0]


def left_of(user):
    first = 100000
    found = []
    for p in pathlib.Path("/proc").iterdir():
        try:
            uid = p.stat().st_uid if p.name.isdigit() else -1
            if uid == user.pw_uid or first <= uid < first + 65536:
                found.append(f"{p.name} {(p / 'comm').read_text().strip()}")
        except OSError:
            pass
    return found


class Delegated:
    """A group that belongs to the user, with its controllers handed down to it, as systemd makes it for
    `systemd-run --user --scope -p Delegate=yes`."""

    def __init__(self, user):
        self.user = user

    def __enter__(self):
        self.above = pathlib.Path("/sys/fs/cgroup/user")
        self.scope = self.above / "scope"
        self.scope.mkdir(parents=True)
        (self.above / "cgroup.subtree_control").write_text("+cpu +memory +pids")
        for f in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(self.scope / f, self.user.pw_uid, self.user.pw_gid)
        return self.scope

    def below(self):
        return sorted(str(pathlib.Path(d).relative_to(self.scope))
                      for d, _, _ in os.walk(self.scope) if d != str(self.scope))

    def __exit__(self, *exc):
        for d, _, _ in os.walk(self.above, topdown=False):
            os.rmdir(d)


def user_status(user, *args, **kw):
    path = pathlib.Path(user.pw_dir, "status.json")
    try:
        done = as_user(user, *RUN, "--status-json", path, *args, **kw)
        assert path.exists(), f"no status was written; exit {done.returncode}: {done.stderr}"
        return done, json.loads(path.read_text())
    finally:
        path.unlink(missing_ok=True)


@case("rootless, no delegated group: a limit that is asked for is refused, with the remedy")
def rootless_refused():
    user = user_setup()
    for flag in (("--memory", "64m", "--disk", "16m"), ("--pids", "20"), ("--cpus", "0.5")):
        done = as_user(user, *RUN, *flag, "--", "true")
        assert done.returncode == 125 and "remedy:" in done.stderr, \
            f"{flag}: exit {done.returncode}: {done.stderr}"
    return done.stderr.strip().splitlines()[0]


@case("rootless, delegated group: limits hold without a warning, and no group remains")
def rootless_delegated():
    user = user_setup()
    delegated = Delegated(user)
    with delegated as scope:
        done, status = user_status(user, "--memory", "64m", "--disk", "16m", "--", "tail", "/dev/zero",
                                   group=scope)
        assert done.returncode == 137, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        evidence = stopped(status, "out_of_memory")
        assert "not enforced" not in done.stderr, done.stderr
        gone_soon(lambda: left_of(user))
        # The leaf where brig put what lived in the scope stays: who made the scope removes it.
        gone_soon(lambda: [g for g in delegated.below() if g != "brig-daemons"])
    return evidence


@case("rootless, delegated group: the second run of a shell is as the first")
def rootless_again():
    user = user_setup()
    forks = "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; wait"
    brig = " ".join(RUN)
    script = (f"{brig} --status-json 1 --pids 24 -- dash -c '{forks}'; echo; "
              f"{brig} --status-json 1 --cpu-time 500ms -- sh -c 'while :; do :; done'; echo; "
              f"{brig} --status-json 1 --memory 64m --disk 16m -- tail /dev/zero; echo; "
              "sed 's/^0:://' /proc/self/cgroup")
    delegated = Delegated(user)
    with delegated as scope:
        done = as_user(user, "sh", "-c", script, group=scope)
        assert "not enforced" not in done.stderr, done.stderr
        pids, cpu_time, memory, where = filter(None, done.stdout.splitlines())
        assert "pids" in json.loads(pids)["limits_hit"], pids
        stopped(json.loads(cpu_time), "cpu_time")
        stopped(json.loads(memory), "out_of_memory")
        gone_soon(lambda: left_of(user))
        below = delegated.below()
        assert set(below) <= {"brig-daemons"}, f"groups grow with every run: {below}"
    return where


@case("rootless: the ids of a command are those of /etc/subuid, given by newuidmap")
def rootless_ids():
    user = user_setup()
    done = as_user(user, *RUN, "--user", "1000", "--", "sh", "-c",
                   "id -u; cat /proc/self/uid_map; exec sleep 0.2")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0] == "1000", (done.stdout, done.stderr)
    p = subprocess.Popen(["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--reset-env",
                          "env", f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}", *RUN, "--user", "1000",
                          "--", "sh", "-c", "echo up; exec sleep 993"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=user.pw_dir)
    try:
        assert p.stdout.readline() == b"up\n"
        (pid,) = run("pgrep", "-fx", "sleep 993").stdout.split()
        uid = os.stat(f"/proc/{pid}").st_uid
        assert 100000 <= uid < 100000 + 65536, f"the command runs as uid {uid} of the host"
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
    gone_soon(lambda: left_of(user))
    return f"uid 1000 inside is {uid} outside"


@case("rootless, no subordinate ids: refused with the remedy")
def rootless_no_ids():
    user = user_setup()
    tables = [pathlib.Path(f) for f in ("/etc/subuid", "/etc/subgid")]
    before = [t.read_text() for t in tables]
    try:
        for t in tables:
            t.write_text("")
        done = as_user(user, *RUN, "--", "true")
        assert done.returncode == 125 and "subuid" in done.stderr and "remedy:" in done.stderr, \
            f"exit {done.returncode}: {done.stderr}"
        doctor = as_user(user, BRIG, "doctor")
        assert doctor.returncode == 1 and "usermod --add-subuids" in doctor.stdout, doctor.stdout
    finally:
        for t, text in zip(tables, before):
            t.write_text(text)
    return done.stderr.strip().splitlines()[0]


@case("rootless: files of other users stay closed")
def rootless_files():
    user = user_setup()
    secret = pathlib.Path("/var/tmp/secret")
    secret.write_text("canary")
    secret.chmod(0o600)
    try:
        done = as_user(user, *RUN, "--", "sh", "-c",
                       "cat /var/tmp/secret /etc/shadow /root/.profile /home/*/.bashrc 2>/dev/null; "
                       "true")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "", "the sandbox read: " + done.stdout[:200]
    finally:
        secret.unlink()
