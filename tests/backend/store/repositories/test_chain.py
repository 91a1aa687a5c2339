"""Questions about what the chain says."""

from __future__ import annotations

import pytest

from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import OperatorKeyRow, ProviderRow, TaskChainRow

PROVIDER, OTHER = "0x" + "aa" * 20, "0x" + "bb" * 20
KEY, RETIRED = "0x" + "cc" * 20, "0x" + "dd" * 20


@pytest.mark.parametrize(
    ("key", "provider", "expected"),
    [
        pytest.param(PROVIDER, PROVIDER, True, id="a provider signs for itself"),
        pytest.param(KEY, PROVIDER, True, id="a bound key"),
        pytest.param(KEY.upper().replace("0X", "0x"), PROVIDER, True, id="in any case"),
        pytest.param(KEY, OTHER, False, id="a key of somebody else"),
        pytest.param(RETIRED, PROVIDER, False, id="a retired key"),
        pytest.param(OTHER, PROVIDER, False, id="a stranger"),
    ],
)
async def test_who_signs_for_a_provider(
    database: Database, key: str, provider: str, expected: bool
) -> None:
    async with database.transaction() as session:
        session.add(OperatorKeyRow(key=KEY, provider=PROVIDER))
        session.add(OperatorKeyRow(key=RETIRED, provider=PROVIDER, retired_at_s=1))
    async with database.read() as session:
        assert await rows.key_signs_for(session, key, provider) is expected


async def test_an_account_the_escrow_never_saw_has_nothing(database: Database) -> None:
    async with database.read() as session:
        account = await rows.account(session, PROVIDER)
    assert (account.available, account.locked, account.credit) == (0, 0, 0)


async def test_many_tasks_are_found_at_once(database: Database) -> None:
    ids = [f"0x{n:064x}" for n in range(1200)]
    async with database.transaction() as session:
        for task_id in ids[:1100]:
            session.add(TaskChainRow(task_id=task_id, state="open", consumer=OTHER))
    async with database.read() as session:
        found = await rows.tasks(session, ids)
        page = await rows.tasks_in_state(session, "open", after=ids[9], limit=5)
    assert sorted(found) == ids[:1100]
    assert [row.task_id for row in page] == ids[10:15]


async def test_a_task_is_reclaimable_once_its_end_has_passed(database: Database) -> None:
    async with database.transaction() as session:
        for name, state, end_s in (
            ("0x1", "open", 99),
            ("0x2", "open", 100),
            ("0x3", "open", 2**64 - 1),
            ("0x4", "proven", 1),
        ):
            session.add(TaskChainRow(task_id=name, state=state, consumer=OTHER, end_s=end_s))
    async with database.read() as session:
        found = await rows.reclaimable_tasks(session, now_s=100)
    assert [row.task_id for row in found] == ["0x1"]


async def test_providers_come_by_address(database: Database) -> None:
    async with database.transaction() as session:
        for address in (OTHER, PROVIDER):
            session.add(ProviderRow(address=address))
    async with database.read() as session:
        everybody = await rows.providers(session)
        rest = await rows.providers(session, after=PROVIDER)
    assert [row.address for row in everybody] == [PROVIDER, OTHER]
    assert [row.address for row in rest] == [OTHER]
