"""Hostile programs, each run in a task's container by its name; standard library only.

    python3 /task/in/hostile.py NAME

One that tries something forbidden writes "tried WHAT: ERROR" for each refusal and "THROUGH WHAT"
where nothing stopped it; whoever reads the log takes a program that tried nothing for broken.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import probes  # type: ignore[import-not-found]

MIB = 1024 * 1024
WORK, OUT = Path("/task/work"), Path("/task/out")
LIBC = ctypes.CDLL(None, use_errno=True)
PROGRAMS: dict[str, Callable[[], object]] = {}


def program(function: Callable[[], object]) -> Callable[[], object]:
    PROGRAMS[function.__name__] = function
    return function


def tell(what: str, error: BaseException | None) -> None:
    if error is None:
        print(f"THROUGH {what}", flush=True)
        return
    name = errno.errorcode.get(getattr(error, "errno", 0) or 0, type(error).__name__)
    print(f"tried {what}: {name}", flush=True)


def attempt(what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except (OSError, ValueError) as error:
        tell(what, error)
    else:
        tell(what, None)


def attempts(some: Iterable[tuple[str, Callable[[], object]]]) -> None:
    for what, act in some:
        attempt(what, act)


def named(*words: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Those of the isolation tests' probes whose name begins so."""
    for what, act in (*probes.syscalls(), *probes.files(), *probes.sockets()):
        if what.startswith(words):
            yield what, act


def until_refused(what: str, act: Callable[[], object], most: int = 10**9) -> int:
    """Again and again; how often it worked."""
    for count in range(most):
        try:
            act()
        except (OSError, MemoryError, RuntimeError) as error:
            tell(f"{what} after {count}", error)
            return count
    return most


def opened(path: str | Path, flags: int) -> None:
    os.close(os.open(path, flags))


def for_ever() -> None:
    while True:
        time.sleep(60)


def expect(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), "call")
    return answer


# --- escape -----------------------------------------------------------------------------------


@program
def mounts() -> None:
    attempts(named("mount", "bind mount", "remount", "umount", "fsopen", "open_tree", "move_mount"))


@program
def namespaces() -> None:
    attempts(named("unshare", "setns"))


@program
def cloned_namespaces() -> None:
    attempts(named("clone"))


@program
def another_root() -> None:
    attempts(named("pivot_root", "chroot"))


@program
def keyrings() -> None:
    attempts(named("keyctl", "add_key", "request_key"))


@program
def kernel_programs() -> None:
    attempts(named("bpf"))


@program
def kernel_counters() -> None:
    attempts(named("perf_event_open"))


@program
def another_kernel() -> None:
    attempts(named("kexec", "init_module", "finit_module", "delete_module", "reboot"))


@program
def machine_accounts() -> None:
    attempts(named("swap", "quotactl", "acct", "syslog", "lookup_dcookie"))


@program
def clocks() -> None:
    attempts(named("settimeofday", "clock_settime", "adjtimex", "sethostname", "setdomainname"))


@program
def fault_handlers() -> None:
    attempts(named("userfaultfd"))


@program
def rings() -> None:
    attempts(named("io_uring_setup"))
    context = ctypes.c_ulong(0)
    attempt("io_setup", lambda: expect(LIBC.syscall(206, 65_536, ctypes.byref(context))))


@program
def file_handles() -> None:
    attempts(named("open_by_handle_at"))
    handle = probes.buffer(136, struct.pack("I", 128))
    mount = ctypes.c_int()
    attempt(
        "name_to_handle_at",
        lambda: probes.call(
            "name_to_handle_at", probes.AT_FDCWD, b"/task/out", handle, ctypes.byref(mount), 0
        ),
    )


@program
def outsiders() -> None:
    attempts(named("ptrace", "memory of an outsider"))


@program
def rights() -> None:
    attempts(
        named("setuid", "setgid", "setgroups", "priority", "real-time", "more open", "never killed")
    )


@program
def old_doors() -> None:
    attempts(named("32-bit", "x32"))


@program
def ports_and_nodes() -> None:
    attempts(named("iopl", "ioperm", "mknod"))
    for name, major, minor in (("disk", 8, 0), ("vda", 254, 0), ("kmsg", 1, 11), ("fuse", 10, 229)):
        for mode in (0o020666, 0o060666):
            node = WORK / f"{name}-{mode:o}"
            attempt(f"node {name}", partial(os.mknod, node, mode, os.makedev(major, minor)))


@program
def watching_everything() -> None:
    attempts(named("fanotify"))


@program
def kernel_settings() -> None:
    """Every file below /proc/sys."""
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            path = os.path.join(folder, name)
            try:
                os.close(os.open(path, os.O_WRONLY))
            except OSError:
                continue
            tell(f"write {path}", None)
    attempts(named("write /proc/sys"))


@program
def machine_tree() -> None:
    """Every file below /sys, as far as it goes in two seconds."""
    until = time.monotonic() + 2
    for folder, _, names in os.walk("/sys"):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY))
                tell(f"write {path}", None)
        if time.monotonic() > until:
            break
    attempts(named("write /sys", "read /sys"))


@program
def process_tree() -> None:
    for path in Path("/proc").glob("*"):
        if path.is_file():
            attempt(f"write {path}", partial(opened, path, os.O_WRONLY))
    attempts(named("read /proc", "write /proc/irq"))


@program
def crash_handler() -> None:
    attempt(
        "core_pattern", lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/task/out/x")
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    attempt(
        "core limit",
        lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2),
    )
    child = os.fork()
    if child == 0:
        os.abort()
    os.waitpid(child, 0)
    for place in ("core", "/core", f"/task/out/core.{child}"):
        attempt("a core", partial(opened, place, os.O_RDONLY))


@program
def control_groups() -> None:
    attempts(named("write cgroup", "cgroup mkdir"))


@program
def devices() -> None:
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "stdin"}
    for path in sorted(Path("/dev").rglob("*")):
        if (
            path.name in harmless | {"stdout", "stderr"}
            or path.is_dir()
            or path.parent.name == "fd"
        ):
            continue
        attempt(f"open {path}", partial(opened, path, os.O_RDWR | os.O_NONBLOCK))
    attempts(named("write /dev", "read /dev"))


@program
def nodes_of_the_image() -> None:
    for name in ("mem", "vda", "sda", "kmsg", "loop-control"):
        path = f"/hostile/{name}"
        attempt(f"open {path}", partial(opened, path, os.O_RDONLY))


@program
def root_by_the_image() -> None:
    """Programs of the image that belong to root and say setuid, or have all capabilities."""
    said = subprocess.run(["/hostile/setuid", "id", "-u"], capture_output=True, text=True).stdout
    tell("setuid program", None if said.strip() == "0" else OSError(errno.EPERM, said))
    try:
        said = subprocess.run(
            ["/hostile/capable", "cat", "/proc/self/status"], capture_output=True, text=True
        ).stdout
    except PermissionError as error:  # it is not even started: its rights are beyond the bounds
        tell("file capabilities", error)
        return
    held = [line for line in said.splitlines() if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
    lost = len(held) == 3 and all(int(line.split()[1], 16) == 0 for line in held)
    tell("file capabilities", OSError(errno.EPERM, "") if lost else None)


@program
def setuid_of_its_own() -> None:
    for place in (WORK, OUT, Path("/dev/shm")):
        copy = place / "sh"
        shutil.copyfile("/bin/busybox", copy)
        attempt(f"chown in {place}", partial(os.chown, copy, 0, 0))
        copy.chmod(0o6755)
        with suppress(OSError):
            said = subprocess.run([copy, "id", "-u"], capture_output=True, text=True).stdout.strip()
            if said == "0":
                tell(f"root in {place}", None)


def ambient(capability: int) -> None:
    expect(LIBC.prctl(47, 2, capability, 0, 0))


@program
def ambient_rights() -> None:
    for capability in (0, 7, 12, 16, 21, 38, 39):
        attempt(f"raise {capability}", partial(ambient, capability))
    header = struct.pack("Ii", 0x20080522, 0)
    wanted = struct.pack("6I", *([0xFFFFFFFF] * 6))
    attempt("capset", lambda: expect(LIBC.capset(header, wanted)))
    attempt("new privileges", lambda: expect(LIBC.prctl(38, 0, 0, 0, 0)))
    attempt("seccomp off", lambda: expect(LIBC.prctl(22, 0, 0, 0, 0)))
    attempt("readable code", lambda: expect(LIBC.personality(0x0400000)))


@program
def ways_out_of_the_tree() -> None:
    """By the root of every process, by descriptors that somebody forgot, by many dots."""
    marks = os.environ["MARK"]
    roots = ["/proc/1/root", "/proc/self/root", "/proc/1/cwd", *("/" + "../" * n for n in (5, 50))]
    roots += [f"/proc/self/fd/{n}/{'../' * 6}" for n in range(64)]
    roots += [f"/proc/1/fd/{n}/{'../' * 6}" for n in range(64)]
    seen = 0
    for root in roots:
        if os.path.exists(root + marks):
            tell(root, None)
        seen += 1
    tell(f"{seen} ways", OSError(errno.ENOENT, ""))


@program
def own_program_file() -> None:
    """CVE-2019-5736: the engine's program behind /proc/<pid>/exe, overwritten."""
    for pid in ("1", "self"):
        attempt(f"exe of {pid}", partial(opened, f"/proc/{pid}/exe", os.O_WRONLY))
        attempt(f"exe of {pid}, added", partial(os.truncate, f"/proc/{pid}/exe", 0))


@program
def everybody_killed() -> None:
    with suppress(OSError):
        os.kill(-1, signal.SIGCONT)
    outsider = int(os.environ["OUTSIDER"])
    attempt("the agent", lambda: os.kill(outsider, signal.SIGKILL))
    mine = {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()}
    others = (pid for pid in range(2, 33_000) if pid not in mine)
    hit = sum(not _refused(partial(os.kill, pid, signal.SIGKILL)) for pid in others)
    tell(f"{hit} of 33000 others", None if hit else OSError(errno.ESRCH, ""))


def _refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return True
    return False


@program
def engines_sockets() -> None:
    places = [
        f"{folder}/{name}"
        for folder in ("/run", "/var/run", "/tmp", "/task", "/task/out", "/task/in", "/dev")
        for name in (
            *("docker.sock", "docker/docker.sock", "docker/metrics.sock", "podman/podman.sock"),
            *("containerd/containerd.sock", "crio/crio.sock", "dbus/system_bus_socket"),
            *("systemd/private", "user/0/docker.sock", "k3s/containerd/containerd.sock"),
        )
    ]
    for folder, _, names in os.walk("/"):
        if folder.startswith(("/proc", "/sys")):
            continue
        for name in names:
            with suppress(OSError):
                path = os.path.join(folder, name)
                if os.stat(path).st_mode & 0o170000 == 0o140000:
                    places.append(path)
    for place in (*places, os.environ["AGENT_SOCKET"], "\0" + os.environ["AGENT_ABSTRACT"]):
        attempt(f"connect {place.strip(chr(0))}", partial(_connect, socket.AF_UNIX, place))
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        name = line.split()[-1]
        if name.startswith("@"):
            attempt(f"connect {name}", partial(_connect, socket.AF_UNIX, "\0" + name[1:]))


def _connect(family: int, address: Any, seconds: float = 1.0) -> None:
    with closing(socket.socket(family, socket.SOCK_STREAM)) as line:
        line.settimeout(seconds)
        line.connect(address)


@program
def secrets_hunt() -> None:
    """Everything that can be read, looked through for what only the agent has."""
    wanted = os.environ["MIRRORED"][::-1].encode()
    mine = ("/proc", "/sys", "/opt", "/usr", sys.prefix, sys.base_prefix)
    looked = 0
    for folder, inner, names in os.walk("/"):
        inner[:] = [name for name in inner if not os.path.join(folder, name).startswith(mine)]
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):
                if os.stat(path).st_mode & 0o170000 != 0o100000:
                    continue
                with open(path, "rb") as file:
                    looked += 1
                    if wanted in file.read(4 * MIB):
                        tell(f"secret in {path}", None)
    for pid in (p for p in os.listdir("/proc") if p.isdigit()):
        for what in ("environ", "cmdline", "maps", "mountinfo", "cgroup"):
            with suppress(OSError):
                looked += 1
                if wanted in Path(f"/proc/{pid}/{what}").read_bytes():
                    tell(f"secret in {pid}'s {what}", None)
    for name in (
        "/proc/mounts",
        "/proc/cmdline",
        "/proc/config.gz",
        "/proc/kmsg",
        "/proc/net/unix",
    ):
        with suppress(OSError):
            descriptor = os.open(f"/proc/{name}", os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if wanted in file.read(MIB):
                    tell(f"secret in {name}", None)
    tell(f"{looked} files", OSError(errno.ENOENT, ""))


@program
def metadata_service() -> None:
    for family, address in (
        (socket.AF_INET, ("169.254.169.254", 80)),
        (socket.AF_INET, ("169.254.170.2", 80)),
        (socket.AF_INET, ("100.100.100.200", 80)),
        (socket.AF_INET6, ("fd00:ec2::254", 80)),
        (socket.AF_INET6, ("::ffff:169.254.169.254", 80)),
    ):
        attempt(f"connect {address[0]}", partial(_connect, family, address))


@program
def neighbourhood() -> None:
    """Gateways, this machine's loopback services by port, and whole networks."""
    for target in os.environ["LISTENERS"].split(","):
        address, _, port = target.rpartition(":")
        attempt(f"connect {target}", partial(_connect, socket.AF_INET, (address, int(port))))
    for last in (1, 2, 254):
        for network in ("172.17.0", "172.18.0", "10.0.0", "192.168.0", "192.168.1", "127.0.0"):
            for known in (22, 2375, 4222, 8545):
                where = (f"{network}.{last}", known)
                attempt(f"connect {where}", partial(_connect, socket.AF_INET, where, 0.2))


@program
def names_and_packets() -> None:
    attempts(probes.leave())


@program
def every_family() -> None:
    """All families of sockets by all types and protocols; TCP, UDP, unix and routes are allowed."""
    count = 0
    for family in range(50):
        for kind in (1, 2, 3, 4, 5, 6, 10):
            for protocol in (0, 1, 2, 6, 17, 33, 41, 58, 132, 136, 255, 0x300):
                count += 1
                try:
                    socket.socket(family, kind, protocol).close()
                except OSError:
                    continue
                plain = kind in (1, 2) and protocol in (0, 6, 17) and family in (2, 10)
                if not (plain or family == 1 or (family == 16 and protocol == 0)):
                    tell(f"socket {family} {kind} {protocol}", None)
    tell(f"{count} sockets", OSError(errno.EPERM, ""))


@program
def kernel_lines() -> None:
    attempts(named("netlink", "vsock", "kernel's", "SCTP", "DCCP", "TIPC", "raw", "packet"))


@program
def terminals() -> None:
    attempt("console", lambda: os.close(os.open("/dev/console", os.O_RDWR)))
    attempt("tty", lambda: os.close(os.open("/dev/tty", os.O_RDWR)))
    attempt("words for a shell", lambda: fcntl.ioctl(0, 0x5412, b"x"))


@program
def storm_of_calls() -> None:
    """Any call with any arguments, each in a child that may die of it."""
    chance = random.Random(os.environ.get("DRAW", "0"))
    until = time.monotonic() + 3
    for count in itertools.count():
        if time.monotonic() > until:
            tell(f"{count} storms", OSError(errno.EPERM, ""))
            return
        child = os.fork()
        if child == 0:
            signal.alarm(1)
            null = os.open("/dev/null", os.O_RDWR)
            for target in (0, 1, 2):
                os.dup2(null, target)
            for _ in range(200):
                number = chance.choice((chance.randrange(470), chance.getrandbits(32)))
                if number in (56, 57, 58, 34, 130):
                    continue
                some = [
                    chance.choice((0, 1, 3, -1, 4096, chance.getrandbits(63))) for _ in range(6)
                ]
                LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_long, some))
            os._exit(0)
        os.waitpid(child, 0)
        chance.random()


# --- resources --------------------------------------------------------------------------------


@program
def fork_bomb() -> None:
    def bear() -> None:
        if os.fork() == 0:
            for_ever()

    until_refused("fork", bear)
    for_ever()


@program
def thread_bomb() -> None:
    threading.stack_size(64 * 1024)
    until_refused("thread", lambda: threading.Thread(target=for_ever, daemon=True).start())


@program
def heap() -> None:
    held = []
    while True:
        held.append(bytearray(b"x" * MIB))


@program
def recursion() -> None:
    resource.setrlimit(resource.RLIMIT_STACK, (resource.getrlimit(resource.RLIMIT_STACK)[1],) * 2)
    sys.setrecursionlimit(10**9)

    def deeper(n: int) -> int:
        return deeper(n + 1) + sum(map(deeper, ()))

    deeper(0)


def _fill(folder: Path, size: int = MIB) -> None:
    for number in itertools.count():
        with (folder / f"f{number}").open("wb", buffering=0) as file:
            until_refused(f"write {folder}", partial(file.write, b"x" * size), 4 * MIB // size)
        if number > 2_000:
            tell(f"{folder} without end", None)
            return
        if not (folder / f"f{number}").stat().st_size:
            return


@program
def memory_disk() -> None:
    _fill(WORK)


@program
def shared_memory() -> None:
    _fill(Path("/dev/shm"))


@program
def temporary_disk() -> None:
    _fill(Path("/tmp"))


@program
def output_disk() -> None:
    _fill(OUT)


@program
def root_disk() -> None:
    for folder in ("/", "/etc", "/usr", "/var", "/bin", "/task", "/task/in", "/hostile", "/dev"):
        attempt(f"write {folder}", partial(Path(folder, "new").write_bytes, b"x" * MIB))


@program
def page_cache() -> None:
    place = OUT / "cached"
    with place.open("wb") as file:
        for _ in range(3):
            file.write(b"x" * MIB)
    for _ in range(200):
        place.read_bytes()
    tell("page cache", OSError(errno.ENOMEM, ""))


@program
def memory_files() -> None:
    held = []

    def one() -> None:
        held.append(os.memfd_create("x"))
        os.write(held[-1], b"x" * 8 * MIB)

    until_refused("memfd", one)


@program
def busy_loops() -> None:
    for _ in range(8):
        if os.fork() == 0:
            while True:
                pass
    for_ever()


@program
def small_files_in_output() -> None:
    numbers = itertools.count()

    def one() -> None:
        (OUT / f"{next(numbers)}").touch()

    until_refused("inode", one, 30_000)


@program
def small_files_in_memory() -> None:
    numbers = itertools.count()

    def one() -> None:
        (WORK / f"{next(numbers)}").touch()

    until_refused("inode", one, 30_000)


@program
def missing_names() -> None:
    """Each look-up of a name that is not there leaves an entry in the kernel's memory."""
    until = time.monotonic() + 2
    for number in itertools.count():
        os.path.exists(f"/task/out/{number}{'x' * 200}")
        if time.monotonic() > until:
            tell(f"{number} names", OSError(errno.ENOENT, ""))
            return


@program
def holes() -> None:
    with (OUT / "hole").open("wb") as file:
        attempt("a terabyte of nothing", lambda: file.truncate(1 << 40))
    with (WORK / "hole").open("wb") as file:
        attempt("another", lambda: file.truncate(1 << 40))


@program
def reserved_space() -> None:
    for place in (OUT / "x", WORK / "x", Path("/dev/shm/x")):
        with place.open("wb") as file:
            attempt(f"reserve in {place}", partial(os.posix_fallocate, file.fileno(), 0, 1 << 34))


@program
def log_without_an_end_of_line() -> None:
    while True:
        os.write(1, b"x" * 65_536)


@program
def log_of_empty_lines() -> None:
    while True:
        os.write(1, b"\n" * 4096)


@program
def log_of_rubbish() -> None:
    chance = random.Random(1)
    os.write(1, b"\x1b]0;title\x07\x1b[2J\x1b[31m\0\0\xff\xfe\xc3\x28\xed\xa0\x80\r\r\n")
    for _ in range(200):
        os.write(chance.choice((1, 2)), chance.randbytes(4096))
    os.write(1, b"\nend of rubbish\n")


@program
def log_with_forged_stamps() -> None:
    for gap in ("\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\n"):
        for stamp in ("9999-12-31T23:59:59.999999999Z", "9999-99-99T99:99:99.9Z", "9999", "0001-"):
            os.write(1, f"a{gap}{stamp} b\n".encode())
    time.sleep(1.2)
    os.write(1, b"said after the forged stamps\n")


@program
def open_files() -> None:
    held: list[Any] = []
    most = until_refused("file", lambda: held.append(os.open("/dev/null", os.O_RDONLY)))
    if most > 4096:
        tell(f"{len(held)} files instead of 4096", None)


@program
def pipes() -> None:
    """The kernel counts what is in pipes by user: with it used up, a neighbour's have one page."""
    held: list[tuple[int, int]] = []

    def one() -> None:
        held.append(os.pipe2(os.O_NONBLOCK))
        with suppress(OSError):
            fcntl.fcntl(held[-1][1], 1031, MIB)
        with suppress(BlockingIOError):
            os.write(held[-1][1], b"x" * MIB)

    until_refused("pipe", one)
    for_ever()


@program
def socket_buffers() -> None:
    """Both ends on its own loopback, everything in flight."""
    held: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0), backlog=4096)

    def one() -> None:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * MIB)
        line.connect(server.getsockname())
        other = server.accept()[0]
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * MIB)
        held.extend((line, other))
        line.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                line.send(b"x" * MIB)

    until_refused("socket", one, 1_000)
    for_ever()


@program
def files_on_their_way() -> None:
    """Descriptors sent and never taken; counted by user, too."""
    held = []
    payload = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 250))]

    def one() -> None:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        held.append(pair)
        pair[0].setblocking(False)
        with suppress(BlockingIOError):
            while True:
                pair[0].sendmsg([b"x"], payload)

    until_refused("sent file", one, 1_000)
    for_ever()


@program
def timers() -> None:
    made = ctypes.c_void_p()
    until_refused("timer", lambda: expect(LIBC.timer_create(1, None, ctypes.byref(made))), 200_000)
    for_ever()


@program
def queued_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    value = ctypes.c_void_p(1)
    until_refused(
        "signal", lambda: expect(LIBC.sigqueue(os.getpid(), signal.SIGRTMIN, value)), 200_000
    )
    for_ever()


@program
def watchers() -> None:
    """128 inotify instances for each user, on a machine as it comes."""
    held: list[int] = []
    until_refused("inotify", lambda: held.append(expect(LIBC.inotify_init1(0))), 5_000)
    for_ever()


@program
def locked_memory() -> None:
    memory = mmap.mmap(-1, 64 * MIB)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    attempt("mlock", lambda: expect(LIBC.mlock(ctypes.c_void_p(at), ctypes.c_size_t(64 * MIB))))
    attempt("mlockall", lambda: expect(LIBC.mlockall(7)))


@program
def huge_pages() -> None:
    attempt("huge pages", lambda: mmap.mmap(-1, 64 * MIB, flags=0x40022))
    attempts(named("write /sys/kernel/mm"))


@program
def message_queues() -> None:
    numbers = itertools.count()

    def one() -> None:
        expect(LIBC.mq_open(f"/q{next(numbers)}".encode(), os.O_CREAT | os.O_RDWR, 0o600, None))

    until_refused("queue", one, 5_000)
    for_ever()


@program
def shared_segments() -> None:
    """System V's, which outlive their process."""

    def one() -> None:
        made = expect(LIBC.shmget(0, ctypes.c_size_t(4 * MIB), 0o1600))
        LIBC.shmat.restype = ctypes.c_void_p
        at = LIBC.shmat(made, None, 0)
        if at == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "shmat")
        ctypes.memset(at, 1, 4 * MIB)

    until_refused("segment", one, 1_000)


@program
def semaphores() -> None:
    until_refused("semaphores", lambda: expect(LIBC.semget(0, 32_000, 0o600)), 40_000)


@program
def mappings() -> None:
    held: list[mmap.mmap] = []
    until_refused("mapping", lambda: held.append(mmap.mmap(-1, 4096)), 200_000)


@program
def record_locks() -> None:
    with (WORK / "locked").open("wb") as file:
        until = time.monotonic() + 2
        count = 0
        while time.monotonic() < until:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * count)
            count += 1
    tell(f"{count} locks", OSError(errno.ENOLCK, ""))


@program
def disk_without_rest() -> None:
    place = OUT / "synced"
    with place.open("wb", buffering=0) as file:
        while True:
            file.seek(0)
            file.write(b"x" * MIB)
            os.fsync(file.fileno())


# --- lifetime ---------------------------------------------------------------------------------


@program
def deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    print("deaf", flush=True)
    for_ever()


@program
def daemons() -> None:
    """Gone twice over, while the first process ends well."""
    for _ in range(20):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                for_ever()
            os._exit(0)
    time.sleep(0.3)


@program
def zombies() -> None:
    for _ in range(400):
        if os.fork() == 0:
            os._exit(0)
    for_ever()


@program
def sessions() -> None:
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for_ever()
    for_ever()


@program
def stopped() -> None:
    child = os.fork()
    if child == 0:
        for_ever()
    os.kill(child, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    for_ever()


@program
def output_without_end() -> None:
    place = OUT / "more"
    while True:
        with suppress(OSError), place.open("wb", buffering=0) as file:
            while file.write(b"x" * 65_536):
                pass
        place.unlink()


@program
def strange_ends() -> None:
    sys.exit(int(os.environ["CODE"]))


@program
def killed_by_itself() -> None:
    """The first process of a container is deaf to itself; its child is not."""
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
        for_ever()
    sys.exit(128 + os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) * -1)


@program
def forged_progress() -> None:
    for word in (
        *("::progress 100 done", "::progress 999999 x", "::progress -1 x", "::progress \u0661 x"),
        *(
            "::progress 50% \x1b[2J" + "x" * 100_000,
            "::progress 7.9.9 x",
            "::progress",
            "::heartbeat",
        ),
        '{"task_id": "0x00", "fence": 2, "stage": "finished"}',
    ):
        print(word, flush=True)
    for number in range(3_000):
        print(f"::progress {number % 101} {number}")
    print("said after progress", flush=True)


# --- outputs ----------------------------------------------------------------------------------


@program
def links_to_secrets() -> None:
    mark = os.environ["MARK"]
    for number, target in enumerate(
        ("/etc/shadow", "/proc/self/environ", "/", "/task/in", mark, "../" * 30 + mark, f"..{mark}")
    ):
        (OUT / f"link{number}").symlink_to(target)
    (OUT / "folder").symlink_to(os.path.dirname(mark))
    (OUT / "loop").symlink_to("loop")
    (OUT / "plain").write_text("plain")


@program
def hard_links() -> None:
    for target in ("/etc/passwd", "/task/in/run.py", "/proc/self/environ", "/bin/busybox"):
        attempt(f"link {target}", partial(os.link, target, OUT / "hard"))
    (OUT / "a").write_text("a")
    for number in range(200):
        os.link(OUT / "a", OUT / f"a{number}")


@program
def odd_names() -> None:
    for name in (
        *(b"new\nline", b"\xff\xfe\xfd", b"\xed\xa0\x80", b"\xe2\x80\xaetxt.exe", b"x" * 255, b" "),
        *(b"...", b"..%2f..%2fetc", b"C:\\windows", b"-rf *", b"\x01\x1b[2J", b"tallystick.json"),
        *(b"lost+found", b".tallystick", b"CON", b"a\tb", b"\xc3\xa9", b"e\xcc\x81", b"'\"`$(x)"),
    ):
        Path(os.fsdecode(bytes(OUT) + b"/" + name)).write_bytes(b"x")


@program
def things_that_are_no_files() -> None:
    os.mkfifo(OUT / "fifo")
    line = socket.socket(socket.AF_UNIX)
    line.bind(str(OUT / "socket"))
    attempt("a device", lambda: os.mknod(OUT / "null", 0o020666, os.makedev(1, 3)))
    (OUT / "plain").write_text("plain")


@program
def very_many_files() -> None:
    """101,000, in the place that has room for them or until it has not."""

    numbers = itertools.count()

    def one() -> None:
        (OUT / f"{next(numbers)}").touch()

    until_refused("file", one, 101_000)


@program
def very_deep() -> None:
    os.chdir(OUT)
    for _ in range(2_000):
        os.mkdir("d")
        os.chdir("d")
    Path("file").write_bytes(b"x" * 4096)


@program
def long_ways() -> None:
    os.chdir(OUT)
    for _ in range(30):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    Path("x" * 255).write_bytes(b"x" * 4096)


@program
def dangerous_modes() -> None:
    for number, mode in enumerate((0o6777, 0o4755, 0o2755, 0o1777, 0o000)):
        place = OUT / f"m{number}"
        place.write_text("x")
        place.chmod(mode)
    closed = OUT / "closed"
    closed.mkdir()
    (closed / "in").write_text("x")
    closed.chmod(0)


@program
def swapped_while_looked_at() -> None:
    """A directory and a link to the agent's own take turns as fast as they can."""
    target = os.path.dirname(os.environ["MARK"])
    (OUT / "real").mkdir()
    (OUT / "real" / "x").write_text("x")
    (OUT / "turn").symlink_to(target)
    with suppress(OSError):
        LIBC.renameat2(-100, b"/task/out/real", -100, b"/task/out/turn", 2)
    while True:
        LIBC.renameat2(-100, b"/task/out/real", -100, b"/task/out/turn", 2)


@program
def bomb_for_the_consumer() -> None:
    """Zeros pack a thousand to one: what is ordered bounds what is unpacked, too."""
    with (OUT / "zeros").open("wb") as file:
        for _ in range(3):
            file.write(bytes(MIB))
    import gzip

    (OUT / "bomb.gz").write_bytes(gzip.compress(bytes(64 * MIB)))


@program
def locked_files() -> None:
    place = OUT / "for ever"
    place.write_text("x")
    with place.open("rb") as file:
        attempt("immutable", lambda: fcntl.ioctl(file, 0x40086602, struct.pack("l", 0x10)))
        attempt("append only", lambda: fcntl.ioctl(file, 0x40086602, struct.pack("l", 0x20)))
    attempt("trusted", lambda: os.setxattr(place, "trusted.overlay.opaque", b"y"))
    attempt(
        "capability", lambda: os.setxattr(place, "security.capability", b"\1\0\0\2" + bytes(16))
    )


@program
def forged_receipts() -> None:
    """What the agent writes itself, written by the task: facts, receipts, readings, progress."""
    forged = b'{"exit_code": 0, "gpu_ms": 999999999, "total": 10000000000, "energy_mj": 1}'
    names = ("tallystick.json", "receipt.json", "journal.sqlite", "usage.json", "out.ext4")
    for name in names:
        (OUT / name).write_bytes(forged)
        for folder in ("/task", "/task/in", "/", "/run", "/var/lib/tallystick"):
            attempt(f"{folder}/{name}", partial(Path(folder, name).write_bytes, forged))
    for key in ("TALLYSTICK_TASK_ID", "TALLYSTICK_GPU_IDS"):
        os.environ[key] = "0x" + "00" * 32


@program
def more_time() -> None:
    """It has seen its last second, and hopes that nobody counts."""
    attempts(named("settimeofday", "clock_settime"))
    with suppress(OSError):
        signal.signal(signal.SIGTERM, lambda *_: None)
    while True:
        time.sleep(0.1)


# --- beside a neighbour -----------------------------------------------------------------------


@program
def page_cache_for_ever() -> None:
    """More than its memory holds, written and read, again and again."""
    block = b"x" * MIB
    held = [bytearray(block) for _ in range(100)]
    while True:
        for memory in held:
            memory[:] = block
        with (OUT / "cached").open("wb") as file:
            for _ in range(6):
                file.write(block)
        (OUT / "cached").read_bytes()


@program
def fork_storm() -> None:
    while True:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


# --- ordinary ---------------------------------------------------------------------------------


@program
def ordinary() -> None:
    """What programs do, with all that the kernel counts by user."""
    held = [expect(LIBC.inotify_init1(0)) for _ in range(64)]
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    files = array.array("i", [0] * 100)
    pair[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    made = ctypes.c_void_p()
    for _ in range(1_000):
        expect(LIBC.timer_create(1, None, ctypes.byref(made)))
    read, write = os.pipe2(os.O_NONBLOCK)
    assert os.write(write, b"x" * 65_536) == 65_536, "a pipe of one page"
    server = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(server.getsockname()) as line:
        line.sendall(b"x" * 100_000)
    expect(LIBC.mq_open(b"/queue", os.O_CREAT | os.O_RDWR, 0o600, None))
    (OUT / "model").write_text("weights of an ordinary program")
    print(f"ordinary, {len(held)}, {read}", flush=True)


@program
def steady_work() -> None:
    """For a comparison: how long a fixed amount of work takes, by the clock."""
    import hashlib

    block, began = b"x" * MIB, time.monotonic()
    for number in range(int(os.environ["BLOCKS"])):
        hashlib.sha256(block).digest()
        if number % 100 == 0:
            (WORK / "part").write_bytes(block)
    print(f"took {time.monotonic() - began:.4f}", flush=True)


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
