"""A backend over a real database, without chain and bus, and the people who use it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from fastapi import FastAPI
from siwe import SiweMessage

from tallystick.protocol import messages
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.messages import Receipt
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.signatures import sign_text
from tallystick.protocol.types import ZERO_ADDRESS, ZERO_DIGEST, Address, Digest, to_address
from tallystick.protocol.wire import Announcement, GpuBody
from tallystick_backend.api.context import Backend
from tallystick_backend.app import assemble, http_app
from tallystick_backend.clock import ManualClock
from tallystick_backend.metrics import Metrics
from tallystick_backend.settings import Settings
from tallystick_backend.store.session import Database
from tallystick_backend.store.tables import (
    AnnouncementRow,
    CursorRow,
    LeaseRow,
    OperatorKeyRow,
    ProviderRow,
    ReceiptRow,
    Table,
    TaskChainRow,
    TaskLogRow,
    TaskWorkRow,
)
from tests.backend.api.order import RATE, order_body
from tests.support.anvil import CONSUMER, DISPATCHER, OPERATOR, PROVIDER, STRANGER, Person

PUBLIC_URL: Final = "http://backend.test:8000"
CHAIN_ID: Final = 31337


def _address(number: int) -> Address:
    return to_address(f"0x{number:040x}")


HPKE_KEY: Final = "0x" + "11" * 32
DEPLOYMENT: Final = Deployment(
    chain_id=CHAIN_ID,
    token=_address(0x101),
    staking_token=_address(0x101),
    escrow=_address(0x102),
    market=_address(0x103),
    staking=_address(0x104),
    court=ZERO_ADDRESS,
    treasury=_address(0x105),
    deployer=_address(0x106),
    block=1,
    protocol_fee_bps=100,
    pool_share_bps=5_000,
    close_seconds=259_200,
    stake_unit=100,
    unbonding_seconds=21 * 86_400,
    retired_key_seconds=7 * 86_400,
    commission_notice_seconds=604_800,
    jail_seconds=604_800,
    stream_seconds=604_800,
    cancel_seconds=3_600,
    min_challenge_seconds=86_400,
    max_challenge_seconds=7 * 86_400,
    court_seconds=6 * 86_400,
    bond_floor=0,
    commit_seconds=0,
    reveal_seconds=0,
    seat_seconds=0,
)


def hpke_signature(person: Person = PROVIDER) -> str:
    return sign_hpke_key(DEPLOYMENT.domain, person.address, HPKE_KEY, OPERATOR.key)


SYMBOL: Final = "0x" + f"{32:064x}{5:064x}" + b"TALLY".hex().ljust(64, "0")


class NoChain:
    """Answers the token's name; any other question is refused as a node would."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        self.asked.append(method)
        data = params[0].get("data", "") if method == "eth_call" else ""
        return {"0x95d89b41": SYMBOL, "0x313ce567": f"0x{18:064x}"}.get(data[:10], "0x")

    async def close(self) -> None:
        pass


@dataclass
class Consumer:
    """A person with a way in."""

    person: Person
    http: httpx.AsyncClient
    token: str = ""

    @property
    def address(self) -> Address:
        return self.person.address

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self._ask("GET", path, options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self._ask("POST", path, options)

    async def put(self, path: str, **options: Any) -> httpx.Response:
        return await self._ask("PUT", path, options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self._ask("DELETE", path, options)

    async def _ask(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **options)


@dataclass
class World:
    backend: Backend
    app: FastAPI
    http: httpx.AsyncClient
    clock: ManualClock
    chain: NoChain = field(default_factory=NoChain)

    @property
    def database(self) -> Database:
        return self.backend.database

    # --- log-in -------------------------------------------------------------------------------

    async def nonce(self) -> str:
        answer = await self.http.post("/v1/auth/nonce")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["nonce"])

    def message(self, person: Person, nonce: str, **changes: Any) -> str:
        now = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        fields: dict[str, Any] = {
            "domain": "backend.test:8000",
            "address": person.address,
            "statement": "Sign in to Tallystick.",
            "uri": PUBLIC_URL,
            "version": "1",
            "chain_id": CHAIN_ID,
            "nonce": nonce,
            "issued_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return str(SiweMessage(**(fields | changes)).prepare_message())

    async def login(self, person: Person, text: str) -> httpx.Response:
        body = {"message": text, "signature": sign_text(text, person.key)}
        return await self.http.post("/v1/auth/login", json=body)

    async def consumer(self, person: Person = CONSUMER) -> Consumer:
        answer = await self.login(person, self.message(person, await self.nonce()))
        assert answer.status_code == 200, answer.text
        return Consumer(person, self.http, answer.json()["token"])

    async def stranger(self) -> Consumer:
        return await self.consumer(STRANGER)

    def nobody(self) -> Consumer:
        return Consumer(STRANGER, self.http)

    # --- orders -------------------------------------------------------------------------------

    def order(self, person: Person = CONSUMER, **options: Any) -> dict[str, Any]:
        """The body of POST /v1/tasks; terms given by name replace ours before they are signed."""
        return order_body(DEPLOYMENT, person, now_s=self.backend.now_s(), **options)

    async def ordered(self, consumer: Consumer, **options: Any) -> dict[str, Any]:
        answer = await consumer.post("/v1/tasks", json=self.order(consumer.person, **options))
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def uploaded(self, consumer: Consumer, content: bytes = b"sealed") -> str:
        digest = digest_of(content)
        answer = await consumer.put(f"/v1/blobs/{digest}", content=content)
        assert answer.status_code == 201, answer.text
        return digest

    async def dump(self) -> dict[str, str]:
        """Every table as text."""
        found = {}
        async with self.database.engine.connect() as connection:
            for table in Table.metadata.sorted_tables:
                found[table.name] = str((await connection.execute(table.select())).all())
        return found

    # --- what index and dispatch would have written -------------------------------------------

    async def write(self, *rows: Any) -> None:
        async with self.database.transaction() as session:
            for row in rows:
                await session.merge(row)

    async def has_provider(self, person: Person = PROVIDER, **changes: Any) -> None:
        said = Announcement(
            provider=person.address,
            operator_key=OPERATOR.address,
            hpke_key=HPKE_KEY,
            hpke_signature=hpke_signature(person),
            runtime="process",
            agent_version="1.0",
            gpus=tuple(
                GpuBody(
                    gpu_id=f"GPU-{number}",
                    model="Simulated",
                    gpu_class="gpu1",
                    memory_mib=24_576,
                    simulated=True,
                )
                for number in range(2)
            ),
            rate_per_gpu_second={"gpu1": RATE, "": 0},
            cpu_milli=8000,
            memory_mib=16_384,
            disk_mib=65_536,
        )
        await self.write(
            ProviderRow(address=person.address.lower(), stake=1000, gpus_registered=2),
            OperatorKeyRow(key=OPERATOR.address.lower(), provider=person.address.lower()),
            AnnouncementRow(
                provider=person.address.lower(),
                operator_key=OPERATOR.address.lower(),
                hpke_key=said.hpke_key,
                runtime=said.runtime,
                agent_version=said.agent_version,
                body=said.model_dump(mode="json"),
                draining=False,
                last_seen_ms=changes.get("last_seen_ms", self.clock.now_ms()),
            ),
        )

    async def is_indexed(
        self,
        block: int = 10,
        head: int = 10,
        degraded: str | None = None,
        block_timestamp_s: int | None = None,
    ) -> None:
        await self.write(
            CursorRow(
                id=1,
                chain_id=CHAIN_ID,
                genesis_hash="0x" + "01" * 32,
                escrow=DEPLOYMENT.escrow.lower(),
                market=DEPLOYMENT.market.lower(),
                staking=DEPLOYMENT.staking.lower(),
                block_number=block,
                block_hash="0x" + "02" * 32,
                block_timestamp_s=block_timestamp_s or self.backend.now_s(),
                head_number=head,
                degraded=degraded,
            )
        )

    async def on_chain(self, task: dict[str, Any], state: str = "open", **changes: Any) -> None:
        fields: dict[str, Any] = {
            "task_id": task["id"],
            "state": state,
            "consumer": task["consumer"].lower(),
            "max_charge": int(task["terms"]["max_charge"]),
            "end_s": int(task["terms"]["deadline"]),
            "created_tx": "0x" + "aa" * 32,
        }
        await self.write(TaskChainRow(**(fields | changes)))

    async def leased(
        self,
        task: dict[str, Any],
        *,
        fence: int = 1,
        work_state: str = "running",
        lease_state: str = "running",
    ) -> None:
        now_ms = self.clock.now_ms()
        await self.write(
            TaskWorkRow(
                task_id=task["id"], state=work_state, fence=fence, excluded=[], not_before_ms=0
            ),
            LeaseRow(
                task_id=task["id"],
                fence=fence,
                provider=PROVIDER.address.lower(),
                token=secrets.token_hex(8),
                state=lease_state,
                gpus=task["terms"]["gpus"],
                gpu_class="gpu1",
                lease_from_s=now_ms // 1000,
                lease_until_s=now_ms // 1000 + 30,
                assignment_signature="0x" + "1b" * 65,
                stage="running",
                percent=40,
                gpu_ms=0,
                updated_at_ms=now_ms,
            ),
        )

    async def finished(
        self, task: dict[str, Any], *, fence: int = 1, result: bytes = b"result", total: int = 5000
    ) -> Receipt:
        await self.leased(task, fence=fence, work_state="finished", lease_state="finished")
        now_ms = self.clock.now_ms()
        receipt = Receipt(
            provider=PROVIDER.address,
            route=Digest(task["id"]),
            seq=fence,
            prev=ZERO_DIGEST,
            request=task["terms"]["spec"],
            result=digest_of(result),
            gpu_set=Digest("0x" + "07" * 32),
            started_at_ms=now_ms - 5000,
            ended_at_ms=now_ms,
            calls=1,
            gpu_ms=5000,
            usage_root=ZERO_DIGEST,
            total=total,
        )
        await self.write(
            ReceiptRow(
                task_id=task["id"],
                fence=fence,
                provider=PROVIDER.address.lower(),
                digest=messages.digest(DEPLOYMENT.domain, receipt),
                receipt=receipt.to_body().model_dump(mode="json"),
                signature=messages.sign(DEPLOYMENT.domain, receipt, OPERATOR.key),
                exit_code=0,
                result_digest=digest_of(result),
                result_bytes=len(result),
                at_ms=now_ms,
            )
        )
        return receipt

    async def wrote(
        self, task: dict[str, Any], *lines: str, fence: int = 1, first: int = 0
    ) -> None:
        async with self.database.transaction() as session:
            for number, line in enumerate(lines, first):
                session.add(
                    TaskLogRow(
                        task_id=task["id"],
                        fence=fence,
                        seq=number,
                        stream="stdout",
                        at_ms=self.clock.now_ms(),
                        text=line,
                    )
                )


async def make_world(database: Database, clock: ManualClock, folder: Path, **changes: Any) -> World:
    settings = Settings(
        public_url=PUBLIC_URL,
        blob_dir=folder / "blobs",
        stream_poll_ms=10,
        **changes,
    )
    chain = NoChain()
    backend = await assemble(
        settings,
        DEPLOYMENT,
        DISPATCHER.key,
        database=database,
        rpc=chain,
        clock=clock,
        metrics=Metrics(),
    )
    app = http_app(settings, backend=backend)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL)
    return World(backend, app, http, clock, chain)
