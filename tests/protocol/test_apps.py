"""Apps as the registry tells them: every verb through the typed methods, prices from events alone.

That prices agree on random histories is in tests/contracts/unit/AppRegistry/test_price_at.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import apps
from tallystick.protocol.contracts import App, AppVersion, Discount, Registry
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ContractError, QuoteError
from tallystick.protocol.events import (
    AppEvent,
    AppPublished,
    AppRenounced,
    AppRetired,
    DiscountAnnounced,
    PriceAnnounced,
    VersionAdded,
)
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, AppId, Digest
from tests.support.anvil import (
    APP_OWNER,
    DAY_S,
    STRANGER,
    LocalChain,
    digest_of_word,
    emitted_apps,
    send,
)

SALT, IMAGE, MANIFEST = (digest_of_word(word) for word in (1, 2, 3))
PRICE = Price(flat=100, fee_per_call=10, rate_per_gpu_second=7)
DEARER = Price(flat=200, fee_per_call=20, rate_per_gpu_second=15)


@pytest.fixture
def registry(deployment: Deployment, web3: Any) -> Registry:
    return Registry(web3, deployment.registry)


@pytest.fixture
def app_id(deployment: Deployment) -> AppId:
    return apps.app_id(deployment.chain_id, deployment.registry, APP_OWNER.address, SALT)


def publish(chain: LocalChain, deployment: Deployment, registry: Registry) -> list[AppEvent]:
    call = registry.publish(SALT, IMAGE, MANIFEST, "ipfs://m", PRICE, STRANGER.address, 250)
    return emitted_apps(chain, deployment, send(chain, APP_OWNER, call))


class TestTheRegistry:
    async def test_an_app_from_its_first_day_to_its_last(
        self, chain: LocalChain, deployment: Deployment, registry: Registry, app_id: AppId
    ) -> None:
        events = publish(chain, deployment, registry)
        born_s = chain.now_s()
        assert events == [
            AppPublished(app_id, APP_OWNER.address, SALT, STRANGER.address, 250, events[0].at),
            VersionAdded(app_id, 1, IMAGE, MANIFEST, "ipfs://m", PRICE, events[1].at),
        ]
        assert await registry.app_id_of(APP_OWNER.address, SALT) == app_id
        assert await registry.version(app_id, 1) == AppVersion(IMAGE, MANIFEST, born_s)
        assert await registry.discount(app_id) == Discount(0, 0, 0)

        events += self.act(chain, deployment, registry.set_price(app_id, 1, DEARER))
        dearer_s = chain.now_s() + DAY_S
        assert isinstance(events[-1], PriceAnnounced)
        assert events[-1].takes_effect_at == dearer_s
        assert await registry.price_at(app_id, 1, dearer_s - 1) == PRICE
        assert await registry.price_at(app_id, 1, dearer_s) == DEARER

        call = registry.add_version(app_id, MANIFEST, IMAGE, "ipfs://n", Price(flat=1))
        events += self.act(chain, deployment, call)
        start_s = chain.now_s() + 100
        call = registry.set_discount(app_id, 5_000, start_s, dearer_s + 100)
        events += self.act(chain, deployment, call)
        assert isinstance(events[-1], DiscountAnnounced)
        assert await registry.discount(app_id) == Discount(5_000, start_s, dearer_s + 100)
        assert await registry.discount_at(app_id, start_s) == 5_000
        assert await registry.price_at(app_id, 1, dearer_s) == Price(100, 10, 8)

        chain.wait(200)
        events += self.act(chain, deployment, registry.retire(app_id))
        retired_s = chain.now_s() + DAY_S
        assert isinstance(events[-1], AppRetired)
        assert await registry.app(app_id) == App(
            APP_OWNER.address, 2, retired_s, STRANGER.address, 250, dearer_s, False
        )

        known = apps.history(events)
        for version in (1, 2):
            for time_s in (start_s - 1, start_s, dearer_s, dearer_s + 101, retired_s - 1):
                price = await registry.price_at(app_id, version, time_s)
                assert known.price_at(time_s, version=version) == price
                assert known.price_for(time_s * 1000 + 999, version=version) == price
        with pytest.raises(ContractError, match=f"retires at {retired_s}"):
            await registry.price_at(app_id, 1, retired_s)
        with pytest.raises(QuoteError, match=f"retired since {retired_s}"):
            known.price_at(retired_s, version=1)

    def act(self, chain: LocalChain, deployment: Deployment, call: Any) -> list[AppEvent]:
        return emitted_apps(chain, deployment, send(chain, APP_OWNER, call))

    async def test_a_permanent_app(
        self, chain: LocalChain, deployment: Deployment, registry: Registry, app_id: AppId
    ) -> None:
        events = publish(chain, deployment, registry)
        events += self.act(chain, deployment, registry.renounce(app_id))
        assert isinstance(events[-1], AppRenounced)
        assert (await registry.app(app_id)).permanent
        assert apps.history(events).permanent
        with pytest.raises(ContractError, match="renounced"):
            self.act(chain, deployment, registry.retire(app_id))

    async def test_refusals_are_sentences(
        self, chain: LocalChain, deployment: Deployment, registry: Registry, app_id: AppId
    ) -> None:
        with pytest.raises(ContractError, match="nothing is published under"):
            await registry.price_at(app_id, 1, chain.now_s())
        publish(chain, deployment, registry)
        with pytest.raises(ContractError, match="only the publisher"):
            send(chain, STRANGER, registry.retire(app_id))
        with pytest.raises(ContractError, match="published already"):
            publish(chain, deployment, registry)
        with pytest.raises(ContractError, match="versions 1 to 1, not 2"):
            await registry.version(app_id, 2)

    async def test_nothing_is_published_under_an_id_of_nobody(
        self, registry: Registry, app_id: AppId
    ) -> None:
        assert (await registry.app(app_id)).publisher == ZERO_ADDRESS
        assert await registry.notice_seconds() == DAY_S

    def test_a_salt_may_be_any_and_royalties_none(self, registry: Registry) -> None:
        assert registry.publish(SALT, IMAGE, MANIFEST, "m", PRICE).to == registry.address


class TestTheHistory:
    def test_is_one_apps_from_its_publication_on(
        self, chain: LocalChain, deployment: Deployment, registry: Registry
    ) -> None:
        published, added = publish(chain, deployment, registry)
        with pytest.raises(QuoteError, match="no events"):
            apps.history([])
        with pytest.raises(QuoteError, match="from AppPublished on"):
            apps.history([added])
        other = replace(added, app_id=AppId(Digest("0x" + "11" * 32)))
        with pytest.raises(QuoteError, match="does not follow"):
            apps.history([published, other])
        known = apps.history([published, added])
        assert known.versions[0].manifest_uri == "ipfs://m"
        assert (known.royalty_to, known.royalty_bps) == (STRANGER.address, 250)

    def test_has_no_price_before_the_version_and_for_no_other(
        self, chain: LocalChain, deployment: Deployment, registry: Registry
    ) -> None:
        known = apps.history(publish(chain, deployment, registry))
        born_s = chain.now_s()
        assert known.price_for(born_s * 1000, version=1) == PRICE
        with pytest.raises(QuoteError, match=f"published at {born_s}"):
            known.price_for(born_s * 1000 - 1, version=1)
        for version in (0, 2, -1):
            with pytest.raises(QuoteError, match=f"no version {version}"):
                known.price_at(born_s, version=version)
