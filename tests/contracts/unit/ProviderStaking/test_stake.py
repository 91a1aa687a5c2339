"""stake, requestUnbond, withdrawStake: what a provider stands to lose.

stake
├── bonds exactly what moved; covers one GPU a unit
└── reverts for zero and for a token that takes a fee (case 2)
requestUnbond
├── starts a clock of its own; new stake and new requests move no other (case 10)
└── reverts beyond what is bonded, or below what registered GPUs need
withdrawStake
└── pays each request once, when its clock has run (case 30)
"""

from __future__ import annotations

from typing import Any

from tests.contracts.conftest import deploy_neighbours
from tests.contracts.stage import DAY_S, UNIT, ZERO, Stage, at_time, digest_of, reverts_with


def test_bonds_what_moved(stage: Stage, other_provider: Any) -> None:
    stage.token.approve(stage.staking, 3 * UNIT, {"from": other_provider})
    sent = stage.staking.stake(UNIT + UNIT // 2, {"from": other_provider})
    assert sent.events["Staked"]["bonded"] == UNIT + UNIT // 2
    assert stage.stake_of(other_provider) == (UNIT + UNIT // 2, 0)
    assert stage.staking.unitsOf(other_provider) == 1
    assert stage.staking.unitsOf(stage.consumer) == 0


def test_reverts_for_nothing(stage: Stage) -> None:
    with reverts_with("ZeroAmount"):
        stage.staking.stake(0, {"from": stage.provider})
    with reverts_with("ZeroAmount"):
        stage.staking.requestUnbond(0, {"from": stage.provider})


def test_reverts_when_the_token_takes_a_fee(
    deployer: Any, consumer: Any, provider: Any, treasury: Any
) -> None:
    from brownie import FeeOnTransferToken

    token = deployer.deploy(FeeOnTransferToken, consumer, 10 * UNIT, 100)
    _, staking, _ = deploy_neighbours(deployer, token, treasury)
    token.approve(staking, UNIT, {"from": consumer})
    with reverts_with("DepositNotExact", UNIT, UNIT * 99 // 100):
        staking.stake(UNIT, {"from": consumer})
    with reverts_with("DepositNotExact", UNIT, UNIT * 99 // 100):
        staking.delegate(provider, UNIT, 0, {"from": consumer})


def test_each_request_has_its_own_clock(stage: Stage) -> None:
    """Case 10."""
    first = stage.staking.requestUnbond(UNIT, {"from": stage.provider})
    assert first.events["UnbondRequested"]["withdrawableAt"] == first.timestamp + 21 * DAY_S
    stage.at(first.timestamp + 10 * DAY_S)
    second = stage.staking.requestUnbond(UNIT, {"from": stage.provider})
    stage.token.approve(stage.staking, UNIT, {"from": stage.provider})
    stage.staking.stake(UNIT, {"from": stage.provider})
    assert stage.stake_of(stage.provider) == (3 * UNIT, 2 * UNIT)

    ready = first.timestamp + 21 * DAY_S
    before = stage.token.balanceOf(stage.provider)
    with at_time(stage, ready - 1), reverts_with("UnbondingNotOver", ready, ready - 1):
        stage.staking.withdrawStake(0, stage.provider, {"from": stage.provider})
    with at_time(stage, ready):
        stage.staking.withdrawStake(0, stage.provider, {"from": stage.provider})
    with reverts_with("UnbondingNotOver", second.timestamp + 21 * DAY_S):
        stage.staking.withdrawStake(1, stage.provider, {"from": stage.provider})
    assert stage.token.balanceOf(stage.provider) - before == UNIT
    assert stage.stake_of(stage.provider) == (3 * UNIT, UNIT)


def test_a_request_is_paid_once_and_to_its_owner(stage: Stage, stranger: Any) -> None:
    asked = stage.staking.requestUnbond(UNIT, {"from": stage.provider})
    stage.at(asked.timestamp + 21 * DAY_S)
    with reverts_with("UnknownRequest", stranger, 0):
        stage.staking.withdrawStake(0, stranger, {"from": stranger})
    stage.staking.withdrawStake(0, stranger, {"from": stage.provider})
    assert stage.token.balanceOf(stranger) == UNIT
    with reverts_with("UnknownRequest", stage.provider, 0):
        stage.staking.withdrawStake(0, stranger, {"from": stage.provider})


def test_withdraw_reverts_to_nowhere(stage: Stage) -> None:
    stage.staking.requestUnbond(UNIT, {"from": stage.provider})
    for nowhere in (ZERO, stage.staking.address):
        with reverts_with("InvalidRecipient", nowhere):
            stage.staking.withdrawStake(0, nowhere, {"from": stage.provider})


def test_unbond_reverts_beyond_what_is_bonded(stage: Stage) -> None:
    with reverts_with("InsufficientBonded", 4 * UNIT + 1, 4 * UNIT):
        stage.staking.requestUnbond(4 * UNIT + 1, {"from": stage.provider})


def test_unbond_reverts_below_what_registered_gpus_need(stage: Stage) -> None:
    stage.staking.registerGpus(digest_of("gpus"), 3, {"from": stage.provider})
    with reverts_with("StakeBacksGpus", 3 * UNIT, 3 * UNIT - 1):
        stage.staking.requestUnbond(UNIT + 1, {"from": stage.provider})
    stage.staking.requestUnbond(UNIT, {"from": stage.provider})


def test_everything_can_leave(stage: Stage) -> None:
    """Law 6: no stranger is needed, none can stop it."""
    stage.staking.registerGpus(digest_of("gpus"), 4, {"from": stage.provider})
    stage.staking.registerGpus("0x" + "00" * 32, 0, {"from": stage.provider})
    asked = stage.staking.requestUnbond(4 * UNIT, {"from": stage.provider})
    stage.at(asked.timestamp + 21 * DAY_S)
    stage.staking.withdrawStake(0, stage.provider, {"from": stage.provider})
    assert stage.stake_of(stage.provider) == (0, 0)
    assert stage.token.balanceOf(stage.staking) == 0


def test_a_direct_transfer_bonds_nothing(stage: Stage) -> None:
    """Case 18."""
    stage.token.transfer(stage.staking, UNIT, {"from": stage.provider})
    assert stage.stake_of(stage.provider) == (4 * UNIT, 0)
