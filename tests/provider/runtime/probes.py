"""Runs inside a task's container and tries what no task may do; standard library only.

Writes one JSON object to the file named by its first argument: for each probe the name of the
error that it met, "" where nothing stopped it. Every syscall gets arguments that would work, or
would fail differently, were it let through: EINVAL or EFAULT is not a refusal.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
X86_64 = {
    "acct": 163,
    "add_key": 248,
    "adjtimex": 159,
    "bpf": 321,
    "chroot": 161,
    "clock_settime": 227,
    "clone3": 435,
    "delete_module": 176,
    "fanotify_init": 300,
    "finit_module": 313,
    "fsopen": 430,
    "init_module": 175,
    "io_uring_setup": 425,
    "ioperm": 173,
    "iopl": 172,
    "kexec_file_load": 320,
    "kexec_load": 246,
    "keyctl": 250,
    "lookup_dcookie": 212,
    "mknodat": 259,
    "mount": 165,
    "mount_setattr": 442,
    "move_mount": 429,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "open_tree": 428,
    "perf_event_open": 298,
    "pivot_root": 155,
    "process_vm_readv": 310,
    "ptrace": 101,
    "quotactl": 179,
    "reboot": 169,
    "request_key": 249,
    "setdomainname": 171,
    "setgroups": 116,
    "sethostname": 170,
    "setns": 308,
    "settimeofday": 164,
    "swapoff": 168,
    "swapon": 167,
    "syslog": 103,
    "umount2": 166,
    "unshare": 272,
    "userfaultfd": 323,
}
CLONE_NEW = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "time": 0x00000080,
}
AT_FDCWD = -100
Probe = Callable[[], object]
"""Meets an OSError, or got through."""


def call(name: str, *arguments: Any) -> int:
    ctypes.set_errno(0)
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer = int(LIBC.syscall(ctypes.c_long(X86_64[name]), *passed))
    if answer < 0:
        raise OSError(ctypes.get_errno(), name)
    return answer


def buffer(size: int = 4096, content: bytes = b"") -> Any:
    return ctypes.create_string_buffer(content, size)


def syscalls() -> Iterator[tuple[str, Probe]]:
    work, tmpfs = b"/task/work", b"tmpfs"
    yield "mount", lambda: call("mount", tmpfs, work, tmpfs, 0, None)
    yield "bind mount", lambda: call("mount", b"/", work, None, 4096, None)
    yield "remount the root writable", lambda: call("mount", None, b"/", None, 32, None)
    yield "umount", lambda: call("umount2", b"/proc/kcore", 2)
    yield "fsopen", lambda: call("fsopen", tmpfs, 0)
    yield "open_tree", lambda: call("open_tree", AT_FDCWD, b"/", 1)
    yield "move_mount", lambda: call("move_mount", AT_FDCWD, b"/proc", AT_FDCWD, work, 0)
    yield "mount_setattr", lambda: call("mount_setattr", AT_FDCWD, b"/", 0, buffer(32), 32)
    yield "pivot_root", lambda: call("pivot_root", work, work)
    yield "chroot", lambda: call("chroot", work)
    for kind, flag in CLONE_NEW.items():
        yield f"unshare {kind}", partial(in_child, partial(call, "unshare", flag))
    yield "setns", setns
    yield "clone3 with a user namespace", clone3
    yield "clone with a user namespace", clone
    yield "keyctl", lambda: call("keyctl", 0, -3, 1)
    yield "add_key", lambda: call("add_key", b"user", b"x", b"x", 1, -2)
    yield "request_key", lambda: call("request_key", b"user", b"x", None, -2)
    yield "bpf", lambda: call("bpf", 0, buffer(128, struct.pack("IIII", 2, 4, 4, 1)), 128)
    yield "perf_event_open", perf
    yield "kexec_load", lambda: call("kexec_load", 0, 0, None, 0)
    yield "kexec_file_load", lambda: call("kexec_file_load", 0, 0, 1, b"", 0)
    yield "init_module", lambda: call("init_module", buffer(64), 64, b"")
    yield "finit_module", lambda: call("finit_module", 0, b"", 0)
    yield "delete_module", lambda: call("delete_module", b"overlay", os.O_NONBLOCK)
    yield "swapon", lambda: call("swapon", b"/dev/zero", 0)
    yield "swapoff", lambda: call("swapoff", b"/dev/zero")
    # A command that no kernel knows: one that works would end the machine.
    yield "reboot", lambda: call("reboot", 0xFEE1DEAD, 672274793, 0x12345678, None)
    yield "settimeofday", lambda: call("settimeofday", buffer(16), None)
    yield "clock_settime", lambda: call("clock_settime", 0, buffer(16))
    yield "adjtimex", lambda: call("adjtimex", buffer(208, struct.pack("I", 2)))
    yield "sethostname", lambda: call("sethostname", b"task", 4)
    yield "setdomainname", lambda: call("setdomainname", b"task", 4)
    yield "open_by_handle_at", open_by_handle_at
    yield "userfaultfd", lambda: call("userfaultfd", 0)
    yield "userfaultfd for user memory", lambda: call("userfaultfd", 1)
    yield "io_uring_setup", lambda: call("io_uring_setup", 1, buffer(120))
    yield "quotactl", lambda: call("quotactl", 0x80000101, b"/dev/vda", 0, buffer())
    yield "acct", lambda: call("acct", b"/task/out/acct")
    yield "iopl", lambda: call("iopl", 3)
    yield "ioperm", lambda: call("ioperm", 0x80, 1, 1)
    yield "lookup_dcookie", lambda: call("lookup_dcookie", 1, buffer(), 4096)
    yield "fanotify_init", lambda: call("fanotify_init", 4, 0)
    yield "syslog", lambda: call("syslog", 3, buffer(), 4096)
    # 0o20000: a character device; 1, 1 is the machine's memory.
    yield "mknod", lambda: call("mknodat", AT_FDCWD, b"/task/work/mem", 0o20600, 0x101)
    yield "setuid root", lambda: os.setuid(0)
    yield "setgid root", lambda: os.setgid(0)
    yield "setgroups", lambda: call("setgroups", 1, buffer(4))
    yield "priority", lambda: in_child(lambda: os.nice(-5))
    yield "real-time priority", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    yield "more open files", more_files
    yield "ptrace of an outsider", lambda: call("ptrace", 16, outsider(), 0, 0)
    yield "memory of an outsider", memory_of_outsider
    yield "never killed for memory", never_killed


def files() -> Iterator[tuple[str, Probe]]:
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/proc/irq/0/smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "/sys/power/state",
        "/dev/mem",
        "/dev/kmem",
        "/dev/port",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/vda",
        "/dev/sda",
        "/dev/nvme0n1",
        "/dev/loop-control",
        "/dev/mapper/control",
        "/dev/vhost-net",
        "/etc/passwd",
        "/usr/bin/python3",
    ):
        yield f"write {path}", partial(write, path)
    for path in (
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/kpagecount",
        "/proc/scsi/scsi",
        "/proc/acpi/wakeup",
        "/proc/1/mem",
        "/sys/firmware/dmi/tables/DMI",
        "/sys/firmware/efi/efivars",
        "/sys/kernel/debug/tracing",
        "/sys/kernel/security",
        "/dev/mem",
    ):
        yield f"read {path}", partial(read, path)
    for name in ("release_agent", "cgroup.procs", "devices.allow", "notify_on_release"):
        yield f"write cgroup {name}", partial(cgroup, name)
    yield "cgroup mkdir", cgroup_directory
    yield "file on the root", lambda: Path("/new").write_text("x")
    yield "file in the input", lambda: Path("/task/in/new").write_text("x")


def sockets() -> Iterator[tuple[str, Probe]]:
    yield "raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
    yield "raw socket v6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58).close()
    yield "packet socket", lambda: socket.socket(17, socket.SOCK_RAW, 0x300).close()
    yield "vsock", vsock
    yield "netlink: a new interface", new_interface


def write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def read(path: str) -> None:
    if Path(path).is_dir():
        if not os.listdir(path):
            raise OSError(errno.ENOENT, "empty")
        return
    with open(path, "rb") as file:
        if not file.read(64):
            raise OSError(errno.ENOENT, "empty")


def in_child(probe: Probe) -> None:
    """What a success would change is gone with the child."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            probe()
        except OSError as error:
            code = error.errno or 255
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise OSError(errno.EPERM, f"killed by signal {-status}")
    if status:
        raise OSError(status, "in the child")


def setns() -> None:
    place = os.open("/proc/1/ns/net", os.O_RDONLY)
    try:
        call("setns", place, CLONE_NEW["network"])
    finally:
        os.close(place)


def clone3() -> None:
    arguments = struct.pack("8Q", CLONE_NEW["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    child = call("clone3", buffer(64, arguments), 64)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def clone() -> None:
    ctypes.set_errno(0)
    child = LIBC.syscall(ctypes.c_long(56), ctypes.c_long(CLONE_NEW["user"] | signal.SIGCHLD), 0, 0)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone")
    os.waitpid(child, 0)


def perf() -> None:
    attributes = struct.pack("IIQ", 1, 112, 0)
    # This task itself, in user and kernel: of another one it would be refused in any case.
    os.close(call("perf_event_open", buffer(112, attributes), 0, -1, -1, 0))


def open_by_handle_at() -> None:
    """The way out of a container that was called Shocker: inode 2 is the root of the disk."""
    place = os.open("/task/in", os.O_RDONLY)
    try:
        handle = struct.pack("IiQ", 8, 1, 2)
        os.close(call("open_by_handle_at", place, buffer(16, handle), os.O_RDONLY))
    finally:
        os.close(place)


def more_files() -> None:
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1))
    except ValueError as error:
        raise OSError(errno.EPERM, str(error)) from None


def outsider() -> int:
    """A process that runs on this machine; a task may trace its own children, and nobody else."""
    return int(os.environ.get("OUTSIDER", "99999"))


def memory_of_outsider() -> None:
    local = struct.pack("QQ", ctypes.addressof(buffer(8)), 8)
    call("process_vm_readv", outsider(), buffer(16, local), 1, buffer(16, local), 1, 0)


def never_killed() -> None:
    Path("/proc/self/oom_score_adj").write_text("-1000")


def cgroup(name: str) -> None:
    found = list(Path("/sys/fs/cgroup").rglob(name))
    if not found:
        raise OSError(errno.ENOENT, name)
    refused: OSError | None = None
    for path in found:
        try:
            os.close(os.open(path, os.O_WRONLY))
            return
        except OSError as error:
            refused = error
    if refused is not None:
        raise refused


def cgroup_directory() -> None:
    refused = OSError(errno.ENOENT, "no cgroups")
    for path in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
        try:
            (path / "new").mkdir()
            return
        except OSError as error:
            refused = error
    raise refused


def vsock() -> None:
    """To the hypervisor, past every network namespace."""
    with closing(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)) as line:
        line.settimeout(2)
        line.connect((2, 1))


def new_interface() -> None:
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) as line:
        # RTM_NEWLINK, create, acknowledge; a dummy without a name.
        info = struct.pack("HH5sxxx", 9, 1, b"dummy"[:5])
        nested = struct.pack("HH", 4 + len(info), 18) + info
        body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + nested
        line.send(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        answer = line.recv(4096)
        (code,) = struct.unpack("i", answer[16:20])
        if code:
            raise OSError(-code, "netlink")


# --- network --------------------------------------------------------------------------------------


def reach(targets: list[dict[str, Any]]) -> Iterator[tuple[str, Probe]]:
    for target in targets:
        yield target["name"], partial(connect, target)


def connect(target: dict[str, Any]) -> None:
    family = getattr(socket, target["family"])
    address: Any = target["address"]
    if isinstance(address, list):
        address = tuple(address)
    elif address.startswith("@"):
        address = "\0" + address[1:]
    with closing(socket.socket(family, socket.SOCK_STREAM)) as line:
        line.settimeout(2)
        line.connect(address)


def leave() -> Iterator[tuple[str, Probe]]:
    """Packets without anybody's answer: enough to tell a secret to who listens on the way."""
    query = (
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06secret\x07example\x00\x00\x01\x00\x01"
    )
    for server in ("1.1.1.1", "8.8.8.8", "172.17.0.1"):
        yield f"DNS to {server}", partial(send, socket.AF_INET, query, (server, 53))
    yield "DNS v6", lambda: send(socket.AF_INET6, query, ("2606:4700:4700::1111", 53))
    yield "resolver", lambda: socket.getaddrinfo("secret.example.org", 80)
    yield "broadcast", lambda: send(socket.AF_INET, b"x", ("255.255.255.255", 9))
    yield "multicast", lambda: send(socket.AF_INET, b"x", ("224.0.0.251", 5353))
    yield "multicast v6", lambda: send(socket.AF_INET6, b"x", ("ff02::1%eth0", 9))
    yield "ping", ping
    yield "raw ICMP", raw_icmp
    yield "raw frame", raw_frame


def send(family: int, content: bytes, to: tuple[str, int]) -> None:
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as line:
        if family == socket.AF_INET:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        line.sendto(content, to)


def ping() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)) as line:
        line.sendto(struct.pack("BBHHH", 8, 0, 0, 1, 1), ("1.1.1.1", 0))


def raw_icmp() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as line:
        line.sendto(struct.pack("BBHHH", 8, 0, 0xF7FD, 1, 1), ("1.1.1.1", 0))


def raw_frame() -> None:
    with closing(socket.socket(17, socket.SOCK_RAW, 0x300)) as line:
        line.bind(("lo", 0))
        line.send(b"\xff" * 64)


def outcome(name: str, probe: Probe) -> str:
    print(name, flush=True)  # in the task's log: which one did not come back
    try:
        probe()
    except OSError as error:
        if isinstance(error, socket.gaierror):
            return "no name"
        if isinstance(error, TimeoutError):
            return "ETIMEDOUT"
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return ""


def main(target: str, targets: str) -> None:
    wanted = json.loads(Path(targets).read_text())
    found = {
        "forbidden": {n: outcome(n, p) for part in (syscalls, files, sockets) for n, p in part()},
        "reach": {n: outcome(n, p) for n, p in reach(wanted)},
        "leave": {n: outcome(n, p) for n, p in leave()},
        "interfaces": Path("/proc/net/dev").read_text(),
        "routes": Path("/proc/net/route").read_text(),
    }
    Path(target).with_suffix(".part").write_text(json.dumps(found, indent=1))
    Path(target).with_suffix(".part").rename(target)
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
