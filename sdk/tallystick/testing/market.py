"""The backend and its providers, in memory, behind an httpx transport.

Answers the same paths with the same bodies and problems as the real one (see `protocol.wire`), and
checks what it is sent: signatures, digests, nonces, ownership. A task runs as soon as it is paid
for, unless `hold` stops it.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import httpx
from pydantic import BaseModel, ValidationError

from tallystick.bundle import pack, unpack_files
from tallystick.config import Config
from tallystick.protocol import messages, sealing, signatures, wire
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.merkle import gpu_set_root
from tallystick.protocol.messages import Acceptance, Domain, Receipt, TaskTerms
from tallystick.protocol.pricing import charge_up, rate_per_gpu_second_down
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.types import ZERO_DIGEST, Address, Digest, to_address
from tallystick.testing.calls import CallRefused, InMemoryCalls
from tallystick.testing.chain import InMemoryChain
from tallystick.testing.work import Outcome, Work, echo

if TYPE_CHECKING:
    from tallystick.client import AsyncGPUClient
    from tallystick.sync import GPUClient

URL = "http://market.invalid"
DECIMALS = 18
CHAIN_ID = 31337
Hold = Literal["funded", "leased", "running"]


@dataclass
class InMemoryProvider:
    """One made-up provider: a cold address, an operator key that signs, a key to open inputs."""

    cold_key: str
    operator_key: str
    rate_per_gpu_second: int
    gpu_class: str
    gpus: int
    runtime: Literal["docker", "process"] = "process"
    online: bool = True
    busy: int = 0
    sealing_key: sealing.SealingKey = field(default_factory=sealing.generate_key)

    @property
    def address(self) -> Address:
        return signatures.address_of(self.cold_key)

    @property
    def gpu_ids(self) -> list[str]:
        return [f"SIM-{self.address[2:10]}-{n}" for n in range(self.gpus)]


@dataclass
class _Task:
    id: str
    order: wire.CreateTask
    created_at_ms: int
    state: str = "ordered"
    keys: dict[tuple[str, int], str] = field(default_factory=dict)
    provider: InMemoryProvider | None = None
    fence: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    withdrawn: bool = False
    failure: str | None = None
    needs_key: wire.SealedKeyRequest | None = None
    logs: list[wire.LogLine] = field(default_factory=list)
    receipt: wire.ReceiptView | None = None
    result: bytes = b""
    created_tx: str | None = None
    settled_tx: str | None = None

    @property
    def terms(self) -> TaskTerms:
        return TaskTerms.from_body(self.order.terms)


@dataclass(frozen=True)
class _Call:
    request: httpx.Request
    body: bytes
    query: Mapping[str, str]
    caller: str | None


class _Refusal(Exception):
    def __init__(
        self, status: int, code: str, detail: str, next_step: str = "", *, field: str = ""
    ) -> None:
        super().__init__(detail)
        self.problem = wire.Problem(
            type=f"urn:tallystick:problem:{code}",
            title=code.replace("_", " ").capitalize(),
            status=status,
            detail=detail,
            code=code,
            next_step=next_step,
            errors=[{"field": field, "message": detail}] if field else [],
        )


Handler = Callable[[_Call, re.Match[str]], Any]
AnswerHook = Callable[[httpx.Request, httpx.Response], httpx.Response]


class InMemoryMarket(httpx.AsyncBaseTransport):
    """A whole market for one process. Give it as `transport=`, its `chain` as `chain=`."""

    def __init__(
        self,
        *,
        gpu_class: str = "gpu1",
        gpus_per_provider: int = 8,
        prices_per_gpu_hour: tuple[str, ...] = ("0.5", "0.6"),
        wallet_tokens: int = 1000,
        deposited_tokens: int = 1000,
        work: Work = echo,
        run_ms: int = 2000,
        now: Callable[[], float] = time.time,
        consumer_key: str | None = None,
    ) -> None:
        self.now = now
        self.work = work
        self.run_ms = run_ms
        """How long every run is said to have taken, for the receipt."""
        self.hold: Hold | None = None
        """Where tasks stop until `release()`; None lets them run at once."""
        self.answer_hook: AnswerHook | None = None
        """Sees each answer and may change it: a backend that lies, for tests."""
        self.can_stream = True
        self.consumer_key = consumer_key or "0x" + secrets.token_hex(32)
        self._dispatcher_key = "0x" + secrets.token_hex(32)
        self._faults: deque[tuple[str, int, str | None]] = deque()
        self._tasks: dict[str, _Task] = {}
        self._blobs: dict[str, bytes] = {}
        self._nonces: set[str] = set()
        self._sessions: dict[str, str] = {}
        self._api_keys: dict[str, tuple[str, wire.ApiKeyBody]] = {}
        self._answers: dict[tuple[str, str], tuple[str, httpx.Response]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.calls = InMemoryCalls(self)
        """Apps to be called, and what became of the calls."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of everything asked, in order."""
        self.deployment = wire.DeploymentBody(
            chain_id=CHAIN_ID,
            token="0x" + "a1" * 20,
            token_symbol="TALLY",
            token_decimals=DECIMALS,
            escrow=to_address("0x" + "e5" * 20),
            market="0x" + "b2" * 20,
            staking="0x" + "c3" * 20,
            dispatcher=signatures.address_of(self._dispatcher_key),
            dispatcher_bps=500,
            stake_unit=10**18,
            challenge_window_seconds=86_400,
        )
        self.domain = Domain(CHAIN_ID, to_address(self.deployment.escrow))
        self.chain = InMemoryChain(
            self.domain,
            now_s=lambda: int(self.now()),
            on_created=self._created,
            on_cancelled=self._cancelled_on_chain,
        )
        self.providers = [
            InMemoryProvider(
                cold_key="0x" + secrets.token_hex(32),
                operator_key="0x" + secrets.token_hex(32),
                rate_per_gpu_second=rate_per_gpu_second_down(Decimal(price), DECIMALS),
                gpu_class=gpu_class,
                gpus=gpus_per_provider,
            )
            for price in prices_per_gpu_hour
        ]
        for provider in self.providers:
            operator = signatures.address_of(provider.operator_key).lower()
            self.chain.operator_keys[operator] = provider.address.lower()
            self.chain.stake_units[provider.address.lower()] = provider.gpus
        held = self.chain.held(signatures.address_of(self.consumer_key))
        held.wallet = wallet_tokens * 10**DECIMALS
        held.available = deposited_tokens * 10**DECIMALS

    # --- for its user ------------------------------------------------------------------------

    def client(self, **options: Any) -> GPUClient:
        """A blocking client of this market with the funded wallet."""
        from tallystick.sync import GPUClient

        return GPUClient(**self._options(options))

    def async_client(self, **options: Any) -> AsyncGPUClient:
        from tallystick.client import AsyncGPUClient

        return AsyncGPUClient(**self._options(options))

    def fail(self, times: int, status: int = 503, *, retry_after: str | None = None) -> None:
        """The next `times` requests are answered with `status`, before anything is done."""
        self._faults.extend([("status", status, retry_after)] * times)

    def drop(self, times: int) -> None:
        """The next `times` connections fail before the request arrives."""
        self._faults.extend([("drop", 0, None)] * times)

    def lose_answers(self, times: int) -> None:
        """The next `times` requests are carried out, but their answers are lost."""
        self._faults.extend([("lose", 0, None)] * times)

    def report(
        self, task_id: str, *, percent: int, eta_seconds: int | None = None, message: str = ""
    ) -> None:
        """What a held task says of its progress."""
        self._tasks[task_id].progress = {
            "percent": percent,
            "eta_seconds": eta_seconds,
            "message": message,
        }

    def write_log(self, task_id: str, text: str, stream: str = "stdout") -> None:
        task = self._tasks[task_id]
        line = wire.LogLine(
            id=len(task.logs) + 1,
            fence=max(1, task.fence),
            stream=stream,
            at_ms=self._now_ms(),
            text=text,
        )
        task.logs.append(line)

    def ask_for_key(self, task_id: str, provider: InMemoryProvider, fence: int) -> None:
        """The dispatcher waits for an input key that was not sealed ahead."""
        task = self._tasks[task_id]
        task.fence = fence - 1
        task.needs_key = wire.SealedKeyRequest(
            provider=provider.address,
            hpke_key=provider.sealing_key.public,
            hpke_signature=self._key_signature(provider),
            fence=fence,
        )

    def lose_lease(self, task_id: str) -> None:
        """The provider of a held task falls silent; the task waits for another."""
        task = self._tasks[task_id]
        if task.provider is not None:
            task.provider.online = False
        task.provider, task.state = None, "funded"

    async def release(self) -> None:
        """Lets held tasks go on to their end."""
        self.hold = None
        await self._let_run()

    def give_up(self, task_id: str, failure: str) -> None:
        """The task fails for good."""
        self._tasks[task_id].state, self._tasks[task_id].failure = "failed", failure

    # --- httpx -------------------------------------------------------------------------------

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        self.requests.append((request.method, request.url.path))
        fault = self._faults.popleft() if self._faults else None
        if fault is not None and fault[0] == "drop":
            raise httpx.ConnectError("the connection was dropped on purpose", request=request)
        if fault is not None and fault[0] == "status":
            headers = {"Retry-After": fault[2]} if fault[2] else {}
            return httpx.Response(fault[1], headers=headers, request=request)
        answer = await self._answer(request, body)
        if fault is not None:
            raise httpx.ReadError("the answer was lost on purpose", request=request)
        answer.request = request
        return self.answer_hook(request, answer) if self.answer_hook else answer

    async def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        try:
            caller = self._caller(request)
            return await self._once(request, body, caller)
        except CallRefused as refused:
            return _problem(_Refusal(refused.status, refused.code, str(refused), refused.next_step))
        except _Refusal as refusal:
            return _problem(refusal)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_input=False, include_context=False)
            text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in first[:3])
            return _problem(_Refusal(422, "invalid_body", f"The body is wrong: {text}"))
        except ProtocolError as problem:
            return _problem(_Refusal(422, "invalid_body", f"The body is wrong: {problem}"))

    async def _once(
        self, request: httpx.Request, body: bytes, caller: str | None
    ) -> httpx.Response:
        """A write with a known Idempotency-Key gets the answer it got before."""
        key = request.headers.get("Idempotency-Key")
        if request.method == "GET" or key is None or caller is None:
            return await self._route(request, body, caller)
        known, asked = self._answers.get((caller, key)), digest_of(body)
        if known is not None:
            if known[0] != asked:
                raise _Refusal(409, "idempotency_conflict", "The key was used for another body.")
            headers = {k: v for k, v in known[1].headers.items() if k != "content-length"}
            return httpx.Response(known[1].status_code, headers=headers, content=known[1].content)
        answer = await self._route(request, body, caller)
        self._answers[(caller, key)] = (asked, answer)
        return answer

    async def _route(
        self, request: httpx.Request, body: bytes, caller: str | None
    ) -> httpx.Response:
        call = _Call(request, body, dict(request.url.params), caller)
        for method, pattern, handler in self._routes():
            if method == request.method and (match := pattern.fullmatch(request.url.path)):
                await self._let_run()
                answer = handler(call, match)
                if asyncio.iscoroutine(answer):
                    answer = await answer
                return _as_response(answer)
        raise _Refusal(404, "not_found", f"There is nothing at {request.url.path}.")

    def _routes(self) -> tuple[tuple[str, re.Pattern[str], Handler], ...]:
        task = r"/v1/tasks/(?P<id>0x[0-9a-f]{64})"
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/v1/deployment", lambda call, match: self.deployment),
            ("GET", "/v1/offers", self._offers),
            ("GET", "/v1/providers", self._list_providers),
            ("GET", r"/v1/providers/(?P<id>0x[0-9a-fA-F]{40})", self._show_provider),
            ("GET", "/v1/gpus", self._list_gpus),
            ("GET", r"/v1/accounts/(?P<id>0x[0-9a-fA-F]{40})", self._account),
            ("POST", "/v1/auth/nonce", self._nonce),
            ("POST", "/v1/auth/login", self._login),
            ("GET", "/v1/auth/me", lambda call, match: {"address": self._need_caller(call)}),
            ("POST", "/v1/keys", self._create_key),
            ("GET", "/v1/keys", self._list_keys),
            ("DELETE", r"/v1/keys/(?P<id>[\w-]+)", self._revoke_key),
            ("PUT", r"/v1/blobs/(?P<id>0x[0-9a-f]{64})", self._put_blob),
            ("POST", "/v1/tasks", self._create_task),
            ("GET", "/v1/tasks", self._list_tasks),
            ("GET", task, self._show_task),
            ("POST", task + "/cancel", self._cancel),
            ("POST", task + "/keys", self._add_key),
            ("POST", task + "/acceptance", self._accept),
            ("GET", task + "/receipt", self._receipt),
            ("GET", task + "/result", self._result),
            ("GET", task + "/logs", self._logs),
            ("GET", task + "/logs/stream", self._stream),
            ("GET", task + "/explain", self._explain),
            *self.calls.routes(),
        )
        return tuple((method, re.compile(path), handler) for method, path, handler in table)

    # --- public ------------------------------------------------------------------------------

    def _offers(self, call: _Call, match: re.Match[str]) -> list[wire.OfferBody]:
        rate = call.query.get("rate_per_gpu_second")
        return self._offers_for(
            call.query.get("gpu_class", ""),
            int(call.query.get("gpus", "0")),
            None if rate is None else int(rate),
        )

    def _offers_for(self, gpu_class: str, gpus: int, rate: int | None) -> list[wire.OfferBody]:
        offers = []
        for provider in self.providers:
            if not provider.online or (gpus and provider.gpu_class != gpu_class):
                continue
            reason, detail = _fault(provider, gpus, rate)
            offers.append(
                wire.OfferBody(
                    provider=provider.address,
                    hpke_key=provider.sealing_key.public,
                    hpke_signature=self._key_signature(provider),
                    runtime=provider.runtime,
                    simulated=True,
                    gpu_class=provider.gpu_class,
                    gpus_free=provider.gpus - provider.busy,
                    gpus_total=provider.gpus,
                    gpu_memory_mib=24_576,
                    rate_per_gpu_second=provider.rate_per_gpu_second,
                    eligible=not reason,
                    reason=reason,
                    detail=detail,
                )
            )
        return sorted(offers, key=lambda o: (not o.eligible, o.rate_per_gpu_second))

    def _provider_body(self, provider: InMemoryProvider) -> wire.ProviderBody:
        return wire.ProviderBody(
            address=provider.address,
            online=provider.online,
            last_seen_ms=self._now_ms(),
            stake=provider.gpus * self.deployment.stake_unit,
            unbonding=0,
            gpus_registered=provider.gpus,
            operator_keys=(signatures.address_of(provider.operator_key),),
            runtime=provider.runtime,
            agent_version="in-memory",
            draining=False,
            simulated=True,
            hpke_key=provider.sealing_key.public,
            hpke_signature=self._key_signature(provider),
            rate_per_gpu_second={provider.gpu_class: provider.rate_per_gpu_second},
            gpus=tuple(_card(provider, gpu_id) for gpu_id in provider.gpu_ids),
            tasks_settled=sum(
                1 for t in self._tasks.values() if t.state == "settled" and t.provider is provider
            ),
        )

    def _key_signature(self, provider: InMemoryProvider) -> str:
        return sign_hpke_key(
            self.domain, provider.address, provider.sealing_key.public, provider.operator_key
        )

    def _list_providers(self, call: _Call, match: re.Match[str]) -> wire.ProviderPage:
        return wire.ProviderPage(items=tuple(map(self._provider_body, self.providers)))

    def _show_provider(self, call: _Call, match: re.Match[str]) -> wire.ProviderBody:
        for provider in self.providers:
            if provider.address.lower() == match["id"].lower():
                return self._provider_body(provider)
        raise _Refusal(404, "not_found", f"There is no provider {match['id']}.")

    def _list_gpus(self, call: _Call, match: re.Match[str]) -> wire.GpuPage:
        return wire.GpuPage(
            items=tuple(
                wire.GpuListing(
                    provider=provider.address,
                    gpu=_card(provider, gpu_id),
                    rate_per_gpu_second=provider.rate_per_gpu_second,
                    busy=number < provider.busy,
                    online=provider.online,
                )
                for provider in self.providers
                for number, gpu_id in enumerate(provider.gpu_ids)
            )
        )

    def _account(self, call: _Call, match: re.Match[str]) -> wire.AccountBody:
        held = self.chain.held(match["id"])
        return wire.AccountBody(
            address=match["id"],
            available=held.available,
            locked=held.locked,
            credit=held.credit,
            block=1,
        )

    # --- access ------------------------------------------------------------------------------

    def _nonce(self, call: _Call, match: re.Match[str]) -> wire.SiweNonce:
        nonce = secrets.token_hex(12)
        self._nonces.add(nonce)
        return wire.SiweNonce(nonce=nonce, expires_at_ms=self._now_ms() + 600_000)

    def _login(self, call: _Call, match: re.Match[str]) -> wire.SessionBody:
        login = wire.SiweLogin.model_validate_json(call.body)
        lines = login.message.splitlines()
        stated = dict(line.split(": ", 1) for line in lines if ": " in line)
        if len(lines) < 2 or lines[0] != (
            f"{call.request.url.netloc.decode()} wants you to sign in with your Ethereum account:"
        ):
            raise _Refusal(401, "login_refused", "The text names another domain.")
        if stated.get("Chain ID") != str(CHAIN_ID):
            raise _Refusal(401, "login_refused", "The text names another chain.")
        if stated.get("Nonce", "") not in self._nonces:
            raise _Refusal(401, "login_refused", "The nonce is unknown or used.", field="nonce")
        self._nonces.discard(stated["Nonce"])
        address = signatures.recover_text(login.message, login.signature)
        if address != lines[1]:
            raise _Refusal(401, "login_refused", f"The text is not signed by {lines[1]}.")
        token = secrets.token_urlsafe(24)
        self._sessions[token] = address.lower()
        return wire.SessionBody(
            token=token, address=address, expires_at_ms=self._now_ms() + 3_600_000
        )

    def forget_sessions(self) -> None:
        """Every log-in has expired."""
        self._sessions.clear()

    def _caller(self, request: httpx.Request) -> str | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token in self._sessions:
            return self._sessions[token]
        for owner, key in self._api_keys.values():
            if key.secret == token:
                if request.method != "GET" and "tasks:write" not in key.scopes:
                    raise _Refusal(403, "scope_missing", "The API key may only read.")
                return owner
        raise _Refusal(401, "unknown_token", "The token is unknown or has expired.")

    def _need_caller(self, call: _Call) -> str:
        if call.caller is None:
            raise _Refusal(401, "login_needed", "This needs a log-in.")
        return call.caller

    def _create_key(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        owner = self._need_caller(call)
        asked = wire.CreateApiKey.model_validate_json(call.body)
        secret = "tsk_" + secrets.token_urlsafe(24)
        body = wire.ApiKeyBody(
            id=secrets.token_hex(8),
            name=asked.name,
            prefix=secret[:8],
            scopes=asked.scopes,
            created_at_ms=self._now_ms(),
            last_used_at_ms=None,
            secret=secret,
        )
        self._api_keys[body.id] = (owner, body)
        return _as_response(body, 201)

    def _list_keys(self, call: _Call, match: re.Match[str]) -> list[wire.ApiKeyBody]:
        owner = self._need_caller(call)
        return [
            key.model_copy(update={"secret": None})
            for whose, key in self._api_keys.values()
            if whose == owner
        ]

    def _revoke_key(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        owner, known = self._need_caller(call), self._api_keys.get(match["id"])
        if known is None or known[0] != owner:
            raise _Refusal(404, "not_found", f"There is no API key {match['id']}.")
        del self._api_keys[match["id"]]
        return httpx.Response(204)

    # --- tasks -------------------------------------------------------------------------------

    def _put_blob(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        self._need_caller(call)
        found = digest_of(call.body)
        if found != match["id"]:
            raise _Refusal(422, "digest_mismatch", f"The bytes have the digest {found}.")
        self._blobs[found] = call.body
        return _as_response(wire.BlobBody(digest=found, bytes=len(call.body)), 201)

    async def _create_task(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        caller = self._need_caller(call)
        order = wire.CreateTask.model_validate_json(call.body)
        terms = TaskTerms.from_body(order.terms)
        task_id = messages.task_id(self.domain, terms)
        signer = messages.recover(self.domain, terms, order.signature)
        if signer != terms.consumer or signer.lower() != caller:
            raise _Refusal(403, "wrong_consumer", "The order is not signed by the caller.")
        if spec_digest(order.manifest) != terms.spec:
            raise _Refusal(422, "wrong_spec", "The manifest is not the one the terms name.")
        digest = order.manifest.input_digest
        if digest is not None and digest not in self._blobs:
            raise _Refusal(422, "input_missing", f"The input {digest} was not uploaded.")
        task = self._tasks.get(task_id)
        if task is None:
            task = _Task(task_id, order, self._now_ms())
            task.keys = {(k.provider.lower(), k.fence): k.sealed for k in order.sealed_keys}
            self._tasks[task_id] = task
            if not order.secured:
                await self._go_on(task)
        return _as_response(self._task_body(task), 201)

    def _list_tasks(self, call: _Call, match: re.Match[str]) -> wire.TaskPage:
        caller, query = self._need_caller(call), call.query
        mine = [
            self._task_body(task)
            for task in reversed(self._tasks.values())
            if task.terms.consumer.lower() == caller
            and task.order.manifest.name.startswith(query.get("name", ""))
            and query.get("state") in (None, task.state)
        ]
        start, limit = int(query.get("cursor", "0")), int(query.get("limit", "50"))
        more = start + limit < len(mine)
        return wire.TaskPage(
            items=tuple(mine[start : start + limit]),
            next_cursor=str(start + limit) if more else None,
        )

    def _show_task(self, call: _Call, match: re.Match[str]) -> wire.TaskBody:
        return self._task_body(self._mine(call, match))

    def _cancel(self, call: _Call, match: re.Match[str]) -> wire.TaskBody:
        task = self._mine(call, match)
        if task.state in ("settled", "refunded", "failed"):
            raise _Refusal(409, "task_is_over", f"The task is {task.state} already.")
        task.withdrawn = True
        if task.state in ("ordered", "funded", "leased", "running"):
            task.state = "cancelled"
        return self._task_body(task)

    async def _add_key(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        task = self._mine(call, match)
        key = wire.SealedKey.model_validate_json(call.body)
        task.keys[(key.provider.lower(), key.fence)] = key.sealed
        asked = task.needs_key
        if asked is not None and (asked.provider.lower(), asked.fence) in task.keys:
            task.needs_key = None
            await self._go_on(task)
        return httpx.Response(204)

    def _accept(self, call: _Call, match: re.Match[str]) -> wire.TaskBody:
        task = self._mine(call, match)
        sent = wire.AcceptTask.model_validate_json(call.body)
        if task.receipt is None:
            raise _Refusal(409, "nothing_to_accept", "There is no receipt yet.")
        if task.state == "settled":
            raise _Refusal(409, "task_is_over", "The task is settled already.")
        acceptance = Acceptance.from_body(sent.acceptance)
        signer = messages.recover(self.domain, acceptance, sent.signature)
        if signer != task.terms.consumer:
            raise _Refusal(422, "wrong_signer", f"The acceptance is signed by {signer}.")
        expected = (task.id, task.receipt.receipt.total, task.receipt.digest)
        if (acceptance.task_id, acceptance.total, acceptance.receipt) != expected:
            raise _Refusal(422, "acceptance_mismatch", "It names another receipt or total.")
        provider = task.receipt.receipt.provider
        task.settled_tx = self.chain.settle(task.terms, acceptance.total, provider)
        task.receipt = task.receipt.model_copy(update={"accepted": True})
        task.state = "settled"
        return self._task_body(task)

    def _receipt(self, call: _Call, match: re.Match[str]) -> wire.ReceiptView:
        task = self._mine(call, match)
        if task.receipt is None:
            raise _Refusal(404, "not_there_yet", "The task has no receipt yet.")
        return task.receipt

    def _result(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        task = self._mine(call, match)
        if task.receipt is None:
            raise _Refusal(404, "not_there_yet", "The task has no result yet.")
        return httpx.Response(200, content=task.result)

    def _logs(self, call: _Call, match: re.Match[str]) -> wire.LogPage:
        task = self._mine(call, match)
        after, limit = int(call.query.get("cursor", "0")), int(call.query.get("limit", "100"))
        items = [line for line in task.logs if line.id > after]
        more = len(items) > limit
        return wire.LogPage(
            items=tuple(items[:limit]), next_cursor=str(items[limit - 1].id) if more else None
        )

    def _stream(self, call: _Call, match: re.Match[str]) -> httpx.Response:
        task = self._mine(call, match)
        if not self.can_stream:
            raise _Refusal(404, "not_found", "This backend does not stream.")
        after = int(call.request.headers.get("Last-Event-ID", "0"))
        events = "".join(
            f"id: {line.id}\nevent: log\ndata: {line.model_dump_json()}\n\n"
            for line in task.logs
            if line.id > after
        )
        return httpx.Response(
            200,
            content=(": hello\n\n" + events).encode(),
            headers={"Content-Type": "text/event-stream"},
        )

    def _explain(self, call: _Call, match: re.Match[str]) -> wire.ExplainBody:
        task = self._mine(call, match)
        terms, wants = task.terms, task.order.manifest.resources
        offers = self._offers_for(wants.gpu_class, wants.gpus, terms.rate_per_gpu_second)
        able = sum(offer.eligible for offer in offers)
        return wire.ExplainBody(
            task_id=task.id,
            state=task.state,
            summary=task.failure or f"The task is {task.state}; {able} providers could take it.",
            offers=tuple(offers),
        )

    # --- the round of a task -----------------------------------------------------------------

    def _created(self, task_id: str, tx: str) -> None:
        task = self._tasks.get(task_id)
        if task is not None and task.state == "ordered":
            task.state, task.created_tx = "funded", tx

    def _cancelled_on_chain(self, task_id: str) -> None:
        task = self._tasks.get(task_id)
        if task is not None and task.state in ("ordered", "funded", "leased", "running"):
            task.withdrawn, task.state = True, "cancelled"

    async def _let_run(self) -> None:
        """Work goes on between any two requests."""
        for task in list(self._tasks.values()):
            if task.state in ("ordered", "funded", "leased", "running"):
                await self._go_on(task)

    async def _go_on(self, task: _Task) -> None:
        """As far as money, providers, keys and `hold` allow."""
        paid = task.state == "funded" or (task.state == "ordered" and not task.order.secured)
        if task.provider is None and paid:
            if task.needs_key is not None or self.hold == "funded":
                return
            if not self._lease(task):
                return
        if task.state == "leased" and self.hold != "leased":
            task.state = "running"
        if task.state == "running" and self.hold != "running":
            task.state = "uploading"  # nobody else starts it again while the thread works
            await self._run(task)

    def _lease(self, task: _Task) -> bool:
        wants = task.order.manifest.resources
        for provider in self.providers:
            if not provider.online or (wants.gpus and provider.gpu_class != wants.gpu_class):
                continue
            reason, _ = _fault(provider, wants.gpus, task.terms.rate_per_gpu_second)
            if reason:
                continue
            fence = task.fence + 1
            sealed_to = (provider.address.lower(), fence)
            if task.order.manifest.input_digest is not None and sealed_to not in task.keys:
                self.ask_for_key(task.id, provider, fence)
                return False
            task.provider, task.fence, task.state = provider, fence, "leased"
            return True
        return False

    async def _run(self, task: _Task) -> None:
        provider = task.provider
        assert provider is not None
        try:
            files = self._inputs(task, provider)
            outcome = await asyncio.to_thread(self.work, files, task.order.manifest)
        except ProtocolError as problem:
            task.state, task.failure = "failed", str(problem)
            return
        for line in outcome.log.splitlines(keepends=True):
            if not line.startswith("::progress "):
                self.write_log(task.id, line)
        self._finish(task, provider, outcome)

    def _inputs(self, task: _Task, provider: InMemoryProvider) -> dict[str, bytes]:
        digest = task.order.manifest.input_digest
        if digest is None:
            return {}
        sealed = bytes.fromhex(task.keys[(provider.address.lower(), task.fence)][2:])
        key = sealing.open_input_key(provider.sealing_key, Digest(task.id), task.fence, sealed)
        return unpack_files(sealing.decrypt_bundle(key, self._blobs[digest]), max_mib=1024)

    def _finish(self, task: _Task, provider: InMemoryProvider, outcome: Outcome) -> None:
        terms = task.terms
        started, ended = task.created_at_ms, task.created_at_ms + self.run_ms
        gpu_ms = terms.gpus * self.run_ms
        about = {"exit_code": outcome.exit_code, "started_at_ms": started, "ended_at_ms": ended}
        bundle = pack(
            {"tallystick.json": json.dumps(about).encode()}
            | {f"out/{name}": content for name, content in outcome.files.items()}
        )
        consumer_key = task.order.manifest.result_key
        task.result = sealing.seal_result(consumer_key, Digest(task.id), task.fence, bundle)
        receipt = Receipt(
            provider=provider.address,
            route=Digest(task.id),
            seq=task.fence,
            prev=ZERO_DIGEST,
            request=terms.spec,
            result=digest_of(task.result),
            gpu_set=gpu_set_root(provider.gpu_ids[: terms.gpus]),
            started_at_ms=started,
            ended_at_ms=ended,
            calls=1,
            gpu_ms=gpu_ms,
            usage_root=ZERO_DIGEST,
            total=charge_up(terms, 1, gpu_ms),
        )
        self.put_receipt(task.id, receipt, provider.operator_key, outcome.exit_code)

    def put_receipt(self, task_id: str, receipt: Receipt, key: str, exit_code: int = 0) -> None:
        """Signs and stores a receipt, whatever it says: for tests of what a consumer refuses."""
        task = self._tasks[task_id]
        task.receipt = wire.ReceiptView(
            receipt=receipt.to_body(),
            signature=messages.sign(self.domain, receipt, key),
            digest=messages.digest(self.domain, receipt),
            fence=task.fence,
            exit_code=exit_code,
            result_digest=receipt.result,
            result_bytes=len(task.result),
            energy_mj=None,
            simulated=True,
            runtime="process",
            accepted=False,
        )
        task.state = "finished"

    def put_result(self, task_id: str, sealed: bytes) -> None:
        """Replaces the stored result, whatever it is."""
        self._tasks[task_id].result = sealed

    def receipt_of(self, task_id: str) -> Receipt:
        view = self._tasks[task_id].receipt
        if view is None:
            raise LookupError(f"task {task_id} has no receipt yet")
        return Receipt.from_body(view.receipt)

    def _mine(self, call: _Call, match: re.Match[str]) -> _Task:
        caller, task = self._need_caller(call), self._tasks.get(match["id"])
        if task is None or task.terms.consumer.lower() != caller:
            raise _Refusal(404, "not_found", f"There is no task {match['id']}.")
        return task

    def _task_body(self, task: _Task) -> wire.TaskBody:
        state = "running" if task.state == "uploading" else task.state
        lease = None
        if task.provider is not None:
            lease = wire.LeaseBody(
                fence=task.fence,
                provider=task.provider.address,
                state="finished" if task.receipt else "running",
                lease_from=task.created_at_ms // 1000,
                lease_until=task.created_at_ms // 1000 + 30,
                simulated=True,
                runtime=task.provider.runtime,
            )
        receipt = task.receipt
        return wire.TaskBody(
            id=task.id,
            name=task.order.manifest.name,
            state=state,
            consumer=task.terms.consumer,
            terms=task.order.terms,
            manifest=task.order.manifest,
            secured=task.order.secured,
            created_at_ms=task.created_at_ms,
            progress=wire.Progress(
                state=state, stage=state, updated_at_ms=self._now_ms(), **task.progress
            ),
            lease=lease,
            attempts=task.fence,
            failure=task.failure,
            charge=receipt.receipt.total if receipt else None,
            receipt_digest=receipt.digest if receipt else None,
            created_tx=task.created_tx,
            settled_tx=task.settled_tx,
            needs_key=task.needs_key,
        )

    def _now_ms(self) -> int:
        return int(self.now() * 1000)

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        config = Config(url=URL, private_key=self.consumer_key)
        names = ("api_key", "private_key", "own_key", "own_key_file", "image")
        changed = {name: options.pop(name) for name in names if name in options}
        standard = {
            "config": replace(config, **changed),
            "transport": self,
            "chain": self.chain,
            "now": self.now,
        }
        return standard | options


def _fault(provider: InMemoryProvider, gpus: int, rate: int | None) -> tuple[str, str]:
    if gpus > provider.gpus:
        return "gpus_too_few", f"It has {provider.gpus} GPUs; ask for {provider.gpus} or fewer."
    if gpus > provider.gpus - provider.busy:
        free = provider.gpus - provider.busy
        return "gpus_busy", f"{free} of its {provider.gpus} GPUs are free; wait, or ask for {free}."
    if rate is not None and rate < provider.rate_per_gpu_second:
        return "price_above_ceiling", f"It asks {provider.rate_per_gpu_second} per GPU-second."
    return "", ""


def _card(provider: InMemoryProvider, gpu_id: str) -> wire.GpuBody:
    return wire.GpuBody(
        gpu_id=gpu_id,
        model="Simulated GPU",
        gpu_class=provider.gpu_class,
        memory_mib=24_576,
        simulated=True,
    )


def _as_response(answer: Any, status: int = 200) -> httpx.Response:
    if isinstance(answer, httpx.Response):
        return answer
    if isinstance(answer, BaseModel):
        content = answer.model_dump_json()
    elif isinstance(answer, list):
        content = "[" + ",".join(item.model_dump_json() for item in answer) + "]"
    else:
        content = json.dumps(answer)
    headers = {"Content-Type": "application/json"}
    return httpx.Response(status, content=content.encode(), headers=headers)


def _problem(refusal: _Refusal) -> httpx.Response:
    return httpx.Response(
        refusal.problem.status,
        content=refusal.problem.model_dump_json().encode(),
        headers={"Content-Type": "application/problem+json"},
    )
