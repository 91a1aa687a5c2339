"""What an event changes: pure, and only what it says it touches."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from tallystick.protocol import events
from tallystick.protocol.events import EventAt
from tallystick.protocol.messages import TaskTerms
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_ADDRESS, ZERO_DIGEST, AppId, BlockNumber
from tallystick_backend.index import project, sums
from tallystick_backend.index.errors import BooksDoNotBalance
from tallystick_backend.index.project import (
    FOLLOWED,
    Account,
    App,
    Channel,
    EntityKey,
    Followed,
    OperatorKey,
    Provider,
    Task,
)
from tests.backend.index.node import CONSUMERS, DISPATCHER, PROVIDERS, SIGNER, digest, terms

AT = EventAt(BlockNumber(7), digest("block"), digest("transaction"), 0, timestamp_s=1234)
CONSUMER, PROVIDER = CONSUMERS[0], PROVIDERS[0]
TASK = digest("a task")
TASK_KEY = EntityKey(f"task:{TASK}")
CONSUMER_KEY = EntityKey(f"account:{CONSUMER.lower()}")
PROVIDER_KEY = EntityKey(f"provider:{PROVIDER.lower()}")

CHANNEL = digest("a channel")
CHANNEL_KEY = EntityKey(f"channel:{CHANNEL}")
FUNDED = Channel(
    CHANNEL, CONSUMER.lower(), SIGNER.lower(), PROVIDER.lower(), 3, 1000, deposited=100
)

OPEN = Task(TASK, "open", CONSUMER.lower(), max_charge=100, end_s=2000)
LOCKED = Account(CONSUMER.lower(), available=50, locked=100)


def settled(**changes: Any) -> events.TaskSettled:
    values: dict[str, Any] = {
        "task_id": TASK,
        "consumer": CONSUMER,
        "provider": PROVIDER,
        "charge": 80,
        "receipt": digest("receipt"),
        "dispatcher": DISPATCHER,
        "dispatcher_share": 4,
        "royalty_to": ZERO_ADDRESS,
        "royalty_share": 0,
        "at": AT,
    }
    return events.TaskSettled(**(values | changes))


def test_creating_locks_the_ceiling() -> None:
    event = events.TaskCreated(TASK, CONSUMER, DISPATCHER, terms(CONSUMER, 100, 2000), AT)
    after = project.apply(event, {CONSUMER_KEY: Account(CONSUMER.lower(), available=150)})
    assert after[CONSUMER_KEY] == LOCKED
    task = after[TASK_KEY]
    assert isinstance(task, Task)
    assert (task.state, task.max_charge, task.end_s) == ("open", 100, 2000)
    assert (task.created_tx, task.created_block) == (AT.tx_hash, 7)


def test_proving_gives_back_what_is_not_charged() -> None:
    event = events.TaskProven(TASK, CONSUMER, PROVIDER, 3, 80, digest("receipt"), 9999, AT)  # type: ignore[arg-type]
    after = project.apply(event, {TASK_KEY: OPEN, CONSUMER_KEY: LOCKED})
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=70, locked=80)
    task = after[TASK_KEY]
    assert isinstance(task, Task)
    assert (task.state, task.charge, task.fence, task.unlock_s) == ("proven", 80, 3, 9999)


def disputed(verdict: int) -> dict[EntityKey, project.Entity | None]:
    """A task over 80, disputed with a bond of 31 and told on by two checkers, and how it ends."""
    proven = Task(TASK, "proven", CONSUMER.lower(), max_charge=100, charge=80)
    before: dict[EntityKey, project.Entity | None] = {
        TASK_KEY: proven,
        CONSUMER_KEY: Account(CONSUMER.lower(), available=40, locked=80),
    }
    story: list[events.Event] = [events.TaskDisputed(TASK, CONSUMER, PROVIDER, 31, 9999, AT)]  # type: ignore[arg-type]
    after = project.fold(story, before)
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=9, locked=111)
    task = after[TASK_KEY]
    assert isinstance(task, Task)
    assert (task.state, task.unlock_s, task.locked) == ("disputed", 9999, 80)

    checkers = (CONSUMERS[1], CONSUMERS[2]) if verdict else ()
    per_checker = 10 if verdict == 1 else 0
    story = [
        events.DisputeResolved(TASK, CONSUMER, PROVIDER, verdict, 31, per_checker, checkers, AT),  # type: ignore[arg-type]
        events.TaskRefunded(TASK, CONSUMER, 80, AT) if verdict == 2 else settled(),  # type: ignore[arg-type]
    ]
    return project.fold(story, after)


def test_a_dispute_that_was_wrong_costs_the_bond() -> None:
    after = disputed(verdict=1)
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=9)
    assert after[EntityKey(f"account:{PROVIDER.lower()}")] == Account(
        PROVIDER.lower(), credit=76 + 11
    )
    for checker in CONSUMERS[1:3]:
        key = EntityKey(f"account:{checker.lower()}")
        assert after[key] == Account(checker.lower(), credit=10)


def test_a_dispute_that_was_right_gives_all_of_it_back() -> None:
    after = disputed(verdict=2)
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=120)
    task = after[TASK_KEY]
    assert isinstance(task, Task)
    assert task.state == "refunded"


def test_a_dispute_without_a_verdict_gives_the_bond_back() -> None:
    after = disputed(verdict=0)
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=40)
    assert after[EntityKey(f"account:{PROVIDER.lower()}")] == Account(PROVIDER.lower(), credit=76)


def test_settling_an_open_task_pays_the_shares_and_frees_the_rest() -> None:
    after = project.apply(settled(), {TASK_KEY: OPEN, CONSUMER_KEY: LOCKED})
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=70)
    assert after[EntityKey(f"account:{PROVIDER.lower()}")] == Account(PROVIDER.lower(), credit=76)
    assert after[EntityKey(f"account:{DISPATCHER.lower()}")] == Account(
        DISPATCHER.lower(), credit=4
    )
    assert after[PROVIDER_KEY] == Provider(PROVIDER.lower(), tasks_settled=1)


def test_settling_a_signed_order_takes_the_charge_out_of_available() -> None:
    before = {CONSUMER_KEY: Account(CONSUMER.lower(), available=100)}
    after = project.apply(settled(), before)
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=20)
    task = after[TASK_KEY]
    assert isinstance(task, Task)
    assert (task.state, task.created_tx, task.created_block) == ("settled", None, 7)


def test_a_share_of_nothing_makes_no_account() -> None:
    event = settled(dispatcher=ZERO_ADDRESS, dispatcher_share=0)
    after = project.apply(event, {TASK_KEY: OPEN, CONSUMER_KEY: LOCKED})
    assert EntityKey(f"account:{ZERO_ADDRESS}") not in after
    assert EntityKey(f"account:{ZERO_ADDRESS}") not in project.touched(event)


def test_one_person_in_every_role_keeps_its_money() -> None:
    event = settled(provider=CONSUMER, dispatcher=CONSUMER, royalty_to=CONSUMER, royalty_share=8)
    after = project.apply(event, {TASK_KEY: OPEN, CONSUMER_KEY: LOCKED})
    assert after[CONSUMER_KEY] == Account(CONSUMER.lower(), available=70, credit=80)


def test_a_retired_key_is_retired_from_its_block_on() -> None:
    event = events.OperatorKeyRetired(PROVIDER, CONSUMER, 9999, AT)
    after = project.apply(event, {})
    key = OperatorKey(CONSUMER.lower(), PROVIDER.lower(), retired_at_s=1234)
    assert after == {EntityKey(f"key:{CONSUMER.lower()}"): key}


def test_withdrawing_every_gpu_leaves_no_set() -> None:
    before = {PROVIDER_KEY: Provider(PROVIDER.lower(), gpus_registered=2, gpu_set="0xab")}
    after = project.apply(events.GpusRegistered(PROVIDER, 0, ZERO_DIGEST, AT), before)
    assert after[PROVIDER_KEY] == Provider(PROVIDER.lower())


def test_a_verdict_says_what_it_left_and_jails() -> None:
    provider = PROVIDER.lower()
    history: list[events.Event] = [
        events.Staked(PROVIDER, 70, 70, AT),
        events.UnbondRequested(PROVIDER, 0, 30, 9999, 40, AT),
        events.SeatsSet(PROVIDER, 1, AT),
        events.Slashed(PROVIDER, digest("offence"), 50, 10, 0, 20, 0, 0, AT),
        events.Jailed(PROVIDER, 777, AT),
    ]
    after = project.fold(history, {})
    jailed = Provider(provider, stake=0, unbonding=20, seats=1, jailed_until_s=777)
    assert after[PROVIDER_KEY] == jailed
    later: list[events.Event] = [
        events.StakeWithdrawn(PROVIDER, 0, PROVIDER, 20, AT),
        events.SeatsSet(PROVIDER, 0, AT),
        events.Unjailed(PROVIDER, AT),
    ]
    assert project.fold(later, after)[PROVIDER_KEY] == Provider(provider)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(events.Withdrawn(CONSUMER, CONSUMER, 51, AT), id="more than available"),
        pytest.param(events.TaskRefunded(TASK, CONSUMER, 101, AT), id="more than locked"),
        pytest.param(events.CreditWithdrawn(CONSUMER, CONSUMER, 1, 0, AT), id="no such credit"),
        pytest.param(events.StakeWithdrawn(PROVIDER, 0, PROVIDER, 1, AT), id="more than unbonding"),
        pytest.param(
            events.TaskCancelled(digest("unknown"), CONSUMER, 1, 2, AT),  # type: ignore[arg-type]
            id="a task nobody created",
        ),
        pytest.param(
            events.VoucherRedeemed(CHANNEL, CONSUMER, PROVIDER, 1, 101, digest("receipt"), AT),
            id="more than the channel holds",
        ),
        pytest.param(
            events.CloseRequested(digest("unknown"), CONSUMER, PROVIDER, 9999, AT),
            id="a channel nobody funded",
        ),
        pytest.param(
            events.AppRetired(AppId(digest("unknown")), 9999, AT), id="an app nobody published"
        ),
    ],
)
def test_what_cannot_have_happened_is_refused(event: Followed) -> None:
    with pytest.raises(BooksDoNotBalance):
        project.apply(event, {TASK_KEY: OPEN, CONSUMER_KEY: LOCKED, CHANNEL_KEY: FUNDED})


@pytest.mark.parametrize("kind", FOLLOWED, ids=lambda kind: kind.__name__)
def test_every_event_changes_only_what_it_touches(kind: type[Followed]) -> None:
    event = kind(**{field.name: _sample(field.name, kind) for field in fields(kind)})
    rich = {
        key: _rich(key)
        for key in (*project.touched(event), EntityKey(f"account:{'0x' + '99' * 20}"))
    }
    after = project.apply(event, rich)
    assert set(after) == set(project.touched(event))
    assert project.apply(event, rich) == after


@pytest.mark.parametrize("kind", FOLLOWED, ids=lambda kind: kind.__name__)
def test_every_event_is_written_down_with_numbers_as_text(kind: type[Followed]) -> None:
    event = kind(**{field.name: _sample(field.name, kind) for field in fields(kind)})
    args = project.args_of(event)
    assert "at" not in args
    assert set(args) == {field.name for field in fields(kind)} - {"at"}
    for value in (*args.values(), *args.get("terms", {}).values()):
        assert isinstance(value, str | dict | list)


def _sample(name: str, kind: type[Followed] = events.Deposited) -> Any:
    samples: dict[str, Any] = {
        "at": AT,
        "task_id": TASK,
        "consumer": CONSUMER,
        "provider": PROVIDER,
        "dispatcher": DISPATCHER,
        "terms": terms(CONSUMER, 5, 2000),
        "receipt": digest("receipt"),
        "gpu_set": digest("gpus"),
        "reason": "0x1234",
        "checkers": (CONSUMERS[1], CONSUMERS[2]),
        "verdict": 1,
        "bond": 15,
        "royalty_to": CONSUMERS[1],
        "channel_id": CHANNEL,
        "app_id": digest("an app"),
        "salt": digest("salt") if kind is events.AppPublished else 5,
        "image_digest": digest("image"),
        "manifest_digest": digest("manifest"),
        "manifest_uri": "https://an.app",
        "price": Price(1, 2, 3),
    }
    addresses = {"account", "payer", "to", "payee", "payout", "key", "signer", "publisher"}
    addresses |= {"delegator"}
    return samples.get(name, CONSUMERS[2] if name in addresses else 5)


def _rich(key: EntityKey) -> project.Entity:
    entity_id = project.id_of(key)
    match key.partition(":")[0]:
        case "task":
            return OPEN
        case "account":
            return Account(entity_id, 10**30, 10**30, 10**30)
        case "provider":
            return Provider(entity_id, 10**30, 10**30)
        case "channel":
            return replace(FUNDED, channel_id=entity_id)
        case "totals":
            return sums.Totals(escrowed=10**30, staked=10**30, delegated=10**30)
        case "earned":
            return sums.Earned(entity_id, tasks=10**30)
        case "pool":
            return sums.Pool(entity_id, delegated=10**30, undelegating=10**30, delegators=3)
        case "delegation":
            provider, delegator = entity_id.split("/")
            return sums.Delegation(entity_id, provider, delegator, shares=10**30)
        case "app":
            return App(entity_id, PROVIDER.lower(), digest("salt"), PROVIDER.lower(), 0, 1000)
        case _:
            return OperatorKey(entity_id, PROVIDER.lower())


def test_the_sample_terms_are_whole() -> None:
    assert isinstance(_sample("terms"), TaskTerms)
