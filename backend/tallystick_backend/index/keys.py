"""How entities are named."""

from __future__ import annotations

from typing import NewType

EntityKey = NewType("EntityKey", str)
"""Kind and id in lower case: `task:0x..`, `account:0x..`, `version:0x../0000000001`."""
