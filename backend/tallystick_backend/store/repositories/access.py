"""Who may come in, and what they left: nonces, sessions, API keys, answers already given, blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.store.tables import (
    ApiKeyRow,
    BlobRow,
    IdempotencyRow,
    SessionRow,
    SiweNonceRow,
    Table,
)

# --- log-in -----------------------------------------------------------------------------------


async def add_nonce(session: AsyncSession, nonce: str, expires_at_ms: int) -> None:
    session.add(SiweNonceRow(nonce=nonce, expires_at_ms=expires_at_ms))


async def use_nonce(session: AsyncSession, nonce: str, now_ms: int) -> bool:
    """True for the first to ask while it is fresh; whoever asks later hears False."""
    done = await session.exec(
        update(SiweNonceRow)
        .where(
            col(SiweNonceRow.nonce) == nonce,
            col(SiweNonceRow.used_at_ms).is_(None),
            col(SiweNonceRow.expires_at_ms) > now_ms,
        )
        .values(used_at_ms=now_ms)
    )
    return _count(done) == 1


async def open_session(
    session: AsyncSession, token_hash: str, address: str, expires_at_ms: int
) -> None:
    session.add(
        SessionRow(token_hash=token_hash, address=address.lower(), expires_at_ms=expires_at_ms)
    )


async def live_session(session: AsyncSession, token_hash: str, now_ms: int) -> SessionRow | None:
    row = await session.get(SessionRow, token_hash)
    return row if row is not None and row.expires_at_ms > now_ms else None


async def close_session(session: AsyncSession, token_hash: str) -> None:
    await session.exec(delete(SessionRow).where(col(SessionRow.token_hash) == token_hash))


# --- API keys ---------------------------------------------------------------------------------


async def add_api_key(session: AsyncSession, row: ApiKeyRow) -> None:
    session.add(row)
    await session.flush()


async def live_api_key(session: AsyncSession, secret_hash: str) -> ApiKeyRow | None:
    query = select(ApiKeyRow).where(
        col(ApiKeyRow.secret_hash) == secret_hash, col(ApiKeyRow.revoked_at_ms).is_(None)
    )
    return (await session.exec(query)).first()


async def api_keys_of(session: AsyncSession, address: str) -> Sequence[ApiKeyRow]:
    """Keys of a wallet that are not revoked, newest first."""
    query = (
        select(ApiKeyRow)
        .where(col(ApiKeyRow.address) == address.lower(), col(ApiKeyRow.revoked_at_ms).is_(None))
        .order_by(col(ApiKeyRow.created_at_ms).desc(), col(ApiKeyRow.id))
    )
    return (await session.exec(query)).all()


async def revoke_api_key(session: AsyncSession, key_id: str, address: str, now_ms: int) -> bool:
    """False when this wallet has no such key; revoking twice is revoking once."""
    row = await session.get(ApiKeyRow, key_id)
    if row is None or row.address != address.lower():
        return False
    if row.revoked_at_ms is None:
        row.revoked_at_ms = now_ms
        session.add(row)
    return True


async def note_api_key_use(session: AsyncSession, key_id: str, now_ms: int) -> None:
    await session.exec(
        update(ApiKeyRow).where(col(ApiKeyRow.id) == key_id).values(last_used_at_ms=now_ms)
    )


# --- answers already given --------------------------------------------------------------------


async def claim_idempotency_key(
    session: AsyncSession, caller: str, key: str, request_hash: str, now_ms: int
) -> IdempotencyRow | None:
    """None: the key is ours, run the request and `keep_answer`. A row: what was asked before.

    The claim is a row written first: a second transaction with the same key waits for the first,
    then sees its answer, or takes over when the first was rolled back.
    """
    values = {
        "caller": caller,
        "key": key,
        "request_hash": request_hash,
        "status": 0,
        "body": {},
        "created_at_ms": now_ms,
    }
    if await _insert_if_new(session, IdempotencyRow, values):
        return None
    return await session.get(IdempotencyRow, (caller, key))


async def keep_answer(
    session: AsyncSession, caller: str, key: str, status: int, body: dict[str, Any]
) -> None:
    await session.exec(
        update(IdempotencyRow)
        .where(col(IdempotencyRow.caller) == caller, col(IdempotencyRow.key) == key)
        .values(status=status, body=body)
    )


# --- blobs ------------------------------------------------------------------------------------


async def blob(session: AsyncSession, digest: str) -> BlobRow | None:
    return await session.get(BlobRow, digest)


async def add_blob(
    session: AsyncSession, digest: str, size_bytes: int, owner: str, now_ms: int
) -> bool:
    """False when these bytes were here before: the first owner stays."""
    return await _insert_if_new(
        session,
        BlobRow,
        {"digest": digest, "size_bytes": size_bytes, "owner": owner, "created_at_ms": now_ms},
    )


async def bytes_stored_by(session: AsyncSession, owner: str) -> int:
    query = select(func.coalesce(func.sum(col(BlobRow.size_bytes)), 0)).where(
        col(BlobRow.owner) == owner
    )
    return int((await session.exec(query)).one())


# --- housekeeping -----------------------------------------------------------------------------


async def forget_expired(
    session: AsyncSession, now_ms: int, *, answers_before_ms: int
) -> dict[str, int]:
    """Deletes what can no longer be used; answers how many rows of each table went."""
    counts = {}
    for name, statement in {
        "siwe_nonce": delete(SiweNonceRow).where(col(SiweNonceRow.expires_at_ms) <= now_ms),
        "session": delete(SessionRow).where(col(SessionRow.expires_at_ms) <= now_ms),
        "idempotency": delete(IdempotencyRow).where(
            col(IdempotencyRow.created_at_ms) <= answers_before_ms
        ),
    }.items():
        counts[name] = _count(await session.exec(statement))
    return counts


async def _insert_if_new(session: AsyncSession, table: type[Table], values: dict[str, Any]) -> bool:
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if is_postgresql else sqlite.insert
    done = await session.exec(insert(table).values(**values).on_conflict_do_nothing())
    return _count(done) == 1


def _count(done: Any) -> int:
    return cast("CursorResult[Any]", done).rowcount
