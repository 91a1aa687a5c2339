"""A call is verified from signatures and the chain alone; what is not shown stays open.

Security cases 34, 37, 39, 51, 119 and 120.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.apps import PricePoint
from tallystick.protocol.calls import CallAnswer, Check, Waited
from tallystick.protocol.channels import ChannelState, SignedReceipt, SignedVoucher
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.verifying import ShownCall, paid_down, verify_call
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    LIMITS,
    NOW_MS,
    OPERATORS,
    PRICE,
    RESULT,
    answer_of,
    link_of,
    request_of,
    run_of,
    sign_voucher,
)
from tests.support.anvil import STRANGER, digest_of_word

FIRST = answer_of(request_of(1), run_of())
SECOND = answer_of(request_of(2), run_of(5), link_of(FIRST))
THIRD = answer_of(request_of(3), run_of(), link_of(SECOND))
CHARGE_2 = 5 + 10 + 366 * 10


def voucher_of(answer: CallAnswer, **changes: Any) -> SignedVoucher:
    link = link_of(answer)
    voucher = replace(CHANNEL.voucher(link.total, link.digest), **changes)
    return SignedVoucher(voucher, sign_voucher(voucher))


WHOLE = ShownCall(
    domain=DOMAIN,
    channel=CHANNEL,
    request=request_of(2),
    answer=SECOND,
    limits=LIMITS,
    app=APP,
    operator_keys=OPERATORS,
    result=RESULT,
    waited=Waited(NOW_MS, NOW_MS + 5_000),
    before=FIRST.signed,
    later=(THIRD.signed,),
    voucher=voucher_of(THIRD),
    chain=ChannelState(1_000_000, link_of(THIRD).total, 0),
)
NAMES = [
    "signature",
    "receipt before",
    "provider",
    "route",
    "seq",
    "prev",
    "request",
    "result",
    "started_at_ms",
    "ended_at_ms",
    "calls",
    "price",
    "gpu_ms",
    "gpu_set",
    "usage_root",
    "total",
    "voucher",
    "redeemed",
]


def judged(shown: ShownCall) -> dict[str, bool | None]:
    return {check.name: check.ok for check in verify_call(shown)}


def wrong(shown: ShownCall) -> list[str]:
    return [name for name, ok in judged(shown).items() if ok is False]


class TestAWholeCall:
    def test_every_check_is_good_and_has_its_name(self) -> None:
        assert [check.name for check in verify_call(WHOLE)] == NAMES
        assert all(check.ok is True for check in verify_call(WHOLE))

    def test_the_first_of_a_channel_needs_nothing_before_it(self) -> None:
        first = replace(
            WHOLE,
            request=request_of(1),
            answer=FIRST,
            waited=Waited(NOW_MS, NOW_MS + 10_000),
            before=None,
            later=(SECOND.signed, THIRD.signed),
        )
        assert set(judged(first).values()) == {True}

    def test_the_voucher_may_name_it_directly(self) -> None:
        assert set(judged(replace(WHOLE, later=(), voucher=voucher_of(SECOND))).values()) == {True}


class TestWhatIsNotShown:
    @pytest.mark.parametrize(
        ("hidden", "left_open"),
        [
            ({"result": None}, {"result"}),
            ({"waited": None}, set()),
            ({"voucher": None}, {"voucher"}),
            ({"chain": None}, {"redeemed"}),
            ({"before": None}, {"prev", "total"}),
        ],
        ids=["result", "waited", "voucher", "chain", "before"],
    )
    def test_is_open_and_neither_good_nor_bad(
        self, hidden: dict[str, Any], left_open: set[str]
    ) -> None:
        found = judged(replace(WHOLE, **hidden))
        assert {name for name, ok in found.items() if ok is None} == left_open
        assert False not in found.values()

    def test_a_total_below_the_charge_is_wrong_whatever_came_before(self) -> None:
        low = answer_of(request_of(2), run_of(5), link_of(FIRST), total=CHARGE_2 - 1)
        assert "total" in wrong(replace(WHOLE, answer=low, before=None))

    def test_not_redeemed_yet_is_no_fault(self) -> None:
        for claimed in (0, link_of(FIRST).total, link_of(SECOND).total - 1):
            shown = replace(WHOLE, chain=ChannelState(1_000_000, claimed, 0))
            assert judged(shown)["redeemed"] is None
            assert judged(replace(shown, before=None))["redeemed"] is None
        whole = replace(WHOLE, chain=ChannelState(1_000_000, link_of(SECOND).total, 0))
        assert judged(whole)["redeemed"] is True


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("change", "names"),
        [
            ({"channel": replace(CHANNEL, salt=8)}, ["route", "voucher"]),
            ({"request": request_of(3)}, ["request"]),
            ({"result": digest_of(b"other bytes")}, ["result"]),
            ({"operator_keys": frozenset()}, ["signature", "receipt before"]),
            ({"domain": replace(DOMAIN, chain_id=1)}, ["signature", "receipt before", "prev"]),
            ({"limits": replace(LIMITS, gpus=1)}, ["gpu_ms", "gpu_set"]),
            ({"limits": replace(LIMITS, max_seconds=4)}, ["ended_at_ms"]),
            ({"waited": Waited(NOW_MS, NOW_MS + 3_000)}, ["ended_at_ms"]),
            ({"before": THIRD.signed}, ["seq", "prev", "total"]),
            ({"later": ()}, ["voucher"]),
            ({"later": (THIRD.signed, THIRD.signed)}, ["voucher"]),
            ({"later": (SECOND.signed, THIRD.signed)}, ["voucher"]),
            ({"voucher": voucher_of(SECOND)}, ["voucher"]),
            ({"voucher": voucher_of(THIRD, total=1)}, ["voucher"]),
            ({"voucher": voucher_of(THIRD, payer=STRANGER.address)}, ["voucher"]),
            (
                {"voucher": SignedVoucher(voucher_of(THIRD).voucher, "0x" + "00" * 65)},
                ["voucher"],
            ),
        ],
        ids=lambda value: "+".join(value),
    )
    def test_is_named(self, change: dict[str, Any], names: list[str]) -> None:
        found = wrong(replace(WHOLE, **change))
        assert found[: len(names)] == names
        assert set(found) <= {*names, "voucher"}

    def test_a_price_that_the_registry_never_had(self) -> None:
        cheaper = replace(APP.versions[0], prices=(PricePoint(0, replace(PRICE, flat=4)),))
        shown = replace(WHOLE, app=replace(APP, versions=(cheaper,)))
        assert wrong(shown) == ["price"]
        (found,) = (check for check in verify_call(shown) if check.name == "price")
        assert found == Check("price", False, replace(PRICE, flat=4), PRICE)

    def test_cards_that_are_not_in_the_set(self) -> None:
        """Case 119."""
        swapped = replace(SECOND, gpu_ids=("GPU-1", "GPU-9"))
        assert wrong(replace(WHOLE, answer=swapped)) == ["gpu_set"]

    def test_a_receipt_before_it_that_somebody_else_wrote(self) -> None:
        forged = replace(FIRST.signed.receipt, total=0)
        before = SignedReceipt(forged, messages.sign(DOMAIN, forged, STRANGER.key))
        assert wrong(replace(WHOLE, before=before))[:3] == ["receipt before", "prev", "total"]

    def test_a_chain_of_receipts_that_falls(self) -> None:
        """Even if its payer signed for it: what fell was somebody's pay."""
        fallen = replace(THIRD.signed.receipt, total=1)
        signed = SignedReceipt(fallen, THIRD.signed.signature)
        voucher = voucher_of(replace(THIRD, signed=signed))
        assert wrong(replace(WHOLE, later=(signed,), voucher=voucher)) == ["voucher"]

    @pytest.mark.parametrize("place", ["answer", "before", "later", "voucher"])
    def test_values_that_fit_no_type_fail_and_raise_nothing(self, place: str) -> None:
        misfit = SignedReceipt(replace(SECOND.signed.receipt, total=-1), "0x")
        ahead = replace(THIRD.signed.receipt, total=2**128)
        changed: dict[str, Any] = {
            "answer": replace(SECOND, signed=misfit),
            "before": misfit,
            "later": (SignedReceipt(ahead, "0x"),),
            "voucher": SignedVoucher(replace(voucher_of(THIRD).voucher, total=-1), "0x"),
        }
        found = wrong(replace(WHOLE, **{place: changed[place]}))
        expected = {
            "answer": "form",
            "before": "receipt before",
            "later": "voucher",
            "voucher": "voucher",
        }
        assert found[0] == expected[place]


@pytest.mark.parametrize(
    ("claimed", "paid"), [(0, 0), (100, 0), (101, 1), (150, 50), (151, 50), (10**9, 50)]
)
def test_a_channel_pays_its_calls_in_order(claimed: int, paid: int) -> None:
    assert paid_down(100, 150, claimed) == paid


def test_digest_of_words_are_no_receipts() -> None:
    """A voucher for a receipt that nobody shows is for another call."""
    other = voucher_of(SECOND, receipt=digest_of_word(3))
    assert wrong(replace(WHOLE, later=(), voucher=other)) == ["voucher"]
