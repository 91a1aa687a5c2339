"""doctor: a table of broken set-ups, each with the sentence that names it and its fix
├── settings, key file, disk, GPUs, prices, engine, deployment
├── node, contracts, key, stake, registered GPUs, gas, clock
└── backend
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.deployments import Deployment, to_json
from tallystick.protocol.types import ZERO_ADDRESS
from tallystick_provider.clock import ManualClock
from tallystick_provider.doctor import (
    calls_finding,
    clearing_finding,
    clock_finding,
    disk_finding,
    examine,
    key_finding,
    python_finding,
)
from tallystick_provider.gpus import NoGpus, SimulatedGpus
from tallystick_provider.runtime import Finding
from tallystick_provider.settings import PREFIX
from tests.provider.orders import settings_of
from tests.provider.settling import GPU_IDS
from tests.support.anvil import OPERATOR, PROVIDER, STRANGER, LocalChain, bind_key, stake

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def environment(
    chain: LocalChain, deployment: Deployment, tmp_path: Path
) -> Callable[..., dict[str, str]]:
    """A set-up that is right but for what a test changes; nobody listens at the backend's."""
    key = tmp_path / "operator.key"
    key.write_text(OPERATOR.key)
    key.chmod(0o600)
    (tmp_path / "deployment.json").write_text(json.dumps(to_json(deployment)))

    def environment(**changes: Any) -> dict[str, str]:
        given = {
            "ADDRESS": PROVIDER.address,
            "KEY_FILE": str(key),
            "DATA_DIR": str(tmp_path / "data"),
            "RPC_URL": chain.url,
            "DEPLOYMENT": str(tmp_path / "deployment.json"),
            "NATS_URL": "nats://127.0.0.1:9",
            "RUNTIME": "process",
            "GPUS": "simulated:2xgpu1:24576",
            "RATE": "gpu1=1,=0",
            "DISK_MIB": "16",
            **changes,
        }
        return {PREFIX + name: value for name, value in given.items()}

    return environment


async def look(environment: dict[str, str], chain: LocalChain) -> dict[str, Finding]:
    clock = ManualClock(chain.now_s() * 1000)
    return {finding.name: finding async for finding in examine(environment, clock)}


async def test_a_right_set_up_has_nothing_to_fix_but_the_missing_backend(
    environment: Callable[..., dict[str, str]], chain: LocalChain, deployment: Deployment
) -> None:
    stake(chain, deployment, PROVIDER, gpu_ids=GPU_IDS)
    bind_key(chain, deployment, PROVIDER, OPERATOR)
    found = await look(environment(), chain)
    assert [name for name, finding in found.items() if not finding.ok] == ["backend"]
    assert "SIMULATED" in found["GPUs"].found
    assert "TALLYSTICK_PROVIDER_NATS_URL" in found["backend"].fix


async def test_a_fresh_provider_is_told_to_bind_stake_and_register(
    environment: Callable[..., dict[str, str]], chain: LocalChain, deployment: Deployment
) -> None:
    found = await look(environment(), chain)
    assert "bindOperatorKey" in found["key bound"].fix
    assert str(2 * deployment.stake_unit) in found["stake"].fix
    assert "register_gpus" in found["GPUs registered"].fix
    assert found["gas"].ok


async def test_a_key_of_another_provider_is_not_bound(
    environment: Callable[..., dict[str, str]], chain: LocalChain, deployment: Deployment
) -> None:
    bind_key(chain, deployment, STRANGER, OPERATOR)
    assert not (await look(environment(), chain))["key bound"].ok


async def test_an_empty_wallet_is_named(
    environment: Callable[..., dict[str, str]], chain: LocalChain
) -> None:
    chain.rpc("anvil_setBalance", OPERATOR.address, "0x0")
    gas = (await look(environment(), chain))["gas"]
    assert not gas.ok
    assert OPERATOR.address in gas.fix


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"ADDRESS": "me"}, "settings", "TALLYSTICK_PROVIDER_ADDRESS"),
        ({"KEY_FILE": "/no/such/key"}, "operator key", "cannot be read"),
        ({"RPC_URL": NOWHERE}, "node", "no answer from http://127.0.0.1:9"),
        ({"RPC_URL": "ws://127.0.0.1"}, "node", "expected http"),
        ({"DEPLOYMENT": ""}, "deployment", "not set"),
        ({"DEPLOYMENT": "/no/such.json"}, "deployment", "cannot be read"),
        ({"DEPLOYMENT": "999999"}, "deployment", "no deployment is known for chain 999999"),
        ({"RATE": "gpu9=1"}, "prices", "no price for the class gpu1"),
        ({"DISK_MIB": str(2**40)}, "disk", "MiB free"),
        ({"RUNTIME": "docker", "DOCKER_URL": "unix:///no/docker"}, "docker engine", "no container"),
    ],
)
async def test_broken_set_ups_are_named(
    environment: Callable[..., dict[str, str]],
    chain: LocalChain,
    change: dict[str, str],
    name: str,
    message: str,
) -> None:
    found = (await look(environment(**change), chain))[name]
    assert not found.ok
    assert message in found.found
    assert found.fix


async def test_a_deployment_of_other_contracts_is_named(
    environment: Callable[..., dict[str, str]],
    chain: LocalChain,
    deployment: Deployment,
    tmp_path: Path,
) -> None:
    wrong = replace(deployment, chain_id=deployment.chain_id + 1)
    (tmp_path / "deployment.json").write_text(json.dumps(to_json(wrong)))
    found = (await look(environment(), chain))["contracts"]
    assert not found.ok
    assert "the node is on chain 31337" in found.found


async def test_a_machine_without_a_driver_is_told_its_choices(
    environment: Callable[..., dict[str, str]], chain: LocalChain
) -> None:
    found = (await look(environment(GPUS="nvml"), chain))["GPUs"]
    if not found.ok:
        assert "simulated:2xgpu1:24576" in found.fix


def test_a_card_in_use_is_advice_and_one_that_can_never_be_cleared_is_not() -> None:
    source = SimulatedGpus(PROVIDER.address, 2, "gpu1", 1024, ManualClock())
    cards = source.read()
    assert clearing_finding(source, cards).found.endswith("SIMULATED")
    source.foreign[cards[1].gpu_id] = "process 77"
    used = clearing_finding(source, cards)
    assert used.ok
    assert "process 77" in used.found
    assert used.fix
    assert not clearing_finding(NoGpus(), cards).ok


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(OPERATOR.key)
    path.chmod(mode)
    key, finding = key_finding(path)
    assert key is None
    assert f"{mode:04o}" in finding.found
    assert "chmod 600" in finding.fix


@pytest.mark.parametrize("text", ["", "0x12", "not a key", "00" * 32, "ff" * 32])
def test_a_file_without_a_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    key, finding = key_finding(path)
    assert key is None
    assert "no private key" in finding.found
    assert not text or text not in finding.found.replace("64 hex digits", "")


def test_python_that_is_too_old() -> None:
    assert not python_finding((3, 10, 4)).ok
    assert python_finding((3, 11, 0)).ok


def test_disk_is_asked_of_the_nearest_directory_there_is(tmp_path: Path) -> None:
    assert disk_finding(tmp_path / "not" / "yet", 1).ok


@pytest.mark.parametrize(
    ("ahead_s", "ok", "advice"), [(-11, False, True), (-10, True, False), (601, True, True)]
)
def test_clock(ahead_s: int, ok: bool, advice: bool) -> None:
    finding = clock_finding(1_000_000 + ahead_s, 1_000_000)
    assert finding.ok is ok
    assert bool(finding.fix) is advice


@pytest.mark.parametrize(
    ("changes", "ok", "found", "fix"),
    [
        pytest.param(
            {"runtime": "docker"}, True, "every app at the floor's price; 1 on", "", id="all"
        ),
        pytest.param(
            {"runtime": "docker", "apps": "0x" + "ab" * 32}, True, "1 apps;", "", id="one"
        ),
        pytest.param({"apps": "none"}, True, "none, by TALLYSTICK_PROVIDER_APPS", "", id="none"),
        pytest.param({}, True, "does not know where", "TALLYSTICK_PROVIDER_APPS_DIR", id="no code"),
        pytest.param(
            {"apps_dir": "/nowhere"}, False, "no folder /nowhere", "make it", id="no folder"
        ),
    ],
)
def test_calls_of_apps(
    tmp_path: Path, changes: dict[str, Any], ok: bool, found: str, fix: str
) -> None:
    finding = calls_finding(settings_of(tmp_path, **changes), None)
    assert finding.ok is ok
    assert found in finding.found
    assert fix in finding.fix


def test_a_deployment_without_a_registry_has_no_calls(
    tmp_path: Path, deployment: Deployment
) -> None:
    old = replace(deployment, registry=ZERO_ADDRESS)
    assert "no registry" in calls_finding(settings_of(tmp_path), old).found
