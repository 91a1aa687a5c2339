"""A worker as a process: import, listen, warm up, answer, drain.

    1  import the handler (its errors end the process: nothing can be served)
    2  listen on a Unix socket or a loopback port; /ready answers 503
    3  run the warm-up hook; its error ends the process
    4  answer calls
    5  on SIGTERM or SIGINT take no new connection, let calls finish, and end with 0

What a stuck handler holds is cut off when the longest time of a call has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop

from tallystick.app.declare import Entry, load
from tallystick.app.problems import ProjectError
from tallystick.app.project import Project
from tallystick.app.running import HandlerRaised, Worker
from tallystick.app.server import application, log_finished
from tallystick.protocol.app_manifest import HttpHandler
from tallystick.protocol.input_schemas import schema_of

SOCKET_VARIABLE: Final = "TALLYSTICK_SOCKET"
LOOPBACK: Final = "127.0.0.1"
WARM_UP_FAILED: Final = 1
DRAIN_MARGIN_S: Final = 2
"""Beyond a call's longest time: for its answer to leave."""

Stop = Callable[[], object]
"""Ends the server as a signal does; may be called from any thread."""

log = logging.getLogger("tallystick.app")


def load_entry(project: Project) -> Entry:
    """Imports the handler, with the project's directory first on the path."""
    declared = project.draft.handler
    if isinstance(declared, HttpHandler):
        raise ProjectError(
            f"{project.name} has an HTTP server of its own (handler.kind is http): start that one"
        )
    directory = str(project.directory.resolve())
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    return load(declared)


def listen_on_socket(path: Path) -> socket.socket:
    """A Unix socket. One that a dead worker left is replaced; anything else is not."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFSOCK
    if not stat.S_ISSOCK(mode):
        raise ProjectError(f"{path} is there and is no socket: name another path")
    if _answers(path):
        raise ProjectError(f"another worker listens on {path}: end it, or name another path")
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        # Who reaches the folder may call: a container's user is not its provider's.
        path.chmod(0o666)
        listener.listen()
    except OSError as problem:
        listener.close()
        raise ProjectError(f"cannot listen on {path}: {problem.strerror or problem}") from problem
    return listener


def listen_on_port(port: int) -> socket.socket:
    """On the loopback interface only; 0 takes a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()
    except OSError as problem:
        listener.close()
        raise ProjectError(
            f"cannot listen on {LOOPBACK}:{port}: {problem.strerror or problem}; "
            "--port 0 takes a free one"
        ) from problem
    return listener


def serve(
    project: Project,
    entry: Entry,
    listener: socket.socket,
    *,
    when_ready: Callable[[Stop], None] = lambda stop: None,
) -> int:
    """Until a signal, or the `stop` that `when_ready` is given; the process's exit code. Runs in
    the main thread, which is where signals arrive."""
    manifest = project.draft
    worker = Worker(entry, concurrency=manifest.concurrency, timeout_s=manifest.timeout_s)
    app = application(
        worker,
        max_request_bytes=manifest.max_request_bytes,
        max_response_bytes=manifest.max_response_bytes,
        finished=_Finished() if _log_is_json() else log_finished,
        input_schema=schema_of(manifest),
    )
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            ws="none",
            proxy_headers=False,
            date_header=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=manifest.timeout_s + DRAIN_MARGIN_S,
        )
    )
    place = listener.getsockname()
    try:
        code = uvloop.run(_serve(server, worker, listener, when_ready))
    finally:
        if isinstance(place, str) and place:
            Path(place).unlink(missing_ok=True)
    log.info("worker_stopped", extra={"exit_code": code})
    if worker.overdue:
        # Threads of handlers that never return would keep the interpreter for ever.
        logging.shutdown()
        os._exit(code)
    return code


async def _serve(
    server: _Server, worker: Worker, listener: socket.socket, when_ready: Callable[[Stop], None]
) -> int:
    server.stop_on_signals()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    warming = asyncio.create_task(_warm_up(worker))
    await asyncio.wait({serving, warming}, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if not warming.done():
        warming.cancel()  # told to stop before it was ready
    elif warming.result():
        gc.collect()
        gc.freeze()  # modules and weights stay: the collector need not look through them again
        loop = asyncio.get_running_loop()
        when_ready(lambda: loop.call_soon_threadsafe(server.stop))
    else:
        server.stop()
        code = WARM_UP_FAILED
    await serving
    return code


async def _warm_up(worker: Worker) -> bool:
    began_s = time.monotonic()
    try:
        await worker.warm_up()
    except HandlerRaised as raised:
        log.error("warm_up_failed", exc_info=raised.cause)
        return False
    log.info("worker_ready", extra={"warm_up_ms": round((time.monotonic() - began_s) * 1000)})
    return True


class _Server(uvicorn.Server):
    """Ends with 0 after a signal: uvicorn's own would raise the signal once more at the end."""

    def stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)

    def stop(self) -> None:
        self.should_exit = True

    def _told(self, number: signal.Signals) -> None:
        log.info("worker_stopping", extra={"signal": number.name})
        if self.should_exit and number is signal.SIGINT:
            self.force_exit = True  # the second Ctrl-C
        self.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


# --- the log --------------------------------------------------------------------------------

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    """One event a line: for programs as JSON, for people as words. Tracebacks follow, for people
    as they are."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields = {n: v for n, v in vars(record).items() if n not in _STANDARD}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self.as_json:
            at = round(record.created, 3)
            event = {"event": record.getMessage(), "level": record.levelname.lower(), "at": at}
            return json.dumps(
                {**event, **fields, **({"trace": trace} if trace else {})}, default=str
            )
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        line = f"{record.getMessage()} {words}".rstrip()
        return f"{line}\n{trace}" if trace else line


class _Finished:
    """The line of each call that was answered, as `_Lines` would write it. There is one for every
    call, so they are put together by hand and written once in a turn of the loop."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, call_id: str, ms: int, sent_bytes: int) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(
            f'{{"event": "call_finished", "level": "info", "at": {time.time():.3f}, '
            f'"call_id": "{call_id}", "ms": {ms}, "sent_bytes": {sent_bytes}}}\n'
        )

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        with contextlib.suppress(OSError, ValueError):  # nobody reads the log any more
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


def _log_is_json() -> bool:
    found = [handler.formatter for handler in logging.getLogger().handlers]
    return any(isinstance(lines, _Lines) and lines.as_json for lines in found)


def log_to_stderr(*, as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
