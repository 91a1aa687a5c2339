"""The caller's calls afterwards: which there were, and everything to check one by. Calling itself
is the gateway's. Somebody else's call does not exist here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.call_bodies import CallAnswerBody
from tallystick.protocol.call_views import AppTermsView, CallPage, CallReceiptView, CallState
from tallystick_backend.api import call_bodies
from tallystick_backend.api.callers import CallBooks
from tallystick_backend.api.calls import CallIdPath
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.cursors import Cursor, Limit, make_cursor, open_cursor
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.api.refusals import BadCursor, NoReceipt
from tallystick_backend.call_view import call_view
from tallystick_backend.gateway.errors import UnknownCall
from tallystick_backend.store.repositories import apps, chain, usage
from tallystick_backend.store.repositories.usage import CallFilter
from tallystick_backend.store.tables import CallRow

router = APIRouter(prefix="/v1/calls", tags=["calls"])

LONGEST_CHAIN = 1_000
"""Receipts shown between a call's own and the one that its voucher names."""
ALL = 10_000
"""Price changes and discounts of one version shown with a receipt."""

AppFilter = Annotated[
    str | None, Field(pattern=r"^0x[0-9a-f]{64}$", description="Only calls of this app.")
]
ProviderFilter = Annotated[
    str | None,
    Field(pattern=r"^0x[0-9a-fA-F]{40}$", description="Only calls that this provider answered."),
]
KeyFilter = Annotated[
    str | None,
    Field(
        pattern=r"^([0-9a-f]{16})?$",
        description="Only calls of this API key; empty: of the wallet's log-in.",
    ),
]


class CallQuery(BaseModel):
    """Which calls; a filter that is misspelt is refused."""

    model_config = ConfigDict(extra="forbid")

    app: AppFilter = None
    provider: ProviderFilter = None
    key: KeyFilter = None
    state: Annotated[CallState | None, Field(description="Only calls in this state.")] = None
    from_ms: Annotated[
        int | None, Field(ge=0, le=2**62, description="Asked for at this time or later.")
    ] = None
    until_ms: Annotated[
        int | None, Field(ge=0, le=2**62, description="Asked for before this time.")
    ] = None
    cursor: Cursor = None
    limit: Limit = 50


@router.get(
    "",
    operation_id="listCalls",
    summary="My calls, newest first",
    responses=problems(LOGGED_IN, BadCursor),
)
async def list_calls(
    backend: Ctx, caller: CallBooks, query: Annotated[CallQuery, Query()]
) -> CallPage:
    filters = query.model_dump_json(exclude={"cursor", "limit"})
    of = f"calls:{caller.address.lower()}:{filters}"
    before: tuple[int, str] | None = None
    if query.cursor is not None:
        at_ms, call_id = open_cursor(backend.seals, of, query.cursor)
        before = (int(at_ms), str(call_id))
    wanted = CallFilter(
        account=caller.address,
        app_id=query.app,
        provider=query.provider,
        key_id=query.key,
        state=query.state,
        from_ms=query.from_ms,
        until_ms=query.until_ms,
        before=before,
    )
    await backend.gateway.projected()
    async with backend.database.read() as session:
        found = await usage.newest_calls(session, wanted, query.limit + 1)
    shown = found[: query.limit]
    more = len(found) > query.limit
    last = [shown[-1].asked_at_ms, shown[-1].call_id] if more else []
    return CallPage(
        items=tuple(map(call_view, shown)),
        next_cursor=make_cursor(backend.seals, of, last) if more else None,
    )


@router.get(
    "/{call_id}/receipt",
    operation_id="getCallReceipt",
    summary="Everything to check a call by",
    description="The request, the provider's signed receipt, the one before it, the voucher that "
    "countersigned it, what the chain redeemed, and the app's prices. Nothing of it has to be "
    "believed: `tallystick receipt verify` checks it against the chain.",
    responses=problems(LOGGED_IN, UnknownCall, NoReceipt),
)
async def get_receipt(backend: Ctx, caller: CallBooks, call_id: CallIdPath) -> CallReceiptView:
    await backend.gateway.projected()
    async with backend.database.read() as session:
        row = await usage.call_of(session, call_id, caller.address)
        if row is None:
            raise UnknownCall(call_id)
        answer = call_bodies.answer_of(row)
        channel = await apps.channel(session, row.channel_id)
        paid_on = call_bodies.channel_of(backend.domain, row, channel)
        if answer is None or paid_on is None:
            raise NoReceipt(call_id, row.state)
        before = await _before(session, row, answer)
        later = await _later(session, row, answer)
        terms = await _terms(session, row)
        manifest = None
        if terms is not None:
            manifest = await usage.manifest_text(session, terms.version.manifest_digest)
        keys = await chain.operator_keys_of(session, paid_on.provider)
        cursor = await chain.cursor(session)
    return call_bodies.receipt_view(
        row,
        answer,
        backend.domain,
        paid_on,
        channel=channel,
        block=0 if cursor is None else cursor.block_number,
        before=before,
        later=later,
        app=terms,
        manifest=manifest,
        operator_keys=[key.key for key in keys],
    )


async def _before(session: AsyncSession, row: CallRow, answer: CallAnswerBody) -> CallRow | None:
    seq = answer.signed.receipt.seq
    return None if seq <= 1 else await usage.receipt_at(session, row.channel_id, seq - 1)


async def _later(session: AsyncSession, row: CallRow, answer: CallAnswerBody) -> Sequence[CallRow]:
    """Those up to the voucher's: it may pay for several at once."""
    if row.voucher is None:
        return ()
    total = int(row.voucher["voucher"]["total"])
    seq = answer.signed.receipt.seq
    if total == answer.signed.receipt.total:
        return ()
    return await usage.receipts_between(session, row.channel_id, seq, total, LONGEST_CHAIN)


async def _terms(session: AsyncSession, row: CallRow) -> AppTermsView | None:
    app = await apps.app(session, row.app_id)
    version = await apps.version(session, row.app_id, row.version)
    if app is None or version is None:
        return None
    prices = await apps.prices(session, row.app_id, version=row.version, limit=ALL)
    discounts = await apps.discounts(session, row.app_id, limit=ALL)
    return call_bodies.app_terms(app, version, prices, discounts)
