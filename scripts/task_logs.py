"""Tasks as the scripts name them: by id.

A verb on a task must show its terms again, and often the proof. The chain told both: `TaskCreated`
carries the terms, `TaskProven` what will be paid to whom. So no file is needed, and none is lost.

    TALLYSTICK_FROM_BLOCK    where to begin looking  (the deployment's first block); an RPC that
                             does not answer for so many blocks wants one just before the task
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from scripts.support import Deployment, ScriptError, domain_of, read_deployment, rpc_url
from tallystick.protocol import codec, messages
from tallystick.protocol.contracts import Market, ProvenWork, TaskState, TaskStatus
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.events import Event, TaskCreated, TaskProven, raw_log
from tallystick.protocol.messages import TaskTerms
from tallystick.protocol.types import TaskId, to_address, to_digest

Told = TypeVar("Told", bound=Event)
STATUS = {
    TaskStatus.NONE: "unknown, settled or refunded",
    TaskStatus.OPEN: "open",
    TaskStatus.PROVEN: "proven, and waits for its challenge window",
    TaskStatus.DISPUTED: "disputed",
}


def task_id_of(text: str, usage: str) -> TaskId:
    if not text:
        raise ScriptError(f"which task? `brownie run {usage}`, with the task's id")
    try:
        return TaskId(to_digest(text))
    except ProtocolError as error:
        raise ScriptError(f"task: {error}") from None


def state_of(market: Deployment, task_id: TaskId) -> TaskState:
    status, time_s = market.market.taskOf(task_id)
    return TaskState(TaskStatus(int(status)), int(time_s))


def require_status(market: Deployment, task_id: TaskId, wanted: TaskStatus) -> int:
    """The time that belongs to the status."""
    state = state_of(market, task_id)
    if state.status is not wanted:
        raise ScriptError(f"the task {task_id} is {STATUS[state.status]}, and not {STATUS[wanted]}")
    return state.time_s


def terms_of(market: Deployment, task_id: TaskId) -> TaskTerms:
    created = told(market, TaskCreated, task_id)
    if created is None:
        raise ScriptError(
            f"no task {task_id} was created in the blocks from {first_block()} on: check the id,"
            " or set TALLYSTICK_FROM_BLOCK to an earlier block"
        )
    if messages.task_id(domain_of(market), created.terms) != task_id:
        raise ScriptError(f"the terms that the chain tells of {task_id} have another digest")
    return created.terms


def proven_of(market: Deployment, task_id: TaskId) -> ProvenWork:
    proven = told(market, TaskProven, task_id)
    if proven is None:
        raise ScriptError(
            f"no proof of the task {task_id} is in the blocks from {first_block()} on: set"
            " TALLYSTICK_FROM_BLOCK to an earlier block"
        )
    return ProvenWork(proven.provider, proven.charge, proven.receipt)


def told(market: Deployment, kind: type[Told], task_id: TaskId) -> Told | None:
    """The market's newest event of this kind about the task."""
    from brownie import web3
    from requests.exceptions import ConnectionError as NoConnection

    declared = codec.events("TaskMarket").values()
    topic = next(event.topic for event in declared if event.name == kind.__name__)
    asked: Any = {
        "address": market.market.address,
        "topics": [topic, task_id],
        "fromBlock": first_block(),
        "toBlock": "latest",
    }
    try:
        found = web3.eth.get_logs(asked)
    except NoConnection:
        raise
    except Exception as error:
        raise ScriptError(
            f"{rpc_url()} does not answer for the blocks from {first_block()} on ({error}): set"
            " TALLYSTICK_FROM_BLOCK to a block just before the task"
        ) from None
    return kind.from_log(raw_log(found[-1])) if found else None


def first_block() -> int:
    text = os.environ.get("TALLYSTICK_FROM_BLOCK", "")
    if not text:
        return int((read_deployment() or {}).get("block", 0))
    if not (text.isascii() and text.isdecimal()):
        raise ScriptError(f"TALLYSTICK_FROM_BLOCK is {text!r}: give a block's number")
    return int(text)


def market_of(market: Deployment) -> Market:
    """For calldata: it has no connection to read with."""
    return Market(None, to_address(market.market.address))  # type: ignore[arg-type]
