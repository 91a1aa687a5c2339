"""What accounts earned, what pools hold, and what the market came to: sums over the events, folded
beside the entities that they are about. Pure.

They follow from the same events as everything else, so a reorganisation takes them back in the same
way, and a page never has to add up a history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar

from tallystick.protocol import events
from tallystick.protocol.contracts import PotKind
from tallystick_backend.index.errors import BooksDoNotBalance
from tallystick_backend.index.keys import EntityKey


@dataclass(frozen=True, slots=True)
class Earned:
    """By one account, over its life, before the protocol's fee."""

    address: str
    tasks: int = 0
    """Its part of settled tasks."""
    tasks_settled: int = 0
    calls: int = 0
    """Redeemed vouchers."""
    redemptions: int = 0
    dispatch: int = 0
    royalties: int = 0
    court: int = 0
    """For checking, or of the bond of a dispute that was wrong."""
    commission: int = 0
    """Of the fees of its own pool."""
    rewards: int = 0
    """Claimed from pools that it delegates to."""
    withdrawn: int = 0
    fees: int = 0
    """The protocol's, taken when credit was withdrawn."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What others delegated to a provider."""

    provider: str
    delegated: int = 0
    undelegating: int = 0
    delegators: int = 0
    generation: int = 0
    """Rises when a slash left nothing: shares of earlier ones are void."""
    fees: int = 0
    """Brought to the pool so far, without the commission."""
    commission_bps: int = 0
    commission_at_s: int = 0
    """From when on `commission_bps` holds; before, `commission_before_bps`."""
    commission_before_bps: int = 0


@dataclass(frozen=True, slots=True)
class Delegation:
    """One delegator's part of a pool."""

    place: str
    """`provider/delegator`"""
    provider: str
    delegator: str
    shares: int = 0
    generation: int = 0
    put_in: int = 0
    taken_out: int = 0
    claimed: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the whole market."""

    name: str = "market"
    escrowed: int = 0
    """What lies in the escrow."""
    staked: int = 0
    delegated: int = 0
    slashed: int = 0
    tasks_settled: int = 0
    task_charges: int = 0
    redemptions: int = 0
    call_charges: int = 0
    fees: int = 0


Sum: TypeAlias = Earned | Pool | Delegation | Totals
SUMS: Final[Mapping[str, type[Sum]]] = {
    "earned": Earned,
    "pool": Pool,
    "delegation": Delegation,
    "totals": Totals,
}
TOTALS: Final = EntityKey("totals:market")

_Adds = dict[EntityKey, dict[str, int]]
_S = TypeVar("_S", bound=Sum)


def touched(event: object) -> tuple[EntityKey, ...]:
    """The sums that `apply` changes."""
    keys = list(_adds(event))
    match event:
        case events.Staked() | events.UnbondRequested():
            keys.append(TOTALS)
        case events.Slashed():
            keys += [TOTALS, pool_key(event.provider)]
        case events.Delegated() | events.UndelegateRequested():
            keys += [
                TOTALS,
                pool_key(event.provider),
                delegation_key(event.provider, event.delegator),
            ]
        case events.RewardsClaimed():
            keys.append(delegation_key(event.provider, event.delegator))
        case events.DelegationWithdrawn() | events.CommissionSet() | events.FeesAdded():
            keys.append(pool_key(event.provider))
        case events.PotVoided():
            keys += [TOTALS, pool_key(event.provider)]
        case _:
            pass
    return tuple(dict.fromkeys(keys))


def apply(event: object, before: Mapping[EntityKey, Any]) -> dict[EntityKey, Sum]:
    """`before` holds the provider of an event on stake, too."""
    changed: dict[EntityKey, Sum] = {}

    def find(key: EntityKey, kind: type[_S], **fresh: Any) -> _S:
        found = changed.get(key) or before.get(key)
        return found if isinstance(found, kind) else kind(**fresh)

    def totals(**adds: int) -> None:
        changed[TOTALS] = _plus(find(TOTALS, Totals), adds)

    def pool(provider: str) -> Pool:
        return find(pool_key(provider), Pool, provider=provider.lower())

    def delegation(provider: str, delegator: str) -> Delegation:
        key = delegation_key(provider, delegator)
        mine = find(
            key,
            Delegation,
            place=_id(key),
            provider=provider.lower(),
            delegator=delegator.lower(),
        )
        generation = pool(provider).generation
        # What a slash left nothing of is gone.
        return (
            mine
            if mine.generation == generation
            else replace(mine, shares=0, generation=generation)
        )

    for key, adds in _adds(event).items():
        kind = SUMS[key.partition(":")[0]]
        fresh = {"address": _id(key)} if kind is Earned else {}
        changed[key] = _plus(find(key, kind, **fresh), adds)

    match event:
        case events.Staked() | events.UnbondRequested():
            totals(staked=event.bonded - _stake(event.provider, before))
        case events.Slashed():
            held = pool(event.provider)
            totals(
                staked=event.bonded - _stake(event.provider, before),
                delegated=event.delegated - held.delegated,
                slashed=event.amount,
            )
            changed[pool_key(event.provider)] = replace(
                held, delegated=event.delegated, undelegating=event.undelegating
            )
        case events.Delegated():
            held, mine = pool(event.provider), delegation(event.provider, event.delegator)
            totals(delegated=event.delegated - held.delegated)
            changed[pool_key(event.provider)] = replace(
                held, delegated=event.delegated, delegators=held.delegators + (mine.shares == 0)
            )
            changed[delegation_key(event.provider, event.delegator)] = _plus(
                mine, {"shares": event.shares, "put_in": event.amount}
            )
        case events.UndelegateRequested():
            held, mine = pool(event.provider), delegation(event.provider, event.delegator)
            mine = _plus(mine, {"shares": -event.shares, "taken_out": event.amount})
            totals(delegated=event.delegated - held.delegated)
            changed[pool_key(event.provider)] = replace(
                held,
                delegated=event.delegated,
                undelegating=held.undelegating + event.amount,
                delegators=max(0, held.delegators - (mine.shares == 0)),
            )
            changed[delegation_key(event.provider, event.delegator)] = mine
        case events.DelegationWithdrawn():
            held = pool(event.provider)
            # Slashes round each request for itself.
            left = max(0, held.undelegating - event.amount)
            changed[pool_key(event.provider)] = replace(held, undelegating=left)
        case events.RewardsClaimed():
            mine = delegation(event.provider, event.delegator)
            changed[delegation_key(event.provider, event.delegator)] = _plus(
                mine, {"claimed": event.amount}
            )
        case events.CommissionSet():
            held = pool(event.provider)
            now_s = event.at.timestamp_s
            in_force = held.commission_before_bps
            if held.commission_at_s <= now_s:
                in_force = held.commission_bps
            changed[pool_key(event.provider)] = replace(
                held,
                commission_bps=event.bps,
                commission_at_s=event.effective_at,
                commission_before_bps=in_force,
            )
        case events.FeesAdded():
            held = pool(event.provider)
            changed[pool_key(event.provider)] = _plus(
                held, {"fees": event.amount - event.commission}
            )
        case events.PotVoided():
            held = pool(event.provider)
            if event.pot == PotKind.DELEGATED:
                totals(delegated=-held.delegated)
                held = replace(held, delegated=0, delegators=0, generation=event.generation + 1)
            else:
                totals()
                if event.pot == PotKind.UNDELEGATING:
                    held = replace(held, undelegating=0)
            changed[pool_key(event.provider)] = held
        case _:
            pass
    return changed


def _adds(event: object) -> _Adds:
    """What an event adds to which figure, where it is no more than that."""
    match event:
        case events.Deposited() | events.ChannelDeposited():
            return {TOTALS: {"escrowed": event.amount}}
        case events.Withdrawn():
            return {TOTALS: {"escrowed": -event.amount}}
        case events.CreditWithdrawn():
            return {
                TOTALS: {"escrowed": -event.paid, "fees": event.fee},
                earned_key(event.payee): {"withdrawn": event.paid, "fees": event.fee},
            }
        case events.FeesShared():
            return {TOTALS: {"escrowed": -(event.to_pool + event.to_treasury)}}
        case events.TaskSettled():
            return _of_task(event)
        case events.VoucherRedeemed():
            return {
                TOTALS: {"redemptions": 1, "call_charges": event.amount},
                earned_key(event.provider): {"calls": event.amount, "redemptions": 1},
            }
        case events.DisputeResolved():
            found: _Adds = {}
            if event.provider_part:
                _add(found, event.provider, "court", event.provider_part)
            for checker in event.checkers if event.per_checker else ():
                _add(found, checker, "court", event.per_checker)
            return found
        case events.FeesAdded() if event.commission:
            return {earned_key(event.provider): {"commission": event.commission}}
        case events.RewardsClaimed():
            return {earned_key(event.delegator): {"rewards": event.amount}}
        case _:
            return {}


def _of_task(event: events.TaskSettled) -> _Adds:
    found: _Adds = {TOTALS: {"tasks_settled": 1, "task_charges": event.charge}}
    _add(found, event.provider, "tasks", event.provider_share)
    _add(found, event.provider, "tasks_settled", 1)
    if event.dispatcher_share:
        _add(found, event.dispatcher, "dispatch", event.dispatcher_share)
    if event.royalty_share:
        _add(found, event.royalty_to, "royalties", event.royalty_share)
    return found


def _add(found: _Adds, address: str, name: str, amount: int) -> None:
    mine = found.setdefault(earned_key(address), {})
    mine[name] = mine.get(name, 0) + amount


def _plus(entity: _S, adds: Mapping[str, int]) -> _S:
    after = {name: getattr(entity, name) + amount for name, amount in adds.items()}
    for name, figure in after.items():
        if figure < 0:
            raise BooksDoNotBalance(f"{entity} would have {figure} {name}")
    return replace(entity, **after)


def _stake(provider: str, before: Mapping[EntityKey, Any]) -> int:
    known = before.get(EntityKey(f"provider:{provider.lower()}"))
    return 0 if known is None else int(known.stake)


def _id(key: EntityKey) -> str:
    return key.partition(":")[2]


def earned_key(address: str) -> EntityKey:
    return EntityKey(f"earned:{address.lower()}")


def pool_key(provider: str) -> EntityKey:
    return EntityKey(f"pool:{provider.lower()}")


def delegation_key(provider: str, delegator: str) -> EntityKey:
    return EntityKey(f"delegation:{provider.lower()}/{delegator.lower()}")
