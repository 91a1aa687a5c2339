"""Cursor and rows, in one transaction: what the chain said up to a block, all of it or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.types import ZERO_ADDRESS
from tallystick_backend.chain import Header
from tallystick_backend.index import project, sums
from tallystick_backend.index.project import Entity, EntityKey, Followed
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.repositories import events as steps
from tallystick_backend.store.tables import (
    AccountRow,
    AppDiscountRow,
    AppPriceRow,
    AppRow,
    AppVersionRow,
    ChannelRow,
    CursorRow,
    DelegationRow,
    EarnedRow,
    OperatorKeyRow,
    PoolRow,
    ProviderRow,
    TaskChainRow,
    TotalsRow,
)

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)

_TABLES: Mapping[type[Entity], type[rows.EntityRow]] = {
    project.Task: TaskChainRow,
    project.Account: AccountRow,
    project.Provider: ProviderRow,
    project.OperatorKey: OperatorKeyRow,
    project.Channel: ChannelRow,
    project.App: AppRow,
    project.AppVersion: AppVersionRow,
    project.AppPrice: AppPriceRow,
    project.AppDiscount: AppDiscountRow,
    sums.Earned: EarnedRow,
    sums.Pool: PoolRow,
    sums.Delegation: DelegationRow,
    sums.Totals: TotalsRow,
}


@dataclass(frozen=True, slots=True)
class Branch:
    """Blocks that follow `parent`, with our contracts' events in chain order."""

    parent: Header
    headers: tuple[Header, ...]
    """At least the last one and every block with an event."""
    events: tuple[Followed, ...]

    @property
    def tip(self) -> Header:
        return self.headers[-1] if self.headers else self.parent


async def extend(
    session: AsyncSession,
    branch: Branch,
    *,
    head_number: int,
    finality_blocks: int,
    now_ms: int,
) -> None:
    """Appends a branch that follows the cursor."""
    before = await _load(session, branch.events)
    after = await _append_events(session, branch, before, finality_blocks)
    await _write(session, after, now_ms)
    told = [step for event in branch.events if (step := _step(event)) is not None]
    await steps.append_all(session, told, now_ms)
    await _move_cursor(session, branch.tip, head_number)
    await rows.forget_below(session, branch.tip.number - finality_blocks)


async def replace_branch(
    session: AsyncSession,
    branch: Branch,
    *,
    head_number: int,
    finality_blocks: int,
    now_ms: int,
) -> None:
    """Takes back what lies above the branch's parent and appends the branch instead."""
    images = await rows.images_before(session, branch.parent.number)
    lost_history = _history(
        (event.name, event.args) for event in await rows.events_above(session, branch.parent.number)
    )
    await rows.drop_above(session, branch.parent.number)

    restored = {EntityKey(key): _from_image(EntityKey(key), image) for key, image in images.items()}
    before = {**await _load(session, branch.events), **restored}
    after = await _append_events(session, branch, before, finality_blocks)
    await _write(session, {**restored, **after}, now_ms)

    new_history = _history((event_name(event), project.args_of(event)) for event in branch.events)
    told = _steps_of_reorg(branch, lost_history, new_history, {**restored, **after})
    await steps.append_all(session, told, now_ms)
    await _move_cursor(session, branch.tip, head_number)


async def begin(
    session: AsyncSession,
    deployment: Deployment,
    genesis_hash: str,
    start: Header,
) -> None:
    """The first row of a new database: nothing indexed yet, up to and with `start`."""
    session.add(
        CursorRow(
            id=1,
            chain_id=deployment.chain_id,
            genesis_hash=genesis_hash,
            escrow=deployment.escrow.lower(),
            market=deployment.market.lower(),
            staking=deployment.staking.lower(),
            app_registry=deployment.registry.lower(),
            fold=project.FOLD,
            block_number=start.number,
            block_hash=start.hash,
            block_timestamp_s=start.timestamp_s,
            head_number=start.number,
        )
    )
    await rows.add_blocks(session, [_block_row(start)])


def event_name(event: Followed) -> str:
    return type(event).__name__


# --- entities ---------------------------------------------------------------------------------


async def _load(
    session: AsyncSession, events: Iterable[Followed]
) -> dict[EntityKey, Entity | None]:
    keys = {key for event in events for key in project.touched(event)}
    found: dict[EntityKey, Entity | None] = dict.fromkeys(keys)
    for kind, table in _TABLES.items():
        of_kind = {project.id_of(key): key for key in keys if project.kind_of(key) is kind}
        for entity_id, row in (await rows.entities(session, table, of_kind)).items():
            found[of_kind[entity_id]] = _from_row(kind, row)
    return found


def _from_row(kind: type[Entity], row: rows.EntityRow) -> Entity | None:
    if isinstance(row, TaskChainRow) and row.state == "orphaned":
        # It is on no branch; should its creation come back, it begins anew.
        return None
    return kind(**{field.name: getattr(row, field.name) for field in fields(kind)})


def _from_image(key: EntityKey, image: Mapping[str, Any] | None) -> Entity | None:
    return None if image is None else project.kind_of(key)(**image)


async def _write(
    session: AsyncSession, after: Mapping[EntityKey, Entity | None], now_ms: int
) -> None:
    for kind, table in _TABLES.items():
        of_kind = {
            project.id_of(key): entity
            for key, entity in after.items()
            if project.kind_of(key) is kind
        }
        there = await rows.entities(session, table, of_kind)
        for entity_id, entity in of_kind.items():
            row = there.get(entity_id)
            if entity is not None:
                values = asdict(entity)
                if row is None:
                    session.add(table(**values))
                else:
                    row.sqlmodel_update(values)
                    if isinstance(row, TaskChainRow):
                        row.orphaned_at_ms = None
                    session.add(row)
            elif isinstance(row, TaskChainRow):
                # Somebody may be working on it: it stays, as a warning.
                row.state = "orphaned"
                row.orphaned_at_ms = now_ms
                session.add(row)
            elif row is not None:
                await session.delete(row)
    await session.flush()


async def _append_events(
    session: AsyncSession,
    branch: Branch,
    before: Mapping[EntityKey, Entity | None],
    finality_blocks: int,
) -> dict[EntityKey, Entity | None]:
    """Writes blocks and events down, each event with what it touched as it was before; without
    that image where no rewind can reach."""
    final_number = branch.tip.number - finality_blocks
    await rows.add_blocks(session, [_block_row(header) for header in branch.headers])
    ids = await rows.add_events(session, [_event_row(event) for event in branch.events])
    now = dict(before)
    changed: dict[EntityKey, Entity | None] = {}
    touched: list[dict[str, Any]] = []
    for event_id, event in zip(ids, branch.events, strict=True):
        after = project.apply(event, now)
        for key in after:
            image = now.get(key) if event.at.block_number > final_number else None
            touched.append(
                {
                    "entity": key,
                    "event_id": event_id,
                    "before": None if image is None else asdict(image),
                }
            )
        now |= after
        changed |= after
    await rows.add_touched(session, touched)
    await rows.add_parties(
        session,
        [
            {"address": address, "event_id": event_id, "name": event_name(event)}
            for event_id, event in zip(ids, branch.events, strict=True)
            for address in parties(project.args_of(event))
        ],
    )
    return changed


def parties(args: Mapping[str, Any]) -> list[str]:
    """Every account that an event names, each once, in lower case; zero is nobody."""
    texts: list[Any] = []
    for value in args.values():
        texts += value.values() if isinstance(value, dict) else _listed(value)
    named = (text.lower() for text in texts if isinstance(text, str) and _ADDRESS.fullmatch(text))
    return sorted(set(named) - {ZERO_ADDRESS})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _block_row(header: Header) -> dict[str, Any]:
    return {
        "number": header.number,
        "hash": header.hash,
        "parent_hash": header.parent_hash,
        "timestamp_s": header.timestamp_s,
    }


def _event_row(event: Followed) -> dict[str, Any]:
    return {
        "block_number": event.at.block_number,
        "block_hash": event.at.block_hash,
        "log_index": event.at.log_index,
        "tx_hash": event.at.tx_hash,
        "timestamp_s": event.at.timestamp_s,
        "contract": event.CONTRACT,
        "name": event_name(event),
        "args": project.args_of(event),
    }


async def _move_cursor(session: AsyncSession, tip: Header, head_number: int) -> None:
    cursor = await rows.cursor(session)
    assert cursor is not None
    cursor.block_number = tip.number
    cursor.block_hash = tip.hash
    cursor.block_timestamp_s = tip.timestamp_s
    cursor.head_number = head_number
    cursor.degraded = None
    session.add(cursor)
    await session.flush()


# --- steps for those who watch a task ---------------------------------------------------------

_Told = tuple[str, Mapping[str, Any]]
"""Name and arguments of an event: what happened, not where."""

_SHOWN = ("provider", "fence", "charge", "amount", "receipt", "challenge_ends_at", "end")


def _step(event: Followed) -> steps.Step | None:
    kind = project.step_of(event_name(event))
    if kind is None:
        return None
    args = project.args_of(event)
    place = {"tx": event.at.tx_hash, "block": event.at.block_number}
    return steps.Step(
        args["task_id"].lower(),
        kind,
        place | {name: args[name] for name in _SHOWN if name in args},
    )


def _history(events: Iterable[_Told]) -> dict[str, list[_Told]]:
    """What happened to each task, in order."""
    by_task: dict[str, list[_Told]] = {}
    for name, args in events:
        if project.step_of(name) is not None:
            by_task.setdefault(args["task_id"].lower(), []).append((name, args))
    return by_task


def _steps_of_reorg(
    branch: Branch,
    lost: Mapping[str, Sequence[_Told]],
    new: Mapping[str, Sequence[_Told]],
    after: Mapping[EntityKey, Entity | None],
) -> list[steps.Step]:
    """What is different on the new branch, and nothing of what only moved to another block."""
    told: list[steps.Step] = []
    known = dict.fromkeys(new, 0)
    for task_id in sorted(lost.keys() | new.keys()):
        before, now = lost.get(task_id, ()), new.get(task_id, ())
        if list(now[: len(before)]) == list(before):
            known[task_id] = len(before)
            continue
        known[task_id] = len(now)
        task = after.get(EntityKey(f"task:{task_id}"))
        kind = project.STEP_OF_STATE[task.state if isinstance(task, project.Task) else "orphaned"]
        told.append(steps.Step(task_id, kind, {"reorganised": True, "block": branch.tip.number}))
    for event in branch.events:
        step = _step(event)
        if step is None:
            continue
        if known[step.task_id] > 0:
            known[step.task_id] -= 1
        else:
            told.append(step)
    return told
