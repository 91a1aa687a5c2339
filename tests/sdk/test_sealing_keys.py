"""Inputs are sealed to keys that are the provider's by its own signature, whatever a backend says.

submit
├── a key that the backend puts in the provider's place is not sealed to, and is named
├── nor is a signature for another provider, chain or escrow, nor one of a stranger
├── nor, with a chain endpoint, a made-up provider that has no stake
└── when nobody is left: VerificationFailed, and nothing is sent
explain
└── says which key is not the provider's
needs_key
└── nothing is sealed for such a key; the task can still be cancelled
without a chain endpoint
└── the backend's list of keys decides; the provider's own signature needs none
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from tallystick import AsyncGPUClient, JobState, VerificationFailed
from tallystick.protocol import sealing, signatures
from tallystick.protocol.errors import SealError
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.types import Digest, to_address
from tallystick.protocol.wire import CreateTask, ExplainBody, OfferBody, SealedKey, TaskBody
from tallystick.sealing_keys import KNOWN_FOR_S
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import Clock

SPY = sealing.key_from_seed(b"the backend's own key")
SPY_WALLET = "0x" + "77" * 32
OFFERS = TypeAdapter(tuple[OfferBody, ...])

Forge = Callable[[InMemoryMarket, str], dict[str, str]]


def _same_signature(market: InMemoryMarket, provider: str) -> dict[str, str]:
    return {}


def _signed_by_the_backend(market: InMemoryMarket, provider: str) -> dict[str, str]:
    owner = to_address(provider)
    return {"hpke_signature": sign_hpke_key(market.domain, owner, SPY.public, SPY_WALLET)}


def _signed_for_another_provider(market: InMemoryMarket, provider: str) -> dict[str, str]:
    other = signatures.address_of(SPY_WALLET)
    key = market.providers[0].operator_key
    return {"hpke_signature": sign_hpke_key(market.domain, other, SPY.public, key)}


def _signed_for_another_chain(market: InMemoryMarket, provider: str) -> dict[str, str]:
    domain = replace(market.domain, chain_id=market.domain.chain_id + 1)
    key = market.providers[0].operator_key
    return {"hpke_signature": sign_hpke_key(domain, to_address(provider), SPY.public, key)}


def _signed_for_another_escrow(market: InMemoryMarket, provider: str) -> dict[str, str]:
    domain = replace(market.domain, escrow=signatures.address_of(SPY_WALLET))
    key = market.providers[0].operator_key
    return {"hpke_signature": sign_hpke_key(domain, to_address(provider), SPY.public, key)}


def _no_signature(market: InMemoryMarket, provider: str) -> dict[str, str]:
    return {"hpke_signature": "0x" + "00" * 65}


FORGERIES = [
    pytest.param(_same_signature, id="the provider's signature over its own key"),
    pytest.param(_signed_by_the_backend, id="a stranger's signature"),
    pytest.param(_signed_for_another_provider, id="a signature for another provider"),
    pytest.param(_signed_for_another_chain, id="a signature for another chain"),
    pytest.param(_signed_for_another_escrow, id="a signature for another deployment"),
    pytest.param(_no_signature, id="no signature"),
]


class LyingBackend:
    """Shows its own sealing key for the providers given, and keeps what is sealed."""

    def __init__(self, market: InMemoryMarket, forge: Forge, victims: int = 1) -> None:
        self.market, self.forge = market, forge
        self.victims = {p.address for p in market.providers[:victims]}
        self.sealed: list[SealedKey] = []
        self.task_id = ""
        market.answer_hook = self.answer

    def answer(self, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        path = request.url.path
        if answer.status_code >= 400:
            return answer
        if request.method == "POST" and path == "/v1/tasks":
            self.sealed += CreateTask.model_validate_json(request.content).sealed_keys
        if request.method == "POST" and path.endswith("/keys"):
            self.sealed.append(SealedKey.model_validate_json(request.content))
        if path == "/v1/offers":
            offers = OFFERS.validate_json(answer.content)
            return _json(OFFERS.dump_json(tuple(map(self.changed, offers))), request)
        if path.endswith("/explain"):
            told = ExplainBody.model_validate_json(answer.content)
            told = told.model_copy(update={"offers": tuple(map(self.changed, told.offers))})
            return _json(told.model_dump_json().encode(), request)
        if request.method == "GET" and path == f"/v1/tasks/{self.task_id}":
            task = TaskBody.model_validate_json(answer.content)
            if task.needs_key is not None:
                task = task.model_copy(update={"needs_key": self.changed(task.needs_key)})
            return _json(task.model_dump_json().encode(), request)
        return answer

    def changed(self, body: Any) -> Any:
        if to_address(body.provider.lower()) not in self.victims:
            return body
        forged = self.forge(self.market, body.provider.lower())
        return body.model_copy(update={"hpke_key": SPY.public, **forged})

    def can_read(self, task_id: str) -> bool:
        for key in self.sealed:
            try:
                sealing.open_input_key(
                    SPY, Digest(task_id), key.fence, bytes.fromhex(key.sealed[2:])
                )
            except SealError:
                continue
            return True
        return False


def _json(content: bytes, request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=content, request=request)


@pytest.mark.parametrize("endpoint", ["with a chain endpoint", "without"])
@pytest.mark.parametrize("forge", FORGERIES)
async def test_a_substituted_key_is_sealed_nothing_and_is_named(
    forge: Forge, endpoint: str, market: InMemoryMarket, clock: Clock, script: str
) -> None:
    spy = LyingBackend(market, forge)
    victim, honest = market.providers
    chain = {} if endpoint == "with a chain endpoint" else {"chain": None}
    async with market.async_client(sleep=clock.sleep, **chain) as client:
        job = await client.submit(script, "gpu1", 1, "1h", secured=not chain)
    assert {key.provider for key in spy.sealed} == {honest.address}
    assert not spy.can_read(job.id)
    (problem,) = job.not_sealed_to
    assert victim.address in problem
    assert job.to_json()["not_sealed_to"] == [problem]


async def test_an_honest_market_seals_to_all_and_complains_of_nothing(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    spy = LyingBackend(market, _same_signature, victims=0)
    job = await client.submit(script, "gpu1", 1, "1h")
    assert {key.provider for key in spy.sealed} == {p.address for p in market.providers}
    assert job.not_sealed_to == ()


@pytest.mark.parametrize("forge", FORGERIES)
async def test_when_nobody_is_left_nothing_is_sent(
    forge: Forge, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    LyingBackend(market, forge, victims=2)
    with pytest.raises(VerificationFailed, match="sealed to nobody") as caught:
        await client.submit(script, "gpu1", 1, "1h")
    assert all(provider.address in str(caught.value) for provider in market.providers)
    assert not [path for method, path in market.requests if method in ("POST", "PUT")]
    assert not market.chain.open_tasks


async def test_a_task_without_input_has_nothing_to_seal(
    market: InMemoryMarket, client: AsyncGPUClient
) -> None:
    LyingBackend(market, _same_signature, victims=2)
    job = await client.submit(None, "gpu1", 1, "1h", command=["true"], image="process")
    assert job.not_sealed_to == ()


async def test_a_made_up_provider_without_stake_gets_no_key(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    """It may sign with its own address: only the chain knows that nothing stands behind it."""
    market.chain.stake_units.clear()
    market.providers[0].operator_key = market.providers[0].cold_key
    with pytest.raises(VerificationFailed, match="with stake"):
        await client.submit(script, "gpu1", 1, "1h")


async def test_a_key_that_was_retired_on_chain_gets_nothing_sealed(
    market: InMemoryMarket, client: AsyncGPUClient, script: str, clock: Clock
) -> None:
    """The backend still lists it; the chain's word is kept for a while and then asked again."""
    await client.submit(script, "gpu1", 1, "1h", name="first")
    market.chain.operator_keys.clear()
    clock.now_s += KNOWN_FOR_S
    with pytest.raises(VerificationFailed):
        await client.submit(script, "gpu1", 1, "1h", name="second")


async def test_the_chain_is_asked_once_for_each_provider(
    market: InMemoryMarket,
    client: AsyncGPUClient,
    script: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    honest = market.chain.serves_with

    async def counted(signer: Any, provider: Any) -> bool:
        asked.append(provider)
        return await honest(signer, provider)

    monkeypatch.setattr(market.chain, "serves_with", counted)
    await client.submit(script, "gpu1", 1, "1h", name="first")
    await client.submit(script, "gpu1", 1, "1h", name="second")
    assert sorted(asked) == sorted(p.address for p in market.providers)


async def test_without_a_chain_endpoint_the_provider_itself_may_sign(
    market: InMemoryMarket, clock: Clock, script: str
) -> None:
    for provider in market.providers:
        provider.operator_key = provider.cold_key
    async with market.async_client(sleep=clock.sleep, chain=None) as client:
        job = await client.submit(script, "gpu1", 1, "1h", secured=False)
    assert job.not_sealed_to == ()
    assert not [path for _, path in market.requests if path.startswith("/v1/providers/")]


async def test_explain_says_whose_key_is_not_its_own(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "funded"
    job = await client.submit(script, "gpu1", 1, "1h")
    LyingBackend(market, _signed_by_the_backend)
    told = {offer.provider: offer for offer in (await client.explain(job)).offers}
    victim, honest = market.providers
    assert signatures.address_of(SPY_WALLET) in told[victim.address].key_problem
    assert told[honest.address].key_problem == ""


@pytest.mark.parametrize("forge", FORGERIES)
async def test_a_key_asked_for_later_is_checked_as_well_and_cancelling_still_works(
    forge: Forge, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "funded"
    job = await client.submit(script, "gpu1", 1, "1h")
    market.ask_for_key(job.id, market.providers[0], 5)
    spy = LyingBackend(market, forge)
    spy.task_id = job.id
    with pytest.raises(VerificationFailed, match="sealed to nobody"):
        await client.get_job_status(job)
    assert not spy.sealed
    assert (await client.cancel(job)).state is JobState.CANCELLED
