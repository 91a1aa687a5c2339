"""Apps with their versions, prices and discounts, and channels.

The rows are a fold of events that the index did not read before. `cursor.app_registry` is NULL for
a database filled until now, and the index asks for `tallystick-backend reindex` then.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallystick_backend.store import types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("cursor") as cursor:
        cursor.add_column(sa.Column("app_registry", sa.String(), nullable=True))

    op.create_table(
        "app",
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("publisher", sa.String(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("royalty_to", sa.String(), nullable=False),
        sa.Column("royalty_bps", sa.Integer(), nullable=False),
        sa.Column("published_at_s", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.BigInteger(), nullable=False),
        sa.Column("manifest_uri", sa.Text(), nullable=False),
        sa.Column("retired_at_s", types.Uint64Column(), nullable=True),
        sa.Column("permanent", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_app")),
    )
    op.create_index(op.f("ix_app_publisher"), "app", ["publisher"])
    op.create_index("ix_app_newest", "app", ["published_at_s", "app_id"])

    op.create_table(
        "app_version",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("image_digest", sa.String(), nullable=False),
        sa.Column("manifest_digest", sa.String(), nullable=False),
        sa.Column("manifest_uri", sa.Text(), nullable=False),
        sa.Column("published_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_app_version")),
    )
    op.create_index("ix_app_version_in_order", "app_version", ["app_id", "version"])

    op.create_table(
        "app_price",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("from_s", types.Uint64Column(), nullable=False),
        sa.Column("flat", types.WeiColumn(), nullable=False),
        sa.Column("fee_per_call", types.WeiColumn(), nullable=False),
        sa.Column("rate_per_gpu_second", types.WeiColumn(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_app_price")),
    )
    op.create_index("ix_app_price_in_order", "app_price", ["app_id", "version", "from_s"])

    op.create_table(
        "app_discount",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("bps", sa.Integer(), nullable=False),
        sa.Column("start_s", types.Uint64Column(), nullable=False),
        sa.Column("end_s", types.Uint64Column(), nullable=False),
        sa.Column("announced_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_app_discount")),
    )
    op.create_index("ix_app_discount_in_order", "app_discount", ["app_id", "place"])

    op.create_table(
        "channel",
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("payer", sa.String(), nullable=False),
        sa.Column("signer", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("salt", types.Uint96Column(), nullable=False),
        sa.Column("opened_at_s", sa.BigInteger(), nullable=False),
        sa.Column("deposited", types.WeiColumn(), nullable=False),
        sa.Column("claimed", types.WeiColumn(), nullable=False),
        sa.Column("close_at_s", types.Uint64Column(), nullable=True),
        sa.Column("receipt_digest", sa.String(), nullable=True),
        sa.Column("redeemed_at_s", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("channel_id", name=op.f("pk_channel")),
    )
    op.create_index(op.f("ix_channel_payer"), "channel", ["payer"])
    op.create_index(op.f("ix_channel_provider"), "channel", ["provider"])
    op.create_index("ix_channel_newest", "channel", ["opened_at_s", "channel_id"])


def downgrade() -> None:
    for table in ("channel", "app_discount", "app_price", "app_version", "app"):
        op.drop_table(table)
    with op.batch_alter_table("cursor") as cursor:
        cursor.drop_column("app_registry")
