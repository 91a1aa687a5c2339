"""One write: one transaction, tried again when another one was in its way, and remembered under the
caller's Idempotency-Key so that sending it twice does it once."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Header, Response
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick_backend.api.context import Backend
from tallystick_backend.api.refusals import IdempotencyConflict
from tallystick_backend.store.repositories import access
from tallystick_backend.store.session import is_conflict

TRIES = 6
_Result = TypeVar("_Result")
_Body = TypeVar("_Body", bound=BaseModel)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        max_length=200,
        description=(
            "Any text of your own for this one request. The same key with the same request answers "
            "the same and does nothing twice; with another request it is refused (409)."
        ),
    ),
]


@dataclass(frozen=True, slots=True)
class Request:
    """What makes two requests the same: who, which operation on what, with which fields."""

    caller: str
    key: str | None
    operation: str
    fields: BaseModel | str = ""

    @property
    def hash(self) -> str:
        text = self.fields if isinstance(self.fields, str) else self.fields.model_dump_json()
        return hashlib.sha256(f"{self.operation}\n{text}".encode()).hexdigest()


async def in_transaction(
    backend: Backend, work: Callable[[AsyncSession], Awaitable[_Result]]
) -> _Result:
    """Runs `work` in one write transaction; a conflict with another one starts it afresh."""
    for attempt in range(1, TRIES + 1):
        try:
            async with backend.database.transaction() as session:
                return await work(session)
        except IntegrityError:
            # Somebody else wrote the same row first; the next look sees it.
            if attempt == TRIES:
                raise
        except Exception as error:
            if attempt == TRIES or not is_conflict(error):
                raise
        await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))
    raise AssertionError("the loop returns or raises")


async def once(
    backend: Backend,
    request: Request,
    response: Response,
    model: type[_Body],
    work: Callable[[AsyncSession], Awaitable[_Body]],
) -> _Body:
    """`work`, or the answer it gave to the same request before. What fails is not remembered."""

    async def claim_and_work(session: AsyncSession) -> tuple[_Body, bool]:
        if request.key is None:
            return await work(session), False
        prior = await access.claim_idempotency_key(
            session, request.caller, request.key, request.hash, backend.clock.now_ms()
        )
        if prior is not None:
            if prior.request_hash != request.hash:
                raise IdempotencyConflict(request.key)
            return model.model_validate(prior.body), True
        answer = await work(session)
        kept: dict[str, Any] = answer.model_dump(mode="json", exclude=_SECRET_FIELDS)
        status = response.status_code or 200
        await access.keep_answer(session, request.caller, request.key, status, kept)
        return answer, False

    answer, replayed = await in_transaction(backend, claim_and_work)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return answer


_SECRET_FIELDS = {"secret", "token"}
