"""Images from registries: which may be asked, and how much one may bring.

The engine pulls; this module watches what it reports and what the disk says, and hangs up on a
pull that goes beyond its limits: the engine then drops what it had. What was pulled and is still
not fit to run is removed again.

What it cannot do: the engine looks names up by itself and follows redirects, so a registry that
answers differently the second time makes it send one GET inside the provider's network. Nothing
of the answer reaches the task (it would have to match a digest). A firewall or a proxy for the
engine closes that; provider/README.md says how.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
import structlog
import urllib3.exceptions
from docker.transport import UnixHTTPAdapter

from tallystick_provider.errors import ImageRefused, RuntimeFailure
from tallystick_provider.runtime import Finding
from tallystick_provider.runtime.container import check_image

MIB = 1024 * 1024
SILENCE_SECONDS = 120
"""A registry that lets the engine wait for so long without a word is given up."""
WATCH_SECONDS = 0.2
AFTERMATH_SECONDS = 60
"""An engine can go on for a while with a pull that was hung up: what it takes then is not blamed
on the next image."""

RegistryCheck = Callable[[str], None]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one image may cost the machine, however small it says it is."""

    image_mib: int = 32_768
    """Downloaded, and unpacked, each."""
    layers: int = 128
    """One more than engines can stack."""
    pull_seconds: int = 1800
    reserve_mib: int = 2048
    """Disk that is left free for the machine and for results."""
    engine_memory_mib: int = 1024
    """Growth of the engine itself: it keeps a manifest and a configuration in memory, of any
    length (seen with 20.10)."""


class ImagePuller:
    """Pulls into one engine. One for all threads."""

    def __init__(
        self,
        where: Callable[[], Mapping[str, Any]],
        limits: ImageLimits | None = None,
        check_registry: RegistryCheck | None = None,
    ) -> None:
        self._where = where
        self._limits = limits or ImageLimits()
        self._check_registry = check_registry or refuse_internal_registry
        self._lock = threading.Lock()
        self._running: set[_Watch] = set()
        self._refused_at = -float(AFTERMATH_SECONDS)

    def pull(self, image: str, repository: str) -> Any:
        """The engine's record of the image. Raises ImageRefused, or RuntimeFailure when the fault
        is not the image's."""
        self._check_registry(repository)
        # A client of its own: its time-out would be wrong for every other call.
        engine = docker.APIClient(**self._where(), version="auto", timeout=SILENCE_SECONDS)
        line = _Line(engine)
        try:
            root = Path(str(engine.info().get("DockerRootDir") or ""))
            with self._watch(image, root) as watch:
                try:
                    self._stream(engine, image, repository, watch, line)
                    return self._accept(engine, image)
                except RuntimeFailure:
                    self._refused_at = time.monotonic()
                    self._drop(engine, image)
                    raise
        finally:
            engine.close()

    @contextmanager
    def _watch(self, image: str, root: Path) -> Iterator[_Watch]:
        watch = _Watch(image, self._limits, root)
        with self._lock:
            for other in self._running:
                other.alone = watch.alone = False
            watch.after_trouble = time.monotonic() < self._refused_at + AFTERMATH_SECONDS
            self._running.add(watch)
        try:
            yield watch
        finally:
            watch.end()
            with self._lock:
                self._running.discard(watch)

    def _stream(self, engine: Any, image: str, repository: str, watch: _Watch, line: _Line) -> None:
        """Like `APIClient.pull`, with the connection at hand, and never with the operator's own
        registry credentials: a task would see images that are not public."""
        watch.begin(line.hang_up)
        try:
            with engine.post(
                f"{engine.base_url}/v{engine.api_version}/images/create",
                params={"fromImage": repository, "tag": image.partition("@")[2]},
                headers={"X-Registry-Auth": docker.auth.encode_header({})},
                stream=True,
                timeout=(10, SILENCE_SECONDS),
            ) as answer:
                if answer.status_code >= 400:
                    raise _refusal(image, _message(answer.text))
                line.answer = answer.raw
                tally = PullTally(image, self._limits)
                for event in answer.iter_lines():
                    if event:
                        tally.add(json.loads(event))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if watch.exceeded is not None:
                raise watch.exceeded from None
            if "timed out" in str(error).lower():
                raise ImageRefused(
                    f"image {image} cannot be pulled: its registry said nothing for "
                    f"{SILENCE_SECONDS} s; use one that answers"
                ) from error
            raise
        if watch.exceeded is not None:
            raise watch.exceeded

    def _accept(self, engine: Any, image: str) -> Any:
        try:
            found = engine.inspect_image(image)
        except docker.errors.ImageNotFound:
            raise _refusal(image, "the engine does not have it after the pull") from None
        check_image(found.get("Config") or {})
        check_size(image, found, self._limits)
        return found

    def _drop(self, engine: Any, image: str) -> None:
        """What came of a refused pull, unless another pull of the same image goes on."""
        with self._lock:
            if sum(1 for watch in self._running if watch.image == image) > 1:
                return
        try:
            engine.remove_image(image)  # without force: what a container or a tag uses stays
        except docker.errors.ImageNotFound:
            return
        except docker.errors.APIError as error:
            log.warning("image_not_removed", image=image, why=str(error))


class PullTally:
    """Counts what the engine reports of one pull."""

    def __init__(self, image: str, limits: ImageLimits) -> None:
        self._image = image
        self._limits = limits
        self._layers: dict[str, int] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Raises ImageRefused when it is too much, or the engine's own reason to give up."""
        if event.get("error"):
            raise _refusal(self._image, str(event["error"]))
        layer, status = str(event.get("id") or ""), str(event.get("status") or "")
        if not layer or status.startswith("Pulling from"):
            return
        size = 0
        if status == "Downloading":
            progress = event.get("progressDetail") or {}
            # What was announced may be a lie, and so may be its absence.
            size = max(int(progress.get("total") or 0), int(progress.get("current") or 0))
        self._layers[layer] = max(size, self._layers.get(layer, 0))
        check_layers(self._image, len(self._layers), self._limits)
        total = sum(self._layers.values())
        if total > self._limits.image_mib * MIB:
            raise ImageRefused(
                f"image {self._image} is a download of {total // MIB} MiB or more; this provider "
                f"takes at most {self._limits.image_mib} MiB; make it smaller"
            )


class _Line:
    """The connection of one pull, to be cut from another thread at any time.

    The engine answers only once it has the manifest, which may have no end; on a socket of this
    machine the line can be cut before that too.
    """

    def __init__(self, engine: Any) -> None:
        self.answer: Any = None
        self._connection: Any = None
        adapter = engine.get_adapter(engine.base_url)
        if not isinstance(adapter, UnixHTTPAdapter):
            return
        pool = adapter.get_connection(engine.base_url)
        make = pool._new_conn

        def kept() -> Any:
            self._connection = make()
            return self._connection

        pool._new_conn = kept
        adapter.get_connection = lambda *_, **__: pool

    def hang_up(self) -> None:
        # It may have ended by itself just now; an old urllib3 cannot cut a line over TCP.
        with suppress(AttributeError, OSError, RuntimeError, ValueError):
            if self._connection is not None and self._connection.sock is not None:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            elif self.answer is not None:
                self.answer.shutdown()


class _Watch:
    """Looks at clock, disk and the engine's memory beside the pull: a layer can swell, and a
    manifest can grow, without a word from the engine."""

    def __init__(self, image: str, limits: ImageLimits, root: Path) -> None:
        self.exceeded: RuntimeFailure | None = None
        self.alone = True
        self.after_trouble = False
        self.image = image
        self._limits = limits
        self._root = root
        self._deadline = time.monotonic() + limits.pull_seconds
        self._free_at_first = free_bytes(root)
        self._memory_at_first = engine_memory_bytes()
        self._ended = threading.Event()
        if self._free_at_first is not None and self._free_at_first < limits.reserve_mib * MIB:
            raise self._no_room(self._free_at_first)

    def begin(self, hang_up: Callable[[], None]) -> None:
        threading.Thread(target=self._look, args=(hang_up,), name="image-watch").start()

    def end(self) -> None:
        self._ended.set()

    def _look(self, hang_up: Callable[[], None]) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            self.exceeded = self._what_is_wrong()
            if self.exceeded is not None:
                hang_up()
                return

    def _what_is_wrong(self) -> RuntimeFailure | None:
        if time.monotonic() > self._deadline:
            return ImageRefused(
                f"image {self.image} was not there after {self._limits.pull_seconds} s of "
                "pulling; make it smaller or use a faster registry"
            )
        memory_mib = (engine_memory_bytes() - self._memory_at_first) // MIB
        if memory_mib > self._limits.engine_memory_mib:
            blamed = self.alone and not self.after_trouble
            kind = ImageRefused if blamed else RuntimeFailure
            return kind(
                f"the container engine took {memory_mib} MiB of memory to read the manifest of "
                f"image {self.image}; at most {self._limits.engine_memory_mib} MiB are taken; "
                "use another registry"
            )
        free = free_bytes(self._root)
        if free is None or self._free_at_first is None:
            return None
        taken_mib = (self._free_at_first - free) // MIB
        if taken_mib > 2 * self._limits.image_mib and self.alone:
            return ImageRefused(
                f"image {self.image} had filled {taken_mib} MiB of disk and was not complete; "
                f"this provider takes at most {self._limits.image_mib} MiB of download and as "
                "much unpacked; make it smaller"
            )
        return self._no_room(free) if free < self._limits.reserve_mib * MIB else None

    def _no_room(self, free: int) -> RuntimeFailure:
        return RuntimeFailure(
            f"{free // MIB} MiB of disk are free at {self._root}, and {self._limits.reserve_mib} "
            "MiB stay free: no image is pulled; remove images (docker image prune -a)"
        )


def check_layers(image: str, count: int, limits: ImageLimits) -> None:
    if count > limits.layers:
        raise ImageRefused(
            f"image {image} has {count} layers or more; at most {limits.layers} are taken; "
            "squash it"
        )


def check_size(image: str, found: Mapping[str, Any], limits: ImageLimits) -> None:
    """What the engine knows once everything is unpacked."""
    check_layers(image, len((found.get("RootFS") or {}).get("Layers") or ()), limits)
    size_mib = int(found.get("Size") or 0) // MIB
    if size_mib > limits.image_mib:
        raise ImageRefused(
            f"image {image} takes {size_mib} MiB of disk; this provider takes at most "
            f"{limits.image_mib} MiB; make it smaller"
        )


def free_bytes(root: Path) -> int | None:
    """None where the engine's disk is not this machine's, or not in this container."""
    try:
        return shutil.disk_usage(root).free if root.is_absolute() else None
    except OSError:
        return None


def engine_memory_bytes() -> int:
    """Of the engines on this machine; 0 where none can be seen, as from inside a container."""
    total = 0
    for name in Path("/proc").glob("[0-9]*/comm"):
        # Processes come and go while we look.
        with suppress(OSError, StopIteration, ValueError):
            if name.read_text().strip() == "dockerd":
                status = (name.parent / "status").read_text().splitlines()
                total += 1024 * int(next(x for x in status if x.startswith("VmRSS:")).split()[1])
    return total


def disk_finding(info: Mapping[str, Any], limits: ImageLimits) -> Finding:
    """Whether a pull can be watched, and has room."""
    root = Path(str(info.get("DockerRootDir") or ""))
    free = free_bytes(root)
    if free is None:
        return Finding(
            "disk for images",
            ok=True,
            found=f"{root} is not visible from here: an image that swells is noticed late",
            fix=f"run the agent beside the engine, or mount {root} into its container, read-only",
        )
    return Finding(
        "disk for images",
        ok=True,  # without room nothing is pulled; what is in hand still wants to be finished
        found=f"{free // MIB} MiB free at {root}",
        fix=""
        if free >= (limits.reserve_mib + 2 * limits.image_mib) * MIB
        else f"room for the largest image that is taken ({limits.image_mib} MiB, packed and "
        "unpacked) and the reserve: docker image prune -a, or a smaller "
        "TALLYSTICK_PROVIDER_IMAGE_MIB",
    )


def refuse_internal_registry(repository: str) -> None:
    """A consumer's image name must not make this engine knock on the provider's own network."""
    first = repository.partition("/")[0]
    if "/" not in repository or not ("." in first or ":" in first or first == "localhost"):
        return  # a name on the engine's default registry
    name = first.partition(":")[0]
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise ImageRefused(
            f"the registry {name} cannot be found ({error}); check the name"
        ) from None
    if not found or not all(is_public(str(address)) for address in found):
        raise ImageRefused(f"the registry {name} is not on the public internet; not asked")


def is_public(address: str) -> bool:
    """Also of the IPv4 address that an IPv6 one stands for."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        return ip.is_global and not ip.is_multicast and ip.teredo is None
    return ip.is_global and not ip.is_multicast


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _refusal(image: str, why: str) -> RuntimeFailure:
    if "no space left" in why:
        return RuntimeFailure(
            f"no disk is left for image {image}: {why[:300]}; remove images (docker image prune -a)"
        )
    return ImageRefused(
        f"image {image} cannot be pulled: {why[:300]}; check its name and that the registry is "
        "public"
    )


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip() or "no reason given"
