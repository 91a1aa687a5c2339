"""Deploy the contracts and write down where they are.

    TALLYSTICK_RPC_URL=... TALLYSTICK_PRIVATE_KEY=... brownie run deploy --network tallystick

Networks, accounts and the deployment file: see support.py. The contracts cannot be changed later,
and neither can these, each read from the environment:

    TALLYSTICK_TOKEN                  payment token; without it a TallyToken is deployed
    TALLYSTICK_STAKING_TOKEN          staking token; the payment token without it
    TALLYSTICK_SUPPLY                 supply of that TallyToken, in whole tokens   (1000000000)
    TALLYSTICK_TREASURY               receives the protocol fee                    (the deployer)
    TALLYSTICK_PROTOCOL_FEE_BPS       of credit withdrawn, at most 500             (100)
    TALLYSTICK_POOL_SHARE_BPS         of those fees, to the payee's staking pool   (5000)
    TALLYSTICK_CLOSE_SECONDS          from request to close of a channel, 1 hour to 30 days
                                                                                   (259200, 3 days)
    TALLYSTICK_STAKE_UNIT             own stake per GPU, in whole tokens           (100)
    TALLYSTICK_UNBONDING_SECONDS      (1814400, 21 days)
    TALLYSTICK_RETIRED_KEY_SECONDS    (604800, 7 days)
    TALLYSTICK_COMMISSION_NOTICE_SECONDS  (604800)
    TALLYSTICK_JAIL_SECONDS           (604800)
    TALLYSTICK_STREAM_SECONDS         over which fees reach delegators             (604800)
    TALLYSTICK_CANCEL_SECONDS         (3600)
    TALLYSTICK_MIN_CHALLENGE_SECONDS  (86400)
    TALLYSTICK_MAX_CHALLENGE_SECONDS  (604800)
    TALLYSTICK_COURT_SECONDS          (518400, 6 days)
    TALLYSTICK_REDEPLOY=1             deploy although this chain has a deployment

Neighbours are told each other's address before they exist, computed from the deployer's nonce:
send nothing else from that account meanwhile.
"""

from __future__ import annotations

import json
import os
from typing import Any

from scripts.support import (
    ROOT,
    ZERO_ADDRESS,
    ScriptError,
    address_of,
    amount_of,
    chain_id,
    command,
    container,
    contract_at,
    deployment_path,
    read_deployment,
    require_code,
    require_gas_money,
    signer,
)

# There is no court in this version: terms that ask for verification are refused on chain.
NO_COURT = ZERO_ADDRESS


@command
def main() -> None:
    deployer = signer()
    require_gas_money(deployer)
    refuse_to_forget_a_deployment()
    windows = {
        "cancelSeconds": seconds("TALLYSTICK_CANCEL_SECONDS", 3_600),
        "minChallengeSeconds": seconds("TALLYSTICK_MIN_CHALLENGE_SECONDS", 86_400),
        "maxChallengeSeconds": seconds("TALLYSTICK_MAX_CHALLENGE_SECONDS", 604_800),
        "courtSeconds": seconds("TALLYSTICK_COURT_SECONDS", 518_400),
    }
    clocks = {
        "unbondingSeconds": seconds("TALLYSTICK_UNBONDING_SECONDS", 1_814_400),
        "retiredKeySeconds": seconds("TALLYSTICK_RETIRED_KEY_SECONDS", 604_800),
        "commissionNoticeSeconds": seconds("TALLYSTICK_COMMISSION_NOTICE_SECONDS", 604_800),
        "jailSeconds": seconds("TALLYSTICK_JAIL_SECONDS", 604_800),
        "streamSeconds": seconds("TALLYSTICK_STREAM_SECONDS", 604_800),
    }
    fee_bps = whole("TALLYSTICK_PROTOCOL_FEE_BPS", 100, 500)
    pool_share_bps = whole("TALLYSTICK_POOL_SHARE_BPS", 5_000, 10_000)
    close_s = whole("TALLYSTICK_CLOSE_SECONDS", 259_200, 2_592_000, least=3_600)
    treasury = address_of(os.environ.get("TALLYSTICK_TREASURY", str(deployer)), "treasury")

    token = payment_token(deployer)
    staking_token = existing_token("TALLYSTICK_STAKING_TOKEN") or token
    unit = amount_of(
        os.environ.get("TALLYSTICK_STAKE_UNIT", "100"), staking_token.decimals(), "stake unit"
    )

    staking_address = deployer.get_deployment_address(deployer.nonce + 1)
    market_address = deployer.get_deployment_address(deployer.nonce + 2)
    neighbours = (token, market_address, staking_address, treasury)
    escrow, block = deploy(deployer, "ComputeEscrow", *neighbours, fee_bps, pool_share_bps, close_s)
    staking, _ = deploy(
        deployer, "ProviderStaking", staking_token, escrow, NO_COURT, unit, tuple(clocks.values())
    )
    market, _ = deploy(deployer, "TaskMarket", escrow, staking, NO_COURT, tuple(windows.values()))

    write(
        {
            "chainId": chain_id(),
            "token": token.address,
            "stakingToken": staking_token.address,
            "escrow": escrow.address,
            "staking": staking.address,
            "market": market.address,
            "court": NO_COURT,
            "treasury": treasury,
            "deployer": deployer.address,
            "block": block,
            "constructor": {
                "protocolFeeBps": fee_bps,
                "poolShareBps": pool_share_bps,
                "closeSeconds": close_s,
                "unit": str(unit),
                **clocks,
                **windows,
            },
        }
    )


def payment_token(deployer: Any) -> Any:
    existing = existing_token("TALLYSTICK_TOKEN")
    if existing is not None:
        return existing
    supply = amount_of(os.environ.get("TALLYSTICK_SUPPLY", "1000000000"), 18, "supply")
    token, _ = deploy(deployer, "TallyToken", deployer, supply)
    return token


def existing_token(variable: str) -> Any:
    text = os.environ.get(variable)
    if not text:
        return None
    address = address_of(text, variable)
    require_code(address, variable)
    return contract_at("TallyToken", address)


def deploy(deployer: Any, name: str, *arguments: Any) -> tuple[Any, int]:
    """The contract and the block it came in."""
    creation = deployer.transfer(data=container(name).deploy.encode_input(*arguments))
    return contract_at(name, creation.contract_address), int(creation.block_number)


def refuse_to_forget_a_deployment() -> None:
    from brownie import web3

    stored = read_deployment()
    if stored is None or os.environ.get("TALLYSTICK_REDEPLOY") == "1":
        return
    if web3.eth.get_code(stored["escrow"]):
        raise ScriptError(
            f"chain {chain_id()} has a deployment already (escrow {stored['escrow']}, in"
            f" {deployment_path(chain_id())}): use it, or set TALLYSTICK_REDEPLOY=1"
        )


def seconds(variable: str, default: int) -> int:
    return whole(variable, default, 2**32 - 1)


def whole(variable: str, default: int, most: int, *, least: int = 0) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ScriptError(f"{variable} is {text!r}: give a whole number from {least} to {most}")
    return int(text)


def write(deployment: dict[str, Any]) -> None:
    path = deployment_path(deployment["chainId"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(deployment, indent=2) + "\n")
    for name in ("token", "stakingToken", "escrow", "staking", "market"):
        print(f"{name:13} {deployment[name]}")
    print(f"written to {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
