"""Why a call is not answered. Each class is one code of a problem; none of them charges anything.

GatewayError
├── GatewayNotReady      this process does not sign: starting, or another one does
│   └── ChainInDoubt     the index stopped, or its rows differ from the contracts
├── JournalFailed        nothing could be written down, so nothing was sent
├── UnknownManifest · ManifestRefused · ManifestMissing
├── IdempotencyConflict · NoPrice · InputTooLarge · InputRefused · InvalidInput
├── MaxChargeTooLow
├── WebhookRefused
├── AllowanceRefused     not the caller's, not for its session key, expired, wrongly signed
├── TooManyCallsOpen · SpendLimitReached
├── VoucherRefused · UnknownOwnChannel
├── OwnSignerRefused     the key that was named as the consumer's own is the gateway's
├── NoFunds
│   ├── NoOwnChannel     the consumer's own key has no channel with a provider of the app
│   ├── VoucherDue       the consumer has not signed for the call before
│   ├── NoAllowance      no allowance lets the session key pay
│   ├── PausedFunds      the allowance or the account does not cover the call
│   └── ChannelsClosing  the payer asked for the money back
├── CallStopped          a provider was asked, and came to nothing
│   ├── NoProvider       nobody serves the app now
│   ├── ProviderLost     it fell silent in the middle
│   ├── CallTimedOut     it ran longer than the version allows
│   ├── HandlerFailed    the app's own failure
│   ├── ResultTooLarge
│   └── CallCanceled
├── UnknownCall · ResultNotThere · ResultForgotten
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tallystick_backend.errors import BackendError

_NAMED: Final = 10
"""Providers named in a sentence."""


class GatewayError(BackendError):
    """Base of the gateway's errors."""


class GatewayNotReady(GatewayError):
    next_step = "Try again shortly; GET /readyz says what is missing."


class ChainInDoubt(GatewayNotReady):
    """What is known of the chain may be false: nothing new is begun or paid in."""

    next_step = "Try again later; GET /readyz says what is wrong, and somebody has to look at it."

    def __init__(self, why: str) -> None:
        super().__init__(f"no call is taken and no channel funded: {why[:300]}")


class JournalFailed(GatewayError):
    next_step = "Try again with the same Idempotency-Key."

    def __init__(self) -> None:
        super().__init__("the call could not be written down")


class UnknownManifest(GatewayError):
    next_step = "Upload it with PUT /v1/manifests/{digest}; `tallystick app deploy` does."

    def __init__(self, digest: str) -> None:
        super().__init__(f"no manifest {digest} was handed in")


class ManifestRefused(GatewayError):
    next_step = "Send the published file, byte for byte, under its keccak-256."


class ManifestMissing(GatewayError):
    next_step = "Ask its publisher to upload it with PUT /v1/manifests/{digest}."

    def __init__(self, app_id: str, version: int, digest: str) -> None:
        super().__init__(
            f"version {version} of app {app_id} names the manifest {digest}, and it is not here"
        )


class InputTooLarge(GatewayError):
    next_step = "Send less, or a link to the rest."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"a call's input has at most {limit_bytes} bytes here")


class IdempotencyConflict(GatewayError):
    next_step = "Use a new Idempotency-Key for another request."

    def __init__(self, key: str) -> None:
        super().__init__(f"the Idempotency-Key {key!r} was used for another request")


class NoPrice(GatewayError):
    next_step = "GET /v1/apps/{app}/price says since when; call another version or app."


class InputRefused(GatewayError):
    next_step = "Send the input as JSON with Content-Type: application/json."


class InvalidInput(GatewayError):
    """By the version's `input_schema`; `place` is where in the input."""

    next_step = "Correct the input; the app's manifest has its schema."

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"the input does not fit the app's schema at {place}: {why}")
        self.place, self.why = place, why


class MaxChargeTooLow(GatewayError):
    next_step = "Raise Tallystick-Max-Charge, or leave it out."

    def __init__(self, limit: int, least: int) -> None:
        super().__init__(f"Tallystick-Max-Charge is {limit} and one second may cost {least}")


class WebhookRefused(GatewayError):
    next_step = "Name a public https:// address."


class AllowanceRefused(GatewayError):
    next_step = "Sign an allowance whose payer is you and whose signer is GET /v1/session-key's."


class TooManyCallsOpen(GatewayError):
    next_step = "Wait for one to end."

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(f"{whose} have {limit} calls open, the most allowed")


class SpendLimitReached(GatewayError):
    next_step = "Raise or remove the limit, or wait for the next UTC day if it is a daily one."

    def __init__(
        self, scope: str, period: str, limit: int, spent: int, reserved: int, ceiling: int
    ) -> None:
        super().__init__(
            f"the {scope}'s limit per {period} is {limit}: {spent} is spent, calls under way may "
            f"cost {reserved}, and this one {ceiling}"
        )


class NoFunds(GatewayError):
    """The payer has to do something; no restart is needed then."""


class NoAllowance(NoFunds):
    def __init__(self, signer: str) -> None:
        super().__init__(
            f"no allowance in force lets the session key {signer} pay for this call",
            next_step="Sign a ChannelAllowance for GET /v1/session-key and POST /v1/allowances.",
        )


class NoOwnChannel(NoFunds):
    def __init__(self, signer: str, app_id: str, providers: Sequence[str]) -> None:
        super().__init__(
            f"no channel of yours, signed by {signer}, is open with a provider that serves app "
            f"{app_id} now",
            next_step="Open one with one of these, by ComputeEscrow.fund or `tallystick channel "
            f"open`: {', '.join(providers[:_NAMED])}.",
        )


class VoucherDue(NoFunds):
    def __init__(self, call_id: str, channel: str, total: int) -> None:
        super().__init__(
            f"sign the voucher for call {call_id} first: {total} in total on channel {channel}",
            next_step=f"GET /v1/channels/{channel}/unsigned, check the call's receipt, sign, and "
            f"POST /v1/channels/{channel}/vouchers.",
        )


class OwnSignerRefused(GatewayError):
    next_step = "Leave Tallystick-Signer out to use the key you lent, or name one of your own."

    def __init__(self, signer: str) -> None:
        super().__init__(f"{signer} is a session key that the gateway holds")


class UnknownOwnChannel(GatewayError):
    next_step = "GET /v1/channels?payer= lists yours; one just funded needs a moment."

    def __init__(self, channel: str) -> None:
        super().__init__(f"you pay no channel {channel} whose key is your own")


class VoucherRefused(GatewayError):
    next_step = "GET /v1/channels/{channel}/unsigned says what is to be signed."

    def __init__(self, field: str, expected: object, found: object) -> None:
        super().__init__(f"the voucher's {field} is {found}, expected {expected}")


class PausedFunds(NoFunds):
    def __init__(self, why: str, next_step: str) -> None:
        super().__init__(f"state paused_funds: {why}", next_step=next_step)


class ChannelsClosing(NoFunds):
    next_step = "Cancel the close, or wait for its end; the next call funds the channel again."

    def __init__(self, close_at_s: int) -> None:
        super().__init__(
            f"you asked for the close of the channel with this provider (at {close_at_s})"
            if close_at_s
            else "the provider says that the close of the channel was requested"
        )


class CallStopped(GatewayError):
    """Nothing is charged."""


class NoProvider(CallStopped):
    next_step = "Try again shortly."

    def __init__(self, app_id: str, version: int, why: str) -> None:
        super().__init__(f"nobody serves version {version} of app {app_id} now: {why}")


class ProviderLost(CallStopped):
    next_step = "Try again; the call was not charged."

    def __init__(self, provider: str) -> None:
        super().__init__(f"the provider {provider} fell silent in the middle of the call")


class CallTimedOut(CallStopped):
    next_step = "Ask for less at once, or for the answer later with Prefer: respond-async."


class HandlerFailed(CallStopped):
    next_step = "Correct the input, or tell the app's publisher."


class ResultTooLarge(CallStopped):
    next_step = "Ask for less at once."


class CallCanceled(CallStopped):
    next_step = "Make a new call."

    def __init__(self) -> None:
        super().__init__("the call was canceled")


class UnknownCall(GatewayError):
    next_step = "Use the Tallystick-Call-Id of the answer, with credentials of the same account."

    def __init__(self, call_id: str) -> None:
        super().__init__(f"you made no call {call_id}")


class ResultNotThere(GatewayError):
    next_step = "Watch GET /v1/calls/{id}/events until the call is completed."

    def __init__(self, call_id: str, state: str) -> None:
        super().__init__(f"call {call_id} is {state} and has no result")


class ResultForgotten(GatewayError):
    next_step = "Send an Idempotency-Key or Prefer: respond-async with calls whose result is kept."

    def __init__(self, call_id: str) -> None:
        super().__init__(f"the result of call {call_id} is not kept any more")
