"""Calls as they can be asked for, and what lets the gateway pay for them: the session key,
allowances, manifests. A call itself is made at `call_door`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol import messages
from tallystick.protocol.app_manifest import read_app_manifest
from tallystick.protocol.call_views import (
    AllowanceList,
    AllowanceView,
    CallView,
    ManifestView,
    SessionKeyView,
    SignedAllowanceBody,
    WebhookSecretView,
)
from tallystick.protocol.errors import SignatureError, WireError
from tallystick.protocol.input_schemas import SchemaRefused, schema_of
from tallystick.protocol.messages import ChannelAllowance
from tallystick.protocol.types import Address, Digest, to_address
from tallystick.protocol.wire import ChannelAllowanceBody
from tallystick_backend.api import call_bodies
from tallystick_backend.api.call_door import due_text
from tallystick_backend.api.callers import (
    CallBooks,
    CallReader,
    CallWriter,
    Public,
    Wallet,
    Writer,
)
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.problems import LOGGED_IN, WRITES, problems
from tallystick_backend.api.refusals import (
    TooManyStreams,
    UnknownApp,
    UnknownVersion,
)
from tallystick_backend.api.schemas import AppIdPath
from tallystick_backend.api.streams import LastEventId
from tallystick_backend.api.writes import IdempotencyKey, once
from tallystick_backend.api.writes import Request as WriteRequest
from tallystick_backend.call_view import call_view
from tallystick_backend.gateway import errors as gateway
from tallystick_backend.gateway.funding import AllowanceLeft
from tallystick_backend.gateway.orders import TERMINAL
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.tables import CallRow, ChannelAllowanceRow

router = APIRouter(prefix="/v1", tags=["calls"])

CallIdPath = Annotated[
    str,
    Path(
        alias="call_id",
        pattern=r"^[A-Za-z0-9_-]{8,64}$",
        description="`Tallystick-Call-Id` of the call's answer.",
        examples=["9f" * 16],
    ),
]
ManifestPath = Annotated[
    str,
    Path(
        pattern=r"^0x[0-9a-f]{64}$",
        description="keccak-256 of the manifest's file.",
        examples=["0x" + "3d" * 32],
    ),
]

RANKS = {"queued": 1, "running": 2, "completed": 3, "failed": 3, "canceled": 3}
"""A call goes through its states in this order; the rank is the event's id."""

CALLING = (
    *WRITES,
    gateway.IdempotencyConflict,
    gateway.ManifestMissing,
    gateway.NoPrice,
    gateway.InputTooLarge,
    gateway.InputRefused,
    gateway.InvalidInput,
    gateway.MaxChargeTooLow,
    gateway.WebhookRefused,
    gateway.TooManyCallsOpen,
    gateway.SpendLimitReached,
    gateway.NoAllowance,
    gateway.NoOwnChannel,
    gateway.VoucherDue,
    gateway.OwnSignerRefused,
    gateway.PausedFunds,
    gateway.ChannelsClosing,
    gateway.NoProvider,
    gateway.ProviderLost,
    gateway.CallTimedOut,
    gateway.HandlerFailed,
    gateway.ResultTooLarge,
    gateway.CallCanceled,
    gateway.ResultForgotten,
    gateway.JournalFailed,
    gateway.ChainInDoubt,
    gateway.GatewayNotReady,
    UnknownApp,
    UnknownVersion,
)


@router.post(
    "/apps/{app}/calls",
    operation_id="callApp",
    summary="Call an app",
    description="The body is the app's input: JSON, or bytes of any media type for an app with an "
    "HTTP server of its own. The answer is the app's, byte for byte, with `Tallystick-Call-Id`, "
    "`Tallystick-Charge`, `Tallystick-Total`, `Tallystick-Balance` and `Server-Timing`. "
    "`Accept: text/event-stream` or `application/x-ndjson` sends the pieces of a stream as they "
    "come and ends with an event `charged`, or `failed`. With `Tallystick-Signer` the answer has "
    "`Tallystick-Voucher-Due`: sign it before the next call. A failure charges nothing. A caller "
    "that leaves cancels its call, unless it sent an `Idempotency-Key` or asked for it later.",
    responses={
        200: {
            "description": "The app's answer",
            "content": {"application/json": {"schema": {}}, "application/octet-stream": {}},
        },
        202: {
            "description": "It goes on; `Location` says where to ask for it",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **problems(*CALLING),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {}, "example": {"name": "Ada"}}},
        }
    },
)
async def call_app(
    caller: CallWriter,
    app: AppIdPath,
    version: Annotated[
        int | None, Query(ge=1, le=2**32 - 1, description="Without it the latest.")
    ] = None,
    prefer: Annotated[
        str | None,
        Header(
            description="`respond-async`: answer 202 at once, keep the result. `wait=N`: answer "
            "202 after N seconds."
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        Header(
            alias="Tallystick-Webhook",
            description="Public https address that is told when the call ends; implies "
            "`respond-async`.",
        ),
    ] = None,
    max_charge: Annotated[
        str | None,
        Header(
            alias="Tallystick-Max-Charge",
            pattern=r"^[0-9]{1,39}$",
            description="The call may run no longer than this pays for. Smallest unit.",
        ),
    ] = None,
    signer: Annotated[
        str | None,
        Header(
            alias="Tallystick-Signer",
            pattern=r"^0x[0-9a-fA-F]{40}$",
            description="A session key that the caller keeps: only channels that name it pay, and "
            "the caller signs for each call.",
        ),
    ] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Describes what `call_door` answers; only an id that is none comes so far."""
    raise UnknownApp(app)


@router.get(
    "/calls/{call_id}",
    operation_id="getCall",
    summary="One call of mine",
    responses=problems(LOGGED_IN, gateway.UnknownCall),
)
async def get_call(backend: Ctx, caller: CallBooks, call_id: CallIdPath) -> CallView:
    return call_view(await _mine(backend, caller.address, call_id))


@router.get(
    "/calls/{call_id}/result",
    operation_id="getCallResult",
    summary="Its result, byte for byte",
    response_class=Response,
    responses={
        200: {"description": "The result, under its own media type", "content": {"*/*": {}}},
        **problems(LOGGED_IN, gateway.UnknownCall, gateway.ResultNotThere, gateway.ResultForgotten),
    },
)
async def get_result(backend: Ctx, caller: CallReader, call_id: CallIdPath) -> Response:
    row = await _mine(backend, caller.address, call_id)
    if row.state != "completed":
        raise gateway.ResultNotThere(call_id, row.state)
    if row.result is None:
        raise gateway.ResultForgotten(call_id)
    headers = {
        "Content-Type": row.media_type.encode("ascii", "replace").decode(),
        "Tallystick-Call-Id": row.call_id,
        "Tallystick-Charge": str(row.charge),
        "Tallystick-Total": str(row.total),
    }
    due = call_bodies.due_of(backend.domain, row)
    if due is not None:
        headers["Tallystick-Voucher-Due"] = due_text(due)
    return Response(row.result, headers=headers)


async def _open_gate(backend: Ctx, caller: CallBooks, call_id: CallIdPath) -> AsyncIterator[None]:
    """Before the first byte: the call is the caller's, and it has a stream left."""
    await _mine(backend, caller.address, call_id)
    with backend.streams.entered(caller.address):
        yield


@router.get(
    "/calls/{call_id}/events",
    operation_id="streamCallEvents",
    summary="Its states, as they come",
    description="Events named after the state with one `CallView` each; the id counts the states, "
    "so `Last-Event-ID` goes on after the last one seen. Ends with the call.",
    response_class=EventSourceResponse,
    dependencies=[Depends(_open_gate)],
    responses=problems(LOGGED_IN, gateway.UnknownCall, TooManyStreams),
)
async def stream_events(
    backend: Ctx, caller: CallBooks, call_id: CallIdPath, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    seen = int(last_event_id or 0)
    while True:
        row = await _mine(backend, caller.address, call_id)
        rank = RANKS[row.state]
        if rank > seen:
            seen = rank
            yield ServerSentEvent(data=call_view(row), event=row.state, id=str(rank))
        if row.state in TERMINAL:
            return
        try:
            await asyncio.wait_for(backend.stopping.wait(), backend.settings.stream_poll_ms / 1000)
        except TimeoutError:
            continue
        return


@router.delete(
    "/calls/{call_id}",
    operation_id="cancelCall",
    summary="Cancel a call of mine",
    description="The provider is told; if it ran all the same, its receipt is paid and the call is "
    "`completed`. A call that is over stays as it is.",
    status_code=202,
    responses=problems(WRITES, gateway.UnknownCall, gateway.GatewayNotReady),
)
async def cancel_call(
    backend: Ctx,
    caller: CallWriter,
    call_id: CallIdPath,
    idempotency_key: IdempotencyKey = None,
) -> CallView:
    row = await _mine(backend, caller.address, call_id)
    if row.state not in TERMINAL:
        live = backend.gateway.calls.find(call_id)
        if live is not None:
            backend.gateway.calls.cancel(live)
    return call_view(row)


@router.get(
    "/webhook-secret",
    operation_id="getWebhookSecret",
    summary="What webhooks to me are signed with",
    description="HMAC-SHA256 by the Standard Webhooks scheme: headers `webhook-id`, "
    "`webhook-timestamp` and `webhook-signature`.",
    responses=problems(LOGGED_IN),
)
async def get_webhook_secret(backend: Ctx, caller: Wallet) -> WebhookSecretView:
    return WebhookSecretView(secret=backend.gateway.webhooks.secret(caller.address))


# --- manifests --------------------------------------------------------------------------------


@router.put(
    "/manifests/{digest}",
    operation_id="putManifest",
    summary="Hand in an app's manifest",
    description="The published file, byte for byte: its keccak-256 is the digest in the registry.",
    responses=problems(WRITES, gateway.ManifestRefused, gateway.UnknownManifest),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
async def put_manifest(
    backend: Ctx,
    caller: Writer,
    request: Request,
    response: Response,
    digest: ManifestPath,
    idempotency_key: IdempotencyKey = None,
) -> ManifestView:
    file = await request.body()
    try:
        schema_of(read_app_manifest(file, expected=Digest(digest)))
        text = file.decode("utf-8")
    except (WireError, SchemaRefused, UnicodeDecodeError) as failure:
        raise gateway.ManifestRefused(str(failure)[:400]) from failure

    async def work(session: AsyncSession) -> ManifestView:
        await calls.add_manifest(session, digest, text, backend.clock.now_ms())
        return ManifestView(digest=digest, bytes=len(file))

    asked = WriteRequest(caller.address, idempotency_key, "putManifest", digest)
    return await once(backend, asked, response, ManifestView, work)


@router.get(
    "/manifests/{digest}",
    operation_id="getManifest",
    summary="An app's manifest, byte for byte",
    description="Public, as its digest in the registry is.",
    response_class=Response,
    dependencies=[Public],
    responses={
        200: {
            "description": "The file",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **problems(gateway.UnknownManifest),
    },
)
async def get_manifest(backend: Ctx, digest: ManifestPath) -> Response:
    async with backend.database.read() as session:
        row = await calls.manifest(session, digest)
    if row is None:
        raise gateway.UnknownManifest(digest)
    return Response(row.text.encode(), media_type="application/json")


# --- who pays ---------------------------------------------------------------------------------


@router.get(
    "/session-key",
    operation_id="getSessionKey",
    summary="The key that pays for my calls",
    description="Made when it is first asked for. Name it as `signer` of a `ChannelAllowance`; it "
    "can move what the allowance says into channels, and nothing else.",
    responses=problems(LOGGED_IN, gateway.GatewayNotReady),
)
async def get_session_key(backend: Ctx, caller: CallReader) -> SessionKeyView:
    key = await backend.gateway.keys.of(caller.address)
    return SessionKeyView(
        account=caller.address, signer=key.signer, created_at_ms=key.created_at_ms
    )


@router.post(
    "/allowances",
    operation_id="createAllowance",
    summary="Let the session key pay for my calls",
    description="A `ChannelAllowance` signed by the wallet (or accepted by a contract wallet, "
    "EIP-1271): up to `cap` over its life, until `expires_at`. Revoke it on chain, by its digest.",
    status_code=201,
    responses=problems(WRITES, gateway.AllowanceRefused, SignatureError),
)
async def create_allowance(
    backend: Ctx,
    caller: CallWriter,
    response: Response,
    body: SignedAllowanceBody,
    idempotency_key: IdempotencyKey = None,
) -> AllowanceView:
    allowance = ChannelAllowance.from_body(body.allowance)
    key = await backend.gateway.keys.of(caller.address)
    if allowance.payer.lower() != caller.address.lower():
        raise gateway.AllowanceRefused(f"the payer is {allowance.payer}, you are {caller.address}")
    if allowance.signer != key.signer:
        raise gateway.AllowanceRefused(
            f"the signer is {allowance.signer}, your session key is {key.signer}"
        )
    if allowance.expires_at <= backend.now_s():
        raise gateway.AllowanceRefused(f"it expired at {allowance.expires_at}")
    if allowance.cap == 0:
        raise gateway.AllowanceRefused("its cap is 0")
    digest = messages.digest(backend.domain, allowance)
    await _require_signed(backend, allowance, digest, body.signature)
    row = ChannelAllowanceRow(
        digest=digest,
        payer=allowance.payer.lower(),
        signer=allowance.signer.lower(),
        cap=allowance.cap,
        expires_at_s=allowance.expires_at,
        purpose=allowance.purpose,
        nonce=allowance.nonce,
        signature=body.signature,
        created_at_ms=backend.clock.now_ms(),
    )

    async def work(session: AsyncSession) -> AllowanceView:
        await calls.add_allowance(session, row)
        return _allowance_view(AllowanceLeft(row, 0, False, row.cap))

    response.status_code = 201
    asked = WriteRequest(caller.address, idempotency_key, "createAllowance", body)
    return await once(backend, asked, response, AllowanceView, work)


@router.get(
    "/allowances",
    operation_id="listAllowances",
    summary="What I let the session key pay, and what is left of it",
    responses=problems(LOGGED_IN, gateway.GatewayNotReady),
)
async def list_allowances(backend: Ctx, caller: CallBooks) -> AllowanceList:
    found = await backend.gateway.funds.allowances(caller.address)
    return AllowanceList(items=tuple(map(_allowance_view, found)))


async def _require_signed(
    backend: Backend, allowance: ChannelAllowance, digest: Digest, signature: str
) -> None:
    """By the payer's own key, else by its contract."""
    try:
        if messages.recover(backend.domain, allowance, signature) == allowance.payer:
            return
    except SignatureError:
        pass
    raw = bytes.fromhex(digest[2:])
    if not await backend.wallets.accepts(allowance.payer, raw, signature):
        raise gateway.AllowanceRefused(f"the signature is not one of {allowance.payer}")


def _allowance_view(found: AllowanceLeft) -> AllowanceView:
    row = found.row
    body = ChannelAllowanceBody(
        payer=to_address(row.payer),
        signer=to_address(row.signer),
        cap=row.cap,
        expires_at=row.expires_at_s,
        purpose=row.purpose,
        nonce=row.nonce,
    )
    return AllowanceView(
        digest=row.digest,
        allowance=body,
        spent=found.spent,
        left=found.left,
        revoked=found.revoked,
        expires_at=row.expires_at_s,
        created_at_ms=row.created_at_ms,
    )


# --- views ------------------------------------------------------------------------------------


def webhook_body(row: CallRow) -> dict[str, Any]:
    """What a webhook says: the call as `GET /v1/calls/{id}` has it, without its result's bytes."""
    return {"type": f"call.{row.state}", "data": call_view(row).model_dump(mode="json")}


async def _mine(backend: Backend, account: Address, call_id: str) -> CallRow:
    """Somebody else's call is no call. One that was just begun has no row yet."""
    await backend.gateway.projected()
    async with backend.database.read() as session:
        row = await calls.call(session, call_id)
    if row is None or row.account != account.lower():
        raise gateway.UnknownCall(call_id)
    return row
