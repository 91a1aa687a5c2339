"""Let a session key fund its channels out of your escrow account, up to a cap and until a day.

    brownie run allowance sign 0xSessionKey 100 30d allowance.json --network tallystick
                                        the payer signs; nothing is sent
    brownie run allowance fund allowance.json 0xProvider 20 --network tallystick
                                        the session key opens a channel with it, or tops one up
    brownie run allowance show allowance.json --network tallystick      what is left of it
    brownie run allowance revoke allowance.json --network tallystick    the payer ends it, at once

The file holds the signed allowance and no key; whoever has the session key and the file can spend
up to the cap on vouchers, and nothing else. Funded channels stay as they are after a revocation:
`brownie run close_channel` with TALLYSTICK_CHANNEL_SIGNER closes them.

    TALLYSTICK_PURPOSE           for `sign`: an app id that goes into the event, for sponsored calls
    TALLYSTICK_CHANNEL_SALT      for `fund`: a whole number, one for each channel        (0)
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from scripts.channels import describe, salt_of
from scripts.set_price import time_of
from scripts.support import (
    Deployment,
    ScriptError,
    address_of,
    amount_of,
    chain_time,
    command,
    deployment,
    domain_of,
    number,
    own_key,
    require_gas_money,
    send,
    shown,
    signer,
)
from scripts.unstake import when
from tallystick.protocol import messages
from tallystick.protocol.contracts import Escrow
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import Channel, ChannelAllowance
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, to_address, to_digest
from tallystick.protocol.wire import ChannelAllowanceBody, SignatureHex, WireModel


class SignedAllowance(WireModel):
    allowance: ChannelAllowanceBody
    signature: SignatureHex


@command
def sign(session_key: str = "", cap: str = "", until: str = "", file: str = "") -> None:
    if not file:
        raise ScriptError(
            "for whom, how much, until when, into which file?"
            " `brownie run allowance sign 0xSessionKey 100 30d allowance.json`"
        )
    market, payer = deployment(), signer()
    now = chain_time()
    allowance = ChannelAllowance(
        payer=to_address(payer.address),
        signer=Address(address_of(session_key, "session key")),
        cap=amount_of(cap, market.token.decimals(), "cap"),
        expires_at=time_of(until, now, "end"),
        purpose=purpose(),
        # Any number: two allowances with the same figures are two.
        nonce=now,
    )
    if allowance.expires_at <= now:
        raise ScriptError(f"{until} is past: the allowance would be good for nothing")
    signature = messages.sign(domain_of(market), allowance, own_key(payer))
    body = SignedAllowance(allowance=allowance.to_body(), signature=signature)
    try:
        Path(file).write_text(body.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ScriptError(f"{file} cannot be written ({error.strerror}): name another") from None
    print(f"{file}: {allowance.signer} may move {shown(allowance.cap, market.token)} in all")
    print(f"until {when(allowance.expires_at)} into channels it signs for")


@command
def fund(file: str = "", provider: str = "", amount: str = "") -> None:
    if not amount:
        raise ScriptError(
            "by which allowance, to whom, how much?"
            " `brownie run allowance fund allowance.json 0xProvider 20`"
        )
    market, session = deployment(), signer()
    allowance, signature = allowance_in(file)
    units = amount_of(amount, market.token.decimals())
    if allowance.signer != session.address:
        raise ScriptError(f"the allowance is for {allowance.signer} to use; this is {session}")
    salt = salt_of(os.environ.get("TALLYSTICK_CHANNEL_SALT", "0"))
    provider_address = Address(address_of(provider, "provider"))
    channel = Channel(allowance.payer, allowance.signer, provider_address, salt)
    require_left(market, allowance, units)
    require_gas_money(session)
    send(
        session,
        escrow_of(market).fund_with_allowance(allowance, signature, provider_address, salt, units),
    )
    describe(market, channel)
    tell(market, allowance)


@command
def show(file: str = "") -> None:
    market = deployment()
    allowance, _ = allowance_in(file)
    tell(market, allowance)


@command
def revoke(file: str = "") -> None:
    """Also by the digest that `show` prints, if the file is lost."""
    market, payer = deployment(), signer()
    if file.startswith("0x"):
        try:
            digest = to_digest(file)
        except ProtocolError as error:
            raise ScriptError(f"allowance: {error}") from None
    else:
        allowance, _ = allowance_in(file)
        digest = messages.digest(domain_of(market), allowance)
        if allowance.payer != payer.address:
            raise ScriptError(f"the allowance is {allowance.payer}'s to revoke; this is {payer}")
    _, revoked = market.escrow.allowanceOf(payer, digest)
    if revoked:
        print(f"allowance {digest} is revoked already")
        return
    require_gas_money(payer)
    market.escrow.revokeAllowance(digest, {"from": payer})
    print(f"allowance {digest} moves nothing any more; its channels stay until they are closed")


def allowance_in(file: str) -> tuple[ChannelAllowance, str]:
    if not file:
        raise ScriptError("which allowance? name the file that `brownie run allowance sign` wrote")
    try:
        body = SignedAllowance.model_validate_json(Path(file).read_bytes())
        return ChannelAllowance.from_body(body.allowance), body.signature
    except OSError as error:
        raise ScriptError(f"{file} cannot be read ({error.strerror}): name another") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ScriptError(f"{file}: {place}: {first['msg']}") from None
    except ProtocolError as error:
        raise ScriptError(f"{file}: {error}") from None


def purpose() -> Digest:
    text = os.environ.get("TALLYSTICK_PURPOSE", "")
    try:
        return to_digest(text) if text else ZERO_DIGEST
    except ProtocolError as error:
        raise ScriptError(f"TALLYSTICK_PURPOSE: {error}") from None


def require_left(market: Deployment, allowance: ChannelAllowance, units: int) -> None:
    token = market.token
    spent, revoked = state_of(market, allowance)
    if revoked:
        raise ScriptError(f"{allowance.payer} revoked the allowance: ask for another")
    if chain_time() > allowance.expires_at:
        raise ScriptError(f"the allowance was good until {when(allowance.expires_at)}")
    if spent + units > allowance.cap:
        raise ScriptError(
            f"{shown(allowance.cap - spent, token)} are left of the allowance, not"
            f" {shown(units, token)}"
        )
    available, _ = market.escrow.accountOf(allowance.payer)
    if available < units:
        raise ScriptError(
            f"{allowance.payer} has {shown(available, token)} available in the escrow, and"
            f" {shown(units, token)} are needed: anyone may add by `brownie run account deposit"
            f" {number(units, token)} {allowance.payer}`"
        )


def state_of(market: Deployment, allowance: ChannelAllowance) -> tuple[int, bool]:
    digest = messages.digest(domain_of(market), allowance)
    spent, revoked = market.escrow.allowanceOf(allowance.payer, digest)
    return int(spent), bool(revoked)


def tell(market: Deployment, allowance: ChannelAllowance) -> None:
    spent, revoked = state_of(market, allowance)
    print(f"allowance          {messages.digest(domain_of(market), allowance)}")
    print(f"of                 {allowance.payer}")
    print(f"for                {allowance.signer}, until {when(allowance.expires_at)}")
    print(
        f"spent              {shown(spent, market.token)} of {shown(allowance.cap, market.token)}"
    )
    if revoked:
        print("                   revoked: it moves nothing any more")


def escrow_of(market: Deployment) -> Escrow:
    return Escrow(None, to_address(market.escrow.address))  # type: ignore[arg-type]
