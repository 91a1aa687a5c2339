"""Every function a Python user would call has a typed method, and every typed method a function.

The list of functions is the ABI's. What has no method is in `NO_METHOD`, each with its reason. A
method is called with one value of each of its types: what it encodes must be calldata of the
function that bears its name, and every read of a contract must ask for the function it says.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tallystick.protocol import codec, contracts, messages
from tallystick.protocol.contracts import Call
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.types import Address, AppId, Digest, Fence, Signature, TaskId
from tests.support.anvil import person
from tools.contract_docs import asked_by, typed_methods

MARKET_ONLY = "the market alone may call it"
COURT_ONLY = "the court alone may call it"
WALLETS = "EIP-5267, for wallets and explorers; messages.Domain is the same in Python"

NO_METHOD: dict[tuple[codec.ContractName, str], str] = {
    ("ComputeEscrow", "lockAvailable"): MARKET_ONLY,
    ("ComputeEscrow", "unlock"): MARKET_ONLY,
    ("ComputeEscrow", "payProviderFrom"): MARKET_ONLY,
    ("ComputeEscrow", "channelIdOf"): "pure: messages.channel_id",
    ("ComputeEscrow", "eip712Domain"): WALLETS,
    ("TaskMarket", "resolve"): COURT_ONLY,
    ("TaskMarket", "eip712Domain"): WALLETS,
    ("ProviderStaking", "addFees"): "the escrow alone may call it: Escrow.share_fees",
    ("ProviderStaking", "setSeats"): COURT_ONLY,
    ("ProviderStaking", "slash"): COURT_ONLY,
    ("ProviderStaking", "eip712Domain"): WALLETS,
    ("DisputeCourt", "open"): "the market alone may call it: Market.dispute",
    ("DisputeCourt", "commitmentOf"): "pure: evidence.commitment",
    ("DisputeCourt", "offenceOfRoute"): "pure: evidence.offence_of_route",
    ("DisputeCourt", "offenceOfGpu"): "pure: evidence.offence_of_gpu",
    ("DisputeCourt", "offenceOfTask"): "pure: evidence.offence_of_task",
    ("DisputeCourt", "offenceOfSilence"): "pure: evidence.offence_of_silence",
    ("DisputeCourt", "eip712Domain"): WALLETS,
}

OURS: tuple[codec.ContractName, ...] = tuple(c for c in codec.CONTRACTS if c != "TallyToken")
CLASSES: dict[str, Any] = {
    name: kind
    for name, kind in vars(contracts).items()
    if inspect.isclass(kind) and hasattr(kind, "NAME") and kind.NAME in codec.CONTRACTS
}


def methods() -> Iterator[tuple[str, str]]:
    for owner, kind in CLASSES.items():
        for member, _ in inspect.getmembers(kind, inspect.isfunction):
            if not member.startswith("_"):
                yield owner, member


# --- the list ---------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", OURS)
def test_every_function_has_a_method_or_a_reason(contract: codec.ContractName) -> None:
    declared = {entry["name"] for entry in codec.abi(contract) if entry["type"] == "function"}
    without = {name for name in declared if (contract, name) not in typed_methods()}
    excused = {name for place, name in NO_METHOD if place == contract}
    assert without - excused == set(), "give it a typed method in tallystick.protocol.contracts"
    assert excused - without == set(), "it has a method, or is gone: take it out of NO_METHOD"


def test_what_takes_the_place_of_a_method_is_there() -> None:
    for reason in NO_METHOD.values():
        for module, name in re.findall(r"\b(evidence|messages|Escrow|Market)\.(\w+)", reason):
            owner = CLASSES.get(module) or __import__(
                f"tallystick.protocol.{module}", fromlist=[name]
            )
            assert hasattr(owner, name), f"{module} has no {name}"


# --- each does what it says -------------------------------------------------------------------

SOMEBODY = person("somebody")
DIGEST = Digest("0x" + "ab" * 32)
DOMAIN = messages.Domain(31337, SOMEBODY.address)
CHANNEL = messages.Channel(SOMEBODY.address, SOMEBODY.address, SOMEBODY.address, 7)
VOUCHER = CHANNEL.voucher(5, DIGEST)
SIGNATURE = messages.sign(DOMAIN, VOUCHER, SOMEBODY.key)


def sample(kind: Any) -> Any:
    """One value of an annotated type."""
    simple: dict[Any, Any] = {
        int: 3,
        str: SIGNATURE,
        Address: SOMEBODY.address,
        Digest: DIGEST,
        AppId: AppId(DIGEST),
        TaskId: TaskId(DIGEST),
        Fence: Fence(1),
        Signature: SIGNATURE,
    }
    if kind in simple:
        return simple[kind]
    if kind is contracts.SignedVoucher:
        return contracts.SignedVoucher(VOUCHER, SIGNATURE)
    if typing.get_origin(kind) is Sequence:
        return [sample(typing.get_args(kind)[0])]
    if members := typing.get_args(kind):
        return sample(members[0])
    if issubclass(kind, int):
        return list(kind)[1]
    hints = typing.get_type_hints(kind)
    return kind(**{name: sample(hints[name]) for name in inspect.signature(kind).parameters})


def called_with_samples(method: Callable[..., Any]) -> Any:
    hints = typing.get_type_hints(method)
    names = [name for name in inspect.signature(method).parameters if name != "block"]
    return method(**{name: sample(hints[name]) for name in names})


class Asked(Exception):
    """What a read would have sent to the chain."""


class _Eth:
    async def call(self, params: Any, *_: Any, **__: Any) -> bytes:
        raise Asked(params["data"])


class _Chain:
    eth = _Eth()


def function_of(contract: codec.ContractName, data: bytes) -> str:
    """Whose selector it begins with; the rest must be what the ABI makes of it."""
    for entry in codec.abi(contract):
        if entry["type"] != "function":
            continue
        kinds = ",".join(spelt(value) for value in entry["inputs"])
        if keccak256(f"{entry['name']}({kinds})".encode())[:4] == data[:4]:
            return str(entry["name"])
    raise AssertionError(f"{contract} has no function with the selector {data[:4].hex()}")


def spelt(value: dict[str, Any]) -> str:
    if not value["type"].startswith("tuple"):
        return str(value["type"])
    inner = ",".join(spelt(part) for part in value["components"])
    return f"({inner}){value['type'].removeprefix('tuple')}"


@pytest.mark.parametrize(("owner", "member"), sorted(methods()))
def test_a_method_asks_for_the_function_it_names(owner: str, member: str) -> None:
    kind = CLASSES[owner]
    method = getattr(kind(_Chain(), SOMEBODY.address), member)
    named = asked_by(getattr(kind, member))
    assert len(named) == 1, f"{owner}.{member} names {named}"
    if inspect.iscoroutinefunction(method):
        with pytest.raises(Asked) as asked:
            asyncio.run(called_with_samples(method))
        data = bytes.fromhex(str(asked.value)[2:])
    else:
        call = called_with_samples(method)
        assert isinstance(call, Call)
        assert (call.to, call.value) == (SOMEBODY.address, 0)
        data = call.data
    assert re.fullmatch(named.pop(), function_of(kind.NAME, data))
