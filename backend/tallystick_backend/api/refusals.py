"""What HTTP itself refuses, before any rule of the market is asked.

RequestError
├── MalformedBody        not JSON, or JSON nobody means: NaN, a name twice, NUL, too deep
├── BodyTooLarge · BodyTooSlow · WrongMediaType · HeadersTooLarge
├── InvalidRequest       fields that do not fit; the problem lists them
├── BadCursor            a cursor that is not ours, or of another list
├── IdempotencyConflict  one key for two requests
├── NotThereYet          a receipt or result that does not exist so far
├── UnknownProvider      an address that never staked here
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


class TooManyStreams(RequestError):
    next_step = "Close a stream, or poll GET /v1/tasks/{id} instead."

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(f"{whose} hold {limit} event streams open, the most allowed")


class ServiceNotReady(RequestError):
    next_step = "Try again shortly; GET /readyz says which part is missing."
