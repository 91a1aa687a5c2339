"""What the dApp's unit tests compare its app manifests with is what this SDK publishes today."""

from __future__ import annotations

import json

from tools import dapp_vectors


def test_the_browsers_app_vectors_are_the_sdks() -> None:
    kept = json.loads(dapp_vectors.APP_TARGET.read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(dapp_vectors.app_vectors()))
    assert len({one["manifestDigest"] for one in kept}) == 3
