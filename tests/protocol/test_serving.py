"""The provider's end: it serves while it is sure to be paid, and signs each place once.

Security cases 30, 34, 36, 37, 42, 43, 44, 45, 50, 51 and 95.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import messages
from tallystick.protocol.apps import PricePoint
from tallystick.protocol.call_journal import Abandoned, Opened, Served, VoucherTaken
from tallystick.protocol.calls import CallRequest, Link, ceiling_up
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.errors import ChannelAbandoned, MessageError, ReceiptRefused
from tallystick.protocol.messages import Domain
from tallystick.protocol.pricing import Price
from tallystick.protocol.serving import Ask, Go, Refusal, ServingChannel, ServingStep
from tallystick.protocol.types import ZERO_DIGEST
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    LIMITS,
    NOW_MS,
    NOW_S,
    PRICE,
    RESULT,
    SESSION,
    funded,
    provider_end,
    request_of,
    run_of,
    sign_receipt,
    sign_voucher,
)
from tests.support.anvil import CONSUMER, STRANGER, digest_of_word

CEILING = ceiling_up(request_of(), LIMITS)
CHARGE = 5 + 10 + 366 * 20


def ask_of(
    number: int, held: Link | None = None, request: CallRequest | None = None, **more: Any
) -> Ask:
    return Ask(number, request or request_of(number), held or Link(), **more)


def asked(end: ServingChannel, ask: Ask) -> ServingStep:
    return end.may_serve(ask, LIMITS, APP, now_ms=NOW_MS)


def begun(end: ServingChannel, number: int = 1, **more: Any) -> ServingChannel:
    step = asked(end, ask_of(number, end.paid, **more))
    assert isinstance(step.reply, Go), step.reply
    return step.channel


def served(end: ServingChannel, number: int = 1) -> ServingStep:
    return begun(end, number).serve(number, run_of(), APP, sign_receipt)


def voucher_for(end: ServingChannel, place: int = -1, **changes: Any) -> SignedVoucher:
    link = end.unpaid[place].link
    voucher = replace(CHANNEL.voucher(link.total, link.digest), **changes)
    return SignedVoucher(voucher, sign_voucher(voucher))


def paid(end: ServingChannel, number: int = 1) -> ServingChannel:
    done = served(end, number).channel
    return done.accept_voucher(voucher_for(done)).channel


def code_of(step: ServingStep) -> str:
    assert isinstance(step.reply, Refusal)
    return step.reply.code


class TestARound:
    def test_request_receipt_voucher(self) -> None:
        end = provider_end()
        step = served(end)
        assert isinstance(step.reply, Served)
        assert step.records == (step.reply,)
        receipt = step.reply.receipt
        assert (receipt.seq, receipt.prev, receipt.total) == (1, ZERO_DIGEST, CHARGE)
        assert step.channel.at_risk == CHARGE
        taken = step.channel.accept_voucher(voucher_for(step.channel))
        assert isinstance(taken.records[0], VoucherTaken)
        assert taken.channel.at_risk == 0
        assert taken.channel.paid.total == CHARGE
        assert taken.channel.balance == 1_000_000 - CHARGE

    def test_receipts_follow_each_other_and_totals_never_fall(self) -> None:
        end = provider_end()
        links = []
        for number in range(1, 5):
            end = paid(end, number)
            links.append(end.paid)
        assert [link.seq for link in links] == [1, 2, 3, 4]
        assert [link.total for link in links] == [CHARGE * n for n in (1, 2, 3, 4)]

    def test_a_free_call_has_a_receipt_and_a_voucher_too(self) -> None:
        free = replace(APP.versions[0], prices=(PricePoint(NOW_S - 100, Price()),))
        app = replace(APP, versions=(free,))
        request = request_of(1, price=Price())
        step = provider_end(funded(0)).may_serve(
            ask_of(1, request=request), LIMITS, app, now_ms=NOW_MS
        )
        done = step.channel.serve(1, run_of(), app, sign_receipt).channel
        assert done.accept_voucher(voucher_for(done)).channel.paid.seq == 1

    def test_a_request_comes_back_from_its_body(self) -> None:
        end = paid(provider_end())
        ask = ask_of(2, replace(end.paid, total=0), voucher=end.voucher)
        body = ask.to_body(CHANNEL)
        assert Ask.from_body(type(body).model_validate_json(body.model_dump_json())) == ask
        assert Ask.from_body(ask_of(1).to_body(CHANNEL)) == ask_of(1)

    def test_a_refusal_comes_back_from_its_body(self) -> None:
        refusal = asked(served(provider_end()).channel, ask_of(2)).reply
        assert isinstance(refusal, Refusal)
        body = refusal.to_body()
        assert Refusal.from_body(type(body).model_validate_json(body.model_dump_json())) == refusal


class TestTheSameAgain:
    """Case 95: one answer, however often it is asked for."""

    def test_while_it_runs(self) -> None:
        end = begun(provider_end())
        step = asked(end, ask_of(1))
        assert code_of(step) == "in_flight"
        assert step.channel == end

    def test_an_answer_that_was_lost(self) -> None:
        done = served(provider_end())
        step = asked(done.channel, ask_of(1))
        assert step.reply == done.reply
        assert (step.channel, step.records) == (done.channel, ())

    def test_also_after_it_was_paid_for(self) -> None:
        done = served(provider_end())
        end = done.channel.accept_voucher(voucher_for(done.channel)).channel
        assert asked(end, ask_of(1)).reply == done.reply
        assert end.again(1) == done.reply
        assert end.again(2) is None

    def test_also_under_a_new_number(self) -> None:
        """One call is served once on a channel, whatever its caller lost meanwhile."""
        done = served(provider_end())
        assert asked(done.channel, ask_of(7, request=request_of(1))).reply == done.reply

    def test_an_older_request_never_runs_again(self) -> None:
        end = paid(paid(provider_end(), 1), 2)
        assert code_of(asked(end, ask_of(1))) == "stale"

    def test_nor_one_that_failed(self) -> None:
        end = begun(provider_end()).failed(1)
        assert end.at_risk == 0
        assert code_of(asked(end, ask_of(1))) == "stale"
        assert isinstance(asked(end, ask_of(2, request=request_of(1))).reply, Go)

    def test_a_voucher_twice_or_late(self) -> None:
        """Case 34: the same one pays nothing more, an older one nothing at all."""
        first = served(provider_end()).channel
        early = voucher_for(first)
        second = served(first.accept_voucher(early).channel, 2).channel
        late = voucher_for(second)
        end = second.accept_voucher(late).channel
        for again in (early, late, early):
            assert end.accept_voucher(again) == ServingStep(end)

    def test_a_voucher_that_is_known_costs_no_second_look(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It comes by itself and with every request that was on its way meanwhile."""
        looks: list[str] = []
        recover = messages.recover

        def counted(domain: Domain, message: Any, signature: str) -> Any:
            looks.append(signature)
            return recover(domain, message, signature)

        monkeypatch.setattr(messages, "recover", counted)
        first = served(provider_end(), 1).channel
        early = voucher_for(first)
        end = served(first.accept_voucher(early).channel, 2).channel
        late = voucher_for(end)
        end = end.accept_voucher(late).channel
        for again in (late, early, late, early):
            end = end.accept_voucher(again).channel
        assert len(looks) <= 2
        forged = SignedVoucher(late.voucher, early.signature)
        for _ in range(2):
            assert code_of(end.accept_voucher(forged)) == "voucher"

    def test_a_lost_voucher_comes_with_the_next_request(self) -> None:
        done = served(provider_end()).channel
        voucher = voucher_for(done)
        step = asked(done, ask_of(2, done.last, voucher=voucher))
        assert isinstance(step.reply, Go)
        assert step.records == (VoucherTaken(voucher),)
        assert step.channel.paid == done.last


class TestAtMostOneCallAtRisk:
    def test_no_second_call_before_the_first_is_paid(self) -> None:
        done = served(provider_end()).channel
        step = asked(done, ask_of(2))
        assert code_of(step) == "unpaid"
        assert isinstance(step.reply, Refusal)
        assert step.reply.receipt == done.unpaid[0].served.answer.signed

    def test_nor_beside_it(self) -> None:
        assert code_of(asked(begun(provider_end()), ask_of(2))) == "in_flight"

    def test_or_as_many_as_the_credit_says(self) -> None:
        end = begun(begun(provider_end(credit_calls=3), 1), 2)
        end = end.serve(2, run_of(), APP, sign_receipt).channel
        end = begun(end, 3)
        assert code_of(asked(end, ask_of(4))) == "unpaid"
        assert end.at_risk == CHARGE + 2 * CEILING

    def test_one_voucher_pays_for_all_receipts_before_it(self) -> None:
        end = begun(begun(provider_end(credit_calls=2), 1), 2)
        for number in (2, 1):
            end = end.serve(number, run_of(), APP, sign_receipt).channel
        assert [place.served.number for place in end.unpaid] == [2, 1]
        end = end.accept_voucher(voucher_for(end)).channel
        assert (end.unpaid, end.at_risk, end.paid.total) == ((), 0, 2 * CHARGE)

    def test_a_voucher_on_its_way_is_no_payer_that_is_behind(self) -> None:
        end = begun(begun(provider_end(credit_calls=2), 1), 2)
        end = end.serve(1, run_of(), APP, sign_receipt).channel
        end = end.accept_voucher(voucher_for(end)).channel
        end = end.serve(2, run_of(), APP, sign_receipt).channel
        assert isinstance(asked(end, ask_of(3, Link())).reply, Go)


class TestTheDeposit:
    def test_has_to_cover_the_most_that_the_call_can_cost(self) -> None:
        """Case 45: what is promised to one call is not promised to another."""
        assert code_of(asked(provider_end(funded(CEILING - 1)), ask_of(1))) == "paused_funds"
        end = begun(provider_end(funded(2 * CEILING - 1), credit_calls=2))
        assert code_of(asked(end, ask_of(2))) == "paused_funds"

    def test_a_top_up_resumes_with_the_same_request(self) -> None:
        """Case 43: the same voucher is good for what was paid in later."""
        end = provider_end(funded(CEILING - 1))
        paused = asked(end, ask_of(1)).channel
        assert isinstance(asked(paused.observe(funded(CEILING)).channel, ask_of(1)).reply, Go)

    def test_that_shrinks_stops_the_next_call(self) -> None:
        end = paid(provider_end())
        less = end.observe(funded(CHARGE)).channel
        assert (less.balance, code_of(asked(less, ask_of(2, less.paid)))) == (0, "paused_funds")

    def test_never_pays_beyond_an_amount(self) -> None:
        end = provider_end(funded(2**128 - 1))
        dear = replace(PRICE, flat=2**128 - 1 - 10 - 366 * 120)
        app = replace(APP, versions=(replace(APP.versions[0], prices=(PricePoint(0, dear),)),))
        first = end.may_serve(
            ask_of(1, request=request_of(1, price=dear)), LIMITS, app, now_ms=NOW_MS
        )
        done = first.channel.serve(1, run_of(), app, sign_receipt).channel
        end = done.accept_voucher(voucher_for(done)).channel
        again = end.may_serve(
            ask_of(2, end.paid, request_of(2, price=dear)), LIMITS, app, now_ms=NOW_MS
        )
        assert code_of(again) == "paused_funds"


class TestWhatIsNotServed:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"price": replace(PRICE, flat=4)}, "price_changed"),
            ({"app_id": digest_of_word(9)}, "unknown_app"),
            ({"version": 2}, "unknown_app"),
            ({"max_seconds": 61}, "too_long"),
            ({"max_seconds": 0}, "too_long"),
        ],
    )
    def test_another_price_app_version_or_time(self, change: dict[str, Any], code: str) -> None:
        step = asked(provider_end(), ask_of(1, request=request_of(1, **change)))
        assert (code_of(step), step.channel) == (code, provider_end())

    def test_a_call_that_started_at_another_price(self) -> None:
        """Case 30: the price of the second in which it starts, at its edge."""
        dearer = PricePoint(NOW_S + 1, replace(PRICE, flat=6))
        version = replace(APP.versions[0], prices=(*APP.versions[0].prices, dearer))
        app = replace(APP, versions=(version,))
        end = begun(provider_end())
        edge = run_of(1, started_at_ms=NOW_MS + 999, ended_at_ms=NOW_MS + 1_999)
        assert end.serve(1, edge, app, sign_receipt).records
        late = run_of(1, started_at_ms=NOW_MS + 1_000, ended_at_ms=NOW_MS + 2_000)
        with pytest.raises(ReceiptRefused, match="price"):
            end.serve(1, late, app, sign_receipt)

    @pytest.mark.parametrize(
        ("run", "field"),
        [
            (run_of(61), "ended_at_ms"),
            (run_of(ended_at_ms=NOW_MS - 1), "ended_at_ms"),
            (run_of(gpu_ms=20_001), "gpu_ms"),
            (run_of(gpu_ids=("GPU-1",)), "gpu_set"),
        ],
        ids=["too long", "backwards", "too much time", "other cards"],
    )
    def test_it_signs_nothing_that_a_payer_would_refuse(self, run: Any, field: str) -> None:
        with pytest.raises(ReceiptRefused) as caught:
            begun(provider_end()).serve(1, run, APP, sign_receipt)
        assert caught.value.field == field

    def test_a_call_that_was_not_begun(self) -> None:
        with pytest.raises(MessageError, match="not being run"):
            provider_end().serve(1, run_of(), APP, sign_receipt)


class TestVouchers:
    """Cases 36, 37 and 42: judged as the escrow would."""

    END = served(provider_end()).channel

    @pytest.mark.parametrize(
        "changes",
        [
            {"payer": STRANGER.address},
            {"provider": STRANGER.address},
            {"salt": 8},
            {"total": CHARGE - 1},
            {"total": CHARGE + 1},
            {"total": 0},
        ],
        ids=str,
    )
    def test_of_another_channel_or_sum_are_refused(self, changes: dict[str, Any]) -> None:
        step = self.END.accept_voucher(voucher_for(self.END, **changes))
        assert code_of(step) == "voucher"
        assert next(iter(changes)) in str(step.reply)
        assert (step.channel, step.records) == (self.END, ())

    @pytest.mark.parametrize("key", [STRANGER.key, CONSUMER.key], ids=["stranger", "payer"])
    def test_by_anybody_but_the_signer_are_refused(self, key: str) -> None:
        voucher = voucher_for(self.END).voucher
        forged = SignedVoucher(voucher, messages.sign(DOMAIN, voucher, key))
        assert code_of(self.END.accept_voucher(forged)) == "voucher"

    @pytest.mark.parametrize("signature", ["0x", "0x" + "00" * 65, "0x" + "ff" * 65])
    def test_by_nobody_are_refused(self, signature: str) -> None:
        voucher = voucher_for(self.END).voucher
        assert code_of(self.END.accept_voucher(SignedVoucher(voucher, signature))) == "voucher"

    def test_for_another_deployment_are_refused(self) -> None:
        voucher = voucher_for(self.END).voucher
        elsewhere = messages.sign(Domain(1, DOMAIN.escrow), voucher, SESSION.key)
        assert code_of(self.END.accept_voucher(SignedVoucher(voucher, elsewhere))) == "voucher"

    def test_a_bad_one_with_a_request_stops_the_request(self) -> None:
        forged = SignedVoucher(voucher_for(self.END).voucher, "0x" + "11" * 65)
        step = asked(self.END, ask_of(2, self.END.last, voucher=forged))
        assert code_of(step) == "voucher"
        assert isinstance(step.reply, Refusal)
        assert step.reply.number == 2


class TestAJournalThatIsBehind:
    """Case 50. Nothing more is signed on the channel; what was, stays good."""

    def test_a_channel_from_before_the_journal_is_not_opened(self) -> None:
        for funded_at_s, sound in ((NOW_S, True), (NOW_S - 1, False)):
            open_it: dict[str, Any] = {
                "funded_at_s": funded_at_s,
                "journal_since_s": NOW_S,
                "now_s": NOW_S,
            }
            if sound:
                step = ServingChannel.opened(DOMAIN, CHANNEL, funded(), **open_it)
                assert step.records == (Opened(CHANNEL, NOW_S),)
            else:
                with pytest.raises(ChannelAbandoned, match="a new salt"):
                    ServingChannel.opened(DOMAIN, CHANNEL, funded(), **open_it)

    def test_nor_one_on_which_something_was_redeemed(self) -> None:
        with pytest.raises(ChannelAbandoned, match="1 was redeemed"):
            provider_end(funded(claimed=1))

    @pytest.mark.parametrize("seq", [1, 2])
    def test_shown_by_the_receipt_that_the_payer_holds(self, seq: int) -> None:
        step = asked(provider_end(), ask_of(3, Link(seq, digest_of_word(5), 1)))
        assert code_of(step) == "new_salt"
        assert isinstance(step.records[0], Abandoned)
        assert code_of(asked(step.channel, ask_of(4))) == "new_salt"

    def test_shown_by_another_receipt_in_that_place(self) -> None:
        end = paid(provider_end())
        other = replace(end.paid, digest=digest_of_word(5))
        assert code_of(asked(end, ask_of(2, other))) == "new_salt"

    def test_shown_by_a_voucher_which_is_kept(self) -> None:
        ahead = CHANNEL.voucher(10 * CHARGE, digest_of_word(5))
        signed = SignedVoucher(ahead, sign_voucher(ahead))
        step = served(provider_end()).channel.accept_voucher(signed)
        assert code_of(step) == "new_salt"
        end = step.channel
        assert end.voucher == signed
        rebuilt = ServingChannel.rebuilt(DOMAIN, funded(), (Opened(CHANNEL, NOW_S), *step.records))
        assert rebuilt.channel.voucher == signed
        due = {"threshold_k": 10**9, "redemption_cost": 10**9, "deposit_share_bps": 10_000}
        assert end.redeem_due(**due) == "abandoned"
        # A lower one for a receipt that is known is good still, and worth less.
        assert end.accept_voucher(voucher_for(end)).channel.voucher == signed

    def test_shown_by_what_was_redeemed(self) -> None:
        end = paid(provider_end())
        assert end.observe(funded(claimed=CHARGE)).records == ()
        behind = end.observe(funded(claimed=CHARGE + 1))
        assert code_of(behind) == "new_salt"
        assert behind.channel.observe(funded(claimed=CHARGE + 2)).records == ()

    def test_a_voucher_that_the_payer_redeemed_itself_is_no_sign(self) -> None:
        done = served(provider_end()).channel
        assert done.observe(funded(claimed=CHARGE)).reply is None

    def test_a_run_that_ends_after_that_is_not_signed_for(self) -> None:
        end = begun(provider_end()).observe(funded(claimed=1)).channel
        assert (end.running, end.at_risk) == ((), 0)
        with pytest.raises(ChannelAbandoned, match="new salt"):
            end.serve(1, run_of(), APP, sign_receipt)

    def test_a_payer_that_is_behind_runs_nothing(self) -> None:
        end = paid(paid(provider_end(), 1), 2)
        step = asked(end, ask_of(9, Link()))
        assert code_of(step) == "stale"
        assert isinstance(step.reply, Refusal)
        assert step.reply.voucher == end.voucher
        assert not step.channel.abandoned


class TestClosing:
    """Case 44: the payer leaves."""

    CLOSING = funded(close_at=NOW_S + 3 * 86_400)

    def test_stops_serving(self) -> None:
        end = provider_end().observe(self.CLOSING).channel
        assert code_of(asked(end, ask_of(1))) == "closing"

    def test_a_cancelled_close_resumes(self) -> None:
        end = provider_end().observe(self.CLOSING).channel.observe(funded()).channel
        assert isinstance(asked(end, ask_of(1)).reply, Go)

    def test_what_runs_is_finished_paid_and_redeemed_at_once(self) -> None:
        end = begun(provider_end()).observe(self.CLOSING).channel
        done = end.serve(1, run_of(), APP, sign_receipt).channel
        end = done.accept_voucher(voucher_for(done)).channel
        never = {"threshold_k": 10**9, "redemption_cost": 10**9, "deposit_share_bps": 10_000}
        assert end.redeem_due(**never) == "closing"
        redeemed = end.observe(replace(self.CLOSING, claimed=CHARGE)).channel
        assert redeemed.redeem_due(**never) is None


class TestRedeeming:
    END = paid(provider_end())

    @pytest.mark.parametrize(
        ("threshold_k", "cost", "share_bps", "reason"),
        [
            pytest.param(10, CHARGE // 10 - 1, 10_000, "threshold", id="above k times the cost"),
            pytest.param(1, CHARGE, 10_000, None, id="at the cost is not above it"),
            pytest.param(10**6, 10**6, 73, "deposit_share", id="above a share of the deposit"),
            pytest.param(10**6, 10**6, 74, None, id="below it"),
        ],
    )
    def test_is_due(self, threshold_k: int, cost: int, share_bps: int, reason: str | None) -> None:
        assert (
            self.END.redeem_due(
                threshold_k=threshold_k, redemption_cost=cost, deposit_share_bps=share_bps
            )
            == reason
        )

    def test_nothing_is_due_without_a_voucher_or_twice(self) -> None:
        greedy = {"threshold_k": 0, "redemption_cost": 0, "deposit_share_bps": 0}
        assert provider_end().redeem_due(**greedy) is None
        assert self.END.redeem_due(**greedy) == "threshold"
        assert self.END.observe(funded(claimed=CHARGE)).channel.redeem_due(**greedy) is None

    def test_at_the_share_is_not_above_it(self) -> None:
        tenfold = self.END.observe(funded(10 * CHARGE)).channel
        for share_bps, reason in ((1_000, None), (999, "deposit_share")):
            assert reason == tenfold.redeem_due(
                threshold_k=10**6, redemption_cost=10**6, deposit_share_bps=share_bps
            )

    def test_no_more_than_the_deposit(self) -> None:
        short = self.END.observe(funded(100, claimed=100)).channel
        assert short.redeem_due(threshold_k=0, redemption_cost=0, deposit_share_bps=0) is None


class TestAfterACrash:
    def test_the_records_bring_the_same_end_back(self) -> None:
        done = served(provider_end())
        records: list[Any] = [Opened(CHANNEL, NOW_S), *done.records]
        taken = done.channel.accept_voucher(voucher_for(done.channel))
        records += taken.records
        assert ServingChannel.rebuilt(DOMAIN, funded(), records) == ServingStep(taken.channel)

    def test_what_ran_is_forgotten_and_may_run_again(self) -> None:
        begun(provider_end())
        end = ServingChannel.rebuilt(DOMAIN, funded(), [Opened(CHANNEL, NOW_S)]).channel
        assert isinstance(asked(end, ask_of(1)).reply, Go)

    def test_a_checkpoint_brings_the_same_end_back(self) -> None:
        """With one place paid, two unpaid, and a call that runs and may come again."""
        end = paid(provider_end(credit_calls=4))
        for number in (2, 3, 4):
            end = begun(end, number)
        for number in (3, 2):
            end = end.serve(number, run_of(), APP, sign_receipt).channel
        again = ServingChannel.rebuilt(DOMAIN, funded(), [end.checkpoint()], credit_calls=4).channel
        assert again == replace(end, running=(), number=3)
        assert again.checkpoint() == end.checkpoint()
        assert isinstance(asked(again, ask_of(4, again.paid)).reply, Go)
        assert asked(again, ask_of(3, again.paid)).reply == end.again(2)
        later = served(again.accept_voucher(voucher_for(again)).channel, 5)
        records = [end.checkpoint(), VoucherTaken(voucher_for(end)), *later.records]
        rebuilt = ServingChannel.rebuilt(DOMAIN, funded(), records, credit_calls=4).channel
        assert rebuilt == later.channel

    def test_a_checkpoint_of_a_channel_that_is_over(self) -> None:
        end = paid(provider_end()).observe(funded(claimed=CHARGE + 1)).channel
        again = ServingChannel.rebuilt(DOMAIN, funded(), [end.checkpoint()]).channel
        assert again == replace(end, chain=funded())
        late = ServingChannel.rebuilt(
            DOMAIN, funded(), [paid(provider_end()).checkpoint()], journal_since_s=NOW_S + 1
        )
        assert code_of(late) == "new_salt"

    def test_a_checkpoint_that_does_not_fit_together_is_not_read(self) -> None:
        end = served(paid(provider_end()), 2).channel
        good = end.checkpoint()
        assert good.voucher is not None
        wrong = (
            replace(good, unpaid=(*good.unpaid, *good.unpaid)),
            replace(good, paid=None),
            replace(good, voucher=None),
            replace(good, voucher=voucher_for(end)),
        )
        for checkpoint in wrong:
            with pytest.raises(MessageError, match="not whole"):
                ServingChannel.rebuilt(DOMAIN, funded(), [checkpoint])

    def test_a_copy_of_the_journal_signs_nothing_more(self) -> None:
        step = ServingChannel.rebuilt(
            DOMAIN, funded(), [Opened(CHANNEL, NOW_S)], journal_since_s=NOW_S + 1
        )
        assert code_of(step) == "new_salt"
        assert len(step.records) == 1

    def test_a_journal_with_a_hole_is_not_read(self) -> None:
        first = served(provider_end())
        second = served(first.channel.accept_voucher(voucher_for(first.channel)).channel, 2)
        opened = Opened(CHANNEL, NOW_S)
        holes: tuple[list[Any], ...] = (
            [opened, *second.records],
            [opened, VoucherTaken(voucher_for(first.channel))],
        )
        for records in holes:
            with pytest.raises(MessageError, match="not whole"):
                ServingChannel.rebuilt(DOMAIN, funded(), records)

    @pytest.mark.parametrize(
        ("records", "text"),
        [
            ([], "no records"),
            ([Abandoned("x")], "begin with Opened"),
            ([Opened(CHANNEL, 1), Opened(CHANNEL, 1)], "twice"),
            ([Opened(CHANNEL, 1), provider_end().checkpoint()], "twice"),
        ],
    )
    def test_a_journal_begins_once(self, records: list[Any], text: str) -> None:
        with pytest.raises(MessageError, match=text):
            ServingChannel.rebuilt(DOMAIN, funded(), records)


def test_the_result_is_the_provider_s_to_keep_until_it_is_paid() -> None:
    """The answer that comes again names the same result."""
    done = served(provider_end())
    again = asked(done.channel, ask_of(1)).reply
    assert isinstance(again, Served)
    assert again.receipt.result == RESULT
