"""Runs inside a task's container and does what programs do; standard library only.

Says what failed and how, and ends with 1 then.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import multiprocessing
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)


def things() -> Iterator[tuple[str, Callable[[], object]]]:
    yield "threads", threads
    yield "fork", fork
    yield "a program", lambda: run([sys.executable, "-c", "print('ran')"], "ran")
    yield (
        "a program in a session",
        lambda: subprocess.run(
            [sys.executable, "-c", ""], start_new_session=True, close_fds=True, check=True
        ),
    )
    yield "processes with a pool", pool
    yield "socket pair", pair
    yield "unix socket", unix_socket
    yield "TCP on its own loopback", tcp
    yield "UDP on its own loopback", udp
    yield "names of interfaces", socket.if_nameindex
    yield "resolver", lambda: socket.getaddrinfo("127.0.0.1", 80)
    yield "event loop", event_loop
    yield "epoll", epoll
    yield "inotify", inotify
    yield "interval timer and signal", timer
    yield "POSIX timer", posix_timer
    yield "signal to a group", group_signal
    yield "pidfd", pidfd
    yield "memfd and mmap", memfd
    yield "locked memory", locked
    yield "NUMA policy", lambda: expect(syscall(239, 0, 0, 0, 0, 0))
    yield "where pages lie", move_pages
    yield "affinity and nice", affinity
    yield "limits", limits
    yield "memory of another worker", worker_memory
    yield "personality", lambda: expect(LIBC.personality(0xFFFF_FFFF))
    yield "files", files
    yield "links and attributes", links
    yield "FIFO", fifo
    yield "copying", copying
    yield "asynchronous files, with threads", asynchronous_files
    yield "shared memory of System V", shared_memory
    yield "temporary places", temporary
    yield "randomness", lambda: os.getrandom(16)
    yield "own rights", lambda: os.setresuid(os.getuid(), os.getuid(), os.getuid())
    yield "no core, no dump", lambda: expect(LIBC.prctl(4, 0, 0, 0, 0))


def expect(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), "call")
    return answer


def syscall(number: int, *arguments: object) -> int:
    """By its number on x86_64; the tests run nowhere else."""
    return int(LIBC.syscall(ctypes.c_long(number), *arguments))


def run(command: list[str], said: str) -> None:
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == said


def threads() -> None:
    seen: list[int] = []
    some = [threading.Thread(target=seen.append, args=(n,)) for n in range(8)]
    for thread in some:
        thread.start()
    for thread in some:
        thread.join()
    assert sorted(seen) == list(range(8))


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def pool() -> None:
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as workers:
            assert workers.map(abs, [-1, -2, 3]) == [1, 2, 3]


def pair() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"


def unix_socket() -> None:
    place = os.path.join(tempfile.mkdtemp(), "s")
    with closing(socket.socket(socket.AF_UNIX)) as server, closing(socket.socket(1)) as line:
        server.bind(place)
        server.listen()
        line.connect(place)


def tcp() -> None:
    for family, at in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            server = socket.create_server((at, 0), family=family)
        except OSError:
            if family == socket.AF_INET6:  # an engine may leave it out
                continue
            raise
        with server, socket.create_connection(server.getsockname()[:2]) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.sendall(b"x")
            assert server.accept()[0].recv(1) == b"x"


def udp() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)) as line:
        line.bind(("127.0.0.1", 0))
        line.sendto(b"x", line.getsockname())
        assert line.recv(1) == b"x"


def event_loop() -> None:
    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('x')", stdout=asyncio.subprocess.PIPE
        )
        await asyncio.to_thread(time.sleep, 0)
        return (await child.communicate())[0]

    assert asyncio.run(main()) == b"x\n"


def epoll() -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    with select.epoll() as waiting:
        waiting.register(read, select.EPOLLIN)
        os.write(write, b"x")
        assert waiting.poll(1) == [(read, select.EPOLLIN)]


def inotify() -> None:
    watch = expect(LIBC.inotify_init1(os.O_CLOEXEC))
    expect(LIBC.inotify_add_watch(watch, b"/task/work", 0x100))
    Path("/task/work/watched").touch()
    assert select.select([watch], [], [], 1)[0]


def timer() -> None:
    rung = threading.Event()
    signal.signal(signal.SIGALRM, lambda _n, _f: rung.set())
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    assert rung.wait(5)


def posix_timer() -> None:
    made = ctypes.c_void_p()
    expect(LIBC.timer_create(1, None, ctypes.byref(made)))
    expect(LIBC.timer_delete(made))
    expect(LIBC.timerfd_create(1, 0))


def group_signal() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(30) == -signal.SIGTERM


def pidfd() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    place = os.pidfd_open(child.pid)
    signal.pidfd_send_signal(place, signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL


def memfd() -> None:
    place = os.memfd_create("x")
    os.ftruncate(place, 4096)
    with mmap.mmap(place, 4096) as memory:
        memory[:1] = b"x"
        memory.madvise(mmap.MADV_DONTNEED)
    assert os.pread(place, 1, 0) == b"x"


def locked() -> None:
    memory = mmap.mmap(-1, 4096)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    expect(LIBC.mlock(ctypes.c_void_p(at), 4096))
    expect(LIBC.munlock(ctypes.c_void_p(at), 4096))


def move_pages() -> None:
    memory = ctypes.create_string_buffer(4096)
    pages = (ctypes.c_void_p * 1)(ctypes.addressof(memory) & ~4095)
    status = (ctypes.c_int * 1)()
    expect(syscall(279, 0, ctypes.c_ulong(1), pages, None, status, 0))


def affinity() -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
    os.sched_yield()


def limits() -> None:
    import resource

    kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, kept)
    resource.getrusage(resource.RUSAGE_SELF)


def worker_memory() -> None:
    """What UCX and others do to copy between the processes of one run."""
    here = ctypes.create_string_buffer(b"x" * 8, 8)
    to = ctypes.create_string_buffer(8)
    vector = ctypes.c_void_p * 2
    local = vector(ctypes.addressof(to), 8)
    remote = vector(ctypes.addressof(here), 8)
    one = ctypes.c_ulong(1)
    expect(syscall(310, os.getpid(), local, one, remote, one, ctypes.c_ulong(0)))
    assert to.raw == here.raw


def files() -> None:
    place = Path("/task/work/file")
    place.write_bytes(b"x" * 100)
    with place.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 200)
        os.fsync(file.fileno())
        file.truncate(10)
    place.chmod(0o600)
    os.utime(place)
    assert place.stat().st_size == 10
    assert os.statvfs("/task/work").f_bsize
    place.rename("/task/work/elsewhere")


def links() -> None:
    place = Path("/task/work/linked")
    place.write_text("x")
    os.link(place, "/task/work/hard")
    os.symlink("linked", "/task/work/soft")
    assert os.readlink("/task/work/soft") == "linked"
    os.listxattr(place)


def fifo() -> None:
    os.mkfifo("/task/work/fifo")


def copying() -> None:
    place = Path("/task/work/copied")
    place.write_bytes(b"x" * 100_000)
    shutil.copyfile(place, "/task/work/copy")
    with place.open("rb") as source, open("/task/work/ranged", "wb") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 100_000) == 100_000
    read, write = os.pipe()
    with place.open("rb") as source:
        assert os.splice(source.fileno(), write, 10) == 10
    assert os.read(read, 10) == b"x" * 10


def asynchronous_files() -> None:
    """As libc does it. The kernel's own (io_setup) are refused as by a kernel without them."""
    context = ctypes.c_ulong(0)
    ctypes.set_errno(0)
    assert syscall(206, 8, ctypes.byref(context)) == -1
    assert ctypes.get_errno() == errno.ENOSYS
    place = Path("/task/work/asynchronous")
    place.write_bytes(b"x" * 10)
    into = ctypes.create_string_buffer(10)
    block = (ctypes.c_char * 168)()  # struct aiocb of x86_64
    with place.open("rb") as file:
        ctypes.c_int.from_buffer(block, 0).value = file.fileno()
        ctypes.c_void_p.from_buffer(block, 16).value = ctypes.addressof(into)
        ctypes.c_size_t.from_buffer(block, 24).value = 10
        assert LIBC.aio_read(block) == 0
        while LIBC.aio_error(block) == errno.EINPROGRESS:
            time.sleep(0.01)
        assert LIBC.aio_return(block) == 10
    assert into.raw == b"x" * 10


def shared_memory() -> None:
    made = expect(LIBC.shmget(0, 4096, 0o600))
    expect(LIBC.shmctl(made, 0, None))


def temporary() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    with tempfile.TemporaryDirectory() as place:
        Path(place, "x").mkdir()


def outcome(thing: Callable[[], object]) -> str:
    try:
        thing()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    failed = {name: said for name, thing in things() if (said := outcome(thing))}
    print(failed or "every one works", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
