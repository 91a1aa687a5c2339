"""What a task or an app is, as bytes that hash the same everywhere."""

from __future__ import annotations

import json

from tallystick.protocol.hashing import digest_of
from tallystick.protocol.types import Digest
from tallystick.protocol.wire import Manifest, WireModel

__all__ = ["canonical_json", "spec_digest"]


def canonical_json(body: WireModel) -> bytes:
    """Every field, also those left at their default; keys sorted, no spaces, UTF-8, no floats."""
    return json.dumps(
        body.model_dump(mode="json"),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    ).encode()


def spec_digest(manifest: Manifest) -> Digest:
    """`TaskTerms.spec`: changing one character of the manifest voids the order."""
    return digest_of(canonical_json(manifest))
