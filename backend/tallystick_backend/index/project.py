"""What an event changes, as a pure function: entities before -> entities after.

An entity is a task, an account, a provider's stake or an operator key. The contracts' events carry
every figure, so folding them gives what the contracts themselves would answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any, NewType, TypeAlias, assert_never

from tallystick.protocol import events
from tallystick.protocol.types import ZERO_DIGEST
from tallystick_backend.index.errors import BooksDoNotBalance
from tallystick_backend.store.repositories.events import TaskEventKind
from tallystick_backend.tasks import ChainState

EntityKey = NewType("EntityKey", str)
"""`task:0x..`, `account:0x..`, `provider:0x..` or `key:0x..`, lower case."""


@dataclass(frozen=True, slots=True)
class Task:
    task_id: str
    state: ChainState
    consumer: str
    provider: str | None = None
    max_charge: int = 0
    charge: int = 0
    end_s: int = 0
    cancelled_at_s: int | None = None
    fence: int | None = None
    receipt_digest: str | None = None
    unlock_s: int | None = None
    created_tx: str | None = None
    created_block: int | None = None
    proven_tx: str | None = None
    settled_tx: str | None = None

    @property
    def locked(self) -> int:
        """What the escrow holds for this task."""
        return {"open": self.max_charge, "proven": self.charge}.get(self.state, 0)


@dataclass(frozen=True, slots=True)
class Account:
    address: str
    available: int = 0
    locked: int = 0
    credit: int = 0


@dataclass(frozen=True, slots=True)
class Provider:
    address: str
    stake: int = 0
    unbonding: int = 0
    gpus_registered: int = 0
    gpu_set: str | None = None
    tasks_settled: int = 0


@dataclass(frozen=True, slots=True)
class OperatorKey:
    key: str
    provider: str
    retired_at_s: int | None = None


Entity: TypeAlias = Task | Account | Provider | OperatorKey
Entities: TypeAlias = Mapping[EntityKey, Entity | None]

KINDS: Mapping[str, type[Entity]] = {
    "task": Task,
    "account": Account,
    "provider": Provider,
    "key": OperatorKey,
}


def kind_of(key: EntityKey) -> type[Entity]:
    return KINDS[key.partition(":")[0]]


def id_of(key: EntityKey) -> str:
    return key.partition(":")[2]


def touched(event: events.Event) -> tuple[EntityKey, ...]:
    """The entities that `apply` needs for this event and may change."""
    match event:
        case events.Deposited() | events.Withdrawn():
            keys = [_account(event.account)]
        case events.CreditWithdrawn():
            keys = [_account(event.payee)]
        case events.TaskCreated() | events.TaskProven() | events.TaskRefunded():
            keys = [_task(event.task_id), _account(event.consumer)]
        case events.TaskCancelled():
            keys = [_task(event.task_id)]
        case events.TaskSettled():
            keys = [
                _task(event.task_id),
                _account(event.consumer),
                _account(event.provider),
                _provider(event.provider),
            ]
            if event.dispatcher_share:
                keys.append(_account(event.dispatcher))
            if event.royalty_share:
                keys.append(_account(event.royalty_to))
        case events.Staked() | events.UnbondRequested() | events.StakeWithdrawn():
            keys = [_provider(event.provider)]
        case events.GpusRegistered():
            keys = [_provider(event.provider)]
        case events.OperatorKeyBound() | events.OperatorKeyRetired():
            keys = [_key(event.key)]
        case events.ChannelFunded() | events.ChannelClosed() | events.ChannelReleased():
            keys = [_account(event.payer)]
        case events.VoucherRedeemed():
            keys = [_account(event.provider)]
        case (
            events.PayoutAddressSet()
            | events.FeesShared()
            | events.ProofSkipped()
            | events.ChannelDeposited()
            | events.AllowanceUsed()
            | events.AllowanceRevoked()
            | events.CloseRequested()
            | events.CloseCancelled()
        ):
            keys = []
        case _:
            assert_never(event)
    return tuple(dict.fromkeys(keys))


def apply(event: events.Event, before: Entities) -> dict[EntityKey, Entity]:
    """The entities that `event` changed, as they are after it."""
    book = _Book(before)
    match event:
        case events.Deposited():
            book.move(event.account, available=event.amount)
        case events.Withdrawn():
            book.move(event.account, available=-event.amount)
        case events.CreditWithdrawn():
            book.move(event.payee, credit=-(event.paid + event.fee))
        case events.TaskCreated():
            ceiling = event.terms.max_charge
            book.put(
                _task(event.task_id),
                Task(
                    task_id=event.task_id,
                    state="open",
                    consumer=event.consumer.lower(),
                    max_charge=ceiling,
                    end_s=event.terms.deadline,
                    created_tx=event.at.tx_hash,
                    created_block=event.at.block_number,
                ),
            )
            book.move(event.consumer, available=-ceiling, locked=ceiling)
        case events.TaskProven():
            task = book.task(event.task_id)
            book.move(
                event.consumer,
                available=task.locked - event.charge,
                locked=event.charge - task.locked,
            )
            book.put(
                _task(event.task_id),
                replace(
                    task,
                    state="proven",
                    provider=event.provider.lower(),
                    charge=event.charge,
                    fence=event.fence,
                    receipt_digest=event.receipt,
                    unlock_s=event.challenge_ends_at,
                    proven_tx=event.at.tx_hash,
                ),
            )
        case events.TaskSettled():
            _settle(event, book)
        case events.TaskCancelled():
            task = book.task(event.task_id)
            book.put(
                _task(event.task_id),
                replace(task, cancelled_at_s=event.cancelled_at, end_s=event.end),
            )
        case events.TaskRefunded():
            task = book.task(event.task_id)
            book.move(event.consumer, available=event.amount, locked=-event.amount)
            book.put(_task(event.task_id), replace(task, state="refunded"))
        case events.Staked():
            provider = book.provider(event.provider)
            book.put(_provider(event.provider), replace(provider, stake=event.bonded))
        case events.UnbondRequested():
            provider = book.provider(event.provider)
            book.put(
                _provider(event.provider),
                replace(provider, stake=event.bonded, unbonding=provider.unbonding + event.amount),
            )
        case events.StakeWithdrawn():
            provider = book.provider(event.provider)
            book.put(
                _provider(event.provider),
                replace(provider, unbonding=provider.unbonding - event.amount),
            )
        case events.GpusRegistered():
            provider = book.provider(event.provider)
            gpu_set = None if event.gpu_set == ZERO_DIGEST else event.gpu_set
            book.put(
                _provider(event.provider),
                replace(provider, gpus_registered=event.gpus, gpu_set=gpu_set),
            )
        case events.OperatorKeyBound():
            book.put(
                _key(event.key), OperatorKey(event.key.lower(), provider=event.provider.lower())
            )
        case events.OperatorKeyRetired():
            key = _key(event.key)
            book.put(
                key,
                OperatorKey(
                    event.key.lower(),
                    provider=event.provider.lower(),
                    retired_at_s=event.at.timestamp_s,
                ),
            )
        case events.ChannelFunded():
            book.move(event.payer, available=-event.amount)
        case events.ChannelClosed() | events.ChannelReleased():
            book.move(event.payer, available=event.amount)
        case events.VoucherRedeemed():
            book.move(event.provider, credit=event.amount)
        case (
            events.PayoutAddressSet()
            | events.FeesShared()
            | events.ProofSkipped()
            | events.ChannelDeposited()
            | events.AllowanceUsed()
            | events.AllowanceRevoked()
            | events.CloseRequested()
            | events.CloseCancelled()
        ):
            pass
        case _:
            assert_never(event)
    return book.changed


def _settle(event: events.TaskSettled, book: _Book) -> None:
    key = _task(event.task_id)
    task = book.find_task(event.task_id) or Task(
        # A signed order, settled at once: it was never created.
        task_id=event.task_id,
        state="open",
        consumer=event.consumer.lower(),
        created_block=event.at.block_number,
    )
    book.move(event.consumer, available=task.locked - event.charge, locked=-task.locked)
    shares = event.dispatcher_share + event.royalty_share
    book.move(event.provider, credit=event.charge - shares)
    if event.dispatcher_share:
        book.move(event.dispatcher, credit=event.dispatcher_share)
    if event.royalty_share:
        book.move(event.royalty_to, credit=event.royalty_share)
    provider = book.provider(event.provider)
    book.put(_provider(event.provider), replace(provider, tasks_settled=provider.tasks_settled + 1))
    book.put(
        key,
        replace(
            task,
            state="settled",
            provider=event.provider.lower(),
            charge=event.charge,
            receipt_digest=event.receipt,
            settled_tx=event.at.tx_hash,
        ),
    )


class _Book:
    """Entities before an event, with what it changes written over them."""

    def __init__(self, before: Entities) -> None:
        self._before = before
        self.changed: dict[EntityKey, Entity] = {}

    def put(self, key: EntityKey, entity: Entity) -> None:
        for name in ("available", "locked", "credit", "unbonding"):
            figure = getattr(entity, name, 0)
            if figure < 0:
                raise BooksDoNotBalance(f"{key} would have {figure} {name}")
        self.changed[key] = entity

    def move(self, address: str, *, available: int = 0, locked: int = 0, credit: int = 0) -> None:
        key = _account(address)
        account = self._find(key)
        if account is None:
            account = Account(address.lower())
        assert isinstance(account, Account)
        self.put(
            key,
            replace(
                account,
                available=account.available + available,
                locked=account.locked + locked,
                credit=account.credit + credit,
            ),
        )

    def provider(self, address: str) -> Provider:
        provider = self._find(_provider(address))
        if provider is None:
            return Provider(address.lower())
        assert isinstance(provider, Provider)
        return provider

    def find_task(self, task_id: str) -> Task | None:
        task = self._find(_task(task_id))
        assert task is None or isinstance(task, Task)
        return task

    def task(self, task_id: str) -> Task:
        task = self.find_task(task_id)
        if task is None:
            raise BooksDoNotBalance(f"task {task_id} changed before it was created")
        return task

    def _find(self, key: EntityKey) -> Entity | None:
        return self.changed.get(key) or self._before.get(key)


def fold(history: Iterable[events.Event], before: Entities) -> dict[EntityKey, Entity | None]:
    """`before` with every event of `history` applied in order."""
    after: dict[EntityKey, Entity | None] = dict(before)
    for event in history:
        after |= apply(event, after)
    return after


def _task(task_id: str) -> EntityKey:
    return EntityKey(f"task:{task_id.lower()}")


def _account(address: str) -> EntityKey:
    return EntityKey(f"account:{address.lower()}")


def _provider(address: str) -> EntityKey:
    return EntityKey(f"provider:{address.lower()}")


def _key(address: str) -> EntityKey:
    return EntityKey(f"key:{address.lower()}")


# --- as it is written down --------------------------------------------------------------------


def args_of(event: events.Event) -> dict[str, Any]:
    """The event's own fields as JSON, numbers as decimal strings."""
    assert is_dataclass(event)
    fields = asdict(event)
    del fields["at"]
    written: dict[str, Any] = _json(fields)
    return written


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


_STEPS: Mapping[str, TaskEventKind] = {
    "TaskCreated": "funded",
    "TaskProven": "proven",
    "TaskSettled": "settled",
    "TaskCancelled": "cancelled",
    "TaskRefunded": "refunded",
}

STEP_OF_STATE: Mapping[ChainState, TaskEventKind] = {
    "open": "funded",
    "proven": "proven",
    "settled": "settled",
    "refunded": "refunded",
    "orphaned": "orphaned",
}


def step_of(name: str) -> TaskEventKind | None:
    """The step of a task that the event named `name` is; None when it is none."""
    return _STEPS.get(name)
