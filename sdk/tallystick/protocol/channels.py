"""What the escrow says of a channel, and messages with their signature beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tallystick.protocol import call_bodies, wire
from tallystick.protocol.messages import Receipt, Voucher

__all__ = ["ChannelState", "SignedReceipt", "SignedVoucher"]


@dataclass(frozen=True, slots=True)
class ChannelState:
    """`close_at` is 0 while no close is requested."""

    deposited: int
    claimed: int
    close_at: int

    @property
    def unclaimed(self) -> int:
        return self.deposited - self.claimed

    def due(self, total: int) -> int:
        """What a voucher of this total would pay now."""
        return max(0, min(self.deposited, total) - self.claimed)


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """By the channel's signer, in 65 bytes or, by EIP-2098, in 64."""

    voucher: Voucher
    signature: str

    @classmethod
    def from_body(cls, body: wire.SignedVoucherBody) -> Self:
        return cls(Voucher.from_body(body.voucher), body.signature)

    def to_body(self) -> wire.SignedVoucherBody:
        return wire.SignedVoucherBody(voucher=self.voucher.to_body(), signature=self.signature)


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    receipt: Receipt
    signature: str

    @classmethod
    def from_body(cls, body: call_bodies.SignedReceiptBody) -> Self:
        return cls(Receipt.from_body(body.receipt), body.signature)

    def to_body(self) -> call_bodies.SignedReceiptBody:
        return call_bodies.SignedReceiptBody(
            receipt=self.receipt.to_body(), signature=self.signature
        )
