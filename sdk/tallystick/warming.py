"""Apps that are kept warm, and what that costs: the gateway sends them a call with no work in it
now and then, at the app's price."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tallystick import apps as registry
from tallystick.errors import InvalidRequest
from tallystick.prices import Duration, Price, duration_seconds
from tallystick.protocol.call_views import KeepWarmList, KeepWarmView, WantedWarm

if TYPE_CHECKING:
    from tallystick.session import Session

LONGEST_S: Final = 31 * 86_400
LONGEST_PAUSE_S: Final = 86_400


async def keep_warm(
    session: Session,
    app: str,
    time: Duration,
    max_per_hour: Price,
    *,
    version: int | None,
    every: Duration | None,
    dry_run: bool,
) -> KeepWarmView:
    wanted = WantedWarm(
        app_id=await registry.find(session, app),
        version=version,
        until_ms=(session.now_s + duration_seconds(time, LONGEST_S)) * 1000,
        every_seconds=None if every is None else duration_seconds(every, LONGEST_PAUSE_S),
        max_charge_per_hour=await session.units(max_per_hour),
        dry_run=dry_run,
    )
    return await session.connection.post("/v1/keep-warm", wanted, KeepWarmView)


async def warm_list(session: Session) -> tuple[KeepWarmView, ...]:
    return (await session.connection.get("/v1/keep-warm", KeepWarmList)).items


async def stop_warm(session: Session, warm_id: str) -> KeepWarmView:
    if not re.fullmatch(r"[0-9a-f]{16}", warm_id):
        raise InvalidRequest(
            f"{warm_id[:80]!r} is no id of something kept warm.",
            next_step="`tallystick app warm list` shows them.",
        )
    return await session.connection.delete_for(f"/v1/keep-warm/{warm_id}", KeepWarmView)
