"""What every script needs: who signs, which deployment, amounts, and errors a person can act on.

Networks. Brownie connects by the name of a network it knows, and one entry serves every RPC
address, because Brownie fills environment variables into a host. Enter it once a machine (it is
kept in ~/.brownie):

    brownie networks add Tallystick tallystick host='$TALLYSTICK_RPC_URL' chainid=31337

Then, for any chain (the scripts ask the RPC for its chain id and do not rely on the entry's):

    TALLYSTICK_RPC_URL=http://127.0.0.1:8545 brownie run status --network tallystick

`python scripts/support.py` makes the entry if it is missing and is safe to repeat.

Accounts. TALLYSTICK_PRIVATE_KEY (0x...), else the Brownie keystore account named by
TALLYSTICK_ACCOUNT (`brownie accounts new <name>`; its password is asked for, or read from
TALLYSTICK_PASSWORD), else, on Brownie's own `development` network only, its first account.

Deployments. sdk/tallystick/protocol/deployments/<chain id>.json; for a local chain (31337)
<TALLYSTICK_DEPLOYMENTS>/31337.json, by default build/deployments/31337.json.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from tallystick.protocol.contract_errors import decode_error
from tallystick.protocol.contracts import Call
from tallystick.protocol.messages import Domain
from tallystick.protocol.types import to_address

ROOT = Path(__file__).resolve().parent.parent
SHARED_DEPLOYMENTS = ROOT / "sdk" / "tallystick" / "protocol" / "deployments"
LOCAL_CHAIN_IDS = frozenset({31337, 1337})
NETWORK = "tallystick"
ZERO_ADDRESS = "0x" + "00" * 20
GAS_BUFFER = 1.5
"""Gas is estimated as of one second and spent in another, where the same verb may write a slot
more: a second seat of one second is 17,000 gas cheaper to list. What is not used is not paid."""


class ScriptError(Exception):
    """What is wrong, with which value, and what to do about it; printed without a traceback."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The contracts of one deployment, as Brownie objects."""

    chain_id: int
    token: Any
    staking_token: Any
    escrow: Any
    staking: Any
    market: Any
    court: Any
    registry: Any
    """None in a deployment from before there was one."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A script's `main`: errors made for people end it with their text and exit status 1."""

    @functools.wraps(function)
    def run(*arguments: str) -> None:
        try:
            function(*arguments)
        except ScriptError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except Exception as error:
            sentence = explained(error)
            if sentence is None:
                raise
            print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(1) from None

    return run


def explained(error: Exception) -> str | None:
    """A sentence for what goes wrong on a chain every day; None for a fault of ours."""
    from brownie.exceptions import VirtualMachineError
    from requests.exceptions import ConnectionError as NoConnection
    from web3.exceptions import ContractLogicError

    if isinstance(error, NoConnection):
        return f"no answer from {rpc_url()}: is the chain running? (set TALLYSTICK_RPC_URL)"
    if isinstance(error, VirtualMachineError):
        return f"the contract refused: {error.revert_msg or error}"
    if isinstance(error, ContractLogicError) and isinstance(error.data, str):
        # web3 leaves custom errors as they came.
        refused = decode_error(error.data)
        return f"the contract would refuse: {refused} ({refused.name})"
    text = str(error)
    foreseen = re.match(r"Gas estimation failed: '(.+?)'\. ", text, re.S)
    if foreseen is not None:
        return f"the contract would refuse: {foreseen[1]}"
    if "execution reverted" in text or "insufficient funds" in text:
        return f"the chain refused: {text}"
    return None


def signer() -> Any:
    """The account that sends, from key, keystore or, on a development chain, Brownie's first."""
    from brownie import accounts, network
    from brownie.network.main import gas_buffer

    gas_buffer(GAS_BUFFER)
    key = os.environ.get("TALLYSTICK_PRIVATE_KEY")
    if key:
        try:
            return accounts.add(key)
        except Exception:
            raise ScriptError(
                "TALLYSTICK_PRIVATE_KEY is not a private key: give 32 bytes as 0x and 64 hex digits"
            ) from None
    name = os.environ.get("TALLYSTICK_ACCOUNT")
    if name:
        try:
            return accounts.load(name, password=os.environ.get("TALLYSTICK_PASSWORD"))
        except FileNotFoundError:
            raise ScriptError(
                f"Brownie has no account named {name!r}: see `brownie accounts list`,"
                f" or make it with `brownie accounts new {name}`"
            ) from None
        except ValueError as error:
            raise ScriptError(f"account {name!r} could not be opened: {error}") from None
    if network.show_active() == "development":
        return accounts[0]
    raise ScriptError(
        "no account to send from: set TALLYSTICK_PRIVATE_KEY, or TALLYSTICK_ACCOUNT to a name from"
        " `brownie accounts list`"
    )


def chain_id() -> int:
    from brownie import web3

    return int(web3.eth.chain_id)


def rpc_url() -> str:
    return os.environ.get("TALLYSTICK_RPC_URL", "the network's RPC address")


def deployment_path(of_chain_id: int) -> Path:
    if of_chain_id in LOCAL_CHAIN_IDS:
        folder = Path(os.environ.get("TALLYSTICK_DEPLOYMENTS", ROOT / "build" / "deployments"))
    else:
        folder = SHARED_DEPLOYMENTS
    return folder / f"{of_chain_id}.json"


def read_deployment() -> dict[str, Any] | None:
    path = deployment_path(chain_id())
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise ScriptError(f"{path} is not JSON ({error}): restore it or deploy again") from None


def deployment() -> Deployment:
    """The deployment on the connected chain; refuses one whose contracts are not there."""
    stored = read_deployment()
    if stored is None:
        raise ScriptError(
            f"no deployment is known on chain {chain_id()} ({deployment_path(chain_id())} is not"
            " there): connect to another network with --network, or run `brownie run deploy`"
        )
    for name in ("token", "stakingToken", "escrow", "staking", "market", "court"):
        require_code(stored[name], name)
    registry = stored.get("registry", ZERO_ADDRESS)
    if registry != ZERO_ADDRESS:
        require_code(registry, "registry")
    return Deployment(
        chain_id=chain_id(),
        token=contract_at("TallyToken", stored["token"]),
        staking_token=contract_at("TallyToken", stored["stakingToken"]),
        escrow=contract_at("ComputeEscrow", stored["escrow"]),
        staking=contract_at("ProviderStaking", stored["staking"]),
        market=contract_at("TaskMarket", stored["market"]),
        court=contract_at("DisputeCourt", stored["court"]),
        registry=None if registry == ZERO_ADDRESS else contract_at("AppRegistry", registry),
    )


def contract_at(name: str, address: str) -> Any:
    """A contract of ours, or a token with TallyToken's functions, at a known address.

    Not `Container.at`: it keeps copies of deployments under the network entry's chain id, which
    stands for any chain here, and Brownie 1.22's compiled wheels fail on them.
    """
    from brownie import Contract

    return Contract.from_abi(name, address, container(name).abi, persist=False)


def container(name: str) -> Any:
    from brownie import project

    loaded = project.get_loaded_projects()
    return (loaded[0] if loaded else project.load(ROOT))[name]


def require_code(address: str, name: str) -> None:
    from brownie import web3

    if not web3.eth.get_code(address):
        raise ScriptError(
            f"there is no contract at {address} ({name}) on chain {chain_id()}: the deployment file"
            f" {deployment_path(chain_id())} belongs to another chain, or the local chain was"
            " started anew; run `brownie run deploy`"
        )


def amount_of(text: str, decimals: int, name: str = "amount") -> int:
    """Token units for an amount written by a person ("12.5"); exact, or an error."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ScriptError(f"{name} {text!r} is not a number: write 100 or 12.5") from None
    if not value.is_finite() or value <= 0:
        raise ScriptError(f"{name} {text!r} must be above zero")
    units = value.scaleb(decimals)
    if units != units.to_integral_value() or units >= 2**128:
        raise ScriptError(f"{name} {text!r} does not fit: the token has {decimals} decimals")
    return int(units)


def shown(units: int, token: Any) -> str:
    """An amount for people, all its digits."""
    decimals = token.decimals()
    text = f"{Decimal(units).scaleb(-decimals):f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {token.symbol()}"


def send(sender: Any, call: Call) -> Any:
    """What `tallystick.protocol.contracts` encoded, from the account that sends."""
    return sender.transfer(to=call.to, amount=0, data="0x" + call.data.hex())


def own_key(account: Any) -> str:
    """Of what `signer` answered, for what is signed or derived here and not sent."""
    # Brownie forgets a key that it was given for an account which the RPC has unlocked.
    key = getattr(account, "private_key", None) or os.environ.get("TALLYSTICK_PRIVATE_KEY")
    if not key:
        raise ScriptError(
            f"Brownie does not hold the key of {account}, which has to sign: set"
            " TALLYSTICK_PRIVATE_KEY or TALLYSTICK_ACCOUNT"
        )
    return str(key)


def chain_time() -> int:
    """The newest block's; Brownie's chain.time() is this machine's clock."""
    from brownie import web3

    return int(web3.eth.get_block("latest")["timestamp"])


def domain_of(market: Deployment) -> Domain:
    return Domain(market.chain_id, to_address(market.escrow.address))


def number(units: int, token: Any) -> str:
    """An amount as commands take it."""
    return shown(units, token).split(" ")[0]


def require_balance(token: Any, account: Any, units: int) -> None:
    balance = token.balanceOf(account)
    if balance < units:
        raise ScriptError(
            f"{account} holds {shown(balance, token)}, {shown(units, token)} are needed:"
            f" send it tokens of {token.address} first"
        )


def require_gas_money(account: Any) -> None:
    if account.balance() == 0:
        raise ScriptError(
            f"{account} holds no native coin on chain {chain_id()} and cannot pay for gas: fund it"
        )


def address_of(text: str, name: str) -> str:
    from brownie import web3

    if not web3.is_address(text):
        raise ScriptError(f"{name} {text!r} is not an address: give 0x and 40 hex digits")
    return str(web3.to_checksum_address(text))


def register_network() -> None:
    """Make the network entry that fills in TALLYSTICK_RPC_URL, if Brownie does not have it."""
    from brownie._config import CONFIG

    if NETWORK in CONFIG.networks:
        print(f"Brownie knows the network {NETWORK!r}: {CONFIG.networks[NETWORK]['host']}")
        return
    subprocess.run(
        [
            str(Path(sys.executable).with_name("brownie")),
            *("networks", "add", "Tallystick", NETWORK),
            *("host=$TALLYSTICK_RPC_URL", "chainid=31337"),
        ],
        check=True,
    )


if __name__ == "__main__":
    register_network()
