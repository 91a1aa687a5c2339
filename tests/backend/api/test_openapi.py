"""The document: complete, committed, and true of the routes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.wire import AcceptTask, CreateTask, Problem, SealedKey
from tallystick_backend.__main__ import openapi_text
from tallystick_backend.api import errors, examples
from tallystick_backend.errors import BackendError

COMMITTED = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"

DOCUMENT: dict[str, Any] = json.loads(openapi_text())
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
WRITES = [o for o in OPERATIONS if o[0] in ("POST", "PUT", "DELETE")]

PUTS = ("putBlob", "putManifest")
"""Content by its own digest: none is unknown."""


def _name(value: object) -> str:
    return str(value["operationId"]) if isinstance(value, dict) else ""


def test_the_committed_document_is_the_generated_one() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), (
        "run: tallystick-backend openapi -o docs/reference/openapi.json"
    )


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=_name)
def test_each_route_says_what_it_is(method: str, path: str, operation: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z][A-Za-z]+", operation["operationId"])
    assert operation["summary"]
    assert operation["tags"]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=_name)
def test_each_route_declares_its_problems(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    responses = operation["responses"]
    expected = {"422", "429", "431", "500", "503"}
    if "security" in operation:
        expected |= {"401", "403"}
    if "requestBody" in operation and operation["operationId"] != "putBlob":
        expected |= {"400", "408", "413", "415"}
    if "{task_id}" in path or "{digest}" in path or "{key_id}" in path:
        expected |= {"404"} if operation["operationId"] not in PUTS else set()
    assert expected <= set(responses), expected - set(responses)
    for status, response in responses.items():
        if int(status) < 400 or (operation["operationId"], status) == ("getReadiness", "503"):
            continue
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        for reference in content.get("examples", {}).values():
            code = reference["$ref"].rpartition("/")[2]
            example = DOCUMENT["components"]["examples"][code]
            assert Problem.model_validate(example["value"]).status == int(status)


@pytest.mark.parametrize(("method", "path", "operation"), WRITES, ids=_name)
def test_each_write_takes_an_idempotency_key(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    if path.startswith("/v1/auth/"):
        return  # a log-in is good once by its nonce; the others change nothing twice
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert "Idempotency-Key" in names


def test_operation_ids_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_nothing_refers_to_what_is_not_there() -> None:
    text = json.dumps(DOCUMENT)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in DOCUMENT["components"]["schemas"]
    assert "HTTPValidationError" not in text


def test_the_examples_are_what_the_models_take() -> None:
    CreateTask.model_validate(examples.CREATE_TASK)
    SealedKey.model_validate(examples.SEALED_KEY)
    AcceptTask.model_validate(examples.ACCEPT_TASK)


def test_every_error_raised_on_purpose_is_in_the_table() -> None:
    """Below the base of each family that HTTP can meet."""
    import tallystick_backend.app  # noqa: F401  (imports every module with errors)

    def below(error: type[BackendError]) -> set[type[BackendError]]:
        found = set(error.__subclasses__())
        return found.union(*(below(child) for child in found))

    elsewhere = ("tallystick_backend.dispatch", "tallystick_backend.index")
    for error in below(BackendError):
        if error.__module__.startswith(elsewhere) or error.__subclasses__():
            continue
        if error.__name__ == "SettingsError":
            continue  # ends the process before it serves
        assert errors.answer_for(error) is not None, error
