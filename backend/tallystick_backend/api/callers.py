"""Who calls: a session or an API key in `Authorization: Bearer`, looked up on every request, so
that a revoked one is refused by the very next."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from tallystick.protocol.types import to_address
from tallystick_backend.access import (
    ALL_SCOPES,
    KEY_PREFIX,
    KEY_SCOPES,
    SESSION_PREFIX,
    Caller,
    NotLoggedIn,
    Scope,
    hash_of_token,
)
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.limits import network_of
from tallystick_backend.store.repositories import access
from tallystick_backend.store.session import is_conflict

KEY_USE_NOTED_EVERY_MS = 60_000
_MAX_TOKEN = 200

bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="ts_... or tk_...",
    description="Session token of `POST /v1/auth/login`, or an API key of `POST /v1/keys`.",
)


async def find_caller(backend: Backend, token: str) -> Caller:
    """Raises `NotLoggedIn` for a token that is unknown, expired or revoked."""
    if len(token) > _MAX_TOKEN or not token.startswith((SESSION_PREFIX, KEY_PREFIX)):
        raise NotLoggedIn("the Authorization header carries no token of ours")
    token_hash, now_ms = hash_of_token(token), backend.clock.now_ms()
    if token.startswith(SESSION_PREFIX):
        async with backend.database.read() as session:
            row = await access.live_session(session, token_hash, now_ms)
        if row is None:
            raise NotLoggedIn("the session is unknown or over")
        return Caller(to_address(row.address), ALL_SCOPES, "session", token_hash)
    async with backend.database.read() as session:
        key = await access.live_api_key(session, token_hash)
    if key is None:
        raise NotLoggedIn("the API key is unknown or revoked")
    if key.last_used_at_ms is None or now_ms - key.last_used_at_ms >= KEY_USE_NOTED_EVERY_MS:
        await _note_use(backend, key.id, now_ms)
    scopes = frozenset(scope for scope in KEY_SCOPES if scope in key.scopes)
    return Caller(to_address(key.address), scopes, "api_key", token_hash, key.id)


class CallerCache:
    """Callers of the hot path, looked up again behind their requests: nobody waits for the
    database, and a revoked token is refused within a second."""

    FRESH_S: Final = 0.4
    STALE_S: Final = 0.8
    KEPT: Final = 10_000

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._looking: dict[str, asyncio.Task[Caller]] = {}

    async def find(self, backend: Backend, token: str) -> Caller:
        """Raises `NotLoggedIn`."""
        if len(token) > _MAX_TOKEN:
            raise NotLoggedIn("the Authorization header carries no token of ours")
        name = hash_of_token(token)
        known = self._known.get(name)
        if known is not None:
            age_s = time.monotonic() - known[0]
            if age_s < self.STALE_S:
                if age_s >= self.FRESH_S and name not in self._looking:
                    self._look(backend, token, name)
                return known[1]
        looking = self._looking.get(name) or self._look(backend, token, name)
        return await asyncio.shield(looking)

    def _look(self, backend: Backend, token: str, name: str) -> asyncio.Task[Caller]:
        asked_s = time.monotonic()
        task = asyncio.create_task(find_caller(backend, token))
        self._looking[name] = task

        def found(done: asyncio.Task[Caller]) -> None:
            self._looking.pop(name, None)
            if done.cancelled() or done.exception() is not None:
                self._known.pop(name, None)
                return
            # As old as the question, not as the answer.
            self._known[name] = (asked_s, done.result())
            self._known.move_to_end(name)
            if len(self._known) > self.KEPT:
                self._known.popitem(last=False)

        task.add_done_callback(found)
        return task


async def _note_use(backend: Backend, key_id: str, now_ms: int) -> None:
    try:
        async with backend.database.transaction() as session:
            await access.note_api_key_use(session, key_id, now_ms)
    except Exception as error:
        # Another request with this key notes the same minute; no request fails over it.
        if not is_conflict(error):
            raise


Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


def caller_with(*any_of: Scope, counted: str = "writes") -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, if it holds one of the scopes and asks no more than it may."""

    async def found(backend: Ctx, connection: HTTPConnection, credentials: Credentials) -> Caller:
        if credentials is None:
            raise NotLoggedIn("the request has no Authorization: Bearer header")
        # Guessing tokens counts against the network; what a known caller does, against its wallet.
        try:
            caller = await find_caller(backend, credentials.credentials)
        except NotLoggedIn:
            await backend.limits.count("log-ins", network_of(_ip(connection)))
            raise
        await backend.limits.count(counted, caller.address)
        caller.require(*any_of)
        return caller

    return found


async def from_network(backend: Ctx, connection: HTTPConnection) -> str:
    """A dependency of public reads: the caller's network, counted."""
    network = network_of(_ip(connection))
    await backend.limits.count("reads", network)
    return network


async def at_the_door(backend: Ctx, connection: HTTPConnection) -> str:
    """A dependency of log-in: the caller's network, counted more strictly."""
    network = network_of(_ip(connection))
    await backend.limits.count("log-ins", network)
    return network


def _ip(connection: HTTPConnection) -> str | None:
    return connection.client.host if connection.client is not None else None


Reader = Annotated[Caller, Depends(caller_with("tasks:read", counted="reads"))]
Writer = Annotated[Caller, Depends(caller_with("tasks:write"))]
AnyCaller = Annotated[
    Caller, Depends(caller_with("tasks:read", "tasks:write", "calls", counted="reads"))
]
CallBooks = Annotated[Caller, Depends(caller_with("calls", "tasks:read", counted="reads"))]
"""What calls there were and what they cost: whoever calls may see it, and whoever may only read."""
CallReader = Annotated[Caller, Depends(caller_with("calls", counted="reads"))]
CallWriter = Annotated[Caller, Depends(caller_with("calls"))]
Wallet = Annotated[Caller, Depends(caller_with("account"))]
Public = Depends(from_network)
AtTheDoor = Depends(at_the_door)
