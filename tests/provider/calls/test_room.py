"""Workers and tasks share one machine; neither gets what the other has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tallystick.protocol.wire import Resources
from tallystick_provider.calls.room import Room
from tallystick_provider.cards import Cards
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import NoRoom, OfferRefused
from tallystick_provider.gpus import open_source
from tallystick_provider.journal import Journal, Lease
from tallystick_provider.offers import check, place
from tests.provider.orders import DOMAIN, NOW_S, manifest_of, offer_of, settings_of, terms_of
from tests.support.anvil import PROVIDER

CLOCK = ManualClock(NOW_S * 1000)


def wanted(**changes: Any) -> Resources:
    values = {"cpu_milli": 500, "memory_mib": 512, "disk_mib": 64, **changes}
    return Resources(**values)


@pytest.fixture
def cards() -> Cards:
    return Cards(open_source("simulated:4xgpu1:24576", PROVIDER.address, {}, CLOCK))


def room_of(tmp_path: Path, cards: Cards, leases: list[Lease], **changes: Any) -> Room:
    return Room(settings_of(tmp_path, **changes), cards, lambda: leases)


def lease_in(tmp_path: Path, gpu_ids: tuple[str, ...] = ()) -> Lease:
    journal = Journal(tmp_path / "journal.sqlite", CLOCK)
    lease = journal.accept(offer_of(), gpu_ids, 1)
    journal.close()
    return lease


@pytest.mark.parametrize(
    ("resources", "settings", "why"),
    [
        ({"cpu_milli": 2001}, {}, "CPU (milli): 2001 asked, 2000 of 2000 free"),
        ({"memory_mib": 4097}, {}, "memory (MiB): 4097 asked, 4096 of 4096 free"),
        ({"disk_mib": 10_241}, {}, "disk (MiB): 10241 asked, 10240 of 10240 free"),
        ({"gpus": 5, "gpu_class": "gpu1"}, {}, "5 free GPUs of class 'gpu1' are not there now"),
        ({"gpus": 1, "gpu_class": "gpu2"}, {}, "1 free GPUs of class 'gpu2' are not there now"),
        (
            {"gpus": 1, "gpu_class": "gpu1", "gpu_memory_mib": 99_999},
            {},
            "1 free GPUs of class 'gpu1' are not there now",
        ),
    ],
)
def test_what_is_not_there(
    tmp_path: Path, cards: Cards, resources: dict[str, Any], settings: dict[str, Any], why: str
) -> None:
    room = room_of(tmp_path, cards, [], **settings)
    with pytest.raises(NoRoom) as told:
        room.take("w", wanted(**resources))
    assert str(told.value) == why
    assert room.why_not(wanted(**resources)) == why
    assert room.reserved().cpu_milli == 0


def test_workers_count_each_other(tmp_path: Path, cards: Cards) -> None:
    room = room_of(tmp_path, cards, [])
    resources = wanted(gpus=1, gpu_class="gpu1")
    assert room.fits(resources, 99) == 4  # cards, and CPU as well
    given = [room.take(f"w{number}", resources) for number in range(4)]
    assert len({card for cards_of in given for card in cards_of}) == 4
    assert room.fits(resources, 99) == 0
    room.give_back("w2")
    assert room.take("again", resources) == given[2]


def test_a_tasks_share_is_no_workers(tmp_path: Path, cards: Cards) -> None:
    taken = tuple(card.gpu_id for card in cards.free()[:3])
    room = room_of(tmp_path, cards, [lease_in(tmp_path, taken)])
    (card,) = room.take("w", wanted(gpus=1, gpu_class="gpu1"))
    assert card not in taken
    with pytest.raises(NoRoom, match="GPUs"):
        room.take("v", wanted(gpus=1, gpu_class="gpu1"))


def test_a_workers_share_is_no_tasks(tmp_path: Path, cards: Cards) -> None:
    settings = settings_of(tmp_path)
    room = room_of(tmp_path, cards, [])
    held = room.take("w", wanted(gpus=2, gpu_class="gpu1"))
    manifest = manifest_of()
    offer = check(offer_of(manifest=manifest, terms=terms_of(manifest)), DOMAIN, settings, NOW_S)
    given = place(offer, cards.free(), [], settings, room.reserved())
    assert not set(given) & set(held)  # its cards are not cleared yet, and not free all the same
    room.take("v", wanted(gpus=1, gpu_class="gpu1"))
    with pytest.raises(OfferRefused, match="free GPUs"):
        place(offer, cards.free(), [], settings, room.reserved())
    room.give_back("v")
    room.take("v", wanted(memory_mib=3300))
    with pytest.raises(OfferRefused, match=r"memory \(MiB\): 512 asked, 284 of 4096 free"):
        place(offer, cards.free(), [], settings, room.reserved())


def test_a_card_is_in_no_two_calls_at_one_time_whatever_the_clock_does(
    tmp_path: Path, cards: Cards
) -> None:
    room = room_of(tmp_path, cards, [])
    assert room.begin_at_ms(("a", "b"), 1_000) == 1_000
    room.used_until(("a",), 9_000)
    room.used_until(("a",), 8_000)
    assert room.begin_at_ms(("a", "b"), 2_000) == 9_000  # the clock was set back
    assert room.begin_at_ms(("b",), 2_000) == 2_000
    assert room.begin_at_ms((), 2_000) == 2_000
    assert room.begin_at_ms(("a",), 9_500) == 9_500
