"""The way to the backend: one place for retries, log-in, idempotency keys and error sentences.

Every write carries an Idempotency-Key, so sending it again after a lost answer is harmless; that is
why connection errors and 502, 503, 504 and 429 are retried for writes as for reads.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from tallystick.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    PaymentNeeded,
    Refused,
    ServiceError,
    TallystickError,
    Unreachable,
)
from tallystick.protocol.wire import Problem

Model = TypeVar("Model", bound=BaseModel)
Sleep = Callable[[float], Awaitable[None]]
Authorize = Callable[["Connection"], Awaitable[str]]

ATTEMPTS = 6
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
RETRIED_STATUSES = frozenset({429, 502, 503, 504})

# What a status means for the caller, when the problem's own text adds nothing better.
_BY_STATUS: Mapping[int, tuple[type[TallystickError], str]] = {
    400: (InvalidRequest, "Correct the named value and try again."),
    401: (NotAllowed, "Log in again, or check the wallet key or the API key."),
    402: (PaymentNeeded, "Deposit with `client.deposit(...)` or `tallystick wallet deposit`."),
    403: (NotAllowed, "Use the wallet that owns it, or a key with the needed scope."),
    404: (NotFound, "Check the id; tasks of other wallets look as if they did not exist."),
    409: (Conflict, "Look at the task's state first."),
    410: (NotFound, "It ended, and there is no way back."),
    413: (InvalidRequest, "Send less, or split it."),
    422: (InvalidRequest, "Correct the named value and try again."),
    429: (Refused, "Wait a little before the next call."),
}

# Problems that mean something else than their status does elsewhere.
_BY_CODE: Mapping[str, type[TallystickError]] = {"spend_limit_reached": Refused}


class Connection:
    """Speaks wire models with one backend. `authorize` gives a bearer token when one is needed."""

    def __init__(
        self,
        url: str,
        *,
        authorize: Authorize,
        transport: httpx.AsyncBaseTransport | None = None,
        request_timeout_s: float = 30.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.url = url
        self._authorize = authorize
        self._sleep = sleep
        self._token: str | None = None
        self._log_in_once = asyncio.Lock()
        self._client = httpx.AsyncClient(
            base_url=url,
            transport=transport,
            timeout=httpx.Timeout(request_timeout_s, connect=5.0),
            headers={"User-Agent": "tallystick-python"},
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(
        self,
        path: str,
        model: type[Model],
        *,
        public: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> Model:
        answer = await self._send("GET", path, public=public, params=params)
        return self._read(answer, model)

    async def post(
        self,
        path: str,
        body: BaseModel | None,
        model: type[Model],
        *,
        public: bool = False,
    ) -> Model:
        content = None if body is None else body.model_dump_json().encode()
        answer = await self._send("POST", path, public=public, content=content)
        return self._read(answer, model)

    async def put(self, path: str, body: BaseModel, model: type[Model]) -> Model:
        answer = await self._send("PUT", path, content=body.model_dump_json().encode())
        return self._read(answer, model)

    async def post_and_forget(self, path: str, body: BaseModel | None = None) -> None:
        """A write whose answer does not matter beyond its success."""
        content = None if body is None else body.model_dump_json().encode()
        await self._send("POST", path, content=content)

    async def delete(self, path: str) -> None:
        await self._send("DELETE", path)

    async def delete_for(self, path: str, model: type[Model]) -> Model:
        """What is left of it is answered."""
        return self._read(await self._send("DELETE", path), model)

    async def put_bytes(self, path: str, content: bytes, model: type[Model]) -> Model:
        answer = await self._send(
            "PUT", path, content=content, content_type="application/octet-stream"
        )
        return self._read(answer, model)

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        final: Callable[[httpx.Response], bool] = lambda answer: False,
    ) -> httpx.Response:
        """The answer as it came, once it is no refusal. `final` names refusals that would be the
        same again."""
        return await self._send(
            method,
            path,
            content=content,
            headers=headers,
            params=params,
            timeout_s=timeout_s,
            final=final,
        )

    async def put_text(self, path: str, content: bytes) -> None:
        """Bytes that are JSON, as they are."""
        await self._send("PUT", path, content=content)

    async def get_bytes(self, path: str, *, max_bytes: int) -> bytes:
        """The raw body; stops reading as soon as it is longer than it may be."""
        for attempt in range(ATTEMPTS):
            try:
                async with self.stream(path) as answer:
                    chunks = bytearray()
                    async for chunk in answer.aiter_bytes():
                        chunks += chunk
                        if len(chunks) > max_bytes:
                            raise ServiceError(
                                f"The backend sent more than the {max_bytes} bytes announced.",
                                next_step="Nothing was kept; ask the backend's operator.",
                            )
                    return bytes(chunks)
            except httpx.TransportError as problem:
                if attempt == ATTEMPTS - 1:
                    raise self._unreachable(problem) from problem
                await self._pause(attempt, None)
        raise AssertionError("the loop above returns or raises")

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """An open answer. Raises our errors for refusals, httpx.TransportError for a lost line."""
        async with self._opened("GET", path, None, headers or {}) as answer:
            yield answer

    @asynccontextmanager
    async def post_stream(
        self, path: str, content: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """The same for a write that is answered piece by piece."""
        async with self._opened("POST", path, content, headers) as answer:
            yield answer

    @asynccontextmanager
    async def _opened(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        answer = await self._open(method, path, content, headers)
        if answer.status_code == 401:
            await answer.aclose()  # the session expired: once more with a new one
            self._token = None
            answer = await self._open(method, path, content, headers)
        try:
            if answer.status_code >= 300:
                await answer.aread()
                if method == "GET" and answer.status_code in RETRIED_STATUSES:
                    raise httpx.RemoteProtocolError(f"status {answer.status_code}")
                raise error_from(answer)
            yield answer
        finally:
            await answer.aclose()

    async def _open(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        request = self._client.build_request(
            method,
            path,
            content=content,
            headers={"Authorization": f"Bearer {await self._bearer()}", **headers},
            timeout=httpx.Timeout(60.0, connect=5.0),
        )
        return await self._client.send(request, stream=True)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        public: bool = False,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        final: Callable[[httpx.Response], bool] = lambda answer: False,
    ) -> httpx.Response:
        headers = dict(headers or {})
        if content is not None:
            headers.setdefault("Content-Type", content_type)
        if method != "GET":
            headers.setdefault("Idempotency-Key", secrets.token_hex(16))
        timeout: Any = httpx.USE_CLIENT_DEFAULT
        if timeout_s is not None:
            timeout = httpx.Timeout(timeout_s, connect=5.0)
        query = {k: v for k, v in (params or {}).items() if v is not None}
        logged_in_again = False
        lost: Exception | None = None
        for attempt in range(ATTEMPTS):
            if not public:
                headers["Authorization"] = f"Bearer {await self._bearer()}"
            try:
                answer = await self._client.request(
                    method, path, params=query, content=content, headers=headers, timeout=timeout
                )
            except httpx.TransportError as problem:
                lost = problem
                await self._pause(attempt, None)
                continue
            if answer.status_code == 401 and not public and not logged_in_again:
                logged_in_again, self._token = True, None
                continue
            retried = answer.status_code in RETRIED_STATUSES and not final(answer)
            if retried and attempt < ATTEMPTS - 1:
                await self._pause(attempt, answer.headers.get("Retry-After"))
                continue
            if answer.status_code >= 300:
                raise error_from(answer)
            return answer
        raise self._unreachable(lost) from lost

    async def _bearer(self) -> str:
        async with self._log_in_once:
            if self._token is None:
                self._token = await self._authorize(self)
            return self._token

    async def _pause(self, attempt: int, retry_after: str | None) -> None:
        """Doubles from 0.2 s to 5 s, with jitter; a server's Retry-After comes first."""
        if attempt >= ATTEMPTS - 1:
            return
        asked = _retry_after_s(retry_after)
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)
        await self._sleep(min(30.0, asked) if asked is not None else pause_s)

    def _unreachable(self, problem: Exception | None) -> Unreachable:
        reason = str(problem) or type(problem).__name__
        return Unreachable(
            f"The backend at {self.url} did not answer after {ATTEMPTS} attempts ({reason}).",
            next_step="Check TALLYSTICK_URL and that it is up; `tallystick dev up` starts one.",
            url=self.url,
        )

    def _read(self, answer: httpx.Response, model: type[Model]) -> Model:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_input=False)[0]
            raise ServiceError(
                f"The backend's answer to {answer.request.url.path} is no {model.__name__}: "
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}.",
                next_step="Backend and SDK may be of different versions; update the older one.",
            ) from problem


def error_from(answer: httpx.Response) -> TallystickError:
    """The error that an answer with a refusing status stands for (RFC 9457 problem details)."""
    kind, advice = _BY_STATUS.get(
        answer.status_code,
        (ServiceError, "Try again; if it stays, tell the backend's operator."),
    )
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return kind(
            f"The backend answered {answer.status_code} to "
            f"{answer.request.method} {answer.request.url.path}.",
            next_step=advice,
            status=answer.status_code,
        )
    return _BY_CODE.get(problem.code, kind)(
        _sentence(problem),
        next_step=problem.next_step or advice,
        status=answer.status_code,
        problem=problem.code,
        errors=problem.errors,
    )


def _sentence(problem: Problem) -> str:
    sentence = (problem.detail or problem.title).strip()
    fields = "; ".join(text for text in map(_field, problem.errors[:5]) if text)
    if fields and fields not in sentence:
        sentence = f"{sentence.rstrip('.')}: {fields}"
    return sentence if sentence.endswith((".", "!", "?")) else sentence + "."


def _field(error: Mapping[str, Any]) -> str:
    where = error.get("field") or error.get("loc") or ""
    where = ".".join(map(str, where)) if isinstance(where, list | tuple) else str(where)
    message = str(error.get("message") or error.get("msg") or "")
    return f"{where}: {message}" if where and message else message or where


def _retry_after_s(header: str | None) -> float | None:
    if header is None:
        return None
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        at = email.utils.parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    return max(0.0, at.timestamp() - time.time())
