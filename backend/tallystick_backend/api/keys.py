"""API keys of a wallet: made and revoked by its log-in only, shown once, kept as hashes."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.wire import ApiKeyBody, CreateApiKey
from tallystick_backend.access import UnknownKey, hash_of_token
from tallystick_backend.api.callers import Wallet
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.problems import LOGGED_IN, WRITES, problems
from tallystick_backend.api.schemas import Nothing
from tallystick_backend.api.writes import IdempotencyKey, Request, once
from tallystick_backend.store.repositories import access
from tallystick_backend.store.tables import ApiKeyRow

router = APIRouter(prefix="/v1/keys", tags=["API keys"])

KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["5f1d7c20a9b34e68"])]


@router.post(
    "",
    operation_id="createApiKey",
    summary="Create an API key",
    description="`secret` is in this answer and nowhere else: we keep its hash.",
    status_code=201,
    responses=problems(WRITES),
)
async def create_key(
    backend: Ctx,
    caller: Wallet,
    response: Response,
    body: Annotated[CreateApiKey, Body(examples=[{"name": "ci", "scopes": ["tasks:read"]}])],
    idempotency_key: IdempotencyKey = None,
) -> ApiKeyBody:
    async def work(session: AsyncSession) -> ApiKeyBody:
        key_id, now_ms = secrets.token_hex(8), backend.clock.now_ms()
        secret = backend.seals.api_key(key_id, caller.address, idempotency_key)
        row = ApiKeyRow(
            id=key_id,
            address=caller.address.lower(),
            name=body.name,
            prefix=_prefix(secret),
            secret_hash=hash_of_token(secret),
            scopes=sorted(set(body.scopes)),
            created_at_ms=now_ms,
        )
        await access.add_api_key(session, row)
        return _body(row).model_copy(update={"secret": secret})

    response.status_code = 201
    request = Request(caller.address, idempotency_key, "createApiKey", body)
    answer = await once(backend, request, response, ApiKeyBody, work)
    if answer.secret is None:
        secret = backend.seals.api_key(answer.id, caller.address, idempotency_key)
        answer = answer.model_copy(update={"secret": secret})
    return answer


@router.get("", operation_id="listApiKeys", summary="List my keys", responses=problems(LOGGED_IN))
async def list_keys(backend: Ctx, caller: Wallet) -> tuple[ApiKeyBody, ...]:
    async with backend.database.read() as session:
        rows = await access.api_keys_of(session, caller.address)
    return tuple(_body(row) for row in rows)


@router.delete(
    "/{key_id}",
    operation_id="revokeApiKey",
    summary="Revoke a key, at once",
    status_code=204,
    responses=problems(WRITES, UnknownKey),
)
async def revoke_key(
    backend: Ctx,
    caller: Wallet,
    response: Response,
    key_id: KeyId,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    async def work(session: AsyncSession) -> Nothing:
        if not await access.revoke_api_key(session, key_id, caller.address, backend.clock.now_ms()):
            raise UnknownKey(key_id)
        return Nothing()

    request = Request(caller.address, idempotency_key, "revokeApiKey", key_id)
    await once(backend, request, response, Nothing, work)
    return Response(status_code=204, headers=dict(response.headers))


def _prefix(secret: str) -> str:
    return secret.rpartition("_")[0]


def _body(row: ApiKeyRow) -> ApiKeyBody:
    return ApiKeyBody(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=tuple(row.scopes),
        created_at_ms=row.created_at_ms,
        last_used_at_ms=row.last_used_at_ms,
    )
