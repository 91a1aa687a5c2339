"""Calls with their receipts, the payer's journal, session keys, allowances, spend limits and
spending, manifests, which gateway signs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallystick_backend.store import types

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_app_salt"), "app", ["salt"])
    op.create_table(
        "manifest",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_manifest")),
    )

    op.create_table(
        "session_key",
        sa.Column("signer", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("retired_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("gas_wei", types.WeiColumn(), nullable=False),
        sa.PrimaryKeyConstraint("signer", name=op.f("pk_session_key")),
    )
    op.create_index(op.f("ix_session_key_account"), "session_key", ["account"])

    op.create_table(
        "channel_allowance",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("payer", sa.String(), nullable=False),
        sa.Column("signer", sa.String(), nullable=False),
        sa.Column("cap", types.WeiColumn(), nullable=False),
        sa.Column("expires_at_s", types.Uint64Column(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("nonce", types.WeiColumn(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_channel_allowance")),
    )
    op.create_index(op.f("ix_channel_allowance_payer"), "channel_allowance", ["payer"])

    op.create_table(
        "gateway_journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway_journal")),
    )

    op.create_table(
        "paying_channel",
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column(
            "used_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", name=op.f("pk_paying_channel")),
    )

    op.create_table(
        "call",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("gpu_class", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "asked_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column(
            "queued_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "cold_start_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("run_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("gpu_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flat", types.WeiColumn(), nullable=False),
        sa.Column("fee_per_call", types.WeiColumn(), nullable=False),
        sa.Column("rate_per_gpu_second", types.WeiColumn(), nullable=False),
        sa.Column("charge", types.WeiColumn(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("total", types.WeiColumn(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=True),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("voucher", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column(
            "result_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("forget_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("webhook_url", sa.Text(), nullable=False),
        sa.Column("webhook_state", sa.String(), nullable=False),
        sa.Column("webhook_attempts", sa.Integer(), nullable=False),
        sa.Column("webhook_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("warm_id", sa.String(), nullable=True),
        sa.Column("signer", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_call")),
        sa.UniqueConstraint(
            "account", "idempotency_key", name=op.f("uq_call_account_idempotency_key")
        ),
    )
    op.create_index(op.f("ix_call_app_id"), "call", ["app_id"])
    op.create_index("ix_call_in_channel", "call", ["channel_id", "seq"])
    op.create_index("ix_call_webhook_due", "call", ["webhook_at_ms"])
    op.create_index("ix_call_forgotten", "call", ["forget_at_ms"])
    op.create_index("ix_call_mine", "call", ["account", "asked_at_ms", "call_id"])
    op.create_index(
        "ix_call_warm",
        "call",
        ["warm_id", "asked_at_ms"],
        sqlite_where=sa.text("warm_id is not null"),
        postgresql_where=sa.text("warm_id is not null"),
    )

    op.create_table(
        "keep_warm",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("wish", sa.String(), nullable=True),
        sa.Column("every_s", sa.Integer(), nullable=False),
        sa.Column("max_per_hour", types.WeiColumn(), nullable=False),
        sa.Column("until_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("next_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("counted_ms", sa.BigInteger(), nullable=False),
        sa.Column("spent", types.WeiColumn(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("hour_spent", types.WeiColumn(), nullable=False),
        sa.Column("run_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_call_id", sa.String(), nullable=False),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("failed_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keep_warm")),
        sa.UniqueConstraint("wish", name=op.f("uq_keep_warm_wish")),
    )
    op.create_index("ix_keep_warm_due", "keep_warm", ["next_at_ms"])
    op.create_index("ix_keep_warm_mine", "keep_warm", ["account", "created_at_ms"])

    op.create_table(
        "spend_limit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("limit_units", types.WeiColumn(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spend_limit")),
        sa.UniqueConstraint(
            "account",
            "scope",
            "subject",
            "period",
            name=op.f("uq_spend_limit_account_scope_subject_period"),
        ),
    )
    op.create_index(op.f("ix_spend_limit_account"), "spend_limit", ["account"])

    op.create_table(
        "spend",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("day", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("charge", types.WeiColumn(), nullable=False),
        sa.Column("calls", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("account", "day", "key_id", "app_id", name=op.f("pk_spend")),
    )

    op.create_table(
        "gateway",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column(
            "held_until_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway")),
    )


def downgrade() -> None:
    op.drop_table("gateway")
    op.drop_table("spend")
    op.drop_table("spend_limit")
    op.drop_table("keep_warm")
    op.drop_table("call")
    op.drop_table("paying_channel")
    op.drop_table("gateway_journal")
    op.drop_table("channel_allowance")
    op.drop_table("session_key")
    op.drop_table("manifest")
    op.drop_index(op.f("ix_app_salt"), "app")
