"""A deployment is read whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol import deployments
from tallystick.protocol.contracts import verify_deployment
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import DeploymentError
from tallystick.protocol.types import ZERO_ADDRESS
from tests.support.anvil import STRANGER


def test_is_read_as_it_was_written(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "here.json"
    path.write_text(json.dumps(deployments.to_json(deployment)))
    assert deployments.load(path) == deployment
    assert deployments.load(str(path)) == deployment


def test_is_found_by_chain_in_the_named_folder(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "31337.json").write_text(json.dumps(deployments.to_json(deployment)))
    monkeypatch.setenv(deployments.DIRECTORY_VARIABLE, str(tmp_path))
    assert deployments.load(31337) == deployment
    (tmp_path / "5.json").write_text(json.dumps(deployments.to_json(deployment)))
    with pytest.raises(DeploymentError, match="for chain 31337, not for 5"):
        deployments.load(5)


def test_an_unknown_chain_and_a_missing_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="chain 424242: name its file"):
        deployments.load(424242)
    with pytest.raises(DeploymentError, match="cannot be read"):
        deployments.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"escrow": "0x12"}, "escrow"),
        ({"escrow": None}, "escrow"),
        ({"block": -1}, "block"),
        ({"block": 1.0}, "block"),
        ({"block": "1"}, "block"),
        ({"more": 1}, "more"),
        ({"constructor": {}}, "unit"),
        ({"registry": "0x12"}, "registry"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(
    deployment: Deployment, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DeploymentError, match=reason):
        deployments.from_json({**deployments.to_json(deployment), **change})


def test_one_from_before_the_registry_is_read(deployment: Deployment) -> None:
    content = deployments.to_json(deployment)
    del content["registry"]
    with pytest.raises(DeploymentError, match="missing or unknown entries: registry"):
        deployments.from_json(content)
    del content["constructor"]["noticeSeconds"]
    assert deployments.from_json(content) == replace(
        deployment, registry=ZERO_ADDRESS, notice_seconds=0
    )


@pytest.mark.parametrize("text", ["", "[]", "nothing"])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DeploymentError, match=r"broken\.json"):
        deployments.load(path)


class TestVerify:
    async def test_the_right_one_passes(self, web3: Any, deployment: Deployment) -> None:
        await verify_deployment(web3, deployment)

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("chain_id", 1, "on chain 31337 and the deployment on 1"),
            ("market", STRANGER.address, "the escrow's market should be"),
            ("token", STRANGER.address, "the escrow's token should be"),
            ("staking_token", STRANGER.address, "the staking's token should be"),
            ("stake_unit", 1, "the staking's unit should be 1"),
            ("protocol_fee_bps", 0, "protocol fee"),
            ("pool_share_bps", 0, "pool share"),
            ("close_seconds", 3_600, "close period"),
            ("unbonding_seconds", 0, "the staking's unbonding time should be 0"),
            ("court", STRANGER.address, "court"),
            ("registry", STRANGER.address, "does not hold this deployment"),
            ("notice_seconds", 1, "the registry's notice should be 1"),
            ("treasury", STRANGER.address, "the escrow's treasury should be"),
            ("retired_key_seconds", 1, "the staking's time for retired keys should be 1"),
            ("commission_notice_seconds", 1, "the staking's notice of commission should be 1"),
            ("jail_seconds", 1, "the staking's jail time should be 1"),
            ("stream_seconds", 1, "the staking's stream should be 1"),
            ("cancel_seconds", 1, "the market's cancel period should be 1"),
            ("min_challenge_seconds", 1, "the market's shortest challenge window should be 1"),
            ("max_challenge_seconds", 1, "the market's longest challenge window should be 1"),
            ("court_seconds", 1, "the market's time for the court should be 1"),
            ("bond_floor", 1, "the market's floor of bonds should be 1"),
            ("commit_seconds", 1, "the court's time to commit should be 1"),
            ("reveal_seconds", 1, "the court's time to reveal should be 1"),
            ("seat_seconds", 1, "the court's time for a seat should be 1"),
        ],
    )
    async def test_another_one_is_refused(
        self, web3: Any, deployment: Deployment, field: str, value: Any, reason: str
    ) -> None:
        changes: dict[str, Any] = {field: value}
        with pytest.raises(DeploymentError, match=reason):
            await verify_deployment(web3, replace(deployment, **changes))

    async def test_one_without_a_registry_passes(self, web3: Any, deployment: Deployment) -> None:
        await verify_deployment(web3, replace(deployment, registry=ZERO_ADDRESS))

    async def test_contracts_in_each_others_place_are_refused(
        self, web3: Any, deployment: Deployment
    ) -> None:
        swapped = replace(deployment, market=deployment.staking, staking=deployment.market)
        with pytest.raises(DeploymentError):
            await verify_deployment(web3, swapped)
