"""Everything a provider needs, looked at one by one; each finding names its fix.

Nothing here changes anything. A finding that is `ok` and still has a fix is advice.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import nats.errors

from tallystick.protocol.contracts import verify_deployment
from tallystick.protocol.deployments import Deployment, load
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.log_stream import without_secrets
from tallystick.protocol.login import make_proof
from tallystick.protocol.signatures import address_of
from tallystick.protocol.types import ZERO_ADDRESS, Address, to_address
from tallystick.protocol.web3 import close, connect
from tallystick_provider import keys
from tallystick_provider.backend import Offline
from tallystick_provider.clock import Clock
from tallystick_provider.errors import GpuError, ProviderError, SettingsError
from tallystick_provider.gpus import GpuInfo, GpuSource, open_source
from tallystick_provider.inbox import log_in
from tallystick_provider.ledger import ChainLedger
from tallystick_provider.runtime import Finding, Runtime
from tallystick_provider.runtime.docker import DockerRuntime, toolkit_finding
from tallystick_provider.runtime.images import ImageLimits
from tallystick_provider.runtime.process import ProcessRuntime
from tallystick_provider.settings import Settings, from_environment

PYTHON_FLOOR = (3, 11)
LOW_GAS_WEI = 10**16
"""About a hundred proofs at 1 gwei."""
BEHIND_SECONDS = 10
AHEAD_SECONDS = 600


async def examine(environment: Mapping[str, str], clock: Clock) -> AsyncIterator[Finding]:
    """All findings, in the order in which a provider would set things up."""
    yield python_finding(sys.version_info[:3])
    try:
        settings = from_environment(environment)
    except SettingsError as error:
        yield Finding(
            "settings", False, str(error), "set the variables as provider/README.md shows"
        )
        return
    async for finding in examine_settings(settings, clock):
        yield _told(finding)


async def examine_running(
    settings: Settings, clock: Clock, runtime: Runtime
) -> tuple[Finding, ...]:
    """What the agent tells of itself while it is logged in: a log-in of its own would prove
    nothing more, and the runtime is the one that it serves with."""
    found = [python_finding(sys.version_info[:3])]
    async for finding in examine_settings(settings, clock, serving=runtime):
        found.append(_told(finding))
    return tuple(found)


def _told(finding: Finding) -> Finding:
    return replace(finding, found=without_secrets(finding.found), fix=without_secrets(finding.fix))


async def examine_settings(
    settings: Settings, clock: Clock, *, serving: Runtime | None = None
) -> AsyncIterator[Finding]:
    yield Finding("settings", True, f"provider {settings.address}")
    key, finding = key_finding(settings.key_file)
    yield finding
    yield disk_finding(settings.data_dir, settings.disk_mib)
    cards: list[GpuInfo] = []
    for finding in gpu_findings(settings, clock, cards):
        yield finding
    if serving is not None:
        for finding in (await serving.probe()).findings:
            yield finding
    else:
        for finding in await runtime_findings(runtime_of(settings), cards):
            yield finding
    deployment, finding = deployment_finding(settings.deployment)
    yield finding
    yield calls_finding(settings, deployment)
    if deployment is None or key is None:
        return
    async for finding in chain_findings(settings, deployment, key, clock, len(cards)):
        yield finding
    if serving is not None:
        yield Finding("backend", True, f"logged in at {settings.nats_url}")
    else:
        yield await nats_finding(settings, deployment, key, clock)


def _needed(name: str, ok: bool, found: str, fix: str) -> Finding:
    """One whose fix is for those who lack it; with what is in order it would read as advice."""
    return Finding(name, ok, found, "" if ok else fix)


def python_finding(version: tuple[int, ...]) -> Finding:
    return _needed(
        "python",
        version[:2] >= PYTHON_FLOOR,
        f"{'.'.join(map(str, version))} on {platform.system()}",
        f"install Python {'.'.join(map(str, PYTHON_FLOOR))} or later",
    )


def key_finding(path: Path) -> tuple[bytes | None, Finding]:
    try:
        key = keys.operator_key(path)
    except SettingsError as error:
        return None, Finding(
            "operator key", False, str(error), f"write the key to {path} and run chmod 600 {path}"
        )
    return key, Finding("operator key", True, f"{address_of(key)} in {path}, mode 0600")


def disk_finding(data_dir: Path, disk_mib: int) -> Finding:
    existing = next(p for p in (data_dir, *data_dir.parents) if p.exists())
    free_mib = shutil.disk_usage(existing).free // (1024 * 1024)
    return _needed(
        "disk",
        free_mib >= disk_mib,
        f"{free_mib} MiB free for {data_dir}, {disk_mib} offered",
        "free some space, or offer less with TALLYSTICK_PROVIDER_DISK_MIB",
    )


def gpu_findings(settings: Settings, clock: Clock, cards: list[GpuInfo]) -> Iterator[Finding]:
    """Fills `cards` with what is there."""
    try:
        source = open_source(settings.gpus, settings.address, settings.gpu_classes, clock)
        cards.extend(source.read())
    except GpuError as error:
        yield Finding(
            "GPUs",
            False,
            str(error),
            "install the NVIDIA driver, or set TALLYSTICK_PROVIDER_GPUS to none or "
            "simulated:2xgpu1:24576",
        )
        return
    label = ", SIMULATED" if source.simulated else ""
    found = ", ".join(f"{c.gpu_id} ({c.gpu_class}, {c.memory_mib} MiB{label})" for c in cards)
    yield Finding(
        "GPUs",
        bool(cards) or settings.gpus == "none",
        found or "none",
        "" if cards else "set TALLYSTICK_PROVIDER_GPUS=none to offer CPU time only",
    )
    if cards:
        yield clearing_finding(source, cards)
    unpriced = sorted({card.gpu_class for card in cards} - set(settings.rate))
    if unpriced:
        yield Finding(
            "prices",
            False,
            f"no price for the class {', '.join(unpriced)}: these cards get no work",
            f"add {unpriced[0]}=<amount> to TALLYSTICK_PROVIDER_RATE, or map the model with "
            "TALLYSTICK_PROVIDER_GPU_CLASSES",
        )
    if cards and not source.simulated and settings.runtime == "docker":
        yield toolkit_finding()


def clearing_finding(source: GpuSource, cards: Sequence[GpuInfo]) -> Finding:
    """A card in use may be at work for this provider; one that can never be cleared gets no
    work."""
    found = [why for card in cards if (why := source.hindrance(card.gpu_id)) is not None]
    return Finding(
        "card memory",
        all(hindrance.passing for hindrance in found),
        "; ".join(hindrance.why for hindrance in found)
        or f"overwritten before and after each task{', SIMULATED' if source.simulated else ''}",
        "a card that cannot be cleared is offered to nobody; one that a task of this provider "
        "uses is in order"
        if found
        else "",
    )


def runtime_of(settings: Settings) -> Runtime:
    if settings.runtime == "docker":
        return DockerRuntime(
            Address(settings.address),
            settings.docker_url,
            images=ImageLimits(image_mib=settings.image_mib),
            volumes_in=settings.data_dir,
            runc_accepted=settings.runc_accepted,
        )
    return ProcessRuntime(settings.data_dir / "process")


async def runtime_findings(runtime: Runtime, _cards: list[GpuInfo]) -> tuple[Finding, ...]:
    try:
        return (await runtime.probe()).findings
    except ProviderError as error:
        return (
            Finding(
                "docker engine",
                False,
                str(error),
                "install and start Docker (systemctl start docker), add this user to the group "
                "docker; or set TALLYSTICK_PROVIDER_RUNTIME=process to try without one",
            ),
        )
    finally:
        await runtime.close()


def deployment_finding(setting: str) -> tuple[Deployment | None, Finding]:
    fix = "set TALLYSTICK_PROVIDER_DEPLOYMENT to the deployment's JSON file, or to a chain id"
    if not setting:
        return None, Finding("deployment", False, "not set", fix)
    try:
        found = load(int(setting) if setting.isascii() and setting.isdigit() else setting)
    except ProtocolError as error:
        return None, Finding("deployment", False, str(error), fix)
    return found, Finding("deployment", True, f"chain {found.chain_id}, market {found.market}")


def calls_finding(settings: Settings, deployment: Deployment | None) -> Finding:
    """Whether calls of apps can come, and what one payer can leave unpaid. Never a reason not to
    start: tasks need nothing of it."""
    name = "calls of apps"
    if deployment is not None and deployment.registry == ZERO_ADDRESS:
        return Finding(name, True, "none: this deployment has no registry of apps")
    if not settings.apps:
        return Finding(name, True, "none, by TALLYSTICK_PROVIDER_APPS")
    which = (
        "every app at the floor's price" if "*" in settings.apps else f"{len(settings.apps)} apps"
    )
    found = (
        f"{which}; {settings.credit_calls} on credit per channel; redeemed above "
        f"{settings.redeem_at * settings.redeem_cost} or {settings.redeem_share_bps / 100:g} % of "
        "the deposit"
    )
    if settings.runtime == "docker":
        return Finding(name, True, found)
    if settings.apps_dir is None:
        return Finding(
            name,
            True,
            "none: the process runtime does not know where their code lies",
            "set TALLYSTICK_PROVIDER_APPS_DIR to the folder of their projects, or use docker",
        )
    if not settings.apps_dir.is_dir():
        return Finding(
            name,
            False,
            f"there is no folder {settings.apps_dir}",
            "make it, or correct TALLYSTICK_PROVIDER_APPS_DIR",
        )
    return Finding(name, True, found)


async def chain_findings(
    settings: Settings, deployment: Deployment, key: bytes, clock: Clock, cards: int
) -> AsyncIterator[Finding]:
    try:
        web3 = connect(settings.rpc_url)
    except ProtocolError as error:
        yield _no_node(settings.rpc_url, error)
        return
    try:
        try:
            await verify_deployment(web3, deployment)
        except ProtocolError as error:
            yield Finding(
                "contracts",
                False,
                str(error),
                "use the node of that chain (TALLYSTICK_PROVIDER_RPC_URL) or the deployment file "
                "of this one (TALLYSTICK_PROVIDER_DEPLOYMENT)",
            )
            return
        except Exception as error:  # any transport failure: the finding is its report
            yield _no_node(settings.rpc_url, error)
            return
        yield Finding("contracts", True, f"the deployment's, on chain {deployment.chain_id}")
        ledger = ChainLedger(web3, deployment, key)
        provider = to_address(settings.address)
        try:
            async for finding in account_findings(ledger, provider, deployment, clock, cards):
                yield finding
        except ProviderError as error:
            yield _no_node(settings.rpc_url, error)
    finally:
        await close(web3)


async def account_findings(
    ledger: ChainLedger, provider: Address, deployment: Deployment, clock: Clock, cards: int
) -> AsyncIterator[Finding]:
    key = ledger.account
    yield _needed(
        "key bound",
        await ledger.signs_for(provider),
        f"{key} for provider {provider}",
        f"the provider binds it: brownie run scripts/stake.py, or bindOperatorKey({key}, its "
        "signature); a retired key never comes back, make a new one",
    )
    units = await ledger.staked_units(provider)
    needed = max(1, cards)
    yield _needed(
        "stake",
        units >= needed,
        f"{units} units, {needed} needed for {cards} GPUs",
        f"stake {(needed - units) * deployment.stake_unit} more of {deployment.staking_token} from "
        f"{provider} (scripts/stake.py)",
    )
    registered = await ledger.gpus_registered(provider)
    yield _needed(
        "GPUs registered",
        registered >= cards,
        f"{registered} on chain, {cards} here",
        "register them: brownie run scripts/register_gpus.py (or offer fewer)",
    )
    balance = await ledger.gas_balance_wei()
    yield Finding(
        "gas",
        balance > 0,
        f"{balance} wei on {key}",
        ""
        if balance >= LOW_GAS_WEI
        else f"send some of the chain's coin to {key}: it pays for the proofs",
    )
    _, chain_s = await ledger.head()
    yield clock_finding(clock.now_ms() // 1000, chain_s)


def clock_finding(here_s: int, chain_s: int) -> Finding:
    """A quiet chain looks like a clock ahead; a clock behind the newest block is surely wrong."""
    ahead = here_s - chain_s
    if ahead < -BEHIND_SECONDS:
        return Finding(
            "clock",
            False,
            f"{-ahead} s behind the newest block",
            "synchronise it (timedatectl set-ntp true): receipts from the past are refused",
        )
    return Finding(
        "clock",
        True,
        f"{ahead} s after the newest block",
        ""
        if ahead <= AHEAD_SECONDS
        else "fine if the chain is quiet; else timedatectl set-ntp true",
    )


async def nats_finding(
    settings: Settings, deployment: Deployment, key: bytes, clock: Clock
) -> Finding:
    """A real log-in, with a proof that is used up by it."""
    proof = make_proof(
        deployment.domain,
        to_address(settings.address),
        address_of(key),
        clock.now_ms() // 1000,
        key,
    )
    fix = (
        f"check TALLYSTICK_PROVIDER_NATS_URL ({settings.nats_url}) and that outgoing connections "
        f"to port {urlparse(settings.nats_url).port or 4222} are allowed"
    )
    try:
        line = await log_in(settings.nats_url, settings.provider_subject, proof)
        await line.close()
    except (Offline, nats.errors.Error, OSError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        if "authorization" in why.lower():
            fix = "it was refused: stake at least one unit, bind the key, set the clock"
        return Finding("backend", False, f"no log-in at {settings.nats_url}: {why}", fix)
    return Finding("backend", True, f"logged in at {settings.nats_url}")


def _no_node(url: str, error: Exception) -> Finding:
    return Finding(
        "node",
        False,
        f"no answer from {url}: {str(error)[:200] or type(error).__name__}",
        "set TALLYSTICK_PROVIDER_RPC_URL to a node you trust, and see that it runs",
    )
