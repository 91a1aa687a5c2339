"""What accounts earned, what pools hold and what the market came to, from the events alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tallystick.protocol import events
from tallystick.protocol.contracts import PotKind
from tallystick_backend.index import project, record
from tallystick_backend.index.errors import BooksDoNotBalance
from tallystick_backend.index.project import Followed, Provider
from tallystick_backend.index.sums import (
    TOTALS,
    Delegation,
    Earned,
    Pool,
    Totals,
    delegation_key,
    earned_key,
    pool_key,
)
from tests.backend.index.node import CONSUMERS, DISPATCHER, PROVIDERS, digest
from tests.backend.index.test_project import (
    AT,
    CHANNEL,
    CHANNEL_KEY,
    CONSUMER,
    CONSUMER_KEY,
    FUNDED,
    LOCKED,
    OPEN,
    PROVIDER,
    TASK_KEY,
    settled,
)

ALICE, BOB = CONSUMERS[1], CONSUMERS[2]


def folded(history: Sequence[Followed], **before: Any) -> dict[Any, Any]:
    start = {TASK_KEY: OPEN, CONSUMER_KEY: LOCKED, CHANNEL_KEY: FUNDED}
    return project.fold(history, start | before)


def test_what_lies_in_the_escrow_is_what_came_in_less_what_went_out() -> None:
    after = folded(
        [
            events.Deposited(CONSUMER, CONSUMER, 100, AT),
            events.ChannelDeposited(CHANNEL, CONSUMER, PROVIDER, ALICE, 3, BOB, 50, 150, AT),
            events.VoucherRedeemed(CHANNEL, CONSUMER, PROVIDER, 40, 40, digest("receipt"), AT),
            events.CreditWithdrawn(PROVIDER, PROVIDER, 38, 2, AT),
            events.FeesShared(PROVIDER, 1, 1, AT),
            events.Withdrawn(CONSUMER, CONSUMER, 60, AT),
        ]
    )
    assert after[TOTALS] == Totals(escrowed=50, redemptions=1, call_charges=40, fees=2)
    assert after[earned_key(PROVIDER)] == Earned(
        PROVIDER.lower(), calls=40, redemptions=1, withdrawn=38, fees=2
    )


def test_more_than_ever_came_in_cannot_go_out() -> None:
    with pytest.raises(BooksDoNotBalance, match="escrowed"):
        folded([events.Withdrawn(CONSUMER, CONSUMER, 1, AT)])


def test_a_settled_task_is_shared_out() -> None:
    after = folded([settled(royalty_to=ALICE, royalty_share=3)])
    assert after[earned_key(PROVIDER)] == Earned(PROVIDER.lower(), tasks=73, tasks_settled=1)
    assert after[earned_key(DISPATCHER)].dispatch == 4
    assert after[earned_key(ALICE)].royalties == 3
    assert (after[TOTALS].tasks_settled, after[TOTALS].task_charges) == (1, 80)


def test_one_who_is_provider_and_dispatcher_earns_both() -> None:
    after = folded([settled(dispatcher=PROVIDER)])
    assert after[earned_key(PROVIDER)] == Earned(
        PROVIDER.lower(), tasks=76, tasks_settled=1, dispatch=4
    )


def test_who_checked_is_paid_from_the_bond() -> None:
    disputed = [
        events.TaskDisputed(OPEN.task_id, CONSUMER, PROVIDER, 31, 9999, AT),  # type: ignore[arg-type]
        events.DisputeResolved(OPEN.task_id, CONSUMER, PROVIDER, 1, 31, 10, (ALICE, BOB), AT),  # type: ignore[arg-type]
    ]
    after = folded(disputed)
    assert [after[earned_key(who)].court for who in (ALICE, BOB, PROVIDER)] == [10, 10, 11]


def test_a_pool_with_two_delegators() -> None:
    after = folded(
        [
            events.Staked(PROVIDER, 100, 100, AT),
            events.Delegated(PROVIDER, ALICE, 50, 500, 50, AT),
            events.Delegated(PROVIDER, BOB, 30, 300, 80, AT),
            events.Delegated(PROVIDER, BOB, 10, 100, 90, AT),
            events.CommissionSet(PROVIDER, 1000, AT.timestamp_s + 9, AT),
            events.FeesAdded(PROVIDER, 20, 2, 18, 9999, AT),
            events.RewardsClaimed(PROVIDER, ALICE, ALICE, 7, AT),
            events.UndelegateRequested(PROVIDER, ALICE, 0, 500, 50, 9999, 40, AT),
        ]
    )
    assert after[pool_key(PROVIDER)] == Pool(
        PROVIDER.lower(),
        delegated=40,
        undelegating=50,
        delegators=1,
        fees=18,
        commission_bps=1000,
        commission_at_s=AT.timestamp_s + 9,
    )
    alice = after[delegation_key(PROVIDER, ALICE)]
    assert (alice.shares, alice.put_in, alice.taken_out, alice.claimed) == (0, 50, 50, 7)
    assert after[delegation_key(PROVIDER, BOB)].shares == 400
    assert after[earned_key(PROVIDER)].commission == 2
    assert after[earned_key(ALICE)].rewards == 7
    assert (after[TOTALS].staked, after[TOTALS].delegated) == (100, 40)

    gone = project.fold([events.DelegationWithdrawn(PROVIDER, ALICE, 0, ALICE, 50, AT)], after)
    held = gone[pool_key(PROVIDER)]
    assert isinstance(held, Pool)
    assert held.undelegating == 0


def test_more_shares_than_there_are_cannot_leave() -> None:
    with pytest.raises(BooksDoNotBalance, match="shares"):
        folded([events.UndelegateRequested(PROVIDER, ALICE, 0, 1, 1, 9999, 0, AT)])


def test_a_slash_that_leaves_nothing_voids_the_shares() -> None:
    after = folded(
        [
            events.Staked(PROVIDER, 100, 100, AT),
            events.Delegated(PROVIDER, ALICE, 50, 500, 50, AT),
            events.Slashed(PROVIDER, digest("offence"), 150, 15, 0, 0, 0, 0, AT),
            events.PotVoided(PROVIDER, int(PotKind.DELEGATED), 0, 0, AT),
            events.Delegated(PROVIDER, ALICE, 5, 5, 5, AT),
        ]
    )
    assert after[TOTALS] == Totals(staked=0, delegated=5, slashed=150)
    assert after[pool_key(PROVIDER)] == Pool(
        PROVIDER.lower(), delegated=5, delegators=1, generation=1
    )
    assert after[delegation_key(PROVIDER, ALICE)] == Delegation(
        f"{PROVIDER}/{ALICE}".lower(), PROVIDER.lower(), ALICE.lower(), 5, 1, put_in=55
    )


def test_staked_is_the_sum_over_providers() -> None:
    other = PROVIDERS[1]
    after = folded(
        [
            events.Staked(PROVIDER, 100, 100, AT),
            events.Staked(other, 40, 40, AT),
            events.Staked(other, 10, 50, AT),
            events.UnbondRequested(PROVIDER, 0, 30, 9999, 70, AT),
            events.Slashed(other, digest("offence"), 20, 2, 30, 0, 0, 0, AT),
        ]
    )
    stakes = [each.stake for each in after.values() if isinstance(each, Provider)]
    assert after[TOTALS].staked == sum(stakes) == 100


def test_every_account_that_an_event_names_is_a_party() -> None:
    event = settled(royalty_to=ALICE, royalty_share=1)
    assert set(record.parties(project.args_of(event))) == {
        who.lower() for who in (CONSUMER, PROVIDER, DISPATCHER, ALICE)
    }
    resolved = events.DisputeResolved(OPEN.task_id, CONSUMER, PROVIDER, 1, 31, 10, (ALICE, BOB), AT)  # type: ignore[arg-type]
    assert {ALICE.lower(), BOB.lower()} <= set(record.parties(project.args_of(resolved)))
