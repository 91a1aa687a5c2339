"""What can go wrong in the kernel. Every message says what happened, with which value, and what to
do.

ProtocolError
├── AmountError          text that is not an exact amount
├── DurationError        text that is not a length of time
├── AddressError         not an account, or a mistyped checksum
├── MessageError         a field that does not fit its EIP-712 type
├── SignatureError       not the one canonical form, or of nobody
├── MerkleError          a tree that cannot be built
├── SealError            sealed bytes that this key, task or fence does not open
├── LoginError           a provider's log-in proof that proves nothing
├── WireError            bytes that are not one well-formed body
├── QuoteError           a price asked for where there is none
├── DeploymentError      no deployment, or not the one on this chain
├── ContractError        a contract refused; carries the error's name and values
└── TransactionError
    ├── TransactionReverted   mined and refused
    └── TransactionTimeout    not mined in time; it may still be
"""

from __future__ import annotations

__all__ = [
    "AddressError",
    "AmountError",
    "ContractError",
    "DeploymentError",
    "DurationError",
    "LoginError",
    "MerkleError",
    "MessageError",
    "ProtocolError",
    "QuoteError",
    "SealError",
    "SignatureError",
    "TransactionError",
    "TransactionReverted",
    "TransactionTimeout",
    "WireError",
]


class ProtocolError(Exception):
    """Base of every error raised by `tallystick.protocol`."""


class AmountError(ProtocolError, ValueError):
    pass


class DurationError(ProtocolError, ValueError):
    pass


class AddressError(ProtocolError, ValueError):
    pass


class MessageError(ProtocolError, ValueError):
    pass


class SignatureError(ProtocolError, ValueError):
    pass


class MerkleError(ProtocolError, ValueError):
    pass


class SealError(ProtocolError):
    pass


class LoginError(ProtocolError):
    pass


class WireError(ProtocolError, ValueError):
    pass


class QuoteError(ProtocolError, ValueError):
    pass


class DeploymentError(ProtocolError):
    pass


class ContractError(ProtocolError):
    """A contract's custom error: `name` and `values` as in the ABI, `sentence` for people."""

    def __init__(self, name: str, values: tuple[object, ...], sentence: str) -> None:
        super().__init__(sentence)
        self.name = name
        self.values = values
        self.sentence = sentence

    def __reduce__(self) -> tuple[type[ContractError], tuple[str, tuple[object, ...], str]]:
        return type(self), (self.name, self.values, self.sentence)


class TransactionError(ProtocolError):
    """Sending or mining a transaction failed; `tx_hash` is empty when none was sent."""

    def __init__(self, message: str, tx_hash: str = "") -> None:
        super().__init__(message)
        self.tx_hash = tx_hash


class TransactionReverted(TransactionError):
    pass


class TransactionTimeout(TransactionError):
    pass
