"""bindOperatorKey, retireOperatorKey, registerGpus.

bindOperatorKey
├── with the key's own consent, for ever
└── reverts for a key of another, without consent, for the provider's own address
retireOperatorKey
├── the key proves nothing new and stays answerable seven days
└── by its provider only, once
registerGpus
├── by the provider or its key, backed by a unit of stake each
└── reverts for too little stake, a retired key, GPUs without ids
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.messages import OperatorKey
from tallystick.protocol.types import Address
from tests.contracts.stage import DAY_S, UNIT, ZERO, Stage, at_time, digest_of, reverts_with


def test_binds_with_consent(stage: Stage, stranger: Any) -> None:
    consent = stage.consent(stage.provider, stranger)
    sent = stage.staking.bindOperatorKey(stranger, consent, {"from": stage.provider})
    assert sent.events["OperatorKeyBound"]["key"] == stranger
    assert stage.staking.signsFor(stranger, stage.provider)
    assert not stage.staking.signsFor(stranger, stage.consumer)
    assert str(stage.staking.operatorKey(stranger)[0]) == stage.provider.address


def test_reverts_without_the_keys_consent(stage: Stage, stranger: Any, other_provider: Any) -> None:
    """Nobody takes another's key for its own, and consent for one provider is for no other."""
    forged = stage.signed(
        OperatorKey(Address(stage.provider.address), Address(stranger.address)), stage.provider
    )
    with reverts_with("InvalidKeySignature", stranger, stage.provider):
        stage.staking.bindOperatorKey(stranger, forged, {"from": stage.provider})
    consent = stage.consent(stage.provider, stranger)
    with reverts_with("InvalidKeySignature"):
        stage.staking.bindOperatorKey(stranger, consent, {"from": other_provider})
    for garbage in (b"", bytes(65), b"\1" * 64):
        with reverts_with("InvalidKeySignature"):
            stage.staking.bindOperatorKey(stranger, garbage, {"from": stage.provider})
    with reverts_with("InvalidKeySignature", ZERO, ZERO):
        stage.staking.bindOperatorKey(ZERO, b"", {"from": stage.provider})


def test_reverts_for_a_key_that_is_bound(stage: Stage, other_provider: Any) -> None:
    for person in (stage.provider, other_provider):
        consent = stage.consent(person, stage.operator)
        with reverts_with("KeyAlreadyBound", stage.operator, stage.provider):
            stage.staking.bindOperatorKey(stage.operator, consent, {"from": person})


def test_reverts_for_the_providers_own_address(stage: Stage) -> None:
    consent = stage.consent(stage.provider, stage.provider)
    with reverts_with("KeyIsProvider", stage.provider):
        stage.staking.bindOperatorKey(stage.provider, consent, {"from": stage.provider})


def test_a_retired_key_answers_seven_days_and_signs_nothing(stage: Stage) -> None:
    sent = stage.staking.retireOperatorKey(stage.operator, {"from": stage.provider})
    until = sent.timestamp + 7 * DAY_S
    assert sent.events["OperatorKeyRetired"]["answerableUntil"] == until
    assert not stage.staking.signsFor(stage.operator, stage.provider)
    stage.at(until)
    assert stage.staking.answersFor(stage.provider, stage.operator)
    stage.at(until + 1)
    assert not stage.staking.answersFor(stage.provider, stage.operator)
    assert stage.staking.answersFor(stage.provider, stage.provider)
    with reverts_with("KeyAlreadyBound"):
        consent = stage.consent(stage.provider, stage.operator)
        stage.staking.bindOperatorKey(stage.operator, consent, {"from": stage.provider})


def test_retire_reverts_for_others_twice_and_unknown(
    stage: Stage, stranger: Any, other_provider: Any
) -> None:
    with reverts_with("OnlyProvider", stage.provider, other_provider):
        stage.staking.retireOperatorKey(stage.operator, {"from": other_provider})
    with reverts_with("KeyNotBound", stranger):
        stage.staking.retireOperatorKey(stranger, {"from": stage.provider})
    sent = stage.staking.retireOperatorKey(stage.operator, {"from": stage.provider})
    with reverts_with("KeyAlreadyRetired", stage.operator, sent.timestamp):
        stage.staking.retireOperatorKey(stage.operator, {"from": stage.provider})


@pytest.mark.parametrize("who", ["provider", "operator"])
def test_registers_gpus(stage: Stage, who: str) -> None:
    sent = stage.staking.registerGpus(digest_of("gpus"), 4, {"from": getattr(stage, who)})
    event = sent.events["GpusRegistered"]
    assert (event["provider"], event["gpus"]) == (stage.provider, 4)
    assert event["gpuSet"] == digest_of("gpus")
    assert stage.staking.gpusOf(stage.provider) == 4
    assert stage.stake_of(stage.provider) == (4 * UNIT, 0)


def test_register_reverts_beyond_the_stake(stage: Stage, stranger: Any) -> None:
    with reverts_with("StakeTooLow", 5 * UNIT, 4 * UNIT):
        stage.staking.registerGpus(digest_of("gpus"), 5, {"from": stage.provider})
    with reverts_with("StakeTooLow", UNIT, 0):
        stage.staking.registerGpus(digest_of("gpus"), 1, {"from": stranger})


def test_register_reverts_for_gpus_without_ids(stage: Stage) -> None:
    with reverts_with("GpuSetMissing", 1):
        stage.staking.registerGpus("0x" + "00" * 32, 1, {"from": stage.provider})


def test_register_reverts_for_a_retired_key(stage: Stage) -> None:
    retired = stage.staking.retireOperatorKey(stage.operator, {"from": stage.provider})
    with (
        at_time(stage, retired.timestamp + 10),
        reverts_with("KeyAlreadyRetired", stage.operator, retired.timestamp),
    ):
        stage.staking.registerGpus(digest_of("gpus"), 1, {"from": stage.operator})
