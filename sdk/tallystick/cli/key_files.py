"""New private keys in files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tallystick.errors import ConfigurationError


def write_new_key(place: Path) -> str:
    """A key that only its owner can read; never in place of another."""
    key = "0x" + secrets.token_hex(32)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        raise ConfigurationError(
            f"The key file {place} cannot be made: {problem.strerror}.",
            next_step="Name another path; a key that is there already is never overwritten.",
        ) from problem
    with os.fdopen(descriptor, "w") as written:
        written.write(key + "\n")
    return key
