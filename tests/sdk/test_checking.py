"""A receipt is verified against the chain; whatever the backend changes is found.

Security cases 34, 37, 39 and 51, from the consumer's side.
"""

from __future__ import annotations

from typing import Any

import pytest

from tallystick import AsyncGPUClient, CallResult, Config, ConfigurationError
from tallystick.protocol.apps import AppHistory
from tallystick.protocol.call_views import CallReceiptView
from tallystick.protocol.channels import ChannelState
from tallystick.protocol.messages import channel_id
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, AppId, Digest
from tallystick.testing import InMemoryMarket
from tests.sdk.conftest import Clock

OTHER = "0x" + "99" * 32


@pytest.fixture
async def answers(market: InMemoryMarket, client: AsyncGPUClient) -> list[CallResult]:
    """Two calls of ten seconds on one GPU, redeemed."""
    await client.grant_allowance("1")
    market.calls.gpu_ms = 10_000
    app = market.calls.publish(lambda input: input, price=Price(5, 10, 366))
    made = [await client.call(app, {"n": n}) for n in (1, 2)]
    market.calls.redeem()
    return made


def changed(view: CallReceiptView, path: str, value: Any) -> CallReceiptView:
    """`signed.receipt.total` set to another value."""
    document = view.model_dump(mode="json")
    *way, last = path.split(".")
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    return CallReceiptView.model_validate(document)


async def test_an_honest_call_passes_every_check(
    client: AsyncGPUClient, answers: list[CallResult]
) -> None:
    for answer in answers:
        verdict = await client.verify_receipt(answer)
        assert (verdict.wrong, verdict.open) == ((), ())
        assert verdict.charge.units == 5 + 10 + 3660
    names = [check.name for check in verdict.checks]
    assert names[:5] == ["deployment", "call", "payer", "input", "manifest"]
    assert {"signature", "price", "total", "prev", "voucher", "redeemed"} <= set(names)


async def test_what_is_not_shown_stays_open(
    market: InMemoryMarket, client: AsyncGPUClient, answers: list[CallResult]
) -> None:
    by_id = await client.verify_receipt(answers[1].call_id)
    assert (by_id.wrong, by_id.open) == ((), ("input", "result"))
    shown = await client.verify_receipt(
        answers[1].call_id, content=answers[1].content, input={"n": 2}
    )
    assert shown.open == ()
    receipt = await client.call_receipt(answers[1].call_id)
    bare = receipt.model_copy(update={"manifest": None, "voucher": None, "before": None})
    verdict = await client.verify_receipt(bare)
    assert verdict.wrong == ()
    assert set(verdict.open) == {
        "input",
        "manifest",
        "prev",
        "result",
        "ended_at_ms",
        "gpu_ms",
        "gpu_set",
        "total",
        "voucher",
    }


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("call_id", "c_another1", "call"),
        ("chain_id", 1, "deployment"),
        ("escrow", "0x" + "11" * 20, "deployment"),
        ("request.input", OTHER, "request"),
        ("request.price.fee_per_call", "1", "price"),
        ("request.app_id", OTHER, "app"),
        ("request.version", 2, "app"),
        ("channel.salt", "9", "route"),
        ("channel.payer", "0x" + "22" * 20, "payer"),
        ("signed.receipt.total", "1", "signature"),
        ("signed.receipt.gpu_ms", 9_999, "signature"),
        ("signed.receipt.result", OTHER, "signature"),
        ("signed.signature", "0x" + "1b" * 65, "signature"),
        ("before.receipt.total", "1", "receipt before"),
        ("voucher.voucher.total", "99999", "voucher"),
        ("manifest", "{}", "manifest"),
        ("gpu_ids", ["GPU-1"], "gpu_set"),
        ("usage", [{"at_ms": 1, "gpu_id": "GPU-1", "energy_mj": 5}], "usage_root"),
    ],
)
async def test_whatever_the_backend_changes_is_found(
    client: AsyncGPUClient, answers: list[CallResult], path: str, value: Any, named: str
) -> None:
    receipt = await client.call_receipt(answers[1].call_id)
    verdict = await client.verify_receipt(changed(receipt, path, value))
    assert named in verdict.wrong
    assert not verdict.ok


async def test_a_receipt_of_another_call_is_not_this_ones(
    market: InMemoryMarket, client: AsyncGPUClient, answers: list[CallResult]
) -> None:
    """An honest receipt, shown for a call that it is not of."""
    other = market.calls.made[answers[0].call_id]
    market.calls.made[answers[1].call_id] = other
    verdict = await client.verify_receipt(answers[1])
    assert {"call", "input", "result"} <= set(verdict.wrong)


async def test_the_chain_decides_on_price_key_and_money(
    market: InMemoryMarket, client: AsyncGPUClient, answers: list[CallResult]
) -> None:
    """The backend's word on them is not asked."""
    chain = market.chain
    place = channel_id(market.calls.channel)
    chain.channels[place] = ChannelState(10**18, 3675, 0)
    assert (await client.verify_receipt(answers[0])).open == ()
    assert (await client.verify_receipt(answers[1])).open == ("redeemed",)
    for key in list(chain.operator_keys):
        chain.operator_keys[key] = "0x" + "33" * 20
    assert "signature" in (await client.verify_receipt(answers[0])).wrong
    for app in list(chain.apps):
        chain.apps[app] = AppHistory(AppId(Digest(app)), ZERO_ADDRESS, ZERO_ADDRESS, 0)
    assert {"app", "price"} <= set((await client.verify_receipt(answers[0])).wrong)


async def test_without_a_chain_nothing_is_verified(
    market: InMemoryMarket, client: AsyncGPUClient, answers: list[CallResult], clock: Clock
) -> None:
    config = Config(url=client.config.url, private_key=market.consumer_key)
    async with AsyncGPUClient(config=config, transport=market, now=clock) as blind:
        with pytest.raises(ConfigurationError, match="chain endpoint"):
            await blind.verify_receipt(answers[0])


async def test_a_verdict_is_readable_by_programs(
    client: AsyncGPUClient, answers: list[CallResult]
) -> None:
    told = (await client.verify_receipt(answers[0].call_id)).to_json()
    assert told["ok"] is True
    assert {check["result"] for check in told["checks"]} == {"ok", "open"}
