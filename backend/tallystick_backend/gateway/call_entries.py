"""What the journal gets of a call: one entry for each thing that happens to its row."""

from __future__ import annotations

from typing import Any, Final

from tallystick.protocol.call_codec import write_voucher
from tallystick.protocol.calls import CallRequest
from tallystick.protocol.channels import SignedVoucher
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.journal import Entry, Values
from tallystick_backend.gateway.orders import Live
from tallystick_backend.gateway.paying_end import Taken
from tallystick_backend.gateway.settings import GatewaySettings

KEPT_ANYWAY: Final = 64 * 1024
"""Inputs up to this size are written down with every call: with it a provider says its answer
again after a restart, and so is paid for it."""


class CallEntries:
    def __init__(self, clock: Clock, settings: GatewaySettings) -> None:
        self._clock = clock
        self._settings = settings

    def queued(self, live: Live) -> Entry:
        """Before anybody was asked."""
        live.recorded = True
        return Entry(insert=self._row(live, None, "", ""))

    def runs(self, live: Live, request: CallRequest, provider: str, channel: str) -> Entry:
        live.attempts += 1
        live.state = "running"
        if live.recorded:
            return Entry(update=lambda: self._running_values(live, request, provider, channel))
        live.recorded = True
        return Entry(insert=self._row(live, request, provider, channel))

    def _running_values(
        self, live: Live, request: CallRequest, provider: str, channel: str
    ) -> Values:
        return {
            "call_id": live.call_id,
            "state": "running",
            "provider": provider,
            "channel_id": channel,
            "attempts": live.attempts,
            **_priced(request),
        }

    def _row(self, live: Live, request: CallRequest | None, provider: str, channel: str) -> Values:
        order = live.order
        return {
            "call_id": live.call_id,
            "account": order.account.lower(),
            "key_id": order.key_id,
            "idempotency_key": order.idempotency_key,
            "request_hash": live.request_hash,
            "app_id": live.target.app_id,
            "version": live.target.version,
            "provider": provider,
            "gpu_class": live.target.gpu_class,
            "gpus": live.target.limits.gpus,
            "channel_id": channel,
            "state": "queued" if request is None else "running",
            "attempts": live.attempts,
            "asked_at_ms": live.asked_at_ms,
            **({} if request is None else _priced(request)),
            "input": order.input if live.keep or len(order.input) <= KEPT_ANYWAY else None,
            "media_type": order.media_type,
            "forget_at_ms": self._forget_at(live, live.asked_at_ms),
            "webhook_url": order.webhook_url,
            "warm_id": order.warm_id,
            "signer": order.signer,
        }

    def paid(self, live: Live, taken: Taken) -> Entry:
        now_ms = self._clock.now_ms()
        receipt, body = taken.answer.signed.receipt, taken.body
        reservation, live.reservation = live.reservation, None

        def values() -> Values:
            # Where the consumer signs, its voucher comes later and changes this row.
            voucher = taken.paying.end.voucher if taken.paying.is_lent else None
            return {
                "call_id": live.call_id,
                "state": "completed",
                "ended_at_ms": now_ms,
                "queued_ms": body.queued_ms,
                "cold_start_ms": body.cold_start_ms,
                "run_ms": receipt.ended_at_ms - receipt.started_at_ms,
                "gpu_ms": receipt.gpu_ms,
                "charge": taken.charge,
                "seq": receipt.seq,
                "total": taken.total,
                "input": None,
                "answer": taken.text.decode(),
                "voucher": None if voucher is None else write_voucher(voucher).decode(),
                "media_type": body.media_type,
                "result_bytes": len(taken.result),
                "result": taken.result if live.keep else None,
                "forget_at_ms": self._forget_at(live, now_ms),
                **_webhook(live, now_ms),
            }

        entry = Entry(update=values)
        if reservation is not None:
            row = reservation.spend(taken.charge, now_ms)
            entry.spend = lambda: row
        return entry

    def failed(self, live: Live, state: str, problem: dict[str, Any]) -> Entry:
        now_ms = self._clock.now_ms()
        values = self._over(live.call_id, state, now_ms, problem) | _webhook(live, now_ms)
        return Entry(update=lambda: values)

    def interrupted(self, call_id: str, problem: dict[str, Any]) -> Entry:
        """Of a call that nobody can take up again."""
        values = self._over(call_id, "failed", self._clock.now_ms(), problem)
        return Entry(update=lambda: values)

    def _over(self, call_id: str, state: str, now_ms: int, problem: dict[str, Any]) -> Values:
        return {
            "call_id": call_id,
            "state": state,
            "ended_at_ms": now_ms,
            "problem": problem,
            "input": None,
            # What failed is not remembered: the key may be used again.
            "idempotency_key": None,
        }

    def _forget_at(self, live: Live, now_ms: int) -> int | None:
        return now_ms + self._settings.result_hours * 3_600_000 if live.keep else None


def countersigned(call_id: str, signed: SignedVoucher) -> Entry:
    """By the consumer itself."""
    values: Values = {"call_id": call_id, "voucher": write_voucher(signed).decode()}
    return Entry(update=lambda: values)


def _priced(request: CallRequest) -> Values:
    price = request.price
    return {
        "flat": price.flat,
        "fee_per_call": price.fee_per_call,
        "rate_per_gpu_second": price.rate_per_gpu_second,
        "request": request.to_json().decode(),
    }


def _webhook(live: Live, now_ms: int) -> Values:
    if not live.order.webhook_url:
        return {}
    return {"webhook_state": "due", "webhook_at_ms": now_ms}
