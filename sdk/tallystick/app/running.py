"""Runs a handler: so many calls at a time, each until its deadline, its caller's leaving, or its
end.

An asynchronous handler is cancelled. A plain function runs in a thread, which nobody can stop from
outside: it is told (`Call.over`), its answer is dropped, and its slot stays taken until it returns.
When every slot is taken that way the worker is stuck and says so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import time
import types
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    MutableMapping,
)
from typing import Any, Final, Literal, TypeVar

from tallystick.app.context import Call, enter
from tallystick.app.declare import Entry
from tallystick.app.problems import AppError, Failure, InputRefused

T = TypeVar("T")
State = Literal["starting", "ready", "failed"]

STUCK_AFTER_S: Final = 1.0
"""How long a handler may take to notice that its call is over."""


class HandlerRaised(AppError):
    """Carries whatever the handler raised, SystemExit too: one call's end is not the worker's."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


class CallerLeft(AppError):
    """Nobody waits for the answer any more."""


class Worker:
    """One loaded handler with its slots."""

    def __init__(self, entry: Entry, *, concurrency: int, timeout_s: int) -> None:
        self.entry = entry
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.state: State = "starting"
        self.running = 0
        """Calls that somebody waits for."""
        self.overdue: dict[Slot, float] = {}
        """Slots whose call is over and whose handler still runs, and since when."""
        self.threads = concurrent.futures.ThreadPoolExecutor(concurrency, "tallystick-call")

    @property
    def taken(self) -> int:
        return self.running + len(self.overdue)

    @property
    def stuck(self) -> bool:
        """Every slot is taken by a call that is over, and none has just been told."""
        since_s = time.monotonic() - STUCK_AFTER_S
        return sum(began_s < since_s for began_s in self.overdue.values()) >= self.concurrency

    async def warm_up(self) -> None:
        """Runs the warm-up hook once; raises what the hook raises, in `HandlerRaised`."""
        try:
            if self.entry.warm_up is not None:
                produced = await self._in_thread(self.entry.warm_up)
                if inspect.isawaitable(produced):
                    await _guarded(produced)
        except HandlerRaised:
            self.state = "failed"
            raise
        self.state = "ready"

    def take_slot(self) -> Slot:
        """Raises `Failure` when this worker takes no further call now."""
        if self.state != "ready":
            raise Failure("starting", "The worker is warming up.", "Ask again in a moment.")
        if self.stuck:
            raise Failure(
                "stuck",
                f"All {self.concurrency} slots are taken by calls whose time is over.",
                "Ask another worker; this one has to be started again.",
            )
        if self.taken >= self.concurrency:
            raise Failure(
                "busy",
                f"The worker answers {self.concurrency} at a time, and does.",
                "Ask another worker, or again in a moment.",
            )
        return Slot(self)

    async def produce(self, slot: Slot, call: Call, arguments: dict[str, Any]) -> Any:
        """The handler's output, or an asynchronous iterator over its pieces."""
        enter(call)  # in this task, and in the threads that copy its context
        function = self.entry.function
        if self.entry.runs_on_loop:
            produced = function(**arguments)
        else:
            produced = await self._in_thread(lambda: function(**arguments), slot)
        if inspect.isawaitable(produced):
            produced = await _guarded(produced)
        if inspect.isasyncgen(produced):
            return _guarded_pieces(produced)
        if inspect.isgenerator(produced):
            return self._pieces(produced, slot)
        return produced

    async def _pieces(self, pieces: Generator[Any, Any, Any], slot: Slot) -> AsyncGenerator[Any]:
        """A plain generator, one step in a thread at a time."""
        end: Final = object()
        slot.close_at_end(pieces.close)
        while (piece := await self._in_thread(lambda: next(pieces, end), slot)) is not end:
            yield piece

    async def _in_thread(self, function: Callable[[], Any], slot: Slot | None = None) -> Any:
        context = contextvars.copy_context()
        future = self.threads.submit(context.run, _caught, function)
        if slot is not None:
            slot.hold(future)
        return await asyncio.wrap_future(future)


def _caught(function: Callable[[], T]) -> T:
    try:
        return function()
    except BaseException as problem:
        raise HandlerRaised(problem) from problem


async def _guarded(produced: Awaitable[T]) -> T:
    try:
        return await produced
    except asyncio.CancelledError as problem:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # by us
        raise HandlerRaised(problem) from problem
    except BaseException as problem:
        raise HandlerRaised(problem) from problem


async def _guarded_pieces(pieces: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any]:
    try:
        while True:
            try:
                piece = await _guarded(anext(pieces))
            except HandlerRaised as raised:
                if isinstance(raised.cause, StopAsyncIteration):
                    return
                raise
            yield piece
    finally:
        await pieces.aclose()


class Slot:
    """One place among the worker's. Free again when the call has ended and nothing of its handler
    runs any more."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._ended = False
        self._close: Callable[[], None] | None = None
        worker.running += 1

    def hold(self, work: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> None:
        """Registered before anybody waits for `work`, so the slot hears of its end first: who got
        an answer and asks again finds the slot free."""
        if self._ended and not self._open:
            self._worker.overdue[self] = time.monotonic()
        self._open += 1
        on_loop = isinstance(work, asyncio.Future)
        work.add_done_callback(self._dropped if on_loop else self._tell_dropped)

    def close_at_end(self, close: Callable[[], None]) -> None:
        self._close = close

    def end(self) -> None:
        """The call is over, with or without an answer."""
        if self._ended:
            return
        self._ended = True
        self._worker.running -= 1
        if self._open:
            self._worker.overdue[self] = time.monotonic()
        else:
            self._finish()

    def _tell_dropped(self, _work: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._dropped)
        except RuntimeError:
            return  # the loop is closed, and with it the server

    def _dropped(self, _work: object = None) -> None:
        self._open -= 1
        if self._ended and not self._open:
            del self._worker.overdue[self]
            self._finish()

    def _finish(self) -> None:
        """A generator that was left is closed, so that its `finally` runs; in its thread, since it
        is the handler's code."""
        close, self._close = self._close, None
        if close is not None:
            self._worker.threads.submit(_closed, close)


def _closed(close: Callable[[], None]) -> None:
    try:
        close()
    except BaseException:
        return  # nobody is left to be told, and the thread has to live


class Leaving:
    """Whether the caller of a request is still there. Looked at only while somebody waits: what
    ends at once needs no second task beside it."""

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None]:
        """Done when the caller has left."""
        if self._task is None:
            self._task = asyncio.create_task(self._until_gone())
        return self._task

    @property
    def has_left(self) -> bool:
        """As far as somebody looked."""
        return self._task is not None and self._task.done()

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue


async def within(call: Call, slot: Slot, leaving: Leaving, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, or `Failure` when the time is up, or `CallerLeft`."""
    task = asyncio.create_task(work)
    try:
        if not leaving.has_left:
            await asyncio.sleep(0)  # its first step
            if task.done() and not task.cancelled():
                return task.result()
        slot.hold(task)
        gone = leaving.task
        await asyncio.wait(
            {task, gone}, timeout=call.remaining_s, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        if not task.done():
            call.end()
            task.cancel()
            task.add_done_callback(_looked_at)
    if task.done() and not task.cancelled():
        return task.result()
    if gone.done():
        raise CallerLeft("the caller closed the connection")
    raise Failure(
        "timed_out",
        "The handler did not finish in the time that the app allows a call.",
        "Ask for less at once, or raise timeout_s in the next version.",
    )


def _looked_at(task: asyncio.Future[Any]) -> None:
    """Its error has nobody to go to; asking for it keeps asyncio from complaining."""
    if not task.cancelled():
        task.exception()


async def each(
    call: Call, slot: Slot, leaving: Leaving, pieces: AsyncIterator[Any]
) -> AsyncGenerator[Any]:
    """The pieces as they come, all of them before the call's deadline."""
    end: Final = object()
    _ = leaving.task  # from here on: pieces may come without anybody waiting for them
    while (piece := await within(call, slot, leaving, _next(pieces, end))) is not end:
        yield piece


def close_later(slot: Slot, pieces: AsyncGenerator[Any]) -> None:
    """Lets a stream that was left run its `finally`; the slot is taken until it has. One that has
    ended by itself has: its slot is free before its caller is told."""
    if isinstance(pieces, types.AsyncGeneratorType) and pieces.ag_frame is None:
        return
    closing = asyncio.ensure_future(pieces.aclose())
    closing.add_done_callback(_looked_at)
    slot.hold(closing)


async def _next(pieces: AsyncIterator[Any], end: object) -> Any:
    return await anext(pieces, end)


def failure_of(raised: HandlerRaised) -> Failure:
    """What the caller is told: the handler's own refusal, else nothing of what it raised."""
    if isinstance(raised.cause, InputRefused):
        return Failure("input_refused", str(raised.cause) or "The input was refused.")
    return Failure(
        "handler_failed",
        "The handler failed. What it said is in the worker's log, under this call's id.",
        "Tell the app's publisher the id.",
    )


def deadline(timeout_s: float) -> float:
    return time.monotonic() + timeout_s
