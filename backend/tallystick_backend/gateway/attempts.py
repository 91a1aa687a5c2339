"""A call tried with one provider after another, until one answers or nobody is left.

    provider -> its channel, with money in it -> `PayingEnd.run`

What went wrong decides what is next: elsewhere, the same one again, another price, more money,
another channel, or the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from tallystick.protocol.call_bodies import WARM_SECONDS
from tallystick.protocol.calls import CallId, CallLimits, CallRequest, ceiling_up
from tallystick.protocol.errors import AmountError, QuoteError
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick_backend.clock import Clock
from tallystick_backend.errors import BackendError
from tallystick_backend.gateway.call_entries import CallEntries
from tallystick_backend.gateway.channels import Channels
from tallystick_backend.gateway.errors import (
    CallCanceled,
    CallStopped,
    CallTimedOut,
    ChannelsClosing,
    HandlerFailed,
    JournalFailed,
    MaxChargeTooLow,
    NoFunds,
    NoPrice,
    NoProvider,
    ProviderLost,
    ResultTooLarge,
)
from tallystick_backend.gateway.fleet import Fleet
from tallystick_backend.gateway.orders import Live
from tallystick_backend.gateway.own_channels import OwnChannels
from tallystick_backend.gateway.paying_end import (
    Asked,
    Closing,
    Elsewhere,
    NeedsFunds,
    NewChannel,
    ProviderGone,
    Refused,
    Reprice,
    ShowApp,
    Stale,
    Taken,
    TimeOver,
    Unsigned,
)
from tallystick_backend.gateway.routing import best
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.gateway.shelf import Shelf, Target
from tallystick_backend.gateway.spending import Spending

log = structlog.get_logger(__name__)

ATTEMPTS: Final = 16
REPRICED: Final = 4


class Attempts:
    def __init__(
        self,
        shelf: Shelf,
        fleet: Fleet,
        channels: Channels,
        own: OwnChannels,
        spending: Spending,
        entries: CallEntries,
        clock: Clock,
        settings: GatewaySettings,
    ) -> None:
        self._shelf = shelf
        self._fleet = fleet
        self._channels = channels
        self._own = own
        self._spending = spending
        self._entries = entries
        self._clock = clock
        self._settings = settings

    async def run(self, live: Live) -> Taken:
        order, settings = live.order, self._settings
        manifest = live.target.manifest
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + manifest.timeout_s + manifest.ready_timeout_s + settings.queue_s
        excluded: set[str] = set()
        shown: set[str] = set()
        repriced = 0
        last: BackendError | None = None
        only_funded = False
        for _ in range(ATTEMPTS):
            if live.canceled:
                raise CallCanceled()
            if loop.time() >= deadline_s:
                raise last or CallTimedOut("no provider answered in time")
            target = live.target
            request = self.price(live, target)
            ceiling = ceiling_up(request, target.limits)
            await self._reserve(live, ceiling)
            if order.is_warm:
                # The channel is for the calls that it waits for.
                longest = replace(request, max_seconds=target.limits.max_seconds)
                ceiling = ceiling_up(longest, target.limits)
            mine = await self._own.look(order.account, order.signer) if order.signer else None
            if mine is None:
                funded = self._channels.funded(order.account, ceiling)
            else:
                funded, only_funded = mine.funded(ceiling), True
            provider = await self._choose(
                target, excluded, funded, only_funded=only_funded, shows=mine is not None
            )
            if provider is None:
                if last is None and mine is not None:
                    last = mine.refusal(target.app_id, ceiling, self._serving(target))
                raise last or NoProvider(target.app_id, target.version, await self._why(target))
            try:
                if mine is None:
                    paying = await self._channels.paying(
                        order.account, provider, target.app_id, ceiling
                    )
                else:
                    paying = mine.pick(provider, ceiling)
            except NoFunds as failure:
                # Money that is in a channel already can still be spent.
                last, only_funded = failure, True
                excluded.add(provider)
                continue
            live.paying = paying
            live.request = request
            asked = Asked(
                request,
                target.limits,
                target.history,
                order.input,
                deadline_s,
                row=partial(self._entries.runs, live, request),
                paid=partial(self._entries.paid, live),
                stream=order.stream,
                on_piece=None if live.pieces is None else live.piece,
                media_type=order.media_type,
                patient=not manifest.safe_to_repeat,
            )
            run_ms: int | None = None
            self._fleet.began(provider, target)
            try:
                taken = await paying.run(asked)
                receipt = taken.answer.signed.receipt
                if not order.is_warm:
                    run_ms = receipt.ended_at_ms - receipt.started_at_ms
                return taken
            except Unsigned as unsigned:
                raise await self._own.due_first(paying, unsigned.voucher) from unsigned
            except NeedsFunds as need:
                if mine is not None:  # taken by another call of a moment ago
                    continue
                try:
                    await self._channels.top_up(paying, target.app_id, ceiling, need.missing)
                except NoFunds as failure:
                    last, only_funded = failure, True
                    excluded.add(provider)
            except Reprice as why:
                repriced += 1
                if repriced > REPRICED:
                    raise NoPrice(f"the provider {provider} has another price: {why}") from why
                live.target = await self._shelf.get(target.app_id, target.version, fresh=True)
            except NewChannel as why:
                log.warning("channel_dropped", channel=paying.channel_id, why=str(why))
                self._channels.drop(paying)
            except Stale:
                continue
            except ShowApp as why:
                last = NoProvider(target.app_id, target.version, str(why))
                if provider in shown or not await self._fleet.show_again(provider, target):
                    excluded.add(provider)
                shown.add(provider)
            except Closing as closing:
                last, only_funded = ChannelsClosing(closing.close_at_s), True
                excluded.add(provider)
            except ProviderGone as why:
                last = ProviderLost(provider)
                log.warning("provider_lost", provider=provider, call=live.call_id, why=str(why))
                excluded.add(provider)
                self._require_whole_stream(live, last)
            except Elsewhere as why:
                last = NoProvider(target.app_id, target.version, f"{provider} said {why}")
                excluded.add(provider)
                self._require_whole_stream(live, last)
            except Refused as refused:
                raise _outcome(refused) from refused
            except TimeOver as why:
                raise CallTimedOut(str(why)) from why
            except JournalFailed:
                self._channels.drop(paying)
                self._spending.forget(order.account)
                raise
            finally:
                self._fleet.ended(provider, target, run_ms)
                live.paying = None
        raise last or NoProvider(live.target.app_id, live.target.version, "too many attempts")

    async def _choose(
        self,
        target: Target,
        excluded: set[str],
        funded: Callable[[str], bool],
        *,
        only_funded: bool,
        shows: bool = False,
    ) -> str | None:
        """With `shows`, providers that have not seen the version are asked where none of those that
        are funded has."""
        seats = self._fleet.seats(target, excluded, funded)
        unseen = not any(seat.funded for seat in seats) if shows else not seats
        if unseen and (shows or not only_funded):
            await self._fleet.show(target, excluded)
            seats = self._fleet.seats(target, excluded, funded)
        if only_funded:
            seats = [seat for seat in seats if seat.funded]
        chosen = best(seats)
        return None if chosen is None else chosen.provider

    def _serving(self, target: Target) -> list[str]:
        return sorted(seat.provider for seat in self._fleet.seats(target, (), lambda _: False))

    async def _why(self, target: Target) -> str:
        return await self._fleet.show(target)

    def price(self, live: Live, target: Target) -> CallRequest:
        try:
            price = target.history.price_for(self._clock.now_ms(), version=target.version)
        except QuoteError as failure:
            raise NoPrice(str(failure)) from failure
        try:
            seconds = _seconds_down(price, target.limits, live.order.max_charge)
            if live.order.is_warm:
                seconds = min(seconds, WARM_SECONDS)
        except AmountError as failure:
            raise NoPrice(str(failure)) from failure
        return CallRequest(
            CallId(live.call_id), target.app_id, target.version, price, seconds, live.input_digest
        )

    async def _reserve(self, live: Live, ceiling: int) -> None:
        held = live.reservation
        if held is not None and held.ceiling == ceiling:
            return
        if held is not None:
            held.release()
            live.reservation = None
        live.reservation = await self._spending.reserve(
            live.order.account, live.order.key_id, live.target.app_id, ceiling
        )

    def _require_whole_stream(self, live: Live, failure: CallStopped) -> None:
        """Pieces that were passed on cannot be taken back, so such a call is not repeated."""
        if live.streaming:
            raise failure


def _outcome(refused: Refused) -> CallStopped:
    match refused.code:
        case "timed_out":
            return CallTimedOut(refused.detail or "the call ran longer than its version allows")
        case "too_large":
            return ResultTooLarge(refused.detail or "the result is larger than allowed")
        case _:
            return HandlerFailed(refused.detail or "the app's handler failed")


def _seconds_down(price: Price, limits: CallLimits, max_charge: int | None) -> int:
    """The longest that a call may run within `max_charge`."""
    if max_charge is None or max_charge_up(price, limits.gpus, limits.max_seconds) <= max_charge:
        return limits.max_seconds
    least = max_charge_up(price, limits.gpus, 1)
    if least > max_charge:
        raise MaxChargeTooLow(max_charge, least)
    low, high = 1, limits.max_seconds
    while high - low > 1:
        middle = (low + high) // 2
        if max_charge_up(price, limits.gpus, middle) <= max_charge:
            low = middle
        else:
            high = middle
    return low
