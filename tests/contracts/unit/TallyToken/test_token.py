"""TallyToken: a fixed supply and the two signed ways to move it."""

from __future__ import annotations

from typing import Any

from tests.contracts.stage import TALLY, reverts_with


def test_the_whole_supply_exists_from_the_start(deployer: Any, stranger: Any) -> None:
    from brownie import TallyToken

    token = deployer.deploy(TallyToken, stranger, 5 * TALLY)
    assert token.totalSupply() == token.balanceOf(stranger) == 5 * TALLY
    assert (str(token.symbol()), int(token.decimals())) == ("TALLY", 18)


def test_the_supply_fits_what_the_contracts_count_with(deployer: Any) -> None:
    from brownie import TallyToken

    deployer.deploy(TallyToken, deployer, 2**128 - 1)
    with reverts_with("SupplyTooLarge", 2**128 - 1, 2**128):
        deployer.deploy(TallyToken, deployer, 2**128)
    with reverts_with("ZeroSupply"):
        deployer.deploy(TallyToken, deployer, 0)
