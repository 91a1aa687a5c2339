"""Channels whose key the consumer keeps: it opens them, tops them up and signs for each call; the
gateway only finds them, and takes the vouchers.

    mine = await own.look(account, signer)      which of them a call could use
    due = await own.unsigned(account, channel)  what waits for a signature
    await own.take(account, channel, signed)    the consumer's voucher, checked, written down, sent

A receipt is accepted and written down before the consumer sees the answer, as ever; the voucher
comes after it. Until it is there the channel begins no other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.protocol import messages
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Channel, Domain, Voucher
from tallystick_backend.gateway.call_entries import countersigned
from tallystick_backend.gateway.channels import Channels
from tallystick_backend.gateway.errors import (
    ChannelsClosing,
    GatewayError,
    NoOwnChannel,
    OwnSignerRefused,
    PausedFunds,
    UnknownOwnChannel,
    VoucherDue,
    VoucherRefused,
)
from tallystick_backend.gateway.journal import Journal
from tallystick_backend.gateway.keys import SessionKeys
from tallystick_backend.gateway.paying_end import PayingEnd
from tallystick_backend.store.repositories import calls, usage
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import ChannelRow

MOST: Final = 64
"""Channels of one key that are looked at, those with most money first: anybody may put a little
into any number of them."""


@dataclass(frozen=True, slots=True)
class Mine:
    """One consumer's channels by one key, as they stand."""

    signer: str
    ends: Sequence[PayingEnd]

    def funded(self, ceiling: int) -> Callable[[str], bool]:
        """Providers that a call can go to: those with a channel that waits for nothing, if there
        are any."""
        covered = [one for one in self.ends if _covers(one, ceiling)]
        free = {one.provider for one in covered if _is_free(one)}
        names = free or {one.provider for one in covered}
        return names.__contains__

    def pick(self, provider: str, ceiling: int) -> PayingEnd:
        """Of a provider that is `funded`."""
        covered = [one for one in self.ends if one.provider == provider and _covers(one, ceiling)]
        return next(filter(_is_free, covered), covered[0])

    def refusal(self, app_id: str, ceiling: int, serving: Sequence[str]) -> GatewayError | None:
        """Why none can be used; None where nobody serves the app."""
        if not serving:
            return None
        there = [one for one in self.ends if one.provider in serving]
        if not there:
            return NoOwnChannel(self.signer, app_id, serving)
        open_ = [one for one in there if not _is_closing(one)]
        if not open_:
            return ChannelsClosing(max(one.end.chain.close_at for one in there))
        most = max(open_, key=lambda one: one.end.balance)
        if most.end.balance >= ceiling:
            return None  # its provider does not take the call now
        return PausedFunds(
            f"your channel {most.channel_id} with {most.provider} has {most.end.balance} left and "
            f"the call may cost {ceiling}",
            f"Top it up by {max(1, ceiling - most.end.balance)} or more; `tallystick channel fund` "
            "does.",
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a channel of the consumer's own stands at."""

    channel: Channel
    last: SignedVoucher | None
    """The last voucher that is written down."""
    voucher: Voucher | None = None
    """To be signed; None: nothing waits."""
    call_id: str = ""
    seq: int = 0


class OwnChannels:
    def __init__(
        self,
        database: Database,
        journal: Journal,
        channels: Channels,
        keys: SessionKeys,
        domain: Domain,
    ) -> None:
        self._database = database
        self._journal = journal
        self._channels = channels
        self._keys = keys
        self._domain = domain
        self._finding = asyncio.Lock()
        """Two ends of one channel could take two receipts for one place."""

    async def look(self, account: str, signer: str) -> Mine:
        """Raises `OwnSignerRefused`."""
        async with self._database.read() as session:
            rows = await calls.channels_signed_by(session, account, signer)
        filled = [row for row in rows if row.deposited > row.claimed]
        filled.sort(key=lambda row: (row.claimed - row.deposited, row.channel_id))
        if not filled and await self._keys.by_signer(signer) is not None:
            raise OwnSignerRefused(signer)
        ends = [await self._end(row) for row in filled[:MOST]]
        return Mine(signer, [one for one in ends if one is not None and one.usable])

    async def unsigned(self, account: str, channel: str) -> Waiting:
        """Raises `UnknownOwnChannel`."""
        paying = await self._of(account, channel)
        voucher, last = paying.end.unsigned, paying.end.voucher
        if voucher is None:
            return Waiting(paying.channel, last)
        return Waiting(
            paying.channel, last, voucher, await self._call_of(paying), paying.end.held.seq
        )

    async def take(self, account: str, channel: str, signed: SignedVoucher) -> SignedVoucher:
        """The voucher that is held now: this one, or the same by another signature. Raises
        `VoucherRefused`, and then nothing was written."""
        paying = await self._of(account, channel)
        call_id = await self._call_of(paying)
        # Nothing is awaited between the check and what is handed in.
        due, held = paying.end.unsigned, paying.end.voucher
        _require_signed(self._domain, paying.channel, signed)
        repeated = held is not None and held.voucher == signed.voucher
        if due is None or not repeated:
            _require_same(due or (held.voucher if held else None), signed.voucher)
            await paying.hand_in(signed, [countersigned(call_id, signed)] if call_id else [])
        assert paying.end.voucher is not None
        return paying.end.voucher

    async def due_first(self, paying: PayingEnd, voucher: Voucher) -> VoucherDue:
        return VoucherDue(await self._call_of(paying), paying.channel_id, voucher.total)

    # --- finding one --------------------------------------------------------------------------

    async def _of(self, account: str, channel: str) -> PayingEnd:
        async with self._database.read() as session:
            row = (await calls.channels_by_id(session, [channel])).get(channel)
        if row is None or row.payer != account.lower():
            raise UnknownOwnChannel(channel)
        try:
            paying = await self._end(row)
        except OwnSignerRefused:
            paying = None
        if paying is None:
            raise UnknownOwnChannel(channel)
        return paying

    async def _end(self, row: ChannelRow) -> PayingEnd | None:
        async with self._finding:
            known = self._channels.ends.get(row.channel_id)
            if known is None and await self._keys.by_signer(row.signer) is not None:
                raise OwnSignerRefused(row.signer)
            if known is not None and known.is_lent:
                raise OwnSignerRefused(row.signer)
            return await self._channels.from_row(row, None)

    async def _call_of(self, paying: PayingEnd) -> str:
        """Whose receipt waits; after a restart only the rows know."""
        if paying.end.unsigned is None or paying.unsigned_call:
            return paying.unsigned_call
        seq = paying.end.held.seq
        await self._journal.projected()
        async with self._database.read() as session:
            row = await usage.receipt_at(session, paying.channel_id, seq)
        return "" if row is None else row.call_id


def _covers(paying: PayingEnd, ceiling: int) -> bool:
    return not _is_closing(paying) and paying.end.balance >= ceiling


def _is_closing(paying: PayingEnd) -> bool:
    return paying.closing_told or paying.end.chain.close_at > 0


def _is_free(paying: PayingEnd) -> bool:
    return paying.unsigned is None and not paying.in_use


def _require_signed(domain: Domain, channel: Channel, signed: SignedVoucher) -> None:
    voucher = signed.voucher
    of = Channel(voucher.payer, channel.signer, voucher.provider, voucher.salt)
    if of != channel:
        raise VoucherRefused("channel", messages.channel_id(channel), messages.channel_id(of))
    try:
        found = messages.channel_of(domain, voucher, signed.signature)
    except ProtocolError as failure:
        raise VoucherRefused("signature", f"one by {channel.signer}", str(failure)) from failure
    if found.signer != channel.signer:
        raise VoucherRefused("signer", channel.signer, found.signer)


def _require_same(expected: Voucher | None, found: Voucher) -> None:
    if expected is None:
        raise VoucherRefused("receipt", "none: no receipt waits for a voucher", found.receipt)
    if found.receipt != expected.receipt:
        raise VoucherRefused("receipt", expected.receipt, found.receipt)
    if found.total != expected.total:
        raise VoucherRefused("total", expected.total, found.total)
