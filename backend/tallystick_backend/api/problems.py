"""What a route may be refused with, for its OpenAPI `responses`: from the table in `errors`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tallystick_backend import access
from tallystick_backend.api import refusals
from tallystick_backend.api.errors import PROBLEM_JSON, TYPE_PREFIX, Answer, answer_for, code_of
from tallystick_backend.store.session import DatabaseBusy

Responses = dict[int | str, dict[str, Any]]

EVERYWHERE: tuple[type[Exception], ...] = (
    access.TooManyRequests,
    refusals.HeadersTooLarge,
    refusals.InvalidRequest,
    refusals.ServiceNotReady,
    DatabaseBusy,
)
LOGGED_IN: tuple[type[Exception], ...] = (access.NotLoggedIn, access.ScopeMissing)
WITH_BODY: tuple[type[Exception], ...] = (
    refusals.MalformedBody,
    refusals.BodyTooSlow,
    refusals.BodyTooLarge,
    refusals.WrongMediaType,
)
WRITES: tuple[type[Exception], ...] = (*LOGGED_IN, *WITH_BODY, refusals.IdempotencyConflict)


EXAMPLES: dict[str, dict[str, Any]] = {}
"""An example of each problem that a route declares, by code; the document refers to them."""


def problems(*errors: type[Exception] | tuple[type[Exception], ...]) -> Responses:
    """OpenAPI responses for these errors and those every route has, by status."""
    by_status: dict[int, dict[str, str]] = defaultdict(dict)
    named: list[type[Exception]] = []
    for item in errors:
        named += item if isinstance(item, tuple) else [item]
    for error in (*named, *EVERYWHERE):
        answer = answer_for(error)
        assert answer is not None, f"{error.__name__} is not in the table of api/errors.py"
        by_status[answer.status][code_of(error)] = answer.title
        EXAMPLES[code_of(error)] = _example(error, answer)
    return {
        status: {
            "description": " · ".join(sorted(set(titles.values()))),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        code: {"$ref": f"#/components/examples/{code}"} for code in titles
                    },
                }
            },
        }
        for status, titles in sorted(by_status.items())
    }


def _example(error: type[Exception], answer: Answer) -> dict[str, Any]:
    code = code_of(error)
    return {
        "summary": answer.title,
        "value": {
            "type": TYPE_PREFIX + code,
            "title": answer.title,
            "status": answer.status,
            "detail": answer.title + ".",
            "instance": "/v1/...",
            "code": code,
            "next_step": getattr(error, "next_step", ""),
            "errors": [],
        },
    }
