"""An index in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from multiprocessing.process import BaseProcess

import structlog

from tallystick.protocol.deployments import Deployment
from tallystick_backend.chain import Chain, HttpRpc
from tallystick_backend.clock import SystemClock
from tallystick_backend.index.follow import Index, IndexSettings
from tallystick_backend.index.start import followed
from tallystick_backend.store.session import Database

RPC_TIMEOUT_S = 0.5

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.chain.follower"])


def start(database_url: str, rpc_url: str, deployment: Deployment) -> BaseProcess:
    process = _PROCESSES.Process(target=_main, args=(database_url, rpc_url, deployment))
    process.start()
    return process


def _main(database_url: str, rpc_url: str, deployment: Deployment) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(_follow(database_url, rpc_url, deployment))


async def _follow(database_url: str, rpc_url: str, deployment: Deployment) -> None:
    database = Database(database_url)
    rpc = HttpRpc(rpc_url, RPC_TIMEOUT_S)
    index = Index(
        database,
        Chain(rpc, followed(deployment)),
        deployment,
        SystemClock(),
        IndexSettings(poll_ms=5),
    )
    while True:
        try:
            await index.run(asyncio.Event())
        except Exception:
            # As the supervisor would.
            await asyncio.sleep(0.01)
