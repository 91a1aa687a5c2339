"""A log line that cannot be written is lost, and nothing else is."""

from __future__ import annotations

import io
from pathlib import Path

from tallystick.protocol.log_stream import LogStream


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
