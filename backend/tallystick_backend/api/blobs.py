"""Sealed bundles: a consumer uploads inputs, a provider fetches them and leaves results, each by a
link that is good for one task, one fence and one act."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import HTTPConnection, Request
from starlette.types import Receive, Scope, Send

from tallystick.protocol.types import Digest
from tallystick.protocol.wire import BlobBody, Manifest
from tallystick_backend.access import (
    RESULT,
    Caller,
    Capability,
    CapabilityRefused,
    NotLoggedIn,
    open_capability,
)
from tallystick_backend.api import writes
from tallystick_backend.api.callers import Credentials, caller_with
from tallystick_backend.api.context import Backend, Ctx
from tallystick_backend.api.limits import network_of
from tallystick_backend.api.problems import LOGGED_IN, problems
from tallystick_backend.api.refusals import (
    BodyTooSlow,
    IdempotencyConflict,
    MalformedBody,
    WrongMediaType,
)
from tallystick_backend.api.schemas import DigestPath
from tallystick_backend.api.writes import IdempotencyKey
from tallystick_backend.blobs import BlobTooLarge, DigestMismatch, StorageFull, UnknownBlob
from tallystick_backend.settings import MIB
from tallystick_backend.store.repositories import access, chain, orders, work

router = APIRouter(prefix="/v1/blobs", tags=["bundles"])

OCTETS = "application/octet-stream"
SEALING_ALLOWANCE_BYTES = MIB
"""What archive and seal add to the outputs that the manifest limits."""
UPLOADS_PER_LEASE = 4
"""A provider that starts again seals again, and other bytes come out."""

CapabilityText = Annotated[
    str | None,
    Query(max_length=300, description="Capability of a provider, from the link in its offer."),
]
OR_A_LINK: dict[str, Any] = {"security": [{}]}
"""Added to the log-in: whoever holds a link needs none."""
_SEALED = {"schema": {"type": "string", "format": "binary"}}


@router.put(
    "/{digest}",
    operation_id="putBlob",
    summary="Upload a sealed bundle",
    description="The bytes arrive as they are; their keccak-256 must be the digest in the path. "
    "A consumer logs in; a provider shows the capability of its lease.",
    status_code=201,
    responses=problems(
        LOGGED_IN,
        MalformedBody,
        BodyTooSlow,
        WrongMediaType,
        BlobTooLarge,
        StorageFull,
        DigestMismatch,
        CapabilityRefused,
        IdempotencyConflict,
    ),
    openapi_extra=OR_A_LINK | {"requestBody": {"required": True, "content": {OCTETS: _SEALED}}},
)
async def put_blob(
    backend: Ctx,
    request: Request,
    response: Response,
    credentials: Credentials,
    digest: DigestPath,
    cap: CapabilityText = None,
    idempotency_key: IdempotencyKey = None,
) -> BlobBody:
    if cap is not None:
        owner, limit_bytes = await _result_place(backend, request, cap)
    else:
        caller = await _write_as(backend, request, credentials)
        owner, limit_bytes = caller.address.lower(), backend.settings.max_blob_bytes
        await _check_room(backend, owner)
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit_bytes:
        raise BlobTooLarge(limit_bytes)
    size_bytes = await backend.blobs.receive(_pieces(request), Digest(digest), limit_bytes)

    async def note(session: AsyncSession) -> BlobBody:
        await access.add_blob(session, digest, size_bytes, owner, backend.clock.now_ms())
        return BlobBody(digest=digest, bytes=size_bytes)

    response.status_code = 201
    asked = writes.Request(owner, idempotency_key, "putBlob", digest)
    return await writes.once(backend, asked, response, BlobBody, note)


@router.get(
    "/{digest}",
    operation_id="getBlob",
    summary="Fetch a sealed bundle",
    description="By the consumer who uploaded it, or by a provider with the capability of its "
    "lease. Always whole: Range is not served.",
    response_class=FileResponse,
    responses={
        200: {"description": "The sealed bytes.", "content": {OCTETS: _SEALED}},
        **problems(LOGGED_IN, CapabilityRefused, UnknownBlob),
    },
    openapi_extra=OR_A_LINK,
)
async def get_blob(
    backend: Ctx,
    connection: HTTPConnection,
    credentials: Credentials,
    digest: DigestPath,
    cap: CapabilityText = None,
) -> Response:
    if cap is not None:
        await backend.limits.count("reads", _network(connection))
        right = open_capability(
            backend.seals, cap, verb="GET", subject=digest, now_s=backend.now_s()
        )
        await _check_lease(backend, right)
        async with backend.database.read() as session:
            row = await access.blob(session, digest)
    else:
        if credentials is None:
            raise NotLoggedIn("the request has neither a capability nor an Authorization header")
        caller = await caller_with("tasks:read", counted="reads")(backend, connection, credentials)
        async with backend.database.read() as session:
            row = await access.blob(session, digest)
        if row is not None and row.owner != caller.address.lower():
            row = None
    if row is None:
        raise UnknownBlob(digest)
    return sealed_file(backend, digest)


def sealed_file(backend: Backend, digest: str) -> Response:
    """The bundle's bytes; `UnknownBlob` when the row is there and the file is not."""
    path = backend.blobs.path(Digest(digest))
    try:
        stat = os.stat(path)
    except OSError:
        raise UnknownBlob(digest) from None
    return _WholeFile(path, media_type=OCTETS, stat_result=stat, headers={"ETag": f'"{digest}"'})


class _WholeFile(FileResponse):
    """Without Range: its refusals are not written as problems, and sealed bytes are read whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = [pair for pair in scope["headers"] if pair[0] not in (b"range", b"if-range")]
        await super().__call__({**scope, "headers": kept}, receive, send)


async def _write_as(
    backend: Backend, connection: HTTPConnection, credentials: Credentials
) -> Caller:
    return await caller_with("tasks:write")(backend, connection, credentials)


async def _result_place(backend: Backend, connection: HTTPConnection, cap: str) -> tuple[str, int]:
    """Whose bytes these will be, and how many are allowed."""
    await backend.limits.count("writes", _network(connection))
    right = open_capability(backend.seals, cap, verb="PUT", subject=RESULT, now_s=backend.now_s())
    await _check_lease(backend, right)
    owner = f"{right.task_id}:{right.fence}"
    async with backend.database.read() as session:
        order = await orders.order(session, right.task_id)
        stored = await access.bytes_stored_by(session, owner)
    if order is None:
        raise CapabilityRefused("the link's task is not known here")
    outputs_bytes = Manifest.model_validate(order.manifest).max_output_mib * MIB
    limit_bytes = min(outputs_bytes + SEALING_ALLOWANCE_BYTES, backend.settings.max_blob_bytes)
    if stored >= limit_bytes * UPLOADS_PER_LEASE:
        raise StorageFull(stored, limit_bytes * UPLOADS_PER_LEASE)
    return owner, limit_bytes


async def _check_lease(backend: Backend, right: Capability) -> None:
    """The link is good while its lease is the newest and did not end without a result; and for the
    fence that the chain took a proof of, whatever was thought of its lease here."""
    async with backend.database.read() as session:
        lease = await work.current_lease(session, right.task_id)
        on_chain = await chain.task(session, right.task_id)
    if on_chain is not None and on_chain.receipt_digest and on_chain.fence == right.fence:
        return
    if lease is None or lease.fence != right.fence:
        raise CapabilityRefused("the lease that this link belongs to is over")
    if lease.state in ("declined", "failed", "lost"):
        raise CapabilityRefused(f"the lease that this link belongs to was {lease.state}")


async def _check_room(backend: Backend, owner: str) -> None:
    async with backend.database.read() as session:
        stored = await access.bytes_stored_by(session, owner)
    if stored >= backend.settings.max_stored_bytes:
        raise StorageFull(stored, backend.settings.max_stored_bytes)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise MalformedBody("the connection closed before the bundle ended")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return


def _network(connection: HTTPConnection) -> str:
    return network_of(connection.client.host if connection.client is not None else None)
