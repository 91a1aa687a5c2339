"""Channels and what is signed on them, with honest defaults that a test changes by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tallystick.protocol import messages
from tallystick.protocol.messages import Channel, ChannelAllowance, Voucher
from tallystick.protocol.types import Address, Digest
from tests.contracts.stage import NO_DIGEST, TALLY, Stage, digest_of, two_words

SALT = 7
DEPOSIT = 60 * TALLY


class Till:
    """The channels of one payer and its session key with one provider."""

    def __init__(self, stage: Stage, signer: Any) -> None:
        self.stage = stage
        self.escrow = stage.escrow
        self.signer = signer

    # ------------------------------------------------------------------ messages

    def channel(self, **changes: Any) -> Channel:
        channel = Channel(
            payer=Address(self.stage.consumer.address),
            signer=Address(self.signer.address),
            provider=Address(self.stage.provider.address),
            salt=SALT,
        )
        return replace(channel, **changes)

    def voucher(self, channel: Channel, total: int, **changes: Any) -> Voucher:
        return replace(channel.voucher(total, digest_of(f"receipt {total}")), **changes)

    def row(self, channel: Channel, total: int, *, by: Any = None, **changes: Any) -> Row:
        """A voucher as the escrow takes it, in five words."""
        voucher = self.voucher(channel, total, **changes)
        return row_of(voucher, self.stage.signed(voucher, by or self.signer))

    def allowance(self, **changes: Any) -> ChannelAllowance:
        """100 for a day, for no particular purpose."""
        allowance = ChannelAllowance(
            payer=Address(self.stage.consumer.address),
            signer=Address(self.signer.address),
            cap=100 * TALLY,
            expires_at=self.stage.now() + 86_400,
            purpose=NO_DIGEST,
            nonce=0,
        )
        return replace(allowance, **changes)

    # ------------------------------------------------------------------ acts

    def open(self, channel: Channel | None = None, amount: int = DEPOSIT) -> Channel:
        """Funded out of the payer's available money."""
        channel = channel or self.channel()
        payer = {"from": channel.payer}
        self.escrow.fund(fields(channel), amount, payer)
        return channel

    def redeem(self, *rows: Row, by: Any = None, provider: Any = None) -> Any:
        sender = {"from": by or self.stage.dispatcher}
        return self.escrow.redeem(provider or self.stage.provider, rows, sender)

    # ------------------------------------------------------------------ reading

    def state(self, channel: Channel) -> tuple[int, int, int]:
        """Deposited, claimed, closeAt."""
        deposited, claimed, close_at = self.escrow.channelOf(messages.channel_id(channel))
        return int(deposited), int(claimed), int(close_at)

    def money(self, channel: Channel) -> tuple[int, int]:
        """Deposited and claimed."""
        return self.state(channel)[:2]

    def redeemable(self, *rows: Row, provider: Any = None) -> list[int]:
        amounts = self.escrow.redeemable(provider or self.stage.provider, rows)
        return [int(amount) for amount in amounts]


Row = tuple[int, int, str, bytes, bytes]


def row_of(voucher: Voucher, signature: str) -> Row:
    payer_and_salt = int(voucher.payer, 16) << 96 | voucher.salt
    return (payer_and_salt, voucher.total, voucher.receipt, *two_words(signature))


def fields(channel: Channel) -> tuple[str, str, str, int]:
    return (channel.payer, channel.signer, channel.provider, channel.salt)


def channel_id(channel: Channel) -> Digest:
    return messages.channel_id(channel)


@contextmanager
def forked(stage: Stage) -> Iterator[None]:
    """The chain has another id."""
    from brownie import web3

    before = stage.domain.chain_id
    web3.provider.make_request("anvil_setChainId", [before + 1])
    try:
        yield
    finally:
        web3.provider.make_request("anvil_setChainId", [before])
