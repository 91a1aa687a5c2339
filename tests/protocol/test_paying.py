"""The payer's end: each place in the chain of receipts is signed for once, or not at all.

Security cases 34, 39, 41, 43, 50 and 51.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tallystick.protocol import evidence, messages
from tallystick.protocol.call_journal import (
    Abandoned,
    Accepted,
    Asked,
    GivenUp,
    Opened,
    VoucherSigned,
)
from tallystick.protocol.calls import CallAnswer, ceiling_up, next_receipt
from tallystick.protocol.channels import SignedReceipt, SignedVoucher
from tallystick.protocol.errors import (
    ChannelAbandoned,
    ChannelClosing,
    MessageError,
    PausedFunds,
    ReceiptRefused,
    TooManyCalls,
)
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.paying import PayingChannel, PayingStep
from tallystick.protocol.serving import Ask, Refusal
from tests.protocol.calling import (
    APP,
    CHANNEL,
    DOMAIN,
    GPUS,
    LIMITS,
    NOW_MS,
    NOW_S,
    OPERATORS,
    RESULT,
    SESSION,
    answer_of,
    funded,
    link_of,
    payer_end,
    request_of,
    run_of,
    sign_voucher,
    signed_by,
)
from tests.support.anvil import PROVIDER, STRANGER, digest_of_word

CEILING = ceiling_up(request_of(), LIMITS)
CHARGE = 5 + 10 + 366 * 20


def ask(end: PayingChannel, word: int = 1) -> PayingStep:
    return end.ask(request_of(word), LIMITS, now_ms=NOW_MS)


def take(end: PayingChannel, answer: CallAnswer, **changes: Any) -> PayingStep:
    given: dict[str, Any] = {
        "result": RESULT,
        "limits": LIMITS,
        "app": APP,
        "operator_keys": OPERATORS,
        "now_ms": NOW_MS + 10_100,
        "sign": sign_voucher,
    }
    return end.take(answer, **{**given, **changes})


def answered(end: PayingChannel, word: int = 1) -> tuple[PayingStep, CallAnswer]:
    asked = ask(end, word).channel
    answer = answer_of(request_of(word), run_of(), end.held)
    return take(asked, answer), answer


class TestARound:
    def test_request_receipt_voucher(self) -> None:
        asked = ask(payer_end())
        assert asked.reply == Ask(1, request_of(1), payer_end().held, None)
        assert asked.records == (Asked(1, request_of(1), CEILING, NOW_MS),)
        assert asked.channel.balance == 1_000_000 - CEILING
        answer = answer_of(request_of(1), run_of())
        step = take(asked.channel, answer)
        assert isinstance(step.reply, SignedVoucher)
        assert step.records == (
            Accepted(1, answer.signed, link_of(answer).digest),
            VoucherSigned(step.reply),
        )
        assert (step.reply.voucher.total, step.channel.balance) == (CHARGE, 1_000_000 - CHARGE)
        assert messages.channel_of(DOMAIN, step.reply.voucher, step.reply.signature) == CHANNEL
        assert step.channel.held == link_of(answer)

    def test_the_next_request_says_how_far_it_has_come(self) -> None:
        end = answered(payer_end())[0].channel
        following = ask(end, 2).reply
        assert isinstance(following, Ask)
        assert (following.number, following.held, following.voucher) == (2, end.held, end.voucher)

    def test_totals_only_rise(self) -> None:
        end, totals = payer_end(), []
        for word in range(1, 6):
            end = answered(end, word)[0].channel
            totals.append(end.held.total)
        assert totals == [CHARGE * n for n in (1, 2, 3, 4, 5)]


class TestTheSameAgain:
    """Case 34."""

    def test_an_answer_twice_has_one_voucher(self) -> None:
        step, answer = answered(payer_end())
        again = take(step.channel, answer, now_ms=NOW_MS + 10**9)
        assert again == PayingStep(step.channel, step.reply)

    def test_a_lost_answer_is_asked_for_by_the_same_request(self) -> None:
        asked = ask(payer_end())
        assert asked.channel.again(1) == asked.reply
        with pytest.raises(MessageError, match="request 2 is not open"):
            asked.channel.again(2)

    def test_a_call_is_not_open_twice(self) -> None:
        with pytest.raises(MessageError, match="use `again`"):
            ask(ask(payer_end(credit_calls=2)).channel)

    def test_an_older_answer_is_not_signed_for_again(self) -> None:
        first, answer = answered(payer_end())
        end = answered(first.channel, 2)[0].channel
        with pytest.raises(ReceiptRefused, match="seq"):
            take(end, answer)


class TestOneVoucherAPlace:
    def test_not_for_another_receipt_in_a_place_that_is_paid(self) -> None:
        """And the two receipts are what the court slashes for."""
        step, answer = answered(payer_end())
        asked = ask(step.channel, 2).channel
        other = answer_of(request_of(2), run_of(5, started_at_ms=NOW_MS + 1))
        with pytest.raises(ReceiptRefused) as caught:
            take(asked, other)
        assert caught.value.field == "seq"
        assert asked.receipt == answer.signed
        fault = evidence.fault_of(DOMAIN, answer.signed, other.signed)
        assert isinstance(fault, evidence.TwoHistories)

    def test_not_for_a_place_that_is_not_next(self) -> None:
        asked = ask(payer_end()).channel
        ahead = answer_of(request_of(1), run_of(), replace(asked.held, seq=1))
        with pytest.raises(ReceiptRefused, match="seq"):
            take(asked, ahead)

    def test_not_for_a_call_that_nobody_asked_for(self) -> None:
        asked = ask(payer_end()).channel
        with pytest.raises(ReceiptRefused) as caught:
            take(asked, answer_of(request_of(2), run_of()))
        assert caught.value.field == "request"

    def test_not_for_one_that_was_given_up(self) -> None:
        step = ask(payer_end()).channel.give_up(1)
        assert step.records == (GivenUp(1),)
        assert step.channel.balance == 1_000_000
        with pytest.raises(ReceiptRefused, match="request"):
            take(step.channel, answer_of(request_of(1), run_of()))

    def test_not_for_more_than_was_metered(self) -> None:
        """Case 51: every lie of test_calls.py ends here the same way; one for all."""
        asked = ask(payer_end()).channel
        with pytest.raises(ReceiptRefused, match="total"):
            take(asked, answer_of(request_of(1), run_of(), total=CHARGE + 1))

    def test_not_for_other_bytes_than_came(self) -> None:
        asked = ask(payer_end()).channel
        with pytest.raises(ReceiptRefused, match="result"):
            take(asked, answer_of(request_of(1), run_of()), result=digest_of(b"cut off"))

    def test_not_for_a_stranger_s_receipt(self) -> None:
        asked = ask(payer_end()).channel
        receipt = next_receipt(CHANNEL, asked.held, request_of(1), run_of())
        with pytest.raises(ReceiptRefused, match="signature"):
            take(asked, CallAnswer(signed_by(STRANGER.key, receipt), GPUS))

    def test_receipts_on_credit_are_taken_in_their_order(self) -> None:
        end = ask(ask(payer_end(credit_calls=2), 1).channel, 2).channel
        second = answer_of(request_of(2), run_of())
        first = answer_of(request_of(1), run_of(), link_of(second))
        with pytest.raises(ReceiptRefused, match="seq"):
            take(end, first)
        end = take(take(end, second).channel, first).channel
        assert (end.held.seq, end.held.total, end.asked) == (2, 2 * CHARGE, ())


class TestOneVoucherForMany:
    """A gateway signs once for all receipts of a moment."""

    def taken(self) -> PayingStep:
        end = ask(ask(payer_end(credit_calls=2), 1).channel, 2).channel
        first = answer_of(request_of(1), run_of())
        second = answer_of(request_of(2), run_of(), link_of(first))
        return take(take(end, first, sign=None).channel, second, sign=None)

    def test_receipts_are_accepted_without_a_key(self) -> None:
        step = self.taken()
        assert step.reply is None
        assert [type(record) for record in step.records] == [Accepted]
        assert (step.channel.held.seq, step.channel.voucher) == (2, None)
        assert step.channel.balance == 1_000_000 - 2 * CHARGE

    def test_and_paid_for_together(self) -> None:
        end = self.taken().channel
        step = end.countersign(sign_voucher)
        assert isinstance(step.reply, SignedVoucher)
        assert step.reply.voucher.total == 2 * CHARGE
        assert step.reply.voucher.receipt == end.held.digest
        assert step.records == (VoucherSigned(step.reply),)
        assert step.channel.countersign(sign_voucher) == PayingStep(step.channel, step.reply)

    def test_what_is_to_be_signed_is_said_until_it_is(self) -> None:
        assert payer_end().unsigned is None
        end = self.taken().channel
        assert end.unsigned == CHANNEL.voucher(2 * CHARGE, end.held.digest)
        assert end.countersign(sign_voucher).channel.unsigned is None

    def test_nothing_is_owed_before_the_first(self) -> None:
        assert payer_end().countersign(sign_voucher) == PayingStep(payer_end())

    def test_a_crash_between_the_two_owes_what_was_accepted(self) -> None:
        asked = ask(payer_end())
        step = take(asked.channel, answer_of(request_of(1), run_of()))
        records: list[Any] = [Opened(CHANNEL, NOW_S), *asked.records, step.records[0]]
        end = PayingChannel.rebuilt(DOMAIN, funded(), records).channel
        assert end.countersign(sign_voucher) == replace(step, records=step.records[1:])

    def test_an_abandoned_channel_pays_what_was_accepted(self) -> None:
        end = self.taken().channel.learn(Refusal("new_salt", "")).channel
        assert end.countersign(sign_voucher).channel.voucher is not None

    def test_a_voucher_for_another_receipt_is_no_part_of_the_journal(self) -> None:
        step, _ = answered(payer_end())
        records: list[Any] = [Opened(CHANNEL, NOW_S), step.records[1]]
        with pytest.raises(MessageError, match="not whole"):
            PayingChannel.rebuilt(DOMAIN, funded(), records)


class TestFunds:
    """Case 43."""

    def test_too_little_for_the_next_call_pauses(self) -> None:
        end = payer_end(funded(CEILING - 1))
        assert end.state_for(CEILING) == "paused_funds"
        with pytest.raises(PausedFunds) as caught:
            ask(end)
        assert (caught.value.needed, caught.value.covered) == (CEILING, CEILING - 1)
        assert caught.value.missing == 1

    def test_a_top_up_resumes(self) -> None:
        end = payer_end(funded(CEILING - 1)).observe(funded(CEILING)).channel
        assert end.state_for(CEILING) == "open"
        assert ask(end).records

    def test_calls_under_way_are_set_aside(self) -> None:
        end = ask(payer_end(funded(2 * CEILING - 1), credit_calls=2)).channel
        with pytest.raises(PausedFunds):
            ask(end, 2)

    def test_no_more_calls_than_the_provider_gives_credit_for(self) -> None:
        with pytest.raises(TooManyCalls):
            ask(ask(payer_end()).channel, 2)


class TestClosing:
    def test_asks_for_nothing_more(self) -> None:
        end = payer_end(funded(close_at=NOW_S))
        assert end.state_for(0) == "closing"
        with pytest.raises(ChannelClosing, match=str(NOW_S)):
            ask(end)

    def test_pays_for_what_was_under_way(self) -> None:
        """Case 41: the channel is revoked while a call runs; what was served is signed for."""
        end = ask(payer_end()).channel.observe(funded(close_at=NOW_S)).channel
        assert take(end, answer_of(request_of(1), run_of())).channel.held.total == CHARGE


class TestAJournalThatIsBehind:
    """Case 50."""

    def test_shown_by_a_voucher_of_its_own_signer(self) -> None:
        ahead = CHANNEL.voucher(10 * CHARGE, digest_of_word(5))
        refusal = Refusal("stale", "", voucher=SignedVoucher(ahead, sign_voucher(ahead)))
        step = payer_end().learn(refusal)
        assert isinstance(step.records[0], Abandoned)
        with pytest.raises(ChannelAbandoned, match="new salt"):
            ask(step.channel)
        assert step.channel.state_for(0) == "abandoned"
        assert step.channel.learn(refusal) == PayingStep(step.channel)

    @pytest.mark.parametrize("key", [STRANGER.key, None], ids=["a stranger's", "nobody's"])
    def test_not_by_one_of_somebody_else(self, key: str | None) -> None:
        ahead = CHANNEL.voucher(10 * CHARGE, digest_of_word(5))
        signature = messages.sign(DOMAIN, ahead, key) if key else "0x" + "00" * 65
        refusal = Refusal("stale", "", voucher=SignedVoucher(ahead, signature))
        assert payer_end().learn(refusal) == PayingStep(payer_end())

    def test_shown_by_what_was_redeemed(self) -> None:
        end = answered(payer_end())[0].channel
        assert end.observe(funded(claimed=CHARGE)).records == ()
        assert end.observe(funded(claimed=CHARGE + 1)).channel.abandoned
        with pytest.raises(ChannelAbandoned, match="1 was redeemed"):
            payer_end(funded(claimed=1))

    def test_a_provider_that_asks_for_a_new_salt_gets_one(self) -> None:
        assert payer_end().learn(Refusal("new_salt", "lost")).channel.abandoned

    def test_a_receipt_that_waits_for_its_voucher_is_asked_for_again(self) -> None:
        asked = ask(payer_end())
        waiting = answer_of(request_of(1), run_of()).signed
        refusal = Refusal("unpaid", "", receipt=waiting)
        assert asked.channel.learn(refusal) == PayingStep(asked.channel, asked.reply)

    def test_one_for_a_call_that_was_given_up_ends_the_channel(self) -> None:
        end = ask(payer_end()).channel.give_up(1).channel
        waiting = answer_of(request_of(1), run_of()).signed
        assert end.learn(Refusal("unpaid", "", receipt=waiting)).channel.abandoned

    def test_other_refusals_change_nothing(self) -> None:
        step, answer = answered(payer_end())
        for code in ("paused_funds", "closing", "price_changed", "no_worker", "failed"):
            refusal = Refusal(code, "", receipt=answer.signed, voucher=step.channel.voucher)
            assert step.channel.learn(refusal) == PayingStep(step.channel)

    def test_an_abandoned_channel_still_answers_with_the_voucher_it_signed(self) -> None:
        step, answer = answered(payer_end())
        end = step.channel.learn(Refusal("new_salt", "")).channel
        assert take(end, answer).reply == step.reply
        later = answer_of(request_of(2), run_of(), end.held)
        with pytest.raises(ChannelAbandoned):
            take(end, later)


class TestAfterACrash:
    def test_the_records_bring_the_same_end_back(self) -> None:
        asked = ask(payer_end())
        records: list[Any] = [Opened(CHANNEL, NOW_S), *asked.records]
        assert PayingChannel.rebuilt(DOMAIN, funded(), records) == PayingStep(asked.channel)
        step = take(asked.channel, answer_of(request_of(1), run_of()))
        more = ask(step.channel, 2)
        over = more.channel.give_up(2)
        records += [*step.records, *more.records, *over.records]
        assert PayingChannel.rebuilt(DOMAIN, funded(), records) == PayingStep(over.channel)

    def test_a_checkpoint_stands_for_the_records_before_it(self) -> None:
        asked = ask(payer_end()).channel
        step = take(asked, answer_of(request_of(1), run_of()))
        more = ask(step.channel, 2)
        records: list[Any] = [step.channel.checkpoint(), *more.records]
        assert PayingChannel.rebuilt(DOMAIN, funded(), records) == PayingStep(more.channel)
        whole = [more.channel.checkpoint()]
        assert PayingChannel.rebuilt(DOMAIN, funded(), whole) == PayingStep(more.channel)
        late = PayingChannel.rebuilt(DOMAIN, funded(), whole, journal_since_s=NOW_S + 1)
        assert late.channel.abandoned

    def test_an_answer_from_before_it_is_checked_and_paid(self) -> None:
        records = [Opened(CHANNEL, NOW_S), *ask(payer_end()).records]
        end = PayingChannel.rebuilt(DOMAIN, funded(), records).channel
        assert take(end, answer_of(request_of(1), run_of())).channel.held.total == CHARGE

    def test_the_voucher_is_the_same_to_the_byte(self) -> None:
        """Had the first one left before the crash all the same, this is no second one."""
        asked, answer = ask(payer_end()).channel, answer_of(request_of(1), run_of())
        assert take(asked, answer).reply == take(asked, answer, now_ms=NOW_MS + 99_999).reply

    def test_a_copy_of_the_journal_signs_nothing_more(self) -> None:
        records = [Opened(CHANNEL, NOW_S)]
        step = PayingChannel.rebuilt(DOMAIN, funded(), records, journal_since_s=NOW_S + 1)
        assert step.channel.abandoned
        assert step.records

    def test_a_journal_with_a_hole_is_not_read(self) -> None:
        first, _ = answered(payer_end())
        second, _ = answered(first.channel, 2)
        with pytest.raises(MessageError, match="not whole"):
            PayingChannel.rebuilt(DOMAIN, funded(), [Opened(CHANNEL, NOW_S), *second.records])

    @pytest.mark.parametrize(
        ("records", "text"),
        [
            ([], "no records"),
            ([GivenUp(1)], "begin with Opened"),
            ([Opened(CHANNEL, 1), payer_end().checkpoint()], "twice"),
            ([Opened(CHANNEL, 1), Opened(CHANNEL, 1)], "twice"),
        ],
    )
    def test_a_journal_begins_once(self, records: list[Any], text: str) -> None:
        with pytest.raises(MessageError, match=text):
            PayingChannel.rebuilt(DOMAIN, funded(), records)


def test_who_the_parties_are() -> None:
    """The session key signs vouchers, the provider's operator key receipts, and never the other."""
    asked = ask(payer_end()).channel
    receipt = next_receipt(CHANNEL, asked.held, request_of(1), run_of())
    own = SignedReceipt(receipt, messages.sign(DOMAIN, receipt, SESSION.key))
    with pytest.raises(ReceiptRefused, match="signature"):
        take(asked, CallAnswer(own, GPUS))
    assert take(asked, CallAnswer(signed_by(PROVIDER.key, receipt), GPUS)).reply
