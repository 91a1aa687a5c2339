"""A good order, and every way to spoil one."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any, Final

from tallystick.protocol import messages, sealing
from tallystick.protocol.deployments import Deployment
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.messages import TaskTerms
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick.protocol.types import ZERO_ADDRESS
from tallystick.protocol.wire import Manifest, Resources
from tests.support.anvil import DISPATCHER, Person

RATE: Final = 1_000_000
SECONDS: Final = 3600


def order_body(
    deployment: Deployment,
    person: Person,
    *,
    now_s: int,
    name: str = "train",
    cards: int = 1,
    input_digest: str | None = None,
    secured: bool = True,
    max_output_mib: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """The body of POST /v1/tasks; `changes` replace terms before they are signed."""
    manifest = Manifest(
        name=name,
        image="process",
        command=("python", "/task/in/train.py"),
        input_digest=input_digest,
        resources=Resources(gpu_class="gpu1" if cards else "", gpus=cards),
        max_output_mib=max_output_mib,
        result_key=sealing.consumer_key_from_wallet(person.key).public,
    )
    terms = TaskTerms(
        consumer=person.address,
        signer=ZERO_ADDRESS,
        dispatcher=DISPATCHER.address,
        royalty_to=ZERO_ADDRESS,
        spec=spec_digest(manifest),
        gpus=cards,
        flat=0,
        fee_per_call=0,
        rate_per_gpu_second=RATE,
        dispatcher_bps=500,
        royalty_bps=0,
        max_charge=max_charge_up(Price(rate_per_gpu_second=RATE), cards, SECONDS),
        max_seconds=SECONDS,
        deadline=now_s + 86_400,
        challenge_window=86_400,
        verification=0,
        nonce=secrets.randbits(256),
    )
    terms = dataclasses.replace(terms, **changes)
    return {
        "terms": terms.to_body().model_dump(mode="json"),
        "signature": messages.sign(deployment.domain, terms, person.key),
        "manifest": manifest.model_dump(mode="json"),
        "sealed_keys": [],
        "secured": secured,
    }
