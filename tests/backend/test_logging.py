"""What libraries log goes through the same hands as what we log."""

from __future__ import annotations

import logging

import pytest

from tallystick_backend import logging as logs


def test_addresses_in_what_libraries_say_are_struck_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Case 136: an exception of a library, with the address of a node whose path is a key."""
    kept = logging.root.handlers[:], logging.root.level
    try:
        logs.configure("info", as_json=True)
        try:
            raise OSError("cannot connect to https://rpc.example/v2/SECRETKEY?x=SECRETTOO")
        except OSError:
            logging.getLogger("some.library").exception("failed for wss://u:SECRET@h/SECRET")
    finally:
        logging.root.handlers[:], level = kept
        logging.root.setLevel(level)
    said = capsys.readouterr().err
    assert "some.library" in said
    assert "Traceback" in said
    assert "SECRET" not in said
