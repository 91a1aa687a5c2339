"""What can go wrong for a consumer, as one tree.

    TallystickError
    ├── InvalidRequest            the call itself is wrong: a value, a file, a combination
    │   └── ConfigurationError    a setting is missing or contradicts another
    ├── Refused                   a budget, a limit or a rule says no
    │   ├── PriceAboveCeiling     nobody works for the highest price you gave
    │   ├── NoProvider            nobody on the market has what the task asks for
    │   └── NotAllowed            this wallet or key may not do that
    ├── NotFound                  no such task, provider or key (or it is not yours)
    ├── PaymentNeeded             the account or the wallet holds too little
    ├── TimedOut                  the waiting time you gave is over; the task goes on
    ├── TaskFailed                the task ended without a result
    ├── CallFailed                the call ended without a result; it cost nothing
    ├── VerificationFailed        what came back does not match what was ordered
    ├── Conflict                  the task is in a state where this cannot be done
    ├── ServiceError              the backend answered with something unusable
    │   └── Unreachable           no answer at all, after all retries
    └── ChainError                a transaction or a read on the chain failed

Each carries a sentence (what happened, with which values) and `next_step` (what to do about it).
"""

from __future__ import annotations

from typing import ClassVar


class TallystickError(Exception):
    """Base of everything the SDK raises on purpose; catch it at the edge of your program."""

    code: ClassVar[str] = "error"

    def __init__(self, sentence: str, *, next_step: str = "", **values: object) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step
        self.values: dict[str, object] = values

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}".strip()


class InvalidRequest(TallystickError):
    """The call itself is wrong; nothing was sent, or the backend refused the fields."""

    code = "invalid_request"


class ConfigurationError(InvalidRequest):
    """A setting is missing, unreadable, or contradicts another."""

    code = "configuration"


class Refused(TallystickError):
    """A budget, a limit or a rule says no. Asking again without a change gives the same answer."""

    code = "refused"


class PriceAboveCeiling(Refused):
    """Every provider that could do it asks for more than `max_price`."""

    code = "price_above_ceiling"


class NoProvider(Refused):
    """Nobody on the market has what the task asks for; `values["reasons"]` says why for each."""

    code = "no_provider"


class NotAllowed(Refused):
    """This wallet or API key may not do that."""

    code = "not_allowed"


class NotFound(TallystickError):
    """No such thing, or it belongs to somebody else; the backend does not say which."""

    code = "not_found"


class PaymentNeeded(TallystickError):
    """The account in the escrow, or the wallet, holds less than the act needs."""

    code = "payment_needed"


class TimedOut(TallystickError):
    """The waiting time you gave is over. The task itself goes on."""

    code = "timed_out"


class TaskFailed(TallystickError):
    """The task ended without a result: failed, cancelled before it ran, or refunded."""

    code = "task_failed"


class CallFailed(TallystickError):
    """The app or its provider did not answer the call. Nothing was charged."""

    code = "call_failed"


class VerificationFailed(TallystickError):
    """What came back does not match what was ordered. Nothing was accepted, so nothing was paid."""

    code = "verification_failed"


class Conflict(TallystickError):
    """The task is in a state where this cannot be done."""

    code = "conflict"


class ServiceError(TallystickError):
    """The backend answered, but with an error of its own or something unreadable."""

    code = "service_error"


class Unreachable(ServiceError):
    """No answer from the backend after all retries."""

    code = "unreachable"


class ChainError(TallystickError):
    """A transaction reverted, was not mined in time, or the chain endpoint cannot be read."""

    code = "chain_error"
