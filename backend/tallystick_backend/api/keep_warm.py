"""Apps that are kept warm for somebody, and what that costs. The gateway makes the calls."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Body, Path, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.call_views import (
    KeepWarmList,
    KeepWarmView,
    WantedWarm,
    WarmFailure,
)
from tallystick_backend.api.callers import CallReader, CallWriter
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.examples import KEEP_WARM
from tallystick_backend.api.problems import LOGGED_IN, WRITES, problems
from tallystick_backend.api.refusals import (
    KeepWarmRefused,
    KeptWarmAlready,
    UnknownApp,
    UnknownKeepWarm,
    UnknownVersion,
)
from tallystick_backend.api.writes import IdempotencyKey, Request, once
from tallystick_backend.gateway import errors as gateway
from tallystick_backend.gateway import warming
from tallystick_backend.gateway.shelf import Target, UnknownTarget
from tallystick_backend.gateway.warming import WarmPrice
from tallystick_backend.store.repositories import calls
from tallystick_backend.store.tables import KeepWarmRow

router = APIRouter(prefix="/v1/keep-warm", tags=["calls"])

LONGEST_DAYS: Final = 31
_DAY_MS: Final = 86_400_000
MOST_ON: Final = 32
LISTED: Final = 200

WarmId = Annotated[
    str, Path(alias="warm_id", pattern=r"^[0-9a-f]{16}$", examples=["5f1d7c20a9b34e68"])
]


@router.post(
    "",
    operation_id="keepWarm",
    summary="Keep an app warm, or ask what that costs",
    description="Until a time, the gateway sends the app a call with no work in it now and then: "
    "a worker is started if none is up, asked whether it is ready, and kept. It is a call of yours "
    "like any other, with a receipt, at the app's price, within your allowance and your limits; a "
    "cold start is not charged. None is made while your own calls keep the app warm, and none that "
    "could take more than `max_charge_per_hour`. With `dry_run` only the price is answered (200).",
    status_code=201,
    responses={
        200: {"description": "The price, of a `dry_run`", "model": KeepWarmView},
        **problems(
            WRITES,
            UnknownApp,
            UnknownVersion,
            KeepWarmRefused,
            KeptWarmAlready,
            gateway.ManifestMissing,
            gateway.NoPrice,
        ),
    },
)
async def keep_warm(
    backend: Ctx,
    caller: CallWriter,
    response: Response,
    body: Annotated[WantedWarm, Body(examples=[KEEP_WARM])],
    idempotency_key: IdempotencyKey = None,
) -> KeepWarmView:
    target = await _target(backend, body.app_id, body.version)
    now_ms = backend.clock.now_ms()
    row = _row(body, target, caller.address, caller.key_id, now_ms)
    price = warming.warm_price(target, now_ms, row.every_s, None)
    if body.dry_run:
        response.status_code = 200
        return _view(row.model_copy(update={"id": "", "state": "quoted"}), target, price, now_ms)
    least = warming.least_charge_up(target, now_ms)
    if body.max_charge_per_hour < least:
        raise KeepWarmRefused(
            f"one call may cost {least}, and max_charge_per_hour is {body.max_charge_per_hour}"
        )

    async def work(session: AsyncSession) -> KeepWarmView:
        assert row.wish is not None
        there = await calls.warm_by_wish(session, row.wish)
        if there is not None:
            raise KeptWarmAlready(body.app_id, there.id)
        if await calls.warm_on(session, row.account) >= MOST_ON:
            raise KeepWarmRefused(f"you keep {MOST_ON} apps warm, the most allowed")
        session.add(KeepWarmRow(**row.model_dump()))
        await session.flush()
        return _view(row, target, price, now_ms)

    request = Request(caller.address, idempotency_key, "keepWarm", body)
    view = await once(backend, request, response, KeepWarmView, work)
    backend.gateway.warm_due.set()
    return view


@router.get(
    "",
    operation_id="listKeepWarm",
    summary="What I keep warm, at what price, and what it cost so far",
    description="Those that are on first, then the newest that are over.",
    responses=problems(LOGGED_IN),
)
async def list_keep_warm(backend: Ctx, caller: CallReader) -> KeepWarmList:
    async with backend.database.read() as session:
        rows = await calls.warm_of(session, caller.address, LISTED)
    return KeepWarmList(items=tuple([await _shown(backend, row) for row in rows]))


@router.delete(
    "/{warm_id}",
    operation_id="stopKeepWarm",
    summary="Keep it warm no longer",
    description="At once; a call under way is still answered and paid. What is over stays over.",
    responses=problems(WRITES, UnknownKeepWarm),
)
async def stop_keep_warm(
    backend: Ctx,
    caller: CallWriter,
    response: Response,
    warm_id: WarmId,
    idempotency_key: IdempotencyKey = None,
) -> KeepWarmView:
    async with backend.database.read() as session:
        row = await calls.warm(session, warm_id)
    if row is None or row.account != caller.address.lower():
        raise UnknownKeepWarm(warm_id)
    target, price = await _terms(backend, row)

    async def work(session: AsyncSession) -> KeepWarmView:
        now_ms = backend.clock.now_ms()
        found = await calls.warm(session, warm_id)
        if found is None:
            raise UnknownKeepWarm(warm_id)
        if found.ended_at_ms is None:
            warming.end(found, "stopped", now_ms)
            session.add(found)
        return _view(found, target, price, now_ms)

    request = Request(caller.address, idempotency_key, "stopKeepWarm", warm_id)
    view = await once(backend, request, response, KeepWarmView, work)
    backend.gateway.warm_due.set()
    return view


async def _target(backend: Backend, app_id: str, version: int | None) -> Target:
    try:
        return await backend.gateway.shelf.get(app_id, version)
    except UnknownTarget as unknown:
        if unknown.latest:
            raise UnknownVersion(app_id, unknown.latest, unknown.version) from None
        raise UnknownApp(app_id) from None


def _row(wanted: WantedWarm, target: Target, account: str, key_id: str, now_ms: int) -> KeepWarmRow:
    manifest = target.manifest
    kept_s = warming.kept_s(manifest)
    if kept_s < 2:
        raise KeepWarmRefused(
            f"this app's workers stop after {kept_s} s without a call: no calls keep one"
        )
    if not now_ms < wanted.until_ms <= now_ms + LONGEST_DAYS * _DAY_MS:
        raise KeepWarmRefused(
            f"the time in until_ms is {wanted.until_ms}: name one within {LONGEST_DAYS} days after "
            f"{now_ms}"
        )
    least_s = warming.least_every_s(manifest)
    every_s = wanted.every_seconds or warming.usual_every_s(manifest)
    if not least_s <= every_s < kept_s:
        raise KeepWarmRefused(
            f"a call every {every_s} s does not fit this app: it takes {least_s} s or more, and "
            f"after {kept_s} s its worker would be gone"
        )
    version = wanted.version or 0
    return KeepWarmRow(
        id=secrets.token_hex(8),
        account=account.lower(),
        key_id=key_id,
        app_id=wanted.app_id,
        version=version,
        wish=warming.wish_of(account, wanted.app_id, version),
        every_s=every_s,
        max_per_hour=wanted.max_charge_per_hour,
        until_ms=wanted.until_ms,
        created_at_ms=now_ms,
        next_at_ms=now_ms,
    )


async def _shown(backend: Backend, row: KeepWarmRow) -> KeepWarmView:
    target, price = await _terms(backend, row)
    return _view(row, target, price, backend.clock.now_ms())


async def _terms(backend: Backend, row: KeepWarmRow) -> tuple[Target | None, WarmPrice | None]:
    """None of a version that cannot be called now."""
    try:
        target = await backend.gateway.shelf.get(row.app_id, row.version or None)
    except (UnknownTarget, gateway.ManifestMissing):
        return None, None
    try:
        now_ms = backend.clock.now_ms()
        return target, warming.warm_price(target, now_ms, row.every_s, row.run_ms)
    except gateway.NoPrice:
        return target, None


def _view(
    row: KeepWarmRow, target: Target | None, price: WarmPrice | None, now_ms: int
) -> KeepWarmView:
    problem = row.problem or {}
    return KeepWarmView.model_validate(
        {
            "id": row.id,
            "app_id": row.app_id,
            "version": row.version or None,
            "state": row.state,
            "every_seconds": row.every_s,
            "until_ms": row.until_ms,
            "cooldown_seconds": 0 if target is None else target.manifest.scaling.cooldown_s,
            "calls_per_hour": 3600 // row.every_s,
            "run_ms": warming.EXPECTED_RUN_MS if row.run_ms is None else row.run_ms,
            "charge_per_call": None if price is None else price.charge,
            "most_per_call": None if price is None else price.most,
            "charge_per_hour": None if price is None else price.per_hour,
            "most_per_hour": None if price is None else price.most_per_hour(row.max_per_hour),
            "max_charge_per_hour": row.max_per_hour,
            "spent": row.spent,
            "spent_this_hour": warming.hour_spent(row, now_ms),
            "calls": row.calls,
            "skipped": row.skipped,
            "next_at_ms": None if row.ended_at_ms is not None else row.next_at_ms,
            "last_call_id": row.last_call_id,
            "failure": None
            if row.failed_at_ms is None
            else WarmFailure(
                code=str(problem.get("code", "")),
                detail=str(problem.get("detail", "")),
                at_ms=row.failed_at_ms,
            ),
            "created_at_ms": row.created_at_ms,
            "ended_at_ms": row.ended_at_ms,
        }
    )
