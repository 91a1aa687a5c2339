"""The search language over cards on offer. Pure.

    vram>=24 gpu in (rtx3090, rtx4090) price<0.5 and not simulated

Conditions hold all together; `and` between them may be left out. Texts are compared without case,
`~` means "has this in it", and what has spaces stands in quotes. `vram` is in GiB, `price` in
tokens for a GPU and hour.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from tallystick_backend.errors import BackendError

MOST_CHARACTERS: Final = 500
SECONDS_PER_HOUR: Final = 3600

Order = Literal["price", "-price", "vram", "-vram", "free", "-free", "cards", "-cards"]


@dataclass(frozen=True, slots=True)
class CardOffer:
    """Cards of one kind at one provider and price."""

    provider: str
    gpu_class: str
    model: str
    memory_mib: int
    simulated: bool
    runtime: str
    rate_per_gpu_second: int
    cards: int
    free: int


class SearchRefused(BackendError):
    next_step = (
        "Write conditions as in: vram>=24 gpu in (rtx3090, rtx4090) price<0.5 not simulated."
    )

    def __init__(self, why: str, at: int, text: str) -> None:
        super().__init__(f"{why}, at character {at + 1}: {text[at : at + 40]!r}")


Holds = Callable[[CardOffer], bool]


@dataclass(frozen=True, slots=True)
class _Field:
    of: Callable[[CardOffer, int], Any]
    """Of an offer, with the token's decimals."""
    kind: Literal["number", "text", "flag"]


_FIELDS: Final[dict[str, _Field]] = {
    "gpu": _Field(lambda offer, _: offer.gpu_class.lower(), "text"),
    "model": _Field(lambda offer, _: offer.model.lower(), "text"),
    "provider": _Field(lambda offer, _: offer.provider.lower(), "text"),
    "runtime": _Field(lambda offer, _: offer.runtime.lower(), "text"),
    "vram": _Field(lambda offer, _: Decimal(offer.memory_mib) / 1024, "number"),
    "price": _Field(
        lambda offer, decimals: Decimal(offer.rate_per_gpu_second * SECONDS_PER_HOUR).scaleb(
            -decimals
        ),
        "number",
    ),
    "cards": _Field(lambda offer, _: Decimal(offer.cards), "number"),
    "free": _Field(lambda offer, _: Decimal(offer.free), "number"),
    "simulated": _Field(lambda offer, _: offer.simulated, "flag"),
}
_NUMBERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "~": operator.contains,
}
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<op><=|>=|!=|[<>=~(),])|"(?P<quoted>[^"]*)"|(?P<word>[^\s<>=!~(),"]+))"""
)


def parse(text: str, decimals: int) -> Holds:
    """Raises `SearchRefused`. Nothing holds of every offer."""
    if len(text) > MOST_CHARACTERS:
        raise SearchRefused(
            f"a search has at most {MOST_CHARACTERS} characters", MOST_CHARACTERS, text
        )
    reader = _Reader(text, decimals)
    conditions: list[Holds] = []
    while not reader.over:
        conditions.append(reader.condition())
        reader.skip("and")
    return lambda offer: all(holds(offer) for holds in conditions)


def in_order(offers: Iterable[CardOffer], order: Order) -> list[CardOffer]:
    """Equals by price, then by provider."""
    name, sign = order.lstrip("-"), -1 if order.startswith("-") else 1
    value: Callable[[CardOffer], int] = {
        "price": lambda offer: offer.rate_per_gpu_second,
        "vram": lambda offer: offer.memory_mib,
        "free": lambda offer: offer.free,
        "cards": lambda offer: offer.cards,
    }[name]
    return sorted(
        offers,
        key=lambda offer: (
            sign * value(offer),
            offer.rate_per_gpu_second,
            offer.provider,
            offer.gpu_class,
            offer.model,
        ),
    )


@dataclass
class _Reader:
    text: str
    decimals: int
    at: int = 0

    @property
    def over(self) -> bool:
        return not self.text[self.at :].strip()

    def condition(self) -> Holds:
        negated = self.skip("not")
        begins = self._start()
        name = self._word("a field")
        field = _FIELDS.get(name.lower())
        if field is None:
            known = ", ".join(_FIELDS)
            raise SearchRefused(
                f"there is no field {name!r}; fields are {known}", begins, self.text
            )
        if field.kind == "flag":
            return lambda offer: field.of(offer, self.decimals) != negated
        if negated:
            raise SearchRefused("`not` stands before `simulated` and `in` only", begins, self.text)
        if self.skip("not"):
            self._expect("in")
            wanted = self._list(field)
            return lambda offer: field.of(offer, self.decimals) not in wanted
        if self.skip("in"):
            wanted = self._list(field)
            return lambda offer: field.of(offer, self.decimals) in wanted
        compare = self._operator(field)
        value = self._value(field)
        return lambda offer: compare(field.of(offer, self.decimals), value)

    def skip(self, word: str) -> bool:
        found = _TOKEN.match(self.text, self.at)
        if found is None or (found["word"] or "").lower() != word:
            return False
        self.at = found.end()
        return True

    def _operator(self, field: _Field) -> Callable[[Any, Any], bool]:
        known = _NUMBERS if field.kind == "number" else _TEXTS
        begins = self._start()
        found = _TOKEN.match(self.text, self.at)
        compare = None if found is None else known.get(found["op"] or "")
        if found is None or compare is None:
            raise SearchRefused(f"expected one of {' '.join(known)} or `in`", begins, self.text)
        self.at = found.end()
        return compare

    def _list(self, field: _Field) -> frozenset[Any]:
        self._expect("(")
        found = {self._value(field)}
        while self._sign() == ",":
            self._expect(",")
            found.add(self._value(field))
        self._expect(")")
        return frozenset(found)

    def _value(self, field: _Field) -> Any:
        begins = self._start()
        word = self._word("a value")
        if field.kind == "text":
            return word.lower()
        if re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,30})?", word) is None:
            raise SearchRefused("expected a number", begins, self.text)
        return Decimal(word)

    def _word(self, what: str) -> str:
        begins = self._start()
        found = _TOKEN.match(self.text, self.at)
        if found is None or found["op"]:
            raise SearchRefused(f"expected {what}", begins, self.text)
        self.at = found.end()
        return found["word"] or found["quoted"] or ""

    def _sign(self) -> str:
        found = _TOKEN.match(self.text, self.at)
        return "" if found is None else found["op"] or ""

    def _expect(self, what: str) -> None:
        begins = self._start()
        found = _TOKEN.match(self.text, self.at)
        if found is None or what not in (found["op"], (found["word"] or "").lower()):
            raise SearchRefused(f"expected {what!r}", begins, self.text)
        self.at = found.end()

    def _start(self) -> int:
        """Where the next token begins."""
        rest = self.text[self.at :]
        return self.at + len(rest) - len(rest.lstrip())
