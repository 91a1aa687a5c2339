"""What each act on chain costs, beside the floor, the best of the field and our bar.

    make gas            prints the table, writes build/gas.json

Measured on anvil under Prague rules with the contracts as compiled into build/contracts, through
plain web3.py. Steady state: every account has been used, storage that a busy market would have
written is not zero, nonces are taken in order (256 share a word), signatures have 64 bytes. A task
here has a dispatcher with 5 % and no royalty, and costs less than was locked, so that a rest goes
back; its receipt is signed by an operator key and the transaction sent by a stranger. Each channel
has a payer and a signer of its own, has been redeemed before, and its salt fills the 96 bits.
Floors and the field: what the protocol's prices alone add up to, and the cheapest measured system
that does the same.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint

from tallystick.protocol import messages, signatures
from tallystick.protocol.messages import (
    Acceptance,
    Assignment,
    Domain,
    OperatorKey,
    TaskTerms,
    Voucher,
)
from tallystick.protocol.types import Address, Digest, Fence, Signature, TaskId

ROOT = Path(__file__).resolve().parent.parent
ANVIL = ROOT / "node_modules" / ".bin" / "anvil"
ZERO = Address("0x" + "00" * 20)
TALLY = 10**18
BATCH = 100
BATCH_GAS = 29_000_000
CALLS_A_VOUCHER = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `None` where nobody has measured it, or nothing is promised."""

    act: str
    gas: float
    calldata_bytes: int
    bar: float | None = None
    floor: float | None = None
    field: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    secret: str
    address: Address


@dataclass(frozen=True, slots=True)
class Work:
    """A usage as the market takes it, and the receipt's digest and total."""

    usage: tuple[Any, ...]
    total: int
    receipt: Digest


def main() -> int:
    if not (ROOT / "build" / "contracts" / "TaskMarket.json").exists():
        print("the contracts are not compiled: run `make contracts`", file=sys.stderr)
        return 1
    with anvil() as web3:
        rows = measure(Bench(web3))
    show(rows)
    write(rows)
    missed = [row for row in rows if row.bar is not None and row.gas > row.bar]
    for row in missed:
        print(f"over the bar: {row.act} takes {row.gas:,}, bar {row.bar:,}", file=sys.stderr)
    return 1 if missed else 0


def measure(bench: Bench) -> list[Row]:
    bench.warm_up()
    created, created_bytes = bench.create(bench.next_terms())
    terms = bench.next_terms()
    bench.create(terms)
    proven, proven_bytes = bench.prove(terms)
    ordered, ordered_bytes = bench.prove_order(bench.next_terms())
    batch, batch_bytes = bench.prove_many(BATCH)
    first_stake, stake_bytes = bench.first_stake()
    alone = bench.next_terms()
    bench.create(alone)
    proven_alone, alone_bytes, finalized, finalize_bytes = bench.prove_alone(alone)
    deposit, deposit_bytes = bench.deposit()
    withdraw, withdraw_bytes = bench.withdraw()
    pay_out, pay_out_bytes = bench.withdraw_credit()
    return [
        *measure_channels(bench),
        Row(
            "createTask + prove with acceptance",
            created + proven,
            created_bytes + proven_bytes,
            140_000,
            82_848,
            "388,476 Infernet",
        ),
        Row("  createTask", created, created_bytes, None, 52_685),
        Row("  prove with acceptance", proven, proven_bytes, None, 30_163),
        Row(
            "signed order + prove, 1",
            ordered,
            ordered_bytes,
            75_000,
            46_185,
            "505,000 iExec Boost",
        ),
        Row(
            f"signed order + prove, each of {BATCH}",
            -(-batch // BATCH),
            -(-batch_bytes // BATCH),
            28_000,
            10_179,
            "179,000 iExec Boost",
        ),
        Row("first stake", first_stake, stake_bytes, 100_000, 62_000, "94,303 Horizon"),
        Row("proveAlone inside the lease", proven_alone, alone_bytes),
        Row("finalize after the window", finalized, finalize_bytes),
        Row("deposit, approved before", deposit, deposit_bytes),
        Row("withdraw", withdraw, withdraw_bytes),
        Row("withdrawCredit", pay_out, pay_out_bytes),
    ]


def measure_channels(bench: Bench) -> list[Row]:
    opened, open_bytes = bench.open_channel()
    channels = [bench.used_channel() for _ in range(BATCH)]
    one, one_bytes = bench.redeem(channels[:1])
    batch, batch_bytes = bench.redeem(channels)
    # The rows alone: selector, provider, offset and length are the call's, whatever its size.
    row_bytes = -(-(batch_bytes - one_bytes) // (BATCH - 1))
    wallet, wallet_bytes = bench.redeem_to_wallet(channels[0])
    return [
        Row(
            "open a channel, approved before",
            opened,
            open_bytes,
            75_000,
            62_016,
            "87,626 TAP",
        ),
        Row("redeem 1 voucher to credit", one, one_bytes, 45_000, 39_058, "48,717 x402 batch"),
        Row(
            "  to the wallet, in one transaction",
            wallet,
            wallet_bytes,
            64_000,
            49_735,
            "105,545 x402 batch",
        ),
        Row(
            f"redeem, each of {BATCH}",
            -(-batch // BATCH),
            row_bytes,
            15_000,
            12_465,
            "21,772 x402 batch",
        ),
        Row(
            f"  per call, {CALLS_A_VOUCHER:,} a voucher",
            round(batch / BATCH / CALLS_A_VOUCHER, 3),
            0,
            1.5,
            1.07,
            "2.2 x402 batch",
        ),
        Row("fund a channel again, from available", *bench.top_up(channels[0])),
        Row("requestClose", *bench.request_close(channels[0])),
        Row("close", *bench.close(channels[0])),
    ]


@dataclass(slots=True)
class Channel:
    """`total` is what its last voucher says."""

    payer: Person
    signer: Person
    fields: tuple[str, str, str, int]
    total: int = 0


class Bench:
    """A market with one consumer, one provider and its hot key, a dispatcher and a stranger."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self.deployer = self.funded()
        self.consumer = self.funded()
        self.provider = self.funded()
        self.operator = self.funded()
        self.dispatcher = self.funded()
        self.stranger = self.funded()
        self.word = secrets.randbits(248) << 8
        self.used = 0
        self.clock = int(web3.eth.get_block("latest")["timestamp"])
        self.deploy()

    # ------------------------------------------------------------------ the acts

    def create(self, terms: TaskTerms) -> tuple[int, int]:
        return self.send(self.consumer, self.market.functions.createTask(terms_of(terms), b""))

    def prove(self, terms: TaskTerms) -> tuple[int, int]:
        return self.send(self.stranger, self.market.functions.prove(self.accepted(terms)))

    def prove_order(self, terms: TaskTerms) -> tuple[int, int]:
        return self.send(self.stranger, self.market.functions.proveOrder(self.accepted(terms)))

    def prove_many(self, count: int) -> tuple[int, int]:
        # A whole word of nonces that is in use already, so that no row pays for a new one.
        self.use_new_word()
        proofs = [self.accepted(self.next_terms()) for _ in range(count)]
        return self.send(self.stranger, self.market.functions.proveMany(proofs), BATCH_GAS)

    def prove_alone(self, terms: TaskTerms) -> tuple[int, int, int, int]:
        work = self.work(terms)
        assignment = Assignment(
            task_id=messages.task_id(self.domain, terms),
            provider=self.provider.address,
            fence=Fence(1),
            lease_from=self.clock - 100_000,
            lease_until=self.clock + 100_000,
        )
        proof = (
            terms_of(terms),
            work.usage,
            assignment.lease_from,
            assignment.lease_until,
            as_bytes(signatures.sign_digest(as_bytes(work.receipt), self.operator.secret)),
            self.signed(assignment, self.dispatcher),
        )
        gas, size = self.send(self.stranger, self.market.functions.proveAlone(proof))
        self.web3.provider.make_request(
            RPCEndpoint("evm_increaseTime"), [terms.challenge_window + 1]
        )
        proven = (self.provider.address, work.total, as_bytes(work.receipt))
        call = self.market.functions.finalize(terms_of(terms), proven, b"")
        finalize_gas, finalize_size = self.send(self.stranger, call)
        return gas, size, finalize_gas, finalize_size

    def first_stake(self) -> tuple[int, int]:
        newcomer = self.funded()
        self.give_tokens(newcomer, 400 * TALLY)
        self.send(newcomer, self.token.functions.approve(self.staking.address, 400 * TALLY))
        return self.send(newcomer, self.staking.functions.stake(400 * TALLY))

    def deposit(self) -> tuple[int, int]:
        self.give_tokens(self.consumer, 20 * TALLY)
        approve = self.token.functions.approve(self.escrow.address, 20 * TALLY)
        self.send(self.consumer, approve)
        call = self.escrow.functions.deposit(self.consumer.address, 10 * TALLY)
        return self.send(self.consumer, call)

    def withdraw(self) -> tuple[int, int]:
        call = self.escrow.functions.withdraw(TALLY, self.consumer.address)
        return self.send(self.consumer, call)

    def withdraw_credit(self) -> tuple[int, int]:
        call = self.escrow.functions.withdrawCredit(self.provider.address, [])
        return self.send(self.stranger, call)

    # ------------------------------------------------------------------ channels

    def open_channel(self) -> tuple[int, int]:
        self.give_tokens(self.consumer, 20 * TALLY)
        self.send(self.consumer, self.token.functions.approve(self.escrow.address, 20 * TALLY))
        fields = self.channel(self.consumer, self.funded()).fields
        call = self.escrow.functions.depositToChannel(fields, 10 * TALLY)
        return self.send(self.consumer, call)

    def used_channel(self) -> Channel:
        payer = self.funded()
        channel = self.channel(payer, self.funded())
        self.give_tokens(payer, 20 * TALLY)
        self.send(payer, self.token.functions.approve(self.escrow.address, 20 * TALLY))
        self.send(payer, self.escrow.functions.deposit(payer.address, 10 * TALLY))
        self.send(payer, self.escrow.functions.fund(channel.fields, 5 * TALLY))
        self.redeem([channel])
        return channel

    def channel(self, payer: Person, signer: Person) -> Channel:
        salt = secrets.randbits(96)
        return Channel(payer, signer, (payer.address, signer.address, self.provider.address, salt))

    def redeem(self, channels: list[Channel]) -> tuple[int, int]:
        rows = [self.voucher_row(channel) for channel in channels]
        call = self.escrow.functions.redeem(self.provider.address, rows)
        return self.send(self.stranger, call, BATCH_GAS)

    def redeem_to_wallet(self, channel: Channel) -> tuple[int, int]:
        # Nothing waits but the voucher.
        self.withdraw_credit()
        rows = [self.voucher_row(channel)]
        call = self.escrow.functions.withdrawCredit(self.provider.address, rows)
        return self.send(self.stranger, call)

    def voucher_row(self, channel: Channel) -> tuple[Any, ...]:
        channel.total += TALLY // 7
        payer, _signer, _provider, salt = channel.fields
        voucher = Voucher(
            payer=channel.payer.address,
            provider=self.provider.address,
            salt=salt,
            total=channel.total,
            receipt=random_digest(),
        )
        signature = messages.sign(self.domain, voucher, channel.signer.secret)
        word = int(payer, 16) << 96 | salt
        return (word, channel.total, as_bytes(voucher.receipt), *two_words(signature))

    def top_up(self, channel: Channel) -> tuple[int, int]:
        return self.send(channel.payer, self.escrow.functions.fund(channel.fields, TALLY))

    def request_close(self, channel: Channel) -> tuple[int, int]:
        return self.send(channel.payer, self.escrow.functions.requestClose(channel.fields))

    def close(self, channel: Channel) -> tuple[int, int]:
        self.web3.provider.make_request(RPCEndpoint("evm_increaseTime"), [3 * 86_400])
        return self.send(self.stranger, self.escrow.functions.close(channel.fields))

    # ------------------------------------------------------------------ what they are made of

    def next_terms(self) -> TaskTerms:
        self.used += 1
        return TaskTerms(
            consumer=self.consumer.address,
            signer=ZERO,
            dispatcher=self.dispatcher.address,
            royalty_to=ZERO,
            spec=random_digest(),
            gpus=4,
            flat=TALLY // 100,
            fee_per_call=TALLY // 1000,
            rate_per_gpu_second=138_888_888_888_889,
            dispatcher_bps=500,
            royalty_bps=0,
            max_charge=17 * TALLY + 123_456_789,
            max_seconds=28_800,
            deadline=self.clock + 1_000_000,
            challenge_window=86_400,
            verification=0,
            nonce=self.word + self.used,
        )

    def use_new_word(self) -> None:
        self.word = secrets.randbits(248) << 8
        self.used = 0
        self.prove_order(self.next_terms())

    def work(self, terms: TaskTerms) -> Work:
        started_at_ms = (self.clock - 20_000) * 1000 + 123
        usage = (
            self.provider.address,
            1,
            as_bytes(random_digest()),
            as_bytes(random_digest()),
            started_at_ms,
            started_at_ms + 14_400_321,
            1,
            4 * 14_400_321,
            as_bytes(random_digest()),
        )
        receipt, digest = self.market.functions.receiptOf(terms_of(terms), usage).call()
        return Work(usage, receipt[-1], Digest("0x" + digest.hex()))

    def accepted(self, terms: TaskTerms) -> tuple[Any, ...]:
        work = self.work(terms)
        task_id = messages.task_id(self.domain, terms)
        acceptance = Acceptance(task_id=task_id, total=work.total, receipt=work.receipt)
        receipt = signatures.sign_digest(as_bytes(work.receipt), self.operator.secret)
        return (
            terms_of(terms),
            work.usage,
            b"",
            *two_words(receipt),
            b"".join(two_words(messages.sign(self.domain, acceptance, self.consumer.secret))),
        )

    def signed(self, message: messages.Message, by: Person) -> bytes:
        return as_bytes(messages.sign(self.domain, message, by.secret))

    # ------------------------------------------------------------------ the stage

    def deploy(self) -> None:
        self.token = self.create_contract("TallyToken", self.deployer.address, 10**9 * TALLY)
        nonce = self.nonce(self.deployer)
        self.escrow = self.create_contract(
            "ComputeEscrow",
            self.token.address,
            create_address(self.deployer.address, nonce + 2),
            create_address(self.deployer.address, nonce + 1),
            self.deployer.address,
            100,
            5_000,
            3 * 86_400,
        )
        self.staking = self.create_contract(
            "ProviderStaking",
            self.token.address,
            self.escrow.address,
            ZERO,
            100 * TALLY,
            (21 * 86_400, 7 * 86_400, 7 * 86_400, 7 * 86_400, 7 * 86_400),
        )
        windows = (3_600, 86_400, 7 * 86_400, 6 * 86_400)
        self.market = self.create_contract(
            "TaskMarket", self.escrow.address, self.staking.address, ZERO, windows
        )
        self.domain = Domain(self.web3.eth.chain_id, Address(self.escrow.address))

    def warm_up(self) -> None:
        """Everything once, so that what follows finds a market in use."""
        for person in (self.consumer, self.provider):
            self.give_tokens(person, 100_000 * TALLY)
        approve = self.token.functions.approve
        self.send(self.consumer, approve(self.escrow.address, 50_000 * TALLY))
        deposit = self.escrow.functions.deposit(self.consumer.address, 50_000 * TALLY)
        self.send(self.consumer, deposit)
        self.send(self.provider, approve(self.staking.address, 1_000 * TALLY))
        self.send(self.provider, self.staking.functions.stake(1_000 * TALLY))
        key = OperatorKey(provider=self.provider.address, key=self.operator.address)
        bind = self.staking.functions.bindOperatorKey(
            self.operator.address, self.signed(key, self.operator)
        )
        self.send(self.provider, bind)
        self.prove_order(self.next_terms())
        self.send(self.stranger, self.escrow.functions.withdrawCredit(self.provider.address, []))
        terms = self.next_terms()
        self.create(terms)
        self.prove(terms)

    def create_contract(self, name: str, *arguments: Any) -> Any:
        artifact = json.loads((ROOT / "build" / "contracts" / f"{name}.json").read_text())
        contract = self.web3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
        receipt = self.broadcast(self.deployer, contract.constructor(*arguments), 10_000_000)
        return self.web3.eth.contract(address=receipt["contractAddress"], abi=artifact["abi"])

    def send(self, sender: Person, call: Any, gas: int = 2_000_000) -> tuple[int, int]:
        """Gas used and bytes of calldata; an act that fails is an error."""
        receipt = self.broadcast(sender, call, gas)
        sent = self.web3.eth.get_transaction(receipt["transactionHash"])
        if any(log["address"] == self.market.address for log in receipt["logs"]):
            skipped = self.market.events.ProofSkipped().process_receipt(
                receipt, errors_to_discard()
            )
            if skipped:
                raise SystemExit(f"a row of the batch was skipped: {skipped[0]['args']}")
        return receipt["gasUsed"], len(sent["input"])

    def broadcast(self, sender: Person, call: Any, gas: int) -> Any:
        transaction = call.build_transaction(
            {"from": sender.address, "gas": gas, "gasPrice": 0, "nonce": self.nonce(sender)}
        )
        signed = self.web3.eth.account.sign_transaction(transaction, sender.secret)
        sent = self.web3.eth.send_raw_transaction(signed.raw_transaction)
        receipt = self.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)
        if receipt["status"] != 1:
            self.web3.eth.call(transaction)
            raise SystemExit(f"a transaction failed: {sent.hex()}")
        return receipt

    def nonce(self, person: Person) -> int:
        return self.web3.eth.get_transaction_count(Web3.to_checksum_address(person.address))

    def funded(self) -> Person:
        account = self.web3.eth.account.create()
        amount = hex(1_000 * 10**18)
        self.web3.provider.make_request(RPCEndpoint("anvil_setBalance"), [account.address, amount])
        return Person("0x" + account.key.hex(), Address(account.address))

    def give_tokens(self, to: Person, units: int) -> None:
        self.send(self.deployer, self.token.functions.transfer(to.address, units))


@contextmanager
def anvil() -> Iterator[Web3]:
    port = free_port()
    command = [str(ANVIL), "--port", str(port), "--hardfork", "prague", "--quiet"]
    command += ["--block-base-fee-per-gas", "0", "--gas-limit", str(2 * BATCH_GAS)]
    process = subprocess.Popen(command)
    try:
        web3 = Web3(HTTPProvider(f"http://127.0.0.1:{port}"))
        for _ in range(200):
            if web3.is_connected():
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"anvil did not answer on port {port} within 10 s")
        yield web3
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def create_address(deployer: str, nonce: int) -> str:
    """Of the contract that an account creates with this nonce, below 128: keccak(rlp)."""
    encoded = b"\xd6\x94" + bytes.fromhex(deployer[2:]) + bytes([nonce or 0x80])
    return Web3.to_checksum_address(Web3.keccak(encoded)[12:])


def terms_of(terms: TaskTerms) -> tuple[Any, ...]:
    return messages.as_tuple(replace(terms))


def as_bytes(value: Digest | Signature | TaskId) -> bytes:
    return bytes.fromhex(value[2:])


def two_words(signature: Signature) -> tuple[bytes, bytes]:
    """EIP-2098: r, and s with the parity of v in its highest bit."""
    raw = as_bytes(signature)
    return raw[:32], bytes([raw[32] | (raw[64] - 27) << 7]) + raw[33:64]


def random_digest() -> Digest:
    return Digest("0x" + secrets.token_hex(32))


def errors_to_discard() -> Any:
    from web3.logs import DISCARD

    return DISCARD


def show(rows: list[Row]) -> None:
    table = Table(title="Gas (anvil, Prague rules, steady state)")
    table.add_column("act")
    for heading in ("floor", "ours", "bar", "best of the field", "calldata bytes"):
        table.add_column(heading, justify="right")
    for row in rows:
        within = row.bar is None or row.gas <= row.bar
        table.add_row(
            row.act,
            grouped(row.floor),
            f"[{'green' if within else 'red'}]{row.gas:,}[/]" if row.bar else f"{row.gas:,}",
            grouped(row.bar),
            row.field or "-",
            f"{row.calldata_bytes:,}",
        )
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)


def grouped(number: float | None) -> str:
    return "-" if number is None else f"{number:,}"


def write(rows: list[Row]) -> None:
    path = ROOT / "build" / "gas.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
