"""docs/reference/http-api.md: its figures are the defaults, its paths and headers the API's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tallystick_backend.__main__ import openapi_text
from tallystick_backend.access import KEY_PREFIX, KEY_SCOPES, SESSION_PREFIX
from tallystick_backend.api import errors
from tallystick_backend.api.cursors import MAX_LIMIT
from tallystick_backend.settings import Settings
from tallystick_backend.tasks import UnknownTask
from tests.docs.pages import text_of

PAGE = text_of("docs/reference/http-api.md")
DOCUMENT: dict[str, Any] = json.loads(openapi_text())
DEFAULTS = Settings()


def per_minute(limit: str) -> str:
    count, _, period = limit.partition("/")
    assert period == "minute"
    return f"{int(count):,}"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(f"session token (`{SESSION_PREFIX}...`, {DEFAULTS.session_hours} hours)"),
        pytest.param(f"(`{KEY_PREFIX}...`)"),
        pytest.param(f"kept for {DEFAULTS.idempotency_hours} hours"),
        pytest.param(f"bad tokens {per_minute(DEFAULTS.login_limit)}"),
        pytest.param(f"reads {per_minute(DEFAULTS.read_limit)}"),
        pytest.param(f"writes {per_minute(DEFAULTS.write_limit)} a minute"),
        pytest.param(f"{DEFAULTS.max_streams_per_caller} open streams for each wallet"),
        pytest.param(f"`limit` (1 to {MAX_LIMIT}; logs to 1000)"),
        *(f"`{scope}`" for scope in sorted(KEY_SCOPES)),
    ],
)
def test_figures_are_the_defaults(words: str) -> None:
    assert words in PAGE


def test_a_nonce_lasts_five_minutes() -> None:
    assert "good once and for five minutes" in PAGE
    assert DEFAULTS.nonce_seconds == 5 * 60


def test_every_path_named_exists() -> None:
    named = re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)", PAGE)
    assert len(named) >= 8
    for method, path in named:
        assert method.lower() in DOCUMENT["paths"][path], f"{method} {path}"


def test_every_write_but_log_in_and_out_takes_an_idempotency_key() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            headers = {p["name"] for p in operation.get("parameters", [])}
            wanted = method != "get" and not path.startswith("/v1/auth/")
            assert ("Idempotency-Key" in headers) is wanted, f"{method} {path}"


def test_filters_named_are_those_of_the_list() -> None:
    given = {p["name"] for p in DOCUMENT["paths"]["/v1/tasks"]["get"]["parameters"]}
    for name in given:
        assert f"`{name}`" in PAGE, name


def test_the_problem_shown_is_one() -> None:
    block = re.search(r"```json\n(.*?)```", PAGE, re.S)
    assert block is not None
    shown = json.loads(block[1])
    known = errors.problem_of(UnknownTask("0x2f..."))
    assert known is not None
    assert shown == known[0].model_dump() | {
        "detail": "There is no task 0x2f...",
        "instance": "/v1/tasks/0x2f...",
    }
