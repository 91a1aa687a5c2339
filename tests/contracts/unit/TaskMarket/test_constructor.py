"""Constructors refuse neighbours and windows that do not fit."""

from __future__ import annotations

from typing import Any

from tests.contracts.stage import CLOCKS, DAY_S, UNIT, ZERO, Stage, reverts_with

WINDOWS = (3_600, DAY_S, 7 * DAY_S, 6 * DAY_S)


def test_reverts_when_the_escrow_obeys_another_market(stage: Stage, deployer: Any) -> None:
    from brownie import TaskMarket

    here = deployer.get_deployment_address(deployer.nonce)
    with reverts_with("WrongNeighbour", here, stage.market):
        deployer.deploy(TaskMarket, stage.escrow, stage.staking, ZERO, WINDOWS, 0)


def test_reverts_when_stake_could_leave_before_the_last_word(
    token: Any, deployer: Any, treasury: Any
) -> None:
    """Law 7: unbonding takes longer than challenge and court together."""
    from brownie import ComputeEscrow, ProviderStaking, TaskMarket

    staking, market = (deployer.get_deployment_address(deployer.nonce + n) for n in (1, 2))
    escrow = deployer.deploy(ComputeEscrow, token, market, staking, treasury, 0, 0, DAY_S)
    staking = deployer.deploy(ProviderStaking, token, escrow, ZERO, UNIT, (13 * DAY_S, *CLOCKS[1:]))
    with reverts_with("UnbondingTooShort", 13 * DAY_S + 1, 13 * DAY_S):
        deployer.deploy(TaskMarket, escrow, staking, ZERO, WINDOWS, 0)


def test_reverts_when_windows_are_out_of_order(token: Any, deployer: Any, treasury: Any) -> None:
    from brownie import ComputeEscrow, ProviderStaking, TaskMarket

    staking, market = (deployer.get_deployment_address(deployer.nonce + n) for n in (1, 2))
    escrow = deployer.deploy(ComputeEscrow, token, market, staking, treasury, 0, 0, DAY_S)
    staking = deployer.deploy(ProviderStaking, token, escrow, ZERO, UNIT, CLOCKS)
    with reverts_with("WindowsOutOfOrder", 2, 1):
        deployer.deploy(TaskMarket, escrow, staking, ZERO, (1, 2, 1, 0), 0)


def test_reverts_for_neighbours_that_are_nobody(token: Any, deployer: Any, treasury: Any) -> None:
    from brownie import ComputeEscrow

    for missing in range(4):
        neighbours = [token, treasury, treasury, treasury]
        neighbours[missing] = ZERO
        with reverts_with("ZeroAddress"):
            deployer.deploy(ComputeEscrow, *neighbours, 0, 0, DAY_S)
