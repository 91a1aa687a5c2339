"""Bind an operator key, change it, and end one that may have leaked.

    brownie run operator_key consent 0xProvider --network tallystick
                                        where the key lives: its address and its consent; sends
                                        nothing
    brownie run operator_key bind --network tallystick          it signs for the sender from now on
    brownie run operator_key retire 0xKey --network tallystick  it signs nothing new; no way back
    brownie run operator_key rotate 0xOld --network tallystick  bind another, then retire this one
    brownie run operator_key show 0xKey --network tallystick

All but `consent` and `show` send from the provider's own account (support.py says how it is
chosen). The new key consents as register_gpus.py has it:

    TALLYSTICK_OPERATOR_KEY           its private key: the consent is signed here
    TALLYSTICK_OPERATOR_ADDRESS and TALLYSTICK_OPERATOR_CONSENT
                                      its address and its signature, made where the key lives

A key is bound to one provider for ever, and a provider may have any number. A retired key stays
answerable for a week: what it signed twice can still be reported. Let the work that a key began be
proven before you retire it.
"""

from __future__ import annotations

import os
from typing import Any

from scripts.register_gpus import bind_operator_key, operator_consent
from scripts.support import (
    ZERO_ADDRESS,
    Deployment,
    ScriptError,
    address_of,
    command,
    deployment,
    domain_of,
    require_gas_money,
    signer,
)
from scripts.unstake import when
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.messages import OperatorKey, sign
from tallystick.protocol.signatures import address_of as address_of_key
from tallystick.protocol.types import to_address


@command
def consent(provider: str = "") -> None:
    if not provider:
        raise ScriptError("to whom? `brownie run operator_key consent 0xProvider`")
    secret = os.environ.get("TALLYSTICK_OPERATOR_KEY")
    if not secret:
        raise ScriptError("which key consents? set TALLYSTICK_OPERATOR_KEY")
    market = deployment()
    try:
        key = address_of_key(secret)
        message = OperatorKey(provider=to_address(address_of(provider, "provider")), key=key)
        signature = sign(domain_of(market), message, secret)
    except ProtocolError as error:
        raise ScriptError(f"TALLYSTICK_OPERATOR_KEY: {error}") from None
    print(f"TALLYSTICK_OPERATOR_ADDRESS={key}")
    print(f"TALLYSTICK_OPERATOR_CONSENT={signature}")


@command
def bind() -> None:
    market, provider = deployment(), signer()
    require_new_key(market, provider)
    require_gas_money(provider)
    bind_operator_key(market, provider)


@command
def retire(key: str = "") -> None:
    market, provider = deployment(), signer()
    old = required_key(market, provider, key, "retire 0xKey")
    require_gas_money(provider)
    market.staking.retireOperatorKey(old, {"from": provider})
    print(f"operator key {old} is retired: it signs nothing new for {provider}")


@command
def rotate(key: str = "") -> None:
    market, provider = deployment(), signer()
    old = required_key(market, provider, key, "rotate 0xOld")
    if require_new_key(market, provider) == old:
        raise ScriptError(f"{old} would follow itself: make a new key")
    require_gas_money(provider)
    bind_operator_key(market, provider)
    market.staking.retireOperatorKey(old, {"from": provider})
    print(f"operator key {old} is retired: it signs nothing new for {provider}")


@command
def show(key: str = "") -> None:
    market = deployment()
    address = address_of(key, "key") if key else str(signer())
    signs_for, retired_at = market.staking.operatorKey(address)
    if signs_for == ZERO_ADDRESS:
        print(f"{address} is bound to nobody")
    elif retired_at:
        print(f"{address} was retired by {signs_for} at {when(retired_at)}")
    else:
        print(f"{address} signs for {signs_for}")


def require_new_key(market: Deployment, provider: Any) -> str:
    wanted = operator_consent(market, provider)
    if wanted is None:
        raise ScriptError(
            "which key? set TALLYSTICK_OPERATOR_KEY, or TALLYSTICK_OPERATOR_ADDRESS and"
            " TALLYSTICK_OPERATOR_CONSENT"
        )
    return wanted[0]


def required_key(market: Deployment, provider: Any, key: str, usage: str) -> str:
    """A key of the sender's that is in use."""
    if not key:
        raise ScriptError(f"which key? `brownie run operator_key {usage}`")
    address = address_of(key, "key")
    signs_for, retired_at = market.staking.operatorKey(address)
    if signs_for != provider.address:
        raise ScriptError(f"{address} is no key of {provider}: `brownie run operator_key show`")
    if retired_at:
        raise ScriptError(f"{address} was retired at {when(retired_at)} already")
    return address
