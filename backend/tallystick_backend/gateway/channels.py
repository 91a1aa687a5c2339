"""Which channel a payer's calls to a provider go over: found in the rows, rebuilt from the journal,
opened and topped up when there is money for it.

A channel whose close was requested is used no more until the close is taken back; one that was
abandoned is followed by another under a new salt. Nothing here is remembered against a payer: the
next call looks again, so that a top-up is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

from tallystick.protocol.call_journal import PayingCheckpoint
from tallystick.protocol.calls import Sign
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.errors import ChannelAbandoned
from tallystick.protocol.messages import Channel, Domain, channel_id
from tallystick.protocol.paying import PayingChannel
from tallystick.protocol.types import Address, to_address
from tallystick_backend.clock import Clock
from tallystick_backend.gateway.bus import CallBus
from tallystick_backend.gateway.errors import ChainInDoubt, ChannelsClosing, GatewayNotReady
from tallystick_backend.gateway.fleet import Fleet
from tallystick_backend.gateway.funding import Funds
from tallystick_backend.gateway.journal import Entry, Journal
from tallystick_backend.gateway.keys import SessionKey, SessionKeys
from tallystick_backend.gateway.paying_end import PayingEnd
from tallystick_backend.gateway.projection import checkpoint_of
from tallystick_backend.gateway.refills import Refills
from tallystick_backend.gateway.settings import GatewaySettings
from tallystick_backend.store.repositories import calls, chain
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import ChannelRow

log = structlog.get_logger(__name__)

T = TypeVar("T")
Pair = tuple[str, str]
"""Payer and provider, in lower case."""

RESAID_CHANNELS = 200
"""So many used last may have had a voucher under way when the process ended."""
LOOK_EVERY_S = 0.05


class Channels:
    def __init__(
        self,
        database: Database,
        bus: CallBus,
        journal: Journal,
        keys: SessionKeys,
        funds: Funds,
        fleet: Fleet,
        clock: Clock,
        settings: GatewaySettings,
        domain: Domain,
    ) -> None:
        self._database = database
        self._bus = bus
        self._journal = journal
        self._keys = keys
        self._funds = funds
        self._fleet = fleet
        self._clock = clock
        self._settings = settings
        self._domain = domain
        self._ends: dict[str, PayingEnd] = {}
        self._current: dict[Pair, PayingEnd] = {}
        self._busy: dict[Pair, asyncio.Task[Any]] = {}
        self._refills = Refills(self._refill, clock, settings)
        self._block = ""
        self._doubt: str | None = None

    def require_trust(self) -> None:
        """Raises `ChainInDoubt` while what the rows say of the chain is not to be relied on."""
        if self._doubt is not None:
            raise ChainInDoubt(self._doubt)

    @property
    def ends(self) -> dict[str, PayingEnd]:
        return self._ends

    def funded(self, account: str, ceiling: int) -> Callable[[str], bool]:
        """Whether a call of this payer could go to a provider as things stand."""
        payer = account.lower()

        def is_funded(provider: str) -> bool:
            paying = self._current.get((payer, provider))
            return (
                paying is not None
                and paying.usable
                and not paying.closing_told
                and not paying.end.chain.close_at
                and paying.end.balance >= ceiling
            )

        return is_funded

    async def paying(self, account: str, provider: str, app_id: str, ceiling: int) -> PayingEnd:
        """Raises `NoFunds` or `GatewayNotReady`."""
        self.require_trust()
        pair = (account.lower(), provider.lower())
        paying = self._current.get(pair)
        if paying is None or not paying.usable:
            paying = await self._alone(pair, lambda: self._find(pair, app_id, ceiling))
        paying.set_credit(self._fleet.member(provider).credit_calls)
        self._refills.consider(paying, app_id, ceiling)
        return paying

    async def top_up(self, paying: PayingEnd, app_id: str, ceiling: int, missing: int) -> None:
        pair = (paying.channel.payer.lower(), paying.provider)

        async def add() -> PayingEnd:
            # Whoever came first may have brought enough for all; the payer, too.
            await self._look([paying])
            if paying.end.balance < ceiling or ceiling == 0:
                await self._fund(paying.channel, paying.end.chain, app_id, ceiling, missing)
                await self._look([paying])
            return paying

        await self._alone(pair, add)

    async def _refill(self, paying: PayingEnd, app_id: str, ceiling: int, low: int) -> None:
        """Raises what `top_up` does; for a call that needs it meanwhile it is one and the same."""
        pair = (paying.channel.payer.lower(), paying.provider)

        async def add() -> PayingEnd:
            await self._look([paying])
            end = paying.end
            if end.balance < low and not end.chain.close_at and paying.usable:
                await self._fund(paying.channel, end.chain, app_id, ceiling, ceiling)
                await self._look([paying])
            return paying

        await self._alone(pair, add)

    def drop(self, paying: PayingEnd) -> None:
        """It signs nothing more; the next call finds or opens another."""
        pair = (paying.channel.payer.lower(), paying.provider)
        if self._current.get(pair) is paying:
            del self._current[pair]
        if paying.stream.broken:
            self._ends.pop(paying.channel_id, None)
            paying.close()

    def provider_lost(self, provider: str) -> None:
        for paying in self._ends.values():
            if paying.provider == provider.lower():
                paying.provider_lost()

    async def restore(self, in_use: set[str]) -> None:
        """After a restart: channels with calls under way, and those whose last voucher may not have
        left; it is said again."""
        async with self._database.read() as session:
            recent = await calls.channels_used_last(session, RESAID_CHANNELS)
        for name in sorted(in_use | set(recent)):
            paying = await self._restored(name)
            if paying is not None:
                with contextlib.suppress(GatewayNotReady):
                    await paying.tell_voucher()

    async def close(self) -> None:
        ending = [message for paying in self._ends.values() for message in paying.close()]
        await asyncio.gather(*ending, return_exceptions=True)

    async def tell_vouchers(self) -> None:
        """At the end: what waited for a next request."""
        with contextlib.suppress(GatewayNotReady):
            for paying in list(self._ends.values()):
                await paying.tell_voucher()

    async def watch(self, stop: asyncio.Event) -> None:
        """Keeps every channel's view of the chain as the index has it."""
        while not stop.is_set():
            try:
                await self._watch_once()
            except Exception:
                log.exception("channels_not_looked_at")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._settings.chain_poll_s)

    async def _watch_once(self) -> None:
        async with self._database.read() as session:
            cursor = await chain.cursor(session)
            self._doubt = await chain.doubt(session)
        block = "" if cursor is None else cursor.block_hash
        if block != self._block:
            await self._look(list(self._ends.values()))
            self._block = block

    # --- finding one --------------------------------------------------------------------------

    async def _find(self, pair: Pair, app_id: str, ceiling: int) -> PayingEnd:
        payer, provider = pair
        current = self._current.get(pair)
        if current is not None and current.usable:
            return current
        key = await self._keys.of(payer)
        async with self._database.read() as session:
            rows = await calls.channels_between(session, payer, key.signer, provider)
        closing_at_s = 0
        usable: list[PayingEnd] = []
        for row in rows:
            paying = await self.from_row(row, key.sign)
            if paying is None or not paying.usable:
                continue
            if row.close_at_s:
                closing_at_s = row.close_at_s
                continue
            usable.append(paying)
        if usable:
            paying = next((one for one in usable if one.end.balance >= ceiling), usable[0])
        elif closing_at_s:
            raise ChannelsClosing(closing_at_s)
        else:
            paying = await self._open(key, to_address(payer), to_address(provider), app_id, ceiling)
        self._current[pair] = paying
        return paying

    async def _open(
        self, key: SessionKey, payer: Address, provider: Address, app_id: str, ceiling: int
    ) -> PayingEnd:
        channel = Channel(payer, key.signer, provider, secrets.randbits(96))
        chain_state = await self._fund(channel, ChannelState(0, 0, 0), app_id, ceiling, ceiling)
        log.info("channel_opened", payer=payer, provider=provider)
        return await self._begin(channel, chain_state, key.sign)

    async def _fund(
        self, channel: Channel, before: ChannelState, app_id: str, ceiling: int, least: int
    ) -> ChannelState:
        """The channel as the index has it once the money is there."""
        async with self._database.read() as session:
            self._doubt = await chain.doubt(session)
        self.require_trust()
        key = await self._key_of(channel)
        wanted = max(1, least, ceiling * self._settings.channel_calls)
        amount = await self._funds.fund(key, channel, app_id, max(1, least), wanted)
        channel_key = channel_id(channel)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._settings.fund_wait_s
        while loop.time() < until_s:
            async with self._database.read() as session:
                row = (await calls.channels_by_id(session, [channel_key])).get(channel_key)
            if row is not None and row.deposited >= before.deposited + amount:
                return _state(row)
            await asyncio.sleep(LOOK_EVERY_S)
        raise GatewayNotReady(
            "the channel was funded and the index has not seen it yet",
            next_step="Try again shortly; the money is in the channel.",
        )

    async def _key_of(self, channel: Channel) -> SessionKey:
        key = await self._keys.by_signer(channel.signer)
        if key is None:
            raise GatewayNotReady(f"the session key {channel.signer} is not in this database")
        return key

    # --- making one ---------------------------------------------------------------------------

    async def from_row(self, row: ChannelRow, sign: Sign | None) -> PayingEnd | None:
        """One at a time for a channel; None for one that cannot be used. Without `sign` its
        consumer signs."""
        known = self._ends.get(row.channel_id)
        if known is not None and not known.stream.broken:
            known.observe(_state(row))
            return known
        channel = Channel(
            to_address(row.payer), to_address(row.signer), to_address(row.provider), row.salt
        )
        await self._journal.projected()
        async with self._database.read() as session:
            written = await calls.paying_channel(session, row.channel_id)
        if written is not None:
            checkpoint = checkpoint_of(written.state)
            return None if checkpoint is None else self._rebuild(checkpoint, _state(row), sign)
        try:
            return await self._begin(channel, _state(row), sign)
        except ChannelAbandoned as why:
            log.warning("channel_not_ours", channel=row.channel_id, why=str(why))
            return None

    async def _restored(self, name: str) -> PayingEnd | None:
        if name in self._ends:
            return self._ends[name]
        async with self._database.read() as session:
            written = await calls.paying_channel(session, name)
            row = (await calls.channels_by_id(session, [name])).get(name)
        checkpoint = None if written is None else checkpoint_of(written.state)
        if checkpoint is None:
            return None
        # Without a key of ours the consumer has it: nothing is signed here.
        key = await self._keys.by_signer(checkpoint.channel.signer)
        return self._rebuild(checkpoint, _state(row), None if key is None else key.sign)

    def _rebuild(
        self, checkpoint: PayingCheckpoint, state: ChannelState, sign: Sign | None
    ) -> PayingEnd:
        step = PayingChannel.rebuilt(self._domain, state, (checkpoint,))
        paying = self._keep(step.channel, sign)
        if step.records:
            self._journal.post(Entry(paying.stream, step.records))
        # The end before this one may have been dropped while its last voucher waited to leave.
        paying.tell_soon()
        return paying

    async def _begin(self, channel: Channel, state: ChannelState, sign: Sign | None) -> PayingEnd:
        step = PayingChannel.opened(
            self._domain, channel, state, now_s=self._clock.now_ms() // 1000
        )
        paying = self._keep(step.channel, sign)
        await self._journal.write(Entry(paying.stream, step.records))
        return paying

    def _keep(self, end: PayingChannel, sign: Sign | None) -> PayingEnd:
        provider = end.channel.provider
        paying = PayingEnd(
            end,
            sign,
            self._bus,
            self._journal,
            self._clock,
            self._settings,
            lambda: self._fleet.member(provider).operator_keys,
        )
        paying.set_credit(self._fleet.member(provider).credit_calls)
        self._ends[paying.channel_id] = paying
        return paying

    # --- parts --------------------------------------------------------------------------------

    async def _look(self, ends: list[PayingEnd]) -> None:
        async with self._database.read() as session:
            rows = await calls.channels_by_id(session, [paying.channel_id for paying in ends])
        for paying in ends:
            paying.observe(_state(rows.get(paying.channel_id)))

    async def _alone(
        self, pair: Pair, work: Callable[[], Coroutine[Any, Any, PayingEnd]]
    ) -> PayingEnd:
        """One at a time for a payer and a provider; a caller that leaves stops nobody else's."""
        while (running := self._busy.get(pair)) is not None:
            await asyncio.wait({running})
        task = asyncio.create_task(work())
        self._busy[pair] = task

        def ended(done: asyncio.Task[PayingEnd]) -> None:
            self._busy.pop(pair, None)
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)
        return await asyncio.shield(task)


def _state(row: ChannelRow | None) -> ChannelState:
    """A channel that no block has any more is empty."""
    if row is None:
        return ChannelState(0, 0, 0)
    return ChannelState(row.deposited, row.claimed, row.close_at_s or 0)
