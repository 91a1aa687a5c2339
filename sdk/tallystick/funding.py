"""Money: what an account holds, and the few transactions a consumer ever sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallystick.chain import Account
from tallystick.errors import InvalidRequest, PaymentNeeded
from tallystick.jobs import Balance, Sent
from tallystick.prices import Price
from tallystick.protocol.types import Address, to_address
from tallystick.protocol.wire import AccountBody

if TYPE_CHECKING:
    from tallystick.session import Session


async def balance(session: Session, address: str | None = None) -> Balance:
    """From the chain when an endpoint is set, else what the backend's index says."""
    owner = to_address(address) if address else session.wallet.address
    chain = await session.chain()
    if chain is None:
        body = await session.connection.get(f"/v1/accounts/{owner}", AccountBody, public=True)
        held = Account(0, body.available, body.locked, body.credit)
    else:
        held = await chain.account(owner)
    return Balance(
        address=owner,
        wallet=None if chain is None else await session.money(held.wallet_units),
        available=await session.money(held.available_units),
        reserved=await session.money(held.locked_units),
        credit=await session.money(held.credit_units),
    )


async def deposit(session: Session, amount: Price) -> Sent:
    units = await session.units(amount)
    chain, wallet = await session.need_chain(), session.wallet
    held = (await chain.account(wallet.address)).wallet_units
    if held < units:
        raise PaymentNeeded(
            f"The wallet {wallet.address} holds {await session.money(held)}; "
            f"you want to deposit {await session.money(units)}.",
            next_step="Send tokens to the wallet first, or deposit less.",
        )
    return await chain.deposit(wallet, units)


async def withdraw(session: Session, amount: Price, to: str | None = None) -> Sent:
    units = await session.units(amount)
    chain, wallet = await session.need_chain(), session.wallet
    receiver = wallet.address if to is None else _checked_address(to)
    held = (await chain.account(wallet.address)).available_units
    if held < units:
        raise PaymentNeeded(
            f"The account {wallet.address} has {await session.money(held)} available; "
            f"you want to withdraw {await session.money(units)}.",
            next_step="What open tasks hold comes back when they settle; withdraw less for now.",
        )
    return await chain.withdraw(wallet, units, receiver)


async def cover(session: Session, units: int, *, auto_deposit: bool) -> None:
    """Sees to it that `units` are available in the escrow, or says what is missing."""
    wallet = session.wallet
    held = await balance(session)
    missing = units - held.available.units
    if missing <= 0:
        return
    if auto_deposit and held.wallet is not None and held.wallet.units >= missing:
        chain = await session.need_chain()
        await chain.deposit(wallet, missing)
        return
    short = await session.money(missing)
    raise PaymentNeeded(
        f"The task may cost up to {await session.money(units)}; the account {wallet.address} "
        f"has {held.available} available.",
        next_step=f"Deposit {short.text} more: client.deposit('{short.text}') or "
        f"`tallystick wallet deposit {short.text}`.",
        required=str(units),
        available=str(held.available.units),
    )


def _checked_address(text: str) -> Address:
    try:
        return to_address(text)
    except ValueError as problem:
        raise InvalidRequest(
            f"{text!r} is no address: {problem}.",
            next_step="An address is 0x and 40 hex digits; copy it again.",
        ) from problem
