"""The Brownie scripts for seats and faults, run as a provider and a reporter run them.

seat takes, lists, leaves and frees a seat, each in its time
report_fault says what two receipts show, reports it once, and tells what was earned
nonsense is answered with what is wrong and what to do, never with a traceback
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.devnet import DevnetError, people
from tallystick.protocol.messages import Channel, Domain, Receipt, channel_id, sign
from tallystick.protocol.types import ZERO_DIGEST, Digest, to_address
from tests.e2e.scenario import Scenario

DAY_S = 86_400


@pytest.fixture
def channel() -> Channel:
    payer = people.CONSUMER.address
    return Channel(payer, payer, people.provider(2).address, 7)


@pytest.fixture
def receipt(scenario: Scenario, channel: Channel) -> Receipt:
    """Of a call; its times are far ahead, so that no clock of a test makes it too old."""
    return Receipt(
        provider=channel.provider,
        route=channel_id(channel),
        seq=3,
        prev=Digest("0x" + "11" * 32),
        request=Digest("0x" + "22" * 32),
        result=Digest("0x" + "33" * 32),
        gpu_set=ZERO_DIGEST,
        started_at_ms=4_000_000_000_000,
        ended_at_ms=4_000_000_060_000,
        calls=1,
        gpu_ms=60_000,
        usage_root=ZERO_DIGEST,
        total=300,
    )


def evidence(scenario: Scenario, path: Path, one: Receipt, other: Receipt, **more: Any) -> str:
    deployment = scenario.market.deployment()
    domain = Domain(deployment["chainId"], to_address(deployment["escrow"]))
    key = people.provider(2).private_key

    def shown(receipt: Receipt) -> dict[str, Any]:
        body = json.loads(receipt.to_body().model_dump_json())
        return {"receipt": body, "signature": sign(domain, receipt, key)}

    path.write_text(json.dumps({"one": shown(one), "other": shown(other), **more}))
    return str(path)


def test_a_fault_is_reported_once(
    scenario: Scenario, receipt: Receipt, channel: Channel, tmp_path: Path
) -> None:
    run, reporter = scenario.market.run_script, people.CONSUMER
    other = replace(receipt, result=Digest("0x" + "44" * 32))
    file = evidence(scenario, tmp_path / "two.json", receipt, other)
    said = run("report_fault", reporter, file, function="check")
    assert f"{channel.provider} signed two receipts for one place of {receipt.route}" in said
    assert f"20 TALLY of bounties wait for {reporter.address}" in run(
        "report_fault", reporter, file
    )
    with pytest.raises(DevnetError, match="punished already"):
        run("report_fault", reporter, file)
    later = replace(receipt, seq=4, prev=ZERO_DIGEST)
    fields = {
        "payer": channel.payer,
        "signer": channel.signer,
        "provider": channel.provider,
        "salt": "7",
    }
    file = evidence(scenario, tmp_path / "chain.json", receipt, later, channel=fields)
    with pytest.raises(DevnetError, match="punished already"):
        run("report_fault", reporter, file)


def test_what_is_no_fault_is_not_sent(scenario: Scenario, receipt: Receipt, tmp_path: Path) -> None:
    run, reporter = scenario.market.run_script, people.CONSUMER
    cases = {
        "twice the same receipt": evidence(scenario, tmp_path / "a.json", receipt, receipt),
        "on a channel only": evidence(
            scenario, tmp_path / "b.json", receipt, replace(receipt, seq=4)
        ),
        "does not answer": evidence(
            scenario,
            tmp_path / "c.json",
            replace(receipt, provider=people.provider(1).address),
            replace(receipt, provider=people.provider(1).address, total=1),
        ),
    }
    for reason, file in cases.items():
        with pytest.raises(DevnetError) as refusal:
            run("report_fault", reporter, file)
        assert reason in refusal.value.sentence
        assert "Traceback" not in refusal.value.sentence


def test_a_seat_comes_and_goes(scenario: Scenario) -> None:
    run, provider = scenario.market.run_script, people.provider(1)
    assert "has no seat; 0 are listed" in run("seat", provider, function="show")
    with pytest.raises(DevnetError, match="stake more, or register fewer"):
        run("seat", provider, function="take")
    run("register_gpus", provider, function="withdraw")
    assert "can be listed from" in run("seat", provider, function="take")
    with pytest.raises(DevnetError, match="can be listed from"):
        run("seat", provider, function="list_it")
    scenario.advance(DAY_S)
    said = run("seat", people.CONSUMER, provider.address, function="list_it")
    assert "has one of 1 seats" in said
    assert "can be freed from" in run("seat", provider, function="leave")
    scenario.advance(DAY_S)
    assert "its stake is free" in run("seat", provider, function="free")


@pytest.mark.parametrize(
    ("script", "function", "arguments", "said"),
    [
        ("report_fault", "main", (), "which evidence"),
        ("report_fault", "main", ("nowhere.json",), "cannot be read"),
        ("seat", "leave", (), "has no seat"),
        ("seat", "free", ("0x12",), "not an address"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(
    scenario: Scenario, script: str, function: str, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DevnetError) as refusal:
        scenario.market.run_script(script, people.provider(1), *arguments, function=function)
    assert said in refusal.value.sentence
    assert "Traceback" not in refusal.value.sentence
