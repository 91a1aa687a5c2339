"""The index behind a node that lies, on a chain that takes blocks back, over a database that errs,
in processes that are killed (cases 72-82, 84, 85, 89-91).

Each seed has a chain of its own, real and with the real contracts. People act, blocks go and come
back otherwise; an index reads along through the fault proxy. In the end, with the faults gone,
every row is what an index says that reads the same chain for the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.exc import DBAPIError

from tallystick.protocol.deployments import Deployment
from tallystick_backend.chain import Chain, ChainError, HttpRpc, Rpc
from tallystick_backend.clock import SystemClock
from tallystick_backend.index.books import Difference
from tallystick_backend.index.errors import IndexStopped, WrongChain
from tallystick_backend.index.follow import Index, IndexSettings
from tallystick_backend.index.reconcile import Reconciler, ReconcileSettings
from tallystick_backend.index.start import followed
from tallystick_backend.store.repositories import chain as rows
from tallystick_backend.store.session import Database
from tests.faults.campaign import Broken, Campaign, Row, Run
from tests.faults.chain import follower
from tests.faults.chain.acts import Acts
from tests.faults.chain.books import COLUMNS, off_by_one
from tests.faults.chain.harm import Harm, HarmedRpc, Killed
from tests.faults.chain.proxy import FaultProxy
from tests.faults.chain.tables import contents, differences
from tests.support.anvil import LocalChain, anvil_program, deploy_market, start_anvil
from tests.support.postgres import PostgresServer, postgres_server

ROUNDS: Final = 10
FINALITY_BLOCKS: Final = 64
_PATIENCE_S: Final = 900.0
_EVENTS_OF_KINDS: Final = 60
"""A kind that could have fired so often and never did is broken."""


def run(run: Run) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with ExitStack() as stack:
        chain = stack.enter_context(start_anvil())
        deployment = deploy_market(chain)
        url = stack.enter_context(_database(run))
        proxy = stack.enter_context(FaultProxy(chain.url, f"{run.seed}"))
        life = _Life(run, chain, deployment, url, proxy, Harm(run.random))
        asyncio.run(life.live())


@dataclass
class _Life:
    run: Run
    chain: LocalChain
    deployment: Deployment
    url: str
    proxy: FaultProxy
    harm: Harm

    def __post_init__(self) -> None:
        self.acts = Acts(self.chain, self.deployment, f"{self.run.seed}")
        self.stack = ExitStack()

    async def live(self) -> None:
        chance = self.run.random
        depths = self._depths()
        places = dict(zip(chance.sample(range(1, ROUNDS), len(depths)), depths, strict=True))
        self.harm.kill_rate = chance.choice([0.0005, 0.001, 0.004])
        self.proxy.rate = chance.choice([0.03, 0.05, 0.08])
        if chance.random() < 0.3:
            self.proxy.range_limit = chance.choice([1, 2, 7, 20])
        with self.stack:
            for number in range(ROUNDS):
                self.run.say(f"seed {self.run.seed}: round {number + 1} of {ROUNDS}")
                self.acts.go_on(chance.randint(5, 18))
                if number in places:
                    await self._reorganise(places[number])
                if number == ROUNDS // 2 and self.run.seed % 2:
                    self._fork()
                if number % 4 == 2:
                    await self._be_killed()
                else:
                    await self._follow(chance.randint(1, 4))
            self.proxy.other_node = None
            await self._follow(None)
            await self._check()
            await self._check_books()
            if self.run.seed % 4 == 1:
                await self._check_too_deep(self.run.random.choice([65, 300, 1_900]))
        self._count()

    # --- what is done to it -------------------------------------------------------------------

    def _depths(self) -> list[int]:
        """Every depth from 1 to 64 comes up in each sixteen seeds, and 64 in each run."""
        first = (self.run.seed * 4) % 64
        return [(first + n) % 64 + 1 for n in range(4)] if self.run.full else [first + 1, 64, 1]

    async def _reorganise(self, depth: int) -> None:
        """Now and then with the index at the head before, and in the middle after."""
        if self.run.random.random() < 0.7:
            await self._follow(None)
        depth = min(depth, self.acts.deepest())
        if depth < 1:
            return
        self.acts.reorganise(depth)
        self.run.count("reorganisations")
        if self.run.random.random() < 0.3:
            await self._follow(1)
            self.acts.go_on(1)

    def _fork(self) -> None:
        """A second node that goes its own way from a few blocks ago."""
        back = self.run.random.randint(1, 12)
        other = self.stack.enter_context(_forked(self.chain, self.chain.head() - back))
        for _ in range(self.run.random.randint(1, back + 3)):
            other.rpc("evm_setNextBlockTimestamp", hex(other.now_s() + 13))
            other.mine()
        self.proxy.other_node = other.url
        self.forked_at = self.chain.head()

    async def _be_killed(self) -> None:
        """kill -9 of processes that follow meanwhile, at any moment."""
        chance = self.run.random
        for _ in range(3):
            process = follower.start(self.url, self.proxy.url, self.deployment)
            for _ in range(chance.randint(1, 3)):
                await asyncio.to_thread(self.acts.go_on, 1)
                await asyncio.sleep(chance.random() * 0.08)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.join)
            process.close()
            self.harm.happened["kill -9"] += 1

    async def _follow(self, steps: int | None) -> None:
        """So many steps, or until nothing is new; through every death and error."""
        if self.proxy.other_node and self.acts.highest > self.forked_at + FINALITY_BLOCKS - 30:
            self.proxy.other_node = None
        until_s = time.monotonic() + _PATIENCE_S
        idle = 0
        while idle < 2 and steps != 0:
            if time.monotonic() > until_s:
                raise Broken(f"the index came to no end in {_PATIENCE_S:g} s")
            try:
                async with self._index() as index:
                    await index.check()
                    while idle < 2 and steps != 0:
                        if time.monotonic() > until_s:
                            break
                        idle = 0 if await self._step(index) else idle + 1
                        steps = None if steps is None else steps - 1
            except Killed:
                pass  # the next one begins where it stopped
            except WrongChain as error:
                if self.proxy.rate == 0:
                    raise Broken(f"it refused the right chain: {error}") from error
            except ChainError:
                self.harm.happened["answer refused"] += 1
            except DBAPIError:
                self.harm.happened["started again after a database error"] += 1

    async def _step(self, index: Index) -> bool:
        try:
            if self.run.random.random() < 0.1:
                # Two processes at once on one database.
                async with self._index() as other:
                    both = await asyncio.gather(index.step(), other.step(), return_exceptions=True)
                self.harm.happened["two at once"] += 1
                for outcome in both:
                    if isinstance(outcome, BaseException):
                        raise outcome
                return True in both
            return await index.step()
        except ChainError:
            self.harm.happened["answer refused"] += 1
            return True
        except WrongChain:
            raise
        except IndexStopped as error:
            raise Broken(f"the index stopped: {error}") from error

    @asynccontextmanager
    async def _index(self) -> AsyncIterator[Index]:
        database = self.harm.over(Database(self.url))
        rpc = HttpRpc(self.proxy.url, follower.RPC_TIMEOUT_S)
        try:
            yield _index_of(database, HarmedRpc(rpc, self.harm), self.deployment)
        finally:
            # What it had begun ends with it.
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            with contextlib.suppress(DBAPIError):
                await database.close()
            await rpc.close()

    # --- what must hold -----------------------------------------------------------------------

    async def _check(self) -> None:
        self.proxy.rate = 0.0
        self.harm.on = False
        await self._follow(None)
        with _new_sqlite(self.run.directory) as fresh_url:
            database, fresh = Database(self.url), Database(fresh_url)
            rpc = HttpRpc(self.chain.url)
            try:
                await _index_of(fresh, rpc, self.deployment).catch_up()
                mine, theirs = await contents(database), await contents(fresh)
                if mine != theirs:
                    raise Broken(
                        "the tables are not those of a fresh index:\n" + differences(mine, theirs)
                    )
                if not mine["event"] or mine["cursor"]["block_number"] != self.chain.head():
                    raise Broken("nothing was followed")
            finally:
                await rpc.close()
                await database.close()
                await fresh.close()
        self.run.count("lives")
        self.run.count("rows", sum(len(found) for found in mine.values()))

    async def _check_books(self) -> None:
        """The rows agree with the contracts; a unit too much or too little is found each time."""
        database, rpc = Database(self.url), HttpRpc(self.chain.url)
        reconciler = Reconciler(
            database,
            Chain(rpc, followed(self.deployment)),
            self.deployment,
            SystemClock(),
            ReconcileSettings(again_s=0),
        )
        try:
            if found := await _looked(reconciler):
                raise Broken(f"the rows differ from the contracts: {', '.join(map(str, found))}")
            chance = self.run.random
            for table, column in chance.sample(COLUMNS, 5 if self.run.full else 2):
                undo = await off_by_one(database, table, column, chance.choice([1, -1]), chance)
                if undo is None:
                    continue
                if not await _looked(reconciler):
                    raise Broken(f"a unit in {table.__tablename__}.{column} was not found")
                await undo()
                self.run.count("books")
            if await _looked(reconciler):
                raise Broken("the rows still differ from the contracts")
        finally:
            await rpc.close()
            await database.close()

    async def _check_too_deep(self, depth: int) -> None:
        """The index stops by itself, says so, and touches nothing."""
        self.chain.rpc("evm_setAutomine", False)
        self.chain.mine(depth)
        database, rpc = Database(self.url), HttpRpc(self.chain.url)
        try:
            index = _index_of(database, rpc, self.deployment)
            await index.catch_up()
            before = await contents(database)
            stop, read = asyncio.Event(), asyncio.Event()
            index = _index_of(database, _Watched(rpc, read), self.deployment)
            running = asyncio.create_task(index.run(stop))
            await asyncio.wait_for(read.wait(), 10)
            self.acts.reorganise(depth)
            began_s = time.monotonic()
            while (doubt := await _doubt(database)) is None:
                if running.done() or time.monotonic() > began_s + _PATIENCE_S:
                    raise Broken(f"{depth} blocks went and the index did not stop")
                await asyncio.sleep(0.05)
            stop.set()
            await running
            after = await contents(database)
            after["cursor"]["degraded"] = None
            if after != before:
                raise Broken("the index stopped and changed rows:\n" + differences(after, before))
            if "reindex" not in doubt:
                raise Broken(f"what is to be done is not told: {doubt}")
        finally:
            await rpc.close()
            await database.close()
        self.run.count("deep")

    def _count(self) -> None:
        for kind, could in self.proxy.could.items():
            if could >= _EVENTS_OF_KINDS and not self.proxy.fired[kind]:
                raise Broken(f"the proxy never told {kind!r}, of {could} times that it could have")
        self.run.count("answers", sum(self.proxy.fired.values()))
        self.run.count("kinds", len(self.proxy.fired))
        happened = self.harm.happened
        self.run.count("deaths", sum(n for name, n in happened.items() if "killed at" in name))
        self.run.count("kill9", happened["kill -9"])
        self.run.count("database", sum(n for name, n in happened.items() if "error at" in name))
        self.run.count("two", happened["two at once"])


class _Watched:
    """Tells that the index has begun to follow."""

    def __init__(self, rpc: HttpRpc, read: asyncio.Event) -> None:
        self._rpc = rpc
        self._read = read

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        if params == ["latest", False]:
            self._read.set()
        return await self._rpc.request(method, params)

    async def close(self) -> None:
        pass


async def _looked(reconciler: Reconciler) -> tuple[Difference, ...]:
    """A machine that is busy elsewhere may take longer than the node is waited for."""
    for _ in range(5):
        with contextlib.suppress(ChainError):
            found = await reconciler.look()
            if found is not None:
                return found
    raise Broken("the node did not answer the reconciler")


async def _doubt(database: Database) -> str | None:
    async with database.read() as session:
        return await rows.doubt(session)


def _index_of(database: Database, rpc: Rpc, deployment: Deployment) -> Index:
    return Index(
        database,
        Chain(rpc, followed(deployment)),
        deployment,
        SystemClock(),
        IndexSettings(finality_blocks=FINALITY_BLOCKS),
    )


@contextmanager
def _forked(chain: LocalChain, block: int) -> Iterator[LocalChain]:
    import subprocess

    from tests.support import anvil

    command = [
        str(anvil_program()),
        *("--port", "0", "--accounts", "1", "--chain-id", str(chain.chain_id)),
        *("--fork-url", chain.url, "--fork-block-number", str(block), "--no-rate-limit"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    port = anvil._listening_port(process)
    with LocalChain(process, f"http://127.0.0.1:{port}", port) as other:
        yield other


# --- databases --------------------------------------------------------------------------------

_POSTGRES: ExitStack = ExitStack()
_servers: list[PostgresServer] = []
_migrated: list[Path] = []


@contextmanager
def _database(run: Run) -> Iterator[str]:
    """A new one: SQLite, in each fourth seed PostgreSQL."""
    if run.seed % 4:
        with _new_sqlite(run.directory) as url:
            yield url
        return
    if not _servers:
        import atexit

        server = _POSTGRES.enter_context(postgres_server())
        atexit.register(_POSTGRES.close)
        server.run("CREATE DATABASE migrated")
        asyncio.run(_migrate(server.url("migrated")))
        _servers.append(server)
    [server] = _servers
    name = f"faults_{uuid.uuid4().hex}"
    server.run(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield server.url(name)
    server.run(f"DROP DATABASE {name} WITH (FORCE)")
    run.count("postgresql")


@contextmanager
def _new_sqlite(directory: Path) -> Iterator[str]:
    if not _migrated:
        path = Path(tempfile.mkdtemp(prefix="faults-migrated-")) / "index.db"
        asyncio.run(_migrate(f"sqlite+aiosqlite:///{path}"))
        _migrated.append(path)
    path = directory / f"index-{uuid.uuid4().hex}.db"
    shutil.copy(_migrated[0], path)
    yield f"sqlite+aiosqlite:///{path}"


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.close()


_SAME = "tables equal a fresh index, row by row, to the unit"

CAMPAIGN = Campaign(
    name="chain",
    title="An index behind a lying node, on a chain that takes blocks back",
    rows={
        "lives": Row("Lives of an index, with all of the below at once", _SAME),
        "reorganisations": Row(
            "Reorganisations of 1 to 64 blocks, transactions dropped, moved, mined anew with "
            "another result",
            _SAME,
        ),
        "answers": Row(
            "False answers of the node: 36 kinds, from time-outs to two nodes that disagree",
            "refused and asked again, or harmless",
        ),
        "kinds": Row("Kinds of false answers, each life's counted", "seen to fire"),
        "deaths": Row(
            "Ends of the process at a statement, a commit or a question", "taken up again"
        ),
        "kill9": Row("kill -9 of a following process at any moment", "taken up again"),
        "database": Row(
            "Database errors: locked, connection lost, a commit that was done and not told",
            "no transaction half done",
        ),
        "two": Row("Two indexes at once on one database", "one goes first, none twice"),
        "postgresql": Row("Lives on PostgreSQL; the others are on SQLite", _SAME),
        "rows": Row("Rows compared in the end", "equal"),
        "books": Row(
            "A unit too much or too little in one of the figures that money hangs on",
            "found by the reconciler in one look; none when all is right",
        ),
        "deep": Row(
            "Reorganisations deeper than finality: 65, 300 and 1,900 blocks",
            "the index stops, says so, and changes no row",
        ),
    },
    run=run,
    seeds=1,
)
