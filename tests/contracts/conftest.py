"""People, contracts in the order of their dependencies, and what they sign.

Run with `make test-contracts`, or `brownie test tests/contracts`. A chain of its own is started on
a free port, by the anvil that package-lock.json pins, and talked to through a socket.
"""

from __future__ import annotations

import gc
import importlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from brownie import Contract, accounts, chain, web3
from web3 import IPCProvider
from web3.exceptions import TransactionNotFound, Web3RPCError

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.contracts.channels import Till  # noqa: E402
from tests.contracts.pools import Pools  # noqa: E402
from tests.contracts.stage import (  # noqa: E402
    BOND_FLOOR,
    CLOCKS,
    CLOSE_S,
    DAY_S,
    POOL_SHARE_BPS,
    TALLY,
    UNIT,
    Stage,
)

MNEMONIC = "test test test test test test test test test test test junk"
SENDS = 5
MINED_WITHIN_S = 2.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Before Brownie connects, which it does after collecting the tests. (Not imported by a statement:
# Brownie hashes what a conftest imports, and cannot read its own compiled modules.)
DEVELOPMENT = importlib.import_module("brownie._config").CONFIG.networks["development"]
os.environ["PATH"] = f"{ROOT / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
SOCKET = Path(tempfile.gettempdir()) / f"tallystick-contracts-{os.getpid()}.ipc"
DEVELOPMENT["cmd"] = f"anvil --hardfork prague --ipc {SOCKET}"
DEVELOPMENT["cmd_settings"].update(port=free_port(), gas_limit=60_000_000)


@pytest.fixture(autouse=True)
def isolation() -> Iterator[None]:
    """Every test starts from the deployed contracts. (Brownie's own `fn_isolation` would deploy
    them anew for each module.)"""
    chain.snapshot()
    yield
    chain.revert()


@pytest.fixture(scope="session")
def people() -> list[Any]:
    """Accounts whose keys are known, so that they can sign."""
    return list(accounts.from_mnemonic(MNEMONIC, count=12))


@pytest.fixture(scope="session")
def deployer(people: list[Any]) -> Any:
    return people[0]


@pytest.fixture(scope="session")
def consumer(people: list[Any]) -> Any:
    return people[1]


@pytest.fixture(scope="session")
def provider(people: list[Any]) -> Any:
    return people[2]


@pytest.fixture(scope="session")
def operator(people: list[Any]) -> Any:
    """The provider's hot key."""
    return people[3]


@pytest.fixture(scope="session")
def dispatcher(people: list[Any]) -> Any:
    return people[4]


@pytest.fixture(scope="session")
def session_key(people: list[Any]) -> Any:
    """Accepts results for the consumer, where terms name it."""
    return people[5]


@pytest.fixture(scope="session")
def app_owner(people: list[Any]) -> Any:
    return people[6]


@pytest.fixture(scope="session")
def treasury(people: list[Any]) -> Any:
    return people[7]


@pytest.fixture(scope="session")
def stranger(people: list[Any]) -> Any:
    return people[8]


@pytest.fixture(scope="session")
def other_provider(people: list[Any]) -> Any:
    return people[9]


@pytest.fixture(scope="session")
def delegator(people: list[Any]) -> Any:
    return people[10]


@pytest.fixture(scope="session")
def token(deployer: Any, consumer: Any, provider: Any, other_provider: Any, delegator: Any) -> Any:
    from brownie import TallyToken

    token = deployer.deploy(TallyToken, deployer, 10**9 * TALLY)
    for person in (consumer, provider, other_provider, delegator):
        token.transfer(person, 100_000 * TALLY, {"from": deployer})
    return token


@pytest.fixture(scope="session")
def neighbours(deployer: Any, token: Any, treasury: Any) -> tuple[Any, Any, Any]:
    return deploy_neighbours(deployer, token, treasury)


def deploy_neighbours(deployer: Any, token: Any, treasury: Any) -> tuple[Any, Any, Any]:
    """Escrow, staking and market, and the court that they name."""
    from brownie import DisputeCourt

    escrow, staking, market = deploy_three(deployer, token, treasury)
    deployer.deploy(DisputeCourt, market, staking, escrow, (DAY_S, DAY_S, DAY_S))
    return escrow, staking, market


def deploy_three(deployer: Any, token: Any, treasury: Any) -> tuple[Any, Any, Any]:
    """Escrow, staking and market, each told the others' addresses before they existed; the court
    they name would be the deployer's next contract."""
    from brownie import ComputeEscrow, ProviderStaking, TaskMarket

    staking, market, court = (
        deployer.get_deployment_address(deployer.nonce + n) for n in (1, 2, 3)
    )
    fees = (100, POOL_SHARE_BPS)
    escrow = deployer.deploy(ComputeEscrow, token, market, staking, treasury, *fees, CLOSE_S)
    staking = deployer.deploy(ProviderStaking, token, escrow, court, UNIT, CLOCKS)
    windows = (3_600, DAY_S, 7 * DAY_S, 6 * DAY_S)
    market = deployer.deploy(TaskMarket, escrow, staking, court, windows, BOND_FLOOR)
    return escrow, staking, market


@pytest.fixture(scope="session")
def escrow(neighbours: tuple[Any, Any, Any]) -> Any:
    return neighbours[0]


@pytest.fixture(scope="session")
def staking(neighbours: tuple[Any, Any, Any]) -> Any:
    return neighbours[1]


@pytest.fixture(scope="session")
def market(neighbours: tuple[Any, Any, Any]) -> Any:
    return neighbours[2]


@pytest.fixture(scope="session")
def court(market: Any) -> Any:
    from brownie import DisputeCourt

    return DisputeCourt.at(market.court())


@pytest.fixture
def judge(court: Any) -> Any:
    """The court's own voice, for what only it may say."""
    from brownie import accounts, web3

    web3.provider.make_request("anvil_setBalance", [court.address, hex(10**20)])
    return accounts.at(court.address, force=True)


@pytest.fixture(scope="session")
def harness(deployer: Any, escrow: Any) -> Any:
    from brownie import Harness

    return deployer.deploy(Harness, escrow)


@pytest.fixture(scope="session")
def stage(
    token: Any,
    escrow: Any,
    staking: Any,
    market: Any,
    consumer: Any,
    provider: Any,
    operator: Any,
    dispatcher: Any,
) -> Stage:
    """A consumer with 1,000 in the escrow, a provider with stake for four GPUs and a hot key."""
    stage = Stage(token, escrow, staking, market, consumer, provider, operator, dispatcher)
    stage.deposit(consumer, 1_000 * TALLY)
    token.approve(staking, 4 * UNIT, {"from": provider})
    staking.stake(4 * UNIT, {"from": provider})
    staking.bindOperatorKey(operator, stage.consent(provider, operator), {"from": provider})
    return stage


@pytest.fixture(scope="session")
def till(stage: Stage, session_key: Any) -> Till:
    """The consumer's channels with the provider, signed for by the session key."""
    return Till(stage, session_key)


@pytest.fixture
def pools(stage: Stage, delegator: Any, judge: Any) -> Pools:
    return Pools(stage, delegator, judge)


@pytest.fixture
def wallet(deployer: Any, consumer: Any, token: Any, escrow: Any) -> Any:
    """A consumer that is a contract, owned by `consumer`, with 100 in the escrow."""
    from brownie import ContractWallet

    wallet = deployer.deploy(ContractWallet, consumer)
    token.approve(escrow, 100 * TALLY, {"from": consumer})
    escrow.deposit(wallet, 100 * TALLY, {"from": consumer})
    return wallet


def contract_at(name: str, address: str, abi: list[Any]) -> Any:
    return Contract.from_abi(name, address, abi, persist=False)


@pytest.fixture(scope="session", autouse=True)
def quick_questions() -> Iterator[None]:
    """Half of Brownie's time goes into HTTP, for a session and a connection in each thread; a sixth
    into looking for garbage among all compiled contracts, which it does at every `revert`."""
    web3.provider = IPCProvider(str(SOCKET), timeout=60)
    web3.reset_middlewares()
    gc.collect()
    gc.freeze()
    yield
    SOCKET.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def sure_sends(quick_questions: None) -> Iterator[None]:
    """anvil may take a transaction and answer with its hash, and then, seldom, mine an empty block
    and know nothing of it; or it finds it only a moment later, or keeps it in its pool. Brownie
    waits for ever for the first and the last, and calls the second dropped. Here a send returns
    when its transaction is mined: one that lies in the pool gets a block, and one that got lost is
    sent again, since its nonce lets it be mined only once."""
    originals = (web3.eth.send_raw_transaction, web3.eth.send_transaction)
    web3.eth.send_raw_transaction, web3.eth.send_transaction = map(until_mined, originals)
    yield
    web3.eth.send_raw_transaction, web3.eth.send_transaction = originals


def until_mined(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def surely(transaction: Any) -> Any:
        tx_hash = send(transaction)
        if not request("anvil_getAutomine"):
            return tx_hash  # the test mines by hand
        for _ in range(SENDS):
            if is_mined(tx_hash):
                return tx_hash
            with suppress(Web3RPCError, ValueError):  # it is known after all
                send(transaction)
            request("evm_mine")
        raise RuntimeError(f"anvil did not mine {tx_hash.hex()}, sent {SENDS} times: {transaction}")

    return surely


def request(method: str) -> Any:
    return web3.provider.make_request(method, []).get("result")


def is_mined(tx_hash: Any) -> bool:
    deadline = time.monotonic() + MINED_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(TransactionNotFound):
            web3.eth.get_transaction_receipt(tx_hash)
            return True
        time.sleep(0.01)
    return False
