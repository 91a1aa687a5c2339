"""The calls as the first page of the documentation shows them.

submit
├── exactly so: client.submit('train.py', 'gpu1', 4, '8h'), job.id, get_job_status(job.id)
├── with name, image, inputs, env, max_price, secured, outputs_to
├── chooses the rate two providers meet, never above max_price
├── refuses each nonsense before anything is sent
└── money: says what is missing, deposits when asked, withdraws an order it cannot lock
status, wait, list, explain, cancel, reclaim
balance, deposit, withdraw, keys
"""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick import (
    AsyncGPUClient,
    ChainError,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    JobState,
    NoProvider,
    NotAllowed,
    NotFound,
    PaymentNeeded,
    PriceAboveCeiling,
    TaskFailed,
    TimedOut,
)
from tallystick.protocol.types import ZERO_ADDRESS
from tallystick.testing import InMemoryMarket, Outcome, run_script
from tests.sdk.conftest import Clock

TOKEN = 10**18


def test_the_call_works_exactly_so(market: InMemoryMarket, script: str) -> None:
    client = market.client()
    job = client.submit("train.py", "gpu1", 4, "8h")
    assert job.id.startswith("0x")
    status = client.get_job_status(job.id)
    assert (status.state, status.percent, status.eta_seconds) == (JobState.FINISHED, 100, 0)
    client.close()


async def test_a_running_job_tells_percent_and_eta(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "running"
    job = await client.submit("train.py", "gpu1", 4, "8h")
    assert (await client.get_job_status(job.id)).percent is None
    market.report(job.id, percent=42, eta_seconds=90, message="epoch 3")
    status = await client.get_job_status(job)
    assert (status.percent, status.eta_seconds, status.message) == (42, 90, "epoch 3")


async def test_everything_that_can_be_named_reaches_the_task(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    Path("data").mkdir()
    Path("data/a.csv").write_text("1,2")
    Path("notes.txt").write_text("note")
    job = await client.submit(
        "train.py",
        "gpu1",
        2,
        datetime.timedelta(minutes=90),
        name="my run",
        image="python@sha256:" + "ab" * 32,
        args=["--epochs", "3"],
        inputs=["data", "notes.txt"],
        env={"SEED": "7"},
        max_price="0.55",
        memory_mib=4096,
    )
    assert (job.name, job.gpus, job.max_seconds) == ("my run", 2, 5400)
    fetched = await client.result(job, to="out")
    told = json.loads((fetched.outputs / "echo.json").read_text())
    assert told["command"] == ["python", "/task/in/train.py", "--epochs", "3"]
    assert sorted(told["inputs"]) == ["data/a.csv", "notes.txt", "train.py"]
    assert job.price_per_gpu_hour <= Decimal("0.55")


async def test_inputs_can_be_renamed(client: AsyncGPUClient, script: str) -> None:
    Path("big.bin").write_bytes(b"123")
    job = await client.submit("train.py", "gpu1", 1, "1h", inputs={"sub/model.bin": "big.bin"})
    fetched = await client.result(job, to="out")
    assert "sub/model.bin" in (fetched.outputs / "echo.json").read_text()


async def test_a_script_really_runs_and_its_files_come_back(clock: Clock) -> None:
    Path("train.py").write_text(
        "import os, pathlib\n"
        "print('::progress 50 half')\n"
        "print('accuracy', os.environ['SEED'])\n"
        "pathlib.Path(os.environ['TALLYSTICK_OUTPUT'], 'model.txt').write_text('weights')\n"
    )
    market = InMemoryMarket(work=run_script, now=clock)
    async with market.async_client(sleep=clock.sleep) as client:
        job = await client.submit("train.py", "gpu1", 1, "1h", env={"SEED": "7"}, outputs_to="o")
        assert Path("o/out/model.txt").read_text() == "weights"
        assert [entry.text async for entry in client.logs(job)] == ["accuracy 7\n"]


async def test_a_command_without_a_file(client: AsyncGPUClient) -> None:
    job = await client.submit(None, "gpu1", 1, "1h", command=["nvidia-smi", "-L"], image="cuda")
    fetched = await client.result(job, to="out")
    assert '"nvidia-smi"' in (fetched.outputs / "echo.json").read_text()


async def test_a_task_without_gpu_costs_nothing_per_gpu_second(
    client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit("train.py", time="10m")
    assert (job.gpus, job.gpu_class, job.max_charge.units) == (0, "", 0)
    assert (await client.result(job, to="out")).charge.units == 0


@pytest.mark.parametrize(
    ("prices", "max_price", "paid"),
    [
        pytest.param(("0.5", "0.6", "0.9"), None, "0.6", id="the lowest that two meet"),
        pytest.param(("0.5",), None, "0.5", id="the only one's"),
        pytest.param(("0.5", "0.6"), "0.55", "0.55", id="never above max_price"),
        pytest.param(("0.5", "0.6"), Decimal("0.5"), "0.5", id="one taker at exactly max_price"),
        pytest.param(("1", "2"), 3, "2", id="max_price as a whole number"),
    ],
)
async def test_the_rate_is(
    clock: Clock, script: str, prices: tuple[str, ...], max_price: Any, paid: str
) -> None:
    market = InMemoryMarket(prices_per_gpu_hour=prices, now=clock)
    async with market.async_client() as client:
        job = await client.submit("train.py", "gpu1", 1, "1h", max_price=max_price)
    assert job.terms.rate_per_gpu_second == int(Decimal(paid) * TOKEN) // 3600
    assert job.max_charge.units == job.terms.rate_per_gpu_second * 3600


async def test_a_task_waits_in_line_when_all_who_could_are_busy(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    for provider in market.providers:
        provider.busy = 8
    job = await client.submit("train.py", "gpu1", 4, "1h")
    assert (await client.get_job_status(job)).state is JobState.FUNDED
    market.providers[0].busy = 0
    assert (await client.wait(job)).has_result


async def test_refuses_when_everybody_is_dearer(client: AsyncGPUClient, script: str) -> None:
    with pytest.raises(
        PriceAboveCeiling, match=r"asks 0\.49\d* per GPU-hour.*highest price is 0\.1"
    ):
        await client.submit("train.py", "gpu1", 1, "1h", max_price="0.1")


async def test_refuses_when_nobody_has_the_cards(client: AsyncGPUClient, script: str) -> None:
    with pytest.raises(NoProvider, match="8 GPUs") as caught:
        await client.submit("train.py", "gpu1", 9, "1h")
    assert len(caught.value.values["reasons"]) == 2  # type: ignore[arg-type]
    with pytest.raises(NoProvider, match="No provider on the market offers"):
        await client.submit("train.py", "h100", 1, "1h")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"file": "missing.py"}, "'missing.py' does not exist"),
        ({"file": "."}, "is a directory"),
        ({"file": None}, "neither a file nor a command"),
        ({"count": -1}, "GPU count is -1"),
        ({"count": 0}, "GPU count is 0"),
        ({"count": 10**9}, "GPU count is 1000000000"),
        ({"count": True}, "GPU count is True"),
        ({"count": 1.0}, "GPU count is 1.0"),
        ({"gpu": "no such class!"}, "GPU class is"),
        ({"gpu": ""}, "GPU class is ''"),
        ({"time": "8x"}, "time is '8x'"),
        ({"time": ""}, "time is ''"),
        ({"time": "0s"}, "time is '0s'"),
        ({"time": -5}, "time is -5"),
        ({"time": "31d"}, "1 second to 30 days"),
        ({"time": 1.5}, "time is 1.5"),
        ({"max_price": 0.5}, "money is never a float"),
        ({"max_price": "NaN"}, "no amount of tokens"),
        ({"max_price": "-1"}, "no amount of tokens"),
        ({"max_price": "1e3"}, "no amount of tokens"),
        ({"max_price": Decimal("Infinity")}, "no amount of tokens"),
        ({"max_price": True}, "money is never a float"),
        ({"name": "a\nb"}, "name is"),
        ({"name": "x" * 201}, "name is"),
        ({"env": {"1X": "y"}}, "'1X' is no name"),
        ({"env": {"TALLYSTICK_TASK_ID": "y"}}, "is taken"),
        ({"env": {"A": 1}}, "value of A"),
        ({"args": ["a\0b"]}, "cannot be sent"),
        ({"args": ["\ud800"]}, "cannot be sent"),
        ({"args": ["x"] * 70}, "cannot be sent"),
        ({"env": {"A": "\udfff"}}, "value of A"),
        ({"inputs": ["nothing-here"]}, "does not exist"),
        ({"inputs": {"../up": "train.py"}}, "cannot be the name of an input"),
        ({"inputs": {"/abs": "train.py"}}, "cannot be the name of an input"),
        ({"command": "python train.py"}, "one text"),
        ({"memory_mib": 1}, "memory_mib is 1"),
        ({"cpu_milli": "1000"}, "cpu_milli is '1000'"),
    ],
)
async def test_nonsense_is_refused_before_anything_is_sent(
    market: InMemoryMarket, client: AsyncGPUClient, script: str, changes: dict[str, Any], says: str
) -> None:
    good: dict[str, Any] = {"file": script, "gpu": "gpu1", "count": 1, "time": "1h"}
    with pytest.raises(InvalidRequest) as caught:
        await client.submit(**(good | changes))
    assert says in str(caught.value)
    assert caught.value.next_step
    assert not [path for method, path in market.requests if method != "GET"]


async def test_says_how_much_is_missing(clock: Clock, script: str) -> None:
    market = InMemoryMarket(deposited_tokens=1, now=clock)
    async with market.async_client() as client:
        with pytest.raises(PaymentNeeded, match=r"up to 19\.1\d* TALLY.*has 1 TALLY available"):
            await client.submit("train.py", "gpu1", 4, "8h")
        with pytest.raises(PaymentNeeded, match="wallet deposit 18"):
            await client.submit("train.py", "gpu1", 4, "8h", secured=False)
        job = await client.submit("train.py", "gpu1", 4, "8h", auto_deposit=True)
        assert job.created_tx
        assert (await client.balance()).available.units >= 0


async def test_a_signed_order_locks_nothing_and_is_paid_all_the_same(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit("train.py", "gpu1", 1, "1h", secured=False)
    assert job.created_tx is None
    assert not market.chain.open_tasks
    before = (await client.balance()).available.units
    fetched = await client.result(job, to="out")
    assert before - (await client.balance()).available.units == fetched.charge.units > 0


async def test_an_order_whose_money_cannot_be_locked_is_withdrawn(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.chain.refuse_next = "The contract refused: the nonce is used."
    with pytest.raises(ChainError, match="nonce is used"):
        await client.submit("train.py", "gpu1", 1, "1h")
    (job,) = await client.list_jobs()
    assert job.state is JobState.CANCELLED


async def test_without_a_chain_endpoint_it_says_what_to_set(
    market: InMemoryMarket, script: str
) -> None:
    async with market.async_client(chain=None) as client:
        with pytest.raises(ConfigurationError, match="TALLYSTICK_RPC_URL"):
            await client.submit("train.py", "gpu1", 1, "1h")
        assert not [path for method, path in market.requests if path == "/v1/tasks"]
        job = await client.submit("train.py", "gpu1", 1, "1h", secured=False)
        assert (await client.result(job, to="out")).accepted


async def test_the_image_comes_from_argument_setting_or_runtime(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    await client.submit("train.py", "gpu1", 1, "1h")
    for provider in market.providers:
        provider.runtime = "docker"
    with pytest.raises(ConfigurationError, match="No image was named"):
        await client.submit("train.py", "gpu1", 1, "1h")
    async with market.async_client(image="base@sha256:" + "00" * 32) as configured:
        assert (await configured.submit("train.py", "gpu1", 1, "1h")).id


async def test_wait_gives_up_after_the_time_out_and_the_task_goes_on(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock, script: str
) -> None:
    market.hold = "funded"
    job = await client.submit("train.py", "gpu1", 1, "1h")
    with pytest.raises(TimedOut, match="is funded after 60 s"):
        await client.wait(job, timeout="1m")
    assert sum(clock.slept) == pytest.approx(60)
    assert max(clock.slept) <= 2.0
    await market.release()
    assert (await client.wait(job, timeout=0.5)).state is JobState.FINISHED


async def test_wait_shows_every_look_and_can_wait_for_the_money(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit("train.py", "gpu1", 1, "1h")
    seen: list[JobState] = []
    await client.wait(job, on_status=lambda status: seen.append(status.state))
    assert seen == [JobState.FINISHED]
    await client.accept(job)
    assert (await client.wait(job, until="settled")).settled_tx
    with pytest.raises(InvalidRequest, match="until 'never'"):
        await client.wait(job, until="never")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        await client.wait(job, timeout=float("nan"))


async def test_a_failed_task_has_no_result(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "leased"
    job = await client.submit("train.py", "gpu1", 1, "1h")
    market.give_up(job.id, "the image cannot be pulled")
    status = await client.wait(job)
    assert (status.state, status.failure) == (JobState.FAILED, "the image cannot be pulled")
    with pytest.raises(TaskFailed, match="the image cannot be pulled"):
        await client.result(job, to="out")
    assert not Path("out").exists()


async def test_a_script_that_fails_is_a_result_with_its_exit_code(
    clock: Clock, script: str
) -> None:
    market = InMemoryMarket(work=lambda files, manifest: Outcome(exit_code=3), now=clock)
    async with market.async_client() as client:
        fetched = await client.result(await client.submit(script, "gpu1", 1, "1h"), to="out")
    assert (fetched.exit_code, fetched.accepted) == (3, True)


async def test_jobs_are_listed_page_by_page_newest_first(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "funded"
    ids = [(await client.submit(script, "gpu1", 1, "1m", name=f"run {n}")).id for n in range(120)]
    assert [job.id for job in await client.list_jobs(limit=120)] == ids[::-1]
    assert [job.name for job in await client.list_jobs(name="run 7", limit=500)] == [
        *(f"run {n}" for n in range(79, 69, -1)),
        "run 7",
    ]
    assert len(await client.list_jobs(limit=7)) == 7
    assert await client.list_jobs(state="settled") == ()
    with pytest.raises(InvalidRequest, match="no state 'done'"):
        await client.list_jobs(state="done")
    with pytest.raises(InvalidRequest, match="limit is 0"):
        await client.list_jobs(limit=0)


async def test_explain_names_each_provider_passed_over(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "funded"
    job = await client.submit(script, "gpu1", 1, "1h", max_price="0.5")
    told = await client.explain(job)
    assert [(o.eligible, o.reason) for o in told.offers] == [
        (True, ""),
        (False, "price_above_ceiling"),
    ]
    assert told.summary


async def test_cancel_stops_it_here_and_on_chain_and_the_ceiling_comes_back(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock, script: str
) -> None:
    market.hold = "running"
    before = (await client.balance()).available.units
    job = await client.submit(script, "gpu1", 1, "8h")
    await client.get_job_status(job)
    status = await client.cancel(job)
    assert status.state is JobState.CANCELLED
    with pytest.raises(ChainError, match="can be proven until"):
        await client.reclaim(job)
    assert (await client.cancel(job)).state is JobState.CANCELLED, "again is harmless"
    clock.now_s += 3601
    assert (await client.reclaim(job)).tx
    assert (await client.balance()).available.units == before


async def test_a_task_that_failed_can_be_cancelled_on_chain_to_free_its_ceiling(
    market: InMemoryMarket, client: AsyncGPUClient, clock: Clock, script: str
) -> None:
    market.hold = "leased"
    job = await client.submit(script, "gpu1", 1, "8h")
    market.give_up(job.id, "no image")
    assert (await client.cancel(job)).state is JobState.FAILED
    clock.now_s += 3601
    assert (await client.reclaim(job)).tx


async def test_cancel_of_what_is_paid_is_a_conflict(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "8h", outputs_to="out")
    with pytest.raises(Conflict, match="settled already"):
        await client.cancel(job)
    unsecured = await client.submit(script, "gpu1", 1, "8h", secured=False)
    await client.cancel(unsecured)


async def test_a_chain_that_fails_while_cancelling_is_not_hidden(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "leased"
    job = await client.submit(script, "gpu1", 1, "8h")
    market.chain.refuse_next = "The wallet has nothing for gas."
    with pytest.raises(ChainError, match="nothing for gas"):
        await client.cancel(job)
    assert (await client.cancel(job)).state is JobState.CANCELLED


async def test_reclaim_of_an_unsecured_order_says_there_is_nothing(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    market.hold = "leased"
    job = await client.submit(script, "gpu1", 1, "1h", secured=False)
    with pytest.raises(Conflict, match="nothing locked"):
        await client.reclaim(job)


@pytest.mark.parametrize(
    "text", ["", "abc", "0x12", "../../keys", "0x" + "g" * 64, "0x" + "0" * 65]
)
async def test_an_id_that_is_none_is_not_found_without_asking(
    market: InMemoryMarket, client: AsyncGPUClient, text: str
) -> None:
    with pytest.raises(NotFound, match="is no task id"):
        await client.get_job_status(text)
    assert market.requests == []


async def test_somebody_elses_task_does_not_exist(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1h")
    async with market.async_client(private_key="0x" + "77" * 32) as stranger:
        for act in (stranger.get_job_status, stranger.cancel, stranger.receipt, stranger.explain):
            with pytest.raises(NotFound):
                await act(job.id)


async def test_balance_deposit_withdraw(client: AsyncGPUClient) -> None:
    held = await client.balance()
    assert (str(held.wallet), str(held.available), str(held.reserved)) == (
        "1000 TALLY",
        "1000 TALLY",
        "0 TALLY",
    )
    assert (await client.deposit("0.5")).tx
    assert (await client.withdraw(Decimal("1.25"), "0x" + "12" * 20)).tx
    held = await client.balance()
    assert held.wallet is not None
    assert (held.wallet.amount, held.available.amount) == (Decimal("999.5"), Decimal("999.25"))
    with pytest.raises(PaymentNeeded, match=r"holds 999\.5 TALLY"):
        await client.deposit(5000)
    with pytest.raises(PaymentNeeded, match=r"999\.25 TALLY available"):
        await client.withdraw(5000)


@pytest.mark.parametrize("amount", [0.5, "NaN", "-1", "0", 0, "1e3", "0.0000000000000000001", None])
async def test_amounts_that_are_none_are_refused(client: AsyncGPUClient, amount: Any) -> None:
    with pytest.raises(InvalidRequest):
        await client.deposit(amount)
    with pytest.raises(InvalidRequest):
        await client.withdraw(amount)


async def test_withdraw_refuses_an_address_with_a_typing_error(client: AsyncGPUClient) -> None:
    with pytest.raises(InvalidRequest, match="no address"):
        await client.withdraw("1", "0x123")


async def test_without_a_chain_endpoint_the_backend_tells_the_balance(
    market: InMemoryMarket,
) -> None:
    async with market.async_client(chain=None) as client:
        held = await client.balance()
    assert held.wallet is None
    assert str(held.available) == "1000 TALLY"


async def test_an_api_key_reads_but_does_not_write(
    market: InMemoryMarket, client: AsyncGPUClient, script: str
) -> None:
    job = await client.submit(script, "gpu1", 1, "1h")
    key = await client.create_api_key("ci")
    async with market.async_client(private_key=None, api_key=key.secret) as reader:
        assert (await reader.get_job_status(job.id)).id == job.id
        with pytest.raises(NotAllowed, match="may only read"):
            await reader.cancel(job.id)
        with pytest.raises(ConfigurationError, match="no wallet key"):
            await reader.submit(script, "gpu1", 1, "1h")
    assert [(k.id, k.secret) for k in await client.list_api_keys()] == [(key.id, None)]
    await client.revoke_api_key(key.id)
    assert await client.list_api_keys() == ()
    with pytest.raises(NotFound):
        await client.revoke_api_key(key.id)
    with pytest.raises(InvalidRequest):
        await client.revoke_api_key("../tasks")
    with pytest.raises(InvalidRequest, match="name is"):
        await client.create_api_key("")
    with pytest.raises(InvalidRequest, match="scopes"):
        await client.create_api_key("ci", ["tasks:pay"])  # type: ignore[list-item]


async def test_the_market_can_be_read(client: AsyncGPUClient) -> None:
    assert [o.eligible for o in await client.offers("gpu1", 4, "1h")] == [True, True]
    assert [o.reason for o in await client.offers("gpu1", 4, "1h", max_price="0.55")] == [
        "",
        "price_above_ceiling",
    ]
    assert len(await client.providers()) == 2
    cards = await client.gpus()
    assert len(cards) == 16
    assert all(card.gpu.simulated for card in cards)
    assert (await client.deployment()).dispatcher != ZERO_ADDRESS
    assert await client.login() == client.address.lower()


async def test_offers_are_asked_for_all_that_the_task_will_take(
    client: AsyncGPUClient, market: InMemoryMarket, script: str
) -> None:
    asked: list[dict[str, str]] = []

    def note(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path == "/v1/offers":
            asked.append(dict(request.url.params))
        return answer

    market.answer_hook = note
    await client.submit(
        script, "gpu1", 1, "1h", cpu_milli=200, memory_mib=300, disk_mib=400, max_output_mib=500
    )
    needs = ("cpu_milli", "memory_mib", "disk_mib", "max_output_mib")
    assert [asked[0][name] for name in needs] == ["200", "300", "400", "500"]


async def test_another_escrow_than_the_pinned_one_is_refused(
    market: InMemoryMarket, script: str
) -> None:
    from dataclasses import replace

    from tallystick import VerificationFailed

    plain = market.async_client()
    for pin in ({"escrow": "0x" + "99" * 20}, {"chain_id": 1}):
        config = replace(plain.config, **pin)
        async with market.async_client(config=config) as client:
            with pytest.raises(VerificationFailed, match="you insist on"):
                await client.submit(script, "gpu1", 1, "1h")
    await plain.close()
    assert {path for _, path in market.requests} == {"/v1/deployment"}
