"""Who may come onto the bus, and what it may do there.

The server asks us about every connection it does not know. A provider shows a log-in proof as its
token: signed by its own key or a bound operator key, for this deployment, fresh, used once, and
with a unit of stake behind it. It gets its own subjects and nothing else. Nobody shares a token, so
provider A cannot speak for provider B.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.login import LoginProof, check_proof
from tallystick.protocol.messages import Domain
from tallystick_backend.clock import Clock
from tallystick_backend.dispatch import jwt
from tallystick_backend.dispatch.bus import Bus
from tallystick_backend.dispatch.errors import LoginRefused
from tallystick_backend.dispatch.nats_config import ACCOUNT, MAX_PAYLOAD_BYTES, BusKeys
from tallystick_backend.dispatch.retry import transact
from tallystick_backend.dispatch.settings import DispatchSettings
from tallystick_backend.store.repositories import chain, work
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import LoginProofRow

log = structlog.get_logger(__name__)

SUBJECT = "$SYS.REQ.USER.AUTH"
_AUDIENCE = "nats-authorization-request"
_MAX_SUBSCRIPTIONS = 32
_REPLY_WITHIN_NS = 30 * 10**9


class AuthCallout:
    """Answers on a connection of its own, as the callout's user."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        keys: BusKeys,
        domain: Domain,
        settings: DispatchSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._bus = bus
        self._keys = keys
        self._domain = domain
        self._settings = settings
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        await self._bus.connect(stop)
        try:
            if not stop.is_set():
                await self._bus.serve(SUBJECT, "callout", self.handle)
                await stop.wait()
        finally:
            await self._bus.close()

    async def handle(self, _subject: str, payload: bytes) -> bytes | None:
        """The signed answer; None for what the server did not ask."""
        try:
            request = _request(payload)
        except LoginRefused as refusal:
            log.warning("login_malformed", reason=str(refusal))
            return None
        try:
            proof = await self._check(request.token)
        except LoginRefused as refusal:
            log.info("login_refused", reason=str(refusal)[:300])
            return self._answer(request, error=str(refusal)[:300])
        except Exception:
            log.exception("login_failed")
            return self._answer(request, error="the backend could not check the log-in: try again")
        log.info("provider_logged_in", provider=proof.provider, key=proof.key)
        return self._answer(request, user=self._user(request, proof))

    async def _check(self, token: str) -> LoginProof:
        now_ms = self._clock.now_ms()
        max_age_s = self._settings.proof_max_age_seconds
        try:
            proof = check_proof(token, self._domain, now_ms // 1000, max_age_s)
        except ProtocolError as failure:
            raise LoginRefused(str(failure)) from failure

        async def use(session: AsyncSession) -> str | None:
            refusal = await self._who(session, proof)
            if refusal is not None:
                return refusal
            if await work.login_proof_used(session, proof.nonce):
                return "the log-in proof was used before: make a new one for every connection"
            # A proof is good from max_age before its time to max_age after; later its age refuses.
            await work.forget_login_proofs(session, now_ms - (2 * max_age_s + 1) * 1000)
            session.add(LoginProofRow(nonce=proof.nonce, at_ms=now_ms))
            return None

        refusal = await transact(self._database, use)
        if refusal is not None:
            raise LoginRefused(refusal)
        return proof

    async def _who(self, session: AsyncSession, proof: LoginProof) -> str | None:
        if not await chain.key_signs_for(session, proof.key, proof.provider):
            return (
                f"the key {proof.key} is not bound to {proof.provider} on chain, or was retired: "
                "bind it with bindOperatorKey"
            )
        row = await chain.provider(session, proof.provider)
        stake, unit = (0 if row is None else row.stake), self._settings.stake_unit
        if stake < unit:
            return f"the stake is {stake}, one unit of {unit} is needed: stake {unit - stake} more"
        return None

    def _user(self, request: _Request, proof: LoginProof) -> str:
        provider = proof.provider.lower()
        now_s = self._clock.now_ms() // 1000
        return jwt.encode(
            {
                "aud": ACCOUNT,
                "sub": request.user_nkey,
                "name": provider,
                "iat": now_s,
                # The server hangs up then, and a key retired meanwhile does not come back.
                "exp": now_s + self._settings.session_seconds,
                "nats": {
                    "type": "user",
                    "version": 2,
                    "pub": {"allow": [f"tallystick.backend.{provider}.>"]},
                    "sub": {"allow": [f"tallystick.provider.{provider}.>", f"_INBOX.{provider}.>"]},
                    "resp": {"max": 1, "ttl": _REPLY_WITHIN_NS},
                    "subs": _MAX_SUBSCRIPTIONS,
                    "data": -1,
                    "payload": MAX_PAYLOAD_BYTES,
                },
            },
            self._keys.issuer_seed,
        )

    def _answer(self, request: _Request, *, user: str = "", error: str = "") -> bytes:
        said: dict[str, Any] = {"type": "authorization_response", "version": 2}
        said |= {"jwt": user} if user else {"error": error}
        claims = {
            "aud": request.server_id,
            "sub": request.user_nkey,
            "iat": self._clock.now_ms() // 1000,
            "nats": said,
        }
        return jwt.encode(claims, self._keys.issuer_seed).encode()


class _Request:
    """What the server asks: may the holder of this token come in as this one-time user?"""

    __slots__ = ("server_id", "token", "user_nkey")

    def __init__(self, server_id: str, user_nkey: str, token: str) -> None:
        self.server_id = server_id
        self.user_nkey = user_nkey
        self.token = token


def _request(payload: bytes) -> _Request:
    claims = jwt.decode(payload)
    said = claims.get("nats")
    if claims.get("aud") != _AUDIENCE or not isinstance(said, dict):
        raise LoginRefused("the token is no authorization request")
    try:
        server_id, user_nkey = said["server_id"]["id"], said["user_nkey"]
        token = said["connect_opts"].get("auth_token", "")
    except (KeyError, TypeError, AttributeError) as failure:
        raise LoginRefused("the authorization request lacks a field") from failure
    if not all(isinstance(text, str) for text in (server_id, user_nkey, token)):
        raise LoginRefused("the authorization request has a field of another kind")
    if claims.get("iss") != server_id or not user_nkey.startswith("U"):
        raise LoginRefused("the authorization request is not the server's own")
    return _Request(server_id, user_nkey, token)
