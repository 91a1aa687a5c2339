"""What an event of the contracts is about, for those who look at the chain through us. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from tallystick.protocol.market_views import EventKind, ExplorerEvent
from tallystick.protocol.types import ZERO_ADDRESS, to_address
from tallystick_backend.store.tables import ChainEventRow

KINDS: Final[Mapping[EventKind, tuple[str, ...]]] = {
    "task": ("TaskCreated", "TaskProven", "TaskSettled", "TaskCancelled", "TaskRefunded"),
    "dispute": (
        "TaskDisputed",
        "DisputeResolved",
        "DisputeConcluded",
        "TwoHistoriesShown",
        "GpuSoldTwiceShown",
        "DrawCalled",
        "CheckersDrawn",
        "VoteCommitted",
        "VoteRevealed",
        "SilenceShown",
        "SeatTaken",
        "SeatListed",
        "SeatLeaving",
        "SeatFreed",
    ),
    "redemption": ("VoucherRedeemed",),
    "channel": (
        "ChannelFunded",
        "ChannelDeposited",
        "CloseRequested",
        "CloseCancelled",
        "ChannelClosed",
        "ChannelReleased",
        "AllowanceUsed",
        "AllowanceRevoked",
    ),
    "money": ("Deposited", "Withdrawn", "CreditWithdrawn", "PayoutAddressSet", "FeesShared"),
    "stake": (
        "Staked",
        "UnbondRequested",
        "StakeWithdrawn",
        "GpusRegistered",
        "OperatorKeyBound",
        "OperatorKeyRetired",
        "SeatsSet",
    ),
    "delegation": (
        "Delegated",
        "UndelegateRequested",
        "DelegationWithdrawn",
        "CommissionSet",
        "FeesAdded",
        "RewardsClaimed",
        "FeesWithdrawn",
        "PoolDrained",
    ),
    "slash": (
        "Slashed",
        "PotVoided",
        "Jailed",
        "Unjailed",
        "BountyCredited",
        "BountyWithdrawn",
        "SlashedBurned",
    ),
    "app": (
        "AppPublished",
        "VersionAdded",
        "PriceAnnounced",
        "DiscountAnnounced",
        "AppRetired",
        "AppRenounced",
    ),
}
_KIND_OF: Final = {name: kind for kind, names in KINDS.items() for name in names}

_AMOUNTS: Final[Mapping[str, tuple[str, Literal["payment", "stake"]]]] = {
    "TaskProven": ("charge", "payment"),
    "TaskSettled": ("charge", "payment"),
    "TaskRefunded": ("amount", "payment"),
    "TaskDisputed": ("bond", "payment"),
    "DisputeResolved": ("bond", "payment"),
    "DisputeConcluded": ("slashed", "stake"),
    "TwoHistoriesShown": ("slashed", "stake"),
    "GpuSoldTwiceShown": ("slashed", "stake"),
    "SilenceShown": ("slashed", "stake"),
    "VoucherRedeemed": ("amount", "payment"),
    "ChannelFunded": ("amount", "payment"),
    "ChannelDeposited": ("amount", "payment"),
    "ChannelClosed": ("amount", "payment"),
    "ChannelReleased": ("amount", "payment"),
    "AllowanceUsed": ("amount", "payment"),
    "Deposited": ("amount", "payment"),
    "Withdrawn": ("amount", "payment"),
    "CreditWithdrawn": ("paid", "payment"),
    "FeesAdded": ("amount", "payment"),
    "RewardsClaimed": ("amount", "payment"),
    "FeesWithdrawn": ("amount", "payment"),
    "PoolDrained": ("amount", "payment"),
    "Staked": ("amount", "stake"),
    "UnbondRequested": ("amount", "stake"),
    "StakeWithdrawn": ("amount", "stake"),
    "Delegated": ("amount", "stake"),
    "UndelegateRequested": ("amount", "stake"),
    "DelegationWithdrawn": ("amount", "stake"),
    "Slashed": ("amount", "stake"),
    "PotVoided": ("rest", "stake"),
    "BountyCredited": ("amount", "stake"),
    "BountyWithdrawn": ("amount", "stake"),
    "SlashedBurned": ("amount", "stake"),
}
"""Where an event is about one sum, the value that has it, and of which token."""

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def explorer_event(row: ChainEventRow) -> ExplorerEvent:
    assert row.id is not None
    args: dict[str, Any] = row.args
    amount, token = _amount(row.name, args)
    return ExplorerEvent(
        id=row.id,
        kind=_KIND_OF.get(row.name, "other"),
        name=row.name,
        contract=row.contract,
        block_number=row.block_number,
        at=row.timestamp_s,
        tx=row.tx_hash,
        log_index=row.log_index,
        parties=_parties(args),
        amount=amount,
        token=token,
        task_id=_digest(args, "task_id"),
        app_id=_digest(args, "app_id"),
        channel_id=_digest(args, "channel_id"),
        args=args,
    )


def _amount(
    name: str, args: Mapping[str, Any]
) -> tuple[int | None, Literal["payment", "stake"] | None]:
    if name == "TaskCreated":
        return int(args["terms"]["max_charge"]), "payment"
    if name not in _AMOUNTS:
        return None, None
    field, token = _AMOUNTS[name]
    return int(args[field]), token


def _parties(args: Mapping[str, Any]) -> dict[str, Any]:
    """Those named by themselves; lists of accounts are among the values."""
    return {
        name: to_address(value)
        for name, value in args.items()
        if isinstance(value, str) and _ADDRESS.fullmatch(value) and value != ZERO_ADDRESS
    }


def _digest(args: Mapping[str, Any], name: str) -> str | None:
    value = args.get(name)
    return value.lower() if isinstance(value, str) else None
