"""The local market: `up` starts everything in order, `down` ends it and leaves nothing behind.

    anvil -> contracts (Brownie scripts) -> NATS -> backend -> stake (Brownie scripts) -> agents

Keys, logs, databases and the ports in use lie in one directory; `state.json` there lets another
process (`tallystick dev down`) find what was started.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tallystick.devnet import images, leftovers, people
from tallystick.devnet.keeper import Keeper
from tallystick.devnet.processes import (
    DevnetError,
    Running,
    Service,
    clean_environment,
    end_process,
    free_port,
    program,
)
from tallystick.devnet.scripts import Scripts, checkout
from tallystick.scaffold import write_project

Runtime = Literal["docker", "process"]
Report = Callable[[str, str], None]
"""Called with a step's name and what it came to, for whoever draws progress."""

_CHAIN_ID = 31337
FIRST_APP = "hello"
_START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class ProviderPlan:
    """What one provider brings."""

    gpus: int = 4
    gpu_class: str = "gpu1"
    gpu_memory_mib: int = 24_576
    rate_per_gpu_second: int = 138_888_888_888_888
    """0.5 tokens an hour, in the smallest unit per GPU-second, rounded down."""


@dataclass(frozen=True)
class MarketPlan:
    """What the local market should look like."""

    directory: Path
    providers: tuple[ProviderPlan, ...] = (ProviderPlan(), ProviderPlan())
    runtime: Runtime | None = None
    """None: Docker where an engine answers, else the development runtime."""
    block_seconds: int = 1
    """0 mines a block for each transaction and no others."""
    lease_seconds: int = 12
    """A killed provider is replaced after so long; one that a busy machine lets wait is not."""
    lease_margin_seconds: int = 1
    acceptance_wait_seconds: int = 30
    orphan_grace_seconds: int = 5
    finality_blocks: int = 64
    database_url: str | None = None
    """None: SQLite inside the directory."""
    backend_port: int = 0
    rpc_port: int = 0
    """0 takes a free port."""


@dataclass
class LocalMarket:
    """A market that was planned; `up()` makes it real."""

    plan: MarketPlan
    report: Report = lambda _step, _detail: None
    services: dict[str, Service] = field(default_factory=dict)
    rpc_url: str = ""
    nats_url: str = ""
    url: str = ""
    runtime: Runtime = "process"
    image: str = "process"
    _keeper: Keeper | None = field(default=None, repr=False)
    _scripts: Scripts | None = field(default=None, repr=False)

    # --- the whole way -----------------------------------------------------------------------

    def up(self) -> None:
        """Starts everything; on any failure ends what was started and raises `DevnetError`."""
        if (self.plan.directory / "state.json").exists():
            raise DevnetError(
                f"A market is already up in {self.plan.directory}.",
                next_step="End it with `make down`, then try again.",
            )
        try:
            self._prepare()
            self.start_chain()
            self._deploy()
            self.start_bus()
            self.start_backend()
            for number in range(1, len(self.plan.providers) + 1):
                self.stake_provider(number)
                self.start_provider(number)
            self._save()
        except BaseException:
            self.down()
            raise
        self._end_scripts()

    def down(self) -> None:
        """Ends every program we started, last one first. Keeps the directory and its logs."""
        self._end_scripts()
        for service in reversed(self.services.values()):
            service.stop()
        self.services.clear()
        leftovers.sweep(self.plan.directory)
        (self.plan.directory / "state.json").unlink(missing_ok=True)
        self._let_keeper_go()

    def leave(self, while_runs: Running | None = None) -> None:
        """Leaves it up behind us: until `end`, or until this process ends, however it does."""
        if while_runs is not None and self._keeper is not None:
            self._keeper.keep_while(while_runs)
            self._keeper = None
        self._let_keeper_go()

    def _let_keeper_go(self) -> None:
        if self._keeper is not None:
            self._keeper.release()
            self._keeper = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # --- the steps ---------------------------------------------------------------------------

    def _prepare(self) -> None:
        directory = self.plan.directory
        leftovers.unmount(directory)
        shutil.rmtree(directory, ignore_errors=True)
        for folder in ("keys", "logs", "deployments", "apps"):
            (directory / folder).mkdir(parents=True)
        everybody = [people.DEPLOYER, people.DISPATCHER, people.CONSUMER, people.TREASURY]
        for number in range(1, len(self.plan.providers) + 1):
            everybody += [people.provider(number), people.operator(number)]
        for who in everybody:
            write_secret(self.key_file(who), who.private_key)
        self.runtime = self.plan.runtime or ("docker" if images.engine_answers() else "process")
        if self.runtime == "docker":
            self.image = images.python_image(report=self.report)
        else:
            # What the dApp's first template publishes: with no images, its code has to lie here.
            write_project(FIRST_APP, self.apps_dir / FIRST_APP)
        self.report("runtime", f"{self.runtime}, image {self.image[:24]}")

    def start_chain(self) -> None:
        """Starts anvil, or starts it again on the same port, where `stop_chain` left it."""
        if not self.rpc_url:
            self.rpc_url = f"http://127.0.0.1:{self.plan.rpc_port or free_port()}"
        port = self.rpc_url.rsplit(":", 1)[1]
        argv = [program("anvil", checkout() / "node_modules" / ".bin")]
        argv += ["--host", "127.0.0.1", "--port", port, "--chain-id", str(_CHAIN_ID)]
        argv += ["--accounts", str(people.ACCOUNTS_NEEDED), "--hardfork", "prague", "--silent"]
        if self.plan.block_seconds:
            argv += ["--block-time", str(self.plan.block_seconds), "--mixed-mining"]
        if self._chain_file.exists():
            argv += ["--load-state", str(self._chain_file)]
        service = self._service("anvil", argv, {})
        service.start()
        service.wait_until(lambda: self._chain_answers(), _START_TIMEOUT_S)
        self.report("chain", f"anvil, chain {_CHAIN_ID}, {self.rpc_url}")

    def stop_chain(self) -> None:
        """Ends anvil so that `start_chain` goes on at the same block.

        Its own `--state` leaves half a file when it is ended while it writes one, so the state is
        asked for and written here. Mining ends first: nothing is mined that is not in the file.
        """
        self.rpc("evm_setIntervalMining", 0)
        packed = bytes.fromhex(self.rpc("anvil_dumpState", timeout_s=60.0).removeprefix("0x"))
        replace_file(self._chain_file, gzip.decompress(packed))
        self.services["anvil"].stop()

    def _deploy(self) -> None:
        self.run_script("deploy", people.DEPLOYER, TALLYSTICK_TREASURY=people.TREASURY.address)
        self.run_script("fund", people.DEPLOYER, people.CONSUMER.address, "1000")
        found = self.deployment()
        self.report("contracts", f"escrow {found['escrow']}, market {found['market']}")

    def start_bus(self) -> None:
        """Starts NATS, or starts it again on the same port."""
        if not self.nats_url:
            self.nats_url = f"nats://127.0.0.1:{free_port()}"
        port = int(self.nats_url.rsplit(":", 1)[1])
        config = subprocess.run(
            [program("tallystick-backend"), "nats-config"],
            env=clean_environment(self.backend_environment()),
            capture_output=True,
            text=True,
            check=False,
        )
        if config.returncode != 0:
            raise DevnetError(f"The NATS configuration could not be made.\n{config.stderr}")
        path = self.plan.directory / "nats.conf"
        write_secret(path, config.stdout)
        service = self._service("nats", [program("nats-server"), "-c", str(path)], {})
        service.start()
        service.wait_until(lambda: port_answers(port), _START_TIMEOUT_S)
        self.report("message bus", self.nats_url)

    def start_backend(self) -> None:
        """Starts the backend, or starts it again on the same database and port."""
        argv = [program("tallystick-backend"), "serve"]
        service = self._service("backend", argv, self.backend_environment())
        service.start()
        service.wait_until(lambda: http_ok(f"{self.url}/readyz"), _START_TIMEOUT_S)
        self.report("backend", self.url)

    def stake_provider(self, number: int) -> None:
        """Gives provider `number` its stake, operator key and registered GPUs, by the scripts."""
        plan = self.plan.providers[number - 1]
        cold, hot = people.provider(number), people.operator(number)
        self.run_script("fund", people.DEPLOYER, cold.address, "10000")
        self.run_script("stake", cold, f"{max(1, plan.gpus)}gpus")
        # The agent gives its simulated cards these ids; `tallystick-provider doctor` lists them.
        ids = [f"SIM-{cold.address[2:].lower()}-{index}" for index in range(plan.gpus)]
        self.run_script("register_gpus", cold, *ids, TALLYSTICK_OPERATOR_KEY=hot.private_key)
        self.report(f"provider {number}", f"{cold.address} staked for {plan.gpus} GPUs")

    def start_provider(self, number: int) -> None:
        """Starts the agent of provider `number`, or starts it again on the same journal."""
        argv = [program("tallystick-provider"), "start"]
        service = self._service(f"provider-{number}", argv, self.provider_environment(number))
        service.start()
        service.wait_until(lambda: self._provider_online(number), _START_TIMEOUT_S)
        self.report(f"agent {number}", f"online, {self.runtime} runtime")

    # --- what the programs are told ----------------------------------------------------------

    def backend_environment(self) -> dict[str, str]:
        if not self.url:
            self.url = f"http://127.0.0.1:{self.plan.backend_port or free_port()}"
        directory = self.plan.directory
        settings = {
            "DATABASE_URL": self.plan.database_url
            or f"sqlite+aiosqlite:///{directory / 'backend.db'}",
            "RPC_URL": self.rpc_url,
            "DEPLOYMENT": str(self.deployment_file),
            "NATS_URL": self.nats_url,
            "PROVIDER_NATS_URL": self.nats_url,
            "NATS_ISSUER_SEED": self._nats_seed(),
            "DISPATCHER_KEY_FILE": str(self.key_file(people.DISPATCHER)),
            "LEASE_SECONDS": str(self.plan.lease_seconds),
            "LEASE_MARGIN_SECONDS": str(self.plan.lease_margin_seconds),
            "ORPHAN_GRACE_SECONDS": str(self.plan.orphan_grace_seconds),
            "BLOB_DIR": str(directory / "blobs"),
            "PUBLIC_URL": self.url,
            "DAPP_DIR": str(checkout() / "dapp" / "dist"),
            "NETWORK_NAME": "Tallystick local market",
            "BROWSER_RPC_URL": self.rpc_url,
            "HOST": "127.0.0.1",
            "PORT": self.url.rsplit(":", 1)[1],
            "POLL_MS": "250",
            "FINALITY_BLOCKS": str(self.plan.finality_blocks),
            "ALLOW_PROCESS_RUNTIME": "true" if self.runtime == "process" else "false",
        }
        return {f"TALLYSTICK_BACKEND_{name}": value for name, value in settings.items()}

    def provider_environment(self, number: int) -> dict[str, str]:
        plan = self.plan.providers[number - 1]
        settings = {
            "ADDRESS": people.provider(number).address,
            "KEY_FILE": str(self.key_file(people.operator(number))),
            "RPC_URL": self.rpc_url,
            "DEPLOYMENT": str(self.deployment_file),
            "NATS_URL": self.nats_url,
            "DATA_DIR": str(self.plan.directory / f"provider-{number}"),
            "RUNTIME": self.runtime,
            # A development machine's engine is as old as its distribution.
            "RUNC_ACCEPTED": "any",
            "GPUS": f"simulated:{plan.gpus}x{plan.gpu_class}:{plan.gpu_memory_mib}",
            "RATE": f"{plan.gpu_class}={plan.rate_per_gpu_second},=0",
            "CPU_MILLI": "4000",
            "MEMORY_MIB": "4096",
            "DISK_MIB": "8192",
            "ACCEPTANCE_WAIT_SECONDS": str(self.plan.acceptance_wait_seconds),
        }
        if self.runtime == "process":
            settings["APPS_DIR"] = str(self.apps_dir)
        return {f"TALLYSTICK_PROVIDER_{name}": value for name, value in settings.items()}

    def client_settings(self) -> dict[str, str]:
        """Arguments for `GPUClient`, to act as the local consumer."""
        return {
            "url": self.url,
            "rpc_url": self.rpc_url,
            "private_key": people.CONSUMER.private_key,
            "deployment": str(self.deployment_file),
        }

    def consumer_environment(self) -> dict[str, str]:
        """What the SDK and the command line need to act as the local consumer."""
        return {
            "TALLYSTICK_URL": self.url,
            "TALLYSTICK_RPC_URL": self.rpc_url,
            "TALLYSTICK_KEY_FILE": str(self.key_file(people.CONSUMER)),
            "TALLYSTICK_DEPLOYMENT": str(self.deployment_file),
        }

    def run_script(
        self,
        name: str,
        who: people.Person,
        *arguments: str,
        function: str = "main",
        **environment: str,
    ) -> str:
        """Runs `scripts/<name>.py` in Brownie as `who`; returns what it says.

        Raises `DevnetError` with its last words when it ends with a failure.
        """
        log = self.plan.directory / "logs" / "scripts.log"
        if self._scripts is None:
            self._scripts = Scripts(
                self.rpc_url, self.deployment_file.parent, log, chain_id=_CHAIN_ID
            )
        ran = self._scripts.run(name, who.private_key, *arguments, function=function, **environment)
        with log.open("a") as file:
            file.write(f"--- {name} {function} {' '.join(arguments)} as {who.name}\n{ran.said}\n")
        if ran.status != 0:
            tail = "\n".join(ran.said.splitlines()[-12:])
            raise DevnetError(
                f"scripts/{name}.py failed.\n{tail}", next_step=f"The whole log is in {log}."
            )
        return ran.said

    def _end_scripts(self) -> None:
        """Brownie takes memory that the market itself does not need; the next script starts it."""
        if self._scripts is not None:
            self._scripts.close()
            self._scripts = None

    # --- where things are --------------------------------------------------------------------

    @property
    def deployment_file(self) -> Path:
        return self.plan.directory / "deployments" / f"{_CHAIN_ID}.json"

    @property
    def apps_dir(self) -> Path:
        """Where the development runtime finds the code of an app, in a folder of its name. `hello`
        lies there from the start."""
        return self.plan.directory / "apps"

    @property
    def _chain_file(self) -> Path:
        return self.plan.directory / "chain.json"

    def deployment(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.deployment_file.read_text())
        return loaded

    @property
    def has_dapp(self) -> bool:
        """Whether the backend's address shows pages: they were built before."""
        return (checkout() / "dapp" / "dist" / "index.html").is_file()

    def key_file(self, who: people.Person) -> Path:
        return self.plan.directory / "keys" / who.name

    def rpc(self, method: str, *params: Any, timeout_s: float = 10.0) -> Any:
        """One JSON-RPC call to the local chain; tests use it for anvil's own methods."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        request = urllib.request.Request(
            self.rpc_url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise DevnetError(f"{method} was refused by the chain: {reply['error']}")
        return reply["result"]

    def _service(self, name: str, argv: list[str], env: dict[str, str]) -> Service:
        directory = self.plan.directory
        log = directory / "logs" / f"{name}.log"
        if self._keeper is None:
            self._keeper = Keeper(directory)
        service = Service(name, argv, env, directory, log, on_start=self._keeper.started)
        self.services[name] = service
        return service

    def _chain_answers(self) -> bool:
        try:
            return int(self.rpc("eth_chainId"), 16) == _CHAIN_ID
        except (OSError, ValueError):
            return False

    def _provider_online(self, number: int) -> bool:
        try:
            with urllib.request.urlopen(
                f"{self.url}/v1/providers/{people.provider(number).address}", timeout=5
            ) as answer:
                return bool(json.load(answer)["online"])
        except (urllib.error.URLError, OSError):
            return False

    def _nats_seed(self) -> str:
        """The account seed that signs what providers may do on the bus; made once a market."""
        path = self.plan.directory / "keys" / "nats-issuer"
        if not path.exists():
            import nkeys

            write_secret(
                path, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
            )
        return path.read_text().strip()

    def _save(self) -> None:
        state = {
            "url": self.url,
            "rpc_url": self.rpc_url,
            "nats_url": self.nats_url,
            "runtime": self.runtime,
            "image": self.image,
            "consumer": self.consumer_environment(),
            "services": {
                name: {
                    **asdict(service.running),
                    "argv": list(service.argv),
                    "env": dict(service.env),
                }
                for name, service in self.services.items()
                if service.running is not None
            },
        }
        _write_state(self.plan.directory, state)


# --- a market that another process started ----------------------------------------------------


def state_of(directory: Path) -> dict[str, Any] | None:
    """What `up` wrote, with `alive` for each service; None when no market is up there."""
    path = directory / "state.json"
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_text())
    for service in state["services"].values():
        service["alive"] = Running(service["pid"], service["born_at_s"]).process() is not None
    return state


def end(directory: Path) -> list[str]:
    """Ends the market that `state.json` in `directory` names; returns what was still running."""
    state = state_of(directory)
    if state is None:
        raise DevnetError(f"No market is up in {directory}.", next_step="Start one with `make up`.")
    ended = []
    for name, service in reversed(state["services"].items()):
        if service["alive"]:
            end_process(Running(service["pid"], service["born_at_s"]))
            ended.append(name)
    leftovers.sweep(directory)
    (directory / "state.json").unlink()
    return ended


def stop_service(directory: Path, name: str) -> None:
    """Ends one program of a market that is up, as an operator would; `start_service` goes on with
    the same settings and data."""
    service = _service_of(directory, name)
    end_process(Running(service["pid"], service["born_at_s"]))


def start_service(directory: Path, name: str) -> None:
    """Starts it again where `stop_service` left it, and returns when it answers."""
    service = _service_of(directory, name)
    if service["alive"]:
        raise DevnetError(f"{name} runs already.", next_step="Stop it first, or leave it.")
    log = directory / "logs" / f"{name}.log"
    again = Service(name, service["argv"], service["env"], directory, log)
    again.start()
    assert again.running is not None  # it was started in the line above
    state = json.loads((directory / "state.json").read_text())
    if name == "backend":
        ready = f"{state['url']}/readyz"
        again.wait_until(lambda: http_ok(ready), _START_TIMEOUT_S)
    state["services"][name] |= asdict(again.running)
    _write_state(directory, state)


def _service_of(directory: Path, name: str) -> dict[str, Any]:
    state = state_of(directory)
    if state is None:
        raise DevnetError(f"No market is up in {directory}.", next_step="Start one with `make up`.")
    found: dict[str, Any] | None = state["services"].get(name)
    if found is None:
        known = ", ".join(state["services"])
        raise DevnetError(f"The market has no {name!r}.", next_step=f"It has: {known}.")
    return found


def _write_state(directory: Path, state: dict[str, Any]) -> None:
    """For its owner alone: the programs' settings name their keys."""
    write_secret(directory / "state.json", json.dumps(state, indent=2))


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, from the first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def replace_file(path: Path, content: bytes) -> None:
    """Whoever reads `path` finds what was there before, or all of `content`."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def http_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def port_answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
