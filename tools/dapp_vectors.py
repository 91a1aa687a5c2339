"""Writes what the dApp's unit tests compare the browser's half of the protocol with.

    python tools/dapp_vectors.py

Digests, signatures and sealed bytes of the Python kernel, made with the published development keys.
A sealed result differs each time it is sealed, so the file is written once and kept.
"""

from __future__ import annotations

import json
from pathlib import Path

from tallystick.devnet import people
from tallystick.protocol import (
    app_manifest,
    apps,
    manifest,
    merkle,
    messages,
    sealing,
    signatures,
    wire,
)
from tallystick.protocol.merkle import UsageSample
from tallystick.protocol.messages import Channel, Domain, Receipt, TaskTerms
from tallystick.protocol.sealing_key import sign_hpke_key
from tallystick.protocol.types import ZERO_ADDRESS, ZERO_DIGEST, Digest, to_address

TARGET = Path(__file__).resolve().parents[1] / "dapp/test/unit/vectors.json"
APP_TARGET = TARGET.with_name("appVectors.json")
DOMAIN = Domain(31337, to_address("0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"))
REGISTRY = to_address("0x5FC8d32690cc91D4c39d9d3abcBD16989F875707")
GPUS = ("GPU-a", "GPU-b")
SAMPLES = (
    UsageSample(1_790_000_001_000, "GPU-a", 5),
    UsageSample(1_790_000_002_000, "GPU-b", None),
    UsageSample(1_790_000_003_000, "GPU-a", 9),
)


def vectors() -> dict[str, object]:
    consumer, provider, operator = people.CONSUMER, people.provider(1), people.operator(1)
    reading_key = sealing.consumer_key_from_wallet(consumer.private_key)
    body = wire.Manifest(
        name='grüße 你好 "x"',
        image="process",
        command=("python", "/task/in/main.py"),
        env={"B": "2", "A": "1\n"},
        input_digest="0x" + "ab" * 32,
        resources=wire.Resources(gpu_class="gpu1", gpus=2),
        result_key=reading_key.public,
    )
    terms = TaskTerms(
        consumer=consumer.address,
        signer=ZERO_ADDRESS,
        dispatcher=people.DISPATCHER.address,
        royalty_to=ZERO_ADDRESS,
        spec=manifest.spec_digest(body),
        gpus=2,
        flat=0,
        fee_per_call=0,
        rate_per_gpu_second=138_888_888_888_888,
        dispatcher_bps=500,
        royalty_bps=0,
        max_charge=166_666_666_666_665_600,
        max_seconds=600,
        deadline=1_800_000_000,
        challenge_window=86_400,
        verification=0,
        nonce=2**200 + 7,
    )
    task_id = messages.task_id(DOMAIN, terms)
    receipt = Receipt(
        provider=provider.address,
        route=task_id,
        seq=1,
        prev=ZERO_DIGEST,
        request=terms.spec,
        result=Digest("0x" + "cd" * 32),
        gpu_set=merkle.gpu_set_root(GPUS),
        started_at_ms=1_790_000_000_000,
        ended_at_ms=1_790_000_005_000,
        calls=1,
        gpu_ms=10_000,
        usage_root=merkle.usage_root(SAMPLES),
        total=1_388_888_888_888_880,
    )
    channel = Channel(consumer.address, people.DISPATCHER.address, provider.address, salt=2**90 + 1)
    sealing_key = sealing.key_from_seed(b"0123456789abcdef")
    sealed = sealing.seal_result(reading_key.public, task_id, 3, b"the result")
    return {
        "domain": {"chainId": DOMAIN.chain_id, "escrow": DOMAIN.escrow},
        "manifest": body.model_dump(mode="json"),
        "spec": terms.spec,
        "terms": terms.to_body().model_dump(mode="json"),
        "taskId": task_id,
        "receipt": receipt.to_body().model_dump(mode="json"),
        "receiptDigest": messages.digest(DOMAIN, receipt),
        "receiptSignature": messages.sign(DOMAIN, receipt, operator.private_key),
        "operator": operator.address,
        "channel": channel.to_body().model_dump(mode="json"),
        "channelId": messages.channel_id(channel),
        "gpuSet": receipt.gpu_set,
        "gpuIds": list(GPUS),
        "usageRoot": receipt.usage_root,
        "usage": [
            {"at_ms": one.at_ms, "gpu_id": one.gpu_id, "energy_mj": one.energy_mj}
            for one in SAMPLES
        ],
        "walletSignature": signatures.sign_text(sealing.WALLET_TEXT, consumer.private_key),
        "readingKey": reading_key.public,
        "contentKey": "0x" + sealing.content_key(reading_key, terms.nonce).hex(),
        "sealedResult": "0x" + sealed.hex(),
        "sealingKey": sealing_key.public,
        "sealingKeySignature": sign_hpke_key(
            DOMAIN, provider.address, sealing_key.public, operator.private_key
        ),
        "provider": provider.address,
    }


def app_vectors() -> list[dict[str, object]]:
    """Manifests as `tallystick app deploy` makes them, with the three digests of a publication."""
    pinned = "sha256:" + "6d0f" * 16
    function = app_manifest.FunctionHandler(entry="handler:greet", warm_up="handler:load")
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "default": "grüße 你好"}, "n": {"minimum": 1}},
    }
    made = (
        app_manifest.AppManifest(name="greet", image="process", handler=function),
        app_manifest.AppManifest(
            name="llama",
            image=f"registry.example/llama@{pinned}",
            handler=app_manifest.RunPodHandler(entry="serve.main:run"),
            resources=wire.Resources(gpu_class="gpu1", gpus=2, memory_mib=16_384),
            concurrency=4,
            scaling=app_manifest.Scaling(
                min_workers=1, max_workers=8, target_queue_delay_ms=500, cooldown_s=300
            ),
            timeout_s=120,
            input_schema=schema,
        ),
        app_manifest.AppManifest(
            name="own-server",
            image=pinned,
            handler=app_manifest.HttpHandler(socket="/run/app/app.sock"),
            safe_to_repeat=False,
        ),
    )
    publisher = people.CONSUMER.address
    return [
        {
            "manifest": one.model_dump(mode="json"),
            "manifestDigest": app_manifest.app_manifest_digest(one),
            "imageDigest": app_manifest.image_digest(one.image),
            "salt": apps.app_salt(one.name),
            "publisher": publisher,
            "appId": apps.app_id(DOMAIN.chain_id, REGISTRY, publisher, apps.app_salt(one.name)),
        }
        for one in made
    ]


if __name__ == "__main__":
    TARGET.write_text(json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n")
    APP_TARGET.write_text(json.dumps(app_vectors(), indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {TARGET.name} and {APP_TARGET.name}")
