"""Why a contract refused, in a sentence that says what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from tallystick.protocol import codec
from tallystick.protocol.contract_sentences import CONTRACT_SENTENCES, without_units
from tallystick.protocol.errors import ContractError

__all__ = ["SENTENCES", "decode_error"]

_ERROR: Final = bytes.fromhex("08c379a0")  # Error(string)
_PANIC: Final = bytes.fromhex("4e487b71")  # Panic(uint256)

SENTENCES: Final[Mapping[str, str]] = {
    name: without_units(sentence.en) for name, sentence in CONTRACT_SENTENCES.items()
}
"""In English, with whole numbers as the contract gave them."""

_PANICS: Final[Mapping[int, str]] = {
    0x01: "an assertion failed",
    0x11: "an amount went below zero or beyond its largest value",
    0x12: "a division by zero",
    0x21: "a value outside its enumeration",
    0x32: "an index outside its array",
}


def decode_error(data: bytes | str) -> ContractError:
    """Always an answer: an error of ours, a plain reason, a panic, or what little is known."""
    raw = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else data
    if not raw:
        return ContractError(
            "",
            (),
            "the contract refused without a reason: is that contract at this address?",
        )
    known = codec.decode_error_values(raw)
    if known is not None:
        name, values = known
        sentence = SENTENCES.get(name)
        if sentence is None:
            return ContractError(name, values, f"the contract refused with {name}{values}")
        return ContractError(name, values, sentence.format(*values))
    return _of_the_language(raw) or ContractError(
        raw[:4].hex(), (), f"the contract refused with an unknown error 0x{raw[:68].hex()}"
    )


def _of_the_language(raw: bytes) -> ContractError | None:
    kind = {_ERROR: "string", _PANIC: "uint256"}.get(raw[:4])
    if kind is None:
        return None
    try:
        value: Any = decode([kind], raw[4:])[0]
    except DecodingError:
        return None
    if kind == "string":
        return ContractError("Error", (value,), f"the contract refused: {value}")
    reason = _PANICS.get(value, "an internal check failed")
    return ContractError("Panic", (value,), f"the contract stopped: {reason} (panic 0x{value:02x})")
