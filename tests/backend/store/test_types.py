"""Amounts of any size come back as they went in and sort as numbers, on both databases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import col, select

from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import AccountRow, TaskChainRow
from tallystick_backend.store.types import WEI_DIGITS, PaddedInteger, WeiColumn

AMOUNTS = [0, 1, 9, 10, 2**53 + 1, 2**63 - 1, 2**63, 10**24, 2**128 - 1, 2**256 - 1]


async def test_amounts_survive_the_round_trip(database: Database) -> None:
    async with database.transaction() as session:
        for amount in AMOUNTS:
            session.add(AccountRow(address=hex(amount), available=amount))
    async with database.read() as session:
        rows = (await session.exec(select(AccountRow))).all()
    assert {row.address: row.available for row in rows} == {hex(a): a for a in AMOUNTS}


async def test_the_database_orders_and_compares_amounts_as_numbers(database: Database) -> None:
    async with database.transaction() as session:
        for amount in reversed(AMOUNTS):
            session.add(AccountRow(address=hex(amount), available=amount))
    available = col(AccountRow.available)
    async with database.read() as session:
        ordered = await session.exec(select(available).order_by(available))
        above = await session.exec(select(available).where(available > 2**63 - 1))
        exact = await session.exec(select(available).where(available == 2**128 - 1))
    assert list(ordered) == AMOUNTS
    assert sorted(above) == [a for a in AMOUNTS if a > 2**63 - 1]
    assert list(exact) == [2**128 - 1]


async def test_a_deadline_of_two_to_the_64_less_one_is_only_a_number(database: Database) -> None:
    last = 2**64 - 1
    async with database.transaction() as session:
        session.add(
            TaskChainRow(task_id="0x1", state="open", consumer="0x2", end_s=last, fence=last)
        )
    async with database.read() as session:
        row = await session.get(TaskChainRow, "0x1")
    assert row is not None
    assert (row.end_s, row.fence) == (last, last)


@given(st.integers(min_value=0, max_value=2**256 - 1), st.integers(0, 2**256 - 1))
def test_the_text_sorts_like_the_number(a: int, b: int) -> None:
    column = WeiColumn()
    text_a, text_b = (column.process_bind_param(n, None) for n in (a, b))  # type: ignore[arg-type]
    assert text_a is not None
    assert text_b is not None
    assert len(text_a) == WEI_DIGITS
    assert (text_a < text_b, text_a == text_b) == (a < b, a == b)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param(-1, ValueError, id="below zero"),
        pytest.param(10**20, ValueError, id="wider than the column"),
        pytest.param(1.0, TypeError, id="a float"),
        pytest.param(True, TypeError, id="a truth value"),
        pytest.param("1", TypeError, id="text"),
    ],
)
def test_anything_but_a_fitting_whole_number_is_refused(
    value: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        PaddedInteger(20).process_bind_param(value, None)  # type: ignore[arg-type]
