"""A call's row as its caller sees it. Pure.

The gateway shows it (`GET /v1/calls/{id}`, the 202 of a call that is answered later), and so does
the API in its lists.
"""

from __future__ import annotations

from typing import get_args

from tallystick.protocol.call_views import CallState, CallView, WebhookState
from tallystick.protocol.types import to_address
from tallystick.protocol.wire import AppPriceBody
from tallystick_backend.store.tables import CallRow

CALL_STATES: tuple[CallState, ...] = get_args(CallState)
WEBHOOK_STATES: tuple[WebhookState, ...] = get_args(WebhookState)


def call_view(row: CallRow) -> CallView:
    return CallView(
        call_id=row.call_id,
        state=_state(row),
        app_id=row.app_id,
        version=row.version,
        provider=to_address(row.provider) if row.provider else "",
        gpu_class=row.gpu_class,
        gpus=row.gpus,
        key_id=row.key_id,
        warm=row.warm_id is not None,
        attempts=row.attempts,
        asked_at_ms=row.asked_at_ms,
        ended_at_ms=row.ended_at_ms,
        queued_ms=row.queued_ms,
        cold_start_ms=row.cold_start_ms,
        run_ms=row.run_ms,
        gpu_ms=row.gpu_ms,
        price=AppPriceBody(
            flat=row.flat,
            fee_per_call=row.fee_per_call,
            rate_per_gpu_second=row.rate_per_gpu_second,
        ),
        charge=row.charge,
        total=row.total,
        channel_id=row.channel_id,
        seq=row.seq,
        media_type=row.media_type,
        result_bytes=row.result_bytes,
        result=None if row.result is None else f"/v1/calls/{row.call_id}/result",
        webhook_state=_webhook_state(row),
        problem=row.problem,
    )


def _state(row: CallRow) -> CallState:
    for state in CALL_STATES:
        if state == row.state:
            return state
    raise ValueError(f"call {row.call_id} is in no state {row.state!r}")


def _webhook_state(row: CallRow) -> WebhookState:
    for state in WEBHOOK_STATES:
        if state == row.webhook_state:
            return state
    raise ValueError(f"call {row.call_id} has a webhook in no state {row.webhook_state!r}")
