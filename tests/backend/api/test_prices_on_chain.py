"""What the API quotes is what the registry answers, over random histories on a real chain, with
SQLite and with PostgreSQL, before and after a reorganisation (case 72)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.contract_errors import ContractError
from tallystick.protocol.contracts import Call, Registry
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import AppId, Digest
from tallystick_backend.chain import Chain, HttpRpc
from tallystick_backend.clock import ManualClock
from tallystick_backend.index.follow import Index
from tallystick_backend.index.start import followed
from tallystick_backend.store.session import Database
from tests.backend.api.world import World, make_world
from tests.support.anvil import (
    APP_OWNER,
    DAY_S,
    STRANGER,
    LocalChain,
    Person,
    emitted_apps,
    send,
)
from tests.support.effort import tries

HISTORIES = tries(50, long=250)
ACTS = tries(200, long=1000)
QUESTIONS = 4
"""About each app; a quarter as many are asked once more after the reorganisation."""

NewUrl = Callable[[], Iterator[str]]


@dataclass
class KnownApp:
    app_id: AppId
    publisher: Person
    versions: int
    moments: set[int]
    """Where something was announced to change."""


class Publishers:
    """They do at random what the registry lets them, and sometimes what it does not."""

    def __init__(self, chain: LocalChain, deployment: Deployment, seed: int) -> None:
        self.chain = chain
        self.deployment = deployment
        self.random = random.Random(seed)
        self.registry = Registry(_NO_WEB3, deployment.registry)
        self.apps: list[KnownApp] = []

    def publish(self) -> None:
        publisher = self.random.choice([APP_OWNER, STRANGER])
        salt = Digest(f"0x{self.random.getrandbits(256):064x}")
        call = self.registry.publish(salt, _ONE, _TWO, "@@@@", self._price(), STRANGER.address, 250)
        if self.random.random() < 0.2:
            # Bytes that are no text: any publisher can store them.
            call = replace(call, data=call.data.replace(b"@@@@", b"\x00\xff\xc3("))
        [published, _] = emitted_apps(
            self.chain, self.deployment, send(self.chain, publisher, call)
        )
        self.apps.append(KnownApp(published.app_id, publisher, 1, {self.chain.now_s()}))

    def go_on(self, acts: int) -> None:
        possible = [self._add_version, *[self._set_price] * 4, *[self._set_discount] * 4]
        for _ in range(acts):
            with suppress(ContractError):
                self.random.choice([*possible, self._end, self._wait])(
                    self.random.choice(self.apps)
                )

    def _add_version(self, app: KnownApp) -> None:
        call = self.registry.add_version(app.app_id, _TWO, _ONE, "ipfs://next", self._price())
        self._send(app, call)
        app.versions += 1
        app.moments.add(self.chain.now_s())

    def _set_price(self, app: KnownApp) -> None:
        version = self.random.randint(1, app.versions)
        self._send(app, self.registry.set_price(app.app_id, version, self._price()))
        app.moments.add(self.chain.now_s() + self.deployment.notice_seconds)

    def _set_discount(self, app: KnownApp) -> None:
        start_s = self.chain.now_s() + self.random.choice([120, 121, 3600, DAY_S])
        end_s = start_s + self.random.choice([0, 1, 59, DAY_S, 30 * DAY_S])
        bps = self.random.choice([1, 333, 2500, 9999, 10_000])
        self._send(app, self.registry.set_discount(app.app_id, bps, start_s, end_s))
        app.moments |= {start_s, end_s + 1, self.chain.now_s() + 1}

    def _end(self, app: KnownApp) -> None:
        if self.random.random() < 0.3:
            end = self.random.choice([self.registry.retire, self.registry.renounce])
            self._send(app, end(app.app_id))
            app.moments.add(self.chain.now_s() + self.deployment.notice_seconds)

    def _wait(self, _app: KnownApp) -> None:
        self.chain.wait(self.random.choice([1, 60, 3600, DAY_S // 2]))

    def _send(self, app: KnownApp, call: Call) -> None:
        send(self.chain, app.publisher, call)

    def _price(self) -> Price:
        figures = (0, 1, 7, 10**18 - 1, 2**128 - 1)
        return Price(*(self.random.choice(figures) for _ in range(3)))

    def questions(self, about_each: int) -> Iterator[tuple[AppId, int, int]]:
        """App, version, second: around every change, far away, and a version too many."""
        for app in self.apps:
            near = [at + by for at in app.moments for by in (-1, 0)]
            for _ in range(about_each):
                version = self.random.randint(1, app.versions + 1)
                yield app.app_id, version, self.random.choice([*near, 0, 2**64 - 1])


_NO_WEB3: Any = None
_ONE = Digest("0x" + "01" * 32)
_TWO = Digest("0x" + "02" * 32)


@asynccontextmanager
async def backend_on(
    url: str, rpc: HttpRpc, deployment: Deployment, folder: Path
) -> AsyncIterator[tuple[Index, World]]:
    database, clock = Database(url), ManualClock()
    world = await make_world(database, clock, folder, read_limit="1000000/minute")
    index = Index(database, Chain(rpc, followed(deployment)), deployment, clock)
    yield index, world
    await world.http.aclose()
    await database.close()


async def quoted(world: World, app_id: AppId, version: int, at: int) -> Price | None:
    answer = await world.http.get(f"/v1/apps/{app_id}/price", params={"version": version, "at": at})
    if answer.status_code in (404, 410):
        expected = {"unknown_app", "unknown_version", "not_published_yet", "app_retired"}
        assert answer.json()["code"] in expected
        return None
    assert answer.status_code == 200, answer.text
    price = answer.json()["price"]
    return Price(*(int(price[part]) for part in ("flat", "fee_per_call", "rate_per_gpu_second")))


async def check(
    publishers: Publishers, registry: Registry, *worlds: World, about_each: int
) -> tuple[int, int]:
    """How many questions had a price, and how many had none."""
    priced = refused = 0
    for app_id, version, at in publishers.questions(about_each):
        try:
            answer: Price | None = await registry.price_at(app_id, version, at)
            priced += 1
        except ContractError:
            answer = None
            refused += 1
        for world in worlds:
            assert await quoted(world, app_id, version, at) == answer, (app_id, version, at)
    return priced, refused


@pytest.fixture
def both_urls(
    sqlite_url_of_a_new_database: NewUrl, postgresql_url_of_a_new_database: NewUrl
) -> Iterator[tuple[str, str]]:
    """Outside the test's event loop, for the databases are made with loops of their own."""
    made = [sqlite_url_of_a_new_database(), postgresql_url_of_a_new_database()]
    yield next(made[0]), next(made[1])
    for url in made:
        next(url, None)


async def test_the_api_quotes_what_the_registry_answers(
    chain: LocalChain,
    deployment: Deployment,
    tmp_path: Path,
    both_urls: tuple[str, str],
) -> None:
    publishers = Publishers(chain, deployment, seed=4)
    for _ in range(HISTORIES):
        publishers.publish()
    publishers.go_on(ACTS)

    rpc = HttpRpc(chain.url)
    registry = Registry(rpc.web3, deployment.registry)
    sqlite, postgresql = both_urls
    async with (
        backend_on(sqlite, rpc, deployment, tmp_path) as (on_sqlite, sqlite_world),
        backend_on(postgresql, rpc, deployment, tmp_path) as (on_postgresql, pg_world),
    ):
        await on_sqlite.catch_up()
        await on_postgresql.catch_up()
        worlds = sqlite_world, pg_world
        priced, refused = await check(publishers, registry, *worlds, about_each=QUESTIONS)
        assert min(priced, refused) > HISTORIES // 2

        # The last acts are taken back, others take their place.
        chain.reorg(8)
        publishers.go_on(12)
        await on_sqlite.catch_up()
        await on_postgresql.catch_up()
        await check(publishers, registry, *worlds, about_each=1)
    await rpc.close()
