"""Bodies that the documentation shows; a test holds each against its model."""

from __future__ import annotations

from typing import Any, Final

_CONSUMER: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
_DISPATCHER: Final = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
_PROVIDER: Final = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
_NOBODY: Final = "0x" + "00" * 20

CREATE_TASK: Final[dict[str, Any]] = {
    "terms": {
        "consumer": _CONSUMER,
        "signer": _NOBODY,
        "dispatcher": _DISPATCHER,
        "royalty_to": _NOBODY,
        "spec": "0x" + "7e" * 32,
        "gpus": 4,
        "flat": "0",
        "fee_per_call": "0",
        "rate_per_gpu_second": "138888888888888",
        "dispatcher_bps": 500,
        "royalty_bps": 0,
        "max_charge": "15999999999999897600",
        "max_seconds": 28_800,
        "deadline": 1_795_300_000,
        "challenge_window": 86_400,
        "verification": 0,
        "nonce": "91467283956170394812",
    },
    "signature": "0x" + "1b" * 65,
    "manifest": {
        "version": 1,
        "name": "train",
        "image": "registry.example.org/train@sha256:" + "ab" * 32,
        "command": ["python", "/task/in/train.py"],
        "env": {"EPOCHS": "10"},
        "input_digest": "0x" + "c5" * 32,
        "resources": {
            "gpu_class": "gpu1",
            "gpus": 4,
            "gpu_memory_mib": 0,
            "cpu_milli": 4000,
            "memory_mib": 16_384,
            "disk_mib": 20_480,
        },
        "network": "none",
        "max_output_mib": 256,
        "result_key": "0x" + "2d" * 32,
    },
    "sealed_keys": [{"provider": _PROVIDER, "fence": 1, "sealed": "0x" + "9a" * 80}],
    "secured": True,
}

SEALED_KEY: Final[dict[str, Any]] = {
    "provider": _PROVIDER,
    "fence": 2,
    "sealed": "0x" + "9a" * 80,
}

ACCEPT_TASK: Final[dict[str, Any]] = {
    "acceptance": {
        "task_id": "0x" + "5a" * 32,
        "total": "4000000000000000000",
        "receipt": "0x" + "3f" * 32,
    },
    "signature": "0x" + "1b" * 65,
}

SPEND_LIMIT: Final[dict[str, Any]] = {
    "scope": "workspace",
    "subject": "",
    "period": "day",
    "limit": "5000000",
}

KEEP_WARM: Final[dict[str, Any]] = {
    "app_id": "0x" + "a9" * 32,
    "until_ms": 1_774_796_400_000,
    "every_seconds": 50,
    "max_charge_per_hour": "1500000",
    "dry_run": True,
}
