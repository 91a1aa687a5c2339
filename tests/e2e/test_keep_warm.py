"""An app that stops after ten seconds without a call is kept warm for twenty, over the whole
market: the same process answers before and after, nobody waits for a start, and every book says
the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tallystick import GPUClient
from tallystick.devnet import LocalMarket, MarketPlan
from tallystick.devnet.market import ProviderPlan
from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.call_views import KeepWarmView
from tallystick.protocol.manifest import canonical_json
from tests.e2e.scenario import PATIENCE_S
from tests.e2e.test_a_call_goes_round import FEE, AppMarket, publish

HANDLER = """
import os

from tallystick.app import handler


@handler
def who() -> dict[str, int]:
    return {"pid": os.getpid()}
"""
PROJECT = """
name = "cools"
[handler]
kind = "function"
entry = "handler:who"
"""
COOLDOWN_S = 10
EVERY_S = 5
"""A machine that stands still for a moment is no reason for the worker to stop."""
MANIFEST = AppManifest.model_validate(
    {
        "name": "cools",
        "image": "process",
        "handler": {"kind": "function", "entry": "handler:who"},
        "resources": {"cpu_milli": 100, "memory_mib": 1024, "disk_mib": 16},
        "scaling": {"max_workers": 1, "cooldown_s": COOLDOWN_S},
        "timeout_s": 20,
    }
)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMarket]:
    folder = tmp_path_factory.mktemp("warm")
    project = folder / "apps" / "cools"
    project.mkdir(parents=True)
    (project / "handler.py").write_text(HANDLER)
    (project / "tallystick.toml").write_text(PROJECT)
    plan = MarketPlan(folder / "market", providers=(ProviderPlan(),), runtime="process")
    with AppMarket(plan) as up:
        yield up


@pytest.fixture
def client(market: LocalMarket) -> Iterator[GPUClient]:
    with GPUClient(**market.client_settings()) as client:
        client.deposit("100")
        client.grant_allowance("50")
        client.upload_manifest(canonical_json(MANIFEST))
        yield client


def test_a_kept_app_answers_at_once_until_it_is_kept_no_longer(
    market: LocalMarket, client: GPUClient
) -> None:
    app = asyncio.run(publish(market, MANIFEST))
    _until_known(client, app)
    keep = partial(client.keep_warm, app, "1h", max_per_hour="1", every=f"{EVERY_S}s")
    quoted = keep(dry_run=True)
    assert (quoted.every_seconds, quoted.charge_per_call) == (EVERY_S, FEE)
    kept = keep()
    _until(client, kept.id, lambda one: one.calls >= 1)
    before = client.call(app, {})
    assert before.times.cold_start_ms == 0
    begun_s, warm_before = time.monotonic(), _one(client, kept.id).calls
    while time.monotonic() - begun_s < 2 * COOLDOWN_S:
        time.sleep(0.1)
    after = client.call(app, {})
    assert after.output == before.output
    assert after.times.cold_start_ms == 0
    assert _one(client, kept.id).calls - warm_before >= 2

    stopped = client.stop_warm(kept.id)
    assert stopped.state == "stopped"
    time.sleep(COOLDOWN_S + 2)
    cold = client.call(app, {})
    assert cold.output != before.output
    assert cold.times.cold_start_ms

    ended = _one(client, kept.id)
    calls = [call for call in client.calls(limit=200) if call.state == "completed"]
    assert ended.calls == len(calls) - 3
    assert ended.spent == FEE * ended.calls
    together = sum(call.charge for call in calls)
    assert together == ended.spent + 3 * FEE
    assert cold.total.units == together
    assert client.summaries("day").sums.charge == together
    assert client.verify_receipt(ended.last_call_id).ok


def _one(client: GPUClient, warm_id: str) -> KeepWarmView:
    return next(one for one in client.warm_list() if one.id == warm_id)


def _until(client: GPUClient, warm_id: str, holds: Callable[[KeepWarmView], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        one = _one(client, warm_id)
        if holds(one):
            return
        time.sleep(0.1)
    raise AssertionError(f"not within a minute: {one}")


def _until_known(client: GPUClient, app: str) -> None:
    """The index has read the block."""
    until_s = time.monotonic() + PATIENCE_S
    while app not in {one.id for one in client.apps()}:
        assert time.monotonic() < until_s, "the app was not indexed"
        time.sleep(0.1)
