"""Parties of events, earnings, pools and totals; readings of leases; events by name and place.

Rows that were folded before know nothing of these: `cursor.fold` stays empty, and the index asks
for a reindex."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallystick_backend.store import types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("cursor") as cursor:
        cursor.add_column(sa.Column("fold", sa.Integer(), nullable=True))
    op.drop_index(op.f("ix_chain_event_name"), table_name="chain_event")
    op.create_index("ix_chain_event_newest", "chain_event", ["name", "id"])
    op.create_index(op.f("ix_chain_event_tx_hash"), "chain_event", ["tx_hash"])
    op.drop_index(op.f("ix_call_app_id"), table_name="call")
    op.create_index("ix_call_of_app", "call", ["app_id", "asked_at_ms"])

    op.create_table(
        "chain_event_party",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("event_id", BIG, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["chain_event.id"],
            name=op.f("fk_chain_event_party_event_id_chain_event"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("address", "event_id", name=op.f("pk_chain_event_party")),
    )
    op.create_index(op.f("ix_chain_event_party_event_id"), "chain_event_party", ["event_id"])
    op.create_index(
        "ix_chain_event_party_newest", "chain_event_party", ["address", "name", "event_id"]
    )

    op.create_table(
        "earned",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("tasks", types.WeiColumn(), nullable=False),
        sa.Column("tasks_settled", sa.BigInteger(), nullable=False),
        sa.Column("calls", types.WeiColumn(), nullable=False),
        sa.Column("redemptions", sa.BigInteger(), nullable=False),
        sa.Column("dispatch", types.WeiColumn(), nullable=False),
        sa.Column("royalties", types.WeiColumn(), nullable=False),
        sa.Column("court", types.WeiColumn(), nullable=False),
        sa.Column("commission", types.WeiColumn(), nullable=False),
        sa.Column("rewards", types.WeiColumn(), nullable=False),
        sa.Column("withdrawn", types.WeiColumn(), nullable=False),
        sa.Column("fees", types.WeiColumn(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_earned")),
    )
    op.create_table(
        "pool",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("delegated", types.WeiColumn(), nullable=False),
        sa.Column("undelegating", types.WeiColumn(), nullable=False),
        sa.Column("delegators", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("fees", types.WeiColumn(), nullable=False),
        sa.Column("commission_bps", sa.Integer(), nullable=False),
        sa.Column("commission_at_s", types.Uint64Column(), nullable=False),
        sa.Column("commission_before_bps", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_pool")),
    )
    op.create_table(
        "delegation",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("delegator", sa.String(), nullable=False),
        sa.Column("shares", types.WeiColumn(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("put_in", types.WeiColumn(), nullable=False),
        sa.Column("taken_out", types.WeiColumn(), nullable=False),
        sa.Column("claimed", types.WeiColumn(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_delegation")),
    )
    op.create_index("ix_delegation_of_delegator", "delegation", ["delegator", "place"])
    op.create_table(
        "totals",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("escrowed", types.WeiColumn(), nullable=False),
        sa.Column("staked", types.WeiColumn(), nullable=False),
        sa.Column("delegated", types.WeiColumn(), nullable=False),
        sa.Column("slashed", types.WeiColumn(), nullable=False),
        sa.Column("tasks_settled", sa.BigInteger(), nullable=False),
        sa.Column("task_charges", types.WeiColumn(), nullable=False),
        sa.Column("redemptions", sa.BigInteger(), nullable=False),
        sa.Column("call_charges", types.WeiColumn(), nullable=False),
        sa.Column("fees", types.WeiColumn(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_totals")),
    )

    op.create_table(
        "lease_sample",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("gpus", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease_sample")),
    )
    op.create_index("ix_lease_sample_in_order", "lease_sample", ["task_id", "id"])


def downgrade() -> None:
    for table in ("lease_sample", "totals", "delegation", "pool", "earned", "chain_event_party"):
        op.drop_table(table)
    op.drop_index("ix_call_of_app", table_name="call")
    op.create_index(op.f("ix_call_app_id"), "call", ["app_id"])
    op.drop_index(op.f("ix_chain_event_tx_hash"), table_name="chain_event")
    op.drop_index("ix_chain_event_newest", table_name="chain_event")
    op.create_index(op.f("ix_chain_event_name"), "chain_event", ["name"])
    with op.batch_alter_table("cursor") as cursor:
        cursor.drop_column("fold")
