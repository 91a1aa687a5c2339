"""Getting a result home: fetch, verify, open, unpack, and only then accept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tallystick import watching
from tallystick.bundle import unpack
from tallystick.errors import (
    Conflict,
    NotFound,
    TallystickError,
    TaskFailed,
    VerificationFailed,
)
from tallystick.jobs import CheckedReceipt, Job, JobResult, JobState, JobStatus
from tallystick.protocol import messages, sealing
from tallystick.protocol.errors import ProtocolError, SealError
from tallystick.protocol.messages import Acceptance, Receipt
from tallystick.protocol.types import Digest, TaskId
from tallystick.protocol.wire import AcceptTask, ProviderBody, ReceiptView, TaskBody
from tallystick.receipts import check_receipt, check_sealed_result, check_terms
from tallystick.session import Session

UNPACKED_TIMES_MAX = 8
"""A result may unpack to this many times the output limit that was ordered, and no further."""
RECEIPT_WAIT_S = 60.0
"""A provider that cannot reach the backend proves on chain first: the task is finished there before
the backend has its receipt. Longer than an agent takes to reconnect."""
_NO_RECEIPT = "not_there_yet"


async def result(
    session: Session,
    job: Job | str,
    *,
    to: str | Path | None,
    accept: bool,
    timeout_s: float | None,
) -> JobResult:
    """Waits for the result, brings it to `to`, and accepts it once every check has passed."""
    task_id = watching.task_id_of(job)
    began = session.now()
    seen = await watching.wait(session, task_id, timeout_s=timeout_s, until="finished")
    if not seen.has_result:
        raise _no_result(seen)
    left_s = None if timeout_s is None else timeout_s - (session.now() - began)
    task, checked = await _once_there(session, task_id, left_s)
    directory = _target(to, task)
    sealed = await session.connection.get_bytes(
        f"/v1/tasks/{task_id}/result", max_bytes=checked.view.result_bytes
    )
    limit_mib = task.manifest.max_output_mib * UNPACKED_TIMES_MAX
    files = await asyncio.to_thread(_bring, session, checked, sealed, directory, limit_mib)
    accepted = checked.view.accepted
    if accept and not accepted and seen.state is not JobState.SETTLED:
        accepted = await _accept(session, checked)
    return JobResult(
        task_id=task_id,
        directory=directory,
        files=files,
        exit_code=checked.view.exit_code,
        receipt=checked,
        accepted=accepted,
    )


async def receipt(session: Session, job: Job | str) -> CheckedReceipt:
    """The receipt, verified here; raises VerificationFailed when it does not hold."""
    _, checked = await _checked(session, watching.task_id_of(job))
    return checked


async def accept(session: Session, job: Job | str) -> CheckedReceipt:
    """Accepts without fetching the result: the receipt is checked, the result's bytes are not."""
    _, checked = await _checked(session, watching.task_id_of(job))
    await _accept(session, checked)
    return checked


async def _once_there(
    session: Session, task_id: str, left_s: float | None
) -> tuple[TaskBody, CheckedReceipt]:
    until = session.now() + (RECEIPT_WAIT_S if left_s is None else min(left_s, RECEIPT_WAIT_S))
    while True:
        try:
            return await _checked(session, task_id)
        except NotFound as missing:
            if missing.values.get("problem") != _NO_RECEIPT or session.now() >= until:
                raise
        await session.sleep(watching.FIRST_POLL_S)


async def _checked(session: Session, task_id: str) -> tuple[TaskBody, CheckedReceipt]:
    domain = await session.domain()
    deployment = await session.deployment()
    task = await session.connection.get(f"/v1/tasks/{task_id}", TaskBody)
    terms = check_terms(domain, task_id, task, session.wallet.address)
    view = await session.connection.get(f"/v1/tasks/{task_id}/receipt", ReceiptView)
    checked = check_receipt(
        domain,
        terms,
        view,
        operator_keys=await _operator_keys(session, view),
        ordered_at_ms=task.created_at_ms,
        now_ms=session.now_ms,
        decimals=deployment.token_decimals,
        symbol=deployment.token_symbol,
    )
    return task, checked


async def _operator_keys(session: Session, view: ReceiptView) -> tuple[str, ...]:
    """Keys that sign for the provider: the chain's word when there is an endpoint, else the
    backend's list."""
    try:
        body = Receipt.from_body(view.receipt)
        signer = messages.recover(await session.domain(), body, view.signature)
    except ProtocolError:
        return ()  # the check that follows says what is wrong with it
    if signer == body.provider:
        return ()
    chain = await session.chain()
    if chain is not None:
        return (signer,) if await chain.answers_for(signer, body.provider) else ()
    path = f"/v1/providers/{body.provider}"
    provider = await session.connection.get(path, ProviderBody, public=True)
    return provider.operator_keys


async def _accept(session: Session, checked: CheckedReceipt) -> bool:
    """Signs for exactly the charge that was checked; the provider is then paid at once."""
    domain = await session.domain()
    acceptance = Acceptance(
        task_id=TaskId(Digest(checked.task_id)),
        total=checked.charge.units,
        receipt=Digest(checked.digest),
    )
    body = AcceptTask(
        acceptance=acceptance.to_body(), signature=session.wallet.sign(domain, acceptance)
    )
    try:
        await session.connection.post_and_forget(f"/v1/tasks/{checked.task_id}/acceptance", body)
    except Conflict:
        # Settled in the meantime, or accepted before: either way nothing is left to accept.
        seen = await watching.status(session, checked.task_id)
        if not seen.has_result:
            raise
        return seen.state is not JobState.PROVEN
    return True


def _bring(
    session: Session, checked: CheckedReceipt, sealed: bytes, directory: Path, limit_mib: int
) -> tuple[str, ...]:
    """Digest, opening, unpacking: in this order, and nothing is written before the first two
    hold."""
    check_sealed_result(checked, sealed)
    files = unpack(_open(session, checked, sealed), directory, max_mib=limit_mib)
    (directory / "receipt.json").write_text(json.dumps(checked.to_json(), indent=2) + "\n")
    return files


def _open(session: Session, checked: CheckedReceipt, sealed: bytes) -> bytes:
    key = session.wallet.sealing_key
    try:
        return sealing.open_result(key, Digest(checked.task_id), checked.body.seq, sealed)
    except SealError as problem:
        raise VerificationFailed(
            f"The result cannot be opened with this wallet: {problem}.",
            next_step="Use the wallet that ordered it. If it is that one, the provider sealed it "
            "wrongly: accept nothing and report it.",
        ) from problem


def _target(to: str | Path | None, task: TaskBody) -> Path:
    if to is not None:
        return Path(to).expanduser()
    return Path(f"tallystick-{task.id[2:12]}")


def _no_result(seen: JobStatus) -> TallystickError:
    reason = f": {seen.failure}" if seen.failure else ""
    return TaskFailed(
        f"Task {seen.id} is {seen.state.value} and has no result{reason}.",
        next_step=f"`tallystick task explain {seen.id}` and its log say more; nothing was paid.",
        state=seen.state.value,
    )
