"""What HTTP itself refuses, before any rule of the market is asked.

RequestError
├── MalformedBody        not JSON, or JSON nobody means: NaN, a name twice, NUL, too deep
├── BodyTooLarge · BodyTooSlow · WrongMediaType · HeadersTooLarge
├── InvalidRequest       fields that do not fit; the problem lists them
├── BadCursor            a cursor that is not ours, or of another list
├── IdempotencyConflict  one key for two requests
├── NotThereYet          a receipt or result that does not exist so far
├── UnknownProvider      an address that never staked here
├── UnknownApp · UnknownVersion · NotPublishedYet · AppRetired
│                        no price: of no such app or version, before it, after its end
├── UnknownChannel       no money ever came into it
├── NoReceipt · UnknownLimit · LimitSubjectRefused
├── KeepWarmRefused · KeptWarmAlready · UnknownKeepWarm
├── TooManyStreams       one caller, or all together, watch too much at once
└── ServiceNotReady      a part this answer needs is not up
"""

from __future__ import annotations

from tallystick_backend.errors import BackendError


class RequestError(BackendError):
    """The request cannot be served as it is."""


class MalformedBody(RequestError):
    next_step = "Send one JSON object in UTF-8, each name once, numbers finite."


class BodyTooLarge(RequestError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the body has more than {limit_bytes} bytes",
            next_step="Send less; large inputs go to PUT /v1/blobs/{digest}.",
        )


class BodyTooSlow(RequestError):
    next_step = "Send the body without pauses."

    def __init__(self, waited_s: float) -> None:
        super().__init__(f"nothing more of the body came for {waited_s:g} seconds")


class WrongMediaType(RequestError):
    next_step = "Send Content-Type: application/json without Content-Encoding."


class HeadersTooLarge(RequestError):
    next_step = "Send fewer and shorter headers."

    def __init__(self, count: int, size_bytes: int) -> None:
        super().__init__(f"{count} headers of {size_bytes} bytes are too many")


class InvalidRequest(RequestError):
    next_step = "Correct the fields named in `errors`."

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} field{'s do' if count != 1 else ' does'} not fit")


class BadCursor(RequestError):
    next_step = "Use next_cursor of the page before with the same filters, or start without one."

    def __init__(self) -> None:
        super().__init__("the cursor was not made by us for this list")


class IdempotencyConflict(RequestError):
    next_step = "Use a new Idempotency-Key for another request."

    def __init__(self, key: str) -> None:
        super().__init__(f"the Idempotency-Key {key!r} was used for another request")


class NotThereYet(RequestError):
    next_step = "Watch GET /v1/tasks/{id}/events until the task is finished."


class UnknownProvider(RequestError):
    next_step = "GET /v1/providers lists them."

    def __init__(self, address: str) -> None:
        super().__init__(f"no provider {address} ever staked here")


class UnknownApp(RequestError):
    next_step = "GET /v1/apps lists them; one just published needs a moment."

    def __init__(self, app_id: str) -> None:
        super().__init__(f"no app {app_id} was published in this registry")


class NotThePublisher(RequestError):
    next_step = "Log in with the wallet that published the app; GET /v1/apps/{app} names it."

    def __init__(self, app_id: str) -> None:
        super().__init__(f"how the workers of app {app_id} started is told to its publisher alone")


class UnknownVersion(RequestError):
    next_step = "GET /v1/apps/{app}/versions lists them."

    def __init__(self, app_id: str, latest: int, actual: int) -> None:
        super().__init__(
            f"app {app_id} has no version {actual}",
            next_step=f"Ask for one from 1 to {latest}, or for none to get the latest.",
        )


class NotPublishedYet(RequestError):
    next_step = "Ask for a time from the version's publication on, in unix seconds."

    def __init__(self, app_id: str, version: int, published_at: int, at: int) -> None:
        super().__init__(
            f"version {version} of app {app_id} had no price at {at}: it was published at "
            f"{published_at}",
            next_step=f"Ask for a time from {published_at} on, in unix seconds.",
        )


class AppRetired(RequestError):
    next_step = "Ask for a time before its end, or call another app."

    def __init__(self, app_id: str, retired_at: int, at: int) -> None:
        super().__init__(
            f"app {app_id} has no price at {at}: it is retired since {retired_at}",
            next_step=f"Ask for a time before {retired_at}, or call another app.",
        )


class UnknownChannel(RequestError):
    next_step = "GET /v1/channels lists them; one just funded needs a moment."

    def __init__(self, channel_id: str) -> None:
        super().__init__(f"no money ever came into a channel {channel_id}")


class NoReceipt(RequestError):
    next_step = "Wait until it is completed; what failed has no receipt and cost nothing."

    def __init__(self, call_id: str, state: str) -> None:
        super().__init__(f"call {call_id} is {state} and has no receipt")


class UnknownLimit(RequestError):
    next_step = "List the limits with GET /v1/spend-limits."

    def __init__(self, limit_id: str) -> None:
        super().__init__(f"there is no spend limit {limit_id}")


class LimitSubjectRefused(RequestError):
    next_step = "Name a key or an app as subject of its limit, and nothing for the workspace."


class KeepWarmRefused(RequestError):
    next_step = "POST /v1/keep-warm with dry_run shows the price; docs/how-to/keep-an-app-warm.md."


class KeptWarmAlready(RequestError):
    def __init__(self, app_id: str, warm_id: str) -> None:
        super().__init__(
            f"app {app_id} is kept warm for you already, by {warm_id}",
            next_step=f"DELETE /v1/keep-warm/{warm_id} first, to have it otherwise.",
        )


class UnknownKeepWarm(RequestError):
    next_step = "List what you keep warm with GET /v1/keep-warm."

    def __init__(self, warm_id: str) -> None:
        super().__init__(f"you keep nothing warm under {warm_id}")


class TooManyStreams(RequestError):
    next_step = "Close a stream, or poll GET /v1/tasks/{id} instead."

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(f"{whose} hold {limit} event streams open, the most allowed")


class ServiceNotReady(RequestError):
    next_step = "Try again shortly; GET /readyz says which part is missing."
