"""Tallystick: buy and sell GPU compute, settled on a chain by receipts that both sides signed.

    from tallystick import GPUClient

    client = GPUClient()
    job = client.submit("train.py", "gpu1", 4, "8h")
    print(client.get_job_status(job.id))

The names below are all a program needs. They are loaded when first used, so that importing
`tallystick.protocol` alone does not load the client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallystick.calls import CallResult as CallResult
    from tallystick.checking import CallVerdict as CallVerdict
    from tallystick.client import AsyncGPUClient as AsyncGPUClient
    from tallystick.config import Config as Config
    from tallystick.config import load_config as load_config
    from tallystick.errors import CallFailed as CallFailed
    from tallystick.errors import ChainError as ChainError
    from tallystick.errors import ConfigurationError as ConfigurationError
    from tallystick.errors import Conflict as Conflict
    from tallystick.errors import InvalidRequest as InvalidRequest
    from tallystick.errors import NoProvider as NoProvider
    from tallystick.errors import NotAllowed as NotAllowed
    from tallystick.errors import NotFound as NotFound
    from tallystick.errors import PaymentNeeded as PaymentNeeded
    from tallystick.errors import PriceAboveCeiling as PriceAboveCeiling
    from tallystick.errors import Refused as Refused
    from tallystick.errors import ServiceError as ServiceError
    from tallystick.errors import TallystickError as TallystickError
    from tallystick.errors import TaskFailed as TaskFailed
    from tallystick.errors import TimedOut as TimedOut
    from tallystick.errors import Unreachable as Unreachable
    from tallystick.errors import VerificationFailed as VerificationFailed
    from tallystick.jobs import Balance as Balance
    from tallystick.jobs import CheckedReceipt as CheckedReceipt
    from tallystick.jobs import Explanation as Explanation
    from tallystick.jobs import Job as Job
    from tallystick.jobs import JobResult as JobResult
    from tallystick.jobs import JobState as JobState
    from tallystick.jobs import JobStatus as JobStatus
    from tallystick.jobs import LogEntry as LogEntry
    from tallystick.jobs import MarketOffer as MarketOffer
    from tallystick.jobs import Money as Money
    from tallystick.jobs import Sent as Sent
    from tallystick.prices import estimate as estimate
    from tallystick.sync import GPUClient as GPUClient

_WHERE = {
    "calls": ("CallResult",),
    "checking": ("CallVerdict",),
    "client": ("AsyncGPUClient",),
    "config": ("Config", "load_config"),
    "errors": (
        "CallFailed",
        "ChainError",
        "ConfigurationError",
        "Conflict",
        "InvalidRequest",
        "NoProvider",
        "NotAllowed",
        "NotFound",
        "PaymentNeeded",
        "PriceAboveCeiling",
        "Refused",
        "ServiceError",
        "TallystickError",
        "TaskFailed",
        "TimedOut",
        "Unreachable",
        "VerificationFailed",
    ),
    "jobs": (
        "Balance",
        "CheckedReceipt",
        "Explanation",
        "Job",
        "JobResult",
        "JobState",
        "JobStatus",
        "LogEntry",
        "MarketOffer",
        "Money",
        "Sent",
    ),
    "prices": ("estimate",),
    "sync": ("GPUClient",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "AsyncGPUClient",
    "Balance",
    "CallFailed",
    "CallResult",
    "CallVerdict",
    "ChainError",
    "CheckedReceipt",
    "Config",
    "ConfigurationError",
    "Conflict",
    "Explanation",
    "GPUClient",
    "InvalidRequest",
    "Job",
    "JobResult",
    "JobState",
    "JobStatus",
    "LogEntry",
    "MarketOffer",
    "Money",
    "NoProvider",
    "NotAllowed",
    "NotFound",
    "PaymentNeeded",
    "PriceAboveCeiling",
    "Refused",
    "Sent",
    "ServiceError",
    "TallystickError",
    "TaskFailed",
    "TimedOut",
    "Unreachable",
    "VerificationFailed",
    "__version__",
    "estimate",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tallystick' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tallystick.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
