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
├── CallError            a call on a channel cannot go on
│   ├── ReceiptRefused       a field of a receipt is not what was asked for; names it
│   ├── VoucherRefused       the same of a voucher
│   ├── PausedFunds          the deposit does not cover the next call: top it up
│   ├── ChannelClosing       a close was requested
│   ├── TooManyCalls         as many calls are open as the provider gives credit for
│   └── ChannelAbandoned     nothing is signed on this channel any more: take a new salt
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
    "CallError",
    "ChannelAbandoned",
    "ChannelClosing",
    "ContractError",
    "DeploymentError",
    "DurationError",
    "LoginError",
    "MerkleError",
    "MessageError",
    "PausedFunds",
    "ProtocolError",
    "QuoteError",
    "ReceiptRefused",
    "SealError",
    "SignatureError",
    "TooManyCalls",
    "TransactionError",
    "TransactionReverted",
    "TransactionTimeout",
    "VoucherRefused",
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


class CallError(ProtocolError):
    """Base of what stops a call on a channel. Nothing was signed."""


class _FieldRefused(CallError):
    """`field` is the message's own name for it."""

    WHAT = ""

    def __init__(self, field: str, expected: object, found: object) -> None:
        super().__init__(
            f"the {self.WHAT}'s {field} is {found}, expected {expected}: nothing was signed for it"
        )
        self.field = field
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[type[_FieldRefused], tuple[str, object, object]]:
        return type(self), (self.field, self.expected, self.found)


class ReceiptRefused(_FieldRefused):
    WHAT = "receipt"


class VoucherRefused(_FieldRefused):
    WHAT = "voucher"


class PausedFunds(CallError):
    """`missing` is the least top-up that lets this call through."""

    def __init__(self, needed: int, covered: int) -> None:
        super().__init__(
            f"the next call may cost {needed} and the deposit covers {covered}: add "
            f"{needed - covered} to the channel"
        )
        self.needed = needed
        self.covered = covered

    @property
    def missing(self) -> int:
        return self.needed - self.covered

    def __reduce__(self) -> tuple[type[PausedFunds], tuple[int, int]]:
        return type(self), (self.needed, self.covered)


class ChannelClosing(CallError):
    pass


class TooManyCalls(CallError):
    pass


class ChannelAbandoned(CallError):
    """The journal of one side was lost or is behind. What was signed stays good and is redeemed;
    nothing more is signed under this salt."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}: nothing more is signed on this channel, open one with a new salt and request "
            "the close of this one"
        )
        self.why = why

    def __reduce__(self) -> tuple[type[ChannelAbandoned], tuple[str]]:
        return type(self), (self.why,)


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
