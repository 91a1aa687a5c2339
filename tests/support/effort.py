"""How much a test tries: some in every run, all with `make test-python EFFORT=long`."""

from __future__ import annotations

import os
from typing import Final

IS_LONG: Final = os.environ.get("EFFORT", "") == "long"


def tries(short: int, *, long: int) -> int:
    return long if IS_LONG else short
