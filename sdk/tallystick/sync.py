"""`GPUClient`: the asynchronous client without `await`, made by wrapping: the two cannot differ.

One event loop runs in a background thread for as long as the client lives.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from decimal import Decimal
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from tallystick.calls import CallStream
from tallystick.client import AsyncGPUClient
from tallystick.config import Config
from tallystick.jobs import Job, LogEntry
from tallystick.prices import Duration, Price

P = ParamSpec("P")
R = TypeVar("R")


class _Portal:
    """An event loop in a thread of its own; runs coroutines for callers in other threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self.loop.run_forever, name="tallystick-client", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """The result of `work`. Ctrl-C cancels it and is raised here."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this GPUClient is closed: make a new one")
        waiting = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


def _blocking(
    method: Callable[Concatenate[AsyncGPUClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[GPUClient, P], R]:
    @functools.wraps(method)
    def call(self: GPUClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.run(method(self._client, *args, **kwargs))

    return call


class GPUClient:
    """A consumer's way into the market.

        client = GPUClient()
        job = client.submit('train.py', 'gpu1', 4, '8h')
        client.get_job_status(job.id)

    Takes the same arguments as AsyncGPUClient. A context manager; `close()` does it by hand.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client = AsyncGPUClient(*args, **kwargs)
        self._portal = _Portal()
        self._finish = weakref.finalize(self, self._portal.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections and the background thread. Tasks go on by themselves."""
        if self._finish.alive:
            try:
                self._portal.run(self._client.close())
            finally:
                self._finish()

    @property
    def config(self) -> Config:
        return self._client.config

    @property
    def address(self) -> str:
        """The wallet's address; raises ConfigurationError when there is no key."""
        return self._client.address

    submit = _blocking(AsyncGPUClient.submit)
    get_job_status = _blocking(AsyncGPUClient.get_job_status)
    list_jobs = _blocking(AsyncGPUClient.list_jobs)
    wait = _blocking(AsyncGPUClient.wait)
    result = _blocking(AsyncGPUClient.result)
    receipt = _blocking(AsyncGPUClient.receipt)
    accept = _blocking(AsyncGPUClient.accept)
    cancel = _blocking(AsyncGPUClient.cancel)
    reclaim = _blocking(AsyncGPUClient.reclaim)
    explain = _blocking(AsyncGPUClient.explain)
    offers = _blocking(AsyncGPUClient.offers)
    providers = _blocking(AsyncGPUClient.providers)
    gpus = _blocking(AsyncGPUClient.gpus)
    search_cards = _blocking(AsyncGPUClient.search_cards)
    price_history = _blocking(AsyncGPUClient.price_history)
    deployment = _blocking(AsyncGPUClient.deployment)
    apps = _blocking(AsyncGPUClient.apps)
    app = _blocking(AsyncGPUClient.app)
    find_app = _blocking(AsyncGPUClient.find_app)
    app_versions = _blocking(AsyncGPUClient.app_versions)
    app_price = _blocking(AsyncGPUClient.app_price)
    app_history = _blocking(AsyncGPUClient.app_history)
    channels = _blocking(AsyncGPUClient.channels)
    channel = _blocking(AsyncGPUClient.channel)
    call = _blocking(AsyncGPUClient.call)
    submit_call = _blocking(AsyncGPUClient.submit_call)
    call_result = _blocking(AsyncGPUClient.call_result)
    cancel_call = _blocking(AsyncGPUClient.cancel_call)
    calls = _blocking(AsyncGPUClient.calls)
    call_info = _blocking(AsyncGPUClient.call_info)
    call_receipt = _blocking(AsyncGPUClient.call_receipt)
    verify_receipt = _blocking(AsyncGPUClient.verify_receipt)
    summaries = _blocking(AsyncGPUClient.summaries)
    summaries_csv = _blocking(AsyncGPUClient.summaries_csv)
    session_key = _blocking(AsyncGPUClient.session_key)
    grant_allowance = _blocking(AsyncGPUClient.grant_allowance)
    allowances = _blocking(AsyncGPUClient.allowances)
    revoke_allowance = _blocking(AsyncGPUClient.revoke_allowance)
    open_channel = _blocking(AsyncGPUClient.open_channel)
    fund_channel = _blocking(AsyncGPUClient.fund_channel)
    sign_vouchers = _blocking(AsyncGPUClient.sign_vouchers)
    close_channel = _blocking(AsyncGPUClient.close_channel)
    spend_limits = _blocking(AsyncGPUClient.spend_limits)
    set_spend_limit = _blocking(AsyncGPUClient.set_spend_limit)
    remove_spend_limit = _blocking(AsyncGPUClient.remove_spend_limit)
    keep_warm = _blocking(AsyncGPUClient.keep_warm)
    warm_list = _blocking(AsyncGPUClient.warm_list)
    stop_warm = _blocking(AsyncGPUClient.stop_warm)
    upload_manifest = _blocking(AsyncGPUClient.upload_manifest)
    balance = _blocking(AsyncGPUClient.balance)
    deposit = _blocking(AsyncGPUClient.deposit)
    withdraw = _blocking(AsyncGPUClient.withdraw)
    login = _blocking(AsyncGPUClient.login)
    create_api_key = _blocking(AsyncGPUClient.create_api_key)
    list_api_keys = _blocking(AsyncGPUClient.list_api_keys)
    revoke_api_key = _blocking(AsyncGPUClient.revoke_api_key)

    def estimate(self, gpus: int, price_per_gpu_hour: Price, time: Duration) -> Decimal:
        """C = n x p x t in tokens, exact: 8 GPUs at 0.5 for 4 hours are Decimal(16)."""
        return self._client.estimate(gpus, price_per_gpu_hour, time)

    def logs(self, job: Job | str, *, follow: bool = False) -> Iterator[LogEntry]:
        """What the task wrote; with `follow`, until it ends. Survives broken connections."""
        entries = self._client.logs(job, follow=follow)
        try:
            while True:
                entry = self._portal.run(_next(entries))
                if entry is None:
                    return
                yield entry
        finally:
            self._portal.run(_close(entries))

    def stream_call(
        self,
        app: str,
        input: Any = None,
        *,
        version: int | None = None,
        max_charge: Price | None = None,
    ) -> BlockingStream:
        """Calls an app, by id or name, whose handler yields: its pieces as they come."""
        pieces = self._client.stream_call(app, input, version=version, max_charge=max_charge)
        return BlockingStream(self._portal, pieces)


class BlockingStream:
    """A `CallStream` without `await`."""

    def __init__(self, portal: _Portal, pieces: CallStream) -> None:
        self._portal = portal
        self._pieces = pieces

    @property
    def call_id(self) -> str:
        """Known once the first piece is there."""
        return self._pieces.call_id

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                try:
                    piece = self._portal.run(self._pieces.__anext__())
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            self._portal.run(self._pieces.aclose())


async def _next(entries: AsyncIterator[LogEntry]) -> LogEntry | None:
    return await anext(entries, None)


async def _close(entries: AsyncIterator[LogEntry]) -> None:
    close = getattr(entries, "aclose", None)
    if close is not None:
        await close()
