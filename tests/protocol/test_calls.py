"""What a call costs, how its digests are made, and which receipts may be paid.

Security cases 6, 7, 19, 29, 37, 39, 51, 102, 105 and 120.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol import messages
from tallystick.protocol.app_manifest import AppManifest, FunctionHandler
from tallystick.protocol.apps import DiscountWindow, PricePoint
from tallystick.protocol.calls import (
    CLOCK_MARGIN_MS,
    WAIT_MARGIN_MS,
    CallAnswer,
    CallLimits,
    CheckedReceipt,
    Link,
    Waited,
    call_charge_up,
    ceiling_up,
    check_receipt,
    next_receipt,
    request_digest,
    result_digest,
)
from tallystick.protocol.channels import SignedReceipt
from tallystick.protocol.errors import AmountError, ProtocolError, ReceiptRefused
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.merkle import UsageSample
from tallystick.protocol.messages import Domain, Receipt
from tallystick.protocol.money import UINT128_MAX
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_DIGEST, Digest
from tallystick.protocol.wire import Resources
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    GPUS,
    INPUT,
    LIMITS,
    NOW_MS,
    NOW_S,
    OPERATORS,
    PRICE,
    RESULT,
    RESULT_BYTES,
    answer_of,
    link_of,
    request_of,
    run_of,
    signed_by,
)
from tests.support.anvil import OPERATOR, PROVIDER, STRANGER, digest_of_word

MILLION = 1_000_000
"""A token with six decimals: a price of 366 is 366 millionths."""


def reference(flat: int, fee: int, rate: int, calls: int, gpu_ms: int, bps: int = 0) -> int:
    """The price in exact fractions, written down without looking at the code: each part of the
    price less the discount to the next whole unit, the time to the next whole unit."""
    off = 1 - Fraction(bps, 10_000)
    flat, fee, rate = (ceil(Fraction(part) * off) for part in (flat, fee, rate))
    return flat + fee * calls + ceil(Fraction(rate) * Fraction(gpu_ms, 1000))


class TestWhatACallCosts:
    @pytest.mark.parametrize(
        ("price", "gpu_ms", "charge"),
        [
            pytest.param(Price(), 10_000, 0, id="nothing"),
            pytest.param(Price(fee_per_call=10), 0, 10, id="per call: a fee of 10 is exactly 10"),
            pytest.param(Price(fee_per_call=10), 86_400_000, 10, id="per call: however long"),
            pytest.param(
                Price(rate_per_gpu_second=366), 10_000, 3_660, id="ten seconds at 366 are 3,660"
            ),
            pytest.param(Price(rate_per_gpu_second=366), 0, 0, id="per GPU-second: no time"),
            pytest.param(Price(rate_per_gpu_second=366), 1, 1, id="a started unit counts"),
            pytest.param(Price(rate_per_gpu_second=1000), 1, 1, id="a millisecond at 1000 is 1"),
            pytest.param(Price(rate_per_gpu_second=1000), 1001, 1001, id="no unit is started"),
            pytest.param(Price(flat=7), 123_456, 7, id="flat"),
            pytest.param(Price(7, 10, 366), 10_001, 7 + 10 + 3_661, id="hybrid"),
            pytest.param(Price(UINT128_MAX, 0, 0), 5, UINT128_MAX, id="the largest amount"),
        ],
    )
    def test_to_the_unit(self, price: Price, gpu_ms: int, charge: int) -> None:
        assert call_charge_up(price, 1, gpu_ms) == charge
        assert charge == reference(
            price.flat, price.fee_per_call, price.rate_per_gpu_second, 1, gpu_ms
        )

    @pytest.mark.parametrize("price", [Price(UINT128_MAX, 1, 0), Price(0, 0, UINT128_MAX)])
    def test_never_wraps(self, price: Price) -> None:
        with pytest.raises(AmountError, match="does not fit"):
            call_charge_up(price, 1, 2_000)

    @given(
        st.integers(0, 2**90),
        st.integers(0, 2**90),
        st.integers(0, 2**80),
        st.integers(0, 2**40),
        st.integers(0, 10_000),
    )
    @settings(max_examples=300)
    def test_equals_the_reference_inside_a_discount_and_outside(
        self, flat: int, fee: int, rate: int, gpu_ms: int, bps: int
    ) -> None:
        window = DiscountWindow(NOW_S, NOW_S + 60, bps)
        listed = Price(flat, fee, rate)
        version = replace(APP.versions[0], prices=(PricePoint(NOW_S - 100, listed),))
        app = replace(APP, versions=(version,), discounts=(window,))
        for started_at_ms, off in (
            (NOW_MS - 1, 0),
            (NOW_MS, bps),
            (NOW_MS + 60_999, bps),
            (NOW_MS + 61_000, 0),
        ):
            price = app.price_for(started_at_ms, version=1)
            assert call_charge_up(price, 1, gpu_ms) == reference(flat, fee, rate, 1, gpu_ms, off)

    def test_calls_add_up_and_splitting_time_gains_nothing(self) -> None:
        whole = call_charge_up(Price(rate_per_gpu_second=366), 1, 10_000)
        parts = sum(call_charge_up(Price(rate_per_gpu_second=366), 1, 1_000) for _ in range(10))
        odd = sum(call_charge_up(Price(rate_per_gpu_second=366), 1, 100) for _ in range(100))
        assert (whole, parts, odd) == (3_660, 3_660, 3_700)

    def test_thirty_days_without_a_call_cost_nothing(self) -> None:
        """There is no term of time but the GPU's: a channel that nobody calls on stays as it is."""
        assert Link().total == 0
        assert call_charge_up(Price(rate_per_gpu_second=366), 0, 0) == 0

    def test_the_ceiling_is_the_longest_run_on_all_cards(self) -> None:
        request = request_of(max_seconds=60)
        assert ceiling_up(request, LIMITS) == 5 + 10 + 366 * 2 * 60
        longest = run_of(60)
        charge = next_receipt(CHANNEL, Link(), request, longest).total
        assert charge == ceiling_up(request, LIMITS)

    def test_the_ceiling_has_to_be_an_amount(self) -> None:
        dear = request_of(price=Price(rate_per_gpu_second=UINT128_MAX))
        with pytest.raises(AmountError):
            ceiling_up(dear, LIMITS)

    def test_limits_come_from_the_manifest(self) -> None:
        manifest = AppManifest(
            image="process",
            handler=FunctionHandler(entry="app:run"),
            resources=Resources(gpu_class="gpu1", gpus=2),
            timeout_s=60,
        )
        assert CallLimits.of(manifest) == LIMITS
        shared = manifest.model_copy(update={"concurrency": 4})
        assert CallLimits.of(shared) == replace(LIMITS, exclusive=False)
        none = manifest.model_copy(update={"resources": Resources()})
        assert CallLimits.of(none) == CallLimits(0, False, 60)


class TestDigests:
    """The golden values were computed by `cast keccak` and by eth_account, not by us (case 38)."""

    def test_of_the_request(self) -> None:
        request = request_of(1)
        assert canonical_json(request.to_body()).decode() == (
            '{"app_id":"' + APP.app_id + '","call_id":"call-00000001","input":"' + INPUT + '",'
            '"max_seconds":60,"price":{"fee_per_call":"10","flat":"5",'
            '"rate_per_gpu_second":"366"},"version":1}'
        )
        assert request_digest(request) == digest_of(canonical_json(request.to_body()))
        assert request_digest(request) == GOLDEN_REQUEST

    def test_of_the_result_are_the_bytes_and_nothing_else(self) -> None:
        assert result_digest(b"") == (
            "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        )
        assert result_digest(RESULT_BYTES) == digest_of(RESULT_BYTES) == GOLDEN_RESULT

    def test_of_the_receipt(self) -> None:
        receipt = next_receipt(CHANNEL, Link(), request_of(), run_of())
        assert messages.digest(DOMAIN, receipt) == GOLDEN_RECEIPT

    @pytest.mark.parametrize("field", [field.name for field in fields(request_of())])
    def test_every_field_of_the_request_is_in_its_digest(self, field: str) -> None:
        other: dict[str, Any] = {
            "call_id": "call-00000002",
            "app_id": digest_of_word(99),
            "version": 2,
            "price": replace(PRICE, flat=6),
            "max_seconds": 59,
            "input": digest_of(b"{}"),
        }
        changed = replace(request_of(), **{field: other[field]})
        assert request_digest(changed) != request_digest(request_of())

    def test_a_request_comes_back_from_its_body(self) -> None:
        body = request_of().to_body()
        assert type(request_of()).from_body(body) == request_of()
        assert json.loads(body.model_dump_json())["price"]["flat"] == "5"


GOLDEN_REQUEST = "0xd28a0e61e220776ee8643345e802647fbed682f8371e616329811ecfb4f34b3c"
GOLDEN_RESULT = "0x51685098a275fdda34745aa7e5650894410275bdaa0d361806f5ecd912d48ffd"
GOLDEN_RECEIPT = "0x8306caab0c4f0d2da26335a351a4470c4c720870a3f517881db2c386c3796781"

FIRST = answer_of(request_of(1), run_of(10))
AFTER_FIRST = link_of(FIRST)
SECOND = request_of(2)
WAITED = Waited(NOW_MS - 50, NOW_MS + 10_050)


def check(answer: CallAnswer, **changes: Any) -> CheckedReceipt:
    given: dict[str, Any] = {
        "result": RESULT,
        "limits": LIMITS,
        "app": APP,
        "operator_keys": OPERATORS,
        "waited": WAITED,
    }
    last = changes.pop("last", AFTER_FIRST)
    request = changes.pop("request", SECOND)
    return check_receipt(DOMAIN, CHANNEL, last, request, answer, **{**given, **changes})


def refused(answer: CallAnswer, **changes: Any) -> ReceiptRefused:
    with pytest.raises(ReceiptRefused) as caught:
        check(answer, **changes)
    return caught.value


class TestAReceiptThatMayBePaid:
    def test_by_the_operator_key(self) -> None:
        checked = check(answer_of(SECOND, run_of(10), AFTER_FIRST))
        charge = 5 + 10 + 366 * 20
        assert (checked.charge, checked.signed_by) == (charge, OPERATOR.address)
        assert checked.link.seq == 2
        assert checked.link.total == 2 * charge

    def test_by_the_provider_itself(self) -> None:
        receipt = next_receipt(CHANNEL, AFTER_FIRST, SECOND, run_of(10))
        answer = CallAnswer(signed_by(PROVIDER.key, receipt), GPUS)
        assert check(answer, operator_keys=()).signed_by == PROVIDER.address

    def test_of_a_worker_that_shares_its_cards(self) -> None:
        run = run_of(10, gpu_ids=(), gpu_ms=1)
        checked = check(
            answer_of(SECOND, run, AFTER_FIRST), limits=replace(LIMITS, exclusive=False)
        )
        assert checked.signed.receipt.gpu_set == ZERO_DIGEST
        assert checked.charge == 5 + 10 + 1

    def test_with_samples_of_the_meter(self) -> None:
        run = run_of(10, samples=(UsageSample(NOW_MS, "GPU-1", 0), UsageSample(NOW_MS, "GPU-2", 1)))
        assert check(answer_of(SECOND, run, AFTER_FIRST)).charge == 5 + 10 + 366 * 20

    def test_of_a_run_to_the_very_last_millisecond(self) -> None:
        check(answer_of(SECOND, run_of(60), AFTER_FIRST), waited=Waited(NOW_MS, NOW_MS + 60_000))


# One lie a field, told by the provider itself: its signature is good. (51, 105)
LIES: list[tuple[str, dict[str, Any]]] = [
    ("provider", {"provider": STRANGER.address}),
    ("route", {"route": digest_of_word(5)}),
    ("seq", {"seq": 3}),
    ("seq", {"seq": 1}),
    ("prev", {"prev": digest_of_word(6)}),
    ("prev", {"prev": ZERO_DIGEST}),
    ("request", {"request": request_digest(request_of(1))}),
    ("result", {"result": digest_of(b"something else")}),
    ("started_at_ms", {"started_at_ms": WAITED.asked_at_ms - CLOCK_MARGIN_MS - 1}),
    ("ended_at_ms", {"ended_at_ms": NOW_MS - 1}),
    ("ended_at_ms", {"ended_at_ms": NOW_MS + 10_101 + WAIT_MARGIN_MS}),
    ("ended_at_ms", {"started_at_ms": NOW_MS + CLOCK_MARGIN_MS, "ended_at_ms": 2**63}),
    ("calls", {"calls": 0}),
    ("calls", {"calls": 2}),
    ("gpu_ms", {"gpu_ms": 20_001}),
    ("gpu_ms", {"ended_at_ms": NOW_MS + 9_999}),
    ("gpu_set", {"gpu_set": ZERO_DIGEST}),
    ("gpu_set", {"gpu_set": digest_of_word(7)}),
    ("usage_root", {"usage_root": digest_of_word(8)}),
    ("total", {"total": AFTER_FIRST.total + 5 + 10 + 366 * 20 + 1}),
    ("total", {"total": AFTER_FIRST.total + 5 + 10 + 366 * 20 - 1}),
    ("total", {"total": AFTER_FIRST.total - 1}),
    ("total", {"total": 0}),
    ("total", {"gpu_ms": 19_990}),
]


class TestLies:
    @pytest.mark.parametrize(("field", "lie"), LIES, ids=[f"{field}: {lie}" for field, lie in LIES])
    def test_each_is_refused_by_its_name(self, field: str, lie: dict[str, Any]) -> None:
        problem = refused(answer_of(SECOND, run_of(10), AFTER_FIRST, **lie))
        assert problem.field == field
        assert str(problem.expected) in str(problem)
        assert str(problem.found) in str(problem)

    def test_there_is_one_for_every_field(self) -> None:
        assert {field for field, _ in LIES} == {field.name for field in fields(Receipt)}

    def test_a_price_that_is_not_the_registry_s_in_that_second(self) -> None:
        dearer = replace(
            APP.versions[0],
            prices=(*APP.versions[0].prices, PricePoint(NOW_S, replace(PRICE, fee_per_call=11))),
        )
        answer = answer_of(SECOND, run_of(10), AFTER_FIRST)
        assert refused(answer, app=replace(APP, versions=(dearer,))).field == "price"

    @pytest.mark.parametrize(
        "change",
        [{"app_id": digest_of_word(9)}, {"retired_at_s": NOW_S}, {"versions": ()}],
        ids=["another app", "a retired app", "a version that is not there"],
    )
    def test_a_price_there_is_none_of(self, change: dict[str, Any]) -> None:
        answer = answer_of(SECOND, run_of(10), AFTER_FIRST)
        assert refused(answer, app=replace(APP, **change)).field == "price"

    def test_longer_than_its_caller_waited(self) -> None:
        answer = answer_of(SECOND, run_of(30), AFTER_FIRST)
        quick = Waited(NOW_MS, NOW_MS + 30_000 - WAIT_MARGIN_MS - 1)
        assert refused(answer, waited=quick).field == "ended_at_ms"
        check(answer, waited=replace(quick, answered_at_ms=quick.answered_at_ms + 1))

    def test_longer_than_it_was_asked_for(self) -> None:
        long = Waited(NOW_MS, NOW_MS + 100_000)
        short = replace(SECOND, max_seconds=10)
        check(answer_of(short, run_of(10), AFTER_FIRST), request=short, waited=long)
        late = answer_of(short, run_of(10, ended_at_ms=NOW_MS + 10_001), AFTER_FIRST)
        assert refused(late, request=short, waited=long).field == "ended_at_ms"

    def test_a_clock_that_is_a_little_wrong_is_no_lie(self) -> None:
        """Case 102: the provider's clock is off; how long the call took is not."""
        for off_ms in (-CLOCK_MARGIN_MS, CLOCK_MARGIN_MS):
            run = run_of(10, started_at_ms=NOW_MS + off_ms, ended_at_ms=NOW_MS + 10_000 + off_ms)
            history = replace(APP.versions[0], prices=(PricePoint(NOW_S - CLOCK_MARGIN_MS, PRICE),))
            check(answer_of(SECOND, run, AFTER_FIRST), app=replace(APP, versions=(history,)))

    @pytest.mark.parametrize(
        "gpu_ids", [(), ("GPU-1",), ("GPU-1", "GPU-1"), ("GPU-1", "GPU-3"), ("GPU-1", "")], ids=str
    )
    def test_other_cards_than_those_of_the_set(self, gpu_ids: tuple[str, ...]) -> None:
        honest = answer_of(SECOND, run_of(10), AFTER_FIRST)
        assert refused(replace(honest, gpu_ids=gpu_ids)).field == "gpu_set"

    def test_more_cards_than_the_version_has(self) -> None:
        run = run_of(10, gpu_ids=(*GPUS, "GPU-3"), gpu_ms=30_000)
        assert refused(answer_of(SECOND, run, AFTER_FIRST)).field == "gpu_ms"

    @pytest.mark.parametrize("samples", [(UsageSample(NOW_MS, "GPU-1", 1),) * 2, "of another run"])
    def test_samples_that_the_root_is_not_of(self, samples: Any) -> None:
        others = (UsageSample(NOW_MS, "GPU-1", 5),) if isinstance(samples, str) else samples
        honest = answer_of(SECOND, run_of(10), AFTER_FIRST)
        assert refused(replace(honest, samples=others)).field == "usage_root"

    def test_a_total_beyond_every_amount(self) -> None:
        brim = replace(AFTER_FIRST, total=UINT128_MAX)
        answer = answer_of(SECOND, run_of(10), brim, total=UINT128_MAX)
        assert refused(answer, last=brim).field == "total"
        with pytest.raises(ProtocolError):
            answer_of(SECOND, run_of(10), brim)


class TestWhoSigned:
    """Case 120: a key that is not the provider's."""

    RECEIPT = next_receipt(CHANNEL, AFTER_FIRST, SECOND, run_of(10))

    def test_not_a_stranger(self) -> None:
        answer = CallAnswer(signed_by(STRANGER.key, self.RECEIPT), GPUS)
        assert refused(answer).field == "signature"

    def test_not_an_operator_key_of_somebody_else(self) -> None:
        answer = CallAnswer(signed_by(OPERATOR.key, self.RECEIPT), GPUS)
        assert refused(answer, operator_keys={STRANGER.address}).field == "signature"

    def test_not_for_another_deployment(self) -> None:
        elsewhere = messages.sign(Domain(1, DOMAIN.escrow), self.RECEIPT, OPERATOR.key)
        answer = CallAnswer(SignedReceipt(self.RECEIPT, elsewhere), GPUS)
        assert refused(answer).field == "signature"

    @pytest.mark.parametrize("signature", ["0x", "0x" + "00" * 65, "0x" + "ff" * 65, "rubbish"])
    def test_not_nobody(self, signature: str) -> None:
        assert refused(CallAnswer(SignedReceipt(self.RECEIPT, signature), GPUS)).field == (
            "signature"
        )

    @pytest.mark.parametrize("field", fields(Receipt), ids=lambda field: field.name)
    @given(data=st.data())
    @settings(max_examples=20)
    def test_no_field_changes_behind_a_signature(self, field: Any, data: st.DataObject) -> None:
        """Case 39: whatever one field becomes, the receipt is refused."""
        present = getattr(self.RECEIPT, field.name)
        if isinstance(present, int):
            bits = 128 if field.name == "total" else 64
            drawn: Any = data.draw(st.integers(0, 2**bits - 1))
        else:
            size = (len(present) - 2) // 2
            drawn = "0x" + data.draw(st.binary(min_size=size, max_size=size)).hex()
        if drawn == present:
            return
        honest = messages.sign(DOMAIN, self.RECEIPT, OPERATOR.key)
        tampered = replace(self.RECEIPT, **{field.name: drawn})
        problem = refused(CallAnswer(SignedReceipt(tampered, honest), GPUS))
        follows = {
            "started_at_ms": {"started_at_ms", "ended_at_ms", "price", "gpu_ms", "signature"},
            "ended_at_ms": {"ended_at_ms", "gpu_ms", "signature"},
            "gpu_ms": {"gpu_ms", "total", "signature"},
        }
        assert problem.field in follows.get(field.name, {field.name})

    @pytest.mark.parametrize(
        "values", [{"total": -1}, {"seq": 2**64}, {"result": "0x12"}, {"calls": True}], ids=str
    )
    def test_no_value_that_does_not_fit_its_type(self, values: dict[str, Any]) -> None:
        misfit = replace(self.RECEIPT, **values)
        answer = CallAnswer(SignedReceipt(misfit, "0x" + "11" * 65), GPUS)
        assert refused(answer).field == "form"


def test_an_answer_comes_back_from_its_body() -> None:
    run = run_of(10, samples=(UsageSample(NOW_MS, "GPU-1", None), UsageSample(NOW_MS, "GPU-2", 3)))
    answer = answer_of(SECOND, run, AFTER_FIRST)
    body = answer.to_body(number=2, call_id=SECOND.call_id, balance=17)
    again = type(body).model_validate_json(body.model_dump_json())
    assert CallAnswer.from_body(again) == answer
    assert (again.balance, again.result) == (17, Digest(RESULT))


def test_a_price_in_millionths_is_what_people_read() -> None:
    """Ten seconds at 0.000366 are 0.003660 of a token with six decimals."""
    charge = call_charge_up(Price(rate_per_gpu_second=366), 1, 10_000)
    assert Decimal(charge) / MILLION == Decimal("0.003660")
