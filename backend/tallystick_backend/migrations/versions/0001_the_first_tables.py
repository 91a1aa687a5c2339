"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallystick_backend.store import types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "acceptance",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("total", types.WeiColumn(), nullable=False),
        sa.Column("receipt_digest", sa.String(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_acceptance")),
    )
    op.create_table(
        "account",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("available", types.WeiColumn(), nullable=False),
        sa.Column("locked", types.WeiColumn(), nullable=False),
        sa.Column("credit", types.WeiColumn(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_account")),
    )
    op.create_table(
        "announcement",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("operator_key", sa.String(), nullable=False),
        sa.Column("hpke_key", sa.String(), nullable=False),
        sa.Column("runtime", sa.String(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column(
            "last_seen_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_announcement")),
    )
    op.create_index(op.f("ix_announcement_last_seen_ms"), "announcement", ["last_seen_ms"])

    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("last_used_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_index(op.f("ix_api_key_address"), "api_key", ["address"])
    op.create_index(op.f("ix_api_key_secret_hash"), "api_key", ["secret_hash"])

    op.create_table(
        "blob",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column(
            "size_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blob")),
    )
    op.create_table(
        "block",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("parent_hash", sa.String(), nullable=False),
        sa.Column(
            "timestamp_s", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_block")),
    )
    op.create_table(
        "chain_event",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "block_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("block_hash", sa.String(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("tx_hash", sa.String(), nullable=False),
        sa.Column(
            "timestamp_s", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("contract", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_event")),
        sa.UniqueConstraint(
            "block_hash", "log_index", name=op.f("uq_chain_event_block_hash_log_index")
        ),
    )
    op.create_index(op.f("ix_chain_event_block_number"), "chain_event", ["block_number"])
    op.create_index(op.f("ix_chain_event_name"), "chain_event", ["name"])

    op.create_table(
        "cursor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("genesis_hash", sa.String(), nullable=False),
        sa.Column("escrow", sa.String(), nullable=False),
        sa.Column("market", sa.String(), nullable=False),
        sa.Column("staking", sa.String(), nullable=False),
        sa.Column(
            "block_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("block_hash", sa.String(), nullable=False),
        sa.Column(
            "block_timestamp_s",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        ),
        sa.Column(
            "head_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("degraded", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cursor")),
    )
    op.create_table(
        "idempotency",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at_ms"), "idempotency", ["created_at_ms"])

    op.create_table(
        "lease",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("gpu_class", sa.String(), nullable=False),
        sa.Column(
            "lease_from_s", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "lease_until_s", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("assignment_signature", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=True),
        sa.Column("eta_seconds", sa.Integer(), nullable=True),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("gpu_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("energy_mj", sa.BigInteger(), nullable=True),
        sa.Column(
            "updated_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("task_id", "fence", name=op.f("pk_lease")),
    )
    op.create_index("ix_lease_open", "lease", ["state", "lease_until_s"])
    op.create_index(op.f("ix_lease_provider"), "lease", ["provider"])

    op.create_table(
        "login_proof",
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_login_proof")),
    )
    op.create_index(op.f("ix_login_proof_at_ms"), "login_proof", ["at_ms"])

    op.create_table(
        "operator_key",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("retired_at_s", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_operator_key")),
    )
    op.create_index(op.f("ix_operator_key_provider"), "operator_key", ["provider"])

    op.create_table(
        "provider",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("stake", types.WeiColumn(), nullable=False),
        sa.Column("unbonding", types.WeiColumn(), nullable=False),
        sa.Column("gpus_registered", sa.BigInteger(), nullable=False),
        sa.Column("gpu_set", sa.String(), nullable=True),
        sa.Column("tasks_settled", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_provider")),
    )
    op.create_table(
        "receipt",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=False),
        sa.Column("result_digest", sa.String(), nullable=False),
        sa.Column(
            "result_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("energy_mj", sa.BigInteger(), nullable=True),
        sa.Column("peak_gpu_memory_mib", sa.Integer(), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("runtime", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "fence", name=op.f("pk_receipt")),
    )
    op.create_index(op.f("ix_receipt_digest"), "receipt", ["digest"])

    op.create_table(
        "sealed_key",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "provider", "fence", name=op.f("pk_sealed_key")),
    )
    op.create_table(
        "session",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column(
            "expires_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_address"), "session", ["address"])

    op.create_table(
        "siwe_nonce",
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column(
            "expires_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("used_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_siwe_nonce")),
    )
    op.create_table(
        "task_chain",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("max_charge", types.WeiColumn(), nullable=False),
        sa.Column("charge", types.WeiColumn(), nullable=False),
        sa.Column("end_s", types.Uint64Column(), nullable=False),
        sa.Column("cancelled_at_s", sa.BigInteger(), nullable=True),
        sa.Column("fence", types.Uint64Column(), nullable=True),
        sa.Column("receipt_digest", sa.String(), nullable=True),
        sa.Column("unlock_s", sa.BigInteger(), nullable=True),
        sa.Column("created_tx", sa.String(), nullable=True),
        sa.Column("created_block", sa.BigInteger(), nullable=True),
        sa.Column("orphaned_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("proven_tx", sa.String(), nullable=True),
        sa.Column("settled_tx", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task_chain")),
    )
    op.create_index(op.f("ix_task_chain_consumer"), "task_chain", ["consumer"])
    op.create_index(op.f("ix_task_chain_state"), "task_chain", ["state"])

    op.create_table(
        "task_event",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_event")),
    )
    op.create_index("ix_task_event_in_order", "task_event", ["task_id", "id"])

    op.create_table(
        "task_log",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_log")),
        sa.UniqueConstraint("task_id", "fence", "seq", name=op.f("uq_task_log_task_id_fence_seq")),
    )
    op.create_index("ix_task_log_in_order", "task_log", ["task_id", "id"])

    op.create_table(
        "task_order",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("secured", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("withdrawn_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task_order")),
    )
    op.create_index(op.f("ix_task_order_created_at_ms"), "task_order", ["created_at_ms"])
    op.create_index("ix_task_order_mine", "task_order", ["consumer", "created_at_ms", "task_id"])

    op.create_table(
        "task_work",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("excluded", sa.JSON(), nullable=False),
        sa.Column("needs_key_provider", sa.String(), nullable=True),
        sa.Column(
            "not_before_ms", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task_work")),
    )
    op.create_index(op.f("ix_task_work_state"), "task_work", ["state"])

    op.create_table(
        "chain_event_entity",
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["chain_event.id"],
            name=op.f("fk_chain_event_entity_event_id_chain_event"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("entity", "event_id", name=op.f("pk_chain_event_entity")),
    )
    op.create_index(op.f("ix_chain_event_entity_event_id"), "chain_event_entity", ["event_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_chain_event_entity_event_id"), table_name="chain_event_entity")

    op.drop_table("chain_event_entity")
    op.drop_index(op.f("ix_task_work_state"), table_name="task_work")

    op.drop_table("task_work")
    op.drop_index("ix_task_order_mine", table_name="task_order")
    op.drop_index(op.f("ix_task_order_created_at_ms"), table_name="task_order")

    op.drop_table("task_order")
    op.drop_index("ix_task_log_in_order", table_name="task_log")

    op.drop_table("task_log")
    op.drop_index("ix_task_event_in_order", table_name="task_event")

    op.drop_table("task_event")
    op.drop_index(op.f("ix_task_chain_state"), table_name="task_chain")
    op.drop_index(op.f("ix_task_chain_consumer"), table_name="task_chain")

    op.drop_table("task_chain")
    op.drop_table("siwe_nonce")
    op.drop_index(op.f("ix_session_address"), table_name="session")

    op.drop_table("session")
    op.drop_table("sealed_key")
    op.drop_index(op.f("ix_receipt_digest"), table_name="receipt")

    op.drop_table("receipt")
    op.drop_table("provider")
    op.drop_index(op.f("ix_operator_key_provider"), table_name="operator_key")

    op.drop_table("operator_key")
    op.drop_index(op.f("ix_login_proof_at_ms"), table_name="login_proof")

    op.drop_table("login_proof")
    op.drop_index(op.f("ix_lease_provider"), table_name="lease")
    op.drop_index("ix_lease_open", table_name="lease")

    op.drop_table("lease")
    op.drop_index(op.f("ix_idempotency_created_at_ms"), table_name="idempotency")

    op.drop_table("idempotency")
    op.drop_table("cursor")
    op.drop_index(op.f("ix_chain_event_name"), table_name="chain_event")
    op.drop_index(op.f("ix_chain_event_block_number"), table_name="chain_event")

    op.drop_table("chain_event")
    op.drop_table("block")
    op.drop_table("blob")
    op.drop_index(op.f("ix_api_key_secret_hash"), table_name="api_key")
    op.drop_index(op.f("ix_api_key_address"), table_name="api_key")

    op.drop_table("api_key")
    op.drop_index(op.f("ix_announcement_last_seen_ms"), table_name="announcement")

    op.drop_table("announcement")
    op.drop_table("account")
    op.drop_table("acceptance")
