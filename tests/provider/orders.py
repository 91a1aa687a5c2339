"""Orders, leases and offers for the tests: valid ones; a test names only what it changes."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.protocol import sealing, wire
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.messages import Assignment, Domain, TaskTerms, sign, task_id
from tallystick.protocol.types import ZERO_ADDRESS, Address, Fence
from tallystick_provider.settings import Settings
from tests.support.anvil import CONSUMER, DISPATCHER, PROVIDER, Person

DOMAIN = Domain(31337, Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
NOW_S = 1_700_000_000
RATE = 10**15
DAY_S = 86_400
LOCAL_IMAGE = "sha256:" + "ab" * 32
CONSUMER_KEY = sealing.consumer_key_from_wallet(CONSUMER.key)


def manifest_of(**changes: Any) -> wire.Manifest:
    values: dict[str, Any] = {
        "image": "process",
        "command": ("python", "-c", "print('hello')"),
        "resources": wire.Resources(
            gpu_class="gpu1", gpus=2, cpu_milli=500, memory_mib=512, disk_mib=64
        ),
        "max_output_mib": 4,
        "result_key": CONSUMER_KEY.public,
    }
    return wire.Manifest(**{**values, **changes})


def terms_of(manifest: wire.Manifest, now_s: int = NOW_S, **changes: Any) -> TaskTerms:
    terms = TaskTerms(
        consumer=CONSUMER.address,
        signer=ZERO_ADDRESS,
        dispatcher=DISPATCHER.address,
        royalty_to=ZERO_ADDRESS,
        spec=spec_digest(manifest),
        gpus=manifest.resources.gpus,
        flat=0,
        fee_per_call=0,
        rate_per_gpu_second=RATE,
        dispatcher_bps=500,
        royalty_bps=0,
        max_charge=10**18,
        max_seconds=500,
        deadline=now_s + DAY_S,
        challenge_window=DAY_S,
        verification=0,
        nonce=secrets.randbits(256),
    )
    return replace(terms, **changes)


def lease_of(
    domain: Domain,
    terms: TaskTerms,
    now_s: int,
    *,
    fence: int = 1,
    seconds: int = 30,
    provider: Person = PROVIDER,
) -> Assignment:
    return Assignment(
        task_id(domain, terms), provider.address, Fence(fence), now_s, now_s + seconds
    )


def offer_of(
    domain: Domain = DOMAIN,
    now_s: int = NOW_S,
    *,
    manifest: wire.Manifest | None = None,
    terms: TaskTerms | None = None,
    lease: Assignment | None = None,
    fence: int = 1,
    secured: bool = True,
    signed_by: Person = CONSUMER,
    leased_by: Person = DISPATCHER,
    **changes: Any,
) -> wire.Offer:
    manifest = manifest or manifest_of()
    terms = terms or terms_of(manifest, now_s)
    lease = lease or lease_of(domain, terms, now_s, fence=fence)
    values: dict[str, Any] = {
        "terms": terms.to_body(),
        "terms_signature": sign(domain, terms, signed_by.key),
        "secured": secured,
        "manifest": manifest,
        "assignment": lease.to_body(),
        "assignment_signature": sign(domain, lease, leased_by.key),
        "sealed_key": None,
        "input_url": None,
        "result_url": "http://127.0.0.1:9/{digest}",
    }
    return wire.Offer(**{**values, **changes})


def settings_of(data_dir: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "address": PROVIDER.address,
        "key_file": data_dir / "operator.key",
        "data_dir": data_dir,
        "runtime": "process",
        "gpus": "simulated:4xgpu1:24576",
        "rate": {"gpu1": RATE, "": 0},
        "acceptance_wait_seconds": 60,
        "poll_seconds": 0.05,
        "settle_seconds": 0.05,
        "stop_grace_seconds": 1,
    }
    return Settings(**{**values, **changes})
