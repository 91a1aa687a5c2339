"""join: a folder with key, deployment and settings, and the line that registers it
├── the key is made once, for its owner's eyes, and is in nothing that is printed
├── the line holds the key's consent, as the contract checks it
├── what the market does not say has to be given
├── waits until key, stake and cards are on chain
└── settings files are read as shells read them
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from typer.testing import CliRunner

from tallystick.protocol.deployments import Deployment, load, to_json
from tallystick.protocol.messages import OperatorKey, recover
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import Address, to_address
from tallystick_provider import join
from tallystick_provider.__main__ import app
from tallystick_provider.errors import ProviderError, SettingsError
from tallystick_provider.settings import PREFIX, from_environment
from tests.support.anvil import PROVIDER

MARKET = "https://market.example"


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def wish(folder: Path, **changes: Any) -> join.Wish:
    said = {"market": MARKET, "provider": PROVIDER.address, "rate": "gpu1=7", "folder": folder}
    return join.Wish(**{**said, "gpus": "simulated:2xgpu1:24576", "runtime": "process", **changes})


def says(body: Any, status: int = 200) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{MARKET}/v1/agent-settings"
        return httpx.Response(status, json=body)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def settings_body(known: Deployment, **changes: Any) -> dict[str, Any]:
    return {
        "deployment": to_json(known),
        "nats_url": "nats://bus.example:4222",
        "rpc_url": "https://node.example",
        **changes,
    }


def content_of(line: str) -> dict[str, Any]:
    packed = line.removeprefix(join.LINE)
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    return found


async def test_the_folder_is_a_provider(deployment: Deployment, tmp_path: Path) -> None:
    set_up = await join.prepare(wish(tmp_path / "agent"), says(settings_body(deployment)))
    settings = from_environment(join.read_settings_file(set_up.settings_file))
    assert settings.address == PROVIDER.address
    assert settings.rate == {"gpu1": 7}
    assert settings.nats_url == "nats://bus.example:4222"
    assert settings.rpc_url == "https://node.example"
    assert load(settings.deployment) == deployment
    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "agent").stat().st_mode & 0o777 == 0o700


async def test_the_same_key_again_and_it_is_told_to_nobody(
    deployment: Deployment, tmp_path: Path
) -> None:
    first = await join.prepare(wish(tmp_path), says(settings_body(deployment)))
    again = await join.prepare(wish(tmp_path), says(settings_body(deployment)))
    assert again.key == first.key
    told = join.line(to_address(PROVIDER.address), again, ("A", "B"))
    assert first.key.hex() not in told + str(content_of(told))
    assert first.key.hex() not in again.settings_file.read_text()


async def test_the_line_is_the_keys_consent(deployment: Deployment, tmp_path: Path) -> None:
    set_up = await join.prepare(wish(tmp_path), says(settings_body(deployment)))
    content = content_of(join.line(to_address(PROVIDER.address), set_up, ("GPU-1", "GPU-2")))
    assert content["gpus"] == ["GPU-1", "GPU-2"]
    assert content["key"] == address_of(set_up.key)
    message = OperatorKey(provider=to_address(PROVIDER.address), key=to_address(content["key"]))
    assert recover(deployment.domain, message, content["consent"]) == content["key"]


@pytest.mark.parametrize(
    ("changes", "given", "expected"),
    [
        ({"rpc_url": ""}, {}, "--rpc"),
        ({"nats_url": ""}, {}, "--nats"),
        ({"deployment": {"chainId": 1}}, {}, "no usable deployment"),
    ],
)
async def test_what_is_missing_is_named(
    deployment: Deployment,
    tmp_path: Path,
    changes: dict[str, Any],
    given: dict[str, Any],
    expected: str,
) -> None:
    with pytest.raises(SettingsError, match=expected):
        await join.prepare(wish(tmp_path, **given), says(settings_body(deployment, **changes)))
    assert not (tmp_path / "operator.key").exists()


async def test_what_the_market_does_not_say_may_be_given(
    deployment: Deployment, tmp_path: Path
) -> None:
    silent = settings_body(deployment, rpc_url="", nats_url="")
    given = wish(tmp_path, rpc_url="http://mine:8545", nats_url="nats://theirs:4222")
    set_up = await join.prepare(given, says(silent))
    assert set_up.environment[PREFIX + "RPC_URL"] == "http://mine:8545"
    assert set_up.environment[PREFIX + "NATS_URL"] == "nats://theirs:4222"


async def test_an_address_that_is_no_market_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="check the address"):
        await join.prepare(wish(tmp_path), says({"detail": "not here"}, 404))


class Chain:
    """One more thing is true at each look; the second look fails."""

    def __init__(self) -> None:
        self.looks = 0

    async def signs_for(self, provider: Address) -> bool:
        self.looks += 1
        if self.looks == 2:
            raise ProviderError("no answer")
        return self.looks > 2

    async def staked_units(self, provider: Address) -> int:
        return 0 if self.looks < 4 else 2

    async def gpus_registered(self, provider: Address) -> int:
        return 0 if self.looks < 5 else 2


async def test_waits_for_key_stake_and_cards() -> None:
    chain = Chain()
    await join.until_registered(chain, to_address(PROVIDER.address), 2, look_s=0)
    assert chain.looks == 5


def test_a_settings_file_is_read_as_shells_read_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.env"
    path.write_text("# mine\nA=1\n\nB='two words'\nC=\n")
    assert join.read_settings_file(path) == {"A": "1", "B": "two words", "C": ""}
    path.write_text("A=1\nnonsense\n")
    with pytest.raises(SettingsError, match="line 2"):
        join.read_settings_file(path)


def test_a_command_takes_its_settings_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.env"
    values = {"ADDRESS": PROVIDER.address, "KEY_FILE": "k", "RATE": "gpu1=1"}
    lines = [f"{PREFIX}{name}={value}" for name, value in values.items()]
    path.write_text("\n".join([*lines, f"{PREFIX}DATA_DIR={tmp_path / 'none'}"]))
    for name in (*values, "DATA_DIR"):
        monkeypatch.setenv(PREFIX + name, "")  # so that what is set here is taken back
        monkeypatch.delenv(PREFIX + name)
    told = CliRunner().invoke(app, ["--settings", str(path), "status"])
    assert told.exit_code == 1
    assert f"no journal at {tmp_path / 'none'}" in " ".join(told.output.split())
    missing = CliRunner().invoke(app, ["--settings", str(tmp_path / "not"), "status"])
    assert missing.exit_code == 2
