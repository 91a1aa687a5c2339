"""Bad values: what breaks parsers, and good documents with one place spoilt. All chance comes from
the generator that is handed in."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

NASTY = (
    "",
    " ",
    "\0",
    "a\0b",
    "%00",
    "'; DROP TABLE task_order; --",
    "1 OR 1=1",
    "a' OR 'a'='a",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "\u202eabc",
    "\ufeff",
    "\ud800",
    "x\udfff",
    "é" * 300,
    "💥",
    "²",
    "١٢٣",
    "NaN",
    "Infinity",
    "-1",
    "-0",
    "+1",
    "1e999",
    "1e-999",
    "0.1",
    "1_000",
    "9" * 40,
    "9" * 5000,
    "0" * 3000,
    str(2**31),
    str(2**53),
    str(2**63),
    str(2**63 - 1),
    str(2**64),
    str(2**96),
    str(2**128),
    str(2**256),
    "true",
    "null",
    "[]",
    "{}",
    "0x",
    "0X00",
    "0x" + "g" * 64,
    "0x" + "0" * 64,
    "0x" + "F" * 64,
    "0x" + "0" * 40,
    "0x" + "f" * 63,
    "%",
    "_",
    "\\",
    "\n",
    "\r\nX-Evil: 1",
    "\x7f",
    "\x85",
    "1970-01-01T00:00:00Z",
    "A" * 70_000,
)
NUMBERS = (
    0,
    -1,
    1,
    255,
    256,
    65_536,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    2**96,
    2**128 - 1,
    2**128,
    2**256 - 1,
    2**256,
    10**400,
    -(2**63) - 1,
    0.5,
    -0.0,
    1e308,
)
RAW_JSON = (
    b"",
    b" ",
    b"null",
    b"[]",
    b"0",
    b'"',
    b"{",
    b'{"a":1,"a":2}',
    b'{"name":NaN}',
    b'{"name":Infinity}',
    b'{"name":-Infinity}',
    b'{"name":1e999}',
    b'{"name":"\\ud800"}',
    b'{"name":"\\u0000"}',
    b'{"name":"\xff\xfe"}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"[" * 10_000,
    b"[" * 10_000 + b"]" * 10_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'"' + b"[" * 10_000,
    b"1" * 10_000,
    b'{"name":' + b"9" * 5_000 + b"}",
    b"{}{}",
    b"{} trailing",
    b"//comment\n{}",
    b"{'a': 1}",
    b'{"a":1,}',
    b'{"a":\x01"b"}',
    b'{"a":"' + b"\\" * 4_001,
)


def text(chance: random.Random) -> str:
    kind = chance.randrange(5)
    if kind < 3:
        return chance.choice(NASTY)
    if kind == 3:
        letters = [chr(chance.choice((chance.randrange(32, 127), chance.randrange(0x3000))))]
        letters *= chance.randrange(1, 8)
        return "".join(letters)
    length = chance.randrange(60)
    return "".join(chr(chance.randrange(0x20, 0xD800)) for _ in range(length))


def value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(9 if depth < 4 else 7)
    if kind == 0:
        return None
    if kind == 1:
        return chance.random() < 0.5
    if kind <= 3:
        return chance.choice(NUMBERS)
    if kind <= 6:
        return text(chance)
    many = range(chance.randrange(4))
    if kind == 7:
        return [value(chance, depth + 1) for _ in many]
    return {text(chance): value(chance, depth + 1) for _ in many}


def spoilt(chance: random.Random, good: Any) -> Any:
    """A good document with one place replaced, removed, added to, or nearly right."""
    body = copy.deepcopy(good)
    place = body
    while isinstance(place, dict | list):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return value(chance)
        key = chance.choice(keys)
        deeper = place[key]
        if isinstance(deeper, dict | list) and deeper and chance.random() < 0.7:
            place = deeper
            continue
        what = chance.choice(("replace", "replace", "remove", "add", "nearly", "nearly"))
        if what == "replace":
            place[key] = value(chance)
        elif what == "remove":
            del place[key]
        elif what == "nearly":
            place[key] = nearly(chance, deeper)
        elif isinstance(place, dict):
            place[text(chance)] = value(chance)
        else:
            place.append(value(chance))
        return body
    return value(chance)


def nearly(chance: random.Random, good: Any) -> Any:
    """Of the same kind, and off by a little."""
    if isinstance(good, bool):
        return not good
    if isinstance(good, int):
        return good + chance.choice((-1, 1, 2**32, -(2**63), 2**64))
    if isinstance(good, str):
        return spoilt_text(chance, good)
    if isinstance(good, list):
        return good * chance.choice((0, 2, 500))
    return [good]


def spoilt_text(chance: random.Random, good: str) -> str:
    """One to three small changes."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(good) + 1)
        what = chance.randrange(6)
        if what == 0:
            good = good[:at] + good[at + 1 :]
        elif what == 1:
            good = good[:at] + chr(chance.randrange(32, 127)) + good[at:]
        elif what == 2:
            good = good[:at] + good[at : at + 8] + good[at:]
        elif what == 3:
            good = good[:at]
        elif what == 4:
            good = good.swapcase()
        else:
            good = good[:at] + text(chance)[:200] + good[at + 1 :]
    return good


def spoilt_bytes(chance: random.Random, good: bytes) -> bytes:
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(good) + 1)
        what = chance.randrange(5)
        if what == 0:
            good = good[:at] + good[at + 1 :]
        elif what == 1:
            good = good[:at] + chance.randbytes(chance.randrange(1, 9)) + good[at:]
        elif what == 2:
            good = good[:at] + bytes([chance.randrange(256)]) + good[at + 1 :]
        elif what == 3:
            good = good[:at]
        else:
            good = good[:at] + good[at : at + 40] * 3 + good[at + 40 :]
    return good


def json_bytes(chance: random.Random, document: Any) -> bytes:
    """Mostly JSON as others write it; now and then none."""
    if chance.random() < 0.08:
        return chance.choice(RAW_JSON)
    written = json.dumps(document, ensure_ascii=chance.random() < 0.5)
    data = written.encode("utf-8", "surrogatepass")
    return spoilt_bytes(chance, data) if chance.random() < 0.08 else data
