"""Tasks of the caller: order, look, withdraw, seal a key, accept, fetch. Somebody else's task does
not exist here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import messages
from tallystick.protocol.errors import SignatureError
from tallystick.protocol.messages import Acceptance, Domain, TaskTerms
from tallystick.protocol.types import ZERO_ADDRESS, Address, to_address
from tallystick.protocol.wire import (
    AcceptTask,
    CreateTask,
    ExplainBody,
    Progress,
    ReceiptView,
    SealedKey,
    TaskBody,
    TaskPage,
)
from tallystick_backend import orders as rules
from tallystick_backend import tasks
from tallystick_backend.api import bodies
from tallystick_backend.api.blobs import sealed_file
from tallystick_backend.api.callers import Reader, Writer
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.cursors import Cursor, Limit, make_cursor, open_cursor
from tallystick_backend.api.examples import ACCEPT_TASK, CREATE_TASK, SEALED_KEY
from tallystick_backend.api.problems import LOGGED_IN, WRITES, problems
from tallystick_backend.api.refusals import BadCursor, NotThereYet
from tallystick_backend.api.schemas import TaskIdPath
from tallystick_backend.api.writes import IdempotencyKey, Request, once
from tallystick_backend.blobs import UnknownBlob
from tallystick_backend.chain import RpcUnavailable
from tallystick_backend.dispatch import explain as dispatch_explain
from tallystick_backend.store.repositories import access, events, orders, views
from tallystick_backend.store.repositories.orders import OrderFilter, SealedKeyFact
from tallystick_backend.store.repositories.views import TaskView
from tallystick_backend.store.tables import AcceptanceRow, TaskOrderRow

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

SCANNED_AT_MOST = 2000
"""Orders looked at for one page when a state is asked for; the page's cursor goes on from there."""
_SCAN_BATCH = 250


class TaskQuery(BaseModel):
    """Which tasks; a filter that is misspelt is refused."""

    model_config = ConfigDict(extra="forbid")

    state: Annotated[tasks.TaskState | None, Field(description="Only tasks in this state.")] = None
    name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            pattern=r"^[^\x00-\x1f\x7f]+$",
            description="Only tasks whose name begins like this.",
        ),
    ] = None
    created_from_ms: Annotated[int | None, Field(ge=0, le=2**53)] = None
    created_until_ms: Annotated[int | None, Field(ge=0, le=2**53, description="Exclusive.")] = None
    cursor: Cursor = None
    limit: Limit = 50


@router.post(
    "",
    operation_id="createTask",
    summary="Order a task",
    description=(
        "The signed terms and the manifest whose digest they name. With `secured` the task waits "
        "until `createTask` on chain locked its ceiling; without, it runs on the signature while "
        "the account covers it. The input bundle is uploaded before."
    ),
    status_code=201,
    responses=problems(
        WRITES,
        rules.NotYourOrder,
        rules.SpecMismatch,
        rules.GpusMismatch,
        rules.WrongDispatcher,
        rules.DeadlineOutOfRange,
        rules.CeilingTooLow,
        rules.SharesOutOfRange,
        rules.ChallengeWindowOutOfRange,
        rules.VerificationUnsupported,
        rules.SealedKeyRefused,
        rules.InputMissing,
        rules.WrongSigner,
        rules.TaskExists,
        SignatureError,
        RpcUnavailable,
    ),
)
async def create_task(
    backend: Ctx,
    caller: Writer,
    response: Response,
    body: Annotated[CreateTask, Body(examples=[CREATE_TASK])],
    idempotency_key: IdempotencyKey = None,
) -> TaskBody:
    rules.check_order(body, caller.address, backend.policy, backend.now_s())
    terms = TaskTerms.from_body(body.terms)
    await _check_signed(backend, "order", terms, body.signature, (terms.consumer,))
    task_id = messages.task_id(backend.domain, terms)

    async def work(session: AsyncSession) -> TaskBody:
        if await orders.order(session, task_id) is not None:
            raise rules.TaskExists(task_id)
        named = {key.provider for key in body.sealed_keys}
        rules.check_sealed_keys(body.sealed_keys, await views.known_providers(session, named))
        await _check_input(session, body, caller.address)
        now_ms = backend.clock.now_ms()
        row = TaskOrderRow(
            task_id=task_id,
            consumer=caller.address.lower(),
            name=body.manifest.name,
            terms=body.terms.model_dump(mode="json"),
            signature=body.signature,
            manifest=body.manifest.model_dump(mode="json"),
            secured=body.secured,
            created_at_ms=now_ms,
        )
        await orders.add_order(session, row)
        await orders.put_sealed_keys(session, task_id, map(_fact, body.sealed_keys))
        await events.append(session, task_id, "ordered", {"secured": body.secured}, now_ms)
        return bodies.task_body(await views.task_view(session, row), now_ms // 1000)

    response.status_code = 201
    request = Request(caller.address, idempotency_key, "createTask", body)
    answer = await once(backend, request, response, TaskBody, work)
    backend.wake_dispatch.set()
    return answer


@router.get(
    "",
    operation_id="listTasks",
    summary="My tasks, newest first",
    description="A page may be short, or empty with a `next_cursor`, when few tasks are in the "
    "state that is asked for: follow the cursor.",
    responses=problems(LOGGED_IN, BadCursor),
)
async def list_tasks(
    backend: Ctx, caller: Reader, query: Annotated[TaskQuery, Query()]
) -> TaskPage:
    filters = query.model_dump_json(exclude={"cursor", "limit"})
    of = f"tasks:{caller.address.lower()}:{filters}"
    before: tuple[int, str] | None = None
    if query.cursor is not None:
        created_at_ms, task_id = open_cursor(backend.seals, of, query.cursor)
        before = (int(created_at_ms), str(task_id))
    wanted = OrderFilter(
        consumer=caller.address,
        name_prefix=query.name or "",
        created_from_ms=query.created_from_ms,
        created_until_ms=query.created_until_ms,
        before=before,
    )
    async with backend.database.read() as session:
        found, last = await _page(session, wanted, query.state, query.limit, backend.now_s())
    cursor = None if last is None else make_cursor(backend.seals, of, list(last))
    return TaskPage(items=tuple(found), next_cursor=cursor)


@router.get(
    "/{task_id}",
    operation_id="getTask",
    summary="One task",
    responses=problems(LOGGED_IN, tasks.UnknownTask),
)
async def get_task(backend: Ctx, caller: Reader, task_id: TaskIdPath) -> TaskBody:
    async with backend.database.read() as session:
        view = await visible(session, task_id, caller.address)
    return bodies.task_body(view, backend.now_s())


@router.post(
    "/{task_id}/cancel",
    operation_id="cancelTask",
    summary="Withdraw a task",
    description=(
        "No new lease is given, and the one in force is stopped: what ran until then is owed. "
        "Money locked on chain is called back by `cancel` on chain, from the wallet."
    ),
    responses=problems(WRITES, tasks.UnknownTask, tasks.TaskIsOver),
)
async def cancel_task(
    backend: Ctx,
    caller: Writer,
    response: Response,
    task_id: TaskIdPath,
    idempotency_key: IdempotencyKey = None,
) -> TaskBody:
    async def work(session: AsyncSession) -> TaskBody:
        view = await visible(session, task_id, caller.address)
        now_ms = backend.clock.now_ms()
        if view.order.withdrawn_at_ms is None:
            tasks.check_can_be_withdrawn(task_id, bodies.state_of(view, now_ms // 1000))
            await orders.withdraw(session, view.order, now_ms)
            if bodies.state_of(view, now_ms // 1000) == "cancelled":
                # Nothing runs, so nobody else will say so.
                await events.append(session, task_id, "cancelled", {"by": "consumer"}, now_ms)
        return bodies.task_body(view, now_ms // 1000)

    request = Request(caller.address, idempotency_key, "cancelTask", task_id)
    answer = await once(backend, request, response, TaskBody, work)
    backend.wake_dispatch.set()
    return answer


@router.post(
    "/{task_id}/keys",
    operation_id="addSealedKey",
    summary="Seal the input key for another provider",
    description="For the provider and fence that `needs_key` of the task names; one key, or a list "
    "for several providers.",
    responses=problems(
        WRITES,
        tasks.UnknownTask,
        tasks.TaskIsOver,
        rules.SealedKeyRefused,
        rules.FenceGiven,
    ),
)
async def add_sealed_keys(
    backend: Ctx,
    caller: Writer,
    response: Response,
    task_id: TaskIdPath,
    body: Annotated[
        SealedKey | Annotated[tuple[SealedKey, ...], Field(min_length=1, max_length=4096)],
        Body(examples=[SEALED_KEY]),
    ],
    idempotency_key: IdempotencyKey = None,
) -> TaskBody:
    keys = (body,) if isinstance(body, SealedKey) else body

    async def work(session: AsyncSession) -> TaskBody:
        view = await visible(session, task_id, caller.address)
        now_ms = backend.clock.now_ms()
        state = bodies.state_of(view, now_ms // 1000)
        if state in tasks.TERMINAL:
            raise tasks.TaskIsOver(task_id, state)
        known = await views.known_providers(session, {key.provider for key in keys})
        newest = 0 if view.work is None else view.work.fence
        rules.check_sealed_keys(keys, known, newest_fence=newest)
        await orders.put_sealed_keys(session, task_id, map(_fact, keys))
        return bodies.task_body(view, now_ms // 1000)

    fields = "\n".join(key.model_dump_json() for key in keys)
    request = Request(caller.address, idempotency_key, f"addSealedKey {task_id}", fields)
    answer = await once(backend, request, response, TaskBody, work)
    backend.wake_dispatch.set()
    return answer


@router.post(
    "/{task_id}/acceptance",
    operation_id="acceptTask",
    summary="Accept the receipt",
    description="The consumer's (or the terms' signer's) signature under the receipt and its "
    "total; with it the provider is paid at once. The first one stays.",
    responses=problems(
        WRITES,
        tasks.UnknownTask,
        tasks.NothingToAccept,
        tasks.AcceptanceMismatch,
        rules.WrongSigner,
        SignatureError,
        RpcUnavailable,
    ),
)
async def accept_task(
    backend: Ctx,
    caller: Writer,
    response: Response,
    task_id: TaskIdPath,
    body: Annotated[AcceptTask, Body(examples=[ACCEPT_TASK])],
    idempotency_key: IdempotencyKey = None,
) -> ReceiptView:
    async with backend.database.read() as session:
        view = await visible(session, task_id, caller.address)
    _check_acceptance(view, body)
    signers = {to_address(view.order.terms["consumer"]), to_address(view.order.terms["signer"])}
    acceptance = Acceptance.from_body(body.acceptance)
    await _check_signed(
        backend,
        "acceptance",
        acceptance,
        body.signature,
        tuple(sorted(signers - {ZERO_ADDRESS})),
        wallet=to_address(view.order.consumer),
    )

    async def work(session: AsyncSession) -> ReceiptView:
        view = await visible(session, task_id, caller.address)
        _check_acceptance(view, body)
        assert view.receipt is not None
        if view.acceptance is None:
            now_ms = backend.clock.now_ms()
            row = AcceptanceRow(
                task_id=task_id,
                total=acceptance.total,
                receipt_digest=acceptance.receipt,
                signature=body.signature,
                at_ms=now_ms,
            )
            await orders.add_acceptance(session, row)
            said = {"total": str(acceptance.total), "receipt": acceptance.receipt}
            await events.append(session, task_id, "accepted", said, now_ms)
            view = await views.task_view(session, view.order)
        assert view.receipt is not None
        return bodies.receipt_view(view, view.receipt)

    request = Request(caller.address, idempotency_key, f"acceptTask {task_id}", body)
    answer = await once(backend, request, response, ReceiptView, work)
    backend.wake_dispatch.set()
    return answer


@router.get(
    "/{task_id}/receipt",
    operation_id="getReceipt",
    summary="The provider's signed receipt",
    responses=problems(LOGGED_IN, tasks.UnknownTask, NotThereYet),
)
async def get_receipt(backend: Ctx, caller: Reader, task_id: TaskIdPath) -> ReceiptView:
    async with backend.database.read() as session:
        view = await visible(session, task_id, caller.address)
    if view.receipt is None:
        raise NotThereYet(f"task {task_id} has no receipt yet")
    return bodies.receipt_view(view, view.receipt)


@router.get(
    "/{task_id}/result",
    operation_id="getResult",
    summary="The sealed result",
    description="The bundle that the receipt names, sealed to the consumer. Always whole.",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The sealed bytes.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        },
        **problems(LOGGED_IN, tasks.UnknownTask, NotThereYet, UnknownBlob),
    },
)
async def get_result(backend: Ctx, caller: Reader, task_id: TaskIdPath) -> Response:
    async with backend.database.read() as session:
        view = await visible(session, task_id, caller.address)
        if view.receipt is None:
            raise NotThereYet(f"task {task_id} has no result yet")
        row = await access.blob(session, view.receipt.result_digest)
    if row is None:
        raise UnknownBlob(view.receipt.result_digest)
    return sealed_file(backend, row.digest)


@router.get(
    "/{task_id}/progress",
    operation_id="getProgress",
    summary="How far it is",
    responses=problems(LOGGED_IN, tasks.UnknownTask),
)
async def get_progress(backend: Ctx, caller: Reader, task_id: TaskIdPath) -> Progress:
    async with backend.database.read() as session:
        view = await visible(session, task_id, caller.address)
    return bodies.progress(view, backend.now_s())


@router.get(
    "/{task_id}/explain",
    operation_id="explainTask",
    summary="Why it waits, or runs where it does",
    responses=problems(LOGGED_IN, tasks.UnknownTask),
)
async def explain_task(backend: Ctx, caller: Reader, task_id: TaskIdPath) -> ExplainBody:
    async with backend.database.read() as session:
        await visible(session, task_id, caller.address)
        found = await dispatch_explain.explain_task(
            session, task_id, now_ms=backend.clock.now_ms(), settings=backend.dispatch
        )
    if found is None:
        raise tasks.UnknownTask(task_id)
    return found


# --- what they share --------------------------------------------------------------------------


async def visible(session: AsyncSession, task_id: str, consumer: Address) -> TaskView:
    """The task if it is the caller's; else it does not exist."""
    order = await orders.order_of(session, task_id, consumer)
    if order is None:
        raise tasks.UnknownTask(task_id)
    return await views.task_view(session, order)


async def _page(
    session: AsyncSession, wanted: OrderFilter, state: str | None, limit: int, now_s: int
) -> tuple[list[TaskBody], tuple[int, str] | None]:
    """The items, and the place of the last order looked at when there may be more."""
    found: list[TaskBody] = []
    scanned, place = 0, wanted.before
    while scanned < SCANNED_AT_MOST:
        size = limit + 1 if state is None else _SCAN_BATCH
        batch = await orders.orders_of(session, _from(wanted, place), size)
        for view in await views.task_views(session, batch):
            if len(found) == limit:
                return found, place
            place = (view.order.created_at_ms, view.order.task_id)
            if state is None or bodies.state_of(view, now_s) == state:
                found.append(bodies.task_body(view, now_s))
        if len(batch) < size:
            return found, None
        scanned += len(batch)
    return found, place


def _from(wanted: OrderFilter, place: tuple[int, str] | None) -> OrderFilter:
    return OrderFilter(
        wanted.consumer,
        wanted.name_prefix,
        wanted.created_from_ms,
        wanted.created_until_ms,
        place,
    )


async def _check_signed(
    backend: Backend,
    what: str,
    message: TaskTerms | Acceptance,
    signature: str,
    signers: tuple[Address, ...],
    *,
    wallet: Address | None = None,
) -> None:
    """By one of `signers` with its key, or by `wallet` (the first of them) as a contract."""
    contract = wallet or signers[0]
    try:
        actual = messages.recover(backend.domain, message, signature)
    except SignatureError:
        if not await _accepted_on_chain(backend, backend.domain, message, signature, contract):
            raise
        return
    if actual in signers:
        return
    if not await _accepted_on_chain(backend, backend.domain, message, signature, contract):
        raise rules.WrongSigner(what, " or ".join(signers), actual)


async def _accepted_on_chain(
    backend: Backend, domain: Domain, message: TaskTerms | Acceptance, signature: str, who: Address
) -> bool:
    digest = bytes.fromhex(messages.digest(domain, message)[2:])
    return await backend.wallets.accepts(who, digest, signature)


async def _check_input(session: AsyncSession, body: CreateTask, consumer: Address) -> None:
    digest = body.manifest.input_digest
    if digest is None:
        return
    blob = await access.blob(session, digest)
    if blob is None or blob.owner != consumer.lower():
        raise rules.InputMissing(digest)


def _check_acceptance(view: TaskView, body: AcceptTask) -> None:
    """It names this task and exactly the receipt that lies here, as the terms price it."""
    task_id = view.order.task_id
    receipt = view.receipt
    tasks.check_acceptance(
        task_id,
        receipt_digest=None if receipt is None else receipt.digest,
        receipt_total=None if receipt is None else int(receipt.receipt["total"]),
        accepted_digest=body.acceptance.receipt,
        accepted_total=body.acceptance.total,
    )
    if body.acceptance.task_id != task_id:
        raise tasks.AcceptanceMismatch(
            task_id,
            (body.acceptance.receipt, body.acceptance.total),
            (f"task {body.acceptance.task_id}", body.acceptance.total),
        )


def _fact(key: SealedKey) -> SealedKeyFact:
    return SealedKeyFact(key.provider, key.fence, key.sealed)
