"""The contracts' ABI, as committed beside this file: calldata out, answers, logs and errors in.

Digests and byte strings are `0x` hex on our side and bytes on the ABI's; addresses come out with
their EIP-55 checksum. No other module reads the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from eth_abi import decoding, encoding
from eth_abi.abi import encode
from eth_abi.codec import ABIDecoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals, registry

from tallystick.protocol.errors import MessageError
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.types import Digest, to_address

__all__ = [
    "CONTRACTS",
    "AbiEvent",
    "ContractName",
    "abi",
    "bytecode",
    "constructor_data",
    "decode_answer",
    "decode_error_values",
    "decode_event",
    "encode_call",
    "error_names",
    "events",
]

ContractName = Literal[
    "ComputeEscrow", "TaskMarket", "ProviderStaking", "DisputeCourt", "AppRegistry", "TallyToken"
]
CONTRACTS: Final[tuple[ContractName, ...]] = (
    "ComputeEscrow",
    "TaskMarket",
    "ProviderStaking",
    "DisputeCourt",
    "AppRegistry",
    "TallyToken",
)


@dataclass(frozen=True, slots=True)
class _Value:
    name: str
    kind: str
    """Canonical type, tuples spelt out: what selectors are hashed of."""
    parts: tuple[_Value, ...]
    indexed: bool = False


@dataclass(frozen=True, slots=True)
class _Function:
    selector: bytes
    inputs: tuple[_Value, ...]
    outputs: tuple[_Value, ...]


@dataclass(frozen=True, slots=True)
class AbiEvent:
    name: str
    topic: Digest
    fields: tuple[_Value, ...]


@cache
def abi(contract: ContractName) -> tuple[dict[str, Any], ...]:
    return tuple(_artifact(contract)["abi"])


def bytecode(contract: ContractName) -> bytes:
    return bytes.fromhex(_artifact(contract)["bytecode"][2:])


def constructor_data(contract: ContractName, *values: Any) -> bytes:
    """What a deploying transaction carries."""
    inputs: tuple[_Value, ...] = ()
    for entry in abi(contract):
        if entry["type"] == "constructor":
            inputs = _values_of(entry["inputs"])
    return bytecode(contract) + _encode(contract, inputs, values)


def encode_call(contract: ContractName, function: str, *values: Any) -> bytes:
    found = _functions(contract)[function]
    return found.selector + _encode(function, found.inputs, values)


def decode_answer(contract: ContractName, function: str, data: bytes) -> tuple[Any, ...]:
    return _decode(function, _functions(contract)[function].outputs, data)


@cache
def events(contract: ContractName) -> dict[Digest, AbiEvent]:
    found = {}
    for entry in abi(contract):
        if entry["type"] == "event":
            fields = _values_of(entry["inputs"])
            topic = Digest("0x" + keccak256(_signature(entry["name"], fields)).hex())
            found[topic] = AbiEvent(entry["name"], topic, fields)
    return found


def decode_event(event: AbiEvent, topics: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """The values in the order of the event's declaration."""
    indexed = [field for field in event.fields if field.indexed]
    if len(topics) != 1 + len(indexed):
        raise MessageError(f"{event.name} has {1 + len(indexed)} topics, got {len(topics)}")
    from_topics = _decode(
        event.name, indexed, b"".join(bytes.fromhex(topic[2:]) for topic in topics[1:])
    )
    from_data = _decode(event.name, [field for field in event.fields if not field.indexed], data)
    topic_values, data_values = iter(from_topics), iter(from_data)
    return tuple(next(topic_values if field.indexed else data_values) for field in event.fields)


def decode_error_values(data: bytes) -> tuple[str, tuple[Any, ...]] | None:
    """Name and values of a custom error of any of the contracts; None if it is none of theirs."""
    found = _errors().get(data[:4])
    if found is None:
        return None
    name, inputs = found
    try:
        return name, _decode(name, inputs, data[4:])
    except MessageError:
        return None


def error_names() -> frozenset[str]:
    return frozenset(name for name, _ in _errors().values())


@cache
def _artifact(contract: ContractName) -> dict[str, Any]:
    file = resources.files("tallystick.protocol") / "abi" / f"{contract}.json"
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@cache
def _functions(contract: ContractName) -> dict[str, _Function]:
    found: dict[str, _Function] = {}
    for entry in abi(contract):
        if entry["type"] == "function":
            inputs = _values_of(entry["inputs"])
            selector = keccak256(_signature(entry["name"], inputs))[:4]
            found[entry["name"]] = _Function(selector, inputs, _values_of(entry["outputs"]))
    return found


@cache
def _errors() -> dict[bytes, tuple[str, tuple[_Value, ...]]]:
    found = {}
    for contract in CONTRACTS:
        for entry in abi(contract):
            if entry["type"] == "error":
                inputs = _values_of(entry["inputs"])
                found[keccak256(_signature(entry["name"], inputs))[:4]] = (entry["name"], inputs)
    return found


def _signature(name: str, values: Sequence[_Value]) -> bytes:
    return f"{name}({','.join(value.kind for value in values)})".encode()


def _values_of(entries: Sequence[dict[str, Any]]) -> tuple[_Value, ...]:
    found = []
    for entry in entries:
        kind: str = entry["type"]
        parts: tuple[_Value, ...] = ()
        if kind.startswith("tuple"):
            parts = _values_of(entry["components"])
            kind = f"({','.join(part.kind for part in parts)}){kind.removeprefix('tuple')}"
        found.append(_Value(entry["name"], kind, parts, entry.get("indexed", False)))
    return tuple(found)


def _encode(what: str, inputs: Sequence[_Value], values: Sequence[Any]) -> bytes:
    try:
        return encode(
            [value.kind for value in inputs],
            [_outward(kind, value) for kind, value in zip(inputs, values, strict=True)],
        )
    except (EncodingError, ValueError, TypeError) as failure:
        raise MessageError(f"{what} does not take these values: {failure}") from failure


@cache
def _decoder() -> ABIDecoder:
    """A contract stores the bytes of a string as they come: what is no UTF-8 must not make a log
    unreadable that everybody has to read."""
    lenient = registry.copy()  # type: ignore[no-untyped-call]
    lenient.unregister("string")
    lenient.register(
        BaseEquals("string"),  # type: ignore[no-untyped-call]
        encoding.TextStringEncoder,
        decoding.StringDecoder("replace"),  # type: ignore[no-untyped-call]
        label="string",
    )
    return ABIDecoder(lenient)


def _decode(what: str, outputs: Sequence[_Value], data: bytes) -> tuple[Any, ...]:
    try:
        raw = _decoder().decode([value.kind for value in outputs], data)
    except (DecodingError, ValueError, OverflowError) as failure:
        raise MessageError(
            f"the answer to {what} does not fit its ABI ({failure}): is this address that contract?"
        ) from failure
    return tuple(_inward(kind, value) for kind, value in zip(outputs, raw, strict=True))


def _element(kind: _Value) -> _Value:
    """Of an array, of fixed length or not."""
    return _Value(kind.name, kind.kind[: kind.kind.rindex("[")], kind.parts)


def _outward(kind: _Value, value: Any) -> Any:
    if kind.kind.endswith("]"):
        element = _element(kind)
        return [_outward(element, item) for item in value]
    if kind.parts:
        return tuple(_outward(part, item) for part, item in zip(kind.parts, value, strict=True))
    if kind.kind.startswith("bytes") and isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    return value


def _inward(kind: _Value, value: Any) -> Any:
    if kind.kind.endswith("]"):
        element = _element(kind)
        return tuple(_inward(element, item) for item in value)
    if kind.parts:
        return tuple(_inward(part, item) for part, item in zip(kind.parts, value, strict=True))
    if kind.kind == "address":
        return to_address(value)
    if kind.kind.startswith("bytes"):
        return "0x" + value.hex()
    return value
