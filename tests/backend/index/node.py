"""A chain in memory that answers JSON-RPC like a node, and a market on it whose books are kept by
plain sums: what the index must arrive at."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tallystick.protocol import apps, codec, events
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import TaskTerms, as_tuple
from tallystick.protocol.pricing import Price, discounted_price_up
from tallystick.protocol.types import ZERO_ADDRESS, Address, AppId, Digest, to_digest
from tallystick_backend.chain import AskForLess, RpcRefused
from tallystick_backend.index.project import Followed

CHAIN_ID = 31337
STAKE_UNIT = 100


def address(name: str) -> Address:
    return Address(to_checksum_address(keccak(text=name)[-20:]))


def digest(name: str) -> Digest:
    return to_digest(keccak(text=name))


DEPLOYMENT = Deployment(
    chain_id=CHAIN_ID,
    token=address("token"),
    staking_token=address("token"),
    escrow=address("escrow"),
    market=address("market"),
    staking=address("staking"),
    court=address("court"),
    treasury=address("treasury"),
    deployer=address("deployer"),
    block=1,
    protocol_fee_bps=100,
    pool_share_bps=5_000,
    close_seconds=259_200,
    stake_unit=STAKE_UNIT,
    unbonding_seconds=1_814_400,
    retired_key_seconds=604_800,
    commission_notice_seconds=604_800,
    jail_seconds=604_800,
    stream_seconds=604_800,
    cancel_seconds=3600,
    min_challenge_seconds=86_400,
    max_challenge_seconds=604_800,
    court_seconds=0,
    bond_floor=0,
    commit_seconds=0,
    reveal_seconds=0,
    seat_seconds=0,
    registry=address("registry"),
    notice_seconds=5,
)

_ADDRESS_OF = {
    "ComputeEscrow": DEPLOYMENT.escrow,
    "TaskMarket": DEPLOYMENT.market,
    "ProviderStaking": DEPLOYMENT.staking,
    "DisputeCourt": DEPLOYMENT.court,
    "AppRegistry": DEPLOYMENT.registry,
}


@dataclass(frozen=True)
class Emitted:
    """An event about to be mined; `by` another address makes it a look-alike."""

    kind: type[Followed]
    values: dict[str, Any]
    by: Address | None = None


def emit(kind: type[Followed], by: Address | None = None, **values: Any) -> Emitted:
    return Emitted(kind, values, by)


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    parent_hash: str
    timestamp_s: int
    logs: tuple[dict[str, Any], ...]
    transactions: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "number": hex(self.number),
            "hash": self.hash,
            "parentHash": self.parent_hash,
            "timestamp": hex(self.timestamp_s),
            "logsBloom": "0x" + _bloom(self.logs).hex(),
            "transactions": list(self.transactions),
        }


def time_of_block(number: int) -> int:
    return 1_700_000_000 + number


class Node:
    """Answers `Rpc.request`. `largest_range` and `most_logs` are its limits; `faults` maps a method
    to a function that sees each answer first and may change it or raise."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.largest_range = 10**9
        self.most_logs = 10**9
        self.knows_block_receipts = True
        self.faults: dict[str, Callable[[Any, Sequence[Any]], Any]] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[tuple[int, int]] = []
        self.mine()

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    def mine(self, *emitted: Emitted, salt: str = "") -> Block:
        number = len(self.blocks)
        parent = self.blocks[-1].hash if self.blocks else "0x" + "00" * 32
        seed = f"{parent}/{number}/{salt}/{emitted!r}"
        block_hash = digest(seed)
        logs, transactions = [], []
        for index, event in enumerate(emitted):
            tx_hash = digest(f"{seed}/{index}")
            transactions.append(tx_hash)
            topics, data = _encoded(event)
            logs.append(
                {
                    "address": (event.by or _ADDRESS_OF[event.kind.CONTRACT]).lower(),
                    "topics": topics,
                    "data": "0x" + data.hex(),
                    "blockNumber": hex(number),
                    "blockHash": block_hash,
                    "transactionHash": tx_hash,
                    "transactionIndex": hex(index),
                    "logIndex": hex(index),
                    "removed": False,
                }
            )
        block = Block(
            number,
            block_hash,
            parent,
            time_of_block(number),
            tuple(logs),
            tuple(transactions),
        )
        self.blocks.append(block)
        return block

    def roll_back(self, depth: int) -> None:
        del self.blocks[len(self.blocks) - depth :]

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        self.asked[method] += 1
        answer = self._answer(method, params)
        fault = self.faults.get(method)
        return copy.deepcopy(answer) if fault is None else fault(copy.deepcopy(answer), params)

    async def close(self) -> None:
        pass

    def _answer(self, method: str, params: Sequence[Any]) -> Any:
        match method:
            case "eth_chainId":
                return hex(CHAIN_ID)
            case "eth_getBlockByNumber":
                number = self.head.number if params[0] == "latest" else int(params[0], 16)
                return self.blocks[number].as_json() if number < len(self.blocks) else None
            case "eth_getLogs":
                return self._logs(params[0])
            case "eth_getTransactionReceipt":
                for block in self.blocks:
                    if params[0] in block.transactions:
                        logs = [log for log in block.logs if log["transactionHash"] == params[0]]
                        return {"blockHash": block.hash, "logs": logs}
                return None
            case "eth_getBlockReceipts" if self.knows_block_receipts:
                block = self.blocks[int(params[0], 16)]
                return [
                    self._answer("eth_getTransactionReceipt", [tx_hash])
                    for tx_hash in block.transactions
                ]
            case "eth_getCode":
                return "0x6000"
            case "eth_call":
                return _view(params[0])
            case _:
                raise RpcRefused(method, -32601, "no such method")

    def _logs(self, span: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = {a.lower() for a in span["address"]}
        if "blockHash" in span:
            for block in self.blocks:
                if block.hash == span["blockHash"]:
                    return [log for log in block.logs if log["address"] in wanted]
            raise RpcRefused("eth_getLogs", -32000, "unknown block")
        first, last = int(span["fromBlock"], 16), int(span["toBlock"], 16)
        self.ranges.append((first, last))
        if last - first + 1 > self.largest_range:
            raise AskForLess(f"the range is above {self.largest_range}")
        found = [
            log
            for block in self.blocks[first : last + 1]
            for log in block.logs
            if log["address"] in wanted
        ]
        if len(found) > self.most_logs:
            raise AskForLess(f"more than {self.most_logs} results")
        return found


def _view(call: dict[str, Any]) -> str:
    answers = {
        (DEPLOYMENT.market, "escrow()"): DEPLOYMENT.escrow,
        (DEPLOYMENT.market, "staking()"): DEPLOYMENT.staking,
        (DEPLOYMENT.escrow, "market()"): DEPLOYMENT.market,
        (DEPLOYMENT.escrow, "token()"): DEPLOYMENT.token,
        (DEPLOYMENT.staking, "unit()"): hex(STAKE_UNIT),
        (DEPLOYMENT.registry, "noticeSeconds()"): hex(DEPLOYMENT.notice_seconds),
    }
    for (contract, view), value in answers.items():
        selector = "0x" + keccak(text=view)[:4].hex()
        if call["to"].lower() == contract.lower() and call["data"] == selector:
            return "0x" + f"{int(value, 16):064x}"
    return "0x"


def _encoded(event: Emitted) -> tuple[list[str], bytes]:
    [declared] = [
        declared
        for declared in codec.events(event.kind.CONTRACT).values()
        if declared.name == event.kind.__name__
    ]
    topics: list[str] = [declared.topic]
    kinds, values = [], []
    for part in declared.fields:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part.name).lower()
        value = event.values[name]
        if isinstance(value, TaskTerms):
            value = as_tuple(value)
        if isinstance(value, Price):
            value = astuple(value)
        value = _to_abi(value)
        if part.indexed:
            topics.append("0x" + encode([part.kind], [value]).hex())
        else:
            kinds.append(part.kind)
            values.append(value)
    return topics, encode(kinds, values)


def _to_abi(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_abi(part) for part in value)
    if isinstance(value, str) and value.startswith("0x") and len(value) != 42:
        return bytes.fromhex(value[2:])
    return value


def _bloom(logs: Sequence[dict[str, Any]]) -> bytes:
    bloom = 0
    for log in logs:
        for value in (log["address"], *log["topics"]):
            hashed = keccak(hexstr=value)
            for at in (0, 2, 4):
                bloom |= 1 << (int.from_bytes(hashed[at : at + 2]) & 0x7FF)
    return bloom.to_bytes(256)


# --- a market ---------------------------------------------------------------------------------


@dataclass
class ChannelBook:
    """What the escrow would answer of a channel."""

    payer: Address
    salt: int
    deposited: int = 0
    claimed: int = 0
    close_at: int = 0

    @property
    def provider(self) -> Address:
        return PROVIDERS[CONSUMERS.index(self.payer) % len(PROVIDERS)]

    @property
    def channel_id(self) -> Digest:
        return digest(f"channel {self.salt} of {self.payer}")

    @property
    def names(self) -> dict[str, Any]:
        return {
            "channel_id": self.channel_id,
            "payer": self.payer,
            "provider": self.provider,
        }

    @property
    def all_names(self) -> dict[str, Any]:
        return {**self.names, "signer": SIGNER, "salt": self.salt}


@dataclass
class AppBook:
    """What the registry would answer of an app, kept as the contract keeps it."""

    app_id: AppId
    publisher: Address
    prices: list[list[tuple[int, Price]]] = field(default_factory=list)
    """Of each version, (from, price)."""
    windows: list[tuple[int, int, int]] = field(default_factory=list)
    """Start, end, bps."""
    retired_at: int = 0
    permanent: bool = False

    def price_at(self, version: int, time_s: int) -> Price | None:
        """By looking at everything; None where the contract reverts."""
        if (self.retired_at and time_s >= self.retired_at) or version > len(self.prices):
            return None
        held = [price for from_s, price in self.prices[version - 1] if from_s <= time_s]
        off = [bps for start, end, bps in self.windows if start <= time_s <= end]
        assert len(off) <= 1
        return discounted_price_up(held[-1], sum(off)) if held else None

    def moments(self) -> set[int]:
        """Times around every change."""
        found = {from_s for points in self.prices for from_s, _ in points}
        found |= {time_s for start, end, _ in self.windows for time_s in (start, end + 1)}
        found |= {self.retired_at} if self.retired_at else set()
        return found | {time_s - 1 for time_s in found}


@dataclass
class Books:
    """What the contracts would answer."""

    available: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    locked: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    credit: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    stake: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    unbonding: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    seats: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    jailed: dict[str, int] = field(default_factory=dict)
    gpus: dict[str, int] = field(default_factory=dict)
    settled: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, tuple[str, bool]] = field(default_factory=dict)
    channels: dict[str, ChannelBook] = field(default_factory=dict)
    apps: dict[str, AppBook] = field(default_factory=dict)
    made: int = 0


CONSUMERS = [address(f"consumer {n}") for n in range(3)]
PROVIDERS = [address(f"provider {n}") for n in range(3)]
DISPATCHER = address("dispatcher")
ROYALTY_TO = address("app owner")
SIGNER = address("session key")


class Market:
    """Mines blocks of random but lawful events on a node; can go back with it."""

    def __init__(self, node: Node, seed: int) -> None:
        self.node = node
        self.random = random.Random(seed)
        self.books = Books()
        self._history = [copy.deepcopy(self.books)]

    def mine(self, most_events: int = 4) -> None:
        emitted = [
            event for _ in range(self.random.randint(0, most_events)) for event in self._act()
        ]
        self.node.mine(*emitted, salt=str(self.random.random()))
        self._history.append(copy.deepcopy(self.books))

    def reorganise(self, depth: int, new_blocks: int) -> None:
        """Another branch from `depth` blocks below the head; some of its events come back."""
        self.node.roll_back(depth)
        del self._history[len(self._history) - depth :]
        self.books = copy.deepcopy(self._history[-1])
        for _ in range(new_blocks):
            self.mine()

    def _act(self) -> tuple[Emitted, ...]:
        acts: list[Callable[[], Emitted | tuple[Emitted, ...] | None]] = [
            self._deposit,
            self._create,
            self._create,
            self._prove,
            self._settle,
            self._settle,
            self._settle_at_once,
            self._cancel,
            self._refund,
            self._withdraw,
            self._withdraw_credit,
            self._fund_channel,
            self._deposit_into_channel,
            self._redeem,
            self._redeem,
            self._request_close,
            self._cancel_close,
            self._close_channel,
            self._release_channel,
            self._publish,
            self._add_version,
            self._set_price,
            self._set_price,
            self._set_discount,
            self._set_discount,
            self._retire_app,
            self._renounce_app,
            self._stake,
            self._unbond,
            self._slash,
            self._seats,
            self._unjail,
            self._withdraw_stake,
            self._register,
            self._bind,
            self._retire,
            self._payout,
        ]
        while True:
            emitted = self.random.choice(acts)()
            if emitted is not None:
                return emitted if isinstance(emitted, tuple) else (emitted,)

    def _deposit(self) -> Emitted:
        account, amount = self.random.choice(CONSUMERS), self.random.choice([10**18, 2**120, 7])
        self.books.available[account] += amount
        return emit(events.Deposited, account=account, payer=account, amount=amount)

    def _withdraw(self) -> Emitted | None:
        account = self.random.choice(CONSUMERS)
        if not self.books.available[account]:
            return None
        amount = self.random.randint(1, self.books.available[account])
        self.books.available[account] -= amount
        return emit(events.Withdrawn, account=account, to=account, amount=amount)

    def _create(self) -> Emitted | None:
        consumer = self.random.choice(CONSUMERS)
        if not self.books.available[consumer]:
            return None
        ceiling = self.random.randint(1, self.books.available[consumer])
        task_id = self._new_task()
        deadline = self.random.choice([1_800_000_000, 2**64 - 1])
        self.books.available[consumer] -= ceiling
        self.books.locked[consumer] += ceiling
        self.books.tasks[task_id] = {
            "state": "open",
            "consumer": consumer,
            "locked": ceiling,
            "end": deadline,
            "cancelled": False,
        }
        return emit(
            events.TaskCreated,
            task_id=task_id,
            consumer=consumer,
            dispatcher=DISPATCHER,
            terms=terms(consumer, ceiling, deadline),
        )

    def _prove(self) -> Emitted | None:
        task_id = self._task("open")
        if task_id is None:
            return None
        task = self.books.tasks[task_id]
        charge = self.random.randint(0, task["locked"])
        self._unlock(task, task["locked"] - charge)
        task.update(state="proven", provider=self.random.choice(PROVIDERS), fence=2**64 - 1)
        return emit(
            events.TaskProven,
            task_id=task_id,
            consumer=task["consumer"],
            provider=task["provider"],
            fence=task["fence"],
            charge=charge,
            receipt=digest(f"receipt of {task_id}"),
            challenge_ends_at=1_800_000_000,
        )

    def _settle(self) -> Emitted | None:
        task_id = self._task("open", "proven")
        if task_id is None:
            return None
        task = self.books.tasks[task_id]
        proven = task["state"] == "proven"
        charge = task["locked"] if proven else self.random.randint(0, task["locked"])
        provider = task["provider"] if proven else self.random.choice(PROVIDERS)
        self._unlock(task, task["locked"] - charge)
        self.books.locked[task["consumer"]] -= charge
        task.update(state="settled", locked=0, charge=charge)
        return self._settled(task_id, task["consumer"], provider, charge)

    def _settle_at_once(self) -> Emitted | None:
        consumer = self.random.choice(CONSUMERS)
        if not self.books.available[consumer]:
            return None
        charge = self.random.randint(0, self.books.available[consumer])
        self.books.available[consumer] -= charge
        task_id = self._new_task()
        self.books.tasks[task_id] = {
            "state": "settled",
            "consumer": consumer,
            "locked": 0,
            "end": 0,
            "charge": charge,
            "cancelled": False,
        }
        return self._settled(task_id, consumer, self.random.choice(PROVIDERS), charge)

    def _settled(self, task_id: str, consumer: str, provider: str, charge: int) -> Emitted:
        dispatcher_share = charge * 500 // 10_000
        royalty_share = charge * self.random.choice([0, 300]) // 10_000
        self.books.credit[provider] += charge - dispatcher_share - royalty_share
        self.books.credit[DISPATCHER] += dispatcher_share
        self.books.credit[ROYALTY_TO] += royalty_share
        self.books.settled[provider] += 1
        return emit(
            events.TaskSettled,
            task_id=task_id,
            consumer=consumer,
            provider=provider,
            charge=charge,
            receipt=digest(f"receipt of {task_id}"),
            dispatcher=DISPATCHER,
            dispatcher_share=dispatcher_share,
            royalty_to=ROYALTY_TO if royalty_share else ZERO_ADDRESS,
            royalty_share=royalty_share,
        )

    def _cancel(self) -> Emitted | None:
        task_id = self._task("open")
        if task_id is None or self.books.tasks[task_id]["cancelled"]:
            return None
        task = self.books.tasks[task_id]
        task.update(cancelled=True, end=1_750_000_000)
        return emit(
            events.TaskCancelled,
            task_id=task_id,
            consumer=task["consumer"],
            cancelled_at=1_740_000_000,
            end=task["end"],
        )

    def _refund(self) -> Emitted | None:
        task_id = self._task("open")
        if task_id is None:
            return None
        task = self.books.tasks[task_id]
        amount = task["locked"]
        self._unlock(task, amount)
        task["state"] = "refunded"
        return emit(events.TaskRefunded, task_id=task_id, consumer=task["consumer"], amount=amount)

    def _withdraw_credit(self) -> Emitted | None:
        payee = self.random.choice([*PROVIDERS, DISPATCHER])
        credit = self.books.credit[payee]
        if not credit:
            return None
        self.books.credit[payee] = 0
        fee = credit // 100
        return emit(events.CreditWithdrawn, payee=payee, to=payee, paid=credit - fee, fee=fee)

    # --- channels -------------------------------------------------------------------------

    def _channel(self) -> ChannelBook:
        payer, salt = self.random.choice(CONSUMERS), self.random.choice([0, 2**96 - 1])
        channel = ChannelBook(payer, salt)
        return self.books.channels.setdefault(channel.channel_id, channel)

    def _fund_channel(self) -> Emitted | None:
        channel = self._channel()
        if not self.books.available[channel.payer]:
            return None
        amount = self.random.randint(1, self.books.available[channel.payer])
        self.books.available[channel.payer] -= amount
        channel.deposited += amount
        return emit(
            events.ChannelFunded, **channel.all_names, amount=amount, deposited=channel.deposited
        )

    def _deposit_into_channel(self) -> Emitted:
        channel, amount = self._channel(), self.random.choice([1, 10**18])
        channel.deposited += amount
        return emit(
            events.ChannelDeposited,
            **channel.all_names,
            source=address("somebody else"),
            amount=amount,
            deposited=channel.deposited,
        )

    def _redeem(self) -> Emitted | None:
        channel = self._channel()
        if channel.deposited == channel.claimed:
            return None
        amount = self.random.randint(1, channel.deposited - channel.claimed)
        channel.claimed += amount
        self.books.credit[channel.provider] += amount
        return emit(
            events.VoucherRedeemed,
            **channel.names,
            amount=amount,
            claimed=channel.claimed,
            receipt=digest(f"receipt at {channel.claimed}"),
        )

    def _request_close(self) -> Emitted | None:
        channel = self._channel()
        if channel.close_at or channel.deposited == channel.claimed:
            return None
        channel.close_at = self._now_s() + DEPLOYMENT.close_seconds
        return emit(events.CloseRequested, **channel.names, close_at=channel.close_at)

    def _cancel_close(self) -> Emitted | None:
        channel = self._channel()
        if not channel.close_at:
            return None
        channel.close_at = 0
        return emit(events.CloseCancelled, **channel.names)

    def _close_channel(self) -> Emitted | None:
        channel = self._channel()
        if not channel.close_at:
            return None
        amount = channel.deposited - channel.claimed
        channel.close_at, channel.deposited = 0, channel.claimed
        self.books.available[channel.payer] += amount
        return emit(
            events.ChannelClosed, **channel.names, amount=amount, deposited=channel.deposited
        )

    def _release_channel(self) -> Emitted | None:
        channel = self._channel()
        if channel.deposited == channel.claimed:
            return None
        amount = self.random.randint(1, channel.deposited - channel.claimed)
        channel.deposited -= amount
        self.books.available[channel.payer] += amount
        return emit(
            events.ChannelReleased, **channel.names, amount=amount, deposited=channel.deposited
        )

    # --- apps -----------------------------------------------------------------------------

    def _publish(self) -> tuple[Emitted, ...]:
        publisher, salt = self.random.choice(PROVIDERS), digest(f"salt {self.random.random()}")
        app_id = apps.app_id(CHAIN_ID, DEPLOYMENT.registry, publisher, salt)
        app = self.books.apps[app_id] = AppBook(app_id, publisher)
        published = emit(
            events.AppPublished,
            app_id=app_id,
            publisher=publisher,
            salt=salt,
            royalty_to=ROYALTY_TO,
            royalty_bps=3000,
        )
        return published, self._version_of(app)

    def _add_version(self) -> Emitted | None:
        app = self._changeable_app()
        return None if app is None else self._version_of(app)

    def _version_of(self, app: AppBook) -> Emitted:
        price = self._price()
        app.prices.append([(self._now_s(), price)])
        version = len(app.prices)
        return emit(
            events.VersionAdded,
            app_id=app.app_id,
            version=version,
            image_digest=digest(f"image {version}"),
            manifest_digest=digest(f"manifest {version}"),
            manifest_uri=f"https://apps.example/{app.app_id}/{version}",
            price=price,
        )

    def _set_price(self) -> Emitted | None:
        app = self._changeable_app()
        if app is None:
            return None
        version = self.random.randint(1, len(app.prices))
        points, price = app.prices[version - 1], self._price()
        takes_effect_at = max(self._now_s() + DEPLOYMENT.notice_seconds, points[-1][0] + 1)
        points.append((takes_effect_at, price))
        return emit(
            events.PriceAnnounced,
            app_id=app.app_id,
            version=version,
            price=price,
            takes_effect_at=takes_effect_at,
        )

    def _set_discount(self) -> Emitted | None:
        app = self._changeable_app()
        if app is None:
            return None
        now_s, windows = self._now_s(), app.windows
        start = now_s + self.random.randint(1, 4)
        end = start + self.random.randint(0, 6)
        bps = self.random.choice([1, 3333, 10_000])
        if windows and now_s <= windows[-1][1]:
            last_start, last_end, last_bps = windows[-1]
            start, end, bps = min(start, last_start), max(end, last_end), max(bps, last_bps)
            if last_start > now_s:
                windows.pop()
            else:
                windows[-1] = (last_start, now_s, last_bps)
                start = now_s + 1
        if end < start:
            # The last one ends with this very second.
            end = start
        windows.append((start, end, bps))
        return emit(events.DiscountAnnounced, app_id=app.app_id, bps=bps, start=start, end=end)

    def _retire_app(self) -> Emitted | None:
        app = self._changeable_app() if self.random.random() < 0.3 else None
        if app is None:
            return None
        app.retired_at = self._now_s() + DEPLOYMENT.notice_seconds
        return emit(events.AppRetired, app_id=app.app_id, retired_at=app.retired_at)

    def _renounce_app(self) -> Emitted | None:
        app = self._changeable_app() if self.random.random() < 0.3 else None
        if app is None or any(points[-1][0] > self._now_s() for points in app.prices):
            return None
        app.permanent = True
        return emit(events.AppRenounced, app_id=app.app_id)

    def _changeable_app(self) -> AppBook | None:
        found = [app for app in self.books.apps.values() if not (app.retired_at or app.permanent)]
        return self.random.choice(found) if found else None

    def _price(self) -> Price:
        figures = [self.random.choice([0, 1, 10, 2**128 - 1]) for _ in range(3)]
        return Price(*figures)

    def _now_s(self) -> int:
        """Time of the block that is being made."""
        return time_of_block(len(self.node.blocks))

    # --- stake ----------------------------------------------------------------------------

    def _stake(self) -> Emitted:
        provider, amount = self.random.choice(PROVIDERS), self.random.randint(1, 10**20)
        self.books.stake[provider] += amount
        return emit(
            events.Staked, provider=provider, amount=amount, bonded=self.books.stake[provider]
        )

    def _unbond(self) -> Emitted | None:
        provider = self.random.choice(PROVIDERS)
        if not self.books.stake[provider]:
            return None
        amount = self.random.randint(1, self.books.stake[provider])
        self.books.stake[provider] -= amount
        self.books.unbonding[provider] += amount
        return emit(
            events.UnbondRequested,
            provider=provider,
            request_id=0,
            amount=amount,
            withdrawable_at=1_800_000_000,
            bonded=self.books.stake[provider],
        )

    def _withdraw_stake(self) -> Emitted | None:
        provider = self.random.choice(PROVIDERS)
        amount = self.books.unbonding[provider]
        if not amount:
            return None
        self.books.unbonding[provider] = 0
        return emit(
            events.StakeWithdrawn, provider=provider, request_id=0, to=provider, amount=amount
        )

    def _slash(self) -> Emitted:
        """Own bonded stake first, then what is unbonding."""
        provider = self.random.choice(PROVIDERS)
        there = self.books.stake[provider] + self.books.unbonding[provider]
        amount = self.random.randint(0, there)
        bonded = min(amount, self.books.stake[provider])
        self.books.stake[provider] -= bonded
        self.books.unbonding[provider] -= amount - bonded
        return emit(
            events.Slashed,
            provider=provider,
            offence_id=digest(f"offence {self.random.random()}"),
            amount=amount,
            bounty=amount // 5,
            bonded=self.books.stake[provider],
            unbonding=self.books.unbonding[provider],
            delegated=0,
            undelegating=0,
        )

    def _seats(self) -> Emitted:
        provider, seats = self.random.choice(PROVIDERS), self.random.choice([0, 1, 2**16 - 1])
        self.books.seats[provider] = seats
        return emit(events.SeatsSet, provider=provider, seats=seats)

    def _unjail(self) -> Emitted:
        """Jailed by one event, free by another."""
        provider = self.random.choice(PROVIDERS)
        if self.books.jailed.pop(provider, 0):
            return emit(events.Unjailed, provider=provider)
        self.books.jailed[provider] = 1_800_000_000
        return emit(events.Jailed, provider=provider, until=1_800_000_000)

    def _register(self) -> Emitted:
        provider, gpus = self.random.choice(PROVIDERS), self.random.choice([0, 1, 8, 2**32 - 1])
        self.books.gpus[provider] = gpus
        gpu_set = digest(f"{gpus} gpus") if gpus else Digest("0x" + "00" * 32)
        return emit(events.GpusRegistered, provider=provider, gpus=gpus, gpu_set=gpu_set)

    def _bind(self) -> Emitted:
        self.books.made += 1
        provider, key = self.random.choice(PROVIDERS), address(f"key {self.random.random()}")
        self.books.keys[key] = (provider, False)
        return emit(events.OperatorKeyBound, provider=provider, key=key)

    def _retire(self) -> Emitted | None:
        active = [key for key, (_, retired) in self.books.keys.items() if not retired]
        if not active:
            return None
        key = self.random.choice(active)
        provider = self.books.keys[key][0]
        self.books.keys[key] = (provider, True)
        return emit(
            events.OperatorKeyRetired, provider=provider, key=key, answerable_until=1_800_000_000
        )

    def _payout(self) -> Emitted:
        payee = self.random.choice(PROVIDERS)
        return emit(events.PayoutAddressSet, payee=payee, payout=address("wallet"))

    def _unlock(self, task: dict[str, Any], amount: int) -> None:
        task["locked"] -= amount
        self.books.locked[task["consumer"]] -= amount
        self.books.available[task["consumer"]] += amount

    def _task(self, *states: str) -> str | None:
        found = [task_id for task_id, task in self.books.tasks.items() if task["state"] in states]
        return self.random.choice(found) if found else None

    def _new_task(self) -> str:
        return digest(f"task {self.random.random()}")


def terms(consumer: Address, max_charge: int, deadline: int) -> TaskTerms:
    return TaskTerms(
        consumer=consumer,
        signer=ZERO_ADDRESS,
        dispatcher=DISPATCHER,
        royalty_to=ZERO_ADDRESS,
        spec=digest("manifest"),
        gpus=1,
        flat=0,
        fee_per_call=0,
        rate_per_gpu_second=1,
        dispatcher_bps=500,
        royalty_bps=0,
        max_charge=max_charge,
        max_seconds=3600,
        deadline=deadline,
        challenge_window=86_400,
        verification=0,
        nonce=1,
    )


def published(name: str, manifest_uri: str) -> tuple[Emitted, Emitted]:
    """An app of one version."""
    app_id, publisher = AppId(digest(name)), PROVIDERS[0]
    return (
        emit(
            events.AppPublished,
            app_id=app_id,
            publisher=publisher,
            salt=digest("salt"),
            royalty_to=ZERO_ADDRESS,
            royalty_bps=0,
        ),
        emit(
            events.VersionAdded,
            app_id=app_id,
            version=1,
            image_digest=digest("image"),
            manifest_digest=digest("manifest"),
            manifest_uri=manifest_uri,
            price=Price(1, 2, 3),
        ),
    )


def created(name: str, consumer: Address, ceiling: int) -> tuple[Emitted, Emitted]:
    """Money paid in and locked for a task of this name."""
    return (
        emit(events.Deposited, account=consumer, payer=consumer, amount=ceiling),
        emit(
            events.TaskCreated,
            task_id=digest(name),
            consumer=consumer,
            dispatcher=DISPATCHER,
            terms=terms(consumer, ceiling, 1_800_000_000),
        ),
    )
