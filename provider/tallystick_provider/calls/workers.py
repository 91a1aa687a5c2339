"""The warm workers of one app version: `scaling.Pool` decides, this carries it out.

A worker comes up in a folder of its own, is asked until it is ready, answers calls, and is taken
down: stopped, removed, its folder and its cards given back. One that died, does not speak HTTP or
does not come to itself after a call that was broken off is taken down and, if calls need it,
replaced. Nothing of a worker outlives its agent: `remove_leftovers` finds what a crash left.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from tallystick.protocol.app_manifest import AppManifest, HttpHandler
from tallystick.protocol.call_bodies import START_LOG_CHARS, WARM_MEDIA_TYPE, WorkerState
from tallystick.protocol.types import Address
from tallystick_provider.calls.http import Piece, Reply, WorkerLine
from tallystick_provider.calls.room import Room
from tallystick_provider.calls.scaling import Placed, Pool, Scale
from tallystick_provider.cards import Cards
from tallystick_provider.clock import Clock
from tallystick_provider.errors import (
    NoRoom,
    NoWorker,
    ProviderError,
    RuntimeFailure,
    WorkerFailure,
)
from tallystick_provider.log_brake import LogBrake
from tallystick_provider.runtime import (
    SOCKET_PATH,
    LogCursor,
    Runtime,
    TaskDirectory,
    WorkerRef,
    WorkerSpec,
    volume,
)

WORKERS: Final = "workers"
READY_POLL_S: Final = 0.02
SLOW_READY_POLL_S: Final = 0.2
QUICK_READY_S: Final = 3.0
READY_ANSWER_S: Final = 2.0
LOOK_S: Final = 2.0
"""How often a warm worker is looked at."""
STEP_GAP_S: Final = 0.005
"""Between two looks at what is wanted: a queue that grows wakes it with every call."""
RECOVERY_S: Final = 3.0
"""How long after a call that was broken off a worker may need to be itself again."""
RECOVERY_POLL_S: Final = 0.05
AGAIN_S: Final = 5.0
"""An engine that did not answer is asked again to remove a worker."""
IMAGE_AGAIN_S: Final = 30.0
CLOSE_S: Final = 10.0
FOLDER_ENTRIES: Final = 64
FOLDER_BYTES: Final = 1024 * 1024
LOG_TAIL: Final = START_LOG_CHARS
STARTS_KEPT: Final = 4

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerTools:
    """What workers need of the agent."""

    provider: Address
    runtime: Runtime
    cards: Cards
    room: Room
    clock: Clock
    data_dir: Path
    apps_dir: Path | None
    gpus_simulated: bool
    stop_grace_s: int
    warm_most: int
    idle_most_s: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A call that came to an answer of its worker, good or bad."""

    reply: Reply
    started_at_ms: int
    ended_at_ms: int
    gpu_ids: tuple[str, ...]
    queued_ms: int
    cold_start_ms: int


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker wrote before anybody called it."""

    at_ms: int
    ready: bool
    why: str
    text: str


@dataclass(slots=True)
class _Worker:
    name: str
    place: TaskDirectory
    gpu_ids: tuple[str, ...]
    line: WorkerLine
    brake: LogBrake
    ref: WorkerRef | None = None
    looked_at_s: float = 0.0
    down: asyncio.Task[None] | None = None
    bringing_up: asyncio.Task[None] | None = field(default=None, repr=False)


class AppWorkers:
    def __init__(self, tools: WorkerTools, title: str, manifest: AppManifest) -> None:
        self._tools = tools
        self._title = title
        self._manifest = manifest
        self.pool = Pool(
            Scale.of(manifest, warm_most=tools.warm_most, idle_most_s=tools.idle_most_s)
        )
        self._waiting: dict[str, asyncio.Future[Placed]] = {}
        self._workers: dict[str, _Worker] = {}
        self._woken = asyncio.Event()
        self._looks_at_ms = 0
        """When it is looked at what is wanted, if nobody wakes it before."""
        self._call_path, self._ready_path = _paths(manifest)
        self._image_here = False
        self._image_problem = ""
        self._image_again_s = 0.0
        self._tending: asyncio.Task[None] | None = None
        self._retiring = False
        self._aside: set[asyncio.Task[None]] = set()
        self.starts: deque[Start] = deque(maxlen=STARTS_KEPT)
        """The last ones, for the app's publisher."""

    # --- what the service asks --------------------------------------------------------------

    def begin(self) -> None:
        """Fetches the image, keeps what must be warm, and looks after all of it until `close`."""
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend(), name=f"workers of {self._title}")

    def retire(self) -> None:
        """Serves what is under way and nothing more; idle workers go."""
        self._retiring = True
        self._woken.set()

    def give_way(self, name: str) -> None:
        """A task needs its room."""
        self._take_down(name, "gives way to a task")

    async def close(self) -> None:
        """Everything ends; what an engine does not remove in time the next start does."""
        tasks = [task for task in (self._tending, *self._aside) if task is not None]
        for worker in self._workers.values():
            tasks += [task for task in (worker.bringing_up,) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NoWorker("this provider is stopping"))
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(
                    *(self._remove(worker) for worker in self._workers.values()),
                    return_exceptions=True,
                )

    async def run(
        self,
        call: str,
        content: bytes,
        *,
        media_type: str,
        call_id: str,
        within_s: int,
        piece: Piece | None,
        starting: Callable[[int], None],
    ) -> Ran:
        """Waits for a place, then for the answer. `starting` is told the time at which the run
        begins, and may raise. Raises WorkerFailure; cancelled, it tells the worker. A warm call is
        asked on the ready path."""
        warm = media_type == WARM_MEDIA_TYPE
        placed = await self._place(call)
        worker = self._workers.get(placed.worker)
        whole = False
        try:
            if worker is None:
                raise NoWorker("the worker went away before the call reached it")
            started_at_ms = self._tools.room.begin_at_ms(worker.gpu_ids, self._now())
            starting(started_at_ms)
            began_s = time.monotonic()
            if warm:
                reply = await self._ask_ready(worker, within_s)
            else:
                reply = await worker.line.call(
                    self._call_path,
                    content,
                    media_type=media_type,
                    call_id=call_id,
                    within_s=within_s,
                    max_bytes=self._manifest.max_response_bytes,
                    piece=piece,
                )
            ran_ms = min(round((time.monotonic() - began_s) * 1000), within_s * 1000)
            self._tools.room.used_until(worker.gpu_ids, started_at_ms + ran_ms)
            whole = not self._declined(reply)
            if whole:
                # A warm call's time says nothing of how long others wait.
                self.pool.end(call, self._now(), None if warm else ran_ms)
        except (WorkerFailure, asyncio.CancelledError):
            raise
        except Exception:
            whole = True  # it never reached the worker
            self.pool.end(call, self._now())
            raise
        finally:
            if whole:
                self._freed(placed.worker)
            else:
                self._aside_task(self._recover(call, worker))
        if not whole:
            raise NoWorker(f"the worker takes no call now: {_text(reply)}")
        return Ran(
            reply,
            started_at_ms,
            started_at_ms + ran_ms,
            worker.gpu_ids,
            placed.queued_ms,
            placed.cold_start_ms,
        )

    @property
    def state(self) -> WorkerState:
        if self.pool.workers_ready:
            return "warm"
        if not self._image_here:
            return "failed" if self._image_problem else "pulling"
        if self.pool.workers_starting:
            return "starting"
        return "failed" if self.pool.problem else "cold"

    @property
    def problem(self) -> str:
        return self._image_problem or self.pool.problem

    def max_workers_now(self) -> int:
        """As many as the manifest allows and this machine has room for."""
        scale, alive = self.pool.scale, self.pool.workers_alive
        most = max(0, scale.max_workers - alive)
        return alive + self._tools.room.fits(self._manifest.resources, min(most, 64))

    # --- places -----------------------------------------------------------------------------

    async def _place(self, call: str) -> Placed:
        if self._retiring:
            raise NoWorker("this version is not served here any more")
        at_once = self.pool.place(call, self._now())
        if at_once is not None:
            return at_once
        if not self.pool.ask(call, self._now()):
            raise NoWorker(f"{self.pool.queued} calls wait here already")
        future: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        self._settle_places()
        try:
            if not future.done():
                self._woken.set()
            return await future
        except asyncio.CancelledError:
            if not self.pool.leave(call):
                self.pool.end(call, self._now())
                self._wake()
            raise
        finally:
            self._waiting.pop(call, None)

    def _settle_places(self) -> None:
        for placed in self.pool.begin(self._now()):
            future = self._waiting.get(placed.call)
            if future is None or future.done():
                self.pool.end(placed.call, self._now())
            else:
                future.set_result(placed)

    def _wake(self) -> None:
        """A place is free, or time has come."""
        self._settle_places()
        self._woken.set()

    def _freed(self, worker: str) -> None:
        """A call has ended there. What is wanted changes only with time, mostly later than it is
        looked at anyway."""
        self._settle_places()
        idle = not self.pool.calls_of(worker)
        stops_at_ms = self._now() + self.pool.scale.cooldown_ms
        if self._retiring or (idle and stops_at_ms < self._looks_at_ms):
            self._woken.set()

    # --- the loop ---------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            self._woken.clear()
            stepped_s = time.monotonic()
            try:
                await self._step()
            except ProviderError as error:
                log.warning("workers_wait", app=self._title, why=str(error))
            wait_s = LOOK_S
            next_ms = self.pool.next_look_ms(self._now())
            if next_ms is not None:
                wait_s = min(wait_s, max(0.0, (next_ms - self._now()) / 1000) + 0.001)
            if self._retiring and not self._workers and not self._waiting:
                return
            self._looks_at_ms = self._now() + round(wait_s * 1000)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            await asyncio.sleep(max(0.0, stepped_s + STEP_GAP_S - time.monotonic()))

    async def _step(self) -> None:
        if not self._image_here:
            await self._fetch_image()
        self._settle_places()
        now_ms = self._now()
        wanted = self.pool.wanted(now_ms, self._room_for())
        for call, why in wanted.refuse:
            self._refuse(call, self._why_refused(why))
        idle = [name for name in self.pool.names() if not self.pool.calls_of(name)]
        for name in idle if self._retiring else wanted.stop:
            self._take_down(name, "not needed")
        for _ in range(wanted.start):
            self._start_one(now_ms)
        for worker in list(self._workers.values()):
            await self._look_at(worker)

    def _room_for(self) -> int:
        if self._retiring or not self._image_here:
            return 0
        scale = self.pool.scale
        most = scale.max_workers - self.pool.workers_alive
        needed = max(scale.min_workers, -(-self.pool.queued // scale.concurrency))
        most = min(most, needed)
        return self._tools.room.fits(self._manifest.resources, most) if most > 0 else 0

    def _why_refused(self, why: str) -> str:
        if self._image_problem:
            return self._image_problem
        if not self.pool.problem and not self.pool.workers_alive:
            return self._tools.room.why_not(self._manifest.resources) or why
        return why

    def _refuse(self, call: str, why: str) -> None:
        self.pool.leave(call)
        future = self._waiting.get(call)
        if future is not None and not future.done():
            future.set_exception(NoWorker(why))

    async def _fetch_image(self) -> None:
        if time.monotonic() < self._image_again_s:
            return
        self._image_again_s = time.monotonic() + IMAGE_AGAIN_S
        try:
            await self._tools.runtime.prepare(self._manifest.image)
        except RuntimeFailure as error:
            if self._image_problem != str(error):
                log.warning("app_image_not_here", app=self._title, why=str(error))
            self._image_problem = str(error)
            return
        self._image_here, self._image_problem = True, ""
        log.info("app_image_here", app=self._title)

    # --- up ---------------------------------------------------------------------------------

    def _start_one(self, now_ms: int) -> None:
        name = f"w{secrets.token_hex(6)}"
        place = TaskDirectory(self._tools.data_dir / WORKERS / name)
        try:
            gpu_ids = self._tools.room.take(name, self._manifest.resources)
        except NoRoom as error:
            log.info("no_room_for_worker", app=self._title, why=str(error))
            return
        spec = self._spec(name, place, gpu_ids)
        line = WorkerLine(place.output, spec.socket_name)
        worker = _Worker(name, place, gpu_ids, line, LogBrake(self._tools.runtime))
        self._workers[name] = worker
        self.pool.started(name, now_ms)
        worker.bringing_up = asyncio.create_task(self._bring_up(worker, spec), name=f"up {name}")

    def _spec(self, name: str, place: TaskDirectory, gpu_ids: tuple[str, ...]) -> WorkerSpec:
        handler, resources = self._manifest.handler, self._manifest.resources
        socket = handler.socket if isinstance(handler, HttpHandler) else None
        project = None
        if self._tools.apps_dir is not None and self._tools.runtime.kind == "process":
            project = self._tools.apps_dir / self._manifest.name
        return WorkerSpec(
            provider=self._tools.provider,
            name=name,
            image=self._manifest.image,
            project=project,
            directory=place,
            socket_path=socket or SOCKET_PATH,
            gpu_ids=gpu_ids,
            gpus_simulated=self._tools.gpus_simulated,
            cpu_milli=resources.cpu_milli,
            memory_mib=resources.memory_mib,
            disk_mib=resources.disk_mib,
        )

    async def _bring_up(self, worker: _Worker, spec: WorkerSpec) -> None:
        try:
            await asyncio.to_thread(worker.place.output.mkdir, parents=True, mode=0o700)
            await self._tools.cards.take(worker.gpu_ids, worker.name)
            worker.ref = await self._tools.runtime.start_worker(spec)
            await self._until_ready(worker)
        except (ProviderError, OSError, TimeoutError) as error:
            why = str(error) or f"not ready within {self._manifest.ready_timeout_s} s"
            log.warning("worker_failed", app=self._title, worker=worker.name, why=why)
            said = await self._tell_log(worker)
            self.starts.append(Start(self._now(), False, why[:200], said))
            self.pool.failed(worker.name, why, self._now())
            self._take_down(worker.name, "failed")
            self._woken.set()
            return
        worker.looked_at_s = time.monotonic()
        # Before the first call: what a caller brings is in no log that a publisher sees.
        self.starts.append(Start(self._now(), True, "", await self._said(worker)))
        self.pool.ready(worker.name, self._now())
        log.info(
            "worker_ready",
            app=self._title,
            worker=worker.name,
            cold_start_ms=self.pool.cold_start_ms,
        )
        self._wake()

    async def _until_ready(self, worker: _Worker) -> None:
        assert worker.ref is not None
        began_s = looked_s = time.monotonic()
        async with asyncio.timeout(self._manifest.ready_timeout_s):
            while True:
                reply = await worker.line.ready(self._ready_path, READY_ANSWER_S)
                if reply is not None and reply.status == 200:
                    return
                now_s = time.monotonic()
                if now_s - looked_s > SLOW_READY_POLL_S:
                    looked_s = now_s
                    state = await self._tools.runtime.state(worker.ref)
                    if state.status != "running":
                        raise NoWorker(
                            "the worker ended before it was ready"
                            + ("" if state.exit_code is None else f", with {state.exit_code}")
                            + (": out of memory" if state.out_of_memory else "")
                        )
                    await worker.brake.pace(worker.ref, self._now(), state)
                slow = now_s - began_s > QUICK_READY_S
                await asyncio.sleep(SLOW_READY_POLL_S if slow else READY_POLL_S)

    async def _tell_log(self, worker: _Worker) -> str:
        """For the provider; of a start that failed for the publisher, too, and nobody else."""
        said = await self._said(worker)
        if said:
            log.info("worker_said", worker=worker.name, text=said)
        return said

    async def _said(self, worker: _Worker) -> str:
        if worker.ref is None:
            return ""
        try:
            read = await self._tools.runtime.logs(worker.ref, LogCursor())
        except RuntimeFailure:
            return ""
        return "".join(piece.text for piece in read.pieces)[-LOG_TAIL:]

    # --- looked after -----------------------------------------------------------------------

    async def _look_at(self, worker: _Worker) -> None:
        """Now and then: it may have died, or filled the folder that it shares with us."""
        due = time.monotonic() - worker.looked_at_s >= LOOK_S
        if not due or worker.ref is None or worker.down is not None or not worker.looked_at_s:
            return
        worker.looked_at_s = time.monotonic()
        try:
            state = await self._tools.runtime.state(worker.ref)
        except RuntimeFailure as error:
            log.warning("runtime_silent", error=str(error))
            return
        if state.status != "running":
            log.warning("worker_died", app=self._title, worker=worker.name, code=state.exit_code)
            await self._tell_log(worker)
            self._take_down(worker.name, "died")
        elif await asyncio.to_thread(_overfull, worker.place.output):
            log.warning("worker_fills_folder", app=self._title, worker=worker.name)
            self._take_down(worker.name, "filled its folder")
        else:
            try:
                await worker.brake.pace(worker.ref, self._now(), state)
            except RuntimeFailure as error:
                log.warning("runtime_silent", error=str(error))

    async def _ask_ready(self, worker: _Worker, within_s: float) -> Reply:
        reply = await worker.line.ready(self._ready_path, min(within_s, READY_ANSWER_S))
        if reply is None:
            raise NoWorker("the worker answered nothing on its ready path")
        return reply

    async def _recover(self, call: str, worker: _Worker | None) -> None:
        """After a call that was broken off: its place is free when the worker says so. One that
        does not is replaced, for it may go on with a call that nobody pays for."""
        if worker is not None:
            until_s = time.monotonic() + RECOVERY_S
            while worker.down is None:
                reply = await worker.line.ready(self._ready_path, READY_ANSWER_S)
                if reply is not None and self._is_itself(reply, worker.name):
                    break
                if reply is None:
                    worker.looked_at_s = -LOOK_S
                    await self._look_at(worker)
                if time.monotonic() > until_s and worker.down is None:
                    log.warning("worker_stuck", app=self._title, worker=worker.name)
                    self._take_down(worker.name, "stuck")
                await asyncio.sleep(RECOVERY_POLL_S)
        self.pool.end(call, self._now())
        self._wake()

    def _is_itself(self, reply: Reply, name: str) -> bool:
        """Ready, and as far as it says so busy with nothing but what it was given."""
        if reply.status != 200:
            return False
        if isinstance(self._manifest.handler, HttpHandler):
            return True
        try:
            running = json.loads(reply.content).get("running")
        except (ValueError, AttributeError, RecursionError):
            return False
        return isinstance(running, int) and running < max(1, self.pool.calls_of(name))

    def _declined(self, reply: Reply) -> bool:
        """Whether the server says that it ran nothing: it is busy, stuck or not up."""
        return reply.status == 503

    # --- down -------------------------------------------------------------------------------

    def _take_down(self, name: str, why: str) -> None:
        worker = self._workers.get(name)
        if worker is None or worker.down is not None:
            return
        log.info("worker_stopping", app=self._title, worker=name, why=why)
        self.pool.leaving(name)
        worker.down = asyncio.create_task(self._down(worker), name=f"down {name}")
        self._aside.add(worker.down)
        worker.down.add_done_callback(self._aside.discard)

    async def _down(self, worker: _Worker) -> None:
        while True:
            if await self._remove(worker):
                break
            await asyncio.sleep(AGAIN_S)
        self._woken.set()

    async def _remove(self, worker: _Worker) -> bool:
        """False while something of it is left: its cards are not given to anybody then."""
        worker.line.close()
        try:
            if worker.ref is not None:
                await self._tools.runtime.stop(worker.ref, self._tools.stop_grace_s)
                await self._tools.runtime.remove(worker.ref)
            if not await asyncio.to_thread(_remove_folder, worker.place.root):
                return False
        except RuntimeFailure as error:
            log.warning("worker_left", worker=worker.name, why=str(error))
            return False
        await self._tools.cards.give_back(worker.gpu_ids, worker.name)
        self._tools.room.give_back(worker.name)
        self.pool.gone(worker.name)
        self._workers.pop(worker.name, None)
        return True

    # --- small ------------------------------------------------------------------------------

    def _aside_task(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def _now(self) -> int:
        return self._tools.clock.now_ms()


async def remove_leftovers(runtime: Runtime, data_dir: Path) -> None:
    """Workers and folders of an agent that is gone: a call that was under way there came to
    nothing, and nobody knows what a worker does meanwhile."""
    for ref in await runtime.own_workers():
        log.warning("worker_left_over", worker=ref.name)
        await runtime.stop(ref, 1)
        await runtime.remove(ref)
    for folder in await asyncio.to_thread(_folders, data_dir / WORKERS):
        await asyncio.to_thread(_remove_folder, folder)


def _folders(root: Path) -> list[Path]:
    return sorted(root.iterdir()) if root.is_dir() else []


def _remove_folder(root: Path) -> bool:
    if not root.exists():
        return True
    if root.is_symlink():
        root.unlink()
        return True
    removed = volume.remove(root)
    if not removed:
        shutil.rmtree(root, ignore_errors=True)
    return removed


def _overfull(folder: Path) -> bool:
    """Looked at only so far: a worker may make entries faster than anybody counts them."""
    entries = size = 0
    todo = [folder]
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as found:
            for entry in found:
                entries += 1
                size += entry.stat(follow_symlinks=False).st_size
                if entries > FOLDER_ENTRIES or size > FOLDER_BYTES:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
    return False


def _paths(manifest: AppManifest) -> tuple[str, str]:
    """Where calls go, and where it is asked whether it is ready."""
    handler = manifest.handler
    if isinstance(handler, HttpHandler):
        return handler.path, handler.ready_path
    return "/call", "/ready"


def _text(reply: Reply) -> str:
    return reply.content[:200].decode(errors="replace")
