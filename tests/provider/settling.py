"""A finished task, ready to be settled, on a real chain; shared by the settlement tests and by the
child process that the kill test ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import Acceptance, Receipt, TaskTerms, digest, sign, task_id
from tallystick.protocol.types import Digest, Signature
from tallystick_provider.clock import Clock, ManualClock
from tallystick_provider.journal import Journal, Lease, Signed
from tallystick_provider.meter import Usage
from tallystick_provider.receipt import build
from tests.provider.orders import lease_of, manifest_of, offer_of, terms_of
from tests.support.anvil import (
    CONSUMER,
    OPERATOR,
    PROVIDER,
    TOKEN,
    LocalChain,
    bind_key,
    deposit,
    fund,
    market_of,
    send,
    stake,
)

GPU_IDS = ("SIM-0", "SIM-1")


def open_market(chain: LocalChain, deployment: Deployment, available: int = 100 * TOKEN) -> None:
    """Consumer with money in the escrow, provider with stake and an operator key."""
    fund(chain, deployment, CONSUMER, available)
    deposit(chain, deployment, CONSUMER, available)
    stake(chain, deployment, PROVIDER, gpu_ids=GPU_IDS)
    bind_key(chain, deployment, PROVIDER, OPERATOR)


@dataclass(frozen=True, slots=True)
class Finished:
    lease: Lease
    signed: Signed
    terms: TaskTerms


def finish(
    chain: LocalChain,
    deployment: Deployment,
    journal: Journal,
    clock: Clock,
    *,
    secured: bool = True,
    fence: int = 1,
    seconds: int = 2,
    terms: TaskTerms | None = None,
) -> Finished:
    """An accepted lease with a signed receipt over `seconds` of two cards; created when secured."""
    manifest = manifest_of()
    now_s = chain.now_s()
    terms = terms or terms_of(manifest, now_s)
    if secured:
        send(chain, CONSUMER, market_of(deployment).create_task(terms))
    domain = deployment.domain
    lease = lease_of(domain, terms, now_s, fence=fence, seconds=600)
    offer = offer_of(domain, now_s, manifest=manifest, terms=terms, lease=lease, secured=secured)
    accepted = journal.accept(offer, GPU_IDS, deployment.block)
    started_ms = now_s * 1000
    ended_ms = started_ms + seconds * 1000
    journal.ended(accepted, started_ms, ended_ms, 0)
    if isinstance(clock, ManualClock):
        clock.at_ms = (now_s + seconds + 1) * 1000
    usage = Usage(started_ms, ended_ms, 2 * seconds * 1000, None, None)
    receipt = build(
        PROVIDER.address,
        task_id(domain, terms),
        fence,
        terms,
        usage,
        GPU_IDS,
        (),
        Digest("0x" + "77" * 32),
    )
    signed = sign_receipt(deployment, journal, accepted, receipt)
    chain.set_time(now_s + seconds + 1)
    held = journal.lease(accepted.task_id, fence)
    assert held is not None
    return Finished(held, signed, terms)


def sign_receipt(
    deployment: Deployment, journal: Journal, lease: Lease, receipt: Receipt
) -> Signed:
    return journal.sign_once(
        lease,
        receipt,
        digest(deployment.domain, receipt),
        lambda: sign(deployment.domain, receipt, OPERATOR.key),
        result_bytes=1,
        energy_mj=None,
        peak_gpu_memory_mib=None,
    )


def accept(
    deployment: Deployment, journal: Journal, done: Finished
) -> tuple[Acceptance, Signature]:
    acceptance = Acceptance(done.lease.task_id, done.signed.receipt.total, done.signed.digest)
    signature = sign(deployment.domain, acceptance, CONSUMER.key)
    journal.keep_acceptance(acceptance, signature, done.lease.fence)
    return acceptance, signature


def paths(directory: Path) -> tuple[Path, Path]:
    return directory / "journal.sqlite", directory / "deployment.json"
