"""The most that calls may cost. A limit is set by the wallet's log-in alone: a key that may spend
cannot raise what it may spend. The gateway holds to it."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.call_views import SpendLimitBody, SpendLimitList, WantedLimit
from tallystick_backend.access import UnknownKey
from tallystick_backend.api import call_bodies
from tallystick_backend.api.callers import CallBooks, Wallet
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.examples import SPEND_LIMIT
from tallystick_backend.api.problems import LOGGED_IN, WRITES, problems
from tallystick_backend.api.refusals import LimitSubjectRefused, UnknownApp, UnknownLimit
from tallystick_backend.api.schemas import Nothing
from tallystick_backend.api.writes import IdempotencyKey, Request, once
from tallystick_backend.store.repositories import access, apps, usage
from tallystick_backend.store.tables import SpendLimitRow

router = APIRouter(prefix="/v1/spend-limits", tags=["calls"])

_DAY_MS = 86_400_000

LimitId = Annotated[
    str, Path(alias="limit_id", pattern=r"^[0-9a-f]{16}$", examples=["5f1d7c20a9b34e68"])
]


@router.get(
    "",
    operation_id="listSpendLimits",
    summary="My limits, and what was spent of each",
    responses=problems(LOGGED_IN),
)
async def list_limits(backend: Ctx, caller: CallBooks) -> SpendLimitList:
    await backend.gateway.projected()
    async with backend.database.read() as session:
        rows = await usage.limits_of(session, caller.address)
        items = [await _body(backend, session, row) for row in rows]
    return SpendLimitList(items=tuple(items))


@router.put(
    "",
    operation_id="setSpendLimit",
    summary="Set a limit, or change one",
    description="There is one for each scope, subject and period. A call that could take more than "
    "is left of any of them is refused before it starts. A limit of 0 lets nothing through that "
    "costs anything.",
    responses=problems(WRITES, UnknownKey, UnknownApp, LimitSubjectRefused),
)
async def set_limit(
    backend: Ctx,
    caller: Wallet,
    response: Response,
    body: Annotated[WantedLimit, Body(examples=[SPEND_LIMIT])],
    idempotency_key: IdempotencyKey = None,
) -> SpendLimitBody:
    async def work(session: AsyncSession) -> SpendLimitBody:
        await _require_subject(session, body, caller.address)
        row = await usage.set_limit(
            session,
            SpendLimitRow(
                id=secrets.token_hex(8),
                account=caller.address.lower(),
                scope=body.scope,
                subject=body.subject,
                period=body.period,
                limit_units=body.limit,
                created_at_ms=backend.clock.now_ms(),
            ),
        )
        return await _body(backend, session, row)

    request = Request(caller.address, idempotency_key, "setSpendLimit", body)
    return await once(backend, request, response, SpendLimitBody, work)


@router.delete(
    "/{limit_id}",
    operation_id="removeSpendLimit",
    summary="Remove a limit",
    status_code=204,
    responses=problems(WRITES, UnknownLimit),
)
async def remove_limit(
    backend: Ctx,
    caller: Wallet,
    response: Response,
    limit_id: LimitId,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    async def work(session: AsyncSession) -> Nothing:
        if not await usage.remove_limit(session, limit_id, caller.address):
            raise UnknownLimit(limit_id)
        return Nothing()

    request = Request(caller.address, idempotency_key, "removeSpendLimit", limit_id)
    await once(backend, request, response, Nothing, work)
    return Response(status_code=204, headers=dict(response.headers))


async def _require_subject(session: AsyncSession, wanted: WantedLimit, account: str) -> None:
    match wanted.scope:
        case "workspace":
            if wanted.subject:
                raise LimitSubjectRefused("the workspace's limit has no subject")
        case "key":
            keys = await access.api_keys_of(session, account)
            if wanted.subject not in {key.id for key in keys}:
                raise UnknownKey(wanted.subject)
        case "app":
            if await apps.app(session, wanted.subject) is None:
                raise UnknownApp(wanted.subject)


async def _body(backend: Backend, session: AsyncSession, row: SpendLimitRow) -> SpendLimitBody:
    if row.period == "call":
        return call_bodies.spend_limit_body(row, None)
    today = backend.clock.now_ms() // _DAY_MS
    used = await usage.spent(
        session,
        row.account,
        scope=row.scope,
        subject=row.subject,
        from_day=today if row.period == "day" else 0,
    )
    return call_bodies.spend_limit_body(row, used)
