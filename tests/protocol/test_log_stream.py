"""A log line that cannot be written is lost, and nothing else is; one that can tells no secrets."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.log_stream import LogStream, without_secrets


def test_lines_arrive(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        print("a line", file=LogStream(file), flush=True)  # type: ignore[arg-type]
    assert (tmp_path / "log").read_text() == "a line\n"


def test_a_full_disk_ends_nobody() -> None:
    """Case 85: the agent once ended because its complaint of a full disk did not fit on it."""
    with io.FileIO("/dev/full", "w") as disk:
        stream = LogStream(io.TextIOWrapper(disk, write_through=True))  # type: ignore[type-var]
        assert stream.write("a line\n") == 7
        stream.flush()


def test_a_stream_that_was_closed_ends_nobody(tmp_path: Path) -> None:
    file = (tmp_path / "log").open("w")
    file.close()
    stream = LogStream(file)
    stream.write("nobody reads this")
    stream.flush()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no log-in at nats://u:SECRET@bus:4222: refused", "nats://bus:4222"),
        ("POST https://rpc.example/v2/SECRET?key=SECRET failed", "https://rpc.example/"),
        ("at https://rpc.example?key=SECRET", "https://rpc.example/"),
        ("'postgresql+asyncpg://tally:SE@C/RET@db:5432/x'", "postgresql+asyncpg://db:5432/"),
        ("WSS://SECRET@[::1]:8546#SECRET", "WSS://[::1]:8546/"),
    ],
)
def test_of_an_address_only_the_place_is_told(said: str, shown: str) -> None:
    """Case 136."""
    told = without_secrets(said)
    assert shown in told
    assert not any(part in told for part in ("SECRET", "SE@C", "RET"))


@pytest.mark.parametrize(
    "said",
    [
        "logged in at nats://127.0.0.1:4222",
        "unix:///var/run/docker.sock",
        "a:// b",
        "",
        "//",
        "a." * 50_000,
    ],
)
def test_what_has_nothing_to_hide_stays(said: str) -> None:
    assert without_secrets(said) == said


@given(st.text())
def test_any_text_can_be_told_and_told_again(said: str) -> None:
    once = without_secrets(said)
    assert without_secrets(once) == once
