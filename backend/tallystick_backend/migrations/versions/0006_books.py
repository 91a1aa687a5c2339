"""Whether the rows agree with the contracts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "books",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "block_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("differences", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_books")),
    )


def downgrade() -> None:
    op.drop_table("books")
