"""The migrations and the tables say the same, up and down, on both databases."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from tallystick_backend.migrations.run import downgrade, upgrade
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import Table


async def test_the_migrated_schema_equals_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Table.metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_down_removes_everything_and_up_brings_it_back(database: Database) -> None:
    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}

    async with database.engine.connect() as connection:
        await connection.run_sync(downgrade)
        await connection.commit()
        assert await connection.run_sync(tables) == set()
        await connection.run_sync(upgrade)
        await connection.commit()
        assert await connection.run_sync(tables) == set(Table.metadata.tables)


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    await database.migrate()
    await database.migrate()
