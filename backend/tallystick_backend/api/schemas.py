"""Bodies that only HTTP has, beside those of `tallystick.protocol.wire`, and values in paths."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path

from tallystick.protocol.wire import AddressHex, WireModel

TaskIdPath = Annotated[
    str,
    Path(
        alias="task_id",
        pattern=r"^0x[0-9a-f]{64}$",
        description="EIP-712 digest of the task's terms.",
        examples=["0x" + "5a" * 32],
    ),
]
AppIdPath = Annotated[
    str,
    Path(
        pattern=r"^0x[0-9a-f]{64}$",
        description="Hash of chain, registry, publisher and salt.",
        examples=["0x" + "a9" * 32],
    ),
]
ChannelIdPath = Annotated[
    str,
    Path(
        pattern=r"^0x[0-9a-f]{64}$",
        description="Hash of payer, signer, provider and salt.",
        examples=["0x" + "c4" * 32],
    ),
]
DigestPath = Annotated[
    str,
    Path(
        pattern=r"^0x[0-9a-f]{64}$",
        description="keccak-256 of the bundle's bytes.",
        examples=["0x" + "c5" * 32],
    ),
]
AddressPath = Annotated[
    str,
    Path(pattern=r"^0x[0-9a-fA-F]{40}$", examples=["0x70997970C51812dc3A010C7d01b50e0d17dc79C8"]),
]


class CallerBody(WireModel):
    """Who the credentials of this request stand for."""

    address: AddressHex
    via: Literal["session", "api_key"]
    scopes: list[str]


class Nothing(WireModel):
    """An answer without a body."""
