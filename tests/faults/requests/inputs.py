"""Requests that should not work, from the OpenAPI document and from grammars of our own."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from siwe import SiweMessage

from tallystick.protocol import messages
from tallystick.protocol.app_manifest import AppManifest
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.messages import ChannelAllowance, Voucher
from tallystick.protocol.signatures import sign_text
from tallystick.protocol.types import Address, Digest
from tallystick_backend.__main__ import openapi_text
from tallystick_backend.api import examples
from tests.backend.api.called import SESSION
from tests.backend.api.world import CHAIN_ID, PUBLIC_URL
from tests.faults.requests import spoiling
from tests.faults.requests.place import Place
from tests.faults.requests.wire import Ask, in_path, in_query
from tests.support.anvil import CONSUMER, PROVIDER

OPERATIONS: Final = [
    (method.upper(), path, operation)
    for path, methods in json.loads(openapi_text())["paths"].items()
    for method, operation in methods.items()
    if operation["operationId"] != "logout"  # it would end the session that asks for the rest
]
JSON: Final = ("Content-Type", b"application/json")


class Inputs:
    """Draws requests; each `kind` is one grammar."""

    def __init__(
        self, here: Place, chance: random.Random, cursors: list[str] | None = None
    ) -> None:
        self._here = here
        self._chance = chance
        self._bearer = ("Authorization", f"Bearer {here.tokens['consumer']}".encode())
        self.dispatched = False
        """Whether an order was taken, which the dispatcher then works at."""
        self._good = _good_bodies(here)
        self._cursors = _cursors(here) if cursors is None else cursors
        self.kinds: dict[str, tuple[int, Callable[[], Ask]]] = {
            "routes": (30, self.any_route),
            "terms": (6, self.terms),
            "log-in": (6, self.login),
            "manifest": (6, self.manifest),
            "voucher": (6, self.voucher),
            "allowance": (4, self.allowance),
            "search": (8, self.search),
            "cursor": (8, self.cursor),
            "headers": (12, self.headers),
            "path": (8, self.path),
            "json": (6, self.json),
            "call": (8, self.call),
        }

    def draw(self) -> Ask:
        names = list(self.kinds)
        (name,) = self._chance.choices(names, [self.kinds[n][0] for n in names])
        return self.kinds[name][1]()

    # --- every route --------------------------------------------------------------------------

    def any_route(self) -> Ask:
        method, path, operation = self._chance.choice(OPERATIONS)
        return self._route(method, path, operation)

    def _route(self, method: str, path: str, operation: dict[str, Any]) -> Ask:
        chance, pairs, headers = self._chance, [], [self._bearer]
        url = path
        for parameter in operation.get("parameters", []):
            name, where = parameter["name"], parameter["in"]
            if where == "path":
                given = self._here.ids.get(name, "x")
                if chance.random() < 0.3:
                    given = self._spoilt(given)
                url = url.replace("{" + name + "}", in_path(given) or "%20")
            elif where == "query" and chance.random() < 0.5:
                pairs.append((name, self._near_schema(parameter)))
            elif where == "header" and chance.random() < 0.4:
                headers.append((name, _field(spoiling.text(chance))))
        if chance.random() < 0.15:
            pairs.append((spoiling.text(chance)[:300], spoiling.text(chance)[:300]))
        if pairs and chance.random() < 0.1:
            pairs.append(pairs[0])
        body: bytes | None = None
        if method in ("POST", "PUT", "DELETE") and chance.random() < 0.9:
            good = self._good.get(operation["operationId"])
            document = spoiling.spoilt(chance, good) if good else spoiling.value(chance)
            body = spoiling.json_bytes(chance, document)
            headers.append(JSON if chance.random() < 0.9 else ("Content-Type", b"text/plain"))
        if chance.random() < 0.06:
            method = chance.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))
        query = "?" + in_query(pairs) if pairs else ""
        # Longer addresses than a server reads are a test of their own.
        return Ask(operation["operationId"], method, (url + query)[:30_000], tuple(headers), body)

    def _near_schema(self, parameter: dict[str, Any]) -> str:
        schema = parameter.get("schema", {})
        shapes = [schema, *schema.get("anyOf", [])]
        known = [v for shape in shapes for v in shape.get("enum", shape.get("examples", []))]
        if known and self._chance.random() < 0.4:
            return str(self._chance.choice(known))
        if any(shape.get("type") == "integer" for shape in shapes) and self._chance.random() < 0.6:
            return str(self._chance.choice(spoiling.NUMBERS))
        return spoiling.text(self._chance)[:8_000]

    def _spoilt(self, good: str) -> str:
        if self._chance.random() < 0.5:
            return spoiling.spoilt_text(self._chance, good)[:4_000]
        return spoiling.text(self._chance)[:4_000]

    def path(self) -> Ask:
        """Ids that are none: unicode, NUL, overlong, half escapes."""
        chance = self._chance
        named = [o for o in OPERATIONS if "{" in o[1] and o[0] == "GET"]
        method, path, operation = chance.choice(named)
        spoilt = chance.choice(
            (
                "%00",
                "%",
                "%2",
                "%zz",
                "%ff%fe",
                "%ed%a0%80",
                "%c0%80",
                "..%2f..%2f",
                "%2e%2e",
                "%252e",
                "%0d%0aX-Evil:1",
                "x" * 20_000,
                in_path(spoiling.text(chance)[:2000]) or "%20",
                in_path(self._spoilt(self._here.ids["task_id"])) or "%20",
                ";a=b",
                "%3f%23",
                "+",
                "0x" + "%30" * 64,
            )
        )
        url = re.sub(r"\{\w+\}", lambda _: spoilt, path)
        return Ask(operation["operationId"], method, url, (self._bearer,))

    # --- grammars of our own --------------------------------------------------------------------

    def terms(self) -> Ask:
        """Orders whose terms are nonsense, signed over the nonsense where that can be."""
        chance, here = self._chance, self._here
        good = here.world.order(secured=chance.random() < 0.5)
        what = chance.randrange(4)
        if what == 0:
            good = spoiling.spoilt(chance, good)
        else:
            name = chance.choice([f for f in good["terms"] if f not in ("consumer", "signer")])
            body = {name: self._number_like(good["terms"][name])}
            try:
                fields = {**good["terms"], **body}
                terms = messages.TaskTerms.from_body(_terms_body(fields))
                signature = messages.sign(here.deployment.domain, terms, CONSUMER.key)
                good = {**good, "terms": fields, "signature": signature}
            except Exception:
                good = {**good, "terms": {**good["terms"], **body}}
        return self._sent("createTask", "POST", "/v1/tasks", good)

    def _number_like(self, good: Any) -> Any:
        number = self._chance.choice(spoiling.NUMBERS)
        if isinstance(good, str) and not good.startswith("0x"):
            return str(number)
        return number if isinstance(good, int) else spoiling.text(self._chance)

    def login(self) -> Ask:
        """Log-in messages with one thing wrong, signed as they are."""
        chance = self._chance
        now = datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields: dict[str, Any] = {
            "domain": "backend.test:8000",
            "address": CONSUMER.address,
            "statement": "Sign in to Tallystick.",
            "uri": PUBLIC_URL,
            "version": "1",
            "chain_id": CHAIN_ID,
            "nonce": f"{chance.randrange(16**12):012x}",
            "issued_at": now,
        }
        text = str(SiweMessage(**fields).prepare_message())
        if chance.random() < 0.5:
            text = spoiling.spoilt_text(chance, text)
        else:
            lines = text.split("\n")
            at = chance.randrange(len(lines))
            lines[at : at + 1] = chance.choice(
                (
                    [],
                    [lines[at], lines[at]],
                    [spoiling.text(chance)[:500]],
                    [lines[at] + spoiling.text(chance)[:100]],
                    [lines[at], "Expiration Time: " + spoiling.text(chance)[:100]],
                    [lines[at], "Resources:", "- " + spoiling.text(chance)[:100]],
                )
            )
            text = "\n".join(lines)
        body: dict[str, Any] = {"message": text, "signature": "0x" + "1b" * 65}
        if chance.random() < 0.7:
            with contextlib.suppress(UnicodeEncodeError):
                body["signature"] = sign_text(text, CONSUMER.key)
        else:
            body["signature"] = self._spoilt(body["signature"])
        return self._sent("login", "POST", "/v1/auth/login", body)

    def manifest(self) -> Ask:
        """Manifests under the digest that they really have."""
        chance = self._chance
        good = json.loads(canonical_json(self._here.manifest))
        good = _rich_manifest(good) if chance.random() < 0.6 else good
        content = spoiling.json_bytes(chance, spoiling.spoilt(chance, good))
        digest = digest_of(content) if chance.random() < 0.9 else digest_of(b"another")
        return Ask("putManifest", "PUT", f"/v1/manifests/{digest}", (self._bearer, JSON), content)

    def voucher(self) -> Ask:
        chance, paid = self._chance, self._here.paid
        total = chance.choice((0, 1, 10**6, 2**127, 2**128 - 1))
        voucher = Voucher(
            Address(paid.payer),
            paid.provider.address,
            paid.salt,
            total,
            Digest("0x" + f"{chance.randrange(2**256):064x}"),
        )
        who = chance.choice((SESSION, CONSUMER, PROVIDER))
        signature = messages.sign(self._here.deployment.domain, voucher, who.key)
        body: Any = {
            "voucher": voucher.to_body().model_dump(mode="json"),
            "signature": signature,
        }
        if chance.random() < 0.7:
            body = spoiling.spoilt(chance, body)
        channel = paid.id if chance.random() < 0.8 else "0x" + "ee" * 32
        return self._sent("handInVoucher", "POST", f"/v1/channels/{channel}/vouchers", body)

    def allowance(self) -> Ask:
        return self._sent(
            "createAllowance",
            "POST",
            "/v1/allowances",
            spoiling.spoilt(self._chance, self._good["createAllowance"]),
        )

    def search(self) -> Ask:
        chance = self._chance
        words = ("vram", "gpu", "price", "model", "free", "simulated", "not", "in", "and", "nope")
        signs = (">=", "<=", "=", "!=", "~", "(", ")", ",", '"', "<", ">", "!", " ", "((")
        values = ("24", "0.5", "rtx3090", "1e9", "9" * 31, ".5", "5.", '"a b"', "²", "%", "\\")
        parts = []
        for _ in range(chance.randrange(1, 14)):
            parts.append(chance.choice(chance.choice((words, signs, values))))
            parts.append(chance.choice(("", " ", "\t")))
        where = "".join(parts)
        if chance.random() < 0.15:
            where += spoiling.text(chance)[:600]
        if chance.random() < 0.05:
            where = chance.choice(("(", "not ", "gpu in (", '"', "a" * 501)) * 300
        query = in_query([("where", where[:2000])])
        order = chance.choice(("price", "-vram", "nope", "²", ""))
        extra = f"&order={in_path(order)}" if chance.random() < 0.3 else ""
        return Ask("searchCards", "GET", f"/v1/market/search?{query}{extra}")

    def cursor(self) -> Ask:
        """Cursors of ours, spoilt, or taken to another list; and what only looks like one."""
        chance = self._chance
        operation, url = chance.choice(_LISTS)
        kind = chance.randrange(4)
        cursor = chance.choice(self._cursors) if self._cursors else "QUFB"
        if kind == 1:
            cursor = spoiling.spoilt_text(chance, cursor)
        elif kind == 2:
            place = json.dumps(spoiling.value(chance)).encode("utf-8", "surrogatepass")
            raw = chance.randbytes(16) + place
            cursor = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        elif kind == 3:
            cursor = spoiling.text(chance)
        url = url.format(**self._here.ids)
        query = in_query([("cursor", cursor[:6_000]), *self._limit()])
        return Ask(operation, "GET", f"{url}?{query}", (self._bearer,))

    def _limit(self) -> list[tuple[str, str]]:
        if self._chance.random() < 0.5:
            return []
        return [("limit", self._chance.choice(("0", "1", "200", "201", "-1", "1e2", "9" * 30)))]

    def headers(self) -> Ask:
        """Authorization in every shape, keys, preferences, media types, and many headers."""
        chance, token = self._chance, self._here.tokens["consumer"]
        method, path, operation = chance.choice(OPERATIONS)
        url = path.format(**_filled(path, self._here.ids))
        text = _field(spoiling.text(chance)[:4_000])
        odd = chance.choice(
            (
                ("Authorization", f"bearer  {token}".encode()),
                ("Authorization", f"Bearer {token} x".encode()),
                ("Authorization", b"Bearer"),
                ("Authorization", b"Bearer " + text),
                ("Authorization", b"Bearer " + _field(spoiling.spoilt_text(chance, token))),
                ("Authorization", b"Basic dXNlcjpwYXNz"),
                ("Authorization", b"\xff\xfe"),
                ("Authorization", b"Bearer ts_" + b"\xb2" * 20),
                ("Idempotency-Key", text),
                ("Idempotency-Key", b"k" * 201),
                ("Idempotency-Key", b"\xb2"),
                ("Prefer", b"wait=\xb2"),
                ("Prefer", b"wait=" + text),
                ("Prefer", b"respond-async, wait=9999999999999999"),
                ("Last-Event-ID", text),
                ("Last-Event-ID", b"\xb2"),
                ("Last-Event-ID", b"9" * 400),
                ("Accept", text),
                ("Accept", b"text/csv;q=" + text),
                ("Content-Type", b"application/json; charset=utf-16"),
                ("Content-Type", text),
                ("Content-Encoding", b"gzip"),
                ("Content-Encoding", text),
                ("Tallystick-Max-Charge", text),
                ("Tallystick-Max-Charge", b"\xb2"),
                ("Tallystick-Signer", text),
                ("Tallystick-Webhook", text),
                ("Origin", text),
                ("Range", b"bytes=" + text),
                ("If-None-Match", text),
                ("If-Modified-Since", text),
                ("X-Forwarded-For", text),
                ("X-HTTP-Method-Override", b"DELETE"),
                ("Cookie", text),
                ("Expect", b"100-continue"),
                ("Upgrade", b"websocket"),
            )
        )
        headers = [odd] if odd[0] == "Authorization" else [self._bearer, odd]
        if chance.random() < 0.2:
            headers.append(odd)
        if chance.random() < 0.04:
            headers += [("X-Filler", b"x")] * chance.choice((90, 150, 900))
        body = None
        if method in ("POST", "PUT", "DELETE"):
            good = self._good.get(operation["operationId"], {})
            body = json.dumps(spoiling.spoilt(chance, good)).encode("utf-8", "surrogatepass")
            headers.append(JSON)
        return Ask(operation["operationId"], method, url, tuple(headers), body)

    def json(self) -> Ask:
        """Bodies that are no JSON, or JSON that two readers would read differently."""
        chance = self._chance
        writes = [o for o in OPERATIONS if "requestBody" in o[2]]
        method, path, operation = chance.choice(writes)
        url = path.format(**_filled(path, self._here.ids))
        body = chance.choice(spoiling.RAW_JSON)
        if chance.random() < 0.4:
            good = json.dumps(self._good.get(operation["operationId"], {"a": [1]})).encode()
            body = spoiling.spoilt_bytes(chance, good)
        return Ask(operation["operationId"], method, url, (self._bearer, JSON), body)

    def call(self) -> Ask:
        """Calls of an app that exists, by a consumer who allowed nothing."""
        chance = self._chance
        headers = [self._bearer]
        if chance.random() < 0.5:
            name = chance.choice(
                (
                    "Prefer",
                    "Tallystick-Webhook",
                    "Tallystick-Max-Charge",
                    "Tallystick-Signer",
                    "Idempotency-Key",
                    "Accept",
                    "Content-Type",
                )
            )
            headers.append((name, _field(spoiling.text(chance)[:3_000])))
        else:
            headers.append(JSON)
        url = f"/v1/apps/{self._here.ids['app']}/calls"
        if chance.random() < 0.3:
            url += "?" + in_query([("version", spoiling.text(chance)[:300])])
        body = spoiling.json_bytes(chance, spoiling.value(chance))
        return Ask("callApp", "POST", url, tuple(headers), body)

    def _sent(self, operation: str, method: str, url: str, document: Any) -> Ask:
        headers = [self._bearer, JSON]
        if self._chance.random() < 0.1:
            headers.append(("Idempotency-Key", f"k{self._chance.randrange(40)}".encode()))
        body = spoiling.json_bytes(self._chance, document)
        return Ask(operation, method, url, tuple(headers), body)


_LISTS: Final = (
    ("listTasks", "/v1/tasks"),
    ("listCalls", "/v1/calls"),
    ("listProviders", "/v1/providers"),
    ("listGpus", "/v1/gpus"),
    ("listApps", "/v1/apps"),
    ("listAppPrices", "/v1/apps/{app}/prices"),
    ("listAppVersions", "/v1/apps/{app}/versions"),
    ("listAppDiscounts", "/v1/apps/{app}/discounts"),
    ("listChannels", "/v1/channels"),
    ("listChainEvents", "/v1/explorer/events"),
    ("listDelegations", "/v1/delegations"),
    ("listLogs", "/v1/tasks/{task_id}/logs"),
    ("listSamples", "/v1/tasks/{task_id}/samples"),
)


def _cursors(here: Place) -> list[str]:
    """Real ones, of lists that have a second page."""

    async def take() -> list[str]:
        found = []
        for url in ("/v1/apps/{app}/prices", "/v1/explorer/events", "/v1/gpus"):
            answer = await here.world.http.get(url.format(**here.ids), params={"limit": 1})
            if answer.status_code == 200 and (cursor := answer.json().get("next_cursor")):
                found.append(str(cursor))
        return found

    taken: list[str] = here.run(take())
    return taken


def _good_bodies(here: Place) -> dict[str, Any]:
    allowance = ChannelAllowance(
        CONSUMER.address, SESSION.address, 10**18, 2**40, Digest("0x" + "00" * 32), 7
    )
    return {
        "login": {"message": "hello", "signature": "0x" + "1b" * 65},
        "createApiKey": {"name": "x", "scopes": ["tasks:read"]},
        "createTask": here.world.order(),
        "addSealedKey": examples.SEALED_KEY,
        "acceptTask": examples.ACCEPT_TASK,
        "setSpendLimit": examples.SPEND_LIMIT,
        "keepWarm": examples.KEEP_WARM,
        "createAllowance": {
            "allowance": allowance.to_body().model_dump(mode="json"),
            "signature": messages.sign(here.deployment.domain, allowance, CONSUMER.key),
        },
        "putManifest": json.loads(canonical_json(here.manifest)),
    }


def _rich_manifest(good: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 9}, "n": {"$ref": "#/$defs/n"}},
        "required": ["text"],
        "$defs": {"n": {"type": "integer", "minimum": 0, "multipleOf": 2}},
        "additionalProperties": False,
    }
    names = set(AppManifest.model_fields)
    extra = {"input_schema": json.dumps(schema), "description": "An app."}
    return {**good, **{name: v for name, v in extra.items() if name in names}}


def _terms_body(fields: dict[str, Any]) -> Any:
    from tallystick.protocol.wire import TaskTermsBody

    return TaskTermsBody.model_validate(fields)


def _filled(path: str, ids: dict[str, str]) -> dict[str, str]:
    return {name: ids.get(name, "x") for name in re.findall(r"{(\w+)}", path)}


def _field(text: str) -> bytes:
    """As much of it as a header may carry without ending."""
    raw = text.encode("utf-8", "surrogatepass")
    return re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", raw)[:6_000].strip()


__all__ = ["OPERATIONS", "Inputs"]
