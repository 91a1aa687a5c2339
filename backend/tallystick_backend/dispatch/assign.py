"""The dispatcher's signature under a lease, and what an offer is made of."""

from __future__ import annotations

from typing import Protocol

from tallystick.protocol import messages
from tallystick.protocol.messages import Assignment, Domain, TaskTerms
from tallystick.protocol.signatures import PrivateKey, address_of, private_key_bytes
from tallystick.protocol.types import Address, Digest, Fence, Signature, TaskId, to_address
from tallystick.protocol.wire import AssignmentBody, Manifest, Offer, TaskTermsBody
from tallystick_backend.store.tables import LeaseRow, TaskOrderRow


class Signer(Protocol):
    """Signs as the dispatcher that the terms name."""

    @property
    def domain(self) -> Domain: ...

    @property
    def address(self) -> Address: ...

    def sign(self, assignment: Assignment) -> Signature: ...


class KeySigner:
    """A key in memory. It signs assignments only and holds no funds."""

    def __init__(self, domain: Domain, private_key: PrivateKey) -> None:
        self._domain = domain
        self._private_key = private_key_bytes(private_key)
        self._address = address_of(private_key)

    @property
    def domain(self) -> Domain:
        return self._domain

    @property
    def address(self) -> Address:
        return self._address

    def sign(self, assignment: Assignment) -> Signature:
        return messages.sign(self._domain, assignment, self._private_key)

    def __repr__(self) -> str:
        return f"KeySigner({self._address})"


class BlobUrls(Protocol):
    """Where a provider fetches the sealed input and puts the sealed result; both short-lived and
    for one task and fence."""

    def input_url(self, task_id: str, fence: int, digest: str) -> str: ...

    def result_url(self, task_id: str, fence: int) -> str:
        """`{digest}` in it stands for the digest of what will be put."""
        ...


def assignment(
    task_id: str, provider: str, fence: int, lease_from_s: int, lease_until_s: int
) -> Assignment:
    return Assignment(
        task_id=TaskId(Digest(task_id)),
        provider=to_address(provider),
        fence=Fence(fence),
        lease_from=lease_from_s,
        lease_until=lease_until_s,
    )


def assignment_of(lease: LeaseRow) -> AssignmentBody:
    return assignment(
        lease.task_id, lease.provider, lease.fence, lease.lease_from_s, lease.lease_until_s
    ).to_body()


def offer(
    lease: LeaseRow, order: TaskOrderRow, sealed_key: str | None, blob_urls: BlobUrls
) -> Offer:
    """Says the same for one lease every time, but for fresh URLs."""
    manifest = Manifest.model_validate(order.manifest)
    digest = manifest.input_digest
    return Offer(
        terms=TaskTermsBody.model_validate(order.terms),
        terms_signature=order.signature,
        secured=order.secured,
        manifest=manifest,
        assignment=assignment_of(lease),
        assignment_signature=lease.assignment_signature,
        sealed_key=sealed_key,
        input_url=blob_urls.input_url(lease.task_id, lease.fence, digest) if digest else None,
        result_url=blob_urls.result_url(lease.task_id, lease.fence),
    )


def terms_of(order: TaskOrderRow) -> TaskTerms:
    return TaskTerms.from_body(TaskTermsBody.model_validate(order.terms))
