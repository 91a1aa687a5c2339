"""What a verdict leaves of a provider: seats set aside, and jail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("provider") as provider:
        provider.add_column(sa.Column("seats", sa.BigInteger(), nullable=False, server_default="0"))
        provider.add_column(sa.Column("jailed_until_s", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("provider") as provider:
        provider.drop_column("jailed_until_s")
        provider.drop_column("seats")
