"""journal
├── is on disk when a call returns (synchronous=FULL)
├── one receipt per route and sequence number, ever; a repeat gives the same one back
├── a new journal signs nothing for leases older than itself
├── leases: repeated offers, later renewals only, stages never go back
└── outbox: a nonce carries one intent; a displaced one frees it
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.protocol.contracts import Call
from tallystick.protocol.messages import Receipt, digest, sign
from tallystick.protocol.types import ZERO_DIGEST, Digest, Signature
from tallystick_provider.clock import ManualClock
from tallystick_provider.errors import AlreadySigned, JournalError, JournalUnavailable
from tallystick_provider.journal import Journal, Lease, Signed, Version
from tallystick_provider.meter import Sample
from tests.provider.orders import DOMAIN, NOW_S, offer_of
from tests.support.anvil import OPERATOR, PROVIDER


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_S * 1000)


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite", clock)
    yield journal
    journal.close()


def receipt_of(lease: Lease, result: str = "0x" + "22" * 32) -> Receipt:
    return Receipt(
        provider=PROVIDER.address,
        route=lease.task_id,
        seq=lease.fence,
        prev=ZERO_DIGEST,
        request=lease.terms.spec,
        result=Digest(result),
        gpu_set=ZERO_DIGEST,
        started_at_ms=1,
        ended_at_ms=2,
        calls=1,
        gpu_ms=2,
        usage_root=ZERO_DIGEST,
        total=3,
    )


def sign_it(journal: Journal, lease: Lease, receipt: Receipt) -> Signed:
    return journal.sign_once(
        lease,
        receipt,
        digest(DOMAIN, receipt),
        lambda: sign(DOMAIN, receipt, OPERATOR.key),
        result_bytes=10,
        energy_mj=None,
        peak_gpu_memory_mib=None,
    )


def test_every_connection_waits_for_the_disk(journal: Journal, tmp_path: Path) -> None:
    with journal._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_another_process_reads_what_was_written(journal: Journal, tmp_path: Path) -> None:
    lease = journal.accept(offer_of(), ("GPU-0", "GPU-1"), 7)
    sign_it(journal, lease, receipt_of(lease))
    other = sqlite3.connect(tmp_path / "journal.sqlite")
    assert other.execute("select stage, accepted_block from lease").fetchall() == [("signed", 7)]
    assert other.execute("select count(*) from receipt").fetchone() == (1,)
    other.close()


def test_a_repeated_offer_gives_the_same_lease(journal: Journal) -> None:
    offer = offer_of()
    first = journal.accept(offer, ("GPU-0",), 1)
    again = journal.accept(offer, ("GPU-3",), 2)
    assert again == first
    assert again.gpu_ids == ("GPU-0",)


def test_a_receipt_is_signed_once(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    signed = sign_it(journal, lease, receipt_of(lease))
    assert sign_it(journal, lease, receipt_of(lease)) == signed
    with pytest.raises(AlreadySigned, match=signed.digest):
        sign_it(journal, lease, receipt_of(lease, "0x" + "33" * 32))
    assert journal.signed(lease.task_id, lease.fence) == signed


def test_signing_is_not_kept_when_the_signer_fails(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)

    def fail() -> Signature:
        raise RuntimeError("no key")

    receipt = receipt_of(lease)
    with pytest.raises(RuntimeError):
        journal.sign_once(
            lease,
            receipt,
            digest(DOMAIN, receipt),
            fail,
            result_bytes=1,
            energy_mj=None,
            peak_gpu_memory_mib=None,
        )
    assert journal.signed(lease.task_id, lease.fence) is None
    assert journal.lease(lease.task_id, lease.fence) == lease


def test_a_new_journal_signs_nothing_for_older_leases(tmp_path: Path) -> None:
    fresh = Journal(tmp_path / "new.sqlite", ManualClock((NOW_S + 60) * 1000))
    with pytest.raises(JournalError, match="before this journal was made"):
        fresh.accept(offer_of(now_s=NOW_S), (), 1)
    assert fresh.open_leases() == ()
    fresh.close()


def test_a_file_that_another_holds_is_waited_for(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 85: what could not be written was not, and the next try finds it as it was."""
    monkeypatch.setattr("tallystick_provider.journal.BUSY_MS", 1)
    journal = Journal(tmp_path / "j.sqlite", clock)
    lease = journal.accept(offer_of(), (), 1)
    with closing(sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable, match=r"j\.sqlite cannot be used now"):
            journal.fetched(lease)
        other.execute("ROLLBACK")
    assert journal.lease(lease.task_id, lease.fence) == lease
    assert journal.fetched(lease).stage == "fetched"
    journal.close()


def test_an_old_journal_opened_again_keeps_its_age(tmp_path: Path, clock: ManualClock) -> None:
    Journal(tmp_path / "j.sqlite", clock).close()
    clock.advance_ms(3_600_000)
    again = Journal(tmp_path / "j.sqlite", clock)
    assert again.created_at_ms == NOW_S * 1000
    again.close()


def test_only_a_later_renewal_counts(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    later = replace(lease.assignment, lease_until=lease.assignment.lease_until + 10)
    signature = sign(DOMAIN, later, OPERATOR.key)
    journal.renew(later, signature)
    journal.renew(lease.assignment, lease.assignment_signature)
    held = journal.lease(lease.task_id, lease.fence)
    assert held is not None
    assert (held.assignment, held.assignment_signature) == (later, signature)


def test_stages_never_go_back(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    started = journal.started(lease, "container")
    assert journal.fetched(lease).stage == "started"
    assert started.holds_capacity
    ended = journal.ended(started, 1, 2, 0)
    sign_it(journal, ended, receipt_of(ended))
    held = journal.lease(lease.task_id, lease.fence)
    assert held is not None
    assert not held.holds_capacity


def test_the_first_reason_to_stop_stays(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    journal.stop_wanted(lease.task_id, lease.fence, "cancelled")
    journal.stop_wanted(lease.task_id, lease.fence, "again")
    held = journal.lease(lease.task_id, lease.fence)
    assert held is not None
    assert held.stop_reason == "cancelled"


def test_samples_come_once_and_in_order(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    samples = [Sample(2, "B", None, 5), Sample(1, "A", 10**15, None)]
    journal.add_samples(lease, samples)
    journal.add_samples(lease, samples)
    assert journal.samples(lease) == (samples[1], samples[0])


def test_a_nonce_carries_one_intent_until_displaced(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    call = Call(PROVIDER.address, b"\x01\x02")
    version = Version(Digest("0x" + "44" * 32), b"raw", 50_000, 2**100, 1, 0)
    intent = journal.put_out(lease, "prove", OPERATOR.address, 5, call, version)
    assert journal.in_flight() == intent
    assert intent.latest == version
    with pytest.raises(JournalError, match="nonce 5"):
        journal.put_out(lease, "finalize", OPERATOR.address, 5, call, version)
    journal.land(intent, "displaced", None)
    assert journal.in_flight() is None
    again = journal.put_out(lease, "prove", OPERATOR.address, 5, call, version)
    journal.add_version(again, replace(version, max_fee_wei=2**101))
    held = journal.in_flight()
    assert held is not None
    assert [v.max_fee_wei for v in held.versions] == [2**100, 2**101]
    assert held.call == call


def test_unknown_leases_are_named(journal: Journal) -> None:
    lease = journal.accept(offer_of(), (), 1)
    with pytest.raises(JournalError, match="no lease of task"):
        journal.stop_wanted(lease.task_id, 9, "x")
