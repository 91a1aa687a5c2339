"""Who pays for calls, and up to what: the session key's allowance, limits, and channels' ends.

An allowance lets the gateway's session key move money of your account into channels, up to a cap
and until a time: nothing else, and never anywhere else. Limits are the gateway's promise on top.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import TYPE_CHECKING

from tallystick import apps
from tallystick.errors import InvalidRequest, NotFound, PaymentNeeded
from tallystick.jobs import Sent
from tallystick.prices import Duration, Price, duration_seconds
from tallystick.protocol.call_views import (
    AllowanceList,
    AllowanceView,
    LimitPeriod,
    LimitScope,
    SessionKeyView,
    SignedAllowanceBody,
    SpendLimitBody,
    SpendLimitList,
    WantedLimit,
)
from tallystick.protocol.messages import Channel, ChannelAllowance, channel_id
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, to_address

if TYPE_CHECKING:
    from tallystick.session import Session

LONGEST_ALLOWANCE_S = 366 * 86_400
SEEN_LOOKS = 60
SEEN_LOOK_S = 0.5
_DIGEST = re.compile(r"0x[0-9a-f]{64}")


async def session_key(session: Session) -> SessionKeyView:
    return await session.connection.get("/v1/session-key", SessionKeyView)


async def grant_allowance(session: Session, cap: Price, time: Duration) -> AllowanceView:
    """Signed by the wallet, good for the session key that the backend named."""
    wallet, units = session.wallet, await session.units(cap)
    seconds = duration_seconds(time, LONGEST_ALLOWANCE_S)
    key = await session_key(session)
    allowance = ChannelAllowance(
        payer=wallet.address,
        signer=to_address(key.signer),
        cap=units,
        expires_at=session.now_s + seconds,
        purpose=ZERO_DIGEST,
        nonce=session.nonces.next(),
    )
    signature = wallet.sign(await session.domain(), allowance)
    body = SignedAllowanceBody(allowance=allowance.to_body(), signature=signature)
    return await session.connection.post("/v1/allowances", body, AllowanceView)


async def allowances(session: Session) -> tuple[AllowanceView, ...]:
    return (await session.connection.get("/v1/allowances", AllowanceList)).items


async def revoke_allowance(session: Session, digest: str) -> Sent:
    """On chain, at once, for the future; what is in channels stays there until they close."""
    chain = await session.need_chain()
    return await chain.revoke_allowance(session.wallet, _checked(digest, "allowance"))


# --- limits ------------------------------------------------------------------------------------


async def spend_limits(session: Session) -> tuple[SpendLimitBody, ...]:
    return (await session.connection.get("/v1/spend-limits", SpendLimitList)).items


async def set_spend_limit(
    session: Session, limit: Price, scope: LimitScope, subject: str, period: LimitPeriod
) -> SpendLimitBody:
    wanted = WantedLimit(
        scope=scope, subject=subject, period=period, limit=await session.units(limit, may_be=0)
    )
    return await session.connection.put("/v1/spend-limits", wanted, SpendLimitBody)


async def remove_spend_limit(session: Session, limit_id: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{16}", limit_id):
        raise InvalidRequest(
            f"{limit_id[:80]!r} is no limit's id.", next_step="`tallystick limit list` shows them."
        )
    await session.connection.delete(f"/v1/spend-limits/{limit_id}")


# --- channels ----------------------------------------------------------------------------------


async def open_channel(
    session: Session, provider: str, amount: Price, signer: str | None
) -> tuple[Channel, Sent]:
    """With what is available in the escrow; vouchers are then signed by `signer`, this client's own
    key if none."""
    if signer is None:
        if session.own_key is None:
            raise InvalidRequest(
                "It is not said who signs for the channel.",
                next_step="Set a session key of your own (--own-key FILE), or name a signer.",
            )
        signer = session.own_key.address
    channel = Channel(
        session.wallet.address,
        _address(signer, "signer"),
        _address(provider, "provider"),
        secrets.randbits(96),
    )
    return channel, await _fund(session, channel, await session.units(amount))


async def fund_channel(session: Session, channel: Channel, amount: Price) -> Sent:
    return await _fund(session, channel, await session.units(amount))


async def _fund(session: Session, channel: Channel, units: int) -> Sent:
    """Waits until the backend has seen it, as the next call is made there."""
    chain, wallet = await session.need_chain(), session.wallet
    available = (await chain.account(wallet.address)).available_units
    if available < units:
        raise PaymentNeeded(
            f"The account {wallet.address} has {await session.money(available)} available; the "
            f"channel is to get {await session.money(units)}.",
            next_step="Deposit more with `client.deposit(...)` or `tallystick wallet deposit`.",
        )
    wanted = (await chain.channel_state(channel)).deposited + units
    sent = await chain.fund_channel(wallet, channel, units)
    for _ in range(SEEN_LOOKS):
        with contextlib.suppress(NotFound):
            if (await apps.channel(session, channel_id(channel))).deposited >= wanted:
                break
        await session.sleep(SEEN_LOOK_S)
    return sent


async def close_channel(session: Session, channel: Channel) -> tuple[Sent, int]:
    """The payer's way out: the first call asks for the close, one after the close period brings
    what is left. Answers when that will be; 0: it is closed."""
    chain, wallet = await session.need_chain(), session.wallet
    state = await chain.channel_state(channel)
    if state.unclaimed == 0 and not state.close_at:
        raise NotFound(
            "Nothing is left in the channel.", next_step="`tallystick channel list` shows others."
        )
    if state.close_at and state.close_at <= session.now_s:
        return await chain.close_channel(wallet, channel), 0
    if state.close_at:
        raise InvalidRequest(
            f"The close was requested before; it can be carried out from {state.close_at} on.",
            next_step="Ask again then: until then the provider may redeem what it is owed.",
            close_at=state.close_at,
        )
    sent = await chain.request_close(wallet, channel)
    return sent, (await chain.channel_state(channel)).close_at


def _address(text: str, what: str) -> Address:
    try:
        return to_address(text)
    except ValueError as problem:
        raise InvalidRequest(
            f"The {what} {text[:80]!r} is no address: {problem}.",
            next_step="An address is 0x and 40 hex digits; copy it again.",
        ) from problem


def _checked(digest: str, what: str) -> Digest:
    if _DIGEST.fullmatch(digest):
        return Digest(digest)
    raise InvalidRequest(
        f"{digest[:80]!r} is no {what}: expected 0x and 64 characters from 0 to 9 and a to f.",
        next_step=f"`tallystick {what} list` shows them.",
    )
