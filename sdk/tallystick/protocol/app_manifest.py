"""What a version of an app is: how its container answers calls, what it gets, how it scales.

The canonical JSON of an `AppManifest` (`manifest.canonical_json`) is the file that the version's
`manifestURI` serves; its keccak-256 is the `manifestDigest` in the registry. Whoever fetched the
file checks the digest before reading it:

    app = read_app_manifest(fetched, expected=version.manifest_digest)
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator

from tallystick.protocol.errors import WireError
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import canonical_json
from tallystick.protocol.types import Digest
from tallystick.protocol.wire import Resources, ShortText, WireModel, parse

__all__ = [
    "AppManifest",
    "FunctionHandler",
    "Handler",
    "HttpHandler",
    "RunPodHandler",
    "Scaling",
    "app_manifest_digest",
    "image_digest",
    "read_app_manifest",
]

MIB = 1024 * 1024
MAX_MANIFEST_BYTES = 256 * 1024
"""The file is fetched from wherever a publisher says: nobody reads more of it than this."""

Entry = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", max_length=200),
]
"""A Python name as `module.path:name`."""

HttpPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]*$", max_length=200)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]


def _schema_text(value: object) -> object:
    """A schema may be given as an object; it is kept as text."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return value


class FunctionHandler(WireModel):
    """A function decorated with `tallystick.app.handler`, called with the call's input as its
    arguments; served by `python -m tallystick.app serve` inside the container."""

    kind: Literal["function"] = "function"
    entry: Entry
    warm_up: Entry | None = None
    """Called once before the worker says that it is ready."""


class RunPodHandler(WireModel):
    """A function in RunPod's style, `handler(job)` with the call's input in `job["input"]`; served
    by the same server."""

    kind: Literal["runpod"] = "runpod"
    entry: Entry
    warm_up: Entry | None = None


class HttpHandler(WireModel):
    """Any container with an HTTP server of its own, on a loopback port or a Unix socket."""

    kind: Literal["http"] = "http"
    port: Annotated[int, Strict(), Field(ge=1, le=65_535)] | None = None
    socket: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$", max_length=100)] | None = None
    """Absolute path inside the container; short enough for a socket's name."""
    path: HttpPath = "/call"
    """`POST` of the call's input."""
    ready_path: HttpPath = "/ready"
    """`GET`: 200 once the worker takes calls, anything else until then."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.port is None) == (self.socket is None):
            raise ValueError("an http handler listens on a port or on a socket: give one of them")
        return self


Handler = Annotated[FunctionHandler | RunPodHandler | HttpHandler, Field(discriminator="kind")]


class Scaling(WireModel):
    """When a provider starts and stops workers of one version."""

    min_workers: Annotated[int, Strict(), Field(ge=0, le=1024)] = 0
    """Kept warm without a call; 0 scales to nothing. What keeping warm costs is the provider's
    offer, never part of a call's charge."""
    max_workers: Annotated[int, Strict(), Field(ge=1, le=1024)] = 4
    target_queue_delay_ms: Annotated[int, Strict(), Field(ge=1, le=3_600_000)] = 2_000
    """A call that would wait longer starts one more worker."""
    cooldown_s: Annotated[int, Strict(), Field(ge=0, le=86_400)] = 60
    """A worker without a call for so long is stopped, down to `min_workers`."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"min_workers is {self.min_workers}, more than max_workers, {self.max_workers}"
            )
        return self


class AppManifest(WireModel):
    """Everything a provider must know to keep a worker of this version and to answer its calls."""

    version: Literal[1] = 1
    name: ShortText = ""
    image: ShortText
    """`name@sha256:...`, a local image id `sha256:...`, or `process` for the development runtime.
    The registry holds its digest beside the manifest's; the two must agree (`image_digest`)."""
    handler: Handler
    resources: Resources = Resources()
    concurrency: Annotated[int, Strict(), Field(ge=1, le=1024)] = 1
    """Calls that one worker answers at a time. With more than one a call holds its GPUs shared and
    its receipt names none."""
    scaling: Scaling = Scaling()
    timeout_s: Annotated[int, Strict(), Field(ge=1, le=86_400)] = 60
    """The longest a call may run. With `resources.gpus` and the price it is the most one costs."""
    ready_timeout_s: Annotated[int, Strict(), Field(ge=1, le=3_600)] = 120
    """The longest from a worker's start until it is ready, warm-up included. Never charged."""
    max_request_bytes: Annotated[int, Strict(), Field(ge=1, le=64 * MIB)] = 4 * MIB
    max_response_bytes: Annotated[int, Strict(), Field(ge=1, le=64 * MIB)] = 16 * MIB
    safe_to_repeat: bool = True
    """Whether a call that a provider lost halfway may be run again by another one."""
    input_schema: Annotated[
        str, BeforeValidator(_schema_text, json_schema_input_type=str), Field(max_length=65_536)
    ] = ""
    """JSON Schema of the input, as text: a digest must not hang on how a reader prints 0.7."""
    environment: Annotated[tuple[EnvName, ...], Field(max_length=64)] = ()
    """Names of the variables the container expects; their values are never published."""
    network: Literal["none"] = "none"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(set(self.environment)) != len(self.environment):
            raise ValueError("environment names a variable twice")
        if self.input_schema:
            _require_object(self.input_schema)
        return self

    @property
    def gpus_held(self) -> int:
        """Cards that one call has for itself: what its receipt's `gpuSet` must name."""
        return self.resources.gpus if self.concurrency == 1 else 0


def app_manifest_digest(manifest: AppManifest) -> Digest:
    """The registry's `manifestDigest` of a version."""
    return digest_of(canonical_json(manifest))


def read_app_manifest(file: bytes, *, expected: Digest) -> AppManifest:
    """The manifest in a fetched file, if it is the one that the registry names. Raises
    `WireError`."""
    if len(file) > MAX_MANIFEST_BYTES:
        raise WireError(
            f"the app manifest has {len(file)} bytes and {MAX_MANIFEST_BYTES} are allowed"
        )
    found = digest_of(file)
    if found != expected:
        raise WireError(
            f"the app manifest has the digest {found} and the registry says {expected}: fetch the "
            "file that was published, byte for byte"
        )
    return parse(AppManifest, file)


def image_digest(image: str) -> Digest:
    """The registry's `imageDigest`: of an image named by its sha256, those 32 bytes; of the
    development runtime, which has no image, the hash of its name."""
    if image == "process":
        return digest_of(image.encode())
    _, found, digits = image.rpartition("sha256:")
    if not found or len(digits) != 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise WireError(
            f"{image!r} names no image by its digest: write name@sha256:<64 hex digits>, "
            "sha256:<64 hex digits> or process"
        )
    return Digest("0x" + digits)


def _require_object(text: str) -> None:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise ValueError(f"input_schema is not well-formed JSON: {failure}") from failure
    if not isinstance(content, dict):
        raise ValueError("input_schema is not a JSON object")
