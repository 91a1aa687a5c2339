"""Everybody who sends transactions, while transactions get lost in every way (cases 86, 87).

Two lives in each seed. A provider settles tasks and redeems a voucher through its outbox: it is
killed at marked steps, its node lies, its transactions are dropped, its blocks taken back, the base
fee goes up tenfold, its wallet is empty for a while. And sixteen senders share one key, as a
gateway and a script do, each with intents of its own. In the end each intent was mined exactly
once; what could not be was told by name, and was mined once its cause was gone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from tallystick.protocol import messages
from tallystick.protocol.channels import SignedVoucher
from tallystick.protocol.contracts import Escrow, Token
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.errors import ProtocolError, TransactionError, TransactionTimeout
from tallystick.protocol.messages import Channel
from tallystick.protocol.pricing import split_charge_down
from tallystick.protocol.transactions import Sender
from tallystick.protocol.types import Address, Digest
from tallystick.protocol.web3 import close, connect
from tallystick_provider.clock import ManualClock
from tallystick_provider.journal import Journal
from tests.faults.campaign import Broken, Campaign, Row, Run
from tests.faults.chain.proxy import FaultProxy
from tests.faults.outbox import child
from tests.provider.settling import Finished, accept, finish, open_market
from tests.support.anvil import (
    CONSUMER,
    DEPLOYER,
    OPERATOR,
    PROVIDER,
    STRANGER,
    TOKEN,
    LocalChain,
    deploy_market,
    digest_of_word,
    person,
    read,
    send,
    start_anvil,
)

SENDERS: Final = 16
_PATIENCE_S: Final = 240.0
_GAS_PRICE_WEI: Final = 10**9


def run(run: Run) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with ExitStack() as stack:
        chain = stack.enter_context(start_anvil())
        deployment = deploy_market(chain)
        open_market(chain, deployment)
        proxy = stack.enter_context(FaultProxy(chain.url, f"outbox:{run.seed}"))
        proxy.rate = 0.0
        run.say("a provider settles")
        asyncio.run(_Settling(run, chain, deployment, proxy).live())
        run.say("sixteen send at once")
        asyncio.run(_Sixteen(run, chain, deployment, proxy).live())
        run.count("answers", sum(proxy.fired.values()))


# --- the provider's outbox --------------------------------------------------------------------


@dataclass
class _Settling:
    run: Run
    chain: LocalChain
    deployment: Deployment
    proxy: FaultProxy

    async def live(self) -> None:
        chance = self.run.random
        path = self.run.directory / "journal.sqlite"
        clock = ManualClock(0)
        journal = Journal(path, clock)
        tasks: list[Finished] = []
        for _ in range(3 if self.run.full else 2):
            done = finish(self.chain, self.deployment, journal, clock)
            accept(self.deployment, journal, done)
            tasks.append(done)
        journal.close()
        channel, voucher = self._voucher()
        # Nothing below reaches what the work stands on.
        self.chain.mine(5)
        base = self.chain.head()
        clock_ms = clock.at_ms

        def job(fatal: str = "") -> child.Job:
            return child.Job(
                path, self.deployment, self.proxy.url, clock_ms, fatal, channel, voucher
            )

        self.proxy.rate = 0.05
        mishaps: list[Callable[[], Awaitable[str]]] = [
            lambda: self._killed(job),
            lambda: self._killed(job),
            lambda: self._killed(job),
            lambda: self._dropped(job),
            lambda: self._base_fee(job),
            lambda: self._empty(job),
            lambda: self._reorganised(job, base),
        ]
        chance.shuffle(mishaps)
        for mishap in mishaps:
            self.run.count(await mishap())
            clock_ms += 61_000  # what is stuck by then is raised
        self.proxy.rate = 0.0
        for _ in range(20):
            await self._child(job())
            clock_ms += 61_000
            journal = Journal(path, clock)
            left = len(journal.open_leases()) + (journal.in_flight() is not None)
            journal.close()
            if not left and self._claimed(channel) == voucher.voucher.total:
                break
        await self._check(path, clock, tasks, channel, voucher)

    async def _killed(self, job: Callable[[str], child.Job]) -> str:
        step = self.run.random.choice(child.STEPS)
        await self._child(job(f"{step}:{self.run.random.choice([1, 1, 2])}"))
        return "kills"

    async def _dropped(self, job: Callable[[], child.Job]) -> str:
        """The node forgets what waited."""
        self.chain.rpc("evm_setAutomine", False)
        await self._child(job())
        self.chain.rpc("anvil_dropAllTransactions")
        self.chain.rpc("evm_setAutomine", True)
        await self._child(job())
        return "dropped"

    async def _base_fee(self, job: Callable[[], child.Job]) -> str:
        """What waits was offered too little since."""
        self.chain.rpc("evm_setAutomine", False)
        await self._child(job())
        head = self.chain.rpc("eth_getBlockByNumber", "latest", False)
        base_wei = int(head["baseFeePerGas"], 16) * 10 + _GAS_PRICE_WEI
        self.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_wei))
        self.chain.mine()
        self.chain.rpc("evm_setAutomine", True)
        await self._child(job())
        return "base_fee"

    async def _empty(self, job: Callable[[], child.Job]) -> str:
        """Told by name while it lasts."""
        before = self.chain.rpc("eth_getBalance", OPERATOR.address, "latest")
        rate, self.proxy.rate = self.proxy.rate, 0.0
        self.chain.rpc("anvil_setBalance", OPERATOR.address, "0x0")
        asked = job()
        asked.said.unlink(missing_ok=True)
        await self._child(asked)
        said = asked.said.read_text().lower() if asked.said.exists() else ""
        journal = Journal(asked.journal, ManualClock(asked.clock_ms))
        waits = bool(journal.open_leases())
        journal.close()
        if waits and not any(word in said for word in ("insufficient funds", "gas", "not taken")):
            raise Broken(f"the wallet was empty, money waited, and it was told: {said!r}")
        self.chain.rpc("anvil_setBalance", OPERATOR.address, before)
        self.proxy.rate = rate
        return "empty"

    async def _reorganised(self, job: Callable[[], child.Job], base: int) -> str:
        """Receipts that were there are gone, and their transactions nowhere."""
        await self._child(job())
        depth = min(self.run.random.randint(1, 6), self.chain.head() - base)
        if depth > 0:
            self.chain.rpc("anvil_rollback", depth)
            self.chain.rpc("anvil_dropAllTransactions")
            self.chain.rpc("evm_setNextBlockTimestamp", hex(self.chain.now_s() + 7))
            self.chain.mine(depth + 1)
        return "reorganised"

    async def _child(self, job: child.Job) -> None:
        process = child.start(job)
        await asyncio.to_thread(process.join, 60)
        code = process.exitcode
        if code not in (0, -signal.SIGKILL):
            process.kill()
            raise Broken(f"the settler ended with {code}")
        process.close()

    def _voucher(self) -> tuple[Channel, SignedVoucher]:
        channel = Channel(CONSUMER.address, CONSUMER.address, PROVIDER.address, 7)
        send(self.chain, CONSUMER, Escrow(_NO_WEB3, self.deployment.escrow).fund(channel, TOKEN))
        voucher = channel.voucher(TOKEN // 3, digest_of_word(5))
        signature = messages.sign(self.deployment.domain, voucher, CONSUMER.key)
        return channel, SignedVoucher(voucher, signature)

    def _claimed(self, channel: Channel) -> int:
        web3 = connect(self.chain.url)

        async def ask() -> int:
            try:
                return (await Escrow(web3, self.deployment.escrow).channel(channel)).claimed
            finally:
                await close(web3)

        return int(_apart(ask))

    async def _check(
        self,
        path: Any,
        clock: ManualClock,
        tasks: list[Finished],
        channel: Channel,
        voucher: SignedVoucher,
    ) -> None:
        journal = Journal(path, clock)
        outcomes = [journal.lease(done.lease.task_id, 1) for done in tasks]
        journal.close()
        for lease in outcomes:
            if lease is None or lease.outcome != "paid":
                raise Broken(f"a lease ended as {lease and lease.outcome}: {lease}")
        web3 = connect(self.chain.url)
        try:
            credit = (await Escrow(web3, self.deployment.escrow).payee(PROVIDER.address)).credit
        finally:
            await close(web3)
        due = voucher.voucher.total + sum(
            split_charge_down(done.terms, done.signed.receipt.total).provider for done in tasks
        )
        if credit != due:
            raise Broken(f"the provider has a credit of {credit}, due is {due}")
        if self._claimed(channel) != voucher.voucher.total:
            raise Broken("the voucher was not redeemed")
        self.run.count("settled", len(tasks) + 1)


# --- sixteen senders --------------------------------------------------------------------------


@dataclass
class _Sixteen:
    run: Run
    chain: LocalChain
    deployment: Deployment
    proxy: FaultProxy
    told: list[str] = field(default_factory=list)
    mined: int = 0

    async def live(self) -> None:
        many = 2 if not self.run.full else (63 if self.run.seed == 25 else 4)
        intents = [
            person(f"payee {self.run.seed} {number}").address for number in range(SENDERS * many)
        ]
        send(self.chain, DEPLOYER, self._token().transfer(STRANGER.address, 10 * len(intents)))
        self.proxy.rate = 0.03
        self.proxy.most_slow = 5
        web3 = connect(self.proxy.url, timeout_s=0.7)
        sender = Sender(web3, STRANGER.key)
        try:
            trouble = asyncio.create_task(self._trouble())
            until_s = time.monotonic() + _PATIENCE_S + many * 3
            await asyncio.gather(
                *(
                    self._send_all(sender, intents[place::SENDERS], until_s)
                    for place in range(SENDERS)
                )
            )
            trouble.cancel()
            with suppress(asyncio.CancelledError):
                await trouble
        finally:
            await close(web3)
        self._check(intents)

    async def _send_all(self, sender: Sender, payees: list[Address], until_s: float) -> None:
        for payee in payees:
            await self._send(sender, payee, until_s)

    async def _send(self, sender: Sender, payee: Address, until_s: float) -> None:
        """As a caller does: what failed before anything was sent is tried again; what may still be
        mined is waited for."""
        call = self._token().transfer(payee, 1)
        pending: Digest | None = None
        while time.monotonic() < until_s:
            try:
                if pending is None:
                    await sender.execute(call, timeout_s=30)
                else:
                    await sender.wait(pending, timeout_s=30)
                self.mined += 1
                return
            except TransactionTimeout as late:
                self.told.append(str(late))
                pending = Digest(late.tx_hash)
            except (TransactionError, ProtocolError) as error:
                self.told.append(str(error))
                if isinstance(error, TransactionError) and error.tx_hash:
                    pending = Digest(error.tx_hash)
                await asyncio.sleep(0.2)
            except Exception as error:
                # The node could not be asked; nothing was signed.
                self.told.append(type(error).__name__)
                await asyncio.sleep(0.1)
        raise Broken(f"an intent was neither mined nor given up; told last: {self.told[-3:]}")

    async def _trouble(self) -> None:
        """One after the other, until it is ended; never two at once, so that each is seen."""
        chance = self.run.random
        happenings = [self._drop, self._raise_base_fee, self._empty_wallet, self._hold]
        turn = 0
        while True:
            await asyncio.sleep(chance.random() * 0.8)
            happening = happenings[turn % len(happenings)]
            turn += 1
            await asyncio.to_thread(happening)
            self.run.count("trouble")

    def _drop(self) -> None:
        self.chain.rpc("evm_setAutomine", False)
        time.sleep(0.2)
        self.chain.rpc("anvil_dropAllTransactions")
        self.chain.rpc("evm_setAutomine", True)
        self.chain.mine()

    def _hold(self) -> None:
        self.chain.rpc("evm_setAutomine", False)
        time.sleep(0.3)
        self.chain.rpc("evm_setAutomine", True)
        self.chain.mine()

    def _raise_base_fee(self) -> None:
        head = self.chain.rpc("eth_getBlockByNumber", "latest", False)
        base_wei = min(int(head["baseFeePerGas"], 16) * 10, 10**12)
        self.chain.rpc("evm_setAutomine", False)
        time.sleep(0.1)
        self.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_wei))
        self.chain.mine()
        self.chain.rpc("evm_setAutomine", True)

    def _empty_wallet(self) -> None:
        before = self.chain.rpc("eth_getBalance", STRANGER.address, "latest")
        self.chain.rpc("anvil_setBalance", STRANGER.address, "0x0")
        time.sleep(0.2)
        self.chain.rpc("anvil_setBalance", STRANGER.address, before)
        self.chain.mine()

    def _check(self, intents: list[Address]) -> None:
        self.chain.mine(2)
        wrong = {}
        for payee in intents:
            has = int.from_bytes(read(self.chain, _balance_of(self.deployment, payee)))
            if has != 1:
                wrong[payee] = has
        if wrong:
            raise Broken(f"each was to be paid once; {len(wrong)} were not: {wrong}")
        self.run.count("sixteen", len(intents))
        self.run.count("told", len(self.told))

    def _token(self) -> Token:
        return Token(_NO_WEB3, self.deployment.token)


def _balance_of(deployment: Deployment, owner: Address) -> Any:
    from tallystick.protocol import codec
    from tallystick.protocol.contracts import Call

    return Call(deployment.token, codec.encode_call("TallyToken", "balanceOf", owner))


def _apart(ask: Callable[[], Any]) -> Any:
    """On a loop of its own, in a thread of its own."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(ask())).result()


_NO_WEB3: Any = None

CAMPAIGN = Campaign(
    name="outbox",
    title="Everybody who sends transactions, while these get lost in every way",
    rows={
        "settled": Row(
            "Intents of a provider's outbox: proofs and redemptions", "mined and paid exactly once"
        ),
        "kills": Row("kill -9 of the settler at a marked step", "taken up, none lost or twice"),
        "dropped": Row("Pools that forgot what waited", "said again, mined once"),
        "base_fee": Row("Base fees ten times as high", "outbid on the same nonce, mined once"),
        "empty": Row("Empty wallets, refilled later", "told by name meanwhile, mined after"),
        "reorganised": Row("Receipts reorganised away", "the same bytes sent again, mined once"),
        "sixteen": Row(
            "Intents of 16 senders on one key, through all of that at once", "mined exactly once"
        ),
        "trouble": Row(
            "Troubles under the sixteen: drops, base fees, empty wallet, halts", "as above"
        ),
        "told": Row(
            "Failures told to a sender", "by name; nothing was sent, or it can be waited for"
        ),
        "answers": Row("False answers between send and receipt", "no second sending of an intent"),
    },
    run=run,
    seeds=1,
)
