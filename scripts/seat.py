"""Take a seat in the court, to check disputed results of others, or leave it.

    brownie run seat take --network tallystick              set one unit of own stake aside
    brownie run seat list_it --network tallystick           a day later: the seat can be drawn
    brownie run seat leave --network tallystick             the seat ends in a day
    brownie run seat free --network tallystick              a day later: the stake is free
    brownie run seat dismiss 0xProvider --network tallystick    a jailed provider's; anyone
    brownie run seat show --network tallystick

Sends from the provider's own account (support.py says how it is chosen). `list_it` and `free` may
be sent by anyone: `brownie run seat list_it 0xProvider`. Who is drawn votes by `brownie run vote`.
A drawn checker that says nothing loses a tenth of a unit and goes to jail; in jail a seat can be
ended by anyone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from scripts.support import (
    Deployment,
    ScriptError,
    address_of,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)


@command
def take() -> None:
    market, provider = deployment(), signer()
    listable_at, _, _ = market.court.seatOf(provider)
    if listable_at:
        raise ScriptError(f"{provider} has a seat already: `brownie run seat show`")
    if market.staking.isJailed(provider):
        raise ScriptError(f"{provider} is jailed: lift the jail first")
    require_free_unit(market, provider)
    require_gas_money(provider)
    taken = market.court.takeSeat({"from": provider}).events["SeatTaken"]
    print(f"{provider} has a seat that can be listed from {when(taken['listableAt'])} on")


@command
def list_it(provider: str = "") -> None:
    market, sender = deployment(), signer()
    who = address_of(provider, "provider") if provider else sender
    listable_at, leavable_at, listed = required_seat(market, who)
    if listed:
        raise ScriptError(f"the seat of {who} is listed already")
    if leavable_at:
        raise ScriptError(f"the seat of {who} is on its way out: `brownie run seat free`")
    require_time(listable_at, f"the seat of {who} can be listed")
    require_gas_money(sender)
    listed_now = market.court.listSeat(who, {"from": sender}).events["SeatListed"]
    print(f"{who} has one of {listed_now['seats']} seats")


@command
def leave() -> None:
    market, provider = deployment(), signer()
    _, leavable_at, _ = required_seat(market, provider)
    if leavable_at:
        raise ScriptError(f"the seat of {provider} is on its way out: `brownie run seat free`")
    require_gas_money(provider)
    leaving = market.court.leaveSeat({"from": provider}).events["SeatLeaving"]
    print(f"{provider} leaves its seat; it can be freed from {when(leaving['leavableAt'])} on")


@command
def free(provider: str = "") -> None:
    market, sender = deployment(), signer()
    who = address_of(provider, "provider") if provider else sender
    _, leavable_at, _ = required_seat(market, who)
    if not leavable_at:
        raise ScriptError(f"the seat of {who} stays: `brownie run seat leave` first")
    require_time(leavable_at, f"the seat of {who} can be freed")
    require_gas_money(sender)
    market.court.freeSeat(who, {"from": sender})
    print(f"{who} has no seat now, and its stake is free")


@command
def dismiss(provider: str = "") -> None:
    if not provider:
        raise ScriptError("whose? `brownie run seat dismiss 0xProvider`")
    market, sender = deployment(), signer()
    who = address_of(provider, "provider")
    required_seat(market, who)
    if not market.staking.isJailed(who):
        raise ScriptError(f"{who} is not jailed: only its provider can end the seat")
    require_gas_money(sender)
    market.court.dismissSeat(who, {"from": sender})
    print(f"{who} has no seat now: it is jailed, and can take another when it is free")


@command
def show(provider: str = "") -> None:
    market = deployment()
    tell(market, address_of(provider, "provider") if provider else signer())


def required_seat(market: Deployment, who: Any) -> tuple[int, int, bool]:
    listable_at, leavable_at, listed = market.court.seatOf(who)
    if not listable_at:
        raise ScriptError(f"{who} has no seat: `brownie run seat take`")
    return int(listable_at), int(leavable_at), bool(listed)


def require_free_unit(market: Deployment, provider: Any) -> None:
    unit = market.staking.unit()
    bonded, _ = market.staking.stakeOf(provider)
    gpus = market.staking.gpusOf(provider)
    required = (gpus + 1) * unit
    if bonded < required:
        token = market.staking_token
        raise ScriptError(
            f"{provider} has bonded {shown(bonded, token)}; {gpus} GPUs and a seat need"
            f" {shown(required, token)}: stake more, or register fewer GPUs"
        )


def require_time(earliest: int, what: str) -> None:
    from brownie import chain

    now = int(chain[-1].timestamp)
    if now < earliest:
        raise ScriptError(f"{what} from {when(earliest)} on")


def tell(market: Deployment, who: Any) -> None:
    listable_at, leavable_at, listed = market.court.seatOf(who)
    if not listable_at:
        print(f"{who} has no seat; {market.court.seats()} are listed")
    elif leavable_at:
        print(f"{who} leaves its seat; it can be freed from {when(leavable_at)} on")
    elif listed:
        print(f"{who} has one of {market.court.seats()} seats")
    else:
        print(f"{who} has a seat that can be listed from {when(listable_at)} on")


def when(timestamp: int) -> str:
    return datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
