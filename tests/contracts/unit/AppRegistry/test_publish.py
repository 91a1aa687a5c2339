"""publish and addVersion

publish
├── gives the id that publisher and salt have on this chain and in this registry (case 13)
├── tells everything in two events, and is quoted from its own block on
├── twice under one salt reverts; another publisher, or another registry, has another id
├── the royalty: 0, the limit, one above (case 32), nobody to get it
└── reverts for a digest of zero, no manifest URI, one too long
addVersion
├── gets the next number and a price of its own at once; the older one stays as it is (case 19)
├── the publisher alone
└── reverts for what publish refuses, an unknown app, a retired one, a permanent one
"""

from __future__ import annotations

from typing import Any

import pytest
from brownie import chain

from tallystick.protocol.apps import app_id as app_id_of
from tallystick.protocol.types import Address
from tests.contracts.apps import DEARER, PRICE, URI, Apps, row
from tests.contracts.stage import DAY_S, ZERO, Stage, digest_of, reverts_with

NO_DIGEST = "0x" + "00" * 32


def test_the_id_is_the_publishers(apps: Apps, app_owner: Any, stranger: Any, deployer: Any) -> None:
    """Case 13: nobody publishes first under an id that is another's."""
    from brownie import AppRegistry

    taken = apps.publish(by=stranger)
    app_id = apps.publish()
    assert app_id != taken
    assert app_id == str(apps.registry.appIdOf(app_owner, digest_of("app")))
    registry = Address(apps.registry.address)
    assert app_id == app_id_of(chain.id, registry, Address(app_owner.address), digest_of("app"))
    elsewhere = deployer.deploy(AppRegistry, DAY_S)
    assert str(elsewhere.appIdOf(app_owner, digest_of("app"))) != app_id
    assert (apps.app(app_id)["publisher"], apps.app(taken)["publisher"]) == (app_owner, stranger)


def test_everything_is_told(apps: Apps, app_owner: Any, treasury: Any) -> None:
    sent = apps.publish_sent(royalty_to=treasury, royalty_bps=250)
    app_id = sent.return_value
    published, added = sent.events["AppPublished"], sent.events["VersionAdded"]
    assert published["appId"] == added["appId"] == app_id
    assert (published["publisher"], published["salt"]) == (app_owner, digest_of("app"))
    assert (published["royaltyTo"], published["royaltyBps"]) == (treasury, 250)
    assert (added["version"], added["manifestURI"]) == (1, URI)
    assert added["imageDigest"] == digest_of("image")
    assert added["manifestDigest"] == digest_of("manifest")
    assert tuple(added["price"]) == row(PRICE)
    assert list(apps.app(str(app_id)).values()) == [app_owner, 1, 0, treasury, 250, 0, False]
    version = apps.registry.versionOf(app_id, 1)
    assert [str(version[0]), str(version[1])] == [digest_of("image"), digest_of("manifest")]
    assert version[2] == sent.timestamp


def test_is_quoted_from_its_own_block_on(apps: Apps) -> None:
    """Case 30: the second before, and the very second."""
    sent = apps.publish_sent()
    app_id = str(sent.return_value)
    with reverts_with("NotPublishedYet", sent.timestamp, sent.timestamp - 1):
        apps.price_at(app_id, sent.timestamp - 1)
    assert apps.price_at(app_id, sent.timestamp) == PRICE
    assert apps.price_at(app_id, 2**64 - 1) == PRICE


def test_reverts_for_a_salt_that_was_used(apps: Apps, app_id: str) -> None:
    with reverts_with("AppExists"):
        apps.publish()
    apps.retire(app_id)
    with reverts_with("AppExists"):
        apps.publish()
    assert apps.publish("another") != app_id


@pytest.mark.parametrize("bps", [0, 1, 3_000])
def test_takes_a_royalty_up_to_the_limit(apps: Apps, treasury: Any, bps: int) -> None:
    app_id = apps.publish(royalty_to=treasury, royalty_bps=bps)
    assert apps.app(app_id)["royaltyBps"] == bps


@pytest.mark.parametrize("bps", [3_001, 10_000, 10_001, 2**16 - 1])
def test_reverts_for_a_royalty_above_the_limit(apps: Apps, treasury: Any, bps: int) -> None:
    """Case 32."""
    with reverts_with("SharesTooHigh", 3_000, bps):
        apps.publish(royalty_to=treasury, royalty_bps=bps)


def test_the_limit_is_the_markets(stage: Stage, treasury: Any) -> None:
    """A task that pays the highest royalty can be created, with nothing left for a dispatcher."""
    stage.create(stage.terms(dispatcher_bps=0, royalty_to=treasury.address, royalty_bps=3_000))
    with reverts_with("SharesTooHigh", 3_000, 3_001):
        stage.create(
            stage.terms(nonce=1, dispatcher_bps=1, royalty_to=treasury.address, royalty_bps=3_000)
        )


def test_reverts_for_a_royalty_of_nobody(apps: Apps) -> None:
    with reverts_with("ShareWithoutPayee", 1):
        apps.publish(royalty_to=ZERO, royalty_bps=1)


@pytest.mark.parametrize("field", ["image", "manifest"])
def test_reverts_for_a_zero_digest(apps: Apps, app_id: str, field: str) -> None:
    for verb in (lambda **c: apps.publish("new", **c), lambda **c: apps.add_version(app_id, **c)):
        with reverts_with("ZeroDigest"):
            verb(**{field: NO_DIGEST})


def test_the_manifests_address_has_1_to_512_bytes(apps: Apps, app_id: str) -> None:
    for uri in ("", "x" * 513, "\u00e9" * 257):
        with reverts_with("URILengthOutOfRange", 1, 512, len(uri.encode())):
            apps.publish("new", uri=uri)
        with reverts_with("URILengthOutOfRange", 1, 512, len(uri.encode())):
            apps.add_version(app_id, uri=uri)
    for uri in ("x", "x" * 512):
        assert apps.add_version(app_id, uri=uri).events["VersionAdded"]["manifestURI"] == uri


# --- addVersion -------------------------------------------------------------------------------


def test_a_version_has_its_own_price_and_leaves_the_others(apps: Apps, app_id: str) -> None:
    """Case 19: who calls version 1 goes on paying what it was quoted."""
    sent = apps.add_version(app_id)
    assert sent.return_value == 2
    assert apps.app(app_id)["versions"] == 2
    assert apps.price_at(app_id, sent.timestamp, version=2) == DEARER
    assert apps.price_at(app_id, 2**64 - 1, version=1) == PRICE
    with reverts_with("NotPublishedYet", sent.timestamp, sent.timestamp - 1):
        apps.price_at(app_id, sent.timestamp - 1, version=2)
    first, second = (apps.registry.versionOf(app_id, version) for version in (1, 2))
    assert str(first[0]) == digest_of("image")
    assert (str(second[0]), second[2]) == (digest_of("image 2"), sent.timestamp)


def test_a_version_nobody_added_has_no_price(apps: Apps, app_id: str) -> None:
    for version in (0, 2, 2**32 - 1):
        with reverts_with("UnknownVersion", 1, version):
            apps.price_at(app_id, apps.now(), version)
        with reverts_with("UnknownVersion", 1, version):
            apps.registry.versionOf(app_id, version)


def test_an_app_nobody_published_has_nothing(apps: Apps) -> None:
    unknown = digest_of("unknown")
    with reverts_with("UnknownApp"):
        apps.price_at(unknown, apps.now())
    with reverts_with("UnknownApp"):
        apps.registry.discountAt(unknown, apps.now())
    with reverts_with("UnknownApp"):
        apps.registry.versionOf(unknown, 1)
    assert apps.app(unknown)["publisher"] == ZERO
    assert apps.discount(unknown) == (0, 0, 0)


def test_publishing_is_cheap_and_strangers_cannot_make_it_dearer(apps: Apps, stranger: Any) -> None:
    """Case 8."""
    before = apps.publish_sent("first").gas_used
    for number in range(5):
        apps.publish(f"noise {number}", by=stranger)
    after = apps.publish_sent("second").gas_used
    assert before < 230_000
    assert abs(after - before) < 1_000
