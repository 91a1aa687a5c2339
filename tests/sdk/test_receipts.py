"""A consumer pays for nothing it did not order: each field, changed, is refused, and nothing is
accepted or unpacked.

check_terms
├── another task under the same id
├── another consumer's task
└── another manifest under the same terms
check_receipt
├── each of the thirteen fields, changed and signed again by the provider
├── signature by a stranger, by a key that is not bound, over other words
└── the view's own figures: digest, fence, result digest
check_sealed_result, opening, unpacking
└── other bytes, a result for another task, fence or wallet, an archive that leads out
result
└── a receipt that the backend does not have yet is waited for, and not without end
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tallystick import AsyncGPUClient, JobState, NotFound, VerificationFailed
from tallystick.bundle import pack
from tallystick.protocol import sealing
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Receipt
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest
from tallystick.protocol.wire import ReceiptView, TaskBody
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import START_S, Clock

OTHER = Digest("0x" + "77" * 32)
STRANGER_KEY = "0x" + "55" * 32
START_MS = int(START_S * 1000)

MUTATIONS: dict[str, tuple[Callable[[Receipt], Receipt], str]] = {
    "provider is somebody else": (
        lambda r: replace(r, provider=Address("0x" + "12" * 20)),
        "nor a key bound to it",
    ),
    "route is another task": (lambda r: replace(r, route=OTHER), "route"),
    "seq is another fence": (lambda r: replace(r, seq=r.seq + 1), "fence"),
    "prev is not zero": (lambda r: replace(r, prev=OTHER), "prev"),
    "request is another spec": (lambda r: replace(r, request=OTHER), "request"),
    "result is another bundle": (lambda r: replace(r, result=OTHER), "result"),
    "gpu_set is empty": (lambda r: replace(r, gpu_set=ZERO_DIGEST), "GPU set"),
    "starts before the order": (
        lambda r: replace(r, started_at_ms=START_MS - 10 * 60_000),
        "before the order",
    ),
    "ends before it starts": (
        lambda r: replace(r, ended_at_ms=r.started_at_ms - 1),
        "before it starts",
    ),
    "ends in the future": (
        lambda r: replace(r, ended_at_ms=START_MS + 10 * 60_000),
        "after now",
    ),
    "ran longer than ordered": (
        lambda r: replace(r, ended_at_ms=r.started_at_ms + 61_000),
        "the limit is 60000 ms",
    ),
    "counts two calls": (lambda r: replace(r, calls=2), "2 calls"),
    "bills more GPU time than GPUs had": (
        lambda r: replace(r, gpu_ms=r.gpu_ms + 1),
        "GPU-ms",
    ),
    "bills less GPU time at the same total": (
        lambda r: replace(r, gpu_ms=r.gpu_ms - 1000),
        "total",
    ),
    "total is one unit more": (lambda r: replace(r, total=r.total + 1), "total"),
    "total is one unit less": (lambda r: replace(r, total=r.total - 1), "total"),
    "total is nothing": (lambda r: replace(r, total=0), "total"),
}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_receipt_is_refused_when_its(
    name: str, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    change, says = MUTATIONS[name]
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)
    view_result = market.receipt_of(job.id).result
    market.put_receipt(job.id, change(market.receipt_of(job.id)), market.providers[0].operator_key)
    if name == "result is another bundle":
        _change_view(market, lambda view: view.model_copy(update={"result_digest": view_result}))
    await _refused(market, client, job.id, says)


async def test_the_usage_root_is_the_providers_word_but_signed(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    """For audit only: any value is fine, but not one that was swapped under the signature."""
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)
    changed = replace(market.receipt_of(job.id), usage_root=OTHER)
    market.put_receipt(job.id, changed, market.providers[0].operator_key)
    assert (await client.receipt(job)).body.usage_root == OTHER
    _change_view(
        market,
        lambda view: view.model_copy(
            update={"receipt": view.receipt.model_copy(update={"usage_root": ZERO_DIGEST})}
        ),
    )
    await _refused(market, client, job.id, "digest")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"digest": OTHER}, "digest"),
        ({"fence": 9}, "fence"),
        ({"result_digest": OTHER}, "result"),
        ({"signature": "0x" + "00" * 65}, "malformed"),
        ({"signature": "0x" + "11" * 65}, "malformed"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_view_that_does_not_fit_its_receipt_is_refused(
    change: dict[str, object],
    says: str,
    market: InMemoryMarket,
    client: AsyncGPUClient,
    script: str,
) -> None:
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)
    _change_view(market, lambda view: view.model_copy(update=change))
    await _refused(market, client, job.id, says)


@pytest.mark.parametrize("with_chain", [True, False], ids=["chain asked", "backend asked"])
async def test_a_key_that_is_not_bound_to_the_provider_is_refused(
    with_chain: bool, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)
    market.put_receipt(job.id, market.receipt_of(job.id), STRANGER_KEY)
    if with_chain:
        await _refused(market, client, job.id, "nor a key bound to it")
    else:
        async with market.async_client(chain=None) as unchained:
            await _refused(market, unchained, job.id, "nor a key bound to it")


@pytest.mark.parametrize("signer", ["cold key", "operator key"])
async def test_the_provider_itself_and_its_operator_key_may_sign(
    signer: str, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)
    provider = market.providers[0]
    key = provider.cold_key if signer == "cold key" else provider.operator_key
    market.put_receipt(job.id, market.receipt_of(job.id), key)
    checked = await client.receipt(job)
    assert (checked.signed_by == provider.address) == (signer == "cold key")
    assert (str(checked.seconds), str(checked.gpu_seconds)) == ("2", "4")


async def test_the_charge_is_the_formula_to_the_unit(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)
    checked = await client.receipt(job)
    assert checked.charge.units == job.terms.rate_per_gpu_second * 2 * 2


# --- the order ---------------------------------------------------------------------------------


async def test_another_order_under_the_same_id_is_refused(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    """A backend that shows dearer terms, or another manifest, for a task it was given."""
    job = await client.submit(script, "gpu1", 2, "1m")
    await client.wait(job)

    def dearer(task: TaskBody) -> TaskBody:
        rate = task.terms.rate_per_gpu_second * 2
        terms = task.terms.model_copy(update={"rate_per_gpu_second": rate})
        return task.model_copy(update={"terms": terms})

    def renamed(task: TaskBody) -> TaskBody:
        manifest = task.manifest.model_copy(update={"image": "evil"})
        return task.model_copy(update={"manifest": manifest})

    for change, says in ((dearer, "task id"), (renamed, "manifest's digest")):
        _change_task(market, change)
        await _refused(market, client, job.id, says)


# --- the result --------------------------------------------------------------------------------


async def test_other_bytes_than_signed_for_are_refused(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    await client.wait(job)

    def flip(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/result"):
            changed = bytearray(answer.content)
            changed[40] ^= 1
            return httpx.Response(200, content=bytes(changed), request=request)
        return answer

    market.answer_hook = flip
    await _refused(market, client, job.id, "the result downloaded has the digest", result=True)


async def test_a_longer_body_than_announced_is_not_read_to_its_end(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    from tallystick import ServiceError

    job = await client.submit(script, "gpu1", 1, "1m")
    await client.wait(job)

    def swell(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/result"):
            return httpx.Response(200, content=answer.content * 1000, request=request)
        return answer

    market.answer_hook = swell
    with pytest.raises(ServiceError, match="more than"):
        await client.result(job, to="out")


@pytest.mark.parametrize("wrong", ["wallet", "task", "fence"])
async def test_a_result_sealed_to_another(
    wrong: str, market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    await client.wait(job)
    public = sealing.consumer_key_from_wallet(market.consumer_key).public
    if wrong == "wallet":
        public = sealing.generate_key().public
    task_id = OTHER if wrong == "task" else Digest(job.id)
    sealed = sealing.seal_result(public, task_id, 7 if wrong == "fence" else 1, pack({}))
    _swap_result(market, job.id, sealed)
    await _refused(market, client, job.id, "cannot be opened with this wallet", result=True)


async def test_an_archive_that_leads_out_is_not_unpacked(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    await client.wait(job)
    public = sealing.consumer_key_from_wallet(market.consumer_key).public
    evil = pack({"../evil.txt": b"boo"})
    _swap_result(market, job.id, sealing.seal_result(public, Digest(job.id), 1, evil))
    await _refused(market, client, job.id, "leads out of the directory", result=True)
    assert not Path("../evil.txt").exists()


async def test_a_good_result_is_accepted_once_and_paid(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    before = (await client.balance()).available.units + job.max_charge.units
    fetched = await client.result(job, to="out")
    assert fetched.accepted
    assert (Path("out") / "receipt.json").exists()
    status = await client.get_job_status(job)
    assert (status.state, status.charge) == (JobState.SETTLED, fetched.charge)
    assert before - (await client.balance()).available.units == fetched.charge.units
    again = await client.result(job, to="again")
    assert again.accepted
    assert before - (await client.balance()).available.units == fetched.charge.units


def _receipt_only_at(market: InMemoryMarket, clock: Clock, until: float) -> None:
    """As when the provider's proof is on chain and its way to the backend is broken."""

    def hide(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if not request.url.path.endswith("/receipt") or clock() >= until:
            return answer
        missing = {"type": "", "title": "Not there yet", "status": 404, "detail": "no receipt yet"}
        return httpx.Response(404, json=missing | {"code": "not_there_yet"}, request=request)

    market.answer_hook = hide


async def test_a_receipt_that_is_late_is_waited_for(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    await client.wait(job)
    began = clock()
    _receipt_only_at(market, clock, began + 20)
    assert (await client.result(job, to="out", timeout=30)).accepted
    assert 20 <= clock() - began < 21


@pytest.mark.parametrize(("timeout_s", "waited_s"), [(5.0, 5), (None, 60), (1000.0, 60)])
async def test_a_receipt_that_never_comes_is_not_waited_for_without_end(
    market: InMemoryMarket,
    client: AsyncGPUClient,
    clock: Clock,
    script: str,
    timeout_s: float | None,
    waited_s: int,
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    await client.wait(job)
    began = clock()
    _receipt_only_at(market, clock, began + 10_000)
    with pytest.raises(NotFound):
        await client.result(job, to="out", timeout=timeout_s)
    assert waited_s <= clock() - began < waited_s + 1


async def test_without_accept_nothing_is_paid_yet(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1m")
    assert not (await client.result(job, to="out", accept=False)).accepted
    assert (await client.get_job_status(job)).state is JobState.FINISHED
    await client.accept(job)
    assert (await client.get_job_status(job)).state is JobState.SETTLED


async def test_the_default_directory_carries_the_task_and_is_never_overwritten(
    client: AsyncGPUClient, script: str
) -> None:
    from tallystick import InvalidRequest

    job = await client.submit(script, "gpu1", 1, "1m")
    fetched = await client.result(job)
    assert str(fetched.directory) == f"tallystick-{job.id[2:12]}"
    with pytest.raises(InvalidRequest, match="not empty"):
        await client.result(job)


async def _refused(
    market: InMemoryMarket,
    client: AsyncGPUClient,
    task_id: str,
    says: str,
    *,
    result: bool = False,
) -> None:
    """Neither result nor acceptance: nothing on disk, nothing paid."""
    with pytest.raises(VerificationFailed) as caught:
        await client.result(task_id, to="out")
    assert says in caught.value.sentence
    if not result:
        with pytest.raises(VerificationFailed):
            await client.accept(task_id)
    market.answer_hook = None
    assert not Path("out").exists()
    assert not [path for _, path in market.requests if path.endswith("/acceptance")]


def _change_view(market: InMemoryMarket, change: Callable[[ReceiptView], ReceiptView]) -> None:
    def hook(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if not request.url.path.endswith("/receipt"):
            return answer
        view = change(ReceiptView.model_validate_json(answer.content))
        return httpx.Response(200, content=view.model_dump_json(), request=request)

    market.answer_hook = hook


def _change_task(market: InMemoryMarket, change: Callable[[TaskBody], TaskBody]) -> None:
    def hook(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if len(request.url.path) != len("/v1/tasks/") + 66:
            return answer
        task = change(TaskBody.model_validate_json(answer.content))
        return httpx.Response(200, content=task.model_dump_json(), request=request)

    market.answer_hook = hook


def _swap_result(market: InMemoryMarket, task_id: str, sealed: bytes) -> None:
    """The provider signs for these bytes instead."""
    market.put_result(task_id, sealed)
    receipt = replace(market.receipt_of(task_id), result=digest_of(sealed))
    market.put_receipt(task_id, receipt, market.providers[0].operator_key)
