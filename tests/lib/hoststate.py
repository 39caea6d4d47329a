# SPDX-License-Identifier: Apache-2.0
"""What a sandbox could leave behind on the host, looked at from outside and never asked of brig.

snapshot() returns everything as sets of texts; left() waits until nothing is there that was not there
before. Namespaces need no list of their own: one without a process, a mount or an open descriptor of
brig-jaild does not exist, and these are listed. Another brig may be at work on the same machine (a developer's own server, a second test run):
an instance whose brig-jaild lives and does not carry this run's token is not ours, and neither is what
belongs to it. An instance that is dead belongs to whoever looks.
"""

import fcntl
import os
import pathlib
import re
import struct
import time

# include/brig/ids.h
ID_BASE = 0x70000000
ID_SLOT = 65536
ID_SLOTS = 4094
ID_END = ID_BASE + ID_SLOT * ID_SLOTS
DAEMON_UID = ID_BASE

TOKEN_VAR = "BRIG_TEST_TOKEN"
PROC = pathlib.Path("/proc")
# Kept on purpose: the file in which leases of id ranges are locked, and what a listening server has.
RUN_FILES_KEPT = {"leases", "server.lock", "brigd.log", "brigd.sock", "api.sock"}


def run_dir():
    """Where the instances of this user are recorded (src/jail/instance.c); for root there is one place
    on a host, because leases and groups are the host's."""
    if os.geteuid() == 0:
        return pathlib.Path("/run/brig")
    env = os.environ.get("BRIG_RUN", "")
    if env.startswith("/"):
        return pathlib.Path(env)
    xdg = os.environ.get("XDG_RUNTIME_DIR", "")
    return pathlib.Path(xdg, "brig") if xdg.startswith("/") else \
        pathlib.Path(f"/tmp/brig-{os.geteuid()}")


def read(path):
    """Text of a file of the kernel, or "" if it is gone or not ours to read."""
    try:
        return pathlib.Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def pids():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def environ_of(pid):
    return read(PROC / str(pid) / "environ").split("\0")


def comm_of(pid):
    return read(PROC / str(pid) / "comm").strip()


def uid_of(pid):
    found = re.search(r"^Uid:\s+(\d+)", read(PROC / str(pid) / "status"), re.M)
    return int(found.group(1)) if found else None


def is_ours(pid):
    return f"{TOKEN_VAR}={os.environ[TOKEN_VAR]}" in environ_of(pid)


def is_dead(pid):
    """A zombie that only the machine's own init has still to collect; one that a program of ours
    should have collected is no such."""
    text = read(PROC / str(pid) / "status")
    return bool(re.search(r"^State:\s+Z", text, re.M) and re.search(r"^PPid:\s+1$", text, re.M))


def in_id_range(uid):
    return uid is not None and ID_BASE <= uid < ID_END


def instance_holders():
    """{instance name: pid that holds the lock of its record, None if nobody does}."""
    by_inode = {}
    for line in read("/proc/locks").splitlines():
        part = line.split()
        if len(part) > 5 and part[1] == "FLOCK" and part[4].lstrip("-").isdigit():
            by_inode.setdefault(int(part[5].split(":")[2]), int(part[4]))
    holders = {}
    try:
        for entry in os.scandir(run_dir()):
            if entry.name.startswith("inst-"):
                holders[entry.name.removeprefix("inst-")] = by_inode.get(entry.inode())
    except OSError:
        pass
    return holders


class Foreign:
    """Which living instances belong to somebody else: by the records, and by what each brig-jaild of an
    ordinary user holds."""

    def __init__(self):
        self.instances = {name for name, pid in instance_holders().items()
                          if pid is not None and not is_ours(pid)}
        for pid in pids():
            if "jaild" in comm_of(pid) and not is_ours(pid):
                self.instances |= self.held_by(pid)

    @staticmethod
    def held_by(pid):
        """Instances whose groups a brig-jaild holds open."""
        found = set()
        try:
            for fd in os.scandir(f"/proc/{pid}/fd"):
                group = re.search(r"/cgroup/.*/brig/([^/ ]+)$", os.readlink(fd.path))
                if group:
                    found.add(group.group(1))
        except OSError:
            pass
        return found

    def owns_path(self, path):
        found = re.search(r"/brig/([^/\n]+)", path)
        return bool(found) and found.group(1) in self.instances

    def owns_process(self, pid):
        """A process below somebody else's living brig-jaild or brigd. One whose makers are dead has
        no such parent: it was left behind."""
        if self.owns_path(read(PROC / str(pid) / "cgroup")):
            return True
        for _ in range(20):
            if pid <= 1 or is_ours(pid):
                return False
            if uid_of(pid) in (0, DAEMON_UID) and re.match(r"brig|jaild", comm_of(pid)):
                return True
            parent = re.search(r"^PPid:\s+(\d+)", read(PROC / str(pid) / "status"), re.M)
            pid = int(parent.group(1)) if parent else 0
        return False


def cgroups(foreign=None):
    """Directories of brig in every mounted hierarchy."""
    foreign = foreign or Foreign()
    found = set()
    for line in read("/proc/self/mountinfo").splitlines():
        mount, kind = line.split()[4], line.split(" - ")[1].split()[0]
        if not kind.startswith("cgroup"):
            continue
        for top in pathlib.Path(mount), pathlib.Path(mount, read_own_group(mount)):
            for path, _, _ in os.walk(top / "brig"):
                if not foreign.owns_path(path + "/"):
                    found.add(path)
    # <mount>/brig itself is shared with the instances of others.
    return {p for p in found if not (foreign.instances and p.endswith("/brig"))}


def read_own_group(mount):
    for line in read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names.split(",")[0] == pathlib.Path(mount).name or not names:
            return path.lstrip("/")
    return ""


def processes(foreign=None):
    """Processes of sandboxes and of brig's own programs, zombies included."""
    foreign = foreign or Foreign()
    found = set()
    for pid in pids():
        uid, comm = uid_of(pid), comm_of(pid)
        ours = is_ours(pid) and comm.startswith("brig")
        if (ours or in_id_range(uid)) and not foreign.owns_process(pid) and not is_dead(pid):
            found.add(f"{pid} {comm} uid {uid}{' prepared' if is_prepared(pid) else ''}")
    return found


def is_prepared(pid):
    """The first process of a sandbox that nobody has asked for yet: jaild has not given its groups a
    sandbox's name."""
    return bool(re.search(r"/brig/[^/\n]+/ready-\d+$", read(PROC / str(pid) / "cgroup"), re.M))


def sandbox_processes():
    """Processes of sandboxes, which have an id of the sandbox's own range; of this run or of the dead."""
    foreign = Foreign()
    return {f"{pid} {comm_of(pid)} uid {uid_of(pid)}" for pid in pids()
            if (uid_of(pid) or 0) >= ID_BASE + ID_SLOT and in_id_range(uid_of(pid))
            and not foreign.owns_process(pid) and not is_dead(pid) and not is_prepared(pid)}


def brig_pids(program=None):
    """Pids of this run's brig programs, by the name of the program file; the daemons of a private
    server are forks of `brig` and have their name only."""
    found = []
    for pid in pids():
        try:
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        except OSError:
            continue
        if name == "brig":
            name = comm_of(pid)
        if name.startswith("brig") and (program is None or name == program) and is_ours(pid):
            found.append(pid)
    return found


def mounts():
    """Lines of our own mount namespace, without their running numbers."""
    return {line.split(" ", 3)[3] for line in read("/proc/self/mountinfo").splitlines()}


def run_files(foreign=None):
    foreign = foreign or Foreign()
    try:
        names = set(os.listdir(run_dir())) - RUN_FILES_KEPT
    except OSError:
        return set()
    return {n for n in names if n.removeprefix("inst-") not in foreign.instances}


def leases():
    """Locked ranges of host ids; they cannot be told apart by owner, so only for an otherwise idle
    machine."""
    found = set()
    try:
        fd = os.open(run_dir() / "leases", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        slot = 1
        while slot < ID_SLOTS:
            ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, slot, ID_SLOTS - slot, 0)
            # fcntl.F_OFD_GETLK, which Python 3.11 does not name: the first conflicting lock. The kernel
            # joins neighbouring ones of one holder, so it may begin before `slot`.
            kind, _, start, length, _ = struct.unpack("hhqqi4x", fcntl.fcntl(fd, 36, ask))
            if kind == fcntl.F_UNLCK:
                break
            end = start + length if length else ID_SLOTS
            found |= {f"range {n}" for n in range(max(start, slot), end)}
            slot = end
    finally:
        os.close(fd)
    return found


def links():
    return set(os.listdir("/sys/class/net"))


def loops():
    found = set()
    for device in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        found.add(f"{device} {read(device).strip()}")
    return found


def snapshot():
    foreign = Foreign()
    state = {"cgroup": cgroups(foreign), "process": processes(foreign), "mount": mounts(),
             "run file": run_files(foreign), "link": links(), "loop device": loops()}
    if not foreign.instances:
        state["id range"] = leases()
    return state


def difference(before):
    now = snapshot()
    left = {}
    for kind, things in now.items():
        if kind in before and things - before[kind]:
            left[kind] = sorted(things - before[kind])
    return left


def left(before, within=2.0):
    """What is there and was not before, after waiting up to `within` seconds for nothing: {} is good."""
    end = time.monotonic() + within
    while True:
        now = difference(before)
        if not now or time.monotonic() > end:
            return now
        time.sleep(0.02)


def explain(left_over):
    lines = []
    for kind, things in left_over.items():
        for thing in things:
            lines.append(f"  {kind}: {thing}")
            if kind == "process":
                pid = thing.split()[0]
                state = re.search(r"^State:.*$", read(f"/proc/{pid}/status"), re.M)
                lines.append(f"    {state.group(0) if state else 'gone by now'}; "
                             f"cgroup {read(f'/proc/{pid}/cgroup').split()[:1]}")
    return "\n".join(lines)
