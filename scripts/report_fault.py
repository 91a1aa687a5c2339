"""Report a provider that signed two truths, and earn a fifth of what it loses.

    brownie run report_fault main evidence.json --network tallystick     sends the report
    brownie run report_fault check evidence.json --network tallystick    only says what it shows
    brownie run report_fault burn --network tallystick                   the rest of it is burned

The evidence is a JSON file with two signed receipts, numbers as decimal strings or integers:

    {"one":   {"receipt": {"provider": "0x..", "route": "0x..", "seq": "3", ...}, "signature": "0x.."},
     "other": {"receipt": {...}, "signature": "0x.."},
     "channel": {"payer": "0x..", "signer": "0x..", "provider": "0x..", "salt": "0"},
     "gpusOne": ["GPU-6d0f..."], "gpusOther": ["GPU-6d0f..."]}

`channel` is needed for two neighbours of a channel that do not follow; `gpusOne` and `gpusOther`,
all ids behind each receipt's gpuSet, for one GPU held for two at one time. Two receipts for one
place need neither. Everything is checked before anything is sent. What was earned is paid out by
`brownie run claim_rewards bounty`.
"""  # noqa: E501

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scripts.support import (
    Deployment,
    ScriptError,
    command,
    deployment,
    domain_of,
    require_gas_money,
    send,
    shown,
    signer,
)
from tallystick.protocol import wire
from tallystick.protocol.contracts import Court, SignedReceipt
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.evidence import (
    BrokenChain,
    Fault,
    GpuSoldTwice,
    call_of,
    fault_of,
    offence_of_gpu,
    offence_of_route,
    signers_of,
)
from tallystick.protocol.messages import Channel, Domain, Receipt
from tallystick.protocol.types import Digest, to_address

_NO_WEB3: Any = None


@command
def main(path: str = "") -> None:
    market, fault = examined(path)
    reporter = signer()
    require_gas_money(reporter)
    call = call_of(Court(_NO_WEB3, to_address(market.court.address)), fault)
    send(reporter, call)
    bounty = market.staking.bountyOf(reporter)
    print(
        f"reported; {shown(bounty, market.staking_token)} of bounties wait for {reporter} in the"
        " staking contract"
    )


@command
def check(path: str = "") -> None:
    examined(path)


@command
def burn() -> None:
    market, sender = deployment(), signer()
    waiting = market.staking.unburned()
    if waiting == 0:
        print("no slashed stake waits to be burned")
        return
    require_gas_money(sender)
    market.staking.burnSlashed({"from": sender})
    print(f"{shown(waiting, market.staking_token)} burned")


def examined(path: str) -> tuple[Deployment, Fault]:
    """What the file shows, told; everything that the court would refuse is an error."""
    content = read(path)
    market = deployment()
    domain = domain_of(market)
    fault = fault_in(domain, content, path)
    provider = provider_of(fault)
    try:
        signers = signers_of(domain, fault)
    except ProtocolError as error:
        raise ScriptError(f"{path}: {error}") from None
    for who in signers:
        if not market.staking.answersFor(provider, who):
            raise ScriptError(
                f"{path}: a receipt is signed by {who}, for whom {provider} does not answer: it is"
                " no key of the provider, it was retired too long ago, or the receipt is of another"
                " chain or deployment"
            )
    offence = offence_of(fault)
    if market.staking.isPunished(offence):
        raise ScriptError(f"{path}: this offence of {provider} was punished already")
    print(f"{path} shows that {provider} {said(fault)}")
    return market, fault


def read(path: str) -> dict[str, Any]:
    if not path:
        raise ScriptError("which evidence? `brownie run report_fault main evidence.json`")
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise ScriptError(f"{path} cannot be read ({error.strerror}): name another file") from None
    except ValueError as error:
        raise ScriptError(f"{path} is not JSON: {error}") from None
    known = {"one", "other", "channel", "gpusOne", "gpusOther"}
    if not isinstance(content, dict) or not {"one", "other"} <= set(content) <= known:
        raise ScriptError(
            f"{path} must hold `one` and `other`, and may hold `channel`, `gpusOne`, `gpusOther`"
        )
    return content


def fault_in(domain: Domain, content: dict[str, Any], path: str) -> Fault:
    try:
        return fault_of(
            domain,
            signed_receipt(content["one"]),
            signed_receipt(content["other"]),
            channel=channel_in(content),
            gpus_one=names(content, "gpusOne"),
            gpus_other=names(content, "gpusOther"),
        )
    except (ProtocolError, ValidationError) as error:
        raise ScriptError(f"{path}: {error}") from None


def signed_receipt(content: Any) -> SignedReceipt:
    if not isinstance(content, dict) or set(content) != {"receipt", "signature"}:
        raise ScriptError("a signed receipt has the entries `receipt` and `signature`")
    body = wire.ReceiptBody.model_validate(content["receipt"])
    return SignedReceipt(Receipt.from_body(body), str(content["signature"]))


def channel_in(content: dict[str, Any]) -> Channel | None:
    if "channel" not in content:
        return None
    return Channel.from_body(wire.ChannelBody.model_validate(content["channel"]))


def names(content: dict[str, Any], entry: str) -> list[str]:
    found = content.get(entry, [])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ScriptError(f"`{entry}` must be a list of GPU ids")
    return found


def provider_of(fault: Fault) -> Any:
    shown_first = fault.earlier if isinstance(fault, BrokenChain) else fault.one
    return shown_first.receipt.provider


def offence_of(fault: Fault) -> Digest:
    provider = provider_of(fault)
    if isinstance(fault, GpuSoldTwice):
        return offence_of_gpu(provider, fault.gpu_id, fault.day)
    shown_first = fault.earlier if isinstance(fault, BrokenChain) else fault.one
    return offence_of_route(provider, shown_first.receipt.route)


def said(fault: Fault) -> str:
    if isinstance(fault, GpuSoldTwice):
        return f"sold one GPU twice at one time (id {fault.gpu_id})"
    if isinstance(fault, BrokenChain):
        return f"broke the chain of receipts of {fault.earlier.receipt.route}"
    return f"signed two receipts for one place of {fault.one.receipt.route}"
