"""offers
├── check: every signature, digest and figure is verified; each failure has its sentence
├── require_secured: the chain's word, not the offer's
└── place: cards, CPU, memory and disk that are free; a result takes disk too (security case 110)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from tallystick.protocol import wire
from tallystick.protocol.types import ZERO_ADDRESS
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import OfferRefused
from tallystick_provider.gpus import SimulatedGpus
from tallystick_provider.journal import Journal, Lease
from tallystick_provider.ledger import TaskOnChain
from tallystick_provider.offers import check, place, require_secured
from tests.provider.orders import (
    DOMAIN,
    LOCAL_IMAGE,
    NOW_S,
    lease_of,
    manifest_of,
    offer_of,
    settings_of,
    terms_of,
)
from tests.support.anvil import CONSUMER, OTHER_PROVIDER, PROVIDER, STRANGER

OPEN = TaskOnChain(
    status="open", nonce_used=True, end_s=NOW_S + 100, available=0, block=1, now_s=NOW_S
)
NONE = replace(OPEN, status="none", nonce_used=False)


def test_takes_a_good_offer(tmp_path: Path) -> None:
    checked = check(offer_of(), DOMAIN, settings_of(tmp_path), NOW_S)
    assert checked.assignment.task_id == checked.task_id


def wrong_offers() -> list[Any]:
    manifest = manifest_of()
    terms = terms_of(manifest)
    other_terms = terms_of(manifest)
    big = manifest_of(resources=wire.Resources(gpu_class="gpu1", gpus=3))
    unpriced = manifest_of(resources=wire.Resources(gpu_class="gpu9", gpus=2))
    docker = manifest_of(image=LOCAL_IMAGE)
    reserved = manifest_of(env={"LD_PRELOAD": "/x.so"})
    silent = manifest_of(command=())
    return [
        pytest.param(
            offer_of(terms=terms, lease=lease_of(DOMAIN, other_terms, NOW_S)),
            "the lease is for task",
            id="lease of another task",
        ),
        pytest.param(
            offer_of(terms=terms, lease=lease_of(DOMAIN, terms, NOW_S, provider=OTHER_PROVIDER)),
            "not this one",
            id="lease of another provider",
        ),
        pytest.param(offer_of(leased_by=STRANGER), "the lease is signed by", id="forged lease"),
        pytest.param(
            offer_of(terms=terms, lease=lease_of(DOMAIN, terms, NOW_S - 60)),
            "the lease ended",
            id="lease is over",
        ),
        pytest.param(
            offer_of(terms=terms, lease=lease_of(DOMAIN, terms, NOW_S + 6)),
            "begins 6 s from now",
            id="lease of a clock that is wrong (case 102)",
        ),
        pytest.param(
            offer_of(terms=terms_of(manifest, deadline=NOW_S)), "deadline", id="deadline passed"
        ),
        pytest.param(
            offer_of(terms=terms, manifest=manifest_of(name="changed")),
            "its digest differs",
            id="another manifest than signed",
        ),
        pytest.param(
            offer_of(terms=terms_of(big, gpus=2), manifest=big),
            "pay for 2 GPUs",
            id="more GPUs than paid for",
        ),
        pytest.param(
            offer_of(secured=False, signed_by=STRANGER), "its consumer is", id="forged order"
        ),
        pytest.param(
            offer_of(secured=False, terms_signature=None), "needs the consumer", id="unsigned order"
        ),
        pytest.param(
            offer_of(terms=terms_of(manifest, rate_per_gpu_second=1)), "below the floor", id="cheap"
        ),
        pytest.param(offer_of(manifest=unpriced), "asks no price", id="class without a price"),
        pytest.param(
            offer_of(terms=terms_of(manifest, max_seconds=0)), "no time to run", id="no time"
        ),
        pytest.param(
            offer_of(terms=terms_of(manifest, dispatcher_bps=2000, royalty_bps=1001)),
            "exceed 3,000",
            id="shares too high",
        ),
        pytest.param(
            offer_of(terms=terms_of(manifest, max_charge=10**18 - 1)),
            "does not pay for 500 seconds",
            id="a ceiling below the price",
        ),
        pytest.param(
            offer_of(terms=terms_of(manifest, royalty_bps=1, royalty_to=CONSUMER.address)),
            "less the royalty",
            id="a rebate as royalty",
        ),
        pytest.param(offer_of(manifest=docker), "does not run on the process", id="wrong runtime"),
        pytest.param(offer_of(manifest=reserved), "LD_PRELOAD", id="reserved environment"),
        pytest.param(offer_of(manifest=silent), "no command", id="no command"),
        pytest.param(
            offer_of(assignment_signature="0x" + "00" * 65), "malformed", id="no signature at all"
        ),
    ]


@pytest.mark.parametrize(("offer", "reason"), wrong_offers())
def test_refuses_with_a_reason(offer: wire.Offer, reason: str, tmp_path: Path) -> None:
    with pytest.raises(OfferRefused, match=reason):
        check(offer, DOMAIN, settings_of(tmp_path), NOW_S)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("python:3.11", "not pinned"),
        ("registry.example/app@sha256:12", "not pinned"),
        ("app@md5:" + "ab" * 16, "not pinned"),
        ("process", "does not run on the docker"),
    ],
)
def test_an_image_is_named_by_digest(image: str, reason: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, runtime="docker")
    with pytest.raises(OfferRefused, match=reason):
        check(offer_of(manifest=manifest_of(image=image)), DOMAIN, settings, NOW_S)


@pytest.mark.parametrize(
    ("secured", "chain", "reason"),
    [
        (True, NONE, "no lock for this task"),
        (True, replace(OPEN, status="proven"), "already proven"),
        (True, replace(NONE, nonce_used=True), "already proven, settled or refunded"),
        (True, replace(OPEN, end_s=NOW_S), "ended on chain"),
        (True, replace(OPEN, cancelled=True), "cancelled the task on chain"),
        (False, replace(NONE, available=10**18 - 1), "may cost"),
    ],
)
def test_believes_the_chain_and_not_the_offer(
    secured: bool, chain: TaskOnChain, reason: str, tmp_path: Path
) -> None:
    checked = check(offer_of(secured=secured), DOMAIN, settings_of(tmp_path), NOW_S)
    with pytest.raises(OfferRefused, match=reason):
        require_secured(checked, chain)


def test_takes_locked_tasks_and_orders_that_could_be_paid(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    require_secured(check(offer_of(), DOMAIN, settings, NOW_S), OPEN)
    order = check(offer_of(secured=False), DOMAIN, settings, NOW_S)
    require_secured(order, replace(NONE, available=10**18))
    require_secured(order, OPEN)


def test_no_card_is_given_twice(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    clock = ManualClock(NOW_S * 1000)
    gpus = SimulatedGpus(PROVIDER.address, 4, "gpu1", 24576, clock).read()
    journal = Journal(tmp_path / "j", clock)
    held: list[Lease] = []
    given: list[str] = []
    for _ in range(2):
        offer = offer_of()
        ids = place(check(offer, DOMAIN, settings, NOW_S), gpus, held, settings)
        held.append(journal.accept(offer, ids, 1))
        given += ids
    assert len(set(given)) == 4
    with pytest.raises(OfferRefused, match="2 free GPUs"):
        place(check(offer_of(), DOMAIN, settings, NOW_S), gpus, held, settings)
    journal.close()


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        (wire.Resources(cpu_milli=2001), "CPU"),
        (wire.Resources(memory_mib=4097), "memory"),
        (wire.Resources(disk_mib=10_241), "disk"),
        (wire.Resources(gpu_class="gpu1", gpus=1, gpu_memory_mib=24_577), "24577 MiB"),
        (wire.Resources(gpu_class="gpu1", gpus=5), "5 free GPUs"),
    ],
)
def test_refuses_more_than_is_there(resources: wire.Resources, reason: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    manifest = manifest_of(resources=resources)
    terms = terms_of(manifest, max_charge=10**20)
    checked = check(offer_of(manifest=manifest, terms=terms), DOMAIN, settings, NOW_S)
    gpus = SimulatedGpus(PROVIDER.address, 4, "gpu1", 24576, ManualClock()).read()
    with pytest.raises(OfferRefused, match=reason):
        place(checked, gpus, (), settings)


def test_a_result_takes_disk_beside_the_task(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, disk_mib=100)
    gpus = SimulatedGpus(PROVIDER.address, 4, "gpu1", 24576, ManualClock()).read()
    offer = offer_of(manifest=manifest_of(max_output_mib=37))
    with pytest.raises(OfferRefused, match="101 asked, 100 of 100 free"):
        place(check(offer, DOMAIN, settings, NOW_S), gpus, (), settings)


@at_most(deadline=None)
@given(st.lists(st.tuples(st.integers(16, 2_000), st.integers(1, 2_000)), max_size=8))
def test_the_disk_is_never_promised_twice(orders: list[tuple[int, int]]) -> None:
    """Of any orders those are taken that fit together with all their results, and no others."""
    settings = settings_of(Path("/nowhere"), disk_mib=4_096, cpu_milli=64_000, memory_mib=64_000)
    gpus = SimulatedGpus(PROVIDER.address, 4, "gpu1", 24576, ManualClock()).read()
    held: list[Lease] = []
    free_mib = 4_096
    for disk_mib, output_mib in orders:
        manifest = manifest_of(
            resources=wire.Resources(disk_mib=disk_mib), max_output_mib=output_mib
        )
        checked: Any = SimpleNamespace(offer=SimpleNamespace(manifest=manifest))
        fits = disk_mib + output_mib <= free_mib
        try:
            place(checked, gpus, held, settings)
        except OfferRefused:
            assert not fits
        else:
            assert fits
            free_mib -= disk_mib + output_mib
            lease: Any = SimpleNamespace(offer=checked.offer, gpu_ids=())
            held.append(lease)
    assert free_mib >= 0


def test_the_consumer_is_never_the_zero_address(tmp_path: Path) -> None:
    terms = terms_of(manifest_of(), consumer=ZERO_ADDRESS)
    with pytest.raises(OfferRefused, match=CONSUMER.address):
        check(offer_of(terms=terms, secured=False), DOMAIN, settings_of(tmp_path), NOW_S)
