"""Images from registries that lie (case 114)
├── a real engine pulls from a registry of the test, on loopback
│   ├── a tag that moves after the pin changes nothing; what differs from the digest is refused
│   ├── too many layers, too much announced, no end, too much unpacked, too slow: refused, disk flat
│   ├── volumes and LD_ variables, 401, 500 and HTML in place of an image: refused, nothing stays
│   └── a redirect inwards brings nothing in; the operator's log-ins are not used
├── what the engine reports, read without an engine
└── addresses: only registries on the public internet are asked
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import docker
import pytest

from tallystick.devnet.images import engine_answers
from tallystick.protocol.types import Address
from tallystick_provider.errors import ImageRefused, RuntimeFailure
from tallystick_provider.runtime.docker import DockerRuntime
from tallystick_provider.runtime.images import (
    ImageLimits,
    ImagePuller,
    PullTally,
    disk_finding,
    free_bytes,
    is_public,
    refuse_internal_registry,
)
from tests.provider.runtime.registry import (
    LAYER_TYPE,
    MANIFEST_TYPE,
    Registry,
    digest_of,
    endless,
    reply,
    serve,
    tar_of,
)

MIB = 1024 * 1024
PROVIDER = Address("0x" + "77" * 20)
SMALL = ImageLimits(
    image_mib=16,
    pull_seconds=60,
    reserve_mib=256,
    engine_memory_mib=16_384,  # it has a test of its own
)


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    if not engine_answers():
        pytest.skip("no Docker engine answers")
    with closing(docker.APIClient(version="auto", timeout=60)) as api:
        yield api


@pytest.fixture
def registry(api: Any) -> Iterator[Registry]:
    with serve() as registry:
        yield registry
        for image in api.images():
            for name in (*(image["RepoDigests"] or ()), *(image["RepoTags"] or ())):
                if name.startswith(registry.repository):
                    api.remove_image(name)


@pytest.fixture
def puller() -> ImagePuller:
    return puller_with(SMALL)


def puller_with(limits: ImageLimits) -> ImagePuller:
    return ImagePuller(docker.utils.kwargs_from_env, limits, check_registry=lambda _: None)


def pull(puller: ImagePuller, registry: Registry, digest: str) -> Any:
    return puller.pull(registry.name(digest), registry.repository)


def unique(size: int = 64) -> bytes:
    """A layer that no earlier test left in the engine."""
    return tar_of({"content": os.urandom(size)})


def layer_of(registry: Registry, digest: str) -> str:
    return str(json.loads(registry.manifests[digest])["layers"][0]["digest"])


def blob_path(digest: str) -> str:
    return f"/v2/app/blobs/{digest}"


def manifest_path(digest: str) -> str:
    return f"/v2/app/manifests/{digest}"


def is_here(api: Any, registry: Registry, digest: str) -> bool:
    try:
        api.inspect_image(registry.name(digest))
    except docker.errors.ImageNotFound:
        return False
    return True


@pytest.mark.docker
async def test_the_agent_pulls_by_digest(api: Any, registry: Registry) -> None:
    digest = registry.image([unique(), unique()])
    runtime = DockerRuntime(PROVIDER, images=SMALL, check_registry=lambda _: None)
    await runtime.prepare(registry.name(digest))
    assert registry.name(digest) in await runtime.images()
    await runtime.close()


@pytest.mark.docker
async def test_the_agent_asks_no_registry_inside(api: Any, registry: Registry) -> None:
    digest = registry.image([unique()])
    runtime = DockerRuntime(PROVIDER)
    with pytest.raises(ImageRefused, match="not on the public internet"):
        await runtime.prepare(registry.name(digest))
    await runtime.close()
    assert registry.asked == []


@pytest.mark.docker
def test_a_tag_that_moves_changes_nothing(
    api: Any, registry: Registry, puller: ImagePuller
) -> None:
    pinned = registry.image([unique()])
    registry.manifests["latest"] = registry.manifests[registry.image([unique()])]
    found = pull(puller, registry, pinned)
    assert found["Id"] == json.loads(registry.manifests[pinned])["config"]["digest"]
    assert not any(path.endswith("latest") for path in registry.asked)


@pytest.mark.docker
def test_another_manifest_than_the_digest_says_is_refused(
    api: Any, registry: Registry, puller: ImagePuller
) -> None:
    pinned, other = registry.image([unique()]), registry.image([unique()])
    registry.manifests[pinned] = registry.manifests[other]
    with pytest.raises(ImageRefused, match="verification failed"):
        pull(puller, registry, pinned)
    assert not is_here(api, registry, pinned)
    assert not is_here(api, registry, other)


@pytest.mark.docker
def test_another_layer_than_the_digest_says_is_refused(
    api: Any, registry: Registry, puller: ImagePuller
) -> None:
    digest = registry.image([unique()])
    layer = layer_of(registry, digest)
    registry.blobs[layer] = b"x" * len(registry.blobs[layer])
    with pytest.raises(ImageRefused, match="verification failed"):
        pull(puller, registry, digest)
    assert not is_here(api, registry, digest)


@pytest.mark.docker
def test_far_too_many_layers_are_refused_at_once(
    api: Any, registry: Registry, puller: ImagePuller
) -> None:
    """A thousand here: an engine of 20.10 takes gigabytes to forget ten thousand."""
    layers = [
        {"mediaType": LAYER_TYPE, "size": 100, "digest": digest_of(b"%d" % i)} for i in range(1000)
    ]
    digest = registry.image([unique()], descriptors=layers)
    with pytest.raises(ImageRefused, match=r"has 129 layers or more; at most 128.*squash"):
        pull(puller, registry, digest)
    assert len(registry.asked) < 200
    assert not is_here(api, registry, digest)


@pytest.mark.docker
@pytest.mark.parametrize("announced", [2**40, None], ids=["announced", "without an end"])
def test_a_layer_too_large_is_refused(
    api: Any, registry: Registry, puller: ImagePuller, announced: int | None
) -> None:
    digest = registry.image([unique()])
    registry.answers[blob_path(layer_of(registry, digest))] = endless(announced=announced)
    free = shutil.disk_usage(api.info()["DockerRootDir"]).free
    with pytest.raises(ImageRefused, match=r"is a download of .* at most 16 MiB; make it smaller"):
        pull(puller, registry, digest)
    assert free - shutil.disk_usage(api.info()["DockerRootDir"]).free < 512 * MIB
    assert not is_here(api, registry, digest)


@pytest.mark.docker
def test_a_layer_that_swells_is_refused(api: Any, registry: Registry, puller: ImagePuller) -> None:
    digest = registry.image([tar_of({"zero": bytes(512 * MIB)})])
    assert len(registry.blobs[layer_of(registry, digest)]) < MIB
    with pytest.raises(ImageRefused, match=r"(filled|takes) \d+ MiB of disk.*at most 16 MiB"):
        pull(puller, registry, digest)
    assert not is_here(api, registry, digest)


@pytest.mark.docker
def test_a_pull_has_an_end(api: Any, registry: Registry) -> None:
    digest = registry.image([unique()])
    done = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(MIB))
        handler.end_headers()
        while not done.wait(0.1):
            handler.wfile.write(b"x")

    registry.answers[blob_path(layer_of(registry, digest))] = slow
    try:
        started = time.monotonic()
        with pytest.raises(ImageRefused, match="not there after 1 s of pulling"):
            pull(puller_with(ImageLimits(pull_seconds=1, reserve_mib=0)), registry, digest)
        assert time.monotonic() - started < 10
    finally:
        done.set()


@pytest.mark.docker
def test_an_engine_that_waits_for_a_manifest_is_left(api: Any, registry: Registry) -> None:
    """It says nothing before it has all of it: the line is cut without an answer."""
    digest = registry.image([unique()])
    done = threading.Event()

    def never(handler: BaseHTTPRequestHandler) -> None:
        done.wait(60)
        reply(handler, 404, b"{}", "application/json")

    registry.answers[manifest_path(digest)] = never
    try:
        with pytest.raises(ImageRefused, match="not there after 1 s of pulling"):
            pull(puller_with(ImageLimits(pull_seconds=1, reserve_mib=0)), registry, digest)
    finally:
        done.set()


@pytest.mark.docker
def test_the_engines_memory_is_watched(
    api: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest without end is read into it. Its figures are made up here: a real one costs
    this machine gigabytes."""
    digest = registry.image([unique()])
    done = threading.Event()

    def never(_: BaseHTTPRequestHandler) -> None:
        done.wait(60)

    registry.answers[manifest_path(digest)] = never
    figures = iter([0, 500 * MIB])
    monkeypatch.setattr(
        "tallystick_provider.runtime.images.engine_memory_bytes", lambda: next(figures, 2048 * MIB)
    )
    try:
        with pytest.raises(ImageRefused, match=r"took 2048 MiB of memory.*at most 1024 MiB"):
            pull(puller_with(ImageLimits(reserve_mib=0)), registry, digest)
    finally:
        done.set()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"Volumes": {"/etc": {}}}, "volume '/etc'"),
        ({"Volumes": {f"/v{i}": {} for i in range(9)}}, "9 volumes"),
        ({"Env": ["LD_PRELOAD=/evil.so"]}, "LD_PRELOAD"),
    ],
)
def test_an_image_that_asks_for_too_much_does_not_stay(
    api: Any, registry: Registry, puller: ImagePuller, config: dict[str, Any], why: str
) -> None:
    digest = registry.image([unique()], config=config)
    with pytest.raises(ImageRefused, match=why):
        pull(puller, registry, digest)
    assert not is_here(api, registry, digest)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (401, b"no", "text/plain"),
        (500, b"oops", "text/plain"),
        (200, b"<html>welcome</html>", "text/html"),
        (200, b"{}", MANIFEST_TYPE),
    ],
)
def test_an_answer_that_is_no_image_is_refused(
    api: Any, registry: Registry, puller: ImagePuller, status: int, body: bytes, content_type: str
) -> None:
    digest = registry.image([unique()])
    registry.answers[manifest_path(digest)] = lambda h: reply(h, status, body, content_type)
    with pytest.raises(ImageRefused, match=r"cannot be pulled: .*check its name"):
        pull(puller, registry, digest)


@pytest.mark.docker
def test_a_redirect_inwards_brings_nothing_in(
    api: Any, registry: Registry, puller: ImagePuller
) -> None:
    """The engine follows it by itself: what it finds there is not what the digest says."""
    digest = registry.image([unique()])
    with serve() as inside:
        inside.answers["/secret"] = lambda h: reply(h, 200, b"SECRET", "text/plain")
        where = f"http://127.0.0.1:{inside.port}/secret"
        registry.answers[blob_path(layer_of(registry, digest))] = lambda h: reply(
            h, 307, b"", "text/plain", {"Location": where}
        )
        with pytest.raises(ImageRefused) as refused:
            pull(puller, registry, digest)
    assert "SECRET" not in str(refused.value)
    assert not is_here(api, registry, digest)


@pytest.mark.docker
def test_the_operators_logins_are_not_used(
    api: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login = base64.b64encode(b"operator:CANARY").decode()
    entry = {"auths": {f"127.0.0.1:{registry.port}": {"auth": login}}}
    (tmp_path / "config.json").write_text(json.dumps(entry))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    registry.answers["/v2/"] = lambda h: reply(h, 401, b"{}", "application/json", challenge)
    with pytest.raises(ImageRefused, match="registry is public"):
        pull(puller_with(SMALL), registry, registry.image([unique()]))
    assert registry.credentials == []


@pytest.mark.docker
def test_no_image_is_pulled_onto_a_full_disk(api: Any, registry: Registry) -> None:
    with pytest.raises(RuntimeFailure, match="stay free: no image is pulled") as failed:
        pull(puller_with(ImageLimits(reserve_mib=2**40)), registry, registry.image([unique()]))
    assert not isinstance(failed.value, ImageRefused)
    assert registry.asked == []


# --- without an engine ----------------------------------------------------------------------------


def layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"id": name, "status": status, "progressDetail": {"current": current, "total": total}}


def test_layers_count_once_and_by_their_larger_figure() -> None:
    tally = PullTally("x", ImageLimits(image_mib=2, layers=2))
    tally.add({"id": "sha256:ab", "status": "Pulling from app"})
    for at in (1, MIB, MIB // 2):
        tally.add(layer("a", "Downloading", at, MIB))
    tally.add(layer("a", "Extracting", 9 * MIB, 9 * MIB))
    tally.add(layer("b", "Downloading", MIB))
    tally.add({"status": "Digest: sha256:ab"})
    with pytest.raises(ImageRefused, match="a download of 2 MiB or more"):
        tally.add(layer("b", "Downloading", MIB + 1))
    with pytest.raises(ImageRefused, match="has 3 layers"):
        tally.add(layer("c", "Already exists"))


def test_of_ten_thousand_layers_few_are_read() -> None:
    tally = PullTally("x", ImageLimits())
    manifest = iter([layer(str(i), "Pulling fs layer") for i in range(10_000)])
    with pytest.raises(ImageRefused, match="has 129 layers or more"):
        deque(map(tally.add, manifest), maxlen=0)
    assert len(list(manifest)) == 10_000 - 129


def test_a_full_disk_is_not_the_images_fault() -> None:
    tally = PullTally("x", ImageLimits())
    with pytest.raises(RuntimeFailure, match="no disk is left") as failed:
        tally.add({"error": "write /data/layer: no space left on device"})
    assert not isinstance(failed.value, ImageRefused)
    with pytest.raises(ImageRefused, match="denied"):
        tally.add({"error": "denied"})


def test_doctor_says_whether_there_is_room(tmp_path: Path) -> None:
    assert free_bytes(Path("/no/such/place")) is None
    assert free_bytes(Path("relative")) is None
    unseen = disk_finding({"DockerRootDir": "/no/such/place"}, ImageLimits())
    assert "read-only" in unseen.fix
    here = {"DockerRootDir": str(tmp_path)}
    assert disk_finding(here, ImageLimits(image_mib=1, reserve_mib=1)).fix == ""
    assert "IMAGE_MIB" in disk_finding(here, ImageLimits(image_mib=2**40)).fix


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:0a00:0001::1",
        "2001:0:53aa:64c:0:0:f5ff:fffe",
    ],
)
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_outer_addresses_are_public() -> None:
    assert is_public("1.1.1.1")
    assert is_public("2606:4700:4700::1111")
    assert is_public("64:ff9b::101:101")


@pytest.mark.parametrize(
    "found", [["1.1.1.1", "10.0.0.1"], ["::ffff:127.0.0.1"], []], ids=["one of two", "v6", "none"]
)
def test_a_name_with_an_inner_address_is_not_asked(
    found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: Callable[..., Any] = lambda *_, **__: [(0, 0, 0, "", (a, 443)) for a in found]  # noqa: E731
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(ImageRefused, match="not on the public internet"):
        refuse_internal_registry("registry.example/app")
