"""One function reads `-i` for every command.

call_input
├── text, and what reads as JSON; quotes keep text
├── @file: text as it is, other bytes as a data: URI
├── @input.json and @-: the whole input
└── refuses: no name, a name twice, a missing file, JSON that is none, a file too large
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick import InvalidRequest, inputs
from tallystick.inputs import call_input


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=world", "world"),
        ("a=", ""),
        ("a=20", 20),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=null", None),
        ("a=[1,2]", [1, 2]),
        ('a={"b":1}', {"b": 1}),
        ('a="20"', "20"),
        ("a=b=c", "b=c"),
        ("a=NaN", "NaN"),
        ("a={", "{"),
    ],
)
def test_a_value(text: str, value: object) -> None:
    assert call_input([text]) == {"a": value}


def test_files() -> None:
    Path("poem.txt").write_text("roses\n")
    Path("cat.png").write_bytes(b"\x89PNG")
    Path("weights").write_bytes(b"\xff")
    assert call_input(["p=@poem.txt", "i=@cat.png", "w=@weights"]) == {
        "p": "roses\n",
        "i": "data:image/png;base64,iVBORw==",
        "w": "data:application/octet-stream;base64,/w==",
    }


def test_a_whole_input() -> None:
    Path("input.json").write_text('{"a": [1]}')
    assert call_input(["@input.json"]) == {"a": [1]}
    assert call_input(["@-"], read_standard_input=lambda: b"[2]") == [2]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["a"], "no name or no value"),
        (["=1"], "no name or no value"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=@nowhere"], "nowhere cannot be read"),
        (["@nowhere"], "nowhere cannot be read"),
        (["@bad.json"], "bad.json is not JSON"),
        (["@bad.json", "a=1"], "is a whole input"),
        (["a=@large"], "larger than 10 bytes"),
    ],
)
def test_refuses(texts: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_FILE_BYTES", 10)
    Path("bad.json").write_text("{")
    Path("large").write_text("x" * 11)
    with pytest.raises(InvalidRequest, match=says):
        call_input(texts)
