"""Nonsense on the message bus, said with the backend's own log-in: nothing that a provider's
permissions would hold back is held back here."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import nats.errors

from tallystick.protocol import call_codec, call_frames, messages, wire
from tallystick.protocol.messages import Receipt
from tallystick.protocol.types import ZERO_DIGEST, Digest
from tallystick_backend.nats_connection import connect
from tests.faults.campaign import Broken
from tests.faults.requests import spoiling
from tests.faults.requests.place import Place
from tests.support.anvil import OPERATOR, PROVIDER, STRANGER

VERBS = ("announce", "heartbeat", "log", "finished", "failed")
QUIET = 0.2


async def run(here: Place, chance: random.Random, times: int) -> int:
    """How many were sent. Raises `Broken` when an answer is none of ours."""
    client = await connect(
        here.bus.url, here.keys.backend_seed, "a stranger", asyncio.Event(), unreachable=print
    )
    assert client is not None
    good = _good(here)
    sent = 0
    try:
        for _ in range(times):
            subject, payload = _draw(chance, good)
            sent += 1
            try:
                if _is_ours(subject) and chance.random() < 0.3:
                    reply = await client.request(subject, payload, timeout=5)
                    _check(subject, reply.data)
                else:
                    await client.publish(subject, payload)
            except nats.errors.NoRespondersError:
                pass
            except nats.errors.TimeoutError:
                if _is_ours(subject):
                    raise Broken(f"no answer on {subject} to {payload[:300]!r}") from None
            if sent % 200 == 0:
                await client.flush(20)
        await client.flush(20)
        await _still_heard(client, good)
    finally:
        await client.close()
    return sent


def _draw(chance: random.Random, good: dict[str, Any]) -> tuple[str, bytes]:
    verb = chance.choice(VERBS)
    # Of many providers: one that says too much is not read at all.
    who = (
        PROVIDER.address.lower() if chance.random() < 0.3 else f"0x{chance.randrange(16**40):040x}"
    )
    subject = f"tallystick.backend.{who}.{verb}"
    if chance.random() < 0.08:
        odd = ("x" * 900, "0x", who.upper(), "²", "announce", who + "0")
        subject = (
            f"tallystick.backend.{chance.choice(odd)}.{chance.choice((verb, 'x', 'ANNOUNCE'))}"
        )
    if chance.random() < 0.15:
        subject = f"tallystick.backend.{who}.answer.{chance.randrange(9)}"
        return subject, spoiling.spoilt_bytes(chance, good["frame"])
    document = {**good[verb]}
    if "provider" in document:
        document["provider"] = who
    if chance.random() < 0.06:
        return subject, chance.randbytes(chance.choice((0, 1, 40, 2**16)))
    if chance.random() < 0.01:
        return subject, b"[" * 600_000
    return subject, spoiling.json_bytes(chance, spoiling.spoilt(chance, document))


def _is_ours(subject: str) -> bool:
    parts = subject.split(".")
    return (
        len(parts) == 4 and parts[2].startswith("0x") and len(parts[2]) == 42 and parts[3] in VERBS
    )


def _check(subject: str, reply: bytes) -> None:
    verb = subject.rpartition(".")[2]
    if verb not in VERBS:
        return
    model: Any = {"announce": wire.AnnouncementReply, "heartbeat": wire.HeartbeatReply}.get(
        verb, wire.Ack
    )
    for kind in (model, wire.Ack):
        try:
            said = wire.parse(kind, reply)
        except Exception:
            continue
        if "internal error" in str(said):
            raise Broken(f"{subject}: the backend answers: {reply[:300]!r}")
        return
    raise Broken(f"{subject}: the answer is no message of ours: {reply[:300]!r}")


async def _still_heard(client: Any, good: dict[str, Any]) -> None:
    """Another provider's heartbeat is answered at once, whatever was said before."""
    began = asyncio.get_running_loop().time()
    subject = f"tallystick.backend.{STRANGER.address.lower()}.heartbeat"
    reply = await client.request(subject, b'{"leases":[]}', timeout=5)
    took_s = asyncio.get_running_loop().time() - began
    _check(subject, reply.data)
    if took_s > 2:
        raise Broken(f"a heartbeat waited {took_s:.1f} s behind another provider's messages")


def _good(here: Place) -> dict[str, Any]:
    task = here.ids["task_id"]
    receipt = Receipt(
        provider=PROVIDER.address,
        route=Digest(task),
        seq=1,
        prev=ZERO_DIGEST,
        request=Digest(task),
        result=Digest(task),
        gpu_set=Digest(task),
        started_at_ms=1,
        ended_at_ms=5001,
        calls=1,
        gpu_ms=5000,
        usage_root=ZERO_DIGEST,
        total=5000,
    )
    gpu = {"gpu_id": "GPU-0", "model": "x", "gpu_class": "gpu1", "memory_mib": 1, "simulated": True}
    call = here.paid.call("call-0002", at_ms=1)
    answer = wire_bytes(call.answer)
    return {
        "announce": {
            "provider": PROVIDER.address,
            "operator_key": OPERATOR.address,
            "hpke_key": "0x" + "11" * 32,
            "hpke_signature": "0x" + "1b" * 65,
            "runtime": "process",
            "agent_version": "1",
            "gpus": [gpu],
            "rate_per_gpu_second": {"gpu1": "5", "": "0"},
            "cpu_milli": 1,
            "memory_mib": 1,
            "disk_mib": 1,
        },
        "heartbeat": {
            "leases": [
                {"task_id": task, "fence": 1, "stage": "running", "percent": 4, "gpu_ms": 5}
            ],
            "gpus": [{**gpu, "utilization_percent": 50}],
        },
        "log": {
            "task_id": task,
            "fence": 1,
            "seq": 0,
            "stream": "stdout",
            "at_ms": 5,
            "text": "hello",
        },
        "finished": {
            "task_id": task,
            "fence": 1,
            "exit_code": 0,
            "receipt": receipt.to_body().model_dump(mode="json"),
            "receipt_signature": messages.sign(here.deployment.domain, receipt, OPERATOR.key),
            "result_digest": here.ids["digest"],
            "result_bytes": 6,
        },
        "failed": {"task_id": task, "fence": 1, "reason": "x", "blame": "task"},
        "frame": call_frames.pack(call_frames.ANSWER, answer, b"result"),
    }


def wire_bytes(document: Any) -> bytes:
    import json

    data = json.dumps(document).encode()
    call_codec.read_answer(data)
    return data
