"""The Brownie scripts for channels, run as payer and provider run them.

open_channel opens from the wallet, tops up from the escrow account and shows where it stands
redeem says what each voucher pays, credits it, and pays it out
close_channel asks, takes back, asks again, and finishes when the period is over; release lets go
nonsense is answered with what is wrong and what to do, never with a traceback
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallystick.devnet import DevnetError, people
from tallystick.protocol.messages import Channel, Domain, channel_id, sign
from tallystick.protocol.types import ZERO_DIGEST, to_address
from tallystick.protocol.wire import SignedVoucherBody
from tests.e2e.scenario import Scenario

TALLY = 10**18
SALT = {"TALLYSTICK_CHANNEL_SALT": "7"}


@pytest.fixture
def channel() -> Channel:
    payer, provider = people.CONSUMER.address, people.provider(1).address
    return Channel(payer, payer, provider, 7)


def vouchers(scenario: Scenario, channel: Channel, path: Path, *totals: int) -> str:
    """A file of vouchers as an agent keeps them."""
    deployment = scenario.market.deployment()

    domain = Domain(deployment["chainId"], to_address(deployment["escrow"]))
    bodies = []
    for total in totals:
        voucher = channel.voucher(total, ZERO_DIGEST)
        signature = sign(domain, voucher, people.CONSUMER.private_key)
        body = SignedVoucherBody(voucher=voucher.to_body(), signature=signature)
        bodies.append(json.loads(body.model_dump_json()))
    path.write_text(json.dumps(bodies))
    return str(path)


def test_a_channel_goes_round(scenario: Scenario, channel: Channel, tmp_path: Path) -> None:
    run = scenario.market.run_script
    payer, provider = people.CONSUMER, people.provider(1)
    said = run("open_channel", payer, provider.address, "5", **SALT)
    assert channel_id(channel) in said
    said = run("open_channel", payer, provider.address, "2", function="fund", **SALT)
    assert "waiting            7 TALLY" in said

    file = vouchers(scenario, channel, tmp_path / "vouchers.json", TALLY, 2 * TALLY)
    said = run("redeem", provider, file)
    assert f"2 TALLY credited to {provider.address}" in said
    said = run("redeem", provider, file, function="show")
    assert "no voucher pays anything now" in said
    file = vouchers(scenario, channel, tmp_path / "vouchers.json", 3 * TALLY)
    before = scenario.ledger.balances()[provider.name]["wallet"]
    run("redeem", people.provider(2), file, function="wallet")
    earned = scenario.ledger.balances()[provider.name]["wallet"] - before
    assert earned == 3 * TALLY * 99 // 100

    assert "can be closed from" in run("close_channel", payer, provider.address, **SALT)
    with pytest.raises(DevnetError, match="take it back"):
        run("open_channel", payer, provider.address, "1", **SALT)
    run("close_channel", payer, provider.address, function="cancel", **SALT)
    run("close_channel", provider, payer.address, "1", function="release", **signed_by(payer))
    run("close_channel", payer, provider.address, **SALT)
    assert "not yet" in run("close_channel", payer, provider.address, function="finish", **SALT)
    scenario.advance(3 * 86_400)
    said = run("close_channel", payer, provider.address, function="finish", **SALT)
    assert f"3 TALLY available to {payer.address} again" in said


def signed_by(payer: people.Person) -> dict[str, str]:
    return {**SALT, "TALLYSTICK_CHANNEL_SIGNER": payer.address}


@pytest.mark.parametrize(
    ("script", "function", "arguments", "said"),
    [
        ("open_channel", "main", (), "to whom"),
        ("open_channel", "main", ("0x123", "5"), "not an address"),
        (
            "open_channel",
            "fund",
            (people.provider(1).address, "1000000"),
            "available in the escrow",
        ),
        ("close_channel", "main", (people.provider(3).address,), "nothing that is not claimed"),
        ("close_channel", "finish", (people.provider(3).address,), "no close of this channel"),
        ("close_channel", "release", (people.CONSUMER.address, "5"), "not claimed"),
        ("redeem", "main", (), "which vouchers"),
        ("redeem", "main", ("nowhere.json",), "cannot be read"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(
    scenario: Scenario, script: str, function: str, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DevnetError) as refusal:
        scenario.market.run_script(script, people.provider(1), *arguments, function=function)
    assert "error: " in refusal.value.sentence
    assert said in refusal.value.sentence
    assert "Traceback" not in refusal.value.sentence


def test_a_malformed_file_is_named(scenario: Scenario, tmp_path: Path) -> None:
    path = tmp_path / "vouchers.json"
    path.write_text('[{"voucher": {"payer": "0x12"}, "signature": "0x"}]')
    with pytest.raises(DevnetError, match=r"vouchers\.json: 0\.voucher\.payer"):
        scenario.market.run_script("redeem", people.provider(1), str(path))


def test_another_salt_is_another_channel(scenario: Scenario) -> None:
    with pytest.raises(DevnetError, match=r"2\^96"):
        scenario.market.run_script(
            "open_channel",
            people.CONSUMER,
            people.provider(1).address,
            "1",
            TALLYSTICK_CHANNEL_SALT=str(2**96),
        )
