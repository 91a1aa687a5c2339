"""A chain of one's own: anvil on a free port, the contracts from their exported bytecode, people
with keys.

    with start_anvil() as chain:
        deployment = deploy_market(chain)
        fund(chain, deployment, CONSUMER, 100 * TOKEN)
        deposit(chain, deployment, CONSUMER, 50 * TOKEN)
        stake(chain, deployment, PROVIDER, gpu_ids=("GPU-1", "GPU-2"))
        bind_key(chain, deployment, PROVIDER, OPERATOR)

Everything here is synchronous, for fixtures of any scope; code under test connects to `chain.url`.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from eth_account import Account

from tallystick.protocol import codec, merkle, messages
from tallystick.protocol.contract_errors import decode_error
from tallystick.protocol.contracts import Call, Escrow, Market, Staking, Token
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.events import (
    AppEvent,
    Event,
    RawLog,
    decode_app_log,
    decode_log,
    raw_log,
)
from tallystick.protocol.hashing import keccak256
from tallystick.protocol.messages import OperatorKey
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import ZERO_ADDRESS, Address, Digest, to_address, to_digest

ROOT: Final = Path(__file__).resolve().parents[2]
CHAIN_ID: Final = 31337
TOKEN: Final = 10**18
"""One whole token in its smallest unit."""
STAKE_UNIT: Final = 100 * TOKEN
DAY_S: Final = 86_400

_GAS: Final = 12_000_000
_START_TIMEOUT_S: Final = 20.0
_LISTENING = re.compile(r"Listening on (?P<address>[0-9.]+):(?P<port>\d+)")


# --- people -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    key: str
    address: Address


def person(name: str) -> Person:
    """The same name is always the same key; it is worth nothing anywhere else."""
    key = "0x" + keccak256(f"tallystick test key of {name}".encode()).hex()
    return Person(name, key, address_of(key))


DEPLOYER: Final = person("deployer")
TREASURY: Final = person("treasury")
CONSUMER: Final = person("consumer")
PROVIDER: Final = person("provider")
OPERATOR: Final = person("operator")
"""The provider's hot key."""
OTHER_PROVIDER: Final = person("other provider")
OTHER_OPERATOR: Final = person("other operator")
DISPATCHER: Final = person("dispatcher")
APP_OWNER: Final = person("app owner")
STRANGER: Final = person("stranger")
PEOPLE: Final = (
    DEPLOYER,
    TREASURY,
    CONSUMER,
    PROVIDER,
    OPERATOR,
    OTHER_PROVIDER,
    OTHER_OPERATOR,
    DISPATCHER,
    APP_OWNER,
    STRANGER,
)


# --- the chain --------------------------------------------------------------------------------


class RpcError(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.data = error.get("data")


class LocalChain:
    """A running anvil. Ends with `close`, the `with` block, or at the latest with this process."""

    def __init__(self, process: subprocess.Popen[str], url: str, port: int) -> None:
        self._process = process
        self.url = url
        self.port = port
        self.chain_id = CHAIN_ID

    @property
    def pid(self) -> int:
        return self._process.pid

    def rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        request = urllib.request.Request(
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def head(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def now_s(self) -> int:
        """Time of the newest block."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def wait(self, seconds: int) -> None:
        """The chain's clock goes on by so much, at once."""
        self.set_time(self.now_s() + seconds)

    def set_time(self, unix_s: int) -> None:
        self.rpc("evm_setNextBlockTimestamp", hex(unix_s))
        self.mine()

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """What waits in the pool goes too: it would be mined upon a past it was not made for."""
        # anvil answers a receipt a moment before the mined transaction leaves its pool. Going back
        # in that moment, the next nonce it tells is one too high, and nothing is mined with it.
        until = time.monotonic() + 1
        while int(self.rpc("txpool_status")["pending"], 16) and time.monotonic() < until:
            time.sleep(0.005)
        self.rpc("anvil_dropAllTransactions")
        if not self.rpc("evm_revert", snapshot):
            raise RuntimeError(f"anvil does not know the snapshot {snapshot}")

    def reorg(self, depth: int) -> None:
        """The newest `depth` blocks are replaced by as many empty ones."""
        self.rpc("anvil_reorg", depth, [])

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start_anvil(*, block_time_s: int | None = None, chain_id: int = CHAIN_ID) -> LocalChain:
    """Mines a block for each transaction, or every `block_time_s`. All of `PEOPLE` have ether."""
    command = [str(anvil_program()), "--port", "0", "--chain-id", str(chain_id), "--accounts", "1"]
    if block_time_s is not None:
        command += ["--block-time", str(block_time_s)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    try:
        port = _listening_port(process)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    chain = LocalChain(process, f"http://127.0.0.1:{port}", port)
    chain.chain_id = chain_id
    atexit.register(chain.close)
    for someone in PEOPLE:
        give_ether(chain, someone.address)
    return chain


def anvil_program() -> Path:
    """The program itself, not its wrapper: killing a wrapper would leave the chain running."""
    found = sorted((ROOT / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil"))
    if not found:
        raise RuntimeError("anvil is not installed: run `make setup`")
    return found[0]


def give_ether(chain: LocalChain, address: Address, ether: int = 1_000) -> None:
    chain.rpc("anvil_setBalance", address, hex(ether * 10**18))


# --- transactions -----------------------------------------------------------------------------


def send(chain: LocalChain, sender: Person, call: Call) -> dict[str, Any]:
    """The mined receipt; raises the contract's `ContractError` when it refuses."""
    return _transact(chain, sender, call.to, call.data)


def emitted(chain: LocalChain, deployment: Deployment, receipt: dict[str, Any]) -> list[Event]:
    """The events of our contracts in a mined transaction, in order."""
    time_s = time_of(chain, receipt)
    found = (decode_log(log, deployment, time_s) for log in logs_of(receipt))
    return [event for event in found if event is not None]


def emitted_apps(
    chain: LocalChain, deployment: Deployment, receipt: dict[str, Any]
) -> list[AppEvent]:
    """The same for what the registry tells."""
    time_s = time_of(chain, receipt)
    found = (decode_app_log(log, deployment, time_s) for log in logs_of(receipt))
    return [event for event in found if event is not None]


def time_of(chain: LocalChain, receipt: dict[str, Any]) -> int:
    block = chain.rpc("eth_getBlockByNumber", receipt["blockNumber"], False)
    return int(block["timestamp"], 16)


def logs_of(receipt: dict[str, Any]) -> list[RawLog]:
    return [
        raw_log(
            {
                "address": log["address"],
                "topics": [bytes.fromhex(topic[2:]) for topic in log["topics"]],
                "data": bytes.fromhex(log["data"][2:]),
                "blockNumber": int(log["blockNumber"], 16),
                "blockHash": bytes.fromhex(log["blockHash"][2:]),
                "transactionHash": bytes.fromhex(log["transactionHash"][2:]),
                "logIndex": int(log["logIndex"], 16),
            }
        )
        for log in receipt["logs"]
    ]


def read(chain: LocalChain, call: Call, sender: Address = ZERO_ADDRESS) -> bytes:
    """`eth_call` on the newest block."""
    try:
        answer = chain.rpc(
            "eth_call", {"from": sender, "to": call.to, "data": "0x" + call.data.hex()}, "latest"
        )
    except RpcError as failure:
        if isinstance(failure.data, str):
            raise decode_error(failure.data) from failure
        raise
    return bytes.fromhex(answer[2:])


def _transact(chain: LocalChain, sender: Person, to: Address | None, data: bytes) -> dict[str, Any]:
    transaction = {
        "type": 2,
        "chainId": chain.chain_id,
        "nonce": int(chain.rpc("eth_getTransactionCount", sender.address, "pending"), 16),
        "data": data,
        "value": 0,
        "gas": _GAS,
        "maxFeePerGas": 10**12,
        "maxPriorityFeePerGas": 0,
        **({"to": to} if to else {}),
    }
    raw = Account.sign_transaction(transaction, sender.key).raw_transaction
    tx_hash = chain.rpc("eth_sendRawTransaction", "0x" + bytes(raw).hex())
    receipt = _wait_mined(chain, tx_hash)
    if int(receipt["status"], 16) != 1:
        where = hex(int(receipt["blockNumber"], 16) - 1)
        call = {"from": sender.address, "data": "0x" + data.hex(), "gas": hex(_GAS)}
        try:
            chain.rpc("eth_call", {**call, **({"to": to} if to else {})}, where)
        except RpcError as failure:
            raise decode_error(str(failure.data or "0x")) from failure
        raise RuntimeError(
            f"transaction {tx_hash} was refused, and would not be on the block before"
        )
    return receipt


def _wait_mined(chain: LocalChain, tx_hash: str) -> dict[str, Any]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        receipt: dict[str, Any] | None = chain.rpc("eth_getTransactionReceipt", tx_hash)
        if receipt is not None:
            return receipt
        time.sleep(0.02)
    raise TimeoutError(f"transaction {tx_hash} was not mined")


# --- the contracts ----------------------------------------------------------------------------


def deploy_market(
    chain: LocalChain,
    *,
    stake_unit: int = STAKE_UNIT,
    protocol_fee_bps: int = 100,
    pool_share_bps: int = 5_000,
    close_seconds: int = 3 * DAY_S,
    supply: int = 10**9 * TOKEN,
    unbonding_seconds: int = 21 * DAY_S,
    retired_key_seconds: int = 7 * DAY_S,
    commission_notice_seconds: int = 7 * DAY_S,
    jail_seconds: int = 7 * DAY_S,
    stream_seconds: int = 7 * DAY_S,
    cancel_seconds: int = 3_600,
    min_challenge_seconds: int = DAY_S,
    max_challenge_seconds: int = 7 * DAY_S,
    court_seconds: int = 6 * DAY_S,
    bond_floor: int = 3 * TOKEN,
    commit_seconds: int = DAY_S,
    reveal_seconds: int = DAY_S,
    seat_seconds: int = DAY_S,
    with_court: bool = True,
    notice_seconds: int = DAY_S,
) -> Deployment:
    """As `scripts/deploy.py` does, without a compiler. The deployer holds all tokens at first."""
    token = _deploy(chain, "TallyToken", DEPLOYER.address, supply)
    nonce = int(chain.rpc("eth_getTransactionCount", DEPLOYER.address, "pending"), 16)
    # Neighbours know each other from their constructors: their addresses are computed before.
    staking_to_be = _address_at(DEPLOYER.address, nonce + 1)
    market_to_be = _address_at(DEPLOYER.address, nonce + 2)
    court = _address_at(DEPLOYER.address, nonce + 3) if with_court else ZERO_ADDRESS
    escrow = _deploy(
        chain,
        "ComputeEscrow",
        token,
        market_to_be,
        staking_to_be,
        TREASURY.address,
        protocol_fee_bps,
        pool_share_bps,
        close_seconds,
    )
    block = chain.head()
    clocks = (
        unbonding_seconds,
        retired_key_seconds,
        commission_notice_seconds,
        jail_seconds,
        stream_seconds,
    )
    staking = _deploy(chain, "ProviderStaking", token, escrow, court, stake_unit, clocks)
    windows = (cancel_seconds, min_challenge_seconds, max_challenge_seconds, court_seconds)
    market = _deploy(chain, "TaskMarket", escrow, staking, court, windows, bond_floor)
    if market != market_to_be:
        raise RuntimeError(f"the market is at {market}, the escrow expects it at {market_to_be}")
    if with_court:
        hearings = (commit_seconds, reveal_seconds, seat_seconds)
        _deploy(chain, "DisputeCourt", market, staking, escrow, hearings)
    registry = _deploy(chain, "AppRegistry", notice_seconds)
    return Deployment(
        chain_id=chain.chain_id,
        token=token,
        staking_token=token,
        escrow=escrow,
        market=market,
        staking=staking,
        court=court,
        treasury=TREASURY.address,
        deployer=DEPLOYER.address,
        block=block,
        protocol_fee_bps=protocol_fee_bps,
        pool_share_bps=pool_share_bps,
        close_seconds=close_seconds,
        stake_unit=stake_unit,
        unbonding_seconds=unbonding_seconds,
        retired_key_seconds=retired_key_seconds,
        commission_notice_seconds=commission_notice_seconds,
        jail_seconds=jail_seconds,
        stream_seconds=stream_seconds,
        cancel_seconds=cancel_seconds,
        min_challenge_seconds=min_challenge_seconds,
        max_challenge_seconds=max_challenge_seconds,
        court_seconds=court_seconds,
        bond_floor=bond_floor,
        commit_seconds=commit_seconds,
        reveal_seconds=reveal_seconds,
        seat_seconds=seat_seconds,
        registry=registry,
        notice_seconds=notice_seconds,
    )


def fund(chain: LocalChain, deployment: Deployment, someone: Person, amount: int) -> None:
    """Tokens from the deployer into the wallet."""
    send(chain, DEPLOYER, _token(deployment).transfer(someone.address, amount))


def deposit(chain: LocalChain, deployment: Deployment, someone: Person, amount: int) -> None:
    """From the wallet into the person's escrow account."""
    send(chain, someone, _token(deployment).approve(deployment.escrow, amount))
    send(chain, someone, Escrow(_NO_WEB3, deployment.escrow).deposit(someone.address, amount))


def stake(
    chain: LocalChain,
    deployment: Deployment,
    provider: Person,
    *,
    gpu_ids: Sequence[str] = ("GPU-0",),
    units: int | None = None,
) -> None:
    """Funds, stakes one unit a GPU (or `units`) and registers the GPUs."""
    amount = deployment.stake_unit * (max(1, len(gpu_ids)) if units is None else units)
    staking = Staking(_NO_WEB3, deployment.staking)
    fund(chain, deployment, provider, amount)
    send(chain, provider, _token(deployment).approve(deployment.staking, amount))
    send(chain, provider, staking.stake(amount))
    if gpu_ids:
        send(chain, provider, staking.register_gpus(merkle.gpu_set_root(gpu_ids), len(gpu_ids)))


def bind_key(chain: LocalChain, deployment: Deployment, provider: Person, key: Person) -> None:
    """`key` becomes an operator key of `provider`."""
    consent = messages.sign(deployment.domain, OperatorKey(provider.address, key.address), key.key)
    call = Staking(_NO_WEB3, deployment.staking).bind_operator_key(key.address, consent)
    send(chain, provider, call)


def market_of(deployment: Deployment) -> Market:
    """For calldata only: it has no connection to read with."""
    return Market(_NO_WEB3, deployment.market)


_NO_WEB3: Final[Any] = None


def _token(deployment: Deployment) -> Token:
    return Token(_NO_WEB3, deployment.token)


def _deploy(chain: LocalChain, contract: codec.ContractName, *values: Any) -> Address:
    receipt = _transact(chain, DEPLOYER, None, codec.constructor_data(contract, *values))
    return to_address(receipt["contractAddress"])


def _address_at(creator: Address, nonce: int) -> Address:
    # RLP of [creator, nonce]; these nonces fit one byte.
    if not 0 <= nonce < 0x80:
        raise ValueError(f"nonce {nonce} does not fit this short form")
    digest = keccak256(b"\xd6\x94" + bytes.fromhex(creator[2:]) + bytes([nonce or 0x80]))
    return to_address("0x" + digest[12:].hex())


def _listening_port(process: subprocess.Popen[str]) -> int:
    """Anvil took any free port and prints it; later output is read away so that it never blocks."""
    assert process.stdout is not None
    timer = threading.Timer(_START_TIMEOUT_S, process.kill)
    timer.start()
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := _LISTENING.search(line):
                threading.Thread(target=_read_away, args=(process,), daemon=True).start()
                return int(found["port"])
    finally:
        timer.cancel()
    raise RuntimeError("anvil did not start:\n" + "".join(lines[-20:]))


def _read_away(process: subprocess.Popen[str]) -> None:
    try:
        for _ in process.stdout or ():
            pass
    except ValueError:
        return  # closed


def digest_of_word(value: int) -> Digest:
    """A digest-shaped number, for fields whose content does not matter."""
    return to_digest(value.to_bytes(32, "big"))
