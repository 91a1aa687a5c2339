"""From what a person asks for to what the wallet signs: manifest, terms, sealed keys.

Pure once the files are read: the market's offers, the clock and the random nonce come in as
arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tallystick.bundle import Inputs, collect_files, pack
from tallystick.errors import InvalidRequest
from tallystick.jobs import MarketOffer
from tallystick.prices import checked_count, duration_seconds, is_whole_number
from tallystick.protocol import sealing
from tallystick.protocol.hashing import digest_of
from tallystick.protocol.manifest import spec_digest
from tallystick.protocol.messages import Domain, TaskTerms, task_id
from tallystick.protocol.pricing import Price, max_charge_up
from tallystick.protocol.types import ZERO_ADDRESS, Digest, TaskId, to_address
from tallystick.protocol.wire import DeploymentBody, Manifest, Resources, SealedKey
from tallystick.wallet import Wallet

FENCES_SEALED_AHEAD = 4
"""An input key is sealed for this many leases per provider; the SDK seals more when asked to."""

MOST_SEALED_KEYS = 4096
QUEUE_SECONDS = 24 * 3600
"""How long a task may wait for its provider before its money can be reclaimed."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_GPU_CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_INTERPRETERS = {".py": "python", ".sh": "sh"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked request: what to run, on what, for how long at most."""

    name: str
    gpu_class: str
    gpus: int
    max_seconds: int
    command: tuple[str, ...]
    files: Mapping[str, Path]
    env: Mapping[str, str]
    image: str | None
    gpu_memory_mib: int = 0
    cpu_milli: int = 1000
    memory_mib: int = 2048
    disk_mib: int = 1024
    max_output_mib: int = 256


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that is sent, and the key that opens its input."""

    task_id: TaskId
    terms: TaskTerms
    manifest: Manifest
    sealed_bundle: bytes | None
    sealed_keys: tuple[SealedKey, ...]
    content_key: bytes = field(repr=False)


def make_wish(
    file: str | Path | None,
    gpu: str,
    count: int,
    time: object,
    *,
    name: str = "",
    image: str | None = None,
    command: Sequence[str] | None = None,
    args: Sequence[str] = (),
    inputs: Inputs = (),
    env: Mapping[str, str] | None = None,
    resources: Mapping[str, int] | None = None,
) -> Wish:
    """Checks everything that can be checked before anybody is asked."""
    gpus = _gpus(gpu, count)
    path = None if file is None else Path(file)
    files = collect_files(path, inputs)
    wish = Wish(
        name=checked_text("name", name or (path.name if path else "task")),
        gpu_class=gpu if gpus else "",
        gpus=gpus,
        max_seconds=duration_seconds(time),
        command=_command(path, command, args),
        files=files,
        env=_environment(env or {}),
        image=None if image is None else checked_text("image", image),
        **_resources(resources or {}),
    )
    return wish


def make_order(
    wish: Wish,
    *,
    rate_per_gpu_second: int,
    offers: Sequence[MarketOffer],
    deployment: DeploymentBody,
    wallet: Wallet,
    image: str,
    nonce: int,
    now_s: int,
) -> Order:
    """Encrypts the input, freezes the manifest and writes the terms; nothing is sent yet."""
    content_key = sealing.content_key(wallet.sealing_key, nonce)
    bundle = pack(wish.files) if wish.files else None
    sealed_bundle = None if bundle is None else sealing.encrypt_bundle(content_key, bundle)
    manifest = Manifest(
        name=wish.name,
        image=image,
        command=wish.command,
        env=dict(wish.env),
        input_digest=None if sealed_bundle is None else digest_of(sealed_bundle),
        resources=Resources(
            gpu_class=wish.gpu_class,
            gpus=wish.gpus,
            gpu_memory_mib=wish.gpu_memory_mib,
            cpu_milli=wish.cpu_milli,
            memory_mib=wish.memory_mib,
            disk_mib=wish.disk_mib,
        ),
        max_output_mib=wish.max_output_mib,
        result_key=wallet.sealing_key.public,
    )
    price = Price(rate_per_gpu_second=rate_per_gpu_second)
    terms = TaskTerms(
        consumer=wallet.address,
        signer=ZERO_ADDRESS,
        dispatcher=to_address(deployment.dispatcher),
        royalty_to=ZERO_ADDRESS,
        spec=spec_digest(manifest),
        gpus=wish.gpus,
        flat=price.flat,
        fee_per_call=price.fee_per_call,
        rate_per_gpu_second=rate_per_gpu_second,
        dispatcher_bps=deployment.dispatcher_bps,
        royalty_bps=0,
        max_charge=max_charge_up(price, wish.gpus, wish.max_seconds),
        max_seconds=wish.max_seconds,
        deadline=now_s + wish.max_seconds + QUEUE_SECONDS,
        challenge_window=deployment.challenge_window_seconds,
        verification=0,
        nonce=nonce,
    )
    identity = task_id(domain_of(deployment), terms)
    keys = () if sealed_bundle is None else seal_for(offers, wish.gpus, identity, content_key)
    return Order(identity, terms, manifest, sealed_bundle, keys, content_key)


def seal_for(
    offers: Sequence[MarketOffer], gpus: int, identity: Digest, content_key: bytes
) -> tuple[SealedKey, ...]:
    """One sealed key for each provider that could take the task and each of its first leases."""
    able = [offer for offer in offers if offer.gpus_total >= gpus and len(offer.hpke_key) == 66]
    return tuple(
        seal_one(offer.provider, offer.hpke_key, fence, identity, content_key)
        for offer in able[: MOST_SEALED_KEYS // FENCES_SEALED_AHEAD]
        for fence in range(1, FENCES_SEALED_AHEAD + 1)
    )


def seal_one(
    provider: str, hpke_key: str, fence: int, identity: Digest, content_key: bytes
) -> SealedKey:
    sealed = sealing.seal_input_key(hpke_key, identity, fence, content_key)
    return SealedKey(provider=provider, fence=fence, sealed="0x" + sealed.hex())


def domain_of(deployment: DeploymentBody) -> Domain:
    return Domain(deployment.chain_id, to_address(deployment.escrow))


def _gpus(gpu: str, count: int) -> int:
    if gpu == "" and is_whole_number(count, 0, 0):
        return 0  # a task without a GPU
    if not is_text(gpu, 64) or not _GPU_CLASS.fullmatch(gpu):
        raise InvalidRequest(
            f"The GPU class is {gpu!r}.",
            next_step="Name a class such as 'gpu1'; `tallystick market gpus` lists them.",
        )
    return checked_count(count)


def _command(
    path: Path | None, command: Sequence[str] | None, args: Sequence[str]
) -> tuple[str, ...]:
    if isinstance(command, str) or isinstance(args, str):
        raise InvalidRequest(
            "The command is one text; it has to be a list of words.",
            next_step="Write command=['python', '-m', 'mymodule'], one word each.",
        )
    if command:
        words = (*command, *args)
    elif path is None:
        raise InvalidRequest(
            "There is nothing to run: neither a file nor a command.",
            next_step="Give a script, or an image and a command=[...].",
        )
    else:
        interpreter = _INTERPRETERS.get(path.suffix)
        inside = str(PurePosixPath("/task/in") / path.name)
        if interpreter is None:
            raise InvalidRequest(
                f"How to run {path.name!r} is not clear from its name.",
                next_step="Use a .py or .sh file, or say it: command=['./tool', '--flag'].",
            )
        words = (interpreter, inside, *args)
    if len(words) > 64 or not all(is_text(w, 4096) for w in words):
        raise InvalidRequest(
            f"The command {words!r:.200} cannot be sent: it has up to 64 words of text, each of up "
            "to 4096 characters.",
            next_step="Put long or binary arguments into an input file.",
        )
    return tuple(words)


def _environment(env: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in env.items():
        if not is_text(name, 128) or not _ENV_NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} is no name for an environment variable.",
                next_step="Use letters, digits and underscores, not beginning with a digit.",
            )
        if name.startswith("TALLYSTICK_"):
            raise InvalidRequest(
                f"The name {name} is taken: the provider sets TALLYSTICK_... itself.",
                next_step="Choose another name.",
            )
        if not is_text(value, 4096):
            raise InvalidRequest(
                f"The value of {name} is no text of up to 4096 characters.",
                next_step="Convert it to text, or put it into an input file.",
            )
    return dict(env)


_RESOURCE_LIMITS = {
    "gpu_memory_mib": (0, 1_048_576),
    "cpu_milli": (100, 256_000),
    "memory_mib": (64, 4_194_304),
    "disk_mib": (16, 4_194_304),
    "max_output_mib": (1, 65_536),
}


def _resources(given: Mapping[str, int]) -> dict[str, int]:
    for key, value in given.items():
        low, high = _RESOURCE_LIMITS[key]
        if not is_whole_number(value, low, high):
            raise InvalidRequest(
                f"{key} is {value!r}.",
                next_step=f"Give a whole number from {low} to {high}.",
            )
    return dict(given)


def is_text(value: object, longest: int) -> bool:
    """Text that can be sent and be a word of a command: no half characters, no zero byte."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def checked_text(what: str, text: str) -> str:
    """A name for people: short, and on one line."""
    if not is_text(text, 200) or not text or not text.isprintable():
        raise InvalidRequest(
            f"The {what} is {text!r}.",
            next_step="Give 1 to 200 printable characters.",
        )
    return text
