"""What a caller is told when there is no answer: one table, RFC 9457 problem details.

`fault` says who could have prevented it, so that nobody pays for what was not theirs: the `caller`
(the request), the `app` (its handler), or the `worker` (nothing was run; ask another one). What a
handler's exception says is logged with the call's id and never sent: it may hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

PROBLEM_JSON: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:tallystick:problem:"

Fault = Literal["caller", "app", "worker"]


@dataclass(frozen=True, slots=True)
class Kind:
    status: int
    title: str
    fault: Fault


KINDS: Final[dict[str, Kind]] = {
    "malformed_body": Kind(400, "Body is not JSON", "caller"),
    "unknown_path": Kind(404, "No such path", "caller"),
    "wrong_method": Kind(405, "Method not allowed", "caller"),
    "body_too_slow": Kind(408, "Body came too slowly", "caller"),
    "request_too_large": Kind(413, "Request too large", "caller"),
    "wrong_media_type": Kind(415, "Media type not supported", "caller"),
    "invalid_input": Kind(422, "Input does not fit the handler", "caller"),
    "input_refused": Kind(422, "Input refused by the handler", "caller"),
    "handler_failed": Kind(500, "Handler failed", "app"),
    "output_not_json": Kind(500, "Handler's output cannot be sent", "app"),
    "response_too_large": Kind(500, "Response too large", "app"),
    "timed_out": Kind(504, "Handler took too long", "app"),
    "starting": Kind(503, "Worker is warming up", "worker"),
    "busy": Kind(503, "Worker is busy", "worker"),
    "stuck": Kind(503, "Worker is stuck", "worker"),
    "server_failed": Kind(500, "Server failed", "worker"),
}
"""A code means the same for ever."""


class AppError(Exception):
    """Base of what this package raises on purpose."""


class InputRefused(AppError):
    """Raise it in a handler when the input is at fault: its sentence goes to the caller as it is.

    raise InputRefused("the picture is larger than 4096 x 4096")
    """


class ProjectError(AppError):
    """The project cannot be served: its file, or what it names. Says what to do."""


class Failure(AppError):
    """A call that ends in a problem."""

    def __init__(self, code: str, detail: str, next_step: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.next_step = next_step

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]


def problem(failure: Failure, call_id: str) -> dict[str, Any]:
    """The document, with the names that the backend's problems have."""
    kind = failure.kind
    return {
        "type": TYPE_PREFIX + failure.code,
        "title": kind.title,
        "status": kind.status,
        "detail": failure.detail,
        "code": failure.code,
        "next_step": failure.next_step,
        "fault": kind.fault,
        "call_id": call_id,
    }
