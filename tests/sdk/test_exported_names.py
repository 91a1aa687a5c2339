"""The names a program may import, each of them, and nothing that is not written down."""

from __future__ import annotations

import inspect
import subprocess
import sys

import tallystick
from tallystick import AsyncGPUClient, GPUClient

PUBLIC = [
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


def test_the_public_names_are_these() -> None:
    assert tallystick.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(tallystick, name) is not None


def test_every_error_is_public_and_one_tree() -> None:
    from tallystick import errors

    classes = [
        v for v in vars(errors).values() if inspect.isclass(v) and v.__module__ == errors.__name__
    ]
    for cls in classes:
        assert issubclass(cls, errors.TallystickError)
        assert cls.__name__ in PUBLIC
        assert cls.__name__ in (errors.__doc__ or "")
        assert cls.__doc__
    assert len({vars(cls)["code"] for cls in classes}) == len(classes)


def test_the_blocking_client_has_what_the_asynchronous_one_has() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(cls).items()
            if not name.startswith("_") and callable(value)
        }

    assert methods(GPUClient) == methods(AsyncGPUClient)


def test_every_method_says_what_it_does() -> None:
    for name, value in vars(AsyncGPUClient).items():
        if not name.startswith("_") and callable(value):
            assert value.__doc__, name


def test_the_kernel_does_not_load_the_client() -> None:
    code = "import tallystick.protocol.messages, sys; sys.exit('tallystick.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_client_alone_does_not_load_web3() -> None:
    code = "import tallystick.sync, tallystick.cli.app, sys; sys.exit('web3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
