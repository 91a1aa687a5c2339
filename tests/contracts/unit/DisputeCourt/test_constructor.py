"""The constructor refuses neighbours that do not name it back, and windows that do not fit."""

from __future__ import annotations

from typing import Any

from tests.contracts.stage import DAY_S, Stage, reverts_with

WINDOWS = (DAY_S, DAY_S, DAY_S)


def test_reverts_when_the_market_obeys_another_court(
    stage: Stage, court: Any, deployer: Any
) -> None:
    from brownie import DisputeCourt

    here = deployer.get_deployment_address(deployer.nonce)
    with reverts_with("WrongNeighbour", here, court):
        deployer.deploy(DisputeCourt, stage.market, stage.staking, stage.escrow, WINDOWS)


def test_reverts_when_the_market_has_other_neighbours(
    deployer: Any, token: Any, treasury: Any, stage: Stage
) -> None:
    from brownie import DisputeCourt

    from tests.contracts.conftest import deploy_three

    escrow, staking, market = deploy_three(deployer, token, treasury)
    for wrong in (
        (market, stage.staking, escrow),
        (market, staking, stage.escrow),
    ):
        # The one place in which the market expects it.
        court = market.court()
        assert deployer.get_deployment_address(deployer.nonce) == court
        with reverts_with("WrongNeighbour"):
            deployer.deploy(DisputeCourt, *wrong, WINDOWS)
        escrow, staking, market = deploy_three(deployer, token, treasury)


def test_reverts_when_two_rounds_do_not_fit(deployer: Any, token: Any, treasury: Any) -> None:
    """The market would settle before the court could speak: 6 days are 3 commits, 2 reveals and
    something over."""
    from brownie import DisputeCourt

    from tests.contracts.conftest import deploy_three

    escrow, staking, market = deploy_three(deployer, token, treasury)
    too_long = (DAY_S, 3 * DAY_S // 2, DAY_S)
    with reverts_with("CourtTooShort", 6 * DAY_S + 1, 6 * DAY_S):
        deployer.deploy(DisputeCourt, market, staking, escrow, too_long)
    escrow, staking, market = deploy_three(deployer, token, treasury)
    just_right = (DAY_S, 3 * DAY_S // 2 - 1, DAY_S)
    court = deployer.deploy(DisputeCourt, market, staking, escrow, just_right)
    assert (court.market(), court.staking()) == (market, staking)
    assert (court.commitSeconds(), court.seatSeconds()) == (DAY_S, DAY_S)
