"""The provider's end of every channel, as `protocol.serving` keeps it, and its journal.

A transition is put in place at once and written down before its reply is sent: nothing waits
between reading a channel and putting its next state, so calls of one channel never overtake each
other. What was read from the journal is looked at on chain before it serves again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, cast

import structlog

from tallystick.protocol import call_journal
from tallystick.protocol.call_journal import (
    Abandoned,
    Opened,
    ServingCheckpoint,
    ServingRecord,
    VoucherTaken,
)
from tallystick.protocol.channels import ChannelState, SignedVoucher
from tallystick.protocol.errors import ChannelAbandoned, ProtocolError
from tallystick.protocol.messages import Channel, Domain, channel_id, channel_of
from tallystick.protocol.serving import Go, Refusal, ServingChannel, ServingStep
from tallystick.protocol.types import Digest
from tallystick_provider.calls.journal import CallJournal, Entry, KeptResult
from tallystick_provider.clock import Clock
from tallystick_provider.errors import ProviderError

UNREAD = ChannelState(0, 0, 0)
"""Of a channel that was not looked at on chain yet: it covers no call."""
NOT_WHOLE = "the provider's journal of this channel is not whole"

log = structlog.get_logger()


class ChannelSource(Protocol):
    """What is asked of the chain; `follow.ChainView` answers."""

    async def channel(self, channel: Channel) -> ChannelState: ...

    async def funded_at_s(self, channel: Channel) -> int | None: ...


class ChannelRefused(ProviderError):
    """Carries the refusal for a channel that there is no end of."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Channels:
    def __init__(
        self,
        domain: Domain,
        journal: CallJournal,
        source: ChannelSource,
        clock: Clock,
        *,
        credit_calls: int,
    ) -> None:
        self._domain = domain
        self._journal = journal
        self._source = source
        self._clock = clock
        self._credit_calls = credit_calls
        self._ends: dict[Digest, ServingChannel] = {}
        self._unread: set[Digest] = set()
        self._of_payer: dict[tuple[str, int], set[Digest]] = {}
        self._locks: dict[Digest, asyncio.Lock] = {}

    # --- what there is ----------------------------------------------------------------------

    def load(self) -> None:
        """All channels of the journal. One that is not whole makes all of them suspect: whoever cut
        it may have cut others, so the journal begins anew."""
        kept = self._journal.read()
        whole = kept.whole
        for channel, lines in kept.lines.items():
            try:
                whole &= self._load(channel, lines, since_s=0)
            except ProtocolError as problem:
                log.error("channel_not_readable", channel=channel, why=str(problem))
                whole = False
        if not whole:
            self._journal.begin_anew(self._clock.now_ms() // 1000 + 1)
        since_s = self._journal.since_s
        for channel, end in list(self._ends.items()):
            if end.opened_at_s < since_s and not end.abandoned:
                self._load(channel, kept.lines[channel], since_s=since_s)
        self._journal.take_checkpoints(self._checkpoint_of)

    def _load(self, channel: Digest, lines: Sequence[bytes], *, since_s: int) -> bool:
        """Whether its records are whole."""
        records: list[ServingRecord] = []
        whole = True
        try:
            for line in lines:
                records.append(cast(ServingRecord, call_journal.from_json(line)))
            end = ServingChannel.rebuilt(
                self._domain,
                UNREAD,
                records,
                journal_since_s=since_s,
                credit_calls=self._credit_calls,
            ).channel
        except ProtocolError as problem:
            log.error("channel_not_whole", channel=channel, why=str(problem))
            end, whole = self._remains(channel, records), False
        self._add(channel, end)
        self._unread.add(channel)
        return whole

    def _remains(self, channel: Digest, records: list[ServingRecord]) -> ServingChannel:
        """Of a channel whose records do not fit together: the best voucher is money still."""
        held: list[SignedVoucher] = []
        fields: Channel | None = None
        opened_at_s = 0
        for record in records:
            if isinstance(record, Opened):
                fields, opened_at_s = record.channel, record.at_s
            elif isinstance(record, ServingCheckpoint):
                fields, opened_at_s = record.channel, record.opened_at_s
            if isinstance(record, VoucherTaken):
                held.append(record.signed)
            elif isinstance(record, ServingCheckpoint | Abandoned) and record.voucher is not None:
                held.append(record.voucher)
        best = max(held, key=lambda signed: signed.voucher.total, default=None)
        if fields is None and best is not None:  # who signed it completes the channel
            fields = channel_of(self._domain, best.voucher, best.signature)
        if fields is None or channel_id(fields) != channel:
            raise ChannelAbandoned("the journal has no beginning of it")
        return ServingChannel(
            self._domain,
            fields,
            UNREAD,
            voucher=best,
            abandoned=NOT_WHOLE,
            opened_at_s=opened_at_s,
        )

    def _checkpoint_of(self, channel: Digest) -> ServingCheckpoint | None:
        end = self._ends.get(channel)
        return None if end is None else end.checkpoint()

    async def of(self, channel: Channel) -> Digest:
        """Its id; from then on `end` has it. Raises ChannelRefused where nothing can be served."""
        found = channel_id(channel)
        if found in self._ends and found not in self._unread:
            return found
        async with self._locks.setdefault(found, asyncio.Lock()):
            if found not in self._ends:
                await self._open(found, channel)
            elif found in self._unread:
                await self._observe(found)
        self._locks.pop(found, None)
        return found

    def end(self, channel: Digest) -> ServingChannel:
        return self._ends[channel]

    def ends(self) -> Iterator[tuple[Digest, ServingChannel]]:
        yield from list(self._ends.items())

    def of_voucher(self, signed: SignedVoucher) -> tuple[Digest, ...]:
        """Channels that it may be for, by what it says itself; its signature decides."""
        voucher = signed.voucher
        return tuple(self._of_payer.get((voucher.payer, voucher.salt), ()))

    def result(self, channel: Digest, seq: int) -> KeptResult | None:
        return self._journal.result(channel, seq)

    # --- what happens -----------------------------------------------------------------------

    async def apply(
        self, channel: Digest, step: ServingStep, result: tuple[int, KeptResult] | None = None
    ) -> None:
        """The state holds at once; returns when its records are on the disk. A call may begin
        before that: its receipt is written behind them, and nothing else is sent of it."""
        end, records = step.channel, step.records
        if records and not end.opened_at_s:  # of a channel that was never served
            opened = Opened(end.channel, max(self._clock.now_ms() // 1000, self._journal.since_s))
            end, records = replace(end, opened_at_s=opened.at_s), (opened, *records)
        self._ends[channel] = end
        if records:
            paid = any(isinstance(record, VoucherTaken) for record in records)
            below = end.paid.seq if paid else 0
            written = self._journal.put(Entry(channel, records, result, below))
            if not isinstance(step.reply, Go):
                await written

    def put(self, channel: Digest, end: ServingChannel) -> None:
        """A transition without records."""
        self._ends[channel] = end

    async def settled(self) -> None:
        """Before something is said that a channel holds: it may be on its way to the disk still."""
        await self._journal.settled()

    def unread_money(self, most: int) -> tuple[Digest, ...]:
        """Channels of the journal with a voucher, whose state on chain was not read yet."""
        held = (channel for channel in self._unread if self._ends[channel].voucher is not None)
        return tuple(itertools.islice(held, most))

    async def look_again(self, channel: Digest) -> None:
        """What the chain says of it now, if it is one of ours."""
        if channel in self._ends:
            await self._observe(channel)

    async def _observe(self, channel: Digest) -> None:
        state = await self._source.channel(self._ends[channel].channel)
        self._unread.discard(channel)
        await self.apply(channel, self._ends[channel].observe(state))

    async def _open(self, found: Digest, channel: Channel) -> None:
        state = await self._source.channel(channel)
        if not state.deposited:
            raise ChannelRefused(Refusal("paused_funds", "the channel has no deposit yet"))
        funded_at_s = await self._source.funded_at_s(channel)
        if funded_at_s is None:
            raise ChannelRefused(Refusal("paused_funds", "its deposit cannot be found on chain"))
        try:
            step = ServingChannel.opened(
                self._domain,
                channel,
                state,
                funded_at_s=funded_at_s,
                journal_since_s=self._journal.since_s,
                now_s=max(self._clock.now_ms() // 1000, self._journal.since_s),
                credit_calls=self._credit_calls,
            )
        except ChannelAbandoned as problem:
            # Not written down: the next process comes to the same from the chain.
            end = ServingChannel(self._domain, channel, state, abandoned=str(problem))
            self._add(found, end)
            return
        if found not in self._ends:
            self._add(found, step.channel)  # whatever is written of it now comes behind this
            await self._journal.write(Entry(found, step.records))

    def _add(self, found: Digest, end: ServingChannel) -> None:
        self._ends[found] = replace(end, running=())
        key = (end.channel.payer, end.channel.salt)
        self._of_payer.setdefault(key, set()).add(found)
