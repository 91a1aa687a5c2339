"""Should this offer be taken? Everything is checked here before the journal knows of it.

`check` is pure: signatures, digests, prices, limits. `require_secured` judges what the chain said,
`place` finds the cards. Reasons are sentences for the dispatcher's `explain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol import wire
from tallystick.protocol.errors import ProtocolError
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.messages import Assignment, Domain, TaskTerms, recover, task_id
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick.protocol.types import TaskId
from tallystick_provider.errors import OfferRefused, RuntimeFailure
from tallystick_provider.gpus import GpuInfo, pick
from tallystick_provider.journal import Lease
from tallystick_provider.ledger import TaskOnChain
from tallystick_provider.runtime.container import check_environment, check_image_name
from tallystick_provider.settings import Settings

CLOCKS_APART_S = 5
"""A lease that begins later than this from now is not taken: what is done before it begins is paid
with nothing, and a receipt that ends in the future waits for it."""


@dataclass(frozen=True, slots=True)
class CheckedOffer:
    """An offer whose every signature and figure was checked."""

    offer: wire.Offer
    task_id: TaskId
    terms: TaskTerms
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the machine's workers have, and no task can get."""

    cpu_milli: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpu_ids: tuple[str, ...] = ()

    def plus(self, other: Reserved) -> Reserved:
        return Reserved(
            self.cpu_milli + other.cpu_milli,
            self.memory_mib + other.memory_mib,
            self.disk_mib + other.disk_mib,
            (*self.gpu_ids, *other.gpu_ids),
        )


def check(offer: wire.Offer, domain: Domain, settings: Settings, now_s: int) -> CheckedOffer:
    """Raises OfferRefused with the first thing that is wrong."""
    try:
        terms = TaskTerms.from_body(offer.terms)
        assignment = Assignment.from_body(offer.assignment)
        task = task_id(domain, terms)
        _require_lease(domain, offer, terms, assignment, task, settings, now_s)
        _require_order(domain, offer, terms)
        _require_price(offer, terms, settings)
    except ProtocolError as error:
        raise OfferRefused(f"the offer is malformed: {error}") from None
    _require_manifest(offer.manifest, settings.runtime)
    return CheckedOffer(offer, task, terms, assignment)


def _require_lease(
    domain: Domain,
    offer: wire.Offer,
    terms: TaskTerms,
    assignment: Assignment,
    task: TaskId,
    settings: Settings,
    now_s: int,
) -> None:
    if assignment.task_id != task:
        raise OfferRefused(f"the lease is for task {assignment.task_id}, the terms are {task}")
    if assignment.provider.lower() != settings.address.lower():
        raise OfferRefused(f"the lease names provider {assignment.provider}, not this one")
    signer = recover(domain, assignment, offer.assignment_signature)
    if signer != terms.dispatcher:
        raise OfferRefused(f"the lease is signed by {signer}, the terms name {terms.dispatcher}")
    if assignment.lease_until <= now_s:
        raise OfferRefused(f"the lease ended at {assignment.lease_until}, it is {now_s}")
    if assignment.lease_from > now_s + CLOCKS_APART_S:
        raise OfferRefused(
            f"the lease begins {assignment.lease_from - now_s} s from now, and time before is not "
            "paid: this machine's clock or the dispatcher's is wrong"
        )
    if terms.deadline <= now_s:
        raise OfferRefused(f"the task's deadline {terms.deadline} has passed, it is {now_s}")


def _require_order(domain: Domain, offer: wire.Offer, terms: TaskTerms) -> None:
    if spec_digest(offer.manifest) != terms.spec:
        raise OfferRefused("the manifest is not the one the consumer signed (its digest differs)")
    if offer.manifest.resources.gpus != terms.gpus:
        raise OfferRefused(
            f"the terms pay for {terms.gpus} GPUs, the manifest wants "
            f"{offer.manifest.resources.gpus}"
        )
    if offer.terms_signature is None:
        if not offer.secured:
            raise OfferRefused("an unsecured order needs the consumer's signature on its terms")
        return
    if not offer.secured:
        signer = recover(domain, terms, offer.terms_signature)
        if signer != terms.consumer:
            raise OfferRefused(f"the order is signed by {signer}, its consumer is {terms.consumer}")


def _require_price(offer: wire.Offer, terms: TaskTerms, settings: Settings) -> None:
    gpu_class = offer.manifest.resources.gpu_class if terms.gpus else ""
    floor = settings.rate.get(gpu_class)
    if floor is None:
        raise OfferRefused(f"this provider asks no price for the class {gpu_class!r}")
    if terms.rate_per_gpu_second < floor and terms.gpus:
        raise OfferRefused(
            f"the rate {terms.rate_per_gpu_second} per GPU-second is below the floor {floor}"
        )
    if terms.max_seconds < 1:
        raise OfferRefused("the terms allow no time to run (max_seconds is 0)")
    if terms.dispatcher_bps + terms.royalty_bps > 3_000:
        raise OfferRefused("the shares of dispatcher and app owner exceed 3,000 basis points")
    if terms.rate_per_gpu_second * (10_000 - terms.royalty_bps) < floor * 10_000 and terms.gpus:
        # A royalty may go to the consumer itself, and would then be a rebate nobody agreed to.
        raise OfferRefused(
            f"the rate less the royalty of {terms.royalty_bps} basis points is below the floor "
            f"{floor}"
        )
    price = Price(terms.flat, terms.fee_per_call, terms.rate_per_gpu_second)
    needed = max_charge_up(price, terms.gpus, terms.max_seconds)
    if terms.max_charge < needed:
        raise OfferRefused(
            f"the ceiling {terms.max_charge} does not pay for {terms.max_seconds} seconds, which "
            f"may cost {needed}"
        )


def _require_manifest(manifest: wire.Manifest, runtime: str) -> None:
    if (manifest.image == "process") != (runtime == "process"):
        raise OfferRefused(f"image {manifest.image[:80]!r} does not run on the {runtime} runtime")
    if not manifest.command:
        raise OfferRefused("the manifest names no command")
    if any("\0" in part for part in manifest.command):
        raise OfferRefused("the command contains a NUL byte")
    try:
        check_environment(manifest.env)
        if manifest.image != "process":
            check_image_name(manifest.image)
    except RuntimeFailure as error:
        raise OfferRefused(str(error)) from None


def require_secured(checked: CheckedOffer, chain: TaskOnChain) -> None:
    """The ceiling is locked, or at least there to be paid. Read from the provider's own node."""
    if chain.status in ("proven", "disputed") or (chain.status == "none" and chain.nonce_used):
        raise OfferRefused("the task is already proven, settled or refunded on chain")
    if chain.end_s <= chain.now_s:
        raise OfferRefused(f"the task ended on chain at {chain.end_s}")
    if chain.cancelled:
        raise OfferRefused("the consumer cancelled the task on chain: work from now on is not paid")
    if chain.status == "open":
        return
    if checked.offer.secured:
        raise OfferRefused(f"no lock for this task on chain at block {chain.block}")
    if chain.available < checked.terms.max_charge:
        raise OfferRefused(
            f"the consumer has {chain.available} available, the order may cost "
            f"{checked.terms.max_charge}"
        )


def place(
    checked: CheckedOffer,
    gpus: Sequence[GpuInfo],
    held: Sequence[Lease],
    settings: Settings,
    reserved: Reserved = Reserved(),
) -> tuple[str, ...]:
    """The GPUs this task gets. Raises OfferRefused when something of it is not free."""
    manifest = checked.offer.manifest
    wanted = manifest.resources
    taken = held_by(held, reserved)
    for what, total, asked, used in (
        ("CPU (milli)", settings.cpu_milli, wanted.cpu_milli, taken.cpu_milli),
        ("memory (MiB)", settings.memory_mib, wanted.memory_mib, taken.memory_mib),
        ("disk and output (MiB)", settings.disk_mib, manifest.disk_needed_mib, taken.disk_mib),
    ):
        if asked > total - used:
            raise OfferRefused(f"{what}: {asked} asked, {total - used} of {total} free")
    if wanted.gpus == 0:
        return ()
    fitting = [gpu for gpu in gpus if gpu.memory_mib >= wanted.gpu_memory_mib]
    chosen = pick(fitting, frozenset(taken.gpu_ids), wanted.gpu_class, wanted.gpus)
    if chosen is None:
        raise OfferRefused(
            f"{wanted.gpus} free GPUs of class {wanted.gpu_class!r} with {wanted.gpu_memory_mib} "
            "MiB are not there now"
        )
    return chosen


def held_by(leases: Sequence[Lease], reserved: Reserved) -> Reserved:
    """What tasks and workers have together."""
    for lease in leases:
        order = lease.offer.manifest
        reserved = reserved.plus(
            Reserved(
                order.resources.cpu_milli,
                order.resources.memory_mib,
                order.disk_needed_mib,
                lease.gpu_ids,
            )
        )
    return reserved
