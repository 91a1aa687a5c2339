"""Whether an order can be taken: what the signed terms and the manifest must say to each other.

Pure. Each refusal names the value, the value that would do, and the cheapest change.

OrderError
├── NotYourOrder              the terms name another consumer than the one who sends them
├── SpecMismatch              terms.spec is not the digest of the manifest
├── GpusMismatch              terms and manifest ask for different numbers of GPUs
├── WrongDispatcher           the terms name another dispatcher, or another share than ours
├── DeadlineOutOfRange        no time to run, or a deadline beyond reason
├── CeilingTooLow             maxCharge does not cover maxSeconds
├── SharesOutOfRange          shares the contract would refuse
├── ChallengeWindowOutOfRange a window the contract would refuse
├── VerificationUnsupported   a rule that needs the court
├── SealedKeyRefused          a sealed key for nobody, or twice
├── FenceGiven                a sealed key for a lease that was given already
├── InputMissing              the manifest's input was not uploaded by this consumer
├── WrongSigner               the signature is not the consumer's
└── TaskExists                the same terms were sent before
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick.protocol.types import ZERO_ADDRESS, Address
from tallystick.protocol.wire import CreateTask, SealedKey, TaskTermsBody
from tallystick_backend.errors import BackendError

LONGEST_RUN_S: Final = 30 * 86_400
FARTHEST_DEADLINE_S: Final = 366 * 86_400
MAX_SHARES_BPS: Final = 3_000


@dataclass(frozen=True, slots=True)
class Policy:
    """What this dispatcher takes, within what the contract takes."""

    dispatcher: Address
    dispatcher_bps: int
    min_challenge_seconds: int
    max_challenge_seconds: int


def check_order(order: CreateTask, consumer: Address, policy: Policy, now_s: int) -> None:
    """Raises the first reason why this order cannot be taken; the signature and what only the rows
    know (input, providers) are checked by the caller."""
    terms = order.terms
    if terms.consumer.lower() != consumer.lower():
        raise NotYourOrder(terms.consumer, consumer)
    digest = spec_digest(order.manifest)
    if terms.spec != digest:
        raise SpecMismatch(expected=digest, actual=terms.spec)
    if terms.gpus != order.manifest.resources.gpus:
        raise GpusMismatch(order.manifest.resources.gpus, terms.gpus)
    if (order.manifest.resources.gpu_class == "") != (terms.gpus == 0):
        raise GpusMismatch(order.manifest.resources.gpus, terms.gpus, class_missing=True)
    _check_shares(terms, policy)
    _check_times(terms, policy, now_s)
    _check_ceiling(terms)
    if terms.verification != 0:
        raise VerificationUnsupported(terms.verification)


def check_sealed_keys(
    keys: Iterable[SealedKey], known_providers: Collection[str], *, newest_fence: int = 0
) -> None:
    """Each key is for a provider that exists and for a fence still to come, once."""
    seen: set[tuple[str, int]] = set()
    for key in keys:
        place = (key.provider.lower(), key.fence)
        if place[0] not in known_providers:
            raise SealedKeyRefused(
                f"no provider {key.provider} is known here",
                "Seal keys to the providers that GET /v1/offers lists.",
            )
        if key.fence <= newest_fence:
            raise FenceGiven(key.fence, newest_fence)
        if key.fence >= 2**31:
            raise SealedKeyRefused(
                f"fence {key.fence} will never be given", "Seal keys for the next few fences."
            )
        if place in seen:
            raise SealedKeyRefused(
                f"two keys for provider {key.provider} and fence {key.fence}",
                "Send one key for each provider and fence.",
            )
        seen.add(place)


def _check_shares(terms: TaskTermsBody, policy: Policy) -> None:
    if terms.dispatcher.lower() != policy.dispatcher.lower():
        raise WrongDispatcher("dispatcher", policy.dispatcher, terms.dispatcher)
    if terms.dispatcher_bps != policy.dispatcher_bps:
        raise WrongDispatcher("dispatcher_bps", policy.dispatcher_bps, terms.dispatcher_bps)
    shares = terms.dispatcher_bps + terms.royalty_bps
    if shares > MAX_SHARES_BPS:
        raise SharesOutOfRange(
            f"the shares of dispatcher and royalty are {shares} basis points together, "
            f"the contract allows {MAX_SHARES_BPS}"
        )
    if terms.royalty_bps > 0 and terms.royalty_to == ZERO_ADDRESS:
        raise SharesOutOfRange(f"a royalty of {terms.royalty_bps} basis points goes to nobody")


def _check_times(terms: TaskTermsBody, policy: Policy, now_s: int) -> None:
    if not 1 <= terms.max_seconds <= LONGEST_RUN_S:
        raise DeadlineOutOfRange(
            f"maxSeconds is {terms.max_seconds}, a task runs from 1 to {LONGEST_RUN_S} seconds",
            "Sign terms with a maxSeconds in that range.",
        )
    earliest = now_s + terms.max_seconds
    if terms.deadline < earliest:
        raise DeadlineOutOfRange(
            f"the deadline {terms.deadline} leaves no room for {terms.max_seconds} seconds of work:"
            f" it is {now_s}",
            f"Sign terms with a deadline of {earliest} or later, or a smaller maxSeconds.",
        )
    latest = now_s + FARTHEST_DEADLINE_S
    if terms.deadline > latest:
        raise DeadlineOutOfRange(
            f"the deadline {terms.deadline} is more than a year away: it is {now_s}",
            f"Sign terms with a deadline of {latest} or earlier.",
        )
    shortest, longest = policy.min_challenge_seconds, policy.max_challenge_seconds
    if not shortest <= terms.challenge_window <= longest:
        raise ChallengeWindowOutOfRange(shortest, longest, terms.challenge_window)


def _check_ceiling(terms: TaskTermsBody) -> None:
    price = Price(terms.flat, terms.fee_per_call, terms.rate_per_gpu_second)
    needed = max_charge_up(price, terms.gpus, terms.max_seconds)
    if terms.max_charge < needed:
        raise CeilingTooLow(needed, terms.max_charge)


# --- errors -----------------------------------------------------------------------------------


class OrderError(BackendError):
    """This order cannot be taken as it is."""


class NotYourOrder(OrderError):
    next_step = "Log in with the wallet that signed the terms."

    def __init__(self, consumer: str, caller: str) -> None:
        super().__init__(f"the terms name consumer {consumer}, you are {caller}")


class SpecMismatch(OrderError):
    next_step = "Sign the digest of exactly the manifest you send."

    def __init__(self, *, expected: str, actual: str) -> None:
        super().__init__(f"the manifest's digest is {expected}, terms.spec is {actual}")


class GpusMismatch(OrderError):
    next_step = "Write the same number in terms.gpus and manifest.resources.gpus, with a class."

    def __init__(self, manifest: int, terms: int, *, class_missing: bool = False) -> None:
        super().__init__(
            f"a task of {terms} GPUs and its GPU class do not go together: the class is empty "
            "exactly when no GPU is asked for"
            if class_missing
            else f"the manifest asks for {manifest} GPUs, the terms for {terms}"
        )


class WrongDispatcher(OrderError):
    next_step = "Take dispatcher and dispatcher_bps from GET /v1/deployment and sign again."

    def __init__(self, field: str, expected: object, actual: object) -> None:
        super().__init__(f"terms.{field} is {actual}, ours is {expected}")


class DeadlineOutOfRange(OrderError):
    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message, next_step=next_step)


class CeilingTooLow(OrderError):
    def __init__(self, needed: int, actual: int) -> None:
        super().__init__(
            f"maxCharge is {actual}, running for maxSeconds may cost {needed}",
            next_step=f"Sign terms with maxCharge {needed} or more, or a smaller maxSeconds.",
        )


class SharesOutOfRange(OrderError):
    next_step = "Lower the royalty, or name who receives it."


class ChallengeWindowOutOfRange(OrderError):
    def __init__(self, shortest: int, longest: int, actual: int) -> None:
        super().__init__(
            f"the challenge window is {actual} seconds, the contract takes {shortest} to {longest}",
            next_step="Take challenge_window_seconds from GET /v1/deployment and sign again.",
        )


class VerificationUnsupported(OrderError):
    next_step = "Sign terms with verification 0."

    def __init__(self, actual: int) -> None:
        super().__init__(f"verification {actual} is not taken by this dispatcher")


class SealedKeyRefused(OrderError):
    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message, next_step=next_step)


class FenceGiven(OrderError):
    next_step = "Seal the key for the next fence; `needs_key` of the task names it."

    def __init__(self, fence: int, newest_fence: int) -> None:
        super().__init__(f"fence {fence} was given already, the next one is {newest_fence + 1}")


class InputMissing(OrderError):
    next_step = "Upload the sealed bundle first: PUT /v1/blobs/{digest}."

    def __init__(self, digest: str) -> None:
        super().__init__(f"you have uploaded no bundle {digest}")


class WrongSigner(OrderError):
    next_step = "Sign with the consumer's wallet, for the chain and escrow of GET /v1/deployment."

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"the {what} is signed by {actual}, expected {expected}")


class TaskExists(OrderError):
    next_step = "Read the task by its id; a new order needs a new nonce in its terms."

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the order {task_id} was taken before")
