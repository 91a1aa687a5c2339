"""The SDK against the real backend's HTTP, in one process: the market in memory must not be kinder.

What index and dispatch would write is written by hand (`World`); everything between the client and
the rows is the code that ships.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tallystick import (
    AsyncGPUClient,
    Config,
    InvalidRequest,
    JobState,
    NotAllowed,
    NotFound,
    PriceAboveCeiling,
    TallystickError,
)
from tallystick.bundle import pack
from tallystick.protocol import sealing
from tallystick.protocol.types import Digest
from tallystick.testing import InMemoryChain
from tallystick_backend.clock import ManualClock
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import AccountRow, TaskWorkRow
from tests.backend.api.world import DEPLOYMENT, PUBLIC_URL, World, make_world
from tests.support.anvil import CONSUMER, OPERATOR, PROVIDER, STRANGER, Person

RATE = 1_000_000
"""What the provider in `World` asks, smallest unit per GPU-second."""
PRICE = "0.0000000036"
"""The same for an hour, in whole tokens."""


@dataclass
class Market:
    """A backend, the rows behind it, and a chain in memory."""

    world: World
    chain: InMemoryChain

    def client(self, person: Person = CONSUMER, **options: object) -> AsyncGPUClient:
        given: dict[str, object] = {
            "config": Config(url=PUBLIC_URL, private_key=person.key),
            "transport": httpx.ASGITransport(self.world.app),
            "chain": self.chain,
            "now": self.now,
            "sleep": self.sleep,
        }
        return AsyncGPUClient(**(given | options))  # type: ignore[arg-type]

    def now(self) -> float:
        return self.world.clock.now_ms() / 1000

    async def sleep(self, seconds: float) -> None:
        self.world.clock.advance(seconds=seconds)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    path = tmp_path_factory.mktemp("sdk") / "backend.db"

    async def migrate() -> None:
        database = Database(f"sqlite+aiosqlite:///{path}")
        await database.migrate()
        await database.close()

    asyncio.run(migrate())
    return path


@pytest.fixture
async def real(migrated: Path, tmp_path: Path) -> AsyncIterator[Market]:
    copy = tmp_path / "backend.db"
    shutil.copy(migrated, copy)
    database, clock = Database(f"sqlite+aiosqlite:///{copy}"), ManualClock()
    world = await make_world(database, clock, tmp_path, allow_process_runtime=True)
    await world.has_provider()
    await world.is_indexed()
    chain = InMemoryChain(DEPLOYMENT.domain, now_s=lambda: clock.now_ms() // 1000)
    chain.held(CONSUMER.address).available = 10**18
    chain.operator_keys[OPERATOR.address.lower()] = PROVIDER.address.lower()
    chain.stake_units[PROVIDER.address.lower()] = 2
    yield Market(world, chain)
    await world.http.aclose()
    await database.close()


@pytest.fixture
async def opened(real: Market) -> AsyncIterator[AsyncGPUClient]:
    async with real.client() as client:
        yield client


async def test_one_task_from_submit_to_acceptance(
    real: Market, opened: AsyncGPUClient, script: str
) -> None:
    world = real.world
    job = await opened.submit(script, "gpu1", 2, "1h", name="first", env={"SEED": "7"})
    assert (await opened.get_job_status(job.id)).state is JobState.ORDERED
    task = (await world.http.get(f"/v1/tasks/{job.id}", headers=await _headers(real))).json()
    await world.on_chain(task)
    assert (await opened.get_job_status(job)).state is JobState.FUNDED
    await world.leased(task)
    status = await opened.get_job_status(job)
    assert (status.state, status.percent, status.simulated) == (JobState.RUNNING, 40, True)
    await world.wrote(task, "epoch 1\n", "epoch 2\n")
    assert [entry.text async for entry in opened.logs(job)] == ["epoch 1\n", "epoch 2\n"]

    public = sealing.consumer_key_from_wallet(CONSUMER.key).public
    bundle = pack({"out/model.txt": b"weights", "tallystick.json": b"{}"})
    sealed = sealing.seal_result(public, Digest(job.id), 1, bundle)
    await world.uploaded(await world.consumer(), sealed)
    await world.finished(task, result=sealed, total=RATE * 5)

    assert [e.text async for e in opened.logs(job, follow=True)] == ["epoch 1\n", "epoch 2\n"]
    async with real.client(chain=None) as unchained:
        assert (await unchained.receipt(job)).signed_by == OPERATOR.address
    fetched = await opened.result(job, to="out")
    assert (fetched.outputs / "model.txt").read_bytes() == b"weights"
    assert (fetched.charge.units, fetched.accepted) == (RATE * 5, True)
    assert (await opened.receipt(job)).view.accepted
    assert (await opened.accept(job)).digest == fetched.receipt.digest
    assert [found.id for found in await opened.list_jobs(name="first")] == [job.id]
    assert await opened.list_jobs(state="settled") == ()


async def test_explain_cancel_and_a_key_for_a_later_fence(
    real: Market, opened: AsyncGPUClient, script: str
) -> None:
    job = await opened.submit(script, "gpu1", 2, "1h")
    assert (await opened.explain(job)).offers[0].provider == PROVIDER.address
    terms = job.terms.model_dump(mode="json")
    task = {"id": job.id, "consumer": opened.address, "terms": terms}
    await real.world.on_chain(task)
    waiting = TaskWorkRow(
        task_id=job.id,
        state="waiting",
        fence=5,
        excluded=[],
        not_before_ms=0,
        needs_key_provider=PROVIDER.address.lower(),
    )
    await real.world.write(waiting)
    await opened.get_job_status(job)
    assert f"'{job.id}', '{PROVIDER.address.lower()}', 6" in (await real.world.dump())["sealed_key"]
    assert (await opened.cancel(job)).state is JobState.CANCELLED


async def test_the_market_and_the_account(real: Market, opened: AsyncGPUClient) -> None:
    assert [offer.eligible for offer in await opened.offers("gpu1", 2, "1h")] == [True]
    dear = await opened.offers("gpu1", 2, "1h", max_price="0.000000000000000001")
    assert [offer.reason for offer in dear] == ["price_above_ceiling"]
    assert [p.address for p in await opened.providers()] == [PROVIDER.address]
    assert len(await opened.gpus()) == 2
    await real.world.write(AccountRow(address=CONSUMER.address.lower(), available=5 * 10**17))
    async with real.client(chain=None) as unchained:
        assert str((await unchained.balance()).available) == "0.5 TALLY"
        stranger = await unchained.balance(STRANGER.address)
    assert stranger.available.units == 0


async def test_cards_are_searched_and_refusals_say_where(
    real: Market, opened: AsyncGPUClient
) -> None:
    found = await opened.search_cards(f"vram>=24 price<={PRICE} and simulated", order="-free")
    assert [(offer.gpu_class, offer.rate_per_gpu_second) for offer in found.items] == [
        ("gpu1", RATE)
    ]
    assert (await opened.search_cards("not simulated")).found == 0
    with pytest.raises(InvalidRequest, match="no field 'vrm'"):
        await opened.search_cards("vrm>=24")
    assert (await opened.price_history(7)).items == ()


async def test_refusals_arrive_as_our_errors(
    real: Market, opened: AsyncGPUClient, script: str
) -> None:
    job = await opened.submit(script, "gpu1", 2, "1h", max_price=PRICE)
    async with real.client(STRANGER) as stranger:
        with pytest.raises(NotFound):
            await stranger.get_job_status(job)
    with pytest.raises(NotFound):
        await opened.receipt(job)
    with pytest.raises(PriceAboveCeiling):
        await opened.submit(script, "gpu1", 2, "1h", max_price="0.0000000000000001")
    with pytest.raises(InvalidRequest):
        await opened.create_api_key("x" * 300)
    elsewhere = Config(url="http://other.test", private_key=CONSUMER.key)
    async with real.client(config=elsewhere) as client:
        with pytest.raises(NotAllowed, match="another site") as caught:
            await client.list_jobs()
    assert caught.value.next_step


async def test_api_keys(real: Market, opened: AsyncGPUClient, script: str) -> None:
    key = await opened.create_api_key("ci")
    config = Config(url=PUBLIC_URL, api_key=key.secret)
    async with real.client(config=config) as reader:
        assert await reader.list_jobs() == ()
        with pytest.raises(TallystickError):
            await reader.cancel("0x" + "12" * 32)
        await opened.revoke_api_key(key.id)
        with pytest.raises(NotAllowed):
            await reader.list_jobs()
    assert await opened.list_api_keys() == ()


async def _headers(real: Market) -> dict[str, str]:
    return (await real.world.consumer()).headers
