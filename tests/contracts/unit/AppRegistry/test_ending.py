"""retire and renounce, and who may do what

retire
├── no quote from the notice's end on; quotes before that stay (cases 19 and 30)
└── nothing can be changed from the announcement on, not even taken back
renounce
├── nothing can be changed any more, the price stays for ever (case 24)
├── waits until announced prices have taken effect
└── lets an announced discount run
any verb
├── the publisher alone (case 14)
└── an app that is there
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contracts.apps import DEARER, PRICE, Apps
from tests.contracts.stage import DAY_S, digest_of, reverts_with

VERBS: dict[str, Callable[[Apps, str, Any], Any]] = {
    "addVersion": lambda apps, app_id, by: apps.add_version(app_id, by=by),
    "setPrice": lambda apps, app_id, by: apps.set_price(app_id, DEARER, by=by),
    "setDiscount": lambda apps, app_id, by: apps.set_discount(
        app_id, 100, apps.now() + DAY_S, apps.now() + 2 * DAY_S, by=by
    ),
    "retire": lambda apps, app_id, by: apps.retire(app_id, by=by),
    "renounce": lambda apps, app_id, by: apps.renounce(app_id, by=by),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_publisher_alone(
    apps: Apps, app_id: str, app_owner: Any, treasury: Any, stranger: Any, verb: str
) -> None:
    """Case 14: not a stranger, nor who gets the royalty, nor another app's publisher."""
    apps.publish(by=treasury)
    royal = apps.publish("royal", royalty_to=treasury, royalty_bps=100)
    for someone, of in ((stranger, app_id), (treasury, royal), (treasury, app_id)):
        with reverts_with("OnlyPublisher", app_owner, someone):
            VERBS[verb](apps, of, someone)
    VERBS[verb](apps, app_id, app_owner)


def test_every_verb_is_tried(apps: Apps) -> None:
    """Whatever the contract gains must come into the table above."""
    writing = {
        entry["name"]
        for entry in apps.registry.abi
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    }
    assert writing == {*VERBS, "publish"}


@pytest.mark.parametrize("verb", VERBS)
def test_reverts_for_an_unknown_app(apps: Apps, app_owner: Any, verb: str) -> None:
    with reverts_with("UnknownApp"):
        VERBS[verb](apps, digest_of("unknown"), app_owner)


# --- retire -----------------------------------------------------------------------------------


def test_a_retired_app_is_quoted_to_the_end_of_the_notice(apps: Apps, app_id: str) -> None:
    """Case 19: a call that began before it is still priced, whenever it is redeemed."""
    apps.set_discount(app_id, 1_000, apps.now() + 5, apps.now() + 10 * DAY_S)
    sent = apps.retire(app_id)
    retired_at = sent.timestamp + DAY_S
    assert sent.events["AppRetired"]["retiredAt"] == sent.return_value == retired_at
    quote = apps.price_at(app_id, retired_at - 1)
    for time in (retired_at, retired_at + 1, 2**64 - 1):
        with reverts_with("AppIsRetired", retired_at, time):
            apps.price_at(app_id, time)
    with apps.at(retired_at + DAY_S):
        apps.publish("later")
    assert apps.price_at(app_id, retired_at - 1) == quote
    assert apps.app(app_id)["retiredAt"] == retired_at


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("later", [0, 2 * DAY_S])
def test_a_retired_app_changes_no_more(
    apps: Apps, app_id: str, app_owner: Any, verb: str, later: int
) -> None:
    retired_at = apps.retire(app_id).return_value
    apps.chain.sleep(later)
    apps.chain.mine()
    with reverts_with("AppIsRetired", retired_at):
        VERBS[verb](apps, app_id, app_owner)


# --- renounce ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_renounced_app_changes_no_more(
    apps: Apps, app_id: str, app_owner: Any, verb: str
) -> None:
    """Case 24."""
    assert apps.renounce(app_id).events["AppRenounced"]["appId"] == app_id
    assert apps.app(app_id)["permanent"]
    with reverts_with("AppIsPermanent"):
        VERBS[verb](apps, app_id, app_owner)
    assert apps.price_at(app_id, 2**64 - 1) == PRICE


def test_renounce_waits_for_announced_prices(apps: Apps, app_id: str) -> None:
    """Nobody announces ten times the price and makes it permanent in one breath."""
    apps.add_version(app_id)
    first = apps.set_price(app_id, DEARER, version=1).return_value
    second = apps.set_price(app_id, DEARER, version=2).return_value
    settled = max(first, second)
    with apps.at(settled - 1), reverts_with("PriceChangePending", settled, settled - 1):
        apps.renounce(app_id)
    with apps.at(settled):
        apps.renounce(app_id)
    assert apps.price_at(app_id, settled) == DEARER


def test_renounce_lets_a_discount_run(apps: Apps, app_id: str) -> None:
    start = apps.now() + 100
    apps.set_discount(app_id, 5_000, start, start + 100)
    apps.renounce(app_id)
    assert int(apps.registry.discountAt(app_id, start + 100)) == 5_000
    assert int(apps.registry.discountAt(app_id, start + 101)) == 0
