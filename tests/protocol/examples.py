"""Terms, receipts and proofs that fit each other, for tests that change one thing about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tallystick.protocol.contracts import AcceptedProof, LeasedProof, Usage
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.messages import (
    Acceptance,
    Assignment,
    Receipt,
    TaskTerms,
    digest,
    sign,
    task_id,
)
from tallystick.protocol.pricing import charge_up
from tallystick.protocol.types import ZERO_ADDRESS, ZERO_DIGEST, Fence
from tests.support.anvil import (
    CONSUMER,
    DAY_S,
    DISPATCHER,
    OPERATOR,
    PROVIDER,
    TOKEN,
    LocalChain,
    Person,
    digest_of_word,
)


def terms_of(chain: LocalChain, **changes: Any) -> TaskTerms:
    return terms_at(chain.now_s(), **changes)


def terms_at(now_s: int, **changes: Any) -> TaskTerms:
    """Two GPUs at 0.5 tokens an hour, at most two tokens, for a day."""
    terms = TaskTerms(
        consumer=CONSUMER.address,
        signer=ZERO_ADDRESS,
        dispatcher=DISPATCHER.address,
        royalty_to=ZERO_ADDRESS,
        spec=digest_of_word(77),
        gpus=2,
        flat=0,
        fee_per_call=0,
        rate_per_gpu_second=138_888_888_888_888,
        dispatcher_bps=500,
        royalty_bps=0,
        max_charge=2 * TOKEN,
        max_seconds=7_200,
        deadline=now_s + DAY_S,
        challenge_window=DAY_S,
        verification=0,
        nonce=1,
    )
    return replace(terms, **changes)


def receipt_of(
    deployment: Deployment, terms: TaskTerms, *, started_s: int, seconds: int, **changes: Any
) -> Receipt:
    """The provider's honest record of a run on all GPUs."""
    gpu_ms = terms.gpus * seconds * 1000
    receipt = Receipt(
        provider=PROVIDER.address,
        route=task_id(deployment.domain, terms),
        seq=1,
        prev=ZERO_DIGEST,
        request=terms.spec,
        result=digest_of_word(88),
        gpu_set=digest_of_word(99),
        started_at_ms=started_s * 1000,
        ended_at_ms=(started_s + seconds) * 1000,
        calls=1,
        gpu_ms=gpu_ms,
        usage_root=ZERO_DIGEST,
        total=charge_up(terms, 1, gpu_ms),
    )
    return replace(receipt, **changes)


def accepted(
    deployment: Deployment,
    terms: TaskTerms,
    receipt: Receipt,
    *,
    provider_key: Person = OPERATOR,
    acceptance_by: Person = CONSUMER,
    terms_signature: str = "",
) -> AcceptedProof:
    domain = deployment.domain
    acceptance = Acceptance(task_id(domain, terms), receipt.total, digest(domain, receipt))
    return AcceptedProof(
        terms=terms,
        usage=Usage.of(receipt),
        terms_signature=terms_signature,
        receipt_signature=sign(domain, receipt, provider_key.key),
        acceptance=sign(domain, acceptance, acceptance_by.key),
    )


def leased(
    deployment: Deployment,
    terms: TaskTerms,
    receipt: Receipt,
    *,
    lease_from: int,
    lease_until: int,
    provider_key: Person = OPERATOR,
) -> LeasedProof:
    domain = deployment.domain
    assignment = Assignment(
        task_id(domain, terms), receipt.provider, Fence(receipt.seq), lease_from, lease_until
    )
    return LeasedProof(
        terms=terms,
        usage=Usage.of(receipt),
        lease_from=lease_from,
        lease_until=lease_until,
        receipt_signature=sign(domain, receipt, provider_key.key),
        assignment=sign(domain, assignment, DISPATCHER.key),
    )
