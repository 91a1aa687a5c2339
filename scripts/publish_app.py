"""Publish an app, add versions to it, and end it.

    brownie run publish_app main llama sha256:6d0f... manifest.json ipfs://bafy... \
        flat=0 call=0.001 gpu-hour=0.5 --network tallystick
    brownie run publish_app version llama sha256:91ac... manifest.json ipfs://bafy... \
        flat=0 call=0.002 gpu-hour=0.5 --network tallystick
    brownie run publish_app retire llama forever --network tallystick
                                        no prices once the notice is over; no way back
    brownie run publish_app renounce llama forever --network tallystick
                                        nobody, not even you, can change or stop it; no way back

Sends from the publisher's account (support.py says how it is chosen); the app is its for ever. Name
and publisher make the app id. The image is named by its digest. The manifest is a file, whose bytes
as they are will be found at the address behind it: callers compare their keccak-256. It says what
the app needs, GPUs included. Prices are in whole tokens: `flat`, `call` (the fee per call) and
`gpu-hour`; name all three. Later changes of price: set_price.py.

For `main`:

    TALLYSTICK_ROYALTY_TO, TALLYSTICK_ROYALTY_BPS
                                        who gets which share of each call, in basis points, at most
                                        3000; never changes; nobody, 0 without them
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from scripts.set_price import (
    app_of,
    price_of,
    registry_of,
    require_publisher,
    row,
    salt_of,
    told,
)
from scripts.support import (
    ZERO_ADDRESS,
    ScriptError,
    address_of,
    command,
    deployment,
    require_gas_money,
    signer,
)
from scripts.unstake import when
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.types import Digest, to_digest


@command
def main(name: str = "", image: str = "", manifest: str = "", uri: str = "", *prices: str) -> None:
    if not name or name.startswith("0x"):
        raise ScriptError("under which name? `brownie run publish_app main llama ...`, not an id")
    market = deployment()
    registry = registry_of(market)
    publisher = signer()
    price = price_of(market, prices)
    version = (image_digest(image), manifest_digest(manifest), require_uri(uri), row(price))
    royalty_to, royalty_bps = royalty()
    app_id = str(registry.appIdOf(publisher, salt_of(name)))
    if registry.appOf(app_id)[0] != ZERO_ADDRESS:
        raise ScriptError(
            f"{publisher} has published {name!r} already ({app_id}): add a version with"
            " `brownie run publish_app version`, or choose another name"
        )
    require_gas_money(publisher)
    registry.publish(salt_of(name), *version, royalty_to, royalty_bps, {"from": publisher})
    print(f"{name} is app {app_id}")
    print(f"version 1 costs {told(market, price)}")
    if royalty_bps:
        print(f"{royalty_bps / 100:g} % of it to {royalty_to}")


@command
def version(
    app: str = "", image: str = "", manifest: str = "", uri: str = "", *prices: str
) -> None:
    market = deployment()
    registry = registry_of(market)
    publisher = signer()
    app_id, state = app_of(market, publisher, app)
    price = price_of(market, prices)
    added = (image_digest(image), manifest_digest(manifest), require_uri(uri), row(price))
    require_publisher(state, publisher)
    require_gas_money(publisher)
    sent = registry.addVersion(app_id, *added, {"from": publisher})
    number = sent.events["VersionAdded"]["version"]
    print(f"version {number} of {app} costs {told(market, price)}; the others stay as they are")


@command
def retire(app: str = "", sure: str = "") -> None:
    market = deployment()
    publisher = signer()
    app_id, state = app_of(market, publisher, app)
    require_publisher(state, publisher)
    require_sure("retire", app, sure)
    require_gas_money(publisher)
    sent = registry_of(market).retire(app_id, {"from": publisher})
    print(f"{app} has no price from {when(sent.events['AppRetired']['retiredAt'])} on")


@command
def renounce(app: str = "", sure: str = "") -> None:
    market = deployment()
    publisher = signer()
    app_id, state = app_of(market, publisher, app)
    require_publisher(state, publisher)
    require_sure("renounce", app, sure)
    require_gas_money(publisher)
    registry_of(market).renounce(app_id, {"from": publisher})
    print(f"{app} is permanent: nobody can change or stop it")


# --- what is meant ----------------------------------------------------------------------------


def image_digest(text: str) -> Digest:
    """`sha256:` and 64 hex digits, as container engines write it, or 0x and as many."""
    found = re.fullmatch(r"(?:sha256:|0x)([0-9a-fA-F]{64})", text)
    if found is None:
        raise ScriptError(
            f"image {text!r}: name it by its digest, sha256: and 64 hex digits (a tag can be moved"
            " to another image)"
        )
    return Digest("0x" + found[1].lower())


def manifest_digest(text: str) -> Digest:
    """Of a file's bytes, or given as 0x and 64 hex digits."""
    if text.startswith("0x"):
        try:
            return to_digest(text)
        except ProtocolError as error:
            raise ScriptError(f"manifest: {error}") from None
    try:
        return digest_of(Path(text or "missing").read_bytes())
    except OSError as error:
        raise ScriptError(
            f"manifest {text!r} cannot be read ({error.strerror}): name a file, or its keccak-256"
        ) from None


def require_uri(text: str) -> str:
    if not 1 <= len(text.encode()) <= 512 or "=" in text.partition("/")[0]:
        raise ScriptError(
            f"manifest's address {text!r}: say where callers find it, in 1 to 512 bytes"
        )
    return text


def royalty() -> tuple[str, int]:
    text = os.environ.get("TALLYSTICK_ROYALTY_BPS", "0")
    if not text.isdecimal() or int(text) > 3_000:
        raise ScriptError(f"TALLYSTICK_ROYALTY_BPS is {text!r}: give 0 to 3000")
    to = os.environ.get("TALLYSTICK_ROYALTY_TO", "")
    if int(text) and not to:
        raise ScriptError("a royalty for whom? set TALLYSTICK_ROYALTY_TO")
    return address_of(to, "TALLYSTICK_ROYALTY_TO") if to else ZERO_ADDRESS, int(text)


def require_sure(verb: str, app: str, sure: str) -> None:
    if sure != "forever":
        raise ScriptError(
            f"there is no way back from it: say `brownie run publish_app {verb} {app} forever`"
        )
