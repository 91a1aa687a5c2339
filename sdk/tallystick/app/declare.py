"""Which function answers calls, and how a call's input becomes its arguments."""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tallystick.app.problems import Failure, ProjectError

if TYPE_CHECKING:  # a handler and its tests load no more than they use
    from tallystick.protocol.app_manifest import FunctionHandler, RunPodHandler

_MARK: Final = "__tallystick_handler__"

F = TypeVar("F", bound=Callable[..., Any])


def handler(function: F) -> F:
    """Marks the function that answers calls. The call's input, a JSON object, becomes its keyword
    arguments; what it returns or yields is the answer. The function itself stays as it is."""
    setattr(function, _MARK, True)
    return function


@dataclass(frozen=True, slots=True)
class Entry:
    """A loaded handler."""

    function: Callable[..., Any]
    warm_up: Callable[[], Any] | None
    takes_job: bool
    """RunPod's style: one argument, `job["input"]`."""

    @property
    def runs_on_loop(self) -> bool:
        """Whether calling it only makes a coroutine or an asynchronous generator."""
        return _shape(self.function).runs_on_loop

    def arguments(self, call_id: str, given: Any) -> dict[str, Any]:
        """Keyword arguments for the function. Raises `Failure` when the input does not fit."""
        if self.takes_job:
            return {_shape(self.function).first: {"id": call_id, "input": given}}
        if not isinstance(given, dict):
            raise _misfit(f"The input is {_json_kind(given)}; this handler takes an object.")
        shape = _shape(self.function)
        if not shape.fits(given):
            try:
                shape.signature.bind(**given)
            except TypeError as problem:
                raise _misfit(f"The input does not fit: {problem}.") from None
        for name, expected in shape.hints.items():
            value = given.get(name, _ABSENT)
            if value is not _ABSENT and not _fits(value, expected):
                raise _misfit(
                    f"{name} is {_json_kind(value)}; the handler expects {_WORDS[expected]}."
                )
        return given


def load(declared: FunctionHandler | RunPodHandler) -> Entry:
    """Imports the module. Raises `ProjectError` when it has no such function; what the module
    itself raises goes through, with its traceback: it is the developer's own."""
    function = _named(declared.entry)
    takes_job = declared.kind == "runpod"
    if not takes_job and not getattr(function, _MARK, False):
        raise ProjectError(
            f"{declared.entry} is not marked as a handler: put @tallystick.app.handler above it, "
            'or say kind = "runpod" if it takes a job'
        )
    _require_arguments(function, declared.entry, takes_job)
    warm_up = None if declared.warm_up is None else _named(declared.warm_up)
    return Entry(function, warm_up, takes_job)


def _named(entry: str) -> Callable[..., Any]:
    module_name, _, name = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        top = module_name.partition(".")[0]
        if problem.name not in (module_name, top):
            raise  # a module of theirs is there and misses another
        raise ProjectError(
            f"there is no module {module_name!r} for {entry}: name the file as in handler:greet "
            "for handler.py, relative to tallystick.toml"
        ) from problem
    function = getattr(module, name, None)
    if not callable(function):
        raise ProjectError(f"the module {module_name!r} has no function {name!r} for {entry}")
    found: Callable[..., Any] = function
    return found


def _require_arguments(function: Callable[..., Any], entry: str, takes_job: bool) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    if takes_job and (not parameters or _required(parameters[1:])):
        raise ProjectError(f"{entry} has to take one argument, the job")
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ProjectError(
                f"{entry} takes {parameter.name} by position only: the input's names become "
                "keyword arguments, so take it by name"
            )


def _required(parameters: list[inspect.Parameter]) -> bool:
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in many for p in parameters)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a function takes, looked up once: `inspect` takes longer than most calls do."""

    signature: inspect.Signature
    required: frozenset[str]
    names: frozenset[str]
    first: str
    hints: dict[str, type]
    runs_on_loop: bool

    def fits(self, given: dict[str, Any]) -> bool:
        """Surely; `signature.bind` decides about the rest, and says what is wrong."""
        return self.required <= given.keys() <= self.names


@functools.lru_cache(maxsize=16)
def _shape(function: Callable[..., Any]) -> _Shape:
    signature = inspect.signature(function)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p for p in signature.parameters.values() if p.kind in by_name]
    return _Shape(
        signature,
        frozenset(p.name for p in named if p.default is p.empty),
        frozenset(p.name for p in named),
        next(iter(signature.parameters), ""),
        {n: t for n, t in _plain_hints(function).items() if n in {p.name for p in named}},
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
    )


_ABSENT: Final = object()

# --- the plain types, checked; everything richer is the handler's own to check ------------------

_WORDS: Final[dict[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _plain_hints(function: Callable[..., Any]) -> dict[str, type]:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # names that exist for type checkers only
    plain = ((name, typing.get_origin(hint) or hint) for name, hint in hints.items())
    return {name: hint for name, hint in plain if isinstance(hint, type) and hint in _WORDS}


def _fits(value: object, expected: type) -> bool:
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    return _WORDS.get(type(value), "something else")


def _misfit(sentence: str) -> Failure:
    return Failure("invalid_input", sentence, "See the app's input schema.")
