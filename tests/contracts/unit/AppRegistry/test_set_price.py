"""setPrice

├── holds from the notice's end on, up or down, never before (cases 19 and 30)
├── what was quoted for a time up to now stays the quote for ever
├── a second announcement follows the first, which takes effect all the same (case 24)
├── two of one second follow each other by a second
├── one version's price is no other's
└── a long history is found in few steps
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.protocol.pricing import Price
from tests.contracts.apps import DEARER, PRICE, Apps, row
from tests.contracts.stage import DAY_S, reverts_with

CHEAPER = Price(0, 1, 0)


@pytest.mark.parametrize("price", [DEARER, CHEAPER, Price(), Price(*[2**128 - 1] * 3)], ids=str)
def test_holds_after_the_notice(apps: Apps, app_id: str, price: Price) -> None:
    sent = apps.set_price(app_id, price)
    event = sent.events["PriceAnnounced"]
    takes_effect = sent.timestamp + DAY_S
    assert (event["appId"], event["version"]) == (app_id, 1)
    assert tuple(event["price"]) == row(price)
    assert event["takesEffectAt"] == sent.return_value == takes_effect
    assert apps.price_at(app_id, sent.timestamp) == PRICE
    assert apps.price_at(app_id, takes_effect - 1) == PRICE
    assert apps.price_at(app_id, takes_effect) == price
    assert apps.price_at(app_id, takes_effect + 15) == price


def test_what_was_quoted_stays_quoted(apps: Apps, app_id: str) -> None:
    """A receipt redeemed a year later is still priced by the second in which its call began."""
    published = apps.now()
    changes = []
    for number in range(1, 5):
        changes.append((apps.set_price(app_id, Price(number)).return_value, number))
        apps.chain.sleep(3 * DAY_S)
        apps.chain.mine()
    apps.chain.sleep(365 * DAY_S)
    apps.chain.mine()
    assert apps.price_at(app_id, published) == PRICE
    assert apps.price_at(app_id, changes[0][0] - 1) == PRICE
    for (from_, number), (until, _) in zip(changes, [*changes[1:], (2**64, 0)], strict=True):
        assert apps.price_at(app_id, from_) == apps.price_at(app_id, until - 1) == Price(number)


def test_a_second_announcement_takes_nothing_back(apps: Apps, app_id: str) -> None:
    """Case 24: what was announced happens, each after its own notice."""
    first = apps.set_price(app_id, CHEAPER)
    with apps.at(first.timestamp + DAY_S // 2):
        second = apps.set_price(app_id, DEARER)
    assert apps.price_at(app_id, first.return_value - 1) == PRICE
    assert apps.price_at(app_id, first.return_value) == CHEAPER
    assert apps.price_at(app_id, second.return_value - 1) == CHEAPER
    assert apps.price_at(app_id, second.return_value) == DEARER
    assert second.return_value == second.timestamp + DAY_S
    assert apps.app(app_id)["pricesSettleAt"] == second.return_value


def test_two_of_one_second_follow_each_other(apps: Apps, app_id: str) -> None:
    from brownie import web3

    web3.provider.make_request("evm_setAutomine", [False])
    unsent = {"from": apps.publisher, "required_confs": 0, "silent": True}
    nonce = apps.publisher.nonce
    for number, price in enumerate((CHEAPER, DEARER)):
        options = {**unsent, "nonce": nonce + number, "gas_limit": 300_000}
        apps.registry.setPrice(app_id, 1, row(price), options)
    web3.provider.make_request("evm_mine", [])
    web3.provider.make_request("evm_setAutomine", [True])
    from_ = apps.now() + DAY_S
    assert apps.price_at(app_id, from_ - 1) == PRICE
    assert apps.price_at(app_id, from_) == CHEAPER
    assert apps.price_at(app_id, from_ + 1) == DEARER
    assert apps.app(app_id)["pricesSettleAt"] == from_ + 1


def test_one_versions_price_is_no_others(apps: Apps, app_id: str) -> None:
    apps.add_version(app_id)
    changed = apps.set_price(app_id, CHEAPER, version=2)
    assert apps.price_at(app_id, changed.return_value, version=1) == PRICE
    assert apps.price_at(app_id, changed.return_value, version=2) == CHEAPER
    with reverts_with("UnknownVersion", 2, 3):
        apps.set_price(app_id, CHEAPER, version=3)
    with reverts_with("UnknownVersion", 2, 0):
        apps.set_price(app_id, CHEAPER, version=0)


def test_a_long_history_is_found_in_few_steps(apps: Apps, app_id: str) -> None:
    """Each doubling of the history costs a reader one step more, the publisher nothing."""
    published = apps.now()
    costs = [apps.set_price(app_id, Price(number)).gas_used for number in range(40)]
    assert costs[-1] <= costs[1] + 100
    first = apps.registry.priceAt.estimate_gas(app_id, 1, published + DAY_S // 2)
    last = apps.registry.priceAt.estimate_gas(app_id, 1, apps.now() + 2 * DAY_S)
    assert max(first, last) < 80_000


@pytest.mark.parametrize("seconds", [0, 30 * DAY_S + 1, 2**32 - 1])
def test_a_registry_needs_a_notice(deployer: Any, seconds: int) -> None:
    from brownie import AppRegistry

    with reverts_with("NoticeOutOfRange", 1, 30 * DAY_S, seconds):
        deployer.deploy(AppRegistry, seconds)


@pytest.mark.parametrize("seconds", [1, 30 * DAY_S])
def test_the_shortest_and_longest_notice(deployer: Any, seconds: int) -> None:
    from brownie import AppRegistry

    assert deployer.deploy(AppRegistry, seconds).noticeSeconds() == seconds
