"""What an event changes, as a pure function: entities before -> entities after.

An entity is a task, an account, a provider's stake, an operator key, a channel, an app or what an
app announced. The contracts' events carry every figure, so folding them gives what the contracts
themselves would answer. What an app announced stays as it was told, in its order; what follows for
the price of a moment says `tallystick.protocol.apps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any, Final, TypeAlias, assert_never

from tallystick.protocol import events
from tallystick.protocol.pricing import Price
from tallystick.protocol.types import ZERO_DIGEST
from tallystick_backend.index import sums
from tallystick_backend.index.errors import BooksDoNotBalance
from tallystick_backend.index.keys import EntityKey as EntityKey
from tallystick_backend.store.repositories.apps import version_place
from tallystick_backend.store.repositories.events import TaskEventKind
from tallystick_backend.tasks import ChainState

Followed: TypeAlias = events.Event | events.AppEvent
FOLLOWED: Final[tuple[type[Followed], ...]] = (*events.EVENTS, *events.APP_EVENTS)


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
        held = {"open": self.max_charge, "proven": self.charge, "disputed": self.charge}
        return held.get(self.state, 0)


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
    """Bonded; `seats` units of it are set aside."""
    unbonding: int = 0
    seats: int = 0
    jailed_until_s: int | None = None
    """From when on the provider can lift its jail; None if it is not jailed."""
    gpus_registered: int = 0
    gpu_set: str | None = None
    tasks_settled: int = 0


@dataclass(frozen=True, slots=True)
class OperatorKey:
    key: str
    provider: str
    retired_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    channel_id: str
    payer: str
    signer: str
    provider: str
    salt: int
    opened_at_s: int
    """When money came into it first."""
    deposited: int = 0
    claimed: int = 0
    close_at_s: int | None = None
    """From when on anyone may close it; None if its payer asked for no close."""
    receipt_digest: str | None = None
    """Of the last receipt that a redeemed voucher countersigned."""
    redeemed_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class App:
    app_id: str
    publisher: str
    salt: str
    royalty_to: str
    royalty_bps: int
    published_at_s: int
    versions: int = 0
    manifest_uri: str = ""
    """Of the latest version: what a search looks in."""
    retired_at_s: int | None = None
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class AppVersion:
    place: str
    app_id: str
    version: int
    image_digest: str
    manifest_digest: str
    manifest_uri: str
    published_at_s: int


@dataclass(frozen=True, slots=True)
class AppPrice:
    """Holds from `from_s` until the next of its version."""

    place: str
    app_id: str
    version: int
    from_s: int
    flat: int
    fee_per_call: int
    rate_per_gpu_second: int


@dataclass(frozen=True, slots=True)
class AppDiscount:
    """As announced: from its start on it takes the place of those announced before."""

    place: str
    app_id: str
    bps: int
    start_s: int
    end_s: int
    announced_at_s: int


Entity: TypeAlias = (
    Task
    | Account
    | Provider
    | OperatorKey
    | Channel
    | App
    | AppVersion
    | AppPrice
    | AppDiscount
    | sums.Sum
)
Entities: TypeAlias = Mapping[EntityKey, Entity | None]

KINDS: Mapping[str, type[Entity]] = {
    "task": Task,
    "account": Account,
    "provider": Provider,
    "key": OperatorKey,
    "channel": Channel,
    "app": App,
    "version": AppVersion,
    "price": AppPrice,
    "discount": AppDiscount,
    **sums.SUMS,
}

FOLD: Final = 3
"""Rises when entities or contracts are added: rows that an earlier one wrote know nothing of them.
3: the court's own events."""


def kind_of(key: EntityKey) -> type[Entity]:
    return KINDS[key.partition(":")[0]]


def id_of(key: EntityKey) -> str:
    return key.partition(":")[2]


def touched(event: Followed) -> tuple[EntityKey, ...]:
    """The entities that `apply` needs for this event and may change."""
    match event:
        case events.Deposited() | events.Withdrawn():
            keys = [_account(event.account)]
        case events.CreditWithdrawn():
            keys = [_account(event.payee)]
        case events.TaskCreated() | events.TaskProven() | events.TaskRefunded():
            keys = [_task(event.task_id), _account(event.consumer)]
        case events.TaskDisputed():
            keys = [_task(event.task_id), _account(event.consumer)]
        case events.DisputeResolved():
            keys = [
                _account(event.consumer),
                _account(event.provider),
                *map(_account, event.checkers),
            ]
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
        case events.Slashed() | events.SeatsSet() | events.Jailed() | events.Unjailed():
            keys = [_provider(event.provider)]
        case events.GpusRegistered():
            keys = [_provider(event.provider)]
        case events.OperatorKeyBound() | events.OperatorKeyRetired():
            keys = [_key(event.key)]
        case events.ChannelFunded() | events.ChannelClosed() | events.ChannelReleased():
            keys = [_channel(event.channel_id), _account(event.payer)]
        case events.VoucherRedeemed():
            keys = [_channel(event.channel_id), _account(event.provider)]
        case events.ChannelDeposited() | events.CloseRequested() | events.CloseCancelled():
            keys = [_channel(event.channel_id)]
        case events.AppPublished() | events.AppRetired() | events.AppRenounced():
            keys = [_app(event.app_id)]
        case events.VersionAdded():
            keys = [
                _app(event.app_id),
                _version(event.app_id, event.version),
                _price(event.app_id, event.version, event.at.timestamp_s),
            ]
        case events.PriceAnnounced():
            keys = [
                _app(event.app_id),
                _price(event.app_id, event.version, event.takes_effect_at),
            ]
        case events.DiscountAnnounced():
            keys = [_app(event.app_id), _discount(event)]
        case (
            events.PayoutAddressSet()
            | events.FeesShared()
            | events.ProofSkipped()
            | events.TwoHistoriesShown()
            | events.GpuSoldTwiceShown()
            | events.SeatTaken()
            | events.SeatListed()
            | events.SeatLeaving()
            | events.SeatFreed()
            | events.DrawCalled()
            | events.CheckersDrawn()
            | events.VoteCommitted()
            | events.VoteRevealed()
            | events.SilenceShown()
            | events.DisputeConcluded()
            | events.AllowanceUsed()
            | events.AllowanceRevoked()
        ):
            keys = []
        case (
            events.Delegated()
            | events.UndelegateRequested()
            | events.DelegationWithdrawn()
            | events.CommissionSet()
            | events.FeesAdded()
            | events.PoolDrained()
            | events.RewardsClaimed()
            | events.FeesWithdrawn()
            | events.PotVoided()
            | events.BountyCredited()
            | events.BountyWithdrawn()
            | events.SlashedBurned()
        ):
            keys = []  # between delegators and the contract: sums tell of it
        case _:
            assert_never(event)
    return tuple(dict.fromkeys([*keys, *sums.touched(event)]))


def apply(event: Followed, before: Entities) -> dict[EntityKey, Entity]:
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
        case events.TaskDisputed():
            task = book.task(event.task_id)
            book.move(event.consumer, available=-event.bond, locked=event.bond)
            # When the court's time is over, anyone can have it settled.
            book.put(
                _task(event.task_id),
                replace(task, state="disputed", unlock_s=event.court_ends_at),
            )
        case events.DisputeResolved():
            _pay_bond(event, book)
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
        case events.Slashed():
            provider = book.provider(event.provider)
            book.put(
                _provider(event.provider),
                replace(provider, stake=event.bonded, unbonding=event.unbonding),
            )
        case events.SeatsSet():
            provider = book.provider(event.provider)
            book.put(_provider(event.provider), replace(provider, seats=event.seats))
        case events.Jailed():
            provider = book.provider(event.provider)
            book.put(_provider(event.provider), replace(provider, jailed_until_s=event.until))
        case events.Unjailed():
            provider = book.provider(event.provider)
            book.put(_provider(event.provider), replace(provider, jailed_until_s=None))
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
            _pay_in(event, book)
        case events.ChannelDeposited():
            _pay_in(event, book)
        case events.VoucherRedeemed():
            channel = book.channel(event.channel_id)
            book.move(event.provider, credit=event.amount)
            book.put(
                _channel(event.channel_id),
                replace(
                    channel,
                    claimed=event.claimed,
                    receipt_digest=None if event.receipt == ZERO_DIGEST else event.receipt,
                    redeemed_at_s=event.at.timestamp_s,
                ),
            )
        case events.CloseRequested():
            channel = book.channel(event.channel_id)
            book.put(_channel(event.channel_id), replace(channel, close_at_s=event.close_at))
        case events.CloseCancelled():
            channel = book.channel(event.channel_id)
            book.put(_channel(event.channel_id), replace(channel, close_at_s=None))
        case events.ChannelClosed():
            channel = book.channel(event.channel_id)
            book.move(event.payer, available=event.amount)
            book.put(
                _channel(event.channel_id),
                replace(channel, deposited=event.deposited, close_at_s=None),
            )
        case events.ChannelReleased():
            channel = book.channel(event.channel_id)
            book.move(event.payer, available=event.amount)
            book.put(_channel(event.channel_id), replace(channel, deposited=event.deposited))
        case events.AppPublished():
            book.put(
                _app(event.app_id),
                App(
                    app_id=event.app_id.lower(),
                    publisher=event.publisher.lower(),
                    salt=event.salt,
                    royalty_to=event.royalty_to.lower(),
                    royalty_bps=event.royalty_bps,
                    published_at_s=event.at.timestamp_s,
                ),
            )
        case events.VersionAdded():
            _add_version(event, book)
        case events.PriceAnnounced():
            book.put(_app(event.app_id), book.app(event.app_id))
            _set_price(event.app_id, event.version, event.takes_effect_at, event.price, book)
        case events.DiscountAnnounced():
            app = book.app(event.app_id)
            book.put(_app(event.app_id), app)
            book.put(
                _discount(event),
                AppDiscount(
                    place=id_of(_discount(event)),
                    app_id=app.app_id,
                    bps=event.bps,
                    start_s=event.start,
                    end_s=event.end,
                    announced_at_s=event.at.timestamp_s,
                ),
            )
        case events.AppRetired():
            app = book.app(event.app_id)
            book.put(_app(event.app_id), replace(app, retired_at_s=event.retired_at))
        case events.AppRenounced():
            app = book.app(event.app_id)
            book.put(_app(event.app_id), replace(app, permanent=True))
        case (
            events.PayoutAddressSet()
            | events.FeesShared()
            | events.ProofSkipped()
            | events.TwoHistoriesShown()
            | events.GpuSoldTwiceShown()
            | events.SeatTaken()
            | events.SeatListed()
            | events.SeatLeaving()
            | events.SeatFreed()
            | events.DrawCalled()
            | events.CheckersDrawn()
            | events.VoteCommitted()
            | events.VoteRevealed()
            | events.SilenceShown()
            | events.DisputeConcluded()
            | events.AllowanceUsed()
            | events.AllowanceRevoked()
        ):
            pass
        case (
            events.Delegated()
            | events.UndelegateRequested()
            | events.DelegationWithdrawn()
            | events.CommissionSet()
            | events.FeesAdded()
            | events.PoolDrained()
            | events.RewardsClaimed()
            | events.FeesWithdrawn()
            | events.PotVoided()
            | events.BountyCredited()
            | events.BountyWithdrawn()
            | events.SlashedBurned()
        ):
            pass
        case _:
            assert_never(event)
    return book.changed | sums.apply(event, before)


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


def _pay_bond(event: events.DisputeResolved, book: _Book) -> None:
    """The charge follows in the event after this one."""
    paid = event.per_checker * len(event.checkers) + event.provider_part
    book.move(event.consumer, available=event.bond - paid, locked=-event.bond)
    if event.provider_part:
        book.move(event.provider, credit=event.provider_part)
    if event.per_checker:
        for checker in event.checkers:
            book.move(checker, credit=event.per_checker)


def _pay_in(event: events.ChannelFunded | events.ChannelDeposited, book: _Book) -> None:
    """Opens the channel or tops it up; one that was closed goes on with what was claimed."""
    channel = book.find_channel(event.channel_id) or Channel(
        channel_id=event.channel_id.lower(),
        payer=event.payer.lower(),
        signer=event.signer.lower(),
        provider=event.provider.lower(),
        salt=event.salt,
        opened_at_s=event.at.timestamp_s,
    )
    book.put(_channel(event.channel_id), replace(channel, deposited=event.deposited))


def _add_version(event: events.VersionAdded, book: _Book) -> None:
    app = book.app(event.app_id)
    # Text of a stranger's: a database cannot store NUL, and nothing else may hang on it.
    manifest_uri = event.manifest_uri.replace("\0", "\N{REPLACEMENT CHARACTER}")
    key = _version(event.app_id, event.version)
    book.put(_app(event.app_id), replace(app, versions=event.version, manifest_uri=manifest_uri))
    book.put(
        key,
        AppVersion(
            place=id_of(key),
            app_id=app.app_id,
            version=event.version,
            image_digest=event.image_digest,
            manifest_digest=event.manifest_digest,
            manifest_uri=manifest_uri,
            published_at_s=event.at.timestamp_s,
        ),
    )
    _set_price(event.app_id, event.version, event.at.timestamp_s, event.price, book)


def _set_price(app_id: str, version: int, from_s: int, price: Price, book: _Book) -> None:
    key = _price(app_id, version, from_s)
    book.put(
        key,
        AppPrice(
            place=id_of(key),
            app_id=app_id.lower(),
            version=version,
            from_s=from_s,
            flat=price.flat,
            fee_per_call=price.fee_per_call,
            rate_per_gpu_second=price.rate_per_gpu_second,
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
        if isinstance(entity, Channel) and entity.claimed > entity.deposited:
            raise BooksDoNotBalance(
                f"{key} would have {entity.claimed} claimed of {entity.deposited} deposited"
            )
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

    def find_channel(self, channel_id: str) -> Channel | None:
        channel = self._find(_channel(channel_id))
        assert channel is None or isinstance(channel, Channel)
        return channel

    def channel(self, channel_id: str) -> Channel:
        channel = self.find_channel(channel_id)
        if channel is None:
            raise BooksDoNotBalance(f"channel {channel_id} changed before money came into it")
        return channel

    def app(self, app_id: str) -> App:
        app = self._find(_app(app_id))
        if app is None:
            raise BooksDoNotBalance(f"app {app_id} changed before it was published")
        assert isinstance(app, App)
        return app

    def _find(self, key: EntityKey) -> Entity | None:
        return self.changed.get(key) or self._before.get(key)


def fold(history: Iterable[Followed], before: Entities) -> dict[EntityKey, Entity | None]:
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


def _channel(channel_id: str) -> EntityKey:
    return EntityKey(f"channel:{channel_id.lower()}")


def _app(app_id: str) -> EntityKey:
    return EntityKey(f"app:{app_id.lower()}")


def _version(app_id: str, version: int) -> EntityKey:
    return EntityKey(f"version:{version_place(app_id, version)}")


def _price(app_id: str, version: int, from_s: int) -> EntityKey:
    return EntityKey(f"price:{version_place(app_id, version)}/{from_s:020d}")


def _discount(event: events.DiscountAnnounced) -> EntityKey:
    """By where it was announced: a later one may start earlier."""
    place = f"{event.at.block_number:020d}/{event.at.log_index:010d}"
    return EntityKey(f"discount:{event.app_id.lower()}/{place}")


# --- as it is written down --------------------------------------------------------------------


def args_of(event: Followed) -> dict[str, Any]:
    """The event's own fields as JSON, numbers as decimal strings."""
    assert is_dataclass(event)
    fields = asdict(event)
    del fields["at"]
    written: dict[str, Any] = _json(fields)
    return written


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


_STEPS: Mapping[str, TaskEventKind] = {
    "TaskCreated": "funded",
    "TaskProven": "proven",
    "TaskDisputed": "disputed",
    "TaskSettled": "settled",
    "TaskCancelled": "cancelled",
    "TaskRefunded": "refunded",
}

STEP_OF_STATE: Mapping[ChainState, TaskEventKind] = {
    "open": "funded",
    "proven": "proven",
    "disputed": "disputed",
    "settled": "settled",
    "refunded": "refunded",
    "orphaned": "orphaned",
}


def step_of(name: str) -> TaskEventKind | None:
    """The step of a task that the event named `name` is; None when it is none."""
    return _STEPS.get(name)
