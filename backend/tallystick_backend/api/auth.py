"""Log-in with a wallet (EIP-4361): nonce, message, session."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

from fastapi import APIRouter, Body, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.types import Address
from tallystick.protocol.wire import SessionBody, SiweLogin, SiweNonce
from tallystick_backend import siwe_login
from tallystick_backend.access import LoginRefused, hash_of_token, new_session_token
from tallystick_backend.api.callers import AnyCaller, AtTheDoor, Wallet
from tallystick_backend.api.context import Ctx
from tallystick_backend.api.problems import LOGGED_IN, WITH_BODY, problems
from tallystick_backend.api.schemas import CallerBody
from tallystick_backend.api.writes import in_transaction
from tallystick_backend.chain import RpcUnavailable
from tallystick_backend.store.repositories import access

router = APIRouter(prefix="/v1/auth", tags=["log-in"])

_MESSAGE = (
    "127.0.0.1:8000 wants you to sign in with your Ethereum account:\n"
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8\n\nSign in to Tallystick.\n\n"
    "URI: http://127.0.0.1:8000\nVersion: 1\nChain ID: 31337\n"
    "Nonce: 0f6e0b8c2d9a4e71\nIssued At: 2026-11-21T03:00:00Z"
)


@router.post(
    "/nonce",
    operation_id="createLoginNonce",
    summary="Get a nonce for one log-in",
    dependencies=[AtTheDoor],
    responses=problems(),
)
async def create_nonce(backend: Ctx) -> SiweNonce:
    nonce = secrets.token_hex(16)
    expires_at_ms = backend.clock.now_ms() + backend.settings.nonce_seconds * 1000

    async def work(session: AsyncSession) -> None:
        await access.add_nonce(session, nonce, expires_at_ms)

    await in_transaction(backend, work)
    return SiweNonce(nonce=nonce, expires_at_ms=expires_at_ms)


@router.post(
    "/login",
    operation_id="login",
    summary="Open a session with a signed message",
    description=(
        "The message (EIP-4361) names this backend's address as domain and URI, the deployment's "
        "chain id and a nonce of `POST /v1/auth/nonce`. Each nonce opens one session: a repeat is "
        "refused, with whatever Idempotency-Key."
    ),
    dependencies=[AtTheDoor],
    responses=problems(WITH_BODY, LoginRefused, RpcUnavailable),
)
async def login(
    backend: Ctx,
    body: Annotated[
        SiweLogin, Body(examples=[{"message": _MESSAGE, "signature": "0x" + "1b" * 65}])
    ],
) -> SessionBody:
    expected = siwe_login.Expected(backend.settings.public_url, backend.domain.chain_id)
    message = await asyncio.to_thread(siwe_login.parse, body.message)
    address: Address | None = await asyncio.to_thread(
        siwe_login.check, message, body.signature, expected, backend.now_s()
    )
    if address is None:
        address = await siwe_login.check_wallet(
            message, body.message, body.signature, backend.wallets.accepts
        )
    token = new_session_token()
    expires_at_ms = backend.clock.now_ms() + backend.settings.session_hours * 3_600_000

    async def work(session: AsyncSession) -> None:
        if not await access.use_nonce(session, message.nonce, backend.clock.now_ms()):
            raise LoginRefused("nonce", "the nonce is not ours, was used before, or expired")
        await access.open_session(session, hash_of_token(token), address, expires_at_ms)

    await in_transaction(backend, work)
    return SessionBody(token=token, address=address, expires_at_ms=expires_at_ms)


@router.post(
    "/logout",
    operation_id="logout",
    summary="End the session that asks",
    status_code=204,
    responses=problems(LOGGED_IN),
)
async def logout(backend: Ctx, caller: Wallet) -> Response:
    async def work(session: AsyncSession) -> None:
        await access.close_session(session, caller.token_hash)

    await in_transaction(backend, work)
    return Response(status_code=204)


@router.get("/me", operation_id="getCaller", summary="Who am I here", responses=problems(LOGGED_IN))
async def me(caller: AnyCaller) -> CallerBody:
    return CallerBody(address=caller.address, via=caller.via, scopes=sorted(caller.scopes))
