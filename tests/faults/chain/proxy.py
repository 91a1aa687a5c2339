"""A JSON-RPC proxy that lies on purpose: a real HTTP server on loopback in front of a real node.

For each request a stream drawn from the seed decides whether it is answered truly. A fault is
counted only if the answer really became another one, so a kind that never fires is seen. Which
fault a request meets hangs on what is asked and how often it was asked before, never on time.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp import web

Answer: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[["Asked", random.Random], Any]

PAST_PATIENCE_S: Final = 30.0


class Asked:
    """One request, with the node's true answer."""

    def __init__(self, method: str, params: list[Any], answer: Answer) -> None:
        self.method = method
        self.params = params
        self.answer = answer

    @property
    def result(self) -> Any:
        return copy.deepcopy(self.answer.get("result"))

    def with_result(self, result: Any) -> Answer:
        return {**self.answer, "result": result}


class Raw:
    """An answer that is no JSON-RPC object."""

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        pace: str = "",
    ) -> None:
        self.body = body
        self.status = status
        self.headers = headers or {"Content-Type": "application/json"}
        self.pace = pace
        """"" at once | "never" | "drip" | "cut\""""


# --- kinds: each answers None where it cannot change anything ----------------------------------


def _is_logs(asked: Asked) -> bool:
    return asked.method == "eth_getLogs" and isinstance(asked.answer.get("result"), list)


def _header(asked: Asked) -> dict[str, Any] | None:
    result = asked.result
    return result if asked.method == "eth_getBlockByNumber" and isinstance(result, dict) else None


def _is_exact(asked: Asked) -> bool:
    return bool(asked.params) and asked.params[0] != "latest" and asked.params[0] != "0x0"


def _error(code: object, message: object) -> Change:
    return lambda asked, _: {
        "jsonrpc": "2.0",
        "id": asked.answer["id"],
        "error": {"code": code, "message": message},
    }


def _http(status: int, body: bytes) -> Change:
    return lambda _asked, _: Raw(body, status=status, headers={"Content-Type": "text/html"})


def _cut_json(asked: Asked, chance: random.Random) -> Raw:
    whole = json.dumps(asked.answer).encode()
    return Raw(whole[: chance.randrange(1, len(whole))])


def _odd_error(asked: Asked, chance: random.Random) -> Answer:
    odd: list[Any] = ["no", 5, [], {}, None, {"code": "x"}, {"message": {"a": 1}}, True]
    return {"jsonrpc": "2.0", "id": asked.answer["id"], "error": chance.choice(odd)}


def _no_rpc(asked: Asked, chance: random.Random) -> Raw:
    return Raw(json.dumps(chance.choice([[], [asked.answer], 7, "yes", None, {}])).encode())


def _gzip_garbage(_asked: Asked, chance: random.Random) -> Raw:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Raw(chance.randbytes(64), headers=headers)


def _null(asked: Asked, _: random.Random) -> Answer | None:
    return None if asked.answer.get("result") is None else asked.with_result(None)


def _wrong_id(asked: Asked, chance: random.Random) -> Answer:
    wrong: list[Any] = [asked.answer["id"] + 1, str(asked.answer["id"]), None, -1]
    return {**asked.answer, "id": chance.choice(wrong)}


def _wrong_chain(asked: Asked, _: random.Random) -> Answer | None:
    return asked.with_result("0x1") if asked.method == "eth_chainId" else None


def _too_many(asked: Asked, _: random.Random) -> Answer | None:
    if asked.method != "eth_getLogs":
        return None
    return {
        "jsonrpc": "2.0",
        "id": asked.answer["id"],
        "error": {"code": -32005, "message": "query returned more than 10000 results"},
    }


def _empty_logs(asked: Asked, _: random.Random) -> Answer | None:
    return asked.with_result([]) if _is_logs(asked) and asked.result else None


def _missing_log(asked: Asked, chance: random.Random) -> Answer | None:
    if not _is_logs(asked) or not asked.result:
        return None
    logs = asked.result
    del logs[chance.randrange(len(logs))]
    return asked.with_result(logs)


def _one_log(change: Callable[[dict[str, Any], random.Random], None]) -> Change:
    def altered(asked: Asked, chance: random.Random) -> Answer | None:
        if not _is_logs(asked) or not asked.result:
            return None
        logs = asked.result
        change(logs[chance.randrange(len(logs))], chance)
        return asked.with_result(logs)

    return altered


def _extra_log(change: Callable[[dict[str, Any], random.Random], None]) -> Change:
    def altered(asked: Asked, chance: random.Random) -> Answer | None:
        if not _is_logs(asked) or not asked.result:
            return None
        logs = asked.result
        another = copy.deepcopy(logs[chance.randrange(len(logs))])
        change(another, chance)
        logs.insert(chance.randrange(len(logs) + 1), another)
        return asked.with_result(logs)

    return altered


def _shuffled_logs(asked: Asked, chance: random.Random) -> Answer | None:
    if not _is_logs(asked) or len(asked.result) < 2:
        return None
    logs = asked.result
    while [log["logIndex"] for log in logs] == [log["logIndex"] for log in asked.result]:
        chance.shuffle(logs)
        if len({log["logIndex"] for log in logs}) == 1:
            break
    return asked.with_result(logs)


def _set(name: str, value: Callable[[random.Random], Any]) -> Callable[[Any, random.Random], None]:
    def change(log: dict[str, Any], chance: random.Random) -> None:
        log[name] = value(chance)

    return change


def _digest(chance: random.Random) -> str:
    return "0x" + chance.randbytes(32).hex()


def _header_with(name: str) -> Change:
    def altered(asked: Asked, chance: random.Random) -> Answer | None:
        header = _header(asked)
        if header is None or not _is_exact(asked):
            return None
        header[name] = _digest(chance)
        return asked.with_result(header)

    return altered


def _other_block(asked: Asked, chance: random.Random) -> Answer | None:
    header = _header(asked)
    if header is None or not _is_exact(asked):
        return None
    header["number"] = hex(int(header["number"], 16) + chance.choice([-1, 1, 5]))
    return asked.with_result(header)


def _bad_field(asked: Asked, chance: random.Random) -> Answer | None:
    header = _header(asked)
    if header is None:
        return None
    name = chance.choice(["logsBloom", "number", "hash", "parentHash", "timestamp"])
    header[name] = chance.choice(["0x", "0xzz", None, 7, "latest", "0x" + "f" * 20, {}])
    return asked.with_result(header)


def _odd_receipts(asked: Asked, chance: random.Random) -> Answer | None:
    receipts = asked.result
    if asked.method != "eth_getBlockReceipts" or not receipts:
        return None
    if chance.random() < 0.5:
        receipts.pop()
    else:
        receipts[0]["blockHash"] = _digest(chance)
    return asked.with_result(receipts)


KINDS: Final[dict[str, Change]] = {
    "time-out": lambda _asked, _: Raw(pace="never"),
    "connection cut in the answer": lambda a, _: Raw(json.dumps(a.answer).encode(), pace="cut"),
    "slow drip": lambda a, _: Raw(json.dumps(a.answer).encode(), pace="drip"),
    "cut JSON": _cut_json,
    "empty body": lambda _asked, _: Raw(b""),
    "HTML 502": _http(502, b"<html><h1>502 Bad Gateway</h1></html>"),
    "HTML 200": _http(200, b"<html>please log in</html>"),
    "429": _http(429, b"slow down"),
    "413": _http(413, b"too large"),
    "503": _http(503, b""),
    "gzip garbage": _gzip_garbage,
    "nested JSON": lambda _asked, _: Raw(b"[" * 200_000),
    "no JSON-RPC": _no_rpc,
    "odd error": _odd_error,
    "error -32603": _error(-32603, "internal error"),
    "wrong id": _wrong_id,
    "null result": _null,
    "wrong chain id": _wrong_chain,
    "-32005 too many results": _too_many,
    "empty logs": _empty_logs,
    "missing log": _missing_log,
    "log twice": _extra_log(lambda _log, _: None),
    "logs out of order": _shuffled_logs,
    "removed log": _one_log(_set("removed", lambda _: True)),
    "look-alike log": _extra_log(_set("address", lambda r: "0x" + r.randbytes(20).hex())),
    "log of another block's hash": _one_log(_set("blockHash", _digest)),
    "log out of range": _extra_log(_set("blockNumber", lambda _: "0xffffff")),
    "header of another parent": _header_with("parentHash"),
    "header of another hash": _header_with("hash"),
    "header of another block": _other_block,
    "header with a bad field": _bad_field,
    "receipts that do not fit": _odd_receipts,
}
STATEFUL: Final = (
    "range limit",
    "head goes backwards",
    "head is stuck",
    "another node that disagrees",
)
"""Those that hang on what was answered before, or on a second node."""

_SHORT: Final = ("missing log", "empty logs")
_MOST_OF_ANOTHER: Final = 80
"""Answers of the second node in one life: it would never come to rest between two."""
_SLOW: Final = ("time-out", "slow drip")


class FaultProxy:
    """`with FaultProxy(url, seed) as proxy:`, then connect to `proxy.url`. `rate` of requests are
    answered falsely; 0 while nothing shall be."""

    def __init__(self, upstream: str, seed: str, *, rate: float = 0.05) -> None:
        self.upstream = upstream
        self.other_node: str | None = None
        """A second node, on another branch: what it says is said now and then."""
        self.rate = rate
        self.range_limit: int | None = None
        self.most_slow = 3
        """Each of the slow kinds so often at most: one costs the patience of whoever asks."""
        self.fired: Counter[str] = Counter()
        self.could: Counter[str] = Counter()
        """How often a kind could have been chosen."""
        self.requests = 0
        self.url = ""
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._stuck: tuple[int, Any] = (0, None)
        self._elsewhere = 0
        self._no_log_missing: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    # --- the server ---------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/", self._answer)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as self._http:
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests += 1
        method, params = body["method"], body.get("params", [])
        name = f"{method}:{json.dumps(params)}"
        self._asked[name] += 1
        chance = random.Random(f"{self._seed}:{name}:{self._asked[name]}")
        upstream = self._node(chance)
        answer = await self._upstream(upstream, body)
        said: Any = answer
        if self.rate:
            said = self._limited(method, params, answer) or self._head(params, answer, chance)
            if said is None:
                said = answer
                if chance.random() < self.rate:
                    said = self._lie(Asked(method, params, answer), chance)
        if not isinstance(said, Raw):
            return web.json_response(said)
        response = web.StreamResponse(status=said.status, headers=said.headers)
        with contextlib.suppress(ConnectionError):  # it had no patience
            await self._raw(request, response, said)
        return response

    async def _upstream(self, url: str, body: Any) -> Answer:
        async with self._http.post(url, json=body) as response:
            answer: Answer = await response.json()
            return answer

    async def _raw(self, request: web.Request, response: web.StreamResponse, raw: Raw) -> None:
        if raw.pace == "never":
            await asyncio.sleep(PAST_PATIENCE_S)
        if raw.pace == "cut":
            response.content_length = len(raw.body)
        await response.prepare(request)
        if raw.pace == "drip":
            for place in range(len(raw.body)):
                await response.write(raw.body[place : place + 1])
                await asyncio.sleep(0.05)
        elif raw.pace == "cut":
            await response.write(raw.body[: len(raw.body) // 2])
            if request.transport is not None:
                request.transport.close()
        else:
            await response.write(raw.body)
        await response.write_eof()

    # --- what is told -------------------------------------------------------------------------

    def _lie(self, asked: Asked, chance: random.Random) -> Any:
        found: dict[str, Any] = {}
        for kind, change in KINDS.items():
            if kind in _SHORT and self._told_short(asked):
                continue
            if kind in _SLOW and self.fired[kind] >= self.most_slow:
                continue
            changed = change(asked, chance)
            if changed is not None:
                found[kind] = changed
                self.could[kind] += 1
        if not found:
            return asked.answer
        # The rarest first, so that a short run meets each.
        least = min(self.fired[kind] for kind in found)
        kind = chance.choice([kind for kind in found if self.fired[kind] == least])
        self.fired[kind] += 1
        if kind in _SHORT:
            self._no_log_missing |= _blocks(asked)
        return found[kind]

    def _told_short(self, asked: Asked) -> bool:
        """Whether a log of such a block was kept back before: that is done once to a block, as a
        node that always forgets the same log is caught by the reconciler and by nobody else."""
        return _is_logs(asked) and bool(_blocks(asked) & self._no_log_missing)

    def _limited(self, method: str, params: list[Any], answer: Answer) -> Answer | None:
        if method != "eth_getLogs" or self.range_limit is None or "fromBlock" not in params[0]:
            return None
        span = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
        if span <= self.range_limit:
            return None
        self.fired["range limit"] += 1
        error = {"code": -32000, "message": f"block range exceeds {self.range_limit}"}
        return {"jsonrpc": "2.0", "id": answer["id"], "error": error}

    def _head(self, params: list[Any], answer: Answer, chance: random.Random) -> Answer | None:
        """The newest block of a moment ago, once or for a while."""
        if params != ["latest", False] or answer.get("result") is None:
            return None
        left, old = self._stuck
        newest = self._newest
        self._newest = answer["result"]
        if left > 0 and old is not None and old["hash"] != answer["result"]["hash"]:
            self._stuck = (left - 1, old)
            self.fired["head is stuck"] += 1
            return {**answer, "result": old}
        if newest is None or newest["hash"] == answer["result"]["hash"]:
            return None
        if chance.random() < self.rate:
            if int(newest["number"], 16) < int(answer["result"]["number"], 16):
                self.fired["head goes backwards"] += 1
            self._stuck = (chance.randrange(4), newest)
            return {**answer, "result": newest}
        return None

    _newest: Any = None

    def _node(self, chance: random.Random) -> str:
        if self.other_node is None or not self.rate:
            return self.upstream
        if self._elsewhere > 0:
            self._elsewhere -= 1
        elif chance.random() < self.rate:
            self._elsewhere = chance.randrange(1, 12)
        else:
            return self.upstream
        self.fired["another node that disagrees"] += 1
        other = self.other_node
        if self.fired["another node that disagrees"] >= _MOST_OF_ANOTHER:
            self.other_node = None
        return other


def _blocks(asked: Asked) -> set[str]:
    return {log["blockHash"] for log in asked.result or ()}
