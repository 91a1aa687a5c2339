"""The schema of an input: which one is taken, what it refuses, and how long that may take.

taken
├── what Pydantic writes for ordinary models, all keywords of the table
└── references to definitions, one used often
refused
├── what is no schema, another draft, keywords that are not taken
├── references that fetch, lead back to themselves or nowhere
└── too deep, too large once written out, too many or too large patterns
an input
├── that fits, that does not: where and why, without its own text
└── that would take long: is cut off before anybody looks
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tallystick.protocol.input_schemas import (
    EXPLAINED_WORK,
    MAX_DEPTH,
    MAX_SIZE,
    MAX_TEXT,
    InputNotValid,
    InputSchema,
    SchemaRefused,
)


def schema(content: Any, **more: Any) -> InputSchema:
    return InputSchema(json.dumps(content), **more)


def refusal(checked: InputSchema, value: Any) -> InputNotValid:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(InputNotValid) as refused:
        checked.check(body)
    return refused.value


class Box(BaseModel):
    left: int = Field(ge=0)
    right: int = Field(description="beyond it", examples=[5])


class Order(BaseModel):
    name: str = Field(min_length=1, max_length=20, pattern="^[a-z]+$")
    boxes: list[Box] = []
    kind: Box | str | None = None
    options: dict[str, float] = {}


def test_what_pydantic_writes_is_taken() -> None:
    checked = schema(Order.model_json_schema(), max_request_bytes=10_000)
    checked.check(b'{"name":"ada","boxes":[{"left":1,"right":2}],"options":{"a":1.5}}')
    assert refusal(checked, {"name": "ada", "boxes": [{"left": -1, "right": 2}]}).place == (
        "$.boxes[0].left"
    )
    assert refusal(checked, {}).why == '"name" is a required property'


@pytest.mark.parametrize(
    ("content", "good", "bad", "place"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, 5, 10, "$"),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 3, "multipleOf": 2}, 2, 3, "$"),
        ({"enum": ["a", "b"]}, "a", "c", "$"),
        ({"const": {"a": [1]}}, {"a": [1]}, {"a": [2]}, "$"),
        ({"minLength": 1, "maxLength": 2}, "ab", "abc", "$"),
        ({"pattern": "^a+$"}, "aa", "ab", "$"),
        ({"items": {"type": "string"}, "maxItems": 2}, ["a"], ["a", 1], "$[1]"),
        ({"prefixItems": [{"const": 1}], "minItems": 1}, [1], [2], "$[0]"),
        ({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}, [1, 1], [1], "$"),
        ({"uniqueItems": True}, [1, 2], [1, 1], "$"),
        ({"properties": {"a": {"type": "null"}}}, {"a": None}, {"a": 1}, "$.a"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}, "$"),
        ({"additionalProperties": False}, {}, {"b": 1}, "$"),
        ({"patternProperties": {"^n_": {"type": "number"}}}, {"n_a": 1}, {"n_a": "1"}, "$.n_a"),
        ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}, "$"),
        ({"minProperties": 1, "maxProperties": 1}, {"a": 1}, {}, "$"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}, "$"),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"b": 1}, {"a": 1}, "$"),
        ({"allOf": [{"type": "integer"}, {"minimum": 2}]}, 2, 1, "$"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, "a", "$"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 1, 2, "$"),
        ({"not": {"type": "integer"}}, "a", 1, "$"),
        ({"if": {"const": 1}, "then": False, "else": {"const": 2}}, 2, 3, "$"),
        ({"$defs": {"a/b~c": {"const": 1}}, "$ref": "#/$defs/a~1b~0c"}, 1, 2, "$"),
        (
            {"definitions": {"a": {"const": 1}}, "items": {"$ref": "#/definitions/a"}},
            [1],
            [2],
            "$[0]",
        ),
        ({"format": "email", "default": 1, "x-shown": True, "title": "t"}, "no mail", None, ""),
    ],
)
def test_keywords_are_enforced(content: Any, good: Any, bad: Any, place: str) -> None:
    checked = schema(content, max_request_bytes=1000)
    checked.check(json.dumps(good).encode())
    if place:
        assert refusal(checked, bad).place == place


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "not a JSON object"),
        ({"type": "nope"}, "no JSON Schema"),
        ({"minimum": "3"}, "no JSON Schema"),
        ({"items": [{}]}, "/items is no schema"),
        ({"allOf": {}}, "/allOf is no list"),
        ({"properties": []}, "/properties is no table"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "another draft"),
        ({"properties": {"a": {"requird": ["b"]}}}, "/properties/a/requird is not taken"),
        ({"unevaluatedProperties": False}, "is not taken"),
        ({"$id": "https://x.example/y"}, "is not taken"),
        ({"$dynamicRef": "#a"}, "is not taken"),
        ({"$anchor": "a"}, "is not taken"),
        ({"items": {"$defs": {}}}, "move it to the top"),
        ({"$ref": "http://127.0.0.1:1/x"}, "only #/\\$defs"),
        ({"$ref": "file:///etc/passwd"}, "only #/\\$defs"),
        ({"$ref": "#"}, "only #/\\$defs"),
        ({"$ref": "#/properties/a", "properties": {"a": {}}}, "only #/\\$defs"),
        ({"$ref": 1}, "is no text"),
        ({"$ref": "#/$defs/a", "$defs": {}}, "not there"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "leads back to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "leads back"),
        ({"pattern": "(?=a)b"}, "no JSON Schema"),
        ({"pattern": "(a)\\1"}, "no JSON Schema"),
        ({"pattern": "(x{1,500}){1,500}"}, "no JSON Schema"),
        ({"pattern": "("}, "no JSON Schema"),
        ({"items": {"anyOf": [{"pattern": "a"}] * 17}}, "more than 16 patterns"),
        ({"patternProperties": {f"a{n}": {} for n in range(17)}}, "more than 16 patterns"),
        ({"enum": list(range(MAX_SIZE))}, f"more than {MAX_SIZE} keywords"),
        ({"x-text": "a" * MAX_TEXT}, "characters, more than"),
    ],
)
def test_a_schema_that_could_not_be_enforced_is_refused(content: Any, why: str) -> None:
    with pytest.raises(SchemaRefused, match=why):
        schema(content)


def test_what_is_too_deep_is_refused() -> None:
    deep: Any = {}
    for _ in range(MAX_DEPTH):
        deep = {"items": deep}
    schema(deep)
    with pytest.raises(SchemaRefused, match="deeper than"):
        schema({"items": deep})
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(50)}
    with pytest.raises(SchemaRefused, match="deeper than"):
        schema({"$defs": {**chain, "d50": {}}, "$ref": "#/$defs/d0"})
    with pytest.raises(SchemaRefused, match="not well-formed"):
        InputSchema('{"items":' * 7_000)
    for levels in (450, 900):
        value: Any = 1
        for _ in range(levels):
            value = [value]
        with pytest.raises(SchemaRefused, match=r"too deep|no JSON Schema"):
            schema({"enum": [value]})


def test_definitions_that_multiply_each_other_are_refused() -> None:
    """Each two of the next: a few lines that would be a million schemas."""
    table: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)
    }
    with pytest.raises(SchemaRefused, match=f"more than {MAX_SIZE} keywords"):
        schema({"$defs": {**table, "d20": {"type": "string"}}, "$ref": "#/$defs/d0"})


def test_patterns_go_with_small_inputs() -> None:
    for count, most in ((1, 262_144), (2, 131_072)):
        content = {"properties": {str(n): {"pattern": "^a$"} for n in range(count)}}
        schema(content, max_request_bytes=most)
        with pytest.raises(SchemaRefused, match=f"to at most {most}"):
            schema(content, max_request_bytes=most + 1)


def test_a_pattern_that_others_never_finish_takes_no_time() -> None:
    checked = schema({"pattern": "^(a+)+$"}, max_request_bytes=200_000)
    began_s = time.process_time()
    refusal(checked, "a" * 100_000 + "!")
    assert time.process_time() - began_s < 1


def test_what_was_sent_is_not_repeated() -> None:
    checked = schema({"properties": {"token": {"maxLength": 3}}})
    refused = refusal(checked, {"token": "secret-" * 100})
    assert (refused.place, refused.why) == ("$.token", "it is longer than 3 characters")
    assert "secret" not in str(refused)
    odd = refusal(schema({"additionalProperties": {"type": "null"}}), {"a\x1b[31m\n": 1})
    assert odd.place == "$.a [31m "


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":2}', b"", b"{", b"nul", b"NaN", b'{"a":Infinity}', b"\xff", b"[" * 10**6]
)
def test_what_is_no_json_is_not_valid(body: bytes) -> None:
    assert refusal(schema({}), body).place == "$"


def test_an_input_of_many_values_is_cut_off_by_the_size_of_the_schema() -> None:
    small = schema({"items": {"type": "integer"}})
    small.check(b"[" + b",".join([b"1"] * 500_000) + b"]")
    large = schema({"items": {"anyOf": [{"const": n} for n in range(150)]}})
    refused = refusal(large, b"[" + b",".join([b"1"] * 500_000) + b"]")
    assert "more values than" in refused.why


def test_reasons_are_told_for_inputs_that_they_do_not_drown() -> None:
    """One error for each element and branch: gigabytes, for a few megabytes of input."""
    checked = schema({"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "null"}}]})
    few, many = [1] * 10, [1] * (EXPLAINED_WORK + 1)
    assert "anyOf" in refusal(checked, few).why
    assert refusal(checked, many).why == "it is too large to say where"
    plain = schema({"items": {"type": "string"}})
    assert refusal(plain, ["a"] * EXPLAINED_WORK + [1]).place == f"$[{EXPLAINED_WORK}]"
