"""Offer GPUs: bind the operator key that will sign for the provider, and register the GPUs' ids.

    brownie run register_gpus main GPU-6d0f... GPU-91ac... --network tallystick
    brownie run register_gpus main --network tallystick     ids from TALLYSTICK_GPU_IDS, by commas
    brownie run register_gpus withdraw --network tallystick offer none from now on

Sends from the provider's own account (support.py says how it is chosen). The operator key is the
hot key of the provider's agent. It consents to the binding, which is for ever, in one of two ways:

    TALLYSTICK_OPERATOR_KEY           its private key: the consent is signed here
    TALLYSTICK_OPERATOR_ADDRESS and TALLYSTICK_OPERATOR_CONSENT
                                      its address and its signature, made where the key lives

Without either, no key is bound: the provider's own key signs, or one bound before does. Ids are
those that `tallystick-provider doctor` prints; the chain gets their count and Merkle root. The
provider's bonded stake must cover them (`brownie run stake main 2gpus`).
"""

from __future__ import annotations

import os
from typing import Any

from scripts.support import (
    ZERO_ADDRESS,
    Deployment,
    ScriptError,
    address_of,
    command,
    deployment,
    require_gas_money,
    shown,
    signer,
)
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.merkle import gpu_set_root
from tallystick.protocol.messages import Domain, OperatorKey, sign
from tallystick.protocol.signatures import address_of as address_of_key
from tallystick.protocol.types import ZERO_DIGEST, to_address


@command
def main(*gpu_ids: str) -> None:
    ids = gpu_ids or tuple(
        part.strip() for part in os.environ.get("TALLYSTICK_GPU_IDS", "").split(",") if part.strip()
    )
    if not ids:
        raise ScriptError(
            "which GPUs? name their ids, or set TALLYSTICK_GPU_IDS; `tallystick-provider doctor`"
            " lists them"
        )
    if len(set(ids)) != len(ids):
        raise ScriptError("an id is named twice: each GPU counts once")
    market = deployment()
    provider = signer()
    require_stake(market, provider, len(ids))
    require_gas_money(provider)
    bind_operator_key(market, provider)

    root = gpu_set_root(ids)
    market.staking.registerGpus(root, len(ids), {"from": provider})
    print(f"{provider} offers {len(ids)} GPUs, Merkle root {root}")


@command
def withdraw() -> None:
    market = deployment()
    provider = signer()
    require_gas_money(provider)
    market.staking.registerGpus(ZERO_DIGEST, 0, {"from": provider})
    print(f"{provider} offers no GPUs now")


def require_stake(market: Deployment, provider: Any, gpus: int) -> None:
    bonded, _ = market.staking.stakeOf(provider)
    seats, _ = market.staking.seatsOf(provider)
    required = (gpus + seats) * market.staking.unit()
    if bonded < required:
        token = market.staking_token
        raise ScriptError(
            f"{provider} has bonded {shown(bonded, token)}, {gpus} GPUs need"
            f" {shown(required, token)}: `brownie run stake main {gpus}gpus`"
        )


def bind_operator_key(market: Deployment, provider: Any) -> None:
    wanted = operator_consent(market, provider)
    if wanted is None:
        return
    key, consent = wanted
    bound_to, retired_at = market.staking.operatorKey(key)
    if retired_at:
        raise ScriptError(f"operator key {key} was retired: make a new one")
    if bound_to == provider:
        print(f"operator key {key} is bound to {provider} already")
        return
    if bound_to != ZERO_ADDRESS:
        raise ScriptError(f"operator key {key} is bound to {bound_to} for ever: make a new one")
    market.staking.bindOperatorKey(key, consent, {"from": provider})
    print(f"operator key {key} signs for {provider}")


def operator_consent(market: Deployment, provider: Any) -> tuple[str, str] | None:
    """Address of the operator key and its signature over being bound."""
    secret = os.environ.get("TALLYSTICK_OPERATOR_KEY")
    if secret:
        try:
            key = address_of_key(secret)
            message = OperatorKey(provider=to_address(str(provider)), key=key)
            domain = Domain(market.chain_id, to_address(market.escrow.address))
            return key, sign(domain, message, secret)
        except ProtocolError as error:
            raise ScriptError(f"TALLYSTICK_OPERATOR_KEY: {error}") from None
    address = os.environ.get("TALLYSTICK_OPERATOR_ADDRESS")
    consent = os.environ.get("TALLYSTICK_OPERATOR_CONSENT")
    if address and consent:
        return address_of(address, "TALLYSTICK_OPERATOR_ADDRESS"), consent
    if address or consent:
        raise ScriptError(
            "TALLYSTICK_OPERATOR_ADDRESS and TALLYSTICK_OPERATOR_CONSENT belong together: set both"
        )
    return None
