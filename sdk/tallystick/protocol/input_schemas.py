"""The schema of an app's input: which part of JSON Schema is taken, and whether an input fits.

    schema = InputSchema(manifest.input_schema)
    schema.check(body)

A publisher chooses the schema, a caller the input, and a gateway that is neither checks the one
against the other before each call. So a schema is taken only if looking at an input with it has an
end that can be told beforehand: draft 2020-12, nothing fetched, no reference that leads back to
itself, patterns by an engine whose time is linear, and so much of all of it. The same limits are
drawn where a manifest is written, handed in and served.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import jsonschema_rs

from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.errors import ProtocolError

__all__ = ["InputNotValid", "InputSchema", "SchemaRefused", "schema_of"]

MAX_TEXT: Final = 65_536
MAX_DEPTH: Final = 32
MAX_SIZE: Final = 2_000
"""Keywords and listed values, with every reference written out in its place."""
MAX_PATTERNS: Final = 16
PATTERN_BYTES: Final = 256 * 1024
"""Patterns times the bytes of the largest input: the worst that a pattern of the size below can do
takes 4 seconds for a megabyte."""
PATTERN_SIZE: Final = 2**15
"""Of a compiled pattern, in bytes."""
MAX_WORK: Final = 20_000_000
"""Size of the schema times the values of the input: half a second at the worst."""
EXPLAINED_WORK: Final = 50_000
"""Up to here it is said why no branch of an `anyOf` fits; the reasons are many times the input."""
_COMPARED: Final = 10
"""Comparing with a constant costs as much as so many other keywords."""

_DRAFTS: Final = frozenset(
    {
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2020-12/schema#",
    }
)
_SAID_ONLY: Final = frozenset(
    {
        "$comment",
        "$schema",
        "contentEncoding",
        "contentMediaType",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "examples",
        "format",
        "readOnly",
        "title",
        "writeOnly",
    }
)
"""Shown to people and programs, and looked at by nobody here."""
_PLAIN: Final = frozenset(
    {
        "dependentRequired",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "required",
        "type",
        "uniqueItems",
    }
)
_COMPARING: Final = frozenset({"const", "enum"})
_ONE: Final = frozenset(
    {"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
)
_LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"dependentSchemas", "patternProperties", "properties"})
_BRANCHING: Final = frozenset({"anyOf", "contains", "not", "oneOf", "propertyNames"})
_DEFINITIONS: Final = ("$defs", "definitions")


class SchemaRefused(ProtocolError):
    """`input_schema` is none that can be enforced. Says where and why."""


class InputNotValid(ProtocolError):
    """The input does not fit the schema. `place` is where, such as `$.steps` or `$.images[2]`."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"the input does not fit the app's schema at {place}: {why}")
        self.place, self.why = place, why


@dataclass(frozen=True, slots=True)
class _Measure:
    """Of a schema with its references written out."""

    size: int = 0
    patterns: int = 0

    def plus(self, other: _Measure) -> _Measure:
        return _Measure(self.size + other.size, self.patterns + other.patterns)


class InputSchema:
    """One that was taken, compiled. Raises `SchemaRefused`."""

    def __init__(self, text: str, *, max_request_bytes: int = 0) -> None:
        schema = _read(text)
        try:
            measure, branches = _Measuring(schema).whole()
        except RecursionError:
            raise SchemaRefused("input_schema: a value in it is too deep") from None
        self.size = measure.size
        self._branches = branches
        if measure.patterns * max_request_bytes > PATTERN_BYTES:
            raise SchemaRefused(
                f"input_schema: {measure.patterns} patterns would be looked for in inputs of "
                f"{max_request_bytes} bytes: set max_request_bytes to at most "
                f"{PATTERN_BYTES // measure.patterns}, or leave patterns to the handler"
            )
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                validate_formats=False,
                mask="it",
                offline=True,
                pattern_options=jsonschema_rs.RegexOptions(
                    size_limit=PATTERN_SIZE, dfa_size_limit=8 * PATTERN_SIZE
                ),
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as no:
            raise SchemaRefused(f"input_schema is no JSON Schema: {_first_line(no)}") from no

    def check(self, body: bytes) -> None:
        """Raises `InputNotValid`; JSON that is none is not valid at `$`."""
        # Never fewer values than commas and brackets have between them.
        work = self.size * (body.count(b",") + body.count(b"[") + body.count(b"{") + 1)
        if work > MAX_WORK:
            raise InputNotValid("$", f"it has more values than {MAX_WORK // self.size}")
        try:
            value = json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
            if self._validator.is_valid(value):
                return
            if self._branches and work > EXPLAINED_WORK:
                raise InputNotValid("$", "it is too large to say where")
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as failure:
            raise InputNotValid(_place(failure.instance_path), _why(failure)) from None
        except (ValueError, RecursionError) as failure:
            raise InputNotValid("$", f"it cannot be read: {_first_line(failure)}") from None


def schema_of(manifest: AppManifest) -> InputSchema | None:
    """None where the manifest has none. Raises `SchemaRefused`."""
    if not manifest.input_schema:
        return None
    return InputSchema(manifest.input_schema, max_request_bytes=manifest.max_request_bytes)


class _Measuring:
    """Walks a schema once, with every reference written out."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._known: dict[str, _Measure] = {}
        self._inside: list[str] = []
        self._branches = False

    def whole(self) -> tuple[_Measure, bool]:
        for kind in _DEFINITIONS:
            for name in _table(self._schema.get(kind, {}), f"/{kind}"):
                self._definition(f"#/{kind}/{_escaped(name)}", "")
        return self._of(self._schema, "", 0), self._branches

    def _of(self, schema: Any, place: str, depth: int) -> _Measure:
        if isinstance(schema, bool):
            return _Measure(1)
        if not isinstance(schema, dict):
            _refuse(place, "is no schema")
        if depth > MAX_DEPTH:
            _refuse(place, f"lies deeper than {MAX_DEPTH} schemas")
        found = _Measure(1)
        for keyword, value in schema.items():
            found = found.plus(self._keyword(keyword, value, f"{place}/{keyword}", depth))
            if found.size > MAX_SIZE:
                _refuse(place, f"has more than {MAX_SIZE} keywords, references written out")
            if found.patterns > MAX_PATTERNS:
                _refuse(place, f"has more than {MAX_PATTERNS} patterns, references written out")
        self._branches |= not _BRANCHING.isdisjoint(schema)
        return found

    def _keyword(self, keyword: str, value: Any, place: str, depth: int) -> _Measure:
        if keyword in _SAID_ONLY or keyword.startswith("x-"):
            if keyword == "$schema" and value not in _DRAFTS:
                _refuse(place, "names another draft than 2020-12")
            return _Measure()
        if keyword in _PLAIN:
            return _Measure(1 + _count(value), 1 if keyword == "pattern" else 0)
        if keyword in _COMPARING:
            return _Measure(_COMPARED + _count(value))
        if keyword in _ONE:
            return self._of(value, place, depth + 1)
        if keyword in _LISTED:
            if not isinstance(value, list):
                _refuse(place, "is no list of schemas")
            parts: Iterator[tuple[Any, Any]] = iter(enumerate(value))
            return self._all(parts, place, depth)
        if keyword in _NAMED:
            found = self._all(iter(_table(value, place).items()), place, depth)
            patterns = len(value) if keyword == "patternProperties" else 0
            return found.plus(_Measure(0, patterns))
        if keyword in _DEFINITIONS:
            if depth:
                _refuse(place, "stands inside another schema: move it to the top")
            return _Measure()
        if keyword == "$ref":
            return self._definition(value, place)
        _refuse(place, "is not taken here")

    def _all(self, parts: Iterator[tuple[Any, Any]], place: str, depth: int) -> _Measure:
        found = _Measure()
        for name, part in parts:
            found = found.plus(self._of(part, f"{place}/{name}", depth + 1))
        return found

    def _definition(self, reference: Any, place: str) -> _Measure:
        if not isinstance(reference, str):
            _refuse(place, "is no text")
        known = self._known.get(reference)
        if known is not None:
            return known
        if reference in self._inside:
            _refuse(place, "leads back to itself")
        kind, name = _named_in(reference, place)
        table = self._schema.get(kind)
        if not isinstance(table, dict) or name not in table:
            _refuse(place, f"names {reference[:80]!r}, which is not there")
        self._inside.append(reference)
        found = self._of(table[name], f"/{kind}/{name}", 1 + len(self._inside))
        self._inside.pop()
        self._known[reference] = found
        return found


def _read(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT:
        raise SchemaRefused(f"input_schema has {len(text)} characters, more than {MAX_TEXT}")
    try:
        schema = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as problem:
        raise SchemaRefused(f"input_schema is not well-formed JSON: {problem}") from problem
    if not isinstance(schema, dict):
        raise SchemaRefused("input_schema is not a JSON object")
    return schema


def _named_in(reference: str, place: str) -> tuple[str, str]:
    """Only definitions of the schema itself can be meant: nothing is fetched."""
    for kind in _DEFINITIONS:
        start = f"#/{kind}/"
        name = reference.removeprefix(start)
        if name != reference and "/" not in name and "%" not in name:
            return kind, name.replace("~1", "/").replace("~0", "~")
    _refuse(place, f"is {reference[:80]!r}: only #/$defs/<name> can be meant")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(place, "is no table of schemas")
    return value


def _count(value: Any) -> int:
    """Values within one value; a file of so few characters is never deep."""
    if isinstance(value, dict):
        return sum(map(_count, value.values())) + len(value)
    return sum(map(_count, value)) + len(value) if isinstance(value, list) else 0


def _refuse(place: str, why: str) -> NoReturn:
    raise SchemaRefused(f"input_schema: {_short(place) or 'the schema'} {why}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name given twice one reader takes the first value and another the last."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name is given twice")
    return content


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _place(path: list[str | int]) -> str:
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{_short(part, 60)}"
        for part in path[:MAX_DEPTH]
    )
    return "$" + "".join(parts)


def _why(failure: jsonschema_rs.ValidationError) -> str:
    if failure.schema_path and failure.schema_path[-1] == "additionalProperties":
        said = failure.message.removeprefix("it ") if "unexpected" in failure.message else ""
        return _short(said, 300) or "it has a property that the schema does not know"
    return _first_line(failure)


def _first_line(problem: Exception) -> str:
    text = getattr(problem, "message", None) or str(problem)
    return _short(text.split("\n", 1)[0], 300)


def _short(text: str, length: int = 200) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text[: length + 1])
    return plain if len(plain) <= length else plain[: length - 3] + "..."
