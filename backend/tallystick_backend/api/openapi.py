"""The OpenAPI document: what FastAPI generates, with the one problem schema everywhere."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tallystick.protocol.wire import Problem
from tallystick_backend import __version__
from tallystick_backend.api.errors import PROBLEM_JSON
from tallystick_backend.api.problems import EXAMPLES

TITLE = "Tallystick"
DESCRIPTION = """\
The backend of a GPU compute marketplace: orders in, receipts out, money on chain.

Amounts are decimal strings in the token's smallest unit; times are unix seconds or, where the name
says so, milliseconds; digests and signatures are `0x` hex. Errors are problem details (RFC 9457):
`code` is stable, `next_step` says what to do. Unknown fields are refused.

Every write takes an `Idempotency-Key`: the same key with the same request does it once and answers
the same. Log-in is the exception: each nonce is good for one session.
"""

TAGS = [
    {"name": "log-in", "description": "Sign-In with Ethereum (EIP-4361)."},
    {"name": "API keys", "description": "For programs without the wallet at hand."},
    {"name": "market", "description": "Public: contracts, offers, providers, cards, accounts."},
    {"name": "explorer", "description": "Public: what happened on the chain, a search, a stream."},
    {"name": "apps", "description": "Public: what can be called, prices, and channels."},
    {"name": "calls", "description": "Call an app; receipts, sums and limits."},
    {"name": "providers", "description": "Join as one, and watch your own agent."},
    {"name": "account", "description": "The caller's money at a glance."},
    {"name": "embedding", "description": "Public, and for pages of any origin."},
    {"name": "bundles", "description": "Sealed inputs and results, by their keccak-256."},
    {"name": "tasks", "description": "The caller's own tasks; to others they do not exist."},
    {"name": "health", "description": "For operators."},
]


def install(app: FastAPI) -> None:
    def generate() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = generate  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=__version__,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["examples"] = dict(sorted(EXAMPLES.items()))
    fault = {
        "description": "Fault of this backend",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].setdefault("500", fault)
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return document
