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
    for args, code in ((("--memory", "0", "--", "true"), {2, 125}), ((), {2}),
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
    script = "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; wait"
    _, status = status_of("--pids", "24", "--timeout", "20s", "--", "bash", "-c", script)
    assert "pids" in status["limits_hit"], json.dumps(status)
    assert status["usage"]["pids_peak"] <= 24, json.dumps(status["usage"])
    gone_soon()


@case("CPU time limit: a busy loop ends, with the time used as evidence")
def cpu_time():
    done, status = status_of("--cpu-time", "1s", "--", "sh", "-c", "while :; do :; done")
    assert done.returncode not in (0, 125)
    assert status["usage"]["cpu_ms"] >= 1000
    return stopped(status, "cpu_time")


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


@case("rootless, delegated group: memory and process limits hold")
def rootless_delegated():
    user = user_setup()
    top = pathlib.Path("/sys/fs/cgroup/delegated")
    leaf = top / "session"
    leaf.mkdir(parents=True, exist_ok=True)
    for d in (top, leaf):
        os.chown(d, user.pw_uid, user.pw_gid)
        for f in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(d / f, user.pw_uid, user.pw_gid)
    status = pathlib.Path(user.pw_dir, "status.json")
    try:
        done = as_user(user, *RUN, "--memory", "64m", "--disk", "16m", "--status-json", status, "--",
                       "tail", "/dev/zero", group=leaf)
        assert done.returncode == 137, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        stopped(json.loads(status.read_text()), "out_of_memory")
        assert "memory limit" not in done.stderr, done.stderr
        gone_soon(lambda: left_of(user))
        below = [d for d, _, _ in os.walk(top)]
        return f"{len(below)} groups remain of {below}"
    finally:
        status.unlink(missing_ok=True)
        for d, _, _ in sorted(os.walk(top), reverse=True):
            os.rmdir(d)


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
