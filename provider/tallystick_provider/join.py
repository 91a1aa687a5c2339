"""From nothing to a running agent with one command: `tallystick-provider join`.

It makes the operator key here, where it stays; asks the market where its contracts and its bus are;
writes all of it beside the key; and prints one line for the page that registers the provider: which
cards there are, and the key's consent to sign for them. The line holds no secret.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import structlog
from pydantic import ValidationError

from tallystick.protocol.deployments import Deployment, from_json, to_json
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.market_views import AgentSettings
from tallystick.protocol.messages import OperatorKey, sign
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import Address, to_address
from tallystick_provider import keys
from tallystick_provider.errors import ProviderError, SettingsError
from tallystick_provider.settings import PREFIX

LINE = "tallystick-provider:"
"""What the line to paste begins with."""
SETTINGS_FILE = "agent.env"
LOOK_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wish:
    """What whoever joins says: the market, the account with the stake, what is offered."""

    market: str
    provider: Address
    rate: str
    folder: Path
    gpus: str = "nvml"
    runtime: str = "docker"
    rpc_url: str = ""
    nats_url: str = ""


@dataclass(frozen=True, slots=True)
class SetUp:
    """What lies in the folder now."""

    settings_file: Path
    environment: Mapping[str, str]
    deployment: Deployment
    key: bytes


async def prepare(wish: Wish, http: httpx.AsyncClient) -> SetUp:
    """Writes key, deployment and settings. A key that is there stays: it may be bound already."""
    told = await _ask(wish.market, http)
    try:
        deployment = from_json(told.deployment)
    except ProtocolError as error:
        raise SettingsError(f"{wish.market} names no usable deployment: {error}") from None
    rpc_url = wish.rpc_url or told.rpc_url
    nats_url = wish.nats_url or told.nats_url
    if not rpc_url:
        raise SettingsError(
            f"{wish.market} names no node to ask: add --rpc https://... of one you trust"
        )
    if not nats_url:
        raise SettingsError(
            f"{wish.market} names no message bus: ask its operator, and add --nats nats://..."
        )
    wish.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_file = wish.folder / "operator.key"
    key = _key(key_file)
    deployment_file = wish.folder / "deployment.json"
    deployment_file.write_text(json.dumps(to_json(deployment), indent=2) + "\n")
    environment = {
        PREFIX + name: value
        for name, value in {
            "ADDRESS": wish.provider,
            "KEY_FILE": str(key_file),
            "RPC_URL": rpc_url,
            "DEPLOYMENT": str(deployment_file),
            "NATS_URL": nats_url,
            "DATA_DIR": str(wish.folder / "data"),
            "RUNTIME": wish.runtime,
            "GPUS": wish.gpus,
            "RATE": wish.rate,
        }.items()
    }
    settings_file = wish.folder / SETTINGS_FILE
    lines = (f"{name}={shlex.quote(value)}" for name, value in environment.items())
    settings_file.write_text("\n".join(lines) + "\n")
    return SetUp(settings_file, environment, deployment, key)


async def _ask(market: str, http: httpx.AsyncClient) -> AgentSettings:
    url = f"{market.rstrip('/')}/v1/agent-settings"
    try:
        answer = await http.get(url)
        answer.raise_for_status()
        return AgentSettings.model_validate(answer.json())
    except (httpx.HTTPError, ValidationError, ValueError) as error:
        raise SettingsError(
            f"{url} does not say where the contracts are ({str(error)[:200]}); check the address"
        ) from None


def _key(path: Path) -> bytes:
    if path.exists():
        return keys.operator_key(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    return keys.operator_key(path)


def line(provider: Address, set_up: SetUp, gpu_ids: tuple[str, ...]) -> str:
    """For the page that registers: base64 of JSON, so that it survives being copied."""
    key = address_of(set_up.key)
    message = OperatorKey(provider=to_address(provider), key=key)
    content = {
        "provider": provider,
        "key": key,
        "consent": sign(set_up.deployment.domain, message, set_up.key),
        "gpus": list(gpu_ids),
    }
    packed = json.dumps(content, separators=(",", ":")).encode()
    return LINE + base64.urlsafe_b64encode(packed).decode().rstrip("=")


class Standing(Protocol):
    """What the chain knows of the provider: `ledger.ChainLedger`."""

    async def signs_for(self, provider: Address) -> bool: ...

    async def staked_units(self, provider: Address) -> int: ...

    async def gpus_registered(self, provider: Address) -> int: ...


async def until_registered(
    ledger: Standing, provider: Address, cards: int, look_s: float = LOOK_SECONDS
) -> None:
    """Returns when the chain has the key bound, the stake bonded and the cards registered. A node
    that does not answer is asked again."""
    while True:
        try:
            if (
                await ledger.signs_for(provider)
                and await ledger.staked_units(provider) >= max(1, cards)
                and await ledger.gpus_registered(provider) >= cards
            ):
                return
        except ProviderError as error:
            log.warning("node_silent", why=str(error))
        await asyncio.sleep(look_s)


def read_settings_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines as `join` writes them and shells and systemd read them."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SettingsError(
            f"the settings file {path} cannot be read ({error.strerror}): "
            "`tallystick-provider join` writes one"
        ) from None
    found: dict[str, str] = {}
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        name, sign_, value = row.strip().partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            words = ["", ""]
        if not sign_ or not name.isidentifier() or len(words) > 1:
            raise SettingsError(f"{path}, line {number}: expected NAME=value, found {row[:80]!r}")
        found[name] = words[0] if words else ""
    return found
